"""DCLM CORE (arXiv 2406.11794): how many questions of many kinds a base model gets right, above what guessing would.

    python -m nanochat.core_eval --checkpoint ~/.cache/nanochat/base_checkpoints/d12

An item becomes an Example: its options as tokens, and from where on each is scored. Multiple choice continues one question in several ways, schema
continues several contexts in one way, and the option of the lowest mean loss is taken; language modelling must get every token greedily right.
What computes the losses is a Scorer: a function from some examples to a (mean loss, all tokens greedily right) for each of their options.
"""

import argparse
import itertools
import math
import random
import time
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from nanochat.common import ArgumentParser, Compute, UserError, friendly_errors, print0
from nanochat.core_bundle import CoreTask, get_bundle, read_items, read_tasks

if TYPE_CHECKING:
    import torch

# A task makes so many batches at least, on any number of ranks, that several ranks find something to do; but none smaller than this many tokens.
SHARES, LEAST_BATCH = 16, 2048

# torch is imported by the functions that need it: what bundles there are, and what their prompts look like, can be seen without.


class Example(NamedTuple):
    index: int  # of the item among those of its task
    gold: int  # the right option
    options: list[list[int]]  # tokens, BOS first
    starts: list[int]  # where in each option the scored tokens begin, 1 or more; they go on to its end
    whole: bool  # all scored tokens must be greedily right; else the lowest mean loss wins


Scores = list[list[tuple[float, bool]]]  # of each example, of each option: mean loss of the scored tokens, all of them greedily right
Scorer = Callable[[list[Example]], Scores]


class TaskResult(NamedTuple):
    outcomes: list[bool]  # right or wrong, of each item
    long: int  # examples that were longer than what the model was trained on
    cut: int  # those that were longer than what it takes at all
    seconds: float


# --- from items to examples ------------------------------------------------------------------------------------------


def choose_items(items: list[dict], max_per_task: int = -1) -> list[dict]:
    """Shuffled first, so that the first few are a fair sample; -1 keeps all."""
    items = list(items)
    random.Random(1337).shuffle(items)
    return items[:max_per_task] if max_per_task > 0 else items


def prompts(task: CoreTask, items: list[dict], i: int) -> list[str]:
    """The texts that item i asks the model about: one of each option; of language modelling the text without its continuation, and with it."""
    # Drawing places among n - 1 and stepping over i is drawing from the list of the others, without making that list
    shown = random.Random(1234 + i).sample(range(len(items) - 1), min(task.shots, len(items) - 1))
    before = "".join(f"{_answered(task, items[j + (j >= i)])}\n\n" for j in shown)
    item, delimiter = items[i], task.delimiter
    if task.kind == "multiple_choice":
        return [f"{before}{item['query']}{delimiter}{choice}" for choice in item["choices"]]
    if task.kind == "schema":
        return [f"{before}{context}{delimiter}{item['continuation']}" for context in item["context_options"]]
    asked = f"{before}{item['context'].strip()}{delimiter}"
    return [asked.strip(), asked + item["continuation"]]  # a blank at the end would be a token that no text has there


def _answered(task: CoreTask, item: dict) -> str:
    """An item with its answer, as an example before a question."""
    if task.kind == "multiple_choice":
        return f"{item['query']}{task.delimiter}{item['choices'][item['gold']]}"
    if task.kind == "schema":
        return f"{item['context_options'][item['gold']]}{task.delimiter}{item['continuation']}"
    return f"{item['context'].strip()}{task.delimiter}{item['continuation']}"


def to_example(task: CoreTask, item: dict, i: int, rows: list[list[int]]) -> Example:
    """What is scored of an item's prompts: what they do not share. Where a tokenizer merges across the border between a text and its continuation,
    that is from the first token that differs; where all options begin with one of them, as a few of PIQA's do, from the last token of that one."""
    if task.kind == "schema":
        same = _common(reversed(row) for row in rows)
        return Example(i, item["gold"], rows, [max(1, len(row) - same) for row in rows], False)
    whole = task.kind == "language_modeling"
    options = rows[1:] if whole else rows
    start = max(1, min(_common(rows), min(map(len, options)) - 1))  # nothing predicts the first token
    return Example(i, 0 if whole else item["gold"], options, [start] * len(options), whole)


def _common(rows: Iterable[Iterable[int]]) -> int:
    """With how many equal tokens all rows begin."""
    return sum(1 for _ in itertools.takewhile(lambda column: len(set(column)) == 1, zip(*rows, strict=False)))


def render(task: CoreTask, items: list[dict], i: int, tokenizer) -> Example:
    return to_example(task, items[i], i, tokenizer.encode(prompts(task, items, i), prepend=tokenizer.get_bos_token_id()))


def render_all(task: CoreTask, items: list[dict], tokenizer) -> list[Example]:
    """The same for all items: the tokenizer has threads, which want many texts at once."""
    texts = [prompts(task, items, i) for i in range(len(items))]
    rows = iter(tokenizer.encode([text for some in texts for text in some], prepend=tokenizer.get_bos_token_id()))
    return [to_example(task, items[i], i, list(itertools.islice(rows, len(some)))) for i, some in enumerate(texts)]


def crop(example: Example, max_tokens: int) -> Example:
    """The last tokens of each option, as many as the model can take."""
    starts = [max(1, start - max(0, len(option) - max_tokens)) for start, option in zip(example.starts, example.options, strict=True)]
    return example._replace(options=[option[-max_tokens:] for option in example.options], starts=starts)


# --- batches and ranks -----------------------------------------------------------------------------------------------


def size_of(example: Example) -> int:
    return max(map(len, example.options))


def batches(examples: list[Example], budget_tokens: int) -> list[list[Example]]:
    """Examples of like length together, so that little is padding; a batch has no more tokens, padding included, than the budget, but one example at
    least. The longest come first: what does not fit in memory shows at once."""
    made: list[list[Example]] = []
    rows = longest = 0
    for example in sorted(examples, key=size_of, reverse=True):
        if not made or (rows + len(example.options)) * longest > budget_tokens:
            made.append([])
            rows, longest = 0, size_of(example)
        made[-1].append(example)
        rows += len(example.options)
    return made


def deal(batches: list[list[Example]], world_size: int) -> list[list[list[Example]]]:
    """Each rank's share: a batch goes to who has least to do, and goes whole, so that the same is computed, and rounded, on any number of ranks."""
    shares: list[list[list[Example]]] = [[] for _ in range(world_size)]
    load = [0] * world_size
    for batch in batches:
        least = load.index(min(load))
        shares[least].append(batch)
        load[least] += sum(len(option) for example in batch for option in example.options)
    return shares


def judge(score: Scorer, batch: list[Example]) -> list[bool]:
    """Which of the examples are right. Of options that are the same, only the first is scored: their losses are equal, and the first wins ties."""
    kept = [sorted({e.options.index(option) for option in e.options}) for e in batch]
    once = [e._replace(options=[e.options[k] for k in ks], starts=[e.starts[k] for k in ks]) for e, ks in zip(batch, kept, strict=True)]
    right = []
    for example, places, scores in zip(batch, kept, score(once), strict=True):
        losses = [math.inf if math.isnan(loss) else loss for loss, _ in scores]
        right.append(scores[0][1] if example.whole else places[losses.index(min(losses))] == example.gold)
    return right


def evaluate_task(
    score: Scorer, task: CoreTask, tokenizer, max_per_task: int = -1, budget: int = 32 * 2048, compute: Compute | None = None,
    max_tokens: int | None = None, context: int | None = None,
) -> TaskResult:  # fmt: skip
    """One task, on all ranks together; each has the outcomes of all. Prompts are cut to max_tokens; those longer than `context` are counted."""
    from huggingface_hub.utils import tqdm

    started = time.perf_counter()
    rank, world_size = (compute.rank, compute.world_size) if compute else (0, 1)
    examples = render_all(task, choose_items(read_items(task), max_per_task), tokenizer)
    long, cut = (sum(size_of(example) > limit for example in examples) if limit else 0 for limit in (context, max_tokens))
    if max_tokens:
        examples = [crop(example, max_tokens) for example in examples]
    share = sum(len(option) for example in examples for option in example.options) // SHARES
    mine = deal(batches(examples, min(budget, max(share, LEAST_BATCH))), world_size)[rank]
    right = [False] * len(examples)
    with tqdm(desc=task.label, total=sum(map(len, mine)), leave=False, disable=True if rank else None) as bar:
        for batch in mine:
            for example, verdict in zip(batch, judge(score, batch), strict=True):
                right[example.index] = verdict
            bar.update(len(batch))
    return TaskResult(_on_any_rank(right, compute), long, cut, time.perf_counter() - started)


def _on_any_rank(right: list[bool], compute: Compute | None) -> list[bool]:
    if not compute or compute.world_size == 1:
        return right
    import torch
    import torch.distributed as dist

    total = torch.tensor(right, dtype=torch.int32, device=compute.device)
    dist.all_reduce(total)
    return [bool(one) for one in total.tolist()]


def evaluate_core(
    score: Scorer, tokenizer, folder: Path, max_per_task: int = -1, budget: int = 32 * 2048, compute: Compute | None = None,
    max_tokens: int | None = None, context: int | None = None, tell: Callable[[str], None] = lambda line: None,
) -> dict:  # fmt: skip
    """All tasks of a bundle, and CORE, the mean of what each is above guessing. `tell` gets a line for each task."""
    tasks = {}
    for task in read_tasks(folder):
        outcomes, long, cut, seconds = evaluate_task(score, task, tokenizer, max_per_task, budget, compute, max_tokens, context)
        accuracy = sum(outcomes) / len(outcomes)
        centered = (accuracy - task.baseline) / (1 - task.baseline)
        tell(f"{task.label:<34}{task.shots:>3}-shot {len(outcomes):>6} items | accuracy {accuracy:.4f} | centered {centered:+.4f} | {seconds:.1f} s")
        tasks[task.label] = {"accuracy": accuracy, "centered": centered, "examples": len(outcomes), "long": long, "cut": cut, "seconds": seconds,
                             "outcomes": outcomes}  # fmt: skip
    for kind, limit, what in (
        ("long", context, "that this model was trained on, so of few-shot examples it sees the last ones best"),
        ("cut", max_tokens, "that this model can take were cut from the left"),
    ):
        if found := [f"{label} {task[kind]} of {task['examples']}" for label, task in tasks.items() if task[kind]]:
            print0(f"note: prompts longer than the {limit:,} tokens {what}: {', '.join(found)}")
    return {
        "core_metric": sum(task["centered"] for task in tasks.values()) / len(tasks),
        "results": {label: task["accuracy"] for label, task in tasks.items()},
        "centered_results": {label: task["centered"] for label, task in tasks.items()},
        "seconds": sum(task["seconds"] for task in tasks.values()),
        "tasks": tasks,
    }


def trained_on(meta: dict) -> str | None:
    """The data set that a checkpoint's meta tells of."""
    config = meta.get("user_config")
    return config.get("dataset") if isinstance(config, dict) else None


def bundle_for(dataset: str | None) -> str:
    """The bundle for models that were trained on a data set."""
    return "tinyworld" if dataset == "tinyworld" else "core"


# --- scorers ---------------------------------------------------------------------------------------------------------


class PlainScorer:
    """For any causal model: forward takes ids (B, T), padded on the right, and gives logits (B, T, V)."""

    def __init__(self, forward: Callable[["torch.Tensor"], "torch.Tensor"], pad: int = 0, device: "torch.device | str" = "cpu"):
        self.forward, self.pad, self.device = forward, pad, device

    def __call__(self, batch: list[Example]) -> Scores:
        import torch
        import torch.nn.functional as F

        rows = [option for example in batch for option in example.options]
        starts = [start for example in batch for start in example.starts]
        T = max(map(len, rows))
        ids = torch.tensor([row + [self.pad] * (T - len(row)) for row in rows], device=self.device)  # (B, T)
        counts = [len(row) - start for row, start in zip(rows, starts, strict=True)]
        # token t of a row is predicted at position t - 1
        row = torch.repeat_interleave(torch.tensor(counts)).to(self.device)
        place = torch.cat([torch.arange(start, len(row)) for row, start in zip(rows, starts, strict=True)]).to(self.device)
        with torch.no_grad():
            logits = self.forward(ids)[row, place - 1].float()  # (scored tokens, V)
        targets = ids[row, place]
        losses = F.cross_entropy(logits, targets, reduction="none").cpu()
        right = (logits.argmax(dim=-1) == targets).cpu()
        scores = iter([(loss.mean().item(), bool(hit.all())) for loss, hit in zip(losses.split(counts), right.split(counts), strict=True)])
        return [list(itertools.islice(scores, len(example.options))) for example in batch]


def scorer_for(model) -> Scorer:
    """How a model of ours is scored."""
    from nanochat.core_scoring import CachedScorer

    return CachedScorer(model)


def longest_prompt(config) -> int:
    """How much of a prompt our models take. Windows are no longer than the context, so what a token sees of a longer prompt is not new to them; the
    limit is where karpathy/nanochat's tables of positions end."""
    return 10 * config.sequence_len


# --- as a command ----------------------------------------------------------------------------------------------------


def parse_args(arguments: Sequence[str] | None = None) -> argparse.Namespace:
    parser = ArgumentParser(prog="python -m nanochat.core_eval", description="CORE of a checkpoint")
    parser.add_argument("--checkpoint", type=Path, required=True, help="folder of a model's checkpoints")
    parser.add_argument("--step", type=int, default=None, help="which of them; the last one if not given")
    parser.add_argument("--bundle", default=None, help="core, tinyworld, or a folder; if not given, tinyworld for models trained on it, else core")
    parser.add_argument("--max-per-task", type=int, default=-1, help="items of each task; -1: all")
    parser.add_argument("--device-batch-size", type=int, default=32, help="rows of the model's context that are computed at a time")
    parser.add_argument("--device-type", default="", choices=["", "cuda", "cpu", "mps"], help="empty: the best there is")
    args = parser.parse_args(arguments)
    if args.device_batch_size < 1 or (args.max_per_task < 1 and args.max_per_task != -1):
        parser.error("--device-batch-size must be at least 1, and --max-per-task too, or -1 for all")
    return args


def main(args: argparse.Namespace) -> None:
    from nanochat.checkpoint_manager import CheckpointManager, find_last_step, read_meta
    from nanochat.common import compute_cleanup, compute_init
    from nanochat.tokenizer import Tokenizer

    compute = compute_init(args.device_type)
    step = find_last_step(args.checkpoint, optimizer=False) if args.step is None else args.step
    model, config = CheckpointManager(args.checkpoint).load(step, compute.device)
    tokenizer = Tokenizer.from_directory(args.checkpoint / "tokenizer")
    if tokenizer.get_vocab_size() != config.vocab_size:
        raise UserError(f"{args.checkpoint / 'tokenizer'} is not the tokenizer of this model: it has another number of tokens")
    bundle = get_bundle(args.bundle or bundle_for(trained_on(read_meta(args.checkpoint, step))))
    budget = args.device_batch_size * config.sequence_len
    result = evaluate_core(
        scorer_for(model), tokenizer, bundle, args.max_per_task, budget, compute, longest_prompt(config), config.sequence_len, tell=print0
    )
    print0(f"CORE of step {step} in {args.checkpoint}: {result['core_metric']:.6f} ({result['seconds']:.1f} s)")
    compute_cleanup()


if __name__ == "__main__":
    with friendly_errors():
        main(parse_args())
