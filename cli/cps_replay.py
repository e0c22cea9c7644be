"""`kwbp cps replay`: past cases under a draft of the statement (`cps.replay`)."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, Any, Final

import typer

from ca.published_trust import published_trust
from cli import enrolment, output
from cli.enrolment import now
from cli.packs import statements
from cli.state import Installation, existing
from cli.statement import edition
from cps.dossier import Dossier
from cps.replay import Replayed, replay
from cps.verdict import Verdict
from ra.queue_order import Order
from ra.states import State
from runtime.problems import Problem

_WITH_CASE: Final = tuple(state for state in State if state is not State.DRAFT)
_PAGE: Final = 200


def replay_draft(
    pack: Annotated[str, typer.Argument(metavar="DRAFT", help="A YAML file, or a published pack.")],
    dossiers: Annotated[
        list[Path] | None,
        typer.Option(
            "--dossier",
            help="A case as JSON, or one a line (.jsonl); may be repeated.",
            exists=True,
            dir_okay=False,
            show_default="every case of the registration authority",
        ),
    ] = None,
    every: Annotated[bool, typer.Option("--all", help="Cases that are decided the same, too.")] = False,
) -> None:
    """Show what a draft would have decided of past cases, and by which clause.

    Each case is judged as of the moment of its last decision, once by the version that it was made under and once by
    the draft's rules; a case that nobody decided, as of now.
    """
    found = existing()
    draft = edition(pack).pack
    cases = _from_ra(found) if dossiers is None else _from_files(dossiers)
    trust = published_trust(found.home.pki)
    judged = list(replay(cases, draft, statements(found)(), trust=trust, now=now()))
    changed = [each for each in judged if each.changes]
    unknown = [each for each in judged if each.was is None]
    clauses = Counter(clause for each in changed for clause in each.clauses)
    document = {
        "draft": {"version": draft.cps.version, "sha256": draft.digest.hex()},
        "cases": len(judged),
        "changed": len(changed),
        "not_judged": len(unknown),
        "by_clause": dict(clauses.most_common()),
        "differences": [_document(each) for each in (judged if every else changed)],
    }
    if output.json_wanted():
        output.emit(document)
        return
    output.table(
        f"Cases under {draft.cps.id} {draft.cps.version}",
        ("Case", "Class", "Version", "Was", "Becomes", "By"),
        [
            (
                each.application_id,
                each.member_class,
                each.version,
                _said(each.was),
                _said(each.becomes),
                "\n".join(map(str, (*each.gained, *(f"no longer {finding}" for finding in each.lost)))),
            )
            for each in (judged if every else changed)
        ],
    )
    output.note(f"{len(changed)} of {len(judged)} cases would be decided differently.")
    for clause, count in clauses.most_common():
        output.note(f"  {count} by {output.plain(clause)}")
    if unknown:
        output.note(f"{len(unknown)} were made under a version that is not published here, and are not judged.")


def register(app: typer.Typer) -> None:
    """Add this command."""
    app.command("replay")(replay_draft)


def _from_files(paths: list[Path]) -> Iterator[Dossier]:
    """Raises DossierError."""
    for path in paths:
        content = path.read_bytes()
        yield from map(Dossier.from_json, filter(None, content.splitlines()) if path.suffix == ".jsonl" else [content])


def _from_ra(found: Installation) -> Iterator[Dossier]:
    """Every case that the registration authority has a revision of."""
    with enrolment.ra(found, found.tls("operator")) as client:
        after: str | None = None
        while True:
            page = client.queue(states=_WITH_CASE, sort=Order.AGE, after=after, limit=_PAGE)
            for each in page.applications:
                try:
                    yield client.dossier(each.id).dossier
                except Problem as problem:  # it ended before it was submitted
                    if problem.status not in {404, 409}:
                        raise
            if (after := page.next) is None:
                return


def _said(verdict: Verdict | None) -> str:
    if verdict is None:
        return "not judged"
    if verdict.next_step is not None:
        step = verdict.next_step
        return f"{verdict.status}: {step.name} by {' or '.join(step.by)} ({step.missing})"
    return f"{verdict.status}" if verdict.not_after is None else f"{verdict.status} until {verdict.not_after:%F}"


def _document(each: Replayed) -> dict[str, Any]:
    return {
        "case": each.application_id,
        "class": each.member_class,
        "version": each.version,
        "at": None if each.at is None else each.at.isoformat(),
        "was": _said(each.was),
        "becomes": _said(each.becomes),
        "clauses": list(each.clauses),
        "gained": [str(finding) for finding in each.gained],
        "lost": [str(finding) for finding in each.lost],
    }
