"""Errors as RFC 9457 problem details, and answers as strict JSON."""

import json
import math
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from enum import Enum
from http import HTTPStatus

JSON_TYPE = "application/json"
PROBLEM_TYPE = "application/problem+json"
PLACES = 6


class Problem(Exception):  # noqa: N818  it is an answer, by the name its standard gives it
    """A refusal: HTTP status, a stable word for programs, a sentence with the remedy for people."""

    def __init__(self, status: int, word: str, detail: str, **more: object) -> None:
        super().__init__(detail)
        self.status, self.word, self.detail, self.more = status, word, detail, more

    def body(self) -> dict[str, object]:
        """The members of RFC 9457, and what else was given."""
        return {
            "type": f"urn:vppd:problem:{self.word}",
            "title": self.word.replace("-", " "),
            "status": self.status,
            "detail": self.detail,
            **self.more,
        }

    def encode(self) -> bytes:
        """The body as it goes out."""
        return encode(self.body())

    def response(self) -> bytes:
        """A whole HTTP response, for those who never get as far as a request."""
        body = self.encode()
        phrase = HTTPStatus(self.status).phrase
        head = (
            f"HTTP/1.1 {self.status} {phrase}\r\nContent-Type: {PROBLEM_TYPE}\r\n"
            f"Content-Length: {len(body)}\r\nConnection: close\r\n\r\n"
        )
        return head.encode("ascii") + body


def encode(value: object) -> bytes:
    """JSON of plain values; a float that is no number is null, times are ISO 8601 with Z."""
    return json.dumps(plain(value), separators=(",", ":"), allow_nan=False).encode()


def plain(value: object) -> object:
    """Only what JSON knows."""
    if value is None or isinstance(value, bool):
        return value
    if isinstance(value, float):
        return round(value, PLACES) + 0.0 if math.isfinite(value) else None
    if isinstance(value, Enum):
        return value.value
    if isinstance(value, str | int):
        return value
    if isinstance(value, datetime):
        return iso(value)
    if isinstance(value, Mapping):
        return {str(plain(key)): plain(each) for key, each in value.items()}
    if isinstance(value, Sequence | set | frozenset):
        return [plain(each) for each in value]
    raise TypeError(f"no JSON for {type(value).__name__}")


def iso(at: datetime) -> str:
    """Aware time as ISO 8601 in UTC, to the millisecond, with Z."""
    return at.astimezone(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
