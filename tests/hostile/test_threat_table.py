"""threats.yaml: every row of the threat table has a test named after it, and no test and no row is lost."""

from __future__ import annotations

import ast
from pathlib import Path
from typing import Any, Final

import pytest
import yaml

FOLDER: Final = Path(__file__).parent
ROOT: Final = FOLDER.parents[1]
ROWS: Final = 42
TABLE: Final[dict[int, dict[str, Any]]] = yaml.safe_load((FOLDER / "threats.yaml").read_text("utf-8"))
TESTS: Final = {
    f"{path.name}::{node.name}": node
    for path in sorted(FOLDER.glob("test_threats_*.py"))
    for node in ast.walk(ast.parse(path.read_text("utf-8")))
    if isinstance(node, ast.FunctionDef) and node.name.startswith("test_")
}


def test_no_row_is_lost() -> None:
    assert list(TABLE) == list(range(1, ROWS + 1))


def test_every_numbered_test_is_in_the_table_once() -> None:
    numbered = {name for name in TESTS if name.split("::test_")[1][:2].isdigit()}
    assert sorted(row["test"] for row in TABLE.values()) == sorted(numbered)


@pytest.mark.parametrize("number", TABLE)
def test_what_a_row_names_exists(number: int) -> None:
    row = TABLE[number]
    assert row.keys() <= {"threat", "measure", "modules", "test", "also", "state", "reason"}
    assert row["threat"]
    assert row["measure"]
    assert row["modules"]
    for name in (*row["modules"], *row.get("also", ())):
        assert (ROOT / name).is_file(), name
    assert all(name.startswith("tests/") for name in row.get("also", ()))
    assert row["test"].split("::")[1].startswith(f"test_{number:02d}_")
    assert row["test"] in TESTS


@pytest.mark.parametrize("number", TABLE)
def test_what_a_row_does_not_show_is_said(number: int) -> None:
    """In the table, and where the test stands: whoever reads it there must not take it for the whole."""
    row = TABLE[number]
    assert row["state"] in ("shown", "stand-in", "planned")
    assert ("reason" in row) is (row["state"] != "shown")
    said = ast.get_docstring(TESTS[row["test"]]) or ""
    assert said.startswith("Stand-in") is (row["state"] == "stand-in")
    if row["state"] == "planned":
        assert " yet" in said or "to come" in said
