"""The order with two signatures before a judge: what it adds, and what is said of one that does not hold."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
from cryptography.hazmat import asn1
from cryptography.x509 import ObjectIdentifier

from kwbp.contract import DualLink, build_contract
from pki import cms_signed
from pki.cms_joined import _write
from pki.cms_signed import _AttributeSet, assemble_signed_data, build_signed_attributes, sign_signed_attributes
from pki.cms_structures import Attribute, ContentInfo
from pki.der import any_value, decode, encode, tlv
from pki.oids import CT_INVOICE, CT_RECEIPT
from storefront.evidence.bundle import write_bundle
from storefront.evidence.claims import Claim, Verdict
from storefront.evidence.folder import read_folder
from storefront.evidence.judgement import Conclusion, judge
from storefront.evidence.statements import About, State
from tests.kwbp import forge
from tests.kwbp.test_contract import broken, by_buyer, contract
from tests.storefront.test_disputes import Court, Scene, court, forged_order, reasons, scene, verdicts

__all__ = ["court", "scene"]  # fixtures


def two_halves(scene: Scene) -> bytes:
    return contract(scene.world, scene.purchase)


def another_buyer(scene: Scene) -> bytes:
    stranger = scene.world.pki.cardholder("c2Vjb25kIGNhcmQ")
    return contract(scene.world, scene.purchase, signer=stranger)


def another_order(scene: Scene) -> bytes:
    """The invoice of this purchase, tied by its buyer to the order of the second one."""
    link = DualLink.of(scene.second.order.dual_signature.body)
    half = by_buyer(scene.world, scene.purchase.invoice.invoice.content, link)
    return build_contract(scene.purchase.invoice_signed, half)


def another_invoice(scene: Scene) -> bytes:
    """The invoice of the second purchase, tied to this order."""
    link = DualLink.of(scene.purchase.order.dual_signature.body)
    half = by_buyer(scene.world, scene.second.invoice.invoice.content, link)
    return build_contract(scene.second.invoice_signed, half)


def roles_swapped(scene: Scene) -> bytes:
    """The buyer signs as the merchant does, and the merchant has the mark."""
    content = scene.purchase.invoice.invoice.content
    link = DualLink.of(scene.purchase.order.dual_signature.body)
    half = by_buyer(scene.world, content, link, signer=scene.world.shop)
    return build_contract(scene.world.buyer.sign(CT_INVOICE, content), half)


def with_more(scene: Scene, *more: tuple[ObjectIdentifier, bytes]) -> bytes:
    """The buyer signs further attributes."""
    content, buyer = scene.purchase.invoice.invoice.content, scene.world.buyer
    link = DualLink.of(scene.purchase.order.dual_signature.body)
    signed = build_signed_attributes(
        CT_INVOICE, content, signer=buyer.certificate, signing_time=scene.world.now, further=link.attribute
    )
    attributes = decode(_AttributeSet, tlv(0x30, signed)).attributes.as_list()
    attributes += [Attribute(type=kind, values=asn1.SetOf([any_value(value)])) for kind, value in more]
    signed = encode(asn1.SetOf(attributes))
    signature = sign_signed_attributes(signed, buyer.key)
    half = assemble_signed_data(CT_INVOICE, content, signed, signature, signer=buyer.certificate, chain=buyer.chain)
    return build_contract(scene.purchase.invoice_signed, half)


def a_foreign_attribute(scene: Scene) -> bytes:
    return with_more(scene, (ObjectIdentifier("1.2.840.113549.1.9.15"), b"\x30\x00"))


def the_link_twice(scene: Scene) -> bytes:
    return with_more(scene, DualLink.of(scene.purchase.order.dual_signature.body).attribute)


def a_link_of_another_order_beside_it(scene: Scene) -> bytes:
    return with_more(scene, DualLink.of(scene.second.order.dual_signature.body).attribute)


def a_third_signer(scene: Scene) -> bytes:
    """The merchant a second time, with the attribute of the buyer's."""
    link = DualLink.of(scene.purchase.order.dual_signature.body)
    half = by_buyer(scene.world, scene.purchase.invoice.invoice.content, link, signer=scene.world.shop)
    return build_contract(two_halves(scene), half)


def the_merchant_twice(scene: Scene) -> bytes:
    return build_contract(two_halves(scene), scene.world.shop.sign(CT_INVOICE, scene.purchase.invoice.invoice.content))


def something_unsigned(scene: Scene) -> bytes:
    """What anybody can add to it on its way."""
    whole = decode(ContentInfo, two_halves(scene))
    first, second = whole.content.signer_infos.as_list()
    added = Attribute(type=ObjectIdentifier("1.2.840.113549.1.9.15"), values=asn1.SetOf([any_value(b"\x30\x00")]))
    second.unsigned_attrs = asn1.SetOf([added])
    return _write(whole, whole.content.certificates.as_list(), [first, second])


def signed_as_something_else(scene: Scene) -> bytes:
    """Both sign the bytes of the invoice, and say that they are a receipt."""
    content = scene.purchase.invoice.invoice.content
    link = DualLink.of(scene.purchase.order.dual_signature.body)
    buyer = scene.world.buyer
    half = cms_signed.sign(
        CT_RECEIPT,
        content,
        key=buyer.key,
        signer=buyer.certificate,
        chain=buyer.chain,
        signing_time=scene.world.now,
        further=link.attribute,
    )
    return build_contract(scene.world.shop.sign(CT_RECEIPT, content), half)


def of_another_card(scene: Scene) -> bytes:
    """The same key under a certificate that came later."""
    renewed = scene.world.pki.cardholder("cmVuZXdlZCBjYXJk", key=scene.world.buyer.key)
    return contract(scene.world, scene.purchase, signer=renewed)


@pytest.mark.parametrize("whose", ["merchant", "buyer"])
def test_both_parties_prove_it(scene: Scene, court: Court, whose: str) -> None:
    records = replace(scene.records, contract=two_halves(scene))
    judged = court.judge(records if whose == "merchant" else scene.of_buyer(records))
    assert judged.conclusion is Conclusion.HOLDS
    found = judged.statements[About.CONTRACT]
    assert found.state is State.PROVEN
    assert (found.party and found.party.role, found.proven_by) == ("buyer", ("contract.p7s", "invoice.p7s"))


def test_what_is_not_there_is_a_gap(scene: Scene, tmp_path: Path) -> None:
    write_bundle(scene.records, scene.world.pki.root.certificate, tmp_path / "bundle")
    judged = judge(read_folder(tmp_path / "bundle"))
    assert judged.statements[About.CONTRACT].state is State.ABSENT
    assert "the bundle has no order with two signatures" in " ".join(map(str, judged.gaps))


@pytest.mark.parametrize(
    ("made", "said"),
    [
        (lambda scene: broken(two_halves(scene), "first"), "the merchant's part of it: its signature does not verify"),
        (lambda scene: broken(two_halves(scene), "second"), "the buyer's part of it: its signature does not verify"),
        (another_buyer, "the buyer's part of it: it is signed with another certificate than the one shown"),
        (another_order, "the buyer's part of it is of another order"),
        (another_invoice, "it is over another invoice than this one"),
        (roles_swapped, "the merchant's part of it: it is signed with another certificate than the one shown"),
        (of_another_card, "the buyer's part of it: it is signed with another certificate than the one shown"),
        (a_foreign_attribute, "it is no order with two signatures in DER"),
        (the_link_twice, "it is no order with two signatures in DER"),
        (a_link_of_another_order_beside_it, "it is no order with two signatures in DER"),
        (a_third_signer, "it is no order with two signatures in DER"),
        (the_merchant_twice, "it is no order with two signatures in DER"),
        (something_unsigned, "it is no order with two signatures in DER"),
        (signed_as_something_else, "it is no order with two signatures in DER"),
        (lambda scene: scene.purchase.invoice_signed, "it is no order with two signatures in DER"),
    ],
)
def test_one_that_does_not_hold_is_named_and_takes_nothing_from_the_rest(
    scene: Scene, court: Court, made: Callable[[Scene], bytes], said: str
) -> None:
    judged = court.judge(replace(scene.records, contract=made(scene)))
    assert judged.conclusion is Conclusion.BROKEN
    found = judged.statements[About.CONTRACT]
    assert any(str(fault).startswith(said) for fault in (*found.faults, *found.mismatches))
    assert all(each.state is not State.BROKEN for about, each in judged.statements.items() if about != About.CONTRACT)
    assert set(verdicts(judged, Claim.BUYER_DENIES_ORDER, Claim.MERCHANT_DENIES_PRICE).values()) == {Verdict.REFUTED}


def test_a_buyer_whose_order_was_damaged_is_bound_by_it(scene: Scene, court: Court) -> None:
    records = replace(scene.from_order(forged_order(scene)), contract=two_halves(scene))
    judged = court.judge(records)
    assert judged.statements[About.ORDER].state is State.BROKEN
    assert verdicts(judged, Claim.BUYER_DENIES_ORDER) == {Claim.BUYER_DENIES_ORDER: Verdict.REFUTED}
    assert "signed this very invoice together with the merchant" in reasons(judged, Claim.BUYER_DENIES_ORDER)


def test_a_merchant_whose_invoice_was_damaged_is_bound_by_it(scene: Scene, court: Court) -> None:
    purchase = scene.purchase
    content = purchase.invoice.invoice.content
    damaged = forge.forged(CT_INVOICE, content, named=scene.world.shop, signed_by=scene.world.other_shop)
    judged = court.judge(replace(scene.records, invoice=damaged, contract=two_halves(scene)))
    assert judged.statements[About.OFFER].state is State.BROKEN
    assert verdicts(judged, Claim.MERCHANT_DENIES_PRICE) == {Claim.MERCHANT_DENIES_PRICE: Verdict.REFUTED}
    assert "signed this very invoice together with the buyer" in reasons(judged, Claim.MERCHANT_DENIES_PRICE)
