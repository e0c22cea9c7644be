"""What the registration authority remembers of EST clients, so that a request is handed in once however often it comes.

A one-time code is kept as its SHA-256 alone. The first sound request that comes with it takes it for itself, and the
first sound request that comes with a certificate takes that certificate's place; both by one conditional write, so of
two at once one wins, in whatever process they are.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, fields
from datetime import datetime
from typing import Any, Final

from sqlalchemy import Connection, Engine, and_, select, update

from ra import schema
from ra.access import Actor
from ra.errors import ConflictError
from ra.est_tables import est_codes, est_renewals
from runtime.database import insert_new, put, reading


@dataclass(frozen=True, slots=True)
class Code:
    """A prepared case. `csr_sha256` is the request that the code is good for, None before one came (hexadecimal)."""

    application_id: str
    code_sha256: str
    tries_left: int
    good_until: datetime
    prepared_by: str
    person: str
    organisation: str
    subject: Mapping[str, Any]
    national_code: str | None
    after_revision: int
    csr_sha256: str | None = None

    @property
    def actor(self) -> Actor:
        """Whoever prepared the case, as who the request is handed in; without any role of theirs."""
        return Actor(self.prepared_by, self.organisation, self.person)


@dataclass(frozen=True, slots=True)
class Renewal:
    """The request that replaces a certificate (SHA-256 of both, hexadecimal), and the re-key it began."""

    certificate_sha256: str
    csr_sha256: str
    application_id: str
    after_revision: int


_CODE: Final = tuple(est_codes.c[each.name] for each in fields(Code))
_RENEWAL: Final = tuple(est_renewals.c[each.name] for each in fields(Renewal))


class EstStore:
    """The two tables; each method is one transaction, but for those that take one."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine

    def prepare(self, code: Code) -> None:
        """Keep a code; one that was there for the application is worthless from now on."""
        values = {each.name: getattr(code, each.name) for each in fields(Code)}
        values["subject"] = json.dumps(dict(code.subject), sort_keys=True)
        with self._engine.begin() as db:
            put(db, est_codes, **values)

    def code(self, application_id: str) -> Code | None:
        """The code of an application."""
        with reading(self._engine) as db:
            row = db.execute(select(*_CODE).where(est_codes.c.application_id == application_id)).one_or_none()
        return None if row is None else Code(**{**row._mapping, "subject": json.loads(row.subject)})

    def missed(self, application_id: str) -> None:
        """Count a wrong try."""
        table = est_codes
        with self._engine.begin() as db:
            db.execute(
                update(table)
                .where(table.c.application_id == application_id, table.c.tries_left > 0)
                .values(tries_left=table.c.tries_left - 1)
            )

    def bind(self, code: Code, csr_sha256: str, until: datetime) -> str | None:
        """Make the code good for this request alone, and for so long, unless another one came first.

        The request that it is good for now; None if a new code was made meanwhile.
        """
        table = est_codes
        same = and_(table.c.application_id == code.application_id, table.c.code_sha256 == code.code_sha256)
        with self._engine.begin() as db:
            db.execute(
                update(table).where(same, table.c.csr_sha256.is_(None)).values(csr_sha256=csr_sha256, good_until=until)
            )
            return db.execute(select(table.c.csr_sha256).where(same)).scalar_one_or_none()

    def given_out(self, code: Code, until: datetime) -> None:
        """End the code at `until`, unless it ends sooner: its certificate is given out."""
        table = est_codes
        with self._engine.begin() as db:
            db.execute(
                update(table)
                .where(
                    table.c.application_id == code.application_id,
                    table.c.code_sha256 == code.code_sha256,
                    table.c.good_until > until,
                )
                .values(good_until=until)
            )

    def renewal(self, certificate_sha256: str) -> Renewal | None:
        """What was last asked for with a certificate."""
        table = est_renewals
        with reading(self._engine) as db:
            row = db.execute(select(*_RENEWAL).where(table.c.certificate_sha256 == certificate_sha256)).one_or_none()
        return None if row is None else Renewal(**row._mapping)

    def rebind(self, db: Connection, before: Renewal | None, after: Renewal) -> None:
        """Put `after` where `before` was, in the caller's transaction; ConflictError if something else is there now."""
        table = est_renewals
        values = {each.name: getattr(after, each.name) for each in fields(Renewal)}
        if before is None:
            done = insert_new(db, table, **values)
        else:
            where = [table.c[name] == getattr(before, name) for name in ("certificate_sha256", "csr_sha256")]
            done = bool(db.execute(update(table).where(*where).values(**values)).rowcount)
        if not done:
            raise ConflictError("another request with the same certificate came first")

    def put_renewal(self, before: Renewal, after: Renewal) -> None:
        """`rebind` as a transaction of its own."""
        with self._engine.begin() as db:
            self.rebind(db, before, after)

    def handed_in(self, application_id: str, csr: bytes, *, after_revision: int) -> bool:
        """Whether a revision after that one carries this request (DER)."""
        table = schema.requests
        query = select(table.c.number).where(
            table.c.application_id == application_id, table.c.number > after_revision, table.c.der == csr
        )
        with reading(self._engine) as db:
            return db.execute(query.limit(1)).first() is not None
