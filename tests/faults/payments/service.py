"""One service of a disturbed system as a process, by a clock that the test moves.

    python -m tests.faults.payments.service (hsm|gateway|switch|merchant) HOME CLOCK [NAME]

Each is put together as in service; only its clock is another. What a full disk is to it, the test says by a limit on
the size of files (RLIMIT_FSIZE), from outside.
"""

from __future__ import annotations

import ctypes
import signal
import sys
from pathlib import Path
from typing import Final

from runtime import logging
from runtime.settings import Home, Settings
from runtime.uptime import Uptime
from tests.faults.payments import fall
from tests.faults.payments.clock import MovedClock

_PR_SET_PDEATHSIG: Final = 1  # prctl(2)


def hsm(home: Home, settings: Settings, clock: MovedClock, _name: str) -> None:
    """The HSM service with the gateway's keys, its tokens in its own process."""
    from gateway_keys.plugin import GatewayKeys
    from hsm_service.app import create_app
    from hsm_service.vault import Vault
    from kwbp.validators import VALIDATORS
    from runtime import server

    judges = {oid.dotted_string: validate for oid, validate in VALIDATORS.items()}
    with Vault.open(home, content_types=judges, clock=clock) as vault:
        app = create_app(vault, plugins=[GatewayKeys.of(home, clock=clock)])
        server.serve(app, host=settings.hsm.host, port=settings.hsm.port, tls=home.tls_files("hsm"))


def gateway(home: Home, settings: Settings, clock: MovedClock, _name: str) -> None:
    """A gateway. How long the machine has run goes on with the people's clock, never with its own."""
    from gateway import service

    people, machine = clock.of_people, Uptime.of_this_machine()
    service._now = clock
    service._uptime = lambda: Uptime(machine.boot, lambda: machine.seconds() + people.offset)
    service.run(home, settings)


def switch(home: Home, settings: Settings, clock: MovedClock, _name: str) -> None:
    """The bank network."""
    from switch import service

    service._utc_now = clock
    fall.arm(clock.folder)
    service.run(home, settings)


def merchant(home: Home, settings: Settings, clock: MovedClock, name: str) -> None:
    """A merchant's shop."""
    from storefront.merchant import service

    service._now = clock
    service.run(home, settings, name)


SERVICES = {"hsm": hsm, "gateway": gateway, "switch": switch, "merchant": merchant}


def main(kind: str, home: str, clock: str, name: str = "") -> None:
    """Run it until SIGTERM, or until the test has ended, however it did."""
    ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
    at = Home(Path(home))
    logging.configure(name or kind, at.log)
    SERVICES[kind](at, Settings.load(at), MovedClock(Path(clock)), name)


if __name__ == "__main__":
    main(*sys.argv[1:])
