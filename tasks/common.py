"""What all tasks share: views, mixtures and sequences of them, multiple choice as a text, and where rows of data come from.

A task is a list of conversations that knows how to judge an answer. Training reads the conversations; evaluation shows the model all but the last
message and hands what it says to `evaluate`; reinforcement learning hands it to `reward`. A task of your own needs `num_examples` and
`get_example`, and one of the two.
"""

import contextlib
import json
import logging
import random
import re
from collections.abc import Iterable, Iterator, Sequence
from fractions import Fraction
from pathlib import Path

from nanochat.common import UserError, get_base_dir
from nanochat.tokenizer import checked_messages

FINAL_ANSWER = re.compile(r"#### *(-?[0-9][0-9,]*(?:\.[0-9]+)?|-?\.[0-9]+)")  # how GSM8K, and whatever is like it, ends an answer
CALCULATION = re.compile(r"<<([^<>=]*)=([^<>]*)>>")  # and how it notes what the calculator was asked and what it said
LONGEST_NUMBER = 1000  # characters; a model may write one digit after the other for ever, and Python refuses to read 4,300 of them

# --- tasks -----------------------------------------------------------------------------------------------------------


class Task:
    """Conversations number start, start + step, … below stop. The whole of them, before the view is taken, is up to the class that inherits."""

    def __init__(self, start: int = 0, stop: int | None = None, step: int = 1):
        if start < 0 or step < 1 or (stop is not None and stop < start):
            raise UserError(f"a view needs 0 <= start <= stop and step >= 1, not start={start}, stop={stop}, step={step}")
        self.start, self.stop, self.step = start, stop, step

    @property
    def eval_type(self) -> str:
        """'generative': the model writes its answer; 'categorical': it picks one of the conversation's letters."""
        return "generative"

    def num_examples(self) -> int:
        raise NotImplementedError

    def get_example(self, index: int) -> dict:
        """Conversation number index of the whole: {"messages": […], …}."""
        raise NotImplementedError

    def evaluate(self, conversation: dict, completion: str) -> bool | int:
        """Is this a right answer to the last message?"""
        raise NotImplementedError(f"{type(self).__name__} is for training only: it has no right and wrong answers")

    def reward(self, conversation: dict, completion: str) -> float:
        """What reinforcement learning maximises. Other rewards than right or wrong override this."""
        return float(self.evaluate(conversation, completion))

    def __len__(self) -> int:
        total = self.num_examples()
        return len(range(self.start, total if self.stop is None else min(self.stop, total), self.step))

    def __getitem__(self, index: int) -> dict:
        """An index beyond the end is an IndexError, so that `for conversation in task` ends."""
        if not 0 <= index < len(self):
            raise IndexError(f"{type(self).__name__} has {len(self)} conversations, none of number {index}")
        return self.get_example(self.start + index * self.step)


class CategoricalTask(Task):
    """One letter is right. The conversation says under "letters" which there are."""

    @property
    def eval_type(self) -> str:
        return "categorical"

    def evaluate(self, conversation: dict, completion: str) -> bool:
        if completion not in conversation["letters"]:
            raise ValueError(f"{completion!r} is none of the letters {', '.join(conversation['letters'])}: compare their logits, do not sample")
        return completion == conversation["messages"][-1]["content"]


class TaskMixture(Task):
    """Several tasks, shuffled into each other; always in the same order. A task that is given twice comes twice as often."""

    def __init__(self, tasks: Sequence[Task], **view):
        super().__init__(**view)
        self.tasks = tasks
        self.order = [(which, i) for which, task in enumerate(tasks) for i in range(len(task))]
        random.Random(42).shuffle(self.order)

    def num_examples(self) -> int:
        return len(self.order)

    def get_example(self, index: int) -> dict:
        which, i = self.order[index]
        return self.tasks[which][i]


class TaskSequence(Task):
    """Several tasks, one after the other: a curriculum."""

    def __init__(self, tasks: Sequence[Task], **view):
        super().__init__(**view)
        self.tasks = tasks

    def num_examples(self) -> int:
        return sum(map(len, self.tasks))

    def get_example(self, index: int) -> dict:
        for task in self.tasks:
            if index < len(task):
                return task[index]
            index -= len(task)
        raise IndexError("beyond the last conversation of the last task")


# --- texts -----------------------------------------------------------------------------------------------------------


def render_mc(question: str, letters: Iterable[str], choices: Iterable[str]) -> str:
    """Multiple choice as every task here asks it. The letter stands after its choice: small models bind the two better that way round, and without
    a space before it, so that it is the same token as the letter that the model answers with."""
    options = "".join(f"- {choice}={letter}\n" for letter, choice in zip(letters, choices, strict=True))
    return f"Multiple Choice question: {question}\n{options}\nRespond only with the letter of the correct answer."


def chat(*contents: str | list[dict], **more) -> dict:
    """A conversation: user and assistant take turns, the user begins."""
    return {"messages": [{"role": ("user", "assistant")[i % 2], "content": content} for i, content in enumerate(contents)], **more}


def calculator_parts(answer: str) -> list[dict]:
    """The parts of an assistant's message out of an answer in GSM8K's notation: <<48/2=24>> is a call of the calculator and what came of it."""
    parts, end = [], 0
    for match in CALCULATION.finditer(answer):
        parts += [_part("text", answer[end : match.start()]), _part("python", match[1]), _part("python_output", match[2])]
        end = match.end()
    parts.append(_part("text", answer[end:]))
    return [part for part in parts if part["text"]]


def _part(kind: str, text: str) -> dict:
    return {"type": kind, "text": text}


def text_of(content: str | list[dict]) -> str:
    """What the assistant says in a message, without its calls of the calculator."""
    return content if isinstance(content, str) else "".join(part["text"] for part in content if part["type"] == "text")


def final_answer(text: str) -> Fraction | None:
    """The number after ####. As a number, because the calculator says 24.0 where a person writes 24."""
    match = FINAL_ANSWER.search(text)
    return Fraction(match[1].replace(",", "")) if match and len(match[1]) <= LONGEST_NUMBER else None


def same_final_answer(conversation: dict, completion: str) -> bool:
    right = final_answer(text_of(conversation["messages"][-1]["content"]))
    return right is not None and final_answer(completion) == right


# --- rows of data ----------------------------------------------------------------------------------------------------

LOCAL_SUFFIXES = (".parquet", ".jsonl", ".json")


KINDS = {str: "a text", int: "a whole number", list: "a list", list[str]: "a list of texts", dict: "an object"}  # what fields can be asked to be


class Source:
    """Where a task's rows come from: files that are named, a copy of the data set's repository in the base dir, or the hub, through `datasets` and
    all that it honours (HF_ENDPOINT, HF_HUB_OFFLINE, its cache). Rows may have all their fields inside of one, which is then named."""

    def __init__(self, repo: str, config: str | None, split: str, path: str | Path | None, fields: dict[str, type], inside: str = ""):
        self.repo, self.config, self.split, self.fields, self.inside = repo, config, split, fields, inside
        self.name = f"{repo} ({f'{config}, ' if config else ''}{split})"
        self.copy = get_base_dir() / "task_data" / repo
        self.folder = self.copy / (config or "")  # where the files belong in such a copy
        self.copied = path is None and self.copy.exists()
        path = self.copy if self.copied else path
        self.rows: Sequence[dict] = _hub_rows(self) if path is None else _local_rows(self, Path(path).expanduser())
        self.origin = repo if path is None else str(path)
        if not len(self.rows):
            raise UserError(f"{self.origin} has no rows for {self.name}: check the file or leave out its task")
        has = list(self[0]) if isinstance(self[0], dict) else []
        if missing := [field for field in fields if field not in has]:
            raise UserError(f"{self.origin} is not {self.name}: its rows lack {', '.join(missing)} (they have: {', '.join(has)})")

    def __len__(self) -> int:
        return len(self.rows)

    def __getitem__(self, index: int) -> dict:
        row = self.rows[index]
        return row.get(self.inside, row) if self.inside else row


class SourcedTask(Task):
    """The rows of a source, each made into a conversation by conversation_of. What is odd in a row is said with its name, when the row is read."""

    rows: Source

    def conversation_of(self, row: dict) -> dict:
        raise NotImplementedError

    def num_examples(self) -> int:
        return len(self.rows)

    def get_example(self, index: int) -> dict:
        try:
            row = self.rows[index]
            check_fields(row, self.rows.fields)
            conversation = self.conversation_of(row)
            list(checked_messages(conversation))  # what passes here can be rendered
            return conversation
        except (ValueError, TypeError, KeyError, AttributeError, IndexError, RecursionError) as error:  # a UserError is a ValueError
            reason = f"there is no {error}" if isinstance(error, KeyError) else str(error)
            said = f" {reason}" if reason.startswith("has ") else f": {reason}"
            raise UserError(f"{self.rows.origin}, row {index}{said}: repair the row or leave it out") from error


def check_fields(row: dict, fields: dict[str, type]) -> None:
    """Is each field there, and of its kind? Most of what is odd, an f-string would write into a question without a word."""
    if not isinstance(row, dict):
        raise UserError(f"it should be an object with {', '.join(fields)}, and is {row!r:.80}")
    for name, kind in fields.items():
        if (value := row.get(name)) is None:
            raise UserError(f"its {name} is null or absent, and should be {KINDS[kind]}")
        if not _is_a(value, kind):
            raise UserError(f"its {name} should be {KINDS[kind]}, and is {value!r:.80}")


def _is_a(value: object, kind: type) -> bool:
    if kind == list[str]:
        return isinstance(value, list) and all(isinstance(text, str) for text in value)
    return isinstance(value, kind)


def _hub_rows(source: Source) -> Sequence[dict]:
    try:
        from datasets import load_dataset  # most of a second to import, and all the hub's environment variables are read there

        with _quiet("huggingface_hub", "datasets"):  # each try of each request has its warning; we say it once
            return load_dataset(source.repo, source.config, split=source.split)
    except Exception as error:  # datasets and what it stands on raise some twenty kinds, among them plain OSError and ValueError
        reason = (str(error).strip().splitlines() or [type(error).__name__])[0][:200]
        raise UserError(f"the data set {source.name} could not be loaded from the hub: {reason}. Check the network, HF_ENDPOINT and HF_HUB_OFFLINE; "
                        f"without network, copy its repository to {source.copy}, or only its files of parquet, json or jsonl into {source.folder}, "
                        f"or bring the cache of a machine that has it ($HF_HOME); or leave out its task") from error  # fmt: skip


@contextlib.contextmanager
def _quiet(*names: str) -> Iterator[None]:
    """No warnings of these packages meanwhile."""
    loggers = [logging.getLogger(name) for name in names]
    levels = [logger.level for logger in loggers]
    try:
        for logger in loggers:
            logger.setLevel(logging.ERROR)
        yield
    finally:
        for logger, level in zip(loggers, levels, strict=True):
            logger.setLevel(level)


def _local_rows(source: Source, path: Path) -> Sequence[dict]:
    files = _local_files(source, path)
    try:
        if all(file.suffix == ".parquet" for file in files):
            return ParquetRows(files)
        return [row for file in files for row in _read_rows(file)]
    except (OSError, ValueError, RecursionError) as error:  # pyarrow's errors and those of JSON and Unicode are ValueErrors
        if isinstance(error, UserError):
            raise
        raise UserError(f"{source.name}: {path} cannot be read ({_reason(error)}): repair it, or take it away to use the hub") from error


def _local_files(source: Source, path: Path) -> list[Path]:
    """The file that is named, or those of the split in the folder that is named, or in its folders as the hub has them: CONFIG/, data/ or NAME/. In
    a copy in the base dir all configs look, each in its own folder only: files that lie beside it might be another's."""
    if path.is_file():
        if path.suffix not in LOCAL_SUFFIXES:
            raise UserError(f"{source.name}: {path} is not a parquet, json or jsonl file")
        return [path]
    folders = [path / source.config] if source.config else []
    if not (folders and source.copied):
        folders += [path, path / "data", path / Path(source.repo).name]
    for folder in folders:
        files = [f for f in sorted(folder.glob(f"{source.split}*")) if re.fullmatch(rf"{source.split}(-\d+-of-\d+)?", f.stem)]
        for suffix in LOCAL_SUFFIXES:  # never two kinds together: they would be the same rows twice
            if found := [f for f in files if f.suffix == suffix]:
                _check_shards(source, found)
                return found
    what = "is not there" if not path.exists() else f"has no {source.split}.parquet, .jsonl or .json (nor {source.split}-00000-of-…)"
    mend = f"put its files into {source.folder}, or take {path} away" if source.copied else "correct that, or take it away"
    raise UserError(f"{source.name}: {folders[0] if source.copied else path} {what}: {mend} to load {source.repo} from the hub")


def _check_shards(source: Source, files: list[Path]) -> None:
    """Shards say in their names how many they are. Some of them are not the split, nor are they together with others of another number."""
    numbers = [tuple(map(int, match.groups())) for f in files if (match := re.search(r"-(\d+)-of-(\d+)$", f.stem))]
    totals = {total for _, total in numbers}
    if len(totals) > 1 or 0 < len(numbers) < len(files):
        raise UserError(f"{source.name}: {files[0].parent} has files of more than one set ({files[0].name} … {files[-1].name}): leave only one there")
    for total in totals:
        if (there := len({number for number, _ in numbers if number < total})) < total:
            raise UserError(f"{source.name}: {files[0].parent} has {there} of {total} files {source.split}-…-of-{total:05}{files[0].suffix}: "
                            f"copy the others into it too")  # fmt: skip


class ParquetRows(Sequence):
    """Rows of parquet files, made into Python only when they are asked for: as dicts, a large data set would not fit into memory."""

    def __init__(self, files: list[Path]):
        import pyarrow as pa
        import pyarrow.parquet as pq

        self.table = pa.concat_tables([pq.read_table(file, partitioning=None, memory_map=True) for file in files])

    def __len__(self) -> int:
        return self.table.num_rows

    def __getitem__(self, index: int) -> dict:
        return self.table.slice(index, 1).to_pylist()[0]


def _read_rows(file: Path) -> Iterator[dict]:
    """Rows of a JSON file: one array of them, or one on each line."""
    if file.suffix == ".parquet":
        yield from ParquetRows([file])
        return
    text = file.read_text(encoding="utf-8-sig")
    rows = json.loads(text) if text.lstrip().startswith("[") else _json_lines(file, text)
    for row in rows:
        if not isinstance(row, dict):
            raise UserError(f"{file} holds something that is not an object: {str(row)[:80]}")
        yield row


def _json_lines(file: Path, text: str) -> Iterator[dict]:
    for number, line in enumerate(text.split("\n"), 1):
        try:
            if line.strip():
                yield json.loads(line)
        except (ValueError, RecursionError) as error:
            raise UserError(f"{file}:{number} is not JSON ({_reason(error)}): repair or remove the line") from error


def _reason(error: Exception) -> str:
    return "it is nested too deeply" if isinstance(error, RecursionError) else str(error)
