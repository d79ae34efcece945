"""The tiny world's conversations: they render, train and test are apart, what is right is accepted and what is wrong is not."""

import re
import subprocess
import sys
from collections import Counter
from fractions import Fraction
from pathlib import Path

import pytest

from nanochat.execution import use_calculator
from nanochat.tinyworld import Dice
from nanochat.tinyworld_facts import held_out_tellings, relations
from tasks import tinyworld_talk as talk
from tasks.common import final_answer, text_of
from tasks.tinyworld import DRILLS, FACTS, KINDS, SPELLING, TEST_POOLS, TinyWorld, names_the_answer, questions
from tasks.tinyworld_asking import NOUN_PHRASES, WORDINGS
from tasks.tinyworld_problems import is_chain_held_out, told

ROOT = Path(__file__).parent.parent
TRAIN = 6000
TRAINS = [*KINDS["train"], "all"]


@pytest.fixture(scope="module")
def train() -> list[dict]:
    return list(TinyWorld("train", size=TRAIN))


@pytest.fixture(scope="module")
def tests() -> dict[str, list[dict]]:
    return {kind: list(TinyWorld("test", kind)) for kind in KINDS["test"]}


def asked(conversation: dict) -> list[str]:
    return [message["content"] for message in conversation["messages"] if message["role"] == "user"]


def right_answer(conversation: dict) -> str:
    return text_of(conversation["messages"][-1]["content"])


# --- all kinds -------------------------------------------------------------------------------------------------------


def test_the_same_everywhere():
    """Neither the order in which conversations are asked for nor Python's hashes of strings play a part."""
    task = TinyWorld("train")
    assert task[5] == TinyWorld("train")[5] == TinyWorld("train", start=5)[0] == TinyWorld("train", size=6)[5]
    code = f"""
from tasks.tinyworld import TinyWorld
print([list(TinyWorld("train", kind, 40)) for kind in {TRAINS}], [list(TinyWorld("test", kind, 40)) for kind in {KINDS["test"]}])
"""
    runs = {
        subprocess.run([sys.executable, "-c", code], cwd=ROOT, env={"PYTHONHASHSEED": seed}, capture_output=True, text=True, check=True).stdout
        for seed in "12"
    }
    assert len(runs) == 1


@pytest.mark.parametrize("kind", TRAINS)
def test_train_conversations_render(kind, tokenizer):
    check_rendering(TinyWorld("train", kind, size=300), tokenizer)


@pytest.mark.parametrize("kind", KINDS["test"])
def test_test_conversations_render(kind, tests, tokenizer):
    check_rendering(tests[kind], tokenizer)


def check_rendering(conversations, tokenizer) -> None:
    """Each token by itself: trained are the assistant's words, its calls of the calculator and the end of its turn, and nothing else."""
    special = tokenizer.special
    for conversation in conversations:
        ids, mask = tokenizer.render_conversation(conversation)
        assert len(ids) < 420, "too long for the rows of a small model"  # the tests' vocabulary is a quarter of the recipe's
        expected, speaker, output = [], "nobody", False
        for token in ids:
            if token == special["<|output_start|>"]:
                output = True
            expected.append(int(speaker == "assistant" and not output))
            if token == special["<|output_end|>"]:
                output = False
            if token in (special["<|assistant_start|>"], special["<|user_start|>"]):
                speaker = "assistant" if token == special["<|assistant_start|>"] else "user"
            elif token in (special["<|assistant_end|>"], special["<|user_end|>"]):
                speaker = "nobody"
        assert mask == expected
        assert ids[-1] == special["<|assistant_end|>"] and conversation["messages"][-1]["role"] == "assistant"
        prompt = tokenizer.render_for_completion(conversation)
        assert ids[: len(prompt)] == prompt and mask[len(prompt)] == 1


@pytest.mark.parametrize("kind", KINDS["test"])
def test_right_answers_are_accepted(kind, tests):
    task = TinyWorld("test", kind)
    assert len(tests[kind]) >= 250
    assert task.eval_type == ("categorical" if kind == "choice" else "generative")
    for conversation in tests[kind]:
        assert task.evaluate(conversation, right_answer(conversation)) and task.reward(conversation, right_answer(conversation)) == 1.0
        for wrong in ("", "Yes.", "I am sure.", "#### 98765", "####"):
            if kind != "choice":
                assert not task.evaluate(conversation, wrong), (conversation, wrong)


@pytest.mark.parametrize("kind", ["facts", "facts_unseen", "facts_reworded", "spelling", "problems", "calculator"])
def test_answers_to_other_questions_are_refused(kind, tests):
    """Shifted by one: what answers the next question does not answer this one, but for chance."""
    task, conversations = TinyWorld("test", kind), tests[kind]
    hits = [task.evaluate(c, right_answer(d)) for c, d in zip(conversations, conversations[1:], strict=False)]
    assert sum(hits) < 0.1 * len(hits)


def test_all_kinds_are_in_the_mix(train):
    kinds = [conversation["kind"] for conversation in train]
    assert set(kinds) == set(TRAINS) - {"all", "practice"}
    assert min(kinds.count(kind) for kind in set(kinds)) > 0.02 * TRAIN
    turns = [len(conversation["messages"]) // 2 for conversation in train]
    assert turns.count(1) > 0.3 * TRAIN and sum(n > 1 for n in turns) > 0.3 * TRAIN
    assert len({str(conversation["messages"]) for conversation in train}) > 0.95 * TRAIN


def test_tests_ask_what_training_never_asks(train, tests):
    """The last question of a test with all that stands before it is no part of any training conversation; follow-ups depend on what came before."""
    seen = {tuple(str(message["content"]) for message in c["messages"][: 2 * i + 1]) for c in train for i in range(len(c["messages"]) // 2)}
    last = {question for c in train for question in asked(c)}
    for conversations in tests.values():
        for c in conversations:
            assert tuple(str(message["content"]) for message in c["messages"][:-1]) not in seen
            if len(c["messages"]) == 2:
                assert asked(c)[0] not in last


# --- facts -----------------------------------------------------------------------------------------------------------


def test_training_tells_no_held_out_telling(train):
    """What the corpus must not contain, because CORE on the tiny world asks for it, must not come in through the chat."""
    questions_held_out = {t.prompt for t in held_out_tellings() if t.is_question}
    statements = {t.text for t in held_out_tellings() if not t.is_question}
    for conversation in train:
        for message in conversation["messages"]:
            for sentence in re.split(r"(?<=[.?!:]) ", str(message["content"])):
                assert sentence not in statements
            if message["role"] == "user":
                assert not any(message["content"].endswith(q) for q in (message["content"], *_ends(message["content"])) if q in questions_held_out)


def _ends(text: str) -> list[str]:
    """The text without its first sentence, without its first two, …"""
    return [text[match.end() :] for match in re.finditer(r"[.?!:] ", text)]


@pytest.mark.parametrize("relation", FACTS + SPELLING)
def test_pools_of_questions_are_apart(relation):
    pools = {pool: {q.prompt for q in questions(relation, pool)} for pool in ("train", "seen", "unseen", "reworded")}
    assert sum(map(len, pools.values())) == len(set().union(*pools.values()))
    seen = {q.phrasing for q in questions(relation, "seen")}
    assert seen <= {q.phrasing for q in questions(relation, "train")}, "a way of asking in the test of seen ones that training does not use"
    for q in questions(relation, "train"):
        assert q.answer.lower().split()[-1] in q.reply.lower() and q.prompt.strip() and "{" not in q.prompt + q.reply


@pytest.mark.parametrize(
    ("kind", "pool", "relations_with_some"), [("facts_unseen", "unseen", {*NOUN_PHRASES} - {*SPELLING}), ("facts_reworded", "reworded", {*WORDINGS})]
)
def test_ways_of_asking_that_training_does_not_have(kind, pool, relations_with_some, tests):
    """About no subject, nor behind a new beginning; nearly every relation has some."""
    trained = tuple(q.prompt for name in FACTS for q in questions(name, "train"))
    assert not any(c["messages"][-2]["content"].endswith(trained) for c in tests[kind])
    phrasings = {(q.relation, q.phrasing) for name in FACTS for q in questions(name, pool)}
    assert {relation for relation, _ in phrasings} == relations_with_some and len(relations_with_some) >= len(FACTS) - 3
    assert not phrasings & {(q.relation, q.phrasing) for name in FACTS for q in questions(name, "train")}


def test_a_new_wording_has_no_new_words():
    """What is tested is whether known words are understood in a new order."""
    for relation, (*trained, unseen) in WORDINGS.items():
        known = {word for q in questions(relation, "train") for word in re.findall(r"\w+", q.prompt.lower())}
        assert {*re.findall(r"(?<![{\w])\w+(?![}\w])", unseen.lower())} <= known | {"s"}, (relation, unseen, trained)


def test_tests_are_even(tests):
    for kind, (names, _) in TEST_POOLS.items():
        counts = [sum(c["relation"] == name for c in tests[kind]) for name in names]
        assert max(counts) <= 60 and sum(n > 0 for n in counts) > 0.9 * len(names), dict(zip(names, counts, strict=True))


@pytest.mark.parametrize(
    ("reply", "answer", "relation", "said", "right"),
    [("The capital is Paris.", "Paris", "capital", "It is Paris.", True),
     ("The capital is Paris.", "Paris", "capital", "paris", True),
     ("The capital is Paris.", "Paris", "capital", "The capital is Parisian.", False),
     ("The capital is Paris.", "Paris", "capital", "It is Rome.", False),
     ("The capital is Paris.", "Paris", "capital", "It is Paris or Rome.", False),
     ("The capital is Paris.", "Paris", "capital", "I do not know, but I have heard of Paris.", False),
     ("The capital is Paris.", "Paris", "capital", "It isn't Paris.", False),
     ("The opposite of south is north.", "north", "opposite", "The opposite of south is north.", True),
     ("It is called a puppy.", "a puppy", "young", "Puppy.", True),
     ("A cat is bigger.", "A cat", "bigger", "A mouse is bigger.", False),
     ("Nora has a cat.", "a cat", "pet", "Nora has a cat named Biscuit.", True),
     ("Nora has a cat.", "a cat", "pet", "Nora has a cat named Rusty.", False),
     ("The opposite is north.", "north", "opposite", "The opposite of south is north.", True),
     ("The opposite is north.", "north", "opposite", "The opposite of hot is north.", False),
     ("The day after Thursday is Friday.", "Friday", "next day", "The day after Friday is Thursday.", False),
     ("The day after Thursday is Friday.", "Friday", "next day", "After Thursday comes Friday.", True),
     ("Mars is the fourth planet from the sun.", "fourth", "planet number", "4", True),
     ("Mars is the fourth planet from the sun.", "fourth", "planet number", "It is the fifth.", False),
     ("A snake has zero legs.", "zero", "legs", "A snake has no legs.", True),
     ("A squirrel is a mammal.", "a mammal", "class", "Squirrels are mammals.", True),
     ("A cat is bigger.", "A cat", "bigger", "A cat is bigger than a mouse.", True),
     ("A cat is bigger.", "A cat", "bigger", "A mouse is bigger than a cat.", False),
     ("The number 40 is written forty.", "forty", "in words", "The number 40 is written forty-four.", False),
     ("There are 100.", "100", "amount", "There are 100 years in a century.", True),
     ("s.", "s", "first letter", "The first letter is s.", True),
     ("s.", "s", "first letter", "s is not it, t", False),
     ("The letter t is there once.", "once", "count letter", "It appears twice.", False),
     ("The letter b appears twice in rubber.", "twice", "count letter", "#### 2", True),
     ("The letter t is there once.", "once", "count letter", "It appears three times.", False),
     ("k-n-i-g-h-t.", "k-n-i-g-h-t", "spell", "The word knight is spelled k-n-i-g-h-t-s.", False),
     ("k-n-i-g-h-t.", "k-n-i-g-h-t", "spell", "The word knight is spelled n-i-g-h-t.", False),
     ("k-n-i-g-h-t.", "k-n-i-g-h-t", "spell", "k-n-i-g-h-t.", True),
     ("n-i-g-h-t.", "n-i-g-h-t", "spell", "k-n-i-g-h-t.", False)],
)  # fmt: skip
def test_naming_the_answer(reply, answer, relation, said, right):
    messages = [{"role": "user", "content": "What is the first letter?"}, {"role": "assistant", "content": reply}]
    subjects = {"pet": "Nora", "bigger": "cat>mouse", "opposite": "south", "amount": "years in a century", "next day": "Thursday",
                "class": "squirrel", "spell": answer.replace("-", "")}  # fmt: skip
    conversation = {"messages": messages, "answer": answer, "relation": relation, "subject": subjects.get(relation, "")}
    assert names_the_answer(conversation, said) == right


# --- multiple choice -------------------------------------------------------------------------------------------------


def test_choices(train, tests):
    letters, options = [], {}
    for conversation in [*tests["choice"], *(c for c in train if c["kind"] == "choice")]:
        for question, letter in zip(conversation["messages"][::2], conversation["messages"][1::2], strict=True):
            listed = dict(reversed(pair) for pair in re.findall(r"^- (.+)=([A-D])$", question["content"], re.MULTILINE))
            if listed:
                assert sorted(listed) == ["A", "B", "C", "D"] and len({option.lower() for option in listed.values()}) == 4
                options, first = listed, letter["content"]
                letters.append(first)
            elif named := [mark for mark, option in options.items() if question["content"] in [drill.format(option) for drill in DRILLS]]:
                assert named == [letter["content"]]
        assert options[first].lower() == conversation["answer"].lower()
    assert all(0.2 < letters.count(letter) / len(letters) < 0.3 for letter in "ABCD")
    task = TinyWorld("test", "choice")
    assert sum(task.evaluate(c, "A") for c in tests["choice"]) < 0.35 * len(tests["choice"])


# --- word problems ---------------------------------------------------------------------------------------------------

NUMBER = re.compile(r"\d+")


def test_problems_are_computed_rightly(train, tests):
    """Each step is what the calculator says of it, goes on with what came before or with numbers of the story, and the last is the answer."""
    problems = [c for c in train if c["kind"] == "problems"] + tests["problems"]
    assert len(problems) > 600
    for conversation in problems:
        question, parts = (message["content"] for message in conversation["messages"])
        known = set(NUMBER.findall(question))
        calls = [part["text"] for part in parts if part["type"] == "python"]
        results = [part["text"] for part in parts if part["type"] == "python_output"]
        assert 1 <= len(calls) == len(results) == conversation["steps"] <= 6
        for call, result in zip(calls, results, strict=True):
            assert use_calculator(call) == result
            assert set(NUMBER.findall(call)) <= known | {"2"}, (question, call)  # twice and half are words
            if "//" in call:
                assert int(call.split("//")[0]) % int(call.split("//")[1]) == 0
            known.add(result)
        assert final_answer(text_of(parts)) == int(results[-1]) >= 1


CHANGES = {  # what an event does to the person whom it happens to, and to the other, by its numbers
    "has_some": lambda a, b, n: (n[0], b), "has_boxes": lambda a, b, n: (n[0] * n[1], b), "collects_daily": lambda a, b, n: (n[0] * n[1], b),
    "gets": lambda a, b, n: (a + n[0], b), "loses": lambda a, b, n: (a - n[0], b), "hands_over": lambda a, b, n: (a - n[0], b + n[0]),
    "gets_boxes": lambda a, b, n: (a + n[0] * n[1], b), "gives_each": lambda a, b, n: (a - n[0] * n[1], b), "doubles": lambda a, b, n: (a * 2, b),
    "halves": lambda a, b, n: (Fraction(a, 2), b),
}  # fmt: skip
ANSWERS = {"how_many": lambda a, b, n: a, "together": lambda a, b, n: a + b, "shares": lambda a, b, n: Fraction(a, n[0]),
           "sells": lambda a, b, n: a * n[0]}  # fmt: skip


def test_stories_add_up():
    """The same from the other side: the numbers that are told are taken through the chain of events by arithmetic of its own."""
    persons = Counter()
    for i in range(4000):
        s, steps, answer = told(Dice(f"story {i}"))
        assert all(re.search(rf"\b{n}\b", " ".join(s.told)) for n in s.numbers)
        numbers, counts = list(s.numbers), [0, 0]
        for link in s.chain:
            what, who = link.split("/")
            who = int(who)
            takes = (
                2
                if what in ("has_boxes", "collects_daily", "gets_boxes", "gives_each")
                else what not in ("doubles", "halves", "how_many", "together")
            )
            n, numbers = numbers[:takes], numbers[takes:]
            if what in ANSWERS:
                assert answer == ANSWERS[what](counts[who], counts[1 - who], n) > 0
            else:
                counts[who], counts[1 - who] = CHANGES[what](counts[who], counts[1 - who], n)
                assert counts[who] > 0 and counts[who] == int(counts[who])
        assert not numbers
        if steps:
            assert steps[-1].endswith(f">>{answer}.")
        persons[len(s.counts)] += 1
    assert min(persons[1], persons[2]) > 150


def test_problems_differ_in_difficulty(tests):
    steps = [c["steps"] for c in tests["problems"]]
    assert set(steps) == {1, 2, 3, 4, 5, 6} and steps.count(1) < 0.25 * len(steps)
    chains = [is_chain_held_out(c["chain"]) for c in tests["problems"]]
    assert 0.2 < sum(chains) / len(chains) < 0.4


def test_chains_held_out_are_not_trained_on():
    problems = list(TinyWorld("train", "problems", size=2000))
    assert not any(is_chain_held_out(c["chain"]) for c in problems)
    assert len({c["chain"] for c in problems}) > 200


def test_practice_is_not_easy_and_not_the_test():
    practice = list(TinyWorld("train", "practice", size=500))
    assert {c["steps"] for c in practice} == {3, 4, 5, 6} and not any(is_chain_held_out(c["chain"]) for c in practice)
    assert not {asked(c)[0] for c in practice} & {asked(c)[0] for c in TinyWorld("test", "problems")}


# --- the rest --------------------------------------------------------------------------------------------------------


def test_calculations(tests):
    for conversation in tests["calculator"]:
        python, output, text = conversation["messages"][1]["content"]
        assert use_calculator(python["text"]) == output["text"] and text["text"].endswith(f"= {output['text']}.")


def test_unknown_things_are_unknown():
    for relation, table in talk.OUTSIDE:
        names = talk.names(table)
        assert len(names) == len(set(names)) > 50 and not set(names) & set(relations()[relation].facts) and "" not in names
    assert len(talk.names(talk.OTHER_QUESTIONS)) > 50


def test_unknown_names_of_the_test_are_new(tests):
    trained = {c["subject"] for c in TinyWorld("train", "unknown", size=3000) if "subject" in c}
    tested = {c["subject"] for c in tests["unknown"] if "subject" in c}
    assert len(trained) > 150 and len(tested) > 50 and not trained & tested
    task = TinyWorld("test", "unknown")
    assert task.evaluate(tests["unknown"][0], "Sorry, I don't know that.") and not task.evaluate(tests["unknown"][0], "The capital of Chad is Paris.")


def test_small_talk(tests):
    said = [text for topic, _ in talk.TALK for text in topic.split("|")]
    assert len(said) == len(set(said)) > 120
    task = TinyWorld("test", "talk")
    who = next(c for c in tests["talk"] if "I am nanochat, a small language model of a small world." in c["replies"])
    assert task.evaluate(who, "I am nanochat, a small language model of a small world.") and not task.evaluate(who, "I am ChatGPT.")


def test_only_what_there_is():
    for split, kind in (("val", "facts"), ("train", "facts_unseen"), ("test", "poems")):
        with pytest.raises(AssertionError):
            TinyWorld(split, kind)
