"""Merchants and gateways by the protocol's own messages: pending until officers decided, then their certificates."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from datetime import timedelta
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.serialization import Encoding

from kwbp.codes import ErrorCode, RegistrationStatus
from kwbp.error_message import read_error
from kwbp.registration import answer, init, members
from kwbp.registration.messages import InitResTBS
from kwbp.registration.signers import self_signed
from kwbp.wrapper import MEDIA_TYPE, unwrap
from pki import cms_signed
from pki.csr import parse_csr
from pki.der import sha256
from pki.keys import spki_sha256
from pki.oids import (
    CT_ERROR,
    CT_GW_CERT_REQ,
    CT_GW_CERT_RES,
    CT_MER_CERT_REQ,
    CT_MER_CERT_RES,
    CT_MER_INIT_RES,
    MT_MER_INIT_REQ,
)
from pki.roles import Role
from ra.states import State
from tests.kwbp.registering import csr
from tests.support.cps_cases import BIN, Office
from tests.support.pki_factory import Key, p256, rsa_key
from tests.support.ra_world import DOCUMENTS
from tests.support.registration_site import RegistrationSite

HEADERS = {"content-type": MEDIA_TYPE}
SHOP = members.MerchantToEnrol(
    merchant_id="M-77",
    name="Bookshop",
    organisation="Bookshop Co",
    acquirer_bin=BIN,
    iban="IR820540102680020817909002",
    licence="1404/12-7",
    origin="https://shop.example",
    hosts=("localhost",),
)
GATEWAY = members.GatewayToEnrol(
    gateway_id="GW-7", name="Gateway Seven", organisation="Acquirer", acquirer_bin=BIN, suites=("oaep-sha256",)
)


class Members:
    """Applicants in front of one site."""

    def __init__(self, site: RegistrationSite) -> None:
        self.site = site
        self.world = site.world
        self.number = 0
        self.since = site.world.now

    def fresh(self, size: int) -> bytes:
        self.number += 1
        return self.number.to_bytes(size, "big")

    def init(self) -> InitResTBS:
        root = self.site.desk.workflow.trust(self.world.now).anchors[0]
        request = init.build_init_request(
            MT_MER_INIT_REQ,
            rrpid=self.fresh(20),
            chall_ee=self.fresh(32),
            brand_id="Shetab",
            thumbs=[sha256(root.public_bytes(Encoding.DER))],
        )
        response = self.site.http.post("/v1/registration", content=request.message, headers=HEADERS)
        found = unwrap(response.content, expected=[CT_MER_INIT_RES])
        now = self.world.now
        return init.check_init_response(found, request=request, asked=now, trust=self.site.trust(now), now=now).body

    def merchant(self, keys: dict[str, Key], shop: members.MerchantToEnrol = SHOP) -> bytes:
        told = self.init()
        draft = members.build_merchant_request(
            shop,
            rrpid=self.fresh(20),
            chall_ee=told.chall_ee,
            chall_ca=told.chall_ca,
            requests={purpose: csr(key) for purpose, key in keys.items()},
            now=self.world.now,
        )
        key = keys["tls"]
        certificate = self_signed(key, now=self.world.now)
        return draft.message(
            cms_signed.sign(
                draft.content_type,
                draft.content,
                key=key,
                signer=certificate,
                chain=(),
                signing_time=self.world.now,
            )
        )

    def gateway(self, keys: dict[str, Key]) -> bytes:
        office = self.site.office
        draft = members.build_gateway_request(
            GATEWAY,
            rrpid=self.fresh(20),
            chall_ee=self.fresh(32),
            requests={purpose: csr(key) for purpose, key in keys.items()},
            attestations=[
                office.attestation(spki_sha256(key.public_key()), at=self.world.now) for key in keys.values()
            ],
            now=self.world.now,
        )
        service = office.pki.service("gateway")
        return draft.message(service.sign(draft.content_type, draft.content, signing_time=self.world.now))

    def ask(self, message: bytes) -> answer.CheckedAnswer:
        response = self.site.http.post("/v1/registration", content=message, headers=HEADERS)
        found = unwrap(response.content, expected=[CT_MER_CERT_RES, CT_GW_CERT_RES])
        inner = unwrap(message, expected=[CT_MER_CERT_REQ, CT_GW_CERT_REQ])
        received = (
            members.receive_merchant_request(inner)
            if inner.msg_type == CT_MER_CERT_REQ
            else members.receive_gateway_request(inner)
        )
        requests = {each.purpose: each.request for each in received.body.requests}
        keys = {purpose: spki_sha256(parse_csr(request).public_key()) for purpose, request in requests.items()}
        sent = answer.SentRequest(
            found.msg_type, inner.rrpid, received.body.chall_ee, sha256(inner.body), keys, self.since
        )
        now = self.world.now
        return answer.check_response(found, sent=sent, trust=self.site.trust(now), now=now)

    def refusal(self, message: bytes) -> tuple[ErrorCode, str]:
        response = self.site.http.post("/v1/registration", content=message, headers=HEADERS)
        now = self.world.now
        found = read_error(
            unwrap(response.content, expected=[CT_ERROR]),
            sent=message,
            role=Role.SERVICE,
            trust=self.site.trust(now),
            now=now,
        )
        return found.body.error_code, found.body.clause


@pytest.fixture
def applicants(tmp_path: Path, office: Office) -> Iterator[Members]:
    site = RegistrationSite(tmp_path, office)
    yield Members(site)
    site.close()


def test_a_merchant_waits_for_officers_and_then_has_its_certificates(applicants: Members) -> None:
    world = applicants.world
    message = applicants.merchant({"signing": p256(), "tls": p256()})
    waiting = applicants.ask(message)
    assert (waiting.body.status, waiting.body.ask_again) == (RegistrationStatus.PENDING, 900)
    assert waiting.chains == {}
    application = waiting.body.application
    for kind in DOCUMENTS:
        world.add_document(application, kind)
    world.decide(application, "vet", world.office.vetter)
    assert applicants.ask(message).body.status is RegistrationStatus.PENDING
    world.decide(application, "approve", world.office.approver)
    issued = applicants.ask(message)
    assert issued.body.status is RegistrationStatus.ISSUED
    assert set(issued.chains) == {"signing", "tls"}
    assert [each.state for each in world.store.applications()] == [State.ISSUED]
    assert applicants.site.http.post("/v1/registration", content=message, headers=HEADERS).content == (
        applicants.site.store.of_application(application).answer  # type: ignore[union-attr]  # it is there
    )


def test_what_a_merchant_said_is_on_file(applicants: Members) -> None:
    waiting = applicants.ask(applicants.merchant({"signing": p256(), "tls": p256()}))
    row = applicants.site.store.of_application(waiting.body.application)
    assert row is not None
    assert SHOP.licence.encode() in row.signed
    subject = applicants.world.store.revision(applicants.world.store.application(waiting.body.application)).subject  # type: ignore[union-attr]  # it was submitted
    assert (subject.merchant_id, subject.iban, subject.origin) == (SHOP.merchant_id, SHOP.iban, SHOP.origin)


def test_a_rejected_merchant_is_told_so_for_good(applicants: Members) -> None:
    world = applicants.world
    message = applicants.merchant({"signing": p256(), "tls": p256()})
    application = applicants.ask(message).body.application
    for kind in DOCUMENTS:
        world.add_document(application, kind)
    world.reject(application, "vet", world.office.vetter)
    assert applicants.ask(message).body.status is RegistrationStatus.REJECTED
    world.clock.forward(timedelta(hours=1))
    assert applicants.ask(message).body.status is RegistrationStatus.REJECTED


def test_a_merchant_of_an_unknown_acquirer_is_sent_back(applicants: Members) -> None:
    shop = replace(SHOP, acquirer_bin="123456")
    answered = applicants.ask(applicants.merchant({"signing": p256(), "tls": p256()}, shop))
    assert answered.body.status is RegistrationStatus.RETURNED


def test_a_subject_that_its_class_does_not_allow(applicants: Members) -> None:
    keys: dict[str, Key] = {"signing": p256(), "tls": p256()}
    shop = replace(SHOP, organisation="Bookshop \u0410", origin="https://shop..example")
    message = applicants.merchant(keys, shop)
    assert applicants.refusal(message) == (ErrorCode.INVALID_CERTIFICATE, "C8")
    assert applicants.refusal(message) == (ErrorCode.INVALID_CERTIFICATE, "C8")
    assert [each.state for each in applicants.world.store.applications()] == [State.WITHDRAWN]


def test_a_gateway_comes_with_its_attestations(applicants: Members) -> None:
    world, office = applicants.world, applicants.world.office
    keys: dict[str, Key] = {"signing": p256(), "encryption": rsa_key(3)}
    message = applicants.gateway(keys)
    application = applicants.ask(message).body.application
    assert len(world.store.evidence(application)) == 2
    assert applicants.ask(message).body.status is RegistrationStatus.PENDING
    assert len(world.store.evidence(application)) == 2
    world.decide(application, "vet", office.vetter)
    world.decide(application, "approve", office.approver)
    world.decide(application, "approve", office.approver_2)
    assert applicants.ask(message).body.status is RegistrationStatus.PENDING
    world.decide(application, "release", office.security)
    issued = applicants.ask(message)
    assert set(issued.chains) == {"signing", "encryption"}


def test_a_gateway_that_another_service_signs_for(applicants: Members) -> None:
    draft = members.build_gateway_request(
        GATEWAY,
        rrpid=applicants.fresh(20),
        chall_ee=applicants.fresh(32),
        requests={"signing": csr(p256())},
        attestations=[b"\x30\x00"],
        now=applicants.world.now,
    )
    signed = applicants.site.office.bank.sign(draft.content_type, draft.content, signing_time=applicants.world.now)
    assert applicants.refusal(draft.message(signed)) == (ErrorCode.ROLE_NOT_ALLOWED, "C4")
    assert applicants.world.store.applications() == []
