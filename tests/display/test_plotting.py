"""Figures of the hull."""

import pytest

from gasearch.analysis.joint_hull import HullPoint
from gasearch.display.plotting import NoPlotError, plot_hull
from gasearch.errors import UsageError
from gasearch.files import OutputError

STARTS = {".png": b"\x89PNG", ".pdf": b"%PDF", ".svg": b"<?xml"}


def point(number, x, formation, above):
    place = {"run": "run", "cell": "1x1x1", "energy_eV_per_fu": -5.0}
    known = (number, x, -5.0, formation, above, "ff", 1, "ok", "NaFePO4", "random")
    return HullPoint(*known, **place)


ROWS = [
    point(1, 0.0, 0.0, 0.0),
    point(2, 1.0, 0.0, 0.0),
    point(3, 0.5, -0.02, 0.0),
    point(4, 0.5, 0.01, 0.03),
]


@pytest.mark.parametrize("ending", STARTS)
def test_the_ending_chooses_the_format(tmp_path, ending):
    path = tmp_path / "deep" / f"hull{ending}"
    plot_hull(ROWS, "pmmcs", path, ranks_only=True)
    assert path.read_bytes().startswith(STARTS[ending])
    assert [p.name for p in path.parent.iterdir()] == [path.name]


def test_a_new_figure_replaces_the_old_one(tmp_path):
    path = tmp_path / "hull.svg"
    plot_hull(ROWS[:2], "pmmcs", path, ranks_only=False)
    before = path.read_bytes()
    plot_hull(ROWS, "pmmcs", path, ranks_only=False)
    assert path.read_bytes() != before


@pytest.mark.parametrize("name", ["hull.bmp", "hull", "hull.PNG.txt"])
def test_another_ending_is_refused(tmp_path, name):
    with pytest.raises(UsageError, match=r"ends in .png, .pdf, .svg"):
        plot_hull(ROWS, "pmmcs", tmp_path / name, ranks_only=False)


def test_without_formation_energies_there_is_nothing_to_draw(tmp_path):
    with pytest.raises(NoPlotError, match="both ends of the range"):
        plot_hull([point(1, 0.0, None, None)], "pmmcs", tmp_path / "a.png", ranks_only=False)
    assert list(tmp_path.iterdir()) == []


def test_a_place_that_is_none_is_one_line(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(OutputError, match="cannot be written"):
        plot_hull(ROWS, "pmmcs", tmp_path / "file" / "a.png", ranks_only=False)


def test_without_matplotlib_it_says_how_to_get_it(tmp_path, monkeypatch):
    import builtins

    real = builtins.__import__

    def without(name, *arguments, **keywords):
        if name.startswith("matplotlib"):
            raise ModuleNotFoundError(f"No module named {name!r}", name="matplotlib")
        return real(name, *arguments, **keywords)

    monkeypatch.setattr(builtins, "__import__", without)
    with pytest.raises(NoPlotError, match=r"pip install 'gasearch\[report\]'"):
        plot_hull(ROWS, "pmmcs", tmp_path / "a.png", ranks_only=False)
