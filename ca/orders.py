"""From an approved case to the certificates it asks for: one for each of its PKCS#10 requests (CPS 7.1).

Everything but the key comes from the revision, which is what the officers approved; the names and extensions inside a
PKCS#10 request are never used.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Final

from cryptography import x509

from ca.errors import RequestError
from ca.prepare import Holder, KwbpExtension, PublicKey, supported_key
from ca.profile import Profile, profiles
from cps.dossier import CardholderSubject, Dossier, GatewaySubject, MerchantSubject, OfficerSubject, Subject
from cps.model import Purpose
from pki.csr import parse_csr
from pki.errors import CsrError
from pki.extensions import AccountBinding, GatewayData, MerchantData, OfficerData, SealingSuites
from pki.names import identity_uri, name

_PROFILES: Final[Mapping[tuple[str, Purpose], str]] = {
    ("cardholder", "signing"): "cardholder",
    ("merchant", "signing"): "merchant-signing",
    ("merchant", "tls"): "service-tls",
    ("gateway", "signing"): "gateway-signing",
    ("gateway", "encryption"): "gateway-encryption",
    ("gateway", "tls"): "service-tls",
    ("officer", "signing"): "officer",
}
_COUNTRIES: Final = {364: "IR"}  # ISO 3166-1 numeric to alpha-2, of the countries whose acquirers are members


@dataclass(frozen=True, slots=True)
class CertificateOrder:
    """One certificate to be issued for a case."""

    purpose: Purpose
    profile: Profile
    holder: Holder


def orders(dossier: Dossier, *, not_after: datetime | None) -> tuple[CertificateOrder, ...]:
    """The certificates that a case asks for, in the order of purposes; `not_after` is the verdict's limit.

    Raises RequestError if the case asks for one that no profile describes, or a field does not fit a certificate.
    """
    return tuple(_order(dossier, purpose, not_after) for purpose in sorted(dossier.csrs))


def _order(dossier: Dossier, purpose: Purpose, not_after: datetime | None) -> CertificateOrder:
    subject = dossier.revision.subject
    profile_name = _PROFILES.get((subject.member_class, purpose))
    if profile_name is None:
        raise RequestError(f"a {subject.member_class} has no certificate for {purpose}", clause="CPS 7.1")
    try:
        key = supported_key(parse_csr(dossier.csrs[purpose]).public_key())
        holder = _holder(subject, purpose, key, not_after)
    except CsrError as error:
        raise RequestError(f"the {purpose} request: {error}", clause="CPS 3.2.1") from None
    except ValueError as error:
        raise RequestError(f"the subject does not fit a certificate: {error}", clause="CPS 3.1.1") from None
    return CertificateOrder(purpose, profiles()[profile_name], holder)


def _holder(subject: Subject, purpose: Purpose, key: PublicKey, not_after: datetime | None) -> Holder:
    match subject:
        case CardholderSubject():
            return Holder(key, name(cn=subject.commitment), not_after=not_after)
        case MerchantSubject():
            return _merchant(subject, purpose, key, not_after)
        case GatewaySubject():
            return _gateway(subject, purpose, key, not_after)
        case OfficerSubject():
            return Holder(
                key,
                name(cn=subject.name, o=subject.organisation),
                identity=identity_uri("officer", subject.person_id),
                extensions=(OfficerData(subject.person_id, subject.organisation, subject.roles),),
                not_after=not_after,
            )


def _merchant(subject: MerchantSubject, purpose: Purpose, key: PublicKey, not_after: datetime | None) -> Holder:
    identity = identity_uri("merchant", subject.merchant_id)
    distinguished = name(cn=subject.name, o=subject.organisation, c=_country(subject.country))
    if purpose == "tls":
        return Holder(key, distinguished, identity=identity, hosts=subject.hosts, not_after=not_after)
    return Holder(
        key,
        distinguished,
        identity=identity,
        origins=() if subject.origin is None else (subject.origin,),
        extensions=(
            MerchantData(subject.merchant_id, subject.acquirer_bin, subject.name, subject.country, subject.online),
            AccountBinding.of(subject.iban, subject.iban_salt),
        ),
        not_after=not_after,
    )


def _gateway(subject: GatewaySubject, purpose: Purpose, key: PublicKey, not_after: datetime | None) -> Holder:
    identity = identity_uri("gateway", subject.gateway_id)
    distinguished: x509.Name = name(cn=subject.name, o=subject.organisation)
    if purpose == "tls":
        return Holder(key, distinguished, identity=identity, hosts=subject.hosts, not_after=not_after)
    extensions: tuple[KwbpExtension, ...] = (GatewayData(subject.gateway_id, subject.acquirer_bin),)
    if purpose == "encryption":
        extensions = (*extensions, SealingSuites(subject.suites))
    return Holder(key, distinguished, identity=identity, extensions=extensions, not_after=not_after)


def _country(numeric: int) -> str:
    country = _COUNTRIES.get(numeric)
    if country is None:
        raise RequestError(f"merchants of country {numeric} are not certified", clause="CPS 3.1.1")
    return country
