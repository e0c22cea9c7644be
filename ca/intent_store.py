"""Serial numbers, cases and intents: what the CA is about to sign, made durable before the token is called.

What is done for many at once is one transaction, and each of them has its own answer: one that is refused changes
nothing for the others. Rows are written in the order of their keys, so that of two replicas that write the same ones
the second waits for the first, and never both for each other.
"""

from __future__ import annotations

import json
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final, Literal

from cryptography import x509
from sqlalchemy import Connection, Engine, Row, bindparam, delete, exists, insert, or_, select, tuple_, update

from ca import tables
from ca.certificate_store import CertificateRecord, columns, record_of
from ca.errors import CaError, InProgressError, IntentEndedError, KeyRefusedError, StoreError
from ca.status_store import StatusOrder, write_status
from cps.application import KnownKeys
from runtime.database import insert_many_new, put_many, reading

IntentState = Literal["open", "issued", "abandoned"]
INTENT_CLAUSE: Final = "CPS 4.3.1"
_AT_ONCE: Final = 500  # rows read or changed together

# The statements of every issuance: composing one costs as much as running it.
_LIVE: Final = select(tables.intents).where(
    tables.intents.c.revision_digest.in_(bindparam("revisions", expanding=True)),
    tables.intents.c.state != "abandoned",
)
_DENIED: Final = select(tables.denylist.c.spki_sha256).where(
    tables.denylist.c.spki_sha256.in_(bindparam("keys", expanding=True))
)
_CERTIFIED: Final = (
    select(tables.certified_keys.c.spki_sha256, tables.dossiers.c.application_id)
    .select_from(
        tables.certified_keys.outerjoin(
            tables.intents,
            (tables.intents.c.issuer == tables.certified_keys.c.issuer)
            & (tables.intents.c.serial == tables.certified_keys.c.serial),
        ).outerjoin(tables.dossiers, tables.dossiers.c.revision_digest == tables.intents.c.revision_digest)
    )
    .where(tables.certified_keys.c.spki_sha256.in_(bindparam("keys", expanding=True)))
)
_ENDED: Final = (
    update(tables.intents)
    .where(
        tables.intents.c.id.in_(bindparam("numbers", expanding=True)),
        tables.intents.c.state == "open",
        tables.intents.c.lease_owner == bindparam("owner"),
    )
    .values(state=bindparam("ended_as"), reason=bindparam("because"), ended_at=bindparam("at"))
    .returning(tables.intents.c.id)
)


@dataclass(frozen=True, slots=True)
class Lease:
    """Which replica works on an intent, and until when no other may."""

    owner: str
    until: datetime


@dataclass(frozen=True, slots=True)
class Intent:
    """What is about to be signed, or was; `tbs` is DER, digests are lower-case hexadecimal."""

    id: int
    revision_digest: str
    purpose: str
    profile: str
    issuer: str
    serial: str
    tbs: bytes
    tbs_sha256: str
    spki_sha256: str
    lints: tuple[str, ...]
    approvals: tuple[dict[str, str], ...]
    state: IntentState
    reason: str | None
    intended_at: datetime
    ended_at: datetime | None
    lease_owner: str | None
    lease_until: datetime | None


@dataclass(frozen=True, slots=True)
class NewIntent:
    """An intent before it has a number: see `Intent`."""

    revision_digest: str
    purpose: str
    profile: str
    issuer: str
    serial: str
    tbs: bytes
    tbs_sha256: str
    spki_sha256: str
    lints: tuple[str, ...]
    approvals: tuple[dict[str, str], ...]

    @property
    def place(self) -> tuple[str, str]:
        """Issuer and serial."""
        return self.issuer, self.serial

    @property
    def purpose_key(self) -> tuple[str, str]:
        """What has one live intent at most."""
        return self.revision_digest, self.purpose


@dataclass(frozen=True, slots=True)
class DossierRecord:
    """The case that a certificate rests on; `dossier` is its JSON as it was judged."""

    revision_digest: str
    application_id: str
    member_class: str
    cps_digest: str
    dossier: bytes
    received_at: datetime


class IntentStore:
    """See `ca.store.Store`."""

    _engine: Engine

    def reserve_serials(self, wanted: Collection[tuple[str, str]], now: datetime) -> set[tuple[str, str]]:
        """Claim serials (issuer, serial) for good; returns those that were never used before, which are ours now."""
        rows = [{"issuer": issuer, "serial": serial, "reserved_at": now} for issuer, serial in sorted(set(wanted))]
        with self._engine.begin() as db:
            return {(row.issuer, row.serial) for row in insert_many_new(db, tables.serials, rows)}

    def save_dossiers(self, records: Sequence[DossierRecord]) -> None:
        """Keep cases; the same revision again (a retry, perhaps with more decisions) replaces its dossier."""
        rows = sorted((columns(record) for record in records), key=lambda row: str(row["revision_digest"]))
        with self._engine.begin() as db:
            put_many(db, tables.dossiers, rows)

    def dossier(self, revision_digest: str) -> DossierRecord | None:
        """The case with this revision digest."""
        query = select(tables.dossiers).where(tables.dossiers.c.revision_digest == revision_digest)
        with reading(self._engine) as db:
            row = db.execute(query).one_or_none()
        return None if row is None else DossierRecord(**row._mapping)

    def open_intents(self, wanted: Sequence[NewIntent], lease: Lease, now: datetime) -> list[Intent | CaError]:
        """Make intents durable, under a lease, and claim their keys; for each the intent or why there is none.

        KeyRefusedError if the key is on the denylist or was claimed by another certificate, InProgressError if the
        purpose of this revision has a live intent already, StoreError if the serial has.
        """
        found: dict[tuple[str, str], CaError] = {}
        intents = tables.intents.c
        with self._engine.begin() as db:
            keys = [new.spki_sha256 for new in wanted]
            refused = set(db.execute(_DENIED, {"keys": keys}).scalars())
            allowed = sorted((new for new in wanted if new.spki_sha256 not in refused), key=lambda new: new.purpose_key)
            rows = [_row(new, lease, now) for new in allowed]
            inserted = insert_many_new(db, tables.intents, rows, returning=(intents.id, intents.issuer, intents.serial))
            numbers = {(row.issuer, row.serial): row.id for row in inserted}
            left = [new for new in allowed if new.place not in numbers]
            if left:
                same = tuple_(intents.issuer, intents.serial).in_([new.place for new in left])
                taken = {tuple(row) for row in db.execute(select(intents.issuer, intents.serial).where(same))}
                found |= {new.place: _not_opened(new, new.place in taken) for new in left}
            claims = sorted(
                (
                    {"spki_sha256": new.spki_sha256, "issuer": new.issuer, "serial": new.serial}
                    for new in wanted
                    if new.place in numbers
                ),
                key=lambda row: row["spki_sha256"],
            )
            claim = tables.certified_keys.c
            inserted = insert_many_new(db, tables.certified_keys, claims, returning=(claim.issuer, claim.serial))
            claimed = {(row.issuer, row.serial) for row in inserted}
            unclaimed = [place for place in numbers if place not in claimed]
            if unclaimed:  # nobody has seen these intents
                db.execute(delete(tables.intents).where(intents.id.in_([numbers[place] for place in unclaimed])))
                found |= {place: _certified_already() for place in unclaimed}
        found |= {new.place: _denied() for new in wanted if new.spki_sha256 in refused}
        return [found.get(new.place) or _opened(new, numbers[new.place], lease, now) for new in wanted]

    def lease_intent(self, intent_id: int, lease: Lease, now: datetime) -> Intent | None:
        """Take or renew the lease of an open intent; None if it has ended, or another's lease has not."""
        intents = tables.intents.c
        free = or_(intents.lease_owner.is_(None), intents.lease_owner == lease.owner, intents.lease_until <= now)
        taken = (
            update(tables.intents)
            .where(intents.id == intent_id, intents.state == "open", free)
            .values(lease_owner=lease.owner, lease_until=lease.until)
            .returning(tables.intents)
        )
        with self._engine.begin() as db:
            row = db.execute(taken).one_or_none()
        return None if row is None else _intent(row)

    def live_intents(self, revision_digests: Collection[str]) -> dict[str, dict[str, Intent]]:
        """Open and issued intents of each of these revisions, by purpose."""
        live: dict[str, dict[str, Intent]] = {digest: {} for digest in revision_digests}
        with reading(self._engine) as db:
            for row in db.execute(_LIVE, {"revisions": list(live)}).all():
                live[row.revision_digest][row.purpose] = _intent(row)
        return live

    def unfinished(self) -> list[Intent]:
        """All open intents, oldest first, whoever works on them."""
        intents = tables.intents.c
        query = select(tables.intents).where(intents.lease_until.is_not(None), intents.state == "open")
        with reading(self._engine) as db:
            return [_intent(row) for row in db.execute(query.order_by(intents.id)).all()]

    def unrecorded(self, owner: str, now: datetime) -> list[Intent]:
        """Intents that `owner` ended, or whose replica is gone, and that may be missing in the audit journal."""
        intents = tables.intents.c
        mine = or_(intents.lease_owner == owner, intents.lease_until <= now)
        query = select(tables.intents).where(intents.lease_until.is_not(None), intents.state != "open", mine)
        with reading(self._engine) as db:
            return [_intent(row) for row in db.execute(query.order_by(intents.id)).all()]

    def mark_recorded(self, ended: Sequence[int]) -> None:
        """Let go of the leases of ended intents, by their numbers: the audit journal has them."""
        intents = tables.intents.c
        for start in range(0, len(ended), _AT_ONCE):
            numbers = ended[start : start + _AT_ONCE]
            with self._engine.begin() as db:
                db.execute(
                    update(tables.intents)
                    .where(intents.id.in_(numbers), intents.state != "open")
                    .values(lease_until=None)
                )

    def newest_intent(self) -> datetime | None:
        """When the newest certificate that was not revoked was intended: earlier than this it cannot be now."""
        intents, revoked = tables.intents.c, tables.revocations.c
        listed = exists().where(
            revoked.issuer == intents.issuer, revoked.serial == intents.serial, revoked.state == "revoked"
        )
        query = select(intents.intended_at).where(intents.state != "abandoned", ~listed)
        with reading(self._engine) as db:
            return db.execute(query.order_by(intents.id.desc()).limit(1)).scalar_one_or_none()

    def finish_intents(
        self, signed: Sequence[tuple[Intent, x509.Certificate]], now: datetime
    ) -> list[CertificateRecord | IntentEndedError]:
        """Store the one certificate of each open intent; IntentEndedError for one that ended, or another has."""
        records = [
            record_of(certificate, issuer=intent.issuer, profile=intent.profile, intent_id=intent.id, now=now)
            for intent, certificate in signed
        ]
        with self._engine.begin() as db:
            ended = _end(db, [intent for intent, _certificate in signed], "issued", None, now)
            stored = [columns(record) for record in records if record.intent_id in ended]
            if stored:
                db.execute(insert(tables.certificates), stored)
        return [record if record.intent_id in ended else _ended() for record in records]

    def abandon_intent(self, intent: Intent, reason: str, now: datetime, *, may_be_signed: bool) -> None:
        """End an open intent without a certificate, and free its key.

        If the token may have signed it (`may_be_signed`), a certificate that nobody has seen may exist: its serial goes
        on the next CRL.
        """
        claims = tables.certified_keys.c
        with self._engine.begin() as db:
            if not _end(db, [intent], "abandoned", reason, now):
                raise _ended()
            db.execute(
                delete(tables.certified_keys).where(claims.issuer == intent.issuer, claims.serial == intent.serial)
            )
            if may_be_signed:
                abandoned = StatusOrder(
                    issuer=intent.issuer,
                    serial=intent.serial,
                    state="revoked",
                    reason="unspecified",
                    at=now.replace(microsecond=0),
                    ordered_by="service:ca",
                )
                write_status(db, abandoned)

    def intent(self, intent_id: int) -> Intent | None:
        """The intent with this number."""
        with reading(self._engine) as db:
            row = db.execute(select(tables.intents).where(tables.intents.c.id == intent_id)).one_or_none()
        return None if row is None else _intent(row)

    def known_keys(self, cases: Sequence[tuple[str, Collection[bytes]]]) -> list[KnownKeys]:
        """What is on record about the keys (SHA-256 of SPKI) of each case (its application id, its keys).

        That is, which were certified in another case than this one, and which are on the denylist.
        """
        wanted = sorted({key.hex() for _case, keys in cases for key in keys})
        with reading(self._engine) as db:
            certified = db.execute(_CERTIFIED, {"keys": wanted})
            owners = {bytes.fromhex(row.spki_sha256): row.application_id for row in certified}
            denylisted = set(map(bytes.fromhex, db.execute(_DENIED, {"keys": wanted}).scalars()))
        return [
            KnownKeys(
                certified=frozenset(key for key in keys if key in owners and owners[key] != case),
                denylisted=frozenset(denylisted.intersection(keys)),
            )
            for case, keys in cases
        ]


def _row(new: NewIntent, lease: Lease, now: datetime) -> dict[str, Any]:
    return columns(new) | {
        "lints": " ".join(new.lints),
        "approvals": json.dumps(new.approvals, sort_keys=True),
        "state": "open",
        "intended_at": now,
        "lease_owner": lease.owner,
        "lease_until": lease.until,
    }


def _opened(new: NewIntent, number: int, lease: Lease, now: datetime) -> Intent:
    return Intent(
        **columns(new),
        id=number,
        state="open",
        reason=None,
        intended_at=now,
        ended_at=None,
        lease_owner=lease.owner,
        lease_until=lease.until,
    )


def _end(db: Connection, intents: Sequence[Intent], state: IntentState, reason: str | None, now: datetime) -> set[int]:
    """End those of these intents that are open and ours; returns their numbers."""
    ours = {intent.lease_owner for intent in intents}
    assert len(ours) == 1, "intents are ended by the replica that has them"
    numbers = sorted(intent.id for intent in intents)
    ending = {"numbers": numbers, "owner": ours.pop(), "ended_as": state, "because": reason, "at": now}
    return set(db.execute(_ENDED, ending).scalars())


def _denied() -> KeyRefusedError:
    return KeyRefusedError("this key was reported compromised", clause="CPS 4.9.12")


def _certified_already() -> KeyRefusedError:
    return KeyRefusedError(
        "this key is certified already: a key is certified once, for one purpose, of one subject", clause="CPS 6.1.1"
    )


def _not_opened(new: NewIntent, serial_taken: bool) -> CaError:
    if serial_taken:
        return StoreError(f"the serial {new.serial} has an intent already", clause=INTENT_CLAUSE)
    return InProgressError("the same application is being issued already", clause=INTENT_CLAUSE)


def _ended() -> IntentEndedError:
    return IntentEndedError("this intent has ended already, or another replica has it", clause=INTENT_CLAUSE)


def _intent(row: Row[Any]) -> Intent:
    values = dict(row._mapping)
    values["lints"] = tuple(values["lints"].split())
    values["approvals"] = tuple(json.loads(values["approvals"]))
    return Intent(**values)
