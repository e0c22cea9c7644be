"""From a message's bytes to the frames that answer it, faults included.

A message whose MAC is wrong is dropped and counted, never answered: an answer under our MAC to a forged copy of a
request in flight would be taken for the answer to the request itself, and "refused" would be believed while the money
moves. The acquirer times out and reverses.
"""

from __future__ import annotations

import asyncio
import contextlib
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
from shetab.errors import ShetabError, ValueFormatError
from shetab.jalali import local_time_and_date, transmission_time
from shetab.key_data import ZoneKeyData
from shetab.message import Message
from shetab.response_codes import OUT_OF_STEP, REFUSED_KEY
from shetab.subfields import SecurityControl, ZoneKeyKind
from switch import administration, authorisation, reconciliation, settling
from switch.errors import KeyIndexError
from switch.faults import Fault, FaultPlan
from switch.inbox import Inbox
from switch.key_ring import KeyRing, WorkingKey
from switch.recording import Rules
from switch.schema import acquirers

_SIGN_ON: Final = "001"
_SIGN_OFF: Final = "002"
_ECHO: Final = "301"
_KEY_CHANGE: Final = "101"
_STANS: Final = 999_999

_log = get_logger("switch")


@dataclass(slots=True)
class Session:
    """One connection: who signed on over it, and the keys that were sent over it, by what matches their answers."""

    institution: str | None = None
    offers: dict[tuple[str, ...], tuple[str, ZoneKeyKind, int]] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Reply:
    """What to send: `frames` are messages without length prefix, `after` seconds from now; or break the connection.

    A `torn` frame is sent by half before the connection breaks; a `too_long` one says that it is longer than any.
    """

    frames: tuple[bytes, ...] = ()
    after: float = 0
    disconnect: bool = False
    torn: bool = False
    too_long: bool = False


@dataclass(slots=True)
class Statistics:
    """What came since the start: messages by MTI, and messages dropped by cause (mac, dialect, failed)."""

    received: Counter[str] = field(default_factory=Counter)
    dropped: Counter[str] = field(default_factory=Counter)


class Processor:
    """Stateless but for the database, the zone keys in memory, the fault plan and the counters."""

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
        self._changing = asyncio.Lock()
        """What is in memory of the keys follows the database in the order of its commits."""
        self._last_stan = 0
        self.statistics = Statistics()

    async def handle(self, raw: bytes, session: Session) -> Reply:
        """Process one message and say what to send back. The database has it before this returns."""
        institution = session.institution or self._claimed(raw)
        request = await self._authentic(raw, institution)
        if request is None:
            return Reply()
        if request.is_response:
            await self._key_answered(request, session)
            return Reply()
        self.statistics.received[request.mti] += 1
        await self._seen_in_use(request)
        fault = self._faults.take(request.mti, request.get(2) or "")
        if fault is not None and fault.kind == "ignore":
            return Reply()
        if request.mti == "0800" and request[70] == _KEY_CHANGE:
            answer, offered = await self._key_change(request, session)
        else:
            answer, offered = await self._answer(request, session, fault), ()
        _log.info("answered", request=request.mti, rc=answer[39], fault=fault.kind if fault else None)
        return self._reply(answer, offered, fault, institution)

    async def judge(self, request: Message, institution: str) -> tuple[Message | None, Fault | None]:
        """The answer to a request that came some other way than the line, and the fault that is meant for it.

        Whoever calls has made sure that it is from `institution`. None: it was lost on its way, nothing was done.
        """
        self.statistics.received[request.mti] += 1
        fault = self._faults.take(request.mti, request.get(2) or "")
        if fault is not None and fault.kind == "ignore":
            return None, fault
        known = await self._writer.run(lambda connection: _is_member(connection, institution))
        return await self._answer(request, Session(institution=institution if known else None), fault), fault

    async def offer(self, session: Session, kind: ZoneKeyKind) -> bytes:
        """The frame with the next key of `kind` for whoever signed on over this connection, unasked.

        :raises KeyFileError: there is no master key.
        """
        assert session.institution is not None  # who asks has looked
        message = await self._offered(session, session.institution, kind, None)
        return self._sealed(message, session.institution)

    def _claimed(self, raw: bytes) -> str | None:
        """Whose message it says that it is, before it is believed: by whose keys it is to be verified."""
        try:
            message = self._rules.dialect.decode(raw, Direction.TO_SWITCH)
        except ShetabError:
            return None
        return message.get(33) or message.get(32)

    async def _authentic(self, raw: bytes, institution: str | None) -> Message | None:
        dialect, ring = self._rules.dialect, self._rules.ring
        try:
            data, received = dialect.mac_input(raw), dialect.mac_of(raw)
        except ShetabError:
            data, received = raw, b""
        key = ring.verify_mac(institution, data, received)
        if key is None:
            self.statistics.dropped["mac"] += 1
            _log.warning("dropped: wrong MAC", size=len(raw))
            return None
        if key.state == "pending" and institution is not None:
            await self._confirm(institution, key.kind, key.index)
        try:
            return dialect.decode(raw, Direction.TO_SWITCH)
        except ShetabError as error:
            self.statistics.dropped["dialect"] += 1
            _log.warning("dropped: breaks the dialect", error=str(error))
            return None

    # --- zone keys ----------------------------------------------------------------------------------------------------

    async def _key_change(self, request: Message, session: Session) -> tuple[Message, tuple[Message, ...]]:
        """The acquirer asks for the key after the one that it holds: it is agreed to, and the key is sent."""
        rc, offered = "00", tuple[Message, ...]()
        if session.institution is None:
            rc = "92"
        elif not self._rules.ring.can_exchange:
            rc = "40"
        else:
            try:
                kind, held = SecurityControl.from_de53(request.get(53) or "").changed()
            except ValueFormatError:
                return self._managed(request, "30"), ()
            try:
                offered = (await self._offered(session, session.institution, kind, held),)
            except KeyIndexError as error:
                _log.error("zone keys are not in step", reason=str(error))
                rc = OUT_OF_STEP[kind]
        return self._managed(request, rc), offered

    async def _offered(self, session: Session, institution: str, kind: ZoneKeyKind, held: int | None) -> Message:
        """The 0800 with the next key; the key is on the disk."""
        rules = self._rules
        async with self._changing:
            offer, keys = await self._writer.run(
                lambda connection: rules.ring.offer(connection, institution, kind, held, rules.rng)
            )
            rules.ring.refresh(institution, keys)
            self._last_stan = self._last_stan % _STANS + 1
        now = self._clock()
        local_time, local_date = local_time_and_date(now)
        fields = {
            7: transmission_time(now),
            11: f"{self._last_stan:06d}",
            12: local_time,
            13: local_date,
            33: rules.institution,
            53: SecurityControl.of_change(kind, offer.index).to_de53(),
            70: _KEY_CHANGE,
            **ZoneKeyData(offer.wrapped, bytes.fromhex(offer.check_value)).to_fields(),
        }
        message = Message("0800", fields)
        session.offers[rules.dialect.match_key(message)] = (institution, kind, offer.index)
        _log.info("zone key sent", institution=institution, kind=kind, index=offer.index, check_value=offer.check_value)
        return message

    async def _key_answered(self, answer: Message, session: Session) -> None:
        offered = session.offers.pop(self._rules.dialect.match_key(answer), None) if answer.mti == "0810" else None
        if offered is None:
            self.statistics.dropped["dialect"] += 1
            return
        institution, kind, index = offered
        if answer[39] == "00":
            await self._confirm(institution, kind, index)
        elif answer[39] in REFUSED_KEY:
            _log.error("zone key refused", institution=institution, kind=kind, index=index, rc=answer[39])
            await self._change(
                institution, lambda ring, connection: ring.withdraw(connection, institution, kind, index)
            )
        # Whatever else it says, it may hold the key by now: it is sent again when a key is asked for next.

    async def _seen_in_use(self, request: Message) -> None:
        """A PIN block under the key that was sent: the acquirer holds it."""
        if 52 not in request or 53 not in request or 32 not in request:
            return
        with contextlib.suppress(ValueFormatError):
            index = SecurityControl.from_de53(request[53]).pin_key_index
            institution = request[32]
            keys = self._rules.ring.keys(institution, "zone-pin")
            if any(key.state == "pending" and key.index == index for key in keys):
                await self._confirm(institution, "zone-pin", index)

    async def _confirm(self, institution: str, kind: ZoneKeyKind, index: int) -> None:
        await self._change(institution, lambda ring, connection: ring.confirm(connection, institution, kind, index))
        _log.info("zone key in use", institution=institution, kind=kind, index=index)

    async def _change(self, institution: str, job: Callable[[KeyRing, Connection], tuple[WorkingKey, ...]]) -> None:
        ring = self._rules.ring
        async with self._changing:
            ring.refresh(institution, await self._writer.run(lambda connection: job(ring, connection)))

    # --- answers ------------------------------------------------------------------------------------------------------

    async def _answer(self, request: Message, session: Session, fault: Fault | None) -> Message:
        now = self._clock()
        if request.mti == "0800":
            return await self._network_management(request, session)
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

    async def _network_management(self, request: Message, session: Session) -> Message:
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
        return self._managed(request, rc)

    def _managed(self, request: Message, rc: str) -> Message:
        fields = self._rules.dialect.echoed_fields(request)
        fields |= {7: transmission_time(self._clock()), 39: rc, 100: request[33]}
        return Message(self._rules.dialect.response_mti(request.mti), fields)

    def _reply(
        self, answer: Message, offered: tuple[Message, ...], fault: Fault | None, institution: str | None
    ) -> Reply:
        kind = fault.kind if fault is not None else None
        if kind == "drop":
            return Reply()
        if kind == "disconnect":
            return Reply(disconnect=True)
        if fault is not None and kind == "wrong_stan":
            other = f"{(int(answer[11]) + 1) % 1_000_000:06d}"
            answer = Message(answer.mti, {**answer.fields, 11: other})
        if kind == "wrong_amount" and 4 in answer:
            answer = Message(answer.mti, {**answer.fields, 4: f"{int(answer[4]) + 1:012d}"})
        if fault is not None and kind == "alter":
            answer = Message(answer.mti, {**answer.fields, **fault.fields})
        frame = self._sealed(answer, institution)
        if kind == "corrupt_mac":
            mac = self._rules.dialect.mac_of(frame)
            frame = self._rules.dialect.with_mac(frame, mac[:-1] + bytes([mac[-1] ^ 1]))
        if kind == "garble":
            frame = os.urandom(len(frame))
        return Reply(
            frames=(frame,) * (2 if kind == "repeat" else 1)
            + tuple(self._sealed(each, institution) for each in offered),
            after=fault.seconds if fault is not None and kind == "delay" else 0,
            torn=kind == "partial",
            too_long=kind == "bad_length",
        )

    def _sealed(self, answer: Message, institution: str | None) -> bytes:
        dialect = self._rules.dialect
        raw = dialect.encode(answer)
        return dialect.with_mac(raw, self._rules.ring.mac(institution, dialect.mac_input(raw)))


def _is_member(connection: Connection, institution: str) -> bool:
    return connection.execute(select(acquirers.c.code).where(acquirers.c.code == institution)).one_or_none() is not None
