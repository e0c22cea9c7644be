"""Hostile twins: an honest message of a purchase with one thing changed, and everything around it made to fit again.

Each function takes the honest purchase and what is to be different, and signs the result with the right key unless told
otherwise: so what a test sees refused is the one change, never a broken signature beside it.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from datetime import datetime
from typing import Any

import pytest
from cryptography import x509

from kwbp.codes import ErrorCode
from kwbp.errors import ProtocolError
from kwbp.fields import to_time
from kwbp.gateway import GatewayIdentity
from kwbp.messages import InvoiceMessage, PIData, PISealed, PReq
from kwbp.wrapper import wrap
from pki import der
from pki.cms_enveloped import SealingSuite, seal
from pki.cms_signed import assemble_signed_data, build_signed_attributes, sign_signed_attributes
from pki.oids import (
    CT_AUTH_ACK,
    CT_AUTH_REQ,
    CT_AUTH_RES,
    CT_DUAL_SIGNATURE,
    CT_INVOICE,
    CT_INVOICE_REQ,
    CT_RECEIPT,
    MT_INVOICE,
    MT_PREQ,
)
from tests.kwbp.world import Purchase, World
from tests.support.pki_factory import Credential


@contextmanager
def refused(code: ErrorCode, check: str) -> Iterator[None]:
    """The block raises a ProtocolError with this code, at this check."""
    with pytest.raises(ProtocolError) as caught:
        yield
    assert (caught.value.code, caught.value.check) == (code, check), caught.value


def changed(body: Any, changes: dict[str, Any]) -> Any:
    """A copy of a message structure with other fields; datetimes become protocol times."""
    return replace(body, **{k: to_time(v) if isinstance(v, datetime) else v for k, v in changes.items()})


def signed(
    credential: Credential, content_type: x509.ObjectIdentifier, body: Any, *, signing_time: datetime | None = None
) -> bytes:
    """SignedData over `body` as it is, in form or not."""
    return credential.sign(content_type, der.encode(body), signing_time=signing_time)


def forged(content_type: x509.ObjectIdentifier, content: bytes, *, named: Credential, signed_by: Credential) -> bytes:
    """SignedData that names one party's certificate and is signed with the key of another."""
    attributes = build_signed_attributes(content_type, content, signer=named.certificate, signing_time=named.now)
    signature = sign_signed_attributes(attributes, signed_by.key)
    return assemble_signed_data(content_type, content, attributes, signature, signer=named.certificate, chain=())


def asked(
    world: World,
    purchase: Purchase,
    *,
    signer: Credential | None = None,
    signing_time: datetime | None = None,
    header: dict[str, Any] | None = None,
    **changes: Any,
) -> bytes:
    """InvoiceReq."""
    body = changed(purchase.request.body, changes)
    data = signed(signer or world.buyer, CT_INVOICE_REQ, body, signing_time=signing_time)
    return wrap(CT_INVOICE_REQ, data, **({"rrpid": body.rrpid, "xid": None} | (header or {})))


def offered(
    world: World,
    purchase: Purchase,
    *,
    order: dict[str, Any] | None = None,
    fitting: bool = True,
    signer: Credential | None = None,
    gateway: Credential | None = None,
    signing_time: datetime | None = None,
    header: dict[str, Any] | None = None,
    **changes: Any,
) -> bytes:
    """Invoice. `order` changes OrderDetails, and hod with it unless not `fitting`; `gateway` is another certificate."""
    body = changed(purchase.invoice.invoice.body, changes)
    details = purchase.invoice.order_details
    if order is not None:
        details = der.encode(changed(purchase.checked_invoice.order, order))
        if fitting:
            body = replace(body, hod=der.sha256(details))
    gateway = gateway or world.gateway_encryption
    message = InvoiceMessage(
        invoice=signed(signer or world.shop, CT_INVOICE, body, signing_time=signing_time),
        order_details=details,
        gateway_certificate=gateway.der,
        gateway_chain=[],
    )
    return wrap(MT_INVOICE, der.encode(message), **({"rrpid": body.rrpid, "xid": body.xid} | (header or {})))


def named_gateway(gateway: Credential) -> dict[str, Any]:
    """The fields with which an invoice, an order or a payment instruction names a gateway."""
    identity = GatewayIdentity.of(gateway.certificate)
    return {"gw_id": identity.gateway_id, "gw_cert_hash": identity.cert_hash}


def ordered(
    world: World,
    purchase: Purchase,
    *,
    oi: dict[str, Any] | None = None,
    dual: dict[str, Any] | None = None,
    preq: dict[str, Any] | None = None,
    envelope: bytes | None = None,
    signer: Credential | None = None,
    signing_time: datetime | None = None,
    header: dict[str, Any] | None = None,
) -> bytes:
    """PReq. The hashes in the dual signature follow changes of `oi` and `envelope`, but not those of `preq`."""
    oi_data = changed(purchase.order.oi, oi or {})
    envelope = envelope or purchase.order.pi_envelope
    dual_body = replace(
        purchase.order.dual_signature.body,
        h_oi_data=der.sha256(der.encode(oi_data)),
        h_pi_envelope=der.sha256(envelope),
    )
    dual_body = changed(dual_body, dual or {})
    body = PReq(
        oi_data=oi_data,
        dual_sig=signed(signer or world.buyer, CT_DUAL_SIGNATURE, dual_body, signing_time=signing_time),
        h_pi_data=dual_body.h_pi_data,
        pi_envelope=envelope,
    )
    body = replace(body, **(preq or {}))
    return wrap(MT_PREQ, der.encode(body), **({"rrpid": oi_data.rrpid, "xid": oi_data.xid} | (header or {})))


def requested(
    world: World,
    purchase: Purchase,
    *,
    invoice: dict[str, Any] | None = None,
    dual: dict[str, Any] | None = None,
    envelope: bytes | None = None,
    signer: Credential | None = None,
    invoice_signer: Credential | None = None,
    buyer: Credential | None = None,
    signing_time: datetime | None = None,
    invoice_time: datetime | None = None,
    dual_time: datetime | None = None,
    header: dict[str, Any] | None = None,
    **changes: Any,
) -> bytes:
    """AuthReq. A changed invoice is followed by the dual signature's invoiceHash, a changed envelope by its hash."""
    invoice_signed = purchase.invoice_signed
    if invoice or invoice_signer or invoice_time:
        invoice_body = changed(purchase.invoice.invoice.body, invoice or {})
        invoice_signed = signed(invoice_signer or world.shop, CT_INVOICE, invoice_body, signing_time=invoice_time)
    envelope = envelope or purchase.order.pi_envelope
    dual_body = replace(
        purchase.order.dual_signature.body,
        invoice_hash=der.sha256(invoice_signed),
        h_pi_envelope=der.sha256(envelope),
    )
    body = changed(
        replace(
            purchase.auth_req.body,
            invoice=invoice_signed,
            dual_sig=signed(
                buyer or world.buyer, CT_DUAL_SIGNATURE, changed(dual_body, dual or {}), signing_time=dual_time
            ),
            pi_envelope=envelope,
        ),
        changes,
    )
    data = signed(signer or world.shop, CT_AUTH_REQ, body, signing_time=signing_time)
    return wrap(CT_AUTH_REQ, data, **({"rrpid": body.rrpid, "xid": body.xid} | (header or {})))


def sealed(
    purchase: Purchase, *, head: dict[str, Any] | None = None, pan: dict[str, Any] | None = None, **changes: Any
) -> tuple[bytes, bytes]:
    """Plaintext for the envelope, and the hPIData that fits it."""
    honest = der.decode(PISealed, purchase.plaintext)
    pi_head, pan_data = changed(honest.pi_head, head or {}), changed(honest.pan_data, pan or {})
    plaintext = der.encode(replace(honest, pi_head=pi_head, pan_data=pan_data, **changes))
    return plaintext, der.sha256(der.encode(PIData(pi_head=pi_head, pan_data=pan_data)))


def resealed(world: World, purchase: Purchase, gateway: Credential, suite: SealingSuite) -> bytes:
    """The same payment instruction, sealed anew."""
    return seal(purchase.plaintext, gateway.certificate, suite, rng=world.rng)


def answered(
    world: World,
    purchase: Purchase,
    *,
    signer: Credential | None = None,
    signing_time: datetime | None = None,
    header: dict[str, Any] | None = None,
    **changes: Any,
) -> bytes:
    """AuthRes."""
    body = changed(purchase.auth_res.body, changes)
    data = signed(signer or world.gateway_signing, CT_AUTH_RES, body, signing_time=signing_time)
    return wrap(CT_AUTH_RES, data, **({"rrpid": body.rrpid, "xid": body.xid} | (header or {})))


def acknowledged(
    world: World,
    purchase: Purchase,
    *,
    signer: Credential | None = None,
    signing_time: datetime | None = None,
    header: dict[str, Any] | None = None,
    **changes: Any,
) -> bytes:
    """AuthAck."""
    body = changed(purchase.auth_ack.body, changes)
    data = signed(signer or world.shop, CT_AUTH_ACK, body, signing_time=signing_time)
    return wrap(CT_AUTH_ACK, data, **({"rrpid": body.rrpid, "xid": body.xid} | (header or {})))


def receipted(
    world: World,
    purchase: Purchase,
    *,
    answer: dict[str, Any] | None = None,
    signer: Credential | None = None,
    gateway: Credential | None = None,
    signing_time: datetime | None = None,
    answer_time: datetime | None = None,
    header: dict[str, Any] | None = None,
    **changes: Any,
) -> bytes:
    """Receipt; `answer` changes the gateway's answer inside."""
    inner = changed(purchase.auth_res.body, answer or {})
    inner_signed = signed(gateway or world.gateway_signing, CT_AUTH_RES, inner, signing_time=answer_time)
    body = changed(replace(purchase.receipt.body, auth_res=inner_signed), changes)
    data = signed(signer or world.shop, CT_RECEIPT, body, signing_time=signing_time)
    return wrap(CT_RECEIPT, data, **({"rrpid": body.rrpid, "xid": body.xid} | (header or {})))
