"""The documentation's site: it builds without a warning, and loads nothing from other hosts."""

from __future__ import annotations

import os
import re
import subprocess

import pytest

from segue_support.paths import ROOT

TOOL = ROOT / ".venv-docs" / ".ready"
# What a browser loads by itself: scripts, styles, fonts, pictures.
LOADED = re.compile(
    r"<(?:script|img|iframe)[^>]* src=.(?:https?:)?//"
    r"|<link[^>]*rel=.(?:stylesheet|icon|preconnect)[^>]* href=.(?:https?:)?//"
    r"|url\(.?(?:https?:)?//"
)


@pytest.fixture(scope="module")
def site(tmp_path_factory):
    if not TOOL.exists():
        pytest.skip("what builds the site is not installed: run 'make docs'")
    folder = tmp_path_factory.mktemp("site")
    built = subprocess.run(
        [ROOT / ".venv-docs/bin/mkdocs", "build", "--strict", "--quiet", "--site-dir", folder],
        check=False, cwd=ROOT, capture_output=True, text=True,
        env=os.environ | {"NO_MKDOCS_2_WARNING": "1"},
    )  # fmt: skip
    assert (built.returncode, built.stdout, built.stderr) == (0, "", "")
    return folder


def test_every_page_of_the_documentation_is_in_the_site(site):
    pages = {
        p.relative_to(ROOT / "docs").with_suffix(".html") for p in (ROOT / "docs").rglob("*.md")
    }
    built = {p.relative_to(site) for p in site.rglob("*.html")}
    assert pages <= built
    others = {"readme.html", "changelog.html", "contributing.html", "security.html", "infra.html"}
    assert others <= {str(p) for p in built}


def test_it_loads_nothing_from_other_hosts(site):
    pages = [*site.rglob("*.html"), *site.rglob("*.svg"), *site.rglob("*.css")]
    assert len(pages) > 40
    assert [str(p) for p in pages if LOADED.search(p.read_text())] == []


def test_links_between_pages_that_are_not_in_docs_lead_to_pages_of_the_site(site):
    page = (site / "readme.html").read_text()
    assert 'href="first-deployment.html"' in page
    assert 'href="infra.html"' in page
    assert 'href="adr/index.html"' in page
    assert not re.findall(
        r'href="[^"]*\.md[#"]', "".join(p.read_text() for p in site.rglob("*.html"))
    )


def test_the_python_reference_has_the_parameters_of_the_public_functions(site):
    page = (site / "python.html").read_text()
    for name in ("backfill", "results", "explain", "run_job"):
        assert f'id="segue.api.{name}"' in page
    assert "from_ledger" in page
