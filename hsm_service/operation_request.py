"""Operation requests: what somebody wants done with a key, in the one form that officers approve (CPS 5.2.2).

    {"expires": …, "operation": "generate", "parameters": {…}, "policy": …, "reason": …, "requested": …,
     "requester": "service:operator", "version": 1}

The SHA-256 of the canonical JSON is the request's id and what an approval signs, so an approval is one of exactly this
operation with exactly these parameters, asked by this caller at this time under this policy. Whatever is changed in a
request makes another request, which nobody has approved.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from enum import StrEnum
from functools import cached_property
from typing import Any, Final

from cps.canonical import canonical_json

VERSION: Final = 1
MAX_SIZE: Final = 16 * 1024  # bytes of the canonical form
MAX_REASON: Final = 500  # characters
_FIELDS: Final = frozenset(
    {"version", "operation", "parameters", "requester", "reason", "requested", "expires", "policy"}
)
_SHA256_HEX: Final = 64
_MAX_DEPTH: Final = 8


class RequestError(Exception):
    """The bytes are not the canonical form of an operation request; the text names the field, never its value."""


class KeyOperation(StrEnum):
    """What can be asked of a key that more than one person answers for (`dual_control.yaml` says how many)."""

    GENERATE = "generate"
    IMPORT = "import"
    ROTATE = "rotate"
    ENABLE = "enable"
    DISABLE = "disable"
    DESTROY = "destroy"
    KEEP = "keep"
    """To take back a destruction that is scheduled."""
    BACKUP = "backup"
    RESTORE = "restore"
    LIMITS = "limits"
    USE = "use"
    """One signature by a key whose use is under dual control; the parameters hold the digest of the structure."""


@dataclass(frozen=True)
class OperationRequest:
    """One request. `parameters` is JSON without floating point; `policy` the digest (SHA-256, hex) of the policy it was
    made under; times are aware UTC in whole seconds.

    Raises RequestError for a value that the canonical form cannot hold.
    """

    operation: KeyOperation
    parameters: Mapping[str, Any]
    requester: str
    reason: str
    requested: datetime
    expires: datetime
    policy: str
    canonical: bytes = field(init=False, repr=False, compare=False)
    """The canonical JSON (UTF-8), written when the request was made: a parameter changed later changes nothing."""

    def __post_init__(self) -> None:
        if not self.requester or len(self.reason) > MAX_REASON:
            raise RequestError("the requester has a name, the reason at most 500 characters")
        if len(self.policy) != _SHA256_HEX:
            raise RequestError("the policy is a SHA-256 digest in hexadecimal")
        if self.expires <= self.requested:
            raise RequestError("the request expires before it is made")
        _check_json(self.parameters)
        document = {
            "version": VERSION,
            "operation": self.operation.value,
            "parameters": dict(self.parameters),
            "requester": self.requester,
            "reason": self.reason,
            "requested": _text(self.requested),
            "expires": _text(self.expires),
            "policy": self.policy,
        }
        try:
            canonical = canonical_json(document)
        except UnicodeEncodeError:
            raise RequestError("a text is not Unicode") from None
        if len(canonical) > MAX_SIZE:
            raise RequestError(f"the request is over {MAX_SIZE} bytes")
        object.__setattr__(self, "canonical", canonical)

    @cached_property
    def digest(self) -> bytes:
        """SHA-256 (32 bytes) of the canonical form: what approvals sign."""
        return hashlib.sha256(self.canonical).digest()

    @property
    def id(self) -> str:
        """The digest in hexadecimal."""
        return self.digest.hex()


def parse_request(data: bytes) -> OperationRequest:
    """The request of its canonical form; RequestError unless `data` is exactly that, byte for byte."""
    if len(data) > MAX_SIZE:
        raise RequestError(f"the request is over {MAX_SIZE} bytes")
    try:
        document = json.loads(data)
    except (ValueError, RecursionError):
        raise RequestError("the request is not JSON") from None
    if not isinstance(document, dict) or document.keys() != _FIELDS or document["version"] != VERSION:
        raise RequestError("the request has other fields than version 1 has")
    if not isinstance(document["parameters"], dict):
        raise RequestError("the parameters are an object")
    for name in _FIELDS - {"version", "parameters"}:
        if not isinstance(document[name], str):
            raise RequestError(f"the field {name} is text")
    try:
        request = OperationRequest(
            operation=KeyOperation(document["operation"]),
            parameters=document["parameters"],
            requester=document["requester"],
            reason=document["reason"],
            requested=_time(document["requested"]),
            expires=_time(document["expires"]),
            policy=document["policy"],
        )
    except ValueError:
        raise RequestError("the operation is unknown, or a time is none") from None
    if request.canonical != data:
        raise RequestError("the request is not in its canonical form")
    return request


def _check_json(value: object, depth: int = 0) -> None:
    """Only what has one spelling in JSON, and can be shown to a person."""
    if depth > _MAX_DEPTH:
        raise RequestError(f"the parameters are nested deeper than {_MAX_DEPTH}")
    if isinstance(value, Mapping):
        if not all(isinstance(key, str) for key in value):
            raise RequestError("the name of a parameter is text")
        for each in value.values():
            _check_json(each, depth + 1)
    elif isinstance(value, list):
        for each in value:
            _check_json(each, depth + 1)
    elif value is not None and not isinstance(value, str | int):
        raise RequestError("a parameter is text, a whole number, true, false, null, a list or an object")


def _text(instant: datetime) -> str:
    if instant.tzinfo is None or instant.microsecond:
        raise RequestError("times of requests are aware and whole seconds")
    return instant.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def _time(text: str) -> datetime:
    return datetime.strptime(text, "%Y-%m-%dT%H:%M:%SZ").replace(tzinfo=UTC)
