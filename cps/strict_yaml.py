"""YAML for documents that decide about trust: what people read is what is loaded.

Duplicate keys, aliases, merge keys, keys that are not text, tags, and nesting without end are refused; dates stay text.
libyaml finds the marks in the text, eight times as fast as Python would: a statement is read at every start. What may
follow what is decided here, one mark after the other, before a tree is made of it.
"""

from __future__ import annotations

from collections.abc import Hashable
from typing import Any, Final

import yaml
from yaml._yaml import CParser
from yaml.composer import Composer
from yaml.constructor import SafeConstructor
from yaml.resolver import Resolver

_MAX_DEPTH: Final = 32
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
        keys = [key.value for key, _value in node.value if key.tag == _STR]
        if len(keys) != len(node.value):
            raise yaml.constructor.ConstructorError(None, None, "a key is not text", node.start_mark)
        if len(set(keys)) != len(keys):
            raise yaml.constructor.ConstructorError(None, None, "a key stands twice", node.start_mark)
        return super().construct_mapping(node, deep)

    def compose_node(self, parent: yaml.Node | None, index: int) -> yaml.Node | None:
        if self.check_event(yaml.AliasEvent):
            raise yaml.composer.ComposerError(None, None, "an alias is not allowed", None)
        if getattr(self.peek_event(), "tag", None) is not None:
            raise yaml.composer.ComposerError(None, None, "a tag is not allowed", None)
        if self._depth == _MAX_DEPTH:
            raise yaml.composer.ComposerError(None, None, f"more than {_MAX_DEPTH} levels", None)
        self._depth += 1
        node = super().compose_node(parent, index)
        self._depth -= 1
        return node


_StrictLoader.yaml_implicit_resolvers = {
    first: [(tag, pattern) for tag, pattern in resolvers if tag != "tag:yaml.org,2002:timestamp"]
    for first, resolvers in yaml.SafeLoader.yaml_implicit_resolvers.items()
}


def load(text: str | bytes) -> Any:
    """The one document in `text` (UTF-8); raises ValueError with the place and the rule that it breaks."""
    try:
        plain = text if isinstance(text, str) else text.decode("utf-8")
        if "\ufeff" in plain[1:]:  # nobody sees it, and readers of YAML disagree about it
            raise ValueError("a byte order mark is not at the beginning")
        return _StrictLoader(plain).get_single_data()
    except (yaml.YAMLError, ValueError) as error:
        # A ValueError is an impossible number or byte.
        raise ValueError(f"not YAML as we read it: {error}") from None
