"""What the register of officers begins with."""

from __future__ import annotations

from pathlib import Path

import pytest

from ca.hierarchy import load_hierarchy
from cli.officer_register import blinding, founders
from runtime.secrets import SecretFileError
from runtime.settings import Home
from tests.support.ca_world import write_hierarchy
from tests.support.cps_cases import Office
from tests.support.pki_factory import pem


def test_the_blinding_key_is_made_once_and_is_nobody_elses_to_read(tmp_path: Path) -> None:
    home = Home(tmp_path)
    home.create()
    key = blinding(home)
    assert len(key) == 32
    assert blinding(home) == key
    [path] = home.secrets.iterdir()
    assert path.stat().st_mode & 0o777 == 0o600
    path.chmod(0o640)
    with pytest.raises(SecretFileError, match="0600"):
        blinding(home)


def test_the_officers_of_the_ceremony_are_those_that_the_hierarchy_publishes(tmp_path: Path) -> None:
    home, office = Home(tmp_path), Office()
    home.create()
    write_hierarchy(office.pki, home.pki)
    hierarchy = load_hierarchy(home.pki)
    assert founders(home, hierarchy) == []
    (home.pki / "officers").mkdir(exist_ok=True)
    for person, credential in (("officer-5", office.security), ("officer-6", office.security_2)):
        (home.pki / "officers" / f"{person}.pem").write_bytes(pem(credential.certificate, *credential.chain))
    found = founders(home, hierarchy)
    assert [(each.issuer, each.serial) for each in found] == [
        ("operations-ca", f"{each.certificate.serial_number:x}") for each in (office.security, office.security_2)
    ]
