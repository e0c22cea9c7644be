"""The list of all revocation lists in force (BCI: brand CRL identifier, after SET), a signed content of its own.

A CRL says what was revoked, but not whether it is the newest, nor which other CRLs there should be. The BCI does: it
is numbered, serves at most a day, and names each list by authority, scope, number and SHA-256. Whoever holds it notices
a list that was kept back, or an older one in its place.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Annotated, Final, Self

from cryptography.hazmat import asn1

from pki.der import decode, encode
from pki.errors import DerError

VERSION: Final = 1
SIGNER: Final = "urn:kwbp:service:bci"
"""Identity of the key that signs it."""
LONGEST_LIFE: Final = timedelta(hours=24)
MOST_LISTS: Final = 1024
_NUMBERS: Final = range(1 << 160)  # CRLNumber has at most 20 octets (RFC 5280 5.2.3)


@asn1.sequence
class _NamedCrl:
    issuer: Annotated[str, asn1.Size(1, 64)]
    scope: Annotated[str, asn1.Size(1, 16)]
    number: int
    sha256: Annotated[bytes, asn1.Size.exact(32)]


@asn1.sequence
class _Bci:
    version: int
    number: int
    this_update: asn1.GeneralizedTime
    next_update: asn1.GeneralizedTime
    lists: Annotated[list[_NamedCrl], asn1.Size(1, MOST_LISTS)]


@dataclass(frozen=True, slots=True)
class NamedCrl:
    """A list in force: of which authority (its name in the repository) and scope; `sha256` is of its DER, 32 bytes."""

    issuer: str
    scope: str
    number: int
    sha256: bytes


@dataclass(frozen=True)
class Bci:
    """SEQUENCE { version INTEGER(1), number, thisUpdate, nextUpdate, SEQUENCE OF { issuer, scope, number, sha256 } }.

    Times are aware UTC in whole seconds, at most a day apart; lists ascend by issuer and scope, none comes twice.
    """

    number: int
    this_update: datetime
    next_update: datetime
    lists: tuple[NamedCrl, ...]

    def to_der(self) -> bytes:
        """The content to sign, DER."""
        return encode(
            _Bci(
                version=VERSION,
                number=self.number,
                this_update=_time(self.this_update),
                next_update=_time(self.next_update),
                lists=[_NamedCrl(issuer=e.issuer, scope=e.scope, number=e.number, sha256=e.sha256) for e in self.lists],
            )
        )

    @classmethod
    def from_der(cls, der: bytes) -> Self:
        """Read the content; DerError if malformed, of another version, out of order, too long in force, misnumbered."""
        data = decode(_Bci, der)
        if data.version != VERSION:
            raise DerError("bad_version", f"BCI is version {VERSION}", clause="KWBP global rule 1")
        if any(number not in _NUMBERS for number in (data.number, *(each.number for each in data.lists))):
            raise DerError("bad_number", "a number has at most 20 octets and no sign", clause="RFC 5280 5.2.3")
        lists = tuple(NamedCrl(each.issuer, each.scope, each.number, each.sha256) for each in data.lists)
        names = [(each.issuer, each.scope) for each in lists]
        if names != sorted(set(names)):
            raise DerError("not_canonical", "the lists ascend, each is named once", clause="KWBP global rule 1")
        this_update, next_update = (
            moment.as_datetime().replace(tzinfo=UTC) for moment in (data.this_update, data.next_update)
        )
        if not timedelta(0) < next_update - this_update <= LONGEST_LIFE:
            raise DerError("bad_validity", "a BCI serves at most a day", clause="CPS 4.9.7")
        return cls(data.number, this_update, next_update, lists)


def _time(moment: datetime) -> asn1.GeneralizedTime:
    return asn1.GeneralizedTime(moment.astimezone(UTC).replace(microsecond=0))
