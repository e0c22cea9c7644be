"""The properties can be broken: with one guard of the product switched off, an attack succeeds and is seen.

Each guard has an attack that it is there for. The attack is played twice on the same parties: as the product is, where
it comes to nothing, and with that one guard off, where the property named must break. So a check that no longer bites,
an attack that no longer reaches it, and a property that sees nothing all make a test fail.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from typing import Any
from unittest import mock

import pytest
from hypothesis import HealthCheck, Phase, settings
from hypothesis.stateful import run_state_machine_as_test
from sqlalchemy import delete

from gateway.acknowledgement import Acknowledgement
from gateway.authorization import Authorization
from gateway.links.intake import Intake
from gateway.schema import orders
from gateway.store import OrderStore
from kwbp import fields
from kwbp.codes import AuthCode, CompletionCode, ErrorCode, PurchaseStatus
from kwbp.common import instant, require
from kwbp.gateway import GatewayIdentity, build_auth_res, receive_auth_req
from kwbp.inquiry.messages import InqReqTBS, InqResTBS
from kwbp.messages import AuthAckTBS, ReceiptTBS
from kwbp.money import Money
from kwbp.wrapper import unwrap, wrap
from pki import oids
from pki.der import sha256
from shetab.dialect import Dialect
from shetab.message import Message
from tests.hostile.agreement.attack import Attack
from tests.hostile.agreement.cast import ADDRESS, ARTICLE, SKU, cast
from tests.hostile.agreement.disk import LoopWriter
from tests.hostile.agreement.network import ACK, AUTH, INQUIRY, Call
from tests.hostile.agreement.properties import Dishonest, PropertyBrokenError, check_always, check_secrecy, finish
from tests.hostile.agreement.site import ACK_TIMEOUT, ANSWER_TIMEOUT, Bought, Site
from tests.hostile.agreement.test_agreement import AgreementMachine

Switched = Callable[[], AbstractContextManager[Any]]


@dataclass(frozen=True)
class Guard:
    """A guard of the product, what its absence is, the attack that it stops, and the property that breaks then."""

    name: str
    off: Switched
    dishonest: Dishonest
    attack: Callable[[Attack], None]
    breaks: str


# --- switching off ----------------------------------------------------------------------------------------------------


def unchecked(module: str, *, checks: tuple[str, ...] = (), codes: tuple[ErrorCode, ...] = ()) -> Switched:
    """The comparisons of these checks (or codes) of a module of the core are not made."""

    def lenient(condition: bool, code: ErrorCode, check: str, detail: str) -> None:
        if check not in checks and code not in codes:
            require(condition, code, check, detail)

    return lambda: mock.patch(f"{module}.require", lenient)


def refusals_that_pass_are_final() -> AbstractContextManager[Any]:
    """The wallet takes any signed refusal for the end."""
    end = frozenset({ErrorCode.UNSPECIFIED_FAILURE, ErrorCode.UNKNOWN_OUTCOME, ErrorCode.ACK_TIMEOUT})
    return mock.patch("storefront.wallet.purchase._OPEN", end)


@contextmanager
def orders_not_looked_up() -> Iterator[None]:
    """The gateway takes every AuthReq for the first one of its XID (G3)."""
    receive = OrderStore.receive

    async def once_more(self: Authorization, received: Any, merchant: Any) -> bytes:
        return await self._run(received, merchant, None)

    async def replaced(self: OrderStore, order: Any, now: datetime) -> Any:
        await self.writer.run(
            lambda connection: connection.execute(delete(orders).where(orders.c.xid == order.key.xid))
        )
        return await receive(self, order, now)

    with mock.patch.object(Authorization, "_once", once_more), mock.patch.object(OrderStore, "receive", replaced):
        yield


@contextmanager
def answers_not_matched() -> Iterator[None]:
    """Any answer of the switch is taken for that to the request in flight."""
    with (
        mock.patch.object(Dialect, "match_key", lambda self, message: (self.original_mti(message.mti),)),
        mock.patch.object(Dialect, "check_echo", return_value=None),
    ):
        yield


def mac_not_verified() -> AbstractContextManager[Any]:
    """What comes over the line is believed."""

    async def believed(self: Intake, raw: bytes, message: Message) -> bool:
        return True

    return mock.patch.object(Intake, "_authentic", believed)


def no_ack_clock() -> AbstractContextManager[Any]:
    """An approval that nobody acknowledges stays."""
    return mock.patch.object(OrderStore, "unacknowledged", return_value=[])


def nothing_recovered() -> AbstractContextManager[Any]:
    """A gateway that starts again leaves an order that was SENT as it is."""

    async def nothing(self: OrderStore, now: datetime, which: Any) -> list[Any]:
        return []

    return mock.patch.object(OrderStore, "_lost", nothing)


def reversal_sent_once() -> AbstractContextManager[Any]:
    """A reversal that was not answered is not repeated."""
    begin = OrderStore.claim_reversal

    async def for_the_last_time(self: OrderStore, order: Any, next_at: datetime) -> Any:
        return await begin(self, order, next_at + timedelta(days=30))

    return mock.patch.object(OrderStore, "claim_reversal", for_the_last_time)


def refused_by_the_clock() -> AbstractContextManager[Any]:
    """An AuthAck that is late by the clock is refused, whatever else is on its way to the disk."""

    async def late(self: Acknowledgement, late: Exception, key: Any, message: Any, now: datetime) -> None:
        raise late

    return mock.patch.object(Acknowledgement, "_too_late", late)


# --- attacks ----------------------------------------------------------------------------------------------------------


def ordered(attack: Attack, buyer: int = 0, merchant: int = 0) -> Bought:
    """A purchase of which the merchant's AuthReq waits in the network."""
    bought = attack.buy(buyer, merchant)
    assert bought is not None
    attack.site.order(bought)
    assert waiting(attack, AUTH).path == AUTH
    return bought


def waiting(attack: Attack, path: str) -> Call:
    """The newest message on this way."""
    return next(call for call in reversed(attack.network.calls) if call.path == path)


def newest(attack: Attack, kind: Any) -> Any:
    """The newest signed object of a kind."""
    return attack.network.pieces.signed[kind][-1]


def forged(attack: Attack, kind: Any, body: Any) -> bytes:
    """A message of the dishonest party."""
    signed = attack.forger.signed(kind, body)
    assert signed is not None
    return wrap(kind, signed, rrpid=body.rrpid, xid=body.xid)


def passed_on(attack: Attack) -> None:
    """What is on the line to the switch gets there, and the answers back."""
    while attack.line.requests:
        attack.pass_request(0)


def more_is_collected(attack: Attack) -> None:
    """M-2 asks for one rial more than was signed."""
    ordered(attack, 0, 1)
    body = newest(attack, oids.CT_AUTH_REQ).body
    attack.put(forged(attack, oids.CT_AUTH_REQ, replace(body, amount=Money.rial(body.amount.amount + 1))), 1)
    passed_on(attack)


def another_merchant_collects(attack: Attack) -> None:
    """M-2 puts its own AuthReq around what a buyer ordered of M-1."""
    ordered(attack, 0, 0)
    body = newest(attack, oids.CT_AUTH_REQ).body
    attack.put(forged(attack, oids.CT_AUTH_REQ, replace(body, merchant_id="M-2", terminal_id="T0000002")), 1)
    passed_on(attack)


def the_same_again(attack: Attack) -> None:
    """One AuthReq, put to the gateway twice."""
    ordered(attack)
    message = waiting(attack, AUTH).body
    for _ in range(2):
        attack.put(message, 0)
        passed_on(attack)


def answer_is_lost(attack: Attack) -> None:
    """The merchant does not learn that it was paid."""
    ordered(attack)
    attack.deliver(0, passes=False)
    passed_on(attack)
    attack.wait(ACK_TIMEOUT + 5)


def answer_of_another_order(attack: Attack) -> None:
    """The approval of one order is given to the merchant for the answer to another."""
    ordered(attack)
    attack.let_through()
    approval = newest(attack, oids.CT_AUTH_RES)
    ordered(attack)
    message = wrap(oids.CT_AUTH_RES, approval.der, rrpid=approval.body.rrpid, xid=approval.body.xid)
    waiting(attack, AUTH).give(message)
    attack.site.settle()


def answer_of_another_gateway(attack: Attack) -> None:
    """GW-2 approves an order that names GW-1."""
    ordered(attack)
    call = waiting(attack, AUTH)
    honest = GatewayIdentity.of(cast().gateway_encryption["GW-1"].certificate)
    now = attack.site.now()
    received = receive_auth_req(unwrap(call.body, expected=(oids.CT_AUTH_REQ,)))
    ack_by = now + timedelta(seconds=60)
    declined = build_auth_res(received, gateway=honest, auth_code=AuthCode.DECLINED, now=now, ack_by=ack_by)
    body = replace(
        declined.body, auth_code=AuthCode.APPROVED, rc="00", stan="000001", rrn="608012000001",
        masked_pan=cast().buyers["B-1"].issued.masked_pan,
    )  # fmt: skip
    call.give(forged(attack, oids.CT_AUTH_RES, body))
    attack.site.settle()


def receipt_with_another_answer(attack: Attack) -> None:
    """M-2 shows the approval of an earlier order in the receipt of one that it never had collected."""
    ordered(attack, 0, 1)
    attack.let_through()
    approval = newest(attack, oids.CT_AUTH_RES)
    bought = ordered(attack, 0, 1)
    order = attack.network.pieces.purchases[-1]
    body = ReceiptTBS(
        version=fields.VERSION,
        rrpid=order.oi_data.rrpid,
        xid=order.oi_data.xid,
        chall_c=order.oi_data.chall_c,
        h_oi_data=newest(attack, oids.CT_DUAL_SIGNATURE).body.h_oi_data,
        completion_code=CompletionCode.CAPTURE_PERFORMED,
        particulars_ok=True,
        reason=None,
        auth_res=approval.der,
        date=fields.to_time(attack.site.now()),
    )
    receipt = forged(attack, oids.CT_RECEIPT, body)
    attack.site.resume(bought, lambda message: receipt)


def another_merchant_acknowledges(attack: Attack) -> None:
    """M-2 acknowledges the approval that M-1 never got."""
    ordered(attack)
    attack.deliver(0, passes=False)
    passed_on(attack)
    approval = newest(attack, oids.CT_AUTH_RES)
    body = AuthAckTBS(
        version=fields.VERSION,
        rrpid=approval.body.rrpid,
        xid=approval.body.xid,
        merchant_id="M-1",
        h_auth_res=sha256(approval.der),
        accepted=True,
        date=fields.to_time(attack.site.now()),
    )
    attack.put(forged(attack, oids.CT_AUTH_ACK, body), 0)
    attack.wait(ACK_TIMEOUT + 5)


def approval_on_the_line(attack: Attack) -> None:
    """Somebody on the line answers in the issuer's name, with a MAC of some other key."""
    ordered(attack)
    attack.deliver(0)
    attack.forge_on_the_line(0, 0)


def approval_of_another_sale(attack: Attack) -> None:
    """The issuer's approval of one sale is sent again while another is in flight."""
    ordered(attack)
    attack.let_through()
    approval = next(frame for frame in attack.line.seen if frame.startswith(b"0210"))
    ordered(attack)
    attack.deliver(0)
    attack.line.to_gateway(approval)
    attack.site.settle()


def killed_while_the_switch_answers(attack: Attack) -> None:
    """The gateway loses power between the 0200 and its answer."""
    ordered(attack)
    attack.deliver(0)
    attack.pass_request(0, passes=False)
    attack.kill(0)


def reversal_is_lost(attack: Attack) -> None:
    """The 0200 is lost, and then the 0420."""
    ordered(attack)
    attack.deliver(0)
    attack.drop_request(0)
    attack.wait(ANSWER_TIMEOUT + 1)
    attack.drop_request(0)


def given_back_by_another_gateway(attack: Attack) -> None:
    """GW-2 says of an open order that the money is back, while it is not."""
    ordered(attack)
    attack.deliver(0)
    attack.pass_request(0, passes=False)
    attack.wait(ANSWER_TIMEOUT + 1)
    call = waiting(attack, INQUIRY)
    asked: InqReqTBS = newest(attack, oids.CT_INQ_REQ).body
    answer = newest(attack, oids.CT_AUTH_RES)
    body = InqResTBS(
        version=fields.VERSION,
        rrpid=asked.rrpid,
        xid=asked.xid,
        merchant_id=asked.merchant_id,
        chall=asked.chall,
        h_inq_req=sha256(newest(attack, oids.CT_INQ_REQ).der),
        status=PurchaseStatus.REVERSED,
        result=wrap(oids.CT_AUTH_RES, answer.der, rrpid=answer.body.rrpid, xid=answer.body.xid),
        gateway_status=None,
        date=fields.to_time(attack.site.now()),
    )
    call.give(forged(attack, oids.CT_INQ_RES, body))
    attack.site.settle()


def two_acknowledgements_at_the_deadline(attack: Attack) -> None:
    """One copy of AuthAck is in time and waits for a slow disk; the other comes when ackBy has passed."""
    ordered(attack)
    attack.deliver(0)
    passed_on(attack)
    message = waiting(attack, ACK).body
    ack_by = instant(newest(attack, oids.CT_AUTH_RES).body.ack_by)
    attack.wait((ack_by - attack.site.now()).total_seconds() - 1)
    LoopWriter.latency = 2.0
    attack.site.loop.create_task(attack.network.ask("M-1", ACK, message))
    attack.wait(1.5)
    attack.site.loop.create_task(attack.network.deliver(waiting(attack, ACK), passes=True))
    attack.wait(10)
    LoopWriter.latency = 0.0


def refused_then_taken(attack: Attack) -> None:
    """The merchant refuses an order while it cannot judge certificates; a copy of the order comes when it can."""
    bought = attack.buy(0, 0)
    assert bought is not None
    attack.keep_from_repository(1, away=True)
    attack.site.order(bought)
    attack.keep_from_repository(1, away=False)
    attack.put(attack.network.pieces.of_types(frozenset({oids.MT_PREQ}))[-1], 0)


GUARDS = (
    Guard(
        "G5 and G7: the amount is what invoice and buyer say",
        unchecked("kwbp.gateway.request", codes=(ErrorCode.AMOUNT_MISMATCH,)),
        Dishonest.MERCHANT, more_is_collected, "i",
    ),
    Guard(
        "G5 and G7: merchant, certificate and invoice are what the buyer signed",
        unchecked("kwbp.gateway.request", codes=(ErrorCode.INVOICE_MISMATCH,)),
        Dishonest.MERCHANT, another_merchant_collects, "i",
    ),
    Guard("G3: one order, one run", orders_not_looked_up, Dishonest.NOBODY, the_same_again, "i"),
    Guard("B3: the clock of AuthAck", no_ack_clock, Dishonest.NOBODY, answer_is_lost, "v"),
    Guard(
        "A1 to A4: the answer is about this request",
        unchecked("kwbp.merchant.authorisation", checks=("A1", "A2", "A3", "A4")),
        Dishonest.NOBODY, answer_of_another_order, "ii",
    ),
    Guard(
        "A6: the answer is of the gateway that the invoice names",
        unchecked("kwbp.merchant.authorisation", checks=("A6",)),
        Dishonest.GATEWAY, answer_of_another_gateway, "ii",
    ),
    Guard(
        "R5: the gateway's answer in a receipt is about this purchase",
        unchecked("kwbp.wallet.receipt", checks=("R5",)),
        Dishonest.MERCHANT, receipt_with_another_answer, "iii",
    ),
    Guard(
        "B1: the merchant of the order acknowledges",
        unchecked("kwbp.gateway.answer", checks=("B1",)),
        Dishonest.MERCHANT, another_merchant_acknowledges, "v",
    ),
    Guard("the MAC of the line", mac_not_verified, Dishonest.NOBODY, approval_on_the_line, "ii"),
    Guard("answers are matched", answers_not_matched, Dishonest.NOBODY, approval_of_another_sale, "ii"),
    Guard("SENT becomes UNKNOWN", nothing_recovered, Dishonest.NOBODY, killed_while_the_switch_answers, "v"),
    Guard("reversals are repeated", reversal_sent_once, Dishonest.NOBODY, reversal_is_lost, "v"),
    Guard(
        "U2: the gateway that the invoice names says where the money is",
        unchecked("kwbp.inquiry.answer", checks=("U2",)),
        Dishonest.GATEWAY, given_back_by_another_gateway, "i",
    ),
    Guard(
        "late by the clock only after the reversal is queued", refused_by_the_clock, Dishonest.NOBODY,
        two_acknowledgements_at_the_deadline, "v",
    ),
    Guard(
        "a refusal for a cause that passes leaves an order open", refusals_that_pass_are_final, Dishonest.NOBODY,
        refused_then_taken, "i",
    ),
)  # fmt: skip


def played(guard: Guard, rounds: int) -> None:
    """The attack, then the end of the run, with all properties asked for."""
    with Site() as site:
        guard.attack(Attack(site, guard.dishonest))
        check_always(site, guard.dishonest)
        finish(site, guard.dishonest, rounds=rounds)


@pytest.mark.parametrize("guard", GUARDS, ids=lambda guard: guard.name)
def test_attack_comes_to_nothing(guard: Guard) -> None:
    played(guard, rounds=14)


@pytest.mark.parametrize("guard", GUARDS, ids=lambda guard: guard.name)
def test_attack_succeeds_without_its_guard_and_is_seen(guard: Guard) -> None:
    with guard.off(), pytest.raises(PropertyBrokenError) as broken:
        played(guard, rounds=8)
    assert broken.value.name == guard.breaks, str(broken.value)
    assert "orders" in str(broken.value)  # the story is told


def test_the_machine_finds_by_itself_what_a_missing_guard_lets_happen() -> None:
    """No script: the moves that break the property are found by drawing them."""

    class Machine(AgreementMachine):
        pass

    profile = settings(
        max_examples=40,
        stateful_step_count=25,
        derandomize=True,
        database=None,
        deadline=None,
        report_multiple_bugs=False,
        suppress_health_check=list(HealthCheck),
        phases=(Phase.generate,),
    )
    with orders_not_looked_up(), pytest.raises(PropertyBrokenError):
        run_state_machine_as_test(Machine, settings=profile)


def test_what_must_stay_secret_is_found_wherever_it_is() -> None:
    """(iv) has no guard to switch off, so its search is given something to find in each place that it looks at."""
    issued = cast().buyers["B-1"].issued
    pan, pin2 = issued.pan.reveal().encode(), issued.pin2.reveal().encode()
    beside = b"x" + issued.expiry.reveal().encode() + b";" + issued.cvv2.reveal().encode() + b"x"
    with Site() as site:
        attack = Attack(site, Dishonest.NOBODY)
        ordered(attack)
        attack.let_through()
        check_secrecy(site, Dishonest.NOBODY)
        wires, frames = site.network.pieces.messages, site.line.seen
        planted = [(wires, pan), (wires, pin2), (wires, beside), (frames, pin2), (frames, ARTICLE.encode())]
        for place, secret in planted:
            place.append(secret)
            with pytest.raises(PropertyBrokenError, match=r"(are|is) in"):
                check_secrecy(site, Dishonest.NOBODY)
            place.remove(secret)
        site.journal.entries.append({"detail": ADDRESS})
        with pytest.raises(PropertyBrokenError, match="order lines are in the gateway's journal"):
            check_secrecy(site, Dishonest.NOBODY)
        site.journal.entries.pop()
        for name, secret in (("M-1", pan), ("gateway", pan), ("bank", SKU.encode())):
            file = site.folder / f"{name}.sqlite-planted"
            file.write_bytes(b"row" + secret)
            with pytest.raises(PropertyBrokenError, match="are in"):
                check_secrecy(site, Dishonest.NOBODY)
            file.unlink()
        check_secrecy(site, Dishonest.NOBODY)
