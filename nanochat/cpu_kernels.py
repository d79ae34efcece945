"""Builds and calls the C++ beside it: attention, MLP, head and loss, Muon, decoding, where torch's own operations leave a CPU waiting for its memory.
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
         "-fno-signed-zeros", "-freciprocal-math", "-fno-strict-aliasing"]  # fmt: skip
WIDE = "-mprefer-vector-width=512"  # compilers shy away from the widest vectors; here they are a third faster

HEAD_BLOCK = 3 * 2**15  # numbers of x in a block of rows, which stays in a core's cache: 256 rows of 384
HEAD_KEPT = 64 << 20  # bytes of gradients to logits that wait to be summed up for the weights; a block for each thread, whatever that takes

MLP_ROWS = 128  # in a block, if there are enough
MLP_KEPT = 8 << 20  # bytes of factors of the weights' gradients that wait to be summed up


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
    files = [source, *sorted(FOLDER.glob("*.h"))]
    texts = [*(file.read_text(encoding="utf-8") for file in files), *command, torch.__version__, cpu]
    return hashlib.sha256("\n".join(texts).encode()).hexdigest()[:16]


def _call(function, *arguments: torch.Tensor | int | float | None) -> int:
    kinds = {int: ctypes.c_int64, float: ctypes.c_float, type(None): ctypes.c_void_p}
    return function(*(ctypes.c_void_p(a.data_ptr()) if isinstance(a, torch.Tensor) else kinds[type(a)](a) for a in arguments))


# --- loss ------------------------------------------------------------------------------------------------------------


def loss_usable(dtype: torch.dtype) -> bool:
    return dtype == torch.float32 and library("loss") is not None


def softcap_loss(logits: torch.Tensor, targets: torch.Tensor, scale: torch.Tensor | None, losses: torch.Tensor, vocab: int, cap: float) -> None:
    """logits (N, V), of which the first `vocab` count; targets (N,), < 0 ignored. Fills losses (N,), and with `scale` (N,), the weight of each row's
    loss, turns the logits into the gradient to them."""
    rows, stride = logits.shape
    assert logits.is_contiguous() and logits.dtype == losses.dtype == torch.float32 and losses.is_contiguous() and losses.shape == (rows,)
    _check_targets(targets, scale, rows, vocab)
    _call(library("loss").softcap_loss, logits, targets, scale, losses, rows, vocab, stride, float(cap))


def _check_targets(targets: torch.Tensor, scale: torch.Tensor | None, rows: int, vocab: int) -> None:
    assert targets.is_contiguous() and targets.dtype == torch.int64 and targets.shape == (rows,)
    assert rows == 0 or int(targets.max()) < vocab, "a target that is no word"
    assert scale is None or (scale.is_contiguous() and scale.dtype == torch.float32 and scale.shape == (rows,))


def add_transposed(total: torch.Tensor, x: torch.Tensor) -> None:
    """total (columns, rows) += x.t() for x (rows, columns)."""
    rows, columns = x.shape
    assert total.shape == (columns, rows) and total.is_contiguous() and x.is_contiguous() and total.dtype == x.dtype == torch.float32
    _call(library("loss").add_transposed, total, x, rows, columns)


def transposed(x: torch.Tensor) -> torch.Tensor:
    """A contiguous x.t() for x (rows, columns)."""
    rows, columns = x.shape
    assert x.is_contiguous() and x.dtype == torch.float32
    out = x.new_empty(columns, rows)
    _call(library("loss").transpose, out, x, rows, columns)
    return out


# --- head and loss ---------------------------------------------------------------------------------------------------


def head_usable(x: torch.Tensor, weight: torch.Tensor) -> bool:
    """bfloat16 on processors that multiply it. Their products want pairs, and are quick with whole vectors."""
    whole = weight.size(0) % 16 == 0 and weight.size(1) % 16 == 0
    return whole and x.dtype == torch.bfloat16 and library("head") is not None and bool(library("head").head_usable())


def head_loss(
    x: torch.Tensor, weight: torch.Tensor, targets: torch.Tensor, scale: torch.Tensor | None, vocab: int, cap: float
) -> tuple[torch.Tensor, torch.Tensor | None, torch.Tensor | None]:
    """x (N, C), weight (V, C) of which the first `vocab` rows are words; targets (N,), < 0 ignored. losses (N,), and with `scale` (N,), the weight of
    each row's loss, the gradients of their sum to x and, in float32, to weight."""
    (N, C), V = x.shape, weight.size(0)
    x, weight = x.contiguous(), weight.contiguous()
    assert x.dtype == weight.dtype == torch.bfloat16 and weight.shape == (V, C) and V % 16 == C % 16 == 0 and vocab <= V
    _check_targets(targets, scale, N, vocab)
    losses = x.new_empty(N, dtype=torch.float32)
    dx, dw = (None, None) if scale is None else (torch.empty_like(x), weight.new_empty(V, C, dtype=torch.float32))
    if N == 0 and dw is not None:
        dw.zero_()
    rows, kept = _head_blocks(N, C, V, torch.get_num_threads())
    _call(library("head").head_loss, x, weight, targets, scale, losses, dx, dw, N, C, V, vocab, rows, kept, float(cap))
    return losses, dx, dw


def _head_blocks(N: int, C: int, V: int, threads: int) -> tuple[int, int]:
    """How many rows are a block, and how many blocks are summed up at once: each thread gets as many, if there are enough rows."""
    most = min(HEAD_BLOCK // C, max(64, HEAD_KEPT // (V * 2 * threads)))
    blocks = threads * max(1, -(-N // (max(32, most) * threads)))
    rows = max(32, (-(-N // blocks) + 31) // 32 * 32)
    return rows, threads * max(1, HEAD_KEPT // (rows * V * 2 * threads))


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


# --- MLP -------------------------------------------------------------------------------------------------------------


def mlp_usable(dtype: torch.dtype, width: int) -> bool:
    """bfloat16 on processors that multiply it, in whole vectors."""
    return dtype == torch.bfloat16 and width % 16 == 0 and library("mlp") is not None and bool(library("mlp").mlp_usable())


def mlp_forward(x: torch.Tensor, up: torch.Tensor, down: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """relu(x·upᵀ)²·downᵀ for x (…, C), up (H, C) and down (C, H); and x·upᵀ, in an order of its own, for backward."""
    x, up, down = x.contiguous(), up.to(x.dtype).contiguous(), down.to(x.dtype).contiguous()
    y, u = torch.empty_like(x), x.new_empty(*x.shape[:-1], up.size(0))
    N, C, H, rows = _check_mlp(x, up, down, u)
    _call(library("mlp").mlp_forward, x, up, down, u, y, N, C, H, rows)
    return y, u


@torch.library.custom_op("nanochat::cpu_mlp", mutates_args=())
def mlp(x: torch.Tensor, up: torch.Tensor, down: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """mlp_forward as an operator, which autograd and the compiler know."""
    return mlp_forward(x, up, down)


@torch.library.custom_op("nanochat::cpu_mlp_backward", mutates_args=())
def mlp_backward(
    dy: torch.Tensor, x: torch.Tensor, up: torch.Tensor, down: torch.Tensor, u: torch.Tensor
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """The gradients, in the dtypes of what they are for; up and down are best left in float32."""
    dy, x, u = dy.contiguous(), x.contiguous(), u.contiguous()
    dx, dup, ddown = torch.empty_like(x), up.new_empty(up.shape, dtype=torch.float32), down.new_empty(down.shape, dtype=torch.float32)
    rounded = [weight.to(x.dtype).contiguous() for weight in (up, down)]
    N, C, H, rows = _check_mlp(x, *rounded, u)
    assert dy.shape == x.shape and dy.dtype == x.dtype
    if N == 0:
        dup.zero_(), ddown.zero_()
    else:
        threads = torch.get_num_threads()
        blocks = threads * max(1, MLP_KEPT // (rows * 4 * (C + H) * threads))
        _call(library("mlp").mlp_backward, dy, x, *rounded, u, dx, dup, ddown, N, C, H, rows, blocks)
    return dx, dup.to(up.dtype), ddown.to(down.dtype)


def _check_mlp(x: torch.Tensor, up: torch.Tensor, down: torch.Tensor, u: torch.Tensor) -> tuple[int, int, int, int]:
    """N, C, H, and how many rows are a block: whatever the threads are, so that their number changes no bit of a result."""
    (H, C), N = up.shape, x.numel() // x.size(-1)
    assert x.device.type == "cpu" and x.dtype == up.dtype == down.dtype == u.dtype == torch.bfloat16 and C % 16 == H % 16 == 0
    assert x.size(-1) == C and down.shape == (C, H) and u.shape == (*x.shape[:-1], H)
    return N, C, H, min(MLP_ROWS, max(32, N // 16 // 32 * 32))


@mlp.register_fake
def _(x, up, down):
    return x.new_empty(x.shape), x.new_empty(*x.shape[:-1], up.size(0))


@mlp_backward.register_fake
def _(dy, x, up, down, u):
    return x.new_empty(x.shape), up.new_empty(up.shape), down.new_empty(down.shape)


def _keep_for_mlp_backward(ctx, inputs, output) -> None:
    ctx.mark_non_differentiable(output[1])
    ctx.set_materialize_grads(False)  # to u: there is none, and as zeros it would be as large as u
    ctx.save_for_backward(*inputs, output[1])


def _mlp_gradients(ctx, dy: torch.Tensor | None, _):
    return (None, None, None) if dy is None else mlp_backward(dy, *ctx.saved_tensors)


mlp.register_autograd(_mlp_gradients, setup_context=_keep_for_mlp_backward)


# --- Muon ------------------------------------------------------------------------------------------------------------


def muon_usable(weights: list[torch.Tensor], dtype: torch.dtype) -> bool:
    """There it is one matrix to a thread, so there must be enough of them."""
    (m, n), device = weights[0].shape, weights[0].device
    fits = device.type == "cpu" and weights[0].dtype == torch.float32 and m % 16 == 0 and n % 16 == 0 and 2 * len(weights) >= torch.get_num_threads()
    return fits and dtype == torch.bfloat16 and library("muon") is not None and bool(library("muon").muon_usable())


def muon_update(weights: list[torch.Tensor], grads: list[torch.Tensor], momenta: torch.Tensor, squares: torch.Tensor,
                lr: float, momentum: float, weight_decay: float, beta2: float, coefficients: list[tuple[float, float, float]]) -> None:  # fmt: skip
    """optim.muon_update for weights (m, n) that need not lie together; momenta (K, m, n) and squares (K, …) may have room for more."""
    count, (m, n) = len(weights), weights[0].shape
    assert m % 16 == n % 16 == 0
    grads = [grad.float().contiguous() for grad in grads]
    assert len(grads) == count <= len(momenta) and all(t.shape == (m, n) and t.dtype == torch.float32 for t in (*weights, *grads))
    assert all(t.is_contiguous() and t.dtype == torch.float32 for t in (*weights, momenta, squares)) and momenta.shape[1:] == (m, n)
    assert squares.shape == (len(momenta), *((m, 1) if m >= n else (1, n)))
    addresses = [torch.tensor([t.data_ptr() for t in tensors], dtype=torch.int64) for tensors in (weights, grads)]
    rates = (float(x) for x in (lr, momentum, weight_decay, beta2))
    _call(library("muon").muon_update, *addresses, momenta, squares, count, m, n, *rates, torch.tensor(coefficients), len(coefficients))


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
