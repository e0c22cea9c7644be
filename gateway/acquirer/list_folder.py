"""Folders that settlement lists of networks appear in: each file is imported once, and moved to where it belongs.

    FOLDER/            whatever brings the lists writes here
    FOLDER/done/       lists that are imported
    FOLDER/refused/    files that are no list of this network for us, each with NAME.reason.txt beside it

A list that its network's key has signed is whole: it is imported at once. What cannot be believed may be half of one,
and is left as long as it grows: it is refused once nothing of it has changed for `settled`. Hidden files and `.part`,
`.tmp`, `.filepart` are somebody's who still writes. No link is followed (`gateway.acquirer.list_inbox`). A file that
cannot be read or moved is an alarm and stays; no other waits for it.

A file is moved after what it says is in the database, where the same bytes change nothing: whoever is killed between
the two imports it again, and it is imported once. Gateways that share a folder do no more.
"""

from __future__ import annotations

import asyncio
import errno
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import date, datetime, timedelta
from pathlib import Path
from typing import Final, Protocol

from prometheus_client import Gauge
from sqlalchemy import exists, select

from gateway.acquirer.differences import Imported
from gateway.acquirer.list_inbox import DONE, REFUSED, ListInbox, Mark, shown
from gateway.acquirer.tables import network_lists
from gateway.schema import reconciliations
from gateway.store import OrderStore
from runtime.group_writer import DatabaseUnavailableError
from runtime.language import Language
from runtime.logging import get_logger
from runtime.problems import Problem
from shetab.settlement_list import LARGEST

_LOOKED_BACK: Final = timedelta(days=7)
"""Days before that are no alarm any more: whoever names a folder today did without one until now."""
_NOT_A_LIST: Final = 422
_log = get_logger("gateway.lists")

_missing = Gauge("kwbp_gateway_missing_lists_count", "Days over for a network that it has sent no list of", ["route"])
_waiting = Gauge("kwbp_gateway_waiting_lists_count", "Files in a folder of lists that are not whole yet", ["route"])
_refused = Gauge("kwbp_gateway_refused_lists_count", "Files that are no list, and wait for a person", ["route"])


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
        self._inboxes = {route: ListInbox(folder) for route, folder in settings.folders.items()}
        self._seen: dict[str, dict[str, tuple[Mark, datetime]]] = {route: {} for route in settings.folders}
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
        inbox, waiting = self._inboxes[route], 0
        names: list[str] = []
        try:
            names = await asyncio.to_thread(inbox.names)
            _refused.labels(route).set(await asyncio.to_thread(inbox.count, REFUSED))
        except OSError as error:  # then the list of a day is missed all the more
            _log.error("a folder of lists cannot be read", route=route, reason=_reason(error), alarm=True)
        seen = self._seen[route]
        self._seen[route] = {name: seen[name] for name in names if name in seen}
        for name in names:
            try:
                waiting += not await self._taken(name, route)
            except FileNotFoundError:  # another gateway of this folder was faster
                self._seen[route].pop(name, None)
            except OSError as error:  # this one waits for a person; the others do not wait for it
                waiting += 1
                told = {"route": route, "file": shown(name), "reason": _reason(error)}
                _log.error("a file can be read or moved by no gateway", **told, alarm=True)
        _waiting.labels(route).set(waiting)
        await self._miss(route)

    async def _taken(self, name: str, route: str) -> bool:
        """Whether the file is done with; it stays where it is if not."""
        inbox = self._inboxes[route]
        if self._settles(name, route, await asyncio.to_thread(inbox.mark, name)):
            return False
        data, mark = await asyncio.to_thread(inbox.read, name, largest=LARGEST)
        told: dict[str, object] = {"route": route, "file": shown(name)}
        try:
            if data is None:
                raise Problem(_NOT_A_LIST, "settlement-list-refused", "this is no file of a size that a list may have")
            taken = await self._acquirer.take_list(data, route=route, by=f"folder:{route}")
        except (Problem, DatabaseUnavailableError) as error:
            if not isinstance(error, Problem) or error.status != _NOT_A_LIST:
                _log.error("a list waits", **told, reason=str(error), alarm=True)
                return False
            if not self._has_settled(name, route, mark):
                return False
            reason = f"{error.text(Language.EN)}\n{error.text(Language.FA)}\n"
            if not await asyncio.to_thread(inbox.move, name, REFUSED, mark, reason=reason):
                return False
            _refused.labels(route).inc()
            _log.error("a file is refused", **told, reason=str(error), alarm=True)
        else:
            self._checkpoint("list-of-folder-imported")
            day = taken.business_day.isoformat()
            if not await asyncio.to_thread(inbox.move, name, DONE, mark):
                _log.info("a list is imported, and its file is another one by now", **told, day=day)
                return False
            _log.info("a list is imported", **told, day=day, known=taken.known)
        self._seen[route].pop(name, None)
        self._checkpoint("list-of-folder-moved")
        return True

    def _settles(self, name: str, route: str, mark: Mark) -> bool:
        """Whether this very file could not be believed a moment ago, and still has time: it is not read again."""
        before = self._seen[route].get(name)
        return before is not None and before[0] == mark and self._clock() - before[1] < self._settings.settled

    def _has_settled(self, name: str, route: str, mark: Mark) -> bool:
        now = self._clock()
        before = self._seen[route].get(name)
        if before is None or before[0] != mark:
            self._seen[route][name] = (mark, now)
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


def _reason(error: OSError) -> str:
    return errno.errorcode.get(error.errno or 0, type(error).__name__)
