"""`kwbp ra revoke`, `suspend`, `reinstate`: signed orders about certificates; `renew`: the next keys of a case."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated, Final

import typer
from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding

from cli import enrolment, keyfiles, output
from cli.enrolment import now
from cli.output import plain, said
from cli.ra_desk import ApplicationId, AsPerson, PassphraseFile, Yes, agree, desk, resolve, tell
from cli.state import existing
from cps.model import ORDER_REASONS, Purpose
from cps.rekey_statement import build_rekey
from pki import cms_signed
from pki.keys import spki_sha256
from pki.oids import CT_REKEY
from ra.client import ApplicationView, RaClient
from ra.officer import draft_revocation
from runtime.language import Listed, Message, Term

Certificate = Annotated[
    str, typer.Argument(help="Serial number (hexadecimal) or a PEM file.", metavar="SERIAL|FILE", show_default=False)
]
_HOLD: Final = "certificateHold"
_RELEASE: Final = "removeFromCRL"


def register(app: typer.Typer) -> None:
    """Add the commands."""
    for command in (revoke, suspend, reinstate, renew):
        app.command()(command)


def revoke(
    certificate: Certificate,
    person: AsPerson,
    reason: Annotated[str, typer.Option(help=f"One of {', '.join(ORDER_REASONS)}.")],
    passphrase_file: PassphraseFile = None,
    invalid_since: Annotated[
        datetime | None, typer.Option(help="Since when the key is not to be relied on (UTC), if that is known.")
    ] = None,
    yes: Yes = False,
) -> None:
    """Sign the order to revoke a certificate. It takes effect in the next purchase, and is never taken back."""
    _order(certificate, reason, person, passphrase_file, yes, invalid_since)


def suspend(
    certificate: Certificate, person: AsPerson, passphrase_file: PassphraseFile = None, yes: Yes = False
) -> None:
    """Sign the order to suspend a certificate (certificateHold), until it is reinstated or revoked (CPS 4.9.13)."""
    _order(certificate, _HOLD, person, passphrase_file, yes)


def reinstate(
    certificate: Certificate, person: AsPerson, passphrase_file: PassphraseFile = None, yes: Yes = False
) -> None:
    """Sign the order to let a suspended certificate count again (removeFromCRL)."""
    _order(certificate, _RELEASE, person, passphrase_file, yes)


def renew(
    application: ApplicationId,
    requests: Annotated[
        list[Path],
        typer.Option(
            "--csr", help="PKCS#10 request of a new key (PEM), as PURPOSE=FILE or FILE for signing; repeatable."
        ),
    ],
    old_key: Annotated[
        Path | None, typer.Option(help="The signing key that is replaced (PEM): proves that its holder asks.")
    ] = None,
    old_passphrase_file: Annotated[Path | None, typer.Option(help="File of mode 0600 with its passphrase.")] = None,
) -> None:
    """Ask for certificates of new keys in the place of a case's (re-key, CPS 4.7): same subject, fewer steps.

    The proof of the old key is signed here and put on file before the request is handed in. What is to change beside
    the key needs an application of its own.
    """
    found = existing()
    csrs = dict(_request(each) for each in requests)
    with desk(found) as client:
        old = client.show(resolve(client, application))
        opened = client.open(old.member_class, replaces=old.id)
        if old_key is not None:
            proof = _proof(old, opened.id, csrs, old_key, old_passphrase_file)
            client.add_evidence(opened.id, "old_key", proof, source="holder of the replaced key")
        view = client.submit(opened.id, {}, csrs)
    tell(view)


def _order(
    certificate: str,
    reason: str,
    person: str,
    passphrase_file: Path | None,
    yes: bool,
    invalid_since: datetime | None = None,
) -> None:
    known = next((each for each in ORDER_REASONS if each == reason), None)
    if known is None:
        output.fail(
            Message("{reason} is no reason of the CPS", reason=repr(reason)),
            hint=Message("reasons: {reasons}", reasons=Listed(tuple(ORDER_REASONS))),
        )
    found = existing()
    signer, who = enrolment.acting(found, person, passphrase_file)
    since = None if invalid_since is None else invalid_since.replace(tzinfo=invalid_since.tzinfo or UTC)
    with desk(found, who) as client:
        draft = draft_revocation(_certificate(client, certificate), known, now=now(), invalidity_date=since)
        agree(draft.lines, yes=yes, person=person)
        answer = client.revoke(signer.sign(draft, now=now()))
    line = Message(
        "certificate {serial}: {standing} ({reason}) by order of {person}; on a list by {time}",
        serial=answer.serial,
        standing=Term("standing", answer.state),
        reason=answer.reason,
        person=answer.ordered_by,
        time=f"{answer.publish_by:%F %H:%M}",
    )
    output.emit(answer.model_dump(mode="json"), [plain(said(line))])


def _certificate(client: RaClient, text: str) -> x509.Certificate:
    if (found_in_file := enrolment.certificate_in(text)) is not None:
        return found_in_file
    story = client.explain(text)
    if story.certificate is None:
        output.fail(
            Message("no application has led to the certificate {serial}", serial=text),
            hint=Message("give its PEM file instead"),
        )
    return x509.load_der_x509_certificate(story.certificate.certificate)


def _request(named: Path) -> tuple[Purpose, bytes]:
    purpose, separator, file = str(named).partition("=")
    path = Path(file if separator else purpose)
    wanted: Purpose | None = next((each for each in _PURPOSES if each == purpose), None) if separator else "signing"
    try:
        request = x509.load_pem_x509_csr(path.read_bytes())
    except ValueError:
        request = None
    if wanted is None or request is None:
        output.fail(
            Message("{text} is no certification request", text=str(named)),
            hint=Message("expected {form}, for example {example}", form="PURPOSE=FILE", example="signing=new.csr"),
        )
    return wanted, request.public_bytes(Encoding.DER)


_PURPOSES: Final[tuple[Purpose, ...]] = ("signing", "encryption", "tls")


def _proof(
    old: ApplicationView, application: str, csrs: dict[Purpose, bytes], key_file: Path, passphrase_file: Path | None
) -> bytes:
    """The replaced signing key's statement that its holder asks for these keys (CMS, DER)."""
    passphrase = None if passphrase_file is None else keyfiles.passphrase_from(passphrase_file, "")
    key = keyfiles.load(key_file, passphrase)
    chains = enrolment.chains(old)
    chain = chains.get("signing", ())
    if not chain or chain[0].public_key() != key.public_key():
        output.fail(
            Message("{key} is not the key of a signing certificate of this case", key=key_file),
            hint=Message("the signing key that is replaced proves who asks"),
        )
    new = [spki_sha256(x509.load_der_x509_csr(each).public_key()) for each in csrs.values()]
    at = now().replace(microsecond=0)
    return cms_signed.sign(
        CT_REKEY,
        build_rekey(application, chain[0], new, at, beside=next(iter(chains.get("encryption", ())), None)),
        key=key,
        signer=chain[0],
        chain=list(chain[1:]),
        signing_time=at,
    )
