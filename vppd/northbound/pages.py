"""What a browser is shown and what it may not do: the page and its policy, and which requests smell
of a page that is not ours.

The page is one file without anything from elsewhere. Its policy names its script and its style by
their hashes, so nothing else runs, whatever stands in the data.

A browser carries requests of any site it shows to a port of this machine, or to a socket that ssh
made a port. Two things tell them: the Host is a name of the internet (which points here by DNS
rebinding) and not one of this machine, or the request changes something and says its Origin.
"""

import base64
import functools
import hashlib
import re
from collections.abc import Mapping
from importlib.resources import files

from vppd.northbound.ask import Ask, Text
from vppd.northbound.problems import Problem

HERE = frozenset({"localhost", "127.0.0.1", "[::1]"})
SAYS_ORIGIN = ("Origin", "Sec-Fetch-Site")
HEADERS: Mapping[str, str] = {  # of everything that a browser may be shown on a port
    "Cache-Control": "no-store",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Referrer-Policy": "no-referrer",
    "Server": "vppd",
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
}
_HOST = re.compile(r"(\[[0-9A-Fa-f:.]+\]|[^:\[\]]+)(:[0-9]{1,5})?")
_INLINE = re.compile(r"<(script|style)>(.*?)</\1>", re.DOTALL)


async def show(ask: Ask) -> Text:
    """The page, where it is enabled. Raises Problem 404."""
    if not ask.site.settings.web.enabled:
        text = "the page is off: `web: {enabled: true}` in vppd.yaml, then restart"
        raise Problem(404, "not-available", text)
    return page()


@functools.cache
def page() -> Text:
    """The page with its policy; read once."""
    body = files("vppd.northbound").joinpath("page.html").read_bytes()
    headers = {**HEADERS, "Content-Security-Policy": policy(body.decode())}
    return Text(body, "text/html; charset=utf-8", headers)


def policy(html: str) -> str:
    """The Content-Security-Policy that lets run what stands in this file and nothing else."""
    sources: dict[str, list[str]] = {"script": [], "style": []}
    for kind, text in _INLINE.findall(html):
        digest = base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()
        sources[kind].append(f"'sha256-{digest}'")
    return "; ".join(
        (
            "default-src 'none'",
            f"script-src {' '.join(sources['script'])}",
            f"style-src {' '.join(sources['style'])}",
            "img-src data:",
            "connect-src 'self'",
            "base-uri 'none'",
            "form-action 'none'",
            "frame-ancestors 'none'",
        )
    )


def of_this_machine(host: str | None, *, named: bool = True) -> bool:
    """Whether a Host header is one of this machine. Not `named`, as on the socket: any name without
    a dot is, for there is none such in the internet, and so is none at all."""
    if host is None:
        return not named
    found = _HOST.fullmatch(host)
    if found is None:
        return False
    name = found[1].lower()
    return name in HERE or (not named and "." not in name and not name.startswith("["))


def of_a_page(headers: Mapping[str, str]) -> bool:
    """Whether a request says that a page of a browser made it."""
    return any(name in headers for name in SAYS_ORIGIN)
