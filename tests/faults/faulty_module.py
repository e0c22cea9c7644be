"""The fault-injecting PKCS#11 module (shim/faulty_pkcs11.c), built once a session, and a copy of it to be steered.

module = FaultyModule.make(built, folder, real)      # forwards everything to `real`
module.set("C_Sign", CKR["DEVICE_ERROR"], after=10)  # from the eleventh C_Sign of each process on
module.wait_until_told("hang")                       # somebody is now inside the call
module.heal()
"""

from __future__ import annotations

import os
import shutil
import subprocess
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Final

SOURCE: Final = Path(__file__).with_name("shim") / "faulty_pkcs11.c"
PATIENCE: Final = 120.0
"""Seconds after which a test gives up waiting for something that ought to happen soon."""

HANG: Final = "hang"
CRASH: Final = "crash"


def build(folder: Path) -> Path:
    """Compile the module into `folder` with the system's C compiler."""
    built = folder / "faulty_pkcs11.so"
    command = ["cc", "-std=c11", "-O2", "-Wall", "-Wextra", "-Werror", "-fPIC", "-shared", "-pthread"]
    subprocess.run([*command, "-o", built, SOURCE, "-ldl"], check=True)
    return built


@dataclass(frozen=True)
class FaultyModule:
    """A copy of the module with a control file of its own; all processes that load it obey that file."""

    path: Path
    real: Path
    environment: tuple[tuple[str, str], ...] = ()

    @classmethod
    def make(cls, built: Path, folder: Path, real: Path, **environment: str) -> FaultyModule:
        """Put a copy into `folder`, in front of the module `real`, which sees `environment` as well."""
        path = folder / "faulty.so"
        shutil.copy(built, path)
        module = cls(path, real, tuple(environment.items()))
        module.heal()
        return module

    def set(self, function: str, action: int | str, *, after: int = 0, times: int = 0) -> None:
        """The only fault from now on: after `after` calls of `function`, for `times` calls (0: for ever)."""
        self._write(f"fault {function} {after} {times} {action if isinstance(action, str) else hex(action)}\n")

    def heal(self) -> None:
        """No fault from now on; what hangs goes on."""
        self._write("")

    def told(self) -> list[str]:
        """What was done so far: lines `PID FUNCTION ACTION`."""
        try:
            return (self.path.parent / f"{self.path.name}.told").read_text().splitlines()
        except FileNotFoundError:
            return []

    def wait_until_told(self, action: str, *, more_than: int = 0) -> str:
        """Wait until a fault with this action ("answer", "hang", "crash") was told; its line."""
        found: list[str] = []

        def enough() -> bool:
            found[:] = [line for line in self.told() if line.endswith(f" {action}")]
            return len(found) > more_than

        wait_until(enough)
        return found[-1]

    def _write(self, faults: str) -> None:
        control = self.path.parent / f"{self.path.name}.control"
        fresh = control.with_suffix(".fresh")
        variables = "".join(f"environment {name} {value}\n" for name, value in self.environment)
        fresh.write_text(f"module {self.real}\n{variables}{faults}")
        os.replace(fresh, control)  # noqa: PTH105  # replaced at once: nobody may read half of it


def wait_until(condition: object, patience: float = PATIENCE) -> None:
    """Wait until `condition()` is true; the test fails if that takes longer than `patience` seconds."""
    assert callable(condition)
    deadline = time.monotonic() + patience
    while not condition():
        assert time.monotonic() < deadline, f"not within {patience} s"
        time.sleep(0.01)
