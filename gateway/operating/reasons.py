"""What a person gives as the reason of an act: a line that says something, to be read by others later."""

from __future__ import annotations

from typing import Annotated, Final

from pydantic import Field

_LINE: Final = r"[^\x00-\x1f\x7f]*"
_VISIBLE: Final = r"[^\x00-\x20\x7f]"

Reason = Annotated[str, Field(min_length=3, max_length=400, pattern=f"^{_LINE}{_VISIBLE}{_LINE}$")]
