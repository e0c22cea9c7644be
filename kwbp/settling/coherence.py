"""Rules about money that has moved which both the signer of a statement and its reader apply (see `kwbp.coherence`)."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from datetime import datetime
from hashlib import sha256

from kwbp.codes import AuthCode, BatchOperation, BatchStatus, EntryKind
from kwbp.common import instant
from kwbp.settling.messages import SettlingResTBS
from kwbp.settling.statements import (
    AdviceLine,
    BatchAdminReqTBS,
    BatchAdminResTBS,
    BatchTotals,
    Entry,
    KindTotal,
    SettleAdviceTBS,
)
from kwbp.structure import encode


def is_referenced(answer: SettlingResTBS) -> bool:
    """J4: an approval names what the bank network calls it; piPreviouslyUsed is said of orders only."""
    references = (answer.rc, answer.stan, answer.rrn)
    approved = answer.auth_code is AuthCode.APPROVED
    return answer.auth_code is not AuthCode.PI_PREVIOUSLY_USED and not (approved and None in references)


def within(entries: Iterable[Entry], *, begins: datetime | None, until: datetime) -> tuple[Entry, ...]:
    """The entries of a batch: answered at `begins` or later and before `until`; from the first if `begins` is None."""
    return tuple(
        entry for entry in entries if (begins is None or begins <= instant(entry.date)) and instant(entry.date) < until
    )


def totals_of(entries: Sequence[Entry]) -> BatchTotals:
    """L5: the sums of a batch, the one way in which both sides compute them (see `BatchTotals`).

    :raises ProtocolError: an entry is out of form (K1).
    """
    sums: dict[EntryKind, tuple[int, int]] = {}
    for entry in entries:
        count, amount = sums.get(entry.kind, (0, 0))
        sums[entry.kind] = (count + 1, amount + entry.amount)
    totals = [KindTotal(kind=kind, count=sums[kind][0], amount=sums[kind][1]) for kind in sorted(sums)]
    digest = sha256(b"".join(sorted(encode(entry) for entry in entries))).digest()
    return BatchTotals(totals=totals, net=_net(totals), h_entries=digest)


def adds_up(totals: BatchTotals) -> bool:
    """L5: net is the sum of the kinds, each with its sign."""
    return totals.net == _net(totals.totals)


def _net(totals: Iterable[KindTotal]) -> int:
    return sum(total.kind.sign * total.amount for total in totals)


def closes_in_time(request: BatchAdminReqTBS) -> bool:
    """L4, as far as the merchant can tell: a batch ends, or is looked at, no later than it is asked for."""
    return request.until is None or instant(request.until) <= instant(request.date)


def stands_in_time(answer: BatchAdminResTBS) -> bool:
    """L4: a batch ends after it began, and not after the answer."""
    begins = instant(answer.begins) if answer.begins is not None else None
    return (begins is None or begins <= instant(answer.until)) and instant(answer.until) <= instant(answer.date)


def answers_what_was_asked(answer: BatchAdminResTBS, request: BatchAdminReqTBS) -> bool:
    """L8: after open the batch is open; after close it is closed, where it was to end, with the sums that both have.

    Status may be either. A batch that is still open is counted up to when it was asked for.
    """
    closed = answer.status is BatchStatus.CLOSED
    ends_as_asked = request.until is None or instant(answer.until) == instant(request.until)
    if request.operation is BatchOperation.CLOSE:
        return closed and ends_as_asked and answer.totals == request.totals
    return (closed or ends_as_asked) if request.operation is BatchOperation.STATUS else not closed


def advised_net(lines: Iterable[AdviceLine]) -> int:
    """N3: what is paid for these lines: each with its sign, fees deducted."""
    return sum(line.kind.sign * line.amount - line.fee for line in lines)


def is_net(advice: SettleAdviceTBS) -> bool:
    """N3: net is the sum of the lines."""
    return advice.net == advised_net(advice.lines)
