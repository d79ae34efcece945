"""Every kernel that a CPU can run against softmax as it stands in the book, in float64."""

import itertools
import math
import os
import subprocess
import sys
from pathlib import Path

import hypothesis.strategies as st
import pytest
import torch
from helpers import LargestTensor
from hypothesis import given, settings

from nanochat import cpu_kernels
from nanochat.common import cpu_has_bf16
from nanochat.flash_attention import attention, best_kernel, windows_pay

pytestmark = pytest.mark.usefixtures("one_thread")

ROOT = Path(__file__).parent.parent
CPU = torch.device("cpu")
DTYPES = [torch.float32, torch.bfloat16]
KERNELS = [("cpu", torch.bfloat16), *itertools.product(["sdpa", "flex"], DTYPES)]  # flex is not compiled here and gives way to sdpa
# Rounded to 8 bits, probabilities, outputs and gradients are off by 1/512 each; a few such errors add up.
TOLERANCE = {torch.float32: 1e-5, torch.bfloat16: 0.02}


@pytest.fixture(params=KERNELS, ids=lambda pair: f"{pair[0]} {str(pair[1])[6:]}")
def kernel_and_dtype(request) -> tuple[str, torch.dtype]:
    kernel, dtype = request.param
    if kernel == "cpu" and best_kernel(CPU, dtype) != "cpu":
        pytest.skip("no compiled kernel here")
    return kernel, dtype


def inputs(B: int, T: int, H: int, H_kv: int, D: int, dtype=torch.float32, seed: int = 0) -> list[torch.Tensor]:
    """q, k, v, and a gradient to the output. They are cut out of larger tensors, and nothing in them lies next to its neighbour."""
    generator = torch.Generator().manual_seed(seed)
    made = [torch.randn(B, T, heads, 2 * D, generator=generator).to(dtype)[..., ::2] for heads in (H, H_kv, H_kv, H)]
    return [x.requires_grad_(i < 3) for i, x in enumerate(made)]


def visible(T: int, window: int) -> torch.Tensor:
    """(T, T): which keys, in columns, a query sees."""
    query, key = torch.arange(T)[:, None], torch.arange(T)[None, :]
    return (key <= query) & (key >= query - window)


def by_the_book(q, k, v, window: int) -> torch.Tensor:
    """All scores, and minus infinity where nothing may be seen. Query heads share key heads in order."""
    T, H, D = q.shape[1:]
    k, v = (x[:, :, [head * x.size(2) // H for head in range(H)]] for x in (k, v))
    scores = torch.einsum("bthd,bshd->bhts", q, k) / math.sqrt(D)
    p = scores.masked_fill(~visible(T, window), -math.inf).softmax(-1)
    return torch.einsum("bhts,bshd->bthd", p, v)


def error(found: torch.Tensor, expected: torch.Tensor) -> float:
    """The largest, relative to the largest number there is."""
    return ((found.double() - expected).abs().max() / expected.abs().max().clamp_min(1e-12)).item()


def check(kernel: str, q, k, v, dy, window: int) -> None:
    tolerance = TOLERANCE[q.dtype]
    exact = [x.detach().double().requires_grad_() for x in (q, k, v)]
    expected = by_the_book(*exact, window)
    y = attention(q, k, v, window, kernel)
    assert y.dtype == q.dtype and y.shape == q.shape
    assert error(y, expected) < tolerance
    found, right = torch.autograd.grad(y, (q, k, v), dy), torch.autograd.grad(expected, exact, dy.double())
    scale = max(gradient.abs().max() for gradient in right)  # with one visible key q and k have none
    for name, gradient, correct in zip("qkv", found, right, strict=True):
        assert gradient.dtype == q.dtype and ((gradient.double() - correct).abs().max() / scale).item() < tolerance, name


@pytest.mark.parametrize("window", [0, 1, 7, 63, 127, 128, 2048])
@pytest.mark.parametrize("T", [1, 2, 33, 100, 128, 300])
def test_windows(kernel_and_dtype, T, window):
    kernel, dtype = kernel_and_dtype
    check(kernel, *inputs(2, T, 2, 1, 16, dtype), window)


@pytest.mark.parametrize("window", [128, 300, 529])
def test_long_rows(kernel_and_dtype, window):
    kernel, dtype = kernel_and_dtype
    check(kernel, *inputs(1, 530, 1, 1, 32, dtype), window)


@pytest.mark.parametrize("H_kv", [1, 2, 3, 6])
@pytest.mark.parametrize("D", [16, 64, 128])
def test_heads(kernel_and_dtype, H_kv, D):
    kernel, dtype = kernel_and_dtype
    check(kernel, *inputs(3, 70, 6, H_kv, D, dtype), 20)


@pytest.mark.parametrize("window", [0, 1, 31, 32, 33, 127, 128, 129, 298, 299, 10_000])
def test_exactly_the_window_is_seen(kernel_and_dtype, window):
    """One key too many among a hundred hardly shows in a sum. So values are such that the output is the table of probabilities: value s is 1 in
    channel s of the channels of all heads together, and 0 elsewhere. Likewise, such a gradient to the output makes that to the values the table."""
    kernel, dtype = kernel_and_dtype
    T, D = 300, 32
    H = -(-T // D)
    one, heads = torch.randn(2, 1, T, 1, D, generator=torch.Generator().manual_seed(0)).expand(2, 1, T, H, D).to(dtype)
    table = torch.eye(T, H * D, dtype=dtype).view(1, T, H, D).requires_grad_()
    p = attention(one, heads, table, window, kernel)
    assert torch.equal(p.reshape(T, H * D)[:, :T] > 0, visible(T, window))
    assert torch.allclose(p.reshape(T, H * D).float().sum(-1), torch.ones(T), atol=TOLERANCE[dtype])
    (back,) = torch.autograd.grad(p, table, torch.eye(T, H * D, dtype=dtype).view(1, T, H, D))
    assert torch.equal(back.reshape(T, H * D)[:, :T] > 0, visible(T, window).T)


@pytest.mark.parametrize("sign", [1, -1])
def test_scores_at_their_bound(kernel_and_dtype, sign):
    """Keys equal to the query, or opposite to it, at the length that the model gives them: the largest and smallest exponents there are."""
    kernel, dtype = kernel_and_dtype
    _, _, v, dy = inputs(1, 300, 2, 2, 128, dtype)
    same = torch.nn.functional.rms_norm(torch.randn(128, generator=torch.Generator().manual_seed(0)), (128,)) * 1.2
    k = same.to(dtype).expand(1, 300, 2, 128).clone().requires_grad_()
    q = (sign * k).detach().requires_grad_()
    y = attention(q, k, v, 300, kernel)
    mean = v.double().cumsum(1) / torch.arange(1, 301).view(1, 300, 1, 1)  # all keys alike: a mean of the values
    assert error(y, mean) < TOLERANCE[dtype]
    found = torch.autograd.grad(y, (q, k, v), dy)
    assert all(gradient.isfinite().all() for gradient in found), "overflow"
    exact = dy.double().div(torch.arange(1, 301).view(1, 300, 1, 1)).flip(1).cumsum(1).flip(1)  # of each value: from all that see it
    assert error(found[2], exact) < TOLERANCE[dtype]


@pytest.mark.parametrize("window", [3, 100])
def test_nan_stays_nan(kernel_and_dtype, window):
    """A broken run must look broken. Position 20 of the second head spoils those that see it, and never the first head."""
    kernel, dtype = kernel_and_dtype
    for broken in range(3):
        x = [tensor.detach().clone() for tensor in inputs(1, 60, 2, 2, 16, dtype)]
        x[broken][0, 20, 1, 3] = math.nan
        y = attention(*x[:3], window, kernel)
        spoilt = [20] if broken == 0 else range(20, min(60, 21 + window))
        hit = y[0, spoilt, 1][..., 3] if broken == 2 else y[0, spoilt, 1]
        assert hit.isnan().all(), "qkv"[broken]
        assert y[0, :, 0].isfinite().all()
    q, k, v, dy = inputs(1, 60, 2, 2, 16, dtype)
    dy[0, 20, 1, 3] = math.nan
    dq, _, dv = torch.autograd.grad(attention(q, k, v, window, kernel), (q, k, v), dy)
    assert dq[0, 20, 1].isnan().all() and dv[0, 20, 1, 3].isnan()


@settings(max_examples=100, deadline=None)
@given(
    st.integers(1, 2), st.integers(1, 3), st.integers(1, 2), st.integers(1, 150), st.sampled_from([2, 6, 16, 32]), st.integers(0, 160),
    st.sampled_from(DTYPES), st.integers(0, 1000),
)  # fmt: skip
def test_any_shape(B, groups, H_kv, T, D, window, dtype, seed):
    for kernel in ("cpu", "sdpa") if best_kernel(CPU, dtype) == "cpu" else ("sdpa",):
        check(kernel, *inputs(B, T, groups * H_kv, H_kv, D, dtype, seed), window)


def test_time_goes_with_the_window():
    """A short window makes fewer scores, whatever the kernel: counted by what is written."""
    q, k, v, _ = (x.detach() for x in inputs(1, 1000, 1, 1, 8))
    for window, bound in ((20, 128 * 148), (200, 200 * 400)):
        with LargestTensor() as seen:
            attention(q, k, v, window, "sdpa")
        assert 1000 * 8 <= seen.numel <= bound


def test_the_operators_are_what_torch_expects():
    if best_kernel(CPU, torch.bfloat16) != "cpu":
        pytest.skip("no compiled kernel here")
    q, k, v, dy = (x.detach().contiguous().requires_grad_(x.requires_grad) for x in inputs(1, 6, 2, 1, 16, torch.bfloat16))
    torch.library.opcheck(cpu_kernels.attention, (q, k, v, 3))
    x = [tensor.detach() for tensor in (q, k, v)]
    torch.library.opcheck(cpu_kernels.attention_backward, (dy, *x, *cpu_kernels.attention(*x, 3), 3))


def test_the_operators_check_what_they_are_given():
    """Behind them are bare addresses."""
    if best_kernel(CPU, torch.bfloat16) != "cpu":
        pytest.skip("no compiled kernel here")
    q, k, v, dy = (x.detach().contiguous() for x in inputs(1, 6, 4, 2, 16, torch.bfloat16))
    y, inverse_sums = cpu_kernels.attention(q, k, v, 3)
    wrong = [(q.float(), k.float(), v.float()), (q, k[:, :5], v[:, :5]), (q, k, v[:, :5]), (q[:, :, :3], k, v), (q, k[..., :8], v)]
    for x in wrong:
        with pytest.raises(AssertionError):
            cpu_kernels.attention(*x, 3)
    for spoilt in ((dy.float(), q, k, v, y), (dy[:, :5], q, k, v, y), (dy, q, k, v, y.float()), (dy, q, k[:, :5], v, y)):
        with pytest.raises(AssertionError):
            cpu_kernels.attention_backward(*spoilt, inverse_sums, 3)


# --- which kernel ----------------------------------------------------------------------------------------------------


def test_the_best_kernel(monkeypatch):
    assert best_kernel(torch.device("mps"), torch.float32) == "sdpa"
    assert best_kernel(CPU, torch.float32) == best_kernel(CPU, torch.float16) == "sdpa"
    if cpu_has_bf16() and cpu_kernels.library("attention") is not None:
        assert best_kernel(CPU, torch.bfloat16) == "cpu"
    monkeypatch.setattr(cpu_kernels, "library", lambda name: None)
    assert best_kernel(CPU, torch.bfloat16) == "sdpa"


def test_where_short_windows_pay():
    assert windows_pay("fa3", 256) and windows_pay("flex", 256)
    assert windows_pay("cpu", 2048) and not windows_pay("cpu", 256)
    assert not windows_pay("sdpa", 2048)


WITHOUT_COMPILER = """
import torch
from nanochat import cpu_kernels
from nanochat.gpt import GPT, GPTConfig
model = GPT(GPTConfig(128, 50, 2, 2, 1, 32))
model.init_weights()
assert model.kernel == "sdpa" and cpu_kernels.library("attention") is None and cpu_kernels.library("loss") is None
idx = torch.randint(50, (2, 100))
loss = model(idx, idx)
loss.backward()
assert abs(loss.item() - 3.912) < 0.05, loss
assert model.lm_head.weight.grad.isfinite().all() and model.lm_head.weight.grad.any()
print("fine")
"""


def test_everything_works_without_a_compiler(tmp_path):
    """A compiler that fails is as good as none. Nothing is said, and nothing is left behind."""
    env = {**os.environ, "CXX": "/bin/false", "NANOCHAT_BASE_DIR": str(tmp_path / "base"), "PYTHONPATH": str(ROOT)}
    result = subprocess.run([sys.executable, "-c", WITHOUT_COMPILER], cwd=ROOT, env=env, capture_output=True, text=True)
    assert (result.returncode, result.stdout) == (0, "fine\n"), result.stderr
    assert not [path for path in tmp_path.rglob("*") if path.is_file()]


@pytest.mark.parametrize("name", ["attention", "decode", "head", "loss", "mlp", "muon"])
def test_compiled_once_and_kept(name, tmp_path, monkeypatch):
    if cpu_kernels.library(name) is None:
        pytest.skip("no compiler here")
    monkeypatch.setenv("NANOCHAT_BASE_DIR", str(tmp_path))
    compile_anew = cpu_kernels.library.__wrapped__
    assert compile_anew(name) is not None
    (made,) = (tmp_path / "cpu_kernels").iterdir()
    assert made.suffix == ".so"
    monkeypatch.setattr(subprocess, "run", lambda *_, **__: pytest.fail("compiled again"))
    assert compile_anew(name) is not None
    broken = tmp_path / "elsewhere" / "cpu_kernels" / made.name
    broken.parent.mkdir(parents=True)
    broken.write_bytes(b"not a library")
    monkeypatch.setenv("NANOCHAT_BASE_DIR", str(tmp_path / "elsewhere"))
    assert compile_anew(name) is None
