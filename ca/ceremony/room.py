"""What a ceremony asks of the tokens: the signing service, and acts that people do who have come together for them."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager
from datetime import datetime
from typing import Protocol

from hsm_service.service import KeyInfo, SigningService


class CeremonyRoom(SigningService, Protocol):
    """Open tokens, for a ceremony (`hsm_service.bound`). Every method raises `runtime.problems.Problem`."""

    def take_back_key(self, name: str) -> None:
        """Destroy a key that this ceremony made and nobody certified, and free its name."""
        ...

    def restore_key(self, backup: bytes, *, recipient: str, replaces: bool = False) -> KeyInfo:
        """Take a key in out of its backup, onto the token of `recipient`; a second time does nothing."""
        ...

    def disable_key(self, name: str, version: int) -> KeyInfo:
        """Take a version out of use."""
        ...

    def schedule_destruction(self, name: str, version: int, at: datetime) -> KeyInfo:
        """Have a disabled version destroyed at `at`."""
        ...

    def destroy_due(self) -> None:
        """Destroy the versions whose time has come."""
        ...


OpenRoom = Callable[[], AbstractContextManager[CeremonyRoom]]
Clock = Callable[[], datetime]
