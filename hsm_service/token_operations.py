"""What can be asked of a token, open in this process (`tokens.Token`) or in one of its own (`supervised`).

Services keep each token in a process of its own: a module that crashes or hangs takes nothing else with it, and no PIN
is in the memory of a process that talks to the network. Ceremonies and most tests open it in place.

Every method is safe for threads and raises `hsm_service.errors.HsmError`; what each does stands at `Token`.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal, Protocol

from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, rsa

from hsm_service.capabilities import Capabilities
from hsm_service.keys import KeyAttributes, KeyKind, KeyRef, Usage
from runtime.secrets import Secret

DigestMechanism = Literal["pss-sha256", "pkcs1v15-sha256", "pkcs1v15-sha384", "pkcs1v15-sha512", "ecdsa"]
"""How `sign_many` signs digests."""


class TokenOperations(Protocol):
    """A token that is, or will be again, logged in."""

    @property
    def label(self) -> str: ...

    @property
    def capabilities(self) -> Capabilities: ...

    # -- signatures --------------------------------------------------------------------------------------------------

    def sign_pss_sha256(self, ref: KeyRef, data: bytes) -> bytes: ...

    def sign_pss_sha256_digest(self, ref: KeyRef, digest: bytes) -> bytes: ...

    def sign_pkcs1v15(self, ref: KeyRef, data: bytes, algorithm: hashes.HashAlgorithm | None = None) -> bytes: ...

    def sign_pkcs1v15_digest(self, ref: KeyRef, digest: bytes, algorithm: hashes.HashAlgorithm) -> bytes: ...

    def sign_ecdsa(self, ref: KeyRef, data: bytes, algorithm: hashes.HashAlgorithm | None = None) -> bytes: ...

    def sign_ecdsa_digest(self, ref: KeyRef, digest: bytes) -> bytes: ...

    def sign_many(self, ref: KeyRef, mechanism: DigestMechanism, digests: Sequence[bytes]) -> list[bytes]: ...

    def prove_possession(self, ref: KeyRef, data: bytes) -> bytes: ...

    # -- opening, and secret keys --------------------------------------------------------------------------------------

    def unwrap_and_decrypt_gcm(
        self, ref: KeyRef, suite: str, encrypted_key: bytes, nonce: bytes, ciphertext: bytes, tag: bytes
    ) -> bytes: ...

    def aes_gcm_encrypt(self, ref: KeyRef, plaintext: bytes, aad: bytes) -> bytes: ...

    def aes_gcm_decrypt(self, ref: KeyRef, sealed: bytes, aad: bytes) -> bytes: ...

    def aes_cmac(self, ref: KeyRef, data: bytes) -> bytes: ...

    def keyed_digest(self, ref: KeyRef, data: bytes) -> bytes: ...

    def des3_ecb_encrypt(self, ref: KeyRef, block: bytes) -> bytes: ...

    def aes_pin_block(self, ref: KeyRef, pin_field: bytes, pan_field: bytes) -> bytes: ...

    def retail_mac(self, ref: KeyRef, blocks: bytes) -> bytes: ...

    def check_value(self, ref: KeyRef, usage: Usage | None = None) -> bytes: ...

    def random(self, length: int) -> bytes: ...

    # -- keys ----------------------------------------------------------------------------------------------------------

    def generate_rsa(
        self,
        label: str,
        bits: int = 3072,
        *,
        usage: Usage = Usage.SIGN,
        cka_id: bytes | None = None,
        copyable: bool = False,
    ) -> tuple[KeyRef, rsa.RSAPublicKey]: ...

    def generate_ec(
        self, label: str, curve: str = "P-256", *, cka_id: bytes | None = None, copyable: bool = False
    ) -> tuple[KeyRef, ec.EllipticCurvePublicKey]: ...

    def generate_aes(
        self, label: str, bits: int = 256, *, usage: Usage = Usage.SEAL, cka_id: bytes | None = None
    ) -> KeyRef: ...

    def import_zone_key(
        self, label: str, kind: KeyKind, components: Sequence[Secret], *, usage: Usage, cka_id: bytes | None = None
    ) -> KeyRef: ...

    def try_zone_key(self, master: KeyRef, kind: KeyKind, usage: Usage, wrapped: bytes, check_value: bytes) -> None: ...

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
    ) -> KeyRef: ...

    def restore_pair(
        self,
        recipient: KeyRef,
        label: str,
        cka_id: bytes,
        spki: bytes,
        suite: str,
        encrypted_key: bytes,
        wrapped: bytes,
    ) -> KeyRef: ...

    def find(self, *, cka_id: bytes | None = None, label: str | None = None) -> KeyRef | None: ...

    def keys(self) -> list[KeyRef]: ...

    def attributes(self, ref: KeyRef) -> KeyAttributes: ...

    def require_sound(self, ref: KeyRef, usage: Usage) -> KeyAttributes: ...

    def public_key(self, ref: KeyRef) -> rsa.RSAPublicKey | ec.EllipticCurvePublicKey: ...

    def destroy(self, ref: KeyRef) -> None: ...

    # -- the token itself ----------------------------------------------------------------------------------------------

    def uses(self, ref: KeyRef) -> int:
        """How often this object asked the token for an operation with the key; lost answers count too."""
        ...

    def close(self, timeout: float = 5.0) -> None: ...
