"""Registration messages (`kwbp.registration`, rows 1 to 5) as a way into the workflow; row 6 goes on to `ra.holder`.

    message ─ K1, K2, K4 ─ known RRPID? ──────────── yes ─┐
                              │ no                         │
                     signature, proof of possession        │
                     challenge, keys (C3 to C6)            │
                              │                            │
                     open a draft, put it on record        │
                              └──────────────┬─────────────┘
                       as far as the draft is: ask the bank, evidence, submit
                                             │
                           how the application stands, signed

Everything that changes an application goes through `ra.workflow`, as the applicant who asks. A request is on record
before anything is done for it, and each step looks at what is there already: after a crash, or in a second process, the
same bytes go on where the first ones stopped, and never begin a second application.

Of a card the authority sees the BIN, a sealed object that it passes on to the card's bank, and the bank's confirmation.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any, Final

from cryptography import x509
from cryptography.hazmat.primitives import hashes

from cps.model import MemberClass
from kwbp.codes import ErrorCode, RegistrationStatus
from kwbp.error_message import build_error
from kwbp.errors import ProtocolError
from kwbp.registration import card, form, init, members
from kwbp.registration.answer import build_answer, seal_cert_response
from kwbp.registration.challenge import SECRET_SIZE, make_challenge
from kwbp.registration.sealing import read_key
from kwbp.wrapper import KwbpMessage, unwrap
from pki.der import sha256
from pki.oids import (
    CT_CERT_REQ,
    CT_CERT_RES,
    CT_GW_CERT_REQ,
    CT_GW_CERT_RES,
    CT_MER_CERT_REQ,
    CT_MER_CERT_RES,
    MT_CARD_INIT_REQ,
    MT_MER_INIT_REQ,
    MT_REG_FORM_REQ,
)
from pki.roles import role_of
from ra.access import REGISTRATION, Actor
from ra.errors import ConflictError, InvalidSubmissionError, WrongStateError
from ra.holder import KINDS as HOLDER_KINDS
from ra.holder import HolderDesk
from ra.issuer_banks import IssuerBanks
from ra.openers import is_nameless
from ra.rate_limit import RateLimits
from ra.records import Application
from ra.registration_cases import CardCase, Case, FinalRefusal, GatewayCase, MerchantCase, Passed
from ra.registration_status import CERTIFIED, status_of
from ra.registration_store import Registration, RegistrationStore
from ra.states import ENDED_WITHOUT, State
from ra.workflow import Workflow
from runtime.logging import get_logger
from runtime.secrets import read_secret, write_secret

BRAND: Final = "Shetab"
"""The brand that this authority serves."""
_REQUESTS: Final = (MT_CARD_INIT_REQ, MT_MER_INIT_REQ, MT_REG_FORM_REQ, CT_CERT_REQ, CT_MER_CERT_REQ, CT_GW_CERT_REQ)
_ASK_AGAIN: Final[dict[MemberClass, int]] = {"cardholder": 60, "merchant": 900, "gateway": 900}
"""Seconds until a pending applicant may ask again: a card waits for a machine, the others for people."""

_STRIPES: Final = 256
_log: Final = get_logger("ra.registration")


@dataclass(frozen=True, slots=True)
class Kind:
    """One kind of certificate request."""

    member_class: MemberClass
    answered_by: x509.ObjectIdentifier
    receive: Callable[[KwbpMessage], Any]
    case: type[Case]


KINDS: Final = {
    CT_CERT_REQ: Kind("cardholder", CT_CERT_RES, card.receive_cert_request, CardCase),
    CT_MER_CERT_REQ: Kind("merchant", CT_MER_CERT_RES, members.receive_merchant_request, MerchantCase),
    CT_GW_CERT_REQ: Kind("gateway", CT_GW_CERT_RES, members.receive_gateway_request, GatewayCase),
}


class RegistrationDesk:
    """Answers registration messages; safe for threads."""

    def __init__(
        self,
        workflow: Workflow,
        store: RegistrationStore,
        *,
        banks: IssuerBanks,
        limits: RateLimits,
        secret: bytes,
        brands: frozenset[str] = frozenset({BRAND}),
    ) -> None:
        """`secret` (32 bytes) is what challenges are made with; `limits.cards` how often a card may be certified,
        `limits.holders` how often a holder may ask."""
        self.workflow: Final = workflow
        self.store: Final = store
        self.banks: Final = banks
        self.limits: Final = limits
        self.secret: Final = secret
        self.holders: Final = HolderDesk(workflow, rate=limits.holders)
        self._brands = brands
        self._locks = tuple(threading.Lock() for _ in range(_STRIPES))

    def answer(self, actor: Actor, message: bytes) -> bytes:
        """KwbpMessage (DER) in, KwbpMessage out.

        Raises ProtocolError for what is refused before it is on record (`refusal` makes the answer), TooManyRequests,
        Problem if the bank, the CA or the token is away: then the same bytes may be sent again.
        """
        found = unwrap(message, expected=(*_REQUESTS, *HOLDER_KINDS))
        if found.msg_type in HOLDER_KINDS:
            return self.holders.answer(found, message)
        if is_nameless(actor.name):
            actor = REGISTRATION  # known by what is signed in the message, whatever the connection
        if found.msg_type in KINDS:
            return self._certify(actor, found, message)
        if found.msg_type == MT_REG_FORM_REQ:
            return self._form(found)
        return self._init(found)

    def refusal(self, error: ProtocolError, message: bytes) -> bytes:
        """The Error about a message; not signed, so that junk costs no private-key operation (threat 40)."""
        draft = build_error(error, refused=message, now=self.workflow.now)
        return draft.message(draft.content)

    # rows 1, 2 and the first half of 4

    def _init(self, message: KwbpMessage) -> bytes:
        now = self.workflow.now
        trust = self.workflow.trust(now)
        roots = [each.fingerprint(hashes.SHA256()) for each in trust.anchors]
        request = init.receive_init_request(message, brands=self._brands, roots=roots)
        issuer = next(each for each in trust.intermediates if role_of(each) is request.issuer_role)
        pack = self.workflow.pack
        draft = init.build_init_response(
            request,
            chall_ca=make_challenge(self.secret, members.MERCHANT_PURPOSE, request.body.chall_ee, now=now),
            issuer=issuer,
            cps=(pack.cps.id, pack.cps.version, pack.digest),
            now=now,
        )
        return draft.message(self.workflow.desk.sign(draft.content_type, draft.content))

    def _form(self, message: KwbpMessage) -> bytes:
        now = self.workflow.now
        request = form.receive_form_request(message)
        signed = self.banks.form(request.bin)
        if signed is None:
            raise ProtocolError(ErrorCode.MESSAGE_NOT_SUPPORTED, "C2", "BIN must be of a bank that confirms cards here")
        form.check_issuer_form(signed, bin_=request.bin, trust=self.workflow.trust(now), now=now)
        chall_ca = make_challenge(self.secret, card.purpose_of(request.bin), request.chall_ee, now=now)
        draft = form.build_form_response(request, issuer_form=signed, chall_ca=chall_ca, now=now)
        return draft.message(self.workflow.desk.sign(draft.content_type, draft.content))

    # rows 3, 4 and 5

    def _certify(self, actor: Actor, message: KwbpMessage, whole: bytes) -> bytes:
        kind = KINDS[message.msg_type]
        received = kind.receive(message)
        case = kind.case(self, received)
        with self._locks[message.rrpid[0]]:  # the same bytes twice at once: the second finds what the first did
            return self._go_on(actor, message, whole, kind, case)

    def _go_on(self, actor: Actor, message: KwbpMessage, whole: bytes, kind: Kind, case: Case) -> bytes:
        row = self._known(message)
        if row is None:
            row = self._take_in(actor, message, kind, case.check())
        if row.answer is not None:
            return row.answer
        application = self.workflow.get(actor, row.application_id)
        if application.state is State.DRAFT:
            try:
                application = self._submit(actor, application, case)
            except FinalRefusal as refused:
                return self._refuse(actor, application, row, refused, whole)
        return self._tell(kind, row, application, case)

    def _known(self, message: KwbpMessage) -> Registration | None:
        """K3: an RRPID is of one request, byte for byte."""
        row = self.store.find(message.rrpid.hex())
        if row is not None and row.digest != sha256(message.body).hex():
            raise ProtocolError(ErrorCode.BAD_MESSAGE_HEADER, "K3", "RRPID must be fresh")
        return row

    def _take_in(self, actor: Actor, message: KwbpMessage, kind: Kind, passed: Passed) -> Registration:
        self._check_keys(passed)
        application = self.workflow.open(actor, kind.member_class)
        one_time = None if passed.one_time_key is None else passed.one_time_key.hex()
        row = Registration(
            rrpid=message.rrpid.hex(),
            digest=passed.digest.hex(),
            signed=message.body,
            one_time_key=one_time,
            application_id=application.id,
            received_at=self.workflow.now,
        )
        if self.store.add(row):
            return row
        # Another process took the same request in at the same time, or another request with the one-time key.
        self.workflow.withdraw(actor, application.id, "the request was taken in twice")
        known = self._known(message)
        if known is None:
            raise _used_key()
        return known

    def _check_keys(self, passed: Passed) -> None:
        """C6: no key that somebody was certified for, no one-time key a second time."""
        known = self.workflow.store.known_keys(passed.keys, but="")
        if known.certified or known.denylisted:
            raise ProtocolError(ErrorCode.INVALID_CERTIFICATE, "C6", "key must not have been certified or reported")
        if passed.one_time_key is not None and self.store.knows_key(passed.one_time_key.hex()):
            raise _used_key()

    def _submit(self, actor: Actor, application: Application, case: Case) -> Application:
        """Bring a draft before the officers; nothing that is on file already is done again."""
        try:
            for new in case.evidence(application):
                application = self.workflow.add_evidence(actor, application.id, new)
            return self.workflow.submit(actor, application.id, case.submission(application))
        except InvalidSubmissionError as error:
            _log.info("not-submitted", application=application.id, clause=error.clause)
            raise FinalRefusal(ErrorCode.INVALID_CERTIFICATE, "C8", "subject must be as its class demands") from None
        except (ConflictError, WrongStateError):  # the same request, at the same time: it got there first
            return self.workflow.get(actor, application.id)

    def _refuse(
        self, actor: Actor, application: Application, row: Registration, refused: ProtocolError, whole: bytes
    ) -> bytes:
        """A refusal for good: signed, kept, and the draft is ended."""
        draft = build_error(refused, refused=whole, now=self.workflow.now)
        answer = draft.message(self.workflow.desk.sign(draft.content_type, draft.content))
        answer = self.store.answered(row.rrpid, answer)
        try:
            self.workflow.withdraw(actor, application.id, f"{refused.check}: {refused.detail}")
        except (ConflictError, WrongStateError):
            _log.info("not-withdrawn", application=application.id)
        return answer

    def _tell(self, kind: Kind, row: Registration, application: Application, case: Case) -> bytes:
        certified = application.state in CERTIFIED
        status = status_of(application.state)
        pending = status is RegistrationStatus.PENDING
        issued = self.workflow.store.certificates(application.id) if certified else []
        draft = build_answer(
            kind.answered_by,
            rrpid=bytes.fromhex(row.rrpid),
            chall_ee=case.chall_ee,
            digest=bytes.fromhex(row.digest),
            application=application.id,
            status=status,
            now=self.workflow.now,
            ask_again=_ASK_AGAIN[kind.member_class] if pending else None,
            nonce_cca=application.nonce_cca if certified else None,
            certificates={
                str(each.purpose): [x509.load_der_x509_certificate(der) for der in (each.der, *each.chain)]
                for each in issued
            },
        )
        signed = self.workflow.desk.sign(draft.content_type, draft.content)
        if case.answer_key is None:
            answer = draft.message(signed)
        else:
            key = read_key(case.answer_key, check="C5")
            answer = seal_cert_response(signed, key, rrpid=draft.rrpid, rng=self.workflow.desk.rng)
        last = certified or application.state in ENDED_WITHOUT
        return self.store.answered(row.rrpid, answer) if last else answer

    @property
    def now(self) -> datetime:
        return self.workflow.now


def challenge_secret(path: Path, *, rng: Callable[[int], bytes]) -> bytes:
    """What challenges are made with, from a file of mode 0600 with hexadecimal digits; made if there is none yet."""
    if not path.exists():
        write_secret(path, rng(SECRET_SIZE).hex().encode("ascii"))
    return bytes.fromhex(read_secret(path).reveal().decode("ascii"))


def _used_key() -> ProtocolError:
    return ProtocolError(ErrorCode.INVALID_CERTIFICATE, "C6", "one-time key must not have been used before")
