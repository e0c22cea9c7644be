"""Which event is told to whom, and with what: `rules.yaml` in frozen models."""

from __future__ import annotations

from collections.abc import Mapping
from functools import cache
from importlib.resources import files
from typing import Annotated, Final, Literal

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, model_validator

from cps.strict_yaml import load
from pki.notice import FIELDS
from ra.states import Action, State

APPLICANT: Final = "applicant"
WAITING: Final = "waiting"
"""The roles that may decide the step that is due."""


def _known_field(name: str) -> str:
    if name not in FIELDS:
        raise ValueError(f"no field of a notice is called {name!r}")
    return name


FieldName = Annotated[str, AfterValidator(_known_field)]


class _Model(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class Pattern(_Model):
    """Transitions: every part that is given holds. `before` and `after` are states, `detail` is what it notes."""

    action: frozenset[Action] = frozenset()
    before: frozenset[State] = frozenset()
    after: frozenset[State] = frozenset()
    detail: Mapping[str, str] = Field(default_factory=dict)

    def holds(self, action: str, before: str | None, after: str, detail: Mapping[str, str]) -> bool:
        """Whether a transition is one of these."""
        return (
            (not self.action or action in self.action)
            and (not self.before or before in self.before)
            and (not self.after or after in self.after)
            and all(detail.get(name) == value for name, value in self.detail.items())
        )


class Event(_Model):
    """One event. A line of a template is left out where a field that it names `may` be absent and is."""

    to: tuple[str, ...] = Field(min_length=1, description="applicant, waiting, or trusted roles")
    has: tuple[FieldName, ...] = ()
    may: tuple[FieldName, ...] = ()
    when: tuple[Pattern, ...] = Field(default=(), description="transitions that it is; none: told by another source")
    entry: frozenset[str] = Field(default=frozenset(), description="events of the RA's journal that it is")
    at_share_of_life: float | None = Field(default=None, gt=0, lt=1, description="when, in a certificate's life")
    ordered: bool = Field(default=True, description="after what was told before of the same application")

    @property
    def fields(self) -> frozenset[str]:
        return frozenset(self.has) | frozenset(self.may)


class Delivery(_Model):
    """How often, in seconds: the pauses after the first failures; the last one holds for all that follow."""

    pauses: tuple[int, ...] = Field(min_length=1)
    attempts: int = Field(gt=0, description="failures after which a notice is given up")
    lease: int = Field(gt=0, description="longer than any attempt can take")
    keep_days: int = Field(gt=0, description="of the address, after the end of a notice")

    def pause(self, failures: int) -> int:
        """Seconds to wait after this many failures, at least one."""
        return self.pauses[min(failures, len(self.pauses)) - 1]


class Rules(_Model):
    """The whole file."""

    version: Literal[1]
    delivery: Delivery
    events: Mapping[str, Event]

    @model_validator(mode="after")
    def _consistent(self) -> Rules:
        for name, event in self.events.items():
            if set(event.has) & set(event.may):
                raise ValueError(f"{name}: a field is there or may be there, not both")
        return self

    def of_transition(self, action: str, before: str | None, after: str, detail: Mapping[str, str]) -> list[str]:
        """The events that a transition is."""
        return [
            name
            for name, event in self.events.items()
            if any(pattern.holds(action, before, after, detail) for pattern in event.when)
        ]

    def of_entry(self, event: str) -> list[str]:
        """The events that an entry of the journal is."""
        return [name for name, each in self.events.items() if event in each.entry]


@cache
def rules() -> Rules:
    """The rules of this product; raises ValueError where the file is not as expected."""
    return Rules.model_validate(load(files(__package__).joinpath("rules.yaml").read_bytes()))
