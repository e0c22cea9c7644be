"""Checks in the database; every method is one transaction and is on disk when it returns.

A check is changed by whoever names the version that they read; who comes second is told so (None) and does nothing.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final, Literal, cast

from sqlalchemy import Connection, Engine, Row, bindparam, exists, func, select, update

from cps.check_model import CheckKind
from ra.checks.tables import checks
from runtime.database import insert_new, reading

CheckState = Literal["due", "answered", "gave_up", "not_asked"]


@dataclass(frozen=True, slots=True)
class Check:
    """One check of one revision; see `ra.checks.tables`."""

    id: str
    application_id: str
    revision: int
    revision_digest: str
    kind: CheckKind
    question_sha256: str
    salt: str
    state: CheckState
    version: int
    attempts: int
    created_at: datetime
    next_at: datetime
    gives_up_at: datetime
    trouble: str
    status: str
    reason: str
    source: str
    answered_at: datetime | None
    answer_sha256: str
    statement: bytes | None
    handed_over_at: datetime | None


_ROWS_AT_ONCE: Final = 500


class CheckStore:
    """The checks of one registration authority."""

    def __init__(self, engine: Engine) -> None:
        self.engine: Final = engine

    @staticmethod
    def add(db: Connection, planned: Sequence[Check]) -> None:
        """Write down what is to be asked, in the caller's transaction; what is there stays as it is."""
        for check in planned:
            insert_new(db, checks, **{name: getattr(check, name) for name in Check.__dataclass_fields__})

    def of(self, application_id: str, revision: int | None = None) -> tuple[Check, ...]:
        """The checks of a case, oldest revision first; of one revision if it is given."""
        if revision is None:
            return self._read(_OF, {"application_id": application_id})
        return self._read(_OF_REVISION, {"application_id": application_id, "of_revision": revision})

    def due(self, now: datetime) -> tuple[Check, ...]:
        """Checks to be asked, or to be given up, by now; those that waited longest first."""
        query = select(checks).where(checks.c.state == "due", checks.c.next_at <= now)
        return self._read(query.order_by(checks.c.next_at, checks.c.id).limit(_ROWS_AT_ONCE))

    def to_hand_over(self, only: str | None = None) -> tuple[tuple[str, int], ...]:
        """Cases (`only` this one), with the revision, whose checks have all ended and which have not been told."""
        query = _TO_HAND_OVER if only is None else _ONE_TO_HAND_OVER
        with reading(self.engine) as db:
            rows = db.execute(query, {} if only is None else {"application_id": only})
            return tuple((row.application_id, row.revision) for row in rows)

    def change(self, check: Check, **values: Any) -> Check | None:
        """Change a check if nobody has since it was read; the check as it is then, or None."""
        statement = (
            update(checks)
            .where(checks.c.id == check.id, checks.c.version == check.version)
            .values(**values, version=check.version + 1)
            .returning(checks)
        )
        with self.engine.begin() as db:
            row = db.execute(statement).one_or_none()
        return None if row is None else _check(row)

    def handed_over(self, application_id: str, revision: int, now: datetime) -> None:
        """Note that the case knows what came of the checks of this revision."""
        with self.engine.begin() as db:
            db.execute(
                update(checks)
                .where(checks.c.application_id == application_id, checks.c.revision == revision)
                .where(checks.c.handed_over_at.is_(None))
                .values(handed_over_at=now)
            )

    def _read(self, query: Any, values: Mapping[str, object] | None = None) -> tuple[Check, ...]:
        with reading(self.engine) as db:
            return tuple(_check(row) for row in db.execute(query, values))


# Composed once: every submission needs them.
_OF: Final = (
    select(checks)
    .where(checks.c.application_id == bindparam("application_id"))
    .order_by(checks.c.revision, checks.c.kind)
)
_OF_REVISION: Final = _OF.where(checks.c.revision == bindparam("of_revision"))
_OTHER: Final = checks.alias()
_UNFINISHED: Final = exists().where(
    _OTHER.c.application_id == checks.c.application_id,
    _OTHER.c.revision == checks.c.revision,
    _OTHER.c.state == "due",
)
_TO_HAND_OVER: Final = (
    select(checks.c.application_id, checks.c.revision)
    .where(checks.c.handed_over_at.is_(None), checks.c.state != "due", ~_UNFINISHED)
    .group_by(checks.c.application_id, checks.c.revision)
    .order_by(func.min(checks.c.created_at))
    .limit(_ROWS_AT_ONCE)
)
_ONE_TO_HAND_OVER: Final = _TO_HAND_OVER.where(checks.c.application_id == bindparam("application_id"))


def _check(row: Row[Any]) -> Check:
    return Check(**cast("dict[str, Any]", dict(row._mapping)))
