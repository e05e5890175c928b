import matplotlib
import pytest
import torch
from matplotlib import pyplot
from torch import Tensor

from energeia.core.errors import InputError
from energeia.report import pictures, plots
from energeia.report.style import evenly, robust_range
from energeia.stats.calibration import Reliability, reliability


def texts(figure: object) -> str:
    """All text of a figure."""
    return " | ".join(item.get_text() for item in figure.findobj(matplotlib.text.Text) if item.get_text())  # type: ignore[attr-defined]


RECORDS: list[dict[str, object]] = [
    {"step": 0, "loss": 3.0, "error": 0.9, "acceptance": 1.0, "gap": 0.5, "seconds": 1.0},
    {"step": 10, "loss": 2.0, "error": 0.5, "acceptance": 0.8, "gap": -0.5, "seconds": 2.0},
    {"step": 10, "validation/loss": 2.5},
    {"step": 7, "event": "rewind", "cause": "gap", "to_step": 5, "learning_rate": 1e-4},
    {"step": 20, "loss": float("nan"), "error": 0.2, "acceptance": 0.9, "gap": 0.0, "seconds": 3.0},
]


def test_no_pyplot_figure_is_left_open_and_no_setting_is_changed() -> None:
    before = dict(matplotlib.rcParams)
    figures = [
        plots.curves(RECORDS),
        plots.energy_histograms({"data": torch.randn(50)}),
        pictures.real_and_samples(torch.rand(4, 1, 8, 8), torch.rand(4, 1, 8, 8)),
    ]
    for figure in figures:
        figure.canvas.draw()
    assert pyplot.get_fignums() == []
    assert dict(matplotlib.rcParams) == before


def test_curves_draw_training_and_validation_in_one_panel_and_mark_rewinds() -> None:
    figure = plots.curves(RECORDS)
    panels = {axes.get_title(loc="left"): axes for axes in figure.axes if axes.axison}
    assert list(panels) == ["loss", "error"]  # no bookkeeping, no chain statistics, no settings of a rewind
    drawn = {line.get_color(): line.get_xydata() for line in panels["loss"].lines if len(line.get_xdata()) == 3}
    (training,) = drawn.values()
    assert training[:2].tolist() == [[0, 3], [10, 2]]
    validation = [line.get_xydata().tolist() for line in panels["loss"].lines if len(line.get_xdata()) == 1]
    assert validation == [[[10, 2.5]]]
    for axes in panels.values():
        assert any(list(line.get_xdata()) == [7, 7] for line in axes.lines)
    assert "1 not finite" in texts(figure)
    assert {"training", "validation", "rewind"} <= {text.get_text() for text in figure.legends[0].get_texts()}


def test_a_spike_is_cut_and_named() -> None:
    records = [{"step": step, "loss": 1 + 0.01 * (step % 7)} for step in range(300)]
    records[100]["loss"] = 4e6
    figure = plots.curves(records)
    assert figure.axes[0].get_ylim()[1] < 2
    assert "peak 4e+06" in texts(figure)
    calm = plots.curves([record for record in records if record["loss"] < 2])
    assert "peak" not in texts(calm)


def test_curves_without_numbers_say_so() -> None:
    with pytest.raises(InputError, match="no record holds"):
        plots.curves([{"step": 1, "event": "rewind"}])
    with pytest.raises(InputError, match="acceptance"):
        plots.chain_statistics([{"step": 1, "loss": 2.0}])
    shown = [axes.get_title(loc="left") for axes in plots.chain_statistics(RECORDS).axes if axes.axison]
    assert shown == ["acceptance", "gap"]


def test_energies_far_away_are_named_and_do_not_shrink_the_data() -> None:
    generator = torch.Generator().manual_seed(0)
    data, far = torch.randn(500, generator=generator), 5000 + torch.randn(500, generator=generator)
    figure = plots.energy_histograms({"data": data, "noise": far, "broken": torch.tensor([0.0, torch.nan, torch.inf])})
    low, high = figure.axes[0].get_xlim()
    assert -10 < low < -2
    assert 2 < high < 10
    assert "all at 4,99" in texts(figure)
    assert "2 not finite" in texts(figure)
    near = plots.energy_histograms({"data": data, "noise": 8 + data})
    assert near.axes[0].get_xlim()[1] > 9
    with pytest.raises(InputError, match="empty"):
        plots.energy_histograms({"data": torch.zeros(0)})


def test_confusion_writes_counts_in_their_cells() -> None:
    figure = plots.confusion(torch.tensor([[8, 2], [0, 5]]), names=["cat", "dog"])
    cells = {(round(t.get_position()[0]), round(t.get_position()[1])): t.get_text() for t in figure.axes[0].texts}
    assert cells == {(0, 0): "8", (1, 0): "2", (1, 1): "5"}  # x is the called class
    assert [label.get_text() for label in figure.axes[0].get_yticklabels()] == ["cat", "dog"]
    with pytest.raises(InputError, match="3 names for 2 classes"):
        plots.confusion(torch.eye(2), names=["a", "b", "c"])


def test_reliability_diagram_shows_used_bins_counts_and_error() -> None:
    found: Reliability = reliability(torch.tensor([[0.9, 0.1], [0.8, 0.2], [0.6, 0.4]]), torch.tensor([0, 1, 0]), 5)
    figure = plots.reliability_diagram(found)
    upper, lower = figure.axes
    assert f"{found.ece:.3f}" in upper.get_title(loc="left")
    points = upper.collections[-1].get_offsets()
    # 0.6 is a little above 3/5 in float32, so it stands in the fourth bin with 0.8.
    assert len(points) == int((found.bin_count > 0).sum())
    assert [bar.get_height() for bar in lower.patches] == found.bin_count.tolist()


def pixels(figure: object) -> Tensor:
    return torch.from_numpy(figure.axes[0].images[0].get_array().copy())  # type: ignore[attr-defined]


def test_image_grid_places_images_row_by_row() -> None:
    images = torch.zeros(5, 1, 8, 8)
    images[3] = 1.0  # second row, first column of three
    shown = pixels(pictures.image_grid(images, columns=3))
    assert shown.shape == (17, 26, 3)
    assert shown[9:, :8].min() == 1
    assert shown[:8, :8].max() == 0
    assert shown[9:, 18:].min() == 1  # the empty place is white


def test_broken_pixels_are_orange_not_black() -> None:
    images = torch.rand(1, 1, 8, 8)
    images[0, 0, 2, 3] = torch.nan
    red, green, blue = pixels(pictures.image_grid(images))[2, 3]
    assert red > green > blue


def test_real_images_set_the_scale_of_the_samples() -> None:
    real, samples = torch.zeros(1, 1, 8, 8), torch.full((1, 1, 8, 8), 0.5)
    real[0, 0, :, 4:] = 1.0
    figure = pictures.real_and_samples(real, samples)
    assert figure.axes[1].images[0].get_array().max() == pytest.approx(0.5)
    with pytest.raises(InputError, match="different events"):
        pictures.real_and_samples(real, torch.zeros(1, 1, 4, 4))


def test_what_is_a_picture() -> None:
    assert pictures.as_pictures(torch.zeros(2, 3, 4, 5)).shape == (2, 3, 4, 5)  # type: ignore[union-attr]
    assert pictures.as_pictures(torch.zeros(2, 784)).shape == (2, 1, 28, 28)  # type: ignore[union-attr]
    assert pictures.as_pictures(torch.zeros(2, 9)) is None
    assert pictures.as_pictures(torch.zeros(2, 50)) is None


def test_film_is_chains_down_and_time_across() -> None:
    frames = torch.zeros(20, 3, 1, 8, 8)
    frames[-1, 1] = 1.0
    figure = pictures.film(frames, steps=list(range(0, 200, 10)), columns=4)
    shown = pixels(figure)
    assert shown[9:17, 27:35].min() == 1
    assert shown[:8, 27:35].max() == 0
    assert [text.get_text() for text in figure.axes[0].texts] == ["step 0", "60", "130", "190"]
    with pytest.raises(InputError, match="2 step numbers for 20 frames"):
        pictures.film(frames, steps=[1, 2])


def test_vectors_become_points_on_the_axes_of_the_real_ones() -> None:
    real = torch.randn(100, 2, generator=torch.Generator().manual_seed(0))
    samples = torch.cat([real[:50], torch.full((1, 2), 1e6)])
    figure = pictures.real_and_samples(real, samples)
    left, right = figure.axes
    assert left.get_xlim() == right.get_xlim()
    assert right.get_xlim()[1] < 10
    assert "1 of 51 outside" in texts(figure)
    assert len(pictures.scatter(torch.randn(5, 6), torch.randn(5, 6)).axes) == 6  # three pairs of the first three
    assert len(pictures.scatter(torch.randn(5, 1), torch.randn(5, 1)).axes) == 2
    assert len(pictures.film(torch.randn(3, 10, 2)).axes) == 3
    pictures.film(torch.randn(3, 10, 1)).canvas.draw()


def test_helpers_keep_first_and_last_and_ignore_outliers() -> None:
    assert evenly(100, 4) == [0, 33, 66, 99]
    assert evenly(3, 8) == [0, 1, 2]
    assert robust_range(torch.cat([torch.linspace(0, 1, 1000), torch.tensor([1e9])]))[1] < 1.01
    assert robust_range(torch.ones(5)) == (0.5, 1.5)
