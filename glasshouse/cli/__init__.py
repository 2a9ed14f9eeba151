"""The command line: one short function a command, each a wrapper of one public function.

    glasshouse demo                                     # grow a small model, find its features, see them on a page
    glasshouse open path/to/model --corpus notes/       # the same for a model of your own

Nothing heavy is imported before a command needs it, so `glasshouse --help` is quick.
"""

from __future__ import annotations

import socket
from pathlib import Path
from typing import Annotated, Any

import typer

from glasshouse.cli.discovering import did_it_change, discover
from glasshouse.cli.entry import (
    PORT,
    Commands,
    ContextOption,
    CorpusOption,
    CountOption,
    DeviceOption,
    DtypeOption,
    JsonOption,
    ModelArgument,
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
from glasshouse.cli.growing import grow, tune
from glasshouse.cli.importing import import_command
from glasshouse.cli.learning import concepts, features, harvest, learn
from glasshouse.cli.rating import rate
from glasshouse.cli.testing import compare, test
from glasshouse.types import FeatureId, UserError
from glasshouse.workspace import Workspace

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
    and what its features detect is held to the truth. A quarter of an hour on two cores; run again, it goes on where
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


app.command()(grow)
app.command()(tune)


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
    context: ContextOption = None,
    name: NameOption = None,
    seed: SeedOption = 0,
    text_column: TextColumnOption = "text",
    device: DeviceOption = None,
    dtype: DtypeOption = None,
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
                dtype=dtype, text_column=text_column, say=say,
            )  # fmt: skip
            found = summary(ws, opened)
            answer(json, found)
            show_summary(found, quiet=json)
            served.wait()


for command in (harvest, learn, features, concepts):
    app.command()(command)


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
    positions: Annotated[
        str, typer.Option(help="Where the edits act: at all tokens, those of the prompt, or new ones only.")
    ] = "all",
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
    temperature: Annotated[float, typer.Option(help="0 is greedy.", min=0, max=100)] = 0.0,
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

    if dose and (prompt or positions != "all"):
        other = "--prompt" if prompt else "--positions"
        raise UserError(f"expected --dose or {other}, got both; a dose is measured on held-out text, at all its tokens")
    with begin(workspace, create=False) as ws:
        sets, adds = set or [], add or []
        loaded, edit = steered_model(model, ws, sets=sets, adds=adds, positions=positions, device=device)
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
    from glasshouse.web.server import listen
    from glasshouse.web.server import serve as run

    if until_stdin_closes:
        end_with_stdin()
    # Before the workspace is opened: an address that cannot be had leaves no new workspace behind.
    with listen(host, port) if listener is None else socket.socket(fileno=listener) as door:
        run(
            Workspace.open(workspace), host=host, open_browser=open_browser, listener=door.detach(),
            quiet=listener is not None,  # of a command, which says where its page is
        )  # fmt: skip


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
