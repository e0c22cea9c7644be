"""What `kwbp evidence export` and `kwbp gateway evidence` say of the bundle that they wrote."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from cli import output
from runtime.language import Message, Term
from storefront.evidence.moments import rial


def tell(verdict: Mapping[str, Any], out: Path) -> None:
    """The verdict of a bundle in `out`, for people and for programs."""
    told = Message(
        "the bundle is in {folder}: {outcome}, {amount}",
        folder=out,
        outcome=Term("auth code", verdict["outcome"]),
        amount=rial(verdict["amount"]["rial"]),
    )
    judge = Message("{command} judges it", command=f"{out}/verify.sh")
    output.emit({**verdict, "bundle": str(out)}, [output.plain(output.said(each)) for each in (told, judge)])
