"""Dual control at work: requests are taken in, approvals arrive, and an operation is executed exactly once.

    ask        a caller who may ask for an operation does; if the policy wants approvals, nothing happens but a request
    approve    an officer's signed approval or rejection; the last one that was missing executes the operation
    execute    the same for a request that is approved and could not be done then, because the token was away
    use        a signature by a key whose every use is approved: the request waits until its caller asks once more,
               since what is to be signed is not kept here

The last approval executes, rather than a further call of the requester: what was approved is done when the last person
who answers for it says so, and no approval lies about in between, waiting to be used.

Everything is recorded before it counts: `requested`, `approved`, `rejected`, `ended`; the operation's own intent names
the request and those who approved it. An execution that a killed process left EXECUTING is taken up by `resume`: if the
operation turns out to have been done, it is DONE; otherwise it is judged again and done, or FAILED.
"""

from __future__ import annotations

import contextlib
import hashlib
import threading
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Final

from hsm_service.dual_control import Status, Verdict
from hsm_service.operation_docket import ENDED, FREE, Docket, Grant, grant
from hsm_service.operation_info import ApprovalNeeded, OperationInfo
from hsm_service.operation_request import KeyOperation, OperationRequest, RequestError
from hsm_service.operation_store import OPEN, OperationState, StoredOperation
from hsm_service.record import problem_of
from runtime.logging import get_logger
from runtime.problems import Problem

MAX_OPEN: Final = 100
"""Requests of one caller that may be open at a time."""
MAX_APPROVAL: Final = 16 * 1024
"""Bytes of one signed approval: a certificate chain and a page of text."""
MAX_APPROVALS: Final = 32
"""Approvals and rejections kept with one request: more than any policy asks for."""
OFFICERS: Final = "officer:*"
"""Who sees and approves requests, as a caller pattern. Whether an approval counts is its signature's affair."""

_READY: Final = frozenset({OperationState.APPROVED, OperationState.EXECUTING, OperationState.DONE})
_ANONYMOUS: Final = "anonymous"
_log = get_logger("dual-control")


@dataclass(frozen=True, slots=True)
class Executor:
    """How one operation is done once it is approved.

    `run(requester, parameters, grant)` judges it again as when it was asked for, does it, and says what came of it
    (JSON); it raises Problem or HsmError. `done(parameters)` says what came of it if it was done already, else None: it
    is asked after a killed process left it, when nothing else is under way. Without it, such an operation is FAILED.
    """

    run: Callable[[str, Mapping[str, Any], Grant], dict[str, Any]]
    done: Callable[[Mapping[str, Any]], dict[str, Any] | None] | None = None


class Operations:
    """Requests and their approvals under one policy; safe for threads. All methods block and raise Problem."""

    def __init__(self, docket: Docket) -> None:
        self._docket = docket
        self._store = docket.store
        self._policy = docket.policy
        self._executors: dict[KeyOperation, Executor] = {}
        # One execution at a time: `Executor.done` can then tell whose work it finds.
        self._executing = threading.Lock()

    def provide(self, operation: KeyOperation, executor: Executor) -> None:
        """Say how `operation` is done."""
        self._executors[operation] = executor

    # -- asking --------------------------------------------------------------------------------------------------------

    def ask(self, operation: KeyOperation, caller: str, parameters: Mapping[str, Any], reason: str = "") -> Grant:
        """Whether `caller`, who was found to be one that may ask for the operation, may have it now.

        Raises ApprovalNeeded with the request if officers must approve it first: a new one, or the open one that the
        caller made for the same. Problem 422 for what cannot be written down, 429 for too many open requests.
        """
        if not self.is_controlled(operation, caller, parameters):
            return FREE
        raise ApprovalNeeded(self._docket.info(self._asked(operation, caller, parameters, reason)))

    def is_controlled(self, operation: KeyOperation, caller: str, parameters: Mapping[str, Any]) -> bool:
        """Whether officers must approve the operation when `caller` asks for it."""
        return not self._policy.is_exempt(caller) and self._policy.requirement(operation, parameters) is not None

    def controls_use(self, template: str, use: str) -> bool:
        """Whether each such use of a key of `template` is approved by itself."""
        return self._policy.requirement(KeyOperation.USE, {"template": template, "use": use}) is not None

    def use(self, caller: str, template: str, use: str, key: str, input_sha256: str) -> Grant:
        """Whether `caller` may have the key (`name/version`) sign the structure with this digest (hex) now.

        If its request is approved, it is EXECUTING from now on, and `concluded` must be told how it ended. Otherwise
        raises as `ask`.
        """
        if not self.controls_use(template, use) or self._policy.is_exempt(caller):
            return FREE
        parameters = {"template": template, "use": use, "key": key, "input_sha256": input_sha256}
        stored = self._asked(KeyOperation.USE, caller, parameters, "")
        verdict = self._docket.judge(stored)
        if verdict.status is Status.APPROVED and self._docket.begin(stored, verdict):
            return grant(stored.request, verdict)
        raise ApprovalNeeded(self._docket.info(self._docket.there(stored.request.id)))

    def concluded(self, used: Grant, error: Exception | None = None) -> None:
        """The use that was granted ended: done, or with `error`."""
        if used.request is not None:
            self._docket.end(used.request, error, None)

    def _asked(
        self, operation: KeyOperation, caller: str, parameters: Mapping[str, Any], reason: str
    ) -> StoredOperation:
        now = self._docket.clock().replace(microsecond=0)
        lapses = now + self._policy.lasts.request
        try:
            request = OperationRequest(operation, parameters, caller, reason, now, lapses, self._policy.digest)
        except RequestError as error:
            raise Problem(422, "bad-request", f"this cannot be asked for: {error}") from None
        mine = [each for each in self._store.all(OPEN) if each.request.requester == caller]
        for each in mine:
            same = (each.request.operation, each.request.parameters) == (operation, parameters)
            if same and self._docket.judge(each).status not in ENDED:
                return each
        if len(mine) >= MAX_OPEN:  # some may have lapsed, which nobody looked at since
            mine = [each for each in mine if self._docket.judge(each).status not in ENDED]
        if len(mine) >= MAX_OPEN:
            raise Problem(429, "too-many-requests", f"{caller} has {len(mine)} open requests; they wait for officers")
        if self._store.find(request.id) is not None:
            # Decided and asked again within a second: the same bytes would be the same request.
            raise Problem(409, "operation-decided", "the same was asked for and decided a moment ago; ask again")
        self._docket.record(
            {
                "event": "requested",
                "request": request.id,
                "operation": operation.value,
                "caller": caller,
                "parameters": dict(parameters),
                "reason": reason,
                "expires": request.expires.isoformat(),
                "policy": request.policy,
            }
        )
        return self._store.add(request)

    # -- officers ------------------------------------------------------------------------------------------------------

    def list(self, caller: str) -> list[OperationInfo]:
        """All requests, the newest first; for officers."""
        with self._refusals("operations", caller, None):
            check_officer(caller)
        return [self._docket.info(stored) for stored in reversed(self._store.all())]

    def show(self, caller: str, request_id: str) -> OperationInfo:
        """One request; for officers and for who asked. Problem 404 if there is none."""
        with self._refusals("operation", caller, request_id):
            return self._docket.info(self._visible(caller, request_id))

    def admit(self, caller: str, request_id: str) -> None:
        """Problem 401 or 403, recorded, unless `caller` may hand in an approval of the request."""
        with self._refusals("approve", caller, request_id):
            check_officer(caller)

    def approve(self, caller: str, request_id: str, signed: bytes) -> OperationInfo:
        """Takes an approval or rejection (CMS SignedData, DER); the last one that was missing executes the operation.

        The same bytes once more change nothing, but execute what is approved and not yet done. That the operation
        failed is no error here: the answer says so. Raises Problem 404; 409 if the request is decided; 413; 422 with
        the clause of the rule that keeps the approval from counting; 503 while the token is away, and the request stays
        approved.
        """
        with self._refusals("approve", caller, request_id, signed):
            check_officer(caller)
            stored = self._docket.there(request_id)
            verdict = None if signed in stored.approvals else self._accept(stored, signed)
        if verdict is not None:
            counted = verdict.counted(len(stored.approvals))
            assert counted is not None  # otherwise it was refused
            self._docket.record(
                {
                    "event": "rejected" if verdict.status is Status.REJECTED else "approved",
                    "request": request_id,
                    "operation": stored.request.operation.value,
                    "caller": caller,
                    "person": counted.person,
                    "certificate_sha256": counted.certificate_sha256,
                    "approval_sha256": hashlib.sha256(signed).hexdigest(),
                }
            )
            stored = self._store.approve(request_id, signed)
        return self._go_on(stored)

    def execute(self, caller: str, request_id: str) -> OperationInfo:
        """Does what is approved and not yet done; for officers and for who asked.

        What is done already is answered as it is. Problem 404, 409 if it is neither.
        """
        with self._refusals("execute", caller, request_id):
            stored = self._visible(caller, request_id)
            self._docket.judge(stored)
            state = self._docket.there(request_id).state
            if stored.request.operation is KeyOperation.USE or state not in _READY:
                raise Problem(409, "not-approved", f"the request is {state}, not ready to be done")
        return self._go_on(stored)

    def _visible(self, caller: str, request_id: str) -> StoredOperation:
        stored = self._store.find(request_id)
        if stored is None or stored.request.requester != caller:
            check_officer(caller)
        return self._docket.there(request_id)

    @contextlib.contextmanager
    def _refusals(self, what: str, caller: str, request_id: str | None, signed: bytes | None = None) -> Iterator[None]:
        """Records a Problem raised inside as a refusal of `what`."""
        try:
            yield
        except Problem as problem:
            self._docket.record(
                {
                    "event": "refused",
                    "operation": what,
                    "caller": caller,
                    "request": request_id,
                    "input_sha256": None if signed is None else hashlib.sha256(signed).hexdigest(),
                    "policy": self._policy.digest,
                    "reason": problem.type,
                    "rule": problem.clause,
                }
            )
            problem.noted = True
            raise

    def _accept(self, stored: StoredOperation, signed: bytes) -> Verdict:
        """The verdict with the approval `signed`; Problem if it may not be added, or would not count."""
        if len(signed) > MAX_APPROVAL:
            raise Problem(413, "approval-too-big", f"an approval has at most {MAX_APPROVAL} bytes")
        if self._docket.judge(stored).status in ENDED:
            raise Problem(409, "operation-decided", f"the request is {self._docket.there(stored.request.id).state}")
        if stored.state not in OPEN:
            raise Problem(409, "operation-decided", f"the request is {stored.state}")
        if len(stored.approvals) >= MAX_APPROVALS:
            raise Problem(409, "too-many-approvals", f"the request has {MAX_APPROVALS} approvals and takes no more")
        verdict = self._docket.decide(stored.request, (*stored.approvals, signed))
        finding = verdict.about(len(stored.approvals))
        if finding is not None:
            raise Problem(
                422, "approval-refused", f"the approval does not count: {finding.message}", clause=finding.clause
            )
        return verdict

    # -- executing -----------------------------------------------------------------------------------------------------

    def resume(self) -> None:
        """Takes up what a killed process left EXECUTING. Before anything else is asked for."""
        for stored in self._store.all({OperationState.EXECUTING}):
            request = stored.request
            executor = self._executors.get(request.operation)
            found = executor.done(request.parameters) if executor is not None and executor.done is not None else None
            if found is not None:
                self._docket.end(request.id, None, found)
                continue
            verdict = self._docket.decide(request, stored.approvals)
            if executor is None or executor.done is None or verdict.status is not Status.APPROVED:
                self._docket.end(
                    request.id, Problem(409, "interrupted", "the operation was interrupted; ask for it again"), None
                )
                continue
            try:
                self._run(request, executor, verdict)
            except Exception as error:
                if problem_of(error) is None:
                    raise
                _log.error("an operation was not taken up", request=request.id, reason=str(error))

    def _go_on(self, stored: StoredOperation) -> OperationInfo:
        """Execute the request if it is approved and nobody else does."""
        request = stored.request
        executor = self._executors.get(request.operation)
        if executor is not None:
            with self._executing:
                verdict = self._docket.judge(self._docket.there(request.id))
                if verdict.status is Status.APPROVED and self._docket.begin(stored, verdict):
                    self._run(request, executor, verdict)
        return self._docket.info(self._docket.there(request.id))

    def _run(self, request: OperationRequest, executor: Executor, verdict: Verdict) -> None:
        try:
            outcome = executor.run(request.requester, request.parameters, grant(request, verdict))
        except Exception as error:
            problem = problem_of(error)
            self._docket.end(request.id, error, None)
            if problem is None or problem.status == 503:
                raise
        else:
            self._docket.end(request.id, None, outcome)


def check_officer(caller: str) -> None:
    """Problem 401 or 403 unless an officer calls. Whether an approval of theirs counts is another question."""
    if caller == _ANONYMOUS:
        raise Problem(401, "client-certificate-required", f"operation requests are for {OFFICERS}")
    if not caller.startswith(OFFICERS.removesuffix("*")):
        raise Problem(403, "caller-not-allowed", f"{caller} may not do this; it is for {OFFICERS}")
