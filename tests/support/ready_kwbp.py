"""`kwbp` for tests of many commands: each is a fresh process, forked from one that has imported what commands import.

    with ready_kwbp(environment) as folder:     # put it first in PATH: its `kwbp` runs commands this way
        ...

The process that waits for commands has run none of them, and forgets the modules of `cli` before the first one comes:
a command begins in its own folder and environment, on its own descriptors, with its own command line, imports `cli`
and ends with its own exit code. What it does not do again is to load the libraries under it, which takes most of its
time. How the installed command starts, the demo shows.
"""

from __future__ import annotations

import atexit
import gc
import json
import os
import signal
import socket
import subprocess
import sys
import tempfile
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from importlib import import_module
from pathlib import Path
from types import ModuleType
from typing import Final

_STATUS: Final = 4
"""Bytes of an answer: the exit code, as the shell would state it."""
_ROOT: Final = Path(__file__).resolve().parents[2]

_CLIENT: Final = f"""\
import json, os, socket, sys
from array import array
with socket.socket(socket.AF_UNIX) as line:
    line.connect(os.path.join(os.path.dirname(os.path.abspath(sys.argv[0])), "socket"))
    said = json.dumps([sys.argv[1:], os.getcwd(), dict(os.environ)]).encode("utf-8", "surrogateescape")
    line.sendmsg([len(said).to_bytes(4)], [(socket.SOL_SOCKET, socket.SCM_RIGHTS, array("i", [0, 1, 2]))])
    line.sendall(said)
    answer = line.recv({_STATUS}, socket.MSG_WAITALL)
sys.exit(int.from_bytes(answer) if answer else "the command was never run")
"""


@contextmanager
def ready_kwbp(environment: Mapping[str, str]) -> Iterator[Path]:
    """Run the waiting process with `environment`; yields the folder of the command `kwbp`."""
    with tempfile.TemporaryDirectory() as name, socket.socket(socket.AF_UNIX) as listening:  # its path is a short one
        folder = Path(name)
        command = folder / "kwbp"
        command.write_text(f"#!{sys.executable} -IS\n{_CLIENT}", "utf-8")
        command.chmod(0o755)
        listening.bind(str(folder / "socket"))
        listening.listen(8)
        process = subprocess.Popen(
            [sys.executable, "-m", __name__, str(listening.fileno())],
            cwd=_ROOT,
            env=environment,
            pass_fds=(listening.fileno(),),
            stdin=subprocess.DEVNULL,
        )
        try:
            yield folder
        finally:
            process.terminate()
            process.wait()


def _wait_for_commands(descriptor: int) -> None:
    """Serve until SIGTERM; nothing of a command happens in this process."""
    main = import_module("cli.main")
    for command in main.COMMANDS.values():
        import_module(command.module)
    for name in [name for name in sys.modules if name.partition(".")[0] == "cli"]:
        del sys.modules[name]
    gc.collect()
    gc.freeze()
    signal.signal(signal.SIGCHLD, _reap)
    with socket.socket(fileno=descriptor) as listening:
        while True:
            line, _address = listening.accept()
            if os.fork() == 0:
                listening.close()
                _attend(line)
                os._exit(0)
            line.close()


def _reap(_signal: int, _frame: object) -> None:
    """Let those go that ended: they answered themselves how."""
    with suppress(ChildProcessError):
        while os.waitpid(-1, os.WNOHANG) != (0, 0):
            pass


def _attend(line: socket.socket) -> None:
    """Run one command in a child, and answer how it ended."""
    signal.signal(signal.SIGCHLD, signal.SIG_DFL)
    size, descriptors, _flags, _address = socket.recv_fds(line, 4, 3)
    said = line.recv(int.from_bytes(size), socket.MSG_WAITALL)
    arguments, folder, environment = json.loads(said.decode("utf-8", "surrogateescape"))
    child = os.fork()
    if child == 0:
        line.close()
        _become(arguments, folder, environment, descriptors)
    _pid, status = os.waitpid(child, 0)
    code = os.waitstatus_to_exitcode(status)
    line.sendall((code if code >= 0 else 128 - code).to_bytes(_STATUS))


def _become(arguments: list[str], folder: str, environment: dict[str, str], descriptors: list[int]) -> None:
    """Be `kwbp arguments`; does not return."""
    for target, descriptor in enumerate(descriptors):
        os.dup2(descriptor, target)
        os.close(descriptor)
    os.chdir(folder)
    os.environ.clear()
    os.environ.update(environment)
    sys.stdin, sys.stdout, sys.stderr = open(0), open(1, "w"), open(2, "w", buffering=1)  # noqa: SIM115
    sys.argv = ["kwbp", *arguments]
    sys.modules["__main__"] = ModuleType("__main__")
    code = 1
    try:
        import_module("cli.main").main()
        code = 0
    except SystemExit as end:
        code = end.code if isinstance(end.code, int) else int(end.code is not None)
        if isinstance(end.code, str):
            print(end.code, file=sys.stderr)
    except BaseException:
        sys.excepthook(*sys.exc_info())  # type: ignore[arg-type]
    finally:  # as the interpreter ends
        threading._shutdown()
        atexit._run_exitfuncs()
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(code)


if __name__ == "__main__":
    _wait_for_commands(int(sys.argv[1]))
