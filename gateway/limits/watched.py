"""The rules in force: read when the gateway starts, and taken up again when their file changes.

A file that is wrong at the start keeps the gateway from starting. One that becomes wrong later changes nothing: what
was in force stays so, and the operator is told, once for each wrong file.
"""

from __future__ import annotations

from pathlib import Path
from typing import Final

from prometheus_client import Gauge

from gateway.errors import LimitRulesError
from gateway.limits.rules import Rules
from runtime.logging import get_logger

_in_force: Final = Gauge("kwbp_gateway_limit_rules_count", "Rules of limits in force")
_stale: Final = Gauge(
    "kwbp_gateway_limit_rules_stale_bool", "1 while the file of rules is wrong and older rules are in force"
)
_log = get_logger("gateway.limits")

_Mark = tuple[int, int, int]


class WatchedRules:
    """The rules of a file; without one there are none."""

    def __init__(self, path: Path | None) -> None:
        """:raises LimitRulesError: the file is wrong, or not there."""
        self._path = path
        self._mark = self._look()
        self._rules = Rules(rules=()) if path is None else Rules.load(path)
        _in_force.set(len(self._rules.rules))
        _stale.set(0)

    @property
    def rules(self) -> Rules:
        """What is in force now; one look at the file's times, for every order."""
        mark = self._look()
        if mark != self._mark:
            self._mark = mark
            self._take_up()
        return self._rules

    def _take_up(self) -> None:
        assert self._path is not None  # without a file there is no mark that could change
        try:
            rules = Rules.load(self._path)
        except LimitRulesError as error:
            _stale.set(1)
            _log.error("limits changed, and are wrong: those before stay", reason=str(error), alarm=True)
            return
        self._rules = rules
        _in_force.set(len(rules.rules))
        _stale.set(0)
        _log.info("limits taken up", rules=len(rules.rules))

    def _look(self) -> _Mark | None:
        if self._path is None:
            return None
        try:
            found = self._path.stat()
        except OSError:
            return None
        return found.st_ino, found.st_mtime_ns, found.st_size
