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
from ca.self_audit_signature import verify_report
from cli import output
from cli.ca_service import LOOK, WITH_FINDINGS, moment, service, utc
from cli.output import plain
from cli.state import existing
from pki.self_audit import SIGNER

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
    out: Annotated[
        Path | None, typer.Option(help="File to write the report to, as its digest was taken; beside it FILE.p7s.")
    ] = None,
    verify: Annotated[
        Path | None,
        typer.Option(
            help="Verify this report and the signature beside it (FILE.p7s) instead, offline.", dir_okay=False
        ),
    ] = None,
    folder: Annotated[
        Path | None,
        typer.Option(help="With --verify: the published hierarchy to judge by.", exists=True, file_okay=False),
    ] = None,
) -> None:
    """Look again at a random sample of what was issued on cases: is everything as it was when it was approved?

    Signature, lints of then, the case judged again as of then, status on lists and in OCSP, deadlines, the journal. The
    same seed draws the same sample. The report is signed by a key of its own in the token, and its digest goes into the
    CA's journal, which the witness signs. A night's certificates are looked at by themselves (03:15). Exit code 3:
    there are findings.
    """
    if verify is not None:
        _verify(verify, folder)
        return
    with service(existing()) as client:
        if past:
            _list(client)
            return
        if report is None:
            request = _request(since, until, share, least, seed)
            with output.working("looking at the sample"):
                report = client.self_audit(request).sha256
        body, signed = client.self_audit_report(report), client.self_audit_signature(report)
    if out is not None:
        out.write_bytes(body)
        if signed is not None:
            signature_of(out).write_bytes(signed)
    found = SelfAuditReport.model_validate_json(body)
    told = "by the key of self-audits" if signed is not None else "not yet: the key could not be asked"
    document = {"sha256": report, "signed": signed is not None, "report": json.loads(body)}
    output.emit(document, [*_lines(found, report), f"  signed      {told}"])
    if found.broken:
        raise typer.Exit(WITH_FINDINGS)


def signature_of(report: Path) -> Path:
    """Where the SignedData about a report is: beside it."""
    return report.with_name(f"{report.name}.p7s")


def _verify(report: Path, folder: Path | None) -> None:
    """Judge a report and its signature by public files alone; SelfAuditError if it is not true."""
    for each in (report, signature_of(report)):
        if not each.is_file():
            output.fail(f"there is no file {each}", hint="'kwbp ca self-audit --report SHA-256 --out FILE' writes both")
    found = verify_report(report.read_bytes(), signature_of(report).read_bytes(), folder or existing().home.pki)
    document = {
        "sha256": found.sha256,
        "signed_at": found.signed_at.isoformat(),
        "signer": found.signer,
        "findings": found.report.broken,
    }
    output.emit(
        document,
        [
            *_lines(found.report, found.sha256),
            f"  signed      {moment(found.signed_at)} by {SIGNER}: the signature holds",
        ],
    )
    if found.report.broken:
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
