"""The agreement properties (i) to (v), as questions to the ledger, the order books, the wallets and the wires.

What exactly holds depends on who is dishonest; that is stated at each question. A party that is dishonest owes nothing:
nothing is asked of its own records, and nobody is promised that it answers.

| dishonest  | whose keys the attacker has                                                     |
| ---------- | ------------------------------------------------------------------------------- |
| nobody     | none; the network is the attacker's all the same                                |
| buyer      | the card and signing key of B-2                                                 |
| merchant   | the signing key and the TLS name of M-2                                         |
| gateway    | both keys of GW-2, of the acquirer of both merchants; GW-1 stays honest         |
| switch     | the MAC key of the line: what the network answers is the attacker's invention   |
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import Any, Final

from sqlalchemy import select

from gateway.order import Order as GatewayOrder
from gateway.order import OrderKey
from gateway.states import OrderState as AtGateway
from kwbp.codes import AuthCode
from pki import oids
from pki.cms_signed import parse_signed_data
from storefront.merchant import recall
from storefront.merchant.states import OrderState as AtMerchant
from storefront.merchant.store import Order as MerchantOrder
from storefront.wallet.records import FINAL, PurchaseFolder, PurchaseState, all_purchases
from switch.schema import entries, transactions
from tests.hostile.agreement.cast import ADDRESS, ARTICLE, BUYERS, MERCHANTS, SKU, cast
from tests.hostile.agreement.site import GATEWAY, Site
from tests.support.canaries import traces


class Dishonest(StrEnum):
    """Whose keys the attacker has."""

    NOBODY = "nobody"
    BUYER = "buyer"
    MERCHANT = "merchant"
    GATEWAY = "gateway"
    SWITCH = "switch"


BAD_BUYER: Final = "B-2"
BAD_MERCHANT: Final = "M-2"
_APPROVED: Final = frozenset({AtMerchant.AUTHORISED, AtMerchant.ACKED, AtMerchant.RECEIPTED})
_ENDED_AT_MERCHANT: Final = frozenset(
    {AtMerchant.INVOICED, AtMerchant.RECEIPTED, AtMerchant.DECLINED, AtMerchant.REVERSED}
)
_ENDED_AT_GATEWAY: Final = frozenset({AtGateway.ACKED, AtGateway.DECLINED, AtGateway.REVERSED})
_REFERENCE: Final = "KWBP2 "
_LONGEST_MESSAGE: Final = 32_768
_ORDER_LINES: Final = tuple(text.encode() for text in (SKU, ARTICLE, ADDRESS))


class PropertyBrokenError(AssertionError):
    """A property does not hold; `name` is (i) to (v), the text says where, and how it came to it."""

    def __init__(self, name: str, text: str, site: Site) -> None:
        super().__init__(f"({name}) {text}\n" + "\n".join(site.trace))
        self.name = name


@dataclass(frozen=True)
class Debit:
    """One booking on a customer's account that is about a purchase; signed rial, negative for a debit."""

    xid: bytes
    merchant: str
    iban: str
    amount: int


def debits(site: Site) -> list[Debit]:
    """All bookings on the buyers' accounts, in their order, by the ledger alone."""
    accounts = {each.issued.iban for each in cast().buyers.values()}
    query = (
        select(transactions.c.reference, transactions.c.merchant, entries.c.iban, entries.c.amount)
        .join(transactions, transactions.c.id == entries.c.transaction_id)
        .order_by(entries.c.id)
    )
    with site.bank.connect() as connection:
        rows = connection.execute(query).all()
    return [
        Debit(bytes.fromhex(row.reference.removeprefix(_REFERENCE)[:40]), row.merchant, row.iban, row.amount)
        for row in rows
        if row.iban in accounts
    ]


# --- after every step -------------------------------------------------------------------------------------------------


def check_always(site: Site, dishonest: Dishonest) -> None:
    """Safety: (i), (ii) and (iii) as they must hold at any time."""
    if dishonest is not Dishonest.SWITCH:  # who has the line's key moves money as it likes
        _one_debit_as_signed(site, dishonest)
        _given_back_means_given_back(site, dishonest)
    _authorised_means_approved(site, dishonest)
    _receipt_means_both(site, dishonest)


def _one_debit_as_signed(site: Site, dishonest: Dishonest) -> None:
    """(i) At most one debit per purchase, of an amount that this card's holder signed for that merchant."""
    met: set[tuple[bytes, str]] = set()
    for each in debits(site):
        if each.amount > 0:
            continue
        key = (each.xid, each.merchant)
        if key in met:
            raise PropertyBrokenError("i", f"{each.xid.hex()[:8]} is debited twice", site)
        met.add(key)
        buyer = next(name for name in BUYERS if cast().buyers[name].issued.iban == each.iban)
        if (each.xid, each.merchant, -each.amount) not in set(_signed_by(site, buyer, dishonest)):
            text = f"{buyer} did not sign {-each.amount} for {each.merchant} ({each.xid.hex()[:8]})"
            raise PropertyBrokenError("i", text, site)


def _signed_by(site: Site, buyer: str, dishonest: Dishonest) -> Iterator[tuple[bytes, str, int]]:
    """What a buyer ordered: an honest one by its own records, a dishonest one by whatever its key signed."""
    if dishonest is Dishonest.BUYER and buyer == BAD_BUYER:
        own = cast().buyers[buyer].credential.certificate
        for piece in site.network.pieces.signed.get(oids.CT_DUAL_SIGNATURE, ()):
            if parse_signed_data(piece.der, content_type=oids.CT_DUAL_SIGNATURE).signer == own:
                yield piece.body.xid, piece.body.merchant_id, piece.body.amount.amount
    for folder in all_purchases(site.purchases(buyer)):
        yield folder.record.xid, folder.record.merchant_id, folder.record.amount.amount


def _given_back_means_given_back(site: Site, dishonest: Dishonest) -> None:
    """(i) Who holds the honest gateway's signature for it that nothing is debited is right at that very moment."""
    booked = debits(site)
    told: list[tuple[str, bytes, str, str]] = [
        (merchant, order.xid, merchant, order.state)
        for merchant in _honest_merchants(dishonest)
        for order in _orders(site, merchant)
        if order.state is AtMerchant.REVERSED and _named_gateway(site, merchant, order.xid) == GATEWAY
    ]
    told += [
        (buyer, folder.record.xid, folder.record.merchant_id, folder.state)
        for buyer in _honest_buyers(dishonest)
        for folder in all_purchases(site.purchases(buyer))
        if folder.state in (PurchaseState.DECLINED, PurchaseState.REVERSED) and folder.record.gw_id == GATEWAY
    ]
    for who, xid, merchant, state in told:
        net = -sum(each.amount for each in booked if (each.xid, each.merchant) == (xid, merchant))
        if net != 0:
            raise PropertyBrokenError("i", f"{who} has {state} of {xid.hex()[:8]} while {net} are debited", site)


def _authorised_means_approved(site: Site, dishonest: Dishonest) -> None:
    """(ii) An honest merchant has an order AUTHORISED (or further) ⇒ the gateway that its invoice names, if honest,
    approved the same XID, amount and merchant; and that means the network said so, which (an honest switch) debited."""
    booked = debits(site)
    for merchant in _honest_merchants(dishonest):
        for order in _orders(site, merchant):
            if order.state not in _APPROVED or _named_gateway(site, merchant, order.xid) != GATEWAY:
                continue
            _require_approved(site, "ii", order.xid, merchant, order.amount)
            if dishonest is not Dishonest.SWITCH and not any(
                each.xid == order.xid and each.merchant == merchant and each.amount == -order.amount for each in booked
            ):
                raise PropertyBrokenError("ii", f"{order.xid.hex()[:8]} is approved and was never debited", site)


def _receipt_means_both(site: Site, dishonest: Dishonest) -> None:
    """(iii) An honest buyer has PAID ⇒ the gateway that the card data were sealed to, if honest, approved; and the
    merchant, if honest, has the order ACKED or further. A dishonest merchant may show a real approval and then not
    acknowledge it: the buyer is PAID by two signatures, and has the money back; the receipt proves that it lied."""
    for buyer in _honest_buyers(dishonest):
        for folder in all_purchases(site.purchases(buyer)):
            record = folder.record
            if folder.state is not PurchaseState.PAID or record.gw_id != GATEWAY:
                continue
            _require_approved(site, "iii", record.xid, record.merchant_id, record.amount.amount)
            if record.merchant_id not in _honest_merchants(dishonest):
                continue
            order = site.shop_store(record.merchant_id).find(record.xid)
            if order is None or not order.paid or order.amount != record.amount.amount:
                raise PropertyBrokenError("iii", f"{buyer} has a receipt that the merchant has not", site)


def _require_approved(site: Site, name: str, xid: bytes, merchant: str, amount: int) -> None:
    found = site.gateway_store.find(OrderKey(merchant, xid))
    if found is None or found.auth_code != AuthCode.APPROVED or found.amount != amount:
        told = "nothing" if found is None else f"{found.state} of {found.amount}"
        raise PropertyBrokenError(name, f"{merchant} has {amount} approved ({xid.hex()[:8]}), the gateway {told}", site)


# --- (iv) -------------------------------------------------------------------------------------------------------------


def check_secrecy(site: Site, dishonest: Dishonest) -> None:
    """(iv) Card data are in nothing that the network or a merchant has; order lines in nothing of gateway and switch.

    The line to the switch carries PAN, expiry and CVV2 by its nature, under the bank network's own protection; never a
    PIN in clear. A gateway to which an honest buyer sealed may know that card, whoever has its keys.
    """
    wires = [("the network", message) for message in site.network.pieces.messages]
    merchants = [(merchant, content) for merchant in MERCHANTS for content in _files(site, merchant)]
    banks = [("the line to the switch", frame) for frame in site.line.seen]
    own = [("the gateway", content) for content in _files(site, "gateway")]
    own += [("the gateway's journal", repr(entry).encode()) for entry in site.journal.entries]
    ledger = [("the switch", content) for content in _files(site, "bank")]
    for buyer in BUYERS:
        issued = cast().buyers[buyer].issued
        pan, pin2 = issued.pan.reveal(), issued.pin2.reveal()
        short_values = (issued.expiry.reveal().encode(), issued.cvv2.reveal().encode())
        card = traces(pan=pan, expiry=issued.expiry.reveal(), cvv2=issued.cvv2.reveal(), pin2=pin2)
        for place, content in (*wires, *merchants, *own, *ledger):
            # CVV2 and expiry are too short to be told from chance in a database: those are searched for in messages,
            # and whatever a party stores of them came or left in one.
            hints = len(content) < _LONGEST_MESSAGE and any(value in content for value in short_values)
            short = hints and card.search(content)
            if pan.encode() in content or pin2.encode() in content or short:
                raise PropertyBrokenError("iv", f"card data of {buyer} are in {place}", site)
        for place, content in banks:
            if pin2.encode() in content:
                raise PropertyBrokenError("iv", f"the PIN of {buyer} is in {place}", site)
    for place, content in (*banks, *own, *ledger, *_to_gateway(site)):
        if any(line in content for line in _ORDER_LINES):
            raise PropertyBrokenError("iv", f"order lines are in {place}", site)


def _files(site: Site, stem: str) -> Iterator[bytes]:
    for path in sorted(site.folder.glob(f"{stem}.sqlite*")):
        yield path.read_bytes()


def _to_gateway(site: Site) -> Iterator[tuple[str, bytes]]:
    own = frozenset({oids.CT_AUTH_REQ, oids.CT_AUTH_ACK, oids.CT_AUTH_RES})
    for message in site.network.pieces.of_types(own):
        yield "a message to or from the gateway", message


# --- at the end -------------------------------------------------------------------------------------------------------


def check_at_the_end(site: Site, dishonest: Dishonest) -> None:
    """(v), and the rest of (i): in an honest network every order ends, and all honest parties tell one story of it."""
    _at_the_end_of_gateway(site, dishonest)
    for merchant in _honest_merchants(dishonest):
        for order in _orders(site, merchant):
            _at_the_end_of_merchant(site, merchant, order, dishonest)
    for buyer in _honest_buyers(dishonest):
        for folder in all_purchases(site.purchases(buyer)):
            if folder.record.gw_id == GATEWAY:
                _at_the_end_of_wallet(site, buyer, folder, dishonest)
    check_secrecy(site, dishonest)


def unsettled(site: Site, dishonest: Dishonest) -> list[str]:
    """What is still open at honest parties."""
    open_ = [f"gateway: {each}" for each in _gateway_orders(site) if each.state not in _gateway_ends(dishonest)]
    for merchant in _honest_merchants(dishonest):
        for order in _orders(site, merchant):
            if order.state not in _ENDED_AT_MERCHANT and not _excused(site, merchant, order.xid):
                open_.append(f"{merchant}: {order.xid.hex()[:8]} {order.state}")
    for buyer in _honest_buyers(dishonest):
        for folder in all_purchases(site.purchases(buyer)):
            record = folder.record
            owed = record.merchant_id in _honest_merchants(dishonest) and record.gw_id == GATEWAY
            if owed and not _wallet_ended(folder) and not _excused(site, record.merchant_id, record.xid):
                open_.append(f"{buyer}: {record.xid.hex()[:8]} {folder.state}")
    return open_


def _wallet_ended(folder: PurchaseFolder) -> bool:
    return folder.state in FINAL or folder.state is PurchaseState.REFUSED


def _gateway_ends(dishonest: Dishonest) -> frozenset[AtGateway]:
    # A network that approves and then knows of nothing needs people (REV_FAILED); an honest one never does.
    return _ENDED_AT_GATEWAY | ({AtGateway.REV_FAILED} if dishonest is Dishonest.SWITCH else frozenset())


def _excused(site: Site, merchant: str, xid: bytes) -> bool:
    """Orders of which nobody honest can say how they ended: another gateway's, and those that need people."""
    if _named_gateway(site, merchant, xid) != GATEWAY:
        return True
    found = site.gateway_store.find(OrderKey(merchant, xid))
    return found is not None and found.state is AtGateway.REV_FAILED


def _at_the_end_of_gateway(site: Site, dishonest: Dishonest) -> None:
    booked = debits(site)
    for order in _gateway_orders(site):
        if order.state not in _gateway_ends(dishonest):
            raise PropertyBrokenError("v", f"the gateway's {order.key} ends as {order.state}", site)
        net = -sum(each.amount for each in booked if (each.xid, each.merchant) == (order.xid, order.merchant_id))
        if dishonest is not Dishonest.SWITCH and net != (order.amount if order.state is AtGateway.ACKED else 0):
            raise PropertyBrokenError("i", f"{order.key} is {order.state}, and {net} are debited", site)


def _at_the_end_of_merchant(site: Site, merchant: str, order: MerchantOrder, dishonest: Dishonest) -> None:
    if _excused(site, merchant, order.xid):
        return
    if order.state not in _ENDED_AT_MERCHANT:
        raise PropertyBrokenError("v", f"{merchant}'s {order.xid.hex()[:8]} ends as {order.state}", site)
    found = site.gateway_store.find(OrderKey(merchant, order.xid))
    kept = found is not None and found.state is AtGateway.ACKED
    if kept is not (order.state is AtMerchant.RECEIPTED):
        told = None if found is None else found.state
        raise PropertyBrokenError("v", f"{merchant} has {order.state}, the gateway {told}", site)


def _at_the_end_of_wallet(site: Site, buyer: str, folder: PurchaseFolder, dishonest: Dishonest) -> None:
    record, state = folder.record, folder.state
    net = -sum(each.amount for each in debits(site) if (each.xid, each.merchant) == (record.xid, record.merchant_id))
    merchant_is_honest = record.merchant_id in _honest_merchants(dishonest)
    story = f"{buyer} has {state} of {record.xid.hex()[:8]}, and {net} are debited"
    if merchant_is_honest and not _excused(site, record.merchant_id, record.xid) and not _wallet_ended(folder):
        raise PropertyBrokenError("v", story, site)
    if dishonest is Dishonest.SWITCH:
        return
    # By the gateway's signature, whoever the merchant is; that an order is refused is the merchant's word alone.
    proved = state in (PurchaseState.DECLINED, PurchaseState.REVERSED)
    if (proved or (state is PurchaseState.REFUSED and merchant_is_honest)) and net != 0:
        raise PropertyBrokenError("i", story, site)
    if state is PurchaseState.PAID and merchant_is_honest and net != record.amount.amount:
        raise PropertyBrokenError("i", story, site)


# --- who --------------------------------------------------------------------------------------------------------------


def _honest_merchants(dishonest: Dishonest) -> tuple[str, ...]:
    bad = BAD_MERCHANT if dishonest is Dishonest.MERCHANT else None
    return tuple(name for name in MERCHANTS if name != bad)


def _honest_buyers(dishonest: Dishonest) -> tuple[str, ...]:
    bad = BAD_BUYER if dishonest is Dishonest.BUYER else None
    return tuple(name for name in BUYERS if name != bad)


def _orders(site: Site, merchant: str) -> list[MerchantOrder]:
    return site.shop_store(merchant).newest(1000)


def _gateway_orders(site: Site) -> list[GatewayOrder]:
    return site.gateway_store.in_states(*AtGateway)


def _named_gateway(site: Site, merchant: str, xid: bytes) -> str:
    return recall.issued(site.shop_store(merchant), xid).gateway.gateway_id


def finish(site: Site, dishonest: Dishonest, *, rounds: int = 20) -> None:
    """The attacker gives up, time goes on past every timer, buyers ask again; then everything is asked for.

    :raises PropertyBrokenError: a property does not hold.
    """
    site.be_honest()
    for number in range(rounds):
        check_always(site, dishonest)
        for bought in site.bought:
            folder = _folder(site, bought.buyer, bought.xid)
            if folder is not None and not _wallet_ended(folder):
                site.resume(bought)
        if not unsettled(site, dishonest):
            break
        site.loop.advance(20 if number < 8 else 120)
    check_always(site, dishonest)
    check_at_the_end(site, dishonest)


def _folder(site: Site, buyer: str, xid: bytes) -> PurchaseFolder | None:
    path: Path = site.purchases(buyer) / xid.hex()
    return PurchaseFolder(path) if (path / "purchase.json").exists() else None


__all__: list[Any] = [
    "Dishonest", "PropertyBrokenError", "check_always", "check_at_the_end", "check_secrecy", "debits", "finish",
]  # fmt: skip
