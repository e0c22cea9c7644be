"""Registers over HTTPS: our own interface (`ra.checks.wire`), mutual TLS with the RA's certificate, bounded answers.

An answer has `timeout` seconds in all, whatever the pace at which it comes (a last read may take as long again), and
16 kB. Whatever is wrong is one word: what was asked and answered is personal data and is quoted nowhere.
"""

from __future__ import annotations

import json
import time
from collections.abc import Mapping
from typing import Any, Final

import httpx

from ra.checks.connector import Answer, NoAnswerError, Question
from ra.checks.wire import KEY_HEADER, LARGEST, VERSION, read_accepted, read_facts
from runtime.client import TlsFiles, http_client

_TIMEOUT: Final = 30.0


class _Https:
    """One POST, and the bytes of its answer."""

    def __init__(self, base_url: str, tls: TlsFiles) -> None:
        if not base_url.startswith("https://"):
            raise ValueError("what identifies people goes over TLS alone")
        self._http: Final = http_client(tls, base_url, timeout=_TIMEOUT)

    def close(self) -> None:
        """Close the connections."""
        self._http.close()

    def post(self, path: str, key: str, document: Mapping[str, Any], *, timeout: float, status: int) -> bytes:
        """The answer's body, if it has this status. Raises NoAnswerError."""
        deadline = time.monotonic() + timeout
        headers = {KEY_HEADER: key, "accept-encoding": "identity", "content-type": "application/json"}
        body = json.dumps(document, ensure_ascii=False).encode()
        try:
            with self._http.stream("POST", path, content=body, headers=headers, timeout=timeout) as response:
                if response.status_code != status:
                    raise NoAnswerError(f"status-{response.status_code}")
                return _read(response, deadline)
        except httpx.TimeoutException:
            raise NoAnswerError("timeout") from None
        except httpx.ConnectError:
            raise NoAnswerError("unreachable") from None
        except httpx.HTTPError:
            raise NoAnswerError("broken-off") from None


def _read(response: httpx.Response, deadline: float) -> bytes:
    if response.headers.get("content-encoding", "identity") != "identity":
        raise NoAnswerError("garbage")
    read = bytearray()
    for chunk in response.iter_raw():
        read += chunk
        if len(read) > LARGEST:
            raise NoAnswerError("too-long")
        if time.monotonic() > deadline:
            raise NoAnswerError("timeout")
    return bytes(read)


class HttpsRegister(_Https):
    """A register; see `ra.checks.connector.Connector`."""

    def __init__(self, source: str, base_url: str, tls: TlsFiles) -> None:
        """`source` is who is asked, as evidence names it. Raises ValueError for an address that is not https."""
        super().__init__(base_url, tls)
        self.source: Final = source

    def ask(self, question: Question, *, timeout: float) -> Answer:
        """The register's answer. Raises NoAnswerError."""
        document = {"version": VERSION, "fields": dict(question.fields)}
        body = self.post(f"/v1/questions/{question.kind}", question.key, document, timeout=timeout, status=200)
        return read_facts(body, question)


class HttpsMessenger(_Https):
    """A gateway of short messages; see `ra.checks.connector.Messenger`."""

    def send(self, phone: str, text: str, *, key: str, timeout: float) -> None:
        """Have a message sent. Raises NoAnswerError."""
        document = {"version": VERSION, "to": phone, "text": text}
        read_accepted(self.post("/v1/messages", key, document, timeout=timeout, status=202), key)
