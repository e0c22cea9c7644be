"""Buyers and merchants' people at work on a system that is being disturbed. They do what people do: try again.

Wallets buy at shops with their own code (`storefront.wallet`); what stays open is asked about later, and at the end
until it is closed. Some merchants are spoken for here, because no shop of ours would do it: they give approvals back,
or never acknowledge them.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from contextlib import ExitStack, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

import httpx

from kwbp.codes import ErrorCode
from kwbp.errors import ProtocolError
from kwbp.wrapper import unwrap
from pki.oids import CT_AUTH_RES, CT_ERROR
from runtime.client import http_client
from runtime.problems import Problem
from storefront.errors import StorefrontError
from storefront.wallet.purchase import Buyer, PurchaseState, RefusedByShop, purchases
from storefront.wallet.records import PurchaseFolder
from tests.faults.payments.books import AtMerchant
from tests.faults.payments.plans import Manner, Plan
from tests.faults.payments.system import System
from tests.support.payment_parties import Purchase, Shop, auth_res_of, error_of
from tests.support.shop_front import Customer, Front

WORKERS: Final = 4
_PAUSE: Final = 0.25  # seconds between two tries
_TRIES: Final = 40
_OPEN: Final = frozenset({PurchaseState.SIGNED, PurchaseState.PENDING})
_TROUBLE: Final = (ProtocolError, RefusedByShop, StorefrontError, Problem, httpx.HTTPError, AssertionError, OSError)
"""What people may meet while things are broken; what is not among it is a fault of ours and ends the run."""


@dataclass
class Placed:
    """An order of a merchant that is spoken for."""

    plan: Plan
    purchase: Purchase
    shop: Shop
    answer: bytes | None = None
    done: bool = False
    said: str = "sent"

    @property
    def view(self) -> AtMerchant:
        """Its book, which is this object: it never ships anything."""
        told = None if self.answer is None else int(auth_res_of(self.answer).auth_code)
        return AtMerchant(self.said, self.purchase.amount, closed=self.done, paid=False, told=told)


@dataclass
class Crowd:
    """All of them. `run` does the purchases, `settle` one round of asking about what is open."""

    system: System
    plans: list[Plan]
    customers: list[Customer]
    on_begin: Callable[[int], None]
    placed: list[Placed] = field(default_factory=list)
    given_up: list[int] = field(default_factory=list)
    failures: list[BaseException] = field(default_factory=list)
    _begun: int = 0
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def folder(self, buyer: int) -> Path:
        """Where a buyer's wallet keeps its purchases."""
        return self.system.folder / f"wallet-{buyer}"

    def run(self) -> None:
        """Every purchase, several buyers at once; returns when all were tried. Raises what nobody foresaw."""
        lines = [[plan for plan in self.plans if plan.buyer % WORKERS == number] for number in range(WORKERS)]
        threads = [threading.Thread(target=self._work, args=(line,), daemon=True) for line in lines]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        if self.failures:
            raise self.failures[0]

    def settle(self) -> int:
        """Ask once about everything that is open; how much of it still is."""
        left = 0
        with _Sessions(self) as sessions:
            for number in range(len(self.customers)):
                for outcome in purchases(self.folder(number)):
                    if outcome.state in _OPEN:
                        left += not sessions.resume(number, outcome.xid)
        for each in self.placed:
            if not each.done:
                self._speak(each)
                left += not each.done
        return left

    # --- one worker ---------------------------------------------------------------------------------------------------

    def _work(self, plans: list[Plan]) -> None:
        try:
            with _Sessions(self) as sessions:
                for plan in plans:
                    with self._lock:
                        self._begun += 1
                        begun = self._begun
                    self.on_begin(begun)
                    if plan.manner in (Manner.SALE, Manner.HOLD):
                        self._buy(sessions, plan)
                    else:
                        self._place(plan)
        except BaseException as error:  # told to whoever started the run
            self.failures.append(error)

    def _buy(self, sessions: _Sessions, plan: Plan) -> None:
        buyer, customer = sessions.buyer(plan.buyer, plan.shop), self.customers[plan.buyer]
        hold = plan.manner is Manner.HOLD
        for _ in range(_TRIES):
            try:
                checked = buyer.request_invoice(plan.basket)
                break
            except _TROUBLE:
                time.sleep(_PAUSE)
        else:
            self.given_up.append(plan.number)
            return
        xid, amount = checked.invoice.xid, checked.invoice.amount.amount
        try:
            outcome = buyer.order(checked, hold=hold, **customer.typed)
        except _TROUBLE:
            return  # written down, so it is asked about at the end
        if outcome.state is not PurchaseState.PAID:
            time.sleep(_PAUSE)  # whoever was refused does not come again at once
        else:
            for number, operation in enumerate(plan.after):
                wish = f"{plan.number}-{number}-{operation}"
                if not self._ask(self.system.fronts[plan.shop], xid, wish, operation, _amount(plan, operation, amount)):
                    return

    def _ask(self, front: Front, xid: bytes, wish: str, operation: str, amount: int | None) -> bool:
        """Say a wish until the shop has it; whether it was granted. What stays open, the shop goes on with."""
        asked = {"wish": wish, "operation": operation} | ({} if amount is None else {"amount": amount})
        with http_client(front.site.tls("operator"), front.origin, timeout=5) as client:
            for _ in range(_TRIES // 4):
                try:
                    response = client.post(f"/orders/{xid.hex()}/money", json=asked)
                except httpx.HTTPError:
                    time.sleep(_PAUSE)
                    continue
                if response.status_code < 500:
                    return bool(response.status_code == 200 and response.json()["state"] == "approved")
                time.sleep(_PAUSE)
        return False

    # --- merchants that are spoken for --------------------------------------------------------------------------------

    def _place(self, plan: Plan) -> None:
        shop = self.system.desks[plan.shop]
        placed = Placed(plan, self._signed(plan, shop), shop)
        self.placed.append(placed)
        for _ in range(_TRIES // 8):
            self._speak(placed)
            if placed.done:
                return
            time.sleep(_PAUSE)

    def _signed(self, plan: Plan, shop: Shop) -> Purchase:
        """An order up to its AuthReq; made anew if the people's clock was moved meanwhile."""
        buyer = self.customers[plan.buyer].bank
        try:
            return self.system.site.purchase(shop, buyer, plan.amount)
        except ProtocolError:
            return self.system.site.purchase(shop, buyer, plan.amount)

    def _speak(self, placed: Placed) -> None:
        """One try to bring the order to its end."""
        with suppress(*_TROUBLE):
            if placed.answer is None:
                self._collect(placed)
            if placed.answer is not None and not placed.done:
                self._give_back(placed)

    def _collect(self, placed: Placed) -> None:
        url, purchase = self.system.gateway_url, placed.purchase
        answer = placed.shop.collect(url, purchase)
        if unwrap(answer, expected=(CT_AUTH_RES, CT_ERROR)).msg_type == CT_ERROR:
            code = error_of(answer, purchase.message, self.system.site).error_code
            if (said := refused_for_good(code)) is not None:
                placed.said, placed.done = said, True
            return
        placed.answer, placed.said = answer, auth_res_of(answer).auth_code.protocol_name

    def _give_back(self, placed: Placed) -> None:
        assert placed.answer is not None
        if placed.plan.manner is Manner.SILENT:
            placed.done = True
            return
        try:
            checked = placed.purchase.checked_answer(placed.answer)
        except ProtocolError as error:
            placed.done = error.code is ErrorCode.ACK_TIMEOUT  # the gateway takes it back by itself
            return
        if not checked.approved:
            placed.done = True
            return
        ack = placed.purchase.ack(placed.answer, accepted=False)
        refused = placed.shop.acknowledge(self.system.gateway_url, ack)
        placed.done = not refused or error_of(refused, ack, self.system.site).error_code is ErrorCode.ACK_TIMEOUT
        placed.said = "given back"


def refused_for_good(code: ErrorCode) -> str | None:
    """What a merchant's book says of an order after this Error; None if the same is to be sent again."""
    match code:
        case ErrorCode.MESSAGE_TOO_OLD:  # it was not taken in, or will be given back
            return "refused as too old"
        case ErrorCode.DECODING_FAILURE:  # the token did not open it (its clock was wrong, say), and never will
            return "refused by the token"
    return None


class _Sessions:
    """Wallets at shops, each opened once."""

    def __init__(self, crowd: Crowd) -> None:
        self._crowd = crowd
        self._stack = ExitStack()
        self._open: dict[tuple[int, int], Buyer] = {}

    def __enter__(self) -> _Sessions:
        return self

    def __exit__(self, *_: Any) -> None:
        self._stack.close()

    def buyer(self, buyer: int, shop: int) -> Buyer:
        if (buyer, shop) not in self._open:
            crowd = self._crowd
            customer, front = crowd.customers[buyer], crowd.system.fronts[shop]
            session = customer.shopping(front, crowd.folder(buyer), clock=crowd.system.people)
            self._open[buyer, shop] = self._stack.enter_context(session)
        return self._open[buyer, shop]

    def resume(self, buyer: int, xid: bytes) -> bool:
        """Ask about one purchase; whether it is closed now."""
        origin = PurchaseFolder(self._crowd.folder(buyer) / xid.hex()).origin
        for shop, front in enumerate(self._crowd.system.fronts):
            if front.origin == origin:
                with suppress(*_TROUBLE):
                    return self.buyer(buyer, shop).resume(xid).state not in _OPEN
        return False


def _amount(plan: Plan, operation: str, amount: int) -> int | None:
    """In rial; of a cancellation, what is kept."""
    match operation:
        case "refund":
            return amount // 4
        case "capture":
            return amount // 2
        case "cancel":
            return amount // 2 if plan.manner is Manner.SALE or "capture" in plan.after else 0
    return None
