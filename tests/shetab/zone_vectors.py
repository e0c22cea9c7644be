"""The vectors of `data/zone_vectors.yaml`, for the software here and for tokens (`tests/gateway_keys`)."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Final

import yaml

VECTORS: Final[dict[str, list[dict[str, Any]]]] = yaml.safe_load(
    (Path(__file__).parent / "data" / "zone_vectors.yaml").read_text("utf-8")
)


def of(name: str) -> list[dict[str, Any]]:
    """The rows called `name`; hexadecimal values as bytes."""
    text = {"pin", "pan", "padding"}
    return [
        {key: value if key in text else bytes.fromhex(value) for key, value in row.items()} for row in VECTORS[name]
    ]
