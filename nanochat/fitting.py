"""How a batch is divided: into rows per device that fit its memory and that make up the whole exactly."""

import torch
import torch.distributed as dist

from nanochat.common import Compute, UserError, print0
from nanochat.hardware import free_memory
from nanochat.scaling import Plan, memory_estimate

MEMORY_SHARE = 0.92  # of a device's memory that a training step may take: the rest is for fragments and for evaluation
MOST_ROWS = 256
CPU_TOKENS = 16_384  # of a micro-batch on a CPU: larger ones are no faster there


def row_choices(plan: Plan, world_size: int) -> list[int]:
    """All numbers of rows on one device that divide the batch, ascending."""
    per_row = plan.sequence_len * world_size
    most, rest = divmod(plan.total_batch_size, per_row)
    if rest:
        near = " or ".join(str(n * per_row) for n in (most, most + 1) if n > 0)
        raise UserError(f"a batch of {plan.total_batch_size} tokens cannot be divided into rows of {plan.sequence_len} on {world_size} "
                        f"rank{'s' * (world_size > 1)}: use --total-batch-size {near}")  # fmt: skip
    return [rows for rows in range(1, most + 1) if most % rows == 0]


def corrected_rows(wish: int, plan: Plan, world_size: int) -> int:
    """The largest number of rows up to `wish` that divides the batch."""
    rows = max(r for r in row_choices(plan, world_size) if r <= wish)
    if rows != wish:
        print0(f"--device-batch-size {wish} does not divide the batch of {plan.total_batch_size:,} tokens: using {rows}")
    return rows


def choose_rows(model: torch.nn.Module, wish: int | str, before: int | None, plan: Plan, compute: Compute) -> int:
    """--device-batch-size: a number or auto, which a resumed run takes as it was before: other micro-batches would round differently."""
    if wish != "auto":
        return corrected_rows(wish, plan, compute.world_size)
    return before if before in row_choices(plan, compute.world_size) else largest_rows(model, plan, compute)


def estimated_rows(plan: Plan, world_size: int, memory: float, compute_bytes: int, checkpointing: bool, chunked: bool, most: int = MOST_ROWS) -> int:
    """The largest number of rows that should fit into `memory` bytes; 1 if none does."""

    def fits(rows: int) -> bool:
        return memory_estimate(plan, rows, world_size, compute_bytes, checkpointing, chunked)["total"] <= MEMORY_SHARE * memory

    return max((rows for rows in row_choices(plan, world_size) if rows <= most and fits(rows)), default=1)


def largest_rows(model: torch.nn.Module, plan: Plan, compute: Compute) -> int:
    """The largest number of rows that fits. On a GPU it is found by trying, from above; a CPU would rather kill the process than say no, so
    there the estimate decides. The optimizer has its memory by then; the model is left as it was."""
    compute_bytes = torch.finfo(model.compute_dtype).bits // 8
    checkpointing = model.activation_checkpointing
    if compute.device.type != "cuda":
        most = max(1, CPU_TOKENS // plan.sequence_len)
        memory = free_memory(compute.device) / compute.world_size  # ranks on a CPU share it
        return int(smallest(estimated_rows(plan, compute.world_size, memory, compute_bytes, checkpointing, True, most), compute))
    total = torch.cuda.get_device_properties(compute.device).total_memory
    start = estimated_rows(plan, compute.world_size, 1.5 * total, compute_bytes, checkpointing, False)  # the estimate may be too careful
    most = smallest(start, compute)
    for rows in reversed([rows for rows in row_choices(plan, compute.world_size) if rows <= most]):
        if smallest(_fits(model, rows, plan.sequence_len, compute.device, MEMORY_SHARE * total), compute):
            return rows
    raise UserError("not even one row fits into the memory of this GPU: use --activation-checkpointing, a smaller --max-seq-len or a smaller --depth")


def _fits(model: torch.nn.Module, rows: int, sequence_len: int, device: torch.device, memory: float) -> bool:
    """One forward and backward with that many rows."""
    torch.cuda.reset_peak_memory_stats(device)
    tokens = torch.zeros(rows, sequence_len, dtype=torch.int64, device=device)
    try:
        model(tokens, tokens).backward()
        return torch.cuda.max_memory_allocated(device) <= memory
    except torch.OutOfMemoryError:
        return False
    finally:
        model.zero_grad(set_to_none=True)
        torch.cuda.empty_cache()


def smallest(number: float, compute: Compute) -> float:
    """The smallest that any rank has, so that all of them decide alike."""
    if not compute.ddp:
        return number
    everyones = torch.tensor(float(number), device=compute.device)
    dist.all_reduce(everyones, dist.ReduceOp.MIN)
    return everyones.item()
