"""What every other module leans on: folders, ranks, dtypes, atomic files, arguments and errors. Importing it does nothing."""

import argparse
import contextlib
import errno
import os
import re
import signal
import sys
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple, NoReturn

if TYPE_CHECKING:
    import torch

# torch takes a second to import and half of the commands never need it, so only the functions that do import it.

DEFAULT_DATASET = "climbmix"
DTYPE_NAMES = {"bfloat16": "bfloat16", "bf16": "bfloat16", "float16": "float16", "fp16": "float16", "float32": "float32", "fp32": "float32"}


HUGE_PAGES = {"GLIBC_TUNABLES": "glibc.malloc.hugetlb=1"}
OF_THE_DISK = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EACCES, errno.EROFS, errno.ENOTDIR, errno.ENAMETOOLONG)  # errors, but not of ours

# --- errors and messages ---------------------------------------------------------------------------------------------


class UserError(ValueError):
    """Something the user can mend. The message says what happened and what to do; no traceback is shown."""


@contextlib.contextmanager
def friendly_errors() -> Iterator[None]:
    """Around a script's main: a UserError becomes one message and exit code 1, Ctrl-C exit code 130. What the user has to mend is also written into
    $NANOCHAT_REFUSAL, if a recipe wants to know whether it is any use to try again: torchrun does not hand exit codes on."""
    for stream in (sys.stdout, sys.stderr):  # a name or a token that the terminal cannot show must not end a run
        stream.reconfigure(errors="backslashreplace")
    try:
        dtype_override()  # misspelt, it should end the first stage of a recipe and not the third
        yield
    except UserError as error:
        _refuse(str(error))
    except OSError as error:
        if error.errno not in OF_THE_DISK and not str(error.filename).startswith(str(get_base_dir())):
            raise
        where = f" at {error.filename}" if error.filename else ""
        _refuse(f"{error.strerror}{where}: make room or set NANOCHAT_BASE_DIR to a folder that can be written")
    except RuntimeError as error:
        if "home directory" not in str(error):  # which is what Path.expanduser says of ~somebody
            raise
        _refuse("a path begins with ~ and the name of a user whom this machine does not know: write its folder out")
    except SystemExit as stop:
        if stop.code == 2:  # argparse, which has said what is wrong
            _note_refusal("wrong flags")
        raise
    except KeyboardInterrupt:
        print("interrupted", file=sys.stderr, flush=True)
        sys.exit(130)


def _refuse(message: str) -> NoReturn:
    print(f"error: {message}", file=sys.stderr, flush=True)
    _note_refusal(message)
    sys.exit(1)


def _note_refusal(message: str) -> None:
    if path := os.environ.get("NANOCHAT_REFUSAL"):
        with contextlib.suppress(OSError):  # the disk may be what is wrong
            write_text(Path(path), message + "\n")


def print0(*args, **kwargs) -> None:
    """Print on the first rank only, at once (a log that arrives late is no log)."""
    distributed = sys.modules.get("torch.distributed")  # not imported yet means that there are no ranks yet
    if distributed is None or not distributed.is_available() or not distributed.is_initialized() or distributed.get_rank() == 0:
        print(*args, flush=True, **kwargs)


# --- files -----------------------------------------------------------------------------------------------------------


def get_base_dir() -> Path:
    """Where everything lives that a run makes: $NANOCHAT_BASE_DIR, or ~/.cache/nanochat. Made by whoever writes there first."""
    return Path(os.environ.get("NANOCHAT_BASE_DIR") or Path.home() / ".cache" / "nanochat").expanduser()


def check_name(kind: str, name: str) -> str:
    """Names become folder names, so they may not wander about the file system."""
    if not re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9_.-]*", name):
        raise UserError(f"{kind} name {name!r} is not usable: take letters, digits, '_', '-' and '.', starting with a letter or digit")
    return name


@contextlib.contextmanager
def atomic_path(path: Path) -> Iterator[Path]:
    """Yield a temporary path to write; afterwards `path` holds all of it, or, if anything failed, what it held before."""
    path.parent.mkdir(parents=True, exist_ok=True)
    handle, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.", suffix=".tmp")
    os.close(handle)
    temporary = Path(name)
    try:
        yield temporary
        with open(temporary, "rb") as file:  # on disk before it gets its name: a power cut must not leave an empty file behind
            os.fsync(file.fileno())
        temporary.chmod(0o666 & ~_umask())  # mkstemp makes files private; these are not secrets
        temporary.replace(path)
        sync_directory(path.parent)
    finally:
        temporary.unlink(missing_ok=True)


def write_text(path: Path, text: str) -> None:
    with atomic_path(path) as temporary:
        temporary.write_text(text, encoding="utf-8")


def sync_directory(path: Path) -> None:
    """Make a rename in this folder survive a power cut."""
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    except OSError:  # some network file systems cannot; the rename itself still holds
        pass
    finally:
        os.close(handle)


def _umask() -> int:
    mask = os.umask(0)
    os.umask(mask)
    return mask


# --- arguments -------------------------------------------------------------------------------------------------------


class ArgumentParser(argparse.ArgumentParser):
    """argparse that shows defaults, takes --a-b and --a_b alike, and shrugs at the `--` that torchrun users put before flags."""

    def __init__(self, **kwargs):
        kwargs.setdefault("formatter_class", argparse.ArgumentDefaultsHelpFormatter)
        super().__init__(allow_abbrev=False, **kwargs)

    def parse_known_args(self, args: Sequence[str] | None = None, namespace=None):
        args = sys.argv[1:] if args is None else list(args)
        return super().parse_known_args([_dashed(arg) for arg in args if arg != "--"], namespace)


def _dashed(arg: str) -> str:
    if not re.match(r"--[A-Za-z]", arg):
        return arg
    flag, equals, value = arg.partition("=")
    return flag.replace("_", "-") + equals + value


def add_dataset_argument(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--dataset", default=DEFAULT_DATASET, help="which data set: climbmix, fineweb_edu, tinyworld, or a name you imported")


def check_resume_flags(parser: argparse.ArgumentParser, args: argparse.Namespace) -> None:
    """Of --resume, --resume-from-step and --overwrite each says something else about what a folder holds."""
    for flag, given in (("--resume", args.resume), ("--resume-from-step", args.resume_from_step >= 0)):
        if args.overwrite and given:
            parser.error(f"--overwrite deletes what {flag} would go on with: give one of the two")
    if args.resume and args.resume_from_step >= 0:
        parser.error("--resume goes on from the last step and --resume-from-step from another one: give one of the two")


def rows_or_auto(text: str) -> int | str:
    """The type of --device-batch-size."""
    if text == "auto" or (text.isdigit() and int(text) > 0):
        return text if text == "auto" else int(text)
    raise argparse.ArgumentTypeError(f"{text!r} is neither a number of rows nor auto")


# --- stopping --------------------------------------------------------------------------------------------------------


class StopSignal:
    """Ctrl-C or SIGTERM asks a training loop to stop after the step and save; `number` is the signal that came, 0 if none did. The same signal a
    second time acts as if nobody listened; but not under torchrun: it hands on what it gets, a batch system sends that to all processes besides, and
    whoever does not end in time is killed by torchrun."""

    def __init__(self):
        self.number = 0
        for number in (signal.SIGINT, signal.SIGTERM):
            signal.signal(number, self._note)

    def _note(self, number: int, frame) -> None:
        first, self.number = not self.number, self.number or number
        if not under_torchrun():
            signal.signal(number, signal.default_int_handler if number == signal.SIGINT else signal.SIG_DFL)
            os.write(2, b"\nstopping after this step; the same signal again aborts\n")  # print might be in the middle of a line
        elif first:
            os.write(2, b"\nstopping after this step\n")


def under_torchrun() -> bool:
    return "TORCHELASTIC_RUN_ID" in os.environ


def _end_with_torchrun() -> None:
    """Have Linux send us SIGTERM when torchrun dies. A torchrun that is killed cannot end its ranks; they would keep on training beside those that
    the next one starts. As it is, all of them save and end, and nothing is lost."""
    import ctypes

    set_parent_death_signal = 1  # name of prctl.h
    with contextlib.suppress(OSError, AttributeError):  # no Linux
        ctypes.CDLL(None).prctl(set_parent_death_signal, signal.SIGTERM)


# --- compute ---------------------------------------------------------------------------------------------------------


class Compute(NamedTuple):
    """Who this process is among the ranks and where it computes. compute_init makes it, and nothing else knows about ranks."""

    ddp: bool
    rank: int
    local_rank: int
    world_size: int
    device: "torch.device"


def compute_init(device_type: str = "", seed: int = 42) -> Compute:
    """Choose the device, join the other ranks if torchrun started us, seed. Fails before any long work if something is amiss."""
    import torch

    device_type = device_type or autodetect_device_type()
    available = {"cpu": True, "cuda": torch.cuda.is_available(), "mps": torch.backends.mps.is_available()}
    if not available.get(device_type):
        usable = ", ".join(name for name, ok in available.items() if ok)
        raise UserError(f"--device-type {device_type} is not available here; this machine has: {usable}")
    ddp = all(name in os.environ for name in ("RANK", "LOCAL_RANK", "WORLD_SIZE"))
    rank, local_rank, world_size = (int(os.environ[n]) for n in ("RANK", "LOCAL_RANK", "WORLD_SIZE")) if ddp else (0, 0, 1)
    if ddp and device_type == "mps":
        raise UserError("several ranks cannot share an MPS device: start the script with plain python, or pass --device-type cpu")
    if device_type == "cuda" and local_rank >= torch.cuda.device_count():
        raise UserError(f"{local_rank + 1} ranks on this node but only {torch.cuda.device_count()} GPUs: lower torchrun's --nproc_per_node")

    device = torch.device(device_type, local_rank) if device_type == "cuda" else torch.device(device_type)
    dtype_override()
    if ddp and under_torchrun():
        _end_with_torchrun()
    torch.manual_seed(seed)
    if device_type == "cuda":
        torch.cuda.set_device(device)
        torch.cuda.manual_seed(seed)
        torch.set_float32_matmul_precision("high")  # TF32 for what little float32 matrix work is left
    if device_type == "cpu":
        _keep_freed_memory()
    if ddp:
        join_ranks("nccl" if device_type == "cuda" else "gloo", device_id=device if device_type == "cuda" else None)
    return Compute(ddp, rank, local_rank, world_size, device)


def _keep_freed_memory() -> None:
    """Have glibc keep large blocks that are freed instead of handing them back: every page of a new one is zeroed at its first touch, and for
    a matrix product of moderate size that takes longer than the product."""
    import ctypes

    trim_threshold, mmap_max = -1, -4  # names of glibc's malloc.h
    try:
        libc = ctypes.CDLL("libc.so.6")
        libc.mallopt(mmap_max, 0)
        libc.mallopt(trim_threshold, 2**31 - 1)
    except (OSError, AttributeError):  # another libc: it works as well, a little slower
        pass


def restart_with_huge_pages() -> None:
    """Have glibc ask for pages of 2 MB, which makes training on a CPU a few per cent faster. It asks only if told so before the process begins, so
    the process begins again, at once and with the same arguments. For the `if __name__ == "__main__"` of a script that trains."""
    wanted = Path("/sys/kernel/mm/transparent_hugepage/enabled")
    if "GLIBC_TUNABLES" in os.environ or not wanted.exists() or "[never]" in wanted.read_text():
        return
    os.execve(sys.executable, [sys.executable, *sys.orig_argv[1:]], {**os.environ, **HUGE_PAGES})


def join_ranks(backend: str, **how) -> None:
    """init_process_group, of a group that really ends. torch.distributed.nn, which comes along with the first optimizer, keeps the group that it
    finds when it is imported; gloo's threads would then live as long as the interpreter, and now and then abort the process in its last moment."""
    import torch.distributed.nn

    torch.distributed.init_process_group(backend, **how)


def compute_cleanup() -> None:
    import torch.distributed as dist

    if dist.is_available() and dist.is_initialized():
        dist.destroy_process_group()


def autodetect_device_type() -> str:
    import torch

    return "cuda" if torch.cuda.is_available() else "mps" if torch.backends.mps.is_available() else "cpu"


def compute_dtype(device: "torch.device") -> "torch.dtype":
    """The dtype of activations and matrix products. $NANOCHAT_DTYPE overrides what the device suggests."""
    import torch

    if wish := dtype_override():
        return getattr(torch, wish)
    if device.type == "cuda":
        return torch.bfloat16 if torch.cuda.get_device_capability(device) >= (8, 0) else torch.float32
    return torch.bfloat16 if device.type == "cpu" and cpu_has_bf16() else torch.float32


def dtype_override() -> str | None:
    """The dtype that $NANOCHAT_DTYPE asks for, by torch's name."""
    wish = os.environ.get("NANOCHAT_DTYPE", "").strip().lower()
    if wish and wish not in DTYPE_NAMES:
        raise UserError(f"NANOCHAT_DTYPE={wish!r} is not a dtype: use bfloat16 (bf16), float16 (fp16) or float32 (fp32), or unset it")
    return DTYPE_NAMES.get(wish)


def cpu_has_bf16() -> bool:
    """Does this CPU multiply bf16 natively (AVX512-BF16 or AMX)? Without that bf16 is emulated and slower than float32."""
    try:
        flags = re.search(r"^flags\s*:(.*)$", Path("/proc/cpuinfo").read_text(), re.MULTILINE)
    except OSError:  # no Linux, no such CPU that we could tell
        return False
    return bool(flags) and not {"avx512_bf16", "amx_bf16"}.isdisjoint(flags.group(1).split())
