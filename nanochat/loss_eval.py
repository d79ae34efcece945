"""Bits per byte: how many bits the model needs for a byte of text. Unlike the loss per token it can be compared across tokenizers."""

import itertools
import math
from collections.abc import Iterable
from typing import TYPE_CHECKING

from nanochat.common import UserError

if TYPE_CHECKING:
    import torch


def evaluate_bpb(model: "torch.nn.Module", batches: Iterable[tuple], steps: int, token_bytes: "torch.Tensor") -> float:
    """Over the next `steps` batches (x, y, …) of every rank. token_bytes (vocab,) says how many bytes each token stands for.

    Targets of -1 and tokens of no bytes, the special ones, count neither as bits nor as bytes.
    """
    import torch

    was_training = model.training
    model.eval()
    try:
        with torch.no_grad():
            nats, count = _sums(model, batches, steps, token_bytes)
    finally:
        model.train(was_training)
    if count == 0:  # on all ranks together, so all of them raise. An infinity in its place would pass for a bad model
        raise UserError(f"{steps} steps of evaluation met no text at all: give validation data with targets in it, or evaluate on more of it")
    return nats / (math.log(2) * count)


def _sums(model: "torch.nn.Module", batches: Iterable[tuple], steps: int, token_bytes: "torch.Tensor") -> tuple[float, float]:
    """Nats and bytes over all ranks, in float64: a float32 stops counting single bytes at 16 million."""
    import torch
    import torch.distributed as dist

    device = torch.device("cpu") if token_bytes.device.type == "mps" else token_bytes.device  # MPS has no float64
    token_bytes = token_bytes.to(device)
    sums = torch.zeros(2, dtype=torch.float64, device=device)
    for x, y, *_ in itertools.islice(batches, steps):
        losses = model(x, y, loss_reduction="none").to(device)  # (B, T)
        y = y.to(device)
        sizes = torch.where(y >= 0, token_bytes[y.clamp_min(0)], 0)  # (B, T)
        sums[0] += torch.where(sizes > 0, losses, 0).sum(dtype=torch.float64)  # not a product: an ignored loss may be infinite
        sums[1] += sizes.sum()
    if dist.is_available() and dist.is_initialized():
        dist.all_reduce(sums)
    nats, count = sums.tolist()
    return nats, count
