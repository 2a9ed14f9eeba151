"""`glasshouse harvest`, `learn`, `features`, `concepts`: from a model and text to features and what they detect."""

from __future__ import annotations

from typing import Annotated, Any

import typer

from glasshouse.cli.entry import (
    ContextOption,
    CorpusOption,
    CountOption,
    DeviceOption,
    DtypeOption,
    JsonOption,
    ModelArgument,
    NameOption,
    SeedOption,
    TextColumnOption,
    WeightOption,
    WorkspaceOption,
    answer,
    begin,
    say,
    weights_of,
)
from glasshouse.types import UserError


def harvest(
    model: ModelArgument,
    site: Annotated[list[str], typer.Option(help="Such as resid.6; may be given several times.")],
    corpus: CorpusOption = "python",
    tokens: Annotated[int | None, CountOption("Tokens of text to read; 2M without it.")] = None,
    context: ContextOption = None,
    weight: WeightOption = None,
    keep_bos: Annotated[
        bool, typer.Option("--keep-bos", help="Store the BOS position, which is left out else.")
    ] = False,
    outlier: Annotated[
        float, typer.Option(help="Leave out positions whose norm is over so many medians; inf keeps all.")
    ] = 10.0,
    name: NameOption = None,
    seed: SeedOption = 0,
    text_column: TextColumnOption = "text",
    device: DeviceOption = None,
    dtype: DtypeOption = None,
    workspace: WorkspaceOption = None,
    json: JsonOption = False,
) -> None:
    """Store the activations of a model over text.

    Many sites in one pass that stops after the last; rows are shuffled across documents and kept in shards.
    """
    from glasshouse.activations import expect
    from glasshouse.activations import harvest as run
    from glasshouse.features.opening import HARVEST_TOKENS, default_name
    from glasshouse.models import load
    from glasshouse.models.origins import check_known, remember
    from glasshouse.text import corpus as read

    with begin(workspace) as ws:
        loaded = load(model, device=device, dtype=dtype, workspace=ws)
        check_known(loaded, ws)
        sites = [str(loaded.site(place)) for place in site]
        name, tokens = name or default_name(loaded.name, sites[0]), tokens or HARVEST_TOKENS
        window = context or min(256, loaded.context)
        text = read(corpus, text_column=text_column).weighted(weights_of(weight))
        say(str(text))
        if not ws.exists("activations", name):
            say(f"harvesting {name}: {expect(loaded, sites, tokens=tokens, context=window)}")
        rows = run(
            loaded, text, sites, name=name, ws=ws, tokens=tokens, context=window, seed=seed, skip_bos=not keep_bos,
            outlier=outlier,
        )  # fmt: skip
        remember(loaded, model, ws)
        made = ws.manifest("activations", name)
        result = {
            "activations": name, "sites": sites, "rows": rows.rows, "held_out_rows": rows.held_out_rows,
            "buffer_rows": made["config"]["buffer_rows"], "read": made["read"],
        }  # fmt: skip
        taken = made["read"]
        answer(
            json, result,
            f"{name}: {rows.rows:,} rows and {rows.held_out_rows:,} held out at {', '.join(sites)}, shuffled "
            f"{result['buffer_rows']:,} at a time; of {taken['tokens']:,} positions "
            f"{taken['left_out'] + taken['bos']:,} were left out ({taken['bos']:,} of BOS)",
        )  # fmt: skip


def learn(
    activations: Annotated[
        str, typer.Argument(metavar="ACTIVATIONS", help="Name of a harvest in the workspace; with --live a model.")
    ],
    site: Annotated[str | None, typer.Option(help="Which site of it; needed if it has several.")] = None,
    live: Annotated[
        str | None,
        typer.Option(
            metavar="CORPUS",
            show_default=False,
            help="Text whose activations are learnt from as they are computed, with nothing on disk.",
        ),
    ] = None,
    tokens: Annotated[int | None, CountOption("Activations to learn from; twice those of the text without it.")] = None,
    features: Annotated[int | None, CountOption("Features; without it 16 × width, 16,384 at most.")] = None,
    k: Annotated[int, typer.Option(help="Active features per token.")] = 32,
    activation: Annotated[str, typer.Option(help="batchtopk or topk.")] = "batchtopk",
    batch: Annotated[int, typer.Option(help="Activations a step.")] = 1024,
    rate: Annotated[float | None, typer.Option(help="Learning rate; by size without it.", show_default=False)] = None,
    threads: Annotated[int | None, typer.Option(help="CPU threads; recorded.", show_default=False, min=1)] = None,
    name: NameOption = None,
    seed: SeedOption = 0,
    device: DeviceOption = None,
    workspace: WorkspaceOption = None,
    json: JsonOption = False,
) -> None:
    """Learn a dictionary of features from activations.

    Ends with a report on held-out text: unexplained variance, active features a token, loss recovered.
    """
    from glasshouse.activations import store, stream
    from glasshouse.dictionaries import LearnConfig, expect
    from glasshouse.dictionaries import learn as run
    from glasshouse.features.opening import HARVEST_TOKENS, default_name
    from glasshouse.models import load
    from glasshouse.models.origins import check_known, remember
    from glasshouse.text import corpus

    with begin(workspace, create=live is not None) as ws:
        rows: Any = store(ws, activations) if live is None else None
        model = load(activations if rows is None else rows.model_name, device=device, workspace=ws)
        check_known(model, ws)
        sites: tuple[str, ...] = () if rows is None else rows.sites
        if site is None and len(sites) != 1:
            have = f"one of {', '.join(sites)} in {activations}" if sites else "such as resid.6, beside --live"
            raise UserError(f"expected --site, {have}, got none; choose one")
        place = str(model.site(site or sites[0]))
        if live is not None:
            text = corpus(live)
            say(str(text))
            context = min(256, model.context)
            rows = stream(model, text, place, tokens=tokens or HARVEST_TOKENS, context=context, seed=seed)
        place = rows.site(place)
        config = LearnConfig(
            features=features, k=k, activation=activation, tokens=tokens or 2 * rows.rows, batch=min(batch, rows.rows),
            rate=rate, seed=seed,
        )  # fmt: skip
        name = name or default_name(rows.model_name, place)
        expected = expect(config, rows.width(place), device=str(model.device))
        if not ws.exists("dictionaries", name):
            say(f"learning {name}: {expected}")
        if live is not None:  # and nothing is wrong with what was asked
            ws.require_disk(expected.disk)
            remember(model, activations, ws)
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


def features(
    dictionary: Annotated[str, typer.Argument(metavar="DICTIONARY", help="Name of a dictionary in the workspace.")],
    corpus: CorpusOption = "python",
    tokens: Annotated[int | None, CountOption("Tokens of text to read; 2M without it.")] = None,
    context: ContextOption = None,
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
    from glasshouse.features.gathering import expect_of, gather
    from glasshouse.features.opening import HARVEST_TOKENS
    from glasshouse.models import load
    from glasshouse.models.origins import check_known
    from glasshouse.text import corpus as read

    with begin(workspace, create=False) as ws:
        found = read_dictionary(dictionary, ws=ws)
        model = load(str(found.model_name), device=device, workspace=ws)
        check_known(model, ws)
        text = read(corpus, text_column=text_column)
        say(str(text))
        window, tokens = context or min(256, model.context), tokens or HARVEST_TOKENS
        if not ws.exists("features", found.name):
            say(f"gathering {found.name}: {expect_of(model, found, tokens=tokens, context=window)}")
        gather(model, found, text, ws=ws, name=found.name, tokens=tokens, context=window)
        summary = read_features(found.name, ws=ws).summary
        answer(
            json, summary, f"{found.name}: {summary['clear']} of {summary['n_features']} features have a clear label"
        )


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
    from glasshouse.models.origins import check_known

    with begin(workspace, create=False) as ws:
        found = read_dictionary(dictionary, ws=ws)
        model = load(str(found.model_name), device=device, workspace=ws)
        check_known(model, ws)
        text, spans = read_labelled(corpus, tokens or TOKENS)
        kept = score_concepts(ws, model, found, text, spans, tokens=tokens or TOKENS, seed=seed)
        answer(json, kept, concept_lines(kept))
