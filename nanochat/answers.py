"""From the engine's tokens to what a client gets: text in pieces that can be shown as they are, and the JSON around it.

A piece holds whole characters, and nothing that is or may become a stop string. A chat's pieces are of the kinds that the tokenizer knows: text, and
the calls of the calculator with what it said. An Answer gives pieces as the chunks of a stream, or everything at the end; there is one class for each
of OpenAI's two APIs, and one for karpathy/nanochat's.
"""

import json
import secrets
import time
from collections import deque
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, NamedTuple

from nanochat.openai_api import Ask, Settings

if TYPE_CHECKING:  # it needs torch, and the port is open before that is there
    from nanochat.engine import Event, Logprob, Stream
    from nanochat.tokenizer import Tokenizer


BORDERS = {"python_start": "python", "python_end": "text", "output_start": "python_output", "output_end": "text"}  # what begins after a token


class Entry(NamedTuple):
    """What the model thought of a token, and where in the text the token begins."""

    token: int
    logprob: "Logprob | None"
    offset: int


class Piece(NamedTuple):
    kind: str  # text, python or python_output
    text: str
    entries: Sequence[Entry] = ()


def joined(pieces: Sequence[Piece]) -> list[Piece]:
    """Neighbours of one kind as one."""
    groups: list[list[Piece]] = []
    for piece in pieces:
        if groups and groups[-1][0].kind == piece.kind:
            groups[-1].append(piece)
        else:
            groups.append([piece])
    return [Piece(group[0].kind, "".join(p.text for p in group), [e for p in group for e in p.entries]) for group in groups]


# --- text ------------------------------------------------------------------------------------------------------------


class HeldText:
    """Text on its way out. What may be the beginning of a stop string waits, and so do the entries of its tokens."""

    def __init__(self, stops: Sequence[str], offset: int = 0):
        self.stops, self.offset = stops, offset  # of what has gone out so far
        self.held = ""
        self.entries: deque[Entry] = deque()
        self.stopped = False  # by a stop string: the first one to be complete, wherever tokens begin and end

    def add(self, text: str, token: int, logprob: "Logprob | None") -> Piece:
        if logprob is not None:
            self.entries.append(Entry(token, logprob, self.offset + len(self.held)))
        text = self.held + text
        if found := [(at + len(stop), at) for stop in self.stops if (at := text.find(stop)) >= 0]:
            self.stopped = True
            return self._out(text, min(found)[1])
        waiting = max((n for stop in self.stops for n in range(1, len(stop)) if text.endswith(stop[:n])), default=0)
        return self._out(text, len(text) - waiting)

    def _out(self, text: str, length: int) -> Piece:
        self.held, self.offset = text[length:], self.offset + length
        return Piece("text", text[:length], [self.entries.popleft() for _ in range(sum(e.offset < self.offset for e in self.entries))])

    def flush(self) -> Piece:
        """What waited in vain."""
        piece = Piece("text", self.held, list(self.entries))
        self.held, self.offset = "", self.offset + len(self.held)
        self.entries.clear()
        return piece


class Choice:
    """One answer as it comes. raw: all of it is text, which goes on after the tokens `before`. prompt: what the client is told first."""

    def __init__(self, index: int, tokenizer: "Tokenizer", stops: Sequence[str], raw: bool, before: Sequence[int] = (), prompt: Piece | None = None):
        from nanochat.engine import TextStream

        self.index, self.raw = index, raw
        self.new_decoder = lambda: TextStream(tokenizer)
        self.decoder = self.new_decoder()
        for token in before[-3:] if raw else ():  # they may end within a character, which the answer completes
            self.decoder.add(token)
        self.kinds = {} if raw else {tokenizer.special[f"<|{name}|>"]: kind for name, kind in BORDERS.items()}
        self.kind = "text"
        self.text = HeldText(stops, len(prompt.text) if prompt else 0)
        self.pieces: list[Piece] = [prompt] if prompt else []  # all of them
        self.shown = 0  # of these
        self.tokens = 0
        self.finish_reason: str | None = None

    def add(self, event: "Event") -> None:
        self.tokens += not event.stop
        if event.token in self.kinds and not event.stop:
            self._turn(self.kinds[event.token])
        elif self.kind != "text":
            self._put(Piece(self.kind, self.decoder.add(event.token)))
        elif not event.stop or self.raw:  # a completion's log-probabilities have the token that ends it
            self._put(self.text.add("" if event.stop else self.decoder.add(event.token), event.token, event.logprob))
        if self.text.stopped:
            self.finish_reason = "stop"
        elif event.finish_reason:
            self.end(event.finish_reason)

    def end(self, reason: str) -> None:
        """Half a character at the end is left out."""
        self._put(self.text.flush())
        self.finish_reason = reason

    def _turn(self, kind: str) -> None:
        """A part of this kind begins."""
        self._put(self.text.flush())
        self.decoder = self.new_decoder()  # no character reaches from one part into the next
        if kind != "text":
            if self.pieces and self.pieces[-1].kind == kind:
                self.pieces.append(Piece("text", ""))  # which tells the one from the other
            self.pieces.append(Piece(kind, ""))
        self.kind = kind

    def _put(self, piece: Piece) -> None:
        if piece.text or piece.entries:
            self.pieces.append(piece)

    def news(self) -> list[Piece]:
        """The pieces since the last call."""
        new, self.shown = self.pieces[self.shown :], len(self.pieces)
        return joined(new)


def prompt_piece(tokenizer: "Tokenizer", stream: "Stream") -> Piece:
    """The prompt, for an answer that begins with it."""
    from nanochat.engine import TextStream

    decoder, texts, entries, offset = TextStream(tokenizer), [], [], 0
    for i, token in enumerate(stream.request.tokens):
        if stream.request.prompt_logprobs:
            entries.append(Entry(token, stream.prompt_logprobs[i], offset))
        texts.append(decoder.add(token))
        offset += len(texts[-1])
    return Piece("text", "".join(texts), entries)


# --- answers ---------------------------------------------------------------------------------------------------------


def sse(message: dict) -> bytes:
    """ASCII only: some clients take U+2028 for the end of a line."""
    return b"data: " + json.dumps(message, separators=(",", ":")).encode() + b"\n\n"


class Answer:
    """What becomes of an Ask. Events go in; the chunks of a stream come out, or `whole` at the end."""

    raw = False
    prefix, name, chunk_name = "", "", ""  # of the id, and OpenAI's names for the whole and for a chunk

    def __init__(self, ask: Ask, settings: Settings, tokenizer: "Tokenizer", streams: Sequence["Stream"], device: int = 0):
        self.ask, self.tokenizer, self.streams, self.device = ask, tokenizer, streams, device
        self.head = {"id": self.prefix + secrets.token_hex(12), "object": self.name, "created": int(time.time()), "model": settings.model,
                     "system_fingerprint": settings.fingerprint}  # fmt: skip
        self.choices: dict[int, list[Choice]] = {}  # of each prompt by its number
        self.begun: set[int] = set()  # choices that have had their first chunk

    def add(self, events: Sequence[tuple[int, "Event"]]) -> list[Choice]:
        """The choices that these events move on."""
        moved = {}
        for number, event in events:
            choice = self._choices(number)[event.sample]
            if not choice.finish_reason:  # or a stop string has ended it, and the engine does not know yet
                choice.add(event)
                moved[choice.index] = choice
                if choice.text.stopped:
                    self.streams[number].cancel(event.sample)  # nobody wants what comes after a stop string
        return list(moved.values())

    def _choices(self, number: int) -> list[Choice]:
        """A prompt's. They are made when its first event comes, since then its log-probabilities are there as well."""
        if number not in self.choices:
            stream = self.streams[number]
            prompt, n = prompt_piece(self.tokenizer, stream) if self.ask.echo else None, len(stream.samples)
            self.choices[number] = [Choice(number * n + i, self.tokenizer, self.ask.stops, self.raw, stream.request.tokens, prompt) for i in range(n)]
        return self.choices[number]

    def finish(self) -> list[Choice]:
        """The choices that end without an event, because no token was wanted."""
        ended = [choice for number in range(len(self.streams)) for choice in self._choices(number) if not choice.finish_reason]
        for choice in ended:
            choice.end("length")
        return ended

    @property
    def done(self) -> bool:
        """Maybe before the engine is: a stop string has no meaning to it."""
        return len(self.choices) == len(self.streams) and all(choice.finish_reason for choice in self.all_choices())

    def all_choices(self) -> list[Choice]:
        return [choice for number in sorted(self.choices) for choice in self.choices[number]]

    def usage(self) -> dict:
        prompt, made = sum(len(request.tokens) for request in self.ask.requests), sum(choice.tokens for choice in self.all_choices())
        return {"prompt_tokens": prompt, "completion_tokens": made, "total_tokens": prompt + made}

    # a stream

    def chunks(self, events: Sequence[tuple[int, "Event"]]) -> bytes:
        return self._written(self.add(events))

    def last_chunks(self) -> bytes:
        written = self._written(self.finish())
        usage = sse({**self.head, "object": self.chunk_name, "choices": [], "usage": self.usage()}) if self.ask.usage else b""
        return written + usage + b"data: [DONE]\n\n"

    def _written(self, choices: list[Choice]) -> bytes:
        beside = {"usage": None} if self.ask.usage else {}
        return b"".join(
            sse({**self.head, "object": self.chunk_name, **more, "choices": [chunk], **beside})
            for choice in choices
            for chunk, more in self._chunks_of(choice)
        )

    def _chunks_of(self, choice: Choice) -> Iterator[tuple[dict, dict]]:
        """What is new of a choice, and what stands beside the choices."""
        raise NotImplementedError

    # the whole

    def whole(self) -> dict:
        return {**self.head, "choices": [self._whole(choice) for choice in self.all_choices()], "usage": self.usage()}

    def _whole(self, choice: Choice) -> dict:
        raise NotImplementedError

    def _token(self, token: int) -> tuple[str, bytes]:
        """Its text, or OpenAI's way to write bytes that are none."""
        data = self.tokenizer.decode_bytes([token])
        try:
            return data.decode(), data
        except UnicodeDecodeError:
            return "bytes:" + "".join(f"\\x{byte:02x}" for byte in data), data


class ChatAnswer(Answer):
    prefix, name, chunk_name = "chatcmpl-", "chat.completion", "chat.completion.chunk"

    def whole(self) -> dict:
        return {**super().whole(), **self._dropped()}

    def _dropped(self) -> dict:
        return {"dropped_messages": self.ask.dropped} if self.ask.dropped else {}

    def _whole(self, choice: Choice) -> dict:
        pieces = [piece for piece in joined(choice.pieces) if piece.text or piece.kind != "text"]
        said = [piece for piece in pieces if piece.kind == "text"]
        message = {"role": "assistant", "content": "".join(piece.text for piece in said), "parts": [self._part(piece) for piece in pieces]}
        logprobs = self._logprobs([entry for piece in joined(choice.pieces) for entry in piece.entries])
        return {"index": choice.index, "message": message, "logprobs": logprobs, "finish_reason": choice.finish_reason}

    def _chunks_of(self, choice: Choice) -> Iterator[tuple[dict, dict]]:
        if choice.index not in self.begun:
            yield self._chunk(choice, {"role": "assistant", "content": ""}), {} if self.begun else self._dropped()
            self.begun.add(choice.index)
        for piece in choice.news():
            delta = {"content": piece.text} if piece.kind == "text" else {"part": self._part(piece)}
            yield self._chunk(choice, delta, self._logprobs(piece.entries) if piece.entries else None), {}
        if choice.finish_reason:
            yield self._chunk(choice, {}, None, choice.finish_reason), {}

    @staticmethod
    def _chunk(choice: Choice, delta: dict, logprobs: dict | None = None, finish_reason: str | None = None) -> dict:
        return {"index": choice.index, "delta": delta, "logprobs": logprobs, "finish_reason": finish_reason}

    @staticmethod
    def _part(piece: Piece) -> dict:
        return {"type": piece.kind, "text": piece.text}

    def _logprobs(self, entries: Sequence[Entry]) -> dict | None:
        if self.ask.requests[0].logprobs is None:
            return None
        tops = [[self._scored(*pair) for pair in entry.logprob.top] for entry in entries]
        return {"content": [{**self._scored(e.token, e.logprob.logprob), "top_logprobs": top} for e, top in zip(entries, tops, strict=True)]}

    def _scored(self, token: int, logprob: float) -> dict:
        text, data = self._token(token)
        return {"token": text, "logprob": logprob, "bytes": list(data)}


class CompletionAnswer(Answer):
    raw = True
    prefix, name, chunk_name = "cmpl-", "text_completion", "text_completion"

    def _whole(self, choice: Choice) -> dict:
        pieces = joined(choice.pieces) or [Piece("text", "")]
        return {**self._chunk(choice, pieces[0]), "finish_reason": choice.finish_reason}

    def _chunks_of(self, choice: Choice) -> Iterator[tuple[dict, dict]]:
        for piece in choice.news():
            yield self._chunk(choice, piece), {}
        if choice.finish_reason:
            yield {**self._chunk(choice, Piece("text", "")), "finish_reason": choice.finish_reason}, {}

    def _chunk(self, choice: Choice, piece: Piece) -> dict:
        return {"index": choice.index, "text": piece.text, "logprobs": self._logprobs(piece.entries), "finish_reason": None}

    def _logprobs(self, entries: Sequence[Entry]) -> dict | None:
        if self.ask.requests[0].logprobs is None:
            return None
        return {
            "tokens": [self._token(entry.token)[0] for entry in entries],
            "token_logprobs": [entry.logprob and entry.logprob.logprob for entry in entries],
            "top_logprobs": [entry.logprob and self._top(entry.token, entry.logprob) for entry in entries],
            "text_offset": [entry.offset for entry in entries],
        }

    def _top(self, token: int, logprob: "Logprob") -> dict:
        """With the token itself, also if it is not among the likeliest."""
        return {self._token(t)[0]: value for t, value in [*logprob.top, (token, logprob.logprob)]}


class PlainChatAnswer(Answer):
    """The stream that karpathy/nanochat's own page reads."""

    def last_chunks(self) -> bytes:
        return self._written(self.finish()) + sse({"done": True})

    def _written(self, choices: list[Choice]) -> bytes:
        texts = ["".join(piece.text for piece in choice.news() if piece.kind == "text") for choice in choices]
        return b"".join(sse({"token": text, "gpu": self.device}) for text in texts if text)
