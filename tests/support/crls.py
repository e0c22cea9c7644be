"""Lists of every kind, made by hand: full, delta, partition."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from datetime import datetime, timedelta
from typing import Any

from cryptography import x509
from cryptography.hazmat.primitives import hashes

from tests.support.pki_factory import DAY, NOW, Authority


def distribution_point(uri: str | None = None, **changed: Any) -> x509.IssuingDistributionPoint:
    return x509.IssuingDistributionPoint(
        **{
            "full_name": None if uri is None else [x509.UniformResourceIdentifier(uri)],
            "relative_name": None,
            "only_contains_user_certs": False,
            "only_contains_ca_certs": False,
            "only_some_reasons": None,
            "indirect_crl": False,
            "only_contains_attribute_certs": False,
            **changed,
        }
    )


def at(uri: str, **changed: Any) -> x509.DistributionPoint:
    return x509.DistributionPoint(
        **{
            "full_name": [x509.UniformResourceIdentifier(uri)],
            "relative_name": None,
            "reasons": None,
            "crl_issuer": None,
            **changed,
        }
    )


def crl(
    issuer: Authority,
    number: int,
    listed: Mapping[int, x509.ReasonFlags] | None = None,
    *,
    base: int | None = None,
    point: x509.IssuingDistributionPoint | None = None,
    until: datetime = NOW + DAY,
    extensions: Iterable[x509.ExtensionType] = (),
    key: Any = None,
) -> x509.CertificateRevocationList:
    builder = (
        x509.CertificateRevocationListBuilder()
        .issuer_name(issuer.certificate.subject)
        .last_update(NOW - timedelta(hours=1))
        .next_update(until)
        .add_extension(x509.CRLNumber(number), critical=False)
    )
    if base is not None:
        builder = builder.add_extension(x509.DeltaCRLIndicator(base), critical=True)
    if point is not None:
        builder = builder.add_extension(point, critical=True)
    for extension in extensions:
        builder = builder.add_extension(extension, critical=True)
    for serial, reason in (listed or {}).items():
        entry = x509.RevokedCertificateBuilder().serial_number(serial).revocation_date(NOW)
        builder = builder.add_revoked_certificate(entry.add_extension(x509.CRLReason(reason), False).build())
    return builder.sign(key or issuer.credential.key, hashes.SHA256())
