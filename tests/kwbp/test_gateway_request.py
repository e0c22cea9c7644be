"""Gateway on AuthReq: G1, G2 and G4 to G7, each refused for its own reason and without any private key."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import pytest

from kwbp import gateway as protocol
from kwbp.codes import ErrorCode, SaleKind
from kwbp.gateway import EnrolledMerchant, GatewayIdentity, VerifiedOrder
from kwbp.money import Money
from kwbp.wrapper import unwrap
from pki.algorithms import SealingSuite
from pki.oids import CT_AUTH_REQ, CT_DUAL_SIGNATURE, CT_INVOICE
from pki.path import Trust
from tests.kwbp.forge import changed, forged, named_gateway, refused, requested, resealed, signed
from tests.kwbp.world import TOTAL, Purchase, World, site
from tests.support.pki_factory import Credential, PkiFactory, rsa_key

MINUTE = timedelta(minutes=1)
ONE_MORE, ONE_LESS = Money.rial(TOTAL + 1), Money.rial(TOTAL - 1)


def test_order_that_both_signed_is_verified(world: World, purchase: Purchase) -> None:
    verified = world.check_auth_req(requested(world, purchase))
    assert verified.auth_req.amount == verified.invoice.amount == verified.dual.amount == Money.rial(TOTAL)
    assert verified.merchant.merchant_id == "M-1"
    assert verified.cardholder_certificate == world.buyer.certificate
    assert verified.hod == verified.invoice.hod


def test_order_to_reserve_only(world: World) -> None:
    purchase = world.purchase(sale_kind=SaleKind.AUTH_ONLY)
    assert not purchase.verified.auth_req.capture_now


def test_g1_look_up_keys(world: World, purchase: Purchase) -> None:
    received = protocol.receive_auth_req(unwrap(purchase.auth_req_message, expected=[CT_AUTH_REQ]))
    assert (received.xid, received.merchant_id) == (purchase.auth_req.xid, "M-1")
    assert received.digest == purchase.sent.h_auth_req


@pytest.mark.parametrize("header", [{"rrpid": bytes(20)}, {"xid": bytes(20)}, {"xid": None}])
def test_g1_header_of_another_purchase(world: World, purchase: Purchase, header: dict[str, Any]) -> None:
    with refused(ErrorCode.WRAPPER_MSG_MISMATCH, "K2"):
        world.check_auth_req(requested(world, purchase, header=header))


@pytest.mark.parametrize("field", ["invoice", "dual_sig", "pi_envelope"])
def test_g1_object_inside_that_is_something_else(world: World, purchase: Purchase, field: str) -> None:
    body = changed(purchase.auth_req.body, {field: b"\x30\x00"})
    data = signed(world.shop, CT_AUTH_REQ, body)
    with refused(ErrorCode.DECODING_FAILURE, "K4"):
        world.check_auth_req(purchase.auth_req.message(data))


def test_g1_invoice_where_the_dual_signature_belongs(world: World, purchase: Purchase) -> None:
    body = changed(purchase.auth_req.body, {"dual_sig": purchase.invoice_signed})
    with refused(ErrorCode.MESSAGE_NOT_SUPPORTED, "K4"):
        world.check_auth_req(purchase.auth_req.message(signed(world.shop, CT_AUTH_REQ, body)))


@pytest.mark.parametrize(
    "merchant",
    [
        None,
        EnrolledMerchant(merchant_id="M-1", terminal_ids=frozenset({"T0000001"}), active=False),
        EnrolledMerchant(merchant_id="M-2", terminal_ids=frozenset({"T0000001"}), active=True),
        EnrolledMerchant(merchant_id="M-1", terminal_ids=frozenset({"T0000002"}), active=True),
    ],
    ids=["unknown", "suspended", "another", "terminal of another"],
)
def test_g2_merchant_who_may_not(purchase: Purchase, merchant: EnrolledMerchant | None) -> None:
    with refused(ErrorCode.ROLE_NOT_ALLOWED, "G2"):
        protocol.check_sender(purchase.verified.received, merchant, tls_merchant_id="M-1")


def test_g2_connection_of_another_merchant(world: World, purchase: Purchase) -> None:
    with refused(ErrorCode.ROLE_NOT_ALLOWED, "G2"):
        protocol.check_sender(purchase.verified.received, world.enrolled, tls_merchant_id="M-2")


def test_g2_request_signed_by_another_merchant(world: World, purchase: Purchase) -> None:
    with refused(ErrorCode.ROLE_NOT_ALLOWED, "G2"):
        world.check_auth_req(requested(world, purchase, signer=world.other_shop))


def _check(world: World, message: bytes, **changes: Any) -> VerifiedOrder:
    """G1 and G4 to G7 without G2, which would refuse a stranger first."""
    received = protocol.receive_auth_req(unwrap(message, expected=[CT_AUTH_REQ]))
    arguments: dict[str, Any] = {"gateway": world.gateway_identity, "trust": world.trust, "now": world.now}
    return protocol.check_auth_req(received, **(arguments | changes))


def test_g4_foreign_merchant(world: World, purchase: Purchase) -> None:
    foreign = PkiFactory().merchant("M-1", replace=site("M-1"))
    with refused(ErrorCode.INVALID_CERTIFICATE, "G4"):
        world.check_auth_req(requested(world, purchase, signer=foreign))


def test_g4_expired_merchant(world: World, purchase: Purchase) -> None:
    expired = world.pki.merchant("M-1", not_after=world.now - MINUTE)
    with refused(ErrorCode.EXPIRED_CERTIFICATE, "G4"):
        world.check_auth_req(requested(world, purchase, signer=expired))


def test_g4_certificate_of_another_role(world: World, purchase: Purchase) -> None:
    with refused(ErrorCode.ROLE_NOT_ALLOWED, "G4"):
        _check(world, requested(world, purchase, signer=world.gateway_signing))


def test_g4_crl_that_is_missing_or_old(world: World, purchase: Purchase) -> None:
    without = Trust(anchors=world.trust.anchors, intermediates=world.trust.intermediates)
    with refused(ErrorCode.BCI_STALE, "G4"):
        world.check_auth_req(purchase.auth_req_message, trust=without)
    later = world.now + timedelta(days=3)
    message = requested(world, purchase, signing_time=later, date=later)
    with refused(ErrorCode.BCI_STALE, "G4"):
        world.check_auth_req(message, now=later)


def test_g4_request_signed_by_another_key(world: World, purchase: Purchase) -> None:
    data = forged(CT_AUTH_REQ, purchase.auth_req.content, named=world.shop, signed_by=world.other_shop)
    with refused(ErrorCode.SIGNATURE_FAILURE, "G4"):
        world.check_auth_req(purchase.auth_req.message(data))


def test_g4_merchant_not_allowed_to_sell_online(world: World, purchase: Purchase) -> None:
    offline = world.pki.merchant("M-1", online=False)
    with refused(ErrorCode.NOT_ONLINE_MERCHANT, "G4"):
        world.check_auth_req(requested(world, purchase, signer=offline))


def test_g4_request_that_names_another_merchant(world: World, purchase: Purchase) -> None:
    with refused(ErrorCode.ROLE_NOT_ALLOWED, "G4"):
        _check(world, requested(world, purchase, merchant_id="M-2"))


def test_g4_merchant_of_another_acquirer(world: World, purchase: Purchase) -> None:
    foreign = world.pki.merchant("M-1", acquirer_bin="622106")
    with refused(ErrorCode.GATEWAY_MISMATCH, "G4"):
        world.check_auth_req(requested(world, purchase, signer=foreign))


@pytest.mark.parametrize(("minutes", "code"), [(-3, ErrorCode.MESSAGE_TOO_OLD), (3, ErrorCode.MESSAGE_TOO_NEW)])
def test_k7_request_of_another_time(world: World, purchase: Purchase, minutes: int, code: ErrorCode) -> None:
    with refused(code, "K7"):
        world.check_auth_req(requested(world, purchase, signing_time=world.now + minutes * MINUTE))


def test_g5_invoice_of_another_merchant(world: World, purchase: Purchase) -> None:
    with refused(ErrorCode.INVOICE_MISMATCH, "G5"):
        world.check_auth_req(requested(world, purchase, invoice_signer=world.other_shop))


def test_g5_merchant_who_forwards_the_order_of_another(world: World, purchase: Purchase) -> None:
    """Threat 4: M-2 signs an AuthReq of its own around the order that the buyer gave to M-1."""
    message = requested(world, purchase, signer=world.other_shop, merchant_id="M-2")
    with refused(ErrorCode.INVOICE_MISMATCH, "G5"):
        _check(world, message)


def test_g5_invoice_whose_signature_is_broken(world: World, purchase: Purchase) -> None:
    invoice = forged(CT_INVOICE, purchase.invoice.invoice.content, named=world.shop, signed_by=world.other_shop)
    body = changed(purchase.auth_req.body, {"invoice": invoice})
    with refused(ErrorCode.SIGNATURE_FAILURE, "G5"):
        world.check_auth_req(purchase.auth_req.message(signed(world.shop, CT_AUTH_REQ, body)))


def test_g5_invoice_from_the_future(world: World, purchase: Purchase) -> None:
    with refused(ErrorCode.MESSAGE_TOO_NEW, "K7"):
        world.check_auth_req(requested(world, purchase, invoice_time=world.now + 3 * MINUTE))


@pytest.mark.parametrize("amount", [ONE_LESS, ONE_MORE])
@pytest.mark.parametrize("where", ["request", "invoice"])
def test_g5_amount_one_rial_off(world: World, purchase: Purchase, where: str, amount: Money) -> None:
    change: dict[str, Any] = {"amount": amount} if where == "request" else {"invoice": {"amount": amount}}
    with refused(ErrorCode.AMOUNT_MISMATCH, "G5"):
        world.check_auth_req(requested(world, purchase, **change))


@pytest.mark.parametrize(
    "change",
    [
        {"xid": bytes(20)},
        {"hod": bytes(32)},
        {"invoice": {"xid": bytes(20)}},
        {"invoice": {"hod": bytes(32)}},
        {"invoice": {"merchant_id": "M-2"}},
        {"invoice": {"mer_cert_hash": bytes(32)}},
    ],
)
def test_g5_request_and_invoice_disagree(world: World, purchase: Purchase, change: dict[str, Any]) -> None:
    with refused(ErrorCode.INVOICE_MISMATCH, "G5"):
        world.check_auth_req(requested(world, purchase, **change))


@pytest.mark.parametrize("change", [{"gw_id": "GW-2"}, {"gw_cert_hash": bytes(32)}, {"acquirer_bin": "622106"}])
def test_g5_invoice_for_another_gateway(world: World, purchase: Purchase, change: dict[str, Any]) -> None:
    with refused(ErrorCode.GATEWAY_MISMATCH, "G5"):
        world.check_auth_req(requested(world, purchase, invoice=change))


def test_g5_invoice_that_has_run_out(world: World, purchase: Purchase) -> None:
    late = world.now + timedelta(minutes=10, seconds=1)
    message = requested(world, purchase, signing_time=late, date=late)
    with refused(ErrorCode.INVOICE_EXPIRED, "G5"):
        world.check_auth_req(message, now=late)


def test_g6_foreign_card(world: World, purchase: Purchase) -> None:
    with refused(ErrorCode.INVALID_CERTIFICATE, "G6"):
        world.check_auth_req(requested(world, purchase, buyer=PkiFactory().cardholder()))


def test_g6_merchant_who_plays_the_buyer(world: World, purchase: Purchase) -> None:
    with refused(ErrorCode.ROLE_NOT_ALLOWED, "G6"):
        world.check_auth_req(requested(world, purchase, buyer=world.shop))


@pytest.mark.parametrize("who", ["buyer", "shop"])
def test_revoked_between_invoice_and_request(who: str) -> None:
    world = World(PkiFactory())
    purchase = world.purchase()
    revoked: Credential = getattr(world, who)
    world.pki.revoke(revoked)
    with refused(ErrorCode.REVOKED_CERTIFICATE, "G6" if who == "buyer" else "G4"):
        world.check_auth_req(purchase.auth_req_message, trust=world.pki.trust())


def test_g6_dual_signature_of_another_key(world: World, purchase: Purchase) -> None:
    content = purchase.order.dual_signature.content
    dual = forged(CT_DUAL_SIGNATURE, content, named=world.buyer, signed_by=world.shop)
    body = changed(purchase.auth_req.body, {"dual_sig": dual})
    with refused(ErrorCode.SIGNATURE_FAILURE, "G6"):
        world.check_auth_req(purchase.auth_req.message(signed(world.shop, CT_AUTH_REQ, body)))


def test_g6_dual_signature_from_the_future(world: World, purchase: Purchase) -> None:
    with refused(ErrorCode.MESSAGE_TOO_NEW, "K7"):
        world.check_auth_req(requested(world, purchase, dual_time=world.now + 3 * MINUTE))


def test_g6_order_that_waited_at_the_merchant_is_still_good(world: World, purchase: Purchase) -> None:
    late = world.now + 9 * MINUTE
    assert world.check_auth_req(requested(world, purchase, signing_time=late, date=late), now=late)


@pytest.mark.parametrize("amount", [ONE_LESS, ONE_MORE])
def test_g7_buyer_signed_another_amount(world: World, purchase: Purchase, amount: Money) -> None:
    with refused(ErrorCode.AMOUNT_MISMATCH, "G7"):
        world.check_auth_req(requested(world, purchase, dual={"amount": amount}))


@pytest.mark.parametrize("change", [{"h_oi_data": bytes(32)}, {"dual": {"h_oi_data": bytes(32)}}])
def test_g7_other_order_information(world: World, purchase: Purchase, change: dict[str, Any]) -> None:
    with refused(ErrorCode.HASH_MISMATCH, "G7"):
        world.check_auth_req(requested(world, purchase, **change))


@pytest.mark.parametrize(
    "change",
    [
        {"xid": bytes(20)},
        {"lid_m": "order-8"},
        {"merchant_id": "M-2"},
        {"mer_cert_hash": bytes(32)},
        {"invoice_hash": bytes(32)},
        {"sale_kind": SaleKind.AUTH_ONLY},
    ],
)
def test_g7_buyer_signed_something_else(world: World, purchase: Purchase, change: dict[str, Any]) -> None:
    with refused(ErrorCode.INVOICE_MISMATCH, "G7"):
        world.check_auth_req(requested(world, purchase, dual=change))


def test_g7_buyer_signed_another_deadline(world: World, purchase: Purchase) -> None:
    with refused(ErrorCode.INVOICE_MISMATCH, "G7"):
        world.check_auth_req(requested(world, purchase, dual={"not_after": world.now + MINUTE}))


def test_g7_capture_that_the_buyer_did_not_agree_to(world: World) -> None:
    purchase = world.purchase(sale_kind=SaleKind.AUTH_ONLY)
    with refused(ErrorCode.INVOICE_MISMATCH, "G7"):
        world.check_auth_req(requested(world, purchase, capture_now=True))


@pytest.mark.parametrize("change", [{"gw_id": "GW-2"}, {"gw_cert_hash": bytes(32)}])
def test_g7_buyer_meant_another_gateway(world: World, purchase: Purchase, change: dict[str, Any]) -> None:
    with refused(ErrorCode.GATEWAY_MISMATCH, "G7"):
        world.check_auth_req(requested(world, purchase, dual=change))


def test_g7_envelope_that_the_buyer_did_not_sign(world: World, purchase: Purchase) -> None:
    """Threat 8, same gateway: the merchant exchanges the envelope for one of its own making."""
    envelope = resealed(world, purchase, world.gateway_encryption, SealingSuite.OAEP_SHA256)
    with refused(ErrorCode.ENVELOPE_MISMATCH, "G7"):
        world.check_auth_req(requested(world, purchase, pi_envelope=envelope))


def test_g7_envelope_to_another_gateway(world: World, purchase: Purchase) -> None:
    envelope = resealed(world, purchase, world.other_gateway_encryption, SealingSuite.OAEP_SHA256)
    with refused(ErrorCode.ENVELOPE_MISMATCH, "G7"):
        world.check_auth_req(requested(world, purchase, envelope=envelope))


def test_g7_colluding_gateway_that_opened_and_sealed_again(world: World, purchase: Purchase) -> None:
    """Threat 8: GW-1 opens what it got and passes it on to GW-2; the buyer's signature still names GW-1."""
    other = GatewayIdentity.of(world.other_gateway_encryption.certificate)
    envelope = resealed(world, purchase, world.other_gateway_encryption, SealingSuite.OAEP_SHA256)
    message = requested(
        world,
        purchase,
        invoice=named_gateway(world.other_gateway_encryption),
        dual=named_gateway(world.gateway_encryption),
        pi_envelope=envelope,
    )
    with refused(ErrorCode.GATEWAY_MISMATCH, "G7"):
        world.check_auth_req(message, gateway=other)


def _gateway_with(world: World, suites: tuple[str, ...]) -> Credential:
    return world.pki.gateway_encryption("GW-1", suites=suites, key=rsa_key(0))


def test_g7_suite_that_the_certificate_does_not_name(world: World, purchase: Purchase) -> None:
    sha1_only = _gateway_with(world, ("oaep-sha1",))
    envelope = resealed(world, purchase, sha1_only, SealingSuite.OAEP_SHA256)
    message = requested(
        world, purchase, invoice=named_gateway(sha1_only), dual=named_gateway(sha1_only), envelope=envelope
    )
    with refused(ErrorCode.ENVELOPE_MISMATCH, "G7"):
        world.check_auth_req(message, gateway=GatewayIdentity.of(sha1_only.certificate))


def test_verified_orders_are_made_by_the_checks_only(purchase: Purchase) -> None:
    verified = purchase.verified
    with pytest.raises(TypeError, match="made by"):
        VerifiedOrder(
            dual=verified.dual,
            dual_signature=verified.dual_signature,
            envelope=verified.envelope,
            hod=verified.hod,
            gateway=verified.gateway,
            _made_by_checks=object(),
        )


def _sealed_order(world: World, purchase: Purchase, **changes: Any) -> VerifiedOrder:
    arguments: dict[str, Any] = {
        "dual_signature": purchase.dual_signed,
        "pi_envelope": purchase.order.pi_envelope,
        "hod": purchase.auth_req.body.hod,
        "gateway": world.gateway_identity,
        "trust": world.trust,
        "now": world.now,
        "check_revocation": True,
    }
    return protocol.check_sealed_order(**(arguments | changes))


def test_keeper_of_the_key_checks_for_itself(world: World, purchase: Purchase) -> None:
    order = _sealed_order(world, purchase)
    assert order.dual_signature.digest == purchase.verified.dual_signature.digest
    assert world.check_opened(purchase.plaintext, order).pan == world.card.pan


def test_keeper_of_the_key_may_leave_revocation_to_the_gateway(world: World, purchase: Purchase) -> None:
    without = Trust(anchors=world.trust.anchors, intermediates=world.trust.intermediates)
    with refused(ErrorCode.BCI_STALE, "G6"):
        _sealed_order(world, purchase, trust=without)
    assert _sealed_order(world, purchase, trust=without, check_revocation=False)


def test_keeper_of_the_key_refuses_another_envelope(world: World, purchase: Purchase) -> None:
    envelope = resealed(world, purchase, world.gateway_encryption, SealingSuite.OAEP_SHA256)
    with refused(ErrorCode.ENVELOPE_MISMATCH, "G7"):
        _sealed_order(world, purchase, pi_envelope=envelope)


def test_keeper_of_the_key_refuses_an_old_order(world: World, purchase: Purchase) -> None:
    with refused(ErrorCode.INVOICE_EXPIRED, "G7"):
        _sealed_order(world, purchase, now=world.now + timedelta(minutes=10, seconds=1))
