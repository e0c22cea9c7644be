"""What a job of the database's writer has to say is said once, after what it did is on the disk.

A job may run twice, or in vain (`runtime.group_writer`): a log line written inside of it would be told twice, or of
money that did not move. A job hands over what it says; the writer says it after the commit, in the jobs' order, and
drops it with what was undone. In a transaction of anybody else's it is said at once.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Final, TypeAlias

from sqlalchemy import Connection

Say: TypeAlias = Callable[[], object]
_KEY: Final = "kwbp-said"


@dataclass(frozen=True, slots=True)
class Said:
    """What one job handed over: what it did, and why it refused, which is true of a job that is undone too."""

    done: list[Say] = field(default_factory=list)
    refused: list[Say] = field(default_factory=list)


def after_commit(connection: Connection, say: Say) -> None:
    """Have `say` called when the transaction of `connection` is on the disk; not at all if it is undone."""
    said: Said | None = connection.info.get(_KEY)
    if said is None:
        say()
    else:
        said.done.append(say)


def with_refusal(connection: Connection, say: Say) -> None:
    """Have `say` called though the job raises next; once, when it has failed for good."""
    said: Said | None = connection.info.get(_KEY)
    if said is None:
        say()
    else:
        said.refused.append(say)


@contextmanager
def collecting(connection: Connection, said: Said) -> Iterator[None]:
    """What a job on `connection` hands over meanwhile goes into `said`, for the one who commits it."""
    info = connection.info  # taken once: of a connection that was cut under the job it cannot be had
    info[_KEY] = said
    try:
        yield
    finally:
        # The connection goes back to a pool, where others have it who call nothing.
        info.pop(_KEY, None)
