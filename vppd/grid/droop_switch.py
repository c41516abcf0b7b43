"""Who switched droop, or the taking of orders, on or off last: an operator's and an order's words,
kept apart. Pure."""

from dataclasses import dataclass, replace
from typing import Literal

Party = Literal["operator", "order"]


@dataclass(frozen=True, slots=True)
class Switch:
    """The last word of each party, None until it speaks, and who spoke last.

    An operator's off rules until an operator takes it back; else the newest word; else the
    configuration.
    """

    configured: bool = True
    operator: bool | None = None
    order: bool | None = None
    newest: Party | None = None

    def said(self, enabled: bool, by: Party) -> "Switch":
        """After one more word."""
        if by == "operator":
            return replace(self, operator=enabled, newest=by)
        return replace(self, order=enabled, newest=by)

    @property
    def by(self) -> Literal["configuration", "operator", "order"]:
        """Whose word rules."""
        if self.operator is False:
            return "operator"
        return self.newest or "configuration"

    @property
    def enabled(self) -> bool:
        """Whether it is on: droop answers, orders are taken."""
        word = {"configuration": self.configured, "operator": self.operator, "order": self.order}
        return bool(word[self.by])


def held_off(switch: Switch | None) -> bool:
    """Whether an operator has switched it off: no order switches it on against that."""
    return switch is not None and switch.operator is False
