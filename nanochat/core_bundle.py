"""Where CORE's questions come from: the published bundle, one generated from the embedded world, or a folder of the user's own.

    eval_bundle/core.yaml             the tasks: label, file, kind, number of examples shown before a question
                eval_meta_data.csv    what guessing gets right in each, in percent
                eval_data/*/*.jsonl   the items, one on a line

The published one is a single zip, downloaded once: resumed if the connection breaks, checked member by member, and unpacked beside the place
where it is to be, so that the folder is whole where it exists. $NANOCHAT_EVAL_BUNDLE_URL names another address for it.
"""

import contextlib
import csv
import hashlib
import http.client
import json
import os
import shutil
import stat
import sys
import time
import urllib.error
import urllib.request
import zipfile
import zlib
from collections.abc import Callable, Iterator
from pathlib import Path, PurePosixPath
from typing import NamedTuple

import yaml

from nanochat.common import OF_THE_DISK, UserError, get_base_dir, print0, sync_directory, write_text
from nanochat.hub import locked

BUNDLE_URL = "https://karpathy-public.s3.us-west-2.amazonaws.com/eval_bundle.zip"
REMEDIES = "Bring a bundle yourself (--bundle PATH), take the embedded one (--bundle tinyworld), or name a mirror in NANOCHAT_EVAL_BUNDLE_URL"
TOP = "eval_bundle"  # the one folder in the zip
ATTEMPTS, FIRST_WAIT, TIMEOUT = 4, 1.0, 60.0  # seconds
MOST_FILES, MOST_BYTES = 10_000, 4 << 30  # unpacked; the real bundle has a tenth of that

KINDS = {  # kind → the names of an item's options and of what they share; a text that is continued has no options
    "multiple_choice": ("choices", "query"),
    "schema": ("context_options", "continuation"),
    "language_modeling": (None, "context"),
}


class CoreTask(NamedTuple):
    label: str
    path: Path
    kind: str  # multiple_choice, schema or language_modeling
    shots: int
    delimiter: str = " "  # between a question and its answer
    baseline: float = 0.0  # share of right answers that guessing gets, 0 … 1


# --- reading ---------------------------------------------------------------------------------------------------------


def read_tasks(folder: Path) -> list[CoreTask]:
    """The tasks of a bundle, in its order. A file that is missing is named here, before anything is computed."""
    try:
        listed = yaml.safe_load((folder / "core.yaml").read_text(encoding="utf-8"))["icl_tasks"]
        with open(folder / "eval_meta_data.csv", encoding="utf-8", newline="") as file:
            baselines = {row["Eval Task"]: float(row["Random baseline"]) / 100 for row in csv.DictReader(file)}
        tasks = [_task_of(entry, folder, baselines) for entry in listed]
    except FileNotFoundError as error:
        raise UserError(f"{folder} is not a bundle of CORE tasks: {error.filename} is missing. {REMEDIES}") from error
    except UserError:
        raise
    except (yaml.YAMLError, KeyError, IndexError, TypeError, ValueError, AttributeError) as error:
        raise UserError(f"the bundle in {folder} is damaged ({type(error).__name__}: {error}): delete it to have it made anew") from error
    if missing := [str(task.path) for task in tasks if not task.path.is_file()]:
        raise UserError(f"the bundle in {folder} lacks {len(missing)} of its task files: {', '.join(missing[:3])}. Delete the folder to have it "
                        "made or downloaded anew, or take the task out of core.yaml")  # fmt: skip
    if len({task.label for task in tasks}) < max(1, len(tasks)):
        raise UserError(f"{folder / 'core.yaml'} lists no task, or two of the same label: give each its own")
    return tasks


def _task_of(entry: dict, folder: Path, baselines: dict[str, float]) -> CoreTask:
    label, kind, shots = entry["label"], entry["icl_task_type"], int(entry["num_fewshot"][0])
    delimiter = entry.get("continuation_delimiter", " ")
    if shots < 0 or not isinstance(delimiter, str):
        raise UserError(f"{folder / 'core.yaml'}: task {label} needs num_fewshot of 0 or more and a text as continuation_delimiter")
    if not 0 <= baselines.get(label, 0) < 1:
        raise UserError(f"{folder / 'eval_meta_data.csv'}: the random baseline of task {label} must be from 0 to less than 100 percent")
    if kind not in KINDS:
        raise UserError(f"{folder / 'core.yaml'}: task {label} is of kind {kind!r}; known are {', '.join(KINDS)}")
    if label not in baselines:
        raise UserError(f"{folder / 'eval_meta_data.csv'} has no random baseline for task {label}: add its row")
    return CoreTask(label, folder / "eval_data" / entry["dataset_uri"], kind, shots, delimiter, baselines[label])


def read_items(task: CoreTask) -> list[dict]:
    """The items of a task in the order of the file. Lines that cannot be used are an error that names them."""
    items, problems = [], []
    try:
        with open(task.path, encoding="utf-8") as file:
            for number, line in enumerate(file, 1):
                if not line.strip():
                    continue
                item, problem = _parse(line, task.kind)
                items.append(item)
                problems += [f"{task.path}:{number}: {problem}"] if problem else []
    except (OSError, UnicodeDecodeError) as error:
        raise UserError(f"{task.path} of task {task.label} cannot be read ({error}): delete the bundle's folder to have it made anew") from error
    if problems or not items:
        what = "; ".join(problems[:4]) or f"{task.path}: nothing is in it"
        raise UserError(f"task {task.label} has {len(problems)} lines that cannot be used. {what}. Mend or delete them")
    return items


def _parse(line: str, kind: str) -> tuple[dict, str | None]:
    """An item, and what is wrong with it."""
    try:
        item = json.loads(line)
    except ValueError as error:
        return {}, f"this is not JSON ({error})"
    options, shared = KINDS[kind]
    if not isinstance(item, dict) or not isinstance(item.get(shared), str):
        return {}, f"a {kind} item needs a text under {shared!r}"
    if options is None:
        return item, None if isinstance(item.get("continuation"), str) and item["continuation"] else "it needs a text under 'continuation'"
    if kind == "schema" and not item[shared]:
        return {}, f"a schema item needs a text under {shared!r}, and this one is empty"
    several, gold = item.get(options), item.get("gold")
    if not isinstance(several, list) or len(several) < 2 or not all(isinstance(option, str) for option in several):
        return {}, f"it needs two texts or more under {options!r}"
    if type(gold) is not int or not 0 <= gold < len(several):
        return {}, f"'gold' must be the place of the right one, from 0 to {len(several) - 1}, and is {gold!r}"
    return item, None


# --- finding, downloading, generating --------------------------------------------------------------------------------


def get_bundle(name: str) -> Path:
    """The folder of a bundle: `core` is downloaded and `tinyworld` generated where they are absent, anything else is a path.

    All ranks call this together. The first does the work, the others then find it done, or, on another node, do it there; and if it
    fails on one of them, all of them raise, so that none waits for one that gave up.
    """
    built_in = {"core": (get_base_dir() / TOP, _download_core), "tinyworld": (get_base_dir() / f"{TOP}_tinyworld", _generate_tinyworld)}
    folder, make = built_in.get(name, (Path(name).expanduser(), _look_at))
    distributed = sys.modules.get("torch.distributed")  # as in print0: not imported yet means that there are no ranks yet
    ranks = distributed is not None and distributed.is_available() and distributed.is_initialized()
    rank, world_size = (distributed.get_rank(), distributed.get_world_size()) if ranks else (0, 1)
    for my_turn in (rank == 0, rank > 0):
        mine = _problem_of(make, folder) if my_turn else None
        problems: list = [mine] * world_size
        if world_size > 1:
            distributed.all_gather_object(problems, mine)
        if failed := [problem for problem in problems if problem]:
            raise UserError(failed[0])
    return folder


def _problem_of(make: Callable[[Path], None], folder: Path) -> str | None:
    try:
        make(folder)
    except UserError as error:
        return str(error)
    except OSError as error:
        return f"{error.strerror or error} at {error.filename or folder}: make room or set NANOCHAT_BASE_DIR to a folder that can be written"
    return None


def _look_at(folder: Path) -> None:
    if not (folder / "core.yaml").is_file():
        raise UserError(f"--bundle {folder}: there is no core.yaml in it. Give core, tinyworld, or the path of a folder like {TOP}/")


def _download_core(folder: Path) -> None:
    if (folder / "core.yaml").is_file():
        return
    if folder.exists():
        raise UserError(f"{folder} is there, but without a core.yaml it is no bundle: delete it to have it downloaded")
    folder.parent.mkdir(parents=True, exist_ok=True)
    with locked(folder.parent / f".{TOP}.lock"):
        if (folder / "core.yaml").is_file():  # another process has brought it while we waited
            return
        url, part, wait = os.environ.get("NANOCHAT_EVAL_BUNDLE_URL") or BUNDLE_URL, folder.parent / f".{TOP}.zip.part", FIRST_WAIT
        for attempt in range(1, ATTEMPTS + 1):
            try:
                _fetch(url, part)
                _unpack(part, folder)
                break
            except (OSError, http.client.HTTPException, zipfile.BadZipFile, ValueError) as error:
                if isinstance(error, zipfile.BadZipFile | UserError):  # there is nothing in it worth resuming
                    _forget(part)
                what = _brief(error, url)
                if attempt == ATTEMPTS:
                    raise UserError(f"the CORE bundle did not arrive from {url} in {ATTEMPTS} attempts; the last one failed with: {what}. "
                                    f"The same command resumes what has arrived. {REMEDIES}") from error  # fmt: skip
                print0(f"CORE bundle: {what}; trying again in {wait:.0f} s ({attempt}/{ATTEMPTS})")
                time.sleep(wait)
                wait *= 2
        _forget(part)


def _brief(error: Exception, url: str) -> str:
    """In a few words. What no patience will cure is raised instead."""
    if isinstance(error, UserError) or (isinstance(error, OSError) and error.errno in OF_THE_DISK):
        raise error
    if isinstance(error, urllib.error.HTTPError):
        if error.code < 500 and error.code not in (408, 429):
            raise UserError(f"there is no CORE bundle at {url} ({error.code} {error.reason}). {REMEDIES}") from error
        return f"{error.code} {error.reason}"
    if isinstance(error, ValueError):
        raise UserError(f"{url} is not an address that can be downloaded from ({error}): mend or unset NANOCHAT_EVAL_BUNDLE_URL") from error
    return str(getattr(error, "reason", None) or error or type(error).__name__)[:200]


def _fetch(url: str, part: Path) -> None:
    """Bring the rest of the zip. The ETag beside the part says which version it is of; the server sends everything if it has another now."""
    etag_file = _etag_file(part)
    have = part.stat().st_size if part.exists() and etag_file.exists() else 0
    etag = etag_file.read_text(encoding="utf-8") if have else ""
    headers = {"Accept-Encoding": "identity"} | ({"Range": f"bytes={have}-", "If-Range": etag} if have else {})
    try:
        response = urllib.request.urlopen(urllib.request.Request(url, headers=headers), timeout=TIMEOUT)
    except urllib.error.HTTPError as error:
        if error.code != 416:
            raise
        if error.headers.get("Content-Range") == f"bytes */{have}":  # the process died between the last byte and the unpacking
            return
        _forget(part)
        raise ConnectionError("what had arrived does not fit to what is there now") from error
    with response:
        if resumed := response.status == 206:
            same = response.headers.get("ETag", etag) == etag and response.headers.get("Content-Range", "").startswith(f"bytes {have}-")
            if not same:
                _forget(part)
                raise ConnectionError("the server sent another part than it was asked for")
        else:
            _forget(part)
            if (new := response.headers.get("ETag", "")).startswith('"'):  # a weak one promises less than the same bytes
                write_text(etag_file, new)
        length = response.headers.get("Content-Length")
        _store(response, part, have if resumed else 0, int(length) if length else None)


def _store(response, part: Path, have: int, length: int | None) -> None:
    from huggingface_hub.utils import tqdm  # some tenths of a second to import; only downloads need it

    total = None if length is None else have + length
    with (
        tqdm(desc="CORE bundle", total=total, initial=have, unit="B", unit_scale=True, disable=None) as bar,
        open(part, "ab" if have else "wb") as file,
    ):
        while block := response.read1(1 << 16):  # what is there; read would wait for all of it, and lose it when that does not come
            file.write(block)
            bar.update(len(block))
    if total is not None and part.stat().st_size != total:
        raise ConnectionError(f"the connection ended after {part.stat().st_size:,} of {total:,} bytes")


def _etag_file(part: Path) -> Path:
    return part.with_suffix(".etag")


def _forget(part: Path) -> None:
    part.unlink(missing_ok=True)
    _etag_file(part).unlink(missing_ok=True)


def _unpack(archive: Path, folder: Path) -> None:
    """Into a folder beside its place first. Reading a member to its end compares its CRC."""
    with _under_construction(folder) as built, zipfile.ZipFile(archive) as zipped:
        members = zipped.infolist()
        if len(members) > MOST_FILES or sum(info.file_size for info in members) > MOST_BYTES:
            raise UserError(f"the CORE bundle would unpack to {len(members):,} files and {sum(info.file_size for info in members):,} bytes, which no "
                            f"such bundle does: it was refused. {REMEDIES}")  # fmt: skip
        for info in members:
            target = built.joinpath(*_safe_parts(info))
            if info.is_dir() or target == built:  # also what lies beside the one folder that is wanted
                continue
            target.parent.mkdir(parents=True, exist_ok=True)
            try:
                with zipped.open(info) as source, open(target, "wb") as file:
                    shutil.copyfileobj(source, file)
                    file.flush()
                    os.fsync(file.fileno())
            except (RuntimeError, NotImplementedError, EOFError, zlib.error) as error:  # encrypted, an unknown method, cut off, not deflated
                raise zipfile.BadZipFile(f"{info.filename}: {error}") from error
        if not (built / "core.yaml").is_file():
            raise zipfile.BadZipFile(f"there is no {TOP}/core.yaml in it")


def _safe_parts(info: zipfile.ZipInfo) -> tuple[str, ...]:
    """Where a member belongs, below the top folder; nothing if it lies beside it. One that wants to be elsewhere is refused with all the rest."""
    path = PurePosixPath(info.filename)
    link = stat.S_ISLNK(info.external_attr >> 16)
    if link or path.is_absolute() or ".." in path.parts or "\\" in info.filename or ":" in info.filename:
        raise UserError(f"the CORE bundle was refused: its member {info.filename!r} {'is a link' if link else 'lies outside of it'}. {REMEDIES}")
    return path.parts[1:] if path.parts[:1] == (TOP,) else ()


@contextlib.contextmanager
def _under_construction(folder: Path) -> Iterator[Path]:
    """A folder to build in, which gets its name when nothing has failed. For whoever holds the lock."""
    built = folder.parent / f".{folder.name}.new"
    shutil.rmtree(built, ignore_errors=True)  # left by a process that was killed
    built.mkdir(parents=True)
    try:
        yield built
        shutil.rmtree(folder, ignore_errors=True)
        built.rename(folder)
        sync_directory(folder.parent)
    finally:
        shutil.rmtree(built, ignore_errors=True)


def _generate_tinyworld(folder: Path) -> None:
    """Made anew when its generator has changed since, which the stamp shows."""
    from nanochat import tinyworld_bundle, tinyworld_facts

    sources = b"".join(Path(module.__file__).read_bytes() for module in (tinyworld_bundle, tinyworld_facts))
    stamp, digest = folder / "made_from.txt", hashlib.sha256(sources).hexdigest()

    def is_made() -> bool:
        return stamp.is_file() and stamp.read_text(encoding="utf-8") == digest

    if is_made():
        return
    folder.parent.mkdir(parents=True, exist_ok=True)
    with locked(folder.parent / f".{folder.name}.lock"):
        if is_made():  # another process has made it while we waited
            return
        with _under_construction(folder) as built:
            for name, text in {**tinyworld_bundle.bundle_files(), stamp.name: digest}.items():
                write_text(built / name, text)
