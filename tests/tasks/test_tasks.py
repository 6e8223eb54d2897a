"""Names of tasks, as users write them."""

import subprocess
import sys

import pytest

from soundmark import tasks
from soundmark.errors import SpecError, TaskError


def test_an_unknown_task_lists_what_there_is_and_guesses():
    with pytest.raises(TaskError, match=r"did you mean 'esc50'.*the tasks are esc50, .*toy"):
        tasks.load("esc5")
    with pytest.raises(TaskError, match="no task, folder or manifest 'nowhere/at/all'"):
        tasks.load("nowhere/at/all")
    for odd in ("", ":", "?", "x" * 5000, "a\0b", "~nobody/x"):
        with pytest.raises(TaskError, match="no task, folder or manifest"):
            tasks.load(odd)
    with pytest.raises(TaskError, match="'toy' has no view 'x'"):
        tasks.load("toy:x?clips=4")
    with pytest.raises(TaskError, match="a task has no layers"):
        tasks.load("toy:danger@block4")
    with pytest.raises(SpecError):
        tasks.load("toy?clips")


def test_paths_may_hold_colons_and_question_marks(tmp_path, monkeypatch):
    seen = []
    monkeypatch.setattr(
        tasks.folder, "load", lambda *args: seen.append(args) or tasks.toy.load(tasks.parse("toy?clips=4"), False)
    )
    odd = tmp_path / "C:" / "my?sounds"
    odd.mkdir(parents=True)
    tasks.load(str(odd))
    tasks.load(f"{odd}?folds=3")
    tasks.load(f"folder:{odd}")
    assert seen == [(odd, "", False), (odd, "folds=3", False), (odd, "", False)]
    view = tmp_path / "a:b.toml"
    view.write_text('keep = ["rain", "wind"]')
    assert tasks.load(f"{odd}:{view}?seed=2").classes == ("rain", "wind")
    assert seen[-1] == (odd, "seed=2", False)


def test_names_come_before_folders(tmp_path, monkeypatch):
    (tmp_path / "toy").mkdir()
    monkeypatch.chdir(tmp_path)
    assert tasks.load("toy?clips=4&seconds=0.5").title.startswith("Toy")
    with pytest.raises(TaskError, match="no recordings"):
        tasks.load("./toy")


def test_loading_tasks_imports_nothing_heavy():
    code = (
        "import sys; from soundmark import tasks; tasks.load_view('danger', 'esc50');"
        "print([m for m in ('torch', 'sklearn', 'librosa', 'pyarrow', 'matplotlib', 'scipy') if m in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
