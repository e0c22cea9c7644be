"""What the certificate authority does on a clock (`runtime.durable`): publish, finish, tell what is late.

| schedule     | every      | does                                                                                  |
| ------------ | ---------- | ------------------------------------------------------------------------------------- |
| publication  | 30 s       | signs full lists, deltas and partitions that are due, or lack a change (CPS 4.9.7)    |
| outbox       | 30 s       | finishes issuances that were begun and not ended (CPS 4.3.1)                          |
| deadlines    | minute     | looks at what should be published by now (CPS 4.9.5)                                  |
| suspensions  | minute     | ends suspensions that lasted too long (CPS 4.9.16)                                    |
| presign      | minute     | signs OCSP answers ahead, if the authority does (`presign`)                           |
| self-audit   | day, 03:15 | looks at a sample of what was issued, if there is an auditor (`self_audit`; CPS 8)    |

Each bears being done again and by any replica: CRL numbers and status epochs are taken under a lock, an open intent is
leased, and what is on time costs one look. At its start an authority has done all of it once (`maintain`).
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Final

from ca.authority import CertificateAuthority
from runtime.durable import Durable, Schedule

HALF_A_MINUTE: Final = "*/30 * * * * *"
MINUTE: Final = "15 * * * * *"  # aside of the half minutes
NIGHTLY: Final = "0 15 3 * * *"


def ca_schedules(
    authority: CertificateAuthority,
    *,
    presign: Callable[[], object] | None = None,
    self_audit: Callable[[], object] | None = None,
) -> tuple[Schedule, ...]:
    """The schedules of an authority, in the order of the table; those without work are left out."""
    return (
        Schedule("publication", HALF_A_MINUTE, authority.publisher.refresh),
        Schedule("outbox", HALF_A_MINUTE, authority.issuance.resume),
        Schedule("deadlines", MINUTE, authority.deadlines.check),
        Schedule("suspensions", MINUTE, authority.revocation.end_suspensions),
        *([] if presign is None else [Schedule("presign", MINUTE, presign)]),
        *([] if self_audit is None else [Schedule("self-audit", NIGHTLY, self_audit)]),
    )


def durable(authority: CertificateAuthority, *, database: Path | str, schedules: tuple[Schedule, ...] = ()) -> Durable:
    """The schedules of a started authority over its own database (a path or a URL), ready to be entered.

    Whichever replica comes to a tick, every one shows and believes the lists that came of it a few seconds later.
    """
    return Durable(
        "ca",
        schedules or ca_schedules(authority),
        database=database,
        replica=authority.replica,
        everywhere=authority.publisher.follow,
    )
