"""The API's description as a page for people, without scripts and without anything fetched from elsewhere."""

from __future__ import annotations

import html
from collections.abc import Sequence

from hsm_service.openapi_access import callers
from hsm_service.openapi_route import ApiRoute


def page(api: Sequence[ApiRoute]) -> str:
    """HTML: one row for each route."""
    rows = []
    for route in api:
        who = " or ".join(route.callers) or "; ".join(
            f"{template}: " + ", ".join(f"{operation} by {' or '.join(by)}" for operation, by in operations.items())
            for template, operations in callers(route.operations).items()
        )
        rows.append((route.method, route.plain_path, route.summary, who))
    body = "".join("<tr>" + "".join(f"<td>{html.escape(cell)}</td>" for cell in row) + "</tr>" for row in rows)
    return (
        '<!doctype html><html lang="en"><meta charset="utf-8"><title>KWBP HSM service</title>'
        "<style>body{font:15px sans-serif;margin:2em}td,th{border:1px solid #999;padding:.4em;text-align:left;"
        "vertical-align:top}table{border-collapse:collapse}</style><h1>KWBP HSM service</h1>"
        "<p>The caller is the TLS client certificate. Structures are described in "
        '<a href="/openapi.json">openapi.json</a>.</p>'
        f"<table><tr><th>Method<th>Path<th>What it does<th>For whom</tr>{body}</table></html>"
    )
