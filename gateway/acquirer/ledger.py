"""The acquirer's double-entry ledger: which account every movement of money touches. Pure.

| cause                      | debit         | credit        |
| -------------------------- | ------------- | ------------- |
| sale, capture              | receivable    | payable       |
| credit, reversal of a sale | payable       | receivable    |
| fee                        | payable       | fees          |
| the network paid a day     | intermediary  | receivable    |
| payout sent to the bank    | payable       | payouts       |
| the bank paid it           | payouts       | intermediary  |
| the bank returned it       | payouts       | payable       |
| … after it had paid        | intermediary  | payable       |
| difference corrected       | receivable    | suspense      |
| sale that stays debited    | receivable    | suspense      |

A reversal of a credit is booked as a sale, that of a capture as a credit; negative amounts change sides. An account
explains itself: `receivable` is what a network has not paid yet, `payable` what a merchant has not been sent yet,
`payouts` what the bank has not answered yet, `suspense` what people have taken on themselves in settling differences,
and in saying that a card stays debited.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from datetime import date
from enum import StrEnum
from typing import Final, TypeAlias

from kwbp.codes import EntryKind

INTERMEDIARY: Final = "intermediary"
"""The acquirer's account that the networks pay into and merchants are paid from (حساب واسط)."""
FEES: Final = "fees"
PAYOUTS: Final = "payouts"
SUSPENSE: Final = "suspense"


def receivable(route: str) -> str:
    """What the network behind this route owes the acquirer."""
    return f"receivable:{route}"


def payable(merchant_id: str) -> str:
    """What the acquirer owes this merchant."""
    return f"payable:{merchant_id}"


class CauseKind(StrEnum):
    """What makes a posting; the value is what the database holds."""

    MOVEMENT = "movement"
    """An entry: hash of the answer that approved it."""
    FEE = "fee"
    """A charged fee: hash of the answer that it is charged for."""
    NETWORK = "network"
    """A closed business day: merchant, day, route; with the part from the second on."""
    DIFFERENCE = "difference"
    """A difference that was corrected: its number; with the number of the decision from the second on."""
    STATED = "stated"
    """A sale that stays debited by the word of persons: merchant, XID."""
    SENT = "payout-sent"
    """A payout that the bank has: its reference. So are the others."""
    PAID = "payout-paid"
    RETURNED = "payout-returned"


class UnbalancedError(ValueError):
    """Lines that do not sum to zero, or name an account twice."""


@dataclass(frozen=True, slots=True)
class Posting:
    """One entry of the ledger: signed rial by account, debits positive; sums to zero.

    :raises UnbalancedError: it does not.
    """

    cause_kind: CauseKind
    cause: str
    business_day: date
    lines: tuple[tuple[str, int], ...]

    def __post_init__(self) -> None:
        if sum(amount for _, amount in self.lines) != 0:
            raise UnbalancedError(f"the lines of {self.cause_kind} {self.cause} do not sum to zero")
        if len({account for account, _ in self.lines}) != len(self.lines) or any(not each for _, each in self.lines):
            raise UnbalancedError(f"{self.cause_kind} {self.cause} names an account twice, or for nothing")

    @property
    def key(self) -> tuple[CauseKind, str]:
        """There is one posting of a cause."""
        return self.cause_kind, self.cause


def movement(h_answer: bytes, *, merchant_id: str, route: str, kind: EntryKind, amount: int, day: date) -> Posting:
    """A movement of a merchant's money that the network has told us of. :param amount: rial, positive."""
    signed = kind.sign * amount
    return _moved(CauseKind.MOVEMENT, h_answer.hex(), day, receivable(route), payable(merchant_id), signed)


def fee(h_answer: bytes, *, merchant_id: str, amount: int, day: date) -> Posting:
    """What the acquirer keeps of a movement. :param amount: rial, positive."""
    return _moved(CauseKind.FEE, h_answer.hex(), day, payable(merchant_id), FEES, amount)


def network_paid(*, merchant_id: str, route: str, day: date, part: int, net: int) -> Posting | None:
    """The network settled a merchant's business day with the acquirer; None if there was nothing to settle.

    :param part: 2 and on for what it settles of a day that was finished before. :param net: rial that the network
        counted, beyond the parts before; negative if the acquirer pays.
    """
    if net == 0:
        return None
    cause = day_cause(merchant_id, day, route) + ("" if part == 1 else f"/{part}")
    return _moved(CauseKind.NETWORK, cause, day, INTERMEDIARY, receivable(route), net)


def day_cause(merchant_id: str, day: date, route: str) -> str:
    """How a closed day is named as a cause."""
    return f"{merchant_id}/{day.isoformat()}/{route}"


def corrected(number: int, part: int, *, route: str, day: date, excess: int) -> Posting | None:
    """A difference that people settled: what the network pays beyond our books is nobody's yet.

    :param part: which decision about it. :param excess: rial that it books, beyond those before it; negative if the
        network pays less, or if it books back.
    """
    if excess == 0:
        return None
    cause = str(number) if part == 1 else f"{number}/{part}"
    return _moved(CauseKind.DIFFERENCE, cause, day, receivable(route), SUSPENSE, excess)


def stated(*, merchant_id: str, xid: bytes, route: str, day: date, amount: int) -> Posting:
    """A sale that its merchant holds no approval of stays debited: what the network pays for it is nobody's yet.

    :param amount: rial, positive.
    """
    return _moved(CauseKind.STATED, f"{merchant_id}/{xid.hex()}", day, receivable(route), SUSPENSE, amount)


def payout_sent(reference: str, *, merchant_id: str, day: date, amount: int) -> Posting:
    """The bank was told to pay."""
    return _moved(CauseKind.SENT, reference, day, payable(merchant_id), PAYOUTS, amount)


def payout_paid(reference: str, *, day: date, amount: int) -> Posting:
    """The bank has paid."""
    return _moved(CauseKind.PAID, reference, day, PAYOUTS, INTERMEDIARY, amount)


def payout_returned(reference: str, *, merchant_id: str, day: date, amount: int, was_paid: bool) -> Posting:
    """The bank has not paid, or got the money back."""
    debit = INTERMEDIARY if was_paid else PAYOUTS
    return _moved(CauseKind.RETURNED, reference, day, debit, payable(merchant_id), amount)


def _moved(kind: CauseKind, cause: str, day: date, debit: str, credit: str, amount: int) -> Posting:
    return Posting(kind, cause, day, ((debit, amount), (credit, -amount)))


def balances(postings: Iterable[Posting]) -> dict[str, int]:
    """Signed rial of each account that was touched, debits positive."""
    found: dict[str, int] = {}
    for posting in postings:
        for account, amount in posting.lines:
            found[account] = found.get(account, 0) + amount
    return found


class Fault(StrEnum):
    """How a ledger can differ from its causes."""

    MISSING = "missing"
    """Caused, not posted."""
    UNCAUSED = "uncaused"
    """Posted, not caused."""
    OTHER = "other"
    """Posted with other accounts, amounts or another day."""


@dataclass(frozen=True, slots=True)
class Finding:
    """One posting that is not as its cause says."""

    fault: Fault
    cause_kind: str
    cause: str


Line: TypeAlias = tuple[str, str, str, str, int]
"""As it stands in the database, whoever wrote it: kind of cause, cause, business day, account, signed rial."""


def lines(postings: Iterable[Posting]) -> Iterator[Line]:
    """Every line of these postings."""
    for posting in postings:
        for account, amount in posting.lines:
            yield posting.cause_kind.value, posting.cause, posting.business_day.isoformat(), account, amount


def compare(posted: Iterable[Line], caused: Iterable[Posting]) -> list[Finding]:
    """Every way in which what was posted is not what was caused, by cause; none if the ledger is right."""
    expected, there = _by_cause(lines(caused)), _by_cause(posted)
    found = []
    for key in sorted(expected.keys() | there.keys()):
        if key not in there:
            found.append(Finding(Fault.MISSING, *key))
        elif key not in expected:
            found.append(Finding(Fault.UNCAUSED, *key))
        elif there[key] != expected[key]:
            found.append(Finding(Fault.OTHER, *key))
    return found


def _by_cause(all_lines: Iterable[Line]) -> dict[tuple[str, str], list[tuple[str, str, int]]]:
    found: dict[tuple[str, str], list[tuple[str, str, int]]] = {}
    for kind, cause, day, account, amount in sorted(all_lines):
        found.setdefault((kind, cause), []).append((day, account, amount))
    return found
