"""Views, mixtures and sequences of tasks, multiple choice, the spelling tasks, and conversations from a file."""

import json
import re

import pytest

from nanochat.common import UserError
from nanochat.execution import use_calculator
from tasks import spellingbee
from tasks.common import CategoricalTask, Task, TaskMixture, TaskSequence, calculator_parts, chat, final_answer, render_mc, text_of
from tasks.customjson import CustomJSON
from tasks.spellingbee import SimpleSpelling, SpellingBee


class Numbers(Task):
    """Conversations that are numbers, for counting."""

    def __init__(self, first: int, count: int, **view):
        super().__init__(**view)
        self.first, self.count = first, count

    def num_examples(self) -> int:
        return self.count

    def get_example(self, index: int) -> int:
        return self.first + index

    def evaluate(self, conversation: int, completion: str) -> bool:
        return str(conversation) == completion


# --- views, mixtures, sequences --------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("view", "expected"),
    [({}, range(10)), ({"start": 3}, range(3, 10)), ({"stop": 4}, range(4)), ({"start": 1, "stop": 8, "step": 3}, [1, 4, 7]),
     ({"stop": 99}, range(10)), ({"start": 20}, []), ({"step": 4}, [0, 4, 8]), ({"stop": 0}, [])],
)  # fmt: skip
def test_views(view, expected):
    task = Numbers(0, 10, **view)
    assert list(task) == list(expected) and len(task) == len(list(expected))
    with pytest.raises(IndexError):
        task[len(task)]
    with pytest.raises(IndexError):
        task[-1]


def test_impossible_views():
    for view in ({"start": -1}, {"step": 0}, {"start": 5, "stop": 4}):
        with pytest.raises(UserError, match="a view needs"):
            Numbers(0, 10, **view)


def test_mixture():
    tasks = [Numbers(0, 50), Numbers(100, 20), Numbers(200, 20, step=2)]
    mixture = TaskMixture(tasks)
    assert sorted(mixture) == [*range(50), *range(100, 120), *range(200, 220, 2)]
    assert list(mixture) == list(TaskMixture(tasks)) != sorted(mixture)  # shuffled, and always in the same way
    assert list(mixture)[:6] == [49, 113, 23, 100, 30, 105]  # on every machine
    assert len({x // 100 for x in list(mixture)[:20]}) == 3  # tasks stand between each other
    assert list(TaskMixture(tasks, start=10, stop=20)) == list(mixture)[10:20]
    repeated = TaskMixture([tasks[1], tasks[1], tasks[0]])
    assert len(repeated) == 90 and sorted(repeated).count(105) == 2


def test_sequence():
    sequence = TaskSequence([Numbers(0, 3), Numbers(10, 0), Numbers(20, 4, start=1)])
    assert list(sequence) == [0, 1, 2, 21, 22, 23] and len(sequence) == 6
    assert list(TaskSequence([Numbers(0, 3), Numbers(5, 2)], start=2)) == [2, 5, 6]


def test_reward_is_right_or_wrong_by_default():
    task = Numbers(0, 3)
    assert task.reward(2, "2") == 1.0 and task.reward(2, "3") == 0.0 and isinstance(task.reward(2, "2"), float)
    assert task.eval_type == "generative" and CategoricalTask().eval_type == "categorical"
    with pytest.raises(NotImplementedError, match="training only"):
        Task().reward({}, "")


# --- texts -----------------------------------------------------------------------------------------------------------


def test_render_mc():
    assert render_mc("What is up?", ("A", "B"), ["the sky", "the sea"]) == (
        "Multiple Choice question: What is up?\n- the sky=A\n- the sea=B\n\nRespond only with the letter of the correct answer."
    )
    with pytest.raises(ValueError):
        render_mc("?", "AB", ["one"])


def test_calculator_parts():
    parts = calculator_parts("He has 3*4 = <<3*4=12>>12.\nThat is <<12-2=10>>\n#### 10")
    assert [(part["type"], part["text"]) for part in parts] == [
        ("text", "He has 3*4 = "), ("python", "3*4"), ("python_output", "12"), ("text", "12.\nThat is "), ("python", "12-2"),
        ("python_output", "10"), ("text", "\n#### 10"),
    ]  # fmt: skip
    assert text_of(parts) == "He has 3*4 = 12.\nThat is \n#### 10"
    assert calculator_parts("no calls") == [{"type": "text", "text": "no calls"}]


def test_final_answer():
    assert final_answer("#### 1,234") == 1234 == final_answer("x\n####1234.0 and more") == final_answer("#### 1234.")
    assert final_answer("#### -3") == -3 and final_answer("#### .5") == final_answer("#### 0.50")
    for nothing in ("", "####", "#### x", "12", "## 12", "#### ,"):
        assert final_answer(nothing) is None


# --- spelling --------------------------------------------------------------------------------------------------------


def test_embedded_words():
    words = spellingbee.list_of_words("embedded")
    assert len(words) == len(set(words)) > 800
    assert all(re.fullmatch(r"[a-z]{3,10}", word) for word in words) and "strawberry" in words


@pytest.fixture
def words_file(tmp_path):
    path = tmp_path / "words"
    path.write_text("zebra\r\nKing\nking's\nit\nab12\nqueen\nzebra\nantidisestablishmentarianism\ncafé\n")
    return path


def test_where_words_come_from(monkeypatch, words_file, tmp_path):
    monkeypatch.setattr(spellingbee, "LARGER_LIST", tmp_path / "none")
    monkeypatch.delenv("NANOCHAT_WORDS", raising=False)
    assert spellingbee.list_of_words() == spellingbee.list_of_words("embedded")
    monkeypatch.setattr(spellingbee, "LARGER_LIST", words_file)
    assert spellingbee.list_of_words() == ["queen", "zebra"]
    monkeypatch.setenv("NANOCHAT_WORDS", "embedded")
    assert len(spellingbee.list_of_words()) > 800
    monkeypatch.setenv("NANOCHAT_WORDS", str(words_file))
    assert spellingbee.list_of_words() == ["queen", "zebra"]
    monkeypatch.setenv("NANOCHAT_WORDS", str(tmp_path / "lost"))
    with pytest.raises(UserError, match="lost cannot be read"):
        SpellingBee()
    (tmp_path / "lost").write_text("ONLY NAMES")
    with pytest.raises(UserError, match="has no words"):
        SpellingBee()


def test_spelling_bee():
    task = SpellingBee(size=300, split="test", words="embedded")
    assert len(task) == 300 and len({conversation["messages"][0]["content"] for conversation in task}) > 250
    hits = []
    for conversation in task:
        question, answer = (message["content"] for message in conversation["messages"])
        word, letter = conversation["word"], conversation["letter"]
        assert word in question and letter in question.lower()
        assert [part["type"] for part in answer] == ["text", "python", "python_output", "text"]
        assert use_calculator(answer[1]["text"]) == answer[2]["text"] == str(word.count(letter))
        assert f"{word}:{','.join(word)}\n" in answer[0]["text"]
        assert task.evaluate(conversation, text_of(answer)) and task.reward(conversation, text_of(answer)) == 1.0
        assert not task.evaluate(conversation, f"#### {word.count(letter) + 1}") and not task.evaluate(conversation, str(word.count(letter)))
        hits.append(word.count(letter))
    assert max(map(hits.count, set(hits))) < 0.6 * len(hits)  # no number is right so often that it could be guessed


def test_spelling_bee_counts_by_hand():
    text = spellingbee.counted("strawberry", "r")[0]["text"]
    assert "strawberry:s,t,r,a,w,b,e,r,r,y\n" in text
    assert "\n1:s\n2:t\n3:r yes, 1\n4:a\n5:w\n6:b\n7:e\n8:r yes, 2\n9:r yes, 3\n10:y\n" in text and "That makes 3." in text


def test_spelling_train_and_test_never_meet():
    pairs = [{(c["word"], c["letter"]) for c in SpellingBee(4000, split, words="embedded")} for split in ("train", "test")]
    assert not pairs[0] & pairs[1] and min(map(len, pairs)) > 300
    words = [{c["word"] for c in SimpleSpelling(4000, split, words="embedded")} for split in ("train", "test")]
    assert not words[0] & words[1] and min(map(len, words)) > 50


def test_simple_spelling():
    task = SimpleSpelling(50, "test", words="embedded")
    for conversation in task:
        word = conversation["word"]
        assert conversation["messages"][1]["content"] == f"{word}:{','.join(word)}"
        for right in (f"{word}:{','.join(word)}", ",".join(word), ", ".join(word), "-".join(word), " ".join(word).upper() + "."):
            assert task.evaluate(conversation, right), right
        for wrong in (word, ",".join(word[:-1]), ",".join(word[::-1] + "x"), "", ",".join(word) + ",s"):
            assert not task.evaluate(conversation, wrong), wrong


def test_a_list_too_short_to_split(tmp_path):
    (tmp_path / "one").write_text("zebra")
    with pytest.raises(UserError, match="too short"):
        for split in ("train", "test"):
            SimpleSpelling(split=split, words=tmp_path / "one")


# --- conversations from a file ---------------------------------------------------------------------------------------

GOOD = [
    [{"role": "user", "content": "Hi"}, {"role": "assistant", "content": "Hello"}],
    {"messages": [{"role": "system", "content": "Be kind."}, {"role": "user", "content": "Hi"}, {"role": "assistant", "content": "Hello"}], "id": 7},
    chat("2*3?", [{"type": "python", "text": "2*3"}, {"type": "python_output", "text": "6"}, {"type": "text", "text": "6"}], "Thanks"),
]
USER, ASSISTANT, SYSTEM = ({"role": role, "content": "x"} for role in ("user", "assistant", "system"))
BAD = {
    "wrong order": ([ASSISTANT, USER], "message 0 is from assistant where user was expected"),
    "twice the same": ([USER, USER, ASSISTANT], "message 1 is from user where assistant was expected"),
    "system later": ([USER, ASSISTANT, SYSTEM], "message 2 is from system"),
    "no messages": ([], "at least one"),
    "empty object": ({}, "a list of messages under 'messages'"),
    "empty answer": ([USER, {"role": "assistant", "content": " "}], "message 1 of the assistant is empty"),
    "empty question": ([USER, ASSISTANT, {"role": "user", "content": ""}, ASSISTANT], "message 2 of the user is empty"),
    "unknown part": ([USER, {"role": "assistant", "content": [{"type": "image", "text": "x"}]}], "a part needs a type"),
    "no assistant": ([USER], "the assistant says nothing"),
    "system only": ([SYSTEM], "a system message only"),
    "system and user": ([SYSTEM, USER], "the assistant says nothing"),
    "user calls a tool": ([{"role": "user", "content": [{"type": "python", "text": "1"}]}, ASSISTANT], "only the assistant can call tools"),
    "unknown role": ([{"role": "tool", "content": "x"}], "needs a role"),
    "no content": ([USER, {"role": "assistant"}], "and a content"),
    "number": (7, "a list of messages"),
}


def test_custom_json(tmp_path, tokenizer):
    path = tmp_path / "talk.jsonl"
    path.write_text("\ufeff" + "\n\n".join(json.dumps(line) for line in GOOD) + "\r\n", encoding="utf-8")
    task = CustomJSON(path)
    assert len(task) == 3 and task[0] == {"messages": GOOD[0]} and task[1] == GOOD[1]
    for conversation in task:
        _, mask = tokenizer.render_conversation(conversation)
        assert any(mask)
    assert list(CustomJSON(str(path), start=1)) == [GOOD[1], GOOD[2]]


@pytest.mark.parametrize(("line", "complaint"), BAD.values(), ids=BAD)
def test_bad_conversations(line, complaint, tmp_path):
    path = tmp_path / "bad.jsonl"
    path.write_text(json.dumps(GOOD[0]) + "\n" + json.dumps(line) + "\n")
    with pytest.raises(UserError, match=re.escape("bad.jsonl:2: ")) as error:
        CustomJSON(path)
    assert complaint in str(error.value)


def test_all_bad_lines_in_one_error(tmp_path):
    path = tmp_path / "bad.jsonl"
    path.write_bytes(b"\n".join([json.dumps(GOOD[0]).encode(), b"{nonsense", b"\xff\xfe", b"", *[b"[]"] * 6, b"[" * 100_000]))
    with pytest.raises(UserError) as error:
        CustomJSON(path)
    message = str(error.value)
    assert message.startswith(f"{path} has 9 lines that cannot be trained on") and "… and 4 more" in message
    assert f"{path}:2: not JSON" in message and f"{path}:3: " in message and f"{path}:4: " not in message and f"{path}:5: " in message


def test_files_that_are_no_conversations(tmp_path):
    with pytest.raises(UserError, match="cannot be read"):
        CustomJSON(tmp_path / "none.jsonl")
    with pytest.raises(UserError, match="cannot be read"):
        CustomJSON(tmp_path)
    (tmp_path / "empty.jsonl").write_text("\n\n")
    with pytest.raises(UserError, match="no conversations in it"):
        CustomJSON(tmp_path / "empty.jsonl")
