"""Bodies in runs: how a user names them, and ``morphot bodies``, which finds them."""

import re
from collections.abc import Sequence
from dataclasses import dataclass

import jax
import numpy as np

from morphot_jax.maps.atoms import Atoms, simulate_density
from morphot_jax.maps.mrc import write_volume
from morphot_jax.maps.volume import Volume
from morphot_jax.morphing.rigid import RigidBody, about_bodies, find_bodies
from morphot_jax.morphing.rigid_bodies import MOST
from morphot_jax.morphing.settings import Settings
from morphot_jax.runs import report
from morphot_jax.runs.folder import OutputFolder
from morphot_jax.runs.log import LOG
from morphot_jax.runs.reporter import Reporter
from morphot_jax.runs.request import Request
from morphot_jax.runs.steps import device_of, keep_log, prepared_maps, read_mask, refuse_twice, with_memory
from morphot_jax.show import chimerax, figures
from morphot_jax.system import files
from morphot_jax.system.errors import InputError, quoted

CHAIN = re.compile(r"chain:(?P<chain>[^:]+)")
RESIDUES = re.compile(r"residues:(?P<chain>[^:]+):(?P<first>-?\d+)-(?P<last>-?\d+)")
WIDTH = 2.0  # voxels: of the Gaussians of atoms that make a mask
LAST = "_last"  # ends the names of masks on the second map


@dataclass(frozen=True)
class AskedBody:
    """A body as a user names it: the mask of the first map, or of both, or atoms of a model."""

    name: str
    masks: tuple[str, ...] = ()
    chain: str = ""
    residues: tuple[int, int] | None = None


def read_body(text: str) -> AskedBody:
    """The body that a word of the command line names.

    MASK, MASK:MASK, chain:A or residues:A:30-59. Raises InputError for anything else.
    """
    if named := CHAIN.fullmatch(text):
        return AskedBody(text, chain=named["chain"])
    if named := RESIDUES.fullmatch(text):
        first, last = int(named["first"]), int(named["last"])
        if first <= last:
            return AskedBody(text, chain=named["chain"], residues=(first, last))
    first, *more = masks = tuple(text.split(":"))
    if len(more) > 1 or not all(masks) or first in ("chain", "residues"):
        raise InputError(
            f"the body {quoted(text)} cannot be read: give MASK, MASK:MASK, chain:A or residues:A:30-59"
        )
    return AskedBody(text, masks=masks)


def body_masks(
    asked: Sequence[AskedBody], atoms: Atoms | None, first: Volume, reporter: Reporter
) -> dict[str, Volume | tuple[Volume, Volume]]:
    """The masks of bodies by name: read from files, or made from atoms on the grid of the map that holds them.

    Raises InputError for masks and atoms that cannot be used, and for atoms without a model.
    """
    refuse_twice([body.name for body in asked], "the body")
    found: dict[str, Volume | tuple[Volume, Volume]] = {}
    for body in asked:
        if body.masks:
            masks = [read_mask(name, f"body '{body.name}'", reporter) for name in body.masks]
            found[body.name] = masks[0] if len(masks) == 1 else (masks[0], masks[1])
        elif atoms is None:
            raise InputError(f"the body '{body.name}' is made of atoms: add --model with the file that has them")
        else:
            found[body.name] = _mask_of_atoms(atoms, body, first)
    return found


def run_bodies(request: Request, settings: Settings, reporter: Reporter) -> tuple[RigidBody, ...]:
    """Find the bodies of two maps, and write their masks on both, a table and a picture."""
    masks = [f"body{k + 1}{end}.mrc" for k in range(MOST) for end in ("", LAST)]
    tables = (report.BODIES, report.BODIES_TABLE, chimerax.BODIES, *figures.file_names(figures.BODIES), LOG)
    folder = OutputFolder.of(request, (*masks, *tables))
    folder.check()
    device = device_of(request, reporter)
    inputs, prepared = prepared_maps(request, reporter, {})
    settings = with_memory(settings, device)
    with folder:
        with jax.default_device(device), reporter.solving() as report_progress:
            bodies = find_bodies(prepared, settings, report=report_progress)
        warnings = about_bodies(bodies, sought=True)
        for warning in warnings:
            reporter.warn(warning)
        folder.begin()
        keep_log(request, reporter, device)
        with reporter.working("writing"):
            for body in bodies:
                for mask, volume, end in zip(body.masks, prepared.volumes, ("", LAST), strict=True):
                    write_volume(volume.with_data(mask), request.output / f"{body.name}{end}.mrc", overwrite=True)
            files.write_text(request.output / report.BODIES_TABLE, report.bodies_table(bodies))
            script = chimerax.bodies_script([f"{body.name}.mrc" for body in bodies])
            files.write_text(request.output / chimerax.BODIES, script)
            densities = [volume.data for volume in prepared.volumes]
            titles = [item.name for item in inputs]
            picture = figures.bodies_figure(densities, prepared.volumes[0].voxel_size, bodies, titles)
            for name, content in figures.both(figures.BODIES, picture).items():
                files.write_bytes(request.output / name, content)
        content = report.compose_bodies(request, inputs, prepared, settings, bodies, warnings)
        files.write_text(request.output / report.BODIES, report.to_json(content))
        folder.finish()
    reporter.bodies(bodies)
    names = ", ".join(f"{body.name}.mrc" for body in bodies)
    reporter.say(f"the masks {names}, those on the second map (body1{LAST}.mrc and so on),")
    reporter.say(f"{report.BODIES_TABLE}, {figures.BODIES}.png and {chimerax.BODIES} are in {request.output}")
    return bodies


def _mask_of_atoms(atoms: Atoms, body: AskedBody, like: Volume) -> Volume:
    """The share of some atoms in the density of all, on the grid of a map."""
    own = np.array(atoms.chains) == body.chain
    if body.residues is not None:
        first, last = body.residues
        numbers = np.array(atoms.residues)
        own &= (numbers >= first) & (numbers <= last)
    if not own.any():
        chains = ", ".join(dict.fromkeys(atoms.chains))
        raise InputError(f"the model has no atoms of '{body.name}': it has the chains {chains}")
    if own.all():
        return like.with_data(np.ones(like.shape, np.float32))
    grid = {"shape": like.shape, "voxel_size": like.voxel_size, "origin": like.origin, "cut": True}
    width = WIDTH * max(like.voxel_size)
    part, whole = (
        simulate_density(Atoms(atoms.positions[some], atoms.weights[some]), width=width, **grid).data
        for some in (own, np.ones_like(own))
    )
    return like.with_data(np.divide(part, whole, out=np.zeros_like(whole), where=whole > 0).astype(np.float32))
