import base64
import re
from html.parser import HTMLParser
from pathlib import Path

import pytest
import torch

from energeia.report.findings import Findings
from energeia.report.html import Section, write_report
from energeia.report.page import build_sections, render
from energeia.report.plots import energy_histograms
from energeia.stats.calibration import reliability
from energeia.tasks.classify import Classification
from energeia.tasks.ood import detect

VOID = {"meta", "img", "br", "link", "hr", "input"}


class Checked(HTMLParser):
    """Balanced tags, and everything a page could fetch or run."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.images: list[dict[str, str | None]] = []
        self.text: list[str] = []
        self.feed(page)
        assert self.open == []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        assert tag not in {"script", "link", "iframe", "object"}
        if tag not in VOID:
            self.open.append(tag)
        if tag == "img":
            self.images.append(dict(attrs))
        for name, value in attrs:
            assert not name.startswith("on")
            if name in {"src", "href"}:
                assert value is not None
                assert value.startswith(("data:image/png;base64,", "#"))

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        self.text.append(data)


def findings() -> Findings:
    generator = torch.Generator().manual_seed(0)
    images = torch.rand(12, 1, 8, 8, generator=generator)
    p = torch.rand(40, 3, generator=generator).softmax(1)
    y = torch.randint(3, (40,), generator=generator)
    calibration = reliability(p, y)
    own, foreign = torch.randn(30, generator=generator), torch.randn(30, generator=generator) - 2
    return Findings(
        title="A run",
        summary={"accuracy": "93 %"},
        real=images,
        samples=images.flip(0),
        frames=images[:6].unflatten(0, (3, 2)),
        frame_steps=[0, 5, 10],
        records=[
            {"step": 1, "loss": 2.0, "acceptance": 0.7, "gap": 0.1},
            {"step": 2, "loss": 1.0, "acceptance": 0.6, "gap": 0.2},
            {"step": 2, "validation/loss": 1.5},
            {"step": 3, "event": "rewind", "cause": "gap < -1000 & more", "to_step": 1, "learning_rate": 5e-4},
        ],
        energies={"data": own, "samples": foreign, "noise": 5 + own},
        classification=Classification(0.9, 0.1, calibration.ece, 0.3, torch.eye(3) * 9, calibration, p),
        ood={"uniform noise": {"energy": detect(own, foreign)}, "letters": {"energy": detect(own, own)}},
        chains={"R-hat, worst": "1.02"},
        comparisons=[(energy_histograms({"a": own}), "Two runs.")],
        settings="seed: 3\nname: <b>\n",
        machine={"processor": "one"},
        versions={"torch": "2.x"},
    )


def test_the_whole_page_is_one_valid_file_that_fetches_nothing(tmp_path: Path) -> None:
    page = render(tmp_path / "new" / "report.html", findings()).read_text(encoding="utf-8")
    checked = Checked(page)
    assert "http:" not in page
    assert "https:" not in page
    assert "@import" not in page
    assert "url(" not in page
    assert len(checked.images) == 9
    for image in checked.images:
        assert image["alt"]
        data = base64.b64decode((image["src"] or "").split(",")[1])
        assert data.startswith(b"\x89PNG")
        width, height = int.from_bytes(data[16:20], "big"), int.from_bytes(data[20:24], "big")
        assert abs(width - int(image["width"] or 0)) <= 1
        assert abs(height - int(image["height"] or 0)) <= 1
    text = " ".join(checked.text)
    for said in (
        "93 %",
        "gap < -1000 & more",
        "0.0005",
        "uniform noise",
        "R-hat, worst",
        "seed: 3",
        "name: <b>",
        "2.x",
    ):
        assert said in text
    assert re.search(r'name="viewport" content="width=device-width', page)


def test_everything_left_out_is_named(tmp_path: Path) -> None:
    sections = {section.title: section for section in build_sections(Findings("Empty"))}
    assert all(section.note and not section.figures for section in sections.values())
    assert {"Real data and samples", "Training", "Energies", "The chains", "Foreign data", "Settings"} <= set(sections)
    Checked(render(tmp_path / "empty.html", Findings("Empty")).read_text(encoding="utf-8"))


def test_a_run_without_rewinds_says_so_and_one_with_lists_each() -> None:
    def rewinds(records: list[dict[str, object]]) -> Section:
        return next(part for part in build_sections(Findings("x", records=records)) if part.title == "Rewinds")

    assert rewinds([{"step": 1, "loss": 1.0}]).note.startswith("None")
    twice = rewinds([{"step": 9, "event": "rewind", "cause": "NaN"}, {"step": 12, "event": "rewind", "cause": "gap"}])
    assert twice.table is not None
    assert [row[:2] for row in twice.table[1:]] == [["9", "NaN"], ["12", "gap"]]


def test_all_text_is_escaped(tmp_path: Path) -> None:
    bad = '<script>alert("1")</script>'
    figure = energy_histograms({"data": torch.zeros(3)})
    section = Section(bad, bad, [(figure, bad)], [[bad, bad], [bad, bad]], bad, (bad, bad))
    page = write_report(tmp_path / "x.html", title=bad, summary={bad: bad}, sections=[section], introduction=bad)
    Checked(page.read_text(encoding="utf-8"))


def test_a_dollar_sign_in_the_text_is_kept(tmp_path: Path) -> None:
    page = write_report(tmp_path / "x.html", title="$title", introduction="costs $5").read_text(encoding="utf-8")
    assert "<h1>$title</h1>" in page
    assert "costs $5" in page


def test_the_same_findings_give_the_same_bytes_and_no_temporary_file_stays(tmp_path: Path) -> None:
    whole = findings()
    few = Findings("A run", samples=whole.samples, energies=whole.energies)
    first, second = (render(tmp_path / name, few).read_bytes() for name in ("a.html", "b.html"))
    assert first == second
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a.html", "b.html"]


def test_an_old_report_survives_a_write_that_fails(tmp_path: Path) -> None:
    path = write_report(tmp_path / "report.html", title="old")
    with pytest.raises(UnicodeEncodeError):
        write_report(path, title="\ud800")
    assert "old" in path.read_text(encoding="utf-8")
