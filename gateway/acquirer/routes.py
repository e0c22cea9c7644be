"""The acquirer over HTTP: for operators and officers, and a merchant's own report.

| route                                            | for       |                                                  |
| ------------------------------------------------ | --------- | ------------------------------------------------ |
| GET /v1/reconciliations                          | operators | business days of all merchants, by route         |
| POST /v1/reconciliations:compare                 | operators | compare open days with the networks now          |
| POST /v1/settlement-lists                        | operators | import the network's list of a day               |
| GET /v1/differences                              | operators | what the lists show                              |
| POST /v1/differences/{number}:decide             | operators | explain or correct one                           |
| GET, POST /v1/payouts                            | operators | what is paid; pay out what is closed             |
| POST /v1/payouts/{reference}:again               | operators | another attempt of one that the bank returned    |
| GET, POST /v1/payment-files                      | operators | files for the bank; make one                     |
| GET /v1/payment-files/{number}                   | operators | one of them, pain.001 or CSV                     |
| POST /v1/payment-files/{number}:send, :withdraw  | operators | it goes to the bank; it does not                 |
| POST /v1/bank-answers                            | operators | pain.002 or CSV of the bank                      |
| GET /v1/ledger, /v1/ledger/{account}             | operators | balances; an account's last lines                |
| GET /v1/ledger-verification                      | operators | the ledger against its causes                    |
| GET /v1/reports/{day}                            | merchants | its own day as CSV or PDF; operators: any, or all |

Operators are the service `operator` and officers: dual control of payment files tells them apart by their certificates.
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import date, datetime
from typing import Annotated, Any, Final, Literal

from fastapi import APIRouter, Depends, Path, Query, Response
from pydantic import BaseModel, ConfigDict, Field
from starlette.requests import Request

from gateway.acquirer import bank_answer
from gateway.acquirer.payout import PayoutState
from gateway.acquirer.service import LONGEST_STATEMENT, LONGEST_WAIT, AcquirerService
from gateway.operating.officer_acts import acting
from gateway.operating.reasons import Reason
from gateway.routing import SWITCH
from runtime.identity import Caller
from runtime.language import Language
from runtime.problems import Problem
from shetab import settlement_list

_OPERATORS: Final = ("service:operator", "officer:*")
OperatorCaller = Annotated[Caller, Depends(acting(*_OPERATORS))]
ReportReader = Annotated[Caller, Depends(acting("merchant:*", *_OPERATORS))]
_LARGE: Final[Mapping[str, int]] = {
    "/v1/settlement-lists": settlement_list.LARGEST,
    "/v1/bank-answers": bank_answer.LARGEST,
}
_MEDIA: Final = {"csv": "text/csv; charset=utf-8", "pdf": "application/pdf", "xml": "application/xml"}
Day = Annotated[date | None, Query(description="business day in Iran, YYYY-MM-DD")]
MerchantId = Annotated[str | None, Query(max_length=15)]
Wait = Annotated[int, Query(ge=0, le=LONGEST_WAIT, description="seconds")]
Number = Annotated[int, Path(ge=1, lt=2**31)]


def larger(scope: Any) -> int | None:
    """Bytes that the body of this request may have, if they are more than usual (`runtime.server.Larger`)."""
    return _LARGE.get(scope["path"])


class _Document(BaseModel):
    model_config = ConfigDict(from_attributes=True)


class _Body(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class ReconciliationDocument(_Document):
    """A merchant's business day on one route; sums are data elements 74 to 77, 86 to 89 and 97."""

    merchant_id: str
    business_day: date
    route: str
    state: str
    compared_at: datetime | None
    rc: str | None
    own: dict[str, str] | None
    theirs: dict[str, str] | None
    booked: int | None = Field(
        description="rial that were booked as the network's payment; none until the day is finished. "
        "A finished day that is OPEN again is compared anew: something came late"
    )


class ComparedDocument(_Document):
    """How far a comparison is."""

    days: int = Field(description="open days that were asked about")
    unanswered: int = Field(description="those of them that no network has answered for yet")


class ImportedDocument(_Document):
    """What came of a list."""

    number: int
    route: str
    business_day: date
    movements: int
    known: bool = Field(description="it was imported before: nothing has changed")
    open_differences: int


class DifferenceDocument(_Document):
    """One difference; amounts in rial."""

    number: int
    merchant_id: str
    route: str
    business_day: date
    terminal_id: str
    stan: str
    rrn: str
    movement: str
    kind: str
    own_amount: int | None
    their_amount: int | None
    own_day: date | None
    their_day: date | None
    excess: int = Field(description="rial that the network pays for it in this day beyond our books")
    state: str
    found_at: datetime
    decided_at: datetime | None
    decided_by: str | None
    reason: str | None


class DecisionBody(_Body):
    """What a person says of a difference."""

    decision: Literal["EXPLAINED", "CORRECTED"]
    excess: int | None = Field(
        default=None, gt=-(10**18), lt=10**18, description="rial that was looked at: another one is not decided"
    )
    reason: Reason


class WhichBody(_Body):
    """Which days are meant; all, if nothing is said."""

    day: date | None = None
    merchant_id: Annotated[str, Field(max_length=15)] | None = None


class PayoutDocument(_Document):
    """A payout; amounts in rial."""

    merchant_id: str
    business_day: date
    attempt: int
    reference: str
    state: str
    gross: int
    fees: int
    brought_forward: int
    amount: int
    carried_forward: int
    iban: str | None
    created_at: datetime
    created_by: str
    file: int | None
    sent_at: datetime | None
    sent_by: str | None
    paid_at: datetime | None
    returned_at: datetime | None
    answered_by: str | None
    reason: str | None


class LeftDocument(_Document):
    """A day that was not paid out, and why."""

    merchant_id: str
    business_day: date
    reason: str = Field(
        description="not-ended: the network still counts in it; not-compared: the network has not said its totals "
        "since; undecided: an order or request of it is; totals-differ; differences-open: a person must decide; "
        "no-account; account-not-bound"
    )


class CreatedDocument(_Document):
    """What was paid out, and what was not."""

    made: list[PayoutDocument]
    left: list[LeftDocument]


class PaymentFileDocument(_Document):
    """A payment file without its content; `total` in rial."""

    number: int
    message_id: str
    digest: str = Field(description="SHA-256 of the pain.001, hexadecimal")
    count: int
    total: int
    made_at: datetime
    made_by: str
    left: list[LeftDocument] = []


class SendBody(_Body):
    """The file that was looked at."""

    digest: Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")]


class BalanceDocument(_Document):
    """An account; rial, debits positive."""

    account: str
    debits: int
    credits: int
    balance: int


class StatementDocument(_Document):
    """A line of an account, with the balance after it."""

    at: datetime
    business_day: date
    cause_kind: str
    cause: str
    amount: int
    balance: int


class FindingDocument(_Document):
    """A posting that is not as its cause says."""

    fault: str
    cause_kind: str
    cause: str


def _acquirer(request: Request) -> AcquirerService:
    service = request.app.state.gateway.acquirer
    assert isinstance(service, AcquirerService)
    return service


Served = Annotated[AcquirerService, Depends(_acquirer)]


def create_router() -> APIRouter:
    """The routes."""
    routes = APIRouter(prefix="/v1")
    _reconciliation(routes)
    _payouts(routes)
    _payment_files(routes)
    _books(routes)
    return routes


def _reconciliation(routes: APIRouter) -> None:
    @routes.get("/reconciliations")
    async def reconciliations(
        _caller: OperatorCaller, acquirer: Served, day: Day = None, merchant_id: MerchantId = None
    ) -> list[ReconciliationDocument]:
        """Business days of all merchants, by day, merchant and route."""
        rows = acquirer.days(day=day, merchant_id=merchant_id)
        return [ReconciliationDocument.model_validate(row) for row in rows]

    @routes.post("/reconciliations:compare", status_code=202)
    async def compare(
        body: WhichBody,
        _caller: OperatorCaller,
        acquirer: Served,
        wait: Annotated[int, Query(ge=0, le=LONGEST_WAIT)] = 0,
    ) -> ComparedDocument:
        """Compare open days with their networks now, and wait up to `wait` seconds for their answers.

        How it ended is in GET /v1/reconciliations.
        """
        days, unanswered = await acquirer.compare(day=body.day, merchant_id=body.merchant_id, wait=wait)
        return ComparedDocument(days=days, unanswered=unanswered)

    @routes.post("/settlement-lists")
    async def take_list(
        request: Request, caller: OperatorCaller, acquirer: Served, route: Annotated[str, Query()] = SWITCH
    ) -> ImportedDocument:
        """Import the network's list of a day (`shetab.settlement_list`), and match it with our movements."""
        taken = await acquirer.take_list(await request.body(), route=route, by=str(caller))
        return ImportedDocument.model_validate(taken)

    @routes.get("/differences")
    async def differences(
        _caller: OperatorCaller,
        acquirer: Served,
        day: Day = None,
        merchant_id: MerchantId = None,
        state: Annotated[Literal["OPEN", "EXPLAINED", "CORRECTED", "GONE"] | None, Query()] = None,
    ) -> list[DifferenceDocument]:
        """What the lists show, movement by movement."""
        rows = acquirer.differences(day=day, merchant_id=merchant_id, state=state)
        return [DifferenceDocument.model_validate(row) for row in rows]

    @routes.post("/differences/{number}:decide")
    async def decide(
        number: Number, body: DecisionBody, caller: OperatorCaller, acquirer: Served
    ) -> DifferenceDocument:
        """Explain a difference, or take it into the books."""
        row = await acquirer.decide(number, body.decision, excess=body.excess, reason=body.reason, by=str(caller))
        return DifferenceDocument.model_validate(row)


def _payouts(routes: APIRouter) -> None:
    @routes.get("/payouts")
    async def payouts(
        _caller: OperatorCaller,
        acquirer: Served,
        day: Day = None,
        merchant_id: MerchantId = None,
        state: Annotated[PayoutState | None, Query()] = None,
    ) -> list[PayoutDocument]:
        """Payouts in the order in which they were made."""
        found = acquirer.payouts.all(day=day, merchant_id=merchant_id, state=state)
        return [PayoutDocument.model_validate(each) for each in found]

    @routes.post("/payouts")
    async def create(body: WhichBody, caller: OperatorCaller, acquirer: Served) -> CreatedDocument:
        """Pay out every closed day that was not; the others are left, with the reason. Asked again, nothing is paid."""
        made, left = await acquirer.payouts.create(by=str(caller), day=body.day, merchant_id=body.merchant_id)
        return CreatedDocument(
            made=[PayoutDocument.model_validate(each) for each in made],
            left=[LeftDocument.model_validate(each) for each in left],
        )

    @routes.post("/payouts/{reference}:again", status_code=201)
    async def again(
        reference: Annotated[str, Path(max_length=35)], caller: OperatorCaller, acquirer: Served
    ) -> PayoutDocument:
        """Another attempt of a payout that the bank returned."""
        return PayoutDocument.model_validate(await acquirer.payouts.again(reference, by=str(caller)))

    @routes.post("/bank-answers")
    async def bank_answers(request: Request, caller: OperatorCaller, acquirer: Served) -> list[PayoutDocument]:
        """What the bank said of payouts: pain.002, or CSV with reference,status,reason."""
        found = await acquirer.take_bank_answer(await request.body(), by=str(caller))
        return [PayoutDocument.model_validate(each) for each in found]


def _payment_files(routes: APIRouter) -> None:
    @routes.get("/payment-files")
    async def files(_caller: OperatorCaller, acquirer: Served) -> list[PaymentFileDocument]:
        """All payment files, oldest first."""
        return [PaymentFileDocument.model_validate(each) for each in acquirer.payouts.files()]

    @routes.post("/payment-files", status_code=201)
    async def make(caller: OperatorCaller, acquirer: Served) -> PaymentFileDocument:
        """A payment file of all payouts that are in none yet."""
        made, left = await acquirer.payouts.make_file(by=str(caller))
        document = PaymentFileDocument.model_validate(made)
        return document.model_copy(update={"left": [LeftDocument.model_validate(each) for each in left]})

    @routes.get("/payment-files/{number}", response_class=Response)
    async def file(
        number: Number,
        _caller: OperatorCaller,
        acquirer: Served,
        format: Annotated[Literal["xml", "csv"], Query()] = "xml",  # noqa: A002  # its name in the protocol
    ) -> Response:
        """The file for the bank."""
        payouts = acquirer.payouts
        content = payouts.file(number).content if format == "xml" else payouts.file_csv(number)
        return Response(content, media_type=_MEDIA[format])

    @routes.post("/payment-files/{number}:send")
    async def send(number: Number, body: SendBody, caller: OperatorCaller, acquirer: Served) -> list[PayoutDocument]:
        """The bank has it, or will have it now: its payouts are SENT. For another person than made it."""
        done = await acquirer.payouts.sent(number, digest=body.digest, by=str(caller))
        return [PayoutDocument.model_validate(each) for each in done]

    @routes.post("/payment-files/{number}:withdraw")
    async def withdraw(number: Number, caller: OperatorCaller, acquirer: Served) -> dict[str, int]:
        """It is not sent: the next file has its payouts."""
        return {"payouts": await acquirer.payouts.withdraw(number, by=str(caller))}


def _books(routes: APIRouter) -> None:
    @routes.get("/ledger")
    async def ledger(_caller: OperatorCaller, acquirer: Served, through: Day = None) -> list[BalanceDocument]:
        """Every account with its sums, up to a business day."""
        return [BalanceDocument.model_validate(each) for each in acquirer.balances(through)]

    @routes.get("/ledger-verification")
    async def verify(_caller: OperatorCaller, acquirer: Served) -> list[FindingDocument]:
        """The ledger, built anew from its causes: every posting that is not as it should be; none if it is right."""
        return [FindingDocument.model_validate(each) for each in await acquirer.verify()]

    @routes.get("/ledger/{account}")
    async def account(
        account: Annotated[str, Path(max_length=80)],
        _caller: OperatorCaller,
        acquirer: Served,
        limit: Annotated[int, Query(ge=1, le=LONGEST_STATEMENT)] = 100,
    ) -> list[StatementDocument]:
        """The last lines of an account."""
        return [StatementDocument.model_validate(each) for each in acquirer.statement(account, limit)]

    @routes.get("/reports/{day}", response_class=Response)
    async def report(
        day: Annotated[date, Path(description="business day in Iran, YYYY-MM-DD")],
        caller: ReportReader,
        acquirer: Served,
        merchant_id: MerchantId = None,
        format: Annotated[Literal["csv", "pdf"], Query()] = "csv",  # noqa: A002  # its name in the protocol
        lang: Annotated[Language, Query()] = Language.EN,
        bom: Annotated[bool, Query(description="CSV begins with U+FEFF")] = False,
    ) -> Response:
        """A merchant's own day; an operator's choice of merchant, or all of them."""
        if caller.kind == "merchant":
            if merchant_id not in (None, caller.name):
                raise Problem(403, "another-merchant", "a merchant sees its own reports")
            merchant_id = caller.name
        content = await acquirer.report(merchant_id, day, format, lang, bom=bom)
        name = f"kwbp-{merchant_id or 'acquirer'}-{day.isoformat()}-{lang}.{format}"
        headers = {"content-disposition": f'attachment; filename="{name}"'}
        return Response(content, media_type=_MEDIA[format], headers=headers)
