"""Python processes for tests that start many: each is forked from one that has imported what services import.

    process = Python(["-c", PROGRAM, str(home)])            # as subprocess.Popen([sys.executable, "-c", PROGRAM, …])
    process = Python(["-m", "cli", "serve", "hsm"], start_new_session=True)
    process.kill(); assert process.wait() == -signal.SIGKILL

What comes out is a process of its own, with its own descriptors, environment, folder and session: a signal hits it and
nothing else, and its end is told as `subprocess` tells it. The one it is forked from has run nothing of it, has opened
nothing but the socket it is asked through, and has one thread; there is one for all processes of a run, begun with the
first `Python`. What is not done again is to load two thousand modules, which costs more than most tests, and to try
what SoftHSM2's tokens can do (`one_probe`).

How programs start from nothing, scripts/demo and the tests of the installed command show.
"""

from __future__ import annotations

import atexit
import fcntl
import gc
import json
import os
import runpy
import select
import selectors
import signal
import socket
import subprocess
import sys
import tempfile
import threading
from array import array
from collections.abc import Sequence
from contextlib import suppress
from importlib import import_module
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any, Final, NoReturn

ROOT: Final = Path(__file__).resolve().parents[2]
NUMBER: Final = 4
"""Bytes of the size of a question, of a process id, and of how a process ended, as waitpid states it."""
_IMPORTED: Final = (
    *("alembic.command", "cryptography.x509", "dbos", "fastapi", "httpx", "pkcs11", "sqlalchemy", "uvicorn"),
    *("audit.witness_service", "ca.app", "ca.authority", "ca.known_callers", "ca.ocsp", "ca.ocsp_presign"),
    *("ca.ocsp_work", "ca.repository", "ca.schedules", "ca.tsa_service", "cli.main", "cli.services", "gateway.service"),
    *("gateway_keys.plugin", "hsm_service.app", "hsm_service.vault", "ra.app", "ra.checks.assembly", "ra.issuer_banks"),
    *("ra.notices.service", "ra.registration", "ra.schedules", "registers.service", "storefront.merchant.service"),
    *("switch.service",),
)
"""What services import, and what that imports; commands are added."""
_SHARED: Final = "KWBP_TEST_READY"
"""Variable: where the workers of a run ask, if it has workers."""
RARELY: Final = (20_000, 10, 10)
"""`gc.set_threshold`: as there is room for it, garbage is looked for seldom, which takes up to a tenth of all time."""
_address: str | None = None
"""Of the process that forks, once there is one; what it forked knows it too."""
_beginning: Final = threading.Lock()


class Python(subprocess.Popen[Any]):
    """`subprocess.Popen([sys.executable, *arguments], …)`, for `-c PROGRAM …` and `-m MODULE …`."""

    def __init__(self, arguments: Sequence[object], **how: Any) -> None:
        self._line = socket.socket(socket.AF_UNIX)
        super().__init__([str(each) for each in arguments], **how)

    def _execute_child(self, args: Any, executable: Any, preexec_fn: Any, close_fds: Any, pass_fds: Any,
                       cwd: Any, env: Any, startupinfo: Any, creationflags: Any, shell: Any,
                       p2cread: int, p2cwrite: int, c2pread: int, c2pwrite: int, errread: int, errwrite: int,
                       restore_signals: bool, gid: Any, gids: Any, uid: Any, umask: int,
                       start_new_session: bool, *_: Any) -> None:  # fmt: skip
        asked = {
            "arguments": args,
            "environment": dict(os.environ if env is None else env),
            "folder": os.fspath(Path.cwd() if cwd is None else cwd),
            "session": start_new_session,
            "kept": list(pass_fds),
        }
        streams = [
            0 if p2cread == -1 else p2cread,
            1 if c2pwrite == -1 else c2pwrite,
            2 if errwrite == -1 else errwrite,
        ]
        try:
            self._line.connect(address())
            self.pid = ask(self._line, asked, [*streams, *pass_fds])
            self._child_created = True
        finally:
            self._close_pipe_fds(p2cread, p2cwrite, c2pread, c2pwrite, errread, errwrite)

    def _try_wait(self, flags: int) -> tuple[int, int]:
        try:
            told = self._line.recv(NUMBER, socket.MSG_DONTWAIT if flags & os.WNOHANG else socket.MSG_WAITALL)
        except BlockingIOError:
            return 0, 0
        self._line.close()
        return self.pid, int.from_bytes(told)

    def _internal_poll(self, *_: Any, **__: Any) -> int | None:
        if self.returncode is None and self._waitpid_lock.acquire(False):
            try:
                if self.returncode is None and (ended := self._try_wait(os.WNOHANG))[0]:
                    self._handle_exitstatus(ended[1])
            finally:
                self._waitpid_lock.release()
        return self.returncode


def address() -> str:
    """Where to ask for processes: the path of a socket; whoever answers there begins with the first call."""
    global _address
    with _beginning:
        if _address is None:
            _address = os.environ.get(_SHARED)
        if _address is None:
            folder, _address, listening = _place()
            with listening:
                process = _begin(listening, _address)
            atexit.register(_end, process, folder, os.getpid())
    return _address


def share() -> None:
    """Have one answer for all workers that this process is about to start; it begins when the first of them asks."""
    folder, path, listening = _place()
    os.environ[_SHARED] = path
    mine = os.getpid()

    def begin_when_asked() -> None:
        with listening:
            select.select([listening], [], [])
            process = _begin(listening, path)
        atexit.register(_end, process, folder, mine)

    threading.Thread(target=begin_when_asked, daemon=True).start()


def _place() -> tuple[tempfile.TemporaryDirectory[str], str, socket.socket]:
    folder = tempfile.TemporaryDirectory(prefix="ready-")  # its path is a short one
    path = str(Path(folder.name) / "socket")
    listening = socket.socket(socket.AF_UNIX)
    listening.bind(path)
    listening.listen(64)
    return folder, path, listening


def _begin(listening: socket.socket, path: str) -> subprocess.Popen[bytes]:
    return subprocess.Popen(
        [sys.executable, "-m", __name__, str(listening.fileno()), path],
        cwd=ROOT,
        pass_fds=(listening.fileno(),),
        stdin=subprocess.DEVNULL,
        start_new_session=True,
    )


def _end(process: subprocess.Popen[bytes], folder: tempfile.TemporaryDirectory[str], owner: int) -> None:
    if os.getpid() == owner:
        process.terminate()
        process.wait()
        folder.cleanup()


def ask(line: socket.socket, asked: dict[str, Any], descriptors: list[int]) -> int:
    """Have a process forked; its id. How it ended comes through `line` later."""
    said = json.dumps(asked).encode("utf-8", "surrogateescape")
    line.sendmsg(
        [len(said).to_bytes(NUMBER)], [(socket.SOL_SOCKET, socket.SCM_RIGHTS, array("i", descriptors).tobytes())]
    )
    line.sendall(said)
    process = line.recv(NUMBER, socket.MSG_WAITALL)
    assert process, "the process that forks is gone"
    return int.from_bytes(process)


# --- the process that forks -------------------------------------------------------------------------------------------


def _answer(descriptor: int, at: str) -> NoReturn:
    """Fork for whoever asks, until SIGTERM."""
    gc.disable()
    main = import_module("cli.main")
    for name in (*_IMPORTED, *(command.module for command in main.COMMANDS.values())):
        with suppress(ImportError):  # it is told where the module is needed
            import_module(name)
    ready = import_module("tests.support.ready_python")  # this is __main__
    ready._address = at
    import_module("tests.support.one_probe").probe_once(Path(at).parent)
    started = SimpleNamespace(**{name: getattr(subprocess, name) for name in ("DEVNULL", "TimeoutExpired")})
    started.Popen = lambda command, **how: ready.Python(command[1:], **how)  # `kwbp serve` starts its services so, too
    import_module("cli.serve").subprocess = started  # type: ignore[attr-defined]
    assert len(os.listdir("/proc/self/task")) == 1, "only a process of one thread may fork"  # noqa: PTH208
    gc.collect()
    gc.freeze()
    gc.set_threshold(*RARELY)
    gc.enable()
    _Forks(socket.socket(fileno=descriptor)).serve()


class _Forks:
    """Who asked for which process."""

    def __init__(self, listening: socket.socket) -> None:
        self._listening = listening
        self._running: dict[int, socket.socket] = {}
        self._wake, self._woken = socket.socketpair()
        for each in (self._wake, self._woken):
            each.setblocking(False)
        signal.signal(signal.SIGCHLD, lambda *_: None)
        signal.set_wakeup_fd(self._wake.fileno())

    def serve(self) -> NoReturn:
        with selectors.DefaultSelector() as selector:
            selector.register(self._listening, selectors.EVENT_READ)
            selector.register(self._woken, selectors.EVENT_READ)
            while True:
                for key, _events in selector.select():
                    if key.fileobj is self._listening:
                        self._fork(self._listening.accept()[0])
                    else:
                        with suppress(BlockingIOError):
                            self._woken.recv(4096)
                        self._tell()

    def _fork(self, line: socket.socket) -> None:
        size, descriptors, _flags, _address = socket.recv_fds(line, NUMBER, 64)
        asked = json.loads(line.recv(int.from_bytes(size), socket.MSG_WAITALL).decode("utf-8", "surrogateescape"))
        process = os.fork()
        if process == 0:
            signal.set_wakeup_fd(-1)
            signal.signal(signal.SIGCHLD, signal.SIG_DFL)
            _become(descriptors=descriptors, **asked)
        for descriptor in descriptors:
            os.close(descriptor)
        self._running[process] = line
        with suppress(OSError):  # who asked may have been killed
            line.sendall(process.to_bytes(NUMBER))

    def _tell(self) -> None:
        with suppress(ChildProcessError):
            while (ended := os.waitpid(-1, os.WNOHANG))[0]:
                with self._running.pop(ended[0]) as line, suppress(OSError):
                    line.sendall(ended[1].to_bytes(NUMBER))


def _become(
    descriptors: list[int],
    arguments: list[str],
    environment: dict[str, str],
    folder: str,
    session: bool,
    kept: list[int],
    called: str = "",
) -> NoReturn:
    """Be `python arguments`, or the command `called`; does not return."""
    code = 1
    try:
        if session:
            os.setsid()
        targets = [0, 1, 2, *kept]
        aside = [
            fcntl.fcntl(descriptor, fcntl.F_DUPFD, 1 + max((*targets, *descriptors))) for descriptor in descriptors
        ]
        for target, descriptor in zip(targets, aside, strict=True):
            os.dup2(descriptor, target)
        low = 0
        for target in (*sorted(targets), os.sysconf("SC_OPEN_MAX")):
            if low < target:
                os.closerange(low, target)
            low = target + 1
        os.chdir(folder)
        os.environ.clear()
        os.environ.update(environment)
        sys.stdin, sys.stdout, sys.stderr = open(0), open(1, "w"), open(2, "w", buffering=1)  # noqa: SIM115
        option, program, *rest = arguments
        sys.argv = [called or option, *rest]
        sys.modules["__main__"] = ModuleType("__main__")
        if option == "-m":
            runpy.run_module(program, run_name="__main__", alter_sys=True)
        else:
            assert option == "-c", arguments
            exec(compile(program, "<string>", "exec"), sys.modules["__main__"].__dict__)  # noqa: S102
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
        with suppress(OSError, ValueError):
            sys.stdout.flush()
            sys.stderr.flush()
        os._exit(code & 0xFF)


if __name__ == "__main__":
    _answer(int(sys.argv[1]), sys.argv[2])
