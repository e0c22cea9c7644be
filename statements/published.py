"""The register of the published versions that hold, as a service believes it, kept up to date while it runs.

    statements = PublishedStatements(home.cps, own=home.db / "statements-ca", trust=..., clock=...)
    statements().in_force(now)

Each service judges every publication itself (`cps.publication`): signatures, time-stamp, chain. What does not hold is
left out and told (`faults`, the log, `/health/ready`): nobody stops a service, or takes a version from it, by putting
something broken into the folder. A version that was accepted stays: in this process, and, by the copy that the service
keeps of its own, after a restart, which asks no list again; so neither a folder that was damaged or swapped later nor
an officer who is revoked later brings back an older version, and of two versions that follow the same one every service
stays with that which it saw first.

Asking costs one `stat`. Something new is read by a thread of its own while the last register serves: a version comes
into force after it was published, never at once.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime, timedelta
from pathlib import Path
from typing import Final

from cps.model import Pack
from cps.packs import published
from cps.publication import Candidate, PublicationVerdict, decide_publication
from cps.register import PackRegister
from pki.path import Trust
from runtime.language import ToldError
from runtime.logging import get_logger
from statements.files import PublicationError, PublicationFiles, install, names_in

RETRY: Final = timedelta(seconds=30)
"""After which what did not hold is judged again: a list that was missing may be there now."""
_SETTLED: Final = 1_000_000_000  # nanoseconds: far longer than a file system's clock takes to go on
_log: Final = get_logger("statements")

Statements = Callable[[], PackRegister]
"""What services ask: the register as it is believed now."""


@dataclass(frozen=True, slots=True)
class Fault:
    """A publication that does not hold, and why."""

    name: str
    reason: str


def founding_only(pack: Pack | None = None) -> Statements:
    """The register of an installation in which nothing was published."""
    register = PackRegister((pack or published(),))
    return lambda: register


def name_of(pack: Pack) -> str:
    """The name of a version: of its folder, and for people."""
    return f"{pack.cps.id}-{pack.cps.version}"


class PublishedStatements:
    """Safe for threads. The first question reads everything; whatever is there, it has an answer."""

    def __init__(
        self,
        folder: Path,
        *,
        trust: Callable[[], Trust],
        clock: Callable[[], datetime],
        own: Path | None = None,
        founding: Pack | None = None,
    ) -> None:
        """`folder` is what `kwbp cps publish` writes, `own` where this service keeps what it accepted.

        `trust` gives root, authorities and their newest lists, and is asked only when there is something to judge.
        """
        self._folder = folder
        self._own = own
        self._trust = trust
        self._clock = clock
        self._register = PackRegister((founding or published(),))
        self._faults: tuple[Fault, ...] = ()
        self._loading = threading.Lock()
        self._looked: datetime | None = None
        self._changed_at = -1
        self._taken: dict[Path, tuple[int, int]] = {}  # folders of versions that hold, by inode and time

    def __call__(self) -> PackRegister:
        """The register as it is believed now."""
        if self._looked is None:
            self.refresh()
        elif self._due() and not self._loading.locked():
            threading.Thread(target=self.refresh, name="statements", daemon=True).start()
        return self._register

    @property
    def faults(self) -> tuple[Fault, ...]:
        """The publications that do not hold, as of the last look."""
        return self._faults

    @property
    def details(self) -> dict[str, object]:
        """For `/health/ready`: the version in force and the newest, and what does not hold."""
        register = self()
        return {
            "in_force": name_of(register.in_force(self._clock())),
            "newest": name_of(register.newest),
            "faults": {each.name: each.reason for each in self._faults},
        }

    def refresh(self) -> PackRegister:
        """Look now, in this thread, and answer with what holds. Never raises for what is in the folders."""
        with self._loading:
            if self._looked is None or self._due():
                self._changed_at = _changed_at(self._folder)
                self._look()
                self._looked = self._clock()
        return self._register

    def _due(self) -> bool:
        changed_at = _changed_at(self._folder)
        # A change so young that another could have the same time is looked at again.
        young = changed_at >= 0 and time.time_ns() - changed_at <= _SETTLED
        if changed_at != self._changed_at or young:
            return True
        return bool(self._faults) and self._looked is not None and self._clock() - self._looked >= RETRY

    def _look(self) -> None:
        faults: dict[str, str] = {}
        for root in (self._own, self._folder):
            if root is None:
                continue
            try:
                self._extend(root, faults)
            except OSError as error:
                faults[root.name] = error.strerror or type(error).__name__
        told = tuple(Fault(name, reason) for name, reason in sorted(faults.items()))
        for fault in set(told) - set(self._faults):
            _log.error("publication-refused", name=fault.name, reason=fault.reason)
        self._faults = told

    def _extend(self, root: Path, faults: dict[str, str]) -> None:
        """Take in what holds of one folder, each version after the one before it."""
        known = {name_of(pack): pack for pack in self._register.packs}
        found: list[tuple[tuple[int, ...], str, PublicationFiles, Candidate]] = []
        for name in names_in(root):
            if self._taken.get(root / name) == _mark(root / name):
                continue
            try:
                files = PublicationFiles.read(root / name)
                candidate = files.candidate()
                if name_of(candidate.pack) != name:
                    raise PublicationError("it holds {name}", name=name_of(candidate.pack))
                if name in known:
                    if known[name].digest != candidate.pack.digest:
                        raise PublicationError("another version of this name was accepted before")
                    self._take(root / name, faults)
                    continue
                found.append((candidate.pack.cps.release, name, files, candidate))
            except Exception as error:  # whatever stands there, the last good register serves
                faults[name] = str(error) if isinstance(error, ToldError) else type(error).__name__
        for _release, name, files, candidate in sorted(found, key=lambda each: each[:2]):
            refusal = self._refusal(candidate, before=root == self._own)
            if refusal is not None:
                faults[name] = refusal
                continue
            self._take(root / name, faults)
            self._keep(name, files)
            self._register = self._register.with_pack(candidate.pack)
            _log.info("publication-accepted", name=name, sha256=candidate.pack.digest.hex())

    def _take(self, folder: Path, faults: dict[str, str]) -> None:
        faults.pop(folder.name, None)  # of the other copy
        self._taken[folder] = _mark(folder)

    def _refusal(self, candidate: Candidate, *, before: bool) -> str | None:
        """Why a publication does not hold as the one after the newest; None if it does.

        `before`: it was accepted here before. No list is asked again then: one that is missing today, or an officer who
        was revoked since for a time before the stamp, would bring back an older version with the next restart.
        """
        try:
            verdict = decide_publication(
                candidate, self._register.newest, trust=self._trust(), now=self._clock(), lists=not before
            )
        except Exception as error:  # of the trust: there is no hierarchy, or it cannot be read
            return f"it cannot be judged: {type(error).__name__}"
        return None if verdict.approved else told(verdict)

    def _keep(self, name: str, files: PublicationFiles) -> None:
        if self._own is None:
            return
        try:
            install(self._own, name, files)
        except PublicationError as error:
            _log.error("publication-not-kept", name=name, reason=str(error))


def told(verdict: PublicationVerdict) -> str:
    """Why a publication does not hold, in a sentence or several."""
    reasons = [str(finding) for finding in verdict.findings]
    if verdict.missing:
        reasons.append(f"it misses {verdict.missing} signatures that count")
    elif verdict.stamped_at is None and not reasons:
        reasons.append("it is not time-stamped")
    return "; ".join(reasons)[:1000]


def _mark(folder: Path) -> tuple[int, int]:
    state = folder.stat()
    return state.st_ino, state.st_mtime_ns


def _changed_at(folder: Path) -> int:
    try:
        return folder.stat().st_mtime_ns
    except OSError:
        return -1
