"""`kwbp officer list|show|apply|grant|renew|close`: officers as persons, from their appointment to their leaving.

Everything that gives somebody power is an application that two security officers sign; everything that takes it away
is an order that one signs. A role that is granted for a time ends by itself.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated, Any

import typer
from cryptography import x509
from pydantic import ValidationError

from cli import enrolment, output
from cli.officers import next_of, request_path
from cli.output import plain
from cli.state import Installation, existing
from cps.dossier import Grant, OfficerSubject
from cps.model import OrderReason
from pki.extensions import OfficerData, RoleGrant
from ra.client import CredentialView, OfficerView, RaClient
from ra.officer import draft_revocation
from runtime.language import Message

_COUNTS = "counts"
_LEAVES: OrderReason = "affiliationChanged"
_REPLACED: OrderReason = "superseded"

Person = Annotated[str, typer.Argument(help="Person id.")]
Roles = Annotated[list[str] | None, typer.Option("--role", help="Trusted role in full; may be repeated.")]
Grants = Annotated[
    list[str] | None,
    typer.Option(
        "--grant",
        help="Role for a time, some for certain classes only: ROLE=FROM..UNTIL or ROLE/CLASS,CLASS=FROM..UNTIL, with "
        "dates or times (ISO 8601, UTC); may be repeated.",
    ),
]
NationalCode = Annotated[str | None, typer.Option(help="National code: one human has one person id.")]


def list_officers() -> None:
    """Show everybody who is or was an officer, with the roles they hold now."""
    found = existing()
    with enrolment.ra(found, found.tls("operator")) as client:
        views = client.officers()
    output.table(
        "Officers",
        ("Person", "Name", "Organisation", "Roles now", "Account", "Certificate until"),
        [
            (
                view.person_id,
                view.name,
                view.organisation,
                ", ".join(view.roles),
                "open" if view.account_open else "closed",
                f"{max(each.not_after for each in view.credentials):%F}",
            )
            for view in views
        ],
        document=[view.model_dump(mode="json") for view in views],
    )


def show(person: Person) -> None:
    """Show one officer: every credential, how it stands, and the roles it proves."""
    found = existing()
    with enrolment.ra(found, found.tls("operator")) as client:
        view = client.officer(person)
    account = f"{view.account}, {'open' if view.account_open else 'closed'}"
    lines = [
        f"[bold]{plain(view.person_id)}[/bold]  {plain(view.name)}, {plain(view.organisation)}",
        f"  account     {plain(account)}, known since {view.known_since:%F}",
    ]
    for each in view.credentials:
        origin = "the ceremony" if each.application_id is None else f"application {each.application_id}"
        lines.append(f"  credential  {each.issuer} {each.serial} {each.state}, until {each.not_after:%F}, by {origin}")
        lines += [f"    {plain(grant_text(grant))}" for grant in _data(each).grants]
        lines += [f"    {plain(role)}" for role in _data(each).roles]
    output.emit(view.model_dump(mode="json"), lines)


def apply(
    person: Annotated[str, typer.Argument(help="Person id of the officer to be appointed.")],
    name: Annotated[str, typer.Option(help="The name in the certificate.")],
    role: Roles = None,
    granted: Grants = None,
    organisation: Annotated[str, typer.Option(help="Who employs the officer.")] = "KWBP",
    national_code: NationalCode = None,
) -> None:
    """Apply for an officer's certificate; two security officers decide (CPS 5.3)."""
    found = existing()
    subject = _subject(person, name, organisation, role or (), [_grant(text) for text in granted or ()])
    _apply(found, subject, _request(found, person), national_code)


def grant(
    person: Person,
    role: Roles = None,
    granted: Grants = None,
) -> None:
    """Apply for a certificate with other roles, in the place of the one in use; two security officers decide.

    The roles named here are all that the new certificate proves; without '--role' those in full stay as they are. When
    it is collected, 'kwbp officer close PERSON --superseded' revokes the old one.
    """
    _again(person, role, [_grant(text) for text in granted or ()])


def renew(person: Person) -> None:
    """Apply for a certificate with the same roles and grants that are not over, in the place of the one in use."""
    _again(person, None, None)


def close(
    person: Person,
    who: Annotated[str, typer.Option("--as", help="The officer who orders it; the key must be on this machine.")],
    passphrase_file: Annotated[
        Path | None, typer.Option(help="File of mode 0600 with the officer's passphrase; without it you are asked.")
    ] = None,
    superseded: Annotated[
        bool, typer.Option("--superseded", help="Revoke all but the newest, which takes their place.")
    ] = False,
) -> None:
    """Revoke the credentials of an officer who leaves: the account is closed when none counts any more (CPS 4.9).

    There is no other way to close it: each credential ends by an order that an officer signs and the certification
    authority judges. Run it again after an interruption; what is revoked stays so.
    """
    found = existing()
    signer, acting = enrolment.acting(found, who, passphrase_file)
    done: list[str] = []
    with enrolment.ra(found, acting) as client:
        counting = [each for each in client.officer(person).credentials if each.state == _COUNTS]
        for each in counting[1:] if superseded else counting:
            certificate = x509.load_der_x509_certificate(each.certificate)
            draft = draft_revocation(certificate, _REPLACED if superseded else _LEAVES, now=enrolment.now())
            for line in draft.lines:
                output.note(plain(line))
            done.append(client.revoke(signer.sign(draft, now=enrolment.now())).serial)
        view = client.officer(person)
    output.emit(
        {"person": person, "revoked": done, "account_open": view.account_open},
        [f"{len(done)} credentials of {plain(person)} revoked; the account is {_open(view)}."],
    )


def register(app: typer.Typer) -> None:
    """Add the commands to `kwbp officer`."""
    app.command("list")(list_officers)
    for command in (show, apply, grant, renew, close):
        app.command()(command)


def grant_text(granted: RoleGrant) -> str:
    """A grant as `--grant` takes it."""
    scope = "" if granted.scope is None else "/" + ",".join(granted.scope)
    return f"{granted.role}{scope}={_instant(granted.not_before)}..{_instant(granted.not_after)}"


def _instant(at: datetime) -> str:
    return at.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def _open(view: OfficerView) -> str:
    return "open" if view.account_open else "closed"


def _data(credential: CredentialView) -> OfficerData:
    data = OfficerData.from_certificate(x509.load_der_x509_certificate(credential.certificate))
    assert data is not None  # the register takes in nothing else
    return data


def _grant(text: str) -> Grant:
    what, equals, when = text.partition("=")
    role, slash, classes = what.partition("/")
    begins, dots, ends = when.partition("..")
    fields: dict[str, Any] = {"role": role, "scope": tuple(classes.split(",")) if slash else None}
    try:
        if not equals or not dots:
            raise ValueError("no times")
        return Grant(**fields, not_before=_time(begins), not_after=_time(ends))
    except ValueError:  # pydantic's is one
        output.fail(
            Message("{text} is no grant of a role", text=text),
            hint=Message("expected {form}", form="ROLE/CLASS,CLASS=2027-01-01..2027-02-01"),
        )


def _time(text: str) -> datetime:
    at = datetime.fromisoformat(text)
    return at if at.tzinfo is not None else at.replace(tzinfo=UTC)


def _subject(
    person: str, name: str, organisation: str, roles: Sequence[str], granted: Sequence[Grant]
) -> OfficerSubject:
    try:
        return OfficerSubject(
            person_id=person,
            name=name,
            organisation=organisation,
            roles=tuple(roles),
            grants=tuple(granted) or None,
        )
    except ValidationError:
        output.fail(
            Message("this is no officer who can be appointed"),
            hint=Message("an officer has a person id, a name, an organisation and at least one role"),
        )


def _again(person: str, roles: Sequence[str] | None, granted: Sequence[Grant] | None) -> None:
    """Apply for another certificate of a person: what is None stays as the newest one has it."""
    found = existing()
    request = _request(found, next_of(person), hint=f"'kwbp officer new-key {person} --next'")
    with enrolment.ra(found, found.tls("operator")) as client:
        newest = _newest(client, person)
    data, now = _data(newest), enrolment.now()
    if granted is None:
        left = [each for each in data.grants if each.not_after > now]
        granted = [Grant(**{name: getattr(each, name) for name in Grant.model_fields}) for each in left]
    name = x509.load_der_x509_certificate(newest.certificate).subject
    subject = _subject(
        person,
        str(name.get_attributes_for_oid(x509.NameOID.COMMON_NAME)[0].value),
        data.organisation,
        data.roles if roles is None else roles,
        granted,
    )
    _apply(found, subject, request, None)


def _newest(client: RaClient, person: str) -> CredentialView:
    counting = [each for each in client.officer(person).credentials if each.state == _COUNTS]
    if not counting:
        output.fail(
            Message("no credential of {person} counts any more", person=person),
            hint=Message("appoint them anew: {command}", command="'kwbp officer apply'"),
        )
    return counting[0]


def _request(found: Installation, files: str, *, hint: str | None = None) -> bytes:
    path = request_path(found, files)
    if not path.exists():
        output.fail(
            Message("{person} has no key yet", person=files),
            hint=Message("the officer runs {command}", command=hint or f"'kwbp officer new-key {files}'"),
        )
    return path.read_bytes()


def _apply(found: Installation, subject: OfficerSubject, request: bytes, national_code: str | None) -> None:
    with enrolment.ra(found, found.tls("operator")) as client:
        view = client.apply("officer", subject, {"signing": request}, national_code=national_code)
    enrolment.report(view)
