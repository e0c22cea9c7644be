"""The PKCS#10 request of an EST client: read, compared with what it may ask for, handed in once.

There is no linking of a request to its TLS connection (RFC 7030 3.5): TLS 1.3 has no tls-unique (RFC 8446 C.5, RFC
9266), and a request that carries a challengePassword is refused, whatever is in it.
"""

from __future__ import annotations

from typing import Final

from cryptography import x509
from cryptography.x509.oid import AttributeOID

from cps.application import rule_of_csr_error
from cps.dossier import Subject
from cps.model import MemberClass, Pack
from pki.csr import parse_csr
from pki.errors import CsrError
from ra.access import Actor
from ra.errors import ConflictError, InvalidSubmissionError, WrongStateError
from ra.est_answer import handed_in_otherwise
from ra.est_store import EstStore
from ra.records import Application
from ra.request_contents import another_member_named, check_contents, names_in
from ra.states import ENDED_WITHOUT, State
from ra.submission import Submission, subject_id
from ra.workflow import Workflow
from runtime.language import Term

OVER: Final = ENDED_WITHOUT | {State.REVOKED}
"""States of a case in which nothing more is to be handed in."""


def by_est(member_class: MemberClass) -> None:
    """Raises InvalidSubmissionError for a class whose members cannot enrol by EST."""
    if member_class == "gateway":
        raise InvalidSubmissionError(
            "a gateway hands in two requests with attestations of their keys, and EST carries one request",
            clause="CPS 4.1.2",
        )


def read_request(body: bytes, member_class: MemberClass, pack: Pack) -> x509.CertificateSigningRequest:
    """The request (DER) with proof of possession; raises InvalidSubmissionError."""
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


def check_request(workflow: Workflow, csr: x509.CertificateSigningRequest, subject: Subject) -> None:
    """Raise InvalidSubmissionError if the workflow would not take this request of this subject.

    What a code or a certificate is kept for from then on can be handed in.
    """
    pack = workflow.pack
    check_contents(csr, subject, "signing", pack)
    if workflow.store.has_subject(names_in(csr) - {subject_id(subject)}):
        raise another_member_named(pack)


def hand_in(
    workflow: Workflow,
    store: EstStore,
    actor: Actor,
    application: Application,
    submission: Submission,
    *,
    after_revision: int,
) -> Application:
    """Submit or amend, unless this was done with this request."""
    if application.state in OVER or store.handed_in(
        application.id, submission.csrs["signing"], after_revision=after_revision
    ):
        return application
    if (application.revision or 0) != after_revision:
        raise handed_in_otherwise(application)
    try:
        if application.state is State.DRAFT:
            return workflow.submit(actor, application.id, submission, version=application.version)
        return workflow.amend(actor, application.id, submission, version=application.version)
    except (ConflictError, WrongStateError):  # somebody was faster, perhaps the same request in another process
        return workflow.get(actor, application.id)
