"""`kwbp self-audit`: a sample of what was issued, judged again at the CA and at the RA; one signed report (CPS 8)."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any, Final

import typer

from audit.keeper import log_path
from audit.verify import lines
from ca.api import SelfAuditRequest
from ca.client import CaClient
from ca.hierarchy import load_hierarchy
from ca.published_trust import published_trust
from ca.self_audit import Key, sample, sample_digest
from ca.self_audit_report import LEAST, SHARE, CheckCount, SelfAuditReport
from ca.self_audit_signature import verify_report
from cli import enrolment, output
from cli.ca_service import WITH_FINDINGS, moment, service
from cli.enrolment import now
from cli.output import plain, said
from cli.packs import statements
from cli.ra_desk import PassphraseFile, desk
from cli.state import Installation, existing
from pki.cms_signed import parse_signed_data, verify_signature
from pki.errors import PkiError
from pki.extensions import OfficerData
from pki.oids import CT_SELF_AUDIT
from pki.path import validate_path
from pki.roles import Role
from pki.self_audit import SelfAudit
from ra.case_audit import CHECKS, CaseAuditReport, CaseExhibit, Open, Outcome, finding, look
from ra.client import RaClient
from ra.officer import Draft
from runtime.language import Message
from runtime.problems import Problem

_PERCENT: Final = 100
_CA, _RA = "ca-report.json", "ra-report.json"
_NOT_FOUND: Final = 404
_AUDITOR: Final = "auditor"
_MOST: Final = 1000  # findings of one report


def self_audit(
    out: Annotated[
        Path | None, typer.Option(help="New folder for both reports and their signatures.", file_okay=False)
    ] = None,
    person: Annotated[
        str | None, typer.Option("--as", envvar="KWBP_OFFICER", help="The auditor, who signs the RA's part.")
    ] = None,
    passphrase_file: PassphraseFile = None,
    share: Annotated[float, typer.Option(min=0, max=100, help="How much to look at, in per cent.")] = SHARE * _PERCENT,
    least: Annotated[int, typer.Option(min=0, help="At least so many certificates.")] = LEAST,
    seed: Annotated[
        str | None, typer.Option(help="What draws the sample, 16 to 64 hexadecimal digits: an auditor's own.")
    ] = None,
    verify: Annotated[
        Path | None, typer.Option(help="Verify the reports in this folder instead, offline.", file_okay=False)
    ] = None,
) -> None:
    """Look again at a random sample of what was issued: the CA at its certificates, this command at their cases.

    The CA's part is 'kwbp ca self-audit', signed by its token key. Of each sampled certificate the case is read from
    the RA: documents hashed anew, decisions' signatures verified, the case judged again as of then by the rules that
    governed, every step compared with the log on this machine, the acceptance. The auditor signs what was found. Exit
    code 3: there are findings. The report says what cannot be judged again.
    """
    if verify is not None:
        _verify(existing(), verify)
        return
    if out is None or person is None:
        output.fail(Message("a report needs {options}", options="--out, --as"), code=2)
    if out.exists():
        output.fail(Message("{folder} is already there", folder=out))
    found = existing()
    signer, _tls = enrolment.officer(found, person, passphrase_file)
    if not _audits(signer.data):
        output.fail(
            Message("{person} is no auditor", person=person),
            hint=Message("see who holds which role: {command}", command="'kwbp officer list'"),
        )
    asked = SelfAuditRequest(share=share / _PERCENT, least=least, seed=seed and seed.lower())
    with service(found) as ca, desk(found) as ra, output.working(said(Message("looking at the sample"))):
        sha256 = ca.self_audit(asked).sha256
        body, signature = ca.self_audit_report(sha256), ca.self_audit_signature(sha256)
        report = _judged(found, ra, SelfAuditReport.model_validate_json(body), sha256, _sample(ca, body))
    draft = Draft(CT_SELF_AUDIT, report.summary().to_der(), ())
    out.mkdir(mode=0o700, parents=True)
    (out / _CA).write_bytes(body)
    if signature is not None:
        (out / f"{_CA}.p7s").write_bytes(signature)
    (out / _RA).write_bytes(report.to_json())
    (out / f"{_RA}.p7s").write_bytes(signer.sign(draft, now=now()))
    _tell(report, SelfAuditReport.model_validate_json(body), {"folder": str(out), "ca_signed": signature is not None})


def _sample(ca: CaClient, body: bytes) -> list[Key]:
    """The sample of the CA's report, drawn again; ends the command if it is not the same."""
    report = SelfAuditReport.model_validate_json(body)
    with ca.export() as issued:
        keys = [(each.issuer, each.serial) for each in issued.certificates]
    on_case: dict[Key, bool] = {}  # what a ceremony made is not drawn
    count = report.sampled
    while True:
        drawn = []
        for key in sample(keys, report.seed, count):
            if key not in on_case:
                on_case[key] = ca.look_up(*key).intent is not None
            drawn += [key] if on_case[key] else []
        if len(drawn) == report.sampled or count >= len(keys):
            break
        count = min(len(keys), count + report.sampled - len(drawn))
    if sample_digest(drawn) != report.sample_sha256:
        output.fail(
            Message("the sample drawn here is not the CA's"),
            hint=Message("certificates were issued meanwhile, or are missing in one place: run it again"),
        )
    return drawn


def _judged(
    found: Installation, ra: RaClient, ca_report: SelfAuditReport, sha256: str, drawn: Sequence[Key]
) -> CaseAuditReport:
    outcomes: dict[str, list[Outcome]] = {name: [] for name in CHECKS}
    findings = []
    for exhibit in _exhibits(found, ra, drawn):
        for name, outcome in look(exhibit).items():
            outcomes[name].append(outcome)
            if isinstance(outcome, str):
                findings.append(finding(exhibit, name, outcome))
    fields = ca_report.model_dump(exclude={"checks", "findings", "more_findings", "made_at"})
    return CaseAuditReport(
        **fields,
        made_at=now(),
        checks={name: _count(of_check) for name, of_check in outcomes.items()},
        findings=tuple(findings[:_MOST]),
        more_findings=max(0, len(findings) - _MOST),
        ca_report_sha256=sha256,
    )


def _count(outcomes: Sequence[Outcome]) -> CheckCount:
    because = Counter(each.because for each in outcomes if isinstance(each, Open))
    return CheckCount(
        kept=sum(each is None for each in outcomes),
        broken=sum(isinstance(each, str) for each in outcomes),
        open=because.total(),
        open_because=dict(sorted(because.items())),
    )


def _exhibits(found: Installation, ra: RaClient, drawn: Sequence[Key]) -> Iterator[CaseExhibit]:
    register, trust, at = statements(found)(), published_trust(found.home.pki), now()
    stories = {key: ra.explain(key[1]) for key in drawn}
    wanted = {
        each.journal_index for story in stories.values() for each in story.transitions if each.journal_index is not None
    }
    entries = _entries(log_path(found.home, "ra"), wanted)
    for (issuer, serial), story in stories.items():
        assert story.application is not None  # it was issued on a case
        dossier = ra.dossier(story.application.id).dossier
        yield CaseExhibit(
            issuer=issuer,
            serial=serial,
            now=at,
            story=story,
            dossier=dossier,
            bodies={each.sha256: _body(ra, story.application.id, each.sha256) for each in dossier.evidence},
            lines=entries,
            register=register,
            trust=trust,
        )


def _body(ra: RaClient, application: str, sha256: bytes) -> bytes | None:
    try:
        return ra.evidence(application, sha256)
    except Problem as problem:
        if problem.status != _NOT_FOUND and problem.type != "evidence-changed":
            raise
        return None


def _entries(path: Path, wanted: set[int]) -> Mapping[int, Mapping[str, Any]]:
    """The entries of the log with these numbers, as they were recorded."""
    with path.open("rb") as file:
        return {index: json.loads(line)["entry"] for index, line in enumerate(lines(file)) if index in wanted}


def _verify(found: Installation, folder: Path) -> None:
    """Judge both reports by the public hierarchy alone; ends the command unless they hold and belong together."""
    try:
        body, signed = (folder / _RA).read_bytes(), (folder / f"{_RA}.p7s").read_bytes()
        ca_report = verify_report((folder / _CA).read_bytes(), (folder / f"{_CA}.p7s").read_bytes(), found.home.pki)
        report = CaseAuditReport.model_validate_json(body)
        auditor = _signer(found, report, signed)
    except (ValueError, PkiError) as error:
        output.fail(Message("the reports do not hold: {why}", why=str(error).splitlines()[0]))
    if report.to_json() != body or report.ca_report_sha256 != ca_report.sha256:
        output.fail(Message("the reports do not hold: {why}", why="they do not belong together"))
    if report.sample_sha256 != ca_report.report.sample_sha256:
        output.fail(Message("the reports do not hold: {why}", why="they are about other samples"))
    _tell(report, ca_report.report, {"folder": str(folder), "auditor": auditor})


def _signer(found: Installation, report: CaseAuditReport, signed: bytes) -> str:
    """The officer who signed the report. Raises PkiError, ValueError."""
    read = parse_signed_data(signed, content_type=CT_SELF_AUDIT)
    verify_signature(read)
    if SelfAudit.from_der(read.content) != report.summary():
        raise ValueError("what was signed is another report")
    hierarchy = load_hierarchy(found.home.pki)
    trust = published_trust(found.home.pki)
    validate_path(read.signer, hierarchy.intermediates, trust=trust, now=now(), roles={Role.OFFICER})
    officer = OfficerData.from_certificate(read.signer)
    if officer is None or not _audits(officer):
        raise ValueError("no auditor signed it")
    return officer.person_id


def _audits(officer: OfficerData) -> bool:
    return _AUDITOR in {*officer.roles, *(each.role for each in officer.grants)}


def _tell(report: CaseAuditReport, ca_report: SelfAuditReport, more: Mapping[str, Any]) -> None:
    document = {**more, "ca": json.loads(ca_report.to_json()), "ra": json.loads(report.to_json())}
    output.emit(document, [*_lines("CA", ca_report), *_lines("RA", report), *_left(report)])
    if report.broken or ca_report.broken:
        raise typer.Exit(WITH_FINDINGS)


def _lines(whose: str, report: SelfAuditReport) -> Iterator[str]:
    verdict = Message(
        "{whose}: {findings} findings in {sampled} of {issued}",
        whose=whose,
        findings=report.broken,
        sampled=report.sampled,
        issued=report.issued,
    )
    colour = "red" if report.broken else "green"
    yield f"[bold]{moment(report.made_at)}[/bold]  [{colour}]{plain(said(verdict))}[/{colour}]"
    for name, count in report.checks.items():
        reasons = "; ".join(f"{why} ×{times}" for why, times in count.open_because.items())
        counted = Message(
            "{kept} kept, {broken} broken, {left} open", kept=count.kept, broken=count.broken, left=count.open
        )
        yield f"  {name:<12} {plain(said(counted))}  {plain(reasons)}".rstrip()
    for each in report.findings:
        yield f"  [red]{plain(f'{each.issuer}/{each.serial} {each.check}: {each.message} ({each.clause})')}[/red]"


def _left(report: CaseAuditReport) -> Iterator[str]:
    yield plain(said(Message("what nobody judges again:")))
    for each in report.not_judged:
        yield f"  [dim]{plain(each)}[/dim]"
