"""What was decided upon is kept for as long as the statement says (CPS 5.5.2): nothing in the software deletes it.

The database of the registration authority refuses it, whoever asks; and of all that the two authorities delete, every
statement is listed here with the table that it is about. A new one makes the last test fail, until somebody has thought
about what it deletes, and for how long that is to be kept.
"""

from __future__ import annotations

import ast
from datetime import timedelta
from pathlib import Path

import pytest
from sqlalchemy import delete, func, select
from sqlalchemy.exc import IntegrityError

from ra import schema
from ra.schedules import ra_schedules
from ra.schema import APPEND_ONLY
from runtime.database import reading
from tests.support.ra_world import RaWorld

ROOT = Path(__file__).parents[2]
KEPT = {"applications", "revisions", "requests", "evidence", "evidence_bodies", "decisions", "certificates"}
"""The tables of what the statement keeps."""

DELETED = {
    ("ra/registration_store.py", "registration_cards"): "registration_cards",  # which a card filled long ago
    ("ra/reviews.py", "reviews"): "reviews",  # of an order that the CA refused: there is nothing to review
    ("ra/holder_store.py", "holder_requests"): "holder_requests",  # questions about status, long after their answer
    ("ra/holder_store.py", "holder_budgets"): "holder_budgets",  # of holders who have asked for nothing lately
    ("ra/request_nonces.py", "request_nonces"): "request_nonces",  # of requests that are too old to be repeated
    ("ra/rows.py", "table"): "key_claims",  # of a case, before it claims the keys of its next revision
    ("ra/orders.py", "orders_under_way"): "orders_under_way",  # when the CA has said what became of it
    ("ca/ocsp_store.py", "tables.ocsp_responses"): "ocsp_responses",  # answers that ended
    ("ca/renewal.py", "tables.renewals"): "renewals",  # work that is done
    ("ca/crl_store.py", "tables.crl_parts"): "crl_parts",  # bytes of long lists; their entries stay
    ("ca/intent_store.py", "tables.intents"): "intents",  # that never came to be: the key was claimed by another
    ("ca/intent_store.py", "tables.certified_keys"): "certified_keys",  # the claim of an intent that was abandoned
}


@pytest.mark.parametrize("name", sorted(KEPT))
def test_the_database_lets_nobody_delete_what_was_decided_upon(world: RaWorld, name: str) -> None:
    issued = world.certified_merchant()
    table = schema.metadata.tables[name]
    before = _rows(world, name)
    assert before > 0
    with pytest.raises(IntegrityError), world.engine.begin() as db:
        db.execute(delete(table))
    assert _rows(world, name) == before
    assert world.store.application(issued.id).id == issued.id


def test_time_deletes_nothing(world: RaWorld) -> None:
    """The clocks run on for as long as records are kept, and longer; then everything is still there."""
    issued = world.certified_merchant()
    before = {name: _rows(world, name) for name in sorted(KEPT)}
    for _year in range(world.office.pack.clocks.retention_years + 1):
        world.clock.forward(timedelta(days=366))
        for schedule in ra_schedules(world.workflow):
            schedule.work()
    assert {name: _rows(world, name) for name in sorted(KEPT)} == before
    assert world.store.certificates(issued.id)


def test_nothing_else_is_deleted_anywhere() -> None:
    found = set(_deletions())
    assert found == set(DELETED)
    assert KEPT.isdisjoint(DELETED.values())
    assert KEPT - {table.name for table in APPEND_ONLY} == {"applications"}


def _rows(world: RaWorld, name: str) -> int:
    with reading(world.engine) as db:
        counted: int = db.execute(select(func.count()).select_from(schema.metadata.tables[name])).scalar_one()
    return counted


def _deletions() -> list[tuple[str, str]]:
    """Every `delete(…)` in the code of both authorities: its file, and what is deleted from; and no SQL by hand."""
    found = []
    for folder in ("ra", "ca"):
        for path in sorted((ROOT / folder).rglob("*.py")):
            if "migrations" in path.parts:
                continue
            text = path.read_text(encoding="utf-8")
            assert "DELETE FROM" not in text, path
            for node in ast.walk(ast.parse(text)):
                if isinstance(node, ast.Call) and ast.unparse(node.func) in {"delete", "sqlalchemy.delete"}:
                    found.append((str(path.relative_to(ROOT)), ast.unparse(node.args[0])))
                if isinstance(node, ast.Call) and ast.unparse(node.func) == "count" and len(node.args) == 5:
                    # runtime.kept_buckets forgets buckets that are full
                    found.append((str(path.relative_to(ROOT)), ast.unparse(node.args[1]).split(".")[0]))
    return found
