"""Training, from volumes to checkpoints. Each stage runs from a checkout: ``python -m training.<stage>``."""
