"""Certificate revocation lists in force (RFC 5280 5 and 6.3), indexed by issuer.

Only full, direct CRLs count: a list with a critical extension that we do not process (a delta, a partition, an indirect
list) is refused rather than half understood. Whether a list is current is asked anew each time; what its bytes alone
decide (who is on it, whose key signed it) is computed once per `CrlSet`.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping
from datetime import datetime
from functools import cached_property
from typing import Final

from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.hazmat.primitives.serialization import Encoding

from pki.algorithms import CERTIFICATE_SIGNATURE_OIDS
from pki.errors import PathError
from pki.extensions import authority_key_id, extensions_of, subject_key_id
from pki.keys import spki_der

_PROCESSED: Final = (x509.CRLNumber, x509.AuthorityKeyIdentifier)
_CLAUSE: Final = "RFC 5280 6.3"


class IndexedCrl:
    """One CRL with what is asked of it often. CertificateError `bad_extension` if its extensions cannot be read."""

    def __init__(self, crl: x509.CertificateRevocationList) -> None:
        extensions = extensions_of(crl)
        self.crl: Final = crl
        self.issuer: Final = crl.issuer.public_bytes()
        self.authority_key_id: Final = authority_key_id(extensions)
        self.number: Final = next((e.value.crl_number for e in extensions if isinstance(e.value, x509.CRLNumber)), -1)
        self._unprocessed = any(e.critical and not isinstance(e.value, _PROCESSED) for e in extensions)
        self._signers: dict[bytes, bool] = {}

    @cached_property
    def fingerprint(self) -> bytes:
        """SHA-256 of the DER CertificateList."""
        return hashlib.sha256(self.crl.public_bytes(Encoding.DER)).digest()

    @cached_property
    def revoked(self) -> Mapping[int, datetime]:
        """Serial numbers on the list with their revocation dates (aware UTC)."""
        return {entry.serial_number: entry.revocation_date_utc for entry in self.crl}

    @cached_property
    def has_unprocessed_extension(self) -> bool:
        """Whether the list or an entry has a critical extension that we cannot honour (RFC 5280 5.2, 5.3)."""
        return self._unprocessed or any(e.critical for entry in self.crl for e in entry.extensions)

    def is_signed_by(self, issuer: x509.Certificate) -> bool:
        """Whether the key of `issuer` signed this list, with an algorithm of the closed list."""
        key = issuer.public_key()
        spki = spki_der(key)
        if spki not in self._signers:
            self._signers[spki] = (
                self.crl.signature_algorithm_oid in CERTIFICATE_SIGNATURE_OIDS
                and isinstance(key, rsa.RSAPublicKey | ec.EllipticCurvePublicKey)
                and self.crl.is_signature_valid(key)
            )
        return self._signers[spki]


class CrlSet:
    """An immutable set of CRLs. Of two lists by one issuer key, the one with the higher number is in force."""

    def __init__(self, crls: Iterable[x509.CertificateRevocationList] = ()) -> None:
        self._crls = tuple(IndexedCrl(crl) for crl in crls)

    def __len__(self) -> int:
        return len(self._crls)

    def indexed(self, issuer: x509.Certificate) -> IndexedCrl | None:
        """The list in force of `issuer` (same name, and same key identifier where both state one); None if absent."""
        name = issuer.subject.public_bytes()
        key_id = subject_key_id(extensions_of(issuer))
        found = [
            crl
            for crl in self._crls
            if crl.issuer == name and (None in (key_id, crl.authority_key_id) or crl.authority_key_id == key_id)
        ]
        return max(found, key=lambda crl: crl.number, default=None)

    def of(self, issuer: x509.Certificate) -> x509.CertificateRevocationList | None:
        """The CRL in force of `issuer`; None if there is none."""
        found = self.indexed(issuer)
        return None if found is None else found.crl

    @cached_property
    def digest(self) -> bytes:
        """32 bytes that change when any list is added, removed or replaced; independent of order."""
        return hashlib.sha256(b"".join(sorted(crl.fingerprint for crl in self._crls))).digest()


def verify_crl(crl: x509.CertificateRevocationList | IndexedCrl, issuer: x509.Certificate, now: datetime) -> None:
    """Check that `crl` speaks for `issuer` at `now` (aware UTC).

    Raises PathError: `bad_signature` (other name, other key, algorithm not listed), `bad_key_usage` (the issuer may not
    sign CRLs), `unknown_critical_extension`, `crl_not_yet_valid`, `crl_expired` (also without nextUpdate: a list that
    never expires cannot be noticed missing).
    """
    indexed = crl if isinstance(crl, IndexedCrl) else IndexedCrl(crl)
    if indexed.issuer != issuer.subject.public_bytes() or not indexed.is_signed_by(issuer):
        raise PathError("bad_signature", "CRL is not signed by the issuer", clause=_CLAUSE)
    usage = next((e.value for e in extensions_of(issuer) if isinstance(e.value, x509.KeyUsage)), None)
    if usage is None or not usage.crl_sign:
        raise PathError("bad_key_usage", "issuer may not sign CRLs", clause=_CLAUSE)
    if indexed.has_unprocessed_extension:
        raise PathError("unknown_critical_extension", "CRL has a critical extension", clause="RFC 5280 5.2")
    if now < indexed.crl.last_update_utc:
        raise PathError("crl_not_yet_valid", "CRL is from the future", clause=_CLAUSE)
    next_update = indexed.crl.next_update_utc
    if next_update is None or now > next_update:
        raise PathError("crl_expired", "CRL is past its nextUpdate", clause=_CLAUSE)
