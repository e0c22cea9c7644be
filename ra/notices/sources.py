"""What there is to tell of: transitions, the RA's journal, work that waits, the statement in force.

Each fact has a key that is the same whenever it is found again, so that looking twice tells once.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any, Final

from cryptography import x509
from sqlalchemy import Connection, Engine, Row, func, select

from cps.model import Pack
from pki.notice import FIELDS, written
from ra.checks.tables import checks
from ra.notices.outbox import Happening
from ra.notices.rules import Rules
from ra.schema import applications, certificates, revocations
from ra.states import Action, State
from runtime.database import reading

_CLAUSE: Final = re.compile(r"CPS [1-9](?:\.[0-9]{1,2}){0,3}(?![0-9.]*[0-9/])")
GAVE_UP: Final = "gave_up"
_MOST_CLAUSES: Final = 16
_LONGEST_KEY: Final = 180
_WAITING_STATES: Final = (State.VETTING.value, State.AWAITING_APPROVAL.value)


def of_transition(db: Connection, row: Row[Any], rules: Rules) -> list[Happening]:
    """What a row of `transitions` is to be told as (an `ra.notices.outbox.Reader`)."""
    detail: Mapping[str, str] = json.loads(row.detail)
    events = rules.of_transition(row.action, row.before, row.after, detail)
    stored = row.action == Action.STORE
    if not events and not stored:
        return []
    case = db.execute(select(applications).where(applications.c.id == row.application_id)).one()
    values = _of_case(case, detail)
    if row.after == State.ON_HOLD:
        values |= _unanswered(db, row.application_id)
    waiting = tuple((case.waiting_for or "").split())
    source = f"transition/{row.seq}"
    later: list[Happening] = []
    if stored:
        issued = _certificates(db, row.application_id)
        values |= _of_certificates(issued)
        values["due"] = None if case.accept_by is None else written(case.accept_by)
        for name, event in rules.events.items():
            if event.at_share_of_life is not None:
                when = _share_of_life(issued, event.at_share_of_life)
                later.append(Happening(source, name, row.at, _only(values, rules, name), case.id, not_before=when))
    return [*(Happening(source, name, row.at, _only(values, rules, name), case.id, waiting) for name in events), *later]


def of_entry(
    db: Connection, key: str, event: str, at: datetime, entry: Mapping[str, Any], rules: Rules
) -> list[Happening]:
    """What an entry of the RA's journal, about a certificate, is to be told as; `key` tells it from all others."""
    events = rules.of_entry(event)
    if not events:
        return []
    serial = str(entry.get("serial", ""))
    source = f"journal/{key if len(key) < _LONGEST_KEY else hashlib.sha256(key.encode()).hexdigest()}"
    known = select(certificates.c.application_id).where(
        certificates.c.serial == serial, certificates.c.issuer == str(entry.get("issuer", ""))
    )
    application_id = db.execute(known).scalar_one_or_none()
    values: dict[str, str | None] = {"serials": serial, "reason": _code(entry.get("reason"))}
    if isinstance(due := entry.get("review_by"), str):
        values["due"] = written(datetime.fromisoformat(due))
    if application_id is not None:
        case = db.execute(select(applications).where(applications.c.id == application_id)).one()
        values |= {"application": case.id, "member_class": case.member_class}
    return [Happening(source, name, at, _only(values, rules, name), application_id) for name in events]


def waiting_work(engine: Engine, now: datetime) -> list[Happening]:
    """What waits for each role, once a day (UTC)."""
    counted: dict[str, tuple[int, datetime]] = {}
    table = applications
    query = (
        select(table.c.waiting_for, func.count(), func.min(table.c.opened_at))
        .where(table.c.state.in_(_WAITING_STATES), table.c.waiting_for.is_not(None))
        .group_by(table.c.waiting_for)
    )
    with reading(engine) as db:
        for roles, count, oldest in db.execute(query).all():
            for role in roles.split():
                before, since = counted.get(role, (0, oldest))
                counted[role] = (before + count, min(since, oldest))
    return [
        Happening(
            source=f"work/{now:%Y-%m-%d}/{role}",
            event="work_waiting",
            at=now,
            fields={"role": role, "count": str(count), "since": written(oldest)},
            waiting=(role,),
        )
        for role, (count, oldest) in sorted(counted.items())
    ]


def statement_in_force(pack: Pack, now: datetime) -> Happening:
    """That a statement is in force; told once for each."""
    return Happening(
        source=f"statement/{pack.digest.hex()}",
        event="statement_published",
        at=now,
        fields={"statement": pack.cps.version, "since": written(pack.cps.effective)},
    )


def still_true(engine: Engine, event: str, application_id: str | None) -> bool:
    """Whether a notice that was written for later is true when its time has come.

    A certificate that is revoked, or was followed by another one of the same subject, does not end unnoticed.
    """
    if event != "certificate_expiring" or application_id is None:
        return True
    with reading(engine) as db:
        issued = _certificates(db, application_id)
        case = db.execute(select(applications).where(applications.c.id == application_id)).one()
        revoked = [_is_revoked(db, each) for each in issued]
        newer = db.execute(
            select(func.count())
            .select_from(certificates.join(applications, applications.c.id == certificates.c.application_id))
            .where(
                applications.c.member_class == case.member_class,
                applications.c.subject_id == case.subject_id,
                applications.c.id != application_id,
                applications.c.state.in_((State.ISSUED.value, State.ACTIVE.value)),
                certificates.c.stored_at > max(each.stored_at for each in issued),
            )
        ).scalar_one()
    return not all(revoked) and newer == 0


def _of_case(case: Row[Any], detail: Mapping[str, str]) -> dict[str, str | None]:
    ends, share = detail.get("ends"), detail.get("share")
    told = " ".join(detail.get(name, "") for name in ("findings", "reason", "rules"))
    clauses = list(dict.fromkeys(_CLAUSE.findall(told)))[:_MOST_CLAUSES]
    return {
        "application": case.id,
        "member_class": case.member_class,
        "state": case.state,
        "due": written(case.due_at if ends is None else datetime.fromisoformat(ends)),
        "percent": None if share is None else str(round(float(share) * 100)),
        "clauses": ", ".join(clauses) or None,
        "reason": _code(detail.get("code")),
    }


def _unanswered(db: Connection, application_id: str) -> dict[str, str | None]:
    """The checks of the case that nobody answered."""
    query = select(checks.c.kind, checks.c.created_at).where(
        checks.c.application_id == application_id, checks.c.state == GAVE_UP
    )
    found = db.execute(query.order_by(checks.c.kind)).all()
    kinds = list(dict.fromkeys(each.kind for each in found))[:8]
    since = min((each.created_at for each in found), default=None)
    return {"check": ", ".join(kinds) or None, "since": None if since is None else written(since)}


def _only(values: Mapping[str, str | None], rules: Rules, name: str) -> dict[str, str]:
    event = rules.events[name]
    return {field: value for field, value in values.items() if field in event.fields and value is not None}


def _certificates(db: Connection, application_id: str) -> Sequence[Any]:
    table = certificates
    query = select(table.c.issuer, table.c.serial, table.c.der, table.c.stored_at)
    return db.execute(query.where(table.c.application_id == application_id).order_by(table.c.purpose)).all()


def _of_certificates(issued: Sequence[Any]) -> dict[str, str | None]:
    ends = min(x509.load_der_x509_certificate(each.der).not_valid_after_utc for each in issued)
    return {"serials": ", ".join(each.serial for each in issued[:4]), "not_after": written(ends)}


def _share_of_life(issued: Sequence[Any], share: float) -> datetime:
    lives = [x509.load_der_x509_certificate(each.der) for each in issued]
    return min(
        each.not_valid_before_utc + (each.not_valid_after_utc - each.not_valid_before_utc) * share for each in lives
    ).replace(microsecond=0)


def _is_revoked(db: Connection, issued: Row[Any]) -> bool:
    table = revocations
    query = select(table.c.serial).where(table.c.issuer == issued.issuer, table.c.serial == issued.serial)
    return db.execute(query).one_or_none() is not None


def _code(value: object) -> str | None:
    return value if isinstance(value, str) and FIELDS["reason"].fullmatch(value) else None
