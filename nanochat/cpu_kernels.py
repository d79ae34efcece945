"""Builds and calls cpu_kernels.cpp: what stands between the matrix products on a CPU. Without a C++ compiler `library()` is None, and the callers
have a slower way in plain torch."""

import ctypes
import functools
import hashlib
import os
import platform
import shutil
import subprocess
from pathlib import Path

import torch

from nanochat.common import atomic_path, get_base_dir

SOURCE = Path(__file__).with_suffix(".cpp")
# Sums may be reordered so that they vectorize, but NaN and infinity keep their meaning: they are how a broken run is noticed.
FLAGS = ["-std=c++17", "-O3", "-march=native", "-fopenmp", "-fPIC", "-shared", "-fno-math-errno", "-fno-trapping-math", "-fassociative-math",
         "-fno-signed-zeros", "-freciprocal-math"]  # fmt: skip
WIDE = "-mprefer-vector-width=512"  # compilers shy away from the widest vectors; here they are a third faster
SUFFIXES = {torch.float32: "float32", torch.bfloat16: "bfloat16"}


@functools.cache
def library() -> ctypes.CDLL | None:
    """The compiled kernels; compiled now if this machine has not done so before. None where there is no compiler for them."""
    compiler = shutil.which(os.environ.get("CXX") or "c++") or shutil.which("g++")
    if compiler is None or platform.system() != "Linux":  # macOS's compiler brings no OpenMP
        return None
    path = get_base_dir() / "cpu_kernels" / f"{_fingerprint(compiler)}.so"
    wide = [WIDE] if platform.machine() == "x86_64" else []
    try:
        if not path.exists():
            with atomic_path(path) as temporary:
                subprocess.run([compiler, *FLAGS, *wide, str(SOURCE), "-o", str(temporary)], check=True, capture_output=True, timeout=120)
        return ctypes.CDLL(str(path))
    except (OSError, subprocess.SubprocessError):
        return None


def _fingerprint(compiler: str) -> str:
    """Changes with the source, the compiler and the processor (-march=native), so that a shared folder serves different machines."""
    try:
        cpu = next(line for line in Path("/proc/cpuinfo").read_text().splitlines() if line.startswith(("flags", "Features")))
    except (OSError, StopIteration):
        cpu = platform.processor()
    return hashlib.sha256("\n".join([SOURCE.read_text(encoding="utf-8"), *FLAGS, WIDE, compiler, cpu]).encode()).hexdigest()[:16]


def usable(dtype: torch.dtype) -> bool:
    return dtype in SUFFIXES and library() is not None


def _call(name: str, dtype: torch.dtype, *arguments: torch.Tensor | int | float | None) -> None:
    kinds = {int: ctypes.c_int64, float: ctypes.c_float, type(None): ctypes.c_void_p}
    converted = [ctypes.c_void_p(a.data_ptr()) if isinstance(a, torch.Tensor) else kinds[type(a)](a) for a in arguments]
    getattr(library(), f"{name}_{SUFFIXES[dtype]}")(*converted)


def softcap_loss(logits: torch.Tensor, targets: torch.Tensor, scale: torch.Tensor | None, losses: torch.Tensor, vocab: int, cap: float) -> None:
    """logits (N, V), of which the first `vocab` count; targets (N,), < 0 ignored. Fills losses (N,) float32, and with `scale` (N,), the weight of
    each row's loss, turns the logits into the gradient to them."""
    rows, stride = logits.shape
    assert logits.is_contiguous() and targets.is_contiguous() and targets.dtype == torch.int64 and targets.shape == (rows,)
    assert losses.is_contiguous() and losses.dtype == torch.float32 and losses.shape == (rows,)
    assert scale is None or (scale.is_contiguous() and scale.dtype == torch.float32 and scale.shape == (rows,))
    _call("softcap_loss", logits.dtype, logits, targets, scale, losses, rows, vocab, stride, float(cap))


def softmax(scores: torch.Tensor, inverse_sums: torch.Tensor, first_query: int, first_key: int, window: int, factor: float) -> None:
    """scores (G, queries, keys) of a block become probabilities; inverse_sums (G, queries), rows may lie apart."""
    heads, queries, keys = scores.shape
    assert scores.is_contiguous() and inverse_sums.dtype == torch.float32 and inverse_sums.stride(1) == 1
    _call("softmax", scores.dtype, scores, inverse_sums, heads, queries, keys, first_query, first_key, window, inverse_sums.stride(0), factor)


def softmax_backward(
    scores: torch.Tensor,
    dp: torch.Tensor,
    inverse_sums: torch.Tensor,
    means: torch.Tensor,
    first_query: int,
    first_key: int,
    window: int,
    factor: float,
) -> None:
    """scores (G, keys, queries) become probabilities again, and dp, the gradient to the probabilities, the one to the scores before `factor`."""
    heads, keys, queries = scores.shape
    assert scores.is_contiguous() and dp.is_contiguous() and scores.shape == dp.shape and scores.dtype == dp.dtype
    assert inverse_sums.dtype == means.dtype == torch.float32 and inverse_sums.stride() == means.stride() and means.stride(1) == 1
    _call(
        "softmax_backward",
        scores.dtype,
        scores,
        dp,
        inverse_sums,
        means,
        heads,
        queries,
        keys,
        first_query,
        first_key,
        window,
        means.stride(0),
        factor,
    )
