"""Write the honest part of the corpus: `python -m tests.fuzz.gather`. What is there already stays.

The structures of the protocol are taken from the honest messages of `tests.kwbp.catalogue`, as their readers meet them.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import fields, is_dataclass
from typing import Any, Final

from kwbp.structure import Structure
from pki import der
from tests.fuzz.decoder import CORPUS
from tests.fuzz.registry import decoders, honest

_MOST: Final = 2


def structures() -> dict[str, list[bytes]]:
    """Encoded honest values of every structure, the first few of each."""
    found: dict[str, list[bytes]] = {}
    original = der.decode

    def listening(cls: Any, data: bytes, **arguments: Any) -> Any:
        value = original(cls, data, **arguments)
        for each in _inside(value):
            kept = found.setdefault(f"structure.{type(each).__name__}", [])
            encoded = der.encode(each)
            if encoded not in kept and len(kept) < _MOST:
                kept.append(encoded)
        return value

    der.decode = listening  # type: ignore[assignment]
    try:
        from tests.fuzz.reading_protocol import catalogue

        for exchange in catalogue().exchanges.values():
            exchange.check(exchange.make())
        catalogue().world.purchase()
    finally:
        der.decode = original
    return found


def _inside(value: Any) -> Iterator[Structure]:
    if isinstance(value, list):
        for each in value:
            yield from _inside(each)
    elif isinstance(value, Structure):
        yield value
        if is_dataclass(value):
            for field in fields(value):
                yield from _inside(getattr(value, field.name))


def main() -> None:
    """Write what is not there."""
    for name, inputs in {**structures(), **honest()}.items():
        folder = decoders()[name].folder
        if any(folder.glob("honest-*")):
            continue
        folder.mkdir(parents=True, exist_ok=True)
        for number, data in enumerate(inputs, 1):
            (folder / f"honest-{number}").write_bytes(data)
    bare = [name for name, decoder in decoders().items() if not decoder.seeds()]
    print(f"{sum(1 for _ in CORPUS.glob('*/*'))} inputs for {len(decoders())} readers; without any: {bare or 'none'}")


if __name__ == "__main__":
    main()
