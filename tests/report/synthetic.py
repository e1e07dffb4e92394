"""A made-up set with known answers: records as the runs would store them, from planted optima and slopes."""

import hashlib
import json
import math
import random
from pathlib import Path
from typing import Any

import yaml

from gdnbench.configuration import digest
from gdnbench.results import Record, Store

WIDTHS = (64, 128, 256)
SEEDS = (0, 1, 2)
ARMS = {
    "GDN (SP)": ("gdn", "sp"),
    "GDN+μP": ("gdn", "mup_gdn"),
    "GDN+μP (derived)": ("gdn", "mup_derived"),
    "Transformer (SP)": ("transformer", "sp"),
    "Transformer+μP": ("transformer", "mup_derived"),
    "Mamba-2": ("mamba2", "sp"),
    "RWKV-7": ("rwkv7", "sp"),
}
ENVIRONMENT: dict[str, Any] = {
    "device": "cpu",
    "cpu": "Example CPU 2 GHz",
    "driver": None,
    "versions": {"torch": "2.13.0", "python": "3.11.7"},
    "commit": "0123456789abcdef0123456789abcdef01234567",
    "dirty": False,
    "backends": {"gated_delta": "torch"},
    "workers": 1,
    "host": "example",
    "threads": 1,
}
SITES = {
    "gdn": (
        "mixer.q_proj", "mixer.k_proj", "mixer.v_proj", "mixer.a_proj", "mixer.b_proj", "mixer.alpha", "mixer.beta",
        "mixer.o_norm.in", "mixer.o_norm", "mixer.o_proj", "feedforward.down_proj", "",
    ),
    "transformer": ("mixer.q_proj", "mixer.k_proj", "mixer.v_proj", "mixer.o_proj", "feedforward.down_proj", ""),
}  # fmt: skip


class Builder:
    """Writes records into a store; every method plants an effect of known size."""

    def __init__(self, root: Path, name: str = "quick", *, noise: float = 0.001):
        self.store = Store(root, name)
        self.random = random.Random(7)
        self.noise = noise
        self.environment = dict(ENVIRONMENT)
        self.digest = hashlib.sha256(b"sources").hexdigest()

    def spec(self, experiment: str, arm: str, width: int, seed: int, log2_lr: float = -7.0) -> dict[str, Any]:
        arch, table = ARMS[arm]
        return {
            "experiment": experiment,
            "arm": arm,
            "model": {
                "arch": arch, "width": width, "base_width": 64, "depth": 2, "vocab_size": 256, "tied": True,
                "block": "controlled", "geometry": "paper", "mlp_ratio": 2.0, "mlp_width": None, "mlp_rule": "ratio",
                "init_std": 0.04, "embedding_std": 0.1, "norm_eps": 1e-6, "pattern": "", "options": {},
                "backend": "torch",
            },
            "parametrization": {"table": table, "switches": {}},
            "data": {"corpus": "stdlib", "tokenizer": "bytes"},
            "optimizer": {"name": "adamw", "lr": 2.0**log2_lr},
            "schedule": {"kind": "cosine"},
            "training": None,
            "evaluation": {},
            "coordinates": None,
            "decode": None,
            "seed": seed,
            "device": "cpu",
            "dtype": "float32",
            "threads": 1,
        }  # fmt: skip

    def write(
        self, kind: str, spec: dict[str, Any], metrics: dict[str, tuple[float, str]], rows: list[dict[str, Any]],
        outcome: str = "finished", data: dict[str, Any] | None = None,
    ) -> str:  # fmt: skip
        """Store one record and return its id."""
        model = spec["model"]
        names = [spec["experiment"], model["arch"], spec["parametrization"]["table"], f"w{model['width']}"]
        run_id = "-".join([*names, f"s{spec['seed']}", digest(spec)[:10]])
        path = self.store.rows_path(run_id)
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
        record = Record(
            run_id=run_id,
            set=self.store.name,
            kind=kind,
            outcome=outcome,  # type: ignore[arg-type]
            detail="loss above 20 at step 40" if outcome == "diverged" else "",
            spec=spec,
            metrics={name: {"value": value, "unit": unit} for name, (value, unit) in metrics.items()},
            rows_sha256="",
            source_digest=self.digest,
            data={"corpus": "stdlib", "corpus_hash": "c0ffee" * 8, "tokenizer": "bytes", "tokenizer_hash": "ab" * 20}
            | (data or {}),
            environment=dict(self.environment),
            started="2026-06-20T10:00:00Z",
            duration_s=3.5,
        )
        self.store.write(record)
        return run_id

    def train(
        self, experiment: str, arm: str, width: int, seed: int, log2_lr: float, loss: float | None, *,
        steps: int = 100, origin: dict[str, Any] | None = None, documents: list[dict[str, Any]] | None = None,
        overlap: dict[str, Any] | None = None,
    ) -> str:  # fmt: skip
        """Store a training run with this validation loss; None: it diverged."""
        spec = self.spec(experiment, arm, width, seed, log2_lr)
        spec["training"] = {"steps": steps, "seconds": None, "batch_size": 16, "seq_len": 64}
        if origin is not None:
            spec["origin"] = origin
        linear = spec["model"]["arch"] != "transformer"
        metrics = {
            "params_total": (12.0 * width * width * 2 + 256 * width, "parameter"),
            "params_non_embedding": (12.0 * width * width * 2, "parameter"),
            "flops_per_token": (6 * 24.0 * width * width, "FLOP/token"),
            "train_tokens": (1024.0 * steps, "token"),
            "train_flops": (1024 * steps * 144.0 * width * width, "FLOP"),
            "state_bytes": (width * 64.0 if linear else width * 1024.0, "byte"),
            "mlp_width": (2.0 * width, "1"),
            "tokens_per_s": ((21_000.0 if linear else 30_000.0) * (1 + 0.02 * self.random.random()), "token/s"),
            "peak_gib": (0.31 + 0.001 * seed, "GiB"),
        }
        if experiment == "comparison":
            metrics["match_deviation"] = (0.0 if arm == "Transformer+μP" else -0.0043, "relative")
        if loss is not None:
            metrics |= {
                "val_loss": (loss, "nat/token"),
                "test_loss": (loss + 0.02, "nat/token"),
                "bits_per_byte": (loss / math.log(2), "bit/byte"),
                "whitespace_word_ppl": (math.exp(loss * 1.9), "1"),
                "train_loss": (loss - 0.03, "nat/token"),
            }
        rows = [
            {
                "type": "train", "step": step, "tokens": step * 1024, "lr": 2.0**log2_lr, "grad_norm": 0.7,
                "loss": (loss or 9.0) + 3.2 * math.exp(-step / 18) + 0.01 * self.random.random(),
                "tokens_per_s": 20_000.0,
            }
            for step in range(5, 101, 5)
        ]  # fmt: skip
        data = {} if overlap is None else {"overlap": overlap}
        outcome = "finished" if loss is not None else "diverged"
        return self.write("train", spec, metrics, [*rows, *(documents or [])], outcome, data)

    def sweep(
        self, experiment: str, arm: str, drift: float, *, first: bool, seeds: tuple[int, ...] = SEEDS,
        widths: tuple[int, ...] = WIDTHS, centre: float = -7.1,
    ) -> None:  # fmt: skip
        """Plant an optimum that moves by ``drift`` octaves per doubling; seed 0 has the grid, the others the best ± 1.

        Runs at the base width are stored for the ``first`` arm only, as the plan does.
        """
        for width in widths[0 if first else 1 :]:
            best = centre + drift * math.log2(width / widths[0])
            grid = [-10.0 + 0.5 * step for step in range(13)]
            nearest = min(grid, key=lambda rate: abs(rate - best))
            for seed in seeds:
                own = best + (seed - 1) * 0.04 + self.random.gauss(0, 0.02)
                for rate in grid if seed == 0 else (nearest - 0.5, nearest, nearest + 0.5):
                    loss = 2.6 - 0.2 * math.log2(width / 64) + 0.02 * seed + 0.03 * (rate - own) ** 2
                    loss += self.random.gauss(0, self.noise)
                    diverges = rate == grid[-1] and width == widths[-1]
                    self.train(experiment, arm, width, seed, rate, None if diverges else loss)

    def documents(self, sizes: list[int], shift: float, shares: list[float]) -> list[dict[str, Any]]:
        """Return rows of test documents of these bytes, coded ``shift`` bits per byte worse than 1.5, with noise."""
        rows = []
        for place, (size, share) in enumerate(zip(sizes, shares, strict=True)):
            bits = 1.5 + shift + 0.1 * place / len(sizes) - 0.3 * share + self.random.gauss(0, 0.001)
            about = {"type": "document", "corpus": "stdlib", "split": "test", "document": place, "in_train": share}
            rows.append({**about, "nll": bits * math.log(2) * size, "tokens": size // 4, "bytes": size})
        return rows

    def comparison(self, losses: dict[str, float]) -> None:
        """Plant these mean losses at two rates and three seeds, at width 128."""
        for arm, loss in losses.items():
            for rate in (-8.0, -7.0, -6.0):
                for seed in SEEDS:
                    noise = self.random.gauss(0, 0.004)
                    self.train("comparison", arm, 128, seed, rate, loss + 0.05 * (rate + 7) ** 2 + noise)

    def coordinates(self, arm: str, slope: float, widths: tuple[int, ...] = (64, 128, 256, 512)) -> None:
        """Plant sizes that grow as width to the power ``slope`` (the readout before its norm: -0.5, gates: 0)."""
        arch, _ = ARMS[arm]
        sites = ["embedding", *(f"blocks.{b}.{site}".rstrip(".") for b in (0, 1) for site in SITES[arch]), "logits"]
        for width in widths:
            for seed in SEEDS:
                spec = self.spec("coordinates", arm, width, seed)
                spec["coordinates"] = {"after_steps": [1, 4, 32], "batch_size": 8, "seq_len": 64}
                rows = []
                for site in sites:
                    power = 0.0 if site.endswith((".alpha", ".beta", ".o_norm", "embedding")) else slope
                    power = -0.5 if site.endswith(".in") else power
                    size = 0.5 * (width / 64) ** (power + self.random.gauss(0, 0.005))
                    rows.append({"type": "coordinate", "site": site, "after_steps": 0, "rms": size})
                    rows += [
                        {
                            "type": "coordinate",
                            "site": site,
                            "after_steps": n,
                            "rms": size,
                            "update_rms": size * 0.1 * n,
                        }
                        for n in (1, 4, 32)
                    ]
                self.write("coord_check", spec, {"params_total": (1e5, "parameter")}, rows)

    def decode(self, arm: str, speed: float, *, grows: bool) -> None:
        """Plant speeds over context; a Transformer's falls and its state ``grows``."""
        for context in (256, 1024, 4096):
            spec = self.spec("decode", arm, 128, 0)
            spec["decode"] = {"context": context, "batch_size": 1, "tokens": 32}
            rate = speed / (1 + context / 4096) if grows else speed
            metrics = {
                "tokens_per_s": (rate, "token/s"),
                "ms_per_token_p50": (1000 / rate, "ms"),
                "ms_per_token_p99": (1300 / rate, "ms"),
                "prefill_tokens_per_s": (20 * rate, "token/s"),
                "state_bytes": (context * 2048.0 if grows else 66_000.0, "byte"),
                "weights_gib": (0.0016, "GiB"),
                "peak_gib": (0.35, "GiB"),
                "params_total": (426_000.0, "parameter"),
            }
            self.write("decode", spec, metrics, [])

    def preset(self, claims: list[dict[str, Any]] | None = None) -> None:
        """Store the snapshot of the preset."""
        folder = self.store.folder / "presets"
        folder.mkdir(parents=True, exist_ok=True)
        content = {**PRESET, "claims": CLAIMS if claims is None else claims}
        (folder / "quick.yaml").write_text(yaml.safe_dump(content, allow_unicode=True), encoding="utf-8")


def _arms(*names: str) -> list[dict[str, str]]:
    return [{"name": name, "arch": ARMS[name][0], "table": ARMS[name][1]} for name in names]


PRESET: dict[str, Any] = {
    "name": "quick",
    "title": "Quick look on a CPU",
    "about": "All arms on the standard library's source as bytes, at a size that shows directions and no more.",
    "experiments": [
        {
            "name": "transfer-gdn", "kind": "lr_sweep", "title": "Learning-rate transfer of GDN",
            "widths": list(WIDTHS), "seeds": list(SEEDS), "arms": _arms("GDN (SP)", "GDN+μP"),
        },
        {
            "name": "transfer-transformer", "kind": "lr_sweep", "title": "Learning-rate transfer of the Transformer",
            "widths": list(WIDTHS), "seeds": list(SEEDS), "arms": _arms("Transformer (SP)", "Transformer+μP"),
        },
        {
            "name": "comparison", "kind": "comparison", "title": "All arms at one budget", "widths": [128],
            "arms": _arms("Transformer+μP", "GDN (SP)", "GDN+μP", "Mamba-2", "RWKV-7"),
            "match": {"by": "parameters", "reference": "Transformer+μP", "tolerance": 0.01},
        },
        {
            "name": "coordinates", "kind": "coord_check", "title": "Coordinate check", "widths": [64, 128, 256, 512],
            "arms": _arms("GDN (SP)", "GDN+μP", "GDN+μP (derived)"),
        },
        {
            "name": "decode", "kind": "decode", "title": "Generation", "widths": [128], "contexts": [256, 1024, 4096],
            "arms": _arms("Transformer+μP", "GDN+μP", "Mamba-2", "RWKV-7"),
        },
    ],
}  # fmt: skip

FAR = "0.1M tokens a run instead of 10B"
CLAIMS: list[dict[str, Any]] = [
    {"claim": "A1.1", "experiment": "comparison", "arm": "Transformer+μP", "metric": "whitespace_word_ppl",
     "verdict": "not testable here", "reason": "needs WikiText-103 and 10B tokens", "distance": FAR},
    {"claim": "A1.7", "test": "loss_gap", "experiment": "comparison", "arm": "GDN+μP", "control": "Transformer+μP",
     "bounds": {"bound": 0.1}, "distance": FAR},
    {"claim": "A1.8", "test": "loss_gap", "experiment": "comparison", "arm": "GDN+μP", "control": "GDN (SP)",
     "bounds": {"bound": 0.0}, "distance": FAR},
    {"claim": "A2.5", "test": "decode_ratio", "experiment": "decode", "arm": "GDN+μP", "control": "Transformer+μP",
     "min_seeds": 1, "bounds": {"low": 2, "high": 3}},
    {"claim": "A3.1", "test": "transfer_regret", "experiment": "transfer-gdn", "arm": "GDN+μP", "control": "GDN (SP)",
     "bounds": {"bound_nats": 0.01}, "distance": FAR},
    {"claim": "A3.3", "test": "gate_variance", "experiment": "coordinates", "arm": "GDN+μP", "control": "GDN (SP)"},
    {"claim": "A3.8", "verdict": "not testable here", "reason": "no sweep of Mamba-2 or RWKV-7 in this preset"},
    {"claim": "B1", "test": "lr_transfer", "experiment": "transfer-gdn", "arm": "GDN+μP", "control": "GDN (SP)",
     "distance": FAR},
    {"claim": "B2", "experiment": "transfer-gdn", "arm": "GDN (SP)", "control": "GDN+μP",
     "verdict": "not testable here", "reason": "another corpus and budget"},
    {"claim": "B6", "test": "readout_scale", "experiment": "coordinates", "arm": "GDN+μP",
     "bounds": {"expected": -0.5}},
    {"claim": "B7", "test": "gate_outputs", "experiment": "coordinates", "arm": "GDN+μP"},
]  # fmt: skip


def full_set(root: Path, *, sp_drift: float = -0.7) -> Store:
    """Write a whole quick-like set: μP does not drift, SP does by ``sp_drift``."""
    builder = Builder(root)
    builder.preset()
    for experiment, name in (("transfer-gdn", "GDN"), ("transfer-transformer", "Transformer")):
        builder.sweep(experiment, f"{name} (SP)", sp_drift, first=True)
        builder.sweep(experiment, f"{name}+μP", 0.0, first=False)
    builder.comparison({"Transformer+μP": 2.41, "GDN (SP)": 2.39, "GDN+μP": 2.33, "Mamba-2": 2.36, "RWKV-7": 2.35})
    builder.coordinates("GDN (SP)", 0.5)
    builder.coordinates("GDN+μP", 0.0)
    builder.coordinates("GDN+μP (derived)", -0.05)
    builder.decode("Transformer+μP", 400.0, grows=True)
    for arm, speed in (("GDN+μP", 600.0), ("Mamba-2", 700.0), ("RWKV-7", 500.0)):
        builder.decode(arm, speed, grows=False)
    return builder.store
