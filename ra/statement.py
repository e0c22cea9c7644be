"""A decision as people read it: who said what over which digests, out of the CMS that says it."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime

from cps.decision import Decision, parse_decision
from pki.cms_signed import SignedData, parse_signed_data, verify_signature
from pki.errors import CmsError
from pki.extensions import OfficerData
from pki.names import identity_uris
from pki.oids import CT_DECISION


@dataclass(frozen=True, slots=True)
class Statement:
    """A decision with its signer; `person` is a person id, or the URI of a service."""

    decision: Decision
    signed: SignedData
    person: str
    organisation: str
    roles: tuple[str, ...]

    @property
    def signed_at(self) -> datetime:
        return self.signed.signing_time

    @property
    def verifies(self) -> bool:
        """Whether the signature is one of the certificate that came along."""
        try:
            verify_signature(self.signed)
        except CmsError:
            return False
        return True


def read_decision(cms: bytes) -> Statement:
    """Read a decision (CMS, DER). Says nothing about whether it counts: that is for `cps.decide`.

    Raises PkiError or StatementError if it is none.
    """
    signed = parse_signed_data(cms, content_type=CT_DECISION)
    decision = parse_decision(signed.content)
    officer = OfficerData.from_certificate(signed.signer)
    if officer is None:
        return Statement(decision, signed, next(iter(identity_uris(signed.signer)), ""), "", ())
    return Statement(decision, signed, officer.person_id, officer.organisation, officer.roles)
