"""The stages: each module reads files, calls smac_core and kernels, and writes files."""
