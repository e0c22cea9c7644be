"""`kwbp explain`: the story of a certificate on one page."""

from __future__ import annotations

from typing import Annotated

import typer

from cli import enrolment, output
from cli.enrolment import now
from cli.output import plain
from cli.state import existing
from ra.client import StoryView


def explain(
    certificate: Annotated[str, typer.Argument(help="Serial number (hexadecimal) or a PEM file.", metavar="SERIAL")],
) -> None:
    """Tell the story of a certificate: under which rules, on what evidence, who decided what and when."""
    found = existing()
    in_file = enrolment.certificate_in(certificate)
    serial = certificate if in_file is None else f"{in_file.serial_number:x}"
    with enrolment.ra(found, found.tls("operator")) as client:
        story = client.explain(serial)
    output.emit(story.model_dump(mode="json", by_alias=True), _lines(story))


def _lines(story: StoryView) -> list[str]:
    lines = [f"[bold]Certificate {story.serial}[/bold] of {story.issuer or 'an unknown issuer'}"]
    lines += _certificate_lines(story)
    if story.application is not None:
        made = story.application
        lines.append(f"  application {made.id}, opened {made.opened_at:%F %H:%M} by {plain(made.opened_by)}")
    if story.policy is not None:
        policy = story.policy
        lines.append(
            f"  statement   {policy.id} {policy.version} ({policy.digest.hex()[:16]}…), section {policy.section}"
        )
    for rule in story.rules:
        excluded = f", not {', '.join(rule.excluded)}" if rule.excluded else ""
        lines.append(f"  rule        {rule.step}: {rule.count} × {' or '.join(rule.by)}{excluded}")
    for piece in story.evidence:
        lines.append(f"  evidence    {piece.kind} from {plain(piece.source)}, taken in by {plain(piece.collected_by)}")
    for decision in story.decisions:
        signature = "signature verifies" if decision.signature_verifies else "[red]signature does NOT verify[/red]"
        counted = "counted" if decision.counts else "did not count"
        lines.append(
            f"  decision    {decision.signed_at:%F %H:%M} {plain(decision.step)}: {decision.choice} by "
            f"{plain(decision.person)} ({plain(', '.join(decision.roles))}); {signature}, {counted}"
        )
    for passage in story.transitions:
        entry = "" if passage.journal_index is None else f"  [dim]journal {passage.journal_index}[/dim]"
        lines.append(
            f"  {passage.at:%F %H:%M:%S} {passage.action:<9} → {passage.after} by {plain(passage.actor)}{entry}"
        )
    if story.ca is not None and story.ca.intent is not None:
        intent = story.ca.intent
        lines.append(f"  lints       {len(intent.lints)} rules kept, over SHA-256 {intent.tbs_sha256[:16]}…")
    if story.ca is not None and story.ca.log:
        lines.append(f"  CA journal  {', '.join(f'{event} {index}' for event, index in story.ca.log.items())}")
    return lines


def _certificate_lines(story: StoryView) -> list[str]:
    """What it is, and whether it is in force: by the CA's record, which also knows orders that did not pass the RA."""
    if story.ca is None:
        return ["  [red]the CA has no record of it[/red]"]
    issued, gone = story.ca.certificate, story.ca.revocation
    purpose = f", for {issued.purpose}" if issued.purpose else ""
    status = "  status      in force"
    if gone is not None:
        status = (
            f"  [red]revoked[/red]     {gone.revoked_at:%F %H:%M} ({gone.reason}) by order of {plain(gone.ordered_by)}"
        )
    elif issued.not_after < now():
        status = "  status      expired"
    return [
        f"  subject     {plain(issued.subject)}",
        f"  valid       {issued.not_before:%F %H:%M} to {issued.not_after:%F %H:%M}{purpose}",
        status,
    ]
