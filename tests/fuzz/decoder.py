"""What the fuzzer knows of a reader of bytes from outside."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final, Literal

CORPUS: Final = Path(__file__).parent / "corpus"
"""Kept inputs, a folder a reader: honest ones and what was found, by names that say what they are."""


@dataclass(frozen=True)
class Decoder:
    """One reader.

    `refusals` are the exceptions it documents; any other is a fault. `encode` writes what was read, which must give the
    same bytes; None where there is nothing to write with. `statement` is what two readings must agree on. `covers` are
    the functions that it runs, `module:name`. `memory` (bytes) and `calls` come on top of what all may use, with the
    reason beside them where they are set. `live` are honest inputs made anew in each run, for readers that judge
    certificates, which do not last.
    """

    name: str
    decode: Callable[[bytes], Any]
    refusals: tuple[type[Exception], ...]
    covers: tuple[str, ...] = ()
    encode: Callable[[Any], bytes] | None = None
    statement: Callable[[Any], Any] = repr
    kind: Literal["der", "text", "frames"] = "der"
    memory: int = 0
    calls: int = 0
    live: Callable[[], Sequence[bytes]] | None = field(default=None, compare=False)

    @property
    def folder(self) -> Path:
        """Where its inputs are kept."""
        return CORPUS / self.name

    def seeds(self) -> list[bytes]:
        """Every kept input, in the order of the names, and the live ones."""
        kept = [path.read_bytes() for path in sorted(self.folder.glob("*"))]
        return kept + list(self.live() if self.live is not None else ())
