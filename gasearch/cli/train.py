"""`gasearch potential train`: what surrounds a training, from the first line to the last table."""

from __future__ import annotations

import shlex
import signal
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from tempfile import TemporaryFile
from types import FrameType
from typing import IO, Any, Protocol, Self

from rich.console import Console
from rich.progress import BarColumn, TaskID, TextColumn, TimeElapsedColumn, TimeRemainingColumn
from rich.progress import Progress as Bar

from gasearch.cli.potential_tables import report_table
from gasearch.files import OutputError, make_folder
from gasearch.potentials.networks.architectures import architecture as require_architecture
from gasearch.potentials.networks.checkpoint import MODEL_FILE
from gasearch.training.data.reading import FrameSet
from gasearch.training.loop import TrainingProgress
from gasearch.training.settings import TrainingPlan
from gasearch.training.state import saved_epochs
from gasearch.training.train import REPORT_FILE, STATE_FILE, FinishedModelError, train

_LINE_EVERY_S = 10.0
_SHOWN = {
    "validation_loss": "validation loss {:.4g}",
    "energy_mae_meV_per_atom": "energies {:.3g} meV/atom",
    "force_mae_meV_per_A": "forces {:.3g} meV/Å",
}


class Watch(Protocol):
    """Shows how a training proceeds."""

    def __enter__(self) -> Self: ...

    def __exit__(self, *error: object) -> None: ...

    def __call__(self, progress: TrainingProgress) -> None:
        """Take where the training stands."""
        ...


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
        with _place(output), _stopping(), watch(out) as observe:
            report = train(plan, observe, lambda data: _print_data(data, out))
    except KeyboardInterrupt:
        out.print(_how_to_continue(output, epochs, command))
        return
    _print_report(report, plan.files, output, out)


@contextmanager
def _stopping() -> Iterator[None]:
    """Let SIGINT and SIGTERM end the block where it is: files are replaced whole or not at all."""

    def handle(number: int, frame: FrameType | None) -> None:  # noqa: ARG001
        raise KeyboardInterrupt

    before = {s: signal.signal(s, handle) for s in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


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


def watch(console: Console) -> Watch:
    """Return a progress bar on a terminal, plain lines elsewhere."""
    is_screen = console.file.isatty() and not console.is_dumb_terminal
    return (BarWatch if is_screen else LineWatch)(console)


class BarWatch:
    """A progress bar, for a terminal."""

    def __init__(self, console: Console) -> None:
        self._task: TaskID | None = None
        self._bar = Bar(
            TextColumn("{task.fields[epoch]}", markup=False),
            BarColumn(),
            TimeElapsedColumn(),
            TimeRemainingColumn(),
            TextColumn("{task.description}", markup=False),
            console=console,
        )

    def __enter__(self) -> Self:
        self._bar.start()
        return self

    def __exit__(self, *error: object) -> None:
        self._bar.stop()

    def __call__(self, progress: TrainingProgress) -> None:
        """Move the bar."""
        done = (progress.epoch - 1) * progress.steps + progress.step
        epoch = f"epoch {progress.epoch}/{progress.epochs}"
        if self._task is None:  # only now it is known where a continued training begins
            total = progress.epochs * progress.steps
            self._task = self._bar.add_task("", total=total, completed=done, epoch=epoch)
        told = {"description": in_words(progress)} if progress.record else {}
        self._bar.update(self._task, completed=done, epoch=epoch, **told)  # type: ignore[arg-type]


class LineWatch:
    """A line now and then, for a log file."""

    def __init__(self, console: Console, clock: Callable[[], float] = time.monotonic) -> None:
        self._console = console
        self._clock = clock
        self._last_line = float("-inf")

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *error: object) -> None:
        return None

    def __call__(self, progress: TrainingProgress) -> None:
        """Print a line, unless there was one a moment ago and the training goes on."""
        is_last = progress.record is not None and progress.epoch == progress.epochs
        now = self._clock()
        if now - self._last_line < _LINE_EVERY_S and not is_last:
            return
        self._last_line = now
        step = "" if progress.record else f", step {progress.step} of {progress.steps}"
        self._console.print(
            f"{time.strftime('%Y-%m-%d %H:%M:%S')}  epoch {progress.epoch} of {progress.epochs}"
            f"{step}: {in_words(progress)}"
        )


def in_words(progress: TrainingProgress) -> str:
    """Return the loss and, at the end of an epoch, the errors on frames held out."""
    record = progress.record or {}
    errors = [text.format(record[key]) for key, text in _SHOWN.items() if key in record]
    return ", ".join([f"loss {progress.loss:.4g}", *errors])
