"""The log of a run: one JSON object a line, whole and once, whatever cut it off."""

import json

from minizha.training.evaluation import Metrics
from minizha.training.history import History, Log
from minizha.training.report import CurvePoint


def point(step, loss):
    return CurvePoint(step, Metrics(loss, 0.1, 0.7, 0.5, 12, 4))


def test_a_history_goes_through_json():
    history = History()
    assert history.best_step() is None
    history.curve += [point(50, 3.3), point(100, 0.1 + 0.2)]
    history.held_out += [point(7, 3.0), point(14, 2.0), point(21, 2.0), point(28, 2.5)]
    history.seconds = 12.5
    copy = History.from_json(json.loads(json.dumps(history.to_json())))
    assert vars(copy) == vars(history)
    assert copy.best_step() == 14


def lines(log):
    return [json.loads(line) for line in log.path.read_text("utf-8").splitlines()]


def test_lines_are_there_at_once(tmp_path):
    log = Log(tmp_path / "log.jsonl")
    log.begin(0)
    log.write(step=0, event="start")
    assert lines(log) == [{"step": 0, "event": "start"}]
    log.write(step=1, loss=float("nan"), held_out={"loss": 0.123456789, "words": 3}, text="一")
    assert lines(log)[1] == {
        "step": 1,
        "loss": None,
        "held_out": {"loss": 0.123457, "words": 3},
        "text": "一",
    }
    assert log.fault == ""


def test_lines_of_lost_steps_are_removed(tmp_path):
    log = Log(tmp_path / "log.jsonl")
    for step in (0, 10, 20, 30):
        log.write(step=step)
    with open(log.path, "a") as file:
        file.write('{"step": 2')  # cut off by a kill
    log.begin(20)
    log.write(step=20, event="resume")
    assert lines(log) == [{"step": n} for n in (0, 10, 20)] + [{"step": 20, "event": "resume"}]
    log.begin(0)
    assert lines(log) == []


def test_a_log_that_cannot_be_written_ends_nothing(tmp_path):
    log = Log(tmp_path / "missing" / "log.jsonl")
    log.begin(0)
    log.write(step=1)
    assert "log.jsonl: can't be written: No such file" in log.fault
