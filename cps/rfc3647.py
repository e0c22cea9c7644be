"""The outline that a certification practice statement follows: RFC 3647 section 6, every heading in two languages.

The outline is data (`rfc3647.yaml`). A statement answers every heading of it, so what it leaves out shows.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from importlib.resources import files
from itertools import pairwise
from typing import Final, Literal

from cps import strict_yaml

Language = Literal["en", "fa"]
LANGUAGES: Final[tuple[Language, ...]] = ("en", "fa")


@dataclass(frozen=True, slots=True)
class Heading:
    """A heading: its number (`4.9.5`), its title by language, and whether headings stand below it."""

    number: str
    titles: Mapping[Language, str]
    has_parts: bool

    @property
    def level(self) -> int:
        """1 for a chapter, 3 for the deepest."""
        return self.number.count(".") + 1


@cache
def outline() -> Mapping[str, Heading]:
    """Every heading by its number, in the order of the document."""
    found = strict_yaml.load(files("cps").joinpath("rfc3647.yaml").read_text(encoding="utf-8"))
    numbers = list(found)
    parents = {number for number, following in pairwise(numbers) if following.startswith(f"{number}.")}
    return {number: Heading(number, titles, number in parents) for number, titles in found.items()}


def heading_of(section: str) -> str:
    """The number of the heading that a section of the pack belongs to: `4.2/merchant` is a part of 4.2."""
    return section.partition("/")[0]


def above(number: str) -> tuple[str, ...]:
    """A heading and those it stands below, itself first: 4.9.5, 4.9, 4."""
    parts = number.split(".")
    return tuple(".".join(parts[:count]) for count in range(len(parts), 0, -1))
