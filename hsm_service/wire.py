"""Bodies of the signing API: JSON with bytes as base64; unknown fields are refused.

Shared by the server and its client.
"""

from __future__ import annotations

from typing import TypeVar

import msgspec

from hsm_service.service import KeyInfo
from runtime.problems import Problem

T = TypeVar("T")


class GenerateCommand(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Make the key `name` from `template`, for `owner` where its keys have one."""

    name: str
    template: str
    owner: str | None = None


class AttachCommand(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Give the key its certificate: DER, the key's own first, then its issuers without the root."""

    chain: tuple[bytes, ...]


class KeyList(msgspec.Struct, frozen=True):
    """The keys that the caller may use or manage."""

    keys: list[KeyInfo]


def read(decoder: msgspec.json.Decoder[T], body: bytes) -> T:
    """The body as the decoder's type; Problem 422 that names the field at fault and repeats nothing of the input."""
    try:
        return decoder.decode(body)
    except msgspec.ValidationError as error:
        place = str(error).rpartition(" - at `$")[2].rstrip("`").lstrip(".")
        field = place if place.replace("[...]", "").isidentifier() else "body"
    except (msgspec.DecodeError, UnicodeDecodeError):
        field = "body"
    raise Problem(422, "invalid-request", f"the field {field} is not as /openapi.json describes it")
