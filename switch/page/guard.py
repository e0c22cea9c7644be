"""Who may use the page: a browser on this machine, from this page, of somebody who holds the token of the controls.

The controls listen on the loopback alone, but so does every page that a browser of this machine shows: another site may
send forms here (CSRF), or point a name of its own at 127.0.0.1 (DNS rebinding). Therefore the Host must be this
machine's, a form must come from this page, with a value that only this page knows, and the cookie is SameSite=Strict.
"""

from __future__ import annotations

import hmac
import secrets
from collections import OrderedDict
from dataclasses import dataclass
from typing import Final
from urllib.parse import urlsplit

from starlette.requests import Request

from runtime.problems import Problem
from runtime.secrets import Secret

COOKIE: Final = "kwbp-switch"
FIELD: Final = "form"
"""Name of the hidden field that says that a form is of this page."""
_HOSTS: Final = frozenset({"127.0.0.1", "localhost", "::1"})
_SESSIONS: Final = 16
_OWN: Final = frozenset({"same-origin", "none"})


@dataclass(frozen=True, slots=True, repr=False)
class Session:
    """Somebody who signed in; `form` is what its forms must say."""

    name: str
    form: str


class Sessions:
    """Who signed in, in memory: the newest few."""

    def __init__(self, token: Secret) -> None:
        self._token = token
        self._known: OrderedDict[str, Session] = OrderedDict()

    def sign_in(self, token: str) -> Session | None:
        """A session, if `token` is that of the controls."""
        if not hmac.compare_digest(token.strip().encode(), self._token.reveal()):
            return None
        session = Session(secrets.token_urlsafe(32), secrets.token_urlsafe(32))
        self._known[session.name] = session
        while len(self._known) > _SESSIONS:
            self._known.popitem(last=False)
        return session

    def sign_out(self, session: Session) -> None:
        """Forget it."""
        self._known.pop(session.name, None)

    def of(self, request: Request) -> Session | None:
        """The session of a request; None if nobody signed in."""
        return self._known.get(request.cookies.get(COOKIE, ""))


def check_origin(request: Request) -> None:
    """Raises Problem 403 for a Host that is not this machine's, and for a request from another site's page."""
    host = urlsplit(f"//{request.headers.get('host', '')}").hostname
    if host not in _HOSTS:
        raise Problem(403, "not-this-machine", "the page is for this machine alone")
    origin = request.headers.get("origin")
    if origin is not None and urlsplit(origin).netloc != request.headers["host"]:
        raise Problem(403, "another-site", "this came from a page of another site")
    if request.method != "GET" and request.headers.get("sec-fetch-site", "same-origin") not in _OWN:
        raise Problem(403, "another-site", "this came from a page of another site")


def check_form(session: Session, value: str) -> None:
    """Raises Problem 403 unless a form is of the session's own page."""
    if not hmac.compare_digest(value.encode(), session.form.encode()):
        raise Problem(403, "another-site", "the form is not of this page; load the page again")
