"""What is promised of every fault: the one table that the campaign judges by.

States, each seen at the devices: `zero` - every device holds 0 kW; `unit zero` - the hurt unit
does, and the others carry its share, less what the connection keeps free for a unit that is not
heard; `held` - every device keeps what it was told, and ticks go on; `held or zero` - that, or the
process ends, every device is at 0 kW and it starts again; `droop` - the sum stays what is owed,
give or take the answer to frequency. `within_s` is how soon the state is there, `back_s` how soon
after the end of the fault the site does what it is newly told.
"""

from dataclasses import dataclass
from typing import Literal

State = Literal["zero", "unit zero", "held", "held or zero", "droop"]

REVERT_S = 5.0  # of the devices, as their profile programs it
SILENT_S = 2.5  # a link that says nothing for so long is lost
LOOK_S = 0.5  # what looking at four devices costs, on a busy machine
BY_DEVICE_S = REVERT_S + LOOK_S
BY_SILENCE_S = SILENT_S + REVERT_S + LOOK_S  # it hears nothing: its own timer does it
RESTART_S = 25.0  # a process that starts, on a machine that does other things too
RETRY_S = 12.0  # a dead device is asked again every ten seconds
AT_ONCE_S = 3.0


@dataclass(frozen=True, slots=True)
class Promise:
    """One kind of fault. `where`: both, or only under a real systemd ("booted")."""

    kind: str
    fault: str
    state: State
    within_s: float
    back_s: float
    weight: int = 1
    where: Literal["both", "booted"] = "both"
    alarm: str = ""  # that stands while it lasts


PROMISES = (
    # the process
    Promise("killed", "kill -9", "zero", BY_DEVICE_S, RESTART_S),
    Promise("terminated", "SIGTERM: told 0 by vppd itself", "zero", 1.5, RESTART_S),
    Promise("stopped", "SIGSTOP for 6 s, SIGCONT", "zero", BY_DEVICE_S, RETRY_S),
    Promise("hiccup", "SIGSTOP for 1 s, SIGCONT: held again", "held", AT_ONCE_S, RETRY_S, 2),
    Promise("frozen", "SIGSTOP for good", "zero", BY_DEVICE_S, RESTART_S + 16.0),
    Promise("spinning", "the loop spins for ever", "zero", BY_DEVICE_S, RESTART_S + 12.0),
    Promise("waiting", "the loop waits for ever", "zero", BY_DEVICE_S, RESTART_S + 12.0),
    Promise("reload_broken", "SIGHUP with a broken file", "held", 0.0, AT_ONCE_S, 3),
    Promise("reload", "SIGHUP with a good file", "held", 0.0, AT_ONCE_S, 3),
    # devices and their links
    Promise("device_slow", "answers after up to 0.25 s", "held", 0.0, RETRY_S, 2),
    Promise("device_dies", "does not answer", "unit zero", BY_SILENCE_S, RETRY_S),
    Promise("device_errs", "answers with exceptions", "unit zero", BY_SILENCE_S, RETRY_S),
    Promise("device_closes", "closes every connection", "unit zero", BY_SILENCE_S, RETRY_S),
    Promise("device_refuses", "nobody listens", "unit zero", BY_SILENCE_S, RETRY_S),
    Promise("device_resets", "loses what it was told", "held", RETRY_S, RETRY_S, 2),
    Promise("half_open", "the far end is gone, nobody said so", "unit zero", BY_SILENCE_S, RETRY_S),
    Promise("cable_out", "connects, nothing comes back", "unit zero", BY_SILENCE_S, RETRY_S),
    Promise("cable_cut", "reset, and plugged in again", "held", 0.0, RETRY_S, 2),
    Promise("switch_out", "all devices dark", "zero", BY_SILENCE_S, RETRY_S),
    Promise("requests_lost", "one way: it hears nothing", "unit zero", BY_SILENCE_S, RETRY_S),
    Promise("answers_lost", "one way: it is not heard", "unit zero", BY_SILENCE_S, RETRY_S),
    Promise("answers_twice", "every answer comes twice", "held", 0.0, RETRY_S, 2),
    Promise("answers_late", "later than the timeout", "unit zero", BY_SILENCE_S, RETRY_S),
    # frequency
    Promise("pmu_silent", "connected, no frames", "droop", 0.0, RETRY_S, 2, alarm="pmu_lost"),
    Promise("pmu_cut", "nobody listens", "droop", 0.0, RETRY_S, 2),
    Promise("pmu_garbage", "garbage between frames", "droop", 0.0, RETRY_S, 3),
    Promise("pmu_wrong_time", "an hour ahead", "droop", 0.0, RETRY_S, 2, alarm="pmu_time"),
    Promise("pmu_frozen", "the same value for ever", "droop", 0.0, RETRY_S, 2),
    # broker and exchange
    Promise("broker_killed", "kill -9, started again", "held", 0.0, AT_ONCE_S, 3),
    Promise("broker_frozen", "SIGSTOP for 3 s", "held", 0.0, AT_ONCE_S, 2),
    Promise("broker_cut", "dark, then back", "held", 0.0, AT_ONCE_S, 3),
    Promise("exchange_down", "cuts every request", "held", 0.0, AT_ONCE_S, 2),
    Promise("exchange_slow", "answers after 10 s", "held", 0.0, AT_ONCE_S, 2),
    Promise("exchange_wrong", "answers nonsense", "held", 0.0, AT_ONCE_S, 2),
    Promise("exchange_killed", "kill -9, started again", "held", 0.0, AT_ONCE_S, 2),
    Promise("exchange_frozen", "SIGSTOP for 7 s", "held", 0.0, AT_ONCE_S, 2),
    Promise("exchange_cut", "cut while a book is sent", "held", 0.0, AT_ONCE_S, 2),
    # the disk
    Promise("disk_full", "not a byte left", "held", 0.0, 8.0, 2, "booted"),
    Promise("disk_hung", "writes do not come back", "held", 0.0, 12.0, 2, "booted"),
    Promise("disk_errors", "I/O errors, remounted read-only", "held", 0.0, 40.0, 1, "booted"),
    Promise("power_cut", "the gateway loses power", "zero", BY_DEVICE_S, 40.0, 1, "booted"),
    # the machine
    Promise("clock_forward", "wall clock jumps ahead", "held", 0.0, AT_ONCE_S, 2),
    Promise("clock_back", "wall clock jumps back", "held", 0.0, AT_ONCE_S, 2),
    Promise("clock_drift", "wall clock gains or loses half", "held", 0.0, AT_ONCE_S, 2),
    Promise("descriptors_short", "no file can be opened", "held", 0.0, RETRY_S, 2),
    Promise("memory_short", "no more address space", "held or zero", BY_DEVICE_S, RESTART_S, 2),
    Promise("tasks_short", "no thread can be started", "held", 0.0, RETRY_S, 2, "booted"),
    Promise("cpu_short", "a third of a core", "held", 0.0, RETRY_S, 2, "booted"),
    Promise("journald_stopped", "SIGSTOP of systemd-journald", "held", 0.0, AT_ONCE_S, 2, "booted"),
    Promise(
        "names_hang", "no name server answers", "unit zero", BY_SILENCE_S, RETRY_S, 1, "booted"
    ),
    # clients
    Promise("thousand_connections", "1,000 clients connect", "held", 0.0, AT_ONCE_S, 2),
    Promise("half_requests", "clients that never finish", "held", 0.0, AT_ONCE_S, 3),
)
BY_KIND = {each.kind: each for each in PROMISES}
CLOCK = frozenset(each.kind for each in PROMISES if each.kind.startswith("clock_"))
