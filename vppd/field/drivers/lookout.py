"""When to look at a setpoint between two writes of it.

A setpoint that moves with every tick is written over before a poll sees what somebody else put
there. So while writes follow one another closely, what the device holds is looked at now and then
shortly before the next write is due: late, because that shows all that was written since the last
one; at a moment and in an interval drawn at random, because a rival with a period of its own must
not stay between two looks. One that was overtaken by the write is dropped. On a quick line some
looks are taken when the write is there and waits: nothing at all is written in between then.
All devices of a site together are looked at some 50 to 90 times a second at most: of a few devices
nearly every write is looked at, of many each now and then.
"""

import math
import random

HURRIED_S = 0.5  # writes further apart leave it to the polls
PHASES = 0.75, 0.98  # a look begins within this part of the time that the line is free
PAUSES_S = 0.003, 0.019  # between two looks, a device here, beside the wait for the right phase
AGAIN_S = 0.15  # not sooner once more while the next write is awaited
LINE_SHARE = 0.25  # a line that a write takes up for more of the time is left to the polls
HOLD_SHARE = 0.25  # of the looks: a write waits for them
HOLD_MAX_S = 0.005  # on a line that is slower no write waits


class Lookout:
    """The times of the looks at one of `fellows` devices. Pure but for its own dice."""

    def __init__(self, seed: str, fellows: int = 1) -> None:
        self._fellows = fellows
        self.due_s = math.inf  # from when the next look is due
        self.holds = False  # the next write waits for a look
        self._dice = random.Random(seed)  # noqa: S311  nothing is kept secret by it
        self._written_s = -math.inf
        self._rests_until_s = -math.inf

    def written(self, at_s: float, took_s: float) -> None:
        """A setpoint was answered, `took_s` after it was sent."""
        gap_s, self._written_s = at_s - self._written_s, at_s
        self.due_s, self.holds = math.inf, False
        free_s = gap_s - 2.0 * took_s  # the next write takes as long, and so does a look
        look_s = at_s + free_s * self._dice.uniform(*PHASES)
        if gap_s > HURRIED_S or took_s > LINE_SHARE * gap_s or look_s < self._rests_until_s:
            return
        self.holds = took_s <= HOLD_MAX_S and self._dice.random() < HOLD_SHARE
        if not self.holds:
            self.due_s = look_s

    def looked(self, at_s: float) -> None:
        """It was looked at; once more should the next write be long in coming."""
        pause_s = self._fellows * self._dice.uniform(*PAUSES_S)
        self._rests_until_s, again_s = at_s + pause_s, at_s + max(pause_s, AGAIN_S)
        self.due_s = again_s if again_s - self._written_s <= HURRIED_S else math.inf
        self.holds = False

    def forget(self) -> None:
        """Nothing is looked at before two more writes were answered."""
        self.due_s, self.holds, self._written_s = math.inf, False, -math.inf
