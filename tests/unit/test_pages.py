"""Large results: their memory comes back when nobody looks at it any more, and not before."""

import gc
import threading
from collections.abc import Iterator

import pytest
import torch

from tvmconv import pages, tensors

ELEMS = pages.LARGE_ELEMS
SHAPE = (2, ELEMS // 2)


@pytest.fixture(autouse=True)
def nothing_waits() -> Iterator[None]:
    pages._free.clear()
    yield
    pages._free.clear()


def test_memory_serves_again_when_the_last_view_is_gone() -> None:
    array, address = tensors.empty_numpy(SHAPE, ELEMS)
    view = array[1:, ::2]
    view[...] = 3.0
    del array
    assert pages.waiting_bytes() == 0, "a view still looks at it"
    other, elsewhere = tensors.empty_numpy(SHAPE, ELEMS)
    assert elsewhere != address
    assert (view == 3.0).all()
    del view
    assert pages.waiting_bytes() > 0
    again, same = tensors.empty_numpy(SHAPE, ELEMS)
    assert same == address
    assert again.flags.writeable
    assert other.ctypes.data == elsewhere


def test_a_tensor_keeps_its_memory() -> None:
    tensor, address = tensors.empty_torch(SHAPE)
    flat = tensor.view(-1)
    del tensor
    gc.collect()
    assert pages.waiting_bytes() == 0
    assert flat.dtype == torch.float32
    assert flat.data_ptr() == address
    del flat
    assert pages.waiting_bytes() > 0


def test_small_results_are_not_kept() -> None:
    array, _ = tensors.empty_numpy((4, 4), 16)
    del array
    assert pages.waiting_bytes() == 0


def test_no_more_waits_than_the_limit(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pages, "KEPT_BYTES", 4000)
    first, second, third, large = (pages.lend(n) for n in (500, 500, 100, 2000))
    del first, second
    assert pages.waiting_bytes() == 4000
    del third
    assert pages.waiting_bytes() == 400, "the newest stays"
    del large
    assert pages.waiting_bytes() == 0, "more than the limit is never kept"


def test_threads_never_share_memory() -> None:
    wrong: list[int] = []

    def work(number: int) -> None:
        for _ in range(200):
            array = pages.lend(1000)
            array[...] = number
            if not (array == number).all():
                wrong.append(number)

    threads = [threading.Thread(target=work, args=(n,)) for n in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not wrong
