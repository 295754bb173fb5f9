"""Quality, one file a table: ``python -m training.evaluate.<table> --store HELD_OUT --checkpoint FOLDER``."""
