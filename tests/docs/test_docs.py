"""README and docs match the code: generated parts are fresh, links resolve, and the map names every room."""

import re

import pytest

from bootstrap.modes import Mode
from cli.docs.generate import GENERATED_PARTS, ROOT, regenerated
from lab.simulation.crash_matrix import handlers_of
from tests.support.simulation.bugs import PLANTED


@pytest.mark.parametrize("path", GENERATED_PARTS)
def test_generated_parts_are_fresh(path: str) -> None:
    assert (ROOT / path).read_text() == regenerated(path), f"{path} is stale: run `make docs`"


def test_map_in_the_readme_names_every_room() -> None:
    readme = (ROOT / "README.md").read_text().partition("## The map")[2].partition("## ")[0]
    mapped = set(re.findall(r"^\| \[(\w+)/\]", readme, re.MULTILINE))
    rooms = {path.parent.name for path in ROOT.glob("*/__init__.py")} - {"tests"}
    assert mapped == rooms


@pytest.mark.parametrize("path", ["README.md", *(str(page.relative_to(ROOT)) for page in (ROOT / "docs").glob("**/*.md"))])
def test_links_between_pages_resolve(path: str) -> None:
    page = ROOT / path
    for link in re.findall(r"\]\((?!https?://)([^)#]+)\)", page.read_text()):
        assert (page.parent / link).exists(), f"{path} links to {link}"


def test_every_module_has_a_docstring() -> None:
    for path in ROOT.glob("*/**/*.py"):
        if ".venv" in path.parts or not path.read_text():
            continue
        assert path.read_text().startswith('"""'), f"{path.relative_to(ROOT)} has no docstring"


def test_saga_and_reactions_each_fit_on_a_screen() -> None:
    for path in ("orchestrator/fulfilment.py", "choreography/reactions.py"):
        assert len((ROOT / path).read_text().splitlines()) <= 45, f"{path} has more than 45 lines"


def test_proof_lists_every_planted_bug_as_caught() -> None:
    page = (ROOT / "docs/proof.md").read_text()
    listed = re.findall(r"^\| ([^|]+) \| (orchestrator|choreography) \| ([^|]+) \| (\d+|-) \|$", page, re.MULTILINE)
    assert {(name, mode) for name, mode, *_ in listed} == {(bug.name, str(mode)) for bug in PLANTED for mode in bug.modes}
    assert "**not caught**" not in page


def test_proof_shows_the_crash_matrix_of_every_handler() -> None:
    page = (ROOT / "docs/proof.md").read_text()
    shown = re.findall(r"^\| (\w+) \| (\w+ \w+) \|(?: (?:holds|-) \|){5}$", page, re.MULTILINE)
    assert set(shown) == {(str(mode), f"{worker} {name}") for mode in Mode for worker, name in handlers_of(mode)}
