"""The harness's own command with our models: ``python -m gdnbench.lm_eval --model gdnbench --model_args ...``."""

import importlib
import sys

from gdnbench.errors import GdnbenchError


def main() -> None:
    """Run lm-eval's command line as it is; one line and exit code 2 for a mistake that a user can mend."""
    try:
        _run()
    except GdnbenchError as error:
        sys.stderr.write(f"gdnbench: {' '.join(str(error).split())}\n")
        sys.exit(2)


def _run() -> None:
    try:
        from lm_eval._cli import HarnessCLI
        from lm_eval.utils import setup_logging
    except ModuleNotFoundError as error:
        raise GdnbenchError(f'{error.name} is not installed: pip install "gdnbench[eval]"') from None
    setup_logging()
    parser = HarnessCLI()
    arguments = parser.parse_args()
    importlib.import_module("gdnbench.lm_eval.model")  # registers the name
    try:
        parser.execute(arguments)
    except ValueError as error:
        said, _, names = str(error).partition("Tasks not found: ")
        if said or not names:
            raise
        from lm_eval.tasks import TaskManager

        from gdnbench.lm_eval.tasks import unknown_task

        known = TaskManager(include_path=arguments.include_path).all_tasks
        raise unknown_task(names.split(", ")[0], known) from None


if __name__ == "__main__":
    main()
