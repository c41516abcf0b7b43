"""Who is at the other end of the socket, and what that lets them do.

The kernel tells uid, gid and supplementary groups as they were at connect (SO_PEERCRED and
SO_PEERGROUPS), so nothing in a request can pretend. root and the daemon's own user may do
everything; the groups of `api` in vppd.yaml make operators and viewers; nobody else gets in.
"""

import grp
import os
import pwd
import socket
import struct
from dataclasses import dataclass
from enum import IntEnum
from typing import Any, cast

from vppd.core.settings import ApiSettings

SO_PEERGROUPS = 59
GROUPS_BYTES = 1024  # the largest buffer Python gives: 256 groups
_CREDENTIALS = struct.Struct("3i")


class Role(IntEnum):
    """Each may do what those before it may."""

    NOBODY = 0
    VIEWER = 1
    OPERATOR = 2
    ADMIN = 3


@dataclass(frozen=True, slots=True)
class Peer:
    """The process that connected."""

    pid: int
    uid: int
    gids: frozenset[int]


def peer_of(connection: socket.socket) -> Peer:
    """Who connected. Raises OSError for a socket that is not a connected Unix one."""
    raw = connection.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, _CREDENTIALS.size)
    pid, uid, gid = _CREDENTIALS.unpack(raw)
    try:
        groups = connection.getsockopt(socket.SOL_SOCKET, SO_PEERGROUPS, GROUPS_BYTES)
    except OSError:  # more groups than fit: then the first one alone counts
        groups = b""
    return Peer(pid, uid, frozenset((gid, *memoryview(groups).cast("I"))))


def peer_at(transport: Any) -> Peer:
    """Who is behind an asyncio transport. Raises OSError when it is gone."""
    connection = transport.get_extra_info("socket") if transport is not None else None
    if connection is None:
        raise OSError("the connection is gone")
    return peer_of(cast("socket.socket", connection))


class Access:
    """The roles of one configuration. Group names are looked up once, when it is made."""

    def __init__(self, settings: ApiSettings) -> None:
        self.settings = settings
        self._own_uid = os.geteuid()
        self._operators, self._viewers = _gid(settings.operators), _gid(settings.viewers)

    def role(self, peer: Peer) -> Role:
        """What this peer may do."""
        if peer.uid in {0, self._own_uid}:
            return Role.ADMIN
        if self._operators in peer.gids:
            return Role.OPERATOR
        return Role.VIEWER if self._viewers in peer.gids else Role.NOBODY

    def wanted(self, role: Role) -> str:
        """How somebody comes to this role."""
        if role is Role.ADMIN:
            return "root or the daemon's own user"
        group = self.settings.operators if role is Role.OPERATOR else self.settings.viewers
        group = group or self.settings.operators
        return f"a member of the group {group}" if group else "root (vppd.yaml names no api group)"


def user_name(uid: int) -> str:
    """The user's name, or the number when there is none."""
    try:
        return pwd.getpwuid(uid).pw_name
    except (KeyError, OSError):
        return str(uid)


def _gid(group: str | None) -> int | None:
    if group is None:
        return None
    try:
        return grp.getgrnam(group).gr_gid
    except (KeyError, OSError):
        return None
