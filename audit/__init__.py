"""The record: an append-only log, a Merkle tree (RFC 6962), that shows what was altered, deleted, cut or reordered.

`Journal` writes (one process a file, many threads), `verify` and `read` need nothing but the files. The first says
whether a log is whole, the second gives its entries.

    entry               an entry and its canonical bytes
    journal replay      writing: on the disk before anybody is told so; reading, and going on where it ends
    merkle tiles        the tree of RFC 6962, and the log as files of c2sp.org/tlog-tiles
    note checkpoint checkpoint_files    signed notes, checkpoints, and those that lie beside a log

    keeper              a service's log from start to end; of that:
    anchor              what it must extend before it is opened
    checkpointer        has it signed by the token key and witnessed while it goes on
    log_key             the token key of a log, as a certificate says it

    witness witness_service witness_client      remembers how far each log had come; its process; how logs ask it

    verify              the offline verifier: one file, the standard library alone
    overview            the same with signatures, up to the pinned root (`kwbp audit verify`)
    proof proving       proofs of one entry, checked and made
    export              a log for somebody else
    errors
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
