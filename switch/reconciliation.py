"""Reconciliation (0500): the acquirer says what it counted of a merchant and business day, the switch what it did.

The answer's DE 66 says whether they agree, its DE 74 to 77, 86 to 89 and 97 are the switch's own sums, and its DE 15 is
the business day that is open now: while that is the day asked for, the sums are not final.
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from types import MappingProxyType
from typing import Final

from sqlalchemy import Connection

from shetab.errors import ValueFormatError
from shetab.jalali import complete_date, transmission_time
from shetab.message import Message
from switch import business_day
from switch.movements import Movement, Totals, totals
from switch.recording import Refused, Rules, require_member

_RIAL: Final = "364"
_IN_BALANCE: Final = "1"
_OUT_OF_BALANCE: Final = "2"
_ERROR: Final = "3"

FIELDS: Final[Mapping[Movement, tuple[int, int]]] = MappingProxyType(
    {
        Movement.CREDIT: (74, 86),
        Movement.CREDIT_REVERSAL: (75, 87),
        Movement.DEBIT: (76, 88),
        Movement.DEBIT_REVERSAL: (77, 89),
    }
)
"""Data elements of number and amount of each movement."""


def reconcile(
    connection: Connection, rules: Rules, request: Message, *, signed_on: str | None, now: datetime
) -> Message:
    """Answer a 0500 or 0501. Nothing is kept of it: asked again, it is answered anew."""
    own: dict[int, str] = {}
    try:
        require_member(connection, request, signed_on)
        day = complete_date(request[15], now)
        own = sums(totals(connection, request[32], request[42].rstrip(), day))
        rc, settled = "00", _IN_BALANCE if all(request[field] == own[field] for field in own) else _OUT_OF_BALANCE
    except Refused as refused:
        rc, settled = refused.rc, _ERROR
    except ValueFormatError:
        rc, settled = "12", _ERROR
    fields = rules.dialect.echoed_fields(request) | own
    fields |= {
        7: transmission_time(now),
        15: business_day.current(connection, now).strftime("%m%d"),
        39: rc,
        50: _RIAL,
        66: settled,
    }
    return Message(rules.dialect.response_mti(request.mti), fields)


def sums(found: Totals) -> dict[int, str]:
    """DE 74 to 77, 86 to 89 and 97 of these totals."""
    fields: dict[int, str] = {}
    for kind, (number, amount) in FIELDS.items():
        count, total = found.of[kind]
        fields |= {number: f"{count:010d}", amount: f"{total:016d}"}
    # Seen from the acquirer: C, it gets the net; D, it owes it.
    return fields | {97: f"{'C' if found.net >= 0 else 'D'}{abs(found.net):016d}"}
