"""Bits per byte against sums by hand, on one rank and on two."""

import itertools
import math
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from helpers import FORK_TWO

from nanochat.common import UserError
from nanochat.loss_eval import evaluate_bpb

ROOT = Path(__file__).parent.parent
TOKEN_BYTES = torch.tensor([1, 2, 7, 0])  # three words and a special token
X = torch.zeros(2, 3, dtype=torch.int64)


class FixedLosses(torch.nn.Module):
    """Loses what it is told to, and looks at how it is called."""

    def __init__(self, *losses: list):
        super().__init__()
        self.losses = itertools.cycle(losses)

    def forward(self, x, y, loss_reduction):
        assert loss_reduction == "none" and not self.training and not torch.is_grad_enabled()
        return torch.tensor(next(self.losses))


def test_by_hand():
    model = FixedLosses([[0.5, 1.0, 2.0], [4.0, math.inf, 100.0]], [[0.25, 7.0, 7.0], [3.0, 3.0, 3.0]])
    batches = [(X, torch.tensor([[0, 1, 2], [1, -1, 3]]), "state"), (X, torch.tensor([[2, -1, -1], [3, 3, -1]]))]
    assert model.training
    # counted are 0.5 + 1 + 2 + 4 nats over 1 + 2 + 7 + 2 bytes, and 0.25 nats over 7 bytes
    assert evaluate_bpb(model, batches, 2, TOKEN_BYTES) == pytest.approx(7.75 / (math.log(2) * 19), rel=1e-12)
    assert model.training and torch.is_grad_enabled()


def test_no_more_steps_than_asked_for():
    endless = iter([(X, torch.ones(2, 3, dtype=torch.int64))] * 5)
    bpb = evaluate_bpb(FixedLosses([[1.0] * 3] * 2).eval(), endless, 3, TOKEN_BYTES)
    assert bpb == pytest.approx(1 / (2 * math.log(2))) and len(list(endless)) == 2


def test_the_mode_of_the_model_comes_back():
    batch = [(X, torch.ones(2, 3, dtype=torch.int64))]
    for mode in (True, False):
        model = FixedLosses([[1.0] * 3] * 2).train(mode)
        evaluate_bpb(model, batch, 1, TOKEN_BYTES)
        assert model.training is mode
    model.forward = None
    with pytest.raises(TypeError):
        evaluate_bpb(model.train(), batch, 1, TOKEN_BYTES)
    assert model.training


def test_many_bytes_are_counted_exactly():
    """A float32 cannot count beyond 2^24 by ones: one small addend after a huge one would get lost."""
    token_bytes = torch.tensor([1, 2**25])
    batches = [(X, torch.tensor([[1, -1, -1], [-1, -1, -1]])), (X, torch.zeros(2, 3, dtype=torch.int64))]
    model = FixedLosses([[2.0**25, 0, 0], [0, 0, 0]], [[0.125] * 3] * 2)
    assert evaluate_bpb(model, batches, 2, token_bytes) * math.log(2) == pytest.approx((2**25 + 0.75) / (2**25 + 6), rel=1e-14, abs=0)


@pytest.mark.parametrize("targets", [-1, 3])
def test_no_text_is_an_error(targets):
    model = FixedLosses([[1.0] * 3] * 2)
    with pytest.raises(UserError, match="2 steps of evaluation met no text"):
        evaluate_bpb(model, [(X, torch.full((2, 3), targets))] * 2, 2, TOKEN_BYTES)
    assert model.training
    with pytest.raises(UserError, match="met no text"):
        evaluate_bpb(model, [], 2, TOKEN_BYTES)


def test_a_real_model_and_its_cross_entropy(monkeypatch):
    from nanochat.gpt import GPT, GPTConfig

    monkeypatch.setenv("NANOCHAT_DTYPE", "float32")
    monkeypatch.setattr("nanochat.cpu_kernels.library", lambda name: None)
    with torch.device("meta"):
        model = GPT(GPTConfig(sequence_len=8, vocab_size=50, n_layer=1, n_head=1, n_kv_head=1, n_embd=32))
    model.to_empty(device="cpu").init_weights()
    generator = torch.Generator().manual_seed(0)
    torch.nn.init.normal_(model.lm_head.weight, generator=generator)  # as initialised, all tokens are alike
    x, y = torch.randint(50, (2, 3, 8), generator=generator)
    y[0, :4] = -1
    token_bytes = torch.arange(50) % 5
    with torch.no_grad():
        log_p = torch.log_softmax(model(x), -1)
    nats = sum(-log_p[b, t, y[b, t]].item() for b in range(3) for t in range(8) if y[b, t] >= 0 and token_bytes[y[b, t]] > 0)
    count = sum(token_bytes[y[b, t]].item() for b in range(3) for t in range(8) if y[b, t] >= 0)
    assert evaluate_bpb(model, [(x, y)], 1, token_bytes) == pytest.approx(nats / (math.log(2) * count), rel=1e-5)


RANKS = """
import math, os, signal, sys
import torch, torch.distributed as dist
torch.set_num_threads(1)
sys.path.insert(0, {tests!r})
from nanochat.common import UserError
from nanochat.loss_eval import evaluate_bpb
from test_loss_eval import TOKEN_BYTES, X, FixedLosses

def run(rank):
    signal.alarm(40)
    dist.init_process_group("gloo", init_method="file://{folder}/store", rank=rank, world_size=2)
    model = FixedLosses([[rank + 1.0] * 3] * 2)
    y = torch.full((2, 3), 2 * rank)  # rank 0: 6 nats over 6 bytes, rank 1: 12 nats over 42 bytes
    assert math.isclose(evaluate_bpb(model, [(X, y)], 1, TOKEN_BYTES), 18 / 48 / math.log(2))
    y = torch.full((2, 3), 3 - rank * 3)  # rank 0 alone would have no text
    assert math.isclose(evaluate_bpb(model, [(X, y)], 1, TOKEN_BYTES), 12 / 6 / math.log(2))
    try:
        evaluate_bpb(model, [(X, torch.full((2, 3), -1))], 1, TOKEN_BYTES)
    except UserError:
        return
    raise AssertionError("no text on any rank should have been an error")
"""


def test_two_ranks_count_together(tmp_path):
    code = (RANKS + FORK_TWO).format(tests=str(Path(__file__).parent), folder=tmp_path)
    result = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, timeout=60)
    assert result.returncode == 0, result.stderr
