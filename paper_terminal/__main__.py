"""`python -m paper_terminal`: the terminal process and its tools."""

from paper_terminal.cli import main

if __name__ == "__main__":
    main(prog_name="python -m paper_terminal")
