"""The configuration edge: YAML in, frozen settings out. It refuses and says why, never repairs.

The keys, their bounds and their words stand in `vppd/core/`; the strict validation is built from
those fields. Every error of every file is found in one run: what a wrong key leaves over is still
judged by the rules between keys.
"""

import os
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from vppd.config.aggregator_rules import aggregating
from vppd.config.dbc import bus_rules
from vppd.config.devices import models
from vppd.config.document import Block, Document, Finding, Loaded
from vppd.config.grid_rules import GRID_RULES
from vppd.config.market_rules import MARKET_RULES
from vppd.config.oddities import ODDITIES
from vppd.config.openings import shut_out_here
from vppd.config.reference import FILES, UNWRAPPED, keys_of, missing, nearest
from vppd.config.rules import RULES, judge
from vppd.config.schema import adapter_of, validated
from vppd.config.strict_yaml import read
from vppd.core.settings import Settings, SiteSettings

REQUIRED_FILES = ("vppd.yaml", "field.yaml")


def load(directory: Path) -> Loaded:
    """Read and check every file of a configuration directory. Raises nothing: see the findings."""
    if not directory.is_dir():
        text = "no such directory; `vppd init DIR` writes an example"
        return Loaded(None, (Finding("error", str(directory), 0, "", text),))
    documents = {file: _document(directory, file) for file in FILES}
    parts: dict[str, Any] = {"site": SiteSettings(id="unknown"), "mode": "hardware", "units": ()}
    for document in documents.values():
        parts |= _part(document)
    known, findings = models(directory, documents["field.yaml"], parts)
    settings = Settings(**parts, **known, config_dir=str(directory))
    sections = {name: documents[file] for file, names in FILES.items() for name in names}
    rules = (*RULES, *GRID_RULES, *MARKET_RULES, bus_rules, aggregating, *ODDITIES)
    judge(sections, (breach for rule in rules for breach in rule(settings)))
    found = [each for document in documents.values() for each in document.in_order()]
    found += [*findings, *_strangers(directory), *_absent(directory, settings, documents)]
    found += [Finding("warning", *each) for each in shut_out_here(directory, settings)]
    fine = all(each.level == "warning" for each in found)
    return Loaded(settings if fine else None, tuple(found))


def _document(directory: Path, file: str) -> Document:
    path = directory / file
    root = UNWRAPPED.get(file, ())
    if not os.path.lexists(path) and file not in REQUIRED_FILES:
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
    return validated(document, adapter_of(document.file), Settings) or {}


def _absent(
    directory: Path, settings: Settings, documents: Mapping[str, Document]
) -> Iterator[Finding]:
    """Files of a site that moves real power and leaves their defaults in force."""
    real = settings.mode == "hardware" and not documents["vppd.yaml"].doubts(("mode",))
    for file in ("grid.yaml", "campus.yaml") if real else ():
        if not os.path.lexists(directory / file):
            text = "not there, so all its defaults hold; `vppd init DIR` writes one that names them"
            yield Finding("warning", file, 0, "", text)


def _strangers(directory: Path) -> Iterator[Finding]:
    """Files that look like configuration and are not read."""
    for path in sorted([*directory.glob("*.y*ml"), *directory.glob("devices/*.yml")]):
        if path.name not in FILES:
            text = "is not read" + nearest(path.name, tuple(FILES))
            yield Finding("warning", str(path.relative_to(directory)), 0, "", text)
