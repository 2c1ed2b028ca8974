"""`Rows`, and the tables that episodes gather from."""

import numpy as np
import pytest

from maml_keras import data
from maml_keras.data.rows import Held, Rotated, Rows, row_keys, table

IMAGES = np.random.default_rng(0).integers(0, 256, [12, 5, 5, 3], np.uint8)


class Elsewhere(Rows):
    """Rows of an array that count how often they are read as a whole."""

    def __init__(self, array, index=None):
        self.array = array
        self.index = np.arange(len(array)) if index is None else index
        self.shape, self.dtype = (len(self.index), *array.shape[1:]), array.dtype

    def __getitem__(self, rows):
        return self.array[self.index[rows]]

    def select(self, rows):
        return Elsewhere(self.array, self.index[rows])

    def gather(self, rows):
        return Held(self.array[self.index]).gather(rows)

    def keys(self):
        return row_keys(self.array[self.index])

    def digest(self):
        return self.index.tobytes()


def pool(examples):
    return data.Pool(examples, counts=[4, 4, 4], class_names="abc")


@pytest.mark.parametrize("rotate_classes", [False, True])
def test_rows_elsewhere_give_the_episodes_of_the_array(rotate_classes):
    drawn = []
    for examples in (IMAGES, Elsewhere(IMAGES)):
        part = pool(examples).select([2, 0])
        tasks = data.NWayKShot(
            part, ways=2, shots=1, queries=2, rotate_classes=rotate_classes
        )
        batches = data.episodes(tasks, batch_size=8, seed=1, num_episodes=8)
        drawn.append(next(iter(batches)))
    (task, query_y), (other, other_y) = drawn
    np.testing.assert_array_equal(query_y, other_y)
    for key in task:
        np.testing.assert_array_equal(task[key], other[key])
    assert task["query_x"].shape == (8, 4, 5, 5, 3)


def test_rotated_rows_are_those_of_numpy():
    rotated = Rotated(Elsewhere(IMAGES)).gather(np.arange(48))
    for row, image in enumerate(rotated.numpy()):
        turned = np.rot90(IMAGES[row % 12], row // 12)
        np.testing.assert_array_equal(image, (turned / 255).astype(np.float32))


def test_images_that_are_not_square_cannot_be_rotated():
    with pytest.raises(ValueError, match=r"square images.*\(5, 4, 3\).*Resize"):
        table(IMAGES[:, :, :4], rotations=True)


def test_a_pool_of_rows_behaves_as_one_of_an_array():
    ours, theirs = pool(Elsewhere(IMAGES)), pool(IMAGES)
    assert repr(ours) == repr(theirs)
    assert ours.num_examples == 12
    np.testing.assert_array_equal(ours.examples, IMAGES)
    picked = ours.select([1]).examples
    np.testing.assert_array_equal(np.asarray(picked, np.float32), IMAGES[4:8])
    assert ours.fingerprint() != ours.select([1, 0, 2]).fingerprint()
    with pytest.raises(ValueError, match="add up to the number of examples.*12 for 8"):
        pool(Elsewhere(IMAGES[:8]))
