"""Hosts of this authority's own services, which no member is certified for.

Services know each other by the root of the hierarchy and the host that they call (RFC 9525). A member's certificate for
TLS is below the same root: with one for the host of a service its holder could answer in that service's place. Who the
caller is says the URN in the certificate, which no host can be; so this is about servers alone. Loopback names are of
nobody.
"""

from __future__ import annotations

from collections.abc import Mapping
from ipaddress import ip_address

from cps.dossier import Subject
from cps.model import Pack
from cps.rules import Rule
from ra.errors import InvalidSubmissionError


def own_hosts(services: Mapping[str, str]) -> dict[str, str]:
    """The services of an installation by their hosts, spelt as `hosts` of members are; from hosts by service."""
    return {host.lower().rstrip("."): service for service, host in services.items() if not _is_loopback(host)}


def check_hosts(subject: Subject, own: Mapping[str, str], pack: Pack) -> None:
    """Raises InvalidSubmissionError if a member names the host of a service; the gateway's own may be a gateway's."""
    for host in getattr(subject, "hosts", ()):
        service = own.get(host)
        if service is not None and service != subject.member_class:
            raise InvalidSubmissionError(
                "the host {host} is of a service of this authority, not of a member",
                clause=pack.clause(Rule.APP_REQUEST),
                host=host,
            )


def _is_loopback(host: str) -> bool:
    name = host.lower().rstrip(".")
    if name == "localhost" or name.endswith(".localhost"):  # RFC 6761 6.3
        return True
    try:
        address = ip_address(name)
    except ValueError:
        return False
    return address.is_loopback or address.is_unspecified
