"""Where pretraining text comes from: a hub, the embedded world, or the user's own files. All end up as the same parquet shards.

    python -m nanochat.dataset -n 8                                      # 8 shards of climbmix, and the validation shard
    python -m nanochat.dataset --source tinyworld --megabytes 24         # the embedded corpus, no network
    python -m nanochat.dataset --import ~/notes --name mine              # your own txt, md, jsonl and parquet files

A data set is a folder base_data_<name> of shards with a `text` column; the last shard is validation. dataset.json beside them lists the
shards that belong to it, so a training run can follow a download that is still going on. Without it (shards made elsewhere), what is there counts.
"""

import argparse
import contextlib
import json
import math
import os
import random
import shutil
import struct
import sys
import time
from collections.abc import Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path
from typing import NamedTuple

import pyarrow as pa
import pyarrow.parquet as pq

from nanochat.common import DEFAULT_DATASET, ArgumentParser, UserError, check_name, friendly_errors, get_base_dir, print0, write_text
from nanochat.hub import finish_downloads, hub_file, is_locked, locked
from nanochat.importing import DOCUMENT_CHARS, Problems, find_files, read_documents

HUB_SOURCES = {  # name → (repository, number of shards); the last one is for validation
    "climbmix": ("karpathy/climbmix-400b-shuffle", 6543),
    "fineweb_edu": ("karpathy/fineweb-edu-100b-shuffle", 1823),
}
ROWS_PER_GROUP = 1024
CANONICAL_STREAMS = 8  # the loader deals the documents of a split to so many streams; each needs one at least
IMPORT_SHARD_CHARS = 100_000_000
IMPORT_BUCKET_BYTES = 64_000_000


class Dataset(NamedTuple):
    name: str
    train: tuple[Path, ...]
    val: Path

    def shards(self, split: str) -> tuple[Path, ...]:
        return {"train": self.train, "val": (self.val,)}[split]


# --- reading ---------------------------------------------------------------------------------------------------------


def dataset_dir(name: str) -> Path:
    return get_base_dir() / f"base_data_{check_name('data set', name)}"


def shard_name(index: int) -> str:
    return f"shard_{index:05d}.parquet"


def open_dataset(name: str) -> Dataset:
    """The shards of a data set, those that are still being downloaded among them. Whatever is wrong with it is said here."""
    directory = dataset_dir(name)
    _restore(name)
    if (directory / "dataset.json").exists():
        listed = _read_record(directory)["shards"]
    else:
        listed = sorted(path.name for path in directory.glob("shard_*.parquet"))
    if not listed:
        raise UserError(f"there is no data set {name!r} in {get_base_dir()}. {_how_to_get(name)}")
    if len(listed) < 2:
        raise UserError(
            f"data set {name!r} has a single shard, {listed[0]}, and the last one is for validation: at least two are needed. {_how_to_get(name)}"
        )
    dataset = Dataset(name, tuple(directory / file for file in listed[:-1]), directory / listed[-1])
    for path in (*dataset.train, dataset.val):
        if path.exists():
            check_shard(path)
    for path in (dataset.train[0], dataset.val):
        wait_for_shard(path)
    downloading = _is_downloading(directory)  # asked first: a download that ends between these two lines has brought everything
    missing = [path.name for path in (*dataset.train, dataset.val) if not path.exists()]
    if missing and not downloading:
        raise UserError(
            f"data set {name!r} lacks {len(missing)} of its shards ({', '.join(missing[:3])} …) and nobody is downloading. {_how_to_get(name)}"
        )
    return dataset


def _read_record(directory: Path) -> dict:
    path = directory / "dataset.json"
    try:
        record = json.loads(path.read_text(encoding="utf-8"))
        if not all(isinstance(name, str) for name in record["shards"]):
            raise ValueError("its list of shards is odd")
        return record
    except (ValueError, TypeError, KeyError) as error:
        raise UserError(f"{path} is damaged ({error}): delete it to use the shards as they are, or make or download the data set again") from error


def _how_to_get(name: str) -> str:
    if name == "tinyworld":
        return "Make it with: python -m nanochat.dataset --source tinyworld"
    if name in HUB_SOURCES:
        return f"Download it with: python -m nanochat.dataset --source {name} -n 8"
    have = sorted(path.name.removeprefix("base_data_") for path in get_base_dir().glob("base_data_*"))
    return f"You have: {', '.join(have) or 'none'}. Import your own with: python -m nanochat.dataset --import PATH --name {name}"


def check_shard(path: Path) -> None:
    """A parquet file begins and ends with PAR1; one that was cut off does not. Two small reads, so thousands of shards cost nothing."""
    with open(path, "rb") as file:
        head = file.read(4)
        size = file.seek(0, 2)
        file.seek(max(0, size - 8))
        length, tail = struct.unpack("<i4s", file.read(8)) if size >= 12 else (0, b"")
    if head != b"PAR1" or tail != b"PAR1" or not 0 < length <= size - 12:
        raise UserError(f"{path} is not a whole parquet file (half-downloaded or damaged): delete it and make or download the data set again")


def wait_for_shard(path: Path, poll: float = 1.0) -> None:
    """Return when the shard is there. If it is not, and nobody is downloading it, say so."""
    told = False
    while not path.exists():
        if not _is_downloading(path.parent) and not path.exists():
            name = path.parent.name.removeprefix("base_data_")
            raise UserError(f"{path.name} of data set {name!r} is missing and nobody is downloading it. {_how_to_get(name)}")
        if not told:
            print0(f"waiting for {path.name}, which is still being downloaded")
            told = True
        time.sleep(poll)


def _is_downloading(directory: Path) -> bool:
    return is_locked(directory / ".downloading")


def open_shard(path: Path) -> pq.ParquetFile:
    wait_for_shard(path)
    try:
        file = pq.ParquetFile(path, page_checksum_verification=True)
    except (OSError, pa.ArrowException) as error:
        raise UserError(f"{path} is damaged ({error}): delete it and make or download the data set again") from error
    if "text" not in file.schema_arrow.names:
        raise UserError(f"{path} has no 'text' column (it has: {', '.join(file.schema_arrow.names)}): import it with --import PATH --field NAME")
    return file


def read_group(file: pq.ParquetFile, group: int, path: Path) -> list[str]:
    """The documents of a row group; a row without text is an empty document."""
    try:
        return [text or "" for text in file.read_row_group(group, columns=["text"]).column("text").to_pylist()]
    except (OSError, pa.ArrowException, UnicodeDecodeError) as error:
        raise UserError(f"{path} is damaged in row group {group} ({error}): delete it and make or download the data set again") from error


def parquets_iter_batched(
    split: str, name: str = DEFAULT_DATASET, start: int = 0, step: int = 1, max_shards: int | None = None
) -> Iterator[list[str]]:
    """The documents of a split, a row group at a time, once through and in order; start and step deal row groups to ranks."""
    for path in open_dataset(name).shards(split)[:max_shards]:
        file = open_shard(path)
        for group in range(start, file.num_row_groups, step):
            yield read_group(file, group, path)


# --- writing ---------------------------------------------------------------------------------------------------------


def write_shard(path: Path, documents: list[str], rows_per_group: int = ROWS_PER_GROUP) -> None:
    table = pa.table({"text": pa.array(documents, pa.string())})
    pq.write_table(table, path, row_group_size=rows_per_group, compression="zstd", compression_level=3, write_page_checksum=True)


def write_shards(documents: Iterable[str], directory: Path, shard_chars: int, rows_per_group: int, first: int = 0) -> list[str]:
    """Pack documents into shards of about shard_chars characters; the names of the shards, in order."""
    names: list[str] = []
    held: list[str] = []
    size = 0

    def flush() -> None:
        names.append(shard_name(first + len(names)))
        write_shard(directory / names[-1], held, rows_per_group)

    for text in documents:
        held.append(text)
        size += len(text)
        if size >= shard_chars:
            flush()
            held, size = [], 0
    if held:
        flush()
    return names


def _install(built: Path, name: str, record: dict) -> Path:
    """Give a finished folder its name; an older data set of that name goes away only when the new one is whole."""
    target = dataset_dir(name)
    write_text(built / "dataset.json", json.dumps({"name": name, **record}, indent=1))
    if target.exists():
        old = _old(name)
        target.rename(old)
        built.rename(target)
        shutil.rmtree(old)
    else:
        built.rename(target)
    return target


def _old(name: str) -> Path:
    return get_base_dir() / f".base_data_{name}.old"


def _restore(name: str) -> None:
    """If a process died just between taking the old data set away and putting the new one in its place, the old one comes back."""
    if _old(name).exists() and not dataset_dir(name).exists():
        with contextlib.suppress(FileNotFoundError):  # another process was faster
            _old(name).rename(dataset_dir(name))


@contextlib.contextmanager
def _workshop(name: str) -> Iterator[Path]:
    """A folder beside the data sets to build one in, for one process at a time; it is gone afterwards, whatever happened."""
    base = get_base_dir()
    base.mkdir(parents=True, exist_ok=True)
    built = base / f".base_data_{name}.new"
    with locked(base / f".base_data_{name}.lock"):
        _restore(name)
        for left_over in (built, _old(name)):  # by a process that was killed
            shutil.rmtree(left_over, ignore_errors=True)
        built.mkdir()
        try:
            yield built
        finally:
            shutil.rmtree(built, ignore_errors=True)


# --- the three sources -----------------------------------------------------------------------------------------------


def download(name: str, n_shards: int, workers: int) -> Path:
    """n training shards (-1: all) and the validation shard of a hub data set, those that are there already left alone."""
    repo, total = HUB_SOURCES[name]
    wanted = list(range(total - 1))[: n_shards if n_shards >= 0 else None]
    directory = dataset_dir(name)
    directory.mkdir(parents=True, exist_ok=True)
    with locked(directory / ".downloading"):  # a second process waits here and then finds most of its work done
        there = [path.name for path in directory.glob("shard_*.parquet")]
        names = sorted({*map(shard_name, wanted), shard_name(total - 1), *there})
        write_text(directory / "dataset.json", json.dumps({"name": name, "source": repo, "shards": names}, indent=1))
        missing = [file for file in [names[-1], *names[:-1]] if not _is_whole(directory / file)]  # validation first: nothing runs without it
        print0(f"{name}: {len(names) - len(missing)} shards are here, {len(missing)} to download to {directory}")
        failed = [str(error) for error in _download_all(repo, directory, missing, workers) if error]
        if failed:
            raise UserError(f"{len(failed)} of {len(missing)} shards did not arrive. The first: {failed[0]}")
        finish_downloads(directory)
    return directory


def _download_all(repo: str, directory: Path, names: list[str], workers: int) -> list[UserError | None]:
    with ThreadPoolExecutor(workers) as pool:
        try:
            return list(pool.map(partial(_try_download, repo, directory), names))
        except KeyboardInterrupt:  # the pool would finish the shards it is at, which may take minutes; what has arrived survives without that
            print("interrupted: run the same command again to resume", file=sys.stderr, flush=True)
            os._exit(130)


def _is_whole(path: Path) -> bool:
    try:
        check_shard(path)
        return True
    except FileNotFoundError:
        return False
    except UserError:
        print0(f"{path.name} is not whole; downloading it again")
        path.unlink()
        return False


def _try_download(repo: str, directory: Path, name: str) -> UserError | None:
    try:
        hub_file(repo, name, directory)
        check_shard(directory / name)
    except UserError as error:
        return error
    return None


def generate(megabytes: float) -> Path:
    """The embedded corpus. Asked for the same amount again, it does nothing."""
    from nanochat import tinyworld

    if not 0 < megabytes < math.inf:
        raise UserError(f"--megabytes {megabytes:g}: ask for more than nothing, and for less than everything")
    target = dataset_dir("tinyworld")
    record = {"source": "tinyworld", "megabytes": megabytes, "world": tinyworld.fingerprint()}
    if (target / "dataset.json").exists():
        before = _read_record(target)
        if {key: before.get(key) for key in record} == record and all((target / file).exists() for file in before["shards"]):
            print0(f"tinyworld: {megabytes:g} MB are in {target} already")
            return target
    train_chars, val_chars = max(1, int(megabytes * 1e6)), max(1, int(min(1e6, megabytes * 1e5)))
    start = time.perf_counter()
    with _workshop("tinyworld") as built:
        shard_chars = max(8_000_000, train_chars // 16)
        names = write_shards(_first_chars(tinyworld.documents("train"), train_chars), built, shard_chars, rows_per_group=256)
        names += write_shards(_first_chars(tinyworld.documents("val"), val_chars), built, 2 * val_chars + 1_000_000, 256, first=len(names))
        _install(built, "tinyworld", {**record, "shards": names})
    print0(f"tinyworld: wrote {megabytes:g} MB in {len(names)} shards to {target} in {time.perf_counter() - start:.1f} s")
    return target


def _first_chars(documents: Iterator[str], limit: int) -> Iterator[str]:
    size = 0
    while size < limit:
        text = next(documents)
        size += len(text)
        yield text


def import_files(path: Path, name: str, field: str | None = None, overwrite: bool = False, document_chars: int = DOCUMENT_CHARS) -> Path:
    """The user's files as a data set: shuffled over everything, with memory for one bucket only, the last shard for validation."""
    check_name("data set", name)
    if name in HUB_SOURCES or name == "tinyworld":
        raise UserError(f"--name {name} is taken by a built-in data set: choose another")
    _restore(name)
    if dataset_dir(name).exists() and not overwrite:
        raise UserError(f"data set {name!r} exists already: add --overwrite to replace it, or choose another --name")
    problems = Problems()
    files = find_files(path, field, problems)
    print0(f"importing {len(files)} files from {path}")
    with _workshop(name) as built:
        if dataset_dir(name).exists() and not overwrite:  # asked again: another import may have finished while we waited for the lock
            raise UserError(f"data set {name!r} has just been made by another process: add --overwrite to replace it")
        n_buckets = min(256, 1 + sum(file.stat().st_size for file in files) // IMPORT_BUCKET_BYTES)
        buckets = [built / f"bucket_{i}" for i in range(n_buckets)]
        documents, chars = _scatter(read_documents(files, field, problems, document_chars), buckets)
        print0(f"read {documents:,} documents, {chars:,} characters; {problems.summary()}")
        if documents < 2 * CANONICAL_STREAMS:
            raise UserError(
                f"--import {path}: found {documents} usable documents, and {2 * CANONICAL_STREAMS} are the least, half of them to validate on. "
                "Nothing was written. Add text, or cut text files into shorter documents with --document-chars"
            )
        val_chars = min(chars // 20, IMPORT_SHARD_CHARS // 2)
        n_train = 1 + (chars - val_chars) // IMPORT_SHARD_CHARS
        # Many row groups a shard, so that the streams of the loader can be dealt whole ones.
        rows_per_group = max(1, min(ROWS_PER_GROUP, documents // n_train // 32))
        shuffled = _gather(buckets)
        train = _all_but_last(shuffled, documents - CANONICAL_STREAMS, chars - val_chars)
        names = write_shards(train, built, (chars - val_chars) // n_train + 1, rows_per_group)
        names += write_shards(shuffled, built, 2 * chars, rows_per_group, first=len(names))
        for bucket in buckets:
            bucket.unlink()
        write_text(built / "problems.txt", problems.summary(show=len(problems.lines)) + "\n")
        target = _install(
            built, name, {"source": "import", "documents": documents, "characters": chars, "problems": problems.counts, "shards": names}
        )
    unused = "; what could not be used is listed in problems.txt there" if problems.lines else ""
    print0(f"wrote {len(names)} shards to {target}{unused}. Use it with --dataset {name}")
    return target


def _scatter(documents: Iterator[str], buckets: list[Path]) -> tuple[int, int]:
    """Throw each document into a random bucket. Together with a shuffle of each bucket this shuffles everything."""
    dice = random.Random(1337)
    count = chars = 0
    with contextlib.ExitStack() as stack:
        files = [stack.enter_context(open(bucket, "wb")) for bucket in buckets]
        for text in documents:
            raw = text.encode("utf-8")
            file = files[int(dice.random() * len(files))]
            file.write(struct.pack("<q", len(raw)))
            file.write(raw)
            count += 1
            chars += len(text)
    return count, chars


def _gather(buckets: list[Path]) -> Iterator[str]:
    dice = random.Random(4242)
    for bucket in buckets:
        raw, documents, at = bucket.read_bytes(), [], 0
        while at < len(raw):
            (length,) = struct.unpack_from("<q", raw, at)
            documents.append(raw[at + 8 : at + 8 + length].decode("utf-8"))
            at += 8 + length
        for i in range(len(documents) - 1, 0, -1):  # Fisher-Yates on random() alone, the same on every version of Python
            j = int(dice.random() * (i + 1))
            documents[i], documents[j] = documents[j], documents[i]
        yield from documents


def _all_but_last(documents: Iterator[str], count: int, chars: int) -> Iterator[str]:
    """Pass on documents until there are enough characters, but no more than count."""
    size = 0
    for _ in range(count):
        text = next(documents)
        size += len(text)
        yield text
        if size >= chars:
            return


# --- command line ----------------------------------------------------------------------------------------------------


def parse_args() -> argparse.Namespace:
    parser = ArgumentParser(description="Get text to pretrain on: from the hub, from the embedded world, or from your own files")
    parser.add_argument(
        "-n", "--num-files", type=int, default=-1, help="how many training shards to download (-1: all); the validation shard comes along"
    )
    parser.add_argument("-w", "--num-workers", type=int, default=4, help="how many downloads at a time")
    parser.add_argument("--source", choices=[*HUB_SOURCES, "tinyworld"], default=DEFAULT_DATASET, help="which data set to get")
    parser.add_argument("--megabytes", type=float, default=None, help="how much text of tinyworld to generate (default: 24)")
    parser.add_argument("--import", dest="path", type=Path, default=None, help="a file or folder of your own: txt, md, jsonl, parquet")
    parser.add_argument("--name", default=None, help="the name of the imported data set, later given to --dataset")
    parser.add_argument("--field", default=None, help="which field (jsonl) or column (parquet) holds the text; the usual ones are found without it")
    parser.add_argument(
        "--document-chars",
        type=int,
        default=DOCUMENT_CHARS,
        help="longest piece to cut txt and md files into; about 4 characters for each token of --max-seq-len",
    )
    parser.add_argument("--overwrite", action="store_true", help="replace an imported data set of the same name")
    args = parser.parse_args()
    if args.path and not args.name:
        parser.error("--import needs --name, the name you will give to --dataset")
    if args.name and not args.path:
        parser.error("--name goes with --import PATH")
    if args.document_chars < 100:
        parser.error(f"--document-chars {args.document_chars} is too short for a document: take 100 or more")
    if args.megabytes is not None and args.source != "tinyworld":
        parser.error("--megabytes goes with --source tinyworld")
    if args.num_files < -1 or args.num_workers < 1:
        parser.error("-n takes -1 or more, -w takes 1 or more")
    return args


def main(args: argparse.Namespace) -> None:
    if args.path:
        import_files(args.path.expanduser(), args.name, args.field, args.overwrite, args.document_chars)
    elif args.source == "tinyworld":
        generate(24 if args.megabytes is None else args.megabytes)
    else:
        download(args.source, args.num_files, args.num_workers)


if __name__ == "__main__":
    with friendly_errors():
        main(parse_args())
