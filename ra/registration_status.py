"""How an application stands, as the protocol's messages tell its applicant (`status` of rows 3 to 6)."""

from __future__ import annotations

from typing import Final

from kwbp.codes import RegistrationStatus
from ra.states import State

CERTIFIED: Final = frozenset({State.ISSUED, State.ACTIVE, State.REVOKED})
"""States in which an application led to certificates, whatever became of them since."""
_STATUS: Final = {
    State.RETURNED: RegistrationStatus.RETURNED,
    State.REJECTED: RegistrationStatus.REJECTED,
    State.WITHDRAWN: RegistrationStatus.WITHDRAWN,
    State.EXPIRED: RegistrationStatus.EXPIRED,
}


def status_of(state: State) -> RegistrationStatus:
    """What an applicant is told; every state that is neither certified nor in the table is pending."""
    return RegistrationStatus.ISSUED if state in CERTIFIED else _STATUS.get(state, RegistrationStatus.PENDING)
