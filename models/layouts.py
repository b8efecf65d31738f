"""How a batch's positions lie in memory while the model goes over them, for training (Packed) and export (Padded).

The classes have one interface, so that models.model and each network say their arithmetic once.
"""

from __future__ import annotations

from typing import Optional, Union

import tensorflow as tf


class Packed:
    """Real positions only, time-major: step t holds the sizes[t] sentences that are still running at t.

    Sentences are put in order of falling length first, so that a step's rows are a prefix of the step's before.
    """

    def __init__(self, mask: tf.Tensor):
        self.time = mask.shape[1]
        order = tf.argsort(tf.reduce_sum(mask, 1), direction="DESCENDING", stable=True)
        real = tf.transpose(tf.gather(mask, order)) > 0.0  # [time, batch]
        self.sizes = tf.reduce_sum(tf.cast(real, tf.int32), 1)
        step_and_row = tf.where(real)
        rows = tf.gather(tf.cast(order, tf.int64), step_and_row[:, 1])
        self.positions = tf.stack([rows, step_and_row[:, 0]], 1)  # int64 [N, 2]: (row, step) in [batch, time]
        self.num_rows = tf.shape(self.positions)[0]
        self.weight = tf.ones([self.num_rows, 1])

    def flatten(self, ids: tf.Tensor) -> tf.Tensor:
        return tf.gather_nd(ids, self.positions)

    @staticmethod
    def real(rows: tf.Tensor) -> tf.Tensor:
        """Returns the rows of the real positions, which stand where `positions` says."""
        return rows

    def steps(self, rows: tf.Tensor) -> list[tf.Tensor]:
        return tf.split(rows, self.sizes, num=self.time)

    def start(self, width: int) -> tf.Tensor:
        return tf.zeros([self.sizes[0], width])

    def carry(self, state: tf.Tensor, step: int) -> tf.Tensor:
        """Returns the rows of `state` that go on at `step`."""
        return state[: self.sizes[step]]

    def carry_back(self, gradient: tf.Tensor, step: int) -> tf.Tensor:
        """Returns the adjoint of carry: rows that ended before `step + 1` get no gradient from it."""
        return tf.pad(gradient, [[0, self.sizes[step] - self.sizes[step + 1]], [0, 0]])

    def weight_where(self, condition: tf.Tensor) -> tf.Tensor:
        """Returns float32 [n]: the weight of the rows that `only` keeps."""
        return tf.ones_like(self.only(condition, self.weight)[:, 0])

    @staticmethod
    def only(condition: tf.Tensor, rows: tf.Tensor) -> tf.Tensor:
        """Returns the rows where `condition` holds."""
        return tf.gather(rows, tf.where(condition)[:, 0])

    @staticmethod
    def apart() -> None:
        """See Padded.apart: here each sentence has a row of its own."""

    @staticmethod
    def picked(rows: tf.Tensor, ids: tf.Tensor) -> tf.Tensor:
        """Returns [n]: of each row of `rows` [n, width] the value in the column that `ids` [n] names."""
        return tf.gather_nd(rows, tf.stack([tf.range(tf.shape(ids)[0]), ids], 1))

    @staticmethod
    def times_transposed(left: tf.Tensor, right: tf.Tensor) -> tf.Tensor:
        return tf.matmul(left, right, transpose_b=True)

    @staticmethod
    def weighted_sum(rows: tf.Tensor, share: tf.Tensor) -> tf.Tensor:
        """Returns float32 [width]: the sum of rows [N, width], each times its share [N, 1]."""
        return tf.squeeze(tf.matmul(rows, share, transpose_a=True), 1)

    @staticmethod
    def add_rows(dense: tf.Tensor, ids: tf.Tensor, rows: tf.Tensor) -> tf.Tensor:
        """Returns `dense` with rows[i] added to its row ids[i]."""
        return tf.tensor_scatter_nd_add(dense, ids[:, tf.newaxis], rows)


class Padded:
    """All positions, time-major: every step holds every sentence, and padding weighs 0. For the TFLite export.

    The same interface as Packed, in builtin ops whose shapes depend on `time` (static) and the batch size (free) only:
    packing needs shapes that depend on the values. Each method is written for the op that runs fast in LiteRT with
    weights that are not constants, and none takes a shape that another op computes: with such a file LiteRT 2.3 now and
    then took a wrong second step (docs/adr/0003).
    """

    def __init__(self, mask: tf.Tensor, starts: Optional[tf.Tensor] = None):
        """Lays out a batch.

        Args:
          mask: float32 [batch, time].
          starts: float32 [batch, time], 1 where a sentence begins, if several share a row; None if each has its own.
        """
        self.time = mask.shape[1]
        self._starts = starts
        self._goes_on = (
            None if starts is None else tf.unstack(tf.reshape(tf.transpose(1.0 - starts), [self.time, -1, 1]))
        )
        self._zeros = tf.zeros_like(mask[:, :1])
        self.num_rows = tf.size(mask)
        self.weight = tf.reshape(tf.transpose(mask), [-1, 1])

    def flatten(self, ids: tf.Tensor) -> tf.Tensor:
        return tf.reshape(tf.transpose(ids), [-1])

    @property
    def positions(self) -> tf.Tensor:
        """Where the real positions stand: int64 [real, 2] of (row, step). Not for export."""
        return tf.reverse(tf.where(tf.reshape(self.weight, [self.time, -1]) > 0.0), [1])

    def real(self, rows: tf.Tensor) -> tf.Tensor:
        """Returns the rows of the real positions. Not for export."""
        return tf.gather(rows, tf.where(self.weight[:, 0] > 0.0)[:, 0])

    def steps(self, rows: tf.Tensor) -> list[tf.Tensor]:
        return tf.unstack(tf.reshape(rows, [self.time, -1, rows.shape[1]]))

    def start(self, width: int) -> tf.Tensor:
        return tf.tile(self._zeros, [1, width])

    def carry(self, state: tf.Tensor, step: int) -> tf.Tensor:
        return state if self._goes_on is None or step == 0 else state * self._goes_on[step]

    def carry_back(self, gradient: tf.Tensor, step: int) -> tf.Tensor:
        return gradient if self._goes_on is None else gradient * self._goes_on[step + 1]

    def apart(self) -> Optional[tf.Tensor]:
        """Returns float32 [batch, 1, time, time], 0 where two positions are of one sentence; None if a row has one."""
        if self._starts is None:
            return None
        number = tf.cumsum(self._starts, 1)
        return tf.abs(tf.reshape(number, [-1, 1, self.time, 1]) - tf.reshape(number, [-1, 1, 1, self.time]))

    def weight_where(self, condition: tf.Tensor) -> tf.Tensor:
        return tf.cast(condition, tf.float32) * self.weight[:, 0]

    @staticmethod
    def only(condition: tf.Tensor, rows: tf.Tensor) -> tf.Tensor:
        return rows

    @staticmethod
    def picked(rows: tf.Tensor, ids: tf.Tensor) -> tf.Tensor:
        row_numbers = tf.cumsum(tf.zeros_like(ids) + 1, exclusive=True)
        return tf.gather_nd(rows, tf.stack([row_numbers, ids], 1))

    @staticmethod
    def times_transposed(left: tf.Tensor, right: tf.Tensor) -> tf.Tensor:
        # Transposed through rank 3: the converter folds a plain transpose into FULLY_CONNECTED, which is slow when its
        # weights are not constants.
        rows, columns = right.shape
        turned = tf.transpose(tf.reshape(right, [1, rows, columns]), [0, 2, 1])
        return tf.matmul(left, tf.reshape(turned, [columns, rows]))

    @staticmethod
    def weighted_sum(rows: tf.Tensor, share: tf.Tensor) -> tf.Tensor:
        return tf.reduce_sum(rows * share, 0)

    @staticmethod
    def add_rows(dense: tf.Tensor, ids: tf.Tensor, rows: tf.Tensor) -> tf.Tensor:
        return dense + tf.scatter_nd(ids[:, tf.newaxis], rows, dense.shape)


class Whole(Padded):
    """All positions, sentence after sentence: for a network that reads a batch as one tensor. See Padded."""

    def __init__(self, mask: tf.Tensor):
        super().__init__(mask)
        self.weight = tf.reshape(mask, [-1, 1])

    def flatten(self, ids: tf.Tensor) -> tf.Tensor:
        return tf.reshape(ids, [-1])

    @property
    def positions(self) -> tf.Tensor:
        return tf.where(tf.reshape(self.weight, [-1, self.time]) > 0.0)


Layout = Union[Packed, Padded]


def build_layout(mask: tf.Tensor, padded: bool, starts: Optional[tf.Tensor] = None) -> Layout:
    """Returns the layout of a batch with this mask, float32 [batch, time]; `starts` as in Padded, which it takes."""
    return Padded(mask, starts) if padded or starts is not None else Packed(mask)
