"""Plan a ceremony: check every input, and list every step, before any token is touched. Pure."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from functools import partial
from typing import Final, Literal

from cryptography import x509

from ca.ceremony.model import AuthorityEntry, Ceremony, OfficerEntry, ServiceEntry, SystemKeyEntry
from ca.ceremony.transcript import digest
from ca.errors import CaError, Finding, PlanError
from ca.prepare import supported_key
from ca.profile import Profile, profiles
from ca.publication import Publication
from cps.entitlement import KwbpExtension, PublicKey
from pki.csr import parse_csr
from pki.errors import PkiError
from pki.extensions import OfficerData
from pki.keys import spki_sha256
from pki.names import identity_uri, name

Room = Literal["service", "root", "none"]
Action = Literal["key", "attach", "certificate", "crl", "check", "publish"]

SECURITY_OFFICERS: Final = 2  # CPS 5.2.2: appointing an officer takes two


@dataclass(frozen=True, slots=True)
class Step:
    """One act: what is done to what, in which room."""

    room: Room
    action: Action
    subject: str

    def __str__(self) -> str:
        return f"{self.action} {self.subject}"


@dataclass(frozen=True, slots=True)
class Order:
    """A certificate to be made: its key is made in a token (`key`, `template`), or came with a PKCS#10 request."""

    folder: str
    name: str
    profile: Profile
    issuer: str | None  # name of an authority; None: itself
    subject: x509.Name
    key: str | None = None
    template: str | None = None
    public_key: PublicKey | None = None
    identity: str | None = None
    hosts: tuple[str, ...] = ()
    extensions: tuple[KwbpExtension, ...] = ()

    @property
    def id(self) -> str:
        """How steps and the transcript call it; with `.pem`, its file below the folder of the hierarchy."""
        return f"{self.folder}/{self.name}" if self.folder else self.name


@dataclass(frozen=True, slots=True)
class Plan:
    """A ceremony that may be run: orders by id, and the steps in their order."""

    ceremony: Ceremony
    publication: Publication
    orders: Mapping[str, Order]
    steps: tuple[Step, ...]
    digest: str  # over the ceremony, the requests and the addresses; hexadecimal

    @property
    def root(self) -> Order:
        return self.orders[self.ceremony.root.name]

    @property
    def authorities(self) -> Mapping[str, Order]:
        """The orders of all authorities by name, the root first."""
        return {order.name: order for order in self.orders.values() if order.profile.ca is not None}


def plan(ceremony: Ceremony, requests: Mapping[str, bytes], publication: Publication) -> Plan:
    """Check a ceremony and its PKCS#10 requests (DER or PEM, by `service/<name>` and `officer/<person>`).

    Raises PlanError with every finding at once; nothing is touched.
    """
    findings: list[Finding] = []
    keys = _read_requests(ceremony, requests, findings)
    orders: dict[str, Order] = {}
    for title, make in _makers(ceremony, keys):
        try:
            order = make()
        except (ValueError, PkiError, CaError) as error:
            findings.append(Finding("order", "CPS 7.1", f"{title}: {error}"))
            continue
        findings.extend(_faults(order, orders))
        orders[order.id] = order
    if len(ceremony.officers) < SECURITY_OFFICERS:
        message = f"{SECURITY_OFFICERS} security officers are founded at least"
        findings.append(Finding("two-persons", "CPS 5.2.2", message))
    if findings:
        raise PlanError("the ceremony is not fit to be run", findings)
    fixed = {
        "ceremony": ceremony.model_dump(mode="json"),
        "requests": {key: hashlib.sha256(requests[key]).hexdigest() for key in ceremony.requests},
        "publication": [publication.repository, publication.cps_uri],
    }
    return Plan(ceremony, publication, orders, tuple(_steps(orders)), digest(fixed))


def _read_requests(
    ceremony: Ceremony, requests: Mapping[str, bytes], findings: list[Finding]
) -> dict[str, PublicKey | None]:
    """The proven key of each request; None where it was found faulty."""
    keys: dict[str, PublicKey | None] = {}
    owners: dict[bytes, str] = {}
    for title in requests.keys() - set(ceremony.requests):
        findings.append(Finding("request-unknown", "CPS 4.1.2", f"{title} is not part of this ceremony"))
    for title in ceremony.requests:
        keys[title] = None
        if title not in requests:
            findings.append(Finding("request-missing", "CPS 4.1.2", f"there is no PKCS#10 request {title}"))
            continue
        try:
            key = supported_key(parse_csr(requests[title]).public_key())
        except (PkiError, CaError) as error:
            findings.append(Finding("request", "CPS 3.2.1", f"{title}: {error}"))
            continue
        keys[title] = key
        other = owners.setdefault(spki_sha256(key), title)
        if other != title:
            findings.append(Finding("key-reused", "CPS 6.1.1", f"{title} has the same key as {other}"))
    return keys


def _makers(ceremony: Ceremony, keys: Mapping[str, PublicKey | None]) -> Iterator[tuple[str, Callable[[], Order]]]:
    """How each order is made; none for a request that was found faulty already."""
    for authority in (ceremony.root, *ceremony.authorities):
        yield authority.name, partial(_authority, ceremony, authority)
    for system_key in ceremony.system_keys:
        yield system_key.name, partial(_system_key, ceremony, system_key)
    for service in ceremony.services:
        if (key := keys[service.request]) is not None:
            yield service.request, partial(_service, ceremony, service, key)
    for officer in ceremony.officers:
        if (key := keys[officer.request]) is not None:
            yield officer.request, partial(_officer, ceremony, officer, key)


def _profile(wanted: str) -> Profile:
    profile = profiles().get(wanted)
    if profile is None:
        raise ValueError(f"there is no profile {wanted!r}")
    return profile


def _authority(ceremony: Ceremony, entry: AuthorityEntry) -> Order:
    profile = _profile(entry.name)
    if profile.ca is None:
        raise ValueError(f"{profile.name} is not the profile of an authority")
    if (profile.issuer == "self") != (entry is ceremony.root):
        raise ValueError("the root, and nothing else, is self-signed")
    return Order(
        folder="" if entry is ceremony.root else "cas",
        name=entry.name,
        profile=profile,
        issuer=None if entry is ceremony.root else profile.issuer,
        subject=name(cn=entry.common_name, o=ceremony.organisation, c=ceremony.country),
        key=entry.name,
        template=entry.template,
    )


def _system_key(ceremony: Ceremony, entry: SystemKeyEntry) -> Order:
    profile = _profile(entry.profile)
    return Order(
        folder="keys",
        name=entry.name,
        profile=profile,
        issuer=profile.issuer,
        subject=name(cn=entry.common_name, o=ceremony.organisation, c=ceremony.country),
        key=entry.name,
        template=entry.template,
        identity=entry.identity,
    )


def _service(ceremony: Ceremony, entry: ServiceEntry, key: PublicKey) -> Order:
    profile = _profile(entry.profile)
    return Order(
        folder="services",
        name=entry.name,
        profile=profile,
        issuer=profile.issuer,
        subject=name(cn=f"KWBP {entry.name}", o=ceremony.organisation, c=ceremony.country),
        public_key=key,
        identity=identity_uri("service", entry.name),
        hosts=entry.hosts,
    )


def _officer(ceremony: Ceremony, entry: OfficerEntry, key: PublicKey) -> Order:
    profile = _profile("officer")
    return Order(
        folder="officers",
        name=entry.person,
        profile=profile,
        issuer=profile.issuer,
        subject=name(cn=entry.name, o=entry.organisation, c=ceremony.country),
        public_key=key,
        identity=identity_uri("officer", entry.person),
        extensions=(OfficerData(entry.person, entry.organisation, entry.roles),),
    )


def _faults(order: Order, earlier: Mapping[str, Order]) -> Iterator[Finding]:
    if order.issuer is not None and not any(known.name == order.issuer for known in earlier.values()):
        yield Finding("issuer", "CPS 7.1", f"{order.id}: its issuer {order.issuer} is not founded before it")
    if order.public_key is not None and (refusal := order.profile.key.refusal(order.public_key)) is not None:
        yield Finding("key", "CPS 6.1.5", f"{order.id}: {refusal}")
    rule = order.profile.identity
    fits = order.identity is None if rule is None else order.identity is not None and rule.accepts(order.identity)
    if not fits:
        yield Finding(
            "identity", "CPS 3.1.1", f"{order.id}: {order.identity} is not an identity of {order.profile.name}"
        )
    if order.hosts and not (rule and rule.hosts):
        yield Finding("hosts", "CPS 3.1.1", f"{order.id}: {order.profile.name} names no hosts")


def _steps(orders: Mapping[str, Order]) -> Iterator[Step]:
    """Keys in the service room; the root's work; the rest in the service room; then, with all rooms closed, the end."""
    root, *others = orders.values()
    by_root = [order for order in others if order.issuer == root.name]
    for order in others:
        if order.key is not None:
            yield Step("service", "key", order.id)
    yield Step("root", "key", root.id)
    yield Step("root", "certificate", root.id)
    for order in by_root:
        yield Step("root", "certificate", order.id)
    yield Step("root", "crl", root.id)
    for order in by_root:
        yield Step("service", "attach", order.id)
    for order in others:
        if order not in by_root:
            yield Step("service", "certificate", order.id)
    for order in others:
        if order.profile.ca is not None:
            yield Step("service", "crl", order.id)
    yield Step("none", "check", "hierarchy")
    yield Step("none", "publish", "hierarchy")
