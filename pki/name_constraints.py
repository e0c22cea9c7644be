"""Which names a CA may certify: nameConstraints (RFC 5280 4.2.1.10, 6.1.3 (b) and (c), 6.1.4 (g)).

Fails closed: a constraint on a kind of name that is not in the table refuses every certificate with such a name.
"""

from __future__ import annotations

import unicodedata
from collections.abc import Callable, Iterable
from ipaddress import ip_address, ip_network
from typing import Any, Final
from urllib.parse import urlsplit

from cryptography import x509
from cryptography.x509.oid import NameOID

from pki.errors import PathError

_CLAUSE: Final = "RFC 5280 4.2.1.10"

Comparable = tuple[frozenset[tuple[str, str | bytes]], ...]


def comparable(name: x509.Name) -> Comparable:
    """A name as RFC 5280 7.1 compares it: not by case, by the number of spaces or by the kind of string."""
    return tuple(frozenset((part.oid.dotted_string, _folded(part.value)) for part in rdn) for rdn in name.rdns)


def _folded(value: str | bytes) -> str | bytes:
    if isinstance(value, bytes):
        return value
    return " ".join(unicodedata.normalize("NFKC", value).casefold().split())


class NameConstraints:
    """The constraints of all CAs of a path so far."""

    def __init__(self) -> None:
        self._permitted: list[list[x509.GeneralName]] = []  # a name must be in each list that speaks of its kind
        self._excluded: list[x509.GeneralName] = []

    def add(self, constraints: x509.NameConstraints) -> None:
        """Take what a CA certificate states on."""
        self._permitted.append(list(constraints.permitted_subtrees or ()))
        self._excluded += constraints.excluded_subtrees or ()

    def check(self, subject: x509.Name, alternatives: x509.SubjectAlternativeName | None) -> None:
        """Refuse a certificate with a name outside: PathError `name_refused`."""
        for name in _names(subject, alternatives):
            if any(_is_within(name, subtree) for subtree in self._excluded if type(subtree) is type(name)):
                raise PathError("name_refused", "name is excluded by a CA above", clause=_CLAUSE)
            for permitted in self._permitted:
                subtrees = [subtree for subtree in permitted if type(subtree) is type(name)]
                if subtrees and not any(_is_within(name, subtree, unknown=False) for subtree in subtrees):
                    raise PathError("name_refused", "name is not permitted by a CA above", clause=_CLAUSE)


def _names(subject: x509.Name, alternatives: x509.SubjectAlternativeName | None) -> Iterable[x509.GeneralName]:
    named = list(alternatives or ())
    if subject.rdns:
        yield x509.DirectoryName(subject)
    yield from named
    if not any(isinstance(name, x509.RFC822Name) for name in named):
        for part in subject.get_attributes_for_oid(NameOID.EMAIL_ADDRESS):
            yield x509.RFC822Name(str(part.value))


def _is_within(name: x509.GeneralName, subtree: x509.GeneralName, *, unknown: bool = True) -> bool:
    """Whether `name` is in the subtree; `unknown` is said of a kind, or of a name, that cannot be judged."""
    judge = _JUDGES.get(type(name))
    verdict = None if judge is None else judge(name.value, subtree.value)
    return unknown if verdict is None else verdict


def _directory(name: x509.Name, subtree: x509.Name) -> bool:
    return comparable(name)[: len(subtree.rdns)] == comparable(subtree)


def _host(name: str, subtree: str) -> bool:
    """A host in a domain: `.example` means the hosts below it, `example` (of DNS names) also itself."""
    name, subtree = name.casefold().rstrip("."), subtree.casefold()
    if subtree.startswith("."):
        return name.endswith(subtree)
    return not subtree or name == subtree or name.endswith("." + subtree)


def _mailbox(name: str, subtree: str) -> bool:
    local, _, host = name.rpartition("@")
    if "@" in subtree:
        wanted, _, domain = subtree.rpartition("@")
        return (local, host.casefold()) == (wanted, domain.casefold())
    return _one_host(host, subtree)


def _one_host(host: str, subtree: str) -> bool:
    """Of mail and URIs `example` means that host alone."""
    return _host(host, subtree) if subtree.startswith(".") else host.casefold() == subtree.casefold()


def _uri(name: str, subtree: str) -> bool | None:
    """None if the URI names no host, or an address: such a URI must be refused (RFC 5280 4.2.1.10)."""
    try:
        host = urlsplit(name).hostname
    except ValueError:
        return None
    if not host:
        return None
    try:
        ip_address(host)
    except ValueError:
        return _one_host(host, subtree)
    return None


def _address(name: Any, subtree: Any) -> bool:
    network = ip_network(subtree)
    return name.version == network.version and name in network


_JUDGES: Final[dict[type[x509.GeneralName], Callable[[Any, Any], bool | None]]] = {
    x509.DirectoryName: _directory,
    x509.DNSName: _host,
    x509.RFC822Name: _mailbox,
    x509.UniformResourceIdentifier: _uri,
    x509.IPAddress: _address,
}
