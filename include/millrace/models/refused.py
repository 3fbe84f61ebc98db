"""What a reader of weights says of a file that it refuses."""


class Bad(Exception):
    """What is wrong with a file."""
