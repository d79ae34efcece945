"""What some tests share beside fixtures."""

import contextlib
import os
import signal
import time
from pathlib import Path

import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode

from nanochat.train_log import TrainLog
from tasks.common import Task, chat

# The end of a script with a function run(rank): two processes of it, and a status that says whether both went well.
FORK_TWO = """
children = []
for rank in range(2):
    if (child := os.fork()) == 0:
        try: run(rank)
        except BaseException: import traceback; traceback.print_exc(); os._exit(1)
        os._exit(0)
    children.append(child)
statuses = [os.waitpid(child, 0)[1] for child in children]
sys.exit(any(statuses))
"""


class Questions(Task):
    """Short and long questions, and an answer is right if anything is said."""

    def __init__(self, *words: int):
        super().__init__()
        self.words = words

    def num_examples(self) -> int:
        return len(self.words)

    def get_example(self, index: int) -> dict:
        return chat("why " * self.words[index], "Because.")

    def evaluate(self, conversation: dict, completion: str) -> bool:
        return bool(completion)


class LargestTensor(TorchDispatchMode):
    """Remembers the size of the largest tensor that any operation gave back."""

    numel = 0

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        result = function(*args, **(kwargs or {}))
        for x in result if isinstance(result, tuple | list) else [result]:
            self.numel = max(self.numel, x.numel() if isinstance(x, torch.Tensor) else 0)
        return result


def same(a: object, b: object) -> bool:
    """Equal to the last bit, tensors and all."""
    if isinstance(a, torch.Tensor):
        return a.dtype == b.dtype and torch.equal(a, b)
    if isinstance(a, dict):
        return a.keys() == b.keys() and all(same(a[key], b[key]) for key in a)
    if isinstance(a, list | tuple):
        return len(a) == len(b) and all(map(same, a, b))
    return a == b


def stop_at(step: int, number: int, monkeypatch) -> None:
    """Send ourselves a signal when this step has been logged."""
    write = TrainLog.write

    def writing(self, **record):
        write(self, **record)
        if record["step"] == step and "loss" in record:
            signal.raise_signal(number)

    monkeypatch.setattr(TrainLog, "write", writing)


# --- processes -------------------------------------------------------------------------------------------------------

linux = pytest.mark.skipif(not Path("/proc/self/environ").exists(), reason="looks for processes in /proc")


def living(base: Path) -> list[int]:
    """All processes that were started with this base dir or a folder in it, in whatever session and whoever's children they are now."""
    mark, found = f"NANOCHAT_BASE_DIR={base}".encode(), []
    for path in Path("/proc").glob("[0-9]*/environ"):
        with contextlib.suppress(OSError):  # it has just ended
            if mark in path.read_bytes():
                found.append(int(path.parent.name))
    return found


def kill_all(base: Path) -> None:
    """As a machine that goes away. Those that would start more are held still first."""
    for number in (signal.SIGSTOP, signal.SIGSTOP, signal.SIGKILL):
        for pid in living(base):
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, number)
    while living(base):
        time.sleep(0.01)
