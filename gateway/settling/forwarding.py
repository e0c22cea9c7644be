"""Sends what merchants ask for after the authorisation, until the outcome is known; then dates, signs and stores it.

A release, which nobody has asked for, goes the same way, but that there is nobody to be answered.

One request of an order is under way at a time. Each attempt is counted on the disk before it is sent, so what may have
left is repeated as a repeat (0221, 0421, 0201), with the same STAN and RRN, which a switch books once. The work is done
by whoever comes first: the merchant that asks, or asks again, or the clock. The queue is the order book.

A message that certainly did not leave (there was no line) is declined on its first attempt: the merchant may ask anew.
From the second attempt on an earlier one may have been booked, and nothing but the switch's answer about the request
ends it: that a repeat could not be worked on (no route, cut-over, malfunction) says nothing of what came before.
"""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime, timedelta
from functools import partial
from typing import Final

import prometheus_client

from gateway.acquirer.fees import FeeSchedule
from gateway.backoff import pause
from gateway.errors import LinkDownError, NoAnswerError, StateConflictError
from gateway.merchants import MerchantRegistry
from gateway.order import Order
from gateway.ports import Connector
from gateway.reversal import NOT_FOUND, PanUnsealer
from gateway.routing import Routes
from gateway.settling.releases import Releases
from gateway.settling.row import Settling
from gateway.settling.states import SettlingState
from gateway.settling.store import SettlingStore
from gateway.settling.translation import first_message, kept_fields, repeated_message
from gateway.signing import AnswerSigner
from gateway.store import OrderStore
from gateway.translation import SwitchAnswer, read_answer
from kwbp.codes import AuthCode
from kwbp.gateway import GatewayIdentity
from kwbp.settling import CapReqTBS, CheckedSettlingRequest, build_answer
from kwbp.wrapper import unwrap
from pki.der import sha256
from runtime.logging import get_logger
from runtime.problems import Problem
from shetab.dialect import Dialect
from shetab.message import Message
from shetab.response_codes import ResponseCodes
from shetab.types import Pan

RC_NOT_SENT: Final = "96"
"""DE 39 "system malfunction", given by the gateway itself: there is no line, nothing was sent."""
_TOGETHER: Final = 16
"""Requests that the clock works on at once: they must not crowd payments out of the line."""
_MANY_ATTEMPTS: Final = 100
_FRESH: Final = timedelta(seconds=60)
"""An answer that was dated longer ago is dated anew before it is signed: K7 allows date and signing time 120 s."""
_TIDY_EVERY: Final = timedelta(minutes=10)

_ended: Final = prometheus_client.Counter(
    "kwbp_gateway_settlings_total",
    "Requests of rows 19 to 21 that got their final answer, and releases that ended",
    ["request", "auth_code"],
)
_log = get_logger("gateway.settling")

Key = tuple[str, bytes, bytes]


@dataclass(frozen=True, slots=True)
class ForwardingSettings:
    """The clocks, in seconds, how long sealed PANs are kept, what is charged."""

    answer_timeout: float
    first_pause: float
    pan_kept: timedelta
    """After the acknowledgement of an order: as long as a capture, credit or reversal can be asked for."""
    fees: FeeSchedule = FeeSchedule()  # noqa: RUF009  # frozen
    """What the acquirer keeps of sales and captures, as told in the settlement advice."""
    longest_pause: float = 300.0
    tick: float = 1.0


class Forwarding:
    """`begin` a request; `run` as one task for those that nobody waits for."""

    def __init__(
        self,
        settings: ForwardingSettings,
        identity: GatewayIdentity,
        *,
        orders: OrderStore,
        store: SettlingStore,
        merchants: MerchantRegistry,
        routes: Routes,
        keys: PanUnsealer,
        signer: AnswerSigner,
        dialect: Dialect,
        codes: ResponseCodes,
        clock: Callable[[], datetime],
        rng: Callable[[int], bytes],
        checkpoint: Callable[[str], None],
    ) -> None:
        self._settings = settings
        self._identity = identity
        self._orders = orders
        self._store = store
        self._releases = Releases(orders, store, acquirer=identity.acquirer_bin, rng=rng)
        self._merchants = merchants
        self._routes = routes
        self._keys = keys
        self._signer = signer
        self._dialect = dialect
        self._codes = codes
        self._clock = clock
        self._rng = rng
        self._checkpoint = checkpoint
        self._under_way: dict[Key, asyncio.Task[None]] = {}
        self._postponed: Counter[int] = Counter()
        """How often in a row a request could not be worked on."""
        self._tidy_at = clock()

    def lease(self) -> datetime:
        """Until when a request that is worked on is not anybody else's."""
        return self._clock() + timedelta(seconds=2 * self._settings.answer_timeout)

    def begin(self, row: Settling) -> asyncio.Task[None]:
        """The one attempt that is under way for the request, begun now if there was none. Not to be cancelled."""
        key = (row.merchant_id, row.xid, row.rrpid)
        task = self._under_way.get(key)
        if task is None:
            task = asyncio.create_task(self._attempt(row))
            self._under_way[key] = task
            task.add_done_callback(partial(self._attempted, key))
        return task

    def is_held(self, row: Settling) -> bool:
        """Whether another gateway works on the request, as far as one can know."""
        if row.runner is None or row.runner == self._orders.replica:
            return False
        return self._clock() < row.changed_at + timedelta(seconds=2 * self._settings.answer_timeout)

    async def drain(self) -> None:
        """Wait for the attempts under way; each ends by its own deadline."""
        await asyncio.gather(*self._under_way.values(), return_exceptions=True)

    async def run(self) -> None:
        """Take up what is due until cancelled. An error of one look never ends it."""
        try:
            while True:
                try:
                    await self._take_up()
                    await self._tidy()
                except Exception as error:  # disk full, say: the next look may find it better
                    _log.error("requests could not be looked through", error=type(error).__name__)
                await asyncio.sleep(self._settings.tick)
        finally:
            for task in self._under_way.values():
                task.cancel()

    async def _take_up(self) -> None:
        free = _TOGETHER - len(self._under_way)
        if free <= 0:
            return
        await self._merchants.refresh()
        # What merchants wait for goes first: thousands of holds may lapse on one day.
        for row in await self._orders.look(self._due, _TOGETHER):
            if not self.is_held(row):
                self.begin(row)
        free = _TOGETHER - len(self._under_way)
        for row in await self._releases.take(self.lease(), self._clock(), max(0, free)):
            self._checkpoint("release-taken")
            self.begin(row)

    def _due(self, limit: int) -> list[Settling]:
        return self._store.due(self._clock(), limit, routes=self._routes.up())

    async def _tidy(self) -> None:
        now = self._clock()
        if now < self._tidy_at:
            return
        self._tidy_at = now + _TIDY_EVERY
        await self._store.forget_pans(now - self._settings.pan_kept, now)

    def _attempted(self, key: Key, task: asyncio.Task[None]) -> None:
        del self._under_way[key]
        if not task.cancelled() and (error := task.exception()) is not None:
            _log.error("attempt failed", request=f"{key[0]}/{key[1].hex()}", error=type(error).__name__)

    # --- one attempt --------------------------------------------------------------------------------------------------

    async def _attempt(self, row: Settling) -> None:
        try:
            concluded = row if row.state is SettlingState.CONCLUDED else await self._exchange(row)
            if concluded is not None:
                await self._answer(concluded)
        except StateConflictError:
            return  # somebody else did the step: the row says what came of it
        except Problem as problem:
            _log.warning("request postponed", request=str(row), reason=problem.type)
            await self._postpone(row)
        except Exception as error:  # whatever it is, the request must not be tried again without a pause
            _log.error("request postponed", request=str(row), error=type(error).__name__, alarm=True)
            await self._postpone(row)
        else:
            self._postponed.pop(row.number, None)

    async def _postpone(self, row: Settling) -> None:
        self._postponed[row.number] += 1
        current = await self._orders.look(self._store.find, row.order, row.rrpid)
        if current is not None and current.state is not SettlingState.ANSWERED:
            next_at = self._clock() + timedelta(seconds=self._wait(self._postponed[row.number]))
            await self._store.postpone(current, next_at)

    async def _exchange(self, row: Settling) -> Settling | None:
        """Ask the switch; the row as concluded, None if the outcome stays open."""
        prepared = await self._prepare(row)
        if isinstance(prepared, AuthCode):
            return await self._concluded(row, auth_code=int(prepared))
        connector, message, raw = prepared
        next_at = self._clock() + timedelta(seconds=self._settings.answer_timeout + self._wait(row.attempts + 1))
        row = await self._store.sending(row, message.mti, kept_fields(message), next_at, self._clock())
        self._checkpoint("settling-sent")
        if self._clock() >= row.changed_at + timedelta(seconds=self._settings.answer_timeout):
            return self._open(row, message, "it came too late to be sent")  # this gateway was stopped meanwhile
        try:
            answer = await connector.exchange(message, raw, self._settings.answer_timeout)
        except LinkDownError:
            if row.attempts > 1 or row.is_release:
                return None
            return await self._concluded(row, auth_code=self._codes.auth_code(RC_NOT_SENT), rc=RC_NOT_SENT)
        except NoAnswerError as error:
            return self._open(row, message, str(error))
        self._checkpoint("settling-answered")
        told = read_answer(self._codes, answer)
        if told.alarm:
            _log.error("response code needs attention", request=str(row), rc=told.rc, alarm=True)
        reversal = None if told.rc is None else self._codes.of(told.rc).reversal
        not_worked_on = (row.attempts > 1 or row.is_release) and reversal == "repeat"
        if not_worked_on or (told.outcome == "unknown" and not (row.is_release and reversal == "done")):
            return self._open(row, message, f"response code {told.rc}")
        return await self._concluded(
            row,
            auth_code=self._taken_back(told) if row.is_release else _final(told.auth_code),
            rc=told.told_rc,
            approval=told.approval,
            settle_date=told.settle_date,
        )

    def _taken_back(self, told: SwitchAnswer) -> int:
        """What became of a release: as of a reversal, but one whose hold the network does not know gave nothing."""
        done = told.rc is not None and self._codes.of(told.rc).reversal == "done" and told.rc != NOT_FOUND
        return int(AuthCode.APPROVED) if done else _final(told.auth_code)

    @staticmethod
    def _open(row: Settling, message: Message, reason: str) -> None:
        _log.warning("outcome open", request=str(row), mti=message.mti, reason=reason)
        if row.attempts % _MANY_ATTEMPTS == 0:
            _log.error("a request stays open", request=str(row), attempts=row.attempts, alarm=True)

    async def _prepare(self, row: Settling) -> tuple[Connector, Message, bytes] | AuthCode:
        """The message, its authenticated bytes, and whom to; or what the merchant is told, because the card is gone."""
        order = await self._orders.found(row.order)
        assert order is not None
        if order.pan_sealed is None:
            if row.state is SettlingState.SENT:
                raise Problem(409, "no-pan", "the order has no sealed PAN any more")
            is_capture = not row.is_release and isinstance(row.asked.body, CapReqTBS)
            return AuthCode.CAPTURE_NOT_SUPPORTED if is_capture else AuthCode.INVALID_TRANSACTION
        pan = await self._keys.unseal_pan(row.xid, order.pan_sealed)
        connector, message = self._routes.of(order.route), await self._message(row, order, pan)
        return connector, message, await connector.authenticate(message)

    async def _message(self, row: Settling, order: Order, pan: Pan) -> Message:
        now = self._clock()
        followed = None if row.is_release else await self._followed(row, order)
        if row.state is SettlingState.SENT:
            return repeated_message(row, order, followed, pan, now)
        merchant = self._merchants.find(row.merchant_id)
        assert merchant is not None
        return first_message(self._dialect, row, order, followed, merchant, pan, now)

    async def _followed(self, row: Settling, order: Order) -> Settling | None:
        """The capture or credit that a request follows; None if it follows the order's own answer."""
        h_answer, asked = row.asked.body.h_answer, await self._orders.look(self._store.of_order, order)
        return next((each for each in asked if each.h_answer == h_answer), None)

    async def _concluded(self, row: Settling, *, auth_code: int, **told: str | None) -> Settling | None:
        """What is to be answered; None of a release: there is nobody to answer."""
        if row.is_release:
            await self._releases.ended(row, self._clock(), auth_code=auth_code, rc=told.get("rc"))
            self._checkpoint("release-ended")
            _ended.labels("Release", AuthCode(auth_code).protocol_name).inc()
            return None
        concluded = await self._store.conclude(row, self._clock(), auth_code=auth_code, **told)
        self._checkpoint("settling-concluded")
        return concluded

    async def _answer(self, row: Settling) -> None:
        now = self._clock()
        if row.date is None or not -_FRESH < now - row.date < _FRESH:
            row = await self._store.date_again(row, now)
        assert row.date is not None
        _, standing = await self._orders.look(self._store.order_and_standing, row.order)
        assert standing is not None
        asked, code = row.asked, AuthCode(row.auth_code or AuthCode.APPROVED)
        approved = code is AuthCode.APPROVED
        draft = build_answer(
            CheckedSettlingRequest(asked.received, asked.content_type, standing),
            gateway=self._identity,
            auth_code=code,
            now=row.date,
            rc=row.rc,
            stan=row.stan if approved or row.attempts else None,
            rrn=row.rrn if approved or row.attempts else None,
            approval=row.approval,
            settle_date=row.settle_date,
        )
        message = await self._signer.message(draft)
        self._checkpoint("settling-signed")
        h_answer = sha256(unwrap(message, expected=(draft.content_type,)).body)
        await self._store.answered(row, draft.body, message, h_answer, self._clock())
        self._checkpoint("settling-stored")
        _ended.labels(type(asked.body).__name__, code.protocol_name).inc()

    def _wait(self, attempt: int) -> float:
        settings = self._settings
        return pause(attempt, first=settings.first_pause, longest=settings.longest_pause, rng=self._rng)


def _final(auth_code: int) -> int:
    """A certain decline is never told as noReply, which says that the outcome is open (response code 91)."""
    return int(AuthCode.SYSTEM_ERROR) if auth_code == AuthCode.NO_REPLY else auth_code
