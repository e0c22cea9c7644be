"""How a page of the queue is sorted: what callers name, and what the database is asked for (`ra.queue`)."""

from __future__ import annotations

from enum import StrEnum


class Order(StrEnum):
    """How a page is sorted; cases found by the beginning of a name come in the order of that name."""

    URGENCY = "urgency"  # the one to be decided first is first
    AGE = "age"  # oldest first
    NEWEST = "newest"
