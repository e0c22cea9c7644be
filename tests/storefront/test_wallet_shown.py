"""What the buyer reads is what the card signs: derived from those bytes alone, in both languages, nothing turned."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import replace
from datetime import timedelta
from typing import Any

import pytest

from kwbp.common import read_signed
from kwbp.messages import DualSigTBS, InvoiceTBS, OIData, OrderDetails, OrderLine
from kwbp.money import Money
from kwbp.structure import decode, encode
from pki.der import sha256
from pki.oids import CT_INVOICE
from runtime.language import FSI, PDI
from storefront.errors import NotAsShown
from storefront.wallet.shown import Contents, offered, require_as_shown, signed_by
from storefront.wallet.texts import Language, amount
from tests.kwbp.world import Purchase, World
from tests.support.pki_factory import PkiFactory

ISOLATED = re.compile(f"{FSI}[^{FSI}{PDI}]*{PDI}")
TURNING = re.compile("[\u061c\u200b\u200e\u200f\u202a-\u202e\u2066\u2067]")
_ASCII_DIGITS = str.maketrans("۰۱۲۳۴۵۶۷۸۹٬", "0123456789,")


@pytest.fixture(scope="module")
def world() -> World:
    return World(PkiFactory())


@pytest.fixture(scope="module")
def purchase(world: World) -> Purchase:
    return world.purchase()


def about_to_sign(purchase: Purchase, **changes: bytes) -> tuple[bytes, ...]:
    """The bytes of an order as `signed_by` takes them, some of them others."""
    honest = {
        "dual_signature": purchase.order.dual_signature.content,
        "oi_data": purchase.order.oi_data,
        "contract": encode(purchase.checked_invoice.invoice),
        "invoice": purchase.checked_invoice.signed,
        "order_details": purchase.checked_invoice.order_details,
    }
    return tuple((honest | changes).values())


def told(contents: Contents, language: Language) -> str:
    return "\n".join(contents.told(language))


def test_what_is_signed_is_what_was_offered(purchase: Purchase) -> None:
    checked = purchase.checked_invoice
    shown = offered(checked.signed, checked.order_details)
    signed = signed_by(*about_to_sign(purchase))
    require_as_shown(shown, signed)
    assert shown.total == checked.invoice.amount.amount
    assert [each.name for each in shown.lines] == [each.name for each in checked.order.lines]


@pytest.mark.parametrize("language", Language)
def test_every_value_behind_the_hashes_can_be_read_back(purchase: Purchase, language: Language) -> None:
    """Round trip: from the bytes to the eye, and from the eye back to the values that were encoded."""
    checked = purchase.checked_invoice
    text = told(signed_by(*about_to_sign(purchase)), language)
    foreign = [each[1:-1] for each in ISOLATED.findall(text)]
    order, invoice = decode(OrderDetails, checked.order_details), decode(InvoiceTBS, encode(checked.invoice))
    assert foreign == [
        checked.merchant.name,
        invoice.merchant_id,
        *(line.name for line in order.lines),
        order.ship_to,
        *invoice.terms.split("\n"),
        invoice.gw_id,
        invoice.xid.hex(),
    ]
    plain = text.translate(_ASCII_DIGITS).replace(",", "")
    for line in order.lines:
        rial = {Language.EN: "rial", Language.FA: "ریال"}[language]
        assert re.search(rf"\b{line.quantity} × {line.unit_price} {rial} .*= {line.amount} {rial}", plain)
    assert f"{invoice.amount.amount} " in plain


@pytest.mark.parametrize("language", Language)
def test_the_total_is_next_to_where_one_signs_however_long_the_promise(purchase: Purchase, language: Language) -> None:
    """A merchant who writes a hundred lines does not move it off the screen, nor have another one in its place."""
    checked = purchase.checked_invoice
    honest = offered(checked.signed, checked.order_details)
    lines = list(replace(honest, terms="\n".join(["Total: 1 rial"] * 100)).told(language))
    assert lines[-1] == list(honest.told(language))[-1]
    assert amount(honest.total, language) in lines[-1]


Change = Callable[[InvoiceTBS, OrderDetails], None]


def changes() -> dict[str, Change]:
    def line(order: OrderDetails, **values: Any) -> None:
        order.lines[0] = OrderLine(**({name: getattr(order.lines[0], name) for name in FIELDS} | values))

    def put(target: Any, name: str, value: Any) -> None:
        setattr(target, name, value)

    return {
        "name of the goods": lambda _invoice, order: line(order, name="Another book"),
        "quantity": lambda _invoice, order: line(order, quantity=3),
        "price": lambda _invoice, order: line(order, unit_price=1),
        "address": lambda _invoice, order: put(order, "ship_to", "Shiraz"),
        "total": lambda invoice, order: put(order, "total", Money.rial(invoice.amount.amount + 1)),
    }


FIELDS = ("sku", "name", "quantity", "unit_price", "amount")


@pytest.mark.parametrize("name", changes())
def test_details_that_the_invoice_is_not_about_are_not_shown(purchase: Purchase, name: str) -> None:
    checked = purchase.checked_invoice
    order = decode(OrderDetails, checked.order_details)
    changes()[name](checked.invoice, order)
    with pytest.raises(NotAsShown):
        offered(checked.signed, encode(order))
    with pytest.raises(NotAsShown):
        signed_by(*about_to_sign(purchase, order_details=encode(order)))


DUAL = ("h_oi_data", "xid", "lid_m", "merchant_id", "mer_cert_hash", "gw_id", "gw_cert_hash", "amount", "invoice_hash")
OI = ("invoice_hash", "hod", "amount", "xid", "lid_m", "merchant_id")


def another(value: Any) -> Any:
    if isinstance(value, Money):
        return Money.rial(value.amount + 1)
    return value[:-1] + (b"\xff" if isinstance(value, bytes) else "9")


@pytest.mark.parametrize("field", [*DUAL, "not_after"])
def test_a_dual_signature_about_anything_else_is_not_made(world: World, purchase: Purchase, field: str) -> None:
    dual = decode(DualSigTBS, purchase.order.dual_signature.content)
    value = getattr(dual, field)
    if field == "not_after":
        value = decode(InvoiceTBS, encode(purchase.checked_invoice.invoice)).issued_at
    setattr(dual, field, value if field == "not_after" else another(value))
    with pytest.raises(NotAsShown):
        signed_by(*about_to_sign(purchase, dual_signature=encode(dual)))


@pytest.mark.parametrize("field", OI)
def test_nor_one_whose_order_says_something_else(purchase: Purchase, field: str) -> None:
    oi = decode(OIData, purchase.order.oi_data)
    setattr(oi, field, another(getattr(oi, field)))
    dual = decode(DualSigTBS, purchase.order.dual_signature.content)
    dual.h_oi_data = sha256(encode(oi))
    with pytest.raises(NotAsShown):
        signed_by(*about_to_sign(purchase, oi_data=encode(oi), dual_signature=encode(dual)))


def test_nor_a_second_signature_over_another_invoice(purchase: Purchase) -> None:
    other = decode(InvoiceTBS, encode(purchase.checked_invoice.invoice))
    other.terms = "No promise"
    with pytest.raises(NotAsShown):
        signed_by(*about_to_sign(purchase, contract=encode(other)))


def test_nor_an_order_of_another_invoice_than_the_one_that_was_shown(world: World, purchase: Purchase) -> None:
    other = world.purchase()
    with pytest.raises(NotAsShown):
        require_as_shown(
            offered(other.checked_invoice.signed, other.checked_invoice.order_details),
            signed_by(*about_to_sign(purchase)),
        )
    with pytest.raises(NotAsShown):
        signed_by(*about_to_sign(purchase, invoice=other.checked_invoice.signed))


def test_each_value_changes_what_is_read(purchase: Purchase) -> None:
    """Nothing that is signed in words is left out of what is shown."""
    contents = signed_by(*about_to_sign(purchase))
    (first, *rest) = contents.lines
    others = [
        replace(contents, merchant="Another"),
        replace(contents, merchant_id="M-9"),
        replace(contents, gateway_id="GW-9"),
        replace(contents, xid=bytes(20)),
        replace(contents, total=contents.total + 1),
        replace(contents, ship_to=None),
        replace(contents, ship_to="Shiraz"),
        replace(contents, terms="No promise"),
        replace(contents, deliver_by=None),
        replace(contents, not_after=contents.not_after + timedelta(seconds=1)),
        replace(contents, hold=not contents.hold),
        replace(contents, lines=tuple(rest)),
        *(
            replace(contents, lines=(replace(first, **changed), *rest))
            for changed in ({"name": "Another"}, {"quantity": 7}, {"unit_price": 7}, {"amount": 7})
        ),
    ]
    for language in Language:
        texts = {told(each, language) for each in (contents, *others)}
        assert len(texts) == len(others) + 1


HOSTILE = "کتاب\u202e 000,1 \u2066x\u2069\u2069 \u2068\x1b[31m"


@pytest.mark.parametrize("language", Language)
def test_no_value_leaves_its_brackets_or_turns_the_line(purchase: Purchase, language: Language) -> None:
    """The decoder refuses such texts already (threat 41); what is shown does not rest on that."""
    contents = signed_by(*about_to_sign(purchase))
    (first, *rest) = contents.lines
    meddled = replace(
        contents, merchant=HOSTILE, ship_to=HOSTILE, terms=HOSTILE, lines=(replace(first, name=HOSTILE), *rest)
    )
    for line in meddled.told(language):
        assert not TURNING.search(line)
        assert "\x1b" not in line
        outside = ISOLATED.sub("", line)
        assert FSI not in outside
        assert PDI not in outside
        assert "000,1" not in outside


def test_the_signed_invoice_is_read_not_what_stands_beside_it(purchase: Purchase) -> None:
    received = read_signed(InvoiceTBS, CT_INVOICE, purchase.checked_invoice.signed)
    shown = offered(purchase.checked_invoice.signed, purchase.checked_invoice.order_details)
    assert (shown.xid, shown.terms) == (received.body.xid, received.body.terms)
