"""`python -P -m supervisor` starts the supervisor alone."""

from supervisor.cli import supervisor

if __name__ == "__main__":
    supervisor()
