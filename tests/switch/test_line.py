"""The line: who may sign on, what is dropped without an answer, and that nothing that comes in can stop it."""

from __future__ import annotations

import dataclasses
import os
import socket
import struct
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pytest

from runtime.settings import Home, SwitchSettings
from shetab.framing import Framing
from shetab.mac import message_mac
from shetab.message import Message
from switch.service import RunningSwitch, running
from tests.support.acquirer import ACQUIRER, Acquirer
from tests.support.iso8583_messages import response_fields
from tests.switch.conftest import OPENING, Customer, new_zone


class TestNetworkManagement:
    def test_sign_on_echo_sign_off(self, line: Acquirer, customer: Customer) -> None:
        with line:
            answers = [line.ask(line.network(code)) for code in ("001", "301")]
            assert [(answer.mti, answer[39], answer[100]) for answer in answers] == [("0810", "00", line.code)] * 2
            assert line.ask(line.sale(customer.card, 1_000))[39] == "00"
            assert line.ask(line.network("002"))[39] == "00"
            assert line.ask(line.sale(customer.card, 1_000))[39] == "92"

    def test_an_unknown_institution_does_not_sign_on(self, line: Acquirer) -> None:
        with line:
            assert line.ask(line.network("001", institution="621986"))[39] == "58"

    @pytest.mark.parametrize("code", ["201"])
    def test_what_the_simulator_does_not_do_is_refused(self, line: Acquirer, code: str) -> None:
        with line:
            assert line.ask(line.network(code))[39] == "40"

    def test_a_sign_on_is_for_its_connection_alone(self, acquirer: Acquirer, customer: Customer) -> None:
        with dataclasses.replace(acquirer, terminal="T0000002") as second:
            assert second.ask(second.sale(customer.card, 1_000))[39] == "92"
        assert acquirer.ask(acquirer.sale(customer.card, 1_000))[39] == "00"

    def test_registering_again_keeps_the_intermediary_account(self, switch: RunningSwitch, line: Acquirer) -> None:
        assert switch.admin.register_acquirer(line.code, "again") == switch.admin.intermediary(line.code)


class TestDroppedWithoutAnswer:
    """Each frame has one thing wrong; afterwards the line still works and no rial has moved."""

    @pytest.fixture(autouse=True)
    def dropped(self, switch: RunningSwitch, acquirer: Acquirer, customer: Customer) -> Iterator[dict[str, int]]:
        """What a test expects to be dropped by cause; checked, with the rest, at its end."""
        before = Counter(switch.admin.statistics()["dropped"])
        expected: dict[str, int] = {}
        yield expected
        assert acquirer.is_silent()
        assert Counter(switch.admin.statistics()["dropped"]) - before == Counter(expected)
        assert acquirer.ask(acquirer.network("301"))[39] == "00"
        assert switch.admin.account(customer.account.iban).balance == OPENING

    def test_one_bit_of_the_mac(self, dropped: dict[str, int], acquirer: Acquirer, customer: Customer) -> None:
        raw = acquirer.sealed(acquirer.sale(customer.card, 1_000))
        acquirer.send_raw(raw[:-1] + (b"0" if raw[-1:] != b"0" else b"1"))
        dropped["mac"] = 1

    def test_one_rial_after_the_mac(self, dropped: dict[str, int], acquirer: Acquirer, customer: Customer) -> None:
        raw = acquirer.sealed(acquirer.sale(customer.card, 777_000))
        assert raw.count(b"000000777000") == 1
        acquirer.send_raw(raw.replace(b"000000777000", b"000000777001"))
        dropped["mac"] = 1

    def test_another_mac_key(self, dropped: dict[str, int], acquirer: Acquirer, customer: Customer) -> None:
        request = acquirer.sale(customer.card, 1_000)
        raw = acquirer.dialect.encode(request)
        acquirer.send_raw(acquirer.dialect.with_mac(raw, message_mac(bytes(16), acquirer.dialect.mac_input(raw))))
        dropped["mac"] = 1

    def test_no_mac_yet(self, dropped: dict[str, int], acquirer: Acquirer, customer: Customer) -> None:
        acquirer.send_raw(acquirer.dialect.encode(acquirer.sale(customer.card, 1_000)))
        dropped["mac"] = 1

    @pytest.mark.parametrize("size", [1, 16, 300])
    def test_noise(self, dropped: dict[str, int], acquirer: Acquirer, customer: Customer, size: int) -> None:
        acquirer.send_raw(os.urandom(size))
        dropped["mac"] = 1

    def test_an_authentic_answer_that_nobody_asked_for(
        self, dropped: dict[str, int], acquirer: Acquirer, customer: Customer
    ) -> None:
        acquirer.send(Message("0210", response_fields()))
        dropped["dialect"] = 1

    def test_an_authentic_network_answer(self, dropped: dict[str, int], acquirer: Acquirer, customer: Customer) -> None:
        request = acquirer.network("301")
        fields = {**acquirer.dialect.echoed_fields(request), 7: request[7], 39: "00", 100: "603770"}
        acquirer.send(Message("0810", fields))
        dropped["dialect"] = 1

    def test_an_authentic_message_that_breaks_the_dialect(
        self, dropped: dict[str, int], acquirer: Acquirer, customer: Customer
    ) -> None:
        honest = acquirer.dialect.encode(acquirer.sale(customer.card, 777_000))
        raw = honest.replace(b"000000777000", b"00000077700x")
        assert raw != honest
        acquirer.send_raw(
            acquirer.dialect.with_mac(raw, message_mac(acquirer.mac_key, acquirer.dialect.mac_input(raw)))
        )
        dropped["dialect"] = 1


class TestFrames:
    @pytest.mark.parametrize("prefix", [0, 9_000, 65_535])
    def test_a_length_that_cannot_be_closes_the_connection_and_no_other(
        self, switch: RunningSwitch, acquirer: Acquirer, prefix: int
    ) -> None:
        with socket.create_connection((switch.host, switch.port), timeout=10) as other:
            other.sendall(struct.pack(">H", prefix))
            assert other.recv(1) == b""
        assert acquirer.ask(acquirer.network("301"))[39] == "00"

    def test_a_message_in_pieces_and_two_in_one(self, acquirer: Acquirer) -> None:
        frames = b"".join(acquirer.framing.frame(acquirer.sealed(acquirer.network("301"))) for _ in range(2))
        for at in range(0, len(frames), 7):
            acquirer._socket.sendall(frames[at : at + 7])
        assert [acquirer.receive().mti for _ in range(2)] == ["0810", "0810"]

    def test_half_a_message_and_gone(self, switch: RunningSwitch, acquirer: Acquirer) -> None:
        with socket.create_connection((switch.host, switch.port), timeout=10) as other:
            other.sendall(struct.pack(">H", 100) + b"0200")
        assert acquirer.ask(acquirer.network("301"))[39] == "00"

    def test_four_byte_prefix(self, tmp_path: Path) -> None:
        other = new_zone(Home(tmp_path))
        settings = SwitchSettings(port=0, admin_port=0, length_prefix=4)
        with (
            running(other.home, settings, acquirers=(ACQUIRER,)) as switch,
            Acquirer(switch.host, switch.port, other.pin_key, other.mac_key, framing=Framing(4)) as acquirer,
        ):
            acquirer.sign_on()


def test_the_network_may_break(switch: RunningSwitch, acquirer: Acquirer) -> None:
    switch.admin.break_connections()
    with pytest.raises(ConnectionError):
        acquirer.receive_raw()
    with acquirer as again:
        again.sign_on()
