"""What `decide` answers."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum

from cps.model import Pack
from cps.rules import Rule
from runtime.language import Language, Message


class Status(StrEnum):
    """`pending` can still become approved with other decisions or evidence, `refused` only with another revision."""

    APPROVED = "approved"
    PENDING = "pending"
    REFUSED = "refused"


@dataclass(frozen=True, slots=True)
class Finding:
    """A rule that something in the case breaks; `decision` is the index of the decision that does, if one does."""

    code: Rule
    clause: str
    told: Message
    decision: int | None = None

    @property
    def message(self) -> str:
        """What is wrong, in English: for journals and programs."""
        return str(self.told)

    def text(self, language: Language) -> str:
        """What is wrong, for a person."""
        return self.told.text(language)

    def __str__(self) -> str:
        return f"{self.clause} {self.code}: {self.message}"


Objection = tuple[Rule, Message]
"""The rule that keeps something from counting, and why."""


@dataclass(frozen=True, slots=True)
class NextStep:
    """The step that is due: `missing` decisions of different persons who hold one of the roles `by`."""

    name: str
    by: tuple[str, ...]
    missing: int


@dataclass(frozen=True, slots=True)
class Approval:
    """A decision that counts: who approved which step when, by which of the dossier's decisions, and until when.

    `lapses_at` is None for an order, which never lapses.
    """

    step: str
    person: str
    organisation: str
    signed_at: datetime
    decision: int
    lapses_at: datetime | None = None


@dataclass(frozen=True, slots=True)
class Verdict:
    """The judgement of a case at one instant.

    `not_after` is the latest end of validity that the statement allows a certificate issued now; None unless approved.
    `broken` are those of the findings that only another revision can mend. `holds_until` is the first instant at which
    time alone may change the judgement, because an approval lapses or a piece of evidence grows too old; None if there
    is none.
    """

    status: Status
    next_step: NextStep | None
    findings: tuple[Finding, ...]
    approvals: tuple[Approval, ...]
    risk: int
    not_after: datetime | None
    broken: tuple[Finding, ...] = ()
    holds_until: datetime | None = None

    @property
    def approved(self) -> bool:
        return self.status is Status.APPROVED

    @property
    def lacking(self) -> tuple[Finding, ...]:
        """What is wrong with the evidence: those of the findings that other evidence can mend."""
        return tuple(each for each in self.findings[len(self.broken) :] if each.decision is None)

    def about(self, decision: int) -> tuple[Finding, ...]:
        """The findings about the decision with this index in the dossier."""
        return tuple(finding for finding in self.findings if finding.decision == decision)


class Findings:
    """Collects findings under one pack, so that each names its clause."""

    def __init__(self, pack: Pack) -> None:
        self._pack = pack
        self._found: list[Finding] = []

    def add(self, rule: Rule, template: str, decision: int | None = None, **params: object) -> None:
        """Note that `rule` is broken; the sentence is put together when somebody reads it (`runtime.language`)."""
        self.object(rule, Message(template, **params), decision)

    def object(self, rule: Rule, told: Message, decision: int | None = None) -> None:
        """Note an `Objection`."""
        self._found.append(Finding(rule, self._pack.clause(rule), told, decision))

    def __bool__(self) -> bool:
        return bool(self._found)

    def all(self) -> tuple[Finding, ...]:
        return tuple(self._found)
