"""A process of its own that is asked something: what it says, one thing after another, and how it ends."""

import textwrap

import pytest

from gdnbench.measure.process import answers, ask


@pytest.fixture
def talker(tmp_path, monkeypatch):
    """Return a function that writes the body of a module which knows ``say``, and asks it ``{"n": 2}``."""
    monkeypatch.syspath_prepend(str(tmp_path))

    def asked(body, limit_s=60.0):
        begin = (
            "import json, os, sys, time\nfrom gdnbench.measure.process import say\nn = json.loads(sys.argv[1])['n']\n"
        )
        (tmp_path / "talker.py").write_text(begin + textwrap.dedent(body), encoding="utf-8")
        return answers("talker", {"n": 2}, limit_s=limit_s, variables={"WORD": "yes"})

    return asked


def test_each_thing_is_heard_when_it_is_said(talker, tmp_path):
    """The process waits for a sign that its first answer was heard."""
    sign = tmp_path / "heard"
    found = talker(
        f"""
        print('{{"not": "an answer"}}')
        say({{"n": n, "word": os.environ["WORD"]}})
        while not os.path.exists({str(sign)!r}):
            time.sleep(0.01)
        say({{"last": True}})
        """
    )
    assert next(found).value == {"n": 2, "word": "yes"}
    sign.touch()
    assert [answer.value for answer in found] == [{"last": True}]


def test_a_break_comes_behind_what_was_said(talker):
    first, last = talker("say({'n': n})\nprint('chatter', file=sys.stderr)\nraise ValueError('no more')")
    assert first.value == {"n": 2}
    assert (last.value, last.reason, last.timed_out) == (None, "ValueError: no more", False)


def test_silence_and_lateness_are_answers(talker, tmp_path):
    (silent,) = talker("pass")
    assert (silent.value, silent.reason) == (None, "exit code 0")
    (late,) = talker("time.sleep(60)", limit_s=0.2)
    assert late.timed_out
    assert late.reason == "not finished after 0 s"
    assert ask("talker", {"n": 2}, limit_s=0.2, variables={}).timed_out
