"""Who may decide the step that is due, and who may not and why: for people. What counts is `cps.decide`'s word.

The rules are those of its separation of duties, told before somebody signs in vain.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from cps.dossier import Revision, rule_of
from cps.model import AUTHOR, SAME_ORG, Pack, Step
from ra.client import ApplicationView, OfficerView
from ra.wire import DecisionView
from runtime.language import Message, Term, terms


@dataclass(frozen=True, slots=True)
class Candidates:
    """Persons who hold a role of the step: those who may decide it, and those who may not, with the reason."""

    may: tuple[str, ...]
    may_not: tuple[tuple[str, Message], ...]


def candidates(view: ApplicationView, pack: Pack, officers: Iterable[OfficerView]) -> Candidates:
    """Who may do what a submitted case waits for: decide the step, or bring evidence; nobody if it waits for none."""
    revision = view.revision
    if revision is None or view.next_step is None:
        return Candidates((), ())
    steps = rule_of(revision, pack).steps
    step = next((each for each in steps if each.name == view.next_step.name), None)
    may: list[str] = []
    may_not: list[tuple[str, Message]] = []
    for officer in officers:
        if not _roles(officer, revision).intersection(view.next_step.by):
            continue
        objection = None if step is None else _objection(officer, step, steps, revision, view.decisions, pack)
        if objection is None:
            may.append(officer.person_id)
        else:
            may_not.append((officer.person_id, objection))
    return Candidates(tuple(may), tuple(may_not))


def _roles(officer: OfficerView, revision: Revision) -> frozenset[str]:
    """The roles that are held now for cases of this class."""
    grants = (grant for each in officer.credentials for grant in each.grants if grant.in_effect)
    return frozenset(grant.role for grant in grants if grant.scope is None or revision.member_class in grant.scope)


def _objection(
    officer: OfficerView,
    step: Step,
    steps: Sequence[Step],
    revision: Revision,
    decisions: Sequence[DecisionView],
    pack: Pack,
) -> Message | None:
    person = officer.person_id
    if revision.subject.member_class == "officer" and revision.subject.person_id == person:
        return Message("is the person to be certified")
    if AUTHOR in step.excluded and any(author.person == person for author in revision.authors):
        return Message("wrote the application")
    if SAME_ORG in step.excluded and _fold(officer.organisation) in _organisations(revision):
        return Message("is employed by an organisation of the case")
    exclusive = pack.exclusive_roles(_roles(officer, revision))
    if exclusive:
        return Message("holds the exclusive roles {roles}", roles=terms("role", sorted(exclusive)))
    acted = [each for each in decisions if each.person == person]
    excluding = {each.name: each.excluded for each in steps}
    apart = sorted({each.step for each in acted if _apart(each.step, step, excluding.get(each.step, ()))})
    if apart:
        return Message("acted in {steps}", steps=terms("step", apart))
    if any(each.counts and each.step == step.name for each in acted):
        return Message("approved {step}", step=Term("step", step.name))
    return None


def _apart(acted: str, step: Step, excluded_there: Sequence[str]) -> bool:
    return acted in step.excluded or step.name in excluded_there


def _organisations(revision: Revision) -> set[str]:
    named = {author.organisation for author in revision.authors}
    if revision.subject.member_class != "cardholder":
        named.add(revision.subject.organisation)
    return {_fold(name) for name in named if name}


def _fold(organisation: str) -> str:
    return " ".join(organisation.casefold().split())
