"""What the documentation site has besides the pages in ``docs/``: commands, change log, and linked files.

The pages are plain Markdown with plain links, so that they can be read where the repository is browsed, too.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import TYPE_CHECKING

import typer.main
from typer.cli import get_docs_for_click

from phasewire.app.cli import app

if TYPE_CHECKING:
    from mkdocs.config.defaults import MkDocsConfig
    from mkdocs.structure.files import File, Files
    from mkdocs.structure.pages import Page

ROOT = Path(__file__).parent
#: A link from a page to a file of the repository that is no page.
_TO_THE_REPOSITORY = re.compile(r"\]\((?:\.\./)+([^)#]+\.(?!md\b)\w+)\)")
#: A role of reStructuredText in a docstring, such as ``:class:`~phasewire.app.Phase` ``, as Markdown leaves it.
_ROLE = re.compile(r":(?:attr|class|data|func|meth|mod):<code>~?([\w.]+)</code>")
#: Where such files stand on the site.
_SOURCES = "repository"
#: What the benchmarks wrote, as pages link to it, and its page on the site.
_RESULTS, _RESULTS_PAGE = "../benchmarks/RESULTS.md", "results.md"


def on_files(files: Files, config: MkDocsConfig) -> Files:
    """Add what is made from the code, and the files that pages link to.

    Args:
        files: The pages of ``docs/``.
        config: That of the site.

    Returns:
        All files of the site.
    """
    linked = {
        target for page in files.documentation_pages() for target in _TO_THE_REPOSITORY.findall(page.content_string)
    }
    made = {"reference/commands.md": _commands(), "changelog.md": _changelog()}
    made |= {_RESULTS_PAGE: (ROOT / "docs" / _RESULTS).read_text(encoding="utf-8")}
    made |= {f"{_SOURCES}/{target}": (ROOT / target).read_text(encoding="utf-8") for target in sorted(linked)}
    pictures = {f"plots/{path.name}": path.read_bytes() for path in sorted(ROOT.glob("benchmarks/plots/*.png"))}
    for name, content in (*made.items(), *pictures.items()):
        files.append(_generated(config, name, content))
    return files


def on_page_markdown(markdown: str, page: Page, **_: object) -> str:
    """Let links to files of the repository lead to their copies on the site.

    Args:
        markdown: The text of a page.
        page: The page.

    Returns:
        The text with other links.
    """
    markdown = markdown.replace(f"]({_RESULTS})", f"]({_RESULTS_PAGE})")
    up = "../" * page.file.src_uri.count("/")
    return _TO_THE_REPOSITORY.sub(rf"]({up}{_SOURCES}/\1)", markdown)


def on_page_content(html: str, **_: object) -> str:
    """Let names in docstrings lead to their place in the reference, where they have one.

    Args:
        html: A page.

    Returns:
        The page with references, which the plug-in ``autorefs`` resolves.
    """
    return _ROLE.sub(_reference, html)


def _reference(role: re.Match[str]) -> str:
    shown = f"<code>{role[1].rpartition('.')[2]}</code>"
    return f'<autoref identifier="{role[1]}" optional>{shown}</autoref>' if "." in role[1] else shown


def _generated(config: MkDocsConfig, name: str, content: str | bytes) -> File:
    from mkdocs.structure.files import File

    return File.generated(config, name, content=content)


def _commands() -> str:
    command = typer.main.get_command(app)
    text: str = get_docs_for_click(obj=command, ctx=typer.Context(command), name="phasewire", title="Commands")
    return text


def _changelog() -> str:
    text = (ROOT / "CHANGELOG.md").read_text(encoding="utf-8")
    return text.replace("](docs/", "](")
