"""Every act over the socket is written down: one log line, one row of the journal, one event.

A change that was made is on disk before it is answered. A refusal is only queued, and at most one a
second and user is told, so that nobody can fill the disk with nonsense.
"""

import json
from collections.abc import Mapping

import structlog

from vppd.core.model import SITE
from vppd.core.ports import Clock
from vppd.core.records import CommandRow
from vppd.northbound.ask import Ask
from vppd.northbound.site import Site

log = structlog.get_logger(source="api")

KEYS_MAX = 1024
REFUSED_EVERY_S = 1.0
TEXT_MAX = 2048
LOGGED_MAX = 400  # of a body in the log; the journal has more of it


class Seldom:
    """Lets something be said once in a while for each key, with the count of what was not."""

    def __init__(self, clock: Clock, every_s: float) -> None:
        self._clock, self._every_s = clock, every_s
        self._said_s: dict[int, float] = {}
        self._unsaid: dict[int, int] = {}

    def now(self, key: int) -> int | None:
        """How many were not said since the last; None: not now either."""
        now_s = self._clock.now_s()
        said_s = self._said_s.get(key)
        if said_s is not None and now_s - said_s < self._every_s:
            self._unsaid[key] = self._unsaid.get(key, 0) + 1
            return None
        if len(self._said_s) >= KEYS_MAX:
            self._said_s.clear()
            self._unsaid.clear()
        self._said_s[key] = now_s
        return self._unsaid.pop(key, 0)


class Ledger:
    """Where the acts of one site's users are written down."""

    def __init__(self, site: Site) -> None:
        self._site = site
        self._refused = Seldom(site.clock, REFUSED_EVERY_S)

    async def accepted(self, ask: Ask, verb: str, view: Mapping[str, object]) -> bool:
        """What was done. True: it is on disk."""
        row = self._row(ask, str(view.get("command", verb)), "accepted", _summary(view))
        journaled = await self._site.journal.commit(row)
        self._tell(row, journaled=journaled, unsaid=None)
        return journaled

    def refused(self, ask: Ask, verb: str, text: str, verdict: str = "refused") -> None:
        """What was not done, and why."""
        unsaid = self._refused.now(ask.peer.uid)
        if unsaid is not None:
            row = self._row(ask, verb, verdict, text)
            self._site.journal.append(row)
            self._tell(row, journaled=None, unsaid=unsaid or None)

    def _row(self, ask: Ask, verb: str, verdict: str, text: str) -> CommandRow:
        body = json.dumps(dict(ask.body.members), default=str)
        if len(body) > TEXT_MAX:
            body = json.dumps({"cut": body[:TEXT_MAX]})
        at, unit = self._site.clock.utc(), ask.unit or SITE
        return CommandRow(at, ask.peer.uid, ask.user, verb, unit, body, verdict, text[:TEXT_MAX])

    def _tell(self, row: CommandRow, *, journaled: bool | None, unsaid: int | None) -> None:
        view = {
            "uid": row.uid,
            "user": row.user,
            "verb": row.verb,
            "unit": row.unit,
            "verdict": row.verdict,
            "text": row.text,
        }
        more = {"journaled": journaled, "unsaid": unsaid}
        said = {key: value for key, value in more.items() if value is not None}
        log.info("command", **view, body=row.body_json[:LOGGED_MAX], **said)
        self._site.feed.tell("command", {"at": row.at, **view})


def _summary(view: Mapping[str, object]) -> str:
    """What will come of a plan, in a few words."""
    if "expected_kw" not in view:
        return ""
    codes = view.get("bound_by")
    bound = f", bound by {', '.join(map(str, codes))}" if codes and isinstance(codes, list) else ""
    return f"expected {view['expected_kw']:.1f} kW{bound}"
