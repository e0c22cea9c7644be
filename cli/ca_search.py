"""`kwbp ca search` and `show`: which certificates there are, and everything about one."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import suppress
from datetime import timedelta
from pathlib import Path
from typing import Annotated, Final, cast, get_args

import typer
from cryptography.hazmat.primitives.asymmetric.types import CertificatePublicKeyTypes
from cryptography.hazmat.primitives.serialization import load_pem_public_key
from cryptography.x509 import load_pem_x509_certificate, load_pem_x509_csr

from ca.api import CertificateStatus, StatusChangeAnswer, StoryAnswer
from ca.client import Search
from cli import output
from cli.ca_service import LOOK, Named, moment, named, service
from cli.enrolment import now
from cli.output import plain
from cli.state import existing
from pki.keys import spki_sha256

_STATUSES: Final = get_args(CertificateStatus)
_DIGEST: Final = 64

Serial = Annotated[str | None, typer.Option(help="Serial number, hexadecimal.")]
Subject = Annotated[str | None, typer.Option(help="Part of the subject's name.")]
Identity = Annotated[str | None, typer.Option(help="urn:kwbp:merchant:M-1, or a cardholder's commitment.")]
OfKey = Annotated[str | None, typer.Option("--key", help="SHA-256 of a key's SPKI, or a PEM file that has the key.")]
Digest = Annotated[str | None, typer.Option("--sha256", help="SHA-256 of the certificate.")]
Issuer = Annotated[str | None, typer.Option(help="Authority: merchant-ca, gateway-ca …")]
ProfileName = Annotated[str | None, typer.Option("--profile", help="Profile: merchant-signing, officer …")]
StatusName = Annotated[str | None, typer.Option("--status", help=f"One of {', '.join(_STATUSES)}.")]
Expiring = Annotated[int | None, typer.Option(min=0, help="Ends within so many days, and has not ended yet.")]


def register(app: typer.Typer) -> None:
    """Add the commands."""
    app.command(rich_help_panel=LOOK)(search)
    app.command(rich_help_panel=LOOK)(show)


def wanted(
    serial: str | None,
    subject: str | None,
    identity: str | None,
    key: str | None,
    sha256: str | None,
    issuer: str | None,
    profile: str | None,
    status: str | None,
    expiring: int | None,
) -> Search:
    """What the options of a search ask for; ends the command if one is none."""
    state = next((each for each in _STATUSES if each == status), None)
    if status is not None and state is None:
        output.fail(f"{status!r} is no status", hint=f"one of {', '.join(_STATUSES)}", code=2)
    soon = None if expiring is None else now()
    return Search(
        serial=serial,
        subject=subject,
        identity=identity,
        spki_sha256=None if key is None else key_digest(key),
        sha256=sha256,
        issuer=issuer,
        profile=profile,
        status=state,
        expires_from=soon,
        expires_before=None if soon is None or expiring is None else soon + timedelta(days=expiring),
    )


def key_digest(text: str) -> str:
    """The SHA-256 of an SPKI: as it is, or of the certificate, request or public key in a PEM file."""
    path = Path(text)
    if not path.is_file():
        if len(text) == _DIGEST and all(each in "0123456789abcdefABCDEF" for each in text):
            return text.lower()
        output.fail(f"{text!r} is neither a file nor a SHA-256 digest", hint="a digest has 64 hexadecimal digits")
    content = path.read_bytes()
    kinds: tuple[Callable[[bytes], CertificatePublicKeyTypes], ...] = (_bare, _certified, _requested)
    for load in kinds:
        with suppress(ValueError, TypeError):
            return spki_sha256(load(content)).hex()
    return output.fail(f"{path} holds no public key, certificate or request in PEM")


def _bare(pem: bytes) -> CertificatePublicKeyTypes:
    return cast(CertificatePublicKeyTypes, load_pem_public_key(pem))


def _certified(pem: bytes) -> CertificatePublicKeyTypes:
    return load_pem_x509_certificate(pem).public_key()


def _requested(pem: bytes) -> CertificatePublicKeyTypes:
    return load_pem_x509_csr(pem).public_key()


def search(
    serial: Serial = None,
    subject: Subject = None,
    identity: Identity = None,
    key: OfKey = None,
    sha256: Digest = None,
    issuer: Issuer = None,
    profile: ProfileName = None,
    status: StatusName = None,
    expiring: Expiring = None,
    limit: Annotated[int, typer.Option(min=1, max=1000, help="How many on a page.")] = 50,
    after: Annotated[str | None, typer.Option(help="Where the page before ended, as it says.")] = None,
) -> None:
    """Find certificates that have all the given properties, newest first.

    \b
      kwbp ca search --status good --expiring 30      who must renew within a month
      kwbp ca search --key merchant.csr               whether a key was ever certified
      kwbp ca search --status held                    what is suspended
    """
    query = wanted(serial, subject, identity, key, sha256, issuer, profile, status, expiring)
    with service(existing()) as client:
        page = client.page(after=after, limit=limit, **query)
    output.table(
        "Certificates",
        ("Serial", "Issuer", "Profile", "Subject", "Identity", "Until", "Status"),
        [
            (each.serial, each.issuer, each.profile, each.subject, each.identity, moment(each.not_after), each.status)
            for each in page.certificates
        ],
        document=page.model_dump(mode="json"),
    )
    if page.next is not None:
        output.note(plain(f"More follow: the same with --after '{page.next}'"))
    elif not page.certificates:
        output.note("No certificate is like this.")


def show(certificate: Named) -> None:
    """Show everything about one certificate, on one page: status and lists, checks, approvals, log entries."""
    with service(existing()) as client:
        target = named(client, certificate)
        story = client.look_up(target.issuer, target.serial)
    status = target.status if story.status == "good" else story.status
    document = story.model_dump(mode="json") | {"status": status}
    output.emit(document, list(_lines(story, str(status))))


def _lines(story: StoryAnswer, status: str) -> Iterator[str]:
    issued = story.certificate
    colour = "green" if status == "good" else "red"
    yield f"[bold]Certificate {issued.serial}[/bold] of {issued.issuer}  [{colour}]{status}[/{colour}]"
    yield f"  subject     {plain(issued.subject)}"
    yield f"  identity    {plain(issued.identity or '-')}"
    yield f"  profile     {issued.profile}{f', for {issued.purpose}' if issued.purpose else ''}"
    yield f"  valid       {moment(issued.not_before)} to {moment(issued.not_after)}"
    yield f"  SHA-256     {issued.sha256}"
    yield f"  key         {issued.spki_sha256}"
    for change in story.history:
        yield f"  {change.state:<11} {_change(change)}"
    if story.revocation is not None:
        gone = story.revocation
        first = "no list yet" if gone.crl_number is None else f"list {gone.crl_number} ({gone.crl_scope}) and after"
        yield f"  shown by    {first}"
    if story.intent is None:
        yield "  issued      at a ceremony or to a responder: no case ('kwbp ceremony verify' judges it)"
    else:
        yield f"  intended    {moment(story.intent.intended_at)}, TBS SHA-256 {story.intent.tbs_sha256[:16]}…"
        for each in story.intent.approvals:
            who = f"{plain(each['person'])} ({plain(each['organisation'])})"
            yield f"  approved    {plain(each['step'])} by {who}, {plain(each['signed_at'])}"
        yield f"  lints       {len(story.intent.lints)} kept: {', '.join(story.intent.lints)}"
    if story.cps_digest is not None:
        yield f"  statement   SHA-256 {story.cps_digest[:16]}…"
    if story.log:
        yield f"  journal     {', '.join(f'{event} {number}' for event, number in story.log.items())}"


def _change(change: StatusChangeAnswer) -> str:
    published = f"on a list since {moment(change.published_at)}" if change.published_at else "NOT published yet"
    due = f", due {moment(change.due_at)}" if change.due_at else ""
    return f"{moment(change.at)} ({change.reason}) by {plain(change.ordered_by)}; {published}{due}"
