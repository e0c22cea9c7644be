"""`kwbp serve hsm` as it is run: what it says of its health, how it ends, and that no secret of it is seen anywhere."""

from __future__ import annotations

import hashlib
import json
import os
import signal
import threading
from base64 import b64decode, b64encode
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx
import pytest

from audit import verify
from audit.log_key import load
from audit.overview import overview
from hsm_service.pkcs11_module import find_module
from hsm_service.token_layout import configuration_of, pin_file
from tests.faults.faulty_module import wait_until
from tests.support.kwbp_serve import COMPONENTS, TOKENS, Serve, is_gone, serving, small_site
from tests.support.signing_site import ACK, World, acknowledgement

ENDS = 60
"""Seconds after which a test gives up waiting for the end."""


@pytest.fixture(scope="module")
def founded(tmp_path_factory: pytest.TempPathFactory) -> World:
    return small_site(tmp_path_factory.mktemp("serve"))


@pytest.fixture
def site(founded: World, tmp_path: Path) -> World:
    return founded.copy(tmp_path)


class Load:
    """Merchants that sign, each on connections of its own, until they cannot connect any more."""

    def __init__(self, service: Serve) -> None:
        self._service = service
        self.signed: list[bytes] = []
        self.statuses: list[int] = []
        self.broken: list[str] = []

    @contextmanager
    def run(self, threads: int = 4) -> Iterator[None]:
        """They work until the service is gone."""
        working = [threading.Thread(target=self._work, daemon=True) for _ in range(threads)]
        for thread in working:
            thread.start()
        yield
        for thread in working:
            thread.join(ENDS)
        assert not any(thread.is_alive() for thread in working)

    def _work(self) -> None:
        body = {"kind": "cms", "content_type": ACK, "content": b64encode(acknowledgement()).decode()}
        with self._service.client() as client:
            while True:
                try:
                    answer = client.post("/v1/keys/shop-ec:sign", json=body)
                except httpx.ConnectError:
                    return
                except httpx.TransportError as error:
                    self.broken.append(type(error).__name__)
                    continue
                self.statuses.append(answer.status_code)
                if answer.status_code == 200:
                    self.signed.append(b64decode(answer.json()["signed"]))


def health(client: httpx.Client, which: str) -> tuple[int, dict[str, Any]]:
    answer = client.get(f"/health/{which}")
    return answer.status_code, answer.json()


def test_it_ends_in_order_and_no_secret_is_seen(site: World, tmp_path: Path) -> None:
    """One long test, because starting costs seconds: load, SIGTERM, the log afterwards, and a search for secrets."""
    pins = {label: pin_file(site.home, label).read_bytes().strip() for label in (*TOKENS, "root")}
    credentials = tmp_path / "credentials"
    credentials.mkdir(mode=0o700)
    (credentials / "merchants-pin").write_bytes(pins["merchants"])
    (credentials / "merchants-pin").chmod(0o400)
    pin_file(site.home, "merchants").unlink()  # the credential is the only source
    settings = (
        "notice = 1.0\n[tokens.merchants]\n"
        f'uri = "pkcs11:token=merchants?pin-source=credential:merchants-pin&module-path={find_module()}"\n'
        f'configuration = "{configuration_of(site.home, "service")}"\n'
    )
    with serving(site, settings, {"CREDENTIALS_DIRECTORY": str(credentials)}) as service, service.client() as watcher:
        assert health(watcher, "ready")[1]["tokens"] == dict.fromkeys(TOKENS, "ready")
        children = service.token_processes()
        assert set(children) == set(TOKENS)
        load = Load(service)
        with load.run():
            wait_until(lambda: len(load.signed) > 50)
            seen = watcher.get("/metrics").content + b"".join(
                _proc(pid) for pid in (service.process.pid, *children.values())
            )
            service.terminate()
            wait_until(lambda: health(watcher, "ready")[0] == 503)
            assert health(watcher, "ready")[1] == {"service": "hsm", "status": "stopping"}
            assert health(watcher, "live")[0] == 200
            assert service.process.wait(ENDS) == 0
        assert all(map(is_gone, children.values()))

    assert set(load.statuses) == {200}
    journal = site.home.audit / "hsm.jsonl"
    verify(journal)
    done = [each for each in site.journal() if each["event"] == "outcome" and each["result"] == "done"]
    outputs = {each.get("output_sha256") for each in done}
    assert {hashlib.sha256(each).hexdigest() for each in load.signed} <= outputs
    signatures = [each for each in site.journal() if each.get("operation") == "cms" and each["event"] == "intent"]
    assert len(signatures) == len(load.signed), load.broken  # what was begun was answered
    state = overview(journal, load_key(site), None)
    assert state.fault is None
    assert state.tail is not None
    assert state.tail <= 2  # the last checkpoint's own record

    seen += b"".join(
        path.read_bytes() for path in (site.home.log / "hsm.log", *_files(site.home.audit), *_files(site.home.db))
    )
    for secret in (*pins.values(), *COMPONENTS, _both()):
        for form in (secret, secret.hex().encode(), secret.hex().upper().encode(), b64encode(secret)):
            assert form not in seen


def test_readiness_names_the_token_that_hangs_and_the_service_still_ends(site: World) -> None:
    with serving(site, "self_test_interval = 0.1\nself_test_patience = 0.3\nlast_calls = 1.0") as service:
        children = service.token_processes()
        with service.client() as client:
            os.kill(children["merchants"], signal.SIGSTOP)
            wait_until(lambda: health(client, "ready")[0] == 503)
            found = health(client, "ready")[1]
            assert found["tokens"] == {**dict.fromkeys(TOKENS, "ready"), "merchants": "no-answer"}
            assert health(client, "live")[0] == 200
            os.kill(children["merchants"], signal.SIGCONT)
            wait_until(lambda: health(client, "ready")[0] == 200)

            load = Load(service)
            with load.run():
                wait_until(lambda: len(load.signed) > 10)
                os.kill(children["merchants"], signal.SIGSTOP)
                wait_until(lambda: health(client, "ready")[0] == 503)
                service.terminate()
                assert service.process.wait(ENDS) == 0
        assert all(map(is_gone, {*children.values(), *service.token_processes().values()}))
    assert load.broken == []
    assert 503 in load.statuses  # who waited for the token was told
    assert set(load.statuses) <= {200, 503}
    verify(site.home.audit / "hsm.jsonl")
    states = [(each["token"], each["state"]) for each in site.journal() if each["event"] == "token-state"]
    assert states[:3] == [("merchants", "no-answer"), ("merchants", "ready"), ("merchants", "no-answer")]
    assert without_outcome(site) == set()


def test_a_second_signal_hurries(site: World) -> None:
    slow = "call_deadline = 600\nlast_calls = 600\ndrain = 600\nself_test_interval = 600"
    with serving(site, slow) as service:
        children = service.token_processes()
        load = Load(service)
        with load.run():
            wait_until(lambda: len(load.signed) > 10)
            os.kill(children["merchants"], signal.SIGSTOP)
            service.terminate()
            wait_until(lambda: "stopping" in (site.home.log / "hsm.log").read_text())
            wait_until(lambda: without_outcome(site))
            held = without_outcome(site)
            service.terminate()
            assert service.process.wait(ENDS) == 0
        assert all(map(is_gone, children.values()))
    assert without_outcome(site) == set()
    assert held <= {intent for intent, _ in unknown(site)}
    assert {reason for _, reason in unknown(site)} == {"stopped"}
    verify(site.home.audit / "hsm.jsonl")


def test_of_what_was_under_way_at_a_sudden_end_the_next_start_says_that_nobody_knows(site: World) -> None:
    with serving(site, "call_deadline = 600\nself_test_interval = 600") as service:
        children = service.token_processes()
        load = Load(service)
        with load.run():
            wait_until(lambda: len(load.signed) > 10)
            os.kill(children["merchants"], signal.SIGSTOP)
            wait_until(lambda: len(without_outcome(site)) >= 4)  # each of them waits for the token now
            service.process.kill()
            service.process.wait()
    held = without_outcome(site)
    assert held
    with serving(site) as service:
        assert unknown(site) == {(each, "process-ended") for each in held}
        said = [json.loads(line) for line in (site.home.log / "hsm.log").read_text().splitlines()]
        [told] = [each for each in said if each["event"] == "operations without a known outcome"]
        assert (told["count"], set(told["intents"]), told["reason"]) == (len(held), held, "process-ended")
        service.terminate()
        assert service.process.wait(ENDS) == 0
    with serving(site) as service:  # and that once
        assert unknown(site) == {(each, "process-ended") for each in held}
        service.terminate()
        assert service.process.wait(ENDS) == 0
    assert without_outcome(site) == set()
    verify(site.home.audit / "hsm.jsonl")


def without_outcome(site: World) -> set[int]:
    """Intents whose outcome is not on record."""
    entries = site.journal()
    intents = {number for number, each in enumerate(entries) if each["event"] == "intent"}
    outcomes = [each["intent"] for each in entries if each["event"] == "outcome"]
    assert len(set(outcomes)) == len(outcomes)  # one each
    return intents - set(outcomes)


def unknown(site: World) -> set[tuple[int, str]]:
    """Intents of which nobody knows what became, and why."""
    return {(each["intent"], each["reason"]) for each in site.journal() if each.get("result") == "unknown"}


def load_key(site: World) -> Any:
    return load("log-hsm", site.home.pki, now=site.pki.now)


def _proc(process: int) -> bytes:
    """The arguments and the environment of a process; nothing where even its own user may not look."""
    found = b""
    for name in ("cmdline", "environ"):
        try:
            found += Path(f"/proc/{process}/{name}").read_bytes()
        except PermissionError:
            continue
    return found


def _files(folder: Path) -> list[Path]:
    return [path for path in folder.rglob("*") if path.is_file()]


def _both() -> bytes:
    """The zone keys themselves."""
    return bytes(first ^ second for first, second in zip(*COMPONENTS, strict=True))
