"""Data sets: importing the user's files, the embedded corpus, and reading shards back. What a user would see is checked from outside."""

import codecs
import json
import os
import random
import subprocess
import sys
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from nanochat import dataset as dataset_module
from nanochat.common import UserError
from nanochat.dataset import generate, import_files, open_dataset, open_shard, parquets_iter_batched, shard_name, write_shard
from nanochat.importing import DOCUMENT_CHARS, Problems, cut_into_documents, find_files, read_documents

ROOT = Path(__file__).parent.parent


@pytest.fixture
def base(monkeypatch, tmp_path) -> Path:
    monkeypatch.setenv("NANOCHAT_BASE_DIR", str(tmp_path / "base"))
    return tmp_path / "base"


@pytest.fixture
def files(tmp_path) -> Path:
    """A folder for what is to be imported."""
    (tmp_path / "files").mkdir()
    return tmp_path / "files"


def read(path: Path, field: str | None = None) -> tuple[list[str], Problems]:
    problems = Problems()
    return list(read_documents(find_files(path, field, problems), field, problems)), problems


def stored(name: str = "mine") -> list[str]:
    return [text for split in ("train", "val") for batch in parquets_iter_batched(split, name) for text in batch]


def left_in(base: Path) -> list[str]:
    return sorted(name for name in os.listdir(base) if not name.endswith(".lock")) if base.exists() else []


def some(word: str, n: int = 16) -> list[dict[str, str]]:
    """As many documents as an import needs at least."""
    return [{"text": f"{word} {i}"} for i in range(n)]


def stored_words() -> set[str]:
    """What `some` was called with for the data set that is stored."""
    assert len(stored()) == 16
    return {text.split()[0] for text in stored()}


def run(*args: str | Path) -> subprocess.CompletedProcess:
    result = subprocess.run([sys.executable, "-m", "nanochat.dataset", *map(str, args)], cwd=ROOT, capture_output=True, text=True, timeout=60)
    assert "Traceback" not in result.stderr, result.stderr
    return result


def without_blanks(text: str) -> str:
    return "".join(text.split())


def flip_bytes(path: Path, group: int) -> None:
    """Damage a row group's text, and not the length of one, which would show without a checksum."""
    column = pq.ParquetFile(path).metadata.row_group(group).column(0)
    first_page = column.dictionary_page_offset or column.data_page_offset
    inside = first_page + column.total_compressed_size // 3
    raw = bytearray(path.read_bytes())
    raw[inside : inside + 8] = bytes(byte ^ 0x01 for byte in raw[inside : inside + 8])
    path.write_bytes(raw)


# --- text files ------------------------------------------------------------------------------------------------------


def test_a_short_text_is_one_document(files):
    (files / "a.txt").write_text("One.\n\nTwo.\n")
    assert read(files / "a.txt")[0] == ["One.\n\nTwo."]


def test_a_long_text_is_cut_at_blank_lines(files):
    paragraphs = [f"{letter * 60}\n" * 50 for letter in "abcde"]  # 3050 characters each: two of them fit
    (files / "a.md").write_text("\n".join(paragraphs))
    documents, problems = read(files / "a.md")
    assert [sorted(set(without_blanks(text))) for text in documents] == [["a", "b"], ["c"], ["d"], ["e"]]  # 8000, 500, 4000, …
    assert [text.strip("\n") + "\n" for text in "".join(f"{text}\n\n" for text in documents).split("\n\n")[:-1]] == paragraphs
    assert problems.lines == []


def test_pieces_of_a_long_text_come_in_many_sizes(files):
    """Pieces of one size would hardly fit into a row together; a text that is short enough stays whole."""
    paragraphs = [f"Paragraph {i} has a few words in it, and not many more than that.\n" for i in range(1000)]
    (files / "a.txt").write_text("\n".join(paragraphs))
    (files / "b.txt").write_text("\n".join(paragraphs[:100]))
    *pieces, whole = read(files)[0]
    assert all(0 <= size - len(text) < 100 for size, text in zip((8000, 500, 4000, 1000, 2000, 500, 8000), pieces, strict=False))
    assert whole == "\n".join(paragraphs[:100]).strip()
    pieces = list(read_documents([files / "a.txt"], None, Problems(), document_chars=1600))
    assert max(map(len, pieces)) <= 1600 and min(map(len, pieces)) < 150


def test_a_separator_ends_a_document(files):
    (files / "a.txt").write_text("one\n<|endoftext|>\ntwo\n\nstill two\n <|endoftext|> \nthree <|endoftext|> three\n")
    assert [text.strip() for text in read(files / "a.txt")[0]] == ["one", "two\n\nstill two", "three <|endoftext|> three"]


@pytest.mark.parametrize("line", ["word " * 5000, "x" * 20_000, "x" * DOCUMENT_CHARS, "short " * 5 + "x" * 20_000])
def test_a_long_line_is_cut_and_kept(files, line):
    (files / "a.txt").write_text(line + "\n")
    documents, _ = read(files / "a.txt")
    assert "".join(documents) == line
    assert max(map(len, documents)) <= DOCUMENT_CHARS
    assert all(text.endswith("word ") for text in documents) or "x" in line  # between words where there are words


LINES = st.lists(st.text("ab .", max_size=30).map(lambda text: text + "\n") | st.sampled_from(["\n", "<|endoftext|>\n", "  \n"]), max_size=30)


@settings(deadline=None)
@given(LINES)
def test_no_text_is_lost_in_cutting(lines):
    documents = list(cut_into_documents(iter(lines), limit=20))
    assert without_blanks("".join(documents)) == without_blanks("".join(lines).replace("<|endoftext|>\n", ""))
    assert all(0 < len(text) <= 20 for text in documents)


def test_a_real_text_survives_the_import(base, files):
    text = (ROOT / "nanochat" / "tinyworld_plots.py").read_text()
    (files / "a.txt").write_text(text)
    documents, _ = read(files / "a.txt")
    assert len(documents) > 5 and without_blanks("".join(documents)) == without_blanks(text)
    import_files(files, "mine")
    assert sorted(stored()) == sorted(documents)


@pytest.mark.parametrize(
    "raw",
    [
        "Grüße, 世界\n\n🌍 two\n".encode(),
        "Grüße, 世界\r\n\r\n🌍 two\r\n".encode(),
        codecs.BOM_UTF8 + "Grüße, 世界\n\n🌍 two\n".encode(),
        codecs.BOM_UTF16_LE + "Grüße, 世界\r\n\r\n🌍 two\r\n".encode("utf-16-le"),
        codecs.BOM_UTF16_BE + "Grüße, 世界\n\n🌍 two\n".encode("utf-16-be"),
        codecs.BOM_UTF32_LE + "Grüße, 世界\n\n🌍 two\n".encode("utf-32-le"),
    ],
    ids=["lf", "crlf", "bom", "utf-16-le-crlf", "utf-16-be", "utf-32-le"],
)
def test_encodings_and_line_ends(files, raw):
    (files / "a.txt").write_bytes(raw)
    documents, problems = read(files / "a.txt")
    assert documents == ["Grüße, 世界\n\n🌍 two"] and problems.lines == []


def test_crlf_text_is_cut_at_blank_lines_too(files):
    (files / "a.txt").write_bytes(b"".join((letter * 5000 + "\r\n\r\n").encode() for letter in "ab"))
    assert read(files / "a.txt")[0] == ["a" * 5000, "b" * 5000]


def test_undecodable_text_is_replaced_and_reported(files):
    (files / "a.txt").write_bytes(b"fine\ncaf\xe9 au lait\n")
    (files / "b.txt").write_bytes(codecs.BOM_UTF16_LE + "fine".encode("utf-16-le") + b"\x00\xd8" + "!".encode("utf-16-le"))
    documents, problems = read(files)
    assert documents == ["fine\ncaf� au lait", "fine�!"]
    assert problems.counts == {"undecodable bytes, replaced": 2}
    assert f"{files / 'a.txt'}:2: undecodable bytes, replaced (byte 3: 0xe9)" == problems.lines[0]
    assert problems.lines[1].startswith(f"{files / 'b.txt'}: undecodable bytes")


# --- jsonl -----------------------------------------------------------------------------------------------------------


def jsonl(path: Path, *lines: str | bytes | dict) -> Path:
    raw = [line if isinstance(line, bytes) else (line if isinstance(line, str) else json.dumps(line)).encode() for line in lines]
    path.write_bytes(b"\n".join(raw) + b"\n")
    return path


def test_jsonl_fields(files):
    path = jsonl(
        files / "a.jsonl",
        {"title": "t", "text": "usual"},
        {"title": "t", "content": "also usual"},
        {"document": "usual, third"},
        {"text": None, "body": "usual, last"},
        {"id": 7, "story": "the only string"},
        '"a plain string"',
        "",
        {"text": "\N{EARTH GLOBE EUROPE-AFRICA} \u2028 line"},
    )
    documents, problems = read(path)
    expected = ["usual", "also usual", "usual, third", "usual, last", "the only string", "a plain string", "\U0001f30d \u2028 line"]
    assert documents == expected and problems.lines == []


@pytest.mark.parametrize("encoding", ["utf-8-sig", "utf-16"])
def test_jsonl_with_a_byte_order_mark(files, encoding):
    line = json.dumps({"text": "separated \u2028 inside"}, ensure_ascii=False)
    (files / "a.ndjson").write_bytes(f"{line}\r\n{line}\r\n".encode(encoding))
    documents, problems = read(files)
    assert documents == ["separated \u2028 inside"] * 2 and problems.lines == []


def test_jsonl_with_a_named_field(files):
    path = jsonl(files / "a.jsonl", {"text": "no", "story": "yes"}, {"text": "no"}, {"text": "no", "story": 7})
    documents, problems = read(path, "story")
    assert documents == ["yes"]
    assert [line.split(": ")[0] for line in problems.lines] == [f"{path}:2", f"{path}:3"]
    assert "no string field 'story'; it has: text; name one with --field" in problems.lines[0]


BAD_LINES = {  # what is wrong → a line, what becomes of its text (None: nothing), what is said about it
    "broken": ('{"text": "cut off', None, "broken line, skipped"),
    "a huge number": ('{"text": "a", "n": ' + "7" * 5000 + "}", None, "broken line, skipped"),
    "too deep": ("[" * 100_000, None, "broken line, skipped"),
    "no text": ({"title": "a", "note": "b"}, None, "line without text, skipped"),
    "a number": ({"text": 7}, None, "line without text, skipped"),
    "a list": ("[1, 2]", None, "line without text, skipped"),
    "null": ("null", None, "line without text, skipped"),
    "half a character": ('{"text": "half \\ud83d"}', "half ?", "half a surrogate pair, replaced"),
    "half a character in a name": ('{"\\ud83d": 1}', None, "line without text, skipped"),
    "undecodable": (b'{"text": "caf\xe9"}', "caf�", "undecodable bytes, replaced"),
}


@pytest.mark.parametrize("case", BAD_LINES)
def test_jsonl_problems_say_where(files, case):
    line, text, kind = BAD_LINES[case]
    path = jsonl(files / "a.jsonl", {"text": "before"}, line, {"text": "after"})
    documents, problems = read(path)
    assert documents == ["before", *([text] if text else []), "after"]
    assert problems.counts == {kind: 1} and problems.lines[0].startswith(f"{path}:2: {kind}")


def test_problems_are_counted_shown_and_kept(base, files):
    path = jsonl(files / "a.jsonl", *[line for line, _, _ in BAD_LINES.values()], {"text": "fine"}, {"text": " "}, *some("more"))
    (files / os.fsdecode(b"caf\xe9.jpg")).touch()  # a name that is no UTF-8
    result = run("--import", files, "--name", "mine")
    assert result.returncode == 0, result.stderr
    assert "3 × broken line, skipped" in result.stdout and f"{path}:1: broken line" in result.stdout
    kept = (base / "base_data_mine" / "problems.txt").read_text().splitlines()
    assert "1 × undecodable bytes, replaced" in kept[0] and "1 × file of an unknown kind, skipped" in kept[0] and "1 × empty document" in kept[0]
    for number, (_, _, kind) in enumerate(BAD_LINES.values(), 1):
        assert any(line.strip().startswith(f"{path}:{number}: {kind}") for line in kept), number
    assert len(kept) == 1 + len(BAD_LINES) + 2
    record = json.loads((base / "base_data_mine" / "dataset.json").read_text())
    assert record["documents"] == 19 and record["problems"]["broken line, skipped"] == 3
    assert sorted(stored())[:3] == ["caf�", "fine", "half ?"]


def test_names_that_are_no_utf8_can_be_imported_and_told(base, files):
    odd = files / os.fsdecode(b"caf\xe9")
    odd.mkdir()
    jsonl(odd / "a.jsonl", "{", *some("one"))
    result = run("--import", odd, "--name", "mine")
    assert result.returncode == 0 and "caf" in result.stdout and stored_words() == {"one"}


def test_an_empty_file_is_reported(files):
    (files / "a.txt").write_text("\n\n")
    jsonl(files / "b.jsonl", "")
    documents, problems = read(files)
    assert documents == [] and problems.lines == [f"{files / name}: file without text" for name in ("a.txt", "b.jsonl")]


def test_a_long_list_of_problems_is_cut_short_on_the_screen_only(base, files):
    jsonl(files / "a.jsonl", *["{"] * 30, *some("one"))
    result = run("--import", files, "--name", "mine")
    assert result.stdout.count("a.jsonl:") == 10 and "… and 20 more" in result.stdout
    kept = (base / "base_data_mine" / "problems.txt").read_text()
    assert kept.count("a.jsonl:") == 30 and "more" not in kept


# --- parquet ---------------------------------------------------------------------------------------------------------


def parquet(path: Path, **columns) -> Path:
    pq.write_table(pa.table(columns), path, row_group_size=2, compression="none", write_page_checksum=True)
    return path


def test_parquet_columns(files):
    path = parquet(files / "a.parquet", id=[1, 2], content=["c1", "c2"], text=["t1", "t2"], story=["s1", "s2"])
    assert read(path)[0] == ["t1", "t2"]
    assert read(path, "story")[0] == ["s1", "s2"]
    with pytest.raises(UserError, match=r"a\.parquet has no column 'poem'; it has: id, content, text, story.*--field"):
        read(path, "poem")
    with pytest.raises(UserError, match=r"has no column 'text'; it has: story"):
        read(parquet(files / "b.parquet", story=["s"]))


@pytest.mark.parametrize("kind", [pa.string(), pa.large_string(), pa.binary(), pa.dictionary(pa.int32(), pa.string())], ids=str)
def test_parquet_text_of_any_kind(files, kind):
    documents, problems = read(parquet(files / "a.parquet", text=pa.array(["héllo", "two", "héllo"]).cast(kind)))
    assert documents == ["héllo", "two", "héllo"] and problems.lines == []


def test_parquet_rows_without_text(files):
    path = parquet(files / "a.parquet", text=["one", None, "", "four"])
    documents, problems = read(path)
    assert documents == ["one", "four"]
    assert problems.lines == [f"{path}:row 2: row without text, skipped", f"{path}: empty document"]
    path = parquet(files / "a.parquet", text=[1, 2])
    assert read(path)[0] == [] and read(path)[1].counts == {"row without text, skipped": 2}


def test_parquet_that_is_not_utf8(files):
    raw = pa.array([b"fine", b"caf\xe9"])
    trusted = pa.StringArray.from_buffers(2, *raw.buffers()[1:])  # claims to be text
    for column in (raw, trusted):
        path = parquet(files / "a.parquet", text=column)
        documents, problems = read(path)
        assert documents == ["fine", "caf�"]
        assert problems.lines == [f"{path}:row 2: undecodable bytes, replaced (byte 3: 0xe9)"]


def test_damaged_parquet_is_named_and_leaves_nothing(base, files):
    path = parquet(files / "a.parquet", text=[random.Random(i).randbytes(500).hex() for i in range(10)])
    flip_bytes(path, 3)
    with pytest.raises(UserError, match=r"a\.parquet is damaged after row \d+"):
        import_files(files, "mine")
    path.write_bytes(path.read_bytes()[:-100])
    with pytest.raises(UserError, match=r"a\.parquet is not a readable parquet file"):
        import_files(files, "mine")
    assert left_in(base) == []


# --- folders ---------------------------------------------------------------------------------------------------------


def test_a_folder_of_everything(files):
    for name in ("b.txt", "A.MD", "sub/c.txt", "sub/.hidden.txt", ".git/d.txt", "photo.jpg", "sub/notes.pdf", "no_suffix", "e.txt.bak"):
        (files / name).parent.mkdir(exist_ok=True)
        (files / name).write_text(name)
    jsonl(files / "sub" / "f.jsonl", {"text": "f.jsonl"})
    parquet(files / "sub" / "a.parquet", text=["a.parquet"])
    documents, problems = read(files)
    assert documents == ["A.MD", "b.txt", "a.parquet", "sub/c.txt", "f.jsonl"]  # by path
    unknown = [f"{files / name}: file of an unknown kind, skipped" for name in ("e.txt.bak", "no_suffix", "photo.jpg", "sub/notes.pdf")]
    assert problems.lines == unknown


def test_links(files, tmp_path):
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "elsewhere" / "a.txt").write_text("a")
    (files / "folder").symlink_to(tmp_path / "elsewhere")
    (files / "file.txt").symlink_to(tmp_path / "elsewhere" / "a.txt")
    (files / "gone.txt").symlink_to(tmp_path / "nowhere")
    documents, problems = read(files)
    assert documents == ["a"]
    assert problems.lines == [f"{files / 'folder'}: link to a folder, not followed", f"{files / 'gone.txt'}: file of an unknown kind, skipped"]


def lock(path: Path) -> None:
    path.chmod(0)
    if os.access(path, os.R_OK):
        pytest.skip("nothing is forbidden to this user")


@pytest.mark.parametrize("name", ["b.txt", "sub", "."])
def test_permission_denied(base, files, name):
    (files / "sub").mkdir()
    (files / "a.txt").write_text("a")
    (files / "b.txt").write_text("b")
    try:
        lock(files / name)
        result = run("--import", files, "--name", "mine")
        assert result.returncode == 1 and f"{files / name} cannot be read" in result.stderr
    finally:
        (files / name).chmod(0o755)
    assert left_in(base) == []


def test_permission_denied_above(base, files):
    (files / "sub").mkdir()
    (files / "sub" / "a.txt").write_text("a")
    try:
        lock(files / "sub")
        result = run("--import", files / "sub" / "a.txt", "--name", "mine")
        assert result.returncode == 1 and "a.txt cannot be read (Permission denied)" in result.stderr
    finally:
        (files / "sub").chmod(0o755)


# --- imported data sets ----------------------------------------------------------------------------------------------


@pytest.fixture
def small_shards(monkeypatch):
    monkeypatch.setattr(dataset_module, "IMPORT_BUCKET_BYTES", 2000)
    monkeypatch.setattr(dataset_module, "IMPORT_SHARD_CHARS", 3000)


def many_documents(files: Path) -> list[str]:
    """300 different documents in files of all kinds."""
    r = random.Random(5)
    documents = [f"document {i}: {'word ' * r.randrange(1, 20)}end" for i in range(300)]
    jsonl(files / "a.jsonl", *[{"text": text} for text in documents[:100]])
    parquet(files / "b.parquet", text=documents[100:200])
    (files / "c.txt").write_text("\n<|endoftext|>\n".join(documents[200:]))
    return documents


def test_everything_arrives_exactly_once(base, files, small_shards):
    documents = many_documents(files)
    import_files(files, "mine")
    found = [text.removesuffix("\n") for text in stored()]
    assert sorted(found) == sorted(documents)
    positions = [documents.index(text) for text in found]
    assert sum(abs(a - b) for a, b in zip(positions, range(300), strict=True)) / 300 > 50  # shuffled: a third of 300 would be the mean
    dataset = open_dataset("mine")
    assert len(dataset.train) > 3 and dataset.val.name == shard_name(len(dataset.train))
    val = pq.read_table(dataset.val)["text"].to_pylist()
    assert 0.04 < sum(map(len, val)) / sum(map(len, documents)) < 0.07
    assert left_in(base) == ["base_data_mine"]
    assert sorted(os.listdir(base / "base_data_mine")) == sorted(["dataset.json", "problems.txt", *(p.name for p in (*dataset.train, dataset.val))])


def test_a_single_bucket_is_shuffled_too(base, files):
    documents = [f"document {i:02d}" for i in range(40)]
    jsonl(files / "a.jsonl", *[{"text": text} for text in documents])
    import_files(files, "mine")
    assert sorted(stored()) == documents != stored()


def test_the_same_files_give_the_same_shards(base, files, small_shards):
    many_documents(files)
    import_files(files, "one")
    import_files(files, "two")
    assert stored("one") == stored("two")
    for path in (base / "base_data_one").glob("*.parquet"):
        assert path.read_bytes() == (base / "base_data_two" / path.name).read_bytes()


@pytest.mark.parametrize("n", [16, 17, 40])
def test_few_documents_suffice(base, files, n):
    jsonl(files / "a.jsonl", *[{"text": f"document {i}"} for i in range(n)])
    import_files(files, "mine")
    train, val = ([text for batch in parquets_iter_batched(split, "mine") for text in batch] for split in ("train", "val"))
    assert len(train) >= 8 and len(val) >= 8 and len(train) + len(val) == n  # one for each stream of the loader


def test_an_import_as_a_user_does_it(base, files):
    path = jsonl(files / "a.jsonl", *some("one"))
    result = run("--import", path, "--name", "mine")
    assert result.returncode == 0 and "read 16 documents, 86 characters; no problems" in result.stdout and "--dataset mine" in result.stdout
    assert "problems.txt" not in result.stdout  # where there were none, nobody need look
    assert stored_words() == {"one"}

    jsonl(path, *some("three"))
    refused = run("--import", path, "--name", "mine")
    assert refused.returncode == 1 and "--overwrite" in refused.stderr
    assert stored_words() == {"one"}
    assert run("--import", path, "--name", "mine", "--overwrite").returncode == 0
    assert stored_words() == {"three"}
    assert left_in(base) == ["base_data_mine"]


def test_a_failed_overwrite_leaves_the_old_data_set(base, files):
    path = jsonl(files / "a.jsonl", *some("one"))
    import_files(path, "mine")
    jsonl(path, "{", "{")
    with pytest.raises(UserError, match="found 0 usable documents"):
        import_files(path, "mine", overwrite=True)
    assert stored_words() == {"one"} and left_in(base) == ["base_data_mine"]


def test_an_import_killed_between_two_renames_loses_nothing(base, files, monkeypatch):
    import_files(jsonl(files / "a.jsonl", *some("one")), "mine")
    (base / "base_data_mine").rename(base / ".base_data_mine.old")  # as a process leaves it that dies there
    (base / ".base_data_mine.new").mkdir()
    assert stored_words() == {"one"}
    (base / "base_data_mine").rename(base / ".base_data_mine.old")
    with pytest.raises(UserError, match="--overwrite"):
        import_files(jsonl(files / "a.jsonl", *some("two")), "mine")
    import_files(files / "a.jsonl", "mine", overwrite=True)
    assert stored_words() == {"two"} and left_in(base) == ["base_data_mine"]


def test_two_imports_at_once(base, files):
    """One of them wins, the other one says so."""
    path = jsonl(files / "a.jsonl", *some("one"))
    command = [sys.executable, "-m", "nanochat.dataset", "--import", str(path), "--name", "mine"]
    both = [subprocess.Popen(command, cwd=ROOT, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True) for _ in range(2)]
    complaints = [process.communicate(timeout=60)[1] for process in both]
    assert sorted(process.returncode for process in both) == [0, 1]
    assert "--overwrite" in "".join(complaints) and stored_words() == {"one"}


@pytest.mark.parametrize("content", ["", "[]", "{", '{"shards": [1, 2]}'])
def test_a_damaged_list_of_shards(base, files, content):
    import_files(jsonl(files / "a.jsonl", *some("one")), "mine")
    (base / "base_data_mine" / "dataset.json").write_text(content)
    with pytest.raises(UserError, match=r"dataset\.json is damaged"):
        open_dataset("mine")


def test_an_interrupted_import_leaves_nothing(base, files, monkeypatch):
    def interrupted(*args, **kwargs):
        raise KeyboardInterrupt

    jsonl(files / "a.jsonl", *some("one"))
    monkeypatch.setattr(dataset_module, "write_shards", interrupted)
    with pytest.raises(KeyboardInterrupt):
        import_files(files, "mine")
    assert left_in(base) == []


@pytest.mark.parametrize(
    ("name", "content", "said"),
    [
        ("a.txt", b"", "found 0 usable documents"),
        ("a.txt", b" \n\n\t\n", "found 0 usable documents"),
        ("a.txt", b"only one", "found 1 usable documents"),
        ("a.jsonl", b"{\n{\n", "found 0 usable documents"),
        ("a.parquet", b"PAR1 no PAR1", "a.parquet is not a readable parquet file"),
        ("a.pdf", b"%PDF", "found none of .jsonl"),
        (".a.txt", b"hidden", "found none of .jsonl"),
    ],
)
def test_nothing_usable(base, files, name, content, said):
    (files / name).write_bytes(content)
    result = run("--import", files, "--name", "mine")
    assert result.returncode == 1 and said in result.stderr
    assert left_in(base) == []


def test_a_path_that_is_not_there_or_of_no_use(base, files):
    result = run("--import", files / "nowhere", "--name", "mine")
    assert result.returncode == 1 and "nowhere cannot be read (No such file or directory)" in result.stderr
    (files / "a.pdf").touch()
    result = run("--import", files / "a.pdf", "--name", "mine")
    assert result.returncode == 1 and "cannot read '.pdf' files; use .jsonl" in result.stderr


@pytest.mark.parametrize("name", ["../x", "a/b", ".hidden", "with space", "climbmix", "fineweb_edu", "tinyworld"])
def test_names_that_cannot_be_taken(base, files, name):
    jsonl(files / "a.jsonl", {"text": "one"}, {"text": "two"})
    with pytest.raises(UserError, match=r"not usable|taken by a built-in"):
        import_files(files, name)
    assert left_in(base) == [] and left_in(base.parent) == ["files"]


@pytest.mark.parametrize(
    ("args", "said"),
    [
        (["--import", "x.txt"], "--name"),
        (["--name", "mine"], "--import"),
        (["-n", "-2"], "-n"),
        (["-n", "many"], "-n"),
        (["-w", "0"], "-w"),
        (["--source", "nowhere"], "--source"),
        (["--megabytes", "much"], "--megabytes"),
        (["--shards", "8"], "--shards"),
    ],
)
def test_misuse_of_the_command_line(base, args, said):
    result = run(*args)
    assert result.returncode == 2 and said in result.stderr.splitlines()[-1]
    assert left_in(base) == []


def test_a_base_dir_that_cannot_be_written(files, monkeypatch, tmp_path):
    jsonl(files / "a.jsonl", {"text": "one"}, {"text": "two"})
    (tmp_path / "locked").mkdir()
    try:
        lock(tmp_path / "locked")
        monkeypatch.setenv("NANOCHAT_BASE_DIR", str(tmp_path / "locked" / "base"))
        result = run("--import", files, "--name", "mine")
        assert result.returncode == 1 and "NANOCHAT_BASE_DIR" in result.stderr
    finally:
        (tmp_path / "locked").chmod(0o755)


# --- reading ---------------------------------------------------------------------------------------------------------


def make_dataset(base: Path, shards: int = 3, name: str = "made") -> Path:
    """Shards without a dataset.json, as other programs make them: eight documents each, four in a row group."""
    directory = base / f"base_data_{name}"
    directory.mkdir(parents=True)
    for shard in range(shards):
        documents = [random.Random(8 * shard + i).randbytes(200).hex() for i in range(8)]
        write_shard(directory / shard_name(shard), documents, rows_per_group=4)
    return directory


def test_shards_without_a_list_are_read_in_order(base):
    directory = make_dataset(base)
    dataset = open_dataset("made")
    assert [path.name for path in dataset.train] == ["shard_00000.parquet", "shard_00001.parquet"]
    assert dataset.shards("val") == (directory / "shard_00002.parquet",)
    expected = [random.Random(i).randbytes(200).hex() for i in range(24)]
    assert stored("made") == expected


def test_ranks_share_the_row_groups(base):
    make_dataset(base)
    whole = list(parquets_iter_batched("train", "made"))
    first, second = (list(parquets_iter_batched("train", "made", start, 2)) for start in (0, 1))
    assert [len(batch) for batch in whole] == [4] * 4 and first == whole[0::2] and second == whole[1::2]
    assert list(parquets_iter_batched("train", "made", max_shards=1)) == whole[:2]


def test_no_data(base):
    with pytest.raises(UserError, match=r"no data set 'nothing'.*You have: none\. Import your own with: python -m nanochat\.dataset --import"):
        open_dataset("nothing")
    make_dataset(base)
    with pytest.raises(UserError, match="You have: made"):
        open_dataset("nothing")
    with pytest.raises(UserError, match="--source tinyworld"):
        open_dataset("tinyworld")
    with pytest.raises(UserError, match="--source climbmix -n 8"):
        open_dataset("climbmix")
    with pytest.raises(UserError, match="not usable"):
        open_dataset("../x")
    assert left_in(base) == ["base_data_made"]  # looking makes nothing


def test_a_single_shard(base):
    make_dataset(base, shards=1)
    with pytest.raises(UserError, match=r"single shard, shard_00000\.parquet.*at least two"):
        open_dataset("made")


@pytest.mark.parametrize("keep", [0, 3, 11, 500, -1])
def test_a_truncated_shard(base, keep):
    path = make_dataset(base) / shard_name(1)
    path.write_bytes(path.read_bytes()[:keep])
    with pytest.raises(UserError, match=r"shard_00001\.parquet is not a whole parquet file.*delete it"):
        open_dataset("made")


@pytest.mark.parametrize("index", [0, 1, 2])
def test_a_missing_shard(base, files, small_shards, index):
    many_documents(files)
    directory = import_files(files, "mine")
    shards = open_dataset("mine")
    gone = [shards.train[0], shards.train[2], shards.val][index]
    (directory / gone.name).unlink()
    with pytest.raises(UserError, match=rf"{gone.name}.* nobody is downloading.*--import PATH --name mine"):
        open_dataset("mine")


@pytest.mark.parametrize("compression", ["zstd", "none"])  # without one, only the checksum of the page can tell
def test_a_damaged_row_group_names_its_file(base, compression):
    path = make_dataset(base) / shard_name(1)
    pq.write_table(pq.read_table(path), path, row_group_size=4, compression=compression, write_page_checksum=True)
    flip_bytes(path, group=1)
    batches = parquets_iter_batched("train", "made")
    assert [len(next(batches)) for _ in range(3)] == [4, 4, 4]
    with pytest.raises(UserError, match=r"shard_00001\.parquet is damaged in row group 1 .*delete it"):
        next(batches)


def test_a_damaged_footer_names_its_file(base):
    path = make_dataset(base) / shard_name(0)
    raw = bytearray(path.read_bytes())
    raw[-60:-20] = bytes(40)  # begins and ends as it should
    path.write_bytes(raw)
    with pytest.raises(UserError, match=r"shard_00000\.parquet is damaged"):
        list(parquets_iter_batched("train", "made"))


def test_a_shard_without_text(base):
    path = parquet(make_dataset(base) / shard_name(0), story=["once"], id=[1])
    with pytest.raises(UserError, match=r"shard_00000\.parquet has no 'text' column \(it has: story, id\).*--field"):
        open_shard(path)


# --- tinyworld -------------------------------------------------------------------------------------------------------


def test_tinyworld_as_a_user_makes_it(base):
    assert run("--source", "tinyworld", "--megabytes", "0.3").returncode == 0
    train, val = ("".join(text for batch in parquets_iter_batched(split, "tinyworld") for text in batch) for split in ("train", "val"))
    assert 300_000 <= len(train) < 310_000 and 30_000 <= len(val) < 40_000
    before = {path: path.stat() for path in (base / "base_data_tinyworld").iterdir()}
    again = run("--source", "tinyworld", "--megabytes", "0.3")
    assert again.returncode == 0 and "already" in again.stdout
    assert {path: path.stat() for path in before} == before  # nothing was written, and nothing replaced


def test_tinyworld_is_made_again_when_it_should_be_different(base, monkeypatch):
    directory = generate(0.1)
    small = stored("tinyworld")
    generate(0.2)
    larger = stored("tinyworld")
    assert len(larger) > len(small) and set(small) <= set(larger)
    (directory / shard_name(0)).unlink()
    generate(0.2)
    assert stored("tinyworld") == larger
    monkeypatch.setattr("nanochat.tinyworld.fingerprint", lambda: "another world")
    before = (directory / shard_name(0)).stat().st_ino
    generate(0.2)
    assert (directory / shard_name(0)).stat().st_ino != before
    assert left_in(base) == ["base_data_tinyworld"]


def test_the_smallest_tinyworld_can_be_opened(base):
    generate(1e-6)
    assert len(stored("tinyworld")) == 2


@pytest.mark.parametrize("megabytes", ["0", "-1", "nan", "inf"])
def test_no_tinyworld_of_no_size(base, megabytes):
    result = run("--source", "tinyworld", f"--megabytes={megabytes}")
    assert result.returncode == 1 and "--megabytes" in result.stderr
    assert left_in(base) == []
