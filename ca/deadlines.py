"""The clock of the deadlines by which changes of status must be published (CPS 4.9.5, 4.9.8): what waits, what is late.

A change that is late is an error in the log, once, and makes `kwbp_ca_changes_to_publish{state="overdue"}` more than
zero until a list covers it; one that is near its deadline, as `clocks.warn_at` of the CPS counts, a warning, once.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime
from typing import Final, Literal

from prometheus_client import Gauge

from ca.errors import ProfileError
from ca.hierarchy import Hierarchy
from ca.record import instant
from ca.status_store import StatusChange, StatusStore
from cps.model import Pack
from runtime.logging import get_logger
from statements.published import Statements

Urgency = Literal["waiting", "near", "overdue"]

_WAITING: Final = Gauge("kwbp_ca_changes_to_publish", "Changes of status that no list covers yet", ["state"])
_log: Final = get_logger("ca.deadlines")


@dataclass(frozen=True, slots=True)
class Waiting:
    """A change that no list covers, and how near its deadline is."""

    change: StatusChange
    urgency: Urgency


def require_prompt_lists(hierarchy: Hierarchy, pack: Pack) -> None:
    """Raise ProfileError if the regular lists of an authority in service are further apart than `revoke_publish`.

    A change is published at once, and a list that could not be signed is tried again; but where that fails unnoticed,
    the next regular list must still be in time (CPS 4.9.8).
    """
    limit = pack.clocks.revoke_publish
    for authority in hierarchy.authorities.values():
        rule = None if authority.is_root else authority.profile.ca
        if rule is not None and rule.crl.lifetime - rule.crl.renew_before > limit:
            apart = rule.crl.lifetime - rule.crl.renew_before
            raise ProfileError(
                f"lists of {authority.name} are {apart} apart, and a change of status is published within {limit}",
                clause="CPS 4.9.8",
            )


class Deadlines:
    """Looks at what waits to be published."""

    def __init__(self, store: StatusStore, statements: Statements, clock: Callable[[], datetime]) -> None:
        self._store = store
        self._statements = statements
        self._clock = clock
        self._lock = threading.Lock()
        self._told: set[tuple[str, int, Urgency]] = set()
        self._overdue = 0

    @property
    def overdue(self) -> int:
        """How many changes were late when this was last looked at."""
        return self._overdue

    def waiting(self) -> list[Waiting]:
        """All changes that wait, the most urgent first."""
        now = self._clock()
        return [Waiting(each, self._urgency(each, now)) for each in self._store.unpublished()]

    def check(self) -> list[Waiting]:
        """Look, tell the log and the metrics, and return what waits."""
        found = self.waiting()
        with self._lock:
            new = [each for each in found if each.urgency != "waiting" and _key(each) not in self._told]
            # Forget what was published meanwhile, so that this does not grow for ever.
            self._told = {_key(each) for each in found}
            self._overdue = sum(each.urgency == "overdue" for each in found)
        for urgency in ("waiting", "near", "overdue"):
            _WAITING.labels(urgency).set(sum(each.urgency == urgency for each in found))
        for each in new:
            _tell(each)
        return found

    def _urgency(self, change: StatusChange, now: datetime) -> Urgency:
        near = max(self._statements().in_force(now).clocks.warn_at)  # this share of the time is over
        assert change.due_at is not None  # `unpublished` gives those with a deadline
        if change.due_at <= now:
            return "overdue"
        return "near" if now - change.at >= (change.due_at - change.at) * near else "waiting"


def _key(waiting: Waiting) -> tuple[str, int, Urgency]:
    return waiting.change.issuer, waiting.change.epoch, waiting.urgency


def _tell(waiting: Waiting) -> None:
    change = waiting.change
    tell = _log.error if waiting.urgency == "overdue" else _log.warning
    due_at = "" if change.due_at is None else instant(change.due_at)
    tell(
        f"publication-{waiting.urgency}", issuer=change.issuer, serial=change.serial, state=change.state, due_at=due_at
    )
