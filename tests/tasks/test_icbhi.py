import shutil
from collections import Counter
from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from soundmark import metrics, tasks
from soundmark.errors import SpecError, TaskError
from soundmark.spec import Spec
from soundmark.tasks import icbhi
from soundmark.tasks.base import Clip
from trees import plant

# Side and cycles (crackles, wheezes) by recording, as the list names them. Patient 156 is on both sides.
HEALTHY, ILL = ["00", "00"], ["00", "10", "01", "11"]
RECORDINGS = {
    "101_1b1_Al_sc_Meditron": ("train", HEALTHY),
    "102_1b1_Ar_sc_Meditron": ("train", ILL),
    "156_2b3_Al_mc_AKGC417L": ("train", ["00", "10"]),
    "156_2b3_Ar_mc_AKGC417L": ("train", HEALTHY),
    "156_5b3_Al_mc_AKGC417L": ("test", ["10", "10"]),
    "180_1b4_Al_mc_AKGC417L": ("test", HEALTHY),
    "181_1b4_Al_mc_AKGC417L": ("train", ILL),
    "182_1b4_Al_mc_AKGC417L": ("test", HEALTHY),
    "183_1b4_Al_mc_AKGC417L": ("train", ["01"]),
    "226_1b1_Pl_sc_Meditron": ("test", ["00", "10"]),
}


@pytest.fixture
def tree(tmp_path, monkeypatch):
    """A data folder with an ICBHI of ten recordings, which passes for the whole."""
    monkeypatch.setenv("SOUNDMARK_DATA", str(tmp_path))
    monkeypatch.setattr(icbhi, "KNOWN", replace(icbhi.KNOWN, recordings=len(RECORDINGS)))
    root = tmp_path / "ICBHI"
    database = root / "ICBHI_final_database"
    for name, (_, cycles) in RECORDINGS.items():
        stem = icbhi.RENAMED.get(name, name)
        plant(database, [f"{stem}.wav"])
        lines = [f"{i / 100}\t{(i + 1) / 100}\t{flags[0]}\t{flags[1]}" for i, flags in enumerate(cycles)]
        (database / f"{stem}.txt").write_text("\n".join(lines))
    (database / "filename_format.txt").write_text("no annotation")
    rows = [f"{name}\t{side}" for name, (side, _) in RECORDINGS.items()]
    (root / "ICBHI_challenge_train_test.txt").write_bytes("\r\n".join([*rows, ""]).encode())
    return root


def test_recordings_by_the_official_split(tree):
    task = tasks.load("icbhi")
    assert (task.full_name, task.protocol, task.official) == ("icbhi", "official 60/40 split", True)
    assert (task.metric, task.positive, task.classes) == ("icbhi_score", "abnormal", ("normal", "abnormal"))
    (split,) = task.rounds
    assert Counter(task.clips[i].label for i in split.train) == {"normal": 2, "abnormal": 4}
    assert Counter(task.clips[i].label for i in split.test) == {"normal": 2, "abnormal": 2}
    clip = task.clips[1]
    assert clip == Clip("ICBHI_final_database/102_1b1_Ar_sc_Meditron.wav", ("abnormal",), group="102", fold="train")


def test_the_name_that_differs_between_list_and_database_is_found(tree):
    (clip,) = [clip for clip in tasks.load("icbhi").clips if clip.group == "226"]
    assert clip.path == "ICBHI_final_database/226_1b1_Pl_sc_LittC2SE.wav"
    database = tree / "ICBHI_final_database"
    for suffix in (".wav", ".txt"):  # should somebody have put it right
        (database / f"226_1b1_Pl_sc_LittC2SE{suffix}").rename(database / f"226_1b1_Pl_sc_Meditron{suffix}")
    (clip,) = [clip for clip in tasks.load("icbhi").clips if clip.group == "226"]
    assert clip.path == "ICBHI_final_database/226_1b1_Pl_sc_Meditron.wav"


def test_patients_on_both_sides_are_told(tree):
    notes = tasks.load("icbhi").notes
    assert "The split leaks: 1 of 10 clips" in notes[0]
    assert notes[1] == (
        "The official split has patient 156 on both sides: 1 of 4 test clips is of a patient who was heard in training."
    )
    cycles = tasks.load("icbhi?labels=cycles").notes
    assert "2 of 8 test clips are of a patient who was heard in training" in cycles[-1]


def test_cycles_are_parts_of_recordings(tree):
    task = tasks.load("icbhi?labels=cycles")
    assert task.full_name == "icbhi?labels=cycles"
    assert (task.classes, task.positive) == (("normal", "crackle", "wheeze", "both"), "")
    assert Counter(clip.label for clip in task.clips) == {"normal": 12, "crackle": 6, "wheeze": 3, "both": 2}
    clip = task.clips[3]
    assert (clip.label, clip.start, clip.end, clip.group) == ("crackle", 0.01, 0.02, "102")
    assert len({clip.key for clip in task.clips}) == 23
    assert metrics.score(task.metric, task.targets(), metrics.np.eye(4)[task.targets()]) == 1.0
    assert "Learnt but never tested: wheeze, both." in task.notes


@pytest.mark.parametrize("labels", ["recordings", "cycles"])
def test_the_split_by_patient_is_clean(tree, labels):
    task = tasks.load(f"icbhi?labels={labels}&split=patients")
    assert (task.protocol, task.official) == ("5 folds by patient, made by Soundmark", False)
    assert not any("both sides" in note or "leaks" in note for note in task.notes)
    for each in task.rounds:
        tasks.check_groups(task, each)
        assert not {task.clips[i].group for i in each.train} & {task.clips[i].group for i in each.test}
    assert tasks.load(task.full_name).rounds == task.rounds


@settings(max_examples=25, deadline=None, derandomize=True)
@given(st.lists(st.tuples(st.integers(101, 130), st.booleans()), min_size=40, max_size=80))
def test_no_patient_of_five_folds_is_on_both_sides(recordings):
    clips = [
        Clip(f"{i}.wav", ("abnormal" if ill else "normal",), group=str(patient))
        for i, (patient, ill) in enumerate([*recordings, (131, True), (132, True), (133, False), (134, False)])
    ]
    divided, rounds = tasks.published.by_groups(clips, icbhi.CLASSES["recordings"])
    assert len(rounds) >= 2
    for each in rounds:
        assert not {divided[i].group for i in each.train} & {divided[i].group for i in each.test}
    assert sorted(i for each in rounds for i in each.test) == list(range(len(clips)))


def test_an_incomplete_one(tree):
    (tree / "ICBHI_final_database" / "183_1b4_Al_mc_AKGC417L.wav").unlink()
    with pytest.raises(TaskError, match=r"9 of 10 recordings are there \(missing: ICBHI_final_database/183_1b4_Al"):
        tasks.load("icbhi")
    assert tasks.load("icbhi", allow_partial=True).protocol == "official 60/40 split, incomplete: 9 of 10 recordings"


def test_a_sample(tree, monkeypatch):
    monkeypatch.setattr(icbhi, "KNOWN", replace(icbhi.KNOWN, recordings=920))
    task = tasks.load("icbhi", allow_partial=True)
    assert task.protocol.startswith("sample: ")
    assert not task.official
    for each in task.rounds:
        tasks.check_groups(task, each)


def test_a_sample_without_normal_breath_has_no_score(tree, monkeypatch):
    monkeypatch.setattr(icbhi, "KNOWN", replace(icbhi.KNOWN, recordings=920))
    listed = tree / icbhi.LIST
    listed.write_text("\n".join(line for line in listed.read_text().splitlines() if line[:3] in ("102", "181")))
    for name in ("102_1b1_Ar_sc_Meditron", "181_1b4_Al_mc_AKGC417L"):
        (tree / "ICBHI_final_database" / f"{name}.txt").write_text("0 1 1 0\n1 2 0 1\n")
    with pytest.raises(TaskError, match="no two patients here breathe normally"):
        tasks.load("icbhi?labels=cycles", allow_partial=True)


def test_settings_that_do_not_exist(tree):
    with pytest.raises(SpecError, match="labels=words in 'icbhi': it is one of recordings, cycles"):
        tasks.load("icbhi?labels=words")
    with pytest.raises(SpecError, match="split=random in 'icbhi': it is one of official, patients"):
        tasks.load("icbhi?split=random")
    with pytest.raises(SpecError, match="has no setting 'folds'"):
        tasks.load("icbhi?folds=5")


@pytest.mark.parametrize("text", ["", "0 1 0", "0 1 0 2", "a b 0 0", "1 1 0 0", "2 1 0 0", "-1 1 0 0", "0 inf 0 0"])
def test_odd_annotations_are_refused(tree, text):
    (tree / "ICBHI_final_database" / "101_1b1_Al_sc_Meditron.txt").write_text(text)
    with pytest.raises(TaskError, match=r"101_1b1_Al_sc_Meditron.txt.*fetch it again"):
        tasks.load("icbhi")


@pytest.mark.parametrize("line", ["101_1b1_Al_sc_Meditron train", "101\ttrain", "101_1b1_Al_sc_Meditron\tvalid"])
def test_another_list_is_refused(tree, line):
    (tree / "ICBHI_challenge_train_test.txt").write_text(f"102_1b1_Ar_sc_Meditron\ttrain\n{line}")
    with pytest.raises(TaskError, match=r"train_test.txt, line 2: .* is no recording and its side"):
        tasks.load("icbhi")


def test_a_missing_annotation_is_told(tree):
    (tree / "ICBHI_final_database" / "101_1b1_Al_sc_Meditron.txt").unlink()
    with pytest.raises(TaskError, match=r"cannot read .*101_1b1_Al_sc_Meditron.txt: No such file"):
        tasks.load("icbhi")


def test_the_files_as_they_are_published(tree, serve, tmp_path):
    shutil.copy(tree / icbhi.LIST, tmp_path / "web" / icbhi.LIST)
    shutil.make_archive(str(tmp_path / "web" / "ICBHI_final_database"), "zip", tree, "ICBHI_final_database")
    root = icbhi.get(Spec("icbhi"), tmp_path / "sets", url=serve, progress=False)
    assert root == tmp_path / "sets" / "ICBHI"
    assert sorted(path.name for path in root.iterdir()) == ["ICBHI_challenge_train_test.txt", "ICBHI_final_database"]
    assert len(icbhi.load_from(root).clips) == len(RECORDINGS)


@pytest.mark.data
@pytest.mark.parametrize("name", ["icbhi", "icbhi?labels=cycles", "icbhi?split=patients"])
def test_the_sample_of_real_recordings(sample, name):
    task = sample(name)
    assert task.classes[0] == "normal"
    assert task.full_name == name
    for each in task.rounds:
        tasks.check_groups(task, each)
        assert {task.clips[i].label for i in each.test} <= {task.clips[i].label for i in each.train}


@pytest.mark.data
def test_the_official_list_has_two_patients_on_both_sides(sample):
    """The list of the real data set is whole even where few of its recordings are there."""
    sides = icbhi.read_list(sample("icbhi").root / icbhi.LIST)
    assert Counter(sides.values()) == {"train": 539, "test": 381}
    patients = {side: {name[:3] for name in sides if sides[name] == side} for side in ("train", "test")}
    assert patients["train"] & patients["test"] == {"156", "218"}
    assert len(patients["train"] | patients["test"]) == 126
    assert set(icbhi.RENAMED) <= set(sides)
