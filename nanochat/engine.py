"""Everything that generates text does it here: samples, evaluations, rollouts, the terminal and the server.

Engine.submit takes a request and gives a stream; Engine.step moves all requests on by one token. A step is: run the model once over all rows of the
cache, prefill (a piece of) waiting prompts, give free rows to those that are ready, choose the next tokens, hand them out, free the rows that are
finished. One thread steps; submit and Stream.cancel may be called by any. So requests come and go at any time (continuous batching, Orca, OSDI 2022),
and what a request gets depends on its own prompt, parameters and seed, not on its company. generate, generate_batch and generate_many are loops
around submit and step.
"""

import bisect
import codecs
import contextlib
import random
from collections import Counter, deque
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

import torch

from nanochat.common import UserError
from nanochat.execution import use_calculator
from nanochat.gpt import GPT
from nanochat.kv_cache import Append, KVCache
from nanochat.tokenizer import Tokenizer, get_tokenizer

PREFILL_TOKENS = {"cpu": 512, "cuda": 8192}  # computed for waiting prompts in one step: the longer, the longer those who are being served wait
SHORT_SHARE = 2  # while a long prompt is computed in pieces, short ones get a half of that
READY = 2  # prompts that are computed before there is a row for them
LENGTH_STEP = 256  # a cache grows by this many tokens, and at least by a half
NUCLEUS = 1024  # among so many likeliest tokens top-p looks first
GREEDY = 1e-4  # temperatures below this are none; logits divided by them would be infinite
READ_AT_ONCE = 128  # positions of a prompt whose logits are there at a time: of a long one they would take more memory than all the rest


# --- choosing a token ------------------------------------------------------------------------------------------------


def choose(logits: torch.Tensor, requests: Sequence["Request"], uniforms: Sequence[float]) -> list[int]:
    """The next token for each row of logits (n, V), by its request's parameters and a random number in [0, 1)."""
    kinds: dict[tuple, list[int]] = {}
    for i, request in enumerate(requests):
        kinds.setdefault(("greedy",) if request.temperature < GREEDY else (request.top_k, request.top_p < 1), []).append(i)
    chosen = torch.empty(len(requests), dtype=torch.long, device=logits.device)
    for kind, rows in kinds.items():
        some = logits if len(rows) == len(requests) else logits[rows]
        if kind[0] == "greedy":
            tokens = some.argmax(dim=-1)
        else:
            numbers = [[requests[i].temperature, requests[i].top_p, uniforms[i]] for i in rows]
            temperature, top_p, uniform = torch.tensor(numbers, device=logits.device).split(1, dim=1)  # (rows, 1) each
            tokens = _sample(some / temperature, kind[0], top_p if kind[1] else None, uniform)
        chosen[rows] = tokens
    _check_numbers(logits)
    return chosen.tolist()


def _check_numbers(logits: torch.Tensor) -> None:
    if bool(logits[:, 0].isnan().any()):
        raise FloatingPointError("the model's logits are not numbers: its weights are damaged")


def _sample(logits: torch.Tensor, top_k: int, top_p: torch.Tensor | None, uniform: torch.Tensor) -> torch.Tensor:
    """One token for each row (n, V): among the top_k likeliest (0: all), of these the fewest with a probability of top_p (n, 1) together."""
    if top_k == 0 and top_p is None:
        return _at(torch.softmax(logits, dim=-1), uniform)
    V = logits.size(-1)
    values, tokens = logits.topk(min(V, top_k or NUCLEUS), dim=-1)
    total = (values if top_k else logits).logsumexp(dim=-1, keepdim=True)
    probabilities = (values - total).exp()
    if top_p is not None:
        before = probabilities.cumsum(dim=-1) - probabilities
        before[:, 0] = -1  # the first is in it however small top_p
        if not top_k and V > NUCLEUS and bool((flat := before[:, -1] < top_p[:, 0]).any()):  # for these the likeliest few are not enough
            chosen = torch.empty_like(tokens[:, 0])
            chosen[flat] = _sample(logits[flat], V, top_p[flat], uniform[flat])
            if not bool(flat.all()):
                chosen[~flat] = tokens[~flat].gather(1, _at(torch.where(before < top_p, probabilities, 0)[~flat], uniform[~flat])[:, None])[:, 0]
            return chosen
        probabilities = torch.where(before < top_p, probabilities, 0)
    return tokens.gather(1, _at(probabilities, uniform)[:, None])[:, 0]


def _at(weights: torch.Tensor, uniform: torch.Tensor) -> torch.Tensor:
    """Where the running sum of the weights (n, V) passes the share `uniform` (n, 1) of all: a sample, for one random number and two passes."""
    sums = weights.cumsum(dim=-1)
    found = torch.searchsorted(sums, uniform * (1 - 2**-22) * sums[:, -1:], right=True)[:, 0]  # less than 1 also after rounding
    return found.clamp_max(weights.size(-1) - 1)  # what is not a number leads beyond the end


class Logprob(NamedTuple):
    """What the model itself thought of a token, before temperature, top-k and top-p: the log of its probability, and the likeliest with theirs."""

    logprob: float
    top: list[tuple[int, float]]


def log_probabilities(logits: torch.Tensor, tokens: Sequence[int], top: int) -> list[Logprob]:
    """One for each row of logits (n, V) and its token, with so many of the likeliest."""
    _check_numbers(logits)
    logprobs = logits - logits.logsumexp(dim=-1, keepdim=True)
    chosen = logprobs.gather(1, torch.tensor(tokens, device=logits.device)[:, None])[:, 0].tolist()
    values, likeliest = (t.tolist() for t in logprobs.topk(min(top, logits.size(-1)), dim=-1))
    return [Logprob(logprob, list(zip(*pair, strict=True))) for logprob, *pair in zip(chosen, likeliest, values, strict=True)]


# --- requests and what becomes of them -------------------------------------------------------------------------------


class Request(NamedTuple):
    tokens: Sequence[int]
    num_samples: int = 1
    max_tokens: int | None = None  # None: as many as the context has room for
    temperature: float = 1.0  # 0: always the likeliest
    top_k: int = 0  # 0: off
    top_p: float = 1.0  # 1: off
    seed: int = 42
    stop_tokens: frozenset[int] | None = None  # None: the end of the assistant's turn, and the beginning of another document
    tools: bool = True  # run the calculator when the model calls it
    logprobs: int | None = None  # have the events say what the model thought of their tokens, beside so many of the likeliest; None: no
    prompt_logprobs: bool = False  # have Stream.prompt_logprobs say it of the prompt's tokens; with max_tokens=0 that is all
    owner: int | None = None  # requests of one owner share the turns of one; None: it is on its own


@dataclass
class Sample:
    """One answer, as far as it has come. The token that ended it is not part of it."""

    tokens: list[int] = field(default_factory=list)
    masks: list[int] = field(default_factory=list)  # 1: chosen by the model, 0: forced by a tool
    finish_reason: str | None = None  # stop, length, cancelled, or error: a step failed, with an exception of its own
    stop_token: int | None = None


class Event(NamedTuple):
    """A token of one of a request's samples."""

    sample: int
    token: int
    mask: int
    finish_reason: str | None = None  # the sample's, if this was its last token
    logprob: Logprob | None = None  # if the request asks for it, and the token was chosen by the model

    @property
    def stop(self) -> bool:
        """It ended the sample and is not part of it."""
        return self.finish_reason == "stop"


class Stream:
    """What comes of a request. Iterating over it moves the engine on when nothing is there; a server's thread calls take() after each step."""

    def __init__(self, engine: "Engine", request: Request, limit: int):
        self.engine, self.request, self.limit = engine, request, limit
        self.samples = [Sample() for _ in range(request.num_samples)]
        self.events: deque[Event] = deque()
        self.prompt_logprobs: list[Logprob | None] = [None]  # there is none for the first token; complete when the first event comes
        self.cancelled: set[int] = set()  # samples

    @property
    def owner(self) -> int:
        return id(self) if self.request.owner is None else self.request.owner

    @property
    def finished(self) -> bool:
        return all(sample.finish_reason for sample in self.samples)

    def cancel(self, sample: int | None = None) -> None:
        """Its rows, or that of one sample, are free from the next step on. May be called from any thread."""
        self.cancelled.update(range(len(self.samples)) if sample is None else [sample])

    def take(self) -> list[Event]:
        """The events since the last call."""
        return [self.events.popleft() for _ in range(len(self.events))]

    def __iter__(self) -> Iterator[Event]:
        while True:
            while self.events:
                yield self.events.popleft()
            if self.finished:
                return
            moved = self.engine.step()
            assert moved or self.finished, "the request was lost"

    def finish(self, reason: str) -> None:
        """End what has not ended. For the engine."""
        for sample in self.samples:
            sample.finish_reason = sample.finish_reason or reason


class _Row:
    """A sample while it is being made, in the row of the cache that has its number in Engine.rows."""

    def __init__(self, stream: Stream, number: int):
        self.stream, self.number, self.sample = stream, number, stream.samples[number]
        self.random = random.Random(f"{stream.request.seed}/{number}")  # of its own, so that company changes nothing
        self.token = -1  # the last one: the model has not seen it yet
        self.forced: deque[int] = deque()
        self.python: list[int] | None = None  # what the model has written since it opened a tool call


class _Prefill:
    """Prompts on their way into a cache of their own, a row each; then, ready, until all of their samples have rows of the large one."""

    def __init__(self, streams: list[Stream], cache: KVCache):
        self.streams, self.cache = streams, cache
        self.done = 0  # tokens computed, of the longest
        self.logits: torch.Tensor | None = None  # (prompts, V), when ready
        self.placed = [0] * len(streams)  # samples that have got their row

    @property
    def length(self) -> int:
        return max(len(stream.request.tokens) for stream in self.streams)

    def waiting(self) -> list[int]:
        """The prompts that have samples without a row."""
        return [i for i, stream in enumerate(self.streams) if self.placed[i] < len(stream.samples) and not stream.finished]


# --- the engine ------------------------------------------------------------------------------------------------------


class Engine:
    """max_rows: how many samples are made at a time. context: how long prompt and answer together may get; the model's own if None."""

    def __init__(self, model: GPT, tokenizer: Tokenizer, max_rows: int = 64, context: int | None = None):
        if max_rows < 1:
            raise UserError(f"max_rows={max_rows}: at least 1")
        self.source, self.tokenizer, self.max_rows = model, tokenizer, max_rows
        self.context = context or model.config.sequence_len
        self.model = model.for_inference()
        self.model.extend_rotary(self.context + LENGTH_STEP)  # once for all: CUDA graphs go on with the tables that they were captured with
        self.device = model.get_device()
        self.prefill_tokens = PREFILL_TOKENS.get(self.device.type, PREFILL_TOKENS["cpu"])
        self.special = {name.strip("<|>"): token for name, token in tokenizer.special.items()}
        self.default_stop = frozenset({self.special["assistant_end"], tokenizer.bos})
        self.inbox: deque[Stream] = deque()  # from any thread; everything else belongs to the one that steps
        self.waiting: list[Stream] = []
        self.prefills: list[_Prefill] = []
        self.rows: list[_Row] = []
        self.cache: KVCache | None = None  # as large as it has had to be so far
        self.graphs = DecodeGraphs(self.model) if self.device.type == "cuda" else None
        self.version = self._source_version()

    # weights

    def _source_version(self) -> int:
        """Grows with every change to the model's weights in place. (Changes through .data go unseen.)"""
        return sum(p._version for p in self.source.parameters())

    @torch.no_grad
    def refresh(self) -> None:
        """Take over weights that have changed, say by an optimizer step. Cached keys are those of the old ones, so nothing may be under way."""
        self._drop_cancelled()
        if self.busy:
            raise RuntimeError("requests are under way: finish or cancel them before refresh()")
        theirs = self.source.state_dict()
        for name, mine in self.model.state_dict().items():
            if mine.data_ptr() != theirs[name].data_ptr():
                mine.copy_(theirs[name])
        self.version = self._source_version()

    def check_weights(self) -> None:
        if self.version != self._source_version():
            raise RuntimeError("the model's weights have changed since the engine took them over: call refresh()")

    # requests

    @property
    def busy(self) -> bool:
        return bool(self.inbox or self.waiting or self.prefills or self.rows)

    def submit(self, request: Request) -> Stream:
        """Queue a request. It is refused now, not half-way, if the context has no room for it. May be called from any thread."""
        self.check_weights()
        self._check(request)
        request = request._replace(tokens=list(request.tokens))
        room = self.context - len(request.tokens)
        limit = room if request.max_tokens is None else request.max_tokens
        if limit > room or (request.max_tokens is None and room < 1):
            answer = "" if request.max_tokens is None else f" and up to {request.max_tokens:,} of an answer"
            raise UserError(f"a prompt of {len(request.tokens):,} tokens{answer} do not fit into a context of {self.context:,}: shorten the prompt"
                            + (f" or ask for at most {room:,} tokens" if room > 0 else ""))  # fmt: skip
        stream = Stream(self, request, limit)
        if limit == 0 and not request.prompt_logprobs:
            stream.finish("length")
        else:
            self.inbox.append(stream)
        return stream

    def _check(self, request: Request) -> None:
        vocab = self.model.config.vocab_size

        def whole(number: object, least: int) -> bool:
            return type(number) is int and number >= least

        def known(tokens: Sequence[object]) -> bool:  # without a step of Python's for each token
            return set(map(type, tokens)) <= {int} and min(tokens, default=0) >= 0 and max(tokens, default=0) < vocab

        def real(number: object) -> bool:
            return type(number) in (int, float)

        for fine, what in (
            (len(request.tokens) > 0, "the prompt is empty: begin it with the BOS token"),
            (known(request.tokens), f"the prompt has tokens outside of the vocabulary of {vocab:,}"),
            (whole(request.num_samples, 1), "num_samples must be a whole number, at least 1"),
            (request.max_tokens is None or whole(request.max_tokens, 0), "max_tokens must be a whole number, not negative"),
            (real(request.temperature) and 0 <= request.temperature < float("inf"), "temperature must be a number from 0 on"),
            (whole(request.top_k, 0), "top_k must be a whole number, 0 (off) or more"),
            (real(request.top_p) and 0 < request.top_p <= 1, "top_p must be above 0 and at most 1 (off)"),
            (request.logprobs is None or whole(request.logprobs, 0), "logprobs must be a whole number, not negative"),
        ):
            if not fine:
                raise UserError(what)

    # one step

    @torch.inference_mode
    def step(self) -> bool:
        """Move every request on by a token. False if there was nothing to do. If it fails, so does all that is under way."""
        self._drop_cancelled()
        if not self.busy:
            return False
        self.check_weights()
        try:
            with torch.cuda.device(self.device) if self.device.type == "cuda" else contextlib.nullcontext():
                self._step()
        except BaseException:  # Ctrl-C too: what a pass has left half done would go wrong silently
            self._abandon()
            raise
        return True

    def _step(self) -> None:
        logits = [self._decode()] if self.rows else []  # before new rows come: CUDA graphs use the free ones as well
        self._prefill()
        logits += self._place()
        if not self.rows:
            return
        logits = torch.cat(logits)
        tokens = choose(logits, [row.stream.request for row in self.rows], [row.random.random() for row in self.rows])
        logprobs = self._logprobs(logits, tokens)
        for i, (row, token) in enumerate(zip(self.rows, tokens, strict=True)):
            self._deliver(row, token, logprobs.get(i))
        self._free_finished()

    def _logprobs(self, logits: torch.Tensor, tokens: list[int]) -> dict[int, Logprob]:
        """Of the rows whose requests ask for them."""
        asked = {i: row.stream.request.logprobs for i, row in enumerate(self.rows) if row.stream.request.logprobs is not None}
        if not asked:
            return {}
        found = log_probabilities(logits[list(asked)], [tokens[i] for i in asked], max(asked.values()))
        return {i: Logprob(logprob, top[: asked[i]]) for i, (logprob, top) in zip(asked, found, strict=True)}

    def _under_way(self) -> list[Stream]:
        return [*self.waiting, *(s for p in self.prefills for s in p.streams), *(row.stream for row in self.rows)]

    @torch.inference_mode
    def _drop_cancelled(self) -> None:
        """The only place where `cancelled` is looked at: it may change at any moment."""
        while self.inbox:
            self.waiting.append(self.inbox.popleft())
        for stream in self._under_way():
            if stream.cancelled:
                for sample in (sample for i, sample in enumerate(stream.samples) if i in stream.cancelled):
                    sample.finish_reason = sample.finish_reason or "cancelled"
        self.waiting = [stream for stream in self.waiting if not stream.finished]
        self.prefills = [prefill for prefill in self.prefills if prefill.waiting()]
        self._free_finished()

    def _abandon(self) -> None:
        for stream in self._under_way():
            stream.finish("error")
        self.waiting, self.prefills, self.rows = [], [], []

    def _decode(self) -> torch.Tensor:
        """Logits (rows, V) of what comes next in the rows in use."""
        n = len(self.rows)
        self._reserve(n, max(self.cache.positions[:n]) + 1)
        tokens = [row.token for row in self.rows]
        if self.graphs is not None:
            logits = self.graphs.logits(self.cache, tokens)
        else:
            idx = torch.tensor(tokens, device=self.device)[:, None]
            logits = self.model.logits(self.model.hidden(idx, self.cache.append(1, n))[:, 0])
        self.cache.advance(1, n)
        return logits

    def _prefill(self) -> None:
        """Compute a piece of a long prompt, and beside it short ones as a whole, for rows that are or will soon be free."""
        self._take_turns()
        budget = self.prefill_tokens
        ready = sum(len(prefill.waiting()) for prefill in self.prefills)
        free = self.max_rows - len(self.rows) + READY - ready
        long = next((prefill for prefill in self.prefills if prefill.logits is None), None)
        if long is None and free > 0 and self.waiting and len(self.waiting[0].request.tokens) > budget:
            long = self._begin([self.waiting[0]])
            free -= 1
        if long is not None:
            short = any(len(stream.request.tokens) <= budget // SHORT_SHARE for stream in self.waiting)
            piece = budget - budget // SHORT_SHARE if short and free > 0 else budget
            self._compute(long, piece)
            budget -= piece
        chosen, longest = [], 0
        for stream in self.waiting:  # as many as fit into what is left, padded to the longest of them
            length = max(longest, len(stream.request.tokens))
            if len(chosen) < free and length * (len(chosen) + 1) <= budget:
                chosen.append(stream)
                longest = length
            elif long is None:  # nobody is overtaken but by those who fit in beside a long one
                break
        if chosen:
            self._compute(self._begin(chosen), longest)

    def _take_turns(self) -> None:
        """The first prompts of all owners come before the second ones, and so on: who sends many does not make the others wait for all."""
        have = Counter([row.stream.owner for row in self.rows] + [stream.owner for prefill in self.prefills for stream in prefill.streams])
        turns = {}
        for stream in self.waiting:
            turns[id(stream)] = have[stream.owner]
            have[stream.owner] += 1
        self.waiting.sort(key=lambda stream: turns[id(stream)])

    def _begin(self, streams: list[Stream]) -> _Prefill:
        longest = max(len(stream.request.tokens) for stream in streams)
        self.prefills.append(_Prefill(streams, KVCache.for_model(self.model, len(streams), longest)))
        self.waiting = [stream for stream in self.waiting if stream not in streams]
        return self.prefills[-1]

    def _compute(self, prefill: _Prefill, tokens: int) -> None:
        """The next so many tokens of these prompts."""
        cache, done = prefill.cache, prefill.done
        T = min(prefill.length - done, tokens)
        lengths = [min(len(stream.request.tokens) - done, T) for stream in prefill.streams]  # less than T only if it is the only piece
        idx = torch.tensor([[*s.request.tokens[done : done + n], *[0] * (T - n)] for s, n in zip(prefill.streams, lengths, strict=True)])
        sizes = torch.tensor(lengths, device=self.device)
        x = self.model.hidden(idx.to(self.device), Append(cache, [done] * len(lengths), T, sizes))
        cache.positions = [done + n for n in lengths]
        prefill.done += T
        for row, (stream, n) in enumerate(zip(prefill.streams, lengths, strict=True)):
            if stream.request.prompt_logprobs:
                self._read(stream, x[row, :n], done)
        if prefill.done == prefill.length:
            prefill.logits = self.model.logits(x[torch.arange(len(lengths), device=self.device), sizes - 1])
            for stream in prefill.streams:
                if stream.limit == 0:  # it was about the prompt alone
                    stream.finish("length")

    def _read(self, stream: Stream, x: torch.Tensor, done: int) -> None:
        """What the model thought of the tokens that follow the positions of x (n, n_embd), the first of which is `done`."""
        following = stream.request.tokens[done + 1 : done + 1 + len(x)]  # one less at the prompt's end
        for start in range(0, len(following), READ_AT_ONCE):
            some = following[start : start + READ_AT_ONCE]
            logits = self.model.logits(x[start : start + len(some)])
            stream.prompt_logprobs += log_probabilities(logits, some, stream.request.logprobs or 0)

    def _place(self) -> list[torch.Tensor]:
        """Give free rows to samples whose prompt is ready, first to owners that have the fewest. The logits of the new rows, (1, V) each."""
        have = Counter(row.stream.owner for row in self.rows)
        ready = [(prefill, i) for prefill in self.prefills if prefill.logits is not None for i in prefill.waiting()]
        logits = []
        while ready and len(self.rows) < self.max_rows:
            prefill, i = min(ready, key=lambda pair: have[pair[0].streams[pair[1]].owner])
            stream, row, number = prefill.streams[i], len(self.rows), prefill.placed[i]
            prefill.placed[i] += 1
            if prefill.placed[i] == len(stream.samples):
                ready.remove((prefill, i))
            if stream.samples[number].finish_reason:  # cancelled, while others of its request go on
                continue
            self._reserve(row + 1, len(stream.request.tokens) + 1)
            self.cache.copy_row(row, prefill.cache, i)
            self.rows.append(_Row(stream, number))
            logits.append(prefill.logits[i : i + 1])
            have[stream.owner] += 1
        self.prefills = [prefill for prefill in self.prefills if prefill.waiting()]
        return logits

    def _deliver(self, row: _Row, token: int, logprob: Logprob | None = None) -> None:
        """Hand out a row's next token: the one that a tool has forced, or the chosen one."""
        mask = 1
        if row.forced:
            token, mask, logprob = row.forced.popleft(), 0, None
        sample, stream = row.sample, row.stream
        row.token = token
        stop = self.default_stop if stream.request.stop_tokens is None else stream.request.stop_tokens
        if mask and token in stop:
            sample.stop_token, sample.finish_reason = token, "stop"
        else:
            sample.tokens.append(token)
            sample.masks.append(mask)
            if len(sample.tokens) == stream.limit:
                sample.finish_reason = "length"
            elif stream.request.tools and mask:
                self._use_tool(row, token)
        stream.events.append(Event(row.number, token, mask, sample.finish_reason, logprob))

    def _use_tool(self, row: _Row, token: int) -> None:
        """Between python_start and python_end stands an expression; what the calculator makes of it is put into the model's mouth."""
        if token == self.special["python_start"]:
            row.python = []
        elif token == self.special["python_end"] and row.python is not None:
            result = use_calculator(self.tokenizer.decode(row.python))
            row.python = None
            if result is not None:
                row.forced.extend([self.special["output_start"], *self.tokenizer.encode(result), self.special["output_end"]])
        elif row.python is not None:
            row.python.append(token)

    def _free_finished(self) -> None:
        """The last row moves into each hole, so that rows in use are always the first ones and need no gathering."""
        for i in reversed(range(len(self.rows))):
            if self.rows[i].sample.finish_reason:
                last = len(self.rows) - 1
                if i != last:
                    self.cache.copy_row(i, self.cache, last)
                    self.rows[i] = self.rows[last]
                self.rows.pop()

    # the cache

    def _reserve(self, rows: int, length: int) -> None:
        """Have a cache of at least this size. It grows in large steps and never shrinks, so its memory is soon what it will be."""
        have_rows, have_length = (self.cache.batch_size, self.cache.seq_len) if self.cache else (0, 0)
        if rows <= have_rows and length <= have_length:
            return
        if rows > have_rows:
            rows = min(self.max_rows, max(rows, 2 * have_rows))
        if length > have_length:
            length = min(max(length, have_length * 3 // 2) + LENGTH_STEP - 1, self.context + LENGTH_STEP - 1) // LENGTH_STEP * LENGTH_STEP
        old, self.cache = self.cache, KVCache.for_model(self.model, max(rows, have_rows), max(length, have_length))
        for row in range(len(self.rows)):
            self.cache.copy_row(row, old, row)
        if self.graphs is not None:
            self.graphs.clear()

    # loops around submit and step

    def generate(
        self, tokens: Sequence[int], num_samples: int = 1, max_tokens: int | None = None, temperature: float = 1.0, top_k: int | None = None,
        seed: int = 42, **more,
    ) -> Iterator[tuple[list[int], list[int]]]:  # fmt: skip
        """Yield (token_column, token_masks): the next token of every sample, the one that ends a sample included and then repeated with mask 0."""
        stream = self.submit(Request(tokens, num_samples, max_tokens, temperature, top_k or 0, seed=seed, **more))
        columns: list[deque[Event]] = [deque() for _ in stream.samples]
        ended: list[int | None] = [None] * num_samples
        try:
            while True:
                for event in stream.take():
                    columns[event.sample].append(event)
                while all(column or sample.finish_reason for column, sample in zip(columns, stream.samples, strict=True)) and any(columns):
                    events = [column.popleft() if column else None for column in columns]
                    ended = [event.token if event else last for event, last in zip(events, ended, strict=True)]
                    yield list(ended), [event.mask if event else 0 for event in events]
                if stream.finished:
                    return
                self.step()
        finally:  # whoever stops listening gives the rows back, at the next step
            stream.cancel()

    def generate_batch(self, tokens: Sequence[int], num_samples: int = 1, **settings) -> tuple[list[list[int]], list[list[int]]]:
        """(sequences, masks) of whole samples, the prompt at their beginning with mask 0, terminal tokens left out."""
        (samples,) = self.generate_many([tokens], num_samples, **settings)
        return [[*tokens, *s.tokens] for s in samples], [[*[0] * len(tokens), *s.masks] for s in samples]

    def generate_many(
        self, prompts: Sequence[Sequence[int]], num_samples: int = 1, max_tokens: int | None = None, temperature: float = 1.0,
        top_k: int | None = None, seed: int | Sequence[int] = 42, progress: Callable[[int], None] = lambda done: None, **more,
    ) -> list[list[Sample]]:  # fmt: skip
        """The samples of every prompt, decoded together. Prompt i has the seed `seed + i`, or seed[i]. An answer has max_tokens at most, and no more
        than the context has room for. progress(n) hears how many prompts are finished."""
        seeds = [seed + i for i in range(len(prompts))] if isinstance(seed, int) else seed
        requests = [Request(p, num_samples, max_tokens, temperature, top_k or 0, seed=s, **more) for p, s in zip(prompts, seeds, strict=True)]
        streams: list[Stream | None] = [None] * len(requests)
        try:
            for i in sorted(range(len(requests)), key=lambda i: -len(prompts[i])):  # neighbours are alike then, and the longest begin early
                streams[i] = self.submit(self._within_room(requests[i]))
            unfinished = [stream for stream in streams if not stream.finished]
            while unfinished:
                moved = self.step()
                unfinished = [stream for stream in unfinished if not stream.finished]
                assert moved or not unfinished, "a request was lost"
                progress(len(streams) - len(unfinished))
        finally:
            for stream in streams:
                if stream is not None:
                    stream.cancel()
        return [stream.samples for stream in streams]

    def _within_room(self, request: Request) -> Request:
        """A prompt that leaves no room at all stays as it is, for submit to refuse."""
        room = self.context - len(request.tokens)
        return request._replace(max_tokens=room) if type(request.max_tokens) is int and 0 < room < request.max_tokens else request

    def fit(self, conversation: dict, max_tokens: int, drop_oldest: bool = False) -> tuple[list[int], int]:
        """(tokens, dropped): a conversation rendered for the assistant to go on, with room for an answer. If it is too long, its oldest turns
        are left out, a system message is kept, and `dropped` says how many messages that were; or, unless drop_oldest, submit will refuse it."""
        messages = list(conversation["messages"])
        first = 1 if messages and messages[0].get("role") == "system" else 0

        def without(turns: int) -> list[int]:
            return self.tokenizer.render_for_completion({"messages": messages[:first] + messages[first + 2 * turns :]})

        few = 0
        if drop_oldest:  # the fewest turns whose absence makes room; the last question stays
            most = max(0, (len(messages) - first - 1) // 2)
            few = bisect.bisect_left(range(most), True, key=lambda turns: len(without(turns)) + max_tokens <= self.context)
        return without(few), 2 * few


class DecodeGraphs:
    """The decoding step as CUDA graphs, one for each number of rows and of keys, both rounded up to powers of two: a step is one launch, and the
    host waits for nothing until it reads the tokens. Rows beyond those in use compute nonsense into themselves, so they must be free."""

    def __init__(self, model: GPT):
        self.model = model
        self.graphs: dict[tuple[int, int], tuple] = {}
        self.pool = None  # of memory, for all of them: only one runs at a time

    def clear(self) -> None:
        """The cache that they read is about to be replaced."""
        self.graphs.clear()

    def logits(self, cache: KVCache, tokens: list[int]) -> torch.Tensor:
        """(rows, V), good until the next call."""
        rows = min(1 << (len(tokens) - 1).bit_length(), cache.batch_size)
        end = min(max(LENGTH_STEP, 1 << max(cache.positions[: len(tokens)]).bit_length()), cache.seq_len)
        if (rows, end) not in self.graphs:
            self.graphs[rows, end] = self._capture(cache, rows, end)
        graph, inputs, logits = self.graphs[rows, end]
        idle = rows - len(tokens)
        numbers = torch.tensor([tokens + [0] * idle, cache.positions[: len(tokens)] + [0] * idle])
        inputs.copy_(numbers.pin_memory() if inputs.is_cuda else numbers, non_blocking=True)
        graph.replay()
        return logits[: len(tokens)]

    def step(self, cache: KVCache, inputs: torch.Tensor, end: int) -> torch.Tensor:
        """What a graph records. inputs (2, rows): tokens, and their positions."""
        return self.model.logits(self.model.hidden(inputs[0][:, None], Append(cache, inputs[1], 1, end=end))[:, 0])

    def _capture(self, cache: KVCache, rows: int, end: int) -> tuple:
        inputs = torch.zeros(2, rows, dtype=torch.long, device=self.model.get_device())
        kept = cache.previous.clone()  # trying it out writes to column 0, and to what comes before: both are restored
        columns = [t[:, :, 0].clone() for t in (cache.k_cache, cache.v_cache)]
        side = torch.cuda.Stream()
        side.wait_stream(torch.cuda.current_stream())
        with torch.cuda.stream(side):
            for _ in range(2):
                self.step(cache, inputs, end)
        torch.cuda.current_stream().wait_stream(side)
        graph = torch.cuda.CUDAGraph()
        self.pool = self.pool or torch.cuda.graph_pool_handle()
        with torch.cuda.graph(graph, pool=self.pool, capture_error_mode="thread_local"):  # other threads may be using the GPU
            logits = self.step(cache, inputs, end)
        cache.previous.copy_(kept)
        for t, column in zip((cache.k_cache, cache.v_cache), columns, strict=True):
            t[:, :, 0] = column
        return graph, inputs, logits


# --- text ------------------------------------------------------------------------------------------------------------


class TextStream:
    """Tokens to text, piece by piece, and never half a character: bytes wait for those that complete them. Special tokens are no text."""

    def __init__(self, tokenizer: Tokenizer):
        self.tokenizer = tokenizer
        self.decoder = codecs.getincrementaldecoder("utf-8")("replace")
        self.special = frozenset(tokenizer.special.values())

    def add(self, token: int) -> str:
        return "" if token in self.special else self.decoder.decode(self.tokenizer.decode_bytes([token]))


class InferenceEngine:
    """Text in, text out. Without a tokenizer it takes the one of the base directory that has the model's vocabulary."""

    def __init__(self, model: GPT, tokenizer: Tokenizer | None = None):
        self.tokenizer = tokenizer or get_tokenizer()
        if self.tokenizer.get_vocab_size() != model.config.vocab_size:
            raise UserError(f"the tokenizer has {self.tokenizer.get_vocab_size():,} tokens and the model {model.config.vocab_size:,}: "
                            "pass the one that it was trained with")  # fmt: skip
        self.engine = Engine(model, self.tokenizer)

    def generate(self, prompt: str | Sequence[int], max_new_tokens: int = 256, temperature: float = 1.0, top_p: float = 1.0, top_k: int | None = None,
                 seed: int = 42) -> str:  # fmt: skip
        """How the model goes on after the prompt."""
        return "".join(self.stream(prompt, max_new_tokens, temperature, top_p, top_k, seed))

    def stream(self, prompt: str | Sequence[int], max_new_tokens: int = 256, temperature: float = 1.0, top_p: float = 1.0, top_k: int | None = None,
               seed: int = 42) -> Iterator[str]:  # fmt: skip
        """The same in pieces, as they come."""
        tokens = self.tokenizer.encode(prompt, prepend=self.tokenizer.bos) if isinstance(prompt, str) else list(prompt)
        stream = self.engine.submit(Request(tokens, 1, max_new_tokens, temperature, top_k or 0, top_p, seed))
        text = TextStream(self.tokenizer)
        try:
            for event in stream:
                if not event.stop and (piece := text.add(event.token)):
                    yield piece
        finally:
            stream.cancel()
