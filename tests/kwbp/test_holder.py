"""Row 6: what a holder asks about its own certificate (X1, X2), and which answers it believes (X3 to X6)."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import pytest
from cryptography.hazmat.primitives.serialization import Encoding

from kwbp.codes import CertificateStatus, ErrorCode, RegistrationStatus, RevocationReason
from kwbp.common import Draft
from kwbp.errors import ProtocolError
from kwbp.holder import (
    CertInqReqTBS,
    CheckedHolderRequest,
    RenewReqTBS,
    RevReqTBS,
    SentHolderRequest,
    build_renewal_answer,
    build_renewal_request,
    build_revocation_request,
    build_status_answer,
    build_status_request,
    check_holder_request,
    check_renewal_answer,
    check_status_answer,
    own_order,
    renewed_key,
    require_holder,
)
from kwbp.wrapper import unwrap, wrap
from pki.extensions import CertificateType
from pki.keys import spki_sha256
from pki.oids import CT_CERT_INQ_REQ, CT_CERT_INQ_RES, CT_RENEW_REQ, CT_RENEW_RES, CT_REV_REQ, CT_REVOCATION
from tests.kwbp.forge import changed, refused, signed
from tests.kwbp.registering import csr
from tests.kwbp.world import World, site
from tests.support.pki_factory import Credential, PkiFactory, p256

SECOND = timedelta(seconds=1)
STATUS, REASON = CertificateStatus, RevocationReason
APPLICATION = "ab" * 16
ORDER = b"\x30\x00"  # what it says is for the registration authority
TYPES = {CertInqReqTBS: CT_CERT_INQ_REQ, RevReqTBS: CT_REV_REQ, RenewReqTBS: CT_RENEW_REQ}


class Holding:
    """A merchant that holds a certificate and wants something of it; a registration authority that answers."""

    def __init__(self, world: World | None = None) -> None:
        self.world = world or World(PkiFactory())
        self.ra = self.world.pki.service("ra")
        self.shop = self.world.shop
        self.new_key = p256()
        self.new = self.world.pki.merchant("M-1", replace=site("M-1"), key=self.new_key)

    def draft(self, kind: type[Any], reason: RevocationReason = REASON.KEY_COMPROMISE) -> Draft[Any]:
        fresh: dict[str, Any] = {"rrpid": self.world.rng(20), "chall": self.world.rng(32), "now": self.world.now}
        certificate = self.shop.certificate
        if kind is CertInqReqTBS:
            return build_status_request(certificate, **fresh)
        if kind is RevReqTBS:
            return build_revocation_request(certificate, reason, order=self.shop.sign(CT_REVOCATION, ORDER), **fresh)
        return build_renewal_request(certificate, csr(self.new_key), **fresh)

    def ask(self, kind: type[Any], *, signer: Credential | None = None, **changes: Any) -> tuple[bytes, bytes]:
        """A request as SignedData and as KwbpMessage."""
        body = changed(self.draft(kind).body, changes)
        data = signed(signer or self.shop, TYPES[kind], body)
        return data, wrap(TYPES[kind], data, rrpid=body.rrpid)

    def check(self, kind: type[Any], message: bytes, **changes: Any) -> CheckedHolderRequest[Any]:
        arguments: dict[str, Any] = {"trust": self.world.trust, "now": self.world.now}
        return check_holder_request(unwrap(message, expected=[TYPES[kind]]), kind, **(arguments | changes))

    def asked(self, kind: type[Any]) -> tuple[SentHolderRequest, CheckedHolderRequest[Any]]:
        data, message = self.ask(kind)
        return SentHolderRequest.load(data, kind), self.check(kind, message)

    def answered(
        self, draft: Draft[Any], *, signer: Credential | None = None, more: Any = None, **changes: Any
    ) -> bytes:
        body = changed(draft.body, changes)
        data = signed(signer or self.ra, draft.content_type, body, signing_time=more)
        return wrap(draft.content_type, data, rrpid=body.rrpid)

    def stands(self, message: bytes, sent: SentHolderRequest, **changes: Any) -> Any:
        arguments: dict[str, Any] = {"sent": sent, "trust": self.world.trust, "now": self.world.now}
        return check_status_answer(unwrap(message, expected=[CT_CERT_INQ_RES]), **(arguments | changes))

    def renewed(self, message: bytes, sent: SentHolderRequest, **changes: Any) -> Any:
        arguments: dict[str, Any] = {
            "sent": sent, "certificate": self.shop.certificate, "trust": self.world.trust, "now": self.world.now,
        }  # fmt: skip
        return check_renewal_answer(unwrap(message, expected=[CT_RENEW_RES]), **(arguments | changes))

    def good(self, request: CheckedHolderRequest[Any]) -> Draft[Any]:
        return build_status_answer(request, status=STATUS.GOOD, now=self.world.now)

    def issued(self, request: CheckedHolderRequest[Any], new: Credential | None = None) -> Draft[Any]:
        new = new or self.new
        chain = [new.der, *(each.public_bytes(Encoding.DER) for each in new.chain)]
        return build_renewal_answer(
            request, application=APPLICATION, status=RegistrationStatus.ISSUED, now=self.world.now, chain=chain
        )


@pytest.fixture(scope="module")
def holding() -> Holding:
    return Holding()


ALL = pytest.mark.parametrize("kind", list(TYPES))


# --- the request ---


@ALL
def test_the_holder_asks_about_its_own_certificate(holding: Holding, kind: type[Any]) -> None:
    _, request = holding.asked(kind)
    require_holder(request, holding.shop.certificate)
    assert request.body.serial == holding.shop.certificate.serial_number


def test_the_holder_of_a_newer_certificate_asks_about_an_older_one(holding: Holding) -> None:
    _, message = holding.ask(RevReqTBS, signer=holding.new)
    require_holder(holding.check(RevReqTBS, message), holding.shop.certificate)


@ALL
def test_x1_another_merchant(holding: Holding, kind: type[Any]) -> None:
    _, message = holding.ask(kind, signer=holding.world.other_shop)
    with refused(ErrorCode.ROLE_NOT_ALLOWED, "X1"):
        require_holder(holding.check(kind, message), holding.shop.certificate)


@pytest.mark.parametrize("changes", [{"serial": 7}, {"cert_hash": bytes(32)}])
def test_x1_another_certificate_than_the_one_of_that_serial(holding: Holding, changes: dict[str, Any]) -> None:
    _, message = holding.ask(RevReqTBS, **changes)
    with refused(ErrorCode.ROLE_NOT_ALLOWED, "X1"):
        require_holder(holding.check(RevReqTBS, message), holding.shop.certificate)


def test_x1_a_certificate_of_another_role_or_of_none(holding: Holding) -> None:
    two = CertificateType(frozenset({"card", "mer"})).to_extension()
    odd = holding.world.pki.merchant("M-1", replace={"certificate_type": (two, False), **site("M-1")})
    for certificate in (holding.world.gateway_signing.certificate, odd.certificate):
        draft = build_revocation_request(
            certificate, REASON.SUPERSEDED, order=ORDER, rrpid=bytes(20), chall=bytes(32), now=holding.world.now
        )
        message = draft.message(signed(holding.shop, CT_REV_REQ, draft.body))
        with refused(ErrorCode.ROLE_NOT_ALLOWED, "X1"):
            require_holder(holding.check(RevReqTBS, message), certificate)


def test_a_holder_whose_certificate_is_on_the_crl_asks_and_revokes_but_does_not_renew(holding: Holding) -> None:
    world, suspended = World(holding.world.pki), holding.world.pki.merchant("M-1", replace=site("M-1"))
    world.pki.revoke(suspended)
    trust = world.pki.trust()
    for kind in (CertInqReqTBS, RevReqTBS):
        holding.check(kind, holding.ask(kind, signer=suspended)[1], trust=trust)
    _, message = holding.ask(RenewReqTBS, signer=suspended)
    with refused(ErrorCode.REVOKED_CERTIFICATE, "K5"):
        holding.check(RenewReqTBS, message, trust=trust)


@ALL
def test_k5_a_service_holds_nothing_here_and_nobody_without_a_role(holding: Holding, kind: type[Any]) -> None:
    _, message = holding.ask(kind, signer=holding.ra)
    with refused(ErrorCode.ROLE_NOT_ALLOWED, "K5"):
        holding.check(kind, message)
    two = CertificateType(frozenset({"card", "mer"})).to_extension()
    odd = holding.world.pki.merchant(replace={"certificate_type": (two, False)})
    _, message = holding.ask(kind, signer=odd)
    with refused(ErrorCode.INVALID_CERTIFICATE, "K5"):
        holding.check(kind, message)


@ALL
def test_k2_k7_a_request_is_of_now_and_of_its_header(holding: Holding, kind: type[Any]) -> None:
    data, message = holding.ask(kind)
    with refused(ErrorCode.MESSAGE_TOO_OLD, "K7"):
        holding.check(kind, message, now=holding.world.now + 121 * SECOND)
    with refused(ErrorCode.WRAPPER_MSG_MISMATCH, "K2"):
        holding.check(kind, wrap(TYPES[kind], data, rrpid=bytes(20)))


@ALL
@pytest.mark.parametrize("changes", [{"version": 1}, {"serial": 0}, {"serial": 1 << 159}])
def test_k1_form_of_the_request(holding: Holding, kind: type[Any], changes: dict[str, Any]) -> None:
    _, message = holding.ask(kind, **changes)
    with pytest.raises(ProtocolError) as caught:
        holding.check(kind, message)
    assert caught.value.check == "K1"


def test_k1_a_holder_is_no_authority(holding: Holding) -> None:
    _, message = holding.ask(RevReqTBS, reason=REASON.CA_COMPROMISE)
    with refused(ErrorCode.DECODING_FAILURE, "K1"):
        holding.check(RevReqTBS, message)


def test_x2_the_new_key_is_new_and_its_holder_has_it(holding: Holding) -> None:
    _, request = holding.asked(RenewReqTBS)
    assert renewed_key(request, holding.shop.certificate) == spki_sha256(holding.new_key.public_key())
    _, message = holding.ask(RenewReqTBS, request=csr(holding.shop.key))
    with refused(ErrorCode.INVALID_CERTIFICATE, "X2"):
        renewed_key(holding.check(RenewReqTBS, message), holding.shop.certificate)
    honest = csr(holding.new_key)
    _, message = holding.ask(RenewReqTBS, request=honest[:-1] + bytes([honest[-1] ^ 1]))
    with refused(ErrorCode.SIGNATURE_FAILURE, "X2"):
        renewed_key(holding.check(RenewReqTBS, message), holding.shop.certificate)


def test_x7_the_order_is_signed_with_the_key_of_its_certificate(holding: Holding) -> None:
    certificate = holding.shop.certificate
    _, request = holding.asked(RevReqTBS)
    assert own_order(request, certificate) == ORDER
    honest = request.body.order
    for hostile in (
        b"junk",
        holding.shop.sign(CT_CERT_INQ_REQ, ORDER),
        honest[:-1] + bytes([honest[-1] ^ 1]),
        holding.new.sign(CT_REVOCATION, ORDER),
    ):
        _, message = holding.ask(RevReqTBS, order=hostile)
        with refused(ErrorCode.SIGNATURE_FAILURE, "X7"):
            own_order(holding.check(RevReqTBS, message), certificate)


# --- how a certificate stands ---


@pytest.mark.parametrize(
    ("status", "reason"),
    [(STATUS.GOOD, None), (STATUS.EXPIRED, None), (STATUS.SUSPENDED, REASON.CERTIFICATE_HOLD),
     (STATUS.REVOKED, REASON.KEY_COMPROMISE)],
)  # fmt: skip
def test_the_authority_says_how_it_stands(
    holding: Holding, status: CertificateStatus, reason: RevocationReason | None
) -> None:
    sent, request = holding.asked(CertInqReqTBS)
    since = None if reason is None else holding.world.now
    draft = build_status_answer(request, status=status, since=since, reason=reason, now=holding.world.now)
    told = holding.stands(holding.answered(draft), sent)
    assert (told.status, told.reason) == (status, reason)


@pytest.mark.parametrize(
    "changes",
    [{"version": 1}, {"status": STATUS.REVOKED}, {"reason": REASON.SUPERSEDED},
     {"status": STATUS.SUSPENDED, "since": True, "reason": REASON.SUPERSEDED},
     {"status": STATUS.REVOKED, "since": True, "reason": REASON.CERTIFICATE_HOLD}],
)  # fmt: skip
def test_k1_form_of_the_answer(holding: Holding, changes: dict[str, Any]) -> None:
    sent, request = holding.asked(CertInqReqTBS)
    changes = changes | ({"since": holding.world.now} if "since" in changes else {})
    with pytest.raises(ProtocolError) as caught:
        holding.stands(holding.answered(holding.good(request), **changes), sent)
    assert caught.value.check == "K1"


@pytest.mark.parametrize(
    "changes", [{"rrpid": bytes(20)}, {"chall": bytes(32)}, {"h_request": bytes(32)}, {"serial": 7},
                {"cert_hash": bytes(32)}],
)  # fmt: skip
def test_x3_answer_to_another_request(holding: Holding, changes: dict[str, Any]) -> None:
    sent, request = holding.asked(CertInqReqTBS)
    with refused(ErrorCode.CHALLENGE_MISMATCH, "X3"):
        holding.stands(holding.answered(holding.good(request), **changes), sent)


def test_x4_answer_of_another_service(holding: Holding) -> None:
    sent, request = holding.asked(CertInqReqTBS)
    with refused(ErrorCode.ROLE_NOT_ALLOWED, "X4"):
        holding.stands(holding.answered(holding.good(request), signer=holding.world.pki.service("ca")), sent)
    with refused(ErrorCode.ROLE_NOT_ALLOWED, "K5"):
        holding.stands(holding.answered(holding.good(request), signer=holding.shop), sent)


def test_k2_k7_header_and_age_of_the_answer(holding: Holding) -> None:
    sent, request = holding.asked(CertInqReqTBS)
    draft = holding.good(request)
    with refused(ErrorCode.MESSAGE_TOO_OLD, "K7"):
        holding.stands(holding.answered(draft, more=holding.world.now - 121 * SECOND), sent)
    with refused(ErrorCode.WRAPPER_MSG_MISMATCH, "K2"):
        data = signed(holding.ra, CT_CERT_INQ_RES, draft.body)
        holding.stands(wrap(CT_CERT_INQ_RES, data, rrpid=bytes(20)), sent)


def test_x5_what_is_to_be_revoked_is_not_good_any_more(holding: Holding) -> None:
    sent, request = holding.asked(RevReqTBS)
    with refused(ErrorCode.UNSPECIFIED_FAILURE, "X5"):
        holding.stands(holding.answered(holding.good(request)), sent)
    draft = build_status_answer(
        request, status=STATUS.REVOKED, since=holding.world.now, reason=REASON.KEY_COMPROMISE, now=holding.world.now
    )
    assert holding.stands(holding.answered(draft), sent).status is STATUS.REVOKED


# --- the next certificate ---


def test_a_renewal_waits_and_then_brings_the_certificate(holding: Holding) -> None:
    sent, request = holding.asked(RenewReqTBS)
    waiting = build_renewal_answer(
        request, application=APPLICATION, status=RegistrationStatus.PENDING, now=holding.world.now
    )
    assert holding.renewed(holding.answered(waiting), sent).chain == ()
    found = holding.renewed(holding.answered(holding.issued(request)), sent)
    assert found.chain == (holding.new.certificate, *holding.new.chain)
    assert found.body.application == APPLICATION


def test_x6_a_certificate_for_another_key_name_or_role(holding: Holding) -> None:
    sent, request = holding.asked(RenewReqTBS)
    pki = holding.world.pki
    for hostile in (holding.shop, pki.merchant("M-2", shop="Other", key=holding.new_key)):
        with refused(ErrorCode.INVALID_CERTIFICATE, "X6"):
            holding.renewed(holding.answered(holding.issued(request, hostile)), sent)
    with refused(ErrorCode.ROLE_NOT_ALLOWED, "X6"):
        holding.renewed(holding.answered(holding.issued(request, pki.gateway_signing(key=holding.new_key))), sent)


def test_x6_what_is_no_certificate(holding: Holding) -> None:
    sent, request = holding.asked(RenewReqTBS)
    with refused(ErrorCode.INVALID_CERTIFICATE, "X6"):
        holding.renewed(holding.answered(holding.issued(request), chain=[b"\x30\x00"]), sent)


@pytest.mark.parametrize("changes", [{"version": 1}, {"application": "7"}, {"chain": []}])
def test_k1_form_of_the_renewal(holding: Holding, changes: dict[str, Any]) -> None:
    sent, request = holding.asked(RenewReqTBS)
    with pytest.raises(ProtocolError) as caught:
        holding.renewed(holding.answered(holding.issued(request), **changes), sent)
    assert caught.value.check == "K1"


def test_x3_renewal_of_another_request(holding: Holding) -> None:
    sent, request = holding.asked(RenewReqTBS)
    with refused(ErrorCode.CHALLENGE_MISMATCH, "X3"):
        holding.renewed(holding.answered(holding.issued(request), h_request=bytes(32)), sent)


def test_only_a_renewal_request_has_such_an_answer(holding: Holding) -> None:
    sent, _ = holding.asked(RevReqTBS)
    _, request = holding.asked(RenewReqTBS)
    with pytest.raises(ValueError, match="RenewReq"):
        holding.renewed(holding.answered(holding.issued(request)), sent)
