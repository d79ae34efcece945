import errno
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from nanochat import common
from nanochat.common import ArgumentParser, UserError, atomic_path, check_name, compute_dtype, compute_init, friendly_errors, write_text

ROOT = Path(__file__).parent.parent


def test_base_dir_follows_the_environment(monkeypatch, tmp_path):
    monkeypatch.setenv("NANOCHAT_BASE_DIR", str(tmp_path / "here"))
    assert common.get_base_dir() == tmp_path / "here"
    assert not (tmp_path / "here").exists()  # asking does not make it
    monkeypatch.delenv("NANOCHAT_BASE_DIR")
    monkeypatch.setenv("HOME", str(tmp_path))
    assert common.get_base_dir() == tmp_path / ".cache" / "nanochat"


def test_atomic_write_replaces_all_or_nothing(tmp_path):
    path = tmp_path / "deep" / "file.txt"
    write_text(path, "first")
    with pytest.raises(OSError), atomic_path(path) as temporary:
        temporary.write_text("half of the sec")
        raise OSError(errno.ENOSPC, "No space left on device")
    assert path.read_text() == "first"
    write_text(path, "second")
    assert path.read_text() == "second"
    assert os.listdir(path.parent) == ["file.txt"]  # no temporary files stay behind
    assert path.stat().st_mode & 0o444 == 0o444 & ~common._umask()


@pytest.mark.parametrize("name", ["../x", "a/b", "", ".hidden", "-n", "a b", "a\n"])
def test_bad_names(name):
    with pytest.raises(UserError, match="name"):
        check_name("data set", name)


def parser() -> ArgumentParser:
    p = ArgumentParser()
    p.add_argument("--device-batch-size", type=int, default=32)
    p.add_argument("--run", default="dummy")
    return p


@pytest.mark.parametrize("argv", [
    ["--device-batch-size=4", "--run", "a_b"],
    ["--device_batch_size=4", "--run=a_b"],
    ["--device_batch_size", "4", "--run", "a_b"],
    ["--", "--device-batch-size", "4", "--run", "a_b"],
    ["--run", "a_b", "--", "--device_batch_size=4"],
])  # fmt: skip
def test_flags_with_dashes_underscores_and_a_stray_double_dash(argv):
    args = parser().parse_args(argv)
    assert (args.device_batch_size, args.run) == (4, "a_b")  # values keep their underscores


def test_unknown_flags_are_refused(capsys):
    with pytest.raises(SystemExit) as stop:
        parser().parse_args(["--device-batch", "4"])  # no guessing of abbreviations
    assert stop.value.code == 2
    assert "--device-batch" in capsys.readouterr().err


def test_negative_numbers_survive():
    p = ArgumentParser()
    p.add_argument("--num-iterations", type=int)
    assert p.parse_args(["--num_iterations", "-1"]).num_iterations == -1


@pytest.mark.parametrize(("wish", "dtype"), [("bf16", torch.bfloat16), ("bfloat16", torch.bfloat16), ("fp16", torch.float16), ("FP32", torch.float32),
                                             ("float32", torch.float32)])  # fmt: skip
def test_dtype_override(monkeypatch, wish, dtype):
    monkeypatch.setenv("NANOCHAT_DTYPE", wish)
    assert compute_dtype(torch.device("cpu")) is dtype


def test_misspelt_dtype(monkeypatch):
    monkeypatch.setenv("NANOCHAT_DTYPE", "float")
    with pytest.raises(UserError, match=r"'float'.*bfloat16"):
        compute_init("cpu")


@pytest.mark.parametrize(("flags", "native"), [("avx512f avx512_bf16", True), ("amx_bf16", True), ("avx512f avx2", False)])
def test_cpu_dtype_is_bf16_only_where_it_is_native(monkeypatch, flags, native):
    monkeypatch.delenv("NANOCHAT_DTYPE", raising=False)
    monkeypatch.setattr(Path, "read_text", lambda self: f"processor\t: 0\nflags\t\t: fpu {flags}\n")
    assert compute_dtype(torch.device("cpu")) is (torch.bfloat16 if native else torch.float32)


def test_compute_without_torchrun(monkeypatch):
    for name in ("RANK", "LOCAL_RANK", "WORLD_SIZE"):
        monkeypatch.delenv(name, raising=False)
    assert compute_init("cpu") == (False, 0, 0, 1, torch.device("cpu"))


def test_a_rank_from_somewhere_else_is_not_torchrun(monkeypatch):
    monkeypatch.setenv("RANK", "3")  # as some schedulers set it
    monkeypatch.delenv("LOCAL_RANK", raising=False)
    monkeypatch.delenv("WORLD_SIZE", raising=False)
    assert compute_init("cpu").world_size == 1


def test_unavailable_device():
    with pytest.raises(UserError, match="--device-type tpu"):
        compute_init("tpu")


def test_two_gloo_ranks_and_print0(tmp_path):
    code = (
        "import torch, torch.distributed as dist\n"
        "from nanochat.common import compute_init, compute_cleanup, print0\n"
        "c = compute_init('cpu')\n"
        "total = torch.tensor([c.rank + 1]); dist.all_reduce(total)\n"
        "print0(f'ranks {c.world_size} sum {total.item()} ddp {c.ddp}')\n"
        "compute_cleanup()\n"
    )
    script = tmp_path / "two.py"
    script.write_text(code)
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc_per_node=2", str(script)]
    result = subprocess.run(command, cwd=ROOT, env={**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}, capture_output=True, text=True)
    assert result.returncode == 0, result.stderr
    assert result.stdout.count("ranks 2 sum 3 ddp True") == 1  # one of the two ranks prints


def test_friendly_errors(capsys):
    with pytest.raises(SystemExit) as stop, friendly_errors():
        raise UserError("the flag --x is odd: use --y")
    assert stop.value.code == 1
    assert capsys.readouterr().err == "error: the flag --x is odd: use --y\n"
    with pytest.raises(SystemExit) as stop, friendly_errors():
        raise OSError(errno.ENOSPC, "No space left on device", "/full")
    assert stop.value.code == 1
    assert "/full" in capsys.readouterr().err
    with pytest.raises(SystemExit) as stop, friendly_errors():
        Path("~nobody-of-that-name/base").expanduser()
    assert stop.value.code == 1 and "write its folder out" in capsys.readouterr().err
    with pytest.raises(ZeroDivisionError), friendly_errors():  # our own mistakes keep their traceback
        raise ZeroDivisionError
