"""What a run writes down, and what it finds again when it goes on."""

import json
import math
import platform
import subprocess

import pytest
import torch

from nanochat import train_log
from nanochat.common import Compute, UserError
from nanochat.train_log import SmoothLoss, TrainLog, clock


def lines(directory) -> list[dict]:
    return [json.loads(line) for line in (directory / "metrics.jsonl").read_text().splitlines()]


# --- the smooth loss -------------------------------------------------------------------------------------------------


def test_smooth_loss_by_hand():
    smooth = SmoothLoss()
    assert math.isnan(smooth.value)
    assert smooth.update(4.0) == pytest.approx(4.0)  # 0.1 · 4 over 0.1
    assert smooth.update(2.0) == pytest.approx(56 / 19)  # (0.9 · 0.4 + 0.1 · 2) / (1 - 0.81) = 0.56 / 0.19
    assert smooth.update(3.0) == pytest.approx(0.804 / 0.271)  # (0.9 · 0.56 + 0.1 · 3) / (1 - 0.729)
    assert smooth.value == pytest.approx(0.804 / 0.271) and smooth.steps == 3
    faster = SmoothLoss(beta=0.5)
    faster.update(1.0)
    assert faster.update(4.0) == pytest.approx(3.0)  # (0.25 + 2) / 0.75


def test_a_constant_stays_what_it_is():
    smooth = SmoothLoss()
    assert all(smooth.update(2.5) == pytest.approx(2.5) for _ in range(1000))
    smooth.update(math.nan)
    assert math.isnan(smooth.value)


def test_smooth_loss_goes_on_where_it_was():
    losses = [5 - 0.1 * n + (n * 7 % 5) / 10 for n in range(30)]
    whole, first = SmoothLoss(), SmoothLoss()
    for loss in losses:
        whole.update(loss)
    for loss in losses[:13]:
        first.update(loss)
    second = SmoothLoss(total=first.total, steps=first.steps)
    assert second.value == first.value
    for loss in losses[13:]:
        second.update(loss)
    assert second == whole


# --- the log ---------------------------------------------------------------------------------------------------------


def test_lines_and_summary(tmp_path):
    log = TrainLog(tmp_path / "a" / "b", silent=False)
    for step in (1, 2):
        log.write(step=step, loss=1 / step, note="è")
    assert lines(tmp_path / "a" / "b") == [{"step": 1, "loss": 1.0, "note": "è"}, {"step": 2, "loss": 0.5, "note": "è"}]  # on disk at once
    assert not (tmp_path / "a" / "b" / "summary.json").exists()
    log.finish(stage="base_train", val_bpb=1.25, none=None)
    log.close()
    assert json.loads((tmp_path / "a" / "b" / "summary.json").read_text()) == {"stage": "base_train", "val_bpb": 1.25, "none": None}
    assert len(lines(tmp_path / "a" / "b")) == 2


def test_silent_ranks_write_nothing(tmp_path):
    (tmp_path / "metrics.jsonl").write_text('{"step": 1}\n')
    log = TrainLog(tmp_path, silent=True, run="would-fail-without-a-network", from_step=0)
    log.write(step=1)
    log.finish(stage="x")
    log.close()
    TrainLog(tmp_path / "never", silent=True)
    assert [path.name for path in tmp_path.iterdir()] == ["metrics.jsonl"] and lines(tmp_path) == [{"step": 1}]


def test_going_on_forgets_what_comes_again(tmp_path):
    log = TrainLog(tmp_path, silent=False)
    log.write(step=0, val_bpb=3.0)
    for step in range(1, 8):
        log.write(step=step, loss=float(step))
    log.write(step=4, val_bpb=2.0)  # wherever it stands
    with open(tmp_path / "metrics.jsonl", "a") as file:
        file.write('\n[1, 2]\n"text"\n{"loss": 3}\nnot json\n{"step": 3, "lo')  # killed in the middle of a word
    log = TrainLog(tmp_path, silent=False, from_step=4)
    log.write(step=5, loss=50.0)
    assert lines(tmp_path) == [
        {"step": 0, "val_bpb": 3.0},
        *({"step": step, "loss": float(step)} for step in range(1, 5)),
        {"step": 4, "val_bpb": 2.0},
        {"step": 5, "loss": 50.0},
    ]


def test_starting_anew_forgets_everything(tmp_path):
    log = TrainLog(tmp_path, silent=False)
    log.write(step=0, val_bpb=3.0)
    log.write(step=1)
    TrainLog(tmp_path, silent=False)
    assert lines(tmp_path) == []


def test_going_on_without_a_log(tmp_path):
    """Somebody copied the checkpoint alone."""
    TrainLog(tmp_path, silent=False, from_step=100).write(step=101)
    assert lines(tmp_path) == [{"step": 101}]


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(0, "0:00:00"), (0.4, "0:00:00"), (59.6, "0:01:00"), (3725, "1:02:05"), (86399, "23:59:59"), (360_000, "100:00:00"), (-5, "0:00:00")],
)
def test_clock(seconds, text):
    assert clock(seconds) == text


# --- config.json -----------------------------------------------------------------------------------------------------

CONFIG = {"flags": {"run": "mine"}, "plan": {"depth": 4}}


def test_the_config_remembers_all_parts_of_a_run(tmp_path):
    def parts() -> list[int]:
        return [part["from_step"] for part in json.loads((tmp_path / "config.json").read_text())["parts"]]

    for from_step, expected in ((0, [0]), (20, [0, 20]), (40, [0, 20, 40]), (30, [0, 20, 30]), (0, [0])):
        TrainLog(tmp_path, silent=False, config=CONFIG, from_step=from_step)
        assert parts() == expected
    TrainLog(tmp_path, silent=True, config={**CONFIG, "stage": "no"}, from_step=0)
    config = json.loads((tmp_path / "config.json").read_text())
    assert config["flags"] == CONFIG["flags"] and "stage" not in config and config["parts"][0]["began"].endswith("+00:00")
    (tmp_path / "config.json").write_text('{"parts": [{"fr')
    TrainLog(tmp_path, silent=False, config=CONFIG, from_step=7)
    assert parts() == [7]


def test_what_a_config_says():
    config = train_log.run_config("base_train", {"run": "mine"}, {"depth": 4}, Compute(False, 0, 0, 1, torch.device("cpu")))
    assert json.loads(json.dumps(config)) == config and config["stage"] == "base_train" and config["flags"] == {"run": "mine"}
    assert config["versions"] == {"python": platform.python_version(), "torch": torch.__version__}
    hardware = config["hardware"]
    assert hardware["device"] == "cpu" and hardware["name"] and hardware["count"] == 1 and hardware["memory"] > 2**28 and hardware["cores"] >= 1


def test_the_commit(tmp_path, monkeypatch):
    monkeypatch.setattr(train_log, "__file__", str(tmp_path / "nanochat" / "train_log.py"))
    assert train_log.git_state() is None  # not a checkout
    git = ["git", "-C", str(tmp_path), "-c", "user.name=a", "-c", "user.email=a@b.c"]
    for command in (["init", "-q"], ["commit", "-q", "--allow-empty", "-m", "one"]):
        subprocess.run([*git, *command], check=True)
    commit = subprocess.run([*git, "rev-parse", "HEAD"], check=True, capture_output=True, text=True).stdout.strip()
    assert train_log.git_state() == {"commit": commit, "dirty": False}
    (tmp_path / "new.py").touch()
    assert train_log.git_state() == {"commit": commit, "dirty": True}
    monkeypatch.setenv("PATH", "")
    assert train_log.git_state() is None  # no git


# --- wandb -----------------------------------------------------------------------------------------------------------


class FakeWandb:
    """Remembers what it was told."""

    def __init__(self):
        self.calls, self.summary = [], {}

    def init(self, **settings):
        self.calls.append(("init", settings))
        return self

    def log(self, record, step):
        self.calls.append(("log", record, step))

    def finish(self):
        self.calls.append(("finish",))


@pytest.fixture
def wandb(monkeypatch, tmp_path) -> FakeWandb:
    fake = FakeWandb()
    monkeypatch.setitem(__import__("sys").modules, "wandb", fake)
    for name in ("WANDB_MODE", "WANDB_API_KEY"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("NETRC", str(tmp_path / "netrc"))
    return fake


def test_what_wandb_hears(tmp_path, wandb):
    log = TrainLog(tmp_path, silent=False, run="mine", config=CONFIG)
    log.write(step=7, loss=1.75, smooth_loss=1.5, tokens_per_second=8, mfu=0.5, total_seconds=9, total_flops=1e9)
    log.write(step=7, val_bpb=1.0, core_metric=0.25)
    log.write(step=7, chatcore_metric=0.5)
    log.write(step=8, reward=0.5, loss=0.1, lr=0.9, length=30)
    log.finish(val_bpb=1.0)
    log.close()
    assert wandb.calls == [
        ("init", {"project": "nanochat", "name": "mine", "config": {"run": "mine", "depth": 4}, "mode": "offline"}),
        (
            "log",
            {
                "train/raw_loss": 1.75,
                "train/loss": 1.5,
                "train/tok_per_sec": 8,
                "train/mfu": 50.0,
                "total_training_time": 9,
                "total_training_flops": 1e9,
            },
            7,
        ),
        ("log", {"val/bpb": 1.0, "core_metric": 0.25}, 7),
        ("log", {"chatcore_metric": 0.5}, 7),
        ("log", {"reward": 0.5, "loss": 0.1, "lrm": 0.9, "sequence_length": 30}, 8),
        ("finish",),
    ]
    assert wandb.summary == {"val/bpb": 1.0}
    assert lines(tmp_path)[1:3] == [{"step": 7, "val_bpb": 1.0, "core_metric": 0.25}, {"step": 7, "chatcore_metric": 0.5}]


def test_the_project_on_wandb(tmp_path, wandb, monkeypatch):
    monkeypatch.setenv("WANDB_PROJECT", "depths")
    TrainLog(tmp_path, silent=False, run="mine")
    assert wandb.calls[0][1]["project"] == "depths"


def test_dummy_is_not_for_wandb(tmp_path, wandb):
    log = TrainLog(tmp_path, silent=False, run="dummy")
    log.write(step=1)
    log.finish()
    log.close()
    TrainLog(tmp_path, silent=True, run="mine")
    assert not wandb.calls


def test_online_for_those_who_signed_in(tmp_path, wandb, monkeypatch):
    """Who has no account is not asked for one in the middle of the night."""

    def mode() -> str:
        TrainLog(tmp_path, silent=False, run="mine")
        return wandb.calls[-1][1]["mode"]

    assert mode() == "offline"
    (tmp_path / "netrc").write_text("machine example.com login a password b\n")
    assert mode() == "offline"
    (tmp_path / "netrc").write_text("machine api.wandb.ai\n  login user\n  password key\n")
    assert mode() == "online"
    monkeypatch.setenv("WANDB_MODE", "disabled")
    assert mode() == "disabled"
    (tmp_path / "netrc").unlink()
    monkeypatch.delenv("WANDB_MODE")
    monkeypatch.setenv("WANDB_API_KEY", "key")
    assert mode() == "online"


def test_wandb_that_does_not_start(tmp_path, wandb, monkeypatch):
    def fail(**_):
        raise RuntimeError("no route to host")

    monkeypatch.setattr(wandb, "init", fail)
    with pytest.raises(UserError, match=r"no route to host.*WANDB_MODE=offline.*--run"):
        TrainLog(tmp_path, silent=False, run="mine")


def test_the_real_wandb_offline(tmp_path, monkeypatch):
    wandb = pytest.importorskip("wandb")
    monkeypatch.setenv("WANDB_MODE", "offline")
    monkeypatch.setenv("WANDB_SILENT", "true")
    for name in ("WANDB_DIR", "WANDB_CACHE_DIR", "WANDB_CONFIG_DIR", "WANDB_DATA_DIR", "WANDB_ARTIFACT_DIR"):
        monkeypatch.setenv(name, str(tmp_path / "wandb_files"))
    (tmp_path / "wandb_files").mkdir()
    log = TrainLog(tmp_path / "run", silent=False, run="mine", config=CONFIG)
    assert isinstance(log.wandb, wandb.Run) and log.wandb.name == "mine" and log.wandb.config["depth"] == 4
    log.write(step=1, loss=1.5)
    log.finish(val_bpb=1.0)
    assert log.wandb.summary["val/bpb"] == 1.0
    log.close()
    assert list((tmp_path / "wandb_files").rglob("run-*.wandb"))
    assert lines(tmp_path / "run") == [{"step": 1, "loss": 1.5}]
    assert train_log.NO_RUN == "dummy"
