"""The status of certificates over HTTP: orders, what waits to be published, the denylist. Part of `ca.app`.

| route                                  | for                                    |
| -------------------------------------- | -------------------------------------- |
| POST /v1/revocations                   | service:ra, service:operator, officers |
| GET /v1/revocations?state=due|overdue  | service:ra, service:operator, officers |
| POST /v1/denylist                      | service:ra, service:operator, officers |
| GET /v1/denylist?after=                | service:ra, service:operator, officers |
"""

from __future__ import annotations

from typing import Annotated, Final, Literal

from fastapi import APIRouter, Depends, Query, Response

from ca.api import (
    DeniedKeyAnswer,
    DenylistAnswer,
    DenyRequest,
    RevocationAnswer,
    RevokeRequest,
    StatusChangeAnswer,
    StatusChangeList,
)
from ca.authority import CertificateAuthority
from ca.deadlines import Urgency
from ca.denylist import DeniedKey
from ca.status_store import CoveringList, RevocationRecord, StatusChange
from runtime.identity import require

READERS: Final = ("service:ra", "service:operator", "officer:*")

After = Annotated[str, Query(pattern=r"^[0-9A-Fa-f]{0,64}$")]
Limit = Annotated[int, Query(ge=1, le=1000)]


def status_routes(authority: CertificateAuthority) -> APIRouter:
    """The routes of a started authority. Plain functions: each waits for the database, the disk and the token."""
    routes = APIRouter(dependencies=[Depends(require(*READERS))])

    @routes.post("/v1/revocations", status_code=201)
    def revoke(request: RevokeRequest, response: Response) -> RevocationAnswer:
        """Revoke, suspend (certificateHold) or release (removeFromCRL) by a signed order of an officer, of the holder
        or of the issuer bank. 202: on record, the list follows when the token is back."""
        changed = authority.revocation.apply(request.order)
        if changed.crl is None:
            response.status_code = 202
        return revocation_answer(changed.record, changed.crl)

    @routes.get("/v1/revocations")
    def to_publish(state: Literal["due", "overdue"] = "due") -> StatusChangeList:
        """Changes of status that no list covers yet (due), or those that should be published by now (overdue)."""
        waiting = authority.deadlines.waiting()
        return StatusChangeList(
            changes=tuple(
                change_answer(each.change, each.urgency)
                for each in waiting
                if state == "due" or each.urgency == "overdue"
            )
        )

    @routes.post("/v1/denylist", status_code=201)
    def deny(request: DenyRequest) -> DeniedKeyAnswer:
        """Never certify a key again, by orders of as many officers as the statement asks for."""
        return _denied(authority.revocation.deny(request.orders))

    @routes.get("/v1/denylist")
    def denylist(after: After = "", limit: Limit = 100) -> DenylistAnswer:
        """Denied keys in the order of their digests; the next page is `after` the last of them."""
        found = authority.store.status.denylist.keys(after=after.lower(), limit=limit)
        return DenylistAnswer(keys=tuple(map(_denied, found)))

    return routes


def revocation_answer(record: RevocationRecord, crl: CoveringList | None) -> RevocationAnswer:
    """How a certificate stands, and the first list that shows it."""
    return RevocationAnswer(
        issuer=record.issuer,
        serial=record.serial,
        state=record.state,
        reason=record.reason,
        revoked_at=record.revoked_at,
        invalidity_date=record.invalidity_date,
        ordered_by=record.ordered_by,
        due_at=record.due_at,
        crl_number=None if crl is None else crl.number,
        crl_scope=None if crl is None else crl.scope,
        order=record.order,
    )


def change_answer(change: StatusChange, urgency: Urgency | None = None) -> StatusChangeAnswer:
    """One change, without the order itself."""
    return StatusChangeAnswer(
        issuer=change.issuer,
        serial=change.serial,
        epoch=change.epoch,
        state=change.state,
        reason=change.reason,
        at=change.at,
        ordered_by=change.ordered_by,
        due_at=change.due_at,
        published_at=change.published_at,
        urgency=urgency,
    )


def _denied(key: DeniedKey) -> DeniedKeyAnswer:
    return DeniedKeyAnswer(
        spki_sha256=key.spki_sha256, reason=key.reason, listed_at=key.listed_at, listed_by=key.listed_by
    )
