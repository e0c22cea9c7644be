"""What all rules between the wire and canonical messages have in common; the kinds are in `shetab.mapping_rules`.

A rule reads canonical fields (`inside`) and writes fields of the wire (`outside`), and the other way round. It takes
the fields that it names out of what passes unchanged. Where it cannot carry a value, it refuses the message; nothing
is guessed.
"""

from __future__ import annotations

from collections.abc import Mapping, MutableMapping
from dataclasses import dataclass
from datetime import datetime
from typing import Final

from pydantic import BaseModel, ConfigDict

NOT_CARRIED: Final = "value_is_not_carried_by_the_dialect"
NOT_KNOWN: Final = "value_not_in_dialect"
WRONG_YEAR: Final = "year_is_not_that_of_now"

Fields = Mapping[int, str]
Written = MutableMapping[int, str]


@dataclass(frozen=True, slots=True)
class Times:
    """What says the years that fields lack inside; but for `now`, it is the message's own (`shetab.message`)."""

    now: datetime
    original_at: datetime | None = None
    local_at: datetime | None = None


class NotMappedError(Exception):
    """A field that a rule cannot carry. Caught by `shetab.mapping`, which knows the message."""

    def __init__(self, field: int, rule: str) -> None:
        super().__init__(f"field {field}: {rule}")
        self.field = field
        self.rule = rule


class BaseRule(BaseModel):
    """A rule of any kind."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    messages: frozenset[str] = frozenset()
    """Canonical MTIs that the rule is about; none: all."""
    besides: frozenset[str] = frozenset()
    """Canonical MTIs that it is not about."""

    def applies(self, mti: str) -> bool:
        """Whether the rule is about messages of this canonical MTI."""
        return mti not in self.besides and (not self.messages or mti in self.messages)

    @property
    def kept(self) -> frozenset[int]:
        """Fields of the wire whose value is kept with the message if it is not the one that the rule writes."""
        return frozenset()


class RenamedRule(BaseRule):
    """A rule about one field that has another number or value outside."""

    inside: int
    outside: int

    @property
    def taken_inside(self) -> frozenset[int]:
        return frozenset({self.inside})

    @property
    def taken_outside(self) -> frozenset[int]:
        return frozenset({self.outside})
