"""A token in a process of its own survives what PKCS#11 modules do: errors, hanging, crashing, an HSM that goes away.

Under load throughout: no signature is wrong, nobody hears more than 503, nobody waits for ever, and it serves again.
"""

from __future__ import annotations

import os
import signal
import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric import ec

from hsm_service.pin_sources import PinFile
from hsm_service.pkcs11_module import find_module
from hsm_service.supervised import SupervisedToken
from hsm_service.token_layout import configuration_of, pin_file
from runtime.settings import Home
from tests.faults.ckr import CKR
from tests.faults.faulty_module import CRASH, HANG, PATIENCE, FaultyModule, wait_until
from tests.faults.load import Load
from tests.faults.one_token import KEY
from tests.faults.p11_kit import P11KitServer, client_module
from tests.support.ready_python import Python

SIGNERS = 8

Open = Callable[..., SupervisedToken]


@pytest.fixture
def open_token(home: Home) -> Iterator[Open]:
    """Opens a token of the installation behind a module, and waits until it serves."""
    with ExitStack() as stack:

        def open_it(module: Path, label: str = "ca", **options: Any) -> SupervisedToken:
            token = SupervisedToken(
                label,
                module=module,
                configuration=configuration_of(home, "service"),
                pin=PinFile(pin_file(home, label)),
                **options,
            )
            stack.callback(token.close)
            assert token.wait_healthy(PATIENCE), token.trouble
            return token

        yield open_it


@contextmanager
def load(token: SupervisedToken, signers: int = SIGNERS) -> Iterator[Load]:
    """Signers at work on the token's key; they have begun."""
    ref = token.find(label=KEY)
    assert ref is not None
    public = token.public_key(ref)
    assert isinstance(public, ec.EllipticCurvePublicKey)
    with Load(lambda message: token.sign_ecdsa(ref, message), public).run(signers) as running:
        running.goes_on()
        yield running


def processes(module: FaultyModule, action: str) -> set[str]:
    """The processes in which a fault happened."""
    return {line.split()[0] for line in module.told() if line.endswith(f" {action}")}


@pytest.mark.parametrize("code", ["DEVICE_ERROR", "TOKEN_NOT_PRESENT", "USER_NOT_LOGGED_IN"])
def test_a_token_that_is_lost_again_and_again_comes_back_each_time(
    open_token: Open, faulty: FaultyModule, code: str
) -> None:
    token = open_token(faulty.path)
    with load(token) as running:
        faulty.set("C_Sign", CKR[code], after=100)
        wait_until(lambda: len(processes(faulty, "answer")) >= 3)
        faulty.heal()
        running.goes_on()
    assert running.statuses == {503}


@pytest.mark.parametrize(
    ("code", "heard"),
    [("GENERAL_ERROR", 1), ("FUNCTION_FAILED", 1), ("DEVICE_MEMORY", 1), ("SESSION_HANDLE_INVALID", 0)],
)
def test_trouble_that_passes_costs_at_most_the_call_that_it_met(
    open_token: Open, faulty: FaultyModule, code: str, heard: int
) -> None:
    token = open_token(faulty.path)
    process = token.process_id
    with load(token) as running:
        faulty.set("C_SignInit", CKR[code], after=50, times=1)
        faulty.wait_until_told("answer")
        running.goes_on()
    assert [error.status for error in running.errors] == [503] * heard
    assert token.process_id == process


def test_trouble_that_stays_makes_the_token_start_anew(open_token: Open, faulty: FaultyModule) -> None:
    token = open_token(faulty.path)
    with load(token) as running:
        faulty.set("C_SignInit", CKR["GENERAL_ERROR"])
        wait_until(lambda: len(processes(faulty, "answer")) >= 2)
        faulty.heal()
        running.goes_on()
    assert running.statuses == {503}


def test_a_hanging_token_is_replaced_and_hinders_no_other(open_token: Open, faulty: FaultyModule) -> None:
    hanging = open_token(faulty.path, deadline=1.0)
    sound = open_token(find_module(), "gateway")
    with load(hanging) as stuck, load(sound) as running:
        faulty.set("C_Sign", HANG)
        faulty.wait_until_told("hang")
        running.goes_on(500)
        wait_until(lambda: len(processes(faulty, "hang")) >= 2)  # the process was replaced, and its successor hangs too
        running.goes_on(500)
        faulty.heal()
        stuck.goes_on()
    assert running.errors == []
    assert stuck.statuses == {503}
    gone = processes(faulty, "hang") - {str(hanging.process_id)}
    wait_until(lambda: not any(Path(f"/proc/{each}").exists() for each in gone))


def test_a_call_that_hangs_shorter_than_its_deadline_is_answered(open_token: Open, faulty: FaultyModule) -> None:
    token = open_token(faulty.path, deadline=PATIENCE)
    process = token.process_id
    with load(token) as running:
        faulty.set("C_Sign", HANG)
        faulty.wait_until_told("hang")
        faulty.heal()
        running.goes_on()
    assert running.errors == []
    assert token.process_id == process


def test_a_token_that_hangs_at_login_hinders_no_other_and_serves_later(open_token: Open, faulty: FaultyModule) -> None:
    token = open_token(faulty.path, start_deadline=3.0)
    sound = open_token(find_module(), "gateway")
    with load(token) as away, load(sound) as running:
        faulty.set("C_Login", HANG)
        assert token.process_id is not None
        os.kill(token.process_id, signal.SIGKILL)
        wait_until(lambda: "in time" in (token.trouble or ""))
        assert faulty.wait_until_told("hang")
        running.goes_on()
        faulty.heal()
        away.goes_on()
    assert running.errors == []
    assert away.statuses == {503}


def test_a_token_that_hangs_at_login_is_given_up_when_it_is_closed(open_token: Open, faulty: FaultyModule) -> None:
    token = open_token(faulty.path, start_deadline=600.0)
    faulty.set("C_Login", HANG)
    assert token.process_id is not None
    os.kill(token.process_id, signal.SIGKILL)
    starting = faulty.wait_until_told("hang").split()[0]
    closing = threading.Thread(target=token.close, daemon=True)
    closing.start()
    closing.join(PATIENCE)
    assert not closing.is_alive()
    assert not Path(f"/proc/{starting}").exists()


def test_a_service_that_was_paused_kills_no_token(home: Home, faulty: FaultyModule) -> None:
    command = ["-m", "tests.faults.paused_service", faulty.path, home.path]
    with Python(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as service:
        assert service.stdin is not None
        assert service.stdout is not None
        process = int(service.stdout.readline())
        faulty.set("C_Sign", HANG)
        service.stdin.write("sign\n")
        service.stdin.flush()
        faulty.wait_until_told("hang")
        # Both of them, as a container or a machine is paused, while a call is under way.
        for each in (service.pid, process):
            os.kill(each, signal.SIGSTOP)
        time.sleep(4)  # longer than a call may take there
        faulty.heal()
        for each in (service.pid, process):
            os.kill(each, signal.SIGCONT)
        told, _nothing = service.communicate("end\n", PATIENCE)
    assert told.split() == ["signed", str(process)]


def test_a_module_that_crashes_takes_nothing_else_with_it(open_token: Open, faulty: FaultyModule) -> None:
    token = open_token(faulty.path)
    sound = open_token(find_module(), "gateway")
    with load(token) as crashing, load(sound) as running:
        faulty.set("C_Sign", CRASH, after=100)
        wait_until(lambda: len(processes(faulty, "crash")) >= 3)
        faulty.heal()
        crashing.goes_on()
        running.goes_on()
    assert crashing.statuses == {503}
    assert running.errors == []


def test_an_hsm_that_is_killed_and_comes_back_is_served_from_again(
    open_token: Open, built: Path, home: Home, tmp_path: Path
) -> None:
    server = P11KitServer(tmp_path, configuration_of(home, "service"), "ca")
    module = FaultyModule.make(built, tmp_path, client_module(), P11_KIT_SERVER_ADDRESS=server.address)
    server.start()
    try:
        token = open_token(module.path)
        with load(token) as running:
            for _ in range(3):
                before = len(running.errors)
                server.kill()
                wait_until(lambda before=before: len(running.errors) > before)
                server.start()
                running.goes_on()
        assert running.statuses == {503}
        print(f"longest time without a signature: {running.longest_gap:.2f} s")
    finally:
        server.kill()


def test_a_refused_pin_is_tried_once_until_there_is_another(open_token: Open, home: Home, faulty: FaultyModule) -> None:
    token = open_token(faulty.path)
    with load(token, 2) as running:
        faulty.set("C_Login", CKR["PIN_INCORRECT"])
        assert token.process_id is not None
        os.kill(token.process_id, signal.SIGKILL)
        wait_until(lambda: "not tried again" in (token.trouble or ""))
        before = len(running.errors)
        wait_until(lambda: len(running.errors) > before + 100)  # callers insist; the token is left in peace
        assert [line.split()[1] for line in faulty.told()] == ["C_Login"]
        faulty.heal()
        _change_pin(home)
        running.goes_on()
    assert running.statuses == {503}


def test_a_changed_pin_needs_no_restart(open_token: Open, home: Home, faulty: FaultyModule) -> None:
    token = open_token(faulty.path)
    with load(token, 2) as running:
        _change_pin(home)
        running.goes_on()
        assert running.errors == []
        assert token.process_id is not None
        os.kill(token.process_id, signal.SIGKILL)
        wait_until(lambda: running.errors)
        running.goes_on()


def _change_pin(home: Home) -> None:
    home.config.touch()
    command = ["-m", "cli", "--home", home.path, "token", "pin", "change", "ca", "--random"]
    assert Python(command, stdout=subprocess.DEVNULL).wait() == 0
