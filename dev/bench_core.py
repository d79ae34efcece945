"""What CORE costs, beside one example at a time, measured in one run: `python -m dev.bench_core`. The last line is JSON.

Depth 6, head size 64, vocabulary 32,768, random weights and random tokens: 10-shot multiple choice with four options of about 730 tokens; and an even
mixture of that, schema with two options and language modelling. The reference computes an example's options as a padded batch, in float32, with all
logits, as karpathy/nanochat does.
"""

import argparse
import json
import os
import random
import time

import torch
import torch.nn.functional as F

from nanochat.common import ArgumentParser, compute_init
from nanochat.core_eval import Example, Scorer, batches, judge
from nanochat.core_scoring import CachedScorer
from nanochat.gpt import GPT, GPTConfig, new_model

CONFIG = GPTConfig(1024, 32768, 6, 6, 6, 384, "L")


def parse_args() -> argparse.Namespace:
    parser = ArgumentParser(description="Benchmark CORE")
    parser.add_argument("--examples", type=int, default=24, help="of multiple choice, and as many in the mixture")
    parser.add_argument("--tokens", type=int, default=730, help="length of a prompt, about")
    parser.add_argument("--rows", type=int, default=32, help="rows of the model's context in a batch of ours, as in base_eval")
    return parser.parse_args()


def example(dice: random.Random, kind: str, index: int, about: int) -> Example:
    def tokens(count: int) -> list[int]:
        return [dice.randrange(CONFIG.vocab_size) for _ in range(count)]

    context = tokens(about + dice.randint(-30, 30))
    if kind == "multiple_choice":
        return Example(index, 0, [context + tokens(dice.randint(2, 12)) for _ in range(4)], [len(context)] * 4, False)
    if kind == "schema":
        end = tokens(8)
        options = [context + tokens(dice.randint(1, 4)) + end for _ in range(2)]
        return Example(index, 0, options, [len(option) - len(end) for option in options], False)
    return Example(index, 0, [context + tokens(dice.randint(1, 6))], [len(context)], True)


def random_weights() -> GPT:
    """The same weights in whatever dtype NANOCHAT_DTYPE says."""
    compute_init("cpu")
    model = new_model(CONFIG, "cpu").eval()
    with torch.no_grad():
        for p in model.parameters():  # a fresh model's blocks do nothing
            p.add_(torch.randn_like(p, dtype=torch.float32).to(p.dtype) * 0.02)
    return model


class Reference:
    """One example at a time, all logits of all positions."""

    def __init__(self, model: GPT):
        self.model = model

    @torch.no_grad
    def __call__(self, batch: list[Example]) -> list[list[tuple[float, bool]]]:
        scores = []
        for one in batch:
            longest = max(map(len, one.options))
            ids = torch.tensor([option + [0] * (longest - len(option)) for option in one.options])
            logits = self.model(ids)
            losses = F.cross_entropy(logits[:, :-1].transpose(1, 2), ids[:, 1:], reduction="none")
            hits = logits[:, :-1].argmax(dim=-1) == ids[:, 1:]
            spans = [slice(start - 1, len(option) - 1) for start, option in zip(one.starts, one.options, strict=True)]
            scores.append([(losses[i, span].mean().item(), bool(hits[i, span].all())) for i, span in enumerate(spans)])
        return scores


def examples_per_second(score: Scorer, groups: list[list[Example]], budget: int) -> tuple[float, list[bool]]:
    """Each group is a task of its own; the first batch is not timed, it builds what is built once."""
    score(groups[0][:1])
    begin, right = time.perf_counter(), []
    for group in groups:
        verdicts = {e.index: ok for batch in batches(group, budget) for e, ok in zip(batch, judge(score, batch), strict=True)}
        right += [verdicts[e.index] for e in group]
    return sum(map(len, groups)) / (time.perf_counter() - begin), right


def main(args: argparse.Namespace) -> None:
    dice = random.Random(1)
    kinds = ("multiple_choice", "schema", "language_modeling")
    sets = {
        "multiple_choice": [[example(dice, "multiple_choice", i, args.tokens) for i in range(args.examples)]],
        "mixture": [[example(dice, kind, i, args.tokens) for i in range(args.examples // 3)] for kind in kinds],
    }
    budget = args.rows * CONFIG.sequence_len
    os.environ["NANOCHAT_DTYPE"] = "float32"
    model = random_weights()
    del os.environ["NANOCHAT_DTYPE"]
    scorers = {"reference": Reference(model), "ours": CachedScorer(model), "ours_default_dtype": CachedScorer(random_weights())}
    rates: dict[str, dict[str, float]] = {}
    for name, groups in sets.items():
        rates[name], verdicts = {}, {}
        for who, score in scorers.items():
            rates[name][who], verdicts[who] = examples_per_second(score, groups, budget)
        same = sum(a == b for a, b in zip(verdicts["reference"], verdicts["ours"], strict=True))
        rates[name]["same_outcomes"] = same / len(verdicts["ours"])
        print(f"{name}: {rates[name]['reference']:.2f} examples/s one at a time, {rates[name]['ours']:.2f} ours in float32, "
              f"{rates[name]['ours_default_dtype']:.2f} in the default dtype; {same} of {len(verdicts['ours'])} outcomes the same",
              flush=True)  # fmt: skip
    bars = {}
    for name, value, target in (
        ("multiple_choice_times_as_fast", rates["multiple_choice"]["ours"] / rates["multiple_choice"]["reference"], 6),
        ("mixture_times_as_fast", rates["mixture"]["ours"] / rates["mixture"]["reference"], 3),
        ("default_dtype_over_float32", min(r["ours_default_dtype"] / r["ours"] for r in rates.values()), 2),
        ("same_outcomes", min(r["same_outcomes"] for r in rates.values()), 1),
    ):
        bars[name] = {"value": value, "target": target, "holds": value >= target}
    print(json.dumps({"bars": bars, "examples_per_second": rates}))


if __name__ == "__main__":
    main(parse_args())
