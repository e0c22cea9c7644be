"""Wrapping a key out of its token: a process of its own, because it needs the security officer's login.

    python -P -m hsm_service.backup_process        the request on standard input, the answer on standard output

A key that can be backed up has WRAP_WITH_TRUSTED: the token wraps it only under a key with CKA_TRUSTED, and nobody but
the security officer can set that. Login belongs to the process (PKCS#11 v2.40 2.6.7), and a process that is logged in
as user cannot log in as security officer. So this one does, makes an AES-256 key in the memory of the token that is
trusted and can only wrap, logs out, logs in as user, and wraps: the AES key to the recipient's RSA key (RSAES-OAEP),
the private key under the AES key (AES-KWP). When it ends, the AES key is gone. An HSM keeps both keys to itself; with
SoftHSM2, a library, what is in the token is in the memory of this process, and of no other.

The PINs come through the pipe, each is tried once.
"""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Final

import msgspec
import pkcs11
from cryptography.hazmat.primitives.asymmetric import rsa
from cryptography.hazmat.primitives.serialization import load_der_public_key
from pkcs11 import MGF, Attribute, KeyType, Mechanism, ObjectClass
from pkcs11.exceptions import PKCS11Error

from hsm_service.errors import HsmError, KeyMisused, MechanismMissing, PinRefused, TokenUnavailable
from hsm_service.pkcs11_module import load_module
from hsm_service.return_codes import Kind, kind_of
from runtime.secrets import Secret

TIME_LIMIT: Final = 60.0
"""Seconds for all of it."""

_OAEP: Final = {
    "oaep-sha256": (Mechanism.SHA256, MGF.SHA256, None),
    "oaep-sha1": (Mechanism.SHA_1, MGF.SHA1, None),
}
_KWP: Final = (Mechanism.AES_KEY_WRAP_KWP, Mechanism.AES_KEY_WRAP_PAD)
_TRUSTED_WRAPPER: Final = {
    Attribute.TOKEN: False,
    Attribute.PRIVATE: False,  # the security officer sees no private objects
    Attribute.SENSITIVE: True,
    Attribute.EXTRACTABLE: True,  # to go to the recipient
    Attribute.TRUSTED: True,
    Attribute.WRAP: True,
    **dict.fromkeys((Attribute.UNWRAP, Attribute.ENCRYPT, Attribute.DECRYPT, Attribute.SIGN, Attribute.VERIFY), False),
}


class Request(msgspec.Struct, frozen=True):
    """What to wrap, out of which token, to whom: `recipient` is a DER SubjectPublicKeyInfo (RSA)."""

    module: str
    configuration: str | None
    label: str
    so_pin: bytes
    pin: bytes
    cka_id: bytes
    recipient: bytes
    suites: tuple[str, ...]


class Wrapped(msgspec.Struct, frozen=True):
    """The AES key sealed to the recipient by `suite`, and the private key wrapped under it; or what went wrong."""

    suite: str = ""
    encrypted_key: bytes = b""
    wrapped: bytes = b""
    error: str = ""


def wrap_out(
    module: Path,
    configuration: Path | None,
    label: str,
    *,
    so_pin: Secret,
    pin: Secret,
    cka_id: bytes,
    recipient: bytes,
    suites: Sequence[str],
) -> Wrapped:
    """Have the private key `cka_id` wrapped out of the token `label` in a process of its own.

    `suites` are the sealing suites that the recipient opens, of which the first that the token can do is taken.
    Raises TokenUnavailable with what the process said.
    """
    request = Request(
        str(module),
        None if configuration is None else str(configuration),
        label,
        so_pin.reveal(),
        pin.reveal(),
        cka_id,
        recipient,
        tuple(suites),
    )
    command = [sys.executable, "-P", "-m", "hsm_service.backup_process"]
    try:
        ended = subprocess.run(  # our own interpreter and module
            command, input=msgspec.msgpack.encode(request), capture_output=True, timeout=TIME_LIMIT, check=False
        )
        answer = msgspec.msgpack.decode(ended.stdout, type=Wrapped)
    except subprocess.TimeoutExpired:
        raise TokenUnavailable(f"token {label!r} did not wrap the key within {TIME_LIMIT:g} s") from None
    except msgspec.DecodeError:
        raise TokenUnavailable(f"the process that wraps keys of token {label!r} failed") from None
    if answer.error:
        raise TokenUnavailable(f"token {label!r} did not wrap the key: {answer.error}")
    return answer


def main() -> int:
    """Serve the one request on standard input."""
    request = msgspec.msgpack.decode(sys.stdin.buffer.read(), type=Request)
    try:
        answer = _wrap(request)
    except HsmError as error:
        answer = Wrapped(error=str(error))
    except PKCS11Error as error:
        answer = Wrapped(error=type(error).__name__)
    sys.stdout.buffer.write(msgspec.msgpack.encode(answer))
    return 1 if answer.error else 0


def _wrap(request: Request) -> Wrapped:
    configuration = None if request.configuration is None else Path(request.configuration)
    token = load_module(Path(request.module), configuration).token(request.label)
    recipient = load_der_public_key(request.recipient)
    if not isinstance(recipient, rsa.RSAPublicKey):
        raise KeyMisused("a backup is wrapped to an RSA key")
    session: Any = token.open(rw=True)
    with _logged_in(token, so_pin=request.so_pin.decode()):
        wrapper = session.generate_key(KeyType.AES, 256, template=_TRUSTED_WRAPPER)
    with _logged_in(token, user_pin=request.pin.decode()):
        found = list(session.get_objects({Attribute.CLASS: ObjectClass.PRIVATE_KEY, Attribute.ID: request.cka_id}))
        if len(found) != 1:
            raise KeyMisused(f"the token holds {len(found)} such keys; expected 1")
        suite, encrypted_key = _seal(session, recipient, wrapper, request.suites)
        return Wrapped(suite, encrypted_key, _first(lambda way: wrapper.wrap_key(found[0], mechanism=way), _KWP)[1])


def _logged_in(token: pkcs11.Token, *, user_pin: str | None = None, so_pin: str | None = None) -> Any:
    """A session that logs the process in, and out again when it is closed."""
    try:
        return token.open(rw=True, user_pin=user_pin, so_pin=so_pin)
    except PKCS11Error as error:
        if kind_of(error) is Kind.PIN:
            raise PinRefused("it refused the PIN") from None
        raise


def _seal(session: Any, recipient: rsa.RSAPublicKey, wrapper: Any, suites: Sequence[str]) -> tuple[str, bytes]:
    numbers = recipient.public_numbers()
    public = session.create_object(
        {
            Attribute.CLASS: ObjectClass.PUBLIC_KEY,
            Attribute.KEY_TYPE: KeyType.RSA,
            Attribute.TOKEN: False,
            Attribute.MODULUS: numbers.n.to_bytes((numbers.n.bit_length() + 7) // 8, "big"),
            Attribute.PUBLIC_EXPONENT: numbers.e.to_bytes(3, "big"),
            Attribute.WRAP: True,
        }
    )

    def seal(suite: str) -> bytes:
        return bytes(public.wrap_key(wrapper, mechanism=Mechanism.RSA_PKCS_OAEP, mechanism_param=_OAEP[suite]))

    suite, sealed = _first(seal, [each for each in suites if each in _OAEP])
    return suite, sealed


def _first(attempt: Any, ways: Sequence[Any]) -> tuple[Any, bytes]:
    """The first of `ways` that the token can do, and what came out of it."""
    refused = []
    for way in ways:
        try:
            return way, bytes(attempt(way))
        except PKCS11Error as error:
            if kind_of(error) not in {Kind.MECHANISM, Kind.CALLER}:
                raise
            refused.append(f"{way}: {type(error).__name__}")
    raise MechanismMissing(f"it can do none of what is needed ({', '.join(refused)})")


if __name__ == "__main__":
    sys.exit(main())
