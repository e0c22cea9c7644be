"""Digests are signed by keys that a ceremony made for it, for their owner, and by no other key."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from hsm_service.service import RawAlgorithm, SignCommand
from hsm_service.vault import Vault
from runtime.problems import Problem
from tests.support.judges import openssl_accepts
from tests.support.signing_site import CA, CEREMONY, SHOP, World, refusal

KEY = "merchant-ca-ec"
BENCH = "service:bench"


@pytest.fixture(scope="module")
def vault(founded: World, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Vault]:
    """One vault for all: nothing here changes a key."""
    with founded.copy(tmp_path_factory.mktemp("raw")).vault() as vault:
        yield vault


DIGEST = hashlib.sha256(b"a foreign message").digest()
RAW: dict[str, tuple[RawAlgorithm, tuple[str, ...]]] = {
    "raw-ec": ("ecdsa-sha256", ()),
    "raw-rsa-2048": ("rsa-pkcs1v15-sha256", ()),
    "raw-rsa-3072": (
        "rsa-pss-sha256",
        ("-pkeyopt", "rsa_padding_mode:pss", "-pkeyopt", "rsa_pss_saltlen:32", "-pkeyopt", "rsa_mgf1_md:sha256"),
    ),
}


@pytest.mark.parametrize("key", RAW)
def test_openssl_accepts_what_a_raw_key_signed(key: str, vault: Vault, tmp_path: Path) -> None:
    algorithm, options = RAW[key]
    answer = vault.sign(BENCH, key, SignCommand("raw", DIGEST, algorithm=algorithm))
    (tmp_path / "signature").write_bytes(answer.signed)
    (tmp_path / "digest").write_bytes(DIGEST)
    (tmp_path / "other").write_bytes(DIGEST[::-1])
    (tmp_path / "key.der").write_bytes(vault.describe_key(BENCH, key).public_key)

    def accepts(signed: str) -> bool:
        return openssl_accepts(
            "pkeyutl", "-verify", "-pubin", "-keyform", "DER", "-inkey", tmp_path / "key.der",
            "-sigfile", tmp_path / "signature", "-in", tmp_path / signed, "-pkeyopt", "digest:sha256", *options,
        )  # fmt: skip

    assert accepts("digest")
    assert not accepts("other")


def test_a_raw_key_is_flagged_in_every_listing(vault: Vault) -> None:
    flagged = {info.name for info in vault.list_keys(CEREMONY) if info.raw}
    assert flagged == set(RAW)
    assert all(info.raw for info in vault.list_keys(BENCH))


@pytest.mark.parametrize(
    ("caller", "key", "digest", "algorithm", "status", "slug"),
    [
        (SHOP, "shop-ec", DIGEST, "ecdsa-sha256", 409, "key-misused"),
        (CA, KEY, DIGEST, "ecdsa-sha256", 409, "key-misused"),
        (CEREMONY, KEY, DIGEST, "ecdsa-sha256", 409, "key-misused"),
        (CA, "raw-ec", DIGEST, "ecdsa-sha256", 403, "caller-not-allowed"),
        (CEREMONY, "raw-ec", DIGEST, "ecdsa-sha256", 403, "caller-not-allowed"),
        (BENCH, "raw-ec", DIGEST[:-1], "ecdsa-sha256", 422, "digest-length"),
        (BENCH, "raw-ec", DIGEST + b"\x00", "ecdsa-sha256", 422, "digest-length"),
        (BENCH, "raw-ec", b"", "ecdsa-sha256", 422, "digest-length"),
        (BENCH, "raw-ec", DIGEST, "rsa-pss-sha256", 422, "algorithm-mismatch"),
        (BENCH, "raw-rsa-2048", DIGEST, "ecdsa-sha256", 422, "algorithm-mismatch"),
        (BENCH, "raw-ec", DIGEST, None, 422, "invalid-request"),
    ],
)
def test_a_digest_with_one_wrong_thing_is_not_signed(
    vault: Vault, caller: str, key: str, digest: bytes, algorithm: Any, status: int, slug: str
) -> None:
    command = SignCommand("raw", digest, algorithm=algorithm)
    refusal(lambda: vault.sign(caller, key, command), status, slug)


def test_a_raw_key_signs_nothing_else_and_carries_no_certificate(vault: Vault) -> None:
    refusal(lambda: vault.sign_request(BENCH, "raw-ec", b"\x30\x00"), 409, "key-misused")
    refusal(lambda: vault.attach_certificate(CEREMONY, "raw-ec", [b"\x30\x00"]), 409, "key-misused")


def test_no_service_makes_a_raw_key(vault: Vault) -> None:
    with pytest.raises(Problem) as caught:
        vault.generate_key(BENCH, "mine", "raw-ec", owner="bench")
    assert caught.value.status == 403
