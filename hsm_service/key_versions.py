"""The versions of a key: what the registry knows of each, and which one is in use at an instant.

A version never changes its key. Rotation makes the next version beside it, which begins at a set time; from then on the
older one signs nothing more, whatever becomes of the newer, and serves only to open what was sealed to it. Pure: the
time is passed in, so no clock has to strike for a rotation to happen.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from datetime import datetime
from enum import StrEnum

from hsm_service.key_states import KeyState
from hsm_service.limits import Limits


@dataclass(frozen=True, slots=True)
class RegisteredKey:
    """One row: version `version` of key `name`.

    `chain` is DER certificates, the key's own first, without the root. `activates_at` is when it begins to be the
    version in use, None for one that was taken out before it began; `retires_at` when the next version begins;
    `destroy_at` when a version that is DESTROY_SCHEDULED may be destroyed. `limits` are the key's own, over its
    template's. `backup`: whether it was made so that it can be wrapped for a backup token. `restored`: whether its
    object came out of a backup. `replicas` are further tokens that hold the same key under the same CKA_ID.
    """

    name: str
    version: int
    token: str
    cka_id: bytes
    template: str
    owner: str | None
    state: KeyState
    public_key: bytes | None
    created: datetime
    activates_at: datetime | None = None
    retires_at: datetime | None = None
    destroy_at: datetime | None = None
    limits: Limits = field(default_factory=Limits)
    backup: bool = False
    restored: bool = False
    replicas: tuple[str, ...] = ()
    chain: tuple[bytes, ...] = ()

    @property
    def label(self) -> str:
        """`name/version`, as records name it."""
        return f"{self.name}/{self.version}"

    def has_begun(self, now: datetime) -> bool:
        """Whether the version is, or ever was, the one in use at `now`.

        A later version of a key pair that has no certificate yet waits for it, however late that makes it; a first
        version has nothing to wait for.
        """
        if self.state is KeyState.PENDING or self.activates_at is None or self.activates_at > now:
            return False
        return self.version == 1 or self.public_key is None or bool(self.chain)


class Standing(StrEnum):
    """How a version stands to the one in use."""

    IN_USE = "in use"
    COMING = "not yet in use"
    RETIRED = "retired"


def version_in_use(rows: Iterable[RegisteredKey], now: datetime) -> RegisteredKey | None:
    """The version that is in use at `now`: the newest that has begun, in whatever state; None before the first begins.

    At most one, by construction. If it is disabled, no older one steps in: that would sign with a key that was
    replaced, perhaps for a reason.
    """
    return max((row for row in rows if row.has_begun(now)), key=lambda row: row.version, default=None)


def standing(row: RegisteredKey, in_use: RegisteredKey | None) -> Standing:
    """How `row` stands to the version in use of its key."""
    if in_use is None or row.version > in_use.version:
        return Standing.COMING
    return Standing.IN_USE if row.version == in_use.version else Standing.RETIRED
