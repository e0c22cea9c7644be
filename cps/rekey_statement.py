"""The proof of a re-key (RFC 3647 4.7): who holds a certificate's key asks for the next one, for new keys.

    RekeyTBS ::= SEQUENCE {
      version        INTEGER (1),
      applicationId  UTF8String (SIZE(1..64)),
      replaced       OCTET STRING (SIZE(1..8192)),                    -- the certificate (DER) that is replaced
      keys           SEQUENCE SIZE(1..8) OF OCTET STRING (SIZE(32)),  -- SHA-256 of each new SubjectPublicKeyInfo,
      date           GeneralizedTime,                                 -- ascending
      beside         [0] OCTET STRING (SIZE(1..8192)) OPTIONAL }      -- a certificate that is replaced beside it,
                                                                      -- whose key cannot sign

It is the content of a CMS SignedData (CT_REKEY) by the replaced key itself, or by the registration authority (see
`cps.rekey`, which judges it). The certificates in it also prove how old the chain of re-keys is: each says, under the
CA's signature, when its holder was last checked against registers (`pki.extensions.IdentityChecked`).
"""

from __future__ import annotations

from collections.abc import Collection, Iterable
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Annotated, Final

from cryptography import x509
from cryptography.hazmat import asn1
from cryptography.hazmat.primitives.serialization import Encoding

from cps.dossier import Dossier
from cps.errors import StatementError
from cps.signatory import open_signed
from pki.der import decode, encode, sha256
from pki.errors import DerError, PkiError
from pki.extensions import IdentityChecked
from pki.oids import CT_REKEY

VERSION: Final = 1
_MAX_SIZE: Final = 24_576
_MAX_CERTIFICATE: Final = 8192
_MAX_KEYS: Final = 8
_DIGEST: Final = 32
_NEVER: Final = datetime.min.replace(tzinfo=UTC)


@asn1.sequence
class RekeyTBS:
    """DER form of a proof that somebody holds the key that is replaced."""

    version: int
    application_id: Annotated[str, asn1.Size(min=1, max=64)]
    replaced: Annotated[bytes, asn1.Size(min=1, max=_MAX_CERTIFICATE)]
    keys: list[bytes]
    date: asn1.GeneralizedTime
    beside: Annotated[bytes | None, asn1.Implicit(0)] = None


@dataclass(frozen=True, slots=True)
class Rekey:
    """The statement; `keys` are the new keys by the SHA-256 of their SubjectPublicKeyInfo.

    `beside` is the certificate of a key that cannot sign, which is replaced beside the one that does, if there is one.
    """

    application_id: str
    replaced: x509.Certificate
    keys: tuple[bytes, ...]
    date: datetime
    beside: x509.Certificate | None = None

    @property
    def replaced_sha256(self) -> bytes:
        """SHA-256 (32 bytes) of the replaced certificate, as `Revision.replaces` names it."""
        return _digest(self.replaced)

    def certificate(self, digest: bytes | None) -> x509.Certificate | None:
        """The one of its certificates that has this SHA-256; None if neither has."""
        return next((each for each in (self.replaced, self.beside) if each and _digest(each) == digest), None)


def build_rekey(
    application_id: str,
    replaced: x509.Certificate,
    keys: Collection[bytes],
    date: datetime,
    *,
    beside: x509.Certificate | None = None,
) -> bytes:
    """DER of RekeyTBS; `keys` are SHA-256 of SubjectPublicKeyInfo, `date` is aware, cut to whole seconds of UTC."""
    return encode(
        RekeyTBS(
            version=VERSION,
            application_id=application_id,
            replaced=replaced.public_bytes(Encoding.DER),
            keys=sorted(keys),
            date=asn1.GeneralizedTime(date.astimezone(UTC).replace(microsecond=0)),
            beside=None if beside is None else beside.public_bytes(Encoding.DER),
        )
    )


def parse_rekey(der: bytes) -> Rekey:
    """Read RekeyTBS. Raises StatementError unless it is exactly one, of version 1, with a certificate."""
    try:
        tbs = decode(RekeyTBS, der, limit=_MAX_SIZE)
    except DerError:
        raise StatementError("not a {kind} in DER", kind="RekeyTBS") from None
    if tbs.version != VERSION:
        raise StatementError(
            "{kind} of version {found}, not {expected}", kind="RekeyTBS", found=tbs.version, expected=VERSION
        )
    keys = tuple(tbs.keys)
    if not 1 <= len(keys) <= _MAX_KEYS or any(len(key) != _DIGEST for key in keys) or list(keys) != sorted(set(keys)):
        raise StatementError("a re-key names 1 to 8 new keys by their SHA-256, ascending")
    try:
        replaced = x509.load_der_x509_certificate(tbs.replaced)
        beside = None if tbs.beside is None else x509.load_der_x509_certificate(tbs.beside)
    except ValueError:
        raise StatementError("a re-key carries the certificate that is replaced") from None
    return Rekey(tbs.application_id, replaced, keys, tbs.date.as_datetime(), beside)


def replaced_certificates(dossier: Dossier) -> dict[bytes, x509.Certificate]:
    """Those certificates in the evidence that the revision replaces, by their SHA-256; none if it is no re-key.

    Their digests are what officers approve. That they are ours and in force, and that who asks holds their keys, is
    judged by `cps.rekey`.
    """
    named = set((dossier.revision.replaces or {}).values())
    if not named:
        return {}
    found: dict[bytes, x509.Certificate] = {}
    for piece in dossier.evidence:
        try:
            rekey = parse_rekey(open_signed(piece.body or b"", CT_REKEY).content)
        except (PkiError, StatementError):
            continue
        found |= {_digest(each): each for each in (rekey.replaced, rekey.beside) if each is not None}
    return {digest: certificate for digest, certificate in found.items() if digest in named}


def identity_checked_at(dossier: Dossier) -> datetime | None:
    """When registers were last asked about the holder of the certificates that a case replaces (aware UTC).

    The oldest of what they say; None if the case is no re-key, or carries none of them.
    """
    return oldest_check(replaced_certificates(dossier).values())


def oldest_check(certificates: Iterable[x509.Certificate]) -> datetime | None:
    """The oldest of the times at which the holders of these certificates were last checked; None if there is none."""
    return min(map(_checked_at, certificates), default=None)


def _checked_at(certificate: x509.Certificate) -> datetime:
    try:
        return IdentityChecked.of(certificate)
    except PkiError:
        return _NEVER


def _digest(certificate: x509.Certificate) -> bytes:
    return sha256(certificate.public_bytes(Encoding.DER))
