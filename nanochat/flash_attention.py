"""Causal attention with a sliding window: one interface, and behind it the best kernel that the machine has.

    fa3    FlashAttention-3 (arXiv 2407.08608) on Hopper, if its package is installed
    flex   torch's flex_attention: block-sparse windows on other CUDA GPUs; needs torch.compile to be fast
    cpu    cpu_attention.cpp, a head at a time in a core's cache: bfloat16 on CPUs that multiply it natively
    sdpa   torch's scaled_dot_product_attention, for windows block by block; runs everywhere

All of them take time and memory for the window, not for T x T.
"""

import importlib
import sys

import torch
import torch.nn.functional as F

from nanochat import cpu_kernels

KERNELS = ("fa3", "flex", "cpu", "sdpa")
SHORT_ROWS = 512  # tokens


def best_kernel(device: torch.device, dtype: torch.dtype) -> str:
    if device.type == "cuda":
        hopper = torch.cuda.get_device_capability(device)[0] == 9
        return "fa3" if hopper and dtype == torch.bfloat16 and _has_fa3() else "flex"
    return "cpu" if device.type == "cpu" and cpu_kernels.attention_usable(dtype) else "sdpa"


def windows_pay(kernel: str, sequence_len: int) -> bool:
    """Is a short window cheaper than a long one? SHORT_ROWS is where attention is a small part of a CPU's work anyway."""
    return kernel in ("fa3", "flex") or (kernel == "cpu" and sequence_len > SHORT_ROWS)


def attention(q: torch.Tensor, k: torch.Tensor, v: torch.Tensor, window: int, kernel: str) -> torch.Tensor:
    """q (B, T, H, D), k and v (B, T, H_kv, D) -> (B, T, H, D). Position t sees positions t-window … t."""
    B, T, H, D = q.shape
    assert k.shape == v.shape == (B, T, k.size(2), D) and H % k.size(2) == 0, (q.shape, k.shape, v.shape)
    window = min(window, T - 1)
    if kernel == "fa3":
        import flash_attn_interface  # best_kernel has made sure of it; an import is something that torch.compile can follow

        return flash_attn_interface.flash_attn_func(q, k, v, causal=True, window_size=(window, 0))
    if kernel == "cpu":
        if torch.is_grad_enabled() or torch.compiler.is_compiling():
            return cpu_kernels.attention(q, k, v, window)[0]
        return cpu_kernels.attention_forward(q, k, v, window)[0]  # the first call of an operator imports the compiler, which takes a second
    q, k, v = (x.transpose(1, 2) for x in (q, k, v))  # (B, H, T, D)
    if kernel == "flex" and window < T - 1 and torch.compiler.is_compiling():  # uncompiled it would make all T x T scores
        y = _flex(q, k, v, window)
    else:
        if k.size(1) < H:  # not all of torch's kernels know how to share key heads
            k, v = (x.repeat_interleave(H // k.size(1), dim=1) for x in (k, v))
        y = _sdpa(q, k, v, window)
    return y.transpose(1, 2)


def attention_over(q: torch.Tensor, k: torch.Tensor, v: torch.Tensor, mask: torch.Tensor | None) -> torch.Tensor:
    """q (B, T, H, D) over keys and values (B, S, H_kv, D) from a cache; mask (B, T, S) is added to the scores. For a few queries over many keys."""
    B, T, H, D = q.shape
    group = H // k.size(2)
    if group > 1:  # the heads that share keys become further queries: keys need not be repeated
        q = q.view(B, T, k.size(2), group, D).transpose(2, 3).reshape(B, T * group, k.size(2), D)
        mask = None if mask is None else mask.repeat_interleave(group, dim=1)
    y = F.scaled_dot_product_attention(*(x.transpose(1, 2) for x in (q, k, v)), attn_mask=None if mask is None else mask[:, None])
    y = y.transpose(1, 2)  # (B, T·group, H_kv, D)
    return y.view(B, T, group, -1, D).transpose(2, 3).reshape(B, T, H, D) if group > 1 else y


# --- FlashAttention-3 ------------------------------------------------------------------------------------------------


def _has_fa3() -> bool:
    """FlashAttention-3's own package, or the build that the `kernels` package fetches from the hub, made importable by the same name."""
    try:
        importlib.import_module("flash_attn_interface")
        return True
    except ImportError:
        pass
    try:
        module = importlib.import_module("kernels").get_kernel("varunneal/flash-attention-3").flash_attn_interface
    except Exception:  # not installed, no network, no build for this machine: each has a next best
        return False
    sys.modules["flash_attn_interface"] = module
    return True


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
