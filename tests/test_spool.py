from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from soundmark import encoders, spool
from soundmark.encoders.pooling import STATISTICS, Pooling
from soundmark.encoders.vectors import Vectors

EVERY = "+".join([*STATISTICS, "percentiles"])
ENCODER = encoders.load("logmel?rate=16000&window=512&hop=256&bands=6")


@given(st.lists(st.integers(1, 40), min_size=1, max_size=6), st.sampled_from([1, 100, 1 << 20]))
def test_pieces_give_the_vector_of_the_whole(counts: list[int], block_bytes: int) -> None:
    frames = torch.from_numpy(np.random.default_rng(sum(counts)).normal(3, 10, (1, sum(counts), 6)).astype(np.float32))
    vectors = Vectors(ENCODER, Pooling(EVERY))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(spool, "_BLOCK_BYTES", block_bytes)
        got = spool.pooled(vectors, torch.split(frames, counts, dim=1))
    np.testing.assert_allclose(got, vectors.pool(frames)[0].numpy(), rtol=1e-4, atol=1e-4)


def test_a_recording_without_pieces_is_an_error() -> None:
    with pytest.raises(ValueError, match="without pieces"):
        spool.pooled(Vectors(ENCODER, Pooling("mean")), [])
