"""The page as HTML, in English and Persian. Everything that comes from outside is escaped, at one place: `_e`."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import date
from functools import cache
from html import escape as _e
from importlib.resources import files
from typing import Final

import yaml

from runtime.language import Language, digits
from switch.faults import KINDS, Fault
from switch.overview import Overview
from switch.page.guard import FIELD, Session

_SETTABLE: Final = tuple(kind for kind in KINDS if kind != "alter")
"""Kinds that a form can say all of; "alter" names fields, which is for the API."""
_RTL: Final = {Language.EN: "ltr", Language.FA: "rtl"}


@cache
def texts(language: Language) -> Mapping[str, str]:
    """What the page says, by name."""
    table: dict[str, dict[str, str]] = yaml.load(
        files("switch.page").joinpath("texts.yaml").read_text("utf-8"), Loader=yaml.CSafeLoader
    )
    return table[language]


@dataclass(frozen=True, slots=True)
class Shown:
    """What is shown beside the overview."""

    faults: Sequence[Fault]
    business_day: date | None = None
    refused: str | None = None


def page(language: Language, session: Session | None, content: str) -> str:
    """The whole document around `content` (HTML)."""
    say = texts(language)
    other = Language.FA if language is Language.EN else Language.EN
    sign_out = (
        "" if session is None else _form("sign-out", session, f'<button class="plain">{_e(say["sign_out"])}</button>')
    )
    return (
        f'<!doctype html><html lang="{language}" dir="{_RTL[language]}"><head><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        f'<title>{_e(say["title"])}</title><link rel="stylesheet" href="style.css">'
        '<script src="script.js" defer></script></head><body>'
        f'<a class="skip" href="#content">{_e(say["skip"])}</a>'
        f"<header><h1>{_e(say['title'])}</h1>"
        f'<a href="?lang={other}" lang="{other}" hreflang="{other}">{_e(say["other_language"])}</a>{sign_out}</header>'
        f'<main id="content">{content}</main></body></html>'
    )


def sign_in(language: Language, *, wrong: bool) -> str:
    """The form that asks for the token."""
    say = texts(language)
    told = f'<p class="bad" role="alert">{_e(say["wrong_token"])}</p>' if wrong else ""
    return (
        f"<section><h2>{_e(say['sign_in'])}</h2>{told}"
        f'<form class="grid" method="post" action="sign-in?lang={language}">'
        f'<div><label for="token">{_e(say["token"])}</label><input id="token" name="token" type="password" '
        f'autocomplete="off" required aria-describedby="where"></div><button>{_e(say["sign_in"])}</button></form>'
        f'<p class="soft" id="where">{_e(say["token_where"])}</p></section>'
    )


def controls(language: Language, session: Session, shown: Shown) -> str:
    """The form that sets a fault, and the buttons."""
    say = texts(language)
    options = "".join(f'<option value="{kind}">{_e(say[f"fault_{kind}"])}</option>' for kind in _SETTABLE)
    fields = (
        f'<div><label for="kind">{_e(say["kind"])}</label><select id="kind" name="kind">{options}</select></div>'
        + _input(say, "mti", "0200", 'pattern="[0-9x]{4}" required dir="ltr"')
        + _input(say, "count", "1", 'type="number" min="1" max="1000000" required')
        + _input(say, "probability", "1", 'type="number" min="0.001" max="1" step="0.001" required')
        + _input(say, "seconds", "0", 'type="number" min="0" max="3600" step="0.1" required')
        + _input(say, "rc", "91", 'pattern="[0-9A-Z]{2}" required dir="ltr"')
        + _input(say, "card_digits", "", 'pattern="[0-9]{4}" dir="ltr"')
        + f'<button id="set-fault">{_e(say["set_fault"])}</button>'
    )
    told = f'<p class="bad" role="alert">{_e(say["refused"])} {_e(shown.refused)}</p>' if shown.refused else ""
    clear = _form("faults/clear", session, f'<button class="plain">{_e(say["clear_faults"])}</button>', language)
    lines = _form("lines/break", session, f'<button class="plain">{_e(say["break_lines"])}</button>', language)
    return (
        f"<section><h2>{_e(say['set_fault'])}</h2>{told}{_form('faults', session, fields, language, 'grid')}"
        f'<div class="row">{clear}{lines}</div></section>'
    )


def live(language: Language, overview: Overview, shown: Shown) -> str:
    """What changes by itself."""
    say = texts(language)
    totals, balanced = overview.ledger()
    state = ("good", say["balanced"]) if balanced else ("bad", say["unbalanced"])
    return "".join(
        (
            f'<section><p class="{state[0]}" role="status">{_e(state[1])} '
            f'<span class="soft">{_e(say["business_day"])}: {_code(shown.business_day)}</span></p></section>',
            _faults(say, language, shown.faults),
            _table(
                say,
                "lines",
                ("peer", "institution"),
                [(_code(each.peer), _code(each.institution) if each.institution else _e(say["nobody"]))
                 for each in overview.lines()],
            ),
            _table(
                say,
                "keys",
                ("institution", "key", "index", "state", "check_value"),
                [(_code(each.institution), _code(each.kind), _number(each.index, language), _e(each.state),
                  _code(each.check_value)) for each in overview.zone_keys()],
            ),
            _table(
                say,
                "ledger",
                ("kind", "number", "balance", "entries"),
                [(_e(each.kind), _number(each.accounts, language), _number(each.balance, language),
                  _number(each.entries, language)) for each in totals],
            ),
            _table(
                say,
                "transactions",
                ("kind", "state", "rc", "amount", "card", "merchant", "terminal", "stan", "rrn"),
                [(_e(each.kind), _e(each.state), _code(each.rc), _number(each.amount, language),
                  _code(each.masked_pan), _code(each.merchant), _code(each.terminal), _code(each.stan),
                  _code(each.rrn)) for each in overview.transactions()],
            ),
            _table(
                say,
                "cards",
                ("card", "iban", "state", "tries"),
                [(_code(each.masked_pan), _code(each.iban), _e(each.state), _number(each.wrong_tries, language))
                 for each in overview.cards()],
            ),
            _table(
                say,
                "accounts",
                ("iban", "holder", "bank", "balance"),
                [(_code(each.iban), f"<span dir=auto>{_e(each.holder)}</span>", _e(each.bank),
                  _number(each.balance, language)) for each in overview.accounts()],
            ),
        )
    )  # fmt: skip


def _faults(say: Mapping[str, str], language: Language, faults: Sequence[Fault]) -> str:
    if not faults:
        return f'<section id="faults"><h2>{_e(say["faults"])}</h2><p class="soft">{_e(say["no_faults"])}</p></section>'
    rows = [
        (
            _code(each.kind),
            _code(each.mti),
            _number(each.count, language),
            _code(each.probability),
            _code(each.card or ""),
        )
        for each in faults
    ]
    return _table(say, "faults", ("kind", "mti", "count", "probability", "card_digits"), rows)


def _table(say: Mapping[str, str], name: str, columns: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    head = "".join(f'<th scope="col">{_e(say[each])}</th>' for each in columns)
    body = "".join("<tr>" + "".join(f"<td>{cell}</td>" for cell in row) + "</tr>" for row in rows)
    body = body or f'<tr><td class="soft" colspan="{len(columns)}">{_e(say["no_rows"])}</td></tr>'
    return (
        f'<section id="{name}" aria-labelledby="{name}-title"><h2 id="{name}-title">{_e(say[name])}</h2>'
        f"<table><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table></section>"
    )


def _form(action: str, session: Session, inner: str, language: Language | None = None, style: str = "") -> str:
    query = "" if language is None else f"?lang={language}"
    return (
        f'<form method="post" action="{action}{query}" class="{style}">'
        f'<input type="hidden" name="{FIELD}" value="{_e(session.form)}">{inner}</form>'
    )


def _input(say: Mapping[str, str], name: str, value: str, attributes: str) -> str:
    return (
        f'<div><label for="{name}">{_e(say[name])}</label>'
        f'<input id="{name}" name="{name}" value="{_e(value)}" {attributes}></div>'
    )


def _code(value: object) -> str:
    return f'<bdi dir="ltr">{_e(str(value))}</bdi>'


def _number(value: int, language: Language) -> str:
    text = f"{value:,}"
    return f'<bdi dir="ltr">{_e(digits(text) if language is Language.FA else text)}</bdi>'
