"""Mail to a real server over SMTP: TLS and password, refusals for now and for good, and lines that go dead."""

from __future__ import annotations

import socket
import ssl
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
from aiosmtpd.controller import Controller
from aiosmtpd.smtp import SMTP, AuthResult, Envelope, LoginPassword, Session

from ra.notices.kinds import NoticeState
from ra.notices.message import message
from ra.notices.outcome import Delivered, Failed, Outcome
from ra.notices.smtp import SmtpServer
from runtime.client import TlsFiles
from runtime.notice_settings import SmtpSettings
from tests.support.notice_book import NOW, ONE, TWO, NoticeBook
from tests.support.ports import free_port
from tests.support.tls import tls_issuer

PASSWORD = b"correct horse"


@dataclass
class Mailbox:
    """What a server's handler does: takes mail, unless it was told to answer something else."""

    answers: dict[str, list[str]] = field(default_factory=dict)
    drop_after_data: bool = False
    taken: list[Envelope] = field(default_factory=list)
    users: list[str] = field(default_factory=list)

    def _answer(self, stage: str) -> str | None:
        return self.answers[stage].pop(0) if self.answers.get(stage) else None

    async def handle_RCPT(  # noqa: N802  # the library's name
        self, _server: SMTP, _session: Session, envelope: Envelope, address: str, _options: list[str]
    ) -> str:
        if (refusal := self._answer("RCPT")) is not None:
            return refusal
        envelope.rcpt_tos.append(address)
        return "250 OK"

    async def handle_DATA(self, server: SMTP, _session: Session, envelope: Envelope) -> str:  # noqa: N802
        if (refusal := self._answer("DATA")) is not None:
            return refusal
        self.taken.append(envelope)
        if self.drop_after_data:
            self.drop_after_data = False
            assert server.transport is not None
            server.transport.abort()
        return "250 OK"

    def authenticate(self, _server: Any, _session: Any, _envelope: Any, _mechanism: str, data: Any) -> AuthResult:
        good = isinstance(data, LoginPassword) and data.password == PASSWORD
        if good:
            self.users.append(data.login.decode())
        return AuthResult(success=good, handled=False)


@dataclass
class Post:
    """A server, and what reaches it."""

    box: Mailbox
    port: int
    ca: Path
    security: str

    def client(self, **changes: Any) -> SmtpServer:
        values = {"host": "localhost", "port": self.port, "security": self.security, "ca": self.ca, "deadline": 10}
        return SmtpServer(SmtpSettings.model_validate({**values, **changes}), name="kwbp.example")


@pytest.fixture(scope="module")
def identity(tmp_path_factory: pytest.TempPathFactory) -> TlsFiles:
    return tls_issuer(tmp_path_factory.mktemp("tls"))("mail")


@pytest.fixture
def serve(identity: TlsFiles) -> Iterator[Callable[..., Post]]:
    running: list[Controller] = []

    def start(security: str = "starttls", host: str = "127.0.0.1", **options: Any) -> Post:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(identity.certificate, identity.key)
        box = Mailbox()
        if security == "starttls":
            options = {"tls_context": context, "require_starttls": True, **options}
        elif security == "tls":
            options["ssl_context"] = context
        controller = Controller(
            box, hostname=host, port=free_port(host), authenticator=box.authenticate, ready_timeout=60.0, **options
        )
        controller.start()
        running.append(controller)
        return Post(box, controller.port, identity.ca, security)

    yield start
    for each in running:
        each.stop()


@pytest.fixture
def book(tmp_path: Path) -> Iterator[NoticeBook]:
    made = NoticeBook(f"sqlite:///{tmp_path / 'ra.db'}")
    made.case(ONE, contact="shop@example.ir", language="fa")
    made.step(ONE, "submit", "DRAFT", "SCREENING")
    made.derive()
    yield made
    made.close()


def send(book: NoticeBook, client: SmtpServer) -> Outcome:
    notice = book.outbox.claim(NOW)
    assert notice is not None
    mail = message(notice, sender="ra@kwbp.example")
    return client.send(mail, sender="ra@kwbp.example", recipient=notice.recipient)


@pytest.mark.parametrize("security", ["starttls", "tls", "none"])
def test_a_message_arrives_as_it_was_written(serve: Callable[..., Post], book: NoticeBook, security: str) -> None:
    post = serve(security)
    assert send(book, post.client()) == Delivered()
    [envelope] = post.box.taken
    assert (envelope.mail_from, envelope.rcpt_tos) == ("ra@kwbp.example", ["shop@example.ir"])
    assert isinstance(envelope.content, bytes)
    assert b'boundary="=_' in envelope.content


def test_with_a_password_from_its_file(serve: Callable[..., Post], book: NoticeBook, tmp_path: Path) -> None:
    post, secret = serve(auth_required=True), tmp_path / "smtp-password"
    secret.write_bytes(PASSWORD + b"\n")
    secret.chmod(0o600)
    assert send(book, post.client(user="ra", password_file=secret)) == Delivered()
    assert post.box.users == ["ra"]
    wrong = tmp_path / "wrong"
    wrong.write_bytes(b"incorrect")
    wrong.chmod(0o600)
    open_to_all = tmp_path / "open"
    open_to_all.write_bytes(PASSWORD)
    open_to_all.chmod(0o644)
    book.now = book.all()[0].leased_until or NOW
    for file, trouble in ((wrong, "SMTP 535 before any message"), (open_to_all, "SecretFileError")):
        outcome = post.client(user="ra", password_file=file).send(
            message(book.all()[0], sender="ra@kwbp.example"), sender="ra@kwbp.example", recipient="shop@example.ir"
        )
        assert isinstance(outcome, Failed)
        assert trouble in outcome.trouble
        assert (outcome.away, outcome.for_good) == (True, False)
        assert "horse" not in outcome.trouble
    assert len(post.box.taken) == 1


@pytest.mark.parametrize(
    ("stage", "answer", "for_good"),
    [
        ("RCPT", "450 mailbox busy", False),
        ("RCPT", "550 no such person", True),
        ("DATA", "451 try later", False),
        ("DATA", "554 not wanted", True),
    ],
)
def test_the_servers_word_decides_whether_it_is_tried_again(
    serve: Callable[..., Post], book: NoticeBook, stage: str, answer: str, for_good: bool
) -> None:
    post = serve()
    post.box.answers[stage] = [answer]
    outcome = send(book, post.client())
    assert outcome == Failed(f"SMTP {answer[:3]} to {stage}", for_good=for_good)
    assert post.box.taken == []


def test_a_certificate_of_nobody_we_trust_gets_nothing(
    serve: Callable[..., Post], book: NoticeBook, tmp_path: Path
) -> None:
    foreign = tls_issuer(tmp_path)("other").ca
    post = serve()
    outcome = send(book, post.client(ca=foreign))
    assert outcome == Failed("the mail server cannot be used: its certificate does not hold", away=True)
    elsewhere = serve(host="127.0.0.2")  # a name that the certificate does not have
    named = elsewhere.client(host="127.0.0.2")
    assert named.send(message(book.all()[0], sender="ra@b"), sender="ra@b", recipient="c@d") == outcome
    assert post.box.taken == elsewhere.box.taken == []


def test_no_starttls_is_no_mail(serve: Callable[..., Post], book: NoticeBook) -> None:
    post = serve("none")
    outcome = send(book, post.client(security="starttls"))
    assert outcome == Failed("the mail server cannot be used: SMTPNotSupportedError", away=True)
    assert post.box.taken == []


def test_after_a_line_that_broke_the_repeat_is_recognised(serve: Callable[..., Post], book: NoticeBook) -> None:
    """The server had the message, and nobody knows: it comes again, under the same name, and says so."""
    post = serve()
    post.box.drop_after_data = True
    courier = book.courier(post.client())
    assert courier.deliver() == 0
    book.now = book.all()[0].next_at
    assert courier.deliver() == 1
    first, second = (str(each.content, "ascii") for each in map(_bytes, post.box.taken))
    identity = next(line for line in first.splitlines() if line.startswith("Message-ID"))
    assert identity in second
    assert "X-KWBP-Notice-Repeat: 2" in second.splitlines()
    assert "X-KWBP-Notice-Repeat" not in first


@dataclass
class _Bytes:
    content: bytes


def _bytes(envelope: Envelope) -> _Bytes:
    assert isinstance(envelope.content, bytes)
    return _Bytes(envelope.content)


def test_a_server_that_drips_is_left_when_the_time_is_over(book: NoticeBook) -> None:
    listener, stop = socket.create_server(("127.0.0.1", 0)), threading.Event()

    def drip() -> None:
        line, _ = listener.accept()
        with line:
            while not stop.wait(0.05):
                try:
                    line.sendall(b"220-still here\r\n")
                except OSError:
                    return

    thread = threading.Thread(target=drip)
    thread.start()
    values = {"host": "127.0.0.1", "port": listener.getsockname()[1], "security": "none", "deadline": 0.4}
    outcome = send(book, SmtpServer(SmtpSettings.model_validate(values), name="kwbp.example"))
    stop.set()
    thread.join()
    listener.close()
    assert isinstance(outcome, Failed)
    assert outcome.away


def test_a_server_that_is_away_costs_one_attempt_of_one_notice(serve: Callable[..., Post], book: NoticeBook) -> None:
    port = free_port()
    book.case(TWO, contact="other@example.ir")
    book.step(TWO, "submit", "DRAFT", "SCREENING")
    book.derive()
    post = serve()
    assert book.courier(post.client(port=port)).deliver() == 0
    assert [each.attempts for each in book.all()] == [1, 0]
    book.now = book.all()[0].next_at
    assert book.courier(post.client()).deliver() == 2
    assert {each.state for each in book.all()} == {NoticeState.SENT}


def test_trust_anchors_that_cannot_be_read_are_said_to_be(book: NoticeBook, tmp_path: Path) -> None:
    values = {"host": "localhost", "port": 25, "ca": tmp_path / "none.pem"}
    outcome = send(book, SmtpServer(SmtpSettings.model_validate(values), name="kwbp.example"))
    assert outcome == Failed("the trust anchors for the mail server cannot be read", away=True)
