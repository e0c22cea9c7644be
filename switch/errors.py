"""Errors of the switch simulator. None holds card data.

    SwitchError
    ├── BankError          a request at the bank's counter that cannot be met; `reason` is a stable slug
    ├── LedgerError        money would appear, vanish or go below zero; a fault of this program
    ├── KeyIndexError      the two ends of the zone do not hold the same key: named by its index
    └── KeyFileError       zone-key components or the issuer key file are missing or malformed

A payment that is refused is no error: it is answered with a response code.
"""

from __future__ import annotations


class SwitchError(Exception):
    """Base of everything this package raises."""


class BankError(SwitchError):
    """The counter refuses; `reason` is one of the keys of `switch.admin.STATUS`."""

    def __init__(self, reason: str, detail: str) -> None:
        super().__init__(detail)
        self.reason = reason
        self.detail = detail


class LedgerError(SwitchError):
    """A booking that would break the ledger."""


class KeyIndexError(SwitchError):
    """A zone key that this end does not hold, or no more."""


class KeyFileError(SwitchError):
    """A key file is not as expected; the text names the file."""
