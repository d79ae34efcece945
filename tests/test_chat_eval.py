"""Chat tasks: letters against plain forward passes, answers of a model that was taught them, several ranks, and the script as a user starts it."""

import importlib
import itertools
import json
import os
import re
import subprocess
import sys
import time
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from helpers import Questions
from test_core_eval import opinionated_model

from nanochat.chat_eval import (
    CUT,
    LETTER,
    NO_ROOM,
    Answer,
    TaskResult,
    centered,
    chatcore,
    choose_letters,
    evaluate_categorical,
    evaluate_generative,
    evaluate_task,
    pass_at_k,
    spoken,
)
from nanochat.checkpoint_manager import CheckpointManager
from nanochat.common import UserError
from nanochat.engine import Engine
from nanochat.gpt import GPT, GPTConfig, new_model
from scripts.chat_eval import covers_more, earlier_tasks, fingerprint_of, item_of, settings_of, summarize, tasks_left, tell_chatcore
from tasks.catalog import baseline, default_evaluations, evaluation_task
from tasks.common import CategoricalTask, chat, render_mc, text_of
from tasks.tinyworld import TinyWorld

ROOT = Path(__file__).parent.parent
TAUGHT = 6  # questions that the taught model has an answer to: a right one to those of even number, a wrong one to the others


@pytest.fixture(autouse=True)
def float32(monkeypatch, one_thread):
    monkeypatch.setenv("NANOCHAT_DTYPE", "float32")
    monkeypatch.setenv("NANOCHAT_WORDS", "embedded")


class Quiz(CategoricalTask):
    """Questions of all lengths, with two to five choices, some of them called 1, 2, 3."""

    def __init__(self, words: int = 40, **view):
        super().__init__(**view)
        self.words = words

    def num_examples(self) -> int:
        return 30

    def get_example(self, index: int) -> dict:
        letters = ("ABCDE", "1234", "AB", "ABCD")[index % 4]
        question = " ".join(("cat", "river", "because", "17", "é")[(index * i) % 5] for i in range(index * 7 % self.words + 1))
        return chat(render_mc(question, letters, [f"no. {i}" for i in range(len(letters))]), letters[index % len(letters)], letters=tuple(letters))


@pytest.fixture(scope="module")
def model():
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("NANOCHAT_DTYPE", "float32")
        return opinionated_model()


@pytest.fixture(scope="module")
def taught(tokenizer) -> GPT:
    """Small, and taught until it knows them, the answers to a few questions for the calculator."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("NANOCHAT_DTYPE", "float32")
        torch.manual_seed(1)
        model = new_model(GPTConfig(512, tokenizer.get_vocab_size(), 2, 2, 2, 64, "L"), "cpu")
    rows = [tokenizer.render_conversation(lesson(i)) for i in range(TAUGHT)]
    T = max(len(ids) for ids, _ in rows)
    idx = torch.tensor([ids + [0] * (T - len(ids)) for ids, _ in rows])
    mask = torch.tensor([mask + [0] * (T - len(mask)) for _, mask in rows])
    targets = torch.where(mask[:, 1:] == 1, idx[:, 1:], -1)
    optimizer = torch.optim.AdamW(model.parameters(), lr=6e-3, weight_decay=0)
    for _ in range(400):
        loss = model(idx[:, :-1], targets)
        loss.backward()
        optimizer.step()
        optimizer.zero_grad()
        if loss < 0.01:
            return model.eval()
    raise AssertionError(f"it did not learn: {loss}")


def lesson(number: int) -> dict:
    conversation = TinyWorld("test", "calculator")[number]
    if number % 2:  # it says 1 more than the calculator did
        text = conversation["messages"][-1]["content"][-1]
        text["text"] = text["text"].replace(f" {conversation['answer']}.", f" {int(conversation['answer']) + 1}.")
    return conversation


# --- numbers ---------------------------------------------------------------------------------------------------------


def test_pass_at_k_is_what_drawing_gives():
    for n in range(1, 8):
        for right in range(n + 1):
            for k in range(1, n + 1):
                draws = list(itertools.combinations([True] * right + [False] * (n - right), k))
                assert pass_at_k(n, right, k) == pytest.approx(sum(map(any, draws)) / len(draws))
    assert pass_at_k(2000, 1, 1000) == pytest.approx(0.5)


def test_results():
    def result(*outcomes: list[bool]) -> TaskResult:
        return TaskResult([[Answer("x", right, "stop") for right in some] for some in outcomes], 1.0)

    one = result([True], [False], [False], [True])
    assert one.accuracy == 0.5 and one.pass_at == {1: 0.5} and one.items == 4
    many = result([True] * 6, [False] * 6, [True, *[False] * 5])
    assert list(many.pass_at) == [1, 2, 4, 6] and many.pass_at[1] == pytest.approx(7 / 18)
    assert many.accuracy == pytest.approx(2 / 3) == many.pass_at[6]
    assert many.completions == [["x"] * 6] * 3


def test_chatcore():
    assert centered(0.25, 0.25) == 0 and centered(1, 0.25) == 1 and centered(0.1, 0) == 0.1 and centered(0, 0.25) < 0
    assert chatcore({"MMLU": 0.625, "GSM8K": 0.1}, {"MMLU": 0.25, "GSM8K": 0, "other": 0.5}) == pytest.approx(0.3)


# --- letters ---------------------------------------------------------------------------------------------------------


def expected_letters(model, tokenizer, task, limit: int = 10**6) -> list[str]:
    """A prompt at a time, all logits."""
    chosen = []
    for conversation in task:
        prompt = tokenizer.render_for_completion(conversation)[-limit:]
        with torch.no_grad():
            logits = model(torch.tensor([prompt]))[0, -1]
        chosen.append(max(conversation["letters"], key=lambda letter: logits[tokenizer.encode(letter)[0]].item()))
    return chosen


@pytest.mark.parametrize("batch_size", [1, 4, 100])
@pytest.mark.parametrize("task", [Quiz(), TinyWorld("test", "choice", 25)], ids=["quiz", "tinyworld"])
def test_batches_choose_what_single_prompts_choose(model, tokenizer, task, batch_size):
    heard: list[int] = []
    answers = choose_letters(Engine(model, tokenizer), task, range(len(task)), batch_size, heard.append)
    assert [answer.text for answer in answers] == expected_letters(model, tokenizer, task)
    right = [answer.right for answer in answers]
    assert right == [answer.text == c["messages"][-1]["content"] for answer, c in zip(answers, task, strict=True)] and 0 < sum(right) < len(right)
    assert {answer.ended for answer in answers} == {LETTER} and heard[-1] == len(task) and sorted(heard) == heard
    some = [7, 3, 20, 4]
    assert evaluate_categorical(Engine(model, tokenizer), task, some, batch_size) == [right[i] for i in some]
    assert evaluate_categorical(Engine(model, tokenizer), task, [], batch_size) == []


def test_letters_after_prompts_longer_than_the_context(tokenizer, capsys):
    """Up to ten times the context they are seen through the model's windows, as if it had longer tables of positions; then they are cut."""
    narrow, wide = opinionated_model(context=16), opinionated_model()
    wide.windows = narrow.windows
    task = Quiz(words=400)
    result = evaluate_task(Engine(narrow, tokenizer), task, batch_size=4)
    assert [some[0].text for some in result.answers] == expected_letters(wide, tokenizer, task, 160)
    lengths = [len(tokenizer.render_for_completion(conversation)) for conversation in task]
    cut = sum(length > 160 for length in lengths)
    assert 0 < cut < len(task) and max(lengths) > 200 and [some[0].ended for some in result.answers].count(CUT) == cut
    assert f"note: {cut} of the 30 prompts of Quiz are longer than the 160 tokens" in capsys.readouterr().out


def test_letters_want_the_newest_weights(tokenizer):
    model = opinionated_model()
    engine = Engine(model, tokenizer)
    before = [answer.text for answer in choose_letters(engine, Quiz(), range(30))]
    with torch.no_grad():
        model.lm_head.weight.neg_()  # what was likeliest is unlikeliest now
    with pytest.raises(RuntimeError, match=r"call refresh\(\)"):
        choose_letters(engine, Quiz(), range(30))
    engine.refresh()
    assert [answer.text for answer in choose_letters(engine, Quiz(), range(30))] == expected_letters(model, tokenizer, Quiz()) != before
    with torch.no_grad():
        model.lm_head.weight[5] = torch.nan
        model.lm_head.weight[tokenizer.encode("A")[0]] = torch.nan
    engine.refresh()
    with pytest.raises(FloatingPointError, match="damaged"):
        choose_letters(engine, Quiz(), range(30))


def test_the_first_letter_wins_ties(tokenizer):
    model = opinionated_model()
    torch.nn.init.zeros_(model.lm_head.weight)
    answers = choose_letters(Engine(model, tokenizer), Quiz(), range(30), 7)
    assert [answer.text for answer in answers] == [conversation["letters"][0] for conversation in Quiz()]


# --- what the model writes -------------------------------------------------------------------------------------------


def test_spoken(tokenizer):
    s = {name.strip("<|>"): token for name, token in tokenizer.special.items()}
    call = [s["python_start"], *tokenizer.encode("2*3"), s["python_end"]]
    output = [s["output_start"], *tokenizer.encode("6"), s["output_end"]]
    a, b = tokenizer.encode("It is "), tokenizer.encode("six. é日本")
    for tokens, said in (
        ([], ""), (call, ""), (call + output, ""),
        (a + b, "It is six. é日本"), (a + call + output + b, "It is six. é日本"), (a + output + b, "It is six. é日本"),
        ([tokenizer.bos, *a, s["user_start"], s["assistant_end"], *b], "It is six. é日本"),
        (a + call[:-1] + b, "It is "),  # never closed
        (a + call[:-1] + output + b, "It is "), (a + output[:-1] + b, "It is "), (a + output[:-1] + call + b, "It is "),
        (a + call[:-1] + call + b, "It is six. é日本"),  # opened twice
        ([*a, s["python_end"], s["output_end"], *b], "It is six. é日本"),  # closed only
        (a + call[:1], "It is "), (a + call + output + output[:1] + b, "It is "),
        ([*a, tokenizer.ranks[b"\xff"]], "It is \ufffd"), ([tokenizer.ranks[b"\xed"], tokenizer.ranks[b"\xa0"]], "\ufffd\ufffd"),
    ):  # fmt: skip
        assert spoken(tokenizer, tokens) == said


def test_what_was_said_in_training_is_what_is_judged(tokenizer):
    """Spoken is what tasks call the text of a message."""
    for kind in ("calculator", "problems", "facts"):
        for conversation in TinyWorld("test", kind, 20):
            prompt = tokenizer.render_for_completion(conversation)
            ids, _ = tokenizer.render_conversation(conversation)
            assert spoken(tokenizer, ids[len(prompt) :]) == text_of(conversation["messages"][-1]["content"])


def test_taught_answers_are_judged(taught, tokenizer):
    """The calculator is called, what it says is put into the model's mouth, and what the model makes of it is right or wrong."""
    engine, task = Engine(taught, tokenizer), TinyWorld("test", "calculator")
    result = evaluate_task(engine, task, max_problems=TAUGHT)
    assert result.outcomes == [[number % 2 == 0] for number in range(TAUGHT)] and result.accuracy == 0.5 and result.seconds > 0
    assert result.completions == [[text_of(lesson(number)["messages"][-1]["content"])] for number in range(TAUGHT)]
    assert {some[0].ended for some in result.answers} == {"stop"}
    some = [5, 0, 2]
    assert evaluate_generative(engine, task, some) == [result.answers[i] for i in some]
    cold = evaluate_task(engine, task, max_problems=TAUGHT, num_samples=3, temperature=0.1)
    assert cold.pass_at == {1: 0.5, 2: 0.5, 3: 0.5} and cold.accuracy == 0.5
    short = evaluate_task(engine, task, max_problems=TAUGHT, max_new_tokens=4)
    assert short.accuracy == 0 and {some[0].ended for some in short.answers} == {"length"} and short.completions == [[""]] * TAUGHT


def test_seeds_belong_to_items(model, tokenizer):
    engine, task = Engine(model, tokenizer, max_rows=7), TinyWorld("test", "facts")
    settings = {"num_samples": 3, "max_new_tokens": 6, "temperature": 1.0}
    all_of_them = evaluate_generative(engine, task, range(9), **settings)
    assert evaluate_generative(engine, task, range(1, 9, 3), **settings) == all_of_them[1::3]
    assert evaluate_generative(engine, task, range(9), **settings, seed=1) != all_of_them
    assert len({answer.text for some in all_of_them for answer in some}) > 20


def test_prompts_that_do_not_fit(model, tokenizer, capsys):
    """Near the end of the context answers are shorter; a prompt that fills it has none, which is wrong and is said."""
    lengths = [len(tokenizer.render_for_completion(conversation)) for conversation in Questions(1, 2, 30, 31, 32, 33, 100)]
    context = lengths[4]
    engine, asked = Engine(model, tokenizer, context=context), []
    submit = engine.submit
    engine.submit = lambda request: asked.append(request.max_tokens) or submit(request)
    result = evaluate_task(engine, Questions(1, 2, 30, 31, 32, 33, 100), num_samples=2, max_new_tokens=8, temperature=1.0, label="Why")
    assert sorted(asked) == sorted(min(8, context - length) for length in lengths[:4]) and 0 < min(asked) < 8 == max(asked)
    assert [some[0].ended == NO_ROOM for some in result.answers] == [False] * 4 + [True] * 3
    assert result.answers[4:] == [[Answer("", False, NO_ROOM)] * 2] * 3
    assert f"note: 3 of the 7 prompts of Why leave no room for an answer in a context of {context} tokens and count" in capsys.readouterr().out
    nothing = evaluate_task(Engine(model, tokenizer, context=10), Questions(20, 30))
    assert nothing.accuracy == 0 and nothing.pass_at == {1: 0}


def test_the_first_problems(model, tokenizer):
    engine = Engine(model, tokenizer)
    everything = evaluate_task(engine, Quiz())
    assert everything.items == 30 == evaluate_task(engine, Quiz(), max_problems=99).items == evaluate_task(engine, Quiz(), max_problems=-1).items
    assert evaluate_task(engine, Quiz(), max_problems=7).answers == everything.answers[:7]


# --- the script: results ---------------------------------------------------------------------------------------------

ABOUT = {"stage": "chat_eval", "source": "sft", "model_tag": "d4", "step": 7, "dataset": "climbmix"}


def numbers(accuracy: float, name: str, **settings) -> dict:
    return {"accuracy": accuracy, "centered": centered(accuracy, baseline(name)), "items": 10, "seconds": 1.0, "settings": settings}


def test_summaries(capsys):
    names = default_evaluations("climbmix")
    tasks = {name: numbers(0.25 + i / 10, name, max_problems=-1) for i, name in enumerate(names)}
    summary = summarize(ABOUT, tasks)
    expected = [tasks[name]["centered"] for name in names]
    assert summary["chatcore"] == pytest.approx(sum(expected) / 6) and list(summary["tasks"]) == names
    assert summary["chatcore_without_spellingbee"] == pytest.approx(sum(expected[:5]) / 5) and summary["step"] == 7
    tell_chatcore(summary)
    said = capsys.readouterr().out
    assert said == f"ChatCORE: {summary['chatcore']:.6f} (without SpellingBee {summary['chatcore_without_spellingbee']:.6f})\n"

    more = summarize(ABOUT, {**tasks, "TinyWorld-Talk": numbers(1, "TinyWorld-Talk"), "GSM8K": numbers(0, "GSM8K", max_problems=5)})
    assert more["chatcore"] < summary["chatcore"] and "TinyWorld-Talk" in more["tasks"]
    tell_chatcore(more)
    assert "note: its tasks were evaluated with different max_problems" in capsys.readouterr().out

    few = summarize(ABOUT, {name: tasks[name] for name in names if name not in ("MMLU", "HumanEval")})
    assert few["chatcore"] is few["chatcore_without_spellingbee"] is None
    tell_chatcore(few)
    assert capsys.readouterr().out == "no ChatCORE: of its tasks MMLU, HumanEval are not evaluated yet with these settings\n"
    assert summarize({**ABOUT, "dataset": "tinyworld"}, tasks)["chatcore"] is None


def test_earlier_results(tmp_path, capsys):
    summary, checkpoint = tmp_path / "s.json", tmp_path / "meta.json"
    checkpoint.write_text("{}")
    assert earlier_tasks(summary, checkpoint) == {}
    tasks = {"GSM8K": numbers(0.1, "GSM8K")}
    summary.write_text(json.dumps(summarize(ABOUT, tasks)))
    assert earlier_tasks(summary, checkpoint) == tasks and capsys.readouterr().out == ""
    after = summary.stat().st_mtime + 10
    os.utime(checkpoint, (after, after))
    assert earlier_tasks(summary, checkpoint) == {} and "older than the checkpoint" in capsys.readouterr().out
    os.utime(checkpoint, (0, 0))
    for broken in ("", "{", "[]", "{}", '{"tasks": 3}', '{"tasks": {"GSM8K": 1}}', '{"tasks": {"GSM8K": {"accuracy": "x", "centered": 1}}}'):
        summary.write_text(broken)
        assert earlier_tasks(summary, checkpoint) == {} and "cannot be read" in capsys.readouterr().out


def test_a_quick_look_does_not_replace_the_whole():
    whole = {"items": 400, "settings": {"max_problems": -1, "temperature": 0}}
    assert covers_more(whole, {"items": 5, "settings": {"max_problems": 5, "temperature": 0}})
    assert covers_more(whole, {"items": 5, "settings": {"max_problems": 5, "temperature": 1}})
    assert not covers_more(whole, whole) and not covers_more(None, whole) and not covers_more({"accuracy": 0.5}, whole)
    few, same, other = ({"items": items, "settings": {"fingerprint": text}} for items, text in ((5, "a"), (400, "a"), (400, "b")))
    assert covers_more(same, few) and not covers_more(other, few) and not covers_more(whole, few)
    assert not covers_more({"items": 400, "settings": None}, few) and not covers_more({"items": 400}, few)


def test_what_is_left_to_evaluate():
    """--resume: what was evaluated in the same way is not evaluated again; letters do not mind how long an answer may be."""
    args = SimpleNamespace(max_problems=3, temperature=0.0, max_new_tokens=40, num_samples=1, top_k=50)
    tasks = {"MMLU": Quiz(), "GSM8K": Questions(1)}
    found = {name: numbers(0.5, name) | {"settings": settings_of(task, args)} for name, task in tasks.items()}
    assert tasks_left(tasks, found, args) == {} and tasks_left(tasks, {}, args) == tasks
    assert list(tasks_left(tasks, {"MMLU": found["MMLU"], "GSM8K": numbers(0.5, "GSM8K")}, args)) == ["GSM8K"]
    for fingerprint in ({"fingerprint": "another"}, {}):
        settings = {name: value for name, value in found["GSM8K"]["settings"].items() if name != "fingerprint"} | fingerprint
        assert list(tasks_left(tasks, {**found, "GSM8K": {**found["GSM8K"], "settings": settings}}, args)) == ["GSM8K"]
    args.max_new_tokens = 41
    assert list(tasks_left(tasks, found, args)) == ["GSM8K"]
    args.max_problems = 4
    assert tasks_left(tasks, found, args) == tasks


class Unread(Questions):
    """Nobody may look at it."""

    def get_example(self, index: int) -> dict:
        raise AssertionError


def test_only_what_was_evaluated_before_is_read_to_see_what_is_left():
    args = SimpleNamespace(max_problems=-1, temperature=0.0, max_new_tokens=40, num_samples=1, top_k=50)
    tasks = {"GSM8K": Unread(1)}
    assert tasks_left(tasks, {"MMLU": numbers(0.5, "MMLU")}, args) == tasks


def test_fingerprints_are_of_questions_and_of_code(tmp_path, monkeypatch):
    many = fingerprint_of(Questions(*range(100)))
    assert many == fingerprint_of(Questions(*range(100))) and re.fullmatch("[0-9a-f]{8}", many)
    others = [Questions(*range(1, 101)), Questions(*range(99)), Questions(99, *range(1, 100)), Questions(), Questions(1), Quiz(), Quiz(words=9)]
    assert len({many, *map(fingerprint_of, others)}) == 1 + len(others)

    def written(code: str) -> str:
        """Of a task in a module of its own, the same class each time."""
        (tmp_path / "own_task.py").write_text(f"from helpers import Questions\nclass Own(Questions):\n    {code}\n")
        monkeypatch.delitem(sys.modules, "own_task", raising=False)
        return fingerprint_of(importlib.import_module("own_task").Own(1, 2, 3))

    monkeypatch.syspath_prepend(tmp_path)
    assert written("pass") == written("pass") != written("def evaluate(self, conversation, completion): return True")


def test_tasks_of_the_world_stand_on_their_neighbours(monkeypatch):
    """What TinyWorld asks and judges with is spread over several files; GSM8K and whatever else does not stand on those keeps its fingerprint."""
    read, changed = Path.read_text, "tinyworld_asking.py"
    tasks = {"world": TinyWorld("test", "calculator"), "letters": evaluation_task("SpellingBee")}
    before = {name: fingerprint_of(task) for name, task in tasks.items()}
    monkeypatch.setattr(Path, "read_text", lambda self, *args, **more: read(self, *args, **more) + ("#" if self.name == changed else ""))
    assert fingerprint_of(tasks["world"]) != before["world"] and fingerprint_of(tasks["letters"]) == before["letters"]
    changed = "common.py"  # where answers are taken apart, for all of them
    assert fingerprint_of(tasks["letters"]) != before["letters"]


def test_a_broken_row_is_for_those_who_evaluate_it():
    class Broken(Questions):
        def get_example(self, index: int) -> dict:
            if index == 2:
                raise UserError("row 2 is broken")
            return super().get_example(index)

    assert fingerprint_of(Broken(1, 2, 3)) == fingerprint_of(Broken(1, 2, 4)) != fingerprint_of(Broken(1, 3, 3))


@pytest.mark.parametrize("name", ["TinyWorld-Facts", "TinyWorld-Problems", "SpellingBee"])
def test_fingerprints_are_cheap(name):
    task = evaluation_task(name)
    fingerprint_of(task)
    start = time.perf_counter()
    fingerprint_of(task)
    assert time.perf_counter() - start < 1


def test_items_for_the_eye():
    answers = [Answer("x", True, "stop"), Answer("", False, "length")]
    item = item_of(chat("What is 2*3?", lesson(0)["messages"][1]["content"]), answers)
    assert item["question"] == "What is 2*3?" and item["completions"] == ["x", ""] and item["right"] == [True, False]
    assert item["ended"] == ["stop", "length"] and item["expected"].endswith(f"= {lesson(0)['answer']}.")
    assert item_of(chat("Hi", "Hello", "And you?", "Fine"), answers)["question"] == "user: Hi\nassistant: Hello\nuser: And you?"


# --- the script, as a user starts it ---------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def world(taught, tokenizer, tmp_path_factory) -> Path:
    """A base dir with the taught model as one of SFT, and another whose base had other data."""
    base = tmp_path_factory.mktemp("world")
    for tag, dataset in (("d2", "tinyworld"), ("d1", "climbmix")):
        meta = {"user_config": {"dataset": dataset}}
        CheckpointManager(base / "chatsft_checkpoints" / tag).save(7, taught, None, meta, tokenizer=tokenizer)
    return base


def results(world: Path, name: str = "sft_d2_000007") -> dict:
    return json.loads((world / "chat_eval" / f"{name}.json").read_text(encoding="utf-8"))


def test_all_default_tasks(run_module, world):
    run = run_module("scripts.chat_eval", "-i", "sft", "-x", "3", "-m", "40", base=world)
    assert run.returncode == 0, run.stderr
    found = results(world)
    assert {key: found[key] for key in ABOUT} == {**ABOUT, "model_tag": "d2", "dataset": "tinyworld"}
    assert set(found["tasks"]) == set(default_evaluations("tinyworld")) and len(found["tasks"]) == 10
    assert found["chatcore"] == pytest.approx(sum(task["centered"] for task in found["tasks"].values()) / 10)
    others = [task["centered"] for name, task in found["tasks"].items() if name != "SpellingBee"]
    assert found["chatcore_without_spellingbee"] == pytest.approx(sum(others) / 9)
    assert f"ChatCORE: {found['chatcore']:.6f} (without" in run.stdout and found["tasks"]["TinyWorld-Calculator"]["accuracy"] == 2 / 3
    for name, task in found["tasks"].items():
        own = results(world, f"sft_d2_000007/{name}")
        assert task["items"] == len(own["items"]) == 3 and own["settings"] == task["settings"] and own["task"] == name
        assert task["accuracy"] == sum(any(item["right"]) for item in own["items"]) / 3 and own["pass_at"] == {"1": task["accuracy"]}
        assert all(item["question"] and item["expected"] and len(item["completions"]) == 1 for item in own["items"])
        assert any(line.startswith(name) and f"accuracy {task['accuracy']:.4f}" in line for line in run.stdout.splitlines())
    prints = {name: fingerprint_of(evaluation_task(name)) for name in found["tasks"]}
    assert {name: task["settings"]["fingerprint"] for name, task in found["tasks"].items()} == prints and "different" not in run.stdout
    assert found["tasks"]["TinyWorld-Choice"]["settings"] == {"max_problems": 3, "fingerprint": prints["TinyWorld-Choice"]}
    assert found["tasks"]["SpellingBee"]["settings"] == {"max_problems": 3, "temperature": 0, "max_new_tokens": 40, "num_samples": 1, "top_k": 50,
                                                         "fingerprint": prints["SpellingBee"]}  # fmt: skip

    run = run_module("scripts.chat_eval", "-i", "sft", "-a", "tinyworld-calculator", "-x", "6", base=world)
    assert run.returncode == 0 and "different max_problems, max_new_tokens" in run.stdout, run.stderr
    again = results(world)
    assert again["tasks"]["TinyWorld-Calculator"]["accuracy"] == 0.5 and again["tasks"]["TinyWorld-Talk"] == found["tasks"]["TinyWorld-Talk"]
    assert again["chatcore"] == pytest.approx(found["chatcore"] + (0.5 - 2 / 3) / 10)

    run = run_module("scripts.chat_eval", "-i", "sft", "-a", "TinyWorld-Calculator", "-x", "1", base=world)
    assert run.returncode == 0 and "note: not saved, since" in run.stdout and results(world) == again, run.stderr

    stale = json.loads(json.dumps(again))
    stale["tasks"]["TinyWorld-Calculator"]["settings"]["fingerprint"] = "0badc0de"
    flags = ["-i", "sft", "-a", "TinyWorld-Calculator,TinyWorld-Talk", "-x", "3", "-m", "40", "--resume", "auto"]
    (world / "chat_eval" / "sft_d2_000007.json").write_text(json.dumps(stale))
    run = run_module("scripts.chat_eval", *flags, base=world)
    assert run.returncode == 0 and "evaluated already on TinyWorld-Talk:" in run.stdout and "not saved" not in run.stdout, run.stderr
    assert results(world)["tasks"]["TinyWorld-Calculator"]["settings"] == found["tasks"]["TinyWorld-Calculator"]["settings"]
    run = run_module("scripts.chat_eval", *flags, base=world)
    assert run.returncode == 0 and "evaluated already on TinyWorld-Calculator, TinyWorld-Talk:" in run.stdout, run.stderr


def test_two_ranks_find_what_one_finds(run_module, world, tmp_path):
    """With letters, and with answers that are sampled; seven items are a rank's four and another's three."""
    (tmp_path / "chatsft_checkpoints").symlink_to(world / "chatsft_checkpoints")
    flags = ["-i", "sft", "-g", "d1", "-s", "7", "-a", "TinyWorld-Choice|TinyWorld-Calculator,SpellingBee", "-x", "7", "-m", "20", "-n", "3",
             "-t", "1.5", "--device-type", "cpu"]  # fmt: skip
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc_per_node=2", "-m", "scripts.chat_eval", *flags]
    environment = {**os.environ, "NANOCHAT_BASE_DIR": str(tmp_path), "OMP_NUM_THREADS": "1"}
    two = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, timeout=300)
    assert two.returncode == 0, two.stderr
    one = run_module("scripts.chat_eval", *flags, base=world)
    assert one.returncode == 0, one.stderr
    for name in ("TinyWorld-Choice", "TinyWorld-Calculator", "SpellingBee"):
        mine, theirs = (results(base, f"sft_d1_000007_t1.5_n3/{name}") for base in (world, tmp_path))
        assert mine["items"] == theirs["items"] and mine["pass_at"] == theirs["pass_at"] and len(mine["items"]) == 7
        assert {len(item["right"]) for item in mine["items"]} == ({1} if name == "TinyWorld-Choice" else {3})
    assert list(mine["pass_at"]) == ["1", "2", "3"]
    summary = results(tmp_path, "sft_d1_000007_t1.5_n3")
    assert summary["chatcore"] is None and summary["dataset"] == "climbmix" and len(summary["tasks"]) == 3
    assert two.stdout.count("SpellingBee  ") == 1 and two.stdout.count("no ChatCORE: of its tasks ARC-Easy, ARC-Challenge, MMLU") == 1


@pytest.mark.parametrize(("flags", "status", "says"), [
    ("", 2, "-i/--source"), ("-i base", 2, "invalid choice: 'base'"), ("-i sft -a GSM9K", 2, "there is no task 'GSM9K' to evaluate: known are ARC-"),
    ("-i sft -a |", 2, "no task is named"), ("-i sft -n 0", 2, "--num-samples 0"), ("-i sft -t -1", 2, "--temperature"),
    ("-i sft -t nan", 2, "--temperature nan"), ("-i sft -k -1", 2, "--top-k -1"), ("-i sft -x 0", 2, "--max-problems 0"),
    ("-i sft -b 0", 2, "--batch-size 0"), ("-i sft -m 0", 2, "--max-new-tokens 0"), ("-i rl", 1, "make one with python -m scripts.chat_rl"),
    ("-i sft -g d9", 1, "'d9'"), ("-i sft -s 8", 1, "whole are 7"),
])  # fmt: skip
def test_what_is_wrong_is_said_at_once(flags, status, says, run_module, world):
    before = set((world / "chat_eval").rglob("*"))
    run = run_module("scripts.chat_eval", *flags.split(), base=world)
    assert run.returncode == status and says in run.stderr and "Traceback" not in run.stderr and "accuracy" not in run.stdout
    assert set((world / "chat_eval").rglob("*")) == before


def test_tasks_without_a_network(run_module, world, tmp_path):
    """The first that cannot be had ends it, before anything is evaluated, and the line says how to do without."""
    offline = {"HF_HUB_OFFLINE": "1", "HF_HOME": str(tmp_path / "hf")}
    run = run_module("scripts.chat_eval", "-i", "sft", "-g", "d2", "-a", "TinyWorld-Talk,GSM8K,SpellingBee", base=world, **offline)
    assert run.returncode == 1 and "Traceback" not in run.stderr and "accuracy" not in run.stdout
    assert "the data set openai/gsm8k (main, test) could not be loaded" in run.stderr
    assert "To evaluate without GSM8K, name the tasks that you want: -a TinyWorld-Talk,SpellingBee" in run.stderr
