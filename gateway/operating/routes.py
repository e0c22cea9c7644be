"""Orders over HTTP, for operators and officers.

| route                                | for                | what                                                     |
| ------------------------------------ | ------------------ | -------------------------------------------------------- |
| GET /v1/orders                       | operator, officers | orders, newest first, page by page                       |
| GET /v1/orders/{xid}/life            | operator, officers | an order step by step                                    |
| POST /v1/orders/{xid}/reversal       | operator, officers | queue its reversal, or queue it again                    |
| POST /v1/orders/{xid}/resolution     | operator, officers | state what the bank told of a reversal that failed       |
| DELETE /v1/orders/{xid}/resolution   | operator, officers | forget what was stated and not confirmed                 |
| POST /v1/orders/{xid}/confirmation   | officers           | confirm what another person stated; the order ends       |
| GET /v1/officer-statements           | operator, officers | what officers signed to act here, newest first           |
| GET /v1/limits                       | operator, officers | the rules of limits in force                             |

What the rules do not allow is answered 409 `order-command-refused` with the clause.
"""

from __future__ import annotations

import base64
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from functools import partial
from typing import Annotated, Any, Final, Literal, Protocol, TypeVar

from fastapi import APIRouter, Depends, Path, Query
from pydantic import BaseModel, ConfigDict, Field
from sqlalchemy import Connection
from starlette.requests import Request

from gateway.errors import OrderCommandError
from gateway.limits.guard import Limits
from gateway.limits.rules import Rule
from gateway.operating.commands import OrderCommands
from gateway.operating.officer_acts import OfficerActs, acting
from gateway.operating.orders import MOST, Life, Selection, key_of, life_of, listed
from gateway.operating.reasons import Reason
from gateway.order import Order, OrderKey
from gateway.states import OrderState
from gateway.store import OrderStore
from runtime.identity import Caller
from runtime.problems import Problem

T = TypeVar("T")

_WATCHING: Final = ("service:operator", "officer:*")
_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)
_MICROSECOND: Final = timedelta(microseconds=1)

Operating = Annotated[Caller, Depends(acting(*_WATCHING))]
Confirming = Annotated[Caller, Depends(acting("officer:*"))]
XidHex = Annotated[str, Path(pattern=r"^[0-9a-f]{40}$", description="XID, 20 bytes as lower-case hexadecimal")]
MerchantId = Annotated[str | None, Query(max_length=15, description="needed if two merchants have this XID")]
Cursor = Annotated[str | None, Query(pattern=r"^[0-9]{1,17}-[0-9a-f]{40}$", description="`next` of the page before")]
Outcome = Literal["reversed", "debited"]


class _Document(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class ListedOrder(BaseModel):
    """An order of a list. Amount in rial."""

    xid: str
    merchant_id: str
    kind: str
    state: str
    amount: int
    received_at: datetime
    changed_at: datetime
    masked_pan: str | None
    rc: str | None
    route: str | None
    reversal_reason: str | None
    reversal_attempts: int
    reversal_next_at: datetime | None
    reversal_rc: str | None


class OrderPage(BaseModel):
    """A page, newest first; `next` asks for the one after it."""

    orders: list[ListedOrder]
    next: str | None


class StepDocument(BaseModel):
    """A step: the order's state after it, and what else is known of it."""

    number: int
    at: datetime
    state: str
    what: dict[str, Any]


class StatedDocument(BaseModel):
    """What persons stated of the order's last reversal."""

    outcome: str
    reason: str
    stated_by: str
    stated_at: datetime
    confirmed_by: str | None
    confirmed_at: datetime | None


class LifeDocument(BaseModel):
    """An order step by step. Amount in rial."""

    order: ListedOrder
    stan: str | None
    rrn: str | None
    approval: str | None
    steps: list[StepDocument]
    stated: StatedDocument | None


class ReversalAsked(_Document):
    """Why an operator has an order reversed."""

    reason: Reason
    merchant_id: str | None = Field(default=None, max_length=15)


class OutcomeStated(ReversalAsked):
    """What the bank told, and how that is known."""

    outcome: Outcome


class OutcomeConfirmed(_Document):
    """What is confirmed, so that nobody confirms what they have not read."""

    outcome: Outcome
    merchant_id: str | None = Field(default=None, max_length=15)


class OfficerStatementDocument(BaseModel):
    """What an officer signed to act here; `statement` is CMS SignedData (DER); it and `body` in base64."""

    number: int
    person: str
    method: str
    target: str
    body: str | None
    statement: str
    taken_at: datetime


class RuleDocument(BaseModel):
    """A rule of limits. Amount in rial."""

    name: str
    subject: str
    window: str
    amount: int | None
    orders: int | None
    when: dict[str, list[str]]
    gives_back: list[str]
    because: dict[str, str]


class Served(Protocol):
    """What these routes need of the gateway."""

    @property
    def store(self) -> OrderStore: ...
    @property
    def commands(self) -> OrderCommands: ...
    @property
    def officer_acts(self) -> OfficerActs: ...
    @property
    def limits(self) -> Limits: ...


def _gateway(request: Request) -> Served:
    served: Served = request.app.state.gateway
    return served


Gateway = Annotated[Served, Depends(_gateway)]


def create_router() -> APIRouter:
    """The routes."""
    routes = APIRouter(prefix="/v1")

    @routes.get("/orders")
    async def orders(
        _caller: Operating,
        gateway: Gateway,
        state: Annotated[OrderState | None, Query()] = None,
        merchant_id: Annotated[str | None, Query(max_length=15)] = None,
        since: Annotated[datetime | None, Query(description="received from then on")] = None,
        until: Annotated[datetime | None, Query(description="received before")] = None,
        limit: Annotated[int, Query(ge=1, le=MOST)] = 50,
        after: Cursor = None,
    ) -> OrderPage:
        """Orders, newest first."""
        wanted = Selection(state, merchant_id, _aware(since), _aware(until), _after(after), limit)
        rows = await _read(gateway, partial(listed, selection=wanted))
        last = rows[-1] if len(rows) == limit else None
        follows = None if last is None else f"{(last.received_at - _EPOCH) // _MICROSECOND}-{last.xid.hex()}"
        return OrderPage(orders=[_listed(row) for row in rows], next=follows)

    @routes.get("/orders/{xid}/life")
    async def life(xid: XidHex, _caller: Operating, gateway: Gateway, merchant_id: MerchantId = None) -> LifeDocument:
        """An order step by step."""
        return await _life(gateway, await _key(gateway, xid, merchant_id))

    @routes.post("/orders/{xid}/reversal")
    async def reverse(xid: XidHex, asked: ReversalAsked, caller: Operating, gateway: Gateway) -> LifeDocument:
        """Queue an order's reversal, or queue it again."""
        key = await _key(gateway, xid, asked.merchant_id)
        await _done(gateway.commands.reverse(key, by=str(caller), reason=asked.reason))
        return await _life(gateway, key)

    @routes.post("/orders/{xid}/resolution")
    async def resolve(xid: XidHex, stated: OutcomeStated, caller: Operating, gateway: Gateway) -> LifeDocument:
        """State what the bank told of an order whose reversal failed; an officer confirms it."""
        key = await _key(gateway, xid, stated.merchant_id)
        outcome = OrderState(stated.outcome.upper())
        await _done(gateway.commands.state(key, outcome, by=str(caller), reason=stated.reason))
        return await _life(gateway, key)

    @routes.delete("/orders/{xid}/resolution")
    async def withdraw(
        xid: XidHex, caller: Operating, gateway: Gateway, merchant_id: MerchantId = None
    ) -> LifeDocument:
        """Forget what was stated and not confirmed."""
        key = await _key(gateway, xid, merchant_id)
        await _done(gateway.commands.withdraw(key, by=str(caller)))
        return await _life(gateway, key)

    @routes.post("/orders/{xid}/confirmation")
    async def confirm(xid: XidHex, stated: OutcomeConfirmed, caller: Confirming, gateway: Gateway) -> LifeDocument:
        """Confirm what another person stated; the order ends."""
        key = await _key(gateway, xid, stated.merchant_id)
        await _done(gateway.commands.confirm(key, OrderState(stated.outcome.upper()), by=str(caller)))
        return await _life(gateway, key)

    @routes.get("/officer-statements")
    async def statements(
        _caller: Operating, gateway: Gateway, limit: Annotated[int, Query(ge=1, le=MOST)] = 50
    ) -> list[OfficerStatementDocument]:
        """What officers signed to act here, newest first."""
        rows = await gateway.store.look(gateway.officer_acts.list, limit)
        return [_statement(each) for each in rows]

    @routes.get("/limits")
    async def limits(_caller: Operating, gateway: Gateway) -> list[RuleDocument]:
        """The rules of limits in force."""
        return [_rule(each) for each in gateway.limits.watched.rules.rules]

    return routes


async def _done(step: Any) -> Order:
    try:
        order: Order = await step
    except OrderCommandError as error:
        raise Problem(409, "order-command-refused", error.told, clause=error.clause) from None
    return order


async def _read(gateway: Served, query: Callable[[Connection], T]) -> T:
    def read() -> T:
        with gateway.store.reading() as connection:
            return query(connection)

    return await gateway.store.look(read)


async def _key(gateway: Served, xid: str, merchant_id: str | None) -> OrderKey:
    try:
        key = await _read(gateway, partial(key_of, xid=bytes.fromhex(xid), merchant_id=merchant_id))
    except OrderCommandError as error:
        raise Problem(409, "order-command-refused", error.told, clause=error.clause) from None
    if key is None:
        raise Problem(404, "unknown-xid", "there is no order of this XID")
    return key


async def _life(gateway: Served, key: OrderKey) -> LifeDocument:
    order = await gateway.store.found(key)
    assert order is not None  # its key was found, and orders are not deleted
    life: Life = await _read(gateway, partial(life_of, order=order))
    return LifeDocument(
        order=_listed(order),
        stan=order.stan,
        rrn=order.rrn,
        approval=order.approval,
        steps=[StepDocument.model_validate(each, from_attributes=True) for each in life.steps],
        stated=None if life.stated is None else StatedDocument.model_validate(life.stated, from_attributes=True),
    )


def _listed(row: Any) -> ListedOrder:
    values = {name: getattr(row, name) for name in ListedOrder.model_fields}
    return ListedOrder(**{**values, "xid": row.xid.hex()})


def _statement(row: Any) -> OfficerStatementDocument:
    return OfficerStatementDocument(
        number=row.number,
        person=row.person,
        method=row.method,
        target=row.target,
        body=None if row.body is None else base64.b64encode(row.body).decode("ascii"),
        statement=base64.b64encode(row.statement).decode("ascii"),
        taken_at=row.taken_at,
    )


def _rule(rule: Rule) -> RuleDocument:
    return RuleDocument(
        name=rule.name,
        subject=rule.subject,
        window=rule.window,
        amount=rule.amount,
        orders=rule.orders,
        when={name: list(values) for name, values in rule.when.model_dump().items() if values},
        gives_back=sorted(rule.returned),
        because=rule.because.model_dump(),
    )


def _aware(moment: datetime | None) -> datetime | None:
    return moment if moment is None or moment.tzinfo is not None else moment.replace(tzinfo=UTC)


def _after(cursor: str | None) -> tuple[datetime, bytes] | None:
    if cursor is None:
        return None
    at, _, xid = cursor.partition("-")
    return _EPOCH + int(at) * _MICROSECOND, bytes.fromhex(xid)
