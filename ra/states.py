"""The states of an application and the only ways between them.

| from                              | action     | to                                   | actor                       |
| --------------------------------- | ---------- | ------------------------------------ | --------------------------- |
| –                                 | open       | DRAFT                                | applicant, officer          |
| DRAFT                             | submit     | SCREENING                            | who opened it               |
| SCREENING                         | screen     | VETTING, ON_HOLD, RETURNED, REJECTED | system                      |
| decidable, RETURNED, ISSUE_FAILED | amend      | SCREENING                            | who opened it               |
| decidable                         | record     | decidable                            | officer, applicant          |
| decidable                         | decide     | decidable, APPROVED, REJECTED        | officer, system             |
| decidable                         | return     | RETURNED                             | officer                     |
| decidable, APPROVED, ISSUE_FAILED | return     | decidable, RETURNED, REJECTED        | system (below)              |
| decidable, RETURNED, ISSUE_FAILED | hold       | ON_HOLD                              | officer                     |
| ON_HOLD                           | release    | where it was held, judged anew       | officer                     |
| decidable, APPROVED, ISSUE_FAILED | reevaluate | SCREENING                            | system (below)              |
| APPROVED, ISSUE_FAILED            | issue      | ISSUING                              | system, officer             |
| ISSUING                           | fail       | ISSUE_FAILED                         | system: the CA refused      |
| ISSUING                           | store      | ISSUED                               | system                      |
| ISSUED                            | accept     | ACTIVE                               | who opened it               |
| ISSUED, ACTIVE                    | revoke     | REVOKED                              | who may order it, or system |
| open states                       | withdraw   | WITHDRAWN                            | who opened it               |
| open states                       | expire     | EXPIRED                              | clock                       |
| open states                       | warn       | the same                             | clock                       |

Decidable are VETTING and AWAITING_APPROVAL. A rule that breaks while a case waits (evidence grows too old, an approval
lapses, a key is reported compromised) sends it back by `return`; a statement that is superseded by `reevaluate`, which
writes a revision under the new one. `record` is new evidence: it makes earlier decisions fall away, so the case may go
back from AWAITING_APPROVAL to VETTING.
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
    ISSUE_FAILED = "ISSUE_FAILED"
    ISSUED = "ISSUED"
    ACTIVE = "ACTIVE"
    REVOKED = "REVOKED"
    ON_HOLD = "ON_HOLD"
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
    HOLD = "hold"
    RELEASE = "release"
    REEVALUATE = "reevaluate"
    ISSUE = "issue"
    FAIL = "fail"
    STORE = "store"
    ACCEPT = "accept"
    REVOKE = "revoke"
    WITHDRAW = "withdraw"
    EXPIRE = "expire"
    WARN = "warn"


DECIDABLE: Final = frozenset({State.VETTING, State.AWAITING_APPROVAL})
OPEN: Final = DECIDABLE | {State.DRAFT, State.SCREENING, State.RETURNED, State.ON_HOLD, State.ISSUE_FAILED}
"""States that an applicant may withdraw from and the clock may end. Not APPROVED: the CA may be at it.

SCREENING is not held: who waits for registers is told by the clock, and held by what they answer."""
DECIDING: Final = DECIDABLE | {State.SCREENING}
"""States in which the clock runs within which a case should be decided (CPS 4.2.3)."""
CERTIFIED: Final = frozenset({State.ISSUED, State.ACTIVE})
"""States with certificates that are not all revoked, as far as the RA was told."""
ENDED_WITHOUT: Final = frozenset({State.REJECTED, State.WITHDRAWN, State.EXPIRED})
"""States in which no certificate will come of the application any more."""

_BACK: Final = frozenset({State.RETURNED, State.REJECTED})
_HOLDABLE: Final = OPEN - {State.DRAFT, State.SCREENING, State.ON_HOLD}

_WAYS: Final[dict[Action, tuple[frozenset[State], frozenset[State]]]] = {
    Action.SUBMIT: (frozenset({State.DRAFT}), frozenset({State.SCREENING})),
    Action.SCREEN: (frozenset({State.SCREENING}), frozenset({State.VETTING, State.ON_HOLD}) | _BACK),
    Action.AMEND: (DECIDABLE | {State.RETURNED, State.ISSUE_FAILED}, frozenset({State.SCREENING})),
    Action.RECORD: (DECIDABLE | {State.DRAFT, State.RETURNED}, DECIDABLE | {State.DRAFT, State.RETURNED}),
    Action.DECIDE: (DECIDABLE, DECIDABLE | {State.APPROVED, State.REJECTED}),
    Action.RETURN: (DECIDABLE | {State.APPROVED, State.ISSUE_FAILED}, DECIDABLE | _BACK),
    Action.HOLD: (_HOLDABLE, frozenset({State.ON_HOLD})),
    Action.RELEASE: (frozenset({State.ON_HOLD}), _HOLDABLE | {State.APPROVED, State.REJECTED}),
    Action.REEVALUATE: (DECIDABLE | {State.APPROVED, State.ISSUE_FAILED}, frozenset({State.SCREENING})),
    Action.ISSUE: (frozenset({State.APPROVED, State.ISSUE_FAILED}), frozenset({State.ISSUING})),
    Action.FAIL: (frozenset({State.ISSUING}), frozenset({State.ISSUE_FAILED})),
    Action.STORE: (frozenset({State.ISSUING}), frozenset({State.ISSUED})),
    Action.ACCEPT: (frozenset({State.ISSUED}), frozenset({State.ACTIVE})),
    Action.REVOKE: (CERTIFIED, frozenset({State.REVOKED})),
    Action.WITHDRAW: (OPEN, frozenset({State.WITHDRAWN})),
    Action.EXPIRE: (OPEN, frozenset({State.EXPIRED})),
    Action.WARN: (OPEN, OPEN),
}


def allowed(action: Action, state: State) -> bool:
    """Whether the action exists in this state."""
    return state in _WAYS[action][0]


def leads(action: Action, before: State, after: State) -> bool:
    """Whether the action leads from one state to the other."""
    sources, targets = _WAYS[action]
    return before in sources and after in targets and (action is not Action.WARN or before is after)
