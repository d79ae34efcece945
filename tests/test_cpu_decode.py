"""The kernels for decoding on a CPU against the plain formulas, in every shape that could trip them."""

import math

import pytest
import torch
import torch.nn.functional as F

from nanochat import cpu_kernels
from nanochat.gpt import GPTConfig, new_model
from nanochat.kv_cache import KVCache

BF16 = torch.bfloat16


@pytest.fixture(autouse=True)
def kernels(in_small_world, one_thread):
    if not cpu_kernels.decode_usable(BF16):
        pytest.skip("these kernels need a processor with AVX512-BF16 and a C++ compiler")


@pytest.mark.parametrize("rows", [1, 2, 3, 4, 7, 8, 13, 32, 64])
@pytest.mark.parametrize(("inputs", "outputs"), [(384, 384), (1536, 384), (64, 1000), (12, 6), (24, 1), (2, 5), (33, 66), (96, 64), (40, 128)])
def test_products(rows, inputs, outputs):
    torch.manual_seed(rows)
    x, w = torch.randn(rows, inputs).to(BF16), torch.randn(outputs, inputs).to(BF16)
    exact = x.double() @ w.double().t()
    torch.testing.assert_close(cpu_kernels.linear(x, w).double(), exact, rtol=2**-8, atol=2**-8 * math.sqrt(inputs) * 0.1)
    assert cpu_kernels.linear(x.view(1, rows, inputs), w).shape == (1, rows, outputs)


def test_products_of_what_is_not_contiguous():
    x, w = torch.randn(5, 2, 40).to(BF16)[:, 1], torch.randn(16, 40).to(BF16)
    torch.testing.assert_close(cpu_kernels.linear(x, w), cpu_kernels.linear(x.contiguous(), w))
    torch.testing.assert_close(cpu_kernels.linear(x[:, :12], w[:, :12]), F.linear(x[:, :12], w[:, :12]), rtol=2**-7, atol=2**-7)


def test_nan_stays_nan():
    w = torch.randn(64, 32).to(BF16)
    for rows in (1, 9):
        x = torch.zeros(rows, 32, dtype=BF16)
        x[-1, 3] = math.nan
        y = cpu_kernels.linear(x, w)
        assert y[-1].isnan().all() and not y[:-1].isnan().any()
    assert cpu_kernels.softcap(torch.full((1, 8), math.nan, dtype=BF16), 8, 15.0).isnan().all()


@pytest.mark.parametrize("window", [0, 5, 1000])
@pytest.mark.parametrize(("B", "H", "K", "D"), [(1, 4, 4, 64), (3, 6, 2, 32), (9, 4, 1, 128), (8, 2, 2, 16), (20, 6, 6, 64), (2, 3, 3, 80)])
def test_attention(B, H, K, D, window):
    torch.manual_seed(B)
    T = 150
    q, k, v = (F.rms_norm(torch.randn(B, 1, heads, D), (D,)).to(BF16) for heads in (H, K, K))
    keys, values = (F.rms_norm(torch.randn(2, B + 2, T, K, D), (D,)).to(BF16)[1, :B] for _ in range(2))  # a layer, and the first rows of it
    positions = torch.randint(0, T, (B, 1))
    positions[0], positions[-1] = 0, T - 1
    before = keys.clone()
    y = cpu_kernels.attend(q, k, v, keys, values, positions, window)
    for b, p in enumerate(positions[:, 0].tolist()):
        assert torch.equal(keys[b, p], k[b, 0]) and torch.equal(values[b, p], v[b, 0])
        before[b, p] = k[b, 0]
        seen = slice(max(0, p - window), p + 1)
        mine, theirs = (t[b, seen].double().repeat_interleave(H // K, dim=1) for t in (keys, values))  # (n, H, D)
        scores = torch.einsum("hd,nhd->hn", q[b, 0].double(), mine) / math.sqrt(D)
        exact = torch.einsum("hn,nhd->hd", scores.softmax(-1), theirs)
        torch.testing.assert_close(y[b, 0].double(), exact, rtol=2**-7, atol=2**-8)
    assert torch.equal(keys, before)


@pytest.mark.parametrize("vocab", [1, 60, 5000])
def test_soft_cap(vocab):
    z = (torch.randn(3, vocab + 4) * 20).to(BF16)
    exact = 15 * torch.tanh(z[:, :vocab].double() / 15)
    torch.testing.assert_close(cpu_kernels.softcap(z, vocab, 15.0).double(), exact, rtol=0, atol=5e-5)


def test_what_does_not_fit_is_refused():
    q, kv = torch.randn(2, 1, 4, 32).to(BF16), torch.randn(2, 10, 4, 32).to(BF16)
    positions = torch.zeros(2, 1, dtype=torch.long)
    for spoilt in (
        (q.float(), kv, kv, positions),
        (q, kv, kv[:, :5], positions),
        (q, kv, kv, positions[:1]),
        (q, kv[..., :16], kv[..., :16], positions),
    ):
        with pytest.raises(AssertionError):
            cpu_kernels.attend(spoilt[0], q, q, *spoilt[1:], 5)


@pytest.mark.parametrize("n_kv_head", [4, 2])
def test_a_model_that_decodes_with_them(n_kv_head, monkeypatch):
    """Token by token, as the engine does, beside a full forward pass in float32."""
    monkeypatch.setenv("NANOCHAT_DTYPE", "bfloat16")
    torch.manual_seed(0)
    model = new_model(GPTConfig(256, 300, 4, 4, n_kv_head, 128, "SSL"), "cpu").eval()
    with torch.no_grad():
        for p in model.parameters():
            p.add_(torch.randn_like(p) * 0.02)
    twin = model.for_inference()
    idx = torch.randint(0, 300, (5, 200))
    with torch.inference_mode():
        cache = KVCache(5, n_kv_head, 200, 32, 4, "cpu", BF16)
        logits = [twin(idx[:, :150], kv_cache=cache), *(twin(idx[:, i : i + 1], kv_cache=cache) for i in range(150, 200))]
        monkeypatch.setenv("NANOCHAT_DTYPE", "float32")
        exact = new_model(model.config, "cpu").eval()
        exact.load_state_dict(model.state_dict())
        expected, plain = exact(idx), model(idx)
        error, usual = ((torch.cat(logits, 1) - expected).norm(), (plain - expected).norm())
    assert error < 1.5 * usual  # no further from the truth than bfloat16 is anyway
