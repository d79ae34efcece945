"""The MLP's kernel for training on a CPU against its formula in float64."""

import math

import pytest
import torch
import torch.nn.functional as F

from nanochat import cpu_kernels
from nanochat.gpt import MLP, GPTConfig, new_model

BF16 = torch.bfloat16

pytestmark = pytest.mark.usefixtures("one_thread")


@pytest.fixture(autouse=True)
def kernel():
    if not cpu_kernels.mlp_usable(BF16, 32):
        pytest.skip("no compiled kernel here")


def inputs(N: int, C: int, seed: int = 0) -> list[torch.Tensor]:
    """x, up, down, and a gradient to the output."""
    generator = torch.Generator().manual_seed(seed)

    def randn(rows: int, columns: int, size: float) -> torch.Tensor:
        return size * torch.randn(rows, columns, generator=generator)

    x, dy = randn(N, C, 1).to(BF16), randn(N, C, 1).to(BF16)
    return [x.requires_grad_(), randn(4 * C, C, C**-0.5).requires_grad_(), randn(C, 4 * C, C**-0.5).requires_grad_(), dy]


def by_the_book(x, up, down) -> torch.Tensor:
    return F.relu(x @ up.T).square() @ down.T


def error(found: torch.Tensor, expected: torch.Tensor) -> float:
    """The largest, relative to the largest number there is."""
    return ((found.double() - expected).abs().max() / expected.abs().max()).item()


@pytest.mark.parametrize("C", [16, 48, 64, 208])  # hidden: less than a strip, one and a half, two, six and a half
@pytest.mark.parametrize("N", [1, 2, 31, 32, 33, 100, 163])  # blocks of 32 rows, and 3 of them summed up at once
def test_formula(monkeypatch, N, C):
    monkeypatch.setattr(cpu_kernels, "MLP_KEPT", 3 * 32 * 20 * C)
    *arguments, dy = inputs(N, C)
    exact = [t.detach().to(BF16).double().requires_grad_() for t in arguments]
    expected = by_the_book(*exact)
    y = cpu_kernels.mlp(*arguments)[0]
    assert y.dtype == BF16 and error(y, expected) < 0.01
    found, right = torch.autograd.grad(y, arguments, dy), torch.autograd.grad(expected, exact, dy.double())
    for name, gradient, correct, argument in zip(("x", "up", "down"), found, right, arguments, strict=True):
        assert gradient.dtype == argument.dtype and error(gradient, correct) < 0.01, name


@pytest.mark.parametrize("N", [300, 1000])
def test_blocks_of_their_real_size(N):
    *arguments, dy = inputs(N, 64)
    exact = [t.detach().to(BF16).double().requires_grad_() for t in arguments]
    expected = by_the_book(*exact)
    found = cpu_kernels.mlp(*arguments)[0]
    assert error(found, expected) < 0.01
    for gradient, correct in zip(torch.autograd.grad(found, arguments, dy), torch.autograd.grad(expected, exact, dy.double()), strict=True):
        assert error(gradient, correct) < 0.01


def test_any_number_of_threads_gives_the_same_bits():
    *arguments, dy = inputs(1000, 64)
    results = []
    for threads in (1, 2, 3):
        torch.set_num_threads(threads)
        y = cpu_kernels.mlp(*arguments)[0]
        results.append((y, *torch.autograd.grad(y, arguments, dy)))
    for other in results[1:]:
        assert all(torch.equal(a, b) for a, b in zip(results[0], other, strict=True))


def test_weights_however_they_lie():
    *arguments, dy = inputs(40, 32)
    other = [arguments[0], *(weight.detach().t().contiguous().t().requires_grad_() for weight in arguments[1:])]
    results = []
    for given in (arguments, other):
        y = cpu_kernels.mlp(*given)[0]
        results.append((y, *torch.autograd.grad(y, given, dy)))
    assert not other[1].is_contiguous() and all(torch.equal(a, b) for a, b in zip(*results, strict=True))


def test_only_some_gradients():
    *arguments, dy = inputs(40, 32)
    expected = torch.autograd.grad(cpu_kernels.mlp(*arguments)[0], arguments, dy)
    for wanted in range(3):
        given = [argument.detach().requires_grad_(i == wanted) for i, argument in enumerate(arguments)]
        y, u = cpu_kernels.mlp(*given)
        assert torch.equal(torch.autograd.grad(y, given[wanted], dy)[0], expected[wanted]) and not u.requires_grad


def test_no_rows_at_all():
    *arguments, dy = inputs(0, 32)
    y = cpu_kernels.mlp(*arguments)[0]
    gradients = torch.autograd.grad(y, arguments, dy)
    assert y.shape == (0, 32) and [g.shape for g in gradients] == [a.shape for a in arguments] and not any(g.any() for g in gradients)


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf])
@pytest.mark.parametrize("broken", range(4), ids=["x", "up", "down", "dy"])
def test_a_broken_run_looks_broken(broken, value):
    """NaN and infinity reach what they reach by the formula, and nothing else."""
    *arguments, dy = inputs(40, 32)
    with torch.no_grad():
        (*arguments, dy)[broken][3, 5] = value
    y, expected = cpu_kernels.mlp(*arguments)[0], by_the_book(arguments[0], *(weight.to(BF16) for weight in arguments[1:]))
    pairs = [(y, expected), *zip(torch.autograd.grad(y, arguments, dy), torch.autograd.grad(expected, arguments, dy), strict=True)]
    for found, right in pairs:
        assert torch.equal(found.isfinite(), right.isfinite())
    assert any(not found.isfinite().all() for found, _ in pairs)


def test_what_is_not_active_gets_no_gradient():
    """Whatever comes from above: infinity times nothing would be NaN."""
    *arguments, dy = inputs(40, 32)
    x, up, down = arguments
    with torch.no_grad():
        up[7] = 0
        x.abs_(), up[9].abs_().neg_()
        down[:, (7, 9)] = 1e38
    _, dup, ddown = torch.autograd.grad(cpu_kernels.mlp(*arguments)[0], arguments, dy * 1e3)
    for silent in (7, 9):
        assert not dup[silent].any() and not ddown[:, silent].any()


def test_module(monkeypatch):
    """Trains with the kernel where it is told to, with the same result as without; the copies for inference do without."""
    module = MLP(GPTConfig(n_embd=32))
    x, up, down, _ = inputs(40, 32)
    with torch.no_grad():
        module.c_fc.weight.copy_(up), module.c_proj.weight.copy_(down)
    plain, module.cpu_training = module(x), True
    monkeypatch.setattr(torch.nn.functional, "linear", lambda *_: pytest.fail("this is the plain way"))
    fused = module(x)
    torch.testing.assert_close(fused, plain, rtol=0.02, atol=0.05)
    with torch.no_grad():
        assert torch.equal(module(x), fused)


@pytest.mark.parametrize("how", ["compiled", "checkpointing"])
def test_in_a_model(monkeypatch, how):
    """As without either; and the compiler, which is to save memory, does not save this. (In very small batches it does.)"""
    monkeypatch.setenv("NANOCHAT_DTYPE", "bfloat16")
    torch.manual_seed(0)
    model = new_model(GPTConfig(sequence_len=64, vocab_size=50, n_layer=2, n_head=2, n_kv_head=2, n_embd=64), "cpu")
    for block in model.transformer.h:
        torch.nn.init.normal_(block.attn.c_proj.weight, std=0.1), torch.nn.init.normal_(block.mlp.c_proj.weight, std=0.1)
    idx = torch.randint(50, (32, 64))
    expected = torch.autograd.grad(model(idx, idx), list(model.transformer.h.parameters()))
    calls, forward = [], cpu_kernels.mlp_forward
    monkeypatch.setattr(cpu_kernels, "mlp_forward", lambda *arguments: [calls.append(1), forward(*arguments)][1])
    if how == "compiled":
        model.compile_blocks()
    else:
        model.activation_checkpointing = True
    found = torch.autograd.grad(model(idx, idx), list(model.transformer.h.parameters()))
    assert len(calls) == (2 if how == "compiled" else 4)
    for a, b in zip(found, expected, strict=True):
        assert F.cosine_similarity(a.flatten(), b.flatten(), dim=0) > 0.99


def test_who_uses_it(monkeypatch):
    monkeypatch.setenv("NANOCHAT_DTYPE", "bfloat16")
    config = GPTConfig(sequence_len=16, vocab_size=50, n_layer=2, n_head=2, n_kv_head=2, n_embd=32)
    model = new_model(config, "cpu")
    assert all(block.mlp.cpu_training for block in model.transformer.h)
    assert not any(block.mlp.cpu_training for block in model.for_inference().transformer.h), "there decoding has kernels of its own"
    monkeypatch.setenv("NANOCHAT_DTYPE", "float32")
    model.init_weights()
    assert not any(block.mlp.cpu_training for block in model.transformer.h)


def test_as_an_operator():
    *arguments, dy = inputs(5, 16)
    torch.library.opcheck(cpu_kernels.mlp, tuple(arguments))
    arguments = [t.detach() for t in arguments]
    torch.library.opcheck(cpu_kernels.mlp_backward, (dy, *arguments, cpu_kernels.mlp(*arguments)[1]))


def test_what_does_not_fit_is_refused():
    x, up, down, dy = (t.detach() for t in inputs(5, 16))
    for arguments in ((x[:, :8], up, down), (x, up[:32], down), (x, up, down.T), (x.float(), up, down), (x, up[:, :8], down[:8])):
        with pytest.raises((AssertionError, RuntimeError)):
            cpu_kernels.mlp_forward(*arguments)
    u = cpu_kernels.mlp(x, up, down)[1]
    for arguments in ((dy[:3], x, up, down, u), (dy.float(), x, up, down, u), (dy, x, up, down, u[:3]), (dy, x, up, down, u.float())):
        with pytest.raises((AssertionError, RuntimeError)):
            cpu_kernels.mlp_backward(*arguments)
