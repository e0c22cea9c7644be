"""The other end of `worker`."""

from __future__ import annotations

import json
import subprocess
from typing import Any

import pytest

from tests.conformance.subjects import Subject

CANNOT_START = 77
"""Exit status of the scripts that start a token, when the machine does not let them: no root, no namespaces."""


class Worker:
    """The process that holds the token."""

    def __init__(self, subject: Subject, process: subprocess.Popen[str]) -> None:
        self.subject = subject
        self._process = process
        first = self._read()
        self.findings: dict[str, dict[str, Any]] = {each["ability"]: each for each in first["findings"]}
        self.purposes: dict[str, dict[str, Any]] = {each["purpose"]: each for each in first["purposes"]}

    def check(self, name: str) -> tuple[str, str]:
        """What became of a check, and why."""
        assert self._process.stdin is not None
        self._process.stdin.write(name + "\n")
        self._process.stdin.flush()
        reply = self._read()
        return reply["outcome"], reply["detail"]

    def _read(self) -> Any:
        assert self._process.stdout is not None
        line = self._process.stdout.readline()
        if not line and (status := self._process.wait(60)) == CANNOT_START:
            pytest.skip(f"{self.subject.name} cannot be started by this user on this machine; see standard error")
        assert line, f"the worker ended with {status}"
        return json.loads(line)
