"""OTPReq (row 11): a holder asks for a one-time password; the merchant passes the request on, the card's bank gives it.

    K1, K4, P2   structure, and for which certificate it is sealed      nothing used, nothing stored
    stored?      the same request before: the same answer, nobody is asked again
    P9           so many requests of a merchant in a minute: only then is a key used, for the signature lies inside
    P3, P4       opened and judged in the token; one refusal, whatever is wrong
    K5           the card is not revoked; P9 so many requests of one card
        asked ── durable: whom the bank is asked for, and the trace number
    0600, 0610   the bank counts, makes the password, and tells the holder; it knows a repeat by the request's hash
    OTPRes       signed, stored, given

The password itself never comes here. A gateway that falls between bank and answer asks the bank again when the request
comes again, and the holder gets no second message.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from datetime import datetime
from functools import partial
from typing import Final

from gateway.errors import LinkDownError, NoAnswerError, StateConflictError
from gateway.guarding.reception import receive
from gateway.merchants import Merchant, MerchantRegistry
from gateway.password_book import PasswordBook
from gateway.password_message import password_request, read_password_answer
from gateway.ports import Connector, OpenedPasswordRequest, OrderKeys, TrustSource
from gateway.refusals import Refusals
from gateway.routing import Routes
from gateway.signing import AnswerSigner
from kwbp.codes import ErrorCode
from kwbp.common import verify_path
from kwbp.errors import ProtocolError, SealedPasswordRequestError
from kwbp.gateway import GatewayIdentity
from kwbp.password import build_password_answer, receive_password_request
from kwbp.wrapper import KwbpMessage
from pki.der import sha256
from pki.names import common_name
from pki.oids import CT_OTP_REQ
from pki.roles import Role
from runtime.logging import get_logger
from runtime.minute_budget import MinuteBudget
from runtime.problems import Problem
from shetab.dialect import Dialect
from shetab.message import Message
from shetab.subfields import PasswordNotice

REQUESTS_A_MINUTE: Final = 300
"""Of one merchant; each costs the token an opening and a signature."""
REQUESTS_OF_A_CARD: Final = 5
"""In a minute; the bank has a count of its own, which outlives a restart."""

_SEALED_FAILURE: Final = "decoding-failure"

_log = get_logger("gateway.passwords")


class Passwords:
    """Answers OTPReq. What was answered is in the book; this object knows only the runs under way."""

    def __init__(
        self,
        identity: GatewayIdentity,
        *,
        answer_timeout: float,
        book: PasswordBook,
        merchants: MerchantRegistry,
        routes: Routes,
        keys: OrderKeys,
        signer: AnswerSigner,
        refusals: Refusals,
        trust: TrustSource,
        dialect: Dialect,
        clock: Callable[[], datetime],
        checkpoint: Callable[[str], None],
    ) -> None:
        """`answer_timeout`: seconds after which the bank has not answered."""
        self._identity = identity
        self._answer_timeout = answer_timeout
        self._book = book
        self._merchants = merchants
        self._routes = routes
        self._keys = keys
        self._signer = signer
        self._refusals = refusals
        self._trust = trust
        self._dialect = dialect
        self._clock = clock
        self._checkpoint = checkpoint
        self._of_a_merchant = MinuteBudget(REQUESTS_A_MINUTE, clock=clock)
        self._of_a_card = MinuteBudget(REQUESTS_OF_A_CARD, clock=clock)
        self._flights: dict[tuple[str, bytes], asyncio.Task[bytes]] = {}

    async def answer(self, tls_merchant_id: str, data: bytes) -> bytes:
        """OTPReq in `data` (DER KwbpMessage) to OTPRes or Error, from the merchant at the other end of the connection.

        :raises Problem: 503 while something that is needed is away: send the same again.
        """

        async def handle(message: KwbpMessage) -> bytes:
            receive_password_request(message, self._identity)
            merchant = self._merchants.find(tls_merchant_id)
            if merchant is None or not merchant.active:
                raise ProtocolError(ErrorCode.ROLE_NOT_ALLOWED, "P3", "merchant must be active here")
            return await self._once(merchant, data, sha256(message.body))

        return await receive(self._refusals, tls_merchant_id, data, (CT_OTP_REQ,), handle)

    async def drain(self) -> None:
        """Wait for the runs under way; each ends by its own deadlines."""
        await asyncio.gather(*self._flights.values(), return_exceptions=True)

    async def _once(self, merchant: Merchant, data: bytes, h_otp_req: bytes) -> bytes:
        key = (merchant.merchant_id, h_otp_req)
        task = self._flights.get(key)
        if task is None:
            task = asyncio.create_task(self._looked_up(merchant, data, h_otp_req))
            self._flights[key] = task
            task.add_done_callback(partial(self._landed, key))
        return await asyncio.shield(task)

    def _landed(self, key: tuple[str, bytes], task: asyncio.Task[bytes]) -> None:
        del self._flights[key]
        if not task.cancelled():
            task.exception()  # those who waited have it; nobody may be left to

    async def _looked_up(self, merchant: Merchant, data: bytes, h_otp_req: bytes) -> bytes:
        stored = await self._book.answer(merchant.merchant_id, h_otp_req)
        return await self._run(merchant, data) if stored is None else stored

    async def _run(self, merchant: Merchant, data: bytes) -> bytes:
        if not self._of_a_merchant.take(merchant.merchant_id):
            raise ProtocolError(ErrorCode.RATE_LIMITED, "P9", f"at most {REQUESTS_A_MINUTE} requests a minute")
        trust = await self._trust.trust(self._clock())  # first: while it cannot be had, no key is used
        opened = await self._open(merchant, data)
        now, asked = self._clock(), opened.asked
        verify_path(opened.card, opened.chain, role=Role.CARDHOLDER, trust=trust, now=now)
        if not self._of_a_card.take(common_name(opened.card.subject)):
            raise ProtocolError(ErrorCode.RATE_LIMITED, "P9", f"at most {REQUESTS_OF_A_CARD} a minute for one card")
        chosen = self._routes.choose(opened.pan)
        if chosen is None:
            raise Problem(503, "bank-unreachable", "no route leads to the card's bank", clause="K5")
        try:
            numbers = await self._book.ask(asked, self._identity.acquirer_bin, now, route=chosen)
        except StateConflictError:
            raise ProtocolError(ErrorCode.BAD_MESSAGE_HEADER, "K3", "RRPID was used by another message") from None
        self._checkpoint("password asked")
        request = password_request(
            self._dialect,
            asked,
            merchant,
            acquirer=self._identity.acquirer_bin,
            pan=opened.pan,
            expiry=opened.expiry,
            stan=numbers.stan,
            rrn=numbers.rrn,
            now=now,
        )
        notice = await self._ask(self._routes.of(numbers.route), request)
        self._checkpoint("password given")
        draft = build_password_answer(asked, sent_to=notice.sent_to, valid_until=notice.valid_until, now=self._clock())
        message = await self._signer.message(draft)
        told = await self._book.answered(asked, message)
        self._checkpoint("password told")
        return told

    async def _open(self, merchant: Merchant, data: bytes) -> OpenedPasswordRequest:
        try:
            return await self._keys.open_password_request(data, merchant.merchant_id)
        except Problem as problem:
            if problem.status >= 500 or problem.status == 429:
                _log.error("key service away", problem=problem.type)
                raise Problem(503, "key-service-away", "the gateway cannot open requests at the moment") from None
            if problem.type != _SEALED_FAILURE:
                _log.error("the key service does not share our judgement", problem=problem.type, clause=problem.clause)
            # Which of the reasons it was is in the key service's journal, and nowhere else.
            raise SealedPasswordRequestError(
                ErrorCode.DECODING_FAILURE, "P3", "the sealed request was refused"
            ) from None

    async def _ask(self, connector: Connector, request: Message) -> PasswordNotice:
        """The card's bank: what it told the holder, in terms that may be passed on."""
        raw = await connector.authenticate(request)
        try:
            answer = await connector.exchange(request, raw, self._answer_timeout)
        except (LinkDownError, NoAnswerError) as error:
            _log.warning("no answer about a password", reason=str(error))
            raise Problem(503, "bank-unreachable", "the card's bank does not answer; send the same again") from None
        return read_password_answer(answer)
