"""All tasks by name: what a chat model is evaluated on, what it is trained on, and what reinforcement learning practises."""

import re
from collections.abc import Callable
from pathlib import Path

from nanochat.common import UserError, get_base_dir
from tasks.arc import ARC
from tasks.common import Task
from tasks.customjson import CustomJSON
from tasks.gsm8k import GSM8K
from tasks.humaneval import HumanEval
from tasks.mmlu import MMLU
from tasks.smoltalk import SmolTalk
from tasks.spellingbee import SimpleSpelling, SpellingBee
from tasks.tinyworld import TinyWorld

# --- evaluation ------------------------------------------------------------------------------------------------------

# Name -> how its test is made, and what guessing gets of it.
EVALUATIONS: dict[str, tuple[Callable[[], Task], float]] = {
    "ARC-Easy": (lambda: ARC("ARC-Easy", "test"), 0.25),
    "ARC-Challenge": (lambda: ARC("ARC-Challenge", "test"), 0.25),
    "MMLU": (lambda: MMLU("all", "test"), 0.25),
    "GSM8K": (lambda: GSM8K("main", "test"), 0.0),
    "HumanEval": (lambda: HumanEval(), 0.0),
    "SpellingBee": (lambda: SpellingBee(size=256, split="test"), 0.0),
    "TinyWorld-Facts": (lambda: TinyWorld("test", "facts"), 0.0),
    "TinyWorld-Unseen": (lambda: TinyWorld("test", "facts_unseen"), 0.0),
    "TinyWorld-Reworded": (lambda: TinyWorld("test", "facts_reworded"), 0.0),
    "TinyWorld-Choice": (lambda: TinyWorld("test", "choice"), 0.25),
    "TinyWorld-Problems": (lambda: TinyWorld("test", "problems"), 0.0),
    "TinyWorld-Spelling": (lambda: TinyWorld("test", "spelling"), 0.0),
    "TinyWorld-Unknown": (lambda: TinyWorld("test", "unknown"), 0.0),
    "TinyWorld-Talk": (lambda: TinyWorld("test", "talk"), 0.0),
    "TinyWorld-Calculator": (lambda: TinyWorld("test", "calculator"), 0.0),
}
TINYWORLD = ("TinyWorld-Facts", "TinyWorld-Unseen", "TinyWorld-Reworded", "TinyWorld-Choice", "TinyWorld-Problems", "TinyWorld-Spelling",
             "TinyWorld-Unknown", "TinyWorld-Talk", "TinyWorld-Calculator", "SpellingBee")  # fmt: skip
CHATCORE = ("ARC-Easy", "ARC-Challenge", "MMLU", "GSM8K", "HumanEval", "SpellingBee")


def default_evaluations(dataset: str | None) -> list[str]:
    """What ChatCORE is the mean of, for models whose base was trained on a data set."""
    return list(TINYWORLD if dataset == "tinyworld" else CHATCORE)


def parse_evaluations(text: str) -> list[str]:
    """The names in a text like 'ARC-Easy|GSM8K', each once; commas part them as well, which no shell minds."""
    spelled = {name.lower(): name for name in EVALUATIONS}
    asked = [piece.strip() for piece in re.split(r"[|,]", text) if piece.strip()]
    if unknown := [piece for piece in asked if piece.lower() not in spelled]:
        raise UserError(f"there is no task {unknown[0]!r} to evaluate: known are {', '.join(EVALUATIONS)}")
    if not asked:
        raise UserError(f"no task is named: known are {', '.join(EVALUATIONS)}")
    return list(dict.fromkeys(spelled[piece.lower()] for piece in asked))


def evaluation_task(name: str) -> Task:
    return EVALUATIONS[name][0]()


def baseline(name: str) -> float:
    return EVALUATIONS[name][1]


# --- what is trained on ----------------------------------------------------------------------------------------------
#
# A mixture is a list of (name, how often), written NAME*TIMES. What is generated has a size, which the name may end with: spelling:5000.

# Conversations of what is generated, unless the name says how many: for models of the embedded world, and for all others.
TINYWORLD_SIZES = {"tinyworld": 26_000, "spellingbee": 7_000, "spelling": 2_000}
SIZES = {"tinyworld": 20_000, "spellingbee": 80_000, "spelling": 200_000}
KINDS = ("facts", "choice", "problems", "spelling", "unknown", "talk", "calculator")
KINDS_OF_TINYWORLD = tuple(f"tinyworld-{kind}" for kind in KINDS)
GENERATED = ("spelling", "spellingbee", "tinyworld", *KINDS_OF_TINYWORLD)
SOURCES = ("smoltalk", "mmlu", "gsm8k", "arc", *GENERATED, "json:PATH", "identity", "default")
IDENTITY = "identity_conversations.jsonl"  # in the base dir: who the model is

SPELLING_VALIDATION = 1000
MMLU_VALIDATION, GSM8K_VALIDATION = 5200, 420  # in the proportion in which they are trained on
JSON_VALIDATION = 200
MOST_TIMES = 1000  # each time takes its place in the order that is shuffled


def identity_file() -> Path:
    return get_base_dir() / IDENTITY


def default_mixture(dataset: str | None, mmlu_epochs: int = 3, gsm8k_epochs: int = 4) -> list[tuple[str, int]]:
    """What models of a data set are fine-tuned on unless somebody says otherwise; 0 epochs of something leave it out."""
    if dataset == "tinyworld":
        return [(_sized(name, dataset), 1) for name in ("tinyworld", "spellingbee", "spelling")]
    identity = 2 if identity_file().exists() else 0
    mixture = [("smoltalk", 1), ("identity", identity), ("mmlu", mmlu_epochs), ("gsm8k", gsm8k_epochs)]
    mixture += [(_sized(name, dataset), 1) for name in ("spelling", "spellingbee")]
    return [(name, times) for name, times in mixture if times]


def parse_mixture(text: str, dataset: str | None, mmlu_epochs: int = 3, gsm8k_epochs: int = 4) -> list[tuple[str, int]]:
    """The mixture that a text like 'default,json:mine.jsonl*3' asks for, for a model of this data set. Opens no data."""
    mixture: list[tuple[str, int]] = []
    for piece in filter(None, map(str.strip, text.split(","))):
        asked, times = re.fullmatch(r"(.*?)(?:\*\s*(\d+))?", piece, re.DOTALL).groups()
        name, times = _checked_name(asked.strip(), piece, dataset), 1 if times is None else int(times)
        if not 1 <= times <= MOST_TIMES:
            raise UserError(
                f"{piece!r} in the mixture: a whole number of times, at least 1 and at most {MOST_TIMES:,}; what is not wanted is not named"
            )
        some = default_mixture(dataset, mmlu_epochs, gsm8k_epochs) if name == "default" else [(name, 1)]
        mixture += [(one, often * times) for one, often in some]
    if not mixture:
        raise UserError(f"the mixture is empty: name one at least of {', '.join(SOURCES)}")
    return mixture


def _checked_name(asked: str, piece: str, dataset: str | None) -> str:
    """A name as train_tasks knows it: in small letters, and with the size of what is generated."""
    name, colon, rest = asked.partition(":")
    name = name.lower()
    if name == "json" and rest.strip():
        return f"json:{rest.strip()}"
    if name in GENERATED and (not colon or re.fullmatch(r"0*[1-9]\d{0,8}", rest)):
        return f"{name}:{int(rest)}" if colon else _sized(name, dataset)
    if name in SOURCES and name not in GENERATED and not colon:
        return name
    raise UserError(f"{piece!r} in the mixture is not known: write NAME or NAME*TIMES, with commas between them, where NAME is one of "
                    f"{', '.join(SOURCES)}; what is generated may have a size, as in spelling:5000")  # fmt: skip


def _sized(name: str, dataset: str | None) -> str:
    sizes = TINYWORLD_SIZES if dataset == "tinyworld" else SIZES
    return f"{name}:{sizes[name.partition('-')[0]]}"


def train_tasks(mixture: list[tuple[str, int]]) -> list[Task]:
    """The tasks of a mixture, each as often as it is to be seen."""
    made = {name: _train_task(*_parts(name)) for name, _ in mixture}
    return [task for name, times in mixture for _ in range(times) for task in made[name]]


def _parts(name: str) -> tuple[str, str]:
    name, _, rest = name.partition(":")
    return name, rest


def _train_task(name: str, rest: str) -> list[Task]:
    if name == "smoltalk":
        return [SmolTalk("train")]
    if name == "mmlu":
        return [MMLU("auxiliary_train", "train")]
    if name == "gsm8k":
        return [GSM8K("main", "train")]
    if name == "arc":
        return [ARC(subset, "train") for subset in ("ARC-Easy", "ARC-Challenge")]
    if name == "spelling":
        return [SimpleSpelling(int(rest), "train")]
    if name == "spellingbee":
        return [SpellingBee(int(rest), "train")]
    if name.startswith("tinyworld"):
        return [TinyWorld("train", _kind(name), int(rest))]
    return [_custom(name, rest)]


def _kind(name: str) -> str:
    return name.partition("-")[2] or "all"


def _custom(name: str, path: str) -> Task:
    if name == "identity" and not identity_file().exists():
        raise UserError(f"'identity' in the mixture: {identity_file()} is not there. Put conversations about who the model is there, one a line as "
                        "for json:PATH, or leave out identity")  # fmt: skip
    return CustomJSON(identity_file() if name == "identity" else path)


def validation_tasks(mixture: list[tuple[str, int]]) -> list[Task]:
    """What the loss is measured on: of each task what is not trained on, once. Conversations of one's own have no such part; where there is nothing
    else, some of them must do, which shows at least that the model learns."""
    names = list(dict.fromkeys(name for name, _ in mixture))
    tasks = {name.partition(":")[0]: _validation_task(name.partition(":")[0]) for name in names}  # a name of two sizes has one test
    if held_out := [task for some in tasks.values() for task in some]:
        return held_out
    everything = [_custom(*_parts(name)) for name in names]
    for task in everything:
        task.step = -(-len(task) // JSON_VALIDATION)  # from all over the file: those at its beginning may all be of one kind
    return everything


def _validation_task(name: str) -> list[Task]:
    if name == "smoltalk":
        return [SmolTalk("test")]
    if name == "mmlu":
        return [MMLU("all", "test", stop=MMLU_VALIDATION)]
    if name == "gsm8k":
        return [GSM8K("main", "test", stop=GSM8K_VALIDATION)]
    if name == "arc":
        return [ARC(subset, "validation") for subset in ("ARC-Easy", "ARC-Challenge")]
    if name == "spelling":
        return [SimpleSpelling(SPELLING_VALIDATION, "test")]
    if name == "spellingbee":
        return [SpellingBee(SPELLING_VALIDATION, "test")]
    if name.startswith("tinyworld"):
        return [TinyWorld("test", _kind(name))]
    return []


# --- reinforcement learning ------------------------------------------------------------------------------------------

RL_SIZE = 20_000  # of what is generated
RL_START = 1_000_000  # beyond all that a mixture has in practice: what SFT has shown is known by heart, and teaches nothing

RL_TASKS: dict[str, Callable[[], tuple[Task, Task]]] = {
    "gsm8k": lambda: (GSM8K("main", "train"), GSM8K("main", "test")),
    "tinyworld": lambda: (TinyWorld("train", "practice", RL_START + RL_SIZE, start=RL_START), TinyWorld("test", "problems")),
    "spellingbee": lambda: (SpellingBee(RL_START + RL_SIZE, "train", start=RL_START), SpellingBee(256, "test")),
}


def rl_tasks(name: str) -> tuple[Task, Task]:
    """What is practised, and what shows how well."""
    if name.lower() not in RL_TASKS:
        raise UserError(f"there is no task {name!r} for reinforcement learning: known are {', '.join(RL_TASKS)}")
    return RL_TASKS[name.lower()]()
