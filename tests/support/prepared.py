"""Small texts, and the folders that ``minizha prepare`` makes of them."""

from importlib import resources

from minizha.training.corpora import prepare_folder
from minizha.training.options import PretrainOptions
from tests.support.text_files import write

CHAPTER = (
    "一二三四五六七。八九十百千万，春夏秋冬东西南北。\n{}你好吗？我很好，你也好。\n第 12 AB 行。\n"
)
TEXT = "\n".join(["只有一句\n", *(CHAPTER.format(c) for c in "甲乙丙丁戊己庚辛壬癸")])
SIZES = {"hidden_size": 8, "layers": 1, "heads": 2, "intermediate_size": 8, "length": 24}
OPTIONS = {**SIZES, "batch_size": 4, "held_out": 3, "min_count": 1, "steps": 2, "titles": "no"}


def options(**changed):
    return PretrainOptions(**{**OPTIONS, **changed})


def text(folder, content=TEXT, name="corpus.txt"):
    return str(write(folder / name, content))


def novel(folder):
    """The novel of the package as a text file."""
    return text(folder, (resources.files("minizha") / "data" / "sanguo.txt").read_bytes())


def prepared(folder, path=None, processes=1, **changed):
    """A folder prepared from a text."""
    out = folder / "data"
    prepare_folder([path or text(folder)], str(out), options(**changed), processes, overwrite=True)
    return out


def content(folder):
    return {path.name: path.read_bytes() for path in folder.iterdir()}
