"""The command line: energeia train | resume | sample | predict | evaluate | report | recipes."""

import argparse
import sys
import warnings
from pathlib import Path
from typing import Any

import numpy as np
from rich.console import Console
from rich.table import Table

from energeia import arguments as typed
from energeia import examination, pages, predictions, run, settings
from energeia.core.errors import EnergeiaError, InputError
from energeia.core.record import Info
from energeia.partition.bracket import Effort
from energeia.stats import summary

_ABOUT = "Energy-based models: train them, sample them, and find out what they are worth."
_EXAMPLES = """examples:
  energeia train digits                           train a recipe and write its report
  energeia train digits --objective.weight 0.5    the same with another setting
  energeia train --data my.npz                    your own data: .npz, .csv, .parquet, or a folder of pictures
  energeia train my.yaml --print_config           show every setting of a run, and stop
  energeia sample runs/NAME --num 64 --class 3    draw samples
  energeia predict runs/NAME --data new.npz       the answers of a classifier or a random field, into a .csv file
  energeia evaluate runs/NAME --json              measure it
  energeia evaluate runs/NAME --log-z             log Z and log p of the rows, between two sides
  energeia resume runs/NAME                       go on after a crash
"""


def main(arguments: list[str] | None = None) -> int:
    """Run a command; returns the exit status: 0 done, 2 an error told in words, 130 interrupted."""
    words = sys.argv[1:] if arguments is None else arguments
    # Classes of the user's own modules are named in settings; they live where the command is run.
    # Last, so that no file there stands in for a library.
    if "" not in sys.path and str(Path.cwd()) not in sys.path:
        sys.path.append(str(Path.cwd()))
    with warnings.catch_warnings():
        warnings.showwarning = _show_warning
        try:
            if words[:1] == ["train"]:
                return _train(words[1:])
            options = _parser().parse_args(words)
            return options.command(options)
        except EnergeiaError as error:
            print(f"energeia: error: {error}", file=sys.stderr)
        except OSError as error:
            print(f"energeia: error: {error.strerror or error}: {error.filename or 'a file'}", file=sys.stderr)
        except KeyboardInterrupt:
            print("energeia: interrupted", file=sys.stderr)
            return 130
    return 2


def _show_warning(message: Warning | str, category: type[Warning], *_: Any, **__: Any) -> None:
    print(f"energeia: warning: {message}", file=sys.stderr)


def _parser() -> argparse.ArgumentParser:
    raw = argparse.RawDescriptionHelpFormatter
    parser = argparse.ArgumentParser("energeia", description=_ABOUT, epilog=_EXAMPLES, formatter_class=raw)
    parser.add_argument("--version", action="version", version=f"energeia {run.versions()['energeia']}")
    commands = parser.add_subparsers(title="commands", required=True, metavar="COMMAND")
    commands.add_parser("train", help="train a model from a recipe, a YAML file or data (energeia train --help)")
    resume = _add(commands, "resume", _resume, "go on from the newest whole checkpoint, with the settings of the run")
    resume.add_argument("--no-report", action="store_true", help="write no report at the end")
    draw = _add(commands, "sample", _sample, "draw samples from fresh chains into an .npz and a .png file")
    draw.add_argument("--num", type=int, default=64, help="number of samples (default 64)")
    draw.add_argument("--class", dest="label", type=int, help="class number: draw from p(x | class)")
    draw.add_argument("--num_steps", type=int, help="steps of each chain (default: as in the settings of the run)")
    draw.add_argument(
        "--warmup", type=int, help="steps before, in which the sampler tunes itself (default: as in the settings)"
    )
    draw.add_argument(
        "--diagnose", action="store_true", help="also tell whether the chains have mixed: a table, and pictures of them"
    )
    draw.add_argument("--out", type=Path, help="file to write, ending in .npz (default: RUN/samples.npz)")
    predict = _add(commands, "predict", _predict, "write the best answers to the rows of a file into a .csv file")
    predict.add_argument(
        "--data",
        required=True,
        metavar="FILE",
        help="rows of the kind that the run was trained on; labels may be missing",
    )
    predict.add_argument("--num-best", type=int, default=2, help="answers to each row, the best first (default 2)")
    predict.add_argument("--out", type=Path, help="file to write, ending in .csv (default: RUN/predictions.csv)")
    evaluate = _add(
        commands, "evaluate", _evaluate, "measure accuracy, errors of answers, calibration, foreign data, samples"
    )
    evaluate.add_argument("--json", action="store_true", help="print one JSON object and nothing else")
    evaluate.add_argument("--split", choices=("test", "validation"), help="rows to use (default: test, if there are)")
    page = _add(commands, "report", _report, "write RUN/report.html, one file with every figure")
    for command in (evaluate, page):
        _add_log_z(command)
    for command in (draw, evaluate):
        command.add_argument("--seed", type=int, default=0, help="seed of the chains (default 0)")
    listing = commands.add_parser("recipes", help="list the recipes that ship with the package")
    listing.set_defaults(command=_recipes)
    return parser


def _add(commands: Any, name: str, function: Any, text: str) -> argparse.ArgumentParser:
    parser: argparse.ArgumentParser = commands.add_parser(name, help=text, description=text)
    parser.add_argument("run", type=Path, metavar="RUN", help="a run directory, as runs/digits-20260101-120000")
    parser.add_argument(
        "--trust",
        action="store_true",
        help="also construct classes that are not of energeia or torch, if the run names some; "
        "this runs their code, so say it only of runs whose origin you know",
    )
    parser.set_defaults(command=function)
    return parser


def _add_log_z(command: argparse.ArgumentParser) -> None:
    command.add_argument(
        "--log-z",
        action="store_true",
        help="estimate log Z of any energy, and so log p of the rows, from below and from above, with levels doubled "
        "until it is known to --tolerance; goes on from RUN/log_z.safetensors after an interruption",
    )
    command.add_argument("--tolerance", type=float, default=0.1, help="nats each way for --log-z (default 0.1)")
    command.add_argument(
        "--max-levels", type=int, default=64_000, help="levels at which --log-z gives up and says so (default 64000)"
    )
    command.add_argument(
        "--bin-width", type=float, help="spacing of the levels of x, such as 0.00390625: gives bits per dimension"
    )


def _train(words: list[str]) -> int:
    config = settings.parse(words)
    name = typed.run_name(words)
    folder = Path(config.pop("out") or run.default_folder(name))
    with_report = config.pop("report")
    result = run.train(config, folder)
    return _finish(result, folder, with_report=with_report, trust=True)


def _resume(options: argparse.Namespace) -> int:
    result = run.resume(options.run, trust=options.trust)
    return _finish(result, options.run, with_report=not options.no_report, trust=options.trust)


def _finish(result: Any, folder: Path, *, with_report: bool, trust: bool) -> int:
    if not run.is_first_process():
        return 0
    if result.stopped == "interrupted":
        print(f"interrupted at step {result.step}; to go on: energeia resume {folder}")
        return 130
    print(f"trained {result.step} steps ({result.stopped}, {result.rewinds} rewinds): {folder}")
    if with_report:
        loaded = run.load(folder, trust=trust)
        findings = examination.examine(loaded)
        _print_findings(findings.numbers)
        path = pages.write(loaded, findings)
        print(f"report: {path}")
    return 0


def _sample(options: argparse.Namespace) -> int:
    loaded = _loaded(options, with_data=False)
    if options.out is not None and options.out.suffix != ".npz":
        raise InputError(f"--out {options.out}: samples are written as .npz; give a name that ends so")
    path = options.out or options.run / "samples.npz"
    draws = run.draw(
        loaded,
        num=options.num,
        label=options.label,
        num_steps=options.num_steps,
        warmup=options.warmup,
        seed=options.seed,
        num_frames=200 if options.diagnose else 1,
    )
    x = draws.x
    np.savez(path, x=x.cpu().numpy())
    picture = pages.save_samples(loaded, x, path.with_suffix(".png"))
    print(f"{len(x)} samples: {path} and {picture}")
    if options.diagnose:
        # The last state may have been denoised, which no other was.
        draws = draws._replace(kept=draws.kept[:-1], info=Info(*(values[:-1] for values in draws.info)))
        print(summary(draws))
        print(f"chains: {', '.join(map(str, pages.save_chains(draws, path)))}")
    return 0


def _predict(options: argparse.Namespace) -> int:
    loaded = _loaded(options, with_data=False)
    if options.out is not None and options.out.suffix != ".csv":
        raise InputError(f"--out {options.out}: predictions are written as .csv; give a name that ends so")
    found = predictions.answers_to(loaded, options.data, num_best=options.num_best, trust=options.trust)
    path = options.out or options.run / "predictions.csv"
    predictions.write_csv(path, found, loaded.built.source.class_names)
    surely = "exact" if found.exact else "approximate"
    print(f"answers to {len(found.answers)} rows, {surely} ({found.method}): {path}")
    return 0


def _evaluate(options: argparse.Namespace) -> int:
    loaded = _loaded(options, with_data=True)
    findings = _examined(loaded, options, split=options.split, seed=options.seed, progress=not options.json)
    run.write_json(options.run / run.EVALUATION, findings.numbers)
    if options.json:
        print(run.as_json(findings.numbers))
    else:
        _print_findings(findings.numbers)
    if pages.rounds(findings.numbers):
        picture = pages.save_bracket(findings.numbers, options.run / "log_z.png")
        if not options.json:
            print(f"log Z from both sides: {picture}")
    return 0


def _report(options: argparse.Namespace) -> int:
    loaded = _loaded(options, with_data=True)
    findings = _examined(loaded, options, split=None, seed=0, progress=True)
    print(f"report: {pages.write(loaded, findings)}")
    return 0


def _examined(
    loaded: run.Run, options: argparse.Namespace, *, split: str | None, seed: int, progress: bool
) -> examination.Examination:
    """The examination, with log Z of any energy if that is asked for."""
    effort: Effort | None = None
    checkpoint = options.run / "log_z.safetensors"
    if options.log_z:
        effort = {
            "levels": 125,
            "num_steps": 500,
            "tolerance": options.tolerance,
            "max_levels": options.max_levels,
            "checkpoint": checkpoint,
            "progress": None if progress else False,
        }
    findings = examination.examine(loaded, split=split, seed=seed, log_z=effort, bin_width=options.bin_width)
    if effort is not None:
        # All of it is in the findings now.
        checkpoint.unlink(missing_ok=True)
    return findings


def _recipes(_options: argparse.Namespace) -> int:
    for name, path in typed.recipes().items():
        lines = path.read_text().splitlines()
        about = [
            line.removeprefix("#").strip() for line in lines[: next(i for i, s in enumerate(lines) if s[:1] != "#")]
        ]
        print(f"{name:14} {' '.join(about)}")
    return 0


def _loaded(options: argparse.Namespace, *, with_data: bool) -> run.Run:
    loaded = run.load(options.run, trust=options.trust, with_data=with_data)
    for warning in loaded.warnings:
        print(f"energeia: warning: {warning}", file=sys.stderr)
    return loaded


def _print_findings(numbers: dict[str, Any]) -> None:
    table = Table(title=f"{numbers['run']}, step {numbers['step']}, {numbers['rows']} {numbers['split']} rows")
    table.add_column("figure")
    table.add_column("value", justify="right")
    for name, value in pages.headline(numbers).items():
        table.add_row(name, value)
    Console().print(table)


def entry() -> None:
    """The console script."""
    sys.exit(main())
