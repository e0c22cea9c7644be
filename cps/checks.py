"""From what registers answered to what becomes of a case: one pure function.

    conclude(pack, "merchant", {"iban_owner": Outcome("confirmed"), "company_register": Outcome("unanswered")})

Whoever leaves out the outcome of a check that the class has gets what silence gets. Only if every check is confirmed is
nothing to be said; everything else is a finding, a risk signal or a hold, and a finding ends in a return or rejection.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final, Literal

from cps.check_model import ANSWERS_DIFFER, CONTRADICTED, NOT_ASKED, UNANSWERED, CheckKind, CodeCheck, RegisterCheck
from cps.model import MemberClass, Pack
from cps.rules import Rule
from cps.verdict import Finding, Findings
from runtime.language import Term

Status = Literal["confirmed", "contradicted", "unanswered", "not_asked"]
"""`unanswered`: nobody answered in time, or the register says that it cannot tell. `not_asked`: the applicant did not
give what one would ask with, such as a phone number."""
Disposition = Literal["proceed", "hold", "return", "reject"]
_ORDER: Final[tuple[Disposition, ...]] = ("proceed", "hold", "return", "reject")


@dataclass(frozen=True, slots=True)
class Outcome:
    """How a check ended; `reason` is the register's code for a contradiction.

    `differs`: the register answered the same question of the case otherwise before.
    """

    status: Status
    reason: str = ""
    differs: bool = False


@dataclass(frozen=True, slots=True)
class Conclusion:
    """What becomes of a case: where it goes, the risk signals of its next revision, and what it is told."""

    disposition: Disposition
    signals: tuple[str, ...]
    findings: tuple[Finding, ...]


_SILENT: Final = Outcome("unanswered")


def checks_of(pack: Pack, member_class: MemberClass) -> dict[CheckKind, RegisterCheck | CodeCheck]:
    """The checks of a class that the RA itself makes, in the order of the pack."""
    return {
        kind: check for kind, check in pack.checks.items() if member_class in check.classes and check.way != "evidence"
    }


def conclude(pack: Pack, member_class: MemberClass, outcomes: Mapping[CheckKind, Outcome]) -> Conclusion:
    """What becomes of a case of this class after all of its checks ended so."""
    found = Findings(pack)
    signals: list[str] = []
    disposition: Disposition = "proceed"
    for kind, check in checks_of(pack, member_class).items():
        outcome = outcomes.get(kind, _SILENT)
        leads: Disposition = "proceed"
        if outcome.status == "contradicted":
            consequence = check.consequence(outcome.reason)
            signals.append(CONTRADICTED.format(kind=kind))
            if consequence != "signal":
                leads = consequence
                found.add(
                    Rule.CHECK_CONTRADICTED,
                    "{check}: the register says otherwise ({reason})",
                    check=Term("check", kind),
                    reason=Term("check_reason", outcome.reason or "unspecified"),
                )
        elif outcome.status == "unanswered":
            signals.append(UNANSWERED.format(kind=kind))
            if check.silence == "hold":
                leads = "hold"
                found.add(
                    Rule.CHECK_SILENT,
                    "{check}: there was no answer in the time that the check has",
                    check=Term("check", kind),
                )
        elif outcome.status == "not_asked":
            signals.append(NOT_ASKED.format(kind=kind))
        if outcome.differs and ANSWERS_DIFFER not in signals:
            signals.append(ANSWERS_DIFFER)
        disposition = max(disposition, leads, key=_ORDER.index)
    return Conclusion(disposition, tuple(signals), found.all())
