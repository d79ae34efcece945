"""scripts/chat_sft.py: the run itself, what a step learns from, several ranks, stopping and resuming, what it takes over from the base model, and
what it says when something is wrong."""

import contextlib
import itertools
import json
import os
import random
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
import torch.nn.functional as F
from helpers import same, stop_at

from nanochat import checkpoint_manager
from nanochat.common import Compute, UserError
from nanochat.dataloader import sft_batches
from nanochat.gpt import GPT
from nanochat.optim import MuonAdamW
from nanochat.schedule import ratio_multiplier
from scripts import base_train, chat_sft
from tasks.catalog import default_evaluations, default_mixture, train_tasks
from tasks.common import TaskMixture
from tasks.customjson import CustomJSON

ROOT = Path(__file__).parent.parent
T = 256
QUIET = ["--eval-every", "-1", "--compile", "off"]
# A base model of three layers with 4 rows of 256 tokens in a step, which has seen a few words only
BASE = ["--dataset", "tinyworld", "--depth", "3", "--aspect-ratio", "16", "--head-dim", "16", "--max-seq-len", str(T), "--device-batch-size", "2",
        "--total-batch-size", str(4 * T), "--num-iterations", "16", "--matrix-lr", "0.3", "--embedding-lr", "4", "--unembedding-lr", "0.1",
        "--core-metric-every", "-1", "--sample-every", "-1", "--model-tag", "tiny"]  # fmt: skip
FINETUNE = [*QUIET, "--chatcore-every", "-1"]
GENTLE = ["--matrix-lr", "0.02", "--embedding-lr", "0.3", "--unembedding-lr", "0.008"]  # so that rounding errors stay small
BASE_STEP = 16


@contextlib.contextmanager
def own_signals() -> Iterator[None]:
    """Scripts that train listen to signals; afterwards pytest does again."""
    handlers = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}
    yield
    for number, handler in handlers.items():
        signal.signal(number, handler)


@pytest.fixture(scope="module")
def base_world(small_world, tmp_path_factory) -> Path:
    """A base dir with the base model. Read it, do not write to it."""
    world = tmp_path_factory.mktemp("base_world")
    for name in ("base_data_tinyworld", "tokenizer_tinyworld"):
        (world / name).symlink_to(small_world / name)
    with pytest.MonkeyPatch.context() as patch, own_signals():
        patch.setenv("NANOCHAT_BASE_DIR", str(world))
        patch.setattr("nanochat.hardware.measure_peak_flops", lambda *_: 1e12)
        patch.setattr(sys, "argv", ["base_train", *BASE, *QUIET])
        assert base_train.main(base_train.parse_args()) == 0
    return world


@pytest.fixture
def world(base_world, tmp_path, monkeypatch, one_thread) -> Path:
    """A base dir with a copy of the base model, to do with as one likes. In float32, where rounding does not hide what is wrong."""
    shutil.copytree(base_world / "base_checkpoints", tmp_path / "base_checkpoints")
    for name, value in (("BASE_DIR", str(tmp_path)), ("WORDS", "embedded"), ("DTYPE", "float32")):
        monkeypatch.setenv(f"NANOCHAT_{name}", value)
    monkeypatch.setattr("nanochat.hardware.measure_peak_flops", lambda *_: 1e12)  # it takes a second, and nothing here depends on it
    with own_signals():
        yield tmp_path


@pytest.fixture
def finetune(world, monkeypatch):
    def run(*flags: str) -> int:
        monkeypatch.setattr(sys, "argv", ["chat_sft", *FINETUNE, *flags])
        return chat_sft.main(chat_sft.parse_args())

    return run


def folder(world: Path, tag: str = "tiny") -> Path:
    return world / "chatsft_checkpoints" / tag


def log_of(world: Path, tag: str = "tiny") -> list[dict]:
    """The lines about steps."""
    lines = map(json.loads, (folder(world, tag) / "metrics.jsonl").read_text().splitlines())
    return [line for line in lines if "loss" in line]


def losses(world: Path, tag: str = "tiny") -> list[float]:
    return [line["loss"] for line in log_of(world, tag)]


def summary_of(world: Path, tag: str = "tiny") -> dict:
    return json.loads((folder(world, tag) / "summary.json").read_text())


def meta_of(world: Path, tag: str = "tiny") -> dict:
    return checkpoint_manager.read_meta(folder(world, tag), checkpoint_manager.find_last_step(folder(world, tag)))


def saved(world: Path, tag: str, step: int) -> tuple[dict, list[dict]]:
    weights, shards, _ = checkpoint_manager.load_checkpoint(folder(world, tag), step, load_optimizer=True)
    return weights, shards


def times(directory: Path) -> dict[str, int]:
    return {path.name: path.stat().st_mtime_ns for path in directory.iterdir()}


# --- conversations ---------------------------------------------------------------------------------------------------


def words(r: random.Random, count: int) -> str:
    return " ".join(r.choices(["tea", "river", "mouse", "seven", "old", "hums", "because", "Anna"], k=count))


def write_conversations(path: Path, sizes: list[tuple[int, int]]) -> str:
    """A file with a conversation for each (words of the user, words of the assistant), which begins with its number. Returns the name of the data."""
    r = random.Random(1)
    lines = []
    for i, (asked, said) in enumerate(sizes):
        messages = [{"role": "user", "content": f"#{i}. {words(r, asked)}?"}, {"role": "assistant", "content": words(r, said)}]
        lines.append(json.dumps({"messages": messages}) if i % 2 else json.dumps(messages))
    path.write_text("\n".join(lines))
    return f"json:{path}"


def few(world: Path, count: int = 40) -> str:
    """Short conversations."""
    return write_conversations(world / "few.jsonl", [(3, 5 + i % 7) for i in range(count)])


def uneven(world: Path) -> str:
    """Targets in very different numbers: the assistant says much, or little, or it begins to speak only where the row has ended long ago."""
    return write_conversations(world / "uneven.jsonl", [[(400, 20), (2, 150), (200, 1), (60, 90), (400, 1), (3, 2)][i % 6] for i in range(24)])


def number_of(tokenizer, tokens: list[int]) -> int:
    return int(tokenizer.decode(tokens[:12]).partition("#")[2].partition(".")[0])


def conversations_in(tokenizer, row: list[int]) -> list[int]:
    starts = [i for i, token in enumerate(row) if token == tokenizer.bos]
    return [number_of(tokenizer, row[start:]) for start in starts if start < len(row) - 12]


@pytest.fixture
def micro_batches(monkeypatch) -> list[tuple[torch.Tensor, torch.Tensor]]:
    """Those that the model has been trained on."""
    forward, seen = GPT.forward, []

    def watched(self, x, y=None, **more):
        if torch.is_grad_enabled():
            seen.append((x, y))
        return forward(self, x, y, **more)

    monkeypatch.setattr(GPT, "forward", watched)
    return seen


@pytest.fixture
def updates(monkeypatch) -> list[dict]:
    """What the optimizer had before it before each of its steps: the gradients, the rates, its own averages."""
    step, seen = MuonAdamW.step, []

    def watched(self):
        params = [p for group in self.param_groups for p in group["params"]]
        states = [{k: v.clone() if torch.is_tensor(v) else v for k, v in self.state[p].items()} for p in params]
        gradients = [None if p.grad is None else p.grad.clone() for p in params]
        rates = [group["lr"] for group in self.param_groups]
        seen.append({"gradients": gradients, "rates": rates, "decay": {g["weight_decay"] for g in self.param_groups if g["kind"] == "muon"},
                     "states": states})  # fmt: skip
        return step(self)

    monkeypatch.setattr(MuonAdamW, "step", watched)
    return seen


# --- the run ---------------------------------------------------------------------------------------------------------


def test_started_as_a_user_starts_it(run_module, world):
    """With underscores, a stray `--` and the data that there are by default."""
    flags = ["--num_iterations=16", "--eval-every=8", "--eval-tokens=4096", "--chatcore-every=16", "--chatcore-max-cat=4", "--chatcore-max-sample=2",
             "--compile=off"]  # fmt: skip
    result = run_module("scripts.chat_sft", "--", *flags, base=world, NANOCHAT_DTYPE="", OMP_NUM_THREADS="1")
    assert result.returncode == 0, result.stderr
    mixture = default_mixture("tinyworld")
    count = sum(map(len, train_tasks(mixture)))
    for text in ("tiny, step 16, trained on tinyworld", f"{count:,} conversations ({', '.join(name for name, _ in mixture)})", "lr 1.000",
                 "validation bits per byte", "first step after", "tok/s", "eta", "targets", "ChatCORE"):  # fmt: skip
        assert text in result.stdout, result.stdout

    loss, summary, meta = losses(world), summary_of(world), meta_of(world)
    assert len(loss) == 16 and loss[-1] < loss[0] - 1
    assert summary["finished"] and summary["stage"] == "chat_sft" and summary["base"] == "tiny" and summary["conversations"] == count
    assert summary["steps"] == 16 and summary["tokens"] == 16 * 4 * T
    assert summary["val_bpb"] == meta["val_bpb"] == summary["min_val_bpb"] > 0
    validations = [line["val_bpb"] for line in map(json.loads, (folder(world) / "metrics.jsonl").read_text().splitlines()) if "val_bpb" in line]
    assert len(validations) == 3 and validations[-1] < validations[0]
    scores = summary["chatcore"]
    assert list(scores) == [*default_evaluations("tinyworld"), "ChatCORE"] and all(-0.34 <= score <= 1 for score in scores.values())

    assert checkpoint_manager.complete_steps(folder(world)) == [16]
    model, tokenizer, _ = checkpoint_manager.load_model("sft", "cpu", "eval", "tiny")
    base, base_tokenizer, base_meta = checkpoint_manager.load_model("base", "cpu", "eval", "tiny")
    assert model.config == base.config and meta["model_config"] == base_meta["model_config"]
    assert not torch.equal(model.lm_head.weight, base.lm_head.weight)
    assert (tokenizer.ranks, tokenizer.special) == (base_tokenizer.ranks, base_tokenizer.special)
    assert meta["user_config"]["dataset"] == "tinyworld" and meta["base"] == {"model_tag": "tiny", "step": BASE_STEP}


def test_an_epoch_of_conversations_that_are_longer_than_rows(finetune, world, tokenizer, micro_batches):
    """It ends, no loss is NaN, and each of them is learned from once; only the rest of the last step is filled with the next epoch."""
    r = random.Random(2)
    data = write_conversations(world / "long.jsonl", [(r.randint(1, 30), r.randint(1, 600)) for _ in range(41)])
    task = TaskMixture([CustomJSON(data.removeprefix("json:"))])
    assert sum(len(tokenizer.render_conversation(c, None)[0]) for c in task) / len(task) > 500
    one_rank = Compute(False, 0, 0, 1, torch.device("cpu"))
    rows = sft_batches(tokenizer, task, 1, T, one_rank, prefetch=False)
    in_epoch = 1 + sum(1 for _ in itertools.takewhile(lambda row: row[2].epoch == 1, rows))

    assert finetune("--data", data, "--device-batch-size", "4", "--total-batch-size", str(4 * T)) == 0
    seen = [row for x, _ in micro_batches for row in x.tolist()]
    assert len(seen) == -(-in_epoch // 4) * 4
    assert sorted(i for row in seen[:in_epoch] for i in conversations_in(tokenizer, row)) == sorted(number_of_all(tokenizer, task))
    log, summary = log_of(world), summary_of(world)
    assert all(0 < line["loss"] < 10 for line in log) and log[-1]["loss"] < log[0]["loss"]
    assert [line["epochs"] >= 1 for line in log] == [False] * (len(log) - 1) + [True]
    assert summary["finished"] and summary["steps"] == len(seen) // 4 and 1 <= summary["epochs"] < 1.5


def number_of_all(tokenizer, task) -> list[int]:
    return [number_of(tokenizer, tokenizer.render_conversation(conversation)[0]) for conversation in task]


@pytest.mark.parametrize("rows", [1, 2, 4])
def test_iterations_are_optimizer_steps(rows, finetune, world, updates, micro_batches):
    """Of whatever micro-batches, and however many epochs they are."""
    flags = ("--warmup-ratio", "0.25", "--warmdown-ratio", "0.5", "--final-lr-frac", "0.1")
    assert finetune("--data", few(world, 12), "--num-iterations", "8", "--device-batch-size", str(rows), *flags) == 0
    assert len(updates) == len(log_of(world)) == summary_of(world)["steps"] == 8 and len(micro_batches) == 8 * 4 // rows
    assert summary_of(world)["epochs"] > 2
    assert [line["lr"] for line in log_of(world)] == pytest.approx([0, 0.5, 1, 1, 1, 0.775, 0.55, 0.325])
    for line, update in zip(log_of(world), updates, strict=True):
        assert update["rates"] == pytest.approx([rate * line["lr"] for rate in updates[2]["rates"]])


def test_the_rate_of_an_epoch_goes_by_what_has_been_seen(finetune, world, updates):
    assert finetune("--data", few(world, 300), "--total-batch-size", str(2 * T), "--init-lr-frac", "0.5") == 0
    behind = [0, *(line["epochs"] for line in log_of(world))]
    assert len(updates) > 5 and sorted(behind) == behind and behind[-1] >= 1 > behind[-2]
    rates = [line["lr"] for line in log_of(world)]
    assert rates == [ratio_multiplier(share, 0.0, 0.5, 0.0) for share in behind[:-1]]
    assert rates[0] == 1 and 0 < rates[-1] < 0.5 and all(0 <= rate <= 1 for rate in rates)
    matrix_lr = 0.3 * 0.5 * (2 * T / 2**19) ** 0.5  # the base model's, half of it, for a smaller batch
    assert updates[0]["rates"][-1] == pytest.approx(matrix_lr) and updates[0]["decay"] == {0}
    smear = 5  # and backout: their rate is nobody's flag, and half of it is taken all the same
    assert updates[0]["rates"][smear] == pytest.approx(0.2 * 0.5)


# --- what a step learns from -----------------------------------------------------------------------------------------


def test_the_loss_is_the_mean_over_the_targets_of_the_step(finetune, world, micro_batches):
    """However the rows are cut into micro-batches, and however the targets are spread over them."""
    data = uneven(world)
    for rows in (4, 2, 1):
        micro_batches.clear()
        finetune("--data", data, "--num-iterations", "6", "--device-batch-size", str(rows), "--output-tag", f"by{rows}", *GENTLE)
    counts = [int((y >= 0).sum()) for _, y in micro_batches]
    assert len(counts) < 6 * 4 and min(counts) > 0, "rows without a target should have been there, and left out"
    assert max(counts) > 4 * min(counts)
    for rows in (2, 1):
        assert losses(world, f"by{rows}") == pytest.approx(losses(world, "by4"), rel=1e-4)
        assert [line["targets"] for line in log_of(world, f"by{rows}")] == [line["targets"] for line in log_of(world, "by4")]
        for name, weight in saved(world, f"by{rows}", 6)[0].items():
            torch.testing.assert_close(weight, saved(world, "by4", 6)[0][name], rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("rows", [1, 2])
def test_the_gradient_is_that_of_a_plain_computation(rows, finetune, world, tokenizer, updates):
    data = uneven(world)
    finetune("--data", data, "--num-iterations", "1", "--device-batch-size", str(rows))
    model, _, _ = checkpoint_manager.load_model("base", "cpu", "train", "tiny")
    task = TaskMixture([CustomJSON(data.removeprefix("json:"))])
    x, y, _ = next(sft_batches(tokenizer, task, 4, T, Compute(False, 0, 0, 1, torch.device("cpu")), prefetch=False))
    loss = F.cross_entropy(model(x)[y >= 0], y[y >= 0])
    loss.backward()
    assert losses(world) == pytest.approx([loss.item()], rel=1e-5)
    plain = [p.grad for group in model.param_groups() for p in group["params"]]
    assert len(plain) == len(updates[0]["gradients"]) and sum(g.abs().sum() for g in plain) > 0
    for there, here in zip(updates[0]["gradients"], plain, strict=True):
        torch.testing.assert_close(there, here, rtol=1e-4, atol=1e-6)


def test_a_step_without_any_target(finetune, world, micro_batches):
    """The users of all conversations talk until the row is full. That harms nothing, but it is no success."""
    data = write_conversations(world / "users.jsonl", [(400, 5)] * 6)
    with pytest.raises(UserError, match=r"nothing was learned: in rows of 256 tokens .* --max-seq-len"):
        finetune("--data", data, "--load-optimizer", "0", "--num-iterations", "2", *GENTLE)
    assert not micro_batches and losses(world) == [0, 0]
    assert not list(folder(world).glob("model_*")) and not (folder(world) / "summary.json").exists()


# --- several ranks ---------------------------------------------------------------------------------------------------


def test_two_ranks_learn_what_one_does(finetune, world):
    """Also where one of them has no targets in a micro-batch. What they saved goes on on one."""
    flags = ["--data", uneven(world), "--num-iterations", "6", "--device-batch-size", "1", *GENTLE]
    evaluated = ["--eval-every", "6", "--chatcore-every", "6", "--chatcore-max-cat", "3", "--chatcore-max-sample", "1"]
    assert finetune(*flags, *evaluated, "--output-tag", "one") == 0
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc_per_node=2", "-m", "scripts.chat_sft", *FINETUNE, *flags,
               *evaluated, "--save-every", "3", "--output-tag", "two"]  # fmt: skip
    result = subprocess.run(command, cwd=ROOT, env={**os.environ, "OMP_NUM_THREADS": "1"}, capture_output=True, text=True, timeout=300)
    assert result.returncode == 0, result.stderr
    assert losses(world, "two") == pytest.approx(losses(world, "one"), rel=1e-4)
    weights, shards = saved(world, "two", 6)
    assert len(shards) == 2 and shards[0]["loader"] == shards[1]["loader"] == saved(world, "one", 6)[1][0]["loader"]
    for name, weight in weights.items():
        torch.testing.assert_close(weight, saved(world, "one", 6)[0][name], rtol=1e-4, atol=1e-4)
    assert summary_of(world, "two")["val_bpb"] == pytest.approx(summary_of(world, "one")["val_bpb"], rel=1e-3)
    assert summary_of(world, "two")["chatcore"].keys() == summary_of(world, "one")["chatcore"].keys()
    assert result.stdout.count("ChatCORE") == 1

    assert finetune(*flags, "--output-tag", "two", "--resume-from-step", "3") == 0
    assert losses(world, "two") == pytest.approx(losses(world, "one"), rel=1e-4)


# --- stopping and resuming -------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("number", "horizon"), [(signal.SIGTERM, ("--num-iterations", "7")), (signal.SIGINT, ())])
def test_stop_and_resume_are_exact(number, horizon, finetune, world, monkeypatch):
    """By steps across the end of an epoch, and by an epoch."""
    flags = ("--data", few(world, 12 if horizon else 220), "--total-batch-size", str(2 * T), "--device-batch-size", "1", *horizon)
    assert finetune(*flags, "--output-tag", "whole") == 0
    steps = summary_of(world, "whole")["steps"]
    assert steps > 5
    with monkeypatch.context() as patch:
        stop_at(3, number, patch)
        assert finetune(*flags, "--output-tag", "parts") == 128 + number
    # the signal came while step 3 was being logged, so step 4 was the last
    assert checkpoint_manager.complete_steps(folder(world, "parts")) == [4] and not summary_of(world, "parts")["finished"]
    assert finetune(*flags, "--output-tag", "parts", "--resume", "auto") == 0
    assert losses(world, "whole") == losses(world, "parts")
    assert same(saved(world, "whole", steps), saved(world, "parts", steps))  # weights, optimizer, loader
    for name in ("steps", "tokens", "epochs", "train_loss", "finished"):
        assert summary_of(world, "whole")[name] == summary_of(world, "parts")[name]


def test_resume_auto_starts_and_ends(finetune, world, capsys):
    """Where there is nothing it starts, what is finished stays as it is, and a larger number of steps goes on."""
    flags = ("--data", few(world), "--resume", "auto", "--num-iterations")
    assert finetune(*flags, "2") == 0
    before = times(folder(world))
    capsys.readouterr()
    assert finetune(*flags, "2") == 0
    assert before == times(folder(world)) and "is finished: step 2" in capsys.readouterr().out
    assert finetune(*flags, "4") == 0
    assert "going on from step 2" in (said := capsys.readouterr().out) and "--num-iterations was 2 and is 4" in said
    assert len(losses(world)) == summary_of(world)["steps"] == 4 and checkpoint_manager.complete_steps(folder(world)) == [2, 4]


def test_an_epoch_that_is_over_is_finished(finetune, world, capsys):
    """And one that was begun with a number of steps goes on to its end without one."""
    flags = ("--data", few(world, 60), "--total-batch-size", str(T))
    assert finetune(*flags, "--num-iterations", "1") == 0 and summary_of(world)["epochs"] < 1
    assert finetune(*flags, "--resume", "auto") == 0
    assert "going on from step 1" in capsys.readouterr().out and summary_of(world)["epochs"] >= 1 and summary_of(world)["steps"] > 2
    before = times(folder(world))
    assert finetune(*flags, "--resume", "auto") == 0
    assert before == times(folder(world)) and "is finished" in capsys.readouterr().out


def test_a_folder_that_holds_a_run_is_not_touched(finetune, world):
    flags = ("--data", few(world), "--num-iterations", "2")
    finetune(*flags)
    before = times(folder(world))
    with pytest.raises(UserError, match=r"finished run.*--resume auto.*--overwrite.*--output-tag"):
        finetune(*flags)
    (folder(world) / "summary.json").unlink()  # it was killed before the end
    del before["summary.json"]
    with pytest.raises(UserError, match=r"got to step 2"):
        finetune(*flags)
    with pytest.raises(UserError, match=r"belongs to other batches"):
        finetune("--data", few(world, 17), "--num-iterations", "4", "--resume", "auto")
    assert before == times(folder(world))
    assert finetune(*flags[:-1], "1", "--overwrite") == 0
    assert checkpoint_manager.complete_steps(folder(world)) == [1] and len(losses(world)) == 1


def test_two_runs_at_once(finetune, world):
    from nanochat.resuming import lock_run

    with lock_run(folder(world)), pytest.raises(UserError, match=r"another run is writing.*--output-tag"):
        finetune("--data", few(world), "--num-iterations", "1")


def test_another_model_in_the_folder(finetune, world, monkeypatch):
    """One with other dimensions, one with another tokenizer, and one that somebody else has trained."""
    flags = ("--data", few(world), "--num-iterations", "3", "--resume", "auto")
    finetune(*flags[:3], "2")
    path = folder(world) / "meta_000002.json"
    text = path.read_text()
    path.write_text(text.replace('"n_layer": 3', '"n_layer": 2'))
    with pytest.raises(UserError, match=r"n_layer is 2 there and 3 here.*--output-tag"):
        finetune(*flags)
    meta = json.loads(text)
    del meta["progress"]
    path.write_text(json.dumps(meta))
    with pytest.raises(UserError, match=r"step 2 .*not saved by this project.*--output-tag"):
        finetune(*flags)
    path.write_text(text)
    tokenizer = folder(world) / "tokenizer" / "tokenizer.json"
    tokenizer.write_text(json.dumps({**json.loads(tokenizer.read_text()), "pattern": r"\s+|\S+"}))
    with pytest.raises(UserError, match=r"another tokenizer.*--output-tag"):
        finetune(*flags)


def test_it_saves_before_it_evaluates(finetune, world, monkeypatch):
    on_disk = []

    def evaluation(*_):
        on_disk.append(checkpoint_manager.complete_steps(folder(world)))
        if len(on_disk) == 4:
            raise RuntimeError("evaluation broke")
        return 3 - len(on_disk) / 8

    monkeypatch.setattr("nanochat.loss_eval.evaluate_bpb", evaluation)
    flags = ("--data", few(world), "--num-iterations", "6", "--save-every", "2", "--eval-every", "2")
    with pytest.raises(RuntimeError, match="evaluation broke"):
        finetune(*flags)
    assert on_disk == [[], [2], [2, 4], [2, 4, 6]] and not (folder(world) / "summary.json").exists()
    assert finetune(*flags, "--resume", "auto") == 0  # only the evaluation is left to do
    assert len(on_disk) == 5 and summary_of(world)["finished"] and summary_of(world)["tokens"] == 6 * 4 * T
    assert summary_of(world)["val_bpb"] == meta_of(world)["val_bpb"] == meta_of(world)["progress"]["min_val_bpb"] == 3 - 5 / 8


def test_chatcore_comes_after_saving_and_keep_last(finetune, world, monkeypatch):
    on_disk = []

    def evaluation(*_):
        on_disk.append(checkpoint_manager.complete_steps(folder(world)))
        return {"ChatCORE": 0.5}

    monkeypatch.setattr(chat_sft, "follow_chatcore", evaluation)
    flags = ("--num-iterations", "6", "--save-every", "2", "--chatcore-every", "2", "--keep-last", "2")
    assert finetune("--data", few(world), *flags) == 0
    assert on_disk == [[2], [2, 4], [4, 6]] and summary_of(world)["chatcore"] == {"ChatCORE": 0.5}


def test_a_poisoned_batch_stops_before_the_weights_change(finetune, world, monkeypatch, updates):
    forward, calls = GPT.forward, []

    def poisoned(self, *args, **kwargs):
        calls.append(forward(self, *args, **kwargs))
        return calls[-1] * float("nan") if len(calls) == 2 * 3 + 2 else calls[-1]  # the second of the two micro-batches of step 3

    monkeypatch.setattr(GPT, "forward", poisoned)
    with pytest.raises(UserError, match=r"step 3: the loss \(nan\) is not finite.*step 2 in"):
        finetune("--data", few(world), "--num-iterations", "6", "--save-every", "2")
    assert len(updates) == 3 and checkpoint_manager.complete_steps(folder(world)) == [2]


# --- what comes from the base model ----------------------------------------------------------------------------------


def test_what_is_not_said_is_as_the_base_model_had_it(finetune, world, updates, micro_batches):
    data = few(world)
    finetune("--data", data, "--num-iterations", "1", "--output-tag", "inherited")
    meta = meta_of(world, "inherited")
    assert (meta["max_seq_len"], meta["device_batch_size"], meta["total_batch_size"]) == (T, 2, 4 * T)
    assert (meta["matrix_lr"], meta["embedding_lr"], meta["unembedding_lr"], meta["scalar_lr"]) == (0.3, 4, 0.1, 0.5)
    assert micro_batches[0][0].shape == (2, T)

    other = ("--max-seq-len", "128", "--device-batch-size", "3", "--total-batch-size", "768", "--matrix-lr", "0.01", "--embedding-lr", "0.2",
             "--unembedding-lr", "0.03", "--init-lr-frac", "1")  # fmt: skip
    finetune("--data", data, "--num-iterations", "1", "--output-tag", "said", *other)
    meta = meta_of(world, "said")
    assert (meta["max_seq_len"], meta["device_batch_size"], meta["total_batch_size"]) == (128, 3, 768)
    assert micro_batches[-1][0].shape == (3, 128) and meta["model_config"]["sequence_len"] == T
    scale = {name: (n / 2**19) ** 0.5 for name, n in (("inherited", 4 * T), ("said", 768))}
    assert updates[0]["rates"][-1] == pytest.approx(0.8 * 0.3 * scale["inherited"]) and updates[1]["rates"][-1] == pytest.approx(0.01 * scale["said"])
    head, table = (updates[1]["rates"][i] / updates[0]["rates"][i] * 0.8 * scale["inherited"] / scale["said"] for i in range(2))
    assert head == pytest.approx(0.03 / 0.1) and table == pytest.approx(0.2 / 4)

    with pytest.raises(UserError, match=r"--max-seq-len 512: the base model was built for 256 tokens"):
        finetune("--data", data, "--num-iterations", "1", "--output-tag", "longer", "--max-seq-len", "512")
    assert not folder(world, "longer").exists()


def test_a_model_without_these_numbers_gets_the_usual_ones():
    from nanochat.gpt import GPTConfig

    args = chat_sft.argparse.Namespace(max_seq_len=None, device_batch_size=None, total_batch_size=None, matrix_lr=None)
    chosen = chat_sft.inherit(args, {}, GPTConfig(sequence_len=1024))
    assert chosen == {"max_seq_len": 1024, "device_batch_size": "auto", "total_batch_size": -1, "embedding_lr": 0.3, "unembedding_lr": 0.008,
                      "matrix_lr": 0.02, "scalar_lr": 0.5}  # fmt: skip
    meta = {"total_batch_size": 4096, "user_config": {"total_batch_size": -1, "matrix_lr": 0.0, "device_batch_size": "auto"}}
    chosen = chat_sft.inherit(args, meta, GPTConfig(sequence_len=1024))
    assert (chosen["total_batch_size"], chosen["matrix_lr"], chosen["device_batch_size"]) == (4096, 0.0, "auto")


def test_the_averages_of_the_base_models_optimizer(finetune, world, updates, capsys):
    """They are taken over, or not, or cannot be."""
    flags = ("--data", few(world), "--num-iterations", "1")
    directory = world / "base_checkpoints" / "tiny"
    _, (base,), _ = checkpoint_manager.load_checkpoint(directory, BASE_STEP, load_optimizer=True)
    finetune(*flags, "--output-tag", "with")
    states = updates[0]["states"]
    assert same({i: state for i, state in enumerate(states) if state}, base["state"]) and states[0]["step"] == BASE_STEP
    finetune(*flags, "--output-tag", "without", "--load-optimizer", "0")
    assert all(not torch.as_tensor(value).any() for state in updates[1]["states"] for value in state.values())
    assert "without averages" not in capsys.readouterr().out

    (directory / "optim_000016_rank0.pt").unlink()  # base is mapped from this file, which must not be written over
    foreign = {**base, "shapes": [[1, *shape] for shape in base["shapes"]]}
    torch.save(foreign, directory / "optim_000016_rank0.pt")
    meta = json.loads((directory / "meta_000016.json").read_text())
    meta["files"]["optim_000016_rank0.pt"] = (directory / "optim_000016_rank0.pt").stat().st_size
    (directory / "meta_000016.json").write_text(json.dumps(meta))
    assert finetune(*flags, "--output-tag", "foreign") == 0
    assert "the optimizer starts without averages: " in capsys.readouterr().out

    (directory / "optim_000016_rank0.pt").unlink()
    assert finetune(*flags, "--output-tag", "lost") == 0
    assert "the optimizer starts without averages: " in (said := capsys.readouterr().out) and "optim_000016_rank0.pt is missing" in said
    for tag in ("foreign", "lost"):
        assert same(saved(world, tag, 1), saved(world, "without", 1))


def test_a_base_model_of_karpathys_nanochat(finetune, world, updates, monkeypatch):
    """Raw flags in its meta, no list of files, no tokenizer of its own, and an optimizer that does not say whose it is."""
    directory = world / "base_checkpoints" / "tiny"
    shutil.move(directory / "tokenizer", world / "tokenizer")
    meta = json.loads((directory / "meta_000016.json").read_text())
    flags = {"run": "dummy", "depth": 3, "max_seq_len": 128, "device_batch_size": 32, "total_batch_size": -1, "embedding_lr": 0.2, "matrix_lr": 0.04,
             "unembedding_lr": 0.004, "scalar_lr": 0.5, "weight_decay": 0.2}  # fmt: skip
    theirs = {"step": 16, "val_bpb": 3.0, "model_config": meta["model_config"], "user_config": flags, "device_batch_size": 4, "max_seq_len": 128,
              "total_batch_size": 1024, "dataloader_state_dict": {"pq_idx": 1}, "loop_state": {"min_val_bpb": 3.0}}  # fmt: skip
    (directory / "meta_000016.json").write_text(json.dumps(theirs))
    state = torch.load(directory / "optim_000016_rank0.pt", weights_only=True)
    torch.save({name: state[name] for name in ("state", "param_groups")}, directory / "optim_000016_rank0.pt")
    assert finetune("--data", few(world), "--num-iterations", "2") == 0
    meta = meta_of(world)
    assert (meta["max_seq_len"], meta["device_batch_size"], meta["total_batch_size"], meta["matrix_lr"]) == (128, 4, 1024, 0.04)
    assert meta["model_config"]["sequence_len"] == T and meta["user_config"]["dataset"] == "climbmix"
    assert updates[0]["states"][0]["step"] == BASE_STEP
    assert (folder(world) / "tokenizer" / "tokenizer.json").read_bytes() == (world / "tokenizer" / "tokenizer.json").read_bytes()


def test_tasks_that_cannot_be_had_are_no_reason_not_to_train(finetune, world, monkeypatch, capsys):
    def unreachable(name: str):
        raise UserError(f"{name} is not here")

    monkeypatch.setattr("tasks.catalog.evaluation_task", unreachable)
    assert finetune("--data", few(world), "--num-iterations", "1", "--chatcore-every", "1") == 0
    assert "ChatCORE will not be evaluated: TinyWorld-Facts is not here" in capsys.readouterr().out and summary_of(world)["chatcore"] == {}


# --- which data, which folder ----------------------------------------------------------------------------------------


def test_mixtures_and_where_they_go(finetune, world, micro_batches, tokenizer, capsys):
    data = few(world, 5)
    before = times(world / "base_checkpoints" / "tiny")
    assert finetune("--data", f"{data}*3,tinyworld-talk:20", "--output-tag", "mixed", "--model-tag", "tiny", "--model-step", "16") == 0
    assert f"35 conversations ({data}*3, tinyworld-talk:20)" in capsys.readouterr().out and summary_of(world, "mixed")["conversations"] == 35
    texts = [tokenizer.decode(row) for x, _ in micro_batches for row in x.tolist()]
    assert all(sum(text.count(f"#{i}.") for text in texts) >= 3 for i in range(5)) and "nanochat" in "".join(texts)
    assert sorted(path.name for path in folder(world).parent.iterdir() if path.is_dir()) == ["mixed"]
    assert before == times(world / "base_checkpoints" / "tiny")
    (world / "identity_conversations.jsonl").write_bytes((world / "few.jsonl").read_bytes())
    assert finetune("--data", "identity*2", "--output-tag", "mine", "--num-iterations", "1") == 0
    assert summary_of(world, "mine")["conversations"] == 10


def test_the_largest_model_is_taken(finetune, world):
    shutil.copytree(world / "base_checkpoints" / "tiny", world / "base_checkpoints" / "d2")
    assert finetune("--data", few(world), "--num-iterations", "1") == 0
    assert meta_of(world, "d2")["base"]["model_tag"] == "d2" and not folder(world, "tiny").exists()


# --- what can be wrong -----------------------------------------------------------------------------------------------


def files(world: Path) -> set[str]:
    return {str(path.relative_to(world)) for path in world.rglob("*") if "cpu_kernels" not in str(path)}


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        (["--data", "tinywold"], r"'tinywold' in the mixture is not known.*smoltalk.*json:PATH"),
        (["--data", "few*0"], r"'few\*0'"),
        (["--data", "tinyworld*0"], r"'tinyworld\*0'.*at least 1"),
        (["--data", ""], r"the mixture is empty"),
        (["--data", "json:/nowhere/at/all.jsonl"], r"/nowhere/at/all\.jsonl cannot be read"),
        (["--data", "identity"], r"identity_conversations\.jsonl is not there"),
        (["--model-tag", "nobody"], r"no model 'nobody'.*tiny"),
        (["--model-tag", "../elsewhere"], r"--model-tag.*'\.\./elsewhere'"),
        (["--output-tag", "a/b"], r"--output-tag.*'a/b'"),
        (["--model-step", "7"], r"step 7 cannot be loaded"),
        (["--resume-from-step", "7"], r"step 7 cannot be loaded"),
        (["--max-seq-len", "257"], r"--max-seq-len 257"),
        (["--total-batch-size", "1000"], r"--total-batch-size 768 or 1024"),
        (["--total-batch-size", "10"], r"--total-batch-size 10"),
        (["--device-type", "cuda"], r"--device-type cuda is not available"),
    ],
)
def test_bad_input_is_refused_before_anything_is_made(flags, message, finetune, world):
    data = [] if "--data" in flags else ["--data", few(world)]
    before = files(world)
    with pytest.raises(UserError, match=message):
        finetune("--num-iterations", "1", *data, *flags)
    assert files(world) == before


def test_bad_lines_are_named(finetune, world):
    path = world / "bad.jsonl"
    good = '[{"role": "user", "content": "Hi"}, {"role": "assistant", "content": "Hello"}]'
    path.write_text("\n".join([good, '{"messages": [', good, '[{"role": "assistant", "content": "I begin"}]', '[{"role": "user", "content": "Hi"}]']))
    with pytest.raises(UserError, match=rf"{path} has 3 lines") as error:
        finetune("--data", f"json:{path}", "--num-iterations", "1")
    for text in (f"{path}:2: not JSON", f"{path}:4: message 0", f"{path}:5: the assistant says nothing"):
        assert text in str(error.value)
    assert f"{path}:1:" not in str(error.value) and not folder(world).exists()


def test_a_bad_model_is_named_in_one_line(run_module, world):
    directory = world / "base_checkpoints" / "tiny"
    weights = directory / "model_000016.pt"
    weights.write_bytes(weights.read_bytes()[:-100])
    result = run_module("scripts.chat_sft", "--model-step", "16", "--model-tag", "tiny", base=world)
    assert result.returncode == 1 and result.stderr.startswith("error: ") and "bytes and should have" in result.stderr
    assert len(result.stderr.splitlines()) == 1


@pytest.mark.parametrize("damage", ["foreign", "other size", "no config"])
def test_a_damaged_base_model(damage, finetune, world):
    directory = world / "base_checkpoints" / "tiny"
    path, meta_path = directory / "model_000016.pt", directory / "meta_000016.json"
    meta = json.loads(meta_path.read_text())
    if damage == "foreign":
        state = torch.load(path, weights_only=True)
        state["somebody.elses.weight"] = state.pop("lm_head.weight")
        torch.save(state, path)
        meta["files"][path.name] = path.stat().st_size
        message = r"lm_head.weight is missing.*somebody.elses.weight is unknown"
    elif damage == "other size":
        meta["model_config"]["vocab_size"] = 2048
        message = r"1024 tokens.*2048"
    else:
        del meta["model_config"]
        message = r"no model_config"
    meta_path.write_text(json.dumps(meta))
    with pytest.raises(UserError, match=message):
        finetune("--data", few(world), "--num-iterations", "1")
    assert not folder(world).exists()


def test_no_base_model_at_all(finetune, world):
    shutil.rmtree(world / "base_checkpoints")
    with pytest.raises(UserError, match=r"no whole model in .*base_checkpoints: make one with python -m scripts.base_train"):
        finetune("--data", few(world), "--num-iterations", "1")


@pytest.mark.parametrize(
    "flags",
    ["--matrix-lr=nan", "--embedding-lr=-1", "--unembedding-lr=inf", "--init-lr-frac=-0.1", "--warmup-ratio=1.5", "--warmdown-ratio=-3",
     "--final-lr-frac=nan", "--max-seq-len=0", "--device-batch-size=0", "--device-batch-size=many", "--total-batch-size=-5", "--num-iterations=0",
     "--keep-last=0", "--mmlu-epochs=-1", "--gsm8k-epochs=x", "--eval-tokens=0", "--chatcore-max-cat=0", "--chatcore-max-sample=-2",
     "--model-step=-1", "--load-optimizer=2", "--resume=maybe", "--overwrite --resume=auto", "--overwrite --resume-from-step=2",
     "--resume=auto --resume-from-step=3", "--mmlu=3"],
)  # fmt: skip
def test_refused_at_the_command_line(flags, monkeypatch, capsys):
    monkeypatch.setattr(sys, "argv", ["chat_sft", *flags.split()])
    with pytest.raises(SystemExit) as stopped:
        chat_sft.parse_args()
    assert stopped.value.code == 2 and flags.split()[0].partition("=")[0] in capsys.readouterr().err


def test_wrong_flags_are_answered_in_a_line(run_module, world):
    result = run_module("scripts.chat_sft", "--warmup-ratio", "2", base=world)
    assert result.returncode == 2 and "--warmup-ratio 2.0: it is a share" in result.stderr and "Traceback" not in result.stderr
