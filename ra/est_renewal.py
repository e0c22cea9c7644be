"""simplereenroll (RFC 7030 4.2.2): who has a certificate in force proves its key in TLS and asks for the next one.

It is a re-key of the CPS (4.7). The old key's proof is in the TLS connection, which nobody can look at later, so the
registration authority says with its own key that it saw it (`cps.rekey`), and puts that on file. A RenewReq of the
protocol (`ra.holder`) is proof of the same kind, and goes the same way: a certificate is replaced once, whichever way
is taken.
"""

from __future__ import annotations

import hashlib
from typing import Final

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.serialization import Encoding

from cps.errors import StatementError
from cps.model import MemberClass
from cps.rekey_statement import build_rekey, parse_rekey
from cps.signatory import open_signed
from pki.errors import PkiError
from pki.keys import spki_sha256
from pki.oids import CT_REKEY
from ra.errors import ConflictError, InvalidSubmissionError, WrongStateError
from ra.est_requests import OVER, check_request, hand_in
from ra.est_store import EstStore, Renewal
from ra.holding import Holder
from ra.records import Application
from ra.states import State
from ra.submission import Submission
from ra.workflow import NewEvidence, Workflow
from runtime.language import Message, Term
from runtime.problems import Problem

OLD_KEY: Final = "old_key"
"""The kind of evidence that a re-key's proof is (the pack's `rekey.evidence`)."""


class Renewals:
    """Re-keys by EST. Whoever calls holds a lock for the certificate; the database decides between processes."""

    def __init__(self, workflow: Workflow, store: EstStore, *, proven_in: str = "TLS") -> None:
        """`proven_in`: where the registration authority saw the old key's proof, as its file says."""
        self.workflow: Final = workflow
        self._store = store
        self._proven_in = proven_in

    def hand_in(self, holder: Holder, csr: x509.CertificateSigningRequest) -> Application:
        """The case of this request, as it stands once it is handed in; the same request again changes nothing.

        Raises Problem (409: another request came before), RaError.
        """
        desk = self.workflow.desk
        der = csr.public_bytes(Encoding.DER)
        revision = desk.store.revision(holder.application)
        assert revision is not None  # the case is certified
        check_request(self.workflow, csr, revision.subject)
        row = self._renewal(holder, hashlib.sha256(der).hexdigest())
        application = self.workflow.get(holder.actor, row.application_id)
        after = row.after_revision
        if application.state in OVER or self._store.handed_in(application.id, der, after_revision=after):
            return application
        application = self._prove(holder, application, csr)
        submission = Submission({}, {"signing": der})
        return hand_in(self.workflow, self._store, holder.actor, application, submission, after_revision=after)

    def of(self, certificate: x509.Certificate) -> Renewal | None:
        """What was last asked for with a certificate."""
        return self._store.renewal(certificate.fingerprint(hashes.SHA256()).hex())

    def _renewal(self, holder: Holder, csr: str) -> Renewal:
        """The re-key that this request is in, opened now if need be: one case at a time for a certificate."""
        old = holder.certificate.fingerprint(hashes.SHA256()).hex()
        row = self._store.renewal(old)
        if row is not None and row.csr_sha256 == csr:
            return row
        before = None if row is None else self.workflow.get(holder.actor, row.application_id)
        if row is not None and before is not None and before.state is State.RETURNED:
            after = Renewal(old, csr, before.id, before.revision or 0)
            self._store.put_renewal(row, after)
            return after
        if before is not None and before.state not in OVER:
            raise Problem(
                409,
                "other-request",
                Message(
                    "another request with this certificate came before: application {application}",
                    application=before.id,
                ),
                clause="RFC 7030 4.2.3",
            )
        try:
            opened = self.workflow.open(
                holder.actor,
                holder.application.member_class,
                replaces=holder.application.id,
                by_holder=True,
                also=lambda db, application_id: self._store.rebind(db, row, Renewal(old, csr, application_id, 0)),
            )
        except ConflictError:  # another process opened one at the same time
            now = self._store.renewal(old)
            if now is None or now.csr_sha256 != csr:
                raise
            return now
        return Renewal(old, csr, opened.id, 0)

    def _prove(self, holder: Holder, application: Application, csr: x509.CertificateSigningRequest) -> Application:
        """Put on file that the old key was proven in TLS, once for each new key."""
        desk, new = self.workflow.desk, (spki_sha256(csr.public_key()),)
        on_file = desk.store.evidence(application.id, with_bodies_of=[OLD_KEY])
        if any(_keys_in(piece.body) == new for piece in on_file if piece.kind == OLD_KEY):
            return application
        content = build_rekey(application.id, holder.certificate, new, desk.now)
        evidence = NewEvidence(OLD_KEY, desk.sign(CT_REKEY, content), source=self._proven_in)
        try:
            return self.workflow.add_evidence(holder.actor, application.id, evidence, version=application.version)
        except (ConflictError, WrongStateError):  # another process did it at the same time
            return self.workflow.get(holder.actor, application.id)


def check_same(holder: Holder, csr: x509.CertificateSigningRequest, member_class: MemberClass) -> None:
    """Raise InvalidSubmissionError unless the request says what the signing certificate says, but for the key."""
    certificate, clause = holder.certificate, "RFC 7030 4.2.2"
    if (holder.application.member_class, holder.purpose) != (member_class, "signing"):
        raise InvalidSubmissionError(
            "the client certificate is the {purpose} certificate of a {member_class}: EST renews signing ones",
            clause=clause,
            purpose=Term("purpose", holder.purpose),
            member_class=Term("class", holder.application.member_class),
        )
    if csr.subject != certificate.subject or _names(csr) != _names(certificate):
        raise InvalidSubmissionError(
            "subject and subjectAltName of the request are not those of the client certificate", clause=clause
        )
    if csr.public_key() == certificate.public_key():
        raise InvalidSubmissionError(
            "the request is for the key of the client certificate: a re-key has a new one", clause="CPS 4.7"
        )


def _names(said: x509.CertificateSigningRequest | x509.Certificate) -> tuple[x509.GeneralName, ...]:
    found = (each.value for each in said.extensions if isinstance(each.value, x509.SubjectAlternativeName))
    return next(map(tuple, found), ())


def _keys_in(body: bytes | None) -> tuple[bytes, ...]:
    """The new keys in a proof on file; none if it cannot be read."""
    try:
        return parse_rekey(open_signed(body or b"", CT_REKEY).content).keys
    except (PkiError, StatementError):
        return ()
