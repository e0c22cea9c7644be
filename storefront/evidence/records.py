"""The records of one purchase, from whichever party kept them."""

from __future__ import annotations

import base64
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from kwbp.errors import ProtocolError
from kwbp.messages import InvoiceMessage, PReq
from kwbp.structure import decode, encode
from kwbp.wrapper import unwrap
from pki.oids import MT_INVOICE, MT_PREQ
from storefront.errors import EvidenceError
from storefront.merchant.proof import TIMESTAMP
from storefront.merchant.store import Document


@dataclass(frozen=True, slots=True)
class Records:
    """What a party holds of a purchase; each member DER. The buyer has neither AuthReq nor AuthAck."""

    invoice: bytes
    order_details: bytes
    oi_data: bytes
    dual_signature: bytes
    pi_envelope: bytes
    gateway_certificate: bytes
    auth_res: bytes
    receipt: bytes
    crls: tuple[bytes, ...]
    auth_req: bytes | None = None
    auth_ack: bytes | None = None
    time_stamp: bytes | None = None  # TimeStampToken over auth_res
    ocsp: tuple[bytes, ...] = ()  # OCSPResponse of certificates above


def from_merchant(evidence: Mapping[str, Any]) -> Records:
    """From the answer of the merchant server's `/orders/{xid}/evidence`; EvidenceError if there is no receipt yet."""
    try:
        documents = {Document(kind): base64.b64decode(der) for kind, der in evidence["documents"].items()}
        if Document.RECEIPT not in documents:
            raise EvidenceError(f"the purchase is in state {evidence['order']['state']}: there is no receipt to prove")
        proofs = {name: base64.b64decode(der) for name, der in evidence.get("proofs", {}).items()}
        offer = decode(InvoiceMessage, unwrap(documents[Document.INVOICE_ANSWER], expected=(MT_INVOICE,)).body)
        order = decode(PReq, unwrap(documents[Document.PURCHASE], expected=(MT_PREQ,)).body)
        return Records(
            invoice=offer.invoice,
            order_details=offer.order_details,
            oi_data=encode(order.oi_data),
            dual_signature=order.dual_sig,
            pi_envelope=order.pi_envelope,
            gateway_certificate=offer.gateway_certificate,
            auth_res=documents[Document.AUTH_RES],
            receipt=documents[Document.RECEIPT],
            crls=tuple(base64.b64decode(der) for der in evidence["crls"]),
            auth_req=documents.get(Document.AUTH_REQ),
            auth_ack=documents.get(Document.AUTH_ACK),
            time_stamp=proofs.get(TIMESTAMP),
            ocsp=tuple(der for name, der in sorted(proofs.items()) if name != TIMESTAMP),
        )
    except (KeyError, TypeError, ValueError, ProtocolError) as error:
        raise EvidenceError(
            f"the merchant's records of this purchase are incomplete ({type(error).__name__})"
        ) from None


def from_wallet(folder: Path) -> Records:
    """From a wallet's folder of one purchase; EvidenceError if there is no receipt in it."""
    try:
        return Records(
            invoice=(folder / "invoice.p7s").read_bytes(),
            order_details=(folder / "order-details.der").read_bytes(),
            oi_data=(folder / "oi-data.der").read_bytes(),
            dual_signature=(folder / "dual-signature.p7s").read_bytes(),
            pi_envelope=(folder / "pi-envelope.p7m").read_bytes(),
            gateway_certificate=(folder / "gateway-encryption.cer").read_bytes(),
            auth_res=(folder / "auth-res.p7s").read_bytes(),
            receipt=(folder / "receipt.p7s").read_bytes(),
            crls=tuple(path.read_bytes() for path in sorted((folder / "crls").glob("*.crl"))),
        )
    except FileNotFoundError as error:
        raise EvidenceError(f"the wallet has no {Path(error.filename).name} of this purchase") from None
