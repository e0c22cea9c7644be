"""The `kwbp` command: the one place that puts the packages together."""

from __future__ import annotations

import sys
from typing import Annotated

import typer

from ca.errors import CaError
from cli import ceremony, officer, output
from cli.init import init
from cli.state import HomeOption, select
from hsm_service.errors import HsmError
from runtime import logging
from runtime.problems import Problem
from runtime.secrets import SecretFileError
from runtime.settings import SettingsError
from storefront.errors import StorefrontError

SET_UP = "Set up"
RUN = "Run"
ENROL = "Enrol members"
PAY = "Pay"
JUDGE = "Judge"

app = typer.Typer(
    name="kwbp",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    add_completion=False,
    help="Hardware-backed PKI and payment signing for the KWBP card-payment protocol.\n\n"
    "A new installation: init → officer new-key → ceremony run → ceremony zone-keys → serve. "
    "Then enrol members (ra), pay (wallet) and judge (evidence). './scripts/demo' does all of it in two minutes.",
)


@app.callback()
def start(
    home: HomeOption = None,
    json: Annotated[bool, typer.Option("--json", help="Answer with one JSON document on standard output.")] = False,
) -> None:
    select(home)
    output.use_json(json)
    logging.configure("kwbp", level="WARNING")


app.command(rich_help_panel=SET_UP)(init)
app.add_typer(officer.app, name="officer", rich_help_panel=SET_UP)
app.add_typer(ceremony.app, name="ceremony", rich_help_panel=SET_UP)


def main() -> None:
    """Run the command; every foreseen error ends it with one sentence instead of a trace."""
    try:
        app(standalone_mode=True)
    except Problem as problem:
        _end(str(problem), problem.document())
    except (CaError, HsmError, SecretFileError, SettingsError, StorefrontError) as error:
        _end(str(error))


def _end(text: str, document: dict[str, object] | None = None) -> None:
    try:
        output.fail(text, document=document)
    except typer.Exit as end:
        sys.exit(end.exit_code)
