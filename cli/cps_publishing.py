"""`kwbp cps sign|publish|list`: how a draft becomes a version of the statement (CPS 1.5.4).

    NAME.yaml            the draft
    NAME.texts/          its texts
    NAME.signed/         what officers signed: PERSON.p7s, and the time-stamp, stamp.tsr

Each officer signs at a machine of their own choice; the folder is what goes from one to the next. Publishing may be
interrupted anywhere and is then asked for again: the time-stamp is kept before it is used, and the version appears in
the installation at once or not at all.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Annotated, Any

import typer

from ca.files import replace_file
from ca.published_trust import published_trust
from ca.timestamp_client import TimestampClient
from cli import enrolment, output
from cli.enrolment import now
from cli.packs import statements
from cli.state import Installation, existing
from cli.statement import Source, annex, draft
from cps.dossier import CpsPin
from cps.model import Pack
from cps.publication import MAX_STATEMENTS, Candidate, PublicationVerdict, decide_publication
from cps.register import PackRegister
from pki.errors import PkiError
from pki.timestamp import MAX_RESPONSE, grant, read_response
from ra.officer import draft_publication
from runtime.language import Message
from statements.files import STAMP, PublicationFiles, install, read_bounded
from statements.published import name_of, told

_MAX_SIGNED = 65_536  # bytes

DraftFile = Annotated[Path, typer.Argument(metavar="FILE", help="The draft, NAME.yaml.", exists=True, dir_okay=False)]
TextsOption = Annotated[
    Path | None,
    typer.Option("--texts", help="Folder of the texts.", file_okay=False, show_default="NAME.texts/, or as before"),
]
AsPerson = Annotated[str, typer.Option("--as", help="The officer who signs; the key must be on this machine.")]
PassphraseFile = Annotated[
    Path | None, typer.Option(help="File of mode 0600 with the officer's passphrase; without it you are asked.")
]


@dataclass(frozen=True, slots=True)
class _Draft:
    """A draft, the version that it would follow, and what officers signed about it so far."""

    found: Installation
    file: Path
    source: Source
    candidate: Candidate
    predecessor: Pack

    @property
    def name(self) -> str:
        return name_of(self.candidate.pack)

    @property
    def signed(self) -> Path:
        return self.file.with_suffix(".signed")

    def with_statements(self) -> Candidate:
        """The candidate with everything that is signed about it."""
        paths = sorted(self.signed.glob("*.p7s"))[:MAX_STATEMENTS]
        return replace(self.candidate, statements=tuple(read_bounded(path, _MAX_SIGNED) for path in paths))

    def judged(self, candidate: Candidate) -> PublicationVerdict:
        """The judgement now; ends the command if the version itself cannot be published."""
        trust = published_trust(self.found.home.pki)
        verdict = decide_publication(candidate, self.predecessor, trust=trust, now=now(), annex=annex())
        if verdict.status == "refused":
            reasons = Message("{name} cannot be published: {why}", name=self.name, why=told(verdict))
            output.fail(reasons, hint=Message("'kwbp cps check' and 'kwbp cps list' tell more"))
        return verdict


def sign(file: DraftFile, person: AsPerson, texts: TextsOption = None, passphrase_file: PassphraseFile = None) -> None:
    """Sign, as a security officer, that a draft is published as the next version of the statement.

    What is signed is shown: the digests of rules and texts as they are in the files now, the version that it supersedes
    and when it comes into force. Whoever edits the files afterwards has them signed again.
    """
    made = _draft(existing(), file, texts)
    made.judged(made.candidate)
    signer, _tls = enrolment.officer(made.found, person, passphrase_file)
    signable = draft_publication(made.candidate.pack, made.candidate.texts, made.predecessor, now=now())
    for line in signable.lines:
        output.note(output.plain(line))
    made.signed.mkdir(mode=0o755, exist_ok=True)
    path = made.signed / f"{person}.p7s"
    replace_file(path, signer.sign(signable, now=now()))
    verdict = made.judged(made.with_statements())
    document = {"pack": made.name, "file": str(path), **_counted(verdict)}
    lines = [f"{output.plain(person)} signed {output.plain(made.name)}: {output.plain(path)}", *_findings(verdict)]
    lines += [f"{verdict.missing} more must sign." if verdict.missing else "'kwbp cps publish' can publish it."]
    output.emit(document, lines)


def publish(file: DraftFile, texts: TextsOption = None) -> None:
    """Publish a draft that the officers signed: have the signatures time-stamped, install the version.

    Every service takes it in by itself while it runs, after it has judged it itself. It comes into force at the date
    that the draft names, which must not have passed when it is stamped. Asked again, it changes nothing.
    """
    found = existing()
    source = draft(file, texts)
    register = statements(found)()
    pack = source.edition().pack
    if register.find(CpsPin.of(pack)) is not None:
        _tell(register, pack, f"{name_of(pack)} is published already.")
        return
    made = _draft(found, file, texts)
    signed = made.with_statements()
    verdict = made.judged(signed)
    if verdict.missing:
        why = Message("{name} is not signed as it must be: {why}", name=made.name, why=told(verdict))
        output.fail(why, hint=Message("a security officer signs with 'kwbp cps sign'"))
    counting = replace(signed, statements=tuple(signed.statements[each.decision] for each in verdict.approvals))
    stamp = _stamp(made, counting)
    files = PublicationFiles(source.pack, source.texts, counting.statements, stamp)
    install(found.home.cps, made.name, files)
    after = statements(found)
    if after().find(CpsPin.of(pack)) is None:
        reasons = "; ".join(f"{each.name}: {each.reason}" for each in after.faults)
        output.fail(Message("{name} is installed and does not hold: {why}", name=made.name, why=reasons))
    _tell(after(), pack, f"{made.name} is published.")


def list_versions() -> None:
    """Show the versions of this installation: since when each is in force, who published it, and what does not hold."""
    found = existing()
    known = statements(found)
    register = known()
    current = register.in_force(now())
    document, rows = [], []
    for place, pack in enumerate(register.packs):
        state = "in force" if pack is current else "superseded" if pack.cps.effective <= now() else "published"
        verdict = None if place == 0 else _past(found, register.packs[place - 1], pack)
        persons = [] if verdict is None else [each.person for each in verdict.approvals]
        stamped = None if verdict is None or verdict.stamped_at is None else verdict.stamped_at.isoformat()
        until = pack.cps.grandfather_until
        document.append(
            {
                "pack": name_of(pack),
                "state": state,
                "effective": pack.cps.effective.isoformat(),
                "open_cases_until": None if until is None else until.isoformat(),
                "published_by": persons,
                "stamped_at": stamped,
                "sha256": pack.digest.hex(),
            }
        )
        by = ", ".join(persons) if place else "this release"
        rows.append((name_of(pack), state, f"{pack.cps.effective:%F %H:%M}", by, stamped or "", pack.digest.hex()[:16]))
    faults = [{"name": each.name, "reason": each.reason} for each in known.faults]
    columns = ("Version", "State", "In force from", "Published by", "Stamped", "SHA-256")
    output.table("Versions", columns, rows, {"versions": document, "faults": faults})
    for fault in known.faults:
        output.note(f"[red]✗[/red] {output.plain(fault.name)}: {output.plain(fault.reason)}")


def register(app: typer.Typer) -> None:
    """Add these commands."""
    app.command("sign")(sign)
    app.command("publish")(publish)
    app.command("list")(list_versions)


def _draft(found: Installation, file: Path, texts: Path | None) -> _Draft:
    source = draft(file, texts)
    made = source.edition()
    return _Draft(found, file, source, Candidate(made.pack, made.texts), statements(found)().newest)


def _stamp(made: _Draft, counting: Candidate) -> bytes:
    """The TimeStampToken over the statements: the one that was kept, if it still proves them, else a new one."""
    path = made.signed / STAMP
    if path.exists():
        try:
            kept = read_response(read_bounded(path, MAX_RESPONSE))
        except PkiError:
            kept = b""
        trust = published_trust(made.found.home.pki)
        again = replace(counting, stamp=kept)
        if decide_publication(again, made.predecessor, trust=trust, now=now(), annex=annex()).approved:
            return kept
    client = TimestampClient(made.found.settings.repository.url, rng=None)
    try:
        token = client.stamp(counting.stamped, published_trust(made.found.home.pki)).der
    finally:
        client.close()
    replace_file(path, grant(token))
    verdict = made.judged(replace(counting, stamp=token))
    if not verdict.approved:
        output.fail(Message("{name} cannot be published: {why}", name=made.name, why=told(verdict)))
    return token


def _past(found: Installation, predecessor: Pack, pack: Pack) -> PublicationVerdict:
    """The judgement of a version that holds."""
    candidate = PublicationFiles.read(found.home.cps / name_of(pack)).candidate()
    return decide_publication(candidate, predecessor, trust=published_trust(found.home.pki), now=now())


def _tell(register: PackRegister, pack: Pack, sentence: str) -> None:
    document = {
        "pack": name_of(pack),
        "sha256": pack.digest.hex(),
        "effective": pack.cps.effective.isoformat(),
        "versions": [name_of(each) for each in register.packs],
    }
    output.emit(document, [output.plain(sentence), f"It is in force from {pack.cps.effective:%F %H:%M} UTC."])


def _counted(verdict: PublicationVerdict) -> dict[str, Any]:
    return {
        "signed_by": [each.person for each in verdict.approvals],
        "missing": verdict.missing,
        "findings": [{"code": str(each.code), "clause": each.clause, "text": str(each)} for each in verdict.findings],
    }


def _findings(verdict: PublicationVerdict) -> list[str]:
    return [f"[red]✗[/red] {output.plain(each)}" for each in verdict.findings]
