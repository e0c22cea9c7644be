"""What the registration authority does on a clock (`runtime.durable`).

| schedule      | every | does                                                                                       |
| ------------- | ----- | ------------------------------------------------------------------------------------------ |
| clock         | 15 s  | reminders, breaches, expiry, judgement anew, what nobody accepted, superseded statements,  |
|               |       | orders about certificates whose outcome is not known (`ra.orders`)                         |
| certification | 30 s  | finishes what was interrupted on the way to the CA (CPS 4.3.1)                             |

Each bears being done again and by any replica: what is due stands in the rows of the cases (`ra.clocks`), every step of
a case is taken by whoever is first to, and a case that cannot go on does not keep the others waiting.
"""

from __future__ import annotations

from pathlib import Path
from typing import Final

from ra.workflow import Workflow
from runtime.durable import Durable, Schedule

QUARTER_OF_A_MINUTE: Final = "*/15 * * * * *"
HALF_A_MINUTE: Final = "5,35 * * * * *"  # aside of the quarters


def ra_schedules(workflow: Workflow, *others: Schedule) -> tuple[Schedule, ...]:
    """The schedules of a registration authority, in the order of the table, and `others`."""
    return (
        Schedule("clock", QUARTER_OF_A_MINUTE, workflow.sweep),
        Schedule("certification", HALF_A_MINUTE, workflow.resume),
        *others,
    )


def durable(workflow: Workflow, *others: Schedule, database: Path | str) -> Durable:
    """The schedules over the RA's own database (a path or a URL), ready to be entered.

    What other replicas left each one sees for itself, every few seconds (`ra.left_behind`).
    """
    return Durable(
        "ra",
        ra_schedules(workflow, *others),
        database=database,
        replica=workflow.store.replica,
        everywhere=workflow.left_behind.look,
    )
