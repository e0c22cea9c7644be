"""From a case to what its certificates say: one for each of its PKCS#10 requests (CPS 7.1).

Everything but the key comes from the revision, which is what the officers approved, and from the statement: who issues
it, and which field of the subject is its common name. The names and extensions inside a PKCS#10 request are never used.
The CA prepares its certificates from this, and the HSM service compares with it what the CA would have it sign: both
ask the same function, so neither can think otherwise of an approval.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from datetime import datetime
from ipaddress import ip_address
from typing import Final, Protocol

from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.x509.oid import ExtendedKeyUsageOID

from cps.dossier import CardholderSubject, Dossier, GatewaySubject, MerchantSubject, OfficerSubject, Subject
from cps.errors import EntitlementError, IssuerError, fault
from cps.model import IssuerName, MemberClass, Pack, Purpose
from cps.rekey_statement import identity_checked_at
from cps.rules import Rule
from pki.csr import requested_key
from pki.errors import CsrError
from pki.extensions import AccountBinding, GatewayData, IdentityChecked, MerchantData, SealingSuites
from pki.names import identity_uri, name
from pki.roles import Role
from runtime.language import Term

PublicKey = rsa.RSAPublicKey | ec.EllipticCurvePublicKey

_COUNTRIES: Final = {364: "IR"}  # ISO 3166-1 numeric to alpha-2, of the countries whose acquirers are members


class KwbpExtension(Protocol):
    """One of the value classes of `pki.extensions`."""

    def to_extension(self) -> x509.UnrecognizedExtension:
        """The extension as cryptography's builder takes it."""


@dataclass(frozen=True, slots=True)
class Holder:
    """What a certificate says about its holder: everything that comes with the application."""

    public_key: PublicKey
    subject: x509.Name
    identity: str | None = None  # the one urn:kwbp: URI of subjectAltName
    origins: tuple[str, ...] = ()  # https:// origins of the shop
    hosts: tuple[str, ...] = ()  # DNS names and IP addresses, TLS only
    extensions: tuple[KwbpExtension, ...] = ()
    not_after: datetime | None = None  # a limit of the application's own, such as the expiry of the card

    @property
    def alternative_names(self) -> tuple[x509.GeneralName, ...]:
        """subjectAltName (RFC 5280 4.2.1.6), in this order; empty if there is none."""
        uris = (*(() if self.identity is None else (self.identity,)), *self.origins)
        return (*map(x509.UniformResourceIdentifier, uris), *map(_host, self.hosts))


@dataclass(frozen=True, slots=True)
class Kind:
    """One kind of member's certificate: its profile's name at the CA, its role, and its extended key usages."""

    profile: str
    role: Role
    extended_key_usage: frozenset[x509.ObjectIdentifier] = frozenset()


_CLIENT: Final = frozenset({ExtendedKeyUsageOID.CLIENT_AUTH})
_TLS: Final = Kind("service-tls", Role.SERVICE, _CLIENT | {ExtendedKeyUsageOID.SERVER_AUTH})

KINDS: Final[Mapping[tuple[MemberClass, Purpose], Kind]] = {
    ("cardholder", "signing"): Kind("cardholder", Role.CARDHOLDER),
    ("merchant", "signing"): Kind("merchant-signing", Role.MERCHANT),
    ("merchant", "tls"): _TLS,
    ("gateway", "signing"): Kind("gateway-signing", Role.GATEWAY_SIGNING),
    ("gateway", "encryption"): Kind("gateway-encryption", Role.GATEWAY_ENCRYPTION),
    ("gateway", "tls"): _TLS,
    ("officer", "signing"): Kind("officer", Role.OFFICER, _CLIENT),
}
"""Which certificate a member of a class gets for a purpose."""


@dataclass(frozen=True, slots=True)
class Entitlement:
    """One certificate that a case asks for, and gets if it is approved."""

    purpose: Purpose
    kind: Kind
    holder: Holder
    issuer: IssuerName


def entitlements(dossier: Dossier, pack: Pack, *, not_after: datetime | None) -> tuple[Entitlement, ...]:
    """What a case asks for by the statement that governs it, in the order of purposes; `not_after` as the verdict has.

    Raises EntitlementError if the case asks for a certificate that its class does not have, or a field does not fit a
    certificate.
    """
    return tuple(entitlement(dossier, pack, purpose, not_after=not_after) for purpose in sorted(dossier.csrs))


def entitlement(dossier: Dossier, pack: Pack, purpose: Purpose, *, not_after: datetime | None) -> Entitlement:
    """The certificate for one of the requests of the case; raises as `entitlements`."""
    subject = dossier.revision.subject
    kind, issuer = KINDS.get((subject.member_class, purpose)), pack.classes[subject.member_class].issuer.get(purpose)
    if kind is None or issuer is None:
        raise EntitlementError(
            "a {member_class} has no certificate for {purpose}",
            clause="CPS 7.1",
            member_class=Term("class", subject.member_class),
            purpose=Term("purpose", purpose),
        )
    try:
        key = requested_key(dossier.csrs[purpose]).public_key
        holder = holder_of(subject, pack, purpose, key, not_after)
    except CsrError as error:
        raise EntitlementError(
            "the {purpose} request: {fault}", clause="CPS 3.2.1", purpose=Term("purpose", purpose), fault=fault(error)
        ) from None
    except ValueError as error:
        raise EntitlementError(
            "the subject does not fit a certificate: {fault}", clause="CPS 3.1.1", fault=error
        ) from None
    checked_at = identity_checked_at(dossier)
    if checked_at is not None:
        holder = replace(holder, extensions=(*holder.extensions, IdentityChecked(checked_at)))
    return Entitlement(purpose, kind, holder, issuer)


def require_issuer(approved: Entitlement, issuer: str, pack: Pack) -> None:
    """Raise IssuerError (CERT-ISSUER) unless the authority of the role `issuer` may issue what was approved.

    The CA asks before it prepares a certificate, and the HSM service before it signs one with the key of an authority.
    """
    if approved.issuer != issuer:
        raise IssuerError(
            "the statement has this certificate ({purpose}) issued by {named}, and not by {issuer}",
            clause=pack.clause(Rule.CERT_ISSUER),
            purpose=Term("purpose", approved.purpose),
            named=approved.issuer,
            issuer=issuer,
        )


def _host(host: str) -> x509.GeneralName:
    try:
        return x509.IPAddress(ip_address(host))
    except ValueError:
        return x509.DNSName(host)


def holder_of(
    subject: Subject, pack: Pack, purpose: Purpose, key: PublicKey, not_after: datetime | None = None
) -> Holder:
    """What the certificate of `subject` for `purpose` says; raises ValueError or EntitlementError as `entitlements`.

    Its common name is what the statement's template for the class yields.
    """
    cn = pack.classes[subject.member_class].subject.common_name(subject)
    if isinstance(subject, CardholderSubject):
        return Holder(key, name(cn=cn), not_after=not_after)
    if isinstance(subject, MerchantSubject):
        return _merchant(subject, cn, purpose, key, not_after)
    if isinstance(subject, GatewaySubject):
        return _gateway(subject, cn, purpose, key, not_after)
    return _officer(subject, cn, key, not_after)


def _merchant(
    subject: MerchantSubject, cn: str, purpose: Purpose, key: PublicKey, not_after: datetime | None
) -> Holder:
    identity = identity_uri("merchant", subject.merchant_id)
    distinguished = name(cn=cn, o=subject.organisation, c=_country(subject.country))
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


def _gateway(subject: GatewaySubject, cn: str, purpose: Purpose, key: PublicKey, not_after: datetime | None) -> Holder:
    identity = identity_uri("gateway", subject.gateway_id)
    distinguished: x509.Name = name(cn=cn, o=subject.organisation)
    if purpose == "tls":
        return Holder(key, distinguished, identity=identity, hosts=subject.hosts, not_after=not_after)
    extensions: tuple[KwbpExtension, ...] = (GatewayData(subject.gateway_id, subject.acquirer_bin),)
    if purpose == "encryption":
        extensions = (*extensions, SealingSuites(subject.suites))
    return Holder(key, distinguished, identity=identity, extensions=extensions, not_after=not_after)


def _officer(subject: OfficerSubject, cn: str, key: PublicKey, not_after: datetime | None) -> Holder:
    return Holder(
        key,
        name(cn=cn, o=subject.organisation),
        identity=identity_uri("officer", subject.person_id),
        extensions=(subject.certified(),),
        not_after=not_after,
    )


def _country(numeric: int) -> str:
    country = _COUNTRIES.get(numeric)
    if country is None:
        raise EntitlementError("merchants of country {country} are not certified", clause="CPS 3.1.1", country=numeric)
    return country
