"""From an approved case to the certificates it asks for, with the profile of each (CPS 7.1).

What a certificate says of its holder is in `cps.entitlement`, because the HSM service compares with it again.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime

from ca.errors import Finding, NotApprovedError, RequestError
from ca.profile import Profile, profiles
from cps.dossier import Dossier
from cps.entitlement import Holder, entitlements, require_issuer
from cps.errors import EntitlementError, IssuerError
from cps.model import Pack, Purpose


@dataclass(frozen=True, slots=True)
class CertificateOrder:
    """One certificate to be issued for a case."""

    purpose: Purpose
    profile: Profile
    holder: Holder


def orders(dossier: Dossier, pack: Pack, *, not_after: datetime | None) -> tuple[CertificateOrder, ...]:
    """The certificates that a case asks for by the statement that governs it, in the order of purposes.

    `not_after` is the verdict's limit. Raises RequestError if the case asks for one that no profile describes, or a
    field does not fit a certificate; NotApprovedError if the statement has it issued by another authority than the
    profile (CERT-ISSUER).
    """
    try:
        asked = entitlements(dossier, pack, not_after=not_after)
        found = [CertificateOrder(each.purpose, profiles()[each.kind.profile], each.holder) for each in asked]
        for each, order in zip(asked, found, strict=True):
            require_issuer(each, order.profile.issuer, pack)
    except IssuerError as error:
        raise NotApprovedError(error.told, [Finding(str(error.rule), error.clause, error.told)]) from None
    except EntitlementError as error:
        raise RequestError(error.told, clause=error.clause) from None
    return tuple(found)
