"""Enrolment over Secure Transport (RFC 7030, RFC 8951, RFC 9908) as a way into the workflow.

    simpleenroll    a case that somebody prepared (`prepare`) ── one-time code ──┐
    simplereenroll  a certificate in force ── its key, in TLS ── CPS 4.7 re-key ─┤
                                                                                 ├─ submit or amend ─ how it stands
                         the very same request again ────────────────────────────┘

A request is taken for a code, or for a certificate, before anything is done for it (`ra.est_store`), and each step
looks at what is there already: after a crash, or in a second process, the same request goes on where it stopped and
never begins a second case. Everything that changes an application goes through `ra.workflow`: as whoever prepared the
case, or as the holder of the certificate.
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
from cryptography.hazmat.primitives.serialization import Encoding

from cps.dossier import Subject
from cps.model import MemberClass
from ra.access import Act, Actor
from ra.errors import InvalidSubmissionError, NotAllowedError
from ra.est_answer import Given, Waiting, tell
from ra.est_encoding import certs_only, csr_attributes
from ra.est_renewal import Renewals, check_same
from ra.est_requests import by_est, check_request, hand_in, read_request
from ra.est_store import Code, EstStore
from ra.holding import holder_of
from ra.states import Action, State
from ra.submission import Submission, read_subject
from ra.workflow import Workflow
from runtime.language import Message, Term
from runtime.problems import Problem

_CODE: Final = 20  # bytes: 160 bits
_NOBODY: Final = "0" * 64  # the digest of no code
_STRIPES: Final = 64


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
        self._renewals = Renewals(workflow, self._store)
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
        application = desk.take(actor, Act.EDIT if action is Action.SUBMIT else Act.AMEND, application_id, action)
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
        pack, row = self.workflow.pack, self._admit(application_id, code)
        with self._lock(row.application_id):
            application = self.workflow.get(row.actor, row.application_id)
            if application.member_class != member_class:
                raise InvalidSubmissionError(
                    "the application is one of a {member_class}",
                    clause="CPS 4.1.2",
                    member_class=Term("class", application.member_class),
                )
            csr = read_request(body, member_class, pack)
            der = csr.public_bytes(Encoding.DER)
            digest = hashlib.sha256(der).hexdigest()
            if row.csr_sha256 is None:
                check_request(self.workflow, csr, self._subject(row, member_class))
            if self._store.bind(row, digest, self.workflow.now + pack.one_time_code.collect) != digest:
                raise Problem(
                    409, "other-request", Message("the code is good for another request"), clause="RFC 7030 4.2.3"
                )
            submission = Submission(row.subject, {"signing": der}, row.national_code)
            application = hand_in(
                self.workflow, self._store, row.actor, application, submission, after_revision=row.after_revision
            )
            answer = tell(self.workflow.desk, application, csr)
            if isinstance(answer, Given):
                self._store.given_out(row, self.workflow.now + pack.one_time_code.again)
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

    def _subject(self, row: Code, member_class: MemberClass) -> Subject:
        return read_subject(row.subject, None, member_class, self.workflow.pack, rng=self.workflow.desk.rng)[0]

    # RFC 7030 4.2.2

    def reenrol(self, member_class: MemberClass, certificate: x509.Certificate, body: bytes) -> Given | Waiting:
        """Hand in a request (DER) for the next certificate with the old one, or ask how it stands.

        Raises Problem, RaError, StatusError.
        """
        self.workflow.accept_by_use(certificate)
        holder = holder_of(self.workflow.desk, certificate)
        with self._lock(f"{certificate.serial_number:x}"):
            csr = read_request(body, member_class, self.workflow.pack)
            check_same(holder, csr, member_class)
            return tell(self.workflow.desk, self._renewals.hand_in(holder, csr), csr)

    def _lock(self, key: str) -> threading.Lock:
        return self._locks[hash(key) % _STRIPES]


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
