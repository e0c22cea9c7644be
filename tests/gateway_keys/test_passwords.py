"""Opening a holder's request for a one-time password in the token: only what is one, and one refusal for all else."""

from __future__ import annotations

import os
from collections.abc import Callable
from datetime import timedelta
from typing import Any

import pytest
from cryptography.hazmat.primitives import hashes

from gateway_keys import passwords
from gateway_keys.errors import DecodingFailedError, OrderRefusedError
from kwbp import fields
from kwbp.codes import ErrorCode
from kwbp.money import Money
from kwbp.password import CheckedPasswordRequest, OTPReqTBS
from kwbp.structure import encode
from kwbp.wrapper import wrap
from pki.oids import CT_OTP_REQ
from tests.gateway_keys.conftest import Gateway
from tests.support.pki_factory import NOW
from tests.support.sealed_orders import BuyersCard


@pytest.fixture(scope="module")
def card() -> BuyersCard:
    return BuyersCard.issue()


def asked(
    gateway: Gateway, card: BuyersCard, *, signed: Callable[[bytes], bytes] | None = None, **changes: Any
) -> bytes:
    """OTPReq as it comes from the merchant M-1; `signed` replaces what is sealed."""
    body = OTPReqTBS(
        **{
            "version": fields.VERSION,
            "rrpid": os.urandom(20),
            "xid": os.urandom(20),
            "merchant_id": "M-1",
            "gw_id": "GW-1",
            "gw_cert_hash": gateway.certificate.fingerprint(hashes.SHA256()),
            "amount": Money.rial(1_250_000),
            "invoice_hash": os.urandom(32),
            "pan": card.pan.reveal(),
            "expiry": card.expiry.reveal(),
            "pan_secret": card.pan_secret,
            "ex_nonce": os.urandom(32),
            "date": fields.to_time(NOW),
            **changes,
        }
    )
    content = encode(body)
    der = (
        gateway.orders.cardholder(card).sign(CT_OTP_REQ, content, signing_time=NOW)
        if signed is None
        else signed(content)
    )
    envelope = gateway.orders.seal(der, gateway.certificate)
    return wrap(CT_OTP_REQ, envelope, rrpid=body.rrpid, xid=body.xid)


def opened(gateway: Gateway, message: bytes, **changes: Any) -> CheckedPasswordRequest:
    received, envelope = passwords.receive(message, gateway=gateway.certificate)
    arguments: dict[str, Any] = {
        "token": gateway.keys.token,
        "encryption": gateway.keys.encryption,
        "gateway": gateway.certificate,
        "merchant_id": "M-1",
        "accepts_bin": lambda prefix: prefix == "603799",
        "trust": gateway.trust,
        "now": NOW,
    }
    return passwords.open_request(received, envelope, **(arguments | changes))


def test_a_request_is_opened_in_the_token(gateway: Gateway, card: BuyersCard) -> None:
    found = opened(gateway, asked(gateway, card))
    assert (found.pan, found.expiry) == (card.pan, card.expiry)
    assert (found.asked.merchant_id, found.asked.amount) == ("M-1", Money.rial(1_250_000))


def test_what_is_not_sealed_to_this_key_uses_none(gateway: Gateway, card: BuyersCard) -> None:
    before = gateway.uses()
    other = gateway.pki.gateway_encryption("GW-2").certificate
    message = asked(gateway, card)
    with pytest.raises(OrderRefusedError) as refused:
        passwords.receive(message, gateway=other)
    assert (refused.value.check, refused.value.code) == ("P2", ErrorCode.ENVELOPE_MISMATCH)
    with pytest.raises(OrderRefusedError) as refused:
        passwords.receive(b"\x30\x00", gateway=gateway.certificate)
    assert refused.value.check == "K1"
    assert gateway.uses() == before


HOSTILE: dict[str, tuple[Callable[[Gateway, BuyersCard], bytes], str]] = {
    "another gateway": (lambda g, c: asked(g, c, gw_id="GW-2"), "P3 gatewayMismatch"),
    "another merchant": (lambda g, c: asked(g, c, merchant_id="M-2"), "P3 roleNotAllowed"),
    "another card": (lambda g, c: asked(g, c, pan_secret=os.urandom(32)), "P4 accountBindingFailure"),
    "signed by a merchant": (
        lambda g, c: asked(g, c, signed=lambda der: g.orders.merchant.sign(CT_OTP_REQ, der, signing_time=NOW)),
        "K5 roleNotAllowed",
    ),
    "of two minutes ago": (
        lambda g, c: asked(
            g,
            c,
            signed=lambda der: g.orders.cardholder(c).sign(CT_OTP_REQ, der, signing_time=NOW - timedelta(seconds=121)),
        ),
        "K7 messageTooOld",
    ),
    "not signed": (lambda g, c: asked(g, c, signed=lambda der: der), "P3 decodingFailure"),
}


@pytest.mark.parametrize("name", HOSTILE)
def test_everything_that_opens_and_is_no_request_is_refused_alike(
    gateway: Gateway, card: BuyersCard, name: str
) -> None:
    make, cause = HOSTILE[name]
    with pytest.raises(DecodingFailedError) as refused:
        opened(gateway, make(gateway, card))
    assert refused.value.cause == cause
    assert refused.value.__context__ is None  # no frame that held the plaintext
    assert str(refused.value) == "the sealed data could not be opened"


def test_the_data_of_an_order_are_not_opened_as_a_request(gateway: Gateway, card: BuyersCard) -> None:
    """The same key opens both: whoever has the gateway's process must not read orders in this way."""
    order = gateway.orders.order(card)
    message = wrap(CT_OTP_REQ, order.pi_envelope, rrpid=os.urandom(20), xid=order.xid)
    with pytest.raises(DecodingFailedError) as refused:
        opened(gateway, message)
    assert refused.value.cause == "P3 decodingFailure"


def test_a_broken_envelope(gateway: Gateway, card: BuyersCard) -> None:
    message = asked(gateway, card)
    with pytest.raises(DecodingFailedError) as refused:
        opened(gateway, message[:-1] + bytes([message[-1] ^ 1]))
    assert refused.value.cause == "P3 decodingFailure"
