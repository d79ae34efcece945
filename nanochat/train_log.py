"""What a training run says: a line for the eyes, a JSON line for programs, wandb for those who name their run. And one summary.json at the end."""

import json
import math
import os
from dataclasses import dataclass
from pathlib import Path

from nanochat.common import UserError, write_text

LOG_NAME, SUMMARY_NAME = "train.jsonl", "summary.json"
NO_RUN = "dummy"  # upstream's name for a run that wandb should not hear of


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
        if run != NO_RUN:
            self.wandb = _start_wandb(run, config or {})

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
            self.wandb.log({k: v for k, v in record.items() if k != "step"}, step=record["step"])

    def finish(self, **summary) -> None:
        if self.silent:
            return
        write_text(self.directory / SUMMARY_NAME, json.dumps(summary, indent=2) + "\n")
        if self.wandb is not None:
            self.wandb.summary.update(summary)

    def close(self) -> None:
        if self.wandb is not None:
            self.wandb.finish()


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
        return wandb.init(project="nanochat", name=run, config=config, mode=mode)
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
