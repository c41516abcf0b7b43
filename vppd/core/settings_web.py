"""Settings of what is shown beside the socket: metrics for Prometheus, and a page for a browser.

Both ports are of this machine alone (127.0.0.1) and only show; the Unix socket has the same.
"""

from dataclasses import dataclass

from vppd.core.profile import key


@dataclass(frozen=True, slots=True, kw_only=True)
class MetricsSettings:
    """Metrics for Prometheus; /metrics on the socket has them in any case."""

    port: int | None = key(
        "also at http://127.0.0.1:port/metrics, for every user of this machine (null: no port)",
        None,
        ge=1,
        le=65535,
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class WebSettings:
    """The live page."""

    enabled: bool = key("show the page, on the socket and on the port if there is one", False)
    port: int | None = key(
        "also at http://127.0.0.1:port/, for every user of this machine (null: socket only)",
        None,
        ge=1,
        le=65535,
    )
