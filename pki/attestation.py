"""KeyAttestation: what the token says about a key, signed by the attestation key (id-kwbp-ct-keyAttestation)."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Annotated, Final, Self

from cryptography.hazmat import asn1

from pki.der import decode, encode
from pki.errors import DerError

VERSION: Final = 1
_VERSIONS: Final = range(1 << 31)
"""Of a key."""


@asn1.sequence
class _KeyAttestation:
    version: int
    key_name: Annotated[str, asn1.Size(1, 128)]
    key_version: int
    spki_sha256: Annotated[bytes, asn1.Size.exact(32)]
    token: Annotated[str, asn1.Size(1, 128)]
    local: bool
    sensitive: bool
    always_sensitive: bool
    never_extractable: bool
    extractable: bool
    at: asn1.GeneralizedTime


@dataclass(frozen=True)
class KeyAttestation:
    """SEQUENCE { version INTEGER(1), keyName, keyVersion, spkiSha256, token, five PKCS#11 attributes, at }.

    `spki_sha256` is 32 bytes, `at` aware UTC in whole seconds.
    """

    key_name: str
    key_version: int
    spki_sha256: bytes
    token: str
    local: bool
    sensitive: bool
    always_sensitive: bool
    never_extractable: bool
    extractable: bool
    at: datetime

    @property
    def born_and_bound_in_token(self) -> bool:
        """Whether the key was generated in the token and can never have left it."""
        return (
            self.local and self.sensitive and self.always_sensitive and self.never_extractable and not self.extractable
        )

    def to_der(self) -> bytes:
        """The content to sign, DER."""
        return encode(
            _KeyAttestation(
                version=VERSION,
                key_name=self.key_name,
                key_version=self.key_version,
                spki_sha256=self.spki_sha256,
                token=self.token,
                local=self.local,
                sensitive=self.sensitive,
                always_sensitive=self.always_sensitive,
                never_extractable=self.never_extractable,
                extractable=self.extractable,
                at=asn1.GeneralizedTime(self.at.astimezone(UTC).replace(microsecond=0)),
            )
        )

    @classmethod
    def from_der(cls, der: bytes) -> Self:
        """Read the content; DerError if it is malformed or of another version."""
        data = decode(_KeyAttestation, der, limit=4096)
        if data.version != VERSION or data.key_version not in _VERSIONS:
            raise DerError("bad_version", f"key attestation is version {VERSION}", clause="KWBP global rule 1")
        return cls(
            key_name=data.key_name,
            key_version=data.key_version,
            spki_sha256=data.spki_sha256,
            token=data.token,
            local=data.local,
            sensitive=data.sensitive,
            always_sensitive=data.always_sensitive,
            never_extractable=data.never_extractable,
            extractable=data.extractable,
            at=data.at.as_datetime().replace(tzinfo=UTC),
        )
