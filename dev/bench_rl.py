"""What reinforcement learning costs on a CPU, and that its shortcuts change nothing: `python -m dev.bench_rl`. The last line is JSON.

Rollouts: 16 answers to each of 16 word problems of the embedded world, decoded together, beside a plain way of making them: a question at a time, 8
answers at a time, by the same engine. Their answers must be of one and the same distribution, which permutation tests look at. And leaving out the
groups whose rewards are all equal must leave the gradient as it is. Depth 6, width 192, head size 64, vocabulary 4,096. With random weights hardly
an answer ends before --max-new-tokens, and its reward is the share of even token ids; with a finetuned model (--model-tag) it is the task's as well.
"""

import argparse
import itertools
import json
import random
import statistics
import time
from collections import Counter
from collections.abc import Callable, Sequence

import torch

from nanochat import tinyworld
from nanochat.checkpoint_manager import load_model
from nanochat.common import ArgumentParser, compute_init
from nanochat.engine import Engine
from nanochat.gpt import GPT, GPTConfig, new_model
from nanochat.rl import Group, answers_of, count_chosen, policy_batches, policy_loss, roll_out
from nanochat.tokenizer import Tokenizer, get_tokenizer, tokenizer_dir
from tasks.catalog import rl_tasks

DEPTH, WIDTH, HEAD_DIM, VOCAB, CONTEXT = 6, 192, 64, 4096, 256
REFERENCE_ROWS = 8  # answers of one question that the reference makes at a time
TEMPERATURE, TOP_K = 1.0, 50
DOCUMENTS = 20_000  # of the embedded world, to train a tokenizer on
PERMUTATIONS = 2000
GRADIENT_GROUPS, GRADIENT_ROWS = 4, 6  # the longest, of which every other one is made equal; rows so that batches have parts of several groups


def parse_args() -> argparse.Namespace:
    parser = ArgumentParser(description="Benchmark reinforcement learning")
    parser.add_argument("--model-tag", default=None, help="a finetuned model; if not given, random weights")
    parser.add_argument("--prompts", type=int, default=16, help="questions of a step")
    parser.add_argument("--num-samples", type=int, default=16, help="answers to each; a multiple of 8")
    parser.add_argument("--max-new-tokens", type=int, default=128, help="of an answer")
    parser.add_argument("--rounds", type=int, default=3, help="how often both ways are timed, in turns; the median counts")
    args = parser.parse_args()
    if args.num_samples < 1 or args.num_samples % REFERENCE_ROWS or min(args.prompts, args.max_new_tokens, args.rounds) < 1:
        parser.error(f"--num-samples must be a multiple of {REFERENCE_ROWS}, and the others at least 1")
    return args


# --- model and tokenizer ---------------------------------------------------------------------------------------------


def tiny_tokenizer() -> Tokenizer:
    """The embedded world's, if it is there and of the right size; else one that is trained here and kept nowhere."""
    if (tokenizer_dir("tinyworld") / "tokenizer.json").exists() and (found := get_tokenizer("tinyworld")).get_vocab_size() == VOCAB:
        return found
    return Tokenizer.train_from_iterator(itertools.islice(tinyworld.documents("train"), DOCUMENTS), VOCAB)


def get_model(args: argparse.Namespace) -> tuple[GPT, Tokenizer]:
    """The same weights each time."""
    if args.model_tag:
        return load_model("sft", "cpu", "eval", args.model_tag)[:2]
    torch.manual_seed(42)
    model = new_model(GPTConfig(CONTEXT, VOCAB, DEPTH, WIDTH // HEAD_DIM, WIDTH // HEAD_DIM, WIDTH, "L"), "cpu").eval()
    with torch.no_grad():
        for p in model.parameters():  # a fresh model's blocks do nothing
            p.add_(torch.randn_like(p) * 0.02)
    return model, tiny_tokenizer()


def in_float64(model: GPT) -> GPT:
    """For training; what the batches are then makes no difference to the rounding that could be taken for one of skipping."""
    model = model.double()
    model.compute_dtype, model.kernel = torch.float64, "sdpa"
    return model


# --- rollouts --------------------------------------------------------------------------------------------------------


def together(engine: Engine, task, args: argparse.Namespace, seed: int) -> list[Group]:
    return roll_out(engine, task, range(args.prompts), args.num_samples, args.max_new_tokens, TEMPERATURE, TOP_K, f"together {seed}")


def one_by_one(engine: Engine, task, args: argparse.Namespace, seed: int) -> list[Group]:
    """A question at a time, and of its answers as many as a small batch holds."""
    parts = [
        [
            group
            for i in range(args.prompts)
            for group in roll_out(engine, task, [i], REFERENCE_ROWS, args.max_new_tokens, TEMPERATURE, TOP_K, f"one by one {seed} {start}")
        ]
        for start in range(0, args.num_samples, REFERENCE_ROWS)
    ]
    return merged(parts)


def merged(parts: Sequence[list[Group]]) -> list[Group]:
    """One group for each question, out of several."""
    return [
        Group(of_one[0].prompt, [s for group in of_one for s in group.samples], [r for group in of_one for r in group.rewards])
        for of_one in zip(*parts, strict=True)
    ]


def measure(ways: dict[str, Callable[[int], list[Group]]], rounds: int) -> tuple[dict[str, list[float]], dict[str, list[Group]]]:
    """The seconds of each round, and all the groups. The ways take turns, so that a noisy machine is noisy for all of them."""
    seconds: dict[str, list[float]] = {name: [] for name in ways}
    made: dict[str, list[list[Group]]] = {name: [] for name in ways}
    for i in range(rounds):
        for name, way in ways.items():
            begin = time.perf_counter()
            made[name].append(way(i))
            seconds[name].append(time.perf_counter() - begin)
    return seconds, {name: merged(of_rounds) for name, of_rounds in made.items()}


# --- one and the same distribution -----------------------------------------------------------------------------------


def even_share(sample) -> float:
    return sum(token % 2 == 0 for token in sample.tokens) / max(1, len(sample.tokens))


def first_token(sample) -> int:
    return (*sample.tokens, sample.stop_token)[0]


def mean_difference(a: Sequence[Sequence[float]], b: Sequence[Sequence[float]]) -> float:
    """Of all values, prompt by prompt as they come."""
    return abs(sum(map(sum, a)) - sum(map(sum, b)))


def count_difference(a: Sequence[Sequence[int]], b: Sequence[Sequence[int]]) -> float:
    """Chi-square of two tables of counts: how often each value comes with each prompt."""
    left, right = (Counter((i, value) for i, values in enumerate(side) for value in values) for side in (a, b))
    return sum((left[key] - right[key]) ** 2 / (left[key] + right[key]) for key in left.keys() | right.keys())


def permutation_p(a: Sequence[Sequence], b: Sequence[Sequence], statistic: Callable[[Sequence, Sequence], float]) -> float:
    """How often a difference as large as this one comes about if, prompt by prompt, chance says which values are whose. Exact, however few or odd
    the values are (Fisher, The Design of Experiments, 1935)."""
    dice, found = random.Random(0), statistic(a, b)
    pooled, sizes, as_large = [[*x, *y] for x, y in zip(a, b, strict=True)], [len(x) for x in a], 1
    for _ in range(PERMUTATIONS):
        for values in pooled:
            dice.shuffle(values)
        mine = [values[:n] for values, n in zip(pooled, sizes, strict=True)]
        theirs = [values[n:] for values, n in zip(pooled, sizes, strict=True)]
        as_large += statistic(mine, theirs) >= found - 1e-9
    return as_large / (PERMUTATIONS + 1)


def distribution_p(ours: list[Group], theirs: list[Group], with_rewards: bool) -> dict[str, float]:
    """p of each comparison."""

    def table(value: Callable) -> list[list[list]]:
        return [[[value(sample) for sample in group.samples] for group in groups] for groups in (ours, theirs)]

    tests = {
        "even_share": (table(even_share), mean_difference),
        "first_token": (table(first_token), count_difference),
        "length": (table(lambda sample: len(sample.tokens)), mean_difference),
    }
    if with_rewards:
        tests["reward"] = ([[group.rewards for group in groups] for groups in (ours, theirs)], mean_difference)
    return {name: permutation_p(*sides, statistic) for name, (sides, statistic) in tests.items()}


# --- skipping --------------------------------------------------------------------------------------------------------


def gradient(model: GPT, groups: list[Group], skip: bool) -> list[torch.Tensor]:
    """As scripts/chat_rl.py makes it: divided by the tokens of all groups, skipped or not."""
    divisor = count_chosen(groups)
    answers = answers_of([group for group in groups if not (skip and group.even)])
    for x, y, advantages in policy_batches(answers, GRADIENT_ROWS, model.config.sequence_len, model.get_device()):
        (policy_loss(model, x, y, advantages) / divisor).backward()
    gradients = [torch.zeros_like(p) if p.grad is None else p.grad for p in model.parameters()]
    model.zero_grad(set_to_none=True)
    return gradients


def skipping_difference(model: GPT, groups: list[Group]) -> float:
    """The largest difference that skipping makes, as a share of the largest entry of the gradient."""
    some = sorted(groups, key=lambda group: -len(group.prompt))[:GRADIENT_GROUPS]
    some = [g._replace(rewards=[1.0] * len(g.samples) if i % 2 else list(map(even_share, g.samples))) for i, g in enumerate(some)]
    skipped, whole = gradient(model, some, True), gradient(model, some, False)
    largest = max(g.abs().max().item() for g in whole)
    return max((a - b).abs().max().item() for a, b in zip(skipped, whole, strict=True)) / largest


def main(args: argparse.Namespace) -> None:
    compute_init("cpu")
    task = rl_tasks("tinyworld")[0]
    model, tokenizer = get_model(args)
    wide, narrow = (Engine(model, tokenizer, max_rows=rows) for rows in (args.prompts * args.num_samples, REFERENCE_ROWS))
    short = argparse.Namespace(prompts=2, num_samples=REFERENCE_ROWS, max_new_tokens=4)
    together(wide, task, short, -1), one_by_one(narrow, task, short, -1)  # builds what is built once
    ways = {"together": lambda i: together(wide, task, args, i), "one_by_one": lambda i: one_by_one(narrow, task, args, i)}
    seconds, groups = measure(ways, args.rounds)
    count = sum(len(group.samples) for group in groups["together"]) // args.rounds
    report = {
        "p": distribution_p(groups["together"], groups["one_by_one"], bool(args.model_tag)),
        "answers_per_second": {name: count / statistics.median(times) for name, times in seconds.items()},
        "seconds": seconds,
        "even_shares": {name: statistics.mean(even_share(s) for g in some for s in g.samples) for name, some in groups.items()},
        "rewards": {name: statistics.mean(r for g in some for r in g.rewards) for name, some in groups.items()},
        "lengths": {name: statistics.mean(len(s.tokens) for g in some for s in g.samples) for name, some in groups.items()},
        "dtype": str(model.compute_dtype)[6:], "threads": torch.get_num_threads(),
    }  # fmt: skip
    for name in ways:
        rate, length, even, reward = (report[key][name] for key in ("answers_per_second", "lengths", "even_shares", "rewards"))
        print(f"{name:<10} {count} answers of {length:.0f} tokens, {rate:.1f} a second; even ids {even:.4f}, reward {reward:.4f}")
    print(f"p of {', '.join(f'{name} {value:.3f}' for name, value in report['p'].items())}")
    exact = in_float64(get_model(args)[0])
    bars = {}
    for name, value, target, more in (
        ("rollout_speedup", report["answers_per_second"]["together"] / report["answers_per_second"]["one_by_one"], 4.0, True),
        ("same_distribution", min(1.0, min(report["p"].values()) * len(report["p"])), 0.01, True),  # the smallest of several p (Bonferroni)
        ("skipping_gradient", skipping_difference(exact, groups["together"]), 1e-6, False),
    ):
        bars[name] = {"value": value, "target": target, "holds": value > target if more else value <= target}
    print(json.dumps({"bars": bars, **report}))


if __name__ == "__main__":
    main(parse_args())
