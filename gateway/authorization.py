"""One AuthReq from its bytes to its signed answer: G1 to G15, in this order (protocol.md).

    G1  structure            ┐ cheap, nothing stored: a refusal leaves the order book as it was
    G2  sender               │
    G3  seen before?         │ → the stored answer, byte for byte; or piPreviouslyUsed
    G4–G7  all signatures    ┘ public keys only
        RECEIVED ── durable: this request holds the XID
    G8–G10 open, in the token
    G11 limits
        VERIFIED ── durable: sealed PAN, STAN, RRN
        message built and MACed, so that what can fail has failed
    G12 SENT ── durable: from here on the order counts as sent, whatever happens
    G13 0200 → 0210 of a sale, 0100 → 0110 where the buyer agreed that the money is held and captured later
    G14 answer signed: in the request that verifies the MAC of the 0210, after it (`gateway.provisional`)
        APPROVED, DECLINED or UNKNOWN ── durable, with the answer
    G15 the card data go out of scope

Repeats never start a second run. While a request is being worked on, its repeats wait for the same run and get the same
bytes; afterwards they get the stored bytes. A run belongs to the order, not to the connection that asked: if the
merchant hangs up, it goes on.

A gateway killed before G12 has sent nothing: the repeat runs the order again from the start. Killed after G12, it
finds the order SENT at its next start and makes it UNKNOWN (`OrderStore.recover_own`), which is reversed.

Gateways that share a database keep to the same row: whoever received an order brings it to the switch, and the others
say 503 until there is an answer, or until that one is given up (`OrderStore.take_up`, `OrderStore.recover`).
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime, timedelta
from functools import partial
from typing import Final

from prometheus_client import Counter

from gateway.disclosures import Disclosures
from gateway.errors import CardKeyError, LimitExceededError, LinkDownError, NoAnswerError, StateConflictError
from gateway.guarding.reception import receive
from gateway.limits.guard import Limits
from gateway.merchants import Merchant, MerchantRegistry, enrolled
from gateway.order import Answer, NewOrder, Order, OrderKey, UnclaimedAnswer
from gateway.patience import Patience
from gateway.ports import Connector, OpenedOrder, OrderKeys, TrustSource
from gateway.provisional import Drafted, Provisional
from gateway.refusals import Refusals
from gateway.routing import Routes
from gateway.signing import AnswerSigner
from gateway.states import OrderState
from gateway.store import OrderStore
from gateway.translation import (
    HOLD,
    NO_ANSWER,
    SALE,
    SwitchAnswer,
    not_sent,
    order_request,
    read_answer,
    reversible_fields,
)
from kwbp.codes import AuthCode, ErrorCode
from kwbp.common import Draft, instant, verify_signer
from kwbp.errors import SealedContentError
from kwbp.gateway import (
    GatewayIdentity,
    ReceivedAuthReq,
    VerifiedAuthReq,
    build_auth_res,
    check_auth_req,
    check_sender,
    receive_auth_req,
)
from kwbp.messages import AuthResTBS
from kwbp.wrapper import KwbpMessage, wrap
from pki.oids import CT_AUTH_REQ
from pki.roles import Role
from runtime.logging import get_logger
from runtime.problems import Problem
from shetab.dialect import Dialect
from shetab.message import Message
from shetab.response_codes import ResponseCodes

_SEALED_FAILURE: Final = "decoding-failure"
_OUTCOMES: Final = {
    "approved": OrderState.APPROVED,
    "declined": OrderState.DECLINED,
    "unknown": OrderState.UNKNOWN,
}
_TOGETHER: Final = 1 / 3
"""The part of T1 that is waited at most for the MAC and the signature in one request: see `gateway.provisional`."""
RC_LIMIT: Final = "61"
"""DE 39 "exceeds amount limit", given by the gateway itself."""
RC_NO_ROUTE: Final = "92"
"""DE 39 "no route to the issuer", given by the gateway itself: the routes name no connector for the card."""
RC_NOT_SENT: Final = "96"
"""DE 39 "system malfunction", given by the gateway itself: there is no line, nothing was sent."""

_limited: Final = Counter("kwbp_gateway_limited_total", "Orders that a rule of limits refused", ["rule"])
_concluded: Final = Counter("kwbp_gateway_orders_total", "Orders that got their answer", ["state"])
_log = get_logger("gateway.authorization")


@dataclass(frozen=True, slots=True)
class AuthorizationSettings:
    """Clocks of an order, in seconds."""

    answer_timeout: float
    """T1: no 0210 after this long is outcome unknown."""
    ack_timeout: float
    """T_ack: no AuthAck after this long reverses an approval."""


@dataclass(frozen=True, slots=True)
class _Flight:
    digest: bytes
    task: asyncio.Task[bytes]


class Authorization:
    """Answers AuthReq. All state is in the order book; this object knows only the runs under way."""

    def __init__(
        self,
        settings: AuthorizationSettings,
        identity: GatewayIdentity,
        *,
        store: OrderStore,
        patience: Patience,
        disclosures: Disclosures,
        limits: Limits,
        merchants: MerchantRegistry,
        routes: Routes,
        keys: OrderKeys,
        signer: AnswerSigner,
        refusals: Refusals,
        trust: TrustSource,
        dialect: Dialect,
        codes: ResponseCodes,
        clock: Callable[[], datetime],
        checkpoint: Callable[[str], None],
        on_unknown: Callable[[], None],
    ) -> None:
        self._settings = settings
        self._identity = identity
        self._store = store
        self._patience = patience
        self._disclosures = disclosures
        self._limits = limits
        self._merchants = merchants
        self._routes = routes
        self._keys = keys
        self._signer = signer
        self._refusals = refusals
        self._trust = trust
        self._dialect = dialect
        self._codes = codes
        self._clock = clock
        self._checkpoint = checkpoint
        self._on_unknown = on_unknown
        self._flights: dict[OrderKey, _Flight] = {}

    async def answer(self, tls_merchant_id: str, data: bytes) -> bytes:
        """The answer to `data` (DER KwbpMessage) from the merchant at the other end of the TLS connection.

        :returns: DER KwbpMessage with AuthRes or Error.
        :raises Problem: 503 while something that is needed is away: send the same again.
        """

        async def handle(message: KwbpMessage) -> bytes:
            received = receive_auth_req(message)  # G1
            merchant = self._merchants.find(received.merchant_id)
            check_sender(received, enrolled(merchant), tls_merchant_id=tls_merchant_id)  # G2
            assert merchant is not None
            return await self._once(received, merchant)  # G3

        return await receive(self._refusals, tls_merchant_id, data, (CT_AUTH_REQ,), handle)

    async def drain(self) -> None:
        """Wait for the runs under way; each ends by its own deadlines."""
        await asyncio.gather(*(flight.task for flight in self._flights.values()), return_exceptions=True)

    # --- G3: once -----------------------------------------------------------------------------------------------------

    async def _once(self, received: ReceivedAuthReq, merchant: Merchant) -> bytes:
        key = OrderKey(received.merchant_id, received.xid)
        while (flight := self._flights.get(key)) is not None:
            if flight.digest == received.digest:
                return await asyncio.shield(flight.task)
            # Another request for the XID is being judged. If it is refused, it was as if it had never come.
            await asyncio.wait({flight.task})
        # No await between the look into _flights and the entry: two requests cannot both find nothing.
        task = asyncio.create_task(self._looked_up(key, received, merchant))
        self._flights[key] = _Flight(received.digest, task)
        task.add_done_callback(partial(self._landed, key))
        return await asyncio.shield(task)

    def _landed(self, key: OrderKey, task: asyncio.Task[bytes]) -> None:
        del self._flights[key]
        if not task.cancelled():
            task.exception()  # those who waited have it; nobody may be left to

    async def _looked_up(self, key: OrderKey, received: ReceivedAuthReq, merchant: Merchant) -> bytes:
        order = await self._store.found(key)
        if order is not None and order.request_digest != received.digest:
            return await self._previously_used(received)
        if order is not None and order.answer is not None:
            return order.answer
        return await self._run(received, merchant, order)

    async def _previously_used(self, received: ReceivedAuthReq) -> bytes:
        # The gateway's key signs for nobody whose own signature does not hold (G4). G5 to G7 wait: whatever else is
        # wrong with this request, what its merchant must learn is that the order was placed before.
        now = self._clock()
        verify_signer(
            received.request,
            role=Role.MERCHANT,
            trust=await self._trust.trust(now),
            now=now,
            path_check="G4",
            signature_check="G4",
        )
        return await self._signer.message(self._auth_res(received, AuthCode.PI_PREVIOUSLY_USED))

    # --- one run ------------------------------------------------------------------------------------------------------

    async def _run(self, received: ReceivedAuthReq, merchant: Merchant, order: Order | None) -> bytes:
        if order is not None and order.state not in (OrderState.RECEIVED, OrderState.VERIFIED):
            if order.state is OrderState.SENT and order.runner != self._store.replica:
                raise _elsewhere()  # its outcome is that gateway's to tell, or `OrderStore.recover`'s
            return await self._answer_from_book(received, order)
        now = self._clock()
        trust = await self._trust.trust(now)
        verified = check_auth_req(received, gateway=self._identity, trust=trust, now=now)  # G4 to G7
        await self._disclosures.keep(trust, self._identity.certificate, now)
        try:
            if order is None:
                order = await self._store.receive(_new_order(received), now)
            else:
                order = await self._store.take_up(order.key, now)
        except StateConflictError:
            raise _elsewhere() from None
        self._checkpoint("received")
        try:
            return await self._collect(verified, merchant, order)
        except SealedContentError as error:
            return await self._refuse_sealed(error, verified, order.key)

    async def _open(self, verified: VerifiedAuthReq) -> OpenedOrder:
        request = verified.auth_req
        try:
            return await self._keys.open_order(request.pi_envelope, request.dual_sig, verified.hod)
        except Problem as problem:
            if problem.status >= 500 or problem.status in (404, 429):  # 404: a key that no ceremony has made yet
                _log.error("key service away", problem=problem.type)
                raise Problem(503, "key-service-away", "the gateway cannot open orders at the moment") from None
            if problem.type != _SEALED_FAILURE:
                _log.error("the key service does not share our judgement", problem=problem.type, clause=problem.clause)
            # Which of the reasons it was is in the key service's journal, and nowhere else.
            raise SealedContentError(ErrorCode.DECODING_FAILURE, "G8", "the sealed order was refused") from None

    async def _check_card_key(self, card: OpenedOrder, now: datetime) -> None:
        """An order whose card would be taken for another one is not collected; nothing was sent, it may come again."""
        known = self._limits.card_key
        if known.knows(card, now):
            return
        try:
            await self._store.writer.run(known.look(card, now))
        except CardKeyError as error:
            _log.error("cards cannot be told apart", reason=str(error), alarm=True)
            raise Problem(503, "key-service-away", "the gateway cannot open orders at the moment") from None
        known.found(card, now)

    def _check_zone(self, card: OpenedOrder, order: Order) -> None:
        """The key service sealed the PIN for another connector than ours: it is not told a third party."""
        if order.route is not None and self._routes.zone_of(order.route) != card.zone:
            _log.error("the key service has other routes", route=order.route, zone=card.zone, alarm=True)
            raise Problem(503, "key-service-away", "the gateway cannot open orders at the moment")

    async def _refuse_sealed(self, error: SealedContentError, verified: VerifiedAuthReq, key: OrderKey) -> bytes:
        """The XID is used up: every repeat gets this refusal, and the envelope is not tried again."""
        signed, rrpid = verified.received.request.signed.der, verified.auth_req.rrpid
        data = wrap(CT_AUTH_REQ, signed, rrpid=rrpid, xid=key.xid)  # DER has one form: this is what came
        message = await self._refusals.final(error, f"merchant:{key.merchant_id}", data, key.xid)
        await self._store.refuse(key, Answer(message), self._clock())
        _concluded.labels(OrderState.DECLINED).inc()
        return message

    async def _collect(self, verified: VerifiedAuthReq, merchant: Merchant, order: Order) -> bytes:
        card = await self._open(verified)  # G8 to G10
        now = self._clock()
        await self._check_card_key(card, now)
        order = await self._store.verify(
            order.key,
            acquirer=self._identity.acquirer_bin,
            pan_sealed=card.pan_sealed,
            masked_pan=card.masked_pan,
            now=now,
            route=self._routes.choose(card.pan),
            card_id=card.card_id,
        )
        self._check_zone(card, order)
        self._checkpoint("verified")
        if merchant.order_limit is not None and order.amount > merchant.order_limit:  # G11
            return await self._decline(verified, order, RC_LIMIT)
        if order.route is None:
            return await self._decline(verified, order, RC_NO_ROUTE)
        connector = self._routes.of(order.route)
        if not connector.signed_on:
            return await self._decline(verified, order, RC_NOT_SENT)
        mti = SALE if verified.auth_req.capture_now else HOLD
        request = order_request(self._dialect, order, merchant, card, now, mti=mti)
        try:
            claims = self._limits.claims(order, merchant, card.pan, now)  # G11
            del card
            raw = await connector.authenticate(request)
            fields = reversible_fields(self._dialect, request)
            order = await self._store.sent(order.key, fields, now, claims=claims)  # G12
        except LimitExceededError as error:
            return await self._decline(verified, order, error.rc, rule=error.rule)
        self._checkpoint("sent")
        concluded, message = await self._ask(verified, order, connector, request, raw)  # G13
        del request, raw  # G15: the last references to PIN block, CVV2 and expiry in this process
        self._checkpoint("answered")
        return await self._conclude(verified, order, concluded, message)

    async def _ask(
        self, verified: VerifiedAuthReq, order: Order, connector: Connector, request: Message, raw: bytes
    ) -> tuple[Drafted, bytes | None]:
        """What the switch says, or what its silence means; with the signed answer to the merchant where there is one.

        A gateway that was stopped since it wrote SENT may be given up by now, and its order reversed: a request that
        is so late is not sent any more. What cannot be excluded, that it is stopped right here, `_too_late` makes good.
        """
        if self._clock() >= order.changed_at + timedelta(seconds=self._settings.answer_timeout):
            _log.error("a request came too late to be sent", order=str(order.key), alarm=True)
            return self._drafted(verified, order, not_sent(self._codes, RC_NOT_SENT)), None
        provisional = Provisional(
            lambda answer: self._drafted(verified, order, read_answer(self._codes, answer)),
            partial(self._sign_if_authentic, self._routes.zone_of(connector.name)),
            self._settings.answer_timeout * _TOGETHER,
        )
        try:
            answer = await connector.exchange(request, raw, self._settings.answer_timeout, provisional.judge)
        except LinkDownError:
            return self._drafted(verified, order, not_sent(self._codes, RC_NOT_SENT)), None
        except NoAnswerError as error:
            _log.warning("outcome unknown", order=str(order.key), reason=str(error))
            return self._drafted(verified, order, NO_ANSWER), None
        signed = provisional.signed(answer)
        return signed or (self._drafted(verified, order, read_answer(self._codes, answer)), None)

    async def _sign_if_authentic(self, zone: str, draft: Draft[AuthResTBS], data: bytes, mac: bytes) -> bytes | None:
        async def sign(key: str, content: bytes) -> bytes | None:
            return await self._keys.sign_answer(data, mac, key=key, content=content, zone=zone)

        return await self._signer.message_if(draft, sign)

    # --- G14: answers -------------------------------------------------------------------------------------------------

    async def _decline(self, verified: VerifiedAuthReq, order: Order, rc: str, *, rule: str | None = None) -> bytes:
        """Refused by the gateway itself, nothing sent; `rule`: by this rule of limits."""
        if rule is not None:
            _limited.labels(rule).inc()
            _log.warning("refused by a limit", order=str(order.key), rule=rule, rc=rc)
        code = AuthCode(self._codes.auth_code(rc))
        message = await self._signer.message(
            self._auth_res(verified.received, code, rc=rc, masked_pan=order.masked_pan)
        )
        await self._store.refuse(order.key, Answer(message, int(code)), self._clock(), rc=rc, rule=rule)
        _concluded.labels(OrderState.DECLINED).inc()
        return message

    def _drafted(self, verified: VerifiedAuthReq, order: Order, answer: SwitchAnswer) -> Drafted:
        """What the merchant is to be told of what the network said. It decides nothing, and nothing is kept of it."""
        now = self._clock()
        ack_by = _whole_second(now + timedelta(seconds=self._settings.ack_timeout))
        promise = self._patience.promise(asked=instant(verified.auth_req.date), ack_by=ack_by)
        draft = build_auth_res(
            verified,
            gateway=self._identity,
            auth_code=AuthCode(answer.auth_code),
            now=now,
            ack_by=ack_by,
            rc=answer.told_rc,
            stan=order.stan,
            rrn=order.rrn,
            approval=answer.approval,
            masked_pan=order.masked_pan,
            settle_date=answer.settle_date,
        )
        return Drafted(answer, now, ack_by, promise, draft)

    async def _conclude(
        self, verified: VerifiedAuthReq, order: Order, drafted: Drafted, message: bytes | None
    ) -> bytes:
        """Sign what the network said unless it is signed, store it with the outcome, return it."""
        answer, now, ack_by = drafted.answer, drafted.now, drafted.ack_by
        outcome, code = _OUTCOMES[answer.outcome], AuthCode(answer.auth_code)
        if answer.alarm:
            _log.error("response code needs attention", order=str(order.key), rc=answer.rc, alarm=True)
        if message is None:
            try:
                message = await self._signer.message(drafted.draft)
            except Exception as error:  # whatever keeps us from signing: an approval nobody can prove is given back
                _log.error("answer could not be signed", order=str(order.key), error=type(error).__name__)
                if outcome is OrderState.APPROVED:
                    outcome = OrderState.UNKNOWN
        self._checkpoint("signed")
        try:
            order = await self._store.conclude(
                order.key,
                outcome,
                now,
                left=answer.left,
                approved=answer.outcome == "approved",
                rc=answer.rc,
                approval=answer.approval,
                settle_date=answer.settle_date,
                ack_by=ack_by if outcome is OrderState.APPROVED else None,
                promise=drafted.promise if outcome is OrderState.APPROVED else None,
                answer=Answer(message, int(code)) if message is not None else None,
            )
        except StateConflictError:
            # The clock of lost runs was faster: the order is UNKNOWN already, and that is what the merchant is told.
            await self._too_late(order, answer)
            return await self._answer_from_book(verified.received, await self._current(order.key))
        self._checkpoint("stored")
        _concluded.labels(outcome).inc()
        if outcome is OrderState.UNKNOWN:
            self._on_unknown()
        if message is None:
            raise Problem(503, "key-service-away", "the gateway cannot sign at the moment; send the same message again")
        return message

    async def _answer_from_book(self, received: ReceivedAuthReq, order: Order) -> bytes:
        """The answer to a repeat of an order that was concluded without one: by a restart, or with no signer there."""
        if order.answer is not None:
            return order.answer
        if order.state is OrderState.DECLINED:
            code = AuthCode(self._codes.auth_code(order.rc or RC_NOT_SENT))
        else:
            code = AuthCode.NO_REPLY
        rc = order.rc if order.state is OrderState.DECLINED else None
        draft = self._auth_res(received, code, rc=rc, stan=order.stan, rrn=order.rrn, masked_pan=order.masked_pan)
        message = await self._signer.message(draft)
        try:
            await self._store.answered(order.key, Answer(message, int(code)), state=order.state)
        except StateConflictError:
            # Moved on meanwhile (UNKNOWN becomes REV_QUEUED within moments): look again.
            return await self._answer_from_book(received, await self._current(order.key))
        return message

    async def _too_late(self, order: Order, answer: SwitchAnswer) -> None:
        """An approval that counts no more is filed as late: it is given back, if that has not been done yet."""
        if answer.outcome != "approved":
            return
        late = UnclaimedAnswer(
            mti=self._dialect.response_mti(order.mti),
            acquirer=order.acquirer,
            stan=order.stan,
            rrn=order.rrn,
            terminal_id=order.terminal_id,
            rc=answer.rc,
            approval=answer.approval,
            approved=True,
        )
        await self._store.file_unclaimed(late, self._clock())
        self._on_unknown()

    async def _current(self, key: OrderKey) -> Order:
        order = await self._store.found(key)
        assert order is not None
        return order

    def _auth_res(
        self,
        received: ReceivedAuthReq,
        code: AuthCode,
        *,
        rc: str | None = None,
        stan: str | None = None,
        rrn: str | None = None,
        masked_pan: str | None = None,
    ) -> Draft[AuthResTBS]:
        """An AuthRes that approves nothing; there is nothing to acknowledge, so `ackBy` is its own date."""
        now = self._clock()
        return build_auth_res(
            received,
            gateway=self._identity,
            auth_code=code,
            now=now,
            ack_by=now,
            rc=rc,
            stan=stan,
            rrn=rrn,
            masked_pan=masked_pan,
        )


def _elsewhere() -> Problem:
    """Another gateway of this database is about to answer."""
    return Problem(
        503,
        "order-in-progress",
        "the order is being worked on; send the same message again",
        headers={"retry-after": "1"},
    )


def _new_order(received: ReceivedAuthReq) -> NewOrder:
    request = received.request.body
    return NewOrder(
        key=OrderKey(request.merchant_id, request.xid),
        request_digest=received.digest,
        rrpid=request.rrpid,
        terminal_id=request.terminal_id,
        amount=request.amount.amount,
        invoice=request.invoice,
        dual_signature=request.dual_sig,
    )


def _whole_second(moment: datetime) -> datetime:
    """As AuthRes carries it: what is stored must be what was signed."""
    return moment.replace(microsecond=0)
