"""Who signed a statement: from a CMS signature to a person with roles, or to a service.

An officer's certificate carries the person, the employer and the trusted roles (`pki.extensions.OfficerData`); it was
itself issued by the decision of two security officers, so it proves the grant of the roles. A signature counts only
while the whole path is valid and unrevoked; who signed is known beyond that, because what a person did earlier in a
case keeps them from other steps of it even after their certificate was revoked.
"""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass
from datetime import datetime
from typing import Final

from cryptography import x509

from cps.model import SYSTEM, Pack
from pki.cms_signed import SignedData, parse_signed_data, verify_signature
from pki.errors import CertificateError, PathError
from pki.extensions import OfficerData
from pki.names import common_name, identity_uris
from pki.path import Trust, validate_path
from pki.roles import Role, role_of
from runtime.language import Message, Term

_DECIDERS: Final = frozenset({Role.OFFICER, Role.SERVICE})


@dataclass(frozen=True, slots=True)
class Signatory:
    """A person or service that signed. `lapsed` says why the certificate does not count now; None if it does."""

    person: str
    organisation: str
    roles: frozenset[str]
    certificate: x509.Certificate
    lapsed: str | None  # a reason of `pki.errors`

    def objection(self) -> Message | None:
        """Why a signature of this certificate does not count now, if it does not."""
        if self.lapsed is None:
            return None
        return Message(
            "the certificate of {person} does not count now: {reason}",
            person=self.person,
            reason=Term("reason", self.lapsed),
        )

    def holds(self, by: Collection[str]) -> bool:
        """Whether one of the roles `by` is held."""
        return not self.roles.isdisjoint(by)


def open_signed(der: bytes, content_type: x509.ObjectIdentifier) -> SignedData:
    """Parse SignedData (DER) of this content type and verify its signature; says nothing yet about who signed.

    Raises CmsError (`pki.cms_signed`).
    """
    signed = parse_signed_data(der, content_type=content_type)
    verify_signature(signed)
    return signed


def identify(signed: SignedData, *, pack: Pack, trust: Trust, now: datetime) -> Signatory:
    """The officer or service behind a verified signature.

    Raises PathError or CertificateError if the certificate was not one of an officer or service when it signed. If it
    was, but is expired or revoked at `now`, the signatory is returned with `lapsed` set.
    """
    signer = signed.signer
    validate_path(
        signer, signed.certificates, trust=trust, now=signed.signing_time, roles=_DECIDERS, check_revocation=False
    )
    lapsed = None
    try:
        validate_path(signer, signed.certificates, trust=trust, now=now, roles=_DECIDERS)
    except PathError as error:
        lapsed = error.reason
    if role_of(signer) is Role.SERVICE:
        uris = identity_uris(signer)
        roles = frozenset({SYSTEM}) if pack.signers.system_step in uris else frozenset()
        return Signatory(uris[0] if uris else "", "", roles, signer, lapsed)
    officer = OfficerData.from_certificate(signer)
    if officer is None:
        raise CertificateError("wrong_role", "an officer's certificate without officer data", clause="CPS 5.2.1")
    roles = frozenset(officer.roles).intersection(pack.roles)  # a role that the statement does not know gives no right
    return Signatory(officer.person_id, officer.organisation, roles, signer, lapsed)


def holder_of(signed: SignedData, *, trust: Trust) -> Signatory:
    """Whoever holds the key of a member's certificate, by a verified signature with it while the certificate lasted.

    Whether it was suspended or revoked does not matter: this is for orders against the certificate itself.
    Raises PathError if it was not one of this hierarchy when it signed.
    """
    signer = signed.signer
    validate_path(
        signer, signed.certificates, trust=trust, now=signed.signing_time, roles=set(Role), check_revocation=False
    )
    uris = identity_uris(signer)
    return Signatory(uris[0] if uris else common_name(signer.subject), "", frozenset(), signer, None)


def statement_of_service(
    der: bytes, content_type: x509.ObjectIdentifier, uri: str, *, trust: Trust, now: datetime
) -> SignedData:
    """SignedData (DER) by the service whose certificate names `uri`, valid and unrevoked at `now`.

    Raises CmsError for the structure or signature, PathError or CertificateError for the signer.
    """
    signed = open_signed(der, content_type)
    validate_path(signed.signer, signed.certificates, trust=trust, now=now, roles={Role.SERVICE})
    if uri not in identity_uris(signed.signer):
        raise CertificateError("wrong_role", "signed by another service", clause="CPS 4.2.1")
    return signed
