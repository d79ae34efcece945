"""runs/speedrun.sh: what it calls, and a rehearsal of all of it at toy size, on the CPU and a hub on the loopback device.

On 2 cores the rehearsal takes some minutes, most of which goes into starting processes: so only pretraining has two ranks.
"""

import importlib
import io
import os
import random
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import NamedTuple

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch
from helpers import kill_all, linux, living, same
from loopback_hub import Fault
from test_core_bundle import ZIP
from test_tasks_hub import REPOS, ApiHub, repository

from nanochat import tinyworld
from nanochat.run_files import read_json, read_records

ROOT = Path(__file__).parent.parent


# --- what it calls ---------------------------------------------------------------------------------------------------


@pytest.fixture
def calls(tmp_path):
    """Start the recipe with a python and a torchrun on the PATH that only note how they are called; a call that contains $FAILS fails."""
    tools, noted = tmp_path / "tools", tmp_path / "calls"
    tools.mkdir()
    for name in ("python", "torchrun"):
        (tools / name).write_text(
            f'#!/usr/bin/env bash\necho "{name} $*" >>"{noted}"\nif [[ -n "$FAILS" && "$*" == *"$FAILS"* ]]; then echo "so it is" >&2; exit 3; fi\n'
        )
        (tools / name).chmod(0o755)
    kept = {name: value for name, value in os.environ.items() if name in ("HOME", "TMPDIR", "LANG")}
    environment = {**kept, "PATH": f"{tools}:{os.environ['PATH']}", "SKIP_SETUP": "1", "NANOCHAT_BASE_DIR": str(tmp_path / "base"), "FAILS": ""}

    def run(**env: str) -> tuple[subprocess.CompletedProcess, list[str]]:
        noted.unlink(missing_ok=True)
        done = subprocess.run(["bash", "runs/speedrun.sh"], cwd=ROOT, env={**environment, **env}, text=True, capture_output=True, timeout=60)
        return done, noted.read_text().splitlines() if noted.exists() else []

    return run


def parsed(call: str, monkeypatch) -> object:
    """The flags of a call as the script that is called reads them; the script ends the test if it does not know one."""
    module, *flags = call.split(" -m ", 1)[1].split(" ")
    monkeypatch.setattr(sys, "argv", [module, *flags])
    return importlib.import_module(module).parse_args()


STAGES = ["nanochat.report", "nanochat.dataset", "nanochat.dataset", "scripts.tok_train", "scripts.tok_eval", "scripts.base_train",
          "scripts.base_eval", "dev.gen_synthetic_data", "scripts.chat_sft", "scripts.chat_eval", "nanochat.report"]  # fmt: skip


def stages_of(lines: list[str]) -> list[str]:
    return [line.split(" -m ", 1)[1].split()[0] for line in lines]


def test_the_recipe_as_it_is(calls, monkeypatch):
    """Depth 24, 8 tokens per parameter, float8, 16 rows, on 8 GPUs; and every flag exists."""
    done, lines = calls()
    assert done.returncode == 0, done.stderr
    assert sorted(stages_of(lines)) == sorted(STAGES) and stages_of(lines)[5:] == STAGES[5:]  # the download and the tokenizer go side by side
    flags = {name: parsed(line, monkeypatch) for name, line in zip(stages_of(lines), lines, strict=True)}
    several = [line for line in lines if line.startswith("torchrun")]
    assert all(line.startswith("torchrun --standalone --nproc_per_node=8 -m scripts.") for line in several)
    assert stages_of(several) == ["scripts.base_train", "scripts.base_eval", "scripts.chat_sft", "scripts.chat_eval"]
    base = flags["scripts.base_train"]
    assert (base.depth, base.target_param_data_ratio, base.fp8, base.device_batch_size, base.model_tag, base.run) == (24, 8, True, 16, "d24", "dummy")
    assert all(flags[name].resume == "auto" for name in stages_of(several)) and flags["scripts.base_eval"].device_batch_size == 16
    assert flags["scripts.chat_eval"].source == "sft" and flags["scripts.tok_train"].vocab_size == 32768
    assert flags["nanochat.report"].model_tag == "d24" and any(line.endswith("nanochat.dataset -n 170") for line in lines)


def test_variables(calls, monkeypatch, tmp_path):
    base = tmp_path / "base"
    for file in ("tokenizer/tokenizer.json", "tokenizer/compression.json", "base_checkpoints/d6/meta_000001.json", "identity_conversations.jsonl"):
        (base / file).parent.mkdir(parents=True, exist_ok=True)
        (base / file).touch()
    further = {"TRAIN_FLAGS": "--depth=7 --keep-last=9", "SFT_FLAGS": "--data default,json:/*2", "RL_FLAGS": "--run=dummy", "CHAT_EVAL_FLAGS": "-x 3"}
    done, lines = calls(DEPTH="6", RATIO="10.5", FP8="0", RL="1", NPROC_PER_NODE="1", DEVICE_BATCH_SIZE="4", SHARDS="5", WANDB_RUN="w", **further)
    assert done.returncode == 0, done.stderr
    assert stages_of(lines) == ["nanochat.dataset", "nanochat.dataset", "scripts.base_train", "scripts.base_eval", "scripts.chat_sft",
                                "scripts.chat_eval", "scripts.chat_rl", "scripts.chat_eval", "nanochat.report"]  # fmt: skip
    assert all(line.startswith("python -m ") for line in lines) and lines[0] == lines[1] == "python -m nanochat.dataset -n 5"
    train, _, sft, _, rl, last, _ = [parsed(line, monkeypatch) for line in lines[2:]]
    assert (train.depth, train.keep_last, train.model_tag, train.fp8, train.target_param_data_ratio) == (7, 9, "d6", False, 10.5)
    assert sft.data == "default,json:/*2" and (sft.run, rl.run, train.device_batch_size) == ("w", "dummy", 4)
    assert (last.source, last.model_tag, last.max_problems) == ("rl", "d6", 3)


@pytest.mark.parametrize(("name", "value", "says"), [
    ("DEPTH", "abc", "it is a number from 1"), ("DEPTH", "024", "it is a number from 1"), ("RL", "maybe", "it is 0 or 1"), ("FP8", "", None),
    ("FP8", "yes", "it is 0 or 1"), ("NPROC_PER_NODE", "0", "it is a number from 1"), ("SHARDS", "-1", "it is a number from 1"),
    ("RATIO", "8x", "it is a number"), ("TAG", "../d24", "take letters"), ("DEVICE_BATCH_SIZE", "auto", "it is a number from 1"),
])  # fmt: skip
def test_wrong_variables(name, value, says, calls, tmp_path):
    done, lines = calls(**{name: value})
    if says is None:  # empty is as good as not there
        assert done.returncode == 0
        return
    assert done.returncode == 2 and lines == [] and not (tmp_path / "base").exists()
    assert done.stderr.count("\n") == 1 and done.stderr.startswith(f"error: {name}={value}: {says}")


@pytest.mark.parametrize(("fails", "stage", "status"), [
    ("-n 170", "the download of the text", 3), ("scripts.tok_train", "tokenizer", 3), ("scripts.base_eval", "evaluation of the base model", 3),
])  # fmt: skip
def test_what_fails_ends_the_recipe(fails, stage, status, calls):
    """Above all the download in the background, which nobody watches while the tokenizer is trained."""
    done, lines = calls(FAILS=fails)
    assert done.returncode == status and f"error: {stage} ended with status {status}." in done.stderr and "so it is" in done.stderr
    assert "scripts.chat_sft" not in stages_of(lines) and ("scripts.base_train" in stages_of(lines)) == (fails == "scripts.base_eval")


# --- the rehearsal ---------------------------------------------------------------------------------------------------

STEPS = {"base": 48, "chatsft": 60, "chatrl": 3}
SAVE_EVERY = 6
TOY = {
    "DEPTH": "2", "NPROC_PER_NODE": "2", "FP8": "0", "RL": "1", "SHARDS": "5", "TOKENIZER_SHARDS": "2", "VOCAB_SIZE": "320", "DEVICE_BATCH_SIZE": "4",
    "TRAIN_FLAGS": f"--device-type=cpu --compile=off --eval-every=1000 --eval-tokens=1024 --core-metric-every=-1 --sample-every=-1 --warmup-steps=4 "
                   f"--aspect-ratio=16 --head-dim=16 --max-seq-len=128 --total-batch-size=1024 --num-iterations={STEPS['base']} "
                   f"--save-every={SAVE_EVERY} --matrix-lr=0.3 --embedding-lr=4 --unembedding-lr=0.1 --scalar-lr=1 --weight-decay=0.1",
    "SFT_FLAGS": f"--device-type=cpu --compile=off --eval-every=-1 --chatcore-every=-1 --num-iterations={STEPS['chatsft']} "
                 f"--save-every={SAVE_EVERY} --data=smoltalk,mmlu,identity,gsm8k*500",
    "RL_FLAGS": f"--device-type=cpu --eval-every=-1 --num-iterations={STEPS['chatrl']} --save-every=1 --examples-per-step=2 --num-samples=4 "
                f"--max-new-tokens=12",
    "BASE_EVAL_FLAGS": "--device-type=cpu --split-tokens=1024", "CHAT_EVAL_FLAGS": "--device-type=cpu -x 2 -m 12",
    "NANOCHAT_DTYPE": "float32", "NANOCHAT_WORDS": "embedded", "OMP_NUM_THREADS": "1", "SKIP_SETUP": "1",
}  # fmt: skip
# Answers so short that a toy learns some of them: where all are wrong, reinforcement learning changes nothing, and nothing would be compared.
QUESTIONS = [{"question": f"{name} has one pear and one plum. How many are left?", "answer": f"#### {number}"}
             for name, number in (("Ann", 2), ("Bob", 7))]  # fmt: skip
# Instead of torchrun: two ranks for pretraining, and elsewhere one process, which starts in a third of the time.
ONE_RANK = """#!/usr/bin/env bash
case "$*" in *scripts.base_train*) exec "{real}" "$@" ;; esac
shift 2  # --standalone --nproc_per_node=2
exec python "$@"
"""
CLIMBMIX = "karpathy/climbmix-400b-shuffle"


def shards(count: int) -> dict[str, bytes]:
    """Text as the hub has it: shards of documents, the last of 6,543 for validation."""
    documents, made = tinyworld.documents("train"), {}
    for number in [*range(count), 6542]:
        file = io.BytesIO()
        pq.write_table(pa.table({"text": [next(documents) for _ in range(160)]}), file, row_group_size=16, compression="zstd")
        made[f"shard_{number:05d}.parquet"] = file.getvalue()
    return made


@pytest.fixture(scope="module")
def hub() -> Iterator[ApiHub]:
    gsm8k = repository({("main", "train", "main"): QUESTIONS, ("main", "test", "main"): QUESTIONS})
    with ApiHub({**REPOS, "openai/gsm8k": gsm8k, CLIMBMIX: shards(5), "some/place": {"eval_bundle.zip": ZIP}}) as hub:
        yield hub


class Rehearsal(NamedTuple):
    """One base dir, and a checkout to start the recipe from, which gets the report."""

    folder: Path
    hub: ApiHub

    @property
    def base(self) -> Path:
        return self.folder / "base"

    def start(self) -> subprocess.Popen:
        checkout = self.folder / "checkout"
        checkout.mkdir(parents=True, exist_ok=True)
        for name in ("nanochat", "scripts", "tasks", "dev", "runs", "pyproject.toml"):
            if not (checkout / name).is_symlink():
                (checkout / name).symlink_to(ROOT / name)
        torchrun, folder = checkout / "tools" / "torchrun", Path(sys.executable).parent
        torchrun.parent.mkdir(exist_ok=True)
        torchrun.write_text(ONE_RANK.format(real=folder / "torchrun"))
        torchrun.chmod(0o755)
        kept = {name: value for name, value in os.environ.items() if not name.startswith(("HF_", "NANOCHAT_", "OPENAI_"))}
        environment = {**kept, **TOY, "PATH": f"{torchrun.parent}:{folder}:{os.environ['PATH']}", "NANOCHAT_BASE_DIR": str(self.base),
                       "HF_HOME": str(self.folder / "hf"), "HF_ENDPOINT": self.hub.endpoint, "HF_HUB_DISABLE_PROGRESS_BARS": "1",
                       "NANOCHAT_EVAL_BUNDLE_URL": f"{self.hub.endpoint}/datasets/some/place/resolve/main/eval_bundle.zip"}  # fmt: skip
        with open(self.folder / "log", "ab") as log:
            return subprocess.Popen(["bash", "runs/speedrun.sh"], cwd=checkout, env=environment, stdin=subprocess.DEVNULL, stdout=log,
                                    stderr=subprocess.STDOUT, start_new_session=True)  # fmt: skip

    @property
    def log(self) -> str:
        return (self.folder / "log").read_text(errors="replace")

    def finish(self) -> str:
        """What it says until it ends well."""
        before = len(self.log) if (self.folder / "log").exists() else 0
        assert self.start().wait(timeout=900) == 0, self.log[-6000:]
        return self.log[before:]

    def steps(self, stage: str) -> int:
        """How many steps of a stage are in its log."""
        records, _ = read_records(self.base / f"{stage}_checkpoints" / "d2" / "metrics.jsonl")
        return max((record["step"] for record in records if "loss" in record), default=0)


@pytest.fixture(scope="module")
def undisturbed(hub, tmp_path_factory) -> Rehearsal:
    rehearsal = Rehearsal(tmp_path_factory.mktemp("undisturbed"), hub)
    rehearsal.finish()
    return rehearsal


def wait_for(condition: Callable[[], object], process: subprocess.Popen, rehearsal: Rehearsal) -> None:
    deadline = time.monotonic() + 600
    while not condition():
        assert process.poll() is None, rehearsal.log[-6000:]
        assert time.monotonic() < deadline
        time.sleep(0.01)


def test_from_nothing_to_a_report(undisturbed):
    base = undisturbed.base
    for stage, steps in STEPS.items():
        summary = read_json(base / f"{stage}_checkpoints" / "d2" / "summary.json")
        assert summary["finished"] and summary["steps"] == steps and summary["world_size"] == (2 if stage == "base" else 1), stage
    records, _ = read_records(base / "chatrl_checkpoints" / "d2" / "metrics.jsonl")
    assert any(record["even"] < 2 for record in records), "all groups are even: RL has learned nothing, and its weights prove nothing"
    report = (base / "report.md").read_text(encoding="utf-8")
    assert (undisturbed.folder / "checkout" / "report.md").read_text(encoding="utf-8") == report
    for title in ("Tokenizer (climbmix)", "Pretraining", "Fine-tuning (SFT)", "Reinforcement learning (RL)", "Time and cost"):
        assert f"\n## {title}\n" in report, title
    rows = {row[0]: row[1:] for row in (line.strip("| ").split(" | ") for line in report.splitlines() if line.startswith("| "))}
    assert rows["CORE"][0] != "–" and "–" not in rows["ChatCORE"][1:] and "–" not in rows["GSM8K"][1:] and "Left out" not in report


@linux
def test_killed_again_and_again(undisturbed, hub, tmp_path):
    """Once in each of three stages, at moments that a dice throws: all processes without a warning, or the recipe by a signal, which is to leave
    none of them behind. $NANOCHAT_TEST_SEED repeats a game."""
    seed = os.environ.get("NANOCHAT_TEST_SEED") or str(time.time_ns() % 1_000_000)
    print(f"NANOCHAT_TEST_SEED={seed}")  # pytest shows it if the test fails
    dice, rehearsal = random.Random(seed), Rehearsal(tmp_path, hub)
    ways = [signal.SIGKILL, signal.SIGKILL, dice.choice([signal.SIGTERM, signal.SIGINT])]
    dice.shuffle(ways)
    late, at_step = f"shard_{dice.randrange(2, 5):05d}.parquet", {stage: dice.randrange(1, STEPS[stage] // 2) for stage in ("base", "chatsft")}
    hold, pause = threading.Event(), dice.uniform(0, 3)
    print(f"{[way.name for way in ways]}: {pause:.1f} s after half of {late} has come, at steps {at_step}")

    def stop(process: subprocess.Popen, way: signal.Signals) -> None:
        if way == signal.SIGKILL:
            kill_all(rehearsal.base)
        elif way == signal.SIGTERM:
            process.send_signal(way)  # as `kill` does it
        else:
            os.killpg(process.pid, way)  # as a terminal does it
        status = process.wait(timeout=120)
        assert status == {signal.SIGKILL: -9, signal.SIGTERM: 143, signal.SIGINT: 130}[way], rehearsal.log[-6000:]
        assert living(rehearsal.base) == [], rehearsal.log[-3000:]

    # While text comes in, of which half of a shard has arrived
    hub.faults["GET", late] = iter([Fault(stop_after=20_000, hold=hold)])
    part = rehearsal.base / "base_data_climbmix" / ".incoming"
    process = rehearsal.start()
    wait_for(lambda: any(path.stat().st_size for path in part.glob(f"{late}.*.part")), process, rehearsal)
    time.sleep(pause)
    stop(process, ways[0])
    hold.set()
    # In pretraining, and in SFT
    for stage, way in zip(at_step, ways[1:], strict=True):
        process = rehearsal.start()
        wait_for(lambda stage=stage: rehearsal.steps(stage) >= at_step[stage], process, rehearsal)
        stop(process, way)
        assert rehearsal.steps(stage) < STEPS[stage]
    said = rehearsal.finish()

    assert hub.asked(late, "GET")[-1].headers.get("range"), "the shard of which half was there was not begun anew"
    assert "base_checkpoints/d2 is finished: step" in said and "d2_000048 is evaluated already" in said, said[-6000:]
    assert "going on from step" in said or at_step["chatsft"] <= SAVE_EVERY, said[-6000:]
    same_models(undisturbed.base, rehearsal.base)


def same_models(one: Path, other: Path) -> None:
    """Tokenizer, weights, optimizer, loader and what was found out about them, to the last bit; but for times."""
    assert (one / "tokenizer" / "tokenizer.json").read_bytes() == (other / "tokenizer" / "tokenizer.json").read_bytes()
    for stage, steps in STEPS.items():
        names = [f"model_{steps:06d}.pt", *[f"optim_{steps:06d}_rank{rank}.pt" for rank in range(2 if stage == "base" else 1)]]
        for name in names:
            mine, theirs = (torch.load(base / f"{stage}_checkpoints" / "d2" / name, weights_only=True) for base in (one, other))
            assert same(mine, theirs), f"{stage}: {name}"
    first, second = (read_json(base / "base_eval" / "d2_000048.json") for base in (one, other))
    for key in ("core_metric", "train_bpb", "val_bpb", "samples", "unconditioned"):
        assert first[key] == second[key], key
    files = sorted(path.relative_to(one) for path in (one / "chat_eval").glob("*/*.json"))
    assert len(files) == 12
    for file in files:
        assert read_json(one / file)["items"] == read_json(other / file)["items"], file
