"""``python -m gdnbench`` is the command ``gdnbench``."""

from gdnbench.cli import main

if __name__ == "__main__":
    main()
