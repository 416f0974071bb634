"""Behind ``Workflow``: what was declared, what is read from functions, and what is wrong with it.

``declaration`` collects; ``reading`` and ``signature`` judge single values and functions, ``validation`` and
``cautions`` the whole. ``functions.StepFunction`` is what stays of it all at run time.
"""
