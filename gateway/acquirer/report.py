"""A business day for people: what a merchant took, what was kept, what is paid; or all merchants at a glance.

A report is made of what the books say at the moment; of a finished day it says the same for ever, but for the state of
its payout. It holds no card number, only what a receipt shows of one. How it looks is the renderers' matter
(`report_csv`, `report_pdf`): a report is words, amounts, instants and days in tables.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import date, datetime
from functools import cache
from importlib import resources
from typing import Final, Literal, TypeAlias

import yaml
from sqlalchemy import Connection, and_, func, select

from gateway.acquirer.day_end import fees_of, finished
from gateway.acquirer.tables import differences, payouts
from gateway.order import SALE
from gateway.schema import entries, merchant_accounts, merchants, orders, settlings
from kwbp.codes import EntryKind
from runtime.language import Bilingual


@dataclass(frozen=True, slots=True)
class Rial:
    """An amount, signed."""

    amount: int


@dataclass(frozen=True, slots=True)
class Text:
    """What others have written or counted: a name, a number, a reference. It is not translated."""

    text: str


Cell: TypeAlias = "Bilingual | Rial | Text | datetime | date | int | None"
Side = Literal["start", "end"]


@dataclass(frozen=True, slots=True)
class Table:
    """`widths` are shares of the page; `last_is_sum` sets the last row apart."""

    title: Bilingual
    columns: tuple[Bilingual, ...]
    widths: tuple[int, ...]
    rows: tuple[tuple[Cell, ...], ...]
    last_is_sum: bool = False


@dataclass(frozen=True, slots=True)
class Report:
    """A report: facts by their names, then tables."""

    title: Bilingual
    facts: tuple[tuple[Bilingual, Cell], ...]
    tables: tuple[Table, ...]
    note: Bilingual
    made_at: datetime


@cache
def words() -> Mapping[str, Bilingual]:
    """The words of reports."""
    text = resources.files("gateway.acquirer").joinpath("report_words.yaml").read_text("utf-8")
    return {key: Bilingual(**each) for key, each in yaml.load(text, Loader=yaml.CSafeLoader).items()}


_KINDS: Final = tuple(EntryKind)


def merchant_report(
    connection: Connection, merchant_id: str, day: date, *, acquirer: str, now: datetime
) -> Report | None:
    """A merchant's day; None if it is not registered."""
    say = words()
    merchant = connection.execute(select(merchants).where(merchants.c.merchant_id == merchant_id)).one_or_none()
    if merchant is None:
        return None
    done = finished(connection, merchant_id, day)
    charged = fees_of(connection, merchant_id, day)
    lines = _lines(connection, merchant_id, day)
    gross = sum(kind.sign * amount for _, kind, amount, *_ in lines)
    fees = done.fees if done is not None else 0
    this = and_(payouts.c.merchant_id == merchant_id, payouts.c.business_day == day.isoformat())
    payout = connection.execute(select(payouts).where(this).order_by(payouts.c.attempt.desc()).limit(1)).one_or_none()
    account = select(merchant_accounts.c.iban).where(merchant_accounts.c.merchant_id == merchant_id)
    iban = (payout.iban if payout is not None else None) or connection.execute(account).scalar_one_or_none()
    facts: list[tuple[Bilingual, Cell]] = [
        (say["business_day"], day),
        (say["merchant"], Text(merchant_id)),
        (say["merchant_name"], Text(merchant.name)),
        (say["terminal"], Text(merchant.terminal_id)),
        (say["acquirer"], Text(acquirer)),
        (say["account"], None if iban is None else Text(iban)),
        (say["state"], say["not_finished" if done is None else "finished" if payout is None else payout.state]),
        (say["reference"], None if payout is None else Text(payout.reference)),
    ]
    sums: list[tuple[Cell, ...]] = []
    for kind in _KINDS:
        amounts = [amount for _, each, amount, *_ in lines if each is kind]
        if amounts:
            sums.append((say[kind.name], len(amounts), Rial(kind.sign * sum(amounts))))
    sums += [
        (say["gross"], len(lines), Rial(gross)),
        (say["fees"], len(charged), Rial(-fees)),
        (say["net"], None, Rial(gross - fees)),
    ]
    if payout is not None:
        sums += [
            (say["brought_forward"], None, Rial(payout.brought_forward)),
            (say["carried_forward"], None, Rial(payout.carried_forward)),
            (say["paid"], None, Rial(payout.amount)),
        ]
    movements = tuple(
        (
            at,
            say[kind.name],
            Text(rrn),
            Text(stan),
            Text(card),
            Rial(kind.sign * amount),
            Rial(-charged.get(h_answer, 0)),
        )
        for at, kind, amount, h_answer, rrn, stan, card in lines
    )
    names = ("time", "kind", "rrn", "stan", "card", "amount", "fee")
    return Report(
        say["merchant_title"],
        tuple(facts),
        (
            Table(say["sums"], (say["kind"], say["count"], say["amount"]), (4, 2, 3), tuple(sums), last_is_sum=True),
            Table(say["movements"], tuple(say[name] for name in names), (17, 20, 19, 12, 24, 19, 14), movements),
        ),
        say["rial"],
        now,
    )


def acquirer_report(connection: Connection, day: date, *, acquirer: str, now: datetime) -> Report:
    """All merchants that have movements or a payout in the day."""
    say, columns = words(), entries.c
    own: dict[str, tuple[int, int]] = {}
    query = (
        select(columns.merchant_id, columns.kind, func.count(), func.sum(columns.amount))
        .where(columns.settled_day == day.isoformat())
        .group_by(columns.merchant_id, columns.kind)
    )
    for merchant_id, kind, count, amount in connection.execute(query):
        before = own.get(merchant_id, (0, 0))
        own[merchant_id] = (before[0] + count, before[1] + EntryKind(kind).sign * int(amount))
    latest: dict[str, tuple[str, int]] = {}
    for row in connection.execute(
        select(payouts).where(payouts.c.business_day == day.isoformat()).order_by(payouts.c.attempt)
    ):
        latest[row.merchant_id] = (row.state, row.amount)
    waiting = differences.c.state == "OPEN"
    open_ = select(func.count()).where(differences.c.business_day == day.isoformat(), waiting)
    rows: list[tuple[Cell, ...]] = []
    totals = [0, 0, 0, 0]
    for merchant_id in sorted(own.keys() | latest.keys()):
        done = finished(connection, merchant_id, day)
        count, gross = own.get(merchant_id, (0, 0))
        fees = 0 if done is None else done.fees
        state, paid = latest.get(merchant_id, ("not_finished" if done is None else "finished", 0))
        rows.append((Text(merchant_id), count, Rial(gross), Rial(-fees), Rial(paid), say[state]))
        totals = [each + more for each, more in zip(totals, (count, gross, -fees, paid), strict=True)]
    rows.append((say["total"], totals[0], Rial(totals[1]), Rial(totals[2]), Rial(totals[3]), None))
    names = ("merchant", "count", "gross", "fees", "paid", "state")
    return Report(
        say["acquirer_title"],
        (
            (say["business_day"], day),
            (say["acquirer"], Text(acquirer)),
            (say["differences"], connection.execute(open_).scalar_one()),
        ),
        (
            Table(
                say["merchants"], tuple(say[each] for each in names), (4, 2, 4, 3, 4, 4), tuple(rows), last_is_sum=True
            ),
        ),
        say["rial"],
        now,
    )


_Line: TypeAlias = "tuple[datetime, EntryKind, int, bytes, str, str, str]"


def _lines(connection: Connection, merchant_id: str, day: date) -> Sequence[_Line]:
    """When, kind, rial, answer, RRN, STAN and masked card of every movement that is settled with the day."""
    order = and_(orders.c.merchant_id == entries.c.merchant_id, orders.c.xid == entries.c.xid, orders.c.kind == SALE)
    query = (
        select(
            entries,
            func.coalesce(settlings.c.rrn, orders.c.rrn).label("rrn"),
            func.coalesce(settlings.c.stan, orders.c.stan).label("stan"),
            orders.c.masked_pan,
        )
        .select_from(entries.outerjoin(orders, order).outerjoin(settlings, settlings.c.h_answer == entries.c.h_answer))
        .where(entries.c.merchant_id == merchant_id, entries.c.settled_day == day.isoformat())
        .order_by(entries.c.date, entries.c.h_answer)
    )
    return [
        (row.date, EntryKind(row.kind), row.amount, row.h_answer, row.rrn or "", row.stan or "", row.masked_pan or "")
        for row in connection.execute(query)
    ]
