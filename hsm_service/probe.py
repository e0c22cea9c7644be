"""What a token can really do, found out by doing it with throw-away session keys.

A mechanism list promises too much: SoftHSM2 lists RSA-OAEP and does it with SHA-1 only. Decisions (which sealing suites
a gateway's certificate names) follow from the result, never from the vendor's name.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Callable, Iterator
from dataclasses import dataclass, fields
from typing import Any, Final, cast

import pkcs11
from cryptography.exceptions import InvalidSignature, InvalidTag
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, padding, rsa
from cryptography.hazmat.primitives.ciphers import algorithms
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.cmac import CMAC
from pkcs11 import MGF, Attribute, GCMParams, KeyType, Mechanism, MechanismFlag, ObjectClass
from pkcs11.exceptions import PKCS11Error
from pkcs11.util.ec import encode_named_curve_parameters

from hsm_service import encodings

_PROBE_RSA_BITS: Final = 2048
_MESSAGE: Final = b"capability probe"


@dataclass(frozen=True, slots=True)
class Capabilities:
    """The outcome; a field is true if the operation was done and its result verified."""

    rsa_pss_sha256: bool
    rsa_pkcs1v15: bool
    ecdsa_p256: bool
    ecdsa_p384: bool
    oaep_sha1: bool
    """RSAES-OAEP unwrap with SHA-1 of an AES key that then decrypts AES-GCM."""
    oaep_sha256: bool
    aes_gcm: bool
    aes_cmac: bool
    des2_ecb: bool

    def supports(self, suite: str) -> bool:
        """Whether content sealed with "oaep-sha1" or "oaep-sha256" can be opened."""
        return suite in self.sealing_suites

    @property
    def sealing_suites(self) -> tuple[str, ...]:
        """The sealing suites, strongest first, as an encryption certificate names them."""
        offered = (("oaep-sha256", self.oaep_sha256), ("oaep-sha1", self.oaep_sha1))
        return tuple(name for name, can in offered if can)

    def missing(self) -> tuple[str, ...]:
        """Names of the fields that are false."""
        return tuple(each.name for each in fields(self) if not getattr(self, each.name))


def probe(session: pkcs11.Session) -> Capabilities:
    """Try every operation on `session` (logged in; read-only is enough) and clean up."""
    public, private = session.generate_keypair(
        KeyType.RSA,
        _PROBE_RSA_BITS,
        capabilities=MechanismFlag.SIGN | MechanismFlag.VERIFY | MechanismFlag.WRAP | MechanismFlag.UNWRAP,
    )
    try:
        host = encodings.rsa_public_key(private.get_attributes([Attribute.MODULUS, Attribute.PUBLIC_EXPONENT]))
        return Capabilities(
            rsa_pss_sha256=_works(lambda: _pss(private, host)),
            rsa_pkcs1v15=_works(lambda: _pkcs1v15(private, host)),
            ecdsa_p256=_works(lambda: _ecdsa(session, "secp256r1")),
            ecdsa_p384=_works(lambda: _ecdsa(session, "secp384r1")),
            oaep_sha1=_works(lambda: _oaep(private, host, hashes.SHA1(), Mechanism.SHA_1, MGF.SHA1)),  # noqa: S303  # RFC 8017 A.2.1: OAEP does not rest on collision resistance
            oaep_sha256=_works(lambda: _oaep(private, host, hashes.SHA256(), Mechanism.SHA256, MGF.SHA256)),
            aes_gcm=_works(lambda: _gcm(session)),
            aes_cmac=_works(lambda: _cmac(session)),
            des2_ecb=_works(lambda: _des2(session)),
        )
    finally:
        public.destroy()
        private.destroy()


class _WrongResult(Exception):
    """The token answered, but not with the right bytes."""


def _works(attempt: Callable[[], None]) -> bool:
    try:
        attempt()
    except (PKCS11Error, InvalidSignature, InvalidTag, _WrongResult):
        return False
    return True


def _pss(private: Any, host: rsa.RSAPublicKey) -> None:
    value = encodings.digest(_MESSAGE, hashes.SHA256())
    signature = private.sign(
        value, mechanism=Mechanism.RSA_PKCS_PSS, mechanism_param=(Mechanism.SHA256, MGF.SHA256, 32)
    )
    host.verify(signature, _MESSAGE, padding.PSS(padding.MGF1(hashes.SHA256()), 32), hashes.SHA256())


def _pkcs1v15(private: Any, host: rsa.RSAPublicKey) -> None:
    info = encodings.digest_info(encodings.digest(_MESSAGE, hashes.SHA256()), hashes.SHA256())
    host.verify(private.sign(info, mechanism=Mechanism.RSA_PKCS), _MESSAGE, padding.PKCS1v15(), hashes.SHA256())


def _ecdsa(session: pkcs11.Session, curve: str) -> None:
    parameters = session.create_domain_parameters(
        KeyType.EC, {Attribute.EC_PARAMS: encode_named_curve_parameters(curve)}, local=True
    )
    public, private = parameters.generate_keypair(capabilities=MechanismFlag.SIGN | MechanismFlag.VERIFY)
    with _destroyed(public, private):
        host = encodings.ec_public_key(public.get_attributes([Attribute.EC_PARAMS, Attribute.EC_POINT]))
        raw = cast(Any, private).sign(encodings.digest(_MESSAGE, hashes.SHA256()), mechanism=Mechanism.ECDSA)
        host.verify(encodings.ecdsa_signature(raw), _MESSAGE, ec.ECDSA(hashes.SHA256()))


def _oaep(
    private: Any, host: rsa.RSAPublicKey, algorithm: hashes.HashAlgorithm, mechanism: Mechanism, mgf: MGF
) -> None:
    content_key, nonce = os.urandom(32), os.urandom(12)
    wrapped = host.encrypt(content_key, padding.OAEP(padding.MGF1(algorithm), algorithm, None))
    key = private.unwrap_key(
        ObjectClass.SECRET_KEY,
        KeyType.AES,
        wrapped,
        mechanism=Mechanism.RSA_PKCS_OAEP,
        mechanism_param=(mechanism, mgf, None),
        template={Attribute.SENSITIVE: True, Attribute.EXTRACTABLE: False},
    )
    # Opening needs the copy too, to stand in for a content key that did not come out (Token.unwrap_and_decrypt_gcm).
    with _destroyed(key, key.copy({})):
        sealed = AESGCM(content_key).encrypt(nonce, _MESSAGE, None)
        _same(key.decrypt(sealed, mechanism=Mechanism.AES_GCM, mechanism_param=GCMParams(nonce, None, 128)), _MESSAGE)


def _gcm(session: pkcs11.Session) -> None:
    key: Any = session.generate_key(KeyType.AES, 256, capabilities=MechanismFlag.ENCRYPT | MechanismFlag.DECRYPT)
    with _destroyed(key):
        parameters = GCMParams(os.urandom(12), b"aad", 128)
        sealed = key.encrypt(_MESSAGE, mechanism=Mechanism.AES_GCM, mechanism_param=parameters)
        _same(key.decrypt(sealed, mechanism=Mechanism.AES_GCM, mechanism_param=parameters), _MESSAGE)


def _cmac(session: pkcs11.Session) -> None:
    value = os.urandom(16)
    key = _known_key(session, KeyType.AES, value, Attribute.SIGN)
    with _destroyed(key):
        reference = CMAC(algorithms.AES(value))
        reference.update(_MESSAGE)
        _same(key.sign(_MESSAGE, mechanism=Mechanism.AES_CMAC), reference.finalize())


def _des2(session: pkcs11.Session) -> None:
    value = bytes.fromhex("0123456789ABCDEFFEDCBA9876543210")
    key = _known_key(session, KeyType.DES2, value, Attribute.ENCRYPT)
    with _destroyed(key):
        # ISO 9564-1 format 0 block of PIN 12345 under this key, computed two independent ways.
        block = key.encrypt(bytes.fromhex("05124DCEDCBA9876"), mechanism=Mechanism.DES3_ECB)
        _same(block, bytes.fromhex("F92D1CFCC2103E10"))


def _known_key(session: pkcs11.Session, key_type: KeyType, value: bytes, usage: Attribute) -> Any:
    return session.create_object(
        {
            Attribute.CLASS: ObjectClass.SECRET_KEY,
            Attribute.KEY_TYPE: key_type,
            Attribute.TOKEN: False,
            Attribute.VALUE: value,
            usage: True,
        }
    )


@contextlib.contextmanager
def _destroyed(*objects: Any) -> Iterator[None]:
    try:
        yield
    finally:
        for each in objects:
            each.destroy()


def _same(found: bytes, expected: bytes) -> None:
    if found != expected:
        raise _WrongResult
