"""Every party's book as it lies on the disk when all processes have ended, for `tests.faults.payments.books`."""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from sqlalchemy import Engine, create_engine, func, select

import gateway.schema
import storefront.merchant.money.schema
import storefront.merchant.store
import switch.schema
from audit.keeper import log_path
from audit.verify import BrokenJournalError, head_path, verify
from gateway.acquirer import journal
from gateway.order import Order as GatewayOrder
from gateway.settling.book import standing_of
from gateway.settling.states import SettlingState
from gateway.states import OrderState as GatewayState
from kwbp.settling import Standing
from shetab.errors import ValueFormatError
from shetab.subfields import Coding
from storefront.merchant.money.book import MoneyBook
from storefront.merchant.money.states import RequestState
from storefront.merchant.states import OrderState as MerchantState
from storefront.wallet.purchase import PurchaseState, purchases
from switch.records import IssuedCard
from tests.faults.payments.books import Account, AtGateway, AtMerchant, AtWallet, Booking, Books, Order, Stand
from tests.faults.payments.buyers import Crowd
from tests.faults.payments.system import System
from tests.support.canaries import traces
from tests.support.shop_front import Front

GATEWAY_ENDS: Final = frozenset({GatewayState.ACKED, GatewayState.DECLINED, GatewayState.REVERSED})
MERCHANT_ENDS: Final = frozenset(
    {MerchantState.INVOICED, MerchantState.RECEIPTED, MerchantState.DECLINED, MerchantState.REVERSED}
)
WALLET_OPEN: Final = frozenset({PurchaseState.SIGNED, PurchaseState.PENDING})


def read_books(system: System, crowd: Crowd) -> Books:
    """Everything; no process may run any more."""
    at_gateway = dict(gateway_orders(gateway_engine(system)))
    at_issuer, strangers, accounts = _issuer(system)
    at_merchant: dict[bytes, tuple[str, AtMerchant]] = {}
    for front in system.fronts:
        at_merchant |= {xid: (front.merchant_id, view) for xid, view in _merchant(front)}
    for placed in crowd.placed:
        at_merchant[placed.purchase.xid] = (placed.shop.merchant_id, placed.view)
    wallets = {
        outcome.xid: AtWallet(outcome.state, outcome.state not in WALLET_OPEN, outcome.state is PurchaseState.PAID)
        for number in range(len(crowd.customers))
        for outcome in purchases(crowd.folder(number))
    }
    orders = []
    for xid in {*at_gateway, *at_issuer, *at_merchant, *wallets}:
        named = at_gateway.get(xid, at_merchant.get(xid, ("nobody",)))[0]
        merchant, found = at_merchant.get(xid), at_gateway.get(xid)
        orders.append(
            Order(
                xid,
                named,
                None if merchant is None else merchant[1],
                None if found is None else found[1],
                tuple(at_issuer.get(xid, ())),
                wallets.get(xid),
            )
        )
    orders.sort(key=lambda order: order.xid)
    logs = broken_logs(_logs(system), system.folder)
    return Books(
        tuple(orders),
        tuple(accounts),
        tuple(strangers),
        acquirer=tuple(acquirer_ledger(gateway_engine(system))),
        logs=tuple(logs),
        canaries=tuple(card_data(system, crowd)),
    )


# --- the gateway ------------------------------------------------------------------------------------------------------


def gateway_engine(system: System) -> Engine:
    """The order book, for reading: also while gateways run."""
    if system.database_url is not None:
        return create_engine(system.database_url.replace("postgresql:", "postgresql+psycopg:", 1))
    return order_book(system.gateways[0].db / "gateway.sqlite")


def order_book(path: Path) -> Engine:
    """The order book of a gateway that has a file of its own, for reading."""
    return create_engine(f"sqlite:///file:{path}?mode=ro&uri=true")


def gateway_orders(engine: Engine) -> Iterator[tuple[bytes, tuple[str, AtGateway]]]:
    """XID, merchant and view of every order."""
    with engine.connect() as connection:
        for row in connection.execute(select(gateway.schema.orders)).all():
            order = GatewayOrder.of(row)
            mine = gateway.schema.settlings.c.xid == order.xid
            unanswered = gateway.schema.settlings.c.state != SettlingState.ANSWERED
            count = select(func.count()).select_from(gateway.schema.settlings).where(mine, unanswered)
            yield (
                order.xid,
                (
                    order.merchant_id,
                    AtGateway(
                        order.state,
                        order.amount,
                        closed=order.state in GATEWAY_ENDS,
                        debited=order.state is GatewayState.ACKED,
                        told=order.auth_code,
                        stand=_stand(standing_of(connection, order)),
                        open_requests=int(connection.execute(count).scalar_one()),
                    ),
                ),
            )
    engine.dispose()


def acquirer_ledger(engine: Engine) -> Iterator[str]:
    """What is wrong with the gateway's double-entry ledger, by its own judgement."""
    with engine.connect() as connection:
        yield from map(str, journal.verify(connection))
    engine.dispose()


def gateway_open(engine: Engine) -> int:
    """Orders and requests that have not come to their end, while the gateways work on them."""
    orders, settlings = gateway.schema.orders, gateway.schema.settlings
    with engine.connect() as connection:
        waiting = select(func.count()).select_from(orders).where(orders.c.state.not_in(GATEWAY_ENDS))
        asked = select(func.count()).select_from(settlings).where(settlings.c.state != SettlingState.ANSWERED)
        return int(connection.execute(waiting).scalar_one()) + int(connection.execute(asked).scalar_one())


def _stand(standing: Standing | None) -> Stand | None:
    return None if standing is None else Stand(standing.authorised, standing.captured, standing.refunded)


# --- merchants --------------------------------------------------------------------------------------------------------


def _merchant(front: Front) -> Iterator[tuple[bytes, AtMerchant]]:
    with front.book() as store:
        book = MoneyBook(store)
        for order in store.newest(1_000_000):
            if order.state is MerchantState.INVOICED:
                continue  # an offer that nobody took
            requests = book.of_order(order.xid)
            yield (
                order.xid,
                AtMerchant(
                    order.state,
                    order.amount,
                    closed=order.state in MERCHANT_ENDS,
                    paid=order.paid,
                    told=order.auth_code,
                    stand=_stand(book.standing(order.xid)) if order.paid else None,
                    open_requests=sum(each.state is RequestState.OPEN for each in requests),
                ),
            )


def merchant_engine(front: Front) -> Engine:
    """A shop's order book, for reading: also while it runs."""
    return create_engine(f"sqlite:///file:{front.home().db / f'merchant-{front.name}.sqlite'}?mode=ro&uri=true")


def merchant_open(engine: Engine) -> int:
    """Orders and requests that a shop still works on."""
    ends = [*MERCHANT_ENDS]
    orders, requests = storefront.merchant.store.orders, storefront.merchant.money.schema.requests
    with engine.connect() as connection:
        waiting = select(func.count()).select_from(orders).where(orders.c.state.not_in(ends))
        asked = select(func.count()).select_from(requests).where(requests.c.state == RequestState.OPEN)
        return int(connection.execute(waiting).scalar_one()) + int(connection.execute(asked).scalar_one())


# --- issuers ----------------------------------------------------------------------------------------------------------


def at_issuer(system: System) -> dict[bytes, list[Booking]]:
    """What the bank network has booked of each order, for reading: also while it runs."""
    return _issuer(system)[0]


def _issuer(system: System) -> tuple[dict[bytes, list[Booking]], list[Booking], list[Account]]:
    engine = create_engine(f"sqlite:///file:{system.site.home.db / 'switch.sqlite'}?mode=ro&uri=true")
    tables = switch.schema
    with engine.connect() as connection:
        kinds = {row.iban: row.kind for row in connection.execute(select(tables.accounts))}
        moved: dict[int, list[tuple[str, int]]] = defaultdict(list)
        entered: dict[str, int] = defaultdict(int)
        for row in connection.execute(select(tables.entries)):
            entered[row.iban] += row.amount
            if row.transaction_id is not None:
                moved[row.transaction_id].append((kinds[row.iban], row.amount))
        accounts = [
            Account(row.iban, row.balance, entered[row.iban]) for row in connection.execute(select(tables.accounts))
        ]
        of_order: dict[bytes, list[Booking]] = defaultdict(list)
        strangers = []
        for row in connection.execute(select(tables.transactions).order_by(tables.transactions.c.id)):
            booking = Booking(row.id, row.kind, row.state, row.amount, tuple(moved[row.id]))
            try:
                of_order[Coding.from_de62(row.reference).xid].append(booking)
            except ValueFormatError:
                strangers.append(booking)
    engine.dispose()
    return of_order, strangers, accounts


# --- logs and files ---------------------------------------------------------------------------------------------------


def broken_logs(logs: Iterable[Path], folder: Path) -> Iterator[str]:
    """Logs that do not verify whole, and why."""
    for path in logs:
        if not (path.exists() or head_path(path).exists()):
            continue  # nothing was ever refused
        try:
            verify(path)
        except BrokenJournalError as error:
            yield f"{path.relative_to(folder)}: {error}"


def _logs(system: System) -> list[Path]:
    return [log_path(system.site.home, "hsm"), *(log_path(home, "gateway") for home in system.gateways)]


def card_data(system: System, crowd: Crowd) -> Iterator[str]:
    """Files in which a PAN, PIN, CVV2 or expiry can be read. Wallets are their holders' own."""
    cards = [CardData.of(customer.bank.issued) for customer in crowd.customers]
    for path in sorted(system.folder.rglob("*")):
        inside = path.relative_to(system.folder).parts[0]
        if path.is_file() and not path.is_symlink() and not inside.startswith("wallet"):
            content = path.read_bytes()
            for card in cards:
                if (at := card.find(content)) is not None:
                    yield f"{path.relative_to(system.folder)}, at byte {at}"


@dataclass(frozen=True, slots=True)
class CardData:
    """The secrets of one card, as they would look in a file. Few digits count in company alone (`support.canaries`)."""

    alone: tuple[bytes, ...]
    together: re.Pattern[bytes]
    short: tuple[bytes, ...]

    @classmethod
    def of(cls, card: IssuedCard) -> CardData:
        """Of an issued card."""
        values = {name: getattr(card, name).reveal() for name in ("pan", "expiry", "cvv2", "pin2")}
        short = tuple(values[name].encode() for name in ("expiry", "cvv2"))
        return cls((values["pan"].encode(), values["pin2"].encode()), traces(**values), short)

    def find(self, content: bytes) -> int | None:
        """Where in `content`; None if nowhere."""
        for value in self.alone:
            if (at := _whole(content, value)) is not None:
                return at
        # Two values beside each other, or one under its name: only where the CVV2 or the expiry stands.
        for value in self.short:
            at = content.find(value)
            while at >= 0:
                if self.together.search(content, max(0, at - 64), at + 64):
                    return at
                at = content.find(value, at + 1)
        return None


def _whole(content: bytes, digits: bytes) -> int | None:
    at = content.find(digits)
    while at >= 0:
        if (
            not content[max(0, at - 1) : at].isdigit()
            and not content[at + len(digits) : at + len(digits) + 1].isdigit()
        ):
            return at
        at = content.find(digits, at + 1)
    return None


def rows_about(engine: Engine, tables: list[Any], xid: bytes) -> Iterator[str]:
    """Rows of tables with a column `xid`, for people: without blobs."""
    with engine.connect() as connection:
        for table in tables:
            for row in connection.execute(select(table).where(table.c.xid == xid)).mappings():
                shown = {
                    str(name): value
                    for name, value in row.items()
                    if value is not None and not isinstance(value, bytes)
                }
                yield f"{table.name}: " + ", ".join(f"{name}={value}" for name, value in shown.items())
    engine.dispose()
