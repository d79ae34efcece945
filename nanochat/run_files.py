"""Reading what runs leave behind: config.json, metrics.jsonl, summary.json and the evaluations' files.

Readers never fail: older runs lack files and keys, and a kill cuts a line short. What is missing is None, {} or [], and is shown as a dash.
"""

import json
import math
import re
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np

from nanochat.common import UserError

# stage -> folder of its checkpoints, what scripts.chat_eval calls it, and the key of its summary that names the run it began with
STAGES = {
    "base": ("base_checkpoints", "base", None),
    "chatsft": ("chatsft_checkpoints", "sft", "base"),
    "chatrl": ("chatrl_checkpoints", "rl", "sft"),
}
BEFORE = {"chatsft": "base", "chatrl": "chatsft"}
METRICS_NAMES = ("metrics.jsonl", "train.jsonl")  # the second is how the first was called until 2026-11


class Run(NamedTuple):
    """One stage of one tag."""

    stage: str
    tag: str
    folder: Path
    config: dict
    summary: dict
    meta: dict  # of its last checkpoint
    records: list[dict]  # of metrics.jsonl
    broken: int  # lines of it that cannot be read

    @property
    def step(self) -> int | None:
        """The last step: by the summary, or by the last checkpoint of a run that has none yet."""
        return whole(self.summary.get("steps")) if "steps" in self.summary else whole(self.meta.get("step"))

    @property
    def flags(self) -> dict:
        return dict_of(self.config.get("flags")) or dict_of(self.meta.get("user_config"))


# --- files -----------------------------------------------------------------------------------------------------------


def read_json(path: Path) -> dict:
    try:
        return dict_of(json.loads(path.read_text(encoding="utf-8")))
    except (OSError, ValueError):
        return {}


def read_records(path: Path) -> tuple[list[dict], int]:
    """The lines that are records with a step, and how many are none."""
    try:
        lines = path.read_text(encoding="utf-8", errors="replace").splitlines()
    except OSError:
        return [], 0
    records = []
    for line in filter(str.strip, lines):
        try:
            record = dict_of(json.loads(line))
        except ValueError:
            record = {}
        if number(record.get("step")) is not None:
            records.append(record)
    return records, sum(1 for line in lines if line.strip()) - len(records)


def read_run(folder: Path, stage: str) -> Run | None:
    """None if the folder holds nothing that tells of a run."""
    config, summary = read_json(folder / "config.json"), read_json(folder / "summary.json")
    records, broken = next((read_records(folder / name) for name in METRICS_NAMES if (folder / name).exists()), ([], 0))
    metas = sorted(folder.glob("meta_*.json"))
    meta = read_json(metas[-1]) if metas else {}
    return Run(stage, folder.name, folder, config, summary, meta, records, broken) if config or summary or records or meta else None


def tags_of(base: Path, stage: str) -> list[str]:
    return sorted(folder.name for folder in (base / STAGES[stage][0]).glob("*") if folder.is_dir())


def newest_tag(base: Path, stages: Iterable[str] = tuple(STAGES)) -> str | None:
    """The tag whose summary was written last."""
    found = [path for stage in stages for path in (base / STAGES[stage][0]).glob("*/summary.json")]
    return max(found, key=lambda path: path.stat().st_mtime).parent.name if found else None


# --- which files belong together -------------------------------------------------------------------------------------


def runs_of(base: Path, tag: str) -> tuple[dict[str, Run], list[str]]:
    """The stages of a tag, first to last, and what was left out of them because it is older.

    A later stage says which run it began with, which may have another tag. If that run has been made anew since, the later stage is not its child.
    """
    runs: dict[str, Run] = {}
    name = tag
    for stage in reversed(STAGES):
        if run := read_run(base / STAGES[stage][0] / name, stage):
            runs[stage] = run
            parent = run.summary.get(STAGES[stage][2]) if STAGES[stage][2] else None
            name = parent if isinstance(parent, str) and parent else name
    if not runs:
        known = sorted({other for stage in STAGES for other in tags_of(base, stage)})
        raise UserError(f"there is no run with the tag {tag!r} in {base}: " + (f"there are {', '.join(known)}" if known else "train one first"))
    left_out: list[str] = []
    for stage, before in BEFORE.items():
        if stage in runs and before in runs and (why := _not_a_child(runs[stage], runs[before])):
            left_out.append(f"{runs[stage].folder.relative_to(base)}: {why}")
            for later in list(STAGES)[list(STAGES).index(stage) :]:
                runs.pop(later, None)
    return {stage: runs[stage] for stage in STAGES if stage in runs}, left_out


def _not_a_child(run: Run, parent: Run) -> str:
    """Why a stage did not begin with the run that is there now; "" if nothing speaks against it."""
    began_with = whole(dict_of(run.meta.get(STAGES[run.stage][2])).get("step"))
    asked_for = run.flags.get("model_step") is not None
    if began_with is not None and parent.step is not None and began_with != parent.step and not asked_for:
        return f"it began with step {began_with} of {parent.tag}, which has {parent.step} now"
    saved, parent_saved = saved_at(run), saved_at(parent)
    if saved is not None and parent_saved is not None and saved < parent_saved:
        return f"it is older than the {parent.folder.parent.name}/{parent.tag} that is there now"
    return ""


def saved_at(run: Run) -> float | None:
    """When the model of the last step was written: nothing rewrites it later, as going on with a finished run does with its summary."""
    files = list(run.folder.glob(f"model_{run.step:06d}*")) if run.step is not None else []
    return min(path.stat().st_mtime for path in files) if files else None


def evaluations(base: Path, folder: str, run: Run) -> tuple[dict[str, dict], list[str]]:
    """What base_eval/ or chat_eval/ holds about the last step of a run, by what its name ends with ("" for the plain one), and what was left out."""
    prefix = "" if folder == "base_eval" else f"{STAGES[run.stage][1]}_"
    found, left_out = {}, []
    for path in sorted((base / folder).glob(f"{prefix}{run.tag}_*.json")):
        match = re.fullmatch(re.escape(f"{prefix}{run.tag}_") + r"(\d+)(_t.+_n\d+)?\.json", path.name)
        if not match:  # of another tag, which begins with this one
            continue
        content, saved = read_json(path), saved_at(run)
        if not content:
            left_out.append(f"{folder}/{path.name}: it cannot be read")
        elif run.step is not None and int(match[1]) != run.step:
            left_out.append(f"{folder}/{path.name}: it is about step {int(match[1])}, and the run's last is {run.step}")
        elif saved is not None and path.stat().st_mtime < saved:
            left_out.append(f"{folder}/{path.name}: it is older than the checkpoint")
        else:
            found[match[2] or ""] = {**content, "file": path.name}
    return found, left_out


# --- values ----------------------------------------------------------------------------------------------------------


def dict_of(value: object) -> dict:
    return value if isinstance(value, dict) else {}


def number(value: object) -> float | int | None:
    """A finite number, or None."""
    return value if isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value) else None


def whole(value: object) -> int | None:
    value = number(value)
    return None if value is None else int(value)


def series(run: Run, key: str) -> tuple[np.ndarray, np.ndarray]:
    """Steps and values of a key. Where a step was written twice, the later line counts."""
    values = {record["step"]: record[key] for record in run.records if number(record.get(key)) is not None}
    steps = sorted(values)
    return np.array(steps, dtype=float), np.array([values[step] for step in steps], dtype=float)


def seconds_at(run: Run, steps: Sequence[float]) -> np.ndarray:
    """Seconds of training until after each of these steps. Lines that are lost count as if they had taken as long as the next one."""
    known, took = series(run, "seconds")
    if not len(known):
        return np.full(len(steps), np.nan)
    return np.interp(steps, [0, *known], [0, *np.cumsum(took * np.diff(known, prepend=0))])


def flops_at(run: Run, steps: Sequence[float]) -> np.ndarray:
    per_step = flops_per_step(run)
    return np.asarray(steps, dtype=float) * (np.nan if per_step is None else per_step)


def flops_per_step(run: Run) -> float | None:
    flops, steps = number(run.summary.get("flops")), number(run.summary.get("steps"))
    if flops and steps:
        return flops / steps
    plan = dict_of(run.config.get("plan"))
    per_token, batch = number(plan.get("flops_per_token")), number(plan.get("total_batch_size"))
    return per_token * batch if per_token and batch else None
