"""Paths found and judged by RFC 5280 alone: building, 6.1, and revocation by lists (6.3).

This is what NIST's PKITS judges. KWBP's own door is `pki.path.validate_path`, with roles on top and narrower in
everything; here a CA may have several keys, and sign its lists with another than its certificates.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from datetime import datetime
from itertools import pairwise
from typing import Final

from cryptography import x509

from pki.crl import CrlSet
from pki.errors import CertificateError, PathError
from pki.name_constraints import Comparable, comparable
from pki.policy_tree import PolicySettings
from pki.rfc5280 import Signed, check_validity, is_signed, process

_LONGEST: Final = 8
_ATTEMPTS: Final = 64
_NO_PATH: Final = ("unknown_issuer", "bad_signature")
Certificates = tuple[x509.Certificate, ...]


class Validator:
    """One anchor, the CA certificates and lists that are at hand, and a rule of what a good signature is."""

    def __init__(
        self,
        anchor: x509.Certificate,
        authorities: Iterable[x509.Certificate],
        crls: CrlSet,
        *,
        signed: Signed = is_signed,
    ) -> None:
        self._anchor: Final = anchor
        self._crls: Final = crls
        self._signed: Final = signed
        self._by_subject: dict[Comparable, list[x509.Certificate]] = {}
        for certificate in dict.fromkeys((anchor, *authorities)):
            self._by_subject.setdefault(comparable(certificate.subject), []).append(certificate)

    def validate(
        self,
        target: x509.Certificate,
        now: datetime,
        settings: PolicySettings = PolicySettings(),  # noqa: B008  # frozen
    ) -> Certificates:
        """The first path, from the anchor down to `target`, that holds at `now` (aware UTC).

        Raises PathError: `unknown_issuer` if there is no chain of names, else why the first one that is signed does not
        hold, as `pki.rfc5280.process`, `check_validity` and `CrlSet.status` say it, or `revoked`.
        """
        return self._validate(target, now, settings, frozenset())

    def _validate(
        self, target: x509.Certificate, now: datetime, settings: PolicySettings, asking: frozenset[x509.Certificate]
    ) -> Certificates:
        refusal = PathError("unknown_issuer", "no chain of names to the anchor", clause="RFC 5280 6.1")
        for attempt, path in enumerate(self._paths((target,))):
            if attempt == _ATTEMPTS:
                break
            try:
                process(path, settings, signed=self._signed)
                for issuer, certificate in pairwise(path):
                    check_validity(certificate, now)
                    self._check_revocation(certificate, issuer, now, asking)
            except (PathError, CertificateError) as error:
                if refusal.reason in _NO_PATH:  # a path that nobody signed says little
                    refusal = PathError(error.reason, error.detail, clause=error.clause)
            else:
                return path
        raise refusal

    def _paths(self, below: Certificates) -> Iterator[Certificates]:
        """Every chain of names from the anchor down to the last of `below`."""
        for issuer in self._by_subject.get(comparable(below[0].issuer), ()):
            if issuer == self._anchor:
                yield (issuer, *below)
            elif issuer not in below and len(below) < _LONGEST:
                yield from self._paths((issuer, *below))

    def _check_revocation(
        self,
        certificate: x509.Certificate,
        issuer: x509.Certificate,
        now: datetime,
        asking: frozenset[x509.Certificate],
    ) -> None:
        """Ask the lists of the issuer's key; if there are none, those of its other keys (RFC 5280 6.3.3 (f))."""
        refusal: PathError | None = None
        for signer in (issuer, *self._other_keys(issuer)):
            try:
                if signer != issuer:
                    self._check_signer(signer, now, asking)
                found = self._crls.status(certificate, signer, now)
            except PathError as error:
                refusal = refusal or error
                continue
            if found is not None:
                raise PathError("revoked", "certificate is on a list of its issuer", clause="RFC 5280 6.3")
            return
        assert refusal is not None  # the issuer itself was asked
        raise refusal

    def _other_keys(self, issuer: x509.Certificate) -> list[x509.Certificate]:
        return [other for other in self._by_subject.get(comparable(issuer.subject), ()) if other != issuer]

    def _check_signer(self, signer: x509.Certificate, now: datetime, asking: frozenset[x509.Certificate]) -> None:
        """The certificate of another key of the CA must hold by itself; one that rests on its own lists does not."""
        if signer in asking:
            raise PathError("crl_missing", "lists that speak for their own signer", clause="RFC 5280 6.3.3 (f)")
        self._validate(signer, now, PolicySettings(), asking | {signer})
