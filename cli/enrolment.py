"""What enrolment has in common: reaching the RA, what to do with the certificates that it gives out."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding

from cli import keyfiles, output
from cli.officers import certificate_path, identity, token_place
from cli.state import Installation
from ra.client import ApplicationView, RaClient
from ra.officer import Officer, load_officer
from ra.request_signer import RequestSigner
from ra.states import CERTIFIED
from runtime.client import TlsFiles
from runtime.language import Message, Term


@dataclass(frozen=True, slots=True)
class Acting:
    """As whom the RA is called: the holder of `tls`, or who signs each request that `tls` carries."""

    tls: TlsFiles
    signer: RequestSigner | None = None


@contextmanager
def ra(found: Installation, who: Acting | TlsFiles | None) -> Iterator[RaClient]:
    """The RA as somebody, or anonymously."""
    acting = Acting(who) if isinstance(who, TlsFiles) else who
    client = RaClient(
        found.settings.ra.url,
        None if acting is None else acting.tls,
        ca=found.home.trust_anchors if acting is None else None,
        language=output.language(),
        signer=None if acting is None else acting.signer,
    )
    try:
        yield client
    finally:
        client.close()


def officer(found: Installation, person: str, passphrase_file: Path | None) -> tuple[Officer, TlsFiles]:
    """An officer of this machine: as a signer, and as a TLS client.

    Whose key is in a token signs there, and the operator's console speaks TLS for them: to the CA and the key service
    it hands in what they signed; the RA knows them by `acting`. The passphrase file then holds the PIN.
    """
    place = token_place(found, person)
    if place is not None:
        from cli import officer_token  # a token's software is loaded by those who have one

        return officer_token.load(found, person, place, passphrase_file), found.tls("operator")
    if not certificate_path(found, person).exists():
        output.fail(
            Message("there is no certificate of officer {person} on this machine", person=person),
            hint=Message("see {command}", command="'kwbp officer here'"),
        )
    passphrase = keyfiles.passphrase_from(passphrase_file, f"Passphrase of {person}")
    tls = identity(found, person, passphrase)
    return load_officer(tls.certificate, tls.key, passphrase), tls


def acting(found: Installation, person: str, passphrase_file: Path | None) -> tuple[Officer, Acting]:
    """An officer of this machine, who acts at the RA: by their own TLS, or signing each request in their token.

    The PIN or passphrase is asked for once.
    """
    signer, tls = officer(found, person, passphrase_file)
    if token_place(found, person) is None:
        return signer, Acting(tls)
    return signer, Acting(tls, RequestSigner(signer, rng=os.urandom, clock=now))


def chains(application: ApplicationView) -> dict[str, tuple[x509.Certificate, ...]]:
    """The certificates of an issued application by purpose, each with those above it."""
    return {
        issued.purpose: tuple(x509.load_der_x509_certificate(der) for der in (issued.certificate, *issued.chain))
        for issued in application.certificates
    }


def write_chain(path: Path, chain: tuple[x509.Certificate, ...]) -> None:
    """A certificate and those above it, PEM."""
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    path.write_bytes(b"".join(certificate.public_bytes(Encoding.PEM) for certificate in chain))


def certificate_in(text: str) -> x509.Certificate | None:
    """The certificate in the PEM file `text`; None if there is no such file. Ends the command if it holds none."""
    path = Path(text)
    if not path.is_file():
        return None
    try:
        return x509.load_pem_x509_certificate(path.read_bytes())
    except ValueError:
        output.fail(Message("{file} holds no certificate in PEM", file=path))


def explain_wait(application: ApplicationView) -> None:
    findings = "; ".join(f"{finding.message} ({finding.clause})" for finding in application.findings)
    why = findings or Message("an officer must decide")
    output.fail(
        Message(
            "the application {application} is {state}: {why}",
            application=application.id,
            state=Term("state", application.state),
            why=why,
        )
    )


def issued(found: Installation, application: str) -> dict[str, tuple[x509.Certificate, ...]]:
    """The certificates of an application that must be certified, by purpose; ends the command if it is not.

    Whoever has put them where they belong calls `accept` then: what nobody accepts is revoked (CPS 4.4.1).
    """
    with ra(found, found.tls("operator")) as client:
        view = client.show(application)
    if view.state not in CERTIFIED:
        explain_wait(view)
    return chains(view)


def accept(found: Installation, application: str) -> None:
    """Accept the certificates of an application that the operator of this machine handed in."""
    with ra(found, found.tls("operator")) as client:
        client.accept(application)


def report(view: ApplicationView) -> None:
    """Tell what became of an application that was handed in."""
    due = view.next_step
    waits = f"waits for {due.name} by {' or '.join(due.by)}" if due else "is decided"
    output.emit(
        view.model_dump(mode="json", by_alias=True),
        [f"Application [bold]{view.id}[/bold] is {view.state}; it {waits}."],
    )


def now() -> datetime:
    return datetime.now(UTC)
