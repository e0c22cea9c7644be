"""The RA's part of a self-audit (CPS 8): the cases behind a sample of certificates, judged again from their records.

The sample is the CA's (`ca.self_audit`): the same seed, the same certificates. Everything here is a function of what it
is given; `cli.self_audit` reads the exhibits. What nobody can judge again is said in the report, not passed over.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final

from cryptography import x509

from ca.client import StoryAnswer
from ca.self_audit_report import AuditFinding, SelfAuditReport
from cps.acceptance import check_acceptance
from cps.decide import decide
from cps.dossier import Dossier
from cps.errors import StatementError
from cps.register import PackRegister
from cps.replay import decided_at
from pki.past import in_the_past
from pki.path import Trust
from pki.self_audit import SelfAudit
from ra.statement import read_decision
from ra.states import State
from ra.story_wire import StoryView
from ra.wire import TransitionView

NOT_JUDGED: Final = (
    "which keys other applications claimed then, and which were on the denylist: registers keep no past",
    "what the observations rested on from which the risk was weighed: the case is judged by the observations on record",
    "status lists of the moment of decision: the newest ones are asked, which say since when somebody was revoked",
    "what registers of others answered beyond the digest that the RA signed",
    "whether a document says what its officer took it to say",
)
"""What this audit does not see."""


class CaseAuditReport(SelfAuditReport):
    """A report about cases. `ca_report_sha256` is the CA's report about the same sample; `not_judged` what is left."""

    ca_report_sha256: str
    not_judged: tuple[str, ...] = NOT_JUDGED

    def summary(self) -> SelfAudit:
        """What is signed about it."""
        return SelfAudit(
            made_at=self.made_at.replace(microsecond=0),
            since=self.since.replace(microsecond=0),
            until=self.until.replace(microsecond=0),
            issued=self.issued,
            sampled=self.sampled,
            findings=self.broken,
            sample_sha256=bytes.fromhex(self.sample_sha256),
            report_sha256=hashlib.sha256(self.to_json()).digest(),
        )


@dataclass(frozen=True, slots=True)
class Open:
    """A check that cannot be decided, and why."""

    because: str


Outcome = str | Open | None
"""Of a check: what is wrong, that it cannot be told, or nothing: it is kept."""


@dataclass(frozen=True, slots=True)
class CaseExhibit:
    """Everything about the case of one certificate, at `now`.

    `bodies` are the documents on file by SHA-256, None where none came. `lines` are the entries of the RA's log by
    number, as recorded. `trust` has the newest lists.
    """

    issuer: str
    serial: str
    now: datetime
    story: StoryView
    dossier: Dossier
    bodies: Mapping[bytes, bytes | None]
    lines: Mapping[int, Mapping[str, Any]]
    register: PackRegister
    trust: Trust

    @property
    def record(self) -> StoryAnswer | None:
        """What the CA has of the certificate."""
        return self.story.records.get(self.serial)


def _case(exhibit: CaseExhibit) -> Outcome:
    record = exhibit.record
    if record is None or record.dossier is None:
        return "the CA has no case for it"
    judged = Dossier.model_validate(record.dossier).revision
    if judged.digest != exhibit.dossier.revision.digest:
        return "the CA judged another revision than the one on record here"
    return None


def _evidence(exhibit: CaseExhibit) -> Outcome:
    for piece in exhibit.dossier.evidence:
        body = exhibit.bodies.get(piece.sha256)
        if body is None:
            return f"the document {piece.kind} {piece.sha256.hex()} is not on file"
        if hashlib.sha256(body).digest() != piece.sha256:
            return f"the document {piece.kind} {piece.sha256.hex()} is another one"
    return None


def _signatures(exhibit: CaseExhibit) -> Outcome:
    for number, cms in enumerate(exhibit.dossier.decisions, 1):
        if not read_decision(cms).verifies:
            return f"the signature of decision {number} does not verify"
    return None


def _judgement(exhibit: CaseExhibit) -> Outcome:
    """As of the last decision, by the rules that governed (`cps.replay`)."""
    dossier = exhibit.dossier
    pack, at = exhibit.register.find(dossier.revision.cps), decided_at(dossier)
    if pack is None:
        return Open(f"the rules of version {dossier.revision.cps.version} are not here")
    if at is None:
        return "nobody decided it"
    verdict = decide(dossier, pack, trust=in_the_past(exhibit.trust), now=at)
    return None if verdict.approved else "not approved by the rules of then: " + "; ".join(map(str, verdict.findings))


def _log(exhibit: CaseExhibit) -> Outcome:
    """Every step is one entry that says the same."""
    for passage in exhibit.story.transitions:
        if passage.journal_index is None:
            return f"the step {passage.action} is not in the log"
        line = exhibit.lines.get(passage.journal_index)
        if line is None:
            return Open("the log of another replica has it")
        if not _says(line, passage, exhibit.dossier.revision.application_id):
            return f"entry {passage.journal_index} of the log says something else than the step {passage.action}"
    return None


def _says(line: Mapping[str, Any], passage: TransitionView, application: str) -> bool:
    told = {
        "event": "ra.transition",
        "application": application,
        "action": passage.action,
        "before": None if passage.before is None else str(passage.before),
        "after": str(passage.after),
        "actor": passage.actor,
        "detail": passage.detail,
    }
    return {name: line.get(name) for name in told} == told


def _acceptance(exhibit: CaseExhibit) -> Outcome:
    application, accepted = exhibit.story.application, exhibit.story.acceptance
    assert application is not None  # the certificate was issued on a case
    if accepted is None:
        if application.state is State.REVOKED:
            return None
        if application.accept_by is not None and exhibit.now < application.accept_by:
            return Open("there is still time to accept it")
        return "nobody accepted it in time, and it was not revoked"
    if accepted.signed is not None:
        certificates = [x509.load_der_x509_certificate(each.certificate) for each in exhibit.story.certificates]
        try:
            check_acceptance(accepted.signed, application.id, certificates)
        except StatementError as error:
            return f"the acceptance does not hold: {error}"
    return None


CHECKS: Final = {
    "case": ("CPS 4.3.1", _case),
    "evidence": ("CPS 4.2.1", _evidence),
    "signatures": ("CPS 4.2.2", _signatures),
    "judgement": ("CPS 4.2.2", _judgement),
    "log": ("CPS 5.4.1", _log),
    "acceptance": ("CPS 4.4.1", _acceptance),
}
"""What is looked at, by which clause."""


def look(exhibit: CaseExhibit) -> dict[str, Outcome]:
    """The outcome of every check on one exhibit."""
    return {name: check(exhibit) for name, (_clause, check) in CHECKS.items()}


def finding(exhibit: CaseExhibit, check: str, message: str) -> AuditFinding:
    """A check that an exhibit breaks, for the report."""
    clause = CHECKS[check][0]
    return AuditFinding(issuer=exhibit.issuer, serial=exhibit.serial, check=check, clause=clause, message=message)
