"""Sign and publish CRLs: at once when something was revoked, and in time before the old one ends (CPS 4.9.7, 4.9.8).

The database has every CRL; the folder of the hierarchy has the newest of each authority, where the repository, which
can reach neither database nor tokens, serves it from. The root's CRL comes from ceremonies, through the folder.

A CRL is signed by the key that signed the certificates on it. So it is asked of the version of the authority's key that
its certificate names: when that key was rotated and the certificate was not yet replaced, or while certificates of the
retired version live, that is not the version in use.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from dataclasses import replace
from datetime import datetime
from pathlib import Path
from typing import Final

from cryptography import x509
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.serialization import Encoding

from ca.crl import listed, prepare_crl
from ca.crl_store import CrlRecord
from ca.errors import CaError, StoreError
from ca.files import replace_file
from ca.hierarchy import Authority, Hierarchy
from ca.profile import CrlRule
from ca.record import Record
from ca.signing import sign_crl, version_of
from ca.store import Store
from hsm_service.service import SigningService
from pki.crl import CrlSet, verify_crl
from pki.errors import PkiError
from pki.path import Trust
from runtime.logging import get_logger

_log: Final = get_logger("ca.publisher")


class CrlPublisher:
    """The CRLs of one hierarchy."""

    def __init__(
        self,
        *,
        store: Store,
        hierarchy: Hierarchy,
        signer: SigningService,
        record: Record,
        folder: Path,
        clock: Callable[[], datetime],
    ) -> None:
        self._store = store
        self._hierarchy = hierarchy
        self._signer = signer
        self._record = record
        self._folder = folder / "crls"
        self._clock = clock
        self._locks = {name: threading.Lock() for name in hierarchy.authorities}
        # Guards both below: a trust made from a CRL that was replaced meanwhile must not outlive it.
        self._latest_lock = threading.Lock()
        self._latest: dict[str, CrlRecord] = {}
        self._trust: Trust | None = None
        self._versions: dict[str, int] = {}

    def load(self) -> None:
        """Take over CRLs that a ceremony put in the folder, and put back newer ones of the database."""
        self._folder.mkdir(mode=0o755, parents=True, exist_ok=True)
        for authority in self._hierarchy.authorities.values():
            self._take_over(authority)
            latest = self._store.crls.latest(authority.name)
            if latest is not None:
                self._show(latest)

    def trust(self) -> Trust:
        """What the CA itself believes: its own hierarchy under the newest CRLs."""
        with self._latest_lock:
            if self._trust is None:
                crls = CrlSet(x509.load_der_x509_crl(record.der) for record in self._latest.values())
                self._trust = self._hierarchy.trust(crls)
            return self._trust

    def supporting(self, issuer: str) -> tuple[bytes, ...]:
        """The newest CRL (DER) of `issuer` and of each authority above it: what its certificates are judged by.

        Waits for a CRL that is being signed, which the HSM service would already miss here.
        """
        found = []
        authority: Authority | None = self._hierarchy[issuer]
        while authority is not None:
            with self._locks[authority.name], self._latest_lock:
                record = self._latest.get(authority.name)
            if record is not None:
                found.append(record.der)
            authority = None if authority.is_root else self._hierarchy.parent(authority)
        return tuple(found)

    def publish(self, issuer: str) -> CrlRecord:
        """Sign and publish the next full CRL of an authority whose key is in service.

        Raises TokenUnavailableError, SigningRefusedError or CompareError; the revocations wait in the database then.
        """
        authority = self._hierarchy[issuer]
        rule = _rule(authority)
        if authority.is_root:
            raise StoreError("the root's CRL is signed at a ceremony", clause="CPS 4.9.7")
        with self._locks[issuer]:
            now = self._clock()
            taken = self._store.crls.take_number(issuer, now)
            entries = list(self._store.crls.entries(issuer))
            tbs = prepare_crl(authority.issuer, number=taken.number, entries=entries, rule=rule, now=now)
            crl = sign_crl(self._signer, authority.name, tbs, authority.issuer.public_key, self._version(authority))
            found = record_of(issuer, crl, epoch=taken.epoch)
            self._record.note(
                "ca.crl",
                f"{issuer}/{taken.number}",
                issuer=issuer,
                number=str(taken.number),
                sha256=found.sha256,
                entries=len(entries),
            )
            self._store.crls.add(found)
            self._show(found)
        return found

    def refresh(self) -> list[CrlRecord]:
        """Publish every CRL that is missing, soon to end, or lacks a revocation; returns the new ones.

        An authority whose CRL cannot be signed now does not keep the others from theirs.
        """
        published = []
        for authority in self._hierarchy.authorities.values():
            if authority.is_root:
                self._take_over(authority)
            elif self._is_due(authority):
                try:
                    published.append(self.publish(authority.name))
                except CaError as error:
                    _log.error("crl-not-published", issuer=authority.name, reason=error.reason, detail=str(error))
        return published

    def is_current(self) -> bool:
        """Whether every authority has a CRL that has not ended."""
        now = self._clock()
        with self._latest_lock:
            latest = dict(self._latest)
        return all(name in latest and latest[name].next_update > now for name in self._hierarchy.authorities)

    def _version(self, authority: Authority) -> int:
        """The version of the authority's key that its certificate names; both stay as they are."""
        version = self._versions.get(authority.name)
        if version is None:
            version = version_of(self._signer, authority.name, authority.issuer.public_key)
            self._versions[authority.name] = version
        return version

    def _is_due(self, authority: Authority) -> bool:
        latest = self._store.crls.latest(authority.name)
        return (
            latest is None
            or latest.next_update - self._clock() <= _rule(authority).renew_before
            or self._store.status.epoch(authority.name) > self._store.crls.covered(authority.name)
        )

    def _take_over(self, authority: Authority) -> None:
        path = self._folder / f"{authority.name}.crl"
        if not path.exists():
            return
        try:
            crl = x509.load_der_x509_crl(path.read_bytes())
            verify_crl(crl, authority.certificate, crl.last_update_utc)
            found = record_of(authority.name, crl, epoch=self._store.status.epoch(authority.name))
        except (ValueError, PkiError, x509.ExtensionNotFound) as error:
            raise StoreError(f"{path} is not a CRL of {authority.name}: {error}") from None
        known = self._store.crls.latest(authority.name)
        if known is None or known.number < found.number:
            # A database that is older than its own CRLs (a restored backup) must not forget what they revoked.
            entries = listed(crl)
            self._store.status.import_revocations(authority.name, entries, source=f"CRL {found.number}")
            self._store.crls.add(replace(found, epoch=self._store.status.epoch(authority.name)))
            self._remember(found)

    def _show(self, record: CrlRecord) -> None:
        path = self._folder / f"{record.issuer}.crl"
        if not path.exists() or path.read_bytes() != record.der:
            replace_file(path, record.der)
        self._remember(record)

    def _remember(self, record: CrlRecord) -> None:
        with self._latest_lock:
            self._latest[record.issuer] = record
            self._trust = None


def record_of(issuer: str, crl: x509.CertificateRevocationList, *, epoch: int) -> CrlRecord:
    """The row of a full CRL that covers `epoch`; ValueError without nextUpdate, ExtensionNotFound without a number."""
    if crl.next_update_utc is None:
        raise ValueError("a CRL without nextUpdate")
    return CrlRecord(
        issuer=issuer,
        number=crl.extensions.get_extension_for_class(x509.CRLNumber).value.crl_number,
        sha256=crl.fingerprint(SHA256()).hex(),
        this_update=crl.last_update_utc,
        next_update=crl.next_update_utc,
        der=crl.public_bytes(Encoding.DER),
        epoch=epoch,
        entries=len(crl),
    )


def _rule(authority: Authority) -> CrlRule:
    assert authority.profile.ca is not None  # load_hierarchy takes authorities only
    return authority.profile.ca.crl
