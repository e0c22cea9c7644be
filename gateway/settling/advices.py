"""SettleAdvice (row 23): what the acquirer pays a merchant for a business day, signed once the day is closed.

A day is closed when gateway and switch agree about it (`reconciliation`). Before it is advised it is finished
(`gateway.acquirer.day_end`): fees are charged, and its entries do not change any more, so neither does what is advised
of them. An advice is made when it is asked for first, and kept: whoever asks again gets
the same bytes.
"""

from __future__ import annotations

from collections.abc import Callable
from datetime import date, datetime
from typing import Final

from sqlalchemy import Connection, and_, insert, select

from gateway.acquirer.day_end import DayOpenError, fees_of, finish, finished
from gateway.acquirer.fees import FeeSchedule
from gateway.schema import advices, merchant_accounts
from gateway.settling.accounts import is_bound
from gateway.settling.book import entries_settled
from gateway.settling.days import OLDEST
from gateway.settling.entries import summing
from gateway.settling.reconciliation import Reconciliation, is_closed
from gateway.signing import AnswerSigner
from gateway.store import OrderStore
from kwbp.gateway import GatewayIdentity
from kwbp.settling import AdviceLine, build_settle_advice
from kwbp.settling.statements import MAX_ADVICE_LINES
from runtime.language import Message
from runtime.logging import get_logger
from runtime.problems import Problem
from shetab.jalali import IRAN_STANDARD_TIME

RNG_SIZE: Final = 20
_log = get_logger("gateway.advices")


class Advices:
    """Gives merchants the advices of their business days."""

    def __init__(
        self,
        identity: GatewayIdentity,
        *,
        orders: OrderStore,
        reconciliation: Reconciliation,
        signer: AnswerSigner,
        fees: FeeSchedule,
        clock: Callable[[], datetime],
        rng: Callable[[int], bytes],
        checkpoint: Callable[[str], None],
    ) -> None:
        """:param fees: what the acquirer keeps."""
        self._identity = identity
        self._orders = orders
        self._reconciliation = reconciliation
        self._signer = signer
        self._fees = fees
        self._clock = clock
        self._rng = rng
        self._checkpoint = checkpoint

    async def of(self, merchant_id: str, day: date, part: int) -> bytes:
        """One part of the advice of a day (DER KwbpMessage).

        :raises Problem: 404 while the day is open, or if it has no such part; 409 if nobody knows where to pay to, or
            the merchant's certificate is not bound to that account; 503 if it cannot be signed now.
        """
        kept = await self._orders.look(self._kept, merchant_id, day)
        if not kept:
            await self._require_closed(merchant_id, day)
            kept = await self._made(merchant_id, day)
        if part > len(kept):
            raise Problem(404, "no-such-part", Message("the advice of this day has {count} parts", count=len(kept)))
        return kept[part - 1]

    async def _require_closed(self, merchant_id: str, day: date) -> None:
        if await self._orders.look(self._is_final, merchant_id, day):
            return
        today = self._clock().astimezone(IRAN_STANDARD_TIME).date()
        if today - OLDEST < day <= today:
            await self._reconciliation.want(merchant_id, day)
        raise _day_open()

    def _is_final(self, merchant_id: str, day: date) -> bool:
        """A finished day stays so, though it be compared again."""
        with self._orders.reading() as connection:
            return finished(connection, merchant_id, day) is not None or is_closed(connection, merchant_id, day)

    async def _made(self, merchant_id: str, day: date) -> list[bytes]:
        iban, bound = await self._orders.look(self._account, merchant_id)
        if iban is None:
            raise Problem(409, "no-account", "the acquirer has no account registered for this merchant")
        if not bound:  # once signed it could not be put right any more
            _log.error("the account is not the one of the merchant's certificate", merchant=merchant_id, alarm=True)
            raise Problem(409, "account-not-bound", "the registered account is not that of the merchant's certificate")
        lines = await self._lines(merchant_id, day)
        groups = [lines[at : at + MAX_ADVICE_LINES] for at in range(0, len(lines), MAX_ADVICE_LINES)] or [[]]
        now = self._clock()
        messages = [
            await self._signer.message(
                build_settle_advice(
                    group,
                    merchant_id=merchant_id,
                    business_date=f"{day:%Y%m%d}",
                    iban=iban,
                    gateway=self._identity,
                    rrpid=self._rng(RNG_SIZE),
                    now=now,
                    part=part,
                    parts=len(groups),
                )
            )
            for part, group in enumerate(groups, start=1)
        ]
        self._checkpoint("advice-signed")

        def job(connection: Connection) -> None:
            summing(connection, merchant_id)
            if _rows(connection, merchant_id, day):
                return  # somebody else's were first: all parts of a day are of one making
            connection.execute(
                insert(advices),
                [
                    {
                        "merchant_id": merchant_id,
                        "business_day": day.isoformat(),
                        "part": part,
                        "parts": len(messages),
                        "message": message,
                        "made_at": now,
                    }
                    for part, message in enumerate(messages, start=1)
                ],
            )

        await self._orders.writer.run(job)
        return await self._orders.look(self._kept, merchant_id, day)

    async def _lines(self, merchant_id: str, day: date) -> list[AdviceLine]:
        now = self._clock()

        def job(connection: Connection) -> list[AdviceLine]:
            finish(connection, merchant_id, day, self._fees, now)
            fees = fees_of(connection, merchant_id, day)
            return [
                AdviceLine(
                    kind=entry.kind,
                    xid=entry.xid,
                    h_answer=entry.h_answer,
                    amount=entry.amount,
                    fee=fees.get(entry.h_answer, 0),
                )
                for entry in entries_settled(connection, merchant_id, day.isoformat())
            ]

        try:
            return await self._orders.writer.run(job)
        except DayOpenError:
            raise _day_open() from None

    def _account(self, merchant_id: str) -> tuple[str | None, bool]:
        """Where to pay to, and whether the merchant's certificate is bound to it."""
        with self._orders.reading() as connection:
            iban = _iban(connection, merchant_id)
            return iban, iban is not None and is_bound(connection, merchant_id, iban)

    def _kept(self, merchant_id: str, day: date) -> list[bytes]:
        with self._orders.reading() as connection:
            return _rows(connection, merchant_id, day)


def _day_open() -> Problem:
    return Problem(404, "day-open", "the business day is not closed yet", headers={"retry-after": "2"})


def _rows(connection: Connection, merchant_id: str, day: date) -> list[bytes]:
    mine = and_(advices.c.merchant_id == merchant_id, advices.c.business_day == day.isoformat())
    return list(connection.execute(select(advices.c.message).where(mine).order_by(advices.c.part)).scalars())


def _iban(connection: Connection, merchant_id: str) -> str | None:
    query = select(merchant_accounts.c.iban).where(merchant_accounts.c.merchant_id == merchant_id)
    return connection.execute(query).scalar_one_or_none()
