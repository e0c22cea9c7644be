"""DE 39 and what follows from it: `response_codes.yaml` as a frozen table."""

from __future__ import annotations

from functools import cache
from importlib import resources
from typing import Final, Literal, Self

from pydantic import BaseModel, ConfigDict, model_validator

from shetab import tables_yaml

OUT_OF_STEP: Final[dict[str, str]] = {"zone-pin": "89", "zone-mac": "87"}
"""What is said of a zone key that is not the one that the other end holds (1993: 919 and 917), by its kind."""
REFUSED_KEY: Final = frozenset({"30", "86", *OUT_OF_STEP.values()})
"""Answers to a key that was sent which say that it was not taken; after any other it may have been."""


class ResponseCode(BaseModel):
    """One line of the table."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    meaning: str
    auth_code: str
    """Name of the KWBP AuthCode; its number is in `ResponseCodes.auth_codes`."""
    outcome: Literal["approved", "declined", "unknown"]
    retry: Literal["never", "customer", "later", "rule"]
    reversal: Literal["done", "repeat", "manual"]
    alarm: bool = False


class ResponseCodes(BaseModel):
    """The whole table."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    auth_codes: dict[str, int]
    unlisted: ResponseCode
    codes: dict[str, ResponseCode]

    @classmethod
    @cache
    def load(cls) -> ResponseCodes:
        """The table of the 1987 dialects."""
        return cls.from_yaml(resources.files("shetab").joinpath("response_codes.yaml").read_text("utf-8"))

    @classmethod
    def from_yaml(cls, text: str) -> Self:
        """Read a table.

        :raises ValueError: unknown keys, or an AuthCode name without number.
        """
        return cls.model_validate(tables_yaml.load(text))

    @model_validator(mode="after")
    def _auth_codes_are_numbered(self) -> Self:
        for code in (self.unlisted, *self.codes.values()):
            if code.auth_code not in self.auth_codes:
                raise ValueError(f"AuthCode {code.auth_code} has no number")
        return self

    def of(self, rc: str) -> ResponseCode:
        """Meaning of DE 39; an unlisted code is outcome unknown, with an alarm."""
        return self.codes.get(rc, self.unlisted)

    def auth_code(self, rc: str) -> int:
        """Number of the KWBP AuthCode that DE 39 becomes towards the merchant."""
        return self.auth_codes[self.of(rc).auth_code]
