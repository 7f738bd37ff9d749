"""Tasks: their questions and prompts, and how answers are graded."""

from .grading import Grade, grade, grader_of
from .load import grading_of, load_task
from .task import Question, SealedTest, Task

__all__ = [
    "Grade",
    "Question",
    "SealedTest",
    "Task",
    "grade",
    "grader_of",
    "grading_of",
    "load_task",
]
