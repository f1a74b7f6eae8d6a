"""GPAW PBE+U labels for charge-ordered NaxFePO4: energies, forces, magnetic moments.

usage: label.py start.extxyz out.extxyz [n_relax] [n_rattle] [seed]

start.extxyz: structures with formal oxidation states in `initial_charges`, best relaxed beforehand
with Ga in place of Fe3+ by any potential (CHGNet serves), so that the oxygens already know where
the holes are. For each: a few BFGS steps at fixed cell, every step kept, then rattled and strained
copies of the last one.
"""

import sys

import numpy as np
from ase.calculators.singlepoint import SinglePointCalculator
from ase.io import read, write
from ase.neighborlist import neighbor_list
from ase.optimize import BFGS
from gpaw import GPAW, PW, FermiDirac, MixerDif


def start_moments(atoms):
    """Return moments in Bohr magnetons: 4 on every Fe, the hole's spin on the O around each Fe3+.

    GPAW refuses 5 on Fe (3d6 4s2); the sum is what matters: 5 n_Fe - n_Na.
    """
    moments = np.where(atoms.numbers == 26, 4.0, 0.0)
    i, j = neighbor_list("ij", atoms, 2.35)
    for iron in np.flatnonzero((atoms.numbers == 26) & (atoms.get_initial_charges() == 3)):
        oxygen = [b for b in j[i == iron] if atoms.numbers[b] == 8]
        moments[oxygen] += 1 / len(oxygen)
    return moments


def calculator(repeat_b=1):
    """Return PBE+U: one k-point (0, 1/4, 1/4) of the 28-atom cell, folded for repeats along b."""
    return GPAW(
        mode=PW(450),
        xc="PBE",
        kpts=[[0, (0.25 * repeat_b) % 1, 0.25]],
        setups={"Fe": ":d,5.3"},
        occupations=FermiDirac(0.05, fixmagmom=True),
        symmetry={"point_group": False},
        maxiter=90,
        convergence={"energy": 5e-5, "density": 6e-4, "eigenstates": 2e-6},
        mixer=MixerDif(0.1, 5, 50),
        txt="gpaw.txt",
    )


def record(atoms, tag, out):
    """Append one labelled frame; the label is dropped if the moments contradict the charges."""
    energy, forces, moments = (
        atoms.get_potential_energy(),
        atoms.get_forces(),
        atoms.get_magnetic_moments(),
    )
    iron = atoms.numbers == 26
    kept = np.array_equal(moments[iron] > 4.0, atoms.get_initial_charges()[iron] == 3)
    frame = atoms.copy()
    frame.info.update(tag=tag, order_kept=bool(kept))
    frame.calc = SinglePointCalculator(
        frame, energy=float(energy), forces=np.array(forces), magmoms=np.array(moments)
    )
    write(out, frame, format="extxyz", append=True)


def main(start, out, n_relax=6, n_rattle=3, seed=0):
    """Label every structure of `start`."""
    for k, atoms in enumerate(read(start, ":")):
        rng = np.random.default_rng([int(seed), k])
        repeat_b = round(atoms.cell.lengths()[1] / 6.1)
        atoms.set_initial_magnetic_moments(start_moments(atoms))
        atoms.calc = calculator(repeat_b)
        for n, _ in enumerate(
            BFGS(atoms, logfile=None, maxstep=0.08).irun(fmax=0.04, steps=int(n_relax))
        ):
            record(atoms, f"relax{n}", out)
        for r in range(int(n_rattle)):
            copy = atoms.copy()
            strain = np.diag(1 + rng.normal(0, 0.012, 3)) + np.triu(rng.normal(0, 0.006, (3, 3)), 1)
            copy.set_cell(copy.cell @ strain, scale_atoms=True)
            copy.positions += rng.normal(0, (0.02, 0.04, 0.07)[r % 3], copy.positions.shape)
            copy.set_initial_magnetic_moments(start_moments(copy))
            copy.calc = calculator(repeat_b)
            record(copy, f"rattle{r}", out)


if __name__ == "__main__":
    main(*sys.argv[1:])
