"""Every file, folder, section and link that docstrings, comments and Markdown pages cite exists.

The forms that are checked:

- A file: `broker/loop/retry.py`, from the repository's root or from the citing file's folder. A page without a folder stands
  beside the citing file or at the root; any other name without a folder (`retry.py`) may stand in any folder. `*` is a wildcard.
- A folder: `broker/loop/`, with the slash at its end.
- A module: `broker.loop.retry`. Names that begin with a mode may be accounts or queues and are not checked.
- A section of a page: `docs/protocol.md#state-tables`. The anchor is a heading as GitHub spells it, or an `<a id="...">`. No
  other form is accepted: a page with "section 3" or with an id such as "R4" behind it is a failure.
- A Markdown link: relative to its page; `#anchor` alone is a section of the page itself.

Not checked: URLs, absolute paths, paths that begin with `../`, folders whose name begins with a dot, placeholders (a folder in
capitals, a path that begins with `your_`), code blocks in Markdown, and the names in CHANGELOG.md other than its links, because
they belong to the past.
"""

import ast
import io
import re
import subprocess
import tokenize
from collections.abc import Iterator
from dataclasses import dataclass
from fnmatch import fnmatchcase
from functools import cache
from pathlib import Path, PurePosixPath
from posixpath import normpath

import pytest

ROOT = Path(__file__).resolve().parents[2]

#: Files of other projects that comments name: motor's, MongoDB's.
FOREIGN = frozenset({"core.py", "mongo/src/mongo/base/error_codes.yml"})
#: Rooms whose names are also prefixes of accounts and queues.
MODES = frozenset({"orchestrator", "choreography"})
#: Pages about the past, whose paths need not exist.
PAST = frozenset({"CHANGELOG.md"})

SUFFIXES = "py|md|js|css|html|toml|json|ya?ml|webp|svg"
_FILE = re.compile(rf"(?<![\w/.<>{{}}$~*-])((?:[\w.*-]+/)*[\w.*-]+\.(?:{SUFFIXES}))(?![\w/])(#[\w-]+)?")
_FOLDER = re.compile(r"(?<![\w/.<>{}$~*:=-])((?:[A-Za-z_][\w-]*/)+)(?![\w/<>{}$*.])")
_WITHOUT_SUFFIX = re.compile(r"(?<![\w/.<>{}$~*-])((?:\.?[A-Za-z_][\w-]*/)+[a-z_]+)(?![\w/.*])")
_MODULE = re.compile(rf"(?<![\w./@-])(?![a-z_]+\.(?:{SUFFIXES})\b)[a-z_]+(?:\.[a-z_]+)+(?![\w/-])")
_OLD_SECTION = re.compile(r"[\w/]+\.md,?\s+(?:section\s+\w+|§\s*\d+|[A-Z]\d{1,2}\b)")
AS_ANCHOR = "cite a section as docs/page.md#anchor"
_URL = re.compile(r"\b[a-z][a-z+]*://\S+")
_LINK = re.compile(r"\]\(([^()\s]+)\)|(?:src|srcset|href)=\"([^\"]+)\"")
_FENCE = re.compile(r"^(```|~~~)")
_HASH, _BLOCK = r"(?:^|\s)#.*", r"(?s:/\*.*?\*/)"
#: Suffix -> how a comment looks. Python and Markdown are read by their own rules.
_COMMENTS = {
    **dict.fromkeys(("", ".toml", ".yaml", ".yml"), _HASH),
    ".js": rf"(?:^|\s)//.*|{_BLOCK}",
    ".css": _BLOCK,
    ".html": r"(?s:<!--.*?-->)",
}


_WITH_DOCSTRING = (ast.Module, ast.ClassDef, ast.FunctionDef, ast.AsyncFunctionDef)


@dataclass(frozen=True, slots=True)
class Passage:
    """A stretch of prose in a file; `line` is where it begins."""

    path: str
    line: int
    text: str

    def line_of(self, offset: int) -> int:
        return self.line + self.text.count("\n", 0, offset)


@cache
def tracked() -> frozenset[str]:
    """Every file of the repository, including those not yet added."""
    listing = ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"]
    listed = subprocess.run(listing, cwd=ROOT, capture_output=True, text=True, check=True).stdout
    return frozenset(path for path in listed.split("\0") if path and (ROOT / path).is_file())


@cache
def folders() -> frozenset[str]:
    return frozenset(f"{parent}/" for path in tracked() for parent in PurePosixPath(path).parents if parent.name)


@cache
def names() -> frozenset[str]:
    return frozenset(PurePosixPath(path).name for path in tracked())


@cache
def tools() -> frozenset[str]:
    """Folders that hold scripts without a suffix, such as `scripts/`."""
    return frozenset(f"{PurePosixPath(path).parent}/" for path in tracked() if "/" in path and not PurePosixPath(path).suffix)


@cache
def packages() -> frozenset[str]:
    """The rooms: top-level folders that hold modules."""
    return frozenset(path.partition("/")[0] for path in tracked() if path.endswith(".py") and "/" in path)


# -- prose: docstrings, comments, pages ------------------------------------------------------------------------------------


@cache
def read(path: str) -> str:
    try:
        return (ROOT / path).read_text()
    except UnicodeDecodeError:
        return ""


@cache
def passages() -> tuple[Passage, ...]:
    """All prose of the repository."""
    return tuple(_passages())


def _passages() -> Iterator[Passage]:
    for path in sorted(tracked()):
        suffix = PurePosixPath(path).suffix
        if suffix == ".py" or (not suffix and "python" in read(path).partition("\n")[0]):
            yield from _of_python(path)
        elif suffix == ".md":
            yield Passage(path, 1, without_code_blocks(path))
        elif comment := _COMMENTS.get(suffix):
            yield from _of_comments(path, comment)


def _of_python(path: str) -> Iterator[Passage]:
    source = read(path)
    lines = source.splitlines()
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, _WITH_DOCSTRING) and ast.get_docstring(node, clean=False):
            text = node.body[0]
            yield Passage(path, text.lineno, "\n".join(lines[text.lineno - 1 : text.end_lineno]))
    for token in tokenize.generate_tokens(io.StringIO(source).readline):
        if token.type == tokenize.COMMENT:
            yield Passage(path, token.start[0], token.string)


def _of_comments(path: str, comment: str) -> Iterator[Passage]:
    text = read(path)
    for found in re.finditer(comment, text, re.MULTILINE):
        yield Passage(path, text.count("\n", 0, found.start()) + 1, found[0])


@cache
def without_code_blocks(path: str) -> str:
    """The page, with the lines of its code blocks left empty so that line numbers stay."""
    kept, inside = [], False
    for line in read(path).splitlines():
        fence = bool(_FENCE.match(line.lstrip()))
        kept.append("" if inside or fence else line)
        inside ^= fence
    return "\n".join(kept)


# -- what exists -----------------------------------------------------------------------------------------------------------


@cache
def anchors(page: str) -> frozenset[str]:
    """The sections of a page: its headings as GitHub spells them, and its explicit ids."""
    text = without_code_blocks(page)
    found = set(re.findall(r"<a (?:id|name)=\"([^\"]+)\"", text))
    for title in re.findall(r"^#{1,6}\s+(.+?)\s*#*$", text, re.MULTILINE):
        plain = re.sub(r"<[^>]*>", "", re.sub(r"\[([^\]]*)\]\([^)]*\)", r"\1", title)).strip().lower()
        slug = re.sub(r"[^\w\- ]", "", plain).replace(" ", "-")
        number = next(n for n in range(len(found) + 1) if (f"{slug}-{n}" if n else slug) not in found)
        found.add(f"{slug}-{number}" if number else slug)
    return frozenset(found)


def resolved(name: str, citing: str) -> str | None:
    """The tracked file that `name` means in the file `citing`; None if there is none."""
    beside = normpath(f"{PurePosixPath(citing).parent}/{name}")
    for path in (name, beside):
        if path in tracked():
            return path
    if "*" in name:
        return next((path for path in tracked() if fnmatchcase(path, name)), None)
    return name if "/" not in name and not name.endswith(".md") and name in names() else None


def is_placeholder(name: str) -> bool:
    return name.startswith("your_") or any(part.isupper() for part in name.split("/")[:-1])


# -- what is cited ---------------------------------------------------------------------------------------------------------


def faults_of(passage: Passage) -> list[tuple[int, str]]:
    """(offset, error) for each citation without a target, in the order of the text."""
    text = _blanked(_URL, passage.text)
    if passage.path.endswith(".md"):
        text = _blanked(_LINK, text)
    faults = [(found.start(), f"{' '.join(found[0].split())}: {AS_ANCHOR}") for found in _OLD_SECTION.finditer(text)]
    text = _blanked(_OLD_SECTION, text)
    return sorted([*faults, *_files(text, passage.path), *_folders(text, passage.path), *_tools(text), *_modules(text)])


def _blanked(pattern: re.Pattern[str], text: str) -> str:
    """The text with spaces in place of every match, so that offsets and lines stay."""
    return pattern.sub(lambda found: re.sub(r"[^\n]", " ", found[0]), text)


def _files(text: str, citing: str) -> Iterator[tuple[int, str]]:
    for found in _FILE.finditer(text):
        name, anchor = found[1], (found[2] or "")[1:]
        if name in FOREIGN or is_placeholder(name) or name.startswith(("*.", "..")):
            continue
        page = resolved(name, citing)
        if page is None:
            yield found.start(), f"{name}: no such file"
        elif anchor and anchor not in anchors(page):
            yield found.start(), f"{name}#{anchor}: no such section"


def _folders(text: str, citing: str) -> Iterator[tuple[int, str]]:
    for found in _FOLDER.finditer(text):
        folder = found[1]
        beside = normpath(f"{PurePosixPath(citing).parent}/{folder}") + "/"
        if not is_placeholder(folder) and not {folder, beside} & folders():
            yield found.start(), f"{folder}: no such folder"


def _tools(text: str) -> Iterator[tuple[int, str]]:
    """Scripts, which have no suffix: `scripts/servers`."""
    for found in _WITHOUT_SUFFIX.finditer(text):
        folder = found[1].rpartition("/")[0] + "/"
        if folder in tools() and found[1] not in tracked() and f"{found[1]}/" not in folders():
            yield found.start(), f"{found[1]}: no such file"


def _modules(text: str) -> Iterator[tuple[int, str]]:
    """Modules by their dotted name, with or without a name in the module."""
    for found in _MODULE.finditer(text):
        path = found[0].replace(".", "/")
        parent = path.rpartition("/")[0]
        known = {f"{path}.py", f"{path}/__init__.py", f"{parent}.py", f"{parent.rpartition('/')[0]}.py"} & tracked()
        if path.partition("/")[0] in packages() - MODES and not known:
            yield found.start(), f"{found[0]}: no such module"


def broken_links(page: str) -> Iterator[tuple[int, str]]:
    """(offset, error) for each relative link of a page without a target."""
    text = _blanked(re.compile(r"`[^`\n]*`"), without_code_blocks(page))
    for found in _LINK.finditer(text):
        target, _, anchor = (found[1] or found[2]).partition("#")
        if _URL.match(target) or target.startswith(("mailto:", "/")):
            continue
        path = normpath(f"{PurePosixPath(page).parent}/{target}") if target else page
        if path not in tracked() and f"{path}/" not in folders():
            yield found.start(), f"link to {target}: no such file or folder"
        elif anchor and path.endswith(".md") and anchor not in anchors(path):
            yield found.start(), f"link to {target}#{anchor}: no such section"


# -- the tests -------------------------------------------------------------------------------------------------------------


def test_every_cited_path_and_section_exists() -> None:
    prose = [passage for passage in passages() if passage.path not in PAST]
    faults = [f"{passage.path}:{passage.line_of(offset)}: {what}" for passage in prose for offset, what in faults_of(passage)]
    assert not faults, "\n".join([f"{len(faults)} citations have no target; correct or remove them:", *faults])


def test_every_relative_link_of_a_page_resolves() -> None:
    pages = [path for path in sorted(tracked()) if path.endswith(".md")]
    faults = [
        f"{page}:{Passage(page, 1, without_code_blocks(page)).line_of(offset)}: {what}"
        for page in pages
        for offset, what in broken_links(page)
    ]
    assert not faults, "\n".join([f"{len(faults)} links have no target; correct or remove them:", *faults])


# -- the checks are checked ------------------------------------------------------------------------------------------------

CITING = "tests/docs/test_references.py"
#: A docstring of this file -> the errors to report.
EXAMPLES = {
    "See README.md, docs/decisions.md and docs/decisions.md#stamp-coupling.": [],
    "See `test_references.py`, `tests/docs/test_references.py`, tests/docs/ and tests/docs/*.py.": [],
    "See `.ci/run`, scripts/servers, https://example.org/no/such.py, /etc/no/such.py and ../no/such.py.": [],
    "See FOLDER/no/such.json, your_service/handlers.py and and/or.": [],
    "See broker/nothing.py.": ["broker/nothing.py: no such file"],
    "See nothing_at_all.py, or decisions.md.": ["nothing_at_all.py: no such file", "decisions.md: no such file"],
    "See room/of/nothing/ for more.": ["room/of/nothing/: no such folder"],
    "See `store.document` and `store.document.Key`.": [],
    "See `store.nothing.at_all`.": ["store.nothing.at_all: no such module"],
    "See scripts/nothing for more.": ["scripts/nothing: no such file"],
    "See docs/decisions.md#nothing.": ["docs/decisions.md#nothing: no such section"],
    "See docs/decisions.md, section 2.": ["docs/decisions.md, section 2: " + AS_ANCHOR],
    "See docs/decisions.md R4.": ["docs/decisions.md R4: " + AS_ANCHOR],
}


@pytest.mark.parametrize("text", EXAMPLES)
def test_citation_without_a_target_is_reported(text: str) -> None:
    assert [what for _, what in faults_of(Passage(CITING, 1, text))] == EXAMPLES[text]


def test_fault_is_reported_with_its_line() -> None:
    passage = Passage(CITING, 10, "First line.\nSee broker/nothing.py.")
    assert [passage.line_of(offset) for offset, _ in faults_of(passage)] == [11]


@pytest.mark.parametrize("suffix", [".py", ".md", ".js", ".css", ".toml", ".yaml", ""])
def test_prose_is_found_in_every_kind_of_file(suffix: str) -> None:
    assert any(PurePosixPath(passage.path).suffix == suffix for passage in passages())


def test_docstrings_and_comments_of_this_file_are_found() -> None:
    found = [passage.text for passage in passages() if passage.path == CITING]
    assert any("Markdown pages cite exists" in text for text in found)
    assert any(text.startswith("# -- the checks are checked") for text in found)
