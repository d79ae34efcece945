"""Charts of training runs as PNG files, with numpy and zlib alone: whoever can train can also look at the curve.

Everything visible is a stroke or a rectangle. A stroke covers a pixel the more, the nearer it comes to the pixel's centre, and that is all the
anti-aliasing there is; letters are strokes too. The pixel in column i and row j is the square from (i, j) to (i + 1, j + 1); row 0 is the top.
"""

import functools
import math
import struct
import zlib
from collections.abc import Callable, Iterable, Sequence
from itertools import pairwise
from pathlib import Path
from typing import NamedTuple

import numpy as np

from nanochat.common import atomic_path

WIDTH, HEIGHT, MARGIN = 960, 540, 24
INK, QUIET, AXIS, GRID, FINE_GRID, WHITE = (38, 38, 38), (96, 96, 96), (150, 150, 150), (226, 226, 226), (243, 243, 243), (255, 255, 255)
# Told apart with any kind of colour vision: the palette of Okabe and Ito without its yellow, which is too pale for a line on white.
PALETTE = ((0, 114, 178), (213, 94, 0), (0, 158, 115), (204, 121, 167), (230, 159, 0), (86, 180, 233), (90, 90, 90))
STYLES = ("faint", "line", "dots")  # in the order of drawing: what is faint lies behind, dots lie on top
HUGE, TINY = 1e150, 1e-150  # beyond these, ratios of floats overflow, and no run has such numbers
HEAD, ROW, LEGEND_ROWS = 82, 22, 5  # pixels above the data without a legend and for each of its rows; more rows would leave the data no room
BAR, GAP = 14, 8  # pixels: a bar, and what lies between two groups of bars
CHUNK = 1 << 20  # pixels looked at in one go: some tens of MB


class Line(NamedTuple):
    label: str  # lines of one label share a colour and a place in the legend; what has the label "" is not in the legend
    x: Sequence[float]
    y: Sequence[float]
    style: str = "line"  # "line", "dots" or "faint"


class Axis(NamedTuple):
    low: float  # on a logarithmic axis low and high are exponents of ten, and so is everything that is placed on it
    high: float
    log: bool
    start: float  # the pixel of low
    end: float

    def place(self, value):
        return self.start + (value - self.low) / (self.high - self.low) * (self.end - self.start)


class Tick(NamedTuple):
    value: float
    text: str


# --- the two charts --------------------------------------------------------------------------------------------------


def line_chart(path: Path, lines: Sequence[Line], title: str, x_label: str, y_label: str, log_x: bool = False, log_y: bool = False) -> None:
    """Curves and dots over two axes. What is not finite breaks a line, and so does what a logarithmic axis cannot show."""
    lines = [_drawable(line, log_x, log_y) for line in lines]
    image = _blank(HEIGHT)
    styles = {line.label: {other.style for other in lines if other.label == line.label and np.isfinite(other.x).any()} for line in lines}
    colours = _colours(styles)
    top, bottom = _heading(image, title, y_label, styles), HEIGHT - MARGIN - 40
    x_data, y_data = (np.concatenate([np.empty(0), *columns]) for columns in ([line.x for line in lines], [line.y for line in lines]))
    y_axis = Axis(*_span(y_data, log_y, pad=0.05, from_zero=True), log_y, bottom, top)
    y_ticks = _ticks_that_fit(y_axis, lambda text: 42)
    left = MARGIN + max((_text_width(tick.text) for tick in y_ticks), default=0) + 10
    x_axis = Axis(*_span(x_data, log_x, pad=0.015), log_x, left, WIDTH - MARGIN - 8)
    x_ticks = _ticks_that_fit(x_axis, lambda text: _text_width(text) + 28)

    _grid(image, x_axis, x_ticks, y_axis, y_ticks)
    for tick in y_ticks:
        _text(image, left - 10 - _text_width(tick.text), math.floor(y_axis.place(tick.value)) + 6, tick.text, QUIET)
    for tick in x_ticks:
        wide = _text_width(tick.text)
        _text(image, min(x_axis.place(tick.value) - wide / 2, WIDTH - 4 - wide), bottom + 22, tick.text, QUIET)
    x_label = _fit(x_label, WIDTH - 2 * MARGIN)
    middle, half = (left + x_axis.end) / 2, _text_width(x_label) / 2
    _text(image, min(max(middle - half, MARGIN), WIDTH - MARGIN - 2 * half), bottom + 46, x_label, INK)
    if not np.isfinite(x_data).any():
        _text(image, middle - _text_width("no data") / 2, (top + bottom) / 2, "no data", QUIET)
    for line in sorted(lines, key=lambda line: STYLES.index(line.style)):
        _curve(image, x_axis.place(line.x), y_axis.place(line.y), line.style, colours[line.label])
    _save(path, image)


def bar_chart(path: Path, labels: Sequence[str], series: dict[str, Sequence[float | None]], title: str, y_label: str) -> None:
    """A row per label, in it a bar per series with its value beside it; None and what is not finite have no bar."""
    values = {name: _finite(column) for name, column in series.items()}
    if any(len(column) != len(labels) for column in values.values()):
        raise ValueError(f"bar_chart: {len(labels)} labels, but columns of {[len(column) for column in values.values()]} values")
    styles = {name: {"bar"} if np.isfinite(column).any() else set() for name, column in values.items()}
    colours = _colours(styles)
    row = BAR * max(1, len(values)) + GAP
    image = _blank(HEAD + ROW * len(_legend(styles)) + max(1, len(labels)) * row + GAP // 2 + 40)
    top = _heading(image, title, y_label, styles)
    bottom = len(image) - 40

    names = [_fit(label, WIDTH // 2) for label in labels]
    left = MARGIN + max((_text_width(name) for name in names), default=0) + 12
    texts = _values_in_words(values)
    axis, ticks = _bar_axis(values, left, 8 + max((_text_width(text) for column in texts.values() for text in column), default=0))
    for tick in ticks:
        at = axis.place(tick.value)
        _rectangle(image, math.floor(at), top, math.floor(at) + 1, bottom, GRID)
        _text(image, min(at - _text_width(tick.text) / 2, WIDTH - 4 - _text_width(tick.text)), bottom + 20, tick.text, QUIET)
    for index, name in enumerate(names):
        y = top + GAP // 2 + index * row
        _text(image, left - 12 - _text_width(name), y + (row - GAP) // 2 + 5, name, INK)
        for number, (key, column) in enumerate(values.items()):
            if np.isfinite(column[index]):
                _bar(image, axis, y + number * BAR, column[index], texts[key][index], colours[key])
    zero = math.floor(axis.place(0.0))
    _rectangle(image, zero, top, zero + 1, bottom, AXIS)
    if not any(styles.values()):
        _text(image, (left + WIDTH - MARGIN - _text_width("no data")) / 2, (top + bottom) / 2 + 5, "no data", QUIET)
    _save(path, image)


def _values_in_words(values: dict[str, np.ndarray]) -> dict[str, list[str]]:
    """All with as many decimals as give the largest three digits: a column of numbers that one can compare."""
    largest = max((abs(value) for column in values.values() for value in column if np.isfinite(value)), default=0.0) or 1.0
    exponent, suffix = _unit(largest)
    decimals = max(0, 2 + exponent - math.floor(math.log10(largest)))
    return {name: [_number(value, exponent, suffix, decimals) if np.isfinite(value) else "" for value in column] for name, column in values.items()}


def _bar_axis(values: dict[str, np.ndarray], left: int, room: int) -> tuple[Axis, list[Tick]]:
    """Zero is always on it, since bars begin there. `room` is what the number beside a bar needs; the axis goes on below it."""
    data = np.concatenate([np.zeros(1), *values.values()])
    low, high = float(np.nanmin(data)), float(np.nanmax(data))
    high += low == high
    room_left = room if low < 0 else 0
    pixel = (high - low) / (WIDTH - MARGIN - left - room_left - room)
    axis = Axis(low - pixel * room_left, high + pixel * room, False, left, WIDTH - MARGIN)
    return axis, _ticks_that_fit(axis, lambda text: _text_width(text) + 28)


def _bar(image: np.ndarray, axis: Axis, y: int, value: float, text: str, colour: tuple[int, int, int]) -> None:
    zero, end, wide = axis.place(0.0), axis.place(value), _text_width(text)
    x = end + 6 if value >= 0 else end - 6 - wide
    _rectangle(image, min(zero, end), y, max(zero, end), y + BAR - 1, colour)
    _rectangle(image, x - 3, y, x + wide + 3, y + BAR - 1, WHITE)  # no line of the grid runs through a number
    _text(image, x, y + 12, text, QUIET)


# --- numbers and axes ------------------------------------------------------------------------------------------------


def _finite(values: Sequence[float | None]) -> np.ndarray:
    """As floats; NaN stands for everything that has no place on an axis, None among it."""
    values = np.array(values, dtype=np.float64)
    values[~(np.abs(values) <= HUGE)] = np.nan
    values[np.abs(values) < TINY] = 0
    return values


def _drawable(line: Line, log_x: bool, log_y: bool) -> Line:
    """The line in the numbers of its axes. A point that lacks one coordinate has none."""
    if line.style not in STYLES or len(line.x) != len(line.y):
        raise ValueError(f"line {line.label!r}: style {line.style!r} of {STYLES}, {len(line.x)} x and {len(line.y)} y, which should be as many")
    x, y = _finite(line.x), _finite(line.y)
    for values, log in ((x, log_x), (y, log_y)):
        if log:
            values[~(values > 0)] = np.nan
            np.log10(values, out=values)
    nowhere = np.isnan(x) | np.isnan(y)
    x[nowhere] = y[nowhere] = np.nan
    return line._replace(x=x, y=y)


def _span(values: np.ndarray, log: bool, pad: float, from_zero: bool = False) -> tuple[float, float]:
    """From where to where an axis goes: all values and some air, and down to zero where zero is not far."""
    values = values[np.isfinite(values)]
    if not len(values):
        return 0.0, 1.0
    low, high = float(values.min()), float(values.max())
    if log:
        return (low - 0.3, high + 0.3) if high - low < 0.01 else (low - pad * (high - low), high + pad * (high - low))
    if from_zero and 0 <= low <= 0.1 * high:
        return 0.0, high * (1 + pad) or 1.0
    if high - low <= 1e-9 * max(-low, high):  # constant, or as good as that
        air = 0.1 * abs(low) or 1.0
        return low - air, high + air
    return low - pad * (high - low), high + pad * (high - low)


def _ticks_that_fit(axis: Axis, room: Callable[[str], float]) -> list[Tick]:
    """As many ticks, of nine at the most, as leave each other the pixels that `room` asks for a text."""
    for most in range(9, 0, -1):
        ticks = _ticks(axis, most)
        distances = [abs(axis.place(b.value) - axis.place(a.value)) - (room(a.text) + room(b.text)) / 2 for a, b in pairwise(ticks)]
        if min(distances, default=0) >= 0:
            break
    return ticks


def _ticks(axis: Axis, most: int) -> list[Tick]:
    if not axis.log:
        return _round_numbers(axis.low, axis.high, most)
    steps = [(decade, digit) for decade in range(math.floor(axis.low), math.ceil(axis.high) + 1) for digit in (1, 2, 5)]
    steps = [(decade, digit) for decade, digit in steps if axis.low <= decade + math.log10(digit) <= axis.high]
    decades = [(decade, digit) for decade, digit in steps if digit == 1]
    if len(steps) > most or len(steps) < 3:
        if len(decades) < 2:  # within one decade: the ticks of a linear axis, at their places on this one
            return [Tick(math.log10(value), text) for value, text in _round_numbers(10.0**axis.low, 10.0**axis.high, most)]
        apart = math.ceil(len(decades) / most)
        steps = [(decade, digit) for decade, digit in decades if decade % apart == 0]
    return [Tick(decade + math.log10(digit), _number(digit * 10.0**decade, *_unit(digit * 10.0**decade))) for decade, digit in steps]


def _round_numbers(low: float, high: float, most: int) -> list[Tick]:
    """The multiples of 1, 2 or 5 times a power of ten between two numbers, about `most` of them."""
    rough = (high - low) / most
    exponent = math.floor(math.log10(rough))
    digit = next((digit for digit in (1, 2, 5) if digit * 10.0**exponent >= rough), 10)
    step = digit * 10.0**exponent
    unit, suffix = _unit(max(abs(low), abs(high)))
    decimals = max(0, unit - exponent - (digit == 10))
    counts = range(math.ceil(low / step - 1e-9), math.floor(high / step + 1e-9) + 1)
    return [Tick(count * step, _number(count * step, unit, suffix, decimals)) for count in counts]


def _unit(largest: float) -> tuple[int, str]:
    """The power of ten in which numbers up to this one read best, and what stands for it."""
    power = math.floor(math.log10(largest)) if largest > 0 else 0
    if power >= 12 or power < -3:
        return power, f"e{power}"
    return next(((exponent, suffix) for least, exponent, suffix in ((9, 9, "G"), (6, 6, "M"), (4, 3, "k")) if power >= least), (0, ""))


def _number(value: float, exponent: int, suffix: str, decimals: int | None = None) -> str:
    if value == 0:
        return "0"
    value = value / 10.0**exponent if exponent >= 0 else value * 10.0**-exponent
    return (f"{value:.6g}" if decimals is None else f"{value:.{min(decimals, 12)}f}") + suffix


# --- parts of a chart ------------------------------------------------------------------------------------------------


def _colours(labels: Iterable[str]) -> dict[str, tuple[int, int, int]]:
    return {label: PALETTE[index % len(PALETTE)] for index, label in enumerate(labels)}


def _heading(image: np.ndarray, title: str, y_label: str, styles: dict[str, set[str]]) -> int:
    """Title, under it what the values are, and the legend, which up here covers no data. Returns where these may begin."""
    large = 4 / 3 if _text_width(title, 4 / 3) <= WIDTH - 2 * MARGIN else 1
    _text(image, MARGIN, 36, _fit(title, WIDTH - 2 * MARGIN), INK, large, weight=1.55 * large)
    _text(image, MARGIN, 60, _fit(y_label, WIDTH - 2 * MARGIN), QUIET)
    colours, rows = _colours(styles), _legend(styles)
    for index, row in enumerate(rows):
        x, y = MARGIN, 86 + index * ROW
        for label, text, width in row:
            for style in sorted(styles.get(label, ())):
                ends = np.array([x + 11.0] if style == "dots" else [x, x + 22.0])
                if style == "bar":
                    _rectangle(image, x, y - 10, x + 22, y, colours[label])
                else:
                    _curve(image, ends, np.full(len(ends), y - 4.5), style, colours[label])
            _text(image, x + 30 if styles.get(label) else x, y, text, INK if styles.get(label) else QUIET)
            x += width
    return HEAD + len(rows) * ROW


def _legend(styles: dict[str, set[str]]) -> list[list[tuple[str, str, int]]]:
    """Rows of (label, text, width in pixels)."""
    rows, left = [], 0
    named = [label for label in styles if label]
    for index, label in enumerate(named):
        text = _fit(label + ("" if styles[label] else " (no data)"), WIDTH - 2 * MARGIN - 30)
        width = _text_width(text) + (58 if styles[label] else 28)
        last = len(rows) == LEGEND_ROWS
        if width - 28 > left - 100 * last:  # what comes after the text may reach into the margin; the last row keeps room for "and 12 more"
            if last:
                rows[-1].append(("", f"and {len(named) - index} more", 0))
                break
            rows.append([])
            left = WIDTH - 2 * MARGIN
        rows[-1].append((label, text, width))
        left -= width
    return rows


def _grid(image: np.ndarray, x_axis: Axis, x_ticks: list[Tick], y_axis: Axis, y_ticks: list[Tick]) -> None:
    """Lines of one whole pixel at the ticks, and fainter ones between the decades of a logarithmic axis."""
    top, bottom, left, right = math.floor(y_axis.end), math.floor(y_axis.start), x_axis.start, x_axis.end
    for colour, xs, ys in ((FINE_GRID, _fine(x_axis), _fine(y_axis)), (GRID, [t.value for t in x_ticks], [t.value for t in y_ticks])):
        for x in (math.floor(x_axis.place(value)) for value in xs):
            _rectangle(image, x, top, x + 1, bottom + (6 if colour == GRID else 0), colour)
        for y in (math.floor(y_axis.place(value)) for value in ys):
            _rectangle(image, left, y, right, y + 1, colour)
    _rectangle(image, left, bottom, right, bottom + 1, AXIS)


def _fine(axis: Axis) -> list[float]:
    if not axis.log or axis.high - axis.low > 6:
        return []
    places = [decade + math.log10(digit) for decade in range(math.floor(axis.low), math.ceil(axis.high)) for digit in range(1, 10)]
    return [place for place in places if axis.low <= place <= axis.high]


def _curve(image: np.ndarray, x: np.ndarray, y: np.ndarray, style: str, colour: tuple[int, int, int]) -> None:
    """In pixels. A point whose neighbours are missing becomes a small dot."""
    if style == "dots":
        places = np.unique(np.round(np.stack([x, y], axis=1)[~np.isnan(x)] * 4) / 4, axis=0)  # nobody sees a quarter of a pixel
        width = 7.0 if len(places) <= 300 else 4.0
        dots = np.concatenate([places, places], axis=1)
        if len(places) <= 300:
            _strokes(image, dots, width + 2, WHITE)  # a rim, so that dots stand out from the line that they lie on
        _strokes(image, dots, width, colour)
        return
    kept = _thinned(x, y)
    points = np.stack([x[kept], y[kept]], axis=1)
    there = np.concatenate([[False], ~np.isnan(points[:, 0]), [False]])
    begins = np.flatnonzero(there[1:-1] & there[2:])
    alone = points[there[1:-1] & ~there[2:] & ~there[:-2]]
    width, opacity = (1.2, 0.4) if style == "faint" else (2.2, 1.0)
    _strokes(image, np.concatenate([points[begins], points[begins + 1]], axis=1), width, colour, opacity)
    _strokes(image, np.concatenate([alone, alone], axis=1), 2 * width, colour, opacity)


def _thinned(x: np.ndarray, y: np.ndarray) -> np.ndarray:
    """Which points to draw: of those that follow each other within a column of pixels the first, the lowest, the highest and the last."""
    if not len(x):
        return np.empty(0, np.int64)
    column = np.where(np.isnan(x), -1, np.floor(np.nan_to_num(x)))
    groups = np.cumsum(np.diff(column, prepend=column[0]) != 0)
    order = np.lexsort((y, groups))  # groups stay where they are, in each the points go from the top to the bottom
    ends = np.flatnonzero(np.diff(groups, append=groups[-1] + 1))
    starts = np.concatenate([[0], ends[:-1] + 1])
    return np.unique(np.concatenate([starts, ends, order[starts], order[ends]]))


# --- drawing ---------------------------------------------------------------------------------------------------------


def _blank(height: int) -> np.ndarray:
    return np.full((height, WIDTH, 3), 255.0, np.float32)


def _rectangle(image: np.ndarray, left: float, top: int, right: float, bottom: int, colour: tuple[int, int, int]) -> None:
    """Its sides may lie within a pixel: a bar is as long as its value."""
    columns = np.arange(math.floor(left), min(math.ceil(right), WIDTH))
    cover = np.clip(np.minimum(right, columns + 1) - np.maximum(left, columns), 0, 1)[None, :, None]
    region = image[top:bottom, columns[0] : columns[-1] + 1] if len(columns) else image[:0, :0]
    region += ((np.array(colour) - region) * cover).astype(np.float32)


def _strokes(image: np.ndarray, segments: np.ndarray, width: float, colour: tuple[int, int, int], opacity: float = 1.0) -> None:
    """Segments (x0, y0, x1, y1) with round ends, as one shape: where they overlap, nothing is darker."""
    if not len(segments):
        return
    reach = width / 2 + 0.5
    left, top = (max(0, math.floor(segments[:, side::2].min() - reach)) for side in (0, 1))
    right, bottom = (min(image.shape[1 - side], math.ceil(segments[:, side::2].max() + reach)) for side in (0, 1))
    if right <= left or bottom <= top:
        return
    cover = np.zeros((bottom - top, right - left), np.float32)
    long = np.abs(segments[:, 2:] - segments[:, :2]).max(axis=1) + 2 * reach + 2
    parts = np.cumsum(long * (3 * reach + 2)) // CHUNK
    for part in np.split(segments - [left, top, left, top], np.flatnonzero(np.diff(parts)) + 1):
        _cover(cover, part, reach)
    region = image[top:bottom, left:right]
    region += (np.array(colour, np.float32) - region) * (np.float32(opacity) * cover)[..., None]


def _cover(cover: np.ndarray, segments: np.ndarray, reach: float) -> None:
    """Raise each pixel of `cover` to the share that segments cover of it. Pixels are looked at along a segment's longer direction, a few across."""
    x0, y0, x1, y1 = segments.T
    steep = np.abs(y1 - y0) > np.abs(x1 - x0)
    a0, b0, a1, b1 = np.where(steep, (y0, x0, y1, x1), (x0, y0, x1, y1))  # a along, b across
    first = np.floor(np.minimum(a0, a1) - reach).astype(np.int64)
    count = np.ceil(np.maximum(a0, a1) + reach).astype(np.int64) - first
    which = np.repeat(np.arange(len(segments)), count)
    along = np.arange(len(which)) - (np.cumsum(count) - count - first)[which]  # (pixels along)
    a0, b0, a, b, steep = a0[which, None], b0[which, None], (a1 - a0)[which, None], (b1 - b0)[which, None], steep[which, None]
    along = along[:, None]
    middle = b0 + b * np.clip((along + 0.5 - a0) / np.where(a == 0, 1, a), 0, 1)
    wide = math.ceil(1.5 * reach)  # across a slope of at most one, the way is at most √2 times the distance
    across = np.floor(middle).astype(np.int64) + np.arange(-wide, wide + 1)  # (pixels along, pixels across)
    from_a, from_b = along + 0.5 - a0, across + 0.5 - b0
    foot = np.clip((from_a * a + from_b * b) / np.maximum(a * a + b * b, 1e-12), 0, 1)  # the nearest place of the segment
    share = np.clip(reach - np.hypot(from_a - foot * a, from_b - foot * b), 0, 1)
    rows, columns = np.where(steep, along, across), np.where(steep, across, along)
    seen = (share > 0) & (rows >= 0) & (rows < cover.shape[0]) & (columns >= 0) & (columns < cover.shape[1])
    np.maximum.at(cover, (rows[seen], columns[seen]), share[seen].astype(np.float32))


def _save(path: Path, image: np.ndarray) -> None:
    """A PNG of 8-bit red, green and blue; each row begins with 0, which says that no filter was used."""
    height, width = image.shape[:2]
    rows = np.zeros((height, 1 + 3 * width), np.uint8)
    rows[:, 1:] = np.round(np.clip(image, 0, 255)).astype(np.uint8).reshape(height, -1)
    chunks = (b"IHDR", struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)), (b"IDAT", zlib.compress(rows.tobytes(), 9)), (b"IEND", b"")
    packed = [struct.pack(">I", len(body)) + name + body + struct.pack(">I", zlib.crc32(name + body)) for name, body in chunks]
    with atomic_path(Path(path)) as temporary:
        temporary.write_bytes(b"\x89PNG\r\n\x1a\n" + b"".join(packed))


# --- letters ---------------------------------------------------------------------------------------------------------

# A glyph is its width and its strokes. A stroke is a path of points, each an x from 0 to 8 and a y from 0 to d (hexadecimal): the baseline is 3,
# small letters end at 9, capitals at c. "~" rounds the corners of a path, all of them if it ends where it began. At scale 1 a step of the grid is
# a pixel, so upright and level strokes lie on whole pixels and are sharp.
GLYPHS = {
    " ": "1", "!": "0 0c06 0303", '"': "2 0c09 2c29", "#": "6 133c 335c 0565 1a6a", "$": "4 ~4a4c0c0848430305 2d22",
    "%": "8 ~0c3c38080c ~5787835357 7c13", "&": "7 ~731a1c4c4a07035376", "'": "0 0c09", "(": "2 ~2d0b0421", ")": "2 ~0d2b2401",
    "*": "4 2c28 0b49 094b", "+": "6 3a34 0767", ",": "1 1401", "-": "4 0747", ".": "0 03", "/": "4 4d02", "0": "5 ~03535c0c03", "1": "5 1a3c33 1353",
    "2": "5 ~0a0c5c5803 0353", "3": "5 ~0a0c5c5828 ~2858530305", "4": "5 434c0656", "5": "5 5c0c08 ~0858530304", "6": "5 ~5a5c0c06 ~0353580803",
    "7": "5 0c5c23", "8": "5 ~0c5c58080c ~0858530308", "9": "5 ~07575c0c07 ~59530305", ":": "0 03 08", ";": "1 1401 18", "<": "5 5a0754",
    "=": "6 0969 0565", ">": "5 0a5704", "?": "4 ~0a0c4c482826 23", "@": "8 ~72020c8c856569 ~3565693935", "A": "6 033c63 1656",
    "B": "5 030c ~0c4c4808 ~08585303", "C": "6 ~6a6c0c036365", "D": "6 030c ~0c6c6303", "E": "5 5c0c0353 0848", "F": "5 5c0c03 0848",
    "G": "6 ~6a6c0c036367 6737", "H": "6 030c 636c 0868", "I": "0 030c", "J": "4 ~4c430305", "K": "5 030c 5c07 2953", "L": "5 0c0353",
    "M": "8 030c468c83", "N": "6 030c636c", "O": "7 ~03737c0c03", "P": "5 030c ~0c5c5707", "Q": "7 ~03737c0c03 4682", "R": "5 030c ~0c5c5707 2753",
    "S": "5 ~5a5c0c0858530305", "T": "6 0c6c 3c33", "U": "6 ~0c03636c", "V": "6 0c336c", "W": "8 0c234c638c", "X": "6 0c63 036c",
    "Y": "6 0c376c 3733", "Z": "5 0c5c0353", "[": "2 2d0d0121", "\\": "4 0d42", "]": "2 0d2d2101", "^": "4 092c49", "_": "6 0161", "`": "2 0c2a",
    "a": "5 ~195953 ~56060353", "b": "5 0c03 ~0959530309", "c": "4 ~484909034344", "d": "5 5c53 ~0959530309", "e": "5 0656 ~565909035354",
    "f": "3 ~3c1c13 0939", "g": "5 ~0959530309 ~595010", "h": "5 0c03 ~06095953", "i": "0 0309 0c", "j": "2 ~292000 2c", "k": "4 0c03 4905 2743",
    "l": "2 ~0c0323", "m": "8 0309 ~06094943 ~46498983", "n": "5 0309 ~06095953", "o": "5 ~0959530309", "p": "5 0900 ~0959530309",
    "q": "5 5950 ~0959530309", "r": "3 0309 ~060939", "s": "4 ~4849090646430304", "t": "3 ~1b1333 0939", "u": "5 5953 ~09035356", "v": "4 092349",
    "w": "8 0923496389", "x": "5 0953 0359", "y": "4 0923 4910", "z": "4 09490343", "{": "3 ~3d1d1707 ~07171131", "|": "0 0d01",
    "}": "3 ~0d2d2737 ~37272101", "~": "6 ~060838366668",
}  # fmt: skip


@functools.cache
def _glyph(character: str) -> tuple[int, np.ndarray]:
    """The width, and the strokes as segments with y upwards from the baseline."""
    width, *strokes = GLYPHS.get(character, GLYPHS["?"]).split()
    segments = [np.empty((0, 4))]
    for stroke in strokes:
        digits = stroke.lstrip("~")
        points = np.array([(int(x, 16), int(y, 16) - 3) for x, y in zip(digits[::2], digits[1::2], strict=True)], dtype=np.float64)
        points = _rounded(points) if stroke.startswith("~") else points
        segments.append(np.concatenate([points[:-1], points[1:]], axis=1) if len(points) > 1 else np.concatenate([points, points], axis=1))
    return int(width), np.concatenate(segments)


def _rounded(points: np.ndarray) -> np.ndarray:
    """The path with a parabola in place of each corner, from the middles of its edges, or their ends, but never farther than 3 from the corner."""
    closed = (points[0] == points[-1]).all()
    corners = points[:-1] if closed else points[1:-1]
    path = [] if closed else [points[:1]]
    share = np.linspace(0, 1, 7)[:, None]
    for index, corner in enumerate(corners):
        sides = []
        for step in (-1, 1):
            at = index + step
            other = corners[at % len(corners)] if closed else points[at + 1]
            length = np.abs(other - corner).max()
            usable = length if not closed and at in (-1, len(corners)) else length / 2
            sides.append(corner + (other - corner) * min(3.0, usable) / length)
        path.append((1 - share) ** 2 * sides[0] + 2 * share * (1 - share) * corner + share**2 * sides[1])
    path.append(path[0][:1] if closed else points[-1:])
    return np.concatenate(path)


def _text_width(text: str, scale: float = 1) -> int:
    return max(0, sum(math.ceil((_glyph(character)[0] + 3) * scale) for character in text) - 2)  # the space after a letter ends where the text does


def _text(image: np.ndarray, x: float, baseline: float, text: str, colour: tuple[int, int, int], scale: float = 1, weight: float = 1.3) -> None:
    """From x on, on the pixels above the baseline. Letters begin on whole pixels, as their stems should."""
    x, segments = math.floor(x), [np.empty((0, 4))]
    nudge = 0.5 if weight < 1.7 else 0.0  # a stroke of one pixel lies in the middle of a row of pixels, one of two lies between two rows
    for character in text:
        width, strokes = _glyph(character)
        segments.append(strokes * [scale, -scale, scale, -scale] + [x + nudge, round(baseline) - 1 + nudge] * 2)
        x += math.ceil((width + 3) * scale)
    _strokes(image, np.concatenate(segments), weight, colour)


def _fit(text: str, room: float) -> str:
    """A text that is too long loses its middle: names of runs and tasks differ at both ends."""
    if _text_width(text) <= room:
        return text
    keep = len(text)
    while keep > 2 and _text_width(text[: (keep + 1) // 2] + "..." + text[len(text) - keep // 2 :]) > room:
        keep -= 1
    return text[: (keep + 1) // 2] + "..." + text[len(text) - keep // 2 :]
