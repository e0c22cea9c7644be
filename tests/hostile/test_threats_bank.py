"""Threats at the line to the bank network, and against money that moves after the authorisation.

One test for each row of the threat table, named after it (`threats.yaml`).
"""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, replace
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from typing import Any, Final

import pytest
from sqlalchemy import update

from gateway.errors import NoAnswerError, StanExhaustedError
from gateway.schema import metadata, trace_numbers
from gateway.trace_numbers import business_day, next_stan, rrn_for
from gateway_keys import zone_keys
from gateway_keys.errors import ZoneKeyError
from hsm_service.vault import Vault
from kwbp.codes import ErrorCode
from kwbp.errors import ProtocolError
from kwbp.fields import VERSION, to_time
from kwbp.money import Money
from kwbp.settling import CapReqTBS, CapRevReqTBS, CredReqTBS, SettlingReq, Standing
from kwbp.settling.request import check_against_book
from pki.der import sha256
from runtime.database import open_database
from shetab import jalali
from shetab.message import Message
from shetab.types import Expiry
from tests.gateway.conftest import line, run, until
from tests.gateway.test_link import ask, sale
from tests.support.pki_factory import NOW
from tests.support.scripted_switch import ScriptedSwitch, Step
from tests.support.softhsm import provisioned_home

DAY: Final = timedelta(days=1)


def test_36_wrong_or_exchanged_zone_key(tmp_path: Path) -> None:
    """The other end of the zone has another MAC key in mid-traffic: its answers are none until it is right again.

    A key that is put together from another component is found out by its check value, before it is used at all.
    New keys are not exchanged over the line (916, 917, 919) yet.
    """

    async def scenario() -> None:
        filed: list[Message] = []

        async def file(message: Message) -> None:
            filed.append(message)

        async with ScriptedSwitch() as switch, line(switch, on_unclaimed=file) as link:
            assert (await ask(link, sale("000001")))[39] == "00"
            switch.plan("0200", Step(corrupt_mac=True))  # what a MAC under another key is to this end
            with pytest.raises(NoAnswerError):
                await ask(link, sale("000002"), within=0.3)
            assert (await ask(link, sale("000003")))[39] == "00"
            assert filed == []

        async with ScriptedSwitch(key=bytes(16)) as stranger, line(stranger, wait=False) as link:
            await until(lambda: stranger.sessions > 1)  # not even its sign-on is believed: it is tried again and again
            assert not link.signed_on

    run(scenario())

    home = provisioned_home(tmp_path)
    zone_keys.make_components(home.secrets)
    with Vault.open(home, ["gateway"]) as vault:
        zone_keys.load(vault, home.secrets)
        for which in zone_keys.ZONE_KEYS:
            component = which.files(home.secrets)[1]
            kept = component.read_bytes()
            component.unlink()
            zone_keys.make_components(home.secrets)
            with pytest.raises(ZoneKeyError, match="check value"):
                zone_keys.load(vault, home.secrets)
            component.write_bytes(kept)
        zone_keys.load(vault, home.secrets)


def test_37_reordered_answers_and_numbers_that_wrap(tmp_path: Path) -> None:
    """999999 and 000001 are under way together, answered in the other order; and one number on two days is two keys."""
    engine = open_database(tmp_path / "numbers.db")
    metadata.create_all(engine)
    with engine.begin() as connection:
        next_stan(connection, "581672", NOW)
        connection.execute(update(trace_numbers).values(last=999_998, used=10))
        numbers = [next_stan(connection, "581672", NOW) for _ in range(2)]
        assert numbers == ["999999", "000001"]
        connection.execute(update(trace_numbers).values(used=999_999))
        with pytest.raises(StanExhaustedError):  # coming round within one day would make two orders one
            next_stan(connection, "581672", NOW)
        assert next_stan(connection, "581672", NOW + DAY) == "000002"
        assert rrn_for("000002", NOW) != rrn_for("000002", NOW + DAY)
    engine.dispose()

    async def scenario() -> None:
        filed: list[Message] = []

        async def file(message: Message) -> None:
            filed.append(message)

        async with ScriptedSwitch() as switch, line(switch, on_unclaimed=file) as link:
            switch.plan("0200", Step(delay=3.0, rc="51"), Step())
            first = asyncio.create_task(ask(link, sale(numbers[0])))
            await until(lambda: [each[11] for each in switch.received if each.mti == "0200"] == numbers[:1])
            second = await ask(link, sale(numbers[1]))
            assert not first.done()
            assert (second[11], second[39]) == (numbers[1], "00")
            assert ((await first)[11], (await first)[39]) == (numbers[0], "51")
            switch.plan("0200", Step(change={13: "1123"}))  # yesterday's answer, or tomorrow's, under the same number
            with pytest.raises(NoAnswerError):
                await ask(link, sale("000003"), within=0.3)
            assert [each[13] for each in filed] == ["1123"]

    run(scenario())


# --- after the authorisation ------------------------------------------------------------------------------------------

APPROVED: Final = 100
ORDER: Final = sha256(b"AuthRes")


def asked(kind: type[SettlingReq], h_answer: bytes, amount: int) -> SettlingReq:
    """A merchant's request about the order, as the gateway has read it."""
    token: dict[str, Any] = {"cap_token": None} if kind is CapReqTBS else {}
    make: Any = kind
    made: SettlingReq = make(
        version=VERSION,
        rrpid=bytes(20),
        xid=bytes(20),
        merchant_id="M-1",
        gw_id="GW-1",
        h_answer=h_answer,
        date=to_time(NOW),
        amount=Money.rial(amount),
        **token,
    )
    return made


@dataclass
class Book:
    """The gateway's book of one order that was authorised and not captured."""

    standing: Standing
    approvals: int = 0

    def approve(self, body: SettlingReq) -> bytes:
        """Take in, and the bank says yes; the hash of the answer."""
        check_against_book(body, self.standing)
        self.approvals += 1
        h_answer = sha256(bytes([self.approvals]))
        rrpid = bytes([self.approvals]) * 20
        self.standing = self.standing.taken_in(rrpid, sha256(rrpid)).concluded(body, h_answer)
        return h_answer

    def refuses(self, body: SettlingReq) -> ErrorCode:
        before = self.standing
        with pytest.raises(ProtocolError) as caught:
            check_against_book(body, self.standing)
        assert self.standing == before
        return caught.value.code


def test_38_double_capture_or_refund_of_more_than_was_captured() -> None:
    """The gateway's bookkeeping, which every request passes; that routes send requests to it in parallel is to come."""
    book = Book(
        Standing(
            xid=bytes(20), merchant_id="M-1", h_auth_res=ORDER, approved=Money.rial(APPROVED), authorised=APPROVED,
            cap_token=None, acknowledged=True,
        )
    )  # fmt: skip
    first = book.approve(asked(CapReqTBS, ORDER, 60))
    assert book.refuses(asked(CapReqTBS, ORDER, 60)) is ErrorCode.AMOUNT_MISMATCH
    second = book.approve(asked(CapReqTBS, ORDER, 40))
    assert book.refuses(asked(CapReqTBS, ORDER, 1)) is ErrorCode.AMOUNT_MISMATCH
    book.approve(asked(CredReqTBS, first, 59))
    assert book.refuses(asked(CredReqTBS, first, 2)) is ErrorCode.AMOUNT_MISMATCH  # though the order has room for it
    assert book.refuses(asked(CapRevReqTBS, first, 60)) is ErrorCode.AMOUNT_MISMATCH  # money that was given back
    book.approve(asked(CredReqTBS, first, 1))
    assert book.refuses(asked(CredReqTBS, first, 1)) is ErrorCode.AMOUNT_MISMATCH
    assert (book.standing.captured, book.standing.refunded) == (APPROVED, 60)

    busy = asked(CredReqTBS, second, 40)  # a request whose outcome nobody knows yet holds up every other
    book.standing = book.standing.taken_in(b"\x09" * 20, sha256(b"open"))
    assert book.refuses(busy) is ErrorCode.UNKNOWN_OUTCOME
    with pytest.raises(ValueError, match="refunded"):
        replace(book.standing, authorised=APPROVED - 1)


def test_39_business_day_and_year_ends() -> None:
    """A second before and after midnight in Iran, Nowruz and New Year: one message, one day, at both ends.

    Cut-over messages and the totals of 0500 are not exchanged with the switch yet.
    """
    midnight = datetime(2026, 3, 20, 20, 30, tzinfo=UTC)  # 00:00 of 1 Farvardin 1405 in Iran
    before, after = midnight - timedelta(seconds=1), midnight
    assert (business_day(before), business_day(after)) == (date(2026, 3, 20), date(2026, 3, 21))
    assert jalali.from_gregorian(business_day(before)) == (1404, 12, 29)
    assert jalali.from_gregorian(business_day(after)) == (1405, 1, 1)
    assert [jalali.local_time_and_date(each) for each in (before, after)] == [("235959", "0320"), ("000000", "0321")]
    assert rrn_for("000001", before) != rrn_for("000001", after)

    new_year = datetime(2026, 12, 31, 20, 29, 59, tzinfo=UTC)  # 23:59:59 of 31 December in Iran
    for sent in (new_year, new_year + timedelta(seconds=1)):
        _time, day = jalali.local_time_and_date(sent)
        for read in (sent - timedelta(hours=1), sent, sent + timedelta(hours=1)):  # by a clock on the other side of it
            assert jalali.complete_date(day, read) == business_day(sent)
            assert jalali.complete_transmission_time(jalali.transmission_time(sent), read) == sent

    for year, last in ((1404, 29), (1403, 30)):  # 1403 is a leap year
        card = Expiry(f"{year % 100:02d}12")
        ends = datetime.combine(jalali.to_gregorian(year, 12, last), datetime.min.time(), UTC) + timedelta(hours=20.5)
        assert not jalali.has_expired(card, ends - timedelta(seconds=1))
        assert jalali.has_expired(card, ends + timedelta(seconds=1))
