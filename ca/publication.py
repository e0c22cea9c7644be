"""Where relying parties fetch what they need to judge a certificate: CRLs, CA certificates, the CPS."""

from __future__ import annotations

from dataclasses import dataclass, replace
from urllib.parse import urlsplit

from ca.errors import ProfileError
from cps.model import Pack


@dataclass(frozen=True, slots=True)
class Publication:
    """Addresses that go into every certificate: the repository's base URL and the URI of the CPS with its version."""

    repository: str
    cps_uri: str

    def __post_init__(self) -> None:
        parts = urlsplit(self.repository)
        if parts.scheme not in {"http", "https"} or not parts.netloc or not self.repository.isascii():
            raise ProfileError(f"{self.repository!r} is not an http(s) address", clause="RFC 5280 4.2.1.13")
        if not urlsplit(self.cps_uri).scheme or not self.cps_uri.isascii():
            raise ProfileError(f"{self.cps_uri!r} is not a URI", clause="RFC 5280 4.2.1.4")

    def under(self, pack: Pack) -> Publication:
        """The same addresses, for what is certified under this version of the CPS."""
        return replace(self, cps_uri=pack.cps.uri)

    def crl_url(self, issuer: str) -> str:
        """Where the full CRL of `issuer` (an authority) is; what certificates name where there are no partitions."""
        return f"{self.repository.rstrip('/')}/crls/{issuer}.crl"

    def scoped_crl_url(self, issuer: str, scope: str) -> str:
        """Where the newest list of this scope is: freshestCRL names `delta`, certificates their `partition-<n>`."""
        return f"{self.repository.rstrip('/')}/crls/{issuer}/{scope}.crl"

    def distribution_point(self, issuer: str, serial: int, partitions: int) -> str:
        """cRLDistributionPoints of the certificate with this serial; `partitions` is 1 where there are none."""
        if partitions == 1:
            return self.crl_url(issuer)
        return self.scoped_crl_url(issuer, f"partition-{serial % partitions}")

    @property
    def bci_url(self) -> str:
        """Where the signed list of all CRLs in force is (`pki.bci`)."""
        return f"{self.repository.rstrip('/')}/bci"

    def certificate_url(self, issuer: str) -> str:
        """authorityInfoAccess caIssuers of what `issuer` issues (DER, RFC 5280 4.2.2.1)."""
        return f"{self.repository.rstrip('/')}/cas/{issuer}.cer"

    @property
    def ocsp_url(self) -> str:
        """authorityInfoAccess ocsp: one responder's address for all authorities (RFC 6960 appendix A.1)."""
        return f"{self.repository.rstrip('/')}/ocsp"

    @property
    def tsa_url(self) -> str:
        """Where time-stamps are given (RFC 3161 3.4)."""
        return f"{self.repository.rstrip('/')}/tsa"
