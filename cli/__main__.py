"""`python -m saccade.cli` is `saccade`."""

from saccade.cli.main import app

if __name__ == "__main__":
    app()
