"""The kernels of fused_linear on the CPU against float64: all that may be asked of them, few rows and many."""

from dataclasses import replace

import pytest
import torch
from gdnbench_kernels.backends import BackendRefusal
from gdnbench_kernels.fused_linear import fused_linear
from gdnbench_kernels.fused_linear.api import whole
from gdnbench_kernels.fused_linear.gpu import few, parts, several, tiles
from gdnbench_kernels.fused_linear.gpu.tiles import Tile
from gdnbench_kernels.fused_linear.impl import triton
from gdnbench_kernels.gpu.hardware import SHARED_LIMIT

from tests.operations.test_fused_linear import CALLS, Call, arguments, every_call, mismatches


@pytest.fixture(autouse=True)
def a_small_gpu(monkeypatch):
    monkeypatch.setattr(few.hardware, "processors", lambda device: 2)


@every_call
@pytest.mark.parametrize("batch", [1, 3, triton.MOST_ROWS + 1], ids="{} rows".format)
def test_every_option(call, batch):
    assert mismatches(replace(call, batch=batch), torch.float32, "triton") == {}


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
@pytest.mark.parametrize("batch", [1, 5])
def test_halves_and_a_stream_in_single_precision(dtype, batch):
    call = Call(batch=batch, width=40, tensors=("add", "norm"), settings={"activation": "swiglu"})
    assert mismatches(call, dtype, "triton", stream=torch.float32) == {}
    assert mismatches(call, dtype, "triton", stream=torch.float32, out_dtype=torch.float32) == {}


@pytest.mark.parametrize(
    "tile",
    [
        several.DotTile(ROWS=16, STAGES=2),
        several.DotTile(programs=3, ROWS=64, BLOCK=32, STAGES=3, splits=3),
        several.DotTile(ROWS=128, BLOCK=64, STAGES=2, splits=8),
    ],
    ids=["parts in turn", "parts of columns", "splits without columns"],
)
@pytest.mark.parametrize("name", ["plain", "swiglu", "token shift", "channel mix"])
def test_several_rows_by_tensor_cores(name, tile, monkeypatch):
    taken = []
    monkeypatch.setattr(several, "tile", lambda *sizes, **limits: taken.append(sizes) or tile)
    call = replace(CALLS[name], batch=17, width=200, rows=200 if name != "swiglu" else 136)
    if call.mix_rows:
        call = replace(call, mix_rows=(190, 3, 7) if len(call.mix_rows) == 3 else (200,))
    assert mismatches(call, torch.float16, "triton", stream=torch.float32) == {}
    assert taken == [(17, call.rows, 200, 2)]


@pytest.mark.parametrize(
    ("sizes", "programs", "most"), [((9228,), 132, 128), ((200, 3, 7), 8, 16), ((2048, 64), 33, 64)]
)
def test_parts_are_equal_and_cover_every_row(sizes, programs, most):
    ranges, count = parts.parts(sizes, programs, most)
    rows = []
    for (first, row, height, end), following in zip(ranges, [*(r[0] for r in ranges[1:]), count], strict=True):
        assert height <= most
        for program in range(first, following):
            begin = row + (program - first) * height
            assert begin < end, "no program without rows"
            rows += range(begin, min(begin + height, end))
    assert rows == list(range(sum(sizes)))
    assert count <= programs * -(-sum(sizes) // (programs * most)) + len(sizes)


@pytest.mark.parametrize("limit", SHARED_LIMIT.values(), ids=SHARED_LIMIT)
@pytest.mark.parametrize("batch", [3, 8, 17, 33, 128])
@pytest.mark.parametrize(("rows", "width"), [(24, 16), (768, 1152), (2048, 5632), (9232, 2048), (50304, 16384)])
def test_blocks_on_their_way_fit_a_gpu(rows, width, batch, limit):
    for paired in (False, True):
        tile = several.tile(batch, rows, width, 108, shared=limit, paired=paired)
        taken = tile.STAGES * tile.BLOCK * (tile.ROWS + several.columns(batch)) * 2
        assert tile.programs * taken <= limit
        assert tile.STAGES >= several.LEAST_STAGES
        assert tile.BLOCK >= 16, "columns of a product of tensor cores"


@pytest.mark.parametrize(("rows", "block", "depth"), [(1, 64, 1), (2, 16, 3), (8, 32, 2), (4, 32, 4)])
@pytest.mark.parametrize("settings", [{}, {"activation": "swiglu"}], ids=["plain", "swiglu"])
def test_tiles_that_do_not_fit(rows, block, depth, settings):
    """More tiles than programs, blocks beyond the last column, and tiles beyond the last row."""
    call = Call(width=72, rows=30, tensors=("add", "norm"), settings=settings)
    mixed = Call(width=72, rows=30, tensors=("previous", "mix"), mix_rows=(17, 5, 8))
    with tiles.forced({None: Tile(ROWS=rows, BLOCK=block, DEPTH=depth, num_warps=4, programs=1)}):
        assert mismatches(call, torch.float32, "triton") == {}
        assert mismatches(mixed, torch.float32, "triton") == {}


@pytest.mark.parametrize("batch", [1, 2, 4])
@pytest.mark.parametrize(("rows", "width"), [(9228, 2048), (2048, 5632), (768, 1152), (24, 16384)])
def test_tiles_for_an_h200(rows, width, batch):
    for mixed in (False, True):
        chosen = tiles.tile(batch, rows, width, 2 * width, 132, mixed=mixed)
        held, most = chosen.ROWS * chosen.DEPTH, -(-rows // (132 * chosen.programs))
        assert 1 <= held < most + chosen.ROWS, "slots that no row fills"
        assert chosen.num_warps * chosen.programs <= 16, "programs beyond those that run at once"
        assert width <= -(-width // chosen.BLOCK) * chosen.BLOCK <= 1.15 * width, "threads without a column"


@pytest.mark.parametrize("batch", [2, 6])
def test_rows_of_any_stride(batch):
    call = Call(batch=batch, tensors=("add", "norm", "gate", "previous", "mix"), mix_rows=(24,))
    given = arguments(call, torch.float32)
    wider = {name: torch.cat([given[name], given[name]], -1)[:, :48] for name in ("x", "add", "gate", "previous")}
    plain, strided = (fused_linear(**each, impl="triton") for each in (given, given | wider))
    assert all(torch.equal(one, other) for one, other in zip(plain, strided, strict=True))


@pytest.mark.parametrize("batch", [2, 6])
def test_rows_of_any_stride_as_they_are(batch):
    given = arguments(Call(batch=batch), torch.float16)
    strided = given | {"x": torch.cat([given["x"], given["x"]], -1)[:, :48]}
    assert torch.equal(fused_linear(**given, impl="triton").y, fused_linear(**strided, impl="triton").y)


@pytest.mark.parametrize("batch", [1, 6])
@pytest.mark.parametrize("tensors", [("norm",), ("norm", "gate")], ids=["a norm of all", "norms of groups"])
def test_a_sum_in_parts_is_that_of_its_parts(batch, tensors):
    call = Call(batch=batch, tensors=tensors, settings={"group_size": 16} if "gate" in tensors else {}, norm_size=None)
    given = arguments(call, torch.float32)
    parts = torch.randn(3, batch, 48)
    found = fused_linear(**given, add=parts, **call.settings, impl="triton")
    once = fused_linear(**given, add=parts[0] + parts[1] + parts[2], **call.settings, impl="triton")
    assert all(torch.equal(one, other) for one, other in zip(found[:2], once[:2], strict=True))


def test_y_in_parts_where_it_may_be(monkeypatch):
    monkeypatch.setattr(several, "tile", lambda *sizes, **limits: several.DotTile(BLOCK=16, splits=3))
    given = arguments(Call(batch=5), torch.float16)
    parts = fused_linear(**given, scale=1.5, parts=True, impl="triton").y
    assert (parts.shape, parts.dtype) == ((3, 5, 24), torch.float32)
    y = fused_linear(**given, scale=1.5, impl="triton").y
    assert y.shape == (5, 24)
    torch.testing.assert_close(parts.sum(0), y.float(), atol=2e-3, rtol=2e-3)
    assert torch.equal(whole(parts), parts.sum(0))
    assert whole(y) is y


@pytest.mark.parametrize("batch", [1, 6])
def test_carries_along(batch):
    source, target = torch.randn(2, 3, 500)
    fused_linear(**arguments(Call(batch=batch), torch.float32), carry=(source, target), impl="triton")
    assert torch.equal(target, source)
    target.zero_()
    mixed = Call(batch=batch, tensors=("previous", "mix"), mix_rows=(20, 4))
    fused_linear(**arguments(mixed, torch.float16), carry=(source, target), impl="triton")
    assert torch.equal(target, source)


def test_refusals_name_who_serves():
    given = arguments(Call(width=20), torch.float32)
    with pytest.raises(
        BackendRefusal, match=r"^x: K is 20, wants a multiple of 8 from 16 to 16384 .*: reference, torch$"
    ):
        fused_linear(**given, impl="triton")
    given = arguments(Call(), torch.float32)
    with pytest.raises(BackendRefusal, match=r"^weight: strides \[1, 24\], wants a contiguous matrix"):
        fused_linear(**(given | {"weight": given["weight"].T.contiguous().T}), impl="triton")
