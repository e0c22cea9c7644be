"""The line of ours does to bytes what it says, to whole messages where there are any."""

from __future__ import annotations

import socket
import threading
from collections.abc import Iterator
from contextlib import suppress
from random import Random

import pytest

from tests.faults.payments.wire import Fault, Wire
from tests.support.ports import free_port


@pytest.fixture
def echo() -> Iterator[int]:
    """A service that sends back what comes."""
    listening = socket.create_server(("127.0.0.1", 0))

    def serve() -> None:
        with suppress(OSError):
            while True:
                line = listening.accept()[0]
                threading.Thread(target=answer, args=(line,), daemon=True).start()

    def answer(line: socket.socket) -> None:
        with suppress(OSError), line:
            while data := line.recv(4096):
                line.sendall(data)

    threading.Thread(target=serve, daemon=True).start()
    yield listening.getsockname()[1]
    listening.close()


@pytest.fixture
def wire(echo: int) -> Iterator[Wire]:
    with Wire.between(echo, frames=2, random=Random(3)) as wire:
        yield wire


def frame(text: bytes) -> bytes:
    return len(text).to_bytes(2) + text


def connect(wire: Wire) -> socket.socket:
    return socket.create_connection(("127.0.0.1", wire.port), timeout=20)


def received(line: socket.socket) -> bytes:
    prefix = line.recv(2, socket.MSG_WAITALL)
    return line.recv(int.from_bytes(prefix), socket.MSG_WAITALL)


def exchanged(line: socket.socket, text: bytes) -> bytes:
    line.sendall(frame(text))
    return received(line)


def test_a_sound_line_changes_nothing(wire: Wire) -> None:
    with connect(wire) as line:
        assert exchanged(line, b"hello") == b"hello"
        line.shutdown(socket.SHUT_WR)
        assert line.recv(1) == b""
    assert not wire.done


def test_a_message_comes_twice_each_way(wire: Wire) -> None:
    with connect(wire) as line:
        wire.fault = Fault.REPEAT
        line.sendall(frame(b"hello"))
        assert [received(line) for _ in range(4)] == [b"hello"] * 4
    assert wire.done[Fault.REPEAT] == 3


def test_a_late_message_is_the_same_message(wire: Wire) -> None:
    with connect(wire) as line:
        wire.fault = Fault.DELAY
        assert exchanged(line, b"hello") == b"hello"
    assert wire.done[Fault.DELAY] == 2


def test_one_byte_is_changed_and_never_the_length(wire: Wire) -> None:
    with connect(wire) as line:
        wire.fault = Fault.CORRUPT
        answers = [exchanged(line, bytes(20)) for _ in range(20)]
    assert {len(answer) for answer in answers} == {20}
    changed = sum(byte != 0 for answer in answers for byte in answer)
    assert 0 < changed <= wire.done[Fault.CORRUPT]


def test_some_messages_never_arrive(wire: Wire) -> None:
    with connect(wire) as line:
        wire.fault = Fault.DROP
        for number in range(40):
            line.sendall(frame(bytes([number])))
        line.shutdown(socket.SHUT_WR)
        came = b"".join(iter(lambda: line.recv(4096), b""))
    assert 0 < len(came) < 40 * 3
    assert wire.done[Fault.DROP] == 40 - len(came) // 3


def test_a_half_open_line_swallows_answers_and_ends_when_it_heals(wire: Wire) -> None:
    with connect(wire) as line:
        wire.fault = Fault.HALF_OPEN
        line.sendall(frame(b"hello"))
        line.settimeout(0.3)
        with pytest.raises(TimeoutError):
            line.recv(1)
        wire.fault = Fault.NONE
        line.settimeout(20)
        with suppress(ConnectionResetError):
            assert line.recv(1) == b""


def test_a_stalled_line_moves_nothing(wire: Wire) -> None:
    with connect(wire) as line:
        wire.fault = Fault.STALL
        line.sendall(frame(b"hello"))
        line.settimeout(0.3)
        with pytest.raises(TimeoutError):
            line.recv(1)
        wire.fault = Fault.NONE
    assert wire.done[Fault.STALL] == 1


def test_a_line_that_is_cut_takes_nobody(wire: Wire) -> None:
    with connect(wire) as before:
        assert exchanged(before, b"hello") == b"hello"
        wire.fault = Fault.CUT
        with suppress(ConnectionResetError):
            assert before.recv(1) == b""
    with suppress(ConnectionResetError), connect(wire) as later:
        assert later.recv(1) == b""
    wire.fault = Fault.NONE
    with connect(wire) as line:
        assert exchanged(line, b"hello") == b"hello"


def test_a_line_that_breaks_does_so_in_the_middle_of_a_message(wire: Wire) -> None:
    wire.fault = Fault.BREAK
    broken = 0
    for _ in range(10):
        with suppress(ConnectionError), connect(wire) as line:
            line.sendall(frame(b"hello"))
            broken += received(line) != b"hello"
    assert wire.done[Fault.BREAK] > 0
    wire.fault = Fault.NONE
    with connect(wire) as line:
        assert exchanged(line, b"hello") == b"hello"


def test_who_is_away_is_passed_over(echo: int) -> None:
    with Wire.between(free_port(), echo, random=Random(1)) as wire:
        for _ in range(2):
            with connect(wire) as line:
                line.sendall(b"hello")
                assert line.recv(5, socket.MSG_WAITALL) == b"hello"
