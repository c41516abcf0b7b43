"""What came of reading the configuration again."""

from dataclasses import dataclass

from vppd.core.difference import Difference


@dataclass(frozen=True, slots=True)
class Verdict:
    """`errors` empty: it is in force, or could be. `changes` are the keys that differ, `steps` what
    is exchanged for them, in words."""

    errors: tuple[str, ...] = ()
    changes: tuple[Difference, ...] = ()
    steps: tuple[str, ...] = ()
    dry_run: bool = False
