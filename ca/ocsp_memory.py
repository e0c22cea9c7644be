"""Answers held in memory, by the very bytes of the request; a change of a certificate's status makes its answers void.

An answer is remembered with the epoch of its issuer at which it was true. `note` is told the epochs that the database
has, and which serials changed since: what was remembered about those is gone. What was signed at an earlier epoch than
is known here is not taken in: a change may have happened between the look into the database and the signature.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Final
from weakref import WeakValueDictionary

Headers = list[tuple[bytes, bytes]]


class _Slot:
    """What all answers about one certificate share: whether they are void."""

    __slots__ = ("__weakref__", "void")

    def __init__(self) -> None:
        self.void = False


@dataclass(slots=True)
class Remembered:
    """An answer as it is sent; `until` in seconds since 1970."""

    body: bytes
    headers: Headers
    etag: bytes
    until: float
    slots: list[_Slot] = field(default_factory=list)


class Memory:
    """A bounded number of answers, those that were asked for last. Belongs to one event loop."""

    def __init__(self, largest: int) -> None:
        self._largest: Final = largest
        self._answers: OrderedDict[bytes, Remembered] = OrderedDict()
        self._slots: WeakValueDictionary[tuple[str, str], _Slot] = WeakValueDictionary()
        self._epochs: dict[str, int] | None = None

    def get(self, request: bytes, now: float) -> Remembered | None:
        """What was answered to these bytes, if it holds at `now`."""
        found = self._answers.get(request)
        if found is None:
            return None
        if found.until <= now or any(slot.void for slot in found.slots):
            del self._answers[request]
            return None
        self._answers.move_to_end(request)
        return found

    def put(self, request: bytes, answer: Remembered, *, issuer: str, serials: Iterable[str], epoch: int) -> bool:
        """Remember an answer that was true at `epoch`; False if that is not known to be so still."""
        if self._epochs is None or epoch < self._epochs.get(issuer, 0):
            return False
        for serial in serials:
            slot = self._slots.get((issuer, serial))
            if slot is None:
                slot = self._slots[issuer, serial] = _Slot()
            answer.slots.append(slot)
        self._answers[request] = answer
        self._answers.move_to_end(request)
        while len(self._answers) > self._largest:
            self._answers.popitem(last=False)
        return True

    @property
    def epochs(self) -> Mapping[str, int] | None:
        """The epochs that were noted last; None before the first time."""
        return self._epochs

    def note(self, epochs: Mapping[str, int], changed: Mapping[str, Iterable[str]]) -> None:
        """The epochs as they are now, and by issuer the serials that changed since those noted before."""
        known = self._epochs or {}
        if any(epochs.get(issuer, 0) < epoch for issuer, epoch in known.items()):
            self.forget()  # another database than before, such as one that was restored
        self._epochs = dict(epochs)
        for issuer, serials in changed.items():
            for serial in serials:
                slot = self._slots.pop((issuer, serial), None)
                if slot is not None:
                    slot.void = True

    def forget(self) -> None:
        """Nothing that was remembered counts any more, nor what is signed before epochs are noted again."""
        self._answers.clear()
        self._slots.clear()
        self._epochs = None

    def __len__(self) -> int:
        return len(self._answers)
