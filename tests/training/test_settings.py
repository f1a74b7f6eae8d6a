"""Files of training settings: what they may say, and one line for what they may not."""

import pytest

from gasearch.training.settings import (
    LossSettings,
    TrainingFile,
    TrainingFileError,
    TrainingSettingError,
    TrainingSettings,
    read_training_file,
)


def test_without_a_file_there_are_the_defaults():
    assert read_training_file(None, {}) == TrainingFile()
    assert read_training_file(None, {"epochs": 3}).settings == TrainingSettings(epochs=3)


def test_the_command_line_counts_more_than_the_file(tmp_path):
    path = tmp_path / "a.toml"
    path.write_text(
        'seed = 1\nepochs = 7\nheld_out = ["111-v2-3"]\n[loss]\nstress = 0\n'
        '[working_ion_metal]\nNa = -1.3\n[labelling]\ncode = "gpaw"\n'
        "[labelling.ranges]\n'Fe3+' = [4.0, 4.7]\n"
    )
    told = read_training_file(path, {"seed": 4})
    assert (told.settings.seed, told.settings.epochs) == (4, 7)
    assert told.settings.held_out == ("111-v2-3",)
    assert told.settings.loss.stress == 0
    assert told.settings.working_ion_metal == {"Na": -1.3}
    assert told.labelling.code == "gpaw"
    assert told.labelling.ranges == {"Fe3+": (4.0, 4.7)}


@pytest.mark.parametrize(
    ("text", "line"),
    [
        ("epochz = 3", "unknown key 'epochz' (did you mean 'epochs'?)"),
        ("[loss]\nforce = 1", "unknown key 'force' (did you mean 'forces'?)"),
        ("[labelling]\ncodes = 1", "unknown key 'codes' (did you mean 'code'?)"),
        ('epochs = "x"', "epochs = 'x': it should be a valid integer."),
        ("epochs = 0", "training setting epochs = 0, expected 1 or more."),
        ("loss = 3", "loss = 3: it should be a table."),
        ("network = 3", "network = 3: expected a table, [network]."),
        ('[labelling]\ncode = "abinit"', "no moment ranges for the code 'abinit'"),
        ("[", "is not TOML"),
    ],
)
def test_what_cannot_be_is_one_line(tmp_path, text, line):
    path = tmp_path / "a.toml"
    path.write_text(text)
    with pytest.raises(TrainingFileError) as caught:
        read_training_file(path, {})
    assert line in str(caught.value)
    assert str(caught.value).startswith(f"{path}: ")


def test_a_missing_file_is_told(tmp_path):
    with pytest.raises(TrainingFileError, match="cannot be read: No such file"):
        read_training_file(tmp_path / "none.toml", {})


@pytest.mark.parametrize(
    ("name", "value"),
    [("epochs", 0), ("learning_rate", 2.0), ("ema", 1.0), ("validation_share", 0.9), ("clip", 0.0)],
)
def test_settings_out_of_range_are_refused_by_name(name, value):
    with pytest.raises(TrainingSettingError, match=name):
        TrainingSettings(**{name: value})
    with pytest.raises(TrainingSettingError, match="energy_scale"):
        LossSettings(energy_scale=0.0)
