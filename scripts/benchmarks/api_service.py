"""The HSM service and the witness of a benchmark's installation, and others if need be, as processes of their own."""

from __future__ import annotations

import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from types import TracebackType
from typing import Self

import httpx

from runtime.client import http_client
from runtime.settings import Home, Settings
from scripts.benchmarks.report import BenchmarkFailed

_SERVICES = ("witness", "hsm")


class ApiService:
    """Runs while the context is open."""

    def __init__(self, home: Home, *, also: Sequence[str] = ()) -> None:
        """`also` are further services that run, in the order in which they start."""
        self._home = home
        self._names = (*_SERVICES, *also)
        self.settings = Settings.load(home)
        self._processes: dict[str, subprocess.Popen[bytes]] = {}

    def __enter__(self) -> Self:
        try:
            for name in self._names:
                command = [sys.executable, "-m", "cli", "--home", str(self._home.path), "serve", name]
                self._processes[name] = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=sys.stderr)
                if name != "witness":  # which has no health to ask for over TLS
                    self._await_ready(name)
        except BaseException:
            self._stop()
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stop()

    def resident_bytes(self) -> int:
        """Memory of the HSM service, with the processes of its tokens."""
        service = self._processes["hsm"].pid
        lists = [path.read_text("ascii") for path in Path(f"/proc/{service}/task").glob("*/children")]
        children = [int(each) for children in lists for each in children.split()]
        return sum(_resident(each) for each in (service, *children))

    def _stop(self) -> None:
        for process in reversed(self._processes.values()):
            process.terminate()
            process.wait(60)

    def _await_ready(self, name: str) -> None:
        deadline = time.monotonic() + 60
        url = getattr(self.settings, name).url
        with http_client(self._home.tls_files("operator"), url, timeout=5) as client:
            while time.monotonic() < deadline:
                if self._processes[name].poll() is not None:
                    raise BenchmarkFailed(f"the service {name} ended; its log is in {self._home.log}")
                try:
                    if client.get("/health/ready").status_code == 200:
                        return
                except httpx.TransportError:
                    pass
                time.sleep(0.1)
        raise BenchmarkFailed(f"the service {name} did not become ready")


def _resident(process: int) -> int:
    for line in Path(f"/proc/{process}/status").read_text("ascii").splitlines():
        if line.startswith("VmRSS:"):
            return int(line.split()[1]) * 1024
    return 0
