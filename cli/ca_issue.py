"""`kwbp ca issue`: have approved cases certified, one or many."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Final

import typer
from cryptography import x509

from ca.client import CaClient
from cli import enrolment, output
from cli.ca_service import CHANGE, WITH_FINDINGS, moment, service
from cli.state import Installation, existing
from cps.dossier import Dossier
from cps.errors import DossierError
from ra.states import CERTIFIED
from runtime.problems import Problem

Chains = dict[str, tuple[x509.Certificate, ...]]
"""By purpose, from the leaf up."""
_APPLICATION: Final = re.compile(r"[0-9a-f]{32}")


@dataclass(frozen=True, slots=True)
class Case:
    """One case to be certified, and how it is asked for."""

    name: str
    ask: Callable[[], Chains]


def register(app: typer.Typer) -> None:
    """Add the command."""
    app.command(rich_help_panel=CHANGE)(issue)


def issue(
    cases: Annotated[
        list[str],
        typer.Argument(
            help="Applications, as 'kwbp ra list' shows them; or dossiers: a JSON file of one, a file with one a line, "
            "a folder of such files.",
            metavar="APPLICATION|DOSSIER…",
        ),
    ],
    out: Annotated[Path | None, typer.Option(help="Folder for the certificates, PEM with their chains.")] = None,
) -> None:
    """Have approved cases certified. Asked again, the same certificates: a run that was broken off is simply repeated.

    An approved application is certified by itself; this is for one that the CA refused or could not sign then. Dossiers
    go to the CA directly, as the RA (its TLS key must be on this machine): the CA judges the officers' signatures in
    them again, and the RA takes the certificates over when it asks next. Exit code 3: some were not certified.
    """
    found = existing()
    rows, document, failed = [], [], 0
    with service(found, found.tls("ra" if any(map(_is_path, cases)) else "operator")) as client:
        work = [case for text in cases for case in _cases(found, client, text)]
        with output.progress("cases", len(work)) as advance:
            for case in work:
                try:
                    chains, trouble = case.ask(), ""
                except Problem as problem:
                    chains, trouble = {}, _told(problem)
                    failed += 1
                for purpose, chain in chains.items():
                    if out is not None:
                        enrolment.write_chain(out / f"{case.name}-{purpose}.pem", chain)
                    leaf = chain[0]
                    serial = f"{leaf.serial_number:x}"
                    rows.append((case.name, purpose, serial, moment(leaf.not_valid_after_utc), ""))
                    document.append({"case": case.name, "purpose": purpose, "serial": serial})
                if trouble:
                    rows.append((case.name, "", "", "", trouble))
                    document.append({"case": case.name, "problem": trouble})
                advance()
    output.table("Issued", ("Case", "Purpose", "Serial", "Until", "Problem"), rows, document=document)
    if failed:
        output.note(f"{failed} of {len(work)} cases were not certified; the others are.")
        raise typer.Exit(WITH_FINDINGS if failed < len(work) else 1)


def _is_path(text: str) -> bool:
    return Path(text).exists()


def _cases(found: Installation, client: CaClient, text: str) -> Iterator[Case]:
    if not _is_path(text):
        if not _APPLICATION.fullmatch(text):
            hint = "give an application's id, 32 hexadecimal digits ('kwbp ra list'), or the file of a dossier"
            output.fail(f"there is no file {text}", hint=hint)
        yield Case(text, lambda: _application(found, text))
        return
    path = Path(text)
    files = sorted(each for each in path.iterdir() if each.is_file()) if path.is_dir() else [path]
    for file in files:
        for dossier in _dossiers(file):
            yield Case(dossier.revision.application_id, _asking(client, dossier))


def _asking(client: CaClient, dossier: Dossier) -> Callable[[], Chains]:
    def ask() -> Chains:
        issued = client.issue(dossier)
        return {purpose: (each.parsed(), *each.parsed_chain()) for purpose, each in issued.items()}

    return ask


def _application(found: Installation, application: str) -> Chains:
    with enrolment.ra(found, found.tls("operator")) as client:
        view = client.show(application)
        if view.state not in CERTIFIED:
            view = client.issue(application)
    if view.state not in CERTIFIED:
        findings = "; ".join(f"{each.message} ({each.clause})" for each in view.findings)
        why = findings or view.trouble or "not decided"
        raise Problem(409, "not-issued", f"the application is {view.state}: {why}")
    return enrolment.chains(view)


def _dossiers(file: Path) -> Sequence[Dossier]:
    content = file.read_bytes()
    try:
        return [Dossier.from_json(content)]
    except DossierError as error:
        lines = [line for line in content.splitlines() if line.strip()]
        if len(lines) < 2:
            output.fail(f"{file} holds no dossier: {error}")
    found = []
    for number, line in enumerate(lines, 1):
        try:
            found.append(Dossier.from_json(line))
        except DossierError as error:
            output.fail(f"line {number} of {file} holds no dossier: {error}")
    return found


def _told(problem: Problem) -> str:
    findings = [f"{each['message']} ({each['clause']})" for each in problem.extra.get("findings", ())]
    return "; ".join([str(problem), *findings])
