"""Structured logs: one JSON object a line, UTC, ASCII digits, nothing secret.

Callers pass named fields, never whole messages or exceptions; `Secret` and card types print as an ellipsis by
construction. A last guard masks any run of 12 to 19 digits that would pass for a card number.
"""

from __future__ import annotations

import errno
import io
import json
import logging
import os
import re
import sys
import threading
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


class _LogFile(io.TextIOBase):
    """A log that never fails who writes to it: a full disk must not end the thread that wants to say so.

    A line is written at once, whole. Those that found no room are counted, and told of by the next one that does.
    """

    def __init__(self, path: Path) -> None:
        self._file = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC, 0o600)
        self._begun = threading.local()
        self._writing = threading.Lock()
        self._lost = 0
        self._torn = False

    def write(self, text: str) -> int:
        begun = getattr(self._begun, "text", "") + text
        whole, newline, self._begun.text = begun.rpartition("\n")
        if newline:
            with self._writing:
                self._write_lines(whole + newline)
        return len(text)

    def _write_lines(self, lines: str) -> None:
        told = (
            f"{json.dumps({'event': 'log lines lost', 'level': 'error', 'lines': self._lost})}\n" if self._lost else ""
        )
        try:
            self._write_all((told + lines).encode("utf-8", "backslashreplace"))
        except OSError:
            self._lost += lines.count("\n")
        else:
            self._lost = 0

    def _write_all(self, data: bytes) -> None:
        if self._torn:  # a part of a line was the last that there was room for
            os.write(self._file, b"\n")
            self._torn = False
        written = os.write(self._file, data)
        if written < len(data):
            self._torn = not data[:written].endswith(b"\n")
            raise OSError(errno.ENOSPC, "no room for the whole line")

    def close(self) -> None:
        if not self.closed:
            os.close(self._file)
        super().close()


def configure(service: str, log_dir: Path | None = None, *, level: str = "INFO") -> None:
    """Send this process's logs to `log_dir`/`service`.log, or to standard error."""
    stream: TextIO
    if log_dir is None:
        stream = cast("TextIO", _StandardError())
    else:
        log_dir.mkdir(mode=0o700, parents=True, exist_ok=True)
        stream = cast("TextIO", _LogFile(log_dir / f"{service}.log"))
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
