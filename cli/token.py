"""`kwbp token`: the tokens themselves, on the machine that has them. Keys in them: `kwbp key`."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import Annotated

import typer

from cli import output, token_shares
from cli.keyfiles import passphrase_from
from cli.state import existing
from hsm_service.capabilities import Service
from hsm_service.pin_change import Settled, change_pin, set_pin, settle
from hsm_service.pin_sources import PinFile, PinShares
from hsm_service.pkcs11_module import Pkcs11Module, load_module
from hsm_service.token_source import TokenSource, token_labels, token_source
from hsm_service.token_state import READY, token_states
from hsm_service.tokens import Token
from runtime.secrets import Secret, SecretFileError, random_pin, read_secret

app = typer.Typer(
    help="The PKCS#11 tokens of this machine: how they stand, what they can do, their PINs.\n\n"
    "By default they are SoftHSM2 tokens made by 'kwbp init', each with a PIN file in the installation's secrets/. "
    "Another token takes the place of one by a section of kwbp.toml, a PKCS#11 URI (RFC 7512):\n\n"
    "    \\[tokens.ca]\n\n"
    '    uri = "pkcs11:token=ca?module-path=/opt/vendor/pkcs11.so&pin-source=credential:ca-pin"\n\n'
    "The module's path is absolute. The pin-source is file:/path (mode 0600), credential:NAME (systemd), fd:N (an "
    "inherited descriptor), prompt: (a person, in ceremonies) or shares: (several, each with a share of it). A PIN "
    "itself is never written into a URI.",
    no_args_is_help=True,
)
pin_app = typer.Typer(help="The user PIN of a token.", no_args_is_help=True)
token_shares.register(pin_app)
app.add_typer(pin_app, name="pin")

Label = Annotated[str, typer.Argument(help="Label of the token: see 'kwbp token list'.")]


@app.command("list")
def list_tokens() -> None:
    """Show the tokens and whether they are ready. Nothing is logged in to and no PIN is tried.

    Ends with 1 if a token is not ready.
    """
    found = existing()
    states = token_states(found.home, found.settings, token_labels(found.settings))
    output.table(
        "Tokens",
        ("Label", "State", "Model", "PIN from"),
        [(each.label, each.state, each.model, each.pin) for each in states],
        document=[asdict(each) for each in states],
    )
    if any(each.state != READY for each in states):
        raise typer.Exit(1)


@app.command()
def probe(label: Label) -> None:
    """Try what a token can do, and say which purposes it can serve and why not the others.

    Each ability is tried with throw-away keys and its result checked against independent software: a list of mechanisms
    promises too much. Logs in with the token's own PIN, once. For a new token: probe it before a ceremony makes keys in
    it; the services decide by the same findings.
    """
    with _module(label) as (module, source), Token.open(module, label, source.pin(), sessions=2) as token:
        capabilities, description = token.capabilities, module.description
    findings, services = capabilities.rows(), capabilities.purposes()
    if output.json_wanted():
        output.emit(
            {
                "token": label,
                "module": {"path": str(source.module), "description": description},
                "abilities": [asdict(each) for each in findings],
                "purposes": [{**asdict(each), "ok": each.ok} for each in services],
            }
        )
        return
    output.emit({}, [f"Token [bold]{output.plain(label)}[/bold] behind {output.plain(description)} ({source.module})"])
    output.table(
        "Abilities",
        ("Ability", "", "Why not, or how"),
        [(each.ability.value, _mark(each.ok), each.reason or each.variant) for each in findings],
    )
    output.table(
        "Purposes",
        ("Purpose", "", "With keys", "Why not"),
        [(each.purpose, _mark(each.ok), _with(each), each.reason) for each in services],
    )


@pin_app.command()
def change(
    label: Label,
    new_file: Annotated[
        Path | None, typer.Option(help="File of mode 0600 with the new PIN; without it the PIN is asked for twice.")
    ] = None,
    random: Annotated[bool, typer.Option("--random", help="Make a random new PIN that nobody sees.")] = False,
) -> None:
    """Change the PIN of a token, in the token and in its PIN file. No service needs a restart.

    The new PIN is first written beside the old one (FILE.new), then given to the token, then moved into its place: if
    the machine stops in between, 'kwbp token pin settle' finds out which of the two the token has. If the PIN comes
    from elsewhere (a systemd credential, a prompt), only the token is changed, and you put the new PIN there.
    """
    if new_file is not None and random:
        output.fail("the new PIN is either in a file or random")
    with _module(label) as (module, source):
        if not isinstance(source.pin, PinFile):
            if isinstance(source.pin, PinShares):
                output.fail(
                    f"the PIN of token {label} is in shares, which a new PIN would make void",
                    hint="put the PIN back first: 'kwbp token pin join-check --restore-file', and split the new one",
                )
            if random:
                output.fail(
                    f"the PIN of token {label} comes from {source.pin}, where a random one could not be put",
                    hint="give the new PIN with --new-file or type it in",
                )
            set_pin(module, label, source.pin(), _new_pin(label, new_file))
            lines = [
                f"Token {output.plain(label)} has the new PIN. Put it where {output.plain(source.pin)} comes from."
            ]
            output.emit({"token": label, "changed": True, "pin": str(source.pin)}, lines)
            return
        settled = settle(module, label, source.pin)
        if settled is not Settled.NOTHING:
            output.note(f"An earlier change was interrupted: {settled.value}.")
        change_pin(module, label, source.pin, random_pin() if random else _new_pin(label, new_file))
    output.emit(
        {"token": label, "changed": True, "pin": str(source.pin)},
        [f"Token {output.plain(label)} has the new PIN; it is in {output.plain(source.pin.path)}."],
    )


@pin_app.command("settle")
def settle_change(label: Label) -> None:
    """After an interrupted change: find out which PIN the token has, and keep that one.

    Tries the old PIN once and, if it is refused, the new one once; nothing at all if a wrong PIN could lock the token.
    """
    with _module(label) as (module, source):
        settled = settle(module, label, source.pin) if isinstance(source.pin, PinFile) else Settled.NOTHING
    output.emit({"token": label, "settled": settled.name.lower()}, [f"Token {output.plain(label)}: {settled.value}."])


@contextmanager
def _module(label: str) -> Iterator[tuple[Pkcs11Module, TokenSource]]:
    """The module that holds the token, loaded; finalised at the end."""
    found = existing()
    source = token_source(found.home, found.settings, label)
    module = load_module(source.module, source.configuration)
    try:
        yield module, source
    finally:
        module.finalize()


def _new_pin(label: str, file: Path | None) -> Secret:
    if file is None:
        return passphrase_from(None, f"New PIN of token {label}", confirm=True)
    try:
        return read_secret(file)
    except SecretFileError as error:
        output.fail(str(error))


def _with(service: Service) -> str:
    return ", ".join((*service.algorithms, *service.suites)) or "-"


def _mark(ok: bool) -> str:
    return "yes" if ok else "no"
