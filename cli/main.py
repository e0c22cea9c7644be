"""The `kwbp` command: the one place that puts the packages together.

A command module is imported only when it is called: a script of many commands should not pay for all of them each time.
"""

from __future__ import annotations

import gc
import sys
from dataclasses import dataclass
from importlib import import_module
from typing import Annotated, Final

import httpx
import typer

from cli import output
from cli.state import HomeOption, select
from runtime.language import Language, Message, Text
from runtime.problems import Problem
from runtime.secrets import SecretFileError
from runtime.settings import SettingsError


@dataclass(frozen=True, slots=True)
class _Command:
    """A command or group of commands: `module`.`name` is a function, or a typer application called `app`."""

    panel: str
    module: str
    function: str | None = None


COMMANDS: Final = {
    "init": _Command("Set up", "cli.init", "init"),
    "officer": _Command("Set up", "cli.officer"),
    "ceremony": _Command("Set up", "cli.ceremony"),
    "serve": _Command("Run", "cli.serve", "serve"),
    "status": _Command("Run", "cli.serve", "status"),
    "token": _Command("Run", "cli.token"),
    "key": _Command("Run", "cli.key"),
    "witness": _Command("Run", "cli.witness"),
    "gateway": _Command("Run", "cli.gateway"),
    "merchant": _Command("Run", "cli.merchant"),
    "ra": _Command("Enrol members", "cli.ra"),
    "ca": _Command("Enrol members", "cli.ca"),
    "explain": _Command("Enrol members", "cli.explain", "explain"),
    "registers": _Command("Enrol members", "cli.registers"),
    "bank": _Command("Pay", "cli.bank"),
    "wallet": _Command("Pay", "cli.wallet"),
    "self-audit": _Command("Judge", "cli.self_audit", "self_audit"),
    "evidence": _Command("Judge", "cli.evidence"),
    "audit": _Command("Judge", "cli.audit"),
    "cps": _Command("Judge", "cli.cps"),
    "iso8583": _Command("Judge", "cli.iso8583"),
}

# Errors that a person can do something about, by the module that raises them; looked up only once something failed.
_FORESEEN: Final = {
    ("audit.verify", "AuditError"),
    ("ca.errors", "CaError"),
    ("cps.errors", "CpsError"),
    ("gateway_keys.errors", "GatewayKeysError"),
    ("hsm_service.errors", "HsmError"),
    ("pki.errors", "TimestampError"),
    ("ra.errors", "RaError"),
    ("storefront.errors", "StorefrontError"),
    ("switch.errors", "BankError"),
    ("switch.errors", "KeyFileError"),
}

_GARBAGE: Final = (20_000, 10, 10)
"""When cycles are looked for: objects of each generation. Nearly everything here is freed without; Python's own 700
would have a busy service look some thirty times a payment, for 2 to 4 % of its time."""

_NOT_RUNNING: Final = Message(
    "Does it run? {status} shows it, {serve} starts the services; each has its log in log/.",
    status="'kwbp status'",
    serve="'kwbp serve'",
)

# What helps against a problem, by its type.
_HINTS: Final = {
    "hsm-unreachable": _NOT_RUNNING,
    "ca-unreachable": _NOT_RUNNING,
    "ra-unreachable": _NOT_RUNNING,
    "key-not-found": Message("see {list} and {versions}", list="'kwbp key list'", versions="'kwbp key versions NAME'"),
    "template-unknown": Message(
        "templates are in {file}: {names} …",
        file="hsm_service/templates.yaml",
        names="merchant-signing, gateway-signing",
    ),
}


def start(
    home: HomeOption = None,
    json: Annotated[
        bool, typer.Option("--json", help="Answer with one JSON document on standard output; anywhere in the line.")
    ] = False,
    lang: Annotated[
        Language | None, typer.Option(help="Speak English or Persian; else what KWBP_LANG or the locale says.")
    ] = None,
) -> None:
    select(home)
    output.use_json(json)
    if lang is not None:
        output.use_language(lang)


def build(arguments: list[str]) -> typer.Typer:
    """The application with the command that `arguments` call, or with all of them if they call none."""
    app = typer.Typer(
        name="kwbp",
        no_args_is_help=True,
        pretty_exceptions_enable=False,
        add_completion=False,
        help="Hardware-backed PKI and payment signing for the KWBP card-payment protocol.\n\n"
        "A new installation: init → officer new-key → ceremony run → ceremony zone-keys → serve. "
        "Then enrol members (ra), pay (wallet) and judge (evidence). './scripts/demo' does all of it in two minutes.",
    )
    app.callback()(start)
    called = next((argument for argument in arguments if argument in COMMANDS), None)
    for name, command in COMMANDS.items():
        if called not in (None, name):
            continue
        module = import_module(command.module)
        if command.function is None:
            app.add_typer(module.app, name=name, rich_help_panel=command.panel)
        else:
            app.command(name, rich_help_panel=command.panel)(getattr(module, command.function))
    return app


def main() -> None:
    """Run the command; every foreseen error ends it with one sentence instead of a trace."""
    try:
        arguments = _json_first(sys.argv[1:])
        app = build(arguments)
        _collect_garbage_from_here_on()
        app(arguments, standalone_mode=True)
    except Problem as problem:
        _end(problem.text(output.language()), problem.document(), hint=_HINTS.get(problem.type))
    except (SecretFileError, SettingsError) as error:
        _end(str(error))
    except httpx.TransportError as error:
        _end(_not_reached(error), hint=_NOT_RUNNING)
    except OSError as error:
        if error.filename is None:
            raise
        _end(f"{error.filename}: {error.strerror}")
    except Exception as error:
        if not _foreseen(error):
            raise
        _end(output.said(error))


def _collect_garbage_from_here_on() -> None:
    """What was loaded until now stays, and need not be looked at again (see `cli.start`)."""
    if not gc.isenabled():
        gc.freeze()
        gc.set_threshold(*_GARBAGE)
        gc.enable()


def _json_first(arguments: list[str]) -> list[str]:
    """The arguments with `--json` in front, where it belongs, wherever before `--` it was written."""
    end = arguments.index("--") if "--" in arguments else len(arguments)
    if "--json" not in arguments[:end]:
        return arguments
    return ["--json", *(each for each in arguments[:end] if each != "--json"), *arguments[end:]]


def _not_reached(error: httpx.TransportError) -> str:
    try:
        url = str(error.request.url.copy_with(path="/", query=None))
    except RuntimeError:  # it failed before there was a request
        url = ""
    return output.said(Message("the service at {url} does not answer: {fault}", url=url, fault=str(error)))


def _foreseen(error: Exception) -> bool:
    return any((cls.__module__, cls.__name__) in _FORESEEN for cls in type(error).__mro__)


def _end(text: str, document: dict[str, object] | None = None, hint: Text | None = None) -> None:
    try:
        output.fail(text, document=document, hint=hint)
    except typer.Exit as end:
        sys.exit(end.exit_code)
