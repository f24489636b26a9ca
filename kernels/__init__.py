"""The compiled core: numba kernels over NumPy arrays; it imports nothing else of this project."""
