"""Payment files: which payouts go to the bank together, and that another person sends them than made them.

The file is durable before anybody sees it. It takes the accounts as they are registered and bound at that moment; that
it was sent is told with its digest, and only then is anything booked. See `gateway.acquirer.payouts` for a payout's
life.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable
from datetime import date, datetime
from functools import partial
from hashlib import sha256
from typing import Any, Final

from sqlalchemy import Connection, and_, exists, insert, select, update

from gateway.acquirer import ledger
from gateway.acquirer.fees import FeeSchedule
from gateway.acquirer.journal import post
from gateway.acquirer.payment_file import Payer, Transfer, pain001, payment_csv
from gateway.acquirer.payout import Left, PaymentFile, Payout, PayoutState
from gateway.acquirer.tables import payment_files, payouts
from gateway.dual_control import DualControl
from gateway.schema import merchant_accounts
from gateway.settling.accounts import is_bound
from gateway.store import OrderStore
from runtime.after_commit import with_refusal
from runtime.language import Message
from runtime.logging import get_logger
from runtime.problems import Problem
from shetab.jalali import IRAN_STANDARD_TIME

_log = get_logger("gateway.payouts")
_S: Final = PayoutState
_CLAUSE: Final = "CPS 5.2.2"


class PaymentFiles:
    """The part of `gateway.acquirer.payouts.Payouts` that hands payouts to the bank."""

    def __init__(
        self,
        orders: OrderStore,
        *,
        fees: FeeSchedule,
        payer: Payer | None,
        dual_control: DualControl,
        clock: Callable[[], datetime],
        rng: Callable[[int], bytes],
        checkpoint: Callable[[str], None],
    ) -> None:
        """:param payer: None: days can be reckoned, nothing can be paid."""
        self._orders = orders
        self._fees = fees
        self._payer = payer
        self._dual_control = dual_control
        self._clock = clock
        self._rng = rng
        self._checkpoint = checkpoint

    def files(self) -> list[PaymentFile]:
        """All payment files, oldest first."""
        with self._orders.reading() as connection:
            rows = connection.execute(select(payment_files).order_by(payment_files.c.number))
            return [PaymentFile.of(row) for row in rows]

    def file(self, number: int) -> PaymentFile:
        """One of them, for the bank.

        :raises Problem: 404; 409 it was withdrawn: its payouts may be in another by now.
        """
        with self._orders.reading() as connection:
            found = file_of(connection, number)
            if not connection.execute(select(exists().where(payouts.c.file == number))).scalar_one():
                raise _withdrawn()
            return found

    def file_csv(self, number: int) -> bytes:
        """What a payment file says, as CSV.

        :raises Problem: as `file`.
        """
        return payment_csv(self.file(number).content)

    async def make_file(self, *, by: str) -> tuple[PaymentFile, list[Left]]:
        """A payment file of all that is CREATED and in none yet; those without a bound account are left.

        :raises Problem: 409 there is nothing to pay, nobody who pays, or only an officer's half counts.
        """
        payer, now = self._the_payer(), self._clock()
        self._require_officer(by)
        message_id = f"KWBP-{now.astimezone(IRAN_STANDARD_TIME):%Y%m%d%H%M%S}-{self._rng(4).hex()}"

        def job(connection: Connection) -> tuple[PaymentFile, list[Left]]:
            free = and_(payouts.c.state == _S.CREATED, payouts.c.file.is_(None))
            rows = connection.execute(select(payouts).where(free).order_by(payouts.c.number).with_for_update()).all()
            left: list[Left] = []
            ready: list[tuple[Payout, str]] = []
            for each in (Payout.of(row) for row in rows):
                account = _account(connection, each.merchant_id)
                if isinstance(account, Left):
                    left.append(Left(each.merchant_id, each.day, account.reason))
                else:
                    ready.append((each, account))
            if not ready:
                raise Problem(409, "nothing-to-pay", "there is no payout that a payment file could take")
            transfers = [_transfer(each, iban) for each, iban in ready]
            execute_on = _day_in_iran(now)
            content = pain001(transfers, message_id=message_id, payer=payer, execute_on=execute_on, now=now)
            values: dict[str, Any] = {
                "message_id": message_id,
                "digest": sha256(content).hexdigest(),
                "content": content,
            }
            values |= {"count": len(ready), "total": sum(each.amount for each in transfers)}
            statement = insert(payment_files).values(**values, made_at=now, made_by=by).returning(payment_files)
            made = PaymentFile.of(connection.execute(statement).one())
            for each, iban in ready:
                mine = and_(payouts.c.number == each.number, free)
                connection.execute(update(payouts).where(mine).values(file=made.number, iban=iban))
            return made, left

        made, left = await self._orders.writer.run(job)
        self._checkpoint("payment-file-kept")
        return made, left

    async def withdraw(self, number: int, *, by: str) -> int:
        """Take the payouts out of a file that was not sent: the next file has them. Returns how many there were.

        :raises Problem: 404, or 409 if it was sent.
        """

        def job(connection: Connection) -> int:
            file_of(connection, number)
            mine = payouts.c.file == number
            query = select(payouts.c.state).where(mine).order_by(payouts.c.number).with_for_update()
            if any(state != _S.CREATED for state in connection.execute(query).scalars()):
                raise Problem(409, "file-sent", "the payment file was sent")
            return connection.execute(update(payouts).where(mine).values(file=None, iban=None)).rowcount

        count = await self._orders.writer.run(job)
        _log.info("payment file withdrawn", file=number, by=by, payouts=count)
        return count

    async def sent(self, number: int, *, digest: str, by: str) -> list[Payout]:
        """SENT: the bank has the file, or will have it now. Said again, it changes nothing.

        :param digest: SHA-256 of the file that was looked at, hexadecimal.
        :raises Problem: 404; 409 another file was looked at, this person may not send it, an account is not the
            merchant's any more, or its payouts were withdrawn.
        """
        now = self._clock()

        def job(connection: Connection) -> list[Payout]:
            found = file_of(connection, number)
            if found.digest != digest:
                raise Problem(409, "another-file", "the digest is not that of this payment file")
            query = select(payouts).where(payouts.c.file == number).order_by(payouts.c.number).with_for_update()
            inside = [Payout.of(row) for row in connection.execute(query)]
            if not inside:
                raise _withdrawn()
            waiting = [each for each in inside if each.state is _S.CREATED]
            makers = {found.made_by, *(each.created_by for each in waiting)}
            if waiting:
                self._require_another(by, made_by=found.made_by, makers=makers)
            for each in waiting:
                if _account(connection, each.merchant_id) != each.iban:
                    told = {"payout": each.reference, "alarm": True}
                    what = "account changed before the payment file was sent"
                    with_refusal(connection, partial(_log.error, what, **told))
                    raise Problem(
                        409,
                        "account-changed",
                        Message("the account of {merchant} is another one by now", merchant=each.merchant_id),
                    )
            self._send(connection, waiting, by, now)
            return [Payout.of(row) for row in connection.execute(query)]

        done = await self._orders.writer.run(job)
        self._checkpoint("payment-file-sent")
        return done

    @staticmethod
    def _send(connection: Connection, waiting: Iterable[Payout], by: str, now: datetime) -> None:
        for each in waiting:
            values = {"state": _S.SENT, "sent_at": now, "sent_by": by}
            connection.execute(update(payouts).where(payouts.c.number == each.number).values(values))
            posting = ledger.payout_sent(each.reference, merchant_id=each.merchant_id, day=each.day, amount=each.amount)
            post(connection, [posting], now)

    def _require_officer(self, by: str) -> None:
        if not self._dual_control.counts(by):
            raise Problem(
                409,
                "officers-only",
                "two officers make and send a payment file, and the console is none: act with --as NAME",
                clause=_CLAUSE,
            )

    def _require_another(self, by: str, *, made_by: str, makers: Collection[str]) -> None:
        if self._dual_control is DualControl.OFF:
            return
        self._require_officer(by)
        if by in makers:
            raise Problem(
                409,
                "same-person",
                "another person must send a payment file than made it or its payouts: they act with --as NAME",
                clause=_CLAUSE,
            )
        if not self._dual_control.counts(made_by):  # before the setting was changed
            raise Problem(
                409,
                "made-at-console",
                "this payment file was made at the console: withdraw it, and make it anew with --as NAME",
                clause=_CLAUSE,
            )

    def _the_payer(self) -> Payer:
        if self._payer is None:
            raise Problem(409, "no-payer", "the settings name no account that merchants are paid from (payer_iban)")
        return self._payer


def _account(connection: Connection, merchant_id: str) -> str | Left:
    """The registered account, if the merchant's certificate is bound to it now; else why not."""
    query = select(merchant_accounts.c.iban).where(merchant_accounts.c.merchant_id == merchant_id)
    iban: str | None = connection.execute(query).scalar_one_or_none()
    if iban is None:
        return Left(merchant_id, date.min, "no-account")
    if not is_bound(connection, merchant_id, iban):
        what = "the account is not the one of the merchant's certificate"
        with_refusal(connection, partial(_log.error, what, merchant=merchant_id, alarm=True))
        return Left(merchant_id, date.min, "account-not-bound")
    return iban


def _transfer(payout: Payout, iban: str) -> Transfer:
    remittance = f"Card sales of {payout.business_day}, merchant {payout.merchant_id}"
    return Transfer(payout.reference, payout.beneficiary, iban, payout.amount, remittance)


def _withdrawn() -> Problem:
    return Problem(409, "file-withdrawn", "the payouts of this file were taken out of it")


def file_of(connection: Connection, number: int) -> PaymentFile:
    row = connection.execute(select(payment_files).where(payment_files.c.number == number)).one_or_none()
    if row is None:
        raise Problem(404, "no-such-file", "there is no payment file of this number")
    return PaymentFile.of(row)


def _day_in_iran(now: datetime) -> date:
    return now.astimezone(IRAN_STANDARD_TIME).date()
