"""How the status of a certificate may change: suspended, released, revoked for good (CPS 4.9, RFC 5280 5.3.1).

                 suspend              release
    (good) ──────────────► held ──────────────► released ──► as good, and may be suspended again
       │                    │                       │
       └──── revoke ────────┴──────── revoke ───────┘──► revoked, for ever

A held certificate that is revoked keeps the date of its suspension as revocationDate, because nobody could rely on it
since then (X.509, reason code extension). An order to suspend or release that was written before the last change is out
of date: without that rule a release that was held back could end a suspension that came after it.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum

from cps.decision import Kind
from cps.model import OrderReason
from cps.rules import Rule
from runtime.language import Message, Term


class State(StrEnum):
    """The status of a certificate on which there ever was an order; others are good."""

    HELD = "held"
    RELEASED = "released"
    REVOKED = "revoked"


@dataclass(frozen=True, slots=True)
class Standing:
    """The status of a certificate; `since` is the revocationDate of its entry, of a released one the release."""

    state: State
    reason: str
    since: datetime


@dataclass(frozen=True, slots=True)
class Objection:
    """Why an order changes nothing."""

    rule: Rule
    told: Message

    @property
    def message(self) -> str:
        """Why, in English."""
        return str(self.told)


def change(
    standing: Standing | None, reason: OrderReason, *, ordered_at: datetime, now: datetime
) -> Standing | Objection:
    """The standing after an order for `reason`, written at `ordered_at` and carried out at `now`; None is good."""
    kind = Kind.of(reason)
    if standing is None:
        held_since = None
    elif standing.state is State.REVOKED:
        return _no(
            Message(
                "it was revoked on {time} ({reason}), for good", time=_instant(standing.since), reason=standing.reason
            )
        )
    elif kind is not Kind.REVOKE and ordered_at < standing.since:
        return _no(
            Message(
                "the order was written before it was {state} on {time}",
                state=Term("standing", standing.state),
                time=_instant(standing.since),
            )
        )
    else:
        held_since = standing.since if standing.state is State.HELD else None
    if kind is Kind.REVOKE:
        return Standing(State.REVOKED, reason, held_since or now)
    if kind is Kind.SUSPEND:
        return Standing(State.HELD, reason, now) if held_since is None else _no(Message("it is suspended already"))
    if held_since is None:
        return _no(Message("it is not suspended, so there is nothing to release it from"))
    return Standing(State.RELEASED, reason, now)


def _no(told: Message) -> Objection:
    return Objection(Rule.REV_STATE, told)


def _instant(moment: datetime) -> str:
    return f"{moment:%Y-%m-%dT%H:%M:%SZ}"
