"""The simulated registers as a process, and as a part of a test.

db/registers.sqlite        people, companies, accounts; what was asked and sent
tls/registers.key, .pem    the service's TLS identity, made by the ceremony
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from registers.app import create_app
from registers.book import Book
from registers.faults import FaultPlan
from runtime import server
from runtime.client import TlsFiles
from runtime.database import open_database
from runtime.settings import Home, Settings


def database_path(home: Home) -> Path:
    """The registers' SQLite file."""
    return home.db / "registers.sqlite"


def run(home: Home, settings: Settings) -> None:
    """Serve until SIGTERM or SIGINT. :raises OSError: the address is not to be had."""
    engine = open_database(database_path(home))
    book = Book(engine)
    book.seed()
    endpoint = settings.registers
    try:
        server.serve(
            create_app(book, FaultPlan()),
            host=endpoint.host,
            port=endpoint.port,
            tls=home.tls_files("registers"),
        )
    finally:
        engine.dispose()


@dataclass(frozen=True, slots=True)
class RunningRegisters:
    """Registers inside this process: where they listen, what they know, their faults."""

    url: str
    book: Book
    faults: FaultPlan


@contextmanager
def running(database: Path, tls: TlsFiles) -> Iterator[RunningRegisters]:
    """Run registers in a background thread, on a free port of the loopback, without seeds."""
    engine = open_database(database)
    book, faults = Book(engine), FaultPlan()
    try:
        with server.start(create_app(book, faults), tls=tls) as url:
            yield RunningRegisters(url, book, faults)
    finally:
        engine.dispose()
