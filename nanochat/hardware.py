"""What a device can do, what it costs, and how much memory is left on it. Known devices stand in a table, unknown ones are measured."""

import os
import platform
import re
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from nanochat.common import UserError

if TYPE_CHECKING:
    import torch

ASSUMED_MFU = 0.45  # of the peak, for planning before anything has run. An assumption: small models and consumer cards reach less
GIB = 2**30

# --- the table -------------------------------------------------------------------------------------------------------


class Device(NamedTuple):
    name: str
    peak_flops: float  # dense bf16 with float32 sums; fp16 where there is no bf16. Data sheets like to print twice that, for sparse matrices
    bandwidth: float  # bytes per second of its memory
    memory: int  # bytes, as torch sees them: a little less than the label says
    price_per_hour: float | None  # USD
    fp8_flops: float  # dense; 0 if it has none


# The prices are what renting one costs on demand, 2026-11, rounded: offers differ by a factor of two, so ask yours before you count on them.
# H100, H200 and A100 follow published lists of that year; the others are guesses of the right size.
DEVICES = (
    # words of its name         name             TFLOPS   GB/s  GiB   USD/h  fp8 TFLOPS
    ("gb200",                   "GB200",           2500,  8000, 183,  None,  5000),
    ("b200",                    "B200",            2250,  8000, 178,  6.00,  4500),
    ("gh200",                   "GH200",            989,  4000,  94,  2.00,  1979),
    ("h200",                    "H200",             989,  4800, 139,  3.75,  1979),
    ("h200 nvl",                "H200 NVL",         835,  4800, 139,  3.50,  1671),
    ("h100",                    "H100 SXM",         989,  3350,  79,  3.00,  1979),
    ("h100 pcie",               "H100 PCIe",        756,  2000,  79,  2.50,  1513),
    ("h100 nvl",                "H100 NVL",         835,  3938,  93,  2.75,  1671),
    ("a100",                    "A100 80GB",        312,  2039,  79,  1.50,     0),
    ("a100 40gb",               "A100 40GB",        312,  1555,  39,  1.25,     0),
    ("a100 pcie",               "A100 PCIe",        312,  1935,  79,  1.40,     0),
    ("a100 pcie 40gb",          "A100 PCIe 40GB",   312,  1555,  39,  1.20,     0),
    ("l40s",                    "L40S",             362,   864,  44,  1.00,   733),
    ("l4",                      "L4",               121,   300,  22,  0.70,   242),
    ("a10g",                    "A10G",              70,   600,  22,  1.00,     0),
    ("a6000",                   "RTX A6000",        155,   768,  47,  0.60,     0),
    ("rtx 3090",                "RTX 3090",          71,   936,  23,  0.25,     0),
    ("rtx 4090",                "RTX 4090",         165,  1008,  23,  0.45,   330),
    ("rtx 5090",                "RTX 5090",         209,  1792,  31,  0.80,   419),
    ("v100",                    "V100",             125,   900,  15,  0.50,     0),
    ("v100 32gb",               "V100 32GB",        125,   900,  31,  0.75,     0),
    ("v100 pcie",               "V100 PCIe",        112,   900,  15,  0.50,     0),
    ("v100 pcie 32gb",          "V100 PCIe 32GB",   112,   900,  31,  0.75,     0),
    ("t4",                      "T4",                65,   320,  14,  0.40,     0),
    ("mi250x",                  "MI250X (one die)", 191,  1638,  63,  None,     0),  # two dies on a card, and torch sees each as a device
    ("mi300x",                  "MI300X",          1307,  5300, 191,  2.50,  2615),
)  # fmt: skip
# Words that make another device of a name: a laptop's 4090 has half the speed of a card, and a MIG slice is a seventh of its GPU.
OTHER_DEVICES = frozenset({"laptop", "mobile", "max", "ti", "super", "d", "mig"})


def known_devices() -> list[Device]:
    return [_device(row) for row in DEVICES]


def known_device(name: str) -> Device | None:
    """By what torch.cuda.get_device_name says ("NVIDIA H100 80GB HBM3") or by a short name ("h100"). Of several matches the most specific."""
    words = _words(name)
    matches = [row for row in DEVICES if words.issuperset(row[0].split())]
    if not matches or words & OTHER_DEVICES:
        return None
    return _device(max(matches, key=lambda row: len(row[0].split())))


def parse_device(text: str) -> tuple[int, Device]:
    """The number and the device: "8xH100" is 8 of H100 SXM, "H100" is one."""
    match = re.fullmatch(r"(?:(\d+)(?:\s*[x×*]\s*|\s+))?(\D.*|\d{4}.*)", text.strip(), re.IGNORECASE)
    count, name = (int(match[1] or 1), match[2]) if match else (0, "")
    miscounted = any(word == "x" or (word.isdigit() and len(word) < 4) for word in _words(name))  # "H100 x 8" must not pass for one
    device = None if miscounted else known_device(name)
    if device is None or count < 1:
        names = ", ".join(device.name for device in known_devices())
        raise UserError(f"{text!r} is not hardware that we know: write one of {names}, with the number of them before it, as in 8xH100")
    return count, device


def estimate_seconds(total_flops: float, device: Device, count: int = 1, mfu: float = ASSUMED_MFU) -> float:
    """How long `count` devices compute at this share of their peak."""
    return total_flops / (device.peak_flops * count * mfu)


def estimate_cost(seconds: float, device: Device, count: int = 1) -> float | None:
    """USD for renting `count` devices that long; None where no price is known."""
    return None if device.price_per_hour is None else device.price_per_hour * count * seconds / 3600


def _device(row: tuple) -> Device:
    _, name, tflops, gigabytes_per_second, gib, price, fp8_tflops = row
    return Device(name, tflops * 1e12, gigabytes_per_second * 1e9, gib * GIB, price, fp8_tflops * 1e12)


def _words(name: str) -> set[str]:
    """Lower-case words. People write rtx4090, h100pcie and A100-SXM4-80GB; drivers put spaces and dashes where they like."""
    spaced = re.sub(r"pcie|nvl|sxm", r" \g<0>", re.sub(r"rtx", r" \g<0> ", name.lower()))
    words = set(re.findall(r"[a-z0-9]+", spaced))
    return words | {"rtx"} if words & {"3090", "4090", "5090"} else words


# --- speed -----------------------------------------------------------------------------------------------------------

# Shapes (m, n, k) of matrix products, smallest first. No single one is the fastest everywhere.
CPU_SHAPES = ((512, 512, 512), (2048, 2048, 2048), (4096, 4096, 1024), (1024, 4096, 4096))
MPS_SHAPES = ((1024, 1024, 1024), (4096, 4096, 1024), (4096, 4096, 4096))
GPU_SHAPES = ((2048, 2048, 2048), (8192, 8192, 2048), (4096, 8192, 8192), (8192, 8192, 8192))
MIN_TIMING = 0.02  # seconds between two looks at the clock: starting a kernel and waiting for it must not count


def peak_flops(device: "torch.device", dtype: "torch.dtype") -> float:
    """The FLOP/s that 100 % utilisation means: by the table for CUDA devices that it knows, else measured, which takes a second.

    The table is about 16-bit matrix products; a run in float32 is compared with what float32 reaches here. Ranks that share a CPU
    measure at the same time, and each sees its part.
    """
    import torch

    if device.type == "cuda" and dtype in (torch.bfloat16, torch.float16):
        known = known_device(torch.cuda.get_device_name(device))
        if known:
            return known.peak_flops
    return measure_peak_flops(device, dtype)


def measure_peak_flops(device: "torch.device", dtype: "torch.dtype", seconds: float = 1.0) -> float:
    """The best rate over several matrix products. A shape that would not fit into the time left is skipped: a slow CPU sees the small ones."""
    shapes = {"cuda": GPU_SHAPES, "mps": MPS_SHAPES}.get(device.type, CPU_SHAPES)
    deadline = time.perf_counter() + seconds
    best = 0.0
    for i, shape in enumerate(shapes):
        left = deadline - time.perf_counter()
        if best and 3 * _product_flops(shape) / best > left:  # once to warm up, twice to be timed
            continue
        best = max(best, _measure_shape(shape, device, dtype, left / (len(shapes) - i)))
    return best


def _measure_shape(shape: tuple[int, int, int], device: "torch.device", dtype: "torch.dtype", seconds: float) -> float:
    """The best FLOP/s of one shape. Several products run between two looks at the clock, as many as it takes to make timing meaningful."""
    import torch

    m, n, k = shape
    deadline = time.perf_counter() + seconds
    with torch.no_grad():
        x, weight = torch.randn(m, k, device=device, dtype=dtype), torch.randn(n, k, device=device, dtype=dtype)  # laid out as a linear layer's
        out = torch.mm(x, weight.t())  # the first product chooses a kernel and touches the memory
        best, products, timings = 0.0, 1, 0
        while timings < 2 or time.perf_counter() < deadline:
            _synchronize(device)
            start = time.perf_counter()
            for _ in range(products):
                torch.mm(x, weight.t(), out=out)
            _synchronize(device)
            elapsed = time.perf_counter() - start
            best = max(best, products * _product_flops(shape) / elapsed)
            timings += 1
            if elapsed < MIN_TIMING:
                products *= 2
    return best


def _product_flops(shape: tuple[int, int, int]) -> int:
    m, n, k = shape
    return 2 * m * n * k


def peak_bandwidth(device: "torch.device") -> float:
    """Bytes that the device's memory reads and writes per second: by the table for CUDA devices that it knows, else measured by copying."""
    import torch

    known = known_device(torch.cuda.get_device_name(device)) if device.type == "cuda" else None
    return known.bandwidth if known else 2 * measure_copy_rate(device)


def measure_copy_rate(device: "torch.device", megabytes: int = 256, copies: int = 8) -> float:
    """Bytes copied per second, each of which is read once and written once; more than caches hold, and the best of some copies."""
    import torch

    source = torch.ones(megabytes << 20, dtype=torch.uint8, device=device)
    target = torch.empty_like(source)
    best = 0.0
    for _ in range(copies):
        _synchronize(device)
        start = time.perf_counter()
        target.copy_(source)
        _synchronize(device)
        best = max(best, source.numel() / (time.perf_counter() - start))
    return best


def _synchronize(device: "torch.device") -> None:
    """Wait for the device: kernels run behind Python's back, and a clock read too early measures how fast they are queued."""
    import torch

    if device.type == "cuda":
        torch.cuda.synchronize(device)
    elif device.type == "mps":
        torch.mps.synchronize()


# --- memory ----------------------------------------------------------------------------------------------------------


def describe(device: "torch.device", count: int) -> dict:
    """What a record says of the machine: `count` such devices, and the cores and bytes of memory that this node has beside them."""
    import torch

    name = torch.cuda.get_device_name(device) if device.type == "cuda" else _cpu_name(Path("/"))
    memory = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    return {"device": device.type, "name": name, "count": count, "cores": os.cpu_count(), "memory": memory}


def _cpu_name(root: Path) -> str:
    for line in _read_text(root / "proc/cpuinfo").splitlines():
        if line.startswith("model name"):
            return line.partition(":")[2].strip()
    return platform.processor() or platform.machine()


def peak_memory(device: "torch.device") -> int:
    """The most bytes that this process has held: tensors on CUDA, the driver's memory now on MPS, the resident set on a CPU."""
    import torch

    if device.type == "cuda":
        return torch.cuda.max_memory_allocated(device)
    if device.type == "mps":
        return torch.mps.driver_allocated_memory()
    return _peak_resident(Path("/"))


def _peak_resident(root: Path) -> int:
    import resource  # here, since Windows has no such module and imports this one

    status = _read_fields(root / "proc/self/status")
    if "VmHWM:" in status:  # better where there is one: ru_maxrss begins with what the process that started us held
        return status["VmHWM:"] * 1024
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else peak * 1024  # macOS counts bytes, Linux KiB


def free_memory(device: "torch.device") -> int:
    """Bytes that this process could still allocate. Ranks on one machine share the memory of its CPUs."""
    import torch

    if device.type == "cuda":
        cached = torch.cuda.memory_reserved(device) - torch.cuda.memory_allocated(device)  # torch holds these, and would reuse them
        return torch.cuda.mem_get_info(device)[0] + cached
    if device.type == "mps":
        return max(0, torch.mps.recommended_max_memory() - torch.mps.driver_allocated_memory())
    return _free_ram(Path("/"))


def _free_ram(root: Path) -> int:
    """What the machine has available, or less where a container or a batch system sets a limit: past that we are killed, not slowed down."""
    meminfo = _read_fields(root / "proc/meminfo")
    # No /proc: macOS does not say what is available, only what is there.
    available = meminfo["MemAvailable:"] * 1024 if "MemAvailable:" in meminfo else os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    return max(0, min([available, *_cgroup_rooms(root)]))


def _cgroup_rooms(root: Path) -> Iterator[int]:
    """Bytes left under each limit that this process lives under, in cgroups v2 and v1."""
    for folder in _cgroup_folders(root):
        for limit, used, cache in (
            ("memory.max", "memory.current", "inactive_file"),
            ("memory.limit_in_bytes", "memory.usage_in_bytes", "total_inactive_file"),
        ):
            allowed, taken = _read_number(folder / limit), _read_number(folder / used)
            if allowed is not None and taken is not None:
                yield allowed - taken + _read_fields(folder / "memory.stat").get(cache, 0)  # cached files count as used but make way


def _cgroup_folders(root: Path) -> Iterator[Path]:
    """The folders of our memory cgroup and of those around it: each of them may set a limit.

    A container often sees its own cgroup as the top one while the path still tells where the host has it: what does not exist is passed over.
    """
    for line in _read_text(root / "proc/self/cgroup").splitlines():
        _, controllers, path = line.split(":", 2)  # "0::/user.slice" in v2, "4:memory:/docker/1f" in v1
        if controllers and "memory" not in controllers.split(","):
            continue
        top = root / "sys/fs/cgroup" / ("memory" if controllers else "")
        folder = top / path.strip("/")
        yield from (place for place in (folder, *folder.parents) if place.is_relative_to(top))


def _read_text(path: Path) -> str:
    try:
        return path.read_text()
    except OSError:
        return ""


def _read_number(path: Path) -> int | None:
    text = _read_text(path).strip()
    return int(text) if text.isdigit() else None  # "max" is no limit


def _read_fields(path: Path) -> dict[str, int]:
    """ "name number" lines, as the kernel writes them."""
    rows = (line.split() for line in _read_text(path).splitlines())
    return {row[0]: int(row[1]) for row in rows if len(row) >= 2 and row[1].isdigit()}
