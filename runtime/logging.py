"""Structured logs: one JSON object a line, UTC, ASCII digits, nothing secret.

Callers pass named fields, never whole messages or exceptions; `Secret` and card types print as an ellipsis by
construction. A last guard masks any run of 12 to 19 digits that would pass for a card number.
"""

from __future__ import annotations

import io
import json
import logging
import re
import sys
from collections.abc import MutableMapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final, TextIO, cast

import structlog

_PAN_LIKE: Final = re.compile(r"(?<![0-9A-Fa-f])\d{12,19}(?![0-9A-Fa-f])")


def _luhn(digits: str) -> bool:
    total = 0
    for place, char in enumerate(reversed(digits)):
        value = int(char) * (1 + place % 2)
        total += value - 9 if value > 9 else value
    return total % 10 == 0


def _mask(text: str) -> str:
    return _PAN_LIKE.sub(lambda match: "[masked]" if _luhn(match.group()) else match.group(), text)


def mask_card_numbers(_logger: Any, _method: str, event: MutableMapping[str, Any]) -> MutableMapping[str, Any]:
    """The last guard: whatever looks like a card number and passes the Luhn check is masked."""
    for key, value in event.items():
        if isinstance(value, str):
            event[key] = _mask(value)
        elif isinstance(value, int) and not isinstance(value, bool) and abs(value) >= 10**11:
            event[key] = _mask(str(value))
    return event


class _StandardError(io.TextIOBase):
    """Standard error as it is when something is written, not as it was when logs were set up."""

    def write(self, text: str) -> int:
        return sys.stderr.write(text)

    def flush(self) -> None:
        sys.stderr.flush()


def configure(service: str, log_dir: Path | None = None, *, level: str = "INFO") -> None:
    """Send this process's logs to `log_dir`/`service`.log, or to standard error."""
    stream: TextIO
    if log_dir is None:
        stream = cast("TextIO", _StandardError())
    else:
        log_dir.mkdir(mode=0o700, parents=True, exist_ok=True)
        stream = (log_dir / f"{service}.log").open("a", buffering=1, encoding="utf-8")
    _write_to(stream, level)
    structlog.contextvars.bind_contextvars(service=service)
    # Libraries that log through the standard module: warnings and worse only, to the same stream.
    handler = logging.StreamHandler(stream)
    handler.setFormatter(_OneObject())
    logging.basicConfig(level=logging.WARNING, handlers=[handler], force=True)


def _write_to(stream: TextIO, level: str) -> None:
    structlog.configure(
        processors=[
            structlog.contextvars.merge_contextvars,
            structlog.processors.add_log_level,
            structlog.processors.TimeStamper(fmt="iso", utc=True),
            mask_card_numbers,
            structlog.processors.JSONRenderer(ensure_ascii=True, default=lambda value: type(value).__name__),
        ],
        wrapper_class=structlog.make_filtering_bound_logger(getattr(logging, level)),
        logger_factory=structlog.PrintLoggerFactory(stream),
        cache_logger_on_first_use=False,
    )


class _OneObject(logging.Formatter):
    """What libraries log, in the form of all else. Of an exception its class: its text may quote input."""

    def format(self, record: logging.LogRecord) -> str:
        event: dict[str, str] = {
            "component": record.name,
            "event": _mask(record.getMessage().split("\n", 1)[0]),
            "level": record.levelname.lower(),
            "timestamp": datetime.fromtimestamp(record.created, UTC).isoformat().replace("+00:00", "Z"),
        }
        if record.exc_info and record.exc_info[0] is not None:
            event["error"] = record.exc_info[0].__name__
        return json.dumps(event)


def get_logger(name: str) -> structlog.stdlib.BoundLogger:
    """A logger that carries `name` as its component."""
    return cast("structlog.stdlib.BoundLogger", structlog.get_logger(component=name))


# Until a service configures itself, and in commands, which never do: warnings and worse, to standard error.
_write_to(cast("TextIO", _StandardError()), "WARNING")
