"""`kwbp ceremony seal|words`: who was there signs the transcripts; fingerprints as words to read aloud."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Annotated, Any

import typer
from cryptography import x509

from audit import AuditError
from ca.ceremony.seal import Recorded, countersign, participate, recorded, seal_folder, stamp
from ca.ceremony.seal_check import Sealed, judge_participant, require_sealable, verify_seals
from ca.ceremony.words import Language, lines
from ca.errors import CeremonyError
from ca.tsa import Numbers, read_request, tst_info
from cli import enrolment, output
from cli.ceremony_rooms import IN_USE, now
from cli.key_approval import Language as Shown
from cli.state import Installation, existing
from hsm_service.access import CEREMONY
from hsm_service.service import SignCommand
from hsm_service.vault import Vault
from pki.oids import CT_CEREMONY_SEAL
from pki.timestamp import build_query
from ra.officer import Draft

_TSA = "tsa"
_TOKEN = "ca"  # noqa: S105 - the label of the token that has the attestation key and the time-stamp authority's


def seal_transcripts(
    person: Annotated[str | None, typer.Option("--as", help="The officer who signs; one a call.")] = None,
    passphrase_file: Annotated[
        Path | None, typer.Option(help="File of mode 0600 with the officer's passphrase; without it you are asked.")
    ] = None,
    close: Annotated[
        bool, typer.Option("--stamp", help="The audit key countersigns, and the time-stamp authority says when.")
    ] = False,
) -> None:
    """Seal every transcript that is not sealed yet: first two officers, one after the other, then '--stamp'.

    For '--stamp' the HSM service is stopped, as for every ceremony. 'kwbp ceremony verify' tells what is missing.
    """
    if (person is None) is not close:
        output.fail("either an officer signs (--as PERSON), or the seal is closed (--stamp)")
    found = existing()
    open_ones = [each for each in recorded(found.home.pki) if not seal_folder(found.home.pki, each).stamp.exists()]
    if person is not None:
        _sign(found, open_ones, person, passphrase_file)
    else:
        _close(found, open_ones)
    report = verify_seals(found.home.pki)
    output.emit(document(report), [f"{len(open_ones)} transcripts.", *describe(report)])


def show_words(
    fingerprint: Annotated[str, typer.Argument(help="SHA-256 in hexadecimal, with or without colons.")],
    language: Annotated[Shown, typer.Option("--language", envvar="KWBP_LANGUAGE", help="Persian or English.")] = (
        Shown.EN
    ),
    whole: Annotated[bool, typer.Option("--all", help="All 256 bits, not the first 80.")] = False,
) -> None:
    """Show a fingerprint as words; the last one is a check of the others."""
    spoken = lines(fingerprint, language.value, whole=whole)
    output.emit({"fingerprint": fingerprint, "words": " ".join(spoken).split()}, spoken)


def aloud(fingerprint: str, languages: tuple[Language, ...] = ("en", "fa")) -> list[str]:
    """The words of a fingerprint in each language, one line a language: shown beside it."""
    return [f"  {' '.join(lines(fingerprint, language))}" for language in languages]


def document(report: Sealed) -> dict[str, Any]:
    """What is sealed, for programs."""
    return {
        "root": report.root,
        "missing": list(report.missing),
        "seals": [
            {
                "transcript": seal.file,
                "ceremony": seal.ceremony,
                "entries": seal.entries,
                "tip": seal.tip,
                "by": [
                    {"person": each.person, "roles": list(each.roles), "at": each.signed_at.isoformat()}
                    for each in seal.participants
                ],
                "countersigned_at": None if seal.countersigned_at is None else seal.countersigned_at.isoformat(),
                "stamped_at": None if seal.stamped_at is None else seal.stamped_at.isoformat(),
                "missing": list(seal.missing),
            }
            for seal in report.seals
        ],
    }


def describe(report: Sealed) -> list[str]:
    """The same for people."""
    told = []
    for seal in report.seals:
        people = ", ".join(output.plain(each.person) for each in seal.participants) or "nobody"
        when = "not stamped" if seal.stamped_at is None else f"stamped {seal.stamped_at:%Y-%m-%d %H:%M:%SZ}"
        told.append(f"{output.plain(seal.file)}, {seal.entries} entries: sealed by {people}; {when}.")
        told.extend(f"  missing: {each}" for each in seal.missing)
    return [*told, *(f"Missing: {output.plain(each)}." for each in report.missing)]


def register(app: typer.Typer) -> None:
    """Add the commands to `kwbp ceremony`."""
    app.command("seal")(seal_transcripts)
    app.command("words")(show_words)


def _sign(found: Installation, open_ones: list[Recorded], person: str, passphrase_file: Path | None) -> None:
    folder = found.home.pki
    todo = [each for each in open_ones if not seal_folder(folder, each).audit.exists()]
    todo = [each for each in todo if person not in seal_folder(folder, each).participants]
    if not todo:
        output.fail(f"{person} has nothing to seal", hint="see 'kwbp ceremony verify'")
    signer, _tls = enrolment.officer(found, person, passphrase_file)
    for each in todo:
        statement = each.statement()
        shown = (
            f"SEAL         {each.ceremony}: {statement.entries} entries of {each.file}",
            f"  tip        {statement.tip.hex()}",
            *(f"           {line}" for line in aloud(statement.tip.hex())),
        )
        for line in shown:
            output.note(output.plain(line))
        signed = signer.sign(Draft(CT_CEREMONY_SEAL, statement.to_der(), shown), now=now())
        sealer = judge_participant(folder, each, signed, now=now())
        participate(folder, each, sealer.person, signed)
        output.done(f"{sealer.person} has sealed {each.file}")


def _close(found: Installation, open_ones: list[Recorded]) -> None:
    if not open_ones:
        return
    verify_seals(found.home.pki)  # the audit key does not stand beside what is not true, nor will not be
    for each in open_ones:
        require_sealable(found.home.pki, each, now=now())
    try:
        vault = Vault.open(found.home, (_TOKEN,))
    except AuditError as error:
        raise CeremonyError(f"{error}; {IN_USE}") from None
    with vault:
        for each in open_ones:
            made = countersign(found.home.pki, each, lambda content: vault.seal_ceremony(CEREMONY, content).signed)
            stamp(made, lambda data: _token(vault, data))
            output.done(f"{each.file} is sealed")


def _token(vault: Vault, data: bytes) -> bytes:
    """A time-stamp of the founded authority's key, made at the ceremony: the services do not run."""
    chain = vault.describe_key(CEREMONY, _TSA).certificate_chain
    if not chain:
        raise CeremonyError("the time-stamp authority has no certificate yet")
    moment = now()
    content = tst_info(
        read_request(build_query(data, nonce=None)),
        moment=moment,
        serial=Numbers(os.urandom).next(moment),
        authority=x509.load_der_x509_certificate(chain[0]).subject,
    )
    return vault.sign(CEREMONY, _TSA, SignCommand("timestamp", content)).signed
