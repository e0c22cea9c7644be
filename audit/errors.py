"""Errors of the audit journal.

AuditError
├── EntryError           the caller's entry cannot be recorded (a float, a key that is no text, too long)
├── BrokenJournalError   the file is not a whole journal; says where it breaks and how
├── JournalLockedError   another process writes this journal
├── JournalFailedError   a write or sync failed: nothing may be recorded, so nothing be done, until it is opened anew
├── NoteError            a signed note, checkpoint or proof file is not one, or a signature on it does not hold
├── ForkError            the log does not extend a checkpoint that was signed for it
└── WitnessError         the witness cannot be asked, or gives an answer that is none

The first two stand in `audit.verify`, which an auditor runs alone.
"""

from __future__ import annotations

from audit.verify import AuditError, BrokenJournalError

__all__ = [
    "AuditError",
    "BrokenJournalError",
    "EntryError",
    "ForkError",
    "JournalFailedError",
    "JournalLockedError",
    "NoteError",
    "WitnessError",
]


class EntryError(AuditError):
    """The entry is not made of text, whole numbers, booleans, null, lists and objects, or exceeds the limit."""


class JournalLockedError(AuditError):
    """The file is open for writing elsewhere; two writers would fork the chain."""


class JournalFailedError(AuditError):
    """Recording failed (disk full, I/O error, closed). Whoever gets this must not act."""


class NoteError(AuditError):
    """A note, checkpoint, proof file or key text that is not exactly of its form, or a signature that does not hold.

    `reason` is a slug such as `cut`, `not-text`, `bad-signature`, `repeated-signature`, `bad-checkpoint`, `bad-proof`.
    """

    def __init__(self, reason: str, detail: str) -> None:
        super().__init__(f"{reason}: {detail}")
        self.reason = reason
        self.detail = detail


class ForkError(AuditError):
    """The log at hand and a checkpoint that its own key signed cannot both be true: it was cut, replaced or rewritten.

    Nothing may be recorded in it any more.
    """


class WitnessError(AuditError):
    """The witness is away, or its answer is not one of c2sp.org/tlog-witness. The log goes on without cosignature."""
