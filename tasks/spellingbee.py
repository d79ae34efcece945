"""Spelling and counting letters, which models that read in tokens find hard: they never see a letter unless they learn what a token is made of.

SpellingBee asks how often a letter occurs in a word; the answer spells, counts by hand, and checks the count with the calculator. SimpleSpelling
only spells, which is most of the difficulty. Train and test never meet: a pair of word and letter, and for SimpleSpelling a word, belongs to one of
the two by rule, and their random streams are different ones. (The embedded corpus counts letters too, and knows no such rule: in every seventh
question of the test it is a letter and a word that were counted there, told in another way.)
"""

import os
import re
import zlib
from pathlib import Path

from nanochat.common import UserError
from nanochat.tinyworld import Dice
from tasks.common import Task, chat, same_final_answer

WORDS = """
about above acorn across afraid after afternoon again almost alone along already always among angry animal animals another answer answered anymore
anything appear appears apple apples around asked asleep atomic autumn away baby back bags bake baker ball balloon banana band barn basket baskets
beach beans bear beavers became because becomes beekeeper been before began begin begins behind bell belong belongs berry beside best better between
bicycle bigger biggest bird birthday black blacksmith blanket blue board boards boat boats book books both bottle bottom boxes branch branches brave
bread breakfast breath bridge bright bring broke broken brother brought brown bucket building built butter butterfly button buttons buys cabbage
cake calf call called came candle candles cannot capital card care careful carpenter carpet carried carrot carrots carry castle caught cave chair
cheese chemical chemists cherry child children choose church circle city clever climbed climbing clinic clock close closed cloud clouds coat coffee
coins cold collecting collects color colors come comes coming compass continent cook cookies copper costs cotton could count counted country course
cousin covered creak cried cross crow daisy dance dark days deep deer diary difference dinner divide divided doctor does done donkey door dough down
draw drawing drew drum duck each eagle easy eats egg eggs eight eighteen element elephant eleven empty ends engine enjoys enough equation even
evening every everyone everything eyes fallen family famous farmer fast father favorite feast feather feed feel feet fell felt fifteen find finds
fine fire first fish fisher five flat flew floor flour flower flowers flute followed follows food foot forest forget forgot forgotten forty found
four fourteen free friend friends frog from front fruit full garden gardener gave gentle gets giraffe give gives glass goat goats goes going gold
gone good goose government grain grape grass great green greetings grew ground groups guitar half halves hammer hand hands happened happy harbor
hard harder head heads hear heard heavy hedgehog held hello help helped helps here high higher hill hole home honey horse hour hours house hundred
hung hurry insects into iron island jacket jokes jumped just keep kept key kicked kind king kitchen kite kitten knew knife knight knitting knocked
know knows ladder lake lamp language lantern last late later laugh laughed leaf learn learned learning leather leave leaves left legs lemon less
letter letters librarian library lies lifted light like likes line lion list listened little live lived lives lizard loaves lock long look looked
looking looks lost loud louder love loved lunch made make makes mammal mammals many maps market material meadow means meet melon metal middle milk
mill miller mine minus minutes mirror moment monkey month months moon moral more morning most mother mountain mouse move moved much mushroom music
must name named narrow near need needle nest never next night nine nineteen nobody noise noon north nose note nothing number nuts ocean often once
ones onion only onto open opened opposite orange other outside outward oven over paid paint painted paper parrot pass past path paw peach pear pears
pebble pencil people pepper periodic piano picked picking picnic picture piece pieces pigeon pink place plane planet planets plants plate play
played playing please pleasure plum plural plus pocket points post potato potatoes potter practice prince product promise pulled puppy purple pushed
puzzle puzzles queen question quick quiet rabbit race races rain rainbow rained read reading ready recipe remember remembered rest reverse ribbon
right ring ripe rise river road robin rocket roof room root rope rose round rubber ruler running safe salmon salt same sand sawed says school seat
second seconds secret seed seeds seven seventeen shadow share shared shed sheep shelf shell shepherd shines shirt shoe shoes shook short should show
showed side sides sign silver sister sitting sixteen sixty sled sleep slept slipper slow slowly small smaller smiled snow soccer soft soil solar
solution some somebody something soon sorry sound soup spade sparrow speak spell spelled spider splash spoon spring square squirrel stairs stand
stands star stars start stay step stepped steps stew still stone stones stood stop stopped storm story stove straight strawberry stream street
strength string strong stronger sugar summer sunny supper sure swam swan sweater swim symbol system table tadpole tail tailor take takes talk talked
tall teach teacher teeth telescope tell telling tens tense than thank thanks their there these thick thing things think third thirteen thirty this
thought thousand three through thunder tied tiger time times tired today together told tomato tomorrow took tool toward tower train treasure tree
trees triangle tried tulip turn turned turtle twelve twenty twice umbrella uncle under until valley value very village violin visit wait waited walk
walked wall want wanted wants warm watch water weather week weeks welcome well went west whale what wheel wheels when where which while whisker
whistle white whole whose wide wind windmill window windy wing wings winter without woke wolf wondering wood wooden wool word words work worked
works world would write written wrong wrote year years yeast yellow yesterday yogurt young your zebra zipper"""
LARGER_LIST = Path("/usr/share/dict/words")
USABLE = re.compile(r"[a-z]{3,14}")
TEST_ONE_IN = 8
ALPHABET = "abcdefghijklmnopqrstuvwxyz"

# {word} and {letter} come as they are or in quotes. How a question is asked, in capitals or without its question mark, is thrown on top of these.
QUESTIONS = """How many {letter} are in the word {word}?
How many {letter} are in {word}?
How many {letter} are there in {word}?
How many times does {letter} appear in {word}?
How many times is the letter {letter} in {word}?
How often does {letter} occur in the word {word}?
How often do you find {letter} in {word}?
Count the {letter} in {word}.
Count how many {letter} there are in the word {word}.
Please count the letter {letter} in {word}.
Can you count the {letter} in {word}?
In {word}, how many {letter} are there?
In the word {word}, how often is the letter {letter} used?
What is the number of {letter} in {word}?
What is the count of the letter {letter} in the word {word}?
Tell me how many {letter} {word} has.
Tell me how often {letter} stands in {word}.
Does {word} have any {letter}, and how many?
I would like to know how many {letter} are in {word}.
Find the number of times that {letter} is in {word}."""
SPELLING_QUESTIONS = """Spell the word {word}.
Spell {word}.
Please spell {word}.
How do you spell {word}?
How is the word {word} spelled?
Can you spell the word {word}?
What are the letters of {word}?
Spell {word} letter by letter.
Which letters is the word {word} made of?
Give me the letters of {word}, one by one."""


class SpellingBee(Task):
    """size conversations of the split train or test. words: see list_of_words."""

    def __init__(self, size: int = 1000, split: str = "train", words: str | Path | None = None, **view):
        super().__init__(**view)
        assert split in ("train", "test"), split
        self.size, self.split, self.words = size, split, list_of_words(words)
        self.doubled = [word for word in self.words if len(set(word)) < len(word)] or self.words

    def num_examples(self) -> int:
        return self.size

    def get_example(self, index: int) -> dict:
        r = Dice(f"SpellingBee {self.split} {index}")
        word, letter = self._pair(r)
        return chat(asked(r, QUESTIONS, word, letter), counted(word, letter), word=word, letter=letter)

    def _pair(self, r: Dice) -> tuple[str, str]:
        while True:
            if r.chance(0.5):  # a letter that comes more than once: else "once" would nearly always be right
                word = r.pick(self.doubled)
                letter = r.pick([c for c in word if word.count(c) > 1] or word)
            else:
                word = r.pick(self.words)
                letter = r.pick(word) if r.chance(0.7) else r.pick(ALPHABET)
            if is_test(f"{word} {letter}") == (self.split == "test"):
                return word, letter

    def evaluate(self, conversation: dict, completion: str) -> bool:
        return same_final_answer(conversation, completion)


class SimpleSpelling(Task):
    """size conversations of the split train or test, which is about other words."""

    def __init__(self, size: int = 1000, split: str = "train", words: str | Path | None = None, **view):
        super().__init__(**view)
        assert split in ("train", "test"), split
        self.size, self.split = size, split
        self.words = [word for word in list_of_words(words) if is_test(word) == (split == "test")]
        if not self.words:
            raise UserError(f"the list of words is too short to have any for the split {split}: use a longer one, or words='embedded'")

    def num_examples(self) -> int:
        return self.size

    def get_example(self, index: int) -> dict:
        r = Dice(f"SimpleSpelling {self.split} {index}")
        word = r.pick(self.words)
        return chat(asked(r, SPELLING_QUESTIONS, word), spelled(word), word=word)

    def evaluate(self, conversation: dict, completion: str) -> bool:
        """The letters in their order, however they are set apart, with or without the word before them."""
        letters = completion.strip().lower().removeprefix(conversation["word"] + ":")
        return re.split(r"[,\s-]+", letters.strip(" .")) == list(conversation["word"])


def list_of_words(source: str | Path | None = None) -> list[str]:
    """The words to spell: of a file with one on each line, or 'embedded'. Unless it is said here, $NANOCHAT_WORDS says it; unless that does, the
    system's list is taken where there is one, else the embedded one."""
    source = source or os.environ.get("NANOCHAT_WORDS") or (LARGER_LIST if LARGER_LIST.exists() else "embedded")
    if str(source) == "embedded":
        return WORDS.split()
    try:
        lines = Path(source).expanduser().read_text(encoding="utf-8", errors="replace").split()
    except OSError as error:
        raise UserError(f"the list of words {source} cannot be read ({error.strerror}): correct NANOCHAT_WORDS, or set it to 'embedded'") from error
    words = sorted({word for word in lines if USABLE.fullmatch(word)})  # no names, no abbreviations, nothing with an apostrophe
    if not words:
        raise UserError(f"the list of words {source} has no words of 3 to 14 small letters: set NANOCHAT_WORDS to another, or to 'embedded'")
    return words


def is_test(what: str) -> bool:
    return zlib.crc32(what.encode()) % TEST_ONE_IN == 0


def asked(r: Dice, questions: str, word: str, letter: str = "") -> str:
    """One of the questions, in one of the ways in which people write."""
    quote = r.pick(("", "", "'", '"'))
    letter = letter.upper() if r.chance(0.1) else letter
    question = r.pick(questions.split("\n")).format(word=quote + word + quote, letter=quote + letter + quote)
    if r.chance(0.2):
        question = question.rstrip("?.")
    return question[0].lower() + question[1:] if r.chance(0.2) else question


def spelled(word: str) -> str:
    return f"{word}:{','.join(word)}"


def counted(word: str, letter: str) -> list[dict]:
    """The answer: spell, count by hand, check with the calculator."""
    lines, hits = [], 0
    for place, c in enumerate(word, 1):
        hits += c == letter
        lines.append(f"{place}:{c}" + (f" yes, {hits}" if c == letter else ""))
    by_hand = (f"Let us count the letter {letter} in {word} by hand. First we spell it:\n{spelled(word)}\n\nNow we go through the letters:\n"
               + "\n".join(lines) + f"\n\nThat makes {hits}. Let us check it with Python:\n\n")  # fmt: skip
    return [
        {"type": "text", "text": by_hand},
        {"type": "python", "text": f"'{word}'.count('{letter}')"},
        {"type": "python_output", "text": str(hits)},
        {"type": "text", "text": f"\n\nPython says {hits} as well.\n\n#### {hits}"},
    ]
