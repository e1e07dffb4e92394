"""A set of training speeds as the bench would store them on a GPU, from planted times and kernels."""

import random
from pathlib import Path

from gdnbench.measure.kernels.calibration import Calibration
from gdnbench.measure.training.case import TrainingCase
from gdnbench.measure.training.components import grouped
from gdnbench.measure.training.grid import cases
from gdnbench.measure.training.stepping import Stepped
from gdnbench.models.decoder import on_meta
from gdnbench.results import Record, Store
from gdnbench.runs.bench import Content
from gdnbench.runs.training_record import measured_content, refused_content
from tests.bench.planted import ENVIRONMENT

CALIBRATION = Calibration(copy_gb_s=4240.0, matmul_tflop_s=710.0)
STEP_MS = {
    "gdnbench": 128.0,
    "gdnbench_float32_residual": 133.0,
    "fla_eager": 206.0,
    "fla_compiled": 190.0,
    "fla_fused_ce": 201.0,
    "fla_compiled_fused_ce": 184.0,
    "hf_llama_compiled": 172.0,
}
# Of one step of 128 ms.
KERNELS = (
    ("nvjet_tst_192x192_64x4_2x1_v_bz_coopB_TNN", 50.0),
    ("nvjet_tst_256x128_64x4_1x2_h_bz_coopA_NTT", 24.5),
    ("scan_kernel", 3.0),
    ("gradients_kernel", 2.6),
    ("convolution_backward_kernel", 4.1),
    ("convolution_forward_kernel", 2.0),
    ("triton_poi_fused_add_mul_silu_4", 19.0),
    ("rows_kernel", 2.9),
    ("void at::native::(anonymous namespace)::multi_tensor_apply_kernel<FusedAdamMathFunctor>", 1.6),
    ("Memcpy DtoD (Device -> Device)", 3.4),
    ("somebodys_new_kernel", 2.2),
)


class Planter:
    """Writes training speeds into a store; equal seeds plant equal numbers."""

    def __init__(self, root: Path, name: str = "h200-train"):
        self.store = Store(root, name)
        self.random = random.Random(3)

    def stepped(self, case: TrainingCase, *, trains: bool = True, profile: bool = False, scale: float = 1.0) -> Stepped:
        ms = STEP_MS[case.impl] * scale
        times = tuple(ms * (1 + self.random.gauss(0, 0.003)) for _ in range(case.steps)) if trains else ()
        model = on_meta(case.model)
        return Stepped(
            ready=1012.5, first_step_s=164.0 if case.impl.startswith("fla") else 22.0, untimed_s=180.0,
            first_loss=10.4, gate_loss=8.1 if trains else 10.4, trains=trains, seconds=sum(times) / 1e3, step_ms=times,
            peak_gib=20.5 if case.ours else 36.9, reserved_gib=40.0,
            params_total=model.parameter_count(embedding=True),
            params_non_embedding=model.parameter_count(embedding=False),
            what_ran={"gated_delta": "triton"} if case.ours else {"fla-core": "0.6.0"},
            kernels=tuple(grouped(KERNELS, 1)) if profile else (),
        )  # fmt: skip

    def measured(self, case: TrainingCase, found: Stepped) -> None:
        self.keep(case, measured_content(case, found, 1000.0, CALIBRATION, str(ENVIRONMENT["device"])))

    def refused(self, case: TrainingCase, reason: str) -> None:
        self.keep(case, refused_content(case, reason))

    def keep(self, case: TrainingCase, content: Content) -> None:
        from gdnbench.runs.rows import Rows

        rows = Rows(self.store.rows_path(case.run_id), 0)
        for row in content.rows:
            rows.append(dict(row))
        rows.close()
        self.store.write(
            Record(
                run_id=case.run_id, set=self.store.name, kind="train_throughput", outcome=content.outcome,
                detail=content.detail, spec=case.spec(), metrics=content.metrics, rows_sha256="",
                source_digest="ab" * 32, data=content.data, environment=ENVIRONMENT,
                started="2026-11-22T10:00:00+00:00", duration_s=60.0, notes=content.notes,
            )
        )  # fmt: skip


def full_set(root: Path) -> Store:
    """Plant every model and peer: GDN profiled, one red row, a peer that is missing, one that ran out of memory."""
    planter = Planter(root)
    for case in cases(device="cuda"):
        arch, block = case.model.arch, case.model.block
        if (arch, case.impl) == ("mamba2", "fla_eager"):
            planter.refused(case, "its Mamba-2 would fall back to plain PyTorch, since mamba-ssm is missing")
        elif (arch, block) == ("rwkv7", "controlled"):
            planter.measured(case, planter.stepped(case, trains=False))
        elif arch == "hybrid":
            planter.refused(case, "out of GPU memory at batch 32 x 2048; --batch 16 fits, with a peak of 70.1 GiB")
        else:
            profile = (arch, case.impl) == ("gdn", "gdnbench")
            planter.measured(case, planter.stepped(case, profile=profile, scale=0.9 if arch == "transformer" else 1.0))
    return planter.store
