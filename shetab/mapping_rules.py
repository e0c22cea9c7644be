"""Kinds of rules by which a field of the wire is another one inside. What they say is data of a dialect file.

What a rule invents for the wire (a reason code that nobody inside asks for) it takes back silently.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from functools import cached_property
from typing import Annotated, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, model_validator

from shetab.errors import ValueFormatError
from shetab.mapping_base import NOT_CARRIED, NOT_KNOWN, BaseRule, Fields, NotMappedError, RenamedRule, Times, Written
from shetab.mapping_dates import Dated, LocalTime, Original
from shetab.subfields import ReplacementAmounts
from shetab.types import Rial


class Move(RenamedRule):
    """The same value under another number."""

    kind: Literal["move"]

    def to_wire(self, source: Fields, target: Written, times: Times, mtis: Mapping[str, str]) -> None:
        if self.inside in source:
            target[self.outside] = source[self.inside]

    def from_wire(self, source: Fields, target: Written, times: Times, mtis: Mapping[str, str]) -> None:
        if self.outside in source:
            target[self.inside] = source[self.outside]


class Code(RenamedRule):
    """Another code for the same meaning, by a table in each direction.

    Each code inside comes back as itself. Several codes of the wire may be one inside; which of them it is then is kept
    with the message. `unlisted` is what a code of the wire is that is in no table; without it such a code is refused.
    """

    kind: Literal["code"]
    to: dict[str, str]
    also: dict[str, str] = Field(default={})
    """Further codes of the wire, by what they are inside."""
    unlisted: str | None = None

    @cached_property
    def back(self) -> dict[str, str]:
        """Codes inside by those of the wire."""
        return {wire: inside for inside, wire in self.to.items()} | self.also

    @model_validator(mode="after")
    def _each_code_comes_back(self) -> Self:
        if len(set(self.to.values())) != len(self.to) or self.also.keys() & set(self.to.values()):
            raise ValueError("a code of the wire is given twice")
        if unknown := [code for code in self.also.values() if code not in self.to]:
            raise ValueError(f"code {unknown[0]} inside has none on the wire")
        if self.unlisted in self.to:
            raise ValueError("what is unlisted has a code on the wire")
        return self

    @property
    def kept(self) -> frozenset[int]:
        return frozenset() if self.unlisted is None else frozenset({self.outside})

    def to_wire(self, source: Fields, target: Written, times: Times, mtis: Mapping[str, str]) -> None:
        if self.inside in source and source[self.inside] != self.unlisted:
            if (code := self.to.get(source[self.inside])) is None:
                raise NotMappedError(self.inside, NOT_CARRIED)
            target[self.outside] = code

    def from_wire(self, source: Fields, target: Written, times: Times, mtis: Mapping[str, str]) -> None:
        if self.outside in source:
            if (code := self.back.get(source[self.outside], self.unlisted)) is None:
                raise NotMappedError(self.outside, NOT_KNOWN)
            target[self.inside] = code


class PartialAmount(BaseRule):
    """Inside, DE 4 stays what it was and DE 95 says what is left of it.

    Outside, DE 4 is what is left, `outside` (2 × n12) what it was, and `flag` whether that is a part.
    """

    kind: Literal["partial_amount"]
    inside: int
    amount: int
    outside: int
    flag: int
    partial: str

    @property
    def taken_inside(self) -> frozenset[int]:
        return frozenset({self.inside, self.amount})

    @property
    def taken_outside(self) -> frozenset[int]:
        return frozenset({self.outside, self.amount})

    def left(self, source: Fields) -> str:
        """The amount of the message as it is on the wire; `source` are canonical fields.

        :raises NotMappedError: DE 95 has more than an amount.
        """
        if self.inside not in source:
            return source[self.amount]
        try:
            return ReplacementAmounts.from_de95(source[self.inside]).amount.to_de4()
        except ValueFormatError:
            raise NotMappedError(self.inside, NOT_CARRIED) from None

    def to_wire(self, source: Fields, target: Written, times: Times, mtis: Mapping[str, str]) -> None:
        target[self.amount], target[self.outside] = self.left(source), source[self.amount] * 2

    def from_wire(self, source: Fields, target: Written, times: Times, mtis: Mapping[str, str]) -> None:
        target[self.amount] = source[self.outside][:12]
        if source[self.flag] == self.partial:
            target[self.inside] = ReplacementAmounts(Rial.from_de4(source[self.amount])).to_de95()


class Case(BaseModel):
    """A value for the wire, if the canonical fields named in `when` are there and match their patterns."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    when: dict[int, str] = {}
    value: str

    @cached_property
    def _patterns(self) -> dict[int, re.Pattern[str]]:
        return {field: re.compile(pattern) for field, pattern in self.when.items()}

    def fits(self, source: Fields) -> bool:
        """Whether this case is that of a message with these canonical fields."""
        return all(field in source and pattern.fullmatch(source[field]) for field, pattern in self._patterns.items())


class Filled(BaseRule):
    """A field of the wire that follows from others: the first case that fits says its value.

    Another value that comes is kept with the message, or refused if the field is `strict`.
    """

    kind: Literal["filled"]
    outside: int
    strict: bool = False
    cases: tuple[Case, ...]

    @property
    def taken_inside(self) -> frozenset[int]:
        return frozenset()

    @property
    def taken_outside(self) -> frozenset[int]:
        return frozenset({self.outside})

    @property
    def kept(self) -> frozenset[int]:
        return frozenset() if self.strict else frozenset({self.outside})

    def to_wire(self, source: Fields, target: Written, times: Times, mtis: Mapping[str, str]) -> None:
        found = next((case for case in self.cases if case.fits(source)), None)
        if found is not None:
            target[self.outside] = found.value

    def from_wire(self, source: Fields, target: Written, times: Times, mtis: Mapping[str, str]) -> None:
        """Nothing inside says it."""


class Slot(BaseModel):
    """A letter of a template: a part of a canonical field, by a table. The part "" is that of an absent field."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    of: int
    at: tuple[int, int]
    table: dict[str, str] = {}
    """Without a table the part stands for itself."""

    @cached_property
    def back(self) -> dict[str, str]:
        """Parts by what they are on the wire."""
        return {wire: part for part, wire in self.table.items()}

    @model_validator(mode="after")
    def _each_part_comes_back(self) -> Self:
        if len(set(self.table.values())) != len(self.table):
            raise ValueError(f"two parts of field {self.of} are the same on the wire")
        return self


class Composed(BaseRule):
    """A field of the wire that is written from parts of several, by a template: `by` says which, if it is not the only.

    A run of the same small letter in a template is a slot; everything else stands for itself. `rest` is what a field
    inside has beyond its slots.
    """

    kind: Literal["composed"]
    outside: int
    by: int | None = None
    templates: dict[str, str]
    slots: dict[str, Slot]
    rest: dict[int, str] = Field(default={})

    @cached_property
    def _forms(self) -> dict[str, re.Pattern[str]]:
        run = re.compile("|".join(f"{letter}+" for letter in self.slots))
        return {
            key: re.compile(run.sub(lambda found: f"(?P<{found[0][0]}>.{{{len(found[0])}}})", template))
            for key, template in self.templates.items()
        }

    @property
    def taken_inside(self) -> frozenset[int]:
        by = frozenset() if self.by is None else frozenset({self.by})
        return by | {slot.of for slot in self.slots.values()}

    @property
    def taken_outside(self) -> frozenset[int]:
        return frozenset({self.outside})

    def to_wire(self, source: Fields, target: Written, times: Times, mtis: Mapping[str, str]) -> None:
        if not self.taken_inside & source.keys():
            return
        key = "" if self.by is None else source.get(self.by, "")
        if key not in self.templates:
            raise NotMappedError(self.by or self.outside, NOT_CARRIED)
        for field, rest in self.rest.items():
            if field in source and not source[field].endswith(rest):
                raise NotMappedError(field, NOT_CARRIED)
        template = self.templates[key]
        for letter, slot in self.slots.items():
            part = source.get(slot.of, "")[slice(*slot.at)]
            written = slot.table.get(part, None if slot.table else part)
            if written is None:
                raise NotMappedError(slot.of, NOT_CARRIED)
            template = re.sub(f"{letter}+", written, template)  # digits and letters: nothing that `sub` would expand
        target[self.outside] = template

    def from_wire(self, source: Fields, target: Written, times: Times, mtis: Mapping[str, str]) -> None:
        if self.outside not in source:
            return
        found = ((key, form.fullmatch(source[self.outside])) for key, form in self._forms.items())
        key, match = next(((key, match) for key, match in found if match is not None), ("", None))
        if match is None:
            raise NotMappedError(self.outside, NOT_KNOWN)
        parts: dict[int, str] = {} if self.by is None else {self.by: key}
        for letter, slot in self.slots.items():
            if slot.table and match[letter] not in slot.back:
                raise NotMappedError(self.outside, NOT_KNOWN)
            part = slot.back[match[letter]] if slot.table else match[letter]
            parts[slot.of] = parts.get(slot.of, "") + part
        target.update({field: part + self.rest.get(field, "") for field, part in parts.items() if part})


Rule = Annotated[
    Move | Code | LocalTime | Dated | Original | PartialAmount | Filled | Composed, Field(discriminator="kind")
]
"""Any of them. `mtis` of its methods are the MTIs of the wire by the canonical ones."""
