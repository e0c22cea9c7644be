"""What an issuing bank signs: CardConfirmations for the registration authority, forms, refusals.

The bank signs with its own key file and certificate (`tls/issuer-<bin>.key` and `.pem`), whose SAN URI
`urn:kwbp:service:issuer-<bin>` the CPS asks for.
"""

from __future__ import annotations

from datetime import datetime
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives.serialization import load_pem_private_key

from cps.card_confirmation import build_card_confirmation
from pki import cms_signed, oids
from pki.names import identity_uris
from runtime.client import TlsFiles
from runtime.secrets import read_secret
from switch.errors import BankError


def sign_confirmation(
    identity: TlsFiles,
    *,
    commitment: str,
    spki_sha256: bytes,
    bin_: str,
    expires_at: datetime,
    issuer: str,
    now: datetime,
    card_ref: bytes | None = None,
) -> bytes:
    """SignedData (DER) of content type `id-kwbp-ct-cardConfirmation`, with the issuer's certificate chain inside.

    :raises BankError: as `sign_as_issuer`.
    """
    content = build_card_confirmation(
        commitment=commitment,
        spki_sha256=spki_sha256,
        bin_=bin_,
        expires_at=expires_at,
        issuer=issuer,
        date=now,
        card_ref=card_ref,
    )
    return sign_as_issuer(identity, oids.CT_CARD_CONFIRMATION, content, bin_=bin_, now=now)


def sign_as_issuer(
    identity: TlsFiles, content_type: x509.ObjectIdentifier, content: bytes, *, bin_: str, now: datetime
) -> bytes:
    """SignedData (DER) by the bank that issues the cards of `bin_`.

    :raises BankError: `issuer_identity` if key or certificate are missing, do not belong together or name another bank.
    """
    chain = _chain(identity.certificate)
    signer, *above = chain
    if f"urn:kwbp:service:issuer-{bin_}" not in identity_uris(signer):
        raise BankError(
            "issuer_identity", f"the certificate in {identity.certificate.name} is not the issuer's of this BIN"
        )
    try:
        key = load_pem_private_key(read_secret(identity.key).reveal(), None)
        return cms_signed.sign(content_type, content, key=key, signer=signer, chain=above, signing_time=now)
    except (ValueError, TypeError):
        raise BankError("issuer_identity", f"{identity.key.name} is not the key of the issuer's certificate") from None


def _chain(path: Path) -> list[x509.Certificate]:
    try:
        return x509.load_pem_x509_certificates(path.read_bytes())
    except (OSError, ValueError):
        raise BankError("issuer_identity", f"the issuer has no certificate yet: {path.name} is missing") from None
