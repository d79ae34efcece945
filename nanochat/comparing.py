"""Two or more runs on the same axes: who is ahead at equal step, equal time and equal FLOPs, and whether the difference is more than noise.

A group is one run or several seeds of it. Where groups have several seeds, the difference of their means is set against a 95 % interval after Welch
(his degrees of freedom, Student's quantile). Where there is one seed each, what another seed would have given is unknown, and an estimate stands in
for it, the smaller of two. One is how exactly the smoothed losses tell where the runs are, by their jumps from step to step. The other is for runs
that have seen the same batches in the same order, as seeds have: most jumps come from the batches and are the same in both, and seeds were found to
differ by two to five times what remains of them; five is taken. A difference below three times the estimate is called a tie, and one above it a
difference, with a warning.

That it is five times is an assumption, from 29 runs of depth 1 and 2 with 60 to 400 steps that differ in nothing but the seed. Their bits per byte
had standard deviations of 0.3 to 0.6 %. The five was chosen on these same runs, so this is no test of it: of their 132 pairs none is called different
at equal step, and 2 are by the training loss. A matrix learning rate 100 times too large is behind in all of 113 comparisons, one 100 times too small
in all of the 51 where it cost 10 % and in 14 of the 72 where it cost 1 %. For such differences take three seeds each.
"""

import math
from pathlib import Path
from typing import NamedTuple

import numpy as np

from nanochat.common import UserError, write_text
from nanochat.markdown import DASH, chart_link, count, decimal, short_flops, table
from nanochat.run_files import STAGES, Run, dict_of, flops_at, newest_tag, number, read_run, seconds_at, series, tags_of
from nanochat.train_log import clock

PLOTS = "compare_plots"
SMOOTH_OVER = 19  # steps that the smoothed loss is worth: an exponential mean with beta has the variance of (1 + beta) / (1 - beta) values, beta 0.9
WINDOW, FEWEST = 200, 8  # steps before the comparison that scatter is measured on, and how many it takes
CAREFUL = 3  # standard deviations of an estimate that a difference has to exceed
SEEDS = 5  # two seeds are taken to differ by so many times what their curves jump against each other
OF_SPEED = 0.01  # standard deviation that is assumed at least between the speeds of two runs of the same thing
UNLIKE = 1.05  # times as long as another's have the steps of a run to be for a note
BLOCKS = 10  # parts of a run whose speeds are compared
NORMAL_975, NORMAL_75 = 1.959964, 0.67449
STUDENT_975 = (12.7062, 4.3027, 3.1824, 2.7764, 2.5706, 2.4469, 2.3646, 2.3060, 2.2622, 2.2281)  # quantiles for 1 to 10 degrees of freedom
# Flags that say nothing about what a run is.
SAME_IN_ALL = frozenset({"run", "model_tag", "output_tag", "resume", "resume_from_step", "overwrite", "dry_run", "keep_last"})

ABOUT_SEVERAL = """\
± after a value is the standard deviation over the seeds of a group. A difference of means is a tie if its 95 % t-interval (Welch) holds 0. Where one
of two groups has a single seed, the spread of the other is taken for both. One such comparison in twenty calls noise a difference."""
ABOUT_SINGLE = """\
**The noise between seeds is unknown where a group has a single one.** An estimate stands in for it: how exactly the smoothed losses (or rewards) tell
where the runs are, from their jumps over the last steps; or, if that is less, five times how much the two curves jump against each other, which is
little where they have seen the same batches. At equal time comes in how much the speed changes in the course of a run, 1 % at least. A difference
within three times that is called a tie: it may be real, but single runs cannot show it. One a little larger may still be noise. Several seeds tell:
`python -m nanochat.report compare a1,a2,a3 b1,b2,b3`."""


class Metric(NamedTuple):
    key: str
    name: str
    unit: str
    lower_is_better: bool


class Group(NamedTuple):
    label: str
    runs: list[Run]


class Value(NamedTuple):
    """What a group has reached at a place on an axis."""

    mean: float
    spread: float | None  # standard deviation over its seeds; None for a single one
    seeds: int


class Difference(NamedTuple):
    value: float  # of the second group's mean from the first one's
    margin: float  # a difference within ± this is a tie
    why: str

    @property
    def clear(self) -> bool:
        return abs(self.value) > self.margin


# Of these the first that all runs of a stage have decides; the others are shown as well.
METRICS = {
    "base": (Metric("val_bpb", "validation", "bits per byte", True), Metric("smooth_loss", "smoothed training loss", "nats per token", True)),
    "chatsft": (Metric("val_bpb", "validation", "bits per byte", True), Metric("smooth_loss", "smoothed training loss", "nats per token", True)),
    "chatrl": (Metric("smooth_reward", "smoothed reward", "per answer", False),),
}
AXES = {"step": "step", "time": "training time in seconds", "FLOPs": "FLOPs"}


# --- which runs ------------------------------------------------------------------------------------------------------


def find_groups(base: Path, names: list[str], stage: str) -> list[Group]:
    """Each name is a tag or a folder, or several of them with commas between: seeds of one run."""
    groups = []
    for name in names:
        seeds = [seed.strip() for seed in name.split(",")]
        if not all(seeds):
            raise UserError(f"{name!r}: there is a comma too much; seeds are written a1,a2")
        groups.append(Group(", ".join(seeds), [_find_run(base, seed, stage) for seed in seeds]))
    folders: set[Path] = set()
    for run in [run for group in groups for run in group.runs]:
        if run.folder.resolve() in folders:
            raise UserError(f"{run.folder} is named twice: give every run once")
        folders.add(run.folder.resolve())
    return groups


def _find_run(base: Path, name: str, stage: str) -> Run:
    folder, path = STAGES[stage][0], Path(name).expanduser()
    if "/" not in name and name not in (".", "..") and (base / folder / name).is_dir():
        path = base / folder / name
    elif (path / folder).is_dir():  # a base dir
        tag = newest_tag(path, [stage]) or next(iter(tags_of(path, stage)), "")
        path = path / folder / tag
    if not path.is_dir():
        known = ", ".join(tags_of(base, stage)) or "none yet"
        raise UserError(f"{name!r} is neither a tag in {base / folder} (there: {known}) nor a folder")
    run = read_run(path.resolve(), stage)
    if run is None:
        raise UserError(f"{path} holds no run: neither metrics.jsonl nor summary.json nor a checkpoint. Give a tag, or a folder of checkpoints")
    if not any(len(points(run, metric)[0]) for metric in METRICS[stage]):
        keys = " or ".join(metric.key for metric in METRICS[stage])
        raise UserError(f"{path} cannot be compared: its metrics.jsonl has no {keys} (--stage {stage}; other stages: {', '.join(STAGES)})")
    return run


def points(run: Run, metric: Metric) -> tuple[np.ndarray, np.ndarray]:
    """Steps and values, without those before the first step: what an untrained model does says nothing, and flattens a chart."""
    steps, values = series(run, metric.key)
    return steps[steps > 0], values[steps > 0]


def shared_metrics(groups: list[Group], stage: str) -> list[Metric]:
    found = [metric for metric in METRICS[stage] if all(len(points(run, metric)[0]) for group in groups for run in group.runs)]
    if not found:
        raise UserError(f"these runs have nothing in common to compare by: every one needs {' or '.join(metric.key for metric in METRICS[stage])}")
    return found


# --- values at equal places ------------------------------------------------------------------------------------------


def along(run: Run, axis: str, steps) -> np.ndarray:
    """Where these steps are on an axis; NaN where that is not known."""
    return {"step": lambda: np.asarray(steps, dtype=float), "time": lambda: seconds_at(run, steps), "FLOPs": lambda: flops_at(run, steps)}[axis]()


def largest_common(groups: list[Group], metric: Metric, axis: str) -> float | None:
    ends = [along(run, axis, points(run, metric)[0])[-1] for group in groups for run in group.runs]
    return float(min(ends)) if all(map(math.isfinite, ends)) else None


def value_at(run: Run, metric: Metric, axis: str, place: float) -> float:
    """The metric there, interpolated. Between two validations, which may be far apart, it follows the smoothed loss: what is interpolated is their
    ratio, since it changes slowly. A straight line would lie far above a curve that bends."""
    steps, values = points(run, metric)
    places = along(run, axis, steps)
    guide_steps, guide = series(run, "smooth_loss")
    if metric.key != "val_bpb" or len(guide) < FEWEST or place in places:
        return float(np.interp(place, places, values, left=np.nan))
    guide_places = along(run, axis, guide_steps)
    ratio = np.interp(place, places, values / np.interp(places, guide_places, guide), left=np.nan)
    return float(ratio * np.interp(place, guide_places, guide))


def noise_between(first: Group, second: Group, metric: Metric, axis: str, place: float) -> float:
    """What stands in for the standard deviation of the difference of two single runs. Infinite if too few of their steps are known."""
    pairs = [_noise_of_pair((one, other), metric, axis, place) for one in first.runs for other in second.runs]
    return math.sqrt(float(np.mean(np.square(pairs))))


def _noise_of_pair(pair: tuple[Run, Run], metric: Metric, axis: str, place: float) -> float:
    values = [value_at(run, metric, axis, place) for run in pair]
    (steps, one), (other_steps, other) = (_relative(run, "reward" if metric.key == "smooth_reward" else "loss", axis, place) for run in pair)
    if min(len(one), len(other)) < FEWEST:
        return math.inf
    relative = math.hypot(_jumps(one), _jumps(other))
    _, here, there = np.intersect1d(steps, other_steps, return_indices=True)
    if steps[-1] == other_steps[-1] and len(here) >= FEWEST:  # else the batches that they saw last are not the same
        relative = min(relative, SEEDS * _jumps(one[here] - other[there]))
    late = 0.0
    if axis == "time":  # a machine that is a little slower is a little further back
        back = [value_at(run, metric, axis, place * (1 - speed_scatter(run))) - value for run, value in zip(pair, values, strict=True)]
        late = math.hypot(*[value for value in back if math.isfinite(value)], 0.0)
    return math.hypot(relative * float(np.mean(np.abs(values))), late)


def _relative(run: Run, key: str, axis: str, place: float) -> tuple[np.ndarray, np.ndarray]:
    """The last steps before a place, and a series there, relative to its mean."""
    steps, values = series(run, key)
    known = along(run, axis, steps) <= place
    steps, values = steps[known][-WINDOW:], values[known][-WINDOW:]
    return steps, values / max(abs(values.mean()), 1e-12) if len(values) else values


def _jumps(values: np.ndarray) -> float:
    """How much a series jumps, in an exponential mean of it. Second differences do not see its slope, and their median neither the steep beginning
    of a run nor a spike."""
    bends = values[2:] - 2 * values[1:-1] + values[:-2]  # of independent jumps with variance v these have 6 v
    return float(np.median(np.abs(bends))) / NORMAL_75 / math.sqrt(6 * SMOOTH_OVER)


def speed_scatter(run: Run) -> float:
    """How exactly the speed of the parts of a run tells the time of the whole: the standard error of their mean, relative to it."""
    _, took = series(run, "seconds")
    if len(took) < 2 * BLOCKS:
        return OF_SPEED
    blocks = [np.median(block) for block in np.array_split(took, BLOCKS)]
    return min(0.5, max(OF_SPEED, float(np.std(blocks, ddof=1) / np.mean(blocks)) / math.sqrt(BLOCKS)))


def group_value(group: Group, metric: Metric, axis: str, place: float) -> Value:
    values = [value_at(run, metric, axis, place) for run in group.runs]
    return Value(float(np.mean(values)), float(np.std(values, ddof=1)) if len(values) > 1 else None, len(values))


# --- noise -----------------------------------------------------------------------------------------------------------


def student_975(freedom: float) -> float:
    """Student's quantile for 95 % on both sides. With two seeds on each side Welch's degrees of freedom are between 1 and 2, where it falls from 12.7
    to 4.3, so it is not rounded: between whole ones its logarithm is about linear in their inverse."""
    n = max(1.0, freedom)
    if n < len(STUDENT_975):
        low, high = (math.log(STUDENT_975[whole - 1]) for whole in (math.floor(n), math.floor(n) + 1))
        share = (1 / math.floor(n) - 1 / n) / (1 / math.floor(n) - 1 / (math.floor(n) + 1))
        return math.exp(low + share * (high - low))
    z = NORMAL_975  # the series of Abramowitz and Stegun, 26.7.5: off by less than 0.0002 from here on
    return z + (z**3 + z) / (4 * n) + (5 * z**5 + 16 * z**3 + 3 * z) / (96 * n**2) + (3 * z**7 + 19 * z**5 + 17 * z**3 - 15 * z) / (384 * n**3)


def difference(first: Value, second: Value, noise: float) -> Difference:
    """The second group's mean from the first one's, and what of that may be noise; `noise` is what is taken for single runs."""
    value = second.mean - first.mean
    if not (first.spread or second.spread):  # none, or all seeds gave the same to the last bit, which says nothing about another one
        margin = CAREFUL * noise * math.sqrt((1 / first.seeds + 1 / second.seeds) / 2)
        return Difference(value, margin, "noise unknown: estimate" if math.isfinite(margin) else "noise unknown: too few steps are logged")
    if first.spread is None or second.spread is None:
        (spread, seeds) = (second.spread, second.seeds) if first.spread is None else (first.spread, first.seeds)
        margin = student_975(seeds - 1) * spread * math.sqrt(1 / first.seeds + 1 / second.seeds)
        return Difference(value, margin, f"95 % interval, the spread of {seeds} seeds taken for both")
    a, b = first.spread**2 / first.seeds, second.spread**2 / second.seeds
    freedom = (a + b) ** 2 / (a**2 / (first.seeds - 1) + b**2 / (second.seeds - 1))
    return Difference(value, student_975(freedom) * math.sqrt(a + b), "95 % interval")


def verdict(labels: list[str], values: list[Value], noises: list[list[float]], metric: Metric) -> str:
    """Who is ahead: the best group, with those that are not clearly behind it. `noises` has a row and a column for each group."""
    if any(math.isnan(value.mean) for value in values):
        return DASH
    best = (min if metric.lower_is_better else max)(range(len(values)), key=lambda i: values[i].mean)
    level = [i for i in range(len(values)) if i == best or not difference(values[best], values[i], noises[best][i]).clear]
    behind = [i for i in range(len(values)) if i not in level]
    if not behind:
        return "tie"
    names = [" and ".join(labels[i] for i in some) for some in (level, behind)]
    return f"{names[0]} ahead" if len(labels) == 2 else f"{names[0]} ahead of {names[1]}"


# --- the page --------------------------------------------------------------------------------------------------------


def letters(groups: list[Group]) -> list[str]:
    return [chr(ord("A") + i) if i < 26 else f"G{i + 1}" for i in range(len(groups))]


def show_place(axis: str, place: float) -> str:
    return {"step": lambda: f"step {place:,.0f}", "time": lambda: f"training time {clock(place)}", "FLOPs": lambda: f"{short_flops(place)} FLOPs"}[
        axis
    ]()


def compare(base: Path, names: list[str], stage: str, out: Path) -> list[str]:
    """Write compare.md and its charts; the lines that matter come back, for the terminal."""
    groups = find_groups(base, names, stage)
    metrics = shared_metrics(groups, stage)
    labels = letters(groups)
    said = _unfinished(groups, labels, stage) + _other_plans(groups) + _other_speeds(groups, labels)
    page = ["# nanochat: runs compared", "", *_about(groups, labels, stage), "", *[line for note in said for line in (f"**{note}**", "")]]
    for metric in metrics:
        rows, pairs = _compare_by(groups, labels, metric)
        page += [f"## By {metric.name} ({metric.unit}; {'lower' if metric.lower_is_better else 'higher'} is better)", ""]
        page += table(["at equal (the largest common value)", *labels, "who is ahead"], rows)
        page += ["", *table(["difference", "at equal", "value", "a tie within", "so it is", "by"], pairs), ""]
        said += [f"{metric.name} at {row[0]}: " + ", ".join(map(" ".join, zip(labels, row[1:-1], strict=True))) + f": {row[-1]}" for row in rows]
    page += ["## How noise is judged", "", *_about_noise(groups), ""]
    page += ["## Curves", "", *draw(groups, labels, metrics, stage, out)]
    write_text(out / "compare.md", "\n".join(page) + "\n")
    return [*[f"{label}: {group.label}" for label, group in zip(labels, groups, strict=True)], *said]


def _compare_by(groups: list[Group], labels: list[str], metric: Metric) -> tuple[list[list[str]], list[list[str]]]:
    """Rows of the two tables: values and who is ahead; differences of every pair."""
    rows, pairs = [], []
    for axis in AXES:
        place = largest_common(groups, metric, axis)
        if place is None:
            rows.append([f"{axis} (not known of every run)", *[DASH] * len(groups), DASH])
            continue
        values = [group_value(group, metric, axis, place) for group in groups]
        noises = [[noise_between(group, other, metric, axis, place) for other in groups] for group in groups]
        shown = [decimal(value.mean) + (f" ± {decimal(value.spread)}" if value.spread is not None else "") for value in values]
        rows.append([show_place(axis, place), *shown, verdict(labels, values, noises, metric)])
        for i in range(len(groups)):
            for j in range(i + 1, len(groups)):
                gap = difference(values[i], values[j], noises[i][j])
                if math.isfinite(gap.value):
                    ahead = labels[j] if (gap.value < 0) == metric.lower_is_better else labels[i]
                    margin = f"±{gap.margin:.4f}" if math.isfinite(gap.margin) else DASH
                    pairs.append([f"{labels[j]} - {labels[i]}", axis, f"{gap.value + 0.0:+.4f}".replace("-0.0000", "+0.0000"), margin,
                                  f"{ahead} ahead" if gap.clear else "a tie", gap.why])  # fmt: skip
    return rows, pairs


def _about(groups: list[Group], labels: list[str], stage: str) -> list[str]:
    """The runs, and what sets them apart."""
    rows = []
    for label, group in zip(labels, groups, strict=True):
        for run in group.runs:
            summary, finished = run.summary, {True: "yes", False: "no"}.get(run.summary.get("finished"), DASH)
            seconds, rate = number(summary.get("seconds")), number(summary.get("tokens_per_second"))
            rows.append([label, f"{run.tag} ({run.folder})", count(summary.get("depth")), count(summary.get("parameters")), count(run.step), finished,
                         DASH if seconds is None else clock(seconds), short_flops(summary.get("flops")), decimal(summary.get("val_bpb")),
                         decimal(summary.get("core_metric")), count(rate and round(rate))])  # fmt: skip
    head = ["", "run", "depth", "parameters", "steps", "finished", "training time", "FLOPs", "val bpb", "CORE", "tokens/s"]
    return [f"Stage: {stage}.", "", *table(head, rows), "", *_differing_flags(groups, labels), *_about_data(groups)]


def _unfinished(groups: list[Group], labels: list[str], stage: str) -> list[str]:
    """Runs that broke off: up to there they may look like all others."""
    notes = []
    for label, group in zip(labels, groups, strict=True):
        for run in group.runs:
            if run.summary.get("finished") is not True:
                last = max(float(points(run, metric)[0][-1]) for metric in METRICS[stage] if len(points(run, metric)[0]))
                notes.append(f"Note: {run.tag} of {label} has not finished. Its last logged step is {last:,.0f}, and nothing is compared beyond.")
    return notes


def _other_plans(groups: list[Group]) -> list[str]:
    """A learning rate that has fallen already is an advantage that the other run is still to have."""
    steps = [number(dict_of(run.config.get("plan")).get("num_iterations")) for group in groups for run in group.runs]
    if None in steps or len(set(steps)) < 2:
        return []
    planned = ", ".join(f"{count:,.0f}" for count in sorted(set(steps)))
    return [f"Note: the runs are planned for different numbers of steps ({planned}). Where they are compared, the learning rates of the shorter ones "
            f"have fallen further, which lowers the loss."]  # fmt: skip


def _other_speeds(groups: list[Group], labels: list[str]) -> list[str]:
    """Who is ahead at equal time may be who had the machine to himself."""
    seconds = {}
    for label, group in zip(labels, groups, strict=True):
        took = [np.median(found) for run in group.runs if len(found := series(run, "seconds")[1])]
        if took:
            seconds[label] = float(np.mean(took))
    if len(seconds) < 2 or min(seconds.values()) <= 0 or max(seconds.values()) < UNLIKE * min(seconds.values()):
        return []
    slow, fast = max(seconds, key=seconds.__getitem__), min(seconds, key=seconds.__getitem__)
    return [f"Note: a step of {slow} took {seconds[slow] / seconds[fast]:.2f} times as long as one of {fast}. If that is the machine's doing and not "
            f"the run's, do not judge by equal time."]  # fmt: skip


def _about_data(groups: list[Group]) -> list[str]:
    names = dict.fromkeys(run.flags["dataset"] for group in groups for run in group.runs if isinstance(run.flags.get("dataset"), str))
    if len(names) < 2:
        return []
    return ["", f"**They were trained and validated on different data** ({', '.join(names)}): their values say little about each other."]


def _differing_flags(groups: list[Group], labels: list[str]) -> list[str]:
    runs = [(label, run) for label, group in zip(labels, groups, strict=True) for run in group.runs]
    if unknown := [run.tag for _, run in runs if not run.flags]:
        return [f"What their settings differ in is not known: {', '.join(unknown)} has no config.json."]
    names = list(dict.fromkeys(name for _, run in runs for name in run.flags if name not in SAME_IN_ALL))
    differing = [name for name in names if len({repr(run.flags.get(name)) for _, run in runs}) > 1]
    if not differing:
        return ["Their settings are the same."]
    rows = [[name.replace("_", "-"), *[_settings(group, name) for group in groups]] for name in differing]
    return ["What their settings differ in:", "", *table(["flag", *labels], rows)]


def _settings(group: Group, name: str) -> str:
    return ", ".join(dict.fromkeys(str(run.flags.get(name, DASH)) for run in group.runs))


def _about_noise(groups: list[Group]) -> list[str]:
    several, single = (any((len(group.runs) > 1) == wanted for group in groups) for wanted in (True, False))
    lines = ["Values between two steps are interpolated; between two validations they follow the smoothed loss.",
             "Equal time compares machines, and what else they had to do, as much as runs."]  # fmt: skip
    return [*lines, *(["", ABOUT_SEVERAL] if several else []), *(["", ABOUT_SINGLE] if single else [])]


def draw(groups: list[Group], labels: list[str], metrics: list[Metric], stage: str, out: Path) -> list[str]:
    """A chart for each metric and axis, then learning rates and speeds; links to them come back. Seeds of a group have one colour."""
    from nanochat.plots import Line, line_chart

    links: list[str] = []

    def chart(file: str, lines: list, title: str, x_label: str, y_label: str, log: bool) -> None:
        line_chart(out / PLOTS / file, lines, title, x_label, y_label, log_y=log)
        links.extend(chart_link(f"{PLOTS}/{file}", title))

    for metric in metrics:
        for axis, x_label in AXES.items():
            if largest_common(groups, metric, axis) is None:
                continue
            lines = []
            for name, run in named(groups, labels):
                steps, y = points(run, metric)
                x = along(run, axis, steps)
                lines += [Line(name, x, y)] + ([Line(name, x, y, "dots")] if metric.key == "val_bpb" else [])
            chart(f"{stage}_{metric.key}_{axis.lower()}.png", lines, f"{metric.name[0].upper()}{metric.name[1:]} against {axis}", x_label,
                  metric.unit, metric.lower_is_better)  # fmt: skip
    for key, title, unit in (("lr", "Learning rate", "share of the full rate"), ("tokens_per_second", "Throughput", "tokens per second")):
        lines = [Line(name, *series(run, key)) for name, run in named(groups, labels)]
        if any(len(line.x) for line in lines):
            chart(f"{stage}_{key}.png", lines, title, "step", unit, False)
    return links


def named(groups: list[Group], labels: list[str]) -> list[tuple[str, Run]]:
    """Every run with its group's name for a legend."""
    return [(f"{label}: {group.label if len(group.label) <= 28 else group.label[:25] + '...'}", run)
            for label, group in zip(labels, groups, strict=True) for run in group.runs]  # fmt: skip
