"""The models of devices: register maps (NAME.yaml) and BMSs (NAME.yaml beside NAME.dbc)."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from vppd.config.document import Block, ConfigError, Document, Finding, KeyPath
from vppd.config.model_rules import bms_rules, profile_rules
from vppd.config.oddities import profile_oddities
from vppd.config.reference import keys_of, nearest
from vppd.config.rules import judge
from vppd.config.schema import adapter_for, validated
from vppd.config.strict_yaml import read
from vppd.core.bms import BmsProfile
from vppd.core.profile import DeviceProfile

SHIPPED_PROFILES = Path(__file__).parents[1] / "field" / "profiles"


def load_profile(path: Path) -> DeviceProfile:
    """Read and check one register map. Raises ConfigError with everything that is wrong."""
    profile, findings = _profile(path, path.name)
    if profile is None:
        raise ConfigError(findings)
    return profile


def load_bms(path: Path) -> BmsProfile:
    """Read and check one BMS model. Raises ConfigError with everything that is wrong."""
    bms, findings = _bms(path, path.name)
    if bms is None:
        raise ConfigError(findings)
    return bms


def shipped_profiles() -> dict[str, DeviceProfile]:
    """Every register map that comes with vppd."""
    return {
        path.stem: load_profile(path)
        for path in sorted(SHIPPED_PROFILES.glob("*.yaml"))
        if not _is_bms(path)
    }


def shipped_bms() -> dict[str, BmsProfile]:
    """Every BMS model that comes with vppd."""
    return {
        path.stem: load_bms(path)
        for path in sorted(SHIPPED_PROFILES.glob("*.yaml"))
        if _is_bms(path)
    }


def models(
    directory: Path, document: Document, parts: Mapping[str, Any]
) -> tuple[dict[str, Any], list[Finding]]:
    """The models that `field.yaml` names; own files are all checked and go before shipped ones."""
    own = {path.stem: path for path in sorted(directory.glob("devices/*.yaml"))}
    paths = {path.stem: path for path in sorted(SHIPPED_PROFILES.glob("*.yaml"))} | own
    named = list(_named(parts))
    profiles: dict[str, DeviceProfile] = {}
    bms_profiles: dict[str, BmsProfile] = {}
    findings: list[Finding] = []
    wanted = {each.name for each in named}
    for name, path in paths.items():
        if name not in own and name not in wanted:
            continue
        file = f"{path.parent.name}/{path.name}"
        if _is_bms(path):
            bms, its = _bms(path, file)
            if bms is not None and name in wanted:
                bms_profiles[name] = bms
        else:
            profile, its = _profile(path, file)
            if profile is not None and name in wanted:
                profiles[name] = profile
        findings += its
    for each in named:
        _exists(document, each, paths)
    known: dict[str, Any] = {"profiles": profiles, "bms_profiles": bms_profiles}
    return known, findings


@dataclass(frozen=True, slots=True)
class _Named:
    """Where a model is named, and of which sort it must be."""

    name: str
    place: KeyPath
    bms: bool


def _named(parts: Mapping[str, Any]) -> Iterator[_Named]:
    for index, unit in enumerate(parts["units"]):
        if unit.modbus is not None:
            yield _Named(unit.modbus.profile, ("units", index, "modbus", "profile"), bms=False)
        if unit.bms is not None:
            yield _Named(unit.bms.dbc, ("units", index, "bms", "dbc"), bms=True)
    if parts.get("meter") is not None:
        yield _Named(parts["meter"].profile, ("meter", "profile"), bms=False)


def _exists(document: Document, named: _Named, paths: Mapping[str, Path]) -> None:
    place = document.origin(named.place)
    if document.doubts(place):
        return
    fitting = {name for name, path in paths.items() if _is_bms(path) is named.bms}
    if named.name not in fitting:
        what = "BMS model" if named.bms else "profile"
        other = f"; {named.name} is a model of another sort" if named.name in paths else ""
        known = other or nearest(named.name, tuple(sorted(fitting)))
        document.wrong(place, f"no {what} {named.name}, shipped or in devices/{known}")


def _is_bms(path: Path) -> bool:
    return path.with_suffix(".dbc").exists()


def _profile(path: Path, file: str) -> tuple[DeviceProfile | None, list[Finding]]:
    document = read(file, path)
    if document.data.get("revert") == "none":  # the short form of {kind: none}
        document.data["revert"] = Block(("revert",))
    profile: DeviceProfile | None = validated(document, adapter_for(DeviceProfile), DeviceProfile)
    if profile is not None:
        _named_as_file(document, profile.name, path)
        sections = dict.fromkeys(keys_of(DeviceProfile), document)
        judge(sections, (*profile_rules(profile), *profile_oddities(profile)))
    findings = document.in_order()
    return profile if _fine(findings) else None, findings


def _bms(path: Path, file: str) -> tuple[BmsProfile | None, list[Finding]]:
    document = read(file, path)
    bms: BmsProfile | None = validated(document, adapter_for(BmsProfile), BmsProfile)
    if bms is not None:
        _named_as_file(document, bms.name, path)
        bms = replace(bms, dbc_path=str(path.with_suffix(".dbc")))
        judge(dict.fromkeys(keys_of(BmsProfile), document), bms_rules(bms))
    findings = document.in_order()
    return bms if _fine(findings) else None, findings


def _named_as_file(document: Document, name: str, path: Path) -> None:
    if name != path.stem:
        document.note(("name",), f"{name}, but units name it {path.stem}", None, "warning")


def _fine(findings: list[Finding]) -> bool:
    return all(each.level == "warning" for each in findings)
