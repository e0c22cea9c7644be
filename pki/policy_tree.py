"""Certificate policies along a path: the valid_policy_tree and its three counters (RFC 5280 6.1.2 to 6.1.5)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Final

from cryptography import x509
from cryptography.hazmat import asn1

from pki.der import decode, tlv
from pki.errors import DerError, PathError
from pki.extensions import extension_value
from pki.oids import POLICY_MAPPINGS

ANY_POLICY: Final = x509.ObjectIdentifier("2.5.29.32.0")
_LIMIT: Final = 1000  # nodes: mappings could make more of them than there are octets
_CLAUSE: Final = "RFC 5280 6.1"
_SEQUENCE: Final = 0x30


@dataclass(frozen=True)
class PolicySettings:
    """What the relying party asks for (RFC 5280 6.1.1 (c), (e), (f), (g))."""

    initial_policies: frozenset[x509.ObjectIdentifier] = frozenset({ANY_POLICY})
    explicit_policy: bool = False
    inhibit_mapping: bool = False
    inhibit_any_policy: bool = False


@dataclass(eq=False)
class _Node:
    policy: x509.ObjectIdentifier
    expected: frozenset[x509.ObjectIdentifier]
    parent: _Node | None = None
    children: list[_Node] = field(default_factory=list)


@asn1.sequence
class _Mapping:
    issuer_domain: x509.ObjectIdentifier
    subject_domain: x509.ObjectIdentifier


@asn1.sequence
class _Mappings:
    members: list[_Mapping]


class PolicyTree:
    """The state of a path of `length` certificates below the anchor; the certificates are taken in order."""

    def __init__(self, length: int, settings: PolicySettings) -> None:
        self._settings: Final = settings
        self._level = [_Node(ANY_POLICY, frozenset({ANY_POLICY}))]  # the nodes of the greatest depth; none: NULL
        self._explicit_policy = 0 if settings.explicit_policy else length + 1
        self._policy_mapping = 0 if settings.inhibit_mapping else length + 1
        self._inhibit_any = 0 if settings.inhibit_any_policy else length + 1

    def take(self, extensions: x509.Extensions, *, self_issued: bool, last: bool) -> None:
        """Process the policies of the next certificate; PathError `policy_refused`, or `bad_extension`."""
        stated = extension_value(extensions, x509.CertificatePolicies)
        policies = [policy.policy_identifier for policy in stated or ()]
        if len(set(policies)) != len(policies):
            raise PathError("bad_extension", "a policy stands twice", clause="RFC 5280 4.2.1.4")
        self._grow(policies, may_be_any=self._inhibit_any > 0 or (self_issued and not last))
        if not self._explicit_policy and not self._level:
            raise PathError("policy_refused", "no policy holds for the whole path", clause="RFC 5280 6.1.3 (f)")
        if last:
            self._wrap_up(extensions)
        else:
            self._map(_mappings(extensions))
            self._count_down(extensions, self_issued)

    def _grow(self, policies: Sequence[x509.ObjectIdentifier], *, may_be_any: bool) -> None:
        """6.1.3 (d) and (e): one level more."""
        level: list[_Node] = []

        def child(parent: _Node, policy: x509.ObjectIdentifier) -> None:
            node = _Node(policy, frozenset({policy}), parent)
            parent.children.append(node)
            level.append(node)
            if len(level) > _LIMIT:
                raise PathError("policy_refused", f"more than {_LIMIT} policies", clause=_CLAUSE)

        any_node = next((node for node in self._level if node.policy == ANY_POLICY), None)
        for policy in policies:
            if policy == ANY_POLICY:
                continue
            parents = [node for node in self._level if policy in node.expected]
            for parent in parents or ([any_node] if any_node else []):
                child(parent, policy)
        if ANY_POLICY in policies and may_be_any:
            for parent in self._level:
                present = {node.policy for node in parent.children}
                for policy in sorted(parent.expected - present, key=lambda oid: oid.dotted_string):
                    child(parent, policy)
        self._level = level

    def _map(self, mappings: Sequence[_Mapping]) -> None:
        """6.1.4 (a) and (b)."""
        mapped: dict[x509.ObjectIdentifier, set[x509.ObjectIdentifier]] = {}
        for mapping in mappings:
            if ANY_POLICY in (mapping.issuer_domain, mapping.subject_domain):
                raise PathError("policy_refused", "anyPolicy is mapped", clause="RFC 5280 6.1.4 (a)")
            mapped.setdefault(mapping.issuer_domain, set()).add(mapping.subject_domain)
        if not self._policy_mapping:
            self._level = [node for node in self._level if node.policy not in mapped]
            return
        any_node = next((node for node in self._level if node.policy == ANY_POLICY), None)
        for policy, expected in mapped.items():
            nodes = [node for node in self._level if node.policy == policy]
            for node in nodes:
                node.expected = frozenset(expected)
            if not nodes and any_node is not None:
                self._level.append(_Node(policy, frozenset(expected), any_node.parent))

    def _count_down(self, extensions: x509.Extensions, self_issued: bool) -> None:
        """6.1.4 (h), (i) and (j)."""
        if not self_issued:
            self._explicit_policy = max(self._explicit_policy - 1, 0)
            self._policy_mapping = max(self._policy_mapping - 1, 0)
            self._inhibit_any = max(self._inhibit_any - 1, 0)
        constraints = extension_value(extensions, x509.PolicyConstraints)
        if constraints is not None:
            if constraints.require_explicit_policy is not None:
                self._explicit_policy = min(self._explicit_policy, constraints.require_explicit_policy)
            if constraints.inhibit_policy_mapping is not None:
                self._policy_mapping = min(self._policy_mapping, constraints.inhibit_policy_mapping)
        inhibit = extension_value(extensions, x509.InhibitAnyPolicy)
        if inhibit is not None:
            self._inhibit_any = min(self._inhibit_any, inhibit.skip_certs)

    def _wrap_up(self, extensions: x509.Extensions) -> None:
        """6.1.5 (a), (b) and (g)."""
        self._explicit_policy = max(self._explicit_policy - 1, 0)
        constraints = extension_value(extensions, x509.PolicyConstraints)
        if constraints is not None and constraints.require_explicit_policy == 0:
            self._explicit_policy = 0
        if not self._explicit_policy and not self.policies:
            raise PathError("policy_refused", "no policy that was asked for", clause="RFC 5280 6.1.5 (g)")

    @property
    def policies(self) -> frozenset[x509.ObjectIdentifier]:
        """The user-constrained-policy-set, in the terms of the anchor's domain."""
        asked = self._settings.initial_policies
        found = {_of_anchor(node) for node in self._level}
        if ANY_POLICY in asked:
            return frozenset(found)
        return asked if ANY_POLICY in found else asked & found


def _of_anchor(node: _Node) -> x509.ObjectIdentifier:
    """The policy of the ancestor that stands directly below anyPolicy: before any mapping."""
    while node.parent is not None and node.parent.policy != ANY_POLICY:
        node = node.parent
    return node.policy


def _mappings(extensions: x509.Extensions) -> list[_Mapping]:
    for extension in extensions:
        if extension.oid == POLICY_MAPPINGS:
            try:
                return decode(_Mappings, tlv(_SEQUENCE, extension.value.public_bytes())).members
            except DerError:
                raise PathError("bad_extension", "malformed policyMappings", clause="RFC 5280 4.2.1.5") from None
    return []
