"""Positions: the table as it is at its own size, stretched by each photo's, blind beyond."""

import torch

from ffsplat.nn.attention import rotate
from ffsplat.nn.blocks import grid_rotary
from ffsplat.nn.positions import TablePosition, photo_sizes


def table() -> TablePosition:
    torch.manual_seed(0)
    return TablePosition(6, 4)


@torch.inference_mode()
def test_a_photo_of_the_table_s_size_gets_the_table():
    position = table()
    where = position((4, 4), None, torch.zeros(1))
    assert torch.equal(where[0], position.table[1:])


@torch.inference_mode()
def test_photos_on_a_canvas_get_what_each_gets_alone():
    position = table()
    placed = position((5, 7), [(5, 3), (2, 7), (5, 3)], torch.zeros(1)).unflatten(1, (5, 7))
    for index, (rows, columns) in enumerate([(5, 3), (2, 7), (5, 3)]):
        alone = position((rows, columns), None, torch.zeros(1)).unflatten(1, (rows, columns))
        torch.testing.assert_close(placed[index, :rows, :columns], alone[0])
        assert placed[index, rows:].eq(0).all()
        assert placed[index, :, columns:].eq(0).all()


def test_a_photo_s_size_ends_with_its_last_valid_token():
    valid = torch.zeros(3, 4, 5, dtype=torch.bool)
    valid[0, :2, :5] = True
    valid[1, 3, 2] = True
    assert photo_sizes(valid) == [(2, 5), (4, 3), (1, 1)]


def test_within_a_view_only_the_offset_between_tokens_counts():
    q, k = torch.randn(2, 16, generator=torch.Generator().manual_seed(0))
    within, across = grid_rotary(4, 5, 16, 1, q)

    def score(table: torch.Tensor, i: int, j: int) -> torch.Tensor:
        return (rotate(q[None], table[i, None]) * rotate(k[None], table[j, None])).sum()

    def token(row: int, column: int) -> int:
        return 1 + 5 * row + column

    first = score(within, token(0, 1), token(2, 4))
    torch.testing.assert_close(score(within, token(1, 0), token(3, 3)), first)
    assert not torch.isclose(score(within, token(1, 1), token(3, 3)), first)
    anywhere = score(across, token(0, 1), token(2, 4))
    torch.testing.assert_close(anywhere, q @ k)
    assert not torch.isclose(score(across, 0, token(2, 4)), anywhere)
