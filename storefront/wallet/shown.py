"""What the buyer is shown before they sign, and the proof that it is what they sign.

The card signs hashes (DualSigTBS), which nobody can read. What a person can read are the objects behind them: the
signed invoice and OrderDetails. `offered` reads these bytes and nothing else; `signed_by` starts from the very bytes
that are about to be signed, follows each hash of them to the object behind it, and reads those. An order is signed
only if both say the same (`storefront.wallet.purchase`), and the evidence of a purchase shows it again years later.

Every value that somebody else wrote stands between FSI and PDI (UAX #9), in either language, so it can neither turn the
words around it nor be turned by them; amounts and dates are in the reader's digits and calendar.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime
from typing import Final

from kwbp.codes import SaleKind
from kwbp.common import instant, read_signed
from kwbp.messages import DualSigTBS, InvoiceTBS, OIData, OrderDetails
from kwbp.parties import MerchantIdentity
from kwbp.structure import decode
from pki.der import sha256
from pki.oids import CT_INVOICE
from runtime.language import FSI, PDI, one_line
from runtime.language import Language as Reader
from storefront.errors import NotAsShown
from storefront.evidence.moments import moment
from storefront.wallet.texts import Language, amount, digits, label

_READERS: Final = {Language.FA: Reader.FA, Language.EN: Reader.EN}


@dataclass(frozen=True, slots=True)
class Line:
    """One line of the order; prices in rial."""

    name: str
    quantity: int
    unit_price: int
    amount: int


@dataclass(frozen=True, slots=True)
class Contents:
    """What a person signs: who sells, what, for how much, to where, on which promise; amounts in rial."""

    xid: bytes
    merchant: str
    merchant_id: str
    gateway_id: str
    lines: tuple[Line, ...]
    total: int
    ship_to: str | None
    terms: str
    deliver_by: datetime | None
    not_after: datetime
    hold: bool = False
    """The money is only held; the shop collects it later, or lets it go."""

    def told(self, language: Language) -> Iterator[str]:
        """The lines that the buyer reads, all of it, in this language."""

        def named(key: str, value: str) -> str:
            return f"{label(key, language)}: {value}"

        def number(value: int) -> str:
            return digits(f"{value:,}", language)

        def when(at: datetime) -> str:
            return moment(at).text(_READERS[language])

        yield named("merchant", f"{_apart(self.merchant)} ({_apart(self.merchant_id)})")
        for each in self.lines:
            price = f"{number(each.quantity)} × {amount(each.unit_price, language)} = {amount(each.amount, language)}"
            yield f"  {_apart(each.name)}: {price}"
        if self.ship_to is not None:
            yield from (named("ship_to", _apart(line)) for line in self.ship_to.split("\n"))
        yield from (named("terms", _apart(line)) for line in self.terms.split("\n"))
        if self.deliver_by is not None:
            yield named("deliver_by", when(self.deliver_by))
        yield named("gateway", _apart(self.gateway_id))
        yield named("not_after", when(self.not_after))
        yield named("order", _apart(self.xid.hex()))
        # Last, next to where one signs: no number of lines above, which the merchant writes, moves it off the screen.
        yield named("total", amount(self.total, language))
        if self.hold:
            yield label("hold", language)


def offered(invoice: bytes, order_details: bytes, *, hold: bool = False) -> Contents:
    """What a signed invoice (SignedData) and its OrderDetails (DER) offer. Whether to believe them others say.

    :param hold: what the buyer wants; an invoice does not say it.
    :raises ProtocolError: not in form. :raises NotAsShown: the invoice is not about these details.
    """
    received = read_signed(InvoiceTBS, CT_INVOICE, invoice)
    body = received.body
    order = decode(OrderDetails, order_details)
    _same(sha256(order_details), body.hod)
    _same(order.total, body.amount)
    _same(sum(line.amount for line in order.lines), body.amount.amount)
    return Contents(
        xid=body.xid,
        merchant=MerchantIdentity.of(received.signer).name,
        merchant_id=body.merchant_id,
        gateway_id=body.gw_id,
        lines=tuple(Line(each.name, each.quantity, each.unit_price, each.amount) for each in order.lines),
        total=body.amount.amount,
        ship_to=order.ship_to,
        terms=body.terms,
        deliver_by=None if body.deliver_by is None else instant(body.deliver_by),
        not_after=instant(body.not_after),
        hold=hold,
    )


def signed_by(dual_signature: bytes, oi_data: bytes, contract: bytes, invoice: bytes, order_details: bytes) -> Contents:
    """What a card signs: DualSigTBS and InvoiceTBS (DER), read from these and the objects whose hashes they hold.

    :param contract: InvoiceTBS, which the card signs a second time (`kwbp.contract`).

    :raises ProtocolError: not in form. :raises NotAsShown: it is not about these objects.
    """
    dual, oi = decode(DualSigTBS, dual_signature), decode(OIData, oi_data)
    received = read_signed(InvoiceTBS, CT_INVOICE, invoice)
    body = received.body
    _same(dual.h_oi_data, sha256(oi_data))
    _same(contract, received.signed.content)
    _same(dual.invoice_hash, sha256(invoice))
    _same(oi.invoice_hash, dual.invoice_hash)
    _same(oi.hod, body.hod)
    _same((dual.amount, oi.amount), (body.amount, body.amount))
    _same((dual.xid, oi.xid, dual.lid_m, oi.lid_m), (body.xid, body.xid, body.lid_m, body.lid_m))
    merchant = MerchantIdentity.of(received.signer)
    _same((dual.merchant_id, oi.merchant_id), (body.merchant_id, body.merchant_id))
    _same((dual.mer_cert_hash, body.mer_cert_hash), (merchant.cert_hash, merchant.cert_hash))
    _same((dual.gw_id, dual.gw_cert_hash), (body.gw_id, body.gw_cert_hash))
    _same(dual.not_after, body.not_after)
    return offered(invoice, order_details, hold=dual.sale_kind is not SaleKind.SALE)


def require_as_shown(shown: Contents, about_to_sign: Contents) -> None:
    """:raises NotAsShown: the buyer was shown something else than what is about to be signed."""
    _same(shown, about_to_sign)


def _same(one: object, other: object) -> None:
    if one != other:
        raise NotAsShown("what would be signed is not what was shown; nothing was signed")


def _apart(text: str) -> str:
    return f"{FSI}{one_line(text.replace(FSI, '').replace(PDI, ''))}{PDI}"
