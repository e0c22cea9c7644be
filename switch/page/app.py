"""The page's routes, below `/page` beside the controls.

| route                    | what it does                                   |
| ------------------------ | ---------------------------------------------- |
| GET /                    | the page; whoever has not signed in is asked to |
| GET /live                | the part of it that changes by itself          |
| GET /style.css, /script.js | what belongs to it; nothing comes from elsewhere |
| POST /sign-in, /sign-out | with the token of the controls                 |
| POST /faults             | sets a fault                                   |
| POST /faults/clear       | forgets all                                    |
| POST /lines/break        | aborts every connection of the line            |
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from datetime import date
from importlib.resources import files
from typing import Final
from urllib.parse import parse_qsl

from fastapi import FastAPI
from pydantic import ValidationError
from starlette.applications import Starlette
from starlette.concurrency import run_in_threadpool
from starlette.requests import Request
from starlette.responses import HTMLResponse, RedirectResponse, Response
from starlette.routing import Route

from runtime import problems
from runtime.language import Language, negotiate
from runtime.problems import Problem
from runtime.secrets import Secret
from switch.faults import Fault, FaultPlan
from switch.overview import Overview
from switch.page import view
from switch.page.guard import COOKIE, FIELD, Session, Sessions, check_form, check_origin

PREFIX: Final = "/page"
"""Where the application is mounted."""
_POLICY: Final = {
    "content-security-policy": "default-src 'none'; style-src 'self'; script-src 'self'; connect-src 'self'; "
    "form-action 'self'; frame-ancestors 'none'; base-uri 'none'",
    "x-content-type-options": "nosniff",
    "referrer-policy": "same-origin",  # with none, forms of this page would say no origin
    "cache-control": "no-store",
    "cross-origin-opener-policy": "same-origin",
    "cross-origin-resource-policy": "same-origin",
}
_ASSETS: Final = {"style.css": "text/css; charset=utf-8", "script.js": "text/javascript; charset=utf-8"}
_LONGEST_FORM: Final = 4096  # bytes

Handler = Callable[[Request, Session], Awaitable[Response]]


class Page:
    """The handlers."""

    def __init__(
        self,
        overview: Overview,
        faults: FaultPlan,
        *,
        token: Secret,
        business_day: Callable[[], date],
        break_connections: Callable[[], None],
    ) -> None:
        self._overview = overview
        self._faults = faults
        self._sessions = Sessions(token)
        self._business_day = business_day
        self._break_connections = break_connections

    def app(self) -> Starlette:
        """As an ASGI application."""
        app = FastAPI(openapi_url=None)
        problems.install(app)
        app.router.routes.extend(
            [
                Route("/", self.look),
                Route("/live", self.live),
                *(Route(f"/{name}", _asset(name, kind)) for name, kind in _ASSETS.items()),
                Route("/sign-in", self.sign_in, methods=["POST"]),
                Route("/sign-out", self._signed(self.sign_out), methods=["POST"]),
                Route("/faults", self._signed(self.set_fault), methods=["POST"]),
                Route("/faults/clear", self._signed(self.clear_faults), methods=["POST"]),
                Route("/lines/break", self._signed(self.break_lines), methods=["POST"]),
            ]
        )
        return app

    async def look(self, request: Request) -> Response:
        """The page."""
        check_origin(request)
        language, session = _language(request), self._sessions.of(request)
        if session is None:
            return _html(view.page(language, None, view.sign_in(language, wrong=False)))
        return await self._whole(language, session)

    async def live(self, request: Request) -> Response:
        """What changes by itself."""
        check_origin(request)
        if self._sessions.of(request) is None:
            raise Problem(401, "sign-in", "sign in first")
        return _html(await run_in_threadpool(self._live, _language(request)))

    async def sign_in(self, request: Request) -> Response:
        """Take the token; the cookie is for this page alone."""
        check_origin(request)
        language = _language(request)
        session = self._sessions.sign_in((await _form(request)).get("token", ""))
        if session is None:
            return _html(view.page(language, None, view.sign_in(language, wrong=True)), status=403)
        response = _back(request)
        response.set_cookie(
            COOKIE,
            session.name,
            path=request.scope["root_path"] or "/",
            httponly=True,
            samesite="strict",
            secure=request.url.scheme == "https",
        )
        return response

    async def sign_out(self, request: Request, session: Session) -> Response:
        """Forget who signed in."""
        self._sessions.sign_out(session)
        return _back(request)

    async def set_fault(self, request: Request, session: Session) -> Response:
        """Set the fault of the form, or show why not."""
        form = await _form(request)
        try:
            fault = Fault.model_validate(
                {
                    **{name: form[name] for name in ("kind", "mti", "count", "probability", "seconds", "rc")},
                    "card": form.get("card_digits") or None,
                }
            )
        except (ValidationError, KeyError) as error:
            named = _broken(error) if isinstance(error, ValidationError) else error.args[0]
            return await self._whole(_language(request), session, refused=str(named))
        self._faults.add(fault)
        return _back(request)

    async def clear_faults(self, request: Request, _session: Session) -> Response:
        """Forget all faults."""
        self._faults.clear()
        return _back(request)

    async def break_lines(self, request: Request, _session: Session) -> Response:
        """Abort every connection of the line."""
        self._break_connections()
        return _back(request)

    async def _whole(self, language: Language, session: Session, *, refused: str | None = None) -> Response:
        shown = view.Shown(self._faults.waiting(), refused=refused)
        inner = await run_in_threadpool(self._live, language)
        content = f'{view.controls(language, session, shown)}<div id="live">{inner}</div>'
        return _html(view.page(language, session, content), status=200 if refused is None else 422)

    def _live(self, language: Language) -> str:
        return view.live(language, self._overview, view.Shown(self._faults.waiting(), self._business_day()))

    def _signed(self, handle: Handler) -> Callable[[Request], Awaitable[Response]]:
        """Only for who signed in, and only from a form of this page."""

        async def guarded(request: Request) -> Response:
            check_origin(request)
            session = self._sessions.of(request)
            if session is None:
                raise Problem(401, "sign-in", "sign in first")
            check_form(session, (await _form(request)).get(FIELD, ""))
            return await handle(request, session)

        return guarded


def _asset(name: str, kind: str) -> Callable[[Request], Awaitable[Response]]:
    content = files("switch.page").joinpath(name).read_bytes()

    async def asset(_request: Request) -> Response:
        return Response(content, headers={**_POLICY, "content-type": kind})

    return asset


def _broken(error: ValidationError) -> object:
    """The field that is wrong; where a kind lacks something, what it lacks: on this form, a delay its seconds."""
    found = error.errors()[0]
    return found["loc"][0] if found["loc"] else "seconds"


async def _form(request: Request) -> dict[str, str]:
    body = await request.body()
    if len(body) > _LONGEST_FORM:
        raise Problem(413, "message-too-big", f"a form has at most {_LONGEST_FORM} bytes")
    return dict(parse_qsl(body.decode("utf-8", "replace"), keep_blank_values=True, max_num_fields=20))


def _language(request: Request) -> Language:
    asked = request.query_params.get("lang")
    if asked in tuple(Language):
        return Language(asked)
    return negotiate(request.headers.get("accept-language", ""))


def _html(text: str, *, status: int = 200) -> Response:
    return HTMLResponse(text, status, headers=_POLICY)


def _back(request: Request) -> Response:
    return RedirectResponse(f"{request.scope['root_path']}/?lang={_language(request)}", 303, headers=_POLICY)
