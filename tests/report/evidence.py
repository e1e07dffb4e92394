"""A made-up set of the size of a GPU study: many arms and experiments, each with an effect of known size."""

from pathlib import Path
from typing import Any

import yaml

from gdnbench.results import Store
from tests.report import synthetic
from tests.report.synthetic import Builder

SEEDS = (0, 1, 2, 3, 4)
WIDTHS = (64, 128, 256, 512)
LENGTHS = (100, 400, 800)
GDN = {
    "GDN (SP)": "sp", "GDN (SP, fan-in)": "sp_fanin", "GDN (SP, embedding rate)": "sp_emb", "GDN+μP": "mup_gdn",
    "GDN+μP (derived)": "mup_derived",
}  # fmt: skip
SWEEPS: dict[str, dict[str, tuple[str, str]]] = {
    "transfer-gdn": {arm: ("gdn", table) for arm, table in GDN.items()},
    "decay": {f"GDN+μP, decay {how}": ("gdn", "mup_gdn") for how in ("coupled", "λ·m", "λ·√m")},
    "transfer-transformer": {
        "Transformer (SP)": ("transformer", "sp"), "Transformer+μP": ("transformer", "mup_derived"),
    },
    "sgd": {
        "GDN (SP), SGD": ("gdn", "sp"), "GDN+μP (original), SGD": ("gdn", "mup_orig"),
        "GDN+μP, SGD": ("gdn", "mup_gdn"),
    },
    "others": {
        "Mamba-2 (SP)": ("mamba2", "sp"), "Mamba-2+μP": ("mamba2", "mup_mamba2"), "RWKV-7 (SP)": ("rwkv7", "sp"),
        "RWKV-7+μP": ("rwkv7", "mup_rwkv7"),
    },
}  # fmt: skip
COMPARED = {
    "Transformer+μP": ("transformer", "mup_derived"), "GDN (SP)": ("gdn", "sp"), "GDN+μP": ("gdn", "mup_gdn"),
    "Mamba-2": ("mamba2", "sp"), "RWKV-7": ("rwkv7", "sp"), "Hybrid 80% GDN": ("hybrid", "mup_gdn"),
}  # fmt: skip
PAGES = [3_000 + 170 * place for place in range(60)]
BOOKS, SHARES = [760_000, 150_000, 98_000, 2_000_000, 190_000, 1_750_000], [0.0, 0.001, 0.0, 0.0, 0.0005, 0.85]
OVERLAP = {
    "test": {"words": 13, "ngrams": 889_525, "in_train": 264_688, "documents": 6, "documents_with": 4},
    "wikitext-103 test": {"words": 13, "ngrams": 205_672, "in_train": 0, "documents": 60, "documents_with": 0},
}


def builder(root: Path, name: str = "evidence", **options: Any) -> Builder:
    """Return a builder that knows all arms."""
    synthetic.ARMS.update({arm: kind for arms in (*SWEEPS.values(), COMPARED) for arm, kind in arms.items()})
    return Builder(root, name, **options)


def horizon(built: Builder, arm: str, drift: float, by_length: float, *, seeds: tuple[int, ...] = SEEDS) -> None:
    """Plant optima at widths 64 and 256 that move by ``drift`` a doubling of width and ``by_length`` of the length."""
    for width in (64, 256):
        for seed in seeds:
            for rate in [-9.0 + 0.5 * step for step in range(9)]:
                trunk = built.train("horizon", arm, width, seed, rate, 3.0, steps=640)
                for place, steps in enumerate(LENGTHS):
                    best = -7.0 + drift * (width == 256) * 2 + by_length * (0, 2, 3)[place] + 0.03 * (seed - 2)
                    loss = 2.6 - 0.1 * place + 0.03 * (rate - best) ** 2 + built.random.gauss(0, built.noise)
                    origin = {"run": trunk, "step": int(0.8 * steps), "takes": "state"}
                    built.train("horizon", arm, width, seed, rate, loss, steps=steps, origin=origin)


def fine_tune(built: Builder, arm: str, drift: float, *, seeds: tuple[int, ...] = SEEDS) -> None:
    """Plant fine-tuning optima two octaves below those of training, at three widths."""
    for width in (64, 128, 256):
        for seed in seeds:
            first = built.train("fine-tune", arm, width, seed, -7.0, 2.5)
            for rate in (-10.0, -9.5, -9.0, -8.5, -8.0):
                best = -9.1 + drift * {64: 0, 128: 1, 256: 2}[width] + 0.02 * (seed - 2)
                loss = 2.3 + 0.03 * (rate - best) ** 2 + built.random.gauss(0, built.noise)
                built.train(
                    "fine-tune", arm, width, seed, rate, loss, origin={"run": first, "step": 100, "takes": "weights"}
                )


def comparison(built: Builder, shifts: dict[str, float]) -> None:
    """Plant arms whose losses and bits per byte differ from the Transformer's by these shifts."""
    for arm, shift in shifts.items():
        for rate in (-8.0, -7.0, -6.0):
            for seed in (0, 1, 2) if rate == -7 else (0,):
                pages = built.documents(PAGES, 2 * shift, [0.0] * len(PAGES))
                rows = built.documents(BOOKS, shift, SHARES) + [{**row, "corpus": "wikitext-103"} for row in pages]
                loss = 3.1 + 2 * shift + 0.05 * (rate + 7) ** 2 + built.random.gauss(0, 0.002)
                built.train("comparison", arm, 512, seed, rate, loss, steps=1500, documents=rows, overlap=OVERLAP)


def preset(built: Builder, claims: list[dict[str, Any]]) -> None:
    """Store the snapshot of the preset."""
    folder = built.store.folder / "presets"
    folder.mkdir(parents=True, exist_ok=True)
    content = {
        "name": "evidence", "title": "Evidence", "about": "Every kind of experiment, made up.",
        "experiments": [*map(_sweep, SWEEPS), *_others()], "claims": claims,
    }  # fmt: skip
    (folder / "evidence.yaml").write_text(yaml.safe_dump(content, allow_unicode=True), encoding="utf-8")


def full_set(root: Path) -> Store:
    """Write all of it: μP keeps its rate; of its parts the embedding's rate does half, the start nothing."""
    built = builder(root)
    drifts = {
        "GDN (SP)": -0.8, "GDN (SP, fan-in)": -0.75, "GDN (SP, embedding rate)": -0.4, "Transformer (SP)": -1.0,
        "GDN (SP), SGD": 0.5, "GDN+μP (original), SGD": 0.25, "Mamba-2 (SP)": -0.2, "RWKV-7 (SP)": -0.15,
    }  # fmt: skip
    for experiment, arms in SWEEPS.items():
        for place, arm in enumerate(arms):
            first = place == 0 or (experiment == "others" and arm == "RWKV-7 (SP)")
            centre = -6.6 if experiment == "sgd" else -5.6
            built.sweep(
                experiment, arm, drifts.get(arm, 0.0), first=first, seeds=SEEDS[: 5 if "gdn" in experiment else 3],
                widths=WIDTHS, centre=centre,
            )  # fmt: skip
    horizon(built, "GDN (SP)", -0.6, -0.3)
    horizon(built, "GDN+μP", 0.0, -0.3)
    fine_tune(built, "GDN+μP", 0.0)
    comparison(built, dict(zip(COMPARED, (0.0, 0.012, -0.004, 0.02, 0.009, -0.02), strict=True)))
    for arm, slope in (("GDN (SP)", 0.5), ("GDN (SP, fan-in)", 0.1), ("GDN+μP", 0.0), ("GDN+μP (derived)", 0.05)):
        built.coordinates(arm, slope)
    preset(built, CLAIMS)
    return built.store


def _sweep(name: str) -> dict[str, Any]:
    titles = {
        "transfer-gdn": "GDN under AdamW", "decay": "Weight decay under μP", "transfer-transformer": "Transformer",
        "sgd": "GDN under SGD", "others": "Mamba-2 and RWKV-7",
    }  # fmt: skip
    arms = [{"name": arm, "arch": arch, "table": table} for arm, (arch, table) in SWEEPS[name].items()]
    return {
        "name": name,
        "kind": "lr_sweep",
        "title": titles[name],
        "widths": list(WIDTHS),
        "arms": arms,
        "log2_lrs": [-7],
    }


def _others() -> list[dict[str, Any]]:
    gdn = [{"name": arm, "arch": "gdn", "table": GDN[arm]} for arm in ("GDN (SP)", "GDN+μP")]
    compared = [
        {"name": arm, "arch": arch, "table": table, **({"transferred_lr": -6.0} if arm == "GDN+μP" else {})}
        for arm, (arch, table) in COMPARED.items()
    ]
    return [
        {
            "name": "horizon", "kind": "horizon", "title": "Horizon", "widths": [64, 256], "arms": gdn,
            "log2_lrs": [-7], "horizons": [1, 4, 8],
        },
        {
            "name": "comparison", "kind": "comparison", "title": "All architectures at 125M", "widths": [512],
            "arms": compared, "match": {"by": "parameters", "reference": "Transformer+μP"}, "log2_lrs": [-7],
        },
        {
            "name": "fine-tune", "kind": "fine_tune", "title": "Fine-tuning", "widths": [64, 128, 256],
            "arms": gdn[1:], "log2_lrs": [-9],
        },
        {
            "name": "coordinates", "kind": "coord_check", "title": "Coordinate checks", "widths": [64, 128],
            "arms": gdn,
        },
    ]  # fmt: skip


CLAIMS: list[dict[str, Any]] = [
    {"claim": "B1", "test": "lr_transfer", "experiment": "transfer-gdn", "arm": "GDN+μP", "control": "GDN (SP)"},
    {"claim": "A3.1", "test": "transfer_regret", "experiment": "transfer-gdn", "arm": "GDN+μP", "control": "GDN (SP)"},
    {"claim": "A3.6", "test": "lr_transfer", "experiment": "fine-tune", "arm": "GDN+μP"},
    {"claim": "B3", "test": "lr_transfer", "experiment": "sgd", "arm": "GDN+μP, SGD", "control": "GDN (SP), SGD"},
]
