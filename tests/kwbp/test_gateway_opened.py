"""Gateway on opened card data: G9 and G10. From outside, every refusal looks the same."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

import pytest

from kwbp.codes import ErrorCode, SaleKind
from kwbp.errors import ProtocolError, SealedContentError
from kwbp.gateway import VerifiedAuthReq
from kwbp.messages import PISealed
from kwbp.money import Money
from kwbp.structure import decode
from tests.kwbp.forge import refused, requested, sealed
from tests.kwbp.world import EXPIRY, PAN, TOTAL, Purchase, World


def _order_for(world: World, purchase: Purchase, h_pi_data: bytes, **changes: Any) -> VerifiedAuthReq:
    """An order whose dual signature covers other sealed data: the buyer's wallet lies, everybody else is honest."""
    return world.check_auth_req(requested(world, purchase, dual={"h_pi_data": h_pi_data}, **changes))


def test_card_of_the_buyer(world: World, purchase: Purchase) -> None:
    card = world.check_opened(purchase.plaintext, purchase.verified)
    assert (card.pan.reveal(), card.expiry.reveal()) == (PAN, EXPIRY)
    assert card.pin2 == world.card.pin2
    assert card.cvv2 == world.card.cvv2
    assert card.sale_kind is SaleKind.SALE


def test_card_without_pin_and_cvv2(world: World, purchase: Purchase) -> None:
    plaintext, h_pi_data = sealed(purchase, pan={"pin2": None, "cvv2": None})
    card = world.check_opened(plaintext, _order_for(world, purchase, h_pi_data))
    assert (card.pin2, card.cvv2) == (None, None)


@pytest.mark.parametrize("plaintext", [b"", b"\x30\x00", b"not DER"])
def test_g9_plaintext_that_is_something_else(world: World, purchase: Purchase, plaintext: bytes) -> None:
    with refused(ErrorCode.DECODING_FAILURE, "G9"):
        world.check_opened(plaintext, purchase.verified)


def test_g9_trailing_bytes(world: World, purchase: Purchase) -> None:
    with refused(ErrorCode.DECODING_FAILURE, "G9"):
        world.check_opened(purchase.plaintext + b"\x00", purchase.verified)


def test_g9_field_out_of_form(world: World, purchase: Purchase) -> None:
    plaintext, _ = sealed(purchase, head={"amount": Money(currency=840, amount=TOTAL, exp=0)})
    with refused(ErrorCode.DECODING_FAILURE, "G9"):
        world.check_opened(plaintext, purchase.verified)


@pytest.mark.parametrize(
    "head",
    [
        {"xid": bytes(20)},
        {"lid_m": "order-8"},
        {"merchant_id": "M-2"},
        {"mer_cert_hash": bytes(32)},
        {"gw_id": "GW-2"},
        {"gw_cert_hash": bytes(32)},
        {"amount": Money.rial(TOTAL - 1)},
        {"amount": Money.rial(TOTAL + 1)},
        {"hod": bytes(32)},
        {"invoice_hash": bytes(32)},
        {"not_after": datetime(2026, 3, 21, 13, tzinfo=UTC)},
        {"sale_kind": SaleKind.AUTH_ONLY},
    ],
    ids=lambda head: next(iter(head)),
)
def test_g9_head_that_says_other_than_the_signature(world: World, purchase: Purchase, head: dict[str, Any]) -> None:
    """Even with a matching hPIData: each field of the head has its twin in clear."""
    plaintext, h_pi_data = sealed(purchase, head=head)
    with refused(ErrorCode.HASH_MISMATCH, "G9"):
        world.check_opened(plaintext, _order_for(world, purchase, h_pi_data))


def test_g9_every_field_of_the_head_is_compared_or_excused(purchase: Purchase) -> None:
    head = decode(PISealed, purchase.plaintext).pi_head
    compared = {
        "xid", "lid_m", "merchant_id", "mer_cert_hash", "gw_id", "gw_cert_hash", "amount", "hod", "invoice_hash",
        "not_after", "sale_kind",
    }  # fmt: skip
    assert set(vars(head)) - compared == {"version", "trans_stain"}


def test_g9_sealed_data_with_another_hash_than_signed(world: World, purchase: Purchase) -> None:
    plaintext, _ = sealed(purchase, pan={"ex_nonce": bytes(32)})
    with refused(ErrorCode.HASH_MISMATCH, "G9"):
        world.check_opened(plaintext, purchase.verified)


def test_g9_sealed_for_other_order_information(world: World, purchase: Purchase) -> None:
    plaintext, _ = sealed(purchase, h_oi_data=bytes(32))
    with refused(ErrorCode.HASH_MISMATCH, "G9"):
        world.check_opened(plaintext, purchase.verified)


def test_g9_sealed_data_of_another_purchase(world: World, purchase: Purchase, other: Purchase) -> None:
    with refused(ErrorCode.HASH_MISMATCH, "G9"):
        world.check_opened(other.plaintext, purchase.verified)


@pytest.mark.parametrize(
    "pan",
    [
        {"pan": "6219861000000009"},
        {"expiry": "0611"},
        {"pan_secret": bytes(range(32))},
    ],
    ids=["another card", "another expiry", "another secret"],
)
def test_g10_card_that_the_certificate_does_not_commit_to(
    world: World, purchase: Purchase, pan: dict[str, Any]
) -> None:
    plaintext, h_pi_data = sealed(purchase, pan=pan)
    with refused(ErrorCode.ACCOUNT_BINDING_FAILURE, "G10"):
        world.check_opened(plaintext, _order_for(world, purchase, h_pi_data))


@pytest.mark.parametrize(
    "pan",
    [
        {"pan": "6037701000000008"},
        {"pan": "603770100000000"},
        {"pan": "۶۰۳۷۷۰۱۰۰۰۰۰۰۰۰۷"},
        {"expiry": "0613"},
        {"expiry": "612"},
        {"pin2": "123"},
        {"pin2": "1234567890123"},
        {"cvv2": "12"},
        {"cvv2": "a12"},
        {"pan_secret": bytes(32)},
        {"pan_secret": b"\x01" * 32},
    ],
    ids=lambda pan: f"{next(iter(pan))} {len(next(iter(pan.values())))}",
)
def test_g10_card_data_out_of_form(world: World, purchase: Purchase, pan: dict[str, Any]) -> None:
    plaintext, h_pi_data = sealed(purchase, pan=pan)
    with refused(ErrorCode.ACCOUNT_BINDING_FAILURE, "G10"):
        world.check_opened(plaintext, _order_for(world, purchase, h_pi_data))


def test_g10_another_buyer_who_knows_the_card(world: World, purchase: Purchase) -> None:
    """A thief with a certificate of his own and all data of the victim's card, secret included."""
    thief = world.pki.cardholder("commitment-to-another-card")
    order = world.check_auth_req(requested(world, purchase, buyer=thief))
    with refused(ErrorCode.ACCOUNT_BINDING_FAILURE, "G10"):
        world.check_opened(purchase.plaintext, order)


def test_g10_issuer_that_is_not_served(world: World, purchase: Purchase) -> None:
    with refused(ErrorCode.ACCOUNT_BINDING_FAILURE, "G10"):
        world.check_opened(purchase.plaintext, purchase.verified, accepts_bin=lambda prefix: prefix == "621986")


def test_g10_card_past_its_jalali_month(world: World, purchase: Purchase) -> None:
    """Esfand 1406 ends with 19 March 2028 in Iran."""
    assert world.check_opened(purchase.plaintext, purchase.verified, now=datetime(2028, 3, 19, 20, tzinfo=UTC))
    with refused(ErrorCode.ACCOUNT_BINDING_FAILURE, "G10"):
        world.check_opened(purchase.plaintext, purchase.verified, now=datetime(2028, 3, 19, 20, 30, tzinfo=UTC))


def _refusals(world: World, purchase: Purchase) -> list[ProtocolError]:
    cases: list[tuple[bytes, VerifiedAuthReq]] = [
        (b"\x30\x00", purchase.verified),
        (sealed(purchase, h_oi_data=bytes(32))[0], purchase.verified),
    ]
    for pan in ({"pan": "6219861000000009"}, {"pan": "6037701000000008"}):
        plaintext, h_pi_data = sealed(purchase, pan=pan)
        cases.append((plaintext, _order_for(world, purchase, h_pi_data)))
    found: list[ProtocolError] = []
    for plaintext, order in cases:
        with pytest.raises(SealedContentError) as caught:
            world.check_opened(plaintext, order)
        found.append(caught.value)
    return found


def test_outsiders_cannot_tell_the_refusals_apart(world: World, purchase: Purchase) -> None:
    refusals = _refusals(world, purchase)
    assert len({error.code for error in refusals}) == 3
    assert {(error.outward, error.outward_check) for error in refusals} == {(ErrorCode.DECODING_FAILURE, "G8")}


def test_refusals_hold_nothing_of_the_card(world: World, purchase: Purchase) -> None:
    for error in _refusals(world, purchase):
        text = f"{error!r} {error.detail}"
        assert "6219861" not in text
        assert "6037701" not in text
        assert error.__context__ is None or error.__suppress_context__
