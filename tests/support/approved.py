"""Certificates that officers approved, for tests of what the HSM service signs for a CA in service.

desk = Desk(pki)
case = desk.merchant()                                   # decided by two officers
tbs = desk.tbs(case, issuer, issuer_key)                 # what was approved, and nothing else
vault.sign_certificate("service:ca", "merchant-ca", tbs, basis=desk.basis(case))
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Mapping
from dataclasses import replace
from datetime import timedelta
from typing import Any, Final

from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding

from cps.dossier import Dossier
from cps.entitlement import Entitlement, entitlements
from cps.register import PackRegister
from hsm_service.service import Basis
from hsm_service.typed_approval import Believed
from tests.support.cps_cases import Office
from tests.support.pki_factory import NOW, PkiFactory, role_extensions
from tests.support.signing_site import Extensions, PublicKey, certificate_tbs

HOUR: Final = timedelta(hours=1)


class Desk:
    """An RA office of a hierarchy, and the CRLs that its officers are judged by."""

    def __init__(self, pki: PkiFactory) -> None:
        self.pki = pki
        self.office = Office(pki)
        self._numbers: Iterator[int] = itertools.count(1)

    def merchant(self, **changes: Any) -> Dossier:
        """A merchant's case that was vetted and approved; another one each time."""
        office = self.office
        case = office.merchant_case(**{"application_id": f"case-{next(self._numbers)}", **changes})
        return office.decided(office.decided(case, "vet", office.vetter), "approve", office.approver)

    def crls(self, *revoked: int, number: int = 1) -> tuple[bytes, ...]:
        """The CRLs of the root, the brand and the operations CA, which lists `revoked`."""
        pki = self.pki
        operations = replace(pki.operations_ca, revoked=dict.fromkeys(revoked, NOW - HOUR))
        lists = [pki.root.crl(NOW), pki.brand.crl(NOW), operations.crl(NOW, number=number)]
        return tuple(crl.public_bytes(Encoding.DER) for crl in lists)

    def basis(self, case: Dossier) -> Basis:
        """What the CA sends along with the TBSCertificate."""
        return Basis(case.to_json(), self.crls())

    def believed(self, newest: Mapping[bytes, int] | None = None) -> Believed:
        """What a service of this hierarchy believes; `newest` are numbers of CRLs by key identifier."""
        pki = self.pki
        cas = tuple(authority.certificate for authority in pki.authorities[1:])
        return Believed(PackRegister((self.office.pack,)), (pki.root.certificate,), cas, (newest or {}).get)

    def entitlement(self, case: Dossier, purpose: str = "signing") -> Entitlement:
        """What the case asks for."""
        return next(each for each in entitlements(case, self.office.pack, not_after=None) if each.purpose == purpose)

    @staticmethod
    def extensions(entitled: Entitlement) -> dict[str, tuple[x509.ExtensionType, bool]]:
        """The extensions of the certificate, by names of the test's own."""
        found: dict[str, tuple[x509.ExtensionType, bool]] = dict(role_extensions(entitled.kind.role))
        if entitled.holder.alternative_names:
            names = x509.SubjectAlternativeName(entitled.holder.alternative_names)
            found["subject_alternative_name"] = (names, False)
        if entitled.kind.extended_key_usage:
            found["usages"] = (x509.ExtendedKeyUsage(entitled.kind.extended_key_usage), False)
        for own in entitled.holder.extensions:
            found[type(own).__name__] = (own.to_extension(), False)
        return found

    def tbs(
        self,
        case: Dossier,
        issuer: x509.Certificate,
        issuer_key: PublicKey,
        *,
        purpose: str = "signing",
        other: Extensions | None = None,
        without: str = "",
        **changes: Any,
    ) -> bytes:
        """The TBSCertificate (DER) of what the case asks for; each argument is one thing to have otherwise."""
        entitled = self.entitlement(case, purpose)
        extensions = {**self.extensions(entitled), **(other or {})}
        extensions.pop(without, None)
        holder = entitled.holder
        fields = {"public": holder.public_key, "subject": holder.subject, "extensions": extensions}
        return certificate_tbs(issuer, issuer_key, **{**fields, **changes})

    def approved(self, key: Any) -> tuple[bytes, Basis]:
        """A merchant's TBSCertificate below `key` (`hsm_service.judging.SigningKey`) and what it rests on."""
        case = self.merchant()
        return self.tbs(case, key.certificate, key.public_key), self.basis(case)
