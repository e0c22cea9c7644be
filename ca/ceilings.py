"""What no profile may exceed, whatever its file says (CPS 6.1.5, 6.3.2, 7.1).

Profiles are data, and data can be edited. These limits are code beside their clauses: a profile that passes one is not
loaded, and with it nothing is issued. The HSM service holds the same line for lists it signs (`typed_crl`).
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import timedelta
from typing import Final

from pki.roles import Role

_CRL: Final = timedelta(days=10)
_ROOT_CRL: Final = timedelta(days=400)


@dataclass(frozen=True, slots=True)
class Ceiling:
    """The limits of one role: the longest life, the least RSA modulus (bits), and for CAs how deep they go."""

    validity: timedelta
    rsa: int = 3072
    path_length: int | None = None
    crl_lifetime: timedelta | None = None


def _authority(days: int, path_length: int, *, rsa: int = 3072, crl: timedelta = _CRL) -> Ceiling:
    return Ceiling(timedelta(days=days), rsa, path_length, crl)


def _leaf(days: int) -> Ceiling:
    return Ceiling(timedelta(days=days))


CEILINGS: Final[Mapping[Role, Ceiling]] = {
    Role.ROOT: _authority(20 * 366, 3, rsa=4096, crl=_ROOT_CRL),
    Role.BRAND: _authority(10 * 366, 2),
    Role.GEOPOLITICAL: _authority(10 * 366, 1),
    Role.CARDHOLDER_CA: _authority(5 * 366, 0),
    Role.MERCHANT_CA: _authority(5 * 366, 0),
    Role.GATEWAY_CA: _authority(5 * 366, 0),
    Role.OPERATIONS_CA: _authority(5 * 366, 0),
    Role.CARDHOLDER: _leaf(90),
    Role.MERCHANT: _leaf(398),
    Role.GATEWAY_SIGNING: _leaf(398),
    Role.GATEWAY_ENCRYPTION: _leaf(398),
    Role.OFFICER: _leaf(398),
    Role.SERVICE: _leaf(3 * 366),
    Role.OCSP_RESPONDER: _leaf(398),
    Role.TIMESTAMP_AUTHORITY: _leaf(5 * 366),
}


def passed(
    role: Role,
    *,
    validity: timedelta,
    rsa: int | None,
    path_length: int | None = None,
    crl_lifetime: timedelta | None = None,
) -> Iterator[str]:
    """A sentence with its clause for each ceiling of `role` that a profile with these values passes."""
    ceiling = CEILINGS[role]
    if validity > ceiling.validity:
        yield f"CPS 6.3.2/{role}: a certificate lives {ceiling.validity.days} days at most, not {validity}"
    if rsa is not None and rsa < ceiling.rsa:
        yield f"CPS 6.1.5/{role}: RSA keys have {ceiling.rsa} bits at least, not {rsa}"
    if path_length is not None and path_length > (ceiling.path_length or 0):
        yield f"CPS 7.1.2/{role}: the path length is {ceiling.path_length} at most, not {path_length}"
    if crl_lifetime is not None and ceiling.crl_lifetime is not None and crl_lifetime > ceiling.crl_lifetime:
        yield f"CPS 4.9.7/{role}: a list serves for {ceiling.crl_lifetime.days} days at most, not {crl_lifetime}"
