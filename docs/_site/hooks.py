"""The site's hooks: pages of the repository that are not in docs/, with links that lead there."""

from __future__ import annotations

import html
import posixpath
import re
from pathlib import Path
from typing import Any

from mkdocs.structure.files import File, Files

ROOT = Path(__file__).resolve().parents[2]
# A page of the site, by the file of the repository that it shows.
PAGES = {
    "README.md": "readme.md",
    "CHANGELOG.md": "changelog.md",
    "CONTRIBUTING.md": "contributing.md",
    "SECURITY.md": "security.md",
    "infra/README.md": "infra.md",
}
SOURCES = {page: source for source, page in PAGES.items()}
FENCED = re.compile(r"(^ *```.*?^ *```)", re.MULTILINE | re.DOTALL)
LINK = re.compile(r"\[((?:[^\[\]]|\[[^\]]*\])*)\]\((?![a-z]+:|#)([^)#\s]+)(#[^)]*)?\)")
CODE_WITH_BAR = re.compile(r"`([^`\n]*\\\|[^`\n]*)`")  # in a table


def on_files(files: Files, config: Any) -> Files:
    """Add the pages that are not in docs/, and a list of the decisions."""
    pages = {page: (ROOT / source).read_text() for source, page in PAGES.items()}
    for page, content in (pages | {"adr/index.md": _list_decisions()}).items():
        files.append(File.generated(config, page, content=content))
    return files


def on_page_markdown(markdown: str, page: Any, **_: Any) -> str:
    """Let links lead to pages of the site; what has no page is text."""
    here = page.file.src_uri
    parts = FENCED.split(markdown)
    parts[::2] = [
        CODE_WITH_BAR.sub(_keep_bar, LINK.sub(lambda link: _convert(link, here), text))
        for text in parts[::2]
    ]
    return "".join(parts)


def _convert(link: re.Match[str], here: str) -> str:
    text, target, anchor = link.groups()
    source = SOURCES.get(here, f"docs/{here}")
    path = posixpath.normpath(posixpath.join(posixpath.dirname(source), target))
    if path == "docs/adr":
        path += "/index.md"
    page = PAGES.get(path) or (path[5:] if path.startswith("docs/") else None)
    if page is None:
        return text
    return f"[{text}]({posixpath.relpath(page, posixpath.dirname(here) or '.')}{anchor or ''})"


def _keep_bar(code: re.Match[str]) -> str:
    return f"<code>{html.escape(code[1].replace(chr(92) + '|', '|')).replace('|', '&#124;')}</code>"


def _list_decisions() -> str:
    titles = [
        (path.name, path.read_text().splitlines()[0].removeprefix("# "))
        for path in sorted((ROOT / "docs/adr").glob("0*.md"))
    ]
    rows = "\n".join(f"- [{title}]({name})" for name, title in titles)
    about = "What was hard to decide, why it was decided so, and what was rejected."
    return f"# Decisions\n\n{about}\n\n{rows}\n"
