"""The folder of the lists in force, from which they are served, kept equal to the database, whichever of both is newer.

The folder is behind after a replica published something, or after it was lost; the database, if it was restored from a
backup, and of the root's list, which comes from a ceremony through the folder. What is shown never gets older: whoever
saw a list would refuse the one before it.
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

from ca.crl import REMOVE_FROM_CRL, listed
from ca.crl_kinds import DELTA, FULL
from ca.crl_store import CrlRecord, partition
from ca.errors import StoreError
from ca.files import durable, file_sha256, move_file
from ca.hierarchy import Authority
from ca.store import Store
from pki.crl import verify_crl
from pki.errors import PkiError
from runtime.logging import get_logger

_log: Final = get_logger("ca.publisher")


class CrlFolder:
    """The lists in `folder`. Who changes those of an authority holds the publisher's lock of that authority."""

    def __init__(
        self, folder: Path, store: Store, remember: Callable[[CrlRecord], None], clock: Callable[[], datetime]
    ) -> None:
        """`remember` is told each list that is shown from now on."""
        self._folder = folder
        self._store = store
        self._remember = remember
        self._clock = clock
        self._lock = threading.Lock()
        self._shown: dict[tuple[str, str], int] = {}

    def prepare(self) -> None:
        """Make the folder, without drafts of a process that was killed."""
        self._folder.mkdir(mode=0o755, parents=True, exist_ok=True)
        for draft in self._folder.glob(".*.new"):
            draft.unlink(missing_ok=True)

    def draft(self, issuer: str, number: int) -> Path:
        """Where a list is written before it is shown."""
        return self._folder / f".{issuer}.{number}.new"

    def shown(self) -> dict[tuple[str, str], int]:
        """The number of each list that is shown, by issuer and scope: such a one, or by now a newer one."""
        with self._lock:
            return dict(self._shown)

    def put(self, signed: Path, record: CrlRecord) -> None:
        """Show the list in the file `signed`, a draft."""
        move_file(signed, self._path(record.issuer, record.scope))
        self._note(record)

    def show(self, record: CrlRecord) -> None:
        """Show a list of the database."""
        path = self._path(record.issuer, record.scope)
        if not path.exists() or file_sha256(path) != record.sha256:
            draft = self.draft(record.issuer, record.number)
            with durable(draft) as file:
                for part in self._store.crls.parts(record):
                    file.write(part)
            move_file(draft, path)
        self._note(record)

    def adopt(self, authority: Authority) -> None:
        """Show the newest lists of the database: of a replica, or after the folder was lost."""
        shown = self.shown()
        for scope, number in self._store.crls.numbers(authority.name, _scopes(authority)).items():
            last = shown.get((authority.name, scope), -1)
            if number > last or (number == last and not self._path(authority.name, scope).exists()):
                latest = self._store.crls.latest(authority.name, scope)
                assert latest is not None  # lists are never deleted
                self.show(latest)

    def is_ahead(self, authority: Authority) -> bool:
        """Whether a list is shown that the database does not know any more: it went back under a running authority."""
        numbers, shown = self._store.crls.numbers(authority.name, (FULL, DELTA)), self.shown()
        return any(shown.get((authority.name, scope), -1) > numbers.get(scope, -1) for scope in (FULL, DELTA))

    def take_over(self, authority: Authority) -> None:
        """Take a list of the folder into the database that is newer than those there, with what it revokes.

        Raises StoreError for a file that is none of this authority's.
        """
        for scope in (FULL, DELTA):
            path = self._path(authority.name, scope)
            known = self._store.crls.latest(authority.name, scope)
            if path.exists() and (known is None or known.sha256 != file_sha256(path)):
                self._take_over(authority, scope, path, known)

    def _take_over(self, authority: Authority, scope: str, path: Path, known: CrlRecord | None) -> None:
        name, status = authority.name, self._store.status
        try:
            crl = x509.load_der_x509_crl(path.read_bytes())
            verify_crl(crl, authority.certificate, crl.last_update_utc, partial=scope == DELTA)
            found = record_of(name, crl, scope=scope, epoch=status.epoch(name))
        except (ValueError, PkiError, x509.ExtensionNotFound) as error:
            raise StoreError(f"{path} is not a CRL of {name}: {error}") from None
        if known is not None and known.number >= found.number:
            return
        # A database that is older than its own CRLs (a restored backup) must not forget what they revoked.
        entries = [entry for entry in listed(crl) if entry.reason != REMOVE_FROM_CRL]
        status.import_revocations(name, entries, source=f"CRL {found.number}")
        found = replace(found, epoch=status.epoch(name))
        try:
            self._note(self._store.crls.add(found, path))
        except StoreError:
            latest = self._store.crls.latest(name, scope)
            if latest is None or latest.number < found.number:
                raise
            self._note(latest)  # a replica that starts at the same time was faster
        else:
            _log.info("crl-taken-over", issuer=name, scope=scope, number=found.number)

    def _path(self, issuer: str, scope: str) -> Path:
        return self._folder / f"{issuer}.crl" if scope == FULL else self._folder / issuer / f"{scope}.crl"

    def _note(self, record: CrlRecord) -> None:
        # Deadlines end when a list is out, not at its thisUpdate, which is earlier. First of all: should the database
        # be away now, the list does not count as shown, and is looked at again.
        self._store.crls.note_published(record, self._clock())
        with self._lock:
            self._shown[record.issuer, record.scope] = record.number
        self._remember(record)


def _scopes(authority: Authority) -> list[str]:
    assert authority.profile.ca is not None  # load_hierarchy takes authorities only
    return [FULL, DELTA, *(partition(number) for number in range(authority.profile.ca.crl.partitions))]


def record_of(issuer: str, crl: x509.CertificateRevocationList, *, scope: str = FULL, epoch: int) -> CrlRecord:
    """The row of a list of this scope that covers `epoch`.

    ValueError without nextUpdate, or of another scope; ExtensionNotFound without a number.
    """
    if crl.next_update_utc is None:
        raise ValueError("a CRL without nextUpdate")
    bases = [each.value.crl_number for each in crl.extensions if isinstance(each.value, x509.DeltaCRLIndicator)]
    if bool(bases) != (scope == DELTA):
        raise ValueError("a CRL of another scope")
    return CrlRecord(
        issuer=issuer,
        number=crl.extensions.get_extension_for_class(x509.CRLNumber).value.crl_number,
        sha256=crl.fingerprint(SHA256()).hex(),
        this_update=crl.last_update_utc,
        next_update=crl.next_update_utc,
        der=b"",
        epoch=epoch,
        entries=len(crl),
        scope=scope,
        base_number=bases[0] if bases else None,
    )
