"""CardConfirmation: the issuing bank says that a commitment stands for a card it issued, without naming the card.

The registration authority never sees a PAN. It gets this statement as evidence `issuer_bank_confirmation`, CMS-signed
by the bank under content type `id-kwbp-ct-cardConfirmation`, and compares commitment, key and BIN with the application.
"""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Annotated, Final

from cryptography.hazmat import asn1

from pki import der
from pki.errors import DerError

VERSION: Final = 1
_REFERENCE: Final = 32  # bytes


@asn1.sequence
class CardConfirmation:
    """CardConfirmation ::= SEQUENCE {

    version     INTEGER (1),
    commitment  UTF8String,                  -- common name of the certificate, base64url of 32 bytes
    spkiSha256  OCTET STRING (SIZE(32)),     -- of the cardholder's public key (DER SubjectPublicKeyInfo)
    bin         UTF8String,                  -- first 6 digits of the card
    expiresAt   GeneralizedTime,             -- first instant at which the card is no longer valid
    issuer      UTF8String,                  -- name of the bank
    date        GeneralizedTime,             -- when the bank looked
    cardRef     [0] OCTET STRING (SIZE(32)) OPTIONAL }
                                             -- the same for the same card, by a key that only the bank has: lets the
                                             -- registration authority count, and nobody tell which card it is
    """

    version: int
    commitment: str
    spki_sha256: Annotated[bytes, asn1.Size(min=32, max=32)]
    bin: str
    expires_at: asn1.GeneralizedTime
    issuer: str
    date: asn1.GeneralizedTime
    card_ref: Annotated[bytes | None, asn1.Implicit(0)]


def build_card_confirmation(
    *,
    commitment: str,
    spki_sha256: bytes,
    bin_: str,
    expires_at: datetime,
    issuer: str,
    date: datetime,
    card_ref: bytes | None = None,
) -> bytes:
    """DER of a CardConfirmation; times are aware, cut to whole seconds of UTC. ValueError if a size is wrong."""
    _check_reference(card_ref)
    return der.encode(
        CardConfirmation(
            version=VERSION,
            commitment=commitment,
            spki_sha256=spki_sha256,
            bin=bin_,
            expires_at=asn1.GeneralizedTime(expires_at.astimezone(UTC).replace(microsecond=0)),
            issuer=issuer,
            date=asn1.GeneralizedTime(date.astimezone(UTC).replace(microsecond=0)),
            card_ref=card_ref,
        )
    )


def parse_card_confirmation(content: bytes) -> CardConfirmation:
    """Read the content of the signed statement.

    Raises DerError: `malformed`, `not_canonical`, or `version` if it is not version 1.
    """
    confirmation = der.decode(CardConfirmation, content, limit=4096)
    if confirmation.version != VERSION:
        raise DerError("version", f"version {confirmation.version}, expected {VERSION}", clause="CPS 3.2.3")
    try:
        _check_reference(confirmation.card_ref)
    except ValueError:
        raise DerError("malformed", "cardRef has another size", clause="CPS 3.2.3") from None
    return confirmation


def _check_reference(card_ref: bytes | None) -> None:
    if card_ref is not None and len(card_ref) != _REFERENCE:
        raise ValueError(f"size of cardRef is {_REFERENCE} bytes")
