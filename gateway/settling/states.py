"""The life of a request of rows 19 to 21 at the gateway.

    TAKEN ─► SENT ─► CONCLUDED ─► ANSWERED   the final answer is signed and stored
      └─────────────────┘
       nothing can be sent: declined

A request that was refused before its checks passed has no state and leaves no trace. Until it is ANSWERED it is the
one open request of its order. SENT is sent again, as a repeat, until an answer can be believed: money that may have
moved is neither told as moved nor as not moved.
"""

from __future__ import annotations

from enum import StrEnum
from typing import Final


class SettlingState(StrEnum):
    """The value is what the database holds."""

    TAKEN = "TAKEN"
    """All checks passed, this request holds the order. Nothing has left."""
    SENT = "SENT"
    """The message may be at the switch."""
    CONCLUDED = "CONCLUDED"
    """What the switch did is known, and the answer is dated. It is not signed yet."""
    ANSWERED = "ANSWERED"
    """The final answer is signed and stored; of a release, what the network said of it is stored."""


_S: Final = SettlingState
MOVES: Final[dict[SettlingState, frozenset[SettlingState]]] = {
    _S.TAKEN: frozenset({_S.SENT, _S.CONCLUDED}),
    # SENT again: a repeat. CONCLUDED again: dated anew, because the signature came too late.
    _S.SENT: frozenset({_S.SENT, _S.CONCLUDED}),
    _S.CONCLUDED: frozenset({_S.CONCLUDED, _S.ANSWERED}),
    _S.ANSWERED: frozenset(),
}


RELEASE_MOVES: Final[dict[SettlingState, frozenset[SettlingState]]] = {
    _S.TAKEN: frozenset({_S.SENT, _S.ANSWERED}),
    _S.SENT: frozenset({_S.SENT, _S.ANSWERED}),
    _S.CONCLUDED: frozenset(),
    _S.ANSWERED: frozenset(),
}
"""Of a release (`gateway.settling.releases`): there is nobody to answer, so nothing is dated and signed."""


def may_follow(before: SettlingState, after: SettlingState, *, release: bool = False) -> bool:
    """Whether a request, or a release, may go from `before` to `after`."""
    return after in (RELEASE_MOVES if release else MOVES)[before]
