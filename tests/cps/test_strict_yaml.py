"""The reader of documents that decide about trust: libyaml under it makes of a text what Python's reader does."""

from __future__ import annotations

import importlib
import re
from importlib.resources import files
from typing import Any

import pytest
import yaml
from hypothesis import example, given, settings
from hypothesis import strategies as st

from cps import strict_yaml
from cps.strict_yaml import load

_OWN = [
    *(each for each in files("cps").iterdir() if each.name.endswith(".yaml")),
    *(each for each in files("cps.packs").iterdir() if each.name.endswith(".yaml")),
    *(
        text
        for folder in files("cps.packs").iterdir()
        if folder.name.endswith(".texts")
        for text in folder.iterdir()
        if text.name.endswith(".yaml")
    ),
]


class _Slow(yaml.SafeLoader):
    """The reader in Python, with dates as text."""


_Slow.yaml_implicit_resolvers = {
    first: [each for each in resolvers if each[0] != "tag:yaml.org,2002:timestamp"]
    for first, resolvers in yaml.SafeLoader.yaml_implicit_resolvers.items()
}


def slowly(text: str) -> Any:
    return yaml.load(text, Loader=_Slow)  # noqa: S506  # a SafeLoader


@pytest.mark.parametrize("path", _OWN, ids=lambda path: path.name)
def test_our_documents_read_the_same(path: Any) -> None:
    text = path.read_text(encoding="utf-8")
    assert load(text) == slowly(text)


_PIECES = st.sampled_from(
    [*"ab0:-[]{},#\"'|>%?~ \n\t", ": ", "- ", "\n  ", "\n- ", "a: ", "b: ", "1.0", "0x1", "2026-01-01", "yes", "---",
     "...", "\\n", "\\x41", "\u0627", "\u2028", "\x85", "\ufeff", "''", '""', "|-\n", ">+\n", "# \n"]
)  # fmt: skip


@settings(max_examples=300)
@given(st.lists(_PIECES, max_size=14).map("".join))
@example("a: 'it''s'\nb: >-\n  two\n  lines\n")
@example("{a: 1, b: [x, y]}")
@example("a: 2026-01-01T00:00:00Z\nb: ~\n")
def test_what_both_read_they_read_the_same(text: str) -> None:
    try:
        ours, slow = load(text), slowly(text)
    except (ValueError, yaml.YAMLError):  # a tab at the end of a line is refused by one of them, and seen by nobody
        return
    assert repr(ours) == repr(slow)


@pytest.mark.parametrize("text", ["a: b\ufeffc", "a: b\n\ufeffc: d", "\ufeff\ufeffa: b"])
def test_a_byte_order_mark_that_nobody_sees_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="byte order mark"):
        load(text)
    with pytest.raises(ValueError, match="byte order mark"):
        load(text.encode())


def test_one_at_the_beginning_says_nothing() -> None:
    assert load("\ufeffa: b") == load("\ufeffa: b".encode()) == {"a": "b"}


@pytest.mark.parametrize(
    ("text", "name"),
    [
        ("a: 1\n# said in a comment\u2028b: 2\n", "LINE SEPARATOR"),
        ("a: 1\n# said in a comment\u2029b: 2\n", "PARAGRAPH SEPARATOR"),
        ("a: 1\n# said in a comment\x85b: 2\n", "U+0085"),
        ("a: 1\n# said in a comment\rb: 2\n", "U+000D"),
        ("a: 1\nb: \u202etlaf\n", "RIGHT-TO-LEFT OVERRIDE"),
    ],
)
def test_what_shows_something_else_than_is_read_is_refused(text: str, name: str) -> None:
    with pytest.raises(ValueError, match=f"{re.escape(name)} .* line 2$"):
        load(text)


def test_lines_may_end_as_on_windows() -> None:
    assert load("a: 1\r\nb: 2\r\n") == {"a": 1, "b": 2}


@pytest.mark.parametrize(
    "bad", ["b: *x", "b: !x y", "b: !!str y", "b: " + "[" * 33 + "]" * 33, "a: 2", "2: 3", "b: {<<: {c: 1}}"]
)
def test_a_refusal_names_the_line(bad: str) -> None:
    with pytest.raises(ValueError, match="line 2"):
        load(f"a: &x 1\n{bad}\n")


@pytest.mark.parametrize("number", ["9" * 5000, "1" + ":59" * 20_000 + ".5"])
def test_a_number_beyond_all_numbers_is_refused_like_everything_else(number: str) -> None:
    with pytest.raises(ValueError, match="not YAML as we read it"):
        load(f"a: {number}\n")


def test_without_libyaml_the_reader_says_what_is_missing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(yaml, "__with_libyaml__", False)
    with pytest.raises(ImportError, match="install a PyYAML that was built with it"):
        importlib.reload(strict_yaml)
