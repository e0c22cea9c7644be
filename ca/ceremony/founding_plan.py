"""How a founding is planned: the hierarchy, or a root alone, from nothing."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from functools import partial
from typing import Final

from ca.ceremony.model import AuthorityEntry, BareKeyEntry, Ceremony, OfficerEntry, ServiceEntry, SystemKeyEntry
from ca.ceremony.plan import Draft, KeyOrder, Order, profile_named
from ca.errors import CaError
from ca.prepare import ROOT, supported_key
from cps.entitlement import PublicKey
from pki.csr import parse_csr
from pki.errors import PkiError
from pki.extensions import OfficerData
from pki.keys import spki_sha256
from pki.names import identity_uri, name

SECURITY_OFFICERS: Final = 2  # CPS 5.2.2: appointing an officer takes two


def draft_founding(draft: Draft, ceremony: Ceremony, inputs: Mapping[str, bytes]) -> None:
    """Fill `draft`; `inputs` are PKCS#10 requests (DER or PEM) by `service/<name>` and `officer/<person>`."""
    keys = _read_requests(draft, ceremony, inputs)
    for title, make in _makers(draft, ceremony, keys):
        try:
            draft.add_order(make())
        except (ValueError, PkiError, CaError) as error:
            draft.refuse("order", "CPS 7.1", f"{title}: {error}")
    if ceremony.next_root is not None:
        try:
            draft.keys[ceremony.next_root.name] = next_root_key(
                draft, ceremony.next_root, ceremony.organisation, ceremony.country
            )
        except ValueError as error:
            draft.refuse("next-root", "RFC 8649", f"{ceremony.next_root.name}: {error}")
    if ceremony.root.name != ROOT:
        draft.refuse("root-name", "CPS 7.1", f"the first root is called {ROOT}, not {ceremony.root.name}")
    if ceremony.ceremony.kind == "founding" and len(ceremony.officers) < SECURITY_OFFICERS:
        draft.refuse("two-persons", "CPS 5.2.2", f"{SECURITY_OFFICERS} security officers are founded at least")
    _add_steps(draft)


def next_root_key(draft: Draft, entry: BareKeyEntry, organisation: str, country: str) -> KeyOrder:
    """The key of the next root, as a root of this organisation proves it; ValueError."""
    template = draft.template(entry.template, certified=True)
    if template.token != ROOT or entry.owner is not None:
        raise ValueError("the next root's key is a root's key")
    subject = name(cn=entry.name, o=organisation, c=country)
    return KeyOrder(entry.name, template, subject=subject)


def _read_requests(draft: Draft, ceremony: Ceremony, inputs: Mapping[str, bytes]) -> dict[str, PublicKey | None]:
    """The proven key of each request; None where it was found faulty."""
    keys: dict[str, PublicKey | None] = {}
    owners: dict[bytes, str] = {}
    for title in inputs.keys() - set(ceremony.requests):
        draft.refuse("request-unknown", "CPS 4.1.2", f"{title} is not part of this ceremony")
    for title in ceremony.requests:
        keys[title] = None
        if title not in inputs:
            draft.refuse("request-missing", "CPS 4.1.2", f"there is no PKCS#10 request {title}")
            continue
        try:
            key = supported_key(parse_csr(inputs[title]).public_key())
        except (PkiError, CaError) as error:
            draft.refuse("request", "CPS 3.2.1", f"{title}: {error}")
            continue
        keys[title] = key
        other = owners.setdefault(spki_sha256(key), title)
        if other != title:
            draft.refuse("key-reused", "CPS 6.1.1", f"{title} has the same key as {other}")
    return keys


def _makers(
    draft: Draft, ceremony: Ceremony, keys: Mapping[str, PublicKey | None]
) -> Iterator[tuple[str, Callable[[], Order]]]:
    """How each order is made; none for a request that was found faulty already."""
    for authority in (ceremony.root, *ceremony.authorities):
        yield authority.name, partial(_authority, draft, ceremony, authority)
    for system_key in ceremony.system_keys:
        yield system_key.name, partial(system_key_order, draft, ceremony.organisation, ceremony.country, system_key)
    for service in ceremony.services:
        if (key := keys[service.request]) is not None:
            yield service.request, partial(_service, ceremony, service, key)
    for officer in ceremony.officers:
        if (key := keys[officer.request]) is not None:
            yield officer.request, partial(_officer, ceremony, officer, key)


def _authority(draft: Draft, ceremony: Ceremony, entry: AuthorityEntry) -> Order:
    next_key = None if ceremony.next_root is None else ceremony.next_root.name
    return authority_order(
        draft,
        ceremony.organisation,
        ceremony.country,
        entry,
        folder="" if entry is ceremony.root else "cas",
        next_key=next_key if entry is ceremony.root else None,
    )


def authority_order(
    draft: Draft, organisation: str, country: str, entry: AuthorityEntry, *, folder: str, next_key: str | None = None
) -> Order:
    """The order of an authority, whose key is made or found under its own id; ValueError."""
    profile = profile_named(entry.profile or entry.name)
    if profile.ca is None:
        raise ValueError(f"{profile.name} is not the profile of an authority")
    is_root = folder != "cas"
    if (profile.issuer == "self") != is_root or (is_root and entry.issuer is not None):
        raise ValueError("the root, and nothing else, is self-signed")
    order = Order(
        folder=folder,
        name=entry.name,
        profile=profile,
        issuer=None if is_root else entry.issuer or profile.issuer,
        subject=name(cn=entry.common_name, o=organisation, c=country),
        key=entry.name,
        next_key=next_key,
    )
    draft.keys[order.id] = KeyOrder(entry.name, draft.template(entry.template, certified=True), subject=order.subject)
    return order


def system_key_order(draft: Draft, organisation: str, country: str, entry: SystemKeyEntry) -> Order:
    """The order of a service's key in a token; ValueError."""
    profile = profile_named(entry.profile)
    if profile.ca is not None:
        raise ValueError(f"{profile.name} is the profile of an authority")
    order = Order(
        folder="keys",
        name=entry.name,
        profile=profile,
        issuer=profile.issuer,
        subject=name(cn=entry.common_name, o=organisation, c=country),
        key=entry.name,
        identity=entry.identity,
    )
    template = draft.template(entry.template, certified=True)
    draft.keys[order.id] = KeyOrder(entry.name, template, subject=order.subject, identity=entry.identity)
    return order


def _service(ceremony: Ceremony, entry: ServiceEntry, key: PublicKey) -> Order:
    profile = profile_named(entry.profile)
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
    profile = profile_named("officer")
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


def _add_steps(draft: Draft) -> None:
    """Keys in the service room; the root's work; the rest in the service room; then, with all rooms closed, the end."""
    orders = list(draft.orders.values())
    roots = [order for order in orders if order.issuer is None]
    others = [order for order in orders if order.issuer is not None]
    by_root = [order for order in others if order.issuer == ROOT]
    for order in others:
        if order.key is not None:
            draft.step("service", "key", order.id)
    for subject, key in draft.keys.items():
        if key.room == "root" and not any(order.id == subject for order in others):
            draft.step("root", "key", subject)
    for order in [*roots, *by_root]:
        draft.step("root", "certificate", order.id)
    for order in roots:
        draft.step("root", "crl", order.id)
    for order in by_root:
        draft.step("service", "attach", order.id)
    for order in others:
        if order not in by_root:
            draft.step("service", "certificate", order.id)
    for order in others:
        if order.profile.ca is not None:
            draft.step("service", "crl", order.id)
    draft.step("none", "check", "hierarchy")
    draft.step("none", "publish", "hierarchy")
