"""The record: an append-only log, a Merkle tree (RFC 6962), that shows what was altered, deleted, cut or reordered.

`Journal` writes (one process a file, many threads), `verify` and `read` need nothing but the files. The first says
whether a log is whole, the second gives its entries.
"""

from __future__ import annotations

from audit.entry import Entry, JsonValue
from audit.errors import (
    AuditError,
    BrokenJournalError,
    EntryError,
    JournalFailedError,
    JournalLockedError,
)
from audit.journal import Journal
from audit.replay import read
from audit.verify import TreeHead, Verification, verify

__all__ = [
    "AuditError",
    "BrokenJournalError",
    "Entry",
    "EntryError",
    "Journal",
    "JournalFailedError",
    "JournalLockedError",
    "JsonValue",
    "TreeHead",
    "Verification",
    "read",
    "verify",
]
