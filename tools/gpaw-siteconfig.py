"""How GPAW is built from its source: serial, with libxc, OpenBLAS and FFTW of the system."""

libraries = ["xc", "openblas", "fftw3"]
fftw = True
mpi = False
parallel_python_interpreter = False
