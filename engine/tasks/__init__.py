"""Tasks: questions, prompts, and how answers are graded."""

from .grading import Grade, grade
from .load import Question, Task, grading_of, load_task

__all__ = ["Grade", "Question", "Task", "grade", "grading_of", "load_task"]
