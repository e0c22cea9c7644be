"""The simulator's page: who may, what it shows, and that a browser can set a fault and see what it does."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

import httpx
import pytest

from runtime.language import Language
from switch.faults import KINDS
from switch.page.guard import FIELD
from switch.page.view import texts
from switch.service import RunningSwitch
from tests.support.acquirer import Acquirer
from tests.switch.conftest import Customer, Zone

CHROMIUM: Final = Path("/usr/bin/chromium")
FORM: Final = re.compile(rf'name="{FIELD}" value="([^"]+)"')
SOUND: Final = {
    "kind": "drop", "mti": "0200", "count": "2", "probability": "1", "seconds": "0", "rc": "91", "card_digits": "",
}  # fmt: skip


@pytest.fixture
def token(zone: Zone) -> str:
    return (zone.home.secrets / "switch-admin-token").read_text("ascii").strip()


@pytest.fixture
def visitor(switch: RunningSwitch) -> Iterator[httpx.Client]:
    with httpx.Client(base_url=f"{switch.admin_url}/page/", follow_redirects=True, trust_env=False) as client:
        yield client


@pytest.fixture
def member(visitor: httpx.Client, token: str) -> httpx.Client:
    assert visitor.post("sign-in", data={"token": token}).status_code == 200
    return visitor


def form_of(client: httpx.Client) -> str:
    found = FORM.search(client.get("").text)
    assert found is not None
    return found[1]


def test_whoever_has_no_token_sees_nothing_and_changes_nothing(switch: RunningSwitch, visitor: httpx.Client) -> None:
    assert 'name="token"' in visitor.get("").text
    assert visitor.post("sign-in", data={"token": "0" * 64}).status_code == 403
    assert visitor.get("live").status_code == 401
    for path in ("faults", "faults/clear", "lines/break", "sign-out"):
        assert visitor.post(path, data={**SOUND, FIELD: "x"}).status_code == 401, path
    assert switch.faults.waiting() == []


def test_a_fault_is_set_shown_and_forgotten(switch: RunningSwitch, member: httpx.Client) -> None:
    shown = member.post("faults", data={**SOUND, "card_digits": "1234", FIELD: form_of(member)})
    assert shown.status_code == 200
    assert '<bdi dir="ltr">drop</bdi>' in shown.text
    (fault,) = switch.faults.waiting()
    assert (fault.kind, fault.mti, fault.count, fault.card) == ("drop", "0200", 2, "1234")
    member.post("faults/clear", data={FIELD: form_of(member)})
    assert switch.faults.waiting() == []


@pytest.mark.parametrize(
    "wrong",
    [
        {"mti": "02"},
        {"count": "0"},
        {"probability": "2"},
        {"kind": "<b>"},
        {"card_digits": "12"},
        {"seconds": "x"},
        {"seconds": "0", "kind": "delay"},
    ],
    ids=lambda wrong: "-".join(wrong),
)
def test_a_fault_that_is_none_is_refused_by_its_name(
    switch: RunningSwitch, member: httpx.Client, wrong: dict[str, str]
) -> None:
    answer = member.post("faults", data={**SOUND, **wrong, FIELD: form_of(member)})
    assert answer.status_code == 422
    assert "<b>" not in answer.text
    assert next(iter(wrong)).removesuffix("_digits") in answer.text
    assert switch.faults.waiting() == []


@pytest.mark.parametrize(
    ("headers", "form"),
    [
        ({"origin": "https://evil.example"}, True),
        ({"sec-fetch-site": "cross-site"}, True),
        ({"host": "rebound.example"}, True),
        ({}, False),
    ],
    ids=["origin of another site", "sent by another site", "another name of this address", "form of another page"],
)
def test_another_site_cannot_use_who_is_signed_in(
    switch: RunningSwitch, member: httpx.Client, headers: dict[str, str], form: bool
) -> None:
    data = {**SOUND, FIELD: form_of(member) if form else "made-up"}
    assert member.post("faults", data=data, headers=headers).status_code == 403
    assert switch.faults.waiting() == []


def test_whoever_signed_out_is_out(member: httpx.Client) -> None:
    member.post("sign-out", data={FIELD: form_of(member)})
    assert member.get("live").status_code == 401


@pytest.mark.parametrize("path", ["", "style.css", "script.js"])
def test_nothing_comes_from_elsewhere(visitor: httpx.Client, path: str) -> None:
    answer = visitor.get(path)
    policy = answer.headers["content-security-policy"]
    assert "default-src 'none'" in policy
    assert "unsafe" not in policy
    assert "http" not in answer.text.replace("http-equiv", "")


def test_both_languages_say_everything_and_tell_every_fault() -> None:
    english, persian = texts(Language.EN), texts(Language.FA)
    assert english.keys() == persian.keys()
    assert {f"fault_{kind}" for kind in KINDS} == {name for name in english if name.startswith("fault_")}


def test_what_a_holder_is_called_is_text(switch: RunningSwitch, member: httpx.Client) -> None:
    switch.admin.open_account("603770", holder="<script>alert(1)</script>")
    assert "<script>alert" not in member.get("").text


# --- in a browser -----------------------------------------------------------------------------------------------------

FLAGS: Final = [
    "--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-sync",
    "--disable-background-networking", "--disable-component-update",
]  # fmt: skip
# What axe would complain of first: fields without a label, no language, no title, headings that skip, low contrast.
FLAWS: Final = """() => {
  const flaws = [];
  for (const each of document.querySelectorAll('input:not([type=hidden]), select'))
    if (!each.labels.length || !each.labels[0].textContent.trim()) flaws.push('no label: ' + each.id);
  for (const each of document.querySelectorAll('button, a'))
    if (!each.textContent.trim()) flaws.push('no name: ' + each.outerHTML);
  if (!document.documentElement.lang || !document.documentElement.dir) flaws.push('no lang or dir');
  if (!document.title) flaws.push('no title');
  if (document.querySelectorAll('h1').length !== 1 || !document.querySelector('main')) flaws.push('no landmark');
  for (const each of document.querySelectorAll('th')) if (!each.scope) flaws.push('no scope');
  const ids = [...document.querySelectorAll('[id]')].map(each => each.id);
  if (new Set(ids).size !== ids.length) flaws.push('an id twice');
  const light = (color) => { const [r, g, b] = color.match(/[0-9.]+/g).map(Number)
    .map(c => c / 255).map(c => c <= .03928 ? c / 12.92 : ((c + .055) / 1.055) ** 2.4);
    return .2126 * r + .7152 * g + .0722 * b; };
  const behind = (each) => { for (let at = each; at; at = at.parentElement) {
    const color = getComputedStyle(at).backgroundColor;
    if (!/, 0\\)$/.test(color) && color !== 'transparent') return color; } return 'rgb(255,255,255)'; };
  for (const each of document.querySelectorAll('h1, h2, p, label, th, td, a, button, input, select')) {
    const pair = [light(getComputedStyle(each).color), light(behind(each))].sort((a, b) => b - a);
    if ((pair[0] + .05) / (pair[1] + .05) < 4.5) flaws.push('contrast: ' + each.outerHTML.slice(0, 80));
  }
  return flaws;
}"""


@pytest.mark.skipif(not CHROMIUM.exists(), reason="chromium is not installed")
def test_a_person_sets_a_fault_in_a_browser_and_sees_what_it_does(
    switch: RunningSwitch, acquirer: Acquirer, customer: Customer, token: str, tmp_path: Path
) -> None:
    playwright = pytest.importorskip("playwright.sync_api")
    with playwright.sync_playwright() as driver:
        browser = driver.chromium.launch_persistent_context(
            tmp_path / "profile", executable_path=str(CHROMIUM), args=FLAGS, locale="fa-IR"
        )
        try:
            _story(browser.new_page(), switch, acquirer, customer, token)
        finally:
            browser.close()


def _story(page: Any, switch: RunningSwitch, acquirer: Acquirer, customer: Customer, token: str) -> None:
    complaints: list[str] = []
    page.on("console", lambda said: complaints.append(said.text) if said.type == "error" else None)
    page.on("pageerror", lambda error: complaints.append(str(error)))
    page.goto(f"{switch.admin_url}/page/")
    assert page.evaluate("document.documentElement.dir") == "rtl"
    assert page.evaluate(FLAWS) == []
    page.get_by_label(texts(Language.FA)["token"]).fill(token)
    page.get_by_role("button", name=texts(Language.FA)["sign_in"]).click()
    for colours in ("light", "dark"):
        page.emulate_media(color_scheme=colours)
        assert page.evaluate(FLAWS) == [], colours
    page.get_by_role("link", name="English").click()
    page.get_by_label(texts(Language.EN)["kind"]).select_option("refuse")
    page.get_by_label(texts(Language.EN)["rc"]).fill("61")
    page.get_by_role("button", name=texts(Language.EN)["set_fault"]).click()
    page.locator("#faults td", has_text="refuse").wait_for()
    sale = acquirer.sale(customer.card, 150_000)
    assert acquirer.ask(sale)[39] == "61"
    # The page looks again by itself: the fault is gone, and the transaction is there.
    page.locator("#faults", has_text=texts(Language.EN)["no_faults"]).wait_for()
    page.locator("#transactions tr", has_text=sale[37]).get_by_text("61").first.wait_for()
    assert page.evaluate(FLAWS) == []
    assert complaints == []
