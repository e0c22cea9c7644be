"""Settings of notices (`ra.notices`): the mail server, officers' addresses, webhooks; secrets only by path."""

from __future__ import annotations

import ipaddress
import re
from pathlib import Path
from typing import Annotated, Final, Literal
from urllib.parse import urlsplit

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, model_validator

_ADDRESS: Final = re.compile(r"[A-Za-z0-9._+-]{1,64}@[A-Za-z0-9](?:[A-Za-z0-9.-]{0,187}[A-Za-z0-9])?")


def _address(text: str) -> str:
    if _ADDRESS.fullmatch(text) is None:
        raise ValueError("an e-mail address is expected, ASCII and without a name")
    return text


def _webhook_url(url: str) -> str:
    parts = urlsplit(url)
    if parts.scheme != "https" or not parts.hostname or parts.username is not None or parts.fragment:
        raise ValueError("an https: URL without user and fragment is expected")
    if not url.isascii() or not url.isprintable() or " " in url or "\\" in url:
        raise ValueError("a URL is of printable ASCII without blanks")
    _ = parts.port  # raises ValueError where it is none
    return url


Address = Annotated[str, AfterValidator(_address)]
LanguageTag = Literal["en", "fa"]


class _Section(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", hide_input_in_errors=True)


class SmtpSettings(_Section):
    """The mail server that takes what we send (RFC 6409). It is spoken to over TLS, and its certificate verified."""

    host: str = Field(pattern=r"^[A-Za-z0-9.:-]{1,253}$")
    port: int = Field(default=587, ge=1, le=65535)
    security: Literal["starttls", "tls", "none"] = Field(
        default="starttls", description="tls: from the first byte (RFC 8314); none: to an address of this machine alone"
    )
    ca: Path | None = Field(default=None, description="PEM trust anchors; none: those of the operating system")
    user: str | None = None
    password_file: Path | None = Field(default=None, description="of mode 0600")
    deadline: float = Field(default=45.0, gt=0, le=120, description="seconds for the whole of a delivery")

    @model_validator(mode="after")
    def _protected(self) -> SmtpSettings:
        if (self.user is None) != (self.password_file is None):
            raise ValueError("a user and a password_file come together")
        if self.security == "none" and (self.user is not None or not _is_loopback(self.host)):
            raise ValueError("without TLS only a server of this machine is spoken to, and without a password")
        return self


class NoticeRecipient(_Section):
    """Where the officers of a trusted role are written to; a role may have several."""

    role: str = Field(pattern=r"^[a-z][a-z_]{0,39}$")
    address: Address
    language: LanguageTag | None = None


class WebhookSettings(_Section):
    """Where notices are posted to, as JSON signed by the RA's key."""

    url: Annotated[str, AfterValidator(_webhook_url)]
    events: tuple[str, ...] = Field(default=(), description="which ones; none named: all")
    ca: Path | None = Field(default=None, description="PEM trust anchors; none: those of the operating system")
    private: bool = Field(default=False, description="it may be an address of this machine or of a private network")
    deadline: float = Field(default=20.0, gt=0, le=120, description="seconds for the whole of a delivery")


class NoticesSettings(_Section):
    """To whom the RA writes, and by which way. Without a mail server, mail is put into a folder of this machine."""

    sender: Address = "ra@localhost"
    language: LanguageTag = "en"
    smtp: SmtpSettings | None = None
    spool: Path | None = Field(default=None, description="folder for mail without a server; none: notices/ of the home")
    recipients: tuple[NoticeRecipient, ...] = ()
    webhooks: dict[Annotated[str, Field(pattern=r"^[a-z0-9][a-z0-9-]{0,39}$")], WebhookSettings] = Field(
        default_factory=dict
    )


def _is_loopback(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"
