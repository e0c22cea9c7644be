"""The zone keys of each acquirer: the one in use, the one that was sent and is not yet seen in use, the one before.

    pending ──► current ──► previous ──► gone, `overlap` after it was replaced
       └──► gone, when the acquirer says that it did not take it

A key is on the disk before it is sent, and is sent again, the same, until the acquirer is seen to hold it: by its
answer, by a MAC made with it, or by its index in DE 53. Until then both ends still use the one before; so whichever end
is killed, and whenever, the acquirer's next message is under a key that this end knows. The database holds keys wrapped
under the zone master key alone. An acquirer that never changed a key has those of the ceremony, index 1.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any, Final, Literal

from sqlalchemy import Connection, Row, delete, insert, select, update

from shetab import mac, pin_block, zone_keys
from shetab.pin_block import PinBlockFormat
from shetab.subfields import ZoneKeyKind
from shetab.types import Pan, Pin
from shetab.zone import Zone
from switch.errors import KeyIndexError
from switch.ledger import naive_utc
from switch.schema import zone_working_keys
from switch.zone import ZoneKeys

State = Literal["pending", "current", "previous"]

_FIRST: Final = 1
_ORDER: Final[tuple[State, ...]] = ("current", "pending", "previous")
_table: Final = zone_working_keys


@dataclass(frozen=True, slots=True, repr=False)
class WorkingKey:
    """One key of one acquirer, in clear: has no repr. `ends` (naive UTC) is set for a previous one."""

    institution: str | None
    kind: ZoneKeyKind
    index: int
    state: State
    value: bytes
    agreed: Zone
    ends: datetime | None = None

    @property
    def check_value(self) -> str:
        """Hexadecimal digits, by which the acquirer sees that it holds the same key."""
        return self.agreed.kcv(self.kind, self.value)


@dataclass(frozen=True, slots=True)
class Offer:
    """A key as it goes over the line."""

    kind: ZoneKeyKind
    index: int
    wrapped: bytes
    check_value: str


class KeyRing:
    """What is in memory of the keys; `refresh` it with what a committed change returned."""

    def __init__(self, zone: ZoneKeys, *, overlap: timedelta, clock: Callable[[], datetime]) -> None:
        self._zone = zone
        self._overlap = overlap
        self._clock = clock
        self._of: dict[str, tuple[WorkingKey, ...]] = {}

    def load(self, connection: Connection) -> None:
        """Every acquirer's keys, at the start.

        :raises KeyFileError: the master key that they are wrapped under is gone, or another one.
        """
        rows: defaultdict[str, list[Row[Any]]] = defaultdict(list)
        for row in connection.execute(select(_table)):
            rows[row.institution].append(row)
        self._of = {institution: self._opened(found) for institution, found in rows.items()}

    def refresh(self, institution: str, keys: tuple[WorkingKey, ...]) -> None:
        """What `offer`, `confirm` and `withdraw` returned, once it is committed."""
        self._of[institution] = keys

    @property
    def can_exchange(self) -> bool:
        """Whether there is a master key, under which keys go over the line."""
        return self._zone.can_exchange

    # -- in use --------------------------------------------------------------------------------------------------------

    def keys(self, institution: str | None, kind: ZoneKeyKind) -> list[WorkingKey]:
        """The keys of an acquirer that are good now: the current one first."""
        return self._good(self._of.get(institution or "", ()), institution, kind)

    def mac(self, institution: str | None, data: bytes) -> bytes:
        """MAC of a message to an acquirer, 8 bytes."""
        return mac.zone_mac(self._zone.agreed.mac_algorithm, self.keys(institution, "zone-mac")[0].value, data)

    def verify_mac(self, institution: str | None, data: bytes, received: bytes) -> WorkingKey | None:
        """The key of this acquirer under which `received` is the MAC of `data`; None if there is none."""
        good, algorithm = self.keys(institution, "zone-mac"), self._zone.agreed.mac_algorithm
        return next((key for key in good if mac.verify_zone_mac(algorithm, key.value, data, received)), None)

    def open_pin_block(self, institution: str, index: int, block: bytes, pan: Pan, block_format: PinBlockFormat) -> Pin:
        """The PIN of a block under the acquirer's zone PIN key of this index.

        :raises KeyIndexError: there is no such key, or no more. :raises PinBlockError: it is not a block of this format
            for this PAN.
        """
        key = next((key for key in self.keys(institution, "zone-pin") if key.index == index), None)
        if key is None:
            raise KeyIndexError(f"no zone PIN key of index {index}")
        return pin_block.unseal(block, pan, key.value, block_format=block_format)

    # -- changes, each part of a transaction ---------------------------------------------------------------------------

    def offer(
        self, connection: Connection, institution: str, kind: ZoneKeyKind, held: int | None, rng: Callable[[int], bytes]
    ) -> tuple[Offer, tuple[WorkingKey, ...]]:
        """The next key for an acquirer that holds the one of index `held` (None: it did not say).

        A key that was sent before and not seen in use is sent again.

        :raises KeyIndexError: it holds another key than this end. :raises KeyFileError: there is no master key.
        """
        keys = self._read(connection, institution)
        if not any(key.kind == kind for key in keys):
            first = self._good((), institution, kind)[0]
            self._insert(connection, first)
            keys = (*keys, first)
        pending = _find(keys, kind, "pending")
        if pending is not None and held == pending.index:
            keys = self.confirm(connection, institution, kind, pending.index)
            pending = None
        current = _find(keys, kind, "current")
        assert current is not None  # the first, at least
        if held is not None and held != current.index:
            raise KeyIndexError(f"the acquirer holds {kind} {held}, not {current.index}")
        if pending is None:
            value = self._zone.agreed.new_key(kind, rng)
            pending = self._of_value(institution, kind, zone_keys.next_index(current.index), "pending", value)
            self._insert(connection, pending)
            keys = (*keys, pending)
        return Offer(kind, pending.index, self._wrapped(pending), pending.check_value), keys

    def confirm(
        self, connection: Connection, institution: str, kind: ZoneKeyKind, index: int
    ) -> tuple[WorkingKey, ...]:
        """The acquirer holds the pending key of this index: it is the current one. Nothing if there is none such."""
        pending = _find(self._read(connection, institution), kind, "pending")
        if pending is not None and pending.index == index:
            now = naive_utc(self._clock())
            of = (_table.c.institution == institution) & (_table.c.kind == kind)
            connection.execute(delete(_table).where(of & (_table.c.state == "previous") & (_table.c.ends <= now)))
            replaced = {"state": "previous", "ends": now + self._overlap}
            connection.execute(update(_table).where(of & (_table.c.state == "current")).values(replaced))
            connection.execute(update(_table).where(of & (_table.c.state == "pending")).values(state="current"))
        return self._read(connection, institution)

    def withdraw(
        self, connection: Connection, institution: str, kind: ZoneKeyKind, index: int
    ) -> tuple[WorkingKey, ...]:
        """The acquirer did not take the pending key of this index: the next one is another."""
        of = (_table.c.institution == institution) & (_table.c.kind == kind) & (_table.c.key_index == index)
        connection.execute(delete(_table).where(of & (_table.c.state == "pending")))
        return self._read(connection, institution)

    # -- helpers -------------------------------------------------------------------------------------------------------

    def _good(self, keys: Iterable[WorkingKey], institution: str | None, kind: ZoneKeyKind) -> list[WorkingKey]:
        now = naive_utc(self._clock())
        of_kind = [key for key in keys if key.kind == kind]
        if not of_kind:
            value = self._zone.pin_key if kind == "zone-pin" else self._zone.mac_key
            return [self._of_value(institution, kind, _FIRST, "current", value)]
        good = [key for key in of_kind if key.ends is None or now < key.ends]
        return sorted(good, key=lambda key: _ORDER.index(key.state))

    def _read(self, connection: Connection, institution: str) -> tuple[WorkingKey, ...]:
        return self._opened(connection.execute(select(_table).where(_table.c.institution == institution)))

    def _opened(self, rows: Iterable[Row[Any]]) -> tuple[WorkingKey, ...]:
        return tuple(
            self._of_value(
                row.institution,
                row.kind,
                row.key_index,
                row.state,
                self._zone.unwrap(row.kind, row.wrapped),
                row.ends,
            )
            for row in rows
        )

    def _of_value(
        self,
        institution: str | None,
        kind: ZoneKeyKind,
        index: int,
        state: State,
        value: bytes,
        ends: datetime | None = None,
    ) -> WorkingKey:
        return WorkingKey(institution, kind, index, state, value, self._zone.agreed, ends)

    def _insert(self, connection: Connection, key: WorkingKey) -> None:
        connection.execute(
            insert(_table).values(
                institution=key.institution,
                kind=key.kind,
                key_index=key.index,
                state=key.state,
                wrapped=self._wrapped(key),
                check_value=key.check_value,
                made_at=naive_utc(self._clock()),
            )
        )

    def _wrapped(self, key: WorkingKey) -> bytes:
        return self._zone.wrap(key.kind, key.value)


def _find(keys: Iterable[WorkingKey], kind: ZoneKeyKind, state: State) -> WorkingKey | None:
    return next((key for key in keys if (key.kind, key.state) == (kind, state)), None)
