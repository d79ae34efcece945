"""scripts/base_train.py: the run itself, stopping and resuming it, several ranks, and what it says when something is wrong."""

import json
import os
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from helpers import same, stop_at

from nanochat import checkpoint_manager, training
from nanochat.common import UserError
from nanochat.gpt import GPT
from scripts import base_train

ROOT = Path(__file__).parent.parent
# A model of two layers and 16 rows of 64 tokens in a step
TINY = ["--dataset", "tinyworld", "--depth", "2", "--aspect-ratio", "16", "--head-dim", "16", "--max-seq-len", "64", "--device-batch-size", "4",
        "--total-batch-size", "1024", "--eval-every", "-1", "--core-metric-every", "-1", "--sample-every", "-1", "--warmup-steps", "2",
        "--matrix-lr", "0.3", "--embedding-lr", "4", "--unembedding-lr", "0.1"]  # fmt: skip


@pytest.fixture
def world(small_world, tmp_path, monkeypatch) -> Path:
    """A base dir with the data of small_world, to write checkpoints into."""
    for name in ("base_data_tinyworld", "tokenizer_tinyworld"):
        (tmp_path / name).symlink_to(small_world / name)
    monkeypatch.setenv("NANOCHAT_BASE_DIR", str(tmp_path))
    monkeypatch.setattr("nanochat.hardware.measure_peak_flops", lambda *_: 1e12)  # it takes a second, and nothing here depends on it
    handlers = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}
    yield tmp_path
    for number, handler in handlers.items():
        signal.signal(number, handler)


@pytest.fixture
def train(world, monkeypatch):
    def run(*flags: str) -> int:
        monkeypatch.setattr(sys, "argv", ["base_train", *TINY, *flags])
        return base_train.main(base_train.parse_args())

    return run


def folder(world: Path, tag: str) -> Path:
    return world / "base_checkpoints" / tag


def losses(world: Path, tag: str) -> dict[int, float]:
    lines = [json.loads(line) for line in (folder(world, tag) / "metrics.jsonl").read_text().splitlines()]
    return {line["step"]: line["loss"] for line in lines if "loss" in line}


def saved(world: Path, tag: str, step: int) -> tuple[dict, list[dict]]:
    weights, shards, _ = checkpoint_manager.load_checkpoint(folder(world, tag), step, load_optimizer=True)
    return weights, shards


def assert_same_run(world: Path, one: str, other: str, step: int) -> None:
    assert losses(world, one) == losses(world, other)
    assert same(saved(world, one, step), saved(world, other, step))  # weights, optimizer, and the loader with its next batches


# --- the run ---------------------------------------------------------------------------------------------------------


def test_it_learns_and_says_so(train, world, capsys):
    assert train("--num-iterations", "30", "--eval-every", "15", "--eval-tokens", "2048", "--sample-every", "30", "--model-tag", "first") == 0
    said, log = capsys.readouterr().out, losses(world, "first")
    assert list(log) == list(range(1, 31)) and log[30] < log[1] - 1.5
    summary = json.loads((folder(world, "first") / "summary.json").read_text())
    meta = json.loads((folder(world, "first") / "meta_000030.json").read_text())
    assert summary["finished"] and summary["steps"] == 30 and summary["tokens"] == 30 * 1024
    assert summary["val_bpb"] == meta["val_bpb"] == meta["progress"]["val_bpb"] < 3
    assert meta["model_config"]["n_layer"] == 2 and meta["user_config"]["matrix_lr"] == 0.3
    for text in ("scaling parameters", "first step after", "validation bits per byte", "tok/s", "mfu", "eta", "The capital of France is|"):
        assert text in said
    model, tokenizer, _ = checkpoint_manager.load_model("base", "cpu", "eval", "first")
    assert tokenizer.get_vocab_size() == model.config.vocab_size == 1024


def test_the_logged_loss_is_that_of_the_whole_step(train, world):
    """However the batch is cut into micro-batches."""
    train("--num-iterations", "3", "--model-tag", "whole", "--device-batch-size", "16")
    train("--num-iterations", "3", "--model-tag", "cut", "--device-batch-size", "2")
    for step, loss in losses(world, "whole").items():
        assert losses(world, "cut")[step] == pytest.approx(loss, rel=2e-3)  # bf16


def test_it_saves_before_it_evaluates(train, world, monkeypatch):
    def failing(*_):
        raise RuntimeError("evaluation broke")

    monkeypatch.setattr("nanochat.loss_eval.evaluate_bpb", failing)
    with pytest.raises(RuntimeError, match="evaluation broke"):
        train("--num-iterations", "2", "--eval-every", "2", "--model-tag", "early")  # fails at step 0 already
    assert not folder(world, "early").joinpath("meta_000002.json").exists()
    with pytest.raises(RuntimeError, match="evaluation broke"):
        train("--num-iterations", "2", "--eval-every", "3", "--model-tag", "late", "--overwrite")
    # (at step 0 again: validation is due there; from step 1 on, only the end is)
    monkeypatch.setattr(training, "due", lambda every, step: step > 0 and every > 0 and step % every == 0)
    with pytest.raises(RuntimeError, match="evaluation broke"):
        train("--num-iterations", "2", "--eval-every", "2", "--model-tag", "saved")
    assert checkpoint_manager.complete_steps(folder(world, "saved")) == [2]


def test_keep_last_and_overwrite(train, world):
    train("--num-iterations", "6", "--save-every", "1", "--keep-last", "2", "--model-tag", "few")
    assert checkpoint_manager.complete_steps(folder(world, "few")) == [5, 6]
    train("--num-iterations", "1", "--overwrite", "--model-tag", "few")
    assert checkpoint_manager.complete_steps(folder(world, "few")) == [1] and list(losses(world, "few")) == [1]


def test_the_seed_makes_other_weights(train, world):
    for tag, flags in (("seed", ()), ("seed42", ("--seed", "42")), ("seed43", ("--seed", "43"))):
        assert train("--num-iterations", "2", "--model-tag", tag, *flags) == 0
    assert losses(world, "seed") == losses(world, "seed42") != losses(world, "seed43")
    config = json.loads((folder(world, "seed43") / "config.json").read_text())
    assert config["flags"]["seed"] == 43 and config["plan"]["num_iterations"] == 2 and config["hardware"]["device"] == "cpu"


def test_init_from_starts_with_other_weights(train, world, capsys):
    train("--num-iterations", "12", "--model-tag", "source")
    flags = [flag for pair in zip(TINY[::2], TINY[1::2], strict=True) for flag in pair if pair[0] not in ("--depth", "--aspect-ratio", "--head-dim")]
    train("--num-iterations", "1", "--model-tag", "fresh")
    monkey = ["base_train", *flags, "--num-iterations", "1", "--model-tag", "child", "--init-from", "source:12"]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sys, "argv", monkey)
        assert base_train.main(base_train.parse_args()) == 0
    assert losses(world, "child")[1] < losses(world, "fresh")[1] - 0.5
    with pytest.raises(UserError, match=r"--depth 3, but source has 2 layers"):
        train("--num-iterations", "1", "--model-tag", "other", "--init-from", "source", "--depth", "3")
    for flag in ("--overwrite", "--resume=auto"):  # it would go on with the source, or delete it
        with pytest.raises(UserError, match=r"write into the folder of that model.*--model-tag"):
            train("--num-iterations", "1", "--model-tag", "source", "--init-from", "source", flag)


def test_float16_scales_its_loss(train, world, monkeypatch):
    monkeypatch.setenv("NANOCHAT_DTYPE", "float16")
    train("--num-iterations", "2", "--model-tag", "half")
    assert all(loss < 7.5 for loss in losses(world, "half").values())
    progress = training.Progress(loss_scale=8.0, good_steps=training.LOSS_SCALE_STEPS - 1)
    training.rescale_after(True, progress)
    assert progress.loss_scale == 16
    training.rescale_after(False, progress)
    assert (progress.loss_scale, progress.good_steps) == (8, 0)


def test_activation_checkpointing_changes_nothing(train, world):
    train("--num-iterations", "2", "--model-tag", "kept")
    train("--num-iterations", "2", "--model-tag", "again", "--activation-checkpointing")
    assert same(saved(world, "kept", 2)[0], saved(world, "again", 2)[0])


# --- stopping and resuming -------------------------------------------------------------------------------------------


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_stop_and_resume_are_exact(number, train, world, monkeypatch):
    train("--num-iterations", "8", "--model-tag", "whole")
    with monkeypatch.context() as patch:
        stop_at(4, number, patch)
        assert train("--num-iterations", "8", "--model-tag", "parts") == 128 + number
    # the signal came while step 4 was being logged, so step 5 was the last; it is saved and nothing else
    assert checkpoint_manager.complete_steps(folder(world, "parts")) == [5]
    assert not json.loads((folder(world, "parts") / "summary.json").read_text())["finished"]
    assert train("--num-iterations", "8", "--model-tag", "parts", "--resume", "auto") == 0
    assert_same_run(world, "whole", "parts", 8)


def few_documents(world: Path) -> None:
    """A data set that a few steps read more than once, with the tokenizer of tinyworld."""
    shutil.copytree(world / "tokenizer_tinyworld", world / "tokenizer_few")
    (world / "few.jsonl").write_text("\n".join(json.dumps({"text": f"Number {i} lives in house {i * 7}. " * (i % 5 + 1)}) for i in range(60)))
    command = [sys.executable, "-m", "nanochat.dataset", "--import", str(world / "few.jsonl"), "--name", "few"]
    subprocess.run(command, cwd=ROOT, check=True, capture_output=True)


def test_resume_across_the_end_of_an_epoch(train, world):
    few_documents(world)
    few = ["--dataset", "few", "--num-iterations", "8"]
    train(*few, "--model-tag", "whole", "--save-every", "1")
    epochs = [json.loads(line)["epoch"] for line in (folder(world, "whole") / "metrics.jsonl").read_text().splitlines()]
    assert epochs[-1] > epochs[3] > epochs[0]  # before and after the place where the other run stops
    shutil.copytree(folder(world, "whole"), folder(world, "parts"))
    assert train(*few, "--model-tag", "parts", "--resume-from-step", "4") == 0
    assert_same_run(world, "whole", "parts", 8)


KILLED = """
import os, signal, sys
from pathlib import Path
from scripts import base_train
replace, count = Path.replace, [0]
def replacing(self, target):
    count[0] += "_000004" in str(target)
    if count[0] == {n}: os.kill(os.getpid(), signal.SIGKILL)
    return replace(self, target)
Path.replace = replacing
sys.argv = ["base_train", *{flags}]
base_train.main(base_train.parse_args())
"""


@pytest.mark.parametrize("n", [1, 2, 3])  # of model, optimizer and meta
def test_killed_while_saving(n, train, world):
    flags = [*TINY, "--num-iterations", "6", "--save-every", "2", "--model-tag", "killed"]
    killed = subprocess.run([sys.executable, "-c", KILLED.format(n=n, flags=flags)], cwd=ROOT, capture_output=True, text=True)
    assert killed.returncode == -signal.SIGKILL, killed.stderr
    assert checkpoint_manager.complete_steps(folder(world, "killed")) == [2]
    assert train("--num-iterations", "6", "--save-every", "2", "--model-tag", "killed", "--resume", "auto") == 0
    train("--num-iterations", "6", "--save-every", "2", "--model-tag", "whole")
    assert_same_run(world, "whole", "killed", 6)


def test_resume_auto_starts_and_ends(train, world, capsys):
    """Where there is nothing it starts, and what is finished stays as it is: a recipe can be run again and again."""
    assert train("--num-iterations", "2", "--model-tag", "auto", "--resume", "auto") == 0
    before = {path.name: path.stat().st_mtime_ns for path in folder(world, "auto").iterdir()}
    assert train("--num-iterations", "2", "--model-tag", "auto", "--resume", "auto") == 0
    assert before == {path.name: path.stat().st_mtime_ns for path in folder(world, "auto").iterdir()}
    assert "is finished" in capsys.readouterr().out
    flags = json.loads((folder(world, "auto") / "config.json").read_text())["flags"]
    assert flags["eval_tokens"] == base_train.CPU_EVAL_TOKENS < base_train.EVAL_TOKENS  # nobody has asked for another number


def test_going_back_starts_a_branch(train, world, capsys):
    """What came after is set aside, so that neither --keep-last nor --resume auto takes it for the run's last word."""
    train("--num-iterations", "8", "--save-every", "2", "--model-tag", "back")
    with pytest.MonkeyPatch.context() as patch:
        stop_at(4, signal.SIGTERM, patch)
        flags = ("--num-iterations", "8", "--save-every", "2", "--keep-last", "2", "--matrix-lr", "0.01", "--model-tag", "back")
        assert train(*flags, "--resume-from-step", "2") == 143
    assert checkpoint_manager.complete_steps(folder(world, "back")) == [4, 5]
    assert checkpoint_manager.complete_steps(folder(world, "back") / "later_than_000002") == [4, 6, 8]
    assert "--matrix-lr was 0.3 and is 0.01" in capsys.readouterr().out
    assert train(*flags, "--resume", "auto") == 0 and list(losses(world, "back")) == list(range(1, 9))


def test_killed_in_the_final_evaluation(train, world, monkeypatch):
    with monkeypatch.context() as patch:
        patch.setattr("nanochat.loss_eval.evaluate_bpb", lambda *_: 1 / 0)
        patch.setattr(training, "due", lambda every, step: False)
        with pytest.raises(ZeroDivisionError):
            train("--num-iterations", "2", "--eval-every", "1", "--model-tag", "cut")
    assert not (folder(world, "cut") / "summary.json").exists()
    assert train("--num-iterations", "2", "--eval-every", "1", "--eval-tokens", "1024", "--model-tag", "cut", "--resume", "auto") == 0
    summary = json.loads((folder(world, "cut") / "summary.json").read_text())
    assert summary["finished"] and summary["tokens"] == 2048 and summary["val_bpb"] > 0
    assert json.loads((folder(world, "cut") / "meta_000002.json").read_text())["val_bpb"] == summary["val_bpb"]


def test_what_was_chosen_stays_chosen(train, world, monkeypatch, capsys):
    """Other free memory, or another measured peak, must not change the arithmetic of a run that goes on."""
    flags = ("--num-iterations", "4", "--save-every", "2", "--device-batch-size", "auto")
    train(*flags, "--model-tag", "whole")
    shutil.copytree(folder(world, "whole"), folder(world, "parts"))
    monkeypatch.setattr("nanochat.fitting.free_memory", lambda *_: 0)
    monkeypatch.setattr("nanochat.hardware.measure_peak_flops", lambda *_: 1.0)  # so slow that compiling would pay
    train(*flags, "--model-tag", "parts", "--resume-from-step", "2")
    assert_same_run(world, "whole", "parts", 4)


def test_two_runs_at_once(train, world):
    from nanochat.resuming import lock_run

    with lock_run(folder(world, "busy")), pytest.raises(UserError, match=r"another run is writing"):
        train("--num-iterations", "1", "--model-tag", "busy")
    assert train("--num-iterations", "1", "--model-tag", "busy") == 0


def test_init_from_onto_other_text(train, world):
    """The new data are read with the tokenizer that the weights know."""
    train("--num-iterations", "2", "--model-tag", "source")
    few_documents(world)
    shutil.rmtree(world / "tokenizer_few")
    assert train("--num-iterations", "2", "--dataset", "few", "--init-from", "source", "--depth", "2", "--model-tag", "child") == 0
    assert (folder(world, "child") / "tokenizer" / "tokenizer.json").read_bytes() == (world / "tokenizer_tinyworld" / "tokenizer.json").read_bytes()


def test_a_checkpoint_of_others_cannot_be_resumed(train, world):
    train("--num-iterations", "2", "--model-tag", "theirs")
    meta_path = folder(world, "theirs") / "meta_000002.json"
    meta = json.loads(meta_path.read_text())
    del meta["progress"], meta["files"]
    meta_path.write_text(json.dumps(meta))
    with pytest.raises(UserError, match=r"--init-from theirs:2 --model-tag"):
        train("--num-iterations", "4", "--model-tag", "theirs", "--resume", "auto")
    assert train("--num-iterations", "1", "--init-from", "theirs:2", "--model-tag", "ours", "--depth", "2") == 0


def test_another_tokenizer_of_the_same_size(train, world, small_world):
    train("--num-iterations", "2", "--model-tag", "mine")
    path = world / "tokenizer_tinyworld"
    path.unlink()
    shutil.copytree(small_world / "tokenizer_tinyworld", path)
    text = (path / "tokenizer.json").read_text()
    other = json.loads(text)
    other["pattern"] = other["pattern"].replace("{1,2}", "{1,3}")
    assert json.dumps(other) != json.dumps(json.loads(text))
    (path / "tokenizer.json").write_text(json.dumps(other))
    with pytest.raises(UserError, match=r"another tokenizer"):
        train("--num-iterations", "4", "--model-tag", "mine", "--resume", "auto")


# --- several ranks ---------------------------------------------------------------------------------------------------


def torchrun(world: Path, ranks: int, *flags: str) -> subprocess.CompletedProcess:
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone", f"--nproc_per_node={ranks}", "-m", "scripts.base_train", *TINY, *flags]
    environment = {**os.environ, "NANOCHAT_DTYPE": "float32", "OMP_NUM_THREADS": "1"}
    return subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, timeout=300)


RATES = ("--matrix-lr", "0.05", "--embedding-lr", "0.5", "--unembedding-lr", "0.02")  # with large ones rounding grows to more than is compared


def test_ranks_see_the_same_batches_and_losses(train, world, monkeypatch):
    monkeypatch.setenv("NANOCHAT_DTYPE", "float32")
    train(*RATES, "--num-iterations", "20", "--model-tag", "one", "--save-every", "10")
    for ranks in (2, 4):
        result = torchrun(world, ranks, *RATES, "--num-iterations", "20", "--model-tag", f"on{ranks}", "--save-every", "10")
        assert result.returncode == 0, result.stderr
        for step, loss in losses(world, "one").items():
            assert losses(world, f"on{ranks}")[step] == pytest.approx(loss, rel=1e-4), (ranks, step)
    # what two ranks saved goes on on one and on four
    for ranks in (1, 4):
        shutil.copytree(folder(world, "on2"), folder(world, f"then{ranks}"))
        for name in ("model_000020.pt", "optim_000020_rank0.pt", "optim_000020_rank1.pt", "meta_000020.json"):
            (folder(world, f"then{ranks}") / name).unlink()
        flags = (*RATES, "--num-iterations", "20", "--model-tag", f"then{ranks}", "--resume", "auto")
        if ranks == 1:
            assert train(*flags) == 0
        else:
            result = torchrun(world, ranks, *flags)
            assert result.returncode == 0, result.stderr
        assert list(losses(world, f"then{ranks}")) == list(range(1, 21))
        for step in range(11, 21):
            assert losses(world, f"then{ranks}")[step] == pytest.approx(losses(world, "one")[step], rel=1e-4)


ON_ONE_RANK = """
import os, signal, sys
import torch
from nanochat.gpt import GPT
from scripts import base_train
forward, calls = GPT.forward, []
def failing(self, *args, **kwargs):
    loss = forward(self, *args, **kwargs)
    calls.append(1)
    if os.environ["RANK"] == "1" and len(calls) == 2 * 2 + 1:  # the first of two micro-batches of step 2
        {what}
    return loss
GPT.forward = failing
sys.argv = ["base_train", *{flags}]
from nanochat.common import friendly_errors
with friendly_errors():
    sys.exit(base_train.main(base_train.parse_args()))
"""


@pytest.mark.parametrize("what", ["return loss * float('nan')", "os.kill(os.getpid(), signal.SIGTERM)"])
def test_one_rank_of_two(what, world):
    """A poisoned batch, or a signal, on one of them stops both, at the same step."""
    flags = [*TINY, "--num-iterations", "6", "--save-every", "1", "--model-tag", "two", "--device-batch-size", "4"]
    script = world / "on_one_rank.py"
    script.write_text(ON_ONE_RANK.format(what=what, flags=flags))
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc_per_node=2", str(script)]
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": str(ROOT)}
    result = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, timeout=120)
    assert result.returncode == 1
    if "nan" in what:
        assert result.stderr.count("step 2: the loss (nan) is not finite") == 2
        assert checkpoint_manager.find_last_step(folder(world, "two")) == 2
    else:
        assert result.stdout.count("stopped at step 3") == 1 and "exitcode  : 143" in result.stderr
        assert checkpoint_manager.find_last_step(folder(world, "two")) == 3


# --- what can be wrong -----------------------------------------------------------------------------------------------


def files(world: Path) -> set[str]:
    return {str(path.relative_to(world)) for path in world.rglob("*") if "cpu_kernels" not in str(path)}


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        (["--depth", "0"], r"--depth 0"),
        (["--head-dim", "15"], r"--head-dim 15"),
        (["--window-pattern", "SXL"], r"--window-pattern 'SXL'.*S .*L "),
        (["--fp8"], r"--fp8 needs a GPU"),
        (["--device-type", "cuda"], r"--device-type cuda is not available"),
        (["--resume-from-step", "7"], r"step 7 cannot be loaded"),
        (["--depth", "1", "--aspect-ratio", "8", "--head-dim", "8"], r"width of 8.*too small"),
        (["--total-batch-size", "1000"], r"1000.*--total-batch-size 960 or 1024"),
        (["--total-batch-size", "10"], r"--total-batch-size 10"),
        (["--num-iterations", "-1", "--target-param-data-ratio", "-1"], r"--num-iterations"),
        (["--model-tag", "../elsewhere"], r"--model-tag"),
        (["--dataset", "nowhere"], r"nowhere"),
        (["--init-from", "nobody"], r"nobody"),
        (["--init-from", "nobody:last"], r"TAG:STEP"),
        (["--max-seq-len", "0"], r"--max-seq-len 0"),
    ],
)
def test_bad_input_is_refused_before_anything_is_made(flags, message, train, world):
    before = files(world)
    with pytest.raises(UserError, match=message):
        train("--num-iterations", "1", *flags)
    assert files(world) == before


def test_refused_at_the_command_line(run_module, world):
    wrong = ["--device-batch-size=many", "--device-batch-size=0", "--depth=deep", "--matrix-lr=nan", "--target-flops=inf", "--warmdown-ratio=-3",
             "--keep-last=0", "--eval-tokens=-5", "--overwrite --resume=auto", "--resume=auto --resume-from-step=3"]  # fmt: skip
    for flags in (text.split() for text in wrong):
        result = run_module("scripts.base_train", *flags, base=world)
        assert result.returncode == 2 and flags[0].split("=")[0] in result.stderr and "Traceback" not in result.stderr


def test_a_folder_that_holds_a_run_is_not_touched(train, world):
    train("--num-iterations", "2", "--model-tag", "mine")
    before = {path.name: path.stat().st_mtime_ns for path in folder(world, "mine").iterdir()}
    with pytest.raises(UserError, match=r"finished run.*--resume auto.*--overwrite.*--model-tag"):
        train("--num-iterations", "2", "--model-tag", "mine")
    folder(world, "mine").joinpath("summary.json").unlink()  # it was killed before the end
    del before["summary.json"]
    with pytest.raises(UserError, match=r"got to step 2"):
        train("--num-iterations", "4", "--model-tag", "mine")
    with pytest.raises(UserError, match=r"n_layer is 2 there and 3 here"):
        train("--num-iterations", "4", "--model-tag", "mine", "--resume", "auto", "--depth", "3")
    assert before == {path.name: path.stat().st_mtime_ns for path in folder(world, "mine").iterdir()}


def test_rows_that_do_not_divide_are_corrected(train, world, capsys):
    assert train("--num-iterations", "1", "--device-batch-size", "5", "--model-tag", "five") == 0
    assert "--device-batch-size 5" in (said := capsys.readouterr().out) and "using 4" in said
    assert train("--num-iterations", "1", "--device-batch-size", "auto", "--model-tag", "auto") == 0
    assert "1 x 16 rows" in capsys.readouterr().out.replace("×", "x")


def test_a_tokenizer_of_another_size(train, world):
    train("--num-iterations", "2", "--model-tag", "mine")
    meta_path = folder(world, "mine") / "meta_000002.json"
    meta = json.loads(meta_path.read_text())
    meta["model_config"]["vocab_size"] = 2048
    meta_path.write_text(json.dumps(meta))
    with pytest.raises(UserError, match=r"1024.*2048|2048.*1024"):
        train("--num-iterations", "4", "--model-tag", "mine", "--resume", "auto")
    with pytest.raises(UserError, match=r"1024.*2048|2048.*1024"):
        train("--num-iterations", "1", "--model-tag", "child", "--init-from", "mine", "--depth", "2")


@pytest.mark.parametrize("damage", ["truncated", "foreign"])
def test_a_damaged_checkpoint(damage, train, world):
    train("--num-iterations", "2", "--model-tag", "mine")
    path = folder(world, "mine") / "model_000002.pt"
    if damage == "truncated":
        path.write_bytes(path.read_bytes()[:-100])
        message = r"bytes and should have"
    else:
        state = torch.load(path, weights_only=True)
        state["somebody.elses.weight"] = state.pop("lm_head.weight")
        torch.save(state, path)
        meta_path = folder(world, "mine") / "meta_000002.json"
        meta = json.loads(meta_path.read_text())
        meta["files"]["model_000002.pt"] = path.stat().st_size
        meta_path.write_text(json.dumps(meta))
        message = r"lm_head.weight is missing.*somebody.elses.weight is unknown"
    with pytest.raises(UserError, match=message):
        train("--num-iterations", "4", "--model-tag", "mine", "--resume-from-step", "2")


@pytest.mark.parametrize("where", ["loss", "gradient"])
def test_a_poisoned_batch_stops_before_the_weights_change(where, train, world, monkeypatch):
    calls, forward = [], GPT.forward

    def poisoned(self, *args, **kwargs):
        loss = forward(self, *args, **kwargs)
        calls.append(loss)
        if len(calls) == 4 * 4 + 2:  # the second of the four micro-batches of step 4
            if where == "loss":
                return loss * float("nan")
            loss.register_hook(lambda grad: grad * float("inf"))
        return loss

    monkeypatch.setattr(GPT, "forward", poisoned)
    updates = []
    monkeypatch.setattr("nanochat.optim.MuonAdamW.step", lambda self: updates.append(1))
    with pytest.raises(UserError, match=rf"step 4: the {where}.*not finite.*step 3 in"):
        train("--num-iterations", "8", "--save-every", "3", "--model-tag", "poisoned")
    assert len(updates) == 4  # those of steps 0 to 3
    assert checkpoint_manager.complete_steps(folder(world, "poisoned")) == [3]


def test_a_full_disk(train, world, monkeypatch):
    write, count = checkpoint_manager._write_tensors, []

    def full(path, state):
        count.append(path)
        if len(count) > 2:  # the first step's model and optimizer fit
            raise OSError(28, "No space left on device", str(path))
        return write(path, state)

    monkeypatch.setattr(checkpoint_manager, "_write_tensors", full)
    with pytest.raises(UserError, match=r"step 4 was not saved.*No space left.*Make room"):
        train("--num-iterations", "6", "--save-every", "2", "--model-tag", "full")
    assert checkpoint_manager.complete_steps(folder(world, "full")) == [2]
    monkeypatch.undo()


def test_dry_run_touches_nothing(run_module, world):
    before = files(world)
    for flags in (["--dry-run"], ["--dry-run", "8xH100"]):
        result = run_module("scripts.base_train", "--dataset", "tinyworld", "--depth", "12", *flags, base=world)
        assert result.returncode == 0, result.stderr
        for text in ("scaling parameters", "learning rate matrices", "weight decay", "GiB", "time", "at a time on each"):
            assert text in result.stdout
    assert "8 × H100" in result.stdout and "USD" in result.stdout
    assert files(world) == before
    result = run_module("scripts.base_train", "--dry-run", "8xAbacus", base=world)
    assert result.returncode == 1 and "Abacus" in result.stderr and "Traceback" not in result.stderr


def test_started_as_a_user_starts_it(run_module, world):
    """With underscores and a stray `--`, the message and the exit code."""
    flags = [flag.replace("-", "_").replace("__", "--", 1) if flag.startswith("--") else flag for flag in TINY]
    result = run_module("scripts.base_train", "--", *flags, "--num_iterations=2", "--model_tag", "user", base=world)
    assert result.returncode == 0, result.stderr
    assert checkpoint_manager.complete_steps(folder(world, "user")) == [2]
    again = run_module("scripts.base_train", *TINY, "--num-iterations", "2", "--model-tag", "user", base=world)
    assert again.returncode == 1 and again.stderr.startswith("error: ") and "Traceback" not in again.stderr
