import math
import resource
import subprocess
import sys
import time
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch

from nanochat import hardware
from nanochat.common import UserError
from nanochat.hardware import Device, estimate_cost, estimate_seconds, free_memory, known_device, known_devices, parse_device, peak_memory

ROOT = Path(__file__).parent.parent
CPU, CUDA = torch.device("cpu"), torch.device("cuda", 0)

# --- the table -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("reported", "name"),
    [
        # as drivers say it
        ("NVIDIA H100 80GB HBM3", "H100 SXM"),
        ("NVIDIA H100 PCIe", "H100 PCIe"),
        ("NVIDIA H100 NVL", "H100 NVL"),
        ("NVIDIA H200", "H200"),
        ("NVIDIA H200 NVL", "H200 NVL"),
        ("NVIDIA GH200 480GB", "GH200"),
        ("NVIDIA B200", "B200"),
        ("NVIDIA GB200", "GB200"),
        ("NVIDIA A100-SXM4-80GB", "A100 80GB"),
        ("NVIDIA A100-SXM4-40GB", "A100 40GB"),
        ("NVIDIA A100 80GB PCIe", "A100 PCIe"),
        ("NVIDIA A100-PCIE-40GB", "A100 PCIe 40GB"),
        ("NVIDIA L40S", "L40S"),
        ("NVIDIA L4", "L4"),
        ("NVIDIA A10G", "A10G"),
        ("NVIDIA RTX A6000", "RTX A6000"),
        ("NVIDIA GeForce RTX 3090", "RTX 3090"),
        ("NVIDIA GeForce RTX 4090", "RTX 4090"),
        ("NVIDIA GeForce RTX 5090", "RTX 5090"),
        ("Tesla V100-SXM2-16GB", "V100"),
        ("Tesla V100-PCIE-32GB", "V100 PCIe 32GB"),
        ("Tesla T4", "T4"),
        ("AMD Instinct MI250X", "MI250X (one die)"),
        ("AMD Instinct MI300X", "MI300X"),
        # as people say it
        ("h100", "H100 SXM"),
        ("H100-SXM5", "H100 SXM"),
        ("h100pcie", "H100 PCIe"),
        ("a100", "A100 80GB"),
        ("a100-40gb", "A100 40GB"),
        ("rtx4090", "RTX 4090"),
        ("4090", "RTX 4090"),
        ("RTX A6000", "RTX A6000"),
        ("a6000", "RTX A6000"),
        ("t4", "T4"),
    ],
)
def test_known_names(reported, name):
    assert known_device(reported).name == name


@pytest.mark.parametrize(
    "name",
    ["", "CPU", "NVIDIA A10", "NVIDIA L40", "NVIDIA H800", "NVIDIA H20", "NVIDIA GeForce RTX 4090 Laptop GPU", "NVIDIA GeForce RTX 4090 D",
     "NVIDIA GeForce RTX 3090 Ti", "NVIDIA RTX 6000 Ada Generation", "NVIDIA H100 80GB HBM3 MIG 1g.10gb", "Quadro RTX 6000", "NVIDIA T400"],
)  # fmt: skip
def test_relatives_are_not_mistaken(name):
    """They would get numbers that are wrong by a factor; unknown ones are measured."""
    assert known_device(name) is None


def test_every_entry_is_found_by_its_own_name():
    for device in known_devices():
        assert known_device(device.name) == device
    assert len({device.name for device in known_devices()}) == len(known_devices())


def test_numbers_are_plausible():
    """In the right units, dense and not sparse, and consistent with each other."""
    for device in known_devices():
        assert 50e12 < device.peak_flops < 3000e12, device.name
        assert 0.2e12 < device.bandwidth < 10e12, device.name
        assert 10 * 2**30 < device.memory < 300 * 2**30, device.name
        assert device.price_per_hour is None or 0.1 < device.price_per_hour < 10, device.name
        assert device.fp8_flops == 0 or 1.9 < device.fp8_flops / device.peak_flops < 2.1, device.name
    assert known_device("h100") == Device("H100 SXM", 989e12, 3350e9, 79 * 2**30, 3.0, 1979e12)


@pytest.mark.parametrize(
    ("text", "count", "name"),
    [("8xH100", 8, "H100 SXM"), ("8 x h100", 8, "H100 SXM"), ("8×H100 PCIe", 8, "H100 PCIe"), ("4*a100-40gb", 4, "A100 40GB"),
     ("2 rtx4090", 2, "RTX 4090"), ("8x4090", 8, "RTX 4090"), ("4090", 1, "RTX 4090"), ("H200", 1, "H200"), (" 16XB200 ", 16, "B200"),
     ("RTX 3090", 1, "RTX 3090")],
)  # fmt: skip
def test_parse_device(text, count, name):
    number, device = parse_device(text)
    assert (number, device.name) == (count, name)


@pytest.mark.parametrize("text", ["", "  ", "8x", "8", "x", "8xH999", "0xH100", "-1xH100", "H100x8", "H100 x 8", "H100*8", "H100 8", "2x8xH100"])
def test_parse_device_refuses(text):
    with pytest.raises(UserError, match=r"not hardware that we know: write one of .*H100 SXM.*RTX 4090.*as in 8xH100"):
        parse_device(text)


def test_time_and_cost():
    h100 = known_device("h100")
    assert estimate_seconds(4.182e19, h100, 8, mfu=0.5) == pytest.approx(4.182e19 / (8 * 989e12 * 0.5))
    assert estimate_seconds(1e18, h100) == pytest.approx(1e18 / (989e12 * 0.45))
    assert estimate_cost(7200, h100, 8) == pytest.approx(48.0)
    assert estimate_cost(7200, h100._replace(price_per_hour=None), 8) is None


# --- speed -----------------------------------------------------------------------------------------------------------


def test_measured_peak():
    start = time.perf_counter()
    rate = hardware.measure_peak_flops(CPU, torch.float32, seconds=0.1)
    assert 1e8 < rate < 1e15 and math.isfinite(rate)
    assert time.perf_counter() - start < 10  # about 0.1, on a machine that does nothing else


def test_measuring_skips_what_takes_too_long(monkeypatch):
    """At 1 GFLOP/s the first shape is all that a second has room for."""
    seen = []
    monkeypatch.setattr(hardware, "_measure_shape", lambda shape, *_: seen.append(shape) or 1e9)
    assert hardware.measure_peak_flops(CPU, torch.float32, seconds=1.0) == 1e9
    assert seen == [hardware.CPU_SHAPES[0]]


def test_measuring_takes_the_best_shape(monkeypatch):
    rates = iter([1e14, 4e14, 3e14, 2e14])
    monkeypatch.setattr(hardware, "_measure_shape", lambda *_: next(rates))
    assert hardware.measure_peak_flops(CUDA, torch.bfloat16) == 4e14


def test_peak_from_table_or_measured(monkeypatch):
    monkeypatch.setattr(hardware, "measure_peak_flops", lambda device, dtype: 123.0)
    monkeypatch.setattr(torch.cuda, "get_device_name", lambda device: "NVIDIA H100 80GB HBM3")
    assert hardware.peak_flops(CUDA, torch.bfloat16) == 989e12
    assert hardware.peak_flops(CUDA, torch.float16) == 989e12
    assert hardware.peak_flops(CUDA, torch.float32) == 123.0  # the table is about 16 bits
    assert hardware.peak_flops(CPU, torch.bfloat16) == 123.0
    monkeypatch.setattr(torch.cuda, "get_device_name", lambda device: "NVIDIA GeForce RTX 4060")
    assert hardware.peak_flops(CUDA, torch.bfloat16) == 123.0


# --- memory ----------------------------------------------------------------------------------------------------------


def test_peak_memory_of_this_process():
    """In a fresh process, since this one has had its peak."""
    code = ("import torch; from nanochat.hardware import peak_memory; before = peak_memory(torch.device('cpu')); "
            "torch.ones(50 * 2**18); print(before, peak_memory(torch.device('cpu')))")  # fmt: skip
    before, after = map(int, subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=ROOT).stdout.split())
    assert 10 * 2**20 < before < 2 * 2**30
    assert before + 45 * 2**20 < after < before + 100 * 2**20


def test_peak_memory_by_platform(tmp_path, monkeypatch):
    monkeypatch.setattr(resource, "getrusage", lambda who: SimpleNamespace(ru_maxrss=5000))
    monkeypatch.setattr(sys, "platform", "linux")
    assert hardware._peak_resident(tmp_path) == 5000 * 1024
    assert hardware._peak_resident(machine(tmp_path, {"proc/self/status": "Name:\tpython\nVmHWM:\t   300 kB\n"})) == 300 * 1024
    monkeypatch.setattr(sys, "platform", "darwin")
    assert hardware._peak_resident(tmp_path / "nowhere") == 5000


def test_free_memory_here():
    assert 2**20 < free_memory(CPU) < 2**45


def test_memory_on_cuda(monkeypatch):
    monkeypatch.setattr(torch.cuda, "mem_get_info", lambda device: (1000, 5000))
    monkeypatch.setattr(torch.cuda, "memory_reserved", lambda device: 700)
    monkeypatch.setattr(torch.cuda, "memory_allocated", lambda device: 300)
    monkeypatch.setattr(torch.cuda, "max_memory_allocated", lambda device: 650)
    assert free_memory(CUDA) == 1400  # what torch keeps for itself is free for us
    assert peak_memory(CUDA) == 650


def machine(root, files: dict[str, str]):
    """A file system with these files: stands in for /."""
    for name, text in {"proc/meminfo": "MemTotal:  9000 kB\nMemAvailable:    1000 kB\n", **files}.items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_text(text)
    return root


def test_free_memory_without_limits(tmp_path):
    assert hardware._free_ram(machine(tmp_path, {})) == 1000 * 1024
    no_limit = {"proc/self/cgroup": "0::/\n", "sys/fs/cgroup/memory.max": "max\n", "sys/fs/cgroup/memory.current": "5\n"}
    assert hardware._free_ram(machine(tmp_path, no_limit)) == 1000 * 1024


def test_free_memory_without_proc(tmp_path):
    assert hardware._free_ram(tmp_path) > 2**20  # macOS: what the machine has


def test_free_memory_in_a_container(tmp_path):
    """cgroup v2. Files in the page cache count as used, though they would make way."""
    files = {"proc/self/cgroup": "0::/\n", "sys/fs/cgroup/memory.max": "600000\n", "sys/fs/cgroup/memory.current": "500000\n"}
    assert hardware._free_ram(machine(tmp_path, files)) == 100_000
    stat = {"sys/fs/cgroup/memory.stat": "anon 400000\ninactive_file 50000\nactive_file 20000\n"}
    assert hardware._free_ram(machine(tmp_path, stat)) == 150_000
    assert hardware._free_ram(machine(tmp_path, {"sys/fs/cgroup/memory.max": "400000\n"})) == 0  # over the limit already


def test_free_memory_under_a_limit_further_up(tmp_path):
    """A batch system limits the job, and the step inside it has no limit of its own."""
    job = "sys/fs/cgroup/slurm/job_7/"
    files = {"proc/self/cgroup": "0::/slurm/job_7/step_0\n", job + "memory.max": "300000\n", job + "memory.current": "100000\n",
             job + "step_0/memory.max": "max\n", job + "step_0/memory.current": "100000\n"}  # fmt: skip
    assert hardware._free_ram(machine(tmp_path, files)) == 200_000


def test_free_memory_in_cgroup_v1(tmp_path):
    """The path is the host's, which the container does not see; its own cgroup is the top one."""
    memory = "sys/fs/cgroup/memory/"
    files = {"proc/self/cgroup": "5:cpu,cpuacct:/docker/1f\n4:memory:/docker/1f\n0::/\n", memory + "memory.limit_in_bytes": "700000\n",
             memory + "memory.usage_in_bytes": "400000\n", memory + "memory.stat": "inactive_file 1\ntotal_inactive_file 30000\n"}  # fmt: skip
    assert hardware._free_ram(machine(tmp_path, files)) == 330_000
    unlimited = {memory + "memory.limit_in_bytes": "9223372036854771712\n"}
    assert hardware._free_ram(machine(tmp_path, unlimited)) == 1000 * 1024
