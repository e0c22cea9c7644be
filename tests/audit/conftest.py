from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from audit import Journal
from tests.support.signed_logs import LogSigner


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


@pytest.fixture(scope="session")
def signer() -> LogSigner:
    return LogSigner.generate("kwbp/log-operations")


@pytest.fixture(scope="session")
def published(tmp_path_factory: pytest.TempPathFactory, signer: LogSigner) -> Path:
    """A closed journal of 600 entries with a signed checkpoint, not to be changed: see `signed`."""
    path = tmp_path_factory.mktemp("published") / "operations.jsonl"
    with Journal.open(path, sync=lambda file: None) as journal:
        for number in range(600):
            journal.append({"operation": "sign", "key": f"key-{number % 7}", "uses": number})
            if number == 300:
                signer.publish(journal)
        signer.publish(journal)
    return path


@pytest.fixture
def signed(published: Path, tmp_path: Path) -> Path:
    """A copy of it, to be changed."""
    shutil.copytree(published.parent, tmp_path / "log")
    return tmp_path / "log" / published.name
