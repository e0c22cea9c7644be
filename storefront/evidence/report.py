"""A judgement in lines for people: the question that was asked, then who is bound to what, then what is missing."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final

from runtime.language import Language, Message, Term, text_of
from storefront.evidence.claims import MEANINGS, Claim, Decision
from storefront.evidence.judgement import Judgement
from storefront.evidence.moments import moment
from storefront.evidence.second_opinion import SecondOpinion
from storefront.evidence.statements import State, Statement

DISAGREE: Final = "OUR JUDGE AND verify.sh (OpenSSL) DISAGREE about {statements}: believe neither until it is explained"
_MARKS: Final = {State.PROVEN: "✓", State.BROKEN: "✗", State.ABSENT: "–"}


@dataclass(frozen=True, slots=True)
class Line:
    """One line of a report: how deep it stands, and its text, without markup."""

    depth: int
    text: str


def claims(language: Language) -> list[Line]:
    """The closed list of claims."""
    return [Line(0, f"{claim.value}: {text_of(MEANINGS[claim], language)}") for claim in Claim]


def report(
    judgement: Judgement, decision: Decision | None, second: SecondOpinion | None, language: Language
) -> list[Line]:
    """Everything that a person is told."""
    return [Line(depth, text_of(said, language)) for depth, said in _said(judgement, decision, second)]


def _said(
    judgement: Judgement, decision: Decision | None, second: SecondOpinion | None
) -> Iterator[tuple[int, object]]:
    dossier = judgement.case.dossier
    if second is not None and second.disagreements(judgement):
        names = ", ".join(second.disagreements(judgement))
        yield 0, Message(DISAGREE, statements=names)
    if decision is not None:
        verdict = Term("verdict", decision.verdict.value)
        yield 0, Message("{claim}: {verdict}", claim=MEANINGS[decision.claim], verdict=verdict)
        for reason in decision.reasons:
            yield 1, reason
        if decision.rests_on:
            yield 1, Message("files: {files}", files=", ".join(decision.rests_on))
    yield 0, Message("purchase {xid}, judged as of {time}", xid=dossier.xid.hex(), time=moment(dossier.when))
    for statement in judgement.statements.values():
        if statement.there:
            yield from _statement(statement)
    if dossier.details is not None:
        yield 0, Message("the order's lines")
        for line in dossier.details.lines:
            yield 1, Message("{quantity} × {name}", quantity=line.quantity, name=line.name)
    if judgement.gaps:
        yield 0, Message("not proven by this bundle")
        for gap in judgement.gaps:
            yield 1, gap
    if second is not None and not second.disagreements(judgement):
        yield 0, Message("verify.sh (OpenSSL alone) says the same")
    yield 0, Message("the evidence as a whole: {conclusion}", conclusion=Term("conclusion", judgement.conclusion.value))


def _statement(statement: Statement) -> Iterator[tuple[int, object]]:
    party = statement.party
    mark = _MARKS[statement.state]
    if party is None:
        yield 0, Message("{mark} {what}", mark=mark, what=statement.what)
    else:
        who = Term("party", party.role)
        name = party.id if party.name is None else f"{party.name} ({party.id})"
        yield 0, Message("{mark} {who} {name}: {what}", mark=mark, who=who, name=name, what=statement.what)
    if statement.since is not None:
        yield 1, Message("since {time}", time=moment(statement.since))
    yield 1, Message("files: {files}", files=", ".join(statement.proven_by))
    if party is not None:
        yield 1, Message("certificate {serial}", serial=party.serial)
    for status in statement.status:
        yield 1, status
    for fault in dict.fromkeys((*statement.faults, *statement.mismatches)):
        yield 1, Message("does not hold: {fault}", fault=fault)
