"""Who commands which site, when several aggregators share a region. Pure.

Each site has one owner among the members that live: the one of the highest hash of both names
(rendezvous hashing), so that a member that goes moves its own sites alone. Each member announces,
retained, the set of members it acts on, and acts on it only when the broker has acknowledged that.
A site is ours when the set we announced gives it to us and no set that another living member
announced gives it to that one: a member that came late waits until the owner before has let go.

Messages can be late, so the site itself has the last word. All orders of a group bear the group's
name as sender, and a sequence that begins with the term of the member that orders; a site takes no
sequence that is not greater than the last. A term is greater than every term that was heard, so
after the first order of a new owner nothing of the owner before is obeyed. In one term of two
members (neither had heard the other) the higher rank wins, always the same one.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from hashlib import blake2b

BEGIN = datetime(2025, 1, 1, tzinfo=UTC)
RANK_BITS, COUNT_BITS = 10, 13
COUNT_MAX = (1 << COUNT_BITS) - 1
TERM_MAX = (1 << 53 - RANK_BITS - COUNT_BITS) - 1  # seconds: to the year 2059


@dataclass(frozen=True, slots=True)
class Member:
    """Another aggregator: the set it acts on, its term, when it was heard last."""

    acts_on: frozenset[str]
    term: int
    heard_s: float


@dataclass(frozen=True, slots=True)
class Council:
    """What one member knows of the group. `acts_on` is what it announced itself."""

    me: str
    others: Mapping[str, Member]
    acts_on: frozenset[str]
    term: int


def winner(site: str, members: Iterable[str]) -> str | None:
    """The owner of a site among these members; None: there are none."""
    return max(members, key=lambda member: (_weight(site, member), member), default=None)


def ours(council: Council, site: str) -> bool:
    """Whether this member commands the site."""
    if winner(site, council.acts_on) != council.me:
        return False
    return all(winner(site, other.acts_on) != name for name, other in council.others.items())


def heard(council: Council, name: str, member: Member | None) -> Council:
    """With what another member announced; None: it is gone."""
    if name == council.me:
        return council
    others = {each: known for each, known in council.others.items() if each != name}
    if member is not None:
        others[name] = member
    return replace(council, others=others)


def met(council: Council, now_s: float, now: datetime, stale_s: float) -> Council:
    """Without the members that are silent for too long, and acting on those that live. The same
    object: nothing has changed."""
    silent = [name for name, each in council.others.items() if now_s - each.heard_s > stale_s]
    for name in silent:
        council = heard(council, name, None)
    living = frozenset((council.me, *council.others))
    if living == council.acts_on:
        return council
    return replace(council, acts_on=living, term=next_term(council, now))


def next_term(council: Council, now: datetime) -> int:
    """Greater than every term heard, and than any before everybody forgot: it is a time too."""
    heard_last = max((each.term for each in council.others.values()), default=0)
    return min(max(int((now - BEGIN).total_seconds()), heard_last + 1, council.term + 1), TERM_MAX)


def sequence(term: int, member: str, count: int) -> int:
    """The sequence of an order: term, then rank of the member, then its own count in that term."""
    rank = _weight("", member) % (1 << RANK_BITS)
    return ((term << RANK_BITS | rank) << COUNT_BITS) | count


def _weight(site: str, member: str) -> int:
    digest = blake2b(f"{site}\0{member}".encode(), digest_size=8).digest()
    return int.from_bytes(digest)
