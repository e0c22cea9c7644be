"""From a message's bytes to the frames that answer it, faults included.

A message whose MAC is wrong is dropped and counted, never answered: an answer under our MAC to a forged copy of a
request in flight would be taken for the answer to the request itself, and "refused" would be believed while the money
moves. The acquirer times out and reverses.
"""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import datetime
from typing import Final

from sqlalchemy import Connection, select

from runtime.group_writer import GroupWriter
from runtime.logging import get_logger
from shetab.dialect import Direction
from shetab.errors import ShetabError
from shetab.jalali import transmission_time
from shetab.message import Message
from switch import administration, authorisation, reconciliation, settling
from switch.faults import Fault, FaultPlan
from switch.inbox import Inbox
from switch.recording import Rules
from switch.schema import acquirers

_SIGN_ON: Final = "001"
_SIGN_OFF: Final = "002"
_ECHO: Final = "301"

_log = get_logger("switch")


@dataclass(slots=True)
class Session:
    """One connection; `institution` is who signed on over it."""

    institution: str | None = None


@dataclass(frozen=True, slots=True)
class Reply:
    """What to send: `frames` are messages without length prefix, `after` seconds from now; or break the connection."""

    frames: tuple[bytes, ...] = ()
    after: float = 0
    disconnect: bool = False


@dataclass(slots=True)
class Statistics:
    """What came since the start: messages by MTI, and messages dropped by cause (mac, dialect, failed)."""

    received: Counter[str] = field(default_factory=Counter)
    dropped: Counter[str] = field(default_factory=Counter)


class Processor:
    """Stateless but for the database, the fault plan and the counters."""

    def __init__(
        self,
        rules: Rules,
        writer: GroupWriter,
        faults: FaultPlan,
        clock: Callable[[], datetime],
        inbox: Inbox,
    ) -> None:
        self._rules = rules
        self._writer = writer
        self._faults = faults
        self._clock = clock
        self._inbox = inbox
        self.statistics = Statistics()

    async def handle(self, raw: bytes, session: Session) -> Reply:
        """Process one message and say what to send back. The database has it before this returns."""
        request = self._authentic(raw)
        if request is None:
            return Reply()
        self.statistics.received[request.mti] += 1
        fault = self._faults.take(request.mti)
        if fault is not None and fault.kind == "ignore":
            return Reply()
        answer = await self._answer(request, session, fault)
        _log.info("answered", request=request.mti, rc=answer[39], fault=fault.kind if fault else None)
        return self._reply(answer, fault)

    def _authentic(self, raw: bytes) -> Message | None:
        dialect = self._rules.dialect
        try:
            data = dialect.mac_input(raw)
            received = bytes.fromhex(raw[len(data) :].decode("ascii"))
        except (ShetabError, ValueError):
            data, received = raw, b""
        if not self._rules.zone.verify_mac(data, received):
            self.statistics.dropped["mac"] += 1
            _log.warning("dropped: wrong MAC", size=len(raw))
            return None
        try:
            request = dialect.decode(raw, Direction.TO_SWITCH)
        except ShetabError as error:
            self.statistics.dropped["dialect"] += 1
            _log.warning("dropped: breaks the dialect", error=str(error))
            return None
        if request.is_response:
            self.statistics.dropped["dialect"] += 1
            return None
        return request

    async def _answer(self, request: Message, session: Session, fault: Fault | None) -> Message:
        now = self._clock()
        if request.mti == "0800":
            return await self._network_management(request, session, now)
        signed_on = session.institution
        rules = self._rules
        forced = fault.rc if fault is not None and fault.kind == "refuse" else None
        if request.mti in ("0500", "0501"):
            return await self._writer.run(
                lambda connection: reconciliation.reconcile(connection, rules, request, signed_on=signed_on, now=now)
            )
        if settling.is_settling(request):
            return await self._writer.run(
                lambda connection: settling.settle(
                    connection, rules, request, signed_on=signed_on, now=now, forced_rc=forced
                )
            )
        if request.mti in ("0100", "0101", "0200", "0201"):
            return await self._writer.run(
                lambda connection: authorisation.sale(
                    connection, rules, request, signed_on=signed_on, now=now, forced_rc=forced
                )
            )
        if request.mti == "0600":
            reply = await self._writer.run(
                lambda connection: administration.administrative(
                    connection, rules, request, signed_on=signed_on, now=now
                )
            )
            if reply.message is not None:
                self._inbox.deliver(reply.message)
            return reply.answer
        return await self._writer.run(
            lambda connection: authorisation.reversal(connection, rules, request, signed_on=signed_on, now=now)
        )

    async def _network_management(self, request: Message, session: Session, now: datetime) -> Message:
        institution = request[33]
        rc = "00"
        if request[70] == _SIGN_ON:
            if await self._writer.run(lambda connection: _is_member(connection, institution)):
                session.institution = institution
            else:
                rc = "58"
        elif request[70] == _SIGN_OFF:
            session.institution = None
        elif request[70] != _ECHO:
            rc = "40"
        fields = self._rules.dialect.echoed_fields(request)
        fields |= {7: transmission_time(now), 39: rc, 100: institution}
        return Message(self._rules.dialect.response_mti(request.mti), fields)

    def _reply(self, answer: Message, fault: Fault | None) -> Reply:
        kind = fault.kind if fault is not None else None
        if kind == "drop":
            return Reply()
        if kind == "disconnect":
            return Reply(disconnect=True)
        if fault is not None and kind == "wrong_stan":
            other = f"{(int(answer[11]) + 1) % 1_000_000:06d}"
            answer = Message(answer.mti, {**answer.fields, 11: other})
        if fault is not None and kind == "alter":
            answer = Message(answer.mti, {**answer.fields, **fault.fields})
        frame = self._sealed(answer)
        if kind == "corrupt_mac":
            flipped = "0" if frame[-1:] != b"0" else "1"
            frame = frame[:-1] + flipped.encode("ascii")
        if kind == "garble":
            frame = os.urandom(len(frame))
        return Reply(
            frames=(frame, frame) if kind == "repeat" else (frame,),
            after=fault.seconds if fault is not None and kind == "delay" else 0,
        )

    def _sealed(self, answer: Message) -> bytes:
        dialect = self._rules.dialect
        raw = dialect.encode(answer)
        return dialect.with_mac(raw, self._rules.zone.mac(dialect.mac_input(raw)))


def _is_member(connection: Connection, institution: str) -> bool:
    return connection.execute(select(acquirers.c.code).where(acquirers.c.code == institution)).one_or_none() is not None
