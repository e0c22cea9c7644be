"""`kwbp serve`: all services of one machine as child processes, or one of them alone in this process."""

from __future__ import annotations

import signal
import subprocess
import sys
import time
from dataclasses import dataclass, field
from types import FrameType
from typing import Annotated

import httpx
import typer

from cli import output, services
from cli.state import Installation, existing
from runtime.settings import SettingsError

_FIRST_PAUSE = 0.5  # seconds before a service that died is started again; doubled each time, up to the cap
_LONGEST_PAUSE = 30.0
_STEADY = 60.0  # seconds of life after which a service counts as healthy again
_HOPELESS = 4.0  # a pause that a service comes to only if it ends each time it is started
_FAREWELL = 30.0  # seconds for a service to end in order, tokens that hang included


@dataclass
class _Child:
    name: str
    process: subprocess.Popen[bytes]
    started: float
    pause: float = _FIRST_PAUSE
    restart_at: float | None = field(default=None)


def serve(
    service: Annotated[
        str | None,
        typer.Argument(help="One service to run in the foreground; without it all of them run.", show_default="all"),
    ] = None,
) -> None:
    """Run the services: all of them on this machine, or one alone.

    A service that dies is started again, with growing pauses. SIGTERM or Ctrl-C drains and stops them all.
    """
    found = existing()
    names = services.names(found)
    if service is None:
        _Supervisor(found).run()
    elif service in names:
        services.run(found, service)
    else:
        output.fail(f"there is no service {service!r}", hint=f"services here: {', '.join(names)}")


def status(
    service: Annotated[list[str] | None, typer.Argument(help="Only these.", show_default="all services")] = None,
    wait: Annotated[float, typer.Option("--wait", help="Seconds to wait until all of them are ready.")] = 0.0,
) -> None:
    """Show which services are ready; with --wait, wait for them."""
    found = existing()
    deadline = time.monotonic() + wait
    names = service or services.names(found)
    if unknown := set(names) - set(services.names(found)):
        output.fail(f"there is no service {', '.join(sorted(unknown))}")
    while True:
        states = {name: answers(found, name, "ready") for name in names}
        if all(states.values()) or time.monotonic() >= deadline:
            break
        time.sleep(0.1)
    output.table(
        "Services",
        ("Service", "Address", "State"),
        [(name, services.address(found, name), "ready" if good else "not ready") for name, good in states.items()],
    )
    if not all(states.values()):
        raise typer.Exit(1)


def answers(found: Installation, name: str, what: str) -> bool:
    """Whether the service answers that it is `live` or `ready`."""
    try:
        with found.client(services.address(found, name)) as client:
            return client.get(f"/health/{what}", timeout=5).status_code == 200
    except (httpx.HTTPError, OSError):
        return False


class _Supervisor:
    """Starts the services and keeps them running."""

    def __init__(self, installation: Installation) -> None:
        self._installation = installation
        self._children: dict[str, _Child] = {}
        self._stopping = False
        self._settings_at = installation.home.config.stat().st_mtime_ns
        self._waiting: list[str] = []

    def run(self) -> None:
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, self._on_signal)
        if signal.getsignal(signal.SIGHUP) is not signal.SIG_IGN:  # as nohup has it
            signal.signal(signal.SIGHUP, self._on_signal)
        try:
            for name in services.names(self._installation):
                if (missing := services.lacking(self._installation, name)) is not None:
                    output.note(f"{name} waits for {missing}")
                    self._waiting.append(name)
                    continue
                self._start(name)
            # Started together: each copes with callees that are not there yet.
            for name in list(self._children):
                self._wait_live(name)
                if self._stopping:
                    return
                output.done(f"{name:<12} {services.address(self._installation, name)}")
            output.note("All services run; 'kwbp status' shows which are ready. Ctrl-C stops them.")
            while not self._stopping:
                self._mend()
                self._take_up_new()
                time.sleep(0.2)
        finally:
            self._stop()

    def _on_signal(self, _number: int, _frame: FrameType | None) -> None:
        self._stopping = True

    def _start(self, name: str, pause: float = _FIRST_PAUSE) -> None:
        command = [sys.executable, "-m", "cli", "--home", str(self._installation.home.path), "serve", name]
        process = subprocess.Popen(command, stdin=subprocess.DEVNULL, start_new_session=True)
        self._children[name] = _Child(name, process, time.monotonic(), pause)

    def _wait_live(self, name: str, timeout: float = 600.0) -> None:
        deadline = time.monotonic() + timeout
        # It may have been too early while others were waited for, as a merchant server is that needs its key.
        early = self._children[name]
        early.pause, early.restart_at = _FIRST_PAUSE, None
        while not self._stopping and not answers(self._installation, name, "live"):
            self._mend()
            child = self._children[name]
            if child.restart_at is not None and child.pause >= _HOPELESS:
                output.fail(f"{name} ended with exit code {child.process.returncode}", hint=self._log_hint(name))
            if time.monotonic() > deadline:
                output.fail(f"{name} did not answer after {timeout:.0f} s", hint=self._log_hint(name))
            time.sleep(0.05)

    def _log_hint(self, name: str) -> str:
        return f"its log is {self._installation.home.log / name}.log"

    def _take_up_new(self) -> None:
        """Start what waited, once it has what it needs, and merchant servers that were added to the settings since."""
        changed = self._installation.home.config.stat().st_mtime_ns
        if changed == self._settings_at and not self._waiting:
            return
        if changed != self._settings_at:
            self._settings_at = changed
            try:
                settled = Installation(self._installation.home)
                settled.settings  # noqa: B018  # read now
            except SettingsError as error:
                output.note(output.plain(f"the settings stay as they were: {error}"))
                return
            self._installation = settled
            self._waiting = [name for name in services.names(self._installation) if name not in self._children]
        for name in list(self._waiting):
            if services.lacking(self._installation, name) is None:
                self._waiting.remove(name)
                self._start(name)
                output.done(f"{name:<12} {services.address(self._installation, name)}")

    def _mend(self) -> None:
        now = time.monotonic()
        for name, child in list(self._children.items()):
            if child.process.poll() is None:
                continue
            if child.restart_at is None:
                steady = now - child.started > _STEADY
                child.pause = _FIRST_PAUSE if steady else min(child.pause * 2, _LONGEST_PAUSE)
                child.restart_at = now + child.pause
                output.note(f"{name} ended ({child.process.returncode}); starting it again in {child.pause:.1f} s")
            elif now >= child.restart_at:
                self._start(name, child.pause)

    def _stop(self) -> None:
        # Callers before callees, so that what is under way can still be finished.
        for child in reversed(list(self._children.values())):
            if child.process.poll() is None:
                child.process.terminate()
                try:
                    child.process.wait(_FAREWELL)
                except subprocess.TimeoutExpired:
                    child.process.kill()
                    child.process.wait()
