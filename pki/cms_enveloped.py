"""AuthEnvelopedData as KWBP uses it: a closed profile of RFC 5083 and RFC 5084 (KWBP global rule 3).

The parser runs before any private key does. It lets through one recipient, RSAES-OAEP, AES-256-GCM with a 12-byte nonce
and a 16-byte tag, and nothing else: a CBC EnvelopedData, a stream cipher's OID, a one-byte tag or PKCS#1 v1.5 transport
is refused while it is still only bytes. There are no authenticated attributes, because OpenSSL cannot read them;
context is bound inside the plaintext and by the hash of the whole object under the buyer's signature.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache
from typing import Annotated, Final

from cryptography import x509
from cryptography.exceptions import InvalidTag
from cryptography.hazmat import asn1
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import padding, rsa
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from pki import oids
from pki.algorithms import SEALING_IDENTIFIERS, SealingSuite
from pki.crowding import Members
from pki.der import any_value, decode, encode, remembered, sha256
from pki.errors import CmsError, DerError
from pki.keys import screen_public_key

__all__ = ["AuthEnveloped", "SealingSuite", "oaep", "parse_auth_enveloped", "seal", "seal_to", "unseal"]

KEY_SIZE: Final = 32
NONCE_SIZE: Final = 12
TAG_SIZE: Final = 16
_OAEP_HASH: Final[dict[SealingSuite, type[hashes.HashAlgorithm]]] = {
    SealingSuite.OAEP_SHA1: hashes.SHA1,  # for tokens that know no other; OAEP does not rest on collision resistance
    SealingSuite.OAEP_SHA256: hashes.SHA256,
}
_LONGEST_NAME: Final = 8192  # bytes
_RECIPIENTS: Final = Members(8, {0x30: Members(8, {0x30: Members(8)})})
_MEMBERS: Final = Members(2, {0xA0: Members(1, {0x30: Members(8, {0x31: _RECIPIENTS, 0x30: Members(8)})})})
_CLAUSE: Final = "KWBP global rule 3"


@asn1.sequence
class _IssuerAndSerialNumber:
    issuer: asn1.TLV  # Name
    serial_number: int


@asn1.sequence
class _KeyTransRecipientInfo:
    version: int
    rid: _IssuerAndSerialNumber
    key_encryption_algorithm: asn1.TLV
    encrypted_key: bytes


@asn1.sequence
class _GcmParameters:
    nonce: Annotated[bytes, asn1.Size.exact(NONCE_SIZE)]
    icv_len: int  # DEFAULT 12 in RFC 5084; 16 must be said


@asn1.sequence
class _ContentEncryptionAlgorithm:
    algorithm: x509.ObjectIdentifier
    parameters: _GcmParameters


@asn1.sequence
class _EncryptedContentInfo:
    content_type: x509.ObjectIdentifier
    content_encryption_algorithm: _ContentEncryptionAlgorithm
    encrypted_content: Annotated[bytes, asn1.Implicit(0)]


@asn1.sequence
class _AuthEnvelopedData:
    version: int
    recipient_infos: Annotated[asn1.SetOf[_KeyTransRecipientInfo], asn1.Size(1, 1)]
    auth_encrypted_content_info: _EncryptedContentInfo
    mac: Annotated[bytes, asn1.Size.exact(TAG_SIZE)]


@asn1.sequence
class _ContentInfo:
    content_type: x509.ObjectIdentifier
    content: Annotated[_AuthEnvelopedData, asn1.Explicit(0)]


@dataclass(frozen=True)
class AuthEnveloped:
    """One sealed object in the profile. `nonce` 12 bytes, `tag` 16 bytes, `der` the whole, `digest` its SHA-256.

    `recipient_issuer` is the DER Name of who certified the recipient.
    """

    recipient_issuer: bytes
    recipient_serial: int
    suite: SealingSuite
    encrypted_key: bytes
    nonce: bytes
    ciphertext: bytes
    tag: bytes
    der: bytes
    digest: bytes

    def is_for(self, certificate: x509.Certificate) -> bool:
        """Whether the recipient is this very certificate, by issuer name and serial number."""
        return (self.recipient_issuer, self.recipient_serial) == _issuer_and_serial(certificate)


@lru_cache(maxsize=256)
def _issuer_and_serial(certificate: x509.Certificate) -> tuple[bytes, int]:
    return certificate.issuer.public_bytes(), certificate.serial_number


@remembered(256)  # the same few authorities come with every message
def _check_name(der: bytes) -> None:
    decode(x509.Name, der, limit=_LONGEST_NAME)


def parse_auth_enveloped(der: bytes) -> AuthEnveloped:
    """Read a ContentInfo with AuthEnvelopedData; no key is needed or used.

    Raises CmsError: `malformed` (not DER, or any member more or less than the profile: originatorInfo, attributes, a
    second recipient, another nonce or tag size), `too_big`, `not_canonical`, `wrong_content_type`, `bad_version`,
    `bad_algorithm` (key transport or content cipher not listed, ICVlen not 16).
    """
    try:
        info = decode(_ContentInfo, der, members=_MEMBERS)
        recipient = info.content.recipient_infos.as_list()[0]
        issuer = encode(recipient.rid.issuer)
        _check_name(issuer)
    except DerError as error:
        raise CmsError(error.reason, "not an AuthEnvelopedData of the profile", clause=_CLAUSE) from None
    content = info.content.auth_encrypted_content_info
    if info.content_type != oids.AUTH_ENVELOPED_DATA or content.content_type != oids.DATA:
        raise _refuse("wrong_content_type", "AuthEnvelopedData over id-data is expected")
    if info.content.version != 0 or recipient.version != 0:  # RFC 5083 2.1, RFC 5652 6.2.1
        raise _refuse("bad_version", "versions are 0")
    suite = SEALING_IDENTIFIERS.get(encode(recipient.key_encryption_algorithm))
    if suite is None:
        raise _refuse("bad_algorithm", "key transport is RSAES-OAEP with SHA-1 or SHA-256 and an empty label")
    cipher = content.content_encryption_algorithm
    if cipher.algorithm != oids.AES_256_GCM or cipher.parameters.icv_len != TAG_SIZE:
        raise _refuse("bad_algorithm", "content cipher is AES-256-GCM with a tag of 16 bytes")
    return AuthEnveloped(
        recipient_issuer=issuer,
        recipient_serial=recipient.rid.serial_number,
        suite=suite,
        encrypted_key=recipient.encrypted_key,
        nonce=cipher.parameters.nonce,
        ciphertext=content.encrypted_content,
        tag=info.content.mac,
        der=der,
        digest=sha256(der),
    )


def _refuse(reason: str, detail: str) -> CmsError:
    return CmsError(reason, detail, clause=_CLAUSE)


def oaep(suite: SealingSuite) -> padding.OAEP:
    """The OAEP padding of a suite: MGF1 with the same hash, empty label."""
    algorithm = _OAEP_HASH[suite]()
    return padding.OAEP(mgf=padding.MGF1(algorithm), algorithm=algorithm, label=None)


def seal(plaintext: bytes, recipient: x509.Certificate, suite: SealingSuite, *, rng: Callable[[int], bytes]) -> bytes:
    """Seal `plaintext` to the RSA key of `recipient`; returns the DER ContentInfo (RFC 5083).

    `rng(n)` gives n fresh random bytes for the content key and the nonce; the OAEP seed comes from the cryptographic
    library. Raises CmsError `bad_algorithm` if the recipient's key is not RSA, CertificateError `weak_key`.
    """
    key = recipient.public_key()
    if not isinstance(key, rsa.RSAPublicKey):
        raise _refuse("bad_algorithm", "recipient key is not RSA")
    return seal_to(plaintext, key, suite, issuer=recipient.issuer, serial=recipient.serial_number, rng=rng)


def seal_to(
    plaintext: bytes,
    key: rsa.RSAPublicKey,
    suite: SealingSuite,
    *,
    issuer: x509.Name,
    serial: int,
    rng: Callable[[int], bytes],
) -> bytes:
    """As `seal`, for a key without a certificate; `issuer` and `serial` are what its holder knows it by.

    Raises CertificateError `weak_key`.
    """
    screen_public_key(key)
    content_key, nonce = rng(KEY_SIZE), rng(NONCE_SIZE)
    sealed = AESGCM(content_key).encrypt(nonce, plaintext, None)
    recipient_info = _KeyTransRecipientInfo(
        version=0,
        rid=_IssuerAndSerialNumber(issuer=any_value(issuer.public_bytes()), serial_number=serial),
        key_encryption_algorithm=any_value(suite.identifier),
        encrypted_key=key.encrypt(content_key, oaep(suite)),
    )
    content = _EncryptedContentInfo(
        content_type=oids.DATA,
        content_encryption_algorithm=_ContentEncryptionAlgorithm(
            algorithm=oids.AES_256_GCM, parameters=_GcmParameters(nonce=nonce, icv_len=TAG_SIZE)
        ),
        encrypted_content=sealed[:-TAG_SIZE],
    )
    enveloped = _AuthEnvelopedData(
        version=0,
        recipient_infos=asn1.SetOf([recipient_info]),
        auth_encrypted_content_info=content,
        mac=sealed[-TAG_SIZE:],
    )
    return encode(_ContentInfo(content_type=oids.AUTH_ENVELOPED_DATA, content=enveloped))


def unseal(envelope: AuthEnveloped, key: rsa.RSAPrivateKey, *, rng: Callable[[int], bytes]) -> bytes:
    """Open a sealed object with a key in memory: a wallet's one-time key, the simulated bank's.

    A key transport that does not open is answered with a random content key, so that everything that is wrong fails at
    the same place, the tag, and in the same words (RFC 3218). Raises CmsError `sealed`.
    """
    try:
        content_key = key.decrypt(envelope.encrypted_key, oaep(envelope.suite))
    except ValueError:
        content_key = b""
    if len(content_key) != KEY_SIZE:
        content_key = rng(KEY_SIZE)
    try:
        return AESGCM(content_key).decrypt(envelope.nonce, envelope.ciphertext + envelope.tag, None)
    except InvalidTag:
        raise _refuse("sealed", "the sealed object does not open") from None
