"""Who merchants and gateways are to the protocol: what their certificates say, read once and kept.

A certificate is not believed because it is read here; its path is verified where it is used (K5).
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache

from cryptography import x509
from cryptography.hazmat.primitives import hashes

from kwbp.codes import ErrorCode
from kwbp.errors import ProtocolError
from pki.algorithms import SealingSuite
from pki.errors import CertificateError
from pki.extensions import GatewayData, MerchantData, SealingSuites
from pki.names import identity_uris


@dataclass(frozen=True, slots=True)
class MerchantIdentity:
    """A merchant as its signature certificate names it.

    `cert_hash` is merCertHash: SHA-256 of the certificate's DER. `online` is SET's merAuthFlag. `origins` are the sites
    it may sell on, `https://host[:port]`.
    """

    certificate: x509.Certificate
    cert_hash: bytes
    merchant_id: str
    acquirer_bin: str
    name: str
    online: bool
    origins: tuple[str, ...]

    @staticmethod
    def of(certificate: x509.Certificate) -> MerchantIdentity:
        """Read merchantData.

        :raises ProtocolError: invalidCertificate (K5) if the certificate has none, or a malformed one.
        """
        return _merchant(certificate)


@dataclass(frozen=True, slots=True)
class GatewayIdentity:
    """A gateway as its encryption certificate names it: what card data are sealed to.

    `cert_hash` is gwCertHash: SHA-256 of the certificate's DER. `suites` are what its token can open.
    """

    certificate: x509.Certificate
    cert_hash: bytes
    gateway_id: str
    acquirer_bin: str
    suites: tuple[SealingSuite, ...]

    @staticmethod
    def of(encryption_certificate: x509.Certificate) -> GatewayIdentity:
        """Read gatewayData and the sealing suites.

        :raises ProtocolError: invalidCertificate (K5) if the certificate lacks one of them, or has a malformed one.
        """
        return _gateway(encryption_certificate)

    @property
    def strongest_suite(self) -> SealingSuite:
        """What a wallet seals with: OAEP with SHA-256 where the token can open it."""
        return SealingSuite.OAEP_SHA256 if SealingSuite.OAEP_SHA256 in self.suites else self.suites[0]


@lru_cache(maxsize=1024)
def _merchant(certificate: x509.Certificate) -> MerchantIdentity:
    try:
        data = MerchantData.from_certificate(certificate)
        uris = identity_uris(certificate)
    except CertificateError as error:
        raise _unreadable("merchantData", error.reason) from None
    if data is None:
        raise _unreadable("merchantData", "absent")
    return MerchantIdentity(
        certificate=certificate,
        cert_hash=certificate.fingerprint(hashes.SHA256()),
        merchant_id=data.merchant_id,
        acquirer_bin=data.acquirer_bin,
        name=data.name,
        online=data.online,
        origins=tuple(uri for uri in uris if uri.startswith("https://")),
    )


@lru_cache(maxsize=256)
def _gateway(certificate: x509.Certificate) -> GatewayIdentity:
    data = gateway_data(certificate)
    try:
        suites = SealingSuites.from_certificate(certificate)
    except CertificateError as error:
        raise _unreadable("sealing suites", error.reason) from None
    if suites is None:
        raise _unreadable("sealing suites", "absent")
    return GatewayIdentity(
        certificate=certificate,
        cert_hash=certificate.fingerprint(hashes.SHA256()),
        gateway_id=data.gateway_id,
        acquirer_bin=data.acquirer_bin,
        suites=tuple(SealingSuite(name) for name in suites.names),
    )


@lru_cache(maxsize=256)
def gateway_data(certificate: x509.Certificate) -> GatewayData:
    """gatewayData of a gateway's signature or encryption certificate.

    :raises ProtocolError: invalidCertificate (K5) if it has none, or a malformed one.
    """
    try:
        data = GatewayData.from_certificate(certificate)
    except CertificateError as error:
        raise _unreadable("gatewayData", error.reason) from None
    if data is None:
        raise _unreadable("gatewayData", "absent")
    return data


def _unreadable(what: str, reason: str) -> ProtocolError:
    return ProtocolError(ErrorCode.INVALID_CERTIFICATE, "K5", f"certificate must carry {what} ({reason})")
