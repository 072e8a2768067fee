"""Entry point of `python -m bddn`."""

from bddn.cli.process import main

if __name__ == "__main__":
    main()
