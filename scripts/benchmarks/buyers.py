"""Buyers who buy one thing after the other, many at a time: the wallet's part of a payment, over asynchronous HTTP.

Every message is built and judged by `kwbp.wallet`, as in the wallet; only the buyer's own file of purchases is left
out, because buyers do not share a machine with the bank.
"""

from __future__ import annotations

import asyncio
import os
import random
import time
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, Final

import httpx
from cryptography import x509

from ca.status_client import AsyncStatusCache
from kwbp import wallet
from kwbp.common import Draft
from kwbp.error_message import read_error
from kwbp.wrapper import MEDIA_TYPE, KwbpMessage, unwrap
from pki import cms_signed
from pki.oids import CT_ERROR, CT_RECEIPT, MT_INVOICE
from pki.path import Trust
from pki.roles import Role
from scripts.benchmarks.report import BenchmarkFailed
from shetab.types import Cvv2, Pin
from storefront.wallet.purchase import BRAND
from storefront.wallet.wallet import CardCredential

_BASKET: Final = (("golestan", 1),)


@dataclass(frozen=True, slots=True, repr=False)
class Buyer:
    """A card and what its holder types. Has no repr."""

    card: CardCredential
    pin2: Pin
    cvv2: Cvv2


@dataclass(frozen=True, slots=True)
class Payment:
    """A payment that ended PAID: when it ended (seconds, monotonic), how long it took, how many rial."""

    ended: float
    seconds: float
    amount: int


class Market:
    """Buyers at one shop."""

    def __init__(self, buyers: Sequence[Buyer], shop: httpx.AsyncClient, *, origin: str, status: AsyncStatusCache):
        self._buyers = buyers
        self._shop = shop
        self._origin = origin
        self._status = status

    async def trade(self, seconds: float, concurrency: int) -> list[Payment]:
        """`concurrency` buyers buy without pause for `seconds`; what is under way then is finished.

        Raises BenchmarkFailed for a payment that is not PAID, ProtocolError for an answer that is not as it must be.
        """
        end = time.perf_counter() + seconds
        payments: list[Payment] = []

        async def shopper(number: int) -> None:
            buyer = self._buyers[number % len(self._buyers)]
            while (begun := time.perf_counter()) < end:
                amount = await self._buy(buyer)
                ended = time.perf_counter()
                payments.append(Payment(ended, ended - begun, amount))

        await asyncio.gather(*(shopper(number) for number in range(concurrency)))
        return payments

    async def offer(self, rate: float, seconds: float, fewest: int, rng: random.Random) -> list[Payment]:
        """Buyers who come by themselves, `rate` a second on average, whether those before them are done or not.

        They come for `seconds`, and on after that until `fewest` have come.
        How long a payment takes counts from when its buyer came. Raises as `trade`.
        """
        begun, due = time.perf_counter(), 0.0
        under_way: list[asyncio.Task[Payment]] = []

        async def shopper(buyer: Buyer, came: float) -> Payment:
            amount = await self._buy(buyer)
            ended = time.perf_counter()
            return Payment(ended, ended - came, amount)

        async with asyncio.TaskGroup() as visits:
            while (due := due + rng.expovariate(rate)) < seconds or len(under_way) < fewest:
                await asyncio.sleep(max(0.0, begun + due - time.perf_counter()))
                buyer = self._buyers[len(under_way) % len(self._buyers)]
                under_way.append(visits.create_task(shopper(buyer, begun + due)))
        return [visit.result() for visit in under_way]

    async def _buy(self, buyer: Buyer) -> int:
        checked = await self._invoice(buyer)
        order = wallet.build_purchase(
            checked, buyer.card.in_hand(buyer.pin2, buyer.cvv2), rrpid=os.urandom(20), now=_now(), rng=os.urandom
        )
        signed = _sign(buyer, order.dual_signature)
        message, trust, now = await self._ask("/kwbp/purchase", order.message(signed), CT_RECEIPT)
        receipt = wallet.check_receipt(message, purchase=order.record(signed), trust=trust, now=now)
        if not receipt.paid:
            raise BenchmarkFailed(f"a payment ended with {receipt.auth_res.auth_code.protocol_name}")
        return receipt.auth_res.amount.amount

    async def _invoice(self, buyer: Buyer) -> wallet.CheckedInvoice:
        draft = wallet.build_invoice_request(
            rrpid=os.urandom(20),
            chall_c=os.urandom(32),
            brand_id=BRAND,
            bin_=buyer.card.bin,
            basket=_BASKET,
            now=_now(),
            language="fa",
        )
        message, trust, now = await self._ask("/kwbp/invoice-request", draft.message(_sign(buyer, draft)), MT_INVOICE)
        return wallet.check_invoice(message, request=draft.body, origin=self._origin, trust=trust, now=now)

    async def _ask(
        self, path: str, sent: bytes, expected: x509.ObjectIdentifier
    ) -> tuple[KwbpMessage, Trust, datetime]:
        response = await self._shop.post(path, content=sent, headers={"content-type": MEDIA_TYPE})
        if response.headers.get("content-type") != MEDIA_TYPE:
            raise BenchmarkFailed(f"{path} answered {response.status_code} and no KWBP message")
        now = _now()
        trust = await self._status.trust(now)
        message = unwrap(response.content, expected=(expected, CT_ERROR))
        if message.msg_type == CT_ERROR:
            error = read_error(message, sent=sent, role=Role.MERCHANT, trust=trust, now=now).body
            raise BenchmarkFailed(f"{path} was refused: {error.error_code.protocol_name}, check {error.clause}")
        return message, trust, now


def _sign(buyer: Buyer, draft: Draft[Any]) -> bytes:
    card = buyer.card
    return cms_signed.sign(
        draft.content_type,
        draft.content,
        key=card.key,
        signer=card.certificate,
        chain=card.chain,
        signing_time=_now(),
    )


def _now() -> datetime:
    return datetime.now(UTC)
