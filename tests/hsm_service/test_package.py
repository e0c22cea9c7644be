"""The package: its map names what is there."""

from __future__ import annotations

import re
from pathlib import Path

import hsm_service


def test_the_map_of_the_package_names_every_module_once() -> None:
    modules = {path.stem for path in Path(hsm_service.__file__).parent.glob("*.py")} - {"__init__"}
    rows = re.findall(r"^      (\S.*)$", hsm_service.__doc__ or "", re.MULTILINE)
    named = [word for row in rows for word in row.split("   ")[0].split()]
    assert sorted(word for word in named if word in modules) == sorted(modules)
