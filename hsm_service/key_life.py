"""What becomes of keys after they are made: rotated, limited, taken out of use and back, destroyed on a date.

Each act is asked for, approved by officers where the policy wants that (`hsm_service.operations`), judged again, and
recorded: an intent before anything is touched, an outcome after. What leads where is `key_states`' part, and what it
means for the token objects `custody`'s. All methods block and raise Problem.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, datetime, timedelta
from functools import partial
from typing import Any, Final

from pydantic import ValidationError

from audit.entry import JsonValue
from hsm_service.access import permitted
from hsm_service.custody import Custody, Key
from hsm_service.judging import CLOCK_SKEW
from hsm_service.key_states import Change, KeyState, after
from hsm_service.limits import Limits
from hsm_service.operation_docket import Grant
from hsm_service.operation_request import KeyOperation
from hsm_service.operations import Executor, Operations
from hsm_service.record import Recorder
from hsm_service.service import KeyInfo
from hsm_service.templates import Operation
from runtime.problems import Problem
from runtime.secrets import Secret

SERVICE: Final = "service:hsm"
"""Who does what was asked for earlier and is due now."""

WAIT: Final = timedelta(days=30)
"""From when a version is scheduled to when it is destroyed, unless another time is named."""
SHORTEST_WAIT: Final = timedelta(days=1)
"""So long a mistake can be taken back."""
FARTHEST: Final = timedelta(days=3660)
"""How far ahead a key's life is planned; what lies beyond is a slip of the pen."""

CHANGES: Final[Mapping[KeyOperation, Change]] = {
    KeyOperation.ENABLE: Change.ENABLE,
    KeyOperation.DISABLE: Change.DISABLE,
    KeyOperation.DESTROY: Change.SCHEDULE,
    KeyOperation.KEEP: Change.KEEP,
}

Parameters = Mapping[str, Any]


class KeyLife:
    """The life of the keys in custody. Safe for threads."""

    def __init__(
        self,
        custody: Custody,
        recorder: Recorder,
        operations: Operations,
        *,
        info: Callable[[Key], KeyInfo],
        clock: Callable[[], datetime],
    ) -> None:
        self._custody = custody
        self._recorder = recorder
        self._operations = operations
        self._info = info
        self._clock = clock
        for operation in (*CHANGES, KeyOperation.ROTATE, KeyOperation.LIMITS):
            executor = Executor(partial(self._approved, operation), partial(self._was_done, operation))
            operations.provide(operation, executor)

    # -- asking --------------------------------------------------------------------------------------------------------

    def rotate(self, caller: str, name: str, *, activates_at: datetime | None = None, reason: str = "") -> KeyInfo:
        """Makes the next version of a key, which is in use from `activates_at` on (default: at once).

        A key pair that carries certificates waits for its own. The older version makes nothing new from then on; it
        opens what was sealed to it and lists what it certified as revoked until it is disabled.
        """
        with self._recorder.refusals(Operation.ROTATE, caller, [name], None):
            key = permitted(self._custody, caller, Operation.ROTATE, name)
            _check_generated(key)
            newest = self._custody.versions(name)[0].row
            more = {
                "next": newest.version + (newest.state is not KeyState.PENDING),
                "activates_at": _told(activates_at, self._clock()),
            }
        return self._ask(KeyOperation.ROTATE, caller, key, more, reason)

    def rotate_zone_key(
        self, caller: str, name: str, components: Sequence[Secret], *, activates_at: datetime | None = None
    ) -> KeyInfo:
        """As `rotate`, for a zone key, whose next version is loaded from its components at a ceremony."""
        with self._recorder.refusals(Operation.ROTATE, caller, [name], None):
            key = permitted(self._custody, caller, Operation.ROTATE, name)
            if not key.template.imported:
                raise Problem(409, "key-is-generated", f"a {key.template.name} key is made in its token, never loaded")
            if self._operations.is_controlled(KeyOperation.IMPORT, caller, {"template": key.template.name}):
                raise Problem(403, "ceremony-only", "components are read in at a ceremony alone", clause="CPS 6.1.1")
        now = self._clock()
        fields: dict[str, JsonValue] = {"key": key.label, "activates_at": _told(activates_at, now)}
        with self._recorder.operation(Operation.ROTATE, caller, None, fields):
            return self._info(self._custody.rotate(key, activates_at or now, now, components))

    def enable(self, caller: str, name: str, version: int, *, reason: str = "") -> KeyInfo:
        """DISABLED → ENABLED. A version that never began begins at once."""
        return self._change(KeyOperation.ENABLE, caller, name, version, {}, reason)

    def disable(self, caller: str, name: str, version: int, *, reason: str = "") -> KeyInfo:
        """ENABLED → DISABLED. If it is the version in use, nothing is signed under this name until it is enabled again
        or a later version begins.
        """
        return self._change(KeyOperation.DISABLE, caller, name, version, {}, reason)

    def destroy(self, caller: str, name: str, version: int, *, at: datetime | None = None, reason: str = "") -> KeyInfo:
        """DISABLED → DESTROY_SCHEDULED: the version is destroyed in its tokens at `at` (default: after `WAIT`).

        Problem 422 for a time that is nearer than `SHORTEST_WAIT`. Where approvals come so late that less would be left
        of it, the destruction is that much later.
        """
        with self._recorder.refusals(Operation.DESTROY, caller, [name], None):
            permitted(self._custody, caller, Operation.DESTROY, name, version)
            now = self._clock()
            told = _told(at, now)
            if at is not None and at < now + SHORTEST_WAIT:
                raise Problem(
                    422, "too-soon", f"a key is destroyed {SHORTEST_WAIT.days} day after it is asked for, at least"
                )
        return self._change(KeyOperation.DESTROY, caller, name, version, {"destroy_at": told}, reason)

    def keep(self, caller: str, name: str, version: int, *, reason: str = "") -> KeyInfo:
        """DESTROY_SCHEDULED → DISABLED."""
        return self._change(KeyOperation.KEEP, caller, name, version, {}, reason)

    def limit(
        self, caller: str, name: str, version: int | None, limits: Mapping[str, Any], *, reason: str = ""
    ) -> KeyInfo:
        """Gives a version (None: the one in use) limits of its own, over its template's (`hsm_service.limits`), in
        place of those it had; None lifts one of the template's.

        A rate is text in the request that officers read, because JSON numbers there are whole.
        """
        with self._recorder.refusals(Operation.LIMITS, caller, [name], None):
            key = permitted(self._custody, caller, Operation.LIMITS, name, version)
            try:
                parsed = Limits.model_validate(dict(limits))
            except ValidationError as error:
                raise Problem(422, "bad-limits", f"these are no limits: {error.error_count()} faults") from None
        return self._ask(KeyOperation.LIMITS, caller, key, {"limits": parsed.to_json() or "{}"}, reason)

    def destroy_due(self) -> list[KeyInfo]:
        """Destroys the versions whose time has come. Asked and approved when they were scheduled."""
        destroyed = []
        for key in self._custody.due(self._clock()):
            fields: dict[str, JsonValue] = {"key": key.label, "change": Change.DESTROY.value}
            with self._recorder.operation(Operation.DESTROY, SERVICE, None, fields):
                destroyed.append(self._info(self._custody.change(key, Change.DESTROY)))
        return destroyed

    # -- doing ---------------------------------------------------------------------------------------------------------

    def _change(
        self, operation: KeyOperation, caller: str, name: str, version: int, more: Parameters, reason: str
    ) -> KeyInfo:
        with self._recorder.refusals(operation, caller, [name], None):
            key = permitted(self._custody, caller, Operation(operation.value), name, version)
            after(key.row.state, CHANGES[operation])
        return self._ask(operation, caller, key, more, reason)

    def _ask(self, operation: KeyOperation, caller: str, key: Key, more: Parameters, reason: str) -> KeyInfo:
        parameters = {"key": key.row.name, "version": key.row.version, "template": key.template.name, **more}
        return self._do(operation, caller, parameters, self._operations.ask(operation, caller, parameters, reason))

    def _approved(
        self, operation: KeyOperation, requester: str, parameters: Parameters, granted: Grant
    ) -> dict[str, Any]:
        info = self._do(operation, requester, parameters, granted)
        return {"key": info.name, "version": info.version, "state": info.state}

    def _do(self, operation: KeyOperation, caller: str, parameters: Parameters, granted: Grant) -> KeyInfo:
        name, version = parameters["key"], parameters["version"]
        with self._recorder.refusals(operation, caller, [name], None):
            key = permitted(self._custody, caller, Operation(operation.value), name, version)
            if operation in CHANGES:
                after(key.row.state, CHANGES[operation])
        told = {each: parameters[each] for each in parameters if each not in {"key", "version", "template"}}
        fields: dict[str, JsonValue] = {**told, "key": key.label, **granted.fields}
        with self._recorder.operation(operation, caller, None, fields) as outcome:
            if operation is KeyOperation.ROTATE:
                # Once more in custody: what was asked for may have been done by another request since.
                newest = self._custody.versions(name)[0].row
                if newest.version + (newest.state is not KeyState.PENDING) != parameters["next"]:
                    raise Problem(409, "key-exists", f"key {name} has a version {parameters['next']} already")
                now = self._clock()
                changed = self._custody.rotate(key, _time(parameters["activates_at"]) or now, now)
                outcome.output_sha256 = changed.public_key_sha256
            elif operation is KeyOperation.LIMITS:
                changed = self._custody.limit(key, Limits.model_validate_json(parameters["limits"]))
            else:
                at = self._destroyed_at(parameters) if operation is KeyOperation.DESTROY else None
                changed = self._custody.change(key, CHANGES[operation], at=at)
        return self._info(changed)

    def _destroyed_at(self, parameters: Parameters) -> datetime:
        now, wanted = self._clock(), _time(parameters["destroy_at"])
        return now + WAIT if wanted is None else max(wanted, now + SHORTEST_WAIT)

    def _was_done(self, operation: KeyOperation, parameters: Parameters) -> dict[str, Any] | None:
        """What came of an operation that a killed process had under way; None if it was not done."""
        version = parameters["next"] if operation is KeyOperation.ROTATE else parameters["version"]
        try:
            row = self._custody.find(parameters["key"], version).row
        except Problem:
            return None
        if operation is KeyOperation.ROTATE:
            done = row.state is not KeyState.PENDING
        elif operation is KeyOperation.LIMITS:
            done = row.limits == Limits.model_validate_json(parameters["limits"])
        else:
            done = row.state is _TARGETS[operation]
        return {"key": row.name, "version": row.version, "state": row.state.value} if done else None


_TARGETS: Final[Mapping[KeyOperation, KeyState]] = {
    KeyOperation.ENABLE: KeyState.ENABLED,
    KeyOperation.DISABLE: KeyState.DISABLED,
    KeyOperation.DESTROY: KeyState.DESTROY_SCHEDULED,
    KeyOperation.KEEP: KeyState.DISABLED,
}


def _check_generated(key: Key) -> None:
    if key.template.imported:
        raise Problem(409, "key-is-imported", f"a {key.template.name} key is loaded from components at a ceremony")


def _told(time: datetime | None, now: datetime) -> str | None:
    """A time as officers read it, in whole seconds; Problem 422 for one that is past, or farther away than `FARTHEST`.

    None stays: what is asked for "at once" is the same request a second later.
    """
    if time is None:
        return None
    if not now - CLOCK_SKEW <= time <= now + FARTHEST:
        raise Problem(422, "bad-time", f"a time lies in the future, at most {FARTHEST.days} days ahead")
    return time.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def _time(text: str | None) -> datetime | None:
    return None if text is None else datetime.fromisoformat(text)
