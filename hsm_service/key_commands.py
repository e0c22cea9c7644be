"""Bodies of the routes that change a key's life: strict JSON, bytes as base64, times RFC 3339 with an offset.

Shared by the server and its client, as `hsm_service.wire`.
"""

from __future__ import annotations

from datetime import datetime
from typing import Annotated, Any

import msgspec
from msgspec import UNSET, UnsetType

Reason = Annotated[str, msgspec.Meta(max_length=500)]
"""Why, for the officers who must approve it."""
Time = Annotated[datetime, msgspec.Meta(tz=True)]
Count = Annotated[int, msgspec.Meta(ge=0, le=2**53)]


class RotateCommand(msgspec.Struct, frozen=True, forbid_unknown_fields=True, omit_defaults=True):
    """Make the next version, in use from `activate_at` on; without, at once, or as soon as it has its certificate."""

    activate_at: Time | None = None
    reason: Reason = ""


class ChangeCommand(msgspec.Struct, frozen=True, forbid_unknown_fields=True, omit_defaults=True):
    """Enable or disable a version, or keep one that was to be destroyed."""

    reason: Reason = ""


class DestroyCommand(msgspec.Struct, frozen=True, forbid_unknown_fields=True, omit_defaults=True):
    """Destroy a version at `at`: a day from now at the earliest, without it after thirty."""

    at: Time | None = None
    reason: Reason = ""


class LimitsCommand(msgspec.Struct, frozen=True, forbid_unknown_fields=True, omit_defaults=True):
    """Give a version these limits in place of those of its own; null lifts one of its template's.

    `uses` in all; `rate` a second in the long run, `burst` at once; the version serves from `not_before` to
    `not_after`.
    """

    uses: Count | UnsetType | None = UNSET
    rate: Annotated[float, msgspec.Meta(gt=0, le=1000000.0)] | UnsetType | None = UNSET
    burst: Annotated[int, msgspec.Meta(ge=1, le=10**6)] | UnsetType | None = UNSET
    not_before: Time | UnsetType | None = UNSET
    not_after: Time | UnsetType | None = UNSET
    reason: Reason = ""

    @property
    def limits(self) -> dict[str, Any]:
        """What is stated here, as `hsm_service.limits.Limits` reads it."""
        stated = {name: getattr(self, name) for name in self.__struct_fields__ if name != "reason"}
        return {name: value for name, value in stated.items() if value is not UNSET}


class BackupCommand(msgspec.Struct, frozen=True, forbid_unknown_fields=True, omit_defaults=True):
    """Wrap the key to `recipient` (DER SubjectPublicKeyInfo, RSA), whose token states in `attestation` (DER
    SignedData) that it was made there and cannot leave.
    """

    recipient: Annotated[bytes, msgspec.Meta(min_length=1, max_length=2048)]
    attestation: Annotated[bytes, msgspec.Meta(min_length=1, max_length=16 * 1024)]
    reason: Reason = ""


class Backup(msgspec.Struct, frozen=True, kw_only=True):
    """A backup (DER SignedData) that only the token of the recipient can take in."""

    key: str
    backup: bytes
