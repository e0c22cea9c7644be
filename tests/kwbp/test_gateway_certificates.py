"""Row 8: a merchant asks what card data are to be sealed to (O1), and whom it believes (O2 to O4)."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import pytest
from cryptography.hazmat.primitives.serialization import Encoding

from kwbp.codes import CertificateStatus, ErrorCode
from kwbp.errors import ProtocolError
from kwbp.gateway import GatewayIdentity
from kwbp.gateway_certificates import (
    GatewayCertificate,
    GatewayCertificates,
    PCertResTBS,
    SentCertificateRequest,
    build_certificate_answer,
    build_certificate_request,
    check_certificate_answer,
    check_certificate_request,
)
from kwbp.validators import VALIDATORS
from kwbp.wrapper import unwrap, wrap
from pki import der
from pki.oids import CT_P_CERT_REQ, CT_P_CERT_RES
from tests.kwbp.forge import changed, refused, signed
from tests.kwbp.world import World
from tests.support.pki_factory import Credential, rsa_key

SECOND = timedelta(seconds=1)


def ask(world: World, *, signer: Credential | None = None, **changes: Any) -> bytes:
    """PCertReq as SignedData."""
    draft = build_certificate_request(rrpid=world.rng(20), merchant_id="M-1", chall=world.rng(32), now=world.now)
    return signed(signer or world.shop, CT_P_CERT_REQ, changed(draft.body, changes))


def as_message(data: bytes) -> bytes:
    return wrap(CT_P_CERT_REQ, data, rrpid=SentCertificateRequest.load(data).rrpid)


def check(world: World, message: bytes, **changes: Any) -> Any:
    arguments: dict[str, Any] = {"tls_merchant_id": "M-1", "trust": world.trust, "now": world.now}
    return check_certificate_request(unwrap(message, expected=[CT_P_CERT_REQ]), **(arguments | changes))


class Asked:
    """A merchant's request, and answers to it."""

    def __init__(self, world: World) -> None:
        self.world = world
        self.signed = ask(world)
        self.request = check(world, as_message(self.signed))
        self.acquirer = world.merchant_identity.acquirer_bin

    def body(self, encryption: Credential | None = None) -> PCertResTBS:
        encryption = encryption or self.world.gateway_encryption
        chain = [each.public_bytes(Encoding.DER) for each in encryption.chain]
        return build_certificate_answer(
            self.request,
            gateway=GatewayIdentity.of(encryption.certificate),
            encryption_chain=[encryption.der, *chain],
            now=self.world.now,
        ).body

    def message(self, body: PCertResTBS, *, signer: Credential | None = None, **more: Any) -> bytes:
        data = signed(signer or self.world.gateway_signing, CT_P_CERT_RES, body, **more)
        return wrap(CT_P_CERT_RES, data, rrpid=body.rrpid)

    def told(self, message: bytes, **changes: Any) -> GatewayCertificates:
        arguments: dict[str, Any] = {
            "sent": SentCertificateRequest.load(self.signed),
            "acquirer_bin": self.acquirer,
            "trust": self.world.trust,
            "now": self.world.now,
        }
        return check_certificate_answer(unwrap(message, expected=[CT_P_CERT_RES]), **(arguments | changes))


@pytest.fixture(scope="module")
def asked(world: World) -> Asked:
    return Asked(world)


def test_the_merchant_learns_the_certificate_and_its_path(asked: Asked) -> None:
    found = asked.told(asked.message(asked.body()))
    assert found.identity == asked.world.gateway_identity
    assert found.chain == asked.world.gateway_encryption.chain


# --- the request ---


def test_o1_another_merchant(world: World) -> None:
    with refused(ErrorCode.ROLE_NOT_ALLOWED, "O1"):
        check(world, as_message(ask(world, signer=world.other_shop)))
    with refused(ErrorCode.ROLE_NOT_ALLOWED, "O1"):
        check(world, as_message(ask(world, merchant_id="M-2")))
    with refused(ErrorCode.ROLE_NOT_ALLOWED, "O1"):
        check(world, as_message(ask(world)), tls_merchant_id="M-2")


def test_k5_a_card_does_not_ask(world: World) -> None:
    with refused(ErrorCode.ROLE_NOT_ALLOWED, "K5"):
        check(world, as_message(ask(world, signer=world.buyer)))


def test_k7_a_request_is_signed_just_now(world: World) -> None:
    with refused(ErrorCode.MESSAGE_TOO_OLD, "K7"):
        check(world, as_message(ask(world)), now=world.now + 121 * SECOND)


def test_k2_header_of_another_request(world: World) -> None:
    with refused(ErrorCode.WRAPPER_MSG_MISMATCH, "K2"):
        check(world, wrap(CT_P_CERT_REQ, ask(world), rrpid=bytes(20)))


@pytest.mark.parametrize("changes", [{"version": 1}, {"merchant_id": ""}])
def test_k1_form_of_the_request(world: World, changes: dict[str, Any]) -> None:
    data = ask(world, **changes)
    with pytest.raises(ProtocolError) as caught:
        check(world, wrap(CT_P_CERT_REQ, data, rrpid=bytes(20)))
    assert caught.value.check == "K1"


# --- the answer ---


@pytest.mark.parametrize(
    "changes", [{"rrpid": bytes(20)}, {"merchant_id": "M-2"}, {"chall": bytes(32)}, {"h_p_cert_req": bytes(32)}]
)
def test_o2_answer_to_another_request(asked: Asked, changes: dict[str, Any]) -> None:
    with refused(ErrorCode.CHALLENGE_MISMATCH, "O2"):
        asked.told(asked.message(changed(asked.body(), changes)))


def test_k2_header_that_the_answer_contradicts(asked: Asked) -> None:
    data = signed(asked.world.gateway_signing, CT_P_CERT_RES, asked.body())
    with refused(ErrorCode.WRAPPER_MSG_MISMATCH, "K2"):
        asked.told(wrap(CT_P_CERT_RES, data, rrpid=bytes(20)))


def test_k5_answer_of_somebody_who_is_no_gateway(asked: Asked) -> None:
    with refused(ErrorCode.ROLE_NOT_ALLOWED, "K5"):
        asked.told(asked.message(asked.body(), signer=asked.world.shop))


def test_k7_answer_older_than_the_question(asked: Asked) -> None:
    with refused(ErrorCode.MESSAGE_TOO_OLD, "K7"):
        asked.told(asked.message(asked.body(), signing_time=asked.world.now - 121 * SECOND))


def test_o3_answer_of_another_gateway(asked: Asked) -> None:
    with refused(ErrorCode.GATEWAY_MISMATCH, "O3"):
        asked.told(asked.message(asked.body(), signer=asked.world.other_gateway_signing))


def test_o3_gateway_of_another_acquirer(asked: Asked) -> None:
    foreign = asked.world.pki.gateway_signing("GW-1", acquirer_bin="622106")
    body = changed(asked.body(), {"acquirer_id": "622106"})
    with refused(ErrorCode.GATEWAY_MISMATCH, "O3"):
        asked.told(asked.message(body, signer=foreign))


def test_o4_certificate_of_another_gateway(asked: Asked) -> None:
    body = changed(asked.body(asked.world.other_gateway_encryption), {"gw_id": "GW-1"})
    with refused(ErrorCode.GATEWAY_MISMATCH, "O4"):
        asked.told(asked.message(body))


def test_o4_certificate_of_another_acquirer(asked: Asked) -> None:
    foreign = asked.world.pki.gateway_encryption("GW-1", acquirer_bin="622106", key=rsa_key(1))
    body = changed(asked.body(foreign), {"acquirer_id": asked.acquirer})
    with refused(ErrorCode.GATEWAY_MISMATCH, "O4"):
        asked.told(asked.message(body))


def test_o4_certificate_that_is_revoked(asked: Asked) -> None:
    pki = asked.world.pki
    revoked = pki.gateway_encryption("GW-1", key=rsa_key(1))
    pki.revoke(revoked)
    with refused(ErrorCode.REVOKED_CERTIFICATE, "O4"):
        asked.told(asked.message(asked.body(revoked)), trust=pki.trust())


def test_o4_what_is_no_certificate(asked: Asked) -> None:
    none = GatewayCertificate(certificate=b"\x30\x00", status=CertificateStatus.GOOD)
    with refused(ErrorCode.INVALID_CERTIFICATE, "O4"):
        asked.told(asked.message(changed(asked.body(), {"certificates": [none]})))
    with refused(ErrorCode.INVALID_CERTIFICATE, "O4"):
        asked.told(asked.message(changed(asked.body(), {"chain": [b"\x30\x00"]})))


def test_k5_certificate_that_names_no_gateway(asked: Asked) -> None:
    shop = GatewayCertificate(certificate=asked.world.shop.der, status=CertificateStatus.GOOD)
    with refused(ErrorCode.INVALID_CERTIFICATE, "K5"):
        asked.told(asked.message(changed(asked.body(), {"certificates": [shop]})))


def test_k1_the_first_certificate_is_good(asked: Asked) -> None:
    old = GatewayCertificate(certificate=asked.world.gateway_encryption.der, status=CertificateStatus.REVOKED)
    with refused(ErrorCode.DECODING_FAILURE, "K1"):
        asked.told(asked.message(changed(asked.body(), {"certificates": [old]})))


@pytest.mark.parametrize("changes", [{"version": 3}, {"merchant_id": ""}, {"gw_id": ""}, {"acquirer_id": "x"}])
def test_k1_form_of_the_answer(asked: Asked, changes: dict[str, Any]) -> None:
    with pytest.raises(ProtocolError) as caught:
        asked.told(asked.message(changed(asked.body(), changes)))
    assert caught.value.check == "K1"


def test_s1_a_key_asks_and_answers_for_its_own_party(asked: Asked) -> None:
    world, request, answer = asked.world, der.encode(asked.request.body), der.encode(asked.body())
    VALIDATORS[CT_P_CERT_REQ](request, world.shop.certificate)
    VALIDATORS[CT_P_CERT_RES](answer, world.gateway_signing.certificate)
    with refused(ErrorCode.ROLE_NOT_ALLOWED, "S1"):
        VALIDATORS[CT_P_CERT_REQ](request, world.other_shop.certificate)
    with refused(ErrorCode.ROLE_NOT_ALLOWED, "S1"):
        VALIDATORS[CT_P_CERT_RES](answer, world.other_gateway_signing.certificate)
