"""A PKCS#11 token, logged in, and the operations this product does in it.

Nothing here decides who may do what: that is the registry's and typed signing's part. What is decided here cannot be
switched off above: a key that the token protects less than required is refused at its first use, private keys leave
only as references, content keys never enter host memory, and a sealed order that does not open gives one error whatever
the cause.
"""

from __future__ import annotations

import contextlib
import threading
from collections import Counter
from collections.abc import Callable, Sequence
from functools import cached_property
from typing import Any, Final, Self, TypeVar

import pkcs11
import prometheus_client
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from pkcs11 import MGF, Attribute, GCMParams, KeyType, Mechanism, ObjectClass
from pkcs11.exceptions import PKCS11Error
from pkcs11.util.ec import encode_named_curve_parameters

from hsm_service import encodings, probe
from hsm_service.errors import (
    BadInput,
    DecodingFailure,
    HsmError,
    KeyExists,
    KeyMisused,
    KeyNotFound,
    MechanismMissing,
    PinRefused,
    TokenUnavailable,
)
from hsm_service.keys import (
    KIND_OF_TYPE,
    PKCS11_TYPE,
    KeyAttributes,
    KeyKind,
    KeyRef,
    Usage,
    attributes_to_read,
    parse_attributes,
    protected_template,
)
from hsm_service.pkcs11_module import Pkcs11Module
from hsm_service.return_codes import Kind, kind_of
from hsm_service.sessions import Session, SessionPool
from runtime.secrets import Secret

__all__ = ["KeyAttributes", "KeyKind", "KeyRef", "Token", "Usage"]

OPERATIONS: Final = prometheus_client.Counter(
    "kwbp_token_operations", "Operations with a private or secret key inside a token", ["operation"]
)

_T = TypeVar("_T")

_OAEP: Final = {
    "oaep-sha1": (Mechanism.SHA_1, MGF.SHA1, None),
    "oaep-sha256": (Mechanism.SHA256, MGF.SHA256, None),
}
_PSS_SHA256: Final = (Mechanism.SHA256, MGF.SHA256, 32)
_CONTENT_KEY_BYTES: Final = 32
_GCM_NONCE_BYTES: Final = 12
_GCM_TAG_BYTES: Final = 16
_CMAC_BYTES: Final = 16
_ID_BYTES: Final = 16
_CURVES: Final = {"P-256": "secp256r1", "P-384": "secp384r1"}

# What a token may answer when a key or a ciphertext is wrong. SoftHSM2 says GeneralError to a bad GCM tag and to bad
# OAEP padding; a real failure of the token hides behind the same word, so the caller then hears that decoding failed.
_DOES_NOT_OPEN: Final = frozenset({Kind.CALLER, Kind.KEY, Kind.MECHANISM})


class Token:
    """One logged-in token. Safe for threads; use `open`, and `close` (or `with`) when done."""

    def __init__(
        self, module: Pkcs11Module, label: str, token: pkcs11.Token, *, sessions: int, acquire_timeout: float
    ) -> None:
        self.label: Final = label
        self._module = module
        self._token = token
        self._pool = SessionPool(token, sessions)
        self._acquire_timeout = acquire_timeout
        self._login: Session | None = None
        self._login_lock = threading.RLock()
        self._sound: set[tuple[bytes, Usage]] = set()
        self._uses: Counter[bytes] = Counter()
        self._uses_lock = threading.Lock()

    @classmethod
    def open(
        cls, module: Pkcs11Module, label: str, pin: Secret, *, sessions: int = 8, acquire_timeout: float = 2.0
    ) -> Self:
        """Log in to the token `label`; a label can be open once in a process.

        `sessions` bounds the pool, `acquire_timeout` is the longest wait for a session in seconds. Raises
        TokenNotFound, PinRefused (after one try), ModuleBusy (already open), TokenUnavailable.
        """
        token = cls(module, label, module.token(label), sessions=sessions, acquire_timeout=acquire_timeout)
        module.hold(token)
        try:
            token._login = Session(token._token.open(rw=True, user_pin=pin.reveal().decode()))
        except PKCS11Error as error:
            module.release(token)
            if kind_of(error) is Kind.PIN:
                raise PinRefused(f"token {label!r} refused the PIN: {type(error).__name__}") from None
            raise TokenUnavailable(f"token {label!r} does not open: {type(error).__name__}") from None
        return token

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_exception: object) -> None:
        self.close()

    def __repr__(self) -> str:
        return f"<Token {self.label}>"

    def close(self, timeout: float = 5.0) -> None:
        """Drain the sessions for at most `timeout` seconds, log out, close. A second close does nothing.

        If an operation is still running afterwards, the token stays logged in and TokenUnavailable is raised.
        """
        with self._login_lock:
            if self._login is None:
                return
            self._module.check_usable()
            if not self._pool.close(timeout):
                raise TokenUnavailable(f"token {self.label!r} is still busy after {timeout} s")
            with contextlib.suppress(PKCS11Error):  # a token that is gone needs no log-out
                self._login.raw.close()
            self._login = None
            self._module.release(self)

    # -- capabilities ------------------------------------------------------------------------------------------------

    @cached_property
    def capabilities(self) -> probe.Capabilities:
        """What this token really can do, tried with throw-away session keys (about 0.1 s, once)."""
        with self._pool.session(self._acquire_timeout) as session:
            return probe.probe(session.raw)

    # -- keys --------------------------------------------------------------------------------------------------------

    def generate_rsa(
        self, label: str, bits: int = 3072, *, usage: Usage = Usage.SIGN, cka_id: bytes | None = None
    ) -> tuple[KeyRef, rsa.RSAPublicKey]:
        """Make an RSA key pair in the token, exponent 65537; `usage` is SIGN or OPEN.

        Returns its reference and public key. The new key is checked; a key that is less protected than required is
        destroyed and WeakKey raised. Raises KeyExists if `cka_id` (default: 16 random bytes) is taken.
        """
        ref = self._generate_pair(label, KeyKind.RSA, usage, cka_id, bits=bits)
        public = self.public_key(ref)
        if not isinstance(public, rsa.RSAPublicKey):  # pragma: no cover  # the type was just generated
            raise TokenUnavailable("the token made a key of another type")
        return ref, public

    def generate_ec(
        self, label: str, curve: str = "P-256", *, cka_id: bytes | None = None
    ) -> tuple[KeyRef, ec.EllipticCurvePublicKey]:
        """Make an EC key pair for signing on `P-256` or `P-384`; otherwise as `generate_rsa`."""
        ref = self._generate_pair(label, KeyKind.EC, Usage.SIGN, cka_id, curve=curve)
        public = self.public_key(ref)
        if not isinstance(public, ec.EllipticCurvePublicKey):  # pragma: no cover  # the type was just generated
            raise TokenUnavailable("the token made a key of another type")
        return ref, public

    def generate_aes(
        self, label: str, bits: int = 256, *, usage: Usage = Usage.SEAL, cka_id: bytes | None = None
    ) -> KeyRef:
        """Make an AES key in the token; `usage` is SEAL (AES-GCM) or MAC (AES-CMAC)."""
        if usage not in {Usage.SEAL, Usage.MAC} or bits not in {128, 256}:
            raise BadInput(f"an AES key has 128 or 256 bits and seals or MACs; not {bits} bits for {usage}")
        ref = self._new_ref(label, KeyKind.AES, cka_id)

        def generate(session: Session) -> None:
            session.raw.generate_key(
                KeyType.AES,
                bits,
                id=ref.cka_id,
                label=label,
                template=protected_template(ObjectClass.SECRET_KEY, usage, store=True),
            )

        self._administer(generate)
        self._check_new(ref, usage)
        return ref

    def import_zone_key(
        self, label: str, kind: KeyKind, components: Sequence[Secret], *, usage: Usage, cka_id: bytes | None = None
    ) -> KeyRef:
        """Load a zone key from its components: the key is their XOR, all of the key's length (16 bytes).

        `kind` DES2 with `usage` PIN_BLOCK (2-key TDES, parity set as ANSI X3.92 wants), or AES with MAC. The key is
        marked by the token as not LOCAL, that is imported. Raises BadInput for fewer than two components, another
        length, or (DES2) halves that are equal, which would be single DES.
        """
        value = encodings.combine_components(kind, components)
        if (kind, usage) not in {(KeyKind.DES2, Usage.PIN_BLOCK), (KeyKind.AES, Usage.MAC)}:
            raise BadInput(f"a zone key is des2 for pin-block or aes for mac, not {kind} for {usage}")
        ref = self._new_ref(label, kind, cka_id)

        def create(session: Session) -> None:
            session.raw.create_object(
                {
                    Attribute.CLASS: ObjectClass.SECRET_KEY,
                    Attribute.KEY_TYPE: PKCS11_TYPE[kind],
                    Attribute.ID: ref.cka_id,
                    Attribute.LABEL: label,
                    Attribute.VALUE: value.reveal(),
                    **protected_template(ObjectClass.SECRET_KEY, usage, store=True),
                }
            )

        self._administer(create)
        self._check_new(ref, usage)
        return ref

    def find(self, *, cka_id: bytes | None = None, label: str | None = None) -> KeyRef | None:
        """The private or secret key with this CKA_ID or label; None if there is none, KeyMisused if there are more."""
        found = [ref for ref in self.keys() if cka_id in {None, ref.cka_id} and label in {None, ref.label}]
        if len(found) > 1:
            raise KeyMisused(f"token {self.label!r} holds {len(found)} keys like that; expected one")
        return found[0] if found else None

    def keys(self) -> list[KeyRef]:
        """All private and secret keys stored on the token, whoever made them."""

        def read(session: Session) -> list[KeyRef]:
            refs = []
            for object_class in (ObjectClass.PRIVATE_KEY, ObjectClass.SECRET_KEY):
                for each in session.raw.get_objects({Attribute.CLASS: object_class, Attribute.TOKEN: True}):
                    kind = KIND_OF_TYPE.get(each[Attribute.KEY_TYPE])
                    if kind is not None:
                        refs.append(KeyRef(self.label, kind, each[Attribute.ID], each[Attribute.LABEL]))
            return refs

        return self._run(read)

    def attributes(self, ref: KeyRef) -> KeyAttributes:
        """What the token says about the key, read afresh."""

        def read(session: Session) -> KeyAttributes:
            values = session.key(ref).get_attributes(attributes_to_read(ref.object_class))
            return parse_attributes(ref.object_class, values)

        return self._run(read, ref)

    def require_sound(self, ref: KeyRef, usage: Usage) -> KeyAttributes:
        """Read the attributes afresh and raise WeakKey unless they are what `usage` requires."""
        attributes = self.attributes(ref)
        attributes.require(ref.label, usage)
        return attributes

    def public_key(self, ref: KeyRef) -> rsa.RSAPublicKey | ec.EllipticCurvePublicKey:
        """The public key of a pair: for RSA read from the private object, for EC from the public one beside it."""

        def read(session: Session) -> rsa.RSAPublicKey | ec.EllipticCurvePublicKey:
            if ref.kind is KeyKind.RSA:
                return encodings.rsa_public_key(
                    session.key(ref).get_attributes([Attribute.MODULUS, Attribute.PUBLIC_EXPONENT])
                )
            public = list(session.raw.get_objects({Attribute.CLASS: ObjectClass.PUBLIC_KEY, Attribute.ID: ref.cka_id}))
            if len(public) != 1:
                raise KeyNotFound(f"token {ref.token!r} holds {len(public)} public keys for {ref.label!r}; expected 1")
            return encodings.ec_public_key(public[0].get_attributes([Attribute.EC_PARAMS, Attribute.EC_POINT]))

        if ref.kind not in {KeyKind.RSA, KeyKind.EC}:
            raise KeyMisused(f"{ref.label!r} is a secret key and has no public part")
        return self._run(read, ref)

    def destroy(self, ref: KeyRef) -> None:
        """Destroy the key and its public object, for ever."""

        def remove(session: Session) -> None:
            for each in list(session.raw.get_objects({Attribute.ID: ref.cka_id, Attribute.TOKEN: True})):
                each.destroy()

        self._administer(remove)
        self._pool.forget(ref.cka_id)
        self._sound = {each for each in self._sound if each[0] != ref.cka_id}

    def uses(self, ref: KeyRef) -> int:
        """How often the token was called with this key since the token was opened."""
        with self._uses_lock:
            return self._uses[ref.cka_id]

    # -- signatures --------------------------------------------------------------------------------------------------

    def sign_pss_sha256(self, ref: KeyRef, data: bytes) -> bytes:
        """RSASSA-PSS over `data` with SHA-256, MGF1-SHA-256 and a salt of 32 bytes (RFC 8017 8.1)."""
        return self.sign_pss_sha256_digest(ref, encodings.digest(data, hashes.SHA256()))

    def sign_pss_sha256_digest(self, ref: KeyRef, digest: bytes) -> bytes:
        """As `sign_pss_sha256`, for a SHA-256 digest."""
        return self._sign(ref, KeyKind.RSA, digest, Mechanism.RSA_PKCS_PSS, _PSS_SHA256)

    def sign_pkcs1v15(self, ref: KeyRef, data: bytes, algorithm: hashes.HashAlgorithm | None = None) -> bytes:
        """RSASSA-PKCS1-v1_5 over `data` (RFC 8017 8.2) with SHA-256 (default), SHA-384 or SHA-512."""
        algorithm = algorithm or hashes.SHA256()
        return self.sign_pkcs1v15_digest(ref, encodings.digest(data, algorithm), algorithm)

    def sign_pkcs1v15_digest(self, ref: KeyRef, digest: bytes, algorithm: hashes.HashAlgorithm) -> bytes:
        """As `sign_pkcs1v15`, for a digest made with `algorithm`."""
        return self._sign(ref, KeyKind.RSA, encodings.digest_info(digest, algorithm), Mechanism.RSA_PKCS, None)

    def prove_possession(self, ref: KeyRef, data: bytes) -> bytes:
        """RSASSA-PKCS1-v1_5 with SHA-256 by an OPEN key, over the CertificationRequestInfo of its own request."""
        info = encodings.digest_info(encodings.digest(data, hashes.SHA256()), hashes.SHA256())
        return self._sign(ref, KeyKind.RSA, info, Mechanism.RSA_PKCS, None, usage=Usage.OPEN)

    def sign_ecdsa(self, ref: KeyRef, data: bytes, algorithm: hashes.HashAlgorithm | None = None) -> bytes:
        """ECDSA over `data` with SHA-256 (default), SHA-384 or SHA-512; DER Ecdsa-Sig-Value (RFC 3279 2.2.3)."""
        return self.sign_ecdsa_digest(ref, encodings.digest(data, algorithm or hashes.SHA256()))

    def sign_ecdsa_digest(self, ref: KeyRef, digest: bytes) -> bytes:
        """As `sign_ecdsa`, for a digest."""
        return encodings.ecdsa_signature(self._sign(ref, KeyKind.EC, digest, Mechanism.ECDSA, None))

    # -- opening what was sealed to a key ------------------------------------------------------------------------------

    def unwrap_and_decrypt_gcm(
        self, ref: KeyRef, suite: str, encrypted_key: bytes, nonce: bytes, ciphertext: bytes, tag: bytes
    ) -> bytes:
        """Open AES-256-GCM content whose key was sealed to an RSA key by RSAES-OAEP; returns the plaintext.

        `suite` is "oaep-sha1" or "oaep-sha256" (MGF1 with the same hash, empty label), `nonce` 12 bytes, `tag` 16. The
        content key is unwrapped into the token as a non-extractable session object that can only decrypt, used once
        and destroyed. Raises MechanismMissing if the token cannot do the suite, DecodingFailure for everything that
        depends on the sealed bytes: after a failed unwrap a decoy key goes the same way, so that bad padding (Manger's
        oracle), another key length and a bad tag look alike.
        """
        if suite not in _OAEP:
            raise MechanismMissing(f"no sealing suite {suite!r}; there are {sorted(_OAEP)}")
        if not self.capabilities.supports(suite):
            raise MechanismMissing(f"token {self.label!r} cannot do {suite}")
        if len(nonce) != _GCM_NONCE_BYTES or len(tag) != _GCM_TAG_BYTES:
            raise DecodingFailure
        self._require_kind(ref, KeyKind.RSA, Usage.OPEN)

        def open_it(session: Session) -> bytes:
            private = session.key(ref)
            self._count("unwrap", ref)
            content_key, genuine = self._content_key(session, private, suite, encrypted_key)
            try:
                plaintext = content_key.decrypt(
                    ciphertext + tag,
                    mechanism=Mechanism.AES_GCM,
                    mechanism_param=GCMParams(nonce, None, _GCM_TAG_BYTES * 8),
                    buffer_size=len(ciphertext) + _GCM_TAG_BYTES,
                )
            except PKCS11Error as error:
                if not _says_does_not_open(error):
                    raise
                genuine = False
                plaintext = b""
            finally:
                content_key.destroy()
            if not genuine:
                raise DecodingFailure
            return bytes(plaintext)

        return self._run(open_it, ref)

    def _content_key(self, session: Session, private: Any, suite: str, encrypted_key: bytes) -> tuple[Any, bool]:
        """The unwrapped AES-256 key and True, or a random one and False."""
        template = protected_template(ObjectClass.SECRET_KEY, Usage.SEAL, store=False) | {Attribute.ENCRYPT: False}
        try:
            key = private.unwrap_key(
                ObjectClass.SECRET_KEY,
                KeyType.AES,
                encrypted_key,
                mechanism=Mechanism.RSA_PKCS_OAEP,
                mechanism_param=_OAEP[suite],
                template=template,
            )
        except PKCS11Error as error:
            if not _says_does_not_open(error):
                raise
        else:
            # SoftHSM2 leaves CKA_VALUE_LEN of an unwrapped key at 0. A shorter key that thus goes unseen
            # weakens only the order of the sender who chose it.
            if key[Attribute.VALUE_LEN] in {0, _CONTENT_KEY_BYTES}:
                return key, True
            key.destroy()
        return session.raw.generate_key(KeyType.AES, _CONTENT_KEY_BYTES * 8, template=template), False

    # -- secret keys ---------------------------------------------------------------------------------------------------

    def aes_gcm_encrypt(self, ref: KeyRef, plaintext: bytes, aad: bytes) -> bytes:
        """Seal `plaintext` with AES-GCM under a SEAL key: nonce (12 bytes, from the token) ‖ ciphertext ‖ tag (16)."""
        self._require_kind(ref, KeyKind.AES, Usage.SEAL)
        nonce = self.random(_GCM_NONCE_BYTES)

        def seal(session: Session) -> bytes:
            key = session.key(ref)
            self._count("gcm-encrypt", ref)
            sealed = key.encrypt(
                plaintext, mechanism=Mechanism.AES_GCM, mechanism_param=GCMParams(nonce, aad, _GCM_TAG_BYTES * 8)
            )
            return nonce + bytes(sealed)

        return self._run(seal, ref)

    def aes_gcm_decrypt(self, ref: KeyRef, sealed: bytes, aad: bytes) -> bytes:
        """Open what `aes_gcm_encrypt` sealed; raises DecodingFailure if key, bytes or `aad` differ."""
        self._require_kind(ref, KeyKind.AES, Usage.SEAL)
        nonce, body = sealed[:_GCM_NONCE_BYTES], sealed[_GCM_NONCE_BYTES:]
        if len(body) < _GCM_TAG_BYTES:
            raise DecodingFailure

        def unseal(session: Session) -> bytes:
            key = session.key(ref)
            self._count("gcm-decrypt", ref)
            try:
                return bytes(
                    key.decrypt(
                        body, mechanism=Mechanism.AES_GCM, mechanism_param=GCMParams(nonce, aad, _GCM_TAG_BYTES * 8)
                    )
                )
            except PKCS11Error as error:
                if not _says_does_not_open(error):
                    raise
                raise DecodingFailure from None

        return self._run(unseal, ref)

    def aes_cmac(self, ref: KeyRef, data: bytes) -> bytes:
        """AES-CMAC over `data` (RFC 4493, NIST SP 800-38B): 16 bytes; the dialect truncates."""
        self._require_kind(ref, KeyKind.AES, Usage.MAC)

        def mac(session: Session) -> bytes:
            key = session.key(ref)
            self._count("mac", ref)
            return bytes(key.sign(data, mechanism=Mechanism.AES_CMAC, buffer_size=_CMAC_BYTES))

        return self._run(mac, ref)

    def des3_ecb_encrypt(self, ref: KeyRef, block: bytes) -> bytes:
        """Encrypt one clear PIN block of 8 bytes under the zone PIN key: 2-key TDES, one block (ISO 9564-1 9.3)."""
        self._require_kind(ref, KeyKind.DES2, Usage.PIN_BLOCK)
        if len(block) != 8:
            raise BadInput(f"a PIN block has 8 bytes, not {len(block)}")

        def encrypt(session: Session) -> bytes:
            key = session.key(ref)
            self._count("pin-block", ref)
            return bytes(key.encrypt(block, mechanism=Mechanism.DES3_ECB, buffer_size=8))

        return self._run(encrypt, ref)

    def check_value(self, ref: KeyRef) -> bytes:
        """The check value of a zone key, 3 bytes, by which two parties see that they hold the same key.

        The first bytes of: TDES, the encryption of a zero block (ANSI X9.24-1 A.3); AES, the CMAC of a zero block
        (ANSI X9.24-1:2017 Annex A).
        """
        if ref.kind is KeyKind.DES2:
            return self.des3_ecb_encrypt(ref, bytes(8))[:3]
        return self.aes_cmac(ref, bytes(16))[:3]

    def random(self, length: int) -> bytes:
        """`length` bytes from the token's random number generator."""
        return self._run(lambda session: bytes(session.raw.generate_random(length * 8)))

    # -- inside --------------------------------------------------------------------------------------------------------

    def _generate_pair(
        self, label: str, kind: KeyKind, usage: Usage, cka_id: bytes | None, *, bits: int = 0, curve: str = ""
    ) -> KeyRef:
        if usage not in {Usage.SIGN, Usage.OPEN} or (usage is Usage.OPEN and kind is not KeyKind.RSA):
            raise BadInput(f"an {kind} key does not serve {usage}")
        ref = self._new_ref(label, kind, cka_id)
        public_template: dict[Attribute, Any] = {
            Attribute.TOKEN: True,
            Attribute.PRIVATE: False,
            Attribute.VERIFY: True,
            Attribute.VERIFY_RECOVER: False,
            Attribute.ENCRYPT: False,
            Attribute.WRAP: usage is Usage.OPEN,
        }
        private_template = protected_template(ObjectClass.PRIVATE_KEY, usage, store=True)

        def generate(session: Session) -> None:
            common: dict[str, Any] = {
                "id": ref.cka_id,
                "label": label,
                "store": True,
                "public_template": public_template,
                "private_template": private_template,
            }
            if kind is KeyKind.RSA:
                session.raw.generate_keypair(KeyType.RSA, bits, **common)
                return
            if curve not in _CURVES:
                raise BadInput(f"no curve {curve!r}; there are {sorted(_CURVES)}")
            parameters = session.raw.create_domain_parameters(
                KeyType.EC, {Attribute.EC_PARAMS: encode_named_curve_parameters(_CURVES[curve])}, local=True
            )
            parameters.generate_keypair(**common)

        self._administer(generate)
        self._check_new(ref, usage)
        return ref

    def _new_ref(self, label: str, kind: KeyKind, cka_id: bytes | None) -> KeyRef:
        cka_id = self.random(_ID_BYTES) if cka_id is None else cka_id
        if not cka_id or not label:
            raise BadInput("a key needs a label and a CKA_ID")
        if self.find(cka_id=cka_id) is not None:
            raise KeyExists(f"token {self.label!r} already holds a key with id {cka_id.hex()}")
        return KeyRef(self.label, kind, cka_id, label)

    def _check_new(self, ref: KeyRef, usage: Usage) -> None:
        try:
            self.require_sound(ref, usage)
        except BaseException:
            self.destroy(ref)
            raise

    def _sign(
        self,
        ref: KeyRef,
        kind: KeyKind,
        data: bytes,
        mechanism: Mechanism,
        parameters: Any,
        *,
        usage: Usage = Usage.SIGN,
    ) -> bytes:
        self._require_kind(ref, kind, usage)

        def sign(session: Session) -> bytes:
            key = session.key(ref)
            self._count("sign", ref)
            return bytes(key.sign(data, mechanism=mechanism, mechanism_param=parameters, buffer_size=1024))

        return self._run(sign, ref)

    def _require_kind(self, ref: KeyRef, kind: KeyKind, usage: Usage) -> None:
        """Refuse a key of another kind, another token, or (read at its first use) one that is not sound."""
        if ref.kind is not kind or ref.token != self.label:
            raise KeyMisused(
                f"{ref.label!r} is an {ref.kind} key of token {ref.token!r}; {usage} needs {kind} in {self.label!r}"
            )
        if (ref.cka_id, usage) not in self._sound:
            self.require_sound(ref, usage)
            self._sound.add((ref.cka_id, usage))

    def _count(self, operation: str, ref: KeyRef) -> None:
        OPERATIONS.labels(operation).inc()
        with self._uses_lock:
            self._uses[ref.cka_id] += 1

    def _run(self, work: Callable[[Session], _T], ref: KeyRef | None = None) -> _T:
        """Do `work` on a pool session; a lost session or a stale handle is worth one more try on another session."""
        self._module.check_usable()
        try:
            with self._pool.session(self._acquire_timeout) as session:
                return work(session)
        except PKCS11Error as error:
            if kind_of(error) not in {Kind.SESSION, Kind.HANDLE}:
                raise _translate(self.label, ref, error) from None
        if ref is not None:
            self._pool.forget(ref.cka_id)
        try:
            with self._pool.session(self._acquire_timeout) as session:
                return work(session)
        except PKCS11Error as error:
            raise _translate(self.label, ref, error) from None

    def _administer(self, work: Callable[[Session], _T]) -> _T:
        """Do `work` on the logged-in read-write session, one caller at a time."""
        self._module.check_usable()
        with self._login_lock:
            if self._login is None:
                raise TokenUnavailable(f"token {self.label!r} is closed")
            try:
                return work(self._login)
            except PKCS11Error as error:
                raise _translate(self.label, None, error) from None


def _says_does_not_open(error: PKCS11Error) -> bool:
    return kind_of(error) in _DOES_NOT_OPEN or isinstance(error, pkcs11.exceptions.GeneralError)


def _translate(label: str, ref: KeyRef | None, error: PKCS11Error) -> HsmError:
    """Our error for a PKCS#11 error; its class name is told, its text (a token's own words) is not."""
    name = type(error).__name__
    what = f"key {ref.label!r} of token {label!r}" if ref else f"token {label!r}"
    match kind_of(error):
        case Kind.CALLER:
            return BadInput(f"{what} cannot take this input: {name}")
        case Kind.KEY:
            return KeyMisused(f"{what} cannot be used like this: {name}")
        case Kind.MECHANISM:
            return MechanismMissing(f"{what} lacks the mechanism: {name}")
        case _:
            return TokenUnavailable(f"{what} failed: {name}")
