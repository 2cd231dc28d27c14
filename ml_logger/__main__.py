"""`python -m ml_logger`: the ML logger's process."""

from ml_logger.cli import logger

if __name__ == "__main__":
    logger(prog_name="ml_logger")
