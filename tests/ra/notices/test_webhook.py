"""Notices to another system: JSON that anybody's tools judge, posted to whom the settings name and to nobody else."""

from __future__ import annotations

import json
import ssl
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any, ClassVar

import pytest

from pki.oids import CT_NOTICE
from ra.notices.kinds import NoticeState
from ra.notices.outbox import StoredNotice
from ra.notices.outcome import Delivered, Failed, Outcome
from ra.notices.webhook import Webhook, resolve
from runtime.client import TlsFiles
from runtime.notice_settings import NoticesSettings, WebhookSettings
from runtime.problems import Problem
from tests.support.judges import attime, openssl, openssl_accepts
from tests.support.notice_book import NOW, ONE, NoticeBook
from tests.support.pki_factory import Credential, PkiFactory
from tests.support.ports import free_port
from tests.support.tls import tls_issuer


@dataclass
class Receiver:
    """A system that is told: what it was sent, and what it answers."""

    url: str = ""
    ca: Path = Path()
    status: int = 204
    headers: dict[str, str] = field(default_factory=dict)
    answer: Callable[[Any], None] | None = None
    taken: list[tuple[str, dict[str, str], bytes]] = field(default_factory=list)


class _Handler(BaseHTTPRequestHandler):
    receiver: ClassVar[Receiver]

    def do_POST(self) -> None:  # the library's name
        body = self.rfile.read(int(self.headers["content-length"]))
        headers = {name.lower(): value for name, value in self.headers.items()}
        self.receiver.taken.append((self.path, headers, body))
        if self.receiver.answer is not None:
            self.receiver.answer(self.wfile)
            return
        self.send_response(self.receiver.status)
        for name, value in self.receiver.headers.items():
            self.send_header(name, value)
        self.end_headers()

    def log_message(self, *_arguments: object) -> None:
        """Says nothing."""


@pytest.fixture(scope="module")
def identity(tmp_path_factory: pytest.TempPathFactory) -> TlsFiles:
    return tls_issuer(tmp_path_factory.mktemp("tls"))("desk")


@pytest.fixture
def receiver(identity: TlsFiles) -> Iterator[Receiver]:
    made = Receiver(ca=identity.ca)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(identity.certificate, identity.key)
    server = ThreadingHTTPServer(("127.0.0.1", 0), type("Handler", (_Handler,), {"receiver": made}))
    server.socket = context.wrap_socket(server.socket, server_side=True)
    made.url = f"https://localhost:{server.server_address[1]}/notices?from=ra"
    thread = threading.Thread(target=lambda: server.serve_forever(poll_interval=0.01))
    thread.start()
    yield made
    server.shutdown()
    thread.join()
    server.server_close()


@pytest.fixture(scope="module")
def ra() -> tuple[PkiFactory, Credential]:
    pki = PkiFactory(now=NOW)
    return pki, pki.service("ra")


@pytest.fixture
def notice(tmp_path: Path) -> Iterator[StoredNotice]:
    book = NoticeBook(
        f"sqlite:///{tmp_path / 'ra.db'}",
        NoticesSettings.model_validate({"webhooks": {"desk": {"url": "https://desk.example/"}}}),
    )
    book.case(ONE)
    book.step(ONE, "submit", "DRAFT", "SCREENING")
    book.derive()
    claimed = book.outbox.claim(NOW)
    assert claimed is not None
    yield claimed
    book.close()


def webhook(receiver: Receiver, ra: tuple[PkiFactory, Credential], **changes: Any) -> Webhook:
    values = {"url": receiver.url, "ca": receiver.ca, "private": True, "deadline": 10, **changes}
    return Webhook(
        WebhookSettings.model_validate(values), lambda content: ra[1].sign(CT_NOTICE, content, signing_time=NOW)
    )


def test_openssl_judges_it_and_gives_the_json(
    receiver: Receiver, ra: tuple[PkiFactory, Credential], notice: StoredNotice, tmp_path: Path
) -> None:
    assert webhook(receiver, ra).send(notice, NOW) == Delivered()
    [(path, headers, body)] = receiver.taken
    assert path == "/notices?from=ra"
    assert headers["content-type"] == "application/cms; encapsulatingContent=signedData"
    assert headers["idempotency-key"] == f'"{notice.id}"'
    assert "x-kwbp-notice-repeat" not in headers
    ra[0].write(tmp_path)
    judge = ("cms", "-verify", "-binary", "-inform", "DER", "-purpose", "any", "-CAfile", tmp_path / "root.pem")
    document = json.loads(openssl(*judge, *attime(NOW), stdin=body))
    assert document["id"] == notice.id
    assert (document["event"], document["attempt"]) == ("submitted", 1)
    assert document["fields"]["application"] == ONE
    assert document["sent_at"] == "2027-03-01T09:00:00Z"
    altered = body.replace(b'"attempt":1', b'"attempt":2')
    assert altered != body
    assert not openssl_accepts(*judge, *attime(NOW), stdin=altered)


def test_a_repeat_has_the_same_key_and_says_which_attempt_it_is(
    receiver: Receiver, ra: tuple[PkiFactory, Credential], notice: StoredNotice
) -> None:
    object.__setattr__(notice, "attempts", 3)
    assert webhook(receiver, ra).send(notice, NOW) == Delivered()
    [(_path, headers, body)] = receiver.taken
    assert (headers["idempotency-key"], headers["x-kwbp-notice-repeat"]) == (f'"{notice.id}"', "3")
    assert b'"attempt":3' in body


@pytest.mark.parametrize(("status", "for_good"), [(400, False), (410, True), (429, False), (500, False)])
def test_every_answer_but_success_is_none(
    receiver: Receiver, ra: tuple[PkiFactory, Credential], notice: StoredNotice, status: int, for_good: bool
) -> None:
    receiver.status = status
    assert webhook(receiver, ra).send(notice, NOW) == Failed(f"HTTP {status}", for_good=for_good)


def test_redirects_are_not_followed(
    receiver: Receiver, ra: tuple[PkiFactory, Credential], notice: StoredNotice
) -> None:
    receiver.status, receiver.headers = 307, {"Location": receiver.url}
    assert webhook(receiver, ra).send(notice, NOW) == Failed("HTTP 307")
    assert len(receiver.taken) == 1


def test_this_machine_and_private_networks_are_not_spoken_to_unless_allowed(
    receiver: Receiver, ra: tuple[PkiFactory, Credential], notice: StoredNotice
) -> None:
    refused = Failed("the webhook's address is not a public one", away=True)
    assert webhook(receiver, ra, private=False).send(notice, NOW) == refused
    for inside in (
        "127.0.0.1", "10.1.2.3", "172.16.0.1", "192.168.1.1", "169.254.169.254", "100.64.0.1", "224.0.0.1",
        "0.0.0.0",  # noqa: S104  # an address that must not be spoken to
        "::1", "::", "fe80::1%lo", "fd00::1", "::ffff:127.0.0.1", "2002:7f00:1::", "2001:db8::1",
    ):  # fmt: skip
        settings = WebhookSettings(url="https://desk.example/")
        hook = Webhook(settings, lambda content: content, resolve=lambda *_, inside=inside: ["8.8.8.8", inside])
        assert hook.send(notice, NOW) == refused
    assert receiver.taken == []


def test_the_address_that_was_judged_is_the_one_spoken_to(
    receiver: Receiver, ra: tuple[PkiFactory, Credential], notice: StoredNotice
) -> None:
    """A name that means something else a moment later leads nowhere else."""
    asked: list[str] = []

    def once(host: str, _port: int) -> list[str]:
        asked.append(host)
        return ["127.0.0.1"]

    settings = WebhookSettings(url=receiver.url.replace("localhost", "desk.invalid"), private=True, ca=receiver.ca)
    outcome = Webhook(settings, lambda content: content, resolve=once).send(notice, NOW)
    assert outcome == Failed("the webhook's certificate does not hold", away=True)  # the name's, not the address's
    assert asked == ["desk.invalid"]
    assert resolve("127.0.0.1", 443) == ["127.0.0.1"]
    nowhere = Webhook(settings, lambda content: content, resolve=lambda *_: []).send(notice, NOW)
    assert nowhere == Failed("the webhook has no address", away=True)


def test_a_certificate_of_nobody_we_trust_gets_nothing(
    receiver: Receiver, ra: tuple[PkiFactory, Credential], notice: StoredNotice, tmp_path: Path
) -> None:
    outcome = webhook(receiver, ra, ca=tls_issuer(tmp_path)("x").ca).send(notice, NOW)
    assert outcome == Failed("the webhook's certificate does not hold", away=True)
    assert receiver.taken == []


def _endless(out: Any) -> None:
    out.write(b"HTTP/1.1 200 OK\r\n\r\n")
    try:
        while True:
            out.write(b"x" * 65536)
    except OSError:
        return


def _dripping(out: Any) -> None:
    stop = threading.Event()
    try:
        while not stop.wait(0.05):
            out.write(b"HTTP/1.1 100 Continue\r\n\r\n")
    except OSError:
        return


def test_an_answer_without_end_is_not_read_to_its_end(
    receiver: Receiver, ra: tuple[PkiFactory, Credential], notice: StoredNotice
) -> None:
    receiver.answer = _endless
    assert webhook(receiver, ra).send(notice, NOW) == Delivered()
    receiver.answer = _dripping
    outcome: Outcome = webhook(receiver, ra, deadline=0.4).send(notice, NOW)
    assert isinstance(outcome, Failed)
    assert outcome.away


def test_nobody_there_and_no_signature_are_said_in_our_words(
    receiver: Receiver, ra: tuple[PkiFactory, Credential], notice: StoredNotice
) -> None:
    outcome = webhook(receiver, ra, url=f"https://localhost:{free_port()}/").send(notice, NOW)
    assert outcome == Failed("the webhook cannot be reached: ConnectionRefusedError", away=True)

    def away(_content: bytes) -> bytes:
        raise Problem(503, "token-away", "the token is away")

    unsigned = Webhook(WebhookSettings(url=receiver.url, private=True), away).send(notice, NOW)
    assert isinstance(unsigned, Failed)
    assert unsigned.trouble.startswith("not signed: ")
    assert receiver.taken == []


def test_a_webhook_that_is_gone_from_the_settings_is_given_up(tmp_path: Path) -> None:
    settings = NoticesSettings.model_validate({"webhooks": {"desk": {"url": "https://desk.example/"}}})
    book = NoticeBook(f"sqlite:///{tmp_path / 'ra.db'}", settings)
    book.case(ONE)
    book.step(ONE, "submit", "DRAFT", "SCREENING")
    book.derive()
    assert book.courier(None, {}).deliver() == 0  # type: ignore[arg-type]  # there is no mail to send
    assert book.all()[0].state is NoticeState.UNDELIVERED
    book.close()
