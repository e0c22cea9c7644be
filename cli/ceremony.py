"""`kwbp ceremony`: the acts for which people meet and tokens are opened that no service reaches."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Annotated, Any

import typer

from ca.ceremony import (
    NOTHING,
    Act,
    Ceremony,
    Entry,
    Founded,
    Plan,
    Standing,
    State,
    Step,
    load_act,
    plan,
    read_standing,
    ready_made,
    resume,
    run,
    state,
    undo,
)
from ca.ceremony.acts import RestoreCeremony
from ca.crl import ListedSerial
from ca.errors import CeremonyAbortedError, CeremonyError, KeysExistError, PlanError
from ca.publication import Publication
from cli import ceremony_keys, ceremony_record, ceremony_seal, output, witness
from cli.ceremony_rooms import now, root_room, service_room
from cli.officers import folder as officers_folder
from cli.packs import statement
from cli.state import Installation, existing

app = typer.Typer(
    no_args_is_help=True,
    help="""Ceremonies: found the hierarchy and what comes after it, each from one YAML file.

People meet for them, and stand in for officers' approvals; the logs name them so. The HSM service is stopped for as
long, because a ceremony has the tokens for itself. A FILE is a path, or the name of a ready-made one ('files').

  files       the ready-made ones, each with comments       copy one, and change it
  plan        read it aloud before a token is touched       nothing is opened
  rehearse    the same file in throw-away tokens            nothing is kept
  run         the real one; write down the transcript's tip
  state       after an interruption: resume, undo, or both
  seal        two officers, then the audit key and a time-stamp
  verify      anybody, at any time, against that tip        offline

Nothing is published before the last step. Whatever interrupts a run, its journal knows what was made.
""",
)

CeremonyFile = Annotated[
    str, typer.Argument(metavar="[FILE]", help="Ceremony in YAML: a path, or a ready-made name such as root-crl.")
]
FOUNDING = "kwbp"


@app.command("files")
def list_files(
    name: Annotated[str | None, typer.Argument(help="Show this one.", show_default="a list of all")] = None,
) -> None:
    """The ready-made ceremony files. 'kwbp ceremony files root-crl > my.yaml' is how to start one of your own."""
    found = ready_made()
    if name is not None:
        if name not in found:
            output.fail(f"there is no ready-made ceremony {name}", hint=f"there are {', '.join(found)}")
        text = found[name].read_text(encoding="utf-8")
        output.emit({"name": name, "text": text}, [output.plain(line) for line in text.splitlines()])
        return
    rows = []
    for each, entry in found.items():
        text = entry.read_text(encoding="utf-8")
        act = load_act(text)
        first = text.splitlines()[0].removeprefix("# ").split(" (")[0].split(":")[0]
        rows.append((each, act.ceremony.kind, act.ceremony.section, first))
    output.table("Ready-made ceremonies", ("Name", "Kind", "CPS", "What it is"), rows)


@app.command("plan")
def plan_ceremony(file: CeremonyFile = FOUNDING) -> None:
    """Check every input and show each step; no token is touched."""
    made = _planned(existing(), *_read(existing(), file))
    document = {
        "ceremony": made.ceremony.ceremony.id,
        "kind": made.ceremony.ceremony.kind,
        "plan": made.digest,
        "steps": [{"room": step.room, "step": str(step)} for step in made.steps],
    }
    output.table(
        f"Ceremony {made.ceremony.ceremony.id}, plan {made.digest[:16]}",
        ("Room", "Step"),
        [(step.room, str(step)) for step in made.steps],
        document,
    )


@app.command("rehearse")
def rehearse_ceremony(file: CeremonyFile = FOUNDING) -> None:
    """Run the same file in throw-away tokens, start to end, and clean up: what would happen, and how long it takes."""
    from cli.rehearsal import Rehearsal

    found = existing()
    act, inputs = _read(found, file)
    real = _planned(found, act, inputs)
    with (
        output.working("founding what the ceremony needs, and running it, in throw-away tokens"),
        Rehearsal(real.publication) as rehearsal,
    ):
        done = rehearsal.rehearse(act, inputs, real.standing)
    document = {
        "ceremony": act.ceremony.id,
        "plan": real.digest,
        "seconds": round(done.seconds, 1),
        "steps": [{"room": step.room, "step": str(step), "seconds": round(took, 3)} for step, took in done.steps],
        "files": list(done.files),
    }
    output.table(
        f"Rehearsed: {act.ceremony.id}, {len(done.steps)} steps in {done.seconds:.1f} s",
        ("Room", "Step", "Seconds"),
        [(step.room, str(step), f"{took:.2f}") for step, took in done.steps],
        document,
    )
    if not output.json_wanted():
        output.emit(
            {},
            [
                f"It would publish {len(done.files)} files and its transcript. Nothing of the rehearsal is left.",
                f"The real one: 'kwbp ceremony run {output.plain(file)}', plan {real.digest[:16]}.",
            ],
        )


@app.command("run")
def run_ceremony(file: CeremonyFile = FOUNDING) -> None:
    """Run it, each step shown. By default it founds the hierarchy: root, brand, issuing CAs, services, officers."""
    found = existing()
    journal = journal_of(found)
    if (left := state(journal)) is not None:
        _report(left)
        output.fail(f"the ceremony {left.ceremony} is not finished", hint="'kwbp ceremony state' says what can be done")
    made = _planned(found, *_read(found, file))
    _finish(found, lambda **options: run(made, journal=journal, **options), made)


@app.command("resume")
def resume_ceremony() -> None:
    """Go on where an interrupted ceremony stopped: what was made is used, and nothing is made twice."""
    found = existing()
    journal = journal_of(found)
    left = state(journal)
    if left is None:
        hand_out(found)
        output.emit({"resumed": None}, ["No ceremony is under way."])
        return
    _report(left)
    _finish(found, lambda **options: resume(journal, **options), None)


@app.command("undo")
def undo_ceremony(
    yes: Annotated[bool, typer.Option("--yes", help="Do not ask.")] = False,
) -> None:
    """Take an interrupted ceremony back: keys that nobody certified are destroyed; certificates are revoked."""
    found = existing()
    journal = journal_of(found)
    left = state(journal)
    if left is None:
        output.emit({"undone": None}, ["No ceremony is under way."])
        return
    _report(left)
    if left.obstacle is not None:
        output.fail(f"it cannot be undone: {left.obstacle}", hint="go on with 'kwbp ceremony resume'")
    if not yes and not output.json_wanted():
        typer.confirm("Destroyed keys never come back. Undo it?", abort=True, err=True)
    try:
        done = undo(
            journal,
            service_room=partial(service_room, found.home),
            root_room=partial(root_room, found.home),
            folder=found.home.pki,
            clock=now,
            revoke=partial(_revoke, found),
            progress=lambda line: output.done(output.plain(line)),
        )
    except CeremonyError as error:
        output.fail(str(error), hint="what was taken back stays so; 'kwbp ceremony undo' does the rest")
    output.emit(
        {
            "undone": left.ceremony,
            "destroyed": list(done.destroyed),
            "disabled": list(done.disabled),
            "revoked": list(done.revoked),
            "uncertain": done.uncertain,
            "journal": str(done.journal),
        },
        [
            f"{left.ceremony} is undone: {len(done.destroyed)} keys destroyed, {len(done.disabled)} disabled, "
            f"{len(done.revoked)} certificates revoked.",
            *([f"Begun, and perhaps done: {done.uncertain}; 'kwbp key versions' shows it."] if done.uncertain else []),
            f"Its journal is kept in {done.journal}.",
        ],
    )


@app.command("state")
def show_state() -> None:
    """Whether a ceremony was interrupted, where, and which of 'resume' and 'undo' is possible."""
    left = state(journal_of(existing()))
    if left is None:
        output.emit({"ceremony": None}, ["No ceremony is under way."])
    else:
        _report(left, final=True)


ceremony_record.register(app)
ceremony_seal.register(app)
ceremony_keys.register(app)


def journal_of(found: Installation) -> Path:
    """Where a ceremony of this installation is journalled while it is under way; finished ones lie beside."""
    return found.home.path / "ceremony" / "journal.jsonl"


def hand_out(found: Installation) -> None:
    """Give services and officers the certificates of the founding, and the witness the keys of the logs.

    Does nothing that was done.
    """
    for folder, target in (("services", found.home.tls), ("officers", officers_folder(found))):
        for path in sorted((found.home.pki / folder).glob("*.pem")):
            copy = target / path.name
            if (target / f"{path.stem}.csr").exists() and not copy.exists():
                shutil.copyfile(path, copy)
    if not any((found.home.pki / "keys").glob("log-*.pem")):
        return  # a root alone
    for log in witness.trust_logs(found.home.pki, found.home.witness):
        output.done(f"the witness trusts the log {log.name}")


def _read(found: Installation, file: str) -> tuple[Act, Mapping[str, bytes]]:
    """The ceremony, and what comes with it."""
    path = Path(file)
    if path.is_file():
        act, folder = load_act(path.read_bytes()), path.parent
    elif file in ready_made():
        act, folder = load_act(ready_made()[file].read_bytes()), Path.cwd()
    else:
        output.fail(f"there is no file {file}", hint=f"ready-made ceremonies: {', '.join(ready_made())}")
    places: dict[str, Path] = {}
    if isinstance(act, Ceremony):
        places |= {entry.request: found.home.tls / f"{entry.name}.csr" for entry in act.services}
        places |= {entry.request: officers_folder(found) / f"{entry.person}.csr" for entry in act.officers}
    elif isinstance(act, RestoreCeremony):
        places[f"backup/{act.backup}"] = folder / act.backup
    return act, {title: place.read_bytes() for title, place in places.items() if place.exists()}


def _planned(found: Installation, act: Act, inputs: Mapping[str, bytes]) -> Plan:
    publication = Publication(found.settings.repository.url, statement(found).cps.uri)
    standing: Standing = NOTHING
    if (found.home.pki / "root.pem").exists():
        standing = read_standing(found.home.pki)
    try:
        return plan(act, inputs, publication, standing=standing, now=now())
    except PlanError as error:
        findings = [{"code": each.code, "clause": each.clause, "message": each.message} for each in error.findings]
        lines = "\n".join(f"  {each}" for each in error.findings)
        output.fail(
            f"{act.ceremony.id} is not fit to be run; nothing was touched:\n{lines}",
            hint=f"{_missing(error)}change the file, or bring what is missing; 'kwbp ceremony plan' checks again",
            document={"error": "ceremony-plan", "findings": findings},
        )


def _missing(error: PlanError) -> str:
    """How requests that are not there come to be."""
    missing = [each.message.split(" request ")[-1] for each in error.findings if each.code == "request-missing"]
    people = sorted(each.removeprefix("officer/") for each in missing if each.startswith("officer/"))
    return "".join(f"'kwbp officer new-key {person}' makes one; " for person in people[:2])


def _finish(found: Installation, do: Callable[..., Founded], made: Plan | None) -> None:
    """Run or resume, and say what came of it."""
    count = 0

    def progress(step: Step, entry: Entry) -> None:
        nonlocal count
        count += 1
        fingerprint = entry.outcome.get("sha256") or entry.outcome.get("spki_sha256") or ""
        output.done(f"{step.room:<8} {step!s:<38} {str(fingerprint)[:16]}")
        if step.room == "root" and fingerprint:
            for line in ceremony_seal.aloud(str(fingerprint)):
                output.note(line)

    lost = made is None or isinstance(made.ceremony, RestoreCeremony)
    try:
        done = do(
            service_room=partial(service_room, found.home, lost=lost),
            root_room=partial(root_room, found.home),
            folder=found.home.pki,
            rng=os.urandom,
            clock=now,
            progress=progress,
        )
    except CeremonyAbortedError as error:
        output.fail(
            f"{error}\n{error.__cause__}",
            hint="'kwbp ceremony state' says which of 'resume' and 'undo' is possible now",
        )
    except KeysExistError as error:
        output.fail(str(error), hint="nothing was touched; 'kwbp key list' shows the keys")
    if done.plan.founds:
        hand_out(found)
    header, tip = done.plan.ceremony.ceremony, done.transcript.tip
    following = ["Next: 'kwbp ceremony verify'."]
    if header.kind == "founding":
        following = ["Next: 'kwbp ceremony verify', 'kwbp ceremony zone-keys', then 'kwbp serve'."]
    output.emit(
        {
            "ceremony": header.id,
            "kind": header.kind,
            "hierarchy": str(found.home.pki),
            "steps": count,
            "certificates": len(done.certificates),
            "crls": len(done.crls),
            "transcript": tip,
        },
        [
            f"{len(done.certificates)} certificates and {len(done.crls)} CRLs in {found.home.pki}.",
            *following,
            f"Read aloud and write down: transcript [bold]{tip}[/bold]",
            *ceremony_seal.aloud(tip),
            "Those who were here seal it: each 'kwbp ceremony seal --as PERSON', at last 'kwbp ceremony seal --stamp'.",
        ],
    )


def _report(left: State, *, final: bool = False) -> None:
    """Where an unfinished ceremony stands: the answer of `state`; on standard error before other commands."""
    document: dict[str, Any] = {
        "ceremony": left.ceremony,
        "kind": left.kind,
        "plan": left.plan,
        "done": left.done,
        "steps": left.steps,
        "next": left.next,
        "interrupted": left.interrupted,
        "keys": list(left.keys),
        "certificates": list(left.certificates),
        "can_resume": left.can_resume,
        "can_undo": left.can_undo,
        "obstacle": left.obstacle,
    }
    at = f", in the midst of {left.interrupted}" if left.interrupted else ""
    lines = [f"{left.ceremony} ({left.kind}) stopped after {left.done} of {left.steps} steps{at}."]
    if left.keys:
        lines.append(f"Keys it made: {', '.join(left.keys)}.")
    if left.certificates:
        lines.append(f"Signed by authorities in force, which cannot be unsigned: {', '.join(left.certificates)}.")
    lines.append(
        "'kwbp ceremony resume' goes on from there."
        if left.can_resume
        else "It is being undone: 'kwbp ceremony undo' does the rest."
    )
    if left.obstacle is not None:
        lines.append(f"It cannot be undone, because {left.obstacle}.")
    elif left.can_resume:
        what = "disables certified keys, revokes their certificates" if left.certificates else "destroys those keys"
        nothing = "ends it: no key and no certificate was made"
        lines.append(f"'kwbp ceremony undo' {what if left.keys or left.certificates else nothing}.")
    if final:
        output.emit(document, lines)
    else:
        for line in lines:
            output.note(line)


def _revoke(found: Installation, issuer: str, entries: Sequence[ListedSerial]) -> None:
    """Put serials on the list of an authority in service: its next list, which is signed at once, carries them."""
    from ca.store import Store
    from cli.services import ca_database

    engine = ca_database(found)
    try:
        Store(engine).status.import_revocations(issuer, entries, source="ceremony")
    finally:
        engine.dispose()
