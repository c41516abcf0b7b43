"""The bump test itself: ask, hold the lease, watch, and end at 0 kW whatever happens.

What is asked for is a lease of a few seconds, renewed while the test runs: when this program dies,
the unit goes to 0 by itself.
"""

import asyncio
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from statistics import fmean
from urllib.parse import quote

from vppd.cli.commission.preflight import Bump
from vppd.cli.commission.traces import Recorder
from vppd.cli.wire import DaemonAbsent, Json, Reply, ask
from vppd.core.ports import Clock
from vppd.field.step_response import Sample, Step, between, beyond, spread
from vppd.field.step_verdict import Verdict

LOOK_S = 0.2
LEASE_S = 5.0  # a dead tool leaves its power standing no longer
RENEW_S = 2.0
RETURN_S = 8.0  # after a break-off, watched so long
HELD_S = 900.0  # after a failure the unit is kept at 0 so long
LOST = ("starting", "stopped", "tripped", "lost", "disabled")
GRAVE = ("critical", "emergency")
STRAYS = 2  # readings in a row of a further measurement; one may be off its time


class Refused(Exception):  # noqa: N818  an answer, not a mistake
    """The daemon does not do it; the text is its own."""

    def __init__(self, reply: Reply) -> None:
        self.status = reply.status
        super().__init__(str(reply.body.get("detail", f"status {reply.status}")))


class BrokenOff(Exception):  # noqa: N818  a finding
    """The test ends here. `theirs`: somebody else commands the unit now; it is left to them."""

    def __init__(self, text: str, *, theirs: bool = False) -> None:
        self.theirs = theirs
        super().__init__(text)


@dataclass
class Daemon:
    """The socket, asked off the loop."""

    path: str
    zone: str = "UTC"

    async def get(self, target: str) -> Json:
        """Raises Refused, DaemonAbsent."""
        return await self._ask("GET", target, None)

    async def post(self, target: str, body: Json) -> Json:
        """Raises Refused, DaemonAbsent."""
        return await self._ask("POST", target, body)

    async def delete(self, target: str) -> Json:
        """Raises Refused, DaemonAbsent."""
        return await self._ask("DELETE", target, None)

    async def _ask(self, method: str, target: str, body: Json | None) -> Json:
        reply = await asyncio.to_thread(ask, self.path, method, target, body)
        if not reply.fine:
            raise Refused(reply)
        self.zone = reply.zone
        return reply.body


@dataclass
class BumpTest:
    """One test. `stop` is set from outside to break it off, with the reason."""

    daemon: Daemon
    clock: Clock
    bump: Bump
    basis: Json
    tell: Callable[[str], None]
    stop: str = ""
    steps: list[Step] = field(default_factory=list)
    broken_off: str = ""
    _recorder: Recorder = field(init=False)
    _now_s: float = 0.0  # the site's
    _plan: str = ""
    _asked_kw: float = 0.0

    def __post_init__(self) -> None:
        self._recorder = Recorder(self.basis)
        self._target = f"/v1/units/{quote(self.bump.unit, '')}"

    @property
    def recorder(self) -> Recorder:
        """What was seen."""
        return self._recorder

    async def run(self) -> None:
        """Every step, or as far as it goes; the unit is told 0 kW at the end. Raises DaemonAbsent
        when it is gone before anything was asked."""
        await self._look()
        try:
            for name, power_kw in self.bump.steps:
                self.tell(f"{name}: {power_kw:+g} kW")
                await self._step(name, power_kw)
        except BrokenOff as finding:
            await self._return(str(finding), theirs=finding.theirs)
        except Refused as refusal:
            await self._return(f"the daemon refused: {refusal}", theirs=False)
        except DaemonAbsent as absent:
            if not self.steps:
                raise
            self.broken_off = f"{absent}; the lease of {LEASE_S:g} s ends by itself"

    async def finish(self, verdict: Verdict) -> str:
        """After the judgement: a unit that passed is given back, another one stays at 0."""
        try:
            if verdict is Verdict.PASS:
                await self.daemon.delete(f"{self._target}/power")
                return f"{self.bump.unit} takes its share again"
            if self._plan:
                body = {"power_kw": 0.0, "duration_s": HELD_S}
                await self.daemon.post(f"{self._target}/power", body)
                return (
                    f"{self.bump.unit} is held at 0 kW for {HELD_S / 60.0:.0f} min; for longer:"
                    f" vppctl disable {self.bump.unit}"
                )
        except (Refused, DaemonAbsent) as error:
            return f"{self.bump.unit} could not be told how to go on: {error}"
        return f"{self.bump.unit} is left to whoever commands it now"

    # ---- steps ------------------------------------------------------------------------------

    async def _step(self, name: str, power_kw: float) -> None:
        """Ask, hold the lease, watch."""
        begun_s, rest_s = self._now_s, self.bump.hold_s
        step = Step(name, power_kw, begun_s, begun_s + self.bump.hold_s, rest_s)
        self.steps.append(step)
        await self._command(power_kw)
        renewed_s = self.clock.now_s()
        end_s = renewed_s + self.bump.hold_s
        while self.clock.now_s() < end_s:
            await self.clock.sleep_until(self.clock.now_s() + LOOK_S)
            self._judge_now(await self._look(), step)
            if self.clock.now_s() - renewed_s >= RENEW_S:
                renewed_s = self.clock.now_s()
                await self._command(power_kw)
        self.steps[-1] = replace(step, ended_s=self._now_s)

    async def _return(self, text: str, *, theirs: bool) -> None:
        """To 0 at once, then watch how it gets there."""
        self.broken_off = text
        self.tell(f"BROKEN OFF: {text}")
        try:
            if theirs:
                self._plan = ""
            else:
                await self._command(0.0)
            end_s = self.clock.now_s() + min(RETURN_S, self.bump.hold_s)
            while self.clock.now_s() < end_s:
                await self.clock.sleep_until(self.clock.now_s() + LOOK_S)
                await self._look()
        except (Refused, DaemonAbsent) as error:
            self.broken_off = f"{text}; then {error}; the lease of {LEASE_S:g} s ends by itself"
        if self.steps:
            self.steps[-1] = replace(self.steps[-1], ended_s=self._now_s, cut=True)

    async def _command(self, power_kw: float) -> None:
        body = {"power_kw": power_kw, "duration_s": LEASE_S}
        answer = await self.daemon.post(f"{self._target}/power", body)
        self._plan, self._asked_kw = answer["plan"]["id"], power_kw

    async def _look(self) -> Json:
        view = await self.daemon.get(f"{self._target}/samples")
        self._now_s = float(view["now_s"])
        self._recorder.take(view)
        return view

    # ---- what breaks it off -----------------------------------------------------------------

    def _judge_now(self, view: Json, step: Step) -> None:
        """Raises BrokenOff."""
        if self.stop:
            raise BrokenOff(self.stop)
        trouble = _trouble(self.bump.unit, view)
        if trouble:
            raise BrokenOff(trouble)
        plan = view["plan"]
        if plan is None:
            raise BrokenOff("the lease ran out: this machine or the daemon is too slow")
        if plan["id"] != self._plan:
            raise BrokenOff(f"{plan['source']} commands {self.bump.unit} now", theirs=True)
        if step.asked_kw:
            self._watch_power(step)

    def _watch_power(self, step: Step) -> None:
        """Raises BrokenOff for power that no bump makes."""
        for place, each in enumerate(self.basis["measurements"]):
            trace = self._recorder.powers[each["name"]]
            rest = between(trace, step.begun_s - step.rest_s / 2.0, step.begun_s)
            newest = between(trace, step.begun_s, self._now_s)[-(STRAYS if place else 1) :]
            if not rest or len(newest) < (STRAYS if place else 1):
                continue
            found = [_stray(seen, rest, step.asked_kw, each["resolution_kw"]) for seen in newest]
            if all(found):
                raise BrokenOff(f"{each['name']} {found[-1]}")


def _stray(seen: Sample, rest: list[Sample], asked_kw: float, resolution_kw: float) -> str | None:
    rest_kw = fmean(each.value for each in rest)
    return beyond(seen.value - rest_kw, asked_kw, spread(rest), resolution_kw)


def _trouble(unit: str, view: Json) -> str:
    """Why the test may not go on, whatever the power is; empty: it may."""
    if view["shut_by"] is not None:
        return f"the site gives nothing: {view['shut_by']}"
    if view["latched"]:
        latch = view["latched"][0]
        return f"{latch['code']} of {latch['scope']}: {latch['text']}"
    for alarm in view["alarms"]:
        own = alarm["unit"] == unit or alarm["unit"].startswith(f"{unit}/")
        if own and alarm["level"] in GRAVE:
            return f"alarm {alarm['code']}: {alarm['text']}"
    if view["state"] in LOST:
        return f"{unit} is {view['state']} ({', '.join(view['bound_by'])})"
    return ""
