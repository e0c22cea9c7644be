"""`kwbp officer`: the keys with which officers sign their decisions. Each officer runs this for themselves."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Annotated

import typer
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.serialization import Encoding

from cli import enrolment, keyfiles, output
from cli.officers import folder, key_path
from cli.state import existing, installation
from cps.dossier import OfficerSubject
from pki import names
from pki.extensions import OfficerData
from runtime.secrets import write_secret

app = typer.Typer(help="Officers' keys: make one, see whose they are.", no_args_is_help=True)

PassphraseFile = Annotated[
    Path | None, typer.Option(help="File of mode 0600 with the passphrase; without it you are asked.")
]


@app.command("new-key")
def new_key(
    person: Annotated[str, typer.Argument(help="The officer's person id, for example security-officer-1.")],
    name: Annotated[str, typer.Option(help="The name in the certificate.")] = "",
    passphrase_file: PassphraseFile = None,
    algorithm: Annotated[keyfiles.AlgorithmChoice, typer.Option(help="Kind of key.")] = keyfiles.AlgorithmChoice.RSA,
) -> None:
    """Make an officer's key, encrypted under a passphrase, and the request for its certificate."""
    found = installation()
    path = key_path(found, person)
    passphrase = keyfiles.passphrase_from(passphrase_file, f"New passphrase for {person}", confirm=True)
    key = keyfiles.generate(algorithm)
    keyfiles.save(path, key, passphrase)
    request = keyfiles.request(key, names.name(cn=name or person), uris=[f"urn:kwbp:officer:{person}"])
    path.with_suffix(".csr").write_bytes(request.public_bytes(Encoding.PEM))
    output.emit(
        {"person": person, "key": str(path), "request": str(path.with_suffix(".csr"))},
        [f"Key in {path}, request in {path.with_suffix('.csr')}."],
    )


@app.command()
def apply(
    person: Annotated[str, typer.Argument(help="Person id of the officer to be appointed.")],
    name: Annotated[str, typer.Option(help="The name in the certificate.")],
    role: Annotated[list[str], typer.Option(help="Trusted role, as the CPS names it; may be repeated.")],
    organisation: Annotated[str, typer.Option(help="Who employs the officer.")] = "KWBP",
) -> None:
    """Apply for an officer's certificate; two security officers decide (CPS 5.3)."""
    found = existing()
    request = key_path(found, person).with_suffix(".csr")
    if not request.exists():
        output.fail(f"{person} has no key yet", hint=f"the officer runs 'kwbp officer new-key {person}'")
    subject = OfficerSubject(person_id=person, name=name, organisation=organisation, roles=tuple(role))
    with enrolment.ra(found, found.tls("operator")) as client:
        view = client.apply("officer", subject, {"signing": request.read_bytes()})
    enrolment.report(view)


@app.command()
def collect(
    person: Annotated[str, typer.Argument(help="Person id.")],
    application: Annotated[str, typer.Argument(help="The application that was approved.")],
) -> None:
    """Fetch the certificate of an approved application."""
    found = existing()
    chain = enrolment.issued(found, application)["signing"]
    enrolment.write_chain(folder(found) / f"{person}.pem", chain)
    enrolment.accept(found, application)
    output.emit(
        {"person": person, "serial": f"{chain[0].serial_number:x}"},
        [f"{person} has certificate {chain[0].serial_number:x}."],
    )


@app.command("list")
def list_officers() -> None:
    """Show the officers' certificates on this machine."""
    found = installation()
    rows = []
    for path in sorted(folder(found).glob("*.pem")):
        certificate = x509.load_pem_x509_certificate(path.read_bytes())
        data = OfficerData.from_certificate(certificate)
        if data is not None:
            rows.append(
                (
                    data.person_id,
                    ", ".join(data.roles),
                    data.organisation,
                    certificate.not_valid_after_utc.date().isoformat(),
                    certificate.fingerprint(hashes.SHA256()).hex()[:16],
                )
            )
    output.table("Officers", ("Person", "Roles", "Organisation", "Until", "Fingerprint"), rows)


@app.command("new-passphrase")
def new_passphrase(
    path: Annotated[Path, typer.Argument(help="File to make, mode 0600.")],
) -> None:
    """Write a random passphrase to a new file, for unattended use of a key."""
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    write_secret(path, os.urandom(16).hex().encode() + b"\n")
    output.emit({"file": str(path)}, [f"Passphrase in {path}."])
