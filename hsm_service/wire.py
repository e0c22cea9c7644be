"""Bodies of the signing API: JSON with bytes as base64; unknown fields are refused, and names that come twice.

RFC 8259 4 leaves open which of two members of one name counts, and parsers differ: what a proxy or a log in between
read would not be what we sign. So there is no such request. Shared by the server and its client.
"""

from __future__ import annotations

import json
from typing import Annotated, Any, Final, TypeVar

import msgspec

from hsm_service.service import Basis, KeyInfo, RawAlgorithm, SignCommand, SignKind
from runtime.problems import Problem

T = TypeVar("T")

LARGEST_BATCH: Final = 1_000
"""Structures in one batch."""


class GenerateCommand(msgspec.Struct, frozen=True, forbid_unknown_fields=True, omit_defaults=True):
    """Make the key `name` from `template`, for `owner` where its keys have one; `reason` is for who must approve it."""

    name: str
    template: str
    owner: str | None = None
    reason: Annotated[str, msgspec.Meta(max_length=500)] = ""


class BatchItem(msgspec.Struct, frozen=True, forbid_unknown_fields=True, omit_defaults=True):
    """One structure of a batch; `ref` is the caller's own mark, given back with the answer.

    `dossier` is what a certificate rests on (`Basis.dossier`); the CRLs are those of the batch.
    """

    content: bytes
    content_type: str | None = None
    algorithm: RawAlgorithm | None = None
    dossier: bytes | None = None
    ref: Annotated[str, msgspec.Meta(max_length=128)] = ""


class BatchCommand(msgspec.Struct, frozen=True, forbid_unknown_fields=True, omit_defaults=True):
    """Sign structures of one kind. `crls` are those by which the dossiers of all items are judged (`Basis.crls`)."""

    kind: SignKind
    items: Annotated[list[BatchItem], msgspec.Meta(min_length=1, max_length=LARGEST_BATCH)]
    crls: tuple[bytes, ...] = ()

    def commands(self) -> list[SignCommand]:
        """The items as they would be asked for singly; Problem 422 for CRLs that no item has a dossier to go with."""
        if self.crls and all(item.dossier is None for item in self.items):
            raise Problem(422, "invalid-request", "the field crls goes with dossiers")
        return [
            SignCommand(
                self.kind,
                item.content,
                item.content_type,
                None if item.dossier is None else Basis(item.dossier, self.crls),
                item.algorithm,
            )
            for item in self.items
        ]

    def size(self) -> int:
        """Bytes of structures in it, with what they rest on."""
        return sum(len(item.content) + len(item.dossier or b"") for item in self.items) + sum(map(len, self.crls))


class BatchResult(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """What became of one structure: `signed`, or the `problem` (RFC 9457) why not."""

    ref: str
    version: int | None = None
    log_index: int | None = None
    signed: bytes | None = None
    problem: dict[str, Any] | None = None

    def outcome(self) -> bytes | Problem:
        """What was signed, or the problem as it was raised over there."""
        if self.signed is not None:
            return self.signed
        told = self.problem or {}
        status = told.get("status")
        return Problem.from_document(status if isinstance(status, int) else 502, told)


class BatchAnswer(msgspec.Struct, frozen=True, kw_only=True):
    """Answers in the order of the items."""

    key: str
    algorithm: str | None
    items: list[BatchResult]


class AttachCommand(msgspec.Struct, frozen=True, forbid_unknown_fields=True, omit_defaults=True):
    """Give the key its certificate: DER, the key's own first, then its issuers without the root."""

    chain: tuple[bytes, ...]


class CertificateChain(msgspec.Struct, frozen=True):
    """The certificates (DER) of a key, its own first, without the root."""

    key: str
    version: int
    chain: tuple[bytes, ...]


class KeyList(msgspec.Struct, frozen=True):
    """The keys that the caller may use or manage."""

    keys: list[KeyInfo]


def read(decoder: msgspec.json.Decoder[T], body: bytes) -> T:
    """The body as the decoder's type; Problem 422 that names the field at fault and repeats nothing of the input."""
    try:
        command = decoder.decode(body)
        _check_names(command, body)
        return command
    except msgspec.ValidationError as error:
        place = str(error).rpartition(" - at `$")[2].rstrip("`").lstrip(".")
        field = place if place.replace("[...]", "").isidentifier() else "body"
    except (msgspec.DecodeError, UnicodeDecodeError):
        field = "body"
    except _DuplicateNameError:
        raise Problem(422, "invalid-request", "a member of the body comes twice", clause="RFC 8259 4") from None
    raise Problem(422, "invalid-request", f"the field {field} is not as /openapi.json describes it")


class _DuplicateNameError(ValueError):
    """An object has two members of one name."""


def _check_names(command: object, body: bytes) -> None:
    """Raises _DuplicateNameError if an object of `body`, which was read as `command`, names a member twice.

    Each member has a colon. Without escapes, a body that has as many as the command written anew (which leaves out
    what is at its default) has room for no second one; whatever has more is read again, slowly. It has the depth of the
    command, because the decoder has seen it.
    """
    if b"\\" not in body and body.count(b":") == _encoder.encode(command).count(b":"):
        return
    json.loads(body, object_pairs_hook=_once)


def _once(pairs: list[tuple[str, Any]]) -> None:
    if len({name for name, _value in pairs}) < len(pairs):
        raise _DuplicateNameError


_encoder: Final = msgspec.json.Encoder()
