"""The arithmetic that pretraining, SFT and RL have in common: the optimizer and its step, the loss scale of float16, what the ranks must agree on.
The loop itself stands in each script, where it can be read from top to bottom."""

import math
from dataclasses import dataclass

import torch
import torch.distributed as dist

from nanochat import cpu_kernels
from nanochat.common import Compute, UserError, print0
from nanochat.optim import MuonAdamW, gradients_finite

COMPILE_SECONDS = 60  # --compile auto on a CPU: what the compiler saves is less than it takes in runs shorter than this
FIRST_LOSS_SCALE = 2.0**16  # float16 loses small gradients unless the loss is scaled up
LOSS_SCALE_STEPS = 1000  # without an overflow, until a larger scale is tried
OPTIMIZATION_TOO = ("total_batch_size", "num_iterations", "warmup_steps", "data", "num_epochs", "examples_per_step", "num_samples",
                    "max_new_tokens", "temperature", "top_k")  # fmt: skip
OPTIMIZATION = ("_lr", "_frac", "_ratio", "_decay")  # how the names of flags end that change what is learned


@dataclass
class Progress:
    """What a resumed loop needs beside weights, optimizer and loader. The loops draw no random numbers but from seeds of their own."""

    step: int = 0  # optimizer steps done
    tokens: int = 0
    seconds: float = 0.0  # of training, without evaluations
    smooth_total: float = 0.0  # of train_log.SmoothLoss
    val_bpb: float | None = None
    min_val_bpb: float | None = None
    loss_scale: float = 1.0
    good_steps: int = 0  # since the loss scale changed

    def totals(self, flops_per_token: float) -> dict[str, float]:
        """What the run has cost so far, for its records."""
        return {"tokens": self.tokens, "total_seconds": self.seconds, "total_flops": self.tokens * flops_per_token}


def new_progress(dtype: torch.dtype) -> Progress:
    return Progress(loss_scale=FIRST_LOSS_SCALE if dtype == torch.float16 else 1.0)


def due(every: int, step: int) -> bool:
    return every > 0 and step % every == 0


# --- before the run --------------------------------------------------------------------------------------------------


def build_optimizer(model, rates: dict[str, float], weight_decay: float, compute: Compute, compile_updates: bool) -> MuonAdamW:
    """rates: unembedding_lr, embedding_lr, matrix_lr, scalar_lr."""
    groups = model.param_groups(**rates, weight_decay=weight_decay)
    muon_dtype = torch.bfloat16 if model.compute_dtype == torch.bfloat16 else torch.float32
    return MuonAdamW(groups, compute.rank, compute.world_size, muon_dtype=muon_dtype, compile=compute.device.type == "cuda" and compile_updates)


def compile_model(model, flag: str, before: bool | None, flops: float, peak: float) -> bool:
    """On a GPU the whole model becomes one graph. On a CPU it is the blocks, which are alike and compile in a third of the time. If the flag says
    auto, a resumed run does as it did before; where that is not possible now, it goes on without."""
    wish = flag if flag != "auto" or before is None else "on" if before else "off"
    device = model.get_device()
    if device.type == "cpu":
        spaced = " " in torch.__file__  # torch does not quote its own folder when it calls the compiler
        can = cpu_kernels.library("loss") is not None and not spaced
        if flag == "on" and not can:
            why = (
                "torch cannot compile in a folder with a space in its name"
                if spaced
                else "no C++ compiler works here; install g++, or name yours in CXX"
            )
            raise UserError(f"--compile on: {why}; or leave --compile out")
        if can and (wish == "on" or (wish == "auto" and flops / (0.4 * peak) > COMPILE_SECONDS)):
            model.compile_blocks()
            return True
    elif wish == "on" or (wish == "auto" and device.type == "cuda"):
        model.compile(dynamic=False)
        return True
    return False


def print_changes(before: dict, now: dict) -> None:
    """Which flags of the optimization are others than when the run was saved. That is allowed, but should not go unseen."""
    names = [name for name in now if name.endswith(OPTIMIZATION) or name in OPTIMIZATION_TOO]
    changed = [f"--{name.replace('_', '-')} was {before[name]} and is {now[name]}" for name in names if name in before and before[name] != now[name]]
    if changed:
        print0(f"changed since it was saved: {'; '.join(changed)}")


# --- a step ----------------------------------------------------------------------------------------------------------


def optimizer_step(
    optimizer: MuonAdamW, loss: torch.Tensor, progress: Progress, signal: int, compute: Compute, dtype: torch.dtype, good: str
) -> tuple[float, int]:
    """After backward of the loss times its scale: look at the gradients, update the weights unless that would harm them, forget the gradients.

    Returns what all ranks agree on: the mean of their losses, and the signal to stop that any of them got. `good` names the last good checkpoint.
    """
    parameters = [p for group in optimizer.param_groups for p in group["params"]]
    if progress.loss_scale != 1:
        torch._foreach_mul_([p.grad for p in parameters if p.grad is not None], 1 / progress.loss_scale)
    mean, signal = agree(loss, signal, compute)
    finite = gradients_finite(parameters, compute.device, compute.world_size) and math.isfinite(mean)
    if finite:
        optimizer.step()
    elif dtype != torch.float16 or progress.loss_scale <= 1 or not math.isfinite(mean):
        what = "the gradient" if math.isfinite(mean) else f"the loss ({mean})"
        raise UserError(f"step {progress.step}: {what} is not finite. The weights were left as they were; the last good checkpoint: {good}. "
                        f"Lower the learning rates, or look at the data of this step")  # fmt: skip
    if dtype == torch.float16:
        rescale_after(finite, progress)
    optimizer.zero_grad(set_to_none=True)
    if compute.device.type == "cuda":
        torch.cuda.synchronize()
    return mean, signal


def agree(loss: torch.Tensor, signal: int, compute: Compute) -> tuple[float, int]:
    """The loss of the whole step, and the signal to stop that any rank got. This is where the device is waited for."""
    mean, number = loss.detach().float() / compute.world_size, torch.tensor(signal, device=compute.device)
    if compute.ddp:
        dist.all_reduce(mean)
        dist.all_reduce(number, dist.ReduceOp.MAX)
    return mean.item(), int(number)


def rescale_after(finite: bool, progress: Progress) -> None:
    """float16: a smaller loss scale after an overflow, a larger one after many steps without."""
    progress.good_steps = progress.good_steps + 1 if finite else 0
    if not finite:
        progress.loss_scale /= 2
    elif progress.good_steps % LOSS_SCALE_STEPS == 0:
        progress.loss_scale *= 2


def total(number: float, compute: Compute) -> float:
    """The sum over all ranks."""
    if not compute.ddp:
        return number
    everyones = torch.tensor(number, device=compute.device)
    dist.all_reduce(everyones)
    return everyones.item()
