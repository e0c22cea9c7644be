"""The states of a key version, and which change leads from one to another: a table, because it is policy.

    PENDING ──made──► ENABLED ⇄ DISABLED ──schedule──► DESTROY_SCHEDULED ──destroy──► DESTROYED
                                   ▲                         │
                                   └─────────keep────────────┘

A version that was destroyed stays in the registry for ever, with its certificate, as the record of what there was; its
number is never given again. Destruction is two steps apart in time, because it is the one change that nobody can undo.
"""

from __future__ import annotations

from collections.abc import Mapping
from enum import StrEnum
from typing import Final

from runtime.problems import Problem


class KeyState(StrEnum):
    """Where a version stands in its life."""

    PENDING = "PENDING"
    """The row is there, the key may not be."""
    ENABLED = "ENABLED"
    """It serves."""
    DISABLED = "DISABLED"
    """It serves nobody; the token still holds it."""
    DESTROY_SCHEDULED = "DESTROY_SCHEDULED"
    """As DISABLED; destroyed at a date, until which it can be restored."""
    DESTROYED = "DESTROYED"
    """No token holds it any more, and none ever will."""


class Change(StrEnum):
    """What can be done to a version."""

    MADE = "made"
    ENABLE = "enable"
    DISABLE = "disable"
    SCHEDULE = "schedule-destruction"
    KEEP = "keep"
    DESTROY = "destroy"


TRANSITIONS: Final[Mapping[tuple[KeyState, Change], KeyState]] = {
    (KeyState.PENDING, Change.MADE): KeyState.ENABLED,
    (KeyState.ENABLED, Change.DISABLE): KeyState.DISABLED,
    (KeyState.DISABLED, Change.ENABLE): KeyState.ENABLED,
    (KeyState.DISABLED, Change.SCHEDULE): KeyState.DESTROY_SCHEDULED,
    (KeyState.DESTROY_SCHEDULED, Change.KEEP): KeyState.DISABLED,
    (KeyState.DESTROY_SCHEDULED, Change.DESTROY): KeyState.DESTROYED,
}
"""Every change that there is; whatever is not here is refused."""


def after(state: KeyState, change: Change) -> KeyState:
    """The state that `change` leads to from `state`; Problem 409 `key-state` if it leads nowhere."""
    target = TRANSITIONS.get((state, change))
    if target is None:
        possible = ", ".join(each.value for start, each in TRANSITIONS if start is state) or "nothing"
        raise Problem(409, "key-state", f"a version that is {state} does not take {change.value}; it takes {possible}")
    return target
