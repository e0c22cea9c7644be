"""What every party's book says of the purchases of a run, and whether the books agree; pure.

A run that was disturbed (`tests.faults.payments.campaign`) is over when everything runs again and nothing moves any
more. Then, for every order: one debit or none, and merchant, gateway and issuer tell the same. `judge` finds what is
not so; it reads values alone, so its own tests can plant every kind of mistake and see it found.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from enum import StrEnum
from typing import Final

from kwbp.codes import AuthCode

NO_WORD: Final = frozenset({AuthCode.NO_REPLY, AuthCode.PI_PREVIOUSLY_USED})
"""What says nothing of the money."""


class Kind(StrEnum):
    """What can be wrong."""

    DEBITED_TWICE = "debited twice"
    SENT_TWICE = "sent twice"
    LOST_REVERSAL = "lost reversal"
    LOST_DEBIT = "lost debit"
    WRONG_AMOUNT = "wrong amount"
    UNRESOLVED = "unresolved"
    TOLD_DECLINED = "told declined, debited"
    TOLD_APPROVED = "told approved, not debited"
    DISAGREE = "books disagree"
    STRANGER = "an order that only one book knows"
    LEDGER = "ledger does not add up"
    LOG = "log is not whole"
    CANARY = "card data in a file"


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing that is wrong; `xid` where it is about an order."""

    kind: Kind
    said: str
    xid: bytes | None = None


@dataclass(frozen=True, slots=True)
class Stand:
    """What stands of an approved order, in rial: 0 ≤ refunded ≤ captured ≤ authorised."""

    authorised: int = 0
    captured: int = 0
    refunded: int = 0


@dataclass(frozen=True, slots=True)
class AtMerchant:
    """An order in its merchant's book. `told` is the gateway's AuthCode, `paid` means that goods are shipped."""

    state: str
    amount: int
    closed: bool
    paid: bool
    told: int | None = None
    stand: Stand | None = None
    open_requests: int = 0


@dataclass(frozen=True, slots=True)
class AtGateway:
    """The same at the gateway. `debited`: its book says that the card was debited and that this stands."""

    state: str
    amount: int
    closed: bool
    debited: bool
    told: int | None = None
    stand: Stand | None = None
    open_requests: int = 0


@dataclass(frozen=True, slots=True)
class Booking:
    """One transaction of the bank network with what it moved: rial by kind of account, customers' debits negative."""

    number: int
    kind: str
    state: str
    amount: int
    moved: tuple[tuple[str, int], ...] = ()

    @property
    def of_money(self) -> bool:
        """Whether it is the order's own request, which may be made once."""
        return self.kind in ("sale", "hold")


@dataclass(frozen=True, slots=True)
class AtWallet:
    """The buyer's own record."""

    state: str
    closed: bool
    paid: bool


@dataclass(frozen=True, slots=True)
class Order:
    """One purchase in every book that has it."""

    xid: bytes
    merchant_id: str
    at_merchant: AtMerchant | None = None
    at_gateway: AtGateway | None = None
    at_issuer: tuple[Booking, ...] = ()
    at_wallet: AtWallet | None = None

    def net(self, account: str) -> int:
        """Rial that a kind of account has more than before this order."""
        return sum(amount for each in self.at_issuer for kind, amount in each.moved if kind == account)


@dataclass(frozen=True, slots=True)
class Account:
    """An account of the ledger: its balance, and the sum of its entries."""

    iban: str
    balance: int
    entered: int


@dataclass(frozen=True, slots=True)
class Books:
    """Everything that is judged. `logs` do not verify, `canaries` are files with card data, each in words."""

    orders: tuple[Order, ...]
    accounts: tuple[Account, ...] = ()
    of_no_order: tuple[Booking, ...] = ()
    acquirer: tuple[str, ...] = ()
    """What the acquirer's own double-entry ledger finds of itself."""
    logs: tuple[str, ...] = ()
    canaries: tuple[str, ...] = ()


def judge(books: Books) -> list[Finding]:
    """Everything that is wrong, the orders' first; empty if all is well."""
    return [
        *(finding for order in books.orders for finding in judge_order(order)),
        *_judge_ledger(books),
        *(Finding(Kind.LOG, said) for said in books.logs),
        *(Finding(Kind.CANARY, said) for said in books.canaries),
    ]


def judge_order(order: Order) -> Iterator[Finding]:
    """What is wrong about one order."""
    for kind, said in _about(order):
        yield Finding(kind, said, order.xid)


def _about(order: Order) -> Iterator[tuple[Kind, str]]:
    yield from _unresolved(order)
    yield from _once(order)
    gateway = order.at_gateway
    if gateway is None:
        if order.at_issuer:
            yield Kind.STRANGER, "the bank network has transactions of an order that no gateway has"
        if order.at_merchant is not None and order.at_merchant.paid:
            yield Kind.TOLD_APPROVED, "the merchant ships an order that no gateway has"
        return
    yield from _gateway_and_issuer(order, gateway)
    merchant = order.at_merchant
    if merchant is None:
        yield Kind.STRANGER, "the gateway has an order that its merchant has not"
        return
    yield from _merchant_and_others(order, merchant, gateway)
    yield from _buyer(order)


def _unresolved(order: Order) -> Iterator[tuple[Kind, str]]:
    for name, view in (("merchant", order.at_merchant), ("gateway", order.at_gateway)):
        if view is not None and not view.closed:
            yield Kind.UNRESOLVED, f"{view.state} at the {name}"
        if view is not None and view.open_requests:
            yield Kind.UNRESOLVED, f"{view.open_requests} request(s) about its money open at the {name}"
    if order.at_wallet is not None and not order.at_wallet.closed:
        yield Kind.UNRESOLVED, f"{order.at_wallet.state} in the wallet"


def _once(order: Order) -> Iterator[tuple[Kind, str]]:
    requests = [each for each in order.at_issuer if each.of_money]
    standing = [each for each in requests if each.state == "approved"]
    if len(standing) > 1:
        yield Kind.DEBITED_TWICE, f"{len(standing)} debits stand: transactions {[each.number for each in standing]}"
    elif len(requests) > 1:
        yield Kind.SENT_TWICE, f"{len(requests)} requests for money: transactions {[each.number for each in requests]}"


def _gateway_and_issuer(order: Order, gateway: AtGateway) -> Iterator[tuple[Kind, str]]:
    wanted = gateway.stand or Stand()
    if not gateway.debited and wanted.authorised:
        yield Kind.DISAGREE, f"the gateway has the order {gateway.state} and {wanted.authorised} rial authorised"
    for each in order.at_issuer:
        if each.of_money and each.amount != gateway.amount:
            yield Kind.WRONG_AMOUNT, f"transaction {each.number} is over {each.amount} rial, not {gateway.amount}"
    debited = -order.net("customer")
    if not gateway.debited:
        if debited > 0:
            yield Kind.LOST_REVERSAL, f"{gateway.state} at the gateway, and the card has paid {debited} rial"
        elif debited < 0:
            yield Kind.WRONG_AMOUNT, f"{gateway.state} at the gateway, and the card has got {-debited} rial too much"
        return
    paid = wanted.authorised - wanted.refunded
    if debited == 0 and paid:
        yield Kind.LOST_DEBIT, f"{gateway.state} at the gateway, and the card has paid nothing of {paid} rial"
    elif debited != paid:
        yield Kind.WRONG_AMOUNT, f"the card has paid {debited} rial, not {paid}"
    for account, amount in (
        ("intermediary", wanted.captured - wanted.refunded),
        ("held", wanted.authorised - wanted.captured),
    ):
        if order.net(account) != amount:
            yield Kind.WRONG_AMOUNT, f"{account} has {order.net(account)} rial of the order, not {amount}"


def _merchant_and_others(order: Order, merchant: AtMerchant, gateway: AtGateway) -> Iterator[tuple[Kind, str]]:
    if merchant.amount != gateway.amount:
        yield Kind.WRONG_AMOUNT, f"{merchant.amount} rial at the merchant, {gateway.amount} at the gateway"
    debited = -order.net("customer")
    stand = merchant.stand or Stand()
    if merchant.paid and not gateway.debited:
        yield Kind.TOLD_APPROVED, f"{merchant.state} at the merchant, {gateway.state} at the gateway"
    elif merchant.closed and not merchant.paid and gateway.debited:
        yield Kind.TOLD_DECLINED, f"{merchant.state} at the merchant, {gateway.state} at the gateway"
    if merchant.told is not None and merchant.told not in NO_WORD | {AuthCode.APPROVED} and debited:
        yield (
            Kind.TOLD_DECLINED,
            f"the merchant was told AuthCode {merchant.told}, and the card has paid {debited} rial",
        )
    if merchant.told is not None and gateway.told is not None and merchant.told != gateway.told:
        again = merchant.told in NO_WORD  # another AuthReq of the same order may have been answered
        if not again:
            yield Kind.DISAGREE, f"AuthCode {merchant.told} at the merchant, {gateway.told} at the gateway"
    if merchant.paid and gateway.debited and stand != (gateway.stand or Stand()):
        yield Kind.DISAGREE, f"the merchant's book has {stand}, the gateway's {gateway.stand}"


def _buyer(order: Order) -> Iterator[tuple[Kind, str]]:
    wallet, merchant = order.at_wallet, order.at_merchant
    if wallet is None or merchant is None or not wallet.closed or not merchant.closed:
        return
    if wallet.paid != merchant.paid:
        yield Kind.DISAGREE, f"{wallet.state} in the wallet, {merchant.state} at the merchant"


def _judge_ledger(books: Books) -> Iterator[Finding]:
    for booking in books.of_no_order:
        yield Finding(Kind.STRANGER, f"transaction {booking.number} ({booking.kind}) is of no order that anybody made")
    if total := sum(account.balance for account in books.accounts):
        yield Finding(Kind.LEDGER, f"all balances together are {total} rial, not 0")
    for account in books.accounts:
        if account.balance != account.entered:
            said = f"{account.iban}: a balance of {account.balance} rial, entries of {account.entered}"
            yield Finding(Kind.LEDGER, said)
    for said in books.acquirer:
        yield Finding(Kind.LEDGER, f"acquirer: {said}")
    for order in books.orders:
        for each in order.at_issuer:
            if sum(amount for _, amount in each.moved):
                yield Finding(Kind.LEDGER, f"transaction {each.number} has made or lost money", order.xid)


def counted(orders: Iterable[Order]) -> dict[str, int]:
    """How the orders ended, for people: by the gateway's state."""
    found: dict[str, int] = {}
    for order in orders:
        state = order.at_gateway.state if order.at_gateway is not None else "never came"
        found[state] = found.get(state, 0) + 1
    return dict(sorted(found.items()))
