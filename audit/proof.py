"""Proofs that something was recorded: `.tlog-proof` files (c2sp.org/tlog-proof), which are checked offline.

    c2sp.org/tlog-proof@v1
    extra <base64 of JSON: the entry's line, the certificates of the log's key>
    index 73
    gSKyXoYZUgZ6jduWYrkDOARinOMGJveXjgMkBTcdPlQ=
    …

    kwbp/1f3a5c7e9b0d2f41/log-hsm
    109
    sFodV/vSp5O8n9a8QpW6PRY97tfOSW5bsc2Xl/EQi08=

    — kwbp/1f3a5c7e9b0d2f41/log-hsm hI2DJw…

Who checks one needs the root certificate and nothing else. Nothing in `extra` is believed because it is there: the line
counts because its hash is a leaf of the tree, the certificates because they lead to the root. A file that holds is as
good as a signature of the log over the entry; with a cosignature it also says that a witness saw the tree. Pure.
"""

from __future__ import annotations

from base64 import b64encode
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Final

import msgspec
from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding

from audit.checkpoint import Checkpoint, decimal, read_hashes
from audit.errors import NoteError
from audit.log_key import certified
from audit.merkle import leaf_hash, verify_inclusion
from audit.note import Note, VerifierKey, decode_base64

HEADER: Final = "c2sp.org/tlog-proof@v1"
MAX_PROOF_FILE: Final = 262_144  # bytes: a line of the journal in base64, certificates, 63 hashes, a note
_MAX_HASHES: Final = 63


class Extra(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What comes with a proof: the key's name, the entry's line (JSON text), the certificates (DER), own first."""

    key: str
    entry: str
    chain: tuple[bytes, ...]


_encoder: Final = msgspec.json.Encoder()
_decoder: Final = msgspec.json.Decoder(Extra)


@dataclass(frozen=True, slots=True)
class Proof:
    """A proof file: the entry and its number, the path from its leaf to the root, the signed checkpoint."""

    extra: Extra
    index: int
    hashes: tuple[bytes, ...]
    note: Note

    def encode(self) -> bytes:
        """The file."""
        lines = (
            HEADER,
            f"extra {b64encode(_encoder.encode(self.extra)).decode('ascii')}",
            f"index {self.index}",
            *(b64encode(each).decode("ascii") for each in self.hashes),
        )
        return "".join(f"{line}\n" for line in lines).encode() + b"\n" + self.note.encode()

    @classmethod
    def parse(cls, data: bytes) -> Proof:
        """A proof from its file; raises NoteError unless it is exactly what `encode` writes."""
        if len(data) > MAX_PROOF_FILE:
            raise NoteError("too-long", f"a proof file has at most {MAX_PROOF_FILE} bytes")
        head, separator, below = data.partition(b"\n\n")
        try:
            lines = head.decode("ascii").split("\n")
        except UnicodeDecodeError:
            raise NoteError("not-text", "the lines above a checkpoint are ASCII") from None
        if not separator or len(lines) < 3 or lines[0] != HEADER:
            raise NoteError("bad-proof", f"a proof file begins with {HEADER}")
        if not lines[1].startswith("extra ") or not lines[2].startswith("index "):
            raise NoteError("bad-proof", "a proof of this log has an extra line, then its index")
        if len(lines) - 3 > _MAX_HASHES:
            raise NoteError("too-long", f"an inclusion proof has at most {_MAX_HASHES} hashes")
        raw = decode_base64(lines[1].removeprefix("extra "))
        try:
            extra = _decoder.decode(raw)
            canonical = _encoder.encode(extra)
        except (msgspec.DecodeError, UnicodeError):
            raise NoteError("bad-proof", "what comes with the proof cannot be read") from None
        if canonical != raw:
            raise NoteError("bad-proof", "what comes with the proof is written in other bytes than ours")
        return cls(extra, decimal(lines[2].removeprefix("index ")), read_hashes(lines[3:]), Note.parse(below))


@dataclass(frozen=True, slots=True)
class Proven:
    """What a proof shows: this line is entry `index` of the log `checkpoint.origin`; `witnessed` is when a witness
    cosigned the checkpoint, None if none that is trusted did."""

    entry: str
    index: int
    checkpoint: Checkpoint
    witnessed: datetime | None


def make(
    key: str, chain: Sequence[x509.Certificate], line: str, index: int, hashes: Sequence[bytes], note: Note
) -> Proof:
    """The proof that `line` is entry `index` of the tree that `note` signs."""
    ders = tuple(each.public_bytes(Encoding.DER) for each in chain)
    return Proof(Extra(key, line, ders), index, tuple(hashes), note)


def check(
    proof: Proof, anchors: Sequence[x509.Certificate], *, now: datetime, witnesses: Sequence[VerifierKey] = ()
) -> Proven:
    """What `proof` shows to someone who trusts the root certificates `anchors`, and these `witnesses`.

    The log's certificate must hold at the time of the cosignature, or at `now` where there is none: an old proof stays
    good. Raises NoteError.
    """
    checkpoint = Checkpoint.parse(proof.note.text)
    times = [proof.note.verify(key) for key in witnesses if proof.note.signed_by(key)]
    witnessed = min((datetime.fromtimestamp(time, UTC) for time in times if time is not None), default=None)
    try:
        chain = [x509.load_der_x509_certificate(der) for der in proof.extra.chain]
    except ValueError:
        raise NoteError("bad-certificate", "a certificate of the proof cannot be read") from None
    key = certified(proof.extra.key, chain, anchors, now=witnessed or now)
    if checkpoint.origin != key.origin:
        raise NoteError("other-origin", f"the checkpoint is of {checkpoint.origin}, the key of {key.origin}")
    proof.note.verify(key.verifier)
    leaf = leaf_hash(proof.extra.entry.encode())
    if not verify_inclusion(proof.index, checkpoint.size, leaf, proof.hashes, checkpoint.root):
        raise NoteError("not-included", f"entry {proof.index} of the signed tree is another one")
    return Proven(proof.extra.entry, proof.index, checkpoint, witnessed)
