"""What the terminal chat is made of: the conversation and its settings, the commands, answers on the screen, and what is typed.

Nobody steers the terminal from here: control characters, from the keyboard or from the model, are made visible where text comes in, and so they are
in what is saved.
"""

import json
import math
import os
import re
import signal
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from nanochat.common import UserError, get_base_dir, write_text

if TYPE_CHECKING:
    from nanochat.engine import Engine
    from nanochat.tokenizer import Tokenizer

HISTORY = 1000  # messages that the arrow keys bring back

# --- text ------------------------------------------------------------------------------------------------------------

CONTROL = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\ud800-\udfff]")  # all but newline and tab; and half surrogate pairs, which no file takes


def visible(text: str) -> str:
    """Control characters become pictures of themselves, or the replacement character if they have none; carriage returns go."""
    return CONTROL.sub(_picture, text)


def _picture(match: re.Match) -> str:
    code = ord(match[0])
    if match[0] == "\r":
        return ""
    return chr(0x2400 + code) if code < 0x20 else "\u2421" if code == 0x7F else "\ufffd"


class Reply:
    """What the assistant says, token by token: the parts of a message, text and calls of the calculator, as the tokenizer renders them."""

    def __init__(self, tokenizer: "Tokenizer"):
        special = tokenizer.special
        self.tokenizer = tokenizer
        self.openings = {special["<|python_start|>"]: "python", special["<|output_start|>"]: "python_output"}
        self.closings = {special["<|python_end|>"], special["<|output_end|>"]}
        self.parts: list[dict] = []
        self._begin("text")

    def _begin(self, kind: str) -> None:
        from nanochat.engine import TextStream  # needs torch, and --help does not

        self.parts.append({"type": kind, "text": ""})
        self.stream = TextStream(self.tokenizer)  # characters do not reach from one part into the next
        self.closed = kind == "text"  # a text may end anywhere

    def add(self, token: int) -> tuple[dict, str]:
        """The part that a token belongs to, and the text that it adds to it."""
        if token in self.openings:
            self._begin(self.openings[token])
        elif token in self.closings:
            self.closed = True
        elif self.closed and self.parts[-1]["type"] != "text":
            self._begin("text")
        piece = visible(self.stream.add(token))
        self.parts[-1]["text"] += piece
        return self.parts[-1], piece

    def content(self) -> str | list[dict]:
        """The content of a message; "" if nothing was said. A call that was cut in the middle is left out."""
        parts = list(self.parts)
        if not self.closed and parts.pop()["type"] == "python_output" and parts[-1]["type"] == "python":
            parts.pop()
        parts = [part for part in parts if part["text"]]
        if not any(part["text"].strip() for part in parts):
            return ""
        return "".join(part["text"] for part in parts) if all(part["type"] == "text" for part in parts) else parts


# --- the conversation ------------------------------------------------------------------------------------------------


class Conversation:
    """What has been said. raw: a base model goes on with a text, and of such texts only the last one is remembered."""

    def __init__(self, system: str = "", raw: bool = False):
        self.system, self.raw = system, raw
        self.messages: list[dict] = []  # user and assistant in turn
        self.dropped: list[dict] = []  # those before them, which the context has no room for: the model does not see them any more

    def last_question(self) -> str:
        if not self.messages:
            raise UserError("there is no answer yet")
        return self.messages[-2]["content"]

    def prompt(self, engine: "Engine", question: str, room: int, again: bool = False) -> tuple[list[int], int]:
        """(tokens, messages dropped): all that has been said and a question, with room for so many tokens of an answer. The oldest turns are dropped
        for it. again: it is the last question, whose answer the model does not see."""
        if self.raw:
            tokens, dropped = engine.tokenizer.encode(question, prepend=engine.tokenizer.bos), 0
        else:
            messages = [*self._system(), *self._earlier(again), {"role": "user", "content": question}]
            tokens, dropped = engine.fit({"messages": messages}, room, drop_oldest=True)
        if len(tokens) + room > engine.context:
            beside = " with the system message" if self.system else ""
            raise UserError(f"this is too long: {len(tokens):,} tokens{beside}, where the context of {engine.context:,} has room for "
                            f"{engine.context - room:,} and an answer")  # fmt: skip
        self.dropped += self.messages[:dropped]
        self.messages = self.messages[dropped:]
        return tokens, dropped

    def keep(self, question: str, answer: str | list[dict], again: bool = False) -> None:
        self.messages = [*self._earlier(again), {"role": "user", "content": question}, {"role": "assistant", "content": answer}]

    def clear(self) -> None:
        self.messages, self.dropped = [], []

    def save(self, path: Path) -> None:
        """One line of JSON, as tasks.customjson reads it: every message from the first one on."""
        if self.raw:
            raise UserError("what a base model goes on with is no conversation: there is nothing to save")
        if not self.messages:
            raise UserError("there is nothing to save yet")
        if os.path.lexists(path):
            raise UserError(f"{path} exists: take another name")
        try:
            write_text(path, json.dumps([*self._system(), *self.dropped, *self.messages], ensure_ascii=False) + "\n")
        except OSError as error:
            raise UserError(f"{path} cannot be written ({error.strerror})") from error

    def _system(self) -> list[dict]:
        return [{"role": "system", "content": self.system}] if self.system else []

    def _earlier(self, again: bool) -> list[dict]:
        """The messages before a question: the last one, or a new one."""
        return [] if self.raw else self.messages[:-2] if again else self.messages


# --- commands --------------------------------------------------------------------------------------------------------

# Name of the command, of the setting, its type, what it may be, and that in words
KNOBS = {
    "temp": ("temperature", float, lambda x: 0 <= x < math.inf, "a number from 0 on"),
    "topk": ("top_k", int, lambda k: k >= 0, "a whole number, 0 (off) or more"),
    "topp": ("top_p", float, lambda p: 0 < p <= 1, "a number above 0 and at most 1 (off)"),
    "max": ("max_tokens", int, lambda n: n >= 1, "a whole number, at least 1"),
}
STAND_ALONE = ("clear", "regen", "stats", "help", "quit")
HELP = """\
/clear           begin a new conversation
/regen           answer the last question once more
/system [text]   the system message: show it, or set it; /system off takes it away
/temp [x]        the temperature: show it, or set it; 0 takes the likeliest token
/topk [n]        sample among so many of the likeliest tokens; 0: all
/topp [x]        sample among the likeliest that have this probability together; 1: all
/max [n]         longest answer, in tokens
/stats           tokens per second after each answer, on or off
/save [file]     write the conversation to a file that one can train on
/quit            leave; so do quit, exit and Ctrl-D
A line that ends in \\ goes on in the next one. A space before a / makes it a message. Ctrl-C stops an answer, and what was said of it stays."""


@dataclass
class Settings:
    temperature: float = 0.6
    top_k: int = 50
    top_p: float = 1.0
    max_tokens: int = 256
    stats: bool = False


def command_of(text: str) -> tuple[str, str] | None:
    """(name, argument) of a /command, or of a word that is one without its /; None for what is to be said to the model."""
    if (word := text.strip().lower()) in ("quit", "exit", "clear"):
        text = f"/{word}"
    if not text.startswith("/"):
        return None
    name, argument = [*text[1:].split(maxsplit=1), "", ""][:2]
    if argument and name in STAND_ALONE:
        raise UserError(f"/{name} stands alone")
    return "quit" if name == "exit" else name, argument.strip()


def obey(name: str, argument: str, chat: Conversation, settings: Settings) -> str:
    """Carry out a command and give back what is to be told. If that cannot be, UserError says why, and nothing has changed."""
    if name in KNOBS:
        return _turn_knob(name, argument, settings)
    if name == "system":
        return _system(argument, chat)
    if name == "save":
        path = Path(argument) if argument else get_base_dir() / "chats" / time.strftime("%Y-%m-%d_%H%M%S.jsonl")
        path = Path(os.path.expanduser(path))
        chat.save(path)
        return f"saved to {path}"
    if name == "clear":
        chat.clear()
        return "a new conversation" + (" with the same system message" if chat.system else "")
    if name == "stats":
        settings.stats = not settings.stats
        return f"tokens per second are {'shown' if settings.stats else 'not shown'}"
    if name == "help":
        return HELP
    raise UserError(f"there is no command /{name}: /help lists them; a space before the / makes it a message")


def _turn_knob(name: str, argument: str, settings: Settings) -> str:
    setting, kind, fits, wanted = KNOBS[name]
    if argument:
        try:
            value = kind(argument)
        except ValueError:
            value = None
        if value is None or not fits(value):
            raise UserError(f"/{name} {argument}: it must be {wanted}")
        setattr(settings, setting, value)
    value = getattr(settings, setting)
    return f"{setting.replace('_', ' ')} {value:g}" if kind is float else f"{setting.replace('_', ' ')} {value}"


def _system(argument: str, chat: Conversation) -> str:
    if chat.raw:
        raise UserError("a base model takes no system message")
    if argument:
        chat.system = "" if argument == "off" else argument
    return f"system message: {chat.system}" if chat.system else "no system message"


# --- the screen ------------------------------------------------------------------------------------------------------


class Screen:
    """Answers go here. A terminal shows tool calls and remarks as well, dim if it has colours; plain, for pipes, is nothing but the text that the
    assistant says, and remarks go to stderr."""

    def __init__(self, plain: bool):
        self.plain = plain
        colours = not plain and not os.environ.get("NO_COLOR") and os.environ.get("TERM", "dumb") != "dumb"
        self.dim, self.normal = ("\033[2m", "\033[0m") if colours else ("", "")
        self.part: dict | None = None  # that is being written

    def write(self, part: dict, piece: str) -> None:
        """The next piece of an answer."""
        if not self.plain:
            piece = self._between(part) + piece
        elif part["type"] != "text":
            return
        if piece:
            print(piece, end="", flush=True)

    def end(self) -> None:
        print(self._between(None), flush=True)

    def _between(self, part: dict | None) -> str:
        """What stands between the part that was being written and this one: a call looks like [12+30 = 42]."""
        before, self.part = self.part, part
        if part is before or self.plain:
            return ""
        old, new = (p["type"] if p else "text" for p in (before, part))
        if (old, new) == ("python", "python_output"):
            return " = "
        closing = "" if old == "text" else f"]{self.normal}"
        return closing + {"text": "", "python": f"{self.dim}[", "python_output": f"{self.dim}[= "}[new]

    def tell(self, text: str, what: str = "note") -> None:
        """A remark of the program's own."""
        if self.plain:
            print(f"{what}: {text}", file=sys.stderr, flush=True)
        else:
            print(text if "\n" in text else f"{self.dim}({text}){self.normal}", flush=True)


# --- what is typed ---------------------------------------------------------------------------------------------------


class Pipe:
    """Messages from a file or another program: a line each. One that ends in a backslash goes on in the next."""

    stopped = False  # Ctrl-C ends the program

    def read(self, more: bool) -> str:
        """A line; `more` if it goes on with a message. EOFError after the last."""
        if not (line := sys.stdin.readline()):
            raise EOFError
        return line.removesuffix("\n")

    def message(self) -> str:
        lines = [self.read(more=False)]
        while lines[-1].endswith("\\"):
            lines[-1] = lines[-1][:-1]
            try:
                lines.append(self.read(more=True))
            except EOFError:
                break
        return visible("\n".join(lines))

    def messages(self) -> Iterator[str]:
        sys.stdin.reconfigure(errors="replace")  # bytes that are no text end nothing
        while True:
            try:
                text = self.message()
            except EOFError:
                return
            yield text


class Keyboard(Pipe):
    """Messages from a person, who can edit them, and bring back earlier ones with the arrow keys. Ctrl-C clears the line, and twice on an empty one
    it leaves, as Ctrl-D does; while the model answers, it only sets `stopped`."""

    def __init__(self, screen: Screen, history: Path):
        self.screen, self.history = screen, history
        self.reading = self.more = self.stopped = False
        self.last = ""
        try:
            import readline
        except ImportError:  # some builds of Python lack it
            readline = None
        self.readline = readline
        if readline:
            readline.parse_and_bind("set enable-bracketed-paste on")  # what is pasted is one message, however many lines
            readline.set_auto_history(False)  # a message is one entry, however many lines
            self._recall()
        signal.signal(signal.SIGINT, self._ctrl_c)

    def _ctrl_c(self, number: int, frame) -> None:
        if self.reading:
            raise KeyboardInterrupt
        self.stopped = True

    def read(self, more: bool) -> str:
        self.reading, self.more = True, more
        try:
            return input("... " if more else "> ")
        except EOFError:
            print()
            raise
        finally:
            self.reading = False

    def message(self) -> str:
        leaving = False
        print()
        while True:
            try:
                text = super().message()
                break
            except KeyboardInterrupt:
                print()
                if self.more or (self.readline and self.readline.get_line_buffer()):  # something was typed, and is cleared
                    leaving = False
                elif leaving:
                    raise EOFError from None
                else:
                    leaving = True
                    self.screen.tell("Ctrl-C again or Ctrl-D leaves")
        self.stopped = False
        self._remember(text)
        return text

    # The history is a file of our own: readline's has no room for messages of several lines, and libedit, in its place on macOS, has another.

    def _recall(self) -> None:
        try:
            lines = self.history.read_text(encoding="utf-8", errors="replace").split("\n")
        except OSError:  # nothing was said so far
            return
        for line in lines[-HISTORY:]:
            try:
                self.readline.add_history(json.loads(line))
            except (ValueError, TypeError):
                continue

    def _remember(self, text: str) -> None:
        """For nobody else to read."""
        if not self.readline or not text.strip() or text == self.last:
            return
        self.last = text
        self.readline.add_history(text)
        try:
            self.history.parent.mkdir(parents=True, exist_ok=True)
            handle = os.open(self.history, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
            with os.fdopen(handle, "w", encoding="utf-8") as file:
                os.fchmod(handle, 0o600)
                file.write(json.dumps(text) + "\n")
        except OSError:  # a full disk does not end a conversation
            pass
