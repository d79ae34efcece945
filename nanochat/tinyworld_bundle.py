"""CORE-style tasks about the embedded world, in the files of a bundle (see core_bundle): language modelling, multiple choice and schema.

All of them ask for held-out tellings: a fact that the corpus tells, in words that it uses for other facts. So they measure whether a model can put
together what it has learned. The same texts come out on every machine: of the generator only random() is used, whose sequence is promised to
stay the same.
"""

import json
import random
import re
from collections.abc import Callable

import yaml

from nanochat.tinyworld_facts import Telling, capital, held_out_tellings, tellings

ITEMS = 300  # of each task
DISTRACTORS = 3
LETTERS = ("spell", "first letter", "last letter", "next letter")  # relations whose answers take no capital where they stand alone
# Answers that would be right as well, though the world does not say so: none of a group is offered beside another.
NEAR = (
    ("hard", "difficult"), ("leave", "go"), ("grass", "hay", "clover"), ("seeds", "grain"), ("insects", "tiny insects", "flies", "moths"),
    ("in trees", "in forests", "in warm forests"),
)  # fmt: skip


def bundle_files() -> dict[str, str]:
    """Five tasks of the three kinds: the name of each file, and what is in it."""
    told = held_out_tellings()
    statements, questions = [t for t in told if not t.is_question], [t for t in told if t.is_question]
    tasks = {  # label → kind, shots, delimiter, what guessing gets right in percent, tellings, telling → item
        "tinyworld_recall": ("language_modeling", 0, " ", 0, told, recall),
        "tinyworld_recall_fewshot": ("language_modeling", 3, " ", 0, told, recall),
        "tinyworld_choice": ("multiple_choice", 0, " ", 25, statements, choice),
        "tinyworld_quiz": ("multiple_choice", 3, "\nAnswer: ", 25, questions, choice),
        "tinyworld_schema": ("schema", 0, " ", 50, told, schema),
    }
    files, entries, rows = {}, [], ["Eval Task,Task Category,Task Type,#shots,#datapoints,Random baseline"]
    for label, (kind, shots, delimiter, baseline, source, make) in tasks.items():
        items = draw_evenly(source, make, random.Random(label))
        uri = f"tinyworld/{label}.jsonl"
        files[f"eval_data/{uri}"] = "".join(json.dumps(item, ensure_ascii=False) + "\n" for item in items)
        entry = {"label": label, "dataset_uri": uri, "num_fewshot": [shots], "icl_task_type": kind, "continuation_delimiter": delimiter}
        entries.append(entry)
        rows.append(f"{label},world knowledge,{kind.replace('_', ' ')},{shots},{len(items)},{baseline}")
    files["core.yaml"] = yaml.safe_dump({"icl_tasks": entries}, sort_keys=False)
    files["eval_meta_data.csv"] = "\n".join(rows) + "\n"
    return files


def draw_evenly(source: list[Telling], make: Callable[[Telling, random.Random], dict | None], r: random.Random) -> list[dict]:
    """An item of each relation in turn until there are enough: of sums there are hundreds of tellings, of planets two."""
    waiting: dict[str, list[Telling]] = {}
    for t in sorted(source, key=lambda _: r.random()):
        waiting.setdefault(t.relation, []).append(t)
    items = []
    while waiting and len(items) < ITEMS:
        for name in list(waiting):
            made = None
            while made is None and waiting[name]:
                made = make(waiting[name].pop(), r)
            if made is None:
                del waiting[name]
            else:
                items.append(made)
    return items[:ITEMS]


def recall(t: Telling, r: random.Random) -> dict:
    return {"context": _context(t), "continuation": t.answer}


def choice(t: Telling, r: random.Random) -> dict | None:
    """The right answer among three that are right for others in the same words. Those that the question itself names come first."""
    others = {u.answer.lower(): u.answer for u in tellings(t.relation) if u.phrasing == t.phrasing and not _too_near(u.answer, t.answer)}
    if len(others) < DISTRACTORS:
        return None
    wrong = sorted(others.values(), key=lambda answer: (not re.search(rf"\b{re.escape(answer)}\b", t.prompt, re.IGNORECASE), r.random()))
    options = sorted([t.answer, *wrong[:DISTRACTORS]], key=lambda _: r.random())
    gold = options.index(t.answer)
    if not t.is_question:
        return {"query": t.prompt, "choices": options, "gold": gold}
    alone = options if t.relation in LETTERS else [capital(option) for option in options]
    return {"query": f"Question: {t.prompt}", "choices": alone, "gold": gold}


def schema(t: Telling, r: random.Random) -> dict | None:
    """The same words about two subjects, and an answer that is right for one of them only. Neither was ever told in these words."""
    others = [u for u in tellings(t.relation) if u.held_out and u.phrasing == t.phrasing and not _too_near(u.answer, t.answer)]
    if not others:
        return None
    options = sorted([_context(t), _context(others[int(r.random() * len(others))])], key=lambda _: r.random())
    return {"context_options": options, "continuation": t.answer, "gold": options.index(_context(t))}


def _context(t: Telling) -> str:
    """All that stands before the answer: after a question the beginning of the sentence that answers it."""
    return f"{t.prompt} {t.text[: t.text.rindex(t.answer)]}".rstrip() if t.is_question else t.prompt


def _too_near(answer: str, other: str) -> bool:
    a, b = answer.lower(), other.lower()
    return a == b or any(a in group and b in group for group in NEAR)
