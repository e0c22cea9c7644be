"""What the rest of the CA is told when its database fails: one error, without the statement and what was in it.

A database that is gone, full or too slow is nobody's mistake: whoever asked is told to come back, and what was begun
was rolled back. It is told so for every statement of an engine, whichever part of the CA runs it.
"""

from __future__ import annotations

from typing import Final

from sqlalchemy import Engine, event
from sqlalchemy.engine import ExceptionContext
from sqlalchemy.exc import InterfaceError, InternalError, OperationalError

from ca.errors import StoreUnavailableError

_FAULTS: Final = (OperationalError, InterfaceError, InternalError)


def tell_faults(engine: Engine) -> None:
    """Have every failure of this engine's database raised as StoreUnavailableError; constraints stay what they are."""
    if not event.contains(engine, "handle_error", _tell):
        event.listen(engine, "handle_error", _tell)


def _tell(context: ExceptionContext) -> None:
    if context.is_disconnect or isinstance(context.sqlalchemy_exception, _FAULTS):
        raise unavailable(context.original_exception)


def unavailable(error: BaseException) -> StoreUnavailableError:
    """The error for a fault of the driver, of a pool that ran out of connections, of a journal whose disk is full."""
    # Only what the driver calls it: its text may quote addresses, and values of a row.
    code = getattr(error, "sqlstate", None) or getattr(error, "sqlite_errorname", None)
    fault = f"{type(error).__name__} ({code})" if code else type(error).__name__
    return StoreUnavailableError(f"what is done cannot be put on record now: {fault}")
