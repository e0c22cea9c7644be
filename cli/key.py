"""`kwbp key`: keys in the tokens, through the signing API."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import msgspec
import typer
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat, load_der_public_key
from cryptography.x509 import ObjectIdentifier

from cli import key_approval, key_backup, key_life, output
from cli.key_service import CHANGE, LOOK, service, standing
from cli.state import existing
from hsm_service.operation_info import ApprovalNeeded
from hsm_service.service import KeyInfo
from pki.oids import NAMES

app = typer.Typer(
    help="Keys in the tokens: make, show, rotate, limit, destroy, back up, attest, approve what is done with them.\n\n"
    "Who wants something done with a key asks for it; two security officers look and sign; the last signature has it "
    "done. The policy is hsm_service/dual_control.yaml.\n\n"
    "\b\n"
    "  operator   kwbp key rotate NAME --at +7d --reason 'yearly'    prints the id of the request\n"
    "  officers   kwbp key review ID --as security-officer-1         exactly what would be signed\n"
    "             kwbp key approve ID --as security-officer-1        each of them, for themselves\n"
    "  operator   kwbp key versions NAME                             what has become of it",
    no_args_is_help=True,
)
key_life.register(app)
key_backup.register(app)
key_approval.register(app)


@app.command(rich_help_panel=CHANGE)
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


@app.command("list", rich_help_panel=LOOK)
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
                standing(key),
                key.uses,
            )
            for key in found
        ],
        document=[msgspec.to_builtins(key) for key in found],
    )


@app.command(rich_help_panel=LOOK)
def show(name: Annotated[str, typer.Argument(help="Name of the key.")]) -> None:
    """Show one key: who may use it for what, and how its token protects it."""
    with service(existing()) as keys:
        info = keys.describe_key(name)
    output.emit(msgspec.to_builtins(info), _lines(info))


@app.command(rich_help_panel=LOOK)
def attest(
    name: Annotated[str, typer.Argument(help="Name of the key.")],
    out: Annotated[Path, typer.Option(help="Where to write the statement (DER SignedData).")],
    public_key: Annotated[Path | None, typer.Option(help="Where to write the public key (PEM) too.")] = None,
) -> None:
    """Get a signed statement that the key was made in its token and cannot leave it.

    It says what the token itself says of the key, now. Anybody judges it with OpenSSL and the root certificate.
    """
    found = existing()
    with service(found) as keys:
        out.write_bytes(keys.attest_key(name))
        if public_key is not None:
            loaded = load_der_public_key(keys.describe_key(name).public_key)
            public_key.write_bytes(loaded.public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo))
    judge = f"openssl cms -verify -inform DER -in {out} -CAfile {found.home.trust_anchors} -out statement.der"
    output.emit({"statement": str(out)}, [output.plain(f"Statement in {out}. Whoever has the root: '{judge}'.")])


def _lines(info: KeyInfo) -> list[str]:
    signs = [NAMES.get(ObjectIdentifier(oid), oid) for oid in info.content_types]
    attributes = ", ".join(name if value else f"not {name}" for name, value in sorted(info.attributes.items()))
    what = f"{info.algorithm} in the token {info.token}, {standing(info)}"
    return [
        f"[bold]{info.name}[/bold] version {info.version}: {what}",
        f"  purpose     {info.purpose} ({info.template})",
        f"  used by     {', '.join(info.callers)}",
        f"  signs       {', '.join(signs) or '-'}",
        f"  protection  {attributes}",
        f"  uses        {info.uses}",
        f"  limits      {', '.join(f'{name} {value}' for name, value in sorted(info.limits.items())) or 'none'}",
        f"  lies in     {', '.join((info.token, *info.replicas))}",
        f"  backup      {'can be made' if info.backup else 'never: the key cannot leave its token'}",
        f"  certificate {'yes' if info.certificate_chain else 'not yet'}",
    ]
