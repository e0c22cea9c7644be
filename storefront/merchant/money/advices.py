"""The acquirer's advice of a business day: fetched from the gateway, judged (N), kept, compared with the own book."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import date

from kwbp.common import read_signed
from kwbp.parties import MerchantIdentity
from kwbp.settling import CheckedAdvice, Difference, LedgerEntry, SettleAdviceTBS, check_settle_advice, differences
from kwbp.wrapper import unwrap
from pki.der import sha256
from pki.oids import CT_SETTLE_ADVICE
from runtime.language import Message
from storefront.errors import MoneyRefused
from storefront.merchant.money.book import MoneyBook
from storefront.merchant.named_gateway import NamedGateway
from storefront.merchant.resources import Resources


@dataclass(frozen=True, slots=True)
class AdviceReport:
    """A day's advice beside the own book. `differences` is empty where they agree."""

    day: date
    parts: Sequence[CheckedAdvice]
    ledger: Sequence[LedgerEntry]
    differences: Sequence[Difference]

    @property
    def net(self) -> int:
        """Rial that the acquirer pays, fees deducted."""
        return sum(each.body.net for each in self.parts)

    @property
    def expected(self) -> int:
        """Rial by the own book, before fees."""
        return sum(each.kind.sign * each.amount for each in self.ledger)

    @property
    def fees(self) -> int:
        return sum(line.fee for part in self.parts for line in part.body.lines)


class Advices:
    """Fetches and compares advices of one merchant."""

    def __init__(
        self, merchant: MerchantIdentity, book: MoneyBook, gateway: NamedGateway, resources: Resources
    ) -> None:
        self._merchant = merchant
        self._book = book
        self._named = gateway
        self._resources = resources

    async def report(self, day: date) -> AdviceReport:
        """Ask for every part of the day's advice, keep it, and compare.

        :raises MoneyRefused: the gateway has none: for it the day is not over.
        :raises ProtocolError: an advice that does not hold (N1 to N4, K). :raises GatewayUnreachable:
        """
        business_date = f"{day:%Y%m%d}"
        part, parts = 1, 1
        while part <= parts:
            parts = (await self._part(day, business_date, part)).body.parts
            part += 1
        kept = [_read(der) for der in self._book.advice(business_date).values()]
        await self._book.book_sales()
        ledger = self._ledger(day)
        return AdviceReport(day, kept, ledger, differences(kept, ledger))

    async def _part(self, day: date, business_date: str, part: int) -> CheckedAdvice:
        known = self._book.advice(business_date).get(part)
        came = await self._resources.gateway.advice(day.isoformat(), part)
        if came is None:
            if known is not None:
                return _read(known)
            raise MoneyRefused(Message("there is no advice of {day} yet: its business day is not over", day=day))
        now = self._resources.clock()
        trust = await self._resources.trust.trust(now)
        gateway = (await self._named.current(trust, now)).identity
        checked = check_settle_advice(
            unwrap(came, expected=(CT_SETTLE_ADVICE,)),
            merchant=self._merchant,
            gw_id=gateway.gateway_id,
            known=None if known is None else sha256(known),
            trust=trust,
            now=now,
        )
        body = checked.body
        await self._book.keep_advice(body.business_date, body.part, body.parts, checked.signed, now=now)
        self._resources.checkpoint("advice kept")
        return checked

    def _ledger(self, day: date) -> list[LedgerEntry]:
        """The own movements of a business day, which is the network's."""
        entries = self._book.entries_of_day(day)
        return [LedgerEntry(each.kind, each.xid, each.h_answer, each.amount) for each in entries]


def _read(signed: bytes) -> CheckedAdvice:
    """A part that passed its checks when it came."""
    received = read_signed(SettleAdviceTBS, CT_SETTLE_ADVICE, signed)
    return CheckedAdvice(received.body, signed, received.digest)
