"""What a running service does beside its callers' work, on clocks: the key check, and the self-test of each token."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Final

from hsm_service.key_check import KeyCheck
from hsm_service.self_test import READY, SelfTest
from hsm_service.supervised import SupervisedToken

if TYPE_CHECKING:
    from hsm_service.vault import Vault
    from runtime.settings import HsmSettings

LAST_CALLS_IN_A_HURRY: Final = 0.2
"""Seconds."""


class Upkeep:
    """Begins with its making; `close` it before the vault's tokens."""

    def __init__(self, vault: Vault, tokens: Mapping[str, SupervisedToken], settings: HsmSettings) -> None:
        self._tokens = tokens
        self._last_calls = settings.last_calls
        self._check = KeyCheck(vault.check_keys, settings.key_check_interval)
        for token in tokens.values():
            token.on_recovered(self._check.wake)
        self._check.wake()  # a token may have come back before it was asked to say so
        self._tests = {
            label: SelfTest(
                label,
                token,
                vault.keys.probe_key,
                vault.note,
                interval=settings.self_test_interval,
                patience=settings.self_test_patience,
            )
            for label, token in tokens.items()
        }

    @property
    def states(self) -> dict[str, str]:
        """Of each token whether it does well (`READY`), or why not; cheap."""
        return {label: test.state for label, test in self._tests.items()}

    @property
    def well(self) -> bool:
        """Whether every token does."""
        return all(state == READY for state in self.states.values())

    def hasten(self, *, more: bool = False) -> None:
        """The service is about to end: no token has long for what it was asked; still less if `more`. Cheap."""
        for token in self._tokens.values():
            token.hasten(LAST_CALLS_IN_A_HURRY if more else self._last_calls)

    def close(self) -> None:
        """Ends the clocks; waits for what is under way."""
        self._check.close()
        for test in self._tests.values():
            test.close()
