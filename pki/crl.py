"""Certificate revocation lists in force (RFC 5280 5 and 6.3), indexed by issuer.

Only full, direct CRLs count: a list with a critical extension that we do not process (a delta, a partition, an indirect
list) is refused rather than half understood. Whether a list is current is asked anew each time; what its bytes alone
decide (who is on it, whose key signed it) is computed once per `CrlSet`.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from datetime import datetime
from functools import cached_property
from typing import Final

from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.hazmat.primitives.serialization import Encoding

from pki.algorithms import CERTIFICATE_SIGNATURE_OIDS
from pki.der import sha256
from pki.errors import UNREADABLE, CertificateError, DerError, PathError
from pki.extensions import authority_key_id, extensions_of, subject_key_id
from pki.signed import check_octets

_PROCESSED: Final = (x509.CRLNumber, x509.AuthorityKeyIdentifier)
_CLAUSE: Final = "RFC 5280 6.3"
_ENTRIES: Final = "RFC 5280 5.3"


class IndexedCrl:
    """One CRL with what is asked of it often. CertificateError `bad_extension` or `bad_crl` if it cannot be read."""

    def __init__(self, crl: x509.CertificateRevocationList) -> None:
        extensions = extensions_of(crl)
        self.crl: Final = crl
        try:
            check_octets(crl.public_bytes(Encoding.DER))
            self.issuer: Final = crl.issuer.public_bytes()
        except (DerError, *UNREADABLE):
            raise CertificateError("bad_crl", "unreadable signature or issuer name", clause="RFC 5280 5.1") from None
        self.authority_key_id: Final = authority_key_id(extensions)
        self.number: Final = next((e.value.crl_number for e in extensions if isinstance(e.value, x509.CRLNumber)), -1)
        self._is_processed = not any(e.critical and not isinstance(e.value, _PROCESSED) for e in extensions)
        self._authenticated: set[x509.Certificate] = set()

    @cached_property
    def fingerprint(self) -> bytes:
        """SHA-256 of the DER CertificateList."""
        return sha256(self.crl.public_bytes(Encoding.DER))

    @cached_property
    def revoked(self) -> Mapping[int, datetime]:
        """Serial numbers on the list with their revocation dates (aware UTC).

        PathError `unknown_critical_extension` if an entry has a critical extension: such a list must not be used at all
        (RFC 5280 5.3), `bad_extension` if an entry cannot be read.
        """
        revoked = {}
        try:
            for entry in self.crl:
                if any(extension.critical for extension in entry.extensions):
                    raise PathError(
                        "unknown_critical_extension", "CRL entry with a critical extension", clause=_ENTRIES
                    )
                revoked[entry.serial_number] = entry.revocation_date_utc
        except UNREADABLE:
            raise PathError("bad_extension", "CRL entry cannot be read", clause=_ENTRIES) from None
        return revoked

    def authenticate(self, issuer: x509.Certificate) -> None:
        """Check what the bytes decide: `issuer` may sign CRLs, signed this one, and all of it is understood.

        Raises PathError as `verify_crl`. A certificate that passed is remembered.
        """
        if issuer in self._authenticated:
            return
        key = issuer.public_key()
        if (
            self.issuer != issuer.subject.public_bytes()
            or self.crl.signature_algorithm_oid not in CERTIFICATE_SIGNATURE_OIDS
            or not isinstance(key, rsa.RSAPublicKey | ec.EllipticCurvePublicKey)
            or not self.crl.is_signature_valid(key)
        ):
            raise PathError("bad_signature", "CRL is not signed by the issuer", clause=_CLAUSE)
        usage = next((e.value for e in extensions_of(issuer) if isinstance(e.value, x509.KeyUsage)), None)
        if usage is None or not usage.crl_sign:
            raise PathError("bad_key_usage", "issuer may not sign CRLs", clause="RFC 5280 6.3.3 (f)")
        if not self._is_processed:
            raise PathError("unknown_critical_extension", "CRL has a critical extension", clause="RFC 5280 5.2")
        self._authenticated.add(issuer)


class CrlSet:
    """An immutable set of CRLs. Of two lists by one issuer key, the one with the higher number is in force."""

    def __init__(self, crls: Iterable[x509.CertificateRevocationList] = ()) -> None:
        self._crls = tuple(IndexedCrl(crl) for crl in crls)
        self._by_issuer: dict[bytes, list[IndexedCrl]] = {}
        for crl in self._crls:
            self._by_issuer.setdefault(crl.issuer, []).append(crl)

    def __len__(self) -> int:
        return len(self._crls)

    def __iter__(self) -> Iterator[x509.CertificateRevocationList]:
        """All lists, in no order that means anything."""
        return (indexed.crl for indexed in self._crls)

    def in_force(self, issuer: bytes, key_id: bytes | None) -> IndexedCrl | None:
        """The list of the CA with this DER name and, where both it and the list state one, this key identifier."""
        lists = self._by_issuer.get(issuer, ())
        found = [crl for crl in lists if None in (key_id, crl.authority_key_id) or crl.authority_key_id == key_id]
        return max(found, key=lambda crl: crl.number, default=None)

    def of(self, issuer: x509.Certificate) -> x509.CertificateRevocationList | None:
        """The CRL in force of `issuer`; None if there is none."""
        found = self.in_force(issuer.subject.public_bytes(), subject_key_id(extensions_of(issuer)))
        return None if found is None else found.crl

    @cached_property
    def digest(self) -> bytes:
        """32 bytes that change when any list is added, removed or replaced; independent of order."""
        return sha256(b"".join(sorted(crl.fingerprint for crl in self._crls)))


def verify_crl(crl: x509.CertificateRevocationList | IndexedCrl, issuer: x509.Certificate, now: datetime) -> None:
    """Check that `crl` speaks for `issuer` at `now` (aware UTC).

    Raises PathError: `bad_signature` (other name, other key, algorithm not listed), `bad_key_usage` (the issuer may not
    sign CRLs), `unknown_critical_extension`, `crl_not_yet_valid`, `crl_expired` (also without nextUpdate: a list that
    never expires cannot be noticed missing).
    """
    indexed = crl if isinstance(crl, IndexedCrl) else IndexedCrl(crl)
    indexed.authenticate(issuer)
    if now < indexed.crl.last_update_utc:
        raise PathError("crl_not_yet_valid", "CRL is from the future", clause=_CLAUSE)
    next_update = indexed.crl.next_update_utc
    if next_update is None or now > next_update:
        raise PathError("crl_expired", "CRL is past its nextUpdate", clause=_CLAUSE)
