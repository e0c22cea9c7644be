"""Mail to a server over SMTP (RFC 5321), protected by TLS and, where it asks for one, with a password from a file.

STARTTLS is demanded, never tried: a server that does not offer it, or whose certificate does not hold, gets no mail.
What the server says is not repeated: it may quote addresses. Its code is.

| what happened                                     | the notice                                  |
| ------------------------------------------------- | ------------------------------------------- |
| 250 after the message                             | is delivered                                |
| 5xx to sender, recipient or message               | is given up                                 |
| 4xx                                               | waits                                       |
| no connection, no TLS, password refused           | waits, and so does all other mail for now   |
| connection lost, also after the message was sent  | waits; the next attempt is marked a repeat  |
"""

from __future__ import annotations

import contextlib
import smtplib
import ssl
from email.message import EmailMessage
from email.policy import SMTP as WIRE
from typing import Final

from ra.notices.outcome import Delivered, Failed, Outcome, cut_off
from runtime.notice_settings import SmtpSettings
from runtime.secrets import SecretFileError, read_secret

_GOOD: Final = 250
_FORWARDED: Final = 251
_PERMANENT: Final = 500
_PAUSE: Final = 30.0  # seconds of silence


class _RefusedError(Exception):
    def __init__(self, stage: str, code: int) -> None:
        super().__init__(stage)
        self.outcome: Final = Failed(f"SMTP {code} to {stage}", for_good=code >= _PERMANENT)


class SmtpServer:
    """The mail server of the settings; every delivery is a connection of its own."""

    def __init__(self, settings: SmtpSettings, *, name: str) -> None:
        """`name` is the host that we say we are (EHLO)."""
        self._settings = settings
        self._name = name

    def send(self, mail: EmailMessage, *, sender: str, recipient: str) -> Outcome:
        """Hand over a message for one recipient. Never raises for what the network or the server does."""
        settings = self._settings
        try:
            context = ssl.create_default_context(cafile=settings.ca)
            context.minimum_version = ssl.TLSVersion.TLSv1_2
            smtp = self._new(context)
        except (OSError, ssl.SSLError):
            return Failed("the trust anchors for the mail server cannot be read", away=True)
        with contextlib.closing(smtp), cut_off(settings.deadline, lambda: smtp.sock):
            try:
                self._greet(smtp, context)
            except smtplib.SMTPResponseException as error:
                return Failed(f"SMTP {error.smtp_code} before any message", away=True)
            except (OSError, smtplib.SMTPException, SecretFileError, ValueError) as error:
                return Failed(f"the mail server cannot be used: {_kind(error)}", away=True)
            try:
                self._hand_over(smtp, mail, sender, recipient)
            except _RefusedError as refused:
                return refused.outcome
            except smtplib.SMTPResponseException as error:
                return Failed(f"SMTP {error.smtp_code} to DATA", for_good=error.smtp_code >= _PERMANENT)
            except (OSError, smtplib.SMTPException, ValueError) as error:
                return Failed(f"the connection was lost: {_kind(error)}")
            with contextlib.suppress(OSError, smtplib.SMTPException, ValueError):
                smtp.quit()
            return Delivered()

    def _new(self, context: ssl.SSLContext) -> smtplib.SMTP:
        pause = min(_PAUSE, self._settings.deadline)
        if self._settings.security == "tls":
            smtp: smtplib.SMTP = smtplib.SMTP_SSL(local_hostname=self._name, timeout=pause, context=context)
        else:
            smtp = smtplib.SMTP(local_hostname=self._name, timeout=pause)
        smtp._host = self._settings.host  # type: ignore[attr-defined]  # the name that TLS verifies; set by its constructor alone
        return smtp

    def _greet(self, smtp: smtplib.SMTP, context: ssl.SSLContext) -> None:
        settings = self._settings
        code, _said = smtp.connect(settings.host, settings.port)
        if code != 220:
            raise smtplib.SMTPConnectError(code, "")
        smtp.ehlo_or_helo_if_needed()
        if settings.security == "starttls":
            smtp.starttls(context=context)
            smtp.ehlo_or_helo_if_needed()
        if settings.user is not None and settings.password_file is not None:
            smtp.login(settings.user, read_secret(settings.password_file).reveal().decode())

    @staticmethod
    def _hand_over(smtp: smtplib.SMTP, mail: EmailMessage, sender: str, recipient: str) -> None:
        content = mail.as_bytes(policy=WIRE)
        _must("MAIL", smtp.mail(sender))
        _must("RCPT", smtp.rcpt(recipient))
        _must("DATA", smtp.data(content))


def _must(stage: str, answer: tuple[int, bytes]) -> None:
    if answer[0] not in {_GOOD, _FORWARDED}:
        raise _RefusedError(stage, answer[0])


def _kind(error: Exception) -> str:
    """What went wrong, by its class: a text could quote anything."""
    if isinstance(error, ssl.SSLCertVerificationError):
        return "its certificate does not hold"
    if isinstance(error, TimeoutError):
        return "no answer in time"
    return type(error).__name__
