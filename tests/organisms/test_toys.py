"""Toy models against what is known of them: shapes worked by hand, then trained toys, recovery, a dictionary."""

import math

import pytest
import torch
from torch import Tensor
from torch.nn.functional import normalize

from glasshouse.dictionaries import LearnConfig, learn
from glasshouse.organisms.toys import (
    POLYTOPES,
    HiddenRows,
    ToyConfig,
    active_held,
    dimensions_per_feature,
    draw,
    feature_dimensions,
    features_held,
    measured,
    recovered,
    required_dimensions,
    train,
)
from glasshouse.types import UserError
from glasshouse.workspace import Workspace


def circle(count: int, turn: float = 0.0) -> Tensor:
    angle = turn + 2 * math.pi * torch.arange(count) / count
    return torch.stack([angle.cos(), angle.sin()])


def antiprism() -> Tensor:
    """Two squares, one turned by an eighth, at the height that makes the frame tight."""
    flat = torch.cat([circle(4), circle(4, math.pi / 4)], 1)
    height = torch.tensor([1.0] * 4 + [-1.0] * 4) / math.sqrt(2)
    return torch.cat([flat, height[None]])


SHAPES = {
    "tetrahedron": torch.tensor([[1.0, 1, -1, -1], [1, -1, 1, -1], [1, -1, -1, 1]]),
    "triangle": circle(3),
    "digon": torch.tensor([[1.0, -1.0]]),
    "pentagon": circle(5),
    "square antiprism": antiprism(),
}


# -- by hand ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", POLYTOPES)
def test_dimensions_of_exact_shapes(name: str) -> None:
    fraction, W_MN = POLYTOPES[name], SHAPES[name]
    assert fraction == W_MN.shape[0] / W_MN.shape[1]
    assert feature_dimensions(2.5 * W_MN).tolist() == pytest.approx([fraction] * W_MN.shape[1], abs=1e-6)
    unit_MN = normalize(W_MN, dim=0)
    assert float(dimensions_per_feature(unit_MN)) == pytest.approx(fraction, abs=1e-6)


def test_dimensions_of_shapes_side_by_side() -> None:
    """A triangle, a feature alone and one that is not represented keep their own numbers, in a batch of two."""
    W_MN = torch.block_diag(SHAPES["triangle"], torch.tensor([[0.7]]), torch.zeros(0, 1))
    both = feature_dimensions(torch.stack([W_MN, 0 * W_MN]))
    assert both[0].tolist() == pytest.approx([2 / 3] * 3 + [1.0, 0.0], abs=1e-6)
    assert both[1].tolist() == [0.0] * 5


def test_unequal_features_share_a_dimension_unequally() -> None:
    """Two on one line, lengths 1 and 1/2: |W_1|² / (|W_1|² + |W_2|²) = 4/5, and 1/5."""
    assert feature_dimensions(torch.tensor([[1.0, 0.5]])).tolist() == pytest.approx([0.8, 0.2])


@pytest.mark.parametrize("relation", ["independent", "correlated", "anticorrelated"])
def test_rows_are_drawn_as_the_paper_says(relation: str) -> None:
    size = 1 if relation == "independent" else 3
    config = ToyConfig(features=6, hidden=2, relation=relation, set_size=size)
    x_IBN = draw(config, torch.tensor([0.1, 0.3]), 40_000, torch.Generator().manual_seed(0))
    on_IBN = x_IBN > 0
    assert on_IBN.float().mean(1).flatten().tolist() == pytest.approx([0.1] * 6 + [0.3] * 6, abs=0.01)
    values = x_IBN[on_IBN]
    assert float(values.max()) <= 1 and float(values.mean()) == pytest.approx(0.5, abs=0.01)
    assert float(values.var()) == pytest.approx(1 / 12, abs=0.002)
    together = (on_IBN[1, :, 0] & on_IBN[1, :, 1]).float().mean()
    apart = (on_IBN[1, :, 2] & on_IBN[1, :, 3]).float().mean()
    expected = {"independent": 0.09, "correlated": 0.3, "anticorrelated": 0.0}[relation]
    assert float(together) == pytest.approx(expected, abs=0.006 * (expected > 0))
    assert float(apart) == pytest.approx(0.09, abs=0.006), "features of two sets are independent"


def test_settings_that_cannot_be() -> None:
    with pytest.raises(UserError, match="expected a relation"):
        ToyConfig(features=4, hidden=2, relation="friendly")
    with pytest.raises(UserError, match="hidden dimensions"):
        ToyConfig(features=4, hidden=5)
    with pytest.raises(UserError, match="sets that divide 4"):
        ToyConfig(features=4, hidden=2, relation="correlated", set_size=3)
    with pytest.raises(UserError, match="name the relation"):
        ToyConfig(features=4, hidden=2, set_size=2)
    with pytest.raises(UserError, match=r"at most 0\.5"):
        train(ToyConfig(features=4, hidden=2, relation="anticorrelated", set_size=2), [0.6], seed=0)
    toys = train(ToyConfig(features=2, hidden=1, steps=1), [0.1, 0.2], seed=0)
    with pytest.raises(UserError, match=r"probability of 0\.1, 0\.2"):
        toys.best()


# -- trained ---------------------------------------------------------------------------------------------------------


def test_a_toy_is_its_equation_and_its_seed() -> None:
    config = ToyConfig(features=5, hidden=2, steps=20, batch=64)
    toys, again = (train(config, [0.1, 0.3], seed=3) for _ in range(2))
    assert torch.equal(toys.W_IMN, again.W_IMN) and torch.equal(toys.loss_I, again.loss_I)
    assert not torch.equal(toys.W_IMN, train(config, [0.1, 0.3], seed=4).W_IMN)
    x_IBN = draw(config, toys.probability_I, 8, torch.Generator().manual_seed(0))
    one = toys[1]
    expected = torch.relu(one.W_MN.T @ (one.W_MN @ x_IBN[1, 3]) + one.b_IN[0])
    assert toys(x_IBN)[1, 3].tolist() == pytest.approx(expected.tolist(), abs=1e-6)
    assert toys.hidden(x_IBN)[1, 3].tolist() == pytest.approx((one.W_MN @ x_IBN[1, 3]).tolist(), abs=1e-6)
    assert float(toys.best(0.3).loss_I) == float(toys.loss_I[1])
    assert [float(each.probability_I) for each in toys] == pytest.approx([0.1, 0.3])


def test_a_linear_model_keeps_the_top_features() -> None:
    toy = train(ToyConfig(features=10, hidden=4, relu=False, decay=0.7, steps=1000, batch=512), [0.5], seed=0)
    kept_NN = (torch.arange(10) < 4).float().diag()
    assert float((toy.W_MN.T @ toy.W_MN - kept_NN).abs().max()) < 0.05
    assert toy.b_IN[0, 4:].tolist() == pytest.approx([0.25] * 6, abs=0.02), "the rest is guessed at its mean"


@pytest.mark.parametrize(
    ("name", "n", "m", "p", "steps"),
    [
        ("tetrahedron", 4, 3, 0.85, 1500),
        ("triangle", 8, 2, 0.7, 1500),
        ("digon", 8, 2, 0.5, 600),
        ("pentagon", 5, 2, 0.05, 600),
        ("square antiprism", 8, 3, 0.05, 600),
    ],
)
def test_the_best_of_many_is_the_named_shape(name: str, n: int, m: int, p: float, steps: int) -> None:
    rate = 2e-2 if steps > 600 else 1e-2  # dense features settle slowly
    best = train(ToyConfig(features=n, hidden=m, steps=steps, batch=512, rate=rate), [p] * 12, seed=0).best()
    shown_N = best.W_MN.norm(dim=0) > 0.5
    count = SHAPES[name].shape[1] * m // SHAPES[name].shape[0]
    assert int(shown_N.sum()) == count, best.W_MN
    assert best.dimensions_N[shown_N].tolist() == pytest.approx([POLYTOPES[name]] * count, abs=0.05)
    if name == "pentagon":
        angles = torch.atan2(best.W_MN[1], best.W_MN[0]).sort().values.rad2deg()
        assert angles.diff().tolist() == pytest.approx([72.0] * 4, abs=5)


def test_dimensions_per_feature_stick_at_one_and_a_half() -> None:
    """Dense features get a dimension each; over a range of sparsities pairs share one; then more do."""
    config = ToyConfig(features=60, hidden=10, steps=1000, batch=256)
    toys = train(config, [1.0, 0.8, 0.4, 0.33, 0.1], seed=0)
    dense, denser, pairs, still_pairs, sparse = dimensions_per_feature(toys.W_IMN).tolist()
    assert dense == pytest.approx(1, abs=0.05) and denser == pytest.approx(1, abs=0.05)
    assert pairs == pytest.approx(0.5, abs=0.05) and still_pairs == pytest.approx(0.5, abs=0.05)
    assert sparse < 0.35


def test_correlated_features_are_orthogonal_and_anticorrelated_ones_opposite() -> None:
    for relation, wanted in (("correlated", 0.0), ("anticorrelated", -1.0)):
        config = ToyConfig(features=4, hidden=2, relation=relation, set_size=2, steps=600, batch=512)
        toy = train(config, [0.1] * 12, seed=0).best()
        assert toy.W_MN.norm(dim=0).tolist() == pytest.approx([1.0] * 4, abs=0.1)
        unit_MN = normalize(toy.W_MN, dim=0)
        within = [float(unit_MN[:, 0] @ unit_MN[:, 1]), float(unit_MN[:, 2] @ unit_MN[:, 3])]
        assert within == pytest.approx([wanted] * 2, abs=0.15), relation


# -- compressed sensing ----------------------------------------------------------------------------------------------


def test_thresholds_known_in_closed_form() -> None:
    """No active feature needs no dimension, all need all; then two values of the literature."""
    for signed in (False, True):
        assert required_dimensions(0.0, signed=signed) == pytest.approx(0, abs=1e-6)
        assert required_dimensions(1.0, signed=signed) == pytest.approx(1, abs=1e-6)
    # Donoho and Tanner's weak thresholds at M = N/2: ρ = K/M = 0.558 non-negative and 0.386 signed.
    assert active_held(1000, 500) / 500 == pytest.approx(0.558, abs=0.002)
    assert active_held(1000, 500, signed=True) / 500 == pytest.approx(0.386, abs=0.002)
    n = features_held(16, 4)
    assert n * required_dimensions(4 / n) == pytest.approx(16)
    assert active_held(round(n), 16) == pytest.approx(4, rel=0.01)


@pytest.mark.parametrize("signed", [False, True])
def test_recovery_fails_where_theory_says(signed: bool) -> None:
    n, m = 120, 60
    theory = active_held(n, m, signed=signed)
    grid = list(range(4, 57, 4)) if not signed else list(range(2, 45, 3))
    hits_TK = recovered(n, m, grid, trials=16, seed=0, signed=signed, iterations=600)
    ratio = measured(hits_TK, grid, expected=theory)
    assert 0.85 < ratio.value < 1.2 and ratio.low < ratio.value < ratio.high and ratio.n == 16


def test_the_half_point_is_read_off_a_grid() -> None:
    hits_TK = torch.tensor([[1, 1, 0, 0], [1, 1, 1, 0], [1, 0, 0, 0]]).bool()
    assert measured(hits_TK, [2, 4, 6, 8]).value == pytest.approx(5.0)
    assert measured(hits_TK, [2, 4, 6, 8], expected=10).value == pytest.approx(0.5)
    with pytest.raises(UserError, match="widen it"):
        measured(hits_TK[:, :3], [2, 4, 6])
    with pytest.raises(UserError, match="even grid"):
        measured(hits_TK, [2, 4, 6, 9])


# -- a dictionary finds them -----------------------------------------------------------------------------------------


def test_a_dictionary_of_the_hidden_layer_finds_the_features(workspace: Workspace) -> None:
    toy = train(ToyConfig(features=32, hidden=12, steps=600, batch=512), [0.05], seed=0)[0]
    shown_N = toy.W_MN.norm(dim=0) > 0.5
    assert int(shown_N.sum()) > 24, "more features than dimensions"
    config = LearnConfig(features=64, k=2, tokens=100_000, batch=512, held_out_rows=2048, statistics_rows=4096)
    found = learn(HiddenRows(toy), "resid.0", name="toy", ws=workspace, config=config, precision="fp32")
    nearest_N = (normalize(toy.W_MN, dim=0).T @ normalize(found.W_dec, dim=1).T).amax(1)[shown_N]
    assert float((nearest_N >= 0.9).float().mean()) > 0.9, nearest_N
    assert float(nearest_N.mean()) > 0.95


def test_hidden_rows_are_the_same_again_and_held_out_ones_differ() -> None:
    rows = HiddenRows(train(ToyConfig(features=4, hidden=2, steps=1), [0.5], seed=0), held_out_rows=256)
    other = HiddenRows(train(ToyConfig(features=4, hidden=2, steps=1), [0.5], seed=1), held_out_rows=256)
    assert rows.hash == HiddenRows(rows.toy, held_out_rows=256).hash != other.hash
    read = rows.batches("resid.0", 64, seed=1)
    next(read)
    second = next(read)
    assert torch.equal(second, next(rows.batches("resid.0", 64, start_row=64, seed=1)))
    assert not torch.equal(second, next(rows.batches("resid.0", 64, start_row=64, seed=2)))
    held_out = list(rows.batches("resid.0", 64, seed=1, held_out=True))
    assert len(held_out) == 4 and not torch.equal(held_out[1], second)
    assert rows.width("resid.0") == second.shape[1] == 2
