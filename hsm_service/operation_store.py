"""Operation requests and their approvals, in tables of their own beside the key registry (`keys.db`).

    PENDING ⇄ APPROVED ⇄ EXECUTING → DONE | FAILED
       └─────────┴→ REJECTED | EXPIRED | VOID

A state is a note of how far a request has come, never a reason to do anything: before an operation is executed, the
request and its approvals are judged again (`hsm_service.dual_control`). EXECUTING is written before the operation is
begun and is left by its outcome alone, so that one that a killed process left is found and taken up, and none begins
twice.
"""

from __future__ import annotations

import hashlib
import json
import threading
from collections.abc import Collection
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from enum import StrEnum
from typing import Any, Final

from sqlalchemy import (
    Column,
    Engine,
    ForeignKey,
    Integer,
    LargeBinary,
    MetaData,
    String,
    Table,
    Text,
    insert,
    select,
    update,
)

from hsm_service.operation_request import OperationRequest, RequestError, parse_request

_metadata = MetaData()

_requests = Table(
    "operation_requests",
    _metadata,
    Column("id", String(64), primary_key=True),
    Column("request", LargeBinary, nullable=False),  # canonical form
    Column("state", String(16), nullable=False),
    Column("result", Text),  # JSON
    Column("changed", String(32), nullable=False),  # RFC 3339, UTC
)
_approvals = Table(
    "operation_approvals",
    _metadata,
    Column("request", String(64), ForeignKey("operation_requests.id"), primary_key=True),
    Column("position", Integer, primary_key=True),
    Column("sha256", String(64), nullable=False),
    Column("der", LargeBinary, nullable=False),
)


class OperationState(StrEnum):
    """How far a request has come."""

    PENDING = "PENDING"
    APPROVED = "APPROVED"
    EXECUTING = "EXECUTING"
    DONE = "DONE"
    FAILED = "FAILED"
    REJECTED = "REJECTED"
    EXPIRED = "EXPIRED"
    VOID = "VOID"


OPEN: Final = frozenset({OperationState.PENDING, OperationState.APPROVED})
"""States in which approvals are taken and execution may begin."""
_ALLOWED: Final = {
    OperationState.PENDING: frozenset(
        {OperationState.APPROVED, OperationState.REJECTED, OperationState.EXPIRED, OperationState.VOID}
    ),
    # Back to PENDING: an approval lapsed before anything was done.
    OperationState.APPROVED: frozenset(
        {
            OperationState.PENDING,
            OperationState.EXECUTING,
            OperationState.REJECTED,
            OperationState.EXPIRED,
            OperationState.VOID,
        }
    ),
    # Back to APPROVED: the token was away.
    OperationState.EXECUTING: frozenset({OperationState.DONE, OperationState.FAILED, OperationState.APPROVED}),
}


@dataclass(frozen=True, slots=True)
class StoredOperation:
    """A request, its approvals (SignedData, DER) in the order they came, its state and what came of it."""

    request: OperationRequest
    state: OperationState
    approvals: tuple[bytes, ...]
    result: dict[str, Any] | None
    changed: datetime


class OperationStore:
    """The requests of one database; safe for threads. This process is the only one that writes."""

    def __init__(self, engine: Engine) -> None:
        """Raises RequestError if a row is not the request that its id says."""
        self._engine = engine
        self._lock = threading.Lock()
        _metadata.create_all(engine)
        self._held: dict[str, StoredOperation] = {}
        with engine.connect() as connection:
            approvals: dict[str, list[bytes]] = {}
            for row in connection.execute(select(_approvals).order_by(_approvals.c.request, _approvals.c.position)):
                approvals.setdefault(row.request, []).append(row.der)
            for row in connection.execute(select(_requests)):
                request = parse_request(row.request)
                if request.id != row.id:
                    raise RequestError(f"the row {row.id} holds another request")
                self._held[row.id] = StoredOperation(
                    request,
                    OperationState(row.state),
                    tuple(approvals.get(row.id, ())),
                    None if row.result is None else json.loads(row.result),
                    datetime.fromisoformat(row.changed),
                )

    def find(self, request_id: str) -> StoredOperation | None:
        """The request with this id (hex)."""
        return self._held.get(request_id)

    def all(self, states: Collection[OperationState] = frozenset(OperationState)) -> list[StoredOperation]:
        """The requests in one of `states`, oldest first."""
        held = [each for each in list(self._held.values()) if each.state in states]
        return sorted(held, key=lambda each: (each.request.requested, each.request.id))

    def add(self, request: OperationRequest) -> StoredOperation:
        """Writes a new request (PENDING), or gives the one that is there: the same bytes are the same request."""
        with self._lock:
            if (held := self._held.get(request.id)) is not None:
                return held
            added = StoredOperation(request, OperationState.PENDING, (), None, request.requested)
            with self._engine.begin() as connection:
                connection.execute(
                    insert(_requests).values(
                        id=request.id,
                        request=request.canonical,
                        state=added.state.value,
                        changed=_text(added.changed),
                    )
                )
            self._held[request.id] = added
            return added

    def approve(self, request_id: str, der: bytes) -> StoredOperation:
        """Adds an approval or rejection; the same bytes once more change nothing."""
        with self._lock:
            held = self._held[request_id]
            if der in held.approvals:
                return held
            with self._engine.begin() as connection:
                connection.execute(
                    insert(_approvals).values(
                        request=request_id,
                        position=len(held.approvals),
                        sha256=hashlib.sha256(der).hexdigest(),
                        der=der,
                    )
                )
            return self._keep(replace(held, approvals=(*held.approvals, der)))

    def move(
        self,
        request_id: str,
        before: OperationState,
        after: OperationState,
        now: datetime,
        result: dict[str, Any] | None = None,
    ) -> bool:
        """Whether the request was in state `before` and is in `after` now; nothing is written otherwise.

        Of several threads that move a request to EXECUTING, one gets it. ValueError for a step that there is not.
        """
        if after not in _ALLOWED.get(before, frozenset()):
            raise ValueError(f"no request goes from {before} to {after}")
        with self._lock:
            held = self._held[request_id]
            if held.state is not before:
                return False
            with self._engine.begin() as connection:
                connection.execute(
                    update(_requests)
                    .where(_requests.c.id == request_id)
                    .values(
                        state=after.value,
                        changed=_text(now),
                        result=None if result is None else json.dumps(result, ensure_ascii=False, sort_keys=True),
                    )
                )
            self._keep(replace(held, state=after, result=result, changed=now))
            return True

    def close(self) -> None:
        """Lets go of the database."""
        self._engine.dispose()

    def _keep(self, stored: StoredOperation) -> StoredOperation:
        self._held[stored.request.id] = stored
        return stored


def _text(instant: datetime) -> str:
    return instant.astimezone(UTC).isoformat(timespec="seconds")
