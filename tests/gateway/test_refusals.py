"""What the gateway refuses: the code that is told, the check that refused, and that nothing else happened.

`kwbp` proves each check one by one; here it is shown that the gateway runs them, in its order, on real certificates and
CRLs, and that a refusal before the order is opened uses no decryption key and leaves nothing in the order book.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest

from audit import read
from kwbp import wallet
from kwbp.codes import AuthCode
from kwbp.common import Draft
from kwbp.error_message import read_error
from kwbp.messages import AuthReqTBS
from kwbp.money import Money
from kwbp.structure import decode
from kwbp.wrapper import MEDIA_TYPE, KwbpMessage, unwrap, wrap
from pki.cms_enveloped import SealingSuite, seal
from pki.cms_signed import parse_signed_data
from pki.oids import CT_AUTH_ACK, CT_AUTH_REQ, CT_ERROR
from pki.roles import Role
from runtime.client import http_client
from runtime.settings import Home
from tests.support.payment_parties import Buyer, Purchase, Shop, auth_res_of, error_of, now, signed_by
from tests.support.payment_site import OPENING, Site, wait_for

Forge = Callable[[Site, Purchase], bytes]


def resigned(purchase: Purchase, **changes: Any) -> bytes:
    """The AuthReq with other fields, signed by the merchant again: what a dishonest shop can send."""
    body = decode(AuthReqTBS, signed_content(purchase))
    draft = Draft.of(CT_AUTH_REQ, replace(body, **changes), rrpid=body.rrpid, xid=changes.get("xid", body.xid))
    return draft.message(signed_by(purchase.shop.credential, draft))


def signed_content(purchase: Purchase) -> bytes:
    return parse_signed_data(purchase.signed, content_type=CT_AUTH_REQ).content


def rewrapped(purchase: Purchase, body: bytes) -> bytes:
    return wrap(CT_AUTH_REQ, body, rrpid=purchase.sent.rrpid, xid=purchase.xid)


def flipped(data: bytes, at: int) -> bytes:
    return data[:at] + bytes([data[at] ^ 1]) + data[at + 1 :]


def other_purchase(site: Site, purchase: Purchase) -> Purchase:
    return site.purchase(purchase.shop, purchase.buyer, purchase.amount)


def auth_req_of(purchase: Purchase) -> AuthReqTBS:
    return decode(AuthReqTBS, signed_content(purchase))


BEFORE_OPENING: dict[str, tuple[Forge, str, str]] = {
    "merchant's signature": (
        lambda site, p: rewrapped(p, flipped(p.signed, len(p.signed) - 5)),
        "signatureFailure",
        "G4",
    ),
    "XID of the wrapper": (
        lambda site, p: wrap(CT_AUTH_REQ, p.signed, rrpid=p.sent.rrpid, xid=bytes(20)),
        "wrapperMsgMismatch",
        "K2",
    ),
    "RRPID of the wrapper": (
        lambda site, p: wrap(CT_AUTH_REQ, p.signed, rrpid=bytes(20), xid=p.xid),
        "wrapperMsgMismatch",
        "K2",
    ),
    "bytes behind the SignedData": (lambda site, p: rewrapped(p, p.signed + b"\0"), "decodingFailure", "K4"),
    "body cut short": (lambda site, p: rewrapped(p, p.signed[:-1]), "decodingFailure", "K4"),
    "one rial more": (lambda site, p: resigned(p, amount=Money.rial(p.amount + 1)), "amountMismatch", "G5"),
    "one rial less": (lambda site, p: resigned(p, amount=Money.rial(p.amount - 1)), "amountMismatch", "G5"),
    "another order's XID": (lambda site, p: resigned(p, xid=os.urandom(20)), "invoiceMismatch", "G5"),
    "another terminal": (lambda site, p: resigned(p, terminal_id="T9999999"), "roleNotAllowed", "G2"),
    "another merchant's name": (lambda site, p: resigned(p, merchant_id="SHOP-0"), "roleNotAllowed", "G2"),
    "another order's invoice": (
        lambda site, p: resigned(p, invoice=auth_req_of(other_purchase(site, p)).invoice),
        "invoiceMismatch",
        "G5",
    ),
    "another order's dual signature": (
        lambda site, p: resigned(p, dual_sig=auth_req_of(other_purchase(site, p)).dual_sig),
        "hashMismatch",
        "G7",
    ),
    "another order's envelope": (
        lambda site, p: resigned(p, pi_envelope=auth_req_of(other_purchase(site, p)).pi_envelope),
        "envelopeMismatch",
        "G7",
    ),
    "another hash of the order information": (
        lambda site, p: resigned(p, h_oi_data=os.urandom(32)),
        "hashMismatch",
        "G7",
    ),
    "no capture, against the buyer's word": (
        lambda site, p: resigned(p, capture_now=False),
        "invoiceMismatch",
        "G7",
    ),
}


@pytest.mark.parametrize("case", BEFORE_OPENING.values(), ids=BEFORE_OPENING.keys())
def test_one_wrong_thing_is_refused_and_nothing_is_opened(
    site: Site, gateway: str, shop: Shop, buyer: Buyer, case: tuple[Forge, str, str]
) -> None:
    forge, code, clause = case
    purchase = site.purchase(shop, buyer)
    message = forge(site, purchase)
    opened = site.key_uses("gateway-encryption")
    # What nobody of ours has signed is refused without a signature of ours (threat 40).
    signed = code != "signatureFailure" and clause != "K4"
    error = error_of(shop.post(gateway, "/v1/auth", message).content, message, site, signed=signed)
    assert (error.error_code.protocol_name, error.clause) == (code, clause)
    assert site.key_uses("gateway-encryption") == opened
    assert buyer.balance == OPENING
    # The order book is as it was: the honest request is collected as if nothing had been.
    assert purchase.checked_answer(shop.collect(gateway, purchase)).approved


@pytest.mark.parametrize(
    "body",
    [b"", b"hello", b"\x30\x80\x00\x00", b"\x30\x03\x02\x01\x02", os.urandom(1000)],
    ids=["nothing", "text", "BER", "another structure", "noise"],
)
def test_what_is_no_message_gets_an_unsigned_error_and_costs_no_key(
    site: Site, gateway: str, shop: Shop, body: bytes
) -> None:
    signed = site.key_uses("gateway-signing")
    answer = shop.post(gateway, "/v1/auth", body)
    assert (answer.status_code, answer.headers["content-type"]) == (200, MEDIA_TYPE)
    received = read_error(
        unwrap(answer.content, expected=(CT_ERROR,)),
        sent=body,
        role=Role.GATEWAY_SIGNING,
        trust=site.pki.trust(now()),
        now=now(),
    )
    assert received.signer is None
    assert (received.body.error_code.protocol_name, received.body.clause) == ("decodingFailure", "K1")
    assert site.key_uses("gateway-signing") == signed


def test_a_message_of_another_kind_is_not_served_here(site: Site, gateway: str, shop: Shop, buyer: Buyer) -> None:
    purchase = site.purchase(shop, buyer)
    message = wrap(CT_AUTH_ACK, purchase.signed, rrpid=purchase.sent.rrpid, xid=purchase.xid)
    answer = shop.post(gateway, "/v1/auth", message).content
    received = read_error(
        unwrap(answer, expected=(CT_ERROR,)),
        sent=message,
        role=Role.GATEWAY_SIGNING,
        trust=site.pki.trust(now()),
        now=now(),
    )
    assert received.body.error_code.protocol_name == "messageNotSupported"


def test_too_much_is_refused_before_it_is_read(gateway: str, shop: Shop) -> None:
    answer = shop.post(gateway, "/v1/auth", bytes(256 * 1024 + 1))
    assert (answer.status_code, answer.json()["type"]) == (413, "urn:kwbp:problem:message-too-big")


def test_another_media_type_is_refused(gateway: str, shop: Shop, site: Site, buyer: Buyer) -> None:
    with http_client(shop.tls, gateway) as client:
        answer = client.post("/v1/auth", content=site.purchase(shop, buyer).message)
    assert (answer.status_code, answer.json()["type"]) == (415, "urn:kwbp:problem:unsupported-media-type")


def test_a_stream_of_refused_messages_costs_a_bounded_number_of_signatures(
    site: Site, gateway: str, shop: Shop, buyer: Buyer
) -> None:
    purchase = site.purchase(shop, buyer)
    junk = wrap(CT_AUTH_REQ, purchase.signed, rrpid=purchase.sent.rrpid, xid=bytes(20))  # signed, and wrong (K2)
    signed = site.key_uses("gateway-signing")
    with http_client(shop.tls, gateway) as client:
        for _ in range(300):
            answer = client.post("/v1/auth", content=junk, headers={"content-type": MEDIA_TYPE})
            assert answer.status_code == 200
    assert 0 < site.key_uses("gateway-signing") - signed <= 120
    assert decode(KwbpMessage, answer.content).msg_type == CT_ERROR
    assert purchase.checked_answer(shop.collect(gateway, purchase)).approved


# --- who sends --------------------------------------------------------------------------------------------------------


def test_an_order_of_another_merchant_is_not_taken_from_this_one(
    site: Site, gateway: str, shop: Shop, buyer: Buyer
) -> None:
    thief = site.new_shop()
    site.register(gateway, thief)
    purchase = site.purchase(shop, buyer)
    error = error_of(thief.post(gateway, "/v1/auth", purchase.message).content, purchase.message, site)
    assert (error.error_code.protocol_name, error.clause) == ("roleNotAllowed", "G2")


@pytest.mark.parametrize("registration", [None, {"active": False}], ids=["unknown", "inactive"])
def test_a_merchant_that_may_not_sell_here(
    site: Site, gateway: str, buyer: Buyer, registration: dict[str, Any] | None
) -> None:
    shop = site.new_shop()
    if registration is not None:
        site.register(gateway, shop, **registration)
    purchase = site.purchase(shop, buyer)
    error = error_of(shop.collect(gateway, purchase), purchase.message, site)
    assert (error.error_code.protocol_name, error.clause) == ("roleNotAllowed", "G2")


@pytest.mark.parametrize("who", ["merchant", "cardholder"])
def test_a_revocation_counts_in_the_next_order(site: Site, gateway: str, shop: Shop, who: str) -> None:
    buyer = site.buyer()
    before, after = site.purchase(shop, buyer), site.purchase(shop, buyer)
    assert before.checked_answer(shop.collect(gateway, before)).approved
    site.pki.revoke(shop.credential if who == "merchant" else buyer.credential)
    site.publish()
    opened = site.key_uses("gateway-encryption")
    error = error_of(shop.collect(gateway, after), after.message, site)
    clause = "G4" if who == "merchant" else "G6"
    assert (error.error_code.protocol_name, error.clause) == ("revokedCertificate", clause)
    assert site.key_uses("gateway-encryption") == opened
    # What was collected before stays collected, and is told again.
    assert shop.collect(gateway, before) == shop.collect(gateway, before)


def test_status_that_cannot_be_had_stops_orders_and_refuses_none(
    site: Site, gateway: str, shop: Shop, buyer: Buyer
) -> None:
    purchase = site.purchase(shop, buyer)
    crls = site.home.pki / "crls"
    crls.rename(crls.with_name("crls-away"))
    try:
        answer = shop.post(gateway, "/v1/auth", purchase.message)
    finally:
        crls.with_name("crls-away").rename(crls)
    assert (answer.status_code, answer.json()["type"]) == (503, "urn:kwbp:problem:status-unavailable")
    assert purchase.checked_answer(shop.collect(gateway, purchase)).approved


# --- what is sealed ---------------------------------------------------------------------------------------------------


def _sealed_wrongly(site: Site, shop: Shop, how: str) -> Purchase:
    """An order whose buyer signed an envelope that does not hold what it should."""
    buyer = site.buyer()
    if how == "another card than the certificate's":
        return site.purchase(shop, buyer, card=replace(buyer.card, pan_secret=os.urandom(32)))
    if how == "another expiry than the certificate's":
        other = wallet.Card(
            pan=buyer.card.pan,
            expiry=type(buyer.card.expiry)("1512"),
            card_secret=buyer.card.card_secret,
            pan_secret=buyer.card.pan_secret,
            pin2=buyer.card.pin2,
            cvv2=buyer.card.cvv2,
        )
        return site.purchase(shop, buyer, card=other)
    certificate = site.encryption.certificate
    noise = seal(os.urandom(900), certificate, SealingSuite.OAEP_SHA1, rng=os.urandom)
    return site.purchase(shop, buyer, envelope=noise if how == "noise" else flipped(noise, len(noise) - 40))


SEALED = ["noise", "a wrong tag", "another card than the certificate's", "another expiry than the certificate's"]


def test_whatever_is_wrong_inside_looks_the_same_outside(site: Site, gateway: str, shop: Shop) -> None:
    seen = set()
    for how in SEALED:
        purchase = _sealed_wrongly(site, shop, how)
        opened = site.key_uses("gateway-encryption")
        answer = shop.collect(gateway, purchase)
        error = error_of(answer, purchase.message, site)
        seen.add(
            (
                error.error_code.protocol_name,
                error.clause,
                error.time_hint,
                len(unwrap(answer, expected=(CT_ERROR,)).body),
            )
        )
        assert site.key_uses("gateway-encryption") == opened + 1, how
        # The refusal is final: the same bytes are answered from the book, and the envelope is not tried again.
        assert shop.collect(gateway, purchase) == answer
        assert site.key_uses("gateway-encryption") == opened + 1, how
        assert shop.order(gateway, purchase.xid)["state"] == "DECLINED"
    assert {each[:3] for each in seen} == {("decodingFailure", "G8", None)}
    assert len({each[3] for each in seen}) == 1


def test_a_refused_sealed_order_uses_up_its_xid(site: Site, gateway: str, shop: Shop) -> None:
    purchase = _sealed_wrongly(site, shop, "noise")
    shop.collect(gateway, purchase)
    other = shop.post(gateway, "/v1/auth", purchase.again()).content
    assert auth_res_of(other).auth_code is AuthCode.PI_PREVIOUSLY_USED


def test_nothing_is_signed_about_a_used_xid_for_a_merchant_whose_signature_does_not_hold(
    site: Site, gateway: str, shop: Shop, buyer: Buyer
) -> None:
    purchase = site.purchase(shop, buyer)
    shop.collect(gateway, purchase)
    forged = rewrapped(purchase, flipped(purchase.signed, len(purchase.signed) - 5))
    error = error_of(shop.post(gateway, "/v1/auth", forged).content, forged, site, signed=False)
    assert (error.error_code.protocol_name, error.clause) == ("signatureFailure", "G4")
    assert shop.order(gateway, purchase.xid)["state"] == "APPROVED"


# --- acknowledgements -------------------------------------------------------------------------------------------------


def test_acknowledgements_are_judged_too(site: Site, gateway: str, shop: Shop, buyer: Buyer) -> None:
    purchase, other = site.purchase(shop, buyer), site.purchase(shop, buyer)
    answer, other_answer = shop.collect(gateway, purchase), shop.collect(gateway, other)
    ack = purchase.ack(answer)
    thief = site.new_shop()
    site.register(gateway, thief)

    error = error_of(thief.acknowledge(gateway, ack), ack, site)
    assert (error.error_code.protocol_name, error.clause) == ("unknownXid", "B2")

    body = unwrap(ack, expected=(CT_AUTH_ACK,)).body
    forged = wrap(CT_AUTH_ACK, flipped(body, len(body) - 5), rrpid=purchase.sent.rrpid, xid=purchase.xid)
    error = error_of(shop.acknowledge(gateway, forged), forged, site, signed=False)
    assert (error.error_code.protocol_name, error.clause) == ("signatureFailure", "K6")

    other_body = unwrap(other.ack(other_answer), expected=(CT_AUTH_ACK,)).body
    swapped = wrap(CT_AUTH_ACK, other_body, rrpid=purchase.sent.rrpid, xid=purchase.xid)
    error = error_of(shop.acknowledge(gateway, swapped), swapped, site)
    assert error.error_code.protocol_name == "wrapperMsgMismatch"

    assert shop.order(gateway, purchase.xid)["state"] == "APPROVED"
    assert shop.acknowledge(gateway, ack) == b""


def test_an_order_that_was_never_asked_for_cannot_be_acknowledged(
    site: Site, gateway: str, shop: Shop, buyer: Buyer
) -> None:
    purchase = site.purchase(shop, buyer)
    body = unwrap(purchase.message, expected=(CT_AUTH_REQ,)).body
    message = wrap(CT_AUTH_ACK, body, rrpid=os.urandom(20), xid=os.urandom(20))
    error = error_of(shop.acknowledge(gateway, message), message, site, signed=False)
    assert (error.error_code.protocol_name, error.clause) == ("unknownXid", "B2")


# --- what is recorded -------------------------------------------------------------------------------------------------


def test_the_exact_cause_is_in_the_journal_and_nowhere_else(site: Site, tmp_path: Any, buyer: Buyer) -> None:
    home: Home = site.gateway_home(tmp_path / "home")
    shop = site.new_shop()
    with site.gateway(home) as url:
        site.register(url, shop)
        purchase = site.purchase(shop, buyer)
        forged = resigned(purchase, amount=Money.rial(purchase.amount + 1))
        shop.post(url, "/v1/auth", forged)
        wait_for(lambda: (home.audit / "gateway.jsonl").stat().st_size > 0)
    (entry,) = [each.entry for each in read(home.audit / "gateway.jsonl")]
    assert (entry["event"], entry["check"], entry["code"]) == ("refused", "G5", "amountMismatch")
    assert (entry["caller"], entry["xid"]) == (f"merchant:{shop.merchant_id}", purchase.xid.hex())
