"""Strict validation, built from the documented fields of the settings classes.

Every error of a document is found in one run: what is wrong is noted and taken out or stood in for,
so that the rest is judged too.
"""

import functools
from dataclasses import dataclass
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

from vppd.config.document import Document, KeyPath, overlaps
from vppd.config.reference import (
    FILES,
    Key,
    find,
    inside,
    is_block,
    keys_of,
    missing,
    stand_in,
    unfit,
    unknown,
    without_none,
)
from vppd.core.settings import Settings

UNKNOWN = "extra_forbidden"  # pydantic's word for a key that is not known
T = TypeVar("T")

_STRICT = ConfigDict(extra="forbid", strict=True, allow_inf_nan=False)


@functools.cache
def _schema(kind: type) -> Any:
    """A strict pydantic type for a settings class; validating a mapping gives the class back."""
    fields: dict[str, Any] = {
        name: (annotated(key.kind, key.bounds), ... if key.required else None)
        for name, key in keys_of(kind).items()
    }
    model = create_model(kind.__name__, __config__=_STRICT, **fields)

    def build(valid: BaseModel) -> Any:
        return kind(**_given(valid))

    return Annotated[model, AfterValidator(build)]


def _given(valid: BaseModel) -> dict[str, Any]:
    return {name: getattr(valid, name) for name in valid.model_fields_set}


def annotated(kind: Any, bounds: Any) -> Any:
    """A type with its bounds, strict all the way down."""
    inner = without_none(kind)
    if inner is not kind:
        return annotated(inner, bounds) | None
    if is_block(kind):
        return _schema(kind)
    if get_origin(kind) is Literal:
        return Annotated[kind, BeforeValidator(functools.partial(_exactly, get_args(kind)))]
    if get_origin(kind) is tuple:
        many: Any = tuple
        least = BeforeValidator(functools.partial(_at_least, bounds.get("min_length", 0)))
        return Annotated[many[annotated(inside(kind), {}), ...], Strict(False), least]
    if inside(kind) is not kind:
        name, value = get_args(kind)
        named: Any = dict
        return named[annotated(name, {}), annotated(value, {})]
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
def adapter_of(file: str) -> TypeAdapter[dict[str, Any]]:
    """What one file may hold; that a required section is there is checked by `_part`."""
    keys = keys_of(Settings)
    fields: dict[str, Any] = {
        name: (annotated(keys[name].kind, keys[name].bounds), None) for name in FILES[file]
    }
    part: Any = create_model(file, __config__=_STRICT, **fields)
    return TypeAdapter(Annotated[part, AfterValidator(_given)])


@functools.cache
def adapter_for(kind: type) -> TypeAdapter[Any]:
    """A file that is one settings class."""
    return TypeAdapter(_schema(kind))


def validated(document: Document, adapter: TypeAdapter[T], root: type) -> T | None:
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
