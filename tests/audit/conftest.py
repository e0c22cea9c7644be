from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from audit import Journal


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "operations.jsonl"


@pytest.fixture
def journal(path: Path) -> Iterator[Journal]:
    with Journal.open(path) as journal:
        yield journal


@pytest.fixture
def written(path: Path) -> Path:
    """A closed journal of five entries."""
    with Journal.open(path) as journal:
        for number in range(5):
            journal.append({"operation": "sign", "key": f"key-{number}", "uses": number, "dry_run": False})
    return path


@pytest.fixture
def change(written: Path) -> Callable[[Callable[[list[bytes]], list[bytes]]], Path]:
    """Rewrites the lines of the journal as someone with the disk in hand would."""

    def rewrite(edit: Callable[[list[bytes]], list[bytes]]) -> Path:
        written.write_bytes(b"".join(edit(written.read_bytes().splitlines(keepends=True))))
        return written

    return rewrite
