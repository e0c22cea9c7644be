"""What can be said of a log offline, with the pinned root and the pinned witness (`kwbp audit verify`)."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from cryptography import x509

from audit.checkpoint_files import CheckpointFiles, SignedCheckpoint
from audit.errors import AuditError, NoteError
from audit.log_key import LogKey
from audit.note import VerifierKey
from audit.verify import TreeHead, Verification, verify


@dataclass(frozen=True, slots=True)
class Overview:
    """A log that is whole, or why it is not (`fault`).

    `signed` is the size of the newest checkpoint that the log's key signed, `key` its certificate's path from the key
    up to the root in words; `witnessed` the size of the newest cosigned one, `witnessed_at` when that was.
    """

    log: str
    fault: str | None = None
    head: TreeHead | None = None
    signed: int | None = None
    key: str | None = None
    witnessed: int | None = None
    witnessed_at: datetime | None = None

    @property
    def tail(self) -> int | None:
        """Entries that no signature covers."""
        return None if self.head is None else self.head.size - (self.signed or 0)


def overview(path: Path, key: LogKey | None, witness: VerifierKey | None, *, processes: int = 1) -> Overview:
    """Verify the log `path` with all that lies beside it.

    Its checkpoints must be signed by `key` (None: this log has no key, and may have no checkpoint), the cosigned one by
    `witness`, and the log must extend both.
    """
    name = path.stem
    try:
        signed, witnessed = _checkpoints(path, key)
        against = None if witnessed is None else witnessed.checkpoint.head
        found = verify(path, witnessed=against, processes=processes)
        time = _witnessed_at(witnessed, witness)
        if signed is not None and witness is not None and signed.note.signed_by(witness):
            signed.note.verify(witness)  # a proof is made with it
    except (AuditError, OSError) as error:
        return Overview(name, fault=str(error))
    return _overview(name, found, signed, witnessed if time is not None else None, key, time)


def _overview(
    name: str,
    found: Verification,
    signed: SignedCheckpoint | None,
    witnessed: SignedCheckpoint | None,
    key: LogKey | None,
    time: int | None,
) -> Overview:
    return Overview(
        log=name,
        head=found.head,
        signed=None if signed is None else signed.checkpoint.size,
        key=None if key is None or signed is None else describe(key),
        witnessed=None if witnessed is None else witnessed.checkpoint.size,
        witnessed_at=None if time is None else datetime.fromtimestamp(time, UTC),
    )


def _checkpoints(path: Path, key: LogKey | None) -> tuple[SignedCheckpoint | None, SignedCheckpoint | None]:
    files = CheckpointFiles(path)
    if key is not None:
        return files.read(key.verifier)
    if files.signed.exists() or files.witnessed.exists():
        raise NoteError("unknown-key", "there is a checkpoint, but no certificate of the key that signed it")
    return None, None


def _witnessed_at(witnessed: SignedCheckpoint | None, witness: VerifierKey | None) -> int | None:
    if witnessed is None or witness is None:
        return None
    return witnessed.note.verify(witness)


def describe(key: LogKey) -> str:
    """The path of a log's key to the root in words: own name, issuers, root."""
    names = [_common_name(each.subject) for each in key.chain]
    return " ← ".join([*names, _common_name(key.chain[-1].issuer)])


def _common_name(name: x509.Name) -> str:
    found = name.get_attributes_for_oid(x509.NameOID.COMMON_NAME)
    return str(found[0].value) if found else name.rfc4514_string()
