"""CeremonySeal: what is signed about the transcript of a ceremony (id-kwbp-ct-ceremonySeal).

    CeremonySeal ::= SEQUENCE {
      version     INTEGER (1),
      ceremony    UTF8String (SIZE(1..64)),     -- which one, as its first entry says
      entries     INTEGER (1..MAX),             -- how many entries of the transcript are sealed
      tip         OCTET STRING (SIZE(32)),      -- the digest of the last of them, which fixes all before it
      signatures  SEQUENCE OF SEQUENCE {
        person    UTF8String (SIZE(1..64)),
        digest    OCTET STRING (SIZE(32)) } }   -- SHA-256 of that person's SignedData

Participants sign it without `signatures`, each of them the same bytes. The audit key signs it with theirs, in the order
of their names: so it says who had sealed, and that nobody was left out afterwards.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise
from typing import Annotated, Final, Self

from cryptography.hazmat import asn1

from pki.der import decode, encode
from pki.errors import DerError

VERSION: Final = 1
PARTICIPANTS: Final = 2
"""How many persons seal a transcript at least."""
MAX_PARTICIPANTS: Final = 32
_LIMIT: Final = 8192
_ENTRIES: Final = range(1, 1 << 31)


@asn1.sequence
class _Signature:
    person: Annotated[str, asn1.Size(1, 64)]
    digest: Annotated[bytes, asn1.Size.exact(32)]


@asn1.sequence
class _CeremonySeal:
    version: int
    ceremony: Annotated[str, asn1.Size(1, 64)]
    entries: int
    tip: Annotated[bytes, asn1.Size.exact(32)]
    signatures: Annotated[list[_Signature], asn1.Size(0, MAX_PARTICIPANTS)]


@dataclass(frozen=True, slots=True)
class CeremonySeal:
    """`entries` entries of a transcript, up to the one with the digest `tip` (32 bytes), are as they were agreed.

    `signatures`: by person the SHA-256 digest of what that participant signed; none in what participants sign.
    """

    ceremony: str
    entries: int
    tip: bytes
    signatures: tuple[tuple[str, bytes], ...] = ()

    def countersigning(self, signed: dict[str, bytes]) -> CeremonySeal:
        """What the audit key signs, by person the digest of the participants' SignedData."""
        return CeremonySeal(self.ceremony, self.entries, self.tip, tuple(sorted(signed.items())))

    def to_der(self) -> bytes:
        """The content to sign, DER; ValueError if a field is longer or shorter than the structure allows."""
        return encode(
            _CeremonySeal(
                version=VERSION,
                ceremony=self.ceremony,
                entries=self.entries,
                tip=self.tip,
                signatures=[_Signature(person=person, digest=digest) for person, digest in self.signatures],
            )
        )

    @classmethod
    def from_der(cls, der: bytes) -> Self:
        """Read the content; DerError if it is malformed, of another version, or names a person or signature twice."""
        data = decode(_CeremonySeal, der, limit=_LIMIT)
        if data.version != VERSION or data.entries not in _ENTRIES:
            raise DerError("bad_version", f"a seal is of version {VERSION}, over one entry at least")
        signatures = tuple((each.person, each.digest) for each in data.signatures)
        if any(one[0] >= other[0] for one, other in pairwise(signatures)):
            raise DerError("not_canonical", "the persons of a seal stand in the order of their names, each once")
        if len({digest for _person, digest in signatures}) != len(signatures):
            raise DerError("not_canonical", "two persons have not signed the same SignedData")
        return cls(data.ceremony, data.entries, data.tip, signatures)
