"""Conversations of your own: a JSONL file with one conversation a line, a list of messages or an object that has them under "messages"."""

import json
from pathlib import Path

from nanochat.common import UserError
from nanochat.tokenizer import checked_messages  # the checks that rendering makes: what passes here can be rendered
from tasks.common import Task

SHOWN = 5  # bad lines in the error


class CustomJSON(Task):
    """All lines are checked now: a bad one should not end the training an hour later."""

    def __init__(self, filepath: str | Path, **view):
        super().__init__(**view)
        self.filepath = Path(filepath).expanduser()
        self.conversations, bad = [], []
        for number, line in enumerate(_lines(self.filepath), 1):
            try:
                if line.strip():
                    self.conversations.append(parse_conversation(line))
            except ValueError as error:
                bad.append(f"{self.filepath}:{number}: {error}")
        if bad:
            raise UserError(_complaint(self.filepath, bad))
        if not self.conversations:
            raise UserError(f"{self.filepath} has no conversations in it: each line should be one, as JSON")

    def num_examples(self) -> int:
        return len(self.conversations)

    def get_example(self, index: int) -> dict:
        return self.conversations[index]


def parse_conversation(line: bytes) -> dict:
    """A conversation that can be trained on, or a ValueError that says why it cannot."""
    try:
        conversation = json.loads(line)
    except ValueError as error:
        raise ValueError(f"not JSON ({error})") from error
    except RecursionError as error:
        raise ValueError("not JSON that a person would write: it is nested too deeply") from error
    if isinstance(conversation, list):
        conversation = {"messages": conversation}
    said = list(checked_messages(conversation))  # (role, parts), a system message inside of the first user message
    for place, (role, parts) in enumerate(said):
        if not any(text.strip() for _, text in parts):
            raise ValueError(f"message {place // 2 + 1} of the {role} is empty")
    if not any(role == "assistant" for role, _ in said):
        raise ValueError("the assistant says nothing, so there is nothing to learn from it")
    return conversation


def _lines(path: Path) -> list[bytes]:
    try:
        return path.read_bytes().removeprefix(b"\xef\xbb\xbf").split(b"\n")
    except OSError as error:
        raise UserError(f"the conversations in {path} cannot be read ({error.strerror}): correct the path") from error


def _complaint(path: Path, bad: list[str]) -> str:
    more = f"\n  … and {len(bad) - SHOWN} more" if len(bad) > SHOWN else ""
    lines = "".join(f"\n  {line}" for line in bad[:SHOWN])
    return f"{path} has {len(bad)} line{'s' if len(bad) > 1 else ''} that cannot be trained on. Repair or remove them:{lines}{more}"
