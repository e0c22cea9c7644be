"""The published folder: read as one hierarchy or refused; written so that no reader sees half of it."""

from __future__ import annotations

from pathlib import Path

import pytest

from ca.errors import StoreError
from ca.files import publish_folder, replace_file
from ca.hierarchy import load_hierarchy
from tests.support.ca_world import write_hierarchy
from tests.support.pki_factory import PkiFactory, pem


@pytest.fixture(scope="module")
def pki() -> PkiFactory:
    return PkiFactory()


@pytest.fixture
def folder(pki: PkiFactory, tmp_path: Path) -> Path:
    write_hierarchy(pki, tmp_path / "pki")
    return tmp_path / "pki"


def test_authorities_are_known_by_name_and_key(pki: PkiFactory, folder: Path) -> None:
    hierarchy = load_hierarchy(folder)

    assert set(hierarchy.authorities) == {authority.role.value for authority in pki.authorities}
    assert hierarchy.anchors == (pki.root.certificate,)
    assert hierarchy.chain("merchant-ca") == (pki.merchant_ca.certificate, pki.brand.certificate)
    assert hierarchy.chain("root") == ()
    key_id = pki.merchant().certificate.extensions[1].value
    found = hierarchy.by_key_identifier(key_id.key_identifier)  # type: ignore[union-attr, arg-type]  # AuthorityKeyIdentifier
    assert found is not None
    assert found.name == "merchant-ca"
    assert hierarchy.by_key_identifier(b"") is None


def test_a_leaf_among_the_authorities_is_refused(pki: PkiFactory, folder: Path) -> None:
    (folder / "cas" / "merchant.pem").write_bytes(pem(pki.merchant().certificate))
    with pytest.raises(StoreError, match="not of an authority"):
        load_hierarchy(folder)


def test_an_authority_of_another_hierarchy_is_refused(folder: Path) -> None:
    (folder / "cas" / "gateway-ca.pem").write_bytes(pem(PkiFactory().gateway_ca.certificate))
    with pytest.raises(StoreError, match="gateway-ca is not certified by brand"):
        load_hierarchy(folder)


def test_a_missing_brand_or_root_or_a_broken_file_is_refused(folder: Path) -> None:
    brand = folder / "cas" / "brand.pem"
    kept = brand.read_bytes()
    brand.unlink()
    with pytest.raises(StoreError, match="is not certified by brand"):
        load_hierarchy(folder)
    brand.write_bytes(kept[:100])
    with pytest.raises(StoreError, match=r"brand\.pem is not the certificate"):
        load_hierarchy(folder)
    (folder / "root.pem").unlink()
    with pytest.raises(StoreError, match=r"root\.pem"):
        load_hierarchy(folder)


def test_a_folder_is_published_whole_and_never_over_another(tmp_path: Path) -> None:
    target = tmp_path / "pki"
    target.mkdir()
    (tmp_path / ".pki.draft").mkdir()  # left by an attempt that was killed
    (tmp_path / ".pki.draft" / "half").write_bytes(b"")

    publish_folder(target, {"a.pem": b"a", "deep/b.pem": b"b"})

    assert sorted(path.name for path in target.rglob("*")) == ["a.pem", "b.pem", "deep"]
    assert [path.name for path in tmp_path.iterdir()] == ["pki"]
    with pytest.raises(StoreError, match="never replaces"):
        publish_folder(target, {"a.pem": b"other"})


def test_a_file_is_replaced_at_once(tmp_path: Path) -> None:
    path = tmp_path / "a.crl"
    path.write_bytes(b"old")
    with path.open("rb") as reader:
        replace_file(path, b"new and longer")
        assert reader.read() == b"old"  # who was reading still has the old one, whole

    assert path.read_bytes() == b"new and longer"
    assert [each.name for each in tmp_path.iterdir()] == ["a.crl"]
