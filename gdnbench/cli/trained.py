"""Trained models: what they score on a text and on tasks, what they write, and which texts they have seen."""

import json
from pathlib import Path
from typing import Annotated

import typer

from gdnbench.cli.options import (
    BackendOption,
    DeviceOption,
    MixerOption,
    ResultsOption,
    add_mixers,
    words,
)
from gdnbench.cli.output import progress
from gdnbench.errors import GdnbenchError


def evaluate(
    run_id: Annotated[str, typer.Argument(help="a finished run that kept its checkpoint")],
    corpus: Annotated[str, typer.Option(help="wikitext-103:<folder>, text:<folder>, ...")],
    metric: Annotated[str, typer.Option(help="wt103_token_ppl, lmeval_word_ppl, wt103_nounk_ppl or loss")] = "loss",
    split: Annotated[str, typer.Option(help="train, valid or test")] = "test",
    window: Annotated[int | None, typer.Option(help="tokens of a window; default: the training length")] = None,
    stride: Annotated[int | None, typer.Option(help="tokens scored by window; default: the window")] = None,
    carry_state: Annotated[bool, typer.Option(help="carry the recurrent state from window to window")] = False,
    out_of_domain: Annotated[bool, typer.Option(help="the model was trained on other text; label it so")] = False,
    max_tokens: Annotated[
        int | None, typer.Option(help="metric loss: score only the first tokens of the split")
    ] = None,
    training_corpus: Annotated[str | None, typer.Option(help="where the training's corpus lies (for bpe)")] = None,
    results: ResultsOption = Path("results"),
    set_name: Annotated[str, typer.Option("--set", help="the run's result set")] = "quick",
    mixer: MixerOption = [],
) -> None:
    """Evaluate a trained model on a text and store the result in its set; prints it as JSON."""
    from gdnbench.runs.evaluation import evaluate_run

    add_mixers(mixer)
    record = evaluate_run(
        results,
        set_name,
        run_id,
        corpus=corpus,
        metric=metric,
        split=split,
        window=window,
        stride=stride,
        carry_state=carry_state,
        out_of_domain=out_of_domain,
        max_tokens=max_tokens,
        training_corpus=training_corpus,
    )
    print(json.dumps(record.flat(), indent=1))


def evaluate_by_tasks(
    run: Annotated[str, typer.Argument(help="a finished run that kept its checkpoint: its id, <set>/<id>, or folder")],
    tasks: Annotated[str, typer.Option(help="tasks of lm-eval, separated by commas")],
    include_path: Annotated[Path | None, typer.Option(help="folder with tasks of your own, in lm-eval's YAML")] = None,
    limit: Annotated[int | None, typer.Option(min=1, help="only the first examples of each task")] = None,
    num_fewshot: Annotated[int | None, typer.Option(min=0, help="examples in a context; default: the task's")] = None,
    batch_size: Annotated[int | None, typer.Option(min=1, help="windows at once; default: by their length")] = None,
    window: Annotated[int | None, typer.Option(min=1, help="tokens of a window; default: the training length")] = None,
    dtype: Annotated[str | None, typer.Option(help="float32 or bfloat16; default: the training's")] = None,
    training_corpus: Annotated[str | None, typer.Option(help="where the training's corpus lies (for bpe)")] = None,
    device: DeviceOption = None,
    backend: BackendOption = None,
    results: ResultsOption = Path("results"),
    set_name: Annotated[str, typer.Option("--set", help="the run's result set, where its id alone is given")] = "quick",
    mixer: MixerOption = [],
) -> None:
    """Evaluate a trained model by tasks of EleutherAI's lm-eval and store a record of each in the run's set."""
    try:
        from gdnbench.lm_eval.evaluating import Asked, evaluate
    except ModuleNotFoundError as error:
        raise GdnbenchError(f'{error.name} is not installed: pip install "gdnbench[eval]"') from None
    add_mixers(mixer)
    given = {"batch_size": batch_size, "max_length": window, "dtype": dtype, "training_corpus": training_corpus}
    asked = Asked(
        run=run if "/" in run or Path(run).exists() else f"{set_name}/{run}",
        names=tuple(words(tasks)),
        include_path=include_path,
        limit=limit,
        num_fewshot=num_fewshot,
        model={**given, "device": device, "backend": backend, "results": str(results)},
    )
    outcome = evaluate(asked, say=progress)
    print(json.dumps([record.flat() for record in outcome.records], indent=1))
    if outcome.failed:
        raise GdnbenchError(f"{len(outcome.failed)} of the tasks failed: {'; '.join(outcome.failed)}")


def generate(
    model: Annotated[str, typer.Argument(metavar="RUN", help="a run's folder, its checkpoint.pt, or <set>/<run id>")],
    prompt: Annotated[list[str], typer.Option(help="text to continue; repeatable: several at once")] = [],
    prompt_file: Annotated[Path | None, typer.Option(help="file whose text is a prompt; -: standard input")] = None,
    max_tokens: Annotated[int, typer.Option(min=1, help="tokens that are to follow")] = 128,
    temperature: Annotated[float | None, typer.Option(help="draw tokens; default: always the likeliest")] = None,
    top_k: Annotated[int | None, typer.Option(help="draw from so many of the likeliest tokens")] = None,
    top_p: Annotated[float | None, typer.Option(help="draw from the likeliest tokens of this probability")] = None,
    seed: Annotated[int | None, typer.Option(help="seeds what is drawn; default: 0")] = None,
    stop: Annotated[list[str], typer.Option(help="text before which a continuation ends; repeatable")] = [],
    device: DeviceOption = None,
    backend: BackendOption = None,
    dtype: Annotated[str | None, typer.Option(help="float32 or bfloat16; default: bfloat16 on a GPU")] = None,
    state_dtype: Annotated[str, typer.Option(help="type of recurrent memories: float32 or bfloat16")] = "float32",
    graph: Annotated[bool | None, typer.Option(help="run steps as a CUDA graph; default: on a GPU")] = None,
    as_json: Annotated[bool, typer.Option("--json", help="print tokens, text, speed and memory as JSON")] = False,
    save_state: Annotated[Path | None, typer.Option(help="write what is carried on to this file")] = None,
    load_state: Annotated[Path | None, typer.Option(help="go on from such a file, in place of a prompt")] = None,
    training_corpus: Annotated[
        str | None, typer.Option(help="corpus of the training, with the place of its files, for a trained tokenizer")
    ] = None,
    mixer: MixerOption = [],
    results: ResultsOption = Path("results"),
) -> None:
    """Continue a text with a trained model that kept its checkpoint: the text on stdout, speed and memory on stderr."""
    from gdnbench.models.config import parse_backend
    from gdnbench.runs import generation

    add_mixers(mixer)
    asked = generation.Asked(
        model=model,
        prompts=generation.prompts(prompt, prompt_file),
        max_tokens=max_tokens,
        sampling=generation.sampling(temperature=temperature, top_k=top_k, top_p=top_p, seed=seed),
        stop=tuple(stop),
        device=device or "cpu",
        backend=None if backend is None else parse_backend(backend),
        dtype=dtype,
        state_dtype=state_dtype,
        graph=graph,
        load_state=load_state,
        save_state=save_state,
        training_corpus=training_corpus,
        results=results,
    )
    found = generation.generate(asked, lambda text: None if as_json else print(text, end="", flush=True))
    if as_json:
        print(json.dumps(generation.to_json(found, asked), indent=1))
    elif len(found.continuations) == 1:
        print()
    else:
        for number, one in enumerate(found.continuations):
            print(f"[{number}] {one.text}")
    progress(found.line())


def overlap(
    corpus: Annotated[str, typer.Option(help="corpus whose train split is read: text:<folder>, ...")],
    also: Annotated[list[str], typer.Option("--also", help="another corpus to look for in it; repeatable")] = [],
) -> None:
    """Count how much of the texts that models are tested on stands in a train split, by 13-grams of words."""
    from gdnbench.data import corpus_label, open_corpus
    from gdnbench.data.overlap import corpus_overlap, lines

    found = corpus_overlap(open_corpus(corpus), {corpus_label(name): open_corpus(name) for name in also})
    for line in lines(found):
        print(line)
