"""The architecture, as tests: who imports whom, who may command a device, how things are named.

Every rule collects all that break it, so one run shows the whole list as `file:line: what`.
"""

import ast
import fnmatch
import functools
import os
import re
import subprocess
import sys
import tomllib
from collections.abc import Iterable, Iterator
from importlib import metadata
from pathlib import Path

import pytest
from packaging.requirements import Requirement

TOP = Path(__file__).parents[1]
ROOT = TOP / "vppd"
SOURCES = sorted(ROOT.rglob("*.py"))
PYTHON = [*SOURCES, *sorted((TOP / "tests").rglob("*.py"))]

LAYERS = {"field", "campus", "grid", "market"}
CONTROL = {"tick", "duty", "record", "recording", "rerun", "orders", "trading"}
HOUSE = {"house", "parts", "site_parts", "crew", "left_behind", "reload"}
BELOW = {"core", "spine", *LAYERS}
MAY_IMPORT = {
    "core": {"core"},
    "spine": {"core", "spine"},
    **{layer: {"core", "spine", layer} for layer in LAYERS},
    **dict.fromkeys(CONTROL, BELOW | CONTROL),
    "northbound": BELOW | {"northbound", "tick", "duty"},  # shows and switches the tick
    "region": BELOW | {"northbound", "region"},  # sites for units, over northbound's broker
    "config": {"core", "config"},
    "sim": {"core", "sim"},
    **dict.fromkeys(
        ("house", "parts", "site_parts", "crew", "left_behind"), BELOW | CONTROL | HOUSE
    ),
    **dict.fromkeys(
        ("app", "daemon", "reload"),
        BELOW | CONTROL | HOUSE | {"northbound", "region", "config", "app"},
    ),
    "cli": BELOW | CONTROL | HOUSE | {"northbound", "config", "sim", "app", "daemon", "cli"},
    "__init__": set(),
    "__main__": {"cli"},
}
# Sums that need arrays and a solver. The daemon never loads them: a short-lived process does.
SOLVING = {
    *(f"market/solving/{name}.py" for name in ("lp", "plan", "bidding", "backtest")),
    *(f"market/solving/{name}.py" for name in ("day_book", "session_book", "recourse", "answers")),
    *(f"market/solving/forecast/{name}.py" for name in ("series", "models", "ladder", "accuracy")),
    "market/solving/forecast/real_time.py",
    "market/solving/forecast/load.py",
}
SOLVERS = {"numpy", "highspy"}
# Inside a layer a noun of the field is a sum: no I/O, no clock, no event loop.
PURE = {
    *SOLVING - {"market/solving/worker.py"},  # that one is the process
    *(f"campus/{name}.py" for name in ("hierarchy", "dispatch", "losses", "plans", "share")),
    *(f"grid/droop_{name}.py" for name in ("curve", "ffr", "fitness", "sustain", "switch")),
    *(f"grid/{name}.py" for name in ("headroom", "ride_through")),
    *(f"region/{name}.py" for name in ("roster", "tenure", "rounds", "delivered", "messages")),
    *(f"grid/{name}.py" for name in ("droop", "bands", "frequency", "orders", "compliance")),
    "market/blocks.py",
    "market/settling/settlement.py",
    *(f"field/{name}.py" for name in ("interlocks", "interlocks_bms", "rule", "decode")),
    *(f"field/{name}.py" for name in ("step_response", "step_verdict")),
    "duty.py",
}
PURE_LIBRARIES = {
    *(
        "abc",
        "array",
        "bisect",
        "collections",
        "dataclasses",
        "datetime",
        "decimal",
        "enum",
        "fractions",
    ),
    *("functools", "heapq", "itertools", "math", "operator", "re", "statistics", "string"),
    *("struct", "types", "typing", "zoneinfo"),
    *("csv", "fnmatch", "hashlib", "io", "ipaddress", "json"),  # text in, text out
}
# Sums that leave a frame's bits to the field's own codec.
CODECS = {"field/bms.py": "cantools", "field/drivers/frames.py": "pymodbus"}

UNIT = (
    "kw|kwh|kws|kvar|kva|kvah|mw|mwh|w|pct|pu|c|hz|mhz|s|ms|us|ns|min|h|day|v|a|ohm|ah|deg|rad|"
    "m|rs|mb|kb|bytes|bits|share|shares|factor|ratio|weight|weights|efficiency"
)
WITH_UNIT = re.compile(rf"(?:^|_)(?:{UNIT})(?:_per_(?:{UNIT}|block|k))*$")
# Values whose unit their record names, or the point they belong to; WGS 84 is always degrees.
BARE = {
    *("value", "values", "limit_value", "magnitude", "latitude", "longitude", "scale", "offset"),
    *("low", "high", "bound", "minimum", "maximum", "hysteresis", "resolution", "moves_by"),
    *("inside", "span", "step", "real", "imaginary", "words", "analogs", "fitness", "default"),
    "not_available",
}
A_RECORD = re.compile(r"Callable|\bPoint\b|tuple\[[^\]]*\b(?!None\b)[A-Z]|tuple\[float, float")

WRITES_A_DEVICE = {"write_register", "write_registers", "write_coil", "write_coils"} | {
    "mask_write_register",
    "readwrite_registers",
}
NOT_ACTUATORS = {"gate", "_gate", "thinner"}

# Sums that apply a rule book: its numbers are configuration; these few are arithmetic.
RULE_BOOKS = {
    "market/solving/bidding.py",
    "market/settling/settlement.py",
    *(f"grid/{name}.py" for name in ("orders", "compliance")),
}
PLAIN_NUMBERS = {0, 1, 2, 0.5, 10, 12, 15, 24, 60, 96, 100, 900, 1000, 3600, 1e-6, 1e-9}

TOP_LEVEL = {
    *("vppd", "etc", "systemd", "scripts", "tests", "pyproject.toml", "README.md", "LICENSE"),
    *(".gitignore", ".ci", ".git"),
}
WORKPLACES = re.compile(r"(?<![\w.])/(?:work|root|home|Users|farm)/(?!\*)")
UNFINISHED = re.compile(r"\b(?:(?:TO)DO|(?:FIX)ME|X{3}|(?:HA)CK|(?:ME)M)\b")


@functools.cache
def tree(path: Path) -> ast.Module:
    return ast.parse(path.read_text(encoding="utf-8"), str(path))


def place(path: Path, node: ast.AST | None = None) -> str:
    line = f":{getattr(node, 'lineno', 1)}" if node is not None else ""
    return f"{path.relative_to(TOP)}{line}"


def none(broken: Iterable[str]) -> None:
    """Fail with every line that breaks the rule."""
    found = list(broken)
    assert not found, "\n" + "\n".join(found)


def name_in(path: Path) -> str:
    return path.relative_to(ROOT).as_posix()


def part(path: Path) -> str:
    """The first word of the path: a layer's folder, or a file of the top."""
    return path.relative_to(ROOT).parts[0].removesuffix(".py")


def imports(path: Path) -> Iterator[tuple[ast.stmt, str]]:
    """Every imported dotted name; `from a import b` is `a.b`, relative ones begin with a dot."""
    for node in ast.walk(tree(path)):
        if isinstance(node, ast.ImportFrom):
            base = "." * node.level + (node.module or "")
            yield from ((node, f"{base}.{alias.name}") for alias in node.names)
        elif isinstance(node, ast.Import):
            yield from ((node, alias.name) for alias in node.names)


def imported(name: str) -> str:
    """The part of the package that a dotted name belongs to."""
    return part(ROOT / f"{name.split('.')[1]}.py")


def calls(path: Path) -> Iterator[tuple[ast.Call, str, str]]:
    """Every call as (node, receiver's last word, called name)."""
    for node in ast.walk(tree(path)):
        if not isinstance(node, ast.Call):
            continue
        if isinstance(node.func, ast.Name):
            yield node, "", node.func.id
        elif isinstance(node.func, ast.Attribute):
            yield node, last_word(node.func.value), node.func.attr


def last_word(node: ast.expr) -> str:
    """`gate` of `self.gate`, `loop` of `loop`, `get_running_loop` of a call of it."""
    if isinstance(node, ast.Call):
        node = node.func
    if isinstance(node, ast.Attribute):
        return node.attr
    return node.id if isinstance(node, ast.Name) else ""


def annotated(path: Path) -> Iterator[tuple[ast.AST, str, str]]:
    """Every annotated name others see: fields, constants and arguments, with its annotation."""
    for node in ast.walk(tree(path)):
        if isinstance(node, ast.ClassDef | ast.Module):
            for line in node.body:
                if isinstance(line, ast.AnnAssign) and isinstance(line.target, ast.Name):
                    yield line, line.target.id, ast.unparse(line.annotation)
        elif isinstance(node, ast.arg) and node.annotation is not None:
            yield node, node.arg, ast.unparse(node.annotation)


# --- who imports whom ---


def test_every_part_of_the_package_is_known() -> None:
    none(
        f"{place(path)}: no rule says what {part(path)!r} may import"
        for path in SOURCES
        if part(path) not in MAY_IMPORT
    )


def test_imports_point_down() -> None:
    none(
        f"{place(path, node)}: {part(path)} may not import {name}"
        for path in SOURCES
        for node, name in imports(path)
        if name.startswith("vppd.") and imported(name) not in MAY_IMPORT.get(part(path), set())
    )


def test_nothing_is_imported_by_a_relative_name() -> None:
    none(
        f"{place(path, node)}: {name}"
        for path in PYTHON
        for node, name in imports(path)
        if name.startswith(".")
    )


def test_vppctl_starts_light() -> None:
    """It imports core alone, by itself and by the files of cli/ it shares."""
    waiting, seen = [ROOT / "cli/vppctl.py"], set()
    broken = []
    while waiting:
        path = waiting.pop()
        if path in seen or not path.exists():
            continue
        seen.add(path)
        for node, name in imports(path):
            words = name.split(".")
            if words[:2] == ["vppd", "cli"]:
                waiting.append(ROOT / "cli" / f"{words[2]}.py")
            elif words[0] == "vppd" and words[1:2] != ["core"]:
                broken.append(f"{place(path, node)}: {name}")
    none(broken)


def says() -> set[str]:
    """Files that call themselves pure in their first words: they are held to it."""
    found = set()
    for path in SOURCES:
        words = ast.get_docstring(tree(path)) or ""
        if re.search(r"\bPure[.:]", words) and part(path) in LAYERS:
            found.add(name_in(path))
    return found


def test_core_and_the_sums_do_no_io() -> None:
    pure = [path for path in SOURCES if part(path) == "core" or name_in(path) in PURE | says()]
    none(
        f"{place(path, node)}: {name}"
        for path in pure
        for node, name in imports(path)
        if name.split(".")[0]
        not in PURE_LIBRARIES
        | {"vppd", CODECS.get(name_in(path), "vppd")}
        | (SOLVERS if name_in(path) in SOLVING else set())
        or name.startswith(("vppd.spine.clock", "vppd.spine.journal"))
    )
    none(
        f"{place(path, node)}: {called}()"
        for path in pure
        for node, _, called in calls(path)
        if called in {"open", "print", "input", "read_text", "now", "utcnow", "today"}
    )


def test_only_sums_that_solve_load_the_solver_and_the_daemon_loads_none_of_them() -> None:
    none(
        f"{place(path, node)}: {name}"
        for path in SOURCES
        if name_in(path) not in SOLVING
        for node, name in imports(path)
        if name.split(".")[0] in SOLVERS
    )
    looks = f"import sys, vppd.daemon; sys.exit(bool({SOLVERS} & set(sys.modules)))"
    assert subprocess.run([sys.executable, "-c", looks], check=False).returncode == 0


@pytest.mark.parametrize("library", ["yaml", "pydantic"])
def test_only_the_configuration_edge_parses(library: str) -> None:
    none(
        f"{place(path, node)}: {name}"
        for path in SOURCES
        for node, name in imports(path)
        if name.split(".")[0] == library and part(path) != "config"
    )


# --- the door ---


def test_only_the_gate_clears_a_setpoint() -> None:
    none(
        f"{place(path, node)}: {called}"
        for path in SOURCES
        if name_in(path) != "field/gate.py"
        for node, _, called in calls(path)
        if called == "Cleared"
        or (called == "replace" and node.args and "cleared" in last_word(node.args[0]).lower())
    )


def test_only_the_gate_commands_an_actuator() -> None:
    none(
        f"{place(path, node)}: {receiver}.{called}()"
        for path in SOURCES
        if name_in(path) != "field/gate.py"
        for node, receiver, called in calls(path)
        if receiver not in NOT_ACTUATORS
        and (
            called in {"offer", "reset_alarms"}
            or (called == "enable" and any(keyword.arg == "on" for keyword in node.keywords))
        )
    )


def test_drivers_take_cleared_setpoints_and_nothing_else() -> None:
    none(
        f"{place(path, node)}: {name}"
        for path in SOURCES
        if name_in(path).startswith("field/drivers/")
        for node, name in imports(path)
        if name in {"vppd.core.model.Plan", "vppd.core.model.Request"}
    )


def test_only_a_driver_writes_a_register() -> None:
    none(
        f"{place(path, node)}: {called}()"
        for path in SOURCES
        if not name_in(path).startswith(("field/drivers/", "sim/"))
        for node, _, called in calls(path)
        if called in WRITES_A_DEVICE
    )


# --- time and tasks ---


def test_the_machine_is_asked_for_the_time_in_one_file() -> None:
    sources = [path for path in SOURCES if name_in(path) != "spine/clock.py"]
    none(
        f"{place(path, node)}: {name}"
        for path in sources
        for node, name in imports(path)
        if name.split(".")[0] == "time"
    )
    none(
        f"{place(path, node)}: {receiver}.{called}()"
        for path in sources
        for node, receiver, called in calls(path)
        if (called in {"now", "utcnow", "today"} and receiver in {"datetime", "date"})
        # a simulated device is outside: its delays are the loop's own
        or (called == "time" and "loop" in receiver and part(path) != "sim")
    )


def test_no_task_is_born_an_orphan_and_no_wait_swallows_a_cancel() -> None:
    banned = {"wait_for", "create_task", "ensure_future", "get_event_loop"}
    none(
        f"{place(path, node)}: {receiver}.{called}()"
        for path in PYTHON
        if path != ROOT / "spine/supervise.py"  # where tasks are born
        for node, receiver, called in calls(path)
        if called in banned and (receiver in {"asyncio", ""} or "loop" in receiver)
    )
    none(
        f"{place(path, node)}: {name}"
        for path in PYTHON
        for node, name in imports(path)
        if name in {f"asyncio.{word}" for word in banned}
    )


# --- names, sizes, words ---


def test_floats_carry_their_unit() -> None:
    none(
        f"{place(path, node)}: {name}: {kind}"
        for path in SOURCES
        for node, name, kind in annotated(path)
        if re.search(r"\bfloat\b", kind)
        and not A_RECORD.search(kind)
        and name.lower().lstrip("_") not in BARE
        and not WITH_UNIT.search(name.lower())
    )


def test_no_name_hides_what_a_thing_is() -> None:
    banned = {"util", "utils", "helper", "helpers", "manager", "handler", "misc", "common"}

    def words(name: str) -> set[str]:
        return set(re.sub(r"(?<=[a-z0-9])(?=[A-Z])", "_", name).lower().split("_"))

    none(place(path) for path in PYTHON if words(path.stem) & banned)
    none(
        f"{place(path, node)}: {node.name}"
        for path in PYTHON
        for node in ast.walk(tree(path))
        if isinstance(node, ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef)
        and words(node.name) & banned
    )


def test_every_file_says_what_it_is() -> None:
    none(place(path) for path in PYTHON if not ast.get_docstring(tree(path)))


def test_a_file_fits_in_a_head() -> None:
    sizes = {path: len(path.read_text(encoding="utf-8").splitlines()) for path in SOURCES}
    none(f"{place(path)}: {size} lines" for path, size in sizes.items() if size > 500)


def numbers(path: Path) -> Iterator[tuple[ast.Constant, float]]:
    for node in ast.walk(tree(path)):
        value = node.value if isinstance(node, ast.Constant) else None
        if isinstance(node, ast.Constant) and isinstance(value, int | float) and value is not True:
            yield node, value


def test_the_numbers_of_rule_books_are_configuration() -> None:
    none(
        f"{place(path, node)}: {number}"
        for path in SOURCES
        if name_in(path) in RULE_BOOKS
        for node, number in numbers(path)
        if number not in PLAIN_NUMBERS
    )


def test_no_layer_knows_the_frequency_of_the_grid() -> None:
    """50 and 60 Hz sites differ in their settings, not in code; 60 alone may be a minute."""
    none(
        f"{place(path, node)}: {number}"
        for path in SOURCES
        if part(path) in {"grid", "duty", "tick"} and "c37118" not in path.name
        for node, number in numbers(path)
        if 45 <= number <= 55 or (59 <= number <= 61 and number != 60)
    )


def test_tests_use_no_mocks() -> None:
    none(
        f"{place(path, node)}: {name}"
        for path in PYTHON
        for node, name in imports(path)
        if name.startswith(("unittest.mock", "mock.", "pytest_mock"))
    )


# --- the tree ---


def ignored() -> list[str]:
    lines = (TOP / ".gitignore").read_text(encoding="utf-8").splitlines()
    return [line.strip("/") for line in lines if line and not line.startswith("#")]


def texts() -> Iterator[tuple[Path, str]]:
    """Every text of the project, by the top level's own list."""
    for entry in sorted(TOP_LEVEL - {".git"}):
        top = TOP / entry
        for path in sorted(top.rglob("*")) if top.is_dir() else [top]:
            if path.is_file() and "__pycache__" not in path.parts:
                try:
                    yield path, path.read_text(encoding="utf-8")
                except UnicodeDecodeError:
                    continue


def test_the_top_level_is_fixed() -> None:
    patterns = ignored()
    none(
        entry.name
        for entry in TOP.iterdir()
        if entry.name not in TOP_LEVEL
        and not any(fnmatch.fnmatch(entry.name, pattern) for pattern in patterns)
    )


def test_no_path_of_somebodys_machine_and_nothing_left_unfinished() -> None:
    none(
        f"{place(path)}:{number}: {line.strip()}"
        for path, text in texts()
        if path.name != "LICENSE"
        for number, line in enumerate(text.splitlines(), start=1)
        if WORKPLACES.search(line) or UNFINISHED.search(line)
    )


def test_scripts_run() -> None:
    none(
        f"{place(path)}: begins with #! but is not executable, or the reverse"
        for path, text in texts()
        if path.parent in {TOP / "scripts", TOP / ".ci"}
        and text.startswith("#!") != os.access(path, os.X_OK)
    )


# --- what it stands on ---


def pins() -> dict[str, str]:
    lines = (TOP / "scripts/constraints.txt").read_text(encoding="utf-8").splitlines()
    pairs = [line.split("==") for line in lines if line and not line.startswith("#")]
    return {canonical(name): version for name, version in pairs}


def canonical(name: str) -> str:
    return re.sub(r"[-_.]+", "-", name).lower()


def needed(requirement: Requirement, seen: dict[str, Requirement]) -> None:
    """Walk what a requirement brings along, as installed here."""
    name = canonical(requirement.name)
    if name in seen:
        return
    seen[name] = requirement
    for text in metadata.requires(requirement.name) or []:
        child = Requirement(text)
        wanted = ({"extra": extra} for extra in requirement.extras or {""})
        if child.marker is None or any(child.marker.evaluate(extra) for extra in wanted):
            needed(child, seen)


def test_every_dependency_is_pinned_and_installed_as_pinned() -> None:
    project = tomllib.loads((TOP / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    seen: dict[str, Requirement] = {}
    for text in [*project["dependencies"], *project["optional-dependencies"]["test"]]:
        needed(Requirement(text), seen)
    pinned = pins()
    none(
        f"{name}: pinned {pinned.get(name)}, installed {metadata.version(name)}, asked {asked}"
        for name, asked in seen.items()
        if pinned.get(name) != metadata.version(name) or pinned[name] not in asked.specifier
    )
