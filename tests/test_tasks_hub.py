"""The tasks whose data lies on the hub: through `datasets` from a hub on the loopback device, from local copies, and when there is nothing."""

import hashlib
import io
import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from loopback_hub import COMMIT, LoopbackHub, _Answer

from nanochat.common import UserError
from tasks.arc import ARC
from tasks.gsm8k import GSM8K
from tasks.humaneval import HumanEval
from tasks.mmlu import MMLU
from tasks.smoltalk import SmolTalk

ROOT = Path(__file__).parent.parent

# Rows as the data sets have them on the hub; the texts are ours.
ARC_ROWS = [
    {"id": "T_1", "question": "Which is a fruit?", "choices": {"text": ["stone", "pear", "chair", "rain"], "label": ["A", "B", "C", "D"]},
     "answerKey": "B"},
    {"id": "T_2", "question": "What do cows eat?", "choices": {"text": ["grass", "iron", "sand"], "label": ["1", "2", "3"]}, "answerKey": "1"},
]  # fmt: skip
GSM8K_ROWS = [
    {"question": "Ann has 3 bags of 16 pears. She eats 2. How many are left?",
     "answer": "She had 3*16 = <<3*16=48>>48 pears.\nNow there are 48-2 = $<<48-2=46>>46.\n#### 46"},
    {"question": "A town has 1,000 people and 250 come. How many?", "answer": "It has 1,250 now.\n#### 1,250"},
]  # fmt: skip
MMLU_ROWS = [{"question": "What is 2 + 2?", "subject": "arithmetic", "choices": ["1", "3", "4", "22"], "answer": 2}]
HUMANEVAL_ROWS = [{
    "task_id": "HumanEval/0", "entry_point": "total", "canonical_solution": "    return sum(numbers)\n",
    "prompt": 'from typing import List\nimport math\n\n\ndef total(numbers: List[int]) -> int:\n    """ Add them up. """\n',
    "test": "\n\ndef check(candidate):\n    assert candidate([1, 2, 3]) == 6\n    assert candidate([]) == 0\n\n",
}]  # fmt: skip
SMOLTALK_ROWS = [
    {"messages": [{"content": "Be short.", "role": "system"}, {"content": "Hi!", "role": "user"}, {"content": "Hello.", "role": "assistant"}],
     "source": "smol-magpie-ultra"},
    {"messages": [{"content": "One and one?", "role": "user"}, {"content": "Two.", "role": "assistant"}], "source": "smol-magpie-ultra"},
]  # fmt: skip


def parquet(rows: list[dict]) -> bytes:
    file = io.BytesIO()
    pq.write_table(pa.Table.from_pylist(rows), file)
    return file.getvalue()


def repository(files: dict[tuple[str, str, str], list[dict]]) -> dict[str, bytes]:
    """A data set's repository as on the hub: files by (config, split, folder), and a README that says which is which."""
    made, card = {}, "---\nconfigs:\n"
    for config in dict.fromkeys(config for config, _, _ in files):
        card += f"- config_name: {config}\n  data_files:\n"
        for (owner, split, folder), rows in files.items():
            if owner == config:
                card += f"  - split: {split}\n    path: {folder}/{split}-*\n"
                made[f"{folder}/{split}-00000-of-00001.parquet"] = parquet(rows)
    return {"README.md": (card + "---\n").encode(), **made}


REPOS = {
    "allenai/ai2_arc": repository({("ARC-Easy", "test", "ARC-Easy"): ARC_ROWS, ("ARC-Challenge", "test", "ARC-Challenge"): ARC_ROWS[::-1]}),
    "openai/gsm8k": repository({("main", "train", "main"): GSM8K_ROWS, ("main", "test", "main"): GSM8K_ROWS[::-1]}),
    "openai/openai_humaneval": repository({("openai_humaneval", "test", "openai_humaneval"): HUMANEVAL_ROWS}),
    "cais/mmlu": repository({
        ("all", "test", "all"): MMLU_ROWS, ("auxiliary_train", "train", "auxiliary_train"): [{"train": {**MMLU_ROWS[0], "subject": ""}}],
    }),
    "HuggingFaceTB/smol-smoltalk": repository({("default", "train", "data"): SMOLTALK_ROWS, ("default", "test", "data"): SMOLTALK_ROWS[:1]}),
}  # fmt: skip
TASKS = {
    "arc": "ARC('ARC-Challenge', 'test', {path})",
    "gsm8k": "GSM8K('main', 'train', {path})",
    "humaneval": "HumanEval({path})",
    "mmlu": "MMLU('all', 'test', {path})",
    "auxiliary": "MMLU('auxiliary_train', 'train', {path})",
    "smoltalk": "SmolTalk('train', {path})",
}


class ApiHub(LoopbackHub):
    """A hub that can also be asked what it has, which is what `datasets` does before it downloads."""

    def __init__(self, repos: dict[str, dict[str, bytes]]):
        super().__init__({f"datasets/{name}": files for name, files in repos.items()})
        self.RequestHandlerClass = _ApiAnswer


class _ApiAnswer(_Answer):
    server: ApiHub

    def do_GET(self) -> None:
        asked = re.fullmatch(r"/api/(datasets/[^/]+/[^/?]+)(?:/(revision|tree)/[^/?]+(?:/([^?]*))?)?(?:\?.*)?", self.path)
        if not asked:
            return super().do_GET()
        repo, verb, folder = asked.groups()
        files = self.server.repos.get(repo)
        if files is None:
            return self._json(404, {"error": "Repository not found"}, {"X-Error-Code": "RepoNotFound"})
        about = {"id": repo.removeprefix("datasets/"), "sha": COMMIT, "private": False, "gated": False, "disabled": False, "downloads": 0, "likes": 0,
                 "tags": [], "siblings": [{"rfilename": name} for name in files]}  # fmt: skip
        self._json(200, _tree(files, f"{folder}/" if folder else "") if verb == "tree" else about, {})

    def _json(self, status: int, answer: object, headers: dict[str, str]) -> None:
        body = json.dumps(answer).encode()
        self.send_response(status)
        for name, value in {"Content-Type": "application/json", "Content-Length": str(len(body)), **headers}.items():
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(body)


def _tree(files: dict[str, bytes], folder: str) -> list[dict]:
    entries = {}
    for name, content in files.items():
        if name.startswith(folder):
            head, slash, _ = name[len(folder) :].partition("/")
            oid = hashlib.sha1(content).hexdigest()
            entries[head] = {"type": "directory" if slash else "file", "path": folder + head, "oid": oid, "size": 0 if slash else len(content)}
    return list(entries.values())


def load_all(home: Path, path: str = "", tasks: dict[str, str] = TASKS, **env: str) -> dict[str, list | str]:
    """All conversations of each task, in a process of its own: huggingface_hub reads its environment when it is imported. An error is its text."""
    code = f"""
import json
from nanochat.common import UserError
from tasks.arc import ARC
from tasks.gsm8k import GSM8K
from tasks.humaneval import HumanEval
from tasks.mmlu import MMLU
from tasks.smoltalk import SmolTalk
found = {{}}
for name, make in { ({name: make.format(path=path) for name, make in tasks.items()})!r}.items():
    try: found[name] = list(eval(make))
    except UserError as error: found[name] = str(error)
print(json.dumps(found))
"""
    cleared = {key: value for key, value in os.environ.items() if not key.startswith("HF_")}
    environment = {
        **cleared,
        "HF_HOME": str(home),
        "NANOCHAT_BASE_DIR": str(home),
        "HF_HUB_DISABLE_PROGRESS_BARS": "1",
        "OMP_NUM_THREADS": "1",
        **env,
    }
    result = subprocess.run([sys.executable, "-c", code], cwd=ROOT, env=environment, capture_output=True, text=True)
    assert result.returncode == 0, result.stderr
    return json.loads(result.stdout.splitlines()[-1])


EXPECTED = {
    "arc": [{"messages": [{"role": "user", "content": "Multiple Choice question: What do cows eat?\n- grass=1\n- iron=2\n- sand=3\n\n"
                                                      "Respond only with the letter of the correct answer."},
                          {"role": "assistant", "content": "1"}], "letters": ["1", "2", "3"]},
            {"messages": [{"role": "user", "content": "Multiple Choice question: Which is a fruit?\n- stone=A\n- pear=B\n- chair=C\n- rain=D\n\n"
                                                      "Respond only with the letter of the correct answer."},
                          {"role": "assistant", "content": "B"}], "letters": ["A", "B", "C", "D"]}],
    "smoltalk": [{"messages": row["messages"]} for row in SMOLTALK_ROWS],
}  # fmt: skip


def check(found: dict) -> None:
    assert found["arc"] == EXPECTED["arc"]
    assert [c["messages"] for c in found["smoltalk"]] == [row["messages"] for row in SMOLTALK_ROWS]
    assert found["mmlu"][0]["messages"][1]["content"] == found["auxiliary"][0]["messages"][1]["content"] == "C"
    assert found["mmlu"][0]["letters"] == ["A", "B", "C", "D"] and found["mmlu"][0]["subject"] == "arithmetic"
    assert [part["type"] for part in found["gsm8k"][0]["messages"][1]["content"]] == ["text", "python", "python_output"] * 2 + ["text"]
    assert found["humaneval"][0]["entry_point"] == "total"


@pytest.fixture(scope="module")
def home(tmp_path_factory) -> Path:
    """A cache of `datasets` that has been filled from the loopback hub."""
    home = tmp_path_factory.mktemp("hf_home")
    with ApiHub(REPOS) as hub:
        check(load_all(home, HF_ENDPOINT=hub.endpoint))
        assert hub.asked("main/train-00000-of-00001.parquet", "GET"), "the data came from the hub of HF_ENDPOINT"
    return home


def test_cached_data_needs_no_network(home):
    check(load_all(home, HF_HUB_OFFLINE="1"))


def test_offline_and_not_cached_is_one_clear_line(tmp_path):
    found = load_all(tmp_path / "empty", HF_HUB_OFFLINE="1")
    for (name, error), repo in zip(
        found.items(), ("allenai/ai2_arc", "openai/gsm8k", "openai/openai_humaneval", "cais/mmlu", "cais/mmlu", "smol-smoltalk"), strict=True
    ):
        assert isinstance(error, str), name
        assert "\n" not in error and repo in error and "HF_HUB_OFFLINE" in error and "task_data" in error, error
    folder = tmp_path / "empty" / "task_data"
    assert f"into {folder}/openai/gsm8k/main, or" in found["gsm8k"] and f"into {folder}/cais/mmlu/auxiliary_train, or" in found["auxiliary"]
    assert f"into {folder}/openai/openai_humaneval, or" in found["humaneval"]


def test_a_hub_without_the_data_is_one_clear_line(tmp_path):
    with ApiHub({}) as hub:
        found = load_all(tmp_path, tasks={"gsm8k": TASKS["gsm8k"]}, HF_ENDPOINT=hub.endpoint)
    assert "openai/gsm8k (main, train) could not be loaded" in found["gsm8k"] and "\n" not in found["gsm8k"]


# --- local copies ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", ["clone", "jsonl", "json"])
def test_local_folders(kind, tmp_path):
    """A clone of the hub's repository, or a folder with one file for each split."""

    def folder(name: str) -> Path:
        for file, content in REPOS[name].items():
            if kind == "clone" or file == "README.md":
                target = tmp_path / name / file
                target.parent.mkdir(parents=True, exist_ok=True)
                target.write_bytes(content)
            else:
                rows = pq.read_table(io.BytesIO(content)).to_pylist()
                target = tmp_path / name / Path(file).parent / f"{Path(file).name.split('-')[0]}.{kind}"
                target.parent.mkdir(parents=True, exist_ok=True)
                target.write_text(json.dumps(rows) if kind == "json" else "".join(json.dumps(row) + "\n" for row in rows))
        return tmp_path / name

    found = {
        "arc": list(ARC("ARC-Challenge", "test", folder("allenai/ai2_arc"))),
        "gsm8k": list(GSM8K("main", "train", str(folder("openai/gsm8k")))),
        "humaneval": list(HumanEval(folder("openai/openai_humaneval") / "openai_humaneval")),
        "mmlu": list(MMLU("all", "test", folder("cais/mmlu"))),
        "auxiliary": list(MMLU("auxiliary_train", "train", folder("cais/mmlu"))),
        "smoltalk": list(SmolTalk("train", folder("HuggingFaceTB/smol-smoltalk"))),
    }
    check(json.loads(json.dumps(found)))


def test_copies_in_the_base_dir_need_no_hub(tmp_path):
    """The repositories as they are, each in task_data/OWNER/NAME: what scripts read where there is neither a network nor a cache."""
    for name, files in REPOS.items():
        for file, content in files.items():
            target = tmp_path / "base" / "task_data" / name / file
            target.parent.mkdir(parents=True, exist_ok=True)
            target.write_bytes(content)
    check(load_all(tmp_path / "empty", HF_HUB_OFFLINE="1", NANOCHAT_BASE_DIR=str(tmp_path / "base")))


@pytest.fixture
def copies(tmp_path, monkeypatch) -> Path:
    """task_data/ of a base dir."""
    monkeypatch.setenv("NANOCHAT_BASE_DIR", str(tmp_path / "base"))
    monkeypatch.setattr("tasks.common._hub_rows", lambda source: pytest.fail(f"the hub was asked for {source.name}"))
    return tmp_path / "base" / "task_data"


def put(folder: Path, name: str, rows: list[dict]) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    (folder / name).write_bytes(parquet(rows) if name.endswith(".parquet") else "".join(json.dumps(row) + "\n" for row in rows).encode())
    return folder


def test_a_copy_keeps_its_configs_apart(copies):
    """Flat files in a copy would be read as ARC-Easy and as ARC-Challenge; with an explicit path it is the user who says what they are."""
    flat = put(copies / "allenai" / "ai2_arc", "test.jsonl", ARC_ROWS)
    put(flat / "data", "test.jsonl", ARC_ROWS)
    for config in ("ARC-Easy", "ARC-Challenge"):
        with pytest.raises(UserError, match=rf"ai2_arc \({config}, test\): .*has no test\.parquet.*put its files into {flat}/{config}, or"):
            ARC(config, "test")
        assert len(ARC(config, "test", flat)) == 2
    put(flat / "ARC-Easy", "test.jsonl", ARC_ROWS[:1])
    assert len(ARC("ARC-Easy", "test")) == 1 == len(ARC("ARC-Easy", "test", flat))
    with pytest.raises(UserError, match=f"{flat}/ARC-Challenge has no"):
        ARC("ARC-Challenge", "test")


@pytest.mark.parametrize("folder", [".", "data", "smol-smoltalk"])
def test_a_copy_without_configs(folder, copies):
    copy = copies / "HuggingFaceTB" / "smol-smoltalk"
    put(copy / folder, "train.jsonl", SMOLTALK_ROWS)
    assert len(SmolTalk("train")) == 2
    with pytest.raises(UserError, match=rf"{copy} has no test\.parquet.*put its files into {copy}, or"):
        SmolTalk("test")


@pytest.mark.parametrize("kind", ["parquet", "jsonl"])
@pytest.mark.parametrize("explicit", [False, True])
def test_shards_that_are_missing(kind, explicit, copies, tmp_path):
    folder = tmp_path / "mine" if explicit else copies / "openai" / "gsm8k" / "main"
    path = folder if explicit else None
    for number in (3, 0, 1):
        put(folder, f"train-{number:05}-of-00004.{kind}", GSM8K_ROWS)
    with pytest.raises(UserError, match=rf"openai/gsm8k \(main, train\): {folder} has 3 of 4 files train-…-of-00004\.{kind}: copy the others"):
        GSM8K("main", "train", path)
    put(folder, f"train-00002-of-00004.{kind}", GSM8K_ROWS)
    put(folder, f"test-00000-of-00001.{kind}", GSM8K_ROWS[:1])
    assert len(GSM8K("main", "train", path)) == 8 and len(GSM8K("main", "test", path)) == 1
    for name in (f"train-00000-of-00002.{kind}", f"train.{kind}"):
        put(folder, name, GSM8K_ROWS)
        with pytest.raises(UserError, match=rf"{folder} has files of more than one set .*leave only one"):
            GSM8K("main", "train", path)
        (folder / name).unlink()
    assert len(GSM8K("main", "train", folder / f"train-00002-of-00004.{kind}")) == 2, "a shard that is named is wanted alone"


@pytest.fixture
def local(tmp_path):
    def write(rows: list[dict], name: str = "rows.jsonl") -> Path:
        (tmp_path / name).write_text("".join(json.dumps(row) + "\n" for row in rows))
        return tmp_path / name

    return write


def test_what_is_wrong_with_a_local_copy(tmp_path, local):
    with pytest.raises(UserError, match=r"openai/gsm8k \(main, test\): .*nowhere is not there"):
        GSM8K("main", "test", tmp_path / "nowhere")
    with pytest.raises(UserError, match=r"has no test\.parquet"):
        GSM8K("main", "test", tmp_path)
    with pytest.raises(UserError, match=r"lack question, answer \(they have: messages"):
        GSM8K("main", "test", local([{"messages": []}]))
    with pytest.raises(UserError, match="lack question, choices, answer"):
        MMLU("all", "test", local([{"messages": []}]))
    with pytest.raises(UserError, match=r"row 0 has 3 choices instead of 4"):
        MMLU("all", "test", local([{**MMLU_ROWS[0], "choices": ["1", "3", "4"]}]))[0]
    with pytest.raises(UserError, match=r"row 0 has the answer -1 instead of 0 to 3"):
        MMLU("all", "test", local([{**MMLU_ROWS[0], "answer": -1}]))[0]
    with pytest.raises(UserError, match=r"row 0: the answer 'E' is none of"):
        ARC("ARC-Easy", "test", local([{**ARC_ROWS[0], "answerKey": "E"}]))[0]
    with pytest.raises(UserError, match="has no rows"):
        GSM8K("main", "test", local([]))
    (tmp_path / "broken.jsonl").write_text('{"question": "q", "answer": "#### 1"}\n{"question":')
    with pytest.raises(UserError, match=r"broken\.jsonl:2 is not JSON"):
        GSM8K("main", "test", tmp_path / "broken.jsonl")
    (tmp_path / "broken.parquet").write_bytes(b"PAR1 and nothing")
    with pytest.raises(UserError, match="cannot be read"):
        GSM8K("main", "test", tmp_path / "broken.parquet")
    (tmp_path / "rows.csv").write_text("question,answer\n")
    with pytest.raises(UserError, match="not a parquet, json or jsonl file"):
        GSM8K("main", "test", tmp_path / "rows.csv")


ARC_CHOICES = ARC_ROWS[0]["choices"]
TALK = SMOLTALK_ROWS[1]["messages"]
BAD_ROWS = {
    "gsm8k-null": ("gsm8k", {"answer": None}, "its answer is null or absent, and should be a text"),
    "gsm8k-number": ("gsm8k", {"answer": 5}, "its answer should be a text, and is 5"),
    "gsm8k-lines": ("gsm8k", {"question": ["a\nb"]}, r"its question should be a text, and is \['a\\nb'\]"),
    "arc-lengths": ("arc", {"choices": {**ARC_CHOICES, "text": ["stone", "pear"]}}, "has 4 labels for 2 choices"),
    "arc-null": ("arc", {"question": None}, "its question is null or absent"),
    "arc-no-label": ("arc", {"choices": {"text": ["a"]}}, "its label is null or absent, and should be a list of texts"),
    "arc-null-text": ("arc", {"choices": {**ARC_CHOICES, "text": ["a", None, "c", "d"]}}, "its text should be a list of texts, and is"),
    "arc-choices": ("arc", {"choices": ["a", "b"]}, "its choices should be an object"),
    "mmlu-null": ("mmlu", {"choices": None}, "its choices is null or absent"),
    "mmlu-null-choice": ("mmlu", {"choices": ["1", None, "4", "22"]}, "its choices should be a list of texts"),
    "mmlu-odd": ("mmlu", {"choices": ["1", "3", "4", "22", "5"]}, "has 5 choices instead of 4"),
    "mmlu-letter": ("mmlu", {"answer": "C"}, "its answer should be a whole number, and is 'C'"),
    "mmlu-half": ("mmlu", {"answer": 2.0}, "its answer should be a whole number"),
    "humaneval-null": ("humaneval", {"canonical_solution": None}, "its canonical_solution is null or absent"),
    "humaneval-no-test": ("humaneval", {"test": None}, "its test is null or absent"),
    "talk-turns": ("smoltalk", {"messages": [TALK[0], TALK[0], TALK[1]]}, "message 1 is from user where assistant was expected"),
    "talk-none": ("smoltalk", {"messages": []}, "a conversation needs a list of messages"),
    "talk-null": ("smoltalk", {"messages": [None]}, "it should be an object with role, and is None"),
    "talk-null-content": ("smoltalk", {"messages": [{"role": "user", "content": None}]}, "message 0: the content must be a text"),
    "talk-no-content": ("smoltalk", {"messages": [{"role": "user"}]}, "there is no 'content'"),
}
ONE_OF_EACH = {
    "gsm8k": (lambda path: GSM8K("main", "train", path), GSM8K_ROWS[0]), "arc": (lambda path: ARC("ARC-Easy", "test", path), ARC_ROWS[0]),
    "mmlu": (lambda path: MMLU("all", "test", path), MMLU_ROWS[0]), "humaneval": (lambda path: HumanEval(path), HUMANEVAL_ROWS[0]),
    "smoltalk": (lambda path: SmolTalk("train", path), SMOLTALK_ROWS[1]),
}  # fmt: skip


@pytest.mark.parametrize("case", BAD_ROWS)
def test_a_bad_row_is_named(case, local):
    """A good row, a bad one, a good one: each good one is a conversation, the bad one a line that says where it is and what to do."""
    name, change, says = BAD_ROWS[case]
    make, good = ONE_OF_EACH[name]
    path = local([good, {**good, **change}, good])
    task = make(path)
    with pytest.raises(UserError, match=rf"^{path}, row 1:? {says}.*: repair the row or leave it out$") as error:
        list(task)
    assert "\n" not in str(error.value) and task[0] == task[2]


@pytest.mark.parametrize("name", ONE_OF_EACH)
def test_a_field_that_one_row_lacks(name, local):
    make, good = ONE_OF_EACH[name]
    for field in {"question", "choices", "answerKey", "answer", "prompt", "canonical_solution", "test", "entry_point", "messages"} & set(good):
        with pytest.raises(UserError, match=rf"row 1: its {field} is null or absent"):
            make(local([good, {key: value for key, value in good.items() if key != field}]))[1]


def test_rows_inside_of_a_field(local):
    """As in MMLU's auxiliary_train; the other form does as well."""
    good = MMLU_ROWS[0]
    path = local([{"train": good}, {"train": None}, {"train": {**good, "answer": None}}])
    task = MMLU("auxiliary_train", "train", path)
    assert task[0] == MMLU("auxiliary_train", "train", local(MMLU_ROWS, "flat.jsonl"))[0]
    for index, says in ((1, "it should be an object with question, choices, answer, and is None"), (2, "its answer is null or absent")):
        with pytest.raises(UserError, match=rf"rows\.jsonl, row {index}: {says}"):
            task[index]
    with pytest.raises(UserError, match="lack question, choices, answer"):
        MMLU("auxiliary_train", "train", local([{"train": None}]))


def test_views_name_the_row_of_the_file(local):
    task = GSM8K("main", "test", local([*GSM8K_ROWS, {**GSM8K_ROWS[0], "answer": None}]), start=1)
    assert len(task) == 2 and task[0]
    with pytest.raises(UserError, match="row 2: its answer"):
        task[1]


def test_beyond_the_end_is_an_index_error(local):
    for name, (make, good) in ONE_OF_EACH.items():
        task = make(local([good]))
        with pytest.raises(IndexError, match=r"has 1 conversations, none of number 1"):
            task[1]
        assert len(list(task)) == 1, name


@pytest.mark.parametrize("start", ['{"question": ', "["])
def test_json_that_is_nested_too_deeply(start, tmp_path):
    """A recursion of 100,000: a line is named, and an array's file."""
    deep = "[" * 100_000 + "]" * 100_000
    text = f'{json.dumps(GSM8K_ROWS[0])}\n{{"question": {deep}, "answer": ""}}\n' if start != "[" else deep
    (tmp_path / "deep.jsonl").write_text(text)
    place = "jsonl:2 is not JSON" if start != "[" else "jsonl cannot be read"
    with pytest.raises(UserError, match=rf"deep\.{place} \(it is nested too deeply\)"):
        GSM8K("main", "train", tmp_path / "deep.jsonl")


# --- judging ---------------------------------------------------------------------------------------------------------


def test_gsm8k_answers(local):
    task = GSM8K("main", "test", local(GSM8K_ROWS))
    first, second = task
    for right in ("#### 46", "48 - 2 is\n#### 46.", "####46", "#### 46.0"):
        assert task.evaluate(first, right) == 1 and task.reward(first, right) == 1.0, right
    for wrong in ("46", "#### 47", "#### -46", "#### 146", "#### ", "", "#### 46,000"):
        assert task.evaluate(first, wrong) == 0 and task.reward(first, wrong) == 0.0, wrong
    assert task.evaluate(second, "#### 1250") and task.evaluate(second, "#### 1,250") and not task.evaluate(second, "#### 1")
    assert task.eval_type == "generative"


def test_multiple_choice_answers(local):
    task = ARC("ARC-Easy", "test", local(ARC_ROWS))
    assert task.eval_type == "categorical"
    assert task.evaluate(task[0], "B") and not task.evaluate(task[0], "A") and task.evaluate(task[1], "1")
    with pytest.raises(ValueError, match="none of the letters"):
        task.evaluate(task[0], "The answer is B")


def test_humaneval_answers(local):
    task = HumanEval(local(HUMANEVAL_ROWS))
    problem = task[0]
    solution = problem["messages"][1]["content"]
    body = "def total(numbers: List[int]) -> int:\n    return math.floor(sum(numbers))"  # needs the imports of the prompt
    for right in (solution, body, f"Here it is:\n```python\n{body}\n```\nDone.", f"```\n{body}\n```", f"```python\n{body}"):
        assert task.evaluate(problem, right), right
    for wrong in ("", "def total(numbers): return 6", "I cannot do this.", "import sys\nsys.exit(0)", "import os\nos._exit(0)",
                  f"```python\n{body}\nexit()\n```", "def totals(numbers): return sum(numbers)"):  # fmt: skip
        assert not task.evaluate(problem, wrong), wrong


# --- the real data, where it is --------------------------------------------------------------------------------------

DATA = ROOT.parent / "shared" / "data"
needs_data = pytest.mark.skipif(not (DATA / "gsm8k").is_dir(), reason="no real data here")


@needs_data
def test_real_gsm8k():
    task = GSM8K("main", "test", DATA / "gsm8k" / "test.jsonl")
    assert len(task) == 1319
    for conversation in task:
        parts = conversation["messages"][1]["content"]
        said = "".join(part["text"] for part in parts if part["type"] == "text")
        assert "<<" not in said and ">>" not in said and task.evaluate(conversation, said)


@needs_data
def test_real_multiple_choice():
    folder = DATA / "mmlu_sample"
    assert len(list(ARC("ARC-Easy", "validation", folder / "ARC-Easy_validation.jsonl"))) > 500
    assert len(list(ARC("ARC-Challenge", "validation", folder / "ARC-Challenge_validation.jsonl"))) > 200
    assert len(list(MMLU("all", "test", folder / "mmlu_test_first10_per_subject.jsonl"))) > 500


@needs_data
def test_real_humaneval():
    task = HumanEval(DATA / "humaneval" / "HumanEval.jsonl")
    assert len(task) == 164
    for index in range(0, 164, 41):
        assert task.evaluate(task[index], task[index]["messages"][1]["content"])
        assert not task.evaluate(task[index], "pass")
