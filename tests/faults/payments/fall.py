"""A bank network that falls (SIGKILL) at exact points of messages: each came, or each is booked and not answered.

The test writes the orders into a file; what is done to these stands still at its point, and when all stand there the
process kills itself. It is the simulator's own processing that is stopped, so all ways to it (the line, a direct host,
HTTP/JSON) fall alike.
"""

from __future__ import annotations

import asyncio
import json
import os
import signal
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from shetab.errors import ValueFormatError
from shetab.message import Message
from shetab.subfields import Coding
from switch.processing import Processor

_FILE: Final = "fall.json"


@dataclass(frozen=True, slots=True)
class Fall:
    """Orders (XID) whose message stands still when it has come, and those whose stands still when it is booked."""

    come: frozenset[str]
    booked: frozenset[str]

    def plan(self, folder: Path) -> None:
        """To be read by a process whose clock's file is in `folder`."""
        staged = folder / f"{_FILE}.new"
        staged.write_text(json.dumps({"come": sorted(self.come), "booked": sorted(self.booked)}), "ascii")
        staged.replace(folder / _FILE)

    @classmethod
    def planned(cls, folder: Path) -> Fall | None:
        """What is planned, if anything."""
        try:
            told = json.loads((folder / _FILE).read_text("ascii"))
        except FileNotFoundError:
            return None
        return cls(frozenset(told["come"]), frozenset(told["booked"]))


def forget(folder: Path) -> None:
    """Nothing is planned any more."""
    (folder / _FILE).unlink(missing_ok=True)


def arm(folder: Path) -> None:
    """Have this process's bank network look at what is planned in `folder`."""
    answer, standing = Processor._answer, set[str]()

    async def falling(processor: Processor, request: Message, *more: Any) -> Message:
        plan, xid = Fall.planned(folder), _xid(request)
        if plan is not None and xid in plan.come:
            await _stand(xid, standing, plan)
        answered = await answer(processor, request, *more)
        if plan is not None and xid in plan.booked:
            await _stand(xid, standing, plan)
        return answered

    Processor._answer = falling  # type: ignore[method-assign]


async def _stand(xid: str, standing: set[str], plan: Fall) -> None:
    standing.add(xid)
    if standing >= plan.come | plan.booked:
        os.kill(os.getpid(), signal.SIGKILL)
    await asyncio.sleep(3600)


def _xid(request: Message) -> str:
    try:
        return Coding.from_de62(request.get(62) or "").xid.hex()
    except ValueFormatError:
        return ""
