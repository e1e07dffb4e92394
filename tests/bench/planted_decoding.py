"""A set of speeds of generation as the bench would store them on a GPU, from planted shares of the floors."""

import random
from pathlib import Path

from gdnbench.configuration import to_mapping
from gdnbench.measure.decoding import floors
from gdnbench.measure.decoding.case import DecodeCase
from gdnbench.measure.decoding.fitting import why_too_large
from gdnbench.measure.decoding.grid import Asked, cases
from gdnbench.measure.decoding.measuring import Decoded
from gdnbench.measure.decoding.session import Gate
from gdnbench.measure.kernels.calibration import Calibration
from gdnbench.results import Record, Store
from gdnbench.runs.bench import Content
from gdnbench.runs.decoding_record import measured_content, refused_content
from gdnbench.runs.rows import Rows
from tests.bench.planted import ENVIRONMENT

CALIBRATION = Calibration(copy_gb_s=4240.0, matmul_tflop_s=710.0)
READ = 4240.0
MEMORY = 139 * 2**30
GREEN = Gate(correct=True, checked="logits against float32: relative error 0.01, at most 0.02", error=0.01)
SHARES = {1: 0.74, 8: 0.78, 64: 0.83, 256: 0.8}  # of the floor, by batch
PEER_MS = {"fla_generate": 60.0, "mamba_ssm_graph": 2.1, "hf_llama_static": 1.6}


class Planter:
    """Writes speeds of generation into a store; equal seeds plant equal numbers."""

    def __init__(self, root: Path, name: str = "h200-decode"):
        self.store = Store(root, name)
        self.random = random.Random(5)

    def decoded(self, case: DecodeCase) -> Decoded:
        """Return times near a share of the floor (a peer's: near its own), and memory a little above the least."""
        floor_ms = 1e3 * floors.step_floor_s(case, case.length, READ, CALIBRATION)
        ms = max(PEER_MS[case.impl], 1.2 * floor_ms) if not case.ours else floor_ms / SHARES[case.batch] + 0.05
        stretches = tuple(
            tuple(ms * (1 + abs(self.random.gauss(0, 0.004))) for _ in range(case.tokens)) for _ in range(case.repeats)
        )
        first = floors.prefill_floor_s(case, 1, CALIBRATION) / (0.76 if case.ours else 0.4) + 0.002
        states = case.batch * floors.row_bytes(case, case.capacity)
        weights = floors.least_bytes(case) - states
        return Decoded(
            fed=1 if case.ours else case.batch, first_s=(first, 1.01 * first, 0.99 * first), stretches=stretches,
            mixer_ms=(0.09 if case.ours else 0.2) * case.context / 1024 if case.batch == 1 else None,
            weight_bytes=weights, state_bytes=states if case.ours else None,
            prefill_peak_gib=(weights + states) / 2**30 + 2e-5 * min(case.context, 32768) + 0.3,
            decode_peak_gib=(weights + states) / 2**30 + 0.3,
        )  # fmt: skip

    def measured(self, case: DecodeCase, gate: Gate = GREEN) -> None:
        said = {
            "gate": to_mapping(gate),
            "params_total": floors.counted(case.model).parameter_count(embedding=True),
            "params_non_embedding": floors.counted(case.model).parameter_count(embedding=False),
            "what_ran": {"gated_delta": "triton"} if case.ours else {"fla-core": "0.6.0"},
        }
        said |= {"measured": to_mapping(self.decoded(case))} if gate.correct else {}
        self.keep(case, measured_content(case, said, CALIBRATION, READ, MEMORY))

    def keep(self, case: DecodeCase, content: Content) -> None:
        rows = Rows(self.store.rows_path(case.run_id), 0)
        for row in content.rows:
            rows.append(dict(row))
        rows.close()
        self.store.write(
            Record(
                run_id=case.run_id, set=self.store.name, kind="decode", outcome=content.outcome,
                detail=content.detail, spec=case.spec(), metrics=content.metrics, rows_sha256="",
                source_digest="ab" * 32, data=content.data, environment=ENVIRONMENT,
                started="2026-11-22T10:00:00+00:00", duration_s=2.0, notes=content.notes,
            )
        )  # fmt: skip


def grid_set(root: Path, **asked: object) -> Store:
    """Plant the grid (or what is asked of it): what does not fit, mamba-ssm missing, controlled RWKV-7 red."""
    planter = Planter(root)
    for case in cases(Asked(device="cuda", **asked)):
        if reason := why_too_large(case, MEMORY):
            planter.keep(case, refused_content(case, reason))
        elif case.impl == "mamba_ssm_graph":
            planter.keep(case, refused_content(case, "mamba-ssm is not installed; pip install mamba-ssm"))
        elif (case.model.arch, case.model.block) == ("rwkv7", "controlled"):
            planter.measured(case, Gate(correct=False, checked="logits", error=0.5, problem="it is off by 0.5"))
        else:
            planter.measured(case)
    return planter.store
