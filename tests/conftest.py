"""What the tests share: a base dir with a small tinyworld and its tokenizer, made once, and a way to run scripts as a user does."""

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from nanochat import dataset
from nanochat.tokenizer import Tokenizer, tokenizer_dir

ROOT = Path(__file__).parent.parent
VOCAB_SIZE = 1024


def pytest_configure() -> None:
    """A shell that starts something in the background has it ignore Ctrl-C, and so would all that the tests start."""
    if signal.getsignal(signal.SIGINT) == signal.SIG_IGN:
        signal.signal(signal.SIGINT, signal.default_int_handler)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """The files that take longest come first: each is one process's (--dist loadfile), and at the end none should be waited for."""
    order = {
        name: place for place, name in enumerate(("test_scripts", "test_speedrun", "test_base_train", "test_multinode", "test_scaling_analysis"))
    }
    items.sort(key=lambda item: order.get(item.path.stem, len(order)))


@pytest.fixture(scope="session")
def small_world(tmp_path_factory) -> Path:
    """A base dir that holds 1 MB of tinyworld and a tokenizer for it. Read it, do not write to it."""
    base = tmp_path_factory.mktemp("small_world")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("NANOCHAT_BASE_DIR", str(base))
        dataset.generate(1)
        texts = (text for batch in dataset.parquets_iter_batched("train", "tinyworld") for text in batch)
        Tokenizer.train_from_iterator(texts, VOCAB_SIZE).save(tokenizer_dir("tinyworld"))
    return base


@pytest.fixture
def in_small_world(small_world, monkeypatch) -> Path:
    monkeypatch.setenv("NANOCHAT_BASE_DIR", str(small_world))
    return small_world


@pytest.fixture(scope="session")
def tokenizer(small_world) -> Tokenizer:
    return Tokenizer.from_directory(small_world / "tokenizer_tinyworld")


@pytest.fixture
def one_thread() -> Iterator[None]:
    """For tests of small tensors, on machines that have other things to do."""
    import torch

    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture
def run_module(tmp_path):
    """Run `python -m module …` as a user does, with a base dir of its own unless the test gives one."""

    def run(module: str, *arguments: str, base: Path = tmp_path, **env: str) -> subprocess.CompletedProcess:
        environment = {**os.environ, "NANOCHAT_BASE_DIR": str(base), **env}
        return subprocess.run([sys.executable, "-m", module, *arguments], cwd=ROOT, env=environment, capture_output=True, text=True)

    return run
