"""Batches of conversations: each whole and once an epoch, the same on any number of ranks, resumed exactly; targets are what the assistant says."""

import itertools
import random

import numpy as np
import pytest
import torch

from nanochat.common import Compute, UserError
from nanochat.dataloader import SftState, sft_batches

T = 256


def compute(rank: int = 0, world_size: int = 1) -> Compute:
    return Compute(world_size > 1, rank, rank, world_size, torch.device("cpu"))


def conversations(count: int, words: int, seed: int = 1) -> list[dict]:
    """Each begins with its number, so that it can be told from the others. `words` is the mean length of an answer."""
    r = random.Random(seed)

    def text(most: int) -> str:
        return " ".join(r.choices(["tea", "river", "mouse", "seven", "old", "hums", "because", "Anna"], k=r.randint(1, most)))

    return [
        {"messages": [{"role": "user", "content": f"#{i}. {text(8)}?"}, {"role": "assistant", "content": text(2 * words)}] * r.randint(1, 2)}
        for i in range(count)
    ]


def first_parts(tokenizer, row: list[int]) -> list[list[int]]:
    """The conversations of a row of inputs: what begins with BOS. Padding is token 0, which no conversation ends with."""
    starts = [i for i, token in enumerate(row) if token == tokenizer.bos] + [len(row)]
    return [row[a:b] for a, b in itertools.pairwise(starts)]


def until_epoch(batches, epoch: int = 2) -> list:
    taken = []
    for x, y, state in batches:
        taken.append((x, y, state))
        if state.epoch >= epoch:
            return taken
    raise AssertionError("it never ends")


def test_targets_token_by_token(tokenizer):
    """Every kind of part of a message, against the mask spelled out by hand."""
    s = tokenizer.special
    parts = [{"type": "text", "text": "Let me see. "}, {"type": "python", "text": "2*3"}, {"type": "python_output", "text": "6"},
             {"type": "text", "text": "It is 6."}]  # fmt: skip
    conversation = {
        "messages": [
            {"role": "system", "content": "Be brief."}, {"role": "user", "content": "2*3?"}, {"role": "assistant", "content": parts},
            {"role": "user", "content": "Thanks"}, {"role": "assistant", "content": "Welcome"},
        ]
    }  # fmt: skip

    def encoded(text: str, trained: bool) -> list[tuple[int, bool]]:
        return [(token, trained) for token in tokenizer.encode(text)]

    def one(name: str, trained: bool) -> tuple[int, bool]:
        return s[f"<|{name}|>"], trained

    expected = [
        one("bos", False), one("user_start", False), *encoded("Be brief.\n\n2*3?", False), one("user_end", False), one("assistant_start", False),
        *encoded("Let me see. ", True), one("python_start", True), *encoded("2*3", True), one("python_end", True),
        one("output_start", False), *encoded("6", False), one("output_end", False), *encoded("It is 6.", True), one("assistant_end", True),
        one("user_start", False), *encoded("Thanks", False), one("user_end", False), one("assistant_start", False),
        *encoded("Welcome", True), one("assistant_end", True),
    ]  # fmt: skip
    x, y, _ = next(sft_batches(tokenizer, [conversation], 1, 60, compute(), prefetch=False))
    assert len(expected) < 60
    assert x[0, : len(expected)].tolist() == [token for token, _ in expected] and not x[0, len(expected) :].any()
    assert y[0].tolist() == [token if trained else -1 for token, trained in expected[1:]] + [-1] * (60 - len(expected) + 1)


@pytest.mark.parametrize("words", [20, 400])
def test_an_epoch_has_each_conversation_once(tokenizer, words):
    """Also where most are longer than a row: they are cut, and nothing is stuck."""
    data = conversations(60, words)
    lengths = [len(tokenizer.render_conversation(c, None)[0]) for c in data]
    assert words == 20 or np.mean(lengths) > 500
    rendered = [tokenizer.render_conversation(c, T + 1)[0] for c in data]
    seen, cut = [], [row[:T] for row in rendered]
    batches = until_epoch(sft_batches(tokenizer, data, 1, T, compute(), prefetch=False))
    for x, y, _ in batches:
        assert x.shape == y.shape == (1, T) and x.dtype == y.dtype == torch.int64
        for part in first_parts(tokenizer, x[0].tolist()):
            matches = [i for i, row in enumerate(cut) if part[: len(row)] == row[: len(part)] and not any(part[len(row) :])]
            seen.append(matches[0] if len(matches) == 1 else matches)
    assert sorted(seen) == list(range(60))
    assert batches[-1][2].epochs == 1 and batches[-1][2].taken == 0 and not batches[-1][2].waiting


def test_nothing_is_cropped_that_fits_and_little_is_padding(tokenizer):
    data = conversations(300, 20)
    taken = until_epoch(sft_batches(tokenizer, data, 2, T, compute(), prefetch=False))
    tokens = sum(len(tokenizer.render_conversation(c, None)[0]) for c in data)
    assert tokens / (2 * (T + 1) * len(taken)) > 0.95


@pytest.mark.parametrize("world_size", [2, 3, 4])
def test_ranks_share_the_same_global_rows(tokenizer, world_size):
    data = conversations(50, 30)
    one = sft_batches(tokenizer, data, 12, T, compute(), prefetch=False)
    many = [sft_batches(tokenizer, data, 12 // world_size, T, compute(rank, world_size), prefetch=False) for rank in range(world_size)]
    for _ in range(4):
        x, y, state = next(one)
        parts = [next(batches) for batches in many]
        for whole, pieces in ((x, [p[0] for p in parts]), (y, [p[1] for p in parts])):
            assert torch.equal(whole, torch.stack(pieces, dim=1).flatten(0, 1))
        assert all(p[2] == state for p in parts)


@pytest.mark.parametrize("stop", [1, 3, 4, 5, 9])
def test_resuming_is_exact(tokenizer, stop):
    """Also across the end of an epoch, with a buffer smaller than the data, and from a state that went through a file."""
    data = conversations(40, 30)
    whole = list(itertools.islice(sft_batches(tokenizer, data, 3, T, compute(), buffer_size=10, prefetch=False), 18))
    assert whole[-1][2].epoch > 2
    state = SftState.from_state_dict(whole[stop - 1][2].state_dict())
    rest = list(itertools.islice(sft_batches(tokenizer, data, 3, T, compute(), state, buffer_size=10), 18 - stop))
    for (x, y, after), (x2, y2, after2) in zip(whole[stop:], rest, strict=True):
        assert torch.equal(x, x2) and torch.equal(y, y2) and after == after2


def test_resuming_on_another_number_of_ranks(tokenizer):
    data = conversations(40, 30)
    batches = sft_batches(tokenizer, data, 6, T, compute(), prefetch=False)
    _, _, state = next(batches)
    x, y, _ = next(batches)
    parts = [next(sft_batches(tokenizer, data, 3, T, compute(rank, 2), state, prefetch=False)) for rank in range(2)]
    assert torch.equal(x, torch.stack([p[0] for p in parts], dim=1).flatten(0, 1))
    assert torch.equal(y, torch.stack([p[1] for p in parts], dim=1).flatten(0, 1))


def test_how_much_has_been_seen_only_grows(tokenizer):
    batches = sft_batches(tokenizer, conversations(40, 30), 2, T, compute(), prefetch=False)
    epochs = [state.epochs for _, _, state in itertools.islice(batches, 20)]
    assert epochs == sorted(epochs) and 0 < epochs[0] < 1 < epochs[-1]


def test_what_is_wrong_is_said(tokenizer):
    data = conversations(5, 5)
    with pytest.raises(UserError, match="no conversations"):
        sft_batches(tokenizer, [], 1, T, compute())
    with pytest.raises(UserError, match="at least"):
        sft_batches(tokenizer, data, 0, T, compute())
    state = next(sft_batches(tokenizer, data, 1, T, compute(), prefetch=False))[2]
    for other, length in ((data[:4], T), (data, T // 2)):
        with pytest.raises(UserError, match="belongs to other batches"):
            sft_batches(tokenizer, other, 1, length, compute(), state)
