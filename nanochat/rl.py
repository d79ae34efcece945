"""The arithmetic of reinforcement learning: several answers to each question are sampled and rewarded, and what was better than its siblings becomes
likelier. It is GRPO (arXiv 2402.03300) as plain REINFORCE: on-policy but for top-k, so without ratio and clipping; without a KL term. An advantage is
a reward less its group's mean, not divided by the deviation (arXiv 2503.20783); every token of a step counts alike (arXiv 2503.14476)."""

import zlib
from collections.abc import Iterator, Sequence
from typing import NamedTuple

import torch

from nanochat.chat_eval import spoken
from nanochat.engine import Engine, Sample


class Group(NamedTuple):
    """The answers to one question."""

    prompt: list[int]
    samples: list[Sample]
    rewards: list[float]

    @property
    def advantages(self) -> list[float]:
        mean = sum(self.rewards) / len(self.rewards)
        return [reward - mean for reward in self.rewards]

    @property
    def even(self) -> bool:
        """Whether there is nothing to learn: all advantages are zero, and so is the gradient. NaN is like nothing else, not even itself."""
        return all(reward == self.rewards[0] for reward in self.rewards)


class Answer(NamedTuple):
    """A row to train on."""

    tokens: list[int]  # with the prompt, and with the token that ended it: to end there was a choice as well
    chosen: list[int]  # 1: by the model; 0: the prompt, and what tools have put into its mouth
    advantage: float


def roll_out(
    engine: Engine, task, indices: Sequence[int], num_samples: int, max_tokens: int, temperature: float, top_k: int, seed: object
) -> list[Group]:
    """A group for each conversation of the task, all of them decoded together; a conversation that leaves no room for an answer has none. Its samples
    depend on seed and index only, so it does not matter which rank makes them."""
    conversations = [task[i] for i in indices]
    prompts = [engine.tokenizer.render_for_completion(conversation) for conversation in conversations]
    fitting = [k for k, prompt in enumerate(prompts) if len(prompt) < engine.context]
    seeds = [zlib.crc32(f"{seed}/{indices[k]}".encode()) for k in fitting]
    made = engine.generate_many([prompts[k] for k in fitting], num_samples, max_tokens, temperature, top_k, seed=seeds)
    return [
        Group(prompts[k], samples, [float(task.reward(conversations[k], spoken(engine.tokenizer, s.tokens))) for s in samples])
        for k, samples in zip(fitting, made, strict=True)
    ]


def answers_of(groups: Sequence[Group]) -> list[Answer]:
    """What there is to train on, the longest first, so that neighbours can share a batch with little padding."""
    answers = []
    for group in groups:
        for sample, advantage in zip(group.samples, group.advantages, strict=True):
            end = [] if sample.stop_token is None else [sample.stop_token]
            answers.append(Answer(group.prompt + sample.tokens + end, [0] * len(group.prompt) + sample.masks + [1] * len(end), advantage))
    return sorted(answers, key=lambda answer: -len(answer.tokens))


def count_chosen(groups: Sequence[Group]) -> int:
    """The tokens that the model has chosen: what the loss of a step is divided by."""
    return sum(sum(answer.chosen) for answer in answers_of(groups))


def policy_batches(
    answers: Sequence[Answer], batch_size: int, sequence_len: int, device: torch.device
) -> Iterator[tuple[torch.Tensor, torch.Tensor, torch.Tensor]]:
    """x, y (B, T) and advantages (B,). y is -1 but for what the model chose."""
    for start in range(0, len(answers), batch_size):
        batch = answers[start : start + batch_size]
        T = min(max(len(answer.tokens) for answer in batch) - 1, sequence_len)
        x, y = torch.zeros(len(batch), T, dtype=torch.long), torch.full((len(batch), T), -1)
        for row, answer in enumerate(batch):
            tokens, chosen = (torch.tensor(values[: T + 1]) for values in (answer.tokens, answer.chosen))
            x[row, : len(tokens) - 1] = tokens[:-1]
            y[row, : len(tokens) - 1] = torch.where(chosen > 0, tokens, -1)[1:]
        yield x.to(device), y.to(device), torch.tensor([answer.advantage for answer in batch], device=device)


def policy_loss(model, x: torch.Tensor, y: torch.Tensor, advantages: torch.Tensor) -> torch.Tensor:
    """The sum of advantage times -log p over the chosen tokens. Its gradient is that of the expected reward, with the sign turned, if answers are
    sampled at temperature 1 and without top-k."""
    return (advantages @ model(x, y, loss_reduction="none")).sum()
