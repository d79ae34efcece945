"""How fast a model answers: prefill and decoding at several batch sizes, and what share of the machine that is.

    python -m scripts.infer_bench                                  # the largest base model
    python -m scripts.infer_bench -i sft -g d12 --batch-sizes 1,32
    python -m scripts.infer_bench --depth 12                       # a model of this size with random weights: none need be there

The table's numbers stand as JSON in the last line.
"""

import argparse
import json
import statistics
import time

from nanochat.common import ArgumentParser, UserError, compute_init, friendly_errors

PREFILL_TOKENS = 16384  # all prompts at once, if they are no more than this: nobody is being served who would have to wait


def parse_args() -> argparse.Namespace:
    parser = ArgumentParser(description="Measure prefill and decoding")
    parser.add_argument("-i", "--source", default="base", choices=["base", "sft", "rl"], help="which stage's model")
    parser.add_argument("-g", "--model-tag", default=None, help="folder of the checkpoints (default: the largest model)")
    parser.add_argument("-s", "--step", type=int, default=None, help="which checkpoint (default: the last)")
    parser.add_argument("--depth", type=int, default=None, help="instead of a checkpoint: a model of this depth with random weights")
    parser.add_argument("--vocab-size", type=int, default=32768, help="its vocabulary")
    parser.add_argument("--batch-sizes", default="1,8,32,128", help="how many rows are decoded together")
    parser.add_argument("--prompt-tokens", type=int, default=128, help="length of each prompt")
    parser.add_argument("--new-tokens", type=int, default=128, help="length of each answer")
    parser.add_argument("-t", "--temperature", type=float, default=1.0, help="0: greedy")
    parser.add_argument("-k", "--top-k", type=int, default=0, help="0: off")
    parser.add_argument("--device-type", default="", choices=["", "cuda", "cpu", "mps"], help="empty: the best there is")
    args = parser.parse_args()
    try:
        args.batch_sizes = [int(size) for size in args.batch_sizes.split(",")]
    except ValueError:
        parser.error(f"--batch-sizes {args.batch_sizes}: numbers separated by commas")
    for name in ("prompt_tokens", "new_tokens", *(("depth",) if args.depth is not None else ())):
        if getattr(args, name) < 1:
            parser.error(f"--{name.replace('_', '-')} {getattr(args, name)}: at least 1")
    if min(args.batch_sizes) < 1:
        parser.error("--batch-sizes: each at least 1")
    if not 0 <= args.temperature < float("inf") or args.top_k < 0:
        parser.error("--temperature and --top-k cannot be negative")
    return args


def random_model(args: argparse.Namespace, device):
    """A model of the plan's size, and a tokenizer that is only asked for its special tokens."""
    from nanochat.gpt import GPTConfig, new_model
    from nanochat.scaling import make_plan
    from nanochat.tokenizer import SPECIAL_TOKENS, SPLIT_PATTERN, Tokenizer

    plan = make_plan(depth=args.depth, vocab_size=args.vocab_size, sequence_len=max(2048, args.prompt_tokens + args.new_tokens))
    ranks = {bytes([i]): i for i in range(256)}
    if args.vocab_size < len(ranks) + len(SPECIAL_TOKENS):
        raise UserError(f"--vocab-size {args.vocab_size}: at least {len(ranks) + len(SPECIAL_TOKENS)}")
    config = GPTConfig(plan.sequence_len, plan.vocab_size, plan.depth, plan.n_head, plan.n_kv_head, plan.n_embd, plan.window_pattern)
    return new_model(config, device).eval(), Tokenizer(SPLIT_PATTERN, ranks)


def measure(engine, rows: int, args: argparse.Namespace) -> dict:
    """One batch from its prompts to its last token."""
    from nanochat.engine import Request

    vocab = engine.model.config.vocab_size
    engine.prefill_tokens = max(engine.prefill_tokens, min(rows * args.prompt_tokens, PREFILL_TOKENS))
    streams = [
        engine.submit(
            Request([(row * 7919 + i) % vocab for i in range(args.prompt_tokens)], 1, args.new_tokens, args.temperature, args.top_k, seed=row,
                    stop_tokens=frozenset(), tools=False)
        )
        for row in range(rows)
    ]  # fmt: skip
    started = time.perf_counter()
    first = [None] * rows
    steps = []  # seconds of those that decode all rows and nothing else
    while engine.busy:
        begin, decoding = time.perf_counter(), len(engine.rows) == rows
        engine.step()
        now = time.perf_counter()
        if decoding:
            steps.append(now - begin)
        for row, stream in enumerate(streams):
            if first[row] is None and stream.samples[0].tokens:
                first[row] = now - started
    if not steps:
        raise UserError(f"--new-tokens {args.new_tokens}: too few, the first of {rows} rows end before the last begin")
    return {"rows": rows, "first_token_seconds": statistics.median(first), "last_first_token_seconds": max(first),
            "prefill_tokens_per_second": rows * args.prompt_tokens / max(first), "step_seconds": statistics.median(steps)}  # fmt: skip


def shares(engine, result: dict, args: argparse.Namespace, bandwidth: float, flops: float) -> dict:
    """What a step moves and multiplies, beside what the machine could: each weight is read once for all rows, each row's keys and values once."""
    model, config = engine.model, engine.model.config
    tables = {id(model.transformer.wte.weight), *(id(e.weight) for e in model.value_embeds.values())}  # of which a step reads a few rows
    matrices = [p for p in model.parameters() if p.ndim == 2 and id(p) not in tables]
    weights = sum(p.numel() for p in matrices)
    length = args.prompt_tokens + args.new_tokens / 2
    seen = sum(min(window + 1, length) for window in model.windows)  # keys, over all layers
    head_dim = config.n_embd // config.n_head
    moved = weights * matrices[0].element_size() + result["rows"] * seen * 2 * config.n_kv_head * head_dim * matrices[0].element_size()
    work = result["rows"] * (2 * weights + 4 * seen * config.n_embd)
    return {"tokens_per_second": result["rows"] / result["step_seconds"], "share_of_bandwidth": moved / result["step_seconds"] / bandwidth,
            "share_of_flops": work / result["step_seconds"] / flops}  # fmt: skip


def held(engine) -> int:
    """Bytes of the weights and of the cache."""
    tensors = [*engine.model.parameters(), engine.cache.k_cache, engine.cache.v_cache]
    return sum(t.numel() * t.element_size() for t in tensors)


def main(args: argparse.Namespace) -> None:
    from nanochat.checkpoint_manager import load_model
    from nanochat.engine import Engine
    from nanochat.hardware import peak_bandwidth, peak_flops

    device = compute_init(args.device_type).device
    if args.depth is not None:
        model, tokenizer = random_model(args, device)
    else:
        model, tokenizer, _ = load_model(args.source, device, "eval", args.model_tag, args.step)
    bandwidth, flops = peak_bandwidth(device), peak_flops(device, model.compute_dtype)
    config, dtype = model.config, str(model.compute_dtype)[6:]
    print(f"depth {config.n_layer}, width {config.n_embd}, vocabulary {config.vocab_size:,}, in {dtype} on {device.type}; prompts of "
          f"{args.prompt_tokens} tokens, answers of {args.new_tokens}; the machine: {bandwidth / 1e9:,.0f} GB/s read and written, "
          f"{flops / 1e12:.2f} TFLOP/s")  # fmt: skip
    print(f"{'rows':>5} {'first token':>12} {'prefill':>13} {'per token':>11} {'decoding':>13} {'bandwidth':>10} {'FLOPs':>7} {'memory':>10}")
    results = []
    for rows in args.batch_sizes:
        engine = Engine(model, tokenizer, max_rows=rows, context=max(config.sequence_len, args.prompt_tokens + args.new_tokens))
        measure(engine, rows, args)  # the first time builds kernels, graphs and the cache
        result = measure(engine, rows, args)
        result |= {**shares(engine, result, args, bandwidth, flops), "memory": held(engine)}
        results.append(result)
        print(f"{rows:>5} {result['first_token_seconds'] * 1e3:>9.0f} ms {result['prefill_tokens_per_second']:>7,.0f} tok/s "
              f"{result['step_seconds'] * 1e3:>8.2f} ms {result['tokens_per_second']:>7,.0f} tok/s {result['share_of_bandwidth']:>9.0%} "
              f"{result['share_of_flops']:>7.0%} {result['memory'] / 2**30:>6.2f} GiB", flush=True)  # fmt: skip
    print(json.dumps({"device": device.type, "dtype": dtype, "depth": config.n_layer, "n_embd": config.n_embd, "vocab_size": config.vocab_size,
                      "bandwidth": bandwidth, "flops": flops, "prompt_tokens": args.prompt_tokens, "new_tokens": args.new_tokens,
                      "results": results}))  # fmt: skip


if __name__ == "__main__":
    with friendly_errors():
        main(parse_args())
