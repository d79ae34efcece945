"""Causal attention with a sliding window: one interface, and behind it the best kernel that the machine has.

    fa3    FlashAttention-3 (arXiv 2407.08608) on Hopper, if its package is installed
    flex   torch's flex_attention: block-sparse windows on other CUDA GPUs; needs torch.compile to be fast
    cpu    products of blocks that stay in cache, with the softmax of cpu_kernels.cpp between them; skips what causality and window mask
    sdpa   torch's scaled_dot_product_attention, for windows block by block; runs everywhere

All of them take time and memory for the window, not for T x T.
"""

import functools
import importlib

import torch
import torch.nn.functional as F

from nanochat import cpu_kernels

KERNELS = ("fa3", "flex", "cpu", "sdpa")
SCORES_BYTES = 8 << 20  # scores of a block on a CPU, for as many heads as that takes: small products cost more than a larger cache
CPU_BLOCK = 256  # queries or keys in a block on a CPU: shorter ones skip more of what is masked but make smaller products
CPU_WHOLE = 512  # rows up to this length are one block: the masked half costs less than cutting it off


def best_kernel(device: torch.device, dtype: torch.dtype) -> str:
    if device.type == "cuda":
        hopper = torch.cuda.get_device_capability(device)[0] == 9
        return "fa3" if hopper and dtype == torch.bfloat16 and _fa3() else "flex"
    return "cpu" if device.type == "cpu" and cpu_kernels.usable(dtype) else "sdpa"


def windows_pay(kernel: str, sequence_len: int) -> bool:
    """Is a short window cheaper than a long one? On a CPU the masked half is skipped anyway, and blocks much smaller than that waste products."""
    return kernel in ("fa3", "flex") or (kernel == "cpu" and sequence_len >= 4 * CPU_BLOCK)


def attention(q: torch.Tensor, k: torch.Tensor, v: torch.Tensor, window: int, kernel: str) -> torch.Tensor:
    """q (B, T, H, D), k and v (B, T, H_kv, D) -> (B, T, H, D). Position t sees positions t-window … t."""
    B, T, H, D = q.shape
    assert k.shape == v.shape == (B, T, k.size(2), D) and H % k.size(2) == 0, (q.shape, k.shape, v.shape)
    window = min(window, T - 1)
    if kernel == "fa3":
        return _fa3().flash_attn_func(q, k, v, causal=True, window_size=(window, 0))
    q, k, v = (x.transpose(1, 2) for x in (q, k, v))  # (B, H, T, D)
    if kernel == "flex" and window < T - 1 and torch.compiler.is_compiling():  # uncompiled it would make all T x T scores
        y = _flex(q, k, v, window)
    else:  # whatever follows wants as many key heads as query heads
        k, v = (x.repeat_interleave(H // k.size(1), dim=1) for x in (k, v)) if k.size(1) < H else (k, v)
        y = _cpu_attention(q.contiguous(), k.contiguous(), v.contiguous(), window)[0] if kernel == "cpu" else _sdpa(q, k, v, window)
    return y.transpose(1, 2)


# --- FlashAttention-3 ------------------------------------------------------------------------------------------------


@functools.cache
def _fa3():
    """The module with flash_attn_func: FlashAttention-3's own package, or the build that the `kernels` package fetches from the hub."""
    try:
        return importlib.import_module("flash_attn_interface")
    except ImportError:
        pass
    try:
        return importlib.import_module("kernels").get_kernel("varunneal/flash-attention-3").flash_attn_interface
    except Exception:  # not installed, no network, no build for this machine: each has a next best
        return None


# --- flex_attention --------------------------------------------------------------------------------------------------


def _flex(q, k, v, window: int) -> torch.Tensor:
    from torch.nn.attention.flex_attention import flex_attention

    mask = _block_mask(q.size(2), window, q.device)
    return flex_attention(q, k, v, block_mask=mask, enable_gqa=k.size(1) < q.size(1))


def _block_mask(T: int, window: int, device: torch.device):
    """Which blocks of keys a block of queries sees: a few numbers per block. Compiled, it is made once per step for all layers alike."""
    from torch.nn.attention.flex_attention import create_block_mask

    def visible(batch, head, query, key):
        return (key <= query) & (query - key <= window)

    return create_block_mask(visible, None, None, T, T, device=device)


# --- torch's scaled_dot_product_attention ----------------------------------------------------------------------------


def _sdpa(q, k, v, window: int) -> torch.Tensor:
    T = q.size(2)
    if window >= T - 1:
        return F.scaled_dot_product_attention(q, k, v, is_causal=True)
    outputs = []
    for first, last, first_key in _blocks(T, window, max(128, window)):
        query = torch.arange(first, last, device=q.device)[:, None]
        key = torch.arange(first_key, last, device=q.device)[None, :]
        mask = (key <= query) & (query - key <= window)
        outputs.append(F.scaled_dot_product_attention(q[:, :, first:last], k[:, :, first_key:last], v[:, :, first_key:last], attn_mask=mask))
    return torch.cat(outputs, dim=2)


def _blocks(T: int, window: int, size: int) -> list[tuple[int, int, int]]:
    """Blocks of queries (first, last) with the first key that they see; the last key is their own last."""
    return [(first, min(first + size, T), max(0, first - window)) for first in range(0, T, size)]


# --- CPU -------------------------------------------------------------------------------------------------------------


def _cpu_chunks(q: torch.Tensor) -> tuple[int, list[slice]]:
    """The size of a block, and some (batch, head) pairs at a time, so that a block of their scores stays in cache."""
    T, D = q.shape[-2:]
    block = CPU_BLOCK if T > CPU_WHOLE else T
    pairs, at_once = q.numel() // (T * D), max(1, SCORES_BYTES // (block * T * q.element_size()))
    return block, [slice(start, min(start + at_once, pairs)) for start in range(0, pairs, at_once)]


@torch.library.custom_op("nanochat::cpu_attention", mutates_args=())
def _cpu_attention(q: torch.Tensor, k: torch.Tensor, v: torch.Tensor, window: int) -> tuple[torch.Tensor, torch.Tensor]:
    """q, k, v (B, H, T, D) -> output, and 1/Σe^score (B, H, T) for backward."""
    T, D = q.shape[-2:]
    y, inverse_sums = torch.empty_like(q), torch.empty(q.shape[:-1], dtype=torch.float32)
    flat = [x.view(-1, T, D) for x in (q, k, v, y)]
    block, chunks = _cpu_chunks(q)
    for pairs in chunks:
        q3, k3, v3, y3 = (x[pairs] for x in flat)
        sums = inverse_sums.view(-1, T)[pairs]
        for first, last, first_key in _blocks(T, window, block):
            rows, keys = slice(first, last), slice(first_key, last)
            p = q3[:, rows] @ k3[:, keys].mT  # (pairs, queries, keys)
            cpu_kernels.softmax(p, sums[:, rows], first, first_key, window, D**-0.5)
            y3[:, rows] = p @ v3[:, keys]
    return y, inverse_sums


@torch.library.custom_op("nanochat::cpu_attention_backward", mutates_args=())
def _cpu_attention_backward(
    dy: torch.Tensor, q: torch.Tensor, k: torch.Tensor, v: torch.Tensor, y: torch.Tensor, inverse_sums: torch.Tensor, window: int
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Blocks of keys with all queries that see them. Scores are made with keys as rows, so that three of the five products need no transposing."""
    T, D = q.shape[-2:]
    dq, dk, dv = (torch.empty_like(x) for x in (q, k, v))
    flat = [x.view(-1, T, D) for x in (dy.contiguous(), q, k, v, y, dq, dk, dv)]
    block, chunks = _cpu_chunks(q)
    for pairs in chunks:
        dy3, q3, k3, v3, y3, dq3, dk3, dv3 = (x[pairs] for x in flat)
        sums = inverse_sums.view(-1, T)[pairs]
        means = (dy3.float() * y3).sum(-1)  # (pairs, T)
        dq_sum = torch.zeros(q3.shape, dtype=torch.float32) if block < T else dq3  # every block adds to it
        for first in range(0, T, block):
            last = min(first + block, T)
            keys, rows = slice(first, last), slice(first, min(last + window, T))
            p = k3[:, keys] @ q3[:, rows].mT  # (pairs, keys, queries)
            ds = v3[:, keys] @ dy3[:, rows].mT
            cpu_kernels.softmax_backward(p, ds, sums[:, rows], means[:, rows], first, first, window, D**-0.5)
            dv3[:, keys] = p @ dy3[:, rows]
            dk3[:, keys] = ds @ q3[:, rows]
            if block < T:
                dq_sum[:, rows] += ds.mT @ k3[:, keys]
            else:
                torch.bmm(ds.mT, k3, out=dq3)
        if block < T:
            dq3.copy_(dq_sum)
    return dq, dk, dv


@_cpu_attention.register_fake
def _(q, k, v, window):
    return torch.empty_like(q), q.new_empty(q.shape[:-1], dtype=torch.float32)


@_cpu_attention_backward.register_fake
def _(dy, q, k, v, y, inverse_sums, window):
    return torch.empty_like(q), torch.empty_like(k), torch.empty_like(v)


def _keep_for_backward(ctx, inputs, output) -> None:
    q, k, v, ctx.window = inputs
    ctx.save_for_backward(q, k, v, *output)


def _cpu_attention_gradients(ctx, dy: torch.Tensor, _):
    return *_cpu_attention_backward(dy, *ctx.saved_tensors, ctx.window), None


_cpu_attention.register_autograd(_cpu_attention_gradients, setup_context=_keep_for_backward)
