"""Sequences of sites from files, and transforms of their sites."""

import gzip

import numpy as np
import pytest
import torch

from energeia.core.errors import InputError
from energeia.data import Affine, EachSite, GaussianNoise, Sequences

WORDS = ("ab", "c", "bca", "ac", "b", "cab")
FOLDS = (0, 1, 1, 0, 2, 1)


def _sites(num=12):
    return np.random.default_rng(0).integers(0, 2, (num, 16, 8)).astype(np.uint8)


def _npz(path, **changes):
    x = _sites()
    y = np.array([ord(letter) - ord("a") for word in WORDS for letter in word])
    arrays = {"x": x, "y": y, "lengths": np.array([len(word) for word in WORDS]), "fold": np.array(FOLDS), **changes}
    arrays = {name: value for name, value in arrays.items() if value is not None}
    np.savez(path, **arrays)
    return str(path)


def _lines():
    x = iter(_sites().reshape(-1, 128))
    lines = []
    for number, (word, fold) in enumerate(zip(WORDS, FOLDS, strict=True)):
        for place, letter in enumerate(word):
            following = -1 if place + 1 == len(word) else len(lines) + 2
            cells = [len(lines) + 1, letter, following, number, place + 1, fold, *next(x)]
            lines.append("\t".join(map(str, cells)) + "\t")
    return lines


def _source(path, **options):
    return Sequences(path, **{"validation_fraction": 0.25, "test_fraction": 0.25, **options})


def _told(path, **options):
    with pytest.raises(InputError) as raised:
        _source(path, **options).splits()
    return str(raised.value)


def test_words_are_padded_to_the_longest_and_dealt_out_by_their_fold(tmp_path):
    splits = _source(_npz(tmp_path / "a.npz"), test_fold=0, validation_fraction=0.0).splits()
    assert splits.validation is None
    sites = torch.from_numpy(_sites()).float()
    # Words 0 and 3 of fold 0: sites 0, 1 and 6, 7.
    expected = torch.full((2, 3, 16, 8), -1.0)
    expected[0, :2], expected[1, :2] = sites[:2], sites[6:8]
    torch.testing.assert_close(splits.test.x, expected)
    assert splits.test.y.tolist() == [[0, 1, -1], [0, 2, -1]]
    assert splits.train.y.tolist() == [[2, -1, -1], [1, 2, 0], [1, -1, -1], [2, 0, 1]]
    torch.testing.assert_close(splits.train.x[3], sites[9:])


def test_the_published_file_packed_bits_and_plain_arrays_are_the_same_words(tmp_path):
    plain = _source(_npz(tmp_path / "a.npz"), test_fold=0).splits()
    packed = np.packbits(_sites().reshape(-1, 128), axis=1)
    bits = _npz(
        tmp_path / "bits.npz",
        x=packed,
        n_features=np.array(128),
        lengths=None,
        word_len=np.array([len(word) for word in WORDS], np.uint8),
    )
    letters = tmp_path / "letter.data"
    letters.write_text("\n".join(_lines()) + "\n")
    zipped = tmp_path / "letter.data.gz"
    zipped.write_bytes(gzip.compress(letters.read_bytes()))
    for path in (bits, str(letters), str(zipped)):
        source = _source(path, site_shape=(16, 8), alphabet="abc", test_fold=0)
        for one, other in zip(plain[:3], source.splits()[:3], strict=True):
            torch.testing.assert_close(one.x, other.x)
            assert torch.equal(one.y, other.y)
        assert source.class_names == ("a", "b", "c")
        assert source.event_shape == (3, 16, 8)
    assert _source(_npz(tmp_path / "a.npz"), test_fold=0).class_names is None


def test_an_alphabet_numbers_letters_that_do_not_all_occur(tmp_path):
    path = tmp_path / "letter.data"
    path.write_text("\n".join(_lines()))
    source = _source(str(path), alphabet="xcba", test_fold=0)
    assert source.num_classes == 4
    assert source.splits().test.y.tolist() == [[3, 2, -1], [3, 1, -1]]
    assert _source(str(path), test_fold=0).class_names == ("a", "b", "c")


def test_another_file_is_read_in_its_order_with_labels_or_without(tmp_path):
    source = _source(_npz(tmp_path / "a.npz"), alphabet="abc", test_fold=0)
    one = source.read(_npz(tmp_path / "b.npz", fold=None), (9, 16, 8))
    assert [[int(label) for label in row if label >= 0] for row in one.y] == [
        [ord(letter) - ord("a") for letter in word] for word in WORDS
    ]
    assert one.x.shape == (6, 3, 16, 8)
    bare = source.read(_npz(tmp_path / "c.npz", y=None, fold=None), (9, 16, 8))
    assert bare.y is None
    torch.testing.assert_close(bare.x, one.x)
    with pytest.raises(InputError, match=r"sites have shape \(16, 8\), the model takes \(5,\)"):
        source.read(_npz(tmp_path / "b.npz"), (9, 5))


WRONG = [
    ({"lengths": np.array([2, 1, 3, 2, 1, 1])}, {}, "x has 12 sites, but the lengths add up to 10"),
    ({"lengths": np.array([2, 1, 3, 2, 0, 4])}, {}, "sequence 4 is empty"),
    ({"lengths": None}, {}, "sequences need x [sites, *features], lengths [N]"),
    ({"y": np.arange(10)}, {}, "y has shape (10,), expected [12]"),
    ({"y": None}, {}, "has no labels y"),
    ({"y": np.full(12, 1.5)}, {}, "y has dtype float64; expected whole numbers"),
    ({}, {"alphabet": "ab"}, "site 2 has label 2, but labels must lie in 0..1, the places in the alphabet 'ab'"),
    ({}, {"test_fold": 7}, "test_fold=7 must be one of several folds; the folds there are 0, 1, 2"),
    ({"fold": None}, {"test_fold": 0}, "has no array fold"),
    ({}, {"site_shape": (10, 10)}, "a site has 128 features (16, 8), which do not fill site_shape=(10, 10)"),
    ({"x": np.full((12, 4), -1.0)}, {}, "all features of site 0 are -1, the padding"),
    ({"x": np.full((12, 4), np.nan)}, {}, "NaN or infinite"),
    ({"x": np.zeros((12, 4), np.uint8), "n_features": np.array(40)}, {}, "40 bits do not fill 4 bytes"),
]


@pytest.mark.parametrize(("changes", "options", "told"), WRONG, ids=[told for *_, told in WRONG])
def test_what_is_no_file_of_sequences_is_told(tmp_path, changes, options, told):
    assert told in _told(_npz(tmp_path / "a.npz", **changes), **options)


WRONG_LINES = [
    (lambda lines: [*lines[:3], lines[3].rsplit("\t", 3)[0], *lines[4:]], "line 4: has 132 columns"),
    (lambda lines: [lines[0][:-3] + "\t7\t", *lines[1:]], "line 1: pixels must be 0 or 1"),
    (lambda lines: lines[:-1], "ends within a word"),
    (lambda lines: [lines[0].replace("\t2\t", "\ttwo\t", 1), *lines[1:]], "next_id and fold must be whole numbers"),
    (lambda lines: [], "holds no letters"),
]


@pytest.mark.parametrize(("change", "told"), WRONG_LINES, ids=[told for _, told in WRONG_LINES])
def test_a_broken_file_of_letters_is_told(tmp_path, change, told):
    path = tmp_path / "letter.data"
    path.write_text("\n".join(change(_lines())))
    assert told in _told(str(path))


def test_a_file_that_is_not_there_or_of_another_kind_is_told(tmp_path):
    assert "there is no such file" in _told(str(tmp_path / "no.npz"))
    assert "is no file of sequences" in _told(str(tmp_path / "a.csv"))
    (tmp_path / "letter.data.gz").write_bytes(b"no gzip")
    assert "cannot be read as text" in _told(str(tmp_path / "letter.data.gz"))


def test_each_site_is_moved_alone_and_what_is_not_there_stays():
    x = torch.rand(3, 4, 16, 8, generator=torch.Generator().manual_seed(0))
    x[1, 2:] = -1.0
    move = Affine(rotation_degrees=10, translation=2)
    moved = EachSite(move)(x, torch.Generator().manual_seed(1))
    there = torch.tensor([4, 2, 4]).unsqueeze(1) > torch.arange(4)
    expected = move(x[there].unsqueeze(1), torch.Generator().manual_seed(1)).squeeze(1)
    torch.testing.assert_close(moved[there], expected)
    assert bool((moved[~there] == -1).all())
    vectors = torch.rand(2, 3, 5, generator=torch.Generator().manual_seed(0))
    noisy = EachSite(GaussianNoise(0.5))(vectors, torch.Generator().manual_seed(1))
    flat = GaussianNoise(0.5)(vectors.flatten(0, 1), torch.Generator().manual_seed(1))
    torch.testing.assert_close(noisy.flatten(0, 1), flat)
