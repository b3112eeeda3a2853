"""What a plan shows beyond names and phases: memory, learning rates, pictures, and what differs between two plans."""
