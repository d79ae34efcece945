"""What a CUDA GPU does with all this: speed of every attention path and of float8, memory, and whether it computes what a CPU computes.

    python -m dev.bench_gpu                         # one GPU; under nine minutes on an H100
    python -m dev.bench_gpu --only flex,recipe      # some of it
    python -m dev.bench_gpu --rehearse              # toy sizes on the CPU: does the benchmark itself work? Its figures mean nothing

Needs no network; writes to a temporary folder only (TMPDIR; 10 GB). Every variant runs in a process of its own: what fails is a row that says how,
and the rest goes on. First the checks, all at once, since nobody looks at a clock; then what is timed, one by one. Tables for dev/LOG.md are printed;
the last line is JSON, in which `bars` holds each figure that is promised. A bar whose value is null was not measured.
"""

import argparse
import itertools
import json
import os
import signal
import statistics
import subprocess
import sys
import tempfile
import time
import traceback
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import NamedTuple

import torch

from nanochat import dataset, head_loss
from nanochat.common import ArgumentParser, Compute, UserError, compute_init, friendly_errors
from nanochat.dataloader import pretrain_batches
from nanochat.engine import Engine, Request
from nanochat.fitting import MEMORY_SHARE, largest_rows
from nanochat.flash_attention import attention, best_kernel
from nanochat.fp8 import RECIPES, check_fp8, check_fp8_tokens, convert_to_fp8
from nanochat.gpt import GPT, GPTConfig, new_model
from nanochat.hardware import free_memory, peak_flops, peak_memory
from nanochat.optim import MuonAdamW, gradients_finite
from nanochat.scaling import Plan, make_plan
from nanochat.schedule import lr_multiplier
from nanochat.tokenizer import SPLIT_PATTERN, Tokenizer, get_tokenizer, tokenizer_dir

ROOT = Path(__file__).parent.parent
KERNELS = ("fa3", "flex", "sdpa")
PATTERN = "SSSL"
WARMUP_STEPS = 10
GIB = 2**30

# A bfloat16 has 8 bits, so a rounding is off by at most 2^-9 of the number. Before a gradient of a small model there are about a hundred; being
# independent they add up like the root of their number: 2^-9 · √100 / √3 = 1.1 % of the gradient's norm. A CPU in bfloat16 is off from itself in
# float32 by 0.8 to 2.0 %. The bound is half as much again as the worst of these: formulas that differ are off by far more.
GRADIENT_BOUND = 2**-5
# In the mean over 2,048 tokens errors cancel: a logit of 8 is off by up to 2^-6, 2^-6 / √2048 / 8.8, the loss, is 4e-5. A CPU is off by 1e-5.
LOSS_BOUND = 2**-12
HEAD_BOUND = 2**-8  # both ways round the same numbers, but the chunks' shares of the gradient to the weights once more before they are added
MUON_BOUND = 2**-5  # five iterations in bfloat16, which compiled are rounded elsewhere: 0.9 % on a CPU; bfloat16 and float32 are 1.6 % apart there
RESUME_BOUND = 2**-7  # GPUs add up gradients of embeddings in any order, so steps are not the same to the bit, and ten of them amplify that
FP8_BOUND = 0.03  # of the loss after all steps, against bfloat16's: what float8 may cost in quality


class Size(NamedTuple):
    """What is trained and compared. As it stands: d12 with small batches, so that steps are short, and d4 for the checks."""

    depth: int = 12
    head_dim: int = 128
    T: int = 2048
    rows: int = 16
    batch: int = 2**16  # tokens of a step
    auto_batch: int = 2**19  # what the plan gives d12
    vocab: int = 32768
    steps: int = 50
    uncounted: int = 10  # steps at the beginning, in which things are compiled
    recipe_steps: int = 20
    megabytes: float = 24
    text_vocab: int = 4096  # of the tokenizer: the embedded corpus has no more than 7,000 tokens in it
    small_depth: int = 4
    small_T: int = 1024


def size_of(rehearse: bool) -> Size:
    if not rehearse:
        return Size()
    return Size(depth=2, head_dim=16, T=256, rows=2, batch=1024, auto_batch=2048, vocab=1024, steps=6, uncounted=2, recipe_steps=4, megabytes=1,
                text_vocab=1024, small_depth=2, small_T=256)  # fmt: skip


def parse_args() -> argparse.Namespace:
    parser = ArgumentParser(description="Benchmark of training on a CUDA GPU")
    choices = [name for name in (*VARIANTS, "recipe") if name not in ALWAYS]
    parser.add_argument("--only", default="", help=f"comma-separated, of: {', '.join(choices)}; empty: all")
    parser.add_argument("--minutes", type=float, default=8.9, help="after these, what has not been measured is left out")
    parser.add_argument("--rehearse", action="store_true", help="toy sizes on this machine's CPU, to try the benchmark itself")
    parser.add_argument("--variant", default=None, help=argparse.SUPPRESS)  # how the benchmark calls itself
    args = parser.parse_args()
    if unknown := set(filter(None, args.only.split(","))) - set(choices):
        parser.error(f"--only {args.only}: there is no {', '.join(sorted(unknown))}")
    return args


# --- training, as scripts.base_train does it -------------------------------------------------------------------------


def plan_of(size: Size, batch: int) -> Plan:
    return make_plan(size.depth, size.vocab, head_dim=size.head_dim, sequence_len=size.T, window_pattern=PATTERN, num_iterations=size.steps,
                     total_batch_size=batch)  # fmt: skip


def config_of(plan: Plan) -> GPTConfig:
    return GPTConfig(plan.sequence_len, plan.vocab_size, plan.depth, plan.n_head, plan.n_kv_head, plan.n_embd, plan.window_pattern)


def seeded_model(config: GPTConfig, device: torch.device) -> GPT:
    torch.manual_seed(42)
    return new_model(config, device)


def compile_model(model: GPT, device: torch.device) -> None:
    if device.type == "cuda":  # a rehearsal is not worth a minute of compiling
        model.compile(dynamic=False)


def build_optimizer(model: GPT, plan: Plan, device: torch.device) -> MuonAdamW:
    rates = {"unembedding_lr": 0.008, "embedding_lr": 0.3, "matrix_lr": 0.02, "scalar_lr": 0.5}
    groups = model.param_groups(**{name: rate * plan.batch_scale for name, rate in rates.items()}, weight_decay=plan.weight_decay)
    return MuonAdamW(groups, compile=device.type == "cuda")


def train(model: GPT, plan: Plan, rows: int, batches: Iterator, steps: int, uncounted: int) -> dict:
    """Speed once it is steady, and what the loss came to."""
    device, losses, seconds = model.get_device(), [], []
    optimizer, parameters = build_optimizer(model, plan, device), list(model.parameters())
    peak = peak_flops(device, model.compute_dtype)
    forget_peak(device)
    for step in range(steps):
        begin = time.perf_counter()
        for group in optimizer.param_groups:
            group["lr"] = group["initial_lr"] * lr_multiplier(step, steps, WARMUP_STEPS, 0.0)
        losses.append(one_step(model, optimizer, parameters, batches, plan.total_batch_size // (rows * plan.sequence_len)))
        synchronize(device)
        seconds.append(time.perf_counter() - begin)
    rate = plan.total_batch_size / statistics.median(seconds[uncounted:])
    return {"tokens_per_second": rate, "mfu": rate * plan.flops_per_token / peak, "peak_memory": peak_memory(device), "first_step": seconds[0],
            "loss": statistics.mean(losses[-5:]), "rows": rows, "kernel": model.kernel, "graph_breaks": graph_breaks()}  # fmt: skip


def one_step(model: GPT, optimizer: MuonAdamW, parameters: list, batches: Iterator, micro_batches: int) -> float:
    loss = torch.zeros((), device=model.get_device())
    for x, y in itertools.islice(batches, micro_batches):
        micro_loss = model(x, y) / micro_batches
        micro_loss.backward()
        loss += micro_loss.detach()
    if not gradients_finite(parameters, model.get_device()):
        raise ArithmeticError(f"a gradient is not finite; the loss is {loss.item()}")
    optimizer.step()
    model.zero_grad(set_to_none=True)
    return loss.item()


def graph_breaks() -> int:
    """How often the compiler gave up and went back to Python. Each costs time, and what would be fused across it."""
    from torch._dynamo.utils import counters

    return sum(counters["graph_break"].values())


def synchronize(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize(device)


def forget_peak(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.empty_cache()
        torch.cuda.reset_peak_memory_stats(device)


def device_memory(device: torch.device) -> int:
    return torch.cuda.get_device_properties(device).total_memory if device.type == "cuda" else free_memory(device)


def require(kernel: str, device: torch.device) -> None:
    if kernel == "fa3" and best_kernel(device, torch.bfloat16) != "fa3":
        raise UserError("it needs a Hopper GPU and the package flash_attn_interface, or kernels with what it fetched before")


# --- what is timed ---------------------------------------------------------------------------------------------------


def text_batches(device: torch.device) -> Iterator:
    """The same for every variant, and on the device beforehand: what is measured here is not the loader."""
    tokens = torch.load(Path(os.environ["NANOCHAT_BASE_DIR"]) / "batches.pt", weights_only=True).to(device)  # (n, 2, rows, T)
    return ((x.long(), y.long()) for x, y in itertools.cycle(tokens))


def time_kernel(kernel: str, device: torch.device, size: Size) -> dict:
    require(kernel, device)
    plan = plan_of(size, size.batch)
    model = seeded_model(config_of(plan), device)
    model.kernel = kernel
    compile_model(model, device)
    return train(model, plan, size.rows, text_batches(device), size.steps, size.uncounted)


def time_fp8(recipe: str, device: torch.device, size: Size) -> dict:
    check_fp8(device, recipe, torch.bfloat16)
    check_fp8_tokens(size.rows * size.T)
    plan = plan_of(size, size.batch)
    model = seeded_model(config_of(plan), device)
    layers = convert_to_fp8(model, recipe)
    compile_model(model, device)
    return {**train(model, plan, size.rows, text_batches(device), size.steps, size.uncounted), "layers": layers}


def time_auto(device: torch.device, size: Size) -> dict:
    """--device-batch-size auto: what it finds, how long it looks, and what real steps with it take."""
    plan = plan_of(size, size.auto_batch)
    model = seeded_model(config_of(plan), device)
    compile_model(model, device)
    begin = time.perf_counter()
    rows = largest_rows(model, plan, Compute(False, 0, 0, 1, device))
    seconds = time.perf_counter() - begin
    x, y = torch.randint(plan.vocab_size, (2, rows, plan.sequence_len), device=device)
    result = train(model, plan, rows, itertools.repeat((x, y)), 4, 1)
    reserved = torch.cuda.max_memory_reserved(device) if device.type == "cuda" else result["peak_memory"]
    total = device_memory(device)
    return {**result, "search_seconds": seconds, "share": result["peak_memory"] / total, "share_reserved": reserved / total}


# --- what is checked -------------------------------------------------------------------------------------------------


def small_config(size: Size) -> GPTConfig:
    plan = make_plan(size.small_depth, size.text_vocab, head_dim=size.head_dim, sequence_len=size.small_T, window_pattern=PATTERN, num_iterations=1)
    return config_of(plan)


@torch.no_grad
def liven(model: GPT) -> None:
    """As if it had learned: in a new model half of the matrices are zero and would hide what is wrong with the others. Drawn on the CPU, the numbers
    are the same on every device."""
    generator = torch.Generator().manual_seed(1)
    for name, p in model.named_parameters():
        if name.endswith(("c_proj.weight", "lm_head.weight")):
            p.copy_(torch.randn(p.shape, generator=generator) / p.size(1) ** 0.5)
    model.smear_lambda.fill_(0.5)
    for table in (model.transformer.wte, *model.value_embeds.values()):
        table.weight.copy_(table.weight.bfloat16())  # GPUs store them so: both are to start from the same numbers


def build_as(dtype: str, config: GPTConfig, device: torch.device) -> GPT:
    os.environ["NANOCHAT_DTYPE"] = dtype
    return seeded_model(config, device)


def random_tokens(config: GPTConfig, rows: int, device: torch.device) -> tuple[torch.Tensor, torch.Tensor]:
    return torch.randint(config.vocab_size, (2, rows, config.sequence_len), generator=torch.Generator().manual_seed(2)).to(device).unbind()


def loss_and_gradients(model: GPT, x: torch.Tensor, y: torch.Tensor) -> tuple[float, dict[str, torch.Tensor]]:
    """Gradients of the matrices and tables. Those of the few scalars are sums of large numbers that cancel, which no rounding spares."""
    loss = model(x, y)
    loss.backward()
    gradients = {name: p.grad.float().cpu() for name, p in model.named_parameters() if p.dim() == 2 and "gate" not in name}
    model.zero_grad(set_to_none=True)
    return loss.item(), gradients


def difference(found: torch.Tensor, right: torch.Tensor) -> float:
    return ((found.double() - right.double()).norm() / right.double().norm()).item()


def worst_difference(found: dict[str, torch.Tensor], right: dict[str, torch.Tensor]) -> tuple[float, str]:
    return max((difference(found[name], right[name]), name) for name in right)


def check_kernel(kernel: str, device: torch.device, size: Size) -> dict:
    """A small model in bfloat16, compiled, against the same weights on the CPU in float32."""
    require(kernel, device)
    config, cpu = small_config(size), torch.device("cpu")
    reference = build_as("float32", config, cpu)
    reference.kernel = "sdpa"
    liven(reference)
    torch.set_float32_matmul_precision("highest")
    right_loss, right = loss_and_gradients(reference, *random_tokens(config, 2, cpu))
    torch.set_float32_matmul_precision("high")
    model = build_as("bfloat16", config, device)
    model.load_state_dict(reference.state_dict())
    model.kernel = kernel
    compile_model(model, device)
    loss, found = loss_and_gradients(model, *random_tokens(config, 2, device))
    worst, name = worst_difference(found, right)
    windows = all(window_is_exact(kernel, device, size.small_T, window, size.head_dim) for window in (0, 1, 127, size.small_T // 4, size.small_T))
    return {"loss": abs(loss / right_loss - 1), "gradients": worst, "worst": name, "windows_exact": windows}


def window_is_exact(kernel: str, device: torch.device, T: int, window: int, head_dim: int) -> bool:
    """Is exactly what should be visible seen? One key too many is lost among the roundings of a sum. So the output is the table of probabilities:
    value s is 1 in channel s of all heads' channels together, and 0 elsewhere. Such a gradient makes that to the values the table on its side."""
    heads = -(-T // head_dim)
    q, k = (torch.randn(1, T, 1, head_dim, device=device).bfloat16().expand(1, T, heads, head_dim).contiguous() for _ in range(2))
    unit = torch.eye(T, heads * head_dim, device=device).bfloat16().view(1, T, heads, head_dim)
    q, k, v = (x.requires_grad_() for x in (q, k, unit.clone()))
    run = torch.compile(attention, dynamic=False) if device.type == "cuda" else attention
    there = run(q, k, v, window, kernel)
    there.backward(unit)
    query, key = torch.arange(T, device=device)[:, None], torch.arange(T, device=device)[None, :]
    visible = (key <= query) & (key >= query - window)
    seen, seen_back = (x.reshape(T, -1)[:, :T] > 0 for x in (there, v.grad))
    return torch.equal(seen, visible) and torch.equal(seen_back, visible.T)


def check_head(device: torch.device, size: Size) -> dict:
    """The loss some rows at a time, against all logits in memory; both compiled, as in a model."""
    channels, rows = size.depth * 64, 5 * size.T * size.rows // 8 + 37  # no multiple of anything
    x = torch.randn(rows, channels, device=device).bfloat16().requires_grad_()
    weight = (2 * torch.randn(size.vocab, channels, device=device) / channels**0.5).requires_grad_()
    words = size.vocab - 3  # the rest is padding
    targets = torch.randint(words, (rows,), device=device)
    targets[::7] = -1
    results = {}
    for name, limit in (("plain", 2**62), ("chunked", 0)):
        head_loss.PLAIN_BYTES[device.type] = limit
        torch.compiler.reset()
        run = torch.compile(head_loss.head_loss, dynamic=False) if device.type == "cuda" else head_loss.head_loss
        run(x, weight, targets, words).backward()  # compiling takes memory, too
        x.grad = weight.grad = None
        forget_peak(device)
        loss = run(x, weight, targets, words)
        loss.backward()
        results[name] = loss.item(), x.grad.float(), weight.grad, peak_memory(device)
        x.grad = weight.grad = None
    plain, chunked = results["plain"], results["chunked"]
    gradients = max(difference(chunked[i], plain[i]) for i in (1, 2))
    return {"loss": abs(chunked[0] / plain[0] - 1), "gradients": gradients, "plain_memory": plain[3], "chunked_memory": chunked[3]}


def check_muon(device: torch.device, size: Size) -> dict:
    """Three steps of the compiled optimizer against three of the plain one, relative to how far the weights went."""
    ends = []
    for compiled in (False, True):
        model = seeded_model(small_config(size), device)
        before = {name: p.detach().float().clone() for name, p in model.named_parameters()}
        optimizer = MuonAdamW(model.param_groups(), compile=compiled and device.type == "cuda")
        generator = torch.Generator().manual_seed(3)
        for _ in range(3):
            for p in model.parameters():
                p.grad = (1e-3 * torch.randn(p.shape, generator=generator)).to(p)
            optimizer.step()
        ends.append({name: p.detach().float() - before[name] for name, p in model.named_parameters()})
    worst, name = worst_difference(ends[1], ends[0])
    return {"updates": worst, "worst": name}


def check_checkpointing(device: torch.device, size: Size) -> dict:
    config, results = small_config(size), []
    for on in (True, False):  # in this order, since a CPU knows only the peak since the beginning
        model = seeded_model(config, device)
        liven(model)
        model.activation_checkpointing = on
        compile_model(model, device)
        x, y = random_tokens(config, 2 * size.rows, device)
        loss_and_gradients(model, x, y)
        forget_peak(device)
        results.append((*loss_and_gradients(model, x, y), peak_memory(device)))
    (loss, found, memory), (right_loss, right, without) = results
    return {"loss": abs(loss / right_loss - 1), "gradients": worst_difference(found, right)[0], "memory": memory, "memory_without": without}


def check_decoding(device: torch.device, size: Size) -> dict:
    """The share of tokens that differ, greedily in float32, between the engine with CUDA graphs or without them and no engine at all. Rows come and
    go, and the cache grows while they are decoded."""
    model = build_as("float32", small_config(size), device).eval()
    liven(model)
    generator = torch.Generator().manual_seed(4)
    lengths = [5, 200, 31, 129, 90, 3, 60, 250]
    prompts = [torch.randint(model.config.vocab_size, (n,), generator=generator).tolist() for n in lengths]
    expected = [list(model.generate(prompt, 24, temperature=0)) for prompt in prompts]
    different = 0
    for graphs in (True, False):
        engine = Engine(model, get_tokenizer("tinyworld"), max_rows=3, context=size.small_T + 64)
        engine.graphs = engine.graphs if graphs else None
        made = engine.generate_many(prompts, max_tokens=24, temperature=0, stop_tokens=frozenset(), tools=False)
        different += sum(a != b for samples, right in zip(made, expected, strict=True) for a, b in zip(samples[0].tokens, right, strict=True))
    return {"tokens": different / (2 * 24 * len(prompts))}


def time_decoding(device: torch.device, size: Size) -> dict:
    """Tokens per second at several numbers of rows, with and without CUDA graphs."""
    model = seeded_model(config_of(plan_of(size, size.batch)), device).eval()
    liven(model)
    tokenizer, result = Tokenizer(SPLIT_PATTERN, {bytes([i]): i for i in range(256)}), {}
    for graphs in (True, False):
        for rows in (1, 32, 128):
            engine = Engine(model, tokenizer, max_rows=rows)
            engine.graphs = engine.graphs if graphs else None
            for count in (16, 96):  # the first time captures
                requests = [Request([row] * 32, 1, count, seed=row, stop_tokens=frozenset(), tools=False) for row in range(rows)]
                streams = [engine.submit(request) for request in requests]
                while len(engine.rows) < rows:
                    engine.step()
                synchronize(device)
                begin, before = time.perf_counter(), sum(len(s.samples[0].tokens) for s in streams)
                while engine.step():
                    pass
                seconds = time.perf_counter() - begin
            made = sum(len(s.samples[0].tokens) for s in streams) - before
            result[f"{rows} rows, {'graphs' if graphs else 'no graphs'}"] = made / seconds
    return {"tokens_per_second_by_rows": result}


def prepare(device: torch.device, size: Size) -> dict:
    """The embedded corpus, a tokenizer for it, and the batches of all variants."""
    dataset.generate(size.megabytes)
    texts = (text for batch in dataset.parquets_iter_batched("train", "tinyworld") for text in batch)
    Tokenizer.train_from_iterator(texts, size.text_vocab).save(tokenizer_dir("tinyworld"))
    compute = Compute(False, 0, 0, 1, torch.device("cpu"))
    batches = pretrain_batches(get_tokenizer("tinyworld"), "tinyworld", size.rows, size.T, "train", compute, prefetch=False)
    count = size.steps * size.batch // (size.rows * size.T)
    tokens = torch.stack([torch.stack((x, y)).int() for x, y, _ in itertools.islice(batches, count)])
    torch.save(tokens, Path(os.environ["NANOCHAT_BASE_DIR"]) / "batches.pt")
    return {}


def look_around(device: torch.device, size: Size) -> dict:
    cuda = device.type == "cuda"
    fa3 = cuda and best_kernel(device, torch.bfloat16) == "fa3"
    fp8 = cuda and torch.cuda.get_device_capability(device) >= (8, 9)
    return {"name": torch.cuda.get_device_name(device) if cuda else "CPU", "torch": torch.__version__, "memory": device_memory(device),
            "kernels": [kernel for kernel in KERNELS if kernel != "fa3" or fa3], "fp8_recipes": len(RECIPES) if fp8 else 0,
            "peak_flops": peak_flops(device, torch.bfloat16)}  # fmt: skip


CHECKS = {
    "prepare": prepare,
    "look": look_around,
    **{f"check-{kernel}": lambda device, size, kernel=kernel: check_kernel(kernel, device, size) for kernel in KERNELS},
    "check-head": check_head,
    "check-muon": check_muon,
    "check-checkpointing": check_checkpointing,
    "check-decoding": check_decoding,
}
TIMED = {
    **{kernel: lambda device, size, kernel=kernel: time_kernel(kernel, device, size) for kernel in KERNELS},
    "auto": time_auto,
    "decoding": time_decoding,
    **{f"fp8-{recipe}": lambda device, size, recipe=recipe: time_fp8(recipe, device, size) for recipe in RECIPES},
}
VARIANTS = {**CHECKS, **TIMED}
ALWAYS = ("prepare", "look")  # the others lean on these


def run_variant(name: str, rehearse: bool) -> dict:
    try:
        compute = compute_init("cpu" if rehearse else "cuda")
        return VARIANTS[name](compute.device, size_of(rehearse))
    except UserError as error:
        return {"error": str(error)}
    except Exception as error:  # whatever it was: it is what was measured
        traceback.print_exc()
        return {"error": f"{type(error).__name__}: {next(iter(str(error).strip().splitlines()), '')}"}


# --- processes -------------------------------------------------------------------------------------------------------


class Failed(Exception):
    """A process that gave no result, and what its last words were."""


class Bench(NamedTuple):
    folder: Path
    rehearse: bool
    deadline: float  # by time.monotonic()
    only: frozenset[str]  # empty: all

    def wants(self, name: str) -> bool:
        return not self.only or name in self.only or name in ALWAYS

    def run(self, module: str, *flags: str) -> str:
        """What it wrote. With it end all processes that it started."""
        left = self.deadline - time.monotonic()
        if left < 5:
            raise Failed("not measured: no time was left (--minutes)")
        environment = {**os.environ, "NANOCHAT_BASE_DIR": str(self.folder), "TORCHINDUCTOR_CACHE_DIR": str(self.folder / "compile_cache")}
        environment.pop("NANOCHAT_DTYPE", None)
        process = subprocess.Popen([sys.executable, "-m", module, *flags], cwd=ROOT, env=environment, text=True, start_new_session=True,
                                   stdout=subprocess.PIPE, stderr=subprocess.PIPE)  # fmt: skip
        try:
            out, err = process.communicate(timeout=left)
        except subprocess.TimeoutExpired:
            raise Failed(f"no result after {left:.0f} s, when the time was up (--minutes)") from None
        finally:
            if process.poll() is None:
                os.killpg(process.pid, signal.SIGKILL)
                process.communicate()
        if process.returncode:
            print(err[-4000:], file=sys.stderr)
            raise Failed(f"exit code {process.returncode}: {next(iter(reversed(err.strip().splitlines())), '')}")
        if "Traceback" in err:
            print(err[-4000:], file=sys.stderr)
        return out

    def variant(self, name: str) -> dict:
        begin = time.monotonic()
        try:
            out = self.run("dev.bench_gpu", "--variant", name, *(["--rehearse"] if self.rehearse else []))
            result = json.loads(out.splitlines()[-1])
        except Failed as error:
            result = {"error": str(error)}
        print(f"{name}: {result.get('error', 'done')} ({time.monotonic() - begin:.0f} s)", file=sys.stderr, flush=True)
        return result


def measure_recipe(bench: Bench) -> dict:
    """scripts.base_train as a user starts it; then once more without its last checkpoint, going on from the one before."""
    size, begin = size_of(bench.rehearse), time.monotonic()
    steps, directory = size.recipe_steps, bench.folder / "base_checkpoints" / "bench"
    flags = ["--dataset", "tinyworld", "--model-tag", "bench", "--depth", size.depth, "--head-dim", size.head_dim, "--max-seq-len", size.T,
             "--device-batch-size", size.rows, "--total-batch-size", size.batch, "--num-iterations", steps, "--save-every", steps // 2,
             "--eval-every", steps, "--eval-tokens", 4 * size.rows * size.T, "--core-metric-every", -1, "--sample-every", -1]  # fmt: skip
    flags += ["--device-type", "cpu", "--compile", "off"] if bench.rehearse else ["--device-type", "cuda"]
    try:
        bench.run("scripts.base_train", *map(str, flags))
        seconds = time.monotonic() - begin
        print(f"recipe: done ({seconds:.0f} s), now the same resumed", file=sys.stderr, flush=True)
        summary, whole = json.loads((directory / "summary.json").read_text()), logged_steps(directory)
        for path in sorted(directory.glob(f"*_{steps:06d}*")):
            path.unlink()
        out = bench.run("scripts.base_train", *map(str, flags), "--resume", "auto")
        resumed = logged_steps(directory)
    except Failed as error:
        print(f"recipe: {error}", file=sys.stderr, flush=True)
        return {"error": str(error)}
    later = [abs(resumed[step]["loss"] / whole[step]["loss"] - 1) for step in range(steps // 2 + 1, steps + 1)]
    mfu = statistics.median(record["mfu"] for step, record in whole.items() if step > 1)
    return {**summary, "mfu": mfu, "command_seconds": seconds, "rows": size.rows, "went_on": f"from step {steps // 2}" in out,
            "resumed_difference": max(later)}  # fmt: skip


def logged_steps(directory: Path) -> dict[int, dict]:
    records = [json.loads(line) for line in (directory / "metrics.jsonl").read_text().splitlines()]
    return {record["step"]: record for record in records if "loss" in record}


def measure_all(bench: Bench) -> dict[str, dict]:
    workers = 1 if bench.rehearse else len(CHECKS)
    with ThreadPoolExecutor(workers) as pool:
        names = [name for name in CHECKS if bench.wants(name)]
        report = dict(zip(names, pool.map(bench.variant, names), strict=True))
    for name in ALWAYS:
        if "error" in report[name]:
            raise UserError(f"nothing can be measured without {name!r}, and that failed: {report[name]['error']}")
    for name in (*KERNELS, "recipe", "auto", *TIMED):  # if time runs out, it is float8 that is left out
        if bench.wants(name) and name not in report:
            report[name] = measure_recipe(bench) if name == "recipe" else bench.variant(name)
    return report


# --- what is shown ---------------------------------------------------------------------------------------------------


def table(*rows: tuple[str, ...]) -> str:
    head, *rest = rows
    return "\n".join("| " + " | ".join(row) + " |" for row in (head, ("---",) * len(head), *rest))


def failure(result: dict) -> str:
    return f"failed: {result['error'][:300]}".replace("|", "/")


def speed_row(title: str, result: dict, note: Callable[[dict], str]) -> tuple[str, ...]:
    if "error" in result:
        return title, "", "", "", "", "", "", failure(result)
    first = result.get("first_step", result.get("first_step_seconds"))
    loss, breaks = result.get("loss", result.get("train_loss")), result.get("graph_breaks", "")
    return (title, f"{result['tokens_per_second']:,.0f}", f"{result['mfu']:.1%}", f"{result['peak_memory'] / GIB:.1f}", f"{first:.0f}", str(breaks),
            f"{loss:.3f}", note(result))  # fmt: skip


def speed_table(report: dict, size: Size) -> str:
    titles = {kernel: f"bf16, {kernel}" for kernel in KERNELS} | {f"fp8-{recipe}": f"fp8 {recipe}" for recipe in RECIPES}
    titles |= {"auto": "device batch auto, random tokens", "recipe": f"scripts.base_train, {size.recipe_steps} steps"}
    notes = {name: lambda r: f"{r['layers']} layers, attention {r['kernel']}" for name in titles if name.startswith("fp8")}
    notes["auto"] = lambda r: (
        f"{r['rows']} rows, found in {r['search_seconds']:.0f} s; {r['share']:.0%} of the device's memory, {r['share_reserved']:.0%} reserved"
    )
    notes["recipe"] = lambda r: f"{r['command_seconds']:.0f} s in all; val bpb {r['val_bpb']:.3f}, {'resumed' if r['went_on'] else 'NOT resumed'}"
    head = f"d{size.depth}, {size.rows} rows of {size.T:,}", "tokens/s", "MFU", "GiB", "first step, s", "graph breaks", "loss", ""
    return table(head, *(speed_row(title, report[name], notes.get(name, lambda r: "")) for name, title in titles.items() if name in report))


def figures(report: dict) -> Iterator[tuple[str, str, str, float, str]]:
    """(variant, what, key, bound, note) of all that has a bound."""
    for kernel in KERNELS:
        yield f"check-{kernel}", f"{kernel} against the CPU in float32: loss", "loss", LOSS_BOUND, ""
        yield f"check-{kernel}", f"{kernel} against the CPU in float32: gradients", "gradients", GRADIENT_BOUND, "worst"
    yield "check-head", "chunked loss against plain: loss", "loss", LOSS_BOUND, ""
    yield "check-head", "chunked loss against plain: gradients", "gradients", HEAD_BOUND, ""
    yield "check-muon", "Muon compiled against plain: three updates", "updates", MUON_BOUND, "worst"
    yield "check-checkpointing", "activation checkpointing against none: loss", "loss", LOSS_BOUND, ""
    yield "check-checkpointing", "activation checkpointing against none: gradients", "gradients", GRADIENT_BOUND, ""
    yield "check-decoding", "decoding against full forward passes: share of tokens that differ", "tokens", 0.0, ""
    yield "recipe", "base_train resumed against not stopped: a step's loss", "resumed_difference", RESUME_BOUND, ""


def check_table(report: dict) -> str:
    rows = [("relative difference", "value", "bound", "holds", "")]
    for name, what, key, bound, note in figures(report):
        result = report.get(name, {})
        if "error" in result:
            rows.append((what, "", f"{bound:.1e}", "no", failure(result)))
        elif result:
            rows.append((what, f"{result[key]:.1e}", f"{bound:.1e}", "yes" if result[key] <= bound else "no", result.get(note, "")))
    return table(*rows)


def remarks(report: dict) -> str:
    lines = []
    for kernel in KERNELS:
        if "windows_exact" in (result := report.get(f"check-{kernel}", {})):
            lines.append(f"- {kernel}: windows see {'exactly what they should' if result['windows_exact'] else 'TOO MUCH OR TOO LITTLE'}")
    for name, what, less, more in (
        ("check-head", "chunked loss", "chunked_memory", "plain_memory"),
        ("check-checkpointing", "checkpointing", "memory", "memory_without"),
    ):
        if less in (result := report.get(name, {})):
            lines.append(f"- {what}: {result[less] / GIB:.2f} GiB at the peak instead of {result[more] / GIB:.2f}")
    for what, rate in report.get("decoding", {}).get("tokens_per_second_by_rows", {}).items():
        lines.append(f"- decoding, {what}: {rate:,.0f} tokens/s")
    return "\n".join(lines)


def bars_of(report: dict) -> dict[str, dict]:
    """In units of their bounds, where several figures are judged together."""

    def units(*names: str) -> float | None:
        """The worst of these variants' figures over its bound; None if one has none."""
        values = [report[name][key] / bound if key in report.get(name, {}) else None for name, _, key, bound, _ in figures(report) if name in names]
        return None if None in values else max(values)

    def bar(value: float | None, target: float, more: bool = False) -> dict:
        return {"value": value, "target": target, "holds": value is not None and (value >= target if more else value <= target)}

    there, plain = report["look"]["kernels"], [report[k]["loss"] for k in KERNELS if "loss" in report.get(k, {})]
    run = [k for k in there if "loss" in report.get(k, {}) and report.get(f"check-{k}", {}).get("windows_exact")]
    fp8 = [report[f"fp8-{r}"]["loss"] for r in RECIPES if "loss" in report.get(f"fp8-{r}", {})]
    good = sum(abs(loss / plain[0] - 1) <= FP8_BOUND for loss in fp8) if plain else None
    return {
        "gpu_loss_equals_cpu": bar(units(*(f"check-{kernel}" for kernel in there)), 1),
        "chunked_equals_plain": bar(units("check-head"), 1),
        "fp8_runs": bar(good, report["look"]["fp8_recipes"], more=True),
        "auto_batch_fits": bar(report.get("auto", {}).get("share"), MEMORY_SHARE),
        "every_attention_path_runs": bar(len(run), len(there), more=True),
        "graph_breaks": bar(max((report[k]["graph_breaks"] for k in run), default=None), 0),  # the model is to be one graph
        "compiled_muon_equals_plain": bar(units("check-muon"), 1),
        "decoding_equals_full_passes": bar(report.get("check-decoding", {}).get("tokens"), 0),
        "checkpointing_equals_none": bar(units("check-checkpointing"), 1),
        "base_train_resumes": bar(units("recipe") if report.get("recipe", {}).get("went_on") else None, 1),
    }


def show(report: dict, size: Size, seconds: float) -> None:
    look, command = report["look"], " ".join(["python -m dev.bench_gpu", *sys.argv[1:]])
    machine = f"{look['name']} ({look['memory'] / GIB:.0f} GiB, peak {look['peak_flops'] / 1e12:.0f} TFLOP/s), torch {look['torch']}"
    print(f"{time.strftime('%Y-%m-%d')}, `{command}`, {machine}, {seconds / 60:.1f} minutes\n")
    parts = speed_table(report, size), check_table(report), remarks(report)
    print(*filter(None, parts), sep="\n\n", end="\n\n")
    print(json.dumps({"bench": "gpu", **report, "bars": bars_of(report)}), flush=True)


def main(args: argparse.Namespace) -> None:
    if args.variant:
        print(json.dumps(run_variant(args.variant, args.rehearse)))
        return
    if not args.rehearse and not torch.cuda.is_available():
        raise UserError("this measures a CUDA GPU, and torch sees none here: run it where there is one, or try it on this CPU with --rehearse")
    begin = time.monotonic()
    with tempfile.TemporaryDirectory() as folder:
        only = frozenset(filter(None, args.only.split(",")))
        report = measure_all(Bench(Path(folder), args.rehearse, begin + 60 * args.minutes, only))
    show(report, size_of(args.rehearse), time.monotonic() - begin)


if __name__ == "__main__":
    with friendly_errors():
        main(parse_args())
