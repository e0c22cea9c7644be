"""`kwbp officer`: who the officers are, their keys and certificates, the roles they are granted, and how they leave."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Annotated

import typer
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.serialization import Encoding

from cli import enrolment, keyfiles, officer_people, output
from cli.officers import (
    certificate_path,
    folder,
    key_path,
    next_of,
    request_path,
    take_next,
    token_place,
    write_token_place,
)
from cli.state import Installation, existing, installation
from hsm_service.officer_token_place import OfficerTokenPlace
from hsm_service.token_uri import TokenUriError
from pki import names
from pki.extensions import OfficerData
from ra.client import RaClient, State
from runtime.language import Message
from runtime.secrets import write_secret

app = typer.Typer(
    no_args_is_help=True,
    help="""Officers: who they are, their keys, what they are granted, how they leave.

  new-key, key     the officer makes a key, in a file or in a token; the first two bring theirs to the ceremony
  apply            somebody is to be appointed; two security officers decide ('kwbp ra approve')
  collect          the officer fetches the certificate
  list, show       the register: persons, accounts, credentials, roles
  grant, renew     another certificate, with other roles or for longer; needs a new key ('--next') and two officers
  close            an officer leaves: every credential is revoked, each by a signed order
""",
)
officer_people.register(app)

Person = Annotated[str, typer.Argument(help="The officer's person id, for example security-officer-1.")]
PassphraseFile = Annotated[
    Path | None, typer.Option(help="File of mode 0600 with the passphrase; without it you are asked.")
]
Algorithm = Annotated[keyfiles.AlgorithmChoice, typer.Option(help="Kind of key.")]
NextKey = Annotated[bool, typer.Option("--next", help="The key of another certificate, beside the one in use.")]


@app.command("new-key")
def new_key(
    person: Person,
    name: Annotated[str, typer.Option(help="The name in the certificate.")] = "",
    passphrase_file: PassphraseFile = None,
    algorithm: Algorithm = keyfiles.AlgorithmChoice.RSA,
    following: NextKey = False,
) -> None:
    """Make an officer's key, encrypted under a passphrase, and the request for its certificate."""
    found = installation()
    files = next_of(person) if following else person
    path = key_path(found, files)
    _require_free(found, files)
    passphrase = keyfiles.passphrase_from(passphrase_file, f"New passphrase for {person}", confirm=True)
    key = keyfiles.generate(algorithm)
    keyfiles.save(path, key, passphrase)
    request = _write_request(found, files, person, name, key)
    output.emit(
        {"person": person, "key": str(path), "request": str(request)}, [f"Key in {path}, request in {request}."]
    )


@app.command("key")
def token_key(
    person: Person,
    token: Annotated[
        str, typer.Option(help="PKCS#11 URI (RFC 7512): pkcs11:token=NAME?module-path=/…&pin-source=file:/…")
    ],
    name: Annotated[str, typer.Option(help="The name in the certificate.")] = "",
    pin_file: Annotated[
        Path | None, typer.Option(help="File of mode 0600 with the PIN; else the URI's pin-source, else you are asked.")
    ] = None,
    configuration: Annotated[
        Path | None, typer.Option(help="SoftHSM2's configuration file, for a token in software.")
    ] = None,
    algorithm: Algorithm = keyfiles.AlgorithmChoice.RSA,
    use: Annotated[bool, typer.Option("--use", help="Use the key that the URI names, and make none.")] = False,
    following: NextKey = False,
) -> None:
    """Make an officer's key in a token or smart card, where it stays, and the request for its certificate.

    What the officer signs is signed in the token, each request to the registration authority too, because a key in a
    token does not speak TLS here: the operator's console makes the connection (RFC 9421).
    """
    from cli import officer_token

    found = installation()
    files = next_of(person) if following else person
    _require_free(found, files)
    try:
        place = OfficerTokenPlace.parse(token, configuration)
    except TokenUriError as error:
        output.fail(str(error))
    opened = officer_token.opened(place, person, pin_file)
    ref = opened.named(place.uri) if use else opened.make(place.uri.object or files, algorithm.value)
    place = place.naming(token=ref.token, label=ref.label, cka_id=ref.cka_id)
    entry = write_token_place(found, files, place)
    request = _write_request(found, files, person, name, opened.key(place.uri))
    output.emit(
        {"person": person, "token": str(place.uri), "request": str(request)},
        [f"Key {output.plain(ref.label)} in token {output.plain(ref.token)} ({entry}), request in {request}."],
    )


@app.command()
def collect(
    person: Person,
    application: Annotated[str, typer.Argument(help="The application that was approved.")],
) -> None:
    """Fetch the certificate of an approved application and accept it (CPS 4.4.1)."""
    found = existing()
    with enrolment.ra(found, found.tls("operator")) as client:
        chain = _issued(client, application)
        take_next(found, person, chain[0])
        _require_mine(found, person, chain[0])
        enrolment.write_chain(certificate_path(found, person), chain)
        client.accept(application)
    serial = f"{chain[0].serial_number:x}"
    output.emit({"person": person, "serial": serial}, [f"{output.plain(person)} has certificate {serial}."])


@app.command("here")
def list_here() -> None:
    """Show the officers' certificates on this machine, without asking the registration authority."""
    found = installation()
    rows = []
    for path in sorted(folder(found).glob("*.pem")):
        certificate = x509.load_pem_x509_certificate(path.read_bytes())
        data = OfficerData.from_certificate(certificate)
        if data is not None:
            rows.append(
                (
                    data.person_id,
                    ", ".join((*data.roles, *(officer_people.grant_text(each) for each in data.grants))),
                    data.organisation,
                    certificate.not_valid_after_utc.date().isoformat(),
                    "token" if token_place(found, path.stem) is not None else "file",
                    certificate.fingerprint(hashes.SHA256()).hex()[:16],
                )
            )
    output.table("Officers here", ("Person", "Roles", "Organisation", "Until", "Key", "Fingerprint"), rows)


@app.command("new-passphrase")
def new_passphrase(
    path: Annotated[Path, typer.Argument(help="File to make, mode 0600.")],
) -> None:
    """Write a random passphrase to a new file, for unattended use of a key."""
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    write_secret(path, os.urandom(16).hex().encode() + b"\n")
    output.emit({"file": str(path)}, [f"Passphrase in {path}."])


def _write_request(found: Installation, files: str, person: str, name: str, key: keyfiles.PrivateKey) -> Path:
    request = keyfiles.request(key, names.name(cn=name or person), uris=[f"urn:kwbp:officer:{person}"])
    path = request_path(found, files)
    path.write_bytes(request.public_bytes(Encoding.PEM))
    return path


def _require_free(found: Installation, files: str) -> None:
    """One key a name, in a file or in a token: two would leave open which one signs."""
    if key_path(found, files).exists() or token_place(found, files) is not None:
        output.fail(
            Message("{person} has a key on this machine already", person=files),
            hint=Message("a key for another certificate is made with {option}", option="--next"),
        )


def _issued(client: RaClient, application: str) -> tuple[x509.Certificate, ...]:
    view = client.show(application)
    if view.state not in {State.ISSUED, State.ACTIVE}:
        enrolment.explain_wait(view)
    return enrolment.chains(view)["signing"]


def _require_mine(found: Installation, person: str, certificate: x509.Certificate) -> None:
    """The certificate is of the person and of the key that waits for one here; else the wrong one would be written."""
    data, request = OfficerData.from_certificate(certificate), request_path(found, person)
    if data is None or data.person_id != person:
        output.fail(Message("the certificate is not one of {person}", person=person))
    if not request.exists():
        return  # the key is elsewhere, and only the certificate is wanted here
    if x509.load_pem_x509_csr(request.read_bytes()).public_key() != certificate.public_key():
        output.fail(Message("the certificate is not of the key that {person} has here", person=person))
