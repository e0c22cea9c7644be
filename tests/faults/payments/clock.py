"""Clocks that a test moves while services run: each service's is a file with the seconds by which it is off."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Final

PEOPLE: Final = "people.clock"


class MovedClock:
    """The machine's clock and what the file says; called, an aware time in UTC. A file that is not there says 0."""

    def __init__(self, path: Path) -> None:
        self._path = path

    def __call__(self) -> datetime:
        return datetime.now(UTC) + timedelta(seconds=self.offset)

    @property
    def folder(self) -> Path:
        """Where the clocks of its system are."""
        return self._path.parent

    @property
    def of_people(self) -> MovedClock:
        """The people's in the same system: the time that has passed."""
        return MovedClock(self.folder / PEOPLE)

    @property
    def offset(self) -> float:
        """Seconds ahead of the machine's clock."""
        try:
            return float(self._path.read_text("ascii"))
        except FileNotFoundError:
            return 0.0

    def move(self, offset: float) -> None:
        """Be so many seconds ahead from now on."""
        staged = self._path.with_suffix(".new")
        staged.write_text(f"{offset}", "ascii")
        staged.replace(self._path)
