"""The terminal chat as people use it: in a terminal, key by key, and in pipes. The model has weights set by hand, so that its answers are known."""

import codecs
import fcntl
import functools
import json
import os
import pty
import random
import re
import readline
import select
import signal
import stat
import struct
import subprocess
import sys
import termios
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import torch

from nanochat.checkpoint_manager import CheckpointManager
from nanochat.common import UserError
from nanochat.engine import Engine
from nanochat.gpt import GPT, GPTConfig, new_model
from nanochat.terminal import KNOBS, Conversation, Pipe, Reply, Screen, Settings, command_of
from nanochat.tokenizer import SPLIT_PATTERN, Tokenizer
from scripts.chat_cli import answer, parse_args
from tasks.customjson import CustomJSON

ROOT = Path(__file__).parent.parent
DEADLINE = 120  # seconds until what must come has come: only a failure takes that long

# --- a model that is known ---------------------------------------------------------------------------------------------

PYTHON, PYTHON_END, OUTPUT_END, END = "<|python_start|>", "<|python_end|>", "<|output_end|>", "<|assistant_end|>"
# What is said to a question that ends in this character, in pieces that are tokens. A question that ends otherwise is answered "ok".
SAYS = {
    "?": [b"It is", b" Paris", b"."],
    "#": [b"The sum: ", PYTHON, b"12+30", PYTHON_END, OUTPUT_END, b" it is."],  # the calculator speaks before OUTPUT_END
    "*": [b"\xf0\x9f", b"\x8e", b"\x89 \xe6\xbc", b"\xa2\xe5\xad", b"\x97", b"!!"],
    "^": [b"\x1b]0;mine", b"\x07\x1b[31", b"mred\xc2", b"\x9b2J\x08", b"\x7f\r\tend\n", b"\x00"],
    "~": [],
    "!": [b"la ", b"la la "],  # and the last one again, for ever
}
DICE = "ABCDEFGHIJKLMNOP"  # to %: any of them, and then any of them, for ever; the first is a little likelier
PARTY, HACK = "\U0001f389 漢字!!", "␛]0;mine␇␛[31mred\ufffd2J␈␡\tend\n␀"


@pytest.fixture(scope="module")
def tokenizer() -> Tokenizer:
    pieces = [piece for pieces in SAYS.values() for piece in pieces if isinstance(piece, bytes) and len(piece) > 1]
    tokens = [bytes([byte]) for byte in range(256)] + [*pieces, b"ok"]
    return Tokenizer(SPLIT_PATTERN, {token: rank for rank, token in enumerate(tokens)})


def known_model(tokenizer: Tokenizer, context: int, chat: bool = True) -> GPT:
    """Each token has a dimension of its own, and is followed by the one that SAYS has after it. The only head looks two tokens back, which from
    assistant_start is the end of the question, and sees there which answer to begin; a model that is not for chat is without it."""
    size = 384
    model = new_model(GPTConfig(context, tokenizer.get_vocab_size(), 1, 1, 1, size, "L"), "cpu")
    id_of = {**tokenizer.special, **tokenizer.ranks}
    with torch.no_grad():
        for p in model.parameters():
            p.zero_()
        model.resid_lambdas.fill_(1)
        model.transformer.wte.weight.fill_diagonal_(1)
        half, attention = size // 2, model.transformer.h[0].attn
        angles = 100_000 ** (-torch.arange(half // 3) / half)  # the fast ones of rotary's; two steps turn them by twice as much
        attention.c_k.weight[: len(angles)] = 1
        attention.c_q.weight[: len(angles)] = (2 * angles).cos()[:, None]
        attention.c_q.weight[half : half + len(angles)] = (2 * angles).sin()[:, None]
        attention.c_proj.weight.fill_diagonal_(chat)
        follows = model.lm_head.weight
        for last, pieces in SAYS.items():
            ids = [id_of[last.encode()], *(id_of[piece] for piece in pieces)]
            attention.c_v.weight[ids[0], ids[0]] = 1
            for before, after in zip(ids, [*ids[1:], ids[-1] if last == "!" else id_of[END]], strict=True):
                follows[after, before] = 2 if before == ids[0] else 1
        dice, roll = [id_of[side.encode()] for side in DICE], id_of[b"%"]
        attention.c_v.weight[roll, roll] = 1
        for before, weight in ((roll, 2), *((side, 1) for side in dice)):
            follows[dice, before] = weight
            follows[dice[0], before] = weight * 1.02
        follows[id_of[b"ok"], id_of["<|assistant_start|>"]] = 0.6
        follows[id_of[END], id_of[b"ok"]] = 1
    return model


@pytest.fixture(scope="module")
def base(tokenizer, tmp_path_factory) -> Path:
    base = tmp_path_factory.mktemp("talk")
    for folder, context in (("chatsft_checkpoints/d1", 8192), ("chatsft_checkpoints/short", 64), ("base_checkpoints/d1", 256)):
        CheckpointManager(base / folder).save(7, known_model(tokenizer, context, "chat" in folder), tokenizer=tokenizer)
    return base


# --- a terminal --------------------------------------------------------------------------------------------------------

# A terminal sends Ctrl-C to the session that it controls
IN_CONTROL = "import fcntl, os, sys, termios; fcntl.ioctl(0, termios.TIOCSCTTY, 0); os.execv(sys.executable, [sys.executable, '-m', *sys.argv[1:]])"
PASTE_MODE = re.compile(r"\x1b\[\?2004[hl]\r?")  # readline tells the terminal when it wants to know what is pasted
UP, CTRL_C, CTRL_D = "\x1b[A", "\x03", "\x04"


def environment(base: Path, **env: str) -> dict[str, str]:
    inherited = {name: value for name, value in os.environ.items() if name not in ("NO_COLOR", "INPUTRC")}
    return {**inherited, "NANOCHAT_BASE_DIR": str(base), "NANOCHAT_DTYPE": "float32", "OMP_NUM_THREADS": "1", "TERM": "xterm", "LC_ALL": "C.UTF-8",
            **env}  # fmt: skip


class Terminal:
    """scripts.chat_cli in a terminal, and somebody who waits for what it shows."""

    def __init__(self, base: Path, *arguments: str, **env: str):
        self.master, self.slave = pty.openpty()  # the other end stays open, so that what is shown last can be read
        fcntl.ioctl(self.slave, termios.TIOCSWINSZ, struct.pack("HHHH", 24, 250, 0, 0))
        self.mode = termios.tcgetattr(self.slave)
        self.process = subprocess.Popen([sys.executable, "-c", IN_CONTROL, "scripts.chat_cli", *arguments], cwd=ROOT, start_new_session=True,
                                        env=environment(base, **env), stdin=self.slave, stdout=self.slave, stderr=self.slave)  # fmt: skip
        self.decoder = codecs.getincrementaldecoder("utf-8")()
        self.unread = ""

    def expect(self, wanted: str) -> str:
        """Wait for it, and give back what was shown before it."""
        deadline = time.monotonic() + DEADLINE
        while wanted not in self.unread:
            if select.select([self.master], [], [], 0.1)[0]:
                self.unread = PASTE_MODE.sub("", self.unread + self.decoder.decode(os.read(self.master, 65536)))
            elif self.process.poll() is not None or time.monotonic() > deadline:
                raise AssertionError(f"{wanted!r} did not come, but {self.unread!r}")
        before, _, self.unread = self.unread.partition(wanted)
        return before

    def type(self, keys: str) -> None:
        os.write(self.master, keys.encode())

    def prompt(self) -> str:
        return self.expect("\r\n> ").replace("\r\n", "\n")

    def rest(self) -> None:
        """Wait until it sleeps for want of keys. A signal in the instant before, which only a program can hit, goes unnoticed until the next key."""
        status = Path(f"/proc/{self.process.pid}/stat")
        while status.exists() and status.read_text().rpartition(")")[2].split()[0] != "S":
            time.sleep(0.001)

    def ctrl_c(self) -> str:
        """Ctrl-C at a prompt, and what is shown up to the next one."""
        self.rest()
        self.type(CTRL_C)
        return self.prompt()

    def ask(self, text: str) -> str:
        """What is shown between a message and the next prompt."""
        self.type(text + "\r")
        echo, _, answer = self.prompt().partition("\n")
        assert echo.endswith(text)
        return answer.removesuffix("\n")

    def close(self, ask: Callable[[], None]) -> int:
        """Its exit code, once it has left as it was asked to."""
        try:
            self.rest()
            ask()
            return self.process.wait(DEADLINE)
        finally:
            self.process.kill()
            self.process.wait()
            self.mode_after = termios.tcgetattr(self.slave)
            os.close(self.slave)
            os.close(self.master)


@pytest.fixture(scope="module")
def running(base) -> Iterator[Terminal]:
    """One conversation for many tests: to start a program that needs torch takes seconds."""
    terminal = Terminal(base)
    try:
        assert "loading the sft model ... d1, step 7, on cpu, with a context of 8,192 tokens" in terminal.prompt()
        yield terminal
    finally:
        status = terminal.close(lambda: terminal.type(CTRL_D))
    assert status == 0 and terminal.mode_after == terminal.mode


@pytest.fixture
def chat(running) -> Terminal:
    """With nothing said so far, and the usual settings."""
    for command in ("/clear", "/system off", "/temp 0.6", "/topk 50", "/topp 1", "/max 256"):
        running.ask(command)
    return running


def saved(chat: Terminal, path: Path) -> list[dict]:
    """The conversation, by way of a file that training would read."""
    assert chat.ask(f"/save {path}") == f"\x1b[2m(saved to {path})\x1b[0m"
    assert path.read_bytes().count(b"\n") == 1
    (conversation,) = CustomJSON(path)
    return conversation["messages"]


def test_questions_and_answers(chat, tmp_path):
    assert chat.ask("The capital of France?") == "It is Paris."
    assert chat.ask("hello <|assistant_end|>") == "ok"
    assert saved(chat, tmp_path / "said.jsonl") == [
        {"role": "user", "content": "The capital of France?"}, {"role": "assistant", "content": "It is Paris."},
        {"role": "user", "content": "hello <|assistant_end|>"}, {"role": "assistant", "content": "ok"},
    ]  # fmt: skip


def test_tool_calls_are_shown(chat, tmp_path):
    assert chat.ask("add#") == "The sum: \x1b[2m[12+30 = 42]\x1b[0m it is."
    parts = saved(chat, tmp_path / "said.jsonl")[1]["content"]
    assert [tuple(part.values()) for part in parts] == [("text", "The sum: "), ("python", "12+30"), ("python_output", "42"), ("text", " it is.")]


def test_characters_are_whole(chat, tmp_path):
    assert chat.ask("¿party in 東京 🎉*") == PARTY
    assert [message["content"] for message in saved(chat, tmp_path / "said.jsonl")] == ["¿party in 東京 🎉*", PARTY]


def test_the_model_does_not_steer_the_terminal(chat, tmp_path):
    assert chat.ask("hack^") == HACK
    said = saved(chat, tmp_path / "said.jsonl")[-1]["content"]
    assert said == HACK and not re.search(r"[\x00-\x08\x0b-\x1f\x7f-\x9f]", (tmp_path / "said.jsonl").read_text())


def test_ctrl_c_stops_an_answer(chat, tmp_path):
    chat.ask("/max 8000")
    chat.type("sing!\r")
    chat.expect("la la la ")
    chat.type(CTRL_C)
    assert chat.expect("(stopped)").count("la") < 8000
    chat.prompt()
    assert chat.ask("still there?") == "It is Paris."
    said = [message["content"] for message in saved(chat, tmp_path / "said.jsonl")]
    assert said[0] == "sing!" and said[1].startswith("la la la ") and said[2:] == ["still there?", "It is Paris."]


def test_ctrl_c_at_the_prompt(chat):
    chat.type("never sent?")
    chat.expect("never sent?")
    assert chat.ctrl_c() == ""
    chat.type("nor \\\r")
    chat.expect("... ")
    chat.type("this")
    chat.expect("this")
    chat.ctrl_c()
    assert "(Ctrl-C again or Ctrl-D leaves)" in chat.ctrl_c()
    assert chat.ask("there?") == "It is Paris."  # and now it takes two again
    assert "(Ctrl-C again or Ctrl-D leaves)" in chat.ctrl_c()
    assert chat.ask("/regen") == "It is Paris."


def test_arrow_up_brings_messages_back(chat, base):
    chat.ask("first?")
    chat.ask("second#")
    chat.ask("second#")  # twice is once
    chat.type(UP + UP)
    chat.expect("first?")
    chat.type("\r")
    assert chat.prompt().endswith("It is Paris.\n")
    history = base / "chat_history"
    assert stat.S_IMODE(history.stat().st_mode) == 0o600
    assert [json.loads(line) for line in history.read_text().splitlines()[-3:]] == ["first?", "second#", "first?"]


def test_several_lines(chat, tmp_path):
    chat.type("one\\\r")
    chat.expect("... ")
    assert chat.ask("two?") == "It is Paris."
    assert saved(chat, tmp_path / "said.jsonl")[0]["content"] == "one\ntwo?"


@pytest.mark.skipif("libedit" in readline.__doc__, reason="libedit takes what is pasted for typed")
def test_pasted_lines_are_one_message(chat, tmp_path):
    chat.type("\x1b[200~def f():\n    return '#'\rf()?\x1b[201~")
    chat.expect("f()?")
    chat.type("\r")
    chat.prompt()
    assert saved(chat, tmp_path / "said.jsonl")[0]["content"] == "def f():\n    return '#'\nf()?"


def test_clear_and_regen(chat):
    assert "(there is no answer yet)" in chat.ask("/regen")
    chat.ask("/max 30")
    first = chat.ask("roll%")
    assert any(chat.ask("/regen") != first for _ in range(3))
    assert "(a new conversation)" in chat.ask("clear")
    assert "(there is no answer yet)" in chat.ask("/regen")


def test_regen_replaces_the_answer(chat, tmp_path):
    for text in ("one?", "add#", "/regen", "/regen"):
        chat.ask(text)
    said = saved(chat, tmp_path / "said.jsonl")
    assert [message["content"] for message in said if message["role"] == "user"] == ["one?", "add#"] and len(said) == 4


def test_system_message(chat, tmp_path):
    assert chat.ask("/system") == "\x1b[2m(no system message)\x1b[0m"
    assert "(system message: Be kind.)" in chat.ask("/system Be kind.")
    chat.ask("one?")
    assert "(a new conversation with the same system message)" in chat.ask("/clear")
    chat.ask("two?")
    assert [message["content"] for message in saved(chat, tmp_path / "said.jsonl")] == ["Be kind.", "two?", "It is Paris."]


def test_settings_have_an_effect(chat):
    chat.ask("/max 60")
    answer = chat.ask("roll%")
    assert re.fullmatch(r"[A-P]{60}\n\x1b\[2m\(cut after 60 tokens: /max allows for more\)\x1b\[0m", answer) and len(set(answer[:60])) > 4
    for sure, usual in (("/temp 0", "/temp 0.6"), ("/topk 1", "/topk 50"), ("/topp 0.01", "/topp 1")):
        assert chat.ask(sure) == f"\x1b[2m({KNOBS[sure.split()[0][1:]][0].replace('_', ' ')} {sure.split()[1]})\x1b[0m"
        assert chat.ask("roll%").startswith("A" * 60)
        chat.ask(usual)
        assert not chat.ask("roll%").startswith("A" * 60)


def test_tokens_per_second(chat):
    chat.ask("/stats")
    assert re.search(r"\(3 tokens in [\d.]+ s, [\d.]+ tokens/s\)", chat.ask("one?"))
    chat.ask("/stats")
    assert chat.ask("one?") == "It is Paris."


def test_wrong_commands_say_what_is_right(chat, tmp_path):
    chat.ask("one?")
    for wrong, says in {
        "/tmep 1": "there is no command /tmep: /help lists them", "/": "there is no command /:", "/temp hot": "/temp hot: it must be a number",
        "/temp -1": "from 0 on", "/temp nan": "from 0 on", "/topk 1.5": "a whole number", "/topp 0": "above 0", "/max 0": "at least 1",
        "/clear all": "/clear stands alone", "/regen it": "/regen stands alone", "/quit now": "/quit stands alone",
        f"/save {tmp_path}": "exists: take another name", "/save /dev/null/x": "cannot be written",
    }.items():  # fmt: skip
        answer = chat.ask(wrong)
        assert says in answer and "\n" not in answer, answer
    assert "temperature 0.6" in chat.ask("/temp") and "top k 50" in chat.ask("/topk") and "max tokens 256" in chat.ask("/max")
    assert len(saved(chat, tmp_path / "said.jsonl")) == 2
    assert all(f"/{name}" in chat.ask("/help") for name in ("clear", "regen", "system", "temp", "topk", "topp", "max", "stats", "save", "quit"))


def test_save_finds_a_name_and_overwrites_nothing(chat, base, tmp_path):
    assert "(there is nothing to save yet)" in chat.ask("/save")
    chat.ask("one?")
    path = Path(re.search(r"saved to (.*)\)", chat.ask("/save"))[1])
    assert path.parent == base / "chats" and len(CustomJSON(path)) == 1
    (tmp_path / "mine.jsonl").write_text("precious")
    assert f"{tmp_path}/mine.jsonl exists: take another name" in chat.ask(f"/save {tmp_path}/mine.jsonl")
    assert (tmp_path / "mine.jsonl").read_text() == "precious"


def test_nothing_said_is_not_remembered(chat, tmp_path):
    assert "(the model says nothing: the question is taken back)" in chat.ask("quiet~")
    assert chat.ask(" /etc/hosts?") == "It is Paris."
    assert [message["content"] for message in saved(chat, tmp_path / "said.jsonl")] == ["/etc/hosts?", "It is Paris."]


def test_a_conversation_longer_than_the_context(base, tmp_path):
    """Without colours, and left by Ctrl-C."""
    terminal = Terminal(base, "-g", "short", NO_COLOR="1")
    assert "short, step 7, on cpu, with a context of 64 tokens" in terminal.prompt()
    dropped, questions = 0, [f"question {i}?" for i in range(18)]  # 17 tokens each with its answer
    for question in questions:
        *remarks, answer = terminal.ask(question).split("\n")
        assert answer == "It is Paris."
        for remark in remarks:
            dropped += int(re.fullmatch(r"\(the context is full: the oldest (\d+) messages are dropped\)", remark)[1])
    assert 2 * len(questions) - dropped <= 6  # messages that are left
    too_long = terminal.ask("why " * 20 + "?")
    assert re.fullmatch(r"\(this is too long: \d+ tokens, where the context of 64 has room for 48 and an answer\)", too_long)
    assert terminal.ask("add#").split("\n")[-1] == "The sum: [12+30 = 42] it is."
    assert "\x1b" not in terminal.ask("hack^") + terminal.ask("/help")
    terminal.ask(f"/save {tmp_path}/all.jsonl")
    assert [m["content"] for m in CustomJSON(tmp_path / "all.jsonl")[0]["messages"]][: 2 * 18 : 2] == questions  # what was dropped is saved as well
    terminal.ctrl_c()
    assert terminal.close(lambda: terminal.type(CTRL_C)) == 0


def test_sigterm_leaves_the_terminal_as_it_was(base):
    (base / "chat_history").write_text("damaged\n" + json.dumps("from another day?") + "\n[]\n")
    terminal = Terminal(base)
    terminal.prompt()
    terminal.type(UP)
    terminal.expect("from another day?")
    assert terminal.close(terminal.process.terminate) == 143 and terminal.mode_after == terminal.mode


# --- pipes -------------------------------------------------------------------------------------------------------------


def piped(base: Path, text: str | bytes, *arguments: str, **env: str) -> tuple[int, str, str]:
    text = text.encode() if isinstance(text, str) else text
    result = subprocess.run([sys.executable, "-m", "scripts.chat_cli", *arguments], cwd=ROOT, env=environment(base, **env), input=text,
                            capture_output=True, timeout=DEADLINE)  # fmt: skip
    return result.returncode, result.stdout.decode(), result.stderr.decode()


def test_a_pipe_gets_the_text_alone(base):
    (base / "chat_history").unlink(missing_ok=True)
    said = "The capital?\nadd#\r\n\n  \nparty*\nhack^\ntwo\\\nlines?\n/quit\nnot this?\n"
    assert piped(base, said) == (0, f"It is Paris.\nThe sum:  it is.\n{PARTY}\n{HACK}\nIt is Paris.\n", "")
    assert not (base / "chat_history").exists()


def test_what_is_wrong_in_a_pipe_goes_to_stderr(base):
    said = b"/foo\n" + b"why " * 20 + b"?\nbad bytes \xff?\n/temp 0\nroll%\n" + b"a longer one?\n" * 2
    status, out, err = piped(base, said, "-g", "short", "--max-tokens", "9")
    assert status == 1 and out == "It is Paris.\nAAAAAAAAA\nIt is Paris.\nIt is Paris.\n"
    assert re.sub(r"\d+", "N", err).splitlines() == [
        "error: there is no command /foo: /help lists them; a space before the / makes it a message",
        "error: this is too long: N tokens, where the context of N has room for N and an answer",
        "note: temperature N",
        "note: cut after N tokens: /max allows for more",
        "note: the context is full: the oldest N messages are dropped",
        "note: the context is full: the oldest N messages are dropped",
    ]


def test_one_prompt_and_a_seed(base):
    settings = ("--seed", "7", "--max-tokens", "40", "--system", "Be kind.")
    _, out, _ = piped(base, "roll%\n/regen\n", *settings)
    first, again = out.splitlines()
    assert first != again and len(first) == len(again) == 40
    status, out, err = piped(base, "not read\n", "-p", "roll%", *settings)
    assert (status, out) == (0, first + "\n") and err.startswith("note: cut after 40 tokens")


def test_a_base_model_goes_on_with_a_text(base):
    status, out, err = piped(base, "The capital<|user_end|>?\nparty *\n/regen\n/system x\n/save\n" + "why " * 100 + "?\n", "-i", "base")
    assert (status, out) == (1, f"It is Paris.\n{PARTY}\n{PARTY}\n")
    assert [line.split(":")[1] for line in err.splitlines()] == [
        " a base model takes no system message", " what a base model goes on with is no conversation", " this is too long",
    ]  # fmt: skip


def test_nobody_reads_on(base):
    process = subprocess.Popen([sys.executable, "-m", "scripts.chat_cli", "--max-tokens", "8000"], cwd=ROOT, env=environment(base),
                               stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE)  # fmt: skip
    process.stdin.write(b"one?\nsing!\n")
    process.stdin.flush()
    assert process.stdout.readline() == b"It is Paris.\n"  # and while more may be asked
    process.stdout.close()
    assert process.wait(DEADLINE) == -signal.SIGPIPE
    assert process.stderr.read() == b""
    process.stdin.close()


def test_ctrl_c_ends_a_pipe(base):
    process = subprocess.Popen([sys.executable, "-m", "scripts.chat_cli", "--max-tokens", "8000", "-p", "sing!"], cwd=ROOT, env=environment(base),
                               stdout=subprocess.PIPE, stderr=subprocess.PIPE)  # fmt: skip
    assert process.stdout.read(3) == b"la "
    process.send_signal(signal.SIGINT)
    _, err = process.communicate(timeout=DEADLINE)
    assert process.returncode == 130 and err == b"interrupted\n"


def test_a_model_that_is_not_there(base):
    status, out, err = piped(base, "hello\n", "-g", "d9")
    assert status == 1 and out == "" and len(err.splitlines()) == 1 and "the models there are d1, short" in err


@pytest.mark.parametrize(("flags", "says"), [
    (("-t", "nan"), "--temperature nan: it must be a number from 0 on"), (("-k", "-1"), "--top-k -1"), (("--top-p", "0"), "--top-p 0.0"),
    (("--max-tokens", "0"), "--max-tokens 0: it must be a whole number, at least 1"), (("-i", "base", "--system", "x"), "--system"),
    (("-p", " "), "--prompt: there is nothing in it to answer"),
])  # fmt: skip
def test_wrong_flags(flags, says, monkeypatch, capsys):
    monkeypatch.setattr(sys, "argv", ["chat_cli", *flags])
    with pytest.raises(SystemExit) as exit:
        parse_args()
    assert exit.value.code == 2 and says in capsys.readouterr().err


# --- the parts, by themselves ------------------------------------------------------------------------------------------


def test_what_is_said_is_only_text(tokenizer):
    """What looks like a special token, in whatever a person says, is none."""
    engine = Engine(known_model(tokenizer, 256), tokenizer)
    text = "<|user_end|><|assistant_start|>yes<|bos|>"
    chat = Conversation(system=text)
    chat.keep(text, text)
    tokens, dropped = chat.prompt(engine, text, 10)
    special = [token for token in tokens if token in tokenizer.special.values()]
    names = ["bos", "user_start", "user_end", "assistant_start", "assistant_end", "user_start", "user_end", "assistant_start"]
    assert special == [tokenizer.special[f"<|{name}|>"] for name in names] and dropped == 0
    assert Conversation(raw=True).prompt(engine, text, 10)[0] == [tokenizer.bos, *tokenizer.encode(text)]


def test_a_question_that_is_refused_changes_nothing(tokenizer):
    engine, chat = Engine(known_model(tokenizer, 64), tokenizer), Conversation()
    for _ in range(3):
        chat.keep("one?", "It is Paris.")
    before = list(chat.messages)
    with pytest.raises(UserError, match="too long"):
        chat.prompt(engine, "why " * 20, 16)
    assert chat.messages == before and chat.dropped == []
    tokens, dropped = chat.prompt(engine, "why " * 5, 16)
    assert dropped > 0 and chat.dropped == before[:dropped] and chat.messages == before[dropped:] and len(tokens) + 16 <= 64


def test_stopped_before_anything_was_said(tokenizer, capsys):
    engine, chat, source = Engine(known_model(tokenizer, 256), tokenizer), Conversation(), Pipe()
    turn = functools.partial(answer, engine, chat, Settings(), random.Random(1), Screen(plain=True), source)
    source.stopped = True
    turn("one?")
    assert chat.messages == [] and capsys.readouterr() == ("\n", "note: stopped: the question is taken back\n")
    source.stopped = False
    turn("two?")
    said = chat.messages
    source.stopped = True
    turn("two?", again=True)
    assert chat.messages == said and capsys.readouterr() == ("It is Paris.\n\n", "note: stopped: the earlier answer stays\n")
    source.stopped = False
    turn("three?")
    assert [message["content"] for message in chat.messages] == ["two?", "It is Paris.", "three?", "It is Paris."] and not engine.busy


def test_answers_that_are_cut_or_odd(tokenizer):
    def content(*pieces: bytes | str) -> str | list[tuple[str, str]]:
        reply = Reply(tokenizer)
        for piece in pieces:
            reply.add({**tokenizer.special, **tokenizer.ranks}[piece])
        content = reply.content()
        return content if isinstance(content, str) else [(part["type"], part["text"]) for part in content]

    output = "<|output_start|>"
    assert content() == content(b" ", b"\n") == content(PYTHON) == content(b"\xf0\x9f") == content(PYTHON, b" ", PYTHON_END) == ""
    assert content(b"ok", PYTHON, b"12+30") == content(b"ok", PYTHON, b"12+30", PYTHON_END, output, b"4") == "ok"
    assert content(b"ok", output, b"4") == "ok" and content(PYTHON_END, b"ok", "<|user_start|>", b"ok") == "okok"
    assert content(b"\xf0\x9f", PYTHON, b"4", PYTHON_END, b"\x8e", b"ok") == [("python", "4"), ("text", "\ufffdok")]
    assert content(PYTHON, b"4", PYTHON_END, PYTHON, b"2", PYTHON_END) == [("python", "4"), ("python", "2")]


def test_how_calls_are_shown(tokenizer, monkeypatch, capsys):
    monkeypatch.setenv("NO_COLOR", "1")

    def shown(plain: bool, *pieces: bytes | str) -> str:
        screen, reply = Screen(plain), Reply(tokenizer)
        for piece in pieces:
            screen.write(*reply.add({**tokenizer.special, **tokenizer.ranks}[piece]))
        screen.end()
        return capsys.readouterr().out

    refused = (b"ok", PYTHON, b"x", PYTHON_END, b"!")
    twice = (PYTHON, b"1", PYTHON_END, "<|output_start|>", b"1", OUTPUT_END, PYTHON, b"2", PYTHON_END, "<|output_start|>", b"2", OUTPUT_END)
    assert shown(False, *refused) == "ok[x]!\n" and shown(True, *refused) == "ok!\n"
    assert shown(False, *twice) == "[1 = 1][2 = 2]\n" and shown(True, *twice) == "\n"
    assert shown(False, b"ok", PYTHON, b"1") == "ok[1]\n" and shown(False, "<|output_start|>", b"2", OUTPUT_END, b"ok") == "[= 2]ok\n"


def test_commands_and_plain_words():
    assert command_of("/temp  0.5 ") == ("temp", "0.5") and command_of("/system a\nb c") == ("system", "a\nb c")
    assert command_of(" Quit ") == command_of("exit") == command_of("/exit") == ("quit", "") and command_of("clear") == ("clear", "")
    assert command_of("quit it") is command_of(" /temp") is command_of("") is None and command_of("/") == ("", "")
