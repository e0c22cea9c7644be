"""What officers do with a case: put evidence on file, decide with a signature, hold it, let it go on, send it back.

A decision is a signature over exactly what is approved, and `cps.decide` says whether it counts. Holding, releasing and
returning bring nobody nearer to a certificate, so they need the officer's identity alone.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final

from cps.dossier import Evidence
from cps.errors import StatementError
from cps.rules import Rule
from cps.verdict import Finding, Verdict
from pki.errors import PkiError
from pki.oids import CT_DECISION
from ra import text_input
from ra.access import SYSTEM, Act, Actor, require
from ra.desk import Desk, decidable_state, refused_state, told, trouble_for, trouble_of
from ra.errors import InvalidSubmissionError, RefusedError
from ra.evidence_files import check_document, check_form
from ra.handing_in import borrowed
from ra.intake import Intake
from ra.issuing import Issuing
from ra.records import Application, Change, Passage
from ra.statement import read_decision
from ra.states import DECIDABLE, Action, State

_OVERTAKEN: Final = frozenset({Rule.DEC_STALE, Rule.DEC_EVIDENCE, Rule.DEC_ORDER, Rule.DEC_STEP})
"""What a decision breaks over which somebody else was faster."""
_MOST_EVIDENCE: Final = 32  # pieces of one case; an applicant may add, and each is read whenever the case is judged


@dataclass(frozen=True, slots=True)
class NewEvidence:
    """A piece of evidence as it comes in; `media_type` is what it is said to be, if anybody said it."""

    kind: str
    body: bytes
    source: str
    expires_at: datetime | None = None
    media_type: str | None = None


class Deciding:
    """The officers' work; see the module."""

    def __init__(self, desk: Desk, intake: Intake, issuing: Issuing) -> None:
        self._desk = desk
        self._intake = intake
        self._issuing = issuing

    def expect_evidence(self, actor: Actor, application_id: str, kind: str) -> tuple[Application, bool]:
        """Raise unless the actor may put evidence of this kind on file now; whether it is a signed form."""
        desk = self._desk
        application = desk.load(application_id)
        travels = kind in desk.travelling(application.member_class)
        require(actor, Act.ATTEST if travels else Act.VOUCH, application)
        desk.must(application, Action.RECORD)
        return application, travels

    def add_evidence(
        self, actor: Actor, application_id: str, new: NewEvidence, *, version: int | None = None
    ) -> Application:
        """Put evidence on file. Earlier decisions fall away, because they were made over other evidence."""
        desk = self._desk
        application, travels = self.expect_evidence(actor, application_id, new.kind)
        desk.unchanged(application, version)
        if travels:
            check_form(len(new.body))
        if len(desk.store.evidence(application.id)) >= _MOST_EVIDENCE:
            raise InvalidSubmissionError(
                "a case has at most {most} pieces of evidence", clause="CPS 4.2.1", most=_MOST_EVIDENCE
            )
        if not travels:
            check_document(new.body, new.media_type, desk.pack, on_file=desk.store.evidence_size(application.id))
        source = text_input.text("source", new.source, clause="CPS 4.2.1")
        try:
            piece = Evidence(
                kind=new.kind,
                sha256=hashlib.sha256(new.body).digest(),
                source=source,
                collected_by=actor.author.person,
                collected_at=desk.now,
                expires_at=new.expires_at,
                body=new.body if travels else None,
            )
        except ValueError:
            raise InvalidSubmissionError("a field of the evidence is not as it should be", clause="CPS 4.2.1") from None
        if piece.expires_at is not None and piece.expires_at <= piece.collected_at:  # it would only undo decisions
            raise InvalidSubmissionError(
                "the evidence expired at {time}, and would count for nothing", clause="CPS 4.2.1", time=piece.expires_at
            )
        after, verdict = application.state, None
        if after in DECIDABLE:
            dossier = desk.dossier(application)
            verdict = desk.judge(dossier.model_copy(update={"evidence": (*dossier.evidence, piece)}))
            after = decidable_state(verdict)
        detail = {"kind": piece.kind, "sha256": piece.sha256.hex()}
        passage, change = Passage(Action.RECORD, after, detail), Change(evidence=((piece, new.body),))
        return self._issuing.advance(desk.pass_on(application, actor, passage, change, verdict=verdict))

    def decide(self, actor: Actor, application_id: str, signed: bytes) -> Application:
        """Take an officer's decision (CMS, DER). The same decision again changes nothing.

        Raises RefusedError naming the clause for a decision that does not count: it is not put on file, but in the
        journal. What counts is the signature; `actor` is who handed it in.
        """
        desk = self._desk
        application = desk.load(application_id)
        require(actor, Act.REVIEW)
        foreign = borrowed(actor, signed, CT_DECISION, desk.pack)
        if foreign is not None:
            self._note_refusal(actor, application, [foreign], signed)
            raise RefusedError([foreign])
        if any(received.cms == signed for received in desk.store.decisions(application.id)):
            return application
        desk.must(application, Action.DECIDE)
        dossier = desk.dossier(application)
        verdict = desk.judge(dossier.with_decision(signed))
        if verdict.broken:
            self._break(application, verdict)
            raise RefusedError(verdict.broken)
        objections = [each for each in verdict.about(len(dossier.decisions)) if each.code is not Rule.DEC_REJECTED]
        if objections:
            self._note_refusal(actor, application, objections, signed)
            overtaken = any(each.code in _OVERTAKEN for each in objections)
            raise RefusedError(objections, done=desk.done_last(application) if overtaken else None)
        return self._issuing.advance(self._issuing.take_decision(application, actor, signed, verdict))

    def hold(self, actor: Actor, application_id: str, reason: str, *, version: int | None = None) -> Application:
        """Stop a case for the time being; the clock of deciding stands still until `release`."""
        desk = self._desk
        application = desk.take(actor, Act.HOLD, application_id, Action.HOLD, version)
        reason = text_input.text("reason", reason, needed=True, clause="CPS 4.2")
        values = {"held_from": str(application.state), "held_since": desk.now, "trouble": trouble_for(reason)}
        passage = Passage(Action.HOLD, State.ON_HOLD, {"reason": reason})
        return desk.pass_on(application, actor, passage, Change(values=values))

    def release(self, actor: Actor, application_id: str, reason: str, *, version: int | None = None) -> Application:
        """Let a case go on from where it was held, judged anew."""
        desk = self._desk
        application = desk.take(actor, Act.HOLD, application_id, Action.RELEASE, version)
        reason = text_input.text("reason", reason, needed=True, clause="CPS 4.2")
        assert application.held_from is not None  # it is on hold
        assert application.held_since is not None
        values: dict[str, Any] = {"held_from": None, "held_since": None, "trouble": None}
        if application.decide_from is not None and application.decide_by is not None:
            stood = desk.now - application.held_since
            values |= {"decide_from": application.decide_from + stood, "decide_by": application.decide_by + stood}
        after, verdict = application.held_from, None
        if after in DECIDABLE:
            verdict = desk.judge(desk.dossier(application))
            after = refused_state(verdict.broken) if verdict.broken else decidable_state(verdict)
            values["trouble"] = trouble_of(verdict.broken)
        passage = Passage(Action.RELEASE, after, {"reason": reason})
        return self._issuing.advance(desk.pass_on(application, actor, passage, Change(values=values), verdict=verdict))

    def send_back(self, actor: Actor, application_id: str, reason: str, *, version: int | None = None) -> Application:
        """Return a case to the applicant, who amends or withdraws it; decisions made over it fall away then."""
        desk = self._desk
        application = desk.take(actor, Act.RETURN, application_id, Action.RETURN, version)
        reason = text_input.text("reason", reason, needed=True, clause="CPS 4.2")
        passage = Passage(Action.RETURN, State.RETURNED, {"reason": reason})
        return desk.pass_on(application, actor, passage, Change(values={"trouble": trouble_for(reason)}))

    def judge_again(self, application: Application) -> Application:
        """Judge a waiting case because time has passed: an approval may have lapsed, evidence be too old."""
        desk = self._desk
        verdict = desk.judge(desk.dossier(application))
        if verdict.broken:
            return self._break(application, verdict)
        after = decidable_state(verdict)
        if after is State.APPROVED:
            return self._issuing.advance(application)
        passage = Passage(Action.RETURN, after, {"findings": told(verdict.findings)})
        trouble = trouble_of([each for each in verdict.findings if each.decision is not None])
        changed = desk.pass_on(application, SYSTEM, passage, Change(values={"trouble": trouble}), verdict=verdict)
        return self._issuing.advance(changed)

    def _break(self, application: Application, verdict: Verdict) -> Application:
        """Send a case back in which a rule broke while it waited; one whose statement is superseded is judged anew."""
        if all(each.code is Rule.PACK_PIN for each in verdict.broken):
            return self._intake.reevaluate(application)
        passage = Passage(Action.RETURN, refused_state(verdict.broken), {"findings": told(verdict.broken)})
        change = Change(values={"trouble": trouble_of(verdict.broken)})
        return self._desk.pass_on(application, SYSTEM, passage, change, verdict=verdict)

    def _note_refusal(self, actor: Actor, application: Application, objections: list[Finding], signed: bytes) -> None:
        try:
            person = read_decision(signed).person
        except (PkiError, StatementError):
            person = ""
        self._desk.record.note(
            "ra.refused",
            action="decide",
            application=application.id,
            actor=actor.name,
            person=person,
            rules=[str(each.code) for each in objections],
            decision_sha256=hashlib.sha256(signed).hexdigest(),
        )
