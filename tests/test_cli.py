"""The command line, run as its user runs it."""

import dataclasses
import json
import math
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
import torch
import yaml

from energeia import cli, pages, run, settings
from energeia.core.gradient import value_and_gradient
from energeia.train.log import read_metrics

LANGEVIN = {"class_path": "Langevin", "init_args": {"step_size": 0.1}}
NEGATIVES = {
    "class_path": "PersistentCD",
    "init_args": {"num_steps": 2, "num_chains": 8, "capacity": 20, "fresh": 0.2, "sampler": LANGEVIN},
}
QUICK = {
    "transform": {"class_path": "GaussianNoise", "init_args": {"scale": 0.05}},
    "energy": {
        "class_path": "Classifier",
        "init_args": {
            "network": {"class_path": "energeia.MLP", "init_args": {"widths": [8]}},
            "space": {"class_path": "Real"},
        },
    },
    "objective": {"class_path": "Joint", "init_args": {"negatives": NEGATIVES}},
    "scheduler": {"class_path": "torch.optim.lr_scheduler.CosineAnnealingLR", "init_args": {"T_max": 30}},
    "num_steps": 30,
    "batch_size": 16,
    "average_decay": 0.9,
    "log_every": 5,
    "checkpoint_every": 10,
    "report": False,
    "sampling": {"num_steps": 5, "sampler": LANGEVIN},
}


def _table(path, *, labelled=True, num_rows=60):
    y = np.arange(num_rows) % 3
    x = np.random.default_rng(0).normal(size=(num_rows, 2)) * 0.3 + np.stack([y, y**2], 1)
    np.savez(path, **({"x": x, "y": y} if labelled else {"x": x}))


@pytest.fixture
def here(tmp_path, monkeypatch):
    """A working directory with data.npz, quick.yaml and nothing else."""
    monkeypatch.chdir(tmp_path)
    _table("data.npz")
    Path("quick.yaml").write_text(
        yaml.safe_dump({"data": {"class_path": "Table", "init_args": {"path": "data.npz"}}, **QUICK})
    )
    return tmp_path


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """The directory of a trained run; copy it before changing it."""
    place = tmp_path_factory.mktemp("trained")
    before = Path.cwd()
    os.chdir(place)
    try:
        _table("data.npz")
        values = {"data": {"class_path": "Table", "init_args": {"path": "data.npz"}}, **QUICK}
        Path("quick.yaml").write_text(yaml.safe_dump(values))
        assert cli.main(["train", "quick.yaml", "--out", "run"]) == 0
    finally:
        os.chdir(before)
    return place / "run"


def _fails(capsys, *words):
    """The one line of the error; exit status 2."""
    capsys.readouterr()
    assert cli.main(list(words)) == 2
    told = capsys.readouterr().err.strip().splitlines()
    assert told[-1].startswith("energeia: error: "), told
    assert "Traceback" not in "\n".join(told)
    return told[-1]


WRONG_OPTIONS = [
    (["--objective.wieght", "1"], "no option 'wieght' in energeia.Joint; did you mean 'weight'?"),
    (["--num_step", "9"], "no option --num_step; did you mean 'num_steps'?"),
    (["--guard.max_gp", "9"], "no option --guard.max_gp; did you mean 'guard.max_gap'?"),
    (["--energy.network.width", "[3]"], "no option 'width' in energeia.MLP; did you mean 'widths'?"),
    (["--energy", "Clasifier"], "no class 'Clasifier'; did you mean 'Classifier'?"),
    (["--energy", "nope.Net"], "No module named 'nope'"),
    (["--energy.network", "torch.nn.Linaer"], "no 'Linaer' in torch.nn; did you mean 'Linear'?"),
    (["--energy", "torch.nn.Linear"], "does not correspond to a subclass of Energy"),
    (["--num_steps", "many"], "num_steps: Expected a int. Got value: many"),
    (["--num_steps", "0"], "num_steps must be an integer of at least 1, got 0"),
    (["--num_steps", "-3"], "num_steps must be an integer of at least 1, got -3"),
    (["--validate_every", "0"], "validate_every must be an integer of at least 1, got 0"),
    (["--select", "bst"], "'best', 'last'"),
    (["--objective.negatives.sampler.step_size", "-1"], "step_size must be a positive finite number, got -1.0"),
    (["--sampling.sampler.step_size", ".nan"], "step_size must be a positive finite number, got nan"),
    (["--energy.network.widths", "[0]"], "widths[0] must be an integer of at least 1, got 0"),
    (["--energy.space", "Box"], "need finite low < high"),
    (["--patience", "-1"], "patience must be an integer of at least 0"),
    (["--monitor", "los"], "monitor 'los' is not among the metrics"),
    (["--precision", "16"], "precision must be one of 32-true"),
    (["--accelerator", "abacus"], "accelerator='abacus'"),
    (["--transform", "GaussianNoise", "--transform.scale", "-1"], "scale must be a finite number of at least 0"),
]


@pytest.mark.parametrize(("words", "told"), WRONG_OPTIONS, ids=[" ".join(words) for words, _ in WRONG_OPTIONS])
def test_a_wrong_option_is_told(here, capsys, words, told):
    assert told in _fails(capsys, "train", "quick.yaml", "--out", "run", *words)
    assert not Path("run").exists()


WRONG_FILES = [
    ({"nm_steps": 3}, "no option 'nm_steps'; did you mean 'num_steps'?"),
    ({"guard": {"max_gp": 3}}, "no option 'guard.max_gp'; did you mean 'guard.max_gap'?"),
    ({"energy": {"class_path": "Classifier", "init_args": {"netwrk": 1}}}, "did you mean 'network'?"),
    ("a: [", "Problems parsing config"),
]


@pytest.mark.parametrize(("values", "told"), WRONG_FILES)
def test_a_wrong_yaml_file_is_told(here, capsys, values, told):
    Path("wrong.yaml").write_text(values if isinstance(values, str) else yaml.safe_dump(values))
    assert told in _fails(capsys, "train", "wrong.yaml")


def _csv(text):
    Path("bad.csv").write_text(text)
    return ["bad.csv", "--data.label", "kind"]


def _npz(**arrays):
    np.savez("bad.npz", **arrays)
    return ["bad.npz"]


ONES = np.ones((30, 2))
WRONG_DATA = [
    (lambda: _npz(x=np.where(np.eye(30)[:, :2] > 0, np.nan, 1.0), y=np.arange(30) % 3), "2 of 60 values are NaN"),
    (lambda: _csv("a,b,kind\n1,2,0\n3,four,1\n"), "'four' is not a number"),
    (lambda: _csv(""), "bad.csv: is empty"),
    (lambda: _csv("a,b,kinds\n1,2,0\n"), "there is no label column 'kind'; did you mean 'kinds'?"),
    (lambda: _npz(x=ONES, y=np.arange(29) % 3), "x has 30 rows but y has 29"),
    (lambda: _npz(x=ONES, y=np.linspace(0, 1, 30)), "labels are classes: whole numbers from 0"),
    (lambda: _npz(x=ONES), "the data has no labels"),
    (lambda: ["nothing.npz"], "there is no such file"),
]


@pytest.mark.parametrize(("make", "told"), WRONG_DATA, ids=[told for _, told in WRONG_DATA])
def test_wrong_data_is_told(here, capsys, make, told):
    error = _fails(capsys, "train", "quick.yaml", "--out", "run", "--data", *make())
    assert told in error or "returned shape" in error
    assert not Path("run").exists()


@pytest.mark.parametrize("labels", [{}, {"y": np.arange(40) % 3}], ids=["density", "joint"])
def test_pictures_get_noise_that_stays_in_their_box_and_cold_chains(here, labels):
    """At temperature 1 chains cannot follow data as narrow as pictures, and the gap grows without end."""
    pictures = np.random.default_rng(0).integers(0, 255, (40, 8, 8), dtype=np.uint8)
    np.savez("pictures.npz", x=pictures, **labels)
    config = settings.parse(["--data", "pictures.npz"])
    assert config.energy.init_args.space.class_path.endswith("Box")
    assert tuple(config.transform.init_args.bounds) == (-1, 1)
    objective = config.objective.init_args
    sampler = (objective.negatives.init_args if labels else objective).sampler.init_args
    noise = config.transform.init_args.scale
    for one in (sampler, config.sampling.sampler.init_args):
        assert one.step_size * one.temperature < 4 * noise**2 / 10


def test_a_schedule_of_unstated_length_is_as_long_as_the_run(here):
    assert settings.parse(["digits", "--num_steps", "2000"]).scheduler.init_args.total_steps == 2000
    words = ["digits", "--num_steps", "2000", "--scheduler.total_steps", "2500"]
    assert settings.parse(words).scheduler.init_args.total_steps == 2500
    assert settings.parse(["digits-book"]).scheduler is None


def test_samples_are_denoised_as_the_settings_say_and_losses_are_of_the_runs_own_chains(here):
    assert cli.main(["train", "quick.yaml", "--out", "run"]) == 0
    loaded = run.load(Path("run"))
    # 20 slots, of which 8 have moved at each of 30 updates.
    assert int(loaded.built.objective.state_dict()["negatives.replay.age"].sum()) > 0
    plain = run.draw(loaded, num=6, num_frames=5)
    sampling = dataclasses.replace(loaded.built.sampling, denoise=0.3)
    clean = run.draw(loaded._replace(built=loaded.built._replace(sampling=sampling)), num=6, num_frames=5)
    expected = plain.x - 0.3 * value_and_gradient(loaded.energy, plain.x)[1]
    torch.testing.assert_close(clean.x, expected)
    torch.testing.assert_close(clean.kept[-1], expected)
    torch.testing.assert_close(clean.kept[:-1], plain.kept[:-1])


def test_curves_leave_out_what_a_rewind_took_back():
    steps = [{"step": step, "loss": 0.0} for step in (10, 20, 30)]
    rewind = {"step": 35, "event": "rewind", "to_step": 20}
    again = {"step": 30, "loss": 1.0}
    assert pages.still_valid([*steps, rewind, again]) == [*steps[:2], rewind, again]


def test_a_wrong_recipe_is_told(here, capsys):
    assert "did you mean 'joint'?" in _fails(capsys, "train", "jiont")
    assert "energeia train --data data.npz" in _fails(capsys, "train", "data.npz")
    assert "give a recipe" in _fails(capsys, "train")


@pytest.mark.parametrize("command", ["resume", "sample", "evaluate", "report"])
def test_what_is_no_run_directory_is_told(here, capsys, command):
    assert "is no run directory" in _fails(capsys, command, "nowhere")
    Path("empty").mkdir()
    assert "is no run directory" in _fails(capsys, command, "empty")
    Path("empty/config.yaml").write_text("[")
    assert "cannot be read" in _fails(capsys, command, "empty")


def test_a_network_that_does_not_fit_is_told(here, capsys):
    Path("odd_networks.py").write_text(
        "from torch import nn\n"
        "class One(nn.Linear):\n    def __init__(self): super().__init__(2, 1)\n"
        "class Mixing(nn.Sequential):\n"
        "    def __init__(self): super().__init__(nn.Linear(2, 3), nn.BatchNorm1d(3))\n"
        "class Broken(nn.Linear):\n    def __init__(self): raise TypeError('no such luck')\n"
    )
    train = ["train", "quick.yaml", "--out", "run", "--energy.network"]
    assert "expected logits [B, K]" in _fails(capsys, *train, "odd_networks.One")
    assert "BatchNorm in training mode" in _fails(capsys, *train, "odd_networks.Mixing")
    assert "TypeError: no such luck" in _fails(capsys, *train, "odd_networks.Broken")


def test_samples_that_cannot_be_drawn_are_told(trained, capsys):
    assert "label 99 is outside 0..2" in _fails(capsys, "sample", str(trained), "--class", "99")
    assert "num must be an integer of at least 1, got 0" in _fails(capsys, "sample", str(trained), "--num", "0")
    assert "num_steps must be" in _fails(capsys, "sample", str(trained), "--num_steps", "-1")
    assert "No such file or directory" in _fails(capsys, "sample", str(trained), "--out", "/no/where/x.npz")


def test_an_existing_directory_is_never_overwritten(trained, capsys):
    before = {path: path.read_bytes() for path in trained.rglob("*") if path.is_file()}
    yaml_file = str(trained.parent / "quick.yaml")
    assert "nothing is overwritten" in _fails(
        capsys, "train", yaml_file, "--data", str(trained.parent / "data.npz"), "--out", str(trained)
    )
    assert before == {path: path.read_bytes() for path in trained.rglob("*") if path.is_file()}


def test_samples_of_a_class(trained, tmp_path, capsys):
    out = tmp_path / "two.npz"
    assert cli.main(["sample", str(trained), "--num", "8", "--class", "2", "--num_steps", "50", "--out", str(out)]) == 0
    drawn = np.load(out)["x"]
    assert drawn.shape == (8, 2)
    assert out.with_suffix(".png").stat().st_size > 1000
    assert cli.main(["sample", str(trained), "--num", "8", "--class", "0", "--num_steps", "50", "--out", str(out)]) == 0
    assert not np.array_equal(drawn, np.load(out)["x"])


def test_sample_tells_whether_the_chains_have_mixed(trained, tmp_path, capsys):
    out = tmp_path / "some.npz"
    words = [
        "sample",
        str(trained),
        "--num",
        "8",
        "--num_steps",
        "60",
        "--warmup",
        "5",
        "--diagnose",
        "--out",
        str(out),
    ]
    assert cli.main(words) == 0
    told = capsys.readouterr().out
    assert "59 kept states of 8 chains" in told
    assert "R-hat" in told
    for name in ("trace", "autocorrelation", "energies"):
        assert (tmp_path / f"some-{name}.png").stat().st_size > 1000


def test_evaluate_prints_one_json_object_from_anywhere(trained, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    capsys.readouterr()
    assert cli.main(["evaluate", str(trained), "--json"]) == 0

    def refuse(constant):
        raise AssertionError(f"{constant} is not JSON")

    numbers = json.loads(capsys.readouterr().out, parse_constant=refuse)
    assert {"accuracy", "error", "ece", "losses", "ood", "samples", "seconds", "settings"} <= set(numbers)
    assert numbers["accuracy"] + numbers["error"] == pytest.approx(1)
    assert numbers["step"] == 30
    assert numbers["settings"]["num_steps"] == 30
    assert json.loads((trained / "evaluation.json").read_text()) == numbers


def test_evaluate_asks_for_log_z(here, capsys):
    few = ["--num_steps", "60", "--validate_every", "60", "--sampling.num_steps", "20", "--report", "false"]
    assert cli.main(["train", "rbm-digits", *few, "--out", "machine"]) == 0
    capsys.readouterr()
    words = ["evaluate", "machine", "--json", "--log-z", "--max-levels", "500"]
    assert cli.main([*words, "--tolerance", "0.001"]) == 0
    found = json.loads(capsys.readouterr().out)["log_likelihood"]
    assert found["low"] < found["mean"] < found["high"]
    assert found["bits_per_dimension"]["value"] == pytest.approx(-found["mean"] / 64 / math.log(2))
    assert [round_["levels"] for round_ in found["history"]] == [125, 250, 500]
    assert "too many to list" in found["why"]
    assert Path("machine/log_z.png").stat().st_size > 1000
    # What would go on after an interruption is not needed any more.
    assert not Path("machine/log_z.safetensors").exists()
    assert cli.main(["report", "machine", "--log-z", "--max-levels", "250", "--tolerance", "0.001"]) == 0
    assert "as the number of levels grows" in Path("machine/report.html").read_text()
    assert "tolerance" in _fails(capsys, *words, "--tolerance", "0")


def test_log_z_of_what_has_none_is_refused(trained, capsys):
    """A small classifier on real numbers: its energy falls for ever."""
    assert "can hardly be normalised" in _fails(capsys, "evaluate", str(trained), "--log-z")


def test_a_density_of_any_table(here, capsys):
    _table("bare.npz", labelled=False)
    few = ["--num_steps", "4", "--sampling.num_steps", "5", "--report", "false", "--out", "run"]
    assert cli.main(["train", "--data", "bare.npz", *few]) == 0
    settings = yaml.safe_load(Path("run/config.yaml").read_text())
    assert settings["objective"]["class_path"] == "energeia.PersistentCD"
    assert settings["data"]["init_args"]["standardize"] is True
    assert settings["energy"]["init_args"]["space"]["class_path"] == "energeia.Real"
    capsys.readouterr()
    assert cli.main(["evaluate", "run", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["accuracy"] is None
    assert "has no classes" in _fails(capsys, "sample", "run", "--class", "1")


def test_a_classifier_of_any_csv_table(here):
    rows = "\n".join(f"{n % 3 + n / 50},{n / 10},{'abc'[n % 3]}" for n in range(40))
    Path("flowers.csv").write_text("length,width,kind\n" + rows)
    few = ["--num_steps", "4", "--report", "false", "--out", "run"]
    assert cli.main(["train", "--data", "flowers.csv", "--data.label", "kind", *few]) == 0
    assert yaml.safe_load(Path("run/config.yaml").read_text())["energy"]["class_path"] == "energeia.Classifier"
    assert yaml.safe_load(Path("run/data.yaml").read_text())["num_classes"] == 3


def test_a_classifier_of_a_folder_of_pictures(here):
    from PIL import Image

    for number in range(20):
        folder = Path("pictures") / ("dark" if number % 2 else "light")
        folder.mkdir(parents=True, exist_ok=True)
        Image.new("RGB", (8, 8), (60 if number % 2 else 200,) * 3).save(folder / f"{number}.png")
    few = ["--data.size", "8", "--num_steps", "3", "--report", "false", "--out", "run"]
    assert cli.main(["train", "--data", "pictures", *few]) == 0
    settings = yaml.safe_load(Path("run/config.yaml").read_text())
    assert settings["energy"]["init_args"]["space"]["class_path"] == "energeia.Box"
    assert yaml.safe_load(Path("run/data.yaml").read_text())["event_shape"] == [3, 8, 8]


MODULE = """
from pathlib import Path
from torch import nn
Path(__file__).with_name("imported").write_text("")
class MyNet(nn.Sequential):
    def __init__(self, event_shape: tuple[int, ...], num_outputs: int, width: int = 5):
        super().__init__(nn.Linear(event_shape[0], width), nn.SiLU(), nn.Linear(width, num_outputs))
"""


def test_a_module_of_the_users_own_needs_trust_to_be_loaded(here, capsys):
    Path("my_module.py").write_text(MODULE)
    words = ["--energy.network", "my_module.MyNet", "--energy.network.width", "7"]
    assert cli.main(["train", "quick.yaml", "--out", "run", *words]) == 0
    Path("imported").unlink()
    sys.modules.pop("my_module")
    for command in ("evaluate", "sample", "resume", "report"):
        assert "my_module.MyNet" in _fails(capsys, command, "run")
    assert "my_module" not in sys.modules
    assert not Path("imported").exists()
    assert cli.main(["sample", "run", "--num", "2", "--trust"]) == 0
    assert Path("imported").exists()


def _set(values, path, value):
    for name in path[:-1]:
        values = values[name]
    values[path[-1]] = value


HOSTILE = [
    (["energy", "init_args", "network"], {"class_path": "hostile.Net"}),
    (["energy", "init_args", "network"], "hostile.Net"),
    (["energy"], "hostile.Net"),
    (["optimizer"], "hostile.Net"),
    (["optimizer"], {"class_path": "hostile.Net"}),
    (["objective", "init_args", "negatives"], "hostile.Net"),
    (["data"], "hostile.Net"),
    (["data", "init_args", "validation_fraction"], {"class_path": "hostile.Net"}),
    (["transform"], {"class_path": "energeia.data.Chain", "init_args": {"transforms": ["hostile.Net"]}}),
    (
        ["transform"],
        {"class_path": "energeia.data.Chain", "init_args": {"transforms": [{"class_path": "hostile.Net"}]}},
    ),
    (["optimizer"], "energeia.run.os.system"),
    (["energy", "init_args", "network"], {"class_path": "torch.nn.functional.torch.hub.load"}),
]


@pytest.mark.parametrize(("path", "value"), HOSTILE)
def test_a_run_of_a_stranger_imports_nothing(trained, tmp_path, monkeypatch, capsys, path, value):
    monkeypatch.chdir(tmp_path)
    shutil.copytree(trained, "run")
    Path("hostile.py").write_text(
        "from pathlib import Path\nPath(__file__).with_name('imported').write_text('')\nNet = 1\n"
    )
    values = yaml.safe_load(Path("run/config.yaml").read_text())
    _set(values, path, value)
    Path("run/config.yaml").write_text(yaml.safe_dump(values))
    assert "--trust" in _fails(capsys, "evaluate", "run")
    assert not Path("imported").exists()


def test_a_damaged_checkpoint_is_passed_over_in_words(trained, tmp_path, capsys):
    shutil.copytree(trained, tmp_path / "run")
    newest = tmp_path / "run" / "checkpoints" / "step-00000030" / "weights.safetensors"
    newest.write_bytes(newest.read_bytes()[:-1])
    assert cli.main(["sample", str(tmp_path / "run"), "--num", "2"]) == 0
    assert "energeia: warning: checkpoint step-00000030 is damaged" in capsys.readouterr().err
    assert cli.main(["resume", str(tmp_path / "run"), "--no-report"]) == 0
    assert "energeia: warning: checkpoint step-00000030 is damaged" in capsys.readouterr().err
    assert newest.read_bytes() == (trained / "checkpoints" / "step-00000030" / "weights.safetensors").read_bytes()


def test_help_is_there_for_every_command(capsys):
    for command in ("train", "resume", "sample", "evaluate", "report", "recipes"):
        with pytest.raises(SystemExit) as ended:
            cli.main([command, "--help"])
        assert ended.value.code == 0
        assert f"energeia {command}" in capsys.readouterr().out


def test_settings_are_explained_and_shown(here, capsys):
    with pytest.raises(SystemExit):
        cli.main(["train", "--energy.help", "Classifier"])
    assert "--energy.network" in capsys.readouterr().out
    with pytest.raises(SystemExit):
        cli.main(["train", "quick.yaml", "--print_config"])
    assert yaml.safe_load(capsys.readouterr().out)["objective"]["class_path"] == "energeia.Joint"
    with pytest.raises(SystemExit):
        cli.main(["train", "--help"])
    # Every setting says what it is.
    shown = capsys.readouterr().out
    for name in ("num_steps", "batch_size", "log_every", "checkpoint_every", "devices", "precision", "progress"):
        assert re.search(rf"--{name} \S+\s+[a-zA-Z\"]", shown), name


def test_recipes_are_listed(capsys):
    assert cli.main(["recipes"]) == 0
    assert re.findall(r"^(joint|density) +\S", capsys.readouterr().out, re.MULTILINE) == ["density", "joint"]


def _told(folder):
    return [{name: value for name, value in record.items() if name != "seconds"} for record in read_metrics(folder)]


def test_a_killed_run_is_resumed_to_the_bit(here):
    settings = [*("--num_steps", "400"), *("--log_every", "10"), *("--checkpoint_every", "20")]
    words = ["train", "quick.yaml", *settings]
    command = [sys.executable, "-m", "energeia", *words, "--out", "killed"]
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    while not Path("killed/checkpoints/step-00000040").exists():
        assert process.poll() is None
        time.sleep(0.005)
    time.sleep(np.random.default_rng().uniform(0, 0.3))
    process.send_signal(signal.SIGKILL)
    assert process.wait() == -signal.SIGKILL
    saved = max(int(path.name[5:]) for path in Path("killed/checkpoints").glob("step-*"))
    assert 40 <= saved < 400
    assert cli.main(["resume", "killed", "--no-report"]) == 0
    assert cli.main([*words, "--out", "whole"]) == 0
    for name in ("weights.safetensors", "state.pt"):
        last = Path("checkpoints/step-00000400") / name
        assert ("killed" / last).read_bytes() == ("whole" / last).read_bytes(), name
    assert _told(Path("killed")) == _told(Path("whole"))


def test_an_rbm_of_bits_in_a_table_is_trained_measured_and_sampled(here, capsys):
    bits = (np.random.default_rng(0).random((60, 6)) < np.linspace(0.2, 0.8, 6)).astype(int)
    np.savetxt("bits.csv", bits, fmt="%d", delimiter=",")
    few = ["--num_steps", "20", "--validate_every", "10", "--checkpoint_every", "20", "--sampling.num_steps", "9"]
    words = ["train", "rbm-digits", "--data", "bits.csv", "--energy.hidden", "3", *few, "--out", "run"]
    assert cli.main(words) == 0
    assert "Hidden units" in Path("run/report.html").read_text()
    told = [record for record in read_metrics(Path("run")) if "validation/log_likelihood" in record]
    assert [record["step"] for record in told] == [10, 20]
    capsys.readouterr()
    assert cli.main(["evaluate", "run", "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert found["log_likelihood"]["exact"]
    assert found["log_likelihood"]["low"] == found["log_likelihood"]["mean"]
    loaded = run.load(Path("run"))
    rows = loaded.built.source.splits().test.x
    states = loaded.energy.space.enumerate(0, 64, dtype=torch.float32, device=torch.device("cpu"))
    with torch.no_grad():
        by_hand = (-loaded.energy(rows) - (-loaded.energy(states)).logsumexp(0)).mean()
    assert found["log_likelihood"]["mean"] == pytest.approx(float(by_hand), abs=1e-4)
    assert cli.main(["sample", "run", "--num", "5"]) == 0
    assert set(np.load("run/samples.npz")["x"].flat) <= {0.0, 1.0}


def test_what_is_no_bits_is_told_how_to_make_them(here, capsys):
    assert "Binarised" in _fails(capsys, "train", "rbm-digits", "--data", "data.npz", "--out", "run")
