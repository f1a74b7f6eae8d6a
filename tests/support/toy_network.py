"""A network so small that seconds are enough to train it."""

import torch

from gasearch.potentials.networks.network import Network, NetworkOutput

SLOTS = [8, 11, 15, 26, 31]


class ToyNetwork(Network):
    """A pair potential of Gaussians whose depths depend on both slots."""

    architecture = "toy"
    has_moments = True
    cutoff = 3.2

    def __init__(self, slots=tuple(SLOTS), n_radial=6):
        super().__init__()
        self.arguments = {"slots": list(slots), "n_radial": n_radial}
        rows = torch.full((200,), -1)
        rows[list(slots)] = torch.arange(len(slots))
        self.register_buffer("rows", rows)
        self.register_buffer("centres", torch.linspace(1.4, 3.0, n_radial))
        self.depths = torch.nn.Parameter(0.01 * torch.randn(len(slots), len(slots), n_radial))
        self.bias = torch.nn.Parameter(torch.zeros(len(slots)))

    def forward(self, graph):
        rows = self.rows[graph.slots]
        radial = torch.exp(-10 * (graph.distances[:, None] - self.centres) ** 2)
        fade = (1 - (graph.distances / self.cutoff) ** 2).clamp(min=0) ** 3
        radial = radial * fade[:, None]
        by_edge = (self.depths[rows[graph.i], rows[graph.j]] * radial).sum(1)
        features = radial.new_zeros(len(rows), radial.shape[1]).index_add(0, graph.i, radial)
        by_atom = by_edge.new_zeros(len(rows)).index_add(0, graph.i, by_edge)
        energies = graph.sum_by_system(by_atom)
        return NetworkOutput(
            energies, self.bias[rows], torch.cat([features, self.bias[rows, None]], 1)
        )
