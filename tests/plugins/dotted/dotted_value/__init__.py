"""An adapter two modules deep."""
