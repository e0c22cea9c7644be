"""The simulator as a process, and as a part of a test: where its files are, and how its parts fit together.

db/switch.sqlite                    accounts, cards, transactions, ledger
secrets/switch-issuer-key           the issuers' master key, made at the first start
secrets/switch-admin-token          bearer token of the controls, made at the first start
secrets/switch-list-key             signs settlement lists, made at the first start (public: pki/switch-lists.pem)
secrets/issuer-<bin>-sealing-key    what cardholders seal card data to, made at its first use
secrets/zone-*-component-*          the zone keys, made by the zone-key ceremony
tls/issuer-<bin>.key, .pem          the issuers' signing identities, made by the ceremony
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import cache
from pathlib import Path
from typing import Final

from fastapi import FastAPI

from ca.hierarchy import load_hierarchy
from ca.status_client import StatusCache
from pki.path import Trust
from runtime import server
from runtime.client import TlsFiles
from runtime.database import open_database
from runtime.group_writer import GroupWriter
from runtime.secrets import Secret, read_secret, write_secret
from runtime.settings import Home, Settings, SwitchSettings
from shetab.dialect import Dialect
from shetab.framing import Framing
from shetab.iran import Banks
from shetab.zone import Zone
from switch import authoriser, registration_app
from switch.admin import create_app
from switch.bank import Bank, Transact, transact_on
from switch.client import ADMIN_HOST, SwitchAdmin, admin_url
from switch.faults import FaultPlan
from switch.inbox import Inbox
from switch.issuer_keys import IssuerKeys
from switch.key_ring import KeyRing
from switch.overview import Overview
from switch.processing import Processor
from switch.recording import Rules
from switch.registration import CardRegistration
from switch.schema import metadata
from switch.server import SwitchServer
from switch.settlement_list import SettlementLists, list_key
from switch.zone import ZoneKeys

INSTITUTION: Final = "900000"
"""DE 33 of what the switch sends."""

Rng = Callable[[int], bytes]
Clock = Callable[[], datetime]
TrustSource = Callable[[datetime], Trust]


def _utc_now() -> datetime:
    return datetime.now(UTC)


def database_path(home: Home) -> Path:
    """The simulator's SQLite file."""
    return home.db / "switch.sqlite"


def issuer_keys(home: Home, *, rng: Rng = os.urandom) -> IssuerKeys:
    """The issuers' keys, made if there are none yet."""
    return IssuerKeys.load_or_create(home.secrets / "switch-issuer-key", rng=rng)


def admin_token(home: Home, *, rng: Rng = os.urandom) -> Secret:
    """The bearer token of the controls, made if there is none yet."""
    path = home.secrets / "switch-admin-token"
    if not path.exists():
        write_secret(path, rng(32).hex().encode("ascii"))
    return read_secret(path)


def open_bank(home: Home, *, rng: Rng = os.urandom, clock: Clock = _utc_now) -> Bank:
    """The bank's counter on the database file, for use while the simulator does not run."""
    return _bank(home, transact_on(open_database(database_path(home))), rng, clock)


def admin_client(home: Home, settings: SwitchSettings) -> SwitchAdmin:
    """Client of the controls of this installation's running simulator."""
    url = admin_url(home, settings)
    return SwitchAdmin(url, admin_token(home), ca=home.trust_anchors if url.startswith("https") else None)


def published(home: Home, settings: Settings) -> TrustSource:
    """What the banks believe of the registration authority's certificate, from what the CA publishes."""

    @cache
    def status() -> StatusCache:
        hierarchy = load_hierarchy(home.pki)  # only when somebody asks: the simulator starts before the ceremony
        return StatusCache(settings.repository.url, hierarchy.anchors, hierarchy.intermediates, with_bci=True)

    return lambda now: status().trust(now)


def run(home: Home, settings: Settings) -> None:
    """Serve until SIGTERM or SIGINT. Registers the gateway's acquirer, so that it can sign on.

    :raises KeyFileError: zone-key components are missing. :raises OSError: an address is not to be had.
    """
    trust = published(home, settings)
    with _parts(home, settings.switch, rng=os.urandom, clock=_utc_now, trust=trust) as parts:
        acquirer = settings.gateway.acquirer_bin
        parts.bank.register_acquirer(acquirer, f"Acquirer {acquirer}")
        # Card data pass here when a bank issues or confirms a card: never in clear where there is a certificate.
        tls = home.tls_files("switch")
        with _authoriser(home, settings.switch, parts):
            server.serve(
                parts.app,
                host=ADMIN_HOST,
                port=settings.switch.admin_port,
                tls=tls if tls.certificate.exists() else None,
                client_certificate="none",
            )


@dataclass(frozen=True, slots=True)
class RunningSwitch:
    """A simulator inside this process: where its line listens, its counter, its faults, its controls."""

    host: str
    port: int
    admin_url: str
    bank: Bank
    faults: FaultPlan
    processor: Processor
    admin: SwitchAdmin
    authoriser_url: str | None = None


@contextmanager
def running(
    home: Home,
    settings: SwitchSettings | None = None,
    *,
    acquirers: tuple[str, ...] = (),
    rng: Rng = os.urandom,
    clock: Clock = _utc_now,
    trust: TrustSource | None = None,
) -> Iterator[RunningSwitch]:
    """Run a simulator in background threads; without `settings` on free ports of the loopback.

    Without `trust` its banks have no counter for the registration authority.
    """
    settings = settings or SwitchSettings(port=0, admin_port=0)
    with _parts(home, settings, rng=rng, clock=clock, trust=trust) as parts:
        for code in acquirers:
            parts.bank.register_acquirer(code, f"Acquirer {code}")
        with (
            server.start(
                parts.app, tls=None, client_certificate="none", host=ADMIN_HOST, port=settings.admin_port
            ) as url,
            SwitchAdmin(url, admin_token(home)) as admin,
            _authoriser(home, settings, parts) as authoriser_url,
        ):
            yield RunningSwitch(
                settings.host,
                parts.line.port,
                url,
                parts.bank,
                parts.faults,
                parts.processor,
                admin,
                authoriser_url,
            )


def _tls_files(home: Home) -> TlsFiles:
    return home.tls_files("switch")


@contextmanager
def _authoriser(home: Home, settings: SwitchSettings, parts: _Parts) -> Iterator[str | None]:
    """The banks over HTTPS, where the settings ask for them; the URL."""
    if settings.authoriser_port is None:
        yield None
        return
    with server.start(parts.authoriser, tls=_tls_files(home), host=settings.host, port=settings.authoriser_port) as url:
        yield url


@dataclass(frozen=True, slots=True)
class _Parts:
    bank: Bank
    faults: FaultPlan
    processor: Processor
    line: SwitchServer
    app: FastAPI
    authoriser: FastAPI


@contextmanager
def _parts(
    home: Home, settings: SwitchSettings, *, rng: Rng, clock: Clock, trust: TrustSource | None
) -> Iterator[_Parts]:
    """Open the database and listen for the gateway; on leaving, close the line first, then the database."""
    dialect = Dialect.load(home.dialect(settings.dialect), clock=clock)
    zone_keys = ZoneKeys.load(home.secrets, Zone.of(dialect, settings.zone))
    ring = KeyRing(zone_keys, overlap=settings.key_overlap, clock=clock)
    engine = open_database(database_path(home))
    metadata.create_all(engine)
    with engine.connect() as connection:
        ring.load(connection)
    writer = GroupWriter(engine, "switch")
    writer.start()
    try:
        rules = Rules(
            dialect,
            issuer_keys(home, rng=rng),
            ring,
            Banks.load(),
            INSTITUTION,
            rng,
            settings.passwords,
        )
        faults, inbox = FaultPlan(), Inbox()
        processor = Processor(rules, writer, faults, clock, inbox)
        line = SwitchServer(
            processor,
            Framing(settings.length_prefix),
            host=settings.host,
            port=settings.port,
            tls=None if settings.tls is None else server.server_context(_tls_files(home), "required"),
        )
        line.start()
        try:
            bank = _bank(home, lambda job: writer.submit(job).result(), rng, clock)
            app = create_app(
                bank,
                faults,
                processor.statistics,
                inbox,
                Overview(lambda job: writer.submit(job).result(), ring, _bank_names(), line.lines),
                token=admin_token(home, rng=rng),
                ready=lambda: line.listening,
                break_connections=line.break_connections,
                change_keys=line.change_keys,
                lists=SettlementLists(lambda job: writer.submit(job).result(), list_key(home), clock=clock),
            )
            if trust is not None:
                app.mount(
                    registration_app.PREFIX,
                    registration_app.create_app(
                        CardRegistration(
                            lambda job: writer.submit(job).result(),
                            issuer_keys(home, rng=rng),
                            home=home,
                            trust=trust,
                            rate=settings.registrations,
                            rng=rng,
                            clock=clock,
                        )
                    ),
                )
            banks = authoriser.create_app(
                processor, ring, with_mac=settings.authoriser_mac, ready=lambda: line.listening
            )
            yield _Parts(bank, faults, processor, line, app, banks)
        finally:
            line.close()
    finally:
        writer.close()
        engine.dispose()


def _bank_names() -> Callable[[str], str]:
    banks = Banks.load()

    def name(bin_: str) -> str:
        bank = banks.of_bin(bin_)
        return "" if bank is None else bank.name_en

    return name


def _bank(home: Home, transact: Transact, rng: Rng, clock: Clock) -> Bank:
    return Bank(transact, issuer_keys(home, rng=rng), rng=rng, clock=clock)
