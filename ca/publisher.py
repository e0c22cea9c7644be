"""Sign and publish CRLs: at once when something was revoked, and in time before the old one ends (CPS 4.9.7, 4.9.8).

The database has every CRL; the folder of the hierarchy has the newest of each authority and scope, where the repository
serves it from. The root's CRL comes from ceremonies, through the folder. Each is written to a file in chunks and moved
into place once it is signed and stored, so its size does not matter (`ca.crl_encoder`).

Of replicas on one database each signs when it sees a need. Two that see the same one take different numbers; the list
that comes late is refused by the HSM service or by the store, and its maker shows the other's, if that covers as much.

A CRL is signed by the key that signed the certificates on it. So it is asked of the version of the authority's key that
its certificate names: when that key was rotated and the certificate was not yet replaced, or while certificates of the
retired version live, that is not the version in use.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from contextlib import AbstractContextManager
from dataclasses import replace
from datetime import datetime
from pathlib import Path
from typing import Final

from cryptography import x509
from cryptography.hazmat.primitives.hashes import SHA256

from ca.bci_publisher import BciPublisher
from ca.crl import CrlScope, crl_frame, listed
from ca.crl_encoder import sign_file, write_tbs
from ca.crl_store import DELTA, FULL, CrlRecord, Listing, partition, partition_number
from ca.errors import CaError, SigningRefusedError, StoreError
from ca.files import durable, file_sha256, move_file
from ca.hierarchy import Authority, Hierarchy
from ca.profile import CrlRule
from ca.publication import Publication
from ca.record import Record
from ca.signing import version_of
from ca.store import Store
from hsm_service.service import SigningService
from pki.crl import CrlSet, verify_crl
from pki.errors import PkiError
from pki.path import Trust
from runtime.logging import get_logger
from runtime.problems import Problem

_ATTEMPTS: Final = 3
_OVERTAKEN: Final = "crl-number-not-larger"
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
        publication: Publication,
        clock: Callable[[], datetime],
    ) -> None:
        self._store = store
        self._hierarchy = hierarchy
        self._signer = signer
        self._record = record
        self._folder = folder / "crls"
        self._clock = clock
        self._publication = publication
        self._bci = BciPublisher(engine=store.engine, signer=signer, record=record, folder=folder, clock=clock)
        self._shown: dict[tuple[str, str], int] = {}
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
            self._adopt(authority)

    def trust(self) -> Trust:
        """What the CA itself believes: its own hierarchy under the newest CRLs."""
        with self._latest_lock:
            if self._trust is None:
                crls = CrlSet(x509.load_der_x509_crl(der) for der in map(self._held, self._latest.values()) if der)
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
            if record is not None and (der := self._held(record)):
                found.append(der)
            authority = None if authority.is_root else self._hierarchy.parent(authority)
        return tuple(found)

    def publish(self, issuer: str) -> CrlRecord:
        """Publish every change of status of an authority whose key is in service; returns the list that shows it.

        That is a full list while it is short or when the last one ends soon, otherwise a delta over it; partitions
        that changed follow. Raises TokenUnavailableError, SigningRefusedError or CompareError; what was revoked waits
        in the database then.
        """
        authority = self._hierarchy[issuer]
        if authority.is_root:
            raise StoreError("the root's CRL is signed at a ceremony", clause="CPS 4.9.7")
        with self._locks[issuer]:
            covering = self._cover(authority)
            self._renew_partitions(authority)
        self._publish_bci()
        return covering

    def refresh(self) -> list[CrlRecord]:
        """Publish every CRL that is missing, soon to end, or lacks a revocation; returns the new ones.

        Lists that a replica published are shown here, too. An authority whose CRL cannot be signed now does not keep
        the others from theirs.
        """
        published = []
        for authority in self._hierarchy.authorities.values():
            if authority.is_root:
                self._take_over(authority)
                continue
            try:
                with self._locks[authority.name]:
                    self._adopt(authority)
                    if self._is_due(authority):
                        published.append(self._cover(authority))
                    published += self._renew_partitions(authority)
            except CaError as error:
                _log.error("crl-not-published", issuer=authority.name, reason=error.reason, detail=str(error))
        self._publish_bci()
        self._store.crls.forget(self._clock())
        return published

    def _publish_bci(self) -> None:
        """The lists are out by now, and count without it: what keeps it from being signed is told, no more."""
        try:
            self._bci.publish()
        except CaError as error:
            _log.error("bci-not-published", reason=error.reason, detail=str(error))

    def _held(self, record: CrlRecord) -> bytes:
        """The bytes of a full list (DER); none of one that is so long that deltas follow: it tells the past.

        Such lists are of holders that the CA itself never judges (`CrlRule.full_up_to`).
        """
        if self._is_base(self._hierarchy[record.issuer], record):
            return b""
        return b"".join(self._store.crls.parts(record))

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

    # -- which lists ---------------------------------------------------------------------------------------------------

    def _is_due(self, authority: Authority) -> bool:
        full, delta = (self._store.crls.latest(authority.name, scope) for scope in (FULL, DELTA))
        return (
            full is None
            or self._ends_soon(authority, full)
            or (delta is not None and delta.number > full.number and self._ends_soon(authority, delta))
            or self._store.status.epoch(authority.name) > self._store.crls.covered(authority.name)
        )

    def _ends_soon(self, authority: Authority, record: CrlRecord) -> bool:
        return record.next_update - self._clock() <= _rule(authority).renew_before

    def _cover(self, authority: Authority) -> CrlRecord:
        """A full list, a delta over the last one, or both: whoever looks for a delta of a long list finds one."""
        full = self._store.crls.latest(authority.name)
        is_long = self._store.crls.listed(authority.name) > _rule(authority).full_up_to
        if full is None or not is_long or self._ends_soon(authority, full) or not self._is_base(authority, full):
            full = self._publish(authority, FULL)
        return self._publish(authority, DELTA) if is_long else full

    @staticmethod
    def _is_base(authority: Authority, full: CrlRecord) -> bool:
        """Whether a full list was made as one that deltas may follow."""
        return full.entries > _rule(authority).full_up_to

    def _renew_partitions(self, authority: Authority) -> list[CrlRecord]:
        published, count = [], _rule(authority).partitions
        for number in range(count) if count > 1 else ():
            last = self._store.crls.latest(authority.name, partition(number))
            if (
                last is None
                or self._ends_soon(authority, last)
                or self._store.crls.changed_in(authority.name, last.epoch, number, count)
            ):
                published.append(self._publish(authority, partition(number)))
        return published

    # -- one list ------------------------------------------------------------------------------------------------------

    def _publish(self, authority: Authority, scope: str) -> CrlRecord:
        """Sign and show the next list of a scope, or show that of a replica that was quicker, if it covers as much."""
        for attempt in range(_ATTEMPTS):
            wanted = self._store.status.epoch(authority.name)
            before = self._store.crls.latest(authority.name, scope)
            try:
                return self._sign(authority, scope)
            except (StoreError, SigningRefusedError) as error:
                other = self._store.crls.latest(authority.name, scope)
                if other is not None and other != before and other.epoch >= wanted:
                    self._show(other)
                    return other
                if attempt + 1 == _ATTEMPTS or not _was_overtaken(error):
                    raise
        raise AssertionError("the last attempt returns or raises")

    def _sign(self, authority: Authority, scope: str) -> CrlRecord:
        issuer, now = authority.name, self._clock()
        number = self._store.crls.take_number(issuer, now).number
        base = self._store.crls.latest(issuer) if scope == DELTA else None
        draft = self._folder / f".{issuer}.{number}.tbs"
        signed = draft.with_suffix(".new")
        try:
            with self._listing(authority, scope, base) as listing:
                frame = crl_frame(
                    authority.issuer,
                    number=number,
                    size=listing.size,
                    rule=_rule(authority),
                    now=now,
                    scope=self._scope(authority, scope, base, listing),
                )
                unsigned = write_tbs(draft, authority.issuer, frame, listing)
            sha256 = sign_file(unsigned, self._signer, authority.issuer, signed, self._version(authority))
            record = CrlRecord(
                issuer=issuer,
                number=number,
                sha256=sha256,
                this_update=frame.this_update,
                next_update=frame.next_update,
                der=b"",
                epoch=listing.epoch,
                entries=listing.entries,
                scope=scope,
                base_number=None if base is None else base.number,
            )
            self._record.note(
                "ca.crl",
                f"{issuer}/{number}",
                issuer=issuer,
                number=str(number),
                scope=scope,
                sha256=sha256,
                entries=listing.entries,
            )
            record = self._store.crls.add(record, signed)
            move_file(signed, self._path(issuer, scope))
        finally:
            draft.unlink(missing_ok=True)
            signed.unlink(missing_ok=True)
        self._remember(record)
        return record

    def _listing(self, authority: Authority, scope: str, base: CrlRecord | None) -> AbstractContextManager[Listing]:
        crls, issuer = self._store.crls, authority.name
        if base is not None:
            return crls.delta(issuer, base.epoch)
        if scope == FULL:
            return crls.full(issuer)
        return crls.partition(issuer, partition_number(scope), _rule(authority).partitions)

    def _scope(self, authority: Authority, scope: str, base: CrlRecord | None, listing: Listing) -> CrlScope:
        address = self._publication.scoped_crl_url
        if base is not None:
            return CrlScope(base=base.number)
        if scope != FULL:
            return CrlScope(address=address(authority.name, scope))
        is_long = listing.entries > _rule(authority).full_up_to
        return CrlScope(freshest=address(authority.name, DELTA) if is_long else None)

    # -- the folder ----------------------------------------------------------------------------------------------------

    def _adopt(self, authority: Authority) -> None:
        """Show the newest lists of the database: of a replica, or after the folder was lost."""
        scopes = [FULL, DELTA, *(partition(number) for number in range(_rule(authority).partitions))]
        for scope in scopes:
            latest = self._store.crls.latest(authority.name, scope)
            if latest is None:
                continue
            is_shown = self._shown.get((authority.name, scope)) == latest.number
            if not is_shown or not self._path(authority.name, scope).exists():
                self._show(latest)

    def _take_over(self, authority: Authority) -> None:
        path = self._path(authority.name, FULL)
        if not path.exists():
            return
        known = self._store.crls.latest(authority.name)
        if known is not None and known.sha256 == file_sha256(path):
            return
        try:
            crl = x509.load_der_x509_crl(path.read_bytes())
            verify_crl(crl, authority.certificate, crl.last_update_utc)
            found = record_of(authority.name, crl, epoch=self._store.status.epoch(authority.name))
        except (ValueError, PkiError, x509.ExtensionNotFound) as error:
            raise StoreError(f"{path} is not a CRL of {authority.name}: {error}") from None
        if known is None or known.number < found.number:
            # A database that is older than its own CRLs (a restored backup) must not forget what they revoked.
            entries = listed(crl)
            self._store.status.import_revocations(authority.name, entries, source=f"CRL {found.number}")
            found = replace(found, epoch=self._store.status.epoch(authority.name))
            try:
                self._remember(self._store.crls.add(found, path))
            except StoreError:
                latest = self._store.crls.latest(authority.name)
                if latest is None or latest.number < found.number:
                    raise
                self._remember(latest)  # a replica that starts at the same time was faster

    def _path(self, issuer: str, scope: str) -> Path:
        return self._folder / f"{issuer}.crl" if scope == FULL else self._folder / issuer / f"{scope}.crl"

    def _show(self, record: CrlRecord) -> None:
        path = self._path(record.issuer, record.scope)
        if not path.exists() or file_sha256(path) != record.sha256:
            draft = self._folder / f".{record.issuer}.{record.number}.new"
            with durable(draft) as file:
                for part in self._store.crls.parts(record):
                    file.write(part)
            move_file(draft, path)
        self._remember(record)

    def _remember(self, record: CrlRecord) -> None:
        with self._latest_lock:
            self._shown[record.issuer, record.scope] = record.number
            if record.scope == FULL:
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
        der=b"",
        epoch=epoch,
        entries=len(crl),
    )


def _rule(authority: Authority) -> CrlRule:
    assert authority.profile.ca is not None  # load_hierarchy takes authorities only
    return authority.profile.ca.crl


def _was_overtaken(error: CaError) -> bool:
    """Whether a list was refused because a replica's with a higher number came first."""
    cause = error.__cause__
    return isinstance(error, StoreError) or (isinstance(cause, Problem) and cause.type == _OVERTAKEN)
