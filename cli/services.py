"""How each service is put together. Only here do the packages meet.

A service's packages are imported by the function that runs it: a process holds one service and should load no other.
"""

from __future__ import annotations

import os
import socket
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Final
from urllib.parse import urlsplit

from cryptography import x509
from sqlalchemy import Engine

from audit.keeper import LogKeeper
from cli import output
from cli.packs import statements
from cli.state import Installation
from runtime import logging, server
from runtime.database import open_database
from runtime.problems import Problem
from runtime.replica import replica_name
from switch.client import admin_url

RA_KEY: Final = "ra-system"
_STATUS_TIMEOUT: Final = 5.0  # seconds
_log: Final = logging.get_logger("services")
MERCHANT: Final = "merchant-"
"""Prefix of the service names of merchant servers."""
_OF_NO_MEMBER: Final = ("hsm", "ca", "repository", "ra", "witness", "gateway", "switch", "registers")
"""Sections of the settings with the host of a service of this authority (`ra.own_hosts`)."""


def names(found: Installation) -> list[str]:
    """All services of this installation, callees first."""
    return [*_RUN, *(f"{MERCHANT}{name}" for name in found.settings.merchants)]


def address(found: Installation, name: str) -> str:
    """Base URL at which the service answers for its health."""
    settings = found.settings
    if name.startswith(MERCHANT):
        return settings.merchants[name.removeprefix(MERCHANT)].url
    if name == "switch":
        return admin_url(found.home, settings.switch)
    endpoint: str = getattr(settings, name).url
    return endpoint


def lacking(found: Installation, name: str) -> str | None:
    """What the service cannot start without and who makes it, if it is not there; None if it can start.

    Every other service has what it needs from the ceremony.
    """
    if name == "switch":
        from switch.zone import MAC_KEY_COMPONENTS, PIN_KEY_COMPONENTS

        components = [found.home.secrets / component for component in (*PIN_KEY_COMPONENTS, *MAC_KEY_COMPONENTS)]
        return None if all(path.exists() for path in components) else "zone keys: 'kwbp ceremony zone-keys'"
    if name == "registers":
        return None if found.home.tls_files(name).certificate.exists() else "a TLS certificate: 'kwbp ceremony run'"
    if not name.startswith(MERCHANT):
        return None
    from storefront.merchant.files import key_files

    merchant = name.removeprefix(MERCHANT)
    own = found.settings.merchants[merchant].key is None
    certificates = [found.home.tls / f"{name}.pem", *([key_files(found.home, merchant)[1]] if own else [])]
    missing = not all(path.exists() for path in certificates)
    return f"certificates: 'kwbp merchant collect {merchant} APPLICATION'" if missing else None


def require_free(url: str) -> None:
    """End the command unless a service can listen at the host and port of `url`."""
    parts = urlsplit(url)
    host, port = parts.hostname or "", parts.port or 0
    try:
        socket.create_server((host, port), family=socket.AF_INET6 if ":" in host else socket.AF_INET).close()
    except OSError as error:
        # The standard library adds the address to the text itself.
        reason = os.strerror(error.errno) if error.errno else "no such address"
        output.fail(f"cannot listen on {host}:{port}: {reason}", hint="is the service running already?")


def run(found: Installation, name: str) -> None:
    """Run one service in this process until SIGTERM."""
    # Before anything is opened: a service that is started again and again must not try a PIN each time.
    if name != "switch":  # it may take any port
        require_free(address(found, name))
    logging.configure(name, found.home.log)
    if name.startswith(MERCHANT):
        from storefront.merchant import service as merchant_service

        merchant_service.run(found.home, found.settings, name.removeprefix(MERCHANT))
    else:
        _RUN[name](found)


def _hsm(found: Installation) -> None:
    from ca.known_callers import KnownCallers
    from ca.published_trust import published_trust
    from cli.zone import agreed_zone, host_zones, zone_of_cards
    from gateway_keys.plugin import GatewayKeys
    from hsm_service.app import LARGEST_BODY, create_app
    from hsm_service.crl_routes import largest_body
    from hsm_service.key_management import SERVICE
    from hsm_service.operation_docket import Approving
    from hsm_service.record import ENTRIES_OF_A_SIGNATURE
    from hsm_service.service import SignCommand
    from hsm_service.vault import Vault
    from kwbp.validators import VALIDATORS

    endpoint = found.settings.hsm
    content_types = {oid.dotted_string: validate for oid, validate in VALIDATORS.items()}
    known = KnownCallers(found.home.pki, clock=_now)
    approving = Approving(lambda: published_trust(found.home.pki))
    with (
        LogKeeper.prepare("hsm", found.home, found.settings.witness.url) as keeper,
        Vault.open(
            found.home,
            content_types=content_types,
            extends=keeper.extends,
            approving=approving,
            isolated=found.settings,
        ) as vault,
    ):

        def sign(checkpoint: bytes) -> bytes:
            return vault.sign(SERVICE, keeper.key.name, SignCommand("checkpoint", checkpoint)).signed

        keeper.keep(vault.journal, sign, own=ENTRIES_OF_A_SIGNATURE)
        try:
            overlap, zone = found.settings.gateway.key_overlap, agreed_zone(found.home, found.settings)
            keys = GatewayKeys.of(
                found.home,
                overlap=overlap,
                zone=zone,
                others=host_zones(found.home, found.settings),
                zone_of=zone_of_cards(found.settings),
            )
            app = create_app(vault, plugins=[keys])
            server.serve(
                app,
                host=endpoint.host,
                port=endpoint.port,
                tls=found.tls("hsm"),
                max_body=LARGEST_BODY,
                larger=largest_body,
                refusal=known.refusal,
                notice=endpoint.notice,
                drain=endpoint.drain,
                on_stop=vault.hasten,
                on_hurry=lambda: vault.hasten(more=True),
            )
        finally:
            keeper.close()  # before the vault, which signs what is left


def _await_keys(found: Installation, name: str) -> None:
    """Give the HSM service time to be there for the service `name`; without it, go on."""
    from hsm_service.client import HsmClient
    from hsm_service.retry import STARTING

    service = HsmClient.connect(found.settings.hsm.url, found.tls(name), retry=STARTING)
    try:
        service.list_keys()
    except Problem as problem:
        _log.warning("key service away", problem=problem.type)
    finally:
        service.close()


def _ca(found: Installation) -> None:
    from ca.app import create_app, largest_body
    from ca.authority import CertificateAuthority
    from ca.known_callers import KnownCallers
    from ca.ocsp_policy import ocsp_policy
    from ca.ocsp_presign import Presigner
    from ca.ocsp_store import OcspStore
    from ca.ocsp_work import ocsp_work
    from ca.publication import Publication
    from ca.record import Record
    from ca.renewal import Renewal
    from ca.schedules import ca_schedules, durable
    from hsm_service.client import HsmClient

    endpoint = found.settings.ca
    keeper = LogKeeper.prepare("ca", found.home, found.settings.witness.url)
    record = Record.open(found.home.audit / "ca.jsonl", extends=keeper.extends)
    signer = HsmClient.connect(found.settings.hsm.url, found.tls("ca"))
    engine = ca_database(found)
    published = statements(found, "ca")
    publication = Publication(found.settings.repository.url, published().in_force(_now()).cps.uri)
    authority = CertificateAuthority(
        folder=found.home.pki,
        engine=engine,
        signer=signer,
        record=record,
        statements=published,
        publication=publication,
        rng=os.urandom,
        clock=_now,
    )
    renewal = Renewal(
        engine=engine,
        hierarchy=authority.hierarchy,
        signer=signer,
        record=record,
        publication=publication,
        statements=published,
        folder=found.home.pki,
        rng=os.urandom,
    )
    presigner = Presigner(OcspStore(engine), authority.hierarchy, signer, ocsp_policy())
    schedules = ca_schedules(
        authority, presign=ocsp_work(renewal, presigner, _now), self_audit=authority.self_audit.nightly
    )
    keeper.keep(record.journal, lambda content: signer.sign(keeper.key.name, "checkpoint", content).signed)
    try:
        _await_keys(found, "ca")  # or its lists, and all who need them, wait for the next turn of the schedule
        authority.start()
        known = KnownCallers(found.home.pki, clock=_now)
        server.serve(
            create_app(
                authority,
                schedules=durable(authority, database=_ca_database_at(found), schedules=schedules),
                statement=lambda: published.details,
            ),
            host=endpoint.host,
            port=endpoint.port,
            tls=found.tls("ca"),
            larger=largest_body,
            refusal=known.refusal,
        )
    finally:
        keeper.close()
        record.close()
        signer.close()


def ca_database(found: Installation) -> Engine:
    """The certificate authority's database, which its public service reads too."""
    return open_database(_ca_database_at(found))


def _ca_database_at(found: Installation) -> str | Path:
    return found.settings.ca.database or found.home.db / "ca.sqlite"


def _witness(found: Installation) -> None:
    from audit.witness_service import WitnessFolder, create_app

    endpoint = found.settings.witness
    witness, store = WitnessFolder(found.home.witness).open()
    server.serve(
        create_app(witness, [store]),
        host=endpoint.host,
        port=endpoint.port,
        tls=None,
        client_certificate="none",
    )


def _repository(found: Installation) -> None:
    from ca import repository
    from ca.hierarchy import load_hierarchy
    from ca.ocsp import OcspResponder
    from ca.ocsp_policy import ocsp_policy
    from ca.ocsp_store import OcspStore
    from ca.tsa_service import RETRY, TimestampAuthority
    from hsm_service.client import AsyncHsmClient
    from hsm_service.retry import ONCE

    endpoint, tls = found.settings.repository, found.tls("repository")
    ocsp = OcspResponder(
        hierarchy=load_hierarchy(found.home.pki),
        folder=found.home.pki,
        store=OcspStore(ca_database(found)),
        # Nobody waits long for a status: who asks is told to try later, and the next one asks the token again.
        connect=lambda: AsyncHsmClient.connect(found.settings.hsm.url, tls, timeout=_STATUS_TIMEOUT, retry=ONCE),
        policy=ocsp_policy(),
        clock=_now,
    )
    tsa = TimestampAuthority(
        lambda: AsyncHsmClient.connect(found.settings.hsm.url, tls, timeout=_STATUS_TIMEOUT, retry=RETRY)
    )
    server.serve(
        repository.create_app(found.home.pki, ocsp=ocsp, tsa=tsa),
        host=endpoint.host,
        port=endpoint.port,
        tls=None,
        client_certificate="none",
    )


def _ra(found: Installation) -> None:
    from ca.client import CaClient
    from ca.hierarchy import load_hierarchy
    from ca.status_client import StatusCache
    from cli import officer_register
    from hsm_service.client import HsmClient
    from pki.oids import CT_NOTICE
    from ra.app import create_app
    from ra.checks import assembly
    from ra.evidence_routes import larger
    from ra.issuer_banks import HttpIssuerBanks
    from ra.notices.service import Notices
    from ra.own_hosts import own_hosts
    from ra.rate_limit import AddressLimits, rate_limits
    from ra.record import Record
    from ra.registration import RegistrationDesk, challenge_secret
    from ra.registration_store import RegistrationStore
    from ra.schedules import durable
    from ra.store import Store
    from ra.workflow import Workflow

    endpoint = found.settings.ra
    hierarchy = load_hierarchy(found.home.pki)
    status = StatusCache(found.settings.repository.url, hierarchy.anchors, hierarchy.intermediates, with_bci=True)
    signer = HsmClient.connect(found.settings.hsm.url, found.tls("ra"))
    authority = CaClient(found.settings.ca.url, found.tls("ra"))
    database = found.settings.ra.database or found.home.db / "ra.sqlite"
    engine, published = open_database(database), statements(found, "ra")
    # With the journal: what this replica left to write into it, nobody else can write.
    store = Store(engine, replica=replica_name(found.home.audit / "ra.replica", os.urandom))
    keeper = LogKeeper.prepare("ra", found.home, found.settings.witness.url)
    record = Record.open(found.home.audit / "ra.jsonl", store, extends=keeper.extends)
    keeper.keep(record.journal, lambda content: signer.sign(keeper.key.name, "checkpoint", content).signed)

    def sign(content_type: x509.ObjectIdentifier, content: bytes) -> bytes:
        return signer.sign_cms(RA_KEY, content_type.dotted_string, content)

    checks = assembly.checks(
        engine, found.home, found.settings, statements=published, sign=sign, rng=os.urandom, clock=_now
    )
    workflow = Workflow(
        store=store,
        record=record,
        statements=published,
        authority=authority,
        trust=status.trust,
        sign=sign,
        rng=os.urandom,
        clock=_now,
        screener=checks,
        blinding=officer_register.blinding(found.home),
        own_hosts=own_hosts({name: getattr(found.settings, name).host for name in _OF_NO_MEMBER}),
    )
    checks.attach(workflow)
    workflow.persons.founders(officer_register.founders(found.home, hierarchy), now=_now())
    notices = Notices(
        engine,
        found.settings.notices,
        spool=found.home.notices,
        statement=lambda: workflow.pack,
        sign=lambda content: sign(CT_NOTICE, content),
        clock=_now,
    )
    banks = HttpIssuerBanks(
        f"{admin_url(found.home, found.settings.switch)}/registration/", ca=found.home.trust_anchors
    )
    registration = RegistrationDesk(
        workflow,
        RegistrationStore(engine),
        banks=banks,
        limits=rate_limits(),
        secret=challenge_secret(found.home.secrets / "ra-challenge-key", rng=os.urandom),
    )
    try:
        app = create_app(
            workflow,
            schedules=durable(workflow, checks.schedule, *notices.schedules, database=database),
            checks=checks,
            notices=notices,
            statement=lambda: published.details,
            registration=registration,
            limits=AddressLimits(rate_limits(), clock=_now, proxies=endpoint.proxies),
        )
        # Anonymous applicants come without a certificate; what each caller may do is the RA's own table.
        server.serve(
            app,
            host=endpoint.host,
            port=endpoint.port,
            tls=found.tls("ra"),
            client_certificate="optional",
            larger=larger,
        )
    finally:
        checks.close()
        banks.close()
        keeper.close()
        record.close()
        authority.close()
        signer.close()
        status.close()


def _gateway(found: Installation) -> None:
    from gateway import service as gateway_service

    with LogKeeper.prepare("gateway", found.home, found.settings.witness.url) as keeper:
        gateway_service.run(found.home, found.settings, keeper=keeper)


def _switch(found: Installation) -> None:
    from switch import service as switch_service

    switch_service.run(found.home, found.settings)


def _registers(found: Installation) -> None:
    from registers import service as registers_service

    registers_service.run(found.home, found.settings)


def _now() -> datetime:
    return datetime.now(UTC)


_RUN: Final[dict[str, Callable[[Installation], None]]] = {
    "witness": _witness,
    "hsm": _hsm,
    "ca": _ca,
    "repository": _repository,
    "registers": _registers,
    "ra": _ra,
    "switch": _switch,
    "gateway": _gateway,
}
