"""Who may call what: every route of the authority, every standing that a caller can have, one table.

An officer is known by the certificate of the connection or, over the operator's, by the signature over the request: the
same may do the same either way.

The routes are taken from the application itself: one that is not in the table fails, and so does a row without a route.
The case that is asked about is over, so that nobody changes what the next one finds: who may do something is told that
there is nothing to do any more, or that it does not exist, and who may not is told that alone.
"""

from __future__ import annotations

import base64
import os
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType
from typing import Any, Final

import httpx
import pytest
from fastapi.testclient import TestClient

from kwbp.wrapper import MEDIA_TYPE
from pki.oids import CT_NOTICE
from ra.access import Actor
from ra.app import create_app
from ra.checks.driver import Checks
from ra.checks.phone import PhoneCodes
from ra.checks.store import CheckStore
from ra.notices.service import Notices
from ra.openers import SIZE, name_of, written
from ra.rate_limit import AddressLimits, RateLimits
from runtime.identity import ANONYMOUS, Caller
from runtime.notice_settings import NoticesSettings
from runtime.secrets import Secret
from tests.support.cps_cases import Office
from tests.support.pki_factory import Credential
from tests.support.ra_world import as_caller
from tests.support.registration_site import RegistrationSite
from tests.support.signed_requests import officer_who_logs_in, put_on_register, signer

OFFICERS: Final = frozenset({"vetting_officer", "approving_officer", "security_officer", "auditor"})
STANDINGS: Final = OFFICERS | {"anonymous", "opener", "member", "gateway", "operator", "service"}
NOBODY: Final[frozenset[str]] = frozenset()
APPLICANT: Final = frozenset({"opener", "operator"})
REVIEWERS: Final = OFFICERS | {"operator"}
READERS: Final = REVIEWERS | APPLICANT
VETTING: Final = frozenset({"vetting_officer"})
DECIDING: Final = VETTING | {"approving_officer"}
HOLDING: Final = DECIDING | {"security_officer"}
REFUSALS: Final = {"not-allowed", "client-certificate-required", "no-code"}
SIGNED: Final = "signed "
"""Standings of officers who sign their requests."""
UNSIGNED_PATHS: Final = ("/health", "/metrics", "/openapi", "/docs", "/redoc")

CASE: Final = "/v1/applications/{application_id}"
AMENDING: Final = {f"{CASE}/amend", f"{CASE}/est"}
EST: Final = "/.well-known/est"
BYTES: Final = base64.b64encode(b"no statement").decode()
REASON: Final = {"reason": "because"}
SUBMIT: Final[dict[str, Any]] = {"subject": {}, "csrs": {"signing": BYTES}}
PKCS10: Final = (
    ("content-type", "application/pkcs10"),
    ("authorization", f"Basic {base64.b64encode(b'0' * 32 + b':b').decode()}"),
)


@dataclass(frozen=True)
class Row:
    """A call of a route, and who may make it."""

    method: str
    path: str
    may: frozenset[str]
    json: Any = None
    kind: str = "iban_owner"
    headers: tuple[tuple[str, str], ...] = ()
    content: bytes | None = None

    def __str__(self) -> str:
        return f"{self.method} {self.path} {self.kind}"


def evidence(kind: str) -> dict[str, str]:
    return {"kind": kind, "body": BYTES, "source": "a register"}


TABLE: Final = (
    Row("GET", "/health/live", STANDINGS),
    Row("GET", "/health/ready", STANDINGS),
    Row("GET", "/metrics", STANDINGS),
    Row("GET", "/openapi.json", STANDINGS),
    Row("GET", "/docs", STANDINGS),
    Row("GET", "/docs/oauth2-redirect", STANDINGS),
    Row("GET", "/redoc", STANDINGS),
    Row("GET", "/v1/cps", STANDINGS),
    Row("POST", "/v1/registration", STANDINGS, headers=(("content-type", MEDIA_TYPE),)),
    Row("POST", "/v1/applications", STANDINGS, {"class": "merchant"}),
    Row("GET", "/v1/applications", REVIEWERS),
    Row("GET", "/v1/statistics", REVIEWERS),
    Row("GET", CASE, READERS),
    Row("POST", f"{CASE}/submit", APPLICANT, SUBMIT),
    Row("POST", f"{CASE}/amend", APPLICANT, SUBMIT),
    Row("POST", f"{CASE}/withdraw", APPLICANT, REASON),
    Row("POST", f"{CASE}/accept", APPLICANT, {}),
    Row("POST", f"{CASE}/est", APPLICANT, {"subject": {}}),
    Row("POST", f"{CASE}/phone", APPLICANT, {"phone": "09190000001"}),
    Row("POST", f"{CASE}/phone/code", APPLICANT, {"code": "1"}),
    Row("GET", f"{CASE}/checks", READERS),
    Row("POST", f"{CASE}/hold", HOLDING, REASON),
    Row("POST", f"{CASE}/release", HOLDING, REASON),
    Row("POST", f"{CASE}/return", DECIDING, REASON),
    Row("POST", f"{CASE}/evidence", READERS, evidence("iban_owner")),
    Row("POST", f"{CASE}/evidence", VETTING, evidence("acquirer_agreement"), kind="acquirer_agreement"),
    Row("POST", f"{CASE}/evidence", VETTING, evidence("whatever"), kind="whatever"),
    Row("POST", f"{CASE}/evidence/{{kind}}", READERS),
    Row("POST", f"{CASE}/evidence/{{kind}}", VETTING, kind="acquirer_agreement"),
    Row("GET", f"{CASE}/evidence/{{sha256}}", REVIEWERS),
    Row("GET", f"{CASE}/dossier", REVIEWERS),
    Row("GET", f"{CASE}/story", REVIEWERS),
    Row("GET", f"{CASE}/registration-request", REVIEWERS),
    Row("POST", f"{CASE}/decisions", REVIEWERS, {"decision": BYTES}),
    Row("POST", f"{CASE}/issue", REVIEWERS),
    Row("POST", "/v1/revocations", REVIEWERS, {"statement": BYTES}),
    Row("GET", "/v1/certificates/{serial}/story", REVIEWERS),
    Row("GET", "/v1/application-ids/{prefix}", REVIEWERS),
    Row("GET", "/v1/officers", REVIEWERS),
    Row("GET", "/v1/officers/{person}", REVIEWERS),
    Row("GET", "/v1/reviews", REVIEWERS),
    Row("POST", "/v1/reviews/{order_sha256}", REVIEWERS, {"review": BYTES}),
    Row("GET", "/v1/left-behind", REVIEWERS),
    Row("POST", "/v1/left-behind/{replica}", frozenset({"operator"}), {"journal": None}),
    Row("GET", "/v1/notices", REVIEWERS),
    Row("POST", "/v1/notices/retry", REVIEWERS, {}),
    Row("GET", f"{EST}/cacerts", STANDINGS),
    Row("GET", f"{EST}/{{label}}/cacerts", STANDINGS),
    Row("GET", f"{EST}/{{label}}/csrattrs", STANDINGS),
    Row("POST", f"{EST}/{{label}}/simpleenroll", NOBODY, headers=PKCS10, content=b"AAAA"),  # without a code
    Row("POST", f"{EST}/{{label}}/simplereenroll", NOBODY, headers=PKCS10, content=b"AAAA"),  # without a member's key
    Row("POST", f"{EST}/{{label}}/fullcmc", STANDINGS),  # 501
    Row("POST", f"{EST}/{{label}}/serverkeygen", STANDINGS),  # 501
)


class Town:
    """An authority with everything that it can have, everybody who may call it, and a case that is over."""

    def __init__(self, folder: Path, office: Office) -> None:
        self.site = RegistrationSite(folder, office)
        world = self.world = self.site.world
        phones = PhoneCodes(
            world.engine, None, lambda: None, key=Secret(b"\x07" * 32), rng=os.urandom, clock=world.clock
        )
        self.checks = Checks(
            CheckStore(world.engine), {}, phones=phones, sign=world._sign, rng=os.urandom, clock=world.clock
        )
        self.checks.attach(world.workflow)
        notices = Notices(
            world.engine,
            NoticesSettings.model_validate({"sender": "ra@kwbp.example"}),
            spool=folder / "spool",
            statement=lambda: world.workflow.pack,
            sign=lambda content: office.ra.sign(CT_NOTICE, content, signing_time=world.now),
            clock=world.clock,
        )
        uncounted = RateLimits.model_validate(
            {
                "addresses": [{"prefix": "/", "burst": 100_000, "every": "PT1S"}],
                "remembered": 1,
                "cards": {"burst": 1, "every": "PT1S"},
                "holders": {"burst": 1, "every": "PT1S"},
            }
        )
        self.app = create_app(
            world.workflow,
            registration=self.site.desk,
            checks=self.checks,
            notices=notices,
            limits=AddressLimits(uncounted, clock=world.clock),
        )
        identities = {standing: self._identity(standing, office) for standing in STANDINGS}
        self.clients = {standing: self._client(*identity) for standing, identity in identities.items()}
        credentials = {each: credential for each in OFFICERS if (credential := identities[each][1]) is not None}
        put_on_register(world, credentials.values())
        for standing, credential in credentials.items():
            client = self._client(*identities["operator"])
            client.auth = signer(credential, world.clock)
            self.clients[f"{SIGNED}{standing}"] = client

    def close(self) -> None:
        for client in self.clients.values():
            client.__exit__(None, None, None)
        self.checks.close()
        self.site.close()

    def over(self, opener: str) -> str:
        """The id of a case that this caller opened, and that is over."""
        application = self.world.workflow.open(Actor(opener), "merchant")
        return self.world.workflow.withdraw(Actor(opener), application.id, "").id

    @staticmethod
    def _identity(standing: str, office: Office) -> tuple[Caller, Credential | None]:
        if standing in OFFICERS:
            credential = officer_who_logs_in(office, f"person-{standing}", standing)
            return Caller("officer", f"person-{standing}", credential.certificate), credential
        if standing in ("operator", "service"):
            name = "operator" if standing == "operator" else "gateway"
            credential = office.pki.service(name)
            return Caller("service", name, credential.certificate), credential
        callers = {
            "opener": Caller("merchant", "shop-1"),
            "member": Caller("merchant", "shop-2"),
            "gateway": Caller("gateway", "GW-1"),
        }
        return callers.get(standing, ANONYMOUS), None

    def _client(self, caller: Caller, credential: Credential | None) -> TestClient:
        app = as_caller(self.app, caller)

        async def with_certificate(scope: Any, receive: Any, send: Any) -> None:
            if credential is not None:
                scope.setdefault("extensions", {})["tls"] = {"client_cert": credential.der}
            await app(scope, receive, send)

        return TestClient(with_certificate, raise_server_exceptions=False).__enter__()

    def call(
        self, row: Row, standing: str, case: str, headers: Mapping[str, str] = MappingProxyType({})
    ) -> httpx.Response:
        """What a caller of this standing is answered."""
        path = row.path.format(
            application_id=case,
            kind=row.kind,
            sha256="0" * 64,
            order_sha256="0" * 64,
            serial="1",
            prefix=case[:8],
            person="nobody",
            replica="lost",
            label="merchant",
        )
        return self.clients[standing].request(
            row.method,
            path,
            json=row.json,
            content=row.content,
            headers={**dict(row.headers), **headers},
            params={"source": "a register"},
        )

    def gets_in(self, row: Row, standing: str, case: str, *, secret: str | None = None) -> bool:
        """Whether a caller of this standing, who may bring a secret, passes the guard of the route."""
        answer = self.call(row, standing, case, {} if secret is None else {"authorization": f"Bearer {secret}"})
        assert answer.status_code not in (405, 422, 500), (row, standing, answer.text)
        problem = answer.json() if answer.headers["content-type"] == "application/problem+json" else {}
        refused = str(problem.get("type", "")).rpartition(":")[2] in REFUSALS
        assert not refused or answer.status_code in (401, 403), (row, standing, answer.text)
        return not refused


@pytest.fixture(scope="module")
def town(tmp_path_factory: pytest.TempPathFactory, office: Office) -> Iterator[Town]:
    made = Town(tmp_path_factory.mktemp("town"), office)
    yield made
    made.close()


def test_the_table_has_every_route_and_no_other(town: Town) -> None:
    routes = {(method, route.path) for route in town.app.routes for method in route.methods - {"HEAD"}}  # type: ignore[attr-defined]
    assert routes == {(row.method, row.path) for row in TABLE}


@pytest.mark.parametrize("row", TABLE, ids=str)
def test_a_route_lets_in_whom_the_table_names_and_nobody_else(town: Town, row: Row) -> None:
    case = town.over("merchant:shop-1")
    assert {standing for standing in STANDINGS if town.gets_in(row, standing, case)} == row.may


@pytest.mark.parametrize("row", TABLE, ids=str)
def test_who_signs_the_request_gets_in_where_their_own_connection_does(town: Town, row: Row) -> None:
    """And no further: what the operator may, over whose connection it comes, counts for nothing."""
    case = town.over("merchant:shop-1")
    assert {each for each in OFFICERS if town.gets_in(row, f"{SIGNED}{each}", case)} == row.may & OFFICERS


@pytest.mark.parametrize("row", TABLE, ids=str)
def test_a_signature_that_does_not_count_gets_nobody_in(town: Town, row: Row) -> None:
    case = town.over("merchant:shop-1")
    broken = {"signature": "officer=:AAAA:", "signature-input": "officer=()"}
    for standing in ("operator", *sorted(OFFICERS)):
        answer = town.call(row, standing, case, broken)
        if row.path.startswith(UNSIGNED_PATHS):
            assert answer.status_code == 200
        else:
            problem = answer.json()
            assert (answer.status_code, problem["clause"]) == (401, "RFC 9421 4.1"), (row, problem)


@pytest.mark.parametrize("row", [row for row in TABLE if "{application_id}" in row.path], ids=str)
def test_a_case_that_somebody_opened_without_a_name_is_for_whoever_brings_its_secret(town: Town, row: Row) -> None:
    """Its id is known to officers, journals and logs. Nobody without a name amends it; acceptances are signed."""
    secret, another = (written(os.urandom(SIZE)) for _ in range(2))
    case = town.over(name_of(secret))
    accepting = row.path == f"{CASE}/accept"
    assert town.gets_in(row, "anonymous", case, secret=secret) == ("opener" in row.may and row.path not in AMENDING)
    assert town.gets_in(row, "anonymous", case) == accepting
    assert town.gets_in(row, "anonymous", case, secret=another) == accepting
    assert not town.gets_in(row, "opener", case, secret=secret), "whoever has a certificate is who it says"
    assert not town.gets_in(row, "opener", case)
    assert not town.gets_in(row, "member", case)
