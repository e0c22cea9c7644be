"""Ports that a test gives to a process before that process listens on them."""

from __future__ import annotations

import secrets
import socket
from typing import Final

_BELOW: Final = 32_000
"""Linux gives ports from 32768 on to outgoing connections: one of those may be taken before anybody listens on it."""


def free_port(host: str = "127.0.0.1") -> int:
    """A port that nobody listens on, below those that connections are given by themselves; `host` is of IPv4."""
    while True:
        port = secrets.choice(range(10_000, _BELOW))
        with socket.socket() as probe:
            try:
                probe.bind((host, port))
            except OSError:
                continue
            return port
