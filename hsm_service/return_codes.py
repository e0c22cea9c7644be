"""Every PKCS#11 return code we distinguish, in one table: what it means for the session, the token and the caller.

python-pkcs11 raises one exception class per `CKR_*`. A class that is not in the table counts as TOKEN: an unknown
failure is the token's trouble, not the caller's, and the session it happened on is thrown away.
"""

from __future__ import annotations

from enum import Enum
from typing import Final

from pkcs11 import exceptions as ckr


class Kind(Enum):
    """What to do about a return code."""

    TRANSIENT = "transient"
    """Try again; the session is sound."""
    SESSION = "session"
    """The session is gone: open another and repeat once."""
    TOKEN = "token"  # noqa: S105  # a kind of failure, not a password
    """The token is in trouble: throw the session away, answer 503."""
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
    # half a line each: why it is of this kind
    ckr.DeviceMemory: Kind.TRANSIENT,  # out of object memory until something is freed
    ckr.HostMemory: Kind.TRANSIENT,
    ckr.FunctionCancelled: Kind.TRANSIENT,
    ckr.SessionCount: Kind.TRANSIENT,  # other processes hold the token's sessions
    ckr.SessionClosed: Kind.SESSION,
    ckr.SessionHandleInvalid: Kind.SESSION,
    ckr.OperationActive: Kind.SESSION,  # an operation was left half-way; only a new session is clean
    ckr.OperationNotInitialized: Kind.SESSION,
    ckr.DeviceError: Kind.TOKEN,  # also what p11-kit answers when its server died
    ckr.DeviceRemoved: Kind.TOKEN,
    ckr.TokenNotPresent: Kind.TOKEN,
    ckr.TokenNotRecognised: Kind.TOKEN,
    ckr.SlotIDInvalid: Kind.TOKEN,
    ckr.GeneralError: Kind.TOKEN,  # "host or token may be in an inconsistent state"
    ckr.FunctionFailed: Kind.TOKEN,
    ckr.UserNotLoggedIn: Kind.TOKEN,  # the login lives as long as our first session; losing it means losing the token
    ckr.TokenWriteProtected: Kind.TOKEN,
    ckr.ObjectHandleInvalid: Kind.HANDLE,  # destroyed by another process, or before a re-initialisation
    ckr.KeyHandleInvalid: Kind.HANDLE,
    ckr.UnwrappingKeyHandleInvalid: Kind.HANDLE,
    ckr.NoSuchKey: Kind.KEY,
    ckr.MultipleObjectsReturned: Kind.KEY,
    ckr.KeyTypeInconsistent: Kind.KEY,
    ckr.KeySizeRange: Kind.KEY,
    ckr.UnwrappingKeyTypeInconsistent: Kind.KEY,
    ckr.UnwrappingKeySizeRange: Kind.KEY,
    ckr.KeyUnextractable: Kind.KEY,
    ckr.KeyNotWrappable: Kind.KEY,
    ckr.AttributeSensitive: Kind.KEY,
    ckr.MechanismInvalid: Kind.MECHANISM,
    ckr.MechanismParamInvalid: Kind.MECHANISM,
    ckr.FunctionNotSupported: Kind.MECHANISM,
    ckr.DomainParamsInvalid: Kind.MECHANISM,
    ckr.ArgumentsBad: Kind.MECHANISM,  # what SoftHSM says to OAEP parameters it does not know
    ckr.PinIncorrect: Kind.PIN,
    ckr.PinInvalid: Kind.PIN,
    ckr.PinLenRange: Kind.PIN,
    ckr.PinExpired: Kind.PIN,
    ckr.PinLocked: Kind.PIN,
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
    """The kind of a PKCS#11 error."""
    return _TABLE.get(type(error), Kind.TOKEN)
