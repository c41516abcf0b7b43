"""The soak in short: its rule can say no, and a little of both lives. The rest: `scripts/soak`."""

import random
import tempfile
from pathlib import Path

import pytest

from tests import soak_lived, soak_virtual
from tests.soak import told
from tests.soak_trend import PAIRS_OF, Rule, judged, slope, table

LEAK = Rule("memory", "MB", 0.75, 120.0)


def grown(mb_per_h: float, seed: int) -> list[tuple[float, dict[str, float]]]:
    """An hour of samples of 10 s, with noise and a few outliers."""
    chance = random.Random(seed)
    return [
        (at_s, {"memory": 80.0 + mb_per_h * at_s / 3600.0 + chance.gauss(0.0, 0.1) + outlier})
        for at_s in range(0, 3600, 10)
        for outlier in (20.0 if chance.random() < 0.03 else 0.0,)
    ]


@pytest.mark.parametrize("seed", range(5))
def test_what_grows_is_seen_and_outliers_are_not_growth(seed: int) -> None:
    assert judged(LEAK, grown(0.0, seed)).flat
    assert judged(LEAK, grown(-5.0, seed)).flat
    assert not judged(LEAK, grown(2.0, seed)).flat


def test_only_the_second_half_is_judged() -> None:
    warm = [(float(at), {"memory": min(60.0 + at, 90.0)}) for at in range(100)]
    verdict = judged(LEAK, warm)
    assert verdict.flat
    assert (verdict.first, verdict.low, verdict.last, verdict.drift) == (60.0, 90.0, 90.0, 0.0)


def test_a_value_beyond_its_most_is_not_flat() -> None:
    high = [(float(at), {"memory": 121.0}) for at in range(10)]
    verdict = judged(LEAK, high)
    assert verdict.drift == 0.0
    assert not verdict.flat
    assert "NOT FLAT" in table([verdict])[1]


def test_the_slope_of_a_line_is_its_slope_however_many_points() -> None:
    for count in (2, 3, PAIRS_OF, 5 * PAIRS_OF + 1):
        assert slope([(float(at), 3.0 * at + 7.0) for at in range(count)]) == pytest.approx(3.0)
    assert slope([(0.0, 1.0)]) == 0.0
    with pytest.raises(ValueError, match="nothing was seen of memory"):
        judged(LEAK, [(0.0, {"other": 1.0})])


def test_a_little_of_a_day_on_virtual_time(capsys: pytest.CaptureFixture[str]) -> None:
    memory = "/dev/shm" if Path("/dev/shm").is_dir() else None
    with tempfile.TemporaryDirectory(dir=memory) as directory:
        samples = soak_virtual.lived(Path(directory), 500.0, 0.4, 600.0, units=2)
    assert len(samples) > 1
    told("little", soak_virtual.RULES, samples)
    assert "journal, MB" in capsys.readouterr().out
    assert samples[-1][1]["late_ticks"] == 0.0
    assert samples[-1][1]["ticks"] - samples[0][1]["ticks"] < 2.6 * (samples[-1][0] - samples[0][0])
    descriptors = [each["descriptors"] for _, each in samples]
    assert max(descriptors) - min(descriptors) <= 4.0  # links of the exchange that come and go
    assert samples[-1][1]["bids"] > 0.0, "a site that trades"


def test_a_little_of_an_hour_in_real_time(tmp_path: Path) -> None:
    samples = soak_lived.lived(tmp_path, 3.0, 0.5)
    assert len(samples) > 1
    for rule in soak_lived.RULES:
        assert judged(rule, samples).last >= 0.0
    assert samples[-1][1]["memory"] > 30.0
    assert samples[-1][1]["journal"] > 0.0
