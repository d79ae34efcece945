"""The embedded corpus: generated text about a small world, the same bytes on every machine, as much of it as you like.

Document i is a pure function of (split, i): it has its own random stream, so any range can be made alone, in any order, on any number of
processes. What is true in the world stands in tinyworld_facts, the stories in tinyworld_plots; this file writes documents out of them.
Held-out tellings (see tinyworld_facts) never appear: documents take their facts from World, which has none of them.

Only random() of Python's generator is used, because its sequence is promised to stay the same; choice() and shuffle() have changed before.
"""

import random
import zlib
from collections.abc import Callable, Iterator, Sequence
from functools import cache
from typing import NamedTuple

from nanochat import tinyworld_facts as facts
from nanochat import tinyworld_plots as plots
from nanochat.tinyworld_facts import ALPHABET, DAYS, MONTHS, PLANETS, RAINBOW, SEASONS, Telling, article, capital, listing, number_word

SPLITS = {"train": 0, "val": 1}


class Dice(random.Random):
    """A random stream that gives the same picks on every version of Python."""

    def below(self, n: int) -> int:
        return int(self.random() * n)

    def between(self, low: int, high: int) -> int:
        return low + int(self.random() * (high - low + 1))

    def pick(self, items: Sequence):
        return items[int(self.random() * len(items))]

    def chance(self, probability: float) -> bool:
        return self.random() < probability

    def several(self, items: Sequence, n: int) -> list:
        """n different items in random order."""
        pool = list(items)
        return [pool.pop(int(self.random() * len(pool))) for _ in range(min(n, len(pool)))]


class World(NamedTuple):
    """All that may be said in the corpus, by relation and subject: held-out tellings have been left out."""

    subjects: dict[str, tuple[str, ...]]
    says: dict[str, dict[str, list[str]]]  # statements: "The capital of France is Paris."
    asks: dict[str, dict[str, list[Telling]]]  # questions; only subjects that have any
    askable: dict[str, tuple[str, ...]]
    answers: dict[tuple[str, int], tuple[str, ...]]  # (relation, phrasing) → the different answers to that question, for multiple choice
    people: dict[str, list[str]]
    children: tuple[str, ...]
    adults: tuple[str, ...]


@cache
def world() -> World:
    says, asks, answers = {}, {}, {}
    for name, relation in facts.relations().items():
        says[name] = {subject: [] for subject in relation.facts}
        asks[name] = {}
        for t in facts.tellings(name):
            if t.held_out:
                continue
            if t.is_question:
                asks[name].setdefault(t.subject, []).append(t)
                answers.setdefault((name, t.phrasing), {})[t.answer] = None  # a dict keeps the order, a set would not
            else:
                says[name][t.subject].append(t.text)
    people = {row[0]: row for row in facts.rows(facts.PEOPLE)}
    children = tuple(name for name, row in people.items() if row[1] in ("girl", "boy"))
    adults = tuple(name for name in people if name not in children)
    return World(
        subjects={name: tuple(subjects) for name, subjects in says.items()},
        says=says,
        asks=asks,
        askable={name: tuple(subjects) for name, subjects in asks.items()},
        answers={key: tuple(different) for key, different in answers.items()},
        people=people,
        children=children,
        adults=adults,
    )


PLAIN = 0.35  # how often a fact is told in the plainest of its phrasings for sure: a small model learns from repetition first


def say(r: Dice, w: World, relation: str, subject: str | None = None) -> str:
    """A fact in one of the phrasings that the corpus may use."""
    forms = w.says[relation][subject or r.pick(w.subjects[relation])]
    return forms[0] if r.chance(PLAIN) else r.pick(forms)


def ask(r: Dice, w: World, relation: str, subject: str | None = None) -> Telling:
    """A question: its prompt is what is asked, its text the sentence that answers, its answer that answer alone."""
    by_subject = w.asks[relation]
    return r.pick(by_subject[subject if subject in by_subject else r.pick(w.askable[relation])])


# --- scenes and templates --------------------------------------------------------------------------------------------

PRONOUNS = {"girl": ("she", "her", "her", "herself"), "boy": ("he", "his", "him", "himself"),
            "woman": ("she", "her", "her", "herself"), "man": ("he", "his", "him", "himself")}  # fmt: skip


class Scene(dict):
    """The fields of one text. People bring their traits along; whatever else a template asks for is made up once and then kept."""

    def __init__(self, r: Dice, w: World):
        self.r, self.w = r, w
        hero, friend, third = r.several(w.children, 3)
        for prefix, name in (("", hero), ("f", friend), ("g", third), ("m", r.pick(w.adults))):
            _, kind, role, pet, pet_name, color, food, trait, hobby = w.people[name]
            he, his, him, himself = PRONOUNS[kind]
            self[prefix.upper() or "H"] = name
            for key, value in (("he", he), ("his", his), ("him", him), ("himself", himself), ("kind", kind), ("pet", pet), ("color", color),
                               ("food", food), ("trait", trait), ("hobby", hobby), ("job" if prefix == "m" else "age", role)):  # fmt: skip
                self[prefix + key] = value
            self[(prefix + "pet").capitalize()] = pet_name

    def __missing__(self, key: str) -> str:
        if key[0].isupper():  # {Color} is {color} with a capital
            made = capital(self[key[0].lower() + key[1:]])
        else:
            made = FIELDS[key](self.r, self)
        self.update(made if isinstance(made, dict) else {key: made})
        return self[key]


def _money(r: Dice, s: Scene) -> dict[str, str]:
    """The coins of the market story must add up, so they are thrown together."""
    coins, price, price2 = r.between(10, 20), r.between(2, 8), r.between(2, 12)
    left = coins - price
    ending = plots.COINS_ENOUGH if price2 < left else plots.COINS_EXACT if price2 == left else plots.COINS_SHORT
    fields = {"coins": str(coins), "price": str(price), "left": str(left), "price2": str(price2), "rest": str(left - price2)}
    s.update(fields)
    return fields | {"coinresult": r.pick(ending).format_map(s)}


def _shares(r: Dice, s: Scene) -> dict[str, str]:
    people, each = r.between(3, 8), r.between(2, 3)
    return {"people": str(people), "each": str(each), "share": str(people * each)}


def _equation(r: Dice, s: Scene) -> dict[str, str]:
    a, b, x = r.between(2, 5), r.between(1, 5), r.between(1, 10)
    return {"eq": f"{a}*x + {b} = {a * x + b}", "eq_a": str(a), "eq_b": str(b), "eq_x": str(x), "eq_cb": str(a * x), "eq_c": str(a * x + b),
            "eq_ax": f"{a}*x = {a * x}"}  # fmt: skip


def _number(r: Dice, s: Scene) -> dict[str, str]:
    n = r.between(3, 10)
    return {"number": number_word(n), "double": number_word(2 * n)}


def _riddles(r: Dice, s: Scene) -> dict[str, str]:
    (riddle, answer), (riddle2, answer2) = r.several(plots.RIDDLES, 2)
    return {"riddle": riddle, "riddle_answer": answer, "riddle2": riddle2, "riddle_answer2": answer2}


def _counting(r: Dice, s: Scene) -> dict[str, str]:
    n = r.pick((5, 10, 12))
    return {"count": str(n), "counting": ", ".join(number_word(i) for i in range(1, n + 1)).capitalize()}


def _places(r: Dice, s: Scene) -> dict[str, str]:
    return dict(zip(("place", "place2", "place3"), r.several(plots.PLACES, 3), strict=True))


def _days(r: Dice, s: Scene) -> dict[str, str]:
    days = r.several(DAYS, 3)
    return {"day": days[0], "day2": days[1], "day3": days[2], "tomorrow": DAYS[(DAYS.index(days[0]) + 1) % 7]}


def _schoolday(r: Dice, s: Scene) -> dict[str, str]:
    day = r.below(5)
    return {"schoolday": DAYS[day], "dayafter": DAYS[day + 1]}


def _animal(r: Dice, s: Scene) -> dict[str, str]:
    animal = r.pick(plots.STORY_ANIMALS)
    return {"animal": animal, "a_animal": article(animal), "eats": _food_of(animal)}


def _fabled(r: Dice, s: Scene) -> dict[str, str]:
    animal = r.pick(plots.FABLE_ANIMALS)
    return {"fabled": animal, "a_fabled": article(animal), "fabledeats": _food_of(animal)}


def _food_of(animal: str) -> str:
    return facts.relations()["eats"].facts[animal]["o"]


def _planet(r: Dice, s: Scene) -> dict[str, str]:
    planet = r.pick([p for p in PLANETS if p != "Earth"])
    return {"planet": planet, "planetfact": r.pick(plots.PLANET_FACTS[planet])}


def _country(r: Dice, s: Scene) -> dict[str, str]:
    country = r.pick(s.w.subjects["capital"])
    return {"country": country, "capital": facts.relations()["capital"].facts[country]["o"]}


def _clock(r: Dice, s: Scene) -> dict[str, str]:
    """The clock stops at one hour, school ends at the next, and by now it is later than that."""
    stopped, gap = r.between(1, 3), r.between(2, 3)
    fields = {"clock": stopped, "clocknext": stopped + 1, "clocknow": stopped + gap, "clockgap": gap}
    return {key: number_word(n) for key, n in fields.items()}


def _addition(r: Dice, s: Scene) -> dict[str, str]:
    """Two numbers above twenty, whose ones make more than nine and whose tens do not."""
    tens_a, tens_b, ones_a = r.between(2, 4), r.between(2, 4), r.between(1, 9)
    ones_b = r.between(10 - ones_a, 9)
    a, b, ones, tens = 10 * tens_a + ones_a, 10 * tens_b + ones_b, ones_a + ones_b, tens_a + tens_b
    return {"add_a": str(a), "add_b": str(b), "add_sum": str(a + b), "add_a1": str(ones_a), "add_b1": str(ones_b), "add_ones": str(ones),
            "add_one": str(ones - 10), "add_at": str(tens_a), "add_bt": str(tens_b), "add_t": str(tens), "add_tens": str(tens + 1)}  # fmt: skip


def _forecast(r: Dice, s: Scene) -> dict[str, str]:
    (sky, news), (sky2, news2) = r.several(plots.FORECASTS, 2)
    return {"sky": sky, "skynews": news, "sky2": sky2, "skynews2": news2}


def _shopping(r: Dice, s: Scene) -> dict[str, str]:
    return dict(zip(("item", "item2", "item3", "item4"), r.several(plots.SHOPPING, 4), strict=True))


def _letter(r: Dice, s: Scene) -> str:
    return r.pick(("Hello! I live in {capital}. Who will find this?", "Greetings from {capital}! Please write to me.",
                   "I am a child from {capital}, and I am {age} years old. Who are you?")).format_map(s)  # fmt: skip


# Whatever a template may ask for beside the people, and who makes it up. Fields that must agree with each other have one maker.
FIELDS: dict[str, Callable[[Dice, Scene], str | dict[str, str]]] = {
    **dict.fromkeys(("coins", "price", "left", "price2", "rest", "coinresult"), _money),
    **dict.fromkeys(("people", "each", "share"), _shares),
    **dict.fromkeys(("eq", "eq_a", "eq_b", "eq_x", "eq_cb", "eq_c", "eq_ax"), _equation),
    **dict.fromkeys(("number", "double"), _number),
    **dict.fromkeys(("riddle", "riddle_answer", "riddle2", "riddle_answer2"), _riddles),
    **dict.fromkeys(("count", "counting"), _counting),
    **dict.fromkeys(("place", "place2", "place3"), _places),
    **dict.fromkeys(("day", "day2", "day3", "tomorrow"), _days),
    **dict.fromkeys(("schoolday", "dayafter"), _schoolday),
    **dict.fromkeys(("animal", "a_animal", "eats"), _animal),
    **dict.fromkeys(("fabled", "a_fabled", "fabledeats"), _fabled),
    **dict.fromkeys(("planet", "planetfact"), _planet),
    **dict.fromkeys(("country", "capital"), _country),
    **dict.fromkeys(("clock", "clocknext", "clocknow", "clockgap"), _clock),
    **dict.fromkeys(("add_a", "add_b", "add_sum", "add_a1", "add_b1", "add_ones", "add_one", "add_at", "add_bt", "add_t", "add_tens"), _addition),
    **dict.fromkeys(("sky", "skynews", "sky2", "skynews2"), _forecast),
    **dict.fromkeys(("item", "item2", "item3", "item4"), _shopping),
    "month": lambda r, s: r.pick(MONTHS),
    "date": lambda r, s: str(r.between(1, 28)),
    "hour": lambda r, s: number_word(r.between(2, 7)),
    "weather": lambda r, s: r.pick(plots.WEATHERS),
    "mood": lambda r, s: r.pick(plots.MOODS),
    "spot": lambda r, s: r.pick(plots.SPOTS),
    "spot2": lambda r, s: r.pick([spot for spot in plots.SPOTS if spot != s["spot"]]),
    "a_junk": lambda r, s: article(r.pick(plots.JUNK)),
    "a_junk2": lambda r, s: article(r.pick([junk for junk in plots.JUNK if article(junk) != s["a_junk"]])),
    "thing": lambda r, s: r.pick(plots.THINGS),
    "goods": lambda r, s: r.pick(plots.GOODS),
    "a_color": lambda r, s: article(s["color"]),
    "a_mcolor": lambda r, s: article(s["mcolor"]),
    "a_pet": lambda r, s: article(s["pet"]),
    "petkind": lambda r, s: s["pet"],
    "bird": lambda r, s: r.pick(plots.BIRDS),
    "mgift": lambda r, s: plots.GIFTS[s["mjob"]],
    "fplaypart": lambda r, s: plots.PLAY_PARTS[s["fhobby"]],
    "moral": lambda r, s: r.pick(plots.MORALS),
    "letter": _letter,
    "schoolfact": lambda r, s: say(r, s.w, r.pick(SCHOOL_RELATIONS)),
}

SCHOOL_RELATIONS = ("capital", "continent", "symbol", "opposite", "eats", "young", "amount", "planet number", "next planet", "month length", "sides")


@cache
def _steps(template: str) -> tuple[tuple[bool, tuple[str, ...]], ...]:
    """A template, parsed: for each line whether it may be left out, and its variants. An empty line has the variant ''."""
    lines = []
    for line in template.splitlines():
        optional = line.startswith("? ")
        variants = tuple(v.removeprefix("? ").strip() for v in line.split(" | "))
        lines.append((optional, variants))
    return tuple(lines)


def render(r: Dice, scene: Scene, template: str, line_end: str = " ") -> str:
    """Tell a template once. Lines of a paragraph are joined by line_end."""
    parts, start = [], True
    for optional, variants in _steps(template):
        if variants == ("",):
            parts.append("\n\n")
            start = True
        elif not (optional and r.chance(0.5)):
            parts.append(("" if start else line_end) + r.pick(variants).format_map(scene))
            start = False
    return "".join(parts)


# --- documents -------------------------------------------------------------------------------------------------------


def story(r: Dice, w: World) -> str:
    scene = Scene(r, w)
    title, _, body = r.pick(plots.STORIES).partition("\n\n")
    text = render(r, scene, body)
    return render(r, scene, title) + "\n\n" + text if r.chance(0.5) else text


def how_to(r: Dice, w: World) -> str:
    title, _, body = r.pick(plots.HOWTOS).partition("\n")
    scene = Scene(r, w)
    return title.format_map(scene) + "\n" + render(r, scene, body, "\n")


def letter(r: Dice, w: World) -> str:
    template = r.pick(plots.LETTERS)
    return render(r, Scene(r, w), template, "\n" if template.startswith(("Dear {F}", "To everyone")) else " ")


def entry(r: Dice, w: World) -> str:
    """A page of the encyclopaedia: everything that is known about one thing, in changing order and words."""
    relations, related = r.pick(ENTRIES)
    subject = r.pick(w.subjects[relations[0]])
    known = [name for name in relations if subject in w.says[name]]
    first, rest = known[0], r.several(known[1:], len(known) - 1)
    sentences = [say(r, w, name, subject) for name in [first, *rest]]
    if related:
        sentences.append(say(r, w, r.several(related, 1)[0]))
    extra = plots.PLANET_FACTS.get(subject, ())
    text = " ".join([*sentences, *r.several(extra, len(extra))])
    return f"{capital(subject)}\n\n{text}" if r.chance(0.4) else text


ENTRIES = (
    (("capital", "continent", "language"), ()),
    (("capital", "continent", "language"), ()),
    (("symbol", "state", "atomic number"), ()),
    (("class", "eats", "lives", "young", "sound", "legs"), ("bigger",)),
    (("eats", "class", "lives", "young", "sound", "legs"), ()),
    (("planet number", "next planet"), ()),
    (("does", "works"), ("tool for", "place for")),
    (("month number", "next month", "previous month", "month length"), ()),
    (("next day", "previous day", "tomorrow"), ("amount",)),
    (("favorite color", "pet", "hobby", "favorite food", "profession"), ()),
    (("pet", "favorite food", "hobby", "favorite color", "profession"), ()),
    (("spell", "length", "first letter", "last letter"), ()),
)

# How often a relation is asked or told, by weight: the hard ones and those with many facts more often.
WEIGHTS = {
    "capital": 12, "continent": 3, "language": 2, "symbol": 8, "atomic number": 2, "state": 1, "opposite": 16, "eats": 3, "lives": 2, "young": 2,
    "sound": 2, "legs": 1, "class": 2, "bigger": 3, "color": 4, "past": 3, "plural": 3, "kind": 2, "material": 2, "does": 1, "works": 1, "amount": 2,
    "sides": 1, "part for": 1, "tool for": 2, "place for": 1, "tomorrow": 2, "next day": 2, "previous day": 1, "next month": 2, "previous month": 2,
    "month number": 1, "month length": 1, "planet number": 1, "next planet": 1, "next number": 4, "next letter": 4, "in words": 2, "spell": 4,
    "length": 3, "first letter": 2, "last letter": 2, "count letter": 3, "sum": 8, "difference": 5, "product": 5, "quotient": 3, "equation": 12,
    "larger": 3, "pet": 2, "favorite color": 1, "favorite food": 1, "hobby": 1, "profession": 1,
}  # fmt: skip


@cache
def _deck() -> tuple[str, ...]:
    return tuple(name for name, weight in WEIGHTS.items() for _ in range(weight))


def remarks(r: Dice, w: World) -> str:
    """Several facts, of one kind or mixed."""
    n = r.between(3, 8)
    if r.chance(0.5):
        name = r.pick(_deck())
        lines = [say(r, w, name, subject) for subject in r.several(w.subjects[name], n)]
    else:
        lines = [say(r, w, r.pick(_deck())) for _ in range(n)]
    return r.pick((" ", "\n")).join(line if line[-1] in ".!?" else line + "." for line in lines) if r.chance(0.8) else "\n".join(lines)


def quiz(r: Dice, w: World) -> str:
    """Questions and answers, in the forms in which people write them down."""
    q, a, gap = r.pick((("Question: ", "Answer: ", "\n\n"), ("Q: ", "A: ", "\n"), ("", "", "\n"), ("", "", "\n\n")))
    one_kind = r.pick(_deck()) if r.chance(0.4) else None
    pairs = []
    for _ in range(r.between(2, 6)):
        t = ask(r, w, one_kind or r.pick(_deck()))
        answer = t.text if r.chance(0.6) else alone(t) + ("." if q == "" else "")
        pairs.append(f"{q}{t.prompt}{chr(10) if q else ' '}{a}{answer}")
    return gap.join(pairs)


def alone(t: Telling) -> str:
    """The answer by itself, with a capital, unless it is about letters."""
    return t.answer if t.relation in ("spell", "first letter", "last letter", "next letter") else capital(t.answer)


# What multiple choice is about: relations with few and short answers. The more words there are to look up, the longer a model takes to learn that
# words can be looked up (dev/LOG.md).
CHOICE = ("capital", "continent", "language", "color", "favorite color", "legs", "class", "eats", "sides", "next day", "previous day", "tomorrow")


@cache
def _choosable() -> tuple[str, ...]:
    return tuple(name for name in _deck() if name in CHOICE)


def choices(r: Dice, w: World) -> str:
    """Multiple choice. Where the question comes after the options, the letter of what was asked just now is soon found; where it stands among them it
    is a little further back; and where it comes before them all, as in real tests, nobody learns it without the other two."""
    return "\n\n".join(_choice(r, w) for _ in range(r.between(1, 3)))


def _choice(r: Dice, w: World) -> str:
    t = ask(r, w, r.pick(_choosable()))
    others: dict[str, Telling] = {}  # by their answers: what is asked in the same words about other subjects
    for subject in r.several(w.askable[t.relation], 40):
        for other in w.asks[t.relation][subject]:
            if other.phrasing == t.phrasing and other.answer != t.answer and len(others) < 3:
                others.setdefault(other.answer, other)
    options = r.several([t, *others.values()], 4)
    letters = {option.answer: letter for option, letter in zip(options, "ABCD", strict=False)}
    lines = [f"- {alone(option)}={letters[option.answer]}" for option in options]
    if r.chance(0.4):
        mark, rounds = r.pick(("", "", "Answer:\n")), r.between(1, 2)
        asked = [option for _ in range(rounds) for option in r.several(options, 4)]
        return "\n".join([*lines, "", *(f"{_question(r, option)}\n{mark}{letters[option.answer]}" for option in asked)])
    lines.insert(r.pick((0, 0, 0, 1, 2, 3, 4)), f"Multiple Choice question: {_question(r, t)}")
    answer = f"Answer:\n{letters[t.answer]}" if r.chance(0.75) else f"Answer: {alone(t)}"
    more = [f"{other.prompt}\n{letters[other.answer]}" for other in r.several(list(others.values()), r.between(1, 3))]
    return "\n".join([*lines, "", answer, *more])


def _question(r: Dice, t: Telling) -> str:
    """One that has to be known, or only to be looked for."""
    return r.pick(("Which of these is {}?", "Where is {}?")).format(alone(t)) if r.chance(0.3) else t.prompt


def memory(r: Dice, w: World) -> str:
    """Games of saying again what was said before. A model that never needs to look back for a word does not learn how (arXiv 2209.11895), and then
    copies the wrong name into an answer."""
    return r.pick((packing, echo, echo))(r, w)


@cache
def _words() -> tuple[tuple[str, ...], tuple[str, ...]]:
    """Things to remember: any words, and what multiple choice is answered with."""
    w = world()
    words = [word for name in ("capital", "eats", "color", "opposite", "plural", "young", "spell") for word in w.subjects[name]]
    answers = [alone(t) for name in CHOICE for told in w.asks[name].values() for t in told]
    return tuple(dict.fromkeys(words)), tuple(dict.fromkeys(answers))


def packing(r: Dice, w: World) -> str:
    """The game of the growing list."""
    names, items = r.several(w.children, r.between(2, 4)), r.several(r.pick(_words()), r.between(5, 9))
    return "\n".join(f"{names[turn % len(names)]} packs: {', '.join(items[:turn])}." for turn in range(1, len(items) + 1))


def echo(r: Dice, w: World) -> str:
    """A row, and the same row again. With rows of letters, of which there are few, that is noticed soonest."""
    items = r.several(r.pick(_words()), r.between(6, 20)) if r.chance(0.4) else [r.pick(ALPHABET.upper()) for _ in range(r.between(8, 26))]
    if r.chance(0.3):
        return "\n".join([" ".join(items)] * 3)
    names = r.several(w.children, r.between(2, 3))
    return "\n".join(f"{name} {verb}: {' '.join(items)}" for name, verb in zip(names, ("reads", "repeats", "says again"), strict=False))


def labels(r: Dice, w: World) -> str:
    """A few things with a letter each, again and again."""
    pairs = _labelled(r)
    form, gap = r.pick((("{}={}", " "), ("{}={}", "\n"), ("- {}={}", "\n")))
    return gap.join(form.format(*pair) for pair in pairs + _again(r, pairs))


def where(r: Dice, w: World) -> str:
    """Likewise, but the letters are asked for."""
    pairs = _labelled(r)
    form = r.pick(("{}?\n{}", "Where is {}?\n{}", "Which of these is {}?\n{}", "And {}?\n{}", "Where is {}?\nAnswer:\n{}"))
    return "\n".join("- {}={}".format(*pair) for pair in pairs) + "\n\n" + "\n".join(form.format(*pair) for pair in _again(r, pairs))


def _labelled(r: Dice) -> list[tuple[str, str]]:
    n = r.pick((2, 2, 3, 3, 4, 5))
    letters = r.several(ALPHABET.upper()[: r.pick((n, 8, 26))], n)
    return list(zip(r.several(_words()[r.pick((0, 1, 1))], n), letters, strict=True))


def _again(r: Dice, pairs: list[tuple[str, str]]) -> list[tuple[str, str]]:
    return [pair for _ in range(r.between(4, 8)) for pair in r.several(pairs, len(pairs))]


def dialogue(r: Dice, w: World) -> str:
    """Two people of the village meet and talk, mostly about what they know."""
    s = Scene(r, w)
    partner = r.pick("FM")
    s["Theirpet"] = s["Fpet" if partner == "F" else "Mpet"]
    speakers = (s["H"], s[partner])
    greeting, replies = r.pick(OPENINGS)
    lines = [greeting.format_map(s), r.pick(replies).format_map(s)]
    one_kind = r.pick(_deck())
    for _ in range(r.between(1, 4)):
        t = ask(r, w, one_kind if r.chance(0.5) else r.pick(_deck()))
        lines += [r.pick(LEAD_INS) + t.prompt, t.text + (r.pick(FLOURISHES) if r.chance(0.3) else "")]
        if t.relation in FOLLOW_UPS and r.chance(0.3):
            other = r.pick([s for s in w.subjects[t.relation] if not facts.is_held_out(t.relation, s, facts.FOLLOW_UP)])
            lines += [r.pick(("And what about {}?", "And {}?", "What about {}?")).format(other), say(r, w, t.relation, other)]
    lines += [r.pick(THANKS), r.pick(GOODBYES).format_map(s)]
    if r.chance(0.5):
        return "\n".join(f"{speakers[i % 2]}: {line}" for i, line in enumerate(lines))
    return "\n".join(_spoken(r, speakers[i % 2], line) for i, line in enumerate(lines))


FOLLOW_UPS = ("capital", "continent", "language", "symbol", "opposite", "color", "past", "plural", "favorite color", "favorite food", "hobby")


def _spoken(r: Dice, speaker: str, line: str) -> str:
    verb = "asked" if line.endswith("?") else r.pick(("said", "said", "said", "answered"))
    quoted = line[:-1] + "," if line.endswith(".") else line
    return f'"{quoted}" {verb} {speaker}.'


OPENINGS = (
    ("Good morning!", ("Good morning! How can I help you?", "Good morning to you too!", "Good to see you!")),
    ("Hello! How are you?", ("I am fine, thank you.", "Very well, and you look well too.", "I am a little tired, but I am fine.")),
    ("Good evening. Do you have a moment?", ("Of course. What would you like to know?", "For you, always.", "Yes. Sit down, please.")),
    ("Hello! I am learning for school.", ("That is good. Ask me what you like.", "Can I help you?", "Then let us practice.")),
    ("Hi! It is a {weather} day today.", ("Yes, it is.", "It is. What are you doing?", "I like days like this.")),
    ("Hello! Are you going to the {spot}?", ("Yes. Come along!", "No, I have time. What is it?", "Yes, but I am in no hurry.")),
    (
        "Good to see you! How is {Theirpet}?",
        ("{Theirpet} is fine, thank you.", "{Theirpet} is asleep. What can I do for you?", "Very well! And {Pet}?"),
    ),
)
LEAD_INS = ("", "", "", "I have a question. ", "Tell me something. ", "I was wondering. ", "One more question. ", "Can you help me? ")
FLOURISHES = (" I am sure of that.", " I learned it at school.", " That is easy.", " I read it in a book.", " Everybody in Fernhill knows that.")
THANKS = ("Thank you!", "Thank you, that helps me.", "I did not know that. Thank you!", "You know so much!", "Now I remember. Thanks!")
GOODBYES = (
    "You are welcome.",
    "See you on {day}!",
    "Come again soon.",
    "It was a pleasure.",
    "Goodbye, and greetings to {Pet}!",
    "See you tomorrow!",
)


def word_problem(r: Dice, w: World) -> str:
    """A little arithmetic in a situation, solved step by step."""
    s = Scene(r, w)
    h, f, he, goods = (
        s["H"],
        s["F"],
        s["he"],
        r.pick(("apples", "eggs", "nuts", "books", "stones", "buttons", "candles", "pears", "cookies")),
    )
    form = r.below(6)
    a, b, c = r.between(2, 20), r.between(2, 10), r.between(2, 9)
    if form == 0:
        task = f"{h} has {a} {goods}. {f} gives {s['him']} {b} more. How many {goods} does {h} have now?"
        steps, answer = [f"{a} + {b} = {a + b}"], a + b
    elif form == 1:
        a += b
        task = f"There are {a} {goods} in a basket. {h} takes {b} of them. How many {goods} are left?"
        steps, answer = [f"{a} - {b} = {a - b}"], a - b
    elif form == 2:
        task = f"{h} has {b} boxes. In each box there are {c} {goods}. How many {goods} are there in all?"
        steps, answer = [f"{b} * {c} = {b * c}"], b * c
    elif form == 3:
        task = f"{b * c} {goods} are shared among {b} children. How many {goods} does each child get?"
        steps, answer = [f"{b * c} / {b} = {c}"], c
    elif form == 4:
        task = f"{h} buys {b} bags with {c} {goods} each. Then {he} finds {a} more. How many {goods} does {h} have?"
        steps, answer = [f"{b} * {c} = {b * c}", f"{b * c} + {a} = {b * c + a}"], b * c + a
    else:
        a = r.between(1, b * c - 1)
        task = f"On {b} days {h} collects {c} {goods} a day. {capital(he)} gives {a} of them to {f}. How many {goods} does {h} keep?"
        steps, answer = [f"{b} * {c} = {b * c}", f"{b * c} - {a} = {b * c - a}"], b * c - a
    return (
        task
        + r.pick(("\n", " "))
        + ". ".join(steps)
        + r.pick((f". The answer is {answer}.", f". So the answer is {answer}.", f".\nAnswer: {answer}"))
    )


def sums(r: Dice, w: World) -> str:
    """A page of exercises with the answers."""
    relations = r.pick((("sum", "difference"), ("product",), ("product", "quotient"), ("equation",), ("equation",), ("equation",), ("equation",), ("larger",),
                        ("sum", "difference", "product", "quotient")))  # fmt: skip
    lines = [say(r, w, r.pick(relations)) for _ in range(r.between(4, 9))]
    return "\n".join(lines)


def solving(r: Dice, w: World) -> str:
    """An equation, solved step by step, and what comes of it."""
    a, b, x = r.between(2, 5), r.between(1, 5), r.between(1, 10)
    c, equation = a * x + b, f"{a}*x + {b} = {a * x + b}"
    start = r.pick((f"Let us think about {equation}.", f"We look for x in {equation}.", f"Here is an equation: {equation}."))
    steps = r.pick((
        f"We take {b} from both sides: {c} - {b} = {a * x}, so {a}*x = {a * x}. Then we divide by {a}: {a * x} / {a} = {x}, so x = {x}.",
        f"Without the {b} it is {a}*x = {a * x}. And {a * x} / {a} = {x}.",
        f"Which number times {a} makes {a * x}? It is {x}, because {a} * {x} = {a * x}. And {a * x} + {b} = {c}.",
    ))  # fmt: skip
    return f"{start} {steps} {say(r, w, 'equation', equation)}"


def times_table(r: Dice, w: World) -> str:
    n = r.between(2, 10)
    return f"The table of {number_word(n)}:\n" + "\n".join(f"{i} * {n} = {i * n}" for i in range(1, 11))


def sequence(r: Dice, w: World) -> str:
    """Things that come in an order."""
    n, step = r.between(1, 12), r.between(1, 10)
    start = r.between(0, 8)
    numbers = [step * i for i in range(1, n + 4)]
    letters = ALPHABET[start : start + r.between(5, 18)]
    day, month = r.below(7), r.below(12)
    days, months = DAYS[day:] + DAYS[:day], MONTHS[month:] + MONTHS[:month]
    planets = ", ".join(PLANETS[:-1]) + ", " + PLANETS[-1]
    return r.pick((
        f"The planets of the solar system are: {planets}.",
        f"The planets of the solar system are: {planets}. There are eight of them, and {r.pick(PLANETS)} is one of them.",
        f"From the sun outward, the planets are {listing(PLANETS)}.",
        f"Which planets go around the sun? {listing(PLANETS)}.",
        f"The days of the week are: {', '.join(DAYS)}.",
        f"If we begin with {days[0]}, the days are {listing(days)}.",
        f"{days[0]} comes first, then {', then '.join(days[1:])}, and then {days[0]} again.",
        f"The months of the year are: {', '.join(MONTHS)}.",
        f"Beginning with {months[0]}, the next months are {', '.join(months[1:r.between(4, 11)])}.",
        f"The seasons are: {', '.join(SEASONS)}. After winter comes spring again.",
        f"The colors of the rainbow are: {', '.join(RAINBOW)}.",
        f"Counting by {number_word(step)}: {', '.join(map(str, numbers))}.",
        f"Counting from {n}: {', '.join(str(n + i) for i in range(step + 4))}.",
        f"Counting down from {n + 5}: {', '.join(str(i) for i in range(n + 5, -1, -1))}.",
        f"{', '.join(number_word(n + i) for i in range(step + 4)).capitalize()}.",
        f"The alphabet: {', '.join(ALPHABET)}.",
        f"Letters in order: {', '.join(letters)}.",
        f"A butterfly begins as an egg. From the egg comes a caterpillar, the caterpillar becomes a chrysalis, and out of the chrysalis flies a butterfly. {say(r, w, 'eats', 'butterfly')}",
        f"A frog begins as an egg in the water. The egg becomes a tadpole, the tadpole grows legs, and at last it is a frog. {say(r, w, 'lives', 'frog')}",
        f"From the smallest to the biggest: {', '.join(r.pick((('ant', 'mouse', 'cat', 'sheep', 'cow', 'elephant'), ('bee', 'frog', 'rabbit', 'wolf', 'horse', 'whale'))))}.",
    ))  # fmt: skip


def spelling(r: Dice, w: World) -> str:
    """Words taken apart: their letters, counted and named."""
    lines = []
    for word in r.several(w.subjects["spell"], r.between(1, 4)):
        lines.append(say(r, w, "spell", word))
        relations = r.several(("length", "first letter", "last letter", "count letter"), r.between(1, 3))
        for name in relations:
            lines.append(say(r, w, name, f"{r.pick(word)} in {word}" if name == "count letter" else word))
    return " ".join(lines)


def counting(r: Dice, w: World) -> str:
    """How often a letter occurs in a word, counted letter by letter."""
    word = r.pick(w.subjects["spell"])
    c = r.pick(word)
    total, steps = 0, []
    for x in word:
        total += x == c
        steps.append(f"{x}: {total}" if x == c else x)
    times = number_word(total)
    return f"Let us count the {c} in the word {word}: {', '.join(steps)}. So the number of {c} in {word} is {times}."


KINDS: tuple[tuple[Callable[[Dice, World], str], int], ...] = (
    (story, 6), (entry, 16), (remarks, 20), (quiz, 13), (choices, 30), (memory, 12), (labels, 4), (where, 6), (dialogue, 9), (word_problem, 7), (sums, 9),
    (times_table, 1), (solving, 3), (sequence, 6), (spelling, 4), (counting, 2), (how_to, 4), (letter, 5),
)  # fmt: skip


# Until which document every other one is a game: first to find what has a letter, then to find it when asked. Multiple choice builds on both, and in a
# corpus without order a small model gets to neither.
LESSONS = ((12_000, labels), (21_000, where))
FEW_TEXTS = (sequence, times_table, solving, counting)  # kinds with so few different texts that validation would only repeat the training text


@cache
def _kinds(split: str) -> tuple[Callable[[Dice, World], str], ...]:
    return tuple(kind for kind, weight in KINDS for _ in range(weight) if split == "train" or kind not in FEW_TEXTS)


def document(index: int, split: str = "train") -> str:
    """Document number `index` of a split. Splits share the world and its tellings, but no random stream."""
    r = Dice(index * len(SPLITS) + SPLITS[split])
    lesson = next((game for end, game in LESSONS if index < end), None)
    if lesson and split == "train" and r.chance(0.5):
        return lesson(r, world())
    return r.pick(_kinds(split))(r, world())


def fingerprint() -> str:
    """Changes when the world does: a corpus made by an older version of this file is then made again."""
    return f"{zlib.crc32(chr(10).join(document(150 * i) for i in range(200)).encode()):08x}"


def documents(split: str = "train", start: int = 0, stop: int | None = None) -> Iterator[str]:
    while stop is None or start < stop:
        yield document(start, split)
        start += 1
