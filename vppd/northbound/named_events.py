"""A frequency event that an operator names: a window of time whose rows are kept as evidence."""

from datetime import datetime, timedelta

from vppd.grid.evidence import NotNamed
from vppd.northbound.ask import Answer, Ask
from vppd.northbound.problems import Problem
from vppd.northbound.reasons import moment
from vppd.northbound.site import Site
from vppd.northbound.views import View

DURATION_S = 300.0  # as long as primary response is to last
DURATION_MAX_S = 86400.0
TAKEN = "SELECT 1 FROM frequency_event WHERE id = ? LIMIT 1"


async def name_event(ask: Ask) -> Answer:
    """`name` a window that begins `at` (now, if not said) and lasts `duration_s`. Raises Problem
    409 for a name that was given before, 422 for a window that cannot be kept."""
    site, body = ask.site, ask.body
    if site.name_event is None:
        raise Problem(422, "not-supported", "this daemon keeps no evidence")
    name, now = body.id("name"), site.clock.utc()
    zone = site.settings.site.timezone
    begin = moment(body.text("at"), now, zone) if body.has("at") else now
    duration_s = body.number("duration_s", DURATION_S, low=1.0, high=DURATION_MAX_S)
    body.done()
    if await _taken(site, name):
        raise Problem(409, "already-named", f"there is an event {name}; choose another name")
    end = begin + timedelta(seconds=duration_s)
    try:
        rows_from = site.name_event(name, begin, end, now)
    except NotNamed as error:
        raise Problem(422, "unusable-value", str(error)) from None
    before = timedelta(seconds=site.settings.evidence.before_s)
    view: View = {"event": name, "begin": begin, "end": end, "rows_from": rows_from}
    if rows_from > begin - before:
        view["note"] = _lacking(begin, end, rows_from)
    return Answer(view, 202)


async def _taken(site: Site, name: str) -> bool:
    """A journal that cannot be read knows no name; the newest of equals is the one reported."""
    try:
        return bool(await site.journal.select(TAKEN, (name,)))
    except OSError:
        return False


def _lacking(begin: datetime, end: datetime, rows_from: datetime) -> str:
    """What an auditor will miss."""
    if rows_from <= begin:
        missing = f"there are {(begin - rows_from).total_seconds():.0f} s of them before the event"
    elif rows_from < end:
        missing = f"the first {(rows_from - begin).total_seconds():.0f} s of the event lack them"
    else:
        missing = "the whole event lacks them"
    return (
        f"rows of 100 ms go back no further: {missing}, but for what another event had kept; "
        "of the rest the journal has its rows of a second, without measured power"
    )
