"""Threats against time, signatures, certificates, encodings and the eye, with software keys alone.

One test for each row of the threat table, named after it (`threats.yaml`).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from datetime import timedelta
from typing import Any, Final

import pytest

from kwbp.codes import ErrorCode
from kwbp.error_message import build_error
from kwbp.errors import ProtocolError
from kwbp.fields import to_time
from kwbp.messages import InvoiceMessage
from kwbp.structure import decode, encode
from kwbp.wrapper import KwbpMessage, unwrap, wrap
from pki import der
from pki.oids import CT_AUTH_REQ, CT_AUTH_RES, CT_RECEIPT, MT_INVOICE
from tests.hostile.receivers import Receivers
from tests.kwbp.forge import (
    answered,
    asked,
    changed,
    offered,
    ordered,
    receipted,
    refused,
    requested,
)
from tests.kwbp.world import ORIGIN, Purchase, World, lines, site
from tests.support import signed_data_twins
from tests.support.der_surgery import Node, indefinite, long_length, parse
from tests.support.pki_factory import Credential

MINUTE: Final = timedelta(minutes=1)
E = ErrorCode


# --- time -------------------------------------------------------------------------------------------------------------


def test_22_clock_skew(world: World, purchase: Purchase) -> None:
    """Ten minutes off, either way, at each party: refused with the receiver's time as a hint, never adjusted to."""
    to = Receivers(world, purchase)
    for minutes, code in ((-10, E.MESSAGE_TOO_OLD), (10, E.MESSAGE_TOO_NEW)):
        moment: dict[str, Any] = {"signing_time": world.now + minutes * MINUTE}
        for message, read in (
            (asked(world, purchase, **moment), to.merchant_on_request),
            (offered(world, purchase, **moment), to.wallet_on_invoice),
            (ordered(world, purchase, **moment), to.merchant_on_order),
            (requested(world, purchase, **moment), to.gateway),
            (answered(world, purchase, **moment), to.merchant_on_answer),
            (receipted(world, purchase, **moment), to.wallet_on_receipt),
        ):
            with pytest.raises(ProtocolError) as caught:
                read(message)
            assert (caught.value.code, caught.value.time_hint) == (code, world.now)
            told = build_error(caught.value, refused=message, now=world.now).body
            assert told.time_hint == to_time(world.now)
    with refused(E.CLOCK_SKEW, "K7"):  # two clocks in one message
        to.gateway(requested(world, purchase, date=world.now - 10 * MINUTE))
    for read, message in ((to.merchant_on_order, ordered(world, purchase)), (to.gateway, requested(world, purchase))):
        with pytest.raises(ProtocolError) as caught:  # a receiver ten minutes fast finds the invoice run out, too
            read(message, now=world.now + 11 * MINUTE)
        assert caught.value.code in (E.INVOICE_EXPIRED, E.MESSAGE_TOO_OLD)


# --- signatures and certificates --------------------------------------------------------------------------------------

CONFUSIONS: Final = ("forged_from_signed_attributes", "forged_under_a_kwbp_content_type", "no_signed_attributes")


def test_27_stripped_signed_attributes_and_type_confusion(world: World, to: Receivers, purchase: Purchase) -> None:
    """What a party signed becomes another object that it never meant (`openssl cms -verify` takes it), sent to all."""

    def twist(how: str, signer: Credential, honest: bytes) -> bytes:
        table = signed_data_twins.Twin(world.pki, signer, honest)
        signed_data_twins.CASES[how].operate(table)
        return table.tree.encode()

    invoice = decode(InvoiceMessage, unwrap(purchase.invoice_message, expected=[MT_INVOICE]).body)
    ids: dict[str, Any] = {"rrpid": purchase.auth_req.rrpid, "xid": purchase.auth_req.xid}
    for how in CONFUSIONS:
        offer = replace(invoice, invoice=twist(how, world.shop, purchase.invoice_signed))
        answer = twist(how, world.gateway_signing, purchase.auth_res_signed)
        for read, message in (
            (to.wallet_on_invoice, wrap(MT_INVOICE, encode(offer), rrpid=purchase.request.rrpid, xid=ids["xid"])),
            (
                to.merchant_on_order,
                ordered(world, purchase, preq={"dual_sig": twist(how, world.buyer, purchase.dual_signed)}),
            ),
            (to.gateway, wrap(CT_AUTH_REQ, twist(how, world.shop, purchase.auth_req_signed), **ids)),
            (to.merchant_on_answer, wrap(CT_AUTH_RES, answer, **ids)),
            (to.wallet_on_receipt, receipted(world, purchase, auth_res=answer)),
        ):
            with refused(E.DECODING_FAILURE, "K4"):
                read(message)
    for read, message in (  # honest objects in each other's places
        (to.gateway, wrap(CT_AUTH_REQ, purchase.invoice_signed, **ids)),
        (to.merchant_on_answer, wrap(CT_AUTH_RES, purchase.receipt_signed, **ids)),
        (to.wallet_on_receipt, wrap(CT_RECEIPT, purchase.auth_res_signed, **ids)),
    ):
        with refused(E.MESSAGE_NOT_SUPPORTED, "K4"):
            read(message)


def test_28_key_substitution(world: World, to: Receivers, purchase: Purchase) -> None:
    """A certificate issued anew on the same key, with the same name and serial number, in the place of the first."""

    def exchanged(data: bytes, old: Credential, new: Credential) -> bytes:
        tree = parse(data)
        certificates = tree.at(1, 0, signed_data_twins.CERTIFICATES)
        swapped = [parse(new.der) if child.encode() == old.der else child for child in certificates.children]
        certificates.children = sorted(swapped, key=Node.encode)
        return tree.encode()

    shop = world.pki.merchant(
        "M-1", key=world.shop.key, replace=site("M-1"), serial=world.shop.certificate.serial_number
    )
    with refused(E.MISSING_CERTIFICATE, "K4"):  # the signature names the certificate that it was made with
        to.gateway(purchase.auth_req.message(exchanged(purchase.auth_req_signed, world.shop, shop)))
    with refused(E.INVOICE_MISMATCH, "W4"):
        to.wallet_on_invoice(offered(world, purchase, signer=shop))
    with refused(E.INVOICE_MISMATCH, "G5"):
        to.gateway(requested(world, purchase, signer=shop))
    with refused(E.INVOICE_MISMATCH, "R1"):
        to.wallet_on_receipt(receipted(world, purchase, signer=shop))
    commitment = world.buyer.certificate.subject.rfc4514_string().split("CN=")[1].split(",")[0]
    card = world.pki.cardholder(commitment, key=world.buyer.key, serial=world.buyer.certificate.serial_number)
    with refused(E.MISSING_CERTIFICATE, "K4"):
        swapped = exchanged(purchase.dual_signed, world.buyer, card)
        to.gateway(requested(world, purchase, dual_sig=swapped))
    with pytest.raises(ProtocolError) as caught:
        to.merchant_on_order(ordered(world, purchase, signer=card))
    assert caught.value.check == "M5"


def test_30_der_malleability(to: Receivers, purchase: Purchase) -> None:
    """Every message, and what is inside it, in the encodings that BER allows: one spelling is accepted, no other."""
    spellings: tuple[Callable[[bytes], bytes], ...] = (
        long_length,
        indefinite,
        lambda data: data + b"\x00",
        lambda data: data + data,
        lambda data: data[:-1],
    )
    for message, read in to.honest(purchase).values():
        inside = decode(KwbpMessage, message)
        for spell in spellings:
            around = wrap(inside.msg_type, spell(inside.body), rrpid=inside.rrpid, xid=inside.xid)
            for twin in (spell(message), around):
                with pytest.raises(ProtocolError) as caught:
                    read(twin)
                assert caught.value.code is E.DECODING_FAILURE
                assert caught.value.check in ("K1", "K4")


# --- what people see --------------------------------------------------------------------------------------------------


def test_33_fake_shop(world: World, to: Receivers, purchase: Purchase) -> None:
    """Stand-in: a person must look at the wallet's own window and not at the page's; a copied page, though, is refused.

    The copycat passes every message through to the real shop; what it cannot pass is the address it is visited at.
    """
    copycats = [
        "https://b00kshop.example",
        "https://bookshop.example.evil",
        "http://bookshop.example",
        "https://bookshop.example:8443",
        "https://xn--bokshop-q1a.example",
        "https://www.bookshop.example",
    ]
    for origin in copycats:
        with refused(E.INVALID_CERTIFICATE, "W5"):
            world.check_invoice(purchase.invoice_message, purchase.request, origin=origin)
    with refused(E.INVALID_CERTIFICATE, "W5"):  # or it sells under its own name and certificate at the other's address
        stationer = offered(
            world, purchase, signer=world.other_shop,
            merchant_id="M-2", mer_cert_hash=der.sha256(world.other_shop.der),
        )  # fmt: skip
        to.wallet_on_invoice(stationer)
    assert world.check_invoice(purchase.invoice_message, purchase.request, origin=ORIGIN)


def test_41_text_spoofing(world: World, to: Receivers, purchase: Purchase) -> None:
    """Text that shows one thing and says another: no honest merchant writes it, no wallet takes it from another one."""
    names = {
        "right-to-left override": "Pen \u202efdp.exe",
        "isolate": "\u2066Pen\u2069",
        "Arabic yeh": "كتابي",
        "Persian digits": "کتاب ۱۰",
        "zero width space": "P\u200ben",
        "not NFC": "cafe\u0301",
    }
    for name in names.values():
        first, *rest = lines()
        hostile = [changed(first, {"name": name}), *rest]
        with pytest.raises(ProtocolError) as caught:
            world.offer(purchase.checked_request, lines=hostile)
        assert caught.value.check == "K1"
        with pytest.raises(ProtocolError) as caught:
            to.wallet_on_invoice(offered(world, purchase, order={"lines": hostile}))
        assert caught.value.check == "K1"
        with pytest.raises(ProtocolError) as caught:
            to.wallet_on_invoice(offered(world, purchase, terms=name))
        assert caught.value.check == "K1"
