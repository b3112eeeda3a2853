"""``python -m phasewire.app``: the same as the ``phasewire`` command."""

from phasewire.app.cli import main

if __name__ == "__main__":
    main()
