"""The command `bundle`: what it takes, what it says, and that `--check` tells a wrong outcome."""

import json
from pathlib import Path

import pytest

from adapter.cli import main
from adapter.recorder.replay import NotABundle, play
from tests.support import transcripts

NAME = "pjsip-answer-callee-hangup"


def _file(folder: Path, **told: object) -> Path:
    """A recorded call of our transcripts as a bundle, with the outcome that the database was told."""
    lines = (transcripts.DIRECTORY / f"{NAME}.jsonl").read_text("utf-8").splitlines()
    head = {**json.loads(lines[0]), "format": 1, "began": 1_795_405_000.0, "runs": []}
    sent = next(json.loads(line) for line in lines if '"Originate"' in line)
    record = {"kind": "outcome", "call_id": sent["ChannelId"], "outcome": "answered", "talk_seconds": 5}
    exchange = {"t": 9, "dir": "H", "asked": {"p_records": [{**record, "hangup_cause": 16, **told}]}, "told": {}}
    file = folder / "bundle.jsonl"
    file.write_text("\n".join([json.dumps(head), *lines[1:], json.dumps(exchange)]) + "\n")
    return file


def test_a_right_outcome_is_the_same(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["bundle", "--check", str(_file(tmp_path))]) == 0
    out = capsys.readouterr().out
    assert "answered, 5 s; the database was told answered, 5 s: same" in out


@pytest.mark.parametrize("told", [{"outcome": "no_answer"}, {"talk_seconds": 6}, {"hangup_cause": 17}])
def test_a_wrong_outcome_is_told(tmp_path: Path, capsys: pytest.CaptureFixture[str], told: dict[str, object]) -> None:
    assert main(["bundle", "--check", str(_file(tmp_path, **told))]) == 1
    assert "DIFFERENT" in capsys.readouterr().out


@pytest.mark.parametrize("text", ["", "no json\n", '{"story":"x"}\n', '{"began":1}\n[]\n', '{"began":1}\n{"t":"x"}\n'])
def test_what_is_no_bundle_is_said_in_words(tmp_path: Path, text: str) -> None:
    with pytest.raises(NotABundle):
        play(text)
    file = tmp_path / "x"
    file.write_text(text)
    assert main(["bundle", "--check", str(file)]) == 1


def test_without_a_call_or_a_time_it_says_what_it_needs(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["bundle"]) == 2
    assert "--since" in capsys.readouterr().err


@pytest.mark.parametrize("arguments", [["42"], ["--since", "yesterday"], ["--until", "10 minutes"]])
def test_what_cannot_be_read_is_refused(arguments: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit, match="2"):
        main(["bundle", *arguments])
    assert "must be" in capsys.readouterr().err


def test_a_folder_without_a_record_is_said(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("STATE_DIR", str(tmp_path))
    assert main(["bundle", "--since", "1h", "--output", str(tmp_path / "out")]) == 1
    assert "There is no flight record in" in capsys.readouterr().err
    assert not (tmp_path / "out").exists()
