"""The configuration edge: YAML in, frozen settings out. It refuses and says why, never repairs.

yaml and pydantic are imported here and nowhere else.
"""

from vppd.config.change import changed
from vppd.config.devices import load_bms, load_profile, shipped_bms, shipped_profiles
from vppd.config.document import ConfigError, Finding, Loaded
from vppd.config.loader import load
from vppd.config.reference import explain

__all__ = [
    "ConfigError",
    "Finding",
    "Loaded",
    "changed",
    "explain",
    "load",
    "load_bms",
    "load_profile",
    "shipped_bms",
    "shipped_profiles",
]
