"""Keys that something is sealed to although no CA certified them: a bank's, and a wallet's one-time key.

CMS names a recipient by issuer and serial number of its certificate. Such a key is named by a fixed issuer and a serial
number that is a hash of the key itself, so that recipient and key cannot come apart.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

from cryptography.hazmat.primitives.asymmetric import rsa
from cryptography.hazmat.primitives.serialization import load_der_public_key

from kwbp.codes import ErrorCode
from kwbp.common import require
from kwbp.errors import ProtocolError
from pki.algorithms import SealingSuite
from pki.cms_enveloped import AuthEnveloped, seal_to
from pki.errors import UNREADABLE, CertificateError
from pki.keys import screen_public_key, spki_der, spki_sha256
from pki.names import name

ISSUER: Final = name(cn="KWBP registration key", c=None)
"""Issuer of every such recipient."""
_SERIAL: Final = 19  # bytes: positive, and within the 20 octets of RFC 5280 4.1.2.2

Unseal = Callable[[AuthEnveloped], bytes]
"""Opens a sealed object with the holder's key, in a token or a file. Raises CmsError if it does not open."""


def key_recipient(key: rsa.RSAPublicKey) -> int:
    """The serial number by which `key` is named as a recipient, below `ISSUER`."""
    return int.from_bytes(spki_sha256(key)[:_SERIAL], "big")


def is_for_key(envelope: AuthEnveloped, key: rsa.RSAPublicKey) -> bool:
    """Whether the recipient is this very key."""
    recipient = (envelope.recipient_issuer, envelope.recipient_serial)
    return recipient == (ISSUER.public_bytes(), key_recipient(key))


def seal_to_key(plaintext: bytes, key: rsa.RSAPublicKey, suite: SealingSuite, *, rng: Callable[[int], bytes]) -> bytes:
    """Seal to a key that was read by `read_key`; returns the DER ContentInfo."""
    return seal_to(plaintext, key, suite, issuer=ISSUER, serial=key_recipient(key), rng=rng)


def read_key(spki: bytes, *, check: str) -> rsa.RSAPublicKey:
    """An RSA key fit to be sealed to: at least 3072 bits, in its one DER encoding.

    :raises ProtocolError: invalidCertificate at `check`.
    """
    try:
        key = load_der_public_key(spki)
        if isinstance(key, rsa.RSAPublicKey):
            screen_public_key(key)
    except (*UNREADABLE, CertificateError):
        raise ProtocolError(ErrorCode.INVALID_CERTIFICATE, check, "key must be a sound one") from None
    fit = isinstance(key, rsa.RSAPublicKey) and spki_der(key) == spki
    require(fit, ErrorCode.INVALID_CERTIFICATE, check, "key must be an RSA key in DER")
    assert isinstance(key, rsa.RSAPublicKey)
    return key
