"""Who is still let in: role, issuer and revocation of TLS client certificates."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding
from cryptography.x509.oid import ExtendedKeyUsageOID
from fastapi import FastAPI
from starlette.requests import Request

from ca.files import replace_file
from ca.known_callers import KnownCallers
from pki.roles import Role
from runtime.client import http_client
from runtime.identity import ANONYMOUS, Caller, caller_from_certificate, caller_of
from runtime.server import start
from tests.support.ca_world import CaWorld, tls_credential, tls_files
from tests.support.cps_cases import Office
from tests.support.pki_factory import Authority, Credential, PkiFactory


@pytest.fixture
def world(tmp_path: Path) -> Iterator[CaWorld]:
    world = CaWorld(tmp_path, Office())
    yield world
    world.close()


@pytest.fixture
def known(world: CaWorld) -> KnownCallers:
    return KnownCallers(world.folder, clock=world.clock)


def as_caller(credential: Credential) -> Caller:
    caller = caller_from_certificate(credential.certificate)
    assert caller is not ANONYMOUS
    return caller


def publish(world: CaWorld, authority: Authority) -> None:
    """The authority's newest CRL, put in place as the CA does."""
    crl = authority.crl(world.clock.now).public_bytes(Encoding.DER)
    replace_file(world.folder / "crls" / f"{authority.role}.crl", crl)


@pytest.mark.parametrize(("kind", "who"), [("service", "gateway"), ("merchant", "M-1"), ("gateway", "GW-1")])
def test_who_the_operations_ca_certified_is_let_in(known: KnownCallers, world: CaWorld, kind: str, who: str) -> None:
    assert known.refusal(as_caller(tls_credential(world.pki, kind, who))) is None


def test_an_officer_and_somebody_without_a_certificate_are_let_in(known: KnownCallers, world: CaWorld) -> None:
    assert known.refusal(Caller("officer", "officer-1", world.office.vetter.certificate)) is None
    assert known.refusal(ANONYMOUS) is None


def test_a_revoked_certificate_is_refused_from_the_next_request_on(known: KnownCallers, world: CaWorld) -> None:
    gateway, other = (tls_credential(world.pki, "service", who) for who in ("gateway", "ra"))
    assert known.refusal(as_caller(gateway)) is None
    world.pki.revoke(gateway)
    publish(world, world.pki.operations_ca)
    assert known.refusal(as_caller(gateway)) == "revoked"
    assert known.refusal(as_caller(other)) is None


def test_nobody_below_a_revoked_authority_is_let_in(known: KnownCallers, world: CaWorld) -> None:
    gateway = as_caller(tls_credential(world.pki, "service", "gateway"))
    world.pki.revoke(world.pki.operations_ca.credential)
    publish(world, world.pki.brand)
    assert known.refusal(gateway) == "revoked"


def test_a_crl_past_its_end_locks_nobody_out_but_still_revokes(known: KnownCallers, world: CaWorld) -> None:
    gateway, other = (tls_credential(world.pki, "service", who) for who in ("gateway", "ra"))
    world.pki.revoke(gateway)
    publish(world, world.pki.operations_ca)
    world.clock.forward(timedelta(days=60))
    assert known.refusal(as_caller(gateway)) == "revoked"
    assert known.refusal(as_caller(other)) is None


@pytest.mark.parametrize("issuer", ["cardholder_ca", "merchant_ca", "gateway_ca"])
def test_an_identity_that_another_authority_of_the_root_certified_is_refused(
    known: KnownCallers, world: CaWorld, issuer: str
) -> None:
    forged = world.pki.service("operator", issuer=getattr(world.pki, issuer), replace=_tls("urn:kwbp:service:operator"))
    assert known.refusal(as_caller(forged)) == "wrong_role"


def test_an_officers_certificate_is_no_services(known: KnownCallers, world: CaWorld) -> None:
    two_faced = world.office.officer("officer-9", "vetting_officer", replace=_tls("urn:kwbp:service:operator"))
    assert known.refusal(as_caller(two_faced)) == "wrong_role"


def test_a_signing_certificate_logs_nobody_in(world: CaWorld) -> None:
    assert caller_from_certificate(world.pki.merchant("M-1").certificate) is ANONYMOUS


def test_a_stranger_is_refused(known: KnownCallers) -> None:
    stranger = tls_credential(PkiFactory(brand="Another"), "service", "gateway")
    assert known.refusal(as_caller(stranger)) == "unknown_issuer"


def test_an_expired_certificate_is_refused_also_on_a_connection_that_was_made_before(
    known: KnownCallers, world: CaWorld
) -> None:
    brief = world.pki.service(
        "gateway",
        not_after=world.clock.now + timedelta(minutes=1),
        replace=_tls("urn:kwbp:service:gateway"),
    )
    assert known.refusal(as_caller(brief)) is None
    world.clock.forward(timedelta(minutes=2))
    assert known.refusal(as_caller(brief)) == "expired"


def _remove(folder: Path) -> None:
    (folder / "crls" / "operations-ca.crl").unlink()


def _garble(folder: Path) -> None:
    replace_file(folder / "crls" / "operations-ca.crl", b"not a CRL")


def _of_another(folder: Path) -> None:
    replace_file(folder / "crls" / "operations-ca.crl", (folder / "crls" / "merchant-ca.crl").read_bytes())


@pytest.mark.parametrize("spoil", [_remove, _garble, _of_another])
def test_without_the_authoritys_crl_nobody_is_let_in_until_it_is_back(
    known: KnownCallers, world: CaWorld, spoil: Callable[[Path], None]
) -> None:
    gateway = as_caller(tls_credential(world.pki, "service", "gateway"))
    good = (world.folder / "crls" / "operations-ca.crl").read_bytes()
    spoil(world.folder)
    assert known.refusal(gateway) == "crl_missing"
    replace_file(world.folder / "crls" / "operations-ca.crl", good)
    assert known.refusal(gateway) is None


def test_a_crl_that_the_authority_did_not_sign_is_not_believed(known: KnownCallers, world: CaWorld) -> None:
    forger = PkiFactory(now=world.pki.now)
    own = world.pki.operations_ca.certificate
    impostor = Authority(Credential(own, forger.operations_ca.credential.key, (), world.pki.now), Role.OPERATIONS_CA)
    publish(world, impostor)
    assert known.refusal(as_caller(tls_credential(world.pki, "service", "gateway"))) == "bad_signature"


def test_over_tls_a_revoked_caller_gets_a_problem_on_the_connection_it_has(tmp_path: Path) -> None:
    world = CaWorld(tmp_path, Office(PkiFactory(now=datetime.now(UTC).replace(microsecond=0))))  # TLS has its own clock
    app = FastAPI()

    @app.get("/who")
    async def who(request: Request) -> str:
        return str(caller_of(request.scope))

    known = KnownCallers(world.folder, clock=world.clock)
    files = tls_files(world.pki, "merchant", "M-1", tmp_path / "tls")
    certificate = x509.load_pem_x509_certificate(files.certificate.read_bytes())
    server = tls_files(world.pki, "service", "hsm", tmp_path / "tls")
    with start(app, tls=server, refusal=known.refusal) as url, http_client(files, url) as client:
        assert client.get("/who").json() == "merchant:M-1"
        world.pki.operations_ca.revoked[certificate.serial_number] = world.clock.now
        world.pki.operations_ca.crl_number += 1
        publish(world, world.pki.operations_ca)
        answer = client.get("/who")
        assert (answer.status_code, answer.json()["clause"]) == (403, "CPS 4.9.6")
        assert answer.json()["detail"] == "the client certificate of merchant:M-1 does not count: revoked"
    world.close()


def _tls(uri: str) -> Any:
    """Extensions that make a certificate of the factory one that TLS and `runtime.identity` take for `uri`."""
    names = x509.SubjectAlternativeName([x509.UniformResourceIdentifier(uri), x509.DNSName("localhost")])
    usages = x509.ExtendedKeyUsage([ExtendedKeyUsageOID.CLIENT_AUTH])
    return {"usages": (usages, False), "subject_alternative_name": (names, False)}
