"""The study: what is run, resumed, compared and said."""

import dataclasses
import json

import numpy as np
import pytest
from PIL import Image

from reverie.errors import InputError, UnknownNameError
from reverie.generators.seed_images import built_in_seeds
from reverie.study.arms import ARMS, CAREFUL
from reverie.study.bars import check_bars
from reverie.study.design import GENERATORS, PARTS, Design, Trial, known_pictures
from reverie.study.run import read_results, run_study
from reverie.study.statistics import compared, estimate, grouped
from reverie.study.tables import as_json, as_markdown

# ----------------------------------------------------------------------------------------- design


def test_development_and_held_out_share_no_seed():
    """Nor, but for one, a generator: what is reported was not used for choosing."""
    development, held_out = PARTS["development"], PARTS["held-out"]
    seeds = [set(range(each.first_seed, each.first_seed + each.seeds)) for each in (development, held_out)]
    assert not seeds[0] & seeds[1]
    assert held_out.seeds >= 16
    assert set(development.generators) & set(held_out.generators) == {"patches-50"}
    assert {name for part in PARTS.values() for name in part.generators} <= set(GENERATORS)


def test_every_arm_of_a_loop_has_the_same_start_and_pictures():
    """By the seed alone; fewer pictures are the first of more."""
    seeds = built_in_seeds(64)
    trials = [Trial(arm, "patches-50", 3, 7) for arm in ("none", "wander")]
    first, second = (known_pictures(trial, seeds) for trial in trials)
    assert all(np.array_equal(a, b) for a, b in zip(first, second, strict=True))
    more = known_pictures(dataclasses.replace(trials[0], pictures=24), seeds)
    assert all(np.array_equal(a, b) for a, b in zip(first, more, strict=False))
    assert trials[0].order(24) != dataclasses.replace(trials[0], seed=8).order(24)
    assert sorted(trials[0].order(24)) == list(range(24))


def test_the_trials_of_a_design():
    """Arms of the same loop after another; what needs seed pictures is left out where there are none."""
    design = Design("development", arms=("none", "control"), pictures=(3, 0), seeds=2)
    names = [(each.generator, each.pictures, each.arm, each.seed) for each in design.trials()]
    assert names[:3] == [
        ("patches-50", 3, "none", 1000),
        ("patches-50", 3, "control", 1000),
        ("patches-50", 0, "none", 1000),
    ]
    assert len(names) == len(set(names)) == 2 * 2 * 3
    assert len({each.name for each in design.trials()}) == 12


def test_an_arm_that_knows_no_seed_picture_is_one_loop_for_all_numbers(tmp_path):
    """Run once, and its result stands at every number of pictures; an arm that knows them is not."""
    design = Design("development", ("none", "reheat", "control"), ("latent-50",), (3, 1), seeds=1, frames=4)
    assert {each.arm: each.same_loop() == each for each in design.trials()} == {
        "none": False,
        "reheat": False,
        "control": True,
    }
    said = []
    results = run_study(design, tmp_path, processes=1, on_progress=said.append)
    assert (said[-1].done, said[-1].total) == (4, 4)
    assert len(list((tmp_path / "trials").glob("*.json"))) == 4
    groups = grouped(results)
    for arm in ("none", "reheat"):
        assert groups["latent-50", 3][arm] == groups["latent-50", 1][arm]


@pytest.mark.parametrize(
    ("wrong", "error"),
    [
        ({"part": "all"}, UnknownNameError),
        ({"arms": ("best",)}, UnknownNameError),
        ({"generators": ("sd",)}, UnknownNameError),
        ({"arms": ()}, InputError),
        ({"frames": 1}, InputError),
        ({"seeds": 0}, InputError),
        ({"pictures": (25,)}, InputError),
    ],
)
def test_a_wrong_design_is_refused(wrong, error):
    """When it is made."""
    with pytest.raises(error):
        Design(**wrong)


def test_the_control_has_our_transition_and_cap():
    """It differs in what it goes to and when, in nothing else."""
    assert ARMS["control"].policy.transition == ARMS["wander"].policy.transition == CAREFUL
    assert ARMS["restart"].policy.transition.cap is None
    assert ARMS["dream-gen-capped"].cap == CAREFUL.cap
    assert ARMS["dream-gen"].cap is None


# ------------------------------------------------------------------------------------------- runs


@pytest.fixture(scope="module")
def small(tmp_path_factory):
    """A study of three arms and two short loops, run in two processes: folder, design, results, progress."""
    folder = tmp_path_factory.mktemp("study")
    design = Design(
        "development", ("none", "control", "wander"), ("latent-50",), pictures=(3,), seeds=2, frames=24
    )
    said = []
    results = run_study(design, folder, processes=2, on_progress=said.append)
    return folder, design, results, said


def test_a_study_leaves_a_file_and_a_strip_for_each_loop(small):
    """With all figures, in the order of the design."""
    folder, design, results, said = small
    trials = list(design.trials())
    assert [result["trial"] for result in results] == [dataclasses.asdict(trial) for trial in trials]
    assert sorted(path.name for path in (folder / "trials").iterdir()) == sorted(
        f"{trial.same_loop().name}.{kind}" for trial in trials for kind in ("json", "png")
    )
    with Image.open(folder / "trials" / f"{trials[0].same_loop().name}.png") as strip:
        assert strip.size == (24 * 64, 64)
    assert [each.done for each in said] == list(range(7))
    for result in results:
        assert all(np.isfinite(value) for value in result["figures"].values())
        assert result["figures"]["vendi"] >= 1
    capped = [each["figures"]["largest_step"] for each in results if each["trial"]["arm"] != "none"]
    assert max(capped) <= 0.2 + 1e-4


def test_a_loop_is_the_same_in_any_process(small, tmp_path):
    """Alone, in another folder: the same figures, but for times."""
    _, design, results, _ = small
    one = dataclasses.replace(design, arms=("wander",), seeds=1)
    (again,) = run_study(one, tmp_path, processes=1)
    (first,) = [each for each in results if each["trial"] == again["trial"]]
    clock = {"seconds", "decide_ms"}
    assert {k: v for k, v in again["figures"].items() if k not in clock} == {
        k: v for k, v in first["figures"].items() if k not in clock
    }


def test_a_study_goes_on_where_it_stopped(small):
    """What is there is not run again; what was deleted is; a damaged file is named."""
    folder, design, results, _ = small
    trials, said = list(design.trials()), []
    assert run_study(design, folder, on_progress=said.append) == results
    assert [(each.trial, each.done) for each in said] == [(None, 6)]
    path = folder / "trials" / f"{trials[3].same_loop().name}.json"
    before = path.read_bytes()
    path.write_text("{")
    with pytest.raises(InputError, match="is no result of a trial: delete it"):
        read_results(folder, trials)
    path.write_bytes(before)
    with pytest.raises(InputError, match="processes must be at least 1"):
        run_study(design, folder, processes=0)


def test_the_table_says_what_was_measured(small):
    """Each arm with its figures, the part by name, and the checks that can be made."""
    _, design, results, _ = small
    text = as_markdown(results, design.as_dict())
    assert "Part: **development**. 24 frames a loop, 2 loops an arm." in text
    assert "## latent-50, 3 seed pictures known" in text
    rows = [line for line in text.splitlines() if line.startswith(("| none ", "| control ", "| wander "))]
    assert len(rows) == 3
    assert "## What memory has to prove" in text
    record = as_json(results, design.as_dict())
    assert record["design"]["part"] == "development"
    assert len(record["trials"]) == 6
    assert {each["arm"] for each in record["summary"]} == {"none", "control", "wander"}
    json.dumps(record)


# ------------------------------------------------------------------------------------- statistics


def test_an_estimate_has_an_interval():
    """About two standard errors to each side; repeatable; none of a single value."""
    values = np.random.default_rng(0).normal(5, 2, 64)
    found = estimate(values)
    assert found.value == pytest.approx(values.mean())
    assert found.high - found.low == pytest.approx(4 * values.std() / 8, rel=0.1)
    assert found.low < found.value < found.high
    assert estimate(values) == found
    assert estimate([3.0]).low == estimate([3.0]).high == 3.0
    assert np.isnan(estimate([]).value)


def test_pairs_are_compared_seed_by_seed():
    """What varies in both alike does not blur the ratio; seeds that one lacks are left out."""
    base = np.random.default_rng(1).uniform(1, 9, 16)
    theirs = dict(enumerate(base))
    ours = {seed: 1.5 * value for seed, value in theirs.items()} | {99: 1000.0}
    found = compared(ours, theirs)
    assert (found.value, found.low, found.high, found.count) == (*(pytest.approx(1.5),) * 3, 16)
    assert np.isnan(compared({1: 2.0}, {2: 2.0}).value)
    assert np.isnan(compared({1: 2.0}, {1: 0.0}).value)
    assert compared({1: 2.0}, {1: 4.0}).value == 0.5


def figures(**given):
    """Of a loop that meets everything."""
    best = {"vendi": 20.0, "last": 12.0, "judge_vendi": 30.0, "judge_last": 16.0, "replay": 0.01}
    return {**best, "novel": 0.9, "stuck": 0.0, "blends": 0.0, "largest_step": 0.2, **given}


def results(ours, theirs, generator="patches-35", pictures=3, other="control"):
    """Two loops of each of two arms."""
    return [
        {
            "trial": {"arm": arm, "generator": generator, "pictures": pictures, "seed": seed},
            "figures": found,
        }
        for arm, found in (("wander", ours), (other, theirs))
        for seed in (0, 1)
    ]


WEAK = figures(vendi=10.0, last=6.0, judge_vendi=15.0, judge_last=8.0, novel=0.5)


def missed(*args, **kwargs):
    """What of the checks is not met."""
    return [bar.what for bar in check_bars(grouped(results(*args, **kwargs))) if not bar.met]


def test_the_bars_are_those_that_were_set():
    """Met by a loop that is good enough, and each missed by what falls below it."""
    assert missed(figures(), WEAK) == []
    assert missed(figures(largest_step=0.21), WEAK) == ["largest step"]
    assert missed(figures(blends=0.06, stuck=0.02), WEAK) == ["frames that are blends", "stuck windows"]
    assert missed(figures(replay=0.11), WEAK) == ["replay", "replay, less the control's"]
    assert missed(figures(novel=0.4), WEAK) == ["novel frames against control"]
    assert missed(figures(vendi=13.4), WEAK) == ["effective images against control"]
    assert missed(figures(last=8.9), WEAK) == ["effective images of the last 100 against control"]
    assert missed(figures(judge_last=10.7), WEAK) == [
        "effective images of the last 100, second descriptor against control"
    ]
    assert "effective images against control" in missed(figures(), figures(vendi=10.1), pictures=1)
    assert missed(figures(), figures(vendi=20.1), pictures=24) == ["effective images against control"]
    assert missed(figures(), figures(vendi=20.1), pictures=24, other="restart") == [
        "effective images against restart"
    ]
    assert missed(figures(), figures(vendi=13.4), pictures=24, other="dream-gen-capped") == [
        "effective images against dream-gen-capped"
    ]
    assert missed(figures(), figures(vendi=5.1), pictures=0, other="none") == [
        "effective images against none"
    ]
    assert missed(figures(), figures(vendi=5.1), "conv-50", pictures=0, other="none") == []
    travels = figures(vendi=19.7)  # twice of that is not asked of what travels by itself, 97 % is
    assert missed(figures(), travels, "latent-60", pictures=0, other="none") == []
    assert missed(figures(), figures(vendi=20.7), "latent-60", pictures=3, other="none") == [
        "effective images against none"
    ]


def test_both_descriptors_order_the_arms_alike():
    """Of the pairs that both tell apart; what only one of them tells apart, or neither, is no evidence."""
    assert missed(figures(), figures(judge_vendi=90.0, vendi=3.0, judge_last=1.0))[-1:] == [
        "pairs of arms that the second descriptor orders otherwise"
    ]
    agree = [bar for bar in check_bars(grouped(results(figures(), WEAK))) if "orders otherwise" in bar.what]
    assert [bar.met for bar in agree] == [True]
    same = check_bars(grouped(results(figures(), figures())))
    assert not [bar for bar in same if "orders otherwise" in bar.what]
