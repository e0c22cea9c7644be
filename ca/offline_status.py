"""Status from the lists of a published folder, for what is judged offline: as of then, however old the lists are."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from pathlib import Path

from cryptography import x509

from ca.errors import StatusError
from ca.hierarchy import Hierarchy

Lists = dict[str, x509.CertificateRevocationList]
"""By the name of the authority."""


def read_lists(folder: Path, hierarchy: Hierarchy) -> Lists:
    """The CRLs of the folder by authority; StatusError unless each is there and signed by it."""
    found: Lists = {}
    for name, authority in hierarchy.authorities.items():
        try:
            crl = x509.load_der_x509_crl((folder / "crls" / f"{name}.crl").read_bytes())
            genuine = crl.is_signature_valid(authority.issuer.public_key)
        except (OSError, ValueError, TypeError) as error:
            raise StatusError(f"the CRL of {name} cannot be read: {error}") from None
        if not genuine:
            raise StatusError(f"the CRL of {name} is not signed by it")
        found[name] = crl
    return found


def require_unrevoked(
    path: Sequence[x509.Certificate], hierarchy: Hierarchy, crls: Lists, proven: datetime | None
) -> None:
    """StatusError if a certificate of the path was revoked by the moment that is proven; at any time if none is."""
    names = {authority.certificate.subject: name for name, authority in hierarchy.authorities.items()}
    for certificate in path[:-1]:
        entry = crls[names[certificate.issuer]].get_revoked_certificate_by_serial_number(certificate.serial_number)
        if entry is not None and (proven is None or _since(entry) <= proven):
            raise StatusError(f"the certificate {certificate.serial_number:x} is revoked", clause="CPS 4.9")


def _since(entry: x509.RevokedCertificate) -> datetime:
    """From when on the key was not its holder's alone: the invalidity date, if one is stated."""
    try:
        invalidity = entry.extensions.get_extension_for_class(x509.InvalidityDate).value.invalidity_date_utc
    except x509.ExtensionNotFound:
        return entry.revocation_date_utc
    return min(entry.revocation_date_utc, invalidity)
