"""The records of a training run, beside its checkpoints: config.json when it begins, a line of metrics.jsonl for each step and each evaluation,
summary.json when it ends; and wandb for those who name their run. dev/RECORDS.md describes them."""

import contextlib
import datetime
import json
import math
import os
import platform
import subprocess
from dataclasses import dataclass
from pathlib import Path

from nanochat.common import Compute, UserError, write_text
from nanochat.hardware import describe

CONFIG_NAME, LOG_NAME, SUMMARY_NAME = "config.json", "metrics.jsonl", "summary.json"
NO_RUN = "dummy"  # upstream's name for a run that wandb should not hear of

# What wandb calls our metrics: upstream's names, so that its dashboards fit. What is not here is called as it is.
WANDB_NAMES = {
    "smooth_loss": "train/loss", "loss": "train/raw_loss", "lr": "train/lrm", "seconds": "train/dt", "tokens_per_second": "train/tok_per_sec",
    "mfu": "train/mfu", "epoch": "train/epoch", "val_bpb": "val/bpb", "total_seconds": "total_training_time", "total_flops": "total_training_flops",
}  # fmt: skip
RL_NAMES = {**WANDB_NAMES, "loss": "loss", "lr": "lrm", "length": "sequence_length"}


@dataclass
class SmoothLoss:
    """An exponential mean that is right from the first step on: what the start at zero takes away is divided back in (arXiv 1412.6980, section 3)."""

    beta: float = 0.9
    total: float = 0.0
    steps: int = 0

    def update(self, loss: float) -> float:
        self.total = self.beta * self.total + (1 - self.beta) * loss
        self.steps += 1
        return self.value

    @property
    def value(self) -> float:
        return self.total / (1 - self.beta**self.steps) if self.steps else math.nan


class TrainLog:
    """For the first rank; the others hold one that is silent."""

    def __init__(self, directory: Path, silent: bool, run: str = NO_RUN, config: dict | None = None, from_step: int = 0):
        self.directory, self.silent, self.wandb = directory, silent, None
        if silent:
            return
        directory.mkdir(parents=True, exist_ok=True)
        self._forget_after(from_step)
        if config is not None:
            self._write_config(config, from_step)
        if run != NO_RUN:
            self.wandb = _start_wandb(run, {**config["flags"], **config["plan"]} if config else {})

    def _write_config(self, config: dict, from_step: int) -> None:
        """As this part of the run has it; of the parts before, when they began and at which step."""
        path, parts = self.directory / CONFIG_NAME, []
        if from_step > 0 and path.exists():
            with contextlib.suppress(ValueError, KeyError, TypeError):  # cut short by a kill
                parts = [part for part in json.loads(path.read_text(encoding="utf-8"))["parts"] if part["from_step"] < from_step]
        parts.append({"from_step": from_step, "began": datetime.datetime.now(datetime.timezone.utc).isoformat(timespec="seconds")})
        write_text(path, json.dumps({**config, "parts": parts}, indent=2, default=str) + "\n")

    def _forget_after(self, step: int) -> None:
        """A run that goes on from a step will log the later ones again."""
        path = self.directory / LOG_NAME
        lines = path.read_text(encoding="utf-8").splitlines() if path.exists() and step > 0 else []
        kept = [line for line in lines if _step_of(line) <= step]
        write_text(path, "".join(f"{line}\n" for line in kept))

    def write(self, **record) -> None:
        """One JSON line. It must hold `step`, the number of optimizer steps done."""
        if self.silent:
            return
        with open(self.directory / LOG_NAME, "a", encoding="utf-8") as file:
            file.write(json.dumps(record) + "\n")
        if self.wandb is not None:
            self.wandb.log(for_wandb(record), step=record["step"])

    def finish(self, **summary) -> None:
        if self.silent:
            return
        write_text(self.directory / SUMMARY_NAME, json.dumps(summary, indent=2) + "\n")
        if self.wandb is not None:
            self.wandb.summary.update({WANDB_NAMES.get(k, k): v for k, v in summary.items()})

    def close(self) -> None:
        if self.wandb is not None:
            self.wandb.finish()


def for_wandb(record: dict) -> dict:
    """A line as upstream's dashboards expect it."""
    names = RL_NAMES if "reward" in record else WANDB_NAMES
    said = {names.get(key, key): value for key, value in record.items() if key != "step"}
    return {**said, "train/mfu": 100 * said["train/mfu"]} if "train/mfu" in said else said


def run_config(stage: str, flags: dict, plan: dict, compute: Compute) -> dict:
    """What a run is about to do, with what and where."""
    import torch

    return {
        "stage": stage,
        "flags": flags,
        "plan": plan,
        "versions": {"python": platform.python_version(), "torch": torch.__version__},
        "git": git_state(),
        "hardware": describe(compute.device, compute.world_size),
    }


def git_state() -> dict | None:
    """The commit of this code and whether anything has been changed since; None if this is no checkout."""
    root = Path(__file__).parent.parent
    if not (root / ".git").exists():  # an installed copy may lie inside somebody else's
        return None
    try:
        commit, changes = (
            subprocess.run(["git", "-C", root, *command], capture_output=True, text=True, check=True, timeout=20).stdout.strip()
            for command in (["rev-parse", "HEAD"], ["status", "--porcelain"])
        )
    except (OSError, subprocess.SubprocessError):
        return None
    return {"commit": commit, "dirty": bool(changes)}


def _step_of(line: str) -> float:
    """The step of a JSON line; a line that a kill cut short belongs to no step that is kept."""
    try:
        return json.loads(line)["step"]
    except (ValueError, KeyError, TypeError):
        return math.inf


def _start_wandb(run: str, config: dict):
    import wandb

    signed_in = bool(os.environ.get("WANDB_API_KEY")) or any("api.wandb.ai" in line for line in _netrc())
    mode = os.environ.get("WANDB_MODE") or ("online" if signed_in else "offline")
    try:
        return wandb.init(project=os.environ.get("WANDB_PROJECT") or "nanochat", name=run, config=config, mode=mode)
    except Exception as error:  # a service that is away must not end a run before it begins, but it should be known now
        raise UserError(f"wandb does not start ({error}): set WANDB_MODE=offline, or leave --run out") from error


def _netrc() -> list[str]:
    path = Path(os.environ.get("NETRC") or Path.home() / ".netrc")
    try:
        return path.read_text(encoding="utf-8", errors="replace").splitlines()
    except OSError:
        return []


def clock(seconds: float) -> str:
    """3725 → 1:02:05"""
    seconds = max(0, round(seconds))
    return f"{seconds // 3600}:{seconds % 3600 // 60:02}:{seconds % 60:02}"
