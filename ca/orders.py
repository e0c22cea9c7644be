"""From an approved case to the certificates it asks for, with the profile of each (CPS 7.1).

What a certificate says of its holder is in `cps.entitlement`, because the HSM service compares with it again.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime

from ca.errors import RequestError
from ca.profile import Profile, profiles
from cps.dossier import Dossier
from cps.entitlement import Holder, entitlements
from cps.errors import EntitlementError
from cps.model import Purpose


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
    try:
        asked = entitlements(dossier, not_after=not_after)
    except EntitlementError as error:
        raise RequestError(error.told, clause=error.clause) from None
    return tuple(CertificateOrder(each.purpose, profiles()[each.kind.profile], each.holder) for each in asked)
