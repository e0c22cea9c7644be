"""YAML of tables, read with libyaml: dialects are read at every start, and Python alone takes six times as long.

libyaml finds the marks; the tree is made of them in Python, as by `yaml.safe_load`: libyaml's own composer would end
the process where a text nests without end.
"""

from __future__ import annotations

from typing import Any

import yaml
from yaml._yaml import CParser
from yaml.composer import Composer
from yaml.constructor import SafeConstructor
from yaml.resolver import Resolver


class _Loader(Composer, CParser, SafeConstructor, Resolver):
    def __init__(self, text: str) -> None:
        CParser.__init__(self, text)
        Composer.__init__(self)
        SafeConstructor.__init__(self)
        Resolver.__init__(self)


def load(text: str) -> Any:
    """The one document in `text`; raises yaml.YAMLError."""
    return yaml.load(text, _Loader)  # type: ignore[arg-type]  # noqa: S506  # a SafeLoader of these parts
