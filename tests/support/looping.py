"""A process with one durable loop, for tests of `runtime.durable`: each step is noted in a file.

    python -m tests.support.looping DATABASE FILE REPLICA STEPS THING…   # begins the things; ends at SIGTERM

Each step takes a moment; a thing has STEPS of them. A line THING on standard input has it taken over.
"""

from __future__ import annotations

import asyncio
import json
import signal
import sys
from functools import partial
from pathlib import Path

from runtime.durable import Durable, Loop
from runtime.durable_thread import DurableThread


async def run(database: str, file: str, replica: str, steps: str, *things: str) -> None:
    """Run until told to end."""
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    loop.add_signal_handler(signal.SIGTERM, stop.set)
    path = Path(file)

    def done(thing: str) -> int:
        lines = path.read_text("utf-8").splitlines() if path.exists() else []
        return sum(json.loads(line)["thing"] == thing for line in lines)

    def note(thing: str) -> None:
        with path.open("a", encoding="utf-8") as notes:
            notes.write(json.dumps({"thing": thing, "by": replica}) + "\n")

    async def step(thing: str) -> float | None:
        note(thing)
        return None if done(thing) >= int(steps) else 0.2

    durable = partial(Durable, "try", (), database=database, replica=replica, poll=0.05, loops=[Loop("work", step)])
    thread = DurableThread(durable)
    try:
        for thing in things:
            await thread.begin("work", thing)
        lines: asyncio.Queue[str] = asyncio.Queue()
        loop.add_reader(sys.stdin, lambda: lines.put_nowait(sys.stdin.readline().strip()))
        while not stop.is_set():
            asked = asyncio.create_task(lines.get())
            ended = asyncio.create_task(stop.wait())
            await asyncio.wait({asked, ended}, return_when=asyncio.FIRST_COMPLETED)
            if asked.done() and asked.result():
                await thread.take_over("work", asked.result())
            elif asked.done():
                loop.remove_reader(sys.stdin)  # its end
            asked.cancel()
            ended.cancel()
    finally:
        await asyncio.to_thread(thread.close)


if __name__ == "__main__":
    asyncio.run(run(*sys.argv[1:]))
