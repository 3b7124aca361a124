"""Completions for the shell: maps, and words such as ``auto``. It imports nothing slow."""

import os
import re
from collections.abc import Callable, Sequence

from morphot_jax.system.words import SAMPLE, SAMPLE_NAMES

MAP_SUFFIXES = (".mrc", ".map", ".ccp4")
PACKED = (".gz", ".bz2")
PLAIN = re.compile(r"[\w./+,@%:=~-]+")  # names that no shell needs quoted
BREAKS = (":", "=")  # bash splits words here


def complete_map(incomplete: str) -> list[str]:
    """Samples, map files and folders that begin with ``incomplete``.

    Empty where the shell's own completion of file names does better: for a single folder, which it then enters,
    and for names that need quotes.
    """
    samples = [SAMPLE + name for name in SAMPLE_NAMES if (SAMPLE + name).startswith(incomplete)]
    completions = samples + _maps_and_folders(incomplete)
    only_a_folder = len(completions) == 1 and completions[0].endswith("/")
    return [] if only_a_folder or not all(map(PLAIN.fullmatch, completions)) else completions


def complete_words(*words: str) -> Callable[[str], list[str]]:
    """A function that completes to one of these words."""

    def complete(incomplete: str) -> list[str]:
        return [word for word in words if word.startswith(incomplete)]

    return complete


def joined(words: Sequence[str], current: int) -> tuple[list[str], int]:
    """Rejoin words that bash has split at ``BREAKS``; with the new index of the word being typed."""
    whole: list[str] = []
    place, goes_on = 0, False
    for index, word in enumerate(words):
        if whole and (goes_on or word in BREAKS):
            whole[-1] += word
        else:
            whole.append(word)
        goes_on = word in BREAKS
        if index == current:
            place = len(whole) - 1
    return whole, place


def after_break(word: str, completions: Sequence[str]) -> list[str]:
    """The completions for bash, without the part up to the last break, which bash does not replace."""
    before = word[: max(word.rfind(sign) for sign in BREAKS) + 1]
    return [completion.removeprefix(before) for completion in completions]


def _maps_and_folders(incomplete: str) -> list[str]:
    folder, start = os.path.split(incomplete)
    before = incomplete[: len(incomplete) - len(start)]
    found = []
    try:
        with os.scandir(os.path.expanduser(folder) or ".") as entries:
            for entry in entries:
                if not entry.name.startswith(start) or (entry.name.startswith(".") and not start):
                    continue
                if entry.is_dir():
                    found.append(f"{before}{entry.name}/")
                elif _is_map(entry.name):
                    found.append(before + entry.name)
    except OSError:
        return []
    return sorted(found)


def _is_map(name: str) -> bool:
    name = name.lower()
    for suffix in PACKED:
        name = name.removesuffix(suffix)
    return name.endswith(MAP_SUFFIXES)
