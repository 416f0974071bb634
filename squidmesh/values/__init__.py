"""Values at the border of the library: what can be stored, and what fits a type annotation.

``jsonable`` writes Python values as JSON, ``scalars``, ``shapes`` and ``fields`` read them back, ``compiler`` chooses
the readers for an annotation, and ``misfit`` is how all of them report what does not fit. Pure: no clock, no I/O.
"""
