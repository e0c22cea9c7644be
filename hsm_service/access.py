"""Who may do what with which key: asked for every operation, whichever way it came, before anything else."""

from __future__ import annotations

from typing import Final

from hsm_service.custody import Custody, Key
from hsm_service.templates import OWNER, Operation, Template
from runtime.problems import Problem

ANONYMOUS: Final = "anonymous"
CEREMONY: Final = "ceremony"
"""Who is present in person with witnesses, and on the record of the ceremony; never a caller over the network."""


def permitted(custody: Custody, caller: str, operation: Operation, name: str, version: int | None = None) -> Key:
    """The key, if it offers the operation and the caller may ask for it.

    Raises Problem 404 (no such key), 401 or 403 (not for this caller), 409 (the key is for something else).
    """
    if OWNER.fullmatch(name) is None:  # whatever it is, it is not repeated
        raise Problem(404, "key-not-found", "there is no key of this name")
    key = custody.find(name, version)
    permit(key.template, caller, operation, key.row.owner, name)
    if not key.template.offers(operation):
        raise Problem(409, "key-misused", f"key {name} is for {key.template.purpose}; it does not do {operation.value}")
    key.require(operation)
    return key


def permit(template: Template, caller: str, operation: Operation, owner: str | None, name: str) -> None:
    """Raises Problem 401 or 403 unless the template lets `caller` do this with a key of `owner`."""
    if caller == ANONYMOUS:
        raise Problem(401, "client-certificate-required", f"key {name} is not for callers without a name")
    if not template.permits(caller, operation, owner):
        expected = " or ".join(template.allowed(operation, owner)) or "nobody"
        raise Problem(
            403, "caller-not-allowed", f"{caller} may not do {operation.value} with key {name}; it is for {expected}"
        )


def check_name(what: str, text: str) -> None:
    """Raises Problem 422 unless `text` can name a key or an owner."""
    if OWNER.fullmatch(text) is None:
        raise Problem(422, "bad-name", f"the {what} of a key is 1 to 64 letters, digits and ._-")
