"""Runs of energies of answers, from the shell: trained, measured, shown and asked."""

import csv
import json
import os
from pathlib import Path

import numpy as np
import pytest
import torch
import yaml

import energeia as en
from energeia import cli, examination, pages, predictions, run, settings
from energeia.report.readings import Reading
from energeia.tasks.predict import Prediction

WORDS = ("ab", "c", "bca", "ac", "b", "cab")
FIELD = {
    "data": {
        "class_path": "Sequences",
        "init_args": {"path": "words.npz", "alphabet": "abc", "test_fold": 0, "validation_fraction": 0.2},
    },
    "energy": {
        "class_path": "LinearChain",
        "init_args": {
            "network": {"class_path": "energeia.SequenceNet", "init_args": {"channels": [4], "hidden": 8}},
            "space": {"class_path": "Real"},
            "padding": -1.0,
        },
    },
    "objective": {"class_path": "ConditionalLikelihood"},
    "optimizer": {"class_path": "torch.optim.Adam", "init_args": {"lr": 0.02}},
    "num_steps": 60,
    "batch_size": 16,
}


def _words(path, *, labelled=True, num=60, names=("lengths", "y")):
    """Words of three letters, each a stroke at its own height, with noise."""
    rng = np.random.default_rng(0)
    chosen = [WORDS[number % len(WORDS)] for number in range(num)]
    y = np.array([ord(letter) - ord("a") for word in chosen for letter in word])
    x = (rng.random((len(y), 6, 4)) < 0.1).astype(np.float32)
    x[np.arange(len(y)), 2 * y] = 1.0
    arrays = {"x": x, names[0]: np.array([len(word) for word in chosen])}
    if labelled:
        arrays |= {names[1]: y, "fold": np.arange(num) % 3}
    np.savez(path, **arrays)
    return chosen


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """A folder with words.npz, field.yaml and a trained run; nothing in it is changed."""
    place = tmp_path_factory.mktemp("words")
    before = Path.cwd()
    os.chdir(place)
    try:
        _words("words.npz")
        Path("field.yaml").write_text(yaml.safe_dump(FIELD))
        assert cli.main(["train", "field.yaml", "--out", "run"]) == 0
    finally:
        os.chdir(before)
    return place


@pytest.fixture
def there(trained, monkeypatch):
    """In that folder."""
    monkeypatch.chdir(trained)
    return trained


def _fails(capsys, *words):
    capsys.readouterr()
    assert cli.main(list(words)) == 2
    told = capsys.readouterr().err.strip().splitlines()[-1]
    assert told.startswith("energeia: error: ")
    return told


def _rows(path):
    with Path(path).open(newline="") as file:
        return list(csv.DictReader(file))


def test_a_run_reads_words_and_its_errors_are_those_of_its_predictions(there, capsys):
    assert cli.main(["evaluate", "run", "--json"]) == 0
    numbers = json.loads(capsys.readouterr().out)
    source = settings.build(settings.load(Path("run"), trust=False, with_data=True)).source
    test = source.splits().test
    found = en.predict(run.load(Path("run")).energy, test.x, num_best=2)
    there = test.y >= 0
    wrong = (found.answers != test.y) & there
    told = numbers["answers"]
    assert told["names"] == ["letter", "word"]
    assert told["site_error"] == pytest.approx(float(wrong[there].double().mean()))
    assert told["row_error"] == pytest.approx(float(wrong.any(1).double().mean()))
    assert told["site_error"] < 0.1
    assert told["mean_gap"] == pytest.approx(float(found.gap.mean()))
    assert numbers["samples"] is None
    assert cli.main(["evaluate", "run"]) == 0
    table = capsys.readouterr().out
    assert f"{told['site_error']:.2%}" in next(line for line in table.splitlines() if "test letter error" in line)


def test_the_report_shows_readings_and_no_samples(there):
    told = Path("run/report.html").read_text()
    for part in ("<h2>Answers</h2>", "the letters and", "Some words with the first and the second reading", "Training"):
        assert part in told
    for part in ("Real data and samples", "Foreign data", "The chains"):
        assert part not in told


def test_readings_show_wrong_words_before_right_ones(there):
    loaded = run.load(Path("run"))
    found = examination.examine(loaded)
    right = found.answers.right.clone()
    right[3, 0] = (right[3, 0] + 1) % 3  # so one is wrong
    wrong = (found.answers.assessment.prediction.answers != right)[right >= 0].any()
    assert bool(wrong)
    shown = pages.some_readings(
        found.real, examination.Answers(found.answers.assessment, right), ("a", "b", "c"), num=2
    )
    assert isinstance(shown[0], Reading)
    assert list(shown[0].first) != list(shown[0].right)
    assert list(shown[-1].first) == list(shown[-1].right)


def test_predict_writes_a_row_for_every_word(there, tmp_path, capsys):
    chosen = _words(tmp_path / "new.npz", labelled=False, num=18, names=("word_len", ""))
    target = tmp_path / "out.csv"
    assert cli.main(["predict", "run", "--data", str(tmp_path / "new.npz"), "--out", str(target)]) == 0
    assert "answers to 18 rows, exact" in capsys.readouterr().out
    rows = _rows(target)
    assert list(rows[0]) == ["row", "answer_1", "answer_2", "gap", "energy_1", "energy_2", "exact"]
    assert [int(row["row"]) for row in rows] == list(range(18))
    assert sum(row["answer_1"] == word for row, word in zip(rows, chosen, strict=True)) >= 16
    for row in rows:
        assert row["answer_2"] != row["answer_1"]
        assert len(row["answer_2"]) == len(row["answer_1"])
        assert float(row["gap"]) == pytest.approx(
            float(row["energy_2"]) - float(row["energy_1"]), abs=3e-4
        )  # six digits each
        assert row["exact"] == "true"


def test_predict_gives_as_many_answers_as_are_asked_for_and_leaves_cells_of_others_empty(there, tmp_path):
    _words(tmp_path / "new.npz", labelled=False, num=2)
    assert cli.main(["predict", "run", "--data", str(tmp_path / "new.npz"), "--num-best", "4"]) == 0
    rows = _rows("run/predictions.csv")
    Path("run/predictions.csv").unlink()
    # The second word has one letter, of which there are three.
    assert sorted(rows[1][f"answer_{k}"] for k in (1, 2, 3)) == ["a", "b", "c"]
    assert (rows[1]["answer_4"], rows[1]["energy_4"]) == ("", "")
    assert rows[0]["answer_4"] != ""
    assert cli.main(["predict", "run", "--data", str(tmp_path / "new.npz"), "--num-best", "1"]) == 0
    assert list(_rows("run/predictions.csv")[0]) == ["row", "answer_1", "energy_1", "exact"]
    Path("run/predictions.csv").unlink()


def test_predict_needs_the_training_file_no_more(there, tmp_path):
    _words(tmp_path / "new.npz", num=6)
    Path("words.npz").rename("elsewhere.npz")
    try:
        assert cli.main(["predict", "run", "--data", str(tmp_path / "new.npz")]) == 0
    finally:
        Path("elsewhere.npz").rename("words.npz")
    Path("run/predictions.csv").unlink()


def _other(tmp_path, **arrays):
    np.savez(tmp_path / "bad.npz", **arrays)
    return str(tmp_path / "bad.npz")


WRONG = [
    (lambda place: ["--data", "nothing.npz"], "--data nothing.npz: there is no such file or folder"),
    (lambda place: ["--data", "field.yaml"], "field.yaml: is no file of sequences"),
    (lambda place: ["--data", _other(place, x=np.ones((4, 2)))], "sequences need x [sites, *features], lengths [N]"),
    (
        lambda place: ["--data", _other(place, x=np.ones((4, 5)), lengths=np.array([4]))],
        "sites have shape (5,), the model takes (6, 4)",
    ),
    (lambda place: ["--data", "words.npz", "--out", "out.txt"], "--out out.txt: predictions are written as .csv"),
    (lambda place: ["--data", "words.npz", "--num-best", "0"], "num_best must be an integer of at least 1, got 0"),
]


@pytest.mark.parametrize(("words", "told"), WRONG, ids=[told for _, told in WRONG])
def test_what_cannot_be_predicted_is_told(there, tmp_path, capsys, words, told):
    assert told in _fails(capsys, "predict", "run", *words(tmp_path))
    assert not Path("run/predictions.csv").exists()


def test_an_energy_of_answers_has_no_samples_and_no_log_z(there, capsys):
    assert "energeia predict run --data FILE" in _fails(capsys, "sample", "run")
    assert "LinearChain is none" in _fails(capsys, "evaluate", "run", "--log-z")


def test_a_recipe_of_sequences_takes_its_file_by_data_and_says_when_it_has_none(there, capsys):
    assert "data.path is missing" in _fails(capsys, "train", "ocr-crf")
    config = settings.parse(["ocr-crf", "--data", "words.npz"])
    assert config.data.class_path.endswith("Sequences")
    assert config.data.init_args.path == str(Path("words.npz").resolve())
    assert config.data.init_args.alphabet == "abcdefghijklmnopqrstuvwxyz"
    assert "does not fill" not in _fails(capsys, "train", "ocr-crf", "--data.path", "no.npz", "--out", "other")


TABLE = {
    "energy": {
        "class_path": "Classifier",
        "init_args": {
            "network": {"class_path": "energeia.MLP", "init_args": {"widths": [8]}},
            "space": {"class_path": "Real"},
        },
    },
    "objective": {"class_path": "ConditionalLikelihood"},
    "optimizer": {"class_path": "torch.optim.Adam", "init_args": {"lr": 0.05}},
    "num_steps": 80,
    "report": False,
}


def _kinds(path, *, labelled=True, scale=100.0):
    rng = np.random.default_rng(1)
    kinds = np.array(["fir", "oak"])[np.arange(40) % 2]
    x = rng.normal(size=(40, 2)) + np.where(np.arange(40) % 2, 4.0, -4.0)[:, None]
    lines = ["a,kind,b" if labelled else "a,b"]
    for (a, b), kind in zip(x * scale, kinds, strict=True):
        lines.append(f"{a},{kind},{b}" if labelled else f"{a},{b}")
    Path(path).write_text("\n".join(lines))
    return x * scale, list(kinds)


def test_a_classifier_predicts_named_classes_scaled_by_its_own_training_rows(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    _kinds("trees.csv")
    data = {"class_path": "Table", "init_args": {"path": "trees.csv", "label": "kind", "standardize": True}}
    Path("trees.yaml").write_text(yaml.safe_dump({"data": data, **TABLE}))
    assert cli.main(["train", "trees.yaml", "--out", "run"]) == 0
    x, kinds = _kinds("bare.csv", labelled=False)
    for file in ("trees.csv", "bare.csv"):
        assert cli.main(["predict", "run", "--data", file, "--out", "out.csv"]) == 0
        rows = _rows("out.csv")
        assert [row["answer_1"] for row in rows] == kinds
        assert {row["answer_2"] for row in rows} == {"fir", "oak"}
    # One row alone has no spread of its own.
    loaded = run.load(Path("run"))
    Path("one.csv").write_text(f"a,b\n{x[0, 0]},{x[0, 1]}\n")
    alone = predictions.answers_to(loaded, "one.csv")
    together = predictions.answers_to(loaded, "bare.csv")
    torch.testing.assert_close(alone.best_energies, together.best_energies[:1])


def test_a_density_has_no_answers(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    np.savez("points.npz", x=np.random.default_rng(0).normal(size=(40, 2)))
    words = ["train", "--data", "points.npz", "--num_steps", "1", "--report", "false", "--out", "run"]
    assert cli.main([*words, "--objective.num_steps", "1"]) == 0
    told = _fails(capsys, "predict", "run", "--data", "points.npz")
    assert "has no Answering" in told or "Answering" in told
    assert "run" in told


def test_energies_that_are_not_known_are_empty_cells(tmp_path):
    best = torch.tensor([[[0, 1], [0, 0]]])
    energies = torch.tensor([[1.5, float("inf")]])
    found = Prediction(best[:, 0], energies[:, 0], False, "", best, energies, energies[:, 1] - 1.5, None, None)
    (row,) = _rows(predictions.write_csv(tmp_path / "a.csv", found, None))
    assert row == {
        "row": "0", "answer_1": "0 1", "answer_2": "", "gap": "", "energy_1": "1.5", "energy_2": "", "exact": "false"
    }  # fmt: skip
