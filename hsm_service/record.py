"""The record of operations: an intent on the disk before the token is called, an outcome before the answer leaves.

Entries of the journal:

    {"event": "intent", "operation": "cms", "caller": "merchant:M-1", "keys": ["shop/1"], "input_sha256": …, …}
    {"event": "outcome", "intent": 17, "result": "done", "output_sha256": …}
    {"event": "outcome", "intent": 17, "result": "failed", "reason": "token-unavailable"}
    {"event": "refused", "operation": "cms", "caller": …, "keys": ["shop"], "input_sha256": …, "reason": …, "rule": …}

An intent without outcome means that the process died in between: the signature may have been made, nobody received it.
`keys` names what the token was asked to use; making a key or attaching a certificate says `key` instead.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Mapping, Sequence
from typing import Final

from audit import AuditError, Journal
from audit.entry import JsonValue
from hsm_service.errors import HsmError
from hsm_service.ledger import FAILED, INTENT, OUTCOME, REFUSED, Claim, Ledger
from runtime.problems import Problem

DONE: Final = "done"
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
    """Writes the entries. Every method raises Problem 503 when nothing can be recorded: then nothing may be done."""

    def __init__(self, journal: Journal, ledger: Ledger, policy: str) -> None:
        self._journal = journal
        self._ledger = ledger
        self._policy = policy

    @contextlib.contextmanager
    def refusals(self, operation: str, caller: str, keys: Sequence[str], input_sha256: str | None) -> Iterator[None]:
        """Records whatever is raised inside as a refusal of this operation; an HsmError leaves as a Problem."""
        try:
            yield
        except Exception as error:
            problem = _problem(error)
            self._append(
                {
                    "event": REFUSED,
                    "operation": operation,
                    "caller": caller,
                    "keys": list(keys),
                    "input_sha256": input_sha256,
                    "policy": self._policy,
                    "reason": problem.type if problem is not None else "internal",
                    "rule": problem.clause if problem is not None else None,
                }
            )
            if problem is None or problem is error:
                raise
            raise problem from error

    @contextlib.contextmanager
    def operation(
        self, operation: str, caller: str, input_sha256: str | None, fields: Fields, claim: Claim | None = None
    ) -> Iterator[Outcome]:
        """Records the intent, lets the operation run inside, records its outcome.

        An HsmError inside leaves as a Problem with the same status and type. A failed operation gives `claim` back.
        """
        outcome = Outcome()
        try:
            intent = self._append(
                {
                    **fields,
                    **(claim.fields() if claim is not None else {}),
                    "event": INTENT,
                    "operation": operation,
                    "caller": caller,
                    "input_sha256": input_sha256,
                    "policy": self._policy,
                }
            )
        except Problem:
            self._give_back(claim)
            raise
        try:
            yield outcome
        except Exception as error:
            problem = _problem(error)
            reason = problem.type if problem is not None else "internal"
            cause: Fields = {"cause": outcome.cause} if outcome.cause is not None else {}
            self._append({**cause, "event": OUTCOME, "intent": intent, "result": FAILED, "reason": reason})
            self._give_back(claim)
            if problem is None or problem is error:
                raise
            raise problem from error
        outcome.index = self._append(
            {"event": OUTCOME, "intent": intent, "result": DONE, "output_sha256": outcome.output_sha256}
        )

    def _give_back(self, claim: Claim | None) -> None:
        if claim is not None:
            self._ledger.release(claim)

    def _append(self, entry: Fields) -> int:
        try:
            return self._journal.append(entry)
        except AuditError as error:
            raise Problem(
                503, "journal-unavailable", "the operation cannot be recorded, so it is not done", headers=_RETRY
            ) from error


_RETRY: Final = {"Retry-After": "5"}


def _problem(error: Exception) -> Problem | None:
    """The error as callers are told it; None for one that nobody expected."""
    if isinstance(error, Problem):
        return error
    if isinstance(error, HsmError):
        headers = {"Retry-After": str(error.retry_after)} if error.retry_after is not None else None
        return Problem(error.status, error.slug, str(error), headers=headers)
    return None
