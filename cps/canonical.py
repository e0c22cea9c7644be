"""The canonical form of data: one JSON text for one value, so that its SHA-256 can be signed and recomputed.

Sorted keys, no white space, UTF-8 unescaped, no floating point in what we digest but the pack's warning marks. A file
that holds the canonical form has the digest that `sha256sum` prints.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable
from typing import Any, Final

_encoder: Final = json.JSONEncoder(ensure_ascii=False, sort_keys=True, separators=(",", ":"), allow_nan=False)


def canonical_json(value: Any) -> bytes:
    """The canonical UTF-8 JSON text of a value made of dict, list, str, int, bool and None."""
    return _encoder.encode(value).encode("utf-8")


def digest_of_set(values: Iterable[Any]) -> bytes:
    """SHA-256 (32 bytes) of the canonical form of the list of `values`, in the order of their own canonical forms."""
    return hashlib.sha256(b"[%b]" % b",".join(sorted(map(canonical_json, values)))).digest()


def digest(value: Any) -> bytes:
    """SHA-256 (32 bytes) of the canonical form."""
    return hashlib.sha256(canonical_json(value)).digest()
