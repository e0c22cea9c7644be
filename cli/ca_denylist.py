"""`kwbp ca denylist`: keys that are never certified again (CPS 4.9.12)."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from cli import enrolment, output
from cli.ca_search import key_digest
from cli.ca_service import moment, service
from cli.ca_status import AsPerson, PassphraseFile
from cli.enrolment import now
from cli.output import plain
from cli.state import existing
from ra.officer import draft_denial

app = typer.Typer(
    help="Keys that are never certified again.\n\n"
    "The key of a certificate that is revoked for keyCompromise is here by itself. Any other needs the orders of two "
    "officers, each signed for themselves:\n\n"
    "\b\n"
    "  officers   kwbp ca denylist sign leaked.pem --reason 'leaked' --as security-officer-1 --out one.p7s\n"
    "  operator   kwbp ca denylist add one.p7s two.p7s",
    no_args_is_help=True,
)


@app.command("list")
def list_keys(
    after: Annotated[str, typer.Option(help="Show those that follow this digest.")] = "",
    limit: Annotated[int, typer.Option(min=1, max=1000, help="How many.")] = 100,
) -> None:
    """Show denied keys, in the order of their digests."""
    with service(existing()) as client:
        keys = client.denylist(after=after, limit=limit)
    output.table(
        "Denied keys",
        ("SHA-256 of the SPKI", "Since", "Reason", "By"),
        [(each.spki_sha256, moment(each.listed_at), each.reason, each.listed_by) for each in keys],
        document=[each.model_dump(mode="json") for each in keys],
    )
    if len(keys) == limit:
        output.note(f"More may follow: --after {keys[-1].spki_sha256}")


@app.command()
def sign(
    key: Annotated[str, typer.Argument(help="SHA-256 of its SPKI, or a PEM file that has the key.", metavar="KEY")],
    reason: Annotated[str, typer.Option(help="Why, in a sentence; part of what is signed.")],
    person: AsPerson,
    out: Annotated[Path, typer.Option(help="Where to write the order (CMS SignedData).")],
    passphrase_file: PassphraseFile = None,
) -> None:
    """Sign the order that a key is never certified; another officer signs theirs, then both are handed in."""
    signer, _tls = enrolment.officer(existing(), person, passphrase_file)
    draft = draft_denial(bytes.fromhex(key_digest(key)), reason, now=now())
    for line in draft.lines:
        output.note(plain(line))
    out.write_bytes(signer.sign(draft, now=now()))
    output.emit({"order": str(out)}, [plain(f"Order of {person} in {out}; hand it in with another officer's: 'add'.")])


@app.command()
def add(
    orders: Annotated[list[Path], typer.Argument(help="Orders of different officers about one key.", exists=True)],
) -> None:
    """Hand in the orders of as many officers as the statement asks for."""
    with service(existing()) as client:
        denied = client.deny([path.read_bytes() for path in orders])
    why = f"{plain(denied.reason)}, by {plain(denied.listed_by or '-')}"
    output.emit(denied.model_dump(mode="json"), [f"The key {denied.spki_sha256} is never certified: {why}."])
