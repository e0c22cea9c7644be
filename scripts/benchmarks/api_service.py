"""The HSM service and the witness of a benchmark's installation, as processes of their own."""

from __future__ import annotations

import subprocess
import sys
import time
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

    def __init__(self, home: Home) -> None:
        self._home = home
        self.settings = Settings.load(home)
        self._processes: dict[str, subprocess.Popen[bytes]] = {}

    def __enter__(self) -> Self:
        for name in _SERVICES:
            command = [sys.executable, "-m", "cli", "--home", str(self._home.path), "serve", name]
            self._processes[name] = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=sys.stderr)
        try:
            self._await_ready()
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

    def _await_ready(self) -> None:
        deadline = time.monotonic() + 60
        with http_client(self._home.tls_files("operator"), self.settings.hsm.url, timeout=5) as client:
            while time.monotonic() < deadline:
                if self._processes["hsm"].poll() is not None:
                    raise BenchmarkFailed(f"the HSM service ended; its log is in {self._home.log}")
                try:
                    if client.get("/health/ready").status_code == 200:
                        return
                except httpx.TransportError:
                    pass
                time.sleep(0.1)
        raise BenchmarkFailed("the HSM service did not become ready")


def _resident(process: int) -> int:
    for line in Path(f"/proc/{process}/status").read_text("ascii").splitlines():
        if line.startswith("VmRSS:"):
            return int(line.split()[1]) * 1024
    return 0
