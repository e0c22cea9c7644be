"""`kwbp witness`: the witness of the audit logs: its key, the logs it trusts, and who trusts it."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated

import typer

from audit.keeper import pin_witness, pinned_witness
from audit.log_key import LOGS, key_name, load
from audit.note import VerifierKey
from audit.witness_service import WitnessFolder, read_vkey
from cli import output
from cli.state import existing

app = typer.Typer(
    no_args_is_help=True,
    help="""The witness of the audit logs.

A witness remembers how far each log had come, and co-signs a checkpoint only if it extends the last. A log that was
replaced by an older copy of itself is found by asking it: services do so before they open their log.

'kwbp init' makes one in the installation's own folder, good for a machine of one's own. In production it belongs to
another user, better to another machine and other people:

  there:  kwbp --home /srv/witness witness create        prints its vkey
          kwbp --home /srv/witness witness trust pki/    the published hierarchy, copied there
          kwbp --home /srv/witness serve witness
  here:   kwbp witness pin 'kwbp/witness-…+…+…'          and \\[witness] host, port in kwbp.toml
""",
)


@app.command("create")
def create() -> None:
    """Make the folder and the Ed25519 key of a witness, and print its vkey: what the services pin."""
    found = existing()
    made = WitnessFolder(found.home.witness).create()
    output.emit({"vkey": made.encode(), "folder": str(found.home.witness)}, [output.plain(made.encode())])
    output.note(
        "Where the services run: 'kwbp witness pin' with this; here: 'kwbp witness trust', 'kwbp serve witness'."
    )


@app.command("trust")
def trust(
    pki: Annotated[
        Path | None,
        typer.Argument(
            help="Published hierarchy with the certificates of the logs' keys.",
            show_default="the installation's",
            exists=True,
            file_okay=False,
        ),
    ] = None,
) -> None:
    """Trust the logs of a hierarchy: each key whose certificate leads to the root, and no other.

    Compare the root's fingerprint first. A running witness reads the list when it starts.
    """
    found = existing()
    logs = trust_logs(pki or found.home.pki, found.home.witness)
    output.table("Logs that the witness trusts", ("Log", "Key"), [(log.name, log.key_id.hex()) for log in logs])


@app.command("pin")
def pin(vkey: Annotated[str, typer.Argument(help="Of the witness: what 'kwbp witness create' prints there.")]) -> None:
    """Trust this witness, and no other, for the logs of this installation. Takes effect when services start."""
    found = existing()
    witness = VerifierKey.parse(vkey)
    pin_witness(found.home, witness)
    output.emit({"witness": witness.name}, [f"Cosignatures of {output.plain(witness.name)} count from now on."])


@app.command("show")
def show() -> None:
    """Show which witness the services trust, and which logs the witness of this folder trusts."""
    found = existing()
    pinned = pinned_witness(found.home)
    folder = WitnessFolder(found.home.witness)
    own = read_vkey(folder.vkey).encode() if folder.vkey.exists() else None
    document = {
        "pinned": None if pinned is None else pinned.encode(),
        "own": own,
        "logs": [log.encode() for log in folder.logs()],
    }
    output.emit(
        document,
        [
            f"The services trust  {output.plain(document['pinned'] or 'no witness')}",
            f"The witness here is {output.plain(own or 'not made')}",
            *(f"  it trusts {output.plain(log.name)}" for log in folder.logs()),
        ],
    )


def trust_logs(pki: Path, folder: Path) -> list[VerifierKey]:
    """Have the witness in `folder` trust the logs of the hierarchy in `pki`; raises NoteError."""
    now = datetime.now(UTC)
    logs = [(log, load(key_name(log), pki, now=now).verifier) for log in LOGS]
    for log, key in logs:
        WitnessFolder(folder).trust(log, key)
    return [key for _log, key in logs]
