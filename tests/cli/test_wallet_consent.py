"""The moment of consent: what is typed after the contents were shown signs them; anything else signs nothing."""

from __future__ import annotations

import io
import os
import pty
import select
import signal
import subprocess
import sys
import termios
import time
from collections.abc import Callable
from datetime import UTC, datetime

import pytest
import typer

from cli import wallet_card
from cli.wallet_consent import consent
from storefront.wallet import texts
from storefront.wallet.shown import Contents, Line
from storefront.wallet.texts import Language

CONTENTS = Contents(
    xid=bytes(20),
    merchant="Bookshop [bold]",
    merchant_id="M-1",
    gateway_id="GW-1",
    lines=(Line("کتاب", 2, 1_500_000, 3_000_000),),
    total=3_000_000,
    ship_to=None,
    terms="Within three days.",
    deliver_by=None,
    not_after=datetime(2026, 3, 21, 12, tzinfo=UTC),
)

Typing = Callable[..., list[str]]


@pytest.fixture
def typing(monkeypatch: pytest.MonkeyPatch) -> Typing:
    """Somebody at the terminal who types these lines; returns the prompts."""

    def prepare(*lines: str) -> list[str]:
        left, asked = list(lines), []

        def answer(prompt: str) -> str:
            asked.append(prompt)
            return left.pop(0)

        monkeypatch.setattr("getpass.getpass", answer)
        return asked

    return prepare


def given(language: Language = Language.EN) -> tuple[str, str]:
    pin2, cvv2 = consent(CONTENTS, language, from_stdin=False, yes=False, lock_after=60)
    return pin2.reveal(), cvv2.reveal()


@pytest.mark.parametrize("language", Language)
def test_one_line_below_what_is_signed_is_the_consent(
    typing: Typing, language: Language, capsys: pytest.CaptureFixture[str]
) -> None:
    asked = typing("12345 321")
    assert given(language) == ("12345", "321")
    assert len(asked) == 1
    shown = capsys.readouterr().err
    assert texts.label("will_be_signed", language) in shown
    assert texts.amount(3_000_000, language) in shown
    assert "Bookshop [bold]" in shown  # as it is written: no value is markup


def test_persian_digits_are_digits(typing: Typing) -> None:
    typing("  ۱۲۳۴۵  ٣٢١ ")
    assert given() == ("12345", "321")


def test_whoever_types_pin2_alone_is_asked_for_cvv2(typing: Typing) -> None:
    asked = typing("12345", "321")
    assert given() == ("12345", "321")
    assert texts.label("cvv2", Language.EN) in asked[1]


def test_a_slip_of_the_finger_may_be_made_good(typing: Typing) -> None:
    typing("12 345 321", "x y", "12345 321")
    assert given() == ("12345", "321")


@pytest.mark.parametrize("lines", [("",), ("x", "y", "x", "y", "x", "y"), ("1 2", "1 2", "1 2")], ids=str)
def test_anything_else_signs_nothing_and_is_not_repeated(
    typing: Typing, lines: tuple[str, ...], capsys: pytest.CaptureFixture[str]
) -> None:
    typing(*lines)
    with pytest.raises(typer.Exit):
        given()
    said = capsys.readouterr()
    assert texts.label("not_signed", Language.EN) in said.err
    assert "1 2" not in said.out + said.err


def test_who_waits_too_long_finds_the_wallet_locked(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("getpass.getpass", lambda _prompt: time.sleep(30))
    before = signal.getsignal(signal.SIGALRM)
    with pytest.raises(typer.Exit):
        consent(CONTENTS, Language.FA, from_stdin=False, yes=False, lock_after=0.1)
    assert texts.label("locked", Language.FA) in capsys.readouterr().err
    assert signal.getsignal(signal.SIGALRM) is before
    assert signal.getitimer(signal.ITIMER_REAL) == (0.0, 0.0)


# The one-time password


@pytest.fixture
def answering(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Callable[..., list[str]]:
    """Somebody who answers yes or no, and types what they got; returns what happened, in its order."""

    def prepare(wanted: bool) -> list[str]:
        happened: list[str] = []

        def confirm(question: str, *, err: bool) -> bool:
            assert err
            assert texts.amount(3_000_000, Language.EN) in capsys.readouterr().err  # it was there to read before
            happened.append(question)
            return wanted

        def type_in(prompt: str) -> str:
            happened.append(prompt)
            return "12345 321"

        monkeypatch.setattr(typer, "confirm", confirm)
        monkeypatch.setattr("getpass.getpass", type_in)
        return happened

    return prepare


def test_the_bank_is_asked_for_a_password_once_the_buyer_has_read_what_it_is_for(
    answering: Callable[..., list[str]],
) -> None:
    happened = answering(True)
    consent(
        *(CONTENTS, Language.EN),
        from_stdin=False,
        yes=False,
        lock_after=60,
        password=lambda: happened.append("asked"),
    )
    assert happened == [
        texts.label("send_password", Language.EN),
        "asked",
        f"{texts.label('type_to_sign', Language.EN)}: ",
    ]


def test_no_password_is_asked_for_what_the_buyer_does_not_want(answering: Callable[..., list[str]]) -> None:
    happened = answering(False)
    with pytest.raises(typer.Exit):
        consent(
            *(CONTENTS, Language.EN),
            from_stdin=False,
            yes=False,
            lock_after=60,
            password=lambda: happened.append("asked"),
        )
    assert happened == [texts.label("send_password", Language.EN)]


# The terminal


class Screen:
    """`hidden` at a terminal of its own, in another process."""

    def __init__(self, *, terminal: bool = True) -> None:
        self.leader, follower = pty.openpty()
        self._follower = follower
        there = follower if terminal else subprocess.DEVNULL
        # What a shell starts in the background has SIGINT ignored, and under nohup SIGHUP; Python leaves it so.
        program = (
            "import signal; signal.signal(signal.SIGINT, signal.default_int_handler)\n"
            "signal.signal(signal.SIGHUP, signal.SIG_DFL)\n"
            "from cli.typed import hidden; hidden('Secret: ')"
        )
        self.process = subprocess.Popen(
            [sys.executable, "-c", program],
            stdin=there,
            stdout=follower,
            stderr=follower,
            start_new_session=True,
        )

    def read_until(self, text: str) -> None:
        seen = ""
        while text not in seen:
            assert select.select([self.leader], [], [], 60)[0], seen
            seen += os.read(self.leader, 4096).decode()

    @property
    def echoes(self) -> bool:
        return bool(termios.tcgetattr(self._follower)[3] & termios.ECHO)

    def close(self) -> None:
        os.close(self.leader)
        os.close(self._follower)


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGHUP, signal.SIGINT])
def test_a_command_that_is_ended_while_somebody_types_leaves_a_terminal_that_shows_what_is_typed(
    number: signal.Signals,
) -> None:
    screen = Screen()
    try:
        screen.read_until("Secret: ")
        assert not screen.echoes
        screen.process.send_signal(number)
        assert screen.process.wait(60) != 0
        assert screen.echoes
    finally:
        screen.close()


def test_where_nothing_hides_what_is_typed_nothing_is_read() -> None:
    screen = Screen(terminal=False)
    try:
        screen.read_until("there is no terminal")
        assert screen.process.wait(60) == 1
    finally:
        screen.close()


# What is typed of a card


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


@pytest.fixture
def at_a_terminal(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sys.stdin", Terminal())


@pytest.mark.usefixtures("at_a_terminal")
def test_a_card_is_typed_and_what_is_wrong_is_asked_for_again(
    typing: Typing, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    lines = iter(["6037 7010 0000 0008", "۶۰۳۷ ۷۰۱۰ ۰۰۰۰ ۰۰۰۷", "0912"])
    monkeypatch.setattr(typer, "prompt", lambda *_arguments, **_options: next(lines))
    pan, expiry = wallet_card.card_to_keep()
    assert (pan.reveal(), expiry.reveal()) == ("6037701000000007", "0912")
    typing("abc", "12345", "321")
    pin2, cvv2 = wallet_card.card_secrets()
    assert (pin2.reveal(), cvv2.reveal()) == ("12345", "321")
    assert "0008" not in "".join(capsys.readouterr())


def test_a_program_gives_the_card_as_json(monkeypatch: pytest.MonkeyPatch) -> None:
    text = '{"pan": "6037701000000007", "expiry": "0912", "cvv2": "321", "pin2": "12345"}'
    monkeypatch.setattr("sys.stdin", io.StringIO(text))
    assert wallet_card.card_to_keep()[0].reveal() == "6037701000000007"
    monkeypatch.setattr("sys.stdin", io.StringIO(text))
    assert wallet_card.card_secrets()[1].reveal() == "321"
