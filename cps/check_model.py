"""The `checks:` of a pack: what is asked about an applicant, of whom, and what comes of each answer or of none.

Three ways to know:

    register   the RA asks a register or bank through a connector (`ra.checks`), again and again until it answers
    evidence   the register gives its signed word to the applicant, who hands it in as evidence (`cps.evidence`)
    code       the applicant types in a code that was sent to their phone

A check has no outcome "all right, nobody answered": silence is a risk signal or puts the case on hold, a contradiction
is a risk signal, sends the case back or ends it, and a question that cannot be asked is a risk signal.
"""

from __future__ import annotations

from datetime import timedelta
from typing import Annotated, Any, Final, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, model_validator

CheckKind = Literal["national_code", "company_register", "iban_owner", "card", "phone_code"]
OnContradiction = Literal["signal", "return", "reject"]
OnSilence = Literal["signal", "hold"]

OTHERWISE: Final = "otherwise"
CONTRADICTED: Final = "{kind}_contradicted"
UNANSWERED: Final = "{kind}_unanswered"
NOT_ASKED: Final = "{kind}_not_asked"
ANSWERS_DIFFER: Final = "answers_differ"

Positive = Annotated[timedelta, Field(gt=timedelta(0))]


class _Model(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class EvidenceCheck(_Model):
    """The register's signed word, which the applicant hands in as this kind of evidence and everybody verifies."""

    way: Literal["evidence"]
    section: str
    classes: tuple[str, ...] = Field(min_length=1)
    evidence: str

    def signals(self, _kind: str) -> tuple[str, ...]:
        """None: without the evidence nothing is certified (EVID-MISSING, EVID-CARD)."""
        return ()


class _Asked(_Model):
    section: str
    classes: tuple[str, ...] = Field(min_length=1)
    evidence: str
    patience: Positive = Field(description="how long it may stay unanswered before it counts as silent")
    contradiction: dict[str, OnContradiction] = Field(description="by the register's reason; `otherwise` is the rest")
    silence: OnSilence

    @model_validator(mode="after")
    def _every_reason_has_a_consequence(self) -> Self:
        if OTHERWISE not in self.contradiction:
            raise ValueError(f"contradiction says what becomes of reasons that it does not name: {OTHERWISE}")
        return self

    def consequence(self, reason: str) -> OnContradiction:
        """What a contradiction for this reason does."""
        return self.contradiction.get(reason, self.contradiction[OTHERWISE])

    def signals(self, kind: str) -> tuple[str, ...]:
        """The risk signals that can come of the check."""
        return (*(each.format(kind=kind) for each in (CONTRADICTED, UNANSWERED, NOT_ASKED)), ANSWERS_DIFFER)


class _Tried(_Asked):
    """`timeout` is the limit of one try, `backoff` the pauses between them, the last of which is repeated."""

    timeout: Positive
    backoff: tuple[Positive, ...] = Field(min_length=1)

    def pause_after(self, tries: int) -> timedelta:
        """How long to wait after that many tries without an answer (from 1)."""
        return self.backoff[min(tries, len(self.backoff)) - 1]


class RegisterCheck(_Tried):
    """A question to a register."""

    way: Literal["register"]


class CodeCheck(_Tried):
    """A one-time code sent to a phone: its digits, its life, and how often it is tried and sent.

    `timeout` and `backoff` are those of the gateway that sends it. `sends` are for one case, `daily_sends` for one
    number in 24 hours, whatever the case.
    """

    way: Literal["code"]
    digits: int = Field(ge=6, le=8)
    lifetime: Positive
    tries: int = Field(ge=1, le=5)
    sends: int = Field(ge=1, le=5)
    resend_after: Positive
    daily_sends: int = Field(ge=1)


CheckRule = Annotated[RegisterCheck | CodeCheck | EvidenceCheck, Field(discriminator="way")]


def require_consistent(checks: dict[CheckKind, Any], classes: set[str], signals: set[str]) -> None:
    """Raise ValueError if a check names a class that there is not, or can lead to a signal that has no weight."""
    for kind, check in checks.items():
        if unknown := set(check.classes) - classes:
            raise ValueError(f"checks.{kind}.classes names {sorted(unknown)}, which the pack does not define")
        if unknown := set(check.signals(kind)) - signals:
            raise ValueError(f"checks.{kind} leads to the signals {sorted(unknown)}, which risk.signals does not weigh")
