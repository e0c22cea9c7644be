"""The vault as one caller sees it: `hsm_service.service.SigningService` in this process, for ceremonies."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from datetime import datetime
from typing import TYPE_CHECKING

from hsm_service.request import compose_request
from hsm_service.service import Basis, KeyInfo, SignCommand
from runtime.problems import Problem
from runtime.secrets import Secret

if TYPE_CHECKING:
    from hsm_service.vault import Vault


class BoundVault:
    """A vault and the caller who uses it. Opens and closes nothing."""

    def __init__(self, vault: Vault, caller: str) -> None:
        self._vault = vault
        self._caller = caller

    def generate_key(self, name: str, template: str, *, owner: str | None = None, reason: str = "") -> KeyInfo:
        return self._vault.generate_key(self._caller, name, template, owner=owner, reason=reason)

    def import_zone_key(self, name: str, template: str, components: Sequence[Secret]) -> KeyInfo:
        """Load a zone key from its components; see `Vault.import_zone_key`. Not offered over the network."""
        return self._vault.import_zone_key(self._caller, name, template, components)

    def describe_key(self, name: str) -> KeyInfo:
        return self._vault.describe_key(self._caller, name)

    def list_versions(self, name: str) -> list[KeyInfo]:
        return self._vault.list_versions(self._caller, name)

    def list_keys(self) -> list[KeyInfo]:
        return self._vault.list_keys(self._caller)

    def certification_request(
        self, name: str, subject: bytes, san_uris: Sequence[str] = (), version: int | None = None
    ) -> bytes:
        info = compose_request(subject, san_uris, self._vault.describe_key(self._caller, name, version))
        return self._vault.sign_request(self._caller, name, info, version).signed

    def attach_certificate(self, name: str, chain: Sequence[bytes]) -> None:
        self._vault.attach_certificate(self._caller, name, chain)

    def sign_certificate(self, name: str, tbs: bytes, basis: Basis | None = None) -> bytes:
        return self._vault.sign_certificate(self._caller, name, tbs, basis=basis).signed

    def sign_certificates(
        self, name: str, items: Sequence[tuple[bytes, bytes]], crls: Sequence[bytes]
    ) -> list[bytes | Problem]:
        commands = [SignCommand("certificate", tbs, basis=Basis(dossier, tuple(crls))) for tbs, dossier in items]
        answers = self._vault.run(self._vault.signing.sign_many(self._caller, name, commands))
        return [answer if isinstance(answer, Problem) else answer.signed for answer in answers]

    def sign_crl(self, name: str, tbs: bytes, version: int | None = None) -> bytes:
        return self._vault.sign_crl(self._caller, name, tbs, version).signed

    def sign_crl_parts(self, name: str, parts: Callable[[], Iterable[bytes]], version: int | None = None) -> bytes:
        return self._vault.sign_crl_parts(self._caller, name, parts(), version).signature

    def sign_cms(self, name: str, content_type: str, content: bytes) -> bytes:
        return self._vault.sign_cms(self._caller, name, content_type, content).signed

    def rotate(self, name: str, *, activate_at: datetime | None = None, reason: str = "") -> KeyInfo:
        """Make the next version of a key; see `KeyLife.rotate`."""
        return self._vault.life.rotate(self._caller, name, activates_at=activate_at, reason=reason)

    def take_back_key(self, name: str) -> None:
        """Destroy a key that nobody certified; see `KeyManagement.take_back`."""
        self._vault.keys.take_back(self._caller, name)

    def restore_key(self, backup: bytes, *, recipient: str, replaces: bool = False) -> KeyInfo:
        """Take a key in out of its backup; see `Backups.restore`."""
        return self._vault.backups.restore(self._caller, backup, recipient=recipient, replaces=replaces)

    def disable_key(self, name: str, version: int) -> KeyInfo:
        """Take a version out of use."""
        return self._vault.life.disable(self._caller, name, version)

    def schedule_destruction(self, name: str, version: int, at: datetime) -> KeyInfo:
        """Have a disabled version destroyed at `at`; see `KeyLife.destroy`."""
        return self._vault.life.destroy(self._caller, name, version, at=at)

    def destroy_due(self) -> None:
        """Destroy the versions whose time has come."""
        self._vault.life.destroy_due()

    def attest_key(self, name: str) -> bytes:
        return self._vault.attest_key(self._caller, name).signed
