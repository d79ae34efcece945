"""Tables, links and numbers for pages of Markdown. What is not there is a dash."""

import math
from collections.abc import Sequence

from nanochat.run_files import number

DASH = "–"


def table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> list[str]:
    """Its lines. The first column stands on the left, numbers on the right. Without rows there is no table."""
    if not rows:
        return []
    right = [i > 0 and all(_numeric(row[i]) for row in rows) for i in range(len(head))]
    lines = [head, ["---:" if is_right else "---" for is_right in right], *rows]
    return ["| " + " | ".join(cell if line is lines[1] else cell_of(cell) for cell in line) + " |" for line in lines]


def cell_of(text: str) -> str:
    return " ".join(text.split()).replace("|", "\\|")


def _numeric(text: str) -> bool:
    return text == DASH or text[:1].isdigit() or text[:2] in ("+0", "-0", "±0")


def chart_link(path: str, title: str) -> list[str]:
    return [f"![{title}]({path})", ""]


def fenced(text: str) -> list[str]:
    """Text as it is, in a fence longer than any that it holds."""
    longest = max((len(line) - len(line.lstrip("`")) for line in map(str.strip, text.splitlines())), default=0)
    fence = "`" * max(3, longest + 1)
    return [f"{fence}text", *text.splitlines(), fence]


def count(value: object) -> str:
    """A whole number with its thousands marked."""
    value = number(value)
    return DASH if value is None else f"{value:,.0f}"


def decimal(value: object, places: int = 4) -> str:
    value = number(value)
    return DASH if value is None else f"{value:.{places}f}"


def short_flops(value: object) -> str:
    value = number(value)
    return DASH if value is None else f"{value:.2e}"


def gibibytes(value: object) -> str:
    value = number(value)
    return DASH if value is None else f"{value / 2**30:.2f} GiB"


def plain(value: object) -> str:
    """Anything of a JSON file in as few characters as it takes."""
    if value is None or value == "" or (isinstance(value, float) and not math.isfinite(value)):
        return DASH
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, int):
        return f"{value:,}"
    if isinstance(value, float):
        return f"{value:,.0f}" if value.is_integer() and abs(value) < 1e15 else f"{value:.6g}"
    if isinstance(value, list):
        return " ".join(map(plain, value))
    return str(value)
