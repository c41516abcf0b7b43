"""The rules of a site that trades: each broken alone is one error at its key, what is odd is one
warning, and nothing of it matters while the market is off."""

import pytest

from tests.config_site import FIELD, FINE, VPPD, loaded, settings_of

HARDWARE = {"vppd.yaml": VPPD.replace("simulation", "hardware")}
BIG = {"field.yaml": FIELD.replace("rated_power_kw: 5", "rated_power_kw: 500")}
WHO = {"url": "'https://exchange.example'", "user": "U", "participant": "P", "token": "t"}
TOY = FINE["devices/toy.yaml"].replace("low: -10, high: 10", "low: -600, high: 600")
SITE = FINE | BIG | {"devices/toy.yaml": TOY}


def market(text: str, *, enabled: bool = True) -> dict[str, str]:
    return {"market.yaml": f"enabled: {str(enabled).lower()}\n{text}\n"}


def member(kind: str, without: str = "") -> dict[str, str]:
    """A member of an exchange, with everything but one word."""
    words = ", ".join(f"{name}: {value}" for name, value in WHO.items() if name != without)
    return market(f"exchange: {{kind: {kind}, {words}}}")


ERRORS: list[tuple[dict[str, str], str, str]] = [
    (member("iex", "url"), "market.exchange.kind", "exchange.url does not say where"),
    (member("iex", "user"), "market.exchange.kind", "iex asks for exchange.user"),
    (member("pxil", "participant"), "market.exchange.kind", "pxil asks for exchange.participant"),
    (member("iex", "token"), "market.exchange.kind", "iex asks for exchange.token"),
    (HARDWARE | market("exchange: {kind: simulated}"), "market.exchange.kind", "no exchange of"),
    (
        market("battery: {soc_min_pct: 60, soc_max_pct: 60}"),
        "market.battery.soc_min_pct",
        "60 is not below soc_max_pct 60",
    ),
    (
        market("rtm_terms: {step_mw: 0.01}"),
        "market.rtm_terms.step_mw",
        "0.01 times exchange.quantity_out_factor 10 is no whole number",
    ),
    (
        market("exchange: {kind: simulated, price_out_factor: 0.5}\nproducts: [rtm]"),
        "market.exchange.price_out_factor",
        "1 times exchange.price_out_factor 0.5 is no whole number",
    ),
]


@pytest.mark.parametrize(("files", "key", "told"), ERRORS)
def test_a_broken_rule_is_one_error_at_its_key(files: dict[str, str], key: str, told: str) -> None:
    result = loaded(SITE | files)
    assert [each.key for each in result.errors] == [key], [str(each) for each in result.errors]
    assert told in str(result.errors[0])
    off = {"market.yaml": files["market.yaml"].replace("enabled: true", "enabled: false")}
    assert not loaded(SITE | files | off).errors


@pytest.mark.parametrize(
    "files",
    [
        market(""),
        member("iex"),
        market("exchange: {kind: sheet}"),
        HARDWARE | market("exchange: {kind: sheet}"),
        HARDWARE | market("exchange: {kind: simulated, url: 'http://127.0.0.1:8000'}"),
        market("battery: {soc_min_pct: 59, soc_max_pct: 60}"),
        market("rtm_terms: {step_mw: 0.01}\nproducts: [dam]"),
        market("exchange: {kind: sheet}\nrtm_terms: {step_mw: 0.01}"),
    ],
)
def test_what_keeps_the_rules_is_no_error(files: dict[str, str]) -> None:
    settings_of(loaded(SITE | files))


def traded(files: dict[str, str]) -> dict[str, str]:
    return {"market.yaml": f"{files['market.yaml']}dry_run: false\n"}


WARNINGS: list[tuple[dict[str, str], str]] = [
    (HARDWARE | traded(member("iex")), "market.dry_run"),
    (market("exchange: {area: W2}"), "market.exchange.area"),
    (HARDWARE | market("exchange: {kind: sheet}"), "market.enabled"),
    (market("") | {"field.yaml": FIELD}, "market.enabled"),
]


@pytest.mark.parametrize(("files", "key"), WARNINGS)
def test_what_is_odd_is_warned_of(files: dict[str, str], key: str) -> None:
    result = loaded(SITE | files)
    settings_of(result)
    keys = [each.key for each in result.findings if each.file == "market.yaml"]
    assert key in keys, [str(each) for each in result.findings]
    off = {"market.yaml": files["market.yaml"].replace("enabled: true", "enabled: false")}
    found = loaded(SITE | files | off).findings
    assert key not in [each.key for each in found if each.file == "market.yaml"]
