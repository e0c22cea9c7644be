"""Requests that come singly are issued together, because many certificates cost the disk and the token as much as one.

Who asks first issues for all that wait; who comes meanwhile waits, and is in the next group. So nobody waits for
company: an authority with little to do answers each at once. One with much to do answers many at a time: those whose
answers went out together mostly ask again together, and after a group of several the next one waits a moment for them.
"""

from __future__ import annotations

import asyncio
import math
from collections.abc import Callable, Sequence
from typing import Final

from starlette.concurrency import run_in_threadpool

from ca.cases import Issued
from ca.certificate_store import CertificateRecord
from cps.dossier import Dossier

AT_ONCE: Final = 2
"""Groups that are under way: while the token signs for one, the other is judged."""
MOST: Final = 64
"""Cases in one group."""
MANY: Final = 6
"""So many who wait are shared out among the groups that may be under way; fewer cost less as one."""
PAUSE: Final = 0.003
"""Seconds that a group waits for more which follows one of several: a tenth of what issuing takes."""

_Place = tuple[Dossier, "asyncio.Future[Issued]"]


class Gathering:
    """Puts single requests together for `issue_many` (`ca.issuance.Issuance`), which runs in threads. For one loop."""

    def __init__(
        self, issue_many: Callable[[Sequence[Dossier]], list[Issued]], *, at_once: int = AT_ONCE, most: int = MOST
    ) -> None:
        self._issue_many = issue_many
        self._at_once = at_once
        self._most = most
        self._waiting: list[_Place] = []
        self._leaders: set[asyncio.Task[None]] = set()
        self._leading = 0
        self._under_way = 0
        self._several = False  # there were in the last group

    async def issue(self, dossier: Dossier) -> dict[str, CertificateRecord]:
        """As `Issuance.issue`. Whoever stops waiting for it stops nothing: what was begun is finished."""
        answered: asyncio.Future[Issued] = asyncio.get_running_loop().create_future()
        self._waiting.append((dossier, answered))
        if self._leading < self._at_once:
            self._leading += 1
            leader = asyncio.create_task(self._lead())
            self._leaders.add(leader)
            leader.add_done_callback(self._leaders.discard)
        answer = await answered
        if isinstance(answer, Exception):
            raise answer
        return answer

    async def _lead(self) -> None:
        """Issue for all who wait, group by group, until nobody does."""
        try:
            while self._waiting:
                if self._several:
                    await asyncio.sleep(PAUSE)
                await self._issue_group()
        except BaseException as error:  # such as the end of the loop
            if self._leading == 1:  # nobody else comes for them
                _tell_all(self._waiting, error)
                self._waiting.clear()
            raise
        finally:
            self._leading -= 1  # with no turn of the loop since nobody waited

    async def _issue_group(self) -> None:
        group = self._next_group()
        if not group:
            return  # the other one had them
        self._under_way += 1
        self._several = len(group) > 1
        try:
            answers = await run_in_threadpool(self._issue_many, [dossier for dossier, _answered in group])
            for (_dossier, answered), answer in list(zip(group, answers, strict=True)):  # nobody has another's
                if not answered.done():  # as that of one who went away is
                    answered.set_result(answer)
        except BaseException as error:  # whoever waits is told, whatever it was
            _tell_all(group, error)
            if not isinstance(error, Exception):
                raise
        finally:
            self._under_way -= 1

    def _next_group(self) -> list[_Place]:
        """Those whose turn it is: all who wait, but of many only a part, while another group could be under way."""
        free = self._at_once - self._under_way
        count = len(self._waiting) if len(self._waiting) < MANY else math.ceil(len(self._waiting) / free)
        group = self._waiting[: min(count, self._most)]
        del self._waiting[: len(group)]
        return group


def _tell_all(places: Sequence[_Place], error: BaseException) -> None:
    for _dossier, answered in places:
        if not answered.done():
            answered.set_exception(error)
