"""Entry point of `python -m bddn.cli`."""

from bddn.cli.process import main

if __name__ == "__main__":
    main()
