"""The commands of ``phasewire``, one module each. Nothing heavy is imported before a command runs."""
