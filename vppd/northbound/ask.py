"""One authorised request on its way to the site, and what comes back."""

from collections.abc import Mapping
from dataclasses import dataclass, field

from vppd.core.asset import Asset
from vppd.core.model import UnitId
from vppd.northbound.body import Body
from vppd.northbound.peers import Peer, Role
from vppd.northbound.problems import Problem
from vppd.northbound.site import OPERATOR, Site
from vppd.northbound.views import View


@dataclass(frozen=True, slots=True)
class Ask:
    """Who asks what of which site. `path` are the words of the route, `query` those behind `?`."""

    site: Site
    peer: Peer
    role: Role
    user: str
    path: Mapping[str, str] = field(default_factory=dict)
    query: Mapping[str, str] = field(default_factory=dict)
    body: Body = field(default_factory=lambda: Body({}))

    @property
    def unit(self) -> UnitId:
        """The id in the path, "" when the route has none."""
        return UnitId(self.path.get("id", ""))

    @property
    def source(self) -> str:
        """What plans of this user are signed with."""
        return OPERATOR + self.user

    def asset(self) -> Asset:
        """The unit in the path. Raises Problem 404 with the ids there are."""
        asset = self.site.asset(self.unit)
        if asset is None:
            known = [each.id for each in self.site.assets]
            text = f"there is no unit {self.unit}; there are {', '.join(known)}"
            raise Problem(404, "unknown-unit", text, known=known)
        return asset


@dataclass(frozen=True, slots=True)
class Answer:
    """What goes back."""

    view: View
    status: int = 200


@dataclass(frozen=True, slots=True)
class Text:
    """What goes back where it is not JSON."""

    body: bytes
    content_type: str  # whole, with its charset
    headers: Mapping[str, str] = field(default_factory=dict)
