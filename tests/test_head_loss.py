"""The chunked loss against its formula in float64: values, gradients, chunks of every kind, and what memory it takes."""

import math

import pytest
import torch
from helpers import LargestTensor

from nanochat import cpu_kernels, head_loss
from nanochat.head_loss import plain_losses

pytestmark = pytest.mark.usefixtures("one_thread")

CHANNELS, VOCAB, PADDED = 32, 100, 128
COUNTS = [1, 8, 37, 64]  # of rows: one, a whole piece, no multiple of anything, several whole chunks


@pytest.fixture(params=["compiled", "torch"])
def kernels(request, monkeypatch) -> str:
    if request.param == "torch":
        monkeypatch.setattr(cpu_kernels, "library", lambda name: None)
    elif not cpu_kernels.loss_usable(torch.float32):
        pytest.skip("no compiled kernels here")
    return request.param


@pytest.fixture
def small_chunks(monkeypatch):
    """Chunks of 16 rows in float32 and 32 in bf16, cut into products of 8 for logits and of 3 for the gradient to x; compiled in bf16, one block of
    32 rows after the other."""
    monkeypatch.setattr(cpu_kernels, "HEAD_BLOCK", 32 * CHANNELS)
    monkeypatch.setattr(cpu_kernels, "HEAD_KEPT", 0)
    monkeypatch.setattr(head_loss, "LOGITS_ROWS", 8)
    monkeypatch.setattr(head_loss, "GRADIENT_ROWS", 3)
    monkeypatch.setattr(head_loss, "CHUNK_BYTES", {"cpu": 17 * PADDED * 4, "cuda": 0})


def inputs(N: int, dtype=torch.float32, size: float = 1.0, seed: int = 0):
    """x and weight, so that logits are a few times `size`, and targets of which some do not count."""
    generator = torch.Generator().manual_seed(seed)
    x = torch.randn(N, CHANNELS, generator=generator).to(dtype).requires_grad_()
    weight = (size * torch.randn(PADDED, CHANNELS, generator=generator)).requires_grad_()
    targets = torch.randint(VOCAB, (N,), generator=generator)
    targets[1::4] = -1
    return x, weight, targets


def formula(x, weight, targets, reduction: str) -> torch.Tensor:
    capped = 15 * torch.tanh(x @ weight[:VOCAB].T / 15)
    losses = capped.exp().sum(1).log() - capped[torch.arange(len(targets)), targets.clamp_min(0)]
    losses = losses * (targets >= 0)
    return {"none": losses, "sum": losses.sum(), "mean": losses.sum() / max(1, (targets >= 0).sum())}[reduction]


def upstream(loss: torch.Tensor) -> torch.Tensor:
    """A gradient from outside: not 1, and different for each row where there are rows."""
    return torch.linspace(-2, 3, loss.numel(), dtype=loss.dtype).reshape(loss.shape)


def compare(x, weight, targets, reduction: str) -> tuple[float, float, float]:
    """How far off loss, gradient to x and gradient to weight are, each relative to its largest number."""
    exact = [t.detach().double().requires_grad_() for t in (x, weight)]
    expected = formula(*exact, targets, reduction)
    found = head_loss.head_loss(x, weight, targets, VOCAB, reduction)
    assert found.dtype == torch.float32 and found.shape == expected.shape
    gradients = torch.autograd.grad(found, (x, weight), upstream(found))
    right = torch.autograd.grad(expected, exact, upstream(expected))
    assert [g.dtype for g in gradients] == [x.dtype, weight.dtype]
    assert not gradients[1][VOCAB:].any(), "padding learns nothing"
    pairs = [(found.detach(), expected.detach()), *zip(gradients, right, strict=True)]
    return tuple(((a.double() - b).abs().max() / b.abs().max().clamp_min(1e-9)).item() for a, b in pairs)


@pytest.mark.parametrize("reduction", ["mean", "sum", "none"])
@pytest.mark.parametrize("N", COUNTS)
@pytest.mark.parametrize("ignored", [0, 1, 4, 37], ids="1 of {}".format)  # none, all, some, hardly any
def test_float32(kernels, small_chunks, N, reduction, ignored):
    x, weight, targets = inputs(N)
    targets.clamp_(min=0)
    if ignored:
        targets[ignored // 2 :: ignored] = -1
    assert max(compare(x, weight, targets, reduction)) < 1e-5


def test_rows_without_a_target_cost_nothing(small_chunks, monkeypatch):
    rows, real = [], head_loss._softcap_loss
    monkeypatch.setattr(head_loss, "_softcap_loss", lambda z, *more: [rows.append(len(z)), real(z, *more)])
    x, weight, targets = inputs(64)
    targets[:40] = -1
    head_loss.head_loss(x, weight, targets, VOCAB).backward()
    assert sum(rows) == (targets >= 0).sum() and not x.grad[targets < 0].any() and x.grad[targets >= 0].all()


@pytest.mark.parametrize("reduction", ["mean", "sum", "none"])
@pytest.mark.parametrize("N", [37, 64])
def test_bf16(kernels, small_chunks, N, reduction):
    """Logits have 8 bits: those of size 8 to 16 are off by 1/32, and so is the logarithm of a probability; gradients are rounded as well."""
    loss, dx, dw = compare(*inputs(N, torch.bfloat16), reduction)
    assert loss < 0.01 and dx < 0.03 and dw < 0.03


@pytest.mark.parametrize("reduction", ["mean", "none"])
def test_chunks_of_their_real_size(kernels, reduction):
    assert max(compare(*inputs(1300), reduction)) < 1e-5  # 1024 and 276 rows; 256 at a time


@pytest.mark.parametrize("reduction", ["mean", "sum", "none"])
def test_materialised_at_once(monkeypatch, reduction):
    """What GPUs do while there is room."""
    monkeypatch.setattr(head_loss, "PLAIN_BYTES", {"cpu": 37 * PADDED * 4})
    monkeypatch.setattr(head_loss, "losses_and_gradients", lambda *_: pytest.fail("this would fit"))
    assert max(compare(*inputs(37), reduction)) < 1e-5
    with pytest.raises(pytest.fail.Exception, match="this would fit"):
        head_loss.head_loss(*inputs(38), VOCAB, reduction)


def test_a_whole_number_of_words_needs_no_padding(kernels, small_chunks):
    x, weight, targets = inputs(20)
    trimmed = weight.detach()[:VOCAB].clone()
    torch.testing.assert_close(head_loss.head_loss(x, trimmed, targets, VOCAB), head_loss.head_loss(x, weight, targets, VOCAB))


@pytest.mark.parametrize("size", [100.0, 1e4])
def test_far_beyond_the_cap(kernels, small_chunks, size):
    """There tanh is flat: the loss is bounded by 30 and the logarithm of the words, and the gradient is almost, or exactly, nothing."""
    x, weight, targets = inputs(37, size=size)
    exact = [t.detach().double().requires_grad_() for t in (x, weight)]
    expected, found = formula(*exact, targets, "none"), head_loss.head_loss(x, weight, targets, VOCAB, "none")
    torch.testing.assert_close(found.double(), expected, rtol=1e-5, atol=1e-5)
    assert 20 < found.max() <= 30 + math.log(VOCAB)
    pairs = zip(torch.autograd.grad(found.sum(), (x, weight)), torch.autograd.grad(expected.sum(), exact), (size, 1), strict=True)
    for gradient, right, unit in pairs:  # a logit's gradient is at most 1 and float32 knows 1 - tanh² to 1e-7
        torch.testing.assert_close(gradient.double(), right, rtol=0, atol=2e-6 * unit * 37)


@pytest.mark.parametrize("reduction", ["mean", "sum", "none"])
def test_no_targets_at_all(kernels, small_chunks, reduction):
    x, weight, targets = inputs(20)
    loss = head_loss.head_loss(x, weight, torch.full_like(targets, -1), VOCAB, reduction)
    assert loss.eq(0).all()
    assert all(g.eq(0).all() for g in torch.autograd.grad(loss.sum(), (x, weight)))


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_nan_stays_nan(kernels, small_chunks, dtype):
    x, weight, targets = inputs(37, dtype)
    with torch.no_grad():
        x[20, 3] = math.nan
    assert targets[20] >= 0
    for reduction in ("mean", "sum"):
        loss = head_loss.head_loss(x, weight, targets, VOCAB, reduction)
        assert loss.isnan()
        dx, dw = torch.autograd.grad(loss, (x, weight))
        assert dx[20].isnan().all() and dw[:VOCAB].isnan().all()
    each = head_loss.head_loss(x, weight, targets, VOCAB, "none")
    assert each[20].isnan() and each.isnan().sum() == 1


def test_inputs_are_left_alone(kernels, small_chunks):
    x, weight, targets = inputs(37)
    before = [t.detach().clone() for t in (x, weight, targets)]
    loss = head_loss.head_loss(x, weight, targets, VOCAB)
    loss.backward(retain_graph=True)
    once = [t.grad.clone() for t in (x, weight)]
    loss.backward()  # a second time gives the same again
    for t, g in zip((x, weight), once, strict=True):
        torch.testing.assert_close(t.grad, 2 * g)
    assert all(torch.equal(a, b) for a, b in zip((x, weight, targets), before, strict=True))


def test_only_one_of_them_learns(kernels, small_chunks):
    x, weight, targets = inputs(37)
    expected = torch.autograd.grad(head_loss.head_loss(x, weight, targets, VOCAB), (x, weight))
    for reduction in ("mean", "none"):
        for index, gradient in enumerate(expected):
            learning = (x, weight)[index]
            pair = (x, weight.detach()) if index == 0 else (x.detach(), weight)
            loss = head_loss.head_loss(*pair, targets, VOCAB, reduction)
            torch.testing.assert_close(torch.autograd.grad(loss.sum() / ((targets >= 0).sum() if reduction == "none" else 1), learning)[0], gradient)


def no_gradients(monkeypatch) -> None:
    original = head_loss.losses_and_gradients

    def watched(x, weight, targets, scale, vocab):
        assert scale is None, "gradients were computed that nobody will ask for"
        return original(x, weight, targets, scale, vocab)

    monkeypatch.setattr(head_loss, "losses_and_gradients", watched)


@pytest.mark.parametrize("reduction", ["mean", "sum", "none"])
def test_frozen_and_without_gradients(kernels, small_chunks, monkeypatch, reduction):
    x, weight, targets = (t.detach() for t in inputs(37))
    expected = formula(x.double(), weight.double(), targets, reduction)
    no_gradients(monkeypatch)
    torch.testing.assert_close(head_loss.head_loss(x, weight, targets, VOCAB, reduction).double(), expected, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("reduction", ["mean", "sum", "none"])
@pytest.mark.parametrize("mode", [torch.no_grad, torch.inference_mode])
def test_evaluation_makes_no_gradients(small_chunks, monkeypatch, reduction, mode):
    """The weights could learn, but nobody will ask: that is a third of the work."""
    x, weight, targets = inputs(37)
    expected = formula(x.detach().double(), weight.detach().double(), targets, reduction)
    no_gradients(monkeypatch)
    with mode():
        loss = head_loss.head_loss(x, weight, targets, VOCAB, reduction)
    assert not loss.requires_grad
    torch.testing.assert_close(loss.double(), expected, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("route", ["chunked", "plain"])
def test_float16_with_its_loss_scale(monkeypatch, route):
    """Of 4096 rows each weighs 1/4096, which leaves float16 few digits, unless the loss scale comes before the rounding and not after it."""
    if route == "plain":
        monkeypatch.setattr(head_loss, "PLAIN_BYTES", {"cpu": 1 << 30})
    x, weight, targets = inputs(4096, torch.float16, size=0.05)
    exact = [t.detach().double().requires_grad_() for t in (x, weight)]
    found = torch.autograd.grad(head_loss.head_loss(x, weight, targets, VOCAB) * 2.0**16, (x, weight))
    right = torch.autograd.grad(formula(*exact, targets, "mean") * 2.0**16, exact)
    for gradient, correct in zip(found, right, strict=True):
        assert gradient.isfinite().all()
        assert (gradient.double() - correct).norm() / correct.norm() < 0.005


@pytest.mark.parametrize("reduction", ["mean", "none"])
def test_nobody_holds_all_logits(kernels, small_chunks, reduction):
    x, weight, targets = inputs(512)
    with LargestTensor() as seen:
        head_loss.head_loss(x, weight, targets, VOCAB, reduction).sum().backward()
    assert seen.numel == 512 * CHANNELS  # x itself; 16 rows of logits are 2048 numbers, and the weight has 4096
    with LargestTensor() as seen:
        plain_losses(x, weight, targets, VOCAB).sum().backward()
    assert seen.numel == 512 * PADDED  # what the other way holds


def test_the_compiled_kernel_checks_what_it_is_given():
    """It gets bare addresses."""
    if not cpu_kernels.loss_usable(torch.float32):
        pytest.skip("no compiled kernels here")
    z, losses, scale, targets = torch.randn(4, 8), torch.empty(4), torch.ones(4), torch.zeros(4, dtype=torch.int64)
    cpu_kernels.softcap_loss(z, targets, scale, losses, 8, 15.0)
    wrong = [(z.t(), targets, scale, losses), (z, targets.int(), scale, losses), (z, targets[:3], scale, losses)]
    wrong += [(z, targets, scale[:3], losses), (z, targets, scale.double(), losses), (z, targets, scale, losses[:3])]
    for arguments in [*wrong, (z, targets, scale, losses.double())]:
        with pytest.raises(AssertionError):
            cpu_kernels.softcap_loss(*arguments, 8, 15.0)


@pytest.mark.parametrize("shape", [(1, 1), (3, 200), (64, 64), (65, 130), (200, 3)])
def test_transposing(shape):
    if not cpu_kernels.loss_usable(torch.float32):
        pytest.skip("no compiled kernels here")
    x = torch.randn(shape, generator=torch.Generator().manual_seed(0))
    assert torch.equal(cpu_kernels.transposed(x), x.t())
    total = torch.randn(shape[::-1], generator=torch.Generator().manual_seed(1))
    expected = total + x.t()
    cpu_kernels.add_transposed(total, x)
    assert torch.equal(total, expected)


# --- bfloat16, compiled ----------------------------------------------------------------------------------------------


def head_inputs(N: int, V: int, C: int = 48, size: float = 1.0):
    """Numbers that bfloat16 has, so that what is off is the kernel's."""
    generator = torch.Generator().manual_seed(N)
    x, weight = (torch.randn(rows, C, generator=generator).mul(size).bfloat16() for rows in (N, V))
    targets = torch.randint(V - 5, (N,), generator=generator)
    if not cpu_kernels.head_usable(x, weight):
        pytest.skip("no bfloat16 products here")
    targets[5::7] = -1
    return x, weight, targets, torch.rand(N, generator=generator) + 0.5


def head_formula(x, weight, targets, scale, vocab):
    x, weight = (t.double().requires_grad_() for t in (x, weight))
    capped = 15 * torch.tanh(x @ weight[:vocab].T / 15)
    losses = torch.nn.functional.cross_entropy(capped, targets, ignore_index=-1, reduction="none")
    return losses.detach(), *torch.autograd.grad((losses * scale).sum(), (x, weight))


def largest_error(found: torch.Tensor, right: torch.Tensor) -> float:
    return ((found.double() - right).abs().max() / right.abs().max()).item()


@pytest.mark.parametrize("threads", [1, 2])
@pytest.mark.parametrize("kept", [0, 128 << 20], ids=["a block at a time", "all blocks together"])
@pytest.mark.parametrize(("N", "V", "vocab"), [(1, 64, 64), (31, 64, 59), (32, 128, 123), (200, 208, 203), (333, 1040, 1035)])
def test_the_head_in_bfloat16(monkeypatch, threads, kept, N, V, vocab):
    """Losses come of float32 logits; the gradients pass through bfloat16, which keeps 8 bits, on their way to each sum."""
    monkeypatch.setattr(cpu_kernels, "HEAD_BLOCK", 64 * 48)
    monkeypatch.setattr(cpu_kernels, "HEAD_KEPT", kept)
    x, weight, targets, scale = head_inputs(N, V)
    torch.set_num_threads(threads)  # one_thread puts it back
    right = head_formula(x, weight, targets, scale, vocab)
    losses, dx, dw = cpu_kernels.head_loss(x, weight, targets, scale, vocab, 15.0)
    assert largest_error(losses, right[0]) < 1e-5 and not losses[targets < 0].any() and not dx[targets < 0].any()
    assert largest_error(dx, right[1]) < 2**-7 and largest_error(dw, right[2]) < 2**-7
    assert dw.dtype == torch.float32 and not dw[vocab:].any()
    only = cpu_kernels.head_loss(x, weight, targets, None, vocab, 15.0)
    assert only[1] is only[2] is None
    torch.testing.assert_close(only[0], losses)


def test_the_head_does_the_same_with_any_number_of_threads(monkeypatch):
    """Bit for bit, zeros too: resuming rests on it."""
    monkeypatch.setattr(cpu_kernels, "HEAD_BLOCK", 32 * 48)
    arguments, found = head_inputs(500, 4112), []
    for threads, kept in ((1, 0), (2, 0), (3, 128 << 20)):
        torch.set_num_threads(threads)
        monkeypatch.setattr(cpu_kernels, "HEAD_KEPT", kept)
        losses, dx, dw = cpu_kernels.head_loss(*arguments, 4110, 15.0)
        found.append((losses.view(torch.int32), dx.view(torch.int16), dw.view(torch.int32)))
    assert all(torch.equal(a, b) for others in found[1:] for a, b in zip(found[0], others, strict=True))


def test_a_head_that_is_nearly_sure():
    """All other words together have a thousandth of the probability: that is the loss, and every gradient, and it is not lost beside the target's."""
    _, _, _, scale = head_inputs(64, 64)
    targets, x = torch.arange(64), torch.eye(64).bfloat16()
    weight = torch.cat([16 * torch.eye(64), torch.full((4032, 64), -4.0)]).bfloat16()
    right = head_formula(x, weight, targets, scale, 4096)
    assert right[0].min() > 0.0005 and right[0].max() < 0.002
    found = cpu_kernels.head_loss(x, weight, targets, scale, 4096, 15.0)
    assert largest_error(found[0], right[0]) < 1e-5
    for gradient, exact in zip(found[1:], right[1:], strict=True):
        assert ((gradient.double() - exact).abs() / exact.abs()).max() < 2**-7


@pytest.mark.parametrize("threads", [1, 2, 3, 64])
@pytest.mark.parametrize(("N", "C", "V"), [(1, 64, 64), (100, 128, 4096), (2048, 384, 32768), (16384, 384, 32768), (16384, 1536, 65536)])
def test_blocks_of_the_head(threads, N, C, V):
    """All threads have something to do where there are 32 rows for each, blocks fit the cache, and what waits is bounded."""
    rows, kept = cpu_kernels._head_blocks(N, C, V, threads)
    blocks = -(-N // rows)
    assert rows % 32 == 0 and kept % threads == 0 and (rows == 32 or rows * C <= cpu_kernels.HEAD_BLOCK + 32 * C)
    assert blocks >= min(threads, N // 64) and rows * kept * V * 2 <= max(cpu_kernels.HEAD_KEPT, threads * 96 * V * 2)


def test_no_rows_at_all():
    x, weight, targets, scale = head_inputs(8, 64)
    losses, dx, dw = cpu_kernels.head_loss(x[:0], weight, targets[:0], scale[:0], 64, 15.0)
    assert losses.shape == (0,) and dx.shape == (0, 48) and not dw.any()


def test_the_head_checks_what_it_is_given():
    x, weight, targets, scale = head_inputs(8, 64)
    wrong = [(x.float(), weight, targets, scale, 64), (x, weight.float(), targets, scale, 64), (x, weight[:, :32], targets, scale, 64)]
    wrong += [(x, weight, targets.int(), scale, 64), (x, weight, targets[:3], scale, 64), (x, weight, targets, scale[:3], 64)]
    wrong += [
        (x, weight[:56], targets.clamp_max(55), scale, 56),
        (x, weight, targets, scale, 65),
        (x, weight, torch.full_like(targets, 60), scale, 60),
    ]
    for arguments in wrong:
        with pytest.raises(AssertionError):
            cpu_kernels.head_loss(*arguments, 15.0)
