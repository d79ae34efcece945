import random
import threading
from collections import Counter
from itertools import islice

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch

from nanochat import dataloader, dataset
from nanochat.common import Compute, UserError
from nanochat.dataloader import BestFit, LoaderState, Shards, StreamState, _prefetched, pretrain_batches, stream_count
from nanochat.dataset import write_shard
from nanochat.tokenizer import Tokenizer

CPU = torch.device("cpu")


class Letters:
    """A tokenizer for these tests: one token a character, so documents can be read back from rows."""

    def get_bos_token_id(self) -> int:
        return 0

    def encode_array(self, text: str) -> np.ndarray:
        return np.array([ord(c) for c in text], dtype=np.uint32)


def rank_of(rank: int, world_size: int) -> Compute:
    return Compute(world_size > 1, rank, rank, world_size, CPU)


def make_data(tmp_path, monkeypatch, shards: list[list[str]], rows_per_group: int = 10, name: str = "test") -> str:
    """A data set of the given shards; the last one is validation."""
    monkeypatch.setenv("NANOCHAT_BASE_DIR", str(tmp_path))
    directory = dataset.dataset_dir(name)
    directory.mkdir(parents=True)
    for i, documents in enumerate(shards):
        write_shard(directory / dataset.shard_name(i), documents, rows_per_group)
    return name


def numbered(first: int, count: int, longest: int = 40, seed: int = 0) -> list[str]:
    """Documents that name themselves, of various lengths."""
    dice = random.Random(seed + first)
    return [f"[{i}]" + "x" * dice.randint(0, longest) for i in range(first, first + count)]


def batches(n: int, name: str, B: int, T: int, split="train", compute=None, **more) -> list:
    return list(islice(pretrain_batches(Letters(), name, B, T, split, compute or rank_of(0, 1), **more), n))


def same(a: list, b: list) -> bool:
    return len(a) == len(b) and all(torch.equal(x, u) and torch.equal(y, v) for (x, y, _), (u, v, _) in zip(a, b, strict=True))


# --- best fit --------------------------------------------------------------------------------------------------------


def scan(waiting: list[tuple[int, int]], room: int) -> int:
    """The plain rule: the longest that fits, the first of equals; else the shortest, the first of equals. Returns its place in the list."""
    fitting = [i for i, (length, _) in enumerate(waiting) if length <= room]
    if fitting:
        return max(fitting, key=lambda i: (waiting[i][0], -i))
    return min(range(len(waiting)), key=lambda i: (waiting[i][0], i))


@pytest.mark.parametrize("seed", range(5))
def test_best_fit_chooses_what_a_scan_chooses(seed):
    dice = random.Random(seed)
    capacity = dice.choice([5, 64, 257, 2049])
    fit, waiting = BestFit(capacity), []
    for number in range(6000):
        length = min(capacity, 1 + int(dice.expovariate(1 / (capacity / 3))))
        fit.add(length, np.array([number]))
        waiting.append((length, number))
        while len(waiting) > 300 * dice.random():
            room = dice.randint(1, capacity)
            length, document = fit.take(room)
            assert (length, document[0]) == waiting.pop(scan(waiting, room))
            if not waiting:
                break
    assert len(fit) == len(waiting)


def test_whole_rows_equal_a_plain_packer(tmp_path, monkeypatch):
    """The loader against a straight transcription of the design: streams, buffers as lists, scans."""
    documents = numbered(0, 900)
    name = make_data(tmp_path, monkeypatch, [documents[:400], documents[400:], numbered(1000, 20)], rows_per_group=7)
    T, buffer_size = 63, 30
    groups = [documents[:400][i : i + 7] for i in range(0, 400, 7)] + [documents[400:][i : i + 7] for i in range(0, 500, 7)]

    def rows_of(stream: int):
        mine = [d for g, group in enumerate(groups) if g % 8 == stream for d in group]
        while True:  # an epoch
            to_come, waiting = iter(mine), []
            while True:
                row, room = [], T + 1
                while room:
                    while len(waiting) < buffer_size and (d := next(to_come, None)) is not None:
                        waiting.append((min(T + 1, len(d) + 1), d))
                    if not waiting:
                        to_come = iter(mine)  # the next epoch begins in the middle of a row
                        continue
                    length, d = waiting.pop(scan(waiting, room))
                    row += [0, *map(ord, d)][:room]
                    room -= min(length, room)
                yield row

    streams = [rows_of(s) for s in range(8)]
    for n, (x, y, _) in enumerate(batches(60, name, 5, T, buffer_size=buffer_size)):
        for k in range(5):
            row = next(streams[(5 * n + k) % 8])
            assert x[k].tolist() == row[:-1] and y[k].tolist() == row[1:]


def test_rows_begin_with_bos_and_are_full(in_small_world, tokenizer):
    for x, y, _ in islice(pretrain_batches(tokenizer, "tinyworld", 4, 128, "train", rank_of(0, 1)), 20):
        assert x.shape == y.shape == (4, 128) and x.dtype == torch.int64
        assert (x[:, 0] == tokenizer.get_bos_token_id()).all()
        assert torch.equal(x[:, 1:], y[:, :-1])
        assert x.is_contiguous() and y.is_contiguous()


# --- every document once ---------------------------------------------------------------------------------------------


def names_in(rows: torch.Tensor) -> list[str]:
    """The documents that begin in some rows. A document's name may be cut off by the end of a row; documents are longer than that here."""
    text = "".join("\n" if c == 0 else chr(c) for c in rows.flatten().tolist())
    return [line.split("]")[0] + "]" for line in text.split("\n") if line]


@pytest.mark.parametrize("rows_per_group", [3, 200])  # dealt by row group, and by document
@pytest.mark.parametrize("world_size", [1, 2, 4])
def test_each_epoch_deals_every_document_exactly_once(tmp_path, monkeypatch, rows_per_group, world_size):
    documents = [f"[{i:04d}]" for i in range(503)]  # of one length: ten make a row of 70, so none is cropped
    name = make_data(tmp_path, monkeypatch, [documents[:200], documents[200:350], documents[350:], ["[9999]"] * 9], rows_per_group)
    dealt: dict[int, list[str]] = {s: [] for s in range(8)}  # by stream, in order
    for rank in range(world_size):
        for x, y, state in islice(pretrain_batches(Letters(), name, 1, 69, "train", rank_of(rank, world_size), buffer_size=5), 176 // world_size):
            dealt[(state.row - world_size + rank) % 8] += names_in(torch.cat([x[:, :1], y], dim=1))
    epochs = [Counter(), Counter()]
    for names in dealt.values():
        size = len(set(names))  # the documents of this stream
        assert len(names) > 2 * size
        epochs[0].update(names[:size])
        epochs[1].update(names[size : 2 * size])
    assert epochs[0] == epochs[1] == Counter(documents)


def test_cropping_is_counted(tmp_path, monkeypatch):
    documents = ["y" * n for n in [5, 300, 30, 12, 80, 63, 64, 1000, 0, 2] * 40]
    name = make_data(tmp_path, monkeypatch, [documents, documents[:10]], rows_per_group=5)
    *_, (_, _, state) = batches(40, name, 4, 63, buffer_size=20)
    counts = state.counts()
    delivered = 40 * 4 * 64
    in_buffers = sum(len(document) + 1 for stream in state.streams.values() for document in stream.buffer)
    cropped = sum(stream.cropped for stream in state.streams.values())
    assert counts["tokens"] == delivered + in_buffers + cropped
    assert counts["cropped"] == cropped / counts["tokens"] > 0.3


# --- ranks -----------------------------------------------------------------------------------------------------------


def test_stream_counts():
    assert [stream_count(n) for n in (1, 2, 3, 4, 6, 8, 12, 16)] == [8, 8, 9, 8, 12, 8, 12, 16]


@pytest.mark.parametrize("rows_per_group", [5, 500])
def test_any_number_of_ranks_sees_the_same_global_batches(tmp_path, monkeypatch, rows_per_group):
    name = make_data(tmp_path, monkeypatch, [numbered(0, 300), numbered(300, 200), numbered(900, 30)], rows_per_group)

    def global_rows(world_size: int, n: int) -> torch.Tensor:
        """The rows of n global batches of 16, in the global order: row k of rank r of a micro-batch is row k * world_size + r."""
        per_rank = [
            [x for x, _, _ in batches(n, name, 16 // world_size, 31, compute=rank_of(r, world_size), buffer_size=40)] for r in range(world_size)
        ]
        return torch.cat([torch.stack(micro, dim=1).flatten(0, 1) for micro in zip(*per_rank, strict=True)])

    one = global_rows(1, 40)
    for world_size in (2, 4, 8):
        assert torch.equal(global_rows(world_size, 40), one)


def test_accumulation_does_not_change_the_order(tmp_path, monkeypatch):
    name = make_data(tmp_path, monkeypatch, [numbered(0, 300), numbered(900, 30)])
    whole = torch.cat([x for x, _, _ in batches(12, name, 8, 31)])
    parts = torch.cat([x for x, _, _ in batches(32, name, 3, 31)])
    assert torch.equal(whole, parts)


def test_twelve_ranks(tmp_path, monkeypatch):
    name = make_data(tmp_path, monkeypatch, [numbered(0, 300), numbered(900, 30)])
    states = [batches(1, name, 2, 31, compute=rank_of(r, 12))[0][2] for r in range(12)]
    assert [sorted(state.streams) for state in states] == [[r] for r in range(12)]


# --- state -----------------------------------------------------------------------------------------------------------


def through_disk(states: list[LoaderState], path) -> LoaderState:
    for i, state in enumerate(states):
        torch.save(state.state_dict(), path / f"state_{i}.pt")
    return LoaderState.from_state_dicts(torch.load(path / f"state_{i}.pt", weights_only=True) for i in range(len(states)))


@pytest.mark.parametrize("rows_per_group", [5, 300])
@pytest.mark.parametrize("stop", [1, 7, 30, 61, 62, 63, 64, 100, 145])  # within a shard, about its end, about the end of an epoch, in the third
def test_resuming_goes_on_with_the_very_next_batch(tmp_path, monkeypatch, rows_per_group, stop):
    name = make_data(tmp_path, monkeypatch, [numbered(0, 160), numbered(300, 140), numbered(900, 30)], rows_per_group)
    B, T = 3, 31
    straight = batches(stop + 50, name, B, T, buffer_size=25)
    for prefetch in (True, False):
        before = batches(stop, name, B, T, buffer_size=25, prefetch=prefetch)
        assert same(before, straight[:stop])
        state = through_disk([before[-1][2]], tmp_path)
        after = batches(50, name, B, T, buffer_size=25, state=state, prefetch=not prefetch)
        assert same(after, straight[stop:])
        assert [s.counts() for *_, s in after] == [s.counts() for *_, s in straight[stop:]]
    assert straight[-1][2].epoch >= (3 if stop > 140 else 1)


def test_resuming_on_another_number_of_ranks(tmp_path, monkeypatch):
    name = make_data(tmp_path, monkeypatch, [numbered(0, 260), numbered(900, 30)])
    two = [batches(10, name, 8, 31, compute=rank_of(r, 2), buffer_size=25) for r in range(2)]
    state = through_disk([two[0][-1][2], two[1][-1][2]], tmp_path)
    straight = batches(20, name, 16, 31, buffer_size=25)
    assert same(batches(10, name, 16, 31, buffer_size=25, state=state), straight[10:])
    eight = [batches(10, name, 2, 31, compute=rank_of(r, 8), buffer_size=25, state=state) for r in range(8)]
    for n, (x, _, _) in enumerate(straight[10:]):
        assert torch.equal(torch.stack([eight[r][n][0] for r in range(8)], dim=1).flatten(0, 1), x)


@pytest.mark.parametrize("stop", [1, 2, 3, 5, 8])
@pytest.mark.parametrize("world_size", [2, 4, 8])
def test_resuming_on_other_ranks_from_anywhere(tmp_path, monkeypatch, stop, world_size):
    """After an odd number of rows the turn is not at rank 0; every rank goes on with the rows that are its own."""
    name = make_data(tmp_path, monkeypatch, [numbered(0, 260), numbered(900, 30)])
    straight = torch.cat([x for x, _, _ in batches(80, name, 1, 31, buffer_size=25)])
    state = batches(stop, name, 1, 31, buffer_size=25)[-1][2]
    for rank in range(world_size):
        rows = torch.cat([x for x, _, _ in batches(3, name, 2, 31, compute=rank_of(rank, world_size), buffer_size=25, state=state)])
        mine = [row for row in range(stop, 80) if row % world_size == rank]
        assert torch.equal(rows, straight[mine[:6]])


def test_a_run_of_twelve_ranks_resumes_on_fewer(tmp_path, monkeypatch):
    name = make_data(tmp_path, monkeypatch, [numbered(0, 300), numbered(900, 30)])
    states = [batches(2, name, 1, 31, compute=rank_of(r, 12))[-1][2] for r in range(12)]
    further = [batches(3, name, 1, 31, compute=rank_of(r, 12), state=states[r]) for r in range(12)]
    one = torch.cat([x for x, _, _ in batches(3, name, 12, 31, state=through_disk(states, tmp_path))])
    assert torch.equal(one, torch.cat([further[r][n][0] for n in range(3) for r in range(12)]))


def test_a_state_belongs_to_its_batch(tmp_path, monkeypatch):
    """Prefetching runs ahead; the state that comes with a batch must not."""
    name = make_data(tmp_path, monkeypatch, [numbered(0, 160), numbered(900, 30)])
    loader = pretrain_batches(Letters(), name, 3, 31, "train", rank_of(0, 1), buffer_size=25)
    _, _, early = next(loader)
    before = early.state_dict()
    later = list(islice(loader, 40))
    assert str(early.state_dict()) == str(before)
    assert same(batches(40, name, 3, 31, buffer_size=25, state=early), later)


def test_unfitting_states_are_refused(tmp_path, monkeypatch):
    name = make_data(tmp_path, monkeypatch, [numbered(0, 160), numbered(900, 30)])
    (_, _, state), *_ = batches(1, name, 2, 31)
    with pytest.raises(UserError, match="resume on a number of ranks"):
        batches(1, name, 2, 31, compute=rank_of(0, 3), state=state)
    with pytest.raises(UserError, match="belongs to other batches"):
        batches(1, name, 2, 31, split="val", state=state)
    with pytest.raises(UserError, match="a batch of 0 rows"):
        batches(1, name, 0, 31)
    with pytest.raises(UserError, match="--max-seq-len 31"):
        batches(1, name, 2, 63, state=state)
    (_, _, half), *_ = batches(1, name, 2, 31, compute=rank_of(0, 2))
    with pytest.raises(UserError, match=r"lacks data streams \[1, 3, 5, 7\]"):
        batches(1, name, 2, 31, state=half)


def test_an_empty_buffer_survives_the_disk(tmp_path):
    state = LoaderState(0, 32, 8, {s: StreamState() for s in range(8)})
    assert through_disk([state], tmp_path) == state


# --- bad data and threads --------------------------------------------------------------------------------------------


def test_more_ranks_than_data(tmp_path, monkeypatch):
    name = make_data(tmp_path, monkeypatch, [numbered(0, 5), numbered(900, 5)])
    with pytest.raises(UserError, match=r"has 5 documents, too few for 1 ranks"):
        pretrain_batches(Letters(), name, 1, 31, "train", rank_of(0, 1))
    name = make_data(tmp_path, monkeypatch, [numbered(0, 20), numbered(900, 20)], name="more")
    with pytest.raises(UserError, match="use fewer ranks or more data"):
        pretrain_batches(Letters(), name, 1, 31, "train", rank_of(0, 24))


def test_streams_without_documents_do_not_hang(tmp_path, monkeypatch):
    """Documents are dealt on from shard to shard, so eight of them in two shards reach all eight streams. Where one gets none, that is said."""
    name = make_data(tmp_path, monkeypatch, [numbered(0, 4), numbered(4, 4), numbered(900, 8)])
    assert {document for x, _, _ in batches(3, name, 8, 63) for document in names_in(x)} == {f"[{i}]" for i in range(8)}
    name = make_data(tmp_path, monkeypatch, [[], numbered(900, 8)], name="odd")
    with pq.ParquetWriter(dataset.dataset_dir(name) / dataset.shard_name(0), pa.schema([("text", pa.string())])) as writer:
        for texts in (numbered(0, 12), *[[]] * 8):  # nine row groups, eight of them empty
            writer.write_table(pa.table({"text": pa.array(texts, pa.string())}))
    with pytest.raises(UserError, match="data stream 1 of 8 has no document"):
        batches(3, name, 8, 63)


def test_missing_data_is_said_before_the_first_batch(tmp_path, monkeypatch):
    monkeypatch.setenv("NANOCHAT_BASE_DIR", str(tmp_path))
    with pytest.raises(UserError, match=r"nanochat\.dataset --source climbmix"):
        pretrain_batches(Letters(), "climbmix", 1, 31, "train", rank_of(0, 1))


@pytest.mark.parametrize("checked", [0, 10**6])
def test_damage_in_a_later_shard_is_named(tmp_path, monkeypatch, checked):
    """Found before the first batch if shards are small enough to be read through, else when the run reaches it."""
    monkeypatch.setattr(dataloader, "CHECKED_BYTES", checked)
    name = make_data(tmp_path, monkeypatch, [numbered(0, 100, 400), numbered(100, 100, 400), numbered(900, 20)])
    path = dataset.dataset_dir(name) / dataset.shard_name(1)
    column = pq.ParquetFile(path).metadata.row_group(4).column(0)
    raw = bytearray(path.read_bytes())
    raw[column.data_page_offset + column.total_compressed_size - 5] ^= 1  # one bit, in the middle of the file
    path.write_bytes(raw)
    with pytest.raises(UserError, match=r"shard_00001.parquet is damaged"):
        loader = pretrain_batches(Letters(), name, 2, 63, "train", rank_of(0, 1), buffer_size=10)
        assert not checked
        list(islice(loader, 200))


def test_a_damaged_footer_is_known_before_the_first_batch(tmp_path, monkeypatch):
    name = make_data(tmp_path, monkeypatch, [numbered(0, 100), numbered(100, 100), numbered(900, 20)])
    path = dataset.dataset_dir(name) / dataset.shard_name(1)
    raw = bytearray(path.read_bytes())
    raw[-60:-8] = bytes(52)
    path.write_bytes(raw)
    with pytest.raises(UserError, match=r"shard_00001.parquet"):
        pretrain_batches(Letters(), name, 2, 63, "train", rank_of(0, 1))


def test_prefetching_stops_with_its_consumer():
    made = []

    def items():
        for i in range(10**9):
            made.append(i)
            yield i

    stream = _prefetched(items(), depth=2)
    assert [next(stream) for _ in range(5)] == [0, 1, 2, 3, 4]
    stream.close()
    for thread in threading.enumerate():
        if thread.name == "dataloader":
            thread.join(5)
            assert not thread.is_alive()
    assert len(made) < 20


def test_the_end_comes_where_it_is():
    assert list(_prefetched(range(10), depth=2)) == list(range(10))


def test_an_error_comes_where_its_item_would_have_come():
    def items():
        yield 1
        raise UserError("broken")

    stream = _prefetched(items())
    assert next(stream) == 1
    with pytest.raises(UserError, match="broken"):
        next(stream)


def test_groups_are_dealt_in_turn_across_shards(tmp_path, monkeypatch):
    """Ten row groups a shard do not favour streams 0 and 1: the next shard goes on where this one stopped."""
    make_data(tmp_path, monkeypatch, [numbered(0, 20), numbered(20, 20), numbered(900, 20)], rows_per_group=2)
    shards = Shards(dataset.open_dataset("test").train)
    counts = [sum(len(list(shards.texts(i, s, 8, dealt=10 * i, skip=0))) for i in range(2)) for s in range(8)]
    assert counts == [6, 6, 6, 6, 4, 4, 4, 4]


def test_with_the_real_tokenizer(in_small_world, tokenizer: Tokenizer):
    loader = pretrain_batches(tokenizer, "tinyworld", 8, 256, "val", rank_of(0, 1))
    rows = torch.cat([x for x, _, _ in islice(loader, 20)])
    texts = {text for batch in dataset.parquets_iter_batched("val", "tinyworld") for text in batch}
    documents = "".join(tokenizer.decode(row) for row in rows.tolist()).split("<|bos|>")
    assert sum(document in texts for document in documents) > 100  # all but those that were cropped or cut by the end of x
