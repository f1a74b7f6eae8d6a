"""`gasearch potential train`: the run of a training, from its first line to the table of errors."""

from __future__ import annotations

import shlex
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from tempfile import TemporaryFile
from typing import IO, Any, NoReturn

from rich.console import Console

from gasearch.cli.common import on_stop_signals
from gasearch.cli.potentials.tables import report_table
from gasearch.display.progress import Step, displays
from gasearch.files import OutputError, make_folder
from gasearch.potentials.networks.architectures import architecture as require_architecture
from gasearch.potentials.networks.checkpoint import MODEL_FILE
from gasearch.training.data.reading import FrameSet
from gasearch.training.loop import TrainingProgress
from gasearch.training.settings import TrainingPlan
from gasearch.training.state import saved_epochs
from gasearch.training.train import REPORT_FILE, STATE_FILE, FinishedModelError, train

_SHOWN = {
    "validation_loss": "validation loss {:.4g}",
    "energy_mae_meV_per_atom": "energies {:.3g} meV/atom",
    "force_mae_meV_per_A": "forces {:.3g} meV/Å",
}


def run_training(plan: TrainingPlan, command: Sequence[str], out: Console) -> None:
    """Train, or continue a training that was stopped or killed; print how it goes and ends.

    Parameters
    ----------
    command
        What the user typed: the words that continue it.
    """
    output = plan.output
    require_architecture(plan.architecture)
    if (output / MODEL_FILE).exists():
        raise FinishedModelError(output)
    kept, epochs = saved_epochs(output / STATE_FILE), plan.options.settings.epochs
    out.print(f"{'continuing' if kept else 'training'} {output}: {kept} of {epochs} epochs")
    try:
        with _place(output), on_stop_signals(_interrupt), displays(out) as (display,):
            report = train(
                plan,
                lambda progress: display.show(step_of(progress)),
                lambda data: _print_data(data, out),
            )
    except KeyboardInterrupt:
        out.print(_how_to_continue(output, epochs, command))
        return
    _print_report(report, plan.files, output, out)


def _interrupt() -> NoReturn:
    """End a training where it is: files are replaced whole or not at all."""
    raise KeyboardInterrupt


def _how_to_continue(output: Path, epochs: int, command: Sequence[str]) -> str:
    kept = saved_epochs(output / STATE_FILE)
    what = f"with {kept} of {epochs} epochs kept" if kept else "before an epoch was kept"
    verb = "Continue" if kept else "Start again"
    return f"stopped cleanly {what}. {verb} with: {shlex.join(command)}"


def _print_data(data: FrameSet, out: Console) -> None:
    for line in [*data.told(), *data.passed_over()]:
        out.print(line)


def _print_report(
    report: dict[str, Any], files: Sequence[Path], output: Path, out: Console
) -> None:
    out.print(
        f"done: {report['epochs']} epochs, {report['wall_s']:.0f} s; the weights are those of "
        f"epoch {report['best_epoch']}"
    )
    out.print()
    out.print(report_table(report["errors"]))
    test = shlex.join(["gasearch", "potential", "test", _as_model(output), str(files[0])])
    out.print(f"\nwrote {output} and {output / REPORT_FILE}; test it with: {test}")


def _as_model(folder: Path) -> str:
    """Return how a command line names a model: with a slash, so that it is no registered name."""
    return str(folder) if "/" in str(folder) else f"./{folder}"


@contextmanager
def _place(output: Path) -> Iterator[None]:
    """Make the folder, and prove that it can be written to, before hours are spent for it.

    Where nothing came into it, it is gone again.
    """
    make_folder(output)
    try:
        with _probe(output):
            pass
        yield
    finally:
        with suppress(OSError):
            output.rmdir()  # refuses unless empty


def _probe(folder: Path) -> IO[bytes]:
    try:
        return TemporaryFile(dir=folder)
    except OSError as error:
        raise OutputError(folder, error.strerror or str(error)) from error


def step_of(progress: TrainingProgress) -> Step:
    """Return where a training stands, for a log and for a bar."""
    has_ended = progress.record is not None
    step = "" if has_ended else f", step {progress.step} of {progress.steps}"
    words = in_words(progress)
    return Step(
        line=f"epoch {progress.epoch} of {progress.epochs}{step}: {words}",
        lead=f"epoch {progress.epoch}/{progress.epochs}",
        done=(progress.epoch - 1) * progress.steps + progress.step,
        total=progress.epochs * progress.steps,
        text=words if has_ended else None,
        is_last=has_ended and progress.epoch == progress.epochs,
    )


def in_words(progress: TrainingProgress) -> str:
    """Return the loss and, at the end of an epoch, the errors on frames held out."""
    record = progress.record or {}
    errors = [text.format(record[key]) for key, text in _SHOWN.items() if key in record]
    return ", ".join([f"loss {progress.loss:.4g}", *errors])
