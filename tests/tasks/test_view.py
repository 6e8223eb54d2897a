import numpy as np
import pytest

from soundmark import tasks
from soundmark.errors import TaskError
from soundmark.tasks import esc50
from soundmark.tasks.view import FOLDER


@pytest.fixture
def write_view(tmp_path):
    def write(text, name="mine.toml"):
        path = tmp_path / name
        path.write_text(text, "utf-8")
        return str(path)

    return write


@pytest.fixture
def toy():
    return tasks.load("toy?clips=4&seconds=0.5")


def test_every_shipped_view_fits_its_task():
    names = {path.parent.name: [] for path in FOLDER.glob("*/*.toml")}
    classes = {"esc50": esc50.CLASSES, "toy": tuple(tasks.toy.SOUNDS)}
    for task_name in names:
        for view in tasks.views(task_name):
            assert view.task == task_name
            assert view.title
            assert len(view.classes(classes[task_name])) >= 2
            names[task_name].append(view.name)
    assert {name: sorted(views) for name, views in names.items()} == {
        "esc50": ["danger", "danger-4v5", "esc10", "major"],
        "toy": ["danger"],
    }


def test_danger_is_nine_of_the_fifty_classes():
    view = tasks.load_view("danger", "esc50")
    dangerous = {label for label in esc50.CLASSES if view.target(label) == "danger"}
    assert dangerous == {
        *("siren", "car_horn", "train", "glass_breaking", "crackling_fire"),
        *("chainsaw", "fireworks", "thunderstorm", "clock_alarm"),
    }
    assert view.classes(esc50.CLASSES) == ("safe", "danger")
    assert (view.positive, view.metric) == ("danger", "balanced_accuracy")


def test_danger_4v5_leaves_the_other_classes_out():
    view = tasks.load_view("danger-4v5", "esc50")
    targets = [view.target(label) for label in esc50.CLASSES]
    assert (targets.count("danger"), targets.count("safe"), targets.count("")) == (4, 5, 41)


def test_the_five_categories_are_ten_classes_each_in_order():
    matrix, labels = tasks.load_view("major", "esc50").matrix(esc50.CLASSES)
    assert labels == ("animals", "natural", "human", "interior", "exterior")
    assert np.array_equal(matrix.argmax(1), np.arange(50) // 10)


def test_the_matrix_sums_probabilities_and_drops_what_the_view_leaves_out(write_view):
    view = tasks.load_view(write_view('[map]\nb = "loud"\nc = "loud"\na = "quiet"'), "folder")
    matrix, labels = view.matrix(["a", "b", "c", "d"])
    assert labels == ("quiet", "loud")
    assert np.allclose(np.array([[0.1, 0.2, 0.3, 0.4]]) @ matrix, [[0.1, 0.5]])


def test_a_view_relabels_a_task_and_keeps_its_protocol(toy):
    view = tasks.load_view("danger", "toy")
    viewed = view.apply(toy)
    assert viewed.full_name == "toy:danger?clips=4&seconds=0.5"
    assert viewed.classes == ("danger", "safe")
    assert viewed.rounds == toy.rounds
    assert (viewed.metric, viewed.positive) == ("balanced_accuracy", "danger")
    assert [clip.path for clip in viewed.clips] == [clip.path for clip in toy.clips]
    assert sum(clip.label == "danger" for clip in viewed.clips) == 8
    assert viewed.title == "Toy (synthesised sounds): danger or safe"


def test_keep_takes_classes_as_they_are_or_mapped(toy, write_view):
    plain = tasks.load_view(write_view('keep = ["rain", "wind"]'), "toy").apply(toy)
    assert plain.classes == ("rain", "wind")
    assert len(plain.clips) == 8
    assert all(len(part.train) == len(part.test) == 4 for part in plain.rounds)
    both = tasks.load_view(
        write_view('keep = ["rain", "wind", "siren"]\nothers = "weather"\n[map]\nsiren = "x"'), "toy"
    )
    assert both.apply(toy).classes == ("x", "weather")


def test_a_view_can_be_named_by_its_file(write_view):
    path = write_view('keep = ["rain", "wind"]\ntitle = "Weather"')
    assert tasks.load(f"toy:{path}?clips=4&seconds=0.5").classes == ("rain", "wind")


def test_a_view_saved_with_a_byte_order_mark_is_read(write_view):
    assert tasks.load_view(write_view('\ufeffkeep = ["rain", "wind"]'), "toy").target("rain") == "rain"


def test_a_view_is_applied_once_and_to_its_own_task(toy, write_view):
    view = tasks.load_view("danger", "toy")
    with pytest.raises(TaskError, match="a view already"):
        view.apply(view.apply(toy))
    other = tasks.load_view(write_view('task = "esc50"\nkeep = ["rain", "wind"]'), "toy")
    with pytest.raises(TaskError, match="made for the task 'esc50'"):
        other.apply(toy)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("keep = [", "cannot read the view"),
        ("", "needs keep"),
        ("keep = []", "needs keep"),
        ('keep = "rain"', "keep should be a list"),
        ("keep = [1]", "keep should hold names"),
        ('[map]\nrain = ""', "map should hold names"),
        ('kep = ["rain"]', "unknown key 'kep'; a view has title"),
        ('keep = ["rain"]\nmetric = "luck"', "unknown metric 'luck'"),
        ('keep = ["rain"]\n[map]\nwind = "x"', r"\[map\] names classes that keep leaves out: wind"),
        ('keep = ["rain", "snow"]', "names classes that are not there: snow; the classes are"),
        ('keep = ["rain", "wnd"]', "did you mean 'wind'"),
        ('keep = ["rain"]', "leaves 1 of the classes"),
        ('others = "safe"\n[map]\nrain = "safe"', "leaves 1 of the classes"),
        ('keep = ["rain", "wind"]\npositive = "siren"', "has positive = 'siren', but its classes are rain, wind"),
        ('keep = ["rain", "wind", "siren"]\npositive = "siren"', "takes two classes"),
    ],
)
def test_a_malformed_view_is_explained(toy, write_view, text, message):
    with pytest.raises(TaskError, match=message):
        tasks.load_view(write_view(text), "toy").apply(toy)


def test_an_unknown_view_lists_those_there_are(tmp_path):
    with pytest.raises(TaskError, match="no view 'dangr'; did you mean 'danger'"):
        tasks.load_view("dangr", "esc50")
    with pytest.raises(TaskError, match="there are: danger"):
        tasks.load_view("x", "toy")
    with pytest.raises(TaskError, match=r"cannot read the view .*none.toml: No such file"):
        tasks.load_view(str(tmp_path / "none.toml"), "toy")
    with pytest.raises(TaskError, match=r"no view '\.\./toy/danger'"):
        tasks.load_view("../toy/danger", "esc50")
    with pytest.raises(TaskError, match="cannot read the view"):
        tasks.load_view("x" * 5000 + ".toml", "toy")
    (tmp_path / "latin.toml").write_bytes(b'title = "\xe9"')
    with pytest.raises(TaskError, match="cannot read the view"):
        tasks.load_view(str(tmp_path / "latin.toml"), "toy")
