"""The engine against full forward passes, token by token; who comes and goes changes nothing for the others."""

import codecs
import gc
import os
import random
import subprocess
import sys
import threading
import time
from collections import Counter
from pathlib import Path

import pytest
import torch
from helpers import LargestTensor

from nanochat import engine as engine_module
from nanochat.common import UserError
from nanochat.engine import READY, DecodeGraphs, Engine, InferenceEngine, Request, TextStream, choose
from nanochat.gpt import GPT, GPTConfig, new_model
from nanochat.kv_cache import KVCache

pytestmark = pytest.mark.usefixtures("one_thread")
NO_STOP = frozenset()


@pytest.fixture(autouse=True)
def float32(monkeypatch):
    monkeypatch.setenv("NANOCHAT_DTYPE", "float32")


def small_model(vocab_size: int, n_kv_head: int = 4, sequence_len: int = 512) -> GPT:
    """Windows of 128 tokens in two of three layers, and weights that make every part matter."""
    torch.manual_seed(0)
    model = new_model(GPTConfig(sequence_len, vocab_size, 3, 4, n_kv_head, 64, "SSL"), "cpu").eval()
    with torch.no_grad():
        for p in model.parameters():
            p.add_(torch.randn_like(p) * 0.1)
        model.lm_head.weight.normal_(std=0.5)
    return model


@pytest.fixture(scope="module")
def model(tokenizer) -> GPT:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("NANOCHAT_DTYPE", "float32")
        return small_model(tokenizer.get_vocab_size())


@pytest.fixture
def engine(model, tokenizer) -> Engine:
    return Engine(model, tokenizer)


def random_prompts(count: int, longest: int, vocab: int, seed: int = 1) -> list[list[int]]:
    dice = random.Random(seed)
    return [[dice.randrange(vocab) for _ in range(dice.randint(1, longest))] for _ in range(count)]


# --- the cache -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("n_kv_head", [4, 2, 1])
@pytest.mark.parametrize("cuts", [(0, 300), (0, 1, 2, 300), (0, 100, 101, 230, 300), (0, 129, 300)])
def test_appending_to_a_cache_is_exact(n_kv_head, cuts):
    model = small_model(200, n_kv_head)
    idx = torch.randint(0, 200, (3, 300))
    with torch.inference_mode():
        cache = KVCache(3, n_kv_head, 300, 16, 3, "cpu", torch.float32)
        pieces = [model(idx[:, a:b], kv_cache=cache) for a, b in zip(cuts, cuts[1:], strict=False)]
        torch.testing.assert_close(torch.cat(pieces, dim=1), model(idx), atol=2e-5, rtol=0)
    assert cache.get_pos() == 300


def test_rows_at_positions_of_their_own():
    model = small_model(200)
    rows = [torch.randint(0, 200, (1, n)) for n in (7, 200, 31)]
    with torch.inference_mode():
        cache = KVCache(4, 4, 256, 16, 3, "cpu", torch.float32)
        for row, idx in enumerate(rows):
            alone = KVCache(1, 4, idx.size(1), 16, 3, "cpu", torch.float32)
            model(idx, kv_cache=alone)
            cache.copy_row(row, alone, 0)
        cache.copy_row(3, cache, 1)  # a row may be copied within the cache
        new = torch.randint(0, 200, (4, 5))
        together = [model(new[:, a:b], kv_cache=cache) for a, b in ((0, 1), (1, 2), (2, 5))]
        for row, idx in enumerate([*rows, rows[1]]):
            whole = model(torch.cat([idx, new[row : row + 1]], dim=1))[:, -5:]
            torch.testing.assert_close(torch.cat(together, dim=1)[row : row + 1], whole, atol=2e-5, rtol=0)
    assert [cache.get_pos(row) for row in range(4)] == [12, 205, 36, 205]


def test_the_interface_of_a_cache():
    model = small_model(200)
    prompt, new = torch.randint(0, 200, (1, 20)), torch.randint(0, 200, (3, 1))
    with torch.inference_mode():
        one = KVCache(batch_size=1, num_heads=4, seq_len=20, head_dim=16, num_layers=3, device="cpu", dtype=torch.float32)
        assert one.get_pos() == 0
        model(prompt, kv_cache=one)
        many = KVCache(3, 4, 32, 16, 3, "cpu", torch.float32)
        many.prefill(one)
        assert many.get_pos(2) == 20 and many.k_cache.shape == (3, 3, 32, 4, 16)
        keys, values = many.get_layer_cache(1)
        assert torch.equal(keys[2, :20], one.k_cache[1, 0]) and torch.equal(values[2, :20], one.v_cache[1, 0])
        with pytest.raises(AssertionError, match="empty"):
            many.prefill(one)
        first = model(new, kv_cache=many)
        many.reset()
        assert many.get_pos() == 0
        many.prefill(one)
        assert torch.equal(model(new, kv_cache=many), first)
        with pytest.raises(AssertionError, match="do not fit"):
            model(torch.zeros(3, 12, dtype=torch.long), kv_cache=many)


def test_rotary_tables_grow(tokenizer):
    short, long = (small_model(300, sequence_len=n) for n in (32, 512))
    engine = Engine(short, tokenizer, context=64)
    engine.model.windows = long.windows = (128, 128, 128)  # otherwise the shorter model sees less
    prompt = random_prompts(1, 1, 300)[0] * 40
    assert greedy(engine, prompt, 20) == list(long.generate(prompt, 20, temperature=0))


def greedy(engine: Engine, prompt: list[int], count: int) -> list[int]:
    return [column[0] for column, _ in engine.generate(prompt, 1, count, temperature=0, stop_tokens=NO_STOP, tools=False)]


# --- greedy: the same tokens as by full forward passes -----------------------------------------------------------------


@pytest.mark.parametrize("n_kv_head", [4, 2])
def test_greedy_equals_full_forward_passes(tokenizer, n_kv_head):
    """100 prompts by all three ways in, arriving while others decode, a fifth of them cancelled."""
    vocab = tokenizer.get_vocab_size()
    model = small_model(vocab, n_kv_head)
    prompts = random_prompts(100, 300, vocab)
    expected = [list(model.generate(prompt, 6, temperature=0)) for prompt in prompts]
    settings = {"temperature": 0, "stop_tokens": NO_STOP, "tools": False}
    engine = Engine(model, tokenizer, max_rows=16)

    assert [samples[0].tokens for samples in engine.generate_many(prompts, max_tokens=6, **settings)] == expected
    assert [greedy(engine, prompt, 6) for prompt in prompts[:10]] == expected[:10]

    engine = Engine(model, tokenizer, max_rows=5)
    engine.prefill_tokens = 100
    dice, streams = random.Random(2), []
    while len(streams) < 100 or engine.busy:
        for _ in range(dice.randint(0, 3)):
            if len(streams) < 100:
                streams.append(engine.submit(Request(prompts[len(streams)], max_tokens=6, **settings)))
        engine.step()
        for i, stream in enumerate(streams):
            if i % 5 == 0 and len(stream.samples[0].tokens) >= i // 5 % 6:
                stream.cancel()
    for i, stream in enumerate(streams):
        sample = stream.samples[0]
        assert sample.finish_reason == ("cancelled" if i % 5 == 0 else "length")
        assert sample.tokens == expected[i][: len(sample.tokens)] and (i % 5 == 0 or len(sample.tokens) == 6)
    assert sum(len(stream.samples[0].tokens) < 6 for stream in streams) > 10  # some were cancelled half-way


# --- sampling ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("own", [{}, {"top_k": 20}, {"top_p": 0.7}, {"top_k": 50, "top_p": 0.9, "temperature": 0.6}])
def test_company_changes_nothing(model, tokenizer, own):
    settings = {"max_tokens": 12, "stop_tokens": NO_STOP, "tools": False}
    prompts = random_prompts(17, 100, tokenizer.get_vocab_size(), seed=3)
    request = Request(prompts[0], num_samples=2, **{"seed": 7, **settings, **own})
    alone = Engine(model, tokenizer).submit(request)
    list(alone)
    engine = Engine(model, tokenizer, max_rows=12)
    others = [Request(p, seed=i, temperature=i % 3 / 2, top_k=i % 4 * 5, top_p=1 - i % 5 / 10, **settings) for i, p in enumerate(prompts[1:])]
    streams = [engine.submit(r) for r in [*others[:8], request, *others[8:]]]
    while engine.step():
        pass
    assert [s.tokens for s in streams[8].samples] == [s.tokens for s in alone.samples]
    assert alone.samples[0].tokens != alone.samples[1].tokens


def test_seeds(engine, tokenizer):
    prompt = tokenizer.encode("The capital of", prepend=tokenizer.bos)

    def sample(seed: int, n: int) -> list[list[int]]:
        return [s.tokens for s in engine.generate_many([prompt], n, 10, 1.0, seed=seed, stop_tokens=NO_STOP)[0]]

    assert sample(1, 3) == sample(1, 3) and sample(1, 3)[:1] == sample(1, 1) and sample(1, 3) != sample(2, 3)


def drawn(logits: torch.Tensor, draws: int = 5000, **settings) -> torch.Tensor:
    request = Request([0], **settings)
    tokens = choose(logits.expand(draws, -1), [request] * draws, [(i + 0.5) / draws for i in range(draws)])
    return torch.bincount(torch.tensor(tokens), minlength=logits.numel()) / draws


def test_tokens_are_drawn_by_their_probabilities():
    torch.manual_seed(1)
    logits = torch.randn(50) * 2
    torch.testing.assert_close(drawn(logits), logits.softmax(-1), atol=4e-4, rtol=0)
    torch.testing.assert_close(drawn(logits, temperature=0.5), (logits * 2).softmax(-1), atol=2e-4, rtol=0)
    kept = logits.clone()
    kept[logits < logits.topk(7).values[-1]] = -torch.inf
    torch.testing.assert_close(drawn(logits, top_k=7), kept.softmax(-1), atol=4e-4, rtol=0)
    torch.testing.assert_close(drawn(logits, top_k=1000), logits.softmax(-1), atol=4e-4, rtol=0)
    assert drawn(logits, temperature=0)[logits.argmax()] == 1


@pytest.mark.parametrize("top_k", [0, 12])
@pytest.mark.parametrize("vocab", [50, 5000])
@pytest.mark.parametrize("top_p", [1e-9, 0.3, 0.9, 0.999])
def test_the_nucleus_is_the_smallest_set(vocab, top_p, top_k):
    torch.manual_seed(2)
    logits = torch.randn(vocab) * 0.5  # so flat that with 5000 words the likeliest 1024 do not have 0.9 of the probability
    order = logits.argsort(descending=True)
    p = logits[order].softmax(-1) if top_k == 0 else torch.cat([logits[order[:top_k]].softmax(-1), torch.zeros(vocab - top_k)])
    size = int((p.cumsum(0) < top_p).sum()) + 1
    expected = torch.zeros(vocab)
    expected[order[:size]] = p[:size] / p[:size].sum()
    torch.testing.assert_close(drawn(logits, top_p=top_p, top_k=top_k), expected, atol=4e-4, rtol=0)


@pytest.mark.parametrize("settings", [{"temperature": 1e-40}, {"top_p": 1e-50}, {"top_p": 1e-50, "top_k": 3}, {"temperature": 1e-6, "top_p": 0.5}])
def test_extreme_settings_take_the_likeliest(settings):
    logits = torch.randn(4, 3000)
    assert choose(logits, [Request([0], **settings)] * 4, [0.1, 0.5, 0.9, 0.999]) == logits.argmax(-1).tolist()


def test_company_with_a_flat_distribution(monkeypatch):
    """Of ties, which bfloat16 makes many, one and the same is taken, whatever others need."""
    torch.manual_seed(3)
    own, flat = (torch.randn(1, 5000) * 4).round(), torch.zeros(1, 5000)
    request, other = Request([0], top_p=0.9), Request([0], top_p=0.9, temperature=100)
    for u in (0.0, 0.3, 0.6, 0.89, 0.999):
        alone = choose(own, [request], [u])
        assert choose(torch.cat([flat, own]), [other, request], [0.5, u])[1:] == alone


def test_damaged_weights_are_noticed():
    with pytest.raises(FloatingPointError):
        choose(torch.full((2, 10), torch.nan), [Request([0])] * 2, [0.5, 0.5])


def test_the_ends_of_the_random_numbers():
    logits = torch.tensor([[-torch.inf, 0.0, 1.0, -torch.inf]])
    request = Request([0])
    assert choose(logits, [request], [0.0]) == [1] and choose(logits, [request], [1 - 2**-53]) == [2]


# --- generate, generate_batch ------------------------------------------------------------------------------------------


def script(monkeypatch, *columns: list[int]) -> None:
    """Have the model choose these tokens: columns[t][i] is what sample i chooses as its t-th."""
    taken: Counter = Counter()

    def scripted(logits, requests, uniforms):
        rows = taken["steps"]
        taken["steps"] += 1
        return columns[rows][: len(requests)]

    monkeypatch.setattr(engine_module, "choose", scripted)


def test_columns(engine, tokenizer, monkeypatch):
    end = tokenizer.special["<|assistant_end|>"]
    script(monkeypatch, [1, 2, 3], [4, end, 5], [6, 7], [tokenizer.bos, 8], [10])  # rows move up into the holes
    tokens, masks = zip(*engine.generate([9, 9], num_samples=3, max_tokens=5), strict=True)
    assert tokens == ([1, 2, 3], [4, end, 5], [6, end, 7], [tokenizer.bos, end, 8], [tokenizer.bos, end, 10])
    assert masks == ([1, 1, 1], [1, 1, 1], [1, 0, 1], [1, 0, 1], [0, 0, 1])
    assert not engine.busy


def test_batches_leave_out_terminal_tokens(engine, tokenizer, monkeypatch):
    end = tokenizer.special["<|assistant_end|>"]
    script(monkeypatch, [1, end], [2], [end])
    assert engine.generate_batch([9, 8], 2, max_tokens=10) == ([[9, 8, 1, 2], [9, 8]], [[0, 0, 1, 1], [0, 0]])


def test_no_tokens_wanted(engine):
    assert list(engine.generate([1, 2], max_tokens=0)) == []
    assert engine.generate_batch([1, 2], 2, max_tokens=0) == ([[1, 2], [1, 2]], [[0, 0], [0, 0]])
    assert engine.generate_many([]) == []


def test_who_stops_listening_frees_the_rows(engine):
    for _ in engine.generate([1, 2, 3], num_samples=4, max_tokens=100, stop_tokens=NO_STOP):
        assert len(engine.rows) == 4
        break
    gc.collect()
    assert not engine.step() and not engine.busy and not engine.rows


# --- the calculator ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("expression", "answer"), [("12*3+1", "37"), ("'strawberry'.count('r')", "3"), ("open('x')", None), ("2**9999999", None)])
def test_the_calculator_answers(engine, tokenizer, monkeypatch, expression, answer):
    special = tokenizer.special
    call = [special["<|python_start|>"], *tokenizer.encode(expression), special["<|python_end|>"]]
    end = special["<|assistant_end|>"]
    forced = [] if answer is None else [special["<|output_start|>"], *tokenizer.encode(answer), special["<|output_end|>"]]
    script(monkeypatch, *([token] for token in call), *([5] for _ in forced), [7], [end])
    (tokens,), (masks,) = engine.generate_batch([1], max_tokens=100)
    assert tokens == [1, *call, *forced, 7] and masks == [0, *[1] * len(call), *[0] * len(forced), 1]
    script(monkeypatch, *([token] for token in call), [7], [end])
    assert engine.generate_batch([1], max_tokens=100, tools=False)[0] == [[1, *call, 7]]


def test_the_limit_holds_within_a_tool_call(engine, tokenizer, monkeypatch):
    special = tokenizer.special
    call = [special["<|python_start|>"], *tokenizer.encode("1+1"), special["<|python_end|>"]]
    script(monkeypatch, *([token] for token in call), [5], [5], [5])
    (samples,) = engine.generate_many([[1]], max_tokens=len(call) + 1)
    assert samples[0].tokens == [*call, special["<|output_start|>"]] and samples[0].finish_reason == "length"


def test_what_a_tool_says_ends_nothing(engine, tokenizer, monkeypatch):
    special = tokenizer.special
    call = [special["<|python_start|>"], *tokenizer.encode("1+1"), special["<|python_end|>"]]
    script(monkeypatch, *([token] for token in call), *[[5]] * 8)
    (samples,) = engine.generate_many([[1]], max_tokens=len(call) + 6, stop_tokens=frozenset({special["<|output_end|>"], *tokenizer.encode("2")}))
    assert len(samples[0].tokens) == len(call) + 6


# --- the schedule ------------------------------------------------------------------------------------------------------


def test_a_long_prompt_does_not_stall_the_others(engine, tokenizer):
    engine.prefill_tokens = 32
    settings = {"stop_tokens": NO_STOP, "tools": False}
    short = engine.submit(Request([1, 2, 3], max_tokens=60, **settings))
    engine.step()
    long = engine.submit(Request(random_prompts(1, 1, 900)[0] * 300, max_tokens=5, **settings))
    for step in range(9):  # 9 pieces of 32 and one of 12
        engine.step()
        assert len(short.samples[0].tokens) == step + 2 and not long.samples[0].tokens
    engine.step()
    assert len(long.samples[0].tokens) == 1


def test_a_prompt_is_computed_once_for_its_samples(engine, monkeypatch):
    computed = []
    hidden = engine.model.hidden
    monkeypatch.setattr(engine.model, "hidden", lambda idx, append: computed.append(idx.numel()) or hidden(idx, append))
    engine.max_rows = 3
    samples = engine.generate_many([list(range(50))], num_samples=8, max_tokens=2, stop_tokens=NO_STOP)[0]
    assert [len(s.tokens) for s in samples] == [2] * 8
    assert computed[0] == 50 and sum(computed[1:]) == 8  # one further token of each


def test_a_cancelled_request_frees_its_row_within_a_step(engine):
    engine.max_rows = 2
    streams = [engine.submit(Request([1, 2, i], max_tokens=50, stop_tokens=NO_STOP)) for i in range(3)]
    engine.step()
    engine.step()
    assert not streams[2].samples[0].tokens
    streams[0].cancel()
    engine.step()
    assert streams[0].samples[0].finish_reason == "cancelled" and len(streams[2].samples[0].tokens) == 1
    assert len(streams[1].samples[0].tokens) == 3


def test_memory_is_flat_over_many_requests(tokenizer):
    model = small_model(tokenizer.get_vocab_size())
    engine, dice, sizes = Engine(model, tokenizer, max_rows=8), random.Random(5), []

    def rss() -> int:
        gc.collect()
        return int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")

    open_streams = []
    for i in range(2000):
        prompt = [dice.randrange(900) for _ in range(dice.randint(1, 120))]
        open_streams.append(engine.submit(Request(prompt, max_tokens=dice.randint(1, 6), seed=i, stop_tokens=NO_STOP)))
        if i % 7 == 0:
            open_streams[-1].cancel()
        while len(engine.inbox) + len(engine.waiting) > 8:
            engine.step()
        open_streams = [stream for stream in open_streams if not stream.finished]
        if i in (600, 1999):
            sizes.append((rss(), engine.cache.k_cache.shape))
    assert sizes[0][1] == sizes[1][1]
    assert sizes[1][0] - sizes[0][0] < 8 << 20, sizes


class EagerGraphs(DecodeGraphs):
    """CUDA graphs without CUDA: the same rounding up of rows and keys, the same static inputs and outputs."""

    def _capture(self, cache, rows, end):
        inputs = torch.zeros(2, rows, dtype=torch.long)
        logits = torch.empty(rows, self.model.config.vocab_size)

        class Graph:
            def replay(_):
                logits.copy_(self.step(cache, inputs, end))

        return Graph(), inputs, logits


def test_decoding_with_rows_and_keys_rounded_up(model, tokenizer, monkeypatch):
    """Rows beyond those in use compute nonsense; nobody who joins meanwhile may be touched by it."""
    monkeypatch.setattr(engine_module, "LENGTH_STEP", 64)  # so that the cache grows under way
    prompts = random_prompts(40, 150, tokenizer.get_vocab_size(), seed=6)
    engine, dice = Engine(model, tokenizer, max_rows=7, context=600), random.Random(7)
    engine.graphs = EagerGraphs(engine.model)
    lengths = [dice.randint(1, 12) for _ in prompts]
    streams, captured = [], set()
    while len(streams) < 40 or engine.busy:
        for _ in range(min(dice.randint(0, 2), 40 - len(streams))):
            i = len(streams)
            streams.append(engine.submit(Request(prompts[i], max_tokens=lengths[i], temperature=0, stop_tokens=NO_STOP, tools=False)))
        engine.step()
        captured |= engine.graphs.graphs.keys()
    for prompt, length, stream in zip(prompts, lengths, streams, strict=True):
        assert stream.samples[0].tokens == list(model.generate(prompt, length, temperature=0))
    assert {rows for rows, _ in captured} >= {1, 2, 4, 7} and len({end for _, end in captured}) > 1


def test_short_prompts_are_not_kept_waiting_by_long_ones(engine):
    engine.prefill_tokens = 32
    long = engine.submit(Request([7] * 480, max_tokens=2, stop_tokens=NO_STOP))
    short = engine.submit(Request([1, 2], max_tokens=2, stop_tokens=NO_STOP))
    engine.step()
    assert len(short.samples[0].tokens) == 1 and not long.samples[0].tokens
    list(long)


def test_many_samples_leave_room_for_others(engine):
    engine.max_rows = 4
    many = engine.submit(Request([1, 2], num_samples=50, max_tokens=3, stop_tokens=NO_STOP))
    engine.step()
    one = engine.submit(Request([3], max_tokens=3, stop_tokens=NO_STOP))
    for _ in range(8):
        engine.step()
    assert one.finished and not many.finished
    list(many)
    assert [len(sample.tokens) for sample in many.samples] == [3] * 50


def test_other_threads_may_submit_and_cancel(model, tokenizer):
    engine = Engine(model, tokenizer, max_rows=4)
    prompts = random_prompts(6, 60, tokenizer.get_vocab_size(), seed=8)
    expected = [list(model.generate(prompt, 4, temperature=0)) for prompt in prompts]
    streams, done = [], threading.Event()

    def client(number: int) -> None:
        dice = random.Random(number)
        for _ in range(60):
            i = dice.randrange(6)
            stream = engine.submit(Request(prompts[i], max_tokens=4, temperature=0, stop_tokens=NO_STOP, tools=False))
            streams.append((i, stream))
            if dice.random() < 0.4:
                time.sleep(dice.random() / 200)
                stream.cancel()

    def serve() -> None:
        while not done.is_set() or engine.busy:
            engine.step() or time.sleep(0.001)

    before = sys.getswitchinterval()
    sys.setswitchinterval(1e-5)
    try:
        clients = [threading.Thread(target=client, args=(n,)) for n in range(4)]
        server = threading.Thread(target=serve)
        for thread in (server, *clients):
            thread.start()
        for thread in clients:
            thread.join()
        done.set()
        server.join(timeout=120)
    finally:
        sys.setswitchinterval(before)
    assert len(streams) == 240 and all(stream.finished for _, stream in streams)
    for i, stream in streams:
        sample = stream.samples[0]
        assert sample.tokens == expected[i][: len(sample.tokens)] and (sample.finish_reason == "cancelled" or len(sample.tokens) == 4)


def test_a_cancelled_stream_ends(engine):
    stream = engine.submit(Request([1, 2], max_tokens=20, stop_tokens=NO_STOP))
    stream.cancel()
    assert list(stream) == [] and stream.samples[0].finish_reason == "cancelled"
    stream = engine.submit(Request([1, 2], max_tokens=20, stop_tokens=NO_STOP))
    for seen, _ in enumerate(stream):
        if seen == 2:
            stream.cancel()
    assert len(stream.samples[0].tokens) == 3


def test_one_sample_is_cancelled_and_the_others_go_on(engine):
    engine.max_rows = 2
    stream = engine.submit(Request([1, 2], num_samples=5, max_tokens=6, stop_tokens=NO_STOP))
    whole = engine.generate_many([[1, 2]], 5, 6, stop_tokens=NO_STOP)[0]
    assert [len(sample.tokens) for sample in stream.samples] == [6] * 5
    stream = engine.submit(Request([1, 2], num_samples=5, max_tokens=6, stop_tokens=NO_STOP))
    engine.step()
    stream.cancel(1)  # has a row
    stream.cancel(3)  # has none yet
    engine.step()
    assert [row.number for row in engine.rows] == [0, 2]
    list(stream)
    assert [sample.finish_reason for sample in stream.samples] == ["length", "cancelled", "length", "cancelled", "length"]
    assert [len(sample.tokens) for sample in stream.samples] == [6, 1, 6, 0, 6]
    assert [stream.samples[i].tokens for i in (0, 2, 4)] == [whole[i].tokens for i in (0, 2, 4)]
    assert not engine.step() and not engine.rows


def test_when_a_step_fails_nobody_waits_for_ever(engine, monkeypatch):
    streams = [engine.submit(Request([1, 2, i], max_tokens=9, stop_tokens=NO_STOP)) for i in range(3)]
    engine.step()
    hidden = engine.model.hidden

    def no_memory(*_):
        raise MemoryError

    monkeypatch.setattr(engine.model, "hidden", no_memory)
    with pytest.raises(MemoryError):
        engine.step()
    assert [stream.samples[0].finish_reason for stream in streams] == ["error"] * 3 and not engine.busy
    monkeypatch.setattr(engine.model, "hidden", hidden)
    assert len(greedy(engine, [1, 2], 5)) == 5


# --- log-probabilities -------------------------------------------------------------------------------------------------


@torch.inference_mode()
def thought_of(model: GPT, tokens: list[int]) -> torch.Tensor:
    """(T - 1, V): what a plain forward pass thinks of all tokens but the first."""
    return model(torch.tensor([tokens]))[0, :-1].log_softmax(dim=-1)


def assert_same_thoughts(made: list, expected: torch.Tensor, tokens: list[int], top: int) -> None:
    assert len(made) == len(tokens) == len(expected)
    for thought, row, token in zip(made, expected, tokens, strict=True):
        assert thought.logprob == pytest.approx(float(row[token]), abs=2e-4)
        values = [value for _, value in thought.top]
        assert values == pytest.approx(row.topk(top).values.tolist(), abs=2e-4)
        assert [float(row[t]) for t, _ in thought.top] == pytest.approx(values, abs=2e-4)
        assert dict(thought.top).get(token, thought.logprob) == thought.logprob  # the very same number: people compare the two


@pytest.mark.parametrize("prefill_tokens", [512, 50])
def test_what_the_model_thinks_of_tokens(model, tokenizer, prefill_tokens, monkeypatch):
    """Of prompts and answers, whatever the temperature, among others who ask for more, less or nothing, and in pieces."""
    monkeypatch.setattr(engine_module, "READ_AT_ONCE", 30)
    engine = Engine(model, tokenizer, max_rows=5)
    engine.prefill_tokens = prefill_tokens
    prompts = random_prompts(12, 200, tokenizer.get_vocab_size(), seed=11)
    settings = {"max_tokens": 5, "temperature": 0.7, "top_k": 40, "stop_tokens": NO_STOP, "tools": False}
    asked = [None, 0, 2, 5]
    streams = [engine.submit(Request(p, 2, logprobs=asked[i % 4], prompt_logprobs=i % 3 > 0, **settings)) for i, p in enumerate(prompts)]
    while engine.step():
        pass
    for i, (prompt, stream) in enumerate(zip(prompts, streams, strict=True)):
        top, events = asked[i % 4], stream.take()
        assert stream.prompt_logprobs[0] is None
        if i % 3 > 0:
            assert_same_thoughts(stream.prompt_logprobs[1:], thought_of(model, prompt), prompt[1:], top or 0)
        for number, sample in enumerate(stream.samples):
            made = [event.logprob for event in events if event.sample == number]
            if top is None:
                assert made == [None] * 5
            else:
                assert_same_thoughts(made, thought_of(model, prompt + sample.tokens)[len(prompt) - 1 :], sample.tokens, top)


def test_the_prompt_alone(engine, model, tokenizer):
    """max_tokens=0, which needs no room for an answer. The logits of all positions are never there at once."""
    prompt = [7 * i % 1000 for i in range(512)]
    others = [engine.submit(Request([1, 2, 3], max_tokens=4, stop_tokens=NO_STOP)) for _ in range(2)]
    with LargestTensor() as largest:
        stream = engine.submit(Request(prompt, max_tokens=0, logprobs=1, prompt_logprobs=True))
        assert list(stream) == [] and stream.samples[0].finish_reason == "length"
    assert largest.numel < len(prompt) * tokenizer.get_vocab_size()
    assert_same_thoughts(stream.prompt_logprobs[1:], thought_of(model, prompt), prompt[1:], 1)
    while engine.step():
        pass
    assert not engine.busy and all(len(other.samples[0].tokens) == 4 for other in others)
    alone = engine.submit(Request([5], max_tokens=0, prompt_logprobs=True))
    assert list(alone) == [] and alone.prompt_logprobs == [None] and not engine.busy
    with pytest.raises(UserError, match="do not fit"):
        engine.submit(Request([1] * 513, max_tokens=0, prompt_logprobs=True))


def test_what_a_tool_says_has_no_probability(engine, tokenizer, monkeypatch):
    special = tokenizer.special
    call = [special["<|python_start|>"], *tokenizer.encode("1+1"), special["<|python_end|>"]]
    script(monkeypatch, *([token] for token in call), *[[5]] * 8)
    events = list(engine.submit(Request([1], max_tokens=len(call) + 5, logprobs=0)))
    assert [event.logprob is None for event in events] == [event.mask == 0 for event in events]
    assert [event.finish_reason for event in events] == [None] * (len(events) - 1) + ["length"]


def test_damaged_weights_are_noticed_without_an_answer(tokenizer):
    model = small_model(tokenizer.get_vocab_size())
    with torch.no_grad():
        model.lm_head.weight.fill_(torch.nan)
    with pytest.raises(FloatingPointError):
        list(Engine(model, tokenizer).submit(Request([1, 2], max_tokens=0, prompt_logprobs=True)))


# --- weights -----------------------------------------------------------------------------------------------------------


def test_stale_weights_are_refused(tokenizer):
    model = small_model(tokenizer.get_vocab_size())
    engine = Engine(model, tokenizer)
    before = greedy(engine, [1, 2, 3], 8)
    with torch.no_grad():
        model.lm_head.weight.normal_(std=0.5)
    with pytest.raises(RuntimeError, match=r"call refresh\(\)"):
        engine.submit(Request([1]))
    engine.refresh()
    after = greedy(engine, [1, 2, 3], 8)
    assert after == list(model.generate([1, 2, 3], 8, temperature=0)) != before


def test_weights_may_not_change_under_way(tokenizer):
    model = small_model(tokenizer.get_vocab_size())
    engine = Engine(model, tokenizer)
    stream = engine.submit(Request([1], max_tokens=5, stop_tokens=NO_STOP))
    engine.step()
    with pytest.raises(RuntimeError, match="under way"):
        engine.refresh()
    with torch.no_grad():
        model.resid_lambdas.mul_(1.1)
    with pytest.raises(RuntimeError, match=r"call refresh\(\)"):
        engine.step()
    stream.cancel()
    engine.step()
    engine.refresh()
    assert len(greedy(engine, [1], 5)) == 5


def test_matrices_are_cast_once(monkeypatch, tokenizer):
    monkeypatch.setenv("NANOCHAT_DTYPE", "bfloat16")
    monkeypatch.setattr("nanochat.cpu_kernels.decode_usable", lambda dtype: False)  # they round in another order
    model = small_model(tokenizer.get_vocab_size())
    engine = Engine(model, tokenizer)
    kinds = {name: p.dtype for name, p in engine.model.named_parameters()}
    assert all((dtype == torch.bfloat16) == (dict(model.named_parameters())[name].ndim == 2) for name, dtype in kinds.items())
    assert model.lm_head.weight.dtype == torch.float32
    with torch.no_grad():
        model.lm_head.weight.mul_(2)
    engine.refresh()
    assert torch.equal(engine.model.lm_head.weight, model.lm_head.weight.bfloat16())
    idx = torch.randint(0, 900, (2, 40))
    with torch.inference_mode():
        assert torch.equal(engine.model(idx), model(idx))


# --- bad requests --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("request_", "message"),
    [
        (Request([1] * 500, max_tokens=13), "500 tokens and up to 13 of an answer .* context of 512: .* at most 12"),
        (Request([1] * 512), "512 tokens do not fit .* shorten the prompt$"),
        (Request([]), "empty"), (Request([5000]), "vocabulary"), (Request([-1]), "vocabulary"), (Request([1], num_samples=0), "num_samples"),
        (Request([1], max_tokens=-1), "max_tokens"), (Request([1], temperature=-1), "temperature"),
        (Request([1], temperature=float("nan")), "temperature"),
        (Request([1.5]), "vocabulary"), (Request([1, None]), "vocabulary"), (Request([1], max_tokens=2.5), "max_tokens"),
        (Request([1], top_k=2.5), "top_k"), (Request([1], temperature="warm"), "temperature"),
        (Request([1], logprobs=-1), "logprobs"), (Request([1], logprobs=True), "logprobs"),
        (Request([1], top_k=-5), "top_k"), (Request([1], top_p=0), "top_p"), (Request([1], top_p=1.5), "top_p"),
    ],
)  # fmt: skip
def test_bad_requests_are_refused_before_they_start(engine, request_, message):
    with pytest.raises(UserError, match=message):
        engine.submit(request_)
    assert not engine.busy


def test_as_long_as_the_context_allows(engine):
    stream = engine.submit(Request([1] * 508, stop_tokens=NO_STOP, tools=False))
    list(stream)
    assert len(stream.samples[0].tokens) == 4


def test_many_prompts_get_what_room_there_is(engine):
    """Where submit would refuse, because the caller should know, those who ask many questions at once get shorter answers."""
    settings = {"max_tokens": 10, "stop_tokens": NO_STOP, "tools": False}
    made = engine.generate_many([[1] * length for length in (511, 5, 507, 502)], **settings)
    assert [len(samples[0].tokens) for samples in made] == [1, 10, 5, 10]
    assert all(samples[0].finish_reason == "length" for samples in made)
    with pytest.raises(UserError, match="512 tokens and up to 10 of an answer do not fit"):
        engine.generate_many([[1], [1] * 512], **settings)
    assert not engine.step() and not engine.busy


def test_seeds_of_many_prompts(engine):
    settings = {"max_tokens": 8, "stop_tokens": NO_STOP, "tools": False}
    prompts = [[1, 2], [1, 2], [3]]
    made = [samples[0].tokens for samples in engine.generate_many(prompts, seed=[7, 9, 7], **settings)]
    assert [made[0], made[1]] == [engine.generate_many([[1, 2]], seed=seed, **settings)[0][0].tokens for seed in (7, 9)]
    assert made == [samples[0].tokens for samples in engine.generate_many(prompts[:2], seed=[7, 9], **settings)] + made[2:]
    with pytest.raises(ValueError):
        engine.generate_many(prompts, seed=[7], **settings)


def test_the_oldest_turns_are_dropped_on_demand(model, tokenizer):
    engine = Engine(model, tokenizer, context=100)
    turns = [{"role": role, "content": f"{role} says {i} and then some more words"} for i in range(6) for role in ("user", "assistant")]
    conversation = {"messages": [{"role": "system", "content": "Be brief."}, *turns, {"role": "user", "content": "And now?"}]}
    whole, dropped = engine.fit(conversation, 20)
    assert dropped == 0 and len(whole) > 100
    tokens, dropped = engine.fit(conversation, 20, drop_oldest=True)
    assert len(tokens) + 20 <= 100 and dropped > 0 and dropped % 2 == 0
    kept = {"messages": [conversation["messages"][0], *conversation["messages"][1 + dropped :]]}
    assert tokens == tokenizer.render_for_completion(kept)
    one_turn_more = {"messages": [conversation["messages"][0], *conversation["messages"][dropped - 1 :]]}
    assert len(tokenizer.render_for_completion(one_turn_more)) + 20 > 100
    assert len(conversation["messages"]) == 14  # the caller's own is left as it is
    with pytest.raises(UserError, match="do not fit"):  # the last question alone is too long
        engine.submit(Request(engine.fit({"messages": [{"role": "user", "content": "why " * 200}]}, 20, drop_oldest=True)[0], max_tokens=20))


# --- text ----------------------------------------------------------------------------------------------------------------


def test_no_half_characters(tokenizer):
    text = "Grüße, 世界! 👋🏽 ✓"
    stream = TextStream(tokenizer)
    tokens = [tokenizer.ranks[bytes([byte])] for byte in text.encode()]  # byte by byte
    pieces = [stream.add(token) for token in tokens]
    assert "".join(pieces) == text and "\ufffd" not in "".join(pieces) and pieces.count("") > 10
    stream = TextStream(tokenizer)
    assert "".join(stream.add(token) for token in tokens[:3]) == "Gr"  # half of the ü waits for ever
    stream = TextStream(tokenizer)
    assert "".join(stream.add(tokenizer.ranks[bytes([byte])]) for byte in b"a\xffb") == "a\ufffdb"


def test_text_in_text_out(model, tokenizer, in_small_world, monkeypatch):
    talker = InferenceEngine(model, tokenizer)
    assert talker.generate("The sun", max_new_tokens=12, temperature=0.8, top_p=0.9, seed=3) == "".join(
        talker.stream("The sun", max_new_tokens=12, temperature=0.8, top_p=0.9, seed=3)
    )
    prompt = tokenizer.encode("The sun", prepend=tokenizer.bos)
    expected = [token for token in model.generate(prompt, 12, temperature=0) if token < tokenizer.bos]
    expected = codecs.getincrementaldecoder("utf-8")("replace").decode(tokenizer.decode_bytes(expected))  # may end within a character
    assert talker.generate("The sun", 12, temperature=0) == talker.generate(prompt, 12, temperature=0) == expected
    one, two = (talker.stream("The sun", 12, temperature=0) for _ in range(2))  # one moves the other on as well, and takes nothing from it
    assert [next(one) + "".join(one), next(two) + "".join(two)] == [expected] * 2
    half = talker.stream("The sun", 12, temperature=0)
    next(half)
    half.close()
    assert not talker.engine.step() and not talker.engine.busy
    monkeypatch.setattr(engine_module, "get_tokenizer", lambda: tokenizer)
    assert InferenceEngine(model).generate("The sun", 12, temperature=0) == expected
    with pytest.raises(UserError, match="the tokenizer has 1,024 tokens and the model 300"):
        InferenceEngine(small_model(300), tokenizer)


def test_owners_take_turns(model, tokenizer):
    """Who sends one prompt after somebody's twenty gets the next row that is free."""
    engine = Engine(model, tokenizer, max_rows=2)
    many = [engine.submit(Request([tokenizer.bos, 65 + i], 1, 20, owner=1, stop_tokens=frozenset(), tools=False)) for i in range(20)]
    engine.step()
    one = engine.submit(Request([tokenizer.bos, 64], 1, 2, owner=2, stop_tokens=frozenset(), tools=False))
    while not one.finished:
        assert engine.step()
    assert sum(stream.finished for stream in many) <= 4 + READY
    for stream in many:
        stream.cancel()
    engine.step()
    assert not engine.busy


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_answering_imports_no_compiler(small_world, dtype):
    """torch's compiler is a third of the time that a chat takes to start."""
    code = """
import sys
from nanochat.engine import InferenceEngine
from nanochat.gpt import GPTConfig, new_model
from nanochat.tokenizer import get_tokenizer
tokenizer = get_tokenizer("tinyworld")
model = new_model(GPTConfig(64, tokenizer.get_vocab_size(), 2, 2, 2, 64), "cpu").eval()
print(len(InferenceEngine(model, tokenizer).generate("The capital", max_new_tokens=4)))
assert "torch._dynamo" not in sys.modules
"""
    environment = {**os.environ, "NANOCHAT_DTYPE": dtype, "NANOCHAT_BASE_DIR": str(small_world)}
    result = subprocess.run([sys.executable, "-c", code], cwd=Path(__file__).parent.parent, env=environment, capture_output=True, text=True)
    assert result.returncode == 0, result.stderr
    assert int(result.stdout) > 0
