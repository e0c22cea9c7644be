"""The registration authority's challenge: 32 bytes that it recognises again without having kept them.

    chall_ca = time (8 bytes, seconds) ‖ mac (24 bytes)
    mac      = first bytes of HMAC-SHA-256(secret, "KWBP-chall-v1" ‖ time ‖ purpose ‖ 0 ‖ chall_ee)

Whoever asks costs the authority no row in a database. A challenge says that a request was made after the authority was
asked, and not long after; that a request is taken once only is the affair of its RRPID.
"""

from __future__ import annotations

import hmac
from datetime import UTC, datetime, timedelta
from typing import Final

from kwbp.codes import ErrorCode
from kwbp.common import WINDOW, require

LIFETIME: Final = timedelta(minutes=30)
"""Between the challenge and the request: a person fills in a form meanwhile."""
SECRET_SIZE: Final = 32
_TIME: Final = 8
_MAC: Final = 24


def make_challenge(secret: bytes, purpose: str, chall_ee: bytes, *, now: datetime) -> bytes:
    """A challenge for whoever sent `chall_ee`, for one purpose (`card:<bin>`, `merchant`)."""
    time = int(now.timestamp()).to_bytes(_TIME, "big")
    return time + _mac(secret, time, purpose, chall_ee)


def check_challenge(secret: bytes, purpose: str, chall_ee: bytes, chall_ca: bytes, *, now: datetime) -> None:
    """C3: the challenge was made here for this purpose and asker, at most `LIFETIME` ago.

    :raises ProtocolError: challengeMismatch, messageTooOld.
    """
    time = chall_ca[:_TIME]
    genuine = hmac.compare_digest(chall_ca[_TIME:], _mac(secret, time, purpose, chall_ee))
    require(genuine, ErrorCode.CHALLENGE_MISMATCH, "C3", "challenge must be one that was given out here")
    made = datetime.fromtimestamp(int.from_bytes(time, "big"), UTC)
    require(-WINDOW <= now - made <= LIFETIME, ErrorCode.MESSAGE_TOO_OLD, "C3", "challenge must be in force")


def _mac(secret: bytes, time: bytes, purpose: str, chall_ee: bytes) -> bytes:
    return hmac.digest(secret, b"KWBP-chall-v1" + time + purpose.encode() + b"\0" + chall_ee, "sha256")[:_MAC]
