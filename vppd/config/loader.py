"""The configuration edge: YAML in, frozen settings out. It refuses and says why, never repairs.

The keys, their bounds and their words stand in `vppd/core/settings.py` and `vppd/core/profile.py`;
the strict validation is built here from those fields. Every error of every file is found in one
run: what a wrong key leaves over is still judged by the rules between keys.
"""

import functools
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Literal, TypeVar, get_args, get_origin

from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    Strict,
    TypeAdapter,
    ValidationError,
    create_model,
)

from vppd.config.document import (
    Block,
    ConfigError,
    Document,
    Finding,
    KeyPath,
    Loaded,
    overlaps,
)
from vppd.config.oddities import ODDITIES, profile_oddities
from vppd.config.reference import (
    FILES,
    UNWRAPPED,
    Key,
    find,
    inside,
    is_block,
    keys_of,
    missing,
    nearest,
    stand_in,
    unfit,
    unknown,
    without_none,
)
from vppd.config.rules import RULES, judge, profile_rules
from vppd.config.strict_yaml import read
from vppd.core.profile import DeviceProfile
from vppd.core.settings import Settings, SiteSettings, UnitSettings

REQUIRED_FILES = ("vppd.yaml", "field.yaml")
SHIPPED_PROFILES = Path(__file__).parents[1] / "field" / "profiles"
UNKNOWN = "extra_forbidden"  # pydantic's word for a key that is not known
T = TypeVar("T")


# --- strict validation, built from the fields ---


_STRICT = ConfigDict(extra="forbid", strict=True, allow_inf_nan=False)


@functools.cache
def _schema(kind: type) -> Any:
    """A strict pydantic type for a settings class; validating a mapping gives the class back."""
    fields: dict[str, Any] = {
        name: (_annotated(key.kind, key.bounds), ... if key.required else None)
        for name, key in keys_of(kind).items()
    }
    model = create_model(kind.__name__, __config__=_STRICT, **fields)

    def build(valid: BaseModel) -> Any:
        return kind(**_given(valid))

    return Annotated[model, AfterValidator(build)]


def _given(valid: BaseModel) -> dict[str, Any]:
    return {name: getattr(valid, name) for name in valid.model_fields_set}


def _annotated(kind: Any, bounds: Any) -> Any:
    """A type with its bounds, strict all the way down."""
    inner = without_none(kind)
    if inner is not kind:
        return _annotated(inner, bounds) | None
    if is_block(kind):
        return _schema(kind)
    if get_origin(kind) is Literal:
        return Annotated[kind, BeforeValidator(functools.partial(_exactly, get_args(kind)))]
    if get_origin(kind) is tuple:
        many: Any = tuple
        least = BeforeValidator(functools.partial(_at_least, bounds.get("min_length", 0)))
        return Annotated[many[_annotated(inside(kind), {}), ...], Strict(False), least]
    if inside(kind) is not kind:
        name, value = get_args(kind)
        named: Any = dict
        return named[_annotated(name, {}), _annotated(value, {})]
    if isinstance(kind, type) and issubclass(kind, str) and kind is not str:
        return Annotated[kind, Strict(False)]  # an enum, given as its word
    return Annotated[kind, Field(**bounds)] if bounds else kind


def _exactly(words: tuple[Any, ...], value: Any) -> Any:
    """Pass a value of one of these types: true is not 1, and 1.0 is not."""
    if type(value) not in {type(word) for word in words}:
        raise ValueError("another type")
    return value


def _at_least(length: int, value: Any) -> Any:
    """Pass a list that is long enough as given; pydantic counts only its valid items."""
    if isinstance(value, list) and len(value) < length:
        raise ValueError("too short")
    return value


@functools.cache
def _adapter(file: str) -> TypeAdapter[dict[str, Any]]:
    """What one file may hold; that a required section is there is checked by `_part`."""
    keys = keys_of(Settings)
    fields: dict[str, Any] = {
        name: (_annotated(keys[name].kind, keys[name].bounds), None) for name in FILES[file]
    }
    part: Any = create_model(file, __config__=_STRICT, **fields)
    return TypeAdapter(Annotated[part, AfterValidator(_given)])


@functools.cache
def _profile_adapter() -> TypeAdapter[DeviceProfile]:
    return TypeAdapter(_schema(DeviceProfile))


def _validated(document: Document, adapter: TypeAdapter[T], root: type) -> T | None:
    """The value of a document, with what is wrong noted, and None when it cannot be mended.

    An optional key that is wrong is taken out and a required one stood in for, so that the rules
    between keys can judge the rest and one run finds all errors; the value is then not to be used.
    """
    known = frozenset(document.doubtful)
    mended: set[KeyPath] = set()
    while True:
        try:
            return adapter.validate_python(document.data)
        except ValidationError as invalid:
            faults = [_fault(document, error, root) for error in invalid.errors(include_url=False)]
        for fault in faults:
            if not mended and (fault.kind == UNKNOWN or not overlaps(fault.path, known)):
                document.note(fault.path, _complaint(fault, document.file, root))
            if fault.kind != UNKNOWN:
                document.doubtful.add(fault.path)
        places = {fault.place for fault in faults}
        if () in places or places & mended:
            return None
        mended |= places
        required = {fault.place: fault.key for fault in faults if fault.key and fault.key.required}
        for place, key in required.items():
            document.put(place, stand_in(key))
        document.cut(places - required.keys())


@dataclass(frozen=True, slots=True)
class _Fault:
    """One value that does not validate: where in the file and where in the data."""

    path: KeyPath
    place: KeyPath
    kind: str
    value: Any
    key: Key | None


def _fault(document: Document, error: Any, root: type) -> _Fault:
    place, kind = tuple(error["loc"]), error["type"]
    if place[-1:] == ("[key]",):  # a name that a mapping does not take
        place, kind = place[:-1], UNKNOWN
    path = document.origin(place)
    key = None if kind == UNKNOWN else find(root, path)
    return _Fault(path, place, kind, error["input"], key)


def _complaint(fault: _Fault, file: str, root: type) -> str:
    """What is wrong and what is allowed."""
    if fault.kind == UNKNOWN:
        return unknown(root, fault.path, file)
    if fault.key is None:
        return "must be a mapping"
    return missing(fault.key) if fault.kind == "missing" else unfit(fault.key, fault.value)


# --- the whole directory ---


def load(directory: Path) -> Loaded:
    """Read and check every file of a configuration directory. Raises nothing: see the findings."""
    if not directory.is_dir():
        text = "no such directory; `vppd init DIR` writes an example"
        return Loaded(None, (Finding("error", str(directory), 0, "", text),))
    documents = {file: _document(directory, file) for file in FILES}
    parts: dict[str, Any] = {"site": SiteSettings(id="unknown"), "mode": "hardware", "units": ()}
    for document in documents.values():
        parts |= _part(document)
    profiles, findings = _profiles(directory, documents["field.yaml"], parts["units"])
    settings = Settings(**parts, profiles=profiles, config_dir=str(directory))
    sections = {name: documents[file] for file, names in FILES.items() for name in names}
    judge(sections, (breach for rule in (*RULES, *ODDITIES) for breach in rule(settings)))
    found = [each for document in documents.values() for each in document.in_order()]
    found += [*findings, *_strangers(directory)]
    fine = all(each.level == "warning" for each in found)
    return Loaded(settings if fine else None, tuple(found))


def load_profile(path: Path) -> DeviceProfile:
    """Read and check one device profile. Raises ConfigError with everything that is wrong."""
    profile, findings = _profile(path, path.name)
    if profile is None:
        raise ConfigError(findings)
    return profile


def _document(directory: Path, file: str) -> Document:
    path = directory / file
    root = UNWRAPPED.get(file, ())
    if not path.exists() and file not in REQUIRED_FILES:
        return Document(file, Block(()))
    document = read(file, path, root)
    if root:
        whole = Block(())
        whole[str(root[0])] = document.data
        document.data = whole
    if isinstance(document.data.get("pmu"), Block):
        document.data["pmu"] = [document.data["pmu"]]
    return document


def _part(document: Document) -> dict[str, Any]:
    """The sections of one file that could be read."""
    for name in FILES[document.file]:
        key = keys_of(Settings)[name]
        if key.required and name not in document.data and not document.doubts((name,)):
            document.wrong((name,), missing(key))
    return _validated(document, _adapter(document.file), Settings) or {}


def _strangers(directory: Path) -> Iterator[Finding]:
    """Files that look like configuration and are not read."""
    for path in sorted([*directory.glob("*.y*ml"), *directory.glob("devices/*.yml")]):
        if path.name not in FILES:
            text = "is not read" + nearest(path.name, tuple(FILES))
            yield Finding("warning", str(path.relative_to(directory)), 0, "", text)


# --- device profiles ---


def _profile(path: Path, file: str) -> tuple[DeviceProfile | None, list[Finding]]:
    document = read(file, path)
    if document.data.get("revert") == "none":  # the short form of {kind: none}
        document.data["revert"] = Block(("revert",))
    profile = _validated(document, _profile_adapter(), DeviceProfile)
    if profile is not None:
        if profile.name != path.stem:
            document.note(
                ("name",), f"{profile.name}, but units name it {path.stem}", None, "warning"
            )
        sections = dict.fromkeys(keys_of(DeviceProfile), document)
        judge(sections, (*profile_rules(profile), *profile_oddities(profile)))
    findings = document.in_order()
    fine = all(each.level == "warning" for each in findings)
    return profile if fine else None, findings


def _profiles(
    directory: Path, document: Document, units: Sequence[UnitSettings]
) -> tuple[dict[str, DeviceProfile], list[Finding]]:
    """The profiles that units name; own files are all checked and go before shipped ones."""
    own = {path.stem: path for path in sorted(directory.glob("devices/*.yaml"))}
    paths = {path.stem: path for path in sorted(SHIPPED_PROFILES.glob("*.yaml"))} | own
    named = {unit.modbus.profile for unit in units}
    profiles: dict[str, DeviceProfile] = {}
    findings: list[Finding] = []
    for name, path in paths.items():
        if name not in own and name not in named:
            continue
        profile, its = _profile(path, f"{path.parent.name}/{path.name}")
        findings += its
        if profile is not None and name in named:
            profiles[name] = profile
    for index, unit in enumerate(units):
        name = unit.modbus.profile
        place = document.origin(("units", index, "modbus", "profile"))
        if name not in paths and not document.doubts(place):
            known = nearest(name, tuple(paths))
            document.wrong(place, f"no profile {name}, shipped or in devices/{known}")
    return profiles, findings
