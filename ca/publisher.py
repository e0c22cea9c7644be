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
from datetime import datetime
from pathlib import Path
from typing import Final

from cryptography import x509

from audit import JournalFailedError
from ca.bci_publisher import BciPublisher
from ca.crl import CrlScope, crl_frame
from ca.crl_encoder import Asked, write_tbs
from ca.crl_folder import CrlFolder
from ca.crl_kinds import DELTA, FULL
from ca.crl_store import CrlRecord, Listing, partition, partition_number
from ca.database_faults import unavailable
from ca.errors import CaError, SigningRefusedError, StoreError, StoreUnavailableError
from ca.hierarchy import Authority, Hierarchy
from ca.profile import CrlRule
from ca.publication import Publication
from ca.record import Record
from ca.signing import version_of
from ca.store import Store
from hsm_service.service import SigningService
from pki.crl import CrlSet
from pki.path import Trust
from runtime.logging import get_logger
from runtime.problems import Problem

_ATTEMPTS: Final = 3
_OVERTAKEN: Final = "crl-number-not-larger"
_FAULTS: Final = (CaError, OSError, JournalFailedError)
"""What keeps a list from being published; a full disk is no reason to stop."""
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
        self._files = CrlFolder(folder / "crls", store, self._remember, clock)
        self._clock = clock
        self._publication = publication
        self._bci = BciPublisher(engine=store.engine, signer=signer, record=record, folder=folder, clock=clock)
        self._locks = {name: threading.Lock() for name in hierarchy.authorities}
        # Guards both below: a trust made from a CRL that was replaced meanwhile must not outlive it.
        self._latest_lock = threading.Lock()
        self._latest: dict[str, CrlRecord] = {}
        self._trust: Trust | None = None
        self.database_away = False
        """Whether the database could not be reached when it was last looked at by `follow`."""
        self._versions: dict[str, int] = {}

    def load(self) -> None:
        """Take over CRLs that a ceremony put in the folder, and put back newer ones of the database."""
        self._files.prepare()
        for authority in self._hierarchy.authorities.values():
            try:
                self._files.take_over(authority)
            except StoreError as error:
                if authority.is_root:  # nobody else has its list
                    raise
                _log.error("crl-not-taken-over", issuer=authority.name, reason=error.reason, detail=str(error))
            self._files.adopt(authority)

    def follow(self) -> None:
        """Show the lists that replicas published, and believe them: no more than a look, if there are none.

        For a clock of this process alone: what is to be published comes to any one of the replicas.
        """
        try:
            for authority in self._hierarchy.authorities.values():
                with self._locks[authority.name]:
                    self._files.adopt(authority)
        except StoreUnavailableError:
            self.database_away = True
            raise
        self.database_away = False

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
        that changed follow. Raises TokenUnavailableError, SigningRefusedError, CompareError or StoreUnavailableError;
        what was revoked waits in the database then.
        """
        authority = self._hierarchy[issuer]
        if authority.is_root:
            raise StoreError("the root's CRL is signed at a ceremony", clause="CPS 4.9.7")
        try:
            with self._locks[issuer]:
                covering = self._cover(authority)
                self._renew_partitions(authority)
        except (OSError, JournalFailedError) as error:  # such as a full disk
            raise unavailable(error) from error
        self._publish_bci()
        return covering

    def refresh(self) -> list[CrlRecord]:
        """Publish every CRL that is missing, soon to end, or lacks a revocation; returns the new ones.

        Lists that a replica published are shown here, too. An authority whose CRL cannot be signed now does not keep
        the others from theirs.
        """
        published = []
        for authority in self._hierarchy.authorities.values():
            try:
                with self._locks[authority.name]:
                    if authority.is_root or self._files.is_ahead(authority):
                        self._files.take_over(authority)
                    self._files.adopt(authority)
                    if authority.is_root:
                        continue
                    if self._is_due(authority):
                        published.append(self._cover(authority))
                    published += self._renew_partitions(authority)
                    self._files.adopt(authority)  # nothing was due perhaps because a replica published since the look
            except _FAULTS as error:
                _log.error("crl-not-published", issuer=authority.name, reason=_reason(error), detail=str(error))
        self._publish_bci()
        try:
            self._store.crls.forget(self._clock())
        except CaError as error:
            _log.error("old-crls-not-dropped", reason=error.reason)
        return published

    def _publish_bci(self) -> None:
        """The lists are out by now, and count without it: what keeps it from being signed is told, no more."""
        try:
            self._bci.publish(self._files.shown())
        except _FAULTS as error:
            _log.error("bci-not-published", reason=_reason(error), detail=str(error))

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
            or (self._is_base(authority, full) and (delta is None or delta.number < full.number))
            or self._store.status.epoch(authority.name) > self._store.crls.covered(authority.name)
        )

    def _ends_soon(self, authority: Authority, record: CrlRecord) -> bool:
        """Or begins later, in the eyes of everybody who has the right time: our clock was fast when it was made."""
        now = self._clock()
        return record.next_update - now <= _rule(authority).renew_before or record.this_update > now

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
                    self._files.show(other)
                    return other
                if attempt + 1 == _ATTEMPTS or not _was_overtaken(error):
                    raise
        raise AssertionError("the last attempt returns or raises")

    def _sign(self, authority: Authority, scope: str) -> CrlRecord:
        issuer, now = authority.name, self._clock()
        number = self._store.crls.take_number(issuer, now).number
        base = self._store.crls.latest(issuer) if scope == DELTA else None
        draft = self._files.draft(issuer, number)
        asked = Asked(self._signer, authority.issuer, self._version(authority))
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
                finish = write_tbs(draft, asked, frame, listing)
            sha256 = finish()
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
            record = self._store.crls.add(record, draft)
            self._files.put(draft, record)
        finally:
            draft.unlink(missing_ok=True)
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

    def _remember(self, record: CrlRecord) -> None:
        with self._latest_lock:
            if record.scope == FULL:
                self._latest[record.issuer] = record
                self._trust = None


def _rule(authority: Authority) -> CrlRule:
    assert authority.profile.ca is not None  # load_hierarchy takes authorities only
    return authority.profile.ca.crl


def _was_overtaken(error: CaError) -> bool:
    """Whether a list was refused because a replica's with a higher number came first."""
    cause = error.__cause__
    return isinstance(error, StoreError) or (isinstance(cause, Problem) and cause.type == _OVERTAKEN)


def _reason(error: Exception) -> str:
    return error.reason if isinstance(error, CaError) else type(error).__name__
