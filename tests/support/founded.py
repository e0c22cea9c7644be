"""Certificate authorities that begin where the first one of the same hierarchy stood when it had started.

A first start makes the tables and signs nine CRLs, which takes longer than most tests of what comes after it. So the
first authority of a hierarchy leaves a copy of its files here, and the next ones start over such a copy, as the same
authority does after a restart. One that does not begin there has a database with its tables (`with_tables`): migrations
are tested where they are the subject.
"""

from __future__ import annotations

import stat
import tempfile
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Final
from weakref import WeakKeyDictionary

from sqlalchemy import Engine

from ca.schema import bring_up_to_date
from runtime.database import open_database
from tests.support.cps_cases import Office
from tests.support.pki_factory import PkiFactory

_FOLDERS: Final = ("pki", "audit")
_DATABASE: Final = "db/ca.db"


def _mode(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


@dataclass(frozen=True)
class _Copy:
    """Folders (no content) and files, each with its mode, the outer ones first."""

    entries: tuple[tuple[str, int, bytes | None], ...]

    @staticmethod
    def of(folder: Path, engine: Engine) -> _Copy:
        paths = [path for name in _FOLDERS for path in (folder / name, *sorted((folder / name).rglob("*")))]
        entries = [
            (str(path.relative_to(folder)), _mode(path), path.read_bytes() if path.is_file() else None)
            for path in paths
        ]
        with engine.connect() as db:
            content: bytes = db.connection.driver_connection.serialize()  # type: ignore[union-attr]  # of sqlite3
        database = folder / _DATABASE
        return _Copy((*entries, ("db", _mode(database.parent), None), (_DATABASE, _mode(database), content)))

    def write(self, folder: Path) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        for name, mode, content in self.entries:
            path = folder / name
            if content is None:
                path.mkdir(mode=mode, exist_ok=True)
            else:
                path.touch(mode=mode)
                path.write_bytes(content)


def with_tables(path: Path) -> Path:
    """A database file whose tables are there and empty, unless the file is there already."""
    if not path.exists():
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        path.write_bytes(_tables())
    return path


@cache
def _tables() -> bytes:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "ca.db"
        engine = open_database(path)
        bring_up_to_date(engine)
        engine.dispose()
        return path.read_bytes()


_COPIES: Final[WeakKeyDictionary[PkiFactory, dict[object, _Copy]]] = WeakKeyDictionary()


@dataclass(frozen=True)
class Founding:
    """The files of the authority that an office has at a time; `folder` is where one is to be."""

    folder: Path
    office: Office
    now: object

    def restore(self) -> bool:
        """Put them into the folder, which has none; whether there were any."""
        copy = self._copies.get(self._key)
        if copy is None or any((self.folder / name).exists() for name in ("pki", "audit/ca.jsonl", _DATABASE)):
            return False
        copy.write(self.folder)
        return True

    def keep(self, engine: Engine) -> None:
        """Keep those that a first start has just made."""
        self._copies[self._key] = _Copy.of(self.folder, engine)

    @property
    def _copies(self) -> dict[object, _Copy]:
        return _COPIES.setdefault(self.office.pki, {})

    @property
    def _key(self) -> object:
        pki = self.office.pki
        return self.now, self.office.pack.digest, tuple((each.role, each.crl_number) for each in pki.authorities)
