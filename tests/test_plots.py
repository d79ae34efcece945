"""Charts, looked at as a viewer would: the PNG is decoded, its pixels are compared with the data, and the texts with each other."""

import itertools
import math
import re
import struct
import zlib

import numpy as np
import pytest

from nanochat import plots
from nanochat.plots import Line, bar_chart, line_chart

UNITS = {"k": 1e3, "M": 1e6, "G": 1e9}


def pixels(path) -> np.ndarray:
    """(height, width, 3) of a PNG, whose structure is checked on the way."""
    data = path.read_bytes()
    assert data[:8] == b"\x89PNG\r\n\x1a\n"
    chunks, at = [], 8
    while at < len(data):
        length, name = struct.unpack(">I4s", data[at : at + 8])
        body, (check,) = data[at + 8 : at + 8 + length], struct.unpack(">I", data[at + 8 + length : at + 12 + length])
        assert zlib.crc32(name + body) == check
        chunks.append((name, body))
        at += 12 + length
    assert [name for name, _ in chunks] == [b"IHDR", b"IDAT", b"IEND"]
    width, height, *kind = struct.unpack(">IIBBBBB", chunks[0][1])
    assert kind == [8, 2, 0, 0, 0]
    rows = np.frombuffer(zlib.decompress(chunks[1][1]), np.uint8).reshape(height, 1 + 3 * width)
    assert not rows[:, 0].any()
    return rows[:, 1:].reshape(height, width, 3).astype(int)


def near(image: np.ndarray, colour: tuple[int, int, int], tolerance: int = 60) -> np.ndarray:
    return np.abs(image - np.array(colour)).max(axis=2) < tolerance


@pytest.fixture
def texts(monkeypatch) -> list[tuple[str, float, float, float]]:
    """Every text that is drawn: the text, its left end, its right end and its baseline."""
    found, draw = [], plots._text

    def watched(image, x, baseline, text, colour, scale=1, **how):
        found.append((text, x, x + plots._text_width(text, scale), baseline))
        draw(image, x, baseline, text, colour, scale, **how)

    monkeypatch.setattr(plots, "_text", watched)
    return found


def number(text: str) -> float | None:
    found = re.fullmatch(r"(-?\d+(?:\.\d+)?(?:e-?\d+)?)([kMG]?)", text)
    return float(found[1]) * UNITS.get(found[2], 1) if found else None


def scales(texts, log_x: bool = False, log_y: bool = False):
    """From value to pixel, as the labels of the ticks tell a reader: those of x stand on the lowest row of numbers."""
    ticks = [(value, (left + right) / 2, left, baseline) for text, left, right, baseline in texts if (value := number(text)) is not None]
    lowest = max(tick[3] for tick in ticks)
    of_x = [(math.log10(value) if log_x else value, middle) for value, middle, _, baseline in ticks if baseline == lowest]
    of_y = [(math.log10(value) if log_y else value, baseline - 5.5) for value, _, _, baseline in ticks if baseline != lowest]

    def scale(ticks, log):
        (a, pixel_a), (b, pixel_b) = ticks[0], ticks[-1]
        return lambda value: pixel_a + ((math.log10(value) if log else value) - a) / (b - a) * (pixel_b - pixel_a)

    return scale(of_x, log_x), scale(of_y, log_y)


def plot_part(image: np.ndarray) -> np.ndarray:
    """With white over everything above the data, the legend first of all."""
    image = image.copy()
    image[:104] = 255
    return image


# --- lines lie where the data say ------------------------------------------------------------------------------------


@pytest.mark.parametrize("log_x", [False, True])
@pytest.mark.parametrize("log_y", [False, True])
def test_a_line_lies_where_the_data_say(tmp_path, texts, log_x, log_y):
    x = np.geomspace(1e15, 3e19, 300) if log_x else np.linspace(-20, 4000, 300)
    shape = np.sin(np.linspace(0, 5, 300)) + 1.3
    y = 10 ** (2 * shape - 4) if log_y else shape
    line_chart(tmp_path / "a.png", [Line("a", x, y)], "t", "x", "y", log_x=log_x, log_y=log_y)
    image = plot_part(pixels(tmp_path / "a.png"))
    assert image.shape == (540, 960, 3)
    to_x, to_y = scales(texts, log_x, log_y)
    for index in range(5, 295, 7):
        rows = np.flatnonzero(near(image, plots.PALETTE[0])[:, round(to_x(x[index]) - 0.5)])
        assert len(rows), index
        assert rows.min() - 2 <= to_y(y[index]) <= rows.max() + 3, index
        assert rows.max() - rows.min() < 25  # a line and not an area


def test_dots_lie_where_the_data_say_and_only_there(tmp_path, texts):
    x, y = [1e8, 2e8, 4e8, 9e8], [0.9, 0.85, 0.84, 0.88]
    line_chart(tmp_path / "a.png", [Line("a", x, y, "dots")], "t", "parameters", "bpb", log_x=True)
    found = near(plot_part(pixels(tmp_path / "a.png")), plots.PALETTE[0])
    to_x, to_y = scales(texts, log_x=True)
    for one_x, one_y in zip(x, y, strict=True):
        left, top = math.floor(to_x(one_x)), math.floor(to_y(one_y))
        rows, columns = np.nonzero(found[top - 6 : top + 7, left - 6 : left + 7])
        assert abs(rows.mean() - 6) <= 1.1 and abs(columns.mean() - 6) <= 1.1 and 20 < len(rows) < 60
        found[top - 6 : top + 7, left - 6 : left + 7] = False
    assert not found.any()


@pytest.mark.parametrize("hole", [math.nan, math.inf, -math.inf, None, 1e200])
def test_what_is_not_finite_breaks_a_line(tmp_path, texts, hole):
    y = [float(n % 7) for n in range(101)]
    y[40:61] = [hole] * 21
    line_chart(tmp_path / "a.png", [Line("a", range(101), y)], "t", "step", "loss")
    found = near(plot_part(pixels(tmp_path / "a.png")), plots.PALETTE[0])
    to_x, _ = scales(texts)
    empty = [not found[:, round(to_x(n))].any() for n in range(101)]
    assert all(empty[41:60]) and not any(empty[:39]) and not any(empty[62:])


def test_nothing_bridges_a_single_hole(tmp_path):
    """Flat at 0, a hole, flat at 1: no pixel of the line lies between."""
    line_chart(tmp_path / "a.png", [Line("a", range(11), [0] * 5 + [math.nan] + [1] * 5)], "t", "step", "loss")
    rows = np.flatnonzero(near(plot_part(pixels(tmp_path / "a.png")), plots.PALETTE[0]).any(axis=1))
    assert len(rows) <= 8 and rows.max() - rows.min() > 300


def test_log_axes_drop_what_they_cannot_show(tmp_path, texts):
    line_chart(tmp_path / "a.png", [Line("a", [0, 1, 10, 100, 1000], [5, 1, -1, 0.01, 0.001])], "t", "x", "y", log_x=True, log_y=True)
    found = near(plot_part(pixels(tmp_path / "a.png")), plots.PALETTE[0])
    to_x, to_y = scales(texts, True, True)
    assert found[round(to_y(1)) - 2 : round(to_y(1)) + 3, round(to_x(1)) - 2 : round(to_x(1)) + 3].any()  # alone between holes, but seen
    assert not found[:, round(to_x(2)) : round(to_x(90))].any()
    assert found[:, round(to_x(150)) : round(to_x(900))].any(axis=0).all()


def test_100_000_points_keep_their_extremes(tmp_path, texts):
    y = 2 + 0.1 * np.sin(np.arange(100_000))
    y[31_234], y[77_777] = 9.0, -5.0
    line_chart(tmp_path / "a.png", [Line("a", range(100_000), y)], "t", "step", "loss")
    found = near(plot_part(pixels(tmp_path / "a.png")), plots.PALETTE[0])
    to_x, to_y = scales(texts)
    for at in (31_234, 77_777):
        column = found[:, round(to_x(at)) - 1 : round(to_x(at)) + 2]
        assert column[round(to_y(y[at])) - 2 : round(to_y(y[at])) + 3].any()
    assert found[round(to_y(2.0)), round(to_x(10)) : round(to_x(99_990))].all()
    assert found[round(to_y(4.0))].sum() <= 6 and found[round(to_y(0.0))].sum() <= 6  # nothing else is so high or so low


def test_thinning_loses_no_column():
    rng = np.random.default_rng(1)
    x, y = np.linspace(0, 200, 5000), rng.standard_normal(5000)
    x[rng.random(5000) < 0.01] = np.nan
    kept = plots._thinned(x, y)
    assert len(kept) < 1500 and kept[0] == 0 and kept[-1] == 4999 and (np.diff(kept) > 0).all()
    for column in range(200):
        inside = np.floor(x) == column
        chosen = np.intersect1d(kept, np.flatnonzero(inside))
        assert y[chosen].min() == y[inside].min() and y[chosen].max() == y[inside].max()
    assert np.isnan(x[kept]).sum() == (np.isnan(x) & ~np.isnan(np.append(0, x[:-1]))).sum()  # every hole is still there


def test_what_is_faint_is_pale_and_behind_its_own_line(tmp_path):
    lines = [Line("a", [0, 1], [1, 1]), Line("a", [0, 1, 2], [0, 2, 0], "faint"), Line("b", [0, 2], [3, 3])]
    line_chart(tmp_path / "a.png", lines, "t", "x", "y")
    image = plot_part(pixels(tmp_path / "a.png"))
    first = near(image, plots.PALETTE[0], 40)
    rows = np.flatnonzero(first.any(axis=1))
    assert rows.max() - rows.min() < 6  # only the flat line has the full colour, and what is faint did not go over it
    assert first[rows].sum(axis=1).max() > 300
    assert near(image, plots.PALETTE[1]).any()  # b is the second label, though the third line
    assert not near(image, plots.PALETTE[2], 20).any()


def test_overlaps_are_not_darker():
    image = plots._blank(100)
    plots._curve(image, np.array([5.0, 95, 5, 95, 5]), np.array([5.0, 95, 95, 5, 5]), "faint", (0, 0, 0))
    assert image.min() == pytest.approx(255 * 0.6, abs=1)


# --- axes ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "low, high", [(0, 1), (2.31, 10.9), (-0.4, 0.7), (0, 3.7e19), (1e-6, 4e-5), (999.5, 1000.5), (0, 20_000), (-5e6, 1e3), (7e8, 7.1e8)]
)
def test_ticks_are_round_numbers(low, high):
    for most in range(2, 10):
        ticks = plots._round_numbers(low, high, most)
        values = [tick.value for tick in ticks]
        assert 1 <= len(ticks) <= most + 1 and low - 1e-9 * abs(low) <= values[0] and values[-1] <= high * (1 + 1e-9)
        assert len({tick.text for tick in ticks}) == len(ticks)
        assert [number(tick.text) for tick in ticks] == pytest.approx(values, rel=1e-9, abs=1e-12 * high)  # no digit is missing
        for step in np.diff(values):
            digit = step / 10 ** math.floor(math.log10(step) + 1e-6)
            assert min(abs(digit - round_digit) for round_digit in (1, 2, 5)) < 1e-3


def test_numbers_as_one_reads_them():
    def read(low, high, most=5):
        return [tick.text for tick in plots._round_numbers(low, high, most)]

    assert read(0, 20_000, 4) == ["0", "5k", "10k", "15k", "20k"]
    assert read(0, 2e6, 4) == ["0", "0.5M", "1.0M", "1.5M", "2.0M"]
    assert read(0, 4e9, 4) == ["0", "1G", "2G", "3G", "4G"]
    assert read(0, 2e18, 2) == ["0", "1e18", "2e18"]
    assert read(0, 0.02, 4) == ["0", "0.005", "0.010", "0.015", "0.020"]
    assert read(0, 4e-5, 4) == ["0", "1e-5", "2e-5", "3e-5", "4e-5"]
    assert read(-1, 1, 4) == ["-1.0", "-0.5", "0", "0.5", "1.0"]
    assert read(0, 1000, 4) == ["0", "500", "1000"]


def test_log_axes_have_decades():
    def read(low, high, most=9):
        return [tick.text for tick in plots._ticks(plots.Axis(math.log10(low), math.log10(high), True, 0, 100), most)]

    assert read(0.5e15, 2e19) == ["1e15", "1e16", "1e17", "1e18", "1e19"]
    assert read(0.0005, 20) == ["0.001", "0.01", "0.1", "1", "10"]
    assert read(50, 2e6) == ["100", "1000", "10k", "100k", "1M"]
    assert read(1e8, 1.1e9) == ["100M", "200M", "500M", "1G"]
    assert read(2.6, 3.4, 5) == ["2.6", "2.8", "3.0", "3.2", "3.4"]
    assert read(1e-20, 1e20) == ["1e-20", "1e-15", "1e-10", "1e-5", "1", "100k", "10G", "1e15", "1e20"]


@pytest.mark.parametrize("log", [False, True])
def test_any_range_has_an_axis(tmp_path, texts, log):
    """From one point to the ends of what floats can hold: two or more labels per axis, and none runs into another or out of the picture."""
    ranges = [
        (1, 1),
        (1e-9, 1e9),
        (1e9, 1e9 + 1),
        (1e9, 1e9 * (1 + 1e-15)),
        (-3, -3),
        (0, 0),
        (-1e140, 1e140),
        (1e-140, 2e-140),
        (123456.7, 123456.9),
    ]
    ranges.append((-123456789.85, -123456789.0))  # labels so wide that there is room for few
    for low, high in ranges:
        texts.clear()
        line_chart(tmp_path / "a.png", [Line("", [low, high], [low, high])], "t", "x", "y", log_x=log, log_y=log)
        check_layout(texts, 540)
        assert sum(number(text) is not None for text, *_ in texts) >= (4 if high > 0 or not log else 2), (low, high)
        assert near(plot_part(pixels(tmp_path / "a.png")), plots.PALETTE[0]).any() == (high > 0 or not log)


# --- texts -----------------------------------------------------------------------------------------------------------


def check_layout(texts, height: int) -> None:
    """Every text is whole inside the picture, and no two touch."""
    for text, left, right, baseline in texts:
        assert left >= 0 and right <= 960 and 12 <= baseline <= height - 3, text
    for (a, left_a, right_a, base_a), (b, left_b, right_b, base_b) in itertools.combinations(texts, 2):
        apart = right_a + 3 <= left_b or right_b + 3 <= left_a or abs(base_a - base_b) >= 13
        assert apart or not a or not b, (a, b)


STRANGE = ["", " ", "läuft—gut ☃", "tab\tand\nnewline\0", "x" * 500, "d12 {lr: 0.02, \"wd\": '0.1'} [~^_|\\]", "\ud800", "%s %d {}"]


def test_labels_with_strange_characters(tmp_path, texts):
    line_chart(tmp_path / "a.png", [Line(label, [0, 1], [n, n + 1]) for n, label in enumerate(STRANGE)], *["\x1b[1m\u200b" * 60] * 3)
    check_layout(texts, 540)
    bar_chart(tmp_path / "b.png", STRANGE, {label: [0.5] * len(STRANGE) for label in STRANGE}, *["Ω" * 300] * 2)
    assert pixels(tmp_path / "a.png").shape == (540, 960, 3)
    assert pixels(tmp_path / "b.png").shape[1] == 960


def test_the_legend_lies_above_the_data(tmp_path, texts):
    lines = [Line(f"run {n} with a name of its own", [0, 1], [n, n]) for n in range(6)] + [
        Line("nothing", [], []),
        Line("hidden", [1, 2], [math.nan, None]),
    ]
    line_chart(tmp_path / "a.png", lines, "Loss", "step", "loss")
    check_layout(texts, 540)
    legend = [(text, baseline) for text, _, _, baseline in texts if text.startswith(("run", "nothing", "hidden"))]
    assert [text for text, _ in legend] == [f"run {n} with a name of its own" for n in range(6)] + ["nothing (no data)", "hidden (no data)"]
    highest = min(baseline for text, _, _, baseline in texts if number(text) is not None)
    image = pixels(tmp_path / "a.png")
    lowest = max(baseline for _, baseline in legend)
    assert lowest + 6 <= highest - 10
    for n in range(6):
        rows = np.flatnonzero(near(image, plots.PALETTE[n], 10).sum(axis=1) > 200)
        assert len(rows) and rows.min() > lowest + 4


def test_a_legend_without_end_leaves_room_for_the_data(tmp_path, texts):
    line_chart(tmp_path / "a.png", [Line(f"a rather long name for the run number {n}", [0, 1], [n, n]) for n in range(50)], "Loss", "step", "loss")
    check_layout(texts, 540)
    named = sum(text.startswith("a rather") for text, *_ in texts)
    assert f"and {50 - named} more" in [text for text, *_ in texts]
    image = pixels(tmp_path / "a.png")
    assert (near(image, plots.PALETTE[0], 10).sum(axis=1) > 200).any()
    texts.clear()
    line_chart(tmp_path / "a.png", [Line(chr(33 + n), [0, 1], [n, n]) for n in range(90)], "Loss", "step", "loss")
    check_layout(texts, 540)


def test_a_text_that_is_too_long_loses_its_middle():
    text = "beginning " + "of something " * 20 + "end"
    short = plots._fit(text, 200)
    assert short.startswith("beginning") and short.endswith("end") and "..." in short and 150 < plots._text_width(short) <= 200
    assert plots._fit("short", 200) == "short"


def test_every_letter_looks_like_itself():
    pictures = {}
    for code in range(32, 127):
        image = plots._blank(40)[:, :40].copy()
        plots._text(image, 10, 25, chr(code), plots.INK)
        rows, columns = np.nonzero(image.min(axis=2) < 250)
        if code > 32:
            assert rows.min() >= 13 and rows.max() <= 28
            assert columns.min() >= 9 and columns.max() <= 10 + plots._text_width(chr(code)) + 1, chr(code)
            assert image.min() < 90, chr(code)  # dark somewhere: no stroke got lost between pixels
        pictures[image.tobytes()] = chr(code)
    assert len(pictures) == 95
    for other in "é\n\0☃":
        image = plots._blank(40)[:, :40].copy()
        plots._text(image, 10, 25, other, plots.INK)
        assert pictures[image.tobytes()] == "?"


def test_upright_and_level_strokes_are_sharp():
    image = plots._blank(40)[:, :40].copy()
    plots._text(image, 10, 25, "HE", (0, 0, 0))
    assert (image[15:25, 10] == 0).all() and (image[15:25, 8] == 255).all() and (image[15:25, 12:15][:3] == 255).all()
    assert (image[24, 20:24] == 0).all() and (image[26] == 255).all()


# --- bars ------------------------------------------------------------------------------------------------------------


def bars(image: np.ndarray, colour: tuple[int, int, int]) -> list[tuple[int, int, int]]:
    """(top row, first column, last column) of every bar of a colour, from the top; the legend's swatch is the first."""
    found = near(image, colour, 10)
    begins = np.flatnonzero(found.any(axis=1) & ~np.append(False, found.any(axis=1)[:-1]))
    return [(row, *np.flatnonzero(found[row])[[0, -1]]) for row in begins]


def test_bars_are_as_long_as_their_values(tmp_path, texts):
    values = [0.1, 0.2, 0.4, None, -0.05, 0.8, math.nan, 0.0]
    bar_chart(tmp_path / "a.png", [f"task {n}" for n in range(8)], {"d12": values}, "CORE by task", "centred accuracy")
    image = pixels(tmp_path / "a.png")
    check_layout([text for text in texts if number(text[0]) is None or text[3] < len(image) - 30], len(image))
    _, *found = bars(image, plots.PALETTE[0])
    zero = next(left + right for text, left, right, baseline in texts if text == "0" and baseline > len(image) - 30) / 2
    one = (next(left + right for text, left, right, baseline in texts if text == "0.4" and baseline > len(image) - 30) / 2 - zero) / 0.4
    assert len(found) == 5
    for (_, left, right), value in zip(found, [0.1, 0.2, 0.4, -0.05, 0.8], strict=True):
        begin, end = sorted((zero, zero + value * one))
        assert abs(left - begin) <= 1.5 and abs(right + 1 - end) <= 1.5
    assert [text for text, *_ in texts if re.fullmatch(r"-?0\.\d{3}", text)] == ["0.100", "0.200", "0.400", "-0.050", "0.800"]
    assert {f"task {n}" for n in range(8)} <= {text for text, *_ in texts}


def test_a_bar_stands_beside_its_label(tmp_path, texts):
    bar_chart(tmp_path / "a.png", ["one", "two", "three"], {"a": [1, None, 3], "b": [None, 2, 4], "c": [None] * 3}, "t", "y")
    image = pixels(tmp_path / "a.png")
    rows = {text: baseline - 5 for text, _, _, baseline in texts}
    a, b = ([row + 6 for row, *_ in bars(image, plots.PALETTE[n])[1:]] for n in range(2))
    for found, labels in ((a, ["one", "three"]), (b, ["two", "three"])):
        assert [min(("one", "two", "three"), key=lambda label: abs(rows[label] - row)) for row in found] == labels
    assert a[1] < b[1] and "c (no data)" in rows and not near(image, plots.PALETTE[2], 10).any()


def test_many_bars_make_a_high_picture(tmp_path, texts):
    labels = [f"{n:02}_" + "bigbench_language_identification_with_more"[:37] for n in range(22)]
    for count in (1, 2, 6):
        texts.clear()
        series = {f"run {n}": [0.01 * (n + m) for m in range(22)] for n in range(count)}
        bar_chart(tmp_path / "a.png", labels, series, "CORE by task", "centred accuracy")
        image = pixels(tmp_path / "a.png")
        assert len(image) >= 22 * 13 * count
        check_layout(texts, len(image))
        assert set(labels) <= {text for text, *_ in texts}  # forty characters are not cut


@pytest.mark.parametrize("labels, series", [([], {}), (["a"], {}), ([], {"x": []}), (["a", "b"], {"x": [None, math.inf]}), (["a"], {"x": [0]})])
def test_bars_of_nothing(tmp_path, texts, labels, series):
    bar_chart(tmp_path / "a.png", labels, series, "t", "y")
    check_layout(texts, len(pixels(tmp_path / "a.png")))
    assert ("no data" in [text for text, *_ in texts]) == (series != {"x": [0]})


def test_bars_far_from_one(tmp_path, texts):
    for values, said in (
        ([-2, -1], ["-2.00", "-1.00"]),
        ([1e6, 2.5e6], ["1.00M", "2.50M"]),
        ([99.9, 3], ["99.9", "3.0"]),
        ([1e-5, 0], ["1.00e-5", "0"]),
    ):
        texts.clear()
        bar_chart(tmp_path / "a.png", ["a", "b"], {"x": values}, "t", "y")
        check_layout(texts, len(pixels(tmp_path / "a.png")))
        drawn = [text for text, *_ in texts]
        assert [drawn[drawn.index(label) + 1] for label in "ab"] == said


# --- files -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("lines", [[], [Line("a", [], [])], [Line("a", [1], [math.nan])], [Line("a", [1, 2], [None, None], "dots")]])
@pytest.mark.parametrize("log", [False, True])
def test_charts_of_nothing(tmp_path, texts, lines, log):
    line_chart(tmp_path / "a.png", lines, "t", "x", "y", log_x=log, log_y=log)
    check_layout([text for text in texts if text[0] != "no data"], 540)
    said = [text for text, *_ in texts]
    assert "no data" in said and ("a (no data)" in said) == bool(lines)


@pytest.mark.parametrize("style", ["line", "dots", "faint"])
def test_a_single_point_is_seen(tmp_path, texts, style):
    line_chart(tmp_path / "a.png", [Line("a", [5], [3.0], style)], "t", "x", "y")
    image = plot_part(pixels(tmp_path / "a.png"))
    to_x, to_y = scales(texts)
    middle = image[round(to_y(3.0)) - 1 : round(to_y(3.0)) + 1, round(to_x(5)) - 1 : round(to_x(5)) + 1]
    assert (middle[..., 2] - middle[..., 0] > 50).any()  # something blue


def test_the_same_data_make_the_same_bytes(tmp_path):
    rng = np.random.default_rng(3)
    y = rng.standard_normal(500)
    for name in ("a.png", "b.png"):
        line_chart(tmp_path / name, [Line("a", range(500), y), Line("b", list(range(500)), list(y + 1), "dots")], "t", "x", "y")
    assert (tmp_path / "a.png").read_bytes() == (tmp_path / "b.png").read_bytes()
    before = y.copy()
    line_chart(tmp_path / "a.png", [Line("a", np.arange(500.0), y)], "t", "x", "y", log_x=True, log_y=True)
    assert (y == before).all()  # the caller's numbers stay his


def test_a_chart_is_whole_or_not_there(tmp_path, monkeypatch):
    path = tmp_path / "report" / "a.png"
    line_chart(path, [Line("a", [0, 1], [0, 1])], "t", "x", "y")
    before = path.read_bytes()
    with pytest.raises(ValueError, match="wavy"):
        line_chart(path, [Line("a", [0, 1], [0, 1], "wavy")], "t", "x", "y")
    with pytest.raises(ValueError, match="2 x and 1 y"):
        line_chart(path, [Line("a", [0, 1], [0])], "t", "x", "y")
    with pytest.raises(ValueError, match="2 labels"):
        bar_chart(path, ["a", "b"], {"x": [1]}, "t", "y")

    def full(self, data):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(type(path), "write_bytes", full)
    with pytest.raises(OSError, match="No space"):
        line_chart(path, [Line("a", [0, 1], [1, 0])], "t", "x", "y")
    monkeypatch.undo()
    assert path.read_bytes() == before and [found.name for found in path.parent.iterdir()] == ["a.png"]
