"""The fault campaign in short: a few kinds as plain processes, and that its judge can say no.

The whole of it, under a real systemd, is `scripts/faults`.
"""

from collections.abc import Iterator
from datetime import UTC, datetime

import pytest

from tests.faults.bids import Bids
from tests.faults.campaign import KINDS, Campaign, Injected, left_out
from tests.faults.gates import Gates
from tests.faults.gateway import PlainGateway
from tests.faults.ground import CONNECTION_KW, RATED_KW, SHIFT_S, Told, Watch
from tests.faults.ledger import Entry
from tests.faults.promises import BY_KIND, PROMISES
from tests.faults.report import lines, summary
from tests.faults.site import Broken, FaultSite
from tests.mqtt_rig import needs_mosquitto
from vppd.core.settings_market import GateSettings
from vppd.market.exchange import Auction
from vppd.market.gates import gate_of

pytestmark = pytest.mark.timeout(300)

SHORT = ("device_closes", "broker_killed", "reload_broken", "half_requests", "exchange_killed")
SENT_S = 60.0
PATIENCE = 4.0  # a test may run beside others


def test_every_kind_has_a_promise_and_they_are_many() -> None:
    assert set(KINDS) == set(BY_KIND)
    assert len(BY_KIND) == len(PROMISES) >= 25
    assert len(left_out(booted=False)) < len(PROMISES) - 25
    assert not {kind for kind in left_out(booted=True) if BY_KIND[kind].where == "booted"}


def test_the_table_tells_what_was_broken() -> None:
    done = [
        Injected("killed", 4.9, 7.0, 0, bids=3),
        Injected("killed", -1.0, -1.0, 1, "lost: command; lost: bid rtm-1", bids_lost=1),
        Injected("hiccup", 0.0, 0.5, 0),
    ]
    table = lines(done, {"power_cut": "needs a real systemd"})
    assert len(table) == 4
    assert "1 BROKEN" in table[1]
    assert "zero in 5.5 s" in table[1]
    assert "4.9 s" in table[1]
    assert "kept" in table[2]
    assert table[3] == "power_cut: not tried here, needs a real systemd"
    assert summary(done, ["audit verify: no"], 7, 3, 90) == (
        "2 kinds, 3 faults, 2 promises broken; 7 acknowledged rows, 1 lost; "
        "3 bids acknowledged by the exchange, 1 lost or doubled; 90 setpoints at the devices"
    )


def test_gates_open_one_by_one_as_far_ahead_as_is_allowed() -> None:
    gates, opened = Gates(), list[Auction]()
    while True:
        now = datetime.now(UTC)
        auction = gates.shut()
        if auction is None:
            break
        before = GateSettings(rtm_open_min=gates.open_min, rtm_close_min=3.0)
        assert not gate_of(auction, before).open_at(now)
        gates.open()
        after = GateSettings(rtm_open_min=gates.open_min, rtm_close_min=3.0)
        assert gate_of(auction, after).open_at(datetime.now(UTC))
        opened.append(auction)
    assert opened == sorted(set(opened))
    assert len(opened) in (47, 48), "a day of them"


class Judging(Watch):
    """Only its judgement."""

    def __init__(self) -> None:
        super().__init__(ground=_NoGround())  # type: ignore[arg-type]
        self.close()


class _NoGround:
    @property
    def plant(self) -> object:
        raise OSError("no plant")


def test_a_setpoint_outside_its_limits_is_seen() -> None:
    watch, each_kw = Judging(), CONNECTION_KW / 4.0
    watch.judge([Told(float(at), name, each_kw, "x") for at, name in enumerate("ABCD")], 9.0)
    assert not watch.wrong()
    # shares move: the one that rises may be a moment earlier than the one that falls
    moved = [Told(10.0, "A", each_kw + 20.0, "x"), Told(10.0 + SHIFT_S / 2, "B", 42.5, "x")]
    watch.judge(moved, 20.0)
    assert not watch.wrong()
    watch.judge([Told(30.0, "B", 62.5, "x")], 30.0 + SHIFT_S / 2)
    assert not watch.wrong()
    seen_s = 30.0 + SHIFT_S + 0.1
    watch.judge([], seen_s)
    assert ["too much together" in text for text in watch.wrong()] == [True]
    watch.judge([Told(seen_s + SHIFT_S / 2, "A", 0.0, "timeout")], 32.0)
    assert not watch.wrong()
    watch.judge([Told(40.0, "A", -RATED_KW - 1.0, "modbus")], 50.0)
    assert watch.wrong() == ["A was told -101.0 kW by modbus"]


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[FaultSite]:
    site = FaultSite(tmp_path_factory.mktemp("faults"), PlainGateway, seed=2, named=False)
    try:
        yield site
    finally:
        site.close()


@needs_mosquitto
def test_a_few_faults_keep_their_promises(site: FaultSite) -> None:
    said: list[str] = []
    campaign = Campaign(site, said.append, patience=PATIENCE)
    for kind in SHORT:
        campaign.inflict(kind)
    assert [each.wrong for each in campaign.done] == [""] * len(SHORT), said
    assert len(site.ledger.entries) >= 3 * len(SHORT)
    placed = site.ground.exchange.placed
    site.until(lambda: len(placed()) > 0, SENT_S, "a book is sent")
    assert site.ground.watch.count > 0
    site.ledger.post("/v1/units/A/control", command="disable")
    site.ground.watch.wrong()
    with pytest.raises(Broken, match="every device holds 0 kW"):
        site.zero(0.2)
    site.wanted_kw += 30.0
    with pytest.raises(Broken, match="more than is owed"):
        site.held(1.0)
    forged = Entry("command", "never", "SELECT count(*) > 0 FROM command WHERE verb = ?", ("x",))
    site.ledger.entries.append(forged)
    assert site.ledger.again() == [forged]
    site.ledger.entries.remove(forged)
    assert campaign.account() == []
    (first, *others), journal = placed(), site.gateway.state / "journal.db"
    assert not Bids(placed, journal).account()
    (twice,) = Bids(lambda: [first, *others, first], journal).wrong()
    assert twice == f"bid {first['ticket']}: taken 2 times"
    (unknown,) = Bids(lambda: [{**first, "ticket": "never"}], journal).wrong()
    assert unknown.startswith("lost: bid never")
    assert f"lost: bid {first['ticket']}: not at the exchange" in Bids(list, journal).account()
    (other,) = Bids(lambda: [{**first, "curves": []}, *others], journal).account()
    assert "otherwise" in other
