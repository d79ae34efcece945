"""Conversations about the embedded world: the chat data and the chat tests that need no network.

A fact can be asked in many ways: in the questions of the corpus, in frames around a noun phrase ("Tell me the capital of {s}."), and in further
wordings (tinyworld_asking). Each pair of a fact and a way to ask is for training or, about one in eight, for the test: by the very rule that holds
tellings out of the corpus, so what the test asks stands nowhere in the corpus either. Some frames and one wording of each relation are for the test
only, whatever they ask about. The other kinds have similar rules.

Example i of a split and kind is the same on every machine: everything is thrown by Dice, which are seeded with text.
"""

import re
import zlib
from collections.abc import Callable
from functools import cache
from string import Formatter
from typing import NamedTuple

from nanochat.execution import use_calculator
from nanochat.tinyworld import CHOICE, WEIGHTS, Dice
from nanochat.tinyworld_bundle import NEAR
from nanochat.tinyworld_facts import FOLLOW_UP, ORDINALS, SMALL_NUMBERS, Telling, capital, is_held_out, plural, relations, tell, tellings
from tasks import tinyworld_asking as ways
from tasks import tinyworld_talk as talk
from tasks.common import Task, chat, render_mc, same_final_answer
from tasks.tinyworld_problems import practice, problem

TRAIN_SIZE, TEST_SIZE = 20_000, 400
ITEMS = 60  # of each relation, at most, in a test of facts
LETTERS = ("A", "B", "C", "D")

# Relations by what they are good for. Sums are left to the calculator.
SPELLING = ("spell", "length", "first letter", "last letter", "count letter")
ARITHMETIC = ("sum", "difference", "product", "quotient", "equation", "larger")
FACTS = tuple(name for name in WEIGHTS if name not in SPELLING + ARITHMETIC)

# --- questions -------------------------------------------------------------------------------------------------------


class Question(NamedTuple):
    relation: str
    subject: str
    phrasing: int
    prompt: str
    answer: str  # "Paris"
    reply: str  # "The capital is Paris."


@cache
def questions(relation: str, pool: str) -> tuple[Question, ...]:
    """All questions about a relation that a pool may ask: train; seen, which asks in ways that train uses; unseen and reworded, which ask in frames
    and in wordings that train does not have."""
    found = []
    if pool in ("train", "seen"):
        own = [t for t in tellings(relation) if t.is_question and t.held_out == (pool == "seen")]
        found += [_question(relation, t.subject, t.phrasing, t.prompt, t) for t in own]
    for phrasing, template in _templates(relation, pool).items():
        for subject, fields in relations()[relation].facts.items():
            if pool not in ("train", "seen") or is_held_out(relation, subject, phrasing) == (pool == "seen"):
                found.append(_question(relation, subject, phrasing, template.format_map(fields)))
    return tuple(found)


@cache
def _templates(relation: str, pool: str) -> dict[int, str]:
    """In which frames and wordings a pool asks, by their numbers as phrasings."""
    np = ways.NOUN_PHRASES.get(relation)
    frames, unseen_frames = ([frame.format(np=np, NP=capital(np)) for frame in some if np] for some in (ways.FRAMES, ways.UNSEEN_FRAMES))
    if pool == "unseen":
        return dict(enumerate(unseen_frames, ways.FIRST_UNSEEN_FRAME))
    wordings = dict(enumerate(ways.WORDINGS.get(relation, ()), ways.FIRST_WORDING))
    unseen = dict([wordings.popitem()] if wordings else [])
    return unseen if pool == "reworded" else dict(enumerate(frames, ways.FIRST_FRAME)) | wordings


def _question(relation: str, subject: str, phrasing: int, prompt: str, asked: Telling | None = None) -> Question:
    """Answered by a whole sentence, the plainest telling: to say first what was asked for is how a small model finds the answer."""
    plain, o = tell(relations()[relation], subject, 0), relations()[relation].facts[subject]["o"]
    if asked and relation == "bigger":  # who is smaller is not answered by who is bigger
        return Question(relation, subject, phrasing, prompt, asked.answer, asked.text)
    if asked and _has(_words(plain.text, relation), _bare(asked.answer, relation)):
        return Question(relation, subject, phrasing, prompt, asked.answer, plain.text)
    answer = plain.answer if _bare(plain.answer, relation) == _bare(o, relation) else o  # there are 60 minutes in an hour: the number is asked for
    return Question(relation, subject, phrasing, prompt, answer, plain.text)


@cache
def _to_follow(relation: str, pool: str) -> tuple[str, ...]:
    """Subjects that a follow-up may ask about, if there are enough of them."""
    if relation not in ways.FOLLOW_UPS:
        return ()
    subjects = tuple(s for s in relations()[relation].facts if is_held_out(relation, s, FOLLOW_UP) == (pool != "train"))
    return subjects if len(subjects) > 1 else ()


def follow_up(r: Dice, relation: str, before: str, pool: str) -> Question:
    """The same question about another subject. The subjects that the test asks about are never asked about like this in training."""
    subject = r.pick([s for s in _to_follow(relation, pool) if s != before])
    frames = ways.UNSEEN_FOLLOW_FRAMES if pool == "unseen" else ways.FOLLOW_FRAMES if relation in ways.OF else ways.FOLLOW_FRAMES[:-1]
    name = relations()[relation].facts[subject][ways.FOLLOW_UPS[relation]]
    return _question(relation, subject, FOLLOW_UP, r.pick(frames).format(x=name))


# --- conversations for training --------------------------------------------------------------------------------------


@cache
def _deck(names: tuple[str, ...]) -> tuple[str, ...]:
    """Relations, those that there is much to ask about more often, but not in proportion: in a chat every one of them should come up."""
    return tuple(name for name in names for _ in range(max(12, round(len(questions(name, "train")) ** 0.5))))


def facts_talk(r: Dice, names: tuple[str, ...]) -> dict:
    """One to three questions with their answers, some of them follow-ups; a greeting before and thanks after, sometimes."""
    said = _small_talk(r, talk.GREETINGS, "train") if r.chance(0.1) else []
    relation = r.pick(_deck(names))
    q = None
    for _ in range(r.pick((1, 1, 1, 2, 3, 3))):
        if q and _to_follow(relation, "train") and r.chance(0.5):
            q = follow_up(r, relation, q.subject, "train")
            said += [q.prompt, q.reply]
        else:
            relation = relation if r.chance(0.4) else r.pick(_deck(names))
            q = r.pick(questions(relation, "train"))
            said += [r.pick(ways.PREFIXES) + q.prompt, q.reply]
    if r.chance(0.1):
        said += _small_talk(r, talk.THANKS, "train")
    return chat(*said)


def train_facts(r: Dice) -> dict:
    return facts_talk(r, FACTS)


def train_spelling(r: Dice) -> dict:
    return facts_talk(r, SPELLING)


# --- conversations for the test --------------------------------------------------------------------------------------


@cache
def fact_items(names: tuple[str, ...], pool: str) -> tuple[dict, ...]:
    """A conversation of each relation in turn, until no relation has a question left: of animals there are hundreds, of planets a few."""
    r = Dice(f"tinyworld test {pool} {names}")
    waiting = {name: r.several(questions(name, pool), ITEMS) for name in names}
    items = []
    while any(waiting.values()):
        for name in names:
            if waiting[name]:
                items.append(_fact_item(r, waiting[name].pop(r.below(len(waiting[name]))), pool))
    return tuple(items)


def _fact_item(r: Dice, q: Question, pool: str) -> dict:
    if pool != "reworded" and _to_follow(q.relation, pool) and r.chance(0.2):
        first = r.pick(questions(q.relation, "train"))
        q = follow_up(r, q.relation, first.subject, pool)
        said = [first.prompt, first.reply, q.prompt]
    else:
        said = [r.pick(ways.PREFIXES + ways.UNSEEN_PREFIXES if pool == "unseen" else ways.PREFIXES) + q.prompt]
    return chat(*said, q.reply, relation=q.relation, subject=q.subject, answer=q.answer)


def names_the_answer(conversation: dict, completion: str) -> bool:
    """The sentence that was expected, or one that has the answer in it, none that would be right for somebody else only, and nobody else's name."""
    relation, spoken = conversation["relation"], [message["content"] for message in conversation["messages"]]
    said, expected, asked = _words(completion, relation), _words(spoken[-1], relation), _words(" ".join(spoken[:-1]), relation)
    answer, subject = _bare(conversation["answer"], relation), _bare(conversation["subject"], relation)
    if said == expected:
        return True
    if any(_has(said, no) and not _has(expected, no) for no in ("not", "don't", "isn't", "never")):
        return False
    if relation == "spell":
        spelled = re.findall(r"\b[a-z](?:[^a-z0-9]+[a-z]\b)+", completion.lower())
        return bool(spelled) and all(re.sub(r"[^a-z]", "", word) == subject for word in spelled)
    if relation == "bigger":
        return _first(said, *(name for name in answers_of(relation) if _has(said, name))) == answer
    if any(_has(said, name) and not _has(asked + expected, name) for name in names_of(relation) if name != subject):
        return False
    if len(answer) == 1 and answer.isalpha():  # letters and symbols look like words: "a", "I"
        return said.endswith(f" {answer} ")
    if relation != "opposite" and answer in names_of(relation) and _first(said, subject, answer) not in ("", _first(expected, subject, answer)):
        return False  # April is the month before May, and not the other way round
    own = {subject, *own_answers(relation, conversation["subject"])}  # what else is true: "Nora has a cat named Biscuit"
    rivals = [rival for rival in answers_of(relation) if not _has(expected, rival) and rival not in own]
    return any(_has(said, right) for right in (answer, plural(answer))) and not any(_has(said, rival) for rival in rivals)


@cache
def names_of(relation: str) -> tuple[str, ...]:
    """All that a relation is about, but for single letters."""
    return tuple({name: None for subject in relations()[relation].facts if len(name := _bare(subject, relation)) > 1})


@cache
def answers_of(relation: str) -> tuple[str, ...]:
    """All that could be answered to questions about a relation, but for single letters."""
    answers = {_bare(t.answer, relation): None for t in tellings(relation)}
    return tuple(answer for answer in answers if len(answer) > 1 or answer.isdigit())


@cache
def own_answers(relation: str, subject: str) -> frozenset[str]:
    """What is right about a subject, whatever is asked."""
    return frozenset(_bare(t.answer, relation) for t in tellings(relation) if t.subject == subject)


def _words(text: str, relation: str) -> str:
    """In small letters, with one blank before and after each word, so that " cat " is not found in " caterpillar ". Numbers are digits, unless the
    question is how to write them."""
    words = re.findall(r"[a-z0-9']+", text.lower())
    return " " + " ".join(words if relation == "in words" else [_digits().get(word, word) for word in words if word != "times"]) + " "


@cache
def _digits() -> dict[str, str]:
    numbers = {word: str(n) for start, words in enumerate((SMALL_NUMBERS, ORDINALS)) for n, word in enumerate(words, start)}
    return {"no": "0", "once": "1", "twice": "2", **numbers}


def _bare(answer: str, relation: str) -> str:
    return re.sub(r"^(a|an|the) (?=.)", "", _words(answer, relation).strip())


def _has(text: str, words: str) -> bool:
    return f" {words} " in text


def _first(text: str, *names: str) -> str:
    """Which of the names comes first, if all of them are there."""
    return min(names, key=lambda name: text.index(f" {name} "), default="") if all(_has(text, name) for name in names) else ""


# --- multiple choice -------------------------------------------------------------------------------------------------


@cache
def choice_questions(split: str) -> tuple[Question, ...]:
    """What can be asked with four options: by the same rule as in the tests of facts, and each question as often as any other."""
    pool = {"train": "train", "test": "seen"}[split]
    return tuple(q for name in CHOICE for q in questions(name, pool) if len(_wrong(q)) >= 3)


@cache
def _answers(relation: str, phrasing: int) -> tuple[str, ...]:
    return tuple({q.answer: None for pool in ("train", "seen", "unseen") for q in questions(relation, pool) if q.phrasing == phrasing})


def _wrong(q: Question) -> list[str]:
    """Answers that are right for others in the same words, and would not be right here as well."""
    same = {q.answer.lower(), *(answer for group in NEAR if q.answer in group for answer in group)}
    return [answer for answer in _answers(q.relation, q.phrasing) if answer.lower() not in same]


@cache
def _asking_for(relation: str, answer: str) -> tuple[str, ...]:
    return tuple(q.prompt for q in choice_questions("train") if (q.relation, q.answer) == (relation, answer))


def choice(r: Dice, split: str) -> dict:
    """One question in the test. In training more about the same options, because a letter is little to learn from so long a text: where an option
    stands, and the questions that the others answer. And the first question often stands among its options: the nearer, the easier."""
    q = r.pick(choice_questions(split))
    options = r.several([q.answer, *r.several(_wrong(q), 3)], 4)
    shown = [capital(option) for option in options]
    letter_of = dict(zip(options, LETTERS, strict=True))
    said = [render_mc(q.prompt, LETTERS, shown), letter_of[q.answer]]
    if split == "train":
        if r.chance(0.6):
            question, *lines = said[0].split("\n")
            lines.insert(r.between(1, len(options)), question)
            said[0] = "\n".join(lines)
        for option in r.several([option for option in options if option != q.answer], r.between(1, 3)):
            asking = _asking_for(q.relation, option)
            drill = r.pick(DRILLS).format(shown[options.index(option)])
            said += [r.pick(asking) if asking and r.chance(0.7) else drill, letter_of[option]]
    return chat(*said, letters=LETTERS, relation=q.relation, answer=capital(q.answer))


DRILLS = ("Which of these is {}?", "Which letter stands for {}?", "Where is {}?", "And {}?")


# --- the calculator, what is unknown, and small talk -----------------------------------------------------------------

OPERATIONS = {"+": ("sum", "plus"), "-": ("difference", "minus"), "*": ("product", "times"), "/": ("quotient", "divided by")}
CALCULATIONS = ("What is {a} {sign} {b}?", "How much is {a} {word} {b}?", "Calculate {a} {sign} {b}.", "{a} {sign} {b}?",
                "Please compute {a} {sign} {b}.", "What do you get for {a} {word} {b}?", "Can you tell me what {a} {word} {b} is?")  # fmt: skip


def _is_of(split: str, what: str, one_in: int = 4) -> bool:
    return (zlib.crc32(what.encode()) % one_in == 0) == (split == "test")


def calculation(r: Dice, split: str) -> dict:
    """Two numbers, and the calculator does the work. What the corpus does not tell about small numbers is not told here either."""
    while True:
        sign = r.pick(tuple(OPERATIONS))
        a, b = (r.between(2, 99), r.between(2, 20)) if sign in "*/" else (r.between(2, 900), r.between(2, 900))
        if sign == "-":
            a, b = max(a, b), min(a, b)
        if sign == "/":
            a *= b
        relation, word = OPERATIONS[sign]
        told = f"{a} {sign} {b}" in relations()[relation].facts  # by heart, in training texts
        if not told and _is_of(split, f"{a} {sign} {b}"):
            break
    expression = f"{a}{'//' if sign == '/' else sign}{b}"
    value = use_calculator(expression)
    parts = [{"type": "python", "text": expression}, {"type": "python_output", "text": value}, {"type": "text", "text": f"{a} {sign} {b} = {value}."}]
    return chat(r.pick(CALCULATIONS).format(a=a, b=b, sign=sign, word=word), parts, answer=value)


def says_the_number(conversation: dict, completion: str) -> bool:
    numbers = re.findall(r"\d+", completion)
    return bool(numbers) and numbers[-1] == conversation["answer"]


def unknown(r: Dice, split: str) -> dict:
    """A question that the world has no answer to, and the honest reply. The test asks about other names than training does."""
    if r.chance(0.25):
        asked = [q for q in talk.names(talk.OTHER_QUESTIONS) if _is_of(split, q)]
        return chat(r.pick(asked), r.pick(talk.UNKNOWN_QUESTION))
    relation, table = r.pick(talk.OUTSIDE)
    subject = r.pick([name for name in talk.names(table) if _is_of(split, name)])
    fields = talk.forms_of(subject)
    question = r.pick(_open_questions(relation)).format_map(fields)
    said = []
    if split == "train" and r.chance(0.25):  # it knew the answer to the question before, and does not know this one
        q = r.pick(questions(relation, "train"))
        said = [q.prompt, q.reply]
        if relation in ways.FOLLOW_UPS and r.chance(0.5):
            frames = ways.FOLLOW_FRAMES if relation in ways.OF else ways.FOLLOW_FRAMES[:-1]
            question = r.pick(frames).format(x=fields[ways.FOLLOW_UPS[relation]])
    return chat(*said, question, r.pick(talk.UNKNOWN).format_map(fields), subject=subject)


@cache
def _open_questions(relation: str) -> tuple[str, ...]:
    """Templates that ask about a subject without telling anything of it."""
    own = [template.partition("|")[0] for template in relations()[relation].phrasings if "|" in template]
    own = [t for t in own if {name for _, name, _, _ in Formatter().parse(t) if name} <= {"s", "S", "own", "a", "A", "p", "P"}]
    return (*own, *_templates(relation, "train").values())


def admits_not_knowing(conversation: dict, completion: str) -> bool:
    return bool(re.search(r"\b(do not|don't) know\b", completion.lower()))


def _said(topic: str, split: str) -> list[str]:
    """The ways to say something that a split has. The first, the usual one, is always for training: who greets the model should be greeted."""
    usual, *others = topic.split("|")
    return [usual] * (split == "train") + [text for text in others if _is_of(split, text)]


def _small_talk(r: Dice, topic: tuple[str, tuple[str, ...]], split: str) -> list[str]:
    said, replies = topic
    return [r.pick(_said(said, split)), r.pick(replies)]


def small_talk(r: Dice, split: str) -> dict:
    """One to three exchanges in training, one in the test, where the words of the person are new."""
    topics = [topic for topic in talk.TALK if _said(topic[0], split)]
    several = r.several(topics, r.between(1, 3) if split == "train" else 1)
    said = [text for topic in several for text in _small_talk(r, topic, split)]
    return chat(*said, replies=several[-1][1])


def is_a_reply(conversation: dict, completion: str) -> bool:
    return completion.strip() in conversation["replies"]


# --- the task --------------------------------------------------------------------------------------------------------

MIX = (("facts", 30), ("choice", 22), ("problems", 6), ("spelling", 6), ("unknown", 6), ("talk", 8), ("calculator", 2))  # of kind "all"
MAKERS: dict[str, Callable[[Dice, str], dict]] = {  # what is made up anew for each index, in either split
    "choice": choice, "problems": problem, "unknown": unknown, "talk": small_talk, "calculator": calculation,
}  # fmt: skip
TRAIN_MAKERS: dict[str, Callable[[Dice], dict]] = {"facts": train_facts, "spelling": train_spelling, "practice": practice}
TEST_POOLS = {"facts": (FACTS, "seen"), "facts_unseen": (FACTS, "unseen"), "facts_reworded": (FACTS, "reworded"), "spelling": (SPELLING, "seen")}
JUDGES: dict[str, Callable[[dict, str], bool]] = {
    **dict.fromkeys(TEST_POOLS, names_the_answer), "problems": same_final_answer, "practice": same_final_answer, "unknown": admits_not_knowing,
    "talk": is_a_reply, "calculator": says_the_number,
}  # fmt: skip
KINDS = {
    "train": tuple(kind for kind in (*JUDGES, "choice") if kind not in ("facts_unseen", "facts_reworded")),
    "test": tuple(kind for kind in (*JUDGES, "choice") if kind != "practice"),
}


class TinyWorld(Task):
    """size conversations of a split, of one kind: facts (in the test: facts in ways of asking that training has used for other facts),
    facts_unseen and facts_reworded (test only: in frames and in wordings that training does not have), choice, problems, practice (training only:
    the longer problems), spelling, unknown, talk, calculator; or all."""

    def __init__(self, split: str, kind: str = "all", size: int | None = None, **view):
        super().__init__(**view)
        assert split in ("train", "test"), split
        assert kind in (*KINDS[split], "all"), kind
        self.split, self.kind = split, kind
        self.size = size or (TRAIN_SIZE if split == "train" else TEST_SIZE)

    @property
    def eval_type(self) -> str:
        return "categorical" if self.kind == "choice" else "generative"

    def num_examples(self) -> int:
        if self.split == "test" and self.kind in TEST_POOLS:
            return min(self.size, len(fact_items(*TEST_POOLS[self.kind])))
        return self.size

    def get_example(self, index: int) -> dict:
        r = Dice(f"tinyworld {self.split} {self.kind} {index}")
        kind = r.pick([kind for kind, weight in MIX for _ in range(weight)]) if self.kind == "all" else self.kind
        return {**self._made(r, kind, index), "kind": kind}

    def _made(self, r: Dice, kind: str, index: int) -> dict:
        if kind in MAKERS:
            return MAKERS[kind](r, self.split)
        if self.split == "train":
            return TRAIN_MAKERS[kind](r)
        items = fact_items(*TEST_POOLS[kind])
        return items[index % len(items)]

    def evaluate(self, conversation: dict, completion: str) -> bool:
        if conversation["kind"] == "choice":
            return completion.strip() == conversation["messages"][-1]["content"]
        return JUDGES[conversation["kind"]](conversation, completion)
