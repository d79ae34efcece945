"""Conversations about who the model is, for SFT: from templates, or written by another model.

    python -m dev.gen_synthetic_data --name Lumi --made-by "Ada and Tom"           # from templates: no network, a second
    python -m dev.gen_synthetic_data --show-facts > facts.txt                      # what is said about the model; edit it, then
    python -m dev.gen_synthetic_data --facts facts.txt --num 2000
    python -m dev.gen_synthetic_data --endpoint http://127.0.0.1:8000/v1 --model some-model      # written by that model

The file is what tasks/customjson.py reads: by default $NANOCHAT_BASE_DIR/identity_conversations.jsonl, which SFT calls `identity`.
"""

import argparse
import contextlib
import fcntl
import hashlib
import json
import os
import queue
import sys
import threading
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import BinaryIO, NamedTuple

from dev.chat_endpoint import BadAnswer, ChatEndpoint
from dev.identity_chat import Facts, conversation, read_facts
from dev.identity_prompts import checked, prompt_for
from dev.identity_talk import BUILT_IN_FACTS
from nanochat.common import ArgumentParser, UserError, friendly_errors, get_base_dir, print0, write_text
from tasks.common import text_of
from tasks.customjson import parse_conversation

TRIES = 5  # bad answers for one conversation before it is given up
IN_VAIN = 10  # conversations given up one after the other before the run is
REPORT_EVERY = 50  # conversations
WANTED = {"--num": "a number from 1 on", "--workers": "1 to 256", "--temperature": "0 to 2", "--timeout": "seconds, more than 0 and at most a day"}


def parse_args() -> argparse.Namespace:
    parser = ArgumentParser(description="Write conversations about who the model is, for SFT")
    parser.add_argument("--output", type=Path, default=None, help="default: identity_conversations.jsonl in the base dir, which SFT calls identity")
    parser.add_argument("--overwrite", action="store_true", help="replace the output if it is there")
    parser.add_argument("--num", type=int, default=1000, help="conversations")
    parser.add_argument("--seed", type=int, default=42, help="the same seed throws the same dice")
    group = parser.add_argument_group("who the model is")
    group.add_argument("--name", default="nanochat", help="of the model")
    group.add_argument("--made-by", default=None, help='who trained it: "Ada", "the chess club of Fernhill"')
    group.add_argument("--facts", type=Path, default=None, help="file of 'topic: what the model says about it', instead of the built-in facts")
    group.add_argument("--show-facts", action="store_true", help="print the built-in facts, to begin a file of your own with, and do nothing else")
    group = parser.add_argument_group("written by another model, through any OpenAI-compatible server; its key comes from OPENAI_API_KEY")
    group.add_argument("--endpoint", default=None, help="http://host:port/v1 (OPENAI_BASE_URL, if that is set; '' for templates nevertheless)")
    group.add_argument("--model", default=None, help="name of the model there")
    group.add_argument("--workers", type=int, default=4, help="questions at the same time")
    group.add_argument("--temperature", type=float, default=1.0, help="of the model's sampling")
    group.add_argument("--timeout", type=float, default=120.0, help="seconds to wait for one answer")
    return parser.parse_args()


def check_args(args: argparse.Namespace) -> None:
    for flag, value, right in (
        ("--num", args.num, args.num >= 1),
        ("--workers", args.workers, 1 <= args.workers <= 256),
        ("--temperature", args.temperature, 0 <= args.temperature <= 2),
        ("--timeout", args.timeout, 0 < args.timeout <= 86400),
    ):
        if not right:
            raise UserError(f"{flag} {value} is not usable: give {WANTED[flag]}")
    for flag, value in (("--name", args.name), ("--made-by", args.made_by)):
        if value is not None and (not value.strip() or not value.isprintable()):
            raise UserError(f"{flag} {value!r} is not usable: give a name in one line, or leave it out")
    if any(parent.is_file() for parent in args.output.parents):
        raise UserError(f"--output {args.output} lies in something that is no folder: correct the path")
    if args.output.is_dir():
        raise UserError(f"--output {args.output} is a folder: give the file's name as well")
    if args.output.exists() and not args.output.is_file():
        raise UserError(f"--output {args.output} is a device or a pipe: give the name of a file")
    if args.output.exists() and not args.overwrite:
        raise UserError(f"{args.output} is there already: give another --output, or --overwrite to replace it")


def facts_from(args: argparse.Namespace) -> Facts:
    try:
        text = args.facts.expanduser().read_text(encoding="utf-8-sig") if args.facts else None
    except OSError as error:
        raise UserError(f"--facts {args.facts} cannot be read ({error.strerror}): correct the path") from error
    except UnicodeDecodeError as error:
        raise UserError(f"--facts {args.facts} is not a text in UTF-8 ({error.reason} at byte {error.start}): save it as one") from error
    return read_facts(text, str(args.facts), args.name.strip(), args.made_by and args.made_by.strip())


def once() -> Callable[[dict], bool]:
    """A function that is true for each conversation the first time it sees it, whichever thread asks."""
    seen, lock = set(), threading.Lock()

    def is_new(made: dict) -> bool:
        key = json.dumps(made["messages"])
        with lock:
            known = key in seen
            seen.add(key)
        return not known

    return is_new


# --- asking another model --------------------------------------------------------------------------------------------


class Outcome(NamedTuple):
    index: int
    conversation: dict | None  # None: given up
    complaints: list[str]  # what was wrong with the bad answers before


def written_by_a_model(endpoint: ChatEndpoint, facts: Facts, seed: int, is_new: Callable[[dict], bool], index: int) -> Outcome:
    complaints: list[str] = []
    while len(complaints) < TRIES:
        try:
            made = checked(endpoint.ask(prompt_for(facts, seed, index, len(complaints))), facts)
            if is_new(made):
                return Outcome(index, made, complaints)
            complaints.append("a conversation that was there already")
        except BadAnswer as error:
            complaints.append(str(error))
    return Outcome(index, None, complaints)


def in_threads(work: Callable, items: Sequence, workers: int, stop: threading.Event) -> Iterator:
    """The results as they come, and the first error. Nobody waits for these threads at the end: one of them may hang on a slow server."""
    waiting, results = queue.SimpleQueue(), queue.SimpleQueue()
    for item in items:
        waiting.put(item)

    def run() -> None:
        while not stop.is_set():
            try:
                results.put((work(waiting.get_nowait()), None))
            except queue.Empty:
                return
            except BaseException as error:
                results.put((None, error))
                return

    try:
        for _ in range(min(workers, len(items))):
            threading.Thread(target=run, daemon=True).start()
        for _ in items:
            result, error = results.get()
            if error:
                raise error
            yield result
    finally:
        stop.set()


# --- what has arrived -------------------------------------------------------------------------------------------------


@contextlib.contextmanager
def part_file(path: Path, settings: dict) -> Iterator["PartFile"]:
    """Open it, or begin it, and let nobody else do so meanwhile."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with open(path, "a+b") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            raise UserError(f"another process is writing {path}: wait for it, or give another --output") from error
        yield PartFile(path, file, settings)


class PartFile:
    """What has arrived, a line each, below a line that says with which settings. It outlives a run that is stopped."""

    def __init__(self, path: Path, file: BinaryIO, settings: dict):
        self.path, self.file = path, file
        self.conversations = self._read(settings)

    def add(self, index: int, made: dict) -> None:
        self._write({"index": index, "conversation": made})
        self.conversations[index] = made

    def first(self, num: int) -> list[dict]:
        return [self.conversations[index] for index in sorted(self.conversations) if index < num]

    def _read(self, settings: dict) -> dict[int, dict]:
        self.file.seek(0)
        whole = self.file.read().rpartition(b"\n")[0]  # what a process that died has left of a last line is of no use
        begun, *lines = self._parse(whole) if whole else [None]
        if not lines:  # nothing is lost with the settings of a run that got nowhere, for instance because of them
            self.file.truncate(0)
            self._write({"settings": settings})
            return {}
        if changed := [f"{name} {begun.get(name)!r}, now {value!r}" for name, value in settings.items() if begun.get(name) != value]:
            raise UserError(f"{self.path} was begun with other settings ({'; '.join(changed)}): use those again, or delete it to begin anew")
        self.file.truncate(len(whole) + 1)
        return dict(lines)

    def _parse(self, whole: bytes) -> list:
        """The settings, then (index, conversation) for each line."""
        try:
            header, *lines = map(json.loads, whole.split(b"\n"))
            found = [(int(line["index"]), parse_conversation(json.dumps(line["conversation"]).encode())) for line in lines]
            return [dict(header["settings"]), *found]
        except (ValueError, LookupError, TypeError) as error:
            raise UserError(f"{self.path} is not what an earlier run has left ({error}): delete it to begin anew") from error

    def _write(self, line: dict) -> None:
        self.file.write(json.dumps(line, ensure_ascii=False).encode() + b"\n")
        self.file.flush()


def gather(arriving: Iterator[Outcome], part: PartFile, num: int) -> None:
    """Keep what comes. A model that gets nothing right is not asked a thousand times."""
    complaints: Counter[str] = Counter()
    in_vain = 0
    for number, outcome in enumerate(arriving, 1):
        complaints.update(outcome.complaints)
        in_vain = 0 if outcome.conversation else in_vain + 1
        if outcome.conversation:
            part.add(outcome.index, outcome.conversation)
        if in_vain == IN_VAIN or (in_vain == num and not part.first(num)):
            raise UserError(f"the last {in_vain} conversations were given up, each after {TRIES} bad answers, the last of them because of: "
                            f"{outcome.complaints[-1]}. Try another --model or a lower --temperature; {kept(part, num)}")  # fmt: skip
        if number % REPORT_EVERY == 0:
            print0(f"{len(part.conversations):,} conversations, {complaints.total():,} bad answers on the way")
    if complaints:
        (worst, times), *_ = complaints.most_common(1)
        print0(f"{complaints.total():,} bad answers were asked for again, {times:,} of them because of: {worst}")


def kept(part: PartFile, num: int) -> str:
    return f"{len(part.conversations):,} of {num:,} conversations are kept in {part.path}: run the same command again to go on from there"


def from_endpoint(args: argparse.Namespace, url: str, facts: Facts) -> list[dict]:
    """All conversations, those of an interrupted run among them. The part file goes when the output is whole."""
    if not args.model:
        raise UserError(f"the server at {url} needs --model: the name of the model that is to write (or give --endpoint '' to use templates)")
    endpoint = ChatEndpoint(url, args.model, os.environ.get("OPENAI_API_KEY", ""), args.temperature, args.timeout)
    prompts = hashlib.sha256(prompt_for(facts, args.seed, 0, 0).encode()).hexdigest()[:16]  # all the facts stand in it
    settings = {"model": args.model, "temperature": args.temperature, "seed": args.seed, "name": facts.name, "prompts": prompts}
    with part_file(args.output.with_name(args.output.name + ".part"), settings) as part:
        try:
            gather(outcomes(args, endpoint, facts, part), part, args.num)
        except KeyboardInterrupt:
            print(f"\n{kept(part, args.num)}", file=sys.stderr, flush=True)
            raise
        conversations = part.first(args.num)
        save(args.output, conversations)
        part.path.unlink()
    return conversations


def outcomes(args: argparse.Namespace, endpoint: ChatEndpoint, facts: Facts, part: PartFile) -> Iterator[Outcome]:
    """Of the conversations that are missing."""
    is_new = once()
    for made in part.conversations.values():
        is_new(made)
    missing = [index for index in range(args.num) if index not in part.conversations]
    before = f"; {args.num - len(missing):,} are there from an earlier run" if len(missing) < args.num else ""
    print0(f"{args.model} at {endpoint.url} writes {len(missing):,} conversations{before}")
    return in_threads(partial(written_by_a_model, endpoint, facts, args.seed, is_new), missing, args.workers, endpoint.stop)


# --- all of it -------------------------------------------------------------------------------------------------------


def save(output: Path, conversations: list[dict]) -> None:
    write_text(output, "".join(json.dumps(made, ensure_ascii=False) + "\n" for made in conversations))


def show(output: Path, conversations: list[dict], num: int) -> None:
    first = {made["messages"][0]["content"] for made in conversations}
    turns = sum(len(made["messages"]) for made in conversations)
    print0(f"{output}: {len(conversations):,} conversations, {turns:,} turns, "
           f"{len(first):,} different first messages ({len(first) / len(conversations):.1%})")  # fmt: skip
    if len(conversations) < num:
        print0(f"{num - len(conversations):,} conversations were given up, each after {TRIES} bad answers: with a larger --num you get more")
    for made in conversations[:: max(1, len(conversations) // 3)][:3]:
        print0()
        for message in made["messages"]:
            print0(f"  {message['role']}: {text_of(message['content'])}")


def main(args: argparse.Namespace) -> None:
    if args.show_facts:
        print(BUILT_IN_FACTS, end="")
        return
    args.output = (args.output or get_base_dir() / "identity_conversations.jsonl").expanduser()
    check_args(args)
    facts = facts_from(args)
    if url := os.environ.get("OPENAI_BASE_URL", "") if args.endpoint is None else args.endpoint:
        conversations = from_endpoint(args, url, facts)
    else:
        is_new = once()
        conversations = [conversation(facts, args.seed, index, is_new) for index in range(args.num)]
        save(args.output, conversations)
    show(args.output, conversations, args.num)


if __name__ == "__main__":
    with friendly_errors():
        main(parse_args())
