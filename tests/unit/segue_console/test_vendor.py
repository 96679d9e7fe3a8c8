"""What the pages load of others is what its authors published, and has its licence beside it."""

from __future__ import annotations

import hashlib
import importlib.resources
import json
import re

import pytest

from segue_support.paths import ROOT

FOLDER = ROOT / "console" / "segue_console" / "static" / "vendor"
MANIFEST = "vendor.json"
PACKAGES = {one["name"]: one for one in json.loads((FOLDER / MANIFEST).read_text())["packages"]}
FILES = {
    name: (package, file)
    for package in PACKAGES.values()
    for name, file in package["files"].items()
}
# Beginnings of the texts of licences, with the year and the holder left open.
TEXTS = {
    "0BSD": "Permission to use, copy, modify, and/or distribute this software",
    "BSD-3-Clause": "Redistribution and use in source and binary forms",
    "MIT": "Permission is hereby granted, free of charge, to any person",
}
# Where a file says itself which version it is; wavesurfer.js does not.
SAYS = {
    "dagre.min.js": r'="(\d+\.\d+\.\d+)"',
    "htmx.min.js": r'version="(\d+\.\d+\.\d+)"',
    "uplot.min.js": r"\(v(\d+\.\d+\.\d+)\)",
}


def test_the_list_names_each_file_and_no_other():
    assert {path.name for path in FOLDER.iterdir()} == FILES.keys() | {MANIFEST}
    assert sum(len(package["files"]) for package in PACKAGES.values()) == len(FILES)


@pytest.mark.parametrize("name", FILES)
def test_a_file_is_as_it_was_published(name):
    _, file = FILES[name]
    assert hashlib.sha256((FOLDER / name).read_bytes()).hexdigest() == file["sha256"]


@pytest.mark.parametrize("name", SAYS)
def test_a_file_says_the_version_that_is_listed(name):
    package, _ = FILES[name]
    assert package["version"] in re.findall(SAYS[name], (FOLDER / name).read_text())


@pytest.mark.parametrize("name", PACKAGES)
def test_a_package_has_its_licence_beside_it(name):
    package = PACKAGES[name]
    assert package["licence_file"] in package["files"]
    text = (FOLDER / package["licence_file"]).read_text()
    assert TEXTS[package["licence"]] in " ".join(text.split())


def test_a_licence_that_a_file_refers_to_is_beside_it():
    for path in FOLDER.glob("*.js"):
        for name in re.findall(r"license information please see (\S+)", path.read_text()):
            assert (FOLDER / name).is_file(), f"{path.name} refers to {name}"


def test_each_script_and_style_is_loaded_by_a_page():
    templates = importlib.resources.files("segue_console") / "templates"
    pages = "".join(path.read_text() for path in templates.iterdir() if path.is_file())
    loaded = set(re.findall(r"/_static/vendor/([^\"]+)", pages))
    assert loaded == {name for name in FILES if name.endswith((".js", ".css"))}
