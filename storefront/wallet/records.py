"""The buyer's own records of purchases, one folder each, and how far each has come.

    purchases/<xid>/
      purchase.json           state and the facts that the receipt is judged by; nothing of the card
      invoice.p7s             as the merchant signed it
      order-details.der  oi-data.der  dual-signature.p7s  pi-envelope.p7m  gateway-encryption.cer
      order.kwbp              the message as it is sent, the same bytes each time
      error.p7s               the merchant's signed refusal, if there was one
      receipt.p7s  auth-res.p7s
      contract.p7s            the order with two signatures, as it is handed to the merchant
      receipt-ack.p7s         the buyer's acknowledgement of that receipt, as it is sent
      status.p7s              what the merchant said last of an open purchase, if that closed it
      gateway-status.p7s      and the gateway's word that it rests on
      crls/                   the lists by which invoice, receipt and status were judged
      authorities/            the CA certificates that were known when it was ordered

purchase.json is written last, and before the order leaves: a folder without it is an order that was never sent.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable
from datetime import datetime
from enum import StrEnum
from pathlib import Path
from typing import Annotated, Final, Self

from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from kwbp.codes import ErrorCode
from kwbp.common import read_signed
from kwbp.contract import read_contract
from kwbp.inquiry import GatewayStatus, MerchantStatus
from kwbp.messages import DualSigTBS, ErrorTBS, InvoiceTBS
from kwbp.money import Money
from kwbp.receipt_ack import ReceiptAckTBS
from kwbp.wallet import CheckedInvoice, CheckedReceipt, PurchaseDraft, PurchaseRecord
from pki.der import sha256
from pki.oids import CT_DUAL_SIGNATURE, CT_ERROR, CT_INVOICE, CT_RECEIPT_ACK
from pki.path import Trust
from storefront.errors import WalletError
from storefront.files import make_folder, write_whole

RECORD: Final = "purchase.json"
_ORDER: Final = "order.kwbp"
_RECEIPT: Final = "receipt.p7s"
_REFUSAL: Final = "error.p7s"
_ACKNOWLEDGEMENT: Final = "receipt-ack.p7s"
_CONTRACT: Final = "contract.p7s"
_ANSWER: Final = "auth-res.p7s"
_WORD: Final = "gateway-status.p7s"


class PurchaseState(StrEnum):
    """What the buyer knows of a purchase."""

    SIGNED = "SIGNED"
    """Signed and stored; it may have left."""
    PAID = "PAID"
    DECLINED = "DECLINED"
    REFUSED = "REFUSED"
    """The merchant refused the order, signed; no money moved."""
    REVERSED = "REVERSED"
    """The card was not debited, or has its money back."""
    PENDING = "PENDING"
    """The outcome is open; ask again."""


FINAL: Final = frozenset({PurchaseState.PAID, PurchaseState.DECLINED, PurchaseState.REVERSED})
"""Proved by the gateway's signature; nothing that anybody says later takes it back."""

_Id = Annotated[str, Field(pattern=r"^[0-9a-f]{40}$")]
_Hash = Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")]


class _Document(BaseModel):
    """purchase.json."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    state: PurchaseState
    origin: str
    rrpid: _Id
    xid: _Id
    chall_c: _Hash
    h_oi_data: _Hash
    h_dual_sig: _Hash
    amount: Annotated[int, Field(strict=True, ge=1)]
    merchant_id: str
    mer_cert_hash: _Hash
    gw_id: str
    acquirer_bin: str
    ordered_at: datetime


class PurchaseFolder:
    """The records of one purchase."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._document = self._read()

    @classmethod
    def create(
        cls,
        purchases: Path,
        checked: CheckedInvoice,
        draft: PurchaseDraft,
        signed: bytes,
        contract: bytes,
        origin: str,
        *,
        judged_by: Trust,
    ) -> Self:
        """Write down an order that is about to leave. When this returns it is on the disk.

        :param signed: the dual signature as SignedData. :param contract: the order with two signatures.
        :param judged_by: what the invoice was judged by; it is kept, for an order that is never answered is proven by
            it. :raises WalletError: there is an order of this XID.
        """
        path = purchases / checked.invoice.xid.hex()
        if (path / RECORD).exists():
            raise WalletError("this invoice was ordered before: purchase {xid}", xid=path.name)
        make_folder(path)
        write_whole(path / "invoice.p7s", checked.signed)
        write_whole(path / "order-details.der", checked.order_details)
        write_whole(path / "oi-data.der", draft.oi_data)
        write_whole(path / "dual-signature.p7s", signed)
        write_whole(path / _CONTRACT, contract)
        write_whole(path / "pi-envelope.p7m", draft.pi_envelope)
        write_whole(path / "gateway-encryption.cer", checked.gateway.certificate.public_bytes(Encoding.DER))
        _keep_lists(path, judged_by.crls)
        for certificate in judged_by.intermediates:
            der = certificate.public_bytes(Encoding.DER)
            write_whole(path / "authorities" / f"{sha256(der).hex()}.cer", der)
        write_whole(path / _ORDER, draft.message(signed))
        record = draft.record(signed)
        document = _Document(
            state=PurchaseState.SIGNED,
            origin=origin,
            rrpid=record.rrpid.hex(),
            xid=record.xid.hex(),
            chall_c=record.chall_c.hex(),
            h_oi_data=record.h_oi_data.hex(),
            h_dual_sig=record.h_dual_sig.hex(),
            amount=record.amount.amount,
            merchant_id=record.merchant_id,
            mer_cert_hash=record.mer_cert_hash.hex(),
            gw_id=record.gw_id,
            acquirer_bin=record.acquirer_bin,
            ordered_at=record.ordered_at,
        )
        _write(path, document)
        return cls(path)

    @property
    def state(self) -> PurchaseState:
        return self._document.state

    @property
    def origin(self) -> str:
        """The site it was made at."""
        return self._document.origin

    @property
    def order(self) -> bytes:
        """The message as it is sent."""
        try:
            return (self.path / _ORDER).read_bytes()
        except OSError:
            raise WalletError("the order of the purchase {xid} cannot be read", xid=self.path.name) from None

    def signed_objects(self) -> tuple[bytes, bytes, bytes, bytes, bytes]:
        """What the card signed, as `storefront.wallet.shown.signed_by` takes it. Raises WalletError."""
        try:
            names = ("dual-signature.p7s", "oi-data.der", "invoice.p7s", "order-details.der")
            dual, oi_data, invoice, order_details = ((self.path / name).read_bytes() for name in names)
        except OSError:
            raise WalletError("the order of the purchase {xid} cannot be read", xid=self.path.name) from None
        kept = self.contract
        signed = read_signed(InvoiceTBS, CT_INVOICE, invoice) if kept is None else read_contract(kept).buyer
        return (
            read_signed(DualSigTBS, CT_DUAL_SIGNATURE, dual).signed.content,
            oi_data,
            signed.signed.content,
            invoice,
            order_details,
        )

    @property
    def record(self) -> PurchaseRecord:
        """What the receipt is judged by."""
        document = self._document
        return PurchaseRecord(
            rrpid=bytes.fromhex(document.rrpid),
            xid=bytes.fromhex(document.xid),
            chall_c=bytes.fromhex(document.chall_c),
            h_oi_data=bytes.fromhex(document.h_oi_data),
            h_dual_sig=bytes.fromhex(document.h_dual_sig),
            amount=Money.rial(document.amount),
            merchant_id=document.merchant_id,
            mer_cert_hash=bytes.fromhex(document.mer_cert_hash),
            gw_id=document.gw_id,
            acquirer_bin=document.acquirer_bin,
            ordered_at=document.ordered_at,
        )

    def refused(self, error: bytes, state: PurchaseState) -> None:
        """Keep the merchant's signed Error (SignedData), and the state that follows from it."""
        if not self.left_open_by_the_gateway:  # what says so is kept
            write_whole(self.path / _REFUSAL, error)
        self._move(state)

    def received(
        self,
        receipt: bytes,
        checked: CheckedReceipt,
        state: PurchaseState,
        crls: Iterable[x509.CertificateRevocationList],
    ) -> None:
        """Keep the receipt (SignedData) and what it was judged by, and the state that follows from it."""
        write_whole(self.path / _RECEIPT, receipt)
        write_whole(self.path / _ANSWER, checked.receipt.auth_res)
        self._keep(crls)
        self._move(state)

    @property
    def contract(self) -> bytes | None:
        """The order with two signatures; None if it was ordered by a wallet that made none."""
        path = self.path / _CONTRACT
        return path.read_bytes() if path.exists() else None

    def acknowledgement(self, receipt: bytes) -> bytes | None:
        """The acknowledgement (SignedData) of this receipt (SignedData), if it was signed already."""
        path = self.path / _ACKNOWLEDGEMENT
        if not path.exists():
            return None
        signed = path.read_bytes()
        known = read_signed(ReceiptAckTBS, CT_RECEIPT_ACK, signed).body.h_receipt
        return signed if known == sha256(receipt) else None

    def acknowledge(self, signed: bytes) -> None:
        """Keep the acknowledgement (SignedData) that is about to leave."""
        write_whole(self.path / _ACKNOWLEDGEMENT, signed)

    def closed(
        self,
        status: MerchantStatus,
        word: GatewayStatus,
        state: PurchaseState,
        crls: Iterable[x509.CertificateRevocationList],
    ) -> None:
        """Keep what closed an open purchase, and what it was judged by, and the state that follows from it."""
        write_whole(self.path / "status.p7s", status.signed)
        write_whole(self.path / _WORD, word.signed)
        self._keep(crls)
        self._move(state)

    def told(self, word: GatewayStatus, state: PurchaseState, crls: Iterable[x509.CertificateRevocationList]) -> None:
        """Keep what the gateway itself said, the answer in it, and what they were judged by; move to `state`."""
        answer = self.path / _ANSWER
        if word.auth_res is not None and word.result is not None and not answer.exists():
            write_whole(answer, word.result.body)
        write_whole(self.path / _WORD, word.signed)
        self._keep(crls)
        self._move(state)

    @property
    def has_receipt(self) -> bool:
        """Whether the merchant's receipt is here."""
        return (self.path / _RECEIPT).exists()

    @property
    def left_open_by_the_gateway(self) -> bool:
        """Whether the gateway has answered and the money may have moved: no refusal of the merchant undoes that.

        A receipt carries the gateway's answer; ackTimeout says that there was an approval, and that it came too late.
        """
        if self.state is not PurchaseState.PENDING:
            return False
        return (self.path / _RECEIPT).exists() or self._refusal() is ErrorCode.ACK_TIMEOUT

    def _refusal(self) -> ErrorCode | None:
        """What the merchant's stored refusal says."""
        path = self.path / _REFUSAL
        return read_signed(ErrorTBS, CT_ERROR, path.read_bytes()).body.error_code if path.exists() else None

    @property
    def closed_by_the_gateway(self) -> bool:
        """Whether the purchase was left open and the gateway has closed it since, so that no receipt will come."""
        return self.state in FINAL - {PurchaseState.PAID} and (self.path / _WORD).exists()

    def _keep(self, crls: Iterable[x509.CertificateRevocationList]) -> None:
        _keep_lists(self.path, crls)

    def _move(self, state: PurchaseState) -> None:
        if state is not self.state:
            self._document = self._document.model_copy(update={"state": state})
            _write(self.path, self._document)

    def _read(self) -> _Document:
        try:
            content = (self.path / RECORD).read_bytes()
        except OSError:
            raise WalletError("the wallet knows no purchase {xid}", xid=self.path.name) from None
        try:
            return _Document.model_validate_json(content)
        except ValidationError:
            raise WalletError("the record of the purchase {xid} is damaged", xid=self.path.name) from None


def purchase(folder: Path, xid: str) -> PurchaseFolder:
    """One purchase of a wallet, by its XID in hexadecimal. :raises WalletError: there is none."""
    if not re.fullmatch("[0-9a-f]{40}", xid):  # it becomes the name of a folder
        raise WalletError("the wallet knows no purchase {xid}", xid=xid[:40])
    return PurchaseFolder(folder / xid)


def check_record(content: bytes, xid: str) -> None:
    """That this can be the purchase.json of a purchase. :raises ValueError: it cannot."""
    if _Document.model_validate_json(content).xid != xid:
        raise ValueError("the record of another purchase")


def all_purchases(folder: Path) -> list[PurchaseFolder]:
    """Every purchase of a wallet."""
    return [PurchaseFolder(entry.parent) for entry in sorted(folder.glob(f"*/{RECORD}"))]


def _keep_lists(path: Path, crls: Iterable[x509.CertificateRevocationList]) -> None:
    for crl in crls:
        der = crl.public_bytes(Encoding.DER)
        kept = path / "crls" / f"{sha256(der).hex()}.crl"
        if not kept.exists():
            write_whole(kept, der)


def _write(path: Path, document: _Document) -> None:
    write_whole(path / RECORD, json.dumps(document.model_dump(mode="json"), indent=1).encode())
