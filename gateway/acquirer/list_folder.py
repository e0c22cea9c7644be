"""Folders that settlement lists of networks appear in: each file is imported once, and moved to where it belongs.

    FOLDER/            whatever brings the lists writes here
    FOLDER/done/       lists that are imported
    FOLDER/refused/    files that are no list of this network for us, each with NAME.reason.txt beside it

A list that its network's key has signed is whole: it is imported at once. What cannot be believed may be half of one,
and is left as long as it grows: it is refused once nothing of it has changed for `settled`. Hidden files and `.part`,
`.tmp`, `.filepart` are somebody's who still writes. Links are not followed.

A file is moved after what it says is in the database, where the same bytes change nothing: whoever is killed between
the two imports it again, and it is imported once. Gateways that share a folder do no more.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import stat
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import date, datetime, timedelta
from pathlib import Path
from typing import Final, Protocol

from prometheus_client import Gauge
from sqlalchemy import exists, select

from gateway.acquirer.differences import Imported
from gateway.acquirer.tables import network_lists
from gateway.schema import reconciliations
from gateway.store import OrderStore
from runtime.group_writer import DatabaseUnavailableError
from runtime.language import Language
from runtime.logging import get_logger
from runtime.problems import Problem
from shetab.settlement_list import LARGEST

DONE: Final = "done"
REFUSED: Final = "refused"
REASON: Final = ".reason.txt"
_UNFINISHED: Final = (".part", ".tmp", ".filepart")
_LOOKED_BACK: Final = timedelta(days=7)
"""Days before that are no alarm any more: whoever names a folder today did without one until now."""
_NOT_A_LIST: Final = 422
_log = get_logger("gateway.lists")

_missing = Gauge("kwbp_gateway_missing_lists_count", "Days over for a network that it has sent no list of", ["route"])
_waiting = Gauge("kwbp_gateway_waiting_lists_count", "Files in a folder of lists that are not whole yet", ["route"])
_refused = Gauge("kwbp_gateway_refused_lists_count", "Files that are no list, and wait for a person", ["route"])

_Mark = tuple[int, int, int]


class _Acquirer(Protocol):
    async def take_list(self, data: bytes, *, route: str, by: str) -> Imported: ...


@dataclass(frozen=True, slots=True)
class ListFolderSettings:
    """Which folders, by route; how often one is looked at, when a file has settled, when a list is overdue."""

    folders: Mapping[str, Path]
    every: timedelta = timedelta(seconds=15)
    settled: timedelta = timedelta(minutes=2)
    due: timedelta = timedelta(hours=12)


class ListFolders:
    """Looks at the folders until cancelled. No file and no failure ends it."""

    def __init__(
        self,
        settings: ListFolderSettings,
        acquirer: _Acquirer,
        orders: OrderStore,
        *,
        clock: Callable[[], datetime],
        checkpoint: Callable[[str], None] = lambda step: None,
    ) -> None:
        self._settings = settings
        self._acquirer = acquirer
        self._orders = orders
        self._clock = clock
        self._checkpoint = checkpoint
        self._seen: dict[Path, tuple[_Mark, datetime]] = {}
        self._told: set[tuple[str, date]] = set()

    async def run(self) -> None:
        """Look again and again."""
        while self._settings.folders:
            for route in self._settings.folders:
                try:
                    await self.look(route)
                except Exception as error:  # the next look may find it better
                    _log.error("a folder of lists was not looked at", route=route, error=type(error).__name__)
            await asyncio.sleep(self._settings.every.total_seconds())

    async def look(self, route: str) -> None:
        """One look at one folder, and for lists that should be here by now."""
        folder = self._settings.folders[route]
        waiting = 0
        for path in await asyncio.to_thread(_files, folder):
            try:
                waiting += not await self._taken(path, route)
            except FileNotFoundError:  # another gateway of this folder was faster
                self._seen.pop(path, None)
        _waiting.labels(route).set(waiting)
        _refused.labels(route).set(await asyncio.to_thread(_left_in, folder / REFUSED))
        await self._miss(route)

    async def _taken(self, path: Path, route: str) -> bool:
        """Whether the file is done with; it stays where it is if not."""
        data, mark = await asyncio.to_thread(_read, path)
        try:
            if data is None:
                raise Problem(_NOT_A_LIST, "settlement-list-refused", "this is no file of a size that a list may have")
            taken = await self._acquirer.take_list(data, route=route, by=f"folder:{route}")
        except (Problem, DatabaseUnavailableError) as error:
            if not isinstance(error, Problem) or error.status != _NOT_A_LIST:
                _log.error("a list waits", route=route, file=path.name, reason=str(error), alarm=True)
                return False
            if not self._has_settled(path, mark):
                return False
            await asyncio.to_thread(_put_aside, path, error)
            _log.error("a file is refused", route=route, file=path.name, reason=str(error), alarm=True)
        else:
            self._checkpoint("list-of-folder-imported")
            await asyncio.to_thread(_move, path, path.parent / DONE)
            day = taken.business_day.isoformat()
            _log.info("a list is imported", route=route, file=path.name, day=day, known=taken.known)
        self._seen.pop(path, None)
        self._checkpoint("list-of-folder-moved")
        return True

    def _has_settled(self, path: Path, mark: _Mark) -> bool:
        now = self._clock()
        before = self._seen.get(path)
        if before is None or before[0] != mark:
            self._seen[path] = (mark, now)
            return False
        return now - before[1] >= self._settings.settled

    async def _miss(self, route: str) -> None:
        """Tell of days that the network has been done with for too long without a list."""
        missing = await self._orders.look(self._without_list, route)
        _missing.labels(route).set(len(missing))
        for day in missing:
            if (route, day) not in self._told:
                _log.error("the network's list of a day is missing", route=route, day=day.isoformat(), alarm=True)
        self._told = {each for each in self._told if each[0] != route} | {(route, day) for day in missing}

    def _without_list(self, route: str) -> list[date]:
        columns, now = reconciliations.c, self._clock()
        listed = exists().where(
            network_lists.c.route == columns.route, network_lists.c.business_day == columns.business_day
        )
        query = (
            select(columns.business_day)
            .where(columns.route == route, columns.over_at <= now - self._settings.due, ~listed)
            .where(columns.business_day >= (now - _LOOKED_BACK).date().isoformat())
            .distinct()
            .order_by(columns.business_day)
        )
        with self._orders.reading() as connection:
            return [date.fromisoformat(day) for day in connection.execute(query).scalars()]


def _files(folder: Path) -> list[Path]:
    """What may be lists, by name: the same order for every gateway."""
    return sorted(
        each
        for each in folder.iterdir()
        if not each.name.startswith(".") and each.suffix.lower() not in _UNFINISHED and not each.is_dir()
    )


def _read(path: Path) -> tuple[bytes | None, _Mark]:
    """What is in a file and by what it is known again; None if it cannot be a list by its kind or size."""
    found = path.lstat()
    mark = (found.st_ino, found.st_size, found.st_mtime_ns)
    if not stat.S_ISREG(found.st_mode) or found.st_size > LARGEST:
        return None, mark
    descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK)
    with os.fdopen(descriptor, "rb") as file:
        data = file.read(LARGEST + 1)
    return (None if len(data) > LARGEST else data), mark


def _left_in(folder: Path) -> int:
    with contextlib.suppress(FileNotFoundError):
        return sum(1 for each in folder.iterdir() if not each.name.endswith(REASON))
    return 0


def _put_aside(path: Path, problem: Problem) -> None:
    """The reason goes first: no file is ever there without it."""
    target = _free(path.parent / REFUSED, path.name)
    reason = target.with_name(target.name + REASON)
    with reason.open("w", encoding="utf-8") as file:
        file.write(f"{problem.text(Language.EN)}\n{problem.text(Language.FA)}\n")
        file.flush()
        os.fsync(file.fileno())
    path.rename(target)
    _sync(target.parent)


def _move(path: Path, folder: Path) -> None:
    path.rename(_free(folder, path.name))
    _sync(folder)


def _free(folder: Path, name: str) -> Path:
    """A place in `folder` where nothing is: `name`, else with a number. A reason alone was left by a crash."""
    folder.mkdir(mode=0o700, exist_ok=True)
    number, target = 0, folder / name
    while os.path.lexists(target):
        number += 1
        target = folder / f"{name}.{number}"
    return target


def _sync(folder: Path) -> None:
    for each in (folder, folder.parent):
        descriptor = os.open(each, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
