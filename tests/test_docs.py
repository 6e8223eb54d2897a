"""What the documentation shows is true: its Python runs, its commands parse, its names and links lead somewhere."""

from __future__ import annotations

import contextlib
import importlib
import io
import re
import shlex
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from soundmark import cli, encoders, heads, networks, remote, runs, tasks
from soundmark.encoders import weights
from soundmark.encoders.pooling import Pooling
from soundmark.recipe import Recipe
from soundmark.spec import corners, parse_joined
from soundmark.tasks import esc50, toy
from soundmark.tasks.export import export

ROOT = Path(__file__).resolve().parents[1]
DOCS = ROOT / "docs"
PAGES = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted(DOCS.rglob("*.md"))]
FENCE = re.compile(r"^```(\w+)\n(.*?)^```", re.MULTILINE | re.DOTALL)
# Modules that nobody outside needs to know.
INNER = {f"audio.{name}" for name in ("decoders", "ffmpeg", "signatures", "vorbis")}
INNER |= {
    "analysis.gallery_figure",
    "ahead",
    "analysis.interactive",
    "analysis.scatter",
    "encoders.convolution",
    "encoders.graph",
    "encoders.probing",
    "head_graphs",
    "report",
}
INNER |= {f"serve.{name}" for name in ("answers", "assets", "batches", "bodies", "decoder", "decoders", "feed")}
INNER |= {f"serve.{name}" for name in ("guard", "hearing", "meters", "protocol", "server", "streams", "work")}


def name_of(page: Path) -> str:
    return page.relative_to(ROOT).as_posix()


def blocks(page: Path, *languages: str) -> list[str]:
    return [text for language, text in FENCE.findall(page.read_text(encoding="utf-8")) if language in languages]


def commands(page: Path) -> list[str]:
    """Every `soundmark ...` line of a page's blocks, and inline."""
    lines = [line for block in blocks(page, "sh", "console") for line in block.splitlines()]
    inline = re.findall(r"`([^`\n]+)`", FENCE.sub("", page.read_text(encoding="utf-8")))
    return [line.removeprefix("$ ") for line in (*lines, *inline) if line.startswith(("soundmark ", "$ soundmark "))]


def examples() -> Iterator[tuple[str, str]]:
    """The examples at the end of the verbs' help, whose remarks stand apart."""
    for verb in cli.VERBS:
        text = getattr(importlib.import_module(f"soundmark.cli.{verb}"), "EXAMPLES", "")
        for line in re.findall(r"^ +(soundmark .*)$", text, re.MULTILINE):
            yield f"{verb} --help", re.split(r" {3,}", line)[0]


def parsed(command: str) -> dict[str, Any]:
    """The arguments of a command; none for the bare mention of a verb."""
    words = shlex.split(command, comments=True)[1:]
    said = io.StringIO()
    try:
        with contextlib.redirect_stderr(said), contextlib.redirect_stdout(said):
            return vars(cli.parser().parse_args(words))
    except SystemExit as leave:
        if leave.code == 0 or (words[0] in cli.VERBS and len(words) == 1) or words in ACTIONS:
            return {}
        pytest.fail(f"{command}: {said.getvalue().strip().splitlines()[-1]}")


ACTIONS = [["data", action] for action in ("get", "check", "show", "export", "augment")]
ACTIONS += [["weights", action] for action in ("list", "get", "verify")]
ACTIONS += [["similarity", action] for action in ("tasks", "encoders", "classes")]
ACTIONS += [["study", action] for action in ("pooling", "heads")]
VIEWS = {view.name for name in tasks.TASKS for view in tasks.views(name)}
COMMANDS = sorted({(name_of(page), command) for page in PAGES for command in commands(page)} | set(examples()))


def exists(encoder: str) -> bool:
    """Whether there is such an encoder; it is made unless that needs weights which are not here."""
    names = [part.name for part in parse_joined(encoder)]
    if any(name in weights.CHECKPOINTS and weights.located(name) is None for name in names):
        return set(names) <= set(encoders.ENCODERS)
    return bool(encoders.load(encoder))


@pytest.mark.parametrize(("page", "command"), COMMANDS)
def test_commands_parse_and_their_names_exist(page: str, command: str) -> None:
    args = parsed(command)
    for text in filter(None, [args.get("encoder"), *args.get("encoders", [])]):
        assert all(exists(each) for each in corners(text))
    for text in filter(None, [args.get("pooling"), *args.get("poolings", [])]):
        assert [Pooling(each) for each in corners(text)]
    for text in filter(None, [args.get("head"), *args.get("heads", [])]):
        assert [heads.build(each) for each in corners(text)]
    assert not args.get("view") or args["view"] in VIEWS
    for text in filter(None, [args.get("task"), *args.get("tasks", [])]):
        if args.get("gallery") and text.endswith(".wav"):
            continue  # of a recording, which a gallery takes too
        if remote.is_url(text):  # nobody is asked whether there is something
            continue
        name, _, view = text.partition("?")[0].partition(":")
        shipped = {each.name for each in tasks.views(name)} if name in tasks.TASKS else set()
        assert name in tasks.TASKS or name.endswith(("/", ".csv")), f"{page}: no task {text}"
        assert not view or view in shipped or view.endswith(".toml"), f"{page}: no view {text}"


# --- Python --------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def small_toy() -> Iterator[None]:
    """`toy` made small, so that what the pages say is quick."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(toy, "DEFAULTS", {"clips": 10, "seconds": 0.5, "seed": 0})
        yield


@pytest.fixture(scope="module")
def house(small_toy: None, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder as the pages take it to be: a run of the toy task in `runs/toy`, and some of its clips in `sounds`."""
    folder = tmp_path_factory.mktemp("house")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("SOUNDMARK_CACHE", str(folder / "cache"))
        runs.run(Recipe(task="toy"), folder / "runs" / "toy", page=False, progress=False)
        export(tasks.load("toy"), folder / "sounds", progress=False)
    return folder


@pytest.mark.parametrize("page", [page for page in PAGES if blocks(page, "python")], ids=name_of)
def test_python_runs(page: Path, house: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(house)
    monkeypatch.setenv("SOUNDMARK_CACHE", str(house / "cache"))
    # What takes long has tests of its own, and the model that these pages would write is there already.
    monkeypatch.setattr(runs.report, "write", lambda *_, **__: None)
    monkeypatch.setattr(runs, "write_model", lambda *_, **__: {})
    for module, table in (
        (encoders, "ENCODERS"), (heads, "HEADS"), (networks, "NETWORKS"), (tasks, "TASKS"),
    ):  # fmt: skip
        monkeypatch.setattr(module, table, dict(getattr(module, table)))
    names: dict[str, object] = {"__name__": "page"}
    for text in blocks(page, "python"):
        exec(compile(text, name_of(page), "exec"), names)


def test_contributing_adds_one_of_each() -> None:
    text = "\n".join(blocks(ROOT / "CONTRIBUTING.md", "python"))
    assert all(f'{table}["' in text for table in ("encoders.ENCODERS", "heads.HEADS", "tasks.TASKS"))
    assert "check_encoder(" in text


# --- Other examples ------------------------------------------------------------------------------------------------


def test_the_view_that_is_shown_is_a_view(tmp_path: Path) -> None:
    (own,) = blocks(DOCS / "data" / "views.md", "toml")
    path = tmp_path / "animals.toml"
    path.write_text(own, encoding="utf-8")
    assert tasks.load_view(str(path), "esc50").classes(esc50.CLASSES) == ("animal", "other")


def test_the_table_that_is_shown_is_a_task(tmp_path: Path) -> None:
    (text,) = blocks(DOCS / "data" / "your-own.md", "csv")
    for line in text.splitlines()[1:]:
        path = tmp_path / line.partition(",")[0]
        path.parent.mkdir(exist_ok=True)
        path.write_text(line, encoding="utf-8")
    (tmp_path / "clips.csv").write_text(text, encoding="utf-8")
    task = tasks.load(str(tmp_path / "clips.csv"))
    assert (len(task.clips), task.protocol) == (5, "2 given folds")


# --- Links and coverage --------------------------------------------------------------------------------------------


@pytest.mark.parametrize("page", PAGES[:2], ids=name_of)
def test_links_of_the_repository_lead_somewhere(page: Path) -> None:
    """MkDocs checks those between pages."""
    for target in re.findall(r"\]\(([^)\s]+)\)", page.read_text(encoding="utf-8")):
        place, _, anchor = target.partition("#")
        if not place.startswith("http"):
            assert (ROOT / place).is_file(), target
            headings = re.findall(r"^#+ (.*)$", (ROOT / place).read_text(encoding="utf-8"), re.MULTILINE)
            assert not anchor or anchor in [heading.lower().replace(" ", "-") for heading in headings], target


def test_every_page_is_in_the_navigation() -> None:
    navigation = (ROOT / "mkdocs.yml").read_text(encoding="utf-8").partition("\nnav:")[2]
    listed = set(re.findall(r"[\w/-]+\.md", navigation))
    assert listed == {page.relative_to(DOCS).as_posix() for page in DOCS.rglob("*.md")}


def test_every_room_is_in_the_reference() -> None:
    package = ROOT / "src" / "soundmark"
    names = {
        ".".join(path.relative_to(package).with_suffix("").parts).removesuffix(".__init__")
        for path in package.rglob("*.py")
    }
    rooms = {name for name in names if name.partition(".")[0] not in {"__init__", "__main__", "cli"}}
    pages = "\n".join(page.read_text(encoding="utf-8") for page in (DOCS / "api").glob("*.md"))
    shown = set(re.findall(r"^::: soundmark\.([\w.]+)$", pages, re.MULTILINE))
    inner = {name for name in rooms if name in INNER or name.partition(".")[0] in INNER}
    assert shown <= rooms, "pages name modules that are gone"
    assert rooms - inner <= shown, "modules that no page shows"
