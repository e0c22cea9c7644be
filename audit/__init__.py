"""The record: an append-only, hash-chained journal that shows what was altered, deleted or reordered.

`Journal` writes (one process a file, many threads), `verify` and `read` need nothing but the file. The first says
whether a log is whole, the second gives its entries.
"""

from __future__ import annotations

from audit.entry import GENESIS, Entry, JsonValue
from audit.errors import (
    AuditError,
    BrokenJournalError,
    EntryError,
    JournalFailedError,
    JournalLockedError,
)
from audit.journal import Journal
from audit.verify import Head, Verification, read, verify

__all__ = [
    "GENESIS",
    "AuditError",
    "BrokenJournalError",
    "Entry",
    "EntryError",
    "Head",
    "Journal",
    "JournalFailedError",
    "JournalLockedError",
    "JsonValue",
    "Verification",
    "read",
    "verify",
]
