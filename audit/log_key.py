"""The key of a log, as a certificate says it: from the pinned root down to the name under which a log signs.

A log called `log-hsm` is signed by the token key `log-hsm`. Its certificate names `urn:kwbp:service:log-hsm`, a name
that no service's TLS certificate or message key has, so that nothing but the log's key can speak for the log. The
origin, the log's name in every checkpoint, is made of the root's key identifier and the key's name: it is the same for
every certificate and every version of the key, and no other installation has it.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Final

from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec

from audit.errors import NoteError
from audit.note import VerifierKey
from pki.errors import PkiError
from pki.extensions import authority_key_id, extensions_of
from pki.names import identity_uris
from pki.path import Trust, validate_path
from pki.roles import Role

LOGS: Final = ("hsm", "ca", "ra", "gateway")
"""The logs of an installation: each service that decides or signs has one."""
_IDENTIFIER: Final = 8  # bytes of the root's key identifier: enough to tell installations apart


def key_name(log: str) -> str:
    """The token key of the log of a service: `hsm` → `log-hsm`."""
    return f"log-{log}"


def origin_of(name: str, topmost: x509.Certificate) -> str:
    """The origin of the log whose key is called `name`; `topmost` is the last of its chain, which the root signed.

    Raises NoteError where that certificate does not say which key signed it.
    """
    try:
        identifier = authority_key_id(extensions_of(topmost))
    except PkiError:
        identifier = None
    if not identifier:
        raise NoteError("bad-certificate", "the certificate below the root names no authority key")
    return f"kwbp/{identifier[:_IDENTIFIER].hex()}/{name}"


@dataclass(frozen=True)
class LogKey:
    """A log's key with its certificates: its own first, without the root."""

    name: str
    chain: tuple[x509.Certificate, ...]

    @property
    def origin(self) -> str:
        """The log's name in its checkpoints."""
        return origin_of(self.name, self.chain[-1])

    @property
    def verifier(self) -> VerifierKey:
        """The key by which its checkpoints are verified."""
        public = self.chain[0].public_key()
        if not isinstance(public, ec.EllipticCurvePublicKey):
            raise NoteError("bad-key", "the key of a log is on P-256")
        return VerifierKey.log(self.origin, public)


def certified(
    name: str, chain: Sequence[x509.Certificate], anchors: Sequence[x509.Certificate], *, now: datetime
) -> LogKey:
    """The key of the log `name`, if `chain` leads from it to one of the pinned `anchors` at `now`.

    Revocation is not asked for: a log must be readable when nothing else is. Whoever takes a key out of use takes it
    from the witness's list, too. Raises NoteError `bad-certificate`, `bad-key`.
    """
    if name not in map(key_name, LOGS):  # a service's TLS certificate would do otherwise, for a log called like it
        raise NoteError("bad-key", f"no log has a key called {name}")
    if not chain:
        raise NoteError("bad-certificate", f"there is no certificate of {name}")
    trust = Trust(tuple(anchors))
    try:
        path = validate_path(chain[0], chain[1:], trust=trust, now=now, roles=[Role.SERVICE], check_revocation=False)
        named = identity_uris(path.leaf)
    except PkiError as error:
        raise NoteError("bad-certificate", f"the certificate of {name} does not lead to the root: {error}") from None
    if named != (f"urn:kwbp:service:{name}",):
        raise NoteError("bad-certificate", f"the certificate is not that of the log {name}")
    return LogKey(name, path.certificates[:-1])


def load(name: str, pki: Path, *, now: datetime) -> LogKey:
    """The key of the log `name` out of a published hierarchy (`keys/<name>.pem`, `root.pem`); raises NoteError."""
    path = pki / "keys" / f"{name}.pem"
    try:
        chain = x509.load_pem_x509_certificates(path.read_bytes())
        anchors = x509.load_pem_x509_certificates((pki / "root.pem").read_bytes())
    except (OSError, ValueError):
        raise NoteError("bad-certificate", f"there is no certificate chain of {name} in {path.parent}") from None
    return certified(name, chain, anchors, now=now)
