"""Mutants of CUDA sources: one small mistake each, of the kinds that schedules make."""

import re
from collections.abc import Iterator
from dataclasses import dataclass, replace

from tvmconv.cuda.code import DeviceCode


@dataclass(frozen=True)
class Mistake:
    """A change of a source.

    Attributes:
        name: what the mistake is.
        pattern: what it changes, one place of the source.
        change: what stands there instead; in it ``{n-1}``, ``{n+1}``, ``{n*2}`` and ``{n/2}`` are
            made of the number that the pattern has found as "n".
        which: the places that match are counted from here, -1 is the last.
    """

    name: str
    pattern: str
    change: str
    which: int = 0

    def apply(self, source: str) -> str | None:
        """The source with the mistake, None where it has no such place."""
        places = list(re.finditer(self.pattern, source))
        if not -len(places) <= self.which < len(places):
            return None
        match = places[self.which]
        text = self.change
        if "n" in match.groupdict():
            n = int(match["n"])
            numbers = {"{n-1}": n - 1, "{n+1}": n + 1, "{n*2}": n * 2, "{n/2}": n // 2}
            for name, value in numbers.items():
                text = text.replace(name, str(value))
        text = match.expand(text)
        return source[: match.start()] + text + source[match.end() :]


THREAD = r"\(\(int\)threadIdx\.x\)"
# Of kernels that TVM wrote from schedules/nests/product_nest.py; ax7 is the depth of the product.
PRODUCT: tuple[Mistake, ...] = (
    Mistake("no barrier before tiles are overwritten", r"__syncthreads\(\);", ""),
    Mistake("no barrier before tiles are read", r"__syncthreads\(\);", "", 1),
    Mistake("a barrier for half of the threads", r"__syncthreads\(\);",
            "if (threadIdx.x % 2 == 0) __syncthreads();", 1),
    Mistake("the last tile of depth is left out", r"ax7_0 < (?P<n>\d+)", "ax7_0 < {n-1}"),
    Mistake("a tile of depth too many", r"ax7_0 < (?P<n>\d+)", "ax7_0 < {n+1}"),
    Mistake("the last row of a tile is left out", r"ax7_1 < (?P<n>\d+)", "ax7_1 < {n-1}"),
    Mistake("a row of a tile too many", r"ax7_1 < (?P<n>\d+)", "ax7_1 < {n+1}"),
    Mistake("the last copy of x is left out", r"ax4_ax5_fused_0 < (?P<n>\d+)",
            "ax4_ax5_fused_0 < {n-1}"),
    Mistake("x is copied beyond its tile", r"ax4_ax5_fused_0 < (?P<n>\d+)",
            "ax4_ax5_fused_0 < {n+1}"),
    Mistake("copies of x overlap", r"xcol_shared_ptr\[\(\(ax4_ax5_fused_0 \* (?P<n>\d+)\)",
            "xcol_shared_ptr[((ax4_ax5_fused_0 * {n-1})"),
    Mistake("padding starts a row late", r"\(1 <= ", "(0 <= "),
    Mistake("padding starts a row early", r"\(1 <= ", "(2 <= "),
    Mistake("padding of a column ends late", r"(?P<op>[%)] )(?P<m>\d+)\)\) < (?P<n>\d+)\)\) \{",
            r"\g<op>\g<m>)) < {n+1})) {"),
    Mistake("padding is one", r"condval = 0x0p\+0f", "condval = 0x1p+0f"),
    Mistake("x is read at the next element", r"condval = x_ptr\[", "condval = x_ptr[1 + "),
    Mistake("no bound of x at all", r"\n( +)if \(.*\) \{\n( +condval = x_ptr)",
            r"\n\1if (true) {\n\2"),
    Mistake("lanes read the wrong pixels", rf"(?P<to>ptr \+ \(\(ax7_1 \* \d+\) \+ \(\({THREAD}) & "
            r"(?P<n>\d+)", r"\g<to> & {n/2}"),
    Mistake("lanes read the wrong weights",
            rf"(?P<from>ax7_1 \* \d+\) \+ \(*{THREAD}) >> (?P<n>\d)", r"\g<from> >> {n+1}"),
    Mistake("rows of a tile lie closer", r"\(ax7_1 \* (?P<n>\d+)\)", "(ax7_1 * {n/2})"),
    Mistake("a misaligned vector", r"xcol_shared_ptr \+ \(", "xcol_shared_ptr + (1 + "),
    Mistake("sums of pixels and channels swapped", r"\[ax5\] \* weight_shared_local_ptr\[ax6\]",
            "[ax6] * weight_shared_local_ptr[ax5]"),
    Mistake("only the last product is kept", r"= \(conv_local_ptr\[[^=;]*\] \+ \(xcol",
            "= (0 + (xcol"),
    Mistake("sums do not start at zero", r"= 0x0p\+0f", "= 0x1p+0f"),
    Mistake("results go to the next element", r"y_ptr\[", "y_ptr[1 + ", -1),
    Mistake("blocks do not differ", r"\(\(int\)blockIdx\.x\)", "0", -1),
    Mistake("another bias", r"(?P<at>y_ptr\[.*packed_ptr\[.*\+ )(?P<n>\d+)\)\]", r"\g<at>{n+1})]"),
    Mistake("every thread stores", rf"if \({THREAD} < \d+\)", "if (true)", -1),
)  # fmt: skip

# Of the same with copies in stages (tvmconv/lower/stages.py).
STAGED: tuple[Mistake, ...] = (
    Mistake("a step is not waited for", r"await_group<(?P<n>\d)>\(\)", "await_group<{n+1}>()"),
    Mistake("no wait at all", r"await_group<\d>\(\);", ""),
    Mistake("the first group is not closed", r"close_group\(\);", ""),
    Mistake("no group is closed in the loop", r"close_group\(\);", "", -1),
    Mistake("no barrier between waiting and reading", r"__syncthreads\(\);", ""),
    Mistake("the wait comes behind the barrier", r"(await_group<\d>\(\);)\s*(__syncthreads\(\);)",
            r"\2 \1"),
    Mistake("a copy starts before the barrier",
            r"(await_group<\d>\(\);)\s*(__syncthreads\(\);)(?P<copy>[\s\S]*?)close_group\(\);",
            r"\1 \g<copy> close_group(); \2"),
    Mistake("x goes to the stage that is read",
            r"xcol_shared_ptr\[(?P<at>\(+)(?P<k>\w+) \+ (?P<n>\d)\)",
            r"xcol_shared_ptr[\g<at>\g<k>)"),
    Mistake("weights go to the stage that is read",
            r"weight_shared_ptr\[(?P<at>\(+)(?P<k>\w+) \+ (?P<n>\d)\)",
            r"weight_shared_ptr[\g<at>\g<k>)"),
    Mistake("a stage is read too late", r"xcol_shared_ptr \+ (?P<at>\(+)(?P<k>\w+) % (?P<n>\d)\)",
            r"xcol_shared_ptr + \g<at>(\g<k> + 1) % \g<n>)"),
    Mistake("there is a stage less", r"(?P<k>ax\d+_0) % (?P<n>\d)\)", r"\g<k> % {n-1})"),
    Mistake("the last step is not copied", r"if \((?P<k>ax\d+_0) < (?P<n>\d+)\)",
            r"if (\g<k> < {n-1})"),
    Mistake("a step too many is copied", r"if \((?P<k>ax\d+_0) < (?P<n>\d+)\)",
            r"if (\g<k> < {n+1})"),
    Mistake("the last step is not multiplied", r"for (.*; )(?P<k>ax\d+_0) < (?P<n>\d+);",
            r"for \1\g<k> < {n-1};"),
    Mistake("zeros are not filled in", r"inside \? BYTES : 0", "BYTES"),
    Mistake("everything is zeros", r"inside \? BYTES : 0", "0"),
    Mistake("half of a vector is copied", r"start_copy<16>", "start_copy<8>"),
    Mistake("a vector in place of an element", r"start_copy<4>", "start_copy<8>"),
    Mistake("a misaligned copy", r"(?P<copy>start_copy<16>.*?packed_ptr\[)", r"\g<copy>1 + "),
    Mistake("x is copied from the next element", r"\(&\(x_ptr\[", "(&(x_ptr[1 + "),
    Mistake("padding starts a row early", r"\(1 <= ", "(2 <= ", -1),
    Mistake("padding starts a row late", r"\(1 <= ", "(0 <= ", -1),
    Mistake("blocks do not differ", r"\(\(int\)blockIdx\.x\)", "0", -1),
)  # fmt: skip

# Of those whose threads keep windows of x (schedules/nests/window_nest.py); ax11 and ax12 are taps.
WINDOW: tuple[Mistake, ...] = (
    Mistake("a row of taps is left out", r"ax11 < (?P<n>\d+)", "ax11 < {n-1}"),
    Mistake("a tap of a row is left out", r"ax12 < (?P<n>\d+)", "ax12 < {n-1}"),
    Mistake("a tap too many", r"ax12 < (?P<n>\d+)", "ax12 < {n+1}"),
    Mistake("the window is narrower", r"ax4 < (?P<n>\d+)", "ax4 < {n-1}"),
    Mistake("the window's rows overlap", r"xpad_local_ptr\[\(\(ax3 \* (?P<n>\d+)\)",
            "xpad_local_ptr[((ax3 * {n-1})"),
    Mistake("padding starts a row late", r"\(1 <= ", "(0 <= "),
    Mistake("padding starts a column late", r"\(1 <= ", "(0 <= ", 1),
    Mistake("padding starts a column early", r"\(1 <= ", "(2 <= ", 1),
    Mistake("padding is one", r"condval = 0x0p\+0f", "condval = 0x1p+0f"),
    Mistake("x is read at the next element", r"condval = x_ptr\[", "condval = x_ptr[1 + "),
    Mistake("no bound of x at all", r"\n( +)if \(.*\) \{\n( +condval = x_ptr)",
            r"\n\1if (true) {\n\2"),
    Mistake("outputs see the wrong columns", r"\+ ax8\) \+ ax12\)", "+ ax8) + 2 - ax12)"),
    Mistake("weights of another tap", r"\(ax12 \* (?P<n>\d+)\)", "(ax12 * {n-1})"),
    Mistake("weights of another channel", rf"\+ \({THREAD} >> (?P<n>\d)\)\)\]\)\);",
            "+ (((int)threadIdx.x) >> {n+1}))]));"),
    Mistake("sums of rows and columns swapped", r"\[\(\(ax7 \* 2\) \+ ax8\)\] =",
            "[((ax8 * 2) + ax7)] ="),
    Mistake("sums do not start at zero", r"= 0x0p\+0f", "= 0x1p+0f"),
    Mistake("a row too many is stored", r"\+ i7_2\) < (?P<n>\d+)\)", "+ i7_2) < {n+1})"),
    Mistake("the last column is not stored", r"\+ i8_2\) < (?P<n>\d+)\)", "+ i8_2) < {n-1})"),
    Mistake("results go to the next element", r"y_ptr\[", "y_ptr[1 + ", -1),
    Mistake("blocks do not differ", r"\(\(int\)blockIdx\.x\)", "0", -1),
)  # fmt: skip
# Of Winograd's three launches: the transform of x, products, the transform of sums.
WINOGRAD: tuple[Mistake, ...] = (
    Mistake("x is read at the next element", r"condval_5 = x_ptr\[", "condval_5 = x_ptr[1 + "),
    Mistake("padding is one", r"condval = 0x0p\+0f", "condval = 0x1p+0f"),
    Mistake("no border", r"\(1 <= ", "(0 <= "),
    Mistake("a part of the patch twice", r"patch_local_ptr\[5\] =", "patch_local_ptr[4] ="),
    Mistake("a sign of the transform of x", r"(half_v_local_ptr\[\d+\] = .*) - ", r"\1 + "),
    Mistake("no barrier before tiles are overwritten", r"__syncthreads\(\);", ""),
    Mistake("no barrier before tiles are read", r"__syncthreads\(\);", "", 1),
    Mistake("the last tile of depth is left out", r"(?P<k>ax\d+_0) < (?P<n>\d+)", r"\g<k> < {n-1}"),
    Mistake("a tile of depth too many", r"(?P<k>ax\d+_0) < (?P<n>\d+)", r"\g<k> < {n+1}"),
    Mistake("sums of another point", r"= gemm_ptr\[\((?P<at>.*) \+ (?P<n>1024)\)",
            r"= gemm_ptr[(\g<at> + {n*2})"),
    Mistake("points go to the next element", r"\bv_ptr\[", "v_ptr[1 + "),
    Mistake("sums go to the next element", r"\bgemm_ptr\[", "gemm_ptr[1 + "),
    Mistake("a sign of the transform of sums", r"(half_y_local_ptr\[1\] = .*) - ", r"\1 + "),
    Mistake("a term of the transform is lost",
            r"(ytile_local_ptr\[0\] = .*) \+ half_y_local_ptr\[4\]", r"\1"),
    Mistake("a row too many is stored", r"\+ i6\) < (?P<n>\d+)\)", "+ i6) < {n+1})"),
    Mistake("rows and columns of outputs swapped", r"ytile_local_ptr\[\(\(i6 \* 2\) \+ i7\)\]",
            "ytile_local_ptr[((i7 * 2) + i6)]"),
)  # fmt: skip


def mutants(code: DeviceCode, mistakes: tuple[Mistake, ...]) -> Iterator[tuple[str, DeviceCode]]:
    """Names of the mistakes that a code has room for, and the code with each."""
    for mistake in mistakes:
        changed = mistake.apply(code.source)
        if changed is not None and changed != code.source:
            yield mistake.name, replace(code, source=changed)
