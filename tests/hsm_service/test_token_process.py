"""The process of a token: what it survives, what survives it, and what it gives away of itself: nothing."""

from __future__ import annotations

import hashlib
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.asymmetric.utils import Prehashed
from prometheus_client import REGISTRY

from hsm_service.errors import HsmError, KeyNotFound, TokenUnavailable
from hsm_service.keys import KeyKind, KeyRef
from hsm_service.pkcs11_module import find_module
from hsm_service.provision import supervise_token
from hsm_service.supervised import SupervisedToken
from hsm_service.token_layout import configuration_of, layout, pin_file
from hsm_service.token_source import TokenSource
from runtime.secrets import Secret, SecretFileError, read_secret
from runtime.settings import Home
from tests.support.softhsm import provisioned_home, run_python

PATIENCE = 60.0
DIGEST = hashlib.sha256(b"what is signed").digest()


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Home:
    return provisioned_home(tmp_path_factory.mktemp("processes"))


@pytest.fixture
def token(home: Home) -> Iterator[SupervisedToken]:
    with supervise_token(home, "gateway", deadline=2.0) as token:
        assert token.wait_healthy(PATIENCE), token.trouble
        yield token


@pytest.fixture
def key(token: SupervisedToken) -> tuple[KeyRef, ec.EllipticCurvePublicKey]:
    ref = token.find(label="key")
    if ref is None:
        ref, _public = token.generate_ec("key")
    public = token.public_key(ref)
    assert isinstance(public, ec.EllipticCurvePublicKey)
    return ref, public


def wait_until(condition: Callable[[], bool]) -> None:
    end = time.monotonic() + PATIENCE
    while not condition():
        assert time.monotonic() < end, "waited in vain"
        time.sleep(0.01)


def verify(key: tuple[KeyRef, ec.EllipticCurvePublicKey], signature: bytes) -> None:
    key[1].verify(signature, DIGEST, ec.ECDSA(Prehashed(hashes.SHA256())))


def replaced(token: SupervisedToken, process: int) -> bool:
    """Whether another process than `process` serves."""
    return token.process_id not in {None, process}


class Load:
    """Threads that sign without pause; each answer is verified, or is an error of the token."""

    def __init__(self, token: SupervisedToken, key: tuple[KeyRef, ec.EllipticCurvePublicKey]) -> None:
        self.signed = 0
        self.errors: list[HsmError] = []
        self.wrong: list[BaseException] = []
        self._stop = threading.Event()
        self._threads = [threading.Thread(target=self._sign, args=(token, key)) for _ in range(6)]

    def _sign(self, token: SupervisedToken, key: tuple[KeyRef, ec.EllipticCurvePublicKey]) -> None:
        while not self._stop.is_set():
            try:
                verify(key, token.sign_ecdsa_digest(key[0], DIGEST))
                self.signed += 1
            except HsmError as error:
                self.errors.append(error)
                time.sleep(0.005)
            except BaseException as error:
                self.wrong.append(error)
                return

    @contextmanager
    def running(self) -> Iterator[None]:
        for thread in self._threads:
            thread.start()
        try:
            yield
        finally:
            self._stop.set()
            for thread in self._threads:
                thread.join(PATIENCE)
        assert not self.wrong
        assert not any(thread.is_alive() for thread in self._threads)

    def wait_for_more(self) -> None:
        """Until another fifty signatures were made."""
        goal = self.signed + 50
        wait_until(lambda: self.signed >= goal)


@pytest.mark.parametrize(
    ("blow", "how"), [(signal.SIGKILL, "died"), (signal.SIGSEGV, "died"), (signal.SIGSTOP, "hung")]
)
def test_under_load_a_process_that_ends_or_hangs_is_replaced_and_no_answer_is_wrong(
    token: SupervisedToken, key: tuple[KeyRef, ec.EllipticCurvePublicKey], blow: signal.Signals, how: str
) -> None:
    recovered = threading.Event()
    losses = sample("kwbp_token_losses_total", why=how)
    load = Load(token, key)
    with load.running():
        load.wait_for_more()
        token.on_recovered(recovered.set)
        before = token.process_id
        assert before is not None
        os.kill(before, blow)
        wait_until(partial(replaced, token, before))
        load.wait_for_more()
    assert load.errors
    assert {type(error) for error in load.errors} == {TokenUnavailable}
    assert {(error.status, error.retry_after) for error in load.errors} == {(503, 2)}
    assert recovered.wait(PATIENCE)
    assert sample("kwbp_token_losses_total", why=how) == losses + 1
    assert sample("kwbp_token_breaker") == 0
    assert not Path(f"/proc/{before}").exists()


def sample(name: str, **labels: str) -> float:
    return REGISTRY.get_sample_value(name, {"token": "gateway", **labels}) or 0.0


def test_a_batch_of_a_dying_process_fails_as_a_whole(
    token: SupervisedToken, key: tuple[KeyRef, ec.EllipticCurvePublicKey]
) -> None:
    answers: list[Any] = []
    come = threading.Event()

    def done(answer: Any) -> None:
        answers.append(answer)
        come.set()

    process = token.process_id
    assert process is not None
    os.kill(process, signal.SIGSTOP)
    token.submit("sign_many", (key[0], "ecdsa", [DIGEST] * 500), done)
    os.kill(process, signal.SIGKILL)
    assert come.wait(PATIENCE)
    wait_until(partial(replaced, token, process))
    assert [type(answer) for answer in answers] == [TokenUnavailable]
    for signature in token.sign_many(key[0], "ecdsa", [DIGEST] * 20):
        verify(key, signature)


def test_a_token_whose_store_goes_away_and_comes_back_serves_again(
    token: SupervisedToken, key: tuple[KeyRef, ec.EllipticCurvePublicKey], home: Home
) -> None:
    """SoftHSM2 then says that there is no such key, which is the token's trouble and not the caller's."""
    verify(key, token.sign_ecdsa_digest(key[0], DIGEST))
    store, away = home.tokens / "service", home.tokens / "away"
    store.rename(away)
    try:
        with pytest.raises(TokenUnavailable):
            token.sign_ecdsa_digest(key[0], DIGEST)
        wait_until(lambda: "C_Initialize" in (token.trouble or ""))
        with pytest.raises(TokenUnavailable, match="is away"):
            token.sign_ecdsa_digest(key[0], DIGEST)
    finally:
        away.rename(store)
    assert token.wait_healthy(PATIENCE)
    verify(key, token.sign_ecdsa_digest(key[0], DIGEST))


def test_a_key_that_never_was_there_is_the_callers_mistake(token: SupervisedToken) -> None:
    process = token.process_id
    for _ in range(4):
        with pytest.raises(KeyNotFound):
            token.sign_ecdsa_digest(KeyRef("gateway", KeyKind.EC, b"nowhere", "nowhere"), DIGEST)
    assert token.process_id == process


# -- PINs --------------------------------------------------------------------------------------------------------------


def test_a_token_can_be_made_before_its_pin_is_there(home: Home) -> None:
    pins: list[Secret] = []

    def pin() -> Secret:
        if not pins:
            raise SecretFileError("no PIN yet")
        return pins[0]

    with supervise_token(home, "ca", source=source(home, "ca", pin)) as token:
        wait_until(lambda: token.trouble == "no PIN yet")
        with pytest.raises(TokenUnavailable, match="no PIN yet"):
            token.random(8)
        pins.append(read_secret(pin_file(home, "ca")))
        assert token.wait_healthy(PATIENCE)
        assert len(token.random(8)) == 8


def test_a_refused_pin_starts_no_process_until_its_source_gives_another(home: Home) -> None:
    reads: list[Secret] = []
    right = read_secret(pin_file(home, "ca"))
    given = [Secret(b"00000000")]

    def pin() -> Secret:
        reads.append(given[0])
        return given[0]

    starts = REGISTRY.get_sample_value("kwbp_token_starts_total", {"token": "ca"}) or 0.0
    with supervise_token(home, "ca", source=source(home, "ca", pin)) as token:
        wait_until(lambda: len(reads) >= 4)
        assert token.trouble is not None
        assert "refused the PIN" in token.trouble
        assert "00000000" not in token.trouble
        assert REGISTRY.get_sample_value("kwbp_token_starts_total", {"token": "ca"}) == starts + 1
        given[0] = right
        assert token.wait_healthy(PATIENCE)


def source(home: Home, label: str, pin: Callable[[], Secret]) -> TokenSource:
    return TokenSource(find_module(), configuration_of(home, layout().group_of(label)), pin)


def test_the_pin_shows_nowhere(token: SupervisedToken, home: Home, capfd: pytest.CaptureFixture[str]) -> None:
    pin = read_secret(pin_file(home, "gateway")).reveal()
    for process in (token.process_id, os.getpid()):
        for name in ("cmdline", "environ"):
            assert pin not in Path(f"/proc/{process}/{name}").read_bytes()
    before = token.process_id
    assert before is not None
    os.kill(before, signal.SIGKILL)
    wait_until(partial(replaced, token, before))
    captured = capfd.readouterr()
    assert pin.decode() not in captured.out + captured.err + repr(token) + repr(vars(token))


# -- hygiene -----------------------------------------------------------------------------------------------------------


def test_the_process_holds_only_its_own_descriptors_and_dumps_no_core(token: SupervisedToken, tmp_path: Path) -> None:
    with (tmp_path / "of the parent").open("w"):
        process = token.process_id
        links = [str(each.readlink()) for each in Path(f"/proc/{process}/fd").iterdir()]
    assert not any("of the parent" in link for link in links)
    assert sum(link.startswith("socket:") for link in links) == 1
    limits = Path(f"/proc/{process}/limits").read_text().splitlines()
    core = next(line for line in limits if line.startswith("Max core file size"))
    assert core.split()[4:6] == ["0", "0"]


def test_the_process_cannot_be_dumped_or_traced_by_others_of_its_user() -> None:
    """Asked of the process itself, since root, who may run this test, sees everything anyway."""
    program = """
import ctypes, signal
from hsm_service.token_process import harden
libc, death = ctypes.CDLL(None), ctypes.c_int()
before = libc.prctl(3, 0, 0, 0, 0)
harden()
libc.prctl(2, ctypes.byref(death), 0, 0, 0)
print(before, libc.prctl(3, 0, 0, 0, 0), death.value == signal.SIGKILL)
"""
    assert run_python(program).stdout.split() == ["1", "0", "True"]


def test_the_process_loads_nothing_but_what_a_token_needs() -> None:
    """There is one for each token: templates, settings and services are not its business."""
    loaded = (
        "import sys, hsm_service.token_process; print(*{'pydantic', 'yaml', 'sqlalchemy', 'fastapi'} & {*sys.modules})"
    )
    run = subprocess.run([sys.executable, "-c", loaded], capture_output=True, text=True, check=True)
    assert run.stdout.split() == []


def test_nothing_is_left_open_and_nobody_unburied(home: Home) -> None:
    # In a process of its own: what other tests leave behind is not counted.
    program = """
import os, signal, sys, threading, time
from pathlib import Path
from hsm_service.provision import supervise_token
from runtime.settings import Home

def descriptors():
    return sorted(os.readlink(each) for each in Path("/proc/self/fd").iterdir() if each.exists())

with supervise_token(Home(Path(sys.argv[1])), "merchants") as first:
    assert first.wait_healthy(60), first.trouble
before = len(descriptors())
for _ in range(2):
    with supervise_token(Home(Path(sys.argv[1])), "merchants") as token:
        assert token.wait_healthy(60), token.trouble
        killed = token.process_id
        os.kill(killed, signal.SIGKILL)
        ends = time.monotonic() + 60
        while token.process_id in (None, killed) or not token.wait_healthy(1):
            assert time.monotonic() < ends, "not replaced"
            time.sleep(0.01)
        last = token.process_id
    assert not Path(f"/proc/{killed}").exists(), "unburied"
    assert not Path(f"/proc/{last}").exists(), "left running"
assert len(descriptors()) == before, descriptors()
assert "supervisor-merchants" not in {thread.name for thread in threading.enumerate()}
"""
    command = [sys.executable, "-c", program, home.path]
    result = subprocess.run(command, capture_output=True, text=True, timeout=240, check=False)
    assert result.returncode == 0, result.stderr


def test_the_process_dies_with_its_parent(home: Home) -> None:
    program = """
import sys, time
from pathlib import Path
from hsm_service.provision import supervise_token
from runtime.settings import Home
token = supervise_token(Home(Path(sys.argv[1])), "merchants")
assert token.wait_healthy(60), token.trouble
print(token.process_id, flush=True)
time.sleep(60)
"""
    with subprocess.Popen([sys.executable, "-c", program, home.path], stdout=subprocess.PIPE, text=True) as parent:
        assert parent.stdout is not None
        child = int(parent.stdout.readline())
        assert Path(f"/proc/{child}").exists()
        parent.kill()
    wait_until(lambda: not _lives(child))


def _lives(process: int) -> bool:
    try:
        status = Path(f"/proc/{process}/status").read_text()
    except (FileNotFoundError, ProcessLookupError):
        return False
    return "State:\tZ" not in status  # its parent is gone: whoever inherits it may take its time to bury it


def test_a_signal_to_the_whole_group_does_not_end_it_before_its_parent(
    token: SupervisedToken, key: tuple[KeyRef, ec.EllipticCurvePublicKey]
) -> None:
    process = token.process_id
    assert process is not None
    for each in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        os.kill(process, each)
    verify(key, token.sign_ecdsa_digest(key[0], DIGEST))
    assert token.process_id == process


def test_a_forked_child_cannot_use_its_parents_token(token: SupervisedToken) -> None:
    pid = os.fork()
    if pid == 0:
        try:
            token.random(8)
        except HsmError as error:
            os._exit(42 if error.slug == "token-closed" else 1)
        os._exit(2)
    assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 42
    assert len(token.random(8)) == 8
