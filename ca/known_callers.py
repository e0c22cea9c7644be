"""Whether a TLS client certificate still counts: asked by every service before it serves a request.

TLS proves that a certificate leads to the pinned root. That alone would let in whoever any authority below the root
certified, revoked or not. Here the path is built under the roles of `pki.roles` and the newest CRLs that the CA
published in the folder of the hierarchy (`ca.hierarchy`), which are read again when one of them is replaced.

A CRL past its nextUpdate still counts for what it lists, unlike in a payment: the CA needs the HSM service to sign the
next one, and must not be locked out by the last.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from datetime import datetime, timedelta
from itertools import pairwise
from pathlib import Path
from typing import Final

from cryptography import x509

from ca.hierarchy import load_hierarchy
from pki.crl import CrlSet, IndexedCrl
from pki.errors import PkiError
from pki.path import validate_path
from pki.roles import Role
from runtime.identity import Caller

_ROLES: Final = {"officer": Role.OFFICER, "service": Role.SERVICE, "merchant": Role.SERVICE, "gateway": Role.SERVICE}
_JUDGED_FOR: Final = timedelta(seconds=30)  # validity is looked at again after this, a new CRL at once
_REMEMBERED: Final = 4096  # callers
_SETTLED: Final = 1_000_000_000  # nanoseconds: far longer than a file system's clock takes to go on

_Marks = tuple[tuple[int, int, int], ...]


class KnownCallers:
    """`refusal(caller)` says why the caller's certificate does not count, None if it does. For one thread."""

    def __init__(self, folder: Path, *, clock: Callable[[], datetime]) -> None:
        """`folder` is the published hierarchy; raises StoreError if it holds none."""
        hierarchy = load_hierarchy(folder)
        self._trust: Final = hierarchy.trust(CrlSet())
        self._folder: Final = str(folder / "crls")
        self._files: Final = [folder / "crls" / f"{name}.crl" for name in hierarchy.authorities]
        self._changed_at = -1
        self._clock = clock
        self._marks: _Marks | None = None
        self._crls = CrlSet()
        self._verdicts: dict[x509.Certificate, tuple[datetime, str | None]] = {}

    def refusal(self, caller: Caller) -> str | None:
        """The reason (`pki.errors`, or `crl_missing`) why the certificate does not count now."""
        certificate = caller.certificate
        if certificate is None:
            return None
        try:
            self._read_again()
        except (OSError, ValueError, PkiError):
            return "crl_missing"
        now = self._clock()
        judged = self._verdicts.get(certificate)
        if judged is None or not timedelta(0) <= now - judged[0] <= _JUDGED_FOR:
            if len(self._verdicts) >= _REMEMBERED:
                self._verdicts.clear()
            judged = self._verdicts[certificate] = (now, self._judge(certificate, _ROLES[caller.kind], now))
        return judged[1]

    def _read_again(self) -> None:
        """Read the CRLs again if one was replaced: each gets a new file (`ca.files.replace_file`).

        A new file is a change of the folder, which is one look for all of them. A change so young that another could
        have the same time is looked at file by file.
        """
        changed_at = os.stat(self._folder).st_mtime_ns  # noqa: PTH116  # for every request: a Path costs as much again
        if changed_at == self._changed_at and time.time_ns() - changed_at > _SETTLED:
            return
        states = [path.stat() for path in self._files]
        marks = tuple((state.st_ino, state.st_mtime_ns, state.st_size) for state in states)
        if marks != self._marks:
            self._marks = None
            self._verdicts.clear()
            self._crls = CrlSet(x509.load_der_x509_crl(path.read_bytes()) for path in self._files)
            self._marks = marks
        self._changed_at = changed_at

    def _judge(self, certificate: x509.Certificate, role: Role, now: datetime) -> str | None:
        try:
            path = validate_path(certificate, trust=self._trust, now=now, roles={role}, check_revocation=False)
            for below, issuer in pairwise(path.certificates):
                found = self._crls.of(issuer)
                if found is None:
                    return "crl_missing"
                listing = IndexedCrl(found)
                listing.authenticate(issuer)
                if below.serial_number in listing.revoked:
                    return "revoked"
        except PkiError as error:
            return error.reason
        return None
