"""The report, and runs compared: what the pages say is what the JSON files say."""

import json
import math
import os
import random
import re
import struct
from pathlib import Path

import pytest

from nanochat import comparing, report
from nanochat.common import UserError
from nanochat.markdown import fenced, plain, table
from nanochat.run_files import flops_at, newest_tag, read_records, read_run, runs_of, seconds_at, series

TASKS = ("ARC-Easy", "ARC-Challenge", "MMLU", "GSM8K", "HumanEval", "SpellingBee")
STEPS = 120


def write(path: Path, content: object, age: float = 0.0) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(content if isinstance(content, str) else json.dumps(content))
    if age:
        os.utime(path, (path.stat().st_atime, path.stat().st_mtime - age))
    return path


def base_records(seed: int = 0, lr: float = 1.0, steps: int = STEPS, noise: float = 0.03, step_seconds: float = 0.5) -> list[dict]:
    """A run as base_train logs it. A learning rate that is far off ends higher."""
    chance, smooth, total = random.Random(seed), 0.0, []
    offset = 0.3 * abs(math.log10(lr)) + 0.002 * chance.gauss(0, 1)
    for step in range(1, steps + 1):
        true = 2.0 + offset + 4 * math.exp(-step / 20)
        loss = true + noise * chance.gauss(0, 1)
        smooth = 0.9 * smooth + 0.1 * loss
        took = step_seconds * (1 + 0.02 * chance.random())
        total.append({"step": step, "loss": loss, "smooth_loss": smooth / (1 - 0.9**step), "lr": min(1.0, 2 - 2 * step / steps), "seconds": took,
                      "tokens_per_second": 1000 / took, "mfu": 0.4, "memory": 1 << 30})  # fmt: skip
        if step % 40 == 0:
            total.append({"step": step, "val_bpb": true / 2.5})
    return [{"step": 0, "val_bpb": 3.2}, *total]


def make_run(base: Path, stage: str, tag: str, records: list[dict], summary: dict, config: dict | None = None, meta: dict | None = None) -> Path:
    folder = base / f"{stage}_checkpoints" / tag
    steps = summary["steps"]
    write(folder / f"model_{steps:06d}.pt", "weights", age=60)
    write(folder / f"meta_{steps:06d}.json", {"step": steps, **(meta or {})})
    write(folder / "metrics.jsonl", "".join(json.dumps(record) + "\n" for record in records))
    write(folder / "config.json", config or {})
    write(folder / "summary.json", {"model_tag": tag, "finished": True, **summary})
    return folder


def base_run(base: Path, tag: str, seconds: float = 60.0, config: dict | None = None, **how) -> Path:
    records = base_records(**how)
    last = [record["val_bpb"] for record in records if "val_bpb" in record][-1]
    summary = {"stage": "base_train", "steps": records[-1]["step"], "tokens": 1000 * records[-1]["step"], "flops": 6e9 * records[-1]["step"],
               "seconds": seconds, "val_bpb": last, "min_val_bpb": last, "train_loss": 2.0123, "core_metric": 0.1111, "parameters": 6_586_514,
               "depth": 6, "tokens_per_second": 1987.6, "peak_memory": 3 << 30, "dtype": "bfloat16", "device": "cuda", "world_size": 8,
               "samples": {"The capital of France is": " Paris | or\nso"}}  # fmt: skip
    return make_run(base, "base", tag, records, summary, config)


def config_of(stage: str, **flags) -> dict:
    return {"stage": stage, "flags": {"depth": 6, "dataset": "climbmix", "matrix_lr": 0.02, "model_tag": "d6", "resume": None, **flags},
            "plan": {"num_iterations": STEPS, "counts": {"total": 6_586_514}, "windows": list(range(20))},
            "versions": {"python": "3.12.1", "torch": "2.13.0"}, "git": {"commit": "0123456789abcdef", "dirty": True},
            "hardware": {"device": "cuda", "name": "NVIDIA H100 80GB HBM3", "count": 8, "cores": 96, "memory": 80 << 30},
            "parts": [{"from_step": 0, "began": "2026-11-21T20:00:00+00:00"}, {"from_step": 20, "began": "2026-11-21T21:00:00+00:00"}]}  # fmt: skip


def evaluate_chat(
    base: Path, source: str, step: int, accuracy: float, age: float = 0.0, tasks: tuple[str, ...] = TASKS, chatcore: float | None = 0.5
):
    found = {}
    for i, task in enumerate(tasks):
        found[task] = {"accuracy": accuracy + i / 100, "centered": accuracy + i / 100 - 0.1, "items": 2, "seconds": 10.0, "pass_at": {"1": accuracy},
                       "settings": {"max_problems": -1, "temperature": 0.0, "max_new_tokens": 160}}  # fmt: skip
        items = [{"question": f"right {task}?", "expected": "yes", "completions": ["yes"], "right": [True], "ended": ["stop"]},
                 {"question": f"wrong {task}?", "expected": "yes", "completions": ["no\n```"], "right": [False], "ended": ["stop"]}]  # fmt: skip
        write(base / "chat_eval" / f"{source}_d6_{step:06d}" / f"{task}.json", {"step": step, "task": task, "items": items})
    about = {"stage": "chat_eval", "source": source, "model_tag": "d6", "step": step, "dataset": "climbmix"}
    write(base / "chat_eval" / f"{source}_d6_{step:06d}.json", {**about, "tasks": found, "chatcore": chatcore}, age)


WITH_CHARTS = ("test_every_number_is_that_of_the_files", "test_a_broken_learning_rate_is_no_tie", "test_nothing_but_a_summary")


@pytest.fixture(autouse=True)
def quick_charts(request, monkeypatch) -> None:
    """Pictures take most of the time, and some tests with real ones are enough."""
    if request.node.name not in WITH_CHARTS:
        from nanochat import plots

        for name in ("line_chart", "bar_chart"):
            monkeypatch.setattr(plots, name, lambda path, *_, **__: write_bytes(path, b"\x89PNG" + bytes(12) + struct.pack(">I", 960)))


def write_bytes(path: Path, content: bytes) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content)


@pytest.fixture
def full(tmp_path) -> Path:
    """A base dir where everything is that a report can be about."""
    base = tmp_path / "base"
    write(base / "tokenizer" / "summary.json", {"dataset": "climbmix", "vocab_size": 32768, "documents": 123456, "characters": 2_000_000_000,
                                                "seconds": 61.0, "token_bytes_mean": 4.8021})  # fmt: skip
    write(base / "tokenizer" / "compression.json", {"prose": {"bytes": 493, "ours": {"tokens": 152, "bytes_per_token": 3.2434}}})
    base_run(base, "d6", seconds=3600.0, config=config_of("base"))
    core = {"tasks": {"hellaswag": {"accuracy": 0.4321, "centered": 0.2428, "examples": 500}}, "seconds": 100.0}
    write(base / "base_eval" / f"d6_{STEPS:06d}.json", {"step": STEPS, "model_tag": "d6", "core_metric": 0.2345, "max_per_task": -1, "core": core,
                                                        "train_bpb": 0.8111, "val_bpb": 0.8222, "split_tokens": 65536})  # fmt: skip
    sft = [{"step": i, "loss": 2 / i, "smooth_loss": 3 / i, "lr": 1.0, "seconds": 1.0, "tokens_per_second": 900.0} for i in range(1, 21)]
    summary = {"stage": "chat_sft", "steps": 20, "base": "d6", "seconds": 360.0, "val_bpb": 0.4444, "conversations": 47500, "epochs": 1.0004}
    sft.append({"step": 20, "val_bpb": 0.4444})
    make_run(base, "chatsft", "d6", sft, summary, config_of("chatsft"), {"base": {"model_tag": "d6", "step": STEPS}})
    evaluate_chat(base, "sft", 20, 0.31)
    rl = [{"step": i, "reward": 0.5 + i / 100, "smooth_reward": 0.5 + i / 200, "loss": 0.0, "lr": 1 - i / 10, "length": 80.0, "seconds": 5.0,
           "samples_per_second": 50.0} for i in range(1, 11)]  # fmt: skip
    make_run(base, "chatrl", "d6", rl, {"stage": "chat_rl", "steps": 10, "sft": "d6", "task": "gsm8k", "seconds": 50.0, "reward": 0.5512,
             "pass_at": {"1": 0.2512}}, config_of("chatrl"), {"sft": {"model_tag": "d6", "step": 20}})  # fmt: skip
    evaluate_chat(base, "rl", 10, 0.41, chatcore=0.6)
    sampled = {"tasks": {"GSM8K": {"accuracy": 0.7, "seconds": 40.0, "pass_at": {"1": 0.5123, "2": 0.6123, "16": 0.7123}}}, "step": 10}
    write(base / "chat_eval" / "rl_d6_000010_t1_n16.json", sampled)
    return base


def generate(base: Path, here: Path, tag: str | None = None, price: float | None = None) -> str:
    here.mkdir(exist_ok=True)
    report.generate(base, tag, price, here)
    text = (base / "report.md").read_text()
    assert (here / "report.md").read_text() == text
    for link in re.findall(r"\]\((.*?)\)", text):
        assert (base / link).read_bytes() == (here / link).read_bytes()
        assert (base / link).read_bytes()[:4] == b"\x89PNG" and struct.unpack(">I", (base / link).read_bytes()[16:20])[0] > 100
    return text


def rows_of(text: str) -> dict[str, list[str]]:
    """The rows of all tables by their first cell."""
    rows = [[cell.strip() for cell in re.split(r"(?<!\\)\|", line)[1:-1]] for line in text.splitlines() if line.startswith("| ")]
    return {row[0]: row[1:] for row in reversed(rows)}  # the first table that has a row counts


# --- generate --------------------------------------------------------------------------------------------------------


def test_every_number_is_that_of_the_files(full, tmp_path):
    text = generate(full, tmp_path / "here")
    rows = rows_of(text)
    assert rows["CORE"] == ["0.2345", "–", "–"] and "all items" in text  # of base_eval, not the training run's
    for i, task in enumerate(TASKS):
        assert rows[task] == ["–", f"{0.31 + i / 100:.4f}", f"{0.41 + i / 100:.4f}"]
    assert rows["ChatCORE"] == ["–", "0.5000", "0.6000"]
    last = json.loads((full / "base_checkpoints/d6/summary.json").read_text())["val_bpb"]
    assert rows["validation, bits per byte"] == [f"{last:.4f}", "0.4444", "–"]
    assert rows["tokenizer"][0] == "0:01:01" and rows["Pretraining"] == ["1:00:00", "24.00"] and rows["evaluation of BASE"][0] == "0:01:40"
    assert rows["evaluation of SFT"][0] == "0:01:00" and rows["evaluation of RL"][0] == "0:01:40"
    assert "| together | 1:12:11 | 28.87 |" in text  # (61 + 3600 + 100 + 360 + 60 + 50 + 100) s at 24 USD
    assert "24.00 USD per hour (8 x H100 SXM at 3.00 USD" in text and "nanochat/hardware.py" in text
    assert (
        rows["device"] == ["NVIDIA H100 80GB HBM3"] * 3
        and rows["git commit"] == ["0123456789 and changes"] * 3
        and rows["torch"] == ["2.13.0"] * 3
        and rows["started"] == ["2026-11-21T20:00:00+00:00, parts: 2"] * 3
    )
    assert rows["started"] == ["2026-11-21T20:00:00+00:00, parts: 2"] * 3
    assert rows["hellaswag"] == ["0.4321", "0.2428", "500"] and rows["tokens in its vocabulary"] == ["32,768"] and rows["prose"] == ["3.24"]
    assert "FLOPs" in rows and rows["FLOPs"] == ["7.20e+11"] and rows["parameters"] == ["6,586,514"] and rows["peak memory"]
    assert rows["reward, smoothed"] == ["0.5512"] and rows["pass@1, during training"] == ["0.2512"]
    assert "| task | pass@1 | pass@2 | pass@16 |" in text and "| GSM8K | 0.5123 | 0.6123 | 0.7123 |" in text
    assert "matrix-lr 0.02" in text and "counts.total 6,586,514" in text and "windows" not in text
    assert rows["The capital of France is"] == ["Paris \\| or so"]
    assert text.count(", right**") == text.count(", wrong**") == 3 and "model: no\n```" in text and "\n````text\n" in text
    assert "Left out" not in text and "not finished" not in text
    curves = [f"base_{what}_{axis}" for what in ("loss", "bpb") for axis in ("step", "time", "flops")] + ["base_lr", "base_throughput", "base_core"]
    for name in (*curves, "chatsft_loss_step", "chatsft_tasks", "chatrl_reward_step", "chatrl_reward_time", "chatrl_lr", "chatrl_tasks"):
        assert f"(report_plots/{name}.png)" in text, name


def test_a_price_that_is_given(full, tmp_path):
    text = generate(full, tmp_path / "here", price=12.0)
    assert rows_of(text)["Pretraining"] == ["1:00:00", "12.00"] and "12.00 USD per hour (given with --price-per-hour)" in text


def test_nothing_but_a_summary(tmp_path):
    """An older run, of which little is there, on a device without a price."""
    write(
        tmp_path / "b/base_checkpoints/d4/summary.json", {"stage": "base_train", "steps": 7, "finished": False, "device": "cpu", "val_bpb": math.nan}
    )
    text = generate(tmp_path / "b", tmp_path / "here")
    rows = rows_of(text)
    assert all(rows[name] == ["–", "–", "–"] for name in ("CORE", *TASKS, "ChatCORE", "validation, bits per byte"))
    assert (
        rows["device"] == ["cpu"]
        and rows["Python"] == ["–"]
        and "The cost is not known" in text
        and "not finished**: it was stopped at step 7" in text
    )
    assert "report_plots" not in text and not (tmp_path / "b/report_plots").exists()


def test_what_belongs_to_an_older_checkpoint_is_left_out(full, tmp_path):
    evaluate_chat(full, "sft", 9, 0.99)
    write(full / "base_eval" / "d6_000009.json", {"step": 9, "core_metric": 0.99})
    write(full / "base_eval" / "d6_wide_000120.json", {"step": 120, "core_metric": 0.98})  # of another tag
    evaluate_chat(full, "rl", 10, 0.77, age=1000)  # written before the model of that name that is there now
    text = generate(full, tmp_path / "here")
    left_out = text[text.index("## Left out") :]
    assert "chat_eval/sft_d6_000009.json: it is about step 9, and the run's last is 20" in left_out and "base_eval/d6_000009.json" in left_out
    assert "chat_eval/rl_d6_000010.json: it is older than the checkpoint" in left_out and "d6_wide" not in text
    assert rows_of(text)["CORE"][0] == "0.2345" and rows_of(text)["ARC-Easy"] == ["–", "0.3100", "–"] and "0.99" not in text


def test_a_base_made_anew_has_no_children_yet(full, tmp_path):
    later = full / "base_checkpoints/d6" / f"model_{STEPS:06d}.pt"
    os.utime(later, (later.stat().st_atime, later.stat().st_mtime + 1000))
    runs, left_out = runs_of(full, "d6")
    assert list(runs) == ["base"] and "chatsft_checkpoints/d6: it is older than the base_checkpoints/d6" in left_out[0]
    os.utime(later, (0, 0))
    assert list(runs_of(full, "d6")[0]) == ["base", "chatsft", "chatrl"]
    write(full / "chatsft_checkpoints/d6/meta_000020.json", {"step": 20, "base": {"model_tag": "d6", "step": 60}})
    runs, left_out = runs_of(full, "d6")
    assert list(runs) == ["base"] and "it began with step 60 of d6, which has 120 now" in left_out[0]
    assert "began with step 60" in generate(full, tmp_path / "here", "d6")


def test_stages_with_other_tags_are_followed(full):
    for old, new, summary in (("chatsft", "talk", {"base": "d6", "steps": 20}), ("chatrl", "talk", {"sft": "d6", "steps": 10})):
        write(full / f"{old}_checkpoints" / new / "summary.json", summary)
    runs, _ = runs_of(full, "talk")
    assert {stage: run.tag for stage, run in runs.items()} == {"base": "d6", "chatsft": "d6", "chatrl": "talk"}
    (full / "chatrl_checkpoints/talk/summary.json").unlink()
    assert {stage: run.tag for stage, run in runs_of(full, "talk")[0].items()} == {"base": "d6", "chatsft": "talk"}


def test_the_newest_summary_decides(full):
    write(full / "base_checkpoints/d9/summary.json", {"steps": 3}, age=-100)
    assert newest_tag(full) == "d9"
    write(full / "chatsft_checkpoints/d8/summary.json", {"steps": 3}, age=-200)
    assert newest_tag(full) == "d8" and newest_tag(full, ["base"]) == "d9"


def test_tinyworld_tasks_take_the_place_of_those_it_is_not_asked(full, tmp_path):
    evaluate_chat(full, "sft", 20, 0.5, tasks=("SpellingBee", "TinyWorld-Facts"))
    evaluate_chat(full, "rl", 10, 0.6, tasks=("TinyWorld-Facts", "SpellingBee"))
    text = generate(full, tmp_path / "here")
    assert rows_of(text)["TinyWorld-Facts"] == ["–", "0.5100", "0.6000"] and "MMLU" not in rows_of(text)
    assert "Not measured: ARC-Easy, ARC-Challenge, MMLU, GSM8K, HumanEval." in text


def test_broken_lines_survive(full, tmp_path):
    path = full / "base_checkpoints/d6/metrics.jsonl"
    path.write_bytes(b'{"step": 1, "lo\n\xff\xfe\n[1]\n"text"\n{"loss": 3}\n\n' + path.read_bytes() + b'{"step": 121, "loss": ')
    records, broken = read_records(path)
    assert broken == 6 and len(records) == STEPS + 4
    assert "6 lines of its log cannot be read and are left out" in generate(full, tmp_path / "here")
    for damaged in ("config.json", "summary.json", f"meta_{STEPS:06d}.json"):
        write(full / "base_checkpoints/d6" / damaged, "[" if damaged[0] == "c" else "[]")
    write(full / "base_eval" / f"d6_{STEPS:06d}.json", "{")
    assert "cannot be read" in generate(full, tmp_path / "here", "d6")


def test_pictures_of_an_earlier_report_go(full, tmp_path):
    generate(full, tmp_path / "here")
    for path in full.glob("chatrl_checkpoints/d6/*"):
        path.unlink()
    write(tmp_path / "here/report_plots/mine.txt", "mine")
    text = generate(full, tmp_path / "here")
    assert not list(full.glob("report_plots/chatrl*")) and not list(tmp_path.glob("here/report_plots/chatrl*")) and "chatrl" not in text
    assert (tmp_path / "here/report_plots/mine.txt").exists()


def test_the_copy_is_not_what_matters(full, tmp_path, capsys):
    report.generate(full, None, None, full)
    assert "copied" not in capsys.readouterr().out
    write(tmp_path / "here/report_plots", "in the way")
    report.generate(full, None, None, tmp_path / "here")
    assert "note: no copy in" in capsys.readouterr().out and (full / "report.md").exists()


# --- values of a run -------------------------------------------------------------------------------------------------


def test_time_and_flops_of_steps(tmp_path):
    records = [{"step": 1, "seconds": 5.0, "loss": 1}, {"step": 2, "seconds": 1.0, "loss": 1}, {"step": 5, "seconds": 2.0, "loss": math.nan}]
    records += [{"step": 2, "seconds": 3.0, "loss": True}, {"step": 2, "val_bpb": 0.5}]
    run = read_run(make_run(tmp_path, "base", "a", records, {"steps": 5, "flops": 100.0}), "base")
    assert list(seconds_at(run, [0, 1, 2, 3, 5])) == [0, 5, 8, 10, 14]  # the later line of step 2; steps 3 and 4 are lost
    assert list(flops_at(run, [0, 2])) == [0, 40] and [list(part) for part in series(run, "loss")] == [[1, 2], [1, 1]]
    plan = {"plan": {"flops_per_token": 3, "total_batch_size": 7}}
    assert list(flops_at(run._replace(summary={}, config=plan), [2])) == [42] and math.isnan(flops_at(run._replace(summary={}), [2])[0])
    assert math.isnan(seconds_at(run._replace(records=[]), [2])[0]) and read_run(tmp_path / "nothing", "base") is None


def test_markdown():
    assert (
        table(["a", "b"], [["x|y\nz", "1"], ["", "–"]]) == ["| a | b |", "| --- | ---: |", "| x\\|y z | 1 |", "|  | – |"] and table(["a"], []) == []
    )
    assert fenced("```\nx") == ["````text", "```", "x", "````"]
    assert [plain(v) for v in (None, math.nan, True, 1234, 0.5, 3e9, [1, 2], "x")] == ["–", "–", "yes", "1,234", "0.5", "3,000,000,000", "1 2", "x"]


# --- reset -----------------------------------------------------------------------------------------------------------


def test_reset_removes_the_report_and_nothing_else(full, tmp_path, capsys):
    generate(full, tmp_path / "here")
    write(full / "report_plots/mine.txt", "mine")
    before = {path for path in tmp_path.rglob("*") if path.is_file()}
    report.reset(full)
    gone = before - {path for path in tmp_path.rglob("*") if path.is_file()}
    assert gone == {full / "report.md", *(path for path in before if path.parent == full / "report_plots" and path.suffix == ".png")}
    assert json.loads((full / "report_started.json").read_text())["started"].startswith("20")
    assert "from reset" not in generate(full, tmp_path / "here")  # nothing in it has ended since
    started = json.loads((full / "report_started.json").read_text())
    write(full / "report_started.json", {**started, "time": started["time"] - 7200})
    assert rows_of(generate(full, tmp_path / "here"))["from reset to this report"][0].startswith("2:00:0")
    report.reset(tmp_path / "new")
    assert (tmp_path / "new/report_started.json").exists()


# --- compare ---------------------------------------------------------------------------------------------------------


def compare(base: Path, *names: str, stage: str = "base") -> tuple[list[str], dict[str, str]]:
    """What the terminal is told, and who is ahead by the first metric at equal step, time and FLOPs."""
    said = comparing.compare(base, list(names), stage, base / "out")
    text = (base / "out/compare.md").read_text()
    for link in re.findall(r"!\[.*?\]\((.*?)\)", text):
        assert (base / "out" / link).read_bytes()[:4] == b"\x89PNG"
    places = [line for line in said if line.startswith(("validation at", "smoothed reward at"))]
    ahead = {axis: line.rsplit(": ", 1)[1] for axis in ("step", "time", "FLOPs") for line in places if axis in line}
    return said, ahead


@pytest.mark.parametrize("first", range(6))
def test_two_seeds_are_a_tie(tmp_path, first):
    base_run(tmp_path, "a", seed=2 * first)
    base_run(tmp_path, "b", seed=2 * first + 1)
    said, ahead = compare(tmp_path, "a", "b")
    assert ahead == {"step": "tie", "time": "tie", "FLOPs": "tie"}, said
    text = (tmp_path / "out/compare.md").read_text()
    assert "noise between seeds is unknown" in text and "noise unknown: estimate" in text and "What their settings differ in is not known" in text


def test_a_broken_learning_rate_is_no_tie(tmp_path):
    base_run(tmp_path, "good", seed=1, config=config_of("base"))
    base_run(tmp_path, "broken", seed=2, lr=20.0, config=config_of("base", matrix_lr=0.4))
    said, ahead = compare(tmp_path, "broken", "good")
    assert ahead == {"step": "B ahead", "time": "B ahead", "FLOPs": "B ahead"} and said[:2] == ["A: broken", "B: good"]
    text = (tmp_path / "out/compare.md").read_text()
    assert "| matrix-lr | 0.4 | 0.02 |" in text and text.count("B ahead |") >= 6
    values = [json.loads((tmp_path / f"base_checkpoints/{tag}/summary.json").read_text())["val_bpb"] for tag in ("broken", "good")]
    assert f"| step 120 | {values[0]:.4f} | {values[1]:.4f} | B ahead |" in text


def test_a_run_that_broke_off_is_named(tmp_path):
    base_run(tmp_path, "good", seed=1)
    (base_run(tmp_path, "bad", seed=2, steps=45) / "summary.json").unlink()
    said, ahead = compare(tmp_path, "good", "bad")
    assert "Note: bad of B has not finished. Its last logged step is 45, and nothing is compared beyond." in said
    assert said[2] in (tmp_path / "out/compare.md").read_text() and "validation at step 40: " in said[3] and ahead["FLOPs"] == "–"


def test_groups_of_seeds(tmp_path):
    for i in range(3):
        base_run(tmp_path, f"a{i}", seed=i)
        base_run(tmp_path, f"b{i}", seed=30 + i)
        base_run(tmp_path, f"c{i}", seed=20 + i, lr=1.15)
    assert set(compare(tmp_path, "a0,a1,a2", "b0,b1,b2")[1].values()) == {"tie"}
    said, ahead = compare(tmp_path, "a0,a1,a2", "c0,c1,c2")  # a difference that one seed each could not show
    assert set(ahead.values()) == {"A ahead"} and set(compare(tmp_path, "a0", "c0")[1].values()) == {"tie"}
    text = (tmp_path / "out/compare.md").read_text()
    said, ahead = compare(tmp_path, "a0,a1,a2", "b0,b1,b2", "c0,c1,c2")
    text = (tmp_path / "out/compare.md").read_text()
    assert (
        set(ahead.values()) == {"A and B ahead of C"} and said[0] == "A: a0, a1, a2" and "±" in text and "unknown" not in text.split("How noise")[1]
    )
    said, ahead = compare(tmp_path, "a0,a1,a2", "c0")
    text = (tmp_path / "out/compare.md").read_text()
    assert set(ahead.values()) == {"A ahead"} and "the spread of 3 seeds taken for both" in text and "unknown where a group" in text


def test_equal_time_is_not_equal_step(tmp_path):
    """A run that is four times as fast has done four times the steps; and a quarter of them at equal FLOPs, if its steps take four times as many."""
    base_run(tmp_path, "slow", seed=1, step_seconds=1.0)
    base_run(tmp_path, "fast", seed=2, step_seconds=0.25)
    summary = tmp_path / "base_checkpoints/fast/summary.json"
    write(summary, {**json.loads(summary.read_text()), "flops": 4 * 6e9 * STEPS})
    said, _ = compare(tmp_path, "slow", "fast")
    loss = {line.split(" at ")[1].split(" ")[0]: line for line in said if line.startswith("smoothed training")}
    assert loss["step"].endswith("tie") and loss["training"].startswith("smoothed training loss at training time 0:00:30")
    assert loss["training"].endswith("B ahead") and loss["7.20e+11"].endswith("A ahead")


def test_a_machine_that_is_busy_now_and_then(tmp_path):
    """Its run is a little further back at equal time, which is no difference; a broken one still is."""
    chance, runs = random.Random(5), {"a": {"seed": 1}, "b": {"seed": 2}, "broken": {"seed": 3, "lr": 20.0}}
    for tag, how in runs.items():
        path = base_run(tmp_path, tag, **how) / "metrics.jsonl"
        records, factor = [json.loads(line) for line in path.read_text().splitlines()], 1.0
        for record in records:
            factor = chance.uniform(1, 1.6) if record["step"] % 12 == 0 else factor
            record.update({"seconds": record["seconds"] * factor} if "seconds" in record else {})
        write(path, "".join(json.dumps(record) + "\n" for record in records))
    assert compare(tmp_path, "a", "b")[1]["time"] == "tie" and compare(tmp_path, "a", "broken")[1]["time"] == "A ahead"


def test_what_single_runs_cannot_tell(tmp_path):
    """Too few steps say nothing of the noise, and then no difference is one. A spike is no noise: beside it a broken learning rate still shows."""
    for tag, value in (("short", 1.0), ("other", 2.0)):
        records = [{"step": 1, "loss": value, "smooth_loss": value, "seconds": 1.0}, {"step": 2, "val_bpb": value}]
        make_run(tmp_path, "base", tag, records, {"steps": 2})
    assert set(compare(tmp_path, "short", "other")[1].values()) <= {"tie", "–"}
    text = (tmp_path / "out/compare.md").read_text()
    assert "noise unknown: too few steps are logged" in text and "inf" not in text
    for tag, how in (("spiky", {"seed": 1}), ("broken", {"seed": 2, "lr": 20.0})):
        path = base_run(tmp_path, tag, **how) / "metrics.jsonl"
        records = [json.loads(line) for line in path.read_text().splitlines()]
        records = [{**record, "loss": record["loss"] + 20 * (record["step"] in (90, 100))} if "loss" in record else record for record in records]
        write(path, "".join(json.dumps(record) + "\n" for record in records))
    assert set(compare(tmp_path, "spiky", "broken")[1].values()) == {"A ahead"}


def test_other_schedules_and_speeds_are_said(tmp_path):
    for tag, steps, seconds in (("a", 120, 0.5), ("b", 120, 0.51), ("c", 80, 0.9)):
        plan = config_of("base")
        plan["plan"]["num_iterations"] = steps
        base_run(tmp_path, tag, steps=steps, step_seconds=seconds, config=plan)
    assert not any("Note" in line for line in compare(tmp_path, "a", "b")[0])
    said = compare(tmp_path, "a", "c")[0]
    assert any("planned for different numbers of steps (80, 120)" in line for line in said)
    assert any(line.startswith("Note: a step of B took 1.80 times as long as one of A.") for line in said)


def test_between_validations_the_loss_shows_the_way(tmp_path):
    run = read_run(base_run(tmp_path, "a", noise=0.0), "base")
    metric = comparing.METRICS["base"][0]
    true = {record["step"]: record["loss"] / 2.5 for record in run.records if "loss" in record}
    assert comparing.value_at(run, metric, "step", 80.0) == pytest.approx(true[80], abs=1e-9)
    assert comparing.value_at(run, metric, "step", 60.0) == pytest.approx(true[60], abs=0.02)  # a straight line would be 0.04 above it
    assert (true[40] + true[80]) / 2 - true[60] > 0.04 and math.isnan(comparing.value_at(run, metric, "step", 20.0))


def test_rl_is_compared_by_reward(tmp_path):
    for tag, seed, gain in (("a", 1, 0.0), ("b", 2, 0.0), ("c", 3, 0.3)):
        chance = random.Random(seed)
        records = [{"step": i, "reward": (r := 0.5 + gain + chance.gauss(0, 0.03)), "smooth_reward": r, "seconds": 2.0} for i in range(1, 41)]
        for i in range(1, 40):
            records[i]["smooth_reward"] = 0.9 * records[i - 1]["smooth_reward"] + 0.1 * records[i]["reward"]
        make_run(tmp_path, "chatrl", tag, records, {"steps": 40})
    assert compare(tmp_path, "a", "b", stage="chatrl")[1] == {"step": "tie", "time": "tie"} | {"FLOPs": "–"}
    assert compare(tmp_path, "a", "c", stage="chatrl")[1]["step"] == "B ahead"


def test_folders_of_every_kind(tmp_path):
    base_run(tmp_path / "x", "d6", seed=1)
    folder = base_run(tmp_path / "y", "d6", seed=2)
    groups = comparing.find_groups(tmp_path / "x", ["d6", str(folder)], "base")
    assert [group.runs[0].folder for group in groups] == [tmp_path / "x/base_checkpoints/d6", folder]
    groups = comparing.find_groups(tmp_path / "nowhere", [str(tmp_path / "x"), str(tmp_path / "y")], "base")
    assert [group.runs[0].folder for group in groups] == [tmp_path / "x/base_checkpoints/d6", folder]


def test_the_quantiles():
    """Against published tables of Student's t, and between whole degrees of freedom against its integral."""
    for freedom, quantile in ((1, 12.706), (2, 4.303), (10, 2.228), (11, 2.201), (15, 2.131), (30, 2.042), (120, 1.980), (1e9, 1.960)):
        assert comparing.student_975(freedom) == pytest.approx(quantile, abs=6e-4)
    for freedom, quantile in ((1.16, 9.229), (1.5, 6.017), (1.8, 4.795), (2.5, 3.575), (5.5, 2.502), (9.5, 2.244)):
        assert quantile - 1e-3 < comparing.student_975(freedom) < 1.03 * quantile


def test_a_difference_by_hand():
    """Welch: values 1, 2, 3 and 5, 7, 9: means 2 and 7, variances 1 and 4, so the error is √(5/3) and there are 2.94 degrees of freedom."""
    gap = comparing.difference(comparing.Value(2, 1, 3), comparing.Value(7, 2, 3), 0.1)
    assert gap.value == 5 and gap.margin == pytest.approx(comparing.student_975(50 / 17) * math.sqrt(5 / 3)) and gap.clear
    gap = comparing.difference(comparing.Value(2, None, 1), comparing.Value(3.6, None, 1), 0.5)
    assert gap.margin == pytest.approx(1.5) and gap.clear and "unknown" in gap.why
    same = comparing.difference(comparing.Value(2, 0.0, 2), comparing.Value(2.001, 0.0, 2), 0.5)  # one seed, run twice
    assert not same.clear and "unknown" in same.why


# --- wrong input: one clear line each --------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "names, line",
    [
        (["a", "nobody"], "'nobody' is neither a tag in .*base_checkpoints \\(there: a, b, empty, silent\\) nor a folder"),
        (["a", "a"], "is named twice"),
        (["a,b", "b"], "is named twice"),
        (["a,", "b"], "a comma too much"),
        (["a", "empty"], "holds no run"),
        (["a", "silent"], "cannot be compared: its metrics.jsonl has no val_bpb or smooth_loss"),
    ],
)
def test_what_cannot_be_compared(tmp_path, names, line):
    base_run(tmp_path, "a", seed=1)
    base_run(tmp_path, "b", seed=2)
    (tmp_path / "base_checkpoints/empty").mkdir()
    make_run(tmp_path, "base", "silent", [{"step": 0, "val_bpb": 3.0}], {"steps": 5})
    with pytest.raises(UserError, match=line):
        comparing.compare(tmp_path, names, "base", tmp_path)
    assert not (tmp_path / "compare.md").exists()


def test_nothing_in_common(tmp_path):
    make_run(tmp_path, "base", "a", [{"step": 1, "val_bpb": 3.0}], {"steps": 5})
    make_run(tmp_path, "base", "b", [{"step": 1, "smooth_loss": 3.0}], {"steps": 5})
    with pytest.raises(UserError, match="nothing in common"):
        comparing.compare(tmp_path, ["a", "b"], "base", tmp_path)


def test_no_report_of_nothing(tmp_path):
    with pytest.raises(UserError, match=r"no run in .* has ended yet"):
        report.generate(tmp_path, None, None, tmp_path)
    with pytest.raises(UserError, match=r"there is no run with the tag 'd6' in .*: train one first"):
        report.generate(tmp_path, "d6", None, tmp_path)
    base_run(tmp_path, "d4")
    with pytest.raises(UserError, match="there are d4"):
        report.generate(tmp_path, "d6", None, tmp_path)
    with pytest.raises(UserError, match="is not usable"):
        report.generate(tmp_path, "../d6", None, tmp_path)


@pytest.mark.parametrize(
    "arguments, line",
    [
        (["compare", "a"], "compare needs two runs at least"),
        (["generate", "--price-per-hour", "-1"], "--price-per-hour -1.0: a price in USD"),
        (["generate", "--price-per-hour", "nan"], "--price-per-hour nan: a price in USD"),
        (["compare", "a", "b", "--out", __file__], "this is a file; name a folder"),
        (["compare", "a", "b", "--stage", "pretraining"], "invalid choice"),
        (["write"], "invalid choice"),
        ([], "required"),
    ],
)
def test_wrong_arguments(arguments, line, monkeypatch, capsys):
    monkeypatch.setattr("sys.argv", ["report", *arguments])
    with pytest.raises(SystemExit) as stop:
        report.parse_args()
    assert stop.value.code == 2 and line in capsys.readouterr().err


def test_as_a_command(full, tmp_path, monkeypatch, run_module):
    """The way users start it; what goes to the current folder goes there."""
    missing = run_module("nanochat.report", "compare", "x", "y", "--out", str(tmp_path / "o"), base=full)
    assert missing.returncode == 1 and missing.stderr.count("\n") == 1 and missing.stderr.startswith("error: 'x' is neither a tag")
    base_run(full, "e6", seed=9)
    fine = run_module("nanochat.report", "compare", "d6", "e6", "--out", str(tmp_path / "o"), base=full)
    assert fine.returncode == 0 and "validation at step 120" in fine.stdout and (tmp_path / "o/compare.md").exists(), fine.stderr
    assert run_module("nanochat.report", "reset", base=full).returncode == 0
