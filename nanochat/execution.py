"""The tools that a chat model may call. Importing it does nothing."""

import contextlib
import functools
import marshal
import math
import operator
import os
import re
import secrets
import selectors
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

# --- the calculator --------------------------------------------------------------------------------------------------
#
# A model may write anything, and Python's own parser answers some of it with a warning or a full stack. So the calculator reads what it allows by
# itself, computing on the way; a word that it does not know has no meaning here, whatever it would mean to Python.

LONGEST = 2000  # characters of an expression: room for a long sentence to count in
DEEPEST = 40  # parentheses, signs and right-hand sides inside each other
LARGEST = 10**100  # every integer stays below it, on the way as well, so no step takes long or much memory

TOKEN = re.compile(
    r"""[ \t]*(
      (?:[0-9]+(?:,[0-9]+)*\.?[0-9]*|\.[0-9]+)(?:[eE][+-]?[0-9]+)?  # 12   1,234.5   .5   1e-3
    | '[^'\\\r\n\0]*' | "[^"\\\r\n\0]*"                             # escapes are refused, not understood
    | \*\* | // | [-+*/%()] | \.count | len
    )""",
    re.VERBOSE,
)
SUM, PRODUCT, POWER = 1, 2, 3  # how tightly operators bind; a sign binds like the base of a power: -2**2 is -(2**2)
BINDING = {"+": SUM, "-": SUM, "*": PRODUCT, "/": PRODUCT, "//": PRODUCT, "%": PRODUCT, "**": POWER}
MEANING = {
    "+": operator.add, "-": operator.sub, "*": operator.mul, "/": operator.truediv, "//": operator.floordiv, "%": operator.mod, "**": operator.pow,
}  # fmt: skip


def use_calculator(expression: str) -> str | None:
    """The value of an expression like "1,234 * (5 + 6)" or "'strawberry'.count('r')" as Python would print it, or None if it is refused: because it
    is more than arithmetic on numbers and counts, has no value, or its value is too large. Never raises, never prints, works in any thread."""
    if len(expression) > LONGEST:
        return None
    try:
        return repr(_Calculation(expression.strip()).result())
    except (ValueError, ArithmeticError):
        return None


class _Calculation:
    """Reads the tokens of one expression from left to right and computes as it goes: precedence climbing, with Python's precedences."""

    def __init__(self, text: str):
        self.tokens = _tokens(text)
        self.ahead = next(self.tokens, "")  # the token that nobody has taken yet, "" after the last one
        self.depth = 0

    def result(self) -> int | float:
        value = self.value(SUM)
        self.expect("")
        return value

    def take(self) -> str:
        token, self.ahead = self.ahead, next(self.tokens, "")
        return token

    def expect(self, wanted: str) -> None:
        if (token := self.take()) != wanted:
            raise ValueError(f"expected {wanted!r}, found {token!r}")

    def value(self, loosest: int) -> int | float:
        """The value of what follows, up to the first operator that binds less tightly than `loosest`."""
        self.depth += 1
        if self.depth > DEEPEST:
            raise ValueError("nested too deeply")
        left = self.operand()
        while BINDING.get(self.ahead, 0) >= loosest:
            symbol = self.take()
            right = self.value(POWER if symbol == "**" else BINDING[symbol] + 1)  # 2**3**2 is 2**(3**2); 7-3-2 is (7-3)-2
            if symbol == "**":
                _check_power(left, right)
            left = _bounded(MEANING[symbol](left, right))
        self.depth -= 1
        return left

    def operand(self) -> int | float:
        token = self.take()
        if token in ("+", "-"):
            value = self.value(POWER)
            return value if token == "+" else -value
        if token == "(":
            value = self.value(SUM)
            self.expect(")")
            return value
        if token == "len":
            return len(self.argument())
        if token.startswith(("'", '"')):  # nothing but this can be done with a text
            self.expect(".count")
            return _quoted(token).count(self.argument())
        return _bounded(_number(token))

    def argument(self) -> str:
        self.expect("(")
        text = _quoted(self.take())
        self.expect(")")
        return text


def _tokens(text: str) -> Iterator[str]:
    at = 0
    while at < len(text):
        if not (match := TOKEN.match(text, at)):
            raise ValueError(f"the calculator has no {text[at]!r}")
        yield match[1]
        at = match.end()


def _quoted(token: str) -> str:
    if not token.startswith(("'", '"')):
        raise ValueError(f"expected a text in quotes, found {token!r}")
    return token[1:-1]


def _number(token: str) -> int | float:
    digits = token.replace(",", "")
    if not digits.isdigit():
        return float(digits)  # a ValueError if the token is no number at all but a sign out of place
    if digits[0] == "0" and digits.strip("0"):
        raise ValueError("neither Python nor a comma that was meant as a decimal point lets an integer begin with 0")
    return int(digits)


def _check_power(base: int | float, exponent: int | float) -> None:
    """Before it is computed. An integer is at least 2^(bits - 1), so only what is too large is refused, and the rest has 200 digits at most."""
    if isinstance(base, int) and isinstance(exponent, int) and (base.bit_length() - 1) * exponent >= LARGEST.bit_length():
        raise ValueError("too large")


def _bounded(value: int | float | complex) -> int | float:
    """The value, unless it is a large integer, infinite, not a number, or complex (a fractional power of a negative number)."""
    if isinstance(value, int) and -LARGEST < value < LARGEST:
        return value
    if isinstance(value, float) and math.isfinite(value):
        return value
    raise ValueError("too large, or no real number")


# --- the sandbox -----------------------------------------------------------------------------------------------------
#
# A program that a model wrote runs in a process of its own, which sandbox_runner.py builds and watches. Beside limits on time, memory, files and
# processes, four parts hold it, and any of them may be refused by a kernel or a container:
#
#   namespaces  no network, no other processes, and a root folder that holds nothing but system folders, Python, and a small /tmp in memory
#   landlock    reads only those, writes only its own folder, whatever the root folder is
#   seccomp     no sockets, no memory that no limit counts, none of the calls that a program for the standard library never needs
#   processes   a limit on processes that binds: root becomes nobody, for no such limit binds root
#
# A level names what is there: "full"; "no-" and the parts that are not, as in "no-namespaces+processes"; "limits-only" if none of the first three is;
# "none" where there are no Unix processes at all, and then nothing runs. Without namespaces the rest still keeps a program from the contents of files
# and from the network, but not from seeing names and sizes, nor from changing modes and times of files of the same user, nor, before Linux 6.12,
# from signalling this user's processes; and what it writes to its folder is then limited only per file. With Landlock or namespaces there is no
# /dev/shm, which the locks of multiprocessing need.

PARTS = ("namespaces", "landlock", "seccomp", "processes")
SMALLEST_MEMORY = 32 << 20  # Python itself takes half of it
KEPT, KEPT_END = 1 << 20, 1 << 16  # bytes of each stream that are kept: its beginning, and its end if there is more
PATIENCE = 20.0  # seconds that building and leaving the sandbox may take on a busy machine, beside the program's own

MARK_AT = 50  # the descriptor it is read from: above what Python takes by itself, below the limit on open files
PRINT_MARK = f"""
import os, sys
sys.__stdout__.flush()
os.write(1, b"\\n" + os.read({MARK_AT}, 64) + b"\\n")
os._exit(0)
"""


class ExecutionResult(NamedTuple):
    success: bool  # it ran to its end: exit code 0
    stdout: str
    stderr: str
    error: str | None  # one line, None after a success
    timeout: bool
    memory_exceeded: bool
    level: str  # of the sandbox that it ran in


class _Outcome(NamedTuple):
    stdout: str
    stderr: str
    report: list[str]  # the runner's words: ["ended", code, perhaps a reason], ["refused", part, …] or ["broken", …]


def execute_code(code: str, timeout: float = 5.0, maximum_memory_bytes: int = 256 << 20, sandbox: str = "best") -> ExecutionResult:
    """Run a program as strictly as this system lets us ("best"), or not at all unless the level is "full" ("strict"). It reads nothing from stdin,
    has the standard library only, and is gone with all its processes when this returns. Works in any thread."""
    return _execute(code, timeout, maximum_memory_bytes, sandbox)


def check_program(program: str, checks: str, timeout: float = 5.0, maximum_memory_bytes: int = 256 << 20, sandbox: str = "best") -> ExecutionResult:
    """Like `execute_code` on the program and then the checks, but a success only if the checks were passed to their end: after them a random mark is
    read from a pipe and has to be the last line of stdout. A program that exits before cannot print it: it is in no file, argument or environment.
    A program that knows this function can: it may read that pipe itself, or replace what the checks call, or return objects that equal everything.
    Who runs in the same process as its judge can always fool it; the mark tells who ended early from who got there."""
    mark = secrets.token_hex(16)
    result = _execute(f"{program}\n\n{checks}\n\n{PRINT_MARK}", timeout, maximum_memory_bytes, sandbox, mark)
    before, _, last = result.stdout.rstrip("\n").rpartition("\n")
    if last == mark:
        return result._replace(stdout=before)
    return result._replace(success=False, error=result.error or "ended before its checks did")


def _execute(code: str, timeout: float, memory: int, sandbox: str, mark: str = "") -> ExecutionResult:
    if sandbox not in ("best", "strict"):
        raise ValueError(f"sandbox={sandbox!r} is neither 'best' nor 'strict'")
    if not 0 < timeout < math.inf:
        raise ValueError(f"timeout={timeout!r}: a program needs some seconds, and only some")
    if memory < SMALLEST_MEMORY:
        raise ValueError(f"maximum_memory_bytes={memory}: Python does not start with less than {SMALLEST_MEMORY}")
    if not hasattr(os, "fork"):
        return ExecutionResult(False, "", "", "this system has no processes that a sandbox could hold", False, False, "none")
    missing = _missing_parts(os.geteuid())
    level = _level(missing)
    if missing and sandbox == "strict":
        reasons = "; ".join(f"{part} ({reason})" for part, reason in missing.items())
        return ExecutionResult(False, "", "", f"sandbox='strict' and this system lacks {reasons}", False, False, level)
    outcome = _launch(code, [part for part in PARTS if part not in missing], timeout, memory, mark)
    return _judge(outcome, timeout, memory, level)


def _level(missing: dict[str, str]) -> str:
    if set(PARTS[:3]) <= missing.keys():
        return "limits-only"
    return "no-" + "+".join(part for part in PARTS if part in missing) if missing else "full"


@functools.cache
def _missing_parts(user: int) -> dict[str, str]:
    """The parts that this system refuses to this user, with the reason: found out by trying, once per process."""
    if sys.platform != "linux":
        return dict.fromkeys(PARTS, "not Linux")
    missing: dict[str, str] = {}
    while len(missing) < len(PARTS):
        there = [part for part in PARTS if part not in missing]
        outcome = _launch("print('here')", there, PATIENCE, 256 << 20)
        if outcome.stdout == "here\n":
            break
        refused = outcome.report[1] if outcome.report[:1] == ["refused"] else ""
        part = refused if refused in there else there[0]  # Python may be unable to start in it: then with less, but say so
        missing[part] = " ".join(outcome.report[2:] if refused else [*outcome.report, outcome.stderr[-200:]])
    return missing


def _judge(outcome: _Outcome, timeout: float, memory: int, level: str) -> ExecutionResult:
    stdout, stderr, report = outcome
    if report[:1] != ["ended"]:
        return ExecutionResult(False, stdout, stderr, f"the sandbox failed: {' '.join(report) or 'it did not answer'}", False, False, level)
    code, reason = int(report[1]), "".join(report[2:])
    last_words = (stderr.strip().splitlines() or [""])[-1][:500]
    late = reason == "timeout" or code == -signal.SIGXCPU
    large = reason == "memory" or (code != 0 and last_words.startswith("MemoryError"))
    if late:
        error = f"not done after {timeout:g} seconds"
    elif large:
        error = f"more than {memory >> 20} MiB of memory"
    elif reason == "processes":
        error = "too many processes"
    elif code < 0:
        error = f"ended by signal {-code}"
    else:
        error = (last_words or f"exit code {code}") if code else None
    return ExecutionResult(error is None, stdout, stderr, error, late, large, level)


@contextlib.contextmanager
def _temporary_folder() -> Iterator[str]:
    folder = tempfile.TemporaryDirectory(prefix="nanochat-", ignore_cleanup_errors=True)
    try:
        yield folder.name
    finally:
        try:
            folder.cleanup()
        except RecursionError:  # a program may nest folders deeper than Python's own remover can go
            subprocess.run(["rm", "-rf", folder.name], check=False, stderr=subprocess.DEVNULL)


def _launch(code: str, parts: list[str], timeout: float, memory: int, mark: str = "") -> _Outcome:
    runner = Path(__file__).with_name("sandbox_runner.py")
    environment = {name: os.environ[name] for name in ("LD_LIBRARY_PATH",) if name in os.environ}  # Python may not start without it
    with _temporary_folder() as folder:
        Path(folder, "program.py").write_bytes(code.encode("utf-8", "surrogatepass"))
        reading, writing = os.pipe()
        try:
            process = subprocess.Popen(
                [sys.executable, "-I", "-S", "-B", str(runner)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE, bufsize=0,
                pass_fds=(writing,), env=environment, cwd="/", start_new_session=True,
            )  # fmt: skip
        except BaseException:
            os.close(reading)
            raise
        finally:
            os.close(writing)
        job = {"folder": folder, "parts": parts, "timeout": timeout, "memory": memory, "status": writing, "parent": os.getpid()}
        with process, open(reading, "rb", buffering=0) as report:
            try:
                with contextlib.suppress(BrokenPipeError):  # it died already, and the report says why or nothing
                    process.stdin.write(marshal.dumps({**job, "mark": mark.encode(), "mark_at": MARK_AT}))
                    process.stdin.close()
                streams = _read_all([process.stdout, process.stderr, report], timeout + PATIENCE)
            finally:
                with contextlib.suppress(ProcessLookupError, PermissionError):
                    os.killpg(process.pid, signal.SIGKILL)  # whoever is left; the group is ours until `process` has been waited for
    return _Outcome(streams[0], streams[1], (streams[2].splitlines() or [""])[0].split())


def _read_all(files: list, seconds: float) -> list[str]:
    """What comes out of the files until all of them or the last one ends, or the time is up: the program's two streams, and the runner's report."""
    deadline, kept = time.monotonic() + seconds, {file.fileno(): _Capped() for file in files}
    last = files[-1].fileno()
    with selectors.DefaultSelector() as selector:
        for descriptor in kept:
            os.set_blocking(descriptor, False)
            selector.register(descriptor, selectors.EVENT_READ)
        while last in selector.get_map() and (left := deadline - time.monotonic()) > 0:
            for key, _ in selector.select(left):
                if not kept[key.fd].read_from(key.fd):
                    selector.unregister(key.fd)
    for descriptor in kept:  # what still lies in the pipes; somebody who escaped may hold and fill them forever
        for _ in range(32):
            if not kept[descriptor].read_from(descriptor):
                break
    return [capped.text() for capped in kept.values()]


class _Capped:
    """The beginning and the end of a stream, however long it is."""

    def __init__(self):
        self.beginning, self.end, self.dropped = bytearray(), bytearray(), 0

    def read_from(self, descriptor: int) -> bool:
        """Take what is there; False if nothing is, because the stream has ended or, asked too early, for now."""
        try:
            data = os.read(descriptor, 1 << 16)
        except BlockingIOError:
            return False
        room = KEPT - len(self.beginning)
        self.beginning += data[:room]
        self.end += data[room:]
        if (over := len(self.end) - KEPT_END) > 0:
            self.dropped += over
            del self.end[:over]
        return bool(data)

    def text(self) -> str:
        left_out = f"\n[… {self.dropped} bytes left out …]\n".encode() if self.dropped else b""
        return (self.beginning + left_out + self.end).decode("utf-8", "replace")
