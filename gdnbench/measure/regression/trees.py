"""The two trees that are compared: this checkout, and a baseline from a commit or from a folder."""

import contextlib
import subprocess
import tempfile
import textwrap
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import gdnbench_kernels

from gdnbench import environment
from gdnbench.errors import GdnbenchError


@dataclass(frozen=True, kw_only=True)
class Tree:
    """A source tree by a name to print, and the folder in it that holds the package ``gdnbench_kernels``."""

    name: str
    kernels: Path

    @property
    def root(self) -> Path:
        """The folder that holds the package ``gdnbench``."""
        return self.kernels.parent if self.kernels.name == "kernels" else self.kernels


def this_tree() -> Tree:
    """Return the tree whose code is running."""
    commit, dirty = environment.git_state()
    name = f"this checkout ({commit[:10]}{' and changes' if dirty else ''})" if commit else "this tree"
    return Tree(name=name, kernels=Path(gdnbench_kernels.__file__).resolve().parents[1])


@contextlib.contextmanager
def baseline_tree(commit: str | None, path: Path | None, root: Path = environment.PACKAGE.parent) -> Iterator[Tree]:
    """Provide the baseline: the tree at ``path``, or a ``commit`` of the repository at ``root`` in a second worktree.

    Without either, what the changes of a dirty checkout are based on, or the commit before that of a clean one.
    """
    if path is not None:
        if commit is not None:
            raise GdnbenchError("--baseline and --baseline-path exclude each other")
        yield _tree(path, str(path))
        return
    if not (root / ".git").exists():
        raise GdnbenchError(
            "--baseline: this tree is no git checkout; --baseline-path takes the folder of another tree"
        )
    revision = commit or _default(root)
    with _worktree(root, revision) as folder:
        found = _git(folder, "log", "-1", "--format=%h %s")
        yield _tree(folder, f"{revision} ({textwrap.shorten(found, 60)})")


def _default(root: Path) -> str:
    changes = _git(root, "status", "--porcelain", "--", ".", ":!results", ":!reports")
    return "HEAD" if changes else "HEAD~1"


@contextlib.contextmanager
def _worktree(root: Path, revision: str) -> Iterator[Path]:
    with tempfile.TemporaryDirectory(prefix="gdnbench-baseline-") as folder:
        place = Path(folder) / "tree"
        try:
            _git(root, "worktree", "add", "--detach", "--quiet", str(place), revision)
            yield place
        finally:
            with contextlib.suppress(GdnbenchError):
                _git(root, "worktree", "remove", "--force", str(place))
    # Entries of worktrees whose folders are gone, such as one of a process that was killed.
    _git(root, "worktree", "prune")


def _tree(folder: Path, name: str) -> Tree:
    kernels = folder / "kernels"
    if not (kernels / "gdnbench_kernels").is_dir():
        raise GdnbenchError(f"baseline {name}: expected a tree with kernels/gdnbench_kernels in it, found none")
    return Tree(name=name, kernels=kernels.resolve())


def _git(folder: Path, *arguments: str) -> str:
    command = ["git", "-C", str(folder), *arguments]
    try:
        done = subprocess.run(command, capture_output=True, text=True)
    except OSError as error:
        raise GdnbenchError(f"git cannot be run: {error}") from None
    if done.returncode:
        said = done.stderr.strip().splitlines()
        raise GdnbenchError(f"git {' '.join(arguments)}: {said[-1] if said else f'exit code {done.returncode}'}")
    return done.stdout.strip()
