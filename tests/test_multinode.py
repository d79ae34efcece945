"""runs/multinode.sh: two nodes made of one machine train as one process does, and recover from what dies; runs/multinode.slurm with stand-ins for
Slurm's commands."""

import contextlib
import importlib
import json
import os
import shlex
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from helpers import FORK_TWO, same

from nanochat import checkpoint_manager, resuming
from nanochat.common import UserError
from scripts import base_train

ROOT = Path(__file__).parent.parent
STEPS = 120
# Small, and with such rates that rounding does not grow to more than what is compared. Long enough to be killed in the middle
TRAIN_FLAGS = f"""--aspect-ratio 32 --head-dim 16 --max-seq-len 32 --device-batch-size 4 --total-batch-size 256 --num-iterations {STEPS}
    --warmup-steps 2 --matrix-lr 0.01 --embedding-lr 0.1 --unembedding-lr 0.004 --scalar-lr 0.02 --weight-decay 0.1 --eval-every -1 --sample-every -1
    --core-metric-every -1 --save-every 10"""


# --- two nodes on one machine ----------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def base(small_world, tmp_path_factory) -> Path:
    """What the nodes share: the data of small_world, and a place for checkpoints."""
    base = tmp_path_factory.mktemp("nodes")
    for name in ("base_data_tinyworld", "tokenizer_tinyworld"):
        (base / name).symlink_to(small_world / name)
    return base


@pytest.fixture(scope="module")
def port() -> int:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return free.getsockname()[1]


@pytest.fixture(scope="module")
def start(base, port):
    """Start the recipe on a node; 0 is where they meet. What is left at the end is killed."""
    nodes: list[tuple[str, int, subprocess.Popen]] = []

    def start(tag: str, rank: int, **env: str) -> subprocess.Popen:
        settings = {
            "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}", "NANOCHAT_BASE_DIR": str(base), "SKIP_SETUP": "1", "SCALE": "cpu",
            "MEGABYTES": "1", "STAGES": "prepare pretrain", "MODEL_TAG": tag, "DEPTH": "1", "TRAIN_FLAGS": TRAIN_FLAGS.replace("\n", " "),
            "NNODES": "2", "NODE_RANK": str(rank), "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port), "NODE_ADDR": "127.0.0.1", "PAUSE": "1",
            "NANOCHAT_DTYPE": "float32", "OMP_NUM_THREADS": "1",
            "RDZV_CONF": f"is_host={int(rank == 0)},keep_alive_interval=1",  # a torchrun that was killed is forgotten after 3 seconds, not 15
        }  # fmt: skip
        with open(log_of(base, tag, rank), "a") as log:
            node = subprocess.Popen(["bash", "runs/multinode.sh"], cwd=ROOT, env={**os.environ, **settings, **env}, stdout=log, stderr=log)
        nodes.append((tag, rank, node))
        return node

    yield start
    for tag, rank, node in nodes:
        node.kill()
        node.wait()
        kill(processes(base, tag, rank))


def log_of(base: Path, tag: str, rank: int) -> Path:
    return base / f"{tag}_node{rank}.log"


def processes(base: Path, tag: str, rank: int, torchruns: bool = True, ranks: bool = True) -> list[int]:
    """What the recipe has started on a node."""
    mark, found = f"NANOCHAT_NODE={rank} of {tag} in {base}".encode(), []
    for folder in Path("/proc").glob("[0-9]*"):
        try:
            ours, is_torchrun = mark in (folder / "environ").read_bytes().split(b"\0"), b"--rdzv_backend" in (folder / "cmdline").read_bytes()
        except OSError:  # it has just ended, or is not ours to look at
            continue
        if ours and (torchruns if is_torchrun else ranks):
            found.append(int(folder.name))
    return found


def kill(pids: list[int], number: int = signal.SIGKILL) -> None:
    for pid in pids:
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, number)


def run_folder(base: Path, tag: str) -> Path:
    return base / "base_checkpoints" / tag


def newest(base: Path, tag: str) -> int:
    return max((int(path.stem[5:]) for path in run_folder(base, tag).glob("meta_*.json")), default=0)


def wait_for(condition: Callable[[], bool], *nodes: subprocess.Popen) -> None:
    deadline = time.monotonic() + 300
    while not condition():
        assert time.monotonic() < deadline and all(node.poll() is None for node in nodes)
        time.sleep(0.02)


def wait_for_step(step: int, base: Path, tag: str, *nodes: subprocess.Popen) -> None:
    wait_for(lambda: newest(base, tag) >= step, *nodes)
    assert newest(base, tag) < STEPS


def losses(base: Path, tag: str) -> dict[int, float]:
    lines = [json.loads(line) for line in (run_folder(base, tag) / "metrics.jsonl").read_text().splitlines()]
    assert [line["step"] for line in lines] == list(range(1, STEPS + 1))  # each of them once
    return {line["step"]: line["loss"] for line in lines}


def assert_same_run(base: Path, one: str, other: str) -> None:
    assert losses(base, one) == losses(base, other)
    weights = [checkpoint_manager.load_checkpoint(run_folder(base, tag), STEPS, load_optimizer=True)[:2] for tag in (one, other)]
    assert same(*weights)  # weights, optimizer, and the loader with its next batches
    assert json.loads((run_folder(base, other) / "summary.json").read_text())["finished"]


def end_well(base: Path, tag: str, *nodes: subprocess.Popen) -> str:
    """What the nodes said."""
    statuses = [node.wait(300) for node in nodes]
    said = "".join(log_of(base, tag, rank).read_text() for rank in (0, 1))
    assert statuses == [0, 0], said
    return said


@pytest.fixture(scope="module")
def whole(base, start) -> str:
    """The tag of a run on two nodes that nothing happened to."""
    end_well(base, "whole", *(start("whole", rank) for rank in (0, 1)))
    return "whole"


def test_two_nodes_train_as_one_process_does(whole, base, monkeypatch):
    monkeypatch.setenv("NANOCHAT_BASE_DIR", str(base))
    monkeypatch.setenv("NANOCHAT_DTYPE", "float32")
    monkeypatch.setattr("nanochat.hardware.measure_peak_flops", lambda *_: 1e12)
    monkeypatch.setattr(base_train, "StopSignal", lambda: type("Nobody", (), {"number": 0}))
    monkeypatch.setattr(sys, "argv", ["base_train", "--dataset", "tinyworld", "--depth", "1", "--model-tag", "one", *shlex.split(TRAIN_FLAGS)])
    assert base_train.main(base_train.parse_args()) == 0
    one, two = losses(base, "one"), losses(base, whole)
    assert max(abs(one[step] - two[step]) for step in one) < 1e-4 and one[STEPS] < one[1] - 0.3
    assert json.loads((run_folder(base, whole) / "summary.json").read_text())["world_size"] == 2


def test_a_process_dies_and_then_a_torchrun(whole, base, start):
    """torchrun itself starts a process again, the recipe a torchrun; its process does not outlive it."""
    tag, nodes = "killed", [start("killed", rank) for rank in (0, 1)]
    wait_for_step(10, base, tag, *nodes)
    victims, torchruns = processes(base, tag, 0, torchruns=False), processes(base, tag, 0, ranks=False)
    assert len(victims) == len(torchruns) == 1
    kill(victims)
    step = newest(base, tag)
    wait_for_step(step + 10, base, tag, *nodes)
    assert processes(base, tag, 0, ranks=False) == torchruns and not set(processes(base, tag, 0)) & set(victims)

    torchruns, ranks = processes(base, tag, 1, ranks=False), processes(base, tag, 1, torchruns=False)
    kill(torchruns)
    wait_for(lambda: not set(processes(base, tag, 1)) & set(ranks), *nodes)
    said = end_well(base, tag, *nodes)
    assert "stopping after this step" in log_of(base, tag, 1).read_text()  # and has saved
    assert "torchrun ended with status 137" in said and said.count("once more") == 1 and said.count("going on from step") == 2
    assert_same_run(base, whole, tag)


def test_stopped_and_then_the_node_where_they_meet_dies(whole, base, start):
    """SIGTERM to a recipe alone, as `kill` does it, and to all processes of a node, as Slurm does it. Then SIGKILL to all of a node."""
    tag, nodes = "dead", [start("dead", rank) for rank in (0, 1)]
    wait_for_step(10, base, tag, *nodes)
    kill([nodes[1].pid, *processes(base, tag, 1)], signal.SIGTERM)
    kill([nodes[0].pid], signal.SIGTERM)
    assert [node.wait(300) for node in nodes] == [143, 143]
    assert not processes(base, tag, 0) + processes(base, tag, 1)
    stopped_at = newest(base, tag)
    assert all("stopped; the same command goes on from there" in (said := log_of(base, tag, rank).read_text()) for rank in (0, 1)), said
    assert not json.loads((run_folder(base, tag) / "summary.json").read_text())["finished"]

    nodes = [start(tag, rank) for rank in (0, 1)]
    wait_for_step(stopped_at + 10, base, tag, *nodes)
    kill([nodes[0].pid, *processes(base, tag, 0)])
    said = end_well(base, tag, start(tag, 0), nodes[1])
    assert f"going on from step {stopped_at} " in said and said.count("once more") >= 1
    assert_same_run(base, whole, tag)


# --- its pieces in the library ---------------------------------------------------------------------------------------

STEP_OF_ALL = """
import os, sys
from pathlib import Path
import torch
from nanochat import common, resuming
def run(rank):
    common.join_ranks("gloo", init_method="file://" + sys.argv[1], rank=rank, world_size=2)
    compute = common.Compute(True, rank, rank, 2, torch.device("cpu"))
    problems = [["not there yet"] * 2, []][rank]  # the first rank sees the newest step late
    resuming.time.sleep, resuming.check_step = (lambda _: None), (lambda *_: None)
    resuming.find_problem = lambda *_: problems.pop() if problems else None
    found = [resuming.step_of_all_ranks(Path("d1"), step, compute) for step in ([None, 20][rank], [10, 20][rank], None, 30)]
    assert found == [20, 20, None, 30] and not problems, found
    common.compute_cleanup()
"""


def test_ranks_that_see_different_steps_go_on_from_the_same(tmp_path):
    command = [sys.executable, "-c", STEP_OF_ALL + FORK_TWO, str(tmp_path / "store")]
    done = subprocess.run(command, cwd=ROOT, env={**os.environ, "OMP_NUM_THREADS": "1"}, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


def test_a_lock_is_waited_for(tmp_path):
    """By a run that goes on after a crash: what is left of the one before may still be saving."""
    first = resuming.lock_run(tmp_path / "d1")
    with pytest.raises(UserError, match="another run is writing"):
        resuming.lock_run(tmp_path / "d1")
    release = threading.Timer(0.3, first.close)
    release.start()
    resuming.lock_run(tmp_path / "d1", patience=60).close()
    release.join()


@pytest.mark.parametrize(("body", "status", "says"), [
    ("raise common.UserError('no text there: get some')", 1, "no text there: get some\n"),
    ("raise OSError(28, 'No space left on device', '/full')", 1, "No space left on device at /full: make room"),
    ("common.ArgumentParser().parse_args(['--depht'])", 2, "wrong flags\n"),
    ("raise SystemExit(0)", 0, None), ("raise KeyboardInterrupt", 130, None), ("raise ZeroDivisionError", 1, None),
])  # fmt: skip
def test_what_is_of_no_use_to_try_again(body, status, says, tmp_path):
    """It is written down where a recipe looks, and nothing else is."""
    code = f"from nanochat import common\nwith common.friendly_errors():\n    {body}"
    environment = {**os.environ, "NANOCHAT_REFUSAL": str(tmp_path / "a" / "refused")}
    assert subprocess.run([sys.executable, "-c", code], cwd=ROOT, env=environment, capture_output=True).returncode == status
    written = [path.read_text() for path in tmp_path.glob("a/*")]
    assert written == [] if says is None else len(written) == 1 and written[0].startswith(says)


def test_signals_that_come_more_than_once(tmp_path):
    """torchrun hands on what a batch system has sent to all processes already. Elsewhere the second one ends it."""
    code = "import os, signal\nfrom nanochat.common import StopSignal\nstop = StopSignal()\n"
    code += "for number in (15, 15, 2, 2):\n    os.kill(os.getpid(), number)\nprint('saved', stop.number)"
    here = {name: value for name, value in os.environ.items() if name != "TORCHELASTIC_RUN_ID"}
    for extra, status, out in (({"TORCHELASTIC_RUN_ID": "x"}, 0, "saved 15\n"), ({}, -signal.SIGTERM, "")):
        done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, env={**here, **extra}, capture_output=True, text=True)
        assert (done.returncode, done.stdout) == (status, out) and done.stderr.count("stopping after this step") == 1


# --- with stand-ins for what trains ----------------------------------------------------------------------------------


@pytest.fixture
def tools(tmp_path) -> Path:
    """A folder for the PATH, with a python and a torchrun that note how they were called; tmp_path / "torchrun.sh" is what torchrun does besides."""
    tools = tmp_path / "tools"
    tools.mkdir()
    (tmp_path / "torchrun.sh").write_text(FINISHES)
    stand_in(
        tools / "python",
        f"""case "$*" in *"-m dev.scaling"* | "-c "*) exec "{sys.executable}" "$@" ;; *) echo "python $*" >>"{tmp_path}/calls" ;; esac""",
    )
    stand_in(tools / "torchrun", f"""
        echo "torchrun $*" >>"{tmp_path}/calls"
        case "$*" in *scripts.base_train*) source "{tmp_path}/torchrun.sh" ;; esac""")  # fmt: skip
    return tools


RUN = 'mkdir -p "$NANOCHAT_BASE_DIR/base_checkpoints/d24" && cd "$NANOCHAT_BASE_DIR/base_checkpoints/d24"\n'
FINISHES = RUN + """echo '{"finished": true, "steps": 7}' >summary.json"""


def stand_in(path: Path, body: str) -> None:
    path.write_text(f"#!/usr/bin/env bash\n{body}\n")
    path.chmod(0o755)


@pytest.fixture
def recipe(tools, tmp_path):
    """Run a recipe with them."""
    ours = ("NNODES", "NODE_RANK", "MASTER_ADDR", "SCALE", "WANDB_RUN", "DEPTH", "MODEL_TAG", "TRAIN_FLAGS", "STAGES")
    environment = {name: value for name, value in os.environ.items() if name not in ours}
    environment |= {"PATH": f"{tools}:{os.environ['PATH']}", "SKIP_SETUP": "1", "NANOCHAT_BASE_DIR": str(tmp_path / "base"), "PAUSE": "0",
                    "TORCH_ELASTIC_SHUTDOWN_TIMEOUT": "1"}  # fmt: skip

    def run(name: str = "multinode.sh", **env: str) -> tuple[subprocess.CompletedProcess, list[str]]:
        (tmp_path / "calls").write_text("")
        done = subprocess.run(["bash", f"runs/{name}"], cwd=ROOT, env={**environment, **env}, capture_output=True, text=True, timeout=60)
        return done, (tmp_path / "calls").read_text().splitlines()

    return run


TWO = {"NNODES": "2", "MASTER_ADDR": "10.0.0.1", "NPROC_PER_NODE": "4"}
MEET = "torchrun --nnodes=2 --nproc_per_node=4 --max_restarts=3 --rdzv_backend=c10d --rdzv_id=d24 --rdzv_endpoint=10.0.0.1:29400"


def test_node_0_prepares_and_does_the_rest(recipe, monkeypatch):
    done, calls = recipe(NODE_RANK="0", WANDB_RUN="w", **TWO)
    assert done.returncode == 0, done.stderr
    stages = [call.split(" -m ")[1].split()[0] for call in calls]
    before, after = ["nanochat.report", "nanochat.dataset", "scripts.tok_train"], ["scripts.base_eval", "dev.gen_synthetic_data", "scripts.chat_sft"]
    assert set(stages[:4]) == set(before) and stages[4:] == ["scripts.base_train", *after, "scripts.chat_eval", "nanochat.report"]
    assert calls[4].startswith(f"{MEET} -m scripts.base_train -- --model-tag=d24 --depth=24 --dataset=climbmix --run=w --keep-last=2 --resume=auto")
    assert calls[4].endswith("--save-every=500 --target-param-data-ratio=8 --fp8")
    for call in calls:
        if " -m scripts." in call:  # each of them takes the flags that it is given
            name, *flags = call.split(" -m scripts.")[1].split()
            monkeypatch.setattr(sys, "argv", [name, *flags])
            importlib.import_module(f"scripts.{name}").parse_args()
    assert all(call.startswith("torchrun --standalone --nproc_per_node=4 -m") for call in calls[5:] if "-m scripts" in call)


def test_other_nodes_pretrain(recipe):
    assert recipe(NODE_RANK="0", STAGES="prepare", **TWO)[0].returncode == 0
    done, calls = recipe(NODE_RANK="1", NODE_ADDR="10.0.0.2", RDZV_CONF="join_timeout=3600", TRAIN_FLAGS="--save-every 9", **TWO)
    assert done.returncode == 0 and len(calls) == 1, done.stderr
    assert calls[0].startswith(f"{MEET} --local_addr=10.0.0.2 --rdzv_conf=join_timeout=3600 -m") and calls[0].endswith(
        "--save-every=500 --save-every 9"
    )
    done, calls = recipe(NNODES="1", STAGES="pretrain", SCALE="cpu", DEPTH="2", MODEL_TAG="d24")
    assert done.returncode == 0 and "--nnodes=1 --nproc_per_node=1" in calls[0] and "--rdzv_endpoint=localhost:29400" in calls[0]
    assert "--dataset=tinyworld" in calls[0] and "--fp8" not in calls[0]


def test_what_fails_is_tried_again_but_not_for_ever(recipe, tmp_path):
    (tmp_path / "torchrun.sh").write_text("exit 1")
    done, calls = recipe(STAGES="pretrain", TRIES="2")
    assert done.returncode == 1 and len(calls) == 3 and "torchrun ended 3 times without a new checkpoint" in done.stderr
    assert done.stderr.count("torchrun ended with status 1 before d24 was finished; once more") == 2
    # as long as there are new checkpoints, it is not given up
    count = f'n=$(wc -l <"{tmp_path}/calls"); '
    (tmp_path / "torchrun.sh").write_text(RUN + count + f'[ "$n" = 6 ] || {{ touch "meta_00000$n.json"; exit 1; }}\n{FINISHES}; exit 1')
    done, calls = recipe(STAGES="pretrain", TRIES="2")
    assert done.returncode == 0 and len(calls) == 6, done.stderr  # and what torchrun says of a run that is finished does not matter


def test_an_old_summary_does_not_end_a_longer_run(recipe, tmp_path):
    assert recipe(STAGES="pretrain")[0].returncode == 0
    (tmp_path / "torchrun.sh").write_text("exit 1")
    time.sleep(0.02)  # file systems count time in steps of some milliseconds
    done, calls = recipe(STAGES="pretrain", TRIES="1")
    assert done.returncode == 1 and len(calls) == 2


def test_what_is_refused_is_not_tried_again(recipe, tmp_path):
    """Here, or on another node: the one that waits for it at the meeting is told."""
    (tmp_path / "torchrun.sh").write_text("""echo "--depth is odd" >"$NANOCHAT_REFUSAL"; trap 'exit 1' INT; while true; do sleep 0.05; done""")
    done, calls = recipe(STAGES="pretrain")
    assert done.returncode == 1 and len(calls) == 1 and "is not tried again" in done.stderr and "--depth is odd" in done.stderr
    (tmp_path / "torchrun.sh").write_text(FINISHES)
    assert recipe(STAGES="pretrain")[0].returncode == 0  # a new start asks anew


@pytest.mark.parametrize(("torchrun", "status"), [
    ("kill -INT $PPID; exit 1", 130),  # Ctrl-C reaches both
    ("trap 'exit 1' INT; kill -TERM $PPID; while true; do sleep 0.05; done", 143),  # `kill` the recipe alone, which tells torchrun
])  # fmt: skip
def test_what_is_stopped_is_not_recovered(torchrun, status, recipe, tmp_path):
    (tmp_path / "torchrun.sh").write_text(torchrun)
    done, calls = recipe(STAGES="pretrain rest")
    assert done.returncode == status and len(calls) == 1 and "stopped; the same command goes on from there" in done.stderr


def test_processes_that_are_left_behind(recipe, tmp_path):
    """They get time to save; then they are killed, if this start has left them, and are let alone, if not."""
    (tmp_path / "torchrun.sh").write_text(f"""sleep 300 >/dev/null 2>&1 & echo $! >"{tmp_path}/left"; {FINISHES}; exit 1""")
    done, calls = recipe(STAGES="pretrain")
    assert done.returncode == 0 and len(calls) == 1, done.stderr
    wait_for(lambda: not Path("/proc", (tmp_path / "left").read_text().strip()).exists())
    mark = f"0 of d24 in {tmp_path}/base"
    with subprocess.Popen(["sleep", "300"], env={**os.environ, "NANOCHAT_NODE": mark}) as other:
        done, calls = recipe(STAGES="pretrain")
        assert done.returncode == 2 and calls == [] and f"training d24 already (processes {other.pid})" in done.stderr and other.poll() is None
        other.kill()


@pytest.mark.parametrize(("env", "says"), [
    ({"NNODES": "2"}, "MASTER_ADDR"), ({"NNODES": "2", "NODE_RANK": "2", "MASTER_ADDR": "a"}, "NODE_RANK=2"), ({"NPROC_PER_NODE": "0"}, "PER_NODE=0"),
    ({"SCALE": "laptop"}, "it is gpu or cpu"), ({"MODEL_TAG": "../x"}, "MODEL_TAG=../x"), ({"STAGES": "pretrain sft"}, "STAGES has sft"),
    ({"DEPTH": "x"}, "DEPTH=x"), ({"TRIES": "0"}, "TRIES=0"), ({"PAUSE": "-1"}, "PAUSE=-1"), ({"TRAIN_FLAGS": "--no-such-flag 3"}, "--no-such-flag"),
])  # fmt: skip
def test_wrong_variables(env, says, recipe, tmp_path):
    done, calls = recipe(**env)
    assert done.returncode == 2 and says in done.stderr and calls == [] and "Traceback" not in done.stderr
    assert not (tmp_path / "base").exists()


# --- Slurm -----------------------------------------------------------------------------------------------------------


@pytest.fixture
def slurm(recipe, tools, tmp_path):
    """runs/multinode.slurm as sbatch starts it, with the commands that it needs: srun starts a task for each node, here one after the other."""
    stand_in(tools / "scontrol", f"""echo "scontrol $*" >>"{tmp_path}/calls"; [ "$1 $2" != "show hostnames" ] || printf 'node7\nnode9\n'""")
    stand_in(tools / "scancel", f"""echo "scancel $*" >>"{tmp_path}/calls"; kill -TERM "$(cat "{tmp_path}/srun.pid")" """)
    stand_in(
        tools / "srun",
        f"""
        echo "srun $*" >>"{tmp_path}/calls"; echo $$ >"{tmp_path}/srun.pid"
        while [[ "$1" == --* ]]; do shift; done
        if [ -e "{tmp_path}/hangs" ]; then trap 'exit 143' TERM; kill -USR1 $PPID; while true; do sleep 0.05; done; fi
        for node in $(seq 0 $((SLURM_JOB_NUM_NODES - 1))); do SLURM_NODEID=$node "$@" || exit; done""",
    )
    job = {"SLURM_JOB_ID": "4711", "SLURM_JOB_NUM_NODES": "2", "SLURM_JOB_NODELIST": "node[7,9]", "SLURM_GPUS_ON_NODE": "4",
           "SLURM_SUBMIT_DIR": str(ROOT)}  # fmt: skip
    return lambda **env: recipe("multinode.slurm", **{**job, **env})


def test_slurm_tells_each_node_who_it_is(slurm):
    subprocess.run(["bash", "-n", ROOT / "runs" / "multinode.slurm"], check=True)
    done, calls = slurm(STAGES="prepare pretrain")
    assert done.returncode == 0, done.stderr
    trained = [call for call in calls if "scripts.base_train" in call]
    assert len(trained) == 2 and trained[0] == trained[1]
    assert trained[0].startswith(f"{MEET} -m".replace("10.0.0.1:29400", "node7:24711"))
    assert calls[0] == "scontrol show hostnames node[7,9]" and calls[1].startswith("srun --nodes=2 --ntasks-per-node=1 ")
    assert sum("nanochat.dataset" in call for call in calls) == 2  # node 0 alone prepares: 8 shards, and the others
    assert not any("requeue" in call for call in calls)


def test_slurm_saves_and_queues_again_when_time_is_up(slurm, tmp_path):
    (tmp_path / "hangs").touch()
    done, calls = slurm()
    assert done.returncode == 143 and "goes on when job 4711 runs again" in done.stdout
    assert calls[-2:] == ["scancel --signal=TERM 4711", "scontrol requeue 4711"]


def test_slurm_without_a_folder_for_all(slurm, tmp_path):
    done, calls = slurm(NANOCHAT_BASE_DIR="")
    assert done.returncode == 2 and "NANOCHAT_BASE_DIR" in done.stderr and calls == []
    done, calls = slurm(SLURM_SUBMIT_DIR=str(tmp_path))
    assert done.returncode == 2 and "from the top of the checkout" in done.stderr and calls == []
