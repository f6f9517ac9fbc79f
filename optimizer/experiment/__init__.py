"""Experiments: several arms of a target side by side on a share of its traffic, until one is best.

The life of an experiment and its log (``life``), what the operator asked for (``design``), what its
hours say (``batches``, ``standing``), which arms do harm (``harm``), and what follows (``plan``).

The package imports nothing, so that settings may name a design without numpy.
"""
