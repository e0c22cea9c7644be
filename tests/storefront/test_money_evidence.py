"""What moved the money later is in the merchant's bundle, and both judges say whether it holds."""

from __future__ import annotations

import base64
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from pki.der import sha256
from storefront.evidence.bundle import write_bundle
from storefront.evidence.claims import Claim, Verdict, decide
from storefront.evidence.folder import read_folder
from storefront.evidence.judgement import Conclusion, judge
from storefront.evidence.records import from_merchant
from storefront.evidence.second_opinion import ask_openssl
from storefront.evidence.statements import About, State
from tests.storefront.test_money_shop import Till, buy
from tests.support.payment_site import Site
from tests.support.shop_front import Customer, Front

Files = dict[str, bytes]


@pytest.fixture(scope="module")
def evidence(site: Site, gateway: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, Any]]:
    """Two refunds of a sale, one of them taken back: what the merchant server gives out."""
    front, customer = Front.of(site, gateway, tmp_path_factory.mktemp("merchant")), Customer.of(site)
    with front.serving():
        till, xid = Till(front), buy(front, customer, tmp_path_factory.mktemp("purchases"))
        till.ask(xid, "one", "refund", amount=1_000_000)
        till.ask(xid, "two", "refund", amount=250_000)
        second = till.get(f"/orders/{xid}/money")["standing"]["refunds"][1]["id"]
        till.ask(xid, "two-back", "unrefund", of=second)
        yield till.get(f"/orders/{xid}/evidence")


@pytest.fixture
def files(evidence: dict[str, Any], site: Site, tmp_path: Path) -> Files:
    write_bundle(from_merchant(evidence), site.pki.root.certificate, tmp_path / "bundle")
    return dict(read_folder(tmp_path / "bundle"))


def both(files: Files) -> tuple[State, Conclusion]:
    """What both judges say of the money, and of the whole; they agree."""
    judged, second = judge(files), ask_openssl(files)
    assert second.disagreements(judged) == (), second.report
    return judged.statements[About.MONEY].state, judged.conclusion


def test_captures_and_refunds_are_proven_by_both_judges(evidence: dict[str, Any], files: Files) -> None:
    assert len(evidence["money"]) == 3
    assert base64.b64decode(evidence["money"][0]["request"]) == files["money-01/request.p7s"]
    assert both(files) == (State.PROVEN, Conclusion.HOLDS)
    statement = judge(files).statements[About.MONEY]
    assert str(statement.what).endswith("4,950,000 rial captured, 1,000,000 rial given back")
    assert statement.party is not None
    assert statement.party.role == "gateway"


def decided(files: Files) -> Verdict:
    return decide(Claim.NOTHING_WAS_REFUNDED, judge(files).case).verdict


def test_a_refund_that_is_here_refutes_that_nothing_was_refunded(files: Files) -> None:
    assert decided(files) is Verdict.REFUTED
    without = {name: content for name, content in files.items() if not name.startswith("money-")}
    assert decided(listed(without)) is Verdict.UNDECIDED
    undone = {name: content for name, content in files.items() if not name.startswith("money-01")}
    renamed = {name.replace("money-02", "money-01").replace("money-03", "money-02"): undone[name] for name in undone}
    assert decided(listed(renamed)) is Verdict.UNDECIDED  # the only one that is here was taken back


def test_a_purchase_without_them_holds_too(files: Files) -> None:
    without = {name: content for name, content in files.items() if not name.startswith("money-")}
    assert both(listed(without)) == (State.ABSENT, Conclusion.HOLDS)


def swap(one: str, other: str) -> Callable[[Files], Files]:
    return lambda files: files | {one: files[other], other: files[one]}


def flipped(name: str) -> Callable[[Files], Files]:
    def change(files: Files) -> Files:
        content = bytearray(files[name])
        content[-1] ^= 1
        return files | {name: bytes(content)}

    return change


@pytest.mark.parametrize(
    "change",
    [
        swap("money-01/answer.p7s", "money-02/answer.p7s"),
        lambda files: swap("money-02/answer.p7s", "money-03/answer.p7s")(
            swap("money-02/request.p7s", "money-03/request.p7s")(swap("money-02/time.txt", "money-03/time.txt")(files))
        ),
        flipped("money-01/request.p7s"),
        flipped("money-01/answer.p7s"),
        lambda files: files | {"money-01/answer.p7s": files["auth-res.p7s"]},
        lambda files: files | {"money-01/request.p7s": files["money-01/answer.p7s"]},
        lambda files: files | {"money-01/time.txt": b"%d\n" % (int(files["money-01/time.txt"]) + 1)},
    ],
    ids=["answers swapped", "order swapped", "request", "answer", "other kind", "no request", "other time"],
)
def test_what_does_not_hold_is_said_by_both(files: Files, change: Callable[[Files], Files]) -> None:
    assert both(listed(change(files))) == (State.BROKEN, Conclusion.BROKEN)


def listed(files: Files) -> Files:
    """The files with the list that names them as they are."""
    named = {name: content for name, content in files.items() if name not in ("digests.txt", "verify.sh")}
    digests = "".join(f"{sha256(content).hex()} {name}\n" for name, content in sorted(named.items()))
    return files | {"digests.txt": digests.encode()}
