"""What a service does on a clock, remembered in its database: durable schedules, on DBOS.

    with Durable("ca", schedules, database=found.home.db / "ca.sqlite", replica="…"):
        …                                                     # each tick of each schedule is worked through once

A tick is a row before it is work, and whoever takes the row works: of several replicas on one PostgreSQL one does, and
what a process that was killed had begun is begun again by its next start (`replica` is its name before and after). So
work must bear to be done again, and to be done by anybody. A tick of work that is still under way in this process is
skipped: the clock does not pile up behind it. When the clock was set, the schedules begin anew from what it says now:
DBOS has the next time of each in mind, and would sleep until a clock that went back is there again.

On SQLite the rows are in a file of their own beside the service's database, because DBOS looks into it every second
and would stand in line with those who write. On PostgreSQL they are in a schema of their own in the same database.

A `Loop` is work that goes on until it is done, with pauses, for one thing at a time (a reversal, say): a workflow for
each thing, named by it, so that there is one whoever begins it. Its steps and its sleeps are rows: what was killed goes
on where it was, at the next start of its replica, or when another one is told to take it over.

DBOS opens no port here, sends nothing anywhere, and has its rows in JSON rather than in pickles, which whoever can
write to a database could make run. What it logs comes out as everything else does. There is one DBOS in a process.
"""

from __future__ import annotations

import asyncio
import json
import logging
import sqlite3
import threading
import time
from collections.abc import Awaitable, Callable, Coroutine, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, Self, cast

from sqlalchemy import event, make_url
from sqlalchemy.pool import Pool

from runtime.beat import Beat, ClockWatch
from runtime.database import open_database
from runtime.logging import get_logger

if TYPE_CHECKING:
    from dbos import DBOSConfig, ScheduleInput
    from sqlalchemy import Engine

VERSION: Final = "1"
"""Of all schedules: raised when what was begun by one release must not be gone on with by the next."""

_KEEP: Final = timedelta(days=2)  # how long the rows of ticks are of interest
_AHEAD: Final = timedelta(seconds=20)  # by which clocks of replicas may differ
_TIDY: Final = "7 */10 * * * *"
_AT_ONCE: Final = 500  # rows deleted together
_TIME: Final = "$time"
_FOR_LOOPS: Final = 8  # threads that write the rows of loops
_AFTER_FAULT: Final = 5.0  # seconds
_ENDED: Final = frozenset({"SUCCESS", "ERROR", "CANCELLED", "MAX_RECOVERY_ATTEMPTS_EXCEEDED"})
_log: Final = get_logger("durable")


@dataclass(frozen=True, slots=True)
class Schedule:
    """Work and its times: `cron` has six fields, seconds first, in UTC. What `work` raises is logged, by class."""

    name: str
    cron: str
    work: Callable[[], object]


@dataclass(frozen=True, slots=True)
class Loop:
    """Work on one thing after another of a kind. `step(argument)` returns the seconds until the next, None at the end.

    A step may be done again, after a kill, and by two replicas at once, after one was taken for dead: it guards itself.
    What it raises is logged, by class, and it is done again after a while.
    """

    name: str
    step: Callable[[str], Awaitable[float | None]]


class Durable:
    """The schedules of one service in this process; enter it to start them, leave it to stop them in order."""

    def __init__(
        self,
        service: str,
        schedules: Sequence[Schedule],
        *,
        database: Path | str,
        replica: str,
        patience: float = 10.0,
        poll: float = 30.0,
        everywhere: Callable[[], object] = lambda: None,
        beat: float = 5.0,
        wall: Callable[[], datetime] = lambda: datetime.now(UTC),
        loops: Sequence[Loop] = (),
    ) -> None:
        """`database` is the service's own, a path (SQLite) or a URL (PostgreSQL); `replica` names this process among
        those that share it, the same after a restart. `patience`: how long work has for its end, `poll`: between two
        looks for schedules of other replicas. `everywhere` is done by each replica, every `beat`, on no clock: it may
        not come to a tick for long. All in seconds; `wall` is the clock that DBOS goes by."""
        self._service = service
        self._schedules = (*schedules, Schedule("tidy", _TIDY, self._tidy))
        self._database = database
        self._replica = replica
        self._patience = patience
        self._poll = poll
        self._locks = {each.name: threading.Lock() for each in self._schedules}
        self._stopping = threading.Event()
        self._engine: Engine | None = None
        self._everywhere = everywhere
        self._loops = tuple(loops)
        self._workflows: dict[str, Callable[[str], Coroutine[Any, Any, None]]] = {}
        self._tasks: dict[asyncio.Task[Any], str] = {}
        self._wall = wall
        self._watch = ClockWatch(wall)
        self._inputs: list[ScheduleInput] = []
        self._beat = Beat(f"{service}-beat", beat, self._each_beat)

    def __enter__(self) -> Self:
        # Here, because it takes a while to load, and only services with schedules need it.
        from dbos import DBOS

        _log_as_we_do()
        _know_subseconds()
        DBOS(config=self._config())
        try:
            self._inputs = [
                {
                    "schedule_name": self._workflow(each.name),
                    "workflow_fn": DBOS.workflow(name=self._workflow(each.name))(self._tick(each)),
                    "schedule": each.cron,
                }
                for each in self._schedules
            ]
            for each in self._loops:
                self._workflows[each.name] = DBOS.workflow(name=self._workflow(each.name))(self._worked(each))
            DBOS.launch()
            DBOS.apply_schedules(self._inputs)
            wanted = {each["schedule_name"] for each in self._inputs}
            for found in DBOS.list_schedules():
                if found["schedule_name"] not in wanted:  # of an earlier release
                    DBOS.delete_schedule(found["schedule_name"])
        except BaseException:
            self._close()
            raise
        self._beat.__enter__()
        return self

    def __exit__(self, *_exception: Any) -> None:
        self._stopping.set()
        self._beat.__exit__()
        deadline = time.monotonic() + self._patience
        for name, lock in self._locks.items():
            if not lock.acquire(timeout=max(0.0, deadline - time.monotonic())):
                _log.warning("work-cut-short", service=self._service, schedule=name)
        self._close()

    async def begin(self, loop: str, argument: str) -> None:
        """Have the loop work on `argument` until it is done; nothing if it is begun, by whomever.

        To be awaited in the event loop that this was entered in, which loops run in.
        """
        from dbos import DBOS, SetWorkflowID

        with SetWorkflowID(self._thing(loop, argument)):
            await DBOS.start_workflow_async(self._workflows[loop], argument)

    async def take_over(self, loop: str, argument: str) -> None:
        """Have `argument` worked on though whoever began it does not: any replica that runs goes on with it."""
        from dbos import DBOS

        name = self._thing(loop, argument)
        if name in self._tasks.values():
            return  # here, and alive
        status = await DBOS.get_workflow_status_async(name)
        # Forgotten, or ended too early, or of another release, which alone would go on with it.
        if status is None or status.status in _ENDED or status.app_version != VERSION:
            if status is not None:
                await DBOS.delete_workflows_async([name])
            await self.begin(loop, argument)
        elif status.status == "PENDING":
            _log.warning("work-taken-over", service=self._service, loop=loop)
            await DBOS.resume_workflow_async(name)

    async def leave_loops(self) -> None:
        """End what loops have under way, in their event loop; their rows stay as they are."""
        for task in (tasks := list(self._tasks)):
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    def _thing(self, loop: str, argument: str) -> str:
        return f"{self._workflow(loop)}/{argument}"

    def _worked(self, loop: Loop) -> Callable[[str], Coroutine[Any, Any, None]]:
        from dbos import DBOS

        async def step(argument: str) -> float | None:
            try:
                return await loop.step(argument)
            except Exception as error:
                _log.error("work-failed", loop=self._workflow(loop.name), error=type(error).__name__)
                return _AFTER_FAULT

        async def work(argument: str) -> None:
            task = asyncio.current_task()
            assert task is not None
            self._tasks[task] = self._thing(loop.name, argument)
            task.add_done_callback(self._tasks.pop)
            while (wait := await DBOS.run_step_async({"name": loop.name}, step, argument)) is not None:
                await DBOS.sleep_async(wait)

        return work

    def _close(self) -> None:
        from dbos import DBOS

        DBOS.destroy(destroy_registry=True)
        if self._engine is not None:
            self._engine.dispose()

    def _workflow(self, name: str) -> str:
        return f"{self._service}.{name}"

    def _config(self) -> DBOSConfig:
        config: DBOSConfig = {
            "name": f"kwbp-{self._service}",
            "application_version": VERSION,
            "executor_id": self._replica,
            "serializer": cast("Any", JsonRows()),
            "enable_otlp": False,
            "log_level": "WARNING",
            "scheduler_polling_interval_sec": self._poll,
            "max_executor_threads": len(self._locks) + (_FOR_LOOPS if self._loops else 2),
        }
        file = _file_of(self._database)
        if file is not None:
            path = file.with_name(f"{file.stem}-schedules.sqlite")
            _prepare(path)
            config["system_database_url"] = f"sqlite:///{path}"
        else:
            # With our own sessions: their time limits, and a password from where libpq finds it.
            self._engine = open_database(str(self._database))
            config["system_database_engine"] = self._engine
            config["system_database_url"] = self._engine.url.render_as_string(hide_password=True)
            config["dbos_system_schema"] = f"schedules_{self._service}"
        return config

    def _tick(self, schedule: Schedule) -> Callable[[datetime, Any], None]:
        lock = self._locks[schedule.name]

        def tick(scheduled_at: datetime, context: Any) -> None:
            if self._stopping.is_set() or not lock.acquire(blocking=False):
                return
            try:
                schedule.work()
            except Exception as error:  # a fault of one tick, such as a full disk, must not end all later ones
                # By class: DBOS would keep the text, which may quote anything, in its rows.
                _log.error("scheduled-work-failed", schedule=self._workflow(schedule.name), error=type(error).__name__)
            finally:
                lock.release()

        return tick

    def _each_beat(self) -> None:
        if self._watch.jumped():
            _log.warning("clock-was-set", service=self._service)
            self._begin_anew()
        self._everywhere()

    def _begin_anew(self) -> None:
        """Have DBOS look at the clock again, which it does for a schedule that changed; every replica does."""
        from dbos import DBOS

        now = self._wall()
        # Ticks of a future that is not: when their time comes they would count as done.
        ahead = DBOS.list_workflows(start_time=(now + _AHEAD).isoformat(), load_input=False, load_output=False)
        DBOS.delete_workflows([each.workflow_id for each in ahead])
        for each in self._inputs:
            each["context"] = now.isoformat()
        DBOS.apply_schedules(self._inputs)

    def _tidy(self) -> None:
        """Forget ticks that are done: nobody asks for them, and there are thousands a day."""
        from dbos import DBOS

        before = (datetime.now(UTC) - _KEEP).isoformat()
        while not self._stopping.is_set():
            done = DBOS.list_workflows(
                end_time=before, status=["SUCCESS", "ERROR", "CANCELLED"], limit=_AT_ONCE, load_input=False
            )
            if not done:
                return
            DBOS.delete_workflows([each.workflow_id for each in done])


class JsonRows:
    """How DBOS writes the arguments of a tick: JSON, times in RFC 3339. Of an exception no more than its class."""

    def name(self) -> str:
        return "kwbp_json"

    def serialize(self, data: Any) -> str:
        return json.dumps(data, default=_plain, separators=(",", ":"))

    def deserialize(self, serialized_data: str) -> Any:
        return json.loads(serialized_data, object_hook=_back)


def _plain(value: object) -> object:
    if isinstance(value, datetime):
        return {_TIME: value.isoformat()}
    if isinstance(value, BaseException):
        return type(value).__name__
    raise TypeError(f"a {type(value).__name__} is not written into rows of schedules")


def _back(value: dict[str, Any]) -> Any:
    return datetime.fromisoformat(value[_TIME]) if value.keys() == {_TIME} else value


def _file_of(database: Path | str) -> Path | None:
    """The file of a database; None if it is not SQLite's."""
    if isinstance(database, Path):
        return database
    url = make_url(database)
    return Path(url.database) if url.get_backend_name() == "sqlite" and url.database else None


def _prepare(path: Path) -> None:
    """Make the file: for this user alone, with a write-ahead log, which stays with the file."""
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    path.touch(mode=0o600)
    with sqlite3.connect(path) as connection:
        connection.execute("PRAGMA journal_mode=WAL")
    connection.close()


def _log_as_we_do() -> None:
    """DBOS puts a console handler on its logger unless it has one."""
    logger = logging.getLogger("dbos")
    if not any(isinstance(each, logging.NullHandler) for each in logger.handlers):
        logger.addHandler(logging.NullHandler())
    logger.propagate = True


def _know_subseconds() -> None:
    """From Python 3.12 on DBOS has the time by `unixepoch('subsec')`, which SQLite before 3.42 (Debian 12) leaves NULL.

    There it is a function of ours, in every SQLite connection that is opened from now on.
    """
    if sqlite3.sqlite_version_info < (3, 42) and not event.contains(Pool, "connect", _add_unixepoch):
        event.listen(Pool, "connect", _add_unixepoch)


def _add_unixepoch(connection: Any, _record: object) -> None:
    if isinstance(connection, sqlite3.Connection):
        connection.create_function("unixepoch", 1, lambda what: time.time() if what == "subsec" else None)
