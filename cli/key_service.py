"""What the commands of `kwbp key` share: the signing API as the operator, and where a version stands in words."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Final

from cli.state import Installation
from hsm_service.client import HsmClient
from hsm_service.service import KeyInfo

LOOK: Final = "Look"
CHANGE: Final = "Make and change"
BACKUP: Final = "Back up"
DECIDE: Final = "Decide, as an officer"


@contextmanager
def service(found: Installation, identity: str = "operator") -> Iterator[HsmClient]:
    """The signing API as `identity`."""
    client = HsmClient.connect(found.settings.hsm.url, found.tls(identity))
    try:
        yield client
    finally:
        client.close()


def standing(info: KeyInfo, *, dated: bool = True) -> str:
    """Where a version stands, in a few words, with the date of what is to come unless that stands elsewhere."""
    if info.unusable is not None:
        return info.unusable
    if info.state == "DESTROY_SCHEDULED":
        return f"to be destroyed {info.destroy_at}" if dated else "to be destroyed"
    if info.state != "ENABLED" or info.in_use:
        return info.state
    if info.retires_at is not None:
        return "retired"
    if not info.certificate_chain:
        return "waits for certificate"
    return f"from {info.activates_at}" if dated else "to come"
