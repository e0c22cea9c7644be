"""Has a sample of what was issued looked at again, reports it, puts the report's digest into the journal, signs it.

Nightly it looks at what was issued since the last report; whoever may, at any period at any time (`ca.self_audit`).
"""

from __future__ import annotations

import hashlib
import threading
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from functools import cached_property
from typing import Final

from cryptography import x509
from cryptography.x509 import ocsp
from sqlalchemy import exists, select, update

from ca import tables
from ca.crl_kinds import FULL
from ca.crl_store import CrlRecord
from ca.errors import InProgressError, NotOnRecordError, RequestError, SigningError, StoreError
from ca.hierarchy import Authority, Hierarchy
from ca.ocsp_answer import CertificateStatus
from ca.ocsp_store import OcspStore
from ca.prepare import Issuer, Rng
from ca.publication import Publication
from ca.record import Record, instant
from ca.revocation import EVENTS, SYSTEM, change_key
from ca.self_audit import (
    Answered,
    Exhibit,
    Key,
    Listed,
    Tally,
    sample,
    sample_digest,
    sample_size,
)
from ca.self_audit_checks import CHECKS
from ca.self_audit_report import LEAST, SHARE, SelfAuditReport
from ca.self_audit_signature import sign_report
from ca.status_store import StatusChange
from ca.store import DossierRecord, Intent, Store
from cps.dossier import CpsPin
from cps.model import Pack
from hsm_service.service import SigningService
from pki.crl import CrlSet, IndexedCrl
from pki.errors import PkiError
from pki.extensions import authority_key_id, extensions_of, subject_key_id
from pki.path import Trust
from runtime.database import insert_new, reading
from runtime.language import Message
from runtime.logging import get_logger
from statements.published import Statements

_THE_START: Final = datetime(2000, 1, 1, tzinfo=UTC)
_SECOND: Final = timedelta(seconds=1)
_STATES: Final = {
    ocsp.OCSPCertStatus.GOOD: "good",
    ocsp.OCSPCertStatus.REVOKED: "revoked",
    ocsp.OCSPCertStatus.UNKNOWN: "unknown",
}
_SIGNED_AT_ONCE: Final = 100
_EVENT: Final = "ca.self-audit"
_log: Final = get_logger("ca.self-audit")


@dataclass(frozen=True, slots=True)
class ReportRecord:
    """A report (JSON) on record, by its SHA-256 (hexadecimal), as the journal has it.

    `signed` is its SignedData (`ca.self_audit_signature`); None while the key cannot be asked.
    """

    sha256: str
    until: datetime
    sampled: int
    findings: int
    report: bytes
    signed: bytes | None = None

    @property
    def parsed(self) -> SelfAuditReport:
        return SelfAuditReport.model_validate_json(self.report)


class SelfAuditor:
    """Audits one certificate authority's database; one audit at a time in a process."""

    def __init__(
        self,
        *,
        store: Store,
        hierarchy: Hierarchy,
        signer: SigningService,
        record: Record,
        statements: Statements,
        publication: Publication,
        rng: Rng,
        clock: Callable[[], datetime],
        replica: str,
    ) -> None:
        self._store = store
        self._hierarchy = hierarchy
        self._signer = signer
        self._record = record
        self._statements = statements
        self._publication = publication
        self._rng = rng
        self._clock = clock
        self._replica = replica
        self._lock = threading.Lock()

    def nightly(self) -> ReportRecord:
        """Look at what was issued since the last report; sign what could not be signed then."""
        for each in self._unsigned():
            self._sign(each)
        last = self.reports(limit=1)
        return self.audit(since=last[0].until if last else None)

    def audit(
        self,
        *,
        since: datetime | None = None,
        until: datetime | None = None,
        share: float = SHARE,
        least: int = LEAST,
        seed: str | None = None,
    ) -> ReportRecord:
        """Look at a sample of what was issued on cases in [`since`, `until`): by default from the start until now.

        `share` (0 to 1) of it, but at least so many; `seed` (hexadecimal, 8 to 32 bytes) draws them, by default a
        random one. Raises RequestError for an empty period, InProgressError while another audit is going on.
        """
        if not self._lock.acquire(blocking=False):
            raise InProgressError(Message("a self-audit is going on already"), clause="CPS 8")
        try:
            now = self._clock()
            start, end = since or _THE_START, min(until or now, now)
            if end <= start:
                raise RequestError(Message("the period ends before it begins"), clause="CPS 8")
            return self._audit(now, start, end, share, least, seed or self._rng(16).hex())
        finally:
            self._lock.release()

    def reports(self, *, limit: int = 20) -> list[ReportRecord]:
        """The reports on record, that of the latest period first."""
        row = tables.self_audits.c
        query = select(tables.self_audits).order_by(row.until.desc(), row.sha256).limit(limit)
        with reading(self._store.engine) as db:
            return [ReportRecord(**each._mapping) for each in db.execute(query).all()]

    def report(self, sha256: str) -> ReportRecord:
        """The report with this digest (hexadecimal); raises NotOnRecordError."""
        query = select(tables.self_audits).where(tables.self_audits.c.sha256 == sha256)
        with reading(self._store.engine) as db:
            row = db.execute(query).one_or_none()
        if row is None:
            raise NotOnRecordError(Message("there is no self-audit with this digest"), clause="CPS 8")
        return ReportRecord(**row._mapping)

    def _audit(
        self, now: datetime, start: datetime, end: datetime, share: float, least: int, seed: str
    ) -> ReportRecord:
        issued = sum(1 for _key in self._store.issued_between(start, end))
        sampled = sample(self._store.issued_between(start, end), seed, sample_size(issued, share, least))
        tally, reader = Tally.of(CHECKS), _Reader(self, now)
        for key in sampled:
            for found in tally.look(reader.exhibit(key)):
                _log.error("self-audit-finding", **found.model_dump())
        report = tally.report(
            made_at=now,
            since=start,
            until=end,
            seed=seed,
            share=share,
            least=least,
            issued=issued,
            sampled=len(sampled),
            sample_sha256=sample_digest(sampled),
            statement=self._statements().in_force(now).digest.hex(),
        )
        return self._keep(report)

    def _keep(self, report: SelfAuditReport) -> ReportRecord:
        body = report.to_json()
        kept = ReportRecord(hashlib.sha256(body).hexdigest(), report.until, report.sampled, report.broken, body)
        with self._store.engine.begin() as db:
            insert_new(db, tables.self_audits, **{name: getattr(kept, name) for name in kept.__slots__})
        self._record.note(
            _EVENT,
            kept.sha256,
            since=instant(report.since),
            until=instant(report.until),
            seed=report.seed,
            issued=report.issued,
            sampled=report.sampled,
            sample_sha256=report.sample_sha256,
            findings=report.broken,
        )
        return self._sign(kept)

    def _unsigned(self) -> list[ReportRecord]:
        row = tables.self_audits.c
        query = select(tables.self_audits).where(row.signed.is_(None)).order_by(row.until, row.sha256)
        with reading(self._store.engine) as db:
            found = [ReportRecord(**each._mapping) for each in db.execute(query.limit(_SIGNED_AT_ONCE)).all()]
        # What this replica made, byte for byte: whoever can write to the database gets no signature for it.
        return [
            each
            for each in found
            if self._record.has(_EVENT, each.sha256) and hashlib.sha256(each.report).hexdigest() == each.sha256
        ]

    def _sign(self, kept: ReportRecord) -> ReportRecord:
        """The report with its signature; without one, which is logged, if the key cannot be asked, or is not there."""
        try:
            signed = sign_report(self._signer, kept.report)
        except SigningError as error:
            _log.error("self-audit-not-signed", sha256=kept.sha256, reason=error.reason, detail=str(error))
            return kept
        row = tables.self_audits.c
        with self._store.engine.begin() as db:
            # Another replica may have signed it meanwhile: the first signature stays.
            db.execute(
                update(tables.self_audits).where(row.sha256 == kept.sha256, row.signed.is_(None)).values(signed=signed)
            )
        return self.report(kept.sha256)


@dataclass
class _Reader:
    """Reads exhibits for one audit; what many certificates have in common is read once."""

    auditor: SelfAuditor
    now: datetime
    _lists: dict[tuple[str, int], IndexedCrl | None] = field(default_factory=dict)
    _trusts: dict[tuple[tuple[str, int], ...], Trust | None] = field(default_factory=dict)

    def exhibit(self, key: Key) -> Exhibit:
        auditor, (issuer, serial) = self.auditor, key
        store = auditor._store
        record = store.certificate(issuer, serial)
        intent = None if record.intent_id is None else store.intent(record.intent_id)
        history = store.status.history(issuer, serial)
        dossier = None if intent is None else store.dossier(intent.revision_digest)
        pack, governing = self._statement(dossier, record.stored_at if intent is None else intent.intended_at)
        return Exhibit(
            now=self.now,
            record=record,
            intent=intent,
            dossier=dossier,
            reserved_at=_reserved(store, key),
            issuer=self._issuer(record.certificate),
            publication=auditor._publication.under(pack or governing),
            pack=pack,
            governing=governing,
            trusts=() if intent is None else self._trusts_at(intent.intended_at),
            revocation=store.status.revocation(issuer, serial),
            history=history,
            listed=self._listed(issuer, record.certificate.serial_number),
            answered=self._answered(issuer, serial),
            missing=self._missing(intent, history),
        )

    def _statement(self, dossier: DossierRecord | None, at: datetime) -> tuple[Pack | None, Pack]:
        """The version that the case was made under, if it is known here, and the one that governed it at `at`."""
        register = self.auditor._statements()
        digest = None if dossier is None else dossier.cps_digest
        pack = next((each for each in register.packs if each.digest.hex() == digest), None)
        return pack, register.in_force(at) if pack is None else register.governing(CpsPin.of(pack), at)

    # -- who signed it -------------------------------------------------------------------------------------------------

    @cached_property
    def _issuers(self) -> Mapping[bytes, Issuer]:
        """Every certificate that an authority of ours ever had here, by its subjectKeyIdentifier."""
        found: dict[bytes, Issuer] = {}
        for authority in self.auditor._hierarchy.authorities.values():
            subject = authority.certificate.subject
            past = (each.certificate for each in self.auditor._store.search(profile=authority.profile.name, limit=1000))
            for certificate in (*(each for each in past if each.subject == subject), authority.certificate):
                identifier = subject_key_id(extensions_of(certificate))
                if identifier is not None:
                    found[identifier] = Issuer(authority.name, certificate)
        return found

    def _issuer(self, certificate: x509.Certificate) -> Issuer | None:
        try:
            wanted = authority_key_id(extensions_of(certificate))
        except PkiError:
            return None
        return None if wanted is None else self._issuers.get(wanted)

    # -- what could be believed then -----------------------------------------------------------------------------------

    def _trusts_at(self, moment: datetime) -> Sequence[Trust]:
        """By the lists of `moment`; and, because a list is dated back, by those that were certainly out by then."""
        authorities = list(self.auditor._hierarchy.authorities.values())
        found = []
        for backdated in (False, True):
            lists = [self._full_at(each, moment, backdated=backdated) for each in authorities]
            key = tuple((each.issuer, each.number) for each in lists if each is not None)
            if key not in self._trusts:
                self._trusts[key] = self._trust(lists)
            trust = self._trusts[key]
            if trust is not None and trust not in found:
                found.append(trust)
        return found

    def _full_at(self, authority: Authority, moment: datetime, *, backdated: bool) -> CrlRecord | None:
        rule = authority.profile.ca
        assert rule is not None  # an authority's profile
        # A list's time has whole seconds: one of this very second may have come out after `moment`.
        out = moment.replace(microsecond=0) - _SECOND - rule.crl.backdate if backdated else moment
        record = self.auditor._store.crls.full_at(authority.name, out)
        # Lists that deltas follow are of holders that the CA never judges (`CrlPublisher._held`).
        return None if record is None or record.entries > rule.crl.full_up_to else record

    def _trust(self, lists: Sequence[CrlRecord | None]) -> Trust | None:
        indexed = [self._indexed(each) for each in lists if each is not None]
        known = [each for each in indexed if each is not None]
        return self.auditor._hierarchy.trust(CrlSet(known)) if len(known) == len(indexed) else None

    def _indexed(self, record: CrlRecord) -> IndexedCrl | None:
        key = record.issuer, record.number
        if key not in self._lists:
            try:
                der = b"".join(self.auditor._store.crls.parts(record))
            except StoreError:  # long ago
                self._lists[key] = None
            else:
                self._lists[key] = IndexedCrl.from_der(der)
        return self._lists[key]

    # -- what is told of it --------------------------------------------------------------------------------------------

    @cached_property
    def _newest(self) -> Mapping[str, CrlRecord | None]:
        crls = self.auditor._store.crls
        return {name: crls.latest(name, FULL) for name in self.auditor._hierarchy.authorities}

    def _listed(self, issuer: str, serial: int) -> Listed | None:
        record = self._newest.get(issuer)
        indexed = None if record is None else self._indexed(record)
        if record is None or indexed is None:
            return None
        return Listed(record.number, record.epoch, indexed.revoked.get(serial))

    def _answered(self, issuer: str, serial: str) -> Answered | None:
        standing = OcspStore(self.auditor._store.engine).standing(issuer, [serial], self.now)
        row = standing.signed.get(serial)
        if row is None:
            return None
        response = ocsp.load_der_ocsp_response(row.der)
        said = CertificateStatus(
            _STATES[response.certificate_status],  # type: ignore[arg-type]  # its values are the states
            response.revocation_time_utc,
        )
        return Answered(response.serial_number, said, standing.statuses[serial])

    # -- what the journal has ------------------------------------------------------------------------------------------

    @cached_property
    def _is_alone(self) -> bool:
        """Whether no other replica ever worked on this database, in whose journal events may be."""
        intents = tables.intents.c
        other = exists().where(intents.lease_owner.is_not(None), intents.lease_owner != self.auditor._replica)
        with reading(self.auditor._store.engine) as db:
            return not db.execute(select(other)).scalar_one()

    def _missing(self, intent: Intent | None, history: Sequence[StatusChange]) -> Sequence[str] | None:
        record = self.auditor._record
        expected = [] if intent is None else [("ca.intent", str(intent.id)), ("ca.issued", str(intent.id))]
        expected += [
            (EVENTS[each.state], change_key(each))
            for each in history
            if each.published_at is not None and (each.order is not None or each.ordered_by == SYSTEM)
        ]
        missing = [event for event, key in expected if not record.has(event, key)]
        if missing and (not self._is_alone or (intent is not None and intent.lease_until is not None)):
            return None  # it is elsewhere, or on its way
        return missing


def _reserved(store: Store, key: Key) -> datetime | None:
    row = tables.serials.c
    with reading(store.engine) as db:
        found: datetime | None = db.execute(
            select(row.reserved_at).where(row.issuer == key[0], row.serial == key[1])
        ).scalar_one_or_none()
    return found
