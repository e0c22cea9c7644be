"""What the proofs of a purchase say, for the verdict: its time and the status of its certificates, and what is missing.

This is what a bundle claims. It is judged by `verify.sh` with OpenSSL, not here.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from cryptography import x509
from cryptography.x509 import ocsp

from pki.cms_signed import parse_signed_data
from pki.der import decode
from pki.errors import PkiError
from pki.oids import CT_TST_INFO
from pki.timestamp_structures import TstInfo
from runtime.language import Message
from storefront.errors import EvidenceError
from storefront.evidence.records import Records


@dataclass(frozen=True, slots=True)
class Proof:
    """The time-stamp and the OCSP answers of a purchase, read."""

    when: datetime
    stamped_at: datetime | None
    serial: int | None
    certificates: frozenset[x509.Certificate]
    answers: tuple[tuple[bytes, ocsp.OCSPResponse], ...]

    def answer_about(self, certificate: x509.Certificate) -> bytes | None:
        """The OCSPResponse (DER) about a certificate."""
        return next((der for der, read in self.answers if _is_about(read, certificate)), None)

    def statement(self, certificates: Mapping[str, x509.Certificate], root: x509.Certificate) -> dict[str, Any]:
        """Members `time`, `status` and `gaps` of the verdict; `certificates` by their names in the bundle."""
        gaps, status = [], {}
        if self.stamped_at is None:
            gaps.append("no time-stamp: the time is the one that the gateway signed")
        for name, certificate in sorted(certificates.items()):
            found = [read for _der, read in self.answers if _is_about(read, certificate)]
            if found:
                said = found[0]
                status[name] = {
                    "ocsp": said.certificate_status.name.lower(),
                    "as_of": said.this_update_utc.isoformat(),
                    "until": None if said.next_update_utc is None else said.next_update_utc.isoformat(),
                }
            else:
                status[name] = {"crl": "in force at the purchase"}
                if certificate.issuer != root.subject:
                    gaps.append(f"no OCSP answer about {name}: its status is that of the CRL")
        time = {"rests_on": "the gateway's signed date", "at": self.when.isoformat()}
        if self.stamped_at is not None:
            time = {
                "rests_on": "an RFC 3161 time-stamp over auth-res.p7s",
                "at": self.stamped_at.isoformat(),
                "serial": f"{self.serial:x}",
            }
        return {"time": time, "status": status, "gaps": gaps}


def read_proof(records: Records, when: datetime) -> Proof:
    """The proofs in `records` of a purchase at `when` (aware UTC); EvidenceError if one cannot be read."""
    try:
        answers = tuple((der, ocsp.load_der_ocsp_response(der)) for der in records.ocsp)
        if any(read.response_status is not ocsp.OCSPResponseStatus.SUCCESSFUL for _der, read in answers):
            raise ValueError("not an answer")
        if records.time_stamp is None:
            return Proof(when, None, None, frozenset(), answers)
        token = parse_signed_data(records.time_stamp, content_type=CT_TST_INFO)
        info = decode(TstInfo, token.content)
        stamped_at = info.gen_time.as_datetime().replace(tzinfo=UTC)
    except (PkiError, ValueError):
        raise EvidenceError(Message("a time-stamp or a status answer is not what it should be")) from None
    return Proof(when, stamped_at, info.serial_number, frozenset(token.certificates), answers)


def _is_about(answer: ocsp.OCSPResponse, certificate: x509.Certificate) -> bool:
    """Whether serial and issuer's name are the certificate's; the issuer's key is judged with the signature."""
    name = hashlib.new(answer.hash_algorithm.name, certificate.issuer.public_bytes()).digest()
    return (answer.serial_number, answer.issuer_name_hash) == (certificate.serial_number, name)
