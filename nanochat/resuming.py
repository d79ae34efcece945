"""What a training script asks of its folder before it begins: is there a run to go on with, may it be touched, is it the same run?"""

import fcntl
import json
import shutil
import time
from pathlib import Path
from typing import TextIO

from nanochat.checkpoint_manager import STEP_FILE, check_step, complete_steps, find_last_step, find_problem, meta_file, read_meta, tag_flag
from nanochat.common import Compute, UserError, print0, write_text
from nanochat.train_log import SUMMARY_NAME

SHARED_SECONDS = 120  # network file systems show new files after up to a minute, and give a vanished node's locks back after one and a half


def step_to_resume(directory: Path, resume: bool, from_step: int, overwrite: bool) -> int | None:
    """The step to go on from, None to start anew. What another run left is never written over by accident."""
    if from_step >= 0:
        check_step(directory, from_step)
        return from_step
    steps = complete_steps(directory, optimizer=False)
    if not steps or overwrite:
        return None
    if resume:
        return find_last_step(directory)
    state = "a finished run" if is_finished(directory, steps[-1]) else f"a run that got to step {steps[-1]}"
    raise UserError(f"{directory} already holds {state}: go on with it (--resume auto), delete it (--overwrite), "
                    f"or choose another folder ({tag_flag(directory)} NAME)")  # fmt: skip


def step_of_all_ranks(directory: Path, step: int | None, compute: Compute) -> int | None:
    """The step that all ranks go on from: the last one that any of them sees. What one node writes to a file system that they share, another may see
    some seconds later; on their own they would go on from different steps. So they wait until they see it."""
    if not compute.ddp:
        return step
    import torch
    import torch.distributed as dist

    newest = torch.tensor(-1 if step is None else step, device=compute.device)
    dist.all_reduce(newest, dist.ReduceOp.MAX)
    if newest < 0:
        return None
    deadline = time.monotonic() + SHARED_SECONDS
    while find_problem(directory, int(newest)) and time.monotonic() < deadline:
        time.sleep(1)
    check_step(directory, int(newest))
    return int(newest)


def read_run(directory: Path, step: int) -> dict:
    """The meta of a step that this project's training saved; others have weights to offer, but not where their data stood."""
    meta = read_meta(directory, step)
    if "progress" not in meta:
        start = f"--init-from {directory.name}:{step} --model-tag NAME" if tag_flag(directory) == "--model-tag" else "--output-tag NAME"
        raise UserError(f"step {step} in {directory} was not saved by this project's training, so it cannot be resumed: start a new run "
                        f"({start})")  # fmt: skip
    return meta


def is_finished(directory: Path, step: int) -> bool:
    """The summary is written last: a run that was killed in its final evaluation has that still to do."""
    try:
        summary = json.loads((directory / SUMMARY_NAME).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return False
    return bool(summary.get("finished")) and summary.get("steps") == step


def lock_run(directory: Path, patience: float = 0) -> TextIO:
    """Two runs must not write into one folder. The lock lasts as long as the file that is returned is open, and ends with its process.
    Its file stands beside the folder, which may be deleted and made anew. Whoever goes on after a crash has patience, in seconds: what is left of the
    run before may still be ending, and the lock of a node that vanished lasts until the file server has noticed."""
    directory.parent.mkdir(parents=True, exist_ok=True)
    file = open(directory.parent / f".{directory.name}.lock", "w", encoding="utf-8")  # noqa: SIM115
    locked, deadline = _try_lock(file), time.monotonic() + patience
    if not locked and patience:
        print0(f"another run is writing into {directory}; waiting up to {patience:.0f} seconds for it to end")
    while not locked and time.monotonic() < deadline:
        time.sleep(0.5)
        locked = _try_lock(file)
    if not locked:
        file.close()
        raise UserError(f"another run is writing into {directory}: wait for it, or choose another folder ({tag_flag(directory)} NAME)")
    return file


def _try_lock(file: TextIO) -> bool:
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        return False
    return True


def set_aside_later(directory: Path, step: int) -> None:
    """Who goes back to an earlier step starts a branch. What came after it before is kept, where nobody takes it for the run's last word."""
    later = [path for path in sorted(directory.glob("*_*")) if (match := STEP_FILE.fullmatch(path.name)) and int(match["step"]) > step]
    if not later:
        return
    folder = directory / f"later_than_{step:06d}"
    folder.mkdir(exist_ok=True)
    for path in later:  # meta_… sorts before model_… and optim_…: what a kill leaves behind is no checkpoint
        path.replace(folder / path.name)
    print0(f"the steps after {step} are now in {folder}")


def check_same_config(saved: dict, config: dict, directory: Path) -> None:
    different = [f"{name} is {saved[name]} there and {value} here" for name, value in config.items() if saved.get(name, value) != value]
    if different:
        raise UserError(f"{directory} holds another model ({'; '.join(different)}): "
                        f"give the flags of that run, or choose another {tag_flag(directory)}")  # fmt: skip


def delete_run(directory: Path, compute: Compute) -> None:
    if compute.rank == 0 and directory.exists():
        for path in sorted(directory.glob("meta_*.json")):  # first: what a kill leaves of the rest is then no checkpoint
            path.unlink()
        shutil.rmtree(directory)
    if compute.ddp:
        import torch.distributed as dist

        dist.barrier()


def update_meta(directory: Path, step: int, **values) -> None:
    """Add what became known after the step was saved."""
    meta = {**read_meta(directory, step), **values}
    write_text(directory / meta_file(step), json.dumps(meta, indent=2))
