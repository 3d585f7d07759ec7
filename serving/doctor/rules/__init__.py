"""Rules: functions from facts to findings, in families. A new rule is one decorated function."""

from serving.doctor.rules import codecs, cuda, imports, packages, resources, settings
from serving.doctor.rules._rule import RULES, judge

__all__ = ["RULES", "codecs", "cuda", "imports", "judge", "packages", "resources", "settings"]
