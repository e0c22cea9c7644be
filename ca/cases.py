"""Cases on their way to certificates: what became of each, and which are at work in this process."""

from __future__ import annotations

import threading
from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from contextlib import contextmanager, suppress
from functools import cached_property
from typing import Final, TypeAlias

from ca.certificate_store import CertificateRecord
from ca.errors import CaError, StoreUnavailableError
from cps.dossier import Dossier

Issued: TypeAlias = "dict[str, CertificateRecord] | CaError"
"""What came of a case: its certificates by their purpose, or why there are none."""
_MARKED_TOGETHER: Final = 250


class Case:
    """One case among several that go through issuance together: what it is about, and what became of it."""

    def __init__(self, dossier: Dossier) -> None:
        self.dossier = dossier
        self.issued: dict[str, CertificateRecord] = {}
        self.error: CaError | None = None

    @cached_property
    def digest(self) -> str:
        """SHA-256 of the revision, lower-case hexadecimal."""
        return self.dossier.revision.digest.hex()

    @property
    def cps(self) -> str:
        """Digest (hexadecimal) of the statement that it was made under, and by which it is approved if it is."""
        return self.dossier.revision.cps.digest.hex()

    @cached_property
    def encoded(self) -> bytes:
        """The dossier as JSON."""
        return self.dossier.to_json()

    @property
    def answer(self) -> Issued:
        """What its applicant is told."""
        return self.error or {purpose: self.issued[purpose] for purpose in sorted(self.issued)}

    def fail(self, error: CaError) -> None:
        """It ends with `error`, unless it has ended before."""
        if self.error is None and self.issued.keys() != self.dossier.csrs.keys():
            self.error = error

    @contextmanager
    def refusals(self) -> Iterator[None]:
        """Whatever is refused inside ends this case, and no other."""
        try:
            yield
        except CaError as error:
            self.fail(error)


class AtWork:
    """The revisions that are at work in this process: two requests for one wait for each other."""

    def __init__(self) -> None:
        self._digests: set[str] = set()
        self._changed = threading.Condition()

    @contextmanager
    def holding(self, digests: Collection[str]) -> Iterator[None]:
        """Have these revisions for oneself; all are taken at once, so that nobody waits for each other for ever."""
        taken = frozenset(digests)
        with self._changed:
            self._changed.wait_for(lambda: self._digests.isdisjoint(taken))
            self._digests |= taken
        try:
            yield
        finally:
            with self._changed:
                self._digests -= taken
                self._changed.notify_all()


class Noted:
    """Ended intents that the audit journal has, and the database does not know it yet: it is told of many at once.

    Nothing rests on it. What a killed process did not tell is compared with the journal once more, and found there.
    """

    def __init__(self, mark_recorded: Callable[[Sequence[int]], None]) -> None:
        self._mark_recorded = mark_recorded
        self._lock = threading.Lock()
        self._numbers: list[int] = []

    def add(self, numbers: Iterable[int]) -> None:
        """Take in numbers of intents whose end is durable in the journal."""
        with self._lock:
            self._numbers += numbers
            many = len(self._numbers) >= _MARKED_TOGETHER
        if many:
            with suppress(StoreUnavailableError):  # what was issued is issued; the schedule tells it later
                self.mark()

    def mark(self) -> None:
        """Tell the database; raises StoreUnavailableError, and what is left is told the next time."""
        with self._lock:
            numbers, self._numbers = self._numbers, []
        try:
            self._mark_recorded(numbers)
        except BaseException:
            with self._lock:
                self._numbers += numbers
            raise
