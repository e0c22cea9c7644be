"""Who acts at the gateway, for every route of operators and officers: the one place where it is decided.

An officer whose key is in a token does not speak TLS: the operator's console makes the connection, and the officer
signs a statement about the one act (`cps.gateway_act`, header `Kwbp-Officer-Statement`, CMS in base64). It counts when
all of this holds, in this order; whatever fails, the request is refused, and is never taken for the console's:

| of         | what                                                                                                   |
| ---------- | ------------------------------------------------------------------------------------------------------ |
| connection | the operator's console, or the same officer's own                                                      |
| signature  | over the statement, by the certificate that comes with it                                              |
| officer    | the path to the root, the lists in force: nobody revoked, expired or of another hierarchy              |
| act        | of this gateway: method, path and query as they came                                                   |
| time       | made at most `LASTS` ago, not more than `AHEAD` in the future, for no longer than `LASTS`               |
| role       | `ACTING` held when it was signed and still, in full or by a grant; and the route is for officers        |
| body       | the one that was signed; it is read only now, so that nobody else has a long one read                   |
| number     | fewer than `MOST` of this person's were taken within `WITHIN`: they are kept for ever                   |
| nonce      | used for the first time, in whatever replica; written down with the statement before anything is done   |

Officers who come by their own TLS certificate are held to the same roles. Both are `officer:PERSON`, so that dual
control counts persons and not ways. Whoever only looks needs no role: every officer may.
"""

from __future__ import annotations

import asyncio
import base64
import binascii
from collections.abc import Awaitable, Callable
from datetime import datetime, timedelta
from hashlib import sha256
from typing import Any, Final

from cryptography.hazmat.primitives import hashes
from sqlalchemy import Connection, Row, and_, func, select
from starlette.requests import Request

from audit.journal import Journal
from cps.errors import StatementError, fault
from cps.gateway_act import LASTS, GatewayAct, parse_gateway_act
from cps.packs import published
from cps.signatory import NO_CLASS, Signatory, identify, open_signed
from gateway.operating.tables import officer_statements
from gateway.ports import TrustSource
from gateway.store import OrderStore
from pki.errors import PkiError
from pki.extensions import OfficerData
from pki.oids import CT_GATEWAY_ACT
from runtime.database import insert_new
from runtime.identity import Caller, caller_of, check
from runtime.language import Message, terms
from runtime.problems import Problem

HEADER: Final = "kwbp-officer-statement"
ACTING: Final = ("security_officer", "ca_operator")
"""Trusted roles whose holders act at the gateway (CPS 5.2.1)."""
AHEAD: Final = timedelta(seconds=30)
LARGEST: Final = 24 * 1024
"""Characters of the header."""
MOST: Final = 500
WITHIN: Final = timedelta(hours=1)
"""More acts of one person than anybody reads, fewer than fill a disk."""
_KEPT_BODY: Final = 64 * 1024
_CONSOLE: Final = "service:operator"
_LOOKING: Final = frozenset({"GET", "HEAD"})


class OfficerActs:
    """Believes statements of officers, each once, and keeps them."""

    def __init__(
        self,
        store: OrderStore,
        journal: Journal,
        trust: TrustSource,
        *,
        gateway_id: str,
        clock: Callable[[], datetime],
    ) -> None:
        self._store = store
        self._journal = journal
        self._trust = trust
        self._gateway_id = gateway_id
        self._clock = clock

    async def judge(
        self,
        carrier: Caller,
        header: str,
        *patterns: str,
        method: str,
        target: str,
        read: Callable[[], Awaitable[bytes]],
    ) -> Caller:
        """The officer who signed the statement in `header` about this act, brought by `carrier`.

        :param patterns: who may do this. :param read: gives the body.
        :raises Problem: 403 it does not count; 429 too many of this person; 503 nobody knows now whether the officer's
            certificate does.
        """
        if str(carrier) != _CONSOLE and carrier.kind != "officer":
            raise _refused("a statement comes over the operator's connection or the officer's own", "CPS 5.2.1")
        statement = _read(header)
        now = self._clock()
        trust = await self._trust.trust(now)
        try:
            signed = open_signed(statement, CT_GATEWAY_ACT)
            act = parse_gateway_act(signed.content)
            signatory = identify(signed, pack=published(), trust=trust, now=now)
        except (PkiError, StatementError) as error:
            raise _refused(Message("the statement does not count: {fault}", fault=fault(error)), "CPS 5.2.3") from None
        self._require_officer(signatory, carrier)
        self._require_this(act, method, target)
        _require_time(act, signed.signing_time, now)
        if not signatory.holds(ACTING, NO_CLASS, now):
            raise _wrong_role(signatory.person)
        officer = check(Caller("officer", signatory.person, signatory.certificate), *patterns)
        body = await read()
        if act.body != sha256(body).digest():
            raise _refused("the statement is about another act", "CPS 5.2.2")
        await self._use(signatory, act, statement, body, now)
        return officer

    def list(self, limit: int) -> list[Row[Any]]:
        """The newest statements, newest first."""
        query = select(officer_statements).order_by(officer_statements.c.number.desc()).limit(limit)
        with self._store.reading() as connection:
            return list(connection.execute(query))

    @staticmethod
    def _require_officer(signatory: Signatory, carrier: Caller) -> None:
        if OfficerData.from_certificate(signatory.certificate) is None:
            raise _refused("the statement is signed by no officer", "CPS 5.2.1")
        if (objection := signatory.objection()) is not None:
            raise _refused(objection, "CPS 5.2.3")
        if carrier.kind == "officer" and carrier.name != signatory.person:
            raise _refused("the statement is another officer's than the connection", "CPS 5.2.1")

    def _require_this(self, act: GatewayAct, method: str, target: str) -> None:
        if act.gateway != self._gateway_id:
            raise _refused("the statement is for another gateway", "CPS 5.2.2")
        if (act.method, act.target) != (method, target):
            raise _refused("the statement is about another act", "CPS 5.2.2")

    async def _use(self, signatory: Signatory, act: GatewayAct, statement: bytes, body: bytes, now: datetime) -> None:
        values = {
            "credential": signatory.certificate.fingerprint(hashes.SHA256()).hex(),
            "nonce": act.nonce.hex(),
            "person": signatory.person,
            "method": act.method,
            "target": act.target,
            "body": body if len(body) <= _KEPT_BODY else None,
            "statement": statement,
            "taken_at": now,
        }

        columns = officer_statements.c
        lately = and_(columns.person == signatory.person, columns.taken_at > now - WITHIN)

        def job(connection: Connection) -> bool:
            taken = connection.execute(select(func.count()).select_from(officer_statements).where(lately)).scalar_one()
            if taken >= MOST:
                told = Message("{person} has signed {count} acts within the hour", person=signatory.person, count=taken)
                raise Problem(429, "too-many-statements", told, headers={"retry-after": "60"})
            return insert_new(connection, officer_statements, **values)

        if not await self._store.writer.run(job):
            raise _refused("this statement came before", "CPS 5.2.2")
        entry = {
            "event": "officer-statement",
            "by": f"officer:{signatory.person}",
            "act": f"{act.method} {act.target}",
            "sha256": sha256(statement).hexdigest(),
        }
        await asyncio.to_thread(self._journal.append, entry)


def acting(*patterns: str) -> Callable[[Request], Awaitable[Caller]]:
    """A FastAPI dependency: who acts, if one of `patterns` names them and a role allows an officer to act."""

    async def dependency(request: Request) -> Caller:
        carrier = caller_of(request.scope)
        looking = request.method in _LOOKING
        headers = request.headers.getlist(HEADER)
        if not headers:
            caller = check(carrier, *patterns)
            if caller.kind == "officer" and not looking:
                _require_role(caller, request.app.state.gateway.clock())
            return caller
        if len(headers) > 1:
            raise _refused("one statement is about one act", "CPS 5.2.2")
        acts: OfficerActs = request.app.state.gateway.officer_acts
        scope = request.scope
        path, query = scope["raw_path"].decode("latin-1"), scope["query_string"].decode("latin-1")
        target = f"{path}?{query}" if query else path
        of = {"method": request.method, "target": target}
        return await acts.judge(carrier, headers[0], *patterns, **of, read=request.body)

    dependency.patterns = patterns  # type: ignore[attr-defined]  # as those of `runtime.identity.require`
    return dependency


def _require_role(caller: Caller, now: datetime) -> None:
    """Of an officer who came by TLS, whose path and status were judged when the request came in."""
    data = None if caller.certificate is None else OfficerData.from_certificate(caller.certificate)
    if data is None or data.person_id != caller.name:  # else one person would be two, by TLS and by statements
        raise _refused("the client certificate names no officer", "CPS 5.2.1")
    if _held(data, now).isdisjoint(ACTING):
        raise _wrong_role(caller.name)


def _held(data: OfficerData, now: datetime) -> frozenset[str]:
    granted = {each.role for each in data.grants if each.in_effect(now) and each.covers(None)}
    return frozenset(data.roles).union(granted)


def _read(header: str) -> bytes:
    if len(header) > LARGEST:
        raise _refused("the statement is too long", "CPS 5.2.2")
    try:
        return base64.b64decode(header, validate=True)
    except (binascii.Error, ValueError):
        raise _refused("the statement is not base64", "CPS 5.2.2") from None


def _require_time(act: GatewayAct, signing_time: datetime, now: datetime) -> None:
    if act.expires - act.date > LASTS or act.expires <= act.date:
        raise _refused(Message("a statement lasts {seconds} seconds at most", seconds=LASTS.seconds), "CPS 5.2.2")
    if act.date - now > AHEAD or signing_time - now > AHEAD:
        raise _refused(Message("the statement is of {time}, and it is {now}", time=act.date, now=now), "CPS 5.2.2")
    if now >= act.expires or now - signing_time > LASTS:
        raise _refused(Message("the statement lapsed at {time}; it is {now}", time=act.expires, now=now), "CPS 5.2.2")


def _wrong_role(person: str) -> Problem:
    told = Message(
        "{person} may look, but to act here is for {roles}", person=person, roles=terms("role", ACTING, "or")
    )
    return _refused(told, "CPS 5.2.1")


def _refused(told: str | Message, clause: str) -> Problem:
    return Problem(403, "officer-statement-refused", told, clause=clause)
