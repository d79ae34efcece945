"""`report compare` on runs that were really trained: seeds of one run are a tie, a broken learning rate is not, with one seed each and with two."""

import itertools
import signal
import types
from pathlib import Path

import pytest

from nanochat import comparing
from scripts import base_train

# One layer, 16 rows of 64 tokens in a step, learning rates for so small a batch
TINY = ["--dataset", "tinyworld", "--depth", "1", "--aspect-ratio", "32", "--head-dim", "16", "--max-seq-len", "64", "--device-batch-size", "16",
        "--total-batch-size", "1024", "--num-iterations", "120", "--warmup-steps", "10", "--compile", "off", "--embedding-lr", "2.4",
        "--unembedding-lr", "0.064", "--scalar-lr", "1", "--eval-every", "20", "--eval-tokens", "8192", "--core-metric-every", "-1",
        "--sample-every", "-1"]  # fmt: skip
FINE, TIE = 0.16, {"step": "tie", "time": "tie", "FLOPs": "tie"}
RUNS = {f"fine{seed}": (seed, FINE) for seed in (1, 2, 3, 4)} | {f"broken{seed}": (seed, 100 * FINE) for seed in (1, 2)}


class Clock:
    """Steps take as long as they would on a machine that does nothing else, about: what is tested is not how busy this one is."""

    def __init__(self):
        self.ticks = itertools.cycle((0.0100, 0.0103, 0.0098, 0.0101, 0.0105, 0.0099, 0.0102))
        self.now = 0.0

    def perf_counter(self) -> float:
        self.now += next(self.ticks)
        return self.now


@pytest.fixture(scope="module")
def trained(small_world, tmp_path_factory) -> Path:
    """A base dir with all of RUNS."""
    base = tmp_path_factory.mktemp("compared")
    for name in ("base_data_tinyworld", "tokenizer_tinyworld"):
        (base / name).symlink_to(small_world / name)
    handlers = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("NANOCHAT_BASE_DIR", str(base))
        patch.setattr("nanochat.hardware.measure_peak_flops", lambda *_: 1e12)  # it takes a second, and nothing here depends on it
        for tag, (seed, rate) in RUNS.items():
            patch.setattr(base_train, "time", types.SimpleNamespace(perf_counter=Clock().perf_counter))
            patch.setattr("sys.argv", ["base_train", *TINY, "--model-tag", tag, "--seed", str(seed), "--matrix-lr", str(rate)])
            assert base_train.main(base_train.parse_args()) == 0
    for number, handler in handlers.items():
        signal.signal(number, handler)
    return base


@pytest.fixture
def ahead(trained, tmp_path, monkeypatch):
    """Who is ahead by validation, at equal step, time and FLOPs."""
    from nanochat import plots

    monkeypatch.setattr(plots, "line_chart", lambda *_, **__: None)  # tests/test_report.py looks at charts

    def compare(*names: str) -> dict[str, str]:
        said = comparing.compare(trained, list(names), "base", tmp_path)
        lines = [line for line in said if line.startswith("validation at")]
        return {axis: line.rsplit(": ", 1)[1] for axis in ("step", "time", "FLOPs") for line in lines if axis in line}

    return compare


@pytest.mark.parametrize(("one", "other"), list(itertools.combinations(("fine1", "fine2", "fine3", "fine4"), 2)))
def test_two_seeds_are_a_tie(ahead, one, other):
    assert ahead(one, other) == TIE


@pytest.mark.parametrize("broken", ["broken1", "broken2"])
def test_a_broken_learning_rate_is_behind(ahead, broken):
    for fine in ("fine1", "fine2"):
        assert ahead(fine, broken) == dict.fromkeys(TIE, "A ahead") and ahead(broken, fine) == dict.fromkeys(TIE, "B ahead")


def test_two_seeds_on_each_side(ahead):
    assert ahead("fine1,fine2", "fine3,fine4") == TIE
    assert ahead("fine1,fine2", "broken1,broken2") == dict.fromkeys(TIE, "A ahead")
    assert ahead("fine3,fine4", "broken1") == dict.fromkeys(TIE, "A ahead")
