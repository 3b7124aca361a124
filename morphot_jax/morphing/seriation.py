"""The order of maps of which only the distances are known, a plane to draw them in, and a path through them.

- **Embedding**: classical scaling (Torgerson 1952). With J = 1 - 1 1^T / n, the coordinates are the leading
  eigenvectors of -J D^2 J / 2, times the roots of their eigenvalues.
- **Order**: along a line, distances grow with the steps between two maps (Robinson 1951). The order is that of the
  first coordinate, of the distances themselves or of those by way of near neighbours (Tenenbaum et al. 2000, which
  unrolls a path that bends back), whichever agrees better: ``agreement`` is the share of all triples in which the
  outer two are farther from each other than either is from the middle one; it is 1/3 by chance.
- **Path**: from the first map in that order to the last, so that sum d^2 is least: many short steps are cheaper
  than few long ones, and maps beside the way are left out.
"""

from dataclasses import dataclass
from itertools import pairwise

import numpy as np
from jaxtyping import Float, Int
from scipy.sparse.csgraph import connected_components, shortest_path

Distances = Float[np.ndarray, "n n"]


@dataclass(frozen=True)
class Order:
    """The indices of maps along a line, and the share of triples of maps that agree with it."""

    indices: Int[np.ndarray, " n"]
    agreement: float


def embedded(distances: Distances, axes: int) -> tuple[Float[np.ndarray, "n axes"], Float[np.ndarray, " axes"]]:
    """Coordinates by classical scaling, and the share of the squared distances that each axis shows.

    The signs are such that the largest coordinate of each axis is positive.
    """
    n = len(distances)
    centring = np.eye(n) - 1.0 / n
    values, vectors = np.linalg.eigh(-0.5 * centring @ distances**2 @ centring)
    values, vectors = np.maximum(values[::-1], 0.0), vectors[:, ::-1]
    total = values.sum() or 1.0
    values, vectors = np.pad(values, (0, axes))[:axes], np.pad(vectors, ((0, 0), (0, axes)))[:, :axes]
    largest = np.take_along_axis(vectors, np.abs(vectors).argmax(axis=0)[None], axis=0)
    return vectors * np.where(largest < 0, -1.0, 1.0) * np.sqrt(values), values / total


def ordered(distances: Distances) -> Order:
    """The order of maps along a line; the map that was named first comes before the one named last."""
    candidates = (distances, by_neighbours(distances))
    lines = [np.argsort(embedded(own, 1)[0][:, 0], kind="stable") for own in candidates]
    indices = max(lines, key=lambda line: agreement(distances, line))
    place = np.argsort(indices)
    indices = indices if place[0] < place[-1] else indices[::-1]
    return Order(indices, agreement(distances, indices))


def agreement(distances: Distances, order: Int[np.ndarray, " n"]) -> float:
    """The share of triples i < j < k in the order with d(i, j) < d(i, k) > d(j, k); 1 where there are none."""
    d, n = distances[np.ix_(order, order)], len(order)
    agreeing = sum(
        int(np.sum((d[i, i + 1 : k] < d[i, k]) & (d[i + 1 : k, k] < d[i, k])))
        for i in range(n)
        for k in range(i + 2, n)
    )
    triples = n * (n - 1) * (n - 2) // 6
    return agreeing / triples if triples else 1.0


def by_neighbours(distances: Distances) -> Distances:
    """The lengths of the shortest ways from neighbour to neighbour: each map has the fewest that join all maps."""
    n = len(distances)
    nearest = np.argsort(distances + np.diag(np.full(n, np.inf)), axis=1)
    for count in range(1, n):
        graph = np.full((n, n), np.inf)
        rows = np.repeat(np.arange(n), count)
        columns = nearest[:, :count].ravel()
        graph[rows, columns] = graph[columns, rows] = np.maximum(distances[rows, columns], np.finfo(float).tiny)
        if connected_components(np.isfinite(graph))[0] == 1:
            return shortest_path(np.where(np.isfinite(graph), graph, 0.0), directed=False)
    return distances


def path_between(distances: Distances, first: int, last: int) -> list[int]:
    """The maps on the way from one to another with the least sum of squared steps."""
    squared = np.maximum(distances**2, np.finfo(float).tiny)  # zero would be no step at all
    _, before = shortest_path(squared, directed=False, indices=first, return_predecessors=True)
    path = [last]
    while path[-1] != first:
        path.append(int(before[path[-1]]))
    return path[::-1]


def stops_along(path: list[int], distances: Distances, most: int) -> list[int]:
    """At most so many maps of a path, its ends among them, as evenly spaced along it as can be."""
    lengths = np.cumsum([0.0, *(distances[a, b] for a, b in pairwise(path))])
    wanted = np.linspace(0.0, lengths[-1], min(most, len(path)))
    return [path[k] for k in dict.fromkeys(int(np.abs(lengths - length).argmin()) for length in wanted)]
