"""What runs in a transaction of the group writer may run twice, or in vain: it changes nothing but the database.

A counter that a job counts up counts twice; what it remembers of what it did is remembered of what was undone.
"""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

_ROOT = Path(__file__).parents[2]
_PACKAGES = ("gateway", "hsm_service", "storefront", "switch")
_CHANGES = frozenset(
    {"append", "appendleft", "add", "clear", "discard", "extend", "inc", "insert"}
    | {"observe", "pop", "popleft", "remove", "setdefault", "update"}
)
_AT_THE_START = {("switch/key_ring.py", "load")}
"""Runs once, before the first request."""

_Job = ast.FunctionDef | ast.Lambda


def _jobs(tree: ast.AST) -> Iterator[_Job]:
    for node in ast.walk(tree):
        if isinstance(node, ast.FunctionDef):
            if any(each.annotation and ast.unparse(each.annotation) == "Connection" for each in node.args.args):
                yield node
        elif isinstance(node, ast.Lambda) and any(each.arg == "connection" for each in node.args.args):
            yield node


def _root(node: ast.AST) -> str | None:
    while isinstance(node, ast.Attribute | ast.Subscript | ast.Call):
        node = node.func if isinstance(node, ast.Call) else node.value
    return node.id if isinstance(node, ast.Name) else None


def changed_outside(source: str, place: str = "") -> list[str]:
    """What the jobs in `source` change that is neither theirs nor the database's, by line."""
    found = set()
    for job in _jobs(ast.parse(source)):
        if isinstance(job, ast.FunctionDef) and (place, job.name) in _AT_THE_START:
            continue
        own = {each.id for each in ast.walk(job) if isinstance(each, ast.Name) and isinstance(each.ctx, ast.Store)}
        own |= {each.arg for each in ast.walk(job) if isinstance(each, ast.arg)} - {"self", "cls"}
        for node in ast.walk(job):
            targets: list[ast.expr] = []
            if isinstance(node, ast.Nonlocal | ast.Global):
                found.add(f"{place}:{node.lineno}: {ast.unparse(node)}")
            elif isinstance(node, ast.Assign):
                targets = [each for each in node.targets if isinstance(each, ast.Attribute | ast.Subscript)]
            elif isinstance(node, ast.AugAssign) and isinstance(node.target, ast.Attribute | ast.Subscript):
                targets = [node.target]
            elif isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute) and node.func.attr in _CHANGES:
                targets = [node.func.value]
            found |= {f"{place}:{node.lineno}: {ast.unparse(node)}" for each in targets if _root(each) not in own}
    return sorted(found)


def test_what_may_run_twice_changes_nothing_outside_of_its_transaction() -> None:
    files = [
        file for package in _PACKAGES for file in (_ROOT / package).rglob("*.py") if "migrations" not in file.parts
    ]
    assert len(files) > 100
    found = [
        each
        for file in files
        if "migrations" not in file.parts
        for each in changed_outside(file.read_text(), str(file.relative_to(_ROOT)))
    ]
    assert found == []


@pytest.mark.parametrize(
    "change",
    ["_count.labels('x').inc()", "self._last = 1", "seen.append(1)", "values['a'] = 1", "self._uses[1] += 1"],
)
def test_each_kind_of_change_is_seen(change: str) -> None:
    assert changed_outside(f"def job(self, connection: Connection) -> None:\n    {change}\n")
    assert not changed_outside(f"def other(self) -> None:\n    {change}\n")


def test_what_a_job_made_itself_it_may_change() -> None:
    assert not changed_outside("def job(connection: Connection) -> None:\n    found = []\n    found.append(1)\n")
