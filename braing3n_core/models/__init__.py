"""The networks of the paper: encoder (``mae``), tokenizer, conditional flow-matching transformer (``dit``).

They know torch and each other, and nothing of volumes, preprocessing, checkpoints or samplers.
"""
