"""What a run of the workflow is: its configuration, its plan, and what every job shares."""

__all__ = ["batches", "code", "config", "job", "methods", "parallel", "plan", "select", "usage", "visitlist"]
