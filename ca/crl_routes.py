"""The revocation lists of a certificate authority over HTTP, for those who run it. Part of `ca.app`.

| route                              | for                          |
| ---------------------------------- | ---------------------------- |
| GET /v1/crls                       | service:operator, officers   |
| GET /v1/crls/{issuer}/{scope}      | service:operator, officers   |
| POST /v1/crls/{issuer}             | service:operator, officers   |

Relying parties fetch the lists from the public repository.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Annotated, Final

from fastapi import APIRouter, Depends, Path
from fastapi.responses import StreamingResponse

from ca.api import CrlAnswer, CrlList
from ca.authority import CertificateAuthority
from ca.crl_store import CrlRecord
from ca.errors import NotOnRecordError
from runtime.identity import require
from runtime.language import Message

OPERATORS: Final = ("service:operator", "officer:*")
MEDIA_TYPE: Final = "application/pkix-crl"  # RFC 2585 4.2

IssuerName = Annotated[str, Path(pattern=r"^[a-z0-9-]{1,64}$")]
Scope = Annotated[str, Path(pattern=r"^(full|delta|partition-([0-9]|1[0-5]))$")]


def crl_routes(authority: CertificateAuthority) -> APIRouter:
    """The routes of a started authority. Plain functions: each waits for the database or the token."""
    routes = APIRouter(dependencies=[Depends(require(*OPERATORS))])
    store = authority.store

    def known(issuer: str) -> None:
        if issuer not in authority.hierarchy.authorities:
            names = ", ".join(authority.hierarchy.authorities)
            raise NotOnRecordError(Message("there is no authority of this name; there are {names}", names=names))

    def answer(record: CrlRecord) -> CrlAnswer:
        waiting = None
        if not record.scope.startswith("partition"):
            waiting = store.status.epoch(record.issuer) - store.crls.covered(record.issuer)
        return CrlAnswer(
            issuer=record.issuer,
            scope=record.scope,
            number=record.number,
            base_number=record.base_number,
            entries=record.entries,
            this_update=record.this_update,
            next_update=record.next_update,
            sha256=record.sha256,
            waiting=waiting,
        )

    @routes.get("/v1/crls")
    def lists() -> CrlList:
        """Every list in force: full ones, deltas over them, partitions; the root's comes from a ceremony."""
        found = (each for name in authority.hierarchy.authorities for each in store.crls.in_force(name))
        return CrlList(crls=tuple(map(answer, found)))

    @routes.get(
        "/v1/crls/{issuer}/{scope}",
        response_class=StreamingResponse,
        responses={200: {"content": {MEDIA_TYPE: {"schema": {"type": "string", "format": "binary"}}}}},
    )
    def download(issuer: IssuerName, scope: Scope) -> StreamingResponse:
        """One list in force (DER), of any size."""
        known(issuer)
        record = store.crls.latest(issuer, scope)
        if record is None or record.number not in {each.number for each in store.crls.in_force(issuer)}:
            raise NotOnRecordError(Message("{issuer} has no {scope} list in force", issuer=issuer, scope=scope))
        return StreamingResponse(_started(store.crls.parts(record)), media_type=MEDIA_TYPE)

    @routes.post("/v1/crls/{issuer}", status_code=201)
    def publish(issuer: IssuerName) -> CrlAnswer:
        """Sign the next list of an authority now, a full one or, where that is long, a delta (CPS 4.9.7)."""
        known(issuer)
        return answer(authority.publisher.publish(issuer))

    return routes


def _started(parts: Iterator[bytes]) -> Iterator[bytes]:
    """`parts`, the first of them read already: what is wrong with it is answered, not a body that breaks off."""
    first = next(parts)

    def stream() -> Iterator[bytes]:
        yield first
        yield from parts

    return stream()
