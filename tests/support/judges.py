"""The judges: `openssl` and `certtool` as installed, run with fixed arguments and never through a shell."""

from __future__ import annotations

import os
import shutil
import subprocess
from datetime import datetime
from functools import lru_cache
from pathlib import Path
from typing import Final

TIMEOUT: Final = 60


def run(*command: str | Path, stdin: bytes = b"") -> subprocess.CompletedProcess[bytes]:
    """Run a tool and return what it said; the caller judges the exit code."""
    return subprocess.run(
        [str(part) for part in command], input=stdin, capture_output=True, check=False, timeout=TIMEOUT
    )


def openssl(*arguments: str | Path, stdin: bytes = b"") -> bytes:
    """Run `openssl`, which must succeed; returns its standard output."""
    done = run("openssl", *arguments, stdin=stdin)
    assert done.returncode == 0, done.stderr.decode(errors="replace")
    return done.stdout


def openssl_accepts(*arguments: str | Path, stdin: bytes = b"") -> bool:
    """Whether `openssl` with these arguments exits with success."""
    return run("openssl", *arguments, stdin=stdin).returncode == 0


def certtool(*arguments: str | Path, stdin: bytes = b"") -> bytes:
    """Run GnuTLS `certtool`, which must succeed; returns standard output and error together."""
    done = run("certtool", *arguments, stdin=stdin)
    assert done.returncode == 0, (done.stdout + done.stderr).decode(errors="replace")
    return done.stdout + done.stderr


def certtool_accepts(*arguments: str | Path, stdin: bytes = b"") -> bool:
    """Whether `certtool` with these arguments exits with success."""
    return run("certtool", *arguments, stdin=stdin).returncode == 0


def trusting_machine(root: Path, folder: Path) -> dict[str, str]:
    """The environment of a machine whose OpenSSL trusts a root (PEM) unasked; `folder` is made for it."""
    folder.mkdir()
    name = openssl("x509", "-in", root, "-noout", "-hash").decode("ascii").strip()
    shutil.copyfile(root, folder / f"{name}.0")
    return {**os.environ, "SSL_CERT_FILE": str(root), "SSL_CERT_DIR": str(folder)}


@lru_cache(maxsize=1)
def openssl_version() -> tuple[int, ...]:
    """Version of the `openssl` command, e.g. (3, 0, 19)."""
    words = openssl("version").decode("ascii").split()
    return tuple(int(part) for part in words[1].split("-")[0].split("."))


def attime(moment: datetime) -> tuple[str, str]:
    """OpenSSL's `-attime` for an aware datetime."""
    return "-attime", str(int(moment.timestamp()))
