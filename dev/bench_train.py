"""How fast is a training step on this machine's CPU, and where does its time go?

    python -m dev.bench_train            # about five minutes on 2 cores

The model of scripts.base_train at two sizes against the machine's own peak of bf16 matrix products, measured in the same process, and against a plain
reference that is kept here: the same mathematics in ordinary torch, compiled as one graph, with all logits in memory and the allocator as it comes.
Every variant runs in a process of its own, so that memory is its own too. The last line is JSON; `bars` holds each figure that is promised.
"""

import argparse
import json
import math
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import torch
import torch.nn as nn
import torch.nn.functional as F

from nanochat.common import HUGE_PAGES, ArgumentParser, Compute, compute_init
from nanochat.dataloader import pretrain_batches
from nanochat.flash_attention import attention
from nanochat.gpt import GPT, GPTConfig, new_model
from nanochat.hardware import peak_memory
from nanochat.head_loss import head_loss
from nanochat.optim import MuonAdamW, gradients_finite
from nanochat.tokenizer import get_tokenizer

SIZES = {
    "d6": {"sequence_len": 512, "vocab_size": 32768, "n_layer": 6, "n_head": 6, "n_kv_head": 6, "n_embd": 384, "window_pattern": "L"},
    "d4": {"sequence_len": 256, "vocab_size": 4096, "n_layer": 4, "n_head": 4, "n_kv_head": 4, "n_embd": 256, "window_pattern": "L"},
}
ROWS = 32  # of a micro-batch
RECIPE = ["--depth", "4", "--head-dim", "64", "--max-seq-len", "256", "--device-batch-size", "32", "--total-batch-size", "8192"]
SQUARES = (1024, 2048, 4096)


def parse_args() -> argparse.Namespace:
    parser = ArgumentParser(description="Benchmark of training on a CPU")
    parser.add_argument("--variant", default=None, help=argparse.SUPPRESS)  # how the benchmark calls itself
    parser.add_argument("--steps", type=int, default=10, help="steps to measure; the median counts")
    parser.add_argument("--skip", default="", help="comma-separated: reference, recipe, parts")
    return parser.parse_args()


# --- the plain reference ---------------------------------------------------------------------------------------------


class Reference(nn.Module):
    """The model's formulas as one would write them down first, in one dtype throughout."""

    def __init__(self, config: GPTConfig, dtype: torch.dtype):
        super().__init__()
        C, L, V = config.n_embd, config.n_layer, config.vocab_size
        self.config, self.dtype = config, dtype
        self.wte, self.head = nn.Embedding(V, C, dtype=dtype), nn.Parameter(torch.randn(V, C) * 0.001)
        self.ve = nn.ModuleDict({str(i): nn.Embedding(V, C, dtype=dtype) for i in range(L) if i % 2 == (L - 1) % 2})
        shapes = {"q": (C, C), "k": (C, C), "v": (C, C), "o": (C, C), "up": (4 * C, C), "down": (C, 4 * C), "gate": (config.n_head, 12)}
        self.blocks = nn.ModuleList(nn.ParameterDict({n: nn.Parameter(torch.randn(s) / math.sqrt(C)) for n, s in shapes.items()}) for _ in range(L))
        self.resid, self.x0 = nn.Parameter(torch.ones(L)), nn.Parameter(torch.full((L,), 0.1))
        self.smear, self.smear_lambda, self.backout = (
            nn.Parameter(torch.zeros(1, 24)),
            nn.Parameter(torch.zeros(1)),
            nn.Parameter(torch.full((1,), 0.2)),
        )
        half = C // config.n_head // 2
        angles = torch.arange(config.sequence_len)[:, None] * 100_000 ** (-torch.arange(half) / half)
        self.register_buffer("cos", angles.cos()[None, :, None].to(dtype))
        self.register_buffer("sin", angles.sin()[None, :, None].to(dtype))

    def forward(self, idx: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
        def norm(x):
            return F.rms_norm(x, (x.size(-1),))

        def linear(x, w):
            return F.linear(x, w.to(self.dtype))

        def rotated(x):
            a, b = x.chunk(2, dim=-1)
            return norm(torch.cat((a * self.cos + b * self.sin, b * self.cos - a * self.sin), dim=-1)) * 1.2

        B, T = idx.shape
        heads = (B, T, self.config.n_head, -1)
        x = norm(self.wte(idx))
        gate = self.smear_lambda.to(self.dtype) * torch.sigmoid(linear(x[:, 1:, :24], self.smear))
        x = x0 = torch.cat((x[:, :1], x[:, 1:] + gate * x[:, :-1]), dim=1)
        for i, w in enumerate(self.blocks):
            x = self.resid[i] * x + self.x0[i] * x0
            n = norm(x)
            q, k, v = rotated(linear(n, w["q"]).view(heads)), rotated(linear(n, w["k"]).view(heads)), linear(n, w["v"]).view(heads)
            if str(i) in self.ve:
                v = v + (3 * torch.sigmoid(linear(n[..., :12], w["gate"])))[..., None] * self.ve[str(i)](idx).view(heads)
            y = F.scaled_dot_product_attention(q.transpose(1, 2), k.transpose(1, 2), v.transpose(1, 2), is_causal=True)
            x = x + linear(y.transpose(1, 2).reshape(B, T, -1), w["o"])
            x = x + linear(F.relu(linear(norm(x), w["up"])).square(), w["down"])
            if i == self.config.n_layer // 2:
                kept = x
        logits = linear(norm(x - self.backout.to(self.dtype) * kept), self.head).float()
        return F.cross_entropy((15 * torch.tanh(logits / 15)).view(-1, logits.size(-1)), targets.view(-1))

    def param_groups(self) -> list[dict]:
        def adamw(params):
            return {"kind": "adamw", "params": list(params), "lr": 0.001, "betas": (0.8, 0.95), "eps": 1e-10, "weight_decay": 0.0}

        matrices = list(self.blocks.parameters())
        ids = {id(p) for p in matrices}
        groups = [adamw(p for p in self.parameters() if id(p) not in ids)]
        for shape in sorted({p.shape for p in matrices}):
            alike = [p for p in matrices if p.shape == shape]
            groups.append({"kind": "muon", "params": alike, "lr": 0.02, "momentum": 0.95, "ns_steps": 5, "beta2": 0.9, "weight_decay": 0.0})
        return groups


# --- variants, each in its own process -------------------------------------------------------------------------------


def steady_step(model: nn.Module, config: GPTConfig, rows: int, steps: int, parts: dict | None = None) -> dict:
    """Seconds of a whole optimizer step: forward, backward, the look at the gradients, the update."""
    optimizer = MuonAdamW(model.param_groups())
    parameters = list(model.parameters())
    x, y = torch.randint(0, config.vocab_size, (2, rows, config.sequence_len))
    started, seconds, updates = time.perf_counter(), [], []
    for step in range(steps + 2):
        begin = time.perf_counter()
        model(x, y).backward()
        assert gradients_finite(parameters, torch.device("cpu"))
        middle = time.perf_counter()
        optimizer.step()
        model.zero_grad(set_to_none=True)
        if step == 0:
            first = time.perf_counter() - started
        if step >= 2:
            seconds.append(time.perf_counter() - begin)
            updates.append(time.perf_counter() - middle)
    return {"step": statistics.median(seconds), "fastest": min(seconds), "optimizer": statistics.median(updates), "first": first,
            "memory": peak_memory(torch.device("cpu")), "peak": square_peak(), "tokens": rows * config.sequence_len}  # fmt: skip


def square_peak() -> float:
    """FLOP/s of the best square bf16 product: the yardstick."""
    best = 0.0
    for n in SQUARES:
        a = torch.randn(n, n).bfloat16()
        out = a @ a
        for _ in range(6):
            begin = time.perf_counter()
            torch.mm(a, a, out=out)
            best = max(best, 2 * n**3 / (time.perf_counter() - begin))
    return best


def build_ours(size: str) -> tuple[GPT, GPTConfig, int]:
    config, rows = GPTConfig(**SIZES[size]), ROWS
    compute_init("cpu")
    return new_model(config, "cpu"), config, rows


def run_ours(size: str, steps: int) -> dict:
    model, config, rows = build_ours(size)
    model.compile_blocks()
    return {**steady_step(model, config, rows, steps), "flops": model.estimate_flops()}


def run_reference(size: str, dtype: torch.dtype, steps: int) -> dict:
    config, rows = GPTConfig(**SIZES[size]), ROWS
    torch.manual_seed(42)
    model = Reference(config, dtype)
    model.compile(dynamic=False)
    return steady_step(model, config, rows, steps)


def run_parts(size: str, steps: int) -> dict:
    """Seconds per step of each part by itself, forward and backward. What is left of a step is norms, residuals, embeddings and Python."""
    model, config, rows = build_ours(size)
    N, C, D = rows * config.sequence_len, config.n_embd, config.n_embd // config.n_head
    dtype = model.compute_dtype

    def leaf(*shape: int) -> torch.Tensor:
        return torch.randn(*shape).to(dtype).requires_grad_()

    q, k, v = (leaf(rows, config.sequence_len, config.n_head, D) for _ in range(3))
    q, k = (F.rms_norm(t.detach(), (D,)).requires_grad_() for t in (q, k))
    x, targets = leaf(N, C), torch.randint(0, config.vocab_size, (N,))
    model.compile_blocks()
    torch._functorch.config.activation_memory_budget = 1  # by itself an MLP has nothing else to compute again
    mlp = torch.compile(model.transformer.h[0].mlp, dynamic=False)
    w = [leaf(C, C) for _ in range(4)]
    dy = torch.randn(N, C).to(dtype)
    return {
        "attention": config.n_layer * median_time(lambda: attention(q, k, v, config.sequence_len, model.kernel).backward(torch.ones_like(q)), steps),
        "projections": config.n_layer * median_time(lambda: [F.linear(x, m).backward(dy) for m in w], steps),
        "MLP": config.n_layer * median_time(lambda: mlp(x).backward(dy), steps),
        "head and loss": median_time(lambda: head_loss(x, model.lm_head.weight, targets, config.vocab_size).backward(), steps),
        "optimizer": steady_step(model, config, rows, 3)["optimizer"],
    }


def median_time(work: Callable, steps: int) -> float:
    work(), work()
    seconds = []
    for _ in range(steps):
        begin = time.perf_counter()
        work()
        seconds.append(time.perf_counter() - begin)
    return statistics.median(seconds)


def run_data(steps: int) -> dict:
    """Seconds to get a batch of d4 that has been prepared while the model was at work, and one that has not."""
    config, rows = GPTConfig(**SIZES["d4"]), ROWS
    compute = Compute(False, 0, 0, 1, torch.device("cpu"))
    result = {}
    for name, prefetch in (("data", True), ("data without prefetching", False)):
        batches = pretrain_batches(get_tokenizer("tinyworld"), "tinyworld", rows, config.sequence_len, "train", compute, prefetch=prefetch)
        next(batches)
        seconds = []
        for _ in range(steps):
            time.sleep(0.1 if prefetch else 0)
            begin = time.perf_counter()
            next(batches)
            seconds.append(time.perf_counter() - begin)
        batches.close()
        result[name] = statistics.median(seconds)
    return result


VARIANTS = {
    "d6": lambda steps: run_ours("d6", steps),
    "d4": lambda steps: run_ours("d4", 3 * steps),
    "reference-float32": lambda steps: run_reference("d6", torch.float32, 2),
    "reference-bfloat16": lambda steps: run_reference("d6", torch.bfloat16, max(3, steps // 2)),
    "parts-d6": lambda steps: run_parts("d6", steps),
    "parts-d4": lambda steps: run_parts("d4", steps),
    "data": lambda steps: run_data(3 * steps),
}


# --- the benchmark ---------------------------------------------------------------------------------------------------


def measured(variant: str, steps: int, environment: dict[str, str]) -> dict:
    command = [sys.executable, "-m", "dev.bench_train", "--variant", variant, "--steps", str(steps)]
    result = subprocess.run(command, env={**os.environ, **HUGE_PAGES, **environment}, capture_output=True, text=True)
    if result.returncode:
        sys.exit(f"{variant} failed:\n{result.stderr}")
    return json.loads(result.stdout.splitlines()[-1])


def first_step(base: Path, tag: str) -> float:
    """From the start of the recipe's command to its first step done, by its own account."""
    command = [sys.executable, "-m", "scripts.base_train", "--dataset", "tinyworld", "--model-tag", tag, *RECIPE, "--compile", "on",
               "--num-iterations", "2", "--eval-every", "-1", "--sample-every", "-1"]  # fmt: skip
    subprocess.run(command, check=True, capture_output=True)
    return json.loads((base / "base_checkpoints" / tag / "summary.json").read_text())["first_step_seconds"]


def make_corpus() -> None:
    for command in (
        ["nanochat.dataset", "--source", "tinyworld", "--megabytes", "4"],
        ["scripts.tok_train", "--dataset", "tinyworld", "--vocab-size", "4096"],
    ):
        subprocess.run([sys.executable, "-m", *command], check=True, capture_output=True)


def main(args: argparse.Namespace) -> None:
    if args.variant:
        print(json.dumps(VARIANTS[args.variant](args.steps)))
        return
    skip, bars, report = set(args.skip.split(",")), {}, {}

    def bar(name: str, value: float, target: float, more: bool = True) -> None:
        bars[name] = {"value": value, "target": target, "holds": value >= target if more else value <= target}

    with tempfile.TemporaryDirectory() as folder:
        os.environ["NANOCHAT_BASE_DIR"] = folder
        cache = {"TORCHINDUCTOR_CACHE_DIR": f"{folder}/compile_cache"}
        for size, target in (("d6", 0.45), ("d4", 0.42)):
            ours = report[size] = measured(size, args.steps, cache)
            mfu = ours["tokens"] * ours["flops"] / ours["step"] / ours["peak"]
            print(f"{size}: {ours['step'] * 1e3:6.0f} ms a step, {ours['tokens'] / ours['step']:8,.0f} tokens/s, {mfu:.1%} of the "
                  f"{ours['peak'] / 1e12:.2f} TFLOP/s peak, {ours['memory'] / 2**30:.2f} GiB", flush=True)  # fmt: skip
            bar(f"{size}_share_of_peak", mfu, target)
        bar("d6_peak_memory_gib", report["d6"]["memory"] / 2**30, 3.0, more=False)
        if "reference" not in skip:
            for dtype, target in (("float32", 3.3), ("bfloat16", 1.3)):
                plain = report[f"reference-{dtype}"] = measured(f"reference-{dtype}", args.steps, cache)
                ratio = plain["step"] / report["d6"]["step"]
                print(
                    f"plain reference in {dtype}: {plain['step'] * 1e3:6.0f} ms a step ({ratio:.2f} times), {plain['memory'] / 2**30:.2f} GiB",
                    flush=True,
                )
                bar(f"d6_times_faster_than_plain_{dtype}", ratio, target)
        if "parts" not in skip:
            make_corpus()
            data = report["data"] = measured("data", args.steps, cache)
            for size in SIZES:
                parts = report[f"parts-{size}"] = measured(f"parts-{size}", args.steps, cache)
                whole = report[size]["step"]
                parts = {**parts, **(data if size == "d4" else {}), "everything else": whole - sum(parts.values())}
                print(f"{size}, ms of {whole * 1e3:.0f}: " + ", ".join(f"{name} {seconds * 1e3:.1f}" for name, seconds in parts.items()), flush=True)
        if "recipe" not in skip:
            if not (Path(folder) / "base_data_tinyworld").exists():
                make_corpus()
            os.environ["TORCHINDUCTOR_CACHE_DIR"] = f"{folder}/recipe_cache"
            cold, warm = first_step(Path(folder), "cold"), first_step(Path(folder), "warm")
            print(f"start to first step of the recipe: {cold:.1f} s compiling everything, {warm:.1f} s with the compile cache", flush=True)
            bar("recipe_seconds_to_first_step", cold, 60, more=False)
    print(json.dumps({"bars": bars, **report}))


if __name__ == "__main__":
    main(parse_args())
