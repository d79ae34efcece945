"""Learning rate, momentum and weight decay as functions of the step. Nothing here remembers anything: a resumed run asks the same questions.

Steps count from 0, and a run of n steps trains at steps 0 … n - 1. Asked about a later step, every function answers as for the end of the run.
"""

import math

WARMUP_STEPS = 40
WARMDOWN_RATIO = 0.65
FINAL_LR_FRAC = 0.05

RAMP_STEPS = 400  # Muon's momentum rises over these; a fresh average of gradients should forget quickly
MOMENTUM_START, MOMENTUM_PEAK, MOMENTUM_END = 0.85, 0.97, 0.90


def lr_multiplier(
    step: int,
    num_iterations: int,
    warmup_steps: int = WARMUP_STEPS,
    warmdown_ratio: float = WARMDOWN_RATIO,
    final_lr_frac: float = FINAL_LR_FRAC,
) -> float:
    """Up over the warm-up, 1, then linearly down towards final_lr_frac, which the step after the last one would reach.

    In a run too short for both, the lower of the two lines counts: up, then down, and nowhere a jump.
    """
    rising = min(1.0, (step + 1) / warmup_steps) if warmup_steps > 0 else 1.0
    left = 1 - _warmdown_progress(step, num_iterations, warmdown_ratio)
    return min(rising, left + (1 - left) * final_lr_frac)


def ratio_multiplier(progress: float, warmup_ratio: float, warmdown_ratio: float, final_lr_frac: float) -> float:
    """The same for runs that know only which share of them is behind, from 0 to 1: they go through data once, however many steps that takes."""
    rising = min(1.0, progress / warmup_ratio) if warmup_ratio > 0 else 1.0
    left = min(1.0, max(0.0, 1 - progress) / warmdown_ratio) if warmdown_ratio > 0 else 1.0
    return min(rising, left + (1 - left) * final_lr_frac)


def muon_momentum(step: int, num_iterations: int, warmdown_ratio: float = WARMDOWN_RATIO) -> float:
    """Muon's momentum: up over 400 steps, level, down over the warm-down. In a short run the ramp goes first and may be all there is."""
    if step < RAMP_STEPS:
        return _between(MOMENTUM_START, MOMENTUM_PEAK, step / RAMP_STEPS)
    return _between(MOMENTUM_PEAK, MOMENTUM_END, _warmdown_progress(step, num_iterations, warmdown_ratio))


def cosine_to_zero(step: int, num_iterations: int) -> float:
    """What multiplies Muon's weight decay: half a cosine from 1 to 0 over the whole run."""
    progress = min(1.0, step / max(1, num_iterations))
    return 0.5 * (1 + math.cos(math.pi * progress))


def _warmdown_progress(step: int, num_iterations: int, warmdown_ratio: float) -> float:
    """0 until the warm-down begins, 1 when the run is over."""
    warmdown = round(warmdown_ratio * num_iterations)
    if warmdown <= 0:
        return 0.0
    return min(1.0, max(0.0, 1 - (num_iterations - step) / warmdown))


def _between(start: float, end: float, progress: float) -> float:
    return start + (end - start) * progress
