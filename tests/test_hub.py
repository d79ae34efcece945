"""Downloads from a hub on the loopback device. Waits are recorded, not slept through; whole runs are processes, started as a user starts them."""

import contextlib
import fcntl
import hashlib
import os
import random
import signal
import subprocess
import sys
import threading
import time
from itertools import repeat
from pathlib import Path
from types import SimpleNamespace

import huggingface_hub
import pytest
from loopback_hub import COMMIT, Fault, LoopbackHub

from nanochat import hub as hub_module
from nanochat.common import UserError
from nanochat.dataset import dataset_dir, open_dataset, parquets_iter_batched, wait_for_shard, write_shard
from nanochat.hub import ATTEMPTS, finish_downloads, hub_file, is_locked, locked

ROOT = Path(__file__).parent.parent
REPO = "karpathy/climbmix-400b-shuffle"
VAL = "shard_06542.parquet"
BYTES = random.Random(7).randbytes(300_000)
WRONG = BYTES[:150_000] + b"?" + BYTES[150_001:]
assert WRONG != BYTES


@pytest.fixture
def clean_env(monkeypatch, tmp_path):
    """No proxy, token or mirror of the developer's reaches the tests, in this process or in those it starts."""
    for name in [name for name in os.environ if name.lower().endswith("_proxy") or name.startswith(("HF_", "HUGGING"))]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("HF_HOME", str(tmp_path / "hf"))
    monkeypatch.setenv("NANOCHAT_BASE_DIR", str(tmp_path / "base"))
    monkeypatch.setenv("HF_HUB_DISABLE_TELEMETRY", "1")
    # huggingface_hub has read these from the environment when it was imported. Its telemetry would ask the real hub, whatever HF_ENDPOINT says.
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", False)
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_DISABLE_TELEMETRY", True)
    huggingface_hub.close_session()  # it has its proxies from the environment that it was opened in


@pytest.fixture
def hub(clean_env, monkeypatch):
    with LoopbackHub({"datasets/owner/repo": {"a.bin": BYTES}}) as server:
        monkeypatch.setenv("HF_ENDPOINT", server.endpoint)
        yield server


@pytest.fixture
def pauses(monkeypatch) -> list[float]:
    """The seconds that a download wanted to wait before it tried again."""
    recorded: list[float] = []
    monkeypatch.setattr(hub_module, "time", SimpleNamespace(sleep=recorded.append))
    return recorded


def bring(tmp_path: Path, name: str = "a.bin") -> Path:
    return hub_file("owner/repo", name, tmp_path / "data", first_wait=0.01)


def bring_in_vain(tmp_path: Path) -> str:
    with pytest.raises(UserError) as caught:
        bring(tmp_path)
    assert not (tmp_path / "data" / "a.bin").exists()
    return str(caught.value)


def in_background(function) -> list:
    """Call it in a thread; the list gets its result."""
    results: list = []
    threading.Thread(target=lambda: results.append(function()), daemon=True).start()
    return results


def wait_until(condition, seconds: float = 20) -> None:
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, "it never happened"
        time.sleep(0.01)


def ranges(server: LoopbackHub, file: str = "a.bin") -> list[str | None]:
    """Which part of the file each GET asked for; None is all of it."""
    return [request.headers.get("range") for request in server.asked(file, "GET")]


# --- one file --------------------------------------------------------------------------------------------------------


def test_a_file_arrives(hub, tmp_path):
    path = bring(tmp_path)
    assert path == tmp_path / "data" / "a.bin" and path.read_bytes() == BYTES
    assert [(request.method, request.revision) for request in hub.requests] == [("HEAD", "main"), ("GET", COMMIT)]
    assert bring(tmp_path).read_bytes() == BYTES and len(hub.requests) == 2  # what is there is not asked for
    finish_downloads(tmp_path / "data")
    assert os.listdir(tmp_path / "data") == ["a.bin"]


def test_finishing_leaves_what_another_command_began(hub, tmp_path):
    bring(tmp_path)
    part = tmp_path / "data" / ".incoming" / "b.bin.0123abcd.part"
    part.write_bytes(b"half of it")
    finish_downloads(tmp_path / "data")
    assert part.read_bytes() == b"half of it"
    (tmp_path / "data" / "b.bin").touch()
    finish_downloads(tmp_path / "data")
    assert sorted(os.listdir(tmp_path / "data")) == ["a.bin", "b.bin"]


def test_files_of_models_and_of_folders(hub, tmp_path):
    hub.repos["owner/model"] = {"sub/b.bin": b"weights"}
    assert hub_file("owner/model", "sub/b.bin", tmp_path, repo_type="model") == tmp_path / "sub" / "b.bin"
    assert (tmp_path / "sub" / "b.bin").read_bytes() == b"weights"


def test_endpoint_may_end_in_a_slash(hub, tmp_path, monkeypatch):
    monkeypatch.setenv("HF_ENDPOINT", hub.endpoint + "/")
    assert bring(tmp_path).read_bytes() == BYTES


def test_truncated_body(hub, tmp_path):
    hub.faults["GET", "a.bin"] = iter([Fault(body=BYTES[:1000])])  # it announces 1000 bytes and sends them: nobody hung up
    assert bring(tmp_path).read_bytes() == BYTES
    assert ranges(hub) == [None, None]


def test_cut_connection_is_resumed(hub, tmp_path):
    hub.faults["GET", "a.bin"] = iter([Fault(stop_after=100_000), Fault(stop_after=50_000)])
    assert bring(tmp_path).read_bytes() == BYTES
    assert ranges(hub) == [None, "bytes=100000-", "bytes=150000-"]


def test_stalled_transfer_is_resumed(hub, tmp_path, monkeypatch):
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_DOWNLOAD_TIMEOUT", 0.2)
    hub.faults["GET", "a.bin"] = iter([Fault(stop_after=100_000, hold=threading.Event())])  # not a byte more, and nobody hangs up
    assert bring(tmp_path).read_bytes() == BYTES
    assert ranges(hub) == [None, "bytes=100000-"]


def test_a_later_run_resumes_what_an_earlier_one_gave_up(hub, tmp_path, pauses):
    hub.faults["GET", "a.bin"] = iter([Fault(stop_after=1000), *repeat(Fault(stop_after=0), ATTEMPTS - 1)])
    assert "run the same command again to resume" in bring_in_vain(tmp_path)
    assert bring(tmp_path).read_bytes() == BYTES
    assert ranges(hub) == [None, *["bytes=1000-"] * ATTEMPTS]


def test_all_bytes_had_arrived_already(hub, tmp_path):
    part = tmp_path / "data" / ".incoming" / f"a.bin.{hashlib.sha256(BYTES).hexdigest()}.part"
    part.parent.mkdir(parents=True)
    part.write_bytes(BYTES)
    assert bring(tmp_path).read_bytes() == BYTES
    assert ranges(hub) == []


def test_a_new_version_is_not_glued_to_the_old_one(hub, tmp_path, pauses):
    hub.faults["GET", "a.bin"] = iter([Fault(stop_after=1000), *repeat(Fault(stop_after=0), ATTEMPTS - 1)])
    bring_in_vain(tmp_path)
    hub.repos["datasets/owner/repo"]["a.bin"] = WRONG  # somebody pushed
    assert bring(tmp_path).read_bytes() == WRONG
    assert ranges(hub)[-1] is None


def test_server_without_ranges(hub, tmp_path):
    hub.faults["GET", "a.bin"] = iter([Fault(stop_after=1000), Fault(status=200, body=BYTES)])
    assert bring(tmp_path).read_bytes() == BYTES
    assert ranges(hub) == [None, "bytes=1000-"]


def test_two_callers_at_once(hub, tmp_path):
    gate = threading.Event()
    hub.faults["GET", "a.bin"] = iter([Fault(stop_after=1000, hold=gate)])
    brought = [in_background(lambda: bring(tmp_path).read_bytes()) for _ in range(2)]
    wait_until(lambda: hub.asked("a.bin", "GET"))
    time.sleep(0.2)  # enough for the other one to come as far
    gate.set()
    wait_until(lambda: all(brought))
    assert brought == [[BYTES], [BYTES]] and ranges(hub) == [None]


def test_damage_before_the_cut_is_not_resumed_for_ever(hub, tmp_path):
    hub.faults["GET", "a.bin"] = iter([Fault(body=WRONG, stop_after=200_000)])
    assert bring(tmp_path).read_bytes() == BYTES
    assert ranges(hub) == [None, "bytes=200000-", None]


@pytest.mark.parametrize("method", ["HEAD", "GET"])
def test_busy_server_names_the_pause(hub, tmp_path, pauses, method):
    in_seven, filled_again = {"Retry-After": "7"}, {"RateLimit": '"resolvers";r=0;t=55'}
    hub.faults[method, "a.bin"] = iter([Fault(429, in_seven), Fault(429, filled_again), Fault(503, in_seven), Fault(429)])
    assert bring(tmp_path).read_bytes() == BYTES
    assert pauses == [7, 55, 7, 0.08]  # the last one named none
    assert len(hub.asked("a.bin", method)) == 5 and len(hub.asked("a.bin", "GET")) == (5 if method == "GET" else 1)


def test_the_pause_is_slept_through(hub, tmp_path):
    hub.faults["GET", "a.bin"] = iter([Fault(429, {"Retry-After": "1"})])
    start = time.monotonic()
    assert bring(tmp_path).read_bytes() == BYTES
    assert 1 <= time.monotonic() - start < 5


def test_nobody_waits_for_an_hour(hub, tmp_path, pauses):
    hub.faults["GET", "a.bin"] = repeat(Fault(429, {"Retry-After": "3600"}))
    assert "wait 3600 s" in bring_in_vain(tmp_path)
    assert pauses == [] and len(hub.asked("a.bin", "GET")) == 1


@pytest.mark.parametrize("method", ["HEAD", "GET"])
def test_server_errors_that_go_away(hub, tmp_path, pauses, method):
    hub.faults[method, "a.bin"] = iter([Fault(500), Fault(502), Fault(503)])
    assert bring(tmp_path).read_bytes() == BYTES
    assert pauses == [0.01, 0.02, 0.04]  # more patience each time


@pytest.mark.parametrize("method", ["HEAD", "GET"])
def test_server_errors_that_stay(hub, tmp_path, pauses, method):
    hub.faults[method, "a.bin"] = repeat(Fault(500))
    message = bring_in_vain(tmp_path)
    assert "a.bin of owner/repo" in message and "500" in message
    assert len(hub.asked("a.bin", method)) == ATTEMPTS == len(pauses) + 1


def test_nobody_there(hub, tmp_path, pauses):
    hub.__exit__()
    assert "could not download a.bin" in bring_in_vain(tmp_path)
    assert len(pauses) == ATTEMPTS - 1


@pytest.mark.parametrize("announced", ["1", "299999", "300001", "999999999"])
def test_wrong_size(hub, tmp_path, pauses, announced):
    hub.faults["HEAD", "a.bin"] = repeat(Fault(headers={"X-Linked-Size": announced}))
    assert f"should have {int(announced):,} bytes" in bring_in_vain(tmp_path)
    hub.faults.clear()
    assert bring(tmp_path).read_bytes() == BYTES


def test_wrong_bytes(hub, tmp_path, pauses):
    hub.faults["GET", "a.bin"] = repeat(Fault(body=WRONG))
    assert "hash" in bring_in_vain(tmp_path)
    assert ranges(hub) == [None] * ATTEMPTS


def test_wrong_bytes_then_right_ones(hub, tmp_path):
    hub.faults["GET", "a.bin"] = iter([Fault(body=WRONG)])
    assert bring(tmp_path).read_bytes() == BYTES


@pytest.mark.parametrize("body", [BYTES, WRONG])
def test_small_files_have_a_git_hash(hub, tmp_path, pauses, body):
    git_hash = hashlib.sha1(b"blob 300000\0" + BYTES).hexdigest()
    hub.faults["HEAD", "a.bin"] = repeat(Fault(headers={"X-Linked-Etag": f'"{git_hash}"'}))
    hub.faults["GET", "a.bin"] = repeat(Fault(body=body))
    if body == BYTES:
        assert bring(tmp_path).read_bytes() == BYTES
    else:
        assert "hash" in bring_in_vain(tmp_path)


@pytest.mark.parametrize(("status", "remedy"), [(401, "HF_TOKEN"), (403, "HF_TOKEN"), (404, "HF_ENDPOINT")])
@pytest.mark.parametrize("method", ["HEAD", "GET"])
def test_refusals_name_the_remedy(hub, tmp_path, pauses, method, status, remedy):
    hub.faults[method, "a.bin"] = repeat(Fault(status))
    message = bring_in_vain(tmp_path)
    assert all(said in message for said in (remedy, str(status), "a.bin", "owner/repo"))
    assert pauses == []  # patience would not help


def test_something_that_is_no_hub(hub, tmp_path, pauses):
    hub.faults["HEAD", "a.bin"] = repeat(Fault(headers={"ETag": "", "X-Linked-Etag": ""}))
    assert "HF_ENDPOINT" in bring_in_vain(tmp_path)
    assert pauses == [] and ranges(hub) == []


def test_disk_full_is_no_reason_to_try_again(hub, tmp_path, pauses, monkeypatch):
    def full(*args):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(hub_module, "_transfer", full)
    with pytest.raises(OSError, match="No space left"):
        bring(tmp_path)
    assert pauses == [] and not (tmp_path / "data" / "a.bin").exists()


def test_the_token_goes_to_the_hub_and_not_to_where_files_lie(hub, tmp_path, monkeypatch):
    monkeypatch.setenv("HF_TOKEN", "hf_secret")
    with LoopbackHub(hub.repos) as storage:
        elsewhere = Fault(302, {"Location": f"{storage.endpoint}/datasets/owner/repo/resolve/x/a.bin"})
        hub.faults["HEAD", "a.bin"] = hub.faults["GET", "a.bin"] = repeat(elsewhere)
        storage.faults["GET", "a.bin"] = iter([Fault(stop_after=1000)])
        assert bring(tmp_path).read_bytes() == BYTES
        assert ranges(storage) == [None, "bytes=1000-"]
        assert all(request.headers["authorization"] == "Bearer hf_secret" for request in hub.requests)
        assert not any("authorization" in request.headers for request in storage.requests)


def test_who_asks_for_a_lock_does_not_hold_it(tmp_path):
    path = tmp_path / "lock"
    assert not is_locked(path) and not path.exists()
    with locked(path):
        assert is_locked(path)
    with open(path) as another_one_asking:
        fcntl.flock(another_one_asking, fcntl.LOCK_SH)
        assert not is_locked(path)


# --- python -m nanochat.dataset --------------------------------------------------------------------------------------


def documents(shard: str) -> list[str]:
    """Text that no compression makes small, so that a download can be stopped in the middle."""
    return [random.Random(f"{shard} {i}").randbytes(20_000).hex() for i in range(10)]


@pytest.fixture(scope="module")
def shards(tmp_path_factory) -> dict[str, bytes]:
    """The first shards of climbmix and the last one, in small."""
    folder = tmp_path_factory.mktemp("shards")
    names = [f"shard_{i:05d}.parquet" for i in range(4)] + [VAL]
    for name in names:
        write_shard(folder / name, documents(name), rows_per_group=4)
    return {name: (folder / name).read_bytes() for name in names}


@pytest.fixture
def climbmix(hub, shards):
    hub.repos[f"datasets/{REPO}"] = dict(shards)
    return hub


def run(*args: str) -> subprocess.CompletedProcess:
    return subprocess.run([sys.executable, "-m", "nanochat.dataset", *args], cwd=ROOT, capture_output=True, text=True, timeout=60)


@contextlib.contextmanager
def started(*args: str):
    """A download that goes on beside the test, and ends with it at the latest."""
    command = [sys.executable, "-m", "nanochat.dataset", *args]
    process = subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    try:
        yield process
    finally:
        process.kill()
        process.communicate()


def on_disk() -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in dataset_dir("climbmix").glob("*.parquet")}


def part_sizes(name: str) -> list[int]:
    return [path.stat().st_size for path in dataset_dir("climbmix").glob(f".incoming/{name}.*.part")]


def picked(shards: dict[str, bytes], *indices: int) -> dict[str, bytes]:
    return {name: shards[name] for name in [f"shard_{i:05d}.parquet" for i in indices]}


def transfers(server: LoopbackHub) -> list[str]:
    return sorted(request.file for request in server.requests if request.method == "GET")


def test_shards_and_always_the_validation_shard(climbmix, shards):
    result = run("-n", "2", "-w", "2")
    assert result.returncode == 0, result.stderr
    assert on_disk() == picked(shards, 0, 1, 6542)
    assert transfers(climbmix) == sorted(on_disk())
    assert not (dataset_dir("climbmix") / ".incoming").exists()
    train = [text for batch in parquets_iter_batched("train", "climbmix") for text in batch]
    assert train == documents("shard_00000.parquet") + documents("shard_00001.parquet")
    assert [text for batch in parquets_iter_batched("val", "climbmix") for text in batch] == documents(VAL)


def test_what_is_there_is_not_transferred_again(climbmix, shards):
    assert run("-n", "1").returncode == 0
    climbmix.requests.clear()
    assert run("-n", "1").returncode == 0
    assert climbmix.requests == []
    assert run("-n", "3").returncode == 0
    assert on_disk() == picked(shards, 0, 1, 2, 6542)
    assert transfers(climbmix) == ["shard_00001.parquet", "shard_00002.parquet"]
    assert run("-n", "1").returncode == 0  # asked for fewer, it takes none away
    assert len(open_dataset("climbmix").train) == 3


def test_truncated_shard_is_fetched_again(climbmix, shards):
    assert run("-n", "2").returncode == 0
    os.truncate(dataset_dir("climbmix") / "shard_00001.parquet", 1000)
    climbmix.requests.clear()
    result = run("-n", "2")
    assert result.returncode == 0 and "shard_00001.parquet is not whole" in result.stdout
    assert on_disk() == picked(shards, 0, 1, 6542) and transfers(climbmix) == ["shard_00001.parquet"]


def test_two_processes_at_once(climbmix, shards):
    gate = threading.Event()
    climbmix.faults["GET", VAL] = iter([Fault(stop_after=1000, hold=gate)])
    with started("-n", "2", "-w", "2") as first, started("-n", "2", "-w", "2") as second:
        wait_until(lambda: climbmix.asked(VAL, "GET"))
        time.sleep(0.5)  # enough for the other one to come as far
        assert first.poll() is None and second.poll() is None
        gate.set()
        assert (first.wait(30), second.wait(30)) == (0, 0)
    assert on_disk() == picked(shards, 0, 1, 6542)
    assert transfers(climbmix) == sorted(on_disk())


def test_killed_download_resumes(climbmix, shards):
    gate = threading.Event()
    climbmix.faults["GET", VAL] = iter([Fault(stop_after=50_000, hold=gate)])
    with started("-n", "1", "-w", "1") as process:
        wait_until(lambda: any(part_sizes(VAL)))
        os.kill(process.pid, signal.SIGKILL)
        process.wait()
    gate.set()
    assert on_disk() == {}
    (arrived,) = part_sizes(VAL)
    assert run("-n", "1", "-w", "1").returncode == 0
    assert on_disk() == picked(shards, 0, 6542)
    assert 0 < arrived <= 50_000 and ranges(climbmix, VAL) == [None, f"bytes={arrived}-"]


def test_ctrl_c_stops_it(climbmix):
    climbmix.faults["GET", VAL] = iter([Fault(stop_after=1000, hold=threading.Event())])
    with started("-n", "3", "-w", "1") as process:
        wait_until(lambda: climbmix.asked(VAL, "GET"))
        process.send_signal(signal.SIGINT)
        output, _ = process.communicate(timeout=5)
    assert process.returncode == 130 and "Traceback" not in output, output


def test_a_shard_that_the_hub_lacks(climbmix, shards):
    result = run("-n", "5", "-w", "2")
    assert result.returncode == 1 and "Traceback" not in result.stderr
    assert "1 of 6 shards did not arrive" in result.stderr and "shard_00004.parquet" in result.stderr
    assert on_disk() == shards  # the others are here


def test_offline(climbmix, monkeypatch):
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    result = run("-n", "1")
    assert result.returncode == 1 and "Traceback" not in result.stderr
    assert "HF_HUB_OFFLINE" in result.stderr and climbmix.requests == []


def test_the_token_is_sent(climbmix, monkeypatch):
    monkeypatch.setenv("HF_TOKEN", "hf_secret")
    assert run("-n", "0").returncode == 0
    assert [request.headers["authorization"] for request in climbmix.requests] == ["Bearer hf_secret"] * 2


def test_gated_data_set(climbmix):
    climbmix.faults["HEAD", VAL] = repeat(Fault(401, {"X-Error-Code": "GatedRepo"}))
    result = run("-n", "0")
    assert result.returncode == 1 and "HF_TOKEN" in result.stderr and "Traceback" not in result.stderr


# --- training while a download goes on -------------------------------------------------------------------------------


def test_training_waits_for_the_first_shards(climbmix):
    gate = threading.Event()
    climbmix.faults["GET", VAL] = iter([Fault(stop_after=1000, hold=gate)])
    with started("-n", "1") as download:
        wait_until(lambda: climbmix.asked(VAL, "GET"))
        opened = in_background(lambda: open_dataset("climbmix"))
        time.sleep(0.3)
        assert not opened
        gate.set()
        wait_until(lambda: opened)
        assert opened[0].val.name == VAL and opened[0].val.exists() and opened[0].train[0].exists()
        assert download.wait(30) == 0


def test_training_overtakes_the_download(climbmix):
    gate = threading.Event()
    climbmix.faults["GET", "shard_00001.parquet"] = iter([Fault(stop_after=1000, hold=gate)])
    with started("-n", "2", "-w", "1") as download:
        wait_until(lambda: climbmix.asked("shard_00001.parquet", "GET"))
        assert [path.name for path in open_dataset("climbmix").train] == ["shard_00000.parquet", "shard_00001.parquet"]
        batches = parquets_iter_batched("train", "climbmix")
        first = [text for _ in range(3) for text in next(batches)]  # ten documents, four in a row group
        assert first == documents("shard_00000.parquet")
        rest = in_background(lambda: [text for batch in batches for text in batch])
        time.sleep(0.3)
        assert not rest
        gate.set()
        wait_until(lambda: rest)
        assert rest == [documents("shard_00001.parquet")]
        assert download.wait(30) == 0


def test_training_does_not_wait_for_a_dead_download(climbmix):
    climbmix.faults["GET", "shard_00001.parquet"] = iter([Fault(stop_after=1000, hold=threading.Event())])
    with started("-n", "2", "-w", "1") as download:
        wait_until(lambda: climbmix.asked("shard_00001.parquet", "GET"))
        missing = open_dataset("climbmix").train[1]
        threading.Timer(0.3, download.kill).start()
        with pytest.raises(UserError, match=r"shard_00001\.parquet .* nobody is downloading it.*--source climbmix"):
            wait_for_shard(missing, poll=0.05)
    with pytest.raises(UserError, match="lacks 1 of its shards"):
        open_dataset("climbmix")


def test_nobody_downloads(climbmix):
    assert run("-n", "2").returncode == 0
    (dataset_dir("climbmix") / VAL).unlink()
    with pytest.raises(UserError, match=f"{VAL} .*nobody is downloading.*python -m nanochat.dataset"):
        open_dataset("climbmix")
