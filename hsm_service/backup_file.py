"""A backup: one private key, wrapped so that nothing but one other token can take it in (id-kwbp-ct-keyBackup).

    KeyBackup ::= SEQUENCE {
      version       INTEGER (1),
      keyName       UTF8String (SIZE(1..64)),
      keyVersion    INTEGER,
      template      UTF8String (SIZE(1..64)),
      owner         UTF8String (SIZE(0..64)),      -- empty for none
      spki          OCTET STRING,                  -- SubjectPublicKeyInfo of the key: what it must turn out to be
      recipient     OCTET STRING (SIZE(32)),       -- SHA-256 of the recipient's SubjectPublicKeyInfo
      suite         UTF8String,                    -- "oaep-sha1" or "oaep-sha256"
      encryptedKey  OCTET STRING,                  -- an AES-256 key, RSAES-OAEP to the recipient (RFC 8017 7.1)
      wrapped       OCTET STRING,                  -- PrivateKeyInfo (RFC 5208), AES-KWP under that key (RFC 5649)
      at            GeneralizedTime }

The file is CMS SignedData over it by the attestation key of the installation that made it: AES-KWP tells whether the
wrapped bytes were changed, but not whose they are.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Annotated, Final, Self

from cryptography.hazmat import asn1

from pki.der import decode, encode
from pki.errors import DerError

VERSION: Final = 1
MAX_SIZE: Final = 16 * 1024
SUITES: Final = ("oaep-sha256", "oaep-sha1")
"""How the AES key may be sealed to the recipient, strongest first."""


@asn1.sequence
class _KeyBackup:
    version: int
    key_name: Annotated[str, asn1.Size(1, 64)]
    key_version: int
    template: Annotated[str, asn1.Size(1, 64)]
    owner: Annotated[str, asn1.Size(0, 64)]
    spki: bytes
    recipient: Annotated[bytes, asn1.Size.exact(32)]
    suite: Annotated[str, asn1.Size(1, 64)]
    encrypted_key: bytes
    wrapped: bytes
    at: asn1.GeneralizedTime


@dataclass(frozen=True)
class KeyBackup:
    """The content of a backup; fields as in the structure, `at` aware UTC in whole seconds."""

    key_name: str
    key_version: int
    template: str
    owner: str | None
    spki: bytes
    recipient: bytes
    suite: str
    encrypted_key: bytes
    wrapped: bytes
    at: datetime

    def to_der(self) -> bytes:
        """The content to sign."""
        return encode(
            _KeyBackup(
                version=VERSION,
                key_name=self.key_name,
                key_version=self.key_version,
                template=self.template,
                owner=self.owner or "",
                spki=self.spki,
                recipient=self.recipient,
                suite=self.suite,
                encrypted_key=self.encrypted_key,
                wrapped=self.wrapped,
                at=asn1.GeneralizedTime(self.at.astimezone(UTC).replace(microsecond=0)),
            )
        )

    @classmethod
    def from_der(cls, der: bytes) -> Self:
        """Read the content; DerError if it is malformed, of another version, or sealed in an unknown way."""
        data = decode(_KeyBackup, der, limit=MAX_SIZE)
        if data.version != VERSION or data.suite not in SUITES:
            raise DerError("bad_version", f"key backup is version {VERSION}, sealed by {' or '.join(SUITES)}")
        return cls(
            key_name=data.key_name,
            key_version=data.key_version,
            template=data.template,
            owner=data.owner or None,
            spki=data.spki,
            recipient=data.recipient,
            suite=data.suite,
            encrypted_key=data.encrypted_key,
            wrapped=data.wrapped,
            at=data.at.as_datetime().replace(tzinfo=UTC),
        )
