"""Signed notes (c2sp.org/signed-note): a text that people can read, with signature lines below it.

    kwbp/1f3a5c7e9b0d2f41/log-hsm
    42
    CsUYapGGPo4dkMgIAUqom/Xajj7h2fB2MPA3j2jxq2I=

    — kwbp/1f3a5c7e9b0d2f41/log-hsm Az3grlgtzPICa5OS8npVmf1Myq/5…

Two kinds of signature are known here, because two kinds of party sign: a log's key is in a token and makes ECDSA
(P-256, SHA-256, type 0x02), a witness makes timestamped Ed25519 cosignatures (type 0x04, c2sp.org/tlog-cosignature).
The parser takes exactly what `Note.encode` writes: two notes that say the same are the same bytes. Pure.

OpenSSL verifies a log's signature without any program of ours: the text is what stands above the last empty line, with
its line feed; the signature is what stands behind the key name, base64, less four bytes:

    sed '/^$/,$d' checkpoint > text                    # a checkpoint's text has no empty line
    grep -- "^— $ORIGIN " checkpoint | cut -d' ' -f3 | base64 -d | tail -c +5 > signature
    openssl x509 -in log-hsm.pem -pubkey -noout > key.pem
    openssl dgst -sha256 -verify key.pem -signature signature text
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import re
from collections.abc import Iterable
from dataclasses import dataclass, replace
from enum import IntEnum
from typing import Final

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric import ec, ed25519
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat, load_der_public_key

from audit.errors import NoteError

MAX_NOTE: Final = 65_536
"""Bytes of a note: a checkpoint has less than one KiB."""
MAX_SIGNATURES: Final = 16  # what every verifier must accept, and no more

_DASH: Final = "\u2014"
_NAME: Final = re.compile(r"[^\s+]{1,256}")
_LINE: Final = re.compile(rf"{_DASH} ([^\s+]{{1,256}}) ([A-Za-z0-9+/]+={{0,2}})")
_CONTROL: Final = re.compile(r"[\x00-\x09\x0b-\x1f]")
_VKEY: Final = re.compile(r"([^\s+]{1,256})\+([0-9a-f]{8})\+([A-Za-z0-9+/]+={0,2})")
_ID: Final = 4
_TIME: Final = 8
_LATEST: Final = 2**63 - 1


class SignatureType(IntEnum):
    """The signature types of c2sp.org/signed-note that are used here."""

    ECDSA = 0x02
    COSIGNATURE = 0x04


@dataclass(frozen=True, slots=True)
class Signature:
    """One signature line: key name, key id (4 bytes), and what the key made."""

    name: str
    key_id: bytes
    value: bytes

    def encode(self) -> str:
        """The line, with its line feed."""
        return f"{_DASH} {self.name} {_base64(self.key_id + self.value)}\n"

    @classmethod
    def parse(cls, line: str) -> Signature:
        """A signature from its line, without line feed; raises NoteError."""
        found = _LINE.fullmatch(line)
        if found is None:
            raise NoteError("bad-signature-line", "a signature line is em dash, key name, base64")
        value = decode_base64(found[2])
        if len(value) <= _ID:
            raise NoteError("bad-signature-line", "a signature line has a key id and a signature")
        return cls(found[1], value[:_ID], value[_ID:])


@dataclass(frozen=True, slots=True)
class VerifierKey:
    """A public key that signs notes under a name. `material` is SubjectPublicKeyInfo in DER, or 32 bytes of Ed25519."""

    name: str
    type: SignatureType
    material: bytes

    @classmethod
    def log(cls, name: str, key: ec.EllipticCurvePublicKey) -> VerifierKey:
        """The P-256 key of a log; raises NoteError for another curve."""
        if not isinstance(key.curve, ec.SECP256R1):
            raise NoteError("bad-key", "the key of a log is on P-256")
        return cls(
            _checked_name(name),
            SignatureType.ECDSA,
            key.public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo),
        )

    @classmethod
    def witness(cls, name: str, key: ed25519.Ed25519PublicKey) -> VerifierKey:
        """The key of a witness."""
        return cls(_checked_name(name), SignatureType.COSIGNATURE, key.public_bytes_raw())

    @property
    def key_id(self) -> bytes:
        """Four bytes that tell keys of one name apart; no proof of anything (c2sp.org/signed-note)."""
        if self.type is SignatureType.ECDSA:
            return hashlib.sha256(self.material).digest()[:_ID]
        return hashlib.sha256(self.name.encode() + b"\n" + bytes([self.type]) + self.material).digest()[:_ID]

    def encode(self) -> str:
        """The key as text (vkey): `<name>+<key id>+<base64 of type and key>`."""
        return f"{self.name}+{self.key_id.hex()}+{_base64(bytes([self.type]) + self.material)}"

    @classmethod
    def parse(cls, text: str) -> VerifierKey:
        """A key from its vkey; raises NoteError unless the text is exactly what `encode` writes."""
        found = _VKEY.fullmatch(text)
        if found is None:
            raise NoteError("bad-key", "a vkey is a name, an id and a key with + between them")
        raw = decode_base64(found[3])
        try:
            kind = SignatureType(raw[0])
            if kind is SignatureType.ECDSA:
                key = load_der_public_key(raw[1:])
                made = cls.log(found[1], key) if isinstance(key, ec.EllipticCurvePublicKey) else None
            else:
                made = cls.witness(found[1], ed25519.Ed25519PublicKey.from_public_bytes(raw[1:]))
        except (ValueError, IndexError):
            raise NoteError("bad-key", "the vkey holds no key of a known kind") from None
        if made is None or made.encode() != text:
            raise NoteError("bad-key", "the vkey's id is not that of its key")
        return made

    def names(self, signature: Signature) -> bool:
        """Whether the signature claims to be by this key."""
        return (signature.name, signature.key_id) == (self.name, self.key_id)

    def verify(self, text: str, signature: Signature) -> int | None:
        """Verify a signature over the text of a note; the time (POSIX seconds) of a cosignature, else None.

        Raises NoteError.
        """
        if not self.names(signature):
            raise NoteError("unknown-key", f"the signature is by another key than {self.name}")
        try:
            if self.type is SignatureType.ECDSA:
                key = load_der_public_key(self.material)
                assert isinstance(key, ec.EllipticCurvePublicKey)
                key.verify(signature.value, text.encode(), ec.ECDSA(SHA256()))
                return None
            time = int.from_bytes(signature.value[:_TIME], "big")
            if len(signature.value) != _TIME + 64 or time > _LATEST:
                raise NoteError("bad-signature", f"the signature of {self.name} has another form")
            witness = ed25519.Ed25519PublicKey.from_public_bytes(self.material)
            witness.verify(signature.value[_TIME:], cosigned(text, time))
        except InvalidSignature:
            raise NoteError("bad-signature", f"the signature of {self.name} is not over this text") from None
        return time


@dataclass(frozen=True, slots=True)
class Note:
    """A text, which ends with a line feed, and its signatures."""

    text: str
    signatures: tuple[Signature, ...]

    def encode(self) -> bytes:
        """The note in UTF-8."""
        return (self.text + "\n" + "".join(each.encode() for each in self.signatures)).encode()

    @classmethod
    def parse(cls, data: bytes) -> Note:
        """A note from its bytes; raises NoteError unless they are exactly what `encode` writes.

        Two lines by one key are refused: which of them counts would be the reader's choice.
        """
        if len(data) > MAX_NOTE:
            raise NoteError("too-long", f"a note has at most {MAX_NOTE} bytes")
        try:
            whole = data.decode("utf-8")
        except UnicodeDecodeError:
            raise NoteError("not-text", "a note is UTF-8") from None
        if _CONTROL.search(whole):
            raise NoteError("not-text", "a note has no control character but line feed")
        text, separator, below = whole.rpartition("\n\n")
        if not separator or not text or not below.endswith("\n"):
            raise NoteError("cut", "a note is a text, an empty line and signature lines, each with its line feed")
        # Not splitlines(), which knows more ends of lines than the one there is.
        lines = below[:-1].split("\n")
        if len(lines) > MAX_SIGNATURES:
            raise NoteError("too-long", f"a note has at most {MAX_SIGNATURES} signatures")
        signatures = tuple(Signature.parse(line) for line in lines)
        if len({(each.name, each.key_id) for each in signatures}) != len(signatures):
            raise NoteError("repeated-signature", "two signature lines are by one key")
        return cls(text + "\n", signatures)

    def signed_by(self, key: VerifierKey) -> bool:
        """Whether a line claims to be by `key`."""
        return any(key.names(each) for each in self.signatures)

    def verify(self, key: VerifierKey) -> int | None:
        """Verify the signature by `key`; the time of a cosignature, else None. Raises NoteError."""
        for each in self.signatures:
            if key.names(each):
                return key.verify(self.text, each)
        if any(each.name == key.name for each in self.signatures):
            detail = f"the note is signed by another key of {key.name} than {key.key_id.hex()}: was the key replaced?"
            raise NoteError("not-signed", detail)
        raise NoteError("not-signed", f"the note is not signed by {key.name}")

    def keep(self, keys: Iterable[VerifierKey]) -> Note:
        """The note with the signatures by `keys` alone: what nobody can judge is not passed on."""
        known = tuple(keys)
        return replace(
            self, signatures=tuple(each for each in self.signatures if any(key.names(each) for key in known))
        )

    def with_signatures(self, *more: Signature) -> Note:
        """The note with further signatures; those of the same key are replaced."""
        new = {(each.name, each.key_id) for each in more}
        kept = tuple(each for each in self.signatures if (each.name, each.key_id) not in new)
        return replace(self, signatures=(*kept, *more))


def log_signature(key: VerifierKey, value: bytes) -> Signature:
    """The signature line of a log for an ECDSA signature (DER Ecdsa-Sig-Value, RFC 3279 2.2.3) over a note's text."""
    return Signature(key.name, key.key_id, value)


def cosign(text: str, name: str, key: ed25519.Ed25519PrivateKey, time: int) -> Signature:
    """A witness's cosignature over the text of a checkpoint at `time` (POSIX seconds)."""
    value = time.to_bytes(_TIME, "big") + key.sign(cosigned(text, time))
    return Signature(name, VerifierKey.witness(name, key.public_key()).key_id, value)


def cosigned(text: str, time: int) -> bytes:
    """What a cosignature signs (c2sp.org/tlog-cosignature, Ed25519)."""
    return f"cosignature/v1\ntime {time}\n{text}".encode()


def decode_base64(text: str) -> bytes:
    """Bytes of canonical base64 (RFC 4648 4, padded, no stray bits); raises NoteError."""
    try:
        raw = base64.b64decode(text, validate=True)
    except (binascii.Error, ValueError):
        raise NoteError("bad-base64", "not base64") from None
    if _base64(raw) != text:
        raise NoteError("bad-base64", "not the one base64 form of these bytes")
    return raw


def _base64(raw: bytes) -> str:
    return base64.b64encode(raw).decode("ascii")


def _checked_name(name: str) -> str:
    if _NAME.fullmatch(name) is None:
        raise NoteError("bad-key", "a key name has 1 to 256 characters, no space and no +")
    return name
