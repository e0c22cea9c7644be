"""`kwbp ca self-audit`: a random sample of what was issued, looked at again (CPS 8)."""

from __future__ import annotations

import json
from datetime import datetime
from pathlib import Path
from typing import Annotated

import typer
from pydantic import ValidationError

from ca.api import SelfAuditRequest
from ca.client import CaClient
from ca.self_audit_report import LEAST, SHARE, SelfAuditReport
from cli import output
from cli.ca_service import LOOK, WITH_FINDINGS, moment, service, utc
from cli.output import plain
from cli.state import existing

_PERCENT = 100


def register(app: typer.Typer) -> None:
    """Add the command."""
    app.command("self-audit", rich_help_panel=LOOK)(self_audit)


def self_audit(
    since: Annotated[datetime | None, typer.Option(help="Start of the period (UTC); by default the first day.")] = None,
    until: Annotated[datetime | None, typer.Option(help="End of the period (UTC); by default now.")] = None,
    share: Annotated[float, typer.Option(min=0, max=100, help="How much to look at, in per cent.")] = SHARE * _PERCENT,
    least: Annotated[int, typer.Option(min=0, help="At least so many certificates.")] = LEAST,
    seed: Annotated[
        str | None,
        typer.Option(help="What draws the sample, 16 to 64 hexadecimal digits: an auditor gives one of their own."),
    ] = None,
    past: Annotated[bool, typer.Option("--list", help="Show the reports on record instead.")] = False,
    report: Annotated[str | None, typer.Option(help="Show the report with this SHA-256 instead.")] = None,
    out: Annotated[Path | None, typer.Option(help="File to write the report to, as its digest was taken.")] = None,
) -> None:
    """Look again at a random sample of what was issued on cases: is everything as it was when it was approved?

    Signature, lints of then, the case judged again as of then, status on lists and in OCSP, deadlines, the journal. The
    same seed draws the same sample. The digest of the report goes into the CA's journal, which the witness signs. A
    night's certificates are looked at by themselves (03:15). Exit code 3: there are findings.
    """
    with service(existing()) as client:
        if past:
            _list(client)
            return
        if report is None:
            request = _request(since, until, share, least, seed)
            with output.working("looking at the sample"):
                report = client.self_audit(request).sha256
        body = client.self_audit_report(report)
    if out is not None:
        out.write_bytes(body)
    found = SelfAuditReport.model_validate_json(body)
    output.emit({"sha256": report, "report": json.loads(body)}, _lines(found, report))
    if found.broken:
        raise typer.Exit(WITH_FINDINGS)


def _request(
    since: datetime | None, until: datetime | None, share: float, least: int, seed: str | None
) -> SelfAuditRequest:
    asked = {
        "since": utc(since),
        "until": utc(until),
        "share": share / _PERCENT,
        "least": least,
        "seed": seed and seed.lower(),
    }
    try:
        return SelfAuditRequest.model_validate(asked)
    except ValidationError as error:
        wrong = ", ".join(f"--{'.'.join(map(str, each['loc']))}" for each in error.errors())
        return output.fail(f"{wrong} is not as it must be", hint="a seed has 16 to 64 hexadecimal digits", code=2)


def _list(client: CaClient) -> None:
    reports = client.self_audits(limit=100)
    output.table(
        "Self-audits",
        ("Until", "Looked at", "Findings", "SHA-256"),
        [(moment(each.until), each.sampled, each.findings, each.sha256) for each in reports],
        document=[each.model_dump(mode="json") for each in reports],
    )


def _lines(found: SelfAuditReport, sha256: str) -> list[str]:
    colour, verdict = ("red", f"{found.broken} findings") if found.broken else ("green", "no findings")
    lines = [
        f"[bold]Self-audit[/bold] of {moment(found.since)} to {moment(found.until)}: [{colour}]{verdict}[/{colour}]",
        f"  looked at   {found.sampled} of {found.issued} certificates, drawn by the seed {found.seed}",
    ]
    for name, count in found.checks.items():
        reasons = "; ".join(f"{why}: {times}" for why, times in count.open_because.items())
        left = f", {count.open} open ({reasons})" if count.open else ""
        broken = f"[red]{count.broken} broken[/red]" if count.broken else "0 broken"
        lines.append(f"  {name:<11} {count.kept} kept, {broken}{plain(left)}")
    lines += [
        f"  [red]finding[/red]     {each.issuer}/{each.serial} {each.check}: {plain(each.message)} ({each.clause})"
        for each in found.findings
    ]
    if found.more_findings:
        lines.append(f"  and {found.more_findings} more findings: the log of the CA has them")
    return [*lines, f"  report      SHA-256 {sha256}, also in the CA's journal as ca.self-audit"]
