"""What a certificate's holder asks (`kwbp.holder`, row 6), as a way into the workflow.

    message ─ K1, K2, K4 ─ known RRPID? ───────────────── yes ─┐
                              │ no                             │
              signature, path, time (K5 to K7)                 │
              own certificate, key, order (X1, X2, X7)         │
              budget (X9)                                      │
                              │                                │
                     put it on record ──────────┬──────────────┘
                                                │
        CertInqReq                       RevReq                  RenewReq
            │               not revoked: order to the workflow   re-key of CPS 4.7
            └─────────── how it stands ─────────┘                how the application stands

Everything that changes a certificate or an application goes through `ra.workflow`. A request is on record before
anything is done for it, and each step looks at what is there already: after a crash, or in a second process, the same
bytes go on where the first ones stopped. What the statement does not let a holder have is refused at X8, signed and
kept. How a certificate stands is asked of the certification authority: if it is away, nobody is told anything.
"""

from __future__ import annotations

import threading
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final

from cryptography import x509

from cps.decision import parse_revocation
from cps.errors import StatementError
from kwbp.codes import CertificateStatus, ErrorCode, RevocationReason
from kwbp.common import read_signed
from kwbp.error_message import build_error
from kwbp.errors import ProtocolError
from kwbp.holder import (
    CertInqReqTBS,
    CheckedHolderRequest,
    RenewReqTBS,
    RevReqTBS,
    build_renewal_answer,
    build_status_answer,
    check_holder_request,
    own_order,
    renewed_key,
    require_holder,
)
from kwbp.wrapper import KwbpMessage
from pki.der import sha256
from pki.extensions import authority_key_id, extensions_of
from pki.oids import CT_CERT_INQ_REQ, CT_RENEW_REQ, CT_REV_REQ
from pki.roles import role_of
from ra.authority import is_refusal
from ra.errors import InvalidSubmissionError, NotAllowedError, RefusedError
from ra.est_renewal import Renewals
from ra.est_requests import read_request
from ra.est_store import EstStore
from ra.holder_store import HolderRequest, HolderStore
from ra.holding import Holder, holder_of
from ra.rate_limit import TooManyRequests
from ra.records import Application, Certificate
from ra.registration_status import CERTIFIED, status_of
from ra.states import ENDED_WITHOUT, State
from ra.workflow import Workflow
from runtime.logging import get_logger
from runtime.problems import Problem
from runtime.token_bucket import NONE, Rate

KINDS: Final[dict[x509.ObjectIdentifier, type[CertInqReqTBS] | type[RevReqTBS] | type[RenewReqTBS]]] = {
    CT_CERT_INQ_REQ: CertInqReqTBS,
    CT_REV_REQ: RevReqTBS,
    CT_RENEW_REQ: RenewReqTBS,
}
_STRIPES: Final = 256
_STANDING: Final = {
    "good": CertificateStatus.GOOD,
    "held": CertificateStatus.SUSPENDED,
    "revoked": CertificateStatus.REVOKED,
}
_log: Final = get_logger("ra.holder")


class _FinalRefusal(ProtocolError):
    """A refusal that the same request will get again: it is signed and kept."""


@dataclass(frozen=True, slots=True)
class _Asked:
    """A request and the certificate that it is about, with its case."""

    request: CheckedHolderRequest[Any]
    issued: Certificate
    holder: Holder

    @property
    def certificate(self) -> x509.Certificate:
        return self.holder.certificate


@dataclass(frozen=True, slots=True)
class _Standing:
    """How a certificate stands: since when and why it is on the list, if it is."""

    status: CertificateStatus
    since: datetime | None = None
    reason: RevocationReason | None = None


class HolderDesk:
    """Answers holders' requests; safe for threads."""

    def __init__(self, workflow: Workflow, *, rate: Rate) -> None:
        """`rate`: how often a holder may ask for one kind of thing."""
        self.workflow: Final = workflow
        self.store: Final = HolderStore(workflow.store.engine)
        self._renewals: Final = Renewals(workflow, EstStore(workflow.store.engine), proven_in="RenewReq")
        self._rate = rate
        self._locks = tuple(threading.Lock() for _ in range(_STRIPES))

    def answer(self, message: KwbpMessage, whole: bytes) -> bytes:
        """An unwrapped message of `KINDS` and its bytes in, KwbpMessage out.

        Raises ProtocolError for what is refused before it is on record, TooManyRequests, Problem if the CA or the token
        is away: then the same bytes may be sent again.
        """
        with self._locks[message.rrpid[0]]:  # the same bytes twice at once: the second finds what the first did
            row = self._known(message)
            if row is None:
                row, asked = self._take_in(message)
            else:
                asked = self._asked_again(row)
            if row.answer is not None:
                return row.answer
            try:
                return self._do(row, asked)
            except _FinalRefusal as refused:
                return self._refuse(row, refused, whole)

    # taking in

    def _known(self, message: KwbpMessage) -> HolderRequest | None:
        """K3: an RRPID is of one request, byte for byte."""
        row = self.store.find(message.rrpid.hex())
        if row is not None and row.digest != sha256(message.body).hex():
            raise ProtocolError(ErrorCode.BAD_MESSAGE_HEADER, "K3", "RRPID must be fresh")
        return row

    def _take_in(self, message: KwbpMessage) -> tuple[HolderRequest, _Asked]:
        now = self.workflow.now
        kind = KINDS[message.msg_type]
        request: CheckedHolderRequest[Any] = check_holder_request(
            message, kind, trust=self.workflow.trust(now), now=now
        )
        asked = self._about(request)
        require_holder(request, asked.certificate)
        if kind is RevReqTBS:
            self._check_order(asked)
        if kind is RenewReqTBS:
            self._check_key(renewed_key(request, asked.certificate))
        name = message.msg_type.dotted_string.encode() + request.received.signer.subject.public_bytes()
        wait = self.store.count(sha256(name).hex(), self._rate, now)
        if wait > NONE:
            raise TooManyRequests(wait, "X9")
        row = HolderRequest(
            rrpid=message.rrpid.hex(),
            digest=request.received.digest.hex(),
            kind=message.msg_type.dotted_string,
            signed=message.body,
            application_id=None,
            received_at=now,
        )
        if not self.store.add(row):  # another process took it in at the same time
            row = self._known(message) or row
        return row, asked

    def _asked_again(self, row: HolderRequest) -> _Asked:
        """A request as it was judged when it came in: it may be older than the window now."""
        content_type = x509.ObjectIdentifier(row.kind)
        received = read_signed(KINDS[content_type], content_type, row.signed)
        return self._about(CheckedHolderRequest(received, role_of(received.signer)))

    def _about(self, request: CheckedHolderRequest[Any]) -> _Asked:
        """The certificate of a request; roleNotAllowed (X1) as for another's if there is no such certificate."""
        store, body = self.workflow.store, request.body
        for issued in store.certificates_with_serial(f"{body.serial:x}"):
            if sha256(issued.der) == body.cert_hash:
                certificate = x509.load_der_x509_certificate(issued.der)
                holder = Holder(certificate, issued.purpose, store.application(issued.application_id))
                return _Asked(request, issued, holder)
        raise ProtocolError(ErrorCode.ROLE_NOT_ALLOWED, "X1", "request must be about a certificate of its signer")

    def _check_order(self, asked: _Asked) -> None:
        """X7: what the order says is what the request says."""
        body: RevReqTBS = asked.request.body
        content = own_order(asked.request, asked.certificate)
        try:
            order = parse_revocation(content)
        except StatementError:
            raise ProtocolError(ErrorCode.DECODING_FAILURE, "X7", "order must be RevocationTBS in DER") from None
        said = (order.issuer_key_id, order.serial, order.reason)
        key_id = authority_key_id(extensions_of(asked.certificate))
        if said != (key_id, body.serial, body.reason.protocol_name):
            raise ProtocolError(ErrorCode.HASH_MISMATCH, "X7", "order must say what the request says")

    def _check_key(self, key: bytes) -> None:
        """X2: no key that somebody was certified for."""
        known = self.workflow.store.known_keys([key], but="")
        if known.certified or known.denylisted:
            raise ProtocolError(ErrorCode.INVALID_CERTIFICATE, "X2", "key must not have been certified or reported")

    # doing

    def _do(self, row: HolderRequest, asked: _Asked) -> bytes:
        body = asked.request.body
        if isinstance(body, RenewReqTBS):
            return self._renew(row, asked)
        standing = self._standing(asked)
        if isinstance(body, RevReqTBS) and not _is_done(standing, body.reason):
            standing = self._order(asked)
        draft = build_status_answer(
            asked.request,
            status=standing.status,
            since=standing.since,
            reason=standing.reason,
            now=self.workflow.now,
        )
        answer = draft.message(self.workflow.desk.sign(draft.content_type, draft.content))
        return self.store.answered(row.rrpid, answer)

    def _standing(self, asked: _Asked) -> _Standing:
        """How the certificate stands by the CA's word; by what it said before if it is away. Raises Problem."""
        issued = asked.issued
        try:
            found = self.workflow.authority.look_up(issued.issuer, issued.serial)
        except Problem:
            record = self.workflow.store.revocation(issued.issuer, issued.serial)
            if record is None:
                raise
            return _Standing(CertificateStatus.REVOKED, record.at, RevocationReason.named(record.reason))
        status = _STANDING[found.status]
        if status is CertificateStatus.GOOD or found.revocation is None:
            over = asked.certificate.not_valid_after_utc < self.workflow.now
            return _Standing(CertificateStatus.EXPIRED if over else CertificateStatus.GOOD)
        return _Standing(status, found.revocation.revoked_at, RevocationReason.named(found.revocation.reason))

    def _order(self, asked: _Asked) -> _Standing:
        """Have the certificate revoked or suspended by its holder's order."""
        body: RevReqTBS = asked.request.body
        try:
            self.workflow.revoke_own(asked.holder.actor, body.order)
        except RefusedError as refused:
            raise _forbidden(refused.clause) from None
        except Problem as problem:
            if not is_refusal(problem):
                raise
            standing = self._standing(asked)  # perhaps somebody else's order was there first
            if not _is_done(standing, body.reason):
                raise _forbidden(problem.clause) from None
            return standing
        return self._standing(asked)

    def _renew(self, row: HolderRequest, asked: _Asked) -> bytes:
        application = self._application(row, asked)
        status = status_of(application.state)
        chain: list[bytes] = []
        if application.state in CERTIFIED:
            issued = next(
                each for each in self.workflow.store.certificates(application.id) if each.purpose == "signing"
            )
            chain = [issued.der, *issued.chain]
        draft = build_renewal_answer(
            asked.request, application=application.id, status=status, now=self.workflow.now, chain=chain
        )
        answer = draft.message(self.workflow.desk.sign(draft.content_type, draft.content))
        last = bool(chain) or application.state in ENDED_WITHOUT
        return self.store.answered(row.rrpid, answer) if last else answer

    def _application(self, row: HolderRequest, asked: _Asked) -> Application:
        """The re-key that the request is in; opened and handed in if it is not yet."""
        if row.application_id is not None:
            application = self.workflow.get(asked.holder.actor, row.application_id)
            if application.state is not State.DRAFT:
                self._of_this_request(asked, application)
                return application
        member_class = asked.holder.application.member_class
        if member_class == "gateway":
            raise _forbidden("CPS 4.7: a gateway's keys are renewed together, with their attestations")
        try:
            holder = holder_of(self.workflow.desk, asked.certificate)
            if holder.purpose != "signing":
                raise _forbidden("CPS 4.7")
            csr = read_request(asked.request.body.request, member_class, self.workflow.pack)
            application = self._renewals.hand_in(holder, csr)
        except (InvalidSubmissionError, NotAllowedError, RefusedError) as refused:
            self._withdraw(asked)
            raise _forbidden(refused.clause) from None
        except Problem as problem:
            if problem.type != "other-request":
                raise
            raise _forbidden(problem.clause) from None
        self.store.belongs(row.rrpid, application.id)
        self._of_this_request(asked, application)
        return application

    def _of_this_request(self, asked: _Asked, application: Application) -> None:
        """Refuse a request whose application was handed in anew with another one."""
        revision = self.workflow.store.revision(application)
        digest = sha256(asked.request.body.request)
        if revision is not None and all(each.sha256 != digest for each in revision.csrs):
            raise _forbidden("RFC 7030 4.2.3")

    def _withdraw(self, asked: _Asked) -> None:
        """End the draft of a request that cannot be handed in, so that another one can be."""
        digest = sha256(asked.request.body.request).hex()
        renewal = self._renewals.of(asked.certificate)
        if renewal is None or renewal.csr_sha256 != digest:
            return
        application = self.workflow.get(asked.holder.actor, renewal.application_id)
        if application.state is State.DRAFT:
            self.workflow.withdraw(asked.holder.actor, application.id, "X8: the request cannot be handed in")

    def _refuse(self, row: HolderRequest, refused: ProtocolError, whole: bytes) -> bytes:
        """A refusal for good: signed and kept."""
        _log.info("refused", rrpid=row.rrpid, check=refused.check, detail=refused.detail)
        draft = build_error(refused, refused=whole, now=self.workflow.now)
        return self.store.answered(row.rrpid, draft.message(self.workflow.desk.sign(draft.content_type, draft.content)))


def _is_done(standing: _Standing, reason: RevocationReason) -> bool:
    """Whether nothing is left to be ordered: it is revoked or over, or suspended and this is what is asked."""
    if standing.status is CertificateStatus.SUSPENDED:
        return reason is RevocationReason.CERTIFICATE_HOLD
    return standing.status is not CertificateStatus.GOOD


def _forbidden(clause: str | None) -> _FinalRefusal:
    return _FinalRefusal(ErrorCode.ROLE_NOT_ALLOWED, "X8", f"statement must let the holder have it ({clause})")
