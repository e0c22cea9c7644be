"""The gateway's side of CapReq, CapRevReq, AuthRevReq, CredReq and CredRevReq: who asks, and is there room for it?

The steps, each with what it needs: `receive_request` (bytes), `check_requester` (the registry, H1), `is_repeated` (the
order book, H2 and H3: a repeat gets its answer and goes no further), `check_request` (keys and clock, H4 to H9).
Whoever has the result may move money, once: the book must have taken the request in before (`Standing.taken_in`), in
the transaction that read it.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime

from cryptography import x509

from kwbp.codes import ErrorCode
from kwbp.common import Received, check_live, read_signed, require, verify_signer
from kwbp.errors import ProtocolError
from kwbp.gateway.request import EnrolledMerchant
from kwbp.parties import GatewayIdentity, MerchantIdentity
from kwbp.settling.book import Capture, Credit, Standing
from kwbp.settling.forms import ANSWERS, REQUESTS
from kwbp.settling.messages import (
    CapReqTBS,
    CredReqTBS,
    SettlingReq,
)
from kwbp.settling.parties import is_repeat, require_gateway, require_requester
from kwbp.wrapper import KwbpMessage, check_header
from pki.path import Trust
from pki.roles import Role


@dataclass(frozen=True, slots=True)
class SettlingRequest:
    """A request of known structure (K1, K2, K4). Not verified. `answer_type` is the content type of its answer."""

    received: Received[SettlingReq]
    content_type: x509.ObjectIdentifier

    @property
    def body(self) -> SettlingReq:
        """What is asked for."""
        return self.received.body

    @property
    def digest(self) -> bytes:
        """hRequest: SHA-256 of the SignedData."""
        return self.received.digest

    @property
    def answer_type(self) -> x509.ObjectIdentifier:
        """Content type of the answer."""
        return ANSWERS[self.content_type]


@dataclass(frozen=True, slots=True)
class CheckedSettlingRequest(SettlingRequest):
    """A request that passed H4 to H9 against `standing`."""

    standing: Standing

    @property
    def followed(self) -> Standing | Capture | Credit | None:
        """What it follows: for the network, whose references the answer named."""
        return self.standing.followed(self.body)


def receive_request(message: KwbpMessage) -> SettlingRequest:
    """K1, K2 and K4 of a request of rows 19 to 21. No signature is looked at.

    :param message: from `unwrap(…, expected=REQUESTS)`; its RRPID must be fresh or a repeat (K3, H3).
    :raises ProtocolError: see `kwbp.checks`.
    """
    request = read_request(message.msg_type, message.body)
    check_header(message, message.msg_type, rrpid=request.body.rrpid, xid=request.body.xid)
    return request


def read_request(content_type: x509.ObjectIdentifier, signed: bytes) -> SettlingRequest:
    """As `receive_request`, from the SignedData alone: for a stored request, which has no wrapper any more.

    :raises ProtocolError: also messageNotSupported (K2) for a content type of another row.
    """
    structure = REQUESTS.get(content_type)
    if structure is None:
        raise ProtocolError(ErrorCode.MESSAGE_NOT_SUPPORTED, "K2", "message must be a request of rows 19 to 21")
    return SettlingRequest(read_signed(structure, content_type, signed), content_type)


def check_requester(request: SettlingRequest, merchant: EnrolledMerchant | None, *, tls_merchant_id: str) -> None:
    """H1. :param merchant: the registry's record of the merchant that the request names, None if there is none.

    :param tls_merchant_id: merchant id in the client certificate of the connection.
    :raises ProtocolError: roleNotAllowed.
    """
    require_requester(
        request.body.merchant_id, request.received.signer, merchant, tls_merchant_id=tls_merchant_id, check="H1"
    )


def is_repeated(request: SettlingRequest, standing: Standing | None) -> bool:
    """H2 and H3: the order is this merchant's; True for the same bytes again, whose answer is the one that they had.

    Somebody else's order looks like none: the answer must not tell which purchases there are.

    :param standing: the order of the XID, None if there is none.
    :raises ProtocolError: unknownXID (H2), badMessageHeader (H3).
    """
    return is_repeat(_own(request, standing).requests, request.body.rrpid, request.digest, check="H3")


def check_request(
    request: SettlingRequest, standing: Standing, *, gateway: GatewayIdentity, trust: Trust, now: datetime
) -> CheckedSettlingRequest:
    """K5 to K7, then H4 to H9, of a request that is no repeat (H2 and H3 are asked again).

    :param standing: the order as the book has it in this transaction.
    :raises ProtocolError: see `kwbp.checks`; unknownOutcome (H5) says: later.
    """
    body, received = request.body, request.received
    require(not is_repeated(request, standing), ErrorCode.BAD_MESSAGE_HEADER, "H3", "a repeat is answered, not judged")
    verify_signer(received, role=Role.MERCHANT, trust=trust, now=now)
    check_live(received, body.date, now=now)
    require(
        MerchantIdentity.of(received.signer).merchant_id == body.merchant_id,
        ErrorCode.ROLE_NOT_ALLOWED,
        "H4",
        "request must name its signer",
    )
    require_gateway(received.signer, body.gw_id, gateway, check="H4")
    check_against_book(body, standing)
    return CheckedSettlingRequest(received, request.content_type, standing)


def check_against_book(body: SettlingReq, standing: Standing) -> None:
    """H5 to H9, the part of `check_request` that is about money alone. It knows nothing of who asks.

    :raises ProtocolError: see `kwbp.checks`.
    """
    require(
        standing.open_rrpid is None,
        ErrorCode.UNKNOWN_OUTCOME,
        "H5",
        "outcome of an earlier request must be known first",
    )
    followed = standing.followed(body)
    require(
        followed is not None and standing.acknowledged,
        ErrorCode.HASH_MISMATCH,
        "H6",
        "request must follow an approval that was acknowledged and stands",
    )
    require(
        not isinstance(body, CapReqTBS) or body.cap_token == standing.cap_token,
        ErrorCode.HASH_MISMATCH,
        "H7",
        "capToken must be the one that came with the authorisation",
    )
    require(
        isinstance(body, CredReqTBS) or not (isinstance(followed, Capture | Credit) and followed.settled),
        ErrorCode.INVOICE_EXPIRED,
        "H8",
        "what is settled is not taken back, but credited",
    )
    require(
        (body.amount.currency, body.amount.exp) == (standing.approved.currency, standing.approved.exp)
        and body.amount.amount in standing.bounds(body),
        ErrorCode.AMOUNT_MISMATCH,
        "H9",
        "amount must be within what was authorised, captured or credited",
    )


def _own(request: SettlingRequest, standing: Standing | None) -> Standing:
    if standing is None or (standing.xid, standing.merchant_id) != (request.body.xid, request.body.merchant_id):
        raise ProtocolError(ErrorCode.UNKNOWN_XID, "H2", "XID must be of an order of this merchant")
    return standing
