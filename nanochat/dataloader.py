"""Documents to packed batches, in an order that belongs to the data and not to the machine.

The documents of a split are dealt to canonical streams, and each stream packs its own documents into rows. Row g of the global order is the
next row of stream g mod n. A rank owns the streams s with s mod world_size = rank and takes the rows of those, so 1, 2, 4 or 8 ranks see the
same global batches. Rows are T + 1 tokens: best fit, the longest waiting document that fits, else the shortest one is cropped to fill.

    for x, y, state in pretrain_batches(...): ...     # the state after this batch is all it takes to go on with the next one

sft_batches does the same for conversations, which stay whole.
"""

import queue
import threading
import zlib
from collections import deque
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from nanochat.common import Compute, UserError
from nanochat.dataset import CANONICAL_STREAMS, open_dataset, open_shard, read_group
from nanochat.tokenizer import Tokenizer

if TYPE_CHECKING:
    import torch

BUFFER_DOCUMENTS = 1000
BUFFER_CONVERSATIONS = 100
PREFETCHED_BATCHES = 4
CHECKED_BYTES = 16_000_000  # shards up to this size are read once before a run, some hundredths of a second each


def stream_count(world_size: int) -> int:
    """8 for 1, 2, 4 and 8 ranks, so that they agree; for other numbers the next multiple, since every rank needs equally many."""
    return world_size * -(-CANONICAL_STREAMS // world_size)


# --- packing ---------------------------------------------------------------------------------------------------------


class BestFit:
    """Waiting documents by length. take(room) finds what a scan of them all would find, without one.

    Each length has its own queue, first come first served, and one bit of `present` says whether that queue holds anything: the longest
    document that fits is the highest bit below a mask, the shortest one is the lowest bit.
    """

    def __init__(self, capacity: int):
        self.queues: list[deque[int]] = [deque() for _ in range(capacity + 1)]
        self.bits = [1 << n for n in range(capacity + 1)]
        self.up_to = [(2 << n) - 1 for n in range(capacity + 1)]
        self.present = 0
        self.waiting: dict[int, np.ndarray] = {}  # in order of arrival
        self.arrivals = 0

    def __len__(self) -> int:
        return len(self.waiting)

    def add(self, length: int, document: np.ndarray) -> None:
        self.waiting[self.arrivals] = document
        self.queues[length].append(self.arrivals)
        self.present |= self.bits[length]
        self.arrivals += 1

    def has_for(self, room: int) -> bool:
        """Is there a document that fits?"""
        return bool(self.present & self.up_to[room])

    def take(self, room: int) -> tuple[int, np.ndarray]:
        """(length, document): the longest that fits into the room, else the shortest there is."""
        fits = self.present & self.up_to[room]
        length = fits.bit_length() - 1 if fits else (self.present & -self.present).bit_length() - 1
        arrivals = self.queues[length]
        document = self.waiting.pop(arrivals.popleft())
        if not arrivals:
            self.present ^= self.bits[length]
        return length, document


class StreamState(NamedTuple):
    """Where a stream stands: what it has read, and what waits in its buffer. Enough to go on from."""

    epoch: int = 1
    shard: int = 0  # index among the shards of the split; equal to their number while the last documents of an epoch are packed
    dealt: int = 0  # what the shards before this one dealt out: row groups, or documents
    taken: int = 0  # documents of this stream taken from this shard
    documents: int = 0  # counted over all epochs
    tokens: int = 0
    cropped: int = 0  # tokens that were cut off
    buffer: tuple[np.ndarray, ...] = ()


class Stream:
    """One canonical stream: reads its documents, tokenizes them, packs them into rows."""

    def __init__(self, index: int, streams: int, shards: "Shards", tokenizer: Tokenizer, row_tokens: int, buffer_size: int, state: StreamState):
        self.index, self.streams, self.shards, self.tokenizer = index, streams, shards, tokenizer
        self.row_tokens, self.buffer_size = row_tokens, buffer_size
        self.bos = np.array([tokenizer.get_bos_token_id()], dtype=np.uint32)
        self.epoch, self.shard, self.dealt, self.taken = state.epoch, state.shard, state.dealt, state.taken
        self.documents, self.tokens, self.cropped = state.documents, state.tokens, state.cropped
        self.buffer = BestFit(row_tokens)
        for document in state.buffer:
            self._buffer(document)
        self.texts = self._rest_of_epoch()

    def state(self) -> StreamState:
        return StreamState(
            self.epoch, self.shard, self.dealt, self.taken, self.documents, self.tokens, self.cropped, tuple(self.buffer.waiting.values())
        )

    def fill(self, row: np.ndarray) -> None:
        """Pack one row. Each document begins with BOS, and so does each row."""
        parts, room = [], self.row_tokens
        while room:
            self._refill()
            length, document = self.buffer.take(room)
            if length > room:
                self.cropped += length - room
                document = document[: room - 1]
                length = room
            parts += (self.bos, document)
            room -= length
        np.concatenate(parts, out=row)

    def _refill(self) -> None:
        """Keep the buffer full. At the end of an epoch it runs empty first, so an epoch deals every document exactly once."""
        while len(self.buffer) < self.buffer_size:
            text = next(self.texts, None)
            if text is not None:
                document = self.tokenizer.encode_array(text)
                self.taken += 1
                self.documents += 1
                self.tokens += len(document) + 1
                if len(document) >= self.row_tokens:  # it can never fit whole; cut now, it fills a row of its own and does not clog the buffer
                    self.cropped += len(document) + 1 - self.row_tokens
                    document = document[: self.row_tokens - 1].copy()
                self._buffer(document)
            elif len(self.buffer):
                return
            elif self.documents == 0:  # and there never will be any: rather stop than search for ever
                raise UserError(f"so little data that data stream {self.index} of {self.streams} has no document: use fewer ranks or more data")
            else:
                self.epoch, self.shard, self.dealt, self.taken = self.epoch + 1, 0, 0, 0
                self.texts = self._rest_of_epoch()

    def _buffer(self, document: np.ndarray) -> None:
        self.buffer.add(len(document) + 1, document)

    def _rest_of_epoch(self) -> Iterator[str]:
        """This stream's documents from where it stands to the end of the epoch."""
        while self.shard < len(self.shards.paths):
            yield from self.shards.texts(self.shard, self.index, self.streams, self.dealt, skip=self.taken)
            self.dealt += self.shards.hands_out(self.shard, self.streams)
            self.shard, self.taken = self.shard + 1, 0


class Shards:
    """The parquet files of a split, and which of their documents belong to which stream."""

    def __init__(self, paths: tuple[Path, ...]):
        self.paths = paths
        self.files: dict[int, object] = {}  # open files, few at a time
        self.last_group: tuple[tuple[int, int], list[str]] = ((-1, -1), [])

    def open(self, shard: int):
        if shard not in self.files:
            if len(self.files) >= 4:
                self.files.pop(next(iter(self.files))).close()
            self.files[shard] = open_shard(self.paths[shard])
        return self.files[shard]

    def check(self) -> None:
        """Read the footer of every shard that is there, and all of it where that takes no time: a damaged one should be known now, not when a
        run of days reaches it. Shards from the hub were checked byte by byte when they came."""
        for path in self.paths:
            if path.exists():
                file = open_shard(path)
                for group in range(file.num_row_groups if path.stat().st_size <= CHECKED_BYTES else 0):
                    read_group(file, group, path)
                file.close()

    def texts(self, shard: int, stream: int, streams: int, dealt: int, skip: int) -> Iterator[str]:
        """The documents of one stream in one shard, without the first `skip`. Row groups are dealt in turn, counting on from shard to shard;
        of a shard with fewer row groups than streams, documents are dealt."""
        file = self.open(shard)
        groups = range(file.num_row_groups)
        by_document = len(groups) < streams
        for group in groups:
            rows = self.open(shard).metadata.row_group(group).num_rows
            if by_document:
                mine = range((stream - dealt) % streams, rows, streams)
                dealt += rows
            else:
                mine = range(rows if (dealt + group) % streams == stream else 0)
            if skip < len(mine):  # groups that are skipped whole are not read
                texts = self._group(shard, group)
                yield from (texts[i] for i in mine[skip:])
            skip = max(0, skip - len(mine))

    def hands_out(self, shard: int, streams: int) -> int:
        """How many cards a shard adds to the deal: row groups, or documents where there are too few of those."""
        file = self.open(shard)
        return file.num_row_groups if file.num_row_groups >= streams else file.metadata.num_rows

    def _group(self, shard: int, group: int) -> list[str]:
        if self.last_group[0] != (shard, group):  # streams that are dealt by document read the same group one after the other
            self.last_group = ((shard, group), read_group(self.open(shard), group, self.paths[shard]))
        return self.last_group[1]

    def documents_at_least(self, needed: int) -> int:
        """Number of documents, counted only as far as needed."""
        count = 0
        for shard in range(len(self.paths)):
            count += self.open(shard).metadata.num_rows
            if count >= needed:
                break
        return count


# --- state -----------------------------------------------------------------------------------------------------------


class LoaderState(NamedTuple):
    """All that a loader needs to deliver the very next batch. Cheap to make with each batch: the documents in it are shared, not copied."""

    row: int  # the next row of the global order
    row_tokens: int
    n_streams: int
    streams: dict[int, StreamState]  # those of this rank
    identity: str = ""  # of what: data set, split, size of the buffers

    @property
    def epoch(self) -> int:
        return min(stream.epoch for stream in self.streams.values())

    def counts(self) -> dict[str, float]:
        """Documents and tokens read so far, and the share of the tokens that was cropped."""
        documents, tokens, cropped = (sum(getattr(s, name) for s in self.streams.values()) for name in ("documents", "tokens", "cropped"))
        return {"documents": documents, "tokens": tokens, "cropped": cropped / max(1, tokens)}

    def state_dict(self) -> dict:
        """Tensors and plain numbers, for torch.save."""
        import torch

        streams = {}
        for index, stream in self.streams.items():
            lengths = torch.tensor([len(document) for document in stream.buffer], dtype=torch.int32)
            tokens = torch.from_numpy(np.concatenate([np.zeros(0, np.uint32), *stream.buffer]).astype(np.int32))
            streams[index] = {**stream._asdict(), "buffer": {"lengths": lengths, "tokens": tokens}}
        return {"row": self.row, "row_tokens": self.row_tokens, "n_streams": self.n_streams, "streams": streams, "identity": self.identity}

    @classmethod
    def from_state_dicts(cls, states: Iterable[dict]) -> "LoaderState":
        """Put together what the ranks of a run saved, in any number of pieces."""
        states = list(states)
        streams = {}
        for state in states:
            assert (state["row"], state["n_streams"]) == (states[0]["row"], states[0]["n_streams"]), "states of different moments"
            for index, stream in state["streams"].items():
                ends = np.cumsum(stream["buffer"]["lengths"].numpy())[:-1]
                buffer = np.split(stream["buffer"]["tokens"].numpy().astype(np.uint32), ends) if len(stream["buffer"]["lengths"]) else ()
                streams[int(index)] = StreamState(**{**stream, "buffer": tuple(buffer)})
        return cls(states[0]["row"], states[0]["row_tokens"], states[0]["n_streams"], streams, states[0]["identity"])


# --- the loader ------------------------------------------------------------------------------------------------------


def pretrain_batches(
    tokenizer: Tokenizer,
    dataset: str,
    batch_size: int,
    sequence_len: int,
    split: str,
    compute: Compute,
    state: LoaderState | None = None,
    buffer_size: int = BUFFER_DOCUMENTS,
    prefetch: bool = True,
) -> Iterator[tuple["torch.Tensor", "torch.Tensor", LoaderState]]:
    """Endless batches x, y of (batch_size, sequence_len) int64 on the rank's device, each with the state after it.

    Whatever is wrong with the data is said before this returns. Prefetching prepares batches in a thread and changes nothing else.
    """
    source = open_dataset(dataset)
    if batch_size < 1:
        raise UserError(f"a batch of {batch_size} rows: it takes one at least")
    streams = state.n_streams if state and state.n_streams % compute.world_size == 0 else stream_count(compute.world_size)
    identity = f"{dataset} {split}, {buffer_size} documents waiting"
    shards = Shards(source.shards(split))
    shards.check()
    _check_enough(source.name, split, shards, streams, compute)
    if state is not None:
        _check_state(state, identity, streams, sequence_len, compute)
    rows = _Rows(tokenizer, shards, batch_size, sequence_len, compute, streams, state, buffer_size, identity)
    batches = _prefetched(rows) if prefetch else iter(rows)
    return _on_device(batches, compute)


class _Rows:
    """The batches of one rank as arrays: each row from the stream whose turn it is."""

    def __init__(
        self, tokenizer, shards, batch_size, sequence_len, compute: Compute, streams: int, state: LoaderState | None, buffer_size: int, identity: str
    ):
        self.batch_size, self.compute, self.n_streams, self.identity = batch_size, compute, streams, identity
        self.row_tokens = sequence_len + 1
        self.row = state.row if state else 0
        mine = range(compute.rank, streams, compute.world_size)
        at = {s: state.streams[s] if state else StreamState() for s in mine}
        self.streams = {s: Stream(s, streams, shards, tokenizer, self.row_tokens, buffer_size, at[s]) for s in mine}

    def __iter__(self) -> Iterator[tuple["torch.Tensor", "torch.Tensor", LoaderState]]:
        import torch

        pinned = self.compute.device.type == "cuda"  # page-locked memory lets the copy to the GPU run while the GPU computes
        states = {s: stream.state() for s, stream in self.streams.items()}
        world_size, rank = self.compute.world_size, self.compute.rank
        while True:
            batch = np.empty((self.batch_size, self.row_tokens), dtype=np.int64)
            first = self.row + (rank - self.row) % world_size  # a run on other ranks may have stopped anywhere
            turns = [(first + k * world_size) % self.n_streams for k in range(self.batch_size)]
            for row, s in zip(batch, turns, strict=True):
                self.streams[s].fill(row)
            self.row += self.batch_size * world_size
            states = states | {s: self.streams[s].state() for s in set(turns)}  # a new dict: the old one belongs to the batch before
            # Copied here, by numpy, because here is the prefetching thread, and torch would wake its threads for it.
            x, y = (torch.from_numpy(np.ascontiguousarray(part)) for part in (batch[:, :-1], batch[:, 1:]))
            if pinned:
                x, y = x.pin_memory(), y.pin_memory()
            yield x, y, LoaderState(self.row, self.row_tokens, self.n_streams, states, self.identity)


# --- conversations ---------------------------------------------------------------------------------------------------


class SftState(NamedTuple):
    """Where a loader of conversations stands; the same on all ranks."""

    epoch: int = 1
    taken: int = 0  # conversations read in this epoch
    row: int = 0  # the next row of the global order
    waiting: tuple[int, ...] = ()  # conversations that are read but not yet in a row
    identity: str = ""  # of what: conversations, tokens of a row, size of the buffer
    conversations: int = 0  # in an epoch

    @property
    def epochs(self) -> float:
        """How much has been seen, counted in epochs."""
        return self.epoch - 1 + (self.taken - len(self.waiting)) / self.conversations

    def state_dict(self) -> dict:
        return {**self._asdict(), "waiting": list(self.waiting)}

    @classmethod
    def from_state_dict(cls, state: dict) -> "SftState":
        return cls(**{**state, "waiting": tuple(state["waiting"])})


def sft_batches(
    tokenizer: Tokenizer,
    conversations: Sequence[dict],
    batch_size: int,
    sequence_len: int,
    compute: Compute,
    state: SftState | None = None,
    buffer_size: int = BUFFER_CONVERSATIONS,
    prefetch: bool = True,
) -> Iterator[tuple["torch.Tensor", "torch.Tensor", SftState]]:
    """Endless batches x, y of (batch_size, sequence_len) on the rank's device, each with the state after it. y is -1 but for what the assistant says.

    Whole conversations are packed by best fit, and rows are padded where none fits; one that is longer than a row is cut. Every epoch has each
    conversation once. All ranks pack all rows, which is quick, and take every world_size-th: so any number of ranks sees the same global batches.
    """
    if not len(conversations):
        raise UserError("there are no conversations to train on: name a mixture that has some")
    if batch_size < 1:
        raise UserError(f"a batch of {batch_size} rows: it takes one at least")
    identity = f"{len(conversations)} conversations ({_fingerprint(conversations)}), {buffer_size} waiting, in rows of {sequence_len + 1} tokens"
    state = state or SftState(identity=identity, conversations=len(conversations))
    if state.identity != identity:
        raise UserError(
            f"the saved state belongs to other batches ({state.identity}), not to these ({identity}): start anew or resume on the same data"
        )
    rows = _conversation_rows(tokenizer, conversations, sequence_len + 1, state, buffer_size)
    batches = _conversation_batches(rows, batch_size, sequence_len, compute)
    return _on_device(_prefetched(batches) if prefetch else batches, compute)


def _fingerprint(conversations: Sequence[dict]) -> str:
    """Of a few of them, evenly spread: other data of the same number are noticed, and a million are not read for it."""
    some = [conversations[i]["messages"] for i in range(0, len(conversations), max(1, len(conversations) // 64))]
    return f"{zlib.crc32(repr(some).encode(errors='backslashreplace')):08x}"


def _conversation_rows(
    tokenizer: Tokenizer, conversations: Sequence[dict], row_tokens: int, state: SftState, buffer_size: int
) -> Iterator[tuple[list[tuple[list[int], list[int]]], SftState]]:
    """(parts, state after) of every row of the global order; a part is a conversation's tokens and mask."""
    buffer = BestFit(row_tokens)

    def buffer_up(i: int) -> None:
        tokens, mask = tokenizer.render_conversation(conversations[i], row_tokens)
        buffer.add(len(tokens), (i, tokens, mask))

    for i in state.waiting:
        buffer_up(i)
    epoch, taken, row = state.epoch, state.taken, state.row
    while True:
        parts, room = [], row_tokens
        while True:
            while len(buffer) < buffer_size and taken < len(conversations):
                buffer_up(taken)
                taken += 1
            if not buffer.has_for(room):
                break
            length, (_, tokens, mask) = buffer.take(room)
            parts.append((tokens, mask))
            room -= length
        row += 1
        if not len(buffer) and taken == len(conversations):
            epoch, taken = epoch + 1, 0
        yield parts, state._replace(epoch=epoch, taken=taken, row=row, waiting=tuple(i for i, _, _ in buffer.waiting.values()))


def _conversation_batches(rows: Iterator, batch_size: int, sequence_len: int, compute: Compute) -> Iterator:
    import torch

    pinned = compute.device.type == "cuda"
    while True:
        x = np.zeros((batch_size, sequence_len), dtype=np.int64)
        y = np.full((batch_size, sequence_len), -1, dtype=np.int64)
        for k in range(batch_size * compute.world_size):
            parts, state = next(rows)
            if (state.row - 1) % compute.world_size == compute.rank:
                _fill(x[k // compute.world_size], y[k // compute.world_size], parts)
        tensors = [torch.from_numpy(t) for t in (x, y)]
        yield *((t.pin_memory() for t in tensors) if pinned else tensors), state


def _fill(x: np.ndarray, y: np.ndarray, parts: list[tuple[list[int], list[int]]]) -> None:
    """A row of inputs and targets. The row has a token more than x: its last one is a target only."""
    tokens = np.fromiter((token for ids, _ in parts for token in ids), dtype=np.int64)
    trained = np.fromiter((bit for _, mask in parts for bit in mask), dtype=bool)
    inputs = tokens[: len(x)]
    x[: len(inputs)] = inputs
    y[: len(tokens) - 1] = np.where(trained, tokens, -1)[1:]


# --- delivery --------------------------------------------------------------------------------------------------------


def _on_device(batches: Iterator[tuple["torch.Tensor", "torch.Tensor", LoaderState]], compute: Compute) -> Iterator:
    for x, y, state in batches:
        yield x.to(compute.device, non_blocking=True), y.to(compute.device, non_blocking=True), state


def _prefetched(items: Iterable, depth: int = PREFETCHED_BATCHES) -> Iterator:
    """The same items, made ahead of time in a thread. An error is raised where the item would have come."""
    ready: queue.Queue = queue.Queue(depth)
    stopped = threading.Event()

    def hand_over(item: tuple[object, BaseException | None] | None) -> bool:
        while not stopped.is_set():
            try:
                ready.put(item, timeout=0.1)
                return True
            except queue.Full:
                continue
        return False

    def work() -> None:
        try:
            for item in items:
                if not hand_over((item, None)):
                    return
            hand_over(None)  # that was all
        except BaseException as error:
            hand_over((None, error))

    thread = threading.Thread(target=work, name="dataloader", daemon=True)
    thread.start()
    try:
        while (entry := ready.get()) is not None:
            item, error = entry
            if error is not None:
                raise error
            yield item
    finally:
        stopped.set()
        thread.join(timeout=10)  # a thread that is still at work when Python shuts down can take the process with it


def _check_enough(name: str, split: str, shards: Shards, streams: int, compute: Compute) -> None:
    count = shards.documents_at_least(streams)
    if count < streams:
        raise UserError(f"the {split} split of data set {name!r} has {count} documents, too few for {compute.world_size} ranks, "
                        f"which need at least {streams} (one for each stream): use fewer ranks or more data")  # fmt: skip


def _check_state(state: LoaderState, identity: str, streams: int, sequence_len: int, compute: Compute) -> None:
    if state.identity != identity:
        raise UserError(
            f"the saved state belongs to other batches ({state.identity}), not to these ({identity}): start anew or resume on the same data"
        )
    if state.n_streams != streams:
        raise UserError(f"the run was saved with {state.n_streams} data streams, and {compute.world_size} ranks need {streams}: "
                        f"resume on a number of ranks that divides {state.n_streams}")  # fmt: skip
    if state.row_tokens != sequence_len + 1:
        raise UserError(
            f"the run was saved with --max-seq-len {state.row_tokens - 1}, not {sequence_len}: its buffered documents are cut for that length"
        )
    missing = [s for s in range(compute.rank, streams, compute.world_size) if s not in state.streams]
    if missing:
        raise UserError(f"the saved state lacks data streams {missing}: put together the states of all ranks of that run")
