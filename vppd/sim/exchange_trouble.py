"""What can go wrong with the simulated exchange, by word.

trouble.next("cut_after")                 # the next submission: taken, then no answer
trouble.next("refuse", text="Margin")     # the next submission: HTTP 200 and a bare string
trouble.next("error", on="results", count=3)
trouble.results("late", by_s=3600.0)      # until `trouble.results("")`
"""

from dataclasses import dataclass, field

# To one request, which is then used up.
REQUEST_KINDS = {
    "cut_before": "the connection breaks before anything was done",
    "cut_after": "it was done, then the connection breaks",
    "hang_before": "nothing is done and nothing answered for so long, then the connection breaks",
    "hang_after": "it was done, but is answered only so much later",
    "refuse": "HTTP 200 and a bare JSON string",
    "garbage": "HTTP 200 and no JSON; nothing was done",
    "garbage_after": "it was done; HTTP 200 and no JSON",
    "error": "HTTP 500; nothing was done",
    "busy": "HTTP 429; nothing was done",
    "forbidden": "HTTP 403: the address is not on the list",
    "part": "only the first half of the periods is taken",
    "strike": "taken, and rejected afterwards",
}
# To every result, while it lasts.
RESULT_KINDS = {
    "late": "published so much later",
    "missing": "never published",
    "provisional": "never final",
    "partial": "every second period is left out",
    "wrong": "own quantities are ten times too large",
    "contradictory": "own quantities are half of what they were",
    "retracted": "withdrawn after publication",
}


@dataclass(slots=True)
class Next:
    """One that waits for its request."""

    kind: str
    on: str
    text: str
    by_s: float


@dataclass(slots=True)
class Trouble:
    """What acts now. `down`: every connection is dropped at once."""

    down: bool = False
    waiting: list[Next] = field(default_factory=list)
    result_kind: str = ""
    late_s: float = 0.0

    def next(
        self, kind: str, *, on: str = "submit", count: int = 1, text: str = "", by_s: float = 60.0
    ) -> None:
        """The next so many requests to this path suffer. Raises ValueError for an unknown kind."""
        if kind not in REQUEST_KINDS:
            raise ValueError(f"no trouble {kind!r}; there are: {', '.join(REQUEST_KINDS)}")
        said = text or "Invalid request"
        self.waiting += [Next(kind, on, said, by_s) for _ in range(count)]

    def results(self, kind: str, by_s: float = 0.0) -> None:
        """All results suffer from now on; an empty word ends it. Raises ValueError."""
        if kind and kind not in RESULT_KINDS:
            raise ValueError(f"no trouble {kind!r}; there are: {', '.join(RESULT_KINDS)}")
        self.result_kind, self.late_s = kind, by_s

    def take(self, on: str) -> Next | None:
        """What is to happen to this request."""
        for at, each in enumerate(self.waiting):
            if each.on == on:
                return self.waiting.pop(at)
        return None
