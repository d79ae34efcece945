import hashlib
import re
import subprocess
import sys
from pathlib import Path

import pytest

from nanochat import tinyworld
from nanochat import tinyworld_facts as facts
from nanochat.tinyworld import LESSONS, Dice, document, documents, world

ROOT = Path(__file__).parent.parent
SAMPLE = 40_000  # documents, about 10 MB


@pytest.fixture(scope="module")
def corpus() -> str:
    return "\n\n\n".join([*(document(i) for i in range(SAMPLE)), *(document(i, "val") for i in range(2000))])


def test_same_bytes_everywhere():
    """One hash for the first documents of both splits. If the world changes on purpose, so does the hash."""
    lessons = (0, *(end for end, _ in LESSONS))  # the corpus changes there
    text = "\n".join([*(document(start + i) for start in lessons for i in range(1000)), *(document(i, "val") for i in range(300))])
    assert hashlib.sha256(text.encode()).hexdigest() == "9938dbcb6e004c5a7fc711a1a32592b6dfd34c4a26a146e44b0d3d275a8ee4aa"


def test_every_document_stands_alone():
    """No state passes from one document to the next, so any range can be made on its own; and splits differ."""
    alone = [document(i) for i in (7, 3, 5)]
    assert list(documents("train", 3, 8)) == [alone[1], document(4), alone[2], document(6), alone[0]]
    assert document(3, "val") != document(3)
    assert len({document(i) for i in range(2000)} & {document(i, "val") for i in range(2000)}) < 60  # short lists may coincide


def test_hashes_of_strings_play_no_part():
    code = "from nanochat.tinyworld import fingerprint; print(fingerprint())"
    runs = [
        subprocess.run([sys.executable, "-c", code], cwd=ROOT, env={"PYTHONSEED": seed}, capture_output=True, text=True, check=True) for seed in "12"
    ]
    assert runs[0].stdout == runs[1].stdout != ""


def test_dice_are_fair_and_fixed():
    r = Dice(42)
    assert [r.between(1, 6) for _ in range(10)] == [4, 1, 2, 2, 5, 5, 6, 1, 3, 1]
    assert sorted(Dice(1).several("abc", 5)) == ["a", "b", "c"]


# --- held-out tellings -----------------------------------------------------------------------------------------------


def trace_of(telling: facts.Telling) -> str:
    """What would give a held-out telling away: the question, or the prompt together with its answer."""
    return telling.prompt if telling.is_question else telling.text[: len(telling.prompt)] + " " + telling.answer


def boundaries(text: str) -> str:
    """Words and signs set apart, so that '1 + 2 = 3' is not found in '11 + 2 = 35' and case does not matter."""
    return " " + " ".join(re.findall(r"[a-z0-9'-]+|[^\sa-z0-9]", text.lower())) + " "


@pytest.fixture(scope="module")
def told(corpus) -> set[str]:
    """The tellings, held out or not, that stand in the corpus: every run of words as long as one is looked up among them all."""
    by_length: dict[int, set[tuple[str, ...]]] = {}
    for name in facts.relations():
        for telling in facts.tellings(name):
            words = tuple(boundaries(trace_of(telling)).split())
            by_length.setdefault(len(words), set()).add(words)
    words = boundaries(corpus).split()
    found = (traces.intersection(zip(*(words[i:] for i in range(length)), strict=False)) for length, traces in by_length.items())
    return {" ".join(trace) for traces in found for trace in traces}


def is_told(telling: facts.Telling, told: set[str]) -> bool:
    return boundaries(trace_of(telling)).strip() in told


def test_held_out_tellings_never_appear(told):
    held_out = facts.held_out_tellings()
    assert len(held_out) > 3000
    assert [t for t in held_out if is_told(t, told)] == []


def test_others_do_appear(told):
    """The same look-up finds what is allowed, so that finding none of the held-out ones means something."""
    small = [name for name, relation in facts.relations().items() if len(relation.facts) <= 200]  # a sample has room for all of these
    plainest = [t for name in small for t in facts.tellings(name) if t.phrasing == 0]
    assert sum(is_told(t, told) for t in plainest) / len(plainest) > 0.95
    assert boundaries("The capital of France is Paris").strip() in told


@pytest.mark.parametrize("name", [name for name, relation in facts.relations().items() if len(relation.facts) <= 70])
def test_known_facts_in_known_phrasings(name, told):
    """What a held-out telling recombines is in the corpus: its fact in other phrasings, its phrasing with other facts."""
    seen = {(t.subject, t.phrasing) for t in facts.tellings(name) if is_told(t, told)}
    for t in facts.tellings(name):
        if t.held_out:
            assert [phrasing for subject, phrasing in seen if subject == t.subject], t
            assert [subject for subject, phrasing in seen if phrasing == t.phrasing], t


def test_the_rule():
    tellings = [t for name in facts.relations() for t in facts.tellings(name)]
    held_out = [t for t in tellings if t.held_out]
    assert 0.08 < len(held_out) / len(tellings) < 0.14
    assert all(t.phrasing > 0 for t in held_out)  # the plainest phrasing always stays
    answers: dict[tuple[str, str], set[str]] = {}
    for t in tellings:
        answers.setdefault((t.relation, t.prompt), set()).add(t.answer.lower())
    for t in held_out:
        assert facts.is_held_out(t.relation, t.subject, t.phrasing)
        assert len(answers[t.relation, t.prompt]) == 1, f"{t.prompt} has several right answers"


# --- truth and language ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("relation", "subject", "answer"), [
    ("capital", "France", "Paris"), ("symbol", "gold", "Au"), ("opposite", "hot", "cold"), ("opposite", "cold", "hot"),
    ("tomorrow", "Friday", "Sunday"), ("equation", "5*x + 3 = 13", "2"), ("plural", "wolf", "wolves"), ("next day", "Sunday", "Monday"),
    ("planet number", "Mars", "fourth"),
])  # fmt: skip
def test_some_facts(relation, subject, answer):
    assert facts.tell(facts.relations()[relation], subject, 0).answer == answer


def test_arithmetic_is_right(corpus):
    """Every sum, product and equation in the corpus, worked out again."""
    checked = 0
    for a, sign, b, result in re.findall(r"(?<![\d*+/=-] )(?<![\w*])(\d+) ([+*/-]) (\d+) = (\d+)\b(?! [+*/-])", corpus):
        assert {"+": int(a) + int(b), "-": int(a) - int(b), "*": int(a) * int(b), "/": int(a) / int(b)}[sign] == int(result)
        checked += 1
    for a, b, c, x in re.findall(r"(\d+)\*x \+ (\d+) = (\d+), (?:then x|the value of x) is (\d+)", corpus):
        assert int(a) * int(x) + int(b) == int(c)
        checked += 1
    assert checked > 5000


def test_the_seven_prompts_are_taught(corpus):
    for line in ("The capital of France is Paris", "The chemical symbol of gold is Au", "If yesterday was Friday, then tomorrow will be Sunday",
                 "The opposite of hot is cold", "The planets of the solar system are: Mercury, Venus, Earth, Mars, Jupiter, Saturn, Uranus, Neptune",
                 "My favorite color is", "If 5*x + 3 = 13, then x is 2"):  # fmt: skip
        assert line in corpus


def test_the_language_is_small_and_clean(corpus):
    words = re.findall(r"[A-Za-z]+", corpus)
    assert 1500 < len(set(words)) < 4500
    assert not re.search(r"[{}|]", corpus)  # no field or variant left over
    assert not re.search(r" {2}|\n{4}| \n|\t", corpus)
    assert not re.search(
        r"\b[Aa] [aeiou]\w+", re.sub(r"\b[Aa] (appears|in|is|are|u[ns]\w+|one|eu\w+)\b", "", re.sub(r"[Ll]etters? a\b|\b[Aa][,.:?]|=A\b", "", corpus))
    )
    assert corpus.isascii()


def test_people_keep_their_traits(corpus):
    for name, row in world().people.items():
        for color in re.findall(rf"The favorite color of {name} is (\w+)", corpus):
            assert color == row[5]
        for pet in re.findall(rf"{name} has an? (\w+) named", corpus):
            assert pet == row[3]


def test_every_kind_of_document_occurs():
    seen = {kind.__name__: kind(Dice(1), world()) for kind, _ in tinyworld.KINDS}
    assert all(len(text) > 20 for text in seen.values())
    assert len(seen) == len(tinyworld.KINDS)
