"""A key as the service knows it: its row, its template, the places where it lies, and how it stands to its siblings."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Final

from hsm_service.judging import SigningKey
from hsm_service.key_places import Place
from hsm_service.key_states import KeyState
from hsm_service.key_versions import RegisteredKey, Standing
from hsm_service.keys import KeyRef
from hsm_service.limits import Limits, check_window
from hsm_service.templates import Operation, Template
from hsm_service.token_operations import TokenOperations
from pki.der import sha256
from runtime.problems import Problem

_ABOUT: Final = frozenset({Operation.DESCRIBE, Operation.ATTEST})
_MANAGING: Final = frozenset(
    {
        Operation.ATTACH,
        Operation.ROTATE,
        Operation.ENABLE,
        Operation.DISABLE,
        Operation.DESTROY,
        Operation.KEEP,
        Operation.LIMITS,
        Operation.BACKUP,
        Operation.RESTORE,
    }
)
_BEYOND_CERTIFICATE: Final = frozenset({Operation.REQUEST, Operation.OPEN, Operation.UNSEAL})
SERVES_STILL: Final[Mapping[Standing, frozenset[Operation]]] = {
    Standing.IN_USE: frozenset(Operation),
    # Its certificate is what it waits for.
    Standing.COMING: _ABOUT | _MANAGING | {Operation.REQUEST},
    # Until the version is disabled, what was sealed to it before the rotation is opened, and the certificates that it
    # signed can be revoked: a CRL is signed by the key that signed them (RFC 5280 6.3.3). The MAC of
    # what was under way when a zone key was changed is verified.
    Standing.RETIRED: _ABOUT | _MANAGING | {Operation.OPEN, Operation.UNSEAL, Operation.CRL, Operation.VERIFY_MAC},
}
"""What a version does that is not, or not any more, the one in use: a retired key makes nothing new."""


@dataclass(frozen=True, slots=True)
class Key:
    """One version of a key.

    `signing` is what typed signing knows of a pair, `limits` what holds for it, `places` where it lies (its own token
    first), `certificate_ends` when its certificate does, `standing` how it stands to the version in use.
    """

    row: RegisteredKey
    template: Template
    signing: SigningKey | None
    limits: Limits
    places: tuple[Place, ...]
    certificate_ends: datetime | None = None
    standing: Standing = Standing.IN_USE

    @property
    def label(self) -> str:
        """`name/version`, as records name it."""
        return self.row.label

    @property
    def public_key_sha256(self) -> str | None:
        """SHA-256 (hex) of its SubjectPublicKeyInfo; None for a secret key."""
        return None if self.row.public_key is None else sha256(self.row.public_key).hex()

    @property
    def _place(self) -> Place:
        """The first place where the key serves; its own token's if it serves nowhere."""
        return next((place for place in self.places if place.healthy), self.places[0])

    @property
    def token(self) -> TokenOperations | None:
        """The token that would be asked."""
        return self._place.token

    @property
    def ref(self) -> KeyRef | None:
        """The object in it."""
        return self._place.ref

    @property
    def attributes(self) -> Mapping[str, bool]:
        """Its protection attributes as the token stated them when the key was last checked."""
        return self._place.attributes

    @property
    def unusable(self) -> str | None:
        """Why the key does not serve, None if it does."""
        return self._place.reason

    def standing_as(self, standing: Standing) -> Key:
        """The key, known to stand like this to its siblings now."""
        return self if standing is self.standing else replace(self, standing=standing)

    def require(self, operation: Operation) -> None:
        """Problem 409 unless a version that stands like this does `operation`; `use` speaks of its state."""
        if self.row.state is KeyState.ENABLED and operation not in SERVES_STILL[self.standing]:
            why = "was replaced" if self.standing is Standing.RETIRED else "has not begun"
            raise Problem(
                409, "key-not-in-use", f"version {self.row.version} of key {self.row.name} {why}; it does not do this"
            )

    def check_window(self, operation: Operation, now: datetime) -> None:
        """Problem 403 outside the key's validity, or its certificate's, which bounds what is made, not what opens."""
        ends = None if operation in _BEYOND_CERTIFICATE else self.certificate_ends
        check_window(self.row.name, self.limits, now, ends)

    def use(self) -> tuple[TokenOperations, KeyRef]:
        """The token and the object: of the places where the key serves, the first; a Problem if it serves nowhere."""
        if self.row.state is not KeyState.ENABLED:
            raise Problem(409, "key-not-enabled", f"key {self.row.name} is {self.row.state}, not ENABLED")
        place = self._place
        if place.fault is not None or place.token is None or place.ref is None:
            raise Problem(503, "key-not-usable", f"key {self.row.name} does not serve: {place.reason}")
        return place.token, place.ref

    def pair(self) -> SigningKey:
        """What typed signing knows of a usable key pair; a Problem if it has none."""
        self.use()
        if self.signing is None:
            raise Problem(409, "key-misused", f"key {self.row.name} is a secret key and has no public half")
        return self.signing
