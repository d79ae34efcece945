"""Every script as a user starts it: its help, its work, and what it says when something is wrong."""

import hashlib
import importlib
import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
COMMANDS = ["nanochat.dataset", *sorted(f"scripts.{path.stem}" for path in (ROOT / "scripts").glob("*.py") if path.stem != "__init__")]


@pytest.mark.parametrize("module", COMMANDS)
def test_help(module, run_module, tmp_path):
    result = run_module(module, "--help")
    assert result.returncode == 0 and result.stdout.startswith("usage:")
    assert os.listdir(tmp_path) == []  # asking for help makes nothing


@pytest.mark.parametrize("module", COMMANDS)
def test_unknown_flags(module, run_module):
    needed = {"scripts.chat_eval": ["-i", "sft"]}.get(module, [])
    result = run_module(module, *needed, "--no-such-flag")
    assert result.returncode == 2 and "--no-such-flag" in result.stderr


def test_corpus_tokenizer_evaluation(run_module, tmp_path):
    """The first three stages of the CPU recipe, small."""
    made = run_module("nanochat.dataset", "--source", "tinyworld", "--megabytes", "0.5")
    assert made.returncode == 0, made.stderr
    trained = run_module("scripts.tok_train", "--dataset", "tinyworld", "--vocab-size", "600", "--max_chars", "200000", "--doc-cap=500")
    assert trained.returncode == 0, trained.stderr
    summary = json.loads((tmp_path / "tokenizer_tinyworld" / "summary.json").read_text())
    assert summary["vocab_size"] == 600 and 200_000 <= summary["characters"] < 200_500
    evaluated = run_module("scripts.tok_eval", "--dataset", "tinyworld", TIKTOKEN_CACHE_DIR=str(tmp_path / "empty"))
    assert evaluated.returncode == 0, evaluated.stderr
    assert "not compared with GPT-2" in evaluated.stdout and "not compared with GPT-4" in evaluated.stdout
    table = json.loads((tmp_path / "tokenizer_tinyworld" / "compression.json").read_text())
    for kind in ("prose", "news", "code", "maths", "science", "other languages", "tinyworld train", "tinyworld val"):
        assert table[kind]["ours"]["bytes_per_token"] == round(table[kind]["bytes"] / table[kind]["ours"]["tokens"], 4) > 1
        assert kind in evaluated.stdout
    assert table["tinyworld val"]["ours"]["bytes_per_token"] > table["other languages"]["ours"]["bytes_per_token"]


def test_comparison_looks_into_tiktokens_cache(run_module, in_small_world, tmp_path):
    """Files of the right names, but damaged: tiktoken finds out, and the evaluation goes on without them."""
    from scripts.tok_eval import KNOWN, OPENAI_FILES

    for _, files in KNOWN.values():
        for file in files:
            (tmp_path / hashlib.sha1((OPENAI_FILES + file).encode()).hexdigest()).write_bytes(b"damaged")
    no_network = dict.fromkeys(("http_proxy", "https_proxy", "HTTP_PROXY", "HTTPS_PROXY"), "http://127.0.0.1:9")
    shutil.copytree(in_small_world, tmp_path / "base")
    result = run_module("scripts.tok_eval", "--dataset", "tinyworld", base=tmp_path / "base", TIKTOKEN_CACHE_DIR=str(tmp_path), **no_network)
    assert result.returncode == 0, result.stderr
    assert "not compared with GPT-2: its file in tiktoken's cache is damaged" in result.stdout and "GPT-4: its file" in result.stdout


@pytest.mark.parametrize(("command", "says"), [
    (("scripts.tok_train",), "nanochat.dataset --source climbmix"),  # no data yet
    (("scripts.tok_train", "--dataset", "tinyworld"), "--source tinyworld"),
    (("scripts.tok_train", "--dataset", "mine"), "--name mine"),
    (("scripts.tok_train", "--dataset", "../mine"), "not usable"),
    (("scripts.tok_eval",), "tok_train --dataset climbmix"),  # no tokenizer yet
    (("nanochat.dataset", "--import", "/no/such/place", "--name", "mine"), "/no/such/place"),
    (("nanochat.dataset", "--source", "tinyworld", "--megabytes", "-1"), "--megabytes -1"),
])  # fmt: skip
def test_what_is_missing_is_named(command, says, run_module, tmp_path):
    result = run_module(*command)
    assert result.returncode == 1
    assert says in result.stderr and "Traceback" not in result.stderr
    assert not list(tmp_path.glob("*/*"))  # nothing half-made stays behind


def test_a_misspelt_dtype_ends_the_first_stage(run_module, tmp_path):
    result = run_module("nanochat.dataset", "--source", "tinyworld", NANOCHAT_DTYPE="float17")
    assert result.returncode == 1 and "'float17'" in result.stderr and "bf16" in result.stderr
    assert not list(tmp_path.iterdir())


def test_a_base_dir_that_cannot_be_written(run_module, tmp_path):
    blocked = tmp_path / "file"
    blocked.write_text("not a folder")
    result = run_module("nanochat.dataset", "--source", "tinyworld", "--megabytes", "0.1", base=blocked / "base")
    assert result.returncode == 1 and "NANOCHAT_BASE_DIR" in result.stderr and "Traceback" not in result.stderr


# Those of karpathy/nanochat, which its users know by heart. None: as the model that is trained on.
DEFAULTS = {
    "chat_sft": {"run": "dummy", "model_tag": None, "model_step": None, "load_optimizer": 1, "num_iterations": -1, "max_seq_len": None,
                 "device_batch_size": None, "total_batch_size": None, "embedding_lr": None, "unembedding_lr": None, "matrix_lr": None,
                 "init_lr_frac": 0.8, "warmup_ratio": 0.0, "warmdown_ratio": 0.5, "final_lr_frac": 0.0, "eval_every": 200, "eval_tokens": 40 * 524288,
                 "chatcore_every": 200, "chatcore_max_cat": -1, "chatcore_max_sample": 24, "mmlu_epochs": 3, "gsm8k_epochs": 4},
    "chat_rl": {"run": "dummy", "num_epochs": 1, "device_batch_size": 8, "examples_per_step": 16, "num_samples": 16, "max_new_tokens": 256,
                "temperature": 1.0, "top_k": 50, "init_lr_frac": 0.05, "eval_every": 60, "eval_examples": 400, "save_every": 60},
    "chat_eval -i sft": {"source": "sft", "task_name": None, "temperature": 0.0, "max_new_tokens": 512, "num_samples": 1, "top_k": 50,
                         "batch_size": 8, "model_tag": None, "step": None, "max_problems": -1},
    "chat_cli": {"source": "sft", "model_tag": None, "step": None, "prompt": None, "temperature": 0.6, "top_k": 50, "device_type": "",
                 "top_p": 1.0, "max_tokens": 256},
    "chat_web": {"num_gpus": 1, "source": "sft", "temperature": 0.8, "top_k": 50, "max_tokens": 512, "model_tag": None, "step": None, "port": 8000,
                 "device_type": "", "host": "127.0.0.1", "top_p": 1.0, "max_messages": 500},
}  # fmt: skip


@pytest.mark.parametrize("command", DEFAULTS)
def test_flags_have_the_usual_defaults(command, monkeypatch):
    name, *flags = command.split()
    monkeypatch.setattr(sys, "argv", [name, *flags])
    args = vars(importlib.import_module(f"scripts.{name}").parse_args())
    assert {flag: args[flag] for flag in DEFAULTS[command]} == DEFAULTS[command]


# --- recipes ---------------------------------------------------------------------------------------------------------


def run_recipe(name: str, cwd: Path, **env: str) -> subprocess.CompletedProcess:
    path = f"{Path(sys.executable).parent}:{os.environ['PATH']}"
    return subprocess.run(["bash", f"runs/{name}"], cwd=cwd, env={**os.environ, "PATH": path, **env}, capture_output=True, text=True)


def linked_checkout(folder: Path) -> Path:
    """The checkout as a recipe sees it, with a place of its own for what a recipe leaves there."""
    folder.mkdir()
    for name in ("nanochat", "scripts", "tasks", "dev", "runs", "pyproject.toml"):
        (folder / name).symlink_to(ROOT / name)
    return folder


def test_recipe_for_laptops(tmp_path):
    """runs/runcpu.sh, small; and once more, when there is little left to do."""
    checkout, base = linked_checkout(tmp_path / "checkout"), tmp_path / "base"
    for _ in range(2):
        small = {"MEGABYTES": "0.5", "VOCAB_SIZE": "600", "STEPS": "2", "SFT_STEPS": "2", "RL_STEPS": "1", "EVAL_ITEMS": "2"}
        result = run_recipe("runcpu.sh", checkout, SKIP_SETUP="1", NANOCHAT_BASE_DIR=str(base), **small)
        assert result.returncode == 0, result.stderr
    assert "are in" in result.stdout  # the corpus was not made again
    assert "is finished: step 2 of 2" in result.stdout and "is finished: step 1 of 1" in result.stdout
    assert "ChatCORE" in result.stdout
    assert (base / "tokenizer_tinyworld" / "tokenizer.json").exists()

    report = (checkout / "report.md").read_text()
    assert report == (base / "report.md").read_text()
    core = json.loads((base / "base_eval" / "d6_000002.json").read_text())["core_metric"]
    chatcores = [json.loads((base / "chat_eval" / f"{name}.json").read_text())["chatcore"] for name in ("sft_d6_000002", "rl_d6_000001")]
    assert f"| CORE | {core:.4f} | – | – |" in report.replace("-0.0000", "0.0000")
    assert f"| ChatCORE | – | {chatcores[0]:.4f} | {chatcores[1]:.4f} |" in report
    pictures = set(re.findall(r"!\[.*?\]\((report_plots/\S+\.png)\)", report))
    assert len(pictures) > 15 and all((checkout / picture).read_bytes().startswith(b"\x89PNG") for picture in pictures)


def test_recipes_are_sound():
    for path in (ROOT / "runs").glob("*.sh"):
        subprocess.run(["bash", "-n", path], check=True)
        if path.name not in ("setup.sh", "stages.sh"):  # they are sourced
            assert "setup.sh" in path.read_text(), f"{path.name} must source setup.sh"


@pytest.fixture
def checkout(tmp_path) -> Path:
    """A copy of what set-up looks at, with stand-ins for the tools that install: they note how they were called."""
    root = tmp_path / "check out"  # a space, as people have them
    (root / "runs").mkdir(parents=True)
    shutil.copy(ROOT / "runs" / "setup.sh", root / "runs")
    shutil.copy(ROOT / "pyproject.toml", root)
    (root / "runs" / "go.sh").write_text('source "$(dirname "${BASH_SOURCE[0]}")/setup.sh"\necho "with $(command -v python)"\n')
    (root / "bin").mkdir()
    stand_in(root / "bin" / "python3", f"""
        case "$*" in *sys.executable*) echo "{root}/bin/python3"; exit ;; -c*) exec "{sys.executable}" "$@" ;; esac
        echo "python3 $*" >>"{root}/calls"
        mkdir -p .venv/bin && cp "{root}/bin/pip_python" .venv/bin/python""")  # fmt: skip
    stand_in(root / "bin" / "pip_python", f'echo "venv python $*" >>"{root}/calls"; [ ! -e "{root}/broken" ]')
    return root


def stand_in(path: Path, body: str) -> None:
    path.write_text(f"#!/usr/bin/env bash\n{body}\n")
    path.chmod(0o755)


def set_up(root: Path, **env: str) -> tuple[subprocess.CompletedProcess, list[str]]:
    (root / "calls").unlink(missing_ok=True)
    path = f"{root}/bin:/usr/bin:/bin"
    result = subprocess.run(["bash", "runs/go.sh"], cwd=root, env={"PATH": path, "HOME": str(root), **env}, capture_output=True, text=True)
    return result, (root / "calls").read_text().splitlines() if (root / "calls").exists() else []


def test_setup_with_pip_happens_once(checkout):
    first, calls = set_up(checkout)
    assert first.returncode == 0, first.stderr
    assert calls == ["python3 -m venv --clear .venv", "venv python -m pip install --quiet --disable-pip-version-check --no-compile -e ."]
    assert f"with {checkout}/.venv/bin/python" in first.stdout
    second, calls = set_up(checkout)
    assert second.returncode == 0 and calls == []
    assert f"with {checkout}/.venv/bin/python" in second.stdout


def test_setup_again_when_something_changes(checkout):
    set_up(checkout)
    _, calls = set_up(checkout, EXTRAS="dev")
    assert calls[-1].endswith("-e .[dev]")
    _, calls = set_up(checkout)
    assert calls == []  # more than was asked for is there
    with open(checkout / "pyproject.toml", "a") as file:
        file.write("\n# changed\n")
    _, calls = set_up(checkout)
    assert calls[-1].endswith("-e .[dev]")


def test_setup_that_broke_is_done_again(checkout):
    (checkout / "broken").touch()
    result, _ = set_up(checkout)
    assert result.returncode != 0 and "with" not in result.stdout
    (checkout / "broken").unlink()
    result, calls = set_up(checkout)
    assert result.returncode == 0 and len(calls) == 2


def test_setup_with_uv(checkout):
    stand_in(checkout / "bin" / "uv", f"""
        echo "uv $* links=$UV_FIND_LINKS" >>"{checkout}/calls"
        mkdir -p .venv/bin && cp "{checkout}/bin/pip_python" .venv/bin/python""")  # fmt: skip
    result, calls = set_up(checkout, PIP_FIND_LINKS="/some/wheels", EXTRAS="dev")
    assert result.returncode == 0, result.stderr
    assert calls == [f"uv venv --quiet --clear --python {checkout}/bin/python3 .venv links=/some/wheels",
                     "uv pip install --quiet --python .venv/bin/python -e .[dev] links=/some/wheels"]  # fmt: skip


def test_setup_can_be_skipped(checkout):
    result, calls = set_up(checkout, SKIP_SETUP="1")
    assert result.returncode == 0 and calls == [] and not (checkout / ".venv").exists()


def test_setup_takes_the_python_it_is_told(checkout):
    (checkout / "my tools").mkdir()
    shutil.copy(checkout / "bin" / "python3", checkout / "my tools" / "python3")
    result, calls = set_up(checkout, PYTHON=str(checkout / "my tools" / "python3"))
    assert result.returncode == 0 and len(calls) == 2, result.stderr
    shutil.rmtree(checkout / ".venv")
    result, calls = set_up(checkout, PYTHON="/no/such/python")
    assert result.returncode != 0 and "/no/such/python" in result.stderr and calls == []


def test_setup_without_any_python(checkout):
    for name in ("python3", "python", "python3.10", "python3.11", "python3.12", "python3.13"):
        stand_in(checkout / "bin" / name, "exit 1")  # as an old Python answers
    result, _ = set_up(checkout)
    assert result.returncode != 0 and "PYTHON=" in result.stderr


def test_speed_of_inference(run_module, in_small_world, tokenizer, tmp_path):
    small = ("--batch-sizes", "1,3", "--prompt-tokens", "9", "--new-tokens", "5", "--device-type", "cpu")
    made_up = run_module("scripts.infer_bench", "--depth", "1", "--vocab-size", "300", "-t", "0", *small)
    assert made_up.returncode == 0, made_up.stderr
    report = json.loads(made_up.stdout.splitlines()[-1])
    assert [result["rows"] for result in report["results"]] == [1, 3] and report["depth"] == 1 and report["vocab_size"] == 300
    for result in report["results"]:
        assert 0 < result["first_token_seconds"] <= result["last_first_token_seconds"] and result["step_seconds"] > 0
        assert result["tokens_per_second"] == pytest.approx(result["rows"] / result["step_seconds"]) and 0 < result["share_of_flops"] < 1.5

    from nanochat.checkpoint_manager import CheckpointManager
    from nanochat.gpt import GPTConfig, new_model

    CheckpointManager(tmp_path / "base_checkpoints" / "d1").save(3, new_model(GPTConfig(32, 1024, 1, 2, 1, 32, "L"), "cpu"), tokenizer=tokenizer)
    saved = run_module("scripts.infer_bench", "-g", "d1", *small)
    assert saved.returncode == 0 and json.loads(saved.stdout.splitlines()[-1])["n_embd"] == 32, saved.stderr


@pytest.mark.parametrize(("flags", "status", "says"), [
    (("--batch-sizes", "1,x"), 2, "--batch-sizes 1,x"), (("--batch-sizes", "0"), 2, "at least 1"), (("--depth", "0"), 2, "--depth 0"),
    (("--depth", "1", "--vocab-size", "100"), 1, "--vocab-size 100"), ((), 1, "base_train"),
    (("--depth", "1", "--vocab-size", "300", "--new-tokens", "1", "--batch-sizes", "2"), 1, "too few"),
])  # fmt: skip
def test_wrong_requests_to_measure_inference(flags, status, says, run_module):
    result = run_module("scripts.infer_bench", "--device-type", "cpu", *flags)
    assert result.returncode == status and says in result.stderr and "Traceback" not in result.stderr
