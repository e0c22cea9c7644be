"""Judging a bundle runs our script, or none; the exit code says what came out."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest
import typer

from cli import evidence_written, main, output
from cli.evidence import judge
from runtime.language import Language
from runtime.settings import Home
from storefront.evidence.bundle import write_bundle
from tests.kwbp.world import World
from tests.storefront.test_evidence import records_of
from tests.support.pki_factory import PkiFactory, pem


@pytest.fixture(scope="module")
def world() -> World:
    return World(PkiFactory())


@pytest.fixture(scope="module")
def honest(world: World, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("judged") / "bundle"
    write_bundle(records_of(world, world.purchase()), world.pki.root.certificate, out)
    return out


@pytest.fixture
def as_json() -> Iterator[None]:
    output.use_json(True)
    yield
    output.use_json(False)


def code(*arguments: object, **options: object) -> int:
    """The exit code of `kwbp evidence judge`."""
    try:
        judge(*arguments, **options)  # type: ignore[arg-type]
    except typer.Exit as end:
        return int(end.exit_code)
    return 0


def test_a_script_that_is_not_ours_is_not_run(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "verify.sh").write_text(f"touch {tmp_path}/ran\n")
    with pytest.raises(typer.Exit):
        judge(tmp_path)
    assert not (tmp_path / "ran").exists()
    assert "is not the judge of this release" in capsys.readouterr().err


def test_a_bundle_without_a_script_is_not_judged(tmp_path: Path) -> None:
    with pytest.raises(typer.Exit):
        judge(tmp_path)


def test_both_judges_are_asked_and_agree(
    world: World, honest: Path, tmp_path: Path, as_json: None, capsys: pytest.CaptureFixture[str]
) -> None:
    root = tmp_path / "root.pem"
    root.write_bytes(pem(world.pki.root.certificate))
    assert code(honest, claim="buyer-denies-order", root=root) == 0
    document = json.loads(capsys.readouterr().out)
    assert document["decision"]["verdict"] == "refuted"
    assert document["conclusion"] == "holds"
    assert document["root"]["pinned"] is True
    assert (document["openssl"]["agrees"], document["openssl"]["holds"]) == (True, True)
    assert set(document["statements"][0]["what"]) == {"en", "fa"}


def test_what_cannot_be_decided_ends_with_3(honest: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert code(honest, claim="two-receipts", alone=True, language=Language.FA) == 3
    first = capsys.readouterr().out.splitlines()[0]
    assert first.endswith("با این بسته روشن نمی‌شود")


def test_one_bundle_is_held_against_another(honest: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert code(honest, claim="two-receipts", alone=True, against=honest) == 0
    assert "both receipts say the same" in capsys.readouterr().out


def test_another_root_is_refused(honest: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    root = tmp_path / "root.pem"
    root.write_bytes(pem(PkiFactory().root.certificate))
    assert code(honest, root=root, alone=True) == 1
    assert "another root than the one given" in capsys.readouterr().err
    root.write_text("none")
    assert code(honest, root=root, alone=True) == 1
    assert "holds no certificate in PEM" in capsys.readouterr().err


def test_a_refused_bundle_says_why_in_both_languages(
    honest: Path, tmp_path: Path, as_json: None, capsys: pytest.CaptureFixture[str]
) -> None:
    bundle = Path(shutil.copytree(honest, tmp_path / "bundle"))
    (bundle / "receipt.p7s").unlink()
    assert code(bundle) == 1
    told = json.loads(capsys.readouterr().out)
    assert told["conclusion"] == "refused"
    assert told["reason"]["en"] == "receipt.p7s is missing"
    assert told["reason"]["fa"].endswith("نیست")


def test_a_disagreement_is_an_error(
    honest: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "openssl").write_text("#!/bin/sh\nexit 1\n")  # an OpenSSL that believes nothing
    (tmp_path / "openssl").chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:/usr/bin:/bin")
    assert code(honest) == 1
    told = capsys.readouterr()
    assert told.out.startswith("OUR JUDGE AND verify.sh (OpenSSL) DISAGREE")
    assert "DISAGREE" in told.err


def test_the_claims_are_a_closed_list(capsys: pytest.CaptureFixture[str]) -> None:
    assert code(claims=True) == 0
    assert "gateway-denies-approval: the gateway: I did not approve this" in capsys.readouterr().out
    assert code(Path(), claim="the-moon-is-cheese") == 1
    assert "is no claim that can be judged" in capsys.readouterr().err
    assert code() == 1
    assert "which bundle is to be judged?" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("language", "said"),
    [
        ("en", ("the bundle is in ", ": approved, ", "rial", "verify.sh judges it")),
        ("fa", ("بسته در", "تأیید شد", "ریال", "آن را داوری می‌کند")),
    ],
)
def test_what_was_written_is_said_in_both_languages(
    world: World,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    language: str,
    said: tuple[str, ...],
) -> None:
    monkeypatch.setenv("KWBP_LANG", language)
    out = tmp_path / "bundle"
    evidence_written.tell(write_bundle(records_of(world, world.purchase()), world.pki.root.certificate, out), out)
    told = capsys.readouterr().out
    for each in said:
        assert each in told


@pytest.mark.parametrize(("language", "said"), [("en", "the wallet has no invoice.p7s"), ("fa", "این خرید را ندارد")])
def test_what_cannot_be_exported_is_said_in_both_languages(
    world: World,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    language: str,
    said: str,
) -> None:
    home = Home(tmp_path / "home")
    home.create()
    home.config.touch()
    home.trust_anchors.write_bytes(pem(world.pki.root.certificate))
    out = tmp_path / "bundle"
    words = ["--home", str(home.path), "evidence", "export", "ab" * 20, "--out", str(out), "--wallet", str(tmp_path)]
    monkeypatch.setenv("KWBP_LANG", language)
    monkeypatch.setattr("sys.argv", ["kwbp", *words])
    monkeypatch.setattr(main, "_collect_garbage_from_here_on", lambda: None)
    with pytest.raises(SystemExit) as ended:
        main.main()
    told = capsys.readouterr()
    assert (ended.value.code, told.out) == (1, "")
    assert said in told.err
    assert not out.exists()
