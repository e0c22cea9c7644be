"""The simulator's controls over loopback HTTP: the bank's counter, and faults on demand.

Every route but health and the page needs the bearer token of `secrets/switch-admin-token`, because whoever reaches the
counter can issue cards; the page (`switch.page`) asks for it in its own way. Card data are in one place only: the
answer that issues a card; one-time passwords in the messages to its holder.
"""

from __future__ import annotations

import hmac
from collections.abc import Callable, Sequence
from dataclasses import asdict
from datetime import date
from typing import Annotated, Any, Final

from fastapi import APIRouter, Depends, FastAPI, Header, Query
from pydantic import BaseModel, ConfigDict, Field
from starlette.requests import Request
from starlette.responses import Response

from runtime import health, problems
from runtime.problems import Problem
from runtime.secrets import Secret
from shetab.errors import ValueFormatError
from shetab.subfields import ZONE_KEY_KINDS, ZoneKeyKind
from shetab.types import Rial
from switch.bank import Bank
from switch.errors import BankError, KeyFileError
from switch.faults import Fault, FaultPlan
from switch.inbox import Inbox
from switch.overview import MOST, Overview
from switch.page.app import PREFIX as PAGE
from switch.page.app import Page
from switch.processing import Statistics
from switch.records import IssuedCard
from switch.settlement_list import SettlementLists

STATUS: Final = {
    "unknown_issuer": 422,
    "unknown_account": 404,
    "unknown_card": 404,
    "unknown_acquirer": 404,
    "not_a_customer": 409,
    "invalid": 422,
}
"""HTTP status of each reason of `BankError`."""

Limit = Annotated[int, Query(ge=1, le=MOST)]
Amount = Annotated[int, Field(ge=0, lt=10**12)]


class _Body(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", hide_input_in_errors=True)


class NewAccount(_Body):
    """An account to open; `balance` is the first deposit in rial."""

    bin: str
    holder: str
    national_code: str | None = None
    balance: Amount = 0
    phone: str | None = None


class Deposit(_Body):
    """Rial paid in."""

    amount: Annotated[int, Field(gt=0, lt=10**12)]


class NewCard(_Body):
    """A card to issue, valid for so many Jalali years."""

    years: int = 3


class Policy(_Body):
    """Whether PIN2 pays with a card, or a one-time password alone."""

    allowed: bool


class CutOver(_Body):
    """The business day from now on; none: the calendar's."""

    day: date | None = None


class NewAcquirer(_Body):
    """An acquirer to make known."""

    code: str
    name: str


def create_app(
    bank: Bank,
    faults: FaultPlan,
    statistics: Statistics,
    inbox: Inbox,
    overview: Overview,
    *,
    token: Secret,
    ready: Callable[[], bool],
    break_connections: Callable[[], None],
    change_keys: Callable[[str, Sequence[ZoneKeyKind]], bool],
    lists: SettlementLists,
) -> FastAPI:
    """The controls as an ASGI application."""

    def authorised(authorization: Annotated[str, Header()] = "") -> None:
        if not hmac.compare_digest(authorization.encode(), b"Bearer " + token.reveal()):
            raise Problem(401, "token-required", "the controls need the bearer token of secrets/switch-admin-token")

    app = FastAPI(title="Switch simulator", dependencies=[Depends(authorised)])
    problems.install(app)
    health.install(app, "switch", ready)
    app.add_exception_handler(BankError, _on_bank_error)
    app.add_exception_handler(ValueFormatError, _on_value_error)
    app.include_router(_accounts(bank))
    app.include_router(_cards(bank, inbox))
    app.include_router(_network(bank, lists))
    app.include_router(_controls(faults, statistics, break_connections))
    app.include_router(_zone_keys(change_keys))
    app.include_router(_overview(overview))
    page = Page(overview, faults, token=token, business_day=bank.business_day, break_connections=break_connections)
    app.mount(PAGE, page.app())
    return app


def _overview(overview: Overview) -> APIRouter:
    """What the page shows, for programs."""
    routes = APIRouter(prefix="/v1")

    @routes.get("/accounts")
    def accounts(limit: Limit = MOST) -> list[dict[str, Any]]:
        return [asdict(each) for each in overview.accounts(limit)]

    @routes.get("/cards")
    def cards(limit: Limit = MOST) -> list[dict[str, Any]]:
        return [asdict(each) for each in overview.cards(limit)]

    @routes.get("/ledger")
    def ledger() -> dict[str, Any]:
        totals, balanced = overview.ledger()
        return {"totals": [asdict(each) for each in totals], "balanced": balanced}

    @routes.get("/lines")
    def lines() -> list[dict[str, Any]]:
        return [asdict(each) for each in overview.lines()]

    @routes.get("/zone-keys")
    def zone_keys() -> list[dict[str, Any]]:
        return [asdict(each) for each in overview.zone_keys()]

    return routes


async def _on_bank_error(_request: Request, error: Exception) -> Response:
    assert isinstance(error, BankError)
    return Problem(STATUS[error.reason], error.reason.replace("_", "-"), error.detail).response()


async def _on_value_error(_request: Request, error: Exception) -> Response:
    return Problem(422, "invalid", str(error)).response()  # names the type and the rule, never the value


def _accounts(bank: Bank) -> APIRouter:
    routes = APIRouter(prefix="/v1/accounts")

    @routes.post("", status_code=201)
    def open_account(body: NewAccount) -> dict[str, Any]:
        opened = bank.open_account(
            body.bin,
            holder=body.holder,
            national_code=body.national_code,
            balance=Rial(body.balance),
            phone=body.phone,
        )
        return asdict(opened)

    @routes.get("/{iban}")
    def account(iban: str) -> dict[str, Any]:
        return asdict(bank.account(iban))

    @routes.get("/{iban}/entries")
    def entries(iban: str) -> list[dict[str, Any]]:
        return [{"at": at.isoformat(), "amount": amount, "text": text} for at, amount, text in bank.statement(iban)]

    @routes.post("/{iban}/deposits", status_code=201)
    def deposit(iban: str, body: Deposit) -> dict[str, Any]:
        return asdict(bank.deposit(iban, Rial(body.amount)))

    @routes.post("/{iban}/cards", status_code=201)
    def issue_card(iban: str, body: NewCard) -> dict[str, str]:
        return _revealed(bank.issue_card(iban, years=body.years))

    return routes


def _cards(bank: Bank, inbox: Inbox) -> APIRouter:
    routes = APIRouter(prefix="/v1")

    @routes.get("/cards/{card_id}")
    def card(card_id: str) -> dict[str, Any]:
        return asdict(bank.card(card_id))

    @routes.put("/cards/{card_id}/block")
    def block(card_id: str) -> dict[str, Any]:
        return asdict(bank.block_card(card_id))

    @routes.delete("/cards/{card_id}/block")
    def unblock(card_id: str) -> dict[str, Any]:
        return asdict(bank.unblock_card(card_id))

    @routes.put("/cards/{card_id}/static-pin2")
    def set_policy(card_id: str, body: Policy) -> dict[str, Any]:
        return asdict(bank.set_static_pin2(card_id, body.allowed))

    @routes.get("/cards/{card_id}/messages")
    def messages(card_id: str) -> list[dict[str, Any]]:
        bank.card(card_id)
        return [
            {
                "number": each.number,
                "merchant": each.merchant,
                "amount": each.amount,
                "valid_until": each.valid_until.isoformat(),
                "password": each.password,
                "text": each.text,
            }
            for each in inbox.messages(card_id)
        ]

    return routes


def _network(bank: Bank, lists: SettlementLists) -> APIRouter:
    routes = APIRouter(prefix="/v1")

    @routes.post("/acquirers", status_code=201)
    def register(body: NewAcquirer) -> dict[str, Any]:
        return asdict(bank.register_acquirer(body.code, body.name))

    @routes.get("/acquirers/{code}/intermediary")
    def intermediary(code: str) -> dict[str, Any]:
        return asdict(bank.intermediary(code))

    @routes.get("/acquirers/{code}/merchants")
    def merchants(code: str) -> list[dict[str, Any]]:
        return [asdict(total) for total in bank.merchant_totals(code)]

    @routes.get("/acquirers/{code}/settlement-list", response_class=Response)
    def settlement_list(code: str, day: date) -> Response:
        return Response(lists.of(code, day), media_type="application/jsonl")

    @routes.get("/transactions")
    def transactions(rrn: str | None = None, reference: str | None = None) -> list[dict[str, Any]]:
        return [asdict(found) for found in bank.transactions(rrn=rrn, reference=reference)]

    @routes.get("/business-day")
    def business_day() -> dict[str, date]:
        return {"day": bank.business_day()}

    @routes.put("/business-day")
    def cut_over(body: CutOver) -> dict[str, date]:
        return {"day": bank.cut_over(body.day)}

    @routes.get("/balanced")
    def balanced() -> dict[str, bool]:
        return {"balanced": bank.is_balanced()}

    return routes


def _controls(faults: FaultPlan, statistics: Statistics, break_connections: Callable[[], None]) -> APIRouter:
    routes = APIRouter(prefix="/v1")

    @routes.post("/faults", status_code=201)
    def add(body: Fault) -> list[Fault]:
        faults.add(body)
        return faults.waiting()

    @routes.get("/faults")
    def waiting() -> list[Fault]:
        return faults.waiting()

    @routes.delete("/faults", status_code=204)
    def clear() -> None:
        faults.clear()

    @routes.delete("/connections", status_code=204)
    def disconnect() -> None:
        break_connections()

    @routes.get("/statistics")
    def counters() -> dict[str, dict[str, int]]:
        return {"received": dict(statistics.received), "dropped": dict(statistics.dropped)}

    return routes


def _zone_keys(change_keys: Callable[[str, Sequence[ZoneKeyKind]], bool]) -> APIRouter:
    routes = APIRouter(prefix="/v1")

    @routes.post("/acquirers/{code}/zone-keys", status_code=202)
    def change(code: str) -> dict[str, list[str]]:
        try:
            if not change_keys(code, ZONE_KEY_KINDS):
                raise Problem(409, "not-signed-on", f"acquirer {code} has not signed on")
        except KeyFileError as error:
            raise Problem(409, "no-master-key", str(error)) from None
        return {"sent": list(ZONE_KEY_KINDS)}

    return routes


def _revealed(card: IssuedCard) -> dict[str, str]:
    return {
        "card_id": card.card_id,
        "iban": card.iban,
        "masked_pan": card.masked_pan,
        "pan": card.pan.reveal(),
        "expiry": card.expiry.reveal(),
        "cvv2": card.cvv2.reveal(),
        "pin2": card.pin2.reveal(),
    }
