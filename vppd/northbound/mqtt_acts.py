"""Commands by MQTT, done and written down. Orders go over the same desk, by the same rules, as
those of the load despatch centre; what became of a command is on disk before it is answered, and no
command waits for the disk of another."""

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import structlog

from vppd.core.alarms import Code
from vppd.core.model import SITE, UnitId
from vppd.core.records import CommandRow, KeptRow
from vppd.core.settings_mqtt import MqttSettings
from vppd.grid.droop_switch import held_off
from vppd.grid.orders import Order, OrderKind, Refusal
from vppd.northbound.ledger import TEXT_MAX, Seldom
from vppd.northbound.mqtt_backlog import Stream
from vppd.northbound.mqtt_commands import Arrived, Command, Reason, RefusedCommand, read
from vppd.northbound.problems import Problem
from vppd.northbound.site import Site
from vppd.northbound.views import View

SOURCE = "mqtt"
KEY, ANSWERS_KEY = "mqtt commands", "mqtt answers"
NOBODY_UID = -1  # no user of this machine
VALID_MAX_S = 86_400.0
HUGE = 1e9
REFUSED_EVERY_S = 1.0

log = structlog.get_logger(source="mqtt")


@dataclass(slots=True)
class Done:
    """A command that was done or refused: its answer, and the row that must be on disk before it
    is given (None: nothing that must)."""

    view: dict[str, object]
    row: CommandRow | None = None


class Clerk:
    """Takes what arrives on the topics of commands, one after the other. What it does, it does at
    once; only the answer waits for the disk."""

    def __init__(self, site: Site, settings: MqttSettings, streams: Mapping[str, Stream]) -> None:
        self._site, self._settings, self._streams = site, settings, streams
        self._last: dict[str, int] = {}  # the sequences of the senders
        self._answered: dict[str, tuple[str, Done]] = {}
        self._unwritten: list[Done] = []
        self._seldom = Seldom(site.clock, REFUSED_EVERY_S)
        self._acts: Mapping[str, Callable[[Command], View]] = {
            "order": self._order,
            "withdraw": self._withdraw,
            "resend": self._resend,
            "droop": self._droop,
            "enable": self._enable,
            "disable": self._enable,
            "emergency_stop": self._emergency_stop,
        }

    async def recall(self) -> None:
        """Know the sequences of before the restart, and each sender's last answer. Raises
        OSError."""
        self._last = {**await self._kept(KEY), **self._last}
        answers = await self._kept(ANSWERS_KEY)
        known = {sender: (str(id_), Done(dict(view))) for sender, (id_, view) in answers.items()}
        self._answered = {**known, **self._answered}

    async def _kept(self, name: str) -> dict[str, Any]:
        select = "SELECT value_json FROM kept WHERE name = ?"
        found = await self._site.journal.select(select, [name])
        return dict(json.loads(str(found[0][0]))) if found else {}

    async def answer(self, done: Done) -> View:
        """The answer, when what it says is on disk, or the disk does not take it."""
        if done.row is not None:
            row, done.row = done.row, None
            self._unwritten.remove(done)
            done.view["journaled"] = await self._site.journal.commit(row)
        return done.view

    def write_down(self) -> None:
        """The link is gone: what nobody will be answered is written down all the same."""
        for done in self._unwritten:
            if done.row is not None:
                self._site.journal.append(done.row)
                done.row = None
        self._unwritten.clear()

    def take(self, arrived: Arrived) -> Done:
        """Do it or refuse it. One that came twice gets its first answer again."""
        site = self._site
        try:
            trusted = site.clock_trusted()
            now = site.clock.utc()
            command = read(arrived, self._last, now, self._settings, clock_trusted=trusted)
        except RefusedCommand as refused:
            before = self._before(refused, arrived)
            return before if before is not None else self._refused(refused, arrived)
        if command.seq is not None:
            self._last[command.sender] = command.seq
        site.journal.append(KeptRow(now, KEY, json.dumps(self._last)))
        try:
            said = self._acts[command.word](command)
        except Problem as problem:
            wrong = RefusedCommand(Reason.MALFORMED, problem.detail, command)
            return self._remembered(command, self._refused(wrong, arrived))
        except RefusedCommand as refused:
            return self._remembered(command, self._refused(refused, arrived))
        row = self._row(command, arrived, "accepted", "")
        self._tell(row, "")
        done = Done({**_head(command), "verdict": "accepted", **said}, row)
        self._unwritten.append(done)
        return self._remembered(command, done)

    # --- what can be commanded; each raises Problem or RefusedCommand ---

    def _order(self, command: Command) -> View:
        body, desk = command.body, self._site.desk
        _on_site(command, self._site)
        kind = OrderKind(body.choice("kind", tuple(OrderKind)))
        power_kw = body.number("power_kw", low=-HUGE, high=HUGE)
        valid_s = body.number("valid_s", low=0.1, high=VALID_MAX_S) if body.has("valid_s") else None
        ramp = "ramp_kw_per_s"
        ramp_kw_per_s = body.number(ramp, low=0.001, high=HUGE) if body.has(ramp) else None
        body.done()
        if desk is None:
            raise RefusedCommand(Reason.NOT_ALLOWED, "this site takes no orders", command)
        now_s = self._site.clock.now_s()
        order = Order(kind, power_kw, SOURCE, now_s, valid_s, ramp_kw_per_s, command.id)
        refused = desk.order(order)
        if refused is not None:
            low_kw, high_kw = desk.range_kw(kind)
            within = {"low_kw": low_kw, "high_kw": high_kw}
            more = within if refused[0] is Refusal.OUT_OF_RANGE else None
            raise RefusedCommand(refused[0], refused[1], command, more)
        limits = desk.regulation()
        return {"regulation_up_kw": limits.up_kw, "regulation_down_kw": limits.down_kw}

    def _withdraw(self, command: Command) -> View:
        _on_site(command, self._site)
        command.body.done()
        if self._site.desk is not None:
            self._site.desk.withdraw(SOURCE)
        return {}

    def _resend(self, command: Command) -> View:
        _on_site(command, self._site)
        name = command.body.choice("stream", tuple(self._streams))
        first = int(command.body.number("from", low=0, high=2**53))
        command.body.done()
        return {"next": self._streams[name].resend(first)}

    def _droop(self, command: Command) -> View:
        _on_site(command, self._site)
        enabled = command.body.flag("enabled")
        command.body.done()
        tick = self._site.tick
        if enabled and held_off(tick.duty.switch):
            text = "an operator has switched it off"
            raise RefusedCommand(Reason.NOT_ALLOWED, text, command)
        tick.duty = tick.duty.switched(enabled, "order")
        return {"enabled": enabled}

    def _enable(self, command: Command) -> View:
        command.body.done()
        asset = self._site.asset(UnitId(command.node))
        if asset is None:
            raise RefusedCommand(Reason.UNKNOWN, f"{command.word} is for a unit's topic", command)
        gate = self._site.gate
        (gate.enable if command.word == "enable" else gate.disable)(asset.id, _by(command))
        return {}

    def _emergency_stop(self, command: Command) -> View:
        command.body.done()
        scope = SITE if command.node == self._site.settings.site.id else command.node
        text = f"by MQTT, {_by(command)}"
        self._site.gate.trip(scope, Code.EMERGENCY_STOP, text, _by(command))
        if self._site.desk is not None:  # what was ordered must not come back with the reset
            self._site.desk.withdraw(SOURCE)
        return {"latched": scope}

    # --- writing down ---

    def _refused(self, refused: RefusedCommand, arrived: Arrived) -> Done:
        unsaid = self._seldom.now(0)
        if unsaid is not None:
            text = f"{refused.reason}: {refused.text}"
            row = self._row(refused.command, arrived, "refused", text)
            self._site.journal.append(row)
            self._tell(row, refused.reason, unsaid)
        head, reason = _head(refused.command), str(refused.reason)
        said = {"verdict": "refused", "reason": reason, "text": refused.text}
        return Done({**head, **said, **refused.more})

    def _before(self, refused: RefusedCommand, arrived: Arrived) -> Done | None:
        """The answer that the same message got already: the broker may deliver it twice."""
        if refused.reason is not Reason.REPLAYED:
            return None
        command = refused.command
        id_, done = self._answered.get(command.sender, ("", Done({})))
        said = done.view.get("seq"), done.view.get("command")
        same = id_ == command.id and said == (command.seq, command.word)
        if not same:
            return None
        done.view["repeated"] = True
        if done.view["verdict"] == "accepted" and "journaled" not in done.view:
            # it was done by a daemon or on a link that is gone; whether its row is, nobody knows
            done.row = self._row(command, arrived, "accepted", "done before, delivered again")
            self._unwritten.append(done)
        return done

    def _remembered(self, command: Command, done: Done) -> Done:
        """Keep it for when the same message comes again, over restarts too."""
        self._answered[command.sender] = command.id, done
        kept = {sender: (id_, each.view) for sender, (id_, each) in self._answered.items()}
        at = self._site.clock.utc()
        self._site.journal.append(KeptRow(at, ANSWERS_KEY, json.dumps(kept, default=str)))
        return done

    def _row(self, command: Command, arrived: Arrived, verdict: str, text: str) -> CommandRow:
        body = json.dumps(dict(command.body.members), default=str)
        if len(body) > TEXT_MAX or not command.id:
            raw = arrived.payload[:TEXT_MAX].decode("utf-8", "backslashreplace")
            body = json.dumps({"cut": raw})
        site_id, at = self._site.settings.site.id, self._site.clock.utc()
        unit = SITE if arrived.node == site_id else arrived.node
        verb = command.word or "unreadable"
        return CommandRow(at, NOBODY_UID, _by(command), verb, unit, body, verdict, text[:TEXT_MAX])

    def _tell(self, row: CommandRow, reason: str, unsaid: int | None = None) -> None:
        view: dict[str, object] = {"user": row.user, "verb": row.verb, "unit": row.unit}
        view |= {"verdict": row.verdict, "text": row.text}
        more = {"reason": reason or None, "unsaid": unsaid or None}
        said = {key: value for key, value in more.items() if value is not None}
        tell = log.info if row.verdict == "accepted" else log.warning
        tell("command", **view, body=row.body_json, **said)
        self._site.feed.tell("command", {"at": row.at, "uid": row.uid, **view})


def _head(command: Command) -> View:
    return {"id": command.id or None, "seq": command.seq, "command": command.word or None}


def _by(command: Command) -> str:
    return f"{SOURCE}:{command.sender}" if command.sender else SOURCE


def _on_site(command: Command, site: Site) -> None:
    if command.node != site.settings.site.id:
        text = f"{command.word} is for the site's topic, not for {command.node}'s"
        raise RefusedCommand(Reason.UNKNOWN, text, command)
