"""The order with two signatures: read by us, judged by OpenSSL, and by nobody with a signature missing or broken."""

from __future__ import annotations

from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from kwbp.codes import ErrorCode
from kwbp.common import read_signed
from kwbp.contract import (
    Contract,
    DualLink,
    build_contract,
    check_contract,
    message_of,
    require_same_order,
    take_contract,
)
from kwbp.messages import DualSigTBS
from kwbp.structure import SIZE_LIMIT
from kwbp.wrapper import unwrap, wrap
from pki import der
from pki.cms_joined import parse_joined
from pki.cms_signed import (
    assemble_signed_data,
    build_signed_attributes,
    parse_signed_data,
    sign_signed_attributes,
)
from pki.oids import AA_DUAL_LINK, CT_DUAL_SIGNATURE, CT_INVOICE, MT_CONTRACT
from pki.path import Trust
from tests.kwbp.forge import changed, refused, signed
from tests.kwbp.world import Purchase, World
from tests.support.judges import attime, openssl, openssl_accepts
from tests.support.pki_factory import Credential


def by_buyer(
    world: World,
    content: bytes,
    link: DualLink,
    *,
    signer: Credential | None = None,
    key: Credential | None = None,
    signing_time: datetime | None = None,
) -> bytes:
    """The buyer's half; `key`: somebody else's key under the buyer's name."""
    signer = signer or world.buyer
    attributes = build_signed_attributes(
        CT_INVOICE,
        content,
        signer=signer.certificate,
        signing_time=signing_time or world.now,
        further=link.attribute,
    )
    signature = sign_signed_attributes(attributes, (key or signer).key)
    return assemble_signed_data(
        CT_INVOICE, content, attributes, signature, signer=signer.certificate, chain=signer.chain
    )


def contract(world: World, purchase: Purchase, **changes: Any) -> bytes:
    """An honest contract; `changes` go to the buyer's half."""
    link = DualLink.of(purchase.order.dual_signature.body)
    half = by_buyer(world, purchase.invoice.invoice.content, link, **changes)
    return build_contract(purchase.invoice_signed, half)


def check(world: World, data: bytes, *, trust: Trust | None = None, now: datetime | None = None) -> Contract:
    return check_contract(data, trust=trust or world.trust, now=now or world.now)


def dual(purchase: Purchase) -> Any:
    return read_signed(DualSigTBS, CT_DUAL_SIGNATURE, purchase.dual_signed)


def test_both_signed_one_invoice(world: World, purchase: Purchase) -> None:
    data = contract(world, purchase)
    found = check(world, data)
    assert der.encode(found.invoice) == purchase.invoice.invoice.content
    assert (found.merchant.certificate, found.buyer) == (world.shop.certificate, world.buyer.certificate)
    assert found.digest == der.sha256(data)
    require_same_order(found, dual(purchase))


def test_m7_it_is_about_one_order(world: World, purchase: Purchase, other: Purchase) -> None:
    found = check(world, contract(world, purchase))
    with refused(ErrorCode.HASH_MISMATCH, "M7"):
        require_same_order(found, dual(other))
    honest = purchase.order.dual_signature.body
    renamed = read_signed(
        DualSigTBS, CT_DUAL_SIGNATURE, signed(world.buyer, CT_DUAL_SIGNATURE, changed(honest, {"xid": bytes(20)}))
    )
    with refused(ErrorCode.HASH_MISMATCH, "M7"):
        require_same_order(found, renamed)


def test_m7_it_is_by_one_card(world: World, purchase: Purchase) -> None:
    second = world.pki.cardholder("c2Vjb25kIGNhcmQ")
    found = check(world, contract(world, purchase, signer=second))
    with refused(ErrorCode.ROLE_NOT_ALLOWED, "M7"):
        require_same_order(found, dual(purchase))


def taken(world: World, message: bytes, of: Purchase) -> Contract:
    """What the merchant of a purchase says to the message of a wallet."""
    return take_contract(
        unwrap(message, expected=[MT_CONTRACT]),
        invoice=of.invoice.invoice.body,
        dual=dual(of),
        trust=world.trust,
        now=world.now,
    )


def test_the_merchant_takes_the_contract_of_the_order_that_it_accepted(world: World, purchase: Purchase) -> None:
    data = contract(world, purchase)
    assert taken(world, message_of(data), purchase).digest == der.sha256(data)


def test_k2_m4_m7_the_merchant_takes_no_other(world: World, purchase: Purchase, other: Purchase) -> None:
    invoice = purchase.invoice.invoice.body
    data = contract(world, purchase)
    with refused(ErrorCode.WRAPPER_MSG_MISMATCH, "K2"):
        taken(world, wrap(MT_CONTRACT, data, rrpid=bytes(20), xid=invoice.xid), purchase)
    with refused(ErrorCode.INVOICE_MISMATCH, "M4"):
        taken(world, message_of(data), other)
    half = by_buyer(world, purchase.invoice.invoice.content, DualLink.of(other.order.dual_signature.body))
    with refused(ErrorCode.HASH_MISMATCH, "M7"):
        taken(world, message_of(build_contract(purchase.invoice_signed, half)), purchase)


@pytest.mark.parametrize("half", ["first", "second"])
def test_k6_either_signature_broken(world: World, purchase: Purchase, half: str) -> None:
    with refused(ErrorCode.SIGNATURE_FAILURE, "K6"):
        check(world, broken(contract(world, purchase), half))


def broken(data: bytes, half: str) -> bytes:
    """The last byte of one signature changed."""
    signature = getattr(parse_joined(data, content_type=CT_INVOICE, mark=AA_DUAL_LINK), half).signature
    assert data.count(signature) == 1
    return data.replace(signature, signature[:-1] + bytes([signature[-1] ^ 1]))


def test_k6_somebody_else_signed_as_the_buyer(world: World, purchase: Purchase) -> None:
    with refused(ErrorCode.SIGNATURE_FAILURE, "K6"):
        check(world, contract(world, purchase, key=world.shop))


def test_k5_two_merchants_make_no_contract(world: World, purchase: Purchase) -> None:
    with refused(ErrorCode.ROLE_NOT_ALLOWED, "K5"):
        check(world, contract(world, purchase, signer=world.other_shop))


def test_k5_a_card_offers_nothing(world: World, purchase: Purchase) -> None:
    content = purchase.invoice.invoice.content
    half = by_buyer(world, content, DualLink.of(purchase.order.dual_signature.body), signer=world.shop)
    with refused(ErrorCode.ROLE_NOT_ALLOWED, "K5"):
        check(world, build_contract(world.buyer.sign(CT_INVOICE, content), half))


def test_w4_invoice_of_another_merchant(world: World, purchase: Purchase) -> None:
    content = purchase.invoice.invoice.content
    half = by_buyer(world, content, DualLink.of(purchase.order.dual_signature.body))
    with refused(ErrorCode.INVOICE_MISMATCH, "W4"):
        check(world, build_contract(world.other_shop.sign(CT_INVOICE, content), half))


def test_k7_nobody_signs_tomorrow(world: World, purchase: Purchase) -> None:
    with refused(ErrorCode.MESSAGE_TOO_NEW, "K7"):
        check(world, contract(world, purchase, signing_time=world.now + timedelta(days=1)))


def test_k4_one_signature_is_no_contract(world: World, purchase: Purchase) -> None:
    with refused(ErrorCode.DECODING_FAILURE, "K4"):
        check(world, purchase.invoice_signed)
    with refused(ErrorCode.DECODING_FAILURE, "K4"):
        check(
            world,
            build_contract(purchase.invoice_signed, world.buyer.sign(CT_INVOICE, purchase.invoice.invoice.content)),
        )


def test_k4_another_content_signed_by_two(world: World, purchase: Purchase) -> None:
    with refused(ErrorCode.DECODING_FAILURE, "K4"):
        check(world, purchase.dual_signed)


def test_k1_size_and_link(world: World, purchase: Purchase) -> None:
    with refused(ErrorCode.MESSAGE_TOO_BIG, "K1"):
        check(world, bytes(SIZE_LIMIT + 1))
    link = DualLink.of(purchase.order.dual_signature.body)
    half = by_buyer(world, purchase.invoice.invoice.content, link)
    attribute = parse_signed_data(half, content_type=CT_INVOICE, further=AA_DUAL_LINK).further
    assert attribute is not None
    longer = bytes([attribute[0], attribute[1] + 2]) + attribute[2:] + b"\x05\x00"
    with refused(ErrorCode.DECODING_FAILURE, "K1"):
        check(world, build_contract(purchase.invoice_signed, with_attribute(world, purchase, longer)))


def with_attribute(world: World, purchase: Purchase, value: bytes) -> bytes:
    """The buyer's half with another value of the attribute."""
    content, buyer = purchase.invoice.invoice.content, world.buyer
    attributes = build_signed_attributes(
        CT_INVOICE, content, signer=buyer.certificate, signing_time=world.now, further=(AA_DUAL_LINK, value)
    )
    signature = sign_signed_attributes(attributes, buyer.key)
    return assemble_signed_data(CT_INVOICE, content, attributes, signature, signer=buyer.certificate, chain=buyer.chain)


@pytest.mark.parametrize("half", ["", "first", "second"])
def test_openssl_wants_both_signatures_good(world: World, purchase: Purchase, tmp_path: Path, half: str) -> None:
    world.pki.write(tmp_path)
    data, message = contract(world, purchase), tmp_path / "contract.p7s"
    message.write_bytes(broken(data, half) if half else data)
    command: list[str | Path] = [
        "cms", "-verify", "-binary", "-inform", "DER", "-in", message, "-CAfile", tmp_path / "root.pem",
        "-purpose", "any", *attime(world.now), "-out", tmp_path / "invoice.der",
    ]  # fmt: skip
    if half:
        assert not openssl_accepts(*command)
        return
    openssl(*command)
    assert (tmp_path / "invoice.der").read_bytes() == purchase.invoice.invoice.content
