"""Requests that come singly are issued together, because many certificates cost the disk and the token as much as one.

Who asks first issues for all that wait; who comes meanwhile waits, and the first of those takes what has gathered by
then. So nobody waits for company: an authority with little to do answers each at once, one with much to do answers many
at a time.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from typing import Final

from ca.cases import Issued
from ca.certificate_store import CertificateRecord
from cps.dossier import Dossier

AT_ONCE: Final = 2
"""Groups that are under way: while the token signs for one, the other is judged."""
MOST: Final = 64
"""Cases in one group."""


class _Place:
    """One who waits: woken when there is an answer, or when it is their turn to lead."""

    def __init__(self, dossier: Dossier) -> None:
        self.dossier = dossier
        self.woken = threading.Event()
        self.answer: Issued | BaseException | None = None


class Gathering:
    """Puts single requests of many threads together for `issue_many` (`ca.issuance.Issuance`)."""

    def __init__(
        self, issue_many: Callable[[Sequence[Dossier]], list[Issued]], *, at_once: int = AT_ONCE, most: int = MOST
    ) -> None:
        self._issue_many = issue_many
        self._at_once = at_once
        self._most = most
        self._lock = threading.Lock()
        self._waiting: list[_Place] = []
        self._leaders = 0

    def issue(self, dossier: Dossier) -> dict[str, CertificateRecord]:
        """As `Issuance.issue`."""
        place = _Place(dossier)
        with self._lock:
            leads = self._leaders < self._at_once
            if leads:
                self._leaders += 1
            else:
                self._waiting.append(place)
        if not leads:
            place.woken.wait()
        if place.answer is None:
            self._lead(place)
        answer = place.answer
        assert answer is not None
        if isinstance(answer, BaseException):
            raise answer
        return answer

    def _lead(self, own: _Place) -> None:
        """Issue for oneself and all who wait, at most so many; then the next one leads."""
        with self._lock:
            group = [own, *self._waiting[: self._most - 1]]
            del self._waiting[: self._most - 1]
        try:
            answers: Sequence[Issued | BaseException] = self._issue_many([place.dossier for place in group])
        except BaseException as error:  # whoever waits is told, whatever it was
            answers = [error] * len(group)
        for place, answer in zip(group, answers, strict=True):
            place.answer = answer
        for place in group[1:]:
            place.woken.set()
        with self._lock:
            if self._waiting:
                self._waiting.pop(0).woken.set()
            else:
                self._leaders -= 1
