"""Certificate revocation lists in force (RFC 5280 5 and 6.3), indexed by issuer.

Full lists, the deltas that continue them, and partitions are taken together; `CrlSet.status` answers from the newest
list that speaks about a certificate. Everything fails closed: what is not understood (an indirect list, a critical
extension that is not in the table) is refused rather than half understood, and a delta that continues a list we do not
have proves that ours is old. Whether a list is current is asked anew each time; what its bytes alone decide (who is on
it, whose key signed it) is computed once a list. An `IndexedCrl` may be put into many sets: with a new delta the list
of a million entries below it is not read again.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime
from functools import cached_property
from typing import Final

from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.hazmat.primitives.serialization import Encoding

from pki.algorithms import CERTIFICATE_SIGNATURE_OIDS
from pki.crl_entries import Entries, Revocation
from pki.crl_scope import ALL_REASONS, Scope, Subject, scope_of, subject_of
from pki.der import sha256
from pki.errors import UNREADABLE, CertificateError, DerError, PathError
from pki.extensions import authority_key_id, extensions_of, subject_key_id
from pki.signed import check_octets

_PROCESSED: Final = (
    x509.CRLNumber,
    x509.AuthorityKeyIdentifier,
    x509.DeltaCRLIndicator,
    x509.IssuingDistributionPoint,
)
_CLAUSE: Final = "RFC 5280 6.3"
_NO_NUMBER: Final = -1


class IndexedCrl:
    """One CRL with what is asked of it often. CertificateError `bad_extension` or `bad_crl` if it cannot be read.

    `number` is -1 without CRLNumber; `base_number` is that of a delta, None for a list that stands alone.
    """

    def __init__(self, crl: x509.CertificateRevocationList, der: bytes | None = None) -> None:
        """Take a list; `der` are the bytes that it was loaded from, if they are at hand (see `from_der`)."""
        extensions = extensions_of(crl)
        self.crl: Final = crl
        try:
            self._der: Final = der or crl.public_bytes(Encoding.DER)
            check_octets(self._der)
            self.issuer: Final = crl.issuer.public_bytes()
        except (DerError, *UNREADABLE):
            raise CertificateError("bad_crl", "unreadable signature or issuer name", clause="RFC 5280 5.1") from None
        number = indicator = point = None
        for extension in extensions:
            if isinstance(extension.value, x509.CRLNumber):
                number = extension.value
            elif isinstance(extension.value, x509.DeltaCRLIndicator):
                indicator = extension.value
            elif isinstance(extension.value, x509.IssuingDistributionPoint):
                point = extension.value
        self.authority_key_id: Final = authority_key_id(extensions)
        self.number: Final = _NO_NUMBER if number is None else number.crl_number
        self.base_number: Final = None if indicator is None else indicator.crl_number
        self.scope: Final = scope_of(point, crl.issuer)
        self.this_update: Final = crl.last_update_utc
        self.next_update: Final = crl.next_update_utc
        self._is_processed = not self.scope.indirect and not any(
            e.critical and not isinstance(e.value, _PROCESSED) for e in extensions
        )
        self._authenticated: set[x509.Certificate] = set()

    @classmethod
    def from_der(cls, der: bytes) -> IndexedCrl:
        """Read a DER CertificateList: twice as fast as from a loaded one, which has to be written out again.

        CertificateError `bad_crl` if it is not one.
        """
        try:
            crl = x509.load_der_x509_crl(der)
        except UNREADABLE:
            raise CertificateError("bad_crl", "not a CertificateList in DER", clause="RFC 5280 5.1") from None
        return cls(crl, der)

    @property
    def is_full(self) -> bool:
        """Whether it tells by itself about every certificate of its issuer: no delta and no partition."""
        return self.base_number is None and self.scope.is_full

    @cached_property
    def fingerprint(self) -> bytes:
        """SHA-256 of the DER CertificateList."""
        return sha256(self._der)

    @cached_property
    def revoked(self) -> Entries:
        """Who is on the list.

        PathError `unknown_critical_extension` if an entry has a critical extension: such a list must not be used at all
        (RFC 5280 5.3), `bad_extension` if an entry cannot be read.
        """
        return Entries(self._der)

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

    def check_current(self, now: datetime) -> None:
        """Refuse a list outside its time; PathError as `verify_crl`."""
        if now < self.this_update:
            raise PathError("crl_not_yet_valid", "CRL is from the future", clause=_CLAUSE)
        if self.next_update is None or now > self.next_update:
            raise PathError("crl_expired", "CRL is past its nextUpdate", clause=_CLAUSE)


@dataclass(frozen=True, slots=True)
class _Standing:
    """The newest list of one scope, with the delta over it if there is one; or why there is none to be believed."""

    number: int
    scope: Scope
    base: IndexedCrl | None = None
    delta: IndexedCrl | None = None
    refusal: PathError | None = None

    def check(self, now: datetime) -> None:
        """PathError if it must not be used at `now`. A base lives as long as the delta over it (RFC 5280 5.2.4)."""
        if self.refusal is not None:
            raise PathError(self.refusal.reason, self.refusal.detail, clause=self.refusal.clause)
        newest = self.delta or self.base
        assert newest is not None  # a standing without a list is a refusal
        newest.check_current(now)

    def find(self, serial: int) -> Revocation | None:
        """What the list, continued by its delta, says of a serial number."""
        assert self.base is not None  # `check` came before
        changed = None if self.delta is None else self.delta.revoked.get(serial)
        if changed is None:
            return self.base.revoked.get(serial)
        return None if changed.reason is x509.ReasonFlags.remove_from_crl else changed


class CrlSet:
    """An immutable set of CRLs. Of two lists of one scope by one issuer key, that with the higher number is in force.

    Takes loaded lists or, so that what was computed of them is kept, `IndexedCrl`.
    """

    def __init__(self, crls: Iterable[x509.CertificateRevocationList | IndexedCrl] = ()) -> None:
        self._crls = tuple(crl if isinstance(crl, IndexedCrl) else IndexedCrl(crl) for crl in crls)
        self._by_issuer: dict[bytes, list[IndexedCrl]] = {}
        for crl in self._crls:
            self._by_issuer.setdefault(crl.issuer, []).append(crl)
        self._standing: dict[x509.Certificate, tuple[_Standing, ...]] = {}

    def __len__(self) -> int:
        return len(self._crls)

    def __iter__(self) -> Iterator[x509.CertificateRevocationList]:
        """All lists, in no order that means anything."""
        return (indexed.crl for indexed in self._crls)

    @property
    def indexed(self) -> tuple[IndexedCrl, ...]:
        """All lists, as they may be put into another set."""
        return self._crls

    def in_force(self, issuer: bytes, key_id: bytes | None) -> IndexedCrl | None:
        """The full list of the CA with this DER name and, where both it and the list state one, this key identifier."""
        return max((crl for crl in self._of(issuer, key_id) if crl.is_full), key=_age, default=None)

    def of(self, issuer: x509.Certificate) -> x509.CertificateRevocationList | None:
        """The full CRL in force of `issuer`; None if there is none. Deltas are not looked at: `status` does."""
        found = self.in_force(issuer.subject.public_bytes(), subject_key_id(extensions_of(issuer)))
        return None if found is None else found.crl

    def status(self, certificate: x509.Certificate, issuer: x509.Certificate, now: datetime) -> Revocation | None:
        """Tell whether `certificate`, issued by `issuer`, is revoked as far as lists current at `now` (aware UTC) say.

        None: it is not. `held` counts as revoked. The newest list that covers the certificate decides; lists for some
        reasons only are asked one after the other until all reasons are covered.

        Raises PathError: `crl_missing` if no list covers it for all reasons, or a delta continues one that is not here;
        else as `verify_crl`, or `bad_extension` and `unknown_critical_extension` of an entry. CertificateError
        `bad_extension`, `bad_certificate` if the certificate cannot be read.
        """
        return self.status_of(subject_of(certificate), issuer, now)

    def status_of(self, subject: Subject, issuer: x509.Certificate, now: datetime) -> Revocation | None:
        """`status` of a certificate that was read before."""
        standing = self._standing.get(issuer)
        if standing is None:
            standing = self._standing[issuer] = self._combine(issuer)
        missing = ALL_REASONS
        for lists in standing:
            told = lists.scope.reasons_for(subject)
            if not told & missing:
                continue
            lists.check(now)
            found = lists.find(subject.serial)
            if found is not None or told >= missing:
                return found
            missing -= told
        raise PathError("crl_missing", "no CRL of the issuer covers the certificate", clause=_CLAUSE)

    def _of(self, issuer: bytes, key_id: bytes | None) -> list[IndexedCrl]:
        lists = self._by_issuer.get(issuer, ())
        return [crl for crl in lists if None in (key_id, crl.authority_key_id) or crl.authority_key_id == key_id]

    def _combine(self, issuer: x509.Certificate) -> tuple[_Standing, ...]:
        """What stands for each scope in which `issuer` has signed lists, newest first."""
        by_scope: dict[Scope, list[IndexedCrl]] = {}
        standing: list[_Standing] = []
        forged: list[_Standing] = []
        for crl in self._of(issuer.subject.public_bytes(), subject_key_id(extensions_of(issuer))):
            try:
                crl.authenticate(issuer)
            except PathError as refusal:
                refused = forged if refusal.reason == "bad_signature" else standing
                refused.append(_Standing(crl.number, Scope(), refusal=refusal))  # whom it covers is not known
            else:
                by_scope.setdefault(crl.scope, []).append(crl)
        standing += [found for scope, lists in by_scope.items() if (found := _newest(scope, lists)) is not None]
        return tuple(sorted(standing, key=lambda lists: lists.number, reverse=True)) or tuple(forged)

    @cached_property
    def digest(self) -> bytes:
        """32 bytes that change when any list is added, removed or replaced; independent of order."""
        return sha256(b"".join(sorted(crl.fingerprint for crl in self._crls)))


def _age(crl: IndexedCrl) -> tuple[int, datetime]:
    return crl.number, crl.this_update


def _newest(scope: Scope, lists: Sequence[IndexedCrl]) -> _Standing | None:
    """Put the newest delta of a scope over its newest list (RFC 5280 5.2.4); None for deltas alone."""
    base = max((crl for crl in lists if crl.base_number is None), key=_age, default=None)
    if base is None:
        return None
    newer = [crl for crl in lists if crl.base_number is not None and crl.number > base.number]
    if not newer:
        return _Standing(base.number, scope, base)
    delta = max(newer, key=_age)
    assert delta.base_number is not None  # so they were chosen
    if delta.base_number > base.number:
        refusal = PathError("crl_missing", "a delta continues a newer list than is here", clause="RFC 5280 5.2.4 (c)")
        return _Standing(delta.number, scope, refusal=refusal)
    return _Standing(delta.number, scope, base, delta)


def verify_crl(
    crl: x509.CertificateRevocationList | IndexedCrl,
    issuer: x509.Certificate,
    now: datetime,
    *,
    partial: bool = False,
) -> None:
    """Check that `crl` speaks for `issuer` at `now` (aware UTC). A delta or partition does so only if `partial`.

    Raises PathError: `bad_signature` (other name, other key, algorithm not listed), `bad_key_usage` (the issuer may not
    sign CRLs), `unknown_critical_extension` (also: only part of the truth, and not asked for), `crl_not_yet_valid`,
    `crl_expired` (also without nextUpdate: a list that never expires cannot be noticed missing).
    """
    indexed = crl if isinstance(crl, IndexedCrl) else IndexedCrl(crl)
    indexed.authenticate(issuer)
    if not partial and not indexed.is_full:
        raise PathError("unknown_critical_extension", "CRL tells only part of the truth", clause="RFC 5280 5.2")
    indexed.check_current(now)
