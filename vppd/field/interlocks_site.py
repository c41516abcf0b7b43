"""The rules of a site that is a unit of an aggregator. Its batteries it guards itself; here counts
whether it is heard, and whether this aggregator is the one that commands it. What it says it can do
is a device's limit like any other."""

from vppd.core.alarms import Action, Code, Level
from vppd.core.model import Point, Quality
from vppd.field.rule import BLIND, Look, Notes, Ruling, Verdict, blind, reach


def site_heard(look: Look, notes: Notes) -> Ruling:
    """No sample of late, or its last will: nothing. One that another aggregator commands is not
    listened to here, so its silence is no news."""
    if look.value(Point.SITE_OURS) == 0.0:
        return None, notes
    quality = look.now.quality(look.asset.id, Point.SITE_ONLINE)
    if quality is not Quality.GOOD:
        return blind(look, Code.LINK_LOST, (BLIND[quality], Point.SITE_ONLINE), 0.0, 0.0), notes
    if look.value(Point.SITE_ONLINE):
        return None, notes
    text = "the site is offline"
    limit = reach(look.asset, 0.0, 0.0, Code.LINK_LOST, text)
    return Verdict(Code.LINK_LOST, Level.CRITICAL, Action.STOP, text, limit=limit), notes


def site_ours(look: Look, notes: Notes) -> Ruling:
    """Another aggregator commands it, or nobody knows who does: nothing."""
    if look.value(Point.SITE_OURS):
        return None, notes
    text = "not commanded by this aggregator"
    limit = reach(look.asset, 0.0, 0.0, Code.NOT_OURS, text)
    return Verdict(Code.NOT_OURS, Level.INFO, Action.STOP, text, limit=limit), notes
