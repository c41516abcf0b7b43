"""Store and forward over a link that breaks and breaks: it must get on, and lose nothing.

The real daemon against a broker that is killed, frozen and cut off is `tests/broker_hour.py`; a few
faults of it are played here, an hour by hand.
"""

import random
from pathlib import Path

import pytest

from tests.api_site import make_rig
from tests.broker_hour import survived
from tests.mqtt_rig import needs_mosquitto
from vppd.core.settings_mqtt import MqttSettings
from vppd.northbound.mqtt import FleetLink
from vppd.northbound.mqtt_backlog import Cursor

REPEAT_S = 60.0
PLAYED_S = 3.0


@pytest.mark.parametrize("up_s", [5.0, 30.0, 59.0])
def test_a_link_that_breaks_sooner_than_it_repeats_gets_on_all_the_same(up_s: float) -> None:
    """Each time up it sends again what the broker may have lost; what is new must follow."""
    cursor, stored_per_s, sent_per_s = Cursor("epoch", 0), 2, 40
    now_s = 0.0
    while now_s < 7200.0:
        cursor.break_off(now_s, REPEAT_S)
        for _ in range(round(up_s)):
            now_s += 1.0
            front = round(now_s) * stored_per_s
            for seq in range(cursor.sent + 1, min(cursor.sent + sent_per_s, front) + 1):
                cursor.advance(seq, now_s)
    assert cursor.sent >= 7200 * stored_per_s - up_s * sent_per_s


def test_what_was_acknowledged_lately_is_sent_again_after_every_break() -> None:
    """However often it broke off meanwhile, and however far the repeating had come."""
    chance, cursor, first_s = random.Random(3), Cursor("epoch", 0), dict[int, float]()
    now_s = 0.0
    for _ in range(400):
        for seq in range(cursor.sent + 1, cursor.sent + chance.randrange(1, 90)):
            now_s += chance.uniform(0.0, 0.3)
            cursor.advance(seq, now_s)
            first_s.setdefault(seq, now_s)
        now_s += chance.uniform(0.0, 4.0)
        cursor.break_off(now_s, REPEAT_S)
        late = [seq for seq, at_s in first_s.items() if at_s > now_s - REPEAT_S]
        assert not late or cursor.sent < late[0]


def test_what_an_operator_asks_for_again_counts_as_new() -> None:
    cursor = Cursor("epoch", 0)
    for seq in range(1, 11):
        cursor.advance(seq, 0.0)
    cursor.break_off(REPEAT_S + 1.0, REPEAT_S)
    assert cursor.sent == 10
    cursor.back_to(4)
    for seq in range(5, 8):
        cursor.advance(seq, 100.0)
    cursor.break_off(101.0, REPEAT_S)
    assert cursor.sent == 4


@needs_mosquitto
@pytest.mark.timeout(90)
def test_the_real_daemon_over_a_broker_that_suffers(tmp_path: Path) -> None:
    outcome = survived(tmp_path, PLAYED_S, seed=4, haste=8.0)
    assert outcome.fine, outcome.sentence()
    assert outcome.done


async def test_a_link_that_knows_nothing_yet_can_be_shown(tmp_path: Path) -> None:
    """`/v1/status` is asked from the first moment on, also while the journal is slow to open."""
    rig = make_rig(tmp_path / "sock")
    link = FleetLink(rig.site, MqttSettings(url="mqtt://127.0.0.1:1"))
    assert link.status()["sent"] == dict.fromkeys(link.streams, 0)
