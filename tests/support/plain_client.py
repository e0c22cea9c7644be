"""An HTTPS client for tests that ask a server thousands of times: the standard library's, kept alive.

    with PlainClient(tls, url) as client:
        answer = client.request("POST", "/v1/keys", json={…})      # .status_code, .text, .json()

Of a request that a service answers at once, httpx's client takes more than half of the processor's time.
"""

from __future__ import annotations

import json as json_text
import select
from dataclasses import dataclass
from http.client import HTTPSConnection
from typing import Any, Self
from urllib.parse import urlsplit

from runtime.client import TlsFiles, client_context


@dataclass(frozen=True)
class PlainAnswer:
    """What a server answered."""

    status_code: int
    content: bytes

    @property
    def text(self) -> str:
        return self.content.decode("utf-8", "replace")

    def json(self) -> Any:
        return json_text.loads(self.content)


class PlainClient:
    """One connection to the server at `url`, opened when it is needed and again where the server has closed it."""

    def __init__(self, tls: TlsFiles, url: str, *, timeout: float = 30.0) -> None:
        address = urlsplit(url)
        assert address.scheme == "https"
        assert address.hostname is not None
        self._connection = HTTPSConnection(address.hostname, address.port, context=client_context(tls), timeout=timeout)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        self._connection.close()

    def get(self, path: str) -> PlainAnswer:
        return self.request("GET", path)

    def post(self, path: str, *, json: Any = None) -> PlainAnswer:
        return self.request("POST", path, json=json)

    def request(self, method: str, path: str, *, json: Any = None) -> PlainAnswer:
        """The whole answer to one request, without a body unless `json` is given; ConnectionError if none comes."""
        open_socket = self._connection.sock
        if open_socket is not None and select.select([open_socket], [], [], 0)[0]:
            self._connection.close()  # nobody asked, so what came is the end of it
        if json is None:
            self._connection.request(method, path)
        else:
            body = json_text.dumps(json).encode()
            self._connection.request(method, path, body, {"content-type": "application/json"})
        answer = self._connection.getresponse()
        return PlainAnswer(answer.status, answer.read())
