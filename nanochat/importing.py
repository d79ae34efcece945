"""The user's own files as documents: txt, md, jsonl, parquet, and folders of them.

Whatever cannot be used is counted and reported with file and line; nothing disappears in silence.
"""

import codecs
import io
import itertools
import json
import os
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from nanochat.common import UserError

TEXT_SUFFIXES = {".txt", ".text", ".md", ".markdown"}
JSONL_SUFFIXES = {".jsonl", ".ndjson"}
PARQUET_SUFFIXES = {".parquet"}
SUFFIXES = TEXT_SUFFIXES | JSONL_SUFFIXES | PARQUET_SUFFIXES
USUAL_FIELDS = ("text", "content", "document", "body")
SEPARATOR = "<|endoftext|>"  # a line of its own in a text file, the customary mark between documents
WIDE_ENCODINGS = {  # by byte order mark; UTF-16's own are how two of UTF-32's begin, so those come first
    codecs.BOM_UTF32_LE: "utf-32",
    codecs.BOM_UTF32_BE: "utf-32",
    codecs.BOM_UTF16_LE: "utf-16",
    codecs.BOM_UTF16_BE: "utf-16",
}
DOCUMENT_CHARS = 8000  # a text file has no documents of its own; a longer one is cut at blank lines into pieces of at most this size


class Problems:
    """Everything that could not be used as it was: how many of each kind, and where."""

    def __init__(self):
        self.counts: Counter[str] = Counter()
        self.lines: list[str] = []

    def add(self, kind: str, place: str, detail: str = "") -> None:
        self.counts[kind] += 1
        line = f"{place}: {kind}" + (f" ({detail})" if detail else "")
        self.lines.append(line.encode("utf-8", errors="replace").decode("utf-8"))  # names of files and fields may hold what cannot be printed

    def summary(self, show: int = 10) -> str:
        if not self.lines:
            return "no problems"
        more = [f"  … and {len(self.lines) - show} more"] if len(self.lines) > show else []
        return "\n".join([", ".join(f"{n} × {kind}" for kind, n in self.counts.items()), *(f"  {line}" for line in self.lines[:show]), *more])


def find_files(path: Path, field: str | None, problems: Problems) -> list[Path]:
    """The files to read, in an order that does not depend on the machine. Unreadable ones are an error now, not after an hour of work."""
    try:
        path.stat()
    except OSError as error:
        raise UserError(f"--import {path} cannot be read ({error.strerror})") from error
    if not path.is_dir() and path.suffix.lower() not in SUFFIXES:
        raise UserError(f"--import {path}: cannot read '{path.suffix}' files; use {', '.join(sorted(SUFFIXES))} or a folder of them")
    files = _files_inside(path, problems) if path.is_dir() else [path]
    if not files:
        raise UserError(f"--import {path}: found none of {', '.join(sorted(SUFFIXES))} in it")
    for f in files:
        if not os.access(f, os.R_OK):
            raise UserError(f"--import: {f} cannot be read (permission denied): fix its permissions or leave it out")
        if f.suffix.lower() in PARQUET_SUFFIXES:
            _open_parquet(f, field)
    return files


def _files_inside(folder: Path, problems: Problems) -> list[Path]:
    """The files of a folder that we can read, but for hidden ones; the rest is reported."""

    def refuse(error: OSError) -> None:
        raise UserError(f"--import: {error.filename} cannot be read ({error.strerror}): fix its permissions or leave it out") from error

    inside = []
    for where, folders, names in os.walk(folder, onerror=refuse):
        folders[:] = [name for name in folders if not name.startswith(".")]  # os.walk goes into what is left here
        inside += [Path(where, name) for name in (*folders, *names) if not name.startswith(".")]
    files = []
    for f in sorted(inside, key=lambda f: f.relative_to(folder).as_posix()):
        if f.is_dir():
            if f.is_symlink():
                problems.add("link to a folder, not followed", str(f))
        elif f.is_file() and f.suffix.lower() in SUFFIXES:
            files.append(f)
        else:
            problems.add("file of an unknown kind, skipped", str(f))
    return files


def read_documents(files: list[Path], field: str | None, problems: Problems, document_chars: int = DOCUMENT_CHARS) -> Iterator[str]:
    for path in files:
        suffix = path.suffix.lower()
        if suffix in TEXT_SUFFIXES:
            documents = cut_into_documents(_decoded_lines(path, problems), document_chars)
        elif suffix in JSONL_SUFFIXES:
            documents = _jsonl_documents(path, field, problems)
        else:
            documents = _parquet_documents(path, field, problems)
        silent = len(problems.lines)
        for text in documents:
            silent = -1
            if text.strip():
                yield text
            else:
                problems.add("empty document", str(path))
        if silent == len(problems.lines):  # no document, and no word about why
            problems.add("file without text", str(path))


def cut_into_documents(lines: Iterator[str], limit: int = DOCUMENT_CHARS) -> Iterator[str]:
    """Cut running text into documents: at a separator line, else at the last blank line that fits, else at a line's end, else anywhere."""
    sizes = _sizes(limit)
    room = next(sizes)
    held: list[str] = []
    size = blank = 0  # characters held; how many of the held lines reach up to the last blank one
    for line in lines:
        if line.strip() == SEPARATOR:
            if held:
                yield "".join(held)
            held, size, blank, sizes = [], 0, 0, _sizes(limit)
            room = next(sizes)
            continue
        for piece in _pieces(line, limit):
            while held and size + len(piece) > (room if blank else limit):  # a paragraph is cut only if it is longer than the longest piece
                cut = blank or len(held)
                if text := "".join(held[:cut]).strip("\n"):
                    yield text
                held, room = held[cut:], next(sizes)
                size, blank = sum(map(len, held)), 0
            held.append(piece)
            size += len(piece)
            if not piece.strip():
                blank = len(held)
    if text := "".join(held).strip("\n"):
        yield text


def _sizes(limit: int) -> Iterator[int]:
    """How large the pieces of one text may become, in turn. Were they all alike, no two of them would fit into a row of the loader, and a
    third of the text would be cropped away; with small pieces to fill the gaps it is a fiftieth."""
    return itertools.cycle(max(1, limit // part) for part in (1, 16, 2, 8, 4, 16))


def _pieces(line: str, limit: int) -> Iterator[str]:
    while len(line) > limit:
        cut = line.rfind(" ", limit // 2, limit) + 1 or limit
        yield line[:cut]
        line = line[cut:]
    yield line


def _decoded_lines(path: Path, problems: Problems) -> Iterator[str]:
    """The lines of a file. UTF-8, or what its byte order mark says; undecodable bytes become U+FFFD and are reported."""
    with open(path, "rb") as file:
        start = file.read(4)
        file.seek(0)
        encoding = next((name for mark, name in WIDE_ENCODINGS.items() if start.startswith(mark)), None)
        if encoding:
            lines = io.StringIO(_decoded_bytes(file.read(), str(path), problems, encoding))  # a line ends at \n, and not at U+2028 as in splitlines
        else:
            file.seek(len(codecs.BOM_UTF8) if start.startswith(codecs.BOM_UTF8) else 0)
            lines = (_decoded_bytes(raw, f"{path}:{number}", problems) for number, raw in enumerate(file, 1))
        for line in lines:
            yield line.replace("\r\n", "\n")


def _decoded_bytes(raw: bytes, place: str, problems: Problems, encoding: str = "utf-8") -> str:
    try:
        return raw.decode(encoding)
    except UnicodeDecodeError as error:
        problems.add("undecodable bytes, replaced", place, f"byte {error.start}: 0x{raw[error.start]:02x}")
        return raw.decode(encoding, errors="replace")


def _jsonl_documents(path: Path, field: str | None, problems: Problems) -> Iterator[str]:
    for number, line in enumerate(_decoded_lines(path, problems), 1):
        if not line.strip():
            continue
        place = f"{path}:{number}"
        try:
            record = json.loads(line)
        except (ValueError, RecursionError) as error:  # a number of 5000 digits is a ValueError and no JSONDecodeError
            problems.add("broken line, skipped", place, str(error))
            continue
        text = record if isinstance(record, str) else _field_of(record, field)
        if not isinstance(text, str):
            has = ", ".join(record) if isinstance(record, dict) else type(record).__name__
            problems.add("line without text, skipped", place, f"no string field {field or 'text'!r}; it has: {has}; name one with --field")
            continue
        yield _without_surrogates(text, place, problems)


def _field_of(record: object, field: str | None) -> object:
    """The text of a JSON record: the named field, else a usual one, else the only string there is."""
    if not isinstance(record, dict):
        return None
    if field:
        return record.get(field)
    for name in USUAL_FIELDS:
        if isinstance(record.get(name), str):
            return record[name]
    strings = [value for value in record.values() if isinstance(value, str)]
    return strings[0] if len(strings) == 1 else None


def _without_surrogates(text: str, place: str, problems: Problems) -> str:
    r"""JSON can spell half a character ("\ud800"), which no file can hold."""
    try:
        text.encode("utf-8")
        return text
    except UnicodeEncodeError:
        problems.add("half a surrogate pair, replaced", place)
        return text.encode("utf-8", errors="replace").decode("utf-8")


def _open_parquet(path: Path, field: str | None) -> tuple[pq.ParquetFile, str]:
    """The file, and the name of the column that holds its text."""
    try:
        file = pq.ParquetFile(path, page_checksum_verification=True)
    except (OSError, pa.ArrowException) as error:
        raise UserError(f"--import: {path} is not a readable parquet file ({error}): repair it or leave it out") from error
    columns = file.schema_arrow.names
    column = field or next((name for name in USUAL_FIELDS if name in columns), None)
    if column not in columns:
        raise UserError(f"--import: {path} has no column {field or 'text'!r}; it has: {', '.join(columns)}. Name one with --field")
    return file, column


def _parquet_documents(path: Path, field: str | None, problems: Problems) -> Iterator[str]:
    file, column = _open_parquet(path, field)
    row = 0
    try:
        for batch in file.iter_batches(batch_size=1024, columns=[column]):
            for value in _undecoded(batch.column(0)).to_pylist():
                row += 1
                if isinstance(value, bytes):
                    yield _decoded_bytes(value, f"{path}:row {row}", problems)
                else:
                    problems.add("row without text, skipped", f"{path}:row {row}")
    except (OSError, pa.ArrowException) as error:
        raise UserError(f"--import: {path} is damaged after row {row} ({error}): repair it or leave it out") from error


def _undecoded(column: pa.Array) -> pa.Array:
    """Strings as bytes. pyarrow takes a file's word that they are UTF-8, and one that is not would take its whole batch along."""
    if pa.types.is_string_view(column.type):
        column = column.cast(pa.large_string())
    if pa.types.is_dictionary(column.type):
        column = column.dictionary_decode()
    is_text = pa.types.is_string(column.type) or pa.types.is_large_string(column.type)
    return column.cast(pa.large_binary()) if is_text else column
