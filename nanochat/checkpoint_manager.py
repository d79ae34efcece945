"""Checkpoints on disk: saved so that a crash at any moment loses nothing earlier, found, checked and loaded.

    base_checkpoints/d12/model_001000.pt         the weights
                         optim_001000_rank0.pt   what each rank needs to go on: its share of the optimizer, its loader
                         meta_001000.json        everything else; lists the files above with their sizes
                         tokenizer/              the one that this model was trained with

Each file appears under its name in one piece, and meta appears last: where it is, and the sizes are those that it lists, the step is whole.
Checkpoints of karpathy/nanochat list no sizes and keep no tokenizer; they are loaded all the same.
"""

import contextlib
import json
import pickle
import re
import zipfile
from collections.abc import Callable
from dataclasses import asdict, fields
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from nanochat.common import UserError, atomic_path, autodetect_device_type, check_name, get_base_dir, print0, sync_directory, write_text
from nanochat.tokenizer import Tokenizer, tokenizer_dir

if TYPE_CHECKING:
    import torch

    from nanochat.gpt import GPT, GPTConfig

# The model and torch are imported where they are needed: looking for steps needs neither.

PHASES = {  # the folder of each phase's checkpoints, and what makes them
    "base": ("base_checkpoints", "scripts.base_train"),
    "sft": ("chatsft_checkpoints", "scripts.chat_sft"),
    "rl": ("chatrl_checkpoints", "scripts.chat_rl"),
}
# A file of a step, or, with dots at both ends, what a killed process left of one.
STEP_FILE = re.compile(r"\.?(?:model|optim|meta)_(?P<step>\d{6,})(?:_rank\d+)?\.(?:pt|json)(?:\..*\.tmp)?")
SHARD_FILE = re.compile(r"optim_\d{6,}_rank(\d+)\.pt")
# What models had not yet when older checkpoints were made, and the values with which it does nothing.
NEUTRAL = {"resid_lambdas": 1.0, "x0_lambdas": 0.0, "smear_gate.weight": 0.0, "smear_lambda": 0.0, "backout_lambda": 0.0}


def checkpoints_dir(phase: str) -> Path:
    if phase not in PHASES:
        raise UserError(f"there are no checkpoints of {phase!r}: choose one of {', '.join(PHASES)}")
    return get_base_dir() / PHASES[phase][0]


def tag_flag(directory: Path) -> str:
    """The flag that names this folder: pretraining makes a model, and later stages make another one of it."""
    return "--output-tag" if directory.parent.name in (PHASES["sft"][0], PHASES["rl"][0]) else "--model-tag"


def model_file(step: int) -> str:
    return f"model_{step:06d}.pt"


def optimizer_file(step: int, rank: int) -> str:
    return f"optim_{step:06d}_rank{rank}.pt"


def meta_file(step: int) -> str:
    return f"meta_{step:06d}.json"


# --- saving ----------------------------------------------------------------------------------------------------------


def save_checkpoint(
    directory: Path,
    step: int,
    model_state: dict | None,
    optim_state: dict | None,
    meta: dict | None,
    *,
    rank: int = 0,
    world_size: int = 1,
    tokenizer: Tokenizer | None = None,
) -> None:
    """Called by all ranks together. Rank 0 writes the model and the meta, each rank its own optim_state; None is not saved.

    If anything fails on any rank, all ranks raise, the step leaves no files, and the steps before it are as they were.
    """
    part = _Part(directory, step, rank, model_state, optim_state, meta, tokenizer)
    what = f"step {step} was not saved in {directory}"
    _on_all_ranks(world_size, part.prepare, what)
    sizes = _on_all_ranks(world_size, part.write, what, part.undo)
    files = {name: size for of_rank in sizes for name, size in of_rank.items()}
    _on_all_ranks(world_size, lambda: part.finish(files), what, part.undo)


class _Part(NamedTuple):
    """One rank's part in saving a step."""

    directory: Path
    step: int
    rank: int
    model_state: dict | None
    optim_state: dict | None
    meta: dict | None
    tokenizer: Tokenizer | None

    def prepare(self) -> None:
        if self.rank == 0:
            json.dumps({**self.meta})  # better an error here than after the large files
            if self.tokenizer is not None:
                store_tokenizer(self.directory, self.tokenizer)
            _clear(self.directory, self.step)

    def write(self) -> dict[str, int]:
        """The sizes of the files that this rank wrote."""
        sizes = {}
        if self.rank == 0:
            name, state = model_file(self.step), _plain_names(self.model_state)
            sizes[name] = _write_tensors(self.directory / name, {key: value.detach().cpu() for key, value in state.items()})
        if self.optim_state is not None:
            name = optimizer_file(self.step, self.rank)
            sizes[name] = _write_tensors(self.directory / name, self.optim_state)
        return sizes

    def finish(self, files: dict[str, int]) -> None:
        if self.rank == 0:
            _warn_of_unseen(self.directory, files)
            write_text(self.directory / meta_file(self.step), json.dumps({**self.meta, "step": self.step, "files": files}, indent=2))

    def undo(self) -> None:
        shard = optimizer_file(self.step, self.rank)
        for name in [shard] if self.rank else [meta_file(self.step), model_file(self.step), shard]:
            with contextlib.suppress(OSError):
                (self.directory / name).unlink()


def store_tokenizer(directory: Path, tokenizer: Tokenizer) -> None:
    """Keep a copy beside the weights."""
    check_tokenizer(directory, tokenizer)
    if not (directory / "tokenizer" / "tokenizer.json").exists():
        tokenizer.save(directory / "tokenizer")


def check_tokenizer(directory: Path, tokenizer: Tokenizer) -> None:
    """If another one is there already, it belongs to other weights: an error, which a run should meet at its start."""
    if not (directory / "tokenizer" / "tokenizer.json").exists():
        return
    there = Tokenizer.from_directory(directory / "tokenizer")
    if (there.pattern, there.ranks, there.special) != (tokenizer.pattern, tokenizer.ranks, tokenizer.special):
        raise UserError(f"{directory} holds models with another tokenizer ({there.get_vocab_size()} tokens; this one has "
                        f"{tokenizer.get_vocab_size()}): choose another {tag_flag(directory)}, or delete that folder")  # fmt: skip


def _clear(directory: Path, step: int) -> None:
    """Make way for a step: its old files, the meta first, lest it describe new ones; and whatever killed processes left of any step."""
    files = _files_by_step(directory)
    _delete(files.get(step, []))
    _delete([path for paths in files.values() for path in paths if path.name.startswith(".")])
    if directory.is_dir():
        sync_directory(directory)  # a power cut must not bring the old meta back once there are new files


def _write_tensors(path: Path, state: dict) -> int:
    """Returns the size in bytes. torch writes through a Python file, which can say that the disk is full; its own only says 'unexpected pos'."""
    import torch

    with atomic_path(path) as temporary:
        with open(temporary, "wb") as file:
            torch.save(state, file)
        return temporary.stat().st_size


def _plain_names(state: dict) -> dict:
    """Without the mark that torch.compile leaves in the names."""
    return {name.replace("_orig_mod.", ""): value for name, value in state.items()}


def _warn_of_unseen(directory: Path, files: dict[str, int]) -> None:
    """Not an error: it would cost a run its model, which is whole here."""
    if unseen := [name for name in files if not (directory / name).exists()]:
        print0(f"warning: other nodes wrote {', '.join(unseen)}, but not into the {directory} of this node. The model is saved; to resume, "
               "these files must be in the same folder: let NANOCHAT_BASE_DIR be on a file system that all nodes share")  # fmt: skip


def _on_all_ranks(world_size: int, action: Callable[[], object], what: str, undo: Callable[[], None] = lambda: None) -> list:
    """The results of all ranks. If the action failed on one of them, every rank undoes its part and raises: nobody waits for one that gave up."""
    result, error = None, None
    try:
        result = action()
    except Exception as caught:
        error = caught
    reports = _gather((result, None if error is None else _reason(error)), world_size)
    failures = {rank: reason for rank, (_, reason) in enumerate(reports) if reason is not None}
    if not failures:
        return [result for result, _ in reports]
    undo()
    if error is not None and (isinstance(error, UserError) or _disk_error(error) is None):
        raise error  # it says enough, or it is a mistake of ours
    rank, reason = next(iter(failures.items()))
    raise UserError(f"{what}: {f'rank {rank}: ' if world_size > 1 else ''}{reason}") from error


def _gather(mine: object, world_size: int) -> list:
    if world_size == 1:
        return [mine]
    import torch.distributed as dist

    everyone: list = [None] * world_size
    dist.all_gather_object(everyone, mine)
    return everyone


def _reason(error: Exception) -> str:
    if isinstance(error, UserError):
        return str(error)
    if (disk := _disk_error(error)) is None:
        return f"{type(error).__name__}: {error}"
    where = f" at {disk.filename}" if disk.filename else ""
    return f"{disk.strerror or disk}{where}. Make room or set NANOCHAT_BASE_DIR to a folder that can be written. Steps saved before are whole"


def _disk_error(error: BaseException | None) -> OSError | None:
    """torch wraps what the disk said in a complaint of its own about the consequences."""
    while error is not None and not isinstance(error, OSError):
        error = error.__cause__ or error.__context__
    return error


# --- finding ---------------------------------------------------------------------------------------------------------


def complete_steps(directory: Path, optimizer: bool = True) -> list[int]:
    """The steps of which all files are whole, in order. Models are given away without their optimizer: optimizer=False asks for no more than them."""
    return sorted(step for step in _files_by_step(directory) if find_problem(directory, step, optimizer) is None)


def find_last_step(directory: Path, optimizer: bool = True) -> int:
    """The last whole step. What is not whole is left aside with a warning."""
    last = None
    for step in sorted(_files_by_step(directory)):
        if problem := find_problem(directory, step, optimizer):
            print0(f"warning: step {step} is not whole and is left aside: {problem}")
        else:
            last = step
    if last is None:
        raise UserError(f"there is no whole checkpoint in {directory}: make one with {_how_to_make(directory)}")
    return last


def find_largest_model(checkpoints_dir: Path) -> str:
    """The tag d<number> of the largest number; where there is none, the tag that was written last."""
    tags = _usable_tags(checkpoints_dir)
    if not tags:
        raise UserError(f"there is no whole model in {checkpoints_dir}: make one with {_how_to_make(checkpoints_dir)}")
    if depths := [tag for tag in tags if re.fullmatch(r"d\d+", tag)]:
        return max(depths, key=lambda tag: int(tag[1:]))
    return max(tags, key=lambda tag: tags[tag])


def _usable_tags(checkpoints_dir: Path) -> dict[str, float]:
    """Each folder with a whole model in it, and when the last of them was written."""
    tags = {}
    for directory in sorted(checkpoints_dir.glob("*/")):
        if steps := complete_steps(directory, optimizer=False):
            tags[directory.name] = (directory / meta_file(steps[-1])).stat().st_mtime
    return tags


def find_problem(directory: Path, step: int, optimizer: bool = True) -> str | None:
    """What is wrong with the files of a step, if anything. Sizes are compared, contents are not read."""
    try:
        meta = read_meta(directory, step)
        files = _files_of(directory, step, meta, optimizer)
    except UserError as error:
        return str(error)
    return next((problem for name, size in files.items() if (problem := _file_problem(directory / name, size))), None)


def check_step(directory: Path, step: int, optimizer: bool = True) -> None:
    if problem := find_problem(directory, step, optimizer):
        steps = complete_steps(directory, optimizer)
        remedy = f"Take another step; whole are {', '.join(map(str, steps))}" if steps else f"No step there is whole: run {_how_to_make(directory)}"
        raise UserError(f"step {step} cannot be loaded: {problem}. {remedy}")


def read_meta(directory: Path, step: int) -> dict:
    path = directory / meta_file(step)
    try:
        meta = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise UserError(f"{path} is missing" + (", so its step was not saved to the end" if step in _files_by_step(directory) else "")) from None
    except (OSError, ValueError) as error:
        raise UserError(f"{path} cannot be read ({error})") from error
    if not isinstance(meta, dict):
        raise UserError(f"{path} is no description of a checkpoint")
    return meta


def _files_of(directory: Path, step: int, meta: dict, optimizer: bool) -> dict[str, int | None]:
    """Name and size of the files that a step needs. karpathy/nanochat lists no sizes: what is there must do."""
    shards = (path.name for path in _files_by_step(directory).get(step, []) if SHARD_FILE.fullmatch(path.name))
    files = meta.get("files", dict.fromkeys([model_file(step), *shards]))
    if not isinstance(files, dict) or model_file(step) not in files:
        raise UserError(f"{directory / meta_file(step)} lists its files in a way that makes no sense")
    return {name: size for name, size in files.items() if name == model_file(step) or (optimizer and SHARD_FILE.fullmatch(name))}


def _file_problem(path: Path, size: int | None) -> str | None:
    if not path.is_file():
        return f"{path} is missing"
    if size is None:  # the end of a zip file names all its parts: where it can be found the file is not cut off
        return None if zipfile.is_zipfile(path) else f"{path} has {path.stat().st_size:,} bytes and is not a whole file of torch.save"
    return None if path.stat().st_size == size else f"{path} has {path.stat().st_size:,} bytes and should have {size:,}"


def _files_by_step(directory: Path) -> dict[int, list[Path]]:
    """All files of all steps, leftovers among them, in the order in which they can be deleted: of the whole ones, meta comes first."""
    files: dict[int, list[Path]] = {}
    for path in sorted(directory.iterdir()) if directory.is_dir() else ():
        if match := STEP_FILE.fullmatch(path.name):
            files.setdefault(int(match["step"]), []).append(path)
    return files


def _delete(paths: list[Path]) -> None:
    for path in paths:
        path.unlink(missing_ok=True)


def _how_to_make(directory: Path) -> str:
    script = next((script for folder, script in PHASES.values() if folder in (directory.name, directory.parent.name)), "scripts.base_train")
    return f"python -m {script}"


# --- loading ---------------------------------------------------------------------------------------------------------


def load_checkpoint(
    directory: Path, step: int, device: "torch.device | str" = "cpu", load_optimizer: bool = False
) -> tuple[dict, list[dict] | None, dict]:
    """(the model's state on the device, what each rank saved besides, meta). Only the files that are asked for need to be there.

    The shards of all ranks stay mapped files on the CPU: a rank copies its share out of them, and the rest is never read.
    """
    check_step(directory, step, load_optimizer)
    meta = read_meta(directory, step)
    state = _read_tensors(directory / model_file(step), device)
    shards = _read_shards(directory, step, meta) if load_optimizer else None
    return _plain_names(state), shards, meta


def _read_shards(directory: Path, step: int, meta: dict) -> list[dict]:
    names = [name for name in _files_of(directory, step, meta, optimizer=True) if name != model_file(step)]
    ranks = sorted(int(SHARD_FILE.fullmatch(name)[1]) for name in names)
    if not ranks:
        raise UserError(f"step {step} in {directory} has no optimizer state: the model can be used, but its training cannot be resumed")
    if ranks != list(range(len(ranks))):
        raise UserError(f"of step {step} in {directory} there are optimizer states of the ranks {ranks}: bring those between, or take another step")
    return [_read_tensors(directory / optimizer_file(step, rank), "cpu") for rank in ranks]


def _read_tensors(path: Path, device: "torch.device | str") -> dict:
    import torch

    try:
        state = torch.load(path, map_location=device, weights_only=True, mmap=True)
    except (MemoryError, torch.OutOfMemoryError):
        raise
    except pickle.UnpicklingError as error:
        raise UserError(f"{path} is not loaded: it is damaged, or it holds more than tensors and plain values, which could execute code. "
                        "Take another step, or a checkpoint from somebody you trust") from error  # fmt: skip
    except Exception as error:  # torch, zip and pickle have many ways of saying it
        raise UserError(f"{path} cannot be read ({str(error).splitlines()[0] if str(error) else type(error).__name__}): take another step") from error
    if not isinstance(state, dict):
        raise UserError(f"{path} holds a {type(state).__name__} and no state: it is not a file of this project")
    return state


def load_model(
    source: str, device: "torch.device | str", phase: str, model_tag: str | None = None, step: int | None = None
) -> tuple["GPT", Tokenizer, dict]:
    """(model, tokenizer, meta) of a source (base, sft, rl), by default the largest model and its last step; phase is train or eval."""
    assert phase in ("train", "eval"), phase
    folder = checkpoints_dir(source)
    directory = folder / (check_name("model tag", model_tag) if model_tag else find_largest_model(folder))
    if not _files_by_step(directory):
        tags = f"the models there are {', '.join(_usable_tags(folder))}" if _usable_tags(folder) else f"make one with {_how_to_make(folder)}"
        raise UserError(f"there is no model {directory.name!r} in {folder}: {tags}")
    step = find_last_step(directory, optimizer=False) if step is None else step
    state, _, meta = load_checkpoint(directory, step)
    tokenizer, place = _tokenizer_of(directory)
    where = directory / meta_file(step)
    config = config_from(meta, where)
    if tokenizer.get_vocab_size() != config.vocab_size:
        raise UserError(f"the tokenizer in {place} has {tokenizer.get_vocab_size()} tokens and the model of {where} has {config.vocab_size}: "
                        f"put the tokenizer that it was trained with into {directory / 'tokenizer'}")  # fmt: skip
    return build_model(config, state, device, directory / model_file(step)).train(phase == "train"), tokenizer, meta


def read_config(source: str, model_tag: str, step: int | None = None) -> dict:
    """The configuration of a model, without loading it."""
    directory = checkpoints_dir(source) / model_tag
    step = find_last_step(directory, optimizer=False) if step is None else step
    check_step(directory, step, optimizer=False)
    return asdict(config_from(read_meta(directory, step), directory / meta_file(step)))


def _tokenizer_of(directory: Path) -> tuple[Tokenizer, Path]:
    """The copy beside the weights; karpathy/nanochat keeps none and has only one."""
    own = directory / "tokenizer"
    place = own if any((own / name).exists() for name in ("tokenizer.json", "tokenizer.pkl")) else tokenizer_dir()
    return Tokenizer.from_directory(place), place


def config_from(meta: dict, where: Path) -> "GPTConfig":
    """The model's configuration as a meta has it. Older ones know no windows; others may know more than we do."""
    from nanochat.gpt import GPTConfig

    saved = meta.get("model_config")
    if not isinstance(saved, dict):
        raise UserError(f"{where} has no model_config: it does not describe a model")
    saved = {"window_pattern": "L", **saved}
    kinds = {field.name: str if field.name == "window_pattern" else int for field in fields(GPTConfig)}
    if unknown := sorted(saved.keys() - kinds.keys()):
        print0(f"warning: {where} has settings that are unknown here and ignored: {', '.join(unknown)}")
    wrong = [name for name, kind in kinds.items() if type(saved.get(name)) is not kind or (kind is int and saved[name] < 1)]
    if wrong or saved["n_embd"] % saved["n_head"] or saved["n_head"] % saved["n_kv_head"]:
        raise UserError(f"{where}: no model can be built from its model_config; look at {', '.join(wrong) or 'n_embd, n_head and n_kv_head'}")
    return GPTConfig(**{name: saved[name] for name in kinds})


def build_model(config: "GPTConfig", state: dict, device: "torch.device | str", where: Path) -> "GPT":
    """A model with these weights, each in the dtype that the device wants. The state may be mapped from a file: it is copied once."""
    import torch

    from nanochat.gpt import GPT, new_model

    with torch.device("meta"):  # where it takes no room
        wanted = GPT(config).state_dict()
    state = _fitting(state, wanted, where)
    with _no_random_init():
        model = new_model(config, device)
    model.load_state_dict(state, strict=True)
    return model


def _fitting(state: dict, wanted: dict, where: Path) -> dict:
    """The state with what older models lacked filled in; an error if it is not one of such a model."""
    import torch

    if filled := [name for name in NEUTRAL if name in wanted and name not in state]:
        print0(f"note: {where} is of an older kind of model, without {', '.join(filled)}; they are set so that they do nothing")
        state = {**state, **{name: torch.full(wanted[name].shape, NEUTRAL[name]) for name in filled}}
    problems = [f"{name} is missing" for name in wanted if name not in state]
    problems += [f"{name} is unknown" for name in state if name not in wanted]
    problems += [
        f"{name} is {_shape(state[name])} instead of {_shape(wanted[name])}"
        for name in wanted
        if name in state and _shape(state[name]) != _shape(wanted[name])
    ]
    if problems:
        more = f"; and {len(problems) - 4} more like these" if len(problems) > 4 else ""
        raise UserError(f"{where} is no checkpoint of such a model as its meta describes: {'; '.join(problems[:4])}{more}. "
                        "Bring model and meta of one and the same run")  # fmt: skip
    return state


def _shape(value: object) -> str:
    return str(list(value.shape)) if hasattr(value, "shape") else f"a {type(value).__name__}"


def _no_random_init() -> contextlib.AbstractContextManager:
    """Leave out the drawing of random weights that are overwritten at once: it takes long, and it would shift the random numbers of a resumed run."""
    from torch.overrides import TorchFunctionMode

    class Skip(TorchFunctionMode):
        def __torch_function__(self, function, types, args=(), kwargs=None):
            if getattr(function, "__module__", None) == "torch.nn.init":
                return (kwargs or {}).get("tensor", args[0] if args else None)
            return function(*args, **(kwargs or {}))

    return Skip()


# --- one folder as an object -----------------------------------------------------------------------------------------


class CheckpointManager:
    """The checkpoints of one folder."""

    def __init__(self, directory: Path | str):
        self.directory = Path(directory)

    @property
    def latest(self) -> int | None:
        """The last whole step."""
        return max(complete_steps(self.directory), default=None)

    def save(self, step: int, model: "GPT", optimizer_state: dict | None = None, meta: dict | None = None, **ranks_and_tokenizer) -> None:
        """The rest is as for save_checkpoint: rank, world_size, tokenizer."""
        meta = {"model_config": asdict(model.config), **(meta or {})}
        save_checkpoint(self.directory, step, model.state_dict(), optimizer_state, meta, **ranks_and_tokenizer)

    def load(self, step: int | None = None, device: "torch.device | str | None" = None) -> tuple["GPT", "GPTConfig"]:
        """A step, or the last one, ready to be used, on the best device there is unless told otherwise."""
        step = find_last_step(self.directory, optimizer=False) if step is None else step
        state, _, meta = load_checkpoint(self.directory, step)
        config = config_from(meta, self.directory / meta_file(step))
        return build_model(config, state, device or autodetect_device_type(), self.directory / model_file(step)).eval(), config

    def keep_last(self, k: int) -> None:
        """Delete all but the last k whole steps, and what is left of broken ones before them. For one rank to call, after a save.

        The last k models without their optimizer stay as well: somebody else may have taken it away on purpose.
        """
        if k < 1:
            raise UserError(f"keeping {k} checkpoints would delete the newest: keep 1 or more")
        whole = complete_steps(self.directory)
        kept = {*whole[-k:], *complete_steps(self.directory, optimizer=False)[-k:]}
        for step, paths in _files_by_step(self.directory).items():
            if step not in kept and step < max(whole, default=0):
                _delete(paths)
