"""The states of an application and the only ways between them.

| from                     | action    | to                                               | actor                |
| ------------------------ | --------- | ------------------------------------------------ | -------------------- |
| –                        | open      | DRAFT                                            | applicant, officer   |
| DRAFT                    | submit    | SCREENING                                        | who opened it        |
| SCREENING                | screen    | VETTING, RETURNED, REJECTED                      | system               |
| RETURNED and both below  | amend     | SCREENING                                        | who opened it        |
| VETTING, AWAITING        | record    | VETTING, AWAITING                                | officer, applicant   |
| VETTING, AWAITING        | decide    | VETTING, AWAITING, APPROVED, REJECTED            | officer, system      |
| VETTING, AWAITING        | return    | RETURNED, REJECTED                               | system: a rule broke |
| APPROVED                 | return    | VETTING, AWAITING, RETURNED, REJECTED            | system: a rule broke |
| APPROVED                 | issue     | ISSUING                                          | system               |
| ISSUING                  | fail      | APPROVED                                         | system: the CA refused |
| ISSUING                  | store     | ISSUED                                           | system               |
| open states              | withdraw  | WITHDRAWN                                        | who opened it        |
| open states              | expire    | EXPIRED                                          | clock                |

A rule that breaks while a case waits (evidence grows too old, the statement is superseded, a key is reported
compromised) sends it back by `return`. `record` is new evidence: it makes earlier decisions fall away, so the case may
go back from AWAITING_APPROVAL to VETTING.
"""

from __future__ import annotations

from enum import StrEnum
from typing import Final


class State(StrEnum):
    """The states."""

    DRAFT = "DRAFT"
    SCREENING = "SCREENING"
    VETTING = "VETTING"
    AWAITING_APPROVAL = "AWAITING_APPROVAL"
    APPROVED = "APPROVED"
    ISSUING = "ISSUING"
    ISSUED = "ISSUED"
    RETURNED = "RETURNED"
    REJECTED = "REJECTED"
    WITHDRAWN = "WITHDRAWN"
    EXPIRED = "EXPIRED"


class Action(StrEnum):
    """What moves an application."""

    OPEN = "open"
    SUBMIT = "submit"
    SCREEN = "screen"
    AMEND = "amend"
    RECORD = "record"
    DECIDE = "decide"
    RETURN = "return"
    ISSUE = "issue"
    FAIL = "fail"
    STORE = "store"
    WITHDRAW = "withdraw"
    EXPIRE = "expire"


DECIDABLE: Final = frozenset({State.VETTING, State.AWAITING_APPROVAL})
OPEN: Final = DECIDABLE | {State.DRAFT, State.RETURNED}
"""States that an applicant may withdraw from and the clock may end. Not APPROVED: the CA may be at it."""
ENDED_WITHOUT: Final = frozenset({State.REJECTED, State.WITHDRAWN, State.EXPIRED})
"""States in which no certificate will come of the application any more."""

_BACK: Final = frozenset({State.RETURNED, State.REJECTED})

_WAYS: Final[dict[Action, tuple[frozenset[State], frozenset[State]]]] = {
    Action.SUBMIT: (frozenset({State.DRAFT}), frozenset({State.SCREENING})),
    Action.SCREEN: (frozenset({State.SCREENING}), frozenset({State.VETTING}) | _BACK),
    Action.AMEND: (DECIDABLE | {State.RETURNED}, frozenset({State.SCREENING})),
    Action.RECORD: (DECIDABLE | {State.DRAFT, State.RETURNED}, DECIDABLE | {State.DRAFT, State.RETURNED}),
    Action.DECIDE: (DECIDABLE, DECIDABLE | {State.APPROVED, State.REJECTED}),
    Action.RETURN: (DECIDABLE | {State.APPROVED}, DECIDABLE | _BACK),
    Action.ISSUE: (frozenset({State.APPROVED}), frozenset({State.ISSUING})),
    Action.FAIL: (frozenset({State.ISSUING}), frozenset({State.APPROVED})),
    Action.STORE: (frozenset({State.ISSUING}), frozenset({State.ISSUED})),
    Action.WITHDRAW: (OPEN, frozenset({State.WITHDRAWN})),
    Action.EXPIRE: (OPEN, frozenset({State.EXPIRED})),
}


def allowed(action: Action, state: State) -> bool:
    """Whether the action exists in this state."""
    return state in _WAYS[action][0]


def leads(action: Action, before: State, after: State) -> bool:
    """Whether the action leads from one state to the other."""
    sources, targets = _WAYS[action]
    return before in sources and after in targets
