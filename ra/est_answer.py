"""How a case stands, for an EST client: a certificate, a time to come back, or why there will be none (RFC 7030 4.2.3).

| state                                   | answer                                                       |
| --------------------------------------- | ------------------------------------------------------------ |
| DRAFT, SCREENING, APPROVED, ISSUING     | 202: machines are at it                                      |
| VETTING, AWAITING_APPROVAL              | 202: people decide                                           |
| ON_HOLD, ISSUE_FAILED                   | 202: people look into it                                     |
| ISSUED, ACTIVE                          | 200, the certificate                                         |
| RETURNED                                | 409: what is wrong; another request may be handed in         |
| REJECTED                                | 403: why                                                     |
| WITHDRAWN, EXPIRED, REVOKED             | 410                                                          |
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding

from pki.der import sha256
from ra.desk import Desk
from ra.est_encoding import certs_only
from ra.records import Application
from ra.states import CERTIFIED, State
from runtime.language import Message, Term
from runtime.problems import Problem

_MACHINES: Final = 10  # seconds
_PEOPLE: Final = 900
_ASIDE: Final = 3600
_RETRY_AFTER: Final = {
    State.DRAFT: _MACHINES,
    State.SCREENING: _MACHINES,
    State.APPROVED: _MACHINES,
    State.ISSUING: _MACHINES,
    State.VETTING: _PEOPLE,
    State.AWAITING_APPROVAL: _PEOPLE,
    State.ON_HOLD: _ASIDE,
    State.ISSUE_FAILED: _ASIDE,
}
_NONE: Final = {
    State.RETURNED: (409, "returned", "CPS 4.2.2"),
    State.REJECTED: (403, "rejected", "CPS 4.2.2"),
    State.WITHDRAWN: (410, "withdrawn", "CPS 4.2"),
    State.EXPIRED: (410, "expired", "CPS 4.2.3"),
    State.REVOKED: (410, "revoked", "CPS 4.9"),
}


@dataclass(frozen=True, slots=True)
class Given:
    """The certificate: certs-only, DER."""

    message: bytes


@dataclass(frozen=True, slots=True)
class Waiting:
    """Come back after so many seconds."""

    application: Application
    retry_after: int

    @property
    def told(self) -> Message:
        """Why, for people."""
        return Message(
            "application {application} is {state}: send the same request again later",
            application=self.application.id,
            state=Term("state", self.application.state),
        )


def tell(desk: Desk, application: Application, csr: x509.CertificateSigningRequest) -> Given | Waiting:
    """How the case stands for whoever handed in this request; raises Problem if it will lead to no certificate."""
    state = application.state
    if state in CERTIFIED or state in _RETRY_AFTER:
        revision, digest = desk.store.revision(application), sha256(csr.public_bytes(Encoding.DER))
        if revision is not None and all(each.sha256 != digest for each in revision.csrs):
            raise handed_in_otherwise(application)
    if state in CERTIFIED:
        issued = {each.purpose: each.der for each in desk.store.certificates(application.id)}
        return Given(certs_only([x509.load_der_x509_certificate(issued["signing"])]))
    if state in _RETRY_AFTER:
        return Waiting(application, _RETRY_AFTER[state])
    status, slug, clause = _NONE[state]
    said = Message("application {application} is {state}", application=application.id, state=Term("state", state))
    if application.trouble is not None:
        said = Message("{said}: {why}", said=said, why=application.trouble)
    raise Problem(status, slug, said, clause=clause)


def handed_in_otherwise(application: Application) -> Problem:
    """The refusal of a request for a case that somebody handed in with another one."""
    return Problem(
        409,
        "other-request",
        Message("application {application} was handed in with another request", application=application.id),
        clause="RFC 7030 4.2.3",
    )
