"""`kwbp ra` at work: the queue, one case, signing after reading, evidence as it is, orders, the next keys."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.serialization import BestAvailableEncryption, Encoding, NoEncryption, PrivateFormat

from cli import ra_desk
from ra.states import State
from tests.support.cps_cases import csr
from tests.support.documents import pdf
from tests.support.officers_desk import Desk, officers_desk
from tests.support.pki_factory import p256
from tests.support.ra_world import OPERATOR

WITHOUT_PAPER = ("company_register", "iban_owner")


@pytest.fixture(scope="module")
def desk(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Desk]:
    with officers_desk(tmp_path_factory.mktemp("desk")) as made:
        yield made


@pytest.fixture
def agreement(tmp_path: Path) -> Path:
    path = tmp_path / "contract.pdf"
    path.write_bytes(pdf())
    return path


def waiting(desk: Desk, merchant_id: str, *, documents: tuple[str, ...] = WITHOUT_PAPER) -> str:
    """A merchant's application as it waits for its officers."""
    return desk.world.open_merchant(merchant_id=merchant_id, documents=documents).id


def certified(desk: Desk, merchant_id: str, agreement: Path) -> str:
    application = waiting(desk, merchant_id)
    desk.answer(
        "ra",
        "evidence",
        "add",
        application,
        f"acquirer_agreement={agreement}",
        "--source",
        "mail",
        *desk.acting("vera"),
    )
    desk.answer("ra", "vet", application, "--yes", *desk.acting("vera"))
    desk.answer("ra", "approve", application, "--yes", *desk.acting("anna"))
    return application


# The queue


def test_the_queue_shows_what_waits_for_whom_and_until_when(desk: Desk) -> None:
    application = waiting(desk, "M-queue")
    text = desk.shown("ra", "list", "--subject", "M-queue")
    for part in (application[: ra_desk.SHORT], "merchant", "M-queue", "vet: vetting", "in 5 d", "under 1 min"):
        assert part in text


def test_each_officer_sees_what_waits_for_them(desk: Desk) -> None:
    application = waiting(desk, "M-mine")
    assert application in {row["id"] for row in desk.answer("ra", "list", "--mine", "vera", "--limit", "1000")}
    for person in ("anna", "audrey"):
        assert application not in {row["id"] for row in desk.answer("ra", "list", "--mine", person)}
    assert application in {row["id"] for row in desk.answer("ra", "list", "--role", "vetting_officer")}


def test_a_decided_case_whose_evidence_is_missing_waits_for_who_brings_it(desk: Desk) -> None:
    application = waiting(desk, "M-bring")
    for verb, person in (("vet", "vera"), ("approve", "anna")):
        desk.answer("ra", verb, application, "--yes", *desk.acting(person))
        (row,) = desk.answer("ra", "list", "--mine", "vera", "--subject", "M-bring")
        assert (row["id"], row["next_step"]["name"]) == (application, "evidence")
        assert desk.answer("ra", "list", "--mine", "anna", "--subject", "M-bring") == []
    assert "evidence:" in desk.shown("ra", "list", "--subject", "M-bring")
    shown = desk.answer("ra", "show", application)["next"]
    assert shown["command"].startswith(f"kwbp ra evidence add {application[: ra_desk.SHORT]} acquirer_agreement=FILE")
    assert "vera" in shown["may"]
    assert "evidence" in {each["step"] for each in desk.answer("ra", "stats")["waiting"]}


def test_a_case_whose_evidence_does_not_count_goes_back(desk: Desk) -> None:
    card = p256()
    opened = desk.world.open_cardholder(confirmed=False, key=card)
    desk.world.confirm(opened.id, p256())
    shown = desk.answer("ra", "show", opened.id)["next"]
    assert "does not count" in shown["what"]
    assert shown["command"].startswith(f"kwbp ra return {opened.id[: ra_desk.SHORT]} ")
    desk.answer("ra", "withdraw", opened.id)


def test_what_is_over_is_shown_to_who_asks(desk: Desk) -> None:
    application = waiting(desk, "M-over")
    desk.answer("ra", "withdraw", application)
    assert desk.answer("ra", "list", "--subject", "M-over") == []
    assert [row["state"] for row in desk.answer("ra", "list", "--all", "--subject", "M-over")] == ["WITHDRAWN"]
    assert [row["id"] for row in desk.answer("ra", "list", "--state", "WITHDRAWN", "--class", "merchant")] == [
        application
    ]


def test_pages_follow_each_other(desk: Desk) -> None:
    expected = {waiting(desk, f"M-page-{number}") for number in range(3)}
    rows = desk.answer("ra", "list", "--subject", "M-page", "--limit", "2")
    assert len(rows) == 2
    assert {row["id"] for row in desk.answer("ra", "list", "--subject", "M-page")} == expected


def test_statistics_tell_what_waits_and_what_is_late(desk: Desk) -> None:
    waiting(desk, "M-stats")
    figures = desk.answer("ra", "stats")
    (step,) = [each for each in figures["waiting"] if (each["step"], each["class"]) == ("vet", "merchant")]
    assert step["cases"] >= 1
    assert (figures["late"], figures["notices_undelivered"], figures["checks_unanswered"]) == (0, None, 0)
    text = desk.shown("ra", "stats")
    for part in ("Waiting for people", "vetting officer", "under 1 h", "0 late"):
        assert part in text


# One case


def test_a_case_is_one_screen_that_ends_with_the_next_command(desk: Desk, agreement: Path) -> None:
    application = waiting(desk, "M-screen")
    short = application[: ra_desk.SHORT]
    text = desk.shown("ra", "show", short)
    for part in (
        "M-screen",
        "opened       under 1 min ago by service:operator",
        "decide       in 5 d",
        "risk         10",
        "iban_owner, under 1 min old, from register, taken in by service:operator",
        "finding      no acquirer_agreement on file",
        f"kwbp ra evidence add {short} acquirer_agreement=FILE",
    ):
        assert part in text
    desk.answer(
        "ra", "evidence", "add", short, f"acquirer_agreement={agreement}", "--source", "mail", *desk.acting("vera")
    )
    assert f"kwbp ra vet {short} --as vera" in desk.shown("ra", "show", short)
    desk.answer("ra", "vet", short, "--yes", *desk.acting("vera"))
    text = desk.shown("ra", "show", short)
    for part in ("vet: approve by vera", "counts", "may: anna", f"kwbp ra approve {short} --as anna"):
        assert part in text


def test_who_may_not_decide_is_told_before_they_sign(desk: Desk) -> None:
    application = desk.world.open_merchant(merchant_id="M-own", organisation="RA", documents=())
    told = desk.answer("ra", "show", application.id)["next"]
    assert told["may"] == []
    assert set(told["may_not"].values()) == {"is employed by an organisation of the case"}


def test_the_screen_is_in_the_readers_language(desk: Desk, monkeypatch: pytest.MonkeyPatch) -> None:
    application = waiting(desk, "M-fa")
    monkeypatch.setenv("KWBP_LANG", "fa")
    text = desk.shown("ra", "show", application)
    for part in ("پذیرنده", "در حال بررسی", "گام بعد", "این مدارک کم است"):
        assert part in text


@pytest.mark.parametrize(
    ("state", "command"),
    [("hold", "kwbp ra release {} --reason"), ("withdraw", "kwbp explain {}"), ("return", None)],
)
def test_each_state_names_its_next_step(desk: Desk, state: str, command: str | None) -> None:
    application = waiting(desk, f"M-next-{state}")
    acting = () if state == "withdraw" else desk.acting("vera")
    desk.answer("ra", state, application, "--reason", "as we said", *acting)
    told = desk.answer("ra", "show", application)["next"]
    wanted = None if command is None else command.format(application[: ra_desk.SHORT])
    assert told["command"] == wanted or (wanted is not None and told["command"].startswith(wanted))


# Naming a case


def test_the_first_digits_name_a_case_if_they_name_one_alone(desk: Desk) -> None:
    application = waiting(desk, "M-digits")
    assert desk.answer("ra", "show", application[:12])["id"] == application
    for text, why in (
        ("xyz", "is no application"),
        ("abc", "is no application"),
        ("0" * 31, "no application begins with"),
    ):
        said = desk.refused("ra", "show", text)
        assert why in said
        assert "kwbp ra list" in said


def test_digits_of_two_cases_name_neither(desk: Desk, monkeypatch: pytest.MonkeyPatch) -> None:
    ids = iter((b"\xfe\xdc\xba" + b"\x01" * 13, b"\xfe\xdc\xba" + b"\x02" * 13))
    monkeypatch.setattr(desk.world.workflow.desk, "rng", lambda size: next(ids) if size == 16 else b"\0" * size)
    for _case in range(2):
        desk.world.workflow.open(OPERATOR, "merchant")
    monkeypatch.undo()
    assert "more than one application begins with fedc" in desk.refused("ra", "show", "fedc")
    assert desk.answer("ra", "show", "fedcba01")["id"].startswith("fedcba01")


# Signing


def test_what_is_signed_is_shown_and_signed_only_by_who_agrees(desk: Desk, monkeypatch: pytest.MonkeyPatch) -> None:
    application = waiting(desk, "M-agree")
    said = desk.refused("ra", "vet", application, *desk.acting("vera"))
    assert f"APPROVE      step vet of case {application}" in said
    assert "nobody is here to read this and agree" in said
    assert "--yes" in said
    monkeypatch.setattr(ra_desk.sys, "stdin", _Terminal("n\n"))
    with pytest.raises(ra_desk.typer.Exit):
        ra_desk.agree(["a line"], yes=False, person="vera")
    assert desk.world.store.decisions(application) == []
    done = desk.run("ra", "vet", application, "--yes", *desk.acting("vera"))
    assert done.exit_code == 0
    assert f"APPROVE      step vet of case {application}" in done.stderr


class _Terminal:
    """Standard input that is a terminal, at which somebody types."""

    def __init__(self, typed: str) -> None:
        self._typed = typed

    def isatty(self) -> bool:
        return True

    def readline(self, *_size: int) -> str:
        return self._typed


def test_a_refusal_names_clause_and_next_step(desk: Desk) -> None:
    application = waiting(desk, "M-role")
    said = desk.refused("ra", "vet", application, "--yes", *desk.acting("anna"))
    assert "not by anna" in said
    assert "kwbp ra show" in said
    assert desk.world.store.application(application).state is State.VETTING


def test_a_rejected_case_says_why(desk: Desk) -> None:
    application = waiting(desk, "M-reject")
    why = ("--reason", "not the shop it says", "--yes", *desk.acting("vera"))
    told = desk.refused("ra", "reject", application, "--code", "card_in_doubt", *why)
    assert "'card_in_doubt' is no reason for which a case of this class is rejected" in told
    assert "misleading_name" in told
    listed = desk.shown("ra", "reject", "--codes")
    assert "misleading_name" in listed
    assert "the name misleads, or belongs to somebody else" in listed
    desk.answer("ra", "reject", application, "--code", "misleading_name", *why)
    assert "misleading_name" in desk.shown("ra", "stats")
    assert "misleading_name: not the shop it says" in desk.shown("ra", "show", application)
    story = desk.shown("explain", application[: ra_desk.SHORT])
    for part in ("REJECTED", "vet: reject by vera", "not the shop it says", "signature verifies", "decide → REJECTED"):
        assert part in story
    assert "no step is due" in desk.refused("ra", "vet", application, "--yes", *desk.acting("viktor"))


def test_a_case_is_held_and_goes_on(desk: Desk) -> None:
    application = waiting(desk, "M-hold")
    held = desk.answer("ra", "hold", application, "--reason", "asked the bank", *desk.acting("vera"))
    assert held["state"] == "ON_HOLD"
    assert "asked the bank" in desk.shown("ra", "show", application)
    said = desk.refused("ra", "vet", application, "--yes", *desk.acting("vera"))
    assert "kwbp ra show" in said
    assert desk.answer("ra", "release", application, "--reason", "answered", *desk.acting("vera"))["state"] == "VETTING"


def test_the_officer_may_stand_in_the_environment(desk: Desk, monkeypatch: pytest.MonkeyPatch) -> None:
    application = waiting(desk, "M-env")
    monkeypatch.setenv("KWBP_OFFICER", "vera")
    monkeypatch.setenv("KWBP_OFFICER_PASSPHRASE_FILE", str(desk.secret))
    assert desk.answer("ra", "return", application, "--reason", "the name is cut off")["state"] == "RETURNED"


# Evidence


def test_evidence_comes_back_as_it_was_taken_in(desk: Desk, agreement: Path, tmp_path: Path) -> None:
    application = waiting(desk, "M-evidence")
    taken = desk.answer(
        "ra",
        "evidence",
        "add",
        application,
        f"acquirer_agreement={agreement}",
        "--source",
        "mail",
        *desk.acting("vera"),
    )
    digest = hashlib.sha256(agreement.read_bytes()).hexdigest()
    assert digest in {piece["sha256"] for piece in taken["evidence"]}
    (written,) = desk.answer("ra", "evidence", "get", application, digest[:10], "--out", str(tmp_path / "out"))
    assert Path(written["file"]).suffix == ".pdf"
    assert Path(written["file"]).read_bytes() == agreement.read_bytes()
    assert len(desk.answer("ra", "evidence", "get", application, "--out", str(tmp_path / "all"))) == 3
    assert "no such document" in desk.refused("ra", "evidence", "get", application, "passport")


def test_what_is_no_document_or_too_large_is_not_sent(desk: Desk, tmp_path: Path) -> None:
    application = waiting(desk, "M-large")
    assert "is not a document" in desk.refused(
        "ra", "evidence", "add", application, "acquirer_agreement", "--source", "mail", *desk.acting("vera")
    )
    large = tmp_path / "large.pdf"
    with large.open("wb") as file:
        file.truncate(64 << 20)
    done = desk.run(
        "ra", "evidence", "add", application, f"acquirer_agreement={large}", "--source", "mail", *desk.acting("vera")
    )
    assert "at most" in str(done.exception)


# Certificates


def test_certificates_are_accepted_suspended_reinstated_and_revoked(desk: Desk, agreement: Path) -> None:
    application = certified(desk, "M-life", agreement)
    assert desk.answer("ra", "accept", application)["state"] == "ACTIVE"
    (issued,) = desk.answer("ra", "show", application)["certificates"]
    serial = issued["serial"]
    assert desk.answer("ra", "suspend", serial, "--yes", *desk.acting("vera"))["state"] == "held"
    assert desk.answer("ra", "reinstate", serial, "--yes", *desk.acting("vera"))["state"] == "released"
    text = desk.shown("ra", "revoke", serial, "--reason", "superseded", "--yes", *desk.acting("vera"))
    assert f"certificate {serial}: revoked (superseded) by order of vera; on a list by" in text
    story = desk.shown("explain", application)
    for part in (f"merchant-ca/{serial}", "accepted", "rules kept", "CA log", "superseded", "log "):
        assert part in story
    assert "is no reason of the CPS" in desk.refused(
        "ra", "revoke", serial, "--reason", "boredom", *desk.acting("vera")
    )


def test_the_next_keys_are_asked_for_with_proof_of_the_old_one(desk: Desk, agreement: Path, tmp_path: Path) -> None:
    key, new = p256(), p256()
    application = desk.world.open_merchant(merchant_id="M-renew", key=key, documents=WITHOUT_PAPER).id
    desk.answer(
        "ra",
        "evidence",
        "add",
        application,
        f"acquirer_agreement={agreement}",
        "--source",
        "mail",
        *desk.acting("vera"),
    )
    desk.answer("ra", "vet", application, "--yes", *desk.acting("vera"))
    desk.answer("ra", "approve", application, "--yes", *desk.acting("anna"))
    request, old_key, secret = tmp_path / "new.csr", tmp_path / "old.key", tmp_path / "old.passphrase"
    request.write_bytes(_pem_request(csr(new)))
    for path in (old_key, secret):
        path.touch(mode=0o600)
    secret.write_bytes(b"old secret")
    old_key.write_bytes(key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, BestAvailableEncryption(b"old secret")))
    renewed = desk.answer(
        "ra",
        "renew",
        application,
        "--csr",
        str(request),
        "--old-key",
        str(old_key),
        "--old-passphrase-file",
        str(secret),
    )
    assert (renewed["state"], renewed["next_step"]["name"], renewed["replaces"]) == ("VETTING", "approve", application)
    desk.answer("ra", "approve", renewed["id"], "--yes", *desk.acting("anna"))
    assert f"replaced by {renewed['id']}" in " ".join(desk.shown("explain", application).split())
    assert f"replaces {application}" in " ".join(desk.shown("explain", renewed["id"]).split())
    stranger = tmp_path / "stranger.key"
    stranger.touch(mode=0o600)
    stranger.write_bytes(p256().private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()))
    said = desk.refused("ra", "renew", application, "--csr", f"signing={request}", "--old-key", str(stranger))
    assert "is not the key of a signing certificate" in said
    assert "is no certification request" in desk.refused("ra", "renew", application, "--csr", str(old_key))


def _pem_request(der: bytes) -> bytes:
    from cryptography import x509

    return x509.load_der_x509_csr(der).public_bytes(Encoding.PEM)


def test_a_case_that_was_never_certified_has_a_story(desk: Desk) -> None:
    draft = desk.world.workflow.open(OPERATOR, "merchant").id
    text = desk.shown("explain", draft)
    assert "none: it was never submitted" in text
    assert "open → DRAFT by service:operator" in text
    assert "kwbp ra list" in desk.refused("explain", "0" * 32)


@pytest.mark.parametrize(
    ("seconds", "told"),
    [
        (5, "under 1 min"),
        (61, "1 min"),
        (7300, "2 h 1 min"),
        (3600, "1 h"),
        (40_000, "11 h"),
        (86_400, "1 d"),
        (90_000, "1 d 1 h"),
        (400_000, "5 d"),
    ],
)
def test_spans_are_as_exact_as_it_matters(seconds: int, told: str) -> None:
    from cli.spans import span

    assert str(span(timedelta(seconds=seconds))) == told
