"""A throw-away PostgreSQL: a cluster for each test process, a database for each test.

    cluster = Cluster.start()                # initdb and pg_ctl, as another user if we are root (PostgreSQL insists)
    url = cluster.database()                 # an empty one
    url = cluster.database(template="ca")    # a copy of one that `cluster.template("ca", make)` made once
    cluster.kill(); cluster.resume(); cluster.stop()

It listens on a Unix socket alone, whose folder only its user and root may enter, and syncs to the disk as in service.
"""

from __future__ import annotations

import itertools
import os
import pwd
import shutil
import subprocess
import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Final
from urllib.parse import urlsplit

import psycopg

_UNPRIVILEGED: Final = ("postgres", "nobody")
_SETTINGS: Final = {
    "listen_addresses": "",
    "max_connections": "120",
    "shared_buffers": "32MB",
    "fsync": "on",
    "recovery_init_sync_method": "syncfs",  # after a kill: not file by file, of every database that a test had
    "log_min_messages": "fatal",
}


def find_tool(name: str) -> Path:
    """A server tool of PostgreSQL: Debian keeps them out of PATH, the newest version's last."""
    found = shutil.which(name)
    candidates = [Path(found)] if found else sorted(Path("/usr/lib/postgresql").glob(f"*/bin/{name}"))
    assert candidates, f"PostgreSQL's {name} is missing; run scripts/setup --with-judges"
    return candidates[-1]


class Cluster:
    """A running server. Made by `start`; `stop` ends it and removes what it wrote."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._data = folder / "data"
        self._numbers = itertools.count(1)
        self._templates: dict[str, str] = {}

    @classmethod
    def start(cls, within: Path | None = None) -> Cluster:
        """Make a cluster and start it; returns when it answers. `within`: a folder to make it in, with a short path."""
        # A Unix socket's path holds 107 bytes, fewer than pytest's folders have.
        folder = Path(tempfile.mkdtemp(prefix="kwbp-pg-", dir=within))
        made = cls(folder)
        if os.geteuid() == 0:
            shutil.chown(folder, _server_user())
        try:
            made._run("initdb", "-D", made._data, "-U", "kwbp", "--auth=trust", "--encoding=UTF8", "--locale=C.UTF-8")
            with (made._data / "postgresql.conf").open("a", encoding="utf-8") as file:
                file.writelines(f"{name} = '{value}'\n" for name, value in _SETTINGS.items())
                file.write(f"unix_socket_directories = '{folder}'\n")
            made.resume()
        except BaseException:
            made.stop()
            raise
        return made

    def url(self, database: str) -> str:
        """The URL of a database."""
        return f"postgresql://kwbp@/{database}?host={self._folder}"

    def database(self, template: str | None = None) -> str:
        """The URL of a new database: an empty one, or a copy of a template."""
        name = f"t{next(self._numbers)}"
        source = "template0" if template is None else self._templates[template]
        self._execute(f'CREATE DATABASE "{name}" TEMPLATE "{source}"')
        return self.url(name)

    def template(self, name: str, make: Callable[[str], None]) -> None:
        """Have a database that others are copied from; `make` fills it, once, and leaves no connection to it."""
        if name not in self._templates:
            url = self.database()
            make(url)
            self._templates[name] = urlsplit(url).path.removeprefix("/")

    def resume(self) -> None:
        """Start the server again."""
        self._run("pg_ctl", "-D", self._data, "-w", "-t", "60", "-l", self._folder / "log", "-s", "start")

    @property
    def runs(self) -> bool:
        """Whether the server lets anybody in: it may have ended by itself."""
        try:
            psycopg.connect(f"host={self._folder} user=kwbp dbname=postgres").close()
        except psycopg.OperationalError:
            return False
        return True

    def kill(self) -> None:
        """End the server as a crash does: no checkpoint, every connection cut."""
        self._run("pg_ctl", "-D", self._data, "-w", "-m", "immediate", "-s", "stop")

    def stop(self) -> None:
        """End it for good."""
        if (self._data / "postmaster.pid").exists():
            self._run("pg_ctl", "-D", self._data, "-w", "-m", "immediate", "-s", "stop", check=False)
        shutil.rmtree(self._folder, ignore_errors=True)

    def _execute(self, statement: str) -> None:
        with psycopg.connect(f"host={self._folder} user=kwbp dbname=postgres", autocommit=True) as db:
            db.execute(statement.encode())

    def _run(self, tool: str, *arguments: str | Path, check: bool = True) -> None:
        command: Sequence[str | Path] = [find_tool(tool), *arguments]
        # pg_ctl's server inherits what it writes to: no pipe, which would never end.
        with (self._folder / f"{tool}.out").open("wb") as output:
            done = subprocess.run(
                command,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                check=False,
                cwd=self._folder,
                user=_server_user() if os.geteuid() == 0 else None,
                extra_groups=[] if os.geteuid() == 0 else None,
                env={"PATH": os.environ["PATH"], "LC_ALL": "C.UTF-8", "TZ": "UTC"},
            )
        if check and done.returncode != 0:
            raise RuntimeError(f"{tool} failed: {(self._folder / f'{tool}.out').read_text('utf-8', 'replace')}")


def _server_user() -> str:
    users = {user.pw_name for user in pwd.getpwall()}
    return next(name for name in _UNPRIVILEGED if name in users)
