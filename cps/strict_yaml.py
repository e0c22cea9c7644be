"""YAML for documents that decide about trust: what people read is what is loaded.

Duplicate keys, aliases, merge keys, keys that are not text, tags, and nesting without end are refused; dates stay text.
libyaml finds the marks in the text, eight times as fast as Python would: a statement is read at every start. What may
follow what is decided here, one mark after the other, before a tree is made of it.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Hashable
from typing import Any, Final

import yaml

if not yaml.__with_libyaml__:
    raise ImportError("statements are read with libyaml: install a PyYAML that was built with it, as the wheels are")

from yaml._yaml import CParser
from yaml.composer import Composer
from yaml.constructor import SafeConstructor
from yaml.resolver import Resolver

_MAX_DEPTH: Final = 32
_HIDDEN: Final = re.compile("\r(?!\n)|[\x85\u2028\u2029\u202d\u202e]")
"""Ends a line for YAML where most editors show none, so that a comment hides a key; or shows text in another order."""
_STR: Final = "tag:yaml.org,2002:str"


class _StrictLoader(Composer, CParser, SafeConstructor, Resolver):
    """The composer comes first: the one of libyaml makes the whole tree unasked, aliases and all."""

    _depth = 0

    def __init__(self, text: str) -> None:
        CParser.__init__(self, text)
        Composer.__init__(self)
        SafeConstructor.__init__(self)
        Resolver.__init__(self)

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Hashable, Any]:
        seen: set[str] = set()
        for key, _value in node.value:
            if key.tag != _STR:
                raise yaml.constructor.ConstructorError(None, None, "a key is not text", key.start_mark)
            if key.value in seen:
                raise yaml.constructor.ConstructorError(None, None, "a key stands twice", key.start_mark)
            seen.add(key.value)
        return super().construct_mapping(node, deep)

    def compose_node(self, parent: yaml.Node | None, index: int) -> yaml.Node | None:
        if self.check_event(yaml.AliasEvent):
            raise self._refused("an alias is not allowed")
        if getattr(self.peek_event(), "tag", None) is not None:
            raise self._refused("a tag is not allowed")
        if self._depth == _MAX_DEPTH:
            raise self._refused(f"more than {_MAX_DEPTH} levels")
        self._depth += 1
        node = super().compose_node(parent, index)
        self._depth -= 1
        return node

    def _refused(self, why: str) -> yaml.composer.ComposerError:
        mark: Any = getattr(self.peek_event(), "start_mark", None)
        return yaml.composer.ComposerError(None, None, why, mark)


_StrictLoader.yaml_implicit_resolvers = {
    first: [(tag, pattern) for tag, pattern in resolvers if tag != "tag:yaml.org,2002:timestamp"]
    for first, resolvers in yaml.SafeLoader.yaml_implicit_resolvers.items()
}


def _name(character: str) -> str:
    return unicodedata.name(character, f"U+{ord(character):04X}")


def load(text: str | bytes) -> Any:
    """The one document in `text` (UTF-8); raises ValueError with the place and the rule that it breaks."""
    try:
        plain = text if isinstance(text, str) else text.decode("utf-8")
        if "\ufeff" in plain[1:]:  # nobody sees it, and readers of YAML disagree about it
            raise ValueError("a byte order mark is not at the beginning")
        hidden = _HIDDEN.search(plain)
        if hidden is not None:
            line = plain.count("\n", 0, hidden.start()) + 1
            raise ValueError(f"{_name(hidden.group())} shows something else than is read, line {line}")
        return _StrictLoader(plain).get_single_data()
    except (yaml.YAMLError, ValueError, OverflowError) as error:
        # The others are impossible numbers or bytes.
        raise ValueError(f"not YAML as we read it: {error}") from None
