"""What a certificate authority does for its responders on a clock: renew their certificates, sign answers ahead."""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime

from ca.ocsp_presign import Presigner
from ca.renewal import Renewal


def ocsp_work(renewal: Renewal, presigner: Presigner, clock: Callable[[], datetime]) -> Callable[[], int]:
    """Does all that is due and returns how many answers were signed; bears being done again, and by any replica."""

    def work() -> int:
        renewal.renew_due(clock())  # first: answers are bounded by the certificate of who signs them
        return presigner.presign_due(clock())

    return work
