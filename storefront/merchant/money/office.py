"""What the merchant's people may ask for after the authorisation: the one way in, whoever brings the wish.

A wish has a name of its maker's. Said twice under one name it is done once, whatever happened in between; the name
stays with it for ever.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from datetime import date, datetime
from typing import Any, Final

from kwbp.codes import BatchOperation
from kwbp.common import Draft
from kwbp.parties import MerchantIdentity
from kwbp.settling import Batch, Followed, Standing, build_batch_request, totals_of
from pki.oids import CT_CAP_REQ, CT_CRED_REQ
from runtime.language import Message
from storefront.errors import MoneyRefused
from storefront.merchant.documents import Document
from storefront.merchant.money import batches
from storefront.merchant.money.advices import AdviceReport, Advices
from storefront.merchant.money.batches import BatchView
from storefront.merchant.money.book import MoneyBook, NewRequest, Request, same_wish, still_open
from storefront.merchant.money.sending import Sender
from storefront.merchant.money.wishes import NAME, Wish, build, followed_answer
from storefront.merchant.named_gateway import NamedGateway
from storefront.merchant.resources import Resources

_PATIENCE: Final = 20.0  # seconds for which a person is kept waiting for an outcome; the request itself goes on


class MoneyOffice:
    """One merchant's. `start` and `stop` it in the event loop that serves the shop."""

    def __init__(
        self, merchant: MerchantIdentity, gateway: NamedGateway, resources: Resources, *, patience: float = _PATIENCE
    ) -> None:
        self._merchant = merchant
        self._named = gateway
        self._signer = resources.signer
        self._trust = resources.trust
        self._clock = resources.clock
        self._rng = resources.rng
        self._checkpoint = resources.checkpoint
        self._patience = patience
        self.book = MoneyBook(resources.store)
        self._sender = Sender(self.book, resources)
        self._advices = Advices(merchant, self.book, gateway, resources)
        self._deciding = asyncio.Lock()

    def start(self) -> None:
        """Take up every request that was left open."""
        self._sender.start()

    async def stop(self) -> None:
        """Stop sending; the next `start` takes up what is open."""
        await self._sender.stop()

    def word(self, request: Request) -> str | None:
        """Why an open request is still open, as far as this process knows."""
        return self._sender.word(request)

    async def ask(self, xid: bytes, wish: Wish, name: str) -> Request:
        """Capture, take back, cancel or refund: the request that the wish became, with its outcome if there is one yet.

        :param name: of the wish; the same name with the same wish is the same request.
        :raises MoneyRefused: it cannot be; nothing was signed.
        """

        def draft() -> Draft[Any]:
            standing = self._standing(xid)
            if standing.open_rrpid is not None:
                raise still_open()
            followed = self._followed(standing, followed_answer(wish, standing))
            return build(wish, standing, followed, rrpid=self._rng(20), now=self._clock())

        return await self._once(name, wish.asked(xid), draft)

    async def batch(self, operation: BatchOperation, name: str) -> Request:
        """Open the next batch, close the open one, or ask the gateway how the newest stands.

        :raises MoneyRefused: another batch is in turn (L3). :raises ProtocolError: no gateway can be named.
        """
        known = self._known(name, operation.name)
        if known is not None:
            return await self._sender.outcome(known, patience=self._patience)
        now = self._clock()
        gateway = (await self._named.current(await self._trust.trust(now), now)).identity
        whole = batches.whole_until(self.book, now)
        await self.book.book_sales()

        def draft() -> Draft[Any]:
            newest = self.book.newest_batch()
            until = totals = None
            if operation is BatchOperation.OPEN:
                number = batches.to_open(newest)
            elif operation is BatchOperation.CLOSE:
                open_one = batches.to_close(newest)
                number, until = open_one.batch_id, self._counted(open_one, whole)
                totals = self.view(open_one.begins, until).totals
            else:
                newest = newest or batches.to_close(newest)
                number, until = newest.batch_id, newest.until or self._counted(newest, whole)
            return build_batch_request(
                operation,
                number,
                merchant=self._merchant,
                gw_id=gateway.gateway_id,
                rrpid=self._rng(20),
                now=now,
                until=until,
                totals=totals,
            )

        return await self._once(name, operation.name, draft)

    def view(self, begins: datetime | None, until: datetime) -> BatchView:
        """What the own book has of an interval."""
        return BatchView(until, totals_of(self.book.entries(begins, until)))

    async def advice(self, day: date) -> AdviceReport:
        """The acquirer's advice of a business day in Iran, compared with the own book (`Advices.report`)."""
        return await self._advices.report(day)

    # --- one wish, one request ----------------------------------------------------------------------------------------

    async def _once(self, name: str, asked: str, draft: Callable[[], Draft[Any]]) -> Request:
        """Sign and keep the request of a wish, unless it is kept already; send it until its outcome is known."""
        async with self._deciding:  # nobody decides by a book that somebody else is about to change
            request = self._known(name, asked)
            new = request is None
            if request is None:
                wanted = draft()
                signed = await self._signer.sign(wanted.content_type, wanted.content)
                request = await self.book.take_in(
                    NewRequest(name, asked, wanted.rrpid, wanted.content_type, wanted.xid, signed), now=self._clock()
                )
        self._checkpoint("money kept")
        return await self._sender.outcome(request, patience=self._patience, new=new)

    def _known(self, name: str, asked: str) -> Request | None:
        if NAME.fullmatch(name) is None:
            raise MoneyRefused(Message("a wish has a name of letters, digits and . _ : / -, at most 80"))
        known = self.book.by_wish(name)
        return None if known is None else same_wish(known, asked)

    def _standing(self, xid: bytes) -> Standing:
        standing = self.book.standing(xid)
        if standing is None:
            raise MoneyRefused(
                Message(
                    "nothing was paid with this order, or its outcome is not known yet: see {command}",
                    command="'kwbp merchant orders'",
                ),
                clause="H6",
            )
        return standing

    def _followed(self, standing: Standing, h_answer: bytes) -> Followed:
        """The gateway's answer of this hash, which a request may follow."""
        if h_answer == standing.h_auth_res:
            return Followed.authorisation(self.book.orders.required(standing.xid, Document.AUTH_RES))
        approved = self.book.by_answer(h_answer)
        assert approved is not None  # the standing was read out of these answers
        assert approved.answer is not None
        assert approved.content_type in (CT_CAP_REQ, CT_CRED_REQ)
        kind = Followed.capture if approved.content_type == CT_CAP_REQ else Followed.credit
        return kind(approved.answer)

    # --- batches ------------------------------------------------------------------------------------------------------

    def _counted(self, batch: Batch, whole: datetime) -> datetime:
        """Up to when an open batch is counted: not before it began."""
        return whole if batch.begins is None else max(whole, batch.begins)
