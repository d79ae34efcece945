"""Builds and calls the C++ beside it: attention, and soft cap with cross-entropy, where torch's own operations leave a CPU waiting for its memory.
Compiled on first use, in a second or two. Without a C++ compiler there is no kernel, and the callers have a slower way in plain torch."""

import ctypes
import functools
import hashlib
import os
import platform
import shutil
import subprocess
from pathlib import Path

import torch
import torch.nn.functional as F

from nanochat.common import atomic_path, get_base_dir

FOLDER = Path(__file__).parent
# Sums may be reordered so that they vectorize, but NaN and infinity keep their meaning: they are how a broken run is noticed.
FLAGS = ["-std=c++17", "-O3", "-march=native", "-fopenmp", "-fPIC", "-shared", "-fno-math-errno", "-fno-trapping-math", "-fassociative-math",
         "-fno-signed-zeros", "-freciprocal-math"]  # fmt: skip
WIDE = "-mprefer-vector-width=512"  # compilers shy away from the widest vectors; here they are a third faster
SUFFIXES = {torch.float32: "float32", torch.bfloat16: "bfloat16"}


@functools.cache
def library(name: str) -> ctypes.CDLL | None:
    """The compiled cpu_<name>.cpp; compiled now if this machine has not done so before. None where that is not possible."""
    compiler = shutil.which(os.environ.get("CXX") or "c++") or shutil.which("g++")
    if compiler is None or platform.system() != "Linux":  # macOS's compiler brings no OpenMP
        return None
    source, torch_lib = FOLDER / f"cpu_{name}.cpp", Path(torch.__file__).parent / "lib"
    command = [compiler, *FLAGS, *([WIDE] if platform.machine() == "x86_64" else []), str(source), f"-L{torch_lib}", "-ltorch_cpu"]
    path = get_base_dir() / "cpu_kernels" / f"{name}-{_fingerprint(source, command)}.so"
    try:
        if not path.exists():
            with atomic_path(path) as temporary:
                subprocess.run([*command, "-o", str(temporary)], check=True, capture_output=True, timeout=120)
        return ctypes.CDLL(str(path))
    except (OSError, subprocess.SubprocessError):
        return None


def _fingerprint(source: Path, command: list[str]) -> str:
    """Changes with the source, torch, the compiler and the processor (-march=native), so that a shared folder serves different machines."""
    try:
        cpu = next(line for line in Path("/proc/cpuinfo").read_text().splitlines() if line.startswith(("flags", "Features")))
    except (OSError, StopIteration):
        cpu = platform.processor()
    texts = [source.read_text(encoding="utf-8"), (FOLDER / "cpu_math.h").read_text(encoding="utf-8"), *command, torch.__version__, cpu]
    return hashlib.sha256("\n".join(texts).encode()).hexdigest()[:16]


def _call(function, *arguments: torch.Tensor | int | float | None) -> int:
    kinds = {int: ctypes.c_int64, float: ctypes.c_float, type(None): ctypes.c_void_p}
    return function(*(ctypes.c_void_p(a.data_ptr()) if isinstance(a, torch.Tensor) else kinds[type(a)](a) for a in arguments))


# --- loss ------------------------------------------------------------------------------------------------------------


def loss_usable(dtype: torch.dtype) -> bool:
    return dtype in SUFFIXES and library("loss") is not None


def softcap_loss(logits: torch.Tensor, targets: torch.Tensor, scale: torch.Tensor | None, losses: torch.Tensor, vocab: int, cap: float) -> None:
    """logits (N, V), of which the first `vocab` count; targets (N,), < 0 ignored. Fills losses (N,) float32, and with `scale` (N,), the weight of
    each row's loss, turns the logits into the gradient to them."""
    rows, stride = logits.shape
    assert logits.is_contiguous() and targets.is_contiguous() and targets.dtype == torch.int64 and targets.shape == (rows,)
    assert rows == 0 or int(targets.max()) < vocab, "a target that is no word"
    assert losses.is_contiguous() and losses.dtype == torch.float32 and losses.shape == (rows,)
    assert scale is None or (scale.is_contiguous() and scale.dtype == torch.float32 and scale.shape == (rows,))
    function = getattr(library("loss"), f"softcap_loss_{SUFFIXES[logits.dtype]}")
    _call(function, logits, targets, scale, losses, rows, vocab, stride, float(cap))


def add_transposed(total: torch.Tensor, x: torch.Tensor) -> None:
    """total (columns, rows) += x.t() for x (rows, columns); in float32, without a float32 copy of x."""
    rows, columns = x.shape
    assert total.shape == (columns, rows) and total.is_contiguous() and x.is_contiguous() and total.dtype == torch.float32
    _call(getattr(library("loss"), f"add_transposed_{SUFFIXES[x.dtype]}"), total, x, rows, columns)


def transposed(x: torch.Tensor) -> torch.Tensor:
    """A contiguous x.t() for x (rows, columns)."""
    rows, columns = x.shape
    assert x.is_contiguous()
    out = x.new_empty(columns, rows)
    _call(getattr(library("loss"), f"transpose_{SUFFIXES[x.dtype]}"), out, x, rows, columns)
    return out


# --- attention -------------------------------------------------------------------------------------------------------


def attention_usable(dtype: torch.dtype) -> bool:
    """bfloat16 on processors that multiply it; torch's symbols, which it is linked with, may be others in another version."""
    return dtype == torch.bfloat16 and library("attention") is not None and bool(library("attention").attention_usable())


def attention_forward(q: torch.Tensor, k: torch.Tensor, v: torch.Tensor, window: int) -> tuple[torch.Tensor, torch.Tensor]:
    """q (B, T, H, D), k and v (B, T, K, D) -> output, and 1/Σe^score (B, H, T) for backward."""
    q, k, v = q.contiguous(), k.contiguous(), v.contiguous()
    B, T, H, D = q.shape
    _check_attention(q, k, v)
    y, inverse_sums = torch.empty_like(q), q.new_empty(B, H, T, dtype=torch.float32)
    _call(library("attention").attention_forward, q, k, v, y, inverse_sums, B, T, H, k.size(2), D, window)
    return y, inverse_sums


@torch.library.custom_op("nanochat::cpu_attention", mutates_args=())
def attention(q: torch.Tensor, k: torch.Tensor, v: torch.Tensor, window: int) -> tuple[torch.Tensor, torch.Tensor]:
    """attention_forward as an operator, which autograd and the compiler know."""
    return attention_forward(q, k, v, window)


@torch.library.custom_op("nanochat::cpu_attention_backward", mutates_args=())
def attention_backward(
    dy: torch.Tensor, q: torch.Tensor, k: torch.Tensor, v: torch.Tensor, y: torch.Tensor, inverse_sums: torch.Tensor, window: int
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    dy, q, k, v = dy.contiguous(), q.contiguous(), k.contiguous(), v.contiguous()
    B, T, H, D = q.shape
    _check_attention(q, k, v)
    assert dy.shape == y.shape == q.shape and dy.dtype == y.dtype == torch.bfloat16 and y.is_contiguous()
    dq, dk, dv = torch.empty_like(q), torch.empty_like(k), torch.empty_like(v)
    _call(library("attention").attention_backward, dy, q, k, v, y, inverse_sums, dq, dk, dv, B, T, H, k.size(2), D, window)
    return dq, dk, dv


def _check_attention(q: torch.Tensor, k: torch.Tensor, v: torch.Tensor) -> None:
    B, T, H, D = q.shape
    assert q.dtype == k.dtype == v.dtype == torch.bfloat16 and D % 2 == 0
    assert k.shape == v.shape == (B, T, k.size(2), D) and H % k.size(2) == 0


@attention.register_fake
def _(q, k, v, window):
    B, T, H, D = q.shape
    return q.new_empty(B, T, H, D), q.new_empty(B, H, T, dtype=torch.float32)


@attention_backward.register_fake
def _(dy, q, k, v, y, inverse_sums, window):
    return q.new_empty(q.shape), k.new_empty(k.shape), v.new_empty(v.shape)


def _keep_for_backward(ctx, inputs, output) -> None:
    q, k, v, ctx.window = inputs
    ctx.save_for_backward(q, k, v, *output)


def _gradients(ctx, dy: torch.Tensor, _):
    return *attention_backward(dy, *ctx.saved_tensors, ctx.window), None


attention.register_autograd(_gradients, setup_context=_keep_for_backward)


# --- decoding --------------------------------------------------------------------------------------------------------


@functools.cache
def decode_usable(dtype: torch.dtype) -> bool:
    return dtype == torch.bfloat16 and library("decode") is not None and bool(library("decode").decode_usable())


@functools.cache
def most_rows() -> int:
    """Up to which the product below is the faster one. AMX, which torch uses, overtakes it early."""
    return 8 if getattr(torch.cpu, "_is_amx_tile_supported", bool)() else 64


def linear(x: torch.Tensor, weight: torch.Tensor) -> torch.Tensor:
    """F.linear for inference. With few rows all of the work is to read the weights once, and as fast as memory gives them."""
    rows = x.numel() // x.size(-1)
    if rows > most_rows() or x.dtype != torch.bfloat16 or not weight.is_contiguous():
        return F.linear(x, weight)
    x = x.contiguous()
    y = x.new_empty(*x.shape[:-1], weight.size(0))
    _call(library("decode").linear, x, weight, y, rows, *weight.shape)
    return y


def attend(
    q: torch.Tensor, k: torch.Tensor, v: torch.Tensor, keys: torch.Tensor, values: torch.Tensor, positions: torch.Tensor, window: int
) -> torch.Tensor:
    """Put each row's k and v (B, 1, K, D) to its position (B, 1) among keys and values (B, T, K, D), and let its query q (B, 1, H, D) attend to them
    from `window` positions before."""
    (B, _, H, D), (T, K) = q.shape, keys.shape[1:3]
    assert k.shape == v.shape == (B, 1, K, D) and k.dtype == v.dtype == q.dtype
    assert q.dtype == keys.dtype == values.dtype == torch.bfloat16 and keys.shape == values.shape == (B, T, K, D) and H % K == 0
    assert keys.stride() == values.stride() and keys.stride()[1:] == (K * D, D, 1) and positions.is_contiguous() and positions.shape == (B, 1)
    q, k, v = q.contiguous(), k.contiguous(), v.contiguous()
    y = torch.empty_like(q)
    _call(library("decode").attend, q, k, v, keys, values, positions, y, B, H, K, D, keys.stride(0), window)
    return y


def softcap(z: torch.Tensor, vocab: int, cap: float) -> torch.Tensor:
    """cap·tanh(z/cap) of the first `vocab` columns of z (…, V), in float32."""
    rows, stride = z.numel() // z.size(-1), z.size(-1)
    assert z.is_contiguous() and z.dtype == torch.bfloat16
    out = z.new_empty(*z.shape[:-1], vocab, dtype=torch.float32)
    _call(library("decode").softcap, z, out, rows, vocab, stride, float(cap))
    return out
