"""Taking a wrapped private key into a token: unwrapped inside, checked by a signature, destroyed if it is another."""

from __future__ import annotations

from typing import Any, Final

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, padding, rsa
from cryptography.hazmat.primitives.serialization import load_der_public_key
from pkcs11 import MGF, Attribute, KeyType, Mechanism, ObjectClass
from pkcs11.exceptions import PKCS11Error
from pkcs11.util.ec import encode_named_curve_parameters

from hsm_service import encodings
from hsm_service.errors import BadInput, DecodingFailure, KeyMisused
from hsm_service.keys import KeyKind, KeyRef, Protection, Usage, protected_template
from hsm_service.sessions import Session

_OAEP: Final = {
    "oaep-sha256": (Mechanism.SHA256, MGF.SHA256, None),
    "oaep-sha1": (Mechanism.SHA_1, MGF.SHA1, None),
}
_UNWRAPPER: Final = {
    **protected_template(ObjectClass.SECRET_KEY, Usage.SEAL, store=False),
    Attribute.ENCRYPT: False,
    Attribute.DECRYPT: False,
    Attribute.UNWRAP: True,
}
_CURVES: Final = frozenset({"secp256r1", "secp384r1"})
_MESSAGE: Final = b"the key that was restored"


def reference(token: str, label: str, cka_id: bytes, spki: bytes) -> KeyRef:
    """The reference of the key pair `spki` once it is restored; BadInput for a key of a kind that we have not."""
    public = load_der_public_key(spki)
    if isinstance(public, rsa.RSAPublicKey):
        return KeyRef(token, KeyKind.RSA, cka_id, label, Protection.BROUGHT_IN)
    if isinstance(public, ec.EllipticCurvePublicKey) and public.curve.name in _CURVES:
        return KeyRef(token, KeyKind.EC, cka_id, label, Protection.BROUGHT_IN)
    raise BadInput("a restored key is an RSA or EC pair")


def take_in(
    session: Session,
    recipient: KeyRef,
    ref: KeyRef,
    spki: bytes,
    *,
    suite: str,
    encrypted_key: bytes,
    wrapped: bytes,
    unwrap: Any,
) -> None:
    """Unwrap the private key of `spki` as the object `ref`, on a logged-in read-write session.

    `unwrap` is the token's way of AES-KWP (`mechanisms.KWP`). Raises DecodingFailure if it does not unwrap, KeyMisused
    if what comes out is another key, which is then destroyed.
    """
    if suite not in _OAEP:
        raise BadInput(f"no sealing suite {suite!r}; there are {sorted(_OAEP)}")
    private: Any = session.key(recipient)
    made: list[Any] = []
    try:
        wrapper = private.unwrap_key(
            ObjectClass.SECRET_KEY,
            KeyType.AES,
            encrypted_key,
            mechanism=Mechanism.RSA_PKCS_OAEP,
            mechanism_param=_OAEP[suite],
            template=_UNWRAPPER,
        )
    except PKCS11Error:
        raise DecodingFailure from None
    try:
        template = {
            **protected_template(ObjectClass.PRIVATE_KEY, Usage.SIGN, store=True),
            Attribute.ID: ref.cka_id,
            Attribute.LABEL: ref.label,
        }
        try:
            made.append(unwrap(wrapper, _TYPES[ref.kind], wrapped, template))
        except PKCS11Error:
            raise DecodingFailure from None
        _check(made[0], ref, spki)
        made.append(session.raw.create_object(_public_object(ref, spki)))
    except BaseException:
        for each in made:
            each.destroy()
        raise
    finally:
        wrapper.destroy()


_TYPES: Final = {KeyKind.RSA: KeyType.RSA, KeyKind.EC: KeyType.EC}


def _check(key: Any, ref: KeyRef, spki: bytes) -> None:
    """The key signs, and its signature holds under the public key that the backup names."""
    public, digest = load_der_public_key(spki), encodings.digest(_MESSAGE, hashes.SHA256())
    try:
        if isinstance(public, rsa.RSAPublicKey):
            info = encodings.digest_info(digest, hashes.SHA256())
            signature = bytes(key.sign(info, mechanism=Mechanism.RSA_PKCS, buffer_size=1024))
            public.verify(signature, _MESSAGE, padding.PKCS1v15(), hashes.SHA256())
        elif isinstance(public, ec.EllipticCurvePublicKey):
            signature = encodings.ecdsa_signature(bytes(key.sign(digest, mechanism=Mechanism.ECDSA, buffer_size=1024)))
            public.verify(signature, _MESSAGE, ec.ECDSA(hashes.SHA256()))
    except InvalidSignature:
        raise KeyMisused(f"what was restored as {ref.label!r} is another key") from None


def _public_object(ref: KeyRef, spki: bytes) -> dict[Attribute, Any]:
    public = load_der_public_key(spki)
    common = {
        Attribute.CLASS: ObjectClass.PUBLIC_KEY,
        Attribute.KEY_TYPE: _TYPES[ref.kind],
        Attribute.TOKEN: True,
        Attribute.PRIVATE: False,
        Attribute.ID: ref.cka_id,
        Attribute.LABEL: ref.label,
        Attribute.VERIFY: True,
    }
    if isinstance(public, rsa.RSAPublicKey):
        numbers = public.public_numbers()
        return common | {
            Attribute.MODULUS: numbers.n.to_bytes((numbers.n.bit_length() + 7) // 8, "big"),
            Attribute.PUBLIC_EXPONENT: numbers.e.to_bytes(3, "big"),
        }
    assert isinstance(public, ec.EllipticCurvePublicKey)  # `reference` saw to it
    return common | {
        Attribute.EC_PARAMS: encode_named_curve_parameters(public.curve.name),
        Attribute.EC_POINT: _ec_point(public),
    }


def _ec_point(public: ec.EllipticCurvePublicKey) -> bytes:
    """CKA_EC_POINT: the uncompressed point as a DER OCTET STRING (PKCS#11 v2.40 2.3.3)."""
    size = (public.key_size + 7) // 8
    numbers = public.public_numbers()
    point = b"\x04" + numbers.x.to_bytes(size, "big") + numbers.y.to_bytes(size, "big")
    return bytes([0x04, len(point)]) + point
