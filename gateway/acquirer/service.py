"""The acquirer's side of a gateway, put together: what operators ask of it, and merchants about themselves."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import date, datetime
from pathlib import Path
from typing import Any, Final, Literal

from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import load_pem_public_key
from sqlalchemy import Connection, Row, and_, func, or_, select, update

from gateway.acquirer import differences, journal
from gateway.acquirer.bank_answer import BankAnswerError, read_answer
from gateway.acquirer.differences import Decision, Imported, ImportRefusedError
from gateway.acquirer.fees import FeeSchedule
from gateway.acquirer.journal import Balance, StatementLine
from gateway.acquirer.ledger import Finding
from gateway.acquirer.list_folder import ListFolderSettings
from gateway.acquirer.network_pay import booked_of
from gateway.acquirer.payment_file import Payer
from gateway.acquirer.payout import Payout
from gateway.acquirer.payouts import Payouts
from gateway.acquirer.report import Report, acquirer_report, merchant_report
from gateway.acquirer.report_csv import report_csv
from gateway.dual_control import DualControl
from gateway.schema import reconciliations
from gateway.settling.days import DayState
from gateway.store import OrderStore
from runtime.language import Language, Message
from runtime.problems import Problem
from shetab.settlement_list import SettlementListError

Format = Literal["csv", "pdf"]
LONGEST_STATEMENT: Final = 1000
LONGEST_WAIT: Final = 30
"""Seconds that somebody may wait for networks to answer."""
_LOOK_AGAIN: Final = 0.05


@dataclass(frozen=True, slots=True)
class AcquirerSettings:
    """Who pays, under which control, and by which keys networks are believed."""

    payer: Payer | None = None
    dual_control: DualControl = DualControl.OFFICERS
    list_keys: Mapping[str, Path] = field(default_factory=dict)
    """By route: PEM of the public key (P-256) that its network signs settlement lists with."""
    list_folders: ListFolderSettings = field(default_factory=lambda: ListFolderSettings({}))


class AcquirerService:
    """See the module. Reads go beside the writer; reports and lists are worked on outside of the event loop."""

    def __init__(
        self,
        settings: AcquirerSettings,
        orders: OrderStore,
        *,
        acquirer: str,
        fees: FeeSchedule,
        clock: Callable[[], datetime],
        rng: Callable[[int], bytes],
        checkpoint: Callable[[str], None],
        on_wanted: Callable[[], None] = lambda: None,
    ) -> None:
        """:param on_wanted: called after days were marked to be compared now."""
        self._settings = settings
        self._orders = orders
        self._acquirer = acquirer
        self._on_wanted = on_wanted
        self._clock = clock
        self._checkpoint = checkpoint
        self.payouts = Payouts(
            orders,
            fees=fees,
            payer=settings.payer,
            dual_control=settings.dual_control,
            clock=clock,
            rng=rng,
            checkpoint=checkpoint,
        )

    # --- days and differences -----------------------------------------------------------------------------------------

    def days(self, *, day: date | None = None, merchant_id: str | None = None) -> list[Row[Any]]:
        """Rows of `reconciliations` by day, merchant and route, each with `booked`: what was booked of its payment."""
        columns = reconciliations.c
        query = select(reconciliations, booked_of(reconciliations).label("booked")).order_by(
            columns.business_day, columns.merchant_id, columns.route
        )
        if day is not None:
            query = query.where(columns.business_day == day.isoformat())
        if merchant_id is not None:
            query = query.where(columns.merchant_id == merchant_id)
        with self._orders.reading() as connection:
            return list(connection.execute(query))

    async def compare(
        self, *, day: date | None = None, merchant_id: str | None = None, wait: float = 0
    ) -> tuple[int, int]:
        """Have all open days, or those, compared with their networks now.

        :param wait: seconds to wait for the networks' answers.
        :returns: how many days there are, and how many of them no network has answered for yet.
        """
        columns, now = reconciliations.c, self._clock()
        which = columns.state == DayState.OPEN
        if day is not None:
            which = and_(which, columns.business_day == day.isoformat())
        if merchant_id is not None:
            which = and_(which, columns.merchant_id == merchant_id)

        def job(connection: Connection) -> int:
            return connection.execute(update(reconciliations).where(which).values(next_at=now)).rowcount

        def unanswered() -> int:
            # The answer that ends the day has it compared once more, at once: that one counts.
            last_word = or_(columns.over_at.is_(None), columns.compared_at > columns.over_at)
            compared = and_(columns.compared_at >= now, last_word)
            query = select(func.count()).where(which, func.coalesce(compared, False).is_(False))
            with self._orders.reading() as connection:
                return connection.execute(query).scalar_one()

        wanted = await self._orders.writer.run(job)
        self._on_wanted()
        left = await self._orders.look(unanswered)
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(wait):
                while left:
                    await asyncio.sleep(_LOOK_AGAIN)
                    left = await self._orders.look(unanswered)
        return wanted, left

    async def take_list(self, data: bytes, *, route: str, by: str) -> Imported:
        """Import the network's list of a day.

        :raises Problem: 409 nobody knows the network's key; 422 not signed by it, out of form, or not for us.
        """
        key = self._list_key(route)
        try:
            found = await asyncio.to_thread(differences.read, data, key, acquirer=self._acquirer)
        except (SettlementListError, ImportRefusedError) as error:
            raise _refused(error) from None
        neighbours = await asyncio.to_thread(self._around, route, found.business_day, key)
        now = self._clock()

        def job(connection: Connection) -> Imported:
            try:
                return differences.take(connection, found, data, neighbours, route=route, by=by, now=now)
            except ImportRefusedError as error:
                raise _refused(error) from None

        taken = await self._orders.writer.run(job)
        self._checkpoint("settlement-list-kept")
        return taken

    def _around(self, route: str, day: date, key: ec.EllipticCurvePublicKey) -> list[Any]:
        with self._orders.reading() as connection:
            return differences.around(connection, route, day, key)

    def _list_key(self, route: str) -> ec.EllipticCurvePublicKey:
        path = self._settings.list_keys.get(route)
        if path is None or not path.exists():
            raise Problem(
                409,
                "no-list-key",
                Message("nobody knows by which key the network of route {route} signs its lists", route=route),
            )
        try:
            key = load_pem_public_key(path.read_bytes())
        except (OSError, ValueError, UnsupportedAlgorithm):
            raise _wrong_key(route) from None
        if not isinstance(key, ec.EllipticCurvePublicKey) or not isinstance(key.curve, ec.SECP256R1):
            raise _wrong_key(route)
        return key

    def differences(
        self, *, day: date | None = None, merchant_id: str | None = None, state: str | None = None
    ) -> list[Row[Any]]:
        """Differences by day."""
        with self._orders.reading() as connection:
            return differences.listed(connection, day=day, merchant_id=merchant_id, state=state)

    async def decide(
        self, number: int, decision: Decision, *, excess: int | None = None, reason: str, by: str
    ) -> Row[Any]:
        """A person's word on an open difference.

        :param excess: as `differences.decide`.
        :raises Problem: 409 there is no open difference of this number, or not of this excess.
        """
        now = self._clock()

        def job(connection: Connection) -> Row[Any] | None:
            told: dict[str, Any] = {"excess": excess, "by": by, "reason": reason, "now": now}
            return differences.decide(connection, number, decision, **told)

        row = await self._orders.writer.run(job)
        if row is None:
            raise Problem(
                409,
                "no-open-difference",
                "there is no open difference of this number and excess: look again with 'kwbp gateway differences'",
            )
        self._checkpoint("difference-decided")
        return row

    # --- payouts ------------------------------------------------------------------------------------------------------

    async def take_bank_answer(self, data: bytes, *, by: str) -> list[Payout]:
        """What the bank said of payouts (pain.002 or CSV).

        :raises Problem: 422 it cannot be read; 404, 409 as `Payouts.answered`.
        """
        try:
            outcomes = await asyncio.to_thread(read_answer, data)
        except BankAnswerError as error:
            raise Problem(422, "bank-answer-refused", error.told) from None
        return await self.payouts.answered(outcomes, by=by)

    # --- books and reports --------------------------------------------------------------------------------------------

    def balances(self, through: date | None) -> list[Balance]:
        """Every account of the ledger."""
        with self._orders.reading() as connection:
            return journal.balances(connection, through)

    def statement(self, account: str, limit: int) -> list[StatementLine]:
        """The last lines of an account."""
        with self._orders.reading() as connection:
            return journal.statement(connection, account, limit)

    async def verify(self) -> list[Finding]:
        """The ledger against its causes, in one snapshot."""

        def look() -> list[Finding]:
            with self._orders.reading() as connection:
                return journal.verify(connection)

        return await asyncio.to_thread(look)

    async def report(
        self, merchant_id: str | None, day: date, form: Format, language: Language, *, bom: bool = False
    ) -> bytes:
        """A merchant's day, or all merchants' (None), as a file.

        :raises Problem: 404 an unknown merchant.
        """

        def make() -> bytes | None:
            with self._orders.reading() as connection:
                found = self._report(connection, merchant_id, day)
            if found is None:
                return None
            if form == "csv":
                return report_csv(found, language, bom=bom)
            from gateway.acquirer.report_pdf import pdf_bytes  # loaded for the first PDF: that takes a second

            return pdf_bytes(found, language)

        made = await asyncio.to_thread(make)
        if made is None:
            raise Problem(404, "unknown-merchant", "this gateway collects for no such merchant")
        return made

    def _report(self, connection: Connection, merchant_id: str | None, day: date) -> Report | None:
        now = self._clock()
        if merchant_id is None:
            return acquirer_report(connection, day, acquirer=self._acquirer, now=now)
        return merchant_report(connection, merchant_id, day, acquirer=self._acquirer, now=now)


def _refused(error: SettlementListError | ImportRefusedError) -> Problem:
    told = error.told if isinstance(error, ImportRefusedError) else Message(error.template, **error.values)
    return Problem(422, "settlement-list-refused", told)


def _wrong_key(route: str) -> Problem:
    return Problem(
        409, "no-list-key", Message("the key of route {route} must be a public key on P-256 (PEM)", route=route)
    )
