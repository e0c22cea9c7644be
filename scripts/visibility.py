"""The data-visibility matrix (`docs/protocol/visibility.yaml`): read, held together, and shown as tables.

A field stands in a place in one or more manners: clear, sealed, hashed, masked; where the matrix names none, never.
`tests/hostile/test_need_to_know.py` walks real purchases and holds each cell against what is found.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Annotated, Any, Final, Literal, Self, get_args

import yaml
from pydantic import BaseModel, ConfigDict, Field, model_validator

PATH: Final = Path(__file__).resolve().parents[1] / "docs" / "protocol" / "visibility.yaml"
Manner = Literal["clear", "sealed", "hashed", "masked"]
MANNERS: Final[tuple[Manner, ...]] = get_args(Manner)
_NEVER: Final = "never"


class _Strict(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class Place(_Strict):
    """Where data can be: a wire between parties, what a party stores, and what services write or tell."""

    kind: Literal["wire", "store", "log", "answer"]
    of: Annotated[tuple[str, ...], Field(min_length=1)]
    what: str


class FieldRow(_Strict):
    """One kind of data: who has it in clear by the protocol, and in which manner it is in which place."""

    what: str
    known_to: tuple[str, ...]
    clear: tuple[str, ...] = ()
    sealed: tuple[str, ...] = ()
    hashed: tuple[str, ...] = ()
    masked: tuple[str, ...] = ()

    def manners(self, place: str) -> frozenset[Manner]:
        """How it may, and does, stand in a place; empty: never."""
        return frozenset(manner for manner in MANNERS if place in getattr(self, manner))


class Matrix(_Strict):
    """All of it. Names are closed: a field cannot speak of a place or a party that is not there."""

    parties: Mapping[str, str]
    places: Mapping[str, Place]
    fields: Mapping[str, FieldRow]

    @model_validator(mode="after")
    def _names_are_known(self) -> Self:
        for name, place in self.places.items():
            if not set(place.of) <= self.parties.keys():
                raise ValueError(f"{name}: unknown party")
        for name, row in self.fields.items():
            named = {place for manner in MANNERS for place in getattr(row, manner)}
            if not named <= self.places.keys() or not set(row.known_to) <= self.parties.keys():
                raise ValueError(f"{name}: unknown place or party")
            strangers = {party for place in row.clear for party in self.places[place].of} - set(row.known_to)
            if strangers:
                raise ValueError(f"{name}: clear in a place of {sorted(strangers)}, who need not know it")
        return self

    def may(self, field: str, party: str) -> str:
        """The strongest manner in which a party has a field; `never`."""
        row = self.fields[field]
        if party in row.known_to:
            return "clear"
        held = {manner for place, each in self.places.items() if party in each.of for manner in row.manners(place)}
        return next((manner for manner in ("masked", "hashed", "sealed") if manner in held), _NEVER)


def load_matrix(path: Path = PATH) -> Matrix:
    """Read and check it. :raises ValueError: a key too many, or a name that is not there."""
    return Matrix.model_validate(yaml.safe_load(path.read_text("utf-8")))


def tables(matrix: Matrix) -> Iterator[tuple[str, tuple[str, ...], list[tuple[str, ...]]]]:
    """Title, head and rows of each table for `tables.md`."""
    parties = tuple(matrix.parties)
    yield (
        "Who may see what",
        ("field", "what it is", *parties),
        [
            (f"`{name}`", row.what, *(matrix.may(name, party) for party in parties))
            for name, row in matrix.fields.items()
        ],
    )
    yield (
        "Places",
        ("place", "kind", "of", "what it is"),
        [(f"`{name}`", each.kind, ", ".join(each.of), each.what) for name, each in matrix.places.items()],
    )
    yield "Where it is", ("field", *matrix.places), [_cells(matrix, name) for name in matrix.fields]


def _cells(matrix: Matrix, field: str) -> tuple[str, ...]:
    row: Any = matrix.fields[field]
    return (
        f"`{field}`",
        *(", ".join(manner for manner in MANNERS if manner in row.manners(place)) or _NEVER for place in matrix.places),
    )
