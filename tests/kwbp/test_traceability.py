"""docs/traceability.md: every requirement of the original document, what meets it, and which tests show it."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Final

import pytest

ROOT: Final = Path(__file__).parents[2]
IDS: Final = [
    *(f"C-{number:02d}" for number in range(1, 27)),
    *(f"P-{number:02d}" for number in range(1, 4)),
    *(f"T-{number}" for number in range(1, 10)),
    *(f"A-{number:02d}" for number in range(1, 16)),
    *(f"R-{letter}" for letter in "abcd"),
    "E-1", "E-2", "E-2b", "E-3", "E-4", "E-5", "E-6",
    "A", "B", "B′", "B″", "C", "D", "E1", "E2", "E3", "E4", "F", "G1", "G2", "G3", "H1", "H2", "H3",
    "D-1", "D-2", "D-3",
]  # fmt: skip
ROWS: Final = [
    [cell.strip() for cell in line.strip("|").split("|")]
    for line in (ROOT / "docs" / "traceability.md").read_text("utf-8").splitlines()
    if line.startswith("| ") and not line.startswith(("| id", "| ---"))
]


def _named(cell: str) -> list[str]:
    return re.findall(r"`([^`]+)`", cell)


def test_every_requirement_is_there_once() -> None:
    assert [row[0] for row in ROWS] == IDS


@pytest.mark.parametrize("row", ROWS, ids=[row[0] for row in ROWS])
def test_what_a_row_names_exists(row: list[str]) -> None:
    _id, requirement, met_by, shown_by, state = row
    assert requirement
    assert all((ROOT / name).exists() for name in _named(met_by) + _named(shown_by))
    assert all(name.startswith("tests/") for name in _named(shown_by))
    word, _, missing = state.partition(": ")
    assert word in ("done", "partly", "planned")
    if word == "planned":
        return
    assert _named(met_by)
    assert _named(shown_by)
    assert word == "done" or missing, "say what is missing"
