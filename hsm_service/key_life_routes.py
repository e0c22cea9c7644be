"""The routes of a key's life: rotated, enabled, disabled, destroyed on a date, kept, limited, backed up.

    POST /v1/keys/{name}:rotate                  the next version, in use from a set time on
    POST /v1/keys/{name}/versions/{n}:enable     :disable :destroy :keep
    PUT  /v1/keys/{name}/limits                  of the version in use; /versions/{n}/limits of another
    POST /v1/keys/{name}:backup                  likewise

Each but `:disable` is answered 202 with a request that officers approve (`dual_control.yaml`); asking again for the
same finds the same request, and the last approval does it. No route restores a backup: that is a ceremony's, at which
people bring the file and the token together, and no caller over the network is one.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final

import msgspec
from starlette.requests import Request
from starlette.responses import Response

from hsm_service.idempotency import Idempotency, answer_once
from hsm_service.key_commands import (
    Backup,
    BackupCommand,
    ChangeCommand,
    DestroyCommand,
    LimitsCommand,
    RotateCommand,
)
from hsm_service.openapi_route import ApiRoute
from hsm_service.service import KeyInfo
from hsm_service.templates import Operation
from hsm_service.vault import Vault
from hsm_service.wire import read
from hsm_service.workers import Workers
from runtime.identity import caller_of

_KEY: Final = "/v1/keys/{name}"
_VERSION: Final = "/v1/keys/{name}/versions/{version:int}"

_rotate_command: Final = msgspec.json.Decoder(RotateCommand)
_change_command: Final = msgspec.json.Decoder(ChangeCommand)
_destroy_command: Final = msgspec.json.Decoder(DestroyCommand)
_limits_command: Final = msgspec.json.Decoder(LimitsCommand)
_backup_command: Final = msgspec.json.Decoder(BackupCommand)


class KeyLifeRoutes:
    """Handlers: they read what comes and leave every decision to `KeyLife` and `Backups`."""

    def __init__(self, vault: Vault, workers: Workers, idempotency: Idempotency) -> None:
        self._vault = vault
        self._workers = workers
        self._idempotency = idempotency

    def routes(self) -> list[ApiRoute]:
        """The table of these routes."""
        return [
            _route("POST", f"{_KEY}:rotate", self.rotate, "Make the next version of a key", RotateCommand),
            _route("POST", f"{_VERSION}:enable", self.enable, "Put a version back into use", ChangeCommand),
            _route("POST", f"{_VERSION}:disable", self.disable, "Take a version out of use at once", ChangeCommand),
            _route(
                "POST", f"{_VERSION}:destroy", self.destroy, "Have a disabled version destroyed later", DestroyCommand
            ),
            _route("POST", f"{_VERSION}:keep", self.keep, "Take back a destruction that is scheduled", ChangeCommand),
            _route("PUT", f"{_KEY}/limits", self.limits, "Limit the version in use", LimitsCommand),
            _route("PUT", f"{_VERSION}/limits", self.limits, "Limit this version", LimitsCommand, "limits_version"),
            _route("POST", f"{_KEY}:backup", self.backup, "Wrap the version in use for another token", BackupCommand),
            _route(
                "POST",
                f"{_VERSION}:backup",
                self.backup,
                "Wrap this version for another token",
                BackupCommand,
                "backup_version",
            ),
        ]

    async def rotate(self, request: Request) -> Response:
        command = read(_rotate_command, await request.body())
        return await self._do(
            request, self._vault.life.rotate, _name(request), activates_at=command.activate_at, reason=command.reason
        )

    async def enable(self, request: Request) -> Response:
        return await self._change(request, self._vault.life.enable)

    async def disable(self, request: Request) -> Response:
        return await self._change(request, self._vault.life.disable)

    async def keep(self, request: Request) -> Response:
        return await self._change(request, self._vault.life.keep)

    async def destroy(self, request: Request) -> Response:
        command = read(_destroy_command, await request.body())
        destroy = self._vault.life.destroy
        return await self._do(request, destroy, _name(request), _version(request), at=command.at, reason=command.reason)

    async def limits(self, request: Request) -> Response:
        command = read(_limits_command, await request.body())
        limit = self._vault.life.limit
        return await self._do(request, limit, _name(request), _version(request), command.limits, reason=command.reason)

    async def backup(self, request: Request) -> Response:
        command = read(_backup_command, await request.body())

        def back_up(caller: str, name: str) -> Backup:
            to = {"recipient": command.recipient, "attestation": command.attestation}
            version = _version(request)
            made = self._vault.backups.back_up(caller, name, version=version, reason=command.reason, **to)
            return Backup(key=name, backup=made)

        return await self._do(request, back_up, _name(request))

    async def _change(self, request: Request, change: Callable[..., KeyInfo]) -> Response:
        command = read(_change_command, await request.body())
        return await self._do(request, change, _name(request), _version(request), reason=command.reason)

    async def _do(self, request: Request, act: Callable[..., Any], *arguments: Any, **named: Any) -> Response:
        caller = str(caller_of(request.scope))
        return await answer_once(
            self._idempotency, request, lambda: self._workers.run(act, caller, *arguments, **named)
        )


def _route(
    method: str, path: str, endpoint: Any, summary: str, body: type[msgspec.Struct], name: str | None = None
) -> ApiRoute:
    operation = Operation(endpoint.__name__)
    return ApiRoute(
        method,
        path,
        endpoint,
        name or operation.value,
        summary,
        (operation,),
        body=body,
        answer=Backup if operation is Operation.BACKUP else KeyInfo,
        asks=True,
        keyed=True,
    )


def _name(request: Request) -> str:
    name: str = request.path_params["name"]
    return name


def _version(request: Request) -> int | None:
    version: int | None = request.path_params.get("version")
    return version
