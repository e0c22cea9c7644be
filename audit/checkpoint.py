"""Checkpoints (c2sp.org/tlog-checkpoint): which log, how many entries, and the root of their Merkle tree (RFC 6962).

A checkpoint is the text of a note. Signed by the log's key it commits the log to all that it holds; cosigned by a
witness it cannot be taken back. `Progress` is a checkpoint together with the proof that it extends an earlier one: in
this form a log asks its token for a signature, and, with the signature below, a witness for a cosignature
(c2sp.org/tlog-witness `add-checkpoint`):

    old 20
    PlRNCrwHpqhGrupue0L7gxbjbMiKA9temvuZZDDpkaw=
    …

    kwbp/1f3a5c7e9b0d2f41/log-hsm
    42
    CsUYapGGPo4dkMgIAUqom/Xajj7h2fB2MPA3j2jxq2I=

Pure.
"""

from __future__ import annotations

import re
from base64 import b64encode
from dataclasses import dataclass
from typing import Final

from audit.errors import NoteError
from audit.merkle import EMPTY_ROOT
from audit.note import Note, decode_base64
from audit.verify import TreeHead

__all__ = ["EMPTY", "Checkpoint", "Progress", "TreeHead", "decimal", "read_hashes", "split_request"]

HASH: Final = 32
MAX_PROOF: Final = 63
"""Hashes of a consistency proof (c2sp.org/tlog-witness)."""
MAX_SIZE: Final = 2**63 - 1

_DECIMAL: Final = re.compile(r"0|[1-9][0-9]{0,18}")
_ORIGIN: Final = re.compile(r"[^\s+]{1,256}")


EMPTY: Final = TreeHead(0, EMPTY_ROOT)
"""The tree before the first entry, which every tree extends."""


@dataclass(frozen=True, slots=True)
class Checkpoint:
    """What the text of a checkpoint says. `extensions` are lines that nobody interprets; ours have none."""

    origin: str
    size: int
    root: bytes
    extensions: tuple[str, ...] = ()

    @property
    def head(self) -> TreeHead:
        """Size and root."""
        return TreeHead(self.size, self.root)

    @property
    def text(self) -> str:
        """The note text, with its last line feed."""
        lines = (self.origin, str(self.size), b64encode(self.root).decode("ascii"), *self.extensions)
        return "".join(f"{line}\n" for line in lines)

    @classmethod
    def parse(cls, text: str) -> Checkpoint:
        """A checkpoint from a note's text; raises NoteError unless it is exactly what `text` gives."""
        if not text.endswith("\n"):
            raise NoteError("cut", "the last line of a checkpoint has no line feed")
        lines = text[:-1].split("\n")
        if len(lines) < 3:
            raise NoteError("bad-checkpoint", "a checkpoint has an origin, a size and a root")
        origin, size, root, *extensions = lines
        if _ORIGIN.fullmatch(origin) is None:
            raise NoteError("bad-checkpoint", "the first line of a checkpoint is the log's origin")
        digest = decode_base64(root)
        if len(digest) != HASH:
            raise NoteError("bad-checkpoint", "the third line of a checkpoint is a SHA-256 hash")
        if not all(line and line.isprintable() for line in extensions):
            raise NoteError("bad-checkpoint", "an extension line is text, and not empty")
        return cls(origin, decimal(size), digest, tuple(extensions))


@dataclass(frozen=True, slots=True)
class Progress:
    """A checkpoint's text, and the RFC 6962 2.1.2 proof that it extends the tree of `old` leaves."""

    old: int
    proof: tuple[bytes, ...]
    text: str

    def encode(self, note: Note | None = None) -> bytes:
        """The request: before signing with the bare text, for a witness with the signed `note`."""
        head = f"old {self.old}\n" + "".join(f"{b64encode(each).decode('ascii')}\n" for each in self.proof) + "\n"
        return head.encode() + (self.text.encode() if note is None else note.encode())

    @classmethod
    def parse(cls, data: bytes) -> Progress:
        """The request of a log to its token: the text without signatures. Raises NoteError."""
        old, proof, below = split_request(data)
        try:
            text = below.decode("utf-8")
        except UnicodeDecodeError:
            raise NoteError("not-text", "a checkpoint is UTF-8") from None
        return cls(old, proof, text)


def split_request(data: bytes) -> tuple[int, tuple[bytes, ...], bytes]:
    """Old size, consistency proof, and what stands below the first empty line; raises NoteError."""
    head, separator, below = data.partition(b"\n\n")
    if not separator:
        raise NoteError("cut", "an empty line stands between the proof and the checkpoint")
    try:
        first, *hashes = head.decode("ascii").split("\n")
    except UnicodeDecodeError:
        raise NoteError("not-text", "the lines above a checkpoint are ASCII") from None
    if not first.startswith("old "):
        raise NoteError("bad-request", "the first line is the word old and the size of the tree before")
    if len(hashes) > MAX_PROOF:
        raise NoteError("too-long", f"a consistency proof has at most {MAX_PROOF} hashes")
    return decimal(first.removeprefix("old ")), read_hashes(hashes), below


def read_hashes(lines: list[str]) -> tuple[bytes, ...]:
    """SHA-256 hashes, one a line in base64; raises NoteError."""
    hashes = tuple(decode_base64(line) for line in lines)
    if any(len(each) != HASH for each in hashes):
        raise NoteError("bad-proof", "a line of a proof is one SHA-256 hash")
    return hashes


def decimal(text: str) -> int:
    """A size or index: ASCII digits without leading zero, below 2^63; raises NoteError."""
    if _DECIMAL.fullmatch(text) is None or int(text) > MAX_SIZE:
        raise NoteError("bad-number", "a size is a decimal number without leading zeros")
    return int(text)
