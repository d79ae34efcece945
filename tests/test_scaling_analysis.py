"""Scaling laws: exponents that were planted are found again, the words for too few data, and the two recipes as a user starts them."""

import csv
import json
import math
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest

from dev import scaling_analysis as scaling
from dev.scaling_analysis import Run
from nanochat.common import UserError
from nanochat.scaling import make_plan

ROOT = Path(__file__).parent.parent
BUDGETS = (5e17, 1e18, 2e18, 4e18)


# --- planted laws ----------------------------------------------------------------------------------------------------


def planted(alpha: float, beta: float, noise: float = 0.0, six_per_token: bool = False, budgets=BUDGETS, depths=range(8, 22, 2)) -> list[Run]:
    """Runs with the sizes and FLOPs of the recipe, and the loss E + A/N^alpha + B/D^beta, which is lowest at N ∝ C^(beta / (alpha + beta)).
    A and B are such that 1e18 FLOPs want 100M parameters."""
    size, data = 1e8, 1e18 / 6e8
    a = 0.5 * size**alpha
    b = a * alpha * size**-alpha / (beta * data**-beta)
    dice, runs = np.random.default_rng(1), []
    for budget in budgets:
        for depth in depths:
            plan = make_plan(depth=depth, vocab_size=32768)
            n = plan.num_scaling_params
            tokens = round(budget / (6 * n if six_per_token else plan.flops_per_token))
            bpb = 0.6 + a * n**-alpha + b * tokens**-beta + noise * dice.standard_normal()
            runs.append(Run(f"s_c{budget:g}_d{depth}", depth, budget, n, 2 * n, tokens, budget, 100, bpb, None, 60.0))
    return runs


def fitted(runs: list[Run]) -> tuple[dict[float, list[Run]], list[scaling.Optimum]]:
    groups = scaling.by_budget(runs)
    return groups, [scaling.find_optimum(budget, group) for budget, group in groups.items()]


def laws_of(runs: list[Run]) -> scaling.Laws:
    return scaling.fit_laws(fitted(runs)[1])


@pytest.mark.parametrize("noise", [0.0, 0.0005])
@pytest.mark.parametrize(("alpha", "beta"), [(0.34, 0.28), (0.3, 0.3), (0.28, 0.36)])
@pytest.mark.parametrize("six_per_token", [True, False])
def test_planted_exponents(alpha, beta, noise, six_per_token):
    runs = planted(alpha, beta, noise, six_per_token)
    laws, spread = laws_of(runs), scaling.bootstrap(*fitted(runs))
    assert laws.parameters.exponent == pytest.approx(beta / (alpha + beta), abs=0.02)
    assert laws.tokens.exponent == pytest.approx(alpha / (alpha + beta), abs=0.02)
    assert laws.drift == pytest.approx(laws.tokens.exponent - laws.parameters.exponent)
    assert 0 < spread.parameters < 0.02 and 0 < spread.tokens < 0.02


@pytest.mark.parametrize(("alpha", "beta"), [(0.34, 0.28), (0.3, 0.3), (0.45, 0.3), (0.25, 0.4)])
def test_a_law_of_another_form(alpha, beta):
    """Kaplan's (arXiv 2001.08361, equation 1.5), ((N_c/N)^(alpha/beta) + D_c/D)^beta, whose curves are more lopsided. If all runs counted the same,
    two of these would be off by 0.016 and 0.019."""
    runs, power = [], alpha / beta
    data_term = power / (1 + power) * 0.35 ** (1 / beta)  # at 1e18 FLOPs and the best size, 1e8
    for run in planted(alpha, beta, six_per_token=True):
        terms = data_term / power * (1e8 / run.scaling_parameters) ** power + data_term * (1e18 / 6e8) / run.tokens
        runs.append(run._replace(val_bpb=0.5 + terms**beta))
    laws = laws_of(runs)
    assert laws.parameters.exponent == pytest.approx(beta / (alpha + beta), abs=0.01)
    assert laws.tokens.exponent == pytest.approx(alpha / (alpha + beta), abs=0.01)


def test_parabolas_are_found_exactly():
    """Where the curve is a parabola there is no bias: minimum, exponents and ratio come back to many digits, and nothing is uncertain."""
    runs = []
    for run in planted(0.3, 0.3, six_per_token=True):
        best = 1e8 * (run.flops_budget / 1e18) ** 0.44
        runs.append(run._replace(tokens=run.flops_budget / (6 * run.scaling_parameters), val_bpb=0.8 + math.log(run.scaling_parameters / best) ** 2))
    laws, spread = laws_of(runs), scaling.bootstrap(*fitted(runs))
    assert laws.parameters.exponent == pytest.approx(0.44, abs=1e-6) and laws.tokens.exponent == pytest.approx(0.56, abs=1e-6)
    assert math.exp(laws.parameters.offset + laws.parameters.exponent * math.log(1e18)) == pytest.approx(1e8, rel=1e-5)
    assert laws.ratio == pytest.approx(math.prod(c / 6 / (1e8 * (c / 1e18) ** 0.44) ** 2 for c in BUDGETS) ** (1 / len(BUDGETS)), rel=1e-5)
    assert spread.parameters < 1e-6 and spread.scatter < 1e-9


def test_uncertainty_is_what_repetition_shows():
    """What the bootstrap says of single noisy series, beside how much many noisy series differ."""
    clean, dice = planted(0.3, 0.3, six_per_token=True), np.random.default_rng(5)
    noisy = [[run._replace(val_bpb=run.val_bpb + 0.001 * dice.standard_normal()) for run in clean] for _ in range(60)]
    exponents = [laws_of(runs).parameters.exponent for runs in noisy]
    said = [scaling.bootstrap(*fitted(runs)).parameters for runs in noisy[:5]]
    assert np.mean(said) == pytest.approx(np.std(exponents), rel=0.5)


# --- words -----------------------------------------------------------------------------------------------------------


def said_about(runs: list[Run]) -> str:
    return scaling.analyse(runs, "s")[0]


def test_the_table_of_a_good_series():
    text = said_about(planted(0.34, 0.28, 0.0005))
    assert "a = 0.4" in text and "b = 0.5" in text and "±" in text
    assert "--target-param-data-ratio" in text and "over 4 budgets" in text and "parametric bootstrap" in text
    assert "The ratio grows with the budget" in text  # a < b
    assert "Add" not in text and "outside" not in text and "Left out" not in text
    rows = [line for line in text.splitlines() if line.startswith("| ")]
    assert len({len(line) for line in rows[:5]}) == 1  # the columns stand below each other
    assert sum(line.startswith("| s_c") for line in rows) == 28


@pytest.mark.parametrize(("runs", "says"), [
    (planted(0.3, 0.3, depths=(10, 12)), "2 sizes: a parabola needs 3"),
    (planted(0.3, 0.3, depths=(10,)), "1 size: a parabola needs 3"),
    (planted(0.3, 0.3, depths=(16, 18, 20), budgets=(1e17, 2e17)), "the smallest model is the best, and what lies beyond is not known"),
    (planted(0.3, 0.3, depths=(6, 7, 8), budgets=(1e19, 2e19)), "not known: add larger models"),
    ([run._replace(val_bpb={8: 0.2, 14: 0.1, 20: 0.2}.get(run.depth, 1)) for run in planted(0.3, 0.3)], "add models on both sides"),
])  # fmt: skip
def test_budgets_without_a_lowest_point(runs, says):
    text = said_about(runs)
    assert says in text and "neither a law nor a ratio" in text and "∝" not in text


def test_few_budgets():
    one, two = (said_about(planted(0.3, 0.3, 0.0005, budgets=BUDGETS[:count])) for count in (1, 2))
    assert "One budget alone" in one and "∝" not in one and "Recommended" in one and "over 1 budget." in one
    assert "Two budgets" in two and "a = " in two and "±" in two
    mixed = said_about(planted(0.3, 0.3, budgets=(1e18, 2e18)) + planted(0.3, 0.3, budgets=(1e15,)))
    assert "add smaller models" in mixed and "Two budgets" in mixed  # what lies outside does not enter


def test_three_runs_leave_no_uncertainty():
    text = said_about(planted(0.3, 0.3, depths=(10, 12, 16)))
    assert "No uncertainty is known" in text and "±" not in text and "a = " in text


def test_scatter_that_drowns_the_curves():
    """Lowest points that happen to lie inside, of runs that differ by chance alone."""
    clean = planted(0.3, 0.3)
    dice = np.random.default_rng(0)
    for _ in range(50):
        text = said_about([run._replace(val_bpb=0.8 + 0.1 * dice.standard_normal()) for run in clean[:14]])
        assert "nan" not in text and "Traceback" not in text
    assert "came to lie outside" in zigzag(planted(0.3, 0.3, depths=(8, 12, 16, 20)), 0.003)


def zigzag(runs: list[Run], height: float) -> str:
    return said_about([run._replace(val_bpb=run.val_bpb + height * (-1) ** i) for i, run in enumerate(runs)])


def test_lowest_points_not_to_be_relied_on():
    """Parabolas that fit badly, and lowest points nearer to the outermost size than to the next: such budgets do not enter the law."""
    assert "∝" in zigzag(planted(0.3, 0.3), 0.003)
    text = zigzag(planted(0.3, 0.3), 0.02)
    assert "the parabola fits badly: it rises by 0.0" in text and "train again what is off" in text and "∝" not in text
    sizes = np.log([run.scaling_parameters for run in planted(0.3, 0.3, budgets=(1e18,))])
    for best, fine in ((sizes[0] + 0.1, False), (sizes[1] - 0.1, True), (sizes[-2] + 0.1, True), (sizes[-1] - 0.1, False)):
        bpb = (sizes - best) ** 2
        assert bool(scaling.trouble_of(scaling.fit_parabola(sizes, bpb), sizes, bpb)) != fine
    bpb = (sizes - sizes[0] - 0.2) ** 2 + np.array([0.1, 0, 0, 0, 0, 0, 0])  # the second run is the best, and still
    assert "at the edge" in scaling.trouble_of(np.polyfit(sizes, (sizes - sizes[0] - 0.2) ** 2, 2), sizes, bpb)


def test_rows_that_cannot_be_used_are_named():
    runs = planted(0.3, 0.3)
    runs[3], runs[9] = runs[3]._replace(val_bpb=None), runs[9]._replace(flops=1.3 * runs[9].flops)
    text = said_about(runs)
    assert f"Left out, since parameters, tokens, FLOPs or bits per byte are missing: {runs[3].tag}." in text
    assert f"(use smaller batches): {runs[9].tag}." in text


def test_runs_without_budgets():
    runs = [Run("m_r8_d4", depth=4, flops=1e12, val_bpb=1.5), Run("m_r8_d6", depth=6, core_metric=-0.01)]
    text = said_about(runs)
    assert "no parabolas" in text and "| m_r8_d4" in text and "-0.0100" in text and "–" in text


@pytest.mark.parametrize(("value", "text"), [(110100912, "110M"), (999600, "1M"), (8.345, "8.35"), (12, "12"), (123.4, "123"), (1.5e9, "1.5B"),
                                             (None, "–"), (math.nan, "–"), (0.5, "0.5"), (999.96, "1k")])  # fmt: skip
def test_numbers_for_people(value, text):
    assert scaling.human(value) == text


def test_flops_as_people_write_them():
    assert [scaling.power(value) for value in (1e18, 2.17e8, 2.5e12, 100, None)] == ["1e18", "2.17e8", "2.5e12", "100", "–"]


# --- files -----------------------------------------------------------------------------------------------------------


SUMMARY = {"stage": "base", "finished": True, "depth": 2, "parameters": 5000, "scaling_parameters": 3000, "tokens": 40_000, "flops": 8.1e8,
           "steps": 10, "val_bpb": 1.25, "core_metric": None, "seconds": 3.5, "samples": {"a": "b"}}  # fmt: skip


@pytest.fixture
def base(tmp_path, monkeypatch) -> Path:
    monkeypatch.setenv("NANOCHAT_BASE_DIR", str(tmp_path))
    return tmp_path


def write_run(base: Path, tag: str, vocab_size: int | None = None, **changes) -> Path:
    folder = base / "base_checkpoints" / tag
    folder.mkdir(parents=True)
    if vocab_size:
        (folder / "config.json").write_text(json.dumps({"plan": {"vocab_size": vocab_size}}))
    (folder / "summary.json").write_text(json.dumps({**SUMMARY, "model_tag": tag, **changes}))
    return folder


def test_collect_reads_summaries(base, capsys):
    for tag in ("s_c1e+18_d2", "s_c2e9_d10", "s_c2e9_d8", "s_c1e9_d2", "s_more_c1e9_d2", "d2", "s_r8_d3", "s_c1e9_dx"):
        folder = write_run(base, tag, vocab_size=1024 if tag == "s_c1e9_d2" else None)
        (folder / "metrics.jsonl").write_text("not JSON")  # nobody looks at these
        (folder / "train.jsonl").mkdir()
    write_run(base, "s_c2e9_d4", finished=False)
    (base / "base_checkpoints" / "s_c2e9_d6").mkdir()
    broken = write_run(base, "s_c2e9_d5") / "summary.json"
    broken.write_text("{")
    scaling.collect_runs(base / "s", [])
    with open(base / "s" / "results.csv", newline="") as file:
        rows = list(csv.DictReader(file))
    assert [row["tag"] for row in rows] == ["s_c1e9_d2", "s_c2e9_d8", "s_c2e9_d10", "s_r8_d3"]
    assert rows[0] == {"tag": "s_c1e9_d2", "depth": "2", "flops_budget": "1000000000.0", "scaling_parameters": "3000", "parameters": "5000",
                       "tokens": "40000", "flops": "810000000.0", "steps": "10", "val_bpb": "1.25", "core_metric": "", "seconds": "3.5",
                       "vocab_size": "1024"}  # fmt: skip
    assert rows[-1]["flops_budget"] == ""
    said = capsys.readouterr()
    assert "4 finished runs" in said.out and "not finished: s_c2e9_d4, s_c2e9_d5, s_c2e9_d6" in said.out and str(broken) in said.err
    runs = scaling.read_csv(base / "s" / "results.csv")
    assert runs[0] == Run("s_c1e9_d2", 2, 1e9, 3000, 5000, 40_000, 810_000_000, 10, 1.25, None, 3.5, 1024) and runs[1].vocab_size is None
    scaling.collect_runs(base / "s", ["d2"])  # runs of any name
    assert [run.tag for run in scaling.read_csv(base / "s" / "results.csv")] == ["d2"]


def test_summaries_of_older_runs(base):
    """Without scaling parameters they are counted, and whatever else is missing stays empty."""
    old = {key: value for key, value in SUMMARY.items() if key not in ("scaling_parameters", "seconds")}
    for tag in ("s_c1e9_d2", "s_c1e9_d3"):
        (write_run(base, tag) / "summary.json").write_text(json.dumps(old))
    plan = make_plan(depth=2, vocab_size=600)
    config = {"n_layer": 2, "n_embd": plan.n_embd, "n_head": plan.n_head, "n_kv_head": plan.n_kv_head, "vocab_size": 600}
    (base / "base_checkpoints" / "s_c1e9_d2" / "meta_000010.json").write_text(json.dumps({"model_config": config}))
    scaling.collect_runs(base / "s", [])
    first, second = scaling.read_csv(base / "s" / "results.csv")
    assert first.scaling_parameters == plan.num_scaling_params and first.seconds is None and second.scaling_parameters is None
    assert "Left out" in said_about([first, second])


@pytest.mark.parametrize(("tags", "says"), [([], "runs/scaling_laws.sh"), (["d4"], "none of d4 is finished"), (["../d4"], "not usable")])
def test_nothing_to_collect(base, tags, says):
    with pytest.raises(UserError, match=says):
        scaling.collect_runs(base / "s", tags)
    assert not (base / "s").exists()


def test_one_vocabulary_in_a_series(base, small_world, run_module):
    """Others are refused before anything is trained, and when results are collected all the same."""
    for tag, size in (("s_c1e9_d2", 1024), ("s_c1e9_d3", 1024), ("s_c1e9_d4", None)):
        write_run(base, tag, vocab_size=size)
    scaling.check_series("s", "tinyworld", 1024)  # there is no tokenizer yet
    (base / "tokenizer_tinyworld").symlink_to(small_world / "tokenizer_tinyworld")
    scaling.check_series("s", "tinyworld", 1024)
    scaling.collect_runs(base / "s", [])
    assert "Vocabulary: 1,024 tokens." in said_about(scaling.read_csv(base / "s" / "results.csv"))
    with pytest.raises(UserError, match="has 1,024 tokens, and this series is to have 4,096: set VOCAB_SIZE=1024 to take it"):
        scaling.check_series("s", "tinyworld", 4096)
    write_run(base, "s_c1e9_d5", vocab_size=4096, finished=False)
    result = run_module("dev.scaling_analysis", "check", "s", "--dataset", "tinyworld", "--vocab-size", "1024")
    assert result.returncode == 1 and "s_c1e9_d5 has a vocabulary of 4,096 tokens" in result.stderr and len(result.stderr.splitlines()) == 1
    scaling.collect_runs(base / "s", [])  # that one has not finished
    write_run(base, "s_c1e9_d6", vocab_size=4096)
    with pytest.raises(UserError, match=r"do not compare \(s_c1e9_d2 has 1,024 tokens, s_c1e9_d6 has 4,096 tokens\)"):
        scaling.collect_runs(base / "s", [])


HEAD = ",".join(Run._fields)


@pytest.mark.parametrize(("content", "says"), [
    (None, "there is no such file"), (b"", "has no column tag, depth"), (b"tag,depth\nd4,4\n", "has no column flops_budget"),
    (f"{HEAD}\n".encode(), "has no rows"), (f"{HEAD}\na,4,1e9\n".encode(), "line 2: it has fewer cells"),
    (f"{HEAD}\na,4,1e9,1,1,1,1,1,1,1,1,1,1\n".encode(), "more cells"), (f"{HEAD}\na,4,1e9,1,1,1,1,1,high,1,1,1\n".encode(), "val_bpb is 'high'"),
    (f"{HEAD}\na,4,1e9,1,1,1,1,1,nan,1,1,1\n".encode(), "val_bpb is 'nan'"), (f"{HEAD}\na,4,1e9,-5,1,1,1,1,1,1,1,1\n".encode(), "'-5'"),
    (b"\xff\xfe\x00", "utf-8"), (b'tag,"\x00', "no column"),
    (f"{HEAD}\na,4,1e9,1,1,1,1,1,1,1,1,9\nb,4,1e9,1,1,1,1,1,1,1,1,8\n".encode(), "b has 8 tokens, a has 9 tokens"),
])  # fmt: skip
def test_bad_csvs_give_one_clear_line(content, says, run_module, tmp_path):
    path = tmp_path / "some.csv"
    if content is not None:
        path.write_bytes(content)
    result = run_module("dev.scaling_analysis", "fit", str(path))
    assert result.returncode == 1 and says in result.stderr and len(result.stderr.splitlines()) == 1
    assert {file.name for file in tmp_path.iterdir()} <= {"some.csv"}


def test_fit_writes_table_and_plots(run_module, tmp_path):
    """From the CSV alone; the same CSV gives the same text."""
    lines = [HEAD, *(",".join("" if value is None else str(value) for value in run) for run in planted(0.3, 0.3, 0.0005))]
    (tmp_path / "laws").mkdir()
    (tmp_path / "laws" / "results.csv").write_text("\n".join(lines) + "\n")
    texts = []
    for series in ("laws", str(tmp_path / "laws"), str(tmp_path / "laws" / "results.csv")):
        result = run_module("dev.scaling_analysis", "fit", series)
        assert result.returncode == 0, result.stderr
        texts.append((tmp_path / "laws" / "scaling.md").read_text())
        assert texts[-1] in result.stdout
    assert texts[0].startswith("# Scaling: laws") and len(set(texts)) == 1
    for name in ("isoflop.png", "optimum.png", "bpb_flops.png"):
        assert (tmp_path / "laws" / name).read_bytes().startswith(b"\x89PNG")


def test_is_it_finished(run_module, base):
    write_run(base, "yes")
    write_run(base, "no", finished=False)
    for tags, status in ((["yes"], 0), (["no"], 1), (["yes", "no"], 1), (["neither"], 1)):
        result = run_module("dev.scaling_analysis", "finished", *tags)
        assert (result.returncode, result.stdout + result.stderr) == (status, "")


# --- recipes, with a stand-in for training ---------------------------------------------------------------------------


@pytest.fixture
def sweep(tmp_path):
    """Start a recipe with a python and a torchrun on the PATH that note how they are called, and write a summary where they should train. A tag
    that contains $FAILS fails, one that contains $HANGS waits until it is told to stop."""
    tools, calls = tmp_path / "tools", tmp_path / "calls"
    tools.mkdir()
    body = f"""#!/usr/bin/env bash
    case "$*" in
        *"-m dev."*) exec "{sys.executable}" "$@" ;;
        *"-m scripts.base_train"*) ;;
        *) echo "$(basename "$0") $*" >>"{calls}"; exit ;;
    esac
    echo "$(basename "$0") $*" >>"{calls}"
    for flag in "$@"; do case "$flag" in --model-tag=*) tag="${{flag#*=}}" ;; --depth=*) depth="${{flag#*=}}" ;; esac; done
    if [[ -n "$FAILS" && "$tag" == *"$FAILS"* ]]; then exit 3; fi
    if [[ -n "$HANGS" && "$tag" == *"$HANGS"* ]]; then
        trap 'echo saved >>"{calls}"; exit 130' INT
        touch "{tmp_path}/hangs"
        while true; do sleep 0.05; done
    fi
    mkdir -p "$NANOCHAT_BASE_DIR/base_checkpoints/$tag" && cd "$NANOCHAT_BASE_DIR"
    printf '{{"finished": true, "depth": %s, "scaling_parameters": %s000, "tokens": 100, "flops": 1e9, "val_bpb": 1.5}}' "$depth" "$depth" \\
        >"base_checkpoints/$tag/summary.json"
    """
    for name in ("python", "torchrun"):
        (tools / name).write_text(body)
        (tools / name).chmod(0o755)
    environment = {key: value for key, value in os.environ.items() if key not in ("NNODES", "NODE_RANK", "MASTER_ADDR", "SCALE", "WANDB_RUN")}
    environment |= {"PATH": f"{tools}:{os.environ['PATH']}", "SKIP_SETUP": "1", "NANOCHAT_BASE_DIR": str(tmp_path / "base"), "FAILS": "", "HANGS": ""}

    def start(recipe: str, while_it_hangs=None, **env: str) -> tuple[subprocess.CompletedProcess, list[str]]:
        calls.unlink(missing_ok=True)
        process = subprocess.Popen(["bash", f"runs/{recipe}"], cwd=ROOT, env={**environment, **env}, text=True, start_new_session=True,
                                   stdout=subprocess.PIPE, stderr=subprocess.PIPE)  # fmt: skip
        if while_it_hangs:
            wait_for((tmp_path / "hangs").exists)
            (tmp_path / "hangs").unlink()
            while_it_hangs(process)
        out, err = process.communicate(timeout=60)
        lines = calls.read_text().splitlines() if calls.exists() else []
        return subprocess.CompletedProcess([], process.returncode, out, err), lines

    return start


def wait_for(condition, seconds: float = 60) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.02)


def trained(calls: list[str]) -> list[str]:
    return [call.split("--model-tag=")[1].split()[0] for call in calls if "scripts.base_train" in call]


SMALL = {"SCALE": "cpu", "BUDGETS": "1e9 2e9", "DEPTHS": "1 2", "ASPECTS": ""}
ALL = [f"scaling_laws_cpu_c{budget}_d{depth}" for budget in ("1e9", "2e9") for depth in (1, 2)]


def test_a_sweep_and_one_more(sweep, tmp_path):
    done, calls = sweep("scaling_laws.sh", **SMALL)
    assert done.returncode == 0, done.stderr
    assert trained(calls) == ALL and all("--target-flops=" in call and call.startswith("python ") for call in calls if "base_train" in call)
    assert [run.tag for run in scaling.read_csv(tmp_path / "base" / "series_cpu" / "scaling_laws_cpu" / "results.csv")] == ALL
    again, calls = sweep("scaling_laws.sh", **{**SMALL, "BUDGETS": "1e9 2e9 4e9"})  # another budget: only that is done
    assert again.returncode == 0 and len(trained(calls)) == 2 and all("_c4e9_" in tag for tag in trained(calls))
    assert f"{ALL[0]} is finished" in again.stdout and "6 finished runs" in again.stdout
    assert (tmp_path / "base" / "series_cpu" / "scaling_laws_cpu" / "scaling.md").read_text() in again.stdout


def test_sizes_by_width(sweep, tmp_path):
    """Several widths for a depth, as at SCALE=cpu; each width counts as a size of its own, in the order of widths."""
    done, calls = sweep("scaling_laws.sh", SCALE="cpu", BUDGETS="1e9", ASPECTS="12 100 48")
    tags = [f"scaling_laws_cpu_c1e9_d2a{aspect}" for aspect in (12, 100, 48)]
    assert done.returncode == 0 and trained(calls) == tags, done.stderr
    assert all(f"--depth=2 --aspect-ratio={tag.rsplit('a', 1)[1]} " in call for tag, call in zip(tags, calls[-3:], strict=True))
    rows = scaling.read_csv(tmp_path / "base" / "series_cpu" / "scaling_laws_cpu" / "results.csv")
    assert [run.tag for run in rows] == [tags[0], tags[2], tags[1]] and all(run.flops_budget == 1e9 for run in rows)
    wrong, calls = sweep("scaling_laws.sh", SCALE="cpu", ASPECTS="12,16")
    assert wrong.returncode == 2 and "ASPECTS has 12,16" in wrong.stderr and calls == []


def test_another_vocabulary_is_refused(sweep, small_world, tmp_path):
    """Before anything is trained, and with the remedy."""
    base = tmp_path / "base" / "series_cpu"
    base.mkdir(parents=True)
    (base / "tokenizer_tinyworld").symlink_to(small_world / "tokenizer_tinyworld")
    refused, calls = sweep("scaling_laws.sh", **SMALL, VOCAB_SIZE="4096")
    assert refused.returncode == 1 and "VOCAB_SIZE=1024" in refused.stderr and trained(calls) == []
    taken, calls = sweep("scaling_laws.sh", **SMALL)
    assert taken.returncode == 0 and trained(calls) == ALL


def test_what_fails_is_reported_and_tried_again(sweep):
    failed, calls = sweep("scaling_laws.sh", FAILS="_d2", **SMALL)
    assert failed.returncode == 1 and trained(calls) == ALL
    assert f"{ALL[1]} ended with status 3" in failed.stderr and f"2 failed: {ALL[1]} {ALL[3]}" in failed.stderr
    assert "2 finished runs" in failed.stdout
    again, calls = sweep("scaling_laws.sh", **SMALL)
    assert again.returncode == 0 and trained(calls) == [ALL[1], ALL[3]]
    nothing, _ = sweep("miniseries.sh", FAILS="mini", SCALE="cpu")
    assert nothing.returncode == 1 and "none of" not in nothing.stdout and "nothing to collect" in nothing.stderr and "failed" in nothing.stderr


@pytest.mark.parametrize("to_all", [True, False])
@pytest.mark.parametrize(("number", "status"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_a_sweep_that_is_stopped_stops(number, status, to_all, sweep):
    """As a terminal or a batch system does it, to all processes, and as `kill` does it, to the script alone: the run hears of it and saves."""
    if number == signal.SIGINT and not to_all:
        return  # nobody sends that
    kill = (lambda process: os.killpg(process.pid, number)) if to_all else (lambda process: process.send_signal(number))
    stopped, calls = sweep("scaling_laws.sh", while_it_hangs=kill, HANGS="c1e9_d2", **SMALL)
    assert stopped.returncode == status and trained(calls) == ALL[:2], stopped.stderr
    assert f"stopped in {ALL[1]}" in stopped.stderr and "finished runs" not in stopped.stdout
    if number == signal.SIGINT or not to_all:
        assert calls[-1] == "saved"
    again, calls = sweep("scaling_laws.sh", **SMALL)
    assert again.returncode == 0 and trained(calls) == ALL[1:]


def test_a_miniseries(sweep, tmp_path):
    done, calls = sweep("miniseries.sh", SCALE="cpu", SERIES="mine", DEPTHS="2 4", RATIO="7.5", WANDB_RUN="w", TRAIN_FLAGS="--weight-decay 0.2")
    assert done.returncode == 0, done.stderr
    assert trained(calls) == ["mine_r7.5_d2", "mine_r7.5_d4"] and "no parabolas" in done.stdout
    last = calls[-1].split()
    assert {"--target-param-data-ratio=7.5", "--run=w-mine_r7.5_d4", "--resume=auto"} <= set(last) and last[-2:] == ["--weight-decay", "0.2"]
    assert "--run=dummy" not in calls[-1] and (tmp_path / "base" / "series_cpu" / "mine" / "results.csv").exists()


def test_several_processes_and_nodes(sweep, tmp_path):
    """On a GPU node torchrun starts them; with more nodes they meet under the tag of the run, and only the first writes results."""
    one, calls = sweep("miniseries.sh", DEPTHS="8")
    assert one.returncode == 0, one.stderr
    assert calls[-1].startswith("torchrun --standalone --nproc_per_node=8 -m scripts.base_train -- --model-tag=miniseries_r12_d8 --run=dummy")
    assert "--dataset=climbmix" in calls[-1] and any(call.startswith("python -m nanochat.dataset -n 300") for call in calls)
    nodes = {"DEPTHS": "8", "BUDGETS": "1e18", "NNODES": "2", "MASTER_ADDR": "10.0.0.1", "MASTER_PORT": "1234", "NPROC_PER_NODE": "4"}
    (tmp_path / "base" / "scaling_laws").mkdir()
    (tmp_path / "base" / "scaling_laws" / ".prepared").write_text("climbmix, 300 shards, 32768 tokens\n")
    second, calls = sweep("scaling_laws.sh", NODE_RANK="1", **nodes)
    meet = "--rdzv_backend=c10d --rdzv_id=scaling_laws_c1e18_d8 --rdzv_endpoint=10.0.0.1:1234"
    assert second.returncode == 0 and len(calls) == 1 and calls[0].startswith(f"torchrun --nnodes=2 --nproc_per_node=4 {meet} -m"), second.stderr
    assert not (tmp_path / "base" / "scaling_laws" / "results.csv").exists()
    first, calls = sweep("scaling_laws.sh", NODE_RANK="0", **nodes)
    assert first.returncode == 0 and trained(calls) == [] and (tmp_path / "base" / "scaling_laws" / "results.csv").exists(), first.stderr


@pytest.mark.parametrize("recipe", ["scaling_laws.sh", "miniseries.sh"])
@pytest.mark.parametrize("scale", ["gpu", "cpu"])
def test_flags_of_the_recipes_exist(recipe, scale, sweep, monkeypatch):
    from scripts import base_train

    done, calls = sweep(recipe, SCALE=scale, DEPTHS="2", BUDGETS="1e9")
    assert done.returncode == 0, done.stderr
    monkeypatch.setattr(sys, "argv", ["base_train", *calls[-1].split("scripts.base_train ")[1].split()])
    args = base_train.parse_args()
    assert args.depth == 2 and args.resume == "auto" and args.keep_last == 1 and args.dataset == {"gpu": "climbmix", "cpu": "tinyworld"}[scale]


@pytest.mark.parametrize(("recipe", "env", "says"), [
    ("scaling_laws.sh", {"BUDGETS": "1e18,2e18"}, "BUDGETS has 1e18,2e18"), ("scaling_laws.sh", {"BUDGETS": " "}, "BUDGETS is empty"),
    ("scaling_laws.sh", {"DEPTHS": "8 x"}, "DEPTHS has x"), ("miniseries.sh", {"DEPTHS": "0"}, "DEPTHS has 0"),
    ("miniseries.sh", {"RATIO": "a"}, "RATIO has a"),
    ("miniseries.sh", {"SCALE": "laptop"}, "it is gpu or cpu"), ("miniseries.sh", {"SERIES": "../x"}, "SERIES=../x"),
    ("miniseries.sh", {"NNODES": "2"}, "MASTER_ADDR"), ("miniseries.sh", {"NNODES": "2", "NODE_RANK": "2"}, "NODE_RANK=2"),
    ("miniseries.sh", {"NPROC_PER_NODE": "0"}, "NPROC_PER_NODE=0"),
])  # fmt: skip
def test_wrong_variables(recipe, env, says, sweep, tmp_path):
    result, calls = sweep(recipe, **env)
    assert result.returncode == 2 and says in result.stderr and calls == [] and len(result.stderr.splitlines()) == 1
    assert not (tmp_path / "base").exists()


# --- recipes as they are ---------------------------------------------------------------------------------------------

TOY = "--max-seq-len 32 --device-batch-size 4 --total-batch-size 128 --eval-tokens 128 --save-every 20 --core-metric-max-per-task 2"


@pytest.fixture
def recipe(small_world, tmp_path):
    """Start a recipe in a base dir that has text and a tokenizer already."""
    base = tmp_path / "base"
    shutil.copytree(small_world, base / "series_cpu")
    environment = {**os.environ, "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}", "NANOCHAT_BASE_DIR": str(base), "SKIP_SETUP": "1",
                   "SCALE": "cpu", "MEGABYTES": "1", "DEPTHS": "1 2", "ASPECTS": "", "TRAIN_FLAGS": TOY, "OMP_NUM_THREADS": "1"}  # fmt: skip

    def start(name: str, **env: str) -> subprocess.Popen:
        return subprocess.Popen(["bash", f"runs/{name}"], cwd=ROOT, env={**environment, **env}, text=True, start_new_session=True,
                                stdout=subprocess.PIPE, stderr=subprocess.PIPE)  # fmt: skip

    return start


@pytest.mark.skipif(shutil.which("setpriv") is None, reason="only Linux ends what a dead shell has started")
def test_killed_and_started_again(recipe, tmp_path):
    """The recipe is killed without a warning in the second run, after a checkpoint: the run ends as well, and what is started again waits for that.
    The first is not touched again, the second goes on."""
    runs, laws = tmp_path / "base" / "series_cpu" / "base_checkpoints", {"BUDGETS": "1.5e10"}
    first = recipe("scaling_laws.sh", **laws)
    wait_for(lambda: first.poll() is not None or list(runs.glob("*_d2/meta_*.json")))
    assert first.poll() is None, first.communicate()
    first.kill()
    first.communicate()
    finished = runs / "scaling_laws_cpu_c1.5e10_d1" / "summary.json"
    before = finished.stat().st_mtime_ns
    assert not scaling.read_summary(runs / "scaling_laws_cpu_c1.5e10_d2").get("finished")
    second = recipe("scaling_laws.sh", **laws)
    out, err = second.communicate()
    assert second.returncode == 0, err
    assert "scaling_laws_cpu_c1.5e10_d1 is finished" in out and "going on from step" in out and finished.stat().st_mtime_ns == before
    rows = scaling.read_csv(tmp_path / "base" / "series_cpu" / "scaling_laws_cpu" / "results.csv")
    assert [(run.depth, run.flops_budget) for run in rows] == [(1, 1.5e10), (2, 1.5e10)]
    for run in rows:
        assert run.flops == pytest.approx(1.5e10, rel=0.05) and run.scaling_parameters and run.val_bpb > 0
    assert "2 sizes: a parabola needs 3" in out


def test_a_real_miniseries(recipe, tmp_path):
    process = recipe("miniseries.sh", RATIO="0.02", DEPTHS="2")
    out, err = process.communicate()
    assert process.returncode == 0, err
    rows = scaling.read_csv(tmp_path / "base" / "series_cpu" / "miniseries_cpu" / "results.csv")
    assert [run.depth for run in rows] == [2] and all(run.core_metric is not None and run.val_bpb > 0 for run in rows)
    for run in rows:
        assert run.tokens / run.scaling_parameters == pytest.approx(0.02, rel=0.05)
    assert (tmp_path / "base" / "series_cpu" / "miniseries_cpu" / "bpb_flops.png").exists() and "no parabolas" in out
