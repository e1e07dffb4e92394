"""A set of kernel records as the bench would store them on a GPU, from planted times."""

import random
from pathlib import Path

from gdnbench.measure.kernels import floors
from gdnbench.measure.kernels.calibration import Calibration
from gdnbench.measure.kernels.case import KernelCase, Shape
from gdnbench.measure.kernels.check import Check
from gdnbench.measure.kernels.first_call import FirstCall
from gdnbench.measure.kernels.grid import GPU_SHAPES
from gdnbench.measure.kernels.measure import Clocked, Measurement, Refusal
from gdnbench.measure.kernels.operations.gated_delta import GATES, SCALED_GATES
from gdnbench.measure.kernels.ratios import paired_ratio
from gdnbench.results import Record, Store
from gdnbench.runs.bench import Content
from gdnbench.runs.kernel_record import first_call_content, measured_content

CALIBRATION = Calibration(copy_gb_s=4240.0, matmul_tflop_s=710.0)
SHAPES = tuple(Shape(*map(int, text.split(","))) for text in GPU_SHAPES)
SLOWER = {"triton": 2.2, "fla": 6.5, "flash_qla": 3.1}  # times the floor
ENVIRONMENT = {
    "device": "NVIDIA H200",
    "driver": "580.159.03",
    "versions": {"torch": "2.11.0+cu130", "triton": "3.6.0", "flash-linear-attention": "0.6.0"},
    "commit": "0123456789abcdef0123456789abcdef01234567",
    "dirty": None,
}


class Planter:
    """Writes kernel records into a store; equal seeds plant equal numbers."""

    def __init__(self, root: Path, name: str = "h200-kernels"):
        self.store = Store(root, name)
        self.random = random.Random(3)

    def case(self, impl: str, shape: Shape = SHAPES[0], **fields: str) -> KernelCase:
        common = {
            "op": "gated_delta", "dtype": "bfloat16", "direction": "forward", "timing": "device", "qk_norm": "given",
            "gates": "default",
        }  # fmt: skip
        return KernelCase(impl=impl, shape=shape, **(common | fields))  # type: ignore[arg-type]

    def times(self, ms: float) -> tuple[float, ...]:
        return tuple(ms * (1 + self.random.gauss(0, 0.004)) for _ in range(20))

    def group(self, cases: list[KernelCase], slower: dict[str, float], peer: str = "fla", error: float = 3e-3) -> None:
        """Plant cases timed in turn: times of the floor by name; the peer is what the others are compared with."""
        work = {
            "gated_delta": floors.gated_delta,
            "gated_delta_step": floors.gated_delta_step,
            "attention": floors.attention,
            "ssd": floors.ssd,
        }
        found: dict[str, Clocked] = {}
        for case in cases:
            least = floors.floor_ms(work[case.op](case.shape, 2, case.direction), CALIBRATION)
            eager = 0.05 if case.timing == "eager" else 0.0
            found[case.name] = Clocked(
                samples=self.times(slower[case.name] * least + eager), how="graph", note="", sets=2
            )
        for case in cases:
            passes = work[case.op](case.shape, 2, case.direction)
            errors = {"output": error} | ({} if case.direction == "forward" else {"d_q": 1.5 * error})
            other = None if case.name == peer else found.get(peer)
            self.keep(
                case,
                measured_content(
                    Measurement(
                        case=case,
                        check=Check(errors=errors, limits=dict.fromkeys(errors, 1e-2), part="", peak_extra_gib=1.5),
                        clocked=found[case.name],
                        ratio=None if other is None else paired_ratio(found[case.name].samples, other.samples),
                        peer="" if other is None else peer,
                        work=passes,
                        floor_ms=floors.floor_ms(passes, CALIBRATION),
                        what_ran={"fla": "0.6.0"} if case.impl == "fla" else None,
                    ),
                    CALIBRATION,
                ),
            )

    def refused(self, case: KernelCase, reason: str, outcome: str = "unavailable") -> None:
        measured = Measurement(case=case, work=(), floor_ms=0.1, refusal=Refusal(outcome, reason))  # type: ignore[arg-type]
        self.keep(case, measured_content(measured, CALIBRATION))

    def wrong(self, case: KernelCase) -> None:
        check = Check(errors={"output": 0.31}, limits={"output": 1e-2}, part="")
        self.keep(case, measured_content(Measurement(case=case, work=(), floor_ms=0.1, check=check), CALIBRATION))

    def keep(self, case: KernelCase, content: Content) -> None:
        self.store.run_folder(case.run_id).mkdir(parents=True, exist_ok=True)
        self.store.rows_path(case.run_id).write_text("", encoding="utf-8")
        self.store.write(
            Record(
                run_id=case.run_id, set=self.store.name, kind="kernel", outcome=content.outcome, detail=content.detail,
                spec=case.spec(), metrics=content.metrics, rows_sha256="", source_digest="ab" * 32, data=content.data,
                environment=ENVIRONMENT, started="2026-11-22T10:00:00+00:00", duration_s=1.0, notes=content.notes,
            )
        )  # fmt: skip


def full_set(root: Path) -> Store:
    """Plant all shapes, regimes and parts; FlashQLA serves K = V = 128 only, and one case is wrong."""
    planter = Planter(root)
    for shape in SHAPES:
        for direction in ("forward", "forward_backward"):
            for timing in ("device", "eager"):
                regime = {"direction": direction, "timing": timing}
                for gates, qk in (("default", "given"), ("strong", "given"), ("default", "raw")):
                    about = regime | {"gates": gates, "qk_norm": qk}
                    cases = [planter.case(impl, shape, **about) for impl in SLOWER if impl != "flash_qla"]
                    special = planter.case("flash_qla", shape, **about)
                    if (shape.K, shape.V) == (128, 128):
                        cases.append(special)
                    else:
                        planter.refused(special, f"q: K is {shape.K}, wants 128 (backend 'flash_qla')")
                    slower = {name: times * (1.3 if shape.K < 64 else 1) for name, times in SLOWER.items()}
                    planter.group(cases, slower)
            mixers = {"direction": direction, "timing": "device"}
            attention = planter.case("flash", shape, op="attention", gates="none", **mixers)
            planter.group([attention], {"flash": 1.4}, peer="")
            planter.refused(planter.case("mamba_ssm", shape, op="ssd", **mixers), "mamba-ssm cannot be imported")
        pair = [planter.case("triton", shape, variant=variant) for variant in (GATES, SCALED_GATES)]
        planter.group(pair, dict.fromkeys([case.name for case in pair], 2.3), peer=pair[0].name)
        planter.keep(
            planter.case("triton", shape, direction="forward_backward", timing="first_call"),
            first_call_content(FirstCall(seconds=14.2, ready_s=6.1)),
        )
    step = Shape(64, 1, 16, 128, 128)
    planter.group([planter.case(i, step, op="gated_delta_step") for i in ("triton", "fla")], {"triton": 1.15, "fla": 2})
    planter.wrong(planter.case("fla", SHAPES[0], gates="none"))
    return planter.store
