"""`kwbp ceremony key|zone-keys`: single keys that a ceremony alone makes, or loads from custodians' components."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import msgspec
import typer

from cli import output
from cli.ceremony_rooms import service_room
from cli.state import existing
from cli.zone import agreed_zone, host_zones
from gateway_keys.zone_keys import load, make_components
from hsm_service.access import CEREMONY
from hsm_service.vault import Vault
from shetab.zone import SWITCH_ZONE

OWN_KEYS = ("gateway-vault", "gateway-card-ids")
"""Keys that the gateway shares with nobody, called like their templates: they are made in its token, once."""


def make_key(
    name: Annotated[str, typer.Argument(help="Name of the key.")],
    template: Annotated[str, typer.Option(help="What kind of key: backup-recipient, raw-ec, issuing-ca-recoverable …")],
    owner: Annotated[str | None, typer.Option(help="Whose key it is, where the template's keys have an owner.")] = None,
) -> None:
    """Make one key that ceremonies alone make, without a transcript; 'run' with a file of kind key leaves one."""
    with service_room(existing().home) as room:
        info = room.generate_key(name, template, owner=owner)
    output.emit(msgspec.to_builtins(info), [f"{info.algorithm} key {info.name} in the token {info.token}."])


def zone_keys(
    zone: Annotated[
        str | None, typer.Option(help="Only this one: 'switch', or a connector with keys of its own. Else all.")
    ] = None,
) -> None:
    """Make the components of the zone keys, one file a custodian, and load them into the gateway's token."""
    found = existing()
    zones = {SWITCH_ZONE: agreed_zone(found.home, found.settings)}
    zones |= {name: each.agreed for name, each in host_zones(found.home, found.settings).items()}
    if zone is not None and zone not in zones:
        output.fail(f"there is no zone {zone}", hint=f"there are: {', '.join(zones)}")
    chosen = zones if zone is None else {zone: zones[zone]}
    written: list[Path] = []
    for name, agreed in chosen.items():
        written += make_components(found.home.secrets, agreed, of=name)
    with Vault.open(found.home) as vault:
        values: dict[str, str] = {}
        for name, agreed in chosen.items():
            values |= load(vault, found.home.secrets, agreed, of=name)
        room = vault.as_caller(CEREMONY)
        for missing in sorted(set(OWN_KEYS) - {info.name for info in room.list_keys()}):
            room.generate_key(missing, missing)
    for name, value in values.items():
        output.done(f"{name} is in the gateway's token, check value [bold]{value}[/bold]")
    output.emit(
        {"components_written": [str(path) for path in written], "check_values": values},
        [f"Components in {found.home.secrets}: each is for one custodian."],
    )


def register(app: typer.Typer) -> None:
    """Add the commands to `kwbp ceremony`."""
    app.command("zone-keys")(zone_keys)
    app.command("key")(make_key)
