"""What the registers know, and what they were asked: one SQLite database.

A question is answered once for each key: the same key gets the same bytes again, and another question under a used key
is refused.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from importlib.resources import files
from typing import Any, Final

import yaml
from sqlalchemy import Connection, Engine, select, update

from registers.schema import accounts, answers, companies, messages, metadata, people
from runtime.database import insert_new, put, reading
from shetab.iran import parse_company_id, parse_iban, parse_national_code
from shetab.names import fold_name

KINDS: Final = ("national_code", "company_register", "iban_owner")
_NOTHING: Final[Mapping[str, Any]] = {"found": False}


class ReusedKeyError(Exception):
    """Another question was asked with this key before."""


@dataclass(frozen=True, slots=True)
class Message:
    """A short message that was taken; `asked` is how often it was handed in."""

    key: str
    recipient: str
    text: str
    asked: int


class Book:
    """The registers' database."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine
        metadata.create_all(engine)

    def seed(self) -> None:
        """Enter the fictional records that come with the product."""
        records = yaml.load(files("registers").joinpath("seed.yaml").read_text("utf-8"), Loader=yaml.CSafeLoader)
        for person in records["people"]:
            self.enter_person(**person)
        for company in records["companies"]:
            self.enter_company(**company)
        for account in records["accounts"]:
            self.enter_account(**account)

    # entering

    def enter_person(self, national_code: str, name: str, status: str = "active") -> None:
        """Enter a person. Raises ShetabError for a code with a wrong check digit."""
        with self._engine.begin() as db:
            put(db, people, national_code=parse_national_code(national_code), name=name, status=status)

    def enter_company(self, company_id: str, name: str, status: str = "active") -> None:
        """Enter a company. Raises ShetabError for an identifier with a wrong check digit."""
        with self._engine.begin() as db:
            put(
                db,
                companies,
                company_id=parse_company_id(company_id),
                name=name,
                folded=fold_name(name),
                status=status,
            )

    def enter_account(self, iban: str, owners: Sequence[str], status: str = "active") -> None:
        """Enter an account and its owners. Raises ShetabError for an IBAN with wrong check digits."""
        with self._engine.begin() as db:
            put(db, accounts, iban=parse_iban(iban), owners=json.dumps(list(owners)), status=status)

    # asking

    def answer(self, kind: str, key: str, fields: Mapping[str, str]) -> bytes:
        """The JSON that answers a question, the same for each repeat. Raises ReusedKeyError."""
        question = hashlib.sha256(json.dumps([kind, dict(fields)], sort_keys=True).encode()).hexdigest()
        with self._engine.begin() as db:
            facts = _facts(db, kind, fields)
            body = json.dumps({"version": 1, "key": key, **facts}, ensure_ascii=False).encode()
            if insert_new(db, answers, key=key, question_sha256=question, body=body, asked=1):
                return body
            known = db.execute(select(answers).where(answers.c.key == key)).one()
            if known.question_sha256 != question:
                raise ReusedKeyError
            db.execute(update(answers).where(answers.c.key == key).values(asked=known.asked + 1))
            first: bytes = known.body
            return first

    def asked(self, key: str) -> int:
        """How often a question was asked."""
        with reading(self._engine) as db:
            return int(db.execute(select(answers.c.asked).where(answers.c.key == key)).scalar_one_or_none() or 0)

    def questions(self) -> dict[str, int]:
        """How often each question was asked, by its key."""
        with reading(self._engine) as db:
            return {row.key: row.asked for row in db.execute(select(answers.c.key, answers.c.asked))}

    def take_message(self, key: str, recipient: str, text: str) -> None:
        """Take a message, once for each key. Raises ReusedKeyError for another message under a used key."""
        with self._engine.begin() as db:
            if insert_new(db, messages, key=key, recipient=recipient, text=text, asked=1):
                return
            known = db.execute(select(messages).where(messages.c.key == key)).one()
            if (known.recipient, known.text) != (recipient, text):
                raise ReusedKeyError
            db.execute(update(messages).where(messages.c.key == key).values(asked=known.asked + 1))

    def messages_to(self, recipient: str) -> list[Message]:
        """The messages to a phone."""
        with reading(self._engine) as db:
            return [
                Message(**row._mapping) for row in db.execute(select(messages).where(messages.c.recipient == recipient))
            ]


def _facts(db: Connection, kind: str, fields: Mapping[str, str]) -> Mapping[str, Any]:
    if kind == "national_code":
        found = db.execute(select(people).where(people.c.national_code == fields.get("national_code"))).one_or_none()
        return _NOTHING if found is None else {"found": True, "names": [found.name], "status": found.status}
    if kind == "iban_owner":
        found = db.execute(select(accounts).where(accounts.c.iban == fields.get("iban"))).one_or_none()
        return _NOTHING if found is None else {"found": True, "names": json.loads(found.owners), "status": found.status}
    query = select(companies)
    if "company_id" in fields:
        query = query.where(companies.c.company_id == fields["company_id"])
    else:
        query = query.where(companies.c.folded == fold_name(fields.get("name", "")))
    found_all = db.execute(query.limit(2)).all()
    if len(found_all) != 1:  # of two companies of one name the register cannot tell which is meant
        return _NOTHING if not found_all else {"found": None}
    return {"found": True, "names": [found_all[0].name], "status": found_all[0].status}
