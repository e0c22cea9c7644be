"""Enrolment over Secure Transport (RFC 7030, RFC 8951, RFC 9908) as a way into the workflow.

    simpleenroll    a case that somebody prepared (`prepare`) ── one-time code ──┐
    simplereenroll  a certificate in force ── its key, in TLS ── CPS 4.7 re-key ─┤
                                                                                 ├─ submit or amend ─ how it stands
                         the very same request again ────────────────────────────┘

A request is taken for a code, or for a certificate, before anything is done for it (`ra.est_store`), and each step
looks at what is there already: after a crash, or in a second process, the same request goes on where it stopped and
never begins a second case. Everything that changes an application goes through `ra.workflow`: as whoever prepared the
case, or as the holder of the certificate.

Who proves an old key in TLS is believed for it because the registration authority says so with its own key
(`cps.rekey`). There is no linking of a request to its TLS connection (RFC 7030 3.5): TLS 1.3 has no tls-unique (RFC
8446 C.5, RFC 9266), and a request that carries a challengePassword is refused, whatever is in it.
"""

from __future__ import annotations

import base64
import hashlib
import hmac
import threading
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.serialization import Encoding
from cryptography.x509.oid import AttributeOID

from cps.application import rule_of_csr_error
from cps.errors import StatementError
from cps.model import MemberClass
from cps.rekey import build_rekey, parse_rekey
from cps.signatory import open_signed
from pki.csr import parse_csr
from pki.errors import CsrError, PkiError
from pki.keys import spki_sha256
from pki.oids import CT_REKEY
from ra.access import Act, Actor
from ra.errors import ConflictError, InvalidSubmissionError, NotAllowedError, WrongStateError
from ra.est_answer import Given, Waiting, tell
from ra.est_encoding import certs_only, csr_attributes
from ra.est_store import Code, EstStore, Renewal
from ra.holding import Holder, holder_of
from ra.states import ENDED_WITHOUT, Action, State
from ra.store import Application
from ra.submission import Submission, read_subject, understand
from ra.workflow import NewEvidence, Workflow
from runtime.language import Message, Term
from runtime.problems import Problem

OLD_KEY: Final = "old_key"
"""The kind of evidence that a re-key's proof is (the pack's `rekey.evidence`)."""
_CODE: Final = 20  # bytes: 160 bits
_NOBODY: Final = "0" * 64  # the digest of no code
_STRIPES: Final = 64
_OVER: Final = ENDED_WITHOUT | {State.REVOKED}


@dataclass(frozen=True, slots=True)
class OneTimeCode:
    """What whoever prepared a case hands on; the code is shown this once."""

    application_id: str
    member_class: MemberClass
    code: str
    good_until: datetime

    def __repr__(self) -> str:
        return f"OneTimeCode({self.application_id!r})"


class EstDesk:
    """Answers EST clients; safe for threads."""

    def __init__(self, workflow: Workflow) -> None:
        self.workflow: Final = workflow
        self._store = EstStore(workflow.store.engine)
        self._locks = tuple(threading.Lock() for _ in range(_STRIPES))

    # who prepares

    def prepare(
        self, actor: Actor, application_id: str, subject: Mapping[str, Any], national_code: str | None
    ) -> OneTimeCode:
        """Keep subject and national code for a draft, or a case that can be amended, and give out a code for it.

        A code that was there before is worthless from now on. Raises InvalidSubmissionError, WrongStateError,
        NotAllowedError.
        """
        desk, pack = self.workflow.desk, self.workflow.pack
        application = desk.load(application_id)
        action = Action.SUBMIT if application.state is State.DRAFT else Action.AMEND
        application = desk.take(actor, Act.EDIT, application_id, action)
        by_est(application.member_class)
        if application.replaces is not None:
            raise InvalidSubmissionError(
                "a re-key comes with the certificate that is replaced (simplereenroll), not with a code",
                clause="CPS 4.7",
            )
        _, checked_code = read_subject(subject, national_code, application.member_class, pack, rng=desk.rng)
        code = base64.b32encode(desk.rng(_CODE)).decode("ascii")
        good_until = desk.now + pack.one_time_code.lifetime
        self._store.prepare(
            Code(
                application_id=application.id,
                code_sha256=_digest_of(code),
                tries_left=pack.one_time_code.tries,
                good_until=good_until,
                prepared_by=actor.name,
                person=actor.person,
                organisation=actor.organisation,
                subject=subject,
                national_code=checked_code,
                after_revision=application.revision or 0,
            )
        )
        desk.record.note("ra.one-time-code", application=application.id, actor=actor.name)
        return OneTimeCode(application.id, application.member_class, code, good_until)

    # RFC 7030 4.1, 4.5

    def authorities(self) -> bytes:
        """The roots and the CAs below them: certs-only, DER."""
        trust = self.workflow.trust(self.workflow.now)
        return certs_only((*trust.anchors, *trust.intermediates))

    def attributes(self, member_class: MemberClass) -> bytes:
        """CsrAttrs (DER): what keys the class allows."""
        pack = self.workflow.pack
        return csr_attributes(pack.key_rules[pack.classes[member_class].key.inherit])

    def note_use(self, certificate: x509.Certificate) -> None:
        """Accept the case of a certificate by its use in TLS, if it is one of ours and in force."""
        try:
            self.workflow.accept_by_use(certificate)
        except NotAllowedError:
            return  # then it is used for nothing

    # RFC 7030 4.2.1

    def enrol(self, member_class: MemberClass, application_id: str, code: str, body: bytes) -> Given | Waiting:
        """Hand in a request (DER) with a one-time code, or ask how it stands.

        Raises Problem (401: no such code; 4xx: why there is no certificate), RaError.
        """
        row = self._admit(application_id, code)
        with self._lock(row.application_id):
            application = self.workflow.get(row.actor, row.application_id)
            if application.member_class != member_class:
                raise InvalidSubmissionError(
                    "the application is one of a {member_class}",
                    clause="CPS 4.1.2",
                    member_class=Term("class", application.member_class),
                )
            csr = self._read(body, member_class)
            der = csr.public_bytes(Encoding.DER)
            submission = Submission(row.subject, {"signing": der}, row.national_code)
            if row.csr_sha256 is None:  # the code is kept for a request that can be handed in
                understand(submission, member_class, self.workflow.pack, rng=self.workflow.desk.rng)
            until = self.workflow.now + self.workflow.pack.one_time_code.collect
            if self._store.bind(row, hashlib.sha256(der).hexdigest(), until) != hashlib.sha256(der).hexdigest():
                raise Problem(
                    409, "other-request", Message("the code is good for another request"), clause="RFC 7030 4.2.3"
                )
            application = self._hand_in(row.actor, application, submission, der, row.after_revision)
            answer = tell(self.workflow.desk, application, csr)
            if isinstance(answer, Given):
                self._store.given_out(row, self.workflow.now + self.workflow.pack.one_time_code.again)
            return answer

    def _admit(self, application_id: str, code: str) -> Code:
        """The row of a code that is good now. Whatever is wrong, the answer is the same."""
        row = self._store.code(application_id)
        matches = hmac.compare_digest(_digest_of(code), _NOBODY if row is None else row.code_sha256)
        if row is not None and matches and row.tries_left > 0 and self.workflow.now < row.good_until:
            return row
        if row is not None and not matches:
            self._store.missed(application_id)
        raise unauthorised()

    # RFC 7030 4.2.2

    def reenrol(self, member_class: MemberClass, certificate: x509.Certificate, body: bytes) -> Given | Waiting:
        """Hand in a request (DER) for the next certificate with the old one, or ask how it stands.

        Raises Problem, RaError, StatusError.
        """
        self.workflow.accept_by_use(certificate)
        holder = holder_of(self.workflow.desk, certificate)
        old = certificate.fingerprint(hashes.SHA256()).hex()
        with self._lock(old):
            csr = self._read(body, member_class)
            self._check_same(holder, csr, member_class)
            der = csr.public_bytes(Encoding.DER)
            row = self._renewal(holder, old, hashlib.sha256(der).hexdigest())
            application = self.workflow.get(holder.actor, row.application_id)
            if not self._store.handed_in(application.id, der, after_revision=row.after_revision):
                application = self._prove(holder, application, csr)
                submission = Submission({}, {"signing": der})
                application = self._hand_in(holder.actor, application, submission, der, row.after_revision)
            return tell(self.workflow.desk, application, csr)

    def _check_same(self, holder: Holder, csr: x509.CertificateSigningRequest, member_class: MemberClass) -> None:
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

    def _renewal(self, holder: Holder, old: str, csr: str) -> Renewal:
        """The re-key that this request is in, opened now if need be: one case at a time for a certificate."""
        row = self._store.renewal(old)
        if row is not None and row.csr_sha256 == csr:
            return row
        before = None if row is None else self.workflow.get(holder.actor, row.application_id)
        if row is not None and before is not None and before.state is State.RETURNED:
            after = Renewal(old, csr, before.id, before.revision or 0)
            self._store.put_renewal(row, after)
            return after
        if before is not None and before.state not in _OVER:
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
        evidence = NewEvidence(OLD_KEY, desk.sign(CT_REKEY, content), source="TLS")
        try:
            return self.workflow.add_evidence(holder.actor, application.id, evidence, version=application.version)
        except (ConflictError, WrongStateError):  # another process did it at the same time
            return self.workflow.get(holder.actor, application.id)

    # both

    def _hand_in(
        self, actor: Actor, application: Application, submission: Submission, der: bytes, after_revision: int
    ) -> Application:
        """Submit or amend, unless this was done with this request."""
        if application.state in _OVER or self._store.handed_in(application.id, der, after_revision=after_revision):
            return application
        if (application.revision or 0) != after_revision:
            raise Problem(
                409,
                "other-request",
                Message("application {application} was handed in by other means", application=application.id),
                clause="RFC 7030 4.2.3",
            )
        try:
            if application.state is State.DRAFT:
                return self.workflow.submit(actor, application.id, submission, version=application.version)
            return self.workflow.amend(actor, application.id, submission, version=application.version)
        except (ConflictError, WrongStateError):  # somebody was faster, perhaps the same request in another process
            return self.workflow.get(actor, application.id)

    def _read(self, body: bytes, member_class: MemberClass) -> x509.CertificateSigningRequest:
        pack = self.workflow.pack
        try:
            csr = parse_csr(body)
        except CsrError as error:
            rule = pack.key_rules[pack.classes[member_class].key.inherit]
            raise InvalidSubmissionError(
                "the {purpose} request: {fault}",
                clause=pack.clause(rule_of_csr_error(error, body, rule)),
                purpose=Term("purpose", "signing"),
                fault=Term("reason", error.reason, error.detail),
            ) from None
        if any(each.oid == AttributeOID.CHALLENGE_PASSWORD for each in csr.attributes):
            raise InvalidSubmissionError(
                "the request carries a challengePassword, which no TLS 1.3 connection has: leave it away",
                clause="RFC 7030 3.5",
            )
        return csr

    def _lock(self, key: str) -> threading.Lock:
        return self._locks[hash(key) % _STRIPES]


def by_est(member_class: MemberClass) -> None:
    """Raises InvalidSubmissionError for a class whose members cannot enrol by EST."""
    if member_class == "gateway":
        raise InvalidSubmissionError(
            "a gateway hands in two requests with attestations of their keys, and EST carries one request",
            clause="CPS 4.1.2",
        )


def unauthorised() -> Problem:
    """The one answer to whoever has no code that is good now."""
    return Problem(
        401,
        "no-code",
        Message("expected the application and a one-time code that is good for it"),
        clause="RFC 7030 3.2.3",
        headers={"WWW-Authenticate": 'Basic realm="EST", charset="UTF-8"'},
    )


def _digest_of(code: str) -> str:
    """SHA-256 of a code as it was given out: blanks, hyphens and lower case do not matter (hexadecimal)."""
    return hashlib.sha256(code.replace("-", "").replace(" ", "").upper().encode()).hexdigest()


def _names(said: x509.CertificateSigningRequest | x509.Certificate) -> tuple[x509.GeneralName, ...]:
    found = (each.value for each in said.extensions if isinstance(each.value, x509.SubjectAlternativeName))
    return next(map(tuple, found), ())


def _keys_in(body: bytes | None) -> tuple[bytes, ...]:
    """The new keys in a proof on file; none if it cannot be read."""
    try:
        return parse_rekey(open_signed(body or b"", CT_REKEY).content).keys
    except (PkiError, StatementError):
        return ()
