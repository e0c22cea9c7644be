"""The methods of a supervised token, one by one, as `Token` has them: each is a call into the token's process.

What `Token` hashes is hashed here, before it crosses: only the digest does.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import Any, Final, cast

from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, rsa

from hsm_service import encodings
from hsm_service.capabilities import Capabilities
from hsm_service.keys import KeyAttributes, KeyKind, KeyRef, Usage
from hsm_service.token_operations import DigestMechanism
from runtime.secrets import Secret


class SupervisedOperations(ABC):
    """`TokenOperations` by calls; what a call is stands in the subclass."""

    def __init__(self, label: str) -> None:
        self.label: Final = label
        self._capabilities: Capabilities | None = None

    @abstractmethod
    def _call(self, method: str, *arguments: Any) -> Any:
        """Have the token's process do a method of `token_wire.METHODS`; raises HsmError."""

    @property
    def capabilities(self) -> Capabilities:
        """What the token can do, found out once; the first reader waits for it."""
        if self._capabilities is None:
            self._capabilities = cast(Capabilities, self._call("capabilities"))
        return self._capabilities

    # -- signatures --------------------------------------------------------------------------------------------------

    def sign_pss_sha256(self, ref: KeyRef, data: bytes) -> bytes:
        """See `Token.sign_pss_sha256`."""
        return self.sign_pss_sha256_digest(ref, encodings.digest(data, hashes.SHA256()))

    def sign_pss_sha256_digest(self, ref: KeyRef, digest: bytes) -> bytes:
        """See `Token.sign_pss_sha256_digest`."""
        return cast(bytes, self._call("sign_pss_sha256_digest", ref, digest))

    def sign_pkcs1v15(self, ref: KeyRef, data: bytes, algorithm: hashes.HashAlgorithm | None = None) -> bytes:
        """See `Token.sign_pkcs1v15`."""
        algorithm = algorithm or hashes.SHA256()
        return self.sign_pkcs1v15_digest(ref, encodings.digest(data, algorithm), algorithm)

    def sign_pkcs1v15_digest(self, ref: KeyRef, digest: bytes, algorithm: hashes.HashAlgorithm) -> bytes:
        """See `Token.sign_pkcs1v15_digest`."""
        return cast(bytes, self._call("sign_pkcs1v15_digest", ref, digest, algorithm))

    def sign_ecdsa(self, ref: KeyRef, data: bytes, algorithm: hashes.HashAlgorithm | None = None) -> bytes:
        """See `Token.sign_ecdsa`."""
        return self.sign_ecdsa_digest(ref, encodings.digest(data, algorithm or hashes.SHA256()))

    def sign_ecdsa_digest(self, ref: KeyRef, digest: bytes) -> bytes:
        """See `Token.sign_ecdsa_digest`."""
        return cast(bytes, self._call("sign_ecdsa_digest", ref, digest))

    def sign_many(self, ref: KeyRef, mechanism: DigestMechanism, digests: Sequence[bytes]) -> list[bytes]:
        """See `Token.sign_many`; all processors work on the batch."""
        return cast(list[bytes], self._call("sign_many", ref, mechanism, list(digests)))

    def prove_possession(self, ref: KeyRef, data: bytes) -> bytes:
        """See `Token.prove_possession`."""
        return cast(bytes, self._call("prove_possession", ref, data))

    # -- opening, and secret keys --------------------------------------------------------------------------------------

    def unwrap_and_decrypt_gcm(
        self, ref: KeyRef, suite: str, encrypted_key: bytes, nonce: bytes, ciphertext: bytes, tag: bytes
    ) -> bytes:
        """See `Token.unwrap_and_decrypt_gcm`."""
        return cast(bytes, self._call("unwrap_and_decrypt_gcm", ref, suite, encrypted_key, nonce, ciphertext, tag))

    def aes_gcm_encrypt(self, ref: KeyRef, plaintext: bytes, aad: bytes) -> bytes:
        """See `Token.aes_gcm_encrypt`."""
        return cast(bytes, self._call("aes_gcm_encrypt", ref, plaintext, aad))

    def aes_gcm_decrypt(self, ref: KeyRef, sealed: bytes, aad: bytes) -> bytes:
        """See `Token.aes_gcm_decrypt`."""
        return cast(bytes, self._call("aes_gcm_decrypt", ref, sealed, aad))

    def aes_cmac(self, ref: KeyRef, data: bytes) -> bytes:
        """See `Token.aes_cmac`."""
        return cast(bytes, self._call("aes_cmac", ref, data))

    def keyed_digest(self, ref: KeyRef, data: bytes) -> bytes:
        """See `Token.keyed_digest`."""
        return cast(bytes, self._call("keyed_digest", ref, data))

    def des3_ecb_encrypt(self, ref: KeyRef, block: bytes) -> bytes:
        """See `Token.des3_ecb_encrypt`."""
        return cast(bytes, self._call("des3_ecb_encrypt", ref, block))

    def aes_pin_block(self, ref: KeyRef, pin_field: bytes, pan_field: bytes) -> bytes:
        """See `Token.aes_pin_block`."""
        return cast(bytes, self._call("aes_pin_block", ref, pin_field, pan_field))

    def retail_mac(self, ref: KeyRef, blocks: bytes) -> bytes:
        """See `Token.retail_mac`."""
        return cast(bytes, self._call("retail_mac", ref, blocks))

    def check_value(self, ref: KeyRef, usage: Usage | None = None) -> bytes:
        """See `Token.check_value`."""
        return cast(bytes, self._call("check_value", ref, usage))

    def random(self, length: int) -> bytes:
        """See `Token.random`."""
        return cast(bytes, self._call("random", length))

    # -- keys ----------------------------------------------------------------------------------------------------------

    def generate_rsa(
        self,
        label: str,
        bits: int = 3072,
        *,
        usage: Usage = Usage.SIGN,
        cka_id: bytes | None = None,
        copyable: bool = False,
    ) -> tuple[KeyRef, rsa.RSAPublicKey]:
        """See `Token.generate_rsa`."""
        made = self._call("generate_rsa", label, bits, usage, cka_id, copyable)
        return cast("tuple[KeyRef, rsa.RSAPublicKey]", made)

    def generate_ec(
        self, label: str, curve: str = "P-256", *, cka_id: bytes | None = None, copyable: bool = False
    ) -> tuple[KeyRef, ec.EllipticCurvePublicKey]:
        """See `Token.generate_ec`."""
        made = self._call("generate_ec", label, curve, cka_id, copyable)
        return cast("tuple[KeyRef, ec.EllipticCurvePublicKey]", made)

    def generate_aes(
        self, label: str, bits: int = 256, *, usage: Usage = Usage.SEAL, cka_id: bytes | None = None
    ) -> KeyRef:
        """See `Token.generate_aes`."""
        return cast(KeyRef, self._call("generate_aes", label, bits, usage, cka_id))

    def import_zone_key(
        self, label: str, kind: KeyKind, components: Sequence[Secret], *, usage: Usage, cka_id: bytes | None = None
    ) -> KeyRef:
        """See `Token.import_zone_key`."""
        return cast(KeyRef, self._call("import_zone_key", label, kind, list(components), usage, cka_id))

    def try_zone_key(self, master: KeyRef, kind: KeyKind, usage: Usage, wrapped: bytes, check_value: bytes) -> None:
        """See `Token.try_zone_key`."""
        self._call("try_zone_key", master, kind, usage, wrapped, check_value)

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
        """See `Token.unwrap_zone_key`."""
        made = self._call("unwrap_zone_key", master, label, kind, wrapped, check_value, usage, cka_id)
        return cast(KeyRef, made)

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
        """See `Token.restore_pair`."""
        made = self._call("restore_pair", recipient, label, cka_id, spki, suite, encrypted_key, wrapped)
        return cast(KeyRef, made)

    def find(self, *, cka_id: bytes | None = None, label: str | None = None) -> KeyRef | None:
        """See `Token.find`."""
        return cast("KeyRef | None", self._call("find", cka_id, label))

    def keys(self) -> list[KeyRef]:
        """See `Token.keys`."""
        return cast(list[KeyRef], self._call("keys"))

    def attributes(self, ref: KeyRef) -> KeyAttributes:
        """See `Token.attributes`."""
        return cast(KeyAttributes, self._call("attributes", ref))

    def require_sound(self, ref: KeyRef, usage: Usage) -> KeyAttributes:
        """See `Token.require_sound`."""
        return cast(KeyAttributes, self._call("require_sound", ref, usage))

    def public_key(self, ref: KeyRef) -> rsa.RSAPublicKey | ec.EllipticCurvePublicKey:
        """See `Token.public_key`."""
        return cast("rsa.RSAPublicKey | ec.EllipticCurvePublicKey", self._call("public_key", ref))

    def destroy(self, ref: KeyRef) -> None:
        """See `Token.destroy`."""
        self._call("destroy", ref)
