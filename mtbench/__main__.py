"""`python -m mtbench` is `mtbench`, for environments where the script is not on the path."""

from mtbench.cli import main

if __name__ == "__main__":
    main(prog_name="mtbench")
