"""`kwbp key`: keys in the tokens, through the signing API."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated

import msgspec
import typer

from cli import key_approval, output
from cli.state import Installation, existing
from hsm_service.client import HsmClient
from hsm_service.operation_info import ApprovalNeeded
from hsm_service.service import KeyInfo

app = typer.Typer(help="Keys in the tokens: make, show, attest, approve what is done with them.", no_args_is_help=True)
key_approval.register(app)


@app.command()
def generate(
    name: Annotated[str, typer.Argument(help="Name of the key.")],
    template: Annotated[str, typer.Option(help="What kind of key: merchant-signing, gateway-signing …")],
    owner: Annotated[str | None, typer.Option(help="Whose key it is, where the template's keys have an owner.")] = None,
    reason: Annotated[str, typer.Option(help="Why, for the officers who approve it.")] = "",
) -> None:
    """Make a key in its token, once officers approved it. It never leaves."""
    with service(existing()) as keys:
        try:
            info = keys.generate_key(name, template, owner=owner, reason=reason)
        except ApprovalNeeded as needed:
            key_approval.report([needed.operation])
            return
    output.emit(msgspec.to_builtins(info), [f"{info.algorithm} key {info.name} in the token {info.token}."])


@app.command("list")
def list_keys() -> None:
    """Show the keys that the operator may see."""
    with service(existing()) as keys:
        found = keys.list_keys()
    output.table(
        "Keys",
        ("Name", "Version", "Token", "Algorithm", "Purpose", "State", "Uses"),
        [
            (
                key.name,
                key.version,
                ", ".join((key.token, *key.replicas)),
                key.algorithm,
                key.purpose,
                _state(key),
                key.uses,
            )
            for key in found
        ],
        document=[msgspec.to_builtins(key) for key in found],
    )


@app.command()
def show(name: Annotated[str, typer.Argument(help="Name of the key.")]) -> None:
    """Show one key: who may use it for what, and how its token protects it."""
    with service(existing()) as keys:
        info = keys.describe_key(name)
    output.emit(msgspec.to_builtins(info), _lines(info))


@app.command()
def attest(
    name: Annotated[str, typer.Argument(help="Name of the key.")],
    out: Annotated[Path, typer.Option(help="Where to write the statement (DER SignedData).")],
) -> None:
    """Get a signed statement that the key was made in its token and cannot leave it."""
    with service(existing()) as keys:
        out.write_bytes(keys.attest_key(name))
    output.emit({"statement": str(out)}, [f"Statement in {out}; 'openssl cms -verify' judges it."])


@contextmanager
def service(found: Installation, identity: str = "operator") -> Iterator[HsmClient]:
    """The signing API as `identity`."""
    client = HsmClient.connect(found.settings.hsm.url, found.tls(identity))
    try:
        yield client
    finally:
        client.close()


def _state(info: KeyInfo) -> str:
    """Where a version stands, in a few words."""
    if info.unusable is not None:
        return info.unusable
    if info.state == "DESTROY_SCHEDULED":
        return f"to be destroyed {info.destroy_at}"
    if info.state != "ENABLED" or info.in_use:
        return info.state
    if info.retires_at is not None:
        return "opens only"
    return f"from {info.activates_at}" if info.certificate_chain else "waits for its certificate"


def _lines(info: KeyInfo) -> list[str]:
    attributes = ", ".join(name if value else f"not {name}" for name, value in sorted(info.attributes.items()))
    return [
        f"[bold]{info.name}[/bold] version {info.version}: {info.algorithm} in the token {info.token}, {_state(info)}",
        f"  purpose     {info.purpose} ({info.template})",
        f"  used by     {', '.join(info.callers)}",
        f"  signs       {', '.join(info.content_types) or '-'}",
        f"  protection  {attributes}",
        f"  uses        {info.uses}",
        f"  limits      {', '.join(f'{name} {value}' for name, value in sorted(info.limits.items())) or 'none'}",
        f"  lies in     {', '.join((info.token, *info.replicas))}",
        f"  backup      {'can be made' if info.backup else 'never: the key cannot leave its token'}",
        f"  certificate {'yes' if info.certificate_chain else 'not yet'}",
    ]
