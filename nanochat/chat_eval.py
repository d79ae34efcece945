"""How well a chat model does at tasks: the share of questions that it answers right, and ChatCORE, the mean of what that is above guessing.

A categorical task is one of letters: the logits of a question's letters after assistant_start are compared, and nothing is sampled. In a generative
task the model writes, calls the calculator if it likes, and the task judges what it has said. A task is anything with the methods of
tasks.common.Task: len(), [index], eval_type, and evaluate(conversation, completion).
"""

import math
import time
from collections.abc import Callable, Sequence
from typing import NamedTuple

import torch

from nanochat.common import Compute, print0
from nanochat.core_eval import longest_prompt
from nanochat.engine import Engine, Sample
from nanochat.kv_cache import KVCache
from nanochat.tokenizer import Tokenizer

# How an answer came to its end, beside the engine's stop and length.
NO_ROOM = "no room"  # the prompt fills the context, so nothing was asked
LETTER, CUT = "letter", "letter, prompt cut"  # the likeliest of the letters; the same, with the beginning of the prompt left out


class Answer(NamedTuple):
    text: str
    right: bool
    ended: str


class TaskResult(NamedTuple):
    answers: list[list[Answer]]  # to each item: one, or as many as were sampled
    seconds: float

    @property
    def items(self) -> int:
        return len(self.answers)

    @property
    def outcomes(self) -> list[list[bool]]:
        return [[answer.right for answer in some] for some in self.answers]

    @property
    def completions(self) -> list[list[str]]:
        return [[answer.text for answer in some] for some in self.answers]

    @property
    def accuracy(self) -> float:
        """The share of items of which any answer is right."""
        return sum(map(any, self.outcomes)) / self.items

    @property
    def pass_at(self) -> dict[int, float]:
        """For k = 1, 2, 4, … and all: how probable it is that of k answers one at least is right."""
        n = len(self.answers[0])
        ks = sorted({*(1 << i for i in range(n.bit_length())), n})
        return {k: sum(pass_at_k(n, sum(right), k) for right in self.outcomes) / self.items for k in ks}


# --- numbers ---------------------------------------------------------------------------------------------------------


def pass_at_k(n: int, right: int, k: int) -> float:
    """The probability that of k answers, drawn from n of which some are right, one at least is: unbiased, unlike 1 - (1 - right/n)^k
    (arXiv 2107.03374)."""
    return 1 - math.comb(n - right, k) / math.comb(n, k)


def centered(accuracy: float, baseline: float) -> float:
    """0 for guessing, 1 for all right."""
    return (accuracy - baseline) / (1 - baseline)


def chatcore(accuracies: dict[str, float], baselines: dict[str, float]) -> float:
    return sum(centered(accuracy, baselines[name]) for name, accuracy in accuracies.items()) / len(accuracies)


# --- letters ---------------------------------------------------------------------------------------------------------


def evaluate_categorical(engine: Engine, task, indices: Sequence[int], batch_size: int = 8) -> list[bool]:
    """Is the likeliest letter the right one? For each of the items."""
    return [answer.right for answer in choose_letters(engine, task, indices, batch_size)]


def choose_letters(
    engine: Engine, task, indices: Sequence[int], batch_size: int = 8, progress: Callable[[int], None] = lambda done: None
) -> list[Answer]:
    """The likeliest letter of each of the items. Prompts of like length are computed together, the longest first: what does not fit in memory shows
    at once. What is longer than the model can take loses its beginning."""
    engine.check_weights()
    limit = longest_prompt(engine.model.config)
    conversations = [task[i] for i in indices]
    prompts = [engine.tokenizer.render_for_completion(conversation) for conversation in conversations]
    order = sorted(range(len(prompts)), key=lambda i: -len(prompts[i]))
    answers: dict[int, Answer] = {}
    for start in range(0, len(order), batch_size):
        batch = order[start : start + batch_size]
        letters = [list(conversations[i]["letters"]) for i in batch]
        for i, letter in zip(batch, _likeliest(engine, [prompts[i][-limit:] for i in batch], letters), strict=True):
            answers[i] = Answer(letter, bool(task.evaluate(conversations[i], letter)), CUT if len(prompts[i]) > limit else LETTER)
        progress(len(answers))
    return [answers[i] for i in range(len(prompts))]


@torch.inference_mode
def _likeliest(engine: Engine, prompts: list[list[int]], letters: list[list[str]]) -> list[str]:
    """Which of its letters each prompt goes on with most probably; the first wins ties."""
    rows = [row for row, some in enumerate(letters) for _ in some]
    tokens = [_token_of(engine.tokenizer, letter) for some in letters for letter in some]
    scores = _logits_after(engine, prompts)[rows, tokens].tolist()
    if any(map(math.isnan, scores)):
        raise FloatingPointError("the model's logits are not numbers: its weights are damaged")
    chosen, start = [], 0
    for some in letters:
        own = scores[start : start + len(some)]
        chosen.append(some[own.index(max(own))])
        start += len(some)
    return chosen


def _token_of(tokenizer: Tokenizer, letter: str) -> int:
    tokens = tokenizer.encode(letter)
    assert len(tokens) == 1, f"{letter!r} is {len(tokens)} tokens: the letters of a categorical task must be one each"
    return tokens[0]


def _logits_after(engine: Engine, prompts: list[list[int]]) -> torch.Tensor:
    """(prompts, V). Padding stands on the right, where a causal model does not see it, and the head, which is half of a small model, is asked only at
    each prompt's end. Through a cache, because that takes prompts that are longer than what the model was trained on."""
    model, device = engine.model, engine.device
    lengths = torch.tensor(list(map(len, prompts)), device=device)
    T = max(map(len, prompts))
    if model.cos.size(1) < T:
        model.extend_rotary(T)
        if engine.graphs is not None:  # they read the tables that were there before
            engine.graphs.clear()
    idx = torch.tensor([prompt + [0] * (T - len(prompt)) for prompt in prompts], device=device)  # (n, T)
    x = model.hidden(idx, KVCache.for_model(model, len(prompts), T).append(T))
    return model.logits(x[torch.arange(len(prompts), device=device), lengths - 1])


# --- what the model writes -------------------------------------------------------------------------------------------


def spoken(tokenizer: Tokenizer, tokens: Sequence[int]) -> str:
    """What the assistant says: the text without its tool calls, what the tools have answered, and special tokens. What is opened and never closed is
    not spoken."""
    special = tokenizer.special
    closing = {special[f"<|{kind}_start|>"]: special[f"<|{kind}_end|>"] for kind in ("python", "output")}
    no_text = frozenset(special.values())
    said, end = [], None
    for token in tokens:
        if end is not None:
            end = None if token == end else end
        elif token in closing:
            end = closing[token]
        elif token not in no_text:
            said.append(token)
    return tokenizer.decode(said)


def evaluate_generative(
    engine: Engine, task, indices: Sequence[int], num_samples: int = 1, max_new_tokens: int = 512, temperature: float = 0.0, top_k: int = 50,
    seed: int = 42, progress: Callable[[int], None] = lambda done: None,
) -> list[list[Answer]]:  # fmt: skip
    """The answers to each of the items, written and judged. Item i has the seed `seed + i` whoever else is asked, so ranks change nothing. Near the
    end of the context answers are as long as they can be; a prompt that fills it gets empty ones, which are wrong."""
    conversations = [task[i] for i in indices]
    prompts = [engine.tokenizer.render_for_completion(conversation) for conversation in conversations]
    fits = [i for i, prompt in enumerate(prompts) if len(prompt) < engine.context]
    seeds = [seed + indices[i] for i in fits]
    made = engine.generate_many([prompts[i] for i in fits], num_samples, max_new_tokens, temperature, top_k, seeds, progress)
    samples = dict(zip(fits, made, strict=True))

    def judged(conversation: dict, sample: Sample) -> Answer:
        text = spoken(engine.tokenizer, sample.tokens)
        return Answer(text, bool(task.evaluate(conversation, text)), sample.finish_reason)

    return [
        [judged(conversation, sample) for sample in samples[i]] if i in samples else [Answer("", False, NO_ROOM)] * num_samples
        for i, conversation in enumerate(conversations)
    ]


# --- a task, on all ranks --------------------------------------------------------------------------------------------


def evaluate_task(
    engine: Engine, task, compute: Compute | None = None, max_problems: int | None = None, batch_size: int = 8, num_samples: int = 1,
    max_new_tokens: int = 512, temperature: float = 0.0, top_k: int = 50, seed: int = 42, label: str = "",
) -> TaskResult:  # fmt: skip
    """The first max_problems items (None or -1: all), shared among the ranks; each rank has the result of all. batch_size is for categorical tasks:
    with the others the engine knows how many rows it has."""
    from huggingface_hub.utils import tqdm

    started, label = time.perf_counter(), label or type(task).__name__
    rank, world_size = (compute.rank, compute.world_size) if compute else (0, 1)
    total = len(task) if max_problems in (None, -1) else min(max_problems, len(task))
    assert total > 0, f"{label} has no items"
    indices = range(rank, total, world_size)
    with tqdm(desc=label, total=len(indices), leave=False, disable=True if rank else None) as bar:

        def progress(done: int) -> None:
            bar.update(done - bar.n)

        if task.eval_type == "categorical":
            mine = [[answer] for answer in choose_letters(engine, task, indices, batch_size, progress)]
        else:
            mine = evaluate_generative(engine, task, indices, num_samples, max_new_tokens, temperature, top_k, seed, progress)
    of_ranks = _gather(mine, world_size)
    answers = [of_ranks[i % world_size][i // world_size] for i in range(total)]
    for ended, what in (
        (NO_ROOM, f"leave no room for an answer in a context of {engine.context:,} tokens and count as wrong"),
        (CUT, f"are longer than the {longest_prompt(engine.model.config):,} tokens that this model can take and were cut from the left"),
    ):
        if count := sum(some[0].ended == ended for some in answers):
            print0(f"note: {count} of the {total} prompts of {label} {what}")
    return TaskResult(answers, time.perf_counter() - started)


def _gather(mine: list[list[Answer]], world_size: int) -> list[list[list[Answer]]]:
    if world_size == 1:
        return [mine]
    import torch.distributed as dist

    everyone: list = [None] * world_size
    dist.all_gather_object(everyone, mine)
    return everyone
