"""Writes that wear a device's memory: counted over a rolling day, refused beyond the budget, and
never refused where they make the device safe."""

from dataclasses import replace

from hypothesis import given
from hypothesis import strategies as st

from tests.test_modbus_actuator import U1, V1, Bench
from vppd.core.alarms import Code
from vppd.core.model import DeviceNotice, WriteResult
from vppd.core.profile import DeviceProfile, Step, Writable
from vppd.field.drivers.setpoint import Purpose
from vppd.field.drivers.wear import DAY_S, Budget

POWER, MODE, ENABLED = 0x2000, 0x2002, 0x2003


def worn(per_day: int, *writables: Writable) -> DeviceProfile:
    """Where these registers are non-volatile."""
    writes = {key: replace(spec, volatile=key not in writables) for key, spec in V1.writes.items()}
    return replace(V1, writes=writes, nvm_writes_per_day=per_day)


class Day(Bench):
    """A device that shows nothing of its states, so that no step is needless."""

    def spend(self, power_kw: float) -> bool:
        """Whether a setpoint is written."""
        self.clock.s += 2.0
        self.offer(power_kw)
        frames = self.settle()
        return any(frame.purpose is Purpose.SETPOINT for frame in frames)


@given(st.integers(0, 5), st.lists(st.floats(0.0, DAY_S), max_size=12))
def test_no_day_has_more_than_its_budget(per_day: int, waits_s: list[float]) -> None:
    budget, now_s, spent = Budget(per_day), 0.0, []
    for wait_s in waits_s:
        now_s += wait_s
        if budget.left(now_s):
            budget.spend(now_s)
            spent.append(now_s)
        within = [each for each in spent if now_s - each < DAY_S]
        assert len(within) <= per_day
        assert budget.left(now_s) == per_day - len(within)


def test_beyond_the_budget_a_setpoint_is_refused_in_words_and_zero_is_not() -> None:
    day = Day(worn(2, Writable.POWER_KW))
    assert day.spend(10.0)
    assert day.spend(20.0)
    assert not day.spend(30.0)
    assert (Code.WRITE_BUDGET, True) in day.notices()
    (notice,) = [each for each in day.of(DeviceNotice) if each.code is Code.WRITE_BUDGET]
    assert notice.unit == U1
    assert "2 such writes a day are spent" in notice.text
    refused = [each for each in day.of(WriteResult) if each.outcome == "refused"]
    assert "power_kw, reactive_kvar not sent" in refused[-1].text
    assert day.spend(0.0), "what makes it safe is written all the same"
    counters = day.presence.counters
    assert (counters.nvm_writes, counters.nvm_budget_left) == (3, 0)
    assert not day.spend(40.0)
    day.clock.s += DAY_S
    day.show(setpoint_kw=0.0)
    assert (Code.WRITE_BUDGET, False) in day.notices()
    assert counters.nvm_budget_left == 2
    assert day.spend(50.0)


def test_off_is_written_beyond_the_budget_and_on_is_not() -> None:
    day = Day(worn(1, Writable.MODE, Writable.ENABLED))
    day.actuator.enable(on=True)
    steps = []
    for _ in range(30):
        day.clock.s += 1.0
        steps += [frame.address for frame in day.settle()]
    assert steps == [MODE], "the second step had no budget left, and is given up"
    day.actuator.enable(on=False)
    assert ENABLED in [frame.address for frame in day.settle()]
    assert day.presence.counters.nvm_writes == 2
    assert day.presence.counters.nvm_budget_left == 0


def test_on_stop_is_written_beyond_the_budget_and_release_is_not() -> None:
    profile = replace(
        worn(0, Writable.MODE),
        on_stop=(Step(write=Writable.MODE, value=1.0),),
        release=(Step(write=Writable.MODE, value=2.0),),
        enable=(),
    )
    released = Day(profile)
    released.actuator.enable(on=True)
    released.offer(0.0)
    released.actuator.release()
    for _ in range(20):
        assert MODE not in [frame.address for frame in released.settle()]
        released.show(setpoint_kw=0.0, setpoint_kvar=0.0)
        released.clock.s += 1.0
        released.offer(0.0)
    assert (Code.WRITE_REFUSED, True) in released.notices()
    assert (Code.RELEASED, True) not in released.notices()


def test_nothing_is_counted_where_nothing_wears() -> None:
    day = Day(worn(0))
    assert day.spend(10.0)
    assert day.presence.counters.nvm_budget_left is None
    assert (Code.WRITE_BUDGET, True) not in day.notices()


def test_a_write_that_was_not_answered_may_have_worn() -> None:
    day = Day(worn(1, Writable.POWER_KW))
    day.offer(10.0)
    frame = day.next()
    assert frame is not None
    day.actuator.unanswered(frame, "no reply", day.clock.s)
    assert day.presence.counters.nvm_budget_left == 0
    assert not day.spend(20.0)


def test_a_zero_that_goes_with_other_registers_in_its_frame_is_a_zero() -> None:
    plain = worn(1, Writable.POWER_KW)
    power = replace(plain.writes[Writable.POWER_KW], before=(1, 1), after=(7,))
    day = Day(replace(plain, writes={**plain.writes, Writable.POWER_KW: power}))
    assert day.spend(10.0)
    assert not day.spend(20.0)
    assert day.spend(0.0)
