"""`gasearch potential`, as its user meets it; the network is a toy."""

import functools
import io
import json
import os
import pickle
import pty
import re
import shlex
import shutil
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import ase.db
import ase.io
import pytest
from ase.calculators.singlepoint import SinglePointCalculator
from command_line import run_here
from places import SHIPPED_FRAMES, TESTS, TOYS

from gasearch.cli.potentials.commands import potential_app
from gasearch.cli.potentials.train import step_of
from gasearch.potentials.networks.architectures import ARCHITECTURES
from gasearch.potentials.networks.declaration import Architecture
from gasearch.potentials.trust import UntrustedFileError, read_trusted
from gasearch.training.loop import TrainingProgress
from gasearch.training.state import saved_epochs

TOY = "toy_network:ToyNetwork"
VERBS = ["list", "test", "compare", "embed", "train", "trust"]
KEYS = [
    "n_frames",
    "energy_mae_meV_per_atom",
    "formation_energy_mae_meV_per_fu",
    "force_mae_meV_per_A",
    "stress_mae_meV_per_A3",
    "order_kendall_tau",
    "moment_mae",
    "order_read_accuracy",
    "swap_rms_meV",
    "swap_mae_meV",
]
WITH_TOY = f"""
import sys
sys.path.insert(0, {str(TESTS / "support")!r})
from gasearch.potentials.networks.architectures import ARCHITECTURES
from gasearch.potentials.networks.declaration import Architecture
ARCHITECTURES["toy"] = Architecture({TOY!r})
from gasearch.cli.app import main
sys.argv = ["gasearch", *sys.argv[1:]]
main()
"""
NOISY = """
from toy import LabelEnergy


class Noisy(LabelEnergy):
    def calculate(self, *arguments, **keywords):
        print("a word from a plug-in")
        super().calculate(*arguments, **keywords)
"""


class Malice:
    """Makes a folder when it is unpickled."""

    def __init__(self, trace):
        self.trace = str(trace)

    def __reduce__(self):
        return os.mkdir, (self.trace,)


@pytest.fixture(autouse=True)
def home(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "config"))
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    monkeypatch.chdir(tmp_path)


def with_toy(monkeypatch):
    """Register the toy; return a function that runs `gasearch potential` in this process."""
    monkeypatch.setitem(ARCHITECTURES, "toy", Architecture(TOY))

    return functools.partial(run_here, "potential")


@pytest.fixture
def potential(monkeypatch):
    return with_toy(monkeypatch)


def command(*words):
    return [sys.executable, "-c", WITH_TOY, "potential", *map(str, words)]


@pytest.fixture(scope="module")
def structures():
    """A frame or two of each decoration of the shipped data."""
    return ase.io.read(SHIPPED_FRAMES, ":")[::18]


@pytest.fixture(scope="module")
def frames(structures, tmp_path_factory):
    path = tmp_path_factory.mktemp("frames") / "few.xyz"
    ase.io.write(path, structures, format="extxyz")
    return path


@pytest.fixture
def settings(tmp_path):
    path = tmp_path / "settings.toml"
    path.write_text(
        "save_every_s = 0\nbatch_size = 8\n[network]\nn_radial = 4\n"
        '[loss]\nhop_share = 3\n[notes]\nlicence = "CC BY 4.0"\n'
    )
    return path


@pytest.fixture(scope="module")
def model(frames, tmp_path_factory):
    """A toy, trained by the command line."""
    place = tmp_path_factory.mktemp("models")
    words = ["train", "--architecture", "toy", "--data", frames, "--output", "small"]
    with pytest.MonkeyPatch.context() as monkeypatch:
        monkeypatch.chdir(place)
        done = with_toy(monkeypatch)(*words, "--epochs", 2)
    assert done.status == 0, done.err
    assert not done.err
    assert re.search(r"^[-\d]+ [:\d]+  epoch 2 of 2: loss ", done.out, re.MULTILINE)
    assert f"gasearch potential test ./small {frames}" in done.out
    assert "\x1b" not in done.out
    return place / "small"


class TestHelp:
    def test_there_is_one_verb_each(self):
        assert [c.name or c.callback.__name__ for c in potential_app.registered_commands] == VERBS

    @pytest.mark.parametrize("verb", VERBS)
    def test_every_verb_has_help(self, potential, verb):
        result = potential(verb, "-h")
        assert result.status == 0
        assert result.out.startswith(f"Usage: gasearch potential {verb}")

    def test_no_summary_is_cut_off(self, potential):
        result = potential()
        assert result.status == 2
        assert all(f"\n  {verb} " in result.err for verb in VERBS)
        assert "..." not in result.err.partition("Commands:")[2]


class TestList:
    def test_it_names_what_is_registered(self, potential):
        result = potential("list")
        assert result.status == 0
        assert all(f"\n{name} " in result.out for name in ("pmmcs", "chgnet", "mace", "cpainn"))

    def test_a_missing_package_is_named_with_its_extra(self, potential, monkeypatch):
        gone = Architecture("nowhere:Net", "nowhere", "pip install 'gasearch[nowhere]'")
        monkeypatch.setitem(ARCHITECTURES, "gone", gone)
        found = potential("list", "--json").json
        (row,) = [one for one in found["architectures"] if one["name"] == "gone"]
        assert row["available"] is False
        assert row["install"] == "pip install 'gasearch[nowhere]'"
        assert {"pmmcs", "chgnet"} <= {one["name"] for one in found["potentials"]}

    def test_it_imports_nothing_heavy(self):
        report = "import atexit, sys; atexit.register(lambda: print(*sys.modules, file=sys.stderr))"
        code = f"{report}\nfrom gasearch.cli.app import main\nmain()"
        done = subprocess.run(
            [sys.executable, "-c", code, "potential", "list", "--json"],
            capture_output=True,
            text=True,
            check=True,
        )
        loaded = {name.partition(".")[0] for name in done.stderr.split()}
        assert not loaded & {"torch", "chgnet", "mace", "schnetpack", "e3nn", "matplotlib"}
        assert json.loads(done.stdout)


class TestErrors:
    @pytest.mark.parametrize(
        ("words", "line"),
        [
            ("tst", "No such command 'tst'"),
            ("test", "Missing argument 'MODEL'"),
            ("test pmmcs", "Missing argument 'FILE'"),
            ("test pmcs {frames}", "did you mean 'pmmcs'?"),
            ("test ./none {frames}", "potential './none': there is no "),
            ("test nowhere:Net {frames}", "no module named 'nowhere'"),
            ("test pmmcs none.xyz", "none.xyz: there is no such file."),
            ("test pmmcs {settings}", "expected one of db, extxyz"),
            ("test pmmcs {frames} --species Fe3+", "expected SPECIES=ELEMENT, such as Fe3+=Ga."),
            ("test pmmcs {frames} --species Fe3+=Ga", "it knows its species itself"),
            ("test pmmcs {frames} --device cudda", "device 'cudda' cannot be used here"),
            ("test pmmcs {frames} --code abinit", "no moment ranges for the code 'abinit'"),
            ("compare pmmcs {frames} --plot a.bmp", "ends in .png, .pdf, .svg"),
            ("embed pmmcs {frames}", "pmmcs is no network of gasearch"),
            ("train --data {frames} --output new", "Missing option '--architecture'"),
            ("train --architecture tou --data {frames} --output new", "did you mean 'toy'?"),
            ("train --architecture toy --data {frames} --output new --epochs 0", "expected 1 or"),
            ("train --architecture toy --data {frames} --output new --settings a.toml", "a.toml"),
            ("train --architecture toy --data {frames} --output new --device cudda", "cudda"),
            ("trust none.model", "'none.model' does not exist"),
        ],
    )
    def test_wrong_usage_is_one_line_and_status_2(
        self, potential, frames, settings, tmp_path, words, line
    ):
        result = potential(*words.format(frames=frames, settings=settings).split())
        assert result.status == 2
        assert line in result.line
        assert not result.out
        assert not (tmp_path / "new").exists()

    @pytest.mark.parametrize(
        ("words", "line"),
        [
            (["--start", "ga"], "it has no weights of its own; take 'fresh' or a model"),
            (["none.xyz"], "none.xyz: there is no such file"),
        ],
    )
    def test_a_training_that_cannot_start_leaves_no_folder(
        self, potential, frames, tmp_path, words, line
    ):
        given = ["train", "--architecture", "toy", "--data", frames, *words]
        result = potential(*given, "--output", "new")
        assert result.status == 2
        assert line in result.error
        assert not (tmp_path / "new").exists()

    def test_a_folder_that_cannot_be_written_to(self, potential, frames, tmp_path):
        (tmp_path / "file").write_text("")
        given = ["train", "--architecture", "toy", "--data", frames]
        result = potential(*given, "--output", "file/model")
        assert result.status == 1
        assert "cannot be written" in result.error

    def test_files_without_labels(self, potential, structures, tmp_path):
        bare = [atoms.copy() for atoms in structures[:3]]
        ase.io.write(tmp_path / "bare.xyz", bare, format="extxyz")
        result = potential("test", "pmmcs", "bare.xyz")
        assert result.status == 2
        assert "no usable frame in bare.xyz: neither energy nor forces (3)." in result.line
        for atoms, labelled in zip(bare, structures, strict=False):
            atoms.calc = SinglePointCalculator(atoms, forces=labelled.get_forces())
        ase.io.write(tmp_path / "forces.xyz", bare, format="extxyz")
        report = potential("test", "pmmcs", "forces.xyz", "--json").json
        assert report["energy_mae_meV_per_atom"] is None
        assert report["force_mae_meV_per_A"] > 0
        given = ["train", "--architecture", "toy", "--output", "new", "--data", "forces.xyz"]
        result = potential(*given)
        assert result.status == 2
        assert "no training frame has an energy" in result.error


class TestMeasuring:
    def test_the_document_has_the_promised_keys(self, potential, model, frames, structures):
        result = potential("test", model, frames, "--json")
        assert result.status == 0
        assert list(result.json) == KEYS
        assert result.json["n_frames"] == len(structures)
        assert result.json["energy_mae_meV_per_atom"] > 0
        assert not result.err

    def test_an_ase_database_gives_the_same_numbers(
        self, potential, model, frames, structures, tmp_path
    ):
        with ase.db.connect(tmp_path / "few.db") as database:
            for atoms in structures:
                keys = {"decoration": atoms.info["decoration"], "tag": atoms.info["tag"]}
                database.write(atoms, data=keys)
        from_text = potential("test", model, frames, "--json").json
        from_rows = potential("test", model, "few.db", "--json").json
        known = {key: value for key, value in from_text.items() if value is not None}
        assert {key: from_rows[key] for key in known} == pytest.approx(known, rel=1e-4)
        assert len(known) >= 7

    def test_a_table_for_people(self, potential, frames):
        result = potential("test", "pmmcs", frames)
        assert result.status == 0
        assert "Kendall's tau" in result.out
        assert "note: read 14 frames: energy in 14 (energy), forces in 14 (forces)" in result.err
        assert "note: pmmcs only ranks orders at one x" in result.err

    def test_what_a_plug_in_prints_stays_out_of_the_document(self, potential, frames, tmp_path):
        shutil.copy(TOYS, tmp_path / "toy.py")
        (tmp_path / "noisy.py").write_text(
            "import sys\nsys.path.insert(0, " + repr(str(tmp_path)) + ")\n" + NOISY
        )
        result = potential("test", "./noisy.py:Noisy", frames, "--json")
        assert result.status == 0
        assert list(result.json) == KEYS
        assert "a word from a plug-in" in result.err

    def test_compare_gives_a_report_each_and_a_figure(self, potential, model, frames, tmp_path):
        result = potential("compare", model, "pmmcs", frames, "--json", "--plot", "parity.png")
        assert result.status == 0
        assert list(result.json) == [str(model), "pmmcs"]
        assert all(list(report) == KEYS for report in result.json.values())
        assert (tmp_path / "parity.png").stat().st_size > 10_000
        table = potential("compare", model, "pmmcs", frames).out
        assert str(model) in table.splitlines()[0]

    def test_embed_has_a_point_for_every_redox_site(
        self, potential, model, frames, structures, tmp_path
    ):
        result = potential("embed", model, frames, "--json", "--plot", "sites.svg")
        assert result.status == 0
        found = result.json[str(model)]
        assert len(found["sites"]) == sum(a.symbols.count("Fe") for a in structures)
        assert {site["species"] for site in found["sites"]} == {"Fe2+", "Fe3+"}
        assert (tmp_path / "sites.svg").is_file()
        assert "separation" in potential("embed", model, frames).out


class TestTrain:
    def test_the_model_knows_its_settings(self, potential, frames, settings, tmp_path):
        given = ["train", "--architecture", "toy", "--output", "new", "--seed", 5, "--epochs", 1]
        result = potential(*given, "--settings", settings, "--data", frames, frames)
        assert result.status == 0
        document = json.loads((tmp_path / "new" / "model.json").read_text())
        assert document["arguments"]["n_radial"] == 4
        assert document["card"]["licence"] == "CC BY 4.0"
        report = json.loads((tmp_path / "new" / "training_report.json").read_text())
        assert report["settings"]["seed"] == 5
        assert report["settings"]["loss"]["hop_share"] == 3
        assert report["data"]["n_frames"] % 2 == 0
        assert "read 28 frames: energy in 28 (energy), forces in 28 (forces)" in result.out
        assert report["data"]["columns"]["moments"] == {"magmoms": 28}
        again = potential(*given, "--data", frames)
        assert again.status == 2
        assert "new holds a finished model" in again.line

    def test_killed_and_stopped_it_continues_to_the_same_weights(
        self, potential, frames, settings, tmp_path
    ):
        words = ["train", "--architecture", "toy", "--data", frames, "--epochs", 16]
        words += ["--settings", settings, "--output"]
        assert potential(*words, "unbroken").status == 0
        self.killed([*words, "new"], after=1)
        text = self.stopped(potential, [*words, "new"], after=4)
        assert re.search(r"^continuing new: \d+ of 16 epochs$", text, re.MULTILINE)
        kept, line = re.search(r"^stopped cleanly with (\d+) of 16 .*: (.*)$", text, re.M).groups()
        assert int(kept) >= 4
        assert line == shlex.join(["gasearch", "potential", *map(str, [*words, "new"])])
        done = potential(*shlex.split(line)[2:])
        assert done.status == 0, done.err
        unbroken, new = (
            (tmp_path / name / "weights.safetensors").read_bytes() for name in ("unbroken", "new")
        )
        assert unbroken == new
        assert not (tmp_path / "new" / "training_state.safetensors").exists()

    def killed(self, words, after):
        with subprocess.Popen(command(*words), stdout=subprocess.DEVNULL) as child:
            self.wait_for_epochs(after)
            child.kill()

    def stopped(self, potential, words, after):
        """Continue a training and end it by SIGTERM; return what it printed."""

        def stop():
            self.wait_for_epochs(after)
            os.kill(os.getpid(), signal.SIGTERM)

        waiting = threading.Thread(target=stop)
        waiting.start()
        done = potential(*words)
        waiting.join()
        assert done.status == 0
        return done.out

    def wait_for_epochs(self, number):
        deadline = time.monotonic() + 60
        while saved_epochs(Path("new/training_state.safetensors")) < number:
            assert time.monotonic() < deadline
            time.sleep(0.01)

    def test_ctrl_c_on_a_terminal_ends_a_bar(self, frames):
        words = ["train", "--architecture", "toy", "--data", frames, "--output", "new"]
        master, slave = pty.openpty()
        environment = {**os.environ, "TERM": "xterm", "COLUMNS": "120"}
        child = subprocess.Popen(
            command(*words, "--epochs", 5000),
            stdin=slave,
            stdout=slave,
            stderr=slave,
            env=environment,
            start_new_session=True,
        )
        os.close(slave)
        text, sent = "", False
        while True:
            try:
                text += os.read(master, 4096).decode(errors="replace")
            except OSError:
                break
            if not sent and re.search(r"epoch \d+/5000", text):
                child.send_signal(signal.SIGINT)
                sent = True
        os.close(master)
        assert child.wait(30) == 0
        assert "stopped cleanly before an epoch was kept. Start again with: gasearch" in text
        assert "Traceback" not in text


class TestTrust:
    @pytest.mark.parametrize("name", ["evil.model", "evil.pth.tar", "best_model"])
    def test_a_malicious_file_leaves_no_trace(self, potential, frames, tmp_path, name):
        trace = tmp_path / "trace"
        (tmp_path / name).write_bytes(pickle.dumps(Malice(trace)))
        for verb in ("test", "compare", "embed"):
            result = potential(verb, name, frames)
            assert result.status == 2
            assert "was not opened: it is a pickle" in result.line
            assert "gasearch potential trust" in result.line
        assert not trace.exists()

    def test_nor_does_it_as_the_start_of_a_training(self, potential, frames, tmp_path):
        trace = tmp_path / "trace"
        (tmp_path / "evil.pth.tar").write_bytes(pickle.dumps(Malice(trace)))
        start = ["--start", "evil.pth.tar", "--architecture", "chgnet", "--output", "new"]
        result = potential("train", *start, "--data", frames)
        assert result.status == 2
        assert "was not opened: it is a pickle" in result.error
        assert not (tmp_path / "new").exists()
        assert not trace.exists()

    def test_without_asking(self, potential, tmp_path):
        trace = tmp_path / "trace"
        path = tmp_path / "evil.model"
        path.write_bytes(pickle.dumps(Malice(trace)))
        result = potential("trust", path, "--yes")
        assert result.status == 0
        assert read_trusted(path) == path.read_bytes()
        assert not trace.exists()

    @pytest.mark.parametrize(
        ("answer", "status", "line"),
        [
            ("y\n", 0, ""),
            ("n\n", 1, "gasearch: not trusted; nothing was recorded.\n"),
            ("\n", 1, "gasearch: not trusted; nothing was recorded.\n"),
            ("", 1, "gasearch: nobody answered, nothing was recorded: answer y, or add --yes.\n"),
        ],
    )
    def test_it_says_what_it_means_and_asks(
        self, potential, tmp_path, monkeypatch, answer, status, line
    ):
        path = tmp_path / "mine.model"
        path.write_bytes(b"anything")
        monkeypatch.setattr(sys, "stdin", io.StringIO(answer))
        result = potential("trust", path)
        assert result.status == status
        assert "can run code when it is opened" in result.out
        assert result.err == line
        if status == 0:
            assert read_trusted(path) == path.read_bytes()
        else:
            with pytest.raises(UntrustedFileError):
                read_trusted(path)


def test_each_epoch_ends_in_the_errors_on_frames_held_out():
    first = step_of(TrainingProgress(2, 4, 1, 2, 0.5))
    assert (first.line, first.lead) == ("epoch 2 of 4, step 1 of 2: loss 0.5", "epoch 2/4")
    assert (first.done, first.total, first.text, first.is_last) == (3, 8, None, False)
    record = {"validation_loss": 0.1, "force_mae_meV_per_A": 51.23}
    last = step_of(TrainingProgress(4, 4, 2, 2, 0.2, record))
    assert last.line == "epoch 4 of 4: loss 0.2, validation loss 0.1, forces 51.2 meV/Å"
    assert (last.done, last.text, last.is_last) == (8, last.line.partition(": ")[2], True)
