"""A purchase from the buyer's side: invoice, consent, order, receipt, with everything kept that proves it.

    purchases/<xid>/
      purchase.json           state and the facts that the receipt is judged by; nothing of the card
      invoice.p7s             as the merchant signed it
      order-details.der  oi-data.der  dual-signature.p7s  pi-envelope.p7m  gateway-encryption.cer
      order.kwbp              the message as it is sent, the same bytes each time
      receipt.p7s  auth-res.p7s
      crls/                   the lists by which the receipt was judged

The folder is written before the order leaves: whatever happens afterwards, `resume` asks again with the same bytes.
"""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from enum import StrEnum
from pathlib import Path
from typing import Any, Final

import httpx
from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding

from kwbp import wallet as protocol
from kwbp.codes import CompletionCode, ErrorCode
from kwbp.common import Draft
from kwbp.error_message import read_error
from kwbp.errors import ProtocolError
from kwbp.money import Money
from kwbp.wrapper import MEDIA_TYPE, KwbpMessage, unwrap
from pki import cms_signed
from pki.der import sha256
from pki.oids import CT_ERROR, CT_RECEIPT, MT_INVOICE
from pki.path import Trust
from pki.roles import Role
from shetab.types import Cvv2, Pin
from storefront.errors import WalletError
from storefront.files import write_whole
from storefront.wallet.wallet import CardCredential

BRAND: Final = "Shetab"
_RECORD: Final = "purchase.json"
_ORDER: Final = "order.kwbp"

TrustNow = Callable[[datetime], Trust]


class PurchaseState(StrEnum):
    """What the buyer knows of a purchase."""

    SIGNED = "SIGNED"
    """Signed and stored; it may have left."""
    PAID = "PAID"
    DECLINED = "DECLINED"
    REFUSED = "REFUSED"
    """The merchant refused the order, signed; no money moved."""
    PENDING = "PENDING"
    """The outcome is open; ask again."""


class ShopUnreachable(Exception):
    """The shop did not answer."""


class RefusedByShop(Exception):
    """The shop answered with an Error message."""

    def __init__(self, error: ProtocolError) -> None:
        super().__init__(str(error))
        self.error = error


@dataclass(frozen=True, slots=True)
class Outcome:
    """How a purchase stands."""

    xid: bytes
    state: PurchaseState
    amount: int
    receipt: protocol.CheckedReceipt | None = None
    refusal: ProtocolError | None = None


class Buyer:
    """One card shopping at one site."""

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
        message = self._read(answer, sent, MT_INVOICE, trust=trust, now=now)
        return protocol.check_invoice(message, request=draft.body, origin=self._origin, trust=trust, now=now)

    def order(self, checked: protocol.CheckedInvoice, *, pin2: Pin | None, cvv2: Cvv2 | None) -> Outcome:
        """Sign and send the order (scenario E2 to E4): calling this is the buyer's consent.

        :raises ProtocolError: the receipt is not as it must be; the order stays SIGNED.
        :raises ShopUnreachable: likewise.
        """
        draft = protocol.build_purchase(
            checked, self._card.in_hand(pin2, cvv2), rrpid=self._rng(20), now=self._clock(), rng=self._rng
        )
        signed = self._sign(draft.dual_signature)
        folder = self._folder / checked.invoice.xid.hex()
        folder.mkdir(mode=0o700, parents=True)
        write_whole(folder / "invoice.p7s", checked.signed)
        write_whole(folder / "order-details.der", checked.order_details)
        write_whole(folder / "oi-data.der", draft.oi_data)
        write_whole(folder / "dual-signature.p7s", signed)
        write_whole(folder / "pi-envelope.p7m", draft.pi_envelope)
        gateway = checked.gateway.certificate.public_bytes(Encoding.DER)
        write_whole(folder / "gateway-encryption.cer", gateway)
        write_whole(folder / _ORDER, draft.message(signed))
        _write_record(folder, draft.record(signed), PurchaseState.SIGNED, self._origin)
        return self.resume(checked.invoice.xid)

    def resume(self, xid: bytes) -> Outcome:
        """Send the stored order, again if need be, and judge what comes back: the shop answers a repeat as before."""
        folder = self._folder / xid.hex()
        record, state, origin = _read_record(folder)
        if origin != self._origin:
            raise WalletError(f"this purchase was made at {origin}")
        sent = (folder / _ORDER).read_bytes()
        answer = self._exchange("/kwbp/purchase", sent)
        now = self._clock()
        trust = self._trust(now)
        try:
            message = self._read(answer, sent, CT_RECEIPT, trust=trust, now=now)
        except RefusedByShop as refusal:
            state = PurchaseState.PENDING if is_open(refusal.error) else PurchaseState.REFUSED
            _write_record(folder, record, state, origin)
            return Outcome(xid, state, record.amount.amount, refusal=refusal.error)
        receipt = protocol.check_receipt(message, purchase=record, trust=trust, now=now)
        write_whole(folder / "receipt.p7s", message.body)
        write_whole(folder / "auth-res.p7s", receipt.receipt.auth_res)
        for crl in trust.crls:
            der = crl.public_bytes(Encoding.DER)
            write_whole(folder / "crls" / f"{sha256(der).hex()}.crl", der)
        state = state_of(receipt)
        _write_record(folder, record, state, origin)
        return Outcome(xid, state, record.amount.amount, receipt=receipt)

    def _sign(self, draft: Draft[Any]) -> bytes:
        return cms_signed.sign(
            draft.content_type,
            draft.content,
            key=self._card.key,
            signer=self._card.certificate,
            chain=self._card.chain,
            signing_time=self._clock(),
        )

    def _exchange(self, path: str, message: bytes) -> bytes:
        try:
            response = self._shop.post(path, content=message, headers={"content-type": MEDIA_TYPE})
        except httpx.HTTPError as error:
            raise ShopUnreachable(f"the shop did not answer ({type(error).__name__})") from None
        if response.headers.get("content-type") != MEDIA_TYPE:
            raise ShopUnreachable(f"the shop answered {response.status_code} and no KWBP message")
        return response.content

    def _read(
        self, answer: bytes, sent: bytes, expected: x509.ObjectIdentifier, *, trust: Trust, now: datetime
    ) -> KwbpMessage:
        message = unwrap(answer, expected=(expected, CT_ERROR))
        if message.msg_type == CT_ERROR:
            received = read_error(message, sent=sent, role=Role.MERCHANT, trust=trust, now=now)
            if received.signer is None:
                # Anybody on the way can say so: it must neither end a purchase nor be kept as its outcome.
                raise ShopUnreachable("the shop answered with an error that it did not sign")
            raise RefusedByShop(
                ProtocolError(received.body.error_code, received.body.clause or "E1", "the shop refused the message")
            )
        return message


def is_open(error: ProtocolError) -> bool:
    """Whether a refusal leaves the outcome open, so that the order must be asked about again."""
    return error.code in (ErrorCode.UNKNOWN_OUTCOME, ErrorCode.ACK_TIMEOUT, ErrorCode.UNSPECIFIED_FAILURE)


def state_of(receipt: protocol.CheckedReceipt) -> PurchaseState:
    """What a receipt says, in one word."""
    if receipt.paid:
        return PurchaseState.PAID
    if receipt.receipt.completion_code is CompletionCode.ORDER_RECEIVED:
        return PurchaseState.PENDING
    return PurchaseState.DECLINED


def _write_record(folder: Path, record: protocol.PurchaseRecord, state: PurchaseState, origin: str) -> None:
    document = {
        "state": state,
        "origin": origin,
        "rrpid": record.rrpid.hex(),
        "xid": record.xid.hex(),
        "chall_c": record.chall_c.hex(),
        "h_oi_data": record.h_oi_data.hex(),
        "h_dual_sig": record.h_dual_sig.hex(),
        "amount": record.amount.amount,
        "merchant_id": record.merchant_id,
        "mer_cert_hash": record.mer_cert_hash.hex(),
        "gw_id": record.gw_id,
        "acquirer_bin": record.acquirer_bin,
        "ordered_at": record.ordered_at.isoformat(),
    }
    write_whole(folder / _RECORD, json.dumps(document, indent=1).encode())


def _read_record(folder: Path) -> tuple[protocol.PurchaseRecord, PurchaseState, str]:
    try:
        document = json.loads((folder / _RECORD).read_bytes())
    except FileNotFoundError:
        raise WalletError(f"the wallet knows no purchase {folder.name}") from None
    record = protocol.PurchaseRecord(
        rrpid=bytes.fromhex(document["rrpid"]),
        xid=bytes.fromhex(document["xid"]),
        chall_c=bytes.fromhex(document["chall_c"]),
        h_oi_data=bytes.fromhex(document["h_oi_data"]),
        h_dual_sig=bytes.fromhex(document["h_dual_sig"]),
        amount=Money.rial(document["amount"]),
        merchant_id=document["merchant_id"],
        mer_cert_hash=bytes.fromhex(document["mer_cert_hash"]),
        gw_id=document["gw_id"],
        acquirer_bin=document["acquirer_bin"],
        ordered_at=datetime.fromisoformat(document["ordered_at"]),
    )
    return record, PurchaseState(document["state"]), document["origin"]


def purchases(folder: Path) -> list[Outcome]:
    """All purchases in a wallet's folder."""
    found = []
    for entry in sorted(folder.glob(f"*/{_RECORD}")):
        record, state, _origin = _read_record(entry.parent)
        found.append(Outcome(record.xid, state, record.amount.amount))
    return found
