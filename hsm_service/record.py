"""The record of operations: an intent on the disk before the token is called, an outcome before the answer leaves.

Entries of the journal:

    {"event": "intent", "operation": "cms", "caller": "merchant:M-1", "keys": ["shop/1"], "input_sha256": …, …}
    {"event": "outcome", "intent": 17, "result": "done", "output_sha256": …}
    {"event": "outcome", "intent": 17, "result": "failed", "reason": "token-unavailable"}
    {"event": "outcome", "intent": 17, "result": "unknown", "reason": "stopped"}
    {"event": "refused", "operation": "cms", "caller": …, "keys": ["shop"], "input_sha256": …, "reason": …, "rule": …}

What was under way when the service ended (`stopped`), or when its process died before it could say anything
(`process-ended`, written at the next start), has an unknown outcome: the signature may have been made, nobody received
it. So every intent has one outcome, and only the last lines of a log that is not open may lack theirs.

`keys` names what the token was asked to use; making a key or attaching a certificate says `key` instead. An intent of
several structures at once has `count` and `inputs_sha256`, its outcome `outputs_sha256`, in the same order; so has
`claims`, where they claim something, an object for each with what it claims.

`Recorder` has each of these twice: as context managers for what runs in a thread of its own (key management, what
plug-ins do seldom), and as steps (`hsm_service.steps`) for signing and what plug-ins do for every payment.
"""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Final, NoReturn

from audit import AuditError, Journal
from audit.entry import JsonValue
from hsm_service.errors import HsmError
from hsm_service.ledger import FAILED, INTENT, OUTCOME, REFUSED, Claim, Ledger
from hsm_service.steps import Record, Steps, unrecorded
from runtime.logging import get_logger
from runtime.problems import Problem

DONE: Final = "done"
UNKNOWN: Final = "unknown"
STOPPED: Final = "stopped"
"""Why an outcome is not known: the service ended while the operation was under way."""
PROCESS_ENDED: Final = "process-ended"
"""The same, of a process that died, or could not write any more."""
ENTRIES_OF_A_SIGNATURE: Final = 2
"""Intent and outcome: by so much this log grows when its own checkpoint is signed."""
_LONGEST_NAME: Final = 64
_NAMED: Final = 20
"""So many operations are named in a line of the log for people; the journal has them all."""
_log = get_logger("record")
Fields = Mapping[str, JsonValue]


class Outcome:
    """What an operation came to; set `output_sha256` (hex) before it ends. `index` is the number of its record then.

    `cause`, if set, is recorded with a failure: what the caller is not told, because it would be an oracle.
    """

    def __init__(self) -> None:
        self.output_sha256: str | None = None
        self.cause: str | None = None
        self.index = -1


class Recorder:
    """Makes the entries. Whatever cannot be recorded raises Problem 503: then nothing may be done."""

    def __init__(self, journal: Journal, ledger: Ledger, policy: str) -> None:
        self._journal = journal
        self._ledger = ledger
        self._policy = policy
        self._settling = threading.Lock()
        self._under_way: set[int] = set()  # intents without outcome

    # -- what nobody will know -----------------------------------------------------------------------------------------

    def own_up(self) -> None:
        """Records an unknown outcome for every intent to which the processes before this one wrote none.

        When the journal has just been opened: it is locked, so nobody else can be at work on any of them.
        """
        self._not_known(self._ledger.unended, PROCESS_ENDED)

    def close(self) -> None:
        """Records an unknown outcome for what is still under way; what comes of it yet is told to nobody."""
        with self._settling:
            left, self._under_way = sorted(self._under_way), set()
        self._not_known(left, STOPPED)

    def _not_known(self, intents: Sequence[int], reason: str) -> None:
        if not intents:
            return
        _log.warning(
            "operations without a known outcome", count=len(intents), intents=list(intents[:_NAMED]), reason=reason
        )
        try:
            for intent in intents:
                self._journal.buffer({"event": OUTCOME, "intent": intent, "result": UNKNOWN, "reason": reason})
            self._journal.flush()
        except AuditError as error:  # then nothing else can be recorded either, and the next start says it
            _log.error("unknown outcomes cannot be recorded", count=len(intents), error=type(error).__name__)

    def _begun(self, intent: int) -> None:
        with self._settling:
            self._under_way.add(intent)

    def _settle(self, intent: int) -> None:
        """The intent gets its outcome from whoever called this, and from nobody else; Problem 503 if it has one."""
        with self._settling:
            if intent not in self._under_way:
                raise unrecorded()
            self._under_way.discard(intent)

    # -- as steps ------------------------------------------------------------------------------------------------------

    def refuse(
        self, operation: str, caller: str, keys: Sequence[str], input_sha256: str | None, error: Exception
    ) -> Steps[NoReturn]:
        """Records the refusal and raises it: the error, an HsmError as a Problem."""
        problem = problem_of(error)
        yield Record(self._refusal(operation, caller, keys, input_sha256, problem))
        _raise(error, problem)

    def refusals_of(
        self, operation: str, caller: str, keys: Sequence[str], refused: Sequence[tuple[str, Problem]]
    ) -> Fields:
        """The entry of several structures (by their digests, hex) that were refused together."""
        return {
            **self._refusal(operation, caller, keys, None, refused[0][1]),
            "inputs_sha256": [digest for digest, _problem in refused],
            "reasons": [problem.type for _digest, problem in refused],
        }

    def intend(
        self, operation: str, caller: str, input_sha256: str | None, fields: Fields, claims: Sequence[Claim] = ()
    ) -> Steps[int]:
        """Records the intent and returns its number; claims are given back if it cannot be recorded."""
        try:
            intent = self._intent(operation, caller, input_sha256, fields, claims)
            index: int = yield Record(intent, self._begun)
        except Exception:
            self.give_back(claims)
            raise
        return index

    def intend_together(
        self, operation: str, caller: str, fields: Fields, claims: Sequence[Sequence[Claim]]
    ) -> Steps[int]:
        """The same for several structures: `claims` has those of each, in the order of `inputs_sha256` in `fields`."""
        claimed: list[JsonValue] = []
        for each in claims:
            claimed.append({name: value for claim in each for name, value in claim.fields().items()})
        if any(claimed):
            fields = {**fields, "claims": claimed}
        try:
            index: int = yield Record(self._intent(operation, caller, None, fields, ()), self._begun)
        except Exception:
            for each in claims:
                self.give_back(each)
            raise
        return index

    def fail(
        self, intent: int, error: Exception, claims: Sequence[Claim] = (), cause: str | None = None
    ) -> Steps[NoReturn]:
        """Records that the operation failed, gives its claims back and raises the error, an HsmError as a Problem.

        `cause` is recorded with it: what the caller is not told.
        """
        problem = problem_of(error)
        self._settle(intent)
        yield Record(_failure(intent, problem, cause))
        self.give_back(claims)
        _raise(error, problem)

    def conclude(self, intent: int, fields: Fields) -> Steps[int]:
        """Records that the operation was done, with the digests of what came out; returns the number of the record."""
        self._settle(intent)
        index: int = yield Record({**fields, "event": OUTCOME, "intent": intent, "result": DONE})
        return index

    # -- in a thread of its own ----------------------------------------------------------------------------------------

    def refused(self, operation: str, caller: str, keys: Sequence[str], problem: Problem) -> None:
        """Records a refusal that was met before anything could be judged, such as a body of another form."""
        self._append(self._refusal(operation, caller, keys, None, problem))
        problem.noted = True

    def note(self, entry: Fields) -> int:
        """Records what is neither intent nor outcome: a request and its approvals (`hsm_service.operations`)."""
        return self._append(entry)

    @contextlib.contextmanager
    def refusals(self, operation: str, caller: str, keys: Sequence[str], input_sha256: str | None) -> Iterator[None]:
        """Records whatever is raised inside as a refusal of this operation; an HsmError leaves as a Problem."""
        try:
            yield
        except Exception as error:
            problem = problem_of(error)
            self._append(self._refusal(operation, caller, keys, input_sha256, problem))
            _raise(error, problem)

    @contextlib.contextmanager
    def operation(self, operation: str, caller: str, input_sha256: str | None, fields: Fields) -> Iterator[Outcome]:
        """Records the intent, lets the operation run inside, records its outcome.

        An HsmError inside leaves as a Problem with the same status and type.
        """
        outcome = Outcome()
        intent = self._append(self._intent(operation, caller, input_sha256, fields, ()))
        self._begun(intent)
        try:
            yield outcome
        except Exception as error:
            problem = problem_of(error)
            self._settle(intent)
            self._append(_failure(intent, problem, outcome.cause))
            _raise(error, problem)
        self._settle(intent)
        outcome.index = self._append(
            {"event": OUTCOME, "intent": intent, "result": DONE, "output_sha256": outcome.output_sha256}
        )

    # -- entries -------------------------------------------------------------------------------------------------------

    def _refusal(
        self, operation: str, caller: str, keys: Sequence[str], input_sha256: str | None, problem: Problem | None
    ) -> Fields:
        return {
            "event": REFUSED,
            "operation": operation,
            "caller": caller,
            "keys": [key[:_LONGEST_NAME] for key in keys],  # what comes as a name need be none
            "input_sha256": input_sha256,
            "policy": self._policy,
            "reason": problem.type if problem is not None else "internal",
            "rule": problem.clause if problem is not None else None,
        }

    def _intent(
        self, operation: str, caller: str, input_sha256: str | None, fields: Fields, claims: Sequence[Claim]
    ) -> Fields:
        claimed: dict[str, JsonValue] = {}
        for claim in claims:
            claimed |= claim.fields()
        return {
            **fields,
            **claimed,
            "event": INTENT,
            "operation": operation,
            "caller": caller,
            "input_sha256": input_sha256,
            "policy": self._policy,
        }

    def give_back(self, claims: Iterable[Claim]) -> None:
        """Gives claims back of what was not done."""
        for claim in claims:
            self._ledger.release(claim)

    def _append(self, entry: Fields) -> int:
        try:
            return self._journal.append(entry)
        except AuditError as error:
            raise unrecorded() from error


def _failure(intent: int, problem: Problem | None, cause: str | None) -> Fields:
    reason = problem.type if problem is not None else "internal"
    told: Fields = {"cause": cause} if cause is not None else {}
    return {**told, "event": OUTCOME, "intent": intent, "result": FAILED, "reason": reason}


def problem_of(error: Exception) -> Problem | None:
    """The error as callers are told it; None for one that nobody expected."""
    if isinstance(error, Problem):
        return error
    if isinstance(error, HsmError):
        headers = {"Retry-After": str(error.retry_after)} if error.retry_after is not None else None
        return Problem(error.status, error.slug, str(error), headers=headers)
    return None


def _raise(error: Exception, problem: Problem | None) -> NoReturn:
    if problem is not None:
        problem.noted = True
    if problem is None or problem is error:
        raise error
    raise problem from error
