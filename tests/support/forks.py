"""Processes that are forked to die in the midst of their work, and the tests that fork them.

Of a process that is forked only the thread lives that forked it: a lock that another one held just then is held for
ever. So these tests are marked `alone` (tests/faults/conftest.py has them run in a process that nobody else uses).
"""

from __future__ import annotations

import faulthandler
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final, NoReturn

STUCK: Final = 120
"""Seconds after which a process that does not end shows the stacks of its threads, and ends: it should take one."""
_ALONE: Final = "KWBP_TEST_ALONE"


def forked(work: Callable[[], Any]) -> int:
    """The number of a process that does `work` and ends without any clean-up."""
    assert _threads() == 1
    child = os.fork()
    if child == 0:
        _end(work)
    return child


def _threads() -> int:
    return len(list(Path("/proc/self/task").iterdir()))


def _end(work: Callable[[], Any]) -> NoReturn:
    try:
        faulthandler.dump_traceback_later(STUCK, exit=True)
        work()
    except BaseException as error:  # whatever it is, the child must not go on as a second pytest
        os.write(2, f"{type(error).__name__}: {error}\n".encode())
        os._exit(70)
    os._exit(0)


def ended(child: int) -> int:
    """Its exit code once it has ended; minus the number of the signal that ended it."""
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])


def is_alone() -> bool:
    """Whether this process runs nothing but the test at hand."""
    return _ALONE in os.environ


def alone(test: str, folder: Path) -> None:
    """Run the test of this node id in a process of its own, from `folder`; AssertionError with what it said."""
    environment = {name: value for name, value in os.environ.items() if not name.startswith("PYTEST_")}
    command = [sys.executable, "-m", "pytest", "-q", "-n0", "-p", "no:cacheprovider", test]
    done = subprocess.run(
        command, cwd=folder, env={**environment, _ALONE: "1"}, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert "1 passed" in done.stdout
