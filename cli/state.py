"""What every command needs: the installation's home and its settings."""

from __future__ import annotations

from functools import cached_property
from pathlib import Path
from typing import Annotated

import httpx
import typer

from cli import output
from runtime.client import TlsFiles, http_client
from runtime.settings import Home, Settings

HomeOption = Annotated[
    Path | None,
    typer.Option("--home", envvar="KWBP_HOME", help="Folder of the installation.", show_default="var/kwbp"),
]


class Installation:
    """One installation as the commands see it."""

    def __init__(self, home: Home) -> None:
        self.home = home

    @cached_property
    def settings(self) -> Settings:
        return Settings.load(self.home)

    def tls(self, name: str) -> TlsFiles:
        """The TLS identity `name`; ends the command if it has not been made yet."""
        files = self.home.tls_files(name)
        if not files.certificate.exists():
            output.fail(
                f"there is no TLS certificate for {name} in {self.home.tls}",
                hint="it is issued by the ceremony or on enrolment: see 'kwbp ceremony --help' and 'kwbp ra --help'",
            )
        return files

    def client(self, url: str, identity: str = "operator") -> httpx.Client:
        """A client for one of the services, as `identity`; what it refuses is told in the reader's language."""
        tls = self.tls(identity) if url.startswith("https") else None
        return http_client(tls, url, language=output.language())


_current: list[Installation] = []


def select(home: Path | None) -> None:
    """Remember which installation this run of the command is about."""
    _current[:] = [Installation(Home.find(home))]


def installation() -> Installation:
    """The installation of this run."""
    return _current[0]


def existing() -> Installation:
    """The installation of this run, which must have been made by `kwbp init`."""
    found = installation()
    if not found.home.config.exists():
        output.fail(f"{found.home.path} is not an installation", hint="make one with 'kwbp init'")
    return found
