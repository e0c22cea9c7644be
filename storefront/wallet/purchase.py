"""A purchase from the buyer's side: invoice, consent, order, receipt.

The order is written down before it leaves (`storefront.wallet.records`): whatever happens afterwards, `resume` asks
again with the same bytes, and the shop answers a repeat as it did before.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final

import httpx
from cryptography import x509

from kwbp import inquiry
from kwbp import wallet as protocol
from kwbp.checks import CHECKS
from kwbp.codes import AuthCode, CompletionCode, ErrorCode, PurchaseStatus, SaleKind
from kwbp.common import Draft, instant
from kwbp.contract import DualLink, build_contract, message_of
from kwbp.error_message import read_error
from kwbp.errors import ProtocolError
from kwbp.parties import MerchantIdentity
from kwbp.password import OTPResTBS
from kwbp.receipt_ack import SentReceipt, build_receipt_ack
from kwbp.structure import encode
from kwbp.wrapper import KwbpMessage, unwrap, wrap
from pki import cms_signed
from pki.oids import CT_ERROR, CT_INQ_RES, CT_INVOICE, CT_RECEIPT, CT_RECEIPT_ACK, MT_INVOICE
from pki.path import Trust
from pki.roles import Role
from shetab.types import Cvv2, Pin
from storefront.errors import NoMessage, RefusedByShop, ShopUnreachable, WalletError
from storefront.exchange import post
from storefront.wallet.passwords import PasswordRequests
from storefront.wallet.records import FINAL, PurchaseFolder, PurchaseState, all_purchases
from storefront.wallet.shown import Contents, offered, require_as_shown, signed_by
from storefront.wallet.wallet import CardCredential

__all__ = [
    "BRAND",
    "Buyer",
    "Outcome",
    "PurchaseState",
    "RefusedByShop",
    "ShopUnreachable",
    "is_open",
    "purchases",
    "state_of",
]

BRAND: Final = "Shetab"

TrustNow = Callable[[datetime], Trust]

_OPEN: Final = frozenset(
    {
        ErrorCode.UNSPECIFIED_FAILURE,
        ErrorCode.UNKNOWN_OUTCOME,
        ErrorCode.ACK_TIMEOUT,
        ErrorCode.XID_ALREADY_USED,
        # The cause passes, and then another copy of the order, late on its way, is taken.
        ErrorCode.BCI_STALE,
        ErrorCode.RATE_LIMITED,
        ErrorCode.MESSAGE_TOO_NEW,
    }
)


@dataclass(frozen=True, slots=True)
class Outcome:
    """How a purchase stands; amount in rial. `word`: what the gateway says of one that is open."""

    xid: bytes
    state: PurchaseState
    amount: int
    receipt: protocol.CheckedReceipt | None = None
    refusal: ProtocolError | None = None
    word: PurchaseStatus | None = None


class Buyer:
    """One card shopping at one site.

    `origin` is where `shop` goes to, `https://host[:port]`: what the merchant's certificate must name (W5).
    """

    def __init__(
        self,
        card: CardCredential,
        shop: httpx.Client,
        *,
        origin: str,
        trust: TrustNow,
        folder: Path,
        clock: Callable[[], datetime] = lambda: datetime.now(UTC),
        rng: Callable[[int], bytes] = os.urandom,
    ) -> None:
        self._card = card
        self._shop = shop
        self._origin = origin
        self._trust = trust
        self._folder = folder
        self._clock = clock
        self._rng = rng
        self._judged_by: Trust | None = None  # the newest invoice
        self._passwords = PasswordRequests(card, shop, trust=trust, clock=clock, rng=rng)

    def request_invoice(
        self, basket: Sequence[tuple[str, int]], *, ship_to: str | None = None, language: str = "fa"
    ) -> protocol.CheckedInvoice:
        """Ask for the invoice (scenario C) and judge it (scenario E1).

        :param basket: (sku, quantity) of each line.
        :raises ProtocolError: the invoice is not as it must be. :raises RefusedByShop: :raises ShopUnreachable:
        """
        draft = protocol.build_invoice_request(
            rrpid=self._rng(20),
            chall_c=self._rng(32),
            brand_id=BRAND,
            bin_=self._card.bin,
            basket=basket,
            now=self._clock(),
            ship_to=ship_to,
            language=language,
        )
        sent = draft.message(self._sign(draft))
        answer = self._exchange("/kwbp/invoice-request", sent)
        now = self._clock()
        trust = self._trust(now)
        message = _read(answer, sent, MT_INVOICE, self._is_of_this_site, trust=trust, now=now)
        checked = protocol.check_invoice(message, request=draft.body, origin=self._origin, trust=trust, now=now)
        self._judged_by = trust
        return checked

    def request_password(self, checked: protocol.CheckedInvoice) -> OTPResTBS:
        """Have the card's bank send a one-time password for this invoice; see `PasswordRequests.request`."""
        return self._passwords.request(checked)

    def order(
        self,
        checked: protocol.CheckedInvoice,
        *,
        pin2: Pin | None,
        cvv2: Cvv2 | None,
        shown: Contents | None = None,
        hold: bool = False,
    ) -> Outcome:
        """Sign, write down and send the order (scenario E2 to E4): calling this is the buyer's consent.

        :param shown: what the buyer read; without it, what the invoice offers.
        :param hold: the money is only to be held: the shop collects it when it delivers.
        :raises NotAsShown: what would be signed is something else; nothing was signed.
        :raises ProtocolError: the receipt is not as it must be; the order stays as it was, and `resume` asks again.
        :raises ShopUnreachable: likewise. :raises WalletError: this invoice was ordered before.
        """
        draft = protocol.build_purchase(
            checked,
            self._card.in_hand(pin2, cvv2),
            rrpid=self._rng(20),
            now=self._clock(),
            rng=self._rng,
            sale_kind=SaleKind.AUTH_ONLY if hold else SaleKind.SALE,
        )
        contract = encode(checked.invoice)
        require_as_shown(
            shown or offered(checked.signed, checked.order_details, hold=hold),
            signed_by(draft.dual_signature.content, draft.oi_data, contract, checked.signed, checked.order_details),
        )
        signed = self._sign(draft.dual_signature)
        link = DualLink.of(draft.dual_signature.body)
        half = self._signed(CT_INVOICE, contract, further=link.attribute)
        folder = PurchaseFolder.create(
            self._folder,
            checked,
            draft,
            signed,
            build_contract(checked.signed, half),
            self._origin,
            judged_by=self._judged_by or self._trust(self._clock()),
        )
        return self._send(folder)

    def resume(self, xid: bytes) -> Outcome:
        """Send the stored order again and judge what comes back; if it stays open, ask where it stands (row 18).

        What a receipt has settled stays settled: an answer that says otherwise is raised, not kept.

        :raises WalletError: there is no such purchase, or it was made at another site. Otherwise as `order`.
        """
        folder = PurchaseFolder(self._folder / xid.hex())
        if folder.origin != self._origin:
            raise WalletError("this purchase was made at {origin}", origin=folder.origin)
        if folder.closed_by_the_gateway:
            return Outcome(folder.record.xid, folder.state, folder.record.amount.amount)
        try:
            outcome = self._send(folder)
        except ProtocolError:
            # The answer of then may be past judging (a certificate ran out, say); the gateway's word of now is not.
            closed = self._closed_since(folder)
            if closed is None:
                raise
            return closed
        return outcome if outcome.state is not PurchaseState.PENDING else self._inquire(folder, outcome)

    def _closed_since(self, folder: PurchaseFolder) -> Outcome | None:
        """How a purchase that was open has ended; None if that is not to be had."""
        if folder.state is not PurchaseState.PENDING:
            return None
        try:
            outcome = self._inquire(folder, Outcome(folder.record.xid, folder.state, folder.record.amount.amount))
        except (ProtocolError, ShopUnreachable):
            return None
        return outcome if outcome.state is not PurchaseState.PENDING else None

    def _inquire(self, folder: PurchaseFolder, outcome: Outcome) -> Outcome:
        """InqReq: an open purchase is closed by the gateway's word alone, which the merchant passes on."""
        record = folder.record
        draft = inquiry.build_inquiry(
            rrpid=self._rng(20),
            xid=record.xid,
            merchant_id=record.merchant_id,
            chall=self._rng(32),
            now=self._clock(),
        )
        signed = self._sign(draft)
        sent = draft.message(signed)
        answer = self._exchange("/kwbp/inquiry", sent)
        now = self._clock()
        trust = self._trust(now)

        def is_the_merchant(signer: MerchantIdentity) -> bool:
            return signer.merchant_id == record.merchant_id

        try:
            message = _read(answer, sent, CT_INQ_RES, is_the_merchant, trust=trust, now=now)
        except RefusedByShop as refusal:
            return replace(outcome, refusal=refusal.error)
        status = inquiry.check_merchant_status(
            message,
            sent=inquiry.SentInquiry.load(signed),
            gateway_id=record.gw_id,
            acquirer_bin=record.acquirer_bin,
            ordered_at=record.ordered_at,
            trust=trust,
            now=now,
        )
        after = closed_by(status)
        if after is None or status.gateway is None:
            return replace(outcome, word=status.gateway.status if status.gateway is not None else None)
        folder.closed(status, status.gateway, after, trust.crls)
        return Outcome(record.xid, after, record.amount.amount)

    def _send(self, folder: PurchaseFolder) -> Outcome:
        record, sent = folder.record, folder.order
        answer = self._exchange("/kwbp/purchase", sent)
        now = self._clock()
        trust = self._trust(now)

        def is_the_merchant(signer: MerchantIdentity) -> bool:
            return signer.cert_hash == record.mer_cert_hash

        try:
            message = _read(answer, sent, CT_RECEIPT, is_the_merchant, trust=trust, now=now)
        except RefusedByShop as refusal:
            if folder.state in FINAL:
                raise
            still_open = is_open(refusal.error) or folder.left_open_by_the_gateway
            folder.refused(refusal.signed, PurchaseState.PENDING if still_open else PurchaseState.REFUSED)
            return Outcome(record.xid, folder.state, record.amount.amount, refusal=refusal.error)
        receipt = protocol.check_receipt(message, purchase=record, trust=trust, now=now)
        state = state_of(receipt)
        if folder.state not in FINAL or (folder.state is state and not folder.has_receipt):
            folder.received(message.body, receipt, state, trust.crls)
        elif folder.state is not state:
            raise ProtocolError(ErrorCode.INVOICE_MISMATCH, "R6", "an earlier receipt of this purchase says otherwise")
        self._acknowledge(folder, message.body)
        self._hand_over(folder)
        return Outcome(record.xid, state, record.amount.amount, receipt=receipt)

    def _acknowledge(self, folder: PurchaseFolder, receipt: bytes) -> None:
        """ReceiptAck (row 17), the same bytes each time. Nothing hangs on it: what the merchant says to it changes
        nothing, and if it does not arrive, the next `resume` sends it again.
        """
        sent = SentReceipt.load(receipt, folder.record.merchant_id)
        signed = folder.acknowledgement(receipt)
        if signed is None:
            signed = self._sign(build_receipt_ack(sent, now=self._clock()))
            folder.acknowledge(signed)
        with suppress(NoMessage):
            post(self._shop, "/kwbp/receipt-ack", wrap(CT_RECEIPT_ACK, signed, rrpid=sent.rrpid, xid=sent.xid))

    def _hand_over(self, folder: PurchaseFolder) -> None:
        """The order with two signatures, for the merchant to keep. Like the acknowledgement, nothing hangs on it."""
        contract = folder.contract
        if contract is not None:
            with suppress(NoMessage):
                post(self._shop, "/kwbp/contract", message_of(contract))

    def _is_of_this_site(self, signer: MerchantIdentity) -> bool:
        return self._origin in signer.origins

    def _sign(self, draft: Draft[Any]) -> bytes:
        return self._signed(draft.content_type, draft.content)

    def _signed(
        self,
        content_type: x509.ObjectIdentifier,
        content: bytes,
        *,
        further: tuple[x509.ObjectIdentifier, bytes] | None = None,
    ) -> bytes:
        return cms_signed.sign(
            content_type,
            content,
            key=self._card.key,
            signer=self._card.certificate,
            chain=self._card.chain,
            signing_time=self._clock(),
            further=further,
        )

    def _exchange(self, path: str, message: bytes) -> bytes:
        try:
            return post(self._shop, path, message).message
        except NoMessage as error:
            raise ShopUnreachable(f"the shop did not answer ({error})") from None


def _read(
    answer: bytes,
    sent: bytes,
    expected: x509.ObjectIdentifier,
    is_the_shop: Callable[[MerchantIdentity], bool],
    *,
    trust: Trust,
    now: datetime,
) -> KwbpMessage:
    """The wrapper of an answer of the expected type; raises RefusedByShop for an Error that the shop signed.

    Two kinds of Error say nothing: a bare one, which anybody on the way could have made up, and one that another
    merchant signed. Taken for the shop's, either would end a purchase that goes on, and the buyer would pay twice.
    """
    message = unwrap(answer, expected=(expected, CT_ERROR))
    if message.msg_type != CT_ERROR:
        return message
    received = read_error(message, sent=sent, role=Role.MERCHANT, trust=trust, now=now)
    if received.signer is None:
        raise ShopUnreachable("the shop answered with an error that it did not sign")
    if not is_the_shop(MerchantIdentity.of(received.signer)):
        raise ShopUnreachable("the shop answered with an error that another merchant signed")
    body = received.body
    error = ProtocolError(
        body.error_code,
        body.clause if body.clause in CHECKS else "E1",
        "the shop refused the message",
        time_hint=instant(body.time_hint) if body.time_hint is not None else None,
    )
    raise RefusedByShop(error, message.body)


def is_open(error: ProtocolError) -> bool:
    """Whether a refusal of an order leaves the outcome open: money may have moved, or is on its way back."""
    return error.code in _OPEN


def state_of(receipt: protocol.CheckedReceipt) -> PurchaseState:
    """What a receipt says, in one word."""
    if receipt.paid:
        return PurchaseState.PAID
    another = receipt.auth_res.auth_code is AuthCode.PI_PREVIOUSLY_USED
    if another or receipt.receipt.completion_code is CompletionCode.ORDER_RECEIVED:
        return PurchaseState.PENDING
    return PurchaseState.DECLINED


def closed_by(status: inquiry.MerchantStatus) -> PurchaseState | None:
    """How a purchase that was open has ended, by the gateway's word; None if it is open still."""
    word = status.gateway
    if word is None or word.status not in (PurchaseStatus.REVERSED, PurchaseStatus.CONCLUDED):
        return None
    if word.status is PurchaseStatus.REVERSED:
        return PurchaseState.REVERSED
    approved = word.auth_res is not None and word.auth_res.auth_code is AuthCode.APPROVED
    return None if approved else PurchaseState.DECLINED


def purchases(folder: Path) -> list[Outcome]:
    """All purchases in a wallet's folder, as they are written down."""
    return [Outcome(each.record.xid, each.state, each.record.amount.amount) for each in all_purchases(folder)]
