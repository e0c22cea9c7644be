"""Typed signing of certificates, third basis: the next certificate of a responder that this service holds itself.

Responders of status live a month (CPS 6.3.2), so that a certificate which nobody can revoke (ocsp-nocheck) ends soon.
No officer decides anything when its key gets the next one: it says nothing that a ceremony did not say before. So a CA
in service may have it signed on its own word, if this is all it is: the same key, in custody here, of the same name,
of the same authority, with the same extensions, for no longer than the last one. Whoever has taken over the CA's
process gains nothing by it but what this service's own key has already.
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime, timedelta
from typing import Final

from cryptography import x509
from cryptography.x509.oid import ExtensionOID

from hsm_service.judging import CLOCK_SKEW, SigningKey, extension_value, reading, refuse
from hsm_service.purposes import Purpose
from hsm_service.typed_certificate import CertificateOrder
from pki.extensions import extensions_of
from pki.keys import spki_der
from pki.roles import Role

RENEWER: Final = "service:ca"
"""The only caller who may have certificates renewed."""
RENEWED: Final[Mapping[Role, Purpose]] = {
    Role.OCSP_RESPONDER: Purpose.OCSP,
    Role.TIMESTAMP_AUTHORITY: Purpose.TIMESTAMP,
}
"""Roles that are renewed without approval, and the purpose of the keys that hold them."""
MAX_BACKDATE: Final = timedelta(hours=1)
"""How long before now a renewed certificate may begin, for relying parties whose clock runs slow."""

_CLAUSE: Final = "CPS 4.6"
_MAY_MOVE: Final = frozenset(
    {
        ExtensionOID.CRL_DISTRIBUTION_POINTS,
        ExtensionOID.AUTHORITY_INFORMATION_ACCESS,
        ExtensionOID.CERTIFICATE_POLICIES,  # which policies, the role says; here moves the address of the statement
    }
)


def check_renewal(order: CertificateOrder, holder: SigningKey | None, *, now: datetime) -> None:
    """Judge at `now` whether the certificate of `order` is the next one of `holder`, the key here that it certifies.

    Refused (Problem 422): another role than those of `RENEWED` (`approval-missing`); a key that is not in service here
    for that role's purpose, or has no certificate yet; another subject, issuer or authority key than its certificate
    has; an extension that is new, missing or different (but for addresses); a beginning that is not now, and a longer
    life than the last.
    """
    certificate, purpose = order.certificate, RENEWED.get(order.role)
    if purpose is None:
        raise refuse("approval-missing", "a certificate is signed only with the approvals it rests on", "CPS 4.3.1")
    if holder is None or holder.template.purpose is not purpose or not holder.chain:
        raise refuse("foreign-subject-key", f"the key is that of no {order.role} in service here", _CLAUSE)
    if spki_der(certificate.public_key()) != spki_der(holder.public_key):
        raise refuse("foreign-subject-key", f"the key is not {holder.name}", _CLAUSE)
    last = holder.certificate
    if certificate.subject.public_bytes() != last.subject.public_bytes():
        raise refuse("subject-not-renewed", f"the subject is not that of key {holder.name}", _CLAUSE)
    if certificate.issuer.public_bytes() != last.issuer.public_bytes():
        raise refuse("issuer-not-renewed", f"key {holder.name} was certified by another authority", _CLAUSE)
    with reading("TBSCertificate"):
        if _stated(certificate) != _stated(last):
            raise refuse("extension-not-renewed", "the extensions are not those of its certificate", _CLAUSE)
        if not all(map(_is_address, extension_value(certificate, x509.CRLDistributionPoints) or ())):
            raise refuse("extension-not-renewed", "a distribution point is an address and nothing else", _CLAUSE)
    if not now - MAX_BACKDATE <= certificate.not_valid_before_utc <= now + CLOCK_SKEW:
        raise refuse("validity-not-renewed", "a renewed certificate begins now", "CPS 6.3.2")
    if _life(certificate) > _life(last):
        raise refuse("validity-not-renewed", "a renewed certificate lives no longer than the last", "CPS 6.3.2")


def _stated(certificate: x509.Certificate) -> dict[x509.ObjectIdentifier, tuple[bool, bytes]]:
    return {
        each.oid: (each.critical, each.value.public_bytes())
        for each in extensions_of(certificate)
        if each.oid not in _MAY_MOVE
    }


def _is_address(point: x509.DistributionPoint) -> bool:
    """Whether lists of the same authority, for all reasons, are found there: anything else says who may revoke it."""
    plain = x509.DistributionPoint(point.full_name, None, None, None)
    return point == plain and all(isinstance(each, x509.UniformResourceIdentifier) for each in point.full_name or ())


def _life(certificate: x509.Certificate) -> timedelta:
    return certificate.not_valid_after_utc - certificate.not_valid_before_utc
