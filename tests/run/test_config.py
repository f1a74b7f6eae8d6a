"""run.toml: what it may say, and one clear line for what it may not."""

import json
import tomllib

import pytest

from gasearch.errors import UsageError
from gasearch.run.config import RunSettings, read_run_file, run_settings
from gasearch.run.sections import RunFileError

HOST = '[host]\nstructure = "nafepo4-olivine"\nsupercell = [1, 2, 1]\n'
BASE = HOST + '[potential]\nname = "pmmcs"\n'
FILE = '[host]\nstructure = "x.cif"\nsupercell = [1, 1, 1]\n'
SITES = '[[host.sublattice]]\nkind = "redox"\nsites = ["Fe"]\nspecies = ["Fe2+", "Fe3+"]\n'


def read(text):
    return run_settings(tomllib.loads(text), "run.toml")


def with_cell(supercell):
    return BASE.replace("[1, 2, 1]", supercell)


def test_what_is_left_out_has_a_default():
    settings = read(BASE)
    assert settings.search.budget == 100
    assert settings.search.x == "all"
    assert settings.operators == {}


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("[search]\nx = [0.5, '2/3']", ("search", "x", (0.5, "2/3"))),
        ("[relax]\nfmax = 1", ("relax", "fmax", 1.0)),
        ("[execution]\nworkers = 0", ("execution", "workers", 0)),
        ("[execution]\ndevice = 'cuda:1'", ("execution", "device", "cuda:1")),
        ("[search]\nin_flight = 7", ("search", "in_flight", 7)),
        ("[search]\nin_flight = 'auto'", ("search", "in_flight", "auto")),
        ("[search]\nreproducible = true", ("search", "reproducible", True)),
    ],
)
def test_values_keep_their_meaning(text, found):
    section, key, value = found
    assert getattr(getattr(read(BASE + text), section), key) == value


@pytest.mark.parametrize("size", [4, "12 f.u.", "8 formula units"])
def test_a_supercell_may_be_a_size(size):
    assert read(with_cell(repr(size))).host.supercell == size


def test_a_supercell_may_be_a_matrix():
    rows = ((1, 0, 0), (0, 1, 1), (0, -1, 1))
    assert read(with_cell(str([list(row) for row in rows]))).host.supercell == rows


def test_a_plain_number_is_the_weight_of_an_operator():
    settings = read(BASE + '[operators]\na = 2\n"./b.py:B" = { n = 3 }\n')
    assert settings.operators == {"a": {"weight": 2}, "./b.py:B": {"n": 3}}


@pytest.mark.parametrize(
    ("text", "line"),
    [
        (BASE + "[search]\nbudgit = 3", "unknown key 'search.budgit' (did you mean 'budget'?)"),
        (BASE + "[serch]\nbudget = 3", "unknown key 'serch' (did you mean 'search'?)"),
        (BASE + "[store]\nbackup = 3", "(did you mean 'backups'?)"),
        (HOST + '[potential]\nnam = "pmmcs"', "unknown key 'potential.nam' (did you mean 'name'?)"),
        (BASE + "[relax]\nzzz = 1", "unknown key 'relax.zzz'; known here: fmax, smax"),
        (
            FILE + SITES.replace("sites", "site") + '[potential]\nname = "p"',
            "unknown key 'host.sublattice[0].site' (did you mean 'sites'?)",
        ),
    ],
)
def test_an_unknown_key_is_named_with_the_nearest_known_one(text, line):
    with pytest.raises(RunFileError) as raised:
        read(text)
    assert line in str(raised.value)


@pytest.mark.parametrize(
    ("text", "line"),
    [
        ("", "run.toml: 'host' is missing."),
        (HOST, "'potential' is missing."),
        ('host = "a"', "host = 'a': it should be a table."),
        (HOST + "[potential]\nname = 3", "potential.name = 3: it should be text in quotes."),
        (BASE + "[search]\nbudget = -3", "search.budget = -3: it should be greater than or equal"),
        (BASE + "[search]\nbudget = 0", "search.budget = 0"),
        (BASE + '[search]\nbudget = "3"', "search.budget = '3': it should be a whole number."),
        (BASE + "[search]\nbudget = true", "search.budget = True: it should be a whole number."),
        (BASE + "[search]\nbudget = 3.5", "search.budget = 3.5: it should be a whole number."),
        (BASE + "[search]\nseed = -1", "search.seed = -1"),
        (BASE + "[search]\nreproducible = 1", "search.reproducible = 1: it should be true or fals"),
        (
            BASE + "[search]\nx = []",
            'search.x = []: expected "all", or a list such as [0.5,',
        ),
        (BASE + "[search]\nx = 0.5", "search.x = 0.5: expected"),
        (BASE + '[search]\nx = "some"', "search.x = 'some': expected"),
        (BASE + "[search]\nx = [true]", "search.x = [True]: expected"),
        (BASE + "[search]\nx = [nan]", "search.x"),
        (BASE + "[relax]\nfmax = nan", "relax.fmax = nan: it should be a finite number."),
        (BASE + "[relax]\nfmax = inf", "relax.fmax = inf: it should be a finite number."),
        (BASE + "[relax]\nfmax = 0.0", "relax.fmax = 0.0: it should be greater than 0."),
        (BASE + '[relax]\nfmax = "a"', "relax.fmax = 'a': it should be a number."),
        (BASE + "[relax]\nrattle = 0.7", "relax.rattle = 0.7: it should be less than 0.5."),
        (BASE + "[execution]\nworkers = -1", "execution.workers = -1"),
        (
            BASE + '[execution]\ndevice = "gpu"',
            'execution.device = \'gpu\': expected "auto", "cpu"',
        ),
        (BASE + '[execution]\ndevice = "cuda:"', "execution.device = 'cuda:': expected"),
        (BASE + "[search]\nin_flight = 0", 'search.in_flight = 0: expected "auto", or a whole'),
        (BASE + "[search]\nin_flight = 2.0", 'search.in_flight = 2.0: expected "auto", or a'),
        (BASE + "[search]\nin_flight = true", 'search.in_flight = True: expected "auto", or'),
        (
            with_cell("[0, 1, 1]"),
            "host.supercell = [0, 1, 1]: expected three repeats of",
        ),
        (with_cell("[1, 1]"), "host.supercell = [1, 1]: expected three repeats"),
        (with_cell("0"), "host.supercell = 0: expected three repeats"),
        (with_cell("'3 cells'"), "host.supercell = '3 cells': expected three repeats"),
        (with_cell("[1, 1.5, 1]"), "host.supercell = [1, 1.5, 1]: expected three repeats"),
        (with_cell("[[1, 0, 0], [0, 1, 0]]"), "host.supercell = [[1, 0, 0], [0, 1, 0]]: expected"),
        (FILE + SITES.replace("redox", "worker"), "host.sublattice[0].kind = 'worker'"),
        (FILE + SITES.replace('"Fe3+"', '"Fe3"'), "'Fe3' is not a species"),
        (FILE + SITES.replace(', "Fe3+"', ""), "expected at least two species"),
        (FILE + SITES.replace('["Fe"]', "[-1, 1.5]"), "expected elements such as"),
        (FILE + SITES.replace("[[", "[").replace("]]", "]"), "write each one as [[host.sublattice"),
        (FILE + '[host.framework]\nO = "O2"', "'O2' is not a species"),
        (FILE + "[host.framework]\nO = -2", "host.framework.O = -2: it should be text in quotes."),
        (BASE + "[operators]\na = -1", "the weight of 'a' is -1; it must be 0 or more."),
        (BASE + "[operators]\na = nan", "the weight of 'a' is nan"),
        (BASE + "[operators]\na = true", "the weight of 'a' is True"),
        (BASE + '[operators]\na = "b"', "the weight of 'a' is 'b'"),
        (BASE + "[operators]\na = { weight = inf }", "the weight of 'a' is inf"),
    ],
)
def test_what_cannot_be_is_one_line_that_names_the_key(text, line):
    with pytest.raises(UsageError) as raised:
        read(text)
    message = str(raised.value)
    assert line in message
    assert "\n" not in message
    assert ".." not in message


def test_nothing_that_is_declared_can_be_changed_afterwards():
    settings = read(BASE)
    with pytest.raises(ValueError, match="frozen"):
        settings.search.budget = 5


class TestReading:
    def test_a_missing_file_says_how_to_make_one(self, tmp_path):
        with pytest.raises(RunFileError, match="write one with: gasearch init "):
            read_run_file(tmp_path / "run.toml")

    @pytest.mark.parametrize(
        ("content", "line"),
        [
            (b"a = 1\n[host\nb = 2", r"is not TOML: .*line 2"),
            (b"a = 1\na = 2", "is not TOML: Cannot overwrite"),
            (b"a = '\xff'", "is not TOML"),
            (b"", "'host' is missing"),
        ],
    )
    def test_a_file_that_is_no_toml_is_one_line(self, tmp_path, content, line):
        path = tmp_path / "run.toml"
        path.write_bytes(content)
        with pytest.raises(RunFileError, match=line) as raised:
            read_run_file(path)
        assert str(path) in str(raised.value)

    def test_a_folder_of_that_name_cannot_be_read(self, tmp_path):
        (tmp_path / "run.toml").mkdir()
        with pytest.raises(RunFileError, match="cannot be read"):
            read_run_file(tmp_path / "run.toml")

    @pytest.mark.parametrize("prefix", [b"", b"\xef\xbb\xbf"])
    def test_other_editors_line_ends_and_marks_do_no_harm(self, tmp_path, prefix):
        path = tmp_path / "run.toml"
        path.write_bytes(prefix + BASE.replace("\n", "\r\n").encode())
        assert read_run_file(path) == read(BASE)


class TestKindsOfKeys:
    @pytest.mark.parametrize("is_reproducible", [False, True])
    def test_every_key_defines_the_search_or_may_change(self, is_reproducible):
        settings = read(f"{BASE}[search]\nreproducible = {str(is_reproducible).lower()}")
        defining, operational = settings.defining(), settings.operational()
        assert not defining.keys() & operational.keys()
        flat = {
            f"{section}.{key}"
            for section, field in RunSettings.model_fields.items()
            if section != "operators"
            for key in field.annotation.model_fields
        }
        assert {*defining, *operational} == flat | {"operators"}
        may_change = {"search.budget", "search.stagnation"}
        may_change |= {"relax.tight_fmax", "relax.tight_window_per_fu"}
        may_change |= set() if is_reproducible else {"search.in_flight"}
        whole = ("execution.", "store.", "promote.", "dft.")
        assert {key for key in operational if not key.startswith(whole)} == may_change
        assert not [key for key in defining if key.startswith(whole)]

    def test_they_are_plain_values_that_json_keeps(self):
        text = BASE + "[search]\nx = [0.5, '2/3']\n[operators]\nb = 1\na = 2\n"
        defining = read(text).defining()
        assert json.loads(json.dumps(defining)) == defining
        assert defining["operators"] == [["b", {"weight": 1}], ["a", {"weight": 2}]]
