"""Nouns: sites, features, names, estimates, and text made safe for a terminal."""

from __future__ import annotations

import math

import pytest

from glasshouse.types import Estimate, FeatureId, Site, UserError, check_name, plain


@pytest.mark.parametrize(
    ("text", "site"),
    [
        ("resid.6", Site("resid", 6)),
        ("embed", Site("embed")),
        ("logits", Site("logits")),
        ("pattern.0", Site("pattern", 0)),
        ("resid6/codes", Site("codes", dictionary="resid6")),
        ("gpt2-resid.6/1234", Site("1234", dictionary="gpt2-resid.6")),
        ("blocks.3.hook_resid_pre", Site("resid", 3)),
        ("blocks.3.hook_resid_post", Site("resid", 4)),
        ("blocks.3.attn.hook_z", Site("z", 3)),
        ("blocks.3.mlp.hook_post", Site("mlp_act", 3)),
        ("blocks.3.hook_resid_mid", Site("resid_mid", 3)),
        ("blocks.3.hook_mlp_in", Site("resid_mid", 3)),  # theirs is before the norm
    ],
)
def test_sites_are_read(text: str, site: Site) -> None:
    assert Site.parse(text) == site
    assert Site.parse(str(site)) == site


@pytest.mark.parametrize(
    "text",
    [
        "",
        "resid",
        "resid.x",
        "resid.-1",
        "embed.0",
        "blocks.1.hook_nothing",
        "a/b",
        "q.3",
        "a/²",
        "resid.²",
        "a/" + "1" * 5000,
        "resid." + "1" * 5000,
        "blocks." + "1" * 5000 + ".attn.hook_z",
    ],
)
def test_other_texts_are_no_sites(text: str) -> None:
    with pytest.raises(UserError, match="expected a site"):
        Site.parse(text)


def test_a_name_that_is_of_two_tensors_is_refused() -> None:
    with pytest.raises(UserError, match="lacks GPT-2's positions"):
        Site.parse("hook_embed")


def test_features_are_read() -> None:
    assert FeatureId.parse("demo-resid.2/17") == FeatureId("demo-resid.2", 17)
    assert str(FeatureId("resid6", 3)) == "resid6/3"
    for wrong in ("resid6", "resid6/", "resid6/x", "/3", "../up/3", "resid6/²", "resid6/" + "1" * 5000):
        with pytest.raises(UserError):
            FeatureId.parse(wrong)


@pytest.mark.parametrize("name", ["", "A", "-a", "a b", "../x", "a/b", "a" * 65, "a\n"])
def test_names_that_are_refused(name: str) -> None:
    with pytest.raises(UserError, match="expected a name"):
        check_name(name)


def test_wilson_by_hand() -> None:
    """10 of 100: the Wilson 95% interval is 0.0552 to 0.1744 (Wilson 1927)."""
    estimate = Estimate.proportion(10, 100)
    assert (estimate.value, round(estimate.low, 4), round(estimate.high, 4)) == (0.1, 0.0552, 0.1744)
    assert math.isclose(Estimate.proportion(0, 10).low, 0, abs_tol=1e-12)


def test_clustered_mean_by_hand() -> None:
    """Sums 1, 3 over counts 2, 2: ratio 1; residuals -1, 1; half = z·sqrt(2/1·2)/4 = z/2."""
    estimate = Estimate.mean([1, 3], [2, 2])
    assert estimate.value == 1.0 and estimate.n == 2
    assert math.isclose(estimate.high - estimate.value, 1.959964 / 2, rel_tol=1e-5)
    assert math.isinf(Estimate.mean([1], [2]).high)
    assert math.isnan(Estimate.mean([], []).value)


def test_control_sequences_are_inert() -> None:
    assert plain("a\x1b[31mred\x07\x9b2Jb\r") == "a�[31mred��2Jb�"
    assert plain("line\n\ttab é 漢") == "line\n\ttab é 漢"


def test_proportion_of_answers_in_clusters() -> None:
    """Clusters of one answer are Wilson's own, but for n / (n − 1); answers given twice count once; all in 0 to 1."""
    alone, twice = [1] * 97 + [0] * 3, [2] * 97 + [0] * 3
    plain, found = Estimate.proportion(97, 100), Estimate.clustered_proportion(alone, [1] * 100)
    assert found.value == 0.97 and found.n == 100
    assert math.isclose(found.low, plain.low, abs_tol=5e-4) and math.isclose(found.high, plain.high, abs_tol=5e-4)
    again = Estimate.clustered_proportion(twice, [2] * 100)
    assert math.isclose(again.low, found.low) and math.isclose(again.high, found.high) and again.high < 1
    all_right = Estimate.clustered_proportion([2] * 30, [2] * 30)
    assert all_right.high == 1 and math.isclose(all_right.low, Estimate.proportion(30, 30).low)
    half_each = Estimate.clustered_proportion([1] * 30, [2] * 30)  # no spread is seen: as of sixty answers
    assert math.isclose(half_each.low, Estimate.proportion(30, 60).low)
    for few in (Estimate.clustered_proportion([1], [2]), Estimate.clustered_proportion([], [])):
        assert (few.low, few.high) == (0.0, 1.0)
