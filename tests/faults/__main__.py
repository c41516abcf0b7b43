"""`scripts/faults`: see there."""

import argparse
import shutil
import sys
import tempfile
from collections.abc import Sequence
from functools import partial
from pathlib import Path

from tests.faults.campaign import KINDS, Campaign, left_out
from tests.faults.gateway import PlainGateway
from tests.faults.gateway_booted import BootedGateway, can_boot
from tests.faults.promises import PROMISES
from tests.faults.report import lines, summary
from tests.faults.site import FaultSite


def options(words: Sequence[str] | None) -> argparse.Namespace:
    """What was asked for."""
    parser = argparse.ArgumentParser(prog="scripts/faults")
    parser.add_argument("--seconds", type=float, default=600.0, help="no new fault after so long")
    parser.add_argument("--most", type=int, default=10**9, help="no more faults than so many")
    parser.add_argument("--kinds", default="", help="only these, with commas")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--plain", action="store_true", help="plain processes, no real systemd")
    parser.add_argument("--keep", type=Path, help="put the state directory there at the end")
    parser.add_argument("--list", action="store_true", help="the kinds and their promises")
    return parser.parse_args(words)


def main(words: Sequence[str] | None = None) -> int:
    """0 when every promise was kept, 1 when one was not, 2 for wrong words."""
    how, say = options(words), partial(print, flush=True)
    why = "" if how.plain else can_boot()
    if why:
        say(f"no real systemd here ({why}): plain processes and a stand-in for its supervision")
    booted = not how.plain and not why
    out = left_out(booted=booted)
    wanted = [each for each in how.kinds.split(",") if each] or [p.kind for p in PROMISES]
    if unknown := [kind for kind in wanted if kind not in KINDS]:
        say(f"no such kind: {', '.join(unknown)}; there are: {', '.join(KINDS)}")
        return 2
    if how.list:
        for each in PROMISES:
            say(f"{each.kind:22} {each.fault:40} {each.state} in {each.within_s:g} s")
        return 0
    kinds = [kind for kind in wanted if kind not in out]
    with tempfile.TemporaryDirectory(prefix="faults") as directory:
        site = FaultSite(
            Path(directory), BootedGateway if booted else PlainGateway, how.seed, named=booted
        )
        try:
            campaign = Campaign(site, say)
            campaign.run(kinds, how.seconds, how.most)
            more = campaign.account()
            if how.keep is not None:
                shutil.copytree(site.gateway.state, how.keep, dirs_exist_ok=True)
            watch = site.ground.watch
            say("\n".join(["", *lines(campaign.done, out), *more]))
            say(
                f"most at one device {watch.most_kw:.1f} kW, together {watch.most_sum_kw:.1f} kW,"
                f" above the connection for at most {watch.longest_s:.2f} s"
            )
            rows, bids = len(site.ledger.entries), len(site.ground.exchange.placed())
            say(summary(campaign.done, more, rows, bids, watch.count))
            return 1 if more or any(each.wrong for each in campaign.done) else 0
        finally:
            site.close()


if __name__ == "__main__":
    sys.exit(main())
