"""Give one kept input to one reader again: `python -m tests.fuzz.reproduce READER FILE`.

Readers that judge certificates do so with parties made anew, so a fault that hangs on one certificate's bytes shows
again only in its structure.
"""

from __future__ import annotations

import sys
from pathlib import Path

from tests.fuzz.oracle import judge
from tests.fuzz.registry import decoders
from tests.fuzz.running import warm


def main() -> None:
    """Print the verdict; a violation leaves as it is, with its trace."""
    name, file = sys.argv[1:]
    decoder = decoders()[name]
    warm(decoder)
    print(judge(decoder, Path(file).read_bytes()))


if __name__ == "__main__":
    main()
