"""Scene graphs as torch-geometric's HeteroData, and back.

Every graph has every edge type, if with no edges: torch-geometric's Batch takes the types of its first graph for all,
and models are made for a fixed set of types.
"""

from typing import TYPE_CHECKING

import numpy as np

from core.errors import InputError
from scene.edges import CODE, MARGIN_DIGITS, REACHES, EdgeTable
from scene.relations import FAMILIES, Relation, Viewpoint
from scene.support import SURFACE_NAMES

if TYPE_CHECKING:
    from torch_geometric.data import HeteroData

    from scene.graph import SceneGraph


def to_hetero_data(graph: "SceneGraph") -> "HeteroData":
    """See `SceneGraph.to_hetero_data`."""
    import torch
    from torch_geometric.data import HeteroData

    table = graph.table
    data = HeteroData()
    data.scene_id = graph.scene_id
    data.labels = sorted(set(graph.labels))
    data.viewpoint_yaw_rad = torch.tensor([graph.viewpoint.yaw_rad], dtype=torch.float64)
    number = {label: k for k, label in enumerate(data.labels)}
    data["object"].num_nodes = len(graph.labels)
    data["object"].label = torch.tensor([number[label] for label in graph.labels], dtype=torch.int64)
    for name in ("room", "level", "support_parent"):
        data["object"][name] = torch.from_numpy(getattr(graph, name).copy())
    data["surface"].num_nodes = len(SURFACE_NAMES)
    data["surface"].kind = torch.arange(len(SURFACE_NAMES))  # a node type without a tensor does not leave a Batch again
    group = np.repeat(np.arange(len(table)), np.diff(table.start))  # of every object: the edge it belongs to
    for relation in sorted(CODE):
        name, of_relation = relation.value.replace(" ", "_"), table.relation[group] == CODE[relation]
        for node, ours in (("object", table.objects >= 0), ("surface", table.objects < 0)):
            if node == "surface" and relation not in FAMILIES["contact"]:
                continue
            rows = np.flatnonzero(of_relation & ours)
            end, edge = table.objects[rows], group[rows]
            store = data["object", name, node]
            store.edge_index = torch.from_numpy(np.stack([table.subject[edge], np.where(end < 0, -end - 1, end)]))
            store.margin = torch.from_numpy(table.margin[edge].astype(np.float32))
            store.far = torch.from_numpy(table.reach[edge] == REACHES.index("far"))
            store.group = torch.from_numpy(edge)
    return data


def from_hetero_data(data: "HeteroData") -> "SceneGraph":
    """See `SceneGraph.from_hetero_data`."""
    from scene.graph import DIRECTIONS, SceneGraph

    try:
        columns: dict[str, list[np.ndarray]] = {"subject": [], "relation": [], "margin": [], "reach": [], "objects": []}
        groups = []
        directions = [CODE[relation] for relation in DIRECTIONS]
        for key in data.edge_types:
            store, code = data[key], CODE[Relation(key[1].replace("_", " "))]
            subject, end = store.edge_index.cpu().numpy()
            far = store.far.cpu().numpy()
            columns["subject"].append(subject)
            columns["relation"].append(np.full(len(end), code))
            columns["margin"].append(np.round(store.margin.cpu().numpy().astype(np.float64), MARGIN_DIGITS))
            near_or_far = np.where(far, REACHES.index("far"), REACHES.index("near"))
            columns["reach"].append(near_or_far if code in directions else np.zeros(len(end), np.int64))
            columns["objects"].append(end if key[2] == "object" else -end - 1)
            groups.append(store.group.cpu().numpy())
        rows = {name: np.concatenate(parts) for name, parts in columns.items()}
        group = np.concatenate(groups)
        order = np.lexsort((rows["objects"], group))
        _, first, width = np.unique(group[order], return_index=True, return_counts=True)
        objects = rows.pop("objects")[order]
        edges = {name: column[order][first] for name, column in rows.items()}
        nodes = data["object"]
        room, parent, level = (nodes[name].cpu().numpy().copy() for name in ("room", "support_parent", "level"))
        return SceneGraph(
            scene_id=data.scene_id,
            labels=[data.labels[k] for k in nodes.label.tolist()],
            room=room,
            support_parent=parent,
            level=level,
            table=EdgeTable.in_order(**edges, width=width, objects=objects),
            viewpoint=Viewpoint(float(data.viewpoint_yaw_rad[0])),
        )
    except (AttributeError, KeyError, ValueError, IndexError, TypeError) as error:
        raise InputError(
            f"no scene graph in this HeteroData ({error}); expected what SceneGraph.to_hetero_data makes, one graph "
            "(of a batch: batch.get_example(k))"
        ) from error
