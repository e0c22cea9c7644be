"""The register of officers, on SQLite and on PostgreSQL."""

from __future__ import annotations

from pathlib import Path

import pytest
from cryptography.hazmat.primitives.serialization import Encoding

from ra.errors import ConflictError
from ra.persons import Persons
from ra.records import NewCertificate
from runtime.database import open_database
from tests.support.cps_cases import Office
from tests.support.databases import DATABASES, ra_database


@pytest.mark.parametrize("kind", DATABASES)
def test_persons_their_credentials_and_their_codes_are_kept(kind: str, tmp_path: Path, office: Office) -> None:
    engine = open_database(ra_database(kind, tmp_path))
    persons = Persons(engine, key=b"key")
    certificate = office.security.certificate
    der = certificate.public_bytes(Encoding.DER)
    issued = NewCertificate("operations-ca", f"{certificate.serial_number:x}", "signing", der, ())
    for _ in range(2):
        persons.founders([issued], now=office.now)
    assert [(each.id, len(each.credentials)) for each in persons.all()] == [("officer-5", 1)]
    assert [each.roles for each in persons.held("officer-5", but="", now=office.now)] == [("security_officer",)]
    with engine.begin() as db:
        persons.claim(db, "0499370899", person_id="officer-5", application_id="one")
    with pytest.raises(ConflictError), engine.begin() as db:
        persons.claim(db, "0499370899", person_id="officer-6", application_id="two")
    with engine.begin() as db:
        persons.claim(db, "0499370899", person_id="officer-5", application_id="two")
    assert persons.other_person("0499370899", "officer-6", but="three") == "officer-5"
    found = persons.get("officer-5")
    assert found is not None
    assert found.identified
    engine.dispose()
