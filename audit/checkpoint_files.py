"""The signed checkpoints of a log beside its tiles: the newest signed one, and the newest that was cosigned.

    <name>.log/checkpoint             signed by the log's key, with the witness's cosignature once it was given
    <name>.log/checkpoint.witnessed   the newest with a cosignature

Usually both say the same. While the witness is away the first runs ahead; the second is what a start without the
witness holds on to.
"""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path

from audit.checkpoint import Checkpoint
from audit.errors import NoteError
from audit.note import Note, VerifierKey
from audit.tiles import sync_directory
from audit.verify import log_folder


@dataclass(frozen=True, slots=True)
class SignedCheckpoint:
    """A checkpoint and the note that it is the text of, whose signature by the log's key holds."""

    note: Note
    checkpoint: Checkpoint

    @classmethod
    def read(cls, data: bytes, log: VerifierKey) -> SignedCheckpoint:
        """A checkpoint of the log `log` from its note; raises NoteError."""
        note = Note.parse(data)
        note.verify(log)
        return cls.of(note, log)

    @classmethod
    def of(cls, note: Note, log: VerifierKey) -> SignedCheckpoint:
        """The same of a note that was verified."""
        checkpoint = Checkpoint.parse(note.text)
        if checkpoint.origin != log.name:
            raise NoteError("other-origin", f"a checkpoint of {checkpoint.origin}, not of {log.name}")
        return cls(note, checkpoint)


class CheckpointFiles:
    """The two files of the log NAME.jsonl. The first is put there by `Journal.publish`, the second here."""

    def __init__(self, log: Path) -> None:
        self._folder = log_folder(log)
        self.signed = self._folder / "checkpoint"
        self.witnessed = self._folder / "checkpoint.witnessed"

    def read(self, log: VerifierKey) -> tuple[SignedCheckpoint | None, SignedCheckpoint | None]:
        """The newest signed and the newest cosigned checkpoint; None for one that is not there.

        Raises NoteError for a file that is not a checkpoint which the log's key signed.
        """
        return _read(self.signed, log), _read(self.witnessed, log)

    def keep_witnessed(self, note: Note) -> None:
        """Store the newest cosigned note, durably; raises OSError."""
        self._folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        _replace(self.witnessed, note.encode())


def _read(path: Path, log: VerifierKey) -> SignedCheckpoint | None:
    try:
        data = path.read_bytes()
    except FileNotFoundError:
        return None
    return SignedCheckpoint.read(data, log)


def _replace(path: Path, content: bytes) -> None:
    draft = path.with_name(f".{path.name}.new")
    with draft.open("wb") as file:
        file.write(content)
        file.flush()
        os.fsync(file.fileno())
    draft.replace(path)
    sync_directory(path.parent)
