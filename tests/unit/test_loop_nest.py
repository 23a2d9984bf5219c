from tvmconv.loop_nest import loop_nest

SCRIPT = """\
# from tvm.script import tirx as T
@T.prim_func(s_tir=True)
def main(x: T.Buffer((96,), "float32"), packed: T.Buffer((9,), "float32")):
    T.func_attr({"tirx.noalias": True})
    for i0_fused in T.parallel(7):
        xpad = T.alloc_buffer((1, 10, 1, 16), annotations={"buffer_data_alignment": 64})
        for ax6, ax7 in T.grid(10, 2):
            for vector in T.vectorized(16):
                v_1 = T.float32()
                xpad[0, ax6, 0, vector] = T.masked_load("float32x16", x, ax6, v_1 < 2)
        for k in range(3, i0_fused):
            for j in T.unroll(14):
                conv[j] = conv[j] + xpad[0, j, 0, k] * packed[k]
        conv[0] = conv[0] + xpad[0, 0, 0, 0] * packed[0]
        conv[1] = conv[1] + xpad[0, 1, 0, 0] * packed[1]
        T.prefetch(T.address_of(packed[8]), 0, 3, 1)
        if i0_fused < 6:
            tail = T.alloc_buffer((1, 1))
            tail[0] = 0.0
            T.masked_store(y, tail[0], T.Ramp(0, 1, 16), i0_fused < 1)
        else:
            y[0] = x[3]
    for block in T.thread_binding(4, thread="blockIdx.x"):
        y[block] = x[block]
    with T.launch_thread("blockIdx.x", 208) as blockIdx_x:
        vthread_x = T.launch_thread("vthread.x", 1)
        threadIdx_x = T.launch_thread("threadIdx.x", 128)
        with T.attr(k_1, "pragma_auto_unroll_max_step", 16384):
            y[threadIdx_x] = x[blockIdx_x]
"""

NEST = """\
parallel i0_fused in 7
  xpad: 10 x 16
  for ax6 in 10, for ax7 in 2, vector vector in 16
    xpad = x
  for k in 3 .. i0_fused, unroll j in 14
    conv += xpad, packed
  conv += xpad, packed  (2 times)
  prefetch packed
  where i0_fused < 6
    tail: 1
    tail = constant
    y = tail
  else
    y = x
blockIdx.x in 4
  y = x
blockIdx.x in 208
  threadIdx.x in 128
  y = x"""


def test_loops_extents_and_what_comes_from_where() -> None:
    assert loop_nest(SCRIPT) == NEST
