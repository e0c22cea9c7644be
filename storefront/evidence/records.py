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
from runtime.language import Message
from storefront.errors import EvidenceError
from storefront.merchant.documents import TIMESTAMP, Document


@dataclass(frozen=True, slots=True)
class Records:
    """What a party holds of a purchase; each member DER.

    The buyer has neither AuthReq nor AuthAck, the gateway neither order lines nor OIData nor receipt nor contract, and
    no sealed card data once it has answered; nobody has what did not happen. What is absent is no proof of anything,
    and a bundle names it.
    """

    invoice: bytes
    dual_signature: bytes
    pi_envelope: bytes | None
    gateway_certificate: bytes
    crls: tuple[bytes, ...]
    authorities: tuple[bytes, ...] = ()  # CA certificates above those of the gateway, if no answer of it has them
    order_details: bytes | None = None
    oi_data: bytes | None = None
    auth_req: bytes | None = None
    auth_res: bytes | None = None
    auth_ack: bytes | None = None
    receipt: bytes | None = None
    receipt_ack: bytes | None = None
    contract: bytes | None = None  # the order with two signatures
    gateway_status: bytes | None = None  # the gateway's InqRes, if the purchase was closed later
    time_stamp: bytes | None = None  # TimeStampToken over auth_res
    movements: tuple[tuple[bytes, bytes], ...] = ()  # requests and answers of rows 19 to 21 in their order
    ocsp: tuple[bytes, ...] = ()  # OCSPResponse of certificates above


def from_merchant(evidence: Mapping[str, Any]) -> Records:
    """From the answer of the merchant server's `/orders/{xid}/evidence`; EvidenceError if nothing was ordered yet."""
    try:
        documents = {Document(kind): base64.b64decode(der) for kind, der in evidence["documents"].items()}
        if Document.PURCHASE not in documents:
            state = str(evidence["order"]["state"])
            raise EvidenceError(Message("the purchase is in state {state}: there is no order to prove", state=state))
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
            authorities=tuple(offer.gateway_chain),
            crls=tuple(base64.b64decode(der) for der in evidence["crls"]),
            auth_req=documents.get(Document.AUTH_REQ),
            auth_res=documents.get(Document.AUTH_RES),
            auth_ack=documents.get(Document.AUTH_ACK),
            receipt=documents.get(Document.RECEIPT),
            receipt_ack=documents.get(Document.RECEIPT_ACK),
            contract=documents.get(Document.CONTRACT),
            gateway_status=documents.get(Document.GATEWAY_STATUS),
            time_stamp=proofs.get(TIMESTAMP),
            movements=tuple(
                (base64.b64decode(each["request"]), base64.b64decode(each["answer"]))
                for each in evidence.get("money", ())
            ),
            ocsp=tuple(der for name, der in sorted(proofs.items()) if der and name != TIMESTAMP),
        )
    except (KeyError, TypeError, ValueError, ProtocolError) as error:
        told = Message("the merchant's records of this purchase are incomplete ({error})", error=type(error).__name__)
        raise EvidenceError(told) from None


def from_wallet(folder: Path) -> Records:
    """From a wallet's folder of one purchase; EvidenceError if the order itself is not whole."""
    try:
        return Records(
            invoice=(folder / "invoice.p7s").read_bytes(),
            order_details=(folder / "order-details.der").read_bytes(),
            oi_data=(folder / "oi-data.der").read_bytes(),
            dual_signature=(folder / "dual-signature.p7s").read_bytes(),
            pi_envelope=(folder / "pi-envelope.p7m").read_bytes(),
            gateway_certificate=(folder / "gateway-encryption.cer").read_bytes(),
            auth_res=_if_there(folder / "auth-res.p7s"),
            receipt=_if_there(folder / "receipt.p7s"),
            receipt_ack=_if_there(folder / "receipt-ack.p7s"),
            contract=_if_there(folder / "contract.p7s"),
            gateway_status=_if_there(folder / "gateway-status.p7s"),
            crls=tuple(path.read_bytes() for path in sorted((folder / "crls").glob("*.crl"))),
            authorities=tuple(path.read_bytes() for path in sorted((folder / "authorities").glob("*.cer"))),
        )
    except FileNotFoundError as error:
        told = Message("the wallet has no {file} of this purchase", file=Path(error.filename).name)
        raise EvidenceError(told) from None


def from_gateway_book(evidence: Mapping[str, Any]) -> Records:
    """From the answer of the gateway's `/v1/orders/{xid}/evidence`; EvidenceError if it gave the order no AuthRes."""
    try:
        documents = {name: base64.b64decode(der) for name, der in evidence["documents"].items()}
        if "auth_res" not in documents:
            raise EvidenceError(Message("the gateway gave no answer to this order: there is nothing of it to prove"))
        return Records(
            invoice=documents["invoice"],
            dual_signature=documents["dual_signature"],
            pi_envelope=None,
            gateway_certificate=documents["gateway_certificate"],
            auth_res=documents["auth_res"],
            auth_ack=documents.get("auth_ack"),
            gateway_status=documents.get("gateway_status"),
            movements=tuple(
                (base64.b64decode(each["request"]), base64.b64decode(each["answer"])) for each in evidence["money"]
            ),
            crls=tuple(base64.b64decode(der) for der in evidence["crls"]),
            authorities=tuple(base64.b64decode(der) for der in evidence["authorities"]),
        )
    except (KeyError, TypeError, ValueError) as error:
        told = Message("the gateway's records of this order are incomplete ({error})", error=type(error).__name__)
        raise EvidenceError(told) from None


def _if_there(path: Path) -> bytes | None:
    return path.read_bytes() if path.exists() else None
