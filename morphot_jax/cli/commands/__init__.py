"""The commands of ``morphot``, one function each."""
