"""Tasks and problems: what a data set hands to a method. Numpy data, no I/O.

A problem checks itself where it is made: whatever a data set gives becomes the arrays that `Part` promises, or is
refused in one line.
"""

from mtbench.tasks.kinds import Array, Layout, Task, TaskKind, Weight
from mtbench.tasks.parts import Part, Parts, Rows
from mtbench.tasks.problem import REQUIRED_PARTS, Problem

__all__ = ["Array", "Layout", "Part", "Parts", "Problem", "REQUIRED_PARTS", "Rows", "Task", "TaskKind", "Weight"]
