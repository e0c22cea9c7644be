"""The docket: what the store says of a request, and what `decide_operation` says of it now, brought together.

Every state that is written follows from a verdict or from what an execution came to, and is in the journal first.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, Final

from audit.entry import JsonValue
from hsm_service.dual_control import Approval, Status, Verdict, decide_operation
from hsm_service.dual_control_policy import Policy, built_in_policy
from hsm_service.operation_info import ApprovalInfo, OperationInfo
from hsm_service.operation_request import OperationRequest
from hsm_service.operation_store import OPEN, OperationState, OperationStore, StoredOperation
from hsm_service.operation_text import request_lines
from hsm_service.record import problem_of
from hsm_service.steps import GONE
from pki.path import Trust
from runtime.problems import Problem
from statements.published import Statements

Fields = Mapping[str, JsonValue]

ENDED: Final = {
    Status.REJECTED: OperationState.REJECTED,
    Status.EXPIRED: OperationState.EXPIRED,
    Status.VOID: OperationState.VOID,
}
"""Verdicts that are final."""


@dataclass(frozen=True, slots=True)
class Grant:
    """That an operation may be done now. `fields` go into its intent: the request and who approved it, if any did."""

    request: str | None
    fields: Fields


FREE: Final = Grant(None, {})
"""What needs no approval."""


@dataclass(frozen=True, slots=True)
class Approving:
    """What officers' approvals are judged by: `trust` is asked each time, `policy` says what needs them."""

    trust: Callable[[], Trust] = lambda: Trust(())
    """By default nobody's approval counts."""
    policy: Policy = field(default_factory=built_in_policy)


_LATER: Final = frozenset({429, 503})
"""Statuses that say: not now."""


class Docket:
    """Requests under one policy; safe for threads. All methods block and raise Problem."""

    def __init__(
        self,
        store: OperationStore,
        approving: Approving,
        statements: Statements,
        *,
        record: Callable[[Fields], object],
        clock: Callable[[], datetime],
    ) -> None:
        """`record` puts an entry into the journal, on the disk when it returns, or raises Problem 503."""
        self.store = store
        self.policy = approving.policy
        self.record = record
        self.clock = clock
        self._statements = statements
        self._trust = approving.trust

    def decide(self, request: OperationRequest, approvals: tuple[bytes, ...]) -> Verdict:
        """The verdict with these approvals, now; nothing is written."""
        now = self.clock()
        pack = self._statements().in_force(now)
        return decide_operation(request, approvals, self.policy, pack=pack, trust=self._trust(), now=now)

    def judge(self, stored: StoredOperation) -> Verdict:
        """The verdict now; a request that has ended since is written down as such."""
        verdict = self.decide(stored.request, stored.approvals)
        if stored.state not in OPEN:
            return verdict
        request, result = stored.request, _result(verdict)
        ended = ENDED.get(verdict.status)
        if ended is not None:
            reason = str(verdict.findings[-1])
            if self.store.move(request.id, stored.state, ended, self.clock(), {**result, "detail": reason}):
                self.record({"event": "ended", "request": request.id, "state": ended.value, "reason": reason})
            return verdict
        # An approval may have lapsed since it made the request approved.
        state = OperationState.APPROVED if verdict.status is Status.APPROVED else OperationState.PENDING
        if state is not stored.state:
            self.store.move(request.id, stored.state, state, self.clock(), result)
        return verdict

    def there(self, request_id: str) -> StoredOperation:
        """The request as it stands; Problem 404 if there is none."""
        stored = self.store.find(request_id)
        if stored is None:
            raise Problem(404, "operation-not-found", "there is no such operation request")
        return stored

    def info(self, stored: StoredOperation) -> OperationInfo:
        """The request for people: approvals as they count now, or as they counted when it was decided."""
        if stored.state in OPEN:
            verdict = self.judge(stored)
            stored = self.there(stored.request.id)
            given = _result(verdict)
        else:
            given = stored.result or {}
        request = stored.request
        requirement = self.policy.required_for(request)
        result = {name: value for name, value in (stored.result or {}).items() if name not in {"approved", "rejected"}}
        return OperationInfo(
            id=request.id,
            operation=request.operation.value,
            state=stored.state.value,
            requester=request.requester,
            requested=request.requested.isoformat(),
            expires=request.expires.isoformat(),
            request=request.canonical,
            by=requirement.by if requirement is not None else (),
            needed=requirement.approvals if requirement is not None else 0,
            approvals=tuple(ApprovalInfo(**each) for each in given.get("approved", ())),
            rejections=tuple(ApprovalInfo(**each) for each in given.get("rejected", ())),
            result=result or None,
            text={"en": request_lines(request, "en"), "fa": request_lines(request, "fa")},
        )

    def begin(self, stored: StoredOperation, verdict: Verdict) -> bool:
        """Whether the execution is ours: the one move to EXECUTING that the store allows."""
        approved, executing = OperationState.APPROVED, OperationState.EXECUTING
        return self.store.move(stored.request.id, approved, executing, self.clock(), _result(verdict))

    def end(self, request_id: str, error: Exception | None, outcome: dict[str, Any] | None) -> None:
        """Writes what came of an execution.

        What was not begun stays approved: the token or the journal kept it from being done, the key's rate is used up
        for now, or the caller did not wait for it.
        """
        before = self.there(request_id).result or {}
        problem = None if error is None else problem_of(error)
        if error is None:
            state, result = OperationState.DONE, {**before, "outcome": outcome}
        elif problem is not None and (problem.status in _LATER or problem.type == GONE):
            state, result = OperationState.APPROVED, before
        else:
            reason = problem.type if problem is not None else "internal"
            detail = str(problem) if problem is not None else "an error that nobody expected"
            state, result = OperationState.FAILED, {**before, "reason": reason, "detail": detail}
        if state is not OperationState.APPROVED:
            self.record({"event": "ended", "request": request_id, "state": state.value, "reason": result.get("reason")})
        self.store.move(request_id, OperationState.EXECUTING, state, self.clock(), result)


def grant(request: OperationRequest, verdict: Verdict) -> Grant:
    """The right to do what this verdict approves."""
    approved: list[JsonValue] = [
        {"person": each.person, "certificate_sha256": each.certificate_sha256} for each in verdict.approvals
    ]
    return Grant(request.id, {"request": request.id, "approved_by": approved})


def _result(verdict: Verdict) -> dict[str, Any]:
    return {"approved": _people(verdict.approvals), "rejected": _people(verdict.rejections)}


def _people(approvals: tuple[Approval, ...]) -> list[dict[str, str]]:
    return [
        {
            "person": each.person,
            "organisation": each.organisation,
            "certificate_sha256": each.certificate_sha256,
            "signed_at": each.signed_at.isoformat(),
        }
        for each in approvals
    ]
