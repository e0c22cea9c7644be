"""All versions of the statement that were ever published, one after the other, and which of them governs what.

    register = PackRegister((founding, second))
    register.in_force(now)               what binds today: revocations, denials, approvals, new cases
    register.governing(pin, now)         what a case is judged by that was made under `pin`

A version comes into force at its effective date and supersedes the one before it for good. What becomes of cases that
are open then, the superseding version says in `on_supersede`: `reevaluate` (they go back, CPS 9.12.1), or
`{grandfather_until: <date>}`, until when they are still judged by the version that they were made under.
"""

from __future__ import annotations

from collections.abc import Iterable
from datetime import datetime
from itertools import pairwise

from cps.dossier import CpsPin
from cps.errors import PackError
from cps.model import Pack
from cps.packs import published


class PackRegister:
    """Versions of one statement in their order. Immutable; a later publication makes another register."""

    def __init__(self, packs: Iterable[Pack]) -> None:
        """`packs`: the founding one first. Raises PackError unless each continues the one before it (`follows`)."""
        self.packs: tuple[Pack, ...] = tuple(packs)
        if not self.packs:
            raise PackError("a register holds at least the founding pack")
        for old, new in pairwise(self.packs):
            follows(old, new)

    @classmethod
    def founding(cls) -> PackRegister:
        """The register of a new installation: the pack that this release carries."""
        return cls((published(),))

    @property
    def newest(self) -> Pack:
        """The last version published, in force or not; the next publication names it as its predecessor."""
        return self.packs[-1]

    def with_pack(self, pack: Pack) -> PackRegister:
        """This register with one more version. Raises PackError as the constructor."""
        return PackRegister((*self.packs, pack))

    def in_force(self, now: datetime) -> Pack:
        """The version that binds at `now` (aware); before the first one's date the founding pack.

        That one then refuses every case itself (PACK-EFFECTIVE).
        """
        return self.packs[self._place_in_force(now)]

    def find(self, pin: CpsPin) -> Pack | None:
        """The published version with exactly this id, version and digest."""
        place = self._place(pin)
        return None if place is None else self.packs[place]

    def governing(self, pin: CpsPin, now: datetime) -> Pack:
        """The version that a case made under `pin` is judged by at `now` (aware).

        Its own while that is in force, and while every version that came into force since lets it be finished; else the
        one in force, whose rule PACK-PIN then refuses the case until it is made anew.
        """
        place, current = self._place(pin), self._place_in_force(now)
        if place is not None and place <= current and self._grandfathered(place, current, now):
            return self.packs[place]
        return self.packs[current]

    def _grandfathered(self, place: int, current: int, now: datetime) -> bool:
        since = (pack.cps.grandfather_until for pack in self.packs[place + 1 : current + 1])
        return all(until is not None and now < until for until in since)

    def _place(self, pin: CpsPin) -> int | None:
        wanted = (pin.id, pin.version, pin.digest)
        return next(
            (place for place, pack in enumerate(self.packs) if (pack.cps.id, pack.cps.version, pack.digest) == wanted),
            None,
        )

    def _place_in_force(self, now: datetime) -> int:
        return max((place for place, pack in enumerate(self.packs) if pack.cps.effective <= now), default=0)


def follows(old: Pack, new: Pack) -> None:
    """Check that `new` can supersede `old`: the same statement, a greater version, a later date, a URI of its own.

    Raises PackError with the reason.
    """
    if new.cps.id != old.cps.id:
        raise PackError("{new} is another statement than {old}", new=new.cps.id, old=old.cps.id)
    if new.cps.release <= old.cps.release:
        raise PackError("version {new} does not come after version {old}", new=new.cps.version, old=old.cps.version)
    if new.cps.effective <= old.cps.effective:
        raise PackError(
            "version {new} comes into force no later than version {old}", new=new.cps.version, old=old.cps.version
        )
    if new.cps.uri == old.cps.uri:
        raise PackError("version {new} has the URI of version {old}", new=new.cps.version, old=old.cps.version)
