"""The two rooms of a ceremony: the services' tokens and the root's, opened one after the other, never together."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime
from typing import Final

from audit import AuditError
from ca.ceremony.room import CeremonyRoom
from ca.errors import CeremonyError
from hsm_service.access import CEREMONY
from hsm_service.provision import present
from hsm_service.vault import SERVICE_TOKENS, Vault
from runtime.settings import Home

IN_USE: Final = "a ceremony has the tokens for itself: stop the HSM service ('kwbp serve') first"


def now() -> datetime:
    """The time, aware UTC."""
    return datetime.now(UTC)


@contextmanager
def service_room(
    home: Home,
    *,
    clock: Callable[[], datetime] = now,
    tokens: Sequence[str] | None = None,
    lost: bool = False,
) -> Iterator[CeremonyRoom]:
    """The tokens of the services; with `lost`, those of them that are still there."""
    labels = tokens or (present(home, SERVICE_TOKENS) if lost else SERVICE_TOKENS)
    try:
        vault = Vault.open(home, labels, clock=clock)
    except AuditError as error:
        raise CeremonyError(f"{error}; {IN_USE}") from None
    with vault:
        yield vault.as_caller(CEREMONY)


@contextmanager
def root_room(home: Home, *, clock: Callable[[], datetime] = now) -> Iterator[CeremonyRoom]:
    """The root's token alone."""
    with Vault.open_root(home, clock=clock) as vault:
        yield vault.as_caller(CEREMONY)
