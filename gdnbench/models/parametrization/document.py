"""The parametrization tables as text: all rules as Markdown, and what each parameter of one model gets."""

from collections.abc import Mapping

from gdnbench.models.parametrization.table import COLUMNS, Parametrization, document, rows, table_names

HEADINGS = {
    "init": "start",
    "forward": "forward",
    "adamw": "AdamW rate",
    "sgd": "SGD rate",
    "decay": "decay",
    "epsilon": "epsilon",
}


def markdown() -> str:
    """Return every table as Markdown: one row a role, cells as powers of the multiplicities."""
    parts = [
        "# Parametrization tables\n",
        "Made by `gdnbench rules` from `gdnbench/models/parametrization/tables.yaml`. A cell is a factor on the "
        "base value, in the width multiplicity `m` and the multiplicities of fan-in and fan-out; 1 where a role is "
        "not scaled. The decay column is 0 for roles that never decay.\n",
    ]
    parts += [_table(name) for name in table_names()]
    parts.append("## Switches\n")
    for name, switch in document()["switches"].items():
        parts.append(
            f"- `{name}`: {', '.join(f'`{choice}`' for choice in switch['choices'])}. {switch['about'].strip()}\n"
        )
    return "\n".join(parts)


def _table(name: str) -> str:
    about = document()["tables"][name]
    lines = [
        f"## `{name}` ({about['label']})\n",
        f"{about['about'].strip()}\n",
        f"| role | {' | '.join(HEADINGS[column] for column in COLUMNS)} | what it is |",
        f"|---|{'---|' * len(COLUMNS)}---|",
    ]
    for role, cells in rows_as_text(Parametrization(table=name)).items():
        lines.append(f"| {role} | {' | '.join(cells.values())} | {document()['roles'][role]['about']} |")
    return "\n".join([*lines, ""])


def rows_as_text(choice: Parametrization) -> dict[str, dict[str, str]]:
    """Return the cells of a parametrization as text, by role and column; decay is ``0`` for roles that never decay."""
    return {
        role: {column: "0" if column == "decay" and not row.decays else str(getattr(row, column)) for column in COLUMNS}
        for role, row in rows(choice).items()
    }


def per_parameter(
    table: str, *, arch: str, width: int, base_width: int, geometry: str, switches: Mapping[str, str]
) -> list[str]:
    """Return a text table of what each parameter and multiplier of a one-block model gets."""
    # Imported here: the decoder itself uses parametrizations.
    from gdnbench.configuration import from_mapping
    from gdnbench.models.config import ModelConfig
    from gdnbench.models.decoder import build_decoder

    fields = {"arch": arch, "width": width, "base_width": base_width, "geometry": geometry, "depth": 1}
    model = build_decoder(
        from_mapping(ModelConfig, fields, "rules"), Parametrization(table=table, switches=switches), seed=0
    )
    head = f"{'parameter':42} {'role':16} {'shape':>12} {'m_in':>6} {'m_out':>6} {'std':>9} {'forward':>8}"
    lines = [f"{head} {'AdamW':>8} {'SGD':>8} {'decay':>7} {'eps':>7}"]
    for rule in model.rules:
        shape = "x".join(map(str, rule.shape)) or "factor"
        std = "" if rule.init_std is None else f"{rule.init_std:.5f}"
        lines.append(
            f"{rule.name:42} {rule.role:16} {shape:>12} {rule.m_in:>6.3g} {rule.m_out:>6.3g} {std:>9} "
            f"{rule.forward:>8.4g} {rule.adamw:>8.4g} {rule.sgd:>8.4g} {rule.decay:>7.3g} {rule.epsilon:>7.3g}"
        )
    return lines
