"""A PKCS#11 token, logged in, and the operations this product does in it.

Nothing here decides who may do what: that is the registry's and typed signing's part. What is decided here cannot be
switched off above: a key that the token protects less than required is refused at its first use, private keys leave
only as references, content keys never enter host memory, and a sealed order that does not open gives one error whatever
the cause.
"""

from __future__ import annotations

import contextlib
import hmac
from collections.abc import Callable, Sequence
from functools import cached_property, partial
from typing import Any, Final

from cryptography.hazmat.primitives import hashes
from pkcs11 import Attribute, ObjectClass
from pkcs11.exceptions import FunctionFailed, GeneralError, PKCS11Error

from hsm_service import encodings, mechanisms, probe, restored_keys
from hsm_service.batches import batch
from hsm_service.capabilities import Ability, Capabilities
from hsm_service.errors import BadInput, DecodingFailure, KeyExists, MechanismMissing, WrongCheckValue
from hsm_service.key_store import KeyStore
from hsm_service.keys import (
    PKCS11_TYPE,
    TDES,
    ZONE_KEY_SIZES,
    ZONE_WORKING_KEYS,
    KeyAttributes,
    KeyKind,
    KeyRef,
    Protection,
    Usage,
    chain_of,
    protected_template,
)
from hsm_service.logged_in import translate
from hsm_service.mechanisms import (
    AES_BLOCK_BYTES,
    BLOCK_BYTES,
    GCM_NONCE_BYTES,
    GCM_TAG_BYTES,
    OAEP_HASHES,
    GcmParameters,
    Opening,
    ZoneUnwrap,
)
from hsm_service.openssl_errors import none_left
from hsm_service.return_codes import Kind, kind_of
from hsm_service.sessions import Session

__all__ = ["KeyAttributes", "KeyKind", "KeyRef", "Token", "Usage"]

_CONTENT_KEY_BYTES: Final = 32
_WRAPPING_BYTES: Final = 8
"""What AES key wrap adds."""
_WRAPPED_BYTES: Final = 24
"""A key of 16 bytes under it."""
_WRAPPED_PAIR_BYTES: Final = 24 + 32
_CHECK_BYTES: Final = 3

# What a token may answer when a key or a ciphertext is wrong. To bad OAEP padding SoftHSM2 says GeneralError and
# openCryptoki FunctionFailed, SoftHSM2 also to a bad GCM tag. A real failure of the token can hide behind the same
# words; the caller then hears that decoding failed.
_DOES_NOT_OPEN: Final = frozenset({Kind.CALLER, Kind.KEY, Kind.MECHANISM})
_AMBIGUOUS: Final = (GeneralError, FunctionFailed)


class Token(KeyStore):
    """One logged-in token and what is done in it. Safe for threads; use `open`, and `close` (or `with`) when done."""

    @cached_property
    def capabilities(self) -> Capabilities:
        """What this token really can do, tried with throw-away keys (some 0.3 s, once a process and token)."""
        return self._module.capabilities_of(self._token, self._probe)

    def _probe(self) -> Capabilities:
        self._module.check_usable()
        try:
            with none_left(), self._token.open(rw=True) as session:
                return probe.probe(session)
        except PKCS11Error as error:
            raise translate(self.label, None, error) from None

    def restore_pair(
        self,
        recipient: KeyRef,
        label: str,
        cka_id: bytes,
        spki: bytes,
        suite: str,
        encrypted_key: bytes,
        wrapped: bytes,
    ) -> KeyRef:
        """Take in the signing key pair `spki` (DER) that was wrapped to the RESTORE key `recipient` of this token.

        `encrypted_key` is an AES-256 key, sealed by `suite`; `wrapped` the PKCS#8 private key under it (RFC 5649). The
        key can do nothing but sign and cannot leave. Raises DecodingFailure if it does not unwrap, KeyMisused if it is
        another key than `spki`, KeyExists, MechanismMissing.
        """
        self._require_kind(recipient, KeyKind.RSA, Usage.RESTORE)
        ref = restored_keys.reference(self.label, label, cka_id, spki)
        unwrap = mechanisms.named(mechanisms.KWP, self._variant(Ability.RESTORE))
        if self.find(cka_id=cka_id) is not None:
            raise KeyExists(f"token {self.label!r} already holds a key with id {cka_id.hex()}")
        self._count("restore", recipient)
        self._administer(
            lambda session: restored_keys.take_in(
                session,
                recipient,
                ref,
                spki,
                suite=suite,
                encrypted_key=encrypted_key,
                wrapped=wrapped,
                unwrap=unwrap,
            )
        )
        self._check_new(ref, Usage.SIGN)
        return ref

    # -- signatures --------------------------------------------------------------------------------------------------

    def sign_pss_sha256(self, ref: KeyRef, data: bytes) -> bytes:
        """RSASSA-PSS over `data` with SHA-256, MGF1-SHA-256 and a salt of 32 bytes (RFC 8017 8.1)."""
        return self.sign_pss_sha256_digest(ref, encodings.digest(data, hashes.SHA256()))

    def sign_pss_sha256_digest(self, ref: KeyRef, digest: bytes) -> bytes:
        """As `sign_pss_sha256`, for a SHA-256 digest."""
        return self._sign(ref, KeyKind.RSA, digest, mechanisms.sign_pss)

    def sign_pss_sha512_digest(self, ref: KeyRef, digest: bytes) -> bytes:
        """RSASSA-PSS over a SHA-512 digest, MGF1-SHA-512, a salt of 64 bytes: for HTTP messages (RFC 9421 3.3.1)."""
        return self._sign(ref, KeyKind.RSA, digest, mechanisms.sign_pss_sha512)

    def sign_pkcs1v15(self, ref: KeyRef, data: bytes, algorithm: hashes.HashAlgorithm | None = None) -> bytes:
        """RSASSA-PKCS1-v1_5 over `data` (RFC 8017 8.2) with SHA-256 (default), SHA-384 or SHA-512."""
        algorithm = algorithm or hashes.SHA256()
        return self.sign_pkcs1v15_digest(ref, encodings.digest(data, algorithm), algorithm)

    def sign_pkcs1v15_digest(self, ref: KeyRef, digest: bytes, algorithm: hashes.HashAlgorithm) -> bytes:
        """As `sign_pkcs1v15`, for a digest made with `algorithm`."""
        return self._sign(ref, KeyKind.RSA, encodings.digest_info(digest, algorithm), mechanisms.sign_pkcs1v15)

    def prove_possession(self, ref: KeyRef, data: bytes) -> bytes:
        """RSASSA-PKCS1-v1_5 with SHA-256 by an OPEN key, over the CertificationRequestInfo of its own request."""
        info = encodings.digest_info(encodings.digest(data, hashes.SHA256()), hashes.SHA256())
        return self._sign(ref, KeyKind.RSA, info, mechanisms.sign_pkcs1v15, usage=Usage.OPEN)

    def sign_ecdsa(self, ref: KeyRef, data: bytes, algorithm: hashes.HashAlgorithm | None = None) -> bytes:
        """ECDSA over `data` with SHA-256 (default), SHA-384 or SHA-512; DER Ecdsa-Sig-Value (RFC 3279 2.2.3)."""
        return self.sign_ecdsa_digest(ref, encodings.digest(data, algorithm or hashes.SHA256()))

    def sign_ecdsa_digest(self, ref: KeyRef, digest: bytes) -> bytes:
        """As `sign_ecdsa`, for a digest."""
        return encodings.ecdsa_signature(self._sign(ref, KeyKind.EC, digest, mechanisms.sign_ecdsa))

    def sign_many(self, ref: KeyRef, mechanism: str, digests: Sequence[bytes]) -> list[bytes]:
        """The signatures over `digests`, in their order, by a mechanism of `batches.BATCHES`; raises BadInput."""
        row = batch(mechanism)
        self._require_kind(ref, row.kind, Usage.SIGN)
        prepared = [row.prepare(each) for each in digests]

        def sign(session: Session) -> list[bytes]:
            key = session.key(ref)
            self._count("sign", ref, len(prepared))
            return [row.finish(row.operation(key, each)) for each in prepared]

        return self._run(sign, ref)

    # -- opening what was sealed to a key ------------------------------------------------------------------------------

    def unwrap_and_decrypt_gcm(
        self, ref: KeyRef, suite: str, encrypted_key: bytes, nonce: bytes, ciphertext: bytes, tag: bytes
    ) -> bytes:
        """Open AES-256-GCM content whose key was sealed to an RSA key by RSAES-OAEP; returns the plaintext.

        `suite` is "oaep-sha1" or "oaep-sha256" (MGF1 with the same hash, empty label), `nonce` 12 bytes, `tag` 16. The
        content key is unwrapped into the token as a non-extractable session object that can only decrypt, used once
        and destroyed. Raises MechanismMissing if the token cannot do the suite, DecodingFailure for everything that
        depends on the sealed bytes: after a failed unwrap the copy of a decoy key decrypts in its place, so that bad
        padding (Manger's oracle), another key length and a bad tag look alike and take equally long.
        """
        if suite not in OAEP_HASHES:
            raise MechanismMissing(f"no sealing suite {suite!r}; there are {sorted(OAEP_HASHES)}")
        opening = mechanisms.named(mechanisms.OPENING, self._variant(Ability(suite)))
        if len(nonce) != GCM_NONCE_BYTES or len(tag) != GCM_TAG_BYTES:
            raise DecodingFailure
        self._require_kind(ref, KeyKind.RSA, Usage.OPEN)

        def open_it(session: Session) -> bytes:
            private, decoy = session.key(ref), session.decoy(opening.template)
            self._count("unwrap", ref)
            content_key = _unwrapped(opening, private, suite, encrypted_key)
            genuine = content_key is not None
            if content_key is None:
                content_key = decoy.copy({})
            plaintext = None
            try:
                plaintext = opening.decrypt(content_key, nonce, ciphertext + tag)
            except PKCS11Error as error:
                if not _says_does_not_open(error):
                    raise
            finally:
                content_key.destroy()
            if not genuine or plaintext is None:
                raise DecodingFailure
            return plaintext

        return self._run(open_it, ref)

    # -- secret keys ---------------------------------------------------------------------------------------------------

    def aes_gcm_encrypt(self, ref: KeyRef, plaintext: bytes, aad: bytes) -> bytes:
        """Seal `plaintext` with AES-GCM under a SEAL key: nonce (12 bytes, from the token) ‖ ciphertext ‖ tag (16)."""
        self._require_kind(ref, KeyKind.AES, Usage.SEAL)
        parameters = self._gcm_parameters()
        nonce = self.random(GCM_NONCE_BYTES)

        def seal(session: Session) -> bytes:
            key = session.key(ref)
            self._count("gcm-encrypt", ref)
            return nonce + mechanisms.gcm_encrypt(key, parameters(nonce, aad), plaintext)

        return self._run(seal, ref)

    def aes_gcm_decrypt(self, ref: KeyRef, sealed: bytes, aad: bytes) -> bytes:
        """Open what `aes_gcm_encrypt` sealed; raises DecodingFailure if key, bytes or `aad` differ."""
        self._require_kind(ref, KeyKind.AES, Usage.SEAL)
        parameters = self._gcm_parameters()
        nonce, body = sealed[:GCM_NONCE_BYTES], sealed[GCM_NONCE_BYTES:]
        if len(body) < GCM_TAG_BYTES:
            raise DecodingFailure

        def unseal(session: Session) -> bytes:
            key = session.key(ref)
            self._count("gcm-decrypt", ref)
            try:
                return mechanisms.gcm_decrypt(key, parameters(nonce, aad), body)
            except PKCS11Error as error:
                if not _says_does_not_open(error):
                    raise
                raise DecodingFailure from None

        return self._run(unseal, ref)

    def aes_cmac(self, ref: KeyRef, data: bytes) -> bytes:
        """AES-CMAC over `data` (RFC 4493, NIST SP 800-38B): 16 bytes; the dialect truncates."""
        self._require_kind(ref, KeyKind.AES, Usage.MAC)
        cmac = mechanisms.named(mechanisms.CMAC, self._variant(Ability.AES_CMAC))

        def mac(session: Session) -> bytes:
            key = session.key(ref)
            self._count("mac", ref)
            return cmac(key, data)

        return self._run(mac, ref)

    def keyed_digest(self, ref: KeyRef, data: bytes) -> bytes:
        """A digest of `data` that nobody can compute without the key: AES-CMAC under a DIGEST key, 16 bytes."""
        self._require_kind(ref, KeyKind.AES, Usage.DIGEST)
        cmac = mechanisms.named(mechanisms.CMAC, self._variant(Ability.AES_CMAC))

        def digest(session: Session) -> bytes:
            key = session.key(ref)
            self._count("digest", ref)
            return cmac(key, data)

        return self._run(digest, ref)

    def try_zone_key(self, master: KeyRef, kind: KeyKind, usage: Usage, wrapped: bytes, check_value: bytes) -> None:
        """Unwrap a zone key as a session object, compare its check value (see `check_value`), destroy it.

        `wrapped` was made under the RECEIVE key `master` by AES key wrap (RFC 3394) and is 8 bytes longer than the key;
        of one for RETAIL_MAC both parts come, each wrapped: 24 and 32 bytes. Raises WrongCheckValue if it does not
        unwrap or is another key, BadInput, MechanismMissing.
        """
        parts = _parts(kind, usage, wrapped)
        self._require_kind(master, KeyKind.AES, Usage.RECEIVE)
        unwrap, compute = self._zone_unwrap(parts), self._check_value_of(kind, usage)
        template = protected_template(ObjectClass.SECRET_KEY, usage, store=False)

        def attempt(session: Session) -> bytes:
            key = session.key(master)
            self._count("receive", master)
            with contextlib.ExitStack() as made:
                objects = []
                for of_kind, part in parts:
                    objects.append(_unwrapped_zone_key(unwrap, key, of_kind, part, template))
                    made.callback(objects[-1].destroy)
                return compute(*objects)

        if not hmac.compare_digest(self._run(attempt, master), check_value):
            raise WrongCheckValue("the zone key that came has another check value than was said")

    def unwrap_zone_key(
        self,
        master: KeyRef,
        label: str,
        kind: KeyKind,
        wrapped: bytes,
        check_value: bytes,
        *,
        usage: Usage,
        cka_id: bytes,
    ) -> KeyRef:
        """Take in a zone key if it is the one that `check_value` says (`try_zone_key`); nothing is stored before.

        `kind` and `usage` as in `import_zone_key`. Raises also KeyExists.
        """
        parts = _parts(kind, usage, wrapped)
        ref = self._new_ref(label, kind, cka_id, Protection.BROUGHT_IN)
        self.try_zone_key(master, kind, usage, wrapped, check_value)
        unwrap = self._zone_unwrap(parts)
        template = protected_template(ObjectClass.SECRET_KEY, usage, store=True)
        named = {**template, Attribute.LABEL: label}
        self._count("receive", master)

        def take_in(session: Session) -> None:
            self._clear(session, ref)
            for of_kind, part in reversed(parts):  # where the first part is, both are
                own = ref if of_kind is kind else chain_of(ref)
                _unwrapped_zone_key(unwrap, session.key(master), of_kind, part, {**named, Attribute.ID: own.cka_id})

        self._administer(take_in)
        self._check_new(ref, usage)
        return ref

    def _zone_unwrap(self, parts: Sequence[tuple[KeyKind, bytes]]) -> ZoneUnwrap:
        long = any(len(part) > _WRAPPED_BYTES for _kind, part in parts)
        ability = Ability.ZONE_UNWRAP_LONG if long else Ability.ZONE_UNWRAP
        return mechanisms.named(mechanisms.ZONE_KEY_WRAP, self._variant(ability))

    def _check_value_of(self, kind: KeyKind, usage: Usage) -> Callable[..., bytes]:
        """What computes the check value of a key object of `kind` and `usage`, or of its two parts."""
        if usage is Usage.RETAIL_MAC:
            mac = mechanisms.named(mechanisms.RETAIL_MAC, self._variant(Ability.RETAIL_MAC))
            return lambda key, chain: b"".join(mac(key, chain, bytes(size))[:_CHECK_BYTES] for size in (8, 16))
        if kind in TDES:
            cipher = self._tdes_block(kind)
            return lambda key: cipher(key, bytes(BLOCK_BYTES))[:_CHECK_BYTES]
        if usage is Usage.PIN_BLOCK:
            block = mechanisms.named(mechanisms.AES_BLOCK, self._variant(Ability.AES_BLOCK))
            return lambda key: encodings.cmac_of_zeros(partial(block, key))[:_CHECK_BYTES]
        cmac = mechanisms.named(mechanisms.CMAC, self._variant(Ability.AES_CMAC))
        return lambda key: cmac(key, bytes(16))[:_CHECK_BYTES]

    def _tdes_block(self, kind: KeyKind) -> Callable[[Any, bytes], bytes]:
        ability = Ability.DES2_BLOCK if kind is KeyKind.DES2 else Ability.DES3_BLOCK
        return mechanisms.named(mechanisms.DES2_BLOCK, self._variant(ability))

    def des3_ecb_encrypt(self, ref: KeyRef, block: bytes) -> bytes:
        """Encrypt one clear PIN block of 8 bytes under the zone PIN key: TDES, one block (ISO 9564-1 9.3)."""
        kind = ref.kind if ref.kind in TDES else KeyKind.DES2
        self._require_kind(ref, kind, Usage.PIN_BLOCK)
        if len(block) != BLOCK_BYTES:
            raise BadInput(f"a PIN block has {BLOCK_BYTES} bytes, not {len(block)}")
        cipher = self._tdes_block(kind)

        def encrypt(session: Session) -> bytes:
            key = session.key(ref)
            self._count("pin-block", ref)
            return cipher(key, block)

        return self._run(encrypt, ref)

    def aes_pin_block(self, ref: KeyRef, pin_field: bytes, pan_field: bytes) -> bytes:
        """Encrypt a PIN block of format 4 under the zone PIN key: E(E(PIN field) ⊕ PAN field) (ISO 9564-1 9.4.2.3).

        Both fields and the block have 16 bytes. What stands between the two encryptions is in this process alone.
        """
        self._require_kind(ref, KeyKind.AES, Usage.PIN_BLOCK)
        if len(pin_field) != AES_BLOCK_BYTES or len(pan_field) != AES_BLOCK_BYTES:
            raise BadInput(f"the fields of a PIN block of format 4 have {AES_BLOCK_BYTES} bytes")
        cipher = mechanisms.named(mechanisms.AES_BLOCK, self._variant(Ability.AES_BLOCK))

        def encrypt(session: Session) -> bytes:
            key = session.key(ref)
            self._count("pin-block", ref)
            first = cipher(key, pin_field)
            return cipher(key, bytes(a ^ b for a, b in zip(first, pan_field, strict=True)))

        return self._run(encrypt, ref)

    def retail_mac(self, ref: KeyRef, blocks: bytes) -> bytes:
        """The MAC of ANSI X9.19 (ISO/IEC 9797-1 algorithm 3), 8 bytes, over data that is padded to whole blocks of 8.

        The values between the blocks are in this process alone; no part of the key is outside the token.
        """
        self._require_kind(ref, KeyKind.DES2, Usage.RETAIL_MAC)
        if not blocks or len(blocks) % BLOCK_BYTES:
            raise BadInput(f"an X9.19 MAC is made over whole blocks of {BLOCK_BYTES} bytes")
        compute = mechanisms.named(mechanisms.RETAIL_MAC, self._variant(Ability.RETAIL_MAC))
        second = chain_of(ref)

        def mac(session: Session) -> bytes:
            key, chain = session.key(ref), session.key(second)
            self._count("mac", ref)
            return compute(key, chain, blocks)

        return self._run(mac, ref)

    def check_value(self, ref: KeyRef, usage: Usage | None = None) -> bytes:
        """The check value of a zone key, by which two parties see that they hold the same key: 3 bytes, or 6.

        The first 3 bytes of: TDES, the encryption of a zero block (ANSI X9.24-1 A.3); AES, the CMAC of a zero block
        (ANSI X9.24-1:2017 Annex A). For an X9.19 key, 3 more: of the MAC of two zero blocks, which shows that its
        second part is of the same key. Without `usage` TDES is taken as for PIN blocks, AES as for MACs.
        """
        usage = usage or (Usage.PIN_BLOCK if ref.kind in TDES else Usage.MAC)
        self._require_kind(ref, ref.kind, usage)
        compute = self._check_value_of(ref.kind, usage)

        def check(session: Session) -> bytes:
            objects = [session.key(ref)]
            if usage is Usage.RETAIL_MAC:
                objects.append(session.key(chain_of(ref)))
            self._count("check-value", ref)
            return compute(*objects)

        return self._run(check, ref)

    def _sign(
        self,
        ref: KeyRef,
        kind: KeyKind,
        data: bytes,
        operation: Callable[[Any, bytes], bytes],
        *,
        usage: Usage = Usage.SIGN,
    ) -> bytes:
        self._require_kind(ref, kind, usage)

        def sign(session: Session) -> bytes:
            key = session.key(ref)
            self._count("sign", ref)
            return operation(key, data)

        return self._run(sign, ref)

    def _variant(self, ability: Ability) -> str:
        """The way in which the probe saw this token do it; raises MechanismMissing if it saw none."""
        finding = self.capabilities[ability]
        if not finding.ok:
            raise MechanismMissing(f"token {self.label!r} cannot do {ability.value}: {finding.reason}")
        return finding.variant

    def _gcm_parameters(self) -> GcmParameters:
        return mechanisms.named(mechanisms.GCM, self._variant(Ability.AES_GCM))


def _unwrapped(opening: Opening, private: Any, suite: str, encrypted_key: bytes) -> Any:
    """The content key as a session object, or None if no AES-256 key comes out."""
    try:
        key = opening.unwrap(private, suite, encrypted_key)
    except PKCS11Error as error:
        if not _says_does_not_open(error):
            raise
        return None
    # SoftHSM2 leaves CKA_VALUE_LEN of an unwrapped key at 0. A shorter key that thus goes unseen weakens only the order
    # of the sender who chose it.
    if key[Attribute.VALUE_LEN] not in {0, _CONTENT_KEY_BYTES}:
        key.destroy()
        return None
    return key


def _parts(kind: KeyKind, usage: Usage, wrapped: bytes) -> list[tuple[KeyKind, bytes]]:
    """The wrapped keys in what came over the line, by their kinds; raises BadInput."""
    if (kind, usage) not in ZONE_WORKING_KEYS:
        raise BadInput(f"a zone key that comes over the line is not {kind} for {usage}")
    if usage is Usage.RETAIL_MAC and len(wrapped) == _WRAPPED_PAIR_BYTES:
        return [(kind, wrapped[:_WRAPPED_BYTES]), (KeyKind.DES3, wrapped[_WRAPPED_BYTES:])]
    if usage is Usage.RETAIL_MAC or len(wrapped) - _WRAPPING_BYTES not in ZONE_KEY_SIZES[kind]:
        raise BadInput(f"a zone key of {kind} for {usage} does not come in {len(wrapped)} bytes")
    return [(kind, wrapped)]


def _unwrapped_zone_key(
    unwrap: ZoneUnwrap, master: Any, kind: KeyKind, wrapped: bytes, template: dict[Attribute, Any]
) -> Any:
    try:
        return unwrap(master, PKCS11_TYPE[kind], wrapped, template)
    except PKCS11Error as error:
        if not _says_does_not_open(error):
            raise
        raise WrongCheckValue("the zone key that came does not unwrap") from None


def _says_does_not_open(error: PKCS11Error) -> bool:
    return kind_of(error) in _DOES_NOT_OPEN or isinstance(error, _AMBIGUOUS)
