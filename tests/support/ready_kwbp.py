"""`kwbp` for tests of many commands: each is a fresh process, forked from one that has imported what commands import.

    with ready_kwbp() as folder:     # put it first in PATH: its `kwbp` runs commands this way
        ...

A command begins in its own folder and environment, on its own descriptors, with its own command line, and ends with its
own exit code; `kwbp serve` starts its services in the same way (tests/support/ready_python.py). What they do not do
again is to load the libraries, which takes most of their time. How the installed command starts, the demo shows.
"""

from __future__ import annotations

import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

from tests.support.ready_python import NUMBER, address

_CLIENT: Final = """\
import json, os, signal, socket, sys
from array import array
asked = {
    "arguments": ["-c", "from cli.start import main; main()", *sys.argv[1:]], "called": "kwbp",
    "environment": dict(os.environ), "folder": os.getcwd(), "session": False, "kept": [],
}
with socket.socket(socket.AF_UNIX) as line:
    line.connect(ADDRESS)
    said = json.dumps(asked).encode("utf-8", "surrogateescape")
    line.sendmsg([len(said).to_bytes(NUMBER)], [(socket.SOL_SOCKET, socket.SCM_RIGHTS, array("i", [0, 1, 2]))])
    line.sendall(said)
    process = int.from_bytes(line.recv(NUMBER, socket.MSG_WAITALL))
    for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
        signal.signal(number, lambda number, _frame: os.kill(process, number))
    answer = line.recv(NUMBER, socket.MSG_WAITALL)
code = os.waitstatus_to_exitcode(int.from_bytes(answer)) if answer else "nobody runs commands any more"
sys.exit(128 - code if answer and code < 0 else code)
"""


@contextmanager
def ready_kwbp() -> Iterator[Path]:
    """Yields the folder of the command `kwbp`."""
    with tempfile.TemporaryDirectory() as name:
        command = Path(name) / "kwbp"
        client = _CLIENT.replace("ADDRESS", repr(address())).replace("NUMBER", str(NUMBER))
        command.write_text(f"#!{sys.executable} -IS\n{client}", "utf-8")
        command.chmod(0o755)
        yield Path(name)
