"""What a stranger has to ask an installation with: a certificate, the pinned root, the addresses it names."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import httpx
from cryptography import x509
from cryptography.x509.oid import AuthorityInformationAccessOID


@dataclass(frozen=True)
class Shop:
    """A merchant's certificate in good standing, its authorities, and the addresses that it names."""

    folder: Path
    certificate: x509.Certificate
    issuer: x509.Certificate
    ocsp: str
    issuers: str
    lists: str

    @property
    def tsa(self) -> str:
        return self.ocsp.removesuffix("/ocsp") + "/tsa"


def shop_in(folder: Path) -> Shop:
    """From the folder `all`, to which `kwbp ca export` wrote one certificate of a merchant."""
    (leaf,) = (folder / "all" / "merchant-ca").glob("*.pem")
    cas = folder / "all" / "cas"
    for name, path in (("leaf", leaf), ("issuer", cas / "merchant-ca.pem"), ("root", cas / "root.pem")):
        (folder / f"{name}.pem").write_bytes(path.read_bytes())
    (folder / "cas.pem").write_bytes(b"".join(each.read_bytes() for each in sorted(cas.glob("*.pem"))))
    certificate = x509.load_pem_x509_certificate(leaf.read_bytes())
    issuer = x509.load_pem_x509_certificate((cas / "merchant-ca.pem").read_bytes())
    access = certificate.extensions.get_extension_for_class(x509.AuthorityInformationAccess).value
    named = {each.access_method: each.access_location.value for each in access}
    points = certificate.extensions.get_extension_for_class(x509.CRLDistributionPoints).value
    names = points[0].full_name
    assert names is not None
    return Shop(
        folder,
        certificate,
        issuer,
        named[AuthorityInformationAccessOID.OCSP],
        named[AuthorityInformationAccessOID.CA_ISSUERS],
        names[0].value,
    )


def fetched(url: str, body: bytes | None = None, media_type: str = "") -> tuple[int, bytes]:
    """Status and body of the answer, whatever it is."""
    headers = {"Content-Type": media_type} if media_type else {}
    answer = httpx.request("GET" if body is None else "POST", url, content=body, headers=headers, timeout=20)
    return answer.status_code, answer.content
