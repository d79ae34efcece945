"""What a series of runs says about scaling: how large a model and how much text are best for a given number of FLOPs.

    python -m dev.scaling_analysis collect scaling_laws     # <base dir>/scaling_laws/results.csv, from the runs' summary.json
    python -m dev.scaling_analysis fit scaling_laws         # from that: scaling.md and plots beside it
    python -m dev.scaling_analysis finished d10 d12 || echo "not yet"     # status 0 if these runs are finished
    python -m dev.scaling_analysis check scaling_laws --vocab-size 32768     # status 0 if the tokenizer and the runs so far have that vocabulary

runs/scaling_laws.sh and runs/miniseries.sh make such series. Their model tags are <series>_c<FLOPs>_d<depth> and <series>_r<ratio>_d<depth>, with
a<aspect ratio> behind that where the recipe was given some.

The method: for each FLOP budget, a parabola of the bits per byte in the logarithm of the scaling parameters (matrices and head, those that
--target-param-data-ratio counts). Its lowest point is the best size N; the tokens D are what the budget buys at that size, by the FLOPs per token
of the runs. Over the budgets, N ∝ C^a and D ∝ C^b are straight lines in logarithms. A parabola is the shape of such a curve near its lowest point
alone, so runs near it count more. What bias remains does not shrink with more runs: from losses of ten known laws of two forms (a sum of powers;
Kaplan's, arXiv 2001.08361) and the sizes of runs/scaling_laws.sh, the exponents come back within 0.02 (in the mean 0.008; were all runs to count the
same, within 0.03 and 0.015). Where C = 6ND does not hold, since attention costs FLOPs without having parameters, a and b do not sum to 1.

To fit all runs at once with L = E + A/N^p + B/D^q (arXiv 2203.15556, approach 3) finds the exponents of that law to three digits, and those of
Kaplan's wrong by 0.1. Which of them nature keeps to is not known beforehand, so it is not done here.

A budget whose curve is not known on both sides of its lowest point has none: where the smallest or largest model is the best, where the parabola puts
the lowest point beside them, and where it rises to one side by no more than twice the scatter of the runs about it.
"""

import argparse
import csv
import io
import json
import math
import re
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np

from nanochat.common import ArgumentParser, UserError, add_dataset_argument, check_name, friendly_errors, get_base_dir, write_text

CSV_NAME, TABLE_NAME = "results.csv", "scaling.md"
DRAWS = 1000  # of the bootstrap
FEWEST_SIZES = 3  # that a parabola needs
NEAR = 0.8  # of log N: at this distance from the lowest point a run counts 0.6, at twice of it 0.14
ROUNDS = 8  # of fitting with weights about the lowest point of the round before
CLEAR = 2  # standard deviations of the runs' scatter that the curve has to rise to both sides


class Run(NamedTuple):
    """A finished run; the columns of the CSV. None: its summary does not say."""

    tag: str
    depth: int | None = None
    flops_budget: float | None = None
    scaling_parameters: int | None = None
    parameters: int | None = None
    tokens: int | None = None
    flops: float | None = None
    steps: int | None = None
    val_bpb: float | None = None
    core_metric: float | None = None
    seconds: float | None = None
    vocab_size: int | None = None


class Optimum(NamedTuple):
    """What one budget says. The laws are drawn through those without trouble."""

    budget: float
    runs: int
    sizes: tuple[float, float]  # the smallest and the largest model
    curve: np.ndarray | None = None  # bits per byte in log N: the parabola
    parameters: float = math.nan
    tokens: float = math.nan
    bpb: float = math.nan
    trouble: str = ""


class Law(NamedTuple):
    """value = exp(offset) · C^exponent"""

    exponent: float
    offset: float


class Laws(NamedTuple):
    parameters: Law | None  # None: fewer than two budgets
    tokens: Law | None
    ratio: float  # tokens per parameter: the geometric mean over the budgets; NaN: no budget
    drift: float  # its exponent in C


class Spread(NamedTuple):
    """One standard deviation each, by bootstrap."""

    parameters: float
    tokens: float
    ratio: float  # of its logarithm
    drift: float
    scatter: float  # of the runs about their parabolas, in bits per byte
    usable: float  # share of the draws in which every budget kept its lowest point


def parse_args() -> argparse.Namespace:
    parser = ArgumentParser(description="Scaling laws from the results of many runs")
    commands = parser.add_subparsers(dest="command", required=True, parser_class=ArgumentParser)
    collect = commands.add_parser("collect", help="summaries of the runs → results.csv")
    collect.add_argument("series", help="name of the series, or the folder to write into")
    collect.add_argument("tags", nargs="*", help="model tags of the runs; none: all whose tags begin with the series' name")
    fit = commands.add_parser("fit", help="results.csv → table and plots")
    fit.add_argument("series", help="name of the series, its folder, or a CSV")
    finished = commands.add_parser("finished", help="status 0 if all of these runs are finished")
    finished.add_argument("tags", nargs="+", help="model tags")
    check = commands.add_parser("check", help="status 0 if a series can go on with the tokenizer that is there")
    check.add_argument("series", help="name of the series")
    check.add_argument("--vocab-size", type=int, required=True, help="how many tokens its runs are to have")
    add_dataset_argument(check)
    return parser.parse_args()


def main(args: argparse.Namespace) -> int:
    if args.command == "finished":
        return 0 if all(read_summary(runs_dir() / tag).get("finished") is True for tag in args.tags) else 1
    if args.command == "check":
        check_series(args.series, args.dataset, args.vocab_size)
        return 0
    if args.command == "collect":
        folder = series_dir(args.series)
        collect_runs(folder, args.tags)
        return 0
    path = Path(args.series) if args.series.endswith(".csv") else series_dir(args.series) / CSV_NAME
    runs = read_csv(path)
    check_vocabularies(runs)
    text, optima, laws = analyse(runs, path.parent.resolve().name)
    write_text(path.parent / TABLE_NAME, text)
    plots = draw_plots(path.parent, runs, optima, laws)
    print(text)
    print(f"in {path.parent}: {', '.join([TABLE_NAME, *plots])}")
    return 0


# --- collecting ------------------------------------------------------------------------------------------------------


def runs_dir() -> Path:
    return get_base_dir() / "base_checkpoints"


def series_dir(series: str) -> Path:
    """A name is a folder of the base dir; what looks like a path is one."""
    if "/" in series or series in (".", ".."):
        return Path(series)
    return get_base_dir() / check_name("series", series)


def tags_of(series: str) -> list[str]:
    """The runs that the recipes made for this series."""
    pattern = re.compile(re.escape(series) + r"_[cr]\d[\d.e]*_d\d+(a\d+)?")
    return sorted((path.name for path in runs_dir().glob(f"{series}_*") if pattern.fullmatch(path.name)), key=_by_number)


def _by_number(tag: str) -> tuple:
    """In the order of budgets, depths and widths: d8 before d10, 9e17 before 1e18."""
    head, size, shape = tag.rsplit("_", 2)
    depth, _, aspect = shape[1:].partition("a")
    return head, size[0], _float(size[1:]), int(depth), int(aspect or 0)


def budget_of(tag: str) -> float | None:
    """The FLOPs that a tag says were to be spent; what was spent is a little more or less, in whole steps."""
    match = re.search(r"_c(\d[\d.e]*)_d\d+(a\d+)?$", tag)
    return _float(match[1]) if match else None


def _float(text: str) -> float | None:
    try:
        return float(text)
    except ValueError:
        return None


def read_summary(directory: Path) -> dict:
    """Empty where there is none: a run that was interrupted has none yet."""
    path = directory / "summary.json"
    try:
        summary = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        return {}
    except (OSError, ValueError) as error:
        print(f"warning: {path} cannot be read ({error}); the run counts as not finished", file=sys.stderr)
        return {}
    return summary if isinstance(summary, dict) else {}


def collect_runs(folder: Path, tags: Sequence[str]) -> Path:
    """Write results.csv anew, a row for each finished run."""
    series = folder.resolve().name
    tags = [check_name("model tag", tag) for tag in tags] or tags_of(series)
    summaries = {tag: read_summary(runs_dir() / tag) for tag in tags}
    runs = [run_of(tag, summary) for tag, summary in summaries.items() if summary.get("finished") is True]
    waiting = [tag for tag, summary in summaries.items() if summary.get("finished") is not True]
    if not runs:
        what = f"none of {', '.join(waiting)} is finished" if waiting else f"there are no runs {series}_c…_d… or {series}_r…_d…"
        raise UserError(f"nothing to collect: {what} in {runs_dir()}; run runs/scaling_laws.sh or runs/miniseries.sh, or name the tags")
    check_vocabularies(runs)
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(Run._fields)
    writer.writerows(["" if value is None else value for value in run] for run in runs)
    write_text(folder / CSV_NAME, text.getvalue())
    print(f"{len(runs)} finished runs are in {folder / CSV_NAME}" + (f"; not finished: {', '.join(waiting)}" if waiting else ""))
    return folder / CSV_NAME


def run_of(tag: str, summary: dict) -> Run:
    known = {name: value for name in Run._fields if isinstance(value := summary.get(name), int | float) and math.isfinite(value)}
    if "scaling_parameters" not in known:
        known["scaling_parameters"] = _count_scaling_parameters(runs_dir() / tag, summary)
    return Run(**{**known, "tag": tag, "flops_budget": budget_of(tag), "vocab_size": vocabulary_of(runs_dir() / tag)})


def _count_scaling_parameters(directory: Path, summary: dict) -> int | None:
    """For summaries that do not say: from the model's configuration, which stands in the meta of its last checkpoint."""
    from nanochat.scaling import param_counts, scaling_params

    try:
        config = json.loads((directory / f"meta_{summary['steps']:06d}.json").read_text(encoding="utf-8"))["model_config"]
        names = ("n_layer", "n_embd", "n_head", "n_kv_head", "vocab_size")
        return scaling_params(param_counts(*(config[name] for name in names)))
    except (OSError, ValueError, KeyError, TypeError):
        return None


# --- one vocabulary --------------------------------------------------------------------------------------------------


def vocabulary_of(directory: Path) -> int | None:
    """Of a run, by its config.json. None: it does not say."""
    try:
        return int(json.loads((directory / "config.json").read_text(encoding="utf-8"))["plan"]["vocab_size"])
    except (OSError, ValueError, KeyError, TypeError):
        return None


def check_vocabularies(runs: Sequence[Run]) -> None:
    """The vocabulary decides what a token is, and how many scaling parameters a model of some width has."""
    having = {run.vocab_size: run.tag for run in reversed(runs) if run.vocab_size is not None}
    if len(having) > 1:
        found = ", ".join(f"{tag} has {size:,} tokens" for size, tag in sorted(having.items()))
        raise UserError(f"these runs have different vocabularies and do not compare ({found}): collect those of one vocabulary by their tags, "
                        f"or delete the others")  # fmt: skip


def check_series(series: str, dataset: str, vocab_size: int) -> None:
    """Before anything is trained."""
    from nanochat.tokenizer import get_tokenizer, tokenizer_dir

    if tokenizer_dir(dataset).exists() and (there := get_tokenizer(dataset).get_vocab_size()) != vocab_size:
        raise UserError(f"the tokenizer in {tokenizer_dir(dataset)} has {there:,} tokens, and this series is to have {vocab_size:,}: set "
                        f"VOCAB_SIZE={there} to take it (other results come out than the recipe states), or another NANOCHAT_BASE_DIR")  # fmt: skip
    for tag in tags_of(check_name("series", series)):
        if (size := vocabulary_of(runs_dir() / tag)) not in (None, vocab_size):
            raise UserError(f"{runs_dir() / tag} has a vocabulary of {size:,} tokens, and this series is to have {vocab_size:,}: set SERIES to "
                            f"another name, or VOCAB_SIZE={size}, or delete the runs of the old one")  # fmt: skip


# --- reading ---------------------------------------------------------------------------------------------------------


def read_csv(path: Path) -> list[Run]:
    try:
        text = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        reason = "there is no such file" if isinstance(error, FileNotFoundError) else str(error)
        raise UserError(f"{path}: {reason}; `python -m dev.scaling_analysis collect SERIES` writes one") from None
    reader = csv.DictReader(io.StringIO(text))
    missing = [name for name in Run._fields if name not in (reader.fieldnames or [])]
    if missing:
        raise UserError(f"{path} has no column {', '.join(missing)}; `python -m dev.scaling_analysis collect SERIES` writes such a file")
    runs = [_read_row(row, f"{path} line {reader.line_num}") for row in reader]
    if not runs:
        raise UserError(f"{path} has no rows: no run of this series is finished yet")
    return runs


def _read_row(row: dict, where: str) -> Run:
    if None in row or None in row.values():
        raise UserError(f"{where}: it has {'more' if None in row else 'fewer'} cells than the first line has columns; collect the results again")
    values = {}
    for name in Run._fields[1:]:
        text = row[name].strip()
        number = _float(text) if text else None
        if text and (number is None or not math.isfinite(number) or (name != "core_metric" and number < 0)):
            raise UserError(f"{where}: {name} is {text!r}, which is not a number that it can have; mend it or collect the results again")
        whole = number is not None and number.is_integer() and name != "flops_budget"
        values[name] = int(number) if whole else number
    return Run(tag=row["tag"], **values)


# --- fitting ---------------------------------------------------------------------------------------------------------


def usable_runs(runs: Sequence[Run]) -> list[Run]:
    """Those that have all that a parabola needs."""
    return [run for run in runs if run.flops_budget and run.scaling_parameters and run.tokens and run.flops and run.val_bpb is not None]


def by_budget(runs: Sequence[Run]) -> dict[float, list[Run]]:
    runs = sorted(usable_runs(runs), key=lambda run: (run.flops_budget, run.scaling_parameters))
    return {budget: [run for run in runs if run.flops_budget == budget] for budget in sorted({run.flops_budget for run in runs})}


def find_optimum(budget: float, runs: Sequence[Run]) -> Optimum:
    """Nothing is extrapolated: where nobody measured, there is no optimum."""
    sizes, bpb = np.log([run.scaling_parameters for run in runs]), np.array([run.val_bpb for run in runs])
    found = Optimum(budget, len(runs), (math.exp(sizes[0]), math.exp(sizes[-1])))
    distinct = len(np.unique(sizes))
    if distinct < FEWEST_SIZES:
        return found._replace(trouble=f"{plural(distinct, 'size')}: a parabola needs {FEWEST_SIZES}")
    curve = fit_parabola(sizes, bpb)
    found = found._replace(curve=curve)
    if trouble := trouble_of(curve, sizes, bpb):
        return found._replace(trouble=trouble)
    best = -curve[1] / (2 * curve[0])
    tokens = math.exp(tokens_at(best, budget, sizes, runs))
    return found._replace(parameters=math.exp(best), tokens=tokens, bpb=float(np.polyval(curve, best)))


def trouble_of(curve: np.ndarray, sizes: np.ndarray, bpb: np.ndarray) -> str:
    """Why there is no lowest point to be relied on; "" if there is one."""
    distinct, (first, last) = np.unique(sizes), inner(sizes)
    for edge, extreme, more in ((distinct[0], "smallest", "smaller"), (distinct[-1], "largest", "larger")):
        if sizes[np.argmin(bpb)] == edge:
            return f"the {extreme} model is the best, and what lies beyond is not known: add {more} models"
    if curve[0] <= 0:
        return "no lowest point: the curve does not bend upwards; add models on both sides"
    best = -curve[1] / (2 * curve[0])
    if not first <= best <= last:
        return f"the lowest point lies at the edge of what was measured or beyond: add {'smaller' if best < first else 'larger'} models"
    rise = min(np.polyval(curve, distinct[[0, -1]])) - np.polyval(curve, best)
    scatter = scatter_about([(curve, sizes, bpb)])
    if scatter is not None and rise < CLEAR * scatter:
        return (f"the parabola fits badly: it rises by {rise:.4f} to one side, and the runs scatter about it by {scatter:.4f}; "
                f"add models, or train again what is off")  # fmt: skip
    return ""


def inner(sizes: np.ndarray) -> tuple[float, float]:
    """Where a lowest point may lie: not nearer to the outermost size than to the next."""
    distinct = np.unique(sizes)
    return (distinct[0] + distinct[1]) / 2, (distinct[-2] + distinct[-1]) / 2


def fit_parabola(sizes: np.ndarray, bpb: np.ndarray) -> np.ndarray:
    """Coefficients, the square's first; runs near the lowest point count more. `bpb` may have a column for each of many series:
    (runs, series) → (3, series). Logarithms of sizes differ little from each other and much from 0: centred, the fit is sound."""
    middle, values = sizes.mean(), bpb.reshape(len(bpb), -1)
    powers = np.vander(sizes - middle, 3)  # (runs, 3)
    fitted = np.linalg.lstsq(powers, values, rcond=None)[0]  # (3, series)
    for _ in range(ROUNDS):
        weights = weights_near(fitted, sizes - middle)  # (runs, series)
        left = np.einsum("ri,rs,rj->sij", powers, weights, powers)
        right = np.einsum("ri,rs->si", powers, weights * values)
        fitted = np.linalg.solve(left, right[..., None])[..., 0].T
    square, slope, height = fitted
    moved = np.array([square, slope - 2 * square * middle, height - slope * middle + square * middle**2])
    return moved.reshape(3, *bpb.shape[1:])


def weights_near(fitted: np.ndarray, sizes: np.ndarray) -> np.ndarray:
    """A Gaussian about the lowest point of each parabola, (3, series) → (runs, series). Where one bends downwards all runs count the same."""
    square, slope, _ = fitted
    best = np.clip(-slope / (2 * np.where(square > 0, square, 1)), sizes.min(), sizes.max())
    weights = np.exp(-0.5 * ((sizes[:, None] - best) / NEAR) ** 2) + 1e-3  # what is far away still keeps the fit from being undetermined
    return np.where(square > 0, weights, 1.0)


def scatter_about(fits: Sequence[tuple[np.ndarray, np.ndarray, np.ndarray]]) -> float | None:
    """Standard deviation of the runs about their parabolas, given as (curve, sizes, bits per byte). Far from the lowest point a parabola is off
    anyway, so runs there hardly count. None if the parabolas go through all of their runs."""
    seen = expected = 0.0  # squares of what is left of the runs; those that noise of variance 1 would leave
    for curve, sizes, bpb in fits:
        middle = sizes.mean()
        powers = np.vander(sizes - middle, 3)
        weights = weights_near(np.array([[curve[0]], [curve[1] + 2 * curve[0] * middle], [0]]), sizes - middle)[:, 0]
        left = np.eye(len(sizes)) - powers @ np.linalg.solve(powers.T * weights @ powers, powers.T * weights)
        seen += float(np.sum((weights * (bpb - np.polyval(curve, sizes))) ** 2))
        expected += float(np.sum((weights[:, None] * left) ** 2))
    return math.sqrt(seen / expected) if expected > 1e-9 else None


def tokens_at(size: np.ndarray | float, budget: float, sizes: np.ndarray, runs: Sequence[Run]) -> np.ndarray | float:
    """What the budget buys at that size, by the FLOPs per token of the runs next to it. Logarithms, in and out."""
    return math.log(budget) - np.interp(size, sizes, np.log([run.flops / run.tokens for run in runs]))


def fit_laws(optima: Sequence[Optimum]) -> Laws:
    good = [optimum for optimum in optima if not optimum.trouble]
    budgets, parameters, tokens = (np.log([getattr(optimum, name) for optimum in good]) for name in ("budget", "parameters", "tokens"))
    ratio = math.exp(np.mean(tokens - parameters)) if good else math.nan
    if len(good) < 2:
        return Laws(None, None, ratio, math.nan)
    a, b = (Law(*map(float, np.polyfit(budgets, values, 1))) for values in (parameters, tokens))
    return Laws(a, b, ratio, b.exponent - a.exponent)


def bootstrap(groups: dict[float, list[Run]], optima: Sequence[Optimum]) -> Spread | None:
    """How far chance alone moves the results: the runs scatter about their parabolas; put such scatter on the parabolas anew, and fit everything
    again, many times. (To draw runs with replacement would leave too few depths.) None where every parabola goes through all of its runs."""
    good = [optimum for optimum in optima if not optimum.trouble]
    sizes = [np.log([run.scaling_parameters for run in groups[optimum.budget]]) for optimum in good]
    measured = [np.array([run.val_bpb for run in groups[optimum.budget]]) for optimum in good]
    scatter = scatter_about([(optimum.curve, size, bpb) for optimum, size, bpb in zip(good, sizes, measured, strict=True)])
    if scatter is None:
        return None
    dice, usable, parameters, tokens = np.random.default_rng(0), np.ones(DRAWS, dtype=bool), [], []
    for optimum, size in zip(good, sizes, strict=True):
        curve, (first, last) = np.polyval(optimum.curve, size), inner(size)
        square, slope, _ = fit_parabola(size, curve[:, None] + scatter * dice.standard_normal((len(curve), DRAWS)))
        best = -slope / (2 * square)
        usable &= (square > 0) & (best >= first) & (best <= last)
        parameters.append(best)
        tokens.append(tokens_at(best, optimum.budget, size, groups[optimum.budget]))
    share = float(usable.mean())
    if share < 0.1:
        return Spread(*[math.nan] * 4, scatter, share)
    n, d = np.array(parameters)[:, usable], np.array(tokens)[:, usable]  # (budgets, draws)
    ratio = float(np.std((d - n).mean(axis=0)))
    if len(good) < 2:
        return Spread(math.nan, math.nan, ratio, math.nan, scatter, share)
    a, b = (np.polyfit(np.log([optimum.budget for optimum in good]), values, 1)[0] for values in (n, d))
    return Spread(float(np.std(a)), float(np.std(b)), ratio, float(np.std(b - a)), scatter, share)


# --- words -----------------------------------------------------------------------------------------------------------


def analyse(runs: Sequence[Run], series: str) -> tuple[str, list[Optimum], Laws]:
    """The text of scaling.md, and what the plots need of it."""
    groups = by_budget(runs)
    optima = [find_optimum(budget, group) for budget, group in groups.items()]
    laws = fit_laws(optima)
    parts = [f"# Scaling: {series}"]
    if optima:
        parts += ["## Where each budget is lowest", optima_table(optima), *describe_laws(optima, laws, bootstrap(groups, optima))]
    else:
        parts.append("No run has a FLOP budget, so there are no parabolas: this is a table of runs.")
    parts += [*remarks(runs, groups), "## Runs", runs_table(runs)]
    return "\n\n".join(parts) + "\n", optima, laws


def optima_table(optima: Sequence[Optimum]) -> str:
    head = ["FLOPs", "runs", "parameters measured", "optimal parameters", "optimal tokens", "tokens per parameter", "bits per byte", ""]
    rows = [
        [power(o.budget), str(o.runs), f"{human(o.sizes[0])} to {human(o.sizes[1])}", human(o.parameters), human(o.tokens),
         human(o.tokens / o.parameters), number(o.bpb, ".4f"), o.trouble]
        for o in optima
    ]  # fmt: skip
    return table(head, rows)


def describe_laws(optima: Sequence[Optimum], laws: Laws, spread: Spread | None) -> list[str]:
    good = [optimum for optimum in optima if not optimum.trouble]
    if not good:
        return ["No budget has a lowest point among its runs: there is neither a law nor a ratio to recommend. The table says what to add."]
    known = spread is not None and math.isfinite(spread.ratio)
    lines = []
    if laws.parameters is None:
        lines.append("One budget alone has a lowest point: exponents need two of them, and three to be checked.")
    else:
        a, b = (f"{law.exponent:.3f}" + (f" ± {error:.3f}" if known else "")
                for law, error in ((laws.parameters, spread and spread.parameters), (laws.tokens, spread and spread.tokens)))  # fmt: skip
        lines.append(f"optimal parameters ∝ C^a, a = {a}  \noptimal tokens ∝ C^b, b = {b}")
        if len(good) == 2:
            lines.append("Two budgets: the line goes through both, and nothing says whether it is straight. Add a third.")
    within = f", within {human(laws.ratio * math.exp(-spread.ratio))} and {human(laws.ratio * math.exp(spread.ratio))}" if known else ""
    lines.append(f"**Recommended: {human(laws.ratio)} tokens per scaling parameter** (`--target-param-data-ratio`){within}: "
                 f"the geometric mean over {plural(len(good), 'budget')}.")  # fmt: skip
    if laws.parameters is not None and len(good) > 2 and known and abs(laws.drift) > 2 * spread.drift:
        direction = "grows" if laws.drift > 0 else "falls"
        lines.append(f"The ratio {direction} with the budget, as C^{laws.drift:.2f}: at {power(good[-1].budget)} FLOPs it is "
                     f"{human(good[-1].tokens / good[-1].parameters)}. Beyond these budgets the mean misleads.")  # fmt: skip
    return [*lines, describe_spread(spread)]


def describe_spread(spread: Spread | None) -> str:
    if spread is None:
        return "No uncertainty is known: with three runs in a budget its parabola goes through all of them. Add depths."
    scatter = f"the runs' scatter about their parabolas ({spread.scatter:.4f} bits per byte)"
    if not math.isfinite(spread.ratio):
        return f"No uncertainty is known: {scatter} is so large that the lowest points come to lie outside of what was measured in most draws."
    text = (f"±: one standard deviation over {DRAWS:,} fits with {scatter} drawn anew (a parametric bootstrap). It does not hold what a parabola "
            f"gets wrong about the shape of the curve, nor learning rates that suit some sizes better than others.")  # fmt: skip
    if spread.usable < 0.95:
        text += f" In {1 - spread.usable:.0%} of the draws a lowest point came to lie outside; these are left out, so ± is too small."
    return text


def remarks(runs: Sequence[Run], groups: dict[float, list[Run]]) -> list[str]:
    """What a reader should know of the rows."""
    lines = [f"Vocabulary: {size:,} tokens." for size in dict.fromkeys(run.vocab_size for run in runs) if size is not None]
    of_budgets = [run for run in runs if run.flops_budget]
    incomplete = [run.tag for run in of_budgets if run not in usable_runs(of_budgets)]
    if incomplete:
        lines.append(f"Left out, since parameters, tokens, FLOPs or bits per byte are missing: {', '.join(incomplete)}.")
    off = [run.tag for group in groups.values() for run in group if abs(run.flops / run.flops_budget - 1) > 0.1]
    if off:
        lines.append(f"These spent over 10 % more or less than their budget, since a run has whole steps (use smaller batches): {', '.join(off)}.")
    return lines


def runs_table(runs: Sequence[Run]) -> str:
    head = ["run", "depth", "scaling parameters", "parameters", "tokens", "tokens per parameter", "FLOPs", "bits per byte", "CORE", "seconds"]
    rows = []
    for run in runs:
        ratio = run.tokens / run.scaling_parameters if run.tokens and run.scaling_parameters else None
        rows.append([run.tag, number(run.depth, "d"), human(run.scaling_parameters), human(run.parameters), human(run.tokens), human(ratio),
                     power(run.flops), number(run.val_bpb, ".4f"), number(run.core_metric, ".4f"), number(run.seconds, ".0f")])  # fmt: skip
    return table(head, rows)


def table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """Markdown that can be read as it is."""
    widths = [max(len(row[i]) for row in (head, *rows)) for i in range(len(head))]
    lines = [" | ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)) for row in (head, ["-" * w for w in widths], *rows)]
    return "\n".join(f"| {line} |" for line in lines)


def number(value: float | None, form: str) -> str:
    return "–" if value is None or not math.isfinite(value) else format(value, form)


def human(value: float | None) -> str:
    """110100912 → 110M"""
    if value is None or not math.isfinite(value):
        return "–"
    for size, letter in ((1e12, "T"), (1e9, "B"), (1e6, "M"), (1e3, "k")):
        if value >= 0.9995 * size:
            return f"{three_digits(value / size)}{letter}"
    return three_digits(value)


def power(value: float | None) -> str:
    """4e18, as the budgets are given"""
    return re.sub(r"e\+?0*", "e", number(value, ".3g"))


def three_digits(value: float) -> str:
    return f"{value:.0f}" if value >= 99.95 else f"{value:.3g}"


def plural(count: int, noun: str) -> str:
    return f"{count} {noun}{'' if count == 1 else 's'}"


# --- plots -----------------------------------------------------------------------------------------------------------


def draw_plots(folder: Path, runs: Sequence[Run], optima: Sequence[Optimum], laws: Laws) -> list[str]:
    """The names of the files."""
    from nanochat.plots import Line, line_chart

    measured = sorted((run for run in runs if run.flops and run.val_bpb is not None), key=lambda run: run.flops)
    budgets = dict.fromkeys(run.flops_budget or run.flops for run in measured)
    best = [min((run for run in measured if (run.flops_budget or run.flops) == budget), key=lambda run: run.val_bpb) for budget in budgets]
    lines = [Line(name, [run.flops for run in some], [run.val_bpb for run in some], style)
             for name, some, style in (("runs", measured, "dots"), ("best of each budget", best, "line"))]  # fmt: skip
    line_chart(folder / "bpb_flops.png", lines, "Bits per byte against compute", "FLOPs", "validation bits per byte", log_x=True)
    if not optima:
        return ["bpb_flops.png"]
    good = [optimum for optimum in optima if not optimum.trouble]
    curves = [Line(f"{power(o.budget)} FLOPs", *_curve(o)) for o in optima if o.curve is not None]
    usable = usable_runs(runs)
    dots = Line("runs", [run.scaling_parameters for run in usable], [run.val_bpb for run in usable], "dots")
    lowest = Line("lowest points", [o.parameters for o in good], [o.bpb for o in good], "dots")
    line_chart(folder / "isoflop.png", [*curves, dots, lowest],
               "Same FLOPs, other sizes", "scaling parameters", "validation bits per byte", log_x=True)  # fmt: skip
    budgets = [o.budget for o in good]
    lines = []
    for name, law in (("parameters", laws.parameters), ("tokens", laws.tokens)):
        lines.append(Line(f"optimal {name}", budgets, [getattr(o, name) for o in good], "dots"))
        if law is not None:
            lines.append(Line(f"{name} ~ C^{law.exponent:.3f}", budgets, [math.exp(law.offset + law.exponent * math.log(c)) for c in budgets]))
    line_chart(folder / "optimum.png", lines, "The best use of a budget", "FLOPs", "parameters, tokens", log_x=True, log_y=True)
    return ["isoflop.png", "optimum.png", "bpb_flops.png"]


def _curve(optimum: Optimum) -> tuple[list[float], list[float]]:
    sizes = np.linspace(*np.log(optimum.sizes), 100)
    return list(np.exp(sizes)), list(np.polyval(optimum.curve, sizes))


if __name__ == "__main__":
    with friendly_errors():
        sys.exit(main(parse_args()))
