"""A folder that is no bundle is refused in one clear sentence: nothing followed, nothing run, no trace, no verdict."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.serialization import Encoding

from kwbp.structure import SIZE_LIMIT
from pki.der import sha256
from runtime.language import Language
from storefront.errors import BundleRefused
from storefront.evidence import standing
from storefront.evidence.bundle import write_bundle
from storefront.evidence.claims import Claim, Verdict, decide
from storefront.evidence.folder import MESSAGES, NEEDED, read_folder
from storefront.evidence.judgement import Conclusion, decision_document, judge
from storefront.evidence.report import report
from storefront.evidence.second_opinion import SecondOpinion, ask_openssl
from storefront.evidence.statements import About, State
from tests.kwbp.world import World
from tests.storefront.test_evidence import acknowledged_too
from tests.support.evidence_judges import ask_both
from tests.support.pki_factory import PkiFactory

NAMES = [f"{name}.p7s" for name in MESSAGES if name != "gateway-status"]
STRUCTURES = ["oi-data.der", "order-details.der", "pi-envelope.p7m"]


@pytest.fixture(scope="module")
def world() -> World:
    return World(PkiFactory())


@pytest.fixture(scope="module")
def honest(world: World, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("folder") / "bundle"
    write_bundle(acknowledged_too(world, world.purchase()), world.pki.root.certificate, out)
    return out


@pytest.fixture
def bundle(honest: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(honest, tmp_path / "bundle"))


def reseal(bundle: Path) -> None:
    """New digests over whatever is there now."""
    names = sorted(str(path.relative_to(bundle)) for path in bundle.rglob("*") if path.is_file())
    lines = [
        f"{sha256((bundle / name).read_bytes()).hex()} {name}\n"
        for name in names
        if name not in {"digests.txt", "verify.sh"}
    ]
    (bundle / "digests.txt").write_text("".join(lines))


def refusal(bundle: Path) -> str:
    with pytest.raises(BundleRefused) as refused:
        judge(read_folder(bundle))
    assert refused.value.text(Language.FA) != str(refused.value)
    return str(refused.value)


@pytest.mark.parametrize("name", sorted(NEEDED))
def test_what_every_bundle_has_is_missed(bundle: Path, name: str) -> None:
    (bundle / name).unlink()
    assert refusal(bundle) == f"{name} is missing"


def test_what_was_exported_is_missed(bundle: Path) -> None:
    (bundle / "auth-ack.p7s").unlink()
    assert refusal(bundle) == "auth-ack.p7s is missing"


@pytest.mark.parametrize("name", ["notes.txt", "chain/../x", "invoice.p7s.bak", "crls/extra.pem", ".hidden", "a\nb"])
def test_what_is_no_part_of_a_bundle_is_refused(bundle: Path, name: str) -> None:
    (bundle / name).write_text("touch pwned")
    assert "is no part of a bundle" in refusal(bundle)


def test_a_folder_that_is_no_part_of_a_bundle_is_refused(bundle: Path) -> None:
    (bundle / "more").mkdir()
    assert refusal(bundle) == "more is no part of a bundle"
    (bundle / "more").rmdir()
    (bundle / "chain" / "more").mkdir()
    assert refusal(bundle) == "chain/more is no part of a bundle"


def test_an_added_certificate_that_nobody_exported_is_refused_by_both(bundle: Path) -> None:
    shutil.copyfile(bundle / "root.pem", bundle / "chain" / "another.pem")
    assert ask_both(bundle).refusal == "chain/another.pem was not exported with the others"


def link(bundle: Path) -> None:
    (bundle / "receipt.p7s").unlink()
    (bundle / "receipt.p7s").symlink_to(bundle / "invoice.p7s")


def link_out(bundle: Path) -> None:
    (bundle / "oi-data.der").unlink()
    (bundle / "oi-data.der").symlink_to("/etc/passwd")


def pipe(bundle: Path) -> None:
    (bundle / "oi-data.der").unlink()
    os.mkfifo(bundle / "oi-data.der")


def linked_folder(bundle: Path) -> None:
    (bundle / "crls").rename(bundle.parent / "lists")
    (bundle / "crls").symlink_to(bundle.parent / "lists")


@pytest.mark.parametrize("change", [link, link_out, pipe])
def test_nothing_but_plain_files_is_read(bundle: Path, change: Callable[[Path], None]) -> None:
    change(bundle)
    assert refusal(bundle).endswith("is no plain file that can be read")


def test_a_folder_that_is_a_link_is_not_entered(bundle: Path) -> None:
    linked_folder(bundle)
    assert refusal(bundle) == "crls is no part of a bundle"


def test_verify_sh_refuses_links_too(bundle: Path) -> None:
    link(bundle)
    assert ask_both(bundle).ours is None


def test_a_huge_file_is_not_read_to_its_end(bundle: Path) -> None:
    with (bundle / "auth-res.p7s").open("wb") as file:
        file.truncate(1 << 36)  # sparse
    assert refusal(bundle) == f"auth-res.p7s has more than {SIZE_LIMIT} bytes"


def test_a_thousand_files_are_too_many(bundle: Path) -> None:
    for number in range(500):
        (bundle / "ocsp").mkdir(exist_ok=True)
        (bundle / "ocsp" / f"a-{number}.der").write_bytes(b"")
    assert "there are more than 500 files" in refusal(bundle)


def test_a_folder_that_is_not_there_is_refused(tmp_path: Path) -> None:
    assert refusal(tmp_path / "none") == "the folder cannot be read (FileNotFoundError)"


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("purchase.txt", b""),
        ("purchase.txt", b"00\n1\n"),
        ("purchase.txt", b"0" * 40 + b"\n$(touch pwned)\n"),
        ("purchase.txt", b"0" * 40 + b"\n" + b"9" * 40 + b"\n"),
        ("root.pem", b"-----BEGIN CERTIFICATE-----\n"),
        ("signers/buyer.pem", b"\x00\xff"),
        ("pi-envelope.p7m", None),
    ],
)
def test_a_file_out_of_form_is_refused_or_found(bundle: Path, name: str, content: bytes | None) -> None:
    if content is None:
        (bundle / name).write_bytes(b"\x30\x80")
        reseal(bundle)
        judged = judge(read_folder(bundle))
        assert judged.statements[About.PAYMENT].state is State.BROKEN
        return
    (bundle / name).write_bytes(content)
    reseal(bundle)
    assert refusal(bundle) == f"{name} is not in its form"
    assert not (bundle / "pwned").exists()


@pytest.mark.parametrize("name", ["root.pem", "signers/merchant.pem"])
def test_a_second_certificate_in_a_file_is_refused(bundle: Path, name: str) -> None:
    (bundle / name).write_bytes((bundle / name).read_bytes() + (bundle / "signers" / "gateway.pem").read_bytes())
    reseal(bundle)
    assert refusal(bundle) == f"{name} is not in its form"


def test_a_list_that_is_none_is_refused(bundle: Path) -> None:
    name = next((bundle / "crls").iterdir())
    name.write_bytes(b"-----BEGIN X509 CRL-----\n")
    reseal(bundle)
    assert refusal(bundle).endswith("is not in its form")


@pytest.mark.parametrize("digests", [b"\xff", b"x\n", b"0" * 64 + b" ../../etc/passwd\n" * 2, b"0" * 64 + b" a b\n"])
def test_digests_that_are_none_are_refused(bundle: Path, digests: bytes) -> None:
    (bundle / "digests.txt").write_bytes(digests)
    assert "digests.txt is not in its form" in refusal(bundle)


def test_a_digest_twice_is_refused(bundle: Path) -> None:
    lines = (bundle / "digests.txt").read_text().splitlines(keepends=True)
    (bundle / "digests.txt").write_text("".join([*lines, lines[0]]))
    assert refusal(bundle) == "digests.txt is not in its form"


@pytest.mark.parametrize("name", ["status.txt", "gateway-status.p7s"])
def test_a_later_word_and_its_time_come_together(bundle: Path, name: str) -> None:
    (bundle / name).write_bytes(b"1\n")
    reseal(bundle)
    assert "status.txt, gateway-status.p7s is missing" in refusal(bundle)


def test_a_time_of_a_later_word_out_of_form_is_refused(bundle: Path) -> None:
    (bundle / "status.txt").write_bytes(b"soon\n")
    (bundle / "gateway-status.p7s").write_bytes(b"\x30\x00")
    reseal(bundle)
    assert refusal(bundle) == "status.txt is not in its form"


@pytest.mark.parametrize("name", ["ocsp/nobody.der", "chain/merchant.pem"])
def test_a_name_that_is_of_no_certificate_or_of_two_is_refused_by_both(bundle: Path, name: str) -> None:
    (bundle / name).parent.mkdir(exist_ok=True)
    shutil.copyfile(bundle / "signers" / "merchant.pem", bundle / name)
    reseal(bundle)
    assert ask_both(bundle).refusal == "a name in chain, ocsp is of no certificate, or of two"


@pytest.mark.parametrize("name", NAMES + STRUCTURES)
def test_whatever_stands_where_a_message_should_be_is_never_proof_and_never_a_crash(bundle: Path, name: str) -> None:
    honest = (bundle / name).read_bytes()
    other = (bundle / "invoice.p7s" if name != "invoice.p7s" else bundle / "receipt.p7s").read_bytes()
    for content in (
        b"",
        b"\x30\x00",
        b"\x30\x80\x00\x00",
        honest[:-1],
        honest[: len(honest) // 2],
        honest + b"\0",
        other,
    ):
        (bundle / name).write_bytes(content)
        reseal(bundle)
        judged = judge(read_folder(bundle))
        assert judged.conclusion is Conclusion.BROKEN
        for claim in Claim:
            decision_document(decide(claim, judged.case))
        for language in Language:
            assert report(judged, None, None, language)


@pytest.mark.parametrize("name", ["auth-res.p7s", "oi-data.der"])
def test_openssl_finds_what_is_no_message_as_well(bundle: Path, name: str) -> None:
    (bundle / name).write_bytes(b"\x30\x00")
    reseal(bundle)
    opinion = ask_openssl(read_folder(bundle))
    assert opinion.conclusion is Conclusion.BROKEN


def test_every_flipped_byte_of_a_message_with_new_digests_is_found(bundle: Path) -> None:
    honest = (bundle / "dual-signature.p7s").read_bytes()
    for place in range(0, len(honest), 97):
        changed = bytearray(honest)
        changed[place] ^= 0x20
        (bundle / "dual-signature.p7s").write_bytes(changed)
        reseal(bundle)
        judged = judge(read_folder(bundle))
        assert not judged.statements[About.ANSWER].proven, place
        assert decide(Claim.BUYER_DENIES_ORDER, judged.case).verdict is not Verdict.UPHELD, place


# ── The root, the two opinions, the report ────────────────────────────────────────────────────────────────────────────


def test_the_root_is_the_readers_or_a_gap(world: World, honest: Path) -> None:
    own = world.pki.root.certificate
    assert judge(read_folder(honest), root=own).document()["root"] == {
        "sha256": sha256(own.public_bytes(Encoding.DER)).hex(),
        "pinned": True,
    }
    assert "compare its SHA-256" in str(judge(read_folder(honest)).gaps[0])
    with pytest.raises(BundleRefused, match="another root than the one given"):
        judge(read_folder(honest), root=PkiFactory().root.certificate)


def test_a_judgement_names_party_time_files_and_status(honest: Path) -> None:
    document = judge(read_folder(honest)).document()
    assert document["conclusion"] == "holds"
    offer = next(each for each in document["statements"] if each["statement"] == "offer")
    assert offer["party"]["role"] == "merchant"
    assert offer["party"]["id"] == "M-1"
    assert offer["since"] == "2026-03-21T12:00:00+00:00"
    assert offer["proven_by"] == ["invoice.p7s", "signers/merchant.pem"]
    assert offer["what"]["en"].startswith("offered this order for 3,250,000 rial")
    assert "۳٬۲۵۰٬۰۰۰ ریال" in offer["what"]["fa"]
    assert offer["status"][0]["en"] == "not on its issuer's list of 2026-03-21 11:00:00 UTC"


def test_a_disagreement_is_shouted_before_anything_else(honest: Path) -> None:
    files = read_folder(honest)
    judged = judge(files)
    opinion = ask_openssl(files)
    assert opinion.disagreements(judged) == ()
    assert "verify.sh (OpenSSL alone) says the same" in [
        line.text for line in report(judged, None, opinion, Language.EN)
    ]
    for differing, where in (
        (SecondOpinion(Conclusion.BROKEN, opinion.states, ()), "whole"),
        (SecondOpinion(Conclusion.HOLDS, {**opinion.states, "order": "broken"}, ()), "order"),
    ):
        assert differing.disagreements(judged) == (where,)
        first = report(judged, decide(Claim.BUYER_DENIES_ORDER, judged.case), differing, Language.EN)[0].text
        assert first.startswith("OUR JUDGE AND verify.sh (OpenSSL) DISAGREE about " + where)


def test_a_script_in_the_bundle_is_never_run_for_the_second_opinion(bundle: Path) -> None:
    (bundle / "verify.sh").write_text(f"touch {bundle}/pwned\n")
    assert ask_openssl(read_folder(bundle)).conclusion is Conclusion.HOLDS
    assert not (bundle / "pwned").exists()


def test_judging_needs_no_clock_and_no_network() -> None:
    source = Path(standing.__file__).parent
    for path in source.glob("*.py"):
        text = path.read_text()
        assert ".now(" not in text, path
        assert "time.time" not in text, path
        assert "httpx" not in text, path
