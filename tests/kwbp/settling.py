"""What happens after an authorisation: one merchant, one gateway, one sale, and one order that was only authorised.

Each step takes as a parameter whatever a hostile twin wants different, and signs it with the right key unless told
otherwise.
"""

from __future__ import annotations

from dataclasses import replace
from datetime import datetime, timedelta
from functools import cached_property
from typing import Any, Final

from kwbp.codes import AuthCode, BatchOperation, EntryKind, ReversalReason, SaleKind
from kwbp.common import Draft, Received
from kwbp.fields import to_time
from kwbp.messages import AuthResTBS
from kwbp.money import Money
from kwbp.settling import (
    REQUESTS,
    AdviceLine,
    Batch,
    Batches,
    CheckedAdvice,
    CheckedBatchRequest,
    CheckedSettlingAnswer,
    CheckedSettlingRequest,
    Entry,
    Followed,
    SentBatchRequest,
    SentSettlingRequest,
    SettlingRequest,
    SettlingResTBS,
    Standing,
    build_answer,
    build_auth_reversal,
    build_batch_answer,
    build_batch_request,
    build_capture,
    build_capture_reversal,
    build_credit,
    build_credit_reversal,
    build_settle_advice,
    check_batch_answer,
    check_batch_request,
    check_request,
    check_requester,
    check_settle_advice,
    check_settling_answer,
    is_batch_request_repeated,
    is_repeated,
    receive_batch_request,
    receive_request,
    totals_of,
    within,
)
from kwbp.wrapper import unwrap, wrap
from pki import der
from pki.der import sha256
from pki.oids import CT_BATCH_ADMIN_REQ, CT_BATCH_ADMIN_RES, CT_CAP_RES, CT_CRED_RES, CT_SETTLE_ADVICE
from tests.kwbp.forge import changed, signed
from tests.kwbp.world import TOTAL, Purchase, World
from tests.support.pki_factory import IBAN, Credential

TOKEN: Final = b"capture token of the gateway"
SECOND: Final = timedelta(seconds=1)
DAY: Final = timedelta(days=1)


class Settling:
    """The parties after the authorisation. `sale` was captured with it, `held` was not."""

    def __init__(self, world: World) -> None:
        self.world = world
        self.sale: Purchase = world.purchase()
        self.held: Purchase = world.purchase(sale_kind=SaleKind.AUTH_ONLY, answer={"cap_token": TOKEN})

    # Rows 19 to 21

    def standing(self, purchase: Purchase, **changes: Any) -> Standing:
        """The purchase as the gateway's book has it after the authorisation."""
        standing = Standing.of(purchase.auth_res_signed, sale=purchase.auth_req.body.capture_now, acknowledged=True)
        return replace(standing, **changes)

    def authorisation(self, purchase: Purchase) -> Followed:
        return Followed.authorisation(purchase.auth_res_signed)

    def capture(self, amount: int = TOTAL, **changes: Any) -> Draft[Any]:
        return build_capture(self.authorisation(self.held), Money.rial(amount), **self._fresh(changes))

    def auth_reversal(self, purchase: Purchase, amount: int, **changes: Any) -> Draft[Any]:
        arguments = {"reason": ReversalReason.NOT_DELIVERABLE, **self._fresh(changes)}
        return build_auth_reversal(self.authorisation(purchase), Money.rial(amount), **arguments)

    def credit(self, followed: Followed, amount: int, **changes: Any) -> Draft[Any]:
        return build_credit(followed, Money.rial(amount), **self._fresh(changes))

    def capture_reversal(self, capture: Followed, **changes: Any) -> Draft[Any]:
        return build_capture_reversal(capture, **self._fresh(changes))

    def credit_reversal(self, credit: Followed, **changes: Any) -> Draft[Any]:
        return build_credit_reversal(credit, **self._fresh(changes))

    def _fresh(self, changes: dict[str, Any]) -> dict[str, Any]:
        return {"rrpid": self.world.rng(20), "now": self.world.now} | changes

    def message(
        self,
        draft: Draft[Any],
        *,
        signer: Credential | None = None,
        signing_time: datetime | None = None,
        header: dict[str, Any] | None = None,
        **changes: Any,
    ) -> bytes:
        """The request, with other fields if asked for."""
        body = changed(draft.body, changes)
        data = signed(signer or self.world.shop, draft.content_type, body, signing_time=signing_time)
        return wrap(draft.content_type, data, **({"rrpid": body.rrpid, "xid": body.xid} | (header or {})))

    def receive(self, message: bytes) -> SettlingRequest:
        return receive_request(unwrap(message, expected=REQUESTS))

    def check(self, message: bytes, standing: Standing | None, **changes: Any) -> CheckedSettlingRequest:
        """Every check of the gateway's, in order; the request must not be a repeat."""
        request = self.receive(message)
        check_requester(
            request,
            changes.pop("merchant", self.world.enrolled),
            tls_merchant_id=changes.pop("tls_merchant_id", "M-1"),
        )
        assert not is_repeated(request, standing)
        assert standing is not None
        arguments: dict[str, Any] = {
            "gateway": self.world.gateway_identity,
            "trust": self.world.trust,
            "now": self.world.now,
        }
        return check_request(request, standing, **(arguments | changes))

    def answer(self, checked: CheckedSettlingRequest, **changes: Any) -> Draft[SettlingResTBS]:
        arguments: dict[str, Any] = {
            "gateway": self.world.gateway_identity,
            "auth_code": AuthCode.APPROVED,
            "now": self.world.now,
            "rc": "00",
            "stan": "000124",
            "rrn": "608012000124",
            "approval": "A1B2C4",
            "settle_date": "0321",
        }
        return build_answer(checked, **(arguments | changes))

    def answer_message(
        self,
        draft: Draft[Any],
        *,
        signer: Credential | None = None,
        signing_time: datetime | None = None,
        header: dict[str, Any] | None = None,
        **changes: Any,
    ) -> bytes:
        """An answer of rows 19 to 22, with other fields if asked for."""
        body = changed(draft.body, changes)
        data = signed(signer or self.world.gateway_signing, draft.content_type, body, signing_time=signing_time)
        return wrap(draft.content_type, data, **({"rrpid": body.rrpid, "xid": draft.xid} | (header or {})))

    def check_answer(self, message: bytes, sent: SentSettlingRequest, **changes: Any) -> CheckedSettlingAnswer:
        arguments: dict[str, Any] = {"sent": sent, "trust": self.world.trust, "now": self.world.now}
        return check_settling_answer(unwrap(message, expected=[sent.answer_type]), **(arguments | changes))

    def done(self, draft: Draft[Any], standing: Standing) -> tuple[Standing, Followed]:
        """Ask, judge, approve, judge the answer: the book after it, and what the merchant may follow then."""
        message = self.message(draft)
        checked = self.check(message, standing)
        working = standing.taken_in(draft.rrpid, checked.digest)
        reply = self.answer(checked)
        sent = SentSettlingRequest.load(draft.content_type, unwrap(message, expected=REQUESTS).body)
        judged = self.check_answer(self.answer_message(reply), sent)
        assert judged.approved
        assert not judged.open
        keep = {CT_CAP_RES: Followed.capture, CT_CRED_RES: Followed.credit}.get(sent.answer_type)
        followed = keep(judged.signed) if keep is not None else self.authorisation(self.held)
        assert keep is None or followed.h_answer == judged.digest
        return working.concluded(draft.body, judged.digest), followed

    # Row 22

    @cached_property
    def entries(self) -> tuple[Entry, ...]:
        """A day's movements: two sales, a credit for the first of them, a capture and its reversal."""
        made: list[Entry] = []
        for number, (kind, amount) in enumerate(
            [
                (EntryKind.SALE, TOTAL),
                (EntryKind.SALE, 500_000),
                (EntryKind.CREDIT, 250_000),
                (EntryKind.CAPTURE, 90_000),
                (EntryKind.CAPTURE_REVERSAL, 90_000),
            ]
        ):
            at = to_time(self.world.now - timedelta(hours=5) + number * timedelta(minutes=30))
            made.append(
                Entry(kind=kind, xid=bytes([number]) * 20, h_answer=sha256(bytes([number])), amount=amount, date=at)
            )
        return tuple(made)

    def batches(self, **changes: Any) -> Batches:
        """Batch 1 is open since half an hour after the first movement."""
        arguments: dict[str, Any] = {"newest": Batch(1, None)}
        return Batches("M-1", **(arguments | changes))

    def batch_request(self, operation: BatchOperation, batch_id: int = 1, **changes: Any) -> Draft[Any]:
        arguments: dict[str, Any] = {
            "merchant": self.world.merchant_identity,
            "gw_id": "GW-1",
            "rrpid": self.world.rng(20),
            "now": self.world.now,
        }
        return build_batch_request(operation, batch_id, **(arguments | changes))

    def closing(self, until: datetime, **changes: Any) -> Draft[Any]:
        totals = totals_of(within(self.entries, begins=None, until=until))
        return self.batch_request(BatchOperation.CLOSE, until=until, **({"totals": totals} | changes))

    def batch_message(
        self,
        draft: Draft[Any],
        *,
        signer: Credential | None = None,
        header: dict[str, Any] | None = None,
        **changes: Any,
    ) -> bytes:
        body = changed(draft.body, changes)
        data = signed(signer or self.world.shop, CT_BATCH_ADMIN_REQ, body, signing_time=changes.get("date"))
        return wrap(CT_BATCH_ADMIN_REQ, data, **({"rrpid": body.rrpid} | (header or {})))

    def receive_batch(self, message: bytes) -> Received[Any]:
        return receive_batch_request(unwrap(message, expected=[CT_BATCH_ADMIN_REQ]))

    def check_batch(self, message: bytes, batches: Batches, **changes: Any) -> CheckedBatchRequest:
        received = self.receive_batch(message)
        assert not is_batch_request_repeated(
            received,
            changes.pop("merchant", self.world.enrolled),
            batches,
            tls_merchant_id=changes.pop("tls_merchant_id", "M-1"),
        )
        arguments: dict[str, Any] = {
            "entries": self.entries,
            "gateway": self.world.gateway_identity,
            "trust": self.world.trust,
            "now": self.world.now,
        }
        return check_batch_request(received, batches, **(arguments | changes))

    def batch_answer(self, checked: CheckedBatchRequest) -> Draft[Any]:
        return build_batch_answer(checked, gateway=self.world.gateway_identity, now=self.world.now)

    def check_batch_answer(self, message: bytes, sent: SentBatchRequest, **changes: Any) -> Any:
        arguments: dict[str, Any] = {"sent": sent, "trust": self.world.trust, "now": self.world.now}
        return check_batch_answer(unwrap(message, expected=[CT_BATCH_ADMIN_RES]), **(arguments | changes))

    # Row 23

    def lines(self) -> list[AdviceLine]:
        """The day's movements as the acquirer advises them: 1000 rial a sale."""
        return [
            AdviceLine(
                kind=entry.kind,
                xid=entry.xid,
                h_answer=entry.h_answer,
                amount=entry.amount,
                fee=1000 if entry.kind is EntryKind.SALE else 0,
            )
            for entry in self.entries
        ]

    def advice(self, lines: list[AdviceLine] | None = None, **changes: Any) -> Draft[Any]:
        arguments: dict[str, Any] = {
            "merchant_id": "M-1",
            "business_date": "20260320",
            "iban": IBAN,
            "gateway": self.world.gateway_identity,
            "rrpid": self.world.rng(20),
            "now": self.world.now,
        }
        return build_settle_advice(self.lines() if lines is None else lines, **(arguments | changes))

    def check_advice(self, message: bytes, **changes: Any) -> CheckedAdvice:
        arguments: dict[str, Any] = {
            "merchant": self.world.merchant_identity,
            "gw_id": "GW-1",
            "known": None,
            "trust": self.world.trust,
            "now": self.world.now,
        }
        return check_settle_advice(unwrap(message, expected=[CT_SETTLE_ADVICE]), **(arguments | changes))

    # Everything

    def everything(self) -> tuple[Draft[Any], ...]:
        """An honest draft of each content type of rows 19 to 23."""
        standing, capture = self.done(self.capture(1_000_000), self.standing(self.held))
        credited, credit = self.done(self.credit(capture, 400_000), standing)
        made: list[Draft[Any]] = []
        for draft, book in (
            (self.capture(1000), standing),
            (self.capture_reversal(capture), standing),
            (self.auth_reversal(self.held, 1_000_000), standing),
            (self.credit(capture, 1000), standing),
            (self.credit_reversal(credit), credited),
        ):
            made += [draft, self.answer(self.check(self.message(draft), book))]
        closing = self.closing(self.world.now)
        made += [closing, self.batch_answer(self.check_batch(self.batch_message(closing), self.batches()))]
        return (*made, self.advice())


def auth_res_of(purchase: Purchase, **changes: Any) -> bytes:
    """DER of the gateway's answer to the order with other fields, to be signed."""
    body: AuthResTBS = changed(purchase.auth_res.body, changes)
    return der.encode(body)
