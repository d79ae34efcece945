"""A report of what a model cost and what it can do, and a comparison of runs. All of it is read from the JSON files that runs leave.

python -m nanochat.report generate                           # report.md in the base dir and here, of the tag whose summary is the newest
python -m nanochat.report generate --model-tag d20 --price-per-hour 24
python -m nanochat.report reset                              # a new report begins now: what there is of the old one is removed
python -m nanochat.report compare d12 d12_wide               # tags or folders: compare.md here
python -m nanochat.report compare a1,a2,a3 b1,b2,b3          # groups of seeds
"""

import argparse
import datetime
import json
import math
import os
import re
import shutil
import time
from pathlib import Path
from typing import NamedTuple

from nanochat.common import ArgumentParser, UserError, check_name, friendly_errors, get_base_dir, print0, write_text
from nanochat.hardware import known_device
from nanochat.markdown import DASH, cell_of, count, decimal, fenced, gibibytes, plain, short_flops, table
from nanochat.run_files import Run, dict_of, evaluations, newest_tag, number, read_json, runs_of
from nanochat.run_plots import draw_stage
from nanochat.train_log import clock

REPORT, PLOTS, STARTED = "report.md", "report_plots", "report_started.json"
NAMES = {"base": "BASE", "chatsft": "SFT", "chatrl": "RL"}
TITLES = {"base": "Pretraining", "chatsft": "Fine-tuning (SFT)", "chatrl": "Reinforcement learning (RL)"}
# The rows of the large table, always there; what else was evaluated comes after them.
TASKS = ("ARC-Easy", "ARC-Challenge", "MMLU", "GSM8K", "HumanEval", "SpellingBee")
CODE = {"nanochat": ("py", "cpp", "h", "html"), "scripts": ("py",), "tasks": ("py",), "runs": ("sh",), "dev": ("py",), "tests": ("py",)}
SHOWN, LONGEST = 3, 700  # conversations of each kind, and characters of a text in them
FLAGS_WIDTH = 110


class Stage(NamedTuple):
    """A run and what was evaluated about its last step."""

    run: Run
    base_eval: dict
    chat_eval: dict  # greedy answers
    sampled: dict[str, dict]  # by temperature and number of answers: "_t1_n4"
    price: float | None  # USD per hour
    price_from: str

    @property
    def chat_tasks(self) -> dict[str, dict]:
        return {name: dict_of(values) for name, values in dict_of(self.chat_eval.get("tasks")).items()}


def parse_args() -> argparse.Namespace:
    parser = ArgumentParser(prog="python -m nanochat.report", description="What a model cost and what it can do; runs compared")
    commands = parser.add_subparsers(dest="command", required=True, metavar="generate|reset|compare")
    generate = commands.add_parser("generate", help="write report.md to the base dir and to the current folder")
    generate.add_argument("--model-tag", default=None, help="whose report (default: the tag whose summary.json is the newest)")
    generate.add_argument("--price-per-hour", type=float, default=None, metavar="USD", help="of all devices together (default: by "
                          "nanochat/hardware.py, where it knows the device)")  # fmt: skip
    commands.add_parser("reset", help="begin a new report: remove report.md and its plots from the base dir, note the time")
    compare = commands.add_parser("compare", help="two or more runs on the same axes: who is ahead, and is it more than noise")
    compare.add_argument("runs", nargs="+", metavar="RUN", help="a tag, a folder of checkpoints or a base dir; a1,a2: several seeds of one run")
    compare.add_argument("--stage", default="base", choices=list(NAMES), help="which stage of them")
    compare.add_argument("--out", type=Path, default=Path("."), metavar="DIR", help="where compare.md and its plots go")
    args = parser.parse_args()
    if args.command == "compare" and len(args.runs) < 2:
        parser.error("compare needs two runs at least, with a space between them (a comma joins seeds of one run)")
    if args.command == "compare" and args.out.exists() and not args.out.is_dir():
        parser.error(f"--out {args.out}: this is a file; name a folder")
    if args.command == "generate" and args.price_per_hour is not None and not 0 <= args.price_per_hour < math.inf:
        parser.error(f"--price-per-hour {args.price_per_hour}: a price in USD, 0 or more")
    return args


# --- reset -----------------------------------------------------------------------------------------------------------


def reset(base: Path) -> None:
    (base / REPORT).unlink(missing_ok=True)
    remove_plots(base / PLOTS)
    write_text(base / STARTED, json.dumps({"started": now().isoformat(timespec="seconds"), "time": time.time()}) + "\n")
    print0(f"a new report begins now; `python -m nanochat.report generate` writes it to {base / REPORT}")


def remove_plots(folder: Path) -> None:
    """Only pictures: whatever else somebody keeps there stays."""
    for path in folder.glob("*.png"):
        path.unlink()
    if folder.is_dir() and not any(folder.iterdir()):
        folder.rmdir()


def now() -> datetime.datetime:
    return datetime.datetime.now(datetime.timezone.utc)


# --- generate --------------------------------------------------------------------------------------------------------


def generate(base: Path, tag: str | None, price: float | None, here: Path) -> None:
    tag = newest_tag(base) if tag is None else check_name("model tag", tag)
    if tag is None:
        raise UserError(f"no run in {base} has ended yet: there is no summary.json. Train a model (python -m scripts.base_train), or name one that "
                        "is under way with --model-tag")  # fmt: skip
    stages, left_out = read_stages(base, tag, price)
    remove_plots(base / PLOTS)
    write_text(base / REPORT, "\n".join(write_report(base, tag, stages, left_out)) + "\n")
    print0(f"saved to {base / REPORT}")
    if here.resolve() != base.resolve():
        try:
            copy_report(base, here)
            print0(f"and copied to {here / REPORT}")
        except OSError as error:  # the report is there all the same
            print0(f"note: no copy in {here.resolve()}: {error.strerror}")


def copy_report(base: Path, here: Path) -> None:
    write_text(here / REPORT, (base / REPORT).read_text(encoding="utf-8"))
    remove_plots(here / PLOTS)
    if (base / PLOTS).is_dir():
        shutil.copytree(base / PLOTS, here / PLOTS, dirs_exist_ok=True)


def read_stages(base: Path, tag: str, price: float | None) -> tuple[dict[str, Stage], list[str]]:
    runs, left_out = runs_of(base, tag)
    stages = {}
    for name, run in runs.items():
        found, stale = evaluations(base, "base_eval" if name == "base" else "chat_eval", run)
        left_out += stale
        plain_one = found.pop("", {})
        base_eval, chat_eval = (plain_one, {}) if name == "base" else ({}, plain_one)
        stages[name] = Stage(run, base_eval, chat_eval, found, *price_of(run, price))
    return stages, left_out


def write_report(base: Path, tag: str, stages: dict[str, Stage], left_out: list[str]) -> list[str]:
    page = [f"# nanochat report: {cell_of(tag)}", ""]
    page += [f"Written {now():%Y-%m-%d %H:%M} UTC from the JSON files in `{base}`. {DASH} stands for what was not measured.", ""]
    page += ["## What the model can do", "", *metrics_table(stages), ""]
    page += ["## Time and cost", "", *time_and_cost(base, stages), ""]
    page += ["## Environment and hardware", "", *environment(stages), ""]
    page += ["## The code", "", *size_of_code(Path(__file__).parent.parent), ""]
    page += tokenizer_section(base, stages)
    for name, stage in stages.items():
        page += [f"## {TITLES[name]}", "", *stage_section(base, stage)]
    page += conversations(base, stages)
    if left_out:
        page += ["## Left out", "", "These files do not belong to the models above. Evaluate again to have them in the report.", ""]
        page += [f"- {line}" for line in left_out] + [""]
    return page[:-1]


# --- the large table -------------------------------------------------------------------------------------------------


def metrics_table(stages: dict[str, Stage]) -> list[str]:
    """A row for each metric, a column for each stage; and in notes what the numbers depend on."""
    measured = {task for stage in stages.values() for task in stage.chat_tasks}
    more = dict.fromkeys(task for stage in stages.values() for task in stage.chat_tasks if task not in TASKS)
    rows = [["CORE", decimal(core_of(stages)[0]), DASH, DASH]]
    unmeasured = [task for task in TASKS if more and task not in measured]  # models of the embedded world are not asked what they cannot know
    for task in (*[task for task in TASKS if task not in unmeasured], *more):
        rows.append([task, DASH, *[decimal(accuracy_of(stages, name, task)) for name in ("chatsft", "chatrl")]])
    rows.append(["ChatCORE", DASH, *[decimal(stages[name].chat_eval.get("chatcore") if name in stages else None) for name in ("chatsft", "chatrl")]])
    rows.append(["validation, bits per byte", *[decimal(stages[name].run.summary.get("val_bpb") if name in stages else None) for name in NAMES]])
    notes = ["CORE and ChatCORE are means of what is above guessing; tasks are shares of right answers."]
    if source := core_of(stages)[1]:
        notes.append(f"CORE is {source}.")
    for name in ("chatsft", "chatrl"):
        if name in stages and (settings := settings_of_tasks(stages[name].chat_tasks)):
            notes.append(f"{NAMES[name]}: {settings} ({stages[name].chat_eval['file']}).")
    if unmeasured:
        notes.append(f"Not measured: {', '.join(unmeasured)}.")
    return [*table(["metric", *NAMES.values()], rows), "", " ".join(notes)]


def core_of(stages: dict[str, Stage]) -> tuple[float | None, str]:
    """By base_eval, which looks at all items unless told otherwise; else by the training run, which looks at some."""
    if "base" not in stages:
        return None, ""
    base_eval, summary = stages["base"].base_eval, stages["base"].run.summary
    if number(base_eval.get("core_metric")) is not None:
        items = base_eval.get("max_per_task", -1)
        return base_eval["core_metric"], f"of {base_eval['file']}, " + ("all items" if items == -1 else f"at most {count(items)} items of each task")
    if number(summary.get("core_metric")) is not None:
        return summary["core_metric"], "of the training run's summary.json, which may be about some of the items only"
    return None, ""


def accuracy_of(stages: dict[str, Stage], name: str, task: str) -> float | None:
    return number(stages[name].chat_tasks.get(task, {}).get("accuracy")) if name in stages else None


def settings_of_tasks(tasks: dict[str, dict]) -> str:
    """How the answers were asked for; where tasks differ, all values."""
    words = {"max_problems": "items of each task: {}", "temperature": "temperature {}", "max_new_tokens": "answers of up to {} tokens"}
    settings = [dict_of(values.get("settings")) for values in tasks.values()]
    said = []
    for key, text in words.items():
        found = dict.fromkeys(some[key] for some in settings if number(some.get(key)) is not None)
        if found:
            said.append(text.format(" or ".join("all" if key == "max_problems" and value == -1 else plain(value) for value in found)))
    return ", ".join(said)


# --- time, cost, hardware, code --------------------------------------------------------------------------------------


def price_of(run: Run, given: float | None) -> tuple[float | None, str]:
    """USD per hour for all devices of a run together, and who says so."""
    if given is not None:
        return given, "given with --price-per-hour"
    hardware = dict_of(run.config.get("hardware"))
    name, devices = hardware.get("name"), number(hardware.get("count")) or number(run.summary.get("world_size")) or 1
    known = known_device(name) if isinstance(name, str) and run.summary.get("device", hardware.get("device")) != "cpu" else None
    if known is None or known.price_per_hour is None:
        return None, ""
    each = f"{devices:,.0f} x {known.name} at {known.price_per_hour:.2f} USD"
    return known.price_per_hour * devices, f"{each}; the price is of the table in nanochat/hardware.py, and offers differ by a factor of two"


def times(base: Path, stages: dict[str, Stage]) -> list[tuple[str, float | None, Stage]]:
    """What took how many seconds, and the stage whose hardware it ran on."""
    found = []
    tokenizer, _ = tokenizer_of(base, stages)
    if tokenizer:
        found.append(("tokenizer", number(tokenizer.get("seconds")), next(iter(stages.values()))))
    for name, stage in stages.items():
        found.append((TITLES[name], number(stage.run.summary.get("seconds")), stage))
        evaluated = [dict_of(stage.base_eval.get("core")).get("seconds")] if name == "base" else []
        tasks = [dict_of(task) for some in (stage.chat_eval, *stage.sampled.values()) for task in dict_of(some.get("tasks")).values()]
        known = [seconds for seconds in [*evaluated, *[task.get("seconds") for task in tasks]] if number(seconds) is not None]
        found.append((f"evaluation of {NAMES[name]}", sum(known) if known else None, stage))
    return found


def time_and_cost(base: Path, stages: dict[str, Stage]) -> list[str]:
    rows, total_seconds, total_cost, found = [], 0.0, 0.0, times(base, stages)
    prices = dict.fromkeys((stage.price, stage.price_from) for stage in stages.values() if stage.price is not None)
    for what, seconds, stage in found:
        cost = None if seconds is None or stage.price is None else stage.price * seconds / 3600
        total_seconds, total_cost = total_seconds + (seconds or 0), total_cost + (cost or 0)
        rows.append([what, DASH if seconds is None else clock(seconds), decimal(cost, 2)])
    rows.append(["together", clock(total_seconds), decimal(total_cost if prices else None, 2)])
    if (elapsed := since_reset(base, stages)) is not None:
        only = next(iter(prices))[0] if len(prices) == 1 else None
        rows.append(["from reset to this report", clock(elapsed), decimal(None if only is None else only * elapsed / 3600, 2)])
    lines = table(["", "wall-clock", "USD"], rows) if prices else table(["", "wall-clock"], [row[:2] for row in rows])
    lines += [
        "",
        "Training is its steps alone; starting, compiling, validating, sampling and saving come on top. Evaluations are what their tasks took.",
    ]
    for price, source in prices:
        lines.append(f"The price: {price:.2f} USD per hour ({source}).")
    if not prices:
        lines.append("The cost is not known: nanochat/hardware.py has no price for this device, or the run does not say which it was. "
                     "`--price-per-hour` states one.")  # fmt: skip
    return lines


def since_reset(base: Path, stages: dict[str, Stage]) -> float | None:
    """Seconds from when the report was begun to the last thing in it that ended after that, if anything did."""
    started = number(read_json(base / STARTED).get("time"))
    results = [*(stage.run.folder / "summary.json" for stage in stages.values()), *base.glob("base_eval/*.json"), *base.glob("chat_eval/*.json")]
    ended = max((path.stat().st_mtime for path in results if path.exists()), default=0.0)
    return ended - started if started is not None and ended >= started else None


def environment(stages: dict[str, Stage]) -> list[str]:
    def row(what: str, value) -> list[str]:
        return [
            what,
            *[value(stage.run, dict_of(stage.run.config.get("hardware")), dict_of(stage.run.config.get("versions"))) for stage in stages.values()],
        ]

    def commit(run: Run) -> str:
        git = dict_of(run.config.get("git"))
        return plain(git.get("commit"))[:10] + (" and changes" if git.get("dirty") else "") if git else DASH

    def began(run: Run) -> str:
        parts = run.config.get("parts")
        if not isinstance(parts, list) or not parts:
            return DASH
        return plain(dict_of(parts[0]).get("began")) + (f", parts: {len(parts)}" if len(parts) > 1 else "")

    rows = [
        row("device", lambda run, hardware, _: plain(hardware.get("name") or hardware.get("device") or run.summary.get("device"))),
        row("devices", lambda run, hardware, _: plain(hardware.get("count"))),
        row("ranks", lambda run, *_: plain(run.summary.get("world_size"))),
        row("CPU cores", lambda run, hardware, _: plain(hardware.get("cores"))),
        row("memory", lambda run, hardware, _: gibibytes(hardware.get("memory"))),
        row("numbers", lambda run, *_: plain(run.summary.get("dtype"))),
        row("Python", lambda run, _, versions: plain(versions.get("python"))),
        row("torch", lambda run, _, versions: plain(versions.get("torch"))),
        row("git commit", lambda run, *_: commit(run)),
        row("started", lambda run, *_: began(run)),
    ]
    return table(["", *[NAMES[name] for name in stages]], rows)


def size_of_code(root: Path) -> list[str]:
    rows, all_files, all_lines = [], 0, 0
    for folder, endings in CODE.items():
        files = [path for ending in endings for path in (root / folder).glob(f"*.{ending}")]
        lines = sum(len(path.read_bytes().splitlines()) for path in files)
        if files:
            rows.append([f"{folder}/", count(len(files)), count(lines)])
            all_files, all_lines = all_files + len(files), all_lines + lines
    rows.append(["together", count(all_files), count(all_lines)])
    names = dependencies(root / "pyproject.toml")
    said = f"Dependencies: {len(names)} ({', '.join(names)})." if names else f"Dependencies: {DASH}."
    return [*table(["", "files", "lines"], rows), "", said]


def dependencies(path: Path) -> list[str]:
    """The names in pyproject.toml's list of them; without a reader of TOML, which Python 3.10 does not have."""
    try:
        listed = re.search(r"^dependencies = \[(.*?)^\]", path.read_text(encoding="utf-8"), re.MULTILINE | re.DOTALL)
    except OSError:
        return []
    return list(dict.fromkeys(re.findall(r"^\s*\"([A-Za-z0-9_.-]+)", listed[1], re.MULTILINE))) if listed else []


# --- tokenizer -------------------------------------------------------------------------------------------------------


def tokenizer_of(base: Path, stages: dict[str, Stage]) -> tuple[dict, dict]:
    """Summary and compression of the tokenizer of the data set that these stages say they are about."""
    said = [source.get("dataset") for stage in stages.values() for source in (stage.run.flags, stage.base_eval, stage.chat_eval)]
    name = next((name for name in said if isinstance(name, str)), None)
    for path in sorted(base.glob("tokenizer*/summary.json")):
        if (summary := read_json(path)) and name is not None and summary.get("dataset") == name:
            return summary, read_json(path.parent / "compression.json")
    return {}, {}


def tokenizer_section(base: Path, stages: dict[str, Stage]) -> list[str]:
    summary, compression = tokenizer_of(base, stages)
    if not summary:
        return []
    lines = [f"## Tokenizer ({plain(summary.get('dataset'))})", ""]
    lines += table(["", "value"], [
        ["tokens in its vocabulary", count(summary.get("vocab_size"))],
        ["documents read", count(summary.get("documents"))],
        ["characters read", count(summary.get("characters"))],
        ["bytes of a token, on average", decimal(summary.get("token_bytes_mean"), 2)],
    ])  # fmt: skip
    kinds = {kind: dict_of(found) for kind, found in compression.items()}
    labels = list(dict.fromkeys(label for found in kinds.values() for label in found if label != "bytes"))
    if labels:
        rows = [[kind, *[decimal(dict_of(found.get(label)).get("bytes_per_token"), 2) for label in labels]] for kind, found in kinds.items()]
        lines += ["", "Bytes per token, by kind of text:", "", *table(["", *labels], rows)]
    return [*lines, ""]


# --- a stage ---------------------------------------------------------------------------------------------------------


def stage_section(base: Path, stage: Stage) -> list[str]:
    run = stage.run
    lines = [*table(["result", "value"], results_of(stage)), ""]
    if run.summary.get("finished") is False:
        lines += [f"**This run is not finished**: it was stopped at step {plain(run.step)}.", ""]
    if not run.summary:
        lines += ["**This run has no summary.json**: it has not ended, or was killed.", ""]
    if run.broken:
        lines += [f"{run.broken} line{'s' if run.broken > 1 else ''} of its log cannot be read and {'are' if run.broken > 1 else 'is'} left out.", ""]
    for what, values in (("Settings", run.flags), ("Plan", flat(dict_of(run.config.get("plan"))))):
        if values:
            lines += [f"{what}:", "", *fenced(wrapped([f"{name.replace('_', '-')} {plain(value)}" for name, value in values.items()])), ""]
    tasks = {name: dict_of(task) for name, task in dict_of(dict_of(stage.base_eval.get("core")).get("tasks")).items()}
    if tasks:
        rows = [[name, decimal(task.get("accuracy")), decimal(task.get("centered")), count(task.get("examples"))] for name, task in tasks.items()]
        lines += ["CORE by task:", "", *table(["task", "right", "above guessing", "items"], rows), ""]
    for ending, found in stage.sampled.items():
        lines += sampled_table(ending, found)
    lines += draw_stage(base / PLOTS, NAMES[run.stage], run, tasks, stage.chat_tasks)
    if run.stage == "base":
        lines += base_samples(stage)
    return lines


def results_of(stage: Stage) -> list[list[str]]:
    """What the summary says, in words; keys that only some stages have are rows of those."""
    summary, evaluated = stage.run.summary, stage.base_eval

    def seconds(value: object) -> str:
        return DASH if number(value) is None else clock(number(value))

    rows = [["steps", count(stage.run.step)], ["tokens", count(summary.get("tokens"))]]
    optional = {
        "depth": ("depth", count),
        "parameters": ("parameters", count),
        "scaling_parameters": ("parameters that scale", count),
        "base": ("began with", plain),
        "sft": ("began with", plain),
        "task": ("task", plain),
        "data": ("data", plain),
        "conversations": ("conversations", count),
        "epochs": ("epochs", lambda value: decimal(value, 2)),
        "flops": ("FLOPs", short_flops),
        "train_loss": ("training loss, smoothed", decimal),
        "val_bpb": ("validation, bits per byte, at the end", decimal),
        "min_val_bpb": ("validation, bits per byte, at its lowest", decimal),
        "reward": ("reward, smoothed", decimal),
        "core_metric": ("CORE, as the training run measured it", decimal),
        "first_step_seconds": ("first step after", lambda value: f"{decimal(value, 1)} s"),
        "tokens_per_second": ("tokens per second", count),
    }
    rows += [[text, show(summary[key])] for key, (text, show) in optional.items() if summary.get(key) is not None]
    if number(evaluated.get("val_bpb")) is not None:
        tokens = f"{count(evaluated.get('split_tokens'))} tokens each, {evaluated['file']}"
        rows += [
            [f"{name}, bits per byte ({tokens})", decimal(evaluated.get(key))] for name, key in (("training", "train_bpb"), ("validation", "val_bpb"))
        ]
    rows += [[f"pass@{k}, during training", decimal(share)] for k, share in dict_of(summary.get("pass_at")).items()]
    return [*rows, ["training time", seconds(summary.get("seconds"))], ["peak memory", gibibytes(summary.get("peak_memory"))]]


def sampled_table(ending: str, found: dict) -> list[str]:
    """Tasks that were answered several times over, or at a temperature: the share of questions of which one of k answers was right."""
    temperature, answers = re.fullmatch(r"_t(.+)_n(\d+)", ending).groups()
    tasks = {name: dict_of(dict_of(task).get("pass_at")) for name, task in dict_of(found.get("tasks")).items()}
    ks = sorted({k for shares in tasks.values() for k in shares}, key=lambda k: (len(k), k))
    if not ks:
        return []
    rows = [[name, *[decimal(shares.get(k)) for k in ks]] for name, shares in tasks.items()]
    how = f"Sampled at temperature {temperature}, {answers} {'answer' if answers == '1' else 'answers'} to each question ({found['file']}):"
    return [how, "", *table(["task", *[f"pass@{k}" for k in ks]], rows), ""]


def base_samples(stage: Stage) -> list[str]:
    samples = dict_of(stage.run.summary.get("samples")) or dict_of(stage.base_eval.get("samples"))
    if not samples:
        return []
    return [
        "How it goes on after a prompt, greedily:",
        "",
        *table(["prompt", "goes on with"], [[prompt, plain(text)] for prompt, text in samples.items()]),
        "",
    ]


def flat(values: dict, prefix: str = "") -> dict:
    """Nested keys joined with dots; lists of many numbers left out."""
    found = {}
    for key, value in values.items():
        if isinstance(value, dict):
            found |= flat(value, f"{prefix}{key}.")
        elif not (isinstance(value, list) and len(value) > 8):
            found[f"{prefix}{key}"] = value
    return found


def wrapped(pieces: list[str]) -> str:
    """Pieces with dots between them, in lines of a readable width."""
    lines = [""]
    for piece in pieces:
        longer = f"{lines[-1]} · {piece}" if lines[-1] else piece
        if len(longer) > FLAGS_WIDTH and lines[-1]:
            lines.append(piece)
        else:
            lines[-1] = longer
    return "\n".join(lines)


# --- conversations ---------------------------------------------------------------------------------------------------


def conversations(base: Path, stages: dict[str, Stage]) -> list[str]:
    """A few right and a few wrong answers of the last stage that was evaluated, each of another task as far as there are so many."""
    name = next((name for name in reversed(stages) if stages[name].chat_tasks), None)
    if name is None:
        return []
    folder = base / "chat_eval" / stages[name].chat_eval["file"].removesuffix(".json")
    lines = [f"## Sample conversations ({NAMES[name]})", ""]
    examples = {right: first_examples(folder, list(stages[name].chat_tasks), right) for right in (True, False)}
    for right, some in examples.items():
        for task, item in some:
            lines += [f"**{task}, {'right' if right else 'wrong'}**", "", *fenced(conversation(item)), ""]
    return lines if any(examples.values()) else []


def first_examples(folder: Path, tasks: list[str], right: bool) -> list[tuple[str, dict]]:
    """For right answers from the first task on, for wrong ones from the last, so that together they show more tasks."""
    found = []
    for task in tasks if right else reversed(tasks):
        items = read_json(folder / f"{task}.json").get("items")
        for item in map(dict_of, items if isinstance(items, list) else []):
            if item.get("right") and item.get("completions") and bool(item["right"][0]) == right:
                found.append((task, item))
                break
        if len(found) == SHOWN:
            break
    return found


def conversation(item: dict) -> str:
    texts = [str(text).strip() for text in (item.get("question", ""), item["completions"][0], item.get("expected", ""))]
    asked, said, expected = (text if len(text) <= LONGEST else f"{text[:LONGEST]} […]" for text in texts)
    return f"user: {asked}\n\nmodel: {said or '(nothing)'}" + (f"\n\nexpected: {expected}" if said != expected else "")


def main(args: argparse.Namespace) -> None:
    base = get_base_dir()
    if args.command == "reset":
        reset(base)
    elif args.command == "generate":
        generate(base, args.model_tag, args.price_per_hour, Path.cwd())
    else:
        from nanochat.comparing import compare

        print0(*compare(base, args.runs, args.stage, args.out), f"saved to {args.out / 'compare.md'}", sep=os.linesep)


if __name__ == "__main__":
    with friendly_errors():
        main(parse_args())
