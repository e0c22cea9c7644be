"""A ceremony that may be run: every input checked, every step listed, before any token is touched. Pure.

How each kind of ceremony is planned stands in `ca.ceremony.founding_plan` and `ca.ceremony.act_plans`.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Literal

from cryptography import x509

from ca.ceremony.acts import Act
from ca.ceremony.model import Ceremony
from ca.ceremony.standing import NOTHING, Standing
from ca.errors import Finding
from ca.hierarchy import ROOTS
from ca.prepare import ROOT
from ca.profile import Profile, profiles
from ca.publication import Publication
from cps.entitlement import KwbpExtension, PublicKey
from hsm_service.templates import Operation, Template, built_in

Room = Literal["service", "root", "none"]
Action = Literal[
    "key", "find", "attach", "certificate", "crl", "restore", "disable", "schedule", "attest", "check", "publish"
]


@dataclass(frozen=True, slots=True)
class Step:
    """One act: what is done to what, in which room."""

    room: Room
    action: Action
    subject: str

    def __str__(self) -> str:
        return f"{self.action} {self.subject}"


@dataclass(frozen=True, slots=True)
class KeyOrder:
    """A key that is made, or that must be there (`spki_sha256`, hex, if its public half is known beforehand).

    `subject` is the name in its PKCS#10 request, by which the token proves that it has the key; None for kinds of keys
    that sign no request.
    """

    name: str
    template: Template
    owner: str | None = None
    version: int = 1
    subject: x509.Name | None = None
    identity: str | None = None
    spki_sha256: str | None = None

    @property
    def room(self) -> Room:
        return "root" if self.template.token == ROOT else "service"


@dataclass(frozen=True, slots=True)
class Order:
    """A certificate to be made: its key is one of a token (`key`), or came with a PKCS#10 request (`public_key`)."""

    folder: str
    name: str
    profile: Profile
    issuer: str | None  # name of an authority; None: itself
    subject: x509.Name
    key: str | None = None
    public_key: PublicKey | None = None
    identity: str | None = None
    hosts: tuple[str, ...] = ()
    extensions: tuple[KwbpExtension, ...] = ()
    next_key: str | None = None  # the key whose hash the certificate carries (RFC 8649)

    @property
    def id(self) -> str:
        """How steps and the transcript call it."""
        return f"{self.folder}/{self.name}" if self.folder else self.name

    @property
    def file(self) -> str:
        """Its file below the folder of the hierarchy."""
        return f"{self.id}.cer" if self.folder == ROOTS else f"{self.id}.pem"


@dataclass(frozen=True, slots=True)
class Revoked:
    """A certificate that goes on the root's list."""

    serial: str
    reason: str


@dataclass(frozen=True)
class Plan:
    """A ceremony that may be run: orders by id, keys by the subject of their step, and the steps in their order.

    `digest` (hexadecimal) covers the ceremony, what came with it, the addresses and what stands published.
    """

    ceremony: Act
    publication: Publication
    inputs: Mapping[str, bytes]
    standing: Standing
    orders: Mapping[str, Order]
    keys: Mapping[str, KeyOrder]
    revoke: tuple[Revoked, ...]
    steps: tuple[Step, ...]
    digest: str
    rooms: frozenset[Room] = field(init=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "rooms", frozenset(step.room for step in self.steps) - {"none"})

    @property
    def founds(self) -> bool:
        """Whether it makes a hierarchy where there is none."""
        return isinstance(self.ceremony, Ceremony)

    def by_root(self, order: Order) -> bool:
        """Whether a root certifies it: its key is in another room then."""
        return self.standing.is_root(order.issuer)

    @property
    def authorities(self) -> Mapping[str, Order]:
        """The orders of authorities by name, a root first."""
        return {order.name: order for order in self.orders.values() if order.profile.ca is not None}

    @property
    def made(self) -> Mapping[str, KeyOrder]:
        """The keys that are made, by the subject of their step."""
        return {step.subject: self.keys[step.subject] for step in self.steps if step.action == "key"}


@dataclass
class Draft:
    """A plan in the making: what was found wrong is collected, so that all of it is told at once."""

    publication: Publication
    standing: Standing = NOTHING
    findings: list[Finding] = field(default_factory=list)
    orders: dict[str, Order] = field(default_factory=dict)
    keys: dict[str, KeyOrder] = field(default_factory=dict)
    revoke: list[Revoked] = field(default_factory=list)
    steps: list[Step] = field(default_factory=list)

    def refuse(self, code: str, clause: str, message: str) -> None:
        self.findings.append(Finding(code, clause, message))

    def template(self, name: str, *, certified: bool) -> Template:
        """A key template; ValueError if there is none, or its keys carry no certificate and must, or the reverse."""
        found = built_in().get(name)
        if found is None or not found.permits("ceremony", Operation.GENERATE, None):
            raise ValueError(f"there is no key template {name!r} that a ceremony makes keys from")
        if certified and not found.holds:
            raise ValueError(f"keys of template {name} carry no certificate")
        if found.imported or found.token == "each":  # noqa: S105  # a token's label
            raise ValueError(f"keys of template {name} are not made by a ceremony")
        return found

    def add_order(self, order: Order) -> None:
        self.findings.extend(_faults(order, self))
        self.orders[order.id] = order

    def step(self, room: Room, action: Action, subject: str) -> None:
        self.steps.append(Step(room, action, subject))


def profile_named(wanted: str) -> Profile:
    """A certificate profile; ValueError if there is none."""
    profile = profiles().get(wanted)
    if profile is None:
        raise ValueError(f"there is no profile {wanted!r}")
    return profile


def _faults(order: Order, draft: Draft) -> Iterator[Finding]:
    known = order.issuer is None or any(each.name == order.issuer for each in draft.orders.values())
    if not known and draft.standing.authority(str(order.issuer)) is None:
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
    template = None if order.key is None or order.id not in draft.keys else draft.keys[order.id].template
    if template is not None and order.profile.role not in template.holds:
        yield Finding(
            "template", "CPS 6.1.1", f"{order.id}: a key of template {template.name} is no {order.profile.role}"
        )
