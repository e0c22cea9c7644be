"""The JSON of what lost replicas left, over the wire, for the application and the client alike."""

from __future__ import annotations

from datetime import datetime
from typing import Annotated

from pydantic import Field

from ra.wire import Wire

_MOST = 10_000

Key = Annotated[str, Field(max_length=200)]
Number = Annotated[int, Field(ge=0, lt=2**31)]


class LeftView(Wire):
    """What a replica stored and wrote into no journal: how much, since when, and the keys of the entries."""

    replica: str
    count: int
    since: datetime
    keys: tuple[str, ...]


class SeenJournal(Wire):
    """A lost replica's journal: how many entries it has, for which keys it was searched, numbers of those found."""

    size: Annotated[int, Field(ge=0, lt=2**31)]
    searched: Annotated[tuple[Key, ...], Field(max_length=_MOST)]
    recorded: Annotated[dict[Key, Number], Field(max_length=_MOST)]


class TakeOver(Wire):
    """`journal` is the lost replica's; null: it is gone."""

    journal: SeenJournal | None


class TakenOverView(Wire):
    """How many entries stood in the lost replica's journal, and how many another one has written."""

    noted: int
    written: int
