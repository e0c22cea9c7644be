"""Whose halves count where two persons are needed: an order's outcome that persons state, and a payment file.

| `dual_control` | states an outcome   | confirms it         | makes a payment file | sends it                         |
| -------------- | ------------------- | ------------------- | -------------------- | -------------------------------- |
| `officers`     | an officer          | another officer     | an officer           | an officer who made none of it   |
| `console`      | an officer, console | an officer, another | an officer, console  | whoever made none of it          |
| `off`          | an officer, console | an officer, another | an officer, console  | an officer, console              |

The operator's console is no person by name. Who sits at it may be an officer, too, and would do both halves alone.
"""

from __future__ import annotations

from enum import StrEnum
from typing import Final

_OFFICER: Final = "officer:"


class DualControl(StrEnum):
    """`dual_control` in `[gateway]`. An outcome needs two under each of them."""

    OFFICERS = "officers"
    CONSOLE = "console"
    OFF = "off"

    def counts(self, by: str) -> bool:
        """Whether what `by` did is one of two halves; `by` is the caller as the certificate names it."""
        return self is not DualControl.OFFICERS or by.startswith(_OFFICER)
