"""A PKI made by certomancer: a good operations CA with services, and everything around it wrong in one way.

`ARCHITECTURE` is its configuration: per certificate, what differs from the good one. Keys are P-256, made anew.
"""

from __future__ import annotations

import json
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final

from asn1crypto import ocsp, tsp
from certomancer.registry import CertLabel, CertomancerConfig, PKIArchitecture, ServiceLabel
from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat

from pki.oids import POLICY_OCSP, POLICY_OFFICER, POLICY_SERVICE, POLICY_TIMESTAMP
from tests.support.pki_factory import p256

NOW: Final = datetime(2026, 6, 1, 12, tzinfo=UTC)
_YEARS: Final = {"valid-from": "2026-01-01T00:00:00+0000", "valid-to": "2027-01-01T00:00:00+0000"}
_PAST: Final = {"valid-from": "2024-01-01T00:00:00+0000", "valid-to": "2025-01-01T00:00:00+0000"}
_FUTURE: Final = {"valid-from": "2026-07-01T00:00:00+0000", "valid-to": "2026-08-01T00:00:00+0000"}
_LISTS: Final = ("ops", "other", "no-crl-sign", "old-ca", "no-cert-sign")
_REVOKED: Final = {"revoked-since": "2026-03-01T00:00:00+0000", "reason": "key_compromise"}


def _usage(*names: str) -> dict[str, Any]:
    return {"id": "key_usage", "critical": True, "smart-value": {"schema": "key-usage", "params": list(names)}}


def _extended(name: str) -> dict[str, Any]:
    return {"id": "extended_key_usage", "critical": True, "value": [name]}


def _policies(*policies: x509.ObjectIdentifier) -> dict[str, Any]:
    value = [{"policy_identifier": policy.dotted_string} for policy in policies]
    return {"id": "certificate_policies", "value": value}


_CA: Final[dict[str, Any]] = {"id": "basic_constraints", "critical": True, "value": {"ca": True}}
_OF_CA: Final = _policies(POLICY_OFFICER, POLICY_SERVICE)


def _ca(name: str, *usage: str, **changed: Any) -> dict[str, Any]:
    extensions = [_CA, _usage(*usage or ("key_cert_sign", "crl_sign")), _OF_CA]
    return {"subject": name, "issuer": name, "validity": _YEARS, "extensions": extensions} | changed


def _leaf(*extensions: dict[str, Any], issuer: str = "ops", **changed: Any) -> dict[str, Any]:
    usage, stated = _usage("digital_signature"), list(extensions)
    if issuer in _LISTS:
        stated.append(
            {
                "id": "crl_distribution_points",
                "smart-value": {"schema": "crl-dist-url", "params": {"crl-repo-names": [issuer]}},
            }
        )
    return {"issuer": issuer, "validity": _YEARS, "extensions": [usage, *stated]} | changed


_SERVICE: Final = _policies(POLICY_SERVICE)
_OCSP: Final = (_policies(POLICY_OCSP), _extended("ocsp_signing"), {"id": "ocsp_no_check"})
_TSA: Final = (_policies(POLICY_TIMESTAMP), _extended("time_stamping"))

CERTIFICATES: Final[dict[str, dict[str, Any]]] = {
    "ops": _ca("ops"),
    "other": _ca("other"),
    "old-ca": _ca("old-ca", validity=_PAST),
    "no-crl-sign": _ca("no-crl-sign", "key_cert_sign"),
    "no-cert-sign": _ca("no-cert-sign", "crl_sign"),
    "service": _leaf(_SERVICE),
    "service-ended": _leaf(_SERVICE, validity=_PAST),
    "service-to-come": _leaf(_SERVICE, validity=_FUTURE),
    "service-revoked": _leaf(_SERVICE, revocation=_REVOKED),
    "service-of-other-key": _leaf(_SERVICE, **{"authority-key": "other"}),
    "service-of-other-ca": _leaf(_SERVICE, issuer="other"),
    "service-of-old-ca": _leaf(_SERVICE, issuer="old-ca"),
    "service-of-no-crl-sign": _leaf(_SERVICE, issuer="no-crl-sign"),
    "service-of-no-cert-sign": _leaf(_SERVICE, issuer="no-cert-sign"),
    "service-of-service": _leaf(_SERVICE, issuer="service"),
    "ocsp": _leaf(*_OCSP),
    "ocsp-of-other-ca": _leaf(*_OCSP, issuer="other"),
    "ocsp-ended": _leaf(*_OCSP, validity=_PAST),
    "ocsp-without-usage": _leaf(_OCSP[0], _OCSP[2]),
    "ocsp-that-may-be-revoked": _leaf(*_OCSP[:2]),
    "tsa": _leaf(*_TSA),
    "tsa-of-other-ca": _leaf(*_TSA, issuer="other"),
    "tsa-ended": _leaf(*_TSA, validity=_PAST),
    "tsa-without-usage": _leaf(_TSA[0]),
    "tsa-revoked": _leaf(*_TSA, revocation=_REVOKED),
}
_RESPONDERS: Final = [name for name in CERTIFICATES if name.startswith("ocsp")] + ["service"]


def _crl_repo(issuer: str, key: str) -> dict[str, str]:
    return {"for-issuer": issuer, "signing-key": key, "simulated-update-schedule": "P30D"}


ARCHITECTURE: Final = {
    "keyset": "made",
    "entity-defaults": {"country-name": "IR", "organization-name": "Certomancer"},
    "entities": {name: {"common-name": name} for name in CERTIFICATES},
    "certs": CERTIFICATES,
    "services": {
        "ocsp": {name: {"for-issuer": "ops", "responder-cert": name, "signing-key": name} for name in _RESPONDERS},
        "crl-repo": {name: _crl_repo(name, name) for name in _LISTS} | {"ops-of-other-key": _crl_repo("ops", "other")},
        "time-stamping": {"tsa": {"signing-key": "tsa", "signing-cert": "tsa"}},
    },
}


class CertomancerPki:
    """The PKI as our objects."""

    def __init__(self, folder: Path) -> None:
        for name in CERTIFICATES:
            key = p256().private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
            (folder / f"{name}.pem").write_bytes(key)
        config = {
            "external-url-prefix": "http://certomancer.invalid",
            "keysets": {"made": {"path-prefix": ".", "keys": {name: {"path": f"{name}.pem"} for name in CERTIFICATES}}},
            "pki-architectures": {"kwbp": ARCHITECTURE},
        }
        made = CertomancerConfig.from_yaml(json.dumps(config), key_search_dir=str(folder))
        self._made: PKIArchitecture = made.get_pki_arch("kwbp")

    def certificate(self, name: str) -> x509.Certificate:
        return x509.load_der_x509_certificate(self._made.get_cert(CertLabel(name)).dump())

    def crl(self, name: str, at: datetime = NOW) -> x509.CertificateRevocationList:
        return x509.load_der_x509_crl(self._made.service_registry.get_crl(ServiceLabel(name), at_time=at).dump())

    def ocsp(self, responder: str, request: bytes, at: datetime = NOW) -> bytes:
        service = self._made.service_registry.summon_responder(ServiceLabel(responder), at_time=at)
        answer: bytes = service.build_ocsp_response(ocsp.OCSPRequest.load(request)).dump()
        return answer

    def timestamp(self, authority: str, query: bytes, at: datetime = NOW) -> bytes:
        service = self._made.service_registry.summon_timestamper(ServiceLabel(authority), at_time=at)
        answer: bytes = service.request_tsa_response(tsp.TimeStampReq.load(query)).dump()
        return answer
