"""Every `kwbp` command that a guide names exists, with those options and no fewer arguments than it must have."""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Any, Final

import pytest
from typer.main import get_command

from cli.main import build

ROOT: Final = Path(__file__).parents[2]
GUIDES: Final = sorted([*(ROOT / "docs").glob("*.md"), *ROOT.glob("README*.md")])
_FENCE: Final = re.compile(r"^```(?:sh|console)?\n(.*?)^```", re.MULTILINE | re.DOTALL)
_INLINE: Final = re.compile(r"`(kwbp [^`]+)`")
_MORE: Final = frozenset({"…", "..."})
_END: Final = re.compile(r"^(?:[|;&<>)]|&&|\|\||\d?>)")


def commands_of(text: str) -> Iterator[list[str]]:
    """The words behind each `kwbp` of a guide: of its blocks of commands, and of its sentences."""
    for block in _FENCE.findall(text):
        for line in block.replace("\\\n", " ").splitlines():
            yield from _called(line)
    for inline in _INLINE.findall(_FENCE.sub("", text)):
        yield from _called(" ".join(inline.split()))


def _called(line: str) -> Iterator[list[str]]:
    for begin in re.finditer(r"(?:^|[\s(|;&])kwbp (?=[a-z-])", line):
        lexer = shlex.shlex(line[begin.end() :].replace("$(", " ("), posix=True, punctuation_chars=True)
        lexer.commenters = "#"
        lexer.whitespace_split = True
        words: list[str] = []
        try:
            for word in lexer:
                if _END.match(word):
                    break
                words.append(word)
        except ValueError:  # the quote was closed outside of what is a command here
            pass
        yield words


@cache
def _application() -> Any:
    return get_command(build([]))


def objection(words: list[str]) -> str | None:
    """What is wrong with a command of a guide; None if nothing is."""
    command, rest = _application(), [each for each in words if each != "--help"]
    options: dict[str, Any] = {}
    while True:
        for each in command.params:
            if each.param_type_name == "option":
                options |= dict.fromkeys((*each.opts, *each.secondary_opts), each)
        if not hasattr(command, "commands") or not rest:
            break
        word = rest.pop(0)
        if word.startswith("-"):
            if word.partition("=")[0] not in options:
                return f"no option {word}"
            if not options[word.partition("=")[0]].is_flag and "=" not in word:
                rest = rest[1:]
            continue
        if word in _MORE:
            return None
        found = command.commands.get(word)
        if found is None:
            # `kwbp gateway orders|order`, `kwbp ra NAME`: of several all must be there
            wanted = re.split(r"[|/]", word)
            if word.isupper() or (len(wanted) > 1 and all(each in command.commands for each in wanted)):
                return None
            return f"no command {word}"
        command = found
    arguments = 0
    while rest:
        word = rest.pop(0)
        if not word.startswith("-") or word == "-":
            arguments += word not in _MORE
            continue
        name = word.partition("=")[0]
        if name not in options:
            return f"no option {name}"
        if not options[name].is_flag and not options[name].count and "=" not in word:
            rest = rest[1:]
    most = sum(each.nargs if each.nargs > 0 else 1000 for each in command.params if each.param_type_name == "argument")
    if not hasattr(command, "commands") and arguments > most:
        return f"{arguments} arguments, of {most}"
    return None


@pytest.mark.parametrize("guide", GUIDES, ids=lambda path: path.name)
def test_every_command_of_a_guide_exists_with_those_options(guide: Path) -> None:
    wrong = [
        f"kwbp {' '.join(words)}: {why}"
        for words in commands_of(guide.read_text("utf-8"))
        if (why := objection(words)) is not None
    ]
    assert wrong == []


def test_guides_name_commands_at_all() -> None:
    found = [words for guide in GUIDES for words in commands_of(guide.read_text("utf-8"))]
    assert len(found) > 300


@pytest.mark.parametrize(
    ("line", "why"),
    [
        ("kwbp gateway orders --state unknown", None),
        ("kwbp --json gateway orders | jq .", None),
        ("kwbp gateway order XID --merchant M-1  # its life", None),
        ("kwbp gateway orderz", "no command orderz"),
        ("kwbp gateway orders --stat unknown", "no option --stat"),
        ("kwbp gateway order XID M-1", "2 arguments, of 1"),
        ("kwbp no-such-thing", "no command no-such-thing"),
    ],
)
def test_what_no_command_takes_is_found(line: str, why: str | None) -> None:
    (words,) = _called(line)
    assert objection(words) == why
