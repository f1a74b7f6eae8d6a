"""`gasearch potential`: lists, trains, tests, compares, embeds and trusts potentials."""

from __future__ import annotations

import contextlib
import sys
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from gasearch.cli.common import Json, Plot, command_group, err, out, print_result
from gasearch.errors import GasearchError, UsageError

# What is heavy is imported by the commands: their errors, and Ctrl-C, then meet `main`.
if TYPE_CHECKING:
    from gasearch.potentials.contract import Potential
    from gasearch.training.data.frames import Frame

potential_app = command_group("Train, test and compare potentials.")

_MODEL = "A name, a folder with a model.json, a trusted model file, or module:factory."
Model = Annotated[str, typer.Argument(metavar="MODEL", help=_MODEL, show_default=False)]
Models = Annotated[list[str], typer.Argument(metavar="MODEL...", help=_MODEL, show_default=False)]
Frames = Annotated[
    Path, typer.Argument(metavar="FILE", help="Labelled frames: extxyz or ASE database.")
]
Device = Annotated[str, typer.Option(help="Where to compute: cpu, cuda, cuda:1.")]
SpeciesPairs = Annotated[
    list[str] | None,
    typer.Option(
        "--species",
        metavar="SPECIES=ELEMENT",
        help="What stands for an oxidation state in another package's model, as Fe3+=Ga.",
    ),
]
Code = Annotated[
    str, typer.Option("--code", help="Whose moments unlabelled frames have: vasp, gpaw, chgnet.")
]


@potential_app.command("list")
def list_(json: Json = False) -> None:
    """List what can be named and trained here."""
    from gasearch.cli.potentials.tables import listed_table
    from gasearch.potentials.listing import architectures, potentials

    found = {"potentials": potentials(), "architectures": architectures()}
    tables = [(f"{kind}:\n", listed_table(rows), "") for kind, rows in found.items()]
    own = "a model of your own: its folder, a trusted model file, or module:factory"
    print_result(found, *(one for table in tables for one in table), own, json=json)


@potential_app.command("test")
def measure(
    model: Model,
    file: Frames,
    species: SpeciesPairs = None,
    code: Code = "vasp",
    device: Device = "cpu",
    json: Json = False,
) -> None:
    """Measure errors against labelled frames."""
    reports = _reports([model], file, species, code, device, json=json)
    _print_reports(reports, json, reports[model])


@potential_app.command()
def compare(
    models: Models,
    file: Frames,
    species: SpeciesPairs = None,
    code: Code = "vasp",
    device: Device = "cpu",
    plot: Plot = None,
    json: Json = False,
) -> None:
    """Test several potentials on the same frames."""
    reports = _reports(models, file, species, code, device, plot, json=json)
    _print_reports(reports, json, reports)
    if plot is not None:
        err.print(f"wrote {plot}")


@potential_app.command()
def embed(
    models: Models,
    file: Frames,
    species: SpeciesPairs = None,
    code: Code = "vasp",
    device: Device = "cpu",
    plot: Plot = None,
    json: Json = False,
) -> None:
    """Show where networks keep redox sites.

    The features of their nodes, in the plane of largest variance. A network that distinguishes
    Fe2+ from Fe3+ keeps them apart.
    """
    from gasearch.cli.potentials.tables import embedding_document, embedding_table

    with _own_stdout():
        if plot is not None:
            from gasearch.training.evaluation.figures import require_figure

            require_figure(plot)
        embeddings = _embeddings(models, file, species, code, device, json=json)
        if plot is not None:
            from gasearch.training.evaluation.figures import plot_embedding

            plot_embedding(embeddings, plot)
    document = {name: embedding_document(one) for name, one in embeddings.items()}
    print_result(document, embedding_table(embeddings), json=json)
    if plot is not None:
        err.print(f"wrote {plot}")


@potential_app.command()
def train(
    architecture: Annotated[str, typer.Option(help="A name of `gasearch potential list`.")],
    data: Annotated[
        list[Path], typer.Option(metavar="FILE...", help="Labelled frames; more files may follow.")
    ],
    output: Annotated[Path, typer.Option(help="Folder of the new model.")],
    more: Annotated[list[Path] | None, typer.Argument(metavar="FILE", hidden=True)] = None,
    start: Annotated[
        str | None,
        typer.Option(
            metavar="START", help="clone, ga, blind, fresh, a model's folder or a trusted file."
        ),
    ] = None,
    epochs: Annotated[
        int | None, typer.Option(help="Passes over the frames; 40 unless the settings say else.")
    ] = None,
    seed: Annotated[int | None, typer.Option(help="Of the split, the order and the start.")] = None,
    device: Annotated[str | None, typer.Option(help="Where to compute: cpu, cuda.")] = None,
    settings: Annotated[
        Path | None, typer.Option(metavar="FILE.toml", help="All other settings.")
    ] = None,
) -> None:
    """Train a network on labelled frames.

    Ctrl-C or SIGTERM ends it cleanly; the same command continues a training that was ended or
    killed.
    """
    from gasearch.cli.potentials.train import run_training
    from gasearch.training.settings import TrainingPlan, read_training_file

    given = {"epochs": epochs, "seed": seed, "device": device}
    chosen = read_training_file(settings, {k: v for k, v in given.items() if v is not None})
    _refuse_device(chosen.settings.device)
    command = ["gasearch", *sys.argv[1:]]
    plan = TrainingPlan(architecture, [*data, *(more or [])], output, start, chosen)
    run_training(plan, command, out)


@potential_app.command()
def trust(
    file: Annotated[
        Path,
        typer.Argument(
            metavar="FILE", exists=True, dir_okay=False, readable=True, help="A pickled model."
        ),
    ],
    yes: Annotated[bool, typer.Option("--yes", help="Do not ask.")] = False,
) -> None:
    """Allow a pickled model to be opened.

    Such a file can run any code when it is opened. This command shows what that means, asks, and
    records the file's sha256; it does not open the file.
    """
    from gasearch.potentials import trust as trusting

    shown = trusting.meaning(file)
    out.print(shown)
    if not yes:
        _ask(f"Do you trust {file}?")
    digest = trusting.trust(file, shown=shown)
    out.print(f"trusted: sha256 {digest}, recorded in {trusting.record_path()}")


def _ask(question: str) -> None:
    """Raise unless the user says yes."""
    try:
        agreed = typer.confirm(question, default=False)
    except typer.Abort as error:
        out.print()
        raise GasearchError("nobody answered, nothing was recorded: answer y, or add --yes.") from (
            error
        )
    if not agreed:
        raise GasearchError("not trusted; nothing was recorded.")


def _reports(
    models: Sequence[str],
    file: Path,
    species: Sequence[str] | None,
    code: str,
    device: str,
    plot: Path | None = None,
    *,
    json: bool,
) -> dict[str, Any]:
    """Return the errors of each model, by its name."""
    with _own_stdout():
        from gasearch.training.evaluation.errors import compare_models
        from gasearch.training.evaluation.figures import require_figure

        if plot is not None:
            require_figure(plot)
        loaded = _loaded(models, species, device)
        reports = compare_models(loaded, _frames(file, code, json=json), plot)
    for name, one in loaded.items():
        if one.ranks_only:
            err.print(f"note: {name} only ranks orders at one x; its energies mean nothing")
    return dict(reports)


def _embeddings(
    models: Sequence[str],
    file: Path,
    species: Sequence[str] | None,
    code: str,
    device: str,
    *,
    json: bool,
) -> dict[str, Any]:
    """Return the embedding of each model, by its name."""
    from gasearch.potentials.networks.network_potential import NetworkPotential
    from gasearch.training.evaluation.embedding import embed_sites

    loaded = _loaded(models, species, device)
    networks = {}
    for name, one in loaded.items():
        if not isinstance(one, NetworkPotential):
            raise UsageError(f"{name} is no network of gasearch: it has no features to show.")
        networks[name] = one
    structures = [frame.atoms for frame in _frames(file, code, json=json)]
    return {name: embed_sites(one, structures) for name, one in networks.items()}


def _loaded(
    models: Sequence[str], species: Sequence[str] | None, device: str
) -> dict[str, Potential]:
    from gasearch.potentials.registry import load_potential

    _refuse_device(device)
    surrogates = _surrogates(species or ())
    return {name: load_potential(name, None, device, surrogates) for name in models}


def _surrogates(pairs: Sequence[str]) -> Mapping[str, str | int] | None:
    """Return what --species says, as run.toml has it."""
    found: dict[str, str | int] = {}
    for text in pairs:
        name, equals, stand_in = text.rpartition("=")
        if not equals or not name or not stand_in:
            raise UsageError(f"--species {text}: expected SPECIES=ELEMENT, such as Fe3+=Ga.")
        found[name] = int(stand_in) if stand_in.isdecimal() else stand_in
    return found or None


def _frames(file: Path, code: str, *, json: bool) -> Sequence[Frame]:
    """Return the frames of a file; say what was read, unless for a program, and what was not."""
    from gasearch.training.data.labels import Labelling
    from gasearch.training.data.reading import read_frames

    found = read_frames([file], Labelling(code=code))
    for line in [*([] if json else found.told()), *found.passed_over()]:
        err.print(f"note: {line}")
    if err.is_terminal:
        err.print(f"evaluating {len(found.frames)} frames ...")
    return found.frames


def _refuse_device(device: str) -> None:
    """Refuse a device that is not here, before anything is read for it."""
    import torch

    try:
        torch.empty(1, device=device)
    except (RuntimeError, AssertionError, ValueError) as error:
        reason = str(error).split("\n")[0].rstrip(".")
        raise UsageError(f"device {device!r} cannot be used here: {reason}.") from error


@contextlib.contextmanager
def _own_stdout() -> Iterator[None]:
    """Keep what packages and plug-ins print out of the document on stdout."""
    with contextlib.redirect_stdout(sys.stderr):
        yield


def _print_reports(reports: Mapping[str, Any], json: bool, document: Any) -> None:
    from gasearch.cli.potentials.tables import has_bad_number, plain, report_table

    for name, report in reports.items():
        if has_bad_number(report):
            err.print(f"note: {name} gave values that are no numbers for some of these frames")
    print_result(plain(document), report_table(reports), json=json)
