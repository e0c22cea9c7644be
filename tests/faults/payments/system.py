"""A whole payment system of processes, with a hand on everything that can fail.

    HSM service, gateway (one or two), bank network, two shops     processes (`tests.faults.payments.service`)
    lines shop ─ gateway ─ HSM service, gateway ─ bank network     wires of ours (`tests.faults.payments.wire`)
    databases                                                      SQLite files, or one PostgreSQL for the gateways
    clocks                                                         a file for each process, and one for the people
    what the CA publishes                                          served by this process

`System.running` builds and starts it. A process is known by its name: `hsm`, `switch`, `gateway-1`, `front-1`, …
"""

from __future__ import annotations

import os
import resource
import shutil
import signal
import subprocess
import threading
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from random import Random
from typing import Any, Final, cast
from unittest.mock import patch

import httpx

from ca import repository
from gateway_keys import zone_keys
from pki.names import identity_uri
from runtime import server
from runtime.client import TlsFiles, http_client
from runtime.settings import Home, Settings
from switch.service import RunningSwitch, admin_client
from tests.faults.payments.clock import PEOPLE, MovedClock
from tests.faults.payments.wire import Fault, Wire
from tests.support import payment_parties, payment_site, shop_front
from tests.support.payment_parties import Shop
from tests.support.payment_site import ACQUIRER, GATEWAY_ID, Site, wait_for
from tests.support.pki_factory import PkiFactory, p256
from tests.support.ports import free_port
from tests.support.postgres import Cluster
from tests.support.ready_python import Python
from tests.support.shop_front import Front
from tests.support.softhsm import provisioned_home

SQLITE: Final = "sqlite"
POSTGRESQL: Final = "postgresql"
SHOPS: Final = 2
PATIENCE: Final = 30.0
"""Seconds until a process that was started must be ready."""
_TIGHT: Final = 4096
"""Bytes that a file may have on a full disk: what is smaller may still be written, as on real ones."""
_CLOCKS: Final = {
    "answer_timeout": 1.5,
    "ack_timeout": 12.0,
    "reversal_interval": 0.1,
    "key_change_at_sign_on": True,
}


@dataclass
class Service:
    """One process: how it is started, and how it says that it can work."""

    name: str
    arguments: list[str]
    clock: MovedClock
    ready: Callable[[], bool]
    log: Path
    process: subprocess.Popen[bytes] | None = None
    starting: threading.Lock = field(default_factory=threading.Lock)
    wanted: bool = False
    """Whether somebody who looks after services would start it again if it ended."""

    @property
    def runs(self) -> bool:
        return self.process is not None and self.process.poll() is None

    def start(self) -> None:
        """Start it, without waiting for it, unless it runs."""
        with self.starting:  # chaos and whoever looks after services may both want to
            self.wanted = True
            if not self.runs:
                arguments = ["-m", "tests.faults.payments.service", *self.arguments]
                with self.log.open("ab") as said:
                    self.process = Python(arguments, stdout=said, stderr=said)

    def signal(self, number: signal.Signals) -> None:
        """Send it a signal, if it runs."""
        if self.runs and self.process is not None:
            with suppress(ProcessLookupError):
                os.kill(self.process.pid, number)

    def kill(self) -> None:
        """SIGKILL; returns when it is gone."""
        self.wanted = False
        self.signal(signal.SIGKILL)
        if self.process is not None:
            self.process.wait(PATIENCE)

    def stop(self) -> None:
        """SIGTERM; returns when it has come to its end."""
        self.signal(signal.SIGCONT)
        self.signal(signal.SIGTERM)
        if self.process is not None:
            try:
                self.process.wait(PATIENCE)
            except subprocess.TimeoutExpired:
                self.kill()
                raise AssertionError(f"{self.name} did not end") from None

    def fill_disk(self, full: bool) -> None:
        """What this process sees of a disk that is full: no file grows any more."""
        if self.runs and self.process is not None:
            limit = _TIGHT if full else resource.RLIM_INFINITY
            with suppress(ProcessLookupError):
                resource.prlimit(self.process.pid, resource.RLIMIT_FSIZE, (limit, resource.RLIM_INFINITY))


@dataclass
class System:
    """See the module."""

    folder: Path
    site: Site
    database: str
    random: Random
    people: MovedClock
    services: dict[str, Service] = field(default_factory=dict)
    wires: dict[str, Wire] = field(default_factory=dict)
    fronts: list[Front] = field(default_factory=list)
    desks: list[Shop] = field(default_factory=list)
    """Merchants without a server of their own: tests speak for them."""
    gateways: list[Home] = field(default_factory=list)
    cluster: Cluster | None = None
    database_url: str | None = None
    """Of the gateways' database, if it is no file of theirs."""

    @classmethod
    @contextmanager
    def running(
        cls,
        folder: Path,
        *,
        random: Random,
        database: str = SQLITE,
        gateways: int = 1,
        fronts: int = SHOPS,
        **settings: Any,
    ) -> Iterator[System]:
        """Build and start a system below `folder`; everything is ready. `settings` are those of `[gateway]`."""
        assert gateways == 1 or database == POSTGRESQL, "a SQLite file has one gateway"
        folder.mkdir(parents=True, exist_ok=True)
        with ExitStack() as stack:
            people = MovedClock(folder / PEOPLE)
            for module in (payment_parties, payment_site, shop_front):
                stack.enter_context(patch.object(module, "now", people))
            system = cls(folder, _site(folder, people, settings), database, random, people)
            stack.enter_context(
                server.start(
                    repository.create_app(system.site.home.pki),
                    tls=None,
                    client_certificate="none",
                    port=system.site.settings["repository"]["port"],
                )
            )
            if database == POSTGRESQL:
                system.cluster = Cluster.start()
                stack.callback(system.cluster.stop)
            stack.callback(system._end)
            system._start_behind()
            system._start_gateways(stack, gateways)
            system._start_shops(fronts)
            yield system

    # --- the hand on it -----------------------------------------------------------------------------------------------

    def of_kind(self, kind: str) -> list[Service]:
        """`gateway` → gateway-1, gateway-2."""
        return [service for name, service in self.services.items() if name.partition("-")[0] == kind]

    def look_after(self) -> list[str]:
        """Start what ended by itself, as whoever runs services does; its names."""
        ended = [service for service in self.services.values() if service.wanted and not service.runs]
        for service in ended:
            service.start()
        return [service.name for service in ended]

    def move_clocks(self, offset: float) -> None:
        """All clocks, so many seconds ahead of the machine's; what the CA publishes is made anew by that time."""
        for authority in self.site.pki.authorities:
            authority.crl_number += 1
        self.people.move(offset)
        self.site.publish()
        for service in self.services.values():
            service.clock.move(offset)

    def heal(self) -> list[str]:
        """Undo whatever was done and start what does not run. What did not recover by itself and was started anew."""
        for wire in self.wires.values():
            wire.fault = Fault.NONE
        for service in self.services.values():
            service.clock.move(self.people.offset)
            service.fill_disk(full=False)
            service.signal(signal.SIGCONT)
            service.start()
        helped = []
        for service in self.services.values():
            try:
                wait_for(service.ready, within=PATIENCE, every=0.1)
            except AssertionError:
                helped.append(service.name)
                service.kill()
                service.start()
                wait_for(service.ready, within=PATIENCE, every=0.1)
        return helped

    def stop(self) -> None:
        """End every process in good order: callers first."""
        for service in reversed(self.services.values()):
            service.stop()

    def _end(self) -> None:
        for service in self.services.values():
            service.kill()

    # --- building it --------------------------------------------------------------------------------------------------

    def _add(self, name: str, kind: str, home: Home, ready: Callable[[], bool], *more: str) -> Service:
        clock = self.folder / f"{name}.clock"
        arguments = [kind, str(home.path), str(clock), *more]
        service = Service(name, arguments, MovedClock(clock), ready, self.folder / f"{name}.out")
        service.clock.move(0)
        self.services[name] = service
        service.start()
        return service

    def _start_behind(self) -> None:
        site = self.site
        operator = site.tls("operator")
        hsm = f"https://127.0.0.1:{site.settings['hsm']['port']}"
        self._add("hsm", "hsm", site.home, lambda: _is_ready(operator, hsm))
        admin = site.switch.admin
        self._add("switch", "switch", site.home, lambda: _answers(lambda: admin.intermediary(ACQUIRER)))
        for service in self.services.values():
            wait_for(service.ready, every=0.05)

    def _wire(self, stack: ExitStack, name: str, *ports: int, frames: int = 0) -> Wire:
        wire = stack.enter_context(Wire.between(*ports, frames=frames, random=Random(self.random.random())))
        self.wires[name] = wire
        return wire

    def _start_gateways(self, stack: ExitStack, count: int) -> None:
        site, settings = self.site, self.site.settings
        link = self._wire(stack, "link", settings["switch"]["port"], frames=2)
        keys = self._wire(stack, "keys", settings["hsm"]["port"])
        if self.cluster is not None:
            self.database_url = self.cluster.database()
        shared: dict[str, Any] = {} if self.database_url is None else {"database": self.database_url}
        ports = []
        for number in range(1, count + 1):
            home = site.gateway_home(self.folder / f"gateway-{number}", **shared)
            port = Settings.load(home).gateway.port
            own = {**settings["gateway"], **shared, "port": port}
            changed = {"gateway": own, "hsm": {"port": keys.port}, "switch": {**settings["switch"], "port": link.port}}
            payment_site.write_settings(home, {**settings, **changed})
            for secret in self.gateways[0].secrets.iterdir() if self.gateways else ():
                shutil.copy(secret, home.secrets)  # gateways that share a database know cards by the same key
            url = f"https://127.0.0.1:{port}"
            self._add(f"gateway-{number}", "gateway", home, lambda url=url: _is_ready(site.tls("operator"), url))  # type: ignore[misc]
            wait_for(self.services[f"gateway-{number}"].ready, every=0.05)
            self.gateways.append(home)
            ports.append(port)
        self._wire(stack, "front", *ports)

    @property
    def gateway_url(self) -> str:
        """Where merchants reach the gateways: over the wire."""
        return f"https://127.0.0.1:{self.wires['front'].port}"

    def _start_shops(self, fronts: int) -> None:
        for number in range(1, fronts + 1):
            front = Front.of(self.site, self.gateway_url, self.folder / f"front-{number}", key=p256())
            home = front.home()
            self.fronts.append(front)
            self._add(front.name, "merchant", home, front._is_ready, front.name)
            wait_for(self.services[front.name].ready, every=0.05)
        for _ in range(SHOPS):
            shop = self.site.new_shop()
            self.site.register(self.gateway_url, shop)
            self.desks.append(shop)


def _site(folder: Path, people: MovedClock, own: dict[str, Any]) -> Site:
    """Tokens, keys, certificates and settings; nothing runs yet."""
    home = provisioned_home(folder / "bank")
    home.create()
    zone_keys.make_components(home.secrets)
    pki = PkiFactory(now=people().replace(microsecond=0))
    settings: dict[str, Any] = {
        "hsm": {"port": free_port()},
        "repository": {"port": free_port(), "tls": False},
        "switch": {
            "port": free_port(),
            "admin_port": free_port(),
            "authoriser_port": free_port(),
            "authoriser_mac": True,
        },
        "gateway": {"gateway_id": GATEWAY_ID, "acquirer_bin": ACQUIRER, **_CLOCKS, **own},
    }
    payment_site.write_settings(home, settings)
    payment_site.publish(home, pki)
    for service in ("hsm", "switch"):
        payment_site.tls_files(home, pki, service, identity_uri("service", service))
    signing, encryption = payment_site._make_gateway_keys(home, pki)
    admin = admin_client(home, Settings.load(home).switch)
    return Site(folder, home, pki, signing, encryption, settings, cast("RunningSwitch", _Counter(admin)))


@dataclass(frozen=True)
class _Counter:
    """What a site knows of its switch where that is another process."""

    admin: Any


def _is_ready(tls: TlsFiles, url: str) -> bool:
    def ask() -> bool:
        with http_client(tls, url, timeout=5) as client:
            return client.get("/health/ready").status_code == 200

    return _answers(ask)


def _answers(ask: Callable[[], object]) -> bool:
    try:
        return bool(ask())
    except httpx.HTTPError:
        return False
