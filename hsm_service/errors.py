"""Errors of the HSM service.

    HsmError
    ├── CallerError                 the caller's mistake: 4xx
    │   ├── BadInput                400  bytes or parameters that the operation cannot take
    │   ├── DecodingFailure         422  a sealed order did not open; deliberately says nothing more
    │   ├── WrongCheckValue         422  a zone key that came over the line does not unwrap, or is another one
    │   ├── KeyNotFound             404  no such key in the token
    │   ├── KeyExists               409  a key with this CKA_ID is already there
    │   └── KeyMisused              409  the key is of another kind or serves another usage
    ├── WeakKey                     503  the key exists, but the token does not protect it as required
    └── TokenTrouble                503  the token's or its configuration's trouble; retry later
        ├── TokenBusy               503  the token takes nothing more at the moment (Retry-After)
        ├── TokenUnavailable        503  the token does not answer, or failed
        │   └── TokenLost           503  the token lost its state: only finalise, initialise and login heal it
        ├── TokenClosed             503  used after close, finalise or in a forked child
        ├── TokenNotFound           503  no initialised token with this label under this configuration
        ├── PinRefused              503  wrong, expired or locked PIN; tried once, never again by itself
        ├── MechanismMissing        503  the token lacks an algorithm that was asked for
        └── ModuleBusy              503  the module is in use with another configuration

`status` and `slug` are the HTTP mapping: a caller's mistake is 4xx, the token's trouble 503, never the other way round.
No message holds a PIN, key bytes or plaintext.
"""

from __future__ import annotations

from typing import ClassVar


class HsmError(Exception):
    """Base of all errors of this package; `status` and `slug` map it to a problem document (RFC 9457)."""

    status: ClassVar[int] = 500
    slug: ClassVar[str] = "hsm-error"
    retry_after: ClassVar[int | None] = None
    """Seconds for the Retry-After header, or None."""


class CallerError(HsmError):
    """The caller's mistake."""

    status = 400
    slug = "bad-request"


class BadInput(CallerError):
    """Input that the operation cannot take."""

    slug = "bad-input"


class DecodingFailure(CallerError):
    """A sealed object did not open. One text for every cause, so that the answer is no oracle (RFC 8017 7.1.2 note)."""

    status = 422
    slug = "decoding-failure"

    def __init__(self) -> None:
        super().__init__("the sealed data could not be opened")


class WrongCheckValue(CallerError):
    """A zone key that came wrapped does not unwrap, or its check value is not the one that came with it."""

    status = 422
    slug = "wrong-check-value"


class KeyNotFound(CallerError):
    """The token holds no such key."""

    status = 404
    slug = "key-not-found"


class KeyExists(CallerError):
    """The token already holds a key with this CKA_ID."""

    status = 409
    slug = "key-exists"


class KeyMisused(CallerError):
    """A key was asked to do what its kind or usage does not allow."""

    status = 409
    slug = "key-misused"


class WeakKey(HsmError):
    """A key object is protected less than required; `attributes` names each attribute that failed."""

    status = 503
    slug = "weak-key"

    def __init__(self, label: str, attributes: tuple[str, ...]) -> None:
        super().__init__(f"key {label!r} is refused: the token reports {', '.join(attributes)}")
        self.label = label
        self.attributes = attributes


class TokenTrouble(HsmError):
    """The token's trouble, not the caller's."""

    status = 503
    slug = "token-trouble"
    retry_after: ClassVar[int | None] = 1


class TokenBusy(TokenTrouble):
    """Every session was in use until the deadline, or the queue is full, or the token is short of memory."""

    slug = "token-busy"


class TokenUnavailable(TokenTrouble):
    """The token failed or is away."""

    slug = "token-unavailable"
    retry_after = 2


class TokenLost(TokenUnavailable):
    """The token lost its state. A token in a process of its own is started again by itself (`supervised`)."""

    slug = "token-lost"


class TokenClosed(TokenTrouble):
    """The token object was closed, its module finalised, or the process forked."""

    slug = "token-closed"


class TokenNotFound(TokenTrouble):
    """No initialised token has this label."""

    slug = "token-not-found"
    retry_after = None


class PinRefused(TokenTrouble):
    """The token refused the PIN; it is not tried again, so that the token is not locked."""

    slug = "pin-refused"
    retry_after = None


class MechanismMissing(TokenTrouble):
    """The token lacks a mechanism."""

    slug = "mechanism-missing"
    retry_after = None


class ModuleBusy(TokenTrouble):
    """The module cannot change its configuration while tokens are open."""

    slug = "module-busy"
    retry_after = None
