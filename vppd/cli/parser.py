"""The parser of vppctl's words. A word of `vppd` is told to be one."""

import argparse
import re
from typing import NoReturn

OF_VPPD = {  # words of the other command
    *("audit", "backtest", "backup", "check", "commission", "discover", "dropins", "explain"),
    *("export", "fault", "init", "replay", "report", "run", "settle", "sim"),
}


class Parser(argparse.ArgumentParser):
    """Names the other command where one of its words is given."""

    def error(self, message: str) -> NoReturn:
        word = re.search(r"invalid choice: '(\w+)'", message)
        if word is not None and word[1] in OF_VPPD:
            message = f"{word[1]} is no word of vppctl: it is `vppd {word[1]}`"
        super().error(message)
