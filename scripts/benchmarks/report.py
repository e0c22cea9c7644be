"""What every benchmark prints: a table for people, or one JSON object."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from rich.console import Console
from rich.table import Table


class BenchmarkFailed(Exception):
    """What ran was not what was to be measured, so there is no figure."""


@dataclass(frozen=True, slots=True)
class Metric:
    """One figure: its name for programs, the words and the format of its value for people."""

    name: str
    value: float
    words: str
    style: str = ",.1f"


def emit(name: str, load: float, metrics: Sequence[Metric], *, as_json: bool) -> None:
    """Print the results of the benchmark `name` to standard output.

    `load` is the one-minute load average before the run: figures of a busy machine say little.
    """
    results: Mapping[str, float] = {metric.name: round(metric.value, 4) for metric in metrics}
    if as_json:
        print(json.dumps({"name": name, "load": load, "results": results}))
        return
    table = Table(box=None, pad_edge=False, show_header=False)
    table.add_column()
    table.add_column(justify="right")
    for metric in metrics:
        table.add_row(metric.words, format(metric.value, metric.style))
    table.add_row("load average of the machine before the run", format(load, ".2f"))
    Console(highlight=False).print(table)
