"""Movies of surfaces with t and a scale bar, written by FFmpeg (.mp4) or Pillow (.gif)."""

import io
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
from jaxtyping import UInt8

from morphot_jax.show.figures import movie_frame
from morphot_jax.show.render import VIEWS, Camera, surface_picture
from morphot_jax.show.scene import Scene
from morphot_jax.system import files
from morphot_jax.system.errors import InputError
from morphot_jax.system.reporting import Report
from morphot_jax.system.threads import AT_ONCE, side_by_side
from morphot_jax.system.words import View

Still = UInt8[np.ndarray, "up across 3"]
SIZES = (100, 2000)  # pixels a side


def check(size: int, rate: int) -> None:
    """Raise InputError for a size or a rate outside the limits."""
    least, most = SIZES
    if not least <= size <= most:
        raise InputError(f"size is {size}: give {least} to {most} pixels")
    if not 1 <= rate <= 60:
        raise InputError(f"rate is {rate}: give 1 to 60 frames a second")


def writer_for(output: Path) -> Callable[[Sequence[Still], Path, int], None]:
    """The function that writes movies of this suffix; InputError where there is none."""
    kind = output.suffix.lower()
    if kind == ".gif":
        return _write_gif
    if kind != ".mp4":
        raise InputError(f"cannot write a movie as '{output}': give a name that ends in .mp4 or .gif")
    try:
        import imageio_ffmpeg  # noqa: F401, PLC0415 - an extra
    except ImportError:
        raise InputError(
            f"'{output}' needs FFmpeg: pip install \"morphot_jax[movie]\", or give a name that ends in .gif"
        ) from None
    return _write_mp4


def pictures(scene: Scene, labels: Sequence[str], view: View, size: int, report: Report) -> list[Still]:
    """The picture of every frame with its label; its size is even, as MP4 needs."""
    camera = Camera.on(scene, VIEWS[view], size - size % 2)
    count = len(labels)
    drawn: list[Still] = []
    for start in range(0, count, AT_ONCE):
        report(start, count)
        indices = range(start, min(start + AT_ONCE, count))
        surfaces = side_by_side(lambda index: surface_picture(scene, index, camera), indices)
        drawn += [movie_frame(surface, camera, labels[i]) for i, surface in zip(indices, surfaces, strict=True)]
    return drawn


def forth_and_back(stills: Sequence[Still]) -> list[Still]:
    """The pictures forwards, then backwards, so that the movie can loop."""
    return [*stills, *stills[-2:0:-1]]


def _write_gif(stills: Sequence[Still], output: Path, rate: int) -> None:
    from PIL import Image  # noqa: PLC0415 - it comes with matplotlib

    images = [Image.fromarray(still).quantize(64) for still in stills]
    stream = io.BytesIO()
    images[0].save(
        stream,
        "GIF",
        save_all=True,
        append_images=images[1:],
        duration=round(1000.0 / rate),
        loop=0,
        optimize=True,
    )
    files.write_bytes(output, stream.getvalue())


def _write_mp4(stills: Sequence[Still], output: Path, rate: int) -> None:
    import imageio_ffmpeg  # noqa: PLC0415 - an extra

    across, up = stills[0].shape[1], stills[0].shape[0]
    with files.complete_path(output) as unfinished:
        movie = imageio_ffmpeg.write_frames(
            str(unfinished), (across, up), fps=rate, quality=8, macro_block_size=2, output_params=["-f", "mp4"]
        )
        movie.send(None)
        for still in stills:
            movie.send(np.ascontiguousarray(still))
        movie.close()
