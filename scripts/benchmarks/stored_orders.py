"""Many orders in a gateway's order book, all alike: what it holds after years.

    python -m scripts.benchmarks.stored_orders HOME NUMBER        (SQLite; while the gateway is stopped)

Each is a copy of one that was paid, with its steps, its entry and its lines in the ledger; numbers and times differ as
those of real orders do. Signed objects are cut to their first 512 bytes: they are never looked for.
"""

from __future__ import annotations

import sqlite3
import sys
from pathlib import Path
from typing import Final

from runtime.settings import Home

_LONGEST: Final = 512  # bytes of a signed object
_A_DAY: Final = 900_000  # orders
_APART: Final = 100_000  # microseconds between two orders
# What differs; `new` has the number `i` (from 1), the XID and the time of each.
_ONE: Final = "FROM template JOIN new"
_TABLES: Final[dict[str, tuple[str, dict[str, str]]]] = {
    "orders": (
        "SELECT * FROM orders WHERE xid = :xid",
        {
            "xid": "new.xid",
            "received_at": "new.at",
            "changed_at": "new.at",
            "rrpid": "randomblob(20)",
            "request_digest": "randomblob(32)",
            "business_day": "new.day",
            "stan": f"printf('%06d', new.i % {_A_DAY} + 1)",
            "rrn": "printf('%012d', new.i)",
        },
    ),
    "order_steps": ("SELECT * FROM order_steps WHERE xid = :xid", {"xid": "new.xid", "received_at": "new.at"}),
    "entries": (
        "SELECT * FROM entries WHERE xid = :xid",
        {"xid": "new.xid", "h_answer": "new.h_answer", "date": "new.at", "business_day": "new.day"},
    ),
    "ledger_lines": (
        "SELECT * FROM ledger_lines WHERE cause = (SELECT lower(hex(h_answer)) FROM entries WHERE xid = :xid)",
        {"cause": "lower(hex(new.h_answer))", "business_day": "new.day", "posted_at": "new.at"},
    ),
}


def main() -> None:
    home, number = Home.find(Path(sys.argv[1])), int(sys.argv[2])
    with sqlite3.connect(home.db / "gateway.sqlite", isolation_level=None) as db:
        db.execute("PRAGMA synchronous=OFF")  # of these copies nothing is missed
        db.execute("PRAGMA temp_store=MEMORY")
        rows = db.execute("SELECT xid, received_at FROM orders WHERE state = 'ACKED' ORDER BY received_at LIMIT 1")
        xid, received_at = rows.fetchone()
        db.execute("BEGIN IMMEDIATE")
        db.execute(
            "CREATE TEMP TABLE new AS WITH RECURSIVE counted(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM counted "
            "WHERE i < :number) SELECT i, randomblob(20) AS xid, randomblob(32) AS h_answer, "
            ":before - (:number - i + 1) * :apart AS at, date('2000-01-01', '+' || (i / :a_day) || ' days') AS day "
            "FROM counted",
            {"number": number, "before": received_at, "apart": _APART, "a_day": _A_DAY},
        )
        for table, (template, differs) in _TABLES.items():
            made = _copy(db, table, template, differs, xid)
            print(f"{table}: {made:,} rows")
        db.execute("COMMIT")
        db.execute("PRAGMA wal_checkpoint(TRUNCATE)")


def _copy(db: sqlite3.Connection, table: str, template: str, differs: dict[str, str], xid: bytes) -> int:
    db.execute("DROP TABLE IF EXISTS temp.template")
    db.execute(f"CREATE TEMP TABLE template AS {template.replace(':xid', 'x' + repr(xid.hex()))}")
    if not db.execute("SELECT count(*) FROM template").fetchone()[0]:
        sys.exit(f"there is nothing in {table} of an order that was paid")
    columns = [row[1] for row in db.execute(f"PRAGMA table_info({table})")]
    values = [differs.get(name, f"{_cut(name)}") for name in columns]
    copied = f"INSERT INTO {table} ({', '.join(columns)}) SELECT {', '.join(values)} {_ONE} ORDER BY new.i"
    return db.execute(copied).rowcount


def _cut(column: str) -> str:
    name = f"template.{column}"
    return f"CASE WHEN typeof({name}) = 'blob' THEN substr({name}, 1, {_LONGEST}) ELSE {name} END"


if __name__ == "__main__":
    main()
