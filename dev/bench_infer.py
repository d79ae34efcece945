"""What decoding costs, beside plain ways of doing it, measured in one run: `python -m dev.bench_infer`. The last line is JSON.

Depth 6, head size 64, vocabulary 32,768, prompts of 128 tokens, random weights. The plain reference keeps float32 weights and casts them in every
step, attends by torch's own kernel and draws by softmax and multinomial; fixed batches of 8 wait for their longest row.
"""

import argparse
import json
import random
import statistics
import time
from collections.abc import Callable

import torch

from nanochat import cpu_kernels
from nanochat.common import ArgumentParser, compute_init
from nanochat.engine import Engine, Request
from nanochat.gpt import GPT, GPTConfig, new_model
from nanochat.hardware import measure_copy_rate
from nanochat.kv_cache import KVCache
from nanochat.tokenizer import SPLIT_PATTERN, Tokenizer

CONFIG = GPTConfig(512, 32768, 6, 6, 6, 384, "L")
PROMPT = 128
PLAIN = {"stop_tokens": frozenset(), "tools": False}


def parse_args() -> argparse.Namespace:
    parser = ArgumentParser(description="Benchmark decoding")
    parser.add_argument("--new-tokens", type=int, default=128, help="tokens of each answer")
    parser.add_argument("--rounds", type=int, default=3, help="how often everything is measured; the best round counts, machines being noisy")
    return parser.parse_args()


def random_weights() -> tuple[GPT, Tokenizer]:
    compute_init("cpu")
    model = new_model(CONFIG, "cpu").eval()
    with torch.no_grad():
        for p in model.parameters():  # a fresh model's blocks do nothing
            p.add_(torch.randn_like(p) * 0.02)
    return model, Tokenizer(SPLIT_PATTERN, {bytes([i]): i for i in range(256)})


def prompt(seed: int) -> list[int]:
    return [random.Random(seed).randrange(CONFIG.vocab_size) for _ in range(PROMPT)]


def decoding(engine: Engine, rows: int, new_tokens: int, temperature: float) -> float:
    """Seconds of a step that decodes so many rows."""
    for row in range(rows):
        engine.submit(Request(prompt(row), 1, new_tokens, temperature, seed=row, **PLAIN))
    steps = []
    while engine.busy:
        full, begin = len(engine.rows) == rows, time.perf_counter()
        engine.step()
        if full:
            steps.append(time.perf_counter() - begin)
    return statistics.median(steps)


@torch.inference_mode
def reference_step(model: GPT, rows: int, new_tokens: int) -> float:
    """The same by the training model: float32 weights cast at every use, sdpa with a mask, softmax and multinomial."""
    cache = KVCache(rows, CONFIG.n_kv_head, PROMPT + new_tokens, CONFIG.n_embd // CONFIG.n_head, CONFIG.n_layer, "cpu", model.compute_dtype)
    model.hidden(torch.tensor([prompt(row) for row in range(rows)]), cache.append(PROMPT))
    cache.advance(PROMPT)
    idx, steps = torch.zeros(rows, 1, dtype=torch.long), []
    usable, cpu_kernels.decode_usable = cpu_kernels.decode_usable, lambda dtype: False
    try:
        for _ in range(new_tokens // 4):
            begin = time.perf_counter()
            logits = model(idx, kv_cache=cache)[:, -1]
            idx = torch.multinomial(torch.softmax(logits, dim=-1), 1)
            steps.append(time.perf_counter() - begin)
    finally:
        cpu_kernels.decode_usable = usable
    return statistics.median(steps)


def together(engine: Engine, lengths: list[int]) -> float:
    begin = time.perf_counter()
    for i, length in enumerate(lengths):
        engine.submit(Request(prompt(i), 1, length, seed=i, **PLAIN))
    while engine.step():
        pass
    return time.perf_counter() - begin


def fixed_batches(engine: Engine, lengths: list[int]) -> float:
    """Eight at a time, in the order in which they came, all of them as long as the longest."""
    return sum(together(engine, [max(lengths[i : i + 8])] * len(lengths[i : i + 8])) for i in range(0, len(lengths), 8))


def best(rounds: int, work: Callable[[], float]) -> float:
    return min(work() for _ in range(rounds))


def main(args: argparse.Namespace) -> None:
    model, tokenizer = random_weights()
    weights = 2 * sum(p.numel() for name, p in model.named_parameters() if p.ndim == 2 and "embeds" not in name and "wte" not in name)
    engine = Engine(model, tokenizer, max_rows=64)
    lengths = [random.Random(i).choice((8, 16, 32, 64, 128, 256)) for i in range(64)]
    decoding(engine, 1, 8, 0), decoding(engine, 32, 32, 1)  # builds what is built once
    seconds = {
        "copy_bytes_per_second": max(measure_copy_rate(torch.device("cpu")) for _ in range(args.rounds)),
        "greedy_1": best(args.rounds, lambda: decoding(engine, 1, args.new_tokens, 0)),
        "greedy_32": best(args.rounds, lambda: decoding(engine, 32, args.new_tokens, 0)),
        "sampled_32": best(args.rounds, lambda: decoding(engine, 32, args.new_tokens, 1)),
        "reference_32": best(args.rounds, lambda: reference_step(model, 32, args.new_tokens)),
        "together": best(args.rounds, lambda: together(engine, lengths)),
        "fixed_batches": best(args.rounds, lambda: fixed_batches(engine, lengths)),
    }
    bound = weights / seconds["copy_bytes_per_second"]
    print(f"copying {seconds['copy_bytes_per_second'] / 1e9:.1f} GB/s; the weights, {weights / 1e6:.1f} MB, would take {bound * 1e3:.2f} ms")
    for name in ("greedy_1", "greedy_32", "sampled_32", "reference_32"):
        rows = int(name.split("_")[1])
        print(f"{name:<13} {seconds[name] * 1e3:7.2f} ms a step, {rows / seconds[name]:7,.0f} tokens/s")
    print(f"64 requests of 8 to 256 tokens: {seconds['together']:.2f} s together, {seconds['fixed_batches']:.2f} s in fixed batches of 8")
    bars = {}
    for name, value, target, more in (
        ("share_of_bandwidth_bound_at_batch_1", bound / seconds["greedy_1"], 0.35, True),
        ("times_the_tokens_of_batch_1_at_batch_32", 32 * seconds["greedy_1"] / seconds["greedy_32"], 10, True),
        ("times_as_fast_as_the_plain_reference_at_batch_32", seconds["reference_32"] / seconds["sampled_32"], 3, True),
        ("sampling_over_greedy_at_batch_32", seconds["sampled_32"] / seconds["greedy_32"], 1.25, False),
        ("times_as_fast_as_fixed_batches", seconds["fixed_batches"] / seconds["together"], 3, True),
    ):
        bars[name] = {"value": value, "target": target, "holds": value >= target if more else value <= target}
    print(json.dumps({"bars": bars, **seconds, "weight_bytes": weights}))


if __name__ == "__main__":
    main(parse_args())
