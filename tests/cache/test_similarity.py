"""Finding and choosing similar vectors: what is returned, in which order, and what is refused."""

import math
from collections import Counter

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from reverie.cache import similarity
from reverie.cache.similarity import BANDS, check_cut, describe_similarity, find_similar, weighted_choice
from reverie.errors import EmbeddingError, EncoderMismatchError, InputError
from reverie.vectors import EmbeddingSet, as_embedding

CHI_SQUARE_999 = {1: 10.83, 2: 13.82, 3: 16.27, 4: 18.47, 5: 20.52}  # exceeded by chance once in 1000
DIMENSIONS = 16  # coordinates of +-1/4: every dot product is a multiple of 1/8, exact in float32

signs = st.integers(0, 2**DIMENSIONS - 1)


def corner(bits):
    """A unit vector of coordinates +-1/4, as Python floats."""
    return [0.25 if bits >> place & 1 else -0.25 for place in range(DIMENSIONS)]


FORMS = {
    "list": lambda vector, scale: [scale * number for number in vector],
    "tuple": lambda vector, scale: tuple(scale * number for number in vector),
    "float64": lambda vector, scale: np.array(vector) * scale,
    "float32": lambda vector, scale: (np.array(vector) * scale).astype(np.float32),
    "float16": lambda vector, scale: (np.array(vector) * scale).astype(np.float16),
    "int": lambda vector, scale: (np.array(vector) * 4 * max(1, int(scale))).astype(np.int64),
    "embedding": lambda vector, _: as_embedding(vector),
    "none": lambda *_: None,
}


def naive(target, pairs, threshold, k):
    """The specification's four steps with plain loops over floats."""
    scored = []
    for name, vector in pairs:
        if vector is not None:
            lengths = math.sqrt(sum(a * a for a in target)) * math.sqrt(sum(b * b for b in vector))
            scored.append((name, sum(a * b for a, b in zip(target, vector, strict=True)) / lengths))
    kept = [match for match in scored if threshold is None or match[1] >= threshold]
    kept.sort(key=lambda match: -match[1])
    return kept if k is None else kept[:k]


def as_set(pairs, encoder=None):
    """Pairs as the cache hands them out."""
    matrix = np.array([vector for _, vector in pairs], dtype=np.float32)
    return EmbeddingSet(tuple(name for name, _ in pairs), matrix, encoder)


# -------------------------------------------------------------------------------- find_similar


@given(
    target=signs,
    candidates=st.lists(st.tuples(signs, st.sampled_from(sorted(FORMS)), st.sampled_from((0.5, 1.0, 8.0)))),
    threshold=st.one_of(st.none(), st.integers(-9, 9).map(lambda eighths: eighths / 8)),
    k=st.one_of(st.none(), st.integers(0, 12)),
)
def test_equals_a_loop_over_floats(target, candidates, threshold, k):
    """The same ids, cosines and order as a naive loop, for vectors of every form and length."""
    pairs = [
        (f"cache_{row:05d}", FORMS[form](corner(bits), scale))
        for row, (bits, form, scale) in enumerate(candidates)
    ]
    plain = [(name, None if vector is None else [float(x) for x in vector]) for name, vector in pairs]
    assert find_similar(corner(target), pairs, threshold, k) == naive(corner(target), plain, threshold, k)


@given(
    target=signs,
    bits=st.lists(st.integers(0, 255), min_size=1, max_size=400),
    threshold=st.one_of(st.none(), st.integers(-8, 8).map(lambda eighths: eighths / 8)),
    k=st.one_of(st.none(), st.integers(0, 8)),
)
def test_a_matrix_and_its_pairs_give_the_same(target, bits, threshold, k):
    """The cache's own matrix and the specification's list of tuples are two forms of one question."""
    pairs = [(str(row), corner(one)) for row, one in enumerate(bits)]
    found = find_similar(corner(target), as_set(pairs), threshold, k)
    assert found == find_similar(corner(target), pairs, threshold, k)
    assert found == naive(corner(target), pairs, threshold, k)


def test_many_ties_keep_their_input_order():
    """Past the size from which only a part is sorted, equal cosines still come in input order."""
    pairs = [(str(row), corner(0 if row % 3 else 1)) for row in range(900)]
    found = find_similar(corner(1), pairs, None, 5)
    assert [name for name, _ in found] == ["0", "3", "6", "9", "12"]
    assert find_similar(corner(1), pairs, None, 305) == naive(corner(1), pairs, None, 305)


def test_the_default_cut_is_the_specifications():
    """Threshold 0.7 and five matches unless told otherwise."""
    pairs = [(str(row), corner(2**row - 1)) for row in range(DIMENSIONS)]  # cosines 1, 7/8, 6/8, 5/8...
    assert find_similar(corner(0), pairs) == [("0", 1.0), ("1", 0.875), ("2", 0.75)]
    assert len(find_similar(corner(0), pairs * 4)) == 5


def test_the_threshold_is_inclusive_in_float32():
    """A cosine that is 0.7 as exactly as float32 can say it is found at threshold 0.7."""
    candidate = [0.7, math.sqrt(1 - 0.49)]
    assert find_similar([1.0, 0.0], [("a", candidate)], 0.7) == [("a", float(np.float32(0.7)))]
    assert find_similar([1.0, 0.0], [("a", candidate)], 0.7001) == []


def test_top_k_of_nothing_one_all_and_more():
    """A k of 0 takes none, 1 the best, None and a large k everything that reaches the threshold."""
    pairs = [("low", corner(3)), ("high", corner(1)), ("same", corner(0))]
    assert find_similar(corner(0), pairs, None, 0) == []
    assert find_similar(corner(0), pairs, None, 1) == [("same", 1.0)]
    assert find_similar(corner(0), pairs, None, np.int64(1)) == [("same", 1.0)]
    everything = [("same", 1.0), ("high", 0.875), ("low", 0.75)]
    assert find_similar(corner(0), pairs, None, None) == everything
    assert find_similar(corner(0), pairs, None, 10**9) == everything


@pytest.mark.parametrize(
    "candidates",
    [
        [],
        (),
        iter(()),
        [("a", None)],
        [("a", None), ("b", None)],
        EmbeddingSet((), np.empty((0, 0), np.float32)),
        EmbeddingSet((), np.empty((0, 16), np.float32), "descriptor-v1"),
    ],
    ids=["list", "tuple", "iterator", "one None", "two None", "no matrix", "no rows"],
)
def test_nothing_to_compare_gives_nothing(candidates):
    """No candidates, or only entries without embedding: an empty list, no error."""
    assert find_similar(corner(0), candidates, None, None) == []


def test_entries_without_embedding_are_passed_over():
    """None among the candidates counts for nothing and moves nobody's place."""
    pairs = [("a", None), ("b", corner(0)), ("c", None), ("d", corner(0))]
    assert find_similar(corner(0), pairs) == [("b", 1.0), ("d", 1.0)]


def test_candidates_may_come_from_an_iterator():
    """Pairs are taken one after the other; a generator expression will do."""
    pairs = ((str(bits), corner(bits)) for bits in range(3))
    assert [name for name, _ in find_similar(corner(0), pairs, None)] == ["0", "1", "2"]


def test_a_matrix_is_used_without_copying(monkeypatch):
    """What is multiplied is the cache's matrix itself."""
    multiplied = []
    product = similarity.similarities
    monkeypatch.setattr(
        similarity,
        "similarities",
        lambda matrix, target: multiplied.append(matrix) or product(matrix, target),
    )
    table = as_set([("a", corner(0)), ("b", corner(1))])
    find_similar(corner(0), table)
    assert multiplied[0] is table.matrix


def test_an_embedding_is_used_without_copying(monkeypatch, unit):
    """A target that is a unit vector already goes into the product as it is."""
    multiplied = []
    product = similarity.similarities
    monkeypatch.setattr(
        similarity,
        "similarities",
        lambda matrix, target: multiplied.append(target) or product(matrix, target),
    )
    target = as_embedding(unit()[0])
    find_similar(target, as_set([("a", unit()[0])]))
    assert multiplied[0] is target


def test_cosines_are_python_floats_in_bounds():
    """What comes back can go into JSON, and rounding never takes a cosine out of [-1, 1]."""
    rows = np.random.default_rng(3).standard_normal((50, 512))
    for row in rows:
        ((name, same),) = find_similar(row, [("a", row)])
        assert (name, type(same)) == ("a", float)
        assert 0.999999 < same <= 1.0
        assert find_similar(row, [("a", -row)], None)[0][1] >= -1.0


def test_the_candidates_are_left_as_they_were():
    """Vectors that are not of unit length are normalised in a copy."""
    vector = np.array([3.0, 4.0])
    find_similar([1, 0], [("a", vector)])
    assert vector.tolist() == [3.0, 4.0]


def test_vectors_of_any_length_are_compared_by_direction():
    """Huge, tiny and slightly-off vectors give the cosine of their directions."""
    pairs = [("huge", [3e300, 4e300]), ("tiny", [3e-300, 4e-300]), ("plain", [0.6, 0.8])]
    found = find_similar([3, 4], pairs, None)
    assert found == [(name, pytest.approx(1.0, abs=1e-6)) for name in ("huge", "tiny", "plain")]
    assert find_similar([1, 0], [("a", [1.00004, 0.0])]) == [("a", 1.0)]


def test_a_part_of_an_embedding_is_normalised_again(unit):
    """A slice of an embedding is still called one, but is no unit vector: its own length counts."""
    whole = as_embedding(unit(1, 32)[0], encoder="tiny")
    part = whole[:16]
    assert find_similar(part, [("same", np.asarray(part))]) == [("same", pytest.approx(1.0, abs=1e-6))]
    assert find_similar(part, as_set([("same", as_embedding(part))], "tiny"))[0][1] == pytest.approx(1.0)


@pytest.mark.parametrize(
    "bad",
    [
        [math.nan] + [0.25] * 15,
        [math.inf] + [0.25] * 15,
        [0.0] * 16,
        [0.25] * 15,
        [],
        [[0.25] * 16],
        0.5,
        "a text",
        ["0.25"] * 16,
        [True] * 16,
        [None] * 16,
        object(),
        [1j] * 16,
    ],
    ids=[
        "NaN",
        "inf",
        "zero",
        "short",
        "empty",
        "nested",
        "number",
        "text",
        "texts",
        "bools",
        "nones",
        "object",
        "complex",
    ],
)
def test_a_bad_candidate_is_named(bad):
    """The error says which entry holds the bad vector, wherever it stands."""
    for pairs in ([("good", corner(0)), ("cache_00007", bad)], [("cache_00007", bad), ("good", corner(0))]):
        with pytest.raises(EmbeddingError, match=r"'cache_00007'|'good' has 16 numbers"):
            find_similar(corner(0), pairs)
    with pytest.raises(EmbeddingError, match=r"'cache_00007'|target"):
        find_similar(corner(0), [("cache_00007", bad)])


@pytest.mark.parametrize("candidates", [None, 5, [5], [("a", [1.0], 2)], {"ab": [1.0], "c": [1.0]}], ids=str)
def test_candidates_are_pairs(candidates):
    """What is no list of pairs is an error of ours, for the search and for the choice."""
    with pytest.raises(InputError, match="candidates must be pairs"):
        find_similar(corner(0), candidates)
    if candidates is not None:  # nothing was found
        with pytest.raises(InputError, match="candidates must be pairs"):
            weighted_choice(candidates, np.random.default_rng(0))


@pytest.mark.parametrize("bad", [[math.nan] * 16, [0.0] * 16, [], "text", None, [[1.0]]], ids=str)
@pytest.mark.parametrize("candidates", [[("a", corner(0))], []], ids=["one candidate", "no candidates"])
def test_a_bad_target_is_refused(bad, candidates):
    """A target without direction is an error whether or not there is anything to compare it with."""
    with pytest.raises(EmbeddingError, match="target embedding"):
        find_similar(bad, candidates)


def test_a_target_of_another_length_is_refused():
    """Both forms of candidates say how long the vectors are."""
    for candidates in ([("a", corner(0))], as_set([("a", corner(0))])):
        with pytest.raises(EmbeddingError, match="target embedding has 3 numbers, but 16 were expected"):
            find_similar([1, 2, 3], candidates)


def test_encoders_are_never_mixed():
    """Two encoders in one comparison are refused, and the error names both."""
    clip, tiny = as_embedding(corner(0), encoder="clip"), as_embedding(corner(1), encoder="tiny")
    mixed = [
        (clip, [("a", tiny)]),
        (clip, [("a", as_embedding([1.0, 2.0], encoder="tiny"))]),
        (clip, as_set([("a", corner(1))], "tiny")),
        (clip, EmbeddingSet((), np.empty((0, 0), np.float32), "tiny")),
        (corner(0), [("a", clip), ("b", tiny)]),
        (corner(0), [("a", clip), ("b", [3.0] * 16), ("c", tiny)]),
    ]
    for target, candidates in mixed:
        with pytest.raises(EncoderMismatchError, match="'clip' and 'tiny'"):
            find_similar(target, candidates)


def test_vectors_of_unknown_origin_may_meet_any_encoder():
    """A vector without stamp is comparable with everything of its length."""
    clip = as_embedding(corner(0), encoder="clip")
    assert find_similar(corner(0), [("a", clip), ("b", corner(0))]) == [("a", 1.0), ("b", 1.0)]
    assert find_similar(clip, [("a", corner(0))]) == [("a", 1.0)]
    assert find_similar(corner(0), as_set([("a", corner(0))], "clip")) == [("a", 1.0)]
    assert find_similar(clip, as_set([("a", corner(0))])) == [("a", 1.0)]


@pytest.mark.parametrize("k", [-1, 1.5, "5", True, np.int64(-2)], ids=repr)
def test_top_k_is_a_whole_number_of_at_least_0(k):
    """Anything else is refused, with candidates and without."""
    for candidates in ([("a", corner(0))], []):
        with pytest.raises(InputError, match="top_k must be a whole number"):
            find_similar(corner(0), candidates, 0.7, k)


def test_a_threshold_that_is_not_a_number_is_refused():
    """NaN would silently let nothing through."""
    with pytest.raises(InputError, match="threshold is NaN"):
        find_similar(corner(0), [("a", corner(0))], math.nan)
    with pytest.raises(InputError, match="threshold is NaN"):
        check_cut(math.nan, 5)
    for wrong in ([1], "x", 10**400):
        with pytest.raises(InputError, match="threshold must be a cosine in"):
            find_similar(corner(0), [("a", corner(0))], wrong)


# ------------------------------------------------------------------------- weighted selection


def draws(candidates, count=4000, seed=1, temperature=None):
    """How often each id is chosen."""
    rng = np.random.default_rng(seed)
    return Counter(weighted_choice(candidates, rng, temperature) for _ in range(count))


def chi_square(candidates, shares, **options):
    """Pearson's statistic of the draws against the shares they should have."""
    counted = draws(candidates, **options)
    assert set(counted) <= {name for name, _ in candidates}
    total = sum(counted.values())
    expected = [share / sum(shares) * total for share in shares]
    return sum(
        (counted[name] - wanted) ** 2 / wanted
        for (name, _), wanted in zip(candidates, expected, strict=True)
        if wanted
    )


def test_probability_is_proportional_to_similarity():
    """The specification: higher similarity, higher probability, in proportion."""
    candidates = [("a", 0.9), ("b", 0.3), ("c", 0.6), ("d", 0.1)]
    assert chi_square(candidates, [0.9, 0.3, 0.6, 0.1]) < CHI_SQUARE_999[3]
    assert chi_square(candidates, [1, 1, 1, 1]) > 10 * CHI_SQUARE_999[3]


def test_negative_similarities_weigh_nothing():
    """They are never chosen while anything else is there, and take nothing from the others' shares."""
    candidates = [("minus", -0.9), ("a", 0.2), ("zero", 0.0), ("b", 0.6), ("last", -1.0)]
    assert set(draws(candidates)) == {"a", "b"}
    assert chi_square(candidates, [0, 0.2, 0, 0.6, 0]) < CHI_SQUARE_999[1]


@pytest.mark.parametrize("scores", [(0.0, 0.0, 0.0), (-0.1, -0.9, -0.5), (0.0, -0.5, -0.0)], ids=str)
def test_all_are_equal_when_nothing_weighs_anything(scores):
    """All zero or negative: every candidate has the same chance."""
    candidates = list(zip("abc", scores, strict=True))
    assert chi_square(candidates, [1, 1, 1]) < CHI_SQUARE_999[2]


def test_temperature_weighs_exponentially():
    """With a temperature the weight is exp(similarity / temperature), negative ones included."""
    scores = [0.9, 0.7, -0.2]
    candidates = list(zip("abc", scores, strict=True))
    shares = [math.exp(score / 0.5) for score in scores]
    assert chi_square(candidates, shares, temperature=0.5) < CHI_SQUARE_999[2]
    assert chi_square(candidates, [1, 1, 1], temperature=1e9) < CHI_SQUARE_999[2]
    assert set(draws(candidates, 200, temperature=1e-6)) == {"a"}
    assert set(draws(candidates, 200, temperature=1e-320)) == {"a"}


def test_a_single_candidate_is_chosen():
    """Whatever it weighs."""
    for score in (1.0, 1e-300, 0.0, -1.0):
        assert set(draws([("only", score)], 20)) == {"only"}


def test_no_candidates_give_none_and_draw_nothing():
    """None, and the randomness is where it was."""
    rng = np.random.default_rng(4)
    assert weighted_choice([], rng) is None
    assert rng.random() == np.random.default_rng(4).random()


def test_one_number_is_drawn_a_choice():
    """So that a loop's randomness does not depend on what was found."""
    rng, other = np.random.default_rng(4), np.random.default_rng(4)
    weighted_choice([("a", 0.5), ("b", 0.5)], rng)
    other.random()
    assert rng.random() == other.random()


class TopDraw:
    """A generator whose draw is as high as rounding allows, or higher."""

    def random(self):
        """One."""
        return 1.0


def test_a_draw_at_the_very_end_takes_the_last_that_weighs_anything():
    """Rounding can leave a rest of the draw: it belongs to the last candidate with a weight."""
    assert weighted_choice([("a", 0.1), ("b", 0.2), ("zero", 0.0)], TopDraw()) == "b"


def test_ids_may_be_anything():
    """Ids are handed through as they are."""
    assert weighted_choice([(("run", 7), 0.9)], np.random.default_rng(0)) == ("run", 7)


@pytest.mark.parametrize("score", [math.nan, math.inf, -math.inf])
def test_a_similarity_that_is_no_number_is_refused(score):
    """It cannot weigh a choice."""
    with pytest.raises(InputError, match="NaN or infinite"):
        weighted_choice([("a", 0.5), ("b", score)], np.random.default_rng(0))


def test_similarities_that_cannot_be_added_up_are_refused():
    """Finite each, but not their sum; nor a whole number that is no float."""
    with pytest.raises(InputError, match=r"1e\+308 are too large"):
        weighted_choice([("a", 1e308), ("b", 1e308)], np.random.default_rng(0))
    with pytest.raises(InputError, match="too large"):
        weighted_choice([("a", 10**400)], np.random.default_rng(0))


@pytest.mark.parametrize("temperature", [0, 0.0, -1.0, math.nan, "x", [1.0]])
def test_a_temperature_is_above_zero(temperature):
    """Zero, negative, NaN and what is no number are refused."""
    with pytest.raises(InputError, match=r"temperature .* above 0"):
        weighted_choice([("a", 0.5)], np.random.default_rng(0), temperature)


# ------------------------------------------------------------------------------------- bands


@pytest.mark.parametrize(
    ("similarity", "words"),
    [
        (1.0, "nearly identical"),
        (0.9, "nearly identical"),
        (0.8999, "very similar (same subject, pose)"),
        (0.8, "very similar (same subject, pose)"),
        (0.7999, "similar aesthetic (good for injection)"),
        (0.7, "similar aesthetic (good for injection)"),
        (0.6999, "related style"),
        (0.6, "related style"),
        (0.5999, "different aesthetic"),
        (0.0, "different aesthetic"),
        (-1.0, "different aesthetic"),
    ],
)
def test_the_specifications_five_bands(similarity, words):
    """Each band starts at its lowest similarity, inclusive."""
    assert describe_similarity(similarity) == words


@pytest.mark.parametrize("lowest", [lowest for lowest, _ in BANDS[:-1]])
def test_a_band_and_a_threshold_agree(lowest):
    """What `find_similar` lets through at a band's lowest similarity is described by that band."""
    ((_, found),) = find_similar([1.0, 0.0], [("a", [lowest, math.sqrt(1 - lowest**2)])], lowest)
    assert describe_similarity(found) == dict(BANDS)[lowest]


def test_a_similarity_that_is_nan_has_no_words():
    """NaN belongs to no band."""
    with pytest.raises(InputError, match="NaN"):
        describe_similarity(math.nan)
    for wrong in ("x", None, [0.5]):
        with pytest.raises(InputError, match="the similarity must be a number"):
            describe_similarity(wrong)
