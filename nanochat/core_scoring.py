"""Scoring the options of multiple-choice questions with a fraction of the work: what a question's options have in common is computed once, the
options then side by side in the same row of a KV cache, where each sees the common part and itself; and the head, which is half of a small model,
is asked only at the tokens that count."""

from collections.abc import Sequence
from typing import NamedTuple, Protocol

import torch
import torch.nn.functional as F

from nanochat.gpt import GPT
from nanochat.kv_cache import Append, KVCache

SHORT, LONGEST = 256, 1024  # tokens of all options together, beside what they share
LOGITS_ROWS = 256  # positions whose logits, a row of the vocabulary each in float32, are held at a time


class Question(Protocol):
    """What core_eval.Example offers: options, each a whole sequence of which the tokens from its start on count."""

    options: list[list[int]]
    starts: list[int]


class CachedScorer:
    """score(questions) -> for each option of each: (mean loss of the tokens that count, whether the model would have said just these).

    By the weights that the model has when this is made."""

    def __init__(self, model: GPT):
        self.model = model.for_inference()
        self.device = model.get_device()

    @torch.inference_mode
    def __call__(self, questions: Sequence[Question]) -> list[list[tuple[float, bool]]]:
        apart = [not _worth_sharing(q) for q in questions]
        if any(apart) and any(len(q.options) > 1 for q in questions):  # each option as a question of its own
            singles = [Single([o], [s]) for q, alone in zip(questions, apart, strict=True) if alone for o, s in zip(q.options, q.starts, strict=True)]
            together = [q for q, alone in zip(questions, apart, strict=True) if not alone]
            one, several = iter(self(singles)), iter(self(together) if together else [])
            return [[next(one)[0] for _ in q.options] if alone else next(several) for q, alone in zip(questions, apart, strict=True)]
        if all(len(q.options) == 1 for q in questions):  # nothing to share: the last token alone is left out, it predicts nothing
            shared = [len(q.options[0]) - 1 for q in questions]
            x = self._common_part(questions, shared, KVCache.for_model(self.model, len(questions), max(1, *shared)))
            shared, first_columns = [0] * len(questions), [[0]] * len(questions)  # where x begins
        else:
            shared = [_shared_length(q) for q in questions]
            rest = max(sum(len(option) - 1 - length for option in q.options) for q, length in zip(questions, shared, strict=True))
            cache = KVCache.for_model(self.model, len(questions), max(1, *shared) + rest)
            self._common_part(questions, shared, cache)
            branches = Branches(cache, questions, shared)
            x, first_columns = self.model.hidden(branches.idx, branches), branches.first_columns

        states, targets, counts = [], [], []  # of every token that counts: what predicts it, and what it is; and how many an option has
        for row, (q, length) in enumerate(zip(questions, shared, strict=True)):
            for option, start, column in zip(q.options, q.starts, first_columns[row], strict=True):
                first, count = column + start - 1 - length, len(option) - start
                states.append(x[row, first : first + count])
                targets += option[start:]
                counts.append(count)
        losses, right = self._judge(torch.cat(states), torch.tensor(targets, device=self.device))
        scores = iter(zip((part.mean().item() for part in losses.split(counts)), (bool(part.all()) for part in right.split(counts)), strict=True))
        return [[next(scores) for _ in q.options] for q in questions]

    def _common_part(self, questions: Sequence[Question], shared: list[int], cache: KVCache) -> torch.Tensor:
        """Run the model over the beginnings of the questions."""
        longest = max(1, *shared)
        rows = [q.options[0][:length] + [0] * (longest - length) for q, length in zip(questions, shared, strict=True)]
        idx = torch.tensor(rows, device=self.device)
        lengths = torch.tensor(shared, device=self.device).clamp_min(1)
        return self.model.hidden(idx, Append(cache, [0] * len(questions), longest, lengths))

    def _judge(self, x: torch.Tensor, targets: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """The loss of each target (n,) after its state x (n, C), and whether it is the likeliest token."""
        losses, right = [], []
        for part, wanted in zip(x.split(LOGITS_ROWS), targets.split(LOGITS_ROWS), strict=True):
            logits = self.model.logits(part)
            losses.append(F.cross_entropy(logits, wanted, reduction="none"))
            right.append(logits.argmax(dim=-1) == wanted)
        return torch.cat(losses).cpu(), torch.cat(right).cpu()


class Single(NamedTuple):
    options: list[list[int]]
    starts: list[int]


def _worth_sharing(question: Question) -> bool:
    """Side by side, options are masked from each other one by one, which is only good for short ones."""
    shared = _shared_length(question)
    rest = sum(len(option) - 1 - shared for option in question.options)
    return len(question.options) > 1 and rest <= min(max(shared, SHORT), LONGEST)


def _shared_length(question: Question) -> int:
    """How many tokens all options begin with; fewer than come before the first that counts, since what predicts that one is looked at."""
    limit = min(question.starts) - 1
    return next((i for i in range(limit) if len({option[i] for option in question.options}) > 1), limit)


class Branches(Append):
    """The rests of a question's options appended to its row of the cache: one after the other in memory, but each at the positions that follow the
    common part, and each hidden from the others."""

    def __init__(self, cache: KVCache, questions: Sequence[Question], shared: list[int]):
        tokens, positions, owners, self.first_columns = [], [], [], []
        for question, length in zip(questions, shared, strict=True):
            rests = [option[length:-1] for option in question.options]
            tokens.append([token for rest in rests for token in rest])
            positions.append([length + i for rest in rests for i in range(len(rest))])
            owners.append([o for o, rest in enumerate(rests) for _ in rest])
            self.first_columns.append([sum(map(len, rests[:o])) for o in range(len(rests))])
        T = max(map(len, tokens))
        for row in range(len(tokens)):  # padding goes on with the last option: a token that saw nothing would be NaN
            padding = T - len(tokens[row])
            positions[row] += [positions[row][-1] + 1 + i for i in range(padding)]
            owners[row] += [owners[row][-1]] * padding
            tokens[row] += [0] * padding
        super().__init__(cache, shared, T)
        device = self.positions.device
        self.start = None  # a row's new tokens are no one piece, even where all rows begin alike
        self.places = torch.arange(self.rows, device=device)[:, None], self.positions  # one after the other, as they would be appended
        self.idx, self.positions, self.owners = (torch.tensor(x, device=device) for x in (tokens, positions, owners))  # (R, T) each
        self.shared = torch.tensor(shared, device=device)[:, None]  # (R, 1)

    def predecessors(self, x: torch.Tensor) -> torch.Tensor:
        before_all = self.cache.previous * (self.shared > 0)  # (R, C)
        before = torch.cat((before_all[:, None], x[:, :-1]), dim=1)
        for row, columns in enumerate(self.first_columns):
            before[row, columns] = before_all[row]
        return before

    def _mask(self, window: int) -> torch.Tensor:
        column = torch.arange(self.end, device=self.positions.device).expand(self.rows, -1)  # (R, end), of the cache
        own = column - self.shared  # which of the row's new tokens it is, < 0: of the common part
        key = torch.where(own < 0, column, self.positions.gather(1, own.clamp(0, self.T - 1)))[:, None]  # (R, 1, end)
        owner = torch.where(own < 0, -1, self.owners.gather(1, own.clamp(0, self.T - 1)))[:, None]
        query = self.positions[..., None]  # (R, T, 1)
        visible = ((owner == -1) | (owner == self.owners[..., None])) & (key <= query) & (query - key <= window) & (own < self.T)[:, None]
        return torch.zeros(visible.shape, dtype=self.cache.k_cache.dtype, device=visible.device).masked_fill_(~visible, float("-inf"))
