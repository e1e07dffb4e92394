"""Likelihoods and generated texts as lm-eval asks for them, against the same from single forward passes."""

import numpy as np
import pytest
import torch
from lm_eval.api.instance import Instance
from lm_eval.utils import get_rolling_token_windows, make_disjoint_window

from gdnbench.errors import GdnbenchError
from gdnbench.lm_eval.model import GdnbenchLM

SEPARATOR, WINDOW = 0, 16


@pytest.fixture(scope="module")
def model(trained):
    root, run_id = trained
    return GdnbenchLM(f"tiny/{run_id}", results=str(root), batch_size=3, dtype="float64")


def requests(kind, *arguments):
    return [Instance(request_type=kind, doc={}, arguments=given, idx=place) for place, given in enumerate(arguments)]


def asked(model, kind, *arguments):
    return getattr(model, kind)(requests(kind, *arguments), disable_tqdm=True)


@torch.no_grad()
def log_probabilities(model, inputs):
    """Logarithms of the probabilities of all tokens after each of ``inputs``, float64 [T, V]."""
    return model.model(torch.tensor([list(inputs)]))[0][0].double().log_softmax(-1)


def by_hand(model, pairs):
    """The sum over (inputs, targets) of the targets' log probabilities, at the end of the inputs."""
    total, greedy = 0.0, True
    for inputs, targets in pairs:
        found = log_probabilities(model, inputs)[-len(targets) :]
        picked = found[range(len(targets)), list(targets)]
        total += float(picked.sum())
        greedy &= bool((picked == found.amax(-1)).all())
    return total, greedy


TEXTS = {
    "short": ("to be", " or not"),
    "one byte": ("to be", " "),
    "context longer than the window": ("that is the question whether to be", " or not"),
    "exactly the window": ("to be or ", "not that"),
    "trailing space in the context": ("to be ", "or"),
}


@pytest.mark.parametrize(("context", "continuation"), TEXTS.values(), ids=TEXTS)
def test_loglikelihood(model, context, continuation):
    whole = (context + continuation).encode()
    moved = len(context) - len(context.rstrip())
    count = len(continuation.encode()) + moved
    kept = whole[-(WINDOW + 1) :]
    expected, greedy = by_hand(model, [(kept[:-1], whole[-count:])])
    ((found, likeliest),) = asked(model, "loglikelihood", (context, continuation))
    assert found == pytest.approx(expected, rel=1e-6)
    assert likeliest is greedy


def test_a_text_without_context_follows_the_separator(model):
    expected, _ = by_hand(model, [([SEPARATOR, *b"to b"], b"to be")])
    ((found, _),) = asked(model, "loglikelihood", ("", "to be"))
    assert found == pytest.approx(expected, rel=1e-6)


def test_a_continuation_longer_than_the_window_is_scored_in_windows_after_its_context(model):
    context, continuation = b"to be", b" or not to be that is the question whether"
    pairs = get_rolling_token_windows(list(continuation), context[-1], WINDOW, 1)
    expected, _ = by_hand(model, pairs)
    ((found, _),) = asked(model, "loglikelihood", (context.decode(), continuation.decode()))
    assert found == pytest.approx(expected, rel=1e-6)


@pytest.mark.parametrize("length", [0, 1, WINDOW - 1, WINDOW, WINDOW + 1, 3 * WINDOW + 5])
def test_rolling_likelihood_has_the_harness_windows(model, length):
    text = ("to be or not that is the question whether " * 3)[:length]
    windows = list(get_rolling_token_windows(list(text.encode()), SEPARATOR, WINDOW, 1))
    assert sum(len(make_disjoint_window(pair)[1]) for pair in windows) == length
    assert asked(model, "loglikelihood_rolling", (text,))[0] == pytest.approx(by_hand(model, windows)[0], rel=1e-6)


def test_the_likeliest_continuation_is_said_to_be(model):
    context = list(b"to be or")
    for _ in range(4):
        context.append(int(log_probabilities(model, context[-WINDOW:])[-1].argmax()))
    text = bytes(context).decode()
    (first, second) = asked(model, "loglikelihood", (text[:8], text[8:]), (text[:8], text[8:-1] + "~"))
    assert first[1] is True
    assert second[1] is False


def test_answers_do_not_depend_on_the_batch(model, trained):
    alone = GdnbenchLM(f"tiny/{trained[1]}", results=str(trained[0]), batch_size=1, dtype="float64")
    for kind, arguments in (
        ("loglikelihood", list(TEXTS.values())),
        ("loglikelihood_rolling", [("to be " * n,) for n in range(5)]),
        ("generate_until", [(c, {"until": ["q"], "max_gen_toks": 6}) for c, _ in TEXTS.values()]),
    ):
        one, three = asked(alone, kind, *arguments), asked(model, kind, *arguments)
        if kind == "generate_until":
            assert one == three
        else:
            np.testing.assert_allclose(np.array(one, dtype=float), np.array(three, dtype=float), rtol=1e-9)


def greedily(model, context, count):
    tokens = list(context)[-(WINDOW - count) :]
    begun = len(tokens)
    for _ in range(count):
        tokens.append(int(log_probabilities(model, tokens)[-1].argmax()))
    return bytes(tokens[begun:]).split(b"\0")[0].decode(errors="replace")


@pytest.mark.parametrize("context", ["to be or not", "that is the question whether to be or not", "t"])
def test_generation_is_greedy_and_a_long_context_loses_its_beginning(model, context):
    (found,) = asked(model, "generate_until", (context, {"until": [], "max_gen_toks": 6}))
    assert found == greedily(model, context.encode(), 6)


def test_generation_ends_before_the_first_stop(model):
    whole = greedily(model, b"to be or not", 6)
    stop = whole[2:4]
    (found,) = asked(model, "generate_until", ("to be or not", {"until": [stop, "~~"], "max_gen_toks": 6}))
    assert found == whole[: whole.index(stop)]


def test_drawn_texts_are_the_same_for_the_same_seed(model):
    settings = {"until": [], "max_gen_toks": 8, "do_sample": True, "temperature": 2.0, "top_k": 20}
    found = []
    for seed in (1, 1, 2):
        torch.manual_seed(seed)
        found.append(asked(model, "generate_until", ("to be", settings), ("or not", settings)))
    assert found[0] == found[1] != found[2]


def test_likelihoods_do_not_depend_on_what_was_generated_before(model):
    before = asked(model, "loglikelihood", TEXTS["short"])
    asked(model, "generate_until", ("to be", {"max_gen_toks": 2}))
    assert asked(model, "loglikelihood", TEXTS["short"]) == before


MISTAKES = {
    "window": ({"max_length": 0}, "max_length=0"),
    "batch": ({"batch_size": "many"}, "batch_size=many"),
    "type": ({"dtype": "float23"}, "float32"),
    "device": ({"device": "cuda"}, "cuda"),
    "argument": ({"dtyp": "float32"}, "'dtyp'; did you mean dtype?"),
    "run": ({"checkpoint": "tiny/none"}, "no finished run"),
}


@pytest.mark.parametrize(("given", "said"), MISTAKES.values(), ids=MISTAKES)
def test_mistake(trained, given, said):
    if given.get("device") == "cuda" and torch.cuda.is_available():
        pytest.skip("a GPU is here")
    with pytest.raises(GdnbenchError, match=said):
        GdnbenchLM(**{"checkpoint": f"tiny/{trained[1]}", "results": str(trained[0]), **given})


def test_what_cannot_be_generated_says_why(model):
    with pytest.raises(GdnbenchError, match="num_beams"):
        asked(model, "generate_until", ("to be", {"num_beams": 4, "max_gen_toks": 2}))
    with pytest.raises(GdnbenchError, match="no room for a context in a window of 16"):
        asked(model, "generate_until", ("to be", {"max_gen_toks": 16}))


def test_the_harness_default_device_is_a_cpu_where_there_is_no_gpu(trained, monkeypatch, caplog):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    found = GdnbenchLM(f"tiny/{trained[1]}", results=str(trained[0]), device="cuda:0")
    assert found.device.type == "cpu"
    assert "becomes cpu" in caplog.text
