"""YAML for documents that decide about trust: what people read is what is loaded.

Duplicate keys, aliases, merge keys, keys that are not text, tags, and nesting without end are refused; dates stay text.
"""

from __future__ import annotations

from collections.abc import Hashable
from typing import Any, Final

import yaml

_MAX_DEPTH: Final = 32
_STR: Final = "tag:yaml.org,2002:str"


class _StrictLoader(yaml.SafeLoader):
    _depth = 0

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
        if getattr(self.peek_event(), "tag", None) is not None:  # type: ignore[no-untyped-call]  # not in its stubs
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
        return yaml.load(text, Loader=_StrictLoader)  # noqa: S506  # a SafeLoader, made stricter
    except (yaml.YAMLError, ValueError) as error:
        # A ValueError is an impossible number or byte.
        raise ValueError(f"not YAML as we read it: {error}") from None
