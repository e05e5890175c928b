"""Every Python snippet of the README, of CONTRIBUTING and of the docs runs as it stands."""

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]


@pytest.mark.parametrize("page", ["README.md", "CONTRIBUTING.md"])
def test_snippets_run(page, capsys):
    snippets = re.findall(r"```python\n(.*?)```", (ROOT / page).read_text(), re.DOTALL)
    assert len(snippets) >= 2
    names: dict[str, object] = {}
    for snippet in snippets:
        exec(compile(snippet, page, "exec"), names)
    if page == "README.md":
        assert "test error" in capsys.readouterr().out


PAGES = sorted(str(page.relative_to(ROOT)) for page in (ROOT / "docs").rglob("*.md"))


@pytest.mark.slow
@pytest.mark.parametrize("page", [page for page in PAGES if "```python" in (ROOT / page).read_text()])
def test_snippets_of_the_docs_run(page, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    names: dict[str, object] = {}
    for snippet in re.findall(r"```python\n(.*?)```", (ROOT / page).read_text(), re.DOTALL):
        exec(compile(snippet, page, "exec"), names)


def test_first_example_is_short():
    first = re.findall(r"```python\n(.*?)```", (ROOT / "README.md").read_text(), re.DOTALL)[0]
    assert len([line for line in first.splitlines() if line.strip()]) < 15


def test_commands_of_the_readme_exist():
    page = (ROOT / "README.md").read_text()
    makefile = (ROOT / "Makefile").read_text()
    for target in re.findall(r"^make (\w+)", page, re.MULTILINE):
        assert f"\n{target}:" in makefile
    help_text = (ROOT / "src/energeia/cli.py").read_text()
    for command in re.findall(r"^energeia (\w+)", page, re.MULTILINE):
        assert f'"{command}"' in help_text
