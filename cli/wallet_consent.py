"""The buyer's consent: what will be signed is shown, and typing the card's secrets after it signs it.

From "pay" to signed a person does three things: give the command, unlock the wallet, and type PIN2 and CVV2 once they
have read what they sign. Until they do, the wallet stands open on the screen, so it does not wait for ever. A one-time
password takes one more: it is for what they have read, so their bank is asked for it only once they say so.
"""

from __future__ import annotations

import signal
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType
from typing import Annotated, Final, NoReturn

import typer

from cli import output
from cli.bank import read_card
from cli.typed import hidden
from cli.wallet_card import ASCII_DIGITS
from shetab.errors import ValueFormatError
from shetab.types import Cvv2, Pin
from storefront.wallet import texts
from storefront.wallet.shown import Contents
from storefront.wallet.texts import Language

LockAfter = Annotated[
    float, typer.Option(min=0.1, help="Seconds after which the wallet locks itself while it waits for you to sign.")
]
LOCK_AFTER: Final = 180.0

_ATTEMPTS: Final = 3


def show(contents: Contents, heading: str, language: Language) -> None:
    """Print on standard error what is, or was, signed."""
    output.note(f"[bold]{texts.label(heading, language)}[/bold]")
    for line in contents.told(language):
        output.note(f"  {output.plain(line)}")


def consent(
    contents: Contents,
    language: Language,
    *,
    from_stdin: bool,
    yes: bool,
    lock_after: float,
    password: Callable[[], None] | None = None,
) -> tuple[Pin, Cvv2]:
    """Show what will be signed, and return the card's secrets, which are the consent. Ends the command without it.

    :param password: has the bank send a one-time password; called when the buyer has read what it is for.
    """
    show(contents, "will_be_signed", language)
    if password is not None:
        with _locked_after(lock_after, language):
            wanted = yes or typer.confirm(texts.label("send_password", language), err=True)
        if not wanted:
            output.fail(texts.label("not_signed", language))
        password()
    if from_stdin:
        card = read_card()
        if not yes and not typer.confirm(texts.label("consent", language), err=True):
            output.fail(texts.label("not_signed", language))
        return card.pin2, card.cvv2
    typed = None
    with _locked_after(lock_after, language):
        for _attempt in range(_ATTEMPTS):
            typed = typed or _secrets(language)
    if typed is None:
        output.fail(texts.label("not_signed", language))
    return typed


def _secrets(language: Language) -> tuple[Pin, Cvv2] | None:
    """PIN2 and CVV2 as they were typed; None if it was something else. Ends the command if it was nothing."""
    typed = _typed("type_to_sign", language)
    if not typed:
        output.fail(texts.label("not_signed", language))
    if len(typed) == 1:
        typed += _typed("cvv2", language)
    try:
        pin2, cvv2 = typed
        return Pin.parse(pin2), Cvv2.parse(cvv2)
    except (ValueError, ValueFormatError):  # what it was is nobody's affair: it may be card data
        return None


def _typed(label: str, language: Language) -> list[str]:
    return hidden(f"{texts.label(label, language)}: ").translate(ASCII_DIGITS).split()


class _NobodyAnswered(Exception):
    """The time to sign is over."""


@contextmanager
def _locked_after(seconds: float, language: Language) -> Iterator[None]:
    """End the command if the block takes longer: what was open in memory is gone with the process."""

    def over(_number: int, _frame: FrameType | None) -> NoReturn:
        raise _NobodyAnswered

    before = signal.signal(signal.SIGALRM, over)
    signal.setitimer(signal.ITIMER_REAL, seconds)
    try:
        yield
    except _NobodyAnswered:
        output.note("")
        output.fail(texts.label("locked", language))
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)
