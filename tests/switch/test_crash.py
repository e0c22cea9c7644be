"""kill -9 at any moment: what was answered is on the disk, what is asked again is done once."""

from __future__ import annotations

import contextlib
import socket
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import httpx
import pytest

from runtime.settings import Home, Settings, SwitchSettings
from shetab.types import Rial
from switch.records import IssuedCard
from switch.service import admin_client, open_bank, running
from tests.faults.faulty_module import wait_until
from tests.support.acquirer import ACQUIRER, Acquirer
from tests.support.ports import free_port
from tests.support.ready_python import Python
from tests.switch.conftest import OPENING, Zone, new_zone

_RUN = """
import sys
from pathlib import Path
from runtime.settings import Home, Settings, SwitchSettings
from switch.service import run
run(Home(Path(sys.argv[1])), Settings.model_validate_json(sys.argv[2]))
"""


@contextmanager
def process(zone: Zone, settings: Settings) -> Iterator[subprocess.Popen[bytes]]:
    """The simulator as a process of its own, ready."""
    command = ["-c", _RUN, zone.home.path, settings.model_dump_json()]
    started = Python(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        wait_until(lambda: _is_ready(started, zone, settings))
        yield started
    finally:
        started.kill()
        started.wait()


def _is_ready(started: subprocess.Popen[bytes], zone: Zone, settings: Settings) -> bool:
    assert started.poll() is None, "the simulator ended"
    with contextlib.suppress(httpx.TransportError), admin_client(zone.home, settings.switch) as admin:
        return admin._http.get("/health/ready").status_code == 200
    return False


@pytest.fixture
def zone(tmp_path: Path) -> Zone:
    return new_zone(Home(tmp_path / "home"))


@pytest.fixture
def settings() -> Settings:
    return Settings.model_validate({"switch": {"port": free_port(), "admin_port": free_port()}})


@pytest.fixture
def card(zone: Zone) -> IssuedCard:
    """A card issued while no simulator runs."""
    bank = open_bank(zone.home)
    return bank.issue_card(bank.open_account(ACQUIRER, holder="Member One", balance=Rial(OPENING)).iban)


def test_what_was_answered_survives_and_what_is_asked_again_is_done_once(
    zone: Zone, settings: Settings, card: IssuedCard
) -> None:
    amount, sales = 1_000, 100
    answered: dict[str, bytes] = {}
    acquirer = Acquirer("127.0.0.1", settings.switch.port, zone.pin_key, zone.mac_key)
    requests = [acquirer.sale(card, amount) for _ in range(sales)]
    with process(zone, settings) as simulator, acquirer:
        acquirer.sign_on()
        for request in requests:
            acquirer.send(request)
        for number in range(sales // 4):
            raw = acquirer.receive_raw()
            answered[acquirer.dialect.decode(raw)[11]] = raw
            if number == sales // 4 - 1:
                simulator.kill()
        simulator.wait()
    with process(zone, settings), acquirer, admin_client(zone.home, settings.switch) as admin:
        acquirer.sign_on()
        before = {found.stan for found in admin.transactions()}
        assert set(answered) <= before
        for request in requests:
            acquirer.send(request)
            raw = acquirer.receive_raw()
            assert answered.setdefault(request[11], raw) == raw
        assert admin.account(card.iban).balance == OPENING - sales * amount
        assert admin.intermediary(ACQUIRER).balance == sales * amount
        assert admin.is_balanced()


def test_terminate_ends_it_cleanly(zone: Zone, settings: Settings) -> None:
    with process(zone, settings) as simulator:
        simulator.terminate()
        assert simulator.wait(60) in (0, -15)


def test_a_taken_port_is_an_error(zone: Zone) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        settings = SwitchSettings(port=taken.getsockname()[1], admin_port=0)
        with pytest.raises(OSError, match="in use"), running(zone.home, settings):
            pass
