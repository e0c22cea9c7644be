"""Issue certificates: prepare, lint, intend, sign, compare, store (CPS 4.3.1).

    dossier ─ decide() ─► orders ─► TBSCertificate ─ lints ─► intent ─► IssuanceToken ─► token ─ compare ─► certificate

The intent is on disk, with the exact bytes and the approvals they rest on, before the token is called. A process that
is killed after that leaves an open intent, which the next start finishes: the very same bytes are signed again, so that
whatever the dead process may have obtained is the certificate that is stored, not a second one. An intent that cannot
be finished is abandoned, and if it may have been signed its serial number is revoked.

Replicas share the database. Each intent is leased by the replica that works on it, for longer than any call of the
token takes, and anew with each attempt; when the lease is over, another replica finishes what was left. Should both
sign, they sign the same bytes, and one of the two certificates is stored: only who has the lease ends an intent.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable, Mapping, Sequence
from datetime import datetime, timedelta
from typing import Final, NoReturn

from cryptography import x509

from ca.authorisation import IssuanceToken, require_approved
from ca.cases import AtWork, Case, Issued, Noted
from ca.errors import (
    CaError,
    ClockError,
    CompareError,
    InProgressError,
    IntentEndedError,
    NotApprovedError,
    RandomnessError,
    SigningError,
    SigningRefusedError,
    TokenUnavailableError,
)
from ca.hierarchy import Hierarchy
from ca.lints import require_clean
from ca.orders import CertificateOrder, orders
from ca.prepare import Issuer, Rng, new_serial, prepare
from ca.publication import Publication
from ca.publisher import CrlPublisher
from ca.record import Record, instant
from ca.signing import sign_certificates
from ca.store import CertificateRecord, DossierRecord, Intent, Lease, NewIntent, Store, serial_hex
from cps.application import KnownKeys
from cps.decide import decide
from cps.dossier import Dossier
from cps.model import Pack
from cps.verdict import Approval, Verdict
from hsm_service.service import SigningService
from pki.keys import spki_sha256
from runtime.language import Message
from runtime.logging import get_logger
from statements.published import Statements

LEASE: Final = timedelta(minutes=3)
"""Longer than the HSM service's client tries (`hsm_service.retry`: four times half a minute, and the pauses)."""
_DRIFT: Final = timedelta(minutes=1)
"""By how much clocks of replicas may differ."""
_DRAWS: Final = 8  # of a serial number; one in 2^128 is drawn twice
TOGETHER: Final = 250
"""Cases that go through the steps together, at most."""
_DECIDERS: Final = "operations-ca"
"""Who certifies officers and services, by whom cases are decided (CPS 7.1)."""
_log: Final = get_logger("ca.issuance")


class Issuance:
    """The issuing pipeline of one hierarchy."""

    def __init__(
        self,
        *,
        store: Store,
        hierarchy: Hierarchy,
        signer: SigningService,
        publisher: CrlPublisher,
        record: Record,
        statements: Statements,
        publication: Publication,
        rng: Rng,
        clock: Callable[[], datetime],
        replica: str,
    ) -> None:
        """`replica` names this process among those that share the database, and is the same after a restart."""
        self._store = store
        self._hierarchy = hierarchy
        self._signer = signer
        self._publisher = publisher
        self._record = record
        self._statements = statements
        self._publication = publication
        self._rng = rng
        self._clock = clock
        self._replica = replica
        self._newest: datetime | None = None
        self._at_work = AtWork()
        self._noted = Noted(store.mark_recorded)

    def issue(self, dossier: Dossier) -> dict[str, CertificateRecord]:
        """One certificate for each request of the case, by its purpose; asked again, the same ones.

        Raises NotApprovedError, RequestError, LintError, KeyRefusedError, SigningRefusedError, CompareError,
        ClockError, RandomnessError: there is no certificate; TokenUnavailableError, InProgressError,
        StoreUnavailableError: none yet, ask again or wait for `resume`.
        """
        [answer] = self.issue_many([dossier])
        if isinstance(answer, CaError):
            raise answer
        return answer

    def issue_many(self, dossiers: Sequence[Dossier]) -> list[Issued]:
        """As `issue` for many cases: for each, in their order, its certificates or what is raised for one alone.

        Each case is judged, prepared, linted, compared by itself; what waits for the disk or the token, the steps in
        between, is done for all of them at once. What is wrong with one changes nothing for the others. The second of
        two dossiers of one revision is asked for again when the first is done.
        """
        cases = [Case(dossier) for dossier in dossiers]
        waiting = cases
        while waiting:
            first: dict[str, Case] = {}
            for case in waiting:
                if len(first) < TOGETHER:
                    first.setdefault(case.digest, case)
            with self._at_work.holding(first):
                self._issue(list(first.values()))
            chosen = {id(case) for case in first.values()}
            waiting = [case for case in waiting if id(case) not in chosen]
        return [case.answer for case in cases]

    def resume(self) -> int:
        """Finish what a killed process left open; returns how many intents ended. Without the token they stay open."""
        ended = 0
        for intent in self._store.unfinished():
            with self._at_work.holding([intent.revision_digest]):
                current = self._lease(intent)
                if current is None:
                    continue
                try:
                    self._resume_one(current)
                    ended += 1
                except TokenUnavailableError:
                    _log.warning("intent-still-open", intent=intent.id, issuer=intent.issuer, serial=intent.serial)
                except InProgressError:
                    _log.warning("intent-taken-over", intent=intent.id, issuer=intent.issuer, serial=intent.serial)
                except (NotApprovedError, SigningRefusedError, CompareError) as error:
                    ended += 1
                    _log.error("intent-abandoned", intent=intent.id, serial=intent.serial, reason=error.reason)
        self._record_ended()
        return ended

    def _lease(self, intent: Intent) -> Intent | None:
        now = self._clock()
        return self._store.lease_intent(intent.id, Lease(self._replica, now + LEASE), now)

    def _record_ended(self) -> None:
        """Write into the journal what ended without it: a process may be killed between the two."""
        self._noted.mark()
        ended = self._store.unrecorded(self._replica, self._clock())
        for intent in ended:
            self._note_intents([intent], {intent.revision_digest: self._kept(intent).cps_digest})
            if intent.state == "issued":
                self._issued(intent)
            else:
                revocation = self._store.status.revocation(intent.issuer, intent.serial)
                self._note_abandoned(intent, intent.reason or "", revoked=revocation is not None)
        self._store.mark_recorded([intent.id for intent in ended])

    def _kept(self, intent: Intent) -> DossierRecord:
        kept = self._store.dossier(intent.revision_digest)
        assert kept is not None  # a foreign key
        return kept

    def _resume_one(self, intent: Intent) -> None:
        kept = self._kept(intent)
        self._note_intents([intent], {intent.revision_digest: kept.cps_digest})
        case = Case(Dossier.from_json(kept.dossier))
        try:
            verdict = self._decide(case.dossier, *self._known_keys([case]))
        except NotApprovedError as error:
            self._abandon(intent, error.reason, may_be_signed=True)
            raise
        self._sign([(case, IssuanceToken(intent, verdict, resumed=True))])
        if case.error is not None:
            raise case.error

    def _issue(self, cases: list[Case]) -> None:
        """The steps, each for all cases that the one before it has not ended."""
        try:
            live = self._store.live_intents([case.digest for case in cases])
            left = [case for case in cases if not self._had(case, live[case.digest])]
            decided = self._decided(left)
            if not decided:
                return
            self._store.save_dossiers([self._dossier_record(case) for case, _verdict in decided])
            tokens: list[tuple[Case, IssuanceToken]] = []
            wanted: list[tuple[Case, Verdict, CertificateOrder]] = []
            for case, verdict in decided:
                with case.refusals():
                    for order in orders(case.dossier, self._pack(case.dossier), not_after=verdict.not_after):
                        intent = live[case.digest].get(order.purpose)
                        if intent is None:
                            wanted.append((case, verdict, order))
                        elif (token := self._taken_up(case, intent, verdict)) is not None:
                            tokens.append((case, token))
            tokens += self._intended(wanted)
            self._sign(tokens)
        except CaError as error:  # of all of them: the clock, the generator, the database
            for case in cases:
                case.fail(error)

    def _had(self, case: Case, live: Mapping[str, Intent]) -> bool:
        """Whether everything that the case asks for was issued before."""
        if live.keys() != case.dossier.csrs.keys() or any(intent.state != "issued" for intent in live.values()):
            return False
        case.issued |= {purpose: self._issued(intent) for purpose, intent in live.items()}
        return True

    def _decided(self, cases: Sequence[Case]) -> list[tuple[Case, Verdict]]:
        """The cases that are approved, now and here; the others are told why not."""
        decided = []
        for case, known in zip(cases, self._known_keys(cases), strict=True):
            with case.refusals():
                decided.append((case, self._decide(case.dossier, known)))
        return decided

    def _known_keys(self, cases: Sequence[Case]) -> list[KnownKeys]:
        revisions = [case.dossier.revision for case in cases]
        return self._store.known_keys(
            [(revision.application_id, [entry.spki_sha256 for entry in revision.csrs]) for revision in revisions]
        )

    def _decide(self, dossier: Dossier, known: KnownKeys) -> Verdict:
        now = self._clock()
        pack = self._statements().governing(dossier.revision.cps, now)
        return require_approved(decide(dossier, pack, trust=self._publisher.trust(), now=now, known_keys=known))

    def _pack(self, dossier: Dossier) -> Pack:
        """The statement that an approved case names, which governs it: any other were refused (PACK-PIN)."""
        pack = self._statements().find(dossier.revision.cps)
        assert pack is not None
        return pack

    def _publication_of(self, dossier: Dossier) -> Publication:
        """What the certificates of an approved case name: the version of the CPS that it was approved under."""
        return self._publication.under(self._pack(dossier))

    def _taken_up(self, case: Case, intent: Intent, verdict: Verdict) -> IssuanceToken | None:
        """The right to finish what was intended before; None if it is issued already."""
        if intent.state == "issued":
            case.issued[intent.purpose] = self._issued(intent)
            return None
        leased = self._lease(intent)
        if leased is None:
            case.issued[intent.purpose] = self._elsewhere(intent)
            return None
        return IssuanceToken(leased, verdict, resumed=True)

    def _elsewhere(self, intent: Intent) -> CertificateRecord:
        """The certificate of an intent that another replica has; InProgressError while there is none."""
        current = self._store.intent(intent.id)
        if current is None or current.state != "issued":
            raise InProgressError(Message("another replica issues this certificate"), clause="CPS 4.3.1")
        return self._issued(current)

    def _intended(self, wanted: Sequence[tuple[Case, Verdict, CertificateOrder]]) -> list[tuple[Case, IssuanceToken]]:
        """Prepare and lint, then make the intents durable: from here on the token may be called, once for each."""
        if not wanted:
            return []
        now = self._monotone()
        issuers = [self._hierarchy[order.profile.issuer].issuer for _case, _verdict, order in wanted]
        self._store.screening.remember([order.holder.public_key for _case, _verdict, order in wanted])
        serials = self._reserve_serials([issuer.name for issuer in issuers], now)
        drafts: list[tuple[Case, Verdict, NewIntent]] = []
        for (case, verdict, order), issuer, serial in zip(wanted, issuers, serials, strict=True):
            with case.refusals():
                self._store.screening.require_unshared([order.holder.public_key])
                drafts.append((case, verdict, self._draft(case, order, verdict, issuer, serial, now)))
        drafts = [each for each in drafts if each[0].error is None]  # of a case all are intended, or none is
        if not drafts:
            return []
        opened = self._store.open_intents(
            [new for _case, _verdict, new in drafts], Lease(self._replica, now + LEASE), now
        )
        intents = [intent for intent in opened if isinstance(intent, Intent)]
        self._note_intents(intents, {case.digest: case.cps for case, _verdict, _new in drafts})
        tokens = []
        for (case, verdict, _new), intent in zip(drafts, opened, strict=True):
            if isinstance(intent, CaError):
                case.fail(intent)
            else:
                tokens.append((case, IssuanceToken(intent, verdict)))
        return tokens

    def _draft(
        self, case: Case, order: CertificateOrder, verdict: Verdict, issuer: Issuer, serial: int, now: datetime
    ) -> NewIntent:
        publication = self._publication_of(case.dossier)
        tbs = prepare(order.profile, order.holder, issuer=issuer, serial=serial, now=now, publication=publication)
        lints = require_clean(
            tbs,
            order.profile,
            issuer=issuer,
            issuer_key=issuer.public_key,
            publication=publication,
            now=now,
        )
        return NewIntent(
            revision_digest=case.digest,
            purpose=order.purpose,
            profile=order.profile.name,
            issuer=issuer.name,
            serial=serial_hex(serial),
            tbs=tbs,
            tbs_sha256=hashlib.sha256(tbs).hexdigest(),
            spki_sha256=spki_sha256(order.holder.public_key).hex(),
            lints=lints,
            approvals=tuple(map(_approval, verdict.approvals)),
        )

    def _monotone(self) -> datetime:
        """The time; ClockError if a certificate was intended later than it, other than one that was revoked since."""
        now = self._clock()
        if self._newest is None or now < self._newest - _DRIFT:
            self._newest = self._store.newest_intent() or now
        if now < self._newest - _DRIFT:
            raise ClockError(
                f"the clock says {instant(now)}, but a certificate was made at {instant(self._newest)}: set the clock, "
                "or revoke what was issued while it was wrong",
                clause="CPS 6.8",
            )
        self._newest = max(self._newest, now)
        return now

    def _reserve_serials(self, issuers: Sequence[str], now: datetime) -> list[int]:
        """A fresh serial number for each, in the order of `issuers`."""
        found: dict[int, int] = {}
        for _ in range(_DRAWS):
            missing = [place for place in range(len(issuers)) if place not in found]
            if not missing:
                break
            drawn = {place: new_serial(self._rng) for place in missing}
            names = {place: (issuers[place], serial_hex(serial)) for place, serial in drawn.items()}
            ours = self._store.reserve_serials(list(names.values()), now)
            for place, name in names.items():
                if name in ours:
                    ours.remove(name)  # should one be drawn twice at once, one gets it
                    found[place] = drawn[place]
        if len(found) < len(issuers):
            raise RandomnessError(f"{_DRAWS} serial numbers in a row were drawn before", clause="CPS 7.1")
        return [found[place] for place in range(len(issuers))]

    def _sign(self, tokens: Sequence[tuple[Case, IssuanceToken]]) -> None:
        """Redeem the tokens: the only way to the CA's keys, which ask for the dossiers again."""
        redeemed = [(case, token.redeem(), token.resumed) for case, token in tokens]
        signed: list[tuple[Case, Intent, x509.Certificate]] = []
        for name in dict.fromkeys(intent.issuer for _case, intent, _resumed in redeemed):
            ours = [each for each in redeemed if each[1].issuer == name]
            issuer = self._hierarchy[name].issuer
            answers = sign_certificates(
                self._signer,
                name,
                [(intent.tbs, case.encoded) for case, intent, _resumed in ours],
                issuer.public_key,
                self._lists(case for case, _intent, _resumed in ours),
            )
            for (case, intent, resumed), answer in zip(ours, answers, strict=True):
                if isinstance(answer, SigningError):
                    with case.refusals():
                        self._not_signed(intent, answer, resumed=resumed)
                else:
                    signed.append((case, intent, answer))
        if signed:
            self._finish(signed)

    def _lists(self, cases: Iterable[Case]) -> tuple[bytes, ...]:
        """The lists (DER) that the HSM service judges these cases by: of officers; for re-keys, of what is replaced."""
        issuers: dict[str, None] = {_DECIDERS: None}
        for case in cases:
            revision = case.dossier.revision
            if revision.replaces is not None:
                pack = self._statements().governing(revision.cps, self._clock())
                named = pack.classes[revision.member_class].issuer
                issuers |= dict.fromkeys(named[purpose] for purpose in revision.replaces)
        return tuple(dict.fromkeys(crl for issuer in issuers for crl in self._publisher.supporting(issuer)))

    def _not_signed(self, intent: Intent, error: SigningError, *, resumed: bool) -> NoReturn:
        if isinstance(error, SigningRefusedError):
            self._abandon(intent, error.reason, may_be_signed=resumed)
        elif isinstance(error, CompareError):
            _log.critical("signed-something-else", intent=intent.id, issuer=intent.issuer, serial=intent.serial)
            self._abandon(intent, error.reason, may_be_signed=True)
        raise error

    def _finish(self, signed: Sequence[tuple[Case, Intent, x509.Certificate]]) -> None:
        stored = self._store.finish_intents(
            [(intent, certificate) for _case, intent, certificate in signed], self._clock()
        )
        records = [record for record in stored if isinstance(record, CertificateRecord)]
        self._note_issued(records)
        self._noted.add(record.intent_id for record in records if record.intent_id is not None)
        for (case, intent, _certificate), record in zip(signed, stored, strict=True):
            with case.refusals():
                if isinstance(record, IntentEndedError):
                    # Our lease was over: another replica has signed the same bytes, or is about to.
                    record = self._elsewhere(intent)
                case.issued[intent.purpose] = record

    def _abandon(self, intent: Intent, reason: str, *, may_be_signed: bool) -> None:
        try:
            self._store.abandon_intent(intent, reason, self._clock(), may_be_signed=may_be_signed)
        except IntentEndedError:
            raise InProgressError("another replica has taken over this intent", clause="CPS 4.3.1") from None
        self._note_abandoned(intent, reason, revoked=may_be_signed)
        if may_be_signed:
            self._publisher.refresh()

    def _note_intents(self, intents: Sequence[Intent], cps: Mapping[str, str]) -> None:
        """Into the journal; `cps` is the digest of the statement that governs, by that of the revision (hex)."""
        if not intents:
            return
        self._record.note_many(
            "ca.intent",
            {
                str(intent.id): {
                    "revision": intent.revision_digest,
                    "purpose": intent.purpose,
                    "issuer": intent.issuer,
                    "serial": intent.serial,
                    "tbs_sha256": intent.tbs_sha256,
                    "cps": cps[intent.revision_digest],
                }
                for intent in intents
            },
        )

    def _note_issued(self, records: Sequence[CertificateRecord]) -> None:
        if not records:
            return
        self._record.note_many(
            "ca.issued",
            {
                str(record.intent_id): {"issuer": record.issuer, "serial": record.serial, "sha256": record.sha256}
                for record in records
            },
        )

    def _note_abandoned(self, intent: Intent, reason: str, *, revoked: bool) -> None:
        self._record.note(
            "ca.abandoned",
            str(intent.id),
            issuer=intent.issuer,
            serial=intent.serial,
            reason=reason,
            revoked=revoked,
        )

    def _issued(self, intent: Intent) -> CertificateRecord:
        record = self._store.certificate(intent.issuer, intent.serial)
        self._note_issued([record])
        return record

    def _dossier_record(self, case: Case) -> DossierRecord:
        revision = case.dossier.revision
        return DossierRecord(
            revision_digest=case.digest,
            application_id=revision.application_id,
            member_class=revision.member_class,
            cps_digest=case.cps,
            dossier=case.encoded,
            received_at=self._clock(),
        )


def _approval(approval: Approval) -> dict[str, str]:
    return {
        "step": approval.step,
        "person": approval.person,
        "organisation": approval.organisation,
        "signed_at": instant(approval.signed_at),
    }
