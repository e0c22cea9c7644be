"""Threats against what is bought, from whom, for how much, through whom, and against the answers: software keys alone.

One test for each row of the threat table, named after it (`threats.yaml`). `tests/kwbp` proves every check one by one;
here the attacker of the row does what the row says, to everybody whom it could be done to.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from typing import Any, Final

import pytest

from kwbp import gateway as protocol
from kwbp.codes import AuthCode, CompletionCode, ErrorCode
from kwbp.errors import ProtocolError
from kwbp.money import Money
from kwbp.structure import encode
from kwbp.wrapper import unwrap
from pki import der
from pki.algorithms import SealingSuite
from pki.oids import CT_AUTH_REQ, CT_AUTH_RES
from pki.path import Trust
from tests.hostile.receivers import Receivers
from tests.kwbp.forge import (
    answered,
    changed,
    forged,
    named_gateway,
    offered,
    ordered,
    receipted,
    refused,
    requested,
    resealed,
    sealed,
    signed,
)
from tests.kwbp.world import TOTAL, Purchase, World
from tests.support.judges import attime, run
from tests.support.pki_factory import Credential, PkiFactory, pem

MINUTE: Final = timedelta(minutes=1)
E = ErrorCode


def open_as_gateway(world: World, purchase: Purchase, plaintext: bytes, h_pi_data: bytes) -> None:
    """The gateway opens what a lying wallet sealed, having signed the hash of it."""
    world.check_opened(plaintext, world.check_auth_req(requested(world, purchase, dual={"h_pi_data": h_pi_data})))


def test_the_honest_messages_pass(to: Receivers, purchase: Purchase) -> None:
    """Positive control of everything below."""
    for message, read in to.honest(purchase).values():
        read(message)


# --- what is bought, from whom, for how much, through whom ------------------------------------------------------------


def test_03_splice_of_one_order_with_the_payment_of_another(
    world: World, to: Receivers, purchase: Purchase, other: Purchase
) -> None:
    """All 2^k mixes are in tests/kwbp/test_splice.py; here the row's own, wherever it could be tried."""
    swapped: dict[str, Any] = {"pi_envelope": other.order.pi_envelope}
    with refused(E.ENVELOPE_MISMATCH, "M8"):
        to.merchant_on_order(ordered(world, purchase, preq=swapped))
    with refused(E.ENVELOPE_MISMATCH, "G7"):
        to.gateway(requested(world, purchase, **swapped))
    with refused(E.HASH_MISMATCH, "G7"):
        to.gateway(requested(world, purchase, h_oi_data=other.auth_req.body.h_oi_data))
    with refused(E.HASH_MISMATCH, "G9"):
        world.check_opened(other.plaintext, purchase.verified)


def test_04_merchant_substitution(world: World, to: Receivers, purchase: Purchase) -> None:
    """M-2 got hold of an order that was meant for M-1, and collects it: registered, with its own connection and key."""

    def collect(message: bytes) -> None:
        received = protocol.receive_auth_req(unwrap(message, expected=[CT_AUTH_REQ]))
        protocol.check_sender(received, replace(world.enrolled, merchant_id="M-2"), tls_merchant_id="M-2")
        protocol.check_auth_req(received, gateway=world.gateway_identity, trust=world.trust, now=world.now)

    with refused(E.ROLE_NOT_ALLOWED, "G2"):
        collect(purchase.auth_req_message)
    with refused(E.INVOICE_MISMATCH, "G5"):  # around the invoice of M-1
        collect(requested(world, purchase, signer=world.other_shop, merchant_id="M-2"))
    own = {"merchant_id": "M-2", "mer_cert_hash": der.sha256(world.other_shop.der)}
    with refused(E.INVOICE_MISMATCH, "G7"):  # around an invoice of its own for the same XID
        collect(
            requested(
                world, purchase, signer=world.other_shop, merchant_id="M-2",
                invoice=own, invoice_signer=world.other_shop, dual_sig=purchase.dual_signed,
            )
        )  # fmt: skip


Place = Callable[[World, Receivers, Purchase, Money], None]

AMOUNTS: Final[dict[str, tuple[Place, str]]] = {
    "invoice, to the wallet": (lambda w, to, p, m: to.wallet_on_invoice(offered(w, p, amount=m)), "W3"),
    "order lines, to the wallet": (lambda w, to, p, m: to.wallet_on_invoice(offered(w, p, order={"total": m})), "W3"),
    "order information, to the merchant": (
        lambda w, to, p, m: to.merchant_on_order(ordered(w, p, oi={"amount": m})),
        "M4",
    ),
    "dual signature, to the merchant": (
        lambda w, to, p, m: to.merchant_on_order(ordered(w, p, dual={"amount": m})),
        "M7",
    ),
    "request, to the gateway": (lambda w, to, p, m: to.gateway(requested(w, p, amount=m)), "G5"),
    "invoice, to the gateway": (lambda w, to, p, m: to.gateway(requested(w, p, invoice={"amount": m})), "G5"),
    "dual signature, to the gateway": (lambda w, to, p, m: to.gateway(requested(w, p, dual={"amount": m})), "G7"),
    "answer, to the merchant": (lambda w, to, p, m: to.merchant_on_answer(answered(w, p, amount=m)), "A4"),
    "answer in the receipt, to the wallet": (
        lambda w, to, p, m: to.wallet_on_receipt(receipted(w, p, answer={"amount": m})),
        "R5",
    ),
}
"""Each place of a purchase that says the amount: who judges it, and at which check an amount in form is refused."""


OUT_OF_FORM: Final = (
    Money(currency=840, amount=TOTAL, exp=0),
    Money(currency=365, amount=TOTAL, exp=0),
    Money(currency=364, amount=TOTAL, exp=1),
    Money(currency=364, amount=TOTAL // 10, exp=-1),
)


def test_05_amount_change(world: World, to: Receivers, purchase: Purchase) -> None:
    for offer, check in AMOUNTS.values():
        for difference in (-1, 1):
            with refused(E.AMOUNT_MISMATCH, check):
                offer(world, to, purchase, Money.rial(TOTAL + difference))
    for difference in (-1, 1):
        with refused(E.HASH_MISMATCH, "G9"):
            open_as_gateway(world, purchase, *sealed(purchase, head={"amount": Money.rial(TOTAL + difference)}))


def test_06_currency_or_exponent_change(world: World, to: Receivers, purchase: Purchase) -> None:
    """Rial for toman, for dollar, or with decimal places: the first is another amount, the others are out of form."""
    for offer, check in AMOUNTS.values():
        for toman in (TOTAL // 10, TOTAL * 10):
            with refused(E.AMOUNT_MISMATCH, check):
                offer(world, to, purchase, Money.rial(toman))
        for money in OUT_OF_FORM:
            with refused(E.AMOUNT_MISMATCH, "K1"):
                offer(world, to, purchase, money)
    with refused(E.DECODING_FAILURE, "G9"):
        open_as_gateway(world, purchase, *sealed(purchase, head={"amount": OUT_OF_FORM[0]}))


def test_07_gateway_certificate_substitution(world: World, to: Receivers, purchase: Purchase) -> None:
    """A merchant that would like to read the card: its invoice, well signed, names a gateway of its own making."""
    pki = world.pki
    rogues: list[tuple[Credential, ErrorCode, str]] = [
        (PkiFactory().gateway_encryption("GW-1"), E.INVALID_CERTIFICATE, "W6"),
        (pki.gateway_encryption("GW-1", issuer=pki.merchant_ca), E.ROLE_NOT_ALLOWED, "W6"),
        (pki.gateway_encryption("GW-1", not_after=world.now - MINUTE), E.EXPIRED_CERTIFICATE, "W6"),
        (pki.gateway_encryption("GW-1", acquirer_bin="622106"), E.GATEWAY_MISMATCH, "W7"),
    ]
    for rogue, code, check in rogues:
        with refused(code, check):
            to.wallet_on_invoice(offered(world, purchase, gateway=rogue, **named_gateway(rogue)))
    with refused(E.GATEWAY_MISMATCH, "W6"):  # or it signs one and sends another
        to.wallet_on_invoice(offered(world, purchase, gateway=world.other_gateway_encryption))
    with refused(E.ROLE_NOT_ALLOWED, "W6"):
        to.wallet_on_invoice(offered(world, purchase, gateway=world.shop, gw_cert_hash=der.sha256(world.shop.der)))


def test_08_reencryption_to_a_second_gateway(world: World, to: Receivers, purchase: Purchase) -> None:
    """A gateway that opened an order seals it on to a second one, which has the merchant's help and not the buyer's."""
    again = resealed(world, purchase, world.other_gateway_encryption, SealingSuite.OAEP_SHA256)
    second = protocol.GatewayIdentity.of(world.other_gateway_encryption.certificate)
    with refused(E.ENVELOPE_MISMATCH, "M8"):
        to.merchant_on_order(ordered(world, purchase, preq={"pi_envelope": again}))
    named = named_gateway(world.other_gateway_encryption)
    ways: tuple[dict[str, Any], ...] = ({}, {"invoice": named})
    for changes in ways:
        message = requested(world, purchase, **changes, dual_sig=purchase.dual_signed, pi_envelope=again)
        with pytest.raises(ProtocolError) as caught:
            world.check_auth_req(message, gateway=second)
        assert caught.value.check in ("G5", "G7")
    with refused(E.ENVELOPE_MISMATCH, "G7"):  # resealed to the same gateway, it is still not what the buyer signed
        twice = resealed(world, purchase, world.gateway_encryption, SealingSuite.OAEP_SHA256)
        to.gateway(requested(world, purchase, pi_envelope=twice))
    with refused(E.HASH_MISMATCH, "G9"):  # and if the buyer is made to sign the envelope, the head inside tells
        plaintext, h_pi_data = sealed(purchase, head=named)
        open_as_gateway(world, purchase, plaintext, h_pi_data)


# --- status of certificates -------------------------------------------------------------------------------------------


def test_09_stale_certificate_crl_or_bci(world: World, to: Receivers, purchase: Purchase, tmp_path: Path) -> None:
    later = world.now + timedelta(days=3)
    world.pki.write(tmp_path)
    (tmp_path / "shop.pem").write_bytes(pem(world.shop.certificate))
    judge = ("openssl", "verify", "-crl_check_all", "-CAfile", tmp_path / "root.pem", "-untrusted",
             tmp_path / "cas.pem", "-CRLfile", tmp_path / "crls.pem")  # fmt: skip
    assert run(*judge, *attime(world.now), tmp_path / "shop.pem").returncode == 0
    stale = run(*judge, *attime(later), tmp_path / "shop.pem")
    assert b"CRL has expired" in stale.stderr

    with refused(E.BCI_STALE, "G4"):
        world.check_auth_req(requested(world, purchase, signing_time=later, date=later), now=later)
    missing = Trust(anchors=world.trust.anchors, intermediates=world.trust.intermediates)
    for message, read in to.honest(purchase).values():
        with pytest.raises(ProtocolError) as caught:
            read(message, trust=missing)
        assert caught.value.code is E.BCI_STALE
    with refused(E.BCI_STALE, "W9"):
        world.check_invoice(purchase.invoice_message, purchase.request, bci_seen=1)


def test_10_revoked_card_merchant_or_gateway() -> None:
    """Each is revoked between invoice and order; nobody goes on with what it signed or would have to be sealed to."""
    for who in ("buyer", "shop", "gateway_encryption", "gateway_signing"):
        world = World(PkiFactory())
        purchase = world.purchase()
        to = Receivers(world, purchase)
        world.pki.revoke(getattr(world, who))
        trust = world.pki.trust()
        suspects = {
            "buyer": ((ordered(world, purchase), to.merchant_on_order), (requested(world, purchase), to.gateway)),
            "shop": (
                (offered(world, purchase), to.wallet_on_invoice),
                (requested(world, purchase), to.gateway),
                (receipted(world, purchase), to.wallet_on_receipt),
            ),
            "gateway_encryption": ((offered(world, purchase), to.wallet_on_invoice),),
            "gateway_signing": (
                (answered(world, purchase), to.merchant_on_answer),
                (receipted(world, purchase), to.wallet_on_receipt),
            ),
        }
        for message, read in suspects[who]:
            with pytest.raises(ProtocolError) as caught:
                read(message, trust=trust)
            assert caught.value.code is E.REVOKED_CERTIFICATE, who


# --- answers ----------------------------------------------------------------------------------------------------------


def test_16_response_substitution(world: World, to: Receivers, purchase: Purchase, other: Purchase) -> None:
    """A decline made an approval, the approval of another order, an older one, one of another gateway."""
    declined = world.answer(purchase.verified, auth_code=AuthCode.DECLINED, rc="51", approval=None)
    honest = world.gateway_signing.sign(CT_AUTH_RES, declined.content)
    assert not world.check_answer(declined.message(honest), purchase.sent).approved
    flipped = encode(changed(declined.body, {"auth_code": AuthCode.APPROVED}))
    assert honest.count(declined.content) == 1
    assert len(flipped) == len(declined.content)
    for read, wrapped in (
        (to.merchant_on_answer, declined.message(honest.replace(declined.content, flipped))),
        (to.wallet_on_receipt, receipted(world, purchase, auth_res=honest.replace(declined.content, flipped))),
    ):
        with pytest.raises(ProtocolError) as caught:
            read(wrapped)
        assert caught.value.code is E.SIGNATURE_FAILURE
    with refused(E.HASH_MISMATCH, "A1"):
        to.merchant_on_answer(other.auth_res.message(other.auth_res_signed))
    for field in ("chall_c", "xid", "h_dual_sig"):
        with refused(E.CHALLENGE_MISMATCH, "A3"):
            to.merchant_on_answer(answered(world, purchase, **{field: getattr(other.auth_res.body, field)[::-1]}))
    with refused(E.INVOICE_MISMATCH, "A2"):
        to.merchant_on_answer(answered(world, purchase, mer_cert_hash=bytes(32)))
    with refused(E.MESSAGE_TOO_OLD, "A7"):
        to.merchant_on_answer(answered(world, purchase, signing_time=world.now - 10 * MINUTE))
    with refused(E.GATEWAY_MISMATCH, "A6"):
        to.merchant_on_answer(answered(world, purchase, signer=world.other_gateway_signing))


def test_17_fake_gateway_response_by_the_merchant(
    world: World, to: Receivers, purchase: Purchase, other: Purchase
) -> None:
    """A merchant writes a receipt for money that it never asked for."""
    invented = signed(world.shop, CT_AUTH_RES, purchase.auth_res.body)
    with refused(E.ROLE_NOT_ALLOWED, "R4"):
        to.wallet_on_receipt(receipted(world, purchase, auth_res=invented))
    named = forged(CT_AUTH_RES, purchase.auth_res.content, named=world.gateway_signing, signed_by=world.shop)
    with refused(E.SIGNATURE_FAILURE, "R4"):
        to.wallet_on_receipt(receipted(world, purchase, auth_res=named))
    foreign = PkiFactory().gateway_signing("GW-1")
    with refused(E.INVALID_CERTIFICATE, "R4"):
        to.wallet_on_receipt(receipted(world, purchase, gateway=foreign))
    with refused(E.INVOICE_MISMATCH, "R5"):
        to.wallet_on_receipt(receipted(world, purchase, auth_res=other.auth_res_signed))
    for nothing in (b"\x00", b"\x30\x00", purchase.invoice_signed):
        with pytest.raises(ProtocolError):
            to.wallet_on_receipt(receipted(world, purchase, auth_res=nothing))
    with refused(E.INVOICE_MISMATCH, "R6"):  # the gateway declined, the merchant says paid
        declined = {"auth_code": AuthCode.DECLINED, "rc": "51", "approval": None}
        to.wallet_on_receipt(
            receipted(world, purchase, answer=declined, completion_code=CompletionCode.CAPTURE_PERFORMED)
        )
