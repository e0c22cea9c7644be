"""Who may hand in what somebody signed: an officer their own statements, the operator's console anybody's (CPS 5.2.3).

What counts is the signature (`cps.decide`). But an officer's connection that brings another officer's signature is two
credentials in one hand, and nobody can tell whose hand: it is refused, and noted.
"""

from __future__ import annotations

from cryptography import x509

from cps.model import Pack
from cps.rules import Rule
from cps.verdict import Finding
from pki.cms_signed import parse_signed_data
from pki.errors import PkiError
from pki.extensions import OfficerData
from ra.access import Actor
from runtime.language import Message


def borrowed(actor: Actor, statement: bytes, content_type: x509.ObjectIdentifier, pack: Pack) -> Finding | None:
    """Why `actor` may not hand in this statement (CMS, DER), if so; nothing is said of one that cannot be read."""
    if not actor.is_officer:
        return None
    try:
        officer = OfficerData.from_certificate(parse_signed_data(statement, content_type=content_type).signer)
    except PkiError:
        return None  # the judgement says what is wrong with it
    if officer is None or officer.person_id == actor.person:
        return None
    told = Message(
        "{actor} hands in what {person} signed: each officer hands in their own",
        actor=actor.name,
        person=officer.person_id,
    )
    return Finding(Rule.DEC_CREDENTIAL, pack.clause(Rule.DEC_CREDENTIAL), told)
