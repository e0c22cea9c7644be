"""The DER structures of rows 22 and 23: a merchant's batches, and what the acquirer pays it for.

Both name a movement of money by the gateway's answer that approved it, so two books can be compared line by line.
"""

from __future__ import annotations

from datetime import date as day_of_calendar
from typing import Annotated, Final

from cryptography.hazmat import asn1

from kwbp import fields
from kwbp.codes import BatchOperation, BatchStatus, EntryKind
from kwbp.fields import Hash32, Id20
from kwbp.money import Money, check_payable
from kwbp.structure import Structure

MAX_ADVICE_LINES: Final = 2000
"""Lines in one advice, which has room in one message; a day with more has several parts."""
_MOST: Final = 10**18
"""Sums are of many amounts, so they may be more than one amount may be; 64 bits hold them everywhere."""
_MANY: Final = 1_000_000


@asn1.sequence
class Entry(Structure):
    """A movement of money in a merchant's batch: `amount` in rial, always positive, its direction said by `kind`.

    `h_answer` is the hash of the gateway's answer that approved it, `date` the date in that answer, by which it belongs
    to the batch that was open then.
    """

    kind: EntryKind
    xid: Id20
    h_answer: Hash32
    amount: int
    date: asn1.GeneralizedTime

    def validate(self) -> None:
        check_payable(Money.rial(self.amount))
        fields.check_times(("date", self.date))


@asn1.sequence
class KindTotal(Structure):
    """How many entries of a kind, and the sum of their amounts in rial."""

    kind: EntryKind
    count: int
    amount: int

    def validate(self) -> None:
        _check_range("count", self.count, 1, _MANY)
        _check_range("amount", self.amount, 1, _MOST)


@asn1.sequence
class BatchTotals(Structure):
    """The sums of a batch: one total a kind that occurs, in ascending order of kinds.

    `net` is what the merchant gets, negative if it gave more than it got. `h_entries` is SHA-256 over the DER of every
    Entry, one behind another, in ascending order of these octets (as DER orders a SET OF): two books with equal sums
    of different entries are not equal.
    """

    totals: Annotated[list[KindTotal], asn1.Size(0, 6)]
    net: int
    h_entries: Hash32

    def validate(self) -> None:
        for total in self.totals:
            total.validate()
        kinds = [total.kind for total in self.totals]
        if kinds != sorted(set(kinds)):
            raise fields.refuse("totals", "must have each kind once, in ascending order")
        _check_range("net", self.net, -6 * _MOST, 6 * _MOST)

    def _sums(self) -> tuple[object, ...]:
        return (*((each.kind, each.count, each.amount) for each in self.totals), self.net, self.h_entries)

    def __eq__(self, other: object) -> bool:
        """Every sum, and the hash of the entries."""
        return isinstance(other, BatchTotals) and self._sums() == other._sums()

    def __hash__(self) -> int:
        return hash(self._sums())


@asn1.sequence
class BatchAdminReqTBS(Structure):
    """id-kwbp-ct-batchAdminReq, signed by the merchant: open its next batch, close it, or say how it stands.

    `until` is where the batch ends, exclusive: with close always, with status optional, with open never. `totals` are
    the merchant's own sums, with close and only there.
    """

    version: int
    rrpid: Id20
    merchant_id: str
    gw_id: str
    batch_id: int
    operation: BatchOperation
    until: Annotated[asn1.GeneralizedTime | None, asn1.Implicit(0)]
    totals: Annotated[BatchTotals | None, asn1.Implicit(1)]
    date: asn1.GeneralizedTime

    def validate(self) -> None:
        _check_parties(self.version, self.merchant_id, self.gw_id)
        _check_range("batchID", self.batch_id, 1, _MANY)
        if self.operation is not BatchOperation.STATUS and (self.until is None) != (
            self.operation is BatchOperation.OPEN
        ):
            raise fields.refuse("until", "must be there with close, may be with status, never with open")
        if (self.totals is None) == (self.operation is BatchOperation.CLOSE):
            raise fields.refuse("totals", "must be there with close, and only there")
        if self.totals is not None:
            self.totals.validate()
        fields.check_times(("until", self.until), ("date", self.date))


@asn1.sequence
class BatchAdminResTBS(Structure):
    """id-kwbp-ct-batchAdminRes, signed by the gateway: how the batch stands, with the gateway's own sums.

    `h_request` is the hash of the request. `begins` is where the last batch ended, absent in the first; `until` where
    this one ended or, while it is open, up to when `totals` count.
    """

    version: int
    rrpid: Id20
    merchant_id: str
    h_request: Hash32
    batch_id: int
    status: BatchStatus
    begins: Annotated[asn1.GeneralizedTime | None, asn1.Implicit(0)]
    until: asn1.GeneralizedTime
    totals: BatchTotals
    gw_id: str
    acquirer_id: str
    date: asn1.GeneralizedTime

    def validate(self) -> None:
        _check_parties(self.version, self.merchant_id, self.gw_id)
        _check_range("batchID", self.batch_id, 1, _MANY)
        self.totals.validate()
        fields.check_pattern("acquirerID", self.acquirer_id, fields.ACQUIRER)
        fields.check_times(("begins", self.begins), ("until", self.until), ("date", self.date))


@asn1.sequence
class AdviceLine(Structure):
    """One movement of money that is settled: as in Entry, with the acquirer's `fee` in rial, 0 if there is none."""

    kind: EntryKind
    xid: Id20
    h_answer: Hash32
    amount: int
    fee: int

    def validate(self) -> None:
        check_payable(Money.rial(self.amount))
        Money.rial(self.fee).validate()


@asn1.sequence
class SettleAdviceTBS(Structure):
    """id-kwbp-ct-settleAdvice, signed by the acquirer's gateway: what is paid for a business day, line by line.

    `business_date` is the day in Iran as `YYYYMMDD`, Gregorian. A day with more lines than one message holds has
    several `parts`, this being number `part`. `net` in rial is the sum of the lines, fees deducted, negative if the
    merchant owes it; it goes to, or comes from, `iban`.
    """

    most = MAX_ADVICE_LINES

    version: int
    rrpid: Id20
    merchant_id: str
    business_date: str
    part: int
    parts: int
    lines: Annotated[list[AdviceLine], asn1.Size(0, MAX_ADVICE_LINES)]
    net: int
    iban: str
    gw_id: str
    acquirer_id: str
    date: asn1.GeneralizedTime

    def validate(self) -> None:
        _check_parties(self.version, self.merchant_id, self.gw_id)
        fields.check_pattern("businessDate", self.business_date, fields.BUSINESS_DATE)
        try:
            day_of_calendar.fromisoformat(self.business_date)
        except ValueError:
            raise fields.refuse("businessDate", "must be a day of the calendar") from None
        _check_range("parts", self.parts, 1, 999)
        _check_range("part", self.part, 1, self.parts)
        for line in self.lines:
            line.validate()
        _check_range("net", self.net, -6 * _MOST, 6 * _MOST)
        fields.check_pattern("iban", self.iban, fields.IBAN)
        fields.check_pattern("acquirerID", self.acquirer_id, fields.ACQUIRER)
        fields.check_times(("date", self.date))

    @property
    def day(self) -> day_of_calendar:
        """`business_date` as a date."""
        return day_of_calendar.fromisoformat(self.business_date)


def _check_parties(version: int, merchant_id: str, gw_id: str) -> None:
    fields.check_version(version)
    fields.check_pattern("merchantID", merchant_id, fields.NAME)
    fields.check_pattern("gwID", gw_id, fields.NAME)


def _check_range(field: str, value: int, smallest: int, largest: int) -> None:
    if not smallest <= value <= largest:
        raise fields.refuse(field, f"must be {smallest} to {largest}")
