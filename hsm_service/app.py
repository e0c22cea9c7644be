"""The signing API over HTTP (Starlette; msgspec for the bodies). Served with mutual TLS: the certificate is the caller.

Handlers decide nothing: they read the body, name the caller, and let the vault do the rest, in a worker thread or, for
signatures that are judged quickly, on the event loop (`hsm_service.hot_path`). So there is one place where access is
decided, whatever route a call takes.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable, Sequence
from typing import Any, Final, Protocol

import msgspec
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import HTMLResponse, Response
from starlette.routing import Route

from hsm_service import openapi, openapi_page
from hsm_service.crl_routes import CrlRoutes
from hsm_service.hot_path import LARGEST_CONTENT, HotPath
from hsm_service.idempotency import Idempotency, answer_once
from hsm_service.key_life_routes import KeyLifeRoutes
from hsm_service.kinds import KINDS
from hsm_service.openapi_route import ApiRoute
from hsm_service.operation_routes import OperationRoutes
from hsm_service.refusals import Refusals
from hsm_service.service import KeyInfo, SignCommand, Signed
from hsm_service.templates import Operation
from hsm_service.vault import Vault
from hsm_service.wire import AttachCommand, BatchAnswer, BatchCommand, CertificateChain, GenerateCommand, KeyList, read
from hsm_service.workers import THREADS, Workers
from runtime import health, problems
from runtime.database import open_database
from runtime.identity import caller_of
from runtime.problems import Problem

LARGEST_BODY: Final = 2 * LARGEST_CONTENT
"""Bytes of a request: base64 and the JSON around it included."""

_JSON: Final = "application/json"
_encoder: Final = msgspec.json.Encoder()
_generate_command: Final = msgspec.json.Decoder(GenerateCommand)
_attach_command: Final = msgspec.json.Decoder(AttachCommand)


class Plugin(Protocol):
    """Further operations inside the same process, such as the gateway's.

    A route's endpoint runs its blocking work with `await request.app.state.workers.run(work, …)` and does everything
    with keys through `Vault.lending`; one that is asked for every payment has steps instead. What the route says of
    itself (bodies, callers, keys) stands in the OpenAPI document.
    """

    def routes(self, vault: Vault) -> Sequence[ApiRoute]: ...


def create_app(vault: Vault, plugins: Sequence[Plugin] = (), *, threads: int = THREADS) -> Starlette:
    """The API of an open vault. The caller closes the vault after the server has stopped."""
    workers = Workers(threads)
    idempotency = Idempotency(open_database(vault.answers), clock=vault.clock)
    refusals = Refusals(vault.refused, workers)
    handlers = _Handlers(vault, workers, idempotency)
    vault.operations.resume()
    api = [*handlers.routes(), *KeyLifeRoutes(vault, workers, idempotency).routes()]
    api += CrlRoutes(vault, workers).routes()
    api += OperationRoutes(vault.operations, workers).routes()
    plugged = [route for plugin in plugins for route in plugin.routes(vault)]
    api += plugged
    document = msgspec.json.encode(openapi.document(api))
    page = openapi_page.page(api)

    async def openapi_json(_request: Request) -> Response:
        return Response(document, media_type=_JSON)

    async def docs(_request: Request) -> Response:
        return HTMLResponse(page)

    @contextlib.asynccontextmanager
    async def lifespan(_app: Starlette) -> AsyncIterator[None]:
        loop = asyncio.get_running_loop()
        vault.hear_on(loop)
        try:
            yield
        finally:
            # In a thread: what still runs there may wait for answers of the tokens, which this loop hears.
            await loop.run_in_executor(None, workers.close)
            vault.hear_on(None)
            idempotency.close()

    app = _Application(
        HotPath(vault, workers, idempotency, refusals, plugged),
        routes=[
            *(
                Route(each.path, refusals.recorded(each.name, each.endpoint), methods=[each.method], name=each.name)
                for each in api
            ),
            Route("/openapi.json", openapi_json),
            Route("/docs", docs),
        ],
        lifespan=lifespan,
    )
    app.state.workers = workers
    problems.install(app)
    health.install(
        app, "hsm", lambda: vault.ready, lambda: {"tokens": vault.token_states, "statement": vault.statement()}
    )
    return app


class _Application(Starlette):
    """The API, with the routes that sign answered before anything of the framework runs."""

    def __init__(self, hot_path: HotPath, **options: Any) -> None:
        super().__init__(**options)
        self._hot_path = hot_path

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        if scope["type"] == "http":
            if b"%2f" in scope["raw_path"].lower():
                # Decoded, it would be one that separates: no name of a key has a slash.
                scope = {**scope, "path": "/", "raw_path": b"/"}
            match = self._hot_path.knows(scope)
            if match is not None:
                await self._hot_path.answer(match, scope, receive, send)
                return
        await super().__call__(scope, receive, send)


class _Handlers:
    def __init__(self, vault: Vault, workers: Workers, idempotency: Idempotency) -> None:
        self._vault = vault
        self._workers = workers
        self._idempotency = idempotency

    def routes(self) -> list[ApiRoute]:
        """The table of the API, the hottest first."""
        signs = tuple(kind.operation for kind in KINDS.values())
        batched = tuple(kind.operation for kind in KINDS.values() if kind.batch)
        return [
            ApiRoute(
                "POST",
                "/v1/keys/{name}:sign",
                self.sign,
                "sign",
                "Sign a structure with the version of the key that is in use",
                signs,
                body=SignCommand,
                answer=Signed,
                asks=True,
                keyed=True,
                dry=True,
            ),
            ApiRoute(
                "POST",
                "/v1/keys/{name}/versions/{version:int}:sign",
                self.sign,
                "sign_version",
                "Sign a structure with this version of the key",
                signs,
                body=SignCommand,
                answer=Signed,
                asks=True,
                keyed=True,
                dry=True,
            ),
            ApiRoute(
                "POST",
                "/v1/keys/{name}:batchSign",
                self.sign,
                "sign_batch",
                "Sign many structures of one kind; each has an answer of its own",
                batched,
                body=BatchCommand,
                answer=BatchAnswer,
                keyed=True,
            ),
            ApiRoute(
                "POST",
                "/v1/keys/{name}/versions/{version:int}:batchSign",
                self.sign,
                "sign_batch_version",
                "Sign many structures of one kind with this version of the key",
                batched,
                body=BatchCommand,
                answer=BatchAnswer,
                keyed=True,
            ),
            ApiRoute(
                "POST",
                "/v1/keys/{name}:attest",
                self.attest,
                "attest",
                "A signed statement of what the token says about the key",
                (Operation.ATTEST,),
                answer=Signed,
                keyed=True,
            ),
            ApiRoute(
                "PUT",
                "/v1/keys/{name}/certificate",
                self.attach,
                "attach",
                "Give the key its certificate chain",
                (Operation.ATTACH,),
                body=AttachCommand,
                answer=KeyInfo,
            ),
            ApiRoute(
                "GET",
                "/v1/keys/{name}",
                self.describe,
                "describe",
                "Describe a key",
                (Operation.DESCRIBE,),
                answer=KeyInfo,
            ),
            ApiRoute(
                "GET",
                "/v1/keys/{name}/versions",
                self.versions,
                "versions",
                "Every version of a key",
                (Operation.DESCRIBE,),
                answer=KeyList,
            ),
            ApiRoute(
                "GET",
                "/v1/keys/{name}/versions/{version:int}",
                self.describe,
                "describe_version",
                "Describe one version of a key",
                (Operation.DESCRIBE,),
                answer=KeyInfo,
            ),
            ApiRoute(
                "GET",
                "/v1/keys/{name}/chain",
                self.chain,
                "chain",
                "The certificate chain of a key, its own certificate first, without the root",
                (Operation.DESCRIBE,),
                answer=CertificateChain,
            ),
            ApiRoute(
                "POST",
                "/v1/keys",
                self.generate,
                "generate",
                "Make a key in its token",
                (Operation.GENERATE,),
                body=GenerateCommand,
                answer=KeyInfo,
                status=201,
                asks=True,
                keyed=True,
            ),
            ApiRoute(
                "GET",
                "/v1/keys",
                self.list_keys,
                "list",
                "The keys that the caller may use or manage",
                (Operation.DESCRIBE,),
                answer=KeyList,
            ),
        ]

    async def sign(self, _request: Request) -> Response:
        """Described here, answered by `hot_path`: what comes as far as this names a version beyond all numbers."""
        raise Problem(404, "key-not-found", "there is no such version of a key")

    async def attest(self, request: Request) -> Response:
        name = request.path_params["name"]
        return await answer_once(self._idempotency, request, lambda: self._run(self._vault.attest_key, request, name))

    async def attach(self, request: Request) -> Response:
        command = read(_attach_command, await request.body())
        name = request.path_params["name"]
        return _json(await self._run(self._vault.attach_certificate, request, name, command.chain))

    async def describe(self, request: Request) -> Response:
        name, version = request.path_params["name"], request.path_params.get("version")
        return _json(await self._run(self._vault.describe_key, request, name, version))

    async def versions(self, request: Request) -> Response:
        return _json(KeyList(keys=await self._run(self._vault.list_versions, request, request.path_params["name"])))

    async def chain(self, request: Request) -> Response:
        info = await self._run(self._vault.describe_key, request, request.path_params["name"])
        return _json(CertificateChain(key=info.name, version=info.version, chain=info.certificate_chain))

    async def generate(self, request: Request) -> Response:
        command = read(_generate_command, await request.body())
        generate = self._vault.generate_key
        caller = str(caller_of(request.scope))
        return await answer_once(
            self._idempotency,
            request,
            lambda: self._workers.run(
                generate, caller, command.name, command.template, owner=command.owner, reason=command.reason
            ),
            status=201,
        )

    async def list_keys(self, request: Request) -> Response:
        return _json(KeyList(keys=await self._run(self._vault.list_keys, request)))

    async def _run(self, method: Callable[..., Any], request: Request, *arguments: Any) -> Any:
        return await self._workers.run(method, str(caller_of(request.scope)), *arguments)


def _json(value: object, status: int = 200) -> Response:
    return Response(_encoder.encode(value), status, media_type=_JSON)
