"""An OUTCAR as VASP would leave it in a job's folder, read off its INCAR, KPOINTS and POSCAR.

Numbers are made up; what can be wrong with an output are keywords.
"""

import itertools

import ase.io
import numpy as np

_PRINTED = ("GGA", "ISPIN", "LASPH", "LREAL", "ISMEAR", "SIGMA", "NUPDOWN", "NSW", "IBRION", "ISIF")
_SPIN = {4: 3.7, 5: 4.25}


def outcar(
    folder,
    *,
    iterations=(12, 9, 7),
    blocks=None,
    titles=(),
    scale=1.0,
    signs=None,
    energy=-170.0,
    stress_kB=None,
    hop_at=None,
    **tags,
):
    """Return the text of an OUTCAR.

    Parameters
    ----------
    iterations
        Of the electrons, in each step of the atoms.
    blocks
        (element, number of atoms, U) of each; by default one for each element, U by the INCAR.
    titles
        Those of the POTCAR that differ, by element.
    scale
        Of each edge of the cell.
    signs
        Of the moments (n_atoms,).
    stress_kB
        Of each step, as VASP has it: xx, yy, zz, xy, yz, zx.
    hop_at
        The step from which on the hole is on the first Fe2+.
    tags
        Of the INCAR that differ from the one in the folder.
    """
    atoms = ase.io.read(folder / "POSCAR", format="vasp")
    lines = (folder / "INCAR").read_text().splitlines()
    incar = dict(line.split(" = ", 1) for line in lines) | {k: str(v) for k, v in tags.items()}
    elements = list(dict.fromkeys(atoms.symbols))
    u = dict(zip(elements, incar.get("LDAUU", "0 " * len(elements)).split(), strict=True))
    blocks = blocks or [(e, list(atoms.symbols).count(e), float(u[e])) for e in elements]
    known = dict(zip(elements, (folder / "POTCAR.titles").read_text().split(), strict=True)) | dict(
        titles
    )
    head = [" vasp.6.4.2 20Jul23 (build) complex"]
    head += [f" POTCAR:    PAW_PBE {known[e]} 01Jan2001" for e, _, _ in [*blocks, *blocks]]
    for element, _, _ in blocks:
        head += [f"   VRHFIN ={element}: s2", f"   TITEL  = PAW_PBE {known[element]} 01Jan2001"]
    head += [
        "   k-points           NKPTS =      1   k-points in BZ     NKDIM =      1",
        "   ions per type =           " + " ".join(str(n) for _, n, _ in blocks),
        f"   ENCUT  =  {float(incar['ENCUT']):.1f} eV  38.22 Ry",
        f"   NELM   =    {incar['NELM']};   NELMIN=  2; NELMDL= -5     # of ELM steps",
        *(f"   {tag:6} = {incar[tag]}    of the INCAR" for tag in _PRINTED if tag in incar),
        *(f"   {tag} = {value}" for tag, value in tags.items() if tag not in _PRINTED),
        "   angular momentum for each species LDAUL = "
        + " ".join("2" if u else "-1" for *_, u in blocks),
        "   U (eV)           for each species LDAUU = " + " ".join(f"{u:.1f}" for *_, u in blocks),
        " k-points in reciprocal lattice and weights: a mesh",
    ]
    size = [int(n) for n in (folder / "KPOINTS").read_text().splitlines()[3].split()]
    for place in itertools.product(*map(range, size)):
        head.append("".join(f"{n / m:14.8f}" for n, m in zip(place, size, strict=True)) + "  0.1")
    moments = []
    for word in incar["MAGMOM"].split():
        number, moment = word.split("*")
        moments += [_SPIN.get(float(moment), 0.02)] * int(number)
    atoms.set_cell(atoms.cell.array * scale, scale_atoms=True)
    moments = np.array(moments) * (1 if signs is None else np.asarray(signs))
    steps = []
    for k, n in enumerate(iterations):
        own = moments.copy()
        if hop_at is not None and k >= hop_at:
            pair = [int(np.flatnonzero(own == moment)[0]) for moment in _SPIN.values()]
            own[pair] = own[pair[::-1]]
        steps.append(_step(atoms, own, k, n, energy - 0.01 * k, stress_kB and stress_kB[k]))
    end = [
        " reached required accuracy - stopping structural energy minimisation",
        " General timing and accounting informations for this job:",
    ]
    return "\n".join([*head, "", *itertools.chain(*steps), *end, ""])


def _step(atoms, moments, step, n_iterations, energy, stress_kB):
    """Return the lines of one step of the atoms; VASP 5 always says that EDIFF is reached."""
    lines = [
        f"{'-' * 39} Iteration {step + 1:6d}({n:4d})  {'-' * 39}"
        for n in range(1, n_iterations + 1)
    ]
    lines += ["------ aborting loop because EDIFF is reached ------"]
    lines += [" magnetization (x)", "", "# of ion       s       p       d       tot", "-" * 42]
    lines += [f"{n + 1:5d}   0.0  0.0  {m:.3f}  {m:.3f}" for n, m in enumerate(moments)]
    if stress_kB:
        lines += ["", "  FORCE on cell =-STRESS in cart. coord.  units (eV):"]
        lines += ["  Direction    XX          YY          ZZ          XY          YZ          ZX"]
        lines += ["  in kB   " + "".join(f"{value:12.5f}" for value in stress_kB)]
        pressure = sum(stress_kB[:3]) / 3
        lines += [f"  external pressure = {pressure:11.2f} kB  Pullay stress =        0.00 kB"]
    lines += ["", " VOLUME and BASIS-vectors are now :"]
    lines += ["      direct lattice vectors                 reciprocal lattice vectors"]
    lines += ["".join(f"{v:15.9f}" for v in row) + "  0.1 0.0 0.0" for row in atoms.cell.array]
    lines += ["", " POSITION                                       TOTAL-FORCE (eV/Angst)"]
    lines += [" " + "-" * 83]
    lines += ["".join(f"{v:13.5f}" for v in row) + "  0.01 0.0 0.0" for row in atoms.positions]
    lines += ["  FREE ENERGIE OF THE ION-ELECTRON SYSTEM (eV)", "  " + "-" * 51]
    lines += [f"  free  energy   TOTEN  =       {energy:.8f} eV", ""]
    return [*lines, f"  energy  without entropy=  {energy:.8f}  energy(sigma->0) =  {energy:.8f}"]


def vasprun(folder, *, iterations=(12, 9, 7), energy=-170.0, stress_kB=None, **tags):
    """Return the text of the vasprun.xml of the same run, in which no atom has a moment."""
    atoms = ase.io.read(folder / "POSCAR", format="vasp")
    steps = []
    for k, n in enumerate(iterations):
        energies = "".join(
            f'<i name="{name}"> {energy - 0.01 * k:.8f} </i>'
            for name in ("e_fr_energy", "e_0_energy")
        )
        scsteps = f"<scstep><energy>{energies}</energy></scstep>" * n
        stress = "" if stress_kB is None else _varray("stress", _matrix(stress_kB[k]))
        forces = _varray("forces", [[0.01, 0.0, 0.0]] * len(atoms))
        steps.append(
            f"<calculation>{scsteps}{_structure(atoms)}{forces}{stress}"
            f"<energy>{energies}</energy></calculation>"
        )
    names = "".join(f"<rc><c>{symbol}</c><c>1</c></rc>" for symbol in atoms.symbols)
    own = "".join(f'<i name="{tag}"> {value}</i>' for tag, value in tags.items())
    points = _varray("kpointlist", [[0, 0, 0]]) + _varray("weights", [[1]])
    return (
        f'<?xml version="1.0"?>\n<modeling><kpoints>{points}</kpoints>'
        f'<parameters>{own}<i type="int" name="NELM"> 200</i></parameters>'
        f'<atominfo><array name="atoms"><set>{names}</set></array></atominfo>'
        f"{_structure(atoms, 'initialpos')}{''.join(steps)}\n</modeling>\n"
    )


def _matrix(stress_kB):
    xx, yy, zz, xy, yz, zx = stress_kB
    return [[xx, xy, zx], [xy, yy, yz], [zx, yz, zz]]


def _varray(name, rows):
    inside = "".join(f"<v> {' '.join(f'{value:.8f}' for value in row)} </v>" for row in rows)
    return f'<varray name="{name}">{inside}</varray>'


def _structure(atoms, name=None):
    named = f' name="{name}"' if name else ""
    crystal = f"<crystal>{_varray('basis', atoms.cell.array)}</crystal>"
    positions = _varray("positions", atoms.get_scaled_positions())
    return f"<structure{named}>{crystal}{positions}</structure>"
