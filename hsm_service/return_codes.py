"""Every PKCS#11 return code, in one table: what it means for the session, the token and the caller.

python-pkcs11 raises one exception class per `CKR_*` of PKCS#11 v2.40 that is an error, and a few of its own. A code
without a class (v3.0 has some, and so have vendors) comes as the bare `PKCS11Error` and counts as TOKEN: an unknown
failure is the token's trouble, not the caller's, and the session it happened on is thrown away.
"""

from __future__ import annotations

from enum import Enum
from typing import Final

from pkcs11 import exceptions as ckr


class Kind(Enum):
    """What to do about a return code."""

    TRANSIENT = "transient"
    """The token has no room for it now: come again; nothing is broken."""
    SESSION = "session"
    """The session is gone: open another and repeat once."""
    TOKEN = "token"  # noqa: S105  # a kind of failure, not a password
    """The token is in trouble: throw the session away, answer 503. Again and again: treat it as lost."""
    LOST = "lost"
    """The token lost its state: finalise, initialise, log in."""
    HANDLE = "handle"
    """A cached object handle is stale: look the object up again and repeat once."""
    KEY = "key"
    """The key cannot do what was asked."""
    MECHANISM = "mechanism"
    """The token lacks the algorithm or its parameters."""
    PIN = "pin"
    """Login refused: stop, do not try again."""
    CALLER = "caller"
    """The input was wrong."""


_TABLE: Final[dict[type[ckr.PKCS11Error], Kind]] = {
    # half a line each, where the name does not say it: why it is of this kind
    ckr.DeviceMemory: Kind.TRANSIENT,  # out of object memory until something is freed
    ckr.HostMemory: Kind.TRANSIENT,
    ckr.FunctionCancelled: Kind.TRANSIENT,
    ckr.SessionCount: Kind.TRANSIENT,  # other processes hold the token's sessions
    ckr.SessionClosed: Kind.SESSION,
    ckr.SessionHandleInvalid: Kind.SESSION,
    ckr.OperationActive: Kind.SESSION,  # an operation was left half-way; only a new session is clean
    ckr.OperationNotInitialized: Kind.SESSION,
    ckr.DeviceError: Kind.LOST,  # also what p11-kit answers when its server died
    ckr.DeviceRemoved: Kind.LOST,
    ckr.TokenNotPresent: Kind.LOST,
    ckr.TokenNotRecognised: Kind.LOST,
    ckr.SlotIDInvalid: Kind.LOST,
    ckr.UserNotLoggedIn: Kind.LOST,  # the login lives as long as our first session; losing it means losing the token
    ckr.AnotherUserAlreadyLoggedIn: Kind.LOST,  # somebody else's login stands in our place
    ckr.UserAlreadyLoggedIn: Kind.LOST,  # a login that we know nothing of, left by a failed one
    ckr.NoSuchToken: Kind.LOST,  # python-pkcs11's own
    ckr.GeneralError: Kind.TOKEN,  # "host or token may be in an inconsistent state"
    ckr.FunctionFailed: Kind.TOKEN,
    ckr.FunctionRejected: Kind.TOKEN,  # a person at the token said no
    ckr.ExceededMaxIterations: Kind.TOKEN,  # domain parameters or a prime were not found
    ckr.TokenWriteProtected: Kind.TOKEN,
    ckr.RandomNoRNG: Kind.TOKEN,  # a token without random numbers makes no keys and no PSS salts
    ckr.RandomSeedNotSupported: Kind.TOKEN,
    ckr.SessionExists: Kind.TOKEN,  # C_InitToken only
    ckr.SessionReadOnly: Kind.TOKEN,  # administration goes to the read-write session; our mistake, not the caller's
    ckr.SessionReadOnlyExists: Kind.TOKEN,
    ckr.SessionReadWriteSOExists: Kind.TOKEN,  # the security officer is at work on the token
    ckr.UserTooManyTypes: Kind.TOKEN,
    ckr.MultipleTokensReturned: Kind.TOKEN,  # python-pkcs11's own: the label is not unique
    ckr.NoEvent: Kind.TOKEN,  # C_WaitForSlotEvent only
    ckr.PKCS11Error: Kind.TOKEN,  # a code without a class
    ckr.ObjectHandleInvalid: Kind.HANDLE,  # destroyed by another process, or before a re-initialisation
    ckr.KeyHandleInvalid: Kind.HANDLE,
    ckr.UnwrappingKeyHandleInvalid: Kind.HANDLE,
    ckr.WrappingKeyHandleInvalid: Kind.HANDLE,
    ckr.NoSuchKey: Kind.KEY,
    ckr.MultipleObjectsReturned: Kind.KEY,
    ckr.KeyTypeInconsistent: Kind.KEY,
    ckr.KeySizeRange: Kind.KEY,
    ckr.UnwrappingKeyTypeInconsistent: Kind.KEY,
    ckr.UnwrappingKeySizeRange: Kind.KEY,
    ckr.WrappingKeyTypeInconsistent: Kind.KEY,
    ckr.WrappingKeySizeRange: Kind.KEY,
    ckr.KeyUnextractable: Kind.KEY,
    ckr.KeyNotWrappable: Kind.KEY,
    ckr.KeyIndigestible: Kind.KEY,
    ckr.KeyNeeded: Kind.KEY,
    ckr.KeyNotNeeded: Kind.KEY,
    ckr.AttributeSensitive: Kind.KEY,
    ckr.AttributeReadOnly: Kind.KEY,
    ckr.PublicKeyInvalid: Kind.KEY,
    ckr.MechanismInvalid: Kind.MECHANISM,
    ckr.MechanismParamInvalid: Kind.MECHANISM,
    ckr.FunctionNotSupported: Kind.MECHANISM,
    ckr.DomainParamsInvalid: Kind.MECHANISM,
    ckr.ArgumentsBad: Kind.MECHANISM,  # what SoftHSM says to OAEP parameters it does not know
    ckr.AttributeTypeInvalid: Kind.MECHANISM,  # templates are ours, so the token does not know an attribute we need
    ckr.AttributeValueInvalid: Kind.MECHANISM,
    ckr.TemplateIncomplete: Kind.MECHANISM,
    ckr.TemplateInconsistent: Kind.MECHANISM,
    ckr.PinIncorrect: Kind.PIN,
    ckr.PinInvalid: Kind.PIN,
    ckr.PinLenRange: Kind.PIN,
    ckr.PinExpired: Kind.PIN,
    ckr.PinLocked: Kind.PIN,
    ckr.PinTooWeak: Kind.PIN,
    ckr.UserPinNotInitialized: Kind.PIN,
    ckr.DataInvalid: Kind.CALLER,
    ckr.DataLenRange: Kind.CALLER,
    ckr.EncryptedDataInvalid: Kind.CALLER,
    ckr.EncryptedDataLenRange: Kind.CALLER,
    ckr.WrappedKeyInvalid: Kind.CALLER,
    ckr.WrappedKeyLenRange: Kind.CALLER,
    ckr.SignatureInvalid: Kind.CALLER,
    ckr.SignatureLenRange: Kind.CALLER,
}


def kind_of(error: ckr.PKCS11Error) -> Kind:
    """The kind of a PKCS#11 error; of its nearest base that the table knows."""
    for each in type(error).__mro__:
        if kind := _TABLE.get(each):
            return kind
    return Kind.TOKEN  # pragma: no cover  # PKCS11Error is in the table


def table() -> dict[type[ckr.PKCS11Error], Kind]:
    """A copy of the table, for whoever checks that it is whole."""
    return dict(_TABLE)
