"""One run of ./scripts/demo for all tests of this folder, watched from outside.

Its first step is the installed command, and so is the `kwbp serve` that starts its services once more; all between is
forked from a process that has imported what commands import (tests/support/ready_kwbp.py).

Its card data come through an open descriptor, so that the tests know what must be found nowhere; the loopback interface
is captured while it runs, where the machine lets us.
"""

from __future__ import annotations

import json
import os
import socket
import subprocess
import threading
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Final

import pytest

from tests.support.ready_kwbp import ready_kwbp

ROOT: Final = Path(__file__).resolve().parents[2]
CAPTURE_POSSIBLE: Final = os.geteuid() == 0
_ETH_P_ALL: Final = 0x0003
_ETHERNET: Final = 14


@dataclass
class Capture:
    """TCP segments of the loopback interface: (source port, destination port, payload)."""

    segments: list[tuple[int, int, bytes]] = field(default_factory=list)

    def run(self, stop: threading.Event) -> None:
        with socket.socket(socket.AF_PACKET, socket.SOCK_RAW, socket.htons(_ETH_P_ALL)) as wire:
            wire.bind(("lo", 0))
            wire.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 64 * 1024 * 1024)
            wire.settimeout(0.2)
            while not stop.is_set():
                try:
                    frame = wire.recv(1 << 17)
                except TimeoutError:
                    continue
                self._take(frame[_ETHERNET:])

    def _take(self, packet: bytes) -> None:
        if len(packet) < 40 or packet[0] >> 4 != 4 or packet[9] != socket.IPPROTO_TCP:
            return
        segment = packet[(packet[0] & 0x0F) * 4 : int.from_bytes(packet[2:4], "big")]
        source, destination = int.from_bytes(segment[:2], "big"), int.from_bytes(segment[2:4], "big")
        payload = segment[(segment[12] >> 4) * 4 :]
        if payload:
            self.segments.append((source, destination, payload))


@dataclass(frozen=True)
class Demo:
    """A finished run: its folder, what it printed, its report, the card of its buyer, what went over loopback."""

    folder: Path
    output: str
    exit_code: int
    report: dict[str, Any]
    card: dict[str, str]
    capture: Capture
    commands: Path = ROOT / ".venv" / "bin"
    """Where `kwbp` is; the other commands are in the virtual environment."""

    @property
    def home(self) -> Path:
        return self.folder / "home"

    @property
    def environment(self) -> dict[str, str]:
        """What the demo's own commands ran with."""
        return {
            **os.environ,
            "PATH": f"{self.commands}:{ROOT / '.venv' / 'bin'}:{os.environ['PATH']}",
            "KWBP_HOME": str(self.home),
            "KWBP_WALLET": str(self.folder / "wallet"),
            "KWBP_WALLET_PASSPHRASE_FILE": str(self.folder / "secrets" / "buyer"),
            "KWBP_LANGUAGE": "en",
        }


@pytest.fixture(scope="session")
def demo(tmp_path_factory: pytest.TempPathFactory) -> Demo:
    folder = tmp_path_factory.mktemp("demo") / "run"
    capture, stop = Capture(), threading.Event()
    watcher = threading.Thread(target=capture.run, args=(stop,), daemon=True)
    if CAPTURE_POSSIBLE:
        watcher.start()
    reading, writing = os.pipe()
    try:
        with ready_kwbp() as commands:
            said = {"KWBP_DEMO_DIR": folder, "KWBP_DEMO_CARD_FD": writing, "KWBP_DEMO_COMMANDS": commands}
            process = subprocess.run(
                [str(ROOT / "scripts" / "demo")],
                env={**os.environ, **{name: str(value) for name, value in said.items()}},
                pass_fds=(writing,),
                stdin=subprocess.DEVNULL,
                capture_output=True,
                text=True,
                timeout=900,
                check=False,
            )
    finally:
        os.close(writing)
    with os.fdopen(reading) as pipe:
        card = pipe.read()
    stop.set()
    if CAPTURE_POSSIBLE:
        watcher.join()
    report = json.loads((folder / "report.json").read_text())
    output = process.stdout + process.stderr
    return Demo(folder, output, process.returncode, report, json.loads(card), capture)


class Shell:
    """Runs `kwbp` as the demo did."""

    def __init__(self, demo: Demo) -> None:
        self.demo = demo

    def __call__(self, *arguments: str, stdin: str = "", code: int = 0) -> Any:
        result = subprocess.run(
            ["kwbp", "--json", *arguments],
            env=self.demo.environment,
            input=stdin,
            capture_output=True,
            text=True,
            check=False,
        )
        assert result.returncode == code, f"{arguments}: {result.stdout}{result.stderr}"
        return json.loads(result.stdout) if result.stdout.strip() else None

    def acting(self, person: str) -> tuple[str, ...]:
        return ("--as", person, "--passphrase-file", str(self.demo.folder / "secrets" / person))


_RUNNING: Final = ExitStack()


@pytest.fixture(scope="session")
def kwbp(demo: Demo) -> Shell:
    """The demo's installation started once more; it runs until all tests of this folder are done."""
    shell = Shell(replace(demo, commands=_RUNNING.enter_context(ready_kwbp())))
    _RUNNING.enter_context(_serving(demo))
    shell("status", "--wait", "120")
    return shell


@contextmanager
def _serving(demo: Demo) -> Iterator[None]:
    clocks = {"KWBP_GATEWAY__ANSWER_TIMEOUT": "6", "KWBP_GATEWAY__REVERSAL_INTERVAL": "1"}
    with (demo.folder / "serve-again.log").open("w") as log:
        process = subprocess.Popen(["kwbp", "serve"], env=demo.environment | clocks, stdout=log, stderr=log)
        try:
            yield
        finally:
            process.terminate()
            process.wait(60)


@pytest.hookimpl(trylast=True)
def pytest_runtest_teardown(nextitem: pytest.Item | None) -> None:
    """Stop it then: this process may have tests of other folders to run for minutes."""
    if nextitem is None or not nextitem.path.is_relative_to(Path(__file__).parent):
        _RUNNING.close()


def pytest_sessionfinish() -> None:
    """Stop it after an interrupt, too."""
    _RUNNING.close()
