"""`kwbp key backup|restore-backup`: a key wrapped for one other token, and taken in there.

A backup is asked for over the network and approved by officers. A restore is a ceremony: the HSM service is stopped,
and who is there with the file and the token runs it.
"""

from __future__ import annotations

from base64 import b64decode
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any

import msgspec
import typer
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.serialization import load_pem_public_key

from audit import AuditError
from cli import key_approval, output
from cli.key_service import BACKUP, service
from cli.state import existing
from hsm_service.access import CEREMONY
from hsm_service.client import HsmClient
from hsm_service.operation_info import ApprovalNeeded
from hsm_service.operation_request import parse_request
from pki.keys import spki_der

_File = {"exists": True, "dir_okay": False}


def backup(
    name: Annotated[str, typer.Argument(help="Name of the key; its template must allow backups.")],
    out: Annotated[Path, typer.Option(help="Where to write the backup (DER SignedData).")],
    recipient: Annotated[
        str | None, typer.Option(help="Key that it is wrapped to: its name here, or a PEM file of its public half.")
    ] = None,
    attestation: Annotated[
        Path | None, typer.Option(help="What the token of a recipient elsewhere states about it.", **_File)
    ] = None,
    version: Annotated[int | None, typer.Option(help="Which version; else the one in use.", min=1)] = None,
    request: Annotated[str | None, typer.Option(help="Fetch the backup of this request, which was approved.")] = None,
    reason: Annotated[str, typer.Option(help="Why, for the officers who approve it.")] = "",
) -> None:
    """Have a key wrapped for the token of another key, once officers approved to whom. Nothing else can open it.

    The recipient is a key of the template backup-recipient, here or in another installation of this hierarchy: there
    'kwbp key attest NAME --out FILE --public-key FILE' writes what is needed. After the approvals, once more with
    --request.
    """
    with service(existing()) as keys:
        if request is not None:
            made = _fetched(keys, name, request)
        elif recipient is None:
            output.fail("there is no recipient", hint="name the key to wrap to with --recipient")
        else:
            made = _asked(keys, name, recipient, attestation, version, reason, out)
    out.write_bytes(made)
    output.emit({"backup": str(out)}, [f"Backup of {output.plain(name)} in {out}."])


def restore_backup(
    file: Annotated[Path, typer.Argument(help="The backup.", **_File)],
    recipient: Annotated[str, typer.Option(help="Name of the key that it is wrapped to; the key goes to its token.")],
    lost: Annotated[
        bool, typer.Option("--token-is-lost", help="The key's own token is lost for good: the other takes its place.")
    ] = False,
) -> None:
    """Take a key into another token, with the HSM service stopped. It signs there when its own token does not serve.

    This is a ceremony: it needs no officers' signatures, because they are there, and the journal names it so.
    """
    # Only here does a command open tokens.
    from hsm_service.provision import present
    from hsm_service.vault import SERVICE_TOKENS, Vault

    found = existing()
    try:
        with Vault.open(found.home, present(found.home, SERVICE_TOKENS)) as vault:
            info = vault.backups.restore(CEREMONY, file.read_bytes(), recipient=recipient, replaces=lost)
    except AuditError as error:
        output.fail(str(error), hint="a restore is a ceremony: stop the HSM service first")
    lies = ", then ".join((info.token, *info.replicas))
    output.emit(msgspec.to_builtins(info), [f"{info.name} version {info.version} is in the token {lies}."])


def register(app: typer.Typer) -> None:
    """Add the commands to `kwbp key`."""
    app.command(rich_help_panel=BACKUP)(backup)
    app.command("restore-backup", rich_help_panel=BACKUP)(restore_backup)


def _asked(
    keys: HsmClient, name: str, recipient: str, attestation: Path | None, version: int | None, reason: str, out: Path
) -> bytes:
    if attestation is None:
        spki, statement = keys.describe_key(recipient).public_key, keys.attest_key(recipient)
    else:
        spki, statement = _public_key(Path(recipient)), attestation.read_bytes()
    try:
        return keys.back_up(name, recipient=spki, attestation=statement, version=version, reason=reason)
    except ApprovalNeeded as needed:
        again = f"kwbp key backup {name} --request {needed.operation.id} --out {out}"
        key_approval.report([needed.operation], again)
        raise typer.Exit from None


def _fetched(keys: HsmClient, name: str, request_id: str) -> bytes:
    info = keys.operation(request_id)
    asked = parse_request(info.request)
    if asked.operation != "backup" or asked.parameters.get("key") != name:
        output.fail(f"that is no request for a backup of {name}", hint=f"see 'kwbp key review {request_id}'")
    outcome: Mapping[str, Any] = (info.result or {}).get("outcome") or {}
    if info.state != "DONE" or "backup" not in outcome:
        output.fail(f"the request is {info.state}", hint=f"see 'kwbp key review {request_id}'")
    return b64decode(outcome["backup"])


def _public_key(path: Path) -> bytes:
    try:
        return spki_der(load_pem_public_key(path.read_bytes()))
    except (OSError, ValueError, UnsupportedAlgorithm):
        output.fail(f"{path} is not a public key in PEM", hint="a recipient elsewhere is a file, see --help")
