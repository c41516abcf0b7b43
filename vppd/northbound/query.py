"""The words behind `?`, taken as strictly as a body."""

from collections.abc import Mapping

from aiohttp import web

from vppd.northbound.problems import Problem
from vppd.northbound.routes import Route


def query_of(request: web.BaseRequest, route: Route) -> Mapping[str, str]:
    """Raises Problem 422 for what the route does not know, and for a word given twice."""
    query = request.query
    for name in query:
        if name not in route.query:
            known = ", ".join(sorted(route.query)) or "none"
            text = f"{name[:64]} is not known here; known: {known}"
            raise Problem(422, "unusable-value", text, field=name[:64])
        if len(query.getall(name)) > 1:
            raise Problem(422, "unusable-value", f"{name} is given twice", field=name)
    return dict(query)
