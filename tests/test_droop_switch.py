"""Who switched droop: an operator's off rules, else the newest word, each kept apart."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.test_duty import DUTY
from vppd.grid.droop_switch import Party, Switch

WORDS = [
    ([], True, "configuration"),
    ([("operator", False)], False, "operator"),
    ([("order", False)], False, "order"),
    ([("order", False), ("operator", True)], True, "operator"),
    ([("operator", True), ("order", False)], False, "order"),
    ([("operator", False), ("order", True)], False, "operator"),
    ([("operator", False), ("order", True), ("operator", True)], True, "operator"),
]


@pytest.mark.parametrize(("words", "enabled", "by"), WORDS)
def test_who_rules(words: list[tuple[Party, bool]], enabled: bool, by: str) -> None:
    duty, switch = DUTY, Switch()
    for party, word in words:
        duty, switch = duty.switched(word, party), switch.said(word, party)
    assert (duty.droop.enabled, switch.enabled, switch.by) == (enabled, enabled, by)
    if words:
        assert duty.switch == switch


def test_the_configuration_holds_until_somebody_speaks() -> None:
    assert not Switch(configured=False).enabled
    assert Switch(configured=False).said(True, "order").enabled


@given(st.lists(st.tuples(st.sampled_from(["operator", "order"]), st.booleans())))
def test_an_operators_off_stands_until_an_operator_takes_it_back(
    words: list[tuple[Party, bool]],
) -> None:
    switch = Switch()
    for party, word in words:
        switch = switch.said(word, party)
        assert not (switch.operator is False and switch.enabled)
        if switch.operator is not False:
            assert switch.enabled == word
    for party in ("operator", "order"):
        last = next((word for by, word in reversed(words) if by == party), None)
        assert getattr(switch, party) == last
