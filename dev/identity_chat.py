"""Conversations about who a model is, made from facts and from the phrases of dev/identity_talk.py by throwing dice.

What is said about the model is always a sentence of the facts. Around it stand phrases that claim nothing, so whatever the facts are, no answer
contradicts them. A conversation is a pure function of the facts, the seed and its index.
"""

import re
from collections.abc import Callable, Sequence
from functools import cache
from typing import NamedTuple

from dev import identity_talk as talk
from nanochat.common import UserError
from nanochat.execution import use_calculator
from nanochat.tinyworld import Dice
from tasks.common import chat

# --- facts -----------------------------------------------------------------------------------------------------------


class Facts(NamedTuple):
    """What is true of a model: for each topic its facts, and for each of those the wordings of it."""

    name: str
    topics: dict[str, tuple[tuple[str, ...], ...]]
    built_in: bool  # then what the calculator can do may be shown


def read_facts(text: str | None, source: str, name: str, made_by: str | None) -> Facts:
    """The facts of a file, or the built-in ones. An error names the line."""
    topics: dict[str, list[tuple[str, ...]]] = {}
    for number, line in enumerate((talk.BUILT_IN_FACTS if text is None else text).split("\n"), 1):
        if line.strip() and not line.lstrip().startswith("#"):
            topic, wordings = _fact(line, f"{source}:{number}")
            topics.setdefault(topic, []).append(wordings)
    if not topics:
        raise UserError(f"{source} has no facts in it: write some, one a line, as 'topic: what the model says about it'")
    _add_what_is_missing(topics, source, made_by)
    fields = {"{name}": name, "{made_by}": made_by or "the person who runs me"}
    return Facts(
        name, {topic: tuple(tuple(_filled(w, fields) for w in wordings) for wordings in told) for topic, told in topics.items()}, text is None
    )


def _fact(line: str, place: str) -> tuple[str, tuple[str, ...]]:
    topic, colon, rest = line.partition(":")
    topic, wordings = " ".join(topic.split()), tuple(w for part in rest.split("|") if (w := " ".join(part.split())))
    if not colon or not topic or not wordings:
        raise UserError(f"{place} is not a fact: write 'topic: what the model says about it' (or begin the line with # if it is a remark)")
    known = talk.ALIASES.get(topic.lower(), topic.lower())
    return (known if known in talk.QUESTIONS else topic), tuple(w if w[-1] in ".!?…)\"'" else w + "." for w in wordings)


def _add_what_is_missing(topics: dict[str, list], source: str, made_by: str | None) -> None:
    """Whatever a file leaves out, the model has a name; and if --made-by says who made it, that is a fact too."""
    topics.setdefault("name", [("My name is {name}.", "I am {name}.", "I am called {name}.")])
    if made_by and not any("{made_by}" in wording for told in topics.values() for wordings in told for wording in wordings):
        if "maker" in topics:
            raise UserError(
                f"--made-by and the line 'maker' of {source} both say who made the model: leave out one, or write {{made_by}} in the line"
            )
        topics["maker"] = [("I was made by {made_by}.", "It was {made_by} who made me.", "Behind me stands {made_by}.")]


def _filled(wording: str, fields: dict[str, str]) -> str:
    """Not str.format: a fact may have other braces in it."""
    return re.sub("|".join(map(re.escape, fields)), lambda match: fields[match[0]], wording)


@cache
def alternatives(table: str) -> tuple[str, ...]:
    return tuple(table.replace("\n", "").split("|"))


# --- the user --------------------------------------------------------------------------------------------------------


class User(NamedTuple):
    """Who asks in one conversation, and how: of the persona one name, one tone of the answers, one style of writing."""

    tone: str
    style: str
    fields: dict[str, str]
    introductions: tuple[str, ...]
    frames: tuple[str, ...]
    reactions: tuple[str, ...]


def some_user(r: Dice, facts: Facts) -> User:
    _, tone, styles, introductions, frames, reactions = r.pick(talk.PERSONAS)
    people = [person for person in alternatives(talk.PEOPLE) if person.lower() != facts.name.lower()]  # two of one name would confuse
    fields = {
        "name": facts.name, "who": r.pick(people), "age": str(r.between(5, 11)), "old": str(r.between(65, 93)),
        "hour": r.pick(("one", "two", "three")), "months": str(r.between(2, 11)), "n": str(r.between(1, 40)),
        "subject": r.pick(alternatives(talk.SUBJECTS)), "shop": r.pick(alternatives(talk.SHOPS)),
    }  # fmt: skip
    return User(tone, r.pick(styles.split()), fields, *map(alternatives, (introductions, frames, reactions)))


def in_style(r: Dice, user: User, text: str) -> str:
    """The message as this user would type it."""
    if user.style == "loud":
        return re.sub(r"[.!?]$", lambda end: {"?": r.pick(("??", "?!", "???"))}.get(end[0], r.pick(("!", "!!", "!!!"))), text)
    if user.style == "typos":
        text = " ".join(_typo(r, word) if r.chance(0.15) else word for word in text.split(" "))
    if user.style in ("small", "typos") and r.chance(0.85 if user.style == "small" else 0.4):
        text = text.lower()
        text = text.replace("'", "") if r.chance(0.4) else text
        text = re.sub(r" ?[.?]$", "", text) if r.chance(0.6) else text
    return text


def _typo(r: Dice, word: str) -> str:
    """One slip of the finger inside a word of small letters: names, which begin with a large one, stay whole."""
    if not re.fullmatch(r"[a-z]{4,}[.,?!]?", word):
        return word
    at = r.between(1, len(re.sub(r"\W", "", word)) - 2)
    slip = r.below(3)
    if slip == 0:
        return word[:at] + word[at + 1] + word[at] + word[at + 2 :]
    return word[:at] + word[at + 1 :] if slip == 1 else word[:at] + word[at] + word[at:]


# --- one exchange ----------------------------------------------------------------------------------------------------


class Question(NamedTuple):
    text: str
    willing: bool = False  # it asks for something, so that "Of course." fits before the answer
    foreign: bool = False


def ask(r: Dice, user: User, topic: str) -> Question:
    """A question of the table as it stands, one in another language, or a clause in a frame."""
    direct, clauses = talk.QUESTIONS.get(topic, (talk.ANY_TOPIC, talk.ANY_CLAUSE))
    if topic in talk.FOREIGN and r.chance(0.08):
        greeting = r.pick(alternatives(talk.FOREIGN_GREETINGS)) + " " if r.chance(0.15) else ""
        return Question(greeting + r.pick(alternatives(talk.FOREIGN[topic])), foreign=True)
    named = {"t": topic, "T": topic[:1].upper() + topic[1:]}
    if r.chance(0.45):
        return Question(_put(r.pick(alternatives(direct)), named))
    frames = user.frames if r.chance(0.4) else alternatives(talk.POLITE_FRAMES if user.style == "formal" else talk.FRAMES)
    clause = r.pick(alternatives(clauses))
    return Question(_put(r.pick(frames), {**user.fields, "c": _put(clause, named)}), willing=not clause.startswith(("whether", "if ")))


def _put(template: str, fields: dict[str, str]) -> str:
    """Fields by our own templates' names only; what is put in is never looked at again, whatever braces it has."""
    return re.sub(r"\{(\w+)\}", lambda match: fields[match[1]], template)


def answer(r: Dice, user: User, question: Question, told: Sequence[str], before: str = "") -> str:
    """Sentences of the facts, with something polite around them."""
    openers = talk.WILLING if question.willing and r.chance(0.5) else talk.OPENERS
    opener = r.pick(alternatives(talk.IN_ENGLISH)) if question.foreign and r.chance(0.6) else r.pick(alternatives(openers[user.tone]))
    return _spaced(before, opener, *told, r.pick(alternatives(talk.CLOSERS[user.tone])))


def _spaced(*texts: str) -> str:
    return " ".join(text for text in texts if text)


def about(r: Dice, user: User, facts: Facts, topic: str, opening: str = "", greeted: str = "") -> list[str]:
    """A question about a topic and its answer: as it comes, short where that is wished, or with all there is to say."""
    question, told = ask(r, user, topic), facts.topics[topic]
    wish = r.below(12)
    asked = f"{opening} {question.text}" if opening else question.text
    if wish == 0:
        return [in_style(r, user, f"{asked} {r.pick(alternatives(talk.SHORTLY))}"), r.pick(r.pick(told))]
    everything = [*told, *(facts.topics[near][0] for near in talk.RELATED.get(topic, "").split() if near in facts.topics)]
    if wish == 1 and len(everything) > 1:
        sentences = [r.pick(wordings) for wordings in everything]
        sentences[1:] = [_spaced(r.pick(alternatives(talk.JOINTS)), sentence) for sentence in sentences[1:]]
        return [in_style(r, user, f"{asked} {r.pick(alternatives(talk.IN_DETAIL))}"), answer(r, user, question, sentences, greeted)]
    if wish == 2:
        asked = f"{asked} {r.pick(alternatives(talk.REASONS))}"
    chosen = told if len(told) > 1 and r.chance(0.35) else [r.pick(told)]
    return [in_style(r, user, asked), answer(r, user, question, [r.pick(wordings) for wordings in chosen], greeted)]


def again(r: Dice, user: User, told: Sequence[tuple[str, ...]], before: str) -> list[str]:
    """The user doubts the answer before, or wants more: the same in other words, or what was not said yet."""
    unsaid = [wordings for wordings in told if not any(wording in before for wording in wordings)]
    if unsaid and r.chance(0.5):
        return [in_style(r, user, r.pick(alternatives(talk.MORE))), _spaced(r.pick(alternatives(talk.MORE_ANSWERS)), *map(r.pick, unsaid))]
    wordings = r.pick([wordings for wordings in told if wordings not in unsaid])
    others = [wording for wording in wordings if wording not in before] or wordings
    reaction = r.pick(user.reactions) + " " if r.chance(0.2) else ""
    return [in_style(r, user, reaction + r.pick(alternatives(talk.DOUBTS))), _spaced(r.pick(alternatives(talk.AGAIN)), r.pick(others))]


def mistaken(r: Dice, user: User, facts: Facts, opening: str = "") -> list[str] | None:
    """The user takes the model for another one, or has heard of another maker. None if the facts mention all that we could name."""
    rivals = strangers(facts)
    if not rivals:
        return None
    other, company = r.pick(rivals)
    fields = {**user.fields, "other": other, "company": company}
    asked, denied, topics = talk.MISTAKEN, talk.NOT_THEM, ("kind", "maker")
    if "maker" in facts.topics and r.chance(0.4):
        asked, denied, topics = talk.RUMOURS, talk.NOT_BY_THEM, ("maker",)
    question = _spaced(opening, _put(r.pick(alternatives(asked)), fields))
    told = [wordings for topic in topics for wordings in facts.topics.get(topic, ())]
    return [in_style(r, user, question), _spaced(_put(r.pick(alternatives(denied)), fields), r.pick(r.pick(told)) if told else "")]


def strangers(facts: Facts) -> list[tuple[str, str]]:
    """Names of others that the facts say nothing of."""
    mentioned = " ".join([facts.name, *(w for told in facts.topics.values() for wordings in told for w in wordings)]).lower()
    mentioned = mentioned.replace("your own chatgpt", "")  # so it is said of the project, which does not make the model one
    return [rival for rival in talk.RIVALS if not any(part.lower() in mentioned for part in rival)]


def calculation(r: Dice, user: User) -> list[str | list[dict]]:
    """A sum that the calculator does."""
    sign = r.pick("+-*")
    a, b = r.between(12, 999), r.between(3, 99)
    value = use_calculator(f"{a}{sign}{b}")
    fields = {"a": str(a), "b": str(b), "sign": sign, "value": value}
    parts = (("python", f"{a}{sign}{b}"), ("python_output", value), ("text", _put(r.pick(alternatives(talk.SUMMED)), fields)))
    question = _put(r.pick(alternatives(talk.SUMS)), fields)
    return [in_style(r, user, question), [{"type": kind, "text": text} for kind, text in parts]]


# --- one conversation ------------------------------------------------------------------------------------------------


def conversation(facts: Facts, seed: int, index: int, is_new: Callable[[dict], bool] = lambda made: True) -> dict:
    """Conversation number index of a seed. One that is not new is thrown again."""
    for attempt in range(200):
        made = _conversation(Dice(f"identity {seed} {index} {attempt}"), facts)
        if is_new(made):
            return made
    raise UserError(f"the facts are too few for more than about {index} different conversations: add facts or wordings, or lower --num")


def _conversation(r: Dice, facts: Facts) -> dict:
    user = some_user(r, facts)
    topics = r.several(list(facts.topics), r.pick((1, 1, 1, 2, 2, 2, 3, 3, 4)))
    opening, greeted, introduced = _opening(r, user)
    said: list = []
    if r.chance(0.12):  # first they only greet each other
        said, opening, greeted = _greeting(r, user, opening, introduced), "", ""
    for topic in topics:
        said += _turn(r, user, facts, topic, opening, greeted, first=not said)
        opening = greeted = ""
    if introduced and r.chance(0.3):
        said += [in_style(r, user, r.pick(alternatives(talk.RECALL))), _put(r.pick(alternatives(talk.RECALLED)), user.fields)]
    return chat(*said, *_ending(r, user))


def _opening(r: Dice, user: User) -> tuple[str, str, bool]:
    """What the user says before the first question, how the model greets back, and whether it knows the user's name by now."""
    introduction = r.pick(user.introductions) if r.chance(0.4) else ""
    greetings = talk.POLITE_GREETINGS if user.style == "formal" else talk.GREETINGS
    hail = _put(r.pick(alternatives(greetings)), user.fields) if r.chance(0.35) else ""
    introduced = "{who}" in introduction
    if introduced and r.chance(0.5):
        greeted = r.pick(("Hello {who}!", "Hi {who}!", "Nice to meet you, {who}.", "Welcome, {who}!"))
    else:
        greeted = r.pick(alternatives(talk.GREETED_FIRST)) if hail and r.chance(0.6) else ""
    return _spaced(hail, _put(introduction, user.fields)), _put(greeted, user.fields), introduced


def _greeting(r: Dice, user: User, opening: str, introduced: bool) -> list[str]:
    replies = talk.GREETED_BY_NAME if introduced and r.chance(0.7) else talk.GREETED
    said = _spaced(opening, "" if opening and r.chance(0.5) else r.pick(alternatives(talk.JUST_GREETINGS)))
    return [in_style(r, user, said), _put(r.pick(alternatives(replies)), user.fields)]


def _turn(r: Dice, user: User, facts: Facts, topic: str, opening: str, greeted: str, first: bool) -> list:
    """What is said about one topic; now and then the user is mistaken first, doubts afterwards, or tries the calculator."""
    said: list = (mistaken(r, user, facts, opening) or []) if r.chance(0.08) else []
    if said:
        first, opening, greeted = False, "", ""
    exchange = about(r, user, facts, topic, opening, greeted)
    if not first:
        exchange[0] = _connected(r, user, exchange[0])
    said += exchange
    if topic == "calculator" and facts.built_in and r.chance(0.7):
        said += calculation(r, user)
    elif r.chance(0.12):
        said += again(r, user, facts.topics[topic], exchange[1])
    return said


def _connected(r: Dice, user: User, question: str) -> str:
    """A question that is not the first one seldom comes without a word before it."""
    if r.chance(0.25):
        return _spaced(in_style(r, user, r.pick(user.reactions)), question)
    small = question if re.match(r"I\b", question) else question[:1].lower() + question[1:]
    joined = _put(r.pick(alternatives(talk.AFTER)), {"q": small, "Q": question})
    return joined.lower() if question.islower() else joined


def _ending(r: Dice, user: User) -> list[str]:
    if r.chance(0.75):
        return []
    asked, replies = r.pick(((talk.THANKS, talk.WELCOME), (talk.GOODBYES, talk.FAREWELLS)))
    return [in_style(r, user, _put(r.pick(alternatives(asked)), user.fields)), r.pick(alternatives(replies))]
