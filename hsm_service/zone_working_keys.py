"""Zone keys that come over the line: taken in under the zone master key, destroyed when nobody needs them any more.

The other end of the zone sends the next version of a zone key wrapped under the master key, whose components both ends
loaded at a ceremony. It is unwrapped inside the token, its check value compared there before it is stored, and it is in
use from the moment its row says so: a process that is killed in between has either version, never none. No officer
approves it: their part was the master key. All methods block and raise Problem.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from datetime import datetime, timedelta
from typing import Final

from audit.entry import JsonValue
from hsm_service.access import permitted
from hsm_service.custody import Custody, Key
from hsm_service.key_states import KeyState
from hsm_service.key_versions import Standing
from hsm_service.keys import ZONE_WORKING_KEYS
from hsm_service.kinds import hexdigest
from hsm_service.purposes import USAGES
from hsm_service.record import Recorder
from hsm_service.templates import Operation
from runtime.problems import Problem

_ENDED: Final = "end-zone-key"
_USAGES: Final = frozenset(usage for _kind, usage in ZONE_WORKING_KEYS)


class ZoneWorkingKeys:
    """The vault's part in the exchange of zone keys. Safe for threads."""

    def __init__(self, custody: Custody, recorder: Recorder, *, clock: Callable[[], datetime]) -> None:
        self._custody = custody
        self._recorder = recorder
        self._clock = clock

    def receive(self, caller: str, master: str, name: str, version: int, wrapped: bytes, check_value: bytes) -> Key:
        """Takes in version `version` of the zone key `name`; it is in use when this returns.

        `wrapped` is the key under `master` by AES key wrap, `check_value` its proof (`Token.try_zone_key`). The
        version that is in use already, with the same check value, changes nothing. Problem 422 `wrong-check-value` for
        a key that does not unwrap or is another one, 409 `wrong-key-index` for a version that is not the next: in both
        cases the key in use stays.
        """
        digest = hexdigest(wrapped)
        with self._recorder.refusals(Operation.RECEIVE, caller, [master, name], digest):
            under = permitted(self._custody, caller, Operation.RECEIVE, master)
            key = self._custody.find(name)
            if USAGES[key.template.purpose] not in _USAGES:
                raise Problem(409, "key-misused", f"key {name} is no zone key that comes over the line")
            if (taken := self._custody.received(name, version, check_value)) is not None:
                return taken
        fields: dict[str, JsonValue] = {
            "keys": [under.label, f"{name}/{version}"],
            "check_value": check_value.hex().upper(),
        }
        with self._recorder.operation(Operation.RECEIVE, caller, digest, fields):
            return self._custody.receive(under, key, version, wrapped, check_value, self._clock())

    @staticmethod
    def check_value(key: Key) -> bytes:
        """The check value of a version that serves (`Token.check_value`)."""
        token, ref = key.use()
        return token.check_value(ref, USAGES[key.template.purpose])

    def end_replaced(self, caller: str, names: Sequence[str], overlap: timedelta) -> list[Key]:
        """Destroys the versions of zone keys that were replaced at least `overlap` ago, for ever."""
        ended = []
        for name in names:
            for key in self._custody.versions(name):
                if self._is_over(key, overlap):
                    with self._recorder.operation(_ENDED, caller, None, {"key": key.label}):
                        ended.append(self._custody.end(key))
        return ended

    def _is_over(self, key: Key, overlap: timedelta) -> bool:
        if key.standing is not Standing.RETIRED or key.row.state is KeyState.DESTROYED:
            return False
        if USAGES[key.template.purpose] not in _USAGES:
            return False
        return key.row.retires_at is not None and key.row.retires_at + overlap <= self._clock()
