"""`kwbp ceremony`: the founding acts, in which people meet and tokens are opened that no service reaches."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated

import msgspec
import typer

from audit import AuditError
from ca.ceremony import Ceremony, Entry, Plan, Step, founding_ceremony, load_ceremony, plan, run, verify
from ca.errors import CeremonyAbortedError
from ca.publication import Publication
from cli import output, witness
from cli.officers import folder as officers_folder
from cli.packs import statement
from cli.state import Installation, existing
from gateway_keys.zone_keys import load, make_components
from hsm_service.service import SigningService
from hsm_service.vault import Vault

app = typer.Typer(
    no_args_is_help=True,
    help="""Ceremonies: found the hierarchy, load zone keys, verify a transcript.

The founding acts, in which people meet: they stand in for officers' approvals, and the logs name them so. The HSM
service is stopped for as long, because a ceremony has the tokens for itself.

  plan        read it aloud before a token is touched
  run         the hierarchy; write down the transcript's tip
  verify      anybody, at any time, against that tip         offline
  zone-keys   once two custodians are there
  key         keys that a running service makes for nobody: for backups, for bare digests
""",
)

CALLER = "ceremony"
VAULT_KEY = "gateway-vault"

CeremonyFile = Annotated[
    Path | None,
    typer.Argument(help="Ceremony in YAML.", show_default="the founding ceremony of KWBP", exists=True, dir_okay=False),
]


@app.command("plan")
def plan_ceremony(file: CeremonyFile = None) -> None:
    """Check every input and show each step; no token is touched."""
    found = existing()
    made = _plan(found, _load(file))
    output.table(
        f"Ceremony {made.ceremony.ceremony.id}, plan {made.digest[:16]}",
        ("Room", "Step"),
        [(step.room, str(step)) for step in made.steps],
    )


@app.command("run")
def run_ceremony(
    file: CeremonyFile = None,
    adopt: Annotated[
        bool, typer.Option("--adopt", help="Use keys that an interrupted run left in the tokens.")
    ] = False,
) -> None:
    """Found the hierarchy: root, brand, cardholder, merchant, gateway and operations CA, services, officers."""
    found = existing()
    made = _plan(found, _load(file))

    def progress(step: Step, entry: Entry) -> None:
        fingerprint = entry.outcome.get("sha256") or entry.outcome.get("spki_sha256") or ""
        output.done(f"{step.room:<8} {step!s:<38} {str(fingerprint)[:16]}")

    try:
        founded = run(
            made,
            service_room=lambda: _service_room(found),
            root_room=lambda: _root_room(found),
            folder=found.home.pki,
            rng=os.urandom,
            clock=_now,
            adopt=adopt,
            progress=progress,
        )
    except CeremonyAbortedError as error:
        output.fail(
            str(error),
            hint="nothing was published; run it again with --adopt to use the keys that were made",
        )
    for entry in made.ceremony.services:
        shutil.copyfile(found.home.pki / "services" / f"{entry.name}.pem", found.home.tls / f"{entry.name}.pem")
    for officer in made.ceremony.officers:
        target = officers_folder(found) / f"{officer.person}.pem"
        shutil.copyfile(found.home.pki / "officers" / f"{officer.person}.pem", target)
    for log in witness.trust_logs(found.home.pki, found.home.witness):
        output.done(f"the witness trusts the log {log.name}")
    output.emit(
        {
            "hierarchy": str(found.home.pki),
            "certificates": len(founded.certificates),
            "crls": len(founded.crls),
            "transcript": founded.transcript.tip,
        },
        [
            f"{len(founded.certificates)} certificates and {len(founded.crls)} CRLs in {found.home.pki}.",
            "Next: 'kwbp ceremony verify', 'kwbp ceremony zone-keys', then 'kwbp serve'.",
            f"Read aloud and write down: transcript [bold]{founded.transcript.tip}[/bold]",
        ],
    )


@app.command("verify")
def verify_ceremony() -> None:
    """Verify the published hierarchy against its transcript, offline."""
    found = existing()
    verified = verify(found.home.pki, now=_now())
    output.emit(
        {
            "transcript": verified.tip,
            "keys": verified.keys,
            "certificates": verified.certificates,
            "crls": verified.crls,
        },
        [
            f"{verified.keys} keys, {verified.certificates} certificates, {verified.crls} CRLs are as recorded.",
            verified.tip,
        ],
    )


@app.command("key")
def make_key(
    name: Annotated[str, typer.Argument(help="Name of the key.")],
    template: Annotated[str, typer.Option(help="What kind of key: backup-recipient, raw-ec, issuing-ca-recoverable …")],
    owner: Annotated[str | None, typer.Option(help="Whose key it is, where the template's keys have an owner.")] = None,
) -> None:
    """Make a key that ceremonies alone make, with the HSM service stopped; 'kwbp key generate' makes the others."""
    found = existing()
    try:
        with _service_room(found) as room:
            info = room.generate_key(name, template, owner=owner)
    except AuditError as error:
        output.fail(str(error), hint="a ceremony has the tokens for itself: stop the HSM service first")
    output.emit(msgspec.to_builtins(info), [f"{info.algorithm} key {info.name} in the token {info.token}."])


@app.command("zone-keys")
def zone_keys() -> None:
    """Make the components of the zone keys, one file a custodian, and load them into the gateway's token."""
    found = existing()
    written = make_components(found.home.secrets)
    with Vault.open(found.home) as vault:
        values = load(vault, found.home.secrets)
        room = vault.as_caller(CALLER)
        if VAULT_KEY not in {info.name for info in room.list_keys()}:
            room.generate_key(VAULT_KEY, VAULT_KEY)
    for name, value in values.items():
        output.done(f"{name} is in the gateway's token, check value [bold]{value}[/bold]")
    output.emit(
        {"components_written": [str(path) for path in written], "check_values": values},
        [f"Components in {found.home.secrets}: each is for one custodian."],
    )


def _load(file: Path | None) -> Ceremony:
    if file is None:
        return founding_ceremony()
    return load_ceremony(file.read_bytes())


def _plan(found: Installation, ceremony: Ceremony) -> Plan:
    requests: dict[str, bytes] = {}
    for entry in ceremony.services:
        path = found.home.tls / f"{entry.name}.csr"
        if path.exists():
            requests[entry.request] = path.read_bytes()
    for officer in ceremony.officers:
        path = officers_folder(found) / f"{officer.person}.csr"
        if path.exists():
            requests[officer.request] = path.read_bytes()
    publication = Publication(found.settings.repository.url, statement().cps.uri)
    return plan(ceremony, requests, publication)


@contextmanager
def _service_room(found: Installation) -> Iterator[SigningService]:
    with Vault.open(found.home) as vault:
        yield vault.as_caller(CALLER)


@contextmanager
def _root_room(found: Installation) -> Iterator[SigningService]:
    with Vault.open_root(found.home) as vault:
        yield vault.as_caller(CALLER)


def _now() -> datetime:
    return datetime.now(UTC)
