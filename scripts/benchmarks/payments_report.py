"""The figures of all arms of the payments benchmark together: one table or object.

    python -m scripts.benchmarks.payments_report --load L --output table|json EMPTY FULL FILE…

EMPTY and FULL have what a payment costs with few stored orders and with many; FILE… everything else.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path

from scripts.benchmarks.report import Metric, emit


def main() -> None:
    parser = argparse.ArgumentParser(description="Used by scripts/bench.")
    parser.add_argument("--load", type=float, required=True)
    parser.add_argument("--output", choices=("table", "json"), required=True)
    parser.add_argument("--orders", type=int, required=True, help="stored orders in FULL")
    parser.add_argument("files", nargs="+", type=Path)
    options = parser.parse_args()
    empty, full, *others = map(_read, options.files)
    metrics = [metric for arm in others for metric in arm]
    metrics.append(
        Metric(
            "cost_growth_1m",
            _gateway(full) / _gateway(empty),
            f"processor time of the gateway for a payment with {options.orders:,} stored orders, to that with few",
            ".3f",
        )
    )
    metrics += empty
    emit("payments", options.load, metrics, as_json=options.output == "json")


def _read(path: Path) -> list[Metric]:
    return [Metric(**json.loads(line)) for line in path.read_text(encoding="utf-8").splitlines()]


def _gateway(metrics: list[Metric]) -> float:
    return next(metric.value for metric in metrics if metric.name == "gateway_cpu_ms")


if __name__ == "__main__":
    main()
