"""Word problems of the tiny world in GSM8K's notation: one or two persons have things, things happen to them, and how many are there in the end?

A problem is a beginning and a chain of events, each with one or two steps of calculation. Where there are two persons, the question is about one of
them or about both, and it comes last: what matters and what does not has to be sorted out. That is what makes it hard; the calculator does the rest.
Two rules keep train and test apart: some chains of events are told in the test only, and so are some numbers for every other chain.
"""

import zlib
from collections.abc import Callable
from functools import cache
from math import gcd

from nanochat.execution import use_calculator
from nanochat.tinyworld import Dice, world
from tasks.common import calculator_parts, chat

CHAINS_HELD_OUT_ONE_IN = 5
NUMBERS_HELD_OUT_ONE_IN = 8
TWO_PERSONS = 0.05  # of the problems: a dial of difficulty
EVENTS = ((1, 2, 3, 4, 4, 5), (2, 2, 3, 3))  # how many happen to one person, or to two, by weight: another one
LARGEST = 400  # of the results
MOST_STEPS = 6  # more would not fit into the short rows that small models are trained on
THINGS = ("apples", "eggs", "nuts", "books", "stones", "buttons", "candles", "pears", "cookies", "plums", "feathers", "carrots", "flowers")
BOXES = ("bags", "boxes", "baskets", "bowls", "jars")


class Story:
    """A problem while it is made up: what has been told, how it is solved, and how many things each of the persons has by now."""

    def __init__(self, r: Dice, persons: int):
        self.r = r
        self.names = r.several(world().children, 2)
        self.words = {"things": r.pick(THINGS), "boxes": r.pick(BOXES)}
        self.counts = [0] * persons
        self.told: list[str] = []
        self.steps: list[tuple[int, str]] = []  # whose, and the line
        self.chain: list[str] = []
        self.numbers: list[int] = []

    def number(self, low: int, high: int) -> int:
        n = self.r.between(low, high)
        self.numbers.append(n)
        return n

    def about(self, i: int, text: str, **numbers: int) -> str:
        """The text with person i as {a} and the other one as {b}."""
        return text.format(a=self.names[i], b=self.names[1 - i], **self.words, **numbers)

    def tell(self, i: int, *variants: str, **numbers: int) -> None:
        self.told.append(self.about(i, self.r.pick(variants), **numbers))

    def step(self, i: int, words: str, expression: str) -> int:
        """A line of the solution, computed by what will compute it for the model as well."""
        value = use_calculator(expression)
        self.steps.append((i, f"{self.about(i, words)} {expression} = <<{expression}={value}>>{value}."))
        return int(value)


# --- how it begins: person i of the story gets the first things ------------------------------------------------------


def has_some(s: Story, i: int) -> None:
    s.counts[i] = s.number(5, 80)
    s.tell(i, "{a} has {n} {things}.", "{a} has got {n} {things}.", "In the morning {a} has {n} {things}.", n=s.counts[i])


def has_boxes(s: Story, i: int) -> None:
    k, m = s.number(2, 9), s.number(2, 12)
    s.tell(i, "{a} has {k} {boxes} with {m} {things} in each.", "{a} buys {k} {boxes} of {m} {things} each.",
           "{a} fills {k} {boxes}. Each holds {m} {things}.", k=k, m=m)  # fmt: skip
    s.counts[i] = s.step(i, "{a} begins with", f"{k}*{m}")


def collects_daily(s: Story, i: int) -> None:
    k, m = s.number(2, 7), s.number(3, 15)
    s.tell(i, "On each of {k} days {a} finds {m} {things}.", "{a} collects {m} {things} a day, and does so for {k} days.", k=k, m=m)
    s.counts[i] = s.step(i, "{a} begins with", f"{m}*{k}")


BEGINNINGS = (has_some, has_some, has_some, has_boxes, collects_daily)

# --- what may happen to person i -------------------------------------------------------------------------------------


def gets(s: Story, i: int) -> None:
    n = s.number(2, 40)
    s.tell(i, "{a} finds {n} more.", "Then {a} buys {n} more.", "{a} gets {n} more as a gift.", n=n)
    s.counts[i] = s.step(i, "{a} has", f"{s.counts[i]}+{n}")


def loses(s: Story, i: int) -> None:
    n = s.number(1, min(40, s.counts[i] - 1))
    s.tell(i, "{a} loses {n} of them.", "Then {a} sells {n} of them.", "{n} of those of {a} are broken.", n=n)
    s.counts[i] = s.step(i, "{a} has", f"{s.counts[i]}-{n}")


def hands_over(s: Story, i: int) -> None:
    """The one event that concerns both, if there are two."""
    n = s.number(1, min(40, s.counts[i] - 1))
    s.tell(i, "{a} gives {n} of them to {b}.", "{b} takes {n} of those of {a}.", "{b} gets {n} of them from {a}.", n=n)
    s.counts[i] = s.step(i, "{a} has", f"{s.counts[i]}-{n}")
    if len(s.counts) == 2:
        s.counts[1 - i] = s.step(1 - i, "{a} has", f"{s.counts[1 - i]}+{n}")


def gets_boxes(s: Story, i: int) -> None:
    k, m = s.number(2, 6), s.number(2, 10)
    s.tell(i, "Then {a} gets {k} {boxes} with {m} {things} in each.", "{k} {boxes} come for {a}, and in each there are {m} {things}.", k=k, m=m)
    more = s.step(i, "The {boxes} bring", f"{k}*{m}")
    s.counts[i] = s.step(i, "{a} has", f"{s.counts[i]}+{more}")


def gives_each(s: Story, i: int) -> None:
    k = s.number(2, 5)
    m = s.number(1, (s.counts[i] - 1) // k)
    s.tell(i, "{a} gives {m} of them to each of {k} neighbors.", "{k} neighbors come to {a}, and each takes {m}.", k=k, m=m)
    gone = s.step(i, "The neighbors take", f"{k}*{m}")
    s.counts[i] = s.step(i, "{a} has", f"{s.counts[i]}-{gone}")


def doubles(s: Story, i: int) -> None:
    s.tell(i, "The next day {a} has twice as many as before.", "Somebody doubles the {things} of {a}.")
    s.counts[i] = s.step(i, "{a} has", f"{s.counts[i]}*2")


def halves(s: Story, i: int) -> None:
    s.tell(i, "{a} sells half of them.", "In the night {a} loses half of the {things}.")
    s.counts[i] = s.step(i, "{a} has", f"{s.counts[i]}//2")


# what happens, and how many things a person must have for it
HAPPENINGS: tuple[tuple[Callable[[Story, int], None], Callable[[int], bool]], ...] = (
    (gets, lambda n: True), (loses, lambda n: n > 2), (hands_over, lambda n: n > 2), (hands_over, lambda n: n > 2), (gets_boxes, lambda n: True),
    (gives_each, lambda n: n > 10), (doubles, lambda n: n < 100), (halves, lambda n: n % 2 == 0),
)  # fmt: skip
IRRELEVANT = ("{b} has {n} marbles at home.", "{a} is {n} years old.", "It is {n} days until the feast.", "The way to the market is {n} miles long.")

# --- what is asked: each gives the answer ----------------------------------------------------------------------------


def how_many(s: Story, i: int) -> int:
    s.tell(i, "How many {things} does {a} have now?", "How many {things} does {a} have in the end?", "How many {things} has {a} got then?")
    return s.counts[i]


def together(s: Story, i: int) -> int:
    s.tell(i, "How many {things} do {a} and {b} have together?", "How many {things} do the two children have in all?")
    return s.step(i, "Together they have", f"{s.counts[i]}+{s.counts[1 - i]}")


def shares(s: Story, i: int) -> int:
    k = s.r.pick([k for k in range(2, 10) if s.counts[i] % k == 0])
    s.numbers.append(k)
    s.tell(i, "{a} shares all of them equally among {k} neighbors.", "{k} neighbors share those of {a}, and all get the same number.", k=k)
    s.told.append(s.about(i, "How many {things} does each of the neighbors get?"))
    return s.step(i, "Each gets", f"{s.counts[i]}//{k}")


def sells(s: Story, i: int) -> int:
    price = s.number(2, 9)
    s.tell(i, "{a} sells all of them for {p} cents each.", "At the market {a} gets {p} cents for each of them, and sells all.", p=price)
    s.told.append(s.about(i, "How many cents does {a} get?"))
    return s.step(i, "{a} gets", f"{s.counts[i]}*{price}")


# --- the whole -------------------------------------------------------------------------------------------------------


def problem(r: Dice, split: str, least_steps: int = 1) -> dict:
    """A conversation with a problem of the split. The test has more of the unseen chains than chance would give it, and less than all."""
    unseen_chain = split == "test" and r.chance(0.3)
    while True:
        s, steps, answer = told(r)
        if answer <= LARGEST and least_steps <= len(steps) <= MOST_STEPS and _is_of(s, split, unseen_chain):
            break
    parts = calculator_parts("\n".join([*steps, f"#### {answer}"]))
    return chat(" ".join(s.told), parts, steps=len(steps), chain=" ".join(s.chain), persons=len(s.counts))


def practice(r: Dice) -> dict:
    """For reinforcement learning: nothing is learned from what always goes well."""
    return problem(r, "train", least_steps=3)


def told(r: Dice) -> tuple[Story, list[str], int]:
    """A story, those lines of its solution that the question asks for, and the answer."""
    s = Story(r, persons=2 if r.chance(TWO_PERSONS) else 1)
    for i in range(len(s.counts)):
        _happen(s, r.pick(BEGINNINGS), i)
    if r.chance(0.2):
        s.told.append(s.about(0, r.pick(IRRELEVANT), n=r.between(2, 30)))
    for _ in range(r.pick(EVENTS[len(s.counts) - 1])):
        i = r.below(len(s.counts))
        _happen(s, r.pick([event for event, fits in HAPPENINGS if fits(s.counts[i])]), i)
    i = r.below(len(s.counts))
    ask = r.pick(_questions(s, i))
    answer = _happen(s, ask, i)
    return s, [line for whose, line in s.steps if whose == i or ask is together], answer


def _happen(s: Story, what: Callable[[Story, int], int | None], i: int) -> int | None:
    s.chain.append(f"{what.__name__}/{i}")
    return what(s, i)


def _questions(s: Story, i: int) -> list[Callable[[Story, int], int]]:
    n = s.counts[i]
    asking = [how_many] * 3 + [together] * 2 * (len(s.counts) - 1)
    return asking + [shares] * (n > 2 and gcd(n, 2520) > 1) + [sells] * (n < 60)


def _is_of(s: Story, split: str, unseen_chain: bool) -> bool:
    if is_chain_held_out(" ".join(s.chain)):
        return unseen_chain
    numbers_held_out = zlib.crc32(f"{s.chain} {s.numbers}".encode()) % NUMBERS_HELD_OUT_ONE_IN == 0
    return not unseen_chain and numbers_held_out == (split == "test")


@cache
def is_chain_held_out(chain: str) -> bool:
    """Of the longer chains: the short ones are so few that some events would hardly be seen."""
    return chain.count(" ") >= 4 and zlib.crc32(chain.encode()) % CHAINS_HELD_OUT_ONE_IN == 0
