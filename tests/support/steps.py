"""Steps of an operation that records nothing, run to their end."""

from __future__ import annotations

from typing import Any, TypeVar

from hsm_service.steps import Steps, run

T = TypeVar("T")


def done(steps: Steps[T]) -> T:
    """What the steps come to; raises what they raise."""
    journal: Any = None  # nothing is recorded
    return run(steps, journal)
