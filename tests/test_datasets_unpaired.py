"""Pictures of two domains without partners: layouts, independent order, known truth, errors."""

import warnings

import numpy as np
import pytest
from picture_pairs import batches, equal, fill, fill_partners, negative, pixels, save

from keras_gan import UsageError, data_record, datasets


def quiet(path, **options):
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        return datasets.open("unpaired", path=path, **options)


@pytest.fixture(scope="module")
def domains(tmp_path_factory):
    """20 and 13 training pictures, 4 pairs of test pictures."""
    path = tmp_path_factory.mktemp("domains")
    fill(path / "trainA", 20, seed=100)
    fill(path / "trainB", 13, seed=200)
    fill_partners(path / "testA", path / "testB", 4, ("jpg", "png"), seed=300)
    return path


def test_domains_of_other_counts(domains):
    source = quiet(domains)
    assert source.field_counts() == {"samples": 13, "condition": 20}
    assert source.field_counts("held_out") == {"samples": 4, "condition": 4}
    assert source.description == (
        f"unpaired: 20 + 4 of A and 13 + 4 of B from {domains}, a_to_b (input: trainA, target: "
        "trainB), as 16x16x3; splits: train, test; held-out pictures are partners by their names"
    )
    swapped = quiet(domains, direction="b_to_a")
    assert "b_to_a (input: trainB, target: trainA)" in swapped.description
    assert swapped.field_counts() == {"samples": 20, "condition": 13}
    one, other = source.field_arrays(), swapped.field_arrays()
    assert np.array_equal(one["condition"], other["samples"])


def test_held_out_pictures_of_equal_names_are_true_pairs(domains):
    source = quiet(domains)
    assert source.paired
    rows = source.field_arrays("held_out")
    loss = np.abs(rows["condition"].astype(int) + rows["samples"] - 255).mean(axis=(1, 2, 3))
    assert (loss < 80).all()  # JPEG of noise; another partner is 85 away on average
    assert np.array_equal(rows["samples"][2], negative(pixels(302)))
    batch = next(iter(source.dataset("held_out", 4)))
    difference = np.abs(batch["condition"].numpy() + batch["samples"].numpy()).mean()
    assert difference < 80 / 127.5


def test_held_out_pictures_of_other_names_are_no_pairs(tmp_path):
    names = (("trainA", 0), ("trainB", 0), ("testA", 0), ("testB", 2))
    for number, (name, first) in enumerate(names):
        fill(tmp_path / name, 3, first=first, seed=100 * number)
    source = quiet(tmp_path)
    assert not source.paired
    assert "held-out pictures have no partners" in source.description


def test_conditions_and_samples_are_drawn_independently(domains):
    """junyanz/pytorch-CycleGAN-and-pix2pix #88: in every epoch each picture is seen once."""
    source = quiet(domains, flip=False)
    stored = {
        name: {source.values(value, name).tobytes(): row for row, value in enumerate(array)}
        for name, array in source.field_arrays().items()
    }
    # 20 batches of 13 are 13 epochs of the conditions and 20 of the samples.
    order = {"condition": [], "samples": []}
    for batch in batches(source, 20, 13):
        for name, seen in order.items():
            seen += [stored[name][value.numpy().tobytes()] for value in batch[name]]
    assert np.array_equal(np.sort(np.reshape(order["condition"], (13, 20))), [range(20)] * 13)
    assert np.array_equal(np.sort(np.reshape(order["samples"], (20, 13))), [range(13)] * 20)
    pairs = set(zip(order["condition"], order["samples"], strict=True))
    assert len(pairs) > 120  # of 260 possible ones; 164 are expected of 260 random draws


def test_one_of_the_domains_may_be_smaller_than_a_batch(tmp_path):
    fill(tmp_path / "A", 3)
    fill(tmp_path / "B", 9, first=100)
    batch = batches(quiet(tmp_path, held_out=0), 1, 8)[0]
    assert batch["condition"].shape == batch["samples"].shape == (8, 16, 16, 3)
    sizes = [
        [batch[name].shape[0] for name in ("condition", "samples")]
        for batch in quiet(tmp_path, held_out=0).dataset("train", 4, drop_remainder=False)
    ]
    assert sizes == [[4, 4], [4, 4], [1, 1]]


def test_batches_are_a_function_of_the_seed_and_their_number(domains):
    source = quiet(domains, crop=8, rotate=True)
    assert source.spec.shape == (None, None, 3)
    whole = batches(source, 8, 6, seed=3)
    for start in (1, 3, 6):
        assert equal(whole[start:], batches(quiet(domains, crop=8, rotate=True), 8 - start, 6, 3,
                                            start=start))  # fmt: skip
    assert not equal(whole, batches(source, 8, 6, seed=4))
    for index in range(2):
        rows = slice(3 * index, 3 * index + 3)
        part = batches(source, 8, 6, 3, shard=(index, 2))
        assert equal([{k: v[rows] for k, v in batch.items()} for batch in whole], part)


def test_domains_without_test_folders_are_divided(tmp_path):
    fill(tmp_path / "A", 20)
    fill(tmp_path / "B", 30, first=100)
    source = quiet(tmp_path)
    assert source.field_counts() == {"samples": 27, "condition": 18}
    assert source.field_counts("held_out") == {"samples": 3, "condition": 2}
    assert not source.paired
    train, held = source.field_arrays(), source.field_arrays("held_out")
    for name in ("condition", "samples"):
        assert not {row.tobytes() for row in train[name]} & {row.tobytes() for row in held[name]}


def test_partners_in_plain_folders_are_held_out_together(tmp_path):
    """Equal names everywhere: no held-out picture has a partner that is trained on."""
    fill_partners(tmp_path / "A", tmp_path / "B", 20)
    source = quiet(tmp_path)
    assert source.paired
    assert source.field_counts("held_out") == {"samples": 2, "condition": 2}
    rows = source.field_arrays("held_out")
    assert np.array_equal(rows["samples"], negative(rows["condition"]))
    train = {row.tobytes() for row in source.field_arrays()["condition"]}
    assert not train & {negative(row).tobytes() for row in rows["samples"]}


def test_domains_of_other_sizes_are_resized_and_it_is_said(tmp_path):
    fill(tmp_path / "A", 4, height=70, width=90)
    fill(tmp_path / "B", 5, first=100, height=64, width=64, channels=1)
    source = quiet(tmp_path, held_out=0)
    assert source.spec.shape == (64, 64, 1)
    assert source.spec.fields["condition"].shape == (64, 64, 3)
    assert "resized 64x64 to 70x90 -> 64x64" in source.description


def test_held_out_copies_of_training_pictures_are_left_out(tmp_path):
    fill(tmp_path / "trainA", 5)
    fill(tmp_path / "trainB", 5, first=100)
    fill(tmp_path / "testA", 3, seed=4)  # its first picture is the last one to train on
    fill(tmp_path / "testB", 3, seed=200)
    source = quiet(tmp_path)
    assert source.paired
    assert source.field_counts("held_out") == {"samples": 2, "condition": 2}
    assert "2 held-out copies of training pictures left out" in source.description


def test_the_digest_is_of_both_domains(tmp_path):
    fill(tmp_path / "A", 4)
    fill(tmp_path / "B", 7, first=100)
    first = data_record.describe_data(quiet(tmp_path, held_out=0))
    save(tmp_path / "A" / "3.png", pixels(77))
    changed = data_record.describe_data(quiet(tmp_path, held_out=0))
    assert "content" in data_record.data_differences(first, changed)[0]


def test_rows_start_again_where_a_domain_ends(domains):
    source = quiet(domains)
    rows = source.field_rows("train", np.array([0, 12]))
    whole = source.field_arrays()
    assert np.array_equal(rows["condition"], whole["condition"][[0, 12]])
    only = source.field_rows("train", np.array([5, 25]), ["condition"])
    assert list(only) == ["condition"]
    assert np.array_equal(only["condition"], whole["condition"][[5, 5]])


def test_unpaired_data_are_not_examples(domains, tmp_path):
    with pytest.raises(UsageError, match="condition drawn on its own in 'train'"):
        datasets.prepare(quiet(domains), "tfds:domains", data_dir=tmp_path)


# ------------------------------------------------------------------------ mistakes


def refused(match, path, **options):
    with pytest.raises(UsageError, match=match):
        datasets.open("unpaired", path=path, **options)


def test_one_domain_is_empty(tmp_path):
    fill(tmp_path / "trainA", 3)
    refused("named A and B.*Received: 3 of A and 0 of B in the split train", tmp_path)
    fill(tmp_path / "trainB", 3, first=50)
    fill(tmp_path / "testB", 3, first=90)
    refused("Received: 0 of A and 3 of B in the split test", tmp_path)


def test_no_domains(tmp_path):
    fill(tmp_path, 3)
    refused("named A and B.*Received: 0 of A and 0 of B in ", tmp_path)


def test_both_domains_are_the_same_files(tmp_path):
    fill(tmp_path / "A", 5)
    fill(tmp_path / "B", 7)
    refused("pictures of their own. Received: 5 files of A that are also in B: A/0.png", tmp_path)
    for number in range(3):
        save(tmp_path / "A" / f"{number}.png", pixels(500 + number))
    assert datasets.open("unpaired", path=tmp_path, held_out=0).count() == 7  # two of five


def test_a_damaged_picture_is_refused_or_skipped(tmp_path):
    fill(tmp_path / "A", 5)
    fill(tmp_path / "B", 5, first=100)
    first = tmp_path / "A" / "0.png"
    first.write_bytes(first.read_bytes()[:200])
    (tmp_path / "B" / "101.png").write_bytes(b"")
    refused("must be whole and readable", tmp_path)
    source = datasets.open("unpaired", path=tmp_path, held_out=0, skip_corrupt=True)
    assert source.field_counts() == {"samples": 4, "condition": 4}
    assert len(source.skipped) == 2
