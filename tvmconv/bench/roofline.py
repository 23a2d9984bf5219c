"""What this machine could do at best, measured by a small C program (peak.c) in 0.2 seconds.

The roofline (Williams, Waterman and Patterson 2009): a convolution that does I operations per byte
it must move cannot run faster than min(peak, I * bandwidth).
"""

import subprocess
import tempfile
from dataclasses import asdict, dataclass
from importlib import resources
from pathlib import Path

from tvmconv.errors import EnvironmentProblem


@dataclass(frozen=True)
class Roofline:
    """Limits of the cores that a run may use.

    Attributes:
        gflops: multiply-adds in registers, 1e9 operations a second.
        cache_gbytes: reading from the second-level cache, 1e9 bytes a second.
        memory_gbytes: reading from memory.
    """

    gflops: float
    cache_gbytes: float
    memory_gbytes: float

    def attainable(self, intensity: float) -> float:
        """Upper limit in GFLOP/s for `intensity` operations per byte of memory traffic."""
        return min(self.gflops, intensity * self.memory_gbytes)

    @property
    def ridge(self) -> float:
        """Operations per byte from which on arithmetic is the limit, not memory."""
        return self.gflops / self.memory_gbytes

    def as_dict(self) -> dict[str, float]:
        """Plain values for JSON."""
        return asdict(self)


def measure_roofline(lanes: int, threads: int = 1) -> Roofline:
    """Compile and run peak.c with vectors of `lanes` float32 values.

    With several threads arithmetic and caches count once per core, memory once.

    Raises:
        EnvironmentProblem: no C compiler, or one that does not build the program.
    """
    from tvmconv.toolchain import find_cc

    flags = ("-O3", "-march=native", "-ffp-contract=fast", f"-DLANES={lanes}")
    with tempfile.TemporaryDirectory() as folder:
        program = Path(folder, "peak")
        with resources.as_file(resources.files(__package__) / "peak.c") as source:
            _run([*find_cc(), *flags, str(source), "-o", str(program)])
        flops, cache, memory = map(float, _run([str(program)]).split())
    return Roofline(threads * flops / 1e9, threads * cache / 1e9, memory / 1e9)


def _run(command: list[str]) -> str:
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        raise EnvironmentProblem(f"{command[0]} failed: {done.stderr.strip() or done.returncode}")
    return done.stdout
