"""The three kinds of certificate request, each as the workflow takes it: evidence, subject, requests."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Collection, Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final, cast

from cps.card_confirmation import CardConfirmation, parse_card_confirmation
from cps.model import Purpose
from cps.signatory import statement_of_service
from kwbp.codes import ErrorCode
from kwbp.common import Received
from kwbp.error_message import read_error
from kwbp.errors import ProtocolError
from kwbp.registration import card, members
from kwbp.registration.issuer import build_card_request
from kwbp.registration.messages import GwCertReqTBS, MerCertReqTBS
from kwbp.registration.sealing import read_key
from kwbp.registration.signers import requested_keys
from kwbp.wrapper import unwrap
from pki.der import sha256
from pki.errors import PkiError
from pki.extensions import extensions_of, subject_key_id
from pki.oids import CT_CARD_CONFIRMATION, CT_ERROR
from pki.roles import Role, role_of
from ra.rate_limit import TooManyRequests
from ra.records import Application
from ra.submission import Submission
from ra.workflow import NewEvidence
from runtime.logging import get_logger
from runtime.problems import Problem
from runtime.token_bucket import NONE

if TYPE_CHECKING:
    from ra.registration import RegistrationDesk

BANK: Final = "issuer_bank_confirmation"
ATTESTATION: Final = "key_attestation"
_FINAL: Final = {
    ErrorCode.UNSPECIFIED_FAILURE: "card's bank does not confirm the card",
    ErrorCode.DECODING_FAILURE: "card data must open at the card's bank",
    ErrorCode.ENVELOPE_MISMATCH: "card data must be sealed to the key of the bank's form",
}
"""What a bank says that asking again would not change."""

_log: Final = get_logger("ra.registration")


class FinalRefusal(ProtocolError):
    """A refusal that the same request will get again: it is signed and kept, and its draft ends."""


@dataclass(frozen=True, slots=True)
class Passed:
    """A request that passed its checks: what it is, and the keys in it (SHA-256 of SubjectPublicKeyInfo)."""

    digest: bytes
    keys: Collection[bytes]
    one_time_key: bytes | None = None


class Case(ABC):
    """A received request. `check` judges it when it comes for the first time; the rest reads what was judged then."""

    answer_key: bytes | None = None
    """The key that the answer is sealed to (DER SubjectPublicKeyInfo); None for an answer in clear."""

    def __init__(self, desk: RegistrationDesk, received: Any) -> None:
        self.desk = desk
        self.received = received

    @property
    @abstractmethod
    def chall_ee(self) -> bytes:
        """The applicant's challenge."""

    @abstractmethod
    def check(self) -> Passed:
        """Signature, proof of possession, challenge, time; raises ProtocolError."""

    @abstractmethod
    def evidence(self, application: Application) -> Iterator[NewEvidence]:
        """What goes on file and is not there yet; raises FinalRefusal, Problem."""

    @abstractmethod
    def submission(self, application: Application) -> Submission:
        """What is submitted, once the evidence is on file."""

    def on_file(self, application: Application) -> dict[bytes, str]:
        """Evidence that is there: kind by SHA-256."""
        return {each.sha256: each.kind for each in self.desk.workflow.store.evidence(application.id)}


class CardCase(Case):
    """CertReq: the card's bank is asked, and its confirmation is the evidence."""

    received: card.ReceivedCertReq

    @property
    def chall_ee(self) -> bytes:
        return self.received.received.body.chall_ee

    @property
    def answer_key(self) -> bytes:  # type: ignore[override]  # a property where others have a constant
        return self.received.received.body.answer_key

    def check(self) -> Passed:
        checked = card.check_cert_request(self.received, secret=self.desk.secret, now=self.desk.now)
        return Passed(checked.digest, [checked.spki_sha256], checked.answer_key_sha256)

    def evidence(self, application: Application) -> Iterator[NewEvidence]:
        if BANK in self.on_file(application).values():
            return
        confirmation = self._ask(application)
        found = self._read(confirmation)
        if found.card_ref is not None:
            wait = self.desk.store.count_card(found.card_ref, self.desk.limits.cards, self.desk.now)
            if wait > NONE:
                raise TooManyRequests(wait)
        yield NewEvidence(kind=BANK, body=confirmation, source=f"issuer-{found.bin}")

    def submission(self, application: Application) -> Submission:
        body = self.received.received.body
        store = self.desk.workflow.store
        digest = next(sha256_ for sha256_, kind in self.on_file(application).items() if kind == BANK)
        try:
            confirmation = self._read(store.evidence_body(application.id, digest))
        except (ProtocolError, PkiError):  # the bank is not believed any more
            raise FinalRefusal(ErrorCode.UNSPECIFIED_FAILURE, "C9", "card's bank must be believed") from None
        subject = {"commitment": confirmation.commitment, "bin": confirmation.bin}
        return Submission(subject=subject, csrs={"signing": body.request})

    def _ask(self, application: Application) -> bytes:
        """The bank's confirmation (SignedData, DER)."""
        desk, body = self.desk, self.received.received.body
        now = desk.now
        trust = desk.workflow.trust(now)
        issuer = next(each for each in trust.intermediates if role_of(each) is Role.CARDHOLDER_CA)
        key_id = subject_key_id(extensions_of(issuer))
        assert key_id is not None  # every CA of ours has a subjectKeyIdentifier
        assert application.nonce_cca is not None  # every draft of a card has one
        draft = build_card_request(self._judged(), nonce_cca=application.nonce_cca, ca_key_id=key_id, now=now)
        asked = draft.message(desk.workflow.desk.sign(draft.content_type, draft.content))
        told, retry_after = desk.banks.confirm(body.bin, asked)
        try:
            answer = unwrap(told, expected=[CT_CARD_CONFIRMATION, CT_ERROR])
            if answer.msg_type == CT_CARD_CONFIRMATION:
                self._read(answer.body)
                return answer.body
            refused = read_error(answer, sent=asked, role=Role.SERVICE, trust=trust, now=now).body
        except (ProtocolError, PkiError) as error:
            _log.warning("bank-unreadable", application=application.id, error=str(error))
            raise Problem(502, "bank-unreadable", "the card's bank does not answer as it should") from None
        if refused.error_code is ErrorCode.RATE_LIMITED:
            raise TooManyRequests.after(retry_after or 1)
        if refused.error_code in _FINAL:
            raise FinalRefusal(refused.error_code, "C9", _FINAL[refused.error_code])
        _log.warning("bank-refused", application=application.id, code=refused.error_code.name, check=refused.clause)
        raise Problem(502, "bank-refused", "the card's bank does not take this authority's request")

    def _judged(self) -> card.CheckedCertReq:
        """The request as it was judged when it came in: it may be older than the window now."""
        received = self.received.received
        key = requested_keys({card.SIGNING: received.body.request}, check="C4")[card.SIGNING]
        return card.CheckedCertReq(
            body=received.body,
            signed=received.signed.der,
            digest=received.digest,
            spki_sha256=key,
            answer_key=read_key(received.body.answer_key, check="C5"),
            answer_key_sha256=sha256(received.body.answer_key),
        )

    def _read(self, confirmation: bytes) -> CardConfirmation:
        """The confirmation, if the bank of this card signed it about this key. `cps.decide` will judge it again."""
        desk, body = self.desk, self.received.received.body
        now = desk.now
        uri = desk.workflow.pack.signers.card_confirmation.format(bin=body.bin[:6])
        signed = statement_of_service(confirmation, CT_CARD_CONFIRMATION, uri, trust=desk.workflow.trust(now), now=now)
        found = parse_card_confirmation(signed.content)
        keys = requested_keys({card.SIGNING: body.request}, check="C4")
        if (found.bin, found.spki_sha256) != (body.bin[:6], keys[card.SIGNING]):
            raise ProtocolError(ErrorCode.HASH_MISMATCH, "C9", "confirmation must be about this card and key")
        return found


class MerchantCase(Case):
    """MerCertReq: its documents are for officers to collect."""

    received: Received[MerCertReqTBS]

    @property
    def chall_ee(self) -> bytes:
        return self.received.body.chall_ee

    def check(self) -> Passed:
        checked = members.check_merchant_request(self.received, secret=self.desk.secret, now=self.desk.now)
        return Passed(checked.digest, tuple(checked.keys.values()))

    def evidence(self, application: Application) -> Iterator[NewEvidence]:
        yield from ()

    def submission(self, application: Application) -> Submission:
        body = self.received.body
        subject: dict[str, Any] = {
            "merchant_id": body.merchant_id,
            "name": body.name,
            "organisation": body.organisation,
            "acquirer_bin": body.acquirer_bin,
            "online": body.online,
            "iban": body.iban,
            "hosts": tuple(body.hosts),
        }
        if body.origin is not None:
            subject["origin"] = body.origin
        return Submission(subject=subject, csrs=_csrs(body), national_code=body.national_code)


class GatewayCase(Case):
    """GwCertReq: the token service's attestations come with it."""

    received: Received[GwCertReqTBS]

    @property
    def chall_ee(self) -> bytes:
        return self.received.body.chall_ee

    def check(self) -> Passed:
        now = self.desk.now
        checked = members.check_gateway_request(self.received, trust=self.desk.workflow.trust(now), now=now)
        return Passed(checked.digest, tuple(checked.keys.values()))

    def evidence(self, application: Application) -> Iterator[NewEvidence]:
        there = self.on_file(application)
        for attestation in self.received.body.attestations:
            if sha256(attestation) not in there:
                yield NewEvidence(kind=ATTESTATION, body=attestation, source="service:hsm")

    def submission(self, application: Application) -> Submission:
        body = self.received.body
        subject = {
            "gateway_id": body.gateway_id,
            "name": body.name,
            "organisation": body.organisation,
            "acquirer_bin": body.acquirer_bin,
            "hosts": tuple(body.hosts),
            "suites": tuple(body.suites),
        }
        return Submission(subject=subject, csrs=_csrs(body))


def _csrs(body: MerCertReqTBS | GwCertReqTBS) -> dict[Purpose, bytes]:
    return {cast(Purpose, each.purpose): each.request for each in body.requests}
