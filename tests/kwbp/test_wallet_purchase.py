"""PReq: what the wallet puts where, and what it keeps."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta
from typing import Any

import pytest

from kwbp.codes import ErrorCode, SaleKind
from kwbp.commitment import trans_stain
from kwbp.gateway import GatewayIdentity
from kwbp.messages import PISealed, PReq
from kwbp.structure import decode, encode
from kwbp.wallet import build_purchase
from kwbp.wrapper import unwrap
from pki.algorithms import SealingSuite
from pki.cms_enveloped import parse_auth_enveloped
from pki.der import sha256
from pki.oids import MT_PREQ
from shetab.types import Pan
from tests.kwbp.forge import refused
from tests.kwbp.world import EXPIRY, PAN, Purchase, World


def test_each_half_is_bound_to_the_other(purchase: Purchase) -> None:
    dual = purchase.order.dual_signature.body
    sealed = decode(PISealed, purchase.plaintext)
    assert dual.h_oi_data == sealed.h_oi_data == sha256(purchase.order.oi_data)
    assert dual.h_pi_data == purchase.order.h_pi_data
    assert dual.h_pi_envelope == sha256(purchase.order.pi_envelope)
    assert dual.invoice_hash == sealed.pi_head.invoice_hash == sha256(purchase.invoice_signed)


def test_card_is_in_the_envelope_and_nowhere_else(world: World, purchase: Purchase) -> None:
    pan_data = decode(PISealed, purchase.plaintext).pan_data
    assert (pan_data.pan, pan_data.expiry, pan_data.pin2, pan_data.cvv2) == (PAN, EXPIRY, "12345", "321")
    for visible in (
        purchase.preq_message,
        purchase.auth_req_message,
        purchase.auth_res_signed,
        purchase.receipt_signed,
    ):
        for secret in (PAN.encode(), world.pan_secret, world.card_secret):
            assert secret not in visible


def test_order_lines_never_reach_the_gateway(purchase: Purchase) -> None:
    for word in ("کتاب".encode(), b"book-1", b"Tehran"):
        assert word in purchase.invoice_message
        assert word not in purchase.auth_req_message
        assert word not in purchase.plaintext


def test_stain_is_for_the_issuer(world: World, purchase: Purchase) -> None:
    expected = trans_stain(world.card_secret, purchase.issued.invoice.xid, purchase.issued.invoice_hash)
    assert purchase.card.trans_stain == expected


def test_same_order_twice_is_two_different_envelopes_and_hashes(world: World, purchase: Purchase) -> None:
    again = build_purchase(purchase.checked_invoice, world.card, rrpid=world.rng(20), now=world.now, rng=world.rng)
    assert again.h_pi_data != purchase.order.h_pi_data
    assert again.pi_envelope != purchase.order.pi_envelope


@pytest.mark.parametrize(
    ("named", "used"),
    [
        (("oaep-sha1",), SealingSuite.OAEP_SHA1),
        (("oaep-sha256",), SealingSuite.OAEP_SHA256),
        (("oaep-sha1", "oaep-sha256"), SealingSuite.OAEP_SHA256),
    ],
)
def test_strongest_suite_that_the_gateway_names(
    world: World, purchase: Purchase, named: tuple[str, ...], used: SealingSuite
) -> None:
    gateway = GatewayIdentity.of(world.pki.gateway_encryption("GW-1", suites=named).certificate)
    checked = replace(purchase.checked_invoice, gateway=gateway)
    order = build_purchase(checked, world.card, rrpid=world.rng(20), now=world.now, rng=world.rng)
    assert parse_auth_enveloped(order.pi_envelope).suite is used


def test_pin_and_cvv2_are_optional(world: World, purchase: Purchase) -> None:
    card = replace(world.card, pin2=None, cvv2=None)
    order = build_purchase(purchase.checked_invoice, card, rrpid=world.rng(20), now=world.now, rng=world.rng)
    assert order.dual_signature.body.sale_kind is SaleKind.SALE


def test_nothing_is_signed_for_an_invoice_that_has_run_out(world: World, purchase: Purchase) -> None:
    late = world.now + timedelta(minutes=10, seconds=1)
    with refused(ErrorCode.INVOICE_EXPIRED, "W8"):
        build_purchase(purchase.checked_invoice, world.card, rrpid=world.rng(20), now=late, rng=world.rng)


def test_another_card_than_the_invoice_was_asked_for(world: World, purchase: Purchase) -> None:
    card = replace(world.card, pan=Pan("6219861000000009"))
    with pytest.raises(ValueError, match="not the one"):
        build_purchase(purchase.checked_invoice, card, rrpid=world.rng(20), now=world.now, rng=world.rng)


def test_message_carries_the_order_as_it_was_hashed(purchase: Purchase) -> None:
    message = unwrap(purchase.preq_message, expected=[MT_PREQ])
    preq = decode(PReq, message.body)
    assert encode(preq.oi_data) == purchase.order.oi_data
    assert (message.rrpid, message.xid) == (preq.oi_data.rrpid, preq.oi_data.xid)


@pytest.mark.parametrize("thing", ["card", "order", "plaintext"])
def test_card_has_no_repr(world: World, purchase: Purchase, thing: str) -> None:
    shown: dict[str, Any] = {
        "card": world.card,
        "order": purchase.order,
        "plaintext": decode(PISealed, purchase.plaintext),
    }
    text = repr(shown[thing])
    assert PAN not in text
    assert "12345" not in text
    assert repr(world.pan_secret) not in text
