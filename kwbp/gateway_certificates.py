"""Row 8: PCertReq and PCertRes: a merchant asks its acquirer's gateway what card data are to be sealed to.

What an invoice names is a promise to the buyer; with the answer the merchant can show from whom it has the name. It is
the gateway's word about its own certificate: path, role and acquirer are judged all the same.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Annotated

from cryptography import x509
from cryptography.hazmat import asn1

from kwbp import fields
from kwbp.codes import CertificateStatus, ErrorCode
from kwbp.common import (
    Draft,
    Received,
    check_answer,
    check_live,
    instant,
    read_signed,
    require,
    verify_path,
    verify_signer,
)
from kwbp.errors import ProtocolError
from kwbp.fields import Der, Hash32, Id20
from kwbp.parties import GatewayIdentity, MerchantIdentity, gateway_data
from kwbp.structure import Structure
from kwbp.wrapper import KwbpMessage, check_header
from pki.der import decode
from pki.errors import DerError
from pki.oids import CT_P_CERT_REQ, CT_P_CERT_RES
from pki.path import Trust
from pki.roles import Role


@asn1.sequence
class PCertReqTBS(Structure):
    """id-kwbp-ct-pCertReq, signed by the merchant: "what are card data to be sealed to?" `chall` is fresh."""

    version: int
    rrpid: Id20
    merchant_id: str
    chall: Hash32
    date: asn1.GeneralizedTime

    def validate(self) -> None:
        fields.check_version(self.version)
        fields.check_pattern("merchantID", self.merchant_id, fields.NAME)
        fields.check_times(("date", self.date))


@asn1.sequence
class GatewayCertificate(Structure):
    """An encryption certificate of the gateway (DER), and how it stands by its own word."""

    certificate: Der
    status: CertificateStatus

    def validate(self) -> None:
        """Nothing beyond the types: the certificate is judged by its path."""


@asn1.sequence
class PCertResTBS(Structure):
    """id-kwbp-ct-pCertRes, signed by the gateway. The first certificate is the one to seal to.

    `chain` holds the CA certificates between it and the root, in any order, each as DER. `h_p_cert_req` is SHA-256 of
    the request's SignedData.
    """

    version: int
    rrpid: Id20
    merchant_id: str
    chall: Hash32
    h_p_cert_req: Hash32
    gw_id: str
    acquirer_id: str
    certificates: Annotated[list[GatewayCertificate], asn1.Size(1, 4)]
    chain: Annotated[list[Der], asn1.Size(0, 8)]
    date: asn1.GeneralizedTime

    def validate(self) -> None:
        fields.check_version(self.version)
        fields.check_pattern("merchantID", self.merchant_id, fields.NAME)
        fields.check_pattern("gwID", self.gw_id, fields.NAME)
        fields.check_pattern("acquirerID", self.acquirer_id, fields.ACQUIRER)
        if self.certificates[0].status is not CertificateStatus.GOOD:
            raise fields.refuse("certificates", "the first must be good")
        fields.check_times(("date", self.date))


def build_certificate_request(*, rrpid: bytes, merchant_id: str, chall: bytes, now: datetime) -> Draft[PCertReqTBS]:
    """PCertReq (row 8), to be signed by the merchant.

    :param rrpid: 20 fresh random bytes. :param chall: 32 fresh random bytes.
    """
    body = PCertReqTBS(
        version=fields.VERSION, rrpid=rrpid, merchant_id=merchant_id, chall=chall, date=fields.to_time(now)
    )
    return Draft.of(CT_P_CERT_REQ, body, rrpid=rrpid, xid=None)


@dataclass(frozen=True, slots=True)
class SentCertificateRequest:
    """What the merchant remembers of its request, to judge the answer by."""

    h_p_cert_req: bytes
    rrpid: bytes
    merchant_id: str
    chall: bytes
    sent_at: datetime

    @classmethod
    def load(cls, signed: bytes) -> SentCertificateRequest:
        """Read it out of the own SignedData as it was sent."""
        received = read_signed(PCertReqTBS, CT_P_CERT_REQ, signed)
        body = received.body
        return cls(received.digest, body.rrpid, body.merchant_id, body.chall, instant(body.date))


def check_certificate_request(
    message: KwbpMessage, *, tls_merchant_id: str, trust: Trust, now: datetime
) -> Received[PCertReqTBS]:
    """PCertReq (row 8): K1, K2, K4 to K7, then O1.

    :param message: from `unwrap(…, expected=[CT_P_CERT_REQ])`.
    :param tls_merchant_id: the merchant at the other end of the connection.
    :raises ProtocolError: see `kwbp.checks`.
    """
    received = read_signed(PCertReqTBS, CT_P_CERT_REQ, message.body)
    body = received.body
    check_header(message, CT_P_CERT_REQ, rrpid=body.rrpid, xid=None)
    verify_signer(received, role=Role.MERCHANT, trust=trust, now=now)
    check_live(received, body.date, now=now)
    require(
        MerchantIdentity.of(received.signer).merchant_id == body.merchant_id == tls_merchant_id,
        ErrorCode.ROLE_NOT_ALLOWED,
        "O1",
        "asker must be the merchant that it names, and the TLS peer",
    )
    return received


def build_certificate_answer(
    request: Received[PCertReqTBS], *, gateway: GatewayIdentity, encryption_chain: Sequence[bytes], now: datetime
) -> Draft[PCertResTBS]:
    """PCertRes (row 8), to be signed by the gateway.

    :param encryption_chain: DER, the certificate of `gateway` first, then the CA certificates above it.
    """
    asked = request.body
    leaf, *chain = encryption_chain
    body = PCertResTBS(
        version=fields.VERSION,
        rrpid=asked.rrpid,
        merchant_id=asked.merchant_id,
        chall=asked.chall,
        h_p_cert_req=request.digest,
        gw_id=gateway.gateway_id,
        acquirer_id=gateway.acquirer_bin,
        certificates=[GatewayCertificate(certificate=leaf, status=CertificateStatus.GOOD)],
        chain=chain,
        date=fields.to_time(now),
    )
    return Draft.of(CT_P_CERT_RES, body, rrpid=body.rrpid, xid=None)


@dataclass(frozen=True, slots=True)
class GatewayCertificates:
    """What invoices name and wallets seal to. `chain`: CA certificates above it, without the root."""

    identity: GatewayIdentity
    chain: tuple[x509.Certificate, ...]


def check_certificate_answer(
    message: KwbpMessage, *, sent: SentCertificateRequest, acquirer_bin: str, trust: Trust, now: datetime
) -> GatewayCertificates:
    """PCertRes (row 8): K1, K2, K4 to K7, then O2 to O4.

    :param message: from `unwrap(…, expected=[CT_P_CERT_RES])`.
    :param acquirer_bin: the merchant's own acquirer, as its certificate names it.
    :raises ProtocolError: see `kwbp.checks`.
    """
    received = read_signed(PCertResTBS, CT_P_CERT_RES, message.body)
    body = received.body
    check_header(message, CT_P_CERT_RES, rrpid=body.rrpid, xid=None)
    require(
        (body.rrpid, body.merchant_id, body.chall, body.h_p_cert_req)
        == (sent.rrpid, sent.merchant_id, sent.chall, sent.h_p_cert_req),
        ErrorCode.CHALLENGE_MISMATCH,
        "O2",
        "RRPID, merchant, challenge and hash must be those of the request",
    )
    verify_signer(received, role=Role.GATEWAY_SIGNING, trust=trust, now=now)
    check_answer(received, body.date, asked=sent.sent_at, now=now)
    signer = gateway_data(received.signer)
    require(
        (signer.gateway_id, signer.acquirer_bin) == (body.gw_id, body.acquirer_id)
        and signer.acquirer_bin == acquirer_bin,
        ErrorCode.GATEWAY_MISMATCH,
        "O3",
        "answer must come from a gateway of the merchant's acquirer, which names itself",
    )
    found = GatewayCertificates(
        GatewayIdentity.of(_certificate(body.certificates[0].certificate)),
        tuple(_certificate(der) for der in body.chain),
    )
    require_gateway(found, acquirer_bin=acquirer_bin, trust=trust, now=now)
    require(
        found.identity.gateway_id == body.gw_id,
        ErrorCode.GATEWAY_MISMATCH,
        "O4",
        "certificate must be of the gateway that answers",
    )
    return found


def require_gateway(found: GatewayCertificates, *, acquirer_bin: str, trust: Trust, now: datetime) -> None:
    """O4, as the wallet will ask it again (W6, W7): a gateway's valid certificate, of this acquirer.

    :raises ProtocolError: as `kwbp.common.verify_path`; gatewayMismatch.
    """
    verify_path(found.identity.certificate, found.chain, role=Role.GATEWAY_ENCRYPTION, trust=trust, now=now, check="O4")
    require(
        found.identity.acquirer_bin == acquirer_bin,
        ErrorCode.GATEWAY_MISMATCH,
        "O4",
        "certificate must be of the merchant's acquirer",
    )


def _certificate(der: bytes) -> x509.Certificate:
    try:
        return decode(x509.Certificate, der)
    except DerError:
        raise ProtocolError(ErrorCode.INVALID_CERTIFICATE, "O4", "must be a certificate in DER") from None
