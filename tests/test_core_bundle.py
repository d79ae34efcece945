"""CORE's bundles: read, downloaded from a server on the loopback device that misbehaves as it is told, and generated from the embedded world."""

import io
import json
import os
import stat
import subprocess
import sys
import threading
import zipfile
from collections import Counter
from itertools import repeat
from pathlib import Path
from types import SimpleNamespace

import pytest
from helpers import FORK_TWO
from loopback_hub import Fault, LoopbackHub

from nanochat import core_bundle, tinyworld_facts
from nanochat.common import UserError
from nanochat.core_bundle import ATTEMPTS, CoreTask, get_bundle, read_items, read_tasks
from nanochat.tinyworld_bundle import bundle_files

ROOT = Path(__file__).parent.parent
REAL = Path(os.environ.get("NANOCHAT_TEST_DATA", ROOT.parent / "shared" / "data")) / "core"
FILE = "eval_bundle.zip"

YAML = """
icl_tasks:
- {label: capitals, dataset_uri: world/capitals.jsonl, num_fewshot: [10], icl_task_type: language_modeling, continuation_delimiter: "\\nAnswer: "}
- {label: copa, dataset_uri: copa.jsonl, num_fewshot: [0], icl_task_type: multiple_choice, has_categories: true}
"""
CSV = 'Eval Task,Task Category,Random baseline,Description\ncapitals,world,0,"One, two"\nother,x,25,\ncopa,x,9.1,\n'
FILES = {
    "core.yaml": YAML,
    "eval_meta_data.csv": CSV,
    "eval_data/world/capitals.jsonl": '{"context": "France: ", "continuation": "Paris "}\n',
    "eval_data/copa.jsonl": '{"query": "It rained, so", "choices": ["it was wet", "it was dry"], "gold": 0}\n\n',
}


def write(folder: Path, files: dict[str, str]) -> Path:
    for name, text in files.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(text, encoding="utf-8")
    return folder


def zipped(members: dict[str, str], top: str = "eval_bundle/", **links: str) -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr(top, "")
        for name, text in members.items():
            archive.writestr(top + name, text)
        archive.writestr("__MACOSX/._eval_bundle", "what some machines put beside it")
        for name, target in links.items():
            info = zipfile.ZipInfo(top + name)
            info.external_attr = (stat.S_IFLNK | 0o777) << 16
            archive.writestr(info, target)
    return buffer.getvalue()


ZIP = zipped({**FILES, "eval_data/filling.jsonl": os.urandom(60_000).hex()})


# --- reading ---------------------------------------------------------------------------------------------------------


def test_tasks_and_items(tmp_path):
    tasks = read_tasks(write(tmp_path, FILES))
    data = tmp_path / "eval_data"
    assert tasks == [
        CoreTask("capitals", data / "world" / "capitals.jsonl", "language_modeling", 10, "\nAnswer: ", 0.0),
        CoreTask("copa", data / "copa.jsonl", "multiple_choice", 0, " ", pytest.approx(0.091)),
    ]
    assert read_items(tasks[0]) == [{"context": "France: ", "continuation": "Paris "}]
    assert len(read_items(tasks[1])) == 1
    assert get_bundle(str(tmp_path)) == tmp_path


@pytest.mark.parametrize(("name", "text", "says"), [
    ("core.yaml", None, "core.yaml is missing"),
    ("core.yaml", "icl_tasks: [", "damaged"),
    ("core.yaml", "icl_tasks: [5]", "damaged"),
    ("core.yaml", "icl_tasks: []", "lists no task"),
    ("core.yaml", YAML.replace("copa,", "capitals,"), "two of the same label"),
    ("core.yaml", YAML.replace("multiple_choice", "riddle"), "'riddle'; known are multiple_choice"),
    ("eval_meta_data.csv", CSV.replace("copa,x", "cola,x"), "no random baseline for task copa"),
    ("eval_meta_data.csv", CSV.replace("9.1", "much"), "damaged"),
    ("eval_data/copa.jsonl", None, "eval_data/copa.jsonl"),
])  # fmt: skip
def test_bundles_that_cannot_be_used(name, text, says, tmp_path):
    write(tmp_path, FILES)
    (tmp_path / name).unlink()
    if text is not None:
        write(tmp_path, {name: text})
    with pytest.raises(UserError, match=says):
        read_tasks(tmp_path)


GOOD = {
    "multiple_choice": {"query": "q", "choices": ["a", "b"], "gold": 1},
    "schema": {"context_options": ["a", "b"], "continuation": "c", "gold": 0},
    "language_modeling": {"context": "a", "continuation": "b"},
}


@pytest.mark.parametrize(("kind", "change"), [
    ("multiple_choice", {"query": None}), ("multiple_choice", {"choices": ["a"]}), ("multiple_choice", {"choices": ["a", 2]}),
    ("multiple_choice", {"gold": 2}), ("multiple_choice", {"gold": -1}), ("multiple_choice", {"gold": True}), ("multiple_choice", {"gold": "0"}),
    ("schema", {"context_options": "ab"}), ("schema", {"continuation": 1}), ("schema", {"gold": None}),
    ("language_modeling", {"context": ["a"]}), ("language_modeling", {"continuation": None}),
])  # fmt: skip
def test_bad_lines_are_named(kind, change, tmp_path):
    path = tmp_path / "items.jsonl"
    lines = [json.dumps(GOOD[kind]), json.dumps({**GOOD[kind], **change}), "{", "[1]"]
    path.write_text("\n".join(lines))
    with pytest.raises(UserError, match="has 3 lines") as caught:
        read_items(CoreTask("some", path, kind, 0))
    assert all(f"{path}:{number}: " in str(caught.value) for number in (2, 3, 4))
    path.write_text(lines[0])
    assert read_items(CoreTask("some", path, kind, 0)) == [GOOD[kind]]


def test_unreadable_and_empty_files(tmp_path):
    task = CoreTask("some", tmp_path / "items.jsonl", "schema", 0)
    with pytest.raises(UserError, match=r"items\.jsonl"):
        read_items(task)
    task.path.write_text("\n\n")
    with pytest.raises(UserError, match="nothing is in it"):
        read_items(task)
    task.path.write_bytes(b"\xff\xfe")
    with pytest.raises(UserError, match="cannot be read"):
        read_items(task)


@pytest.mark.skipif(not REAL.is_dir(), reason="no real CORE data here; name its folder's parent in NANOCHAT_TEST_DATA")
def test_the_real_data_as_they_are():
    tasks = {task.label: task for task in read_tasks(REAL)}
    assert len(tasks) == 22 and tasks["boolq"].baseline == 0.62 and tasks["jeopardy"].delimiter == "\nAnswer: "
    assert {label: len(read_items(task)) for label, task in tasks.items()}["bigbench_repeat_copy_logic"] == 32


# --- downloading -----------------------------------------------------------------------------------------------------


@pytest.fixture
def server(monkeypatch, tmp_path):
    for name in [name for name in os.environ if name.lower().endswith("_proxy")]:
        monkeypatch.delenv(name)
    with LoopbackHub({"datasets/some/place": {FILE: ZIP}}) as hub:
        monkeypatch.setenv("NANOCHAT_EVAL_BUNDLE_URL", f"{hub.endpoint}/datasets/some/place/resolve/main/{FILE}")
        monkeypatch.setenv("NANOCHAT_BASE_DIR", str(tmp_path / "base"))
        monkeypatch.setattr(core_bundle, "FIRST_WAIT", 0.01)
        yield hub


def ranges(server: LoopbackHub) -> list[str | None]:
    return [request.headers.get("range") for request in server.requests]


def faults(server: LoopbackHub, *some: Fault) -> None:
    server.faults["GET", FILE] = iter(some)


def in_vain(base: Path) -> str:
    with pytest.raises(UserError) as caught:
        get_bundle("core")
    assert not (base / "eval_bundle").exists() and not (base / ".eval_bundle.new").exists()
    assert "--bundle PATH" in str(caught.value) and "--bundle tinyworld" in str(caught.value)
    return str(caught.value)


def test_it_arrives_and_is_not_asked_for_again(server, tmp_path):
    folder = get_bundle("core")
    assert folder == tmp_path / "base" / "eval_bundle" == get_bundle("core")
    assert [task.label for task in read_tasks(folder)] == ["capitals", "copa"] and read_items(read_tasks(folder)[0])
    assert ranges(server) == [None]
    assert sorted(os.listdir(tmp_path / "base")) == [".eval_bundle.lock", "eval_bundle"]


def test_broken_connections_are_resumed(server):
    faults(server, Fault(stop_after=20_000), Fault(status=503), Fault(stop_after=10_000))
    assert read_tasks(get_bundle("core"))
    assert ranges(server) == [None, "bytes=20000-", "bytes=20000-", "bytes=30000-"]
    assert all(request.headers["if-range"].startswith('"') for request in server.requests[1:])


def test_a_later_run_resumes(server, tmp_path):
    faults(server, Fault(stop_after=20_000), *repeat(Fault(stop_after=0), ATTEMPTS - 1))
    assert "the connection ended" in in_vain(tmp_path / "base") and len(server.requests) == ATTEMPTS
    assert read_tasks(get_bundle("core"))
    assert ranges(server)[-1] == "bytes=20000-"


@pytest.mark.parametrize("honest", [True, False])
def test_another_version_is_begun_anew(honest, server, tmp_path):
    """The server honours If-Range and sends all of it; one that does not is found out by the ETag of its part."""
    server.repos["datasets/some/place"][FILE] = zipped({**FILES, "eval_data/filling.jsonl": os.urandom(70_000).hex()})
    faults(server, Fault(stop_after=20_000), *repeat(Fault(stop_after=0), ATTEMPTS - 1))
    in_vain(tmp_path / "base")
    server.repos["datasets/some/place"][FILE] = ZIP
    lie = Fault(status=206, headers={"Content-Range": f"bytes 20000-{len(ZIP) - 1}/{len(ZIP)}", "ETag": '"new"'}, body=ZIP[20_000:])
    faults(server, *([] if honest else [lie]))
    assert (get_bundle("core") / "eval_data" / "filling.jsonl").stat().st_size == 120_000
    assert ranges(server)[ATTEMPTS:] == ["bytes=20000-"] + [None] * (not honest)


def test_all_bytes_are_there_and_nothing_was_unpacked(server, tmp_path, monkeypatch):
    with monkeypatch.context() as patch:
        patch.setattr(core_bundle, "_unpack", lambda *_: (_ for _ in ()).throw(KeyboardInterrupt))  # the process dies
        with pytest.raises(KeyboardInterrupt):
            get_bundle("core")
    assert read_tasks(get_bundle("core"))
    assert ranges(server) == [None, f"bytes={len(ZIP)}-"]  # answered with 416


def test_interrupted_unpacking_leaves_nothing(server, tmp_path, monkeypatch):
    with monkeypatch.context() as patch:
        patch.setattr(core_bundle.shutil, "copyfileobj", lambda *_: (_ for _ in ()).throw(KeyboardInterrupt))
        with pytest.raises(KeyboardInterrupt):
            get_bundle("core")
    assert not list((tmp_path / "base").glob("*bundle")) + list((tmp_path / "base").glob(".*new"))
    assert read_tasks(get_bundle("core"))


def test_damaged_bytes_are_brought_again(server):
    wrong = bytearray(ZIP)
    wrong[len(ZIP) // 2] ^= 1  # in the middle of the filling
    faults(server, Fault(body=bytes(wrong)), Fault(body=ZIP[:-30]), Fault(body=b"<html>log in first</html>"))
    assert read_tasks(get_bundle("core"))
    assert ranges(server) == [None] * 4


def test_what_stays_damaged(server, tmp_path):
    server.repos["datasets/some/place"][FILE] = zipped(FILES, top="something_else/")
    assert "no eval_bundle/core.yaml" in in_vain(tmp_path / "base")


@pytest.mark.parametrize("name", ["../../evil", "/evil", "a/../../evil", "a\\..\\evil", "C:evil"])
def test_members_that_want_to_be_elsewhere(name, server, tmp_path):
    buffer = io.BytesIO(ZIP)
    with zipfile.ZipFile(buffer, "a") as archive:
        archive.writestr(name if name.startswith(("/", "..")) else f"eval_bundle/{name}", "evil")
    server.repos["datasets/some/place"][FILE] = buffer.getvalue()
    assert "refused" in in_vain(tmp_path / "base") and len(server.requests) == 1
    assert not list(tmp_path.rglob("*evil*"))


def test_links_and_absurd_sizes(server, tmp_path, monkeypatch):
    server.repos["datasets/some/place"][FILE] = zipped(FILES, link="/etc")
    assert "is a link" in in_vain(tmp_path / "base")
    server.repos["datasets/some/place"][FILE] = ZIP
    monkeypatch.setattr(core_bundle, "MOST_BYTES", 100_000)
    assert "would unpack to" in in_vain(tmp_path / "base")


def test_servers_that_will_not(server, tmp_path, monkeypatch):
    faults(server, Fault(status=403))
    assert "403" in in_vain(tmp_path / "base") and len(server.requests) == 1
    monkeypatch.setenv("NANOCHAT_EVAL_BUNDLE_URL", "nowhere")
    with pytest.raises(UserError, match="unset NANOCHAT_EVAL_BUNDLE_URL"):
        get_bundle("core")


def test_stalled_transfer_is_resumed(server, monkeypatch):
    monkeypatch.setattr(core_bundle, "TIMEOUT", 0.2)
    faults(server, Fault(stop_after=20_000, hold=threading.Event()))
    assert read_tasks(get_bundle("core"))
    assert ranges(server)[0] is None and ranges(server)[1].startswith("bytes=")


def test_without_a_network(server, tmp_path, monkeypatch):
    waits = []
    monkeypatch.setattr(core_bundle, "FIRST_WAIT", 1.0)
    monkeypatch.setattr(core_bundle, "time", SimpleNamespace(sleep=waits.append))
    monkeypatch.setenv("NANOCHAT_EVAL_BUNDLE_URL", "http://127.0.0.1:9/eval_bundle.zip")
    said = in_vain(tmp_path / "base")
    assert "127.0.0.1:9" in said and "NANOCHAT_EVAL_BUNDLE_URL" in said and waits == [1, 2, 4]


def test_two_processes_bring_it_once(server, tmp_path):
    """The second waits at the lock and then finds it there."""
    hold = threading.Event()
    faults(server, Fault(stop_after=20_000, hold=hold))
    code = "from nanochat.core_bundle import get_bundle; print(get_bundle('core'))"
    runs = [subprocess.Popen([sys.executable, "-c", code], cwd=ROOT, stdout=subprocess.PIPE, text=True) for _ in range(2)]
    threading.Timer(2, hold.set).start()
    assert [run.communicate(timeout=60)[0].strip() for run in runs] == [str(tmp_path / "base" / "eval_bundle")] * 2
    assert len(server.requests) == 1


def test_a_folder_that_is_no_bundle(server, tmp_path):
    (tmp_path / "base" / "eval_bundle").mkdir(parents=True)
    with pytest.raises(UserError, match="delete it"):
        get_bundle("core")
    with pytest.raises(UserError, match=r"no core\.yaml"):
        get_bundle(str(tmp_path))


RANKS = """
import os, signal, sys
import torch.distributed as dist
from nanochat.common import UserError
from nanochat.core_bundle import get_bundle, read_tasks

def run(rank):
    signal.alarm(60)
    dist.init_process_group("gloo", init_method="file://{folder}/store", rank=rank, world_size=2)
    assert len(read_tasks(get_bundle("tinyworld"))) == 5
    try:
        get_bundle("core")
    except UserError as error:
        assert "127.0.0.1:9" in str(error)
        dist.barrier()
        return
    raise AssertionError("both ranks should have been told")
"""


def test_ranks_get_it_or_fail_together(tmp_path, monkeypatch):
    monkeypatch.setenv("NANOCHAT_BASE_DIR", str(tmp_path))
    monkeypatch.setenv("NANOCHAT_EVAL_BUNDLE_URL", "http://127.0.0.1:9/eval_bundle.zip")
    code = (RANKS + FORK_TWO).format(folder=tmp_path).replace("import get_bundle", "import FIRST_WAIT, get_bundle")
    code = code.replace("def run(rank):", "import nanochat.core_bundle\nnanochat.core_bundle.FIRST_WAIT = 0.01\ndef run(rank):")
    result = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, timeout=90)
    assert result.returncode == 0, result.stderr


# --- the embedded world's bundle -------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def tinyworld(tmp_path_factory) -> dict[str, list[dict]]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("NANOCHAT_BASE_DIR", str(tmp_path_factory.mktemp("base")))
        return {task.label: read_items(task) for task in read_tasks(get_bundle("tinyworld"))}


def test_generated_once_and_again_when_the_generator_changes(tmp_path, monkeypatch):
    monkeypatch.setenv("NANOCHAT_BASE_DIR", str(tmp_path))
    folder = get_bundle("tinyworld")
    before = (folder / "core.yaml").stat().st_ino
    assert (get_bundle("tinyworld") / "core.yaml").stat().st_ino == before
    write(folder, {"made_from.txt": "an older generator", "eval_data/old.jsonl": ""})
    monkeypatch.setattr("nanochat.tinyworld_bundle.bundle_files", lambda: FILES)
    assert [task.label for task in read_tasks(get_bundle("tinyworld"))] == ["capitals", "copa"]
    assert sorted(path.name for path in (folder / "eval_data").iterdir()) == ["copa.jsonl", "world"]


def test_the_same_on_every_machine(tinyworld):
    code = "import json; from nanochat.tinyworld_bundle import bundle_files; print(json.dumps(bundle_files()))"
    run = subprocess.run([sys.executable, "-c", code], cwd=ROOT, env={**os.environ, "PYTHONHASHSEED": "7"}, capture_output=True, text=True)
    assert json.loads(run.stdout) == bundle_files()


def test_every_kind_is_there(tinyworld):
    assert {label: len(items) for label, items in tinyworld.items()} == dict.fromkeys(
        ("tinyworld_recall", "tinyworld_recall_fewshot", "tinyworld_choice", "tinyworld_quiz", "tinyworld_schema"), 300
    )
    for label in ("tinyworld_choice", "tinyworld_quiz", "tinyworld_schema"):
        places = Counter(item["gold"] for item in tinyworld[label])
        assert max(places.values()) < 1.4 * min(places.values())  # the right one stands anywhere
    longest = max(len(text) for items in tinyworld.values() for item in items for text in item.values() if isinstance(text, str))
    assert longest < 120  # with three more before it, it fits 256 tokens


@pytest.fixture(scope="module")
def held_out() -> dict[str, tinyworld_facts.Telling]:
    """By what an item asks; of a question also with the beginning of the sentence that answers."""
    found = {}
    for t in tinyworld_facts.held_out_tellings():
        lead = t.text[: t.text.rindex(t.answer)].rstrip() if t.is_question else ""
        found |= {t.prompt: t, f"{t.prompt} {lead}".strip(): t, f"Question: {t.prompt}": t}
    return found


def test_nothing_was_told_in_training(tinyworld, held_out):
    """Test_tinyworld shows that held-out tellings stand nowhere in the corpus; and so do the texts that the schema's wrong option makes."""
    for items in tinyworld.values():
        for item in items:
            asked = item.get("context_options") or [item.get("query") or item["context"]]
            assert all(held_out[text].held_out for text in asked)
            right = item.get("continuation") or item["choices"][item["gold"]]
            assert held_out[asked[item.get("gold", 0) if len(asked) > 1 else 0]].answer.lower() == right.lower()


def test_drawn_evenly_from_the_relations(tinyworld, held_out):
    for label, items in tinyworld.items():
        count = Counter(held_out[(item.get("context_options") or [item.get("query") or item["context"]])[0]].relation for item in items)
        assert len(count) > 40 and max(count.values()) <= 10, label


def test_wrong_options_are_wrong(tinyworld, held_out):
    told: dict[tuple[str, str], set[str]] = {}
    for name in tinyworld_facts.relations():
        for t in tinyworld_facts.tellings(name):
            told.setdefault((t.relation, t.prompt), set()).add(t.answer.lower())
    for label in ("tinyworld_choice", "tinyworld_quiz"):
        for item in tinyworld[label]:
            t = held_out[item["query"]]
            options = [choice.lower() for choice in item["choices"]]
            assert len(set(options)) == 4
            assert [option for option in options if option in told[t.relation, t.prompt]] == [options[item["gold"]]]
            same_words = {u.answer.lower() for u in tinyworld_facts.tellings(t.relation) if u.phrasing == t.phrasing}
            assert set(options) <= same_words
    for item in tinyworld["tinyworld_schema"]:
        gold, other = held_out[item["context_options"][item["gold"]]], held_out[item["context_options"][1 - item["gold"]]]
        assert (gold.relation, gold.phrasing) == (other.relation, other.phrasing)
        assert item["continuation"].lower() not in told[other.relation, other.prompt]
