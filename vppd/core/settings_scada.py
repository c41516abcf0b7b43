"""Settings of orders from the grid and of the IEC 60870-5-104 station that takes them."""

from dataclasses import dataclass
from typing import Literal

from vppd.core.profile import key

NAME = r"^[a-z][a-z0-9_]{0,63}$"


@dataclass(frozen=True, slots=True, kw_only=True)
class OrderSettings:
    """How far, how fast and how long an order from outside is obeyed, whoever brings it."""

    export_max_kw: float | None = key(
        "an order beyond it is refused (null: the site's rating)", None, ge=0
    )
    import_max_kw: float | None = key(
        "an order beyond it is refused, as a positive number (null: the site's rating)", None, ge=0
    )
    reactive_max_kvar: float | None = key(
        "a reactive order beyond it is refused, either way (null: the site's apparent rating)",
        None,
        ge=0,
    )
    regulation_up_max_kw: float | None = key(
        "no more is offered or given upwards on a delta order (null: all that is available)",
        None,
        ge=0,
    )
    regulation_down_max_kw: float | None = key(
        "no more is offered or given downwards, as a positive number (null: all that is available)",
        None,
        ge=0,
    )
    ramp_kw_per_s: float | None = key(
        "an order moves the plan no faster (null: the site's own ramp alone)", None, gt=0
    )
    expiry_s: float | None = key(
        "an order not repeated for so long is over (null: valid while its link lives)",
        60.0,
        gt=0,
        le=86_400,
    )
    on_link_loss: Literal["hold", "expire", "schedule"] = key(
        "hold: keep the last order, even past its expiry, for hold_s; expire: until its expiry; "
        "schedule: give it up at once",
        "hold",
    )
    hold_s: float = key(
        "a held order is given up when its link was away for so long", 300.0, gt=0, le=86_400
    )
    lease_s: float = key(
        "a published order dies so soon after the one who renews it", 5.0, ge=1, le=60
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class StationPointSettings:
    """One information object of the station."""

    address: int = key("information object address", ge=1, le=16_777_215)
    kind: Literal["measured", "single", "double", "setpoint", "switch"] = key(
        "measured: M_ME_NC_1, as event M_ME_TF_1; single: M_SP_NA_1/M_SP_TB_1; double: "
        "M_DP_NA_1/M_DP_TB_1; setpoint: C_SE_NC_1/C_SE_TC_1; switch: C_SC_NA_1/C_SC_TA_1"
    )
    value: str = key(
        "the site value it shows; setpoint: order_kw, order_delta_kw or order_kvar; switch: "
        "orders_enabled or droop_enabled",
        pattern=NAME,
    )
    scale: float = key("value on the wire = site value x scale (0.001: kW as MW)", 1.0)
    moves_by: float = key("dead band: an event is sent when it moved by so much, unscaled", 0.0)
    time_tag: bool = key(
        "false: its events go out without a time tag, for masters that ask so", True
    )
    cyclic: bool = key("measured: sent every cyclic_s too, without a time tag", False)
    select: Literal["direct", "select", "either"] = key(
        "how it is commanded: direct, only after a select, or as the master likes", "either"
    )
    name: str = key("what people call it", "")


@dataclass(frozen=True, slots=True, kw_only=True)
class MasterSettings:
    """Who may connect."""

    host: str = key("IP address of a master or of one of its redundant front ends")
    links: int = key("connections it may have at once; a further one is refused", 1, ge=1, le=8)


@dataclass(frozen=True, slots=True, kw_only=True)
class StationTlsSettings:
    """TLS with certificates of both sides (as IEC 62351-3 asks)."""

    certificate: str = key("PEM file of the station, with its chain")
    private_key: str = key("PEM file of its key")
    authority: str = key("PEM file of the authority whose masters are let in")


@dataclass(frozen=True, slots=True, kw_only=True)
class ScadaSettings:
    """IEC 60870-5-104 controlled station."""

    enabled: bool = key("false: no station", False)
    host: str = key("local address to listen on", "127.0.0.1")
    port: int = key("TCP port (0: any free one)", 2404, ge=0, le=65_535)
    common_address: int = key("ASDU address of this station", 1, ge=1, le=65_534)
    masters: tuple[MasterSettings, ...] = key("who may connect; nobody else is let in", ())
    tls: StationTlsSettings | None = key("null: plain TCP", None)
    points: tuple[StationPointSettings, ...] = key(
        "the point list (empty: the shipped list of storage points)", ()
    )
    timezone: str = key("IANA zone of the time tags", "Asia/Kolkata")
    scan_s: float = key("values are looked at for events so often", 0.5, ge=0.05, le=60)
    cyclic_s: float | None = key(
        "points marked cyclic are sent so often (null: never)", 4.0, ge=0.5, le=3600
    )
    select_timeout_s: float = key("a select not executed by then is void", 10.0, gt=0, le=300)
    command_age_max_s: float | None = key(
        "a command with a time tag older than this is refused (null: not looked at)",
        10.0,
        gt=0,
        le=300,
    )
    events_max: int = key("events kept while no master takes them", 1000, ge=10, le=100_000)
    t1_s: float = key("no acknowledgment for so long: the link is closed", 15.0, ge=1, le=255)
    t2_s: float = key("received frames are acknowledged by then", 10.0, gt=0, le=255)
    t3_s: float = key("a test frame is sent so often", 20.0, ge=1, le=3600)
    k: int = key("frames sent without acknowledgment, at most", 12, ge=1, le=32_767)
    w: int = key("frames received without acknowledging, at most", 8, ge=1, le=32_767)
