"""A running gateway asks again whether it may open its keyset: a no stops it at once, silence after the grace."""

from __future__ import annotations

import subprocess
from pathlib import Path
from typing import cast

import pytest

from tokenweir.config.models import AwsKek, KekSection, KeysSection
from tokenweir.runtime.endings import ExitCode
from tokenweir.runtime.keywatch import KeyWatch


class Question:
    """A process that opens the keyset; ``code`` None means that it has not ended."""

    def __init__(self) -> None:
        self.code: int | None = None
        self.killed = False

    def poll(self) -> int | None:
        """Return the exit code."""
        return self.code

    def kill(self) -> None:
        """End it."""
        self.killed = True

    def wait(self) -> None:
        """Take its end note of."""


class Scene:
    """A watch, a clock that the test turns, and the questions that were asked."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, section: KeysSection) -> None:
        self.now = 1000.0
        self.questions: list[Question] = []
        monkeypatch.setattr("tokenweir.runtime.keywatch.time.monotonic", lambda: self.now)
        self.watch = KeyWatch(section, self._start)

    def _start(self) -> subprocess.Popen[bytes]:
        self.questions.append(Question())
        return cast("subprocess.Popen[bytes]", self.questions[-1])

    def after(self, seconds: float) -> bool:
        """Let time pass, and give the watch a turn."""
        self.now += seconds
        return self.watch.turn()

    def answered(self, code: int) -> bool:
        """Let the last question end."""
        self.questions[-1].code = code
        return self.after(0.2)


@pytest.fixture
def scene(monkeypatch: pytest.MonkeyPatch) -> Scene:
    """Watch a KEK of AWS: every hour, with a grace of three."""
    kek = KekSection(aws=AwsKek(key="alias/x"))
    return Scene(monkeypatch, KeysSection(kek=kek, kek_recheck_seconds=3600, kek_grace_seconds=3 * 3600))


def test_it_asks_every_so_often(scene: Scene) -> None:
    """One question an hour; its yes counts from when it was asked."""
    assert scene.after(3599)
    assert scene.questions == []
    assert scene.after(1)
    assert len(scene.questions) == 1
    assert scene.after(30)
    assert scene.answered(ExitCode.DONE)
    assert scene.watch.confirmed()
    assert scene.watch.unconfirmed_seconds() == pytest.approx(30.2)
    assert scene.after(3599)
    assert len(scene.questions) == 1
    assert scene.after(1)
    assert len(scene.questions) == 2


def test_a_no_stops_at_once(scene: Scene) -> None:
    """What the provider refuses is over, whatever the grace."""
    scene.after(3600)

    assert not scene.answered(ExitCode.REFUSED)


@pytest.mark.parametrize("code", [ExitCode.UNSERVED, ExitCode.CRASHED, ExitCode.EXHAUSTED, -9])
def test_silence_is_borne_for_the_grace(scene: Scene, code: int, capsys: pytest.CaptureFixture[str]) -> None:
    """Until the grace is over it goes on, is not ready, and asks each minute; then it stops and says why."""
    scene.after(3600)
    assert scene.answered(code)
    assert not scene.watch.confirmed()
    while scene.now - 1000 < 3 * 3600 - 61:
        assert scene.after(60)
        assert scene.answered(code)
    assert len(scene.questions) > 100

    assert not scene.after(120)

    assert "kek_grace_seconds" in capsys.readouterr().err


def test_an_answer_ends_the_silence(scene: Scene) -> None:
    """The grace is counted from the last yes."""
    scene.after(3600)
    scene.answered(ExitCode.UNSERVED)
    scene.after(60)
    assert scene.answered(ExitCode.DONE)
    assert scene.watch.confirmed()
    assert scene.after(3599)
    assert len(scene.questions) == 2
    scene.after(1)
    assert scene.answered(ExitCode.UNSERVED)
    assert scene.after(2 * 3600 - 100)


def test_a_question_that_hangs_is_given_up(scene: Scene) -> None:
    """It is killed, and counts as no answer."""
    scene.after(3600)
    assert scene.after(179)
    assert not scene.questions[0].killed
    assert scene.after(2)
    assert scene.questions[0].killed
    assert not scene.watch.confirmed()
    assert scene.after(60)
    assert len(scene.questions) == 2


def test_a_question_ends_with_the_gateway(scene: Scene) -> None:
    """Nothing is left behind."""
    scene.after(3600)
    scene.watch.close()
    assert scene.questions[0].killed


def test_a_file_is_not_asked(monkeypatch: pytest.MonkeyPatch) -> None:
    """A KEK in a file was read once."""
    scene = Scene(monkeypatch, KeysSection(kek=KekSection(file=Path("kek.key")), kek_grace_seconds=0))

    assert scene.after(1e9)
    assert scene.questions == []
    assert scene.watch.unconfirmed_seconds() == 0


def test_without_a_grace_silence_stops(monkeypatch: pytest.MonkeyPatch) -> None:
    """``kek_grace_seconds: 0`` goes on only where the provider says yes."""
    kek = KekSection(aws=AwsKek(key="alias/x"))
    scene = Scene(monkeypatch, KeysSection(kek=kek, kek_recheck_seconds=60, kek_grace_seconds=0))
    scene.after(60)
    assert not scene.answered(ExitCode.UNSERVED)
