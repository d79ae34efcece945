"""Tasks by name: every name makes what it says, mixtures are understood or refused, and what is trained on is not what is measured."""

import itertools
import json
import re

import pytest

from nanochat.common import UserError
from tasks import catalog
from tasks.catalog import EVALUATIONS, default_mixture, evaluation_task, parse_evaluations, parse_mixture, rl_tasks, train_tasks, validation_tasks
from tasks.common import Source, TaskMixture, chat, final_answer, text_of
from tasks.humaneval import HumanEval

EMBEDDED = [name for name in EVALUATIONS if name.startswith("TinyWorld-") or name == "SpellingBee"]
JUNK = ["", " ", "\ud800", "\0", "\ufffd" * 50, "####", "#### " + "9" * 5000, "#### -" + "1," * 5000, "#### ." + "0" * 5000, "9" * 5000, "a" * 10**5,
        "```python\n\ud800```", "def f(:", "#### ١", "\x85\u2028####\t3", "a, " * 30000, "<<" * 9999, "A", "nothing"]  # fmt: skip


@pytest.fixture(autouse=True)
def world(monkeypatch, tmp_path):
    monkeypatch.setenv("NANOCHAT_BASE_DIR", str(tmp_path))
    monkeypatch.setenv("NANOCHAT_WORDS", "embedded")


@pytest.fixture
def no_hub(monkeypatch) -> list[tuple[str, str | None, str]]:
    """What would be asked of the hub, and rows that all tasks can read."""
    asked = []

    def rows(source: Source) -> list[dict]:
        asked.append((source.repo, source.config, source.split))
        row = {"question": "?", "choices": {"text": ["x", "y"], "label": ["A", "B"]}, "answerKey": "A", "answer": "#### 1", "prompt": "def f():\n",
               "canonical_solution": "", "test": "", "entry_point": "f", "messages": chat("Hi", "Hello")["messages"]}  # fmt: skip
        return [row] * 6000

    monkeypatch.setattr("tasks.common._hub_rows", rows)
    return asked


# --- evaluation ------------------------------------------------------------------------------------------------------


def test_every_task_of_the_table(no_hub):
    """Each can be made, and a guess at letters is right as often as the baseline says."""
    for name in EVALUATIONS:
        task = evaluation_task(name)
        assert len(task) > 0
        assert catalog.baseline(name) == (0.25 if task.eval_type == "categorical" else 0)
    assert sorted(no_hub, key=str) == [
        ("allenai/ai2_arc", "ARC-Challenge", "test"), ("allenai/ai2_arc", "ARC-Easy", "test"), ("cais/mmlu", "all", "test"),
        ("openai/gsm8k", "main", "test"), ("openai/openai_humaneval", None, "test"),
    ]  # fmt: skip
    assert len(evaluation_task("SpellingBee")) == 256 and evaluation_task("TinyWorld-Unseen").kind == "facts_unseen"


def test_defaults():
    assert catalog.default_evaluations("tinyworld") == [*(name for name in EVALUATIONS if name.startswith("TinyWorld-")), "SpellingBee"]
    six = ["ARC-Easy", "ARC-Challenge", "MMLU", "GSM8K", "HumanEval", "SpellingBee"]
    assert catalog.default_evaluations("climbmix") == catalog.default_evaluations(None) == catalog.default_evaluations("mine") == six


def test_names_of_evaluations():
    assert parse_evaluations("arc-easy|GSM8K, mmlu ,ARC-Easy") == ["ARC-Easy", "GSM8K", "MMLU"]
    assert parse_evaluations("tinyworld-choice") == ["TinyWorld-Choice"]
    for text in ("GSM9K", "ARC-Easy|nothing"):
        with pytest.raises(UserError, match=r"there is no task '(GSM9K|nothing)' to evaluate: known are ARC-Easy, .*TinyWorld-Calculator"):
            parse_evaluations(text)
    for text in ("", " |,"):
        with pytest.raises(UserError, match="no task is named"):
            parse_evaluations(text)


@pytest.mark.parametrize("name", EMBEDDED)
def test_strange_completions_are_wrong_and_no_error(name):
    task = evaluation_task(name)
    for conversation in itertools.islice(task, 0, None, 40):
        right = text_of(conversation["messages"][-1]["content"])
        assert task.evaluate(conversation, right)
        for junk in JUNK:
            if task.eval_type == "generative":
                assert not task.evaluate(conversation, junk), junk
    assert final_answer("#### " + "9" * 1000) == 10**1000 - 1 and final_answer("#### " + "9" * 1001) is None


def test_strange_programs_are_wrong_and_no_error(tmp_path):
    (tmp_path / "test.jsonl").write_text(json.dumps(
        {"prompt": "def one():\n", "canonical_solution": "    return 1\n", "test": "def check(f):\n    assert f() == 1\n", "entry_point": "one"}
    ))  # fmt: skip
    task = HumanEval(tmp_path)
    assert task.evaluate(task[0], "def one():\n    return 1")
    for junk in ("", "\ud800", "\0", "```python\n\ud800```", "def f(:", "9" * 5000):
        assert not task.evaluate(task[0], junk), junk


# --- mixtures --------------------------------------------------------------------------------------------------------


def test_default_mixtures(tmp_path):
    assert default_mixture("tinyworld") == [("tinyworld:26000", 1), ("spellingbee:7000", 1), ("spelling:2000", 1)]
    usual = [("smoltalk", 1), ("mmlu", 3), ("gsm8k", 4), ("spelling:200000", 1), ("spellingbee:80000", 1)]
    assert default_mixture("climbmix") == usual and default_mixture("climbmix", 0, 1) == [usual[0], ("gsm8k", 1), *usual[3:]]
    (tmp_path / catalog.IDENTITY).write_text(json.dumps(chat("Hi", "Hello")))
    assert default_mixture("climbmix") == [usual[0], ("identity", 2), *usual[1:]]
    assert default_mixture("tinyworld")[0] == ("tinyworld:26000", 1)


@pytest.mark.parametrize(("text", "mixture"), [
    ("smoltalk", [("smoltalk", 1)]), ("MMLU*3, gsm8k * 4", [("mmlu", 3), ("gsm8k", 4)]), ("arc,arc*2", [("arc", 1), ("arc", 2)]),
    ("spelling,spellingbee", [("spelling:2000", 1), ("spellingbee:7000", 1)]), ("SpellingBee:500*2", [("spellingbee:500", 2)]),
    ("tinyworld-choice,TinyWorld-Problems:7", [("tinyworld-choice:26000", 1), ("tinyworld-problems:7", 1)]),
    ("json:a b/My File.jsonl*3", [("json:a b/My File.jsonl", 3)]), ("json:/x/*y*2z:.jsonl", [("json:/x/*y*2z:.jsonl", 1)]),
    ("json:x*2*3", [("json:x*2", 3)]), ("identity", [("identity", 1)]),
    ("default,json:mine.jsonl", [*default_mixture("tinyworld"), ("json:mine.jsonl", 1)]),
    ("Default*2,", [(name, 2) for name, _ in default_mixture("tinyworld")]),
])  # fmt: skip
def test_mixtures(text, mixture):
    assert parse_mixture(text, "tinyworld", 3, 4) == mixture


def test_mixtures_of_other_models():
    assert parse_mixture("spelling,spellingbee,default", "climbmix", 2, 0) == [
        ("spelling:200000", 1), ("spellingbee:80000", 1), ("smoltalk", 1), ("mmlu", 2), ("spelling:200000", 1), ("spellingbee:80000", 1),
    ]  # fmt: skip


@pytest.mark.parametrize("text", ["smoltalks", "smoltalk*x", "smoltalk:5", "tinyworld-facts_unseen", "tinyworld-", "json", "json:", "json: *2",
                                  "arc:", "spelling:", "spelling:0", "spelling:-1", "spelling:x", "json:x,mmlu**2", "identity:x", "*2", ":",
                                  "default:2"])  # fmt: skip
def test_what_is_no_mixture(text):
    with pytest.raises(UserError) as error:
        parse_mixture(f"gsm8k,{text}", "tinyworld", 3, 4)
    assert repr(text.split(",")[-1].strip()) in str(error.value) and all(name in str(error.value) for name in catalog.SOURCES)


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("", "the mixture is empty"),
        (" , ", "the mixture is empty"),
        ("mmlu*0", "'mmlu\\*0' .* at least 1"),
        ("json:x.jsonl*1001", "at most 1,000"),
        ("tinyworld:1234567890", "is not known"),
    ],
)
def test_nothing_to_train_on(text, says):
    with pytest.raises(UserError, match=says):
        parse_mixture(text, "tinyworld", 3, 4)


def test_train_tasks(no_hub):
    tasks = train_tasks(parse_mixture("smoltalk,mmlu*2,gsm8k,arc,spelling:30,spellingbee:20,tinyworld:50,tinyworld-talk:40*3", "climbmix"))
    assert [type(task).__name__ for task in tasks] == (
        ["SmolTalk", "MMLU", "MMLU", "GSM8K", "ARC", "ARC", "SimpleSpelling", "SpellingBee", "TinyWorld", *["TinyWorld"] * 3]
    )
    assert [len(task) for task in tasks[6:]] == [30, 20, 50, 40, 40, 40]
    assert tasks[1] is tasks[2]
    assert no_hub == [("HuggingFaceTB/smol-smoltalk", None, "train"), ("cais/mmlu", "auxiliary_train", "train"), ("openai/gsm8k", "main", "train"),
                      ("allenai/ai2_arc", "ARC-Easy", "train"), ("allenai/ai2_arc", "ARC-Challenge", "train")]  # fmt: skip
    assert all(task.split == "train" for task in tasks[6:])


def test_validation_tasks(no_hub):
    tasks = validation_tasks(parse_mixture("smoltalk,mmlu*2,gsm8k,arc,mmlu,spelling,spelling:5,spellingbee,tinyworld,tinyworld-talk*3", "climbmix"))
    assert [(type(task).__name__, len(task)) for task in tasks] == [
        ("SmolTalk", 6000), ("MMLU", 5200), ("GSM8K", 420), ("ARC", 6000), ("ARC", 6000), ("SimpleSpelling", 1000), ("SpellingBee", 1000),
        ("TinyWorld", 400), ("TinyWorld", 400),
    ]  # fmt: skip
    assert {split for _, _, split in no_hub} == {"test", "validation"} and [task.kind for task in tasks[-2:]] == ["all", "talk"]
    assert all(task.split == "test" for task in tasks[5:])


@pytest.mark.parametrize("text", ["tinyworld,spelling,spellingbee", *catalog.KINDS_OF_TINYWORLD])
def test_validation_can_be_trained_on(text, tokenizer):
    """Every conversation ends with the assistant, whose words are targets, and none of them is shown in training."""
    mixture = parse_mixture(text, "tinyworld")
    tasks = validation_tasks(mixture)
    assert len(tasks) == len(mixture)
    held_out = set()
    for conversation in TaskMixture(tasks):
        ids, mask = tokenizer.render_conversation(conversation)
        assert conversation["messages"][-1]["role"] == "assistant" and ids[-1] == tokenizer.special["<|assistant_end|>"] and mask[-1] == 1
        held_out.add(str(conversation["messages"]))
    if text == "tinyworld,spelling,spellingbee":
        assert {conversation["kind"] for conversation in tasks[0]} == set(catalog.KINDS)
    trained = TaskMixture(train_tasks([(f"{name.partition(':')[0]}:1500", 1) for name, _ in mixture]))
    assert not held_out & {str(conversation["messages"]) for conversation in trained}


def test_conversations_of_ones_own(tmp_path):
    path = tmp_path / "mine.jsonl"
    path.write_text("\n".join(json.dumps(chat(f"Hi {i}", "Hello")) for i in range(300)))
    tasks = train_tasks(parse_mixture(f"json:{path}*2,tinyworld-talk:10", "tinyworld"))
    assert [len(task) for task in tasks] == [300, 300, 10] and tasks[0] is tasks[1]
    assert [type(task).__name__ for task in validation_tasks(parse_mixture(f"json:{path}*2,tinyworld-talk", "tinyworld"))] == ["TinyWorld"]
    (alone,) = validation_tasks(parse_mixture(f"json:{path}*2,json:{path}", "tinyworld"))
    assert list(alone) == list(tasks[0])[::2]  # from all over the file
    with pytest.raises(UserError, match="cannot be read"):
        train_tasks([(f"json:{tmp_path}/none", 1)])


def test_identity(tmp_path):
    with pytest.raises(UserError, match=re.escape(f"{tmp_path / catalog.IDENTITY} is not there")):
        train_tasks(parse_mixture("identity", "climbmix"))
    (tmp_path / catalog.IDENTITY).write_text(json.dumps(chat("Who are you?", "I am nanochat.")))
    both = train_tasks(parse_mixture("identity*2", "climbmix"))
    assert [list(task) for task in both] == [[chat("Who are you?", "I am nanochat.")]] * 2
    assert [len(task) for task in validation_tasks([("identity", 2)])] == [1]


# --- reinforcement learning ------------------------------------------------------------------------------------------


def test_tasks_of_reinforcement_learning(no_hub):
    assert [len(task) for task in rl_tasks("GSM8K")] == [6000, 6000] and [split for _, _, split in no_hub] == ["train", "test"]
    with pytest.raises(UserError, match="'mmlu' for reinforcement learning: known are gsm8k, tinyworld, spellingbee"):
        rl_tasks("mmlu")


@pytest.mark.parametrize("name", ["tinyworld", "spellingbee"])
def test_practice_is_neither_test_nor_what_was_learned(name):
    practice, test = rl_tasks(name)
    assert len(practice) == catalog.RL_SIZE and len(test) >= 256
    asked = [conversation["messages"][0]["content"] for conversation in itertools.islice(practice, 400)]
    assert not set(asked) & {conversation["messages"][0]["content"] for conversation in test}
    learned = train_tasks([({"tinyworld": "tinyworld-problems"}.get(name, name) + ":400", 1)])[0]
    assert [learned[i]["messages"] for i in range(400)] != [practice[i]["messages"] for i in range(400)]
    assert practice.start >= catalog.RL_START > max(*catalog.SIZES.values(), *catalog.TINYWORLD_SIZES.values())
    for conversation in itertools.islice(practice, 20):
        assert practice.reward(conversation, text_of(conversation["messages"][-1]["content"])) == 1
