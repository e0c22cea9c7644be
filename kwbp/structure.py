"""Reading and writing the DER structures of the protocol: the one way in and the one way out."""

from __future__ import annotations

from functools import cache
from typing import Final, TypeVar

from kwbp.codes import ErrorCode
from kwbp.errors import ProtocolError
from pki import der
from pki.crowding import Members
from pki.errors import DerError

SIZE_LIMIT: Final = 262_144
"""Largest message and largest object inside one, bytes (KWBP global rule 7)."""
_SEQUENCE: Final = 0x30
_CONTEXT: Final = range(0xA0, 0xA8)


class Structure:
    """What every structure below can do."""

    most = 32
    """Most members that the structure has, and that any of its lists may have: counted before objects are made."""

    def validate(self) -> None:
        """Check what the types cannot say: version, forms of strings, ranges.

        :raises ProtocolError: decodingFailure, versionTooOld, versionTooNew or amountMismatch, at K1.
        """
        raise NotImplementedError


S = TypeVar("S", bound=Structure)


@cache
def _members(most: int) -> Members:
    """Of a structure, of the structures and lists in it, and of those in these."""
    inner = Members(most, {_SEQUENCE: Members(most, {_SEQUENCE: Members(most)})})
    return Members(most, dict.fromkeys((_SEQUENCE, *_CONTEXT), inner))


def decode(cls: type[S], data: bytes) -> S:
    """Read `data` as `cls`: strict DER, at most 256 KiB, nothing behind it, every field in form.

    :raises ProtocolError: messageTooBig, decodingFailure, versionTooOld, versionTooNew or amountMismatch, at K1.
    """
    if len(data) > SIZE_LIMIT:
        raise ProtocolError(ErrorCode.MESSAGE_TOO_BIG, "K1", f"{cls.__name__} must have at most {SIZE_LIMIT} bytes")
    try:
        value = der.decode(cls, data, limit=SIZE_LIMIT, members=_members(cls.most))
    except DerError:
        raise ProtocolError(ErrorCode.DECODING_FAILURE, "K1", f"not a {cls.__name__} in DER") from None
    value.validate()
    return value


def encode(value: Structure) -> bytes:
    """Write `value` as DER, after the checks that its reader will make.

    :raises ProtocolError: as `decode`; what we would refuse we do not send.
    """
    value.validate()
    try:
        data = der.encode(value)
    except ValueError:
        raise ProtocolError(
            ErrorCode.DECODING_FAILURE, "K1", f"{type(value).__name__} has a field of wrong size"
        ) from None
    if len(data) > SIZE_LIMIT:
        raise ProtocolError(ErrorCode.MESSAGE_TOO_BIG, "K1", f"{type(value).__name__} has more than {SIZE_LIMIT} bytes")
    return data
