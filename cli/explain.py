"""`kwbp explain`: the story of a certificate on one page."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer
from cryptography import x509

from cli import enrolment, output
from cli.state import existing
from ra.client import StoryView


def explain(
    certificate: Annotated[str, typer.Argument(help="Serial number (hexadecimal) or a PEM file.", metavar="SERIAL")],
) -> None:
    """Tell the story of a certificate: under which rules, on what evidence, who decided what and when."""
    found = existing()
    path = Path(certificate)
    serial = f"{x509.load_pem_x509_certificate(path.read_bytes()).serial_number:x}" if path.is_file() else certificate
    with enrolment.ra(found, found.tls("operator")) as client:
        story = client.explain(serial)
    output.emit(story.model_dump(mode="json", by_alias=True), _lines(story))


def _lines(story: StoryView) -> list[str]:
    lines = [f"[bold]Certificate {story.serial}[/bold] of {story.issuer or 'an unknown issuer'}"]
    if story.certificate is not None:
        issued = story.certificate
        subject = x509.load_der_x509_certificate(issued.certificate).subject.rfc4514_string()
        lines.append(f"  subject     {subject}")
        lines.append(f"  valid       {issued.not_before:%F %H:%M} to {issued.not_after:%F %H:%M}, for {issued.purpose}")
        if issued.revocation is not None:
            gone = issued.revocation
            lines.append(f"  [red]revoked[/red]     {gone.at:%F %H:%M} ({gone.reason}) by order of {gone.ordered_by}")
        else:
            lines.append("  status      in force")
    if story.application is not None:
        made = story.application
        lines.append(f"  application {made.id}, opened {made.opened_at:%F %H:%M} by {made.opened_by}")
    if story.policy is not None:
        policy = story.policy
        lines.append(
            f"  statement   {policy.id} {policy.version} ({policy.digest.hex()[:16]}…), section {policy.section}"
        )
    for rule in story.rules:
        excluded = f", not {', '.join(rule.excluded)}" if rule.excluded else ""
        lines.append(f"  rule        {rule.step}: {rule.count} × {' or '.join(rule.by)}{excluded}")
    for piece in story.evidence:
        lines.append(f"  evidence    {piece.kind} from {piece.source}, taken in by {piece.collected_by}")
    for decision in story.decisions:
        signature = "signature verifies" if decision.signature_verifies else "[red]signature does NOT verify[/red]"
        counted = "counted" if decision.counts else "did not count"
        lines.append(
            f"  decision    {decision.signed_at:%F %H:%M} {decision.step}: {decision.choice} by {decision.person} "
            f"({', '.join(decision.roles)}); {signature}, {counted}"
        )
    for passage in story.transitions:
        entry = "" if passage.journal_index is None else f"  [dim]journal {passage.journal_index}[/dim]"
        lines.append(f"  {passage.at:%F %H:%M:%S} {passage.action:<9} → {passage.after} by {passage.actor}{entry}")
    if story.ca is not None and story.ca.log:
        lines.append(f"  CA journal  {', '.join(f'{event} {index}' for event, index in story.ca.log.items())}")
    return lines
