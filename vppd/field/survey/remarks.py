"""What a survey of real equipment says: remarks on one device, gathered on its sheet. Pure."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from enum import StrEnum

from vppd.core.model import Point

# Where a daemon has a serial line: of a command that knows --socket, and of one that does not.
ASK_OR_STOP = "ask it with --socket, or stop it"
ASK_BY_CTL_OR_STOP = "ask it with vppctl --socket, or stop it"


class Verdict(StrEnum):
    """How much one remark matters."""

    OK = "ok"
    ODD = "odd"  # a person should look; the site can run
    WRONG = "wrong"  # the site would not work, or not as configured


_GRAVITY = {Verdict.OK: 0, Verdict.ODD: 1, Verdict.WRONG: 2}


@dataclass(frozen=True, slots=True)
class Remark:
    """One thing that was looked at: what, how it is, and what to do about it."""

    verdict: Verdict
    about: str
    text: str
    remedy: str = ""


@dataclass(frozen=True, slots=True)
class Sheet:
    """One device: its name in alarms, what it is by configuration, where, and every remark."""

    device: str
    what: str
    where: str
    remarks: tuple[Remark, ...]
    values: Mapping[Point, float] = field(default_factory=dict)

    @property
    def verdict(self) -> Verdict:
        """The worst of its remarks."""
        return worst(remark.verdict for remark in self.remarks)


def worst(verdicts: Iterable[Verdict]) -> Verdict:
    """The gravest; ok when there is none."""
    return max(verdicts, key=_GRAVITY.__getitem__, default=Verdict.OK)


def fine(about: str, text: str) -> Remark:
    """Looked at and good."""
    return Remark(Verdict.OK, about, text)


def odd(about: str, text: str, remedy: str = "") -> Remark:
    """A person should look."""
    return Remark(Verdict.ODD, about, text, remedy)


def wrong(about: str, text: str, remedy: str = "") -> Remark:
    """It would not work so."""
    return Remark(Verdict.WRONG, about, text, remedy)
