"""How a cardholder's certificate commits to a card without showing it, and what the issuer can recognise later.

The wallet makes CardSecret, the CA answers with NonceCCA, both derive PANSecret. The certificate's commonName is an
HMAC of card number and expiry under PANSecret: the gateway, which gets all three sealed, recomputes it; everybody else
sees a random string. SET combined the two by XOR, which let a CA that sees CardSecret first force any PANSecret, zero
included (threat 12); an HMAC leaves it no such choice.

Without a good secret all of this is a lookup table of 10⁹ card numbers (threat 11), so every function here refuses
secrets that are short or constant.
"""

from __future__ import annotations

import base64
import hmac
from typing import Final

from kwbp.errors import CommitmentError
from shetab.types import Expiry, Pan

SECRET_SIZE: Final = 32
"""Bytes of CardSecret, NonceCCA and PANSecret."""
_MIN_DISTINCT: Final = 8  # of 32 random bytes fewer than 8 are distinct with probability below 2^-100


def pan_secret(card_secret: bytes, nonce_cca: bytes, ca_key_id: bytes) -> bytes:
    """PANSecret = HMAC-SHA-256(CardSecret, "KWBP-PANSecret-v1" ‖ NonceCCA ‖ issuer key id), 32 bytes.

    :param card_secret: the wallet's 32 random bytes.
    :param nonce_cca: the CA's 32 random bytes.
    :param ca_key_id: subjectKeyIdentifier of the cardholder CA, not empty.
    :raises CommitmentError: a secret is short or constant, the nonce has another length, the key id is empty.
    """
    _check_secret("CardSecret", card_secret)
    if len(nonce_cca) != SECRET_SIZE or not ca_key_id:
        raise CommitmentError(f"NonceCCA has {SECRET_SIZE} bytes, and the key id of the CA is not empty")
    secret = hmac.digest(card_secret, b"KWBP-PANSecret-v1" + nonce_cca + ca_key_id, "sha256")
    _check_secret("PANSecret", secret)
    return secret


def commitment_cn(secret: bytes, pan: Pan, expiry: Expiry) -> str:
    """commonName of the cardholder's certificate: base64url, unpadded, of HMAC-SHA-256(PANSecret, PAN ‖ expiry).

    The expiry always has four digits, so PAN and expiry cannot be cut apart in two ways. 43 ASCII characters.

    :raises CommitmentError: PANSecret is short or constant.
    """
    _check_secret("PANSecret", secret)
    digest = hmac.digest(secret, (pan.reveal() + expiry.reveal()).encode("ascii"), "sha256")
    return base64.urlsafe_b64encode(digest).rstrip(b"=").decode("ascii")


def trans_stain(card_secret: bytes, xid: bytes, invoice_hash: bytes) -> bytes:
    """transStain = HMAC-SHA-256(CardSecret, "KWBP-stain" ‖ XID ‖ invoiceHash): proof for the issuer, 32 bytes.

    :raises CommitmentError: CardSecret is short or constant, or XID and hash have not 20 and 32 bytes.
    """
    _check_secret("CardSecret", card_secret)
    if (len(xid), len(invoice_hash)) != (20, 32):
        raise CommitmentError("XID has 20 bytes, invoiceHash 32")
    return hmac.digest(card_secret, b"KWBP-stain" + xid + invoice_hash, "sha256")


def _check_secret(name: str, secret: bytes) -> None:
    if len(secret) != SECRET_SIZE:
        raise CommitmentError(f"{name} must have {SECRET_SIZE} bytes")
    if len(set(secret)) < _MIN_DISTINCT:
        raise CommitmentError(f"{name} is not random")
