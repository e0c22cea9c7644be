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
import threading
from collections.abc import Callable
from datetime import datetime, timedelta
from typing import Final

from ca.authorisation import IssuanceToken, require_approved
from ca.errors import (
    ClockError,
    CompareError,
    InProgressError,
    IntentEndedError,
    NotApprovedError,
    RandomnessError,
    SigningRefusedError,
    TokenUnavailableError,
)
from ca.hierarchy import Hierarchy
from ca.lints import require_clean
from ca.orders import CertificateOrder, orders
from ca.prepare import Rng, new_serial, prepare
from ca.publication import Publication
from ca.publisher import CrlPublisher
from ca.record import Record, instant
from ca.signing import sign_certificate
from ca.store import CertificateRecord, DossierRecord, Intent, Lease, NewIntent, Store, serial_hex
from cps.decide import decide
from cps.dossier import Dossier
from cps.model import Pack
from cps.verdict import Verdict
from hsm_service.service import Basis, SigningService
from pki.keys import spki_sha256
from runtime.logging import get_logger

LEASE: Final = timedelta(minutes=3)
"""Longer than the HSM service's client tries (`hsm_service.retry`: four times half a minute, and the pauses)."""
_DRIFT: Final = timedelta(minutes=1)
"""By how much clocks of replicas may differ."""
_DRAWS: Final = 8  # of a serial number; one in 2^128 is drawn twice
_STRIPES: Final = 64
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
        pack: Pack,
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
        self._pack = pack
        self._publication = publication
        self._rng = rng
        self._clock = clock
        self._replica = replica
        self._newest: datetime | None = None
        # Two requests for one revision wait for each other; the number of locks is fixed, whatever is asked.
        self._locks = [threading.Lock() for _ in range(_STRIPES)]

    def issue(self, dossier: Dossier) -> dict[str, CertificateRecord]:
        """One certificate for each request of the case, by its purpose; asked again, the same ones.

        Raises NotApprovedError, RequestError, LintError, KeyRefusedError, SigningRefusedError, CompareError,
        ClockError, RandomnessError: there is no certificate; TokenUnavailableError, InProgressError,
        StoreUnavailableError: none yet, ask again or wait for `resume`.
        """
        digest = dossier.revision.digest.hex()
        with self._lock(digest):
            live = self._store.live_intents(digest)
            if live.keys() == dossier.csrs.keys() and all(intent.state == "issued" for intent in live.values()):
                return {purpose: self._issued(live[purpose]) for purpose in sorted(live)}
            verdict = self._decide(dossier)
            self._store.save_dossier(self._dossier_record(dossier))
            return {
                order.purpose: self._one(order, dossier, verdict, live.get(order.purpose))
                for order in orders(dossier, not_after=verdict.not_after)
            }

    def resume(self) -> int:
        """Finish what a killed process left open; returns how many intents ended. Without the token they stay open."""
        ended = 0
        for intent in self._store.unfinished():
            with self._lock(intent.revision_digest):
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
        ended = self._store.unrecorded(self._replica, self._clock())
        for intent in ended:
            self._note_intent(intent)
            if intent.state == "issued":
                self._issued(intent)
            else:
                revocation = self._store.status.revocation(intent.issuer, intent.serial)
                self._note_abandoned(intent, intent.reason or "", revoked=revocation is not None)
        self._store.mark_recorded(ended)

    def _resume_one(self, intent: Intent) -> None:
        self._note_intent(intent)
        kept = self._store.dossier(intent.revision_digest)
        assert kept is not None  # a foreign key
        dossier = Dossier.from_json(kept.dossier)
        try:
            verdict = self._decide(dossier)
        except NotApprovedError as error:
            self._abandon(intent, error.reason, may_be_signed=True)
            raise
        self._sign(IssuanceToken(intent, verdict, resumed=True), dossier)

    def _decide(self, dossier: Dossier) -> Verdict:
        known = self._store.known_keys(
            [entry.spki_sha256 for entry in dossier.revision.csrs], application_id=dossier.revision.application_id
        )
        verdict = decide(dossier, self._pack, trust=self._publisher.trust(), now=self._clock(), known_keys=known)
        return require_approved(verdict)

    def _one(
        self, order: CertificateOrder, dossier: Dossier, verdict: Verdict, intent: Intent | None
    ) -> CertificateRecord:
        if intent is None:
            return self._sign(self._intend(order, dossier.revision.digest.hex(), verdict), dossier)
        if intent.state == "issued":
            return self._issued(intent)
        leased = self._lease(intent)
        if leased is None:
            return self._elsewhere(intent)
        return self._sign(IssuanceToken(leased, verdict, resumed=True), dossier)

    def _elsewhere(self, intent: Intent) -> CertificateRecord:
        """The certificate of an intent that another replica has; InProgressError while there is none."""
        current = self._store.intent(intent.id)
        if current is None or current.state != "issued":
            raise InProgressError("another replica issues this certificate", clause="CPS 4.3.1")
        return self._issued(current)

    def _intend(self, order: CertificateOrder, revision_digest: str, verdict: Verdict) -> IssuanceToken:
        """Prepare and lint, then make the intent durable: from here on the token may be called, once."""
        now = self._monotone()
        issuer = self._hierarchy[order.profile.issuer].issuer
        self._store.screening.require_unshared([order.holder.public_key])
        serial = self._reserve_serial(issuer.name, now)
        tbs = prepare(order.profile, order.holder, issuer=issuer, serial=serial, now=now, publication=self._publication)
        lints = require_clean(
            tbs,
            order.profile,
            issuer=issuer,
            issuer_key=issuer.public_key,
            publication=self._publication,
            now=now,
        )
        approvals = tuple(
            {
                "step": approval.step,
                "person": approval.person,
                "organisation": approval.organisation,
                "signed_at": instant(approval.signed_at),
            }
            for approval in verdict.approvals
        )
        new = NewIntent(
            revision_digest=revision_digest,
            purpose=order.purpose,
            profile=order.profile.name,
            issuer=issuer.name,
            serial=serial_hex(serial),
            tbs=tbs,
            tbs_sha256=hashlib.sha256(tbs).hexdigest(),
            spki_sha256=spki_sha256(order.holder.public_key).hex(),
            lints=lints,
            approvals=approvals,
        )
        intent = self._store.open_intent(new, Lease(self._replica, now + LEASE), now)
        self._note_intent(intent)
        return IssuanceToken(intent, verdict)

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

    def _reserve_serial(self, issuer: str, now: datetime) -> int:
        for _ in range(_DRAWS):
            serial = new_serial(self._rng)
            if self._store.reserve_serial(issuer, serial_hex(serial), now):
                return serial
        raise RandomnessError(f"{_DRAWS} serial numbers in a row were drawn before", clause="CPS 7.1")

    def _sign(self, token: IssuanceToken, dossier: Dossier) -> CertificateRecord:
        """Redeem the token: the only way to the CA's key, which asks for the dossier again."""
        intent = token.redeem()
        issuer = self._hierarchy[intent.issuer].issuer
        try:
            basis = Basis(dossier.to_json(), self._publisher.supporting(_DECIDERS))
            certificate = sign_certificate(self._signer, issuer.name, intent.tbs, issuer.public_key, basis)
        except SigningRefusedError as error:
            self._abandon(intent, error.reason, may_be_signed=token.resumed)
            raise
        except CompareError as error:
            _log.critical("signed-something-else", intent=intent.id, issuer=intent.issuer, serial=intent.serial)
            self._abandon(intent, error.reason, may_be_signed=True)
            raise
        try:
            record = self._store.finish_intent(intent, certificate, self._clock())
        except IntentEndedError:  # our lease was over: another replica has signed the same bytes, or is about to
            return self._elsewhere(intent)
        self._record.note("ca.issued", str(intent.id), issuer=record.issuer, serial=record.serial, sha256=record.sha256)
        return record

    def _abandon(self, intent: Intent, reason: str, *, may_be_signed: bool) -> None:
        try:
            self._store.abandon_intent(intent, reason, self._clock(), may_be_signed=may_be_signed)
        except IntentEndedError:
            raise InProgressError("another replica has taken over this intent", clause="CPS 4.3.1") from None
        self._note_abandoned(intent, reason, revoked=may_be_signed)
        if may_be_signed:
            self._publisher.refresh()

    def _note_intent(self, intent: Intent) -> None:
        self._record.note(
            "ca.intent",
            str(intent.id),
            revision=intent.revision_digest,
            purpose=intent.purpose,
            issuer=intent.issuer,
            serial=intent.serial,
            tbs_sha256=intent.tbs_sha256,
            cps=self._pack.digest.hex(),
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
        self._record.note("ca.issued", str(intent.id), issuer=record.issuer, serial=record.serial, sha256=record.sha256)
        return record

    def _dossier_record(self, dossier: Dossier) -> DossierRecord:
        return DossierRecord(
            revision_digest=dossier.revision.digest.hex(),
            application_id=dossier.revision.application_id,
            member_class=dossier.revision.member_class,
            cps_digest=self._pack.digest.hex(),
            dossier=dossier.to_json(),
            received_at=self._clock(),
        )

    def _lock(self, revision_digest: str) -> threading.Lock:
        return self._locks[int(revision_digest[:8], 16) % _STRIPES]
