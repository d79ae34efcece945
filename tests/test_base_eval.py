"""scripts/base_eval.py as a user starts it, on a tiny model; and what base_train does with CORE."""

import csv
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from nanochat.checkpoint_manager import CheckpointManager
from nanochat.gpt import GPTConfig, new_model
from nanochat.samples import PROMPTS
from scripts.base_eval import already_there

ROOT = Path(__file__).parent.parent
SMALL = ("--device-type", "cpu", "--device-batch-size", "4", "--split-tokens", "1536", "--max-per-task", "20")
TRAIN = ["scripts.base_train", "--dataset", "tinyworld", "--depth", "2", "--aspect-ratio", "16", "--head-dim", "16", "--max-seq-len", "64",
         "--device-batch-size", "4", "--total-batch-size", "256", "--eval-every", "-1", "--sample-every", "-1", "--compile", "off",
         "--core-metric-max-per-task", "10", "--model-tag", "t"]  # fmt: skip


@pytest.fixture(scope="module")
def world(small_world, tokenizer, tmp_path_factory) -> Path:
    """A base dir with a model in it that knows nothing, and the data that it has not been trained on."""
    base = tmp_path_factory.mktemp("world")
    for name in ("base_data_tinyworld", "tokenizer_tinyworld"):
        (base / name).symlink_to(small_world / name)
    torch.manual_seed(3)
    model = new_model(GPTConfig(96, 1024, n_layer=2, n_head=2, n_kv_head=2, n_embd=32, window_pattern="L"), "cpu")
    torch.nn.init.normal_(model.lm_head.weight, std=0.1)
    meta = {"user_config": {"dataset": "tinyworld"}}
    CheckpointManager(base / "base_checkpoints" / "d2").save(7, model, None, meta, tokenizer=tokenizer)
    return base


def results(world: Path, name: str = "d2_000007") -> dict:
    return json.loads((world / "base_eval" / f"{name}.json").read_text(encoding="utf-8"))


def test_everything_on_one_rank_and_on_two(run_module, world):
    run = run_module("scripts.base_eval", *SMALL, base=world)
    assert run.returncode == 0, run.stderr
    found = results(world)
    assert found["model_tag"] == "d2" and found["step"] == 7 and found["dataset"] == "tinyworld"
    assert 2 < found["val_bpb"] < 10 and 2 < found["train_bpb"] < 10
    assert list(found["samples"]) == list(PROMPTS) and len(found["unconditioned"]) == 8
    assert len(found["core"]["tasks"]) == 5 and -1 < found["core_metric"] < 1
    for label, task in found["core"]["tasks"].items():
        assert task["examples"] == len(task["outcomes"]) == 20
        assert found["core"]["results"][label] == task["accuracy"] == task["outcomes"].count("1") / 20

    table = (world / "base_eval" / "d2_000007.csv").read_text()
    lines = table.splitlines()
    assert lines[0] == "Task                               , Accuracy  , Centered  " and {len(line) for line in lines} == {59}
    rows = {row[0].strip(): row[1:] for row in csv.reader(lines[1:])}
    assert float(rows["CORE"][1]) == round(found["core_metric"], 6) and not rows["CORE"][0].strip()
    assert {label: float(row[0]) for label, row in rows.items() if label != "CORE"} == found["core"]["results"]

    command = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc_per_node=2", "-m", "scripts.base_eval", "--", *SMALL]
    environment = {**os.environ, "NANOCHAT_BASE_DIR": str(world), "OMP_NUM_THREADS": "1"}
    (world / "base_eval" / "d2_000007.json").unlink()
    two = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, timeout=300)
    assert two.returncode == 0, two.stderr
    assert (world / "base_eval" / "d2_000007.csv").read_text() == table
    again = results(world)
    assert again["val_bpb"] == pytest.approx(found["val_bpb"], rel=1e-5) and again["samples"] == found["samples"]
    assert [task["outcomes"] for task in again["core"]["tasks"].values()] == [task["outcomes"] for task in found["core"]["tasks"].values()]
    assert two.stdout.count("CORE: ") == 1


def test_parts_of_it(run_module, world):
    (world / "base_eval" / "d2_000007.json").unlink(missing_ok=True)
    run = run_module("scripts.base_eval", "--eval", "sample", "--model-tag", "d2", "--step", "7", *SMALL, base=world)
    assert run.returncode == 0, run.stderr
    assert not {"core", "val_bpb"} & results(world).keys() and results(world)["samples"]
    run = run_module("scripts.base_eval", "--eval", "core", "--bundle", str(world / "eval_bundle_tinyworld"), *SMALL, base=world)
    assert run.returncode == 0, run.stderr
    assert "core" in results(world) and "samples" not in results(world)


@pytest.mark.parametrize(("flags", "status", "says"), [
    (("--eval", "core,bpc"), 2, "--eval bpc"), (("--eval", ","), 2, "name one at least"), (("--split-tokens", "0"), 2, "--split-tokens 0"),
    (("--max-per-task", "0"), 2, "--max-per-task 0"),
    (("--model-tag", "d9"), 1, "'d9'"), (("--step", "8"), 1, "whole are 7"), (("--bundle", "/no/such"), 1, "core.yaml"),
    (("--dataset", "mine", "--bundle", "tinyworld"), 1, "'mine'"),
    (("--hf-path", "x", "--eval", "bpb"), 1, "only CORE"),
])  # fmt: skip
def test_what_is_wrong_is_said_at_once(flags, status, says, run_module, world):
    before = set((world / "base_eval").glob("*"))
    run = run_module("scripts.base_eval", "--device-type", "cpu", *flags, base=world)
    assert run.returncode == status and says in run.stderr and "Traceback" not in run.stderr and "accuracy" not in run.stdout
    assert set((world / "base_eval").glob("*")) == before


def test_what_is_there_already(tmp_path):
    """Of the checkpoint that is there now, with these settings, and all that is asked for."""
    path, checkpoint, expected = tmp_path / "d2.json", tmp_path / "meta.json", {"step": 7, "split_tokens": 64}
    checkpoint.write_text("{}")
    assert not already_there(path, checkpoint, expected, ["bpb"])
    path.write_text(json.dumps({**expected, "val_bpb": 1.0, "samples": {}}))
    assert already_there(path, checkpoint, expected, ["bpb"]) and already_there(path, checkpoint, expected, ["bpb", "sample"])
    assert not already_there(path, checkpoint, expected, ["core", "bpb"])
    assert not already_there(path, checkpoint, {**expected, "split_tokens": 128}, ["bpb"])
    assert not already_there(path, checkpoint, {**expected, "bundle": "core"}, ["bpb"])
    after = path.stat().st_mtime + 10
    os.utime(checkpoint, (after, after))
    assert not already_there(path, checkpoint, expected, ["bpb"])
    os.utime(checkpoint, (0, 0))
    for broken in ("", "{", "[]", "3"):
        path.write_text(broken)
        assert not already_there(path, checkpoint, expected, ["bpb"])


def test_hugging_face_without_transformers(run_module, world, tmp_path):
    (tmp_path / "transformers.py").write_text("raise ImportError('not here')")
    run = run_module("scripts.base_eval", "--hf-path", "gpt2", "--bundle", "tinyworld", base=world, PYTHONPATH=str(tmp_path))
    assert run.returncode == 1 and "pip install -e .[hf]" in run.stderr and "Traceback" not in run.stderr


def test_a_hugging_face_model(run_module, world, tmp_path):
    """A GPT-2 from a folder, with no network: random, but through the same code as the real one, against plain transformers."""
    transformers, tokenizers = pytest.importorskip("transformers"), pytest.importorskip("tokenizers")
    from test_core_eval import reference_outcomes

    from nanochat.core_bundle import read_tasks
    from scripts.base_eval import HuggingFaceTokenizer

    bpe = tokenizers.Tokenizer(tokenizers.models.BPE())
    bpe.pre_tokenizer, bpe.decoder = tokenizers.pre_tokenizers.ByteLevel(add_prefix_space=False), tokenizers.decoders.ByteLevel()
    alphabet = tokenizers.pre_tokenizers.ByteLevel.alphabet()
    trainer = tokenizers.trainers.BpeTrainer(vocab_size=300, special_tokens=["<|endoftext|>"], initial_alphabet=alphabet, show_progress=False)
    bpe.train_from_iterator(["the cat sat on the mat"], trainer)
    tokenizer = transformers.PreTrainedTokenizerFast(tokenizer_object=bpe, eos_token="<|endoftext|>")
    tokenizer.save_pretrained(tmp_path / "gpt")
    torch.manual_seed(0)
    model = transformers.GPT2LMHeadModel(transformers.GPT2Config(vocab_size=300, n_positions=512, n_embd=32, n_layer=2, n_head=2)).eval()
    for p in model.parameters():
        torch.nn.init.normal_(p, std=0.3)
    model.save_pretrained(tmp_path / "gpt")

    flags = ("--hf-path", str(tmp_path / "gpt"), "--bundle", "tinyworld", *SMALL)
    run = run_module("scripts.base_eval", *flags, base=world, NANOCHAT_DTYPE="float32", HF_HUB_OFFLINE="1")
    assert run.returncode == 0, run.stderr
    found = results(world, "gpt")["core"]["tasks"]
    for task in read_tasks(world / "eval_bundle_tinyworld"):
        if not found[task.label]["cut"]:
            wanted = reference_outcomes(lambda ids: model(ids).logits, _Single(HuggingFaceTokenizer(tokenizer)), task, 20)
            assert found[task.label]["outcomes"] == "".join("01"[right] for right in wanted)
    run = run_module("scripts.base_eval", "--hf-path", str(tmp_path), "--bundle", "tinyworld", base=world, HF_HUB_OFFLINE="1")
    assert run.returncode == 1 and "no causal language model" in run.stderr and "Traceback" not in run.stderr


class _Single:
    """The reference encodes one text at a time, and puts BOS before it itself."""

    def __init__(self, tokenizer):
        self.tokenizer, self.get_bos_token_id = tokenizer, tokenizer.get_bos_token_id

    def encode(self, text: str) -> list[int]:
        return self.tokenizer.encode([text], 0)[0][1:]


# --- in training -----------------------------------------------------------------------------------------------------


@pytest.fixture
def train(run_module, small_world, tmp_path):
    for name in ("base_data_tinyworld", "tokenizer_tinyworld"):
        (tmp_path / name).symlink_to(small_world / name)

    def run(*flags: str, **env: str) -> tuple[subprocess.CompletedProcess, dict, list[dict]]:
        done = run_module(*TRAIN, *flags, **env)
        assert done.returncode == 0, done.stderr
        folder = tmp_path / "base_checkpoints" / "t"
        lines = [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]
        return done, json.loads((folder / "summary.json").read_text()), [line for line in lines if "core_metric" in line]

    return run


def test_base_train_evaluates_core(train):
    """At the steps that it is asked for and at the last one; and where prompts are longer than a row, it says so and goes on."""
    done, summary, logged = train("--num-iterations", "5", "--core-metric-every", "2")
    assert [line["step"] for line in logged] == [2, 4, 5] and summary["core_metric"] == logged[-1]["core_metric"]
    assert done.stdout.count(" CORE: ") == 3 and "longer than the 64 tokens" in done.stdout


def test_base_train_without_core(train, tmp_path):
    done, summary, logged = train("--num-iterations", "1", "--core-metric-every", "-1")
    assert logged == [] and summary["core_metric"] is None and "CORE" not in done.stdout
    assert not (tmp_path / "eval_bundle_tinyworld").exists()


def test_base_train_with_a_bundle_that_cannot_be_had(train, tmp_path):
    """A data set of another name wants the published bundle, and there is no network: one line, and the run goes on."""
    (tmp_path / "base_data_mine").symlink_to(tmp_path / "base_data_tinyworld")
    (tmp_path / "tokenizer_mine").symlink_to(tmp_path / "tokenizer_tinyworld")
    (tmp_path / "eval_bundle").mkdir()
    done, summary, _ = train("--dataset", "mine", "--num-iterations", "1")
    assert done.stdout.count("CORE will not be evaluated: ") == 1 and summary["finished"] and summary["core_metric"] is None
