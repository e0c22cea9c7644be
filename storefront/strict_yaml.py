"""YAML in which a text means one thing: no key twice, no alias, whole numbers in decimal only, no nesting without end.

YAML 1.1 reads `010` as 8 and `1:30` as 90, and of two equal keys the last one wins in silence. In a file of prices or
of sentences that people act upon, none of these is ever meant.
"""

from __future__ import annotations

import re
from typing import Any, Final

import yaml

_DECIMAL: Final = re.compile(r"0|[1-9][0-9]*(_[0-9]{3})*")
_INTEGER: Final = "tag:yaml.org,2002:int"
_MAX_DEPTH: Final = 32


class _Loader(yaml.SafeLoader):
    _depth = 0

    def compose_node(self, parent: yaml.Node | None, index: Any) -> yaml.Node | None:
        if self.check_event(yaml.AliasEvent):
            raise _refused("an alias is not allowed here", parent)
        if self._depth == _MAX_DEPTH:
            raise _refused(f"more than {_MAX_DEPTH} levels", parent)
        self._depth += 1
        node = super().compose_node(parent, index)
        self._depth -= 1
        return node

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        seen = set()
        for key, _ in node.value:
            if not isinstance(key, yaml.ScalarNode):
                raise _refused("a key is not one value", key)
            if key.value in seen:
                raise _refused(f"the key {key.value} is there twice", key)
            seen.add(key.value)
        return super().construct_mapping(node, deep)

    def construct_yaml_int(self, node: yaml.ScalarNode) -> int:
        text = self.construct_scalar(node)
        if _DECIMAL.fullmatch(text) is None:
            raise _refused(f"{text} is not a decimal number", node)
        return int(text.replace("_", ""))


def _refused(what: str, node: yaml.Node | None) -> yaml.YAMLError:
    return yaml.constructor.ConstructorError(None, None, what, node.start_mark if node is not None else None)


_Loader.add_constructor(_INTEGER, _Loader.construct_yaml_int)


def load(text: str) -> Any:
    """The document in `text`; raises yaml.YAMLError."""
    try:
        return yaml.load(text, _Loader)  # noqa: S506  # a SafeLoader, made stricter
    except ValueError as error:  # an impossible date or number
        raise _refused(str(error), None) from None
