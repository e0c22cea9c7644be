"""Whether the CA's answer is what was asked: a certificate of our hierarchy for each key of the case."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime

from ca.client import CertificateAnswer
from cps.dossier import Dossier
from pki.errors import PkiError
from pki.keys import spki_sha256
from pki.path import Trust, validate_path
from pki.roles import Role
from ra.records import NewCertificate
from runtime.language import Term, ToldError


class UnfitAnswerError(ToldError):
    """The CA answered with certificates that do not fit the case."""


def check_answer(
    answer: Mapping[str, CertificateAnswer], dossier: Dossier, *, trust: Trust, now: datetime
) -> list[NewCertificate]:
    """The certificates of an answer, by purpose; raises UnfitAnswerError unless there is one good one for each key."""
    issued = []
    for entry in dossier.revision.csrs:
        given = answer.get(entry.purpose)
        if given is None:
            raise UnfitAnswerError(
                "the CA gave no certificate for the {purpose} key", purpose=Term("purpose", entry.purpose)
            )
        certificate = given.parsed()
        if spki_sha256(certificate.public_key()) != entry.spki_sha256:
            raise UnfitAnswerError(
                "the CA certified another key than the {purpose} key", purpose=Term("purpose", entry.purpose)
            )
        try:
            validate_path(
                certificate, given.parsed_chain(), trust=trust, now=now, roles=set(Role), check_revocation=False
            )
        except PkiError as error:
            raise UnfitAnswerError(
                "the {purpose} certificate is not valid: {reason}",
                purpose=Term("purpose", entry.purpose),
                reason=Term("reason", error.reason),
            ) from None
        issued.append(
            NewCertificate(
                issuer=given.issuer,
                serial=given.serial,
                purpose=entry.purpose,
                der=given.certificate,
                chain=given.chain,
            )
        )
    return issued
