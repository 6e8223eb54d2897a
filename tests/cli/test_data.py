import json
import zipfile

import pytest

from soundmark import cli
from soundmark.tasks import esc50

TOY = "toy?clips=4&seconds=0.5"


@pytest.fixture
def soundmark(capsys):
    def call(*words):
        code = cli.main(["data", *map(str, words)])
        return code, *capsys.readouterr()

    return call


@pytest.fixture
def archive(tmp_path, serve, monkeypatch):
    """Write an archive laid out as the real one, with a hundred clips of a few bytes each."""
    monkeypatch.setattr(esc50, "CLIPS", 100)

    def write(missing=0, content=b"x"):
        rows = ["filename,fold,target,category,esc10,src_file,take"]
        path = tmp_path / "web" / "master.zip"
        with zipfile.ZipFile(path, "w") as zipped:
            for i in range(100):
                target, fold = i % 50, i // 20 + 1
                name = f"{fold}-{i}-A-{target}.wav"
                rows.append(f"{name},{fold},{target},{esc50.CLASSES[target]},False,{i},A")
                if i >= missing:
                    zipped.writestr(f"ESC-50-master/audio/{name}", content)
            zipped.writestr("ESC-50-master/meta/esc50.csv", "\n".join(rows))
            zipped.writestr("ESC-50-master/LICENSE", "see each clip")
            zipped.writestr("ESC-50-master/pages/index.html", "not ours")
        return f"{serve}/master.zip"

    return write


def test_get_fetches_unpacks_and_verifies(soundmark, archive, tmp_path):
    url = archive()
    code, out, err = soundmark("get", "esc50", "--to", tmp_path / "sets", "--url", url)
    assert (code, err) == (0, "")
    place = tmp_path / "sets" / "ESC-50"
    assert f"esc50 is in {place}" in out
    assert f"SOUNDMARK_DATA={tmp_path / 'sets'}" in out
    assert sorted(path.name for path in place.iterdir()) == ["LICENSE", "audio", "meta"]
    assert sorted(path.name for path in (tmp_path / "sets").iterdir()) == ["ESC-50"]
    assert len(esc50.load_from(place).clips) == 100
    (tmp_path / "web" / "master.zip").unlink()
    assert soundmark("get", "esc50", "--to", tmp_path / "sets", "--url", url)[0] == 0
    (place / "audio" / "1-0-A-0.wav").unlink()
    archive()
    assert soundmark("get", "esc50", "--to", tmp_path / "sets", "--url", url, "--keep-archive")[0] == 0
    assert len(esc50.load_from(place).clips) == 100
    assert (tmp_path / "sets" / "ESC-50.zip").exists()


def test_get_refuses_what_is_not_the_data_set(soundmark, archive, tmp_path, serve):
    code, _, err = soundmark("get", "esc50", "--to", tmp_path / "sets", "--url", archive(missing=3))
    assert code == 1
    assert "3 of 100 clips are missing" in err
    assert not (tmp_path / "sets" / "ESC-50").exists()
    code, _, err = soundmark("get", "esc50", "--to", tmp_path / "hollow", "--url", archive(content=b""))
    assert (code, "empty files" in err) == (1, True)
    (tmp_path / "web" / "page.zip").write_text("<html>sign in</html>")
    code, _, err = soundmark("get", "esc50", "--to", tmp_path / "page", "--url", f"{serve}/page.zip")
    assert (code, "no archive" in err) == (1, True)
    assert not (tmp_path / "page" / "ESC-50.zip").exists()
    code, _, err = soundmark("get", "esc50", "--to", tmp_path / "page", "--url", f"{serve}/none.zip")
    assert (code, "answers 404" in err) == (1, True)


def test_get_goes_to_the_cache_by_default(soundmark, archive, own_cache, monkeypatch):
    monkeypatch.setenv("SOUNDMARK_DATA", "")
    assert soundmark("get", "esc50", "--url", archive())[0] == 0
    assert esc50.find_root() == own_cache / "data" / "ESC-50"


def test_get_of_the_toy_and_of_unknown_sets(soundmark):
    code, out, _ = soundmark("get", TOY)
    assert (code, out.startswith(f"{TOY} is in ")) == (0, True)
    code, _, err = soundmark("get", "esc50?fold=1")
    assert (code, "'esc50' has no setting 'fold'" in err) == (1, True)
    code, _, err = soundmark("get", "esc5")
    assert (code, "there are: esc50, " in err) == (1, True)


def test_check_in_words_and_as_json(soundmark):
    code, out, err = soundmark("check", TOY)
    assert (code, err) == (0, "")
    assert "40 in 10 classes" in out
    code, out, _ = soundmark("check", TOY, "--json")
    assert json.loads(out)["ok"]


def test_check_fails_on_bad_clips(soundmark, tmp_path):
    soundmark("export", TOY, "--to", tmp_path / "out")
    (tmp_path / "out" / "rain" / "rain-000.wav").write_bytes(b"no sound")
    code, out, _ = soundmark("check", tmp_path / "out")
    assert code == 1
    assert "NOT WELL   1 clip cannot be read" in out
    code, out, _ = soundmark("check", tmp_path / "out", "--json", "--workers", "1")
    assert (code, json.loads(out)["bad"][0]["clip"]) == (1, "rain/rain-000.wav")


def test_show_prints_a_table_and_draws(soundmark, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    code, out, _ = soundmark("show", "toy:danger?clips=4&seconds=0.5", "--clips", "1")
    assert code == 0
    assert "6 figures in figures/toy-danger" in out.replace("\\", "/")
    assert (tmp_path / "figures" / "toy-danger" / "clips-1.svg").is_file()
    code, out, _ = soundmark("show", TOY, "--no-figures", "--to", "elsewhere")
    assert (code, "figures" in out, (tmp_path / "elsewhere").exists()) == (0, False, False)


def test_show_tells_of_clips_it_cannot_open(soundmark, tmp_path):
    soundmark("export", TOY, "--to", tmp_path / "out")
    (tmp_path / "out" / "rain" / "rain-000.wav").write_bytes(b"no sound")
    code, out, _ = soundmark("show", tmp_path / "out", "--no-figures")
    assert (code, "1 clip cannot be opened" in out) == (0, True)


def test_export_of_a_view_gives_its_folders(soundmark, tmp_path):
    code, out, _ = soundmark("export", "toy:danger?clips=4&seconds=0.5", "--to", tmp_path / "out")
    assert code == 0
    assert (tmp_path / "out" / "Danger" / "siren-000.wav").is_file()
    assert "40 files written, 0 were there" in out
    assert "CC0" in out
    code, _, err = soundmark("export", TOY, "--to", tmp_path / "out")
    assert (code, "--force" in err) == (1, True)
    assert soundmark("export", TOY, "--to", tmp_path / "out", "--force")[0] == 0
    assert soundmark("export", tmp_path / "out" / "manifest.csv", "--to", tmp_path / "again")[0] == 0


@pytest.mark.parametrize(
    ("words", "code", "message"),
    [
        ([], 2, "required"),
        (["look", "toy"], 2, "invalid choice"),
        (["export", "toy"], 2, "--to"),
        (["check", "nothing"], 1, "no task, folder or manifest 'nothing'"),
        (["check", TOY, "--workers", "0"], 1, "--workers should be 1 or more"),
        (["show", TOY, "--clips", "0"], 1, "--clips should be 1 or more"),
        (["show", TOY, "--clips", "many"], 2, "invalid int"),
        (["get", "esc50", "--url", "gopher://x"], 1, "should begin with https"),
    ],
)
def test_wrong_usage_is_explained(soundmark, words, code, message):
    done, _, err = soundmark(*words)
    assert done == code
    assert message in err


@pytest.mark.data
def test_check_of_the_real_view(esc50_root, soundmark):
    code, out, _ = soundmark("check", "esc50:danger-4v5", "--json")
    report = json.loads(out)
    assert (code, report["ok"], report["clips"]) == (0, True, 360)
    assert report["classes"] == {"safe": 200, "danger": 160}
