"""Keys lent to plug-ins, each time for one recorded operation: who may, since when and until when is decided here.

A plug-in says what it does with which key. Every key must exist, serve, and permit its operation to the caller; the
intent is on the disk before a token is called, the outcome before the answer leaves. What is done for every payment is
done in steps (`Lending.steps`), on the event loop that hears the tokens' answers; what is done seldom, or computes for
long, in a thread of its own (`Lending.operation`).
"""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from datetime import datetime
from typing import NoReturn, TypeVar

from audit.entry import JsonValue
from hsm_service.access import permitted
from hsm_service.custody import Custody, Key
from hsm_service.keys import KeyRef
from hsm_service.limits import Meter
from hsm_service.metrics import DONE, METRICS, Result, result_of
from hsm_service.record import Outcome, Recorder
from hsm_service.steps import Steps, Turn
from hsm_service.templates import Operation
from hsm_service.token_operations import TokenOperations

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class InUse:
    """A key lent to a plug-in for one recorded operation."""

    token: TokenOperations
    ref: KeyRef
    key: Key


@dataclass(frozen=True, slots=True)
class Running:
    """A recorded operation of a plug-in: its keys by name, and the outcome to which it adds its output's digest."""

    keys: Mapping[str, InUse]
    outcome: Outcome


class Lending:
    """Lends the keys in custody to plug-ins. Safe for threads."""

    def __init__(self, custody: Custody, recorder: Recorder, meter: Meter, clock: Callable[[], datetime]) -> None:
        self._custody = custody
        self._recorder = recorder
        self._meter = meter
        self._clock = clock

    # -- in a thread of its own ----------------------------------------------------------------------------------------

    @contextlib.contextmanager
    def operation(
        self,
        caller: str,
        what: str,
        keys: Mapping[str, Operation],
        *,
        input_sha256: bytes | None,
        fields: Mapping[str, JsonValue] | None = None,
        versions: Mapping[str, int] | None = None,
    ) -> Iterator[Running]:
        """A recorded operation of a plug-in, called `what`, that does with each of `keys` (by name) what it names.

        Every key must exist, serve, and permit its operation to this caller; otherwise the refusal is recorded and
        nothing runs. `versions` names the version of a key that is not the one in use. Inside, the tokens may be
        called; an exception is recorded as failure, an HsmError leaves as a Problem. `input_sha256` is the digest of
        what came in, `fields` more to be recorded: neither may hold secrets.
        """
        digest = _hex(input_sha256)
        with self._recorder.refusals(what, caller, list(keys), digest):
            lent = self._lent(caller, keys, versions or {})
            self._admit(lent)
        began, became = time.perf_counter(), DONE
        try:
            recorded = {**(fields or {}), **_labels(lent)}
            with self._recorder.operation(what, caller, digest, recorded) as outcome:
                yield Running(lent, outcome)
        except BaseException as error:
            became = result_of(error)
            raise
        finally:
            _observe(lent, what, began, became)

    def refusals(
        self, caller: str, what: str, keys: Sequence[str], *, input_sha256: bytes | None
    ) -> AbstractContextManager[None]:
        """Records a Problem raised inside as a plug-in's refusal of `what`, before anything was done."""
        return self._recorder.refusals(what, caller, keys, _hex(input_sha256))

    # -- in steps ------------------------------------------------------------------------------------------------------

    def steps(
        self,
        caller: str,
        what: str,
        keys: Mapping[str, Operation],
        work: Callable[[Running], Steps[T]],
        *,
        input_sha256: bytes | None,
        versions: Mapping[str, int] | None = None,
    ) -> Steps[T]:
        """As `operation`, in steps: `work` is given what runs, and yields calls of its tokens.

        All the keys are in one token. One that was taken out of use while the operation waited for its turn does
        nothing.
        """
        digest = _hex(input_sha256)
        try:
            lent = self._lent(caller, keys, versions or {})
        except Exception as error:
            yield from self._recorder.refuse(what, caller, list(keys), digest, error)
            raise
        began, became = time.perf_counter(), DONE
        try:
            yield Turn(next(iter(lent.values())).token)
            try:
                for name, each in lent.items():
                    self._custody.find(name, each.key.row.version).use()
                self._admit(lent)
            except Exception as error:
                yield from self._recorder.refuse(what, caller, list(keys), digest, error)
                raise
            intent = yield from self._recorder.intend(what, caller, digest, _labels(lent))
            outcome = Outcome()
            try:
                value = yield from work(Running(lent, outcome))
            except Exception as error:
                yield from self._recorder.fail(intent, error, cause=outcome.cause)
                raise
            yield from self._recorder.conclude(intent, {"output_sha256": outcome.output_sha256})
        except BaseException as error:
            became = result_of(error)
            raise
        finally:
            _observe(lent, what, began, became)
        return value

    def refuse(
        self, caller: str, what: str, keys: Sequence[str], error: Exception, *, input_sha256: bytes | None
    ) -> Steps[NoReturn]:
        """Records `error` as a plug-in's refusal of `what`, before anything was done, and raises it."""
        yield from self._recorder.refuse(what, caller, keys, _hex(input_sha256), error)
        raise error

    # -- whoever asks --------------------------------------------------------------------------------------------------

    def _lent(self, caller: str, keys: Mapping[str, Operation], versions: Mapping[str, int]) -> dict[str, InUse]:
        """The keys, if each exists, serves and permits its operation to this caller now; a Problem otherwise."""
        lent = {}
        for name, operation in keys.items():
            key = permitted(self._custody, caller, operation, name, versions.get(name))
            key.check_window(operation, self._clock())
            lent[name] = InUse(*key.use(), key)
        return lent

    def _admit(self, lent: Mapping[str, InUse]) -> None:
        for each in lent.values():
            self._meter.admit_key(each.key, self._clock())


def _hex(digest: bytes | None) -> str | None:
    return None if digest is None else digest.hex()


def _labels(lent: Mapping[str, InUse]) -> dict[str, JsonValue]:
    return {"keys": [each.key.label for each in lent.values()]}


def _observe(lent: Mapping[str, InUse], what: str, began: float, became: Result) -> None:
    for name in lent:
        METRICS.took((name, what, "plugin"), time.perf_counter() - began, became)
