"""What the README says of the dial is what the plan says."""

import re
import sys
from pathlib import Path

import pytest

from scripts import base_train

README = (Path(__file__).parent.parent / "README.md").read_text(encoding="utf-8")
ROWS = re.findall(
    r"^\| (\d+) \| ([\d,]+) M \| ([\d,]+) M \| ([\d.]+) G \| (\S+) \| (\d+) \| ([\d.]+ \w+) \| \$([\d,]+) \| ([\d.]+ \w+) \|$", README, re.MULTILINE
)


@pytest.fixture
def dry_run(monkeypatch, capsys, tmp_path):
    """The numbers that a dry run prints, by the first words of their lines."""
    monkeypatch.setenv("NANOCHAT_BASE_DIR", str(tmp_path))

    def run(depth: str, device: str) -> dict[str, float]:
        monkeypatch.setattr(sys, "argv", ["base_train", "--depth", depth, "--dry-run", device])
        assert base_train.main(base_train.parse_args()) == 0
        lines = re.findall(r"^ *(\S+(?: \S+)*)  +([\d.,e+]+)", capsys.readouterr().out, re.MULTILINE)
        return {name: float(number.replace(",", "")) for name, number in lines}

    return run


def hours(number: float) -> str:
    return f"{number * 60:.0f} min" if number < 1 else f"{number:.1f} h"


def test_the_table_of_depths(dry_run):
    assert [row[0] for row in ROWS] == ["8", "12", "16", "20", "24", "26", "32"]
    for depth, *shown in ROWS:
        node, one = dry_run(depth, "8xH100"), dry_run(depth, "1xH100")
        assert shown == [
            f"{node['parameters'] / 1e6:,.0f}", f"{node['scaling parameters'] / 1e6:,.0f}", f"{node['tokens'] / 1e9:.1f}", f"{node['FLOPs']:.1e}",
            f"{node['total']:.0f}", hours(node["time"]), f"{node['cost']:,.0f}", hours(one["time"]),
        ]  # fmt: skip
