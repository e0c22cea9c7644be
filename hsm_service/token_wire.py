"""What goes between a token's process and its parent: msgpack arrays, one a datagram.

    request    [number, method, arguments]    `method` is a place in `METHODS`; nothing else can be called
    answer     [number, OK, result]
               [number, PART, bytes] … [number, LAST, bytes]    a result that is too long for one datagram
               [number, ERROR, [class, text, attributes]]

The first request is START, whose arguments hold the PIN; its answer says whether the token is logged in. Both ends
decode strictly by the types in the table, so neither can hand the other an object that it did not expect.
"""

from __future__ import annotations

from abc import ABC
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Final

import msgspec
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat, load_der_public_key

from hsm_service import errors
from hsm_service.capabilities import Capabilities
from hsm_service.keys import KeyAttributes, KeyKind, KeyRef, Usage
from runtime.secrets import Secret

LONGEST: Final = 128 * 1024
"""Bytes of a datagram. A request that does not fit is refused; an answer goes in parts."""
PART_BYTES: Final = LONGEST // 2
SOCKET_BUFFER: Final = 2 * 1024 * 1024
"""Asked of the kernel for each direction; it gives what net.core.wmem_max allows, at least 208 KiB."""

START: Final = 0
STOP: Final = 1
_FIRST_METHOD: Final = 2

OK: Final = 0
ERROR: Final = 1
PART: Final = 2
LAST: Final = 3


class PublicKey(ABC):  # noqa: B024  # a union that msgspec can check
    """Stands in the table for the public key of a pair; on the wire a DER SubjectPublicKeyInfo."""


PublicKey.register(rsa.RSAPublicKey)  # type: ignore[type-abstract]
PublicKey.register(ec.EllipticCurvePublicKey)  # type: ignore[type-abstract]


def _to_wire(value: Any) -> Any:
    if isinstance(value, Secret):
        return value.reveal()
    if isinstance(value, hashes.HashAlgorithm):
        return value.name
    if isinstance(value, rsa.RSAPublicKey | ec.EllipticCurvePublicKey):
        return value.public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
    if isinstance(value, memoryview | bytearray):
        return bytes(value)
    raise TypeError(f"{type(value).__name__} does not cross")


_HASHES: Final[Mapping[str, type[hashes.HashAlgorithm]]] = {
    each.name: each for each in (hashes.SHA1, hashes.SHA256, hashes.SHA384, hashes.SHA512)
}


def _from_wire(kind: type, value: Any) -> Any:
    if kind is Secret and isinstance(value, bytes):
        return Secret(value)
    if kind is hashes.HashAlgorithm and value in _HASHES:
        return _HASHES[value]()
    if kind is PublicKey and isinstance(value, bytes):
        return load_der_public_key(value)
    raise ValueError(f"no {kind.__name__}")


_encoder: Final = msgspec.msgpack.Encoder(enc_hook=_to_wire)
encode: Final = _encoder.encode
encode_into: Final = _encoder.encode_into
"""As `encode`, into a bytearray that can be wiped."""


@dataclass(frozen=True)
class Method:
    """A method of `Token` that can be called across: the types of its arguments and of its result.

    `keywords` name the last arguments, which `Token` takes by name; across they have a place. `counted` is what a call
    is counted as. `slow`: may take long, and goes to the token one at a time, so that the others never wait for it.
    """

    name: str
    number: int
    arguments: tuple[Any, ...]
    result: Any
    keywords: tuple[str, ...] = ()
    counted: str | None = None
    slow: bool = False

    @cached_property
    def decode_arguments(self) -> Any:
        """From bytes to the tuple of arguments; raises msgspec.DecodeError."""
        return msgspec.msgpack.Decoder(tuple[self.arguments], dec_hook=_from_wire).decode  # type: ignore[name-defined]

    @cached_property
    def decode_result(self) -> Any:
        """From bytes to the result; raises msgspec.DecodeError."""
        return msgspec.msgpack.Decoder(self.result, dec_hook=_from_wire).decode

    @property
    def uses_key(self) -> bool:
        """Whether the first argument is a key of the token."""
        return bool(self.arguments) and self.arguments[0] is KeyRef


def _table() -> tuple[Method, ...]:
    some_id = bytes | None
    rows: tuple[tuple[str, tuple[Any, ...], Any, Mapping[str, Any]], ...] = (
        ("sign_pss_sha256_digest", (KeyRef, bytes), bytes, {"counted": "sign"}),
        ("sign_pkcs1v15_digest", (KeyRef, bytes, hashes.HashAlgorithm), bytes, {"counted": "sign"}),
        ("sign_ecdsa_digest", (KeyRef, bytes), bytes, {"counted": "sign"}),
        ("sign_many", (KeyRef, str, list[bytes]), list[bytes], {"counted": "sign"}),
        ("prove_possession", (KeyRef, bytes), bytes, {"counted": "sign"}),
        ("unwrap_and_decrypt_gcm", (KeyRef, str, bytes, bytes, bytes, bytes), bytes, {"counted": "unwrap"}),
        ("aes_gcm_encrypt", (KeyRef, bytes, bytes), bytes, {"counted": "gcm-encrypt"}),
        ("aes_gcm_decrypt", (KeyRef, bytes, bytes), bytes, {"counted": "gcm-decrypt"}),
        ("aes_cmac", (KeyRef, bytes), bytes, {"counted": "mac"}),
        ("keyed_digest", (KeyRef, bytes), bytes, {"counted": "digest"}),
        ("des3_ecb_encrypt", (KeyRef, bytes), bytes, {"counted": "pin-block"}),
        ("aes_pin_block", (KeyRef, bytes, bytes), bytes, {"counted": "pin-block"}),
        ("retail_mac", (KeyRef, bytes), bytes, {"counted": "mac"}),
        ("check_value", (KeyRef, Usage | None), bytes, {"counted": "check-value"}),
        ("random", (int,), bytes, {}),
        (
            "generate_rsa",
            (str, int, Usage, some_id, bool),
            tuple[KeyRef, PublicKey],
            {"keywords": ("usage", "cka_id", "copyable"), "slow": True},
        ),
        (
            "generate_ec",
            (str, str, some_id, bool),
            tuple[KeyRef, PublicKey],
            {"keywords": ("cka_id", "copyable"), "slow": True},
        ),
        ("generate_aes", (str, int, Usage, some_id), KeyRef, {"keywords": ("usage", "cka_id"), "slow": True}),
        (
            "import_zone_key",
            (str, KeyKind, list[Secret], Usage, some_id),
            KeyRef,
            {"keywords": ("usage", "cka_id"), "slow": True},
        ),
        ("try_zone_key", (KeyRef, KeyKind, Usage, bytes, bytes), None, {"counted": "receive"}),
        (
            "unwrap_zone_key",
            (KeyRef, str, KeyKind, bytes, bytes, Usage, bytes),
            KeyRef,
            {"keywords": ("usage", "cka_id"), "counted": "receive", "slow": True},
        ),
        ("find", (some_id, str | None), KeyRef | None, {"keywords": ("cka_id", "label")}),
        ("keys", (), list[KeyRef], {}),
        ("attributes", (KeyRef,), KeyAttributes, {}),
        ("require_sound", (KeyRef, Usage), KeyAttributes, {}),
        ("public_key", (KeyRef,), PublicKey, {}),
        (
            "restore_pair",
            (KeyRef, str, bytes, bytes, str, bytes, bytes),
            KeyRef,
            {"counted": "restore", "slow": True},
        ),
        ("destroy", (KeyRef,), None, {"slow": True}),
        ("capabilities", (), Capabilities, {"slow": True}),
    )
    return tuple(
        Method(name, number, arguments, result, **options)
        for number, (name, arguments, result, options) in enumerate(rows, _FIRST_METHOD)
    )


METHODS: Final[Mapping[str, Method]] = {method.name: method for method in _table()}
"""Everything that can be called in a token's process, by name. Data is hashed before it crosses: only digests do."""


@dataclass(frozen=True)
class Start:
    """How a token is opened: module and configuration (absolute paths), label, PIN, sessions that work at a time."""

    module: str
    configuration: str | None
    initialisation: str | None
    label: str
    pin: Secret
    sessions: int
    parent: int
    """Process id of the parent; a child that has another one by now was orphaned and ends."""


decode_start: Final = msgspec.msgpack.Decoder(tuple[Start], dec_hook=_from_wire).decode
decode_request: Final = msgspec.msgpack.Decoder(tuple[int, int, msgspec.Raw]).decode
decode_answer: Final = msgspec.msgpack.Decoder(tuple[int, int, msgspec.Raw]).decode
decode_bytes: Final = msgspec.msgpack.Decoder(bytes).decode

_decode_error: Final = msgspec.msgpack.Decoder(tuple[str, str, tuple[str, ...]]).decode


def _concrete(base: type[errors.HsmError]) -> list[type[errors.HsmError]]:
    return [base, *(each for child in base.__subclasses__() for each in _concrete(child))]


_ERRORS: Final[Mapping[str, type[errors.HsmError]]] = {each.slug: each for each in _concrete(errors.HsmError)}


def encode_error(number: int, error: BaseException) -> bytes:
    """The answer that says what went wrong. What is not one of our errors is told by its class alone."""
    attributes: tuple[str, ...] = ()
    if isinstance(error, errors.WeakKey):
        kind, text, attributes = error.slug, error.label, error.attributes
    elif isinstance(error, errors.HsmError):
        kind, text = error.slug, str(error)
    else:
        kind = errors.TokenUnavailable.slug
        text = f"the token's process failed: {type(error).__name__}"
    return encode((number, ERROR, (kind, text, attributes)))


def decode_error(raw: bytes | msgspec.Raw) -> errors.HsmError:
    """The error of an answer, of the class it had."""
    slug, text, attributes = _decode_error(raw)
    kind = _ERRORS.get(slug, errors.TokenUnavailable)
    if kind is errors.WeakKey:
        return errors.WeakKey(text, attributes)
    if kind is errors.DecodingFailure:
        return errors.DecodingFailure()
    return kind(text)
