"""The line to the switch believes an answer only if its MAC, its form, its key and its echo are right."""

from __future__ import annotations

import asyncio

import pytest

from gateway.errors import LinkDownError, NoAnswerError
from gateway.links.link import SwitchLink
from shetab.errors import ShetabError
from shetab.mac import message_mac
from shetab.message import Message
from tests.gateway.conftest import line, run, until
from tests.support.iso8583_messages import PAN, request_fields
from tests.support.scripted_switch import DIALECT, MAC_KEY, ScriptedSwitch, SoftwareMac, Step, answer_to

SALE = Message("0200", request_fields())


def sale(stan: str) -> Message:
    return Message("0200", {**request_fields(), 11: stan, 37: f"000000{stan}"})


async def ask(link: SwitchLink, message: Message = SALE, within: float = 10.0) -> Message:
    return await link.exchange(message, await link.authenticate(message), within)


async def no_answer(link: SwitchLink) -> None:
    """The request runs into its deadline although something came."""
    with pytest.raises(NoAnswerError):
        await ask(link, within=0.3)


def test_it_signs_on_before_anything_else() -> None:
    async def scenario() -> None:
        async with ScriptedSwitch() as switch, line(switch):
            (sign_on,) = switch.received
            assert (sign_on.mti, sign_on[70]) == ("0800", "001")

    run(scenario())


def test_a_request_gets_its_answer() -> None:
    async def scenario() -> None:
        async with ScriptedSwitch() as switch, line(switch) as link:
            answer = await ask(link)
            assert (answer.mti, answer[39], answer[38]) == ("0210", "00", "A12345")

    run(scenario())


def test_answers_that_come_in_another_order_find_their_requests() -> None:
    async def scenario() -> None:
        async with ScriptedSwitch() as switch, line(switch) as link:
            switch.plan("0200", Step(delay=0.2, rc="51"), Step(delay=0.1, rc="55"), Step(rc="00"))
            sales = [sale("000001"), sale("000002"), sale("000003")]
            answers = await asyncio.gather(*(ask(link, message) for message in sales))
            assert [(answer[11], answer[39]) for answer in answers] == [
                ("000001", "51"),
                ("000002", "55"),
                ("000003", "00"),
            ]

    run(scenario())


def test_two_messages_with_one_key_are_never_in_flight() -> None:
    async def scenario() -> None:
        async with ScriptedSwitch() as switch, line(switch) as link:
            switch.plan("0200", Step(delay=0.3))
            first = asyncio.create_task(ask(link))
            await until(lambda: switch.count("0200") == 1)
            with pytest.raises(LinkDownError):
                await ask(link)
            assert (await first)[39] == "00"
            assert switch.count("0200") == 1

    run(scenario())


def test_nothing_is_sent_while_the_line_is_down() -> None:
    async def scenario() -> None:
        async with ScriptedSwitch() as switch:
            switch.always("0800", Step(drop=True))
            async with line(switch, wait=False, management_timeout=0.05) as link:
                with pytest.raises(LinkDownError):
                    await ask(link)
            assert switch.count("0200") == 0

    run(scenario())


def test_an_answer_with_a_wrong_mac_is_as_good_as_none() -> None:
    async def scenario() -> None:
        filed: list[Message] = []

        async def file(message: Message) -> None:
            filed.append(message)

        async with ScriptedSwitch() as switch, line(switch, on_unclaimed=file) as link:
            switch.plan("0200", Step(corrupt_mac=True))
            await no_answer(link)
            assert filed == []
            assert (await ask(link))[39] == "00"  # the line itself lives on

    run(scenario())


@pytest.mark.parametrize(
    "junk",
    [b"", b"hello", b"0210" + b"0" * 16, b"\xff" * 100, b"0210" + b"F" * 32 + b"0" * 40],
    ids=["empty", "text", "without MAC bit", "binary", "bitmaps that promise too much"],
)
def test_junk_is_dropped_and_the_line_lives_on(junk: bytes) -> None:
    async def scenario() -> None:
        async with ScriptedSwitch() as switch, line(switch) as link:
            switch.plan("0200", Step(junk=junk) if junk else Step(hang_up=True))
            await no_answer(link)
            await until(lambda: link.signed_on)
            assert (await ask(link))[39] == "00"

    run(scenario())


def test_a_right_mac_does_not_make_a_wrong_form_right() -> None:
    async def scenario() -> None:
        async with ScriptedSwitch() as switch, line(switch) as link:
            raw = DIALECT.encode(answer_to(SALE, Step()))
            covered = DIALECT.mac_input(raw).replace(b"Bookshop", b"\xd8\xa8ookshp")
            broken = covered + message_mac(MAC_KEY, covered).hex().upper().encode()
            switch.plan("0200", Step(junk=broken))
            await no_answer(link)
            assert (await ask(link))[39] == "00"

    run(scenario())


@pytest.mark.parametrize(
    ("field", "value"),
    [
        (2, "6219861000000009"),
        (3, "200000"),
        (4, "000000150001"),
        (42, "M2".ljust(15)),
        (43, "Other shop".ljust(40)),
    ],
)
def test_an_answer_that_does_not_repeat_its_request_is_filed_not_believed(field: int, value: str) -> None:
    async def scenario() -> None:
        filed: list[Message] = []

        async def file(message: Message) -> None:
            filed.append(message)

        async with ScriptedSwitch() as switch, line(switch, on_unclaimed=file) as link:
            switch.plan("0200", Step(change={field: value}))
            await no_answer(link)
            assert [message[field] for message in filed] == [value]

    run(scenario())


@pytest.mark.parametrize(
    ("field", "value"),
    [
        (11, "000043"),
        (12, "140046"),
        (13, "1123"),
        (32, "603799"),
        (37, "000000000043"),
        (41, "T0000002"),
    ],
)
def test_an_answer_with_another_key_is_nobodys(field: int, value: str) -> None:
    async def scenario() -> None:
        filed: list[Message] = []

        async def file(message: Message) -> None:
            filed.append(message)

        async with ScriptedSwitch() as switch, line(switch, on_unclaimed=file) as link:
            switch.plan("0200", Step(change={field: value}))
            await no_answer(link)
            assert len(filed) == 1

    run(scenario())


def test_late_and_repeated_answers_are_filed() -> None:
    async def scenario() -> None:
        filed: list[Message] = []

        async def file(message: Message) -> None:
            filed.append(message)

        async with ScriptedSwitch() as switch, line(switch, on_unclaimed=file) as link:
            switch.plan("0200", Step(delay=0.3), Step(copies=3))
            with pytest.raises(NoAnswerError):
                await ask(link, sale("000001"), within=0.05)
            assert (await ask(link, sale("000002")))[39] == "00"
            await until(lambda: len(filed) == 3)
            assert sorted(message[11] for message in filed) == ["000001", "000002", "000002"]

    run(scenario())


def test_requests_in_flight_are_told_when_the_connection_breaks() -> None:
    async def scenario() -> None:
        async with ScriptedSwitch() as switch, line(switch) as link:
            switch.plan("0200", Step(hang_up=True))
            with pytest.raises(NoAnswerError, match="broke"):
                await ask(link, within=60)

    run(scenario())


def test_it_comes_back_and_signs_on_again() -> None:
    async def scenario() -> None:
        switch = ScriptedSwitch()
        await switch.open()
        async with line(switch) as link:
            await switch.close()
            await until(lambda: not link.signed_on)
            again = ScriptedSwitch(port=switch.port)
            await again.open()
            await until(lambda: link.signed_on)
            assert [message[70] for message in again.received] == ["001"]
            assert (await ask(link))[39] == "00"
            await again.close()

    run(scenario())


def test_a_switch_that_refuses_the_sign_on_gets_no_payments() -> None:
    async def scenario() -> None:
        async with ScriptedSwitch() as switch:
            switch.plan("0800", Step(rc="91"), Step(rc="91"))
            async with line(switch, wait=False) as link:
                await until(lambda: switch.count("0800") >= 3)
                await until(lambda: link.signed_on)
            assert switch.sessions == 3

    run(scenario())


def test_an_idle_line_is_kept_alive_by_echoes() -> None:
    async def scenario() -> None:
        async with ScriptedSwitch() as switch, line(switch, echo_interval=0.02):
            await until(lambda: sum(message[70] == "301" for message in switch.of("0800")) >= 3)
            assert switch.sessions == 1

    run(scenario())


def test_an_unanswered_echo_ends_the_connection() -> None:
    async def scenario() -> None:
        async with ScriptedSwitch() as switch:
            switch.plan("0800", Step(), Step(drop=True))
            async with line(switch, echo_interval=0.02, management_timeout=0.05):
                await until(lambda: switch.sessions >= 2)  # or more, where answers are slow

    run(scenario())


def test_a_connection_that_breaks_during_an_echo_is_noticed_at_once() -> None:
    """Not at the echo's deadline: until then payments would be written into the void."""

    async def scenario() -> None:
        async with ScriptedSwitch() as switch:
            switch.plan("0800", Step(), Step(hang_up=True))
            async with line(switch, echo_interval=0.05, management_timeout=600):
                await until(lambda: switch.sessions == 2)

    run(scenario())


def test_it_answers_an_echo_of_the_switch() -> None:
    async def scenario() -> None:
        async with ScriptedSwitch() as switch, line(switch):
            times = {7: "0321120000", 12: "153000", 13: "0321"}
            await switch.send(Message("0800", {**times, 11: "000007", 33: "581672000", 70: "301"}))
            await switch.send(Message("0800", {**times, 11: "000008", 33: "581672000", 70: "201"}))
            await until(lambda: switch.count("0810") == 2)
            answers = {message[11]: message for message in switch.of("0810")}
            assert answers["000007"][39] == "00"
            assert answers["000008"][39] == "40"  # a cut-over is not served: say so, do not pretend

    run(scenario())


def test_it_answers_an_echo_of_the_switch_that_has_the_number_of_ours_by_chance() -> None:
    """Both ends number by themselves, and one of our own may be under way that was sent in the same second."""

    async def scenario() -> None:
        async with ScriptedSwitch() as switch:
            switch.plan("0800", Step(), Step(drop=True))
            async with line(switch, echo_interval=0.05, management_timeout=3) as link:
                await until(lambda: switch.count("0800") == 2)
                ours = switch.of("0800")[-1]
                assert ours[70] == "301"
                theirs = Message("0800", {**ours.fields, 33: "581672000"})
                await switch.send(Message("0800", {each: theirs[each] for each in (7, 11, 12, 13, 33, 70)}))
                await until(lambda: switch.count("0810") == 1)
                assert switch.of("0810")[0][11] == ours[11]
                assert link.lines()[0].refused == 0

    run(scenario())


def test_it_signs_off_when_it_stops() -> None:
    async def scenario() -> None:
        async with ScriptedSwitch() as switch:
            async with line(switch):
                pass
            assert switch.received[-1][70] == "002"

    run(scenario())


def test_a_stream_out_of_step_is_closed() -> None:
    async def scenario() -> None:
        async with ScriptedSwitch() as switch, line(switch):
            switch._writers[-1].write(b"\xff\xff")  # a length beyond the limit
            await until(lambda: switch.sessions == 2)

    run(scenario())


def test_the_token_is_asked_before_a_message_means_anything() -> None:
    """A MAC that does not verify hides even what kind of message came: nothing is answered, filed or told."""

    async def scenario() -> None:
        asked: list[bytes] = []

        async with ScriptedSwitch() as switch, line(switch) as link:

            async def refuse(data: bytes, _mac: bytes) -> bool:
                asked.append(data)
                return False

            link._keys.verify_mac = refuse  # type: ignore[method-assign]  # the subject is the order of checks
            await no_answer(link)
            assert len(asked) == 1
            assert asked[0].startswith(b"0210")

    run(scenario())


def test_what_has_no_form_costs_no_call_of_the_token() -> None:
    async def scenario() -> None:
        asked: list[bytes] = []

        class Counting(SoftwareMac):
            async def verify_mac(self, data: bytes, mac: bytes) -> bool:
                asked.append(data)
                return await super().verify_mac(data, mac)

        async with ScriptedSwitch() as switch, line(switch, mac=Counting()) as link:
            asked.clear()
            for junk in (b"0210" + b"F" * 32, b"0210" + b"0" * 15 + b"1" + b"A" * 16, b"\x00" * 50):
                switch.plan("0200", Step(junk=junk))
                await no_answer(link)
            assert asked == []
            assert (await ask(link))[39] == "00"

    run(scenario())


def test_a_failing_token_fails_the_request_before_it_is_sent() -> None:
    async def scenario() -> None:
        async with ScriptedSwitch() as switch, line(switch) as link:

            async def fail(_data: bytes) -> bytes:
                raise ConnectionError("the key service is away")

            link._keys.mac = fail  # type: ignore[method-assign]  # stands for a key service that is away
            with pytest.raises(ConnectionError):
                await link.authenticate(SALE)
            assert switch.count("0200") == 0

    run(scenario())


def test_what_breaks_the_dialect_is_never_sent_and_never_shown() -> None:
    async def scenario() -> None:
        async with ScriptedSwitch() as switch, line(switch) as link:
            with pytest.raises(ShetabError) as refused:
                await link.authenticate(Message("0200", {**request_fields(), 4: "15x"}))
            assert PAN not in str(refused.value)
            assert switch.count("0200") == 0

    run(scenario())


def test_the_answer_helper_of_these_tests_keeps_to_the_tables() -> None:
    assert answer_to(SALE, Step())[37] == SALE[37]
