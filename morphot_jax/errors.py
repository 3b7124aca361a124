"""The one kind of error that bad input raises, and how the command line ends."""

BAD_INPUT, INTERRUPTED = 2, 130  # exit codes


class InputError(ValueError):
    """Something that was handed in cannot be used.

    The message is one line: it quotes what was received, says why it cannot be used and what to do instead.
    The command line prints it and exits with 2; Python callers catch it, or the ``ValueError`` that it is.
    """
